//! A small world: a store, an engine, rules and a clock that is turned by hand.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::sample::{Durability, stale_nan};
use marketprism_model::{Labels, RefSample, SampleSink, Timestamp};
use marketprism_promql::{Engine, EngineConfig, Uninterrupted, Value};
use marketprism_rules::{
    Group, GroupDefaults, Installation, Ports, RuleSet, Tick, evaluate_alone, parse_file, take_over,
};
use marketprism_storage::Store;
use marketprism_testkit::ManualClock;

use crate::lifecycle::CountingLifecycle;

pub const MINUTE_MS: i64 = 60_000;
/// 2024-01-01T00:00:00Z, a whole number of days.
pub const START_MS: i64 = 1_704_067_200_000;

pub struct World {
    pub clock: ManualClock,
    pub store: Store,
    pub engine: Engine,
    pub lifecycle: CountingLifecycle,
    pub installation: Installation,
    pub groups: Vec<Group>,
}

pub fn rule_set(text: &str) -> RuleSet {
    let file = parse_file("rules.yml", text.as_bytes(), &GroupDefaults::default());
    RuleSet::new(file.expect("the rules of a test are good").groups, true)
}

pub fn minute(minutes: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + minutes * MINUTE_MS)
}

impl World {
    pub fn new(rules: &str) -> Self {
        let clock = ManualClock::new(minute(0));
        let engine = Engine::new(EngineConfig::default());
        let groups = rule_set(rules)
            .groups()
            .iter()
            .map(|spec| Group::new(spec, &engine))
            .collect();
        World {
            store: Store::in_memory(Arc::new(clock.clone())),
            clock,
            engine,
            lifecycle: CountingLifecycle::default(),
            installation: Installation {
                external_labels: Labels::from_pairs([("site", "sh")]),
                external_url: "http://localhost:8082".to_owned(),
            },
            groups,
        }
    }

    /// Writes a sample of a series; `None` ends it.
    pub fn push(&self, series: &[(&str, &str)], at: Timestamp, value: Option<f64>) {
        let series = self
            .store
            .resolve(&Labels::from_pairs(series.iter().copied()))
            .unwrap();
        let sample = RefSample {
            series,
            timestamp: at,
            value: value.unwrap_or(stale_nan()),
        };
        let appended = self.store.append(&[sample], Durability::Interval).unwrap();
        assert_eq!(appended.accepted, 1, "{appended:?}");
    }

    /// Runs all groups at a moment, each by itself.
    pub fn tick(&mut self, at: Timestamp) -> Vec<Tick> {
        self.clock.jump_to(at);
        let ports = Ports {
            engine: &self.engine,
            source: &self.store,
            sink: &self.store,
            lifecycle: &self.lifecycle,
            clock: &self.clock,
            interrupt: &Uninterrupted,
            installation: &self.installation,
        };
        self.groups
            .iter_mut()
            .map(|group| evaluate_alone(group, at, &ports))
            .collect()
    }

    /// Puts new rules in the place of the old ones.
    pub fn reload(&mut self, rules: &str, at: Timestamp) {
        self.clock.jump_to(at);
        let old = std::mem::take(&mut self.groups);
        let (groups, leftovers) = take_over(old, &rule_set(rules), &self.engine);
        self.groups = groups;
        leftovers.end(&self.store, at);
    }

    /// Asks the store, and writes each series as `name{…} value`, sorted.
    pub fn ask(&self, query: &str, at: Timestamp) -> Vec<String> {
        let prepared = self.engine.prepare(&marketprism_promql::parse(query).unwrap());
        let answer = self
            .engine
            .instant(&self.store, &prepared, at, &Uninterrupted)
            .unwrap();
        let Value::Vector(samples) = answer.value else {
            panic!("{query} gives no vector");
        };
        let mut lines: Vec<String> = samples
            .iter()
            .map(|sample| format!("{} {}", sample.labels, sample.value))
            .collect();
        lines.sort();
        lines
    }

    /// Gives why a rule of the first group failed, if it did.
    pub fn error(&self, rule: usize) -> Option<String> {
        let snapshot = self.groups[0].snapshot();
        snapshot.rules[rule]
            .last_error
            .as_ref()
            .map(|error| error.to_string())
    }
}

/// A second, as a span.
pub const SECOND: Duration = Duration::from_secs(1);

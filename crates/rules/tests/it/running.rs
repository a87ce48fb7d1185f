//! The loop: when groups run, what a reload does, and what a clock that jumps does.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::sample::Durability;
use marketprism_model::{Clock, Labels, Lifecycle, RefSample, SampleSink, Timestamp};
use marketprism_promql::{Engine, EngineConfig};
use marketprism_rules::{GroupSnapshot, Installation, Pace, RuleSet, RulesHandle, RunnerParts, runner};
use marketprism_storage::Store;
use marketprism_testkit::ManualClock;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::CountingLifecycle;
use crate::world::{minute, rule_set};

struct Running {
    clock: ManualClock,
    store: Store,
    lifecycle: Arc<CountingLifecycle>,
    handle: RulesHandle,
    registry: Registry,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(rules: &str) -> Self {
        let clock = ManualClock::new(minute(0));
        let store = Store::in_memory(Arc::new(clock.clone()));
        let lifecycle = Arc::new(CountingLifecycle::default());
        let mut registry = Registry::default();
        let parts = RunnerParts {
            engine: Arc::new(Engine::new(EngineConfig::default())),
            source: Arc::new(store.clone()),
            sink: Arc::new(store.clone()),
            lifecycle: Arc::clone(&lifecycle) as Arc<dyn Lifecycle>,
            clock: Arc::new(clock.clone()),
            installation: Installation::default(),
            workers: 2,
        };
        let (handle, runner) = runner(rule_set(rules), parts, &mut registry);
        let stop = CancellationToken::new();
        let task = tokio::spawn(runner.run(stop.clone()));
        Running {
            clock,
            store,
            lifecycle,
            handle,
            registry,
            stop,
            task,
        }
    }

    /// Ticks of the first group, in seconds since the start.
    fn ticks(&self) -> Vec<i64> {
        let commits = self.lifecycle.inner.lock().unwrap().commits.clone();
        commits
            .iter()
            .map(|at| (at.millis() - minute(0).millis()) / 1000)
            .collect()
    }

    /// Lets the loop work until what is asked is true.
    async fn until(&self, what: &str, is_true: impl Fn(&Self) -> bool) {
        let asked = async {
            while !is_true(self) {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), asked)
            .await
            .is_err()
        {
            panic!("never: {what}; ticks {:?}", self.ticks());
        }
    }

    /// Lets the loop see what time it is.
    async fn turn(&self) {
        let begun = |running: &Self| !running.lifecycle.inner.lock().unwrap().retained.is_empty();
        self.until("the lifecycle is told of the rules", begun).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// Lets time pass in small steps, so that the loop sees every tick.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            self.turn().await;
            let now = self.clock.now();
            let is_done = |running: &Self| {
                let snapshot = running.handle.snapshot();
                snapshot.groups.iter().all(|group| is_up_to_date(group, now))
            };
            self.until("groups have run", is_done).await;
        }
    }

    async fn end(self) -> (String, Arc<CountingLifecycle>) {
        self.stop.cancel();
        self.task.await.unwrap();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        (text, self.lifecycle)
    }
}

/// Says whether the group is home from the newest of its ticks.
fn is_up_to_date(group: &GroupSnapshot, now: Timestamp) -> bool {
    let spec = &group.spec;
    let mut newest = Pace::new(&spec.file, &spec.name, spec.interval, now - spec.interval).due();
    if newest + spec.interval <= now {
        newest = newest + spec.interval;
    }
    newest < minute(0) || group.last_evaluation.is_some_and(|last| last >= newest)
}

const RULES: &str = "groups:\n- name: g\n  interval: 10s\n  rules:\n  - {record: r, expr: vector(1)}\n";

#[tokio::test]
async fn a_group_runs_on_its_slots_and_says_so() {
    let running = Running::start(RULES);
    running.pass(35).await;
    let ticks = running.ticks();
    assert!(ticks.len() == 3 || ticks.len() == 4, "{ticks:?}");
    assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] == 10), "{ticks:?}");
    let snapshot = running.handle.snapshot();
    assert_eq!(snapshot.groups[0].iterations, ticks.len() as u64);
    assert_eq!(running.store.series_count(), 1);
    let (metrics, _) = running.end().await;
    let label = "{rule_group=\"rules.yml;g\"}";
    for line in [
        format!("marketprism_rule_evaluations_total{label} {}", ticks.len()),
        format!("marketprism_rule_evaluation_failures_total{label} 0"),
        format!("marketprism_rule_group_iterations_missed_total{label} 0"),
        format!("marketprism_rule_group_interval_seconds{label} 10.0"),
        format!("marketprism_rule_group_rules{label} 1"),
    ] {
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_makes_one_tick_and_counts_the_missed_ones() {
    let running = Running::start(RULES);
    running.pass(20).await;
    let before = running.ticks();
    running.clock.advance(Duration::from_secs(3600));
    running
        .until("the tick after the jump", |running| {
            running.ticks().len() > before.len()
        })
        .await;
    running.pass(20).await;
    let after = running.ticks();
    assert_eq!(after.len(), before.len() + 3, "{after:?}");
    assert_eq!(after[before.len()] - before[before.len() - 1], 3600);
    assert_eq!(running.handle.snapshot().groups[0].missed, 359);
    let (metrics, _) = running.end().await;
    assert!(
        metrics.contains("marketprism_rule_group_iterations_missed_total{rule_group=\"rules.yml;g\"} 359")
    );
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_stop_the_rules() {
    let running = Running::start(RULES);
    running.pass(20).await;
    let before = running.ticks();
    running.clock.jump_to(minute(-60));
    // No wall time brings the old plan back within the hour: the loop has to notice by itself.
    for _ in 0..40 {
        running.clock.advance(Duration::from_secs(1));
        running.turn().await;
    }
    running
        .until("ticks after the jump", |running| {
            running.ticks().len() > before.len()
        })
        .await;
    let after = running.ticks();
    assert!(after[before.len()] < -3000, "{after:?}");
    running.end().await;
}

#[tokio::test]
async fn a_reload_tells_the_lifecycle_and_ends_the_series_that_are_gone() {
    let running = Running::start(
        "groups:\n- name: g\n  interval: 10s\n  rules:\n  - {record: r, expr: vector(1)}\n  - {alert: A, expr: vector(1)}\n",
    );
    running.pass(15).await;
    let count = running.ticks().len();
    let set = rule_set("groups:\n- name: g\n  interval: 10s\n  rules:\n  - {alert: B, expr: vector(1)}\n");
    let id = set.groups()[0].rules[0].id;
    running
        .handle
        .replace(set, Installation::default())
        .await
        .unwrap();
    let snapshot = running.handle.snapshot();
    assert_eq!(&*snapshot.groups[0].rules[0].rule.name, "B");
    assert_eq!(
        snapshot.groups[0].iterations, count as u64,
        "the group goes on counting"
    );
    running.pass(10).await;
    let (_, lifecycle) = running.end().await;
    let inner = lifecycle.inner.lock().unwrap();
    assert_eq!(inner.retained.len(), 2, "at the start and at the reload");
    assert_eq!(inner.retained[1], [id]);
    let commits = &inner.commits;
    assert!(
        commits.windows(2).all(|pair| pair[1] > pair[0]),
        "no tick came twice: {commits:?}"
    );
}

#[tokio::test]
async fn groups_of_one_moment_see_what_the_store_held_when_each_ran() {
    let mut rules = String::from("groups:\n");
    for i in 0..40 {
        rules += &format!(
            "- name: g{i}\n  interval: 2s\n  rules:\n  - {{record: 'r{i}', expr: 'm + 0'}}\n  - {{record: 's{i}', expr: 'r{i} + 1'}}\n"
        );
    }
    let running = Running::start(&rules);
    let series = running
        .store
        .resolve(&Labels::from_pairs([("__name__", "m")]))
        .unwrap();
    for second in 1..8 {
        let sample = RefSample {
            series,
            timestamp: minute(0) + Duration::from_secs(second),
            value: second as f64,
        };
        running.store.append(&[sample], Durability::Interval).unwrap();
        running.pass(1).await;
    }
    let snapshot = running.handle.snapshot();
    for group in &snapshot.groups {
        assert!(
            group
                .rules
                .iter()
                .all(|rule| rule.last_error.is_none() && rule.series == 1),
            "{group:?}"
        );
    }
    running.end().await;
}

#[tokio::test]
async fn a_panic_in_one_group_does_not_stop_the_others() {
    let running = Running::start(
        "groups:\n- name: bad\n  interval: 2s\n  rules:\n  - {record: before, expr: 1}\n  - {alert: Bad, expr: vector(1)}\n- name: good\n  interval: 2s\n  rules:\n  - {record: r, expr: 1}\n",
    );
    running.lifecycle.inner.lock().unwrap().panics_at = Some("Bad");
    running.pass(6).await;
    let snapshot = running.handle.snapshot();
    let error = snapshot.groups[0].rules[1].last_error.as_deref();
    assert_eq!(error, Some("evaluation was cut short by a fault in the program"));
    assert_eq!(
        snapshot.groups[0].rules[0].last_error, None,
        "what ran before it counts"
    );
    assert!(snapshot.groups[1].iterations >= 2 && snapshot.groups[1].rules[0].last_error.is_none());
    // Once the fault is gone the group goes on.
    running.lifecycle.inner.lock().unwrap().panics_at = None;
    running.pass(4).await;
    assert_eq!(running.handle.snapshot().groups[0].rules[1].last_error, None);
    let (metrics, _) = running.end().await;
    assert!(!metrics.contains("marketprism_rule_evaluation_failures_total{rule_group=\"rules.yml;bad\"} 0"));
}

#[tokio::test]
async fn an_incomplete_set_resolves_nothing() {
    let running = Running::start(RULES);
    running.pass(5).await;
    running
        .handle
        .replace(RuleSet::new(Vec::new(), false), Installation::default())
        .await
        .unwrap();
    assert_eq!(running.handle.snapshot().groups.len(), 0);
    let (_, lifecycle) = running.end().await;
    assert_eq!(
        lifecycle.inner.lock().unwrap().retained.len(),
        1,
        "only at the start"
    );
}

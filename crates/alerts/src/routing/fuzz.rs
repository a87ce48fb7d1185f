//! The readers of this room as functions of any input, for the fuzzer.
//!
//! They assert what must hold for whatever comes out: what is written is read again, and both ways of walking
//! a tree agree.

use std::time::Duration;

use marketprism_model::{Labels, Timestamp};
use serde::Deserialize;

use super::config::{InhibitRuleConfig, NamedTimeInterval, RouteConfig};
use super::explain::Outcome;
use super::matchers;
use super::original::{Original, original};
use super::tree::{KnownNames, RouteIndex, RoutingTree};
use crate::calendar::{CalendarConfig, Calendars};
use crate::inhibition::Inhibitor;
use crate::time_interval::TimeIntervals;

/// Reads any text as matchers.
///
/// # Panics
/// When what was read is written in a way that is read differently.
pub fn read_matchers(text: &str) {
    if let Ok(read) = matchers::parse(text) {
        let written = matchers::write(&read);
        assert_eq!(matchers::parse(&written).ok().as_ref(), Some(&read), "{written}");
    }
    if let Ok(read) = matchers::parse_one(text) {
        let written = matchers::write_one(&read);
        assert_eq!(
            matchers::parse_one(&written).ok().as_ref(),
            Some(&read),
            "{written}"
        );
    }
}

/// What this room reads of a configuration.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    #[serde(rename = "global", default)]
    _global: serde::de::IgnoredAny,
    route: RouteConfig,
    #[serde(default)]
    receivers: Vec<ReceiverName>,
    #[serde(default)]
    inhibit_rules: Vec<InhibitRuleConfig>,
    #[serde(default)]
    time_intervals: Vec<NamedTimeInterval>,
    #[serde(default)]
    calendars: Vec<CalendarConfig>,
}

#[derive(Deserialize, Debug)]
struct ReceiverName {
    name: String,
}

impl Whole {
    /// Builds all parts, asks them, and gives the configuration as it would be shown; `None` when it has faults.
    ///
    /// # Panics
    /// When a fault has no place or no words, or when the walk and its explanation differ.
    pub fn check(&self) -> Option<(String, Vec<String>)> {
        let tree = match self.build() {
            Ok(tree) => tree,
            Err(error) => {
                let is_told = |fault: &super::Fault| !fault.place.is_empty() && !fault.problem.is_empty();
                assert!(
                    !error.faults.is_empty() && error.faults.iter().all(is_told),
                    "{error}"
                );
                return None;
            }
        };
        for labels in [
            Labels::empty(),
            Labels::from_pairs([("severity", "critical"), ("team", "db"), ("env", "test")]),
        ] {
            let visits = tree.explain(&labels);
            let chosen = visits.iter().filter(|visit| visit.outcome == Outcome::Chosen);
            let chosen: Vec<RouteIndex> = chosen.map(|visit| visit.route).collect();
            assert_eq!(chosen, tree.find(&labels), "{labels:?}");
        }
        let receivers: Vec<&str> = self
            .receivers
            .iter()
            .map(|receiver| receiver.name.as_str())
            .collect();
        let shown = original(&Original {
            resolve_timeout: Duration::from_secs(300),
            route: &self.route,
            receivers: &receivers,
            inhibit_rules: &self.inhibit_rules,
            time_intervals: &self.time_intervals,
        });
        let keys = tree.routes().map(|(_, route)| route.key.clone()).collect();
        Some((shown, keys))
    }

    fn build(&self) -> Result<RoutingTree, super::RoutingError> {
        let calendars = Calendars::new(&self.calendars)?;
        let intervals = TimeIntervals::new(&self.time_intervals, &calendars)?;
        let mut inhibitor = Inhibitor::new(&self.inhibit_rules)?;
        let source = Labels::from_pairs([("severity", "critical")]);
        let id = marketprism_model::Id::from_u128(1);
        inhibitor.started(id, source.fingerprint(), &source);
        assert_eq!(
            inhibitor.inhibited_by(source.fingerprint(), &source),
            None,
            "of itself"
        );
        inhibitor.ended(id);
        assert_eq!(inhibitor.sources(), 0);
        for name in intervals.names() {
            for now in [0, 1_774_746_000_000, i64::MIN, i64::MAX] {
                intervals.is_within(name, Timestamp::from_millis(now));
            }
        }
        let receivers: Vec<&str> = self
            .receivers
            .iter()
            .map(|receiver| receiver.name.as_str())
            .collect();
        let known = KnownNames {
            receivers: &receivers,
            time_intervals: &intervals.names(),
            escalations: &["nights"],
        };
        RoutingTree::new(&self.route, known)
    }
}

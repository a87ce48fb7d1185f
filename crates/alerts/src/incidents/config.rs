//! What the operator sets of incidents.

use std::collections::HashSet;
use std::time::Duration;

use marketprism_model::duration;
use serde::{Deserialize, Serialize};

use crate::routing::{Faults, RoutingError};
use crate::schedule::count;

const DAY: Duration = Duration::from_secs(86_400);
const LABELS_MAX: usize = 20;
const ALERTS_LIMITS: std::ops::RangeInclusive<usize> = 2..=10_000;

/// Which alerts belong together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IncidentsConfig {
    /// Whether alerts are gathered into incidents. Default true.
    #[serde(rename = "enabled")]
    pub is_enabled: bool,
    /// How long after something last happened in an incident a related alert still joins it, or opens it again. 1 s to
    /// 1 d, default 10 min.
    #[serde(with = "duration")]
    pub window: Duration,
    /// How long all its alerts have to be over before it is. Up to 1 d, default 5 min.
    #[serde(with = "duration")]
    pub hold: Duration,
    /// Labels whose equal value makes alerts related, the most telling first. Up to 20, default
    /// `service, instance, host, node, pod`. The port of an `instance` does not count.
    pub labels: Vec<String>,
    /// An incident holds no more alerts; the next one opens another. 2 to 10,000, default 1000.
    pub alerts_max: usize,
}

impl Default for IncidentsConfig {
    fn default() -> Self {
        let labels = ["service", "instance", "host", "node", "pod"];
        IncidentsConfig {
            is_enabled: true,
            window: Duration::from_secs(600),
            hold: Duration::from_secs(300),
            labels: labels.map(str::to_owned).to_vec(),
            alerts_max: 1000,
        }
    }
}

impl IncidentsConfig {
    /// Checks every field against its limits.
    pub fn validate(&self) -> Result<(), RoutingError> {
        let mut faults = Faults::default();
        let mut range = |field: &str, given: Duration, least, limits: &str| {
            if given < least || given > DAY {
                let given = duration::format(given);
                faults.add(
                    format!("incidents.{field}"),
                    format!("{given} is out of range; use {limits}"),
                );
            }
        };
        range("window", self.window, Duration::from_secs(1), "1s to 1d");
        range("hold", self.hold, Duration::ZERO, "0s to 1d");
        count(&mut faults, "incidents.labels", self.labels.len(), 0, LABELS_MAX);
        let mut seen = HashSet::new();
        for (position, label) in self.labels.iter().enumerate().take(LABELS_MAX) {
            if label.is_empty() || !seen.insert(label) {
                faults.add(
                    format!("incidents.labels[{position}]"),
                    format!("{label:?} is empty or repeated"),
                );
            }
        }
        if !ALERTS_LIMITS.contains(&self.alerts_max) {
            let given = self.alerts_max;
            faults.add(
                "incidents.alerts_max",
                format!("{given} is out of range; use 2 to 10000"),
            );
        }
        faults.or(())
    }
}

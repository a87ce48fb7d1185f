//! What others see of the running rules: immutable, replaced as a whole, group by group.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{ActiveAlert, AlertState, Timestamp};

use crate::rule::{GroupSpec, Rule};

/// How a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Health {
    /// Not evaluated yet.
    #[default]
    Unknown,
    /// The last evaluation succeeded.
    Ok,
    /// The last evaluation failed; what stood before it, stands.
    Err,
}

impl Health {
    /// Gives the word used in Prometheus' API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Ok => "ok",
            Health::Err => "err",
        }
    }
}

/// All groups, in the order of files.
#[derive(Clone, Debug, Default)]
pub struct RulesSnapshot {
    /// The groups.
    pub groups: Vec<Arc<GroupSnapshot>>,
}

/// One group as it stands after its last evaluation.
#[derive(Clone, Debug)]
pub struct GroupSnapshot {
    /// Its file, name, interval, limit and offset.
    pub spec: Arc<GroupSpec>,
    /// The tick that was evaluated last.
    pub last_evaluation: Option<Timestamp>,
    /// How long that took.
    pub evaluation_time: Duration,
    /// How many ticks were evaluated.
    pub iterations: u64,
    /// How many ticks were skipped because they came too late.
    pub missed: u64,
    /// Its rules, in order.
    pub rules: Vec<RuleSnapshot>,
}

/// One rule as it stands after its last evaluation.
#[derive(Clone, Debug)]
pub struct RuleSnapshot {
    /// Its name, expression, labels and annotations.
    pub rule: Arc<Rule>,
    /// How it does.
    pub health: Health,
    /// Why it failed.
    pub last_error: Option<Arc<str>>,
    /// The tick that was evaluated last.
    pub last_evaluation: Option<Timestamp>,
    /// How long that took.
    pub evaluation_time: Duration,
    /// How many series it gave; for an alerting rule, of `ALERTS` and `ALERTS_FOR_STATE`.
    pub series: usize,
    /// How many label sets it treats as missing at the moment; 0 without a policy for missing data.
    pub missing: usize,
    /// The alerts that it holds, sorted by labels.
    pub alerts: Arc<[ActiveAlert]>,
}

impl RuleSnapshot {
    /// Gives the state of an alerting rule: the worst of its alerts; `None` is inactive.
    pub fn state(&self) -> Option<AlertState> {
        self.alerts.iter().map(|alert| alert.state).max()
    }
}

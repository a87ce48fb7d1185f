//! The port where rules meet alerts.

use thiserror::Error;

use crate::{AlertState, Labels, Level, Observation, RuleContext, RuleId, StoreError, Timestamp};

/// An alert as its rule must know it, to write `ALERTS` and show it.
#[derive(Clone, PartialEq, Debug)]
pub struct ActiveAlert {
    /// Complete labels; with levels, `severity` of the level that stands.
    pub labels: Labels,
    /// Pending or firing; what has resolved is left out.
    pub state: AlertState,
    /// The level that stands.
    pub level: Level,
    /// When the condition began to hold.
    pub active_at: Timestamp,
    /// The newest value.
    pub value: f64,
    /// The newest annotations.
    pub annotations: Labels,
}

/// Why an evaluation could not enter the lifecycle.
#[derive(Debug, Error)]
pub enum LifecycleError {
    /// Two observations of one rule have the same labels; nothing of the evaluation was taken.
    #[error("two results have the labels {labels}; make the rule's labels tell them apart")]
    DuplicateLabels {
        /// The labels.
        labels: Labels,
    },
    /// The records could not be written; they are kept in memory and tried again at the next tick.
    #[error("alert records: {0}")]
    Store(#[from] StoreError),
}

/// Holds observations against the stored life of alerts. Answers from memory; called from one group at a
/// time for a rule, from many groups at once in all.
pub trait Lifecycle: Send + Sync {
    /// Takes everything a rule observed at `at` and gives the rule's alerts that are active after it.
    ///
    /// A failed evaluation is not reported here: what stood, stands.
    fn observe(
        &self,
        rule: &RuleContext,
        at: Timestamp,
        observations: Vec<Observation>,
    ) -> Result<Vec<ActiveAlert>, LifecycleError>;

    /// Gives the alerts that a rule has a part in, pending and firing ones, as they stood after its last evaluation;
    /// after a restart, as they were kept. Labels are as observed, without what a level adds. A lifecycle that keeps
    /// no policy for missing data need not know.
    fn held(&self, _rule: RuleId) -> Vec<ActiveAlert> {
        Vec::new()
    }

    /// Ends a group's tick: writes all transitions since the last call in one transaction, none when
    /// nothing changed.
    fn commit(&self, at: Timestamp) -> Result<(), LifecycleError>;

    /// Tells which rules exist after a reload; alerts that no rule holds any more resolve with that reason.
    fn retain_rules(&self, rules: &[RuleId], at: Timestamp) -> Result<(), LifecycleError>;
}

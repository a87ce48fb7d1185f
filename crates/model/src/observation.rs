//! What a rule, a detector or a forecast saw: one word for all of them.

use crate::Labels;

/// How one condition stands for one observation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The condition is true.
    Holds,
    /// The condition is false, but its recovery is not reached: what fires stays, nothing new begins.
    Lingers,
    /// The condition is false and its recovery is reached.
    Clear,
    /// Nobody can tell, for the data is missing: what stands, stands, and nothing new begins.
    Unknown,
}

/// One finding about one thing at one moment.
///
/// A label set that a rule does not mention in an evaluation is clear in every condition.
#[derive(Clone, PartialEq, Debug)]
pub struct Observation {
    /// The alert's complete labels: the series' and the rule's, with `alertname`. With levels `severity` is
    /// absent, for it follows the level.
    pub labels: Labels,
    /// The value that was judged.
    pub value: f64,
    /// The annotations, templates already expanded.
    pub annotations: Labels,
    /// A verdict for each condition of the rule, in the same order.
    pub verdicts: Vec<Verdict>,
}

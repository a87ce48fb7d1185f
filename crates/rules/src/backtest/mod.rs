//! Runs rules over the past: what would have fired, when, for how long, how often.
//!
//! The rules are the product's own, the lifecycle is the caller's, time is simulated. Where the meaning of the rules
//! allows it they are evaluated in columns, thousands of moments at once; else tick by tick. Both come to the same.
//! Deliberately absent: who hears of an alert (the caller's lifecycle knows), files, and the network.

pub mod clock;
mod columns;
pub mod memory;
mod obstacle;
mod overlay;
mod recorder;
mod run;
mod story;
mod svg;
mod ticks;

use marketprism_model::LifecycleError;
use marketprism_promql::{QueryError, Stop};
use thiserror::Error;

pub use run::{EVALUATIONS_MAX, Given, Method, Report, Request, backtest};
pub use story::{AlertStory, FLAP_GAP, RuleStory, Stretch};
pub use svg::{span, svg};

/// Why a backtest has no outcome.
#[derive(Debug, Error)]
pub enum BacktestError {
    /// The range is empty or turned round.
    #[error("the range is empty: the end must lie after the start")]
    Range,
    /// The range ends in the future.
    #[error("the range must not end after the present")]
    Future,
    /// The range is longer than anyone keeps data.
    #[error("the range must not be longer than ten years")]
    Length,
    /// The step is none.
    #[error("the step must be at least 1s")]
    Step,
    /// There is nothing to run.
    #[error("there is no rule to run")]
    NoRules,
    /// It would take too many evaluations.
    #[error(
        "{rules} rules over this range are {evaluations} evaluations, more than {limit}; shorten the range, choose fewer \
         rules, or set a longer step"
    )]
    TooManyEvaluations {
        /// How many rules.
        rules: usize,
        /// How many evaluations they would be.
        evaluations: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// What comes of it is more than a report holds.
    #[error("more than {limit} {what}; shorten the range or choose fewer rules")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// Whoever asked does not wait any more, or it took too long.
    #[error("{}", match .0 { Stop::Cancelled => "backtest was cancelled", Stop::TimedOut => "backtest took too long; shorten the range or choose fewer rules" })]
    Stopped(Stop),
    /// Columns are asked for where they would not come to the same as ticks.
    #[error("rule {rule:?} cannot be run in columns: {why}; ask for a backtest by ticks")]
    Columns {
        /// The rule.
        rule: String,
        /// What stands in the way.
        why: &'static str,
    },
    /// A rule records what columns do not hold.
    #[error("rule {0:?} records native histograms; ask for a backtest by ticks")]
    Histograms(String),
    /// What the rules record could not be kept.
    #[error("recorded series: {0}")]
    Memory(String),
    /// The lifecycle refused.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// Data could not be read.
    #[error(transparent)]
    Query(#[from] QueryError),
}

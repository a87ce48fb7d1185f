//! What a query answers with, and why it may not.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::series::ReadError;
use marketprism_model::{Histogram, Labels, Sample, Timestamp};
use thiserror::Error;

/// One series of an instant vector.
#[derive(Clone, PartialEq, Debug)]
pub struct InstantSample {
    /// The labels.
    pub labels: Labels,
    /// The moment of evaluation.
    pub timestamp: Timestamp,
    /// The value; 0 when it is a histogram.
    pub value: f64,
    /// The histogram that it is, in place of a number.
    pub histogram: Option<Arc<Histogram>>,
}

/// One series of a matrix.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// The labels.
    pub labels: Labels,
    /// The points that are numbers, oldest first.
    pub points: Vec<Sample>,
    /// The points that are histograms, oldest first. One of the two is not empty, and no moment is in both.
    pub histograms: Vec<(Timestamp, Arc<Histogram>)>,
}

/// The value of an answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A number, at the moment of evaluation.
    Scalar(f64),
    /// A text.
    Text(String),
    /// An instant vector; in the order of `sort` or `topk` when the query ends in one.
    Vector(Vec<InstantSample>),
    /// Series with points, sorted by labels.
    Matrix(Vec<Series>),
}

/// The answer of a query.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// What is likely wrong with the query, each with its place as `(line:column)`, sorted.
    pub warnings: Vec<String>,
    /// What may be wrong with the query, each with its place, sorted.
    pub infos: Vec<String>,
}

/// Cuts a list of remarks to the first `most` and says how many are left out; `kind` is `warning` or `info`.
///
/// Source: Prometheus 3, whose API tells ten of each.
pub fn cut_remarks(remarks: &mut Vec<String>, most: usize, kind: &str) {
    if let Some(more) = remarks.len().checked_sub(most).filter(|more| *more > 0) {
        remarks.truncate(most);
        remarks.push(format!("{more} more {kind} annotations omitted"));
    }
}

/// Why an evaluation was stopped from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Whoever asked does not wait any more.
    Cancelled,
    /// It took longer than it may.
    TimedOut,
}

/// Why a query has no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    /// It was cancelled.
    #[error("query was canceled")]
    Cancelled,
    /// It took too long.
    #[error("query timed out after {}", marketprism_model::duration::format(*limit))]
    TimedOut {
        /// The configured limit.
        limit: Duration,
    },
    /// It would read or hold too much.
    #[error("query processing would load too many samples into memory; the limit is {limit}")]
    TooManySamples {
        /// The configured limit.
        limit: u64,
    },
    /// It would hold too much: values, histograms and labels together.
    #[error("query processing would take too much memory; the limit is {limit} bytes")]
    TooManyBytes {
        /// The configured limit.
        limit: u64,
    },
    /// The range has too many steps.
    #[error("{steps} steps exceed the limit of {limit} points per series; raise the step")]
    TooManySteps {
        /// The steps that were asked for.
        steps: u64,
        /// The configured limit.
        limit: usize,
    },
    /// The range makes no sense.
    #[error("bad range: {reason}")]
    Range {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A length of time that depends on the query comes to nothing that could be used.
    #[error("{0}")]
    Length(String),
    /// The data does not fit the query, such as many-to-many matches.
    #[error("{0}")]
    Data(String),
    /// The source could not be read.
    #[error("reading series: {0}")]
    Read(ReadError),
}

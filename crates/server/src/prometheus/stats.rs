//! `stats` of an answer: how long it took and how much was read, under Prometheus' names.
//!
//! Samples count once for each time that they are read from the store, for that is the cost here; Prometheus counts
//! them anew for each step whose window they lie in (`totalQueryableSamples`). Deliberately absent: counts by step, which
//! Prometheus has behind a feature flag only.

use std::time::Duration;

use serde_json::json;

use super::counted::Read;

/// What one evaluation took.
pub(super) struct Spent {
    /// Until a worker was free.
    pub queue: Duration,
    /// Parsing.
    pub preparation: Duration,
    /// The rest.
    pub evaluation: Duration,
    pub read: Read,
}

/// Writes the statistics; `None` when none are wanted.
pub(super) fn text(wanted: &str, spent: &Spent) -> Option<String> {
    if wanted.is_empty() {
        return None;
    }
    let evaluation = spent.evaluation.as_secs_f64();
    let total = spent.queue + spent.preparation + spent.evaluation;
    let document = json!({
        "timings": {
            "evalTotalTime": evaluation,
            "resultSortTime": 0,
            "queryPreparationTime": spent.preparation.as_secs_f64(),
            "innerEvalTime": evaluation,
            "execQueueTime": spent.queue.as_secs_f64(),
            "execTotalTime": total.as_secs_f64(),
        },
        "samples": {
            "totalQueryableSamples": spent.read.samples,
            "samplesRead": spent.read.samples,
            "peakSamples": spent.read.samples,
        },
    });
    Some(document.to_string())
}

/// Warns of a value that Prometheus will not take for long.
pub(super) fn warning(wanted: &str) -> Option<String> {
    (!matches!(wanted, "" | "true" | "all")).then(|| {
        format!(
            "value {wanted:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, \
             use \"true\" or \"all\""
        )
    })
}

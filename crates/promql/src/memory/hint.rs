//! What a store says of a reset: it packs histograms into chunks without one, and knows nothing of a chunk's first.
//!
//! Source: `tsdb/chunkenc` of prometheus/prometheus, `FloatHistogramAppender` and `counterResetHint`.

use std::collections::BTreeMap;

use marketprism_model::{Buckets, Histogram, ResetHint};

/// The hint with which a histogram comes back that was stored behind another.
pub(super) fn stored(before: Option<&Histogram>, histogram: &Histogram) -> ResetHint {
    match (before, histogram.reset_hint) {
        (_, ResetHint::Gauge) => ResetHint::Gauge,
        (None, _) | (_, ResetHint::Reset) => ResetHint::Unknown,
        (Some(before), _) if may_follow(before, histogram) => ResetHint::NotReset,
        (Some(_), _) => ResetHint::Unknown,
    }
}

/// Says whether a histogram has its place in the chunk of the one before it.
fn may_follow(before: &Histogram, histogram: &Histogram) -> bool {
    before.reset_hint != ResetHint::Gauge
        && before.schema == histogram.schema
        && before.zero_threshold == histogram.zero_threshold
        && before.custom_bounds == histogram.custom_bounds
        && before.count <= histogram.count
        && before.zero_count <= histogram.zero_count
        && has_risen(&before.positive, &histogram.positive)
        && has_risen(&before.negative, &histogram.negative)
}

/// Says whether no bucket counts less than before.
fn has_risen(before: &Buckets, now: &Buckets) -> bool {
    let mut counts = BTreeMap::new();
    now.each(|index, count| {
        counts.insert(index, count);
    });
    let mut has_risen = true;
    before.each(|index, count| {
        has_risen &= count <= counts.get(&index).copied().unwrap_or(0.0);
    });
    has_risen
}

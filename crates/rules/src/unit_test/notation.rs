//! Series as tests write them, `up{job="a"}` and `1+2x3 _ stale`, as points that memory takes.

use marketprism_model::{Histogram, Labels, ResetHint};
use marketprism_promql::notation::{NotedValue, parse_metric, parse_series};

use crate::backtest::memory::Point;

/// Reads the labels of a sample; none at all are none.
pub(crate) fn labels(text: &str) -> Result<Labels, String> {
    if text.trim().is_empty() {
        return Ok(Labels::empty());
    }
    parse_metric(text).map_err(|error| error.to_string())
}

/// Reads a series and its values: each a point or a gap.
pub(crate) fn series(series: &str, values: &str) -> Result<(Labels, Vec<Option<Point>>), String> {
    let noted = parse_series(&format!("{series} {values}")).map_err(|error| error.to_string())?;
    let mut points = Vec::with_capacity(noted.values.len());
    for value in noted.values {
        points.push(match value {
            None => None,
            Some(NotedValue::Number(number)) => Some(Point::Number(number)),
            Some(NotedValue::Histogram { histogram, .. }) => {
                histogram.check().map_err(|error| error.to_string())?;
                Some(Point::Histogram(histogram))
            }
        });
    }
    Ok((noted.labels, points))
}

/// Reads one histogram, as a sample expects it.
pub(crate) fn histogram(text: &str) -> Result<std::sync::Arc<Histogram>, String> {
    let noted = parse_series(&format!("{{}} {text}")).map_err(|error| error.to_string())?;
    match noted.values.as_slice() {
        [Some(NotedValue::Histogram { histogram, .. })] => Ok(std::sync::Arc::clone(histogram)),
        values => Err(format!("expected one histogram, found {} values", values.len())),
    }
}

/// Says what a store knows of a histogram that follows another one directly: whether it was reset.
///
/// Source: `github.com/prometheus/prometheus`, `tsdb/chunkenc`: a reset shows in a count, a bucket or the zero bucket
/// that is smaller than before.
pub(crate) fn hint_after(before: &Histogram, now: &Histogram) -> ResetHint {
    if matches!(now.reset_hint, ResetHint::Gauge | ResetHint::Reset) {
        return now.reset_hint;
    }
    let is_smaller = now.count < before.count
        || now.zero_count < before.zero_count
        || now.zero_threshold < before.zero_threshold
        || now.schema > before.schema
        || now.custom_bounds != before.custom_bounds
        || now.schema == before.schema
            && (has_less(&before.positive, &now.positive) || has_less(&before.negative, &now.negative));
    if is_smaller {
        ResetHint::Reset
    } else {
        ResetHint::NotReset
    }
}

fn has_less(before: &marketprism_model::Buckets, now: &marketprism_model::Buckets) -> bool {
    let mut counts = std::collections::HashMap::new();
    now.each(|index, count| {
        counts.insert(index, count);
    });
    let mut is_less = false;
    before.each(|index, count| is_less |= counts.get(&index).copied().unwrap_or(0.0) < count);
    is_less
}

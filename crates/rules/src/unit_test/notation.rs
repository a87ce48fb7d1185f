//! Series as tests write them, `up{job="a"}` and `1+2x3 _ stale`, as points that memory takes.

use std::sync::Arc;

use marketprism_model::{Histogram, Labels};
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
pub(crate) fn histogram(text: &str) -> Result<Arc<Histogram>, String> {
    let noted = parse_series(&format!("{{}} {text}")).map_err(|error| error.to_string())?;
    match noted.values.as_slice() {
        [Some(NotedValue::Histogram { histogram, .. })] => Ok(Arc::clone(histogram)),
        values => Err(format!("expected one histogram, found {} values", values.len())),
    }
}

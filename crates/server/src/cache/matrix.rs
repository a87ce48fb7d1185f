//! Matrices that are cut and put together by moments, exactly as one evaluation would have made them.
//!
//! Series stand in the order of their labels, each once, none without a point.

use std::sync::Arc;

use marketprism_model::{Histogram, Sample, Timestamp};
use marketprism_promql::Series;

use super::steps::label_bytes;

/// What a series costs beside its points.
const SERIES_BYTES: usize = 128;
/// What a histogram costs beside its buckets.
const HISTOGRAM_BYTES: usize = 64;

/// Gives the points from the first moment to the last.
pub(super) fn cut(series: &[Series], first_ms: i64, last_ms: i64) -> Vec<Series> {
    let mut all = Vec::with_capacity(series.len());
    for series in series {
        let points = range(&series.points, first_ms, last_ms, |point| point.timestamp);
        let histograms = range(&series.histograms, first_ms, last_ms, |(at, _)| *at);
        if !points.is_empty() || !histograms.is_empty() {
            all.push(Series {
                labels: series.labels.clone(),
                points: points.to_vec(),
                histograms: histograms.to_vec(),
            });
        }
    }
    all
}

fn range<T>(items: &[T], first_ms: i64, last_ms: i64, at: impl Fn(&T) -> Timestamp) -> &[T] {
    let from = items.partition_point(|item| at(item).millis() < first_ms);
    let to = items.partition_point(|item| at(item).millis() <= last_ms);
    &items[from..to.max(from)]
}

/// Appends what follows in time.
pub(super) fn append(into: &mut Vec<Series>, next: &[Series]) {
    let mut appended = Vec::with_capacity(into.len().max(next.len()));
    let mut known = std::mem::take(into).into_iter().peekable();
    for series in next {
        while let Some(earlier) = known.next_if(|known| known.labels < series.labels) {
            appended.push(earlier);
        }
        match known.next_if(|known| known.labels == series.labels) {
            Some(mut both) => {
                both.points.extend_from_slice(&series.points);
                both.histograms.extend_from_slice(&series.histograms);
                appended.push(both);
            }
            None => appended.push(series.clone()),
        }
    }
    appended.extend(known);
    *into = appended;
}

/// Gives about how many bytes a matrix takes.
pub(super) fn weight(series: &[Series]) -> usize {
    let histogram = |(_, histogram): &(Timestamp, Arc<Histogram>)| HISTOGRAM_BYTES + 8 * histogram.weight();
    series
        .iter()
        .map(|series| {
            SERIES_BYTES
                + label_bytes(&series.labels)
                + series.points.len() * size_of::<Sample>()
                + series.histograms.iter().map(histogram).sum::<usize>()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use marketprism_model::Labels;
    use proptest::prelude::*;

    /// Series by number, with a point or a histogram at each of the moments that are not absent.
    fn matrix(rows: &[Vec<Option<bool>>]) -> Vec<Series> {
        let mut all: Vec<Series> = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            let at = |place: usize| Timestamp::from_millis(place as i64 * 10);
            let moments = || row.iter().enumerate();
            let series = Series {
                labels: Labels::from_pairs([("n", number.to_string())]),
                points: moments()
                    .filter(|(_, kind)| **kind == Some(true))
                    .map(|(place, _)| Sample {
                        timestamp: at(place),
                        value: place as f64,
                    })
                    .collect(),
                histograms: moments()
                    .filter(|(_, kind)| **kind == Some(false))
                    .map(|(place, _)| (at(place), Arc::new(Histogram::default())))
                    .collect(),
            };
            if !series.points.is_empty() || !series.histograms.is_empty() {
                all.push(series);
            }
        }
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all
    }

    proptest! {
        #[test]
        fn what_is_cut_apart_and_put_together_is_what_it_was(
            rows in proptest::collection::vec(proptest::collection::vec(proptest::option::of(any::<bool>()), 12), 0..12),
            borders in (0_i64..13, 0_i64..13),
        ) {
            let whole = matrix(&rows);
            let (first, second) = (borders.0.min(borders.1) * 10, borders.0.max(borders.1) * 10);
            let mut all = cut(&whole, i64::MIN, first - 1);
            append(&mut all, &cut(&whole, first, second - 1));
            append(&mut all, &cut(&whole, second, i64::MAX));
            prop_assert_eq!(all, whole);
        }
    }
}

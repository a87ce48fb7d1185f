//! Whether two histograms are the same, and whether a counter was reset between them.
//!
//! Two questions that look alike and are not: sameness is of bits and asks for the same layout, while a reset is judged in
//! the layout of the later histogram, since a counter may become coarser without one.
//!
//! Source: Prometheus 3, `model/histogram`, `Equals` and `DetectReset`.

use std::sync::Arc;

use marketprism_model::{BucketSpan, Buckets, Histogram, ResetHint};

use super::bounds::{bound, exponential};
use super::cells::{self, Cell};
use super::total::{intersection, widened};

/// Says whether two histograms hold the same data: the same layout, bit for bit the same numbers. Hints do not
/// count.
pub(crate) fn is_equal(one: &Histogram, other: &Histogram) -> bool {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    one.schema == other.schema
        && same(one.count, other.count)
        && same(one.sum, other.sum)
        && (!one.has_custom_bounds() || has_same_bounds(one, other))
        && one.zero_threshold == other.zero_threshold
        && same(one.zero_count, other.zero_count)
        && is_same_side(&one.negative, &other.negative)
        && is_same_side(&one.positive, &other.positive)
}

fn has_same_bounds(one: &Histogram, other: &Histogram) -> bool {
    Arc::ptr_eq(&one.custom_bounds, &other.custom_bounds) || one.custom_bounds == other.custom_bounds
}

fn is_same_side(one: &Buckets, other: &Buckets) -> bool {
    let counts = one.counts.iter().zip(&other.counts);
    one.counts.len() == other.counts.len()
        && has_same_spans(&one.spans, &other.spans)
        && counts.into_iter().all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Compares spans; those without a bucket only move the next one.
fn has_same_spans(one: &[BucketSpan], other: &[BucketSpan]) -> bool {
    one == other || populated(one).eq(populated(other))
}

fn populated(spans: &[BucketSpan]) -> impl Iterator<Item = (i64, u32)> {
    let mut moved = 0i64;
    spans.iter().filter_map(move |span| {
        moved += i64::from(span.offset);
        (span.length > 0).then(|| (std::mem::take(&mut moved), span.length))
    })
}

/// Says whether a counter was reset between `previous` and `current`: a count fell, a populated bucket is gone, or
/// the layout changed as it does only after a reset. A hint decides without looking.
pub(crate) fn is_reset(current: &Histogram, previous: &Histogram) -> bool {
    match current.reset_hint {
        ResetHint::Reset => return true,
        ResetHint::NotReset => return false,
        ResetHint::Unknown | ResetHint::Gauge => {}
    }
    if current.count < previous.count {
        return true;
    }
    if current.has_custom_bounds() {
        if !previous.has_custom_bounds() {
            return true;
        }
        if !has_same_bounds(current, previous) {
            return has_fallen_between_shared_bounds(current, previous);
        }
    }
    if current.schema > previous.schema || current.zero_threshold < previous.zero_threshold {
        return true;
    }
    if current.schema == previous.schema
        && current.zero_threshold == previous.zero_threshold
        && current.positive.spans == previous.positive.spans
        && current.negative.spans == previous.negative.spans
        && is_outside_zero(current)
    {
        let fell =
            |now: &Buckets, before: &Buckets| now.counts.iter().zip(&before.counts).any(|(n, b)| n < b);
        return current.zero_count < previous.zero_count
            || fell(&current.positive, &previous.positive)
            || fell(&current.negative, &previous.negative);
    }
    has_fallen_in_layout(current, previous)
}

/// Says whether no bucket lies within the zero bucket.
fn is_outside_zero(histogram: &Histogram) -> bool {
    let is_outside = |buckets: &Buckets| match buckets.spans.first() {
        Some(span) => exponential(span.offset, histogram.schema) > histogram.zero_threshold,
        None => true,
    };
    histogram.zero_threshold == 0.0
        || histogram.has_custom_bounds()
        || is_outside(&histogram.positive) && is_outside(&histogram.negative)
}

/// Compares histograms whose layouts differ, in the layout of the current one.
fn has_fallen_in_layout(current: &Histogram, previous: &Histogram) -> bool {
    let threshold = current.zero_threshold;
    let before = [cells::cells(&previous.positive), cells::cells(&previous.negative)];
    let mut zero_before = previous.zero_count;
    if threshold > previous.zero_threshold {
        let zero = (previous.zero_count, 0.0);
        let ((count, _), reached) = widened(&before[0], &before[1], previous.schema, zero, threshold);
        if reached != threshold {
            return true;
        }
        zero_before = count;
    }
    if current.zero_count < zero_before {
        return true;
    }
    let now = [cells::cells(&current.positive), cells::cells(&current.negative)];
    before.into_iter().zip(now).any(|(mut before, mut now)| {
        cells::reduce(&mut before, previous.schema, current.schema);
        if !current.has_custom_bounds() && threshold != 0.0 {
            let is_covered = |cell: &Cell| exponential(cell.index, current.schema) <= threshold;
            before.drain(..before.partition_point(is_covered));
            now.drain(..now.partition_point(is_covered));
        }
        let mut rest = &now[..];
        before.iter().any(|cell| {
            rest = &rest[rest.partition_point(|candidate| candidate.index < cell.index)..];
            match rest.first() {
                Some(found) if found.index == cell.index => found.count < cell.count,
                _ => cell.count != 0.0,
            }
        })
    })
}

/// Compares counts between the custom bounds that both histograms have.
fn has_fallen_between_shared_bounds(current: &Histogram, previous: &Histogram) -> bool {
    let shared = intersection(&current.custom_bounds, &previous.custom_bounds);
    let counts = |histogram: &Histogram| {
        let mut counts = vec![0.0; shared.len() + 1];
        histogram.positive.each(|index, count| {
            let upper = bound(index, histogram.schema, Some(&histogram.custom_bounds));
            counts[shared.partition_point(|bound| *bound < upper)] += count;
        });
        counts
    };
    let (now, before) = (counts(current), counts(previous));
    now.iter().zip(&before).any(|(now, before)| now < before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schema: i32, zero: (f64, f64), positive: &[(i32, f64)]) -> Histogram {
        Histogram {
            schema,
            zero_threshold: zero.0,
            zero_count: zero.1,
            count: zero.1 + positive.iter().map(|(_, count)| count).sum::<f64>(),
            positive: cells::buckets(positive.iter().copied()),
            ..Histogram::default()
        }
    }

    #[test]
    fn spans_without_a_bucket_do_not_count() {
        let one = of(0, (0.0, 0.0), &[(1, 1.0), (5, 2.0)]);
        let mut other = one.clone();
        let span = |offset, length| BucketSpan { offset, length };
        other.positive.spans = vec![span(0, 0), span(1, 1), span(1, 0), span(2, 1), span(9, 0)];
        assert!(is_equal(&one, &other));
        other.positive.spans[3].offset = 3;
        assert!(!is_equal(&one, &other));
    }

    #[test]
    fn numbers_are_compared_by_their_bits() {
        let one = of(0, (0.0, 0.0), &[(1, 1.0)]);
        let with_sum = |sum| Histogram { sum, ..one.clone() };
        assert!(is_equal(&with_sum(f64::NAN), &with_sum(f64::NAN)));
        assert!(!is_equal(&with_sum(0.0), &with_sum(-0.0)));
    }

    #[test]
    fn a_count_that_falls_is_a_reset() {
        let before = of(0, (0.001, 2.0), &[(1, 3.0), (4, 1.0)]);
        let check = |current: Histogram, expected| assert_eq!(is_reset(&current, &before), expected);
        check(before.clone(), false);
        check(of(0, (0.001, 9.0), &[(1, 3.0), (2, 1.0), (4, 1.0)]), false);
        check(of(0, (0.001, 9.0), &[(1, 3.0)]), true);
        check(of(0, (0.001, 9.0), &[(1, 2.0), (4, 1.0)]), true);
        check(of(0, (0.001, 1.0), &[(1, 9.0), (4, 1.0)]), true);
        // A finer schema or a smaller zero bucket comes only with a reset.
        check(of(1, (0.001, 2.0), &[(2, 9.0), (8, 9.0)]), true);
        check(of(0, (0.0001, 2.0), &[(1, 9.0), (4, 9.0)]), true);
        // A coarser schema holds the old buckets: 1 and 4 lie in 1 and 2.
        check(of(-1, (0.001, 2.0), &[(1, 3.0), (2, 1.0)]), false);
        check(of(-1, (0.001, 2.0), &[(1, 3.0), (2, 0.5), (3, 9.0)]), true);
        // A zero bucket up to 2 takes in the bucket that ends there; one up to 1.5 would cut it.
        check(of(0, (2.0, 5.0), &[(4, 1.0)]), false);
        check(of(0, (2.0, 4.0), &[(4, 9.0)]), true);
        check(of(0, (1.5, 9.0), &[(4, 9.0)]), true);
    }

    #[test]
    fn a_hint_decides_without_looking() {
        let before = of(0, (0.0, 0.0), &[(1, 3.0)]);
        let with = |reset_hint| Histogram {
            reset_hint,
            ..before.clone()
        };
        assert!(is_reset(&with(ResetHint::Reset), &before));
        assert!(!is_reset(
            &with(ResetHint::NotReset),
            &of(0, (0.0, 0.0), &[(1, 9.0)])
        ));
    }

    #[test]
    fn custom_bounds_that_changed_are_compared_where_they_agree() {
        let custom = |bounds: &[f64], counts: &[(i32, f64)]| Histogram {
            schema: -53,
            count: 100.0,
            positive: cells::buckets(counts.iter().copied()),
            custom_bounds: Arc::from(bounds),
            ..Histogram::default()
        };
        let before = custom(&[1.0, 2.0, 3.0], &[(0, 4.0), (1, 1.0)]);
        assert!(!is_reset(&custom(&[2.0, 3.0], &[(0, 5.0)]), &before));
        assert!(is_reset(&custom(&[2.0, 3.0], &[(0, 4.0), (1, 7.0)]), &before));
    }
}

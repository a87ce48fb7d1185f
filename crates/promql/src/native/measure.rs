//! What a histogram tells: quantiles, shares, mean and variance.
//!
//! Source: Prometheus 3, `histogram_quantile`, `histogram_fraction`, `histogram_stddev`: within an exponential
//! bucket, observations are taken to be spread evenly on a logarithmic scale; on a straight one in the zero bucket
//! and between custom bounds. Without buckets below (above) zero, the zero bucket begins (ends) at zero.

use marketprism_model::Histogram;

use super::bounds::{Bucket, ascending};
use crate::sum::Sum;

/// How observations that are no number touch a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NanRemark {
    /// The result is one of them.
    Result,
    /// They count as larger than all others.
    Skew,
    /// They are in no share.
    Excluded,
}

/// Ends the zero bucket at zero on a side that has no buckets.
fn halve_zero(histogram: &Histogram, bucket: &mut Bucket) {
    match (
        histogram.negative.counts.is_empty(),
        histogram.positive.counts.is_empty(),
    ) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

/// Calculates the φ-quantile. NaN without observations or φ, −Inf below 0, +Inf above 1.
pub(crate) fn quantile(phi: f64, histogram: &Histogram) -> (f64, Option<NanRemark>) {
    if phi < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if phi > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || phi.is_nan() {
        return (f64::NAN, None);
    }
    let mut buckets = ascending(histogram);
    // What is no number counts, but is in no bucket: then only ranks from below are right.
    let has_nan = histogram.sum.is_nan();
    let is_rising = has_nan || phi < 0.5;
    let rank = if is_rising { phi } else { 1.0 - phi } * histogram.count;
    if !is_rising {
        buckets.reverse();
    }
    let mut count = 0.0;
    let mut bucket = Bucket {
        lower: 0.0,
        upper: 0.0,
        has_lower: false,
        has_upper: false,
        count: 0.0,
    };
    let mut seen = 0;
    for candidate in &buckets {
        (bucket, seen) = (*candidate, seen + 1);
        count += bucket.count;
        if bucket.count != 0.0 && count >= rank {
            break;
        }
    }
    if let Some(value) = without_interpolation(histogram, &mut bucket) {
        return (value, None);
    }
    count = count.min(histogram.count);
    if count < rank {
        return if has_nan {
            (f64::NAN, Some(NanRemark::Result))
        } else {
            (bucket.upper, None)
        };
    }
    let within = if is_rising {
        rank - (count - bucket.count)
    } else {
        count - rank
    };
    let mut remark = None;
    if has_nan {
        let above = &buckets[seen..];
        let all = count + above.iter().map(|bucket| bucket.count).sum::<f64>();
        remark = (all < histogram.count).then_some(NanRemark::Skew);
        // Prometheus counts to the highest bucket here, and goes on with that one.
        bucket = *above.last().unwrap_or(&bucket);
    }
    (interpolate(histogram, &bucket, within / bucket.count), remark)
}

/// Gives what lies in a bucket without an end, and ends the zero bucket where it should.
fn without_interpolation(histogram: &Histogram, bucket: &mut Bucket) -> Option<f64> {
    if !histogram.has_custom_bounds() {
        if bucket.lower < 0.0 && bucket.upper > 0.0 {
            halve_zero(histogram, bucket);
        }
        return None;
    }
    if bucket.lower == f64::NEG_INFINITY {
        if bucket.upper <= 0.0 {
            return Some(bucket.upper);
        }
        bucket.lower = 0.0;
    } else if bucket.upper == f64::INFINITY {
        return Some(bucket.lower);
    }
    None
}

fn interpolate(histogram: &Histogram, bucket: &Bucket, share: f64) -> f64 {
    if histogram.has_custom_bounds() || bucket.lower <= 0.0 && bucket.upper >= 0.0 {
        return bucket.lower + (bucket.upper - bucket.lower) * share;
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * share).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - share)).exp2()
    }
}

/// Calculates the share of observations between two bounds. NaN without observations or a bound.
pub(crate) fn fraction(lower: f64, upper: f64, histogram: &Histogram) -> (f64, Option<NanRemark>) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let buckets = ascending(histogram);
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut rank = 0.0;
    for bucket in &buckets {
        let mut bucket = *bucket;
        let mut is_linear = histogram.has_custom_bounds();
        if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            is_linear = true;
            halve_zero(histogram, &mut bucket);
        }
        for (at, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if found.is_some() {
                continue;
            }
            if bucket.lower >= at {
                *found = Some(rank);
            } else if bucket.upper > at {
                // Nothing is known of where in a bucket without a lower end the observations are.
                *found = Some(if is_linear && bucket.lower == f64::NEG_INFINITY {
                    bucket.count
                } else {
                    rank + bucket.count * bucket.share_below(at, is_linear)
                });
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank += bucket.count;
    }
    let (mut total, mut remark) = (histogram.count, None);
    if histogram.sum.is_nan() {
        total = buckets.iter().map(|bucket| bucket.count).sum();
        remark = (total < histogram.count).then_some(NanRemark::Excluded);
    }
    let rank = |found: Option<f64>| found.filter(|rank| *rank <= total).unwrap_or(total);
    ((rank(upper_rank) - rank(lower_rank)) / histogram.count, remark)
}

/// Calculates the mean of the observations.
pub(crate) fn average(histogram: &Histogram) -> f64 {
    histogram.sum / histogram.count
}

/// Calculates the variance, with each bucket's observations in its middle.
pub(crate) fn variance(histogram: &Histogram) -> f64 {
    let mean = average(histogram);
    let mut squares = Sum::default();
    for bucket in ascending(histogram).iter().filter(|bucket| bucket.count != 0.0) {
        let middle = if histogram.has_custom_bounds() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
        };
        let distance = middle - mean;
        squares.add(bucket.count * distance * distance);
    }
    squares.total() / histogram.count
}

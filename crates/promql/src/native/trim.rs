//! `</` and `>/`: what is left of a histogram below or above a value.
//!
//! Source: Prometheus 3, "Trim operators": buckets that hold the value are shared out as quantiles are
//! interpolated; the sum is estimated anew from the middles of what is left. Of a bucket without an end, nothing is
//! known; it is kept or dropped as a whole.

use marketprism_model::Histogram;

use super::bounds::{self, Bucket};
use super::operate::compact;

/// What is left, and what it adds up to.
struct Trimmed {
    rhs: f64,
    /// Whether what lies above is cut off.
    is_upper: bool,
    has_custom_bounds: bool,
    count: f64,
    sum: f64,
    is_changed: bool,
}

/// Cuts off what lies above (`is_upper`) or below a value.
pub(super) fn trim(histogram: &Histogram, rhs: f64, is_upper: bool) -> Histogram {
    let mut left = histogram.clone();
    let mut trimmed = Trimmed {
        rhs,
        is_upper,
        has_custom_bounds: histogram.has_custom_bounds(),
        count: 0.0,
        sum: 0.0,
        is_changed: false,
    };
    let (positive, negative) = (bounds::positive(histogram), bounds::negative(histogram));
    trimmed.side(&positive, &mut left.positive.counts, true);
    trimmed.side(&negative, &mut left.negative.counts, false);
    if histogram.zero_count > 0.0 {
        let is_populated = |side: &[Bucket]| side.iter().any(|bucket| bucket.count != 0.0);
        let bucket = narrowed_zero(histogram, is_populated(&negative), is_populated(&positive));
        let (kept, middle) = trimmed.zero(&bucket);
        trimmed.keep(&mut left.zero_count, kept, middle);
    }
    if trimmed.is_changed {
        (left.count, left.sum) = (trimmed.count, trimmed.sum);
        compact(&mut left);
    }
    left
}

/// The zero bucket ends at zero where all other observations are on one side.
fn narrowed_zero(histogram: &Histogram, has_negative: bool, has_positive: bool) -> Bucket {
    let mut bucket = bounds::zero(histogram);
    if has_negative && !has_positive {
        bucket.upper = 0.0;
    }
    if has_positive && !has_negative {
        bucket.lower = 0.0;
    }
    bucket
}

impl Trimmed {
    fn keep(&mut self, count: &mut f64, kept: f64, middle: f64) {
        self.count += kept;
        self.sum += middle * kept;
        if *count != kept {
            *count = kept;
            self.is_changed = true;
        }
    }

    fn side(&mut self, buckets: &[Bucket], counts: &mut [f64], is_positive: bool) {
        for (bucket, count) in buckets.iter().zip(counts) {
            if bucket.count == 0.0 {
                continue;
            }
            let (is_whole, is_touched) = if self.is_upper {
                (bucket.upper <= self.rhs, bucket.lower < self.rhs)
            } else {
                (bucket.lower >= self.rhs, bucket.upper > self.rhs)
            };
            if is_whole {
                let middle = self.middle(bucket.lower, bucket.upper, is_positive);
                self.count += bucket.count;
                self.sum += middle * bucket.count;
            } else if is_touched {
                let (kept, middle) = self.part(bucket, is_positive);
                self.keep(count, kept, middle);
            } else {
                *count = 0.0;
                self.is_changed = true;
            }
        }
    }

    /// Gives how many observations of a bucket that holds the value are kept, and where their middle is.
    fn part(&self, bucket: &Bucket, is_positive: bool) -> (f64, f64) {
        if bucket.lower == f64::NEG_INFINITY {
            return self.part_without_lower(bucket);
        }
        if bucket.upper == f64::INFINITY {
            // Where in it they are is not known: some may lie above any value, none need lie below one.
            return if self.is_upper {
                (0.0, bucket.lower)
            } else {
                (bucket.count, self.rhs)
            };
        }
        let below = bucket.count * bucket.share_below(self.rhs, self.has_custom_bounds);
        if self.is_upper {
            (below, self.middle(bucket.lower, self.rhs, is_positive))
        } else {
            (
                bucket.count - below,
                self.middle(self.rhs, bucket.upper, is_positive),
            )
        }
    }

    /// The lowest custom bucket counts as beginning at zero when it ends above.
    fn part_without_lower(&self, bucket: &Bucket) -> (f64, f64) {
        let (rhs, upper) = (self.rhs, bucket.upper);
        let unknown = (0.0, if upper.is_infinite() { 0.0 } else { upper });
        if self.is_upper {
            if rhs > 0.0 && upper > 0.0 && upper.is_finite() {
                return (bucket.count * rhs / upper, rhs / 2.0);
            }
            return if upper <= 0.0 {
                (bucket.count, rhs)
            } else {
                unknown
            };
        }
        if rhs >= 0.0 && upper > rhs && upper.is_finite() {
            return (bucket.count * (1.0 - rhs / upper), (rhs + upper) / 2.0);
        }
        unknown
    }

    fn zero(&self, bucket: &Bucket) -> (f64, f64) {
        let (rhs, lower, upper) = (self.rhs, bucket.lower, bucket.upper);
        let (is_whole, is_gone) = if self.is_upper {
            (rhs >= upper, rhs <= lower)
        } else {
            (rhs <= lower, rhs >= upper)
        };
        // At a bucket without width both hold.
        if is_gone && (self.is_upper || !is_whole) {
            return (0.0, 0.0);
        }
        if is_whole {
            return (bucket.count, (lower + upper) / 2.0);
        }
        let (from, to) = if self.is_upper { (lower, rhs) } else { (rhs, upper) };
        let share = (to - from) / (upper - lower);
        (bucket.count * share, (from + to) / 2.0)
    }

    /// The middle of what is left between two bounds.
    fn middle(&self, lower: f64, upper: f64, is_positive: bool) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => 0.0,
            (true, false) if upper > 0.0 => upper / 2.0,
            (true, false) => upper,
            (false, true) => lower,
            _ if self.has_custom_bounds => (lower + upper) / 2.0,
            _ => {
                let middle = (lower * upper).abs().sqrt();
                if is_positive { middle } else { -middle }
            }
        }
    }
}

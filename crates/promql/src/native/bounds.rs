//! Where buckets begin and end.
//!
//! Source: the sparse histograms of Prometheus: bounds of schema n are the powers of 2^(2^−n).

use std::sync::OnceLock;

use marketprism_model::{Histogram, histogram::SCHEMA_MAX};

/// Bounds of the finest schema between ½ and 1; coarser schemas have every 2nd, 4th … of them.
const FINEST: usize = 1 << SCHEMA_MAX;

/// A bucket with its bounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Bucket {
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    pub(crate) has_lower: bool,
    pub(crate) has_upper: bool,
    pub(crate) count: f64,
}

impl Bucket {
    /// The share of the bucket's width below a value inside it: on a straight scale, or on one on which
    /// exponential buckets are equally wide.
    pub(crate) fn share_below(&self, value: f64, is_linear: bool) -> f64 {
        if is_linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper) = (self.lower.abs().log2(), self.upper.abs().log2());
        let at = value.abs().log2();
        if value > 0.0 {
            (at - lower) / (upper - lower)
        } else {
            1.0 - (at - upper) / (lower - upper)
        }
    }
}

/// The figures are those that clients and servers have in tables: square roots of 2, each schema's from the one
/// before, starting from the root rounded down.
fn finest() -> &'static [f64; FINEST] {
    static BOUNDS: OnceLock<[f64; FINEST]> = OnceLock::new();
    BOUNDS.get_or_init(|| {
        let mut bounds = [0.5; FINEST];
        bounds[FINEST / 2] = std::f64::consts::FRAC_1_SQRT_2.next_down();
        let (mut distance, mut factor) = (FINEST / 2, std::f64::consts::SQRT_2);
        while distance > 1 {
            factor = factor.sqrt();
            for place in (0..FINEST).step_by(distance) {
                bounds[place + distance / 2] = bounds[place] * factor;
            }
            distance /= 2;
        }
        bounds
    })
}

/// Calculates `fraction · 2^exponent` with one rounding; `fraction` lies in ½ … 1.
fn scaled(fraction: f64, exponent: i64) -> f64 {
    let exponent = exponent.clamp(-1200, 1200);
    let power = |exponent: i64| f64::from_bits(((exponent + 1023) as u64) << 52);
    let half = exponent / 2;
    fraction * power(half) * power(exponent - half)
}

/// The upper bound of a positive bucket of an exponential schema.
pub(crate) fn exponential(index: i32, schema: i32) -> f64 {
    if schema < 0 {
        let exponent = i64::from(index) << (-schema).min(31);
        // The last bucket of finite numbers ends at the greatest of them.
        return if exponent == 1024 {
            f64::MAX
        } else {
            scaled(1.0, exponent)
        };
    }
    if schema > SCHEMA_MAX {
        // No store takes such a schema; whoever builds a histogram by hand gets an answer all the same.
        return (f64::from(index) / f64::from(schema).exp2()).exp2();
    }
    let within = (index & ((1 << schema) - 1)) as usize;
    let fraction = finest()[within << (SCHEMA_MAX - schema)];
    let exponent = (i64::from(index) >> schema) + 1;
    if fraction == 0.5 && exponent == 1025 {
        return f64::MAX;
    }
    scaled(fraction, exponent)
}

/// The upper bound of a positive bucket.
pub(crate) fn bound(index: i32, schema: i32, custom: Option<&[f64]>) -> f64 {
    match custom {
        None => exponential(index, schema),
        Some(_) if index < 0 => f64::NEG_INFINITY,
        Some(bounds) => bounds.get(index as usize).copied().unwrap_or(f64::INFINITY),
    }
}

fn custom(histogram: &Histogram) -> Option<&[f64]> {
    histogram.has_custom_bounds().then_some(&*histogram.custom_bounds)
}

/// The buckets above zero, rising; with custom bounds, all.
pub(crate) fn positive(histogram: &Histogram) -> Vec<Bucket> {
    let (schema, custom) = (histogram.schema, custom(histogram));
    let mut all = Vec::with_capacity(histogram.positive.counts.len());
    histogram.positive.each(|index, count| {
        let (lower, upper) = (
            bound(index.saturating_sub(1), schema, custom),
            bound(index, schema, custom),
        );
        all.push(Bucket {
            lower,
            upper,
            has_lower: if custom.is_some() { index == 0 } else { lower < 0.0 },
            has_upper: custom.is_some() || upper > 0.0,
            count,
        });
    });
    all
}

/// The buckets below zero, falling: from the one next to zero.
pub(crate) fn negative(histogram: &Histogram) -> Vec<Bucket> {
    let schema = histogram.schema;
    let mut all = Vec::with_capacity(histogram.negative.counts.len());
    if histogram.has_custom_bounds() {
        return all;
    }
    histogram.negative.each(|index, count| {
        let (lower, upper) = (
            -exponential(index, schema),
            -exponential(index.saturating_sub(1), schema),
        );
        all.push(Bucket {
            lower,
            upper,
            has_lower: lower < 0.0,
            has_upper: upper > 0.0,
            count,
        });
    });
    all
}

/// The bucket around zero.
pub(crate) fn zero(histogram: &Histogram) -> Bucket {
    Bucket {
        lower: -histogram.zero_threshold,
        upper: histogram.zero_threshold,
        has_lower: true,
        has_upper: true,
        count: histogram.zero_count,
    }
}

/// All buckets, rising. What the zero bucket covers is no part of those next to it.
pub(crate) fn ascending(histogram: &Histogram) -> Vec<Bucket> {
    let threshold = histogram.zero_threshold;
    let mut all = negative(histogram);
    all.reverse();
    if histogram.zero_count > 0.0 && !histogram.has_custom_bounds() {
        all.push(zero(histogram));
    }
    all.extend(positive(histogram));
    for bucket in &mut all {
        if bucket.upper < 0.0 && bucket.upper > -threshold {
            bucket.upper = -threshold;
        } else if bucket.lower > 0.0 && bucket.lower < threshold {
            bucket.lower = threshold;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_powers_of_the_root_that_the_schema_names() {
        let check = |index, schema, expected: f64| assert_eq!(exponential(index, schema), expected);
        check(0, 0, 1.0);
        check(1, 0, 2.0);
        check(-1, 0, 0.5);
        check(1, -1, 4.0);
        check(1, -4, 65536.0);
        check(-1, -4, 1.0 / 65536.0);
        check(4, 2, 2.0);
        // As the tables of clients and servers have them.
        check(1, 1, std::f64::consts::SQRT_2.next_down());
        check(-1, 1, std::f64::consts::FRAC_1_SQRT_2.next_down());
        check(-7, 3, 0.5452538663326288);
        check(1023, 0, 2f64.powi(1023));
        check(1024, 0, f64::MAX);
        check(1025, 0, f64::INFINITY);
        check(64, -4, f64::MAX);
        check(-1074, 0, 5e-324);
        check(i32::MAX, 0, f64::INFINITY);
        check(i32::MIN, -4, 0.0);
    }

    #[test]
    fn every_bound_is_near_the_power_it_stands_for() {
        for (place, bound) in finest().iter().enumerate() {
            let power = (place as f64 / FINEST as f64 - 1.0).exp2();
            assert!((bound / power - 1.0).abs() < 1e-14, "{place}: {bound} {power}");
        }
    }

    #[test]
    fn custom_bounds_reach_from_infinity_to_infinity() {
        let bounds = Some(&[1.0, 2.0][..]);
        assert_eq!(bound(-1, -53, bounds), f64::NEG_INFINITY);
        assert_eq!(bound(1, -53, bounds), 2.0);
        assert_eq!(bound(2, -53, bounds), f64::INFINITY);
    }
}

//! What holds for all histograms.

use std::collections::BTreeMap;
use std::sync::Arc;

use marketprism_model::{Histogram, ResetHint};
use proptest::prelude::*;

use super::bounds::{ascending, exponential};
use super::cells;
use super::{Total, compact, divided, fraction, is_equal, is_reset, quantile, scaled, variance};

/// Whole counts, so that sums are exact.
fn side() -> impl Strategy<Value = BTreeMap<i32, u16>> {
    proptest::collection::btree_map(-16i32..24, 1u16..500, 0..12)
}

fn exponential_histogram() -> impl Strategy<Value = Histogram> {
    (-4i32..=8, 0usize..4, 0u16..50, side(), side()).prop_map(
        |(schema, zero, zero_count, positive, negative)| {
            let pairs = |side: &BTreeMap<i32, u16>| {
                let threshold = [0.0, 0.01, 0.3, 1.0][zero];
                let pairs: Vec<(i32, f64)> = side
                    .iter()
                    .map(|(index, count)| (*index, f64::from(*count)))
                    .filter(|(index, _)| exponential(*index, schema) > threshold)
                    .collect();
                cells::buckets(pairs.into_iter())
            };
            let mut made = Histogram {
                schema,
                zero_threshold: [0.0, 0.01, 0.3, 1.0][zero],
                zero_count: f64::from(zero_count),
                positive: pairs(&positive),
                negative: pairs(&negative),
                ..Histogram::default()
            };
            made.count = buckets_total(&made);
            made.sum = made.count * 0.5;
            made
        },
    )
}

fn custom_histogram() -> impl Strategy<Value = Histogram> {
    let counts = proptest::collection::vec(0u16..500, 6);
    let bounds = proptest::sample::subsequence(vec![-2.0, 0.0, 0.5, 1.0, 5.0], 1..=5);
    (bounds, counts).prop_map(|(bounds, counts)| {
        let pairs = counts.iter().take(bounds.len() + 1).enumerate();
        let mut made = Histogram {
            schema: -53,
            positive: cells::buckets(pairs.map(|(index, count)| (index as i32, f64::from(*count)))),
            custom_bounds: Arc::from(bounds),
            ..Histogram::default()
        };
        made.count = buckets_total(&made);
        made.sum = made.count;
        made
    })
}

fn buckets_total(histogram: &Histogram) -> f64 {
    let sides = histogram.positive.counts.iter().chain(&histogram.negative.counts);
    histogram.zero_count + sides.sum::<f64>()
}

fn any_histogram() -> impl Strategy<Value = Histogram> {
    prop_oneof![exponential_histogram(), custom_histogram()]
}

/// Two of one kind.
fn pair() -> impl Strategy<Value = (Histogram, Histogram)> {
    prop_oneof![
        (exponential_histogram(), exponential_histogram()),
        (custom_histogram(), custom_histogram())
    ]
}

fn sum(one: &Histogram, other: &Histogram) -> Histogram {
    let mut total = Total::of(one);
    total.add(other).expect("they are of one kind");
    let mut made = total.plain();
    compact(&mut made);
    made
}

proptest! {
    /// Where both the schema and the zero bucket differ, a bucket that reached into the zero bucket only when it
    /// became coarser is counted there too, on the side of the finer histogram. So does Prometheus.
    #[test]
    fn a_sum_is_the_same_in_either_order((one, other) in pair()) {
        prop_assume!(one.schema == other.schema || one.zero_threshold == other.zero_threshold);
        let (there, back) = (sum(&one, &other), sum(&other, &one));
        prop_assert!(is_equal(&there, &back), "{:?} {:?}", there, back);
        prop_assert_eq!(there.check(), Ok(()));
    }

    /// Zero buckets that one histogram's bounds cut are counted by the outermost bound, so counts can only be
    /// compared where thresholds agree.
    #[test]
    fn a_sum_loses_no_observation((one, mut other) in pair()) {
        if one.zero_threshold == other.zero_threshold {
            prop_assert_eq!(buckets_total(&sum(&one, &other)), one.count + other.count);
        }
        other.zero_threshold = one.zero_threshold;
        prop_assert_eq!(sum(&one, &other).count, one.count + other.count);
    }

    /// More is counted where a bucket came to reach into the zero bucket, never less.
    #[test]
    fn a_sum_of_many_loses_no_observation(all in proptest::collection::vec(exponential_histogram(), 2..5)) {
        let mut total = Total::of(&all[0]);
        for other in &all[1..] {
            total.add(other).expect("they are of one kind");
        }
        let made = total.compensated();
        let count: f64 = all.iter().map(|histogram| histogram.count).sum();
        prop_assert_eq!(made.count, count);
        prop_assert!(buckets_total(&made) >= count, "{:?}", made);
    }

    #[test]
    fn what_is_added_can_be_subtracted((one, other) in pair()) {
        let mut total = Total::of(&sum(&one, &other));
        total.subtract(&other).expect("they are of one kind");
        let mut left = total.plain();
        compact(&mut left);
        // In the layout of the sum, nothing else is left.
        let empty = Histogram { count: 0.0, sum: 0.0, ..scaled(&other, 0.0) };
        let mut expected = sum(&one, &empty);
        compact(&mut expected);
        prop_assert_eq!((left.count, left.sum), (one.count, one.sum));
        if one.zero_threshold == other.zero_threshold {
            prop_assert!(is_equal(&left, &expected), "{:?} {:?}", left, expected);
        }
    }

    #[test]
    fn a_counter_that_grew_was_not_reset((one, other) in pair()) {
        if one.custom_bounds == other.custom_bounds && one.zero_threshold == other.zero_threshold {
            let after = sum(&one, &other);
            prop_assert!(!is_reset(&after, &one), "{:?} after {:?}", after, one);
            let has_less = other.count > 0.0;
            prop_assert_eq!(is_reset(&one, &after), has_less || one.schema > after.schema);
        }
    }

    #[test]
    fn quantiles_rise_with_their_rank(histogram in any_histogram(), one in 0.0..=1.0f64, other in 0.0..=1.0f64) {
        prop_assume!(histogram.count > 0.0);
        let (low, high) = (one.min(other), one.max(other));
        let (below, above) = (quantile(low, &histogram).0, quantile(high, &histogram).0);
        prop_assert!(below <= above + above.abs() * 1e-9, "{} {}", below, above);
    }

    #[test]
    fn a_share_below_a_quantile_is_its_rank(histogram in exponential_histogram(), phi in 0.01..0.99f64) {
        prop_assume!(histogram.count > 0.0);
        let value = quantile(phi, &histogram).0;
        let share = fraction(f64::NEG_INFINITY, value, &histogram).0;
        prop_assert!((share - phi).abs() < 1e-9 || is_between_buckets(&histogram, value), "{} {}", phi, share);
        prop_assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &histogram).0, 1.0);
    }

    #[test]
    fn scaling_is_undone_by_dividing(histogram in any_histogram(), power in 0i32..6) {
        let factor = 2f64.powi(power);
        prop_assert!(is_equal(&divided(&scaled(&histogram, factor), factor), &histogram));
        prop_assert_eq!(scaled(&histogram, -1.0).reset_hint, ResetHint::Gauge);
        let empty = divided(&histogram, 0.0);
        prop_assert!(empty.positive.spans.is_empty() && empty.negative.counts.is_empty());
    }

    #[test]
    fn buckets_rise_and_do_not_overlap(histogram in any_histogram()) {
        let all = ascending(&histogram);
        prop_assert!(all.iter().all(|bucket| bucket.lower <= bucket.upper));
        prop_assert!(all.windows(2).all(|pair| pair[0].upper <= pair[1].lower));
        prop_assert!(histogram.count == 0.0 || variance(&histogram) >= 0.0);
    }
}

/// At such a value the rank jumps, or nothing lies around it.
fn is_between_buckets(histogram: &Histogram, value: f64) -> bool {
    ascending(histogram)
        .iter()
        .any(|bucket| (bucket.lower - value).abs() < 1e-9 || (bucket.upper - value).abs() < 1e-9)
}

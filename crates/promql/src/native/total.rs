//! Sums of histograms in the making.
//!
//! Each count keeps what its additions lost; whether that is counted in the end is the caller's choice, as it is
//! Prometheus': sums and averages over many are compensated, an operator between two is not.

use std::sync::Arc;

use marketprism_model::{Histogram, ResetHint};

use super::bounds::{bound, exponential};
use super::cells::{self, Cell};
use crate::sum;

/// One histogram has custom bounds, the other has not: nothing can be made of both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Incompatible;

/// What was remarkable about an addition.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Added {
    /// One counter was reset, the other was not.
    pub(crate) hints_collide: bool,
    /// Custom bounds differed, and only those that both have are left.
    pub(crate) bounds_reconciled: bool,
}

/// A number and what its additions lost.
type Part = (f64, f64);

/// A histogram to which others are added.
#[derive(Clone, Debug)]
pub(crate) struct Total {
    hint: ResetHint,
    schema: i32,
    zero_threshold: f64,
    zero: Part,
    count: Part,
    sum: Part,
    positive: Vec<Cell>,
    negative: Vec<Cell>,
    custom_bounds: Arc<[f64]>,
}

impl Total {
    pub(crate) fn of(histogram: &Histogram) -> Self {
        Total {
            hint: histogram.reset_hint,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero: (histogram.zero_count, 0.0),
            count: (histogram.count, 0.0),
            sum: (histogram.sum, 0.0),
            positive: cells::cells(&histogram.positive),
            negative: cells::cells(&histogram.negative),
            custom_bounds: Arc::clone(&histogram.custom_bounds),
        }
    }

    fn has_custom_bounds(&self) -> bool {
        self.schema == marketprism_model::histogram::CUSTOM_BOUNDS_SCHEMA
    }

    pub(crate) fn add(&mut self, other: &Histogram) -> Result<Added, Incompatible> {
        self.combine(other, 1.0)
    }

    pub(crate) fn subtract(&mut self, other: &Histogram) -> Result<Added, Incompatible> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &Histogram, sign: f64) -> Result<Added, Incompatible> {
        if self.has_custom_bounds() != other.has_custom_bounds() {
            return Err(Incompatible);
        }
        let hints_collide = self.adjust_hint(other.reset_hint);
        let mut bounds_reconciled = false;
        let (mut positive, mut negative) = (cells::cells(&other.positive), Vec::new());
        if self.has_custom_bounds() {
            if !Arc::ptr_eq(&self.custom_bounds, &other.custom_bounds)
                && self.custom_bounds != other.custom_bounds
            {
                bounds_reconciled = true;
                self.combine_bounds(&positive, &other.custom_bounds, sign);
                positive.clear();
            }
        } else {
            negative = cells::cells(&other.negative);
            let (zero, lost) = self.reconcile_zero(other, &positive, &negative);
            self.zero = sum::add(sign * zero, self.zero.0, self.zero.1);
            self.zero = sum::add(sign * lost, self.zero.0, self.zero.1);
            self.meet_in_schema(other.schema, &mut positive, &mut negative);
            let (schema, threshold) = (self.schema, self.zero_threshold);
            let is_outside = |cell: &Cell| exponential(cell.index, schema) > threshold;
            positive.drain(..positive.partition_point(|cell| !is_outside(cell)));
            negative.drain(..negative.partition_point(|cell| !is_outside(cell)));
        }
        self.count = sum::add(sign * other.count, self.count.0, self.count.1);
        self.sum = sum::add(sign * other.sum, self.sum.0, self.sum.1);
        cells::merge(&mut self.positive, &positive, sign);
        cells::merge(&mut self.negative, &negative, sign);
        Ok(Added {
            hints_collide,
            bounds_reconciled,
        })
    }

    /// Brings both into the coarser of their schemas.
    fn meet_in_schema(&mut self, other: i32, positive: &mut Vec<Cell>, negative: &mut Vec<Cell>) {
        if other < self.schema {
            cells::reduce(&mut self.positive, self.schema, other);
            cells::reduce(&mut self.negative, self.schema, other);
            self.schema = other;
        } else {
            cells::reduce(positive, other, self.schema);
            cells::reduce(negative, other, self.schema);
        }
    }

    /// Merges buckets into those of a coarser schema.
    pub(crate) fn reduce_to(&mut self, schema: i32) {
        if schema < self.schema && !self.has_custom_bounds() {
            cells::reduce(&mut self.positive, self.schema, schema);
            cells::reduce(&mut self.negative, self.schema, schema);
            self.schema = schema;
        }
    }

    /// Brings the hint to what holds for both; says whether they contradict each other.
    fn adjust_hint(&mut self, other: ResetHint) -> bool {
        use ResetHint::{Gauge, NotReset, Reset, Unknown};
        let (hint, collide) = match (self.hint, other) {
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Reset, NotReset) | (NotReset, Reset) => (Unknown, true),
            (Unknown, _) | (_, Unknown) => (Unknown, false),
            (same, _) => (same, false),
        };
        self.hint = hint;
        collide
    }

    /// Maps both histograms to the bounds that they share.
    fn combine_bounds(&mut self, other: &[Cell], other_bounds: &[f64], sign: f64) {
        let shared = intersection(&self.custom_bounds, other_bounds);
        let mut mapped: Vec<Cell> = (0..=shared.len() as i32)
            .map(|index| Cell::new(index, 0.0))
            .collect();
        let mut map = |cells: &[Cell], bounds: &[f64], sign: f64| {
            for cell in cells {
                let upper = bound(cell.index, self.schema, Some(bounds));
                let target = shared.partition_point(|bound| *bound < upper);
                mapped[target].add(sign * cell.count);
                mapped[target].add(sign * cell.lost);
            }
        };
        map(&self.positive, &self.custom_bounds, 1.0);
        map(other, other_bounds, sign);
        mapped.retain(|cell| !cell.is_empty());
        self.positive = mapped;
        self.custom_bounds = Arc::from(shared);
    }

    /// Widens the zero bucket until it fits both; gives the other's zero count at that width.
    fn reconcile_zero(&mut self, other: &Histogram, positive: &[Cell], negative: &[Cell]) -> Part {
        let (mut other_zero, mut other_threshold) = ((other.zero_count, 0.0), other.zero_threshold);
        loop {
            if self.zero_threshold > other_threshold {
                let zero = (other.zero_count, 0.0);
                (other_zero, other_threshold) =
                    widened(positive, negative, other.schema, zero, self.zero_threshold);
            } else if other_threshold > self.zero_threshold {
                (self.zero, self.zero_threshold) = widened(
                    &self.positive,
                    &self.negative,
                    self.schema,
                    self.zero,
                    other_threshold,
                );
                self.drop_what_zero_covers();
            } else {
                return other_zero;
            }
        }
    }

    fn drop_what_zero_covers(&mut self) {
        let (schema, threshold) = (self.schema, self.zero_threshold);
        for side in [&mut self.positive, &mut self.negative] {
            let is_covered = |cell: &Cell| exponential(cell.index.saturating_sub(1), schema) < threshold;
            side.drain(..side.partition_point(is_covered));
            side.retain(|cell| !cell.is_empty());
        }
    }

    fn change(&mut self, change: impl Fn(f64) -> f64) {
        for part in [&mut self.zero, &mut self.count, &mut self.sum] {
            *part = (change(part.0), change(part.1));
        }
        for cell in self.positive.iter_mut().chain(&mut self.negative) {
            (cell.count, cell.lost) = (change(cell.count), change(cell.lost));
        }
    }

    /// Multiplies everything by a factor that is not negative.
    pub(crate) fn multiply(&mut self, factor: f64) {
        self.change(|value| value * factor);
    }

    /// Divides everything by a positive number.
    pub(crate) fn divide(&mut self, by: f64) {
        self.change(|value| value / by);
    }

    /// Says whether any count or the sum is infinite.
    pub(crate) fn has_overflow(&self) -> bool {
        let parts = [self.zero.0, self.count.0, self.sum.0];
        let cells = self.positive.iter().chain(&self.negative).map(|cell| cell.count);
        parts.into_iter().chain(cells).any(f64::is_infinite)
    }

    /// Makes the histogram, leaving out what additions lost.
    pub(crate) fn plain(self) -> Histogram {
        self.finish(|count, _| count)
    }

    /// Makes the histogram, with what additions lost.
    pub(crate) fn compensated(self) -> Histogram {
        self.finish(|count, lost| count + lost)
    }

    fn finish(self, value: impl Fn(f64, f64) -> f64) -> Histogram {
        let side = |cells: &[Cell]| {
            cells::buckets(
                cells
                    .iter()
                    .map(|cell| (cell.index, value(cell.count, cell.lost))),
            )
        };
        Histogram {
            reset_hint: self.hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: value(self.zero.0, self.zero.1),
            count: value(self.count.0, self.count.1),
            sum: value(self.sum.0, self.sum.1),
            positive: side(&self.positive),
            negative: side(&self.negative),
            custom_bounds: self.custom_bounds,
        }
    }
}

/// Gives the zero count and the threshold of a histogram whose zero bucket reaches at least to `threshold`: where
/// that lies inside a populated bucket, it reaches to that bucket's end.
pub(super) fn widened(
    positive: &[Cell],
    negative: &[Cell],
    schema: i32,
    zero: Part,
    mut threshold: f64,
) -> (Part, f64) {
    // Counts both sides up to the threshold, and moves it where a populated bucket reaches beyond.
    'again: loop {
        let mut count = zero;
        for (place, side) in [positive, negative].into_iter().enumerate() {
            for cell in side {
                if exponential(cell.index.saturating_sub(1), schema) >= threshold {
                    break;
                }
                count = sum::add(cell.count, count.0, count.1);
                count = sum::add(cell.lost, count.0, count.1);
                let upper = exponential(cell.index, schema);
                if upper > threshold {
                    if cell.count != 0.0 {
                        threshold = upper;
                        // The other side was counted up to a smaller threshold.
                        if place == 1 {
                            continue 'again;
                        }
                    }
                    break;
                }
            }
        }
        return (count, threshold);
    }
}

/// Gives the bounds that are in both, rising.
pub(super) fn intersection(one: &[f64], other: &[f64]) -> Vec<f64> {
    let mut rest = other;
    let mut shared = Vec::new();
    for bound in one {
        rest = &rest[rest.partition_point(|candidate| candidate < bound)..];
        if rest.first() == Some(bound) {
            shared.push(*bound);
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential_histogram(schema: i32, zero: (f64, f64), positive: &[(i32, f64)]) -> Histogram {
        let count = zero.1 + positive.iter().map(|(_, count)| count).sum::<f64>();
        Histogram {
            schema,
            zero_threshold: zero.0,
            zero_count: zero.1,
            count,
            sum: count,
            positive: cells::buckets(positive.iter().copied()),
            ..Histogram::default()
        }
    }

    fn pairs(histogram: &Histogram) -> Vec<(i32, f64)> {
        cells::cells(&histogram.positive)
            .iter()
            .map(|c| (c.index, c.count))
            .collect()
    }

    #[test]
    fn histograms_meet_in_the_coarser_schema() {
        let mut total = Total::of(&exponential_histogram(
            1,
            (0.0, 0.0),
            &[(1, 1.0), (2, 2.0), (3, 4.0)],
        ));
        let outcome = total.add(&exponential_histogram(0, (0.0, 0.0), &[(1, 10.0), (4, 1.0)]));
        assert_eq!(outcome, Ok(Added::default()));
        let sum = total.plain();
        assert_eq!((sum.schema, sum.count), (0, 18.0));
        assert_eq!(pairs(&sum), [(1, 13.0), (2, 4.0), (4, 1.0)]);
    }

    #[test]
    fn a_zero_bucket_grows_to_the_end_of_a_populated_bucket() {
        // 0.75 lies inside (0.5, 1], which holds observations, so the zero bucket must reach to 1.
        let mut total = Total::of(&exponential_histogram(0, (0.75, 3.0), &[(2, 5.0)]));
        total
            .add(&exponential_histogram(
                0,
                (0.25, 1.0),
                &[(0, 2.0), (1, 4.0), (2, 1.0)],
            ))
            .expect("both are exponential");
        let sum = total.plain();
        assert_eq!((sum.zero_threshold, sum.zero_count, sum.count), (1.0, 6.0, 16.0));
        assert_eq!(pairs(&sum), [(1, 4.0), (2, 6.0)]);
    }

    #[test]
    fn custom_bounds_that_differ_leave_those_of_both() {
        let custom = |bounds: &[f64], counts: &[(i32, f64)]| Histogram {
            schema: -53,
            count: counts.iter().map(|(_, count)| count).sum(),
            positive: cells::buckets(counts.iter().copied()),
            custom_bounds: Arc::from(bounds),
            ..Histogram::default()
        };
        let mut total = Total::of(&custom(
            &[1.0, 2.0, 5.0],
            &[(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)],
        ));
        let outcome = total.add(&custom(&[2.0, 3.0], &[(0, 10.0), (1, 20.0)]));
        assert!(outcome.is_ok_and(|added| added.bounds_reconciled));
        let sum = total.plain();
        assert_eq!(*sum.custom_bounds, [2.0]);
        assert_eq!(pairs(&sum), [(0, 13.0), (1, 27.0)]);
        assert_eq!(
            Total::of(&sum).add(&exponential_histogram(0, (0.0, 0.0), &[])),
            Err(Incompatible)
        );
    }

    #[test]
    fn hints_meet_in_what_holds_for_both() {
        use ResetHint::{Gauge, NotReset, Reset, Unknown};
        let check = |one, other, expected, collides| {
            let of = |hint| Histogram {
                reset_hint: hint,
                ..Histogram::default()
            };
            let mut total = Total::of(&of(one));
            let added = total.add(&of(other)).expect("both are exponential");
            assert_eq!(
                (total.plain().reset_hint, added.hints_collide),
                (expected, collides)
            );
        };
        check(Reset, Reset, Reset, false);
        check(Reset, NotReset, Unknown, true);
        check(NotReset, Unknown, Unknown, false);
        check(Unknown, Gauge, Gauge, false);
        check(Gauge, Reset, Gauge, false);
    }

    #[test]
    fn what_large_counts_would_swallow_is_kept() {
        let of = |count: f64| exponential_histogram(0, (0.0, 0.0), &[(0, count)]);
        let mut total = Total::of(&of(1e100));
        for count in [1.0, -1e100, 1.0] {
            total.add(&of(count)).expect("both are exponential");
        }
        assert_eq!(total.clone().compensated().count, 2.0);
        assert_eq!(pairs(&total.compensated()), [(0, 2.0)]);
    }

    #[test]
    fn a_threshold_that_is_no_number_ends_nothing_in_a_loop() {
        let mut total = Total::of(&exponential_histogram(0, (f64::NAN, 1.0), &[(0, 1.0)]));
        assert!(
            total
                .add(&exponential_histogram(0, (0.5, 1.0), &[(1, 1.0)]))
                .is_ok()
        );
    }
}

//! Sums that keep the small parts which large ones would swallow.
//!
//! Source: Neumaier's improvement of Kahan summation (1974), with Prometheus 3's rule that an
//! overflowing sum drops its compensation.

/// Adds `value` to a sum and its compensation.
#[inline(always)]
pub(crate) fn add(value: f64, sum: f64, lost: f64) -> (f64, f64) {
    let total = sum + value;
    let lost = if total.is_infinite() {
        0.0
    } else if sum.abs() >= value.abs() {
        lost + ((sum - total) + value)
    } else {
        lost + ((value - total) + sum)
    };
    (total, lost)
}

/// A sum in the making.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    #[inline(always)]
    pub(crate) fn add(&mut self, value: f64) {
        (self.sum, self.lost) = add(value, self.sum, self.lost);
    }

    #[inline(always)]
    pub(crate) fn total(self) -> f64 {
        if self.sum.is_infinite() {
            self.sum
        } else {
            self.sum + self.lost
        }
    }
}

/// A mean in the making: a sum for as long as it does not overflow, then an incremental mean.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mean {
    count: f64,
    sum: f64,
    lost: f64,
    is_incremental: bool,
}

impl Mean {
    #[inline(always)]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.sum = value;
            return;
        }
        if !self.is_incremental {
            let (sum, lost) = add(value, self.sum, self.lost);
            if !sum.is_infinite() {
                (self.sum, self.lost) = (sum, lost);
                return;
            }
            self.is_incremental = true;
            self.sum /= self.count - 1.0;
            self.lost /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        (self.sum, self.lost) = add(value / self.count, share * self.sum, share * self.lost);
    }

    #[inline(always)]
    pub(crate) fn mean(self) -> f64 {
        if self.is_incremental {
            self.sum + self.lost
        } else {
            self.sum / self.count + self.lost / self.count
        }
    }
}

/// Calculates the φ-quantile of values by linear interpolation between ranks; sorts them, NaN first.
///
/// NaN for no values or a NaN φ, −Inf below 0, +Inf above 1.
pub(crate) fn quantile(phi: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| nan_first(*a, *b));
    let rank = phi * (values.len() - 1) as f64;
    let lower = rank.floor();
    let upper = (lower + 1.0).min((values.len() - 1) as f64);
    let weight = rank - lower;
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// Orders numbers, NaN below all.
pub(crate) fn nan_first(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_keeps_what_large_values_would_swallow() {
        let mut sum = Sum::default();
        for value in [1e100, 1.0, -1e100, 1.0] {
            sum.add(value);
        }
        assert_eq!(sum.total(), 2.0);
    }

    #[test]
    fn a_mean_survives_the_overflow_of_its_sum() {
        let mut mean = Mean::default();
        for value in [f64::MAX, f64::MAX, f64::MAX] {
            mean.add(value);
        }
        assert!((mean.mean() / f64::MAX - 1.0).abs() < 1e-15);
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        let check = |phi, expected: f64| {
            let found = quantile(phi, &mut [3.0, 1.0, 2.0, 0.0]);
            assert!(
                found == expected || found.is_nan() && expected.is_nan(),
                "{phi}: {found}"
            );
        };
        check(0.0, 0.0);
        check(0.5, 1.5);
        check(1.0, 3.0);
        check(-0.1, f64::NEG_INFINITY);
        check(1.1, f64::INFINITY);
        check(f64::NAN, f64::NAN);
    }
}

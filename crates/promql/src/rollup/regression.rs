//! Trends over a window: least squares, and double exponential smoothing.
//!
//! Source: Prometheus 3, `deriv`, `predict_linear`, `double_exponential_smoothing`; Holt's linear method.

use crate::column::ABSENT;
use crate::sum::Sum;

/// Gives slope per second and value at `origin` of the least-squares line.
fn line(timestamps: &[i64], values: &[f64], origin: i64) -> (f64, f64) {
    let first = values[0];
    if values.iter().all(|value| *value == first) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) = Default::default();
    let add = |sum: &mut Sum, value: f64| sum.add(value);
    for (at, value) in timestamps.iter().zip(values) {
        let x = (at - origin) as f64 / 1000.0;
        add(&mut x_sum, x);
        add(&mut y_sum, *value);
        add(&mut xy_sum, x * value);
        add(&mut xx_sum, x * x);
    }
    let count = values.len() as f64;
    let (x, y) = (x_sum.total(), y_sum.total());
    let covariance = xy_sum.total() - x * y / count;
    let variance = xx_sum.total() - x * x / count;
    let slope = covariance / variance;
    (slope, y / count - slope * x / count)
}

/// `deriv`: the slope per second.
pub(super) fn derivative(timestamps: &[i64], values: &[f64]) -> f64 {
    if values.len() < 2 {
        return ABSENT;
    }
    line(timestamps, values, timestamps[0]).0
}

/// `predict_linear`: the line's value `ahead_s` after `moment`.
pub(super) fn predict(timestamps: &[i64], values: &[f64], moment: i64, ahead_s: f64) -> f64 {
    if values.len() < 2 {
        return ABSENT;
    }
    let (slope, value) = line(timestamps, values, moment);
    slope * ahead_s + value
}

/// `double_exponential_smoothing` with its factors of smoothing and trend.
pub(super) fn smooth(values: &[f64], (smoothing, trend): (f64, f64)) -> f64 {
    let [first, second, ..] = *values else {
        return ABSENT;
    };
    let (mut before, mut level, mut slope) = (0.0, first, second - first);
    for (place, value) in values.iter().enumerate().skip(1) {
        if place > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + slope);
        (before, level) = (level, next);
    }
    level
}

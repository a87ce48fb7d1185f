//! Changes of counters and gauges over a window.
//!
//! Source: Prometheus 3, `rate`, `increase`, `delta`, `irate`, `idelta`, as documented under
//! "Functions", and its extrapolation: up to the window's edge where samples come that close, else half
//! the mean distance of samples; never below zero for a counter.

use super::Roller;
use super::window::{Window, Windows, slide};
use crate::column::ABSENT;

/// Beyond this many mean distances from its edge, a window is taken not to be covered there.
const EDGE_DISTANCES: f64 = 1.1;

/// `rate` (counter, per second), `increase` (counter) and `delta` (gauge).
pub(super) fn extrapolating<'a>(
    windows: &'a Windows<'_>,
    is_counter: bool,
    is_per_second: bool,
) -> Roller<'a> {
    let mut resets: Vec<usize> = Vec::new();
    Box::new(move |timestamps, values, row| {
        resets.clear();
        if is_counter {
            let fell = |place: &usize| values[*place] < values[*place - 1];
            resets.extend((1..values.len()).filter(fell));
        }
        let mut next_reset = 0;
        slide(timestamps, windows, row, |window| {
            while resets.get(next_reset).is_some_and(|place| *place <= window.first) {
                next_reset += 1;
            }
            let mut change = values[window.after_last - 1] - values[window.first];
            for place in resets[next_reset..]
                .iter()
                .take_while(|place| **place < window.after_last)
            {
                change += values[place - 1];
            }
            let floor = is_counter.then(|| values[window.first]);
            extrapolate(timestamps, windows, window, change, floor, is_per_second)
        });
    })
}

/// Stretches a change between the first and last sample of a window to the window. `floor`: the first
/// value of a counter, which cannot have come from below zero.
#[inline(always)]
fn extrapolate(
    timestamps: &[i64],
    windows: &Windows<'_>,
    window: Window,
    change: f64,
    floor: Option<f64>,
    is_per_second: bool,
) -> f64 {
    let intervals = window.after_last - window.first - 1;
    if intervals == 0 {
        return ABSENT;
    }
    let sampled = (timestamps[window.first], timestamps[window.after_last - 1]);
    let floor = floor.map(|first| (first, change));
    change * stretch(windows, window.step, sampled, intervals, floor, is_per_second)
}

/// Gives the factor by which the change between the first and the last sample grows to that of the window. `floor`:
/// the first value of a counter and its change.
#[inline(always)]
pub(super) fn stretch(
    windows: &Windows<'_>,
    step: usize,
    (first, last): (i64, i64),
    intervals: usize,
    floor: Option<(f64, f64)>,
    is_per_second: bool,
) -> f64 {
    let seconds = |from: i64, to: i64| (to - from) as f64 / 1000.0;
    let end = windows.end(step);
    let mut to_start = seconds(end - windows.range_ms, first);
    let mut to_end = seconds(last, end);
    let sampled = seconds(first, last);
    let distance = sampled / intervals as f64;
    let threshold = distance * EDGE_DISTANCES;
    if to_start >= threshold {
        to_start = distance / 2.0;
    }
    if let Some((first_value, change)) = floor
        && change > 0.0
        && first_value >= 0.0
    {
        let to_zero = sampled * (first_value / change);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = distance / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if is_per_second {
        factor /= windows.range_ms as f64 / 1000.0;
    }
    factor
}

/// `irate` (counter, per second) and `idelta` (gauge): between the last two samples.
#[inline(always)]
pub(super) fn between_last_two(timestamps: &[i64], values: &[f64], is_rate: bool) -> f64 {
    let (&[.., before_at, now_at], &[.., before, now]) = (timestamps, values) else {
        return ABSENT;
    };
    let change = if is_rate && now < before {
        now
    } else {
        now - before
    };
    if is_rate {
        change / ((now_at - before_at) as f64 / 1000.0)
    } else {
        change
    }
}

/// `changes` and `resets`: how many neighbours in the window satisfy `counts`.
pub(super) fn counting<'a>(windows: &'a Windows<'_>, counts: impl Fn(f64, f64) -> bool + 'a) -> Roller<'a> {
    // The count up to each place, so that a window's count is a difference.
    let mut running: Vec<u32> = Vec::new();
    Box::new(move |timestamps, values, row| {
        running.clear();
        let mut count = 0;
        for place in 0..values.len() {
            count += u32::from(place > 0 && counts(values[place - 1], values[place]));
            running.push(count);
        }
        slide(timestamps, windows, row, |window| {
            f64::from(running[window.after_last - 1] - running[window.first])
        });
    })
}

//! `anchored` and `smoothed` ranges: functions that take the samples beyond a range's borders into account.
//!
//! An anchored range begins with the last sample before it, a smoothed one has interpolated values at both of its
//! borders. So they look one lookback further back, and smoothed ones one lookback ahead; nothing is extrapolated.
//!
//! Source: Prometheus 3, `promql/functions.go`, `extendedRate` and `pickFirstSampleIndices`, and
//! `promql/engine.go`, `extendFloats`.

use super::Roller;
use super::window::{Window, Windows, slide};
use crate::ast::Extension;
use crate::column::ABSENT;
use crate::functions::Function;
use crate::smooth::interpolated;

/// Makes a roller over windows with their surroundings, which hold the samples that lie in `outer`.
pub(super) fn roller<'a>(
    function: Function,
    extension: Extension,
    windows: &'a Windows<'_>,
    outer: &'a Windows<'_>,
) -> Roller<'a> {
    let is_smoothed = extension == Extension::Smoothed;
    let range_s = windows.range_ms as f64 / 1000.0;
    Box::new(move |timestamps, values, row| {
        slide(timestamps, outer, row, |window: Window| {
            let end = windows.end(window.step);
            let edges = Edges {
                timestamps: &timestamps[window.range()],
                values: &values[window.range()],
                start: end - windows.range_ms,
                end,
            };
            match function {
                Function::Changes => {
                    edges.count(|before, now| now != before && !(now.is_nan() && before.is_nan()))
                }
                Function::Resets => edges.count(|before, now| now < before),
                Function::Delta => edges.change(is_smoothed, false),
                Function::Increase => edges.change(is_smoothed, true),
                _ => match edges.change(is_smoothed, true) {
                    change if crate::column::is_absent(change) => ABSENT,
                    change => change / range_s,
                },
            }
        });
    })
}

/// The samples of a window and its surroundings, at least one, and the borders of the window.
pub(crate) struct Edges<'a> {
    pub(crate) timestamps: &'a [i64],
    pub(crate) values: &'a [f64],
    pub(crate) start: i64,
    pub(crate) end: i64,
}

/// Where a window begins and ends among samples, and its values there.
struct Bounds {
    first: usize,
    last: usize,
    left: f64,
    right: f64,
}

impl Edges<'_> {
    /// Finds the values at the borders; `None` when there is nothing inside.
    fn bounds(&self, is_smoothed: bool, is_counter: bool) -> Option<Bounds> {
        let Edges {
            timestamps,
            values,
            start,
            end,
        } = *self;
        let newest = timestamps.len() - 1;
        let first = timestamps[..newest]
            .partition_point(|at| *at <= start)
            .saturating_sub(1);
        let last = if is_smoothed {
            timestamps[..newest].partition_point(|at| *at < end)
        } else {
            newest
        };
        if timestamps[last] <= start || is_smoothed && timestamps[first] > end {
            return None;
        }
        let point = |place: usize| (timestamps[place], values[place]);
        let left = if is_smoothed && timestamps[first] < start {
            interpolated(point(first), point(first + 1), start, is_counter)
        } else {
            values[first]
        };
        let right = if is_smoothed && last > 0 && timestamps[last] > end {
            interpolated(point(last - 1), point(last), end, is_counter)
        } else {
            values[last]
        };
        Some(Bounds {
            first,
            last,
            left,
            right,
        })
    }

    /// The places of the samples strictly between the borders.
    fn between(&self, bounds: &Bounds) -> std::ops::Range<usize> {
        let first = bounds.first + usize::from(self.timestamps[bounds.first] <= self.start);
        let after_last = bounds.last + usize::from(self.timestamps[bounds.last] < self.end);
        first..after_last.max(first)
    }

    /// What a gauge, or a counter with its resets, has changed by.
    fn change(&self, is_smoothed: bool, is_counter: bool) -> f64 {
        let Some(bounds) = self.bounds(is_smoothed, is_counter) else {
            return ABSENT;
        };
        let mut change = bounds.right - bounds.left;
        if is_counter {
            let (mut lost, mut before) = (0.0, bounds.left);
            let inner = self.values[self.between(&bounds)].iter().copied();
            for now in inner.chain([bounds.right]) {
                if now < before {
                    lost += before;
                }
                before = now;
            }
            change += lost;
        }
        change
    }

    /// How many neighbours satisfy `counts`, from the last sample before the window on.
    fn count(&self, counts: impl Fn(f64, f64) -> bool) -> f64 {
        let inside = self.timestamps.partition_point(|at| *at <= self.start);
        if inside == self.timestamps.len() {
            return ABSENT;
        }
        let pairs = self.values[inside.saturating_sub(1)..].windows(2);
        pairs.filter(|pair| counts(pair[0], pair[1])).count() as f64
    }

    /// The window as samples, with its borders; nothing when there is nothing inside.
    pub(crate) fn samples(&self, extension: Extension) -> Vec<(i64, f64)> {
        let Some(bounds) = self.bounds(extension == Extension::Smoothed, false) else {
            return Vec::new();
        };
        let inner = self
            .between(&bounds)
            .map(|place| (self.timestamps[place], self.values[place]));
        let borders = [(self.start, bounds.left), (self.end, bounds.right)];
        std::iter::once(borders[0])
            .chain(inner)
            .chain([borders[1]])
            .collect()
    }
}

//! Windows, and what slides along them.

use std::collections::VecDeque;
use std::ops::Range;

use marketprism_model::TimeRange;

use super::Roller;
use crate::ast::Extension;
use crate::column::Grid;
use crate::engine::Interrupt;
use crate::evaluate::Run;
use crate::plan::Span;
use crate::select::left_open;

/// This many samples of windows are looked at between two questions to the interrupt.
const INTERRUPT_EVERY: usize = 1 << 20;

/// The window of each step.
pub(crate) struct Windows<'r> {
    interrupt: &'r dyn Interrupt,
    grid: Grid,
    /// End of all windows under `@`.
    pinned: Option<i64>,
    offset_ms: i64,
    pub(crate) range_ms: i64,
}

/// The samples of one window, by their places in the series; never empty.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) step: usize,
    pub(crate) first: usize,
    pub(crate) after_last: usize,
}

impl Window {
    pub(crate) fn range(&self) -> Range<usize> {
        self.first..self.after_last
    }
}

impl<'r> Windows<'r> {
    pub(crate) fn new(run: &Run<'r>, span: Span, grid: Grid) -> Self {
        Windows {
            interrupt: run.interrupt,
            grid,
            pinned: run.pinned(span.shift),
            offset_ms: span.shift.offset_ms,
            range_ms: span.range_ms,
        }
    }

    /// Makes windows that hold what an extended range looks at beyond its borders, too.
    pub(crate) fn surroundings(&self, extension: Extension, lookback_ms: i64) -> Self {
        let ahead_ms = match extension {
            Extension::Anchored => 0,
            Extension::Smoothed => lookback_ms,
        };
        Windows {
            offset_ms: self.offset_ms.saturating_sub(ahead_ms),
            range_ms: self.range_ms.saturating_add(lookback_ms).saturating_add(ahead_ms),
            ..*self
        }
    }

    /// The moment at which a step is evaluated.
    pub(crate) fn moment(&self, step: usize) -> i64 {
        self.grid.moment(step)
    }

    /// The last moment inside the step's window.
    #[inline(always)]
    pub(crate) fn end(&self, step: usize) -> i64 {
        self.pinned.unwrap_or_else(|| self.grid.moment(step)) - self.offset_ms
    }

    /// Says whether whoever asked does not wait any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.interrupt.stop().is_some()
    }

    /// From the first window's start to the last one's end.
    pub(crate) fn reach(&self) -> TimeRange {
        left_open(
            self.end(0) - self.range_ms,
            self.end(self.grid.count.saturating_sub(1)),
        )
    }
}

/// Calls `value` for each step whose window holds samples; ends early when it is told to stop, for then
/// nobody looks at the row.
#[inline(always)]
pub(crate) fn slide(
    timestamps: &[i64],
    windows: &Windows<'_>,
    row: &mut [f64],
    mut value: impl FnMut(Window) -> f64,
) {
    if let [cell] = row {
        let end = windows.end(0);
        // What was read is the window as a rule, so its first sample is the first that is there.
        let start = end - windows.range_ms;
        let first = match timestamps.first() {
            Some(first) if *first > start => 0,
            _ => timestamps.partition_point(|at| *at <= start),
        };
        let after_last = match timestamps.last() {
            Some(last) if *last <= end => timestamps.len(),
            _ => timestamps.partition_point(|at| *at <= end),
        };
        if first < after_last {
            *cell = value(Window {
                step: 0,
                first,
                after_last,
            });
        }
        return;
    }
    let (mut first, mut after_last, mut work) = (0, 0, 0);
    for (step, cell) in row.iter_mut().enumerate() {
        let end = windows.end(step);
        while after_last < timestamps.len() && timestamps[after_last] <= end {
            after_last += 1;
        }
        while first < after_last && timestamps[first] <= end - windows.range_ms {
            first += 1;
        }
        work += after_last - first;
        if work >= INTERRUPT_EVERY {
            work = 0;
            if windows.interrupt.stop().is_some() {
                return;
            }
        }
        if first < after_last {
            *cell = value(Window {
                step,
                first,
                after_last,
            });
        }
    }
}

/// The least or greatest value of each window, NaN only when there is nothing else.
///
/// A deque holds the places that can still become the extreme, best first, so that overlapping windows
/// cost no more than their new samples.
pub(crate) fn extreme<'a>(windows: &'a Windows<'_>, is_better: impl Fn(f64, f64) -> bool + 'a) -> Roller<'a> {
    let mut candidates: VecDeque<usize> = VecDeque::new();
    Box::new(move |timestamps, values, row| {
        candidates.clear();
        let mut next = 0;
        slide(timestamps, windows, row, |window| {
            for (place, new) in values
                .iter()
                .enumerate()
                .take(window.after_last)
                .skip(next.max(window.first))
            {
                if new.is_nan() {
                    continue;
                }
                // Of two zeros of different sign the earlier counts, as in a plain pass.
                let is_past = |last: f64| is_better(*new, last) || new.to_bits() == last.to_bits();
                while candidates.back().is_some_and(|last| is_past(values[*last])) {
                    candidates.pop_back();
                }
                candidates.push_back(place);
            }
            next = window.after_last;
            while candidates.front().is_some_and(|best| *best < window.first) {
                candidates.pop_front();
            }
            candidates.front().map_or(f64::NAN, |best| values[*best])
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Uninterrupted;

    fn windows(grid: Grid, range_ms: i64) -> Windows<'static> {
        Windows {
            interrupt: &Uninterrupted,
            grid,
            pinned: None,
            offset_ms: 0,
            range_ms,
        }
    }

    #[test]
    fn a_window_excludes_its_start_and_includes_its_end() {
        let windows = windows(
            Grid {
                start: 10,
                step: 10,
                count: 4,
            },
            20,
        );
        let mut row = [0.0; 4];
        slide(&[0, 10, 20, 30], &windows, &mut row, |window| {
            (window.first * 10 + window.after_last) as f64
        });
        assert_eq!(row, [2.0, 13.0, 24.0, 34.0]);
    }

    /// `max_over_time` of -0 and 0 was 0, and -0 in Prometheus.
    #[test]
    fn of_two_zeros_the_earlier_is_the_extreme() {
        let windows = windows(
            Grid {
                start: 30,
                step: 10,
                count: 2,
            },
            20,
        );
        let mut row = [1.0; 2];
        extreme(&windows, |new, old| new > old)(&[20, 30, 40], &[-0.0, 0.0, -0.0], &mut row);
        assert_eq!(row.map(f64::to_bits), [-0.0_f64, 0.0].map(f64::to_bits));
    }

    #[test]
    fn extremes_of_sliding_windows_are_those_of_each_window() {
        let timestamps: Vec<i64> = (0..200).map(|at| at * 3 + at % 7 / 5).collect();
        let values: Vec<f64> = (0..200u64)
            .map(|n| {
                if n % 11 == 0 {
                    f64::NAN
                } else {
                    (n * 7919 % 101) as f64
                }
            })
            .collect();
        let windows = windows(
            Grid {
                start: 5,
                step: 17,
                count: 30,
            },
            60,
        );
        let (mut fast, mut slow) = (vec![-1.0; 30], vec![-1.0; 30]);
        extreme(&windows, |new, old| new > old)(&timestamps, &values, &mut fast);
        slide(&timestamps, &windows, &mut slow, |window| {
            values[window.range()].iter().copied().fold(f64::NAN, f64::max)
        });
        assert_eq!(
            fast.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            slow.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        );
    }
}

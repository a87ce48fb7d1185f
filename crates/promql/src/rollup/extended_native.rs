//! `anchored` and `smoothed` ranges of series that have histograms, alone or among numbers.
//!
//! Source: Prometheus 3, `promql/functions.go`, `extendedHistogramRate` and `pickFirstSampleIndices`.

use std::ops::Range;
use std::sync::Arc;

use marketprism_model::{Histogram, ResetHint};

use super::native::counts;
use super::window::Windows;
use crate::ast::Extension;
use crate::column::{ABSENT, Cells};
use crate::functions::Function;
use crate::native::{Incompatible, Operand, Total, compact, divided, is_reset};
use crate::notes::{HistogramOperation, Notes, Part, Remark};
use crate::smooth::interpolated_histogram;

type Timed = (i64, Arc<Histogram>);

/// One series, without marks of its end.
pub(super) struct ExtendedMixed<'a> {
    pub(super) function: Function,
    pub(super) extension: Extension,
    pub(super) windows: &'a Windows<'a>,
    /// The windows with what is looked at beyond their borders.
    pub(super) outer: &'a Windows<'a>,
    pub(super) metric: &'a str,
    pub(super) timestamps: &'a [i64],
    pub(super) values: &'a [f64],
    pub(super) histograms: &'a [Timed],
}

impl ExtendedMixed<'_> {
    /// Corrects the row that the numbers alone gave.
    pub(super) fn fill(&self, row: &mut [f64], cells: &mut Cells, notes: &mut Notes) {
        let steps = row.len();
        for (step, cell) in row.iter_mut().enumerate() {
            let (numbers, histograms) = self.inside(step);
            if histograms.is_empty() {
                continue;
            }
            if self.windows.is_stopped() {
                return;
            }
            let end = self.windows.end(step);
            let (start, found) = (end - self.windows.range_ms, &self.histograms[histograms.clone()]);
            *cell = match self.function {
                Function::Changes | Function::Resets => self.count(start, numbers, histograms),
                _ if !numbers.is_empty() => {
                    notes.add(Part::Argument(0), Remark::MixedFloatsHistograms(self.metric));
                    ABSENT
                }
                _ => {
                    if let Some(made) = self.change(found, start, end, notes) {
                        cells.resize(steps, None);
                        cells[step] = Some(Arc::new(made));
                    }
                    ABSENT
                }
            };
        }
    }

    fn inside(&self, step: usize) -> (Range<usize>, Range<usize>) {
        let end = self.outer.end(step);
        let start = end - self.outer.range_ms;
        let numbers = |moment: i64| self.timestamps.partition_point(|at| *at <= moment);
        let histograms = |moment: i64| self.histograms.partition_point(|(at, _)| *at <= moment);
        (numbers(start)..numbers(end), histograms(start)..histograms(end))
    }

    /// `changes` and `resets`, from the last sample before the window on.
    fn count(&self, start: i64, numbers: Range<usize>, histograms: Range<usize>) -> f64 {
        let numbers = numbers.map(|place| (self.timestamps[place], Operand::Number(self.values[place])));
        let histograms = self.histograms[histograms].iter();
        let histograms = histograms.map(|(at, found)| (*at, Operand::Histogram(Arc::clone(found))));
        let mut all: Vec<(i64, Operand)> = numbers.chain(histograms).collect();
        all.sort_by_key(|(at, _)| *at);
        let after = all.partition_point(|(at, _)| *at <= start);
        if after == all.len() {
            return ABSENT;
        }
        let pairs = all[after.saturating_sub(1)..].windows(2);
        pairs
            .filter(|pair| counts(self.function, &pair[0].1, &pair[1].1))
            .count() as f64
    }

    /// `rate`, `increase` and `delta`.
    fn change(&self, found: &[Timed], start: i64, end: i64, notes: &mut Notes) -> Option<Histogram> {
        let mut remarks = Notes::default();
        let made = self.try_change(found, start, end, &mut remarks);
        notes.merge(&remarks);
        made.unwrap_or_else(|Incompatible| {
            notes.add(Part::Argument(0), Remark::MixedExponentialCustom(self.metric));
            None
        })
    }

    fn try_change(
        &self,
        found: &[Timed],
        start: i64,
        end: i64,
        notes: &mut Notes,
    ) -> Result<Option<Histogram>, Incompatible> {
        let is_smoothed = self.extension == Extension::Smoothed;
        let is_counter = self.function != Function::Delta;
        let newest = found.len() - 1;
        let first = found[..newest]
            .partition_point(|(at, _)| *at <= start)
            .saturating_sub(1);
        let last = if is_smoothed {
            found[..newest].partition_point(|(at, _)| *at < end)
        } else {
            newest
        };
        if found[last].0 <= start || is_smoothed && found[first].0 > end {
            return Ok(None);
        }
        self.check(&found[first..=last], is_counter, notes)?;
        let part = Part::Argument(0);
        let left = if is_smoothed && found[first].0 < start {
            interpolated_histogram(&found[first], &found[first + 1], start, is_counter, part, notes)?
        } else {
            Arc::clone(&found[first].1)
        };
        let right = if is_smoothed && last > 0 && found[last].0 > end {
            interpolated_histogram(&found[last - 1], &found[last], end, is_counter, part, notes)?
        } else {
            Arc::clone(&found[last].1)
        };
        let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
        let are_gauges = is_gauge(&left) && is_gauge(&right);
        if !is_counter && !are_gauges {
            notes.add(part, Remark::NotGauge(self.metric));
        }
        let mut total = Total::of(&right);
        if total.subtract(&left)?.bounds_reconciled {
            let remark = Remark::MismatchedCustomBuckets(HistogramOperation::Subtraction);
            notes.add(part, remark);
        }
        if is_counter {
            let mut lost: Option<Total> = None;
            for before in lost_at_resets(&found[first..=last], (&left, &right), start, is_smoothed) {
                match &mut lost {
                    None => lost = Some(Total::of(before)),
                    Some(lost) => add(lost, before, notes)?,
                }
            }
            if let Some(lost) = lost {
                add(&mut total, &lost.plain(), notes)?;
            }
        }
        let mut made = total.plain();
        if self.function == Function::Rate {
            made = divided(&made, self.windows.range_ms as f64 / 1000.0);
        }
        made.reset_hint = ResetHint::Gauge;
        compact(&mut made);
        Ok(Some(made))
    }

    /// Remarks on histograms that do not fit the function or each other.
    fn check(&self, found: &[Timed], is_counter: bool, notes: &mut Notes) -> Result<(), Incompatible> {
        let is_custom = found[0].1.has_custom_bounds();
        for (_, histogram) in found {
            if histogram.has_custom_bounds() != is_custom {
                return Err(Incompatible);
            }
            if is_counter && histogram.reset_hint == ResetHint::Gauge {
                notes.add(Part::Argument(0), Remark::NotCounter(self.metric));
            }
        }
        Ok(())
    }
}

fn add(total: &mut Total, other: &Histogram, notes: &mut Notes) -> Result<(), Incompatible> {
    if total.add(other)?.bounds_reconciled {
        let remark = Remark::MismatchedCustomBuckets(HistogramOperation::Addition);
        notes.add(Part::Argument(0), remark);
    }
    Ok(())
}

/// Finds what was lost at each reset from the left border to the right one: the histogram before it.
fn lost_at_resets<'h>(
    found: &'h [Timed],
    (left, right): (&'h Arc<Histogram>, &'h Arc<Histogram>),
    start: i64,
    is_smoothed: bool,
) -> Vec<&'h Histogram> {
    let (mut next, mut before): (usize, &Histogram) = (1, left);
    // A reset that the left border lies in is in its value already.
    if is_smoothed && found[0].0 < start && is_reset(&found[1].1, &found[0].1) {
        (next, before) = (2, &found[1].1);
    }
    // The last one is the right border itself, or made it.
    let last = found.len() - 1;
    if next > last {
        return Vec::new();
    }
    let mut lost = Vec::new();
    for now in found[next..last].iter().map(|(_, now)| &**now).chain([&**right]) {
        if is_reset(now, before) {
            lost.push(before);
        }
        before = now;
    }
    lost
}

//! `smoothed` instant selectors: values between samples are interpolated.
//!
//! A smoothed selector looks as far ahead as it looks back. Where there is no sample ahead yet, the last one
//! stands; where there is none behind, there is no value.
//!
//! Source: Prometheus 3, `promql/engine.go`, `smoothSeries`.

use std::sync::{Arc, Mutex, PoisonError};

use marketprism_model::{Histogram, ResetHint, Samples, sample};

use crate::answer::QueryError;
use crate::column::{Batch, Cells, Grid, Names, Rows};
use crate::evaluate::{Output, Run};
use crate::native::{Incompatible, Operand, Total, is_reset, scaled};
use crate::notes::{HistogramOperation, Notes, Part, Remark};
use crate::plan::{Choice, Shift};
use crate::select;

/// Gives the value at `at` on the line between two samples. A counter that fell between them has begun anew from 0.
pub(crate) fn interpolated(before: (i64, f64), after: (i64, f64), at: i64, is_counter: bool) -> f64 {
    let ((from, first), (to, last)) = (before, after);
    let first = if is_counter && last < first { 0.0 } else { first };
    first + (last - first) * (at - from) as f64 / (to - from) as f64
}

/// Gives the histogram at `at` between two. A counter that was reset between them has begun anew from nothing.
pub(crate) fn interpolated_histogram(
    (from, first): &(i64, Arc<Histogram>),
    (to, last): &(i64, Arc<Histogram>),
    at: i64,
    is_counter: bool,
    part: Part,
    notes: &mut Notes,
) -> Result<Arc<Histogram>, Incompatible> {
    if at == *from {
        return Ok(Arc::clone(first));
    }
    if at == *to {
        return Ok(Arc::clone(last));
    }
    let share = (at - from) as f64 / (to - from) as f64;
    if is_counter && is_reset(last, first) {
        return Ok(Arc::new(scaled(last, share)));
    }
    let mut total = Total::of(last);
    if total.subtract(first)?.bounds_reconciled {
        let remark = Remark::MismatchedCustomBuckets(HistogramOperation::Subtraction);
        notes.add(part, remark);
    }
    let mut total = Total::of(&scaled(&total.plain(), share));
    if total.add(first)?.bounds_reconciled {
        let remark = Remark::MismatchedCustomBuckets(HistogramOperation::Addition);
        notes.add(part, remark);
    }
    Ok(Arc::new(total.plain()))
}

/// A smoothed instant selector at each step.
pub(crate) fn instant(
    run: &mut Run<'_>,
    choice: &Choice,
    shift: Shift,
    grid: Grid,
) -> Result<Output, QueryError> {
    let (pinned, lookback_ms) = (run.pinned(shift), run.lookback_ms());
    let moment = |step: usize| pinned.unwrap_or_else(|| grid.moment(step)) - shift.offset_ms;
    let range = select::left_open(
        moment(0).saturating_sub(lookback_ms),
        moment(grid.count.saturating_sub(1)).saturating_add(lookback_ms),
    );
    let selection = select::select(run, choice, range)?;
    let (labels, remarks) = (selection.labels(), Mutex::new(Notes::default()));
    let cells = select::columns(run, &*selection, range, grid.count, || {
        let mut numbers: Vec<(i64, f64)> = Vec::new();
        let remarks = &remarks;
        move |position: usize, samples: Samples<'_>, row: &mut [f64], cells: &mut Cells| {
            numbers.clear();
            let pairs = samples
                .timestamps
                .iter()
                .copied()
                .zip(samples.values.iter().copied());
            numbers.extend(pairs.filter(|(_, value)| !sample::is_stale(*value)));
            let steps = row.len();
            for (step, cell) in row.iter_mut().enumerate() {
                let around = Around {
                    at: moment(step),
                    lookback_ms,
                };
                if samples.histograms.is_empty() {
                    if let Some(value) = around.number(&numbers) {
                        *cell = value;
                    }
                    continue;
                }
                let mut remarks = remarks.lock().unwrap_or_else(PoisonError::into_inner);
                let metric = labels[position].metric_name();
                match around.mixed(&numbers, samples.histograms, metric, &mut remarks) {
                    Some(Operand::Number(value)) => *cell = value,
                    Some(Operand::Histogram(histogram)) => {
                        cells.resize(steps, None);
                        cells[step] = Some(histogram);
                    }
                    None => {}
                }
            }
        }
    })?;
    run.notes
        .merge(&remarks.into_inner().unwrap_or_else(PoisonError::into_inner));
    let rows = Arc::new(Rows::of_selection(selection));
    Ok(Output::vector(Batch::of_cells(
        rows,
        Names::Kept,
        grid.count,
        cells,
    )))
}

/// A moment, and how far around it samples count.
#[derive(Clone, Copy)]
struct Around {
    at: i64,
    lookback_ms: i64,
}

impl Around {
    /// Cuts samples to those that count, and says how many of them lie before the moment.
    fn cut<'s, T>(&self, samples: &'s [(i64, T)]) -> (&'s [(i64, T)], usize) {
        let start = self.at.saturating_sub(self.lookback_ms);
        let end = self.at.saturating_add(self.lookback_ms);
        let first = samples.partition_point(|(at, _)| *at <= start);
        let after_last = samples.partition_point(|(at, _)| *at <= end);
        let inside = &samples[first..after_last.max(first)];
        (inside, inside.partition_point(|(at, _)| *at < self.at))
    }

    fn number(&self, numbers: &[(i64, f64)]) -> Option<f64> {
        let (inside, before) = self.cut(numbers);
        match (
            before.checked_sub(1).map(|place| inside[place]),
            inside.get(before),
        ) {
            (_, Some((at, value))) if *at == self.at => Some(*value),
            (Some(earlier), Some(later)) => Some(interpolated(earlier, *later, self.at, false)),
            (Some((_, value)), None) => Some(value),
            (None, _) => None,
        }
    }

    fn mixed(
        &self,
        numbers: &[(i64, f64)],
        histograms: &[(i64, Arc<Histogram>)],
        metric: &str,
        notes: &mut Notes,
    ) -> Option<Operand> {
        let ((inside, before), (of_numbers, _)) = (self.cut(histograms), self.cut(numbers));
        if inside.is_empty() {
            return self.number(numbers).map(Operand::Number);
        }
        if !of_numbers.is_empty() {
            notes.add(Part::Whole, Remark::MixedFloatsHistograms(metric));
            return None;
        }
        let made = match (
            before.checked_sub(1).map(|place| &inside[place]),
            inside.get(before),
        ) {
            (_, Some((at, histogram))) if *at == self.at => Arc::clone(histogram),
            (Some(earlier), Some(later)) => {
                let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
                let is_counter = !(is_gauge(&earlier.1) && is_gauge(&later.1));
                let between = if earlier.1.has_custom_bounds() == later.1.has_custom_bounds() {
                    interpolated_histogram(earlier, later, self.at, is_counter, Part::Whole, notes)
                } else {
                    Err(Incompatible)
                };
                between
                    .inspect_err(|Incompatible| {
                        notes.add(Part::Whole, Remark::MixedExponentialCustom(metric));
                    })
                    .ok()?
            }
            // The hint tells how a histogram follows the one before, which is not what is asked for.
            (Some((_, histogram)), None) => Arc::new(Histogram {
                reset_hint: ResetHint::Unknown,
                ..Histogram::clone(histogram)
            }),
            (None, _) => return None,
        };
        Some(Operand::Histogram(made))
    }
}

//! Functions over ranges of series that have histograms, alone or among numbers.
//!
//! The numbers of such a series are rolled up as everywhere; here, the windows that hold histograms get what they
//! should have instead: a histogram, a number, or nothing and a remark.
//!
//! Source: Prometheus 3, `promql/functions.go`.

use std::ops::Range;
use std::sync::Arc;

use marketprism_model::{Histogram, ResetHint};

use super::rate::stretch;
use super::window::Windows;
use crate::column::{ABSENT, Cells};
use crate::functions::Function;
use crate::native::{Added, Incompatible, Operand, Total, compact, divided, is_equal, is_reset, scaled};
use crate::notes::{HistogramOperation, Notes, Part, Remark};

/// The interrupt is asked after so many histograms.
const INTERRUPT_EVERY: usize = 4_096;

/// Whether a series was reset at each of its histograms, compared with the one before.
type Resets = Vec<bool>;

/// One series, without marks of its end.
pub(super) struct Mixed<'a> {
    pub(super) function: Function,
    pub(super) windows: &'a Windows<'a>,
    pub(super) metric: &'a str,
    pub(super) timestamps: &'a [i64],
    pub(super) values: &'a [f64],
    pub(super) histograms: &'a [(i64, Arc<Histogram>)],
}

/// The part of a series that lies in a window; there is a histogram in it.
struct Inside<'a> {
    step: usize,
    timestamps: &'a [i64],
    histograms: &'a [(i64, Arc<Histogram>)],
    /// Those of the histograms.
    resets: &'a [bool],
    /// What the numbers alone gave.
    of_numbers: f64,
}

impl Mixed<'_> {
    /// Corrects the row that the numbers alone gave.
    pub(super) fn fill(&self, row: &mut [f64], cells: &mut Cells, notes: &mut Notes) {
        if matches!(self.function, Function::Changes | Function::Resets) {
            return self.count_neighbours(row);
        }
        let resets = match self.function {
            Function::Rate | Function::Increase => self.resets(),
            _ => vec![false; self.histograms.len()],
        };
        let (steps, mut work) = (row.len(), 0);
        for (step, cell) in row.iter_mut().enumerate() {
            let places = self.histograms_in(step);
            if places.is_empty() {
                continue;
            }
            work += places.len();
            if work >= INTERRUPT_EVERY {
                work = 0;
                if self.windows.is_stopped() {
                    return;
                }
            }
            let inside = Inside {
                step,
                timestamps: &self.timestamps[self.numbers_in(step)],
                histograms: &self.histograms[places.clone()],
                resets: &resets[places],
                of_numbers: *cell,
            };
            *cell = match self.value(&inside, notes) {
                Some(Operand::Number(value)) => value,
                Some(Operand::Histogram(histogram)) => {
                    cells.resize(steps, None);
                    cells[step] = Some(histogram);
                    ABSENT
                }
                None => ABSENT,
            };
        }
    }

    fn bounds(&self, step: usize) -> (i64, i64) {
        let end = self.windows.end(step);
        (end - self.windows.range_ms, end)
    }

    fn numbers_in(&self, step: usize) -> Range<usize> {
        let (start, end) = self.bounds(step);
        let up_to = |moment: i64| self.timestamps.partition_point(|at| *at <= moment);
        up_to(start)..up_to(end)
    }

    fn histograms_in(&self, step: usize) -> Range<usize> {
        let (start, end) = self.bounds(step);
        let up_to = |moment: i64| self.histograms.partition_point(|(at, _)| *at <= moment);
        up_to(start)..up_to(end)
    }

    fn resets(&self) -> Resets {
        let pairs = self.histograms.windows(2);
        let resets = pairs.map(|pair| is_reset(&pair[1].1, &pair[0].1));
        std::iter::once(false).chain(resets).collect()
    }

    fn value(&self, inside: &Inside<'_>, notes: &mut Notes) -> Option<Operand> {
        let mut remark = |remark: Remark<'_>| notes.add(Part::Argument(0), remark);
        let (numbers, histograms) = (inside.timestamps, inside.histograms);
        let seconds = |at: i64| Some(Operand::Number(at as f64 / 1000.0));
        let (first, last) = (&histograms[0], &histograms[histograms.len() - 1]);
        match self.function {
            Function::CountOverTime => Some(Operand::Number((numbers.len() + histograms.len()) as f64)),
            Function::PresentOverTime => Some(Operand::Number(1.0)),
            Function::FirstOverTime => match numbers.first() {
                Some(at) if *at < first.0 => Some(Operand::Number(inside.of_numbers)),
                _ => Some(Operand::Histogram(Arc::clone(&first.1))),
            },
            Function::LastOverTime => match numbers.last() {
                Some(at) if *at > last.0 => Some(Operand::Number(inside.of_numbers)),
                _ => Some(Operand::Histogram(Arc::clone(&last.1))),
            },
            Function::TsOfFirstOverTime => seconds(numbers.first().map_or(first.0, |at| first.0.min(*at))),
            Function::TsOfLastOverTime => seconds(numbers.last().map_or(last.0, |at| last.0.max(*at))),
            Function::Irate | Function::Idelta => self.between_last_two(inside, notes),
            Function::Rate
            | Function::Increase
            | Function::Delta
            | Function::SumOverTime
            | Function::AvgOverTime => {
                if !numbers.is_empty() {
                    remark(Remark::MixedFloatsHistograms(self.metric));
                    return None;
                }
                self.of_histograms(inside, notes)
                    .map(|made| Operand::Histogram(Arc::new(made)))
            }
            _ => {
                if !numbers.is_empty() {
                    remark(Remark::HistogramIgnoredInRange(self.metric));
                }
                (!crate::column::is_absent(inside.of_numbers)).then_some(Operand::Number(inside.of_numbers))
            }
        }
    }

    fn of_histograms(&self, inside: &Inside<'_>, notes: &mut Notes) -> Option<Histogram> {
        let folded = match self.function {
            Function::SumOverTime => sum(inside.histograms),
            Function::AvgOverTime => average(inside.histograms),
            _ => return self.rate(inside, notes),
        };
        let (made, seen) = folded
            .inspect_err(|Incompatible| {
                notes.add(Part::Argument(0), Remark::MixedExponentialCustom(self.metric));
            })
            .ok()?;
        seen.remark(notes);
        Some(made)
    }

    /// `rate`, `increase` and `delta`.
    fn rate(&self, inside: &Inside<'_>, notes: &mut Notes) -> Option<Histogram> {
        let histograms = inside.histograms;
        let [(first_at, first), .., (last_at, _)] = histograms else {
            return None;
        };
        let is_counter = self.function != Function::Delta;
        let mut own = Notes::default();
        let change = match change(histograms, inside.resets, is_counter, self.metric, &mut own) {
            Ok(change) => change,
            Err(Incompatible) => {
                notes.add(Part::Argument(0), Remark::MixedExponentialCustom(self.metric));
                return None;
            }
        };
        notes.merge(&own);
        let floor = is_counter.then_some((first.count, change.count));
        let factor = stretch(
            self.windows,
            inside.step,
            (*first_at, *last_at),
            histograms.len() - 1,
            floor,
            self.function == Function::Rate,
        );
        Some(scaled(&change, factor))
    }

    /// `irate` and `idelta`.
    fn between_last_two(&self, inside: &Inside<'_>, notes: &mut Notes) -> Option<Operand> {
        let (numbers, histograms) = (inside.timestamps, inside.histograms);
        let newest_number = numbers.last().copied().unwrap_or(i64::MIN);
        let second_number = numbers
            .len()
            .checked_sub(2)
            .map_or(i64::MIN, |place| numbers[place]);
        if numbers.len() + histograms.len() < 2 {
            return None;
        }
        let is_alone = second_number > histograms[histograms.len() - 1].0;
        if is_alone {
            return (!crate::column::is_absent(inside.of_numbers))
                .then_some(Operand::Number(inside.of_numbers));
        }
        let mut remark = |remark: Remark<'_>| notes.add(Part::Argument(0), remark);
        let [.., (before_at, before), (now_at, now)] = histograms else {
            remark(Remark::MixedFloatsHistograms(self.metric));
            return None;
        };
        if newest_number > *before_at {
            remark(Remark::MixedFloatsHistograms(self.metric));
            return None;
        }
        let is_rate = self.function == Function::Irate;
        let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
        if is_rate && (is_gauge(now) || is_gauge(before)) {
            remark(Remark::NotCounter(self.metric));
        }
        let are_gauges = is_gauge(now) && is_gauge(before);
        if !is_rate && !are_gauges {
            remark(Remark::NotGauge(self.metric));
        }
        let mut total = Total::of(now);
        if !is_rate || !is_reset(now, before) {
            match total.subtract(before) {
                Err(Incompatible) => {
                    remark(Remark::MixedExponentialCustom(self.metric));
                    return None;
                }
                Ok(added) if added.bounds_reconciled => {
                    remark(Remark::MismatchedCustomBuckets(HistogramOperation::Subtraction));
                }
                Ok(_) => {}
            }
        }
        let mut made = total.plain();
        made.reset_hint = ResetHint::Gauge;
        compact(&mut made);
        if is_rate {
            made = divided(&made, (now_at - before_at) as f64 / 1000.0);
        }
        Some(Operand::Histogram(Arc::new(made)))
    }

    /// `changes` and `resets`: neighbours of different kinds count, too.
    fn count_neighbours(&self, row: &mut [f64]) {
        let (mut number, mut histogram, mut count) = (0, 0, 0u32);
        // Moments of all samples, and the count up to each.
        let (mut moments, mut running) = (Vec::new(), Vec::new());
        let mut before: Option<Operand> = None;
        loop {
            let number_at = self.timestamps.get(number);
            let (at, now) = match (number_at, self.histograms.get(histogram)) {
                (Some(at), other) if other.is_none_or(|(other, _)| at < other) => {
                    number += 1;
                    (*at, Operand::Number(self.values[number - 1]))
                }
                (_, Some((at, found))) => {
                    histogram += 1;
                    (*at, Operand::Histogram(Arc::clone(found)))
                }
                _ => break,
            };
            count += u32::from(
                before
                    .as_ref()
                    .is_some_and(|before| counts(self.function, before, &now)),
            );
            moments.push(at);
            running.push(count);
            before = Some(now);
        }
        for (step, cell) in row.iter_mut().enumerate() {
            let (start, end) = self.bounds(step);
            let first = moments.partition_point(|at| *at <= start);
            let after_last = moments.partition_point(|at| *at <= end);
            if first < after_last {
                *cell = f64::from(running[after_last - 1] - running[first]);
            }
        }
    }
}

/// Says whether `changes` or `resets` counts the step from one sample to the next.
pub(super) fn counts(function: Function, before: &Operand, now: &Operand) -> bool {
    let is_changes = function == Function::Changes;
    match (before, now) {
        (Operand::Number(before), Operand::Number(now)) if is_changes => {
            now != before && !(now.is_nan() && before.is_nan())
        }
        (Operand::Number(before), Operand::Number(now)) => now < before,
        (Operand::Histogram(before), Operand::Histogram(now)) if is_changes => !is_equal(now, before),
        (Operand::Histogram(before), Operand::Histogram(now)) => is_reset(now, before),
        _ => true,
    }
}

/// Calculates by how much a series of at least two histograms has changed, with its resets.
fn change(
    histograms: &[(i64, Arc<Histogram>)],
    resets: &[bool],
    is_counter: bool,
    metric: &str,
    notes: &mut Notes,
) -> Result<Histogram, Incompatible> {
    let mut remark = |remark: Remark<'_>| notes.add(Part::Argument(0), remark);
    let (first, second) = (&histograms[0].1, &histograms[1].1);
    let last = &histograms[histograms.len() - 1].1;
    let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
    if is_counter && histograms.iter().any(|(_, histogram)| is_gauge(histogram)) {
        remark(Remark::NotCounter(metric));
    }
    let are_gauges = is_gauge(first) && is_gauge(last);
    if !is_counter && !are_gauges {
        remark(Remark::NotGauge(metric));
    }
    // What was before a reset right at the beginning does not matter, not even its layout.
    let nothing = (is_counter && resets[1]).then(|| Histogram {
        schema: second.schema,
        custom_bounds: Arc::clone(&second.custom_bounds),
        ..Histogram::default()
    });
    let from = nothing.as_ref().unwrap_or(first);
    let mut schema = last.schema.min(from.schema);
    if is_counter {
        for (_, histogram) in &histograms[1..histograms.len() - 1] {
            if histogram.has_custom_bounds() != from.has_custom_bounds() {
                return Err(Incompatible);
            }
            schema = schema.min(histogram.schema);
        }
    }
    if last.has_custom_bounds() != from.has_custom_bounds() {
        return Err(Incompatible);
    }
    let mut total = Total::of(last);
    total.reduce_to(schema);
    if total.subtract(from)?.bounds_reconciled {
        remark(Remark::MismatchedCustomBuckets(HistogramOperation::Subtraction));
    }
    for place in 1..histograms.len() {
        let before = match &nothing {
            _ if !is_counter => break,
            Some(nothing) if place == 1 => {
                // It counts as a reset again only where the hint says so.
                if second.reset_hint != ResetHint::Reset {
                    continue;
                }
                nothing
            }
            _ if resets[place] => &histograms[place - 1].1,
            _ => continue,
        };
        if total.add(before)?.bounds_reconciled {
            remark(Remark::MismatchedCustomBuckets(HistogramOperation::Addition));
        }
    }
    let mut made = total.plain();
    made.reset_hint = ResetHint::Gauge;
    compact(&mut made);
    Ok(made)
}

/// What was remarkable while many histograms were added up.
#[derive(Clone, Copy, Default)]
struct Seen {
    has_reset: bool,
    has_no_reset: bool,
    bounds_reconciled: bool,
}

impl Seen {
    fn note(&mut self, histogram: &Histogram) {
        self.has_reset |= histogram.reset_hint == ResetHint::Reset;
        self.has_no_reset |= histogram.reset_hint == ResetHint::NotReset;
    }

    fn added(&mut self, added: Added) {
        self.bounds_reconciled |= added.bounds_reconciled;
    }

    fn remark(self, notes: &mut Notes) {
        if self.has_reset && self.has_no_reset {
            let remark = Remark::ResetCollision(HistogramOperation::Aggregation);
            notes.add(Part::Argument(0), remark);
        }
        if self.bounds_reconciled {
            let remark = Remark::MismatchedCustomBuckets(HistogramOperation::Aggregation);
            notes.add(Part::Argument(0), remark);
        }
    }
}

type Folded = Result<(Histogram, Seen), Incompatible>;

fn sum(histograms: &[(i64, Arc<Histogram>)]) -> Folded {
    let (mut total, mut seen) = (Total::of(&histograms[0].1), Seen::default());
    seen.note(&histograms[0].1);
    for (_, histogram) in &histograms[1..] {
        seen.note(histogram);
        seen.added(total.add(histogram)?);
    }
    Ok((total.compensated(), seen))
}

fn average(histograms: &[(i64, Arc<Histogram>)]) -> Folded {
    let (mut mean, mut seen) = (HistogramMean::of(&histograms[0].1), Seen::default());
    seen.note(&histograms[0].1);
    for (_, histogram) in &histograms[1..] {
        seen.note(histogram);
        seen.added(mean.add(histogram)?);
    }
    Ok((mean.finish(), seen))
}

/// A mean in the making: a sum for as long as it does not overflow, then an incremental mean.
pub(crate) struct HistogramMean {
    total: Total,
    count: f64,
    is_incremental: bool,
}

impl HistogramMean {
    pub(crate) fn of(first: &Histogram) -> Self {
        HistogramMean {
            total: Total::of(first),
            count: 1.0,
            is_incremental: false,
        }
    }

    pub(crate) fn add(&mut self, histogram: &Histogram) -> Result<Added, Incompatible> {
        self.count += 1.0;
        if !self.is_incremental {
            let mut sum = self.total.clone();
            let added = sum.add(histogram)?;
            if !sum.has_overflow() {
                self.total = sum;
                return Ok(added);
            }
            self.is_incremental = true;
            self.total.divide(self.count - 1.0);
        }
        self.total.multiply((self.count - 1.0) / self.count);
        self.total.add(&divided(histogram, self.count))
    }

    pub(crate) fn finish(mut self) -> Histogram {
        if !self.is_incremental {
            self.total.divide(self.count);
        }
        self.total.compensated()
    }
}

//! Reads series from the source: instant selectors, raw ranges, and the columns of rollups.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use marketprism_model::series::ReadError;
use marketprism_model::{Histogram, ResetHint, Sample, Samples, Selection, TimeRange, Timestamp, sample};

use crate::answer::{QueryError, Series};
use crate::ast::Extension;
use crate::column::{self, ABSENT, Batch, Cells, Grid, Names, Rows};
use crate::evaluate::{Output, Run};
use crate::native::is_reset;
use crate::plan::{Choice, Shift, Span};
use crate::rollup::Edges;

/// Below this many series, splitting costs more than it gains.
const SPLIT_ROWS_MIN: usize = 512;

/// The interrupt is asked after this much work, in samples read and steps filled.
const INTERRUPT_EVERY: usize = 16_384;

/// Gives the range that holds what lies after `after` and not after `last`.
pub(crate) fn left_open(after: i64, last: i64) -> TimeRange {
    TimeRange::new(
        Timestamp::from_millis(after.saturating_add(1)),
        Timestamp::from_millis(last),
    )
}

pub(crate) fn select(
    run: &Run<'_>,
    choice: &Choice,
    range: TimeRange,
) -> Result<Arc<dyn Selection>, QueryError> {
    run.source
        .select_again(choice, range, choice.bookmark())
        .map_err(|error| run.read_error(error))
}

/// Rows that have histograms, by their positions.
type Found = Vec<(usize, Cells)>;

/// Reads all series of a selection; `make` gives a function that turns the samples of one series into
/// its row of values, one such function a task.
///
/// The function is told the position of the series, and is given no cells for histograms: it makes one a step when
/// it has any.
pub(crate) fn columns<F>(
    run: &Run<'_>,
    selection: &dyn Selection,
    range: TimeRange,
    steps: usize,
    make: impl Fn() -> F + Sync,
) -> Result<(Vec<f64>, Option<Cells>), QueryError>
where
    F: FnMut(usize, Samples<'_>, &mut [f64], &mut Cells),
{
    let rows = selection.labels().len();
    run.check_size(rows, steps)?;
    let mut values = vec![ABSENT; rows * steps];
    if values.is_empty() || range.start > range.end {
        return Ok((values, None));
    }
    let held = AtomicU64::new(0);
    let reader = Reader {
        run,
        selection,
        range,
        steps,
        held: &held,
    };
    let workers = run.workers.count();
    if workers <= 1 || rows < SPLIT_ROWS_MIN {
        let found = reader.part(0, &mut values, &mut make())?;
        return Ok((values, placed(found, rows * steps, steps)));
    }
    let rows_each = rows.div_ceil(workers * 4);
    let parts: Vec<Mutex<&mut [f64]>> = values.chunks_mut(rows_each * steps).map(Mutex::new).collect();
    let outcome: Mutex<Result<Found, QueryError>> = Mutex::new(Ok(Vec::new()));
    run.workers.run(parts.len(), &|task| {
        let values = &mut *parts[task].lock().unwrap_or_else(PoisonError::into_inner);
        let read = reader.part(task * rows_each, values, &mut make());
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match (read, &mut *outcome) {
            (Ok(more), Ok(found)) => found.extend(more),
            (Err(error), Ok(_)) => *outcome = Err(error),
            (_, Err(_)) => {}
        }
    });
    let found = outcome.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    drop(parts);
    Ok((values, placed(found, rows * steps, steps)))
}

/// Puts rows of histograms in their places; nothing when there are none.
fn placed(found: Found, cells: usize, steps: usize) -> Option<Cells> {
    if found.is_empty() {
        return None;
    }
    let mut all = vec![None; cells];
    for (position, row) in found {
        for (cell, histogram) in all[position * steps..(position + 1) * steps].iter_mut().zip(row) {
            *cell = histogram;
        }
    }
    Some(all)
}

struct Reader<'a, 'r> {
    run: &'a Run<'r>,
    selection: &'a dyn Selection,
    range: TimeRange,
    steps: usize,
    /// What the histograms of all rows weigh.
    held: &'a AtomicU64,
}

impl Reader<'_, '_> {
    fn part<F: FnMut(usize, Samples<'_>, &mut [f64], &mut Cells)>(
        &self,
        first: usize,
        values: &mut [f64],
        fill: &mut F,
    ) -> Result<Found, QueryError> {
        let Reader { run, steps, .. } = *self;
        let positions = first..first + values.len() / steps;
        let (mut found, mut cells) = (Vec::new(), Cells::new());
        visit(
            run,
            self.selection,
            positions,
            self.range,
            steps,
            &mut |position, samples| {
                let at = (position - first) * steps;
                fill(position, samples, &mut values[at..at + steps], &mut cells);
                if cells.is_empty() {
                    return Ok(());
                }
                let weight = column::weight(&cells);
                found.push((position, std::mem::take(&mut cells)));
                run.check_held(self.held.fetch_add(weight, Ordering::Relaxed) + weight)
            },
        )?;
        Ok(found)
    }
}

/// Reads series one by one, counting samples and asking the interrupt.
fn visit(
    run: &Run<'_>,
    selection: &dyn Selection,
    positions: std::ops::Range<usize>,
    range: TimeRange,
    steps: usize,
    each: &mut dyn FnMut(usize, Samples<'_>) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let (mut work, mut failure) = (0usize, None);
    let outcome = selection.read(positions, range, &mut |position, samples| {
        let mut count = samples.timestamps.len();
        if !samples.histograms.is_empty() {
            let weights = samples.histograms.iter().map(|(_, histogram)| histogram.weight());
            count += weights.sum::<usize>();
        }
        work += count + steps + 1;
        let checked = run.count_samples(count).and_then(|()| {
            if work < INTERRUPT_EVERY {
                return Ok(());
            }
            work = 0;
            run.check_interrupt()
        });
        checked.and_then(|()| each(position, samples)).map_err(|error| {
            failure = Some(error);
            ReadError::Interrupted
        })
    });
    match (failure, outcome) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(run.read_error(error)),
        (None, Ok(())) => Ok(()),
    }
}

/// What is wanted of samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    Samples,
    /// Numbers as they are, and counts and sums of histograms.
    Counts,
    /// When they were taken, in seconds.
    Times,
}

impl Wanted {
    /// Gives the range to read: to know whether the first histogram was reset, the one right before counts.
    pub(crate) fn range(self, range: TimeRange) -> TimeRange {
        match self {
            Wanted::Counts => TimeRange::new(
                Timestamp::from_millis(range.start.millis().saturating_sub(1)),
                range.end,
            ),
            _ => range,
        }
    }
}

/// Leaves no more of histograms than their counts and sums, and whether each was reset since the one before.
pub(crate) fn counts(histograms: &[(i64, Arc<Histogram>)]) -> Vec<(i64, Arc<Histogram>)> {
    let count = |(place, (at, histogram)): (usize, &(i64, Arc<Histogram>))| {
        let before = place.checked_sub(1).map(|before| &histograms[before].1);
        let reset_hint = match (histogram.reset_hint, before) {
            (ResetHint::Unknown, Some(before)) if is_reset(histogram, before) => ResetHint::Reset,
            (ResetHint::Unknown, Some(_)) => ResetHint::NotReset,
            (hint, _) => hint,
        };
        let counted = Histogram {
            reset_hint,
            schema: histogram.schema,
            count: histogram.count,
            sum: histogram.sum,
            ..Histogram::default()
        };
        (*at, Arc::new(counted))
    };
    histograms.iter().enumerate().map(count).collect()
}

/// An instant selector at each step: the newest sample of the lookback, unless it ends the series.
pub(crate) fn instant(
    run: &mut Run<'_>,
    choice: &Choice,
    shift: Shift,
    grid: Grid,
    wanted: Wanted,
) -> Result<Output, QueryError> {
    let is_time = wanted == Wanted::Times;
    let (pinned, lookback_ms) = (run.pinned(shift), run.lookback_ms());
    let moment = |step: usize| pinned.unwrap_or_else(|| grid.moment(step)) - shift.offset_ms;
    let last = pinned.unwrap_or_else(|| grid.last()) - shift.offset_ms;
    let range = wanted.range(left_open(moment(0).saturating_sub(lookback_ms), last));
    let selection = select(run, choice, range)?;
    let cells = columns(run, &*selection, range, grid.count, || {
        move |_: usize, samples: Samples<'_>, row: &mut [f64], histograms: &mut Cells| {
            if !samples.histograms.is_empty() {
                let counted;
                let mut samples = samples;
                if wanted == Wanted::Counts {
                    counted = counts(samples.histograms);
                    samples.histograms = &counted;
                }
                return newest_of_both(&samples, moment, lookback_ms, is_time, row, histograms);
            }
            // At a single moment only the newest sample counts; the range has ended the samples there.
            let is_single = row.len() == 1 && samples.timestamps.last().is_some_and(|at| *at <= moment(0));
            let mut next = if is_single { samples.timestamps.len() } else { 0 };
            for (step, cell) in row.iter_mut().enumerate() {
                let moment = moment(step);
                while samples.timestamps.get(next).is_some_and(|at| *at <= moment) {
                    next += 1;
                }
                let Some(newest) = next.checked_sub(1) else {
                    continue;
                };
                let (at, value) = (samples.timestamps[newest], samples.values[newest]);
                if at > moment.saturating_sub(lookback_ms) && !sample::is_stale(value) {
                    *cell = if is_time { at as f64 / 1000.0 } else { value };
                }
            }
        }
    })?;
    let rows = Arc::new(Rows::of_selection(selection));
    let names = if is_time { Names::Dropped } else { Names::Kept };
    Ok(Output::vector(Batch::of_cells(rows, names, grid.count, cells)))
}

/// The newest sample of a series that has histograms, whichever it is; a number may be the mark of the end.
fn newest_of_both(
    samples: &Samples<'_>,
    moment: impl Fn(usize) -> i64,
    lookback_ms: i64,
    is_time: bool,
    row: &mut [f64],
    histograms: &mut Cells,
) {
    let (mut numbers, mut others) = (0, 0);
    let steps = row.len();
    for (step, cell) in row.iter_mut().enumerate() {
        let moment = moment(step);
        while samples.timestamps.get(numbers).is_some_and(|at| *at <= moment) {
            numbers += 1;
        }
        while samples
            .histograms
            .get(others)
            .is_some_and(|(at, _)| *at <= moment)
        {
            others += 1;
        }
        let number_at = numbers.checked_sub(1).map(|place| samples.timestamps[place]);
        let histogram = others.checked_sub(1).map(|place| &samples.histograms[place]);
        let is_near = |at: i64| at > moment.saturating_sub(lookback_ms);
        match (number_at, histogram) {
            (number_at, Some((at, histogram))) if number_at.is_none_or(|number| number < *at) => {
                if is_near(*at) && is_time {
                    *cell = *at as f64 / 1000.0;
                } else if is_near(*at) {
                    histograms.resize(steps, None);
                    histograms[step] = Some(Arc::clone(histogram));
                }
            }
            (Some(at), _) => {
                let value = samples.values[numbers - 1];
                if is_near(at) && !sample::is_stale(value) {
                    *cell = if is_time { at as f64 / 1000.0 } else { value };
                }
            }
            (None, _) => {}
        }
    }
}

/// The raw samples of a range selector that stands alone.
pub(crate) fn samples(
    run: &mut Run<'_>,
    choice: &Choice,
    span: Span,
    grid: Grid,
) -> Result<Output, QueryError> {
    let end = run.pinned(span.shift).unwrap_or(grid.start) - span.shift.offset_ms;
    let start = end - span.range_ms;
    let lookback_ms = run.lookback_ms();
    let range = match span.extension {
        None => left_open(start, end),
        Some(Extension::Anchored) => left_open(start.saturating_sub(lookback_ms), end),
        Some(Extension::Smoothed) => {
            left_open(start.saturating_sub(lookback_ms), end.saturating_add(lookback_ms))
        }
    };
    let selection = select(run, choice, range)?;
    let (labels, mut all) = (selection.labels(), Vec::new());
    visit(
        run,
        &*selection,
        0..labels.len(),
        range,
        1,
        &mut |position, samples| {
            let pairs = samples.timestamps.iter().zip(samples.values);
            let mut pairs: Vec<(i64, f64)> = pairs
                .filter(|(_, value)| !sample::is_stale(**value))
                .map(|(at, value)| (*at, *value))
                .collect();
            if let (Some(extension), false) = (span.extension, pairs.is_empty()) {
                let (timestamps, values): (Vec<i64>, Vec<f64>) = pairs.into_iter().unzip();
                let edges = Edges {
                    timestamps: &timestamps,
                    values: &values,
                    start,
                    end,
                };
                pairs = edges.samples(extension);
            }
            let points: Vec<Sample> = pairs
                .into_iter()
                .map(|(at, value)| Sample {
                    timestamp: Timestamp::from_millis(at),
                    value,
                })
                .collect();
            let histograms = samples.histograms.iter();
            let histograms: Vec<_> = histograms
                .map(|(at, histogram)| (Timestamp::from_millis(*at), Arc::clone(histogram)))
                .collect();
            if let (Some(extension), false) = (span.extension, histograms.is_empty()) {
                return Err(QueryError::Data(format!(
                    "{} modifier is not supported with histograms",
                    extension.as_str()
                )));
            }
            if !points.is_empty() || !histograms.is_empty() {
                all.push(Series {
                    labels: labels[position].clone(),
                    points,
                    histograms,
                });
            }
            Ok(())
        },
    )?;
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Output::Matrix(Arc::new(all)))
}

/// The points of a subquery that stands alone; `grid` are its own steps.
pub(crate) fn points(inner: &Batch, grid: Grid) -> Result<Output, QueryError> {
    let series = crate::assemble::matrix(inner, grid)?;
    Ok(Output::Matrix(Arc::new(series)))
}

//! Reads series from the source: instant selectors, raw ranges, and the columns of rollups.

use std::sync::{Arc, Mutex, PoisonError};

use marketprism_model::series::ReadError;
use marketprism_model::{Sample, Samples, Selection, TimeRange, Timestamp, sample};

use crate::answer::{QueryError, Series};
use crate::column::{ABSENT, Batch, Grid, Names, Rows};
use crate::evaluate::{Output, Run};
use crate::plan::{Choice, Shift, Span};

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
        .select(choice, range)
        .map_err(|error| run.read_error(error))
}

/// Reads all series of a selection; `make` gives a function that turns the samples of one series into
/// its row of values, one such function a task.
pub(crate) fn columns<F>(
    run: &Run<'_>,
    selection: &dyn Selection,
    range: TimeRange,
    steps: usize,
    make: impl Fn() -> F + Sync,
) -> Result<Vec<f64>, QueryError>
where
    F: FnMut(Samples<'_>, &mut [f64]),
{
    let rows = selection.labels().len();
    run.check_size(rows, steps)?;
    let mut values = vec![ABSENT; rows * steps];
    if values.is_empty() || range.start > range.end {
        return Ok(values);
    }
    let workers = run.workers.count();
    if workers <= 1 || rows < SPLIT_ROWS_MIN {
        part(run, selection, 0, range, steps, &mut values, &mut make())?;
        return Ok(values);
    }
    let rows_each = rows.div_ceil(workers * 4);
    let parts: Vec<Mutex<&mut [f64]>> = values.chunks_mut(rows_each * steps).map(Mutex::new).collect();
    let failure: Mutex<Option<QueryError>> = Mutex::new(None);
    run.workers.run(parts.len(), &|task| {
        let values = &mut *parts[task].lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = part(
            run,
            selection,
            task * rows_each,
            range,
            steps,
            values,
            &mut make(),
        ) {
            failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
        }
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    drop(parts);
    failure.map_or(Ok(values), Err)
}

fn part<F: FnMut(Samples<'_>, &mut [f64])>(
    run: &Run<'_>,
    selection: &dyn Selection,
    first: usize,
    range: TimeRange,
    steps: usize,
    values: &mut [f64],
    fill: &mut F,
) -> Result<(), QueryError> {
    let positions = first..first + values.len() / steps;
    visit(
        run,
        selection,
        positions,
        range,
        steps,
        &mut |position, samples| {
            let at = (position - first) * steps;
            fill(samples, &mut values[at..at + steps]);
        },
    )
}

/// Reads series one by one, counting samples and asking the interrupt.
fn visit(
    run: &Run<'_>,
    selection: &dyn Selection,
    positions: std::ops::Range<usize>,
    range: TimeRange,
    steps: usize,
    each: &mut dyn FnMut(usize, Samples<'_>),
) -> Result<(), QueryError> {
    let (mut work, mut failure) = (0usize, None);
    let outcome = selection.read(positions, range, &mut |position, samples| {
        let count = samples.timestamps.len();
        work += count + steps + 1;
        let checked = run.count_samples(count).and_then(|()| {
            if work < INTERRUPT_EVERY {
                return Ok(());
            }
            work = 0;
            run.check_interrupt()
        });
        if let Err(error) = checked {
            failure = Some(error);
            return Err(ReadError::Interrupted);
        }
        each(position, samples);
        Ok(())
    });
    match (failure, outcome) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(run.read_error(error)),
        (None, Ok(())) => Ok(()),
    }
}

/// An instant selector at each step: the newest sample of the lookback, unless it ends the series.
/// With `is_time`, its time in seconds instead of its value.
pub(crate) fn instant(
    run: &mut Run<'_>,
    choice: &Choice,
    shift: Shift,
    grid: Grid,
    is_time: bool,
) -> Result<Output, QueryError> {
    let (pinned, lookback_ms) = (run.pinned(shift), run.lookback_ms());
    let moment = |step: usize| pinned.unwrap_or_else(|| grid.moment(step)) - shift.offset_ms;
    let last = pinned.unwrap_or_else(|| grid.last()) - shift.offset_ms;
    let range = left_open(moment(0).saturating_sub(lookback_ms), last);
    let selection = select(run, choice, range)?;
    let values = columns(run, &*selection, range, grid.count, || {
        move |samples: Samples<'_>, row: &mut [f64]| {
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
    Ok(Output::vector(Batch::numbers(rows, names, grid.count, values)))
}

/// The raw samples of a range selector that stands alone.
pub(crate) fn samples(
    run: &mut Run<'_>,
    choice: &Choice,
    span: Span,
    grid: Grid,
) -> Result<Output, QueryError> {
    let end = run.pinned(span.shift).unwrap_or(grid.start) - span.shift.offset_ms;
    let range = left_open(end - span.range_ms, end);
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
            let points: Vec<Sample> = pairs
                .filter(|(_, value)| !sample::is_stale(**value))
                .map(|(at, value)| Sample {
                    timestamp: Timestamp::from_millis(*at),
                    value: *value,
                })
                .collect();
            if !points.is_empty() {
                all.push(Series {
                    labels: labels[position].clone(),
                    points,
                    histograms: Vec::new(),
                });
            }
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

//! Functions over ranges: one pass over each series, two pointers that mark the window.
//!
//! A window is left-open: it holds what lies after its start and not after its end.

mod extended;
mod extended_native;
mod native;
mod rate;
mod regression;
mod window;

use std::sync::{Arc, Mutex, PoisonError};

use marketprism_model::{Histogram, Labels, Samples, sample};

use crate::answer::QueryError;
use crate::ast::Extension;
use crate::column::{Batch, Canvas, Cells, Grid, Names, Rows, ScalarColumn, is_absent};
use crate::evaluate::{Inputs, Output, Run};
use crate::functions::Function;
use crate::native::Operand;
use crate::notes::{Notes, Part, Remark, general};
use crate::plan::{Choice, Span, metric_name};
use crate::select::{self, Wanted};
use crate::sum::{Mean, Sum, add, quantile};
use window::{Window, Windows, slide};

pub(crate) use extended::Edges;
use extended_native::ExtendedMixed;
pub(crate) use native::HistogramMean;
use native::Mixed;

/// Turns the samples of one series, without marks of its end, into its row of values.
type Roller<'a> = Box<dyn FnMut(&[i64], &[f64], &mut [f64]) + 'a>;

fn scalars(inputs: &Inputs, first: usize) -> Vec<ScalarColumn> {
    (first..3)
        .take_while(|place| inputs.has_scalar(*place))
        .map(|place| inputs.scalar(place))
        .collect()
}

/// A function over the samples of a range selector.
pub(crate) fn over_samples(
    run: &mut Run<'_>,
    function: Function,
    (choice, wanted): (&Choice, Wanted),
    span: Span,
    inputs: &mut Inputs,
    grid: Grid,
) -> Result<Output, QueryError> {
    let (params, windows) = (scalars(inputs, 0), Windows::new(run, span, grid));
    check_factors(function, &params, grid, || {
        let (chosen, none) = ((choice, wanted), &mut Inputs::default());
        over_samples(run, Function::PresentOverTime, chosen, span, none, grid)
    })?;
    let extended = span
        .extension
        .map(|extension| (extension, windows.surroundings(extension, run.lookback_ms())));
    let range = wanted.range(extended.as_ref().map_or(&windows, |(_, outer)| outer).reach());
    let selection = select::select(run, choice, range)?;
    let native = NativeRows {
        function,
        windows: &windows,
        extended: extended.as_ref(),
        wanted,
        labels: selection.labels(),
        remarks: Mutex::default(),
    };
    let cells = select::columns(run, &*selection, range, grid.count, || {
        let mut roller = match &extended {
            None => roller(function, &params, &windows),
            Some((extension, outer)) => extended::roller(function, *extension, &windows, outer),
        };
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        let native = &native;
        move |position: usize, samples: Samples<'_>, row: &mut [f64], cells: &mut Cells| {
            let mut numbers = (samples.timestamps, samples.values);
            if samples.values.iter().any(|value| sample::is_stale(*value)) {
                timestamps.clear();
                values.clear();
                for (at, value) in samples.timestamps.iter().zip(samples.values) {
                    if !sample::is_stale(*value) {
                        timestamps.push(*at);
                        values.push(*value);
                    }
                }
                numbers = (&timestamps, &values);
            }
            roller(numbers.0, numbers.1, row);
            if !samples.histograms.is_empty() {
                native.fill(position, numbers, samples.histograms, row, cells);
            }
        }
    })?;
    run.notes.merge(
        &native
            .remarks
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner),
    );
    let keeps_name = keeps_name(function);
    let rows = Arc::new(Rows::of_selection(selection));
    let names = if keeps_name { Names::Kept } else { Names::Dropped };
    let batch = Batch::of_cells(rows, names, grid.count, cells);
    if matches!(function, Function::Rate | Function::Increase) {
        remark_counters(run, choice, &batch);
    }
    check_params(run, function, &params, &batch, grid);
    Ok(Output::vector(batch))
}

/// Corrects the rows of series that have histograms.
struct NativeRows<'a> {
    function: Function,
    windows: &'a Windows<'a>,
    extended: Option<&'a (Extension, Windows<'a>)>,
    wanted: Wanted,
    labels: &'a [Labels],
    /// From all workers.
    remarks: Mutex<Notes>,
}

impl NativeRows<'_> {
    fn fill(
        &self,
        position: usize,
        (timestamps, values): (&[i64], &[f64]),
        histograms: &[(i64, Arc<Histogram>)],
        row: &mut [f64],
        cells: &mut Cells,
    ) {
        let counted;
        let mut histograms = histograms;
        if self.wanted == Wanted::Counts {
            counted = select::counts(histograms);
            histograms = &counted;
        }
        let (function, windows) = (self.function, self.windows);
        let metric = self.labels[position].metric_name();
        let mut own = Notes::default();
        if let Some((extension, outer)) = self.extended {
            let mixed = ExtendedMixed {
                function,
                extension: *extension,
                windows,
                outer,
                metric,
                timestamps,
                values,
                histograms,
            };
            mixed.fill(row, cells, &mut own);
        } else {
            let mixed = Mixed {
                function,
                windows,
                metric,
                timestamps,
                values,
                histograms,
            };
            mixed.fill(row, cells, &mut own);
        }
        if !own.is_empty() {
            let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
            remarks.merge(&own);
        }
    }
}

/// A function over the points of a subquery, whose steps are `inner`.
pub(crate) fn over_points(
    run: &mut Run<'_>,
    function: Function,
    span: Span,
    inputs: &mut Inputs,
    grid: Grid,
    inner: Grid,
) -> Result<Output, QueryError> {
    let (params, windows) = (scalars(inputs, 1), Windows::new(run, span, grid));
    let points = inputs.batch(0);
    check_factors(function, &params, grid, || {
        let points = &mut Inputs::of_batch(Arc::clone(&points));
        over_points(run, Function::PresentOverTime, span, points, grid, inner)
    })?;
    let rows = points.rows.len();
    run.check_size(rows, grid.count)?;
    let mut canvas = Canvas::over(Vec::new());
    canvas.grow(rows * grid.count);
    {
        let mut roller = roller(function, &params, &windows);
        let moments: Vec<i64> = (0..inner.count).map(|step| inner.moment(step)).collect();
        let (mut timestamps, mut present, mut cells) = (Vec::new(), Vec::new(), Cells::new());
        for row in 0..rows {
            run.check_interrupt()?;
            let out = canvas.row(row, grid.count);
            let mut numbers = (&moments[..], points.row(row));
            if numbers.1.iter().any(|value| is_absent(*value)) {
                timestamps.clear();
                present.clear();
                for (at, value) in moments.iter().zip(points.row(row)) {
                    if !is_absent(*value) {
                        timestamps.push(*at);
                        present.push(*value);
                    }
                }
                numbers = (&timestamps, &present);
            }
            roller(numbers.0, numbers.1, out);
            if !points.has_histogram_row(row) {
                continue;
            }
            let mixed = Mixed {
                function,
                windows: &windows,
                metric: points.rows.labels()[row].metric_name(),
                timestamps: numbers.0,
                values: numbers.1,
                histograms: &points.points_of(row, &moments),
            };
            mixed.fill(out, &mut cells, &mut run.notes);
            for (step, histogram) in cells.drain(..).enumerate() {
                if let Some(histogram) = histogram {
                    canvas.put(row * grid.count + step, Operand::Histogram(histogram));
                }
            }
            run.check_held(canvas.held())?;
        }
    }
    let names = if keeps_name(function) {
        points.names.clone()
    } else {
        Names::Dropped
    };
    let batch = Batch::of_cells(Arc::clone(&points.rows), names, grid.count, canvas.finish());
    if matches!(function, Function::Rate | Function::Increase) {
        remark_counters_by_row(run, &batch);
    }
    check_params(run, function, &params, &batch, grid);
    Ok(Output::vector(batch))
}

/// The first and the last value are the series at another moment; all else is something new.
fn keeps_name(function: Function) -> bool {
    matches!(function, Function::LastOverTime | Function::FirstOverTime)
}

fn is_counter_name(name: &str) -> bool {
    name.is_empty()
        || ["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|end| name.ends_with(end))
}

fn remark_counter(run: &mut Run<'_>, name: &str) {
    run.notes.add(Part::Argument(0), Remark::PossibleNonCounter(name));
}

/// Remarks on rates of what does not look like a counter, when any of it has a value.
fn remark_counters(run: &mut Run<'_>, choice: &Choice, batch: &Batch) {
    match metric_name(choice) {
        Some(name) if is_counter_name(name) => {}
        Some(name) => {
            if batch.values.iter().any(|value| !is_absent(*value)) {
                remark_counter(run, name);
            }
        }
        None => remark_counters_by_row(run, batch),
    }
}

fn remark_counters_by_row(run: &mut Run<'_>, batch: &Batch) {
    let rows = Arc::clone(&batch.rows);
    for (row, labels) in rows.labels().iter().enumerate() {
        let name = labels.metric_name();
        if !is_counter_name(name) && batch.row(row).iter().any(|value| !is_absent(*value)) {
            remark_counter(run, name);
        }
    }
}

/// Judges parameters where they met data.
fn check_params(run: &mut Run<'_>, function: Function, params: &[ScalarColumn], batch: &Batch, grid: Grid) {
    if function != Function::QuantileOverTime {
        return;
    }
    for step in (0..grid.count).filter(|step| batch.has_any(*step)) {
        let phi = params[0].at(step);
        if !(0.0..=1.0).contains(&phi) {
            run.notes.add(Part::Argument(0), Remark::InvalidQuantile(phi));
        }
    }
}

/// Says why a smoothing cannot be calculated at a step, when there is anything to smooth.
fn factor_fault(params: &[ScalarColumn], step: usize) -> Option<QueryError> {
    let factors = params
        .iter()
        .map(|param| param.at(step))
        .zip(["smoothing", "trend"]);
    // NaN is no factor that Prometheus refuses.
    let (factor, name) = factors
        .into_iter()
        .find(|(factor, _)| *factor <= 0.0 || *factor >= 1.0)?;
    let value = if factor.is_infinite() {
        general(factor, None)
    } else {
        format!("{factor:.6}")
    };
    let letter = &name[..1];
    Some(QueryError::Data(format!(
        "invalid {name} factor. Expected: 0 < {letter}f < 1, got: {value}"
    )))
}

/// Refuses to smooth by bad factors where `met` says that there are samples, however few.
fn check_factors(
    function: Function,
    params: &[ScalarColumn],
    grid: Grid,
    met: impl FnOnce() -> Result<Output, QueryError>,
) -> Result<(), QueryError> {
    let is_smoothing = function == Function::DoubleExponentialSmoothing;
    if !is_smoothing || (0..grid.count).all(|step| factor_fault(params, step).is_none()) {
        return Ok(());
    }
    let Output::Vector(met) = met()? else {
        unreachable!("a rollup yields a vector");
    };
    let mut met_steps = (0..grid.count).filter(|step| met.has_any(*step));
    met_steps
        .find_map(|step| factor_fault(params, step))
        .map_or(Ok(()), Err)
}

/// Makes a roller of a function of the window's timestamps and values.
macro_rules! each_window {
    ($windows:ident, |$timestamps:ident, $values:ident| $value:expr) => {
        Box::new(move |timestamps, values, row| {
            slide(timestamps, $windows, row, |window: Window| {
                #[allow(unused_variables, reason = "most functions need only one of them")]
                let ($timestamps, $values) = (&timestamps[window.range()], &values[window.range()]);
                $value
            })
        })
    };
}

/// Makes the function that rolls one series up.
fn roller<'a>(function: Function, params: &'a [ScalarColumn], windows: &'a Windows<'_>) -> Roller<'a> {
    match function {
        Function::Rate => rate::extrapolating(windows, true, true),
        Function::Increase => rate::extrapolating(windows, true, false),
        Function::Delta => rate::extrapolating(windows, false, false),
        Function::Irate => each_window!(windows, |ts, vs| rate::between_last_two(ts, vs, true)),
        Function::Idelta => each_window!(windows, |ts, vs| rate::between_last_two(ts, vs, false)),
        Function::Changes => rate::counting(windows, |before, now| {
            now != before && !(now.is_nan() && before.is_nan())
        }),
        Function::Resets => rate::counting(windows, |before, now| now < before),
        Function::Deriv => each_window!(windows, |ts, vs| regression::derivative(ts, vs)),
        Function::PredictLinear => Box::new(move |timestamps, values, row| {
            slide(timestamps, windows, row, |window: Window| {
                let (ts, vs) = (&timestamps[window.range()], &values[window.range()]);
                regression::predict(ts, vs, windows.moment(window.step), params[0].at(window.step))
            })
        }),
        Function::DoubleExponentialSmoothing => Box::new(move |timestamps, values, row| {
            slide(timestamps, windows, row, |window: Window| {
                let factors = (params[0].at(window.step), params[1].at(window.step));
                regression::smooth(&values[window.range()], factors)
            })
        }),
        Function::QuantileOverTime => {
            let mut sorted = Vec::new();
            Box::new(move |timestamps, values, row| {
                slide(timestamps, windows, row, |window: Window| {
                    sorted.clear();
                    sorted.extend_from_slice(&values[window.range()]);
                    quantile(params[0].at(window.step), &mut sorted)
                })
            })
        }
        other => over_time(other, windows),
    }
}

/// The functions that take nothing but a range.
fn over_time<'a>(function: Function, windows: &'a Windows<'_>) -> Roller<'a> {
    match function {
        Function::SumOverTime => each_window!(windows, |ts, vs| {
            let mut sum = Sum::default();
            vs.iter().for_each(|value| sum.add(*value));
            sum.total()
        }),
        Function::AvgOverTime => each_window!(windows, |ts, vs| {
            let mut mean = Mean::default();
            vs.iter().for_each(|value| mean.add(*value));
            mean.mean()
        }),
        Function::CountOverTime => each_window!(windows, |ts, vs| vs.len() as f64),
        Function::PresentOverTime => each_window!(windows, |ts, vs| 1.0),
        Function::LastOverTime => each_window!(windows, |ts, vs| vs[vs.len() - 1]),
        Function::FirstOverTime => each_window!(windows, |ts, vs| vs[0]),
        Function::MinOverTime => window::extreme(windows, |new, old| new < old),
        Function::MaxOverTime => window::extreme(windows, |new, old| new > old),
        Function::StddevOverTime => each_window!(windows, |ts, vs| variance(vs).sqrt()),
        Function::StdvarOverTime => each_window!(windows, |ts, vs| variance(vs)),
        Function::TsOfFirstOverTime => each_window!(windows, |ts, vs| ts[0] as f64 / 1000.0),
        Function::TsOfLastOverTime => each_window!(windows, |ts, vs| ts[ts.len() - 1] as f64 / 1000.0),
        Function::TsOfMaxOverTime => each_window!(windows, |ts, vs| moment_of(ts, vs, |new, old| new >= old)),
        Function::TsOfMinOverTime => each_window!(windows, |ts, vs| moment_of(ts, vs, |new, old| new <= old)),
        Function::MadOverTime => {
            let mut sorted = Vec::new();
            Box::new(move |timestamps, values, row| {
                slide(timestamps, windows, row, |window: Window| {
                    median_absolute_deviation(&values[window.range()], &mut sorted)
                })
            })
        }
        other => unreachable!("{} is no rollup", other.signature().name),
    }
}

/// Calculates the population variance with compensated sums.
fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut mean_lost, mut squares, mut squares_lost) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - (mean + mean_lost);
        (mean, mean_lost) = add(delta / count, mean, mean_lost);
        (squares, squares_lost) = add(delta * (value - (mean + mean_lost)), squares, squares_lost);
    }
    (squares + squares_lost) / count
}

fn median_absolute_deviation(values: &[f64], sorted: &mut Vec<f64>) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    sorted.clear();
    sorted.extend_from_slice(values);
    let median = quantile(0.5, sorted);
    sorted
        .iter_mut()
        .for_each(|value| *value = (*value - median).abs());
    quantile(0.5, sorted)
}

fn moment_of(timestamps: &[i64], values: &[f64], is_better: impl Fn(f64, f64) -> bool) -> f64 {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if is_better(*value, values[best]) || values[best].is_nan() {
            best = place;
        }
    }
    timestamps[best] as f64 / 1000.0
}

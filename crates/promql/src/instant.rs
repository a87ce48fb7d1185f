//! Functions on each value of a vector, and those that turn vectors into scalars and back.

use std::cmp::Ordering;
use std::sync::Arc;

use marketprism_model::Labels;

use crate::aggregate::pick;
use crate::answer::QueryError;
use crate::arithmetic::{go_max, go_min};
use crate::column::{ABSENT, Batch, Grid, Names, ScalarColumn, is_absent};
use crate::date::Civil;
use crate::evaluate::{Inputs, Output, Run, unlabelled_row};
use crate::functions::Function;
use crate::histogram;
use crate::notes::{Part, Remark};
use crate::sum::nan_first;

/// A function of one number.
fn of_one(function: Function) -> Option<fn(f64) -> f64> {
    Some(match function {
        Function::Abs => f64::abs,
        Function::Acos => f64::acos,
        Function::Acosh => f64::acosh,
        Function::Asin => f64::asin,
        Function::Asinh => f64::asinh,
        Function::Atan => f64::atan,
        Function::Atanh => f64::atanh,
        Function::Ceil => f64::ceil,
        Function::Cos => f64::cos,
        Function::Cosh => f64::cosh,
        Function::Deg => |value| value * 180.0 / std::f64::consts::PI,
        Function::Exp => f64::exp,
        Function::Floor => f64::floor,
        Function::Ln => f64::ln,
        Function::Log10 => f64::log10,
        Function::Log2 => f64::log2,
        Function::Rad => |value| value * std::f64::consts::PI / 180.0,
        Function::Sgn => |value| match value {
            v if v < 0.0 => -1.0,
            v if v > 0.0 => 1.0,
            v => v,
        },
        Function::Sin => f64::sin,
        Function::Sinh => f64::sinh,
        Function::Sqrt => f64::sqrt,
        Function::Tan => f64::tan,
        Function::Tanh => f64::tanh,
        _ => return None,
    })
}

/// Calculates each value of a vector (input 0) anew, with scalars as further inputs.
pub(crate) fn map(function: Function, inputs: &mut Inputs, grid: Grid) -> Result<Output, QueryError> {
    if let Function::HistogramAvg
    | Function::HistogramCount
    | Function::HistogramStddev
    | Function::HistogramStdvar
    | Function::HistogramSum = function
    {
        return Ok(histogram::measure(function, inputs));
    }
    let mut batch = inputs.take_batch(0);
    batch.names = Names::Dropped;
    if let Some(change) = of_one(function) {
        return Ok(Output::vector(batch.map(change)));
    }
    let scalar = |place: usize, or: f64| {
        if inputs.has_scalar(place) {
            inputs.scalar(place)
        } else {
            ScalarColumn::Constant(or)
        }
    };
    let (first, second) = (scalar(1, 1.0), scalar(2, f64::NAN));
    // All but the time is of numbers alone.
    let cells = batch.histograms.take();
    if function == Function::Timestamp {
        let cells = cells.iter().flatten().zip(&mut batch.values);
        cells
            .filter(|(cell, _)| cell.is_some())
            .for_each(|(_, value)| *value = 0.0);
    }
    let change = |step: usize, value: f64| match function {
        Function::Clamp => {
            let (least, most) = (first.at(step), second.at(step));
            if most < least {
                ABSENT
            } else {
                go_max(least, go_min(most, value))
            }
        }
        Function::ClampMax => go_min(first.at(step), value),
        Function::ClampMin => go_max(first.at(step), value),
        Function::Round => {
            // The inverse, because dividing by 10 is exact where multiplying by 0.1 is not.
            let inverse = 1.0 / first.at(step);
            (value * inverse + 0.5).floor() / inverse
        }
        Function::Timestamp => grid.moment(step) as f64 / 1000.0,
        other => unreachable!("{} does not map values", other.signature().name),
    };
    for row in batch.values.chunks_mut(batch.steps.max(1)) {
        for (step, value) in row.iter_mut().enumerate() {
            if !is_absent(*value) {
                *value = change(step, *value);
            }
        }
    }
    Ok(Output::vector(batch))
}

/// A date function of each value, taken as seconds since the epoch; of the time without a vector.
pub(crate) fn date(function: Function, inputs: &mut Inputs, grid: Grid) -> Result<Output, QueryError> {
    let part = |seconds: f64| {
        let civil = Civil::from_seconds(seconds);
        f64::from(match function {
            Function::DayOfMonth => civil.day,
            Function::DayOfWeek => civil.weekday,
            Function::DayOfYear => civil.day_of_year,
            Function::DaysInMonth => civil.days_in_month,
            Function::Hour => civil.hour,
            Function::Minute => civil.minute,
            Function::Month => civil.month,
            _ => return civil.year as f64,
        })
    };
    if !inputs.has_vector(0) {
        let values = (0..grid.count)
            .map(|step| part(grid.moment(step).div_euclid(1000) as f64))
            .collect();
        let rows = unlabelled_row();
        return Ok(Output::vector(Batch::numbers(
            rows,
            Names::Kept,
            grid.count,
            values,
        )));
    }
    let mut batch = inputs.take_batch(0).map(part);
    batch.names = Names::Dropped;
    Ok(Output::vector(batch))
}

/// Puts an instant vector in order. Over a range there is no order but that of labels.
pub(crate) fn sort(
    run: &mut Run<'_>,
    function: Function,
    by: &[Arc<str>],
    inputs: &mut Inputs,
    grid: Grid,
) -> Result<Output, QueryError> {
    let mut batch = inputs.batch(0);
    if matches!(function, Function::Sort | Function::SortDesc) && batch.histograms.is_some() {
        // Histograms have no order by value.
        Arc::make_mut(&mut batch).histograms = None;
    }
    if grid.count != 1 {
        run.notes.add(Part::Whole, Remark::SortOverRange);
        return Ok(Output::Vector(batch));
    }
    let mut rows: Vec<u32> = (0..batch.rows.len() as u32)
        .filter(|row| batch.is_present(*row as usize))
        .collect();
    let value = |row: &u32| batch.values[*row as usize];
    let labels = |row: &u32| &batch.rows.labels()[*row as usize];
    match function {
        // NaN comes last in both directions.
        Function::Sort => rows.sort_by(|a, b| match (value(a), value(b)) {
            (a, b) if a.is_nan() || b.is_nan() => a.is_nan().cmp(&b.is_nan()),
            (a, b) => nan_first(a, b),
        }),
        Function::SortDesc => rows.sort_by(|a, b| nan_first(value(b), value(a))),
        Function::SortByLabel => rows.sort_by(|a, b| by_labels(labels(a), labels(b), by)),
        _ => rows.sort_by(|a, b| by_labels(labels(b), labels(a), by)),
    }
    Ok(Output::vector(pick(&batch, &rows)))
}

/// Orders by the named labels in natural order ("node2" before "node10"), then by all.
fn by_labels(a: &Labels, b: &Labels, names: &[Arc<str>]) -> Ordering {
    names
        .iter()
        .map(|name| natural(a.get(name).unwrap_or(""), b.get(name).unwrap_or("")))
        .find(|order| order.is_ne())
        .unwrap_or_else(|| a.cmp(b))
}

/// Compares texts with their runs of digits as numbers.
///
/// Prometheus takes runs that are too long for its integers as texts, which makes cycles: "5" before "10" before a
/// number of twenty digits before "5". Here they are numbers of any length, so that there is an order at all.
fn natural(mut a: &str, mut b: &str) -> Ordering {
    let run = |text: &str| {
        let is_digits = text.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        let end = text
            .find(|c: char| c.is_ascii_digit() != is_digits)
            .unwrap_or(text.len());
        (is_digits, end)
    };
    while !a.is_empty() && !b.is_empty() {
        let ((a_digits, a_end), (b_digits, b_end)) = (run(a), run(b));
        let (a_run, b_run) = (&a[..a_end], &b[..b_end]);
        let order = if a_digits && b_digits {
            let (a_number, b_number) = (a_run.trim_start_matches('0'), b_run.trim_start_matches('0'));
            a_number
                .len()
                .cmp(&b_number.len())
                .then_with(|| a_number.cmp(b_number))
        } else {
            a_run.cmp(b_run)
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (&a[a_end..], &b[b_end..]);
    }
    a.len().cmp(&b.len())
}

/// 1 where the vector has nothing.
pub(crate) fn absent(labels: &Labels, batch: &Batch, grid: Grid) -> Result<Output, QueryError> {
    let value = |step: usize| if batch.has_any(step) { ABSENT } else { 1.0 };
    let rows = if labels.is_empty() {
        unlabelled_row()
    } else {
        Arc::new(crate::column::Rows::passing(vec![labels.clone()]))
    };
    let values = (0..grid.count).map(value).collect();
    Ok(Output::vector(Batch::numbers(
        rows,
        Names::Kept,
        grid.count,
        values,
    )))
}

/// The only value of a vector, NaN when there is none or more than one.
pub(crate) fn to_scalar(batch: &Batch, grid: Grid) -> Result<Output, QueryError> {
    let only = |step: usize| {
        let mut present = (0..batch.rows.len())
            .map(|row| batch.row(row)[step])
            .filter(|v| !is_absent(*v));
        match (present.next(), present.next()) {
            (Some(only), None) => only,
            _ => f64::NAN,
        }
    };
    Ok(Output::Scalar(ScalarColumn::from_fn(grid.count, only)))
}

/// A vector of one row without labels.
pub(crate) fn to_vector(scalar: &ScalarColumn, grid: Grid) -> Result<Output, QueryError> {
    let values = (0..grid.count).map(|step| scalar.at(step)).collect();
    let rows = unlabelled_row();
    Ok(Output::vector(Batch::numbers(
        rows,
        Names::Kept,
        grid.count,
        values,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_digits_compare_as_numbers() {
        let mut names = ["node10", "node2", "node", "node02b", "a1b10", "a1b9", "10", "9"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            ["9", "10", "a1b9", "a1b10", "node", "node2", "node02b", "node10"]
        );
    }
}

//! Operators on numbers, and between a vector and a scalar.

use std::sync::Arc;

use crate::answer::QueryError;
use crate::ast::{Arithmetic, BinaryOp};
use crate::column::{ABSENT, Batch, Canvas, Cells, Grid, Names, ScalarColumn, is_absent};
use crate::evaluate::{Inputs, Output, Run};
use crate::functions::Function;
use crate::native::{self, Made, Operand};
use crate::notes::{Part, Remark};

/// Calculates `left op right`.
#[inline(always)]
pub(crate) fn calculate(op: Arithmetic, left: f64, right: f64) -> f64 {
    match op {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Modulo => left % right,
        Arithmetic::Power => left.powf(right),
        Arithmetic::Atan2 => left.atan2(right),
        // Only histograms can be trimmed.
        Arithmetic::TrimUpper | Arithmetic::TrimLower => ABSENT,
    }
}

/// Go's `math.Max`: infinity wins over NaN, NaN over all else, and of two zeros the positive one.
pub(crate) fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == b {
        if a.is_sign_negative() { b } else { a }
    } else {
        a.max(b)
    }
}

/// Go's `math.Min`, the mirror of [`go_max`].
pub(crate) fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == b {
        if a.is_sign_negative() { a } else { b }
    } else {
        a.min(b)
    }
}

fn truth(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// The value of a pair under an operator: with a filtering comparison the left one, or none.
#[inline(always)]
pub(crate) fn pair(op: BinaryOp, is_bool: bool, left: f64, right: f64) -> f64 {
    match op {
        BinaryOp::Arithmetic(op) => calculate(op, left, right),
        BinaryOp::Comparison(op) if is_bool => truth(op.holds(left, right)),
        BinaryOp::Comparison(op) if op.holds(left, right) => left,
        BinaryOp::Comparison(_) | BinaryOp::Set(_) => ABSENT,
    }
}

pub(crate) fn negate(run: &Run<'_>, inputs: &mut Inputs, grid: Grid) -> Result<Output, QueryError> {
    if inputs.has_scalar(0) {
        let column = inputs.scalar(0);
        return Ok(Output::Scalar(match column {
            ScalarColumn::Constant(value) => ScalarColumn::Constant(-value),
            steps => ScalarColumn::from_fn(grid.count, |step| -steps.at(step)),
        }));
    }
    let mut batch = inputs.take_batch(0);
    let cells = batch.histograms.take();
    let mut batch = batch.map(|value| -value);
    if let Some(mut cells) = cells {
        // Steps that shared one histogram each get their own.
        let mut held = 0;
        for histogram in cells.iter_mut().flatten() {
            held += histogram.weight() as u64;
            run.check_held(held)?;
            *histogram = Arc::new(native::scaled(histogram, -1.0));
        }
        batch.histograms = Some(cells);
    }
    batch.names = Names::Dropped;
    Ok(Output::vector(batch))
}

/// Two scalars; a comparison between them always answers 0 or 1.
pub(crate) fn scalars(op: BinaryOp, inputs: &Inputs, grid: Grid) -> Output {
    let (left, right) = (inputs.scalar(0), inputs.scalar(1));
    let value = |left, right| pair(op, true, left, right);
    Output::Scalar(match (&left, &right) {
        (ScalarColumn::Constant(left), ScalarColumn::Constant(right)) => {
            ScalarColumn::Constant(value(*left, *right))
        }
        _ => ScalarColumn::from_fn(grid.count, |step| value(left.at(step), right.at(step))),
    })
}

/// `max_of` or `min_of` of two scalars.
pub(crate) fn one_of(function: Function, inputs: &Inputs, grid: Grid) -> Output {
    let (first, second) = (inputs.scalar(0), inputs.scalar(1));
    let choose = if function == Function::MaxOf {
        go_max
    } else {
        go_min
    };
    Output::Scalar(match (&first, &second) {
        (ScalarColumn::Constant(first), ScalarColumn::Constant(second)) => {
            ScalarColumn::Constant(choose(*first, *second))
        }
        _ => ScalarColumn::from_fn(grid.count, |step| choose(first.at(step), second.at(step))),
    })
}

/// A vector (input 0) and a scalar (input 1). A filter keeps the vector's value, on whichever side it
/// stands, and its name.
pub(crate) fn vector_scalar(
    run: &mut Run<'_>,
    op: BinaryOp,
    is_bool: bool,
    is_scalar_left: bool,
    inputs: &mut Inputs,
) -> Result<Output, QueryError> {
    let (mut batch, scalar) = (inputs.take_batch(0), inputs.scalar(1));
    if op.is_trim() && batch.values.iter().any(|value| !is_absent(*value)) {
        let remark = Remark::IncompatibleTypes {
            left: "float",
            op: op.as_str(),
            right: "float",
        };
        run.notes.add(Part::Whole, remark);
    }
    let cells = batch.histograms.take();
    match op {
        BinaryOp::Arithmetic(op) => each(&mut batch, &scalar, |value, scalar| {
            if is_scalar_left {
                calculate(op, scalar, value)
            } else {
                calculate(op, value, scalar)
            }
        }),
        BinaryOp::Comparison(op) => {
            let op = if is_scalar_left { op.mirrored() } else { op };
            each(&mut batch, &scalar, |value, scalar| {
                match op.holds(value, scalar) {
                    holds if is_bool => truth(holds),
                    true => value,
                    false => ABSENT,
                }
            });
        }
        BinaryOp::Set(_) => unreachable!("the check refuses sets of scalars"),
    }
    if is_bool || op.drops_name() {
        batch.names = Names::Dropped;
    }
    let Some(cells) = cells else {
        return Ok(Output::vector(batch));
    };
    let meet = |histogram: Operand, scalar: Operand| {
        let (left, right) = if is_scalar_left {
            (scalar, histogram)
        } else {
            (histogram, scalar)
        };
        native::operate(op, is_bool, &left, &right)
    };
    histograms_scalar(run, batch, cells, &scalar, meet)
}

/// The histograms of a vector and a scalar; the numbers are calculated already.
fn histograms_scalar(
    run: &mut Run<'_>,
    batch: Batch,
    cells: Cells,
    scalar: &ScalarColumn,
    meet: impl Fn(Operand, Operand) -> Made,
) -> Result<Output, QueryError> {
    let (steps, mut canvas) = (batch.steps, Canvas::over(batch.values));
    for (cell, histogram) in cells.into_iter().enumerate() {
        let Some(histogram) = histogram else {
            continue;
        };
        let made = meet(
            Operand::Histogram(histogram),
            Operand::Number(scalar.at(cell % steps)),
        );
        if let Some(remark) = made.remark {
            run.notes.add(Part::Whole, remark);
        }
        if let Some(value) = made.value {
            canvas.put(cell, value);
            run.check_held(canvas.held())?;
        }
    }
    Ok(Output::vector(Batch::of_cells(
        batch.rows,
        batch.names,
        steps,
        canvas.finish(),
    )))
}

#[inline(always)]
fn each(batch: &mut Batch, scalar: &ScalarColumn, change: impl Fn(f64, f64) -> f64) {
    match scalar {
        ScalarColumn::Constant(scalar) => {
            for value in batch.values.iter_mut().filter(|value| !is_absent(**value)) {
                *value = change(*value, *scalar);
            }
        }
        ScalarColumn::Steps(scalars) => {
            for row in batch.values.chunks_mut(scalars.len().max(1)) {
                for (value, scalar) in row.iter_mut().zip(scalars.iter()) {
                    if !is_absent(*value) {
                        *value = change(*value, *scalar);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{go_max, go_min};

    /// `clamp_max(-Inf, NaN)` is -Inf in Prometheus; it was NaN here.
    #[test]
    fn infinity_wins_over_nan() {
        const INF: f64 = f64::INFINITY;
        for (a, b, most, least) in [
            (INF, f64::NAN, INF, f64::NAN),
            (-INF, f64::NAN, f64::NAN, -INF),
            (1.0, f64::NAN, f64::NAN, f64::NAN),
            (INF, -INF, INF, -INF),
            (-0.0, 0.0, 0.0, -0.0),
            (2.0, 1.0, 2.0, 1.0),
        ] {
            for (a, b) in [(a, b), (b, a)] {
                assert_eq!(
                    go_max(a, b).to_bits(),
                    most.to_bits(),
                    "the greater of {a} and {b}"
                );
                assert_eq!(
                    go_min(a, b).to_bits(),
                    least.to_bits(),
                    "the lesser of {a} and {b}"
                );
            }
        }
    }
}

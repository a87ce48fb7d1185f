//! Lengths of time that only the query can tell: `[step() * 2]`, `offset range()`.
//!
//! They are calculated in seconds and cut to whole milliseconds, as in Prometheus.
//! Source: Prometheus 3, `promql/durations.go`.

use crate::answer::QueryError;
use crate::ast::{Arithmetic, Expr, ExprKind, Selector};
use crate::length::{Length, LengthExpr, LengthKind};

/// No length is longer than this, in milliseconds: a hundred years, as for those that are written out.
const MILLIS_MAX: f64 = 100.0 * 365.0 * 86_400_000.0;

/// What lengths of a query are calculated from, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LengthContext {
    /// The step of a range query; 0 at an instant.
    pub(crate) step_s: f64,
    /// From the start of a range query to its end; 0 at an instant.
    pub(crate) range_s: f64,
}

/// An instant has neither.
pub(crate) const AT_AN_INSTANT: LengthContext = LengthContext {
    step_s: 0.0,
    range_s: 0.0,
};

/// Says whether some length waits for the query.
pub(super) fn is_waiting(expr: &Expr) -> bool {
    let of_selector = |selector: &Selector| selector.offset.millis().is_none();
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::Text(_) => {}
            ExprKind::Selector(selector) if of_selector(selector) => return true,
            ExprKind::Range(selector, range) if of_selector(selector) || range.millis().is_none() => {
                return true;
            }
            ExprKind::Selector(_) | ExprKind::Range(..) => {}
            ExprKind::Subquery(subquery) => {
                let lengths = [
                    Some(&subquery.range),
                    subquery.step.as_ref(),
                    Some(&subquery.offset),
                ];
                if lengths
                    .into_iter()
                    .flatten()
                    .any(|length| length.millis().is_none())
                {
                    return true;
                }
                open.push(&subquery.expr);
            }
            ExprKind::Call(_, args) => open.extend(args),
            ExprKind::Aggregate(aggregate) => {
                open.push(&aggregate.expr);
                open.extend(&aggregate.param);
            }
            ExprKind::Binary(binary) => open.extend([&binary.left, &binary.right]),
            ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => open.push(inner),
        }
    }
    false
}

/// Calculates all lengths that wait for the query.
pub(super) fn resolve(expr: &mut Expr, context: LengthContext) -> Result<(), QueryError> {
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match &mut expr.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::Text(_) => {}
            ExprKind::Selector(selector) => resolve_length(&mut selector.offset, context, true)?,
            ExprKind::Range(selector, range) => {
                resolve_length(range, context, false)?;
                resolve_length(&mut selector.offset, context, true)?;
            }
            ExprKind::Subquery(subquery) => {
                resolve_length(&mut subquery.offset, context, true)?;
                if let Some(step) = &mut subquery.step {
                    resolve_length(step, context, false)?;
                }
                resolve_length(&mut subquery.range, context, false)?;
                open.push(&mut subquery.expr);
            }
            ExprKind::Call(_, args) => open.extend(args.iter_mut().rev()),
            ExprKind::Aggregate(aggregate) => {
                open.extend(&mut aggregate.param);
                open.push(&mut aggregate.expr);
            }
            ExprKind::Binary(binary) => open.extend([&mut binary.right, &mut binary.left]),
            ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => open.push(inner),
        }
    }
    Ok(())
}

fn resolve_length(
    length: &mut Length,
    context: LengthContext,
    may_be_negative: bool,
) -> Result<(), QueryError> {
    if let Length::Calculated(expr) = length {
        *length = Length::Millis(millis(expr, context, may_be_negative)?);
    }
    Ok(())
}

/// Calculates a length in milliseconds.
fn millis(expr: &LengthExpr, context: LengthContext, may_be_negative: bool) -> Result<i64, QueryError> {
    let seconds = seconds(expr, context)?;
    if !seconds.is_finite() {
        return fault(expr, "duration is NaN or infinite");
    }
    if seconds <= 0.0 && !may_be_negative {
        return fault(expr, "duration must be greater than 0");
    }
    if (seconds * 1000.0).abs() > MILLIS_MAX {
        return fault(expr, "duration is out of range");
    }
    let millis = (seconds * 1000.0) as i64;
    if millis == 0 && !may_be_negative {
        return fault(expr, "duration must be at least a millisecond");
    }
    Ok(millis)
}

fn seconds(expr: &LengthExpr, context: LengthContext) -> Result<f64, QueryError> {
    Ok(match &expr.kind {
        LengthKind::Number(number) | LengthKind::Duration(number) => number.0,
        LengthKind::Step => context.step_s,
        LengthKind::Range => context.range_s,
        LengthKind::Negate(inner) => -seconds(inner, context)?,
        LengthKind::Paren(inner) => seconds(inner, context)?,
        LengthKind::Min(both) => go_min(seconds(&both.0, context)?, seconds(&both.1, context)?),
        LengthKind::Max(both) => go_max(seconds(&both.0, context)?, seconds(&both.1, context)?),
        LengthKind::Binary(op, both) => {
            let (left, right) = (seconds(&both.0, context)?, seconds(&both.1, context)?);
            match op {
                Arithmetic::Divide if right == 0.0 => return fault(expr, "division by zero"),
                Arithmetic::Modulo if right == 0.0 => return fault(expr, "modulo by zero"),
                op => crate::arithmetic::calculate(*op, left, right),
            }
        }
    })
}

fn fault<T>(expr: &LengthExpr, message: &str) -> Result<T, QueryError> {
    let (start, end) = (expr.span.start, expr.span.end);
    Err(QueryError::Length(format!("{start}:{end}: {message}")))
}

/// Go's `math.Max` and `math.Min`: NaN wins.
pub(crate) fn go_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// See [`go_max`].
pub(crate) fn go_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.min(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::Number;
    use crate::span::Span;

    fn part(kind: LengthKind) -> LengthExpr {
        LengthExpr {
            kind,
            span: Span::default(),
        }
    }

    #[test]
    fn lengths_are_cut_to_milliseconds_and_must_be_positive() {
        let context = LengthContext {
            step_s: 15.0,
            range_s: 0.0,
        };
        let check = |op: Arithmetic, right: f64, expected: Result<i64, &str>| {
            let both = (part(LengthKind::Step), part(LengthKind::Number(Number(right))));
            let expr = part(LengthKind::Binary(op, Box::new(both)));
            match (millis(&expr, context, false), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
                other => panic!("{other:?}"),
            }
        };
        check(Arithmetic::Divide, 7.0, Ok(2142));
        check(Arithmetic::Modulo, 4.0, Ok(3000));
        check(
            Arithmetic::Multiply,
            0.0,
            Err("0:0: duration must be greater than 0"),
        );
        check(Arithmetic::Divide, 0.0, Err("0:0: division by zero"));
        check(Arithmetic::Power, 1e9, Err("0:0: duration is NaN or infinite"));
        check(Arithmetic::Multiply, 1e12, Err("0:0: duration is out of range"));
        check(
            Arithmetic::Multiply,
            1e-6,
            Err("0:0: duration must be at least a millisecond"),
        );
    }
}

//! Lengths of time that only the query can tell: `[step() * 2]`, `offset range()`.
//!
//! Source: Prometheus 3, `promql/durations.go`.

use super::planner;
use crate::answer::QueryError;
use crate::ast::{At, Expr, ExprKind};
use crate::functions::Function;
use crate::length::Length;

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

/// What an expression may know of the query that asks it.
enum Knowledge<'e> {
    Length(&'e Length),
    At(At),
    Function(Function),
    /// A part of the expression, for what it does as a whole.
    Part(&'e Expr),
}

/// Says whether anything in the expression is such knowledge as `is_it` asks for.
fn knows(expr: &Expr, is_it: impl Fn(Knowledge<'_>) -> bool) -> bool {
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        if is_it(Knowledge::Part(expr)) {
            return true;
        }
        let (mut at, mut lengths) = (None, [None, None, None]);
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::Text(_) => {}
            ExprKind::Selector(selector) => (at, lengths[0]) = (selector.at, Some(&selector.offset)),
            ExprKind::Range(selector, range) => {
                at = selector.at;
                lengths = [Some(&selector.offset), Some(range), None];
            }
            ExprKind::Subquery(subquery) => {
                at = subquery.at;
                lengths = [
                    Some(&subquery.offset),
                    Some(&subquery.range),
                    subquery.step.as_ref(),
                ];
                open.push(&subquery.expr);
            }
            ExprKind::Call(function, args) => {
                if is_it(Knowledge::Function(*function)) {
                    return true;
                }
                open.extend(args);
            }
            ExprKind::Aggregate(aggregate) => {
                open.push(&aggregate.expr);
                open.extend(&aggregate.param);
            }
            ExprKind::Binary(binary) => open.extend([&binary.left, &binary.right]),
            ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => open.push(inner),
        }
        let mut lengths = lengths.into_iter().flatten();
        if at.is_some_and(|at| is_it(Knowledge::At(at)))
            || lengths.any(|length| is_it(Knowledge::Length(length)))
        {
            return true;
        }
    }
    false
}

/// Says whether some length waits for the query.
pub(super) fn is_waiting(expr: &Expr) -> bool {
    knows(expr, |known| match known {
        Knowledge::Length(length) => length.millis().is_none(),
        _ => false,
    })
}

impl Expr {
    /// Says whether the answer at one moment also depends on where the query begins or ends, or on its step:
    /// by `@ start()`, `step()` and the like, or because a part is evaluated at the first step alone. The answers of
    /// other queries at that moment then say nothing.
    pub fn depends_on_bounds(&self) -> bool {
        knows(self, |known| match known {
            Knowledge::Length(length) => length.millis().is_none(),
            Knowledge::At(at) => matches!(at, At::Start | At::End),
            Knowledge::Function(function) => matches!(
                function,
                Function::Start | Function::End | Function::Range | Function::Step
            ),
            Knowledge::Part(part) => planner::stands_by_its_first_step(part),
        })
    }
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
        let millis = expr.millis(context.step_s, context.range_s, may_be_negative);
        *length = Length::Millis(millis.map_err(|fault| {
            let (start, end) = (fault.span.start, fault.span.end);
            QueryError::Length(format!("{start}:{end}: {}", fault.message))
        })?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::parse;

    #[test]
    fn what_knows_the_query_is_found_everywhere() {
        let check = |text: &str, expected: bool| {
            assert_eq!(parse(text).expect(text).depends_on_bounds(), expected, "{text}");
        };
        check("rate(a[5m] offset 1m) > time()", false);
        check("a @ 100", false);
        check("1 + (sum by (b) (-(a @ start())))", true);
        check("max_over_time(a[1h:1m] @ end())", true);
        check("rate(a[step() * 4])", true);
        check("max_over_time((a offset range())[1h:1m])", true);
        check("a offset (2 * 5m)", false);
        check("topk(step() / 60, a)", true);
        check("vector(start())", true);
        // The parameter of the first step stands for all where the vector stands still.
        check("topk(scalar(k), a)", false);
        check("topk(scalar(k), a @ 10) + b", true);
        check("topk(3, a @ 10) + b", false);
        check("-quantile(time() / 1e9, vector(1))", true);
        check("info(a)", false);
        check("info(a @ 10)", false);
        check("info(vector(1))", true);
    }
}

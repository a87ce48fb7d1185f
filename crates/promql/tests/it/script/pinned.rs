//! An expression with every selector pinned by `@`: asked at any moment, it gives what the pinned one gives.

use marketprism_promql::{At, Expr, ExprKind};

/// Functions whose answer follows the moment of the query, or of their argument's samples, all the same.
const FOLLOW_THE_MOMENT: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
];

/// Pins what is not pinned yet; `None` when the answer would follow the moment all the same.
pub fn pinned(expr: &Expr, at: i64) -> Option<Expr> {
    let mut pinned = expr.clone();
    pin(&mut pinned, at).then_some(pinned)
}

/// Pins, and says whether the answer is then the same at any moment.
fn pin(expr: &mut Expr, at: i64) -> bool {
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::Text(_) => true,
        ExprKind::Selector(selector) | ExprKind::Range(selector, _) => {
            selector.at.get_or_insert(At::Time(at));
            true
        }
        // What is within is evaluated at the moments of the subquery, which are pinned with it.
        ExprKind::Subquery(subquery) => {
            subquery.at.get_or_insert(At::Time(at));
            true
        }
        ExprKind::Call(function, arguments) => {
            let follows = FOLLOW_THE_MOMENT.contains(&function.signature().name);
            arguments
                .iter_mut()
                .fold(!follows, |same, argument| pin(argument, at) && same)
        }
        ExprKind::Aggregate(aggregate) => {
            let of_param = aggregate.param.as_mut().is_none_or(|param| pin(param, at));
            pin(&mut aggregate.expr, at) && of_param
        }
        ExprKind::Binary(binary) => {
            let of_left = pin(&mut binary.left, at);
            pin(&mut binary.right, at) && of_left
        }
        ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => pin(inner, at),
    }
}

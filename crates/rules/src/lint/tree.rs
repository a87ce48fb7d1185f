//! Walking an expression.

use marketprism_promql::{Expr, ExprKind, Function};

/// Gives the parts of an expression.
pub(super) fn parts(expr: &Expr) -> Vec<&Expr> {
    match &expr.kind {
        ExprKind::Subquery(subquery) => vec![&subquery.expr],
        ExprKind::Call(_, args) => args.iter().collect(),
        ExprKind::Aggregate(aggregate) => {
            let mut parts: Vec<&Expr> = aggregate.param.iter().collect();
            parts.push(&aggregate.expr);
            parts
        }
        ExprKind::Binary(binary) => vec![&binary.left, &binary.right],
        ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => vec![inner],
        _ => Vec::new(),
    }
}

/// Calls `visit` with an expression and all its parts.
pub(super) fn each<'a>(expr: &'a Expr, visit: &mut dyn FnMut(&'a Expr)) {
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        visit(expr);
        open.extend(parts(expr));
    }
}

/// Says whether any part of an expression is so.
pub(super) fn any(expr: &Expr, is_so: &dyn Fn(&Expr) -> bool) -> bool {
    let mut found = false;
    each(expr, &mut |part| found |= is_so(part));
    found
}

pub(super) fn is_absence(expr: &Expr) -> bool {
    matches!(
        &expr.kind,
        ExprKind::Call(Function::Absent | Function::AbsentOverTime, _)
    )
}

/// Gives the number that an expression is.
pub(super) fn number(expr: &Expr) -> Option<f64> {
    match &expr.without_parens().kind {
        ExprKind::Number(value) | ExprKind::Duration(value) => Some(value.0),
        ExprKind::Negate(inner) => number(inner).map(|value| -value),
        ExprKind::Plus(inner) => number(inner),
        _ => None,
    }
}

//! What `info` looks up: which info series, and at which moments.
//!
//! Source: Prometheus 3, `promql/info.go`.

use std::sync::Arc;

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Matcher, MatcherOp};

use super::planner::millis;
use super::{Choice, InfoChoice, Shift};
use crate::ast::{At, Expr, ExprKind, Selector};

/// The info metric that is meant when no other is named.
const TARGET_INFO: &str = "target_info";

/// Reads the arguments of `info`: the vector, and the selector of labels, if any.
pub(super) fn choice_of(vector: &Expr, labels: Option<&Expr>) -> InfoChoice {
    let selector = labels.and_then(|labels| match &labels.without_parens().kind {
        ExprKind::Selector(selector) => Some(selector),
        _ => None,
    });
    let given = selector.map_or(&[][..], |selector| &selector.matchers);
    let (names, data): (Vec<Matcher>, Vec<Matcher>) = given
        .iter()
        .cloned()
        .partition(|matcher| &*matcher.name == METRIC_NAME);
    let names = effective_names(names);
    InfoChoice {
        choice: Choice::of(names.iter().chain(&data).cloned().collect()),
        names: Arc::from(names),
        data: Arc::from(data),
        shift: shift_of(vector),
    }
}

/// Adds what is not said: `target_info` when nothing is, any `…_info` when only other names are excluded.
fn effective_names(mut names: Vec<Matcher>) -> Vec<Matcher> {
    let is_positive = |matcher: &Matcher| matches!(matcher.op, MatcherOp::Equal | MatcherOp::Matches);
    if names.is_empty() {
        return vec![Matcher::equal(METRIC_NAME, TARGET_INFO)];
    }
    if !names.iter().any(is_positive)
        && let Ok(any) = Matcher::new(METRIC_NAME, MatcherOp::Matches, ".+_info")
    {
        names.insert(0, any);
    }
    names
}

/// Finds when the samples of the first selector are from: its `@` or that of the nearest subquery around it, else
/// the moment of evaluation, shifted by the offsets up to there.
fn shift_of(vector: &Expr) -> Shift {
    first_selector(vector).unwrap_or(Shift {
        offset_ms: 0,
        at: None,
    })
}

fn first_selector(expr: &Expr) -> Option<Shift> {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::Text(_) => None,
        ExprKind::Selector(selector) | ExprKind::Range(selector, _) => Some(of_selector(selector)),
        ExprKind::Subquery(subquery) => first_selector(&subquery.expr).map(|inner| match inner.at {
            Some(_) => inner,
            None => Shift {
                offset_ms: inner.offset_ms + millis(&subquery.offset),
                at: subquery.at,
            },
        }),
        ExprKind::Call(_, args) => args.iter().find_map(first_selector),
        ExprKind::Aggregate(aggregate) => {
            first_selector(&aggregate.expr).or_else(|| aggregate.param.as_ref().and_then(first_selector))
        }
        ExprKind::Binary(binary) => first_selector(&binary.left).or_else(|| first_selector(&binary.right)),
        ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => first_selector(inner),
    }
}

fn of_selector(selector: &Selector) -> Shift {
    let at: Option<At> = selector.at;
    Shift {
        offset_ms: millis(&selector.offset),
        at,
    }
}

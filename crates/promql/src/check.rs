//! Checks what a tree means before anything is planned: types, counts, modifiers.
//!
//! The messages follow Prometheus, so that people find what they search for.

use std::sync::Arc;

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{MatcherOp, matcher};

use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Cardinality, Expr, ExprKind, LabelChoice, Selector, ValueType,
};
use crate::functions::Function;
use crate::length::Length;
use crate::parse::ParseError;

/// Checks an expression from the bottom up.
pub(crate) fn check(expr: &Expr) -> Result<(), ParseError> {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::Text(_) => Ok(()),
        ExprKind::Paren(inner) => check(inner),
        ExprKind::Selector(selector) => check_selector(selector),
        ExprKind::Range(selector, range) => {
            check_span(range)?;
            check_selector(selector)
        }
        ExprKind::Subquery(subquery) => {
            check_span(&subquery.range)?;
            subquery.step.as_ref().map_or(Ok(()), check_span)?;
            check(&subquery.expr)?;
            match subquery.expr.value_type() {
                ValueType::Vector => Ok(()),
                other => fail(format!(
                    "subquery is only allowed on instant vector, got {other} instead"
                )),
            }
        }
        ExprKind::Negate(inner) | ExprKind::Plus(inner) => {
            check(inner)?;
            match inner.value_type() {
                ValueType::Scalar | ValueType::Vector => Ok(()),
                other => fail(format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {other}"
                )),
            }
        }
        ExprKind::Call(function, args) => check_call(*function, args),
        ExprKind::Aggregate(aggregate) => check_aggregate(aggregate),
        ExprKind::Binary(binary) => check_binary(binary),
    }
}

fn fail<T>(message: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError::new(message, None))
}

fn check_span(length: &Length) -> Result<(), ParseError> {
    if length.millis().is_none_or(|ms| ms > 0) {
        Ok(())
    } else {
        fail("duration must be greater than 0")
    }
}

fn expect(expected: ValueType, found: ValueType, place: &str) -> Result<(), ParseError> {
    if expected == found {
        Ok(())
    } else {
        fail(format!("expected type {expected} in {place}, got {found}"))
    }
}

fn check_selector(selector: &Selector) -> Result<(), ParseError> {
    let equal_names = selector
        .matchers
        .iter()
        .filter(|m| &*m.name == METRIC_NAME && m.op == MatcherOp::Equal);
    let equal_names: Vec<&str> = equal_names.map(|m| &*m.value).collect();
    if let [first, second, ..] = equal_names[..] {
        return fail(format!(
            "metric name must not be set twice: {first:?} or {second:?}"
        ));
    }
    if selector.matchers.iter().all(|m| m.matches_empty()) {
        return fail("vector selector must contain at least one non-empty matcher");
    }
    Ok(())
}

fn check_call(function: Function, args: &[Expr]) -> Result<(), ParseError> {
    let signature = function.signature();
    let (name, count) = (signature.name, args.len());
    if count < signature.count_min || count > signature.count_max {
        let expected = match (signature.count_min, signature.count_max) {
            (min, max) if min == max => format!("{min}"),
            (min, _) if count < min => format!("at least {min}"),
            (_, max) => format!("at most {max}"),
        };
        return fail(format!(
            "expected {expected} argument(s) in call to {name:?}, got {count}"
        ));
    }
    for (place, arg) in args.iter().enumerate() {
        check(arg)?;
        if let Some(expected) = signature.arguments.get(place).or(signature.arguments.last()) {
            expect(*expected, arg.value_type(), &format!("call to function {name:?}"))?;
        }
    }
    check_label_function(function, args)
}

fn text(args: &[Expr], place: usize) -> Option<&Arc<str>> {
    match args.get(place).map(|arg| &arg.without_parens().kind) {
        Some(ExprKind::Text(text)) => Some(text),
        _ => None,
    }
}

fn check_label_function(function: Function, args: &[Expr]) -> Result<(), ParseError> {
    let name = function.signature().name;
    if matches!(function, Function::LabelReplace | Function::LabelJoin)
        && text(args, 1).is_some_and(|target| target.is_empty())
    {
        return fail(format!("invalid destination label name in {name}(): \"\""));
    }
    if let (Function::LabelReplace, Some(pattern)) = (function, text(args, 4))
        && let Err(reason) = matcher::anchored(pattern)
    {
        return fail(format!(
            "invalid regular expression in {name}(): {pattern}: {reason}"
        ));
    }
    if function == Function::LabelJoin
        && (3..args.len()).any(|place| text(args, place).is_some_and(|source| source.is_empty()))
    {
        return fail(format!("invalid source label name in {name}(): \"\""));
    }
    Ok(())
}

fn check_aggregate(aggregate: &Aggregate) -> Result<(), ParseError> {
    let place = "aggregation expression";
    check(&aggregate.expr)?;
    expect(ValueType::Vector, aggregate.expr.value_type(), place)?;
    let expected = match aggregate.op {
        AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::Limitk
        | AggregateOp::LimitRatio
        | AggregateOp::Quantile => Some(ValueType::Scalar),
        AggregateOp::CountValues => Some(ValueType::Text),
        _ => None,
    };
    match (expected, &aggregate.param) {
        (None, None) => Ok(()),
        (Some(expected), Some(param)) => {
            check(param)?;
            expect(expected, param.value_type(), &format!("{place} parameter"))?;
            match &param.without_parens().kind {
                ExprKind::Text(label) if label.is_empty() => fail("invalid label name \"\""),
                _ => Ok(()),
            }
        }
        (expected, _) => fail(format!(
            "wrong number of arguments for aggregate expression provided, expected {}, got {}",
            1 + usize::from(expected.is_some()),
            1 + usize::from(expected.is_none()),
        )),
    }
}

fn check_binary(binary: &Binary) -> Result<(), ParseError> {
    check(&binary.left)?;
    check(&binary.right)?;
    let (left, right) = (binary.left.value_type(), binary.right.value_type());
    let is_operand = |found| matches!(found, ValueType::Scalar | ValueType::Vector);
    if !is_operand(left) || !is_operand(right) {
        return fail("binary expression must contain only scalar and instant vector types");
    }
    let is_comparison = matches!(binary.op, BinaryOp::Comparison(_));
    let are_scalars = left == ValueType::Scalar && right == ValueType::Scalar;
    if binary.is_bool && !is_comparison {
        return fail("bool modifier can only be used on comparison operators");
    }
    if is_comparison && are_scalars && !binary.is_bool {
        return fail("comparisons between scalars must use BOOL modifier");
    }
    let Some(matching) = &binary.matching else {
        return match binary.op {
            BinaryOp::Set(_) => fail(format!(
                "set operator {:?} not allowed in binary scalar expression",
                binary.op.as_str()
            )),
            _ => Ok(()),
        };
    };
    let included = match &matching.cardinality {
        Cardinality::OneToOne => return check_fill(binary),
        Cardinality::ManyToOne(labels) | Cardinality::OneToMany(labels) => labels,
    };
    if let BinaryOp::Set(_) = binary.op {
        return fail(format!(
            "no grouping allowed for {:?} operation",
            binary.op.as_str()
        ));
    }
    if let LabelChoice::Only(on) = &matching.labels
        && let Some(twice) = on.iter().find(|label| included.contains(label))
    {
        return fail(format!(
            "label {twice:?} must not occur in ON and GROUP clause at once"
        ));
    }
    check_fill(binary)
}

fn check_fill(binary: &Binary) -> Result<(), ParseError> {
    let is_filled = binary
        .matching
        .as_ref()
        .is_some_and(|m| m.fill_left.is_some() || m.fill_right.is_some());
    match binary.op {
        BinaryOp::Set(_) if is_filled => fail("filling in missing series not allowed for set operators"),
        _ => Ok(()),
    }
}

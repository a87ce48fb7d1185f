//! An expression's tree as JSON, in the shape that Prometheus' API gives to its tree view.
//!
//! Lengths that are calculated appear as they are written; their milliseconds are 0 there, as in Prometheus.

use serde_json::{Value, json};

use crate::ast::{
    Aggregate, Arithmetic, At, Binary, BinaryOp, Cardinality, Expr, ExprKind, Extension, LabelChoice,
    Matching, Number, Selector, ValueType,
};
use crate::functions::{Function, Signature};
use crate::length::{Length, LengthExpr, LengthKind};

/// Gives the tree of an expression, as `/api/v1/parse_query` does.
pub fn tree_json(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(number) | ExprKind::Duration(number) => {
            json!({"type": "numberLiteral", "val": number.to_string()})
        }
        ExprKind::Text(text) => json!({"type": "stringLiteral", "val": &**text}),
        ExprKind::Selector(selector) => of_selector(selector),
        ExprKind::Range(selector, range) => {
            let mut tree = of_selector(selector);
            tree["type"] = json!("matrixSelector");
            tree["range"] = millis(range);
            tree["rangeExpr"] = written(Some(range));
            tree
        }
        ExprKind::Subquery(subquery) => json!({
            "type": "subquery",
            "expr": tree_json(&subquery.expr),
            "range": millis(&subquery.range),
            "rangeExpr": written(Some(&subquery.range)),
            "offset": millis(&subquery.offset),
            "offsetExpr": written(Some(&subquery.offset)),
            "step": subquery.step.as_ref().map_or(json!(0), millis),
            "stepExpr": written(subquery.step.as_ref()),
            "timestamp": timestamp(subquery.at),
            "startOrEnd": start_or_end(subquery.at),
        }),
        ExprKind::Call(function, args) => json!({
            "type": "call",
            "func": of_function(*function),
            "args": args.iter().map(tree_json).collect::<Vec<_>>(),
        }),
        ExprKind::Aggregate(aggregate) => of_aggregate(aggregate),
        ExprKind::Binary(binary) => json!({
            "type": "binaryExpr",
            "op": binary.op.as_str(),
            "lhs": tree_json(&binary.left),
            "rhs": tree_json(&binary.right),
            "matching": binary.matching.as_ref().map(|matching| of_matching(binary, matching)),
            "bool": binary.is_bool,
        }),
        ExprKind::Negate(inner) => json!({"type": "unaryExpr", "op": "-", "expr": tree_json(inner)}),
        ExprKind::Plus(inner) => json!({"type": "unaryExpr", "op": "+", "expr": tree_json(inner)}),
        ExprKind::Paren(inner) => json!({"type": "parenExpr", "expr": tree_json(inner)}),
    }
}

fn of_selector(selector: &Selector) -> Value {
    // The name before the braces comes last among the matchers.
    let is_named = usize::from(selector.is_named).min(selector.matchers.len());
    let (name, braced) = selector.matchers.split_at(is_named);
    let matchers: Vec<Value> = braced
        .iter()
        .chain(name)
        .map(|matcher| {
            json!({
                "name": &*matcher.name,
                "value": &*matcher.value,
                "type": matcher.op.as_str(),
            })
        })
        .collect();
    json!({
        "type": "vectorSelector",
        "name": name.first().map_or("", |name| &*name.value),
        "offset": millis(&selector.offset),
        "offsetExpr": written(Some(&selector.offset)),
        "matchers": matchers,
        "timestamp": timestamp(selector.at),
        "startOrEnd": start_or_end(selector.at),
        "anchored": selector.extension == Some(Extension::Anchored),
        "smoothed": selector.extension == Some(Extension::Smoothed),
    })
}

fn of_aggregate(aggregate: &Aggregate) -> Value {
    let (labels, is_without) = match &aggregate.grouping {
        None => (&[][..], false),
        Some(LabelChoice::Only(labels)) => (&labels[..], false),
        Some(LabelChoice::Except(labels)) => (&labels[..], true),
    };
    json!({
        "type": "aggregation",
        "op": aggregate.op.as_str(),
        "expr": tree_json(&aggregate.expr),
        "param": aggregate.param.as_ref().map(tree_json),
        "grouping": labels.iter().map(|label| &**label).collect::<Vec<_>>(),
        "without": is_without,
    })
}

fn of_matching(binary: &Binary, matching: &Matching) -> Value {
    let (labels, is_on) = match &matching.labels {
        LabelChoice::Only(labels) => (labels, true),
        LabelChoice::Except(labels) => (labels, false),
    };
    let (card, included) = match (&matching.cardinality, binary.op) {
        (Cardinality::OneToOne, BinaryOp::Set(_)) => ("many-to-many", &[][..]),
        (Cardinality::OneToOne, _) => ("one-to-one", &[][..]),
        (Cardinality::ManyToOne(labels), _) => ("many-to-one", &labels[..]),
        (Cardinality::OneToMany(labels), _) => ("one-to-many", &labels[..]),
    };
    let value = |fill: Option<Number>| fill.map(|number| number.0);
    json!({
        "card": card,
        "labels": labels.iter().map(|label| &**label).collect::<Vec<_>>(),
        "on": is_on,
        "include": included.iter().map(|label| &**label).collect::<Vec<_>>(),
        "fillValues": {"lhs": value(matching.fill_left), "rhs": value(matching.fill_right)},
    })
}

const fn type_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::Text => "string",
    }
}

fn of_function(function: Function) -> Value {
    let Signature {
        name,
        arguments,
        count_min,
        count_max,
        yields,
    } = function.signature();
    // How many arguments may follow those before the last; -1 for any number.
    let variadic = match count_max {
        max if max == count_min => 0,
        usize::MAX => -1,
        max => i64::try_from(max + 1 - arguments.len()).unwrap_or(-1),
    };
    json!({
        "name": name,
        "argTypes": arguments.iter().copied().map(type_name).collect::<Vec<_>>(),
        "variadic": variadic,
        "returnType": type_name(yields),
    })
}

fn millis(length: &Length) -> Value {
    match length {
        Length::Millis(ms) => json!(ms),
        Length::Constant(..) | Length::Calculated(_) => json!(0),
    }
}

fn timestamp(at: Option<At>) -> Value {
    match at {
        Some(At::Time(ms)) => json!(ms),
        _ => Value::Null,
    }
}

fn start_or_end(at: Option<At>) -> Value {
    match at {
        Some(At::Start) => json!("start"),
        Some(At::End) => json!("end"),
        _ => Value::Null,
    }
}

fn written(length: Option<&Length>) -> Value {
    match length {
        None | Some(Length::Millis(_)) => Value::Null,
        Some(Length::Constant(_, written) | Length::Calculated(written)) => of_length(written),
    }
}

fn operation(op: &str, left: Option<&LengthExpr>, right: Option<&LengthExpr>) -> Value {
    json!({
        "type": "durationExpr",
        "op": op,
        "lhs": left.map(of_length),
        "rhs": right.map(of_length),
        "wrapped": false,
    })
}

fn of_length(length: &LengthExpr) -> Value {
    let number = |number: &Number, is_duration: bool| json!({"type": "numberLiteral", "val": number.to_string(), "duration": is_duration});
    match &length.kind {
        LengthKind::Number(value) => number(value, false),
        LengthKind::Duration(value) => number(value, true),
        LengthKind::Step => operation("step", None, None),
        LengthKind::Range => operation("range", None, None),
        LengthKind::Negate(inner) => operation(
            BinaryOp::Arithmetic(Arithmetic::Subtract).as_str(),
            None,
            Some(inner),
        ),
        LengthKind::Paren(inner) => {
            let mut tree = match inner.kind {
                LengthKind::Number(_) | LengthKind::Duration(_) => operation("+", None, Some(inner)),
                _ => of_length(inner),
            };
            tree["wrapped"] = json!(true);
            tree
        }
        LengthKind::Binary(op, sides) => {
            operation(BinaryOp::Arithmetic(*op).as_str(), Some(&sides.0), Some(&sides.1))
        }
        LengthKind::Min(sides) => operation("min_of", Some(&sides.0), Some(&sides.1)),
        LengthKind::Max(sides) => operation("max_of", Some(&sides.0), Some(&sides.1)),
    }
}

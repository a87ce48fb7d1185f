//! An expression's tree as JSON, in the shape that Prometheus' API gives to its tree view.
//!
//! Lengths that are calculated appear as they are written; their milliseconds are 0 there, as in Prometheus.

use serde_json::{Value, json};

use crate::ast::{
    Aggregate, Arithmetic, At, Binary, BinaryOp, Cardinality, Expr, ExprKind, Extension, LabelChoice,
    Matching, Number, Selector, Subquery, ValueType,
};
use crate::functions::{Function, Signature};
use crate::length::{Length, LengthExpr, LengthKind};
use crate::quote::lenient;

/// Gives the tree of an expression, as `/api/v1/parse_query` does.
pub fn tree_json(expr: &Expr) -> Value {
    // Each shape has a function of its own, so that the frames of deep trees stay small.
    match &expr.kind {
        ExprKind::Number(number) | ExprKind::Duration(number) => of_number(*number),
        ExprKind::Text(text) => json!({"type": "stringLiteral", "val": lenient(text)}),
        ExprKind::Selector(selector) => of_selector(selector),
        ExprKind::Range(selector, range) => of_range(selector, range),
        ExprKind::Subquery(subquery) => of_subquery(subquery),
        ExprKind::Call(function, args) => of_call(*function, args),
        ExprKind::Aggregate(aggregate) => of_aggregate(aggregate),
        ExprKind::Binary(binary) => of_binary(binary),
        ExprKind::Negate(inner) => of_unary("-", inner),
        ExprKind::Plus(inner) => of_unary("+", inner),
        ExprKind::Paren(inner) => of_parens(inner),
    }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn of_number(number: Number) -> Value {
    object([
        ("type", "numberLiteral".into()),
        ("val", number.to_string().into()),
    ])
}

fn of_unary(op: &str, inner: &Expr) -> Value {
    let expr = tree_json(inner);
    object([("type", "unaryExpr".into()), ("op", op.into()), ("expr", expr)])
}

fn of_parens(inner: &Expr) -> Value {
    let expr = tree_json(inner);
    object([("type", "parenExpr".into()), ("expr", expr)])
}

fn of_range(selector: &Selector, range: &Length) -> Value {
    let mut tree = of_selector(selector);
    tree["type"] = "matrixSelector".into();
    tree["range"] = millis(range);
    tree["rangeExpr"] = written(Some(range));
    tree
}

fn of_subquery(subquery: &Subquery) -> Value {
    let expr = tree_json(&subquery.expr);
    object([
        ("type", "subquery".into()),
        ("expr", expr),
        ("range", millis(&subquery.range)),
        ("rangeExpr", written(Some(&subquery.range))),
        ("offset", millis(&subquery.offset)),
        ("offsetExpr", written(Some(&subquery.offset))),
        ("step", subquery.step.as_ref().map_or(0.into(), millis)),
        ("stepExpr", written(subquery.step.as_ref())),
        ("timestamp", timestamp(subquery.at)),
        ("startOrEnd", start_or_end(subquery.at)),
    ])
}

fn of_call(function: Function, args: &[Expr]) -> Value {
    let mut trees = Vec::with_capacity(args.len());
    for arg in args {
        trees.push(tree_json(arg));
    }
    object([
        ("type", "call".into()),
        ("func", of_function(function)),
        ("args", Value::Array(trees)),
    ])
}

fn of_binary(binary: &Binary) -> Value {
    let (left, right) = (tree_json(&binary.left), tree_json(&binary.right));
    let matching = binary.matching.as_ref();
    object([
        ("type", "binaryExpr".into()),
        ("op", binary.op.as_str().into()),
        ("lhs", left),
        ("rhs", right),
        (
            "matching",
            matching.map_or(Value::Null, |matching| of_matching(binary, matching)),
        ),
        ("bool", binary.is_bool.into()),
    ])
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
                "name": lenient(&matcher.name),
                "value": lenient(&matcher.value),
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
    let labels: Vec<Value> = labels.iter().map(|label| Value::from(&**label)).collect();
    let expr = tree_json(&aggregate.expr);
    let param = aggregate.param.as_ref().map_or(Value::Null, tree_json);
    object([
        ("type", "aggregation".into()),
        ("op", aggregate.op.as_str().into()),
        ("expr", expr),
        ("param", param),
        ("grouping", Value::Array(labels)),
        ("without", is_without.into()),
    ])
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
    object([
        ("type", "durationExpr".into()),
        ("op", op.into()),
        ("lhs", left.map_or(Value::Null, of_length)),
        ("rhs", right.map_or(Value::Null, of_length)),
        ("wrapped", false.into()),
    ])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn tree(text: &str) -> Value {
        tree_json(&parse(text).expect(text))
    }

    #[test]
    fn selectors_name_their_matchers_and_times() {
        let expected = json!({
            "type": "matrixSelector", "name": "a", "range": 300_000, "rangeExpr": null,
            "offset": -60_000, "offsetExpr": null, "timestamp": 1_500, "startOrEnd": null,
            "anchored": true, "smoothed": false,
            "matchers": [
                {"name": "b", "type": "=~", "value": "c"},
                {"name": "__name__", "type": "=", "value": "a"},
            ],
        });
        assert_eq!(tree("a{b=~\"c\"}[5m] anchored @ 1.5 offset -1m"), expected);
        assert_eq!(tree("{\"a\"} @ end()")["name"], "");
        assert_eq!(tree("{\"a\"} @ end()")["startOrEnd"], "end");
    }

    #[test]
    fn operators_and_calls_name_what_they_take() {
        let binary = tree("1 + bool_total or ignoring (x) -round(a, 5)");
        assert_eq!(binary["matching"]["card"], "many-to-many");
        assert_eq!(binary["matching"]["labels"], json!(["x"]));
        assert_eq!(binary["matching"]["on"], false);
        assert_eq!(binary["lhs"]["matching"], Value::Null);
        assert_eq!(binary["lhs"]["lhs"], json!({"type": "numberLiteral", "val": "1"}));
        assert_eq!(binary["rhs"]["op"], "-");
        let expected = json!({
            "name": "round", "argTypes": ["vector", "scalar"], "variadic": 1, "returnType": "vector",
        });
        assert_eq!(binary["rhs"]["expr"]["func"], expected);
        assert_eq!(tree("label_join(a, \"b\", \",\", \"c\")")["func"]["variadic"], -1);
        let fills = tree("a * on () group_left (y) fill_right (2) b");
        assert_eq!(fills["matching"]["fillValues"], json!({"lhs": null, "rhs": 2.0}));
        assert_eq!(fills["matching"]["include"], json!(["y"]));
        let aggregate = tree("quantile(0.5, a) without (c)");
        assert_eq!(
            (&aggregate["without"], &aggregate["grouping"]),
            (&json!(true), &json!(["c"]))
        );
        assert_eq!(aggregate["param"]["val"], "0.5");
    }

    #[test]
    fn calculated_lengths_stand_as_they_are_written() {
        let subquery = tree("a[(5m) * 2:step()]");
        assert_eq!((&subquery["range"], &subquery["step"]), (&json!(0), &json!(0)));
        assert_eq!(subquery["stepExpr"]["op"], "step");
        let range = &subquery["rangeExpr"];
        assert_eq!((&range["op"], &range["wrapped"]), (&json!("*"), &json!(false)));
        let expected = json!({
            "type": "durationExpr", "op": "+", "lhs": null, "wrapped": true,
            "rhs": {"type": "numberLiteral", "val": "300", "duration": true},
        });
        assert_eq!(range["lhs"], expected);
    }
}

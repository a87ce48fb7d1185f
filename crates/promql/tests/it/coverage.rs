//! Every function, operator and modifier of the language has an eval in our scripts.

use std::collections::BTreeSet;
use std::path::PathBuf;

use marketprism_promql::{
    AggregateOp, Arithmetic, At, Binary, BinaryOp, Cardinality, Comparison, Expr, ExprKind, Function,
    LabelChoice, Length, Selector, SetOp, parse,
};

use crate::differential::each_part;
use crate::script::{Command, commands};

/// Where our scripts are.
pub fn scripts() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/scripts");
    let entries = std::fs::read_dir(folder).expect("the scripts' folder");
    let mut scripts: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    scripts.sort();
    scripts
}

/// The names of what an expression is made of.
pub fn names(expr: &Expr) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    each_part(expr, &mut |part| {
        match &part.kind {
            ExprKind::Call(function, _) => {
                names.insert(function.signature().name);
            }
            ExprKind::Aggregate(aggregate) => {
                names.insert(aggregate.op.as_str());
                names.extend(aggregate.grouping.as_ref().map(|choice| match choice {
                    LabelChoice::Only(_) => "by",
                    LabelChoice::Except(_) => "without",
                }));
            }
            ExprKind::Binary(binary) => names_of_binary(binary, &mut names),
            ExprKind::Subquery(subquery) => {
                names.insert(if subquery.step.is_some() {
                    "[range:step]"
                } else {
                    "[range:]"
                });
                names_of_length(&subquery.range, &mut names);
                if let Some(step) = &subquery.step {
                    names_of_length(step, &mut names);
                }
                names_of_shift(subquery.at, &subquery.offset, &mut names);
            }
            ExprKind::Selector(selector) => names_of_selector(selector, &mut names),
            ExprKind::Range(selector, length) => {
                names.insert("[range]");
                names_of_length(length, &mut names);
                names_of_selector(selector, &mut names);
            }
            ExprKind::Negate(_) => {
                names.insert("negation");
            }
            ExprKind::Plus(_) => {
                names.insert("plus");
            }
            ExprKind::Text(_) => {
                names.insert("text");
            }
            ExprKind::Duration(_) => {
                names.insert("duration as number");
            }
            ExprKind::Number(_) | ExprKind::Paren(_) => {}
        };
    });
    names
}

fn names_of_binary(binary: &Binary, names: &mut BTreeSet<&'static str>) {
    names.insert(binary.op.as_str());
    if binary.is_bool {
        names.insert("bool");
    }
    let Some(matching) = &binary.matching else {
        return;
    };
    match &matching.labels {
        LabelChoice::Only(_) => names.insert("on"),
        LabelChoice::Except(labels) => !labels.is_empty() && names.insert("ignoring"),
    };
    match &matching.cardinality {
        Cardinality::OneToOne => false,
        Cardinality::ManyToOne(_) => names.insert("group_left"),
        Cardinality::OneToMany(_) => names.insert("group_right"),
    };
    match (matching.fill_left, matching.fill_right) {
        (Some(_), Some(_)) => names.insert("fill"),
        (Some(_), None) => names.insert("fill_left"),
        (None, Some(_)) => names.insert("fill_right"),
        (None, None) => false,
    };
}

fn names_of_selector(selector: &Selector, names: &mut BTreeSet<&'static str>) {
    names_of_shift(selector.at, &selector.offset, names);
    names.extend(selector.extension.map(|extension| extension.as_str()));
    names.extend(selector.matchers.iter().map(|matcher| matcher.op.as_str()));
}

fn names_of_length(length: &Length, names: &mut BTreeSet<&'static str>) {
    match length {
        Length::Millis(_) => {}
        Length::Constant(..) | Length::Calculated(_) => {
            names.insert("calculated length");
        }
    }
}

fn names_of_shift(at: Option<At>, offset: &Length, names: &mut BTreeSet<&'static str>) {
    names.extend(at.map(|at| match at {
        At::Time(_) => "@",
        At::Start => "@ start()",
        At::End => "@ end()",
    }));
    names_of_length(offset, names);
    match offset.millis() {
        Some(0) => {}
        Some(offset) if offset < 0 => {
            names.insert("negative offset");
        }
        _ => {
            names.insert("offset");
        }
    }
}

/// All that there is; what is left out of it is said why.
fn all() -> BTreeSet<&'static str> {
    use AggregateOp::*;
    let aggregations = [
        Sum,
        Avg,
        Min,
        Max,
        Count,
        Group,
        Stddev,
        Stdvar,
        Topk,
        Bottomk,
        Quantile,
        CountValues,
        Limitk,
        LimitRatio,
    ];
    use Arithmetic::*;
    let arithmetic = [
        Add, Subtract, Multiply, Divide, Modulo, Power, Atan2, TrimUpper, TrimLower,
    ];
    use Comparison::*;
    let comparisons = [Equal, NotEqual, Greater, Less, GreaterOrEqual, LessOrEqual];
    let sets = [SetOp::And, SetOp::Or, SetOp::Unless];
    let functions = Function::ALL.iter().map(|function| function.signature().name);
    functions
        // Samples have no start timestamps here, and it is refused.
        .filter(|name| *name != "start_timestamp")
        .chain(aggregations.map(AggregateOp::as_str))
        .chain(arithmetic.map(|op| BinaryOp::Arithmetic(op).as_str()))
        .chain(comparisons.map(|op| BinaryOp::Comparison(op).as_str()))
        .chain(sets.map(|op| BinaryOp::Set(op).as_str()))
        .chain([
            "@",
            "@ end()",
            "@ start()",
            "calculated length",
            "[range:]",
            "[range:step]",
            "[range]",
            "=",
            "!=",
            "=~",
            "!~",
            "anchored",
            "bool",
            "by",
            "duration as number",
            "fill",
            "fill_left",
            "fill_right",
            "group_left",
            "group_right",
            "ignoring",
            "negation",
            "negative offset",
            "offset",
            "on",
            "plus",
            "smoothed",
            "text",
            "without",
        ])
        .collect()
}

#[test]
fn everything_of_the_language_has_an_eval() {
    let mut seen = BTreeSet::new();
    for path in scripts() {
        let script = std::fs::read_to_string(&path).expect("a script");
        for command in commands(&script).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
            // What must fail shows nothing of what it would give.
            if let Command::Eval(eval) = command
                && !eval.expected.must_fail()
            {
                let expr = parse(&eval.query).unwrap_or_else(|error| panic!("{}: {error}", eval.query));
                seen.extend(names(&expr));
            }
        }
    }
    let missing: Vec<_> = all().difference(&seen).copied().collect();
    assert!(
        missing.is_empty(),
        "without an eval in tests/data/scripts: {missing:?}"
    );
}

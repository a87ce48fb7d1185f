//! Lints of an expression by itself.

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Matcher, MatcherOp};
use marketprism_promql::{
    AggregateOp, Arithmetic, Binary, BinaryOp, Comparison, Expr, ExprKind, Function, LabelChoice, Selector,
    SetOp, Span,
};

use crate::lint::fact::Fact;
use crate::lint::labels::{Yielded, yielded};
use crate::lint::tree;

/// What is found in an expression: the lint, where, and what of it.
pub(super) type Found = (&'static str, Span, Fact);

/// Endings of names that only gauges have.
const GAUGES: [&str; 10] = [
    "_ratio",
    "_percent",
    "_celsius",
    "_info",
    "_timestamp_seconds",
    "_avail_bytes",
    "_free_bytes",
    "_size_bytes",
    "_in_progress",
    "_temperature",
];
const RATES: [Function; 3] = [Function::Rate, Function::Irate, Function::Increase];

/// Looks at an expression and all its parts.
pub(super) fn look(expr: &Expr, scrape_ms: i64, found: &mut Vec<Found>) {
    tree::each(expr, &mut |part| match &part.kind {
        ExprKind::Selector(selector) | ExprKind::Range(selector, _) => matchers(selector, part.span, found),
        ExprKind::Call(function, args) => call(*function, args, part.span, scrape_ms, found),
        ExprKind::Binary(binary) => {
            comparison(binary, part.span, found);
            join(binary, part.span, found);
        }
        _ => {}
    });
}

fn matchers(selector: &Selector, span: Span, found: &mut Vec<Found>) {
    for (place, matcher) in selector.matchers.iter().enumerate() {
        if matcher.op != MatcherOp::Equal {
            continue;
        }
        let rest = selector
            .matchers
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != place);
        let opposed = rest
            .map(|(_, other)| other)
            .find(|other| other.name == matcher.name && !other.matches(&matcher.value))
            // Two equalities are one contradiction.
            .filter(|_| {
                !found
                    .iter()
                    .any(|(lint, at, _)| *lint == "contradiction" && at.start == span.start)
            });
        if let Some(other) = opposed {
            let fact = Fact::Excluding {
                first: shown(matcher),
                second: shown(other),
            };
            found.push(("contradiction", span, fact));
        }
        if matcher.value.is_empty() && &*matcher.name != METRIC_NAME {
            let label = matcher.name.to_string();
            found.push(("empty-value", span, Fact::EmptyValue { label }));
        }
    }
}

fn shown(matcher: &Matcher) -> String {
    format!("{}{}\"{}\"", matcher.name, matcher.op.as_str(), matcher.value)
}

fn call(function: Function, args: &[Expr], span: Span, scrape_ms: i64, found: &mut Vec<Found>) {
    let range = args.iter().find_map(|arg| match &arg.without_parens().kind {
        ExprKind::Range(selector, length) => Some((selector, length.millis())),
        _ => None,
    });
    let name = range
        .and_then(|(selector, _)| selector.metric_name())
        .unwrap_or_default();
    if RATES.contains(&function) {
        if GAUGES.iter().any(|ending| name.ends_with(ending)) {
            let metric = name.to_owned();
            found.push(("rate-of-gauge", span, Fact::GaugeByName { metric }));
        }
        if let Some((_, Some(range_ms))) = range
            && range_ms < 2 * scrape_ms
        {
            let (range, scrape) = (told(range_ms), told(scrape_ms));
            found.push(("range-short", span, Fact::RangeTooShort { range, scrape }));
        }
    }
    if matches!(
        function,
        Function::Delta | Function::Deriv | Function::PredictLinear
    ) && name.ends_with("_total")
    {
        let metric = name.to_owned();
        found.push(("counter-raw", span, Fact::CounterByName { metric }));
    }
    if function == Function::HistogramQuantile
        && let Some(of) = args.get(1)
        && reads_buckets(of)
        && !yielded(of).may_have("le")
    {
        found.push(("quantile-le", span, Fact::BucketsLost));
    }
}

fn told(ms: i64) -> String {
    marketprism_model::duration::format(std::time::Duration::from_millis(ms.unsigned_abs()))
}

fn reads_buckets(expr: &Expr) -> bool {
    expr.selectors().iter().any(|selector| {
        selector
            .metric_name()
            .is_some_and(|name| name.ends_with("_bucket"))
    })
}

fn comparison(binary: &Binary, span: Span, found: &mut Vec<Found>) {
    let BinaryOp::Comparison(op) = binary.op else {
        return;
    };
    let (operand, op, bound) = match (tree::number(&binary.left), tree::number(&binary.right)) {
        (Some(left), Some(right)) => {
            if binary.is_bool {
                let holds = op.holds(left, right);
                found.push(("never-holds", span, Fact::TwoNumbers { holds }));
            }
            return;
        }
        (Some(left), None) => (&binary.right, op.mirrored(), left),
        (None, Some(right)) => (&binary.left, op, right),
        (None, None) => return,
    };
    let operand = operand.without_parens();
    if bound.is_nan() && op != Comparison::NotEqual {
        found.push(("never-holds", span, Fact::ComparedWithNan));
    }
    if let ExprKind::Aggregate(aggregate) = &operand.kind {
        let counts = matches!(aggregate.op, AggregateOp::Count | AggregateOp::Group);
        let is_below_one = match op {
            Comparison::Equal | Comparison::LessOrEqual => bound <= 0.0,
            Comparison::Less => bound <= 1.0,
            _ => false,
        };
        if counts && is_below_one {
            let operator = aggregate.op.as_str();
            found.push(("never-holds", span, Fact::NothingToCount { operator }));
        } else if matches!(aggregate.op, AggregateOp::Count | AggregateOp::Sum)
            && looks_for_few(op, bound)
            && is_filtered(&aggregate.expr)
        {
            let operator = aggregate.op.as_str();
            found.push(("vanishing", span, Fact::NothingLeft { operator }));
        }
    }
    if let ExprKind::Call(Function::Increase, _) = &operand.kind
        && matches!(op, Comparison::Equal | Comparison::NotEqual)
        && bound != 0.0
        && bound.fract() == 0.0
    {
        let bound = bound.to_string();
        found.push(("increase-exact", span, Fact::ExactIncrease { bound }));
    }
    if let ExprKind::Selector(selector) = &operand.kind
        && selector
            .metric_name()
            .is_some_and(|name| name.ends_with("_total"))
        && matches!(op, Comparison::Greater | Comparison::GreaterOrEqual)
        && bound > 1.0
    {
        let metric = selector.metric_name().unwrap_or_default().to_owned();
        found.push(("counter-raw", span, Fact::CounterByName { metric }));
    }
    division(operand, op, span, found);
}

/// Says whether a comparison asks for little, so that "nothing" ought to hold as well.
fn looks_for_few(op: Comparison, bound: f64) -> bool {
    match op {
        Comparison::Less | Comparison::LessOrEqual => bound >= 0.0,
        Comparison::Equal => bound == 0.0,
        _ => false,
    }
}

/// Says whether an expression leaves out series by their values.
fn is_filtered(expr: &Expr) -> bool {
    match &expr.without_parens().kind {
        ExprKind::Binary(binary) => match binary.op {
            BinaryOp::Comparison(_) => !binary.is_bool,
            // A choice by other series leaves out what it is meant to.
            _ => false,
        },
        _ => false,
    }
}

/// Divisions whose result fools the comparison: `x / 0` is infinite, `0 / 0` is NaN, and NaN differs from everything.
/// A ratio of a part to its whole is not among them: where the whole is 0 so is the part, and NaN compares with nothing.
fn division(operand: &Expr, op: Comparison, span: Span, found: &mut Vec<Found>) {
    let ExprKind::Binary(binary) = &operand.kind else {
        return;
    };
    if binary.op != BinaryOp::Arithmetic(Arithmetic::Divide) || binary.right.selectors().is_empty() {
        return;
    }
    let divisor = binary.right.without_parens();
    let is_guarded = tree::any(divisor, &|part| {
        matches!(&part.kind, ExprKind::Binary(inner) if matches!(inner.op, BinaryOp::Comparison(_)))
            || matches!(&part.kind, ExprKind::Call(Function::ClampMin, _))
    });
    if is_guarded {
        return;
    }
    let is_difference = matches!(&divisor.kind, ExprKind::Binary(inner) if inner.op == BinaryOp::Arithmetic(Arithmetic::Subtract));
    if is_difference
        && matches!(
            op,
            Comparison::Greater | Comparison::GreaterOrEqual | Comparison::NotEqual
        )
    {
        let divisor = divisor.to_string();
        found.push(("division", span, Fact::DifferenceIsZero { divisor }));
    } else if op == Comparison::NotEqual {
        let divisor = divisor.to_string();
        found.push(("division", span, Fact::DivisorIsZero { divisor }));
    }
}

/// Two sides that can never find each other.
fn join(binary: &Binary, span: Span, found: &mut Vec<Found>) {
    let Some(matching) = &binary.matching else {
        return;
    };
    if binary.op == BinaryOp::Set(SetOp::Or) || matching.fill_left.is_some() || matching.fill_right.is_some()
    {
        return;
    }
    let (Yielded::Only(left), Yielded::Only(right)) = (yielded(&binary.left), yielded(&binary.right)) else {
        return;
    };
    let (only_left, only_right): (Vec<&String>, Vec<&String>) = match &matching.labels {
        LabelChoice::Only(labels) => {
            let asked = |one: &std::collections::BTreeSet<String>, label: &std::sync::Arc<str>| {
                one.contains(&**label)
            };
            let labels = labels.iter();
            let left_alone = labels
                .clone()
                .filter(|label| asked(&left, label) && !asked(&right, label));
            let right_alone = labels.filter(|label| !asked(&left, label) && asked(&right, label));
            (
                left_alone.filter_map(|label| left.get(&**label)).collect(),
                right_alone.filter_map(|label| right.get(&**label)).collect(),
            )
        }
        LabelChoice::Except(labels) => {
            let is_kept = |label: &&String| !labels.iter().any(|ignored| **ignored == *label.as_str());
            (
                left.difference(&right).filter(is_kept).collect(),
                right.difference(&left).filter(is_kept).collect(),
            )
        }
    };
    if only_left.is_empty() && only_right.is_empty() {
        return;
    }
    let names = |labels: &[&String]| {
        labels
            .iter()
            .map(|label| label.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (left, right) = (names(&only_left), names(&only_right));
    found.push(("join-labels", span, Fact::OnlyOneSideHas { left, right }));
}

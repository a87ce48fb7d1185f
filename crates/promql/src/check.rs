//! Checks what a tree means before anything is planned: types, counts, modifiers.
//!
//! The messages and their places are those of Prometheus, so that people find what they search for; the
//! first fault found is the one that Prometheus names. Here a matching falls away where no two vectors meet.

use marketprism_model::labels::METRIC_NAME;

use crate::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Cardinality, Expr, ExprKind, LabelChoice, Matching, Selector,
    ValueType,
};
use crate::functions::Function;
use crate::parse::{ParseError, Read};
use crate::quote::Quoted;
use crate::span::Span;

/// Checks an expression that was read from `text`, from the bottom up.
pub(crate) fn check(text: &str, expr: &mut Expr) -> Read<()> {
    Checker { text }.check(expr)
}

/// Checks a selector that stands alone at `span`.
pub(crate) fn check_selector(selector: &Selector, span: Span) -> Read<()> {
    if selector.is_named {
        let name = selector.metric_name().unwrap_or("");
        let mut others = selector.matchers.iter().skip(1);
        return match others.find(|matcher| &*matcher.name == METRIC_NAME) {
            None => Ok(()),
            Some(other) => {
                let (name, other) = (Quoted(name), Quoted(&other.value));
                fail(
                    format!("metric name must not be set twice: {name} or {other}"),
                    span,
                )
            }
        };
    }
    if selector.matchers.iter().all(|m| m.matches_empty()) {
        return fail(
            "vector selector must contain at least one non-empty matcher",
            span,
        );
    }
    Ok(())
}

fn fail<T>(message: impl Into<String>, span: Span) -> Read<T> {
    Err(ParseError::boxed(message, span))
}

/// A type by its name in Prometheus' source.
const fn bare_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        other => other.as_str(),
    }
}

struct Checker<'a> {
    text: &'a str,
}

impl Checker<'_> {
    fn check(&self, expr: &mut Expr) -> Read<()> {
        let span = expr.span;
        match &mut expr.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::Text(_) => Ok(()),
            ExprKind::Paren(inner) => self.check(inner),
            ExprKind::Selector(selector) => check_selector(selector, span),
            ExprKind::Range(selector, _) => check_selector(selector, span),
            ExprKind::Subquery(subquery) => {
                self.check(&mut subquery.expr)?;
                match subquery.expr.value_type() {
                    ValueType::Vector => Ok(()),
                    other => {
                        let found = bare_name(other);
                        fail(
                            format!("subquery is only allowed on instant vector, got {found} instead"),
                            span,
                        )
                    }
                }
            }
            ExprKind::Negate(inner) | ExprKind::Plus(inner) => {
                self.check(inner)?;
                match inner.value_type() {
                    ValueType::Scalar | ValueType::Vector => Ok(()),
                    other => {
                        let found = other.as_str();
                        let message =
                            "unary expression only allowed on expressions of type scalar or instant vector";
                        fail(format!("{message}, got \"{found}\""), span)
                    }
                }
            }
            ExprKind::Call(function, args) => self.check_call(*function, args, span),
            ExprKind::Aggregate(aggregate) => self.check_aggregate(aggregate),
            ExprKind::Binary(binary) => self.check_binary(binary, span),
        }
    }

    fn expect(&self, expected: ValueType, expr: &Expr, place: &str) -> Read<()> {
        let found = expr.value_type();
        if expected == found {
            return Ok(());
        }
        fail(
            format!("expected type {expected} in {place}, got {found}"),
            expr.span,
        )
    }

    fn check_call(&self, function: Function, args: &mut [Expr], span: Span) -> Read<()> {
        let signature = function.signature();
        let (name, count) = (signature.name, args.len());
        if count < signature.count_min || count > signature.count_max {
            let expected = match (signature.count_min, signature.count_max) {
                (min, max) if min == max => format!("{min}"),
                (min, _) if count < min => format!("at least {min}"),
                (_, max) => format!("at most {max}"),
            };
            return fail(
                format!("expected {expected} argument(s) in call to {name:?}, got {count}"),
                span,
            );
        }
        let place = format!("call to function {name:?}");
        let mut checked = 0;
        if function == Function::Info
            && let Some(labels) = args.get(1)
        {
            self.check_info_labels(labels, span)?;
            checked = 1;
        }
        for (at, arg) in args.iter_mut().enumerate() {
            if checked == 0 || at == 0 {
                self.check(arg)?;
            }
            if let Some(expected) = signature.arguments.get(at).or(signature.arguments.last()) {
                self.expect(*expected, arg, &place)?;
            }
        }
        Ok(())
    }

    /// The second argument of `info` only carries matchers, which may choose everything.
    fn check_info_labels(&self, labels: &Expr, span: Span) -> Read<()> {
        let found = labels.value_type();
        if found != ValueType::Vector {
            let message = format!("expected type instant vector in call to function \"info\", got {found}");
            return fail(message, span);
        }
        match &labels.kind {
            ExprKind::Selector(selector) if selector.is_named => fail(
                "expected label selectors only, got vector selector instead",
                labels.span,
            ),
            ExprKind::Selector(_) => Ok(()),
            _ => fail("expected label selectors only", labels.span),
        }
    }

    fn check_aggregate(&self, aggregate: &mut Aggregate) -> Read<()> {
        self.check(&mut aggregate.expr)?;
        self.expect(ValueType::Vector, &aggregate.expr, "aggregation expression")?;
        let Some(param) = &mut aggregate.param else {
            return Ok(());
        };
        self.check(param)?;
        let expected = match aggregate.op {
            AggregateOp::CountValues => ValueType::Text,
            _ => ValueType::Scalar,
        };
        self.expect(expected, param, "aggregation parameter")
    }

    /// The operator of a binary expression with its modifiers, without the spaces around.
    fn operator_span(&self, binary: &Binary) -> Span {
        let (start, end) = (binary.left.span.end as usize, binary.right.span.start as usize);
        let between = self.text.get(start..end).unwrap_or("");
        let is_space = [' ', '\t', '\n', '\r'];
        let begin = start + between.len() - between.trim_start_matches(is_space).len();
        Span::new(begin, begin + between.trim_matches(is_space).len())
    }

    fn check_binary(&self, binary: &mut Binary, span: Span) -> Read<()> {
        self.check(&mut binary.left)?;
        self.check(&mut binary.right)?;
        let (left, right) = (binary.left.value_type(), binary.right.value_type());
        let is_comparison = matches!(binary.op, BinaryOp::Comparison(_));
        let are_scalars = left == ValueType::Scalar && right == ValueType::Scalar;
        if binary.is_bool && !is_comparison {
            return fail(
                "bool modifier can only be used on comparison operators",
                self.operator_span(binary),
            );
        }
        if is_comparison && are_scalars && !binary.is_bool {
            return fail(
                "comparisons between scalars must use BOOL modifier",
                self.operator_span(binary),
            );
        }
        let matching = binary.matching.take().unwrap_or_default();
        if let (LabelChoice::Only(on), Cardinality::ManyToOne(included) | Cardinality::OneToMany(included)) =
            (&matching.labels, &matching.cardinality)
            && let Some(twice) = on.iter().find(|label| included.contains(label))
        {
            let twice = Quoted(twice);
            return fail(
                format!("label {twice} must not occur in ON and GROUP clause at once"),
                self.operator_span(binary),
            );
        }
        for (side, found) in [(&binary.left, left), (&binary.right, right)] {
            if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                let message = "binary expression must contain only scalar and instant vector types";
                return fail(message, side.span);
            }
        }
        if left == ValueType::Vector && right == ValueType::Vector {
            if let BinaryOp::Set(_) = binary.op {
                check_set(binary.op, &matching, span)?;
            }
            binary.matching = Some(matching);
            return Ok(());
        }
        check_without_vectors(binary.op, &matching, span)
    }
}

fn is_filled(matching: &Matching) -> bool {
    matching.fill_left.is_some() || matching.fill_right.is_some()
}

fn check_set(op: BinaryOp, matching: &Matching, span: Span) -> Read<()> {
    if matching.cardinality != Cardinality::OneToOne {
        let op = op.as_str();
        return fail(format!("no grouping allowed for \"{op}\" operation"), span);
    }
    if is_filled(matching) {
        return fail("filling in missing series not allowed for set operators", span);
    }
    Ok(())
}

/// A matching where one side is a scalar has nothing to match.
fn check_without_vectors(op: BinaryOp, matching: &Matching, span: Span) -> Read<()> {
    let (LabelChoice::Only(labels) | LabelChoice::Except(labels)) = &matching.labels;
    if !labels.is_empty() {
        return fail("vector matching only allowed between instant vectors", span);
    }
    if is_filled(matching) {
        return fail(
            "filling in missing series only allowed between instant vectors",
            span,
        );
    }
    if let BinaryOp::Set(_) = op {
        let op = op.as_str();
        return fail(
            format!("set operator \"{op}\" not allowed in binary scalar expression"),
            span,
        );
    }
    Ok(())
}

//! Writes expressions in canonical PromQL, as Prometheus does.
//!
//! What is printed parses to the same tree. So it differs from Prometheus in two places, where what that
//! prints means something else or nothing: the label `without` in a list is quoted, and the number Inf
//! under `^` has no sign.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::labels::is_legacy_label_name;
use marketprism_model::{Matcher, duration};

use crate::ast::{
    Aggregate, Arithmetic, At, Binary, BinaryOp, Cardinality, Expr, ExprKind, Extension, LabelChoice, Number,
    Selector, Subquery, ValueType,
};
use crate::length::{Length, LengthExpr, LengthKind};
use crate::lex::{Keyword, TokenKind, word_kind};
use crate::quote::Quoted;

struct LabelNames<'a>(&'a [Arc<str>]);

impl Display for LabelNames<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (place, name) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            let word = word_kind(name);
            let is_no_label = matches!(
                word,
                Some(TokenKind::Number | TokenKind::Keyword(Keyword::Without))
            );
            if is_legacy_label_name(name) && !is_no_label {
                f.write_str(name)?;
            } else {
                Quoted(name).fmt(f)?;
            }
        }
        f.write_str(")")
    }
}

/// Writes whole milliseconds as a duration.
struct Millis(i64);

impl Display for Millis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let span = Duration::from_millis(self.0.unsigned_abs());
        write!(f, "{sign}{}", duration::format(span))
    }
}

impl Display for Length {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Length::Millis(ms) => Millis(*ms).fmt(f),
            Length::Constant(_, written) | Length::Calculated(written) => written.fmt(f),
        }
    }
}

impl Display for LengthExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            LengthKind::Number(number) => number.fmt(f),
            LengthKind::Duration(seconds) => write_duration(f, *seconds),
            LengthKind::Step => f.write_str("step()"),
            LengthKind::Range => f.write_str("range()"),
            LengthKind::Negate(inner) => write!(f, "-{inner}"),
            LengthKind::Paren(inner) => write!(f, "({inner})"),
            LengthKind::Binary(op, sides) => {
                let op = BinaryOp::Arithmetic(*op).as_str();
                write!(f, "{} {op} {}", sides.0, sides.1)
            }
            LengthKind::Min(sides) => write!(f, "min_of({}, {})", sides.0, sides.1),
            LengthKind::Max(sides) => write!(f, "max_of({}, {})", sides.0, sides.1),
        }
    }
}

fn write_duration(f: &mut Formatter<'_>, seconds: Number) -> fmt::Result {
    Millis((seconds.0 * 1000.0).round() as i64).fmt(f)
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

/// A number as Go shows it when nothing is asked for: with an exponent when it is long.
struct Shown(Number);

impl Display for Shown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let value = self.0.0;
        if !value.is_finite() || value == 0.0 || (1e-4..1e21).contains(&value.abs()) {
            return self.0.fmt(f);
        }
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        write!(f, "{digits}e{sign}{exponent:0>2}")
    }
}

fn write_at(f: &mut Formatter<'_>, at: Option<At>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
        Some(At::Time(ms)) => {
            let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
            write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)
        }
    }
}

fn write_extension(f: &mut Formatter<'_>, extension: Option<Extension>) -> fmt::Result {
    match extension {
        None => Ok(()),
        Some(extension) => write!(f, " {}", extension.as_str()),
    }
}

fn write_offset(f: &mut Formatter<'_>, offset: &Length) -> fmt::Result {
    match offset {
        Length::Millis(0) => Ok(()),
        offset => write!(f, " offset {offset}"),
    }
}

fn matcher_text(matcher: &Matcher) -> String {
    let (op, value) = (matcher.op.as_str(), Quoted(&matcher.value));
    match is_legacy_label_name(&matcher.name) {
        true => format!("{}{op}{value}", matcher.name),
        false => format!("{}{op}{value}", Quoted(&matcher.name)),
    }
}

fn write_matchers(f: &mut Formatter<'_>, selector: &Selector) -> fmt::Result {
    let mut braced = &selector.matchers[..];
    if let (true, Some((name, others))) = (selector.is_named, braced.split_first()) {
        f.write_str(&name.value)?;
        if others.is_empty() {
            return Ok(());
        }
        braced = others;
    }
    let mut texts: Vec<String> = braced.iter().map(matcher_text).collect();
    texts.sort_unstable();
    write!(f, "{{{}}}", texts.join(","))
}

impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_matchers(f, self)?;
        write_at(f, self.at)?;
        write_extension(f, self.extension)?;
        write_offset(f, &self.offset)
    }
}

/// What follows the expression of a subquery.
pub(crate) struct SubqueryTail<'a>(pub(crate) &'a Subquery);

impl Display for SubqueryTail<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", self.0.range)?;
        if let Some(step) = &self.0.step {
            step.fmt(f)?;
        }
        f.write_str("]")?;
        write_at(f, self.0.at)?;
        write_offset(f, &self.0.offset)
    }
}

/// An aggregation's operator and its grouping.
pub(crate) struct AggregateHead<'a>(pub(crate) &'a Aggregate);

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        match &self.0.grouping {
            None => Ok(()),
            Some(LabelChoice::Only(labels)) => write!(f, " by {} ", LabelNames(labels)),
            Some(LabelChoice::Except(labels)) => write!(f, " without {} ", LabelNames(labels)),
        }
    }
}

/// A binary operator with its modifiers.
pub(crate) struct Operator<'a>(pub(crate) &'a Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.is_bool {
            f.write_str(" bool")?;
        }
        let Some(matching) = &self.0.matching else {
            return Ok(());
        };
        let is_grouped = matching.cardinality != Cardinality::OneToOne;
        match &matching.labels {
            LabelChoice::Only(labels) => write!(f, " on {}", LabelNames(labels))?,
            LabelChoice::Except(labels) if !labels.is_empty() || is_grouped => {
                write!(f, " ignoring {}", LabelNames(labels))?;
            }
            LabelChoice::Except(_) => {}
        }
        match &matching.cardinality {
            Cardinality::OneToOne => {}
            Cardinality::ManyToOne(labels) => write!(f, " group_left {}", LabelNames(labels))?,
            Cardinality::OneToMany(labels) => write!(f, " group_right {}", LabelNames(labels))?,
        }
        match (matching.fill_left, matching.fill_right) {
            (Some(left), Some(right)) if left == right => write!(f, " fill ({})", Shown(left)),
            (left, right) => {
                left.map_or(Ok(()), |left| write!(f, " fill_left ({})", Shown(left)))?;
                right.map_or(Ok(()), |right| write!(f, " fill_right ({})", Shown(right)))
            }
        }
    }
}

/// Says whether the left side is the number Inf under `^`, whose sign would take the whole power.
pub(crate) fn is_power_of_infinity(binary: &Binary) -> bool {
    let is_power = binary.op == BinaryOp::Arithmetic(Arithmetic::Power);
    is_power && matches!(&binary.left.kind, ExprKind::Number(Number(f64::INFINITY)))
}

fn write_binary(f: &mut Formatter<'_>, binary: &Binary) -> fmt::Result {
    match is_power_of_infinity(binary) {
        true => f.write_str("Inf")?,
        false => binary.left.fmt(f)?,
    }
    write!(f, " {} {}", Operator(binary), binary.right)
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => number.fmt(f),
            ExprKind::Duration(seconds) => write_duration(f, *seconds),
            ExprKind::Text(text) => Quoted(text).fmt(f),
            ExprKind::Selector(selector) => selector.fmt(f),
            ExprKind::Range(selector, range) => {
                write_matchers(f, selector)?;
                write!(f, "[{range}]")?;
                write_extension(f, selector.extension)?;
                write_at(f, selector.at)?;
                write_offset(f, &selector.offset)
            }
            ExprKind::Subquery(subquery) => write!(f, "{}{}", subquery.expr, SubqueryTail(subquery)),
            ExprKind::Call(function, args) => {
                write!(f, "{}(", function.signature().name)?;
                for (place, arg) in args.iter().enumerate() {
                    let separator = if place == 0 { "" } else { ", " };
                    write!(f, "{separator}{arg}")?;
                }
                f.write_str(")")
            }
            ExprKind::Aggregate(aggregate) => {
                write!(f, "{}(", AggregateHead(aggregate))?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            ExprKind::Binary(binary) => write_binary(f, binary),
            ExprKind::Negate(inner) => write!(f, "-{inner}"),
            ExprKind::Plus(inner) => write!(f, "+{inner}"),
            ExprKind::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

impl Display for ValueType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

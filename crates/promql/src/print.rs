//! Writes expressions in canonical PromQL.
//!
//! What is printed parses to the same tree. Names that are not plain words, and names that the
//! language keeps for itself, are written in quotes.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::duration;
use marketprism_model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use marketprism_model::{Matcher, MatcherOp};

use crate::ast::{
    Aggregate, At, Binary, BinaryOp, Cardinality, Expr, ExprKind, LabelChoice, Number, Selector, Subquery,
    ValueType,
};
use crate::length::{Length, LengthExpr, LengthKind};

/// Words of the language; a metric or label of such a name is written in quotes.
const RESERVED: [&str; 35] = [
    "and",
    "anchored",
    "atan2",
    "avg",
    "bool",
    "bottomk",
    "by",
    "count",
    "count_values",
    "end",
    "fill",
    "fill_left",
    "fill_right",
    "group",
    "group_left",
    "group_right",
    "ignoring",
    "inf",
    "limit_ratio",
    "limitk",
    "max",
    "min",
    "nan",
    "offset",
    "on",
    "or",
    "quantile",
    "smoothed",
    "start",
    "stddev",
    "stdvar",
    "sum",
    "topk",
    "unless",
    "without",
];

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name.to_ascii_lowercase().as_str())
}

struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                c => fmt::Write::write_char(f, c)?,
            }
        }
        f.write_str("\"")
    }
}

struct LabelName<'a>(&'a str);

impl Display for LabelName<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if is_legacy_label_name(self.0) && !is_reserved(self.0) {
            f.write_str(self.0)
        } else {
            Quoted(self.0).fmt(f)
        }
    }
}

struct LabelNames<'a>(&'a [Arc<str>]);

impl Display for LabelNames<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (place, name) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{}", LabelName(name))?;
        }
        f.write_str(")")
    }
}

/// Writes whole milliseconds as a duration.
pub(crate) struct Millis(pub(crate) i64);

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
    Millis((seconds.0 * 1000.0) as i64).fmt(f)
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            // Shortest digits that read back to the same number, with an exponent where plain digits
            // would fill the line.
            value if value != 0.0 && !(1e-7..1e21).contains(&value.abs()) => write!(f, "{value:e}"),
            value => write!(f, "{value}"),
        }
    }
}

fn write_shift(f: &mut Formatter<'_>, at: Option<At>, offset: &Length) -> fmt::Result {
    match at {
        None => {}
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        Some(At::Time(ms)) => {
            let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
            write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)?;
        }
    }
    if *offset != Length::ZERO {
        write!(f, " offset {offset}")?;
    }
    Ok(())
}

fn write_matchers(f: &mut Formatter<'_>, matchers: &[Matcher]) -> fmt::Result {
    let is_name = |matcher: &Matcher| &*matcher.name == METRIC_NAME;
    let sole_name = match matchers.iter().filter(|m| is_name(m)).collect::<Vec<_>>()[..] {
        [only] if only.op == MatcherOp::Equal && !only.value.is_empty() => Some(&*only.value),
        _ => None,
    };
    let plain = sole_name.filter(|name| is_legacy_metric_name(name) && !is_reserved(name));
    if let Some(name) = plain {
        f.write_str(name)?;
        if matchers.len() == 1 {
            return Ok(());
        }
    }
    f.write_str("{")?;
    let mut separator = "";
    if let (Some(name), None) = (sole_name, plain) {
        Quoted(name).fmt(f)?;
        separator = ", ";
    }
    for matcher in matchers.iter().filter(|m| sole_name.is_none() || !is_name(m)) {
        let (name, op) = (LabelName(&matcher.name), matcher.op.as_str());
        write!(f, "{separator}{name}{op}{}", Quoted(&matcher.value))?;
        separator = ", ";
    }
    f.write_str("}")
}

impl Display for Selector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_matchers(f, &self.matchers)?;
        write_shift(f, self.at, &self.offset)
    }
}

fn write_subquery(f: &mut Formatter<'_>, subquery: &Subquery) -> fmt::Result {
    write!(f, "{}[{}:", subquery.expr, subquery.range)?;
    if let Some(step) = &subquery.step {
        step.fmt(f)?;
    }
    f.write_str("]")?;
    write_shift(f, subquery.at, &subquery.offset)
}

fn write_aggregate(f: &mut Formatter<'_>, aggregate: &Aggregate) -> fmt::Result {
    f.write_str(aggregate.op.as_str())?;
    match &aggregate.grouping {
        None => {}
        Some(LabelChoice::Only(labels)) => write!(f, " by {} ", LabelNames(labels))?,
        Some(LabelChoice::Except(labels)) => write!(f, " without {} ", LabelNames(labels))?,
    }
    f.write_str("(")?;
    if let Some(param) = &aggregate.param {
        write!(f, "{param}, ")?;
    }
    write!(f, "{})", aggregate.expr)
}

fn write_binary(f: &mut Formatter<'_>, binary: &Binary) -> fmt::Result {
    write!(f, "{} {}", binary.left, binary.op.as_str())?;
    if binary.is_bool {
        f.write_str(" bool")?;
    }
    if let Some(matching) = &binary.matching {
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
            (None, None) => {}
            (Some(left), Some(right)) if left == right => write!(f, " fill ({left})")?,
            (left, right) => {
                if let Some(left) = left {
                    write!(f, " fill_left ({left})")?;
                }
                if let Some(right) = right {
                    write!(f, " fill_right ({right})")?;
                }
            }
        }
    }
    write!(f, " {}", binary.right)
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => number.fmt(f),
            ExprKind::Duration(seconds) => write_duration(f, *seconds),
            ExprKind::Text(text) => Quoted(text).fmt(f),
            ExprKind::Selector(selector) => selector.fmt(f),
            ExprKind::Range(selector, range) => {
                write_matchers(f, &selector.matchers)?;
                write!(f, "[{range}]")?;
                write_shift(f, selector.at, &selector.offset)
            }
            ExprKind::Subquery(subquery) => write_subquery(f, subquery),
            ExprKind::Call(function, args) => {
                write!(f, "{}(", function.signature().name)?;
                for (place, arg) in args.iter().enumerate() {
                    let separator = if place == 0 { "" } else { ", " };
                    write!(f, "{separator}{arg}")?;
                }
                f.write_str(")")
            }
            ExprKind::Aggregate(aggregate) => write_aggregate(f, aggregate),
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

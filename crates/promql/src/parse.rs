//! Reads an expression: text in, checked tree out.
//!
//! Three steps: [`crate::guard`] bounds the text, the parser makes its tree, and here it becomes ours.
//! What the tree means is checked afterwards in [`crate::check`], never by the parser alone.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Matcher, MatcherOp};
use promql_parser::label as theirs_label;
use promql_parser::parser as theirs;
use promql_parser::parser::token;
use thiserror::Error;

use crate::ast::{
    Aggregate, AggregateOp, Arithmetic, At, Binary, BinaryOp, Cardinality, Comparison, Expr, ExprKind,
    LabelChoice, Matching, Number, Selector, SetOp, Subquery, ValueType,
};
use crate::functions::Function;
use crate::guard::SPAN_MS_MAX;
use crate::length::Length;
use crate::span::Span;
use crate::{check, guard};

/// Why a text is no expression.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("parse error: {message}{}", position.map(|p| format!(" (at byte {p})")).unwrap_or_default())]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes from the start of the text; not known for every fault.
    pub position: Option<usize>,
}

impl ParseError {
    pub(crate) fn new(message: impl Into<String>, position: Option<usize>) -> Self {
        ParseError {
            message: message.into(),
            position,
        }
    }
}

impl From<String> for ParseError {
    fn from(message: String) -> Self {
        ParseError::new(message, None)
    }
}

/// Reads an expression and checks what it means: types and counts of arguments, ranges against
/// instants, matching modifiers, and that no selector chooses everything.
///
/// Bounded: at most [`guard::TEXT_BYTES_MAX`] bytes and [`guard::DEPTH_MAX`] levels. Never panics.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    guard::look_over(text)?;
    // The parser is not ours: should it panic on a text that nobody thought of, that is a bad text.
    let tree = catch_unwind(|| theirs::parse(text))
        .map_err(|_| ParseError::new("the parser failed on this text", None))?
        .map_err(|message| ParseError::new(message, None))?;
    let expr = expression(&tree)?;
    check::check(&expr)?;
    Ok(expr)
}

/// Reads a selector alone, as `match[]` gives it: `up{job="a"}`, without range, offset or `@`.
pub fn parse_selector(text: &str) -> Result<Selector, ParseError> {
    match parse(text)?.kind {
        ExprKind::Selector(selector) if selector.at.is_none() && selector.offset == Length::ZERO => {
            Ok(selector)
        }
        _ => Err(ParseError::new("expected a selector of series alone", None)),
    }
}

fn expression(tree: &theirs::Expr) -> Result<Expr, ParseError> {
    let kind = match tree {
        theirs::Expr::NumberLiteral(number) => ExprKind::Number(Number(number.val)),
        theirs::Expr::StringLiteral(text) => ExprKind::Text(Arc::from(text.val.as_str())),
        theirs::Expr::Paren(paren) => ExprKind::Paren(Box::new(expression(&paren.expr)?)),
        theirs::Expr::Unary(unary) => ExprKind::Negate(Box::new(expression(&unary.expr)?)),
        theirs::Expr::VectorSelector(vector) => ExprKind::Selector(selector(vector)?),
        theirs::Expr::MatrixSelector(matrix) => {
            ExprKind::Range(selector(&matrix.vs)?, Length::Millis(span(matrix.range)?))
        }
        theirs::Expr::Subquery(inner) => ExprKind::Subquery(Box::new(subquery(inner)?)),
        theirs::Expr::Call(inner) => call(inner)?,
        theirs::Expr::Aggregate(inner) => ExprKind::Aggregate(Box::new(aggregate(inner)?)),
        theirs::Expr::Binary(inner) => ExprKind::Binary(Box::new(binary(inner)?)),
        theirs::Expr::Extension(_) => return Err(ParseError::new("extensions are not PromQL", None)),
    };
    Ok(Expr::new(kind, Span::default()))
}

fn span(duration: Duration) -> Result<i64, ParseError> {
    i64::try_from(duration.as_millis())
        .ok()
        .filter(|ms| *ms <= SPAN_MS_MAX)
        .ok_or_else(|| ParseError::new("duration is out of range", None))
}

fn offset(offset: Option<&theirs::Offset>) -> Result<i64, ParseError> {
    match offset {
        None => Ok(0),
        Some(theirs::Offset::Pos(back)) => span(*back),
        Some(theirs::Offset::Neg(ahead)) => Ok(-span(*ahead)?),
    }
}

fn at(modifier: Option<&theirs::AtModifier>) -> Result<Option<At>, ParseError> {
    Ok(match modifier {
        None => None,
        Some(theirs::AtModifier::Start) => Some(At::Start),
        Some(theirs::AtModifier::End) => Some(At::End),
        Some(theirs::AtModifier::At(moment)) => {
            let ms = match moment.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => i64::try_from(after.as_millis()),
                Err(before) => i64::try_from(before.duration().as_millis()).map(|ms| -ms),
            };
            let ms = ms.ok().filter(|ms| ms.abs() <= 100 * SPAN_MS_MAX);
            Some(At::Time(ms.ok_or_else(|| {
                ParseError::new("timestamp out of bounds for @ modifier", None)
            })?))
        }
    })
}

fn selector(vector: &theirs::VectorSelector) -> Result<Selector, ParseError> {
    if !vector.matchers.or_matchers.is_empty() {
        return Err(ParseError::new("\"or\" between matchers is not PromQL", None));
    }
    let mut matchers = Vec::with_capacity(vector.matchers.matchers.len() + 1);
    if let Some(name) = &vector.name {
        matchers.push(Matcher::equal(METRIC_NAME, name));
    }
    for matcher in &vector.matchers.matchers {
        let op = match &matcher.op {
            theirs_label::MatchOp::Equal => MatcherOp::Equal,
            theirs_label::MatchOp::NotEqual => MatcherOp::NotEqual,
            theirs_label::MatchOp::Re(_) => MatcherOp::Matches,
            theirs_label::MatchOp::NotRe(_) => MatcherOp::NotMatches,
        };
        let matcher = Matcher::new(&matcher.name, op, &matcher.value);
        matchers.push(matcher.map_err(|error| ParseError::new(error.to_string(), None))?);
    }
    Ok(Selector {
        matchers: Arc::from(matchers),
        is_named: vector.name.is_some(),
        at: at(vector.at.as_ref())?,
        offset: Length::Millis(offset(vector.offset.as_ref())?),
        extension: None,
    })
}

fn subquery(inner: &theirs::SubqueryExpr) -> Result<Subquery, ParseError> {
    Ok(Subquery {
        expr: expression(&inner.expr)?,
        range: Length::Millis(span(inner.range)?),
        step: inner.step.map(span).transpose()?.map(Length::Millis),
        at: at(inner.at.as_ref())?,
        offset: Length::Millis(offset(inner.offset.as_ref())?),
    })
}

fn call(inner: &theirs::Call) -> Result<ExprKind, ParseError> {
    let name = inner.func.name;
    let function = Function::named(name)
        .ok_or_else(|| ParseError::new(format!("function {name:?} is not supported"), None))?;
    // A loop, not a chain of adapters: its frames are what bounds the depth.
    let mut args = Vec::with_capacity(inner.args.args.len());
    for arg in &inner.args.args {
        args.push(expression(arg)?);
    }
    Ok(ExprKind::Call(function, args))
}

fn names(labels: &theirs_label::Labels) -> Arc<[Arc<str>]> {
    labels
        .labels
        .iter()
        .map(|name| Arc::from(name.as_str()))
        .collect()
}

fn choice(modifier: &theirs::LabelModifier) -> LabelChoice {
    match modifier {
        theirs::LabelModifier::Include(labels) => LabelChoice::Only(names(labels)),
        theirs::LabelModifier::Exclude(labels) => LabelChoice::Except(names(labels)),
    }
}

fn aggregate(inner: &theirs::AggregateExpr) -> Result<Aggregate, ParseError> {
    let op = match inner.op.id() {
        token::T_SUM => AggregateOp::Sum,
        token::T_AVG => AggregateOp::Avg,
        token::T_MIN => AggregateOp::Min,
        token::T_MAX => AggregateOp::Max,
        token::T_COUNT => AggregateOp::Count,
        token::T_GROUP => AggregateOp::Group,
        token::T_STDDEV => AggregateOp::Stddev,
        token::T_STDVAR => AggregateOp::Stdvar,
        token::T_TOPK => AggregateOp::Topk,
        token::T_BOTTOMK => AggregateOp::Bottomk,
        token::T_QUANTILE => AggregateOp::Quantile,
        token::T_COUNT_VALUES => AggregateOp::CountValues,
        token::T_LIMITK => AggregateOp::Limitk,
        _ => {
            return Err(ParseError::new(
                format!("aggregation {} is not supported", inner.op),
                None,
            ));
        }
    };
    Ok(Aggregate {
        op,
        grouping: inner.modifier.as_ref().map(choice),
        param: inner.param.as_ref().map(|param| expression(param)).transpose()?,
        expr: expression(&inner.expr)?,
    })
}

fn operator(op: theirs::token::TokenType) -> Result<BinaryOp, ParseError> {
    Ok(match op.id() {
        token::T_ADD => BinaryOp::Arithmetic(Arithmetic::Add),
        token::T_SUB => BinaryOp::Arithmetic(Arithmetic::Subtract),
        token::T_MUL => BinaryOp::Arithmetic(Arithmetic::Multiply),
        token::T_DIV => BinaryOp::Arithmetic(Arithmetic::Divide),
        token::T_MOD => BinaryOp::Arithmetic(Arithmetic::Modulo),
        token::T_POW => BinaryOp::Arithmetic(Arithmetic::Power),
        token::T_ATAN2 => BinaryOp::Arithmetic(Arithmetic::Atan2),
        token::T_EQLC => BinaryOp::Comparison(Comparison::Equal),
        token::T_NEQ => BinaryOp::Comparison(Comparison::NotEqual),
        token::T_GTR => BinaryOp::Comparison(Comparison::Greater),
        token::T_LSS => BinaryOp::Comparison(Comparison::Less),
        token::T_GTE => BinaryOp::Comparison(Comparison::GreaterOrEqual),
        token::T_LTE => BinaryOp::Comparison(Comparison::LessOrEqual),
        token::T_LAND => BinaryOp::Set(SetOp::And),
        token::T_LOR => BinaryOp::Set(SetOp::Or),
        token::T_LUNLESS => BinaryOp::Set(SetOp::Unless),
        _ => return Err(ParseError::new(format!("operator {op} is not supported"), None)),
    })
}

fn binary(inner: &theirs::BinaryExpr) -> Result<Binary, ParseError> {
    let op = operator(inner.op)?;
    let (left, right) = (expression(&inner.lhs)?, expression(&inner.rhs)?);
    let are_vectors = left.value_type() == ValueType::Vector && right.value_type() == ValueType::Vector;
    let (mut matching, mut is_bool, mut is_matching_written) = (Matching::default(), false, false);
    if let Some(modifier) = &inner.modifier {
        is_bool = modifier.return_bool;
        if let Some(labels) = &modifier.matching {
            matching.labels = choice(labels);
            is_matching_written = !labels.labels().is_empty();
        }
        matching.cardinality = match &modifier.card {
            theirs::VectorMatchCardinality::ManyToOne(labels) => Cardinality::ManyToOne(names(labels)),
            theirs::VectorMatchCardinality::OneToMany(labels) => Cardinality::OneToMany(names(labels)),
            _ => Cardinality::OneToOne,
        };
        matching.fill_left = modifier.fill_values.lhs.map(Number);
        matching.fill_right = modifier.fill_values.rhs.map(Number);
    }
    let is_shaped = is_matching_written
        || matching.cardinality != Cardinality::OneToOne
        || matching.fill_left.is_some()
        || matching.fill_right.is_some();
    if !are_vectors && is_shaped {
        return Err(ParseError::new(
            "vector matching only allowed between instant vectors",
            None,
        ));
    }
    Ok(Binary {
        op,
        left,
        right,
        is_bool,
        matching: are_vectors.then_some(matching),
    })
}

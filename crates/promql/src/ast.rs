//! The syntax tree of an expression: our own, so that the parser behind it can change.
//!
//! Numbers compare by their bits (any NaN equals any other), parentheses and durations are kept, so
//! that what is printed reads as it was written, and every expression knows where it stands.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Matcher, MatcherOp};

use crate::functions::Function;
use crate::length::Length;
use crate::span::Span;

/// A number of an expression. Equality and hash go by bits, and all NaNs are one.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

impl Number {
    fn key(self) -> u64 {
        if self.0.is_nan() {
            f64::NAN.to_bits()
        } else {
            self.0.to_bits()
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// What an expression yields.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ValueType {
    /// One number a step.
    Scalar,
    /// A set of series with one value each.
    Vector,
    /// A set of series with the samples of a range.
    Matrix,
    /// A text.
    Text,
}

impl ValueType {
    /// Gives the words that Prometheus uses in its messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::Text => "string",
        }
    }
}

/// The moment of an `@` modifier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum At {
    /// Milliseconds since the Unix epoch.
    Time(i64),
    /// `start()`: the first step of the query.
    Start,
    /// `end()`: the last step of the query.
    End,
}

/// What is done at the borders of a range, beyond the samples within it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Extension {
    /// `anchored`: the last sample before the range counts as its start.
    Anchored,
    /// `smoothed`: values at the borders are interpolated from the samples on both sides.
    Smoothed,
}

impl Extension {
    /// Gives the modifier as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Extension::Anchored => "anchored",
            Extension::Smoothed => "smoothed",
        }
    }
}

/// Which series, and at which shift of time.
///
/// Equality ignores the order of the matchers.
#[derive(Clone, Eq, Debug)]
pub struct Selector {
    /// The conditions on labels; at least one refuses the empty string, but for those of `info`.
    pub matchers: Arc<[Matcher]>,
    /// Whether the metric's name stands before the braces, and is the first of the matchers.
    pub is_named: bool,
    /// The fixed moment, if any.
    pub at: Option<At>,
    /// How far back; negative looks ahead.
    pub offset: Length,
    /// What is done at the borders.
    pub extension: Option<Extension>,
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        let are_matchers_equal = self.matchers.len() == other.matchers.len()
            && (self.matchers == other.matchers || self.sorted_matchers() == other.sorted_matchers());
        are_matchers_equal
            && self.is_named == other.is_named
            && self.at == other.at
            && self.offset == other.offset
            && self.extension == other.extension
    }
}

impl Selector {
    fn sorted_matchers(&self) -> Vec<&Matcher> {
        let mut matchers: Vec<&Matcher> = self.matchers.iter().collect();
        matchers.sort_by(|a, b| (&a.name, a.op, &a.value).cmp(&(&b.name, b.op, &b.value)));
        matchers
    }

    /// Gives the metric name that an equality asks for, `None` when names are matched otherwise.
    pub fn metric_name(&self) -> Option<&str> {
        self.matchers
            .iter()
            .find(|matcher| &*matcher.name == METRIC_NAME && matcher.op == MatcherOp::Equal)
            .map(|matcher| &*matcher.value)
    }

    /// Says whether series of this metric name may be chosen.
    pub fn may_read(&self, metric_name: &str) -> bool {
        self.matchers
            .iter()
            .filter(|matcher| &*matcher.name == METRIC_NAME)
            .all(|matcher| matcher.matches(metric_name))
    }
}

/// `expr[range:step]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subquery {
    /// What is evaluated at each step.
    pub expr: Expr,
    /// How long; positive.
    pub range: Length,
    /// Distance of the steps, positive; the engine's default when absent.
    pub step: Option<Length>,
    /// The fixed moment, if any.
    pub at: Option<At>,
    /// How far back; negative looks ahead.
    pub offset: Length,
}

/// Which labels make a group or a match.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LabelChoice {
    /// `by` or `on`: only these.
    Only(Arc<[Arc<str>]>),
    /// `without` or `ignoring`: all but these and the metric's name.
    Except(Arc<[Arc<str>]>),
}

/// An aggregation operator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names are the language's")]
pub enum AggregateOp {
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
}

impl AggregateOp {
    /// Gives the operator as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Count => "count",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::Quantile => "quantile",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }
}

/// `sum by (job) (expr)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// The grouping; one group when absent.
    pub grouping: Option<LabelChoice>,
    /// The parameter of `topk`, `bottomk`, `limitk`, `limit_ratio`, `quantile` and `count_values`.
    pub param: Option<Expr>,
    /// What is aggregated.
    pub expr: Expr,
}

/// An operator that calculates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names are the language's")]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
    TrimUpper,
    TrimLower,
}

/// An operator that compares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names are the language's")]
pub enum Comparison {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

impl Comparison {
    /// Says whether the comparison holds; with NaN only `!=` does.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
            Comparison::Greater => left > right,
            Comparison::Less => left < right,
            Comparison::GreaterOrEqual => left >= right,
            Comparison::LessOrEqual => left <= right,
        }
    }

    /// Gives the operator that says the same with its sides exchanged.
    pub const fn mirrored(self) -> Self {
        match self {
            Comparison::Greater => Comparison::Less,
            Comparison::Less => Comparison::Greater,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            same => same,
        }
    }
}

/// An operator on sets of series.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names are the language's")]
pub enum SetOp {
    And,
    Or,
    Unless,
}

/// An operator between two expressions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BinaryOp {
    /// Calculates.
    Arithmetic(Arithmetic),
    /// Compares.
    Comparison(Comparison),
    /// Chooses series.
    Set(SetOp),
}

impl BinaryOp {
    /// Says whether the result is no longer what the metric's name says; what is left after trimming still is.
    pub(crate) const fn drops_name(self) -> bool {
        matches!(self, BinaryOp::Arithmetic(_)) && !self.is_trim()
    }

    /// Says whether the operator is made for histograms alone.
    pub(crate) const fn is_trim(self) -> bool {
        matches!(
            self,
            BinaryOp::Arithmetic(Arithmetic::TrimUpper | Arithmetic::TrimLower)
        )
    }

    /// Gives the operator as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Arithmetic(Arithmetic::Add) => "+",
            BinaryOp::Arithmetic(Arithmetic::Subtract) => "-",
            BinaryOp::Arithmetic(Arithmetic::Multiply) => "*",
            BinaryOp::Arithmetic(Arithmetic::Divide) => "/",
            BinaryOp::Arithmetic(Arithmetic::Modulo) => "%",
            BinaryOp::Arithmetic(Arithmetic::Power) => "^",
            BinaryOp::Arithmetic(Arithmetic::Atan2) => "atan2",
            BinaryOp::Arithmetic(Arithmetic::TrimUpper) => "</",
            BinaryOp::Arithmetic(Arithmetic::TrimLower) => ">/",
            BinaryOp::Comparison(Comparison::Equal) => "==",
            BinaryOp::Comparison(Comparison::NotEqual) => "!=",
            BinaryOp::Comparison(Comparison::Greater) => ">",
            BinaryOp::Comparison(Comparison::Less) => "<",
            BinaryOp::Comparison(Comparison::GreaterOrEqual) => ">=",
            BinaryOp::Comparison(Comparison::LessOrEqual) => "<=",
            BinaryOp::Set(SetOp::And) => "and",
            BinaryOp::Set(SetOp::Or) => "or",
            BinaryOp::Set(SetOp::Unless) => "unless",
        }
    }
}

/// How many series of each side meet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Cardinality {
    /// One with one.
    OneToOne,
    /// `group_left`: many on the left; these labels come from the right.
    ManyToOne(Arc<[Arc<str>]>),
    /// `group_right`: many on the right; these labels come from the left.
    OneToMany(Arc<[Arc<str>]>),
}

/// How the series of two vectors find each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Matching {
    /// `on` or `ignoring`; `ignoring ()` when nothing was written.
    pub labels: LabelChoice,
    /// How many series of each side meet.
    pub cardinality: Cardinality,
    /// The value that stands for a missing series on the left.
    pub fill_left: Option<Number>,
    /// The value that stands for a missing series on the right.
    pub fill_right: Option<Number>,
}

impl Default for Matching {
    fn default() -> Self {
        Matching {
            labels: LabelChoice::Except(Arc::from([])),
            cardinality: Cardinality::OneToOne,
            fill_left: None,
            fill_right: None,
        }
    }
}

/// `left op right`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// The left side.
    pub left: Expr,
    /// The right side.
    pub right: Expr,
    /// Whether a comparison answers 0 or 1 instead of filtering.
    pub is_bool: bool,
    /// How two vectors match; `None` when a side is a scalar.
    pub matching: Option<Matching>,
}

/// An expression.
///
/// Equality ignores where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expr {
    /// What it says.
    pub kind: ExprKind,
    /// Where it stands in the text.
    pub span: Span,
}

/// What an expression says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExprKind {
    /// `1.5`
    Number(Number),
    /// `5m`: a number of seconds, written as a duration.
    Duration(Number),
    /// `"text"`
    Text(Arc<str>),
    /// `up{job="a"}`
    Selector(Selector),
    /// `up{job="a"}[5m]`
    Range(Selector, Length),
    /// `expr[1h:1m]`
    Subquery(Box<Subquery>),
    /// `rate(…)`
    Call(Function, Vec<Expr>),
    /// `sum(…)`
    Aggregate(Box<Aggregate>),
    /// `a + b`
    Binary(Box<Binary>),
    /// `-a`
    Negate(Box<Expr>),
    /// `+a`, which is `a`
    Plus(Box<Expr>),
    /// `(a)`
    Paren(Box<Expr>),
}

/// A final comparison, taken apart: `operand op threshold`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FinalComparison {
    /// What is compared, the side whose values the expression yields.
    pub operand: Expr,
    /// How, with the operand on the left.
    pub op: Comparison,
    /// What it is compared with.
    pub threshold: Expr,
}

impl Expr {
    pub(crate) const fn new(kind: ExprKind, span: Span) -> Self {
        Expr { kind, span }
    }

    /// Gives the type of what the expression yields.
    pub fn value_type(&self) -> ValueType {
        let mut expr = self;
        loop {
            return match &expr.kind {
                ExprKind::Number(_) | ExprKind::Duration(_) => ValueType::Scalar,
                ExprKind::Text(_) => ValueType::Text,
                ExprKind::Selector(_) | ExprKind::Aggregate(_) => ValueType::Vector,
                ExprKind::Range(..) | ExprKind::Subquery(_) => ValueType::Matrix,
                ExprKind::Call(function, _) => function.signature().yields,
                ExprKind::Binary(binary) => match binary.matching {
                    Some(_) => ValueType::Vector,
                    None => match (binary.left.value_type(), binary.right.value_type()) {
                        (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                        _ => ValueType::Vector,
                    },
                },
                ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => {
                    expr = inner;
                    continue;
                }
            };
        }
    }

    /// Takes parentheses off.
    pub fn without_parens(&self) -> &Expr {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }

    /// Takes the final comparison off: for `rate(a[5m]) > 10`, the operand is `rate(a[5m])`.
    ///
    /// `None` when the expression does not end in a comparison that filters, so that nothing tells
    /// "quiet" from "no data". A scalar on the left is exchanged to the right; between two vectors the
    /// operand is the left one, whose values such a comparison yields.
    pub fn final_comparison(&self) -> Option<FinalComparison> {
        let ExprKind::Binary(binary) = &self.without_parens().kind else {
            return None;
        };
        let BinaryOp::Comparison(op) = binary.op else {
            return None;
        };
        if binary.is_bool {
            return None;
        }
        let is_left_scalar = binary.left.value_type() == ValueType::Scalar;
        let (operand, op, threshold) = if is_left_scalar {
            (&binary.right, op.mirrored(), &binary.left)
        } else {
            (&binary.left, op, &binary.right)
        };
        Some(FinalComparison {
            operand: operand.without_parens().clone(),
            op,
            threshold: threshold.without_parens().clone(),
        })
    }

    /// Gives all selectors of the expression, from left to right.
    pub fn selectors(&self) -> Vec<&Selector> {
        let (mut found, mut open) = (Vec::new(), vec![self]);
        while let Some(expr) = open.pop() {
            match &expr.kind {
                ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::Text(_) => {}
                ExprKind::Selector(selector) | ExprKind::Range(selector, _) => found.push(selector),
                ExprKind::Subquery(subquery) => open.push(&subquery.expr),
                ExprKind::Call(_, args) => open.extend(args.iter().rev()),
                ExprKind::Aggregate(aggregate) => {
                    open.push(&aggregate.expr);
                    open.extend(aggregate.param.as_ref());
                }
                ExprKind::Binary(binary) => open.extend([&binary.right, &binary.left]),
                ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => open.push(inner),
            }
        }
        found
    }

    /// Gives the metric names that the expression asks for by equality, sorted, each once.
    ///
    /// A selector without such an equality is not in the list; [`Selector::may_read`] tells for it.
    pub fn metric_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .selectors()
            .into_iter()
            .filter_map(Selector::metric_name)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use crate::parse;

    #[test]
    fn a_final_comparison_comes_off_with_the_operand_on_the_left() {
        let check = |text: &str, expected: Option<(&str, &str, &str)>| {
            let found = parse(text).expect(text).final_comparison();
            let found = found.map(|f| {
                let op = super::BinaryOp::Comparison(f.op).as_str();
                (f.operand.to_string(), op, f.threshold.to_string())
            });
            let found = found
                .as_ref()
                .map(|(operand, op, threshold)| (operand.as_str(), *op, threshold.as_str()));
            assert_eq!(found, expected, "{text}");
        };
        check("rate(a[5m]) > 10", Some(("rate(a[5m])", ">", "10")));
        check("(10 >= (a))", Some(("a", "<=", "10")));
        check("a > on (job) b", Some(("a", ">", "b")));
        check("a > bool 1", None);
        check("a > 1 and b", None);
        check("a", None);
    }

    #[test]
    fn the_metric_names_read_are_listed_once() {
        let expr = parse(r#"a + rate(b[5m]) / {__name__="a"} or max_over_time({c="x"}[5m:1m])"#)
            .expect("a valid expression");
        assert_eq!(expr.metric_names(), ["a", "b"]);
        assert_eq!(expr.selectors().len(), 4);
        assert!(expr.selectors()[3].may_read("anything"));
        assert!(!expr.selectors()[0].may_read("b"));
    }
}

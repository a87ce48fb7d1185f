//! From the tree to the plan: each part is given its moments, and found again where it comes twice.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Labels, LabelsBuilder, MatcherOp};

use super::{Choice, Interned, Kind, Moments, Place, Plan, Shift, Span, info};
use crate::ast::{
    Aggregate, At, Binary, BinaryOp, Expr, ExprKind, Extension, LabelChoice, Number, Selector, Subquery,
    ValueType,
};
use crate::functions::Function;
use crate::length::Length;

/// Whether a value changes from step to step.
///
/// Source: Prometheus 3, `promql/engine.go`, `preprocessExprHelper`, whose view of aggregations and `info` is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Constancy {
    /// Made of numbers alone.
    Constant,
    /// Everything that reads samples is pinned by `@`.
    Pinned,
    Moving,
}

fn constancy(expr: &Expr) -> Constancy {
    let of_shift = |at: &Option<At>| {
        if at.is_some() {
            Constancy::Pinned
        } else {
            Constancy::Moving
        }
    };
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::Text(_) => Constancy::Constant,
        ExprKind::Selector(selector) | ExprKind::Range(selector, _) => of_shift(&selector.at),
        ExprKind::Subquery(subquery) => of_shift(&subquery.at),
        ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => constancy(inner),
        ExprKind::Call(function, args) => {
            let args_constancy = args.iter().map(constancy).max().unwrap_or(Constancy::Constant);
            let is_sample_time = *function == Function::Timestamp
                && matches!(args[0].without_parens().kind, ExprKind::Selector(_));
            match function {
                function if function.reads_time() && !is_sample_time => Constancy::Moving,
                // What describes a constant is looked up once, at the first step.
                Function::Info => args_constancy.max(Constancy::Pinned),
                _ => args_constancy,
            }
        }
        ExprKind::Aggregate(aggregate) => {
            let param = aggregate.param.as_ref().map_or(Constancy::Constant, constancy);
            match constancy(&aggregate.expr) {
                Constancy::Moving => Constancy::Moving,
                // The vector alone decides: its parameter is asked at the first step, and stands for all.
                vector if param == Constancy::Constant => vector,
                _ => Constancy::Pinned,
            }
        }
        ExprKind::Binary(binary) => constancy(&binary.left).max(constancy(&binary.right)),
    }
}

/// Says whether an expression is evaluated at the first step of a query and stands for the others, though it would
/// not be the same at all of them.
pub(super) fn stands_by_its_first_step(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Aggregate(aggregate) => {
            let param = aggregate.param.as_ref().map_or(Constancy::Constant, constancy);
            param == Constancy::Moving && constancy(&aggregate.expr) != Constancy::Moving
        }
        ExprKind::Call(Function::Info, args) => args.iter().all(|arg| constancy(arg) == Constancy::Constant),
        _ => false,
    }
}

/// Plans an expression that has been checked.
pub(super) fn plan(nodes: MutexGuard<'_, Interned>, expr: &Expr) -> Plan {
    let mut planner = Planner {
        nodes,
        places: Vec::new(),
        at: HashMap::new(),
        moments: Vec::new(),
        marks: HashMap::new(),
        reading: Reading::default(),
    };
    let root = planner.root(expr);
    debug_assert_eq!(root + 1, planner.places.len(), "the root is planned last");
    let mut marks: Vec<(u64, Box<[u32]>)> = planner.marks.into_iter().collect();
    marks.sort_unstable_by_key(|(id, _)| *id);
    Plan {
        places: planner.places,
        moments: planner.moments,
        value_type: expr.value_type(),
        marks,
    }
}

struct Planner<'a> {
    nodes: MutexGuard<'a, Interned>,
    places: Vec<Place>,
    /// The place of each node, by its number.
    at: HashMap<u64, usize>,
    moments: Vec<Moments>,
    /// Where each node that may be remarked on begins in the text, and its arguments, by its number.
    marks: HashMap<u64, Box<[u32]>>,
    reading: Reading,
}

/// What the expressions around a selector need of native histograms.
///
/// As in Prometheus, where only their counts and sums are needed, only these are read; and what was reset is then
/// found out while reading, because it cannot be later.
#[derive(Clone, Copy, Default)]
struct Reading {
    /// A function that only counts or sums stands around it.
    is_counted: bool,
    /// Something that looks at buckets stands around it.
    needs_buckets: bool,
}

impl Reading {
    fn under(mut self, function: Function) -> Self {
        self.is_counted |= matches!(
            function,
            Function::HistogramCount | Function::HistogramSum | Function::HistogramAvg
        );
        self.needs_buckets |= matches!(
            function,
            Function::HistogramQuantile | Function::HistogramQuantiles | Function::HistogramFraction
        );
        self
    }

    fn with_buckets(self) -> Self {
        Reading {
            needs_buckets: true,
            ..self
        }
    }

    fn is_of_counts(self) -> bool {
        self.is_counted && !self.needs_buckets
    }
}

fn choice_of(selector: &Selector) -> Choice {
    Choice::of(selector.matchers.to_vec())
}

/// A length in milliseconds. Lengths that depend on the query are resolved before anything is planned.
pub(super) fn millis(length: &Length) -> i64 {
    length.millis().unwrap_or(0)
}

fn span_of(selector: &Selector, range: &Length) -> Span {
    Span {
        range_ms: millis(range),
        shift: shift_of(selector),
        extension: selector.extension,
    }
}

/// Says why a function cannot be used on an extended range, for its samples go beyond the range.
fn refusal(function: Function, extension: Option<Extension>) -> Option<String> {
    let name = function.signature().name;
    let allowed: &[&str] = match extension? {
        Extension::Anchored => &["changes", "delta", "increase", "rate", "resets"],
        Extension::Smoothed => &["delta", "increase", "rate"],
    };
    (!allowed.contains(&name)).then(|| {
        format!(
            "{} modifier can only be used with: {} - not with {name}",
            extension.map_or("", Extension::as_str),
            allowed.join(", ")
        )
    })
}

fn shift_of(selector: &Selector) -> Shift {
    Shift {
        offset_ms: millis(&selector.offset),
        at: selector.at,
    }
}

impl Planner<'_> {
    /// Gives the place of a node, adding it when it is new to this plan.
    fn add(&mut self, kind: Kind, inputs: Vec<usize>, moments: &Moments) -> usize {
        let input_nodes = inputs
            .iter()
            .map(|place| Arc::clone(&self.places[*place].node))
            .collect();
        let node = self.nodes.intern(kind, input_nodes, moments);
        if let Some(place) = self.at.get(&node.id) {
            return *place;
        }
        let moments = match self.moments.iter().position(|known| *known == node.moments) {
            Some(place) => place,
            None => {
                self.moments.push(node.moments.clone());
                self.moments.len() - 1
            }
        };
        let place = self.places.len();
        self.at.insert(node.id, place);
        self.places.push(Place {
            node,
            inputs,
            moments,
        });
        place
    }

    /// Notes where a node and its arguments stand, for remarks. The last of equal parts counts, so parts are
    /// planned in the order in which Prometheus evaluates them.
    fn mark<'e>(&mut self, place: usize, expr: &Expr, args: impl IntoIterator<Item = &'e Expr>) {
        let args = args.into_iter().map(|arg| arg.without_parens().span.start);
        let starts = std::iter::once(expr.span.start).chain(args).collect();
        self.marks.insert(self.places[place].node.id, starts);
    }

    fn root(&mut self, expr: &Expr) -> usize {
        let expr = expr.without_parens();
        match &expr.kind {
            ExprKind::Range(selector, range) => {
                let kind = Kind::Samples(choice_of(selector), span_of(selector, range));
                self.add(kind, Vec::new(), &Moments::Query)
            }
            ExprKind::Subquery(subquery) => {
                let (inner, span) = self.subquery(subquery, &Moments::Query);
                self.add(Kind::Points(span), vec![inner], &Moments::Query)
            }
            _ => self.plan(expr, &Moments::Query),
        }
    }

    fn plan(&mut self, expr: &Expr, moments: &Moments) -> usize {
        let expr = expr.without_parens();
        if *moments != Moments::Once && constancy(expr) == Constancy::Pinned {
            let once = self.calculate(expr, &Moments::Once);
            return self.add(Kind::Spread, vec![once], moments);
        }
        self.calculate(expr, moments)
    }

    fn calculate(&mut self, expr: &Expr, moments: &Moments) -> usize {
        match &expr.kind {
            ExprKind::Number(number) | ExprKind::Duration(number) => {
                self.add(Kind::Number(*number), Vec::new(), moments)
            }
            ExprKind::Text(text) => self.add(Kind::Text(Arc::clone(text)), Vec::new(), moments),
            ExprKind::Selector(selector) => {
                let (choice, shift) = (choice_of(selector), shift_of(selector));
                if selector.extension != Some(Extension::Smoothed) {
                    let kind = if self.reading.is_of_counts() {
                        Kind::CountedInstant(choice, shift)
                    } else {
                        Kind::Instant(choice, shift)
                    };
                    return self.add(kind, Vec::new(), moments);
                }
                let place = self.add(Kind::Smoothed(choice, shift), Vec::new(), moments);
                self.mark(place, expr, []);
                place
            }
            // Ranges stand only under functions, which plan them, and at the root.
            ExprKind::Range(..) | ExprKind::Subquery(_) => {
                self.add(Kind::Text(Arc::from("")), Vec::new(), moments)
            }
            ExprKind::Plus(inner) | ExprKind::Paren(inner) => self.plan(inner, moments),
            ExprKind::Negate(inner) => {
                let inner = self.plan(inner, moments);
                self.add(Kind::Negate, vec![inner], moments)
            }
            ExprKind::Call(function, args) => {
                let around = self.reading;
                self.reading = around.under(*function);
                let place = self.call(*function, args, moments);
                self.reading = around;
                self.mark(place, expr, args);
                place
            }
            ExprKind::Aggregate(aggregate) => {
                let place = self.aggregate(aggregate, moments);
                let args = std::iter::once(&aggregate.expr).chain(&aggregate.param);
                self.mark(place, expr, args);
                place
            }
            ExprKind::Binary(binary) => {
                let place = self.binary(binary, moments);
                self.mark(place, expr, []);
                place
            }
        }
    }

    fn subquery(&mut self, subquery: &Subquery, moments: &Moments) -> (usize, Span) {
        let shift = Shift {
            offset_ms: millis(&subquery.offset),
            at: subquery.at,
        };
        let span = Span {
            range_ms: millis(&subquery.range),
            shift,
            extension: None,
        };
        let outer = subquery.at.is_none().then(|| Arc::new(moments.clone()));
        let inner = Moments::Subquery {
            outer,
            span,
            step_ms: subquery.step.as_ref().map(millis),
        };
        let around = self.reading;
        self.reading = around.with_buckets();
        let place = self.plan(&subquery.expr, &inner);
        self.reading = around;
        (place, span)
    }

    fn binary(&mut self, binary: &Binary, moments: &Moments) -> usize {
        let around = self.reading;
        if binary.op.is_trim() {
            self.reading = around.with_buckets();
        }
        let left = self.plan(&binary.left, moments);
        let right = self.plan(&binary.right, moments);
        self.reading = around;
        let (op, is_bool) = (binary.op, binary.is_bool);
        match (&binary.matching, binary.op) {
            (Some(matching), BinaryOp::Set(set)) => self.add(
                Kind::Set(set, matching.labels.clone()),
                vec![left, right],
                moments,
            ),
            (Some(matching), _) => {
                let kind = Kind::Join {
                    op,
                    is_bool,
                    matching: matching.clone(),
                };
                self.add(kind, vec![left, right], moments)
            }
            (None, _) => match (binary.left.value_type(), binary.right.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => {
                    self.add(Kind::Scalars(op), vec![left, right], moments)
                }
                (ValueType::Scalar, _) => {
                    let kind = Kind::VectorScalar {
                        op,
                        is_bool,
                        is_scalar_left: true,
                    };
                    self.add(kind, vec![right, left], moments)
                }
                _ => {
                    let kind = Kind::VectorScalar {
                        op,
                        is_bool,
                        is_scalar_left: false,
                    };
                    self.add(kind, vec![left, right], moments)
                }
            },
        }
    }

    fn aggregate(&mut self, aggregate: &Aggregate, moments: &Moments) -> usize {
        let param = aggregate.param.as_ref().map(|param| self.plan(param, moments));
        let inputs = std::iter::once(self.plan(&aggregate.expr, moments))
            .chain(param)
            .collect();
        let sorted = |labels: &Arc<[Arc<str>]>| {
            let mut labels = labels.to_vec();
            labels.sort_unstable();
            labels.dedup();
            Arc::from(labels)
        };
        let grouping = match &aggregate.grouping {
            // An empty `by ()` is the one group of no grouping at all.
            Some(LabelChoice::Only(labels)) if labels.is_empty() => None,
            Some(LabelChoice::Only(labels)) => Some(LabelChoice::Only(sorted(labels))),
            Some(LabelChoice::Except(labels)) => Some(LabelChoice::Except(sorted(labels))),
            None => None,
        };
        self.add(
            Kind::Aggregate {
                op: aggregate.op,
                grouping,
            },
            inputs,
            moments,
        )
    }

    fn call(&mut self, function: Function, args: &[Expr], moments: &Moments) -> usize {
        if function.is_rollup() {
            return self.rollup(function, args, moments);
        }
        let texts =
            |from: usize| -> Arc<[Arc<str>]> { args[from.min(args.len())..].iter().map(text).collect() };
        let kind = match function {
            Function::Pi => Kind::Number(Number(std::f64::consts::PI)),
            Function::Time => Kind::Time,
            Function::Start | Function::End | Function::Range | Function::Step => Kind::Context(function),
            Function::MaxOf | Function::MinOf => Kind::OneOf(function),
            Function::StartTimestamp => {
                let reason = "start_timestamp() is not supported: no start timestamps are stored";
                return self.add(Kind::Refused(Arc::from(reason)), Vec::new(), moments);
            }
            Function::Info => {
                let inner = self.plan(&args[0], moments);
                let info = info::choice_of(&args[0], args.get(1));
                return self.add(Kind::Info(info), vec![inner], moments);
            }
            Function::ToScalar => Kind::ToScalar,
            Function::ToVector => Kind::ToVector,
            Function::Absent => Kind::Absent(absent_labels(&args[0])),
            Function::HistogramQuantile => Kind::HistogramQuantile,
            Function::HistogramFraction => Kind::HistogramFraction,
            Function::HistogramQuantiles => return self.quantiles(args, moments),
            Function::Sort | Function::SortDesc | Function::SortByLabel | Function::SortByLabelDesc => {
                Kind::Sort(function, texts(1))
            }
            Function::LabelReplace => Kind::LabelReplace {
                target: text(&args[1]),
                replacement: text(&args[2]),
                source: text(&args[3]),
                pattern: text(&args[4]),
            },
            Function::LabelJoin => Kind::LabelJoin {
                target: text(&args[1]),
                separator: text(&args[2]),
                sources: texts(3),
            },
            Function::Timestamp => {
                if let ExprKind::Selector(selector) = &args[0].without_parens().kind {
                    let kind = Kind::SampleTime(choice_of(selector), shift_of(selector));
                    return self.add(kind, Vec::new(), moments);
                }
                Kind::Map(function)
            }
            date if date.reads_time() => Kind::Date(date),
            other => Kind::Map(other),
        };
        let inputs = args
            .iter()
            .filter(|arg| arg.value_type() != ValueType::Text)
            .map(|arg| self.plan(arg, moments))
            .collect();
        self.add(kind, inputs, moments)
    }

    /// `histogram_quantiles`: the rows of `histogram_quantile` for each quantile, with a label that names it.
    fn quantiles(&mut self, args: &[Expr], moments: &Moments) -> usize {
        let label = text(&args[1]);
        let vector = self.plan(&args[0], moments);
        let labelled = args[2..].iter().map(|phi| {
            let place = self.plan(phi, moments);
            let quantile = self.add(Kind::HistogramQuantile, vec![place, vector], moments);
            self.mark(quantile, phi, [phi, &args[0]]);
            self.add(
                Kind::QuantileLabel(Arc::clone(&label)),
                vec![quantile, place],
                moments,
            )
        });
        let labelled: Vec<usize> = labelled.collect();
        let both = |first: usize, second: usize| self.add(Kind::Both, vec![first, second], moments);
        // The check has refused a call without a quantile.
        labelled.into_iter().reduce(both).unwrap_or(vector)
    }

    fn rollup(&mut self, function: Function, args: &[Expr], moments: &Moments) -> usize {
        let is_absent = function == Function::AbsentOverTime;
        let over = if is_absent {
            Function::PresentOverTime
        } else {
            function
        };
        let (mut source, mut scalars) = (None, Vec::new());
        for arg in args {
            let arg = arg.without_parens();
            match &arg.kind {
                range @ (ExprKind::Range(..) | ExprKind::Subquery(_)) => source = Some(range),
                _ => scalars.push(self.plan(arg, moments)),
            }
        }
        let place = match source {
            Some(ExprKind::Range(selector, range)) => {
                if let Some(reason) = refusal(function, selector.extension) {
                    return self.add(Kind::Refused(Arc::from(reason)), Vec::new(), moments);
                }
                let span = span_of(selector, range);
                let choice = choice_of(selector);
                let kind = if self.reading.is_of_counts() {
                    Kind::CountedRollup(over, choice, span)
                } else {
                    Kind::Rollup(over, choice, span)
                };
                self.add(kind, scalars, moments)
            }
            Some(ExprKind::Subquery(subquery)) => {
                let (inner, span) = self.subquery(subquery, moments);
                scalars.insert(0, inner);
                self.add(Kind::SubqueryRollup(over, span), scalars, moments)
            }
            // The check has refused a rollup without a range.
            _ => self.add(Kind::Text(Arc::from("")), Vec::new(), moments),
        };
        if is_absent {
            return self.add(Kind::Absent(absent_labels(&args[0])), vec![place], moments);
        }
        place
    }
}

fn text(expr: &Expr) -> Arc<str> {
    match &expr.without_parens().kind {
        ExprKind::Text(text) => Arc::clone(text),
        _ => Arc::from(""),
    }
}

/// The labels of `absent`: those that equalities pin down, unless another matcher names them too.
fn absent_labels(expr: &Expr) -> Labels {
    let (ExprKind::Selector(selector) | ExprKind::Range(selector, _)) = &expr.without_parens().kind else {
        return Labels::empty();
    };
    let mut builder = LabelsBuilder::default();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in selector.matchers.iter().filter(|m| &*m.name != METRIC_NAME) {
        if matcher.op == MatcherOp::Equal && !seen.contains(&&*matcher.name) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            builder.set(&matcher.name, "");
        }
    }
    builder.build()
}

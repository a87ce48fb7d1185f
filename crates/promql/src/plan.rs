//! Plans: what is calculated from what, at which moments, each thing once.
//!
//! A plan is a graph of nodes in the order of calculation. Equal parts of an expression are one node,
//! and equal parts of different expressions prepared by one engine are the same node with the same
//! number: so a session can share their results. Moments are part of a node's identity: the steps of
//! the query, a single moment for what `@` pins down, or the steps of a subquery.
//! Deliberately absent: any time. A plan is good for every evaluation.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use marketprism_model::{Labels, Matcher, MatcherOp, labels};

use crate::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Expr, LabelChoice, Matching, Number, Selector, SetOp,
    Subquery, ValueType,
};
use crate::functions::Function;

/// Matchers in a fixed order, each once: equal choices are equal keys.
pub(crate) type Choice = Arc<[Matcher]>;

/// A shift of time: back by `offset_ms`, from a fixed moment or from each step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Shift {
    pub(crate) offset_ms: i64,
    pub(crate) at: Option<At>,
}

/// A range that ends at a shifted moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Span {
    pub(crate) range_ms: i64,
    pub(crate) shift: Shift,
}

/// The moments of a node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Moments {
    /// Each step of the query.
    Query,
    /// One moment, because the value is the same at all.
    Once,
    /// The steps of a subquery under nodes of other moments; those do not matter under `@`.
    Subquery {
        outer: Option<Arc<Moments>>,
        span: Span,
        step_ms: Option<i64>,
    },
}

/// What a node calculates. Inputs come in the order that each kind names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    Number(Number),
    Text(Arc<str>),
    Time,
    /// The value of one moment, at each step.
    Spread,
    /// An instant selector.
    Instant(Choice, Shift),
    /// When the samples of an instant selector were taken.
    SampleTime(Choice, Shift),
    /// The raw samples of a range; only at the root.
    Samples(Choice, Span),
    /// The points of a subquery (input 0); only at the root.
    Points(Span),
    /// A function over the samples of a range; inputs are its scalars.
    Rollup(Function, Choice, Span),
    /// A function over the points of a subquery (input 0); further inputs are its scalars.
    SubqueryRollup(Function, Span),
    /// A function on each value of a vector (input 0) and its scalars.
    Map(Function),
    /// A date function of each value of a vector, or of the time when there is no input.
    Date(Function),
    /// Puts an instant vector in order; the labels are those of `sort_by_label`.
    Sort(Function, Arc<[Arc<str>]>),
    /// 1 where the vector (input 0) has nothing.
    Absent(Labels),
    ToScalar,
    ToVector,
    LabelReplace {
        target: Arc<str>,
        replacement: Arc<str>,
        source: Arc<str>,
        pattern: Arc<str>,
    },
    LabelJoin {
        target: Arc<str>,
        separator: Arc<str>,
        sources: Arc<[Arc<str>]>,
    },
    /// Quantile (input 0) of classic buckets (input 1).
    HistogramQuantile,
    /// Share between bounds (inputs 0, 1) of classic buckets (input 2).
    HistogramFraction,
    Negate,
    /// Two scalars.
    Scalars(BinaryOp),
    /// A vector (input 0) and a scalar (input 1).
    VectorScalar {
        op: BinaryOp,
        is_bool: bool,
        is_scalar_left: bool,
    },
    /// Two vectors.
    Join {
        op: BinaryOp,
        is_bool: bool,
        matching: Matching,
    },
    /// Two vectors as sets.
    Set(SetOp, LabelChoice),
    /// A vector (input 0) and the parameter (input 1).
    Aggregate {
        op: AggregateOp,
        grouping: Option<LabelChoice>,
    },
}

/// A node with an identity.
#[derive(Debug)]
pub(crate) struct Node {
    /// Never given twice within the process.
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    pub(crate) moments: Moments,
    /// The selectors of this node and all below.
    pub(crate) reads: Arc<[Choice]>,
    /// Keeps the inputs alive, so that their numbers stay theirs.
    _inputs: Vec<Arc<Node>>,
}

impl Node {
    /// Says whether the node itself reads samples.
    pub(crate) fn is_reader(&self) -> bool {
        own_choice(&self.kind).is_some()
    }
}

/// Gives the metric name that an equality asks for.
pub(crate) fn metric_name(choice: &Choice) -> Option<&Arc<str>> {
    let is_name = |m: &&Matcher| &*m.name == labels::METRIC_NAME && m.op == MatcherOp::Equal;
    choice.iter().find(is_name).map(|matcher| &matcher.value)
}

/// A node's place in one plan.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) node: Arc<Node>,
    /// Places of the inputs, all earlier.
    pub(crate) inputs: Vec<usize>,
    /// Place of the moments in [`Plan::moments`].
    pub(crate) moments: usize,
    /// How many later places use this one.
    pub(crate) uses: u32,
}

#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order of calculation; the last is the root.
    pub(crate) places: Vec<Place>,
    pub(crate) moments: Vec<Moments>,
    pub(crate) value_type: ValueType,
}

/// A planned query; cheap to clone, good for every evaluation.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) plan: Arc<Plan>,
    expr: Arc<Expr>,
}

impl Prepared {
    /// Gives the expression that was planned.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Gives the type of the answer of an instant query.
    pub fn value_type(&self) -> ValueType {
        self.plan.value_type
    }
}

type Key = (Kind, Vec<u64>, Moments);

/// The nodes that live plans hold, so that equal parts find each other.
#[derive(Default, Debug)]
pub(crate) struct Interner {
    nodes: Mutex<Interned>,
}

#[derive(Default, Debug)]
struct Interned {
    by_key: HashMap<Key, Weak<Node>>,
    /// When the table is this long, it is rid of nodes that no plan holds any more.
    sweep_at: usize,
}

impl Interner {
    /// Plans an expression that has been checked.
    pub(crate) fn prepare(&self, expr: &Expr) -> Prepared {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut planner = Planner {
            nodes,
            places: Vec::new(),
            at: HashMap::new(),
            moments: Vec::new(),
        };
        let root = planner.root(expr);
        debug_assert_eq!(root + 1, planner.places.len(), "the root is planned last");
        let plan = Plan {
            places: planner.places,
            moments: planner.moments,
            value_type: expr.value_type(),
        };
        Prepared {
            plan: Arc::new(plan),
            expr: Arc::new(expr.clone()),
        }
    }
}

/// Whether a value changes from step to step.
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
    match expr {
        Expr::Number(_) | Expr::Text(_) => Constancy::Constant,
        Expr::Selector(selector) | Expr::Range(selector, _) => of_shift(&selector.at),
        Expr::Subquery(subquery) => of_shift(&subquery.at),
        Expr::Negate(inner) | Expr::Paren(inner) => constancy(inner),
        Expr::Call(function, args) => {
            let args_constancy = args.iter().map(constancy).max().unwrap_or(Constancy::Constant);
            let is_sample_time =
                *function == Function::Timestamp && matches!(args[0].without_parens(), Expr::Selector(_));
            if function.reads_time() && !is_sample_time {
                Constancy::Moving
            } else {
                args_constancy
            }
        }
        Expr::Aggregate(aggregate) => {
            let param = aggregate.param.as_ref().map_or(Constancy::Constant, constancy);
            param.max(constancy(&aggregate.expr))
        }
        Expr::Binary(binary) => constancy(&binary.left).max(constancy(&binary.right)),
    }
}

struct Planner<'a> {
    nodes: std::sync::MutexGuard<'a, Interned>,
    places: Vec<Place>,
    at: HashMap<u64, usize>,
    moments: Vec<Moments>,
}

fn choice_of(selector: &Selector) -> Choice {
    let mut matchers = selector.matchers.to_vec();
    matchers.sort_by(|a, b| (&a.name, a.op, &a.value).cmp(&(&b.name, b.op, &b.value)));
    matchers.dedup();
    Arc::from(matchers)
}

fn shift_of(selector: &Selector) -> Shift {
    Shift {
        offset_ms: selector.offset_ms,
        at: selector.at,
    }
}

impl Planner<'_> {
    fn add(&mut self, kind: Kind, inputs: Vec<usize>, moments: &Moments) -> usize {
        let input_ids = inputs.iter().map(|place| self.places[*place].node.id).collect();
        let key: Key = (kind, input_ids, moments.clone());
        let interned = &mut *self.nodes;
        let node = match interned.by_key.get(&key).and_then(Weak::upgrade) {
            Some(node) => node,
            None => {
                static NEXT: AtomicU64 = AtomicU64::new(1);
                let input_nodes: Vec<_> = inputs
                    .iter()
                    .map(|place| Arc::clone(&self.places[*place].node))
                    .collect();
                let node = Arc::new(Node {
                    id: NEXT.fetch_add(1, Ordering::Relaxed),
                    kind: key.0.clone(),
                    moments: moments.clone(),
                    reads: reads_of(&key.0, &input_nodes),
                    _inputs: input_nodes,
                });
                if interned.by_key.len() >= interned.sweep_at {
                    interned.by_key.retain(|_, node| node.strong_count() > 0);
                    interned.sweep_at = 1024.max(interned.by_key.len() * 2);
                }
                interned.by_key.insert(key, Arc::downgrade(&node));
                node
            }
        };
        if let Some(place) = self.at.get(&node.id) {
            return *place;
        }
        for input in &inputs {
            self.places[*input].uses += 1;
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
            uses: 0,
        });
        place
    }

    fn root(&mut self, expr: &Expr) -> usize {
        match expr.without_parens() {
            Expr::Range(selector, range_ms) => {
                let span = Span {
                    range_ms: *range_ms,
                    shift: shift_of(selector),
                };
                self.add(
                    Kind::Samples(choice_of(selector), span),
                    Vec::new(),
                    &Moments::Query,
                )
            }
            Expr::Subquery(subquery) => {
                let (inner, span) = self.subquery(subquery, &Moments::Query);
                self.add(Kind::Points(span), vec![inner], &Moments::Query)
            }
            other => self.plan(other, &Moments::Query),
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
        match expr {
            Expr::Number(number) => self.add(Kind::Number(*number), Vec::new(), moments),
            Expr::Text(text) => self.add(Kind::Text(Arc::clone(text)), Vec::new(), moments),
            Expr::Selector(selector) => {
                let kind = Kind::Instant(choice_of(selector), shift_of(selector));
                self.add(kind, Vec::new(), moments)
            }
            // Ranges stand only under functions, which plan them, and at the root.
            Expr::Range(..) | Expr::Subquery(_) => self.add(Kind::Text(Arc::from("")), Vec::new(), moments),
            Expr::Paren(inner) => self.plan(inner, moments),
            Expr::Negate(inner) => {
                let inner = self.plan(inner, moments);
                self.add(Kind::Negate, vec![inner], moments)
            }
            Expr::Call(function, args) => self.call(*function, args, moments),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate, moments),
            Expr::Binary(binary) => self.binary(binary, moments),
        }
    }

    fn subquery(&mut self, subquery: &Subquery, moments: &Moments) -> (usize, Span) {
        let shift = Shift {
            offset_ms: subquery.offset_ms,
            at: subquery.at,
        };
        let span = Span {
            range_ms: subquery.range_ms,
            shift,
        };
        let outer = subquery.at.is_none().then(|| Arc::new(moments.clone()));
        let inner = Moments::Subquery {
            outer,
            span,
            step_ms: subquery.step_ms,
        };
        (self.plan(&subquery.expr, &inner), span)
    }

    fn binary(&mut self, binary: &Binary, moments: &Moments) -> usize {
        let left = self.plan(&binary.left, moments);
        let right = self.plan(&binary.right, moments);
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
        let mut inputs = vec![self.plan(&aggregate.expr, moments)];
        if let Some(param) = &aggregate.param {
            inputs.push(self.plan(param, moments));
        }
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
            Function::ToScalar => Kind::ToScalar,
            Function::ToVector => Kind::ToVector,
            Function::Absent => Kind::Absent(absent_labels(&args[0])),
            Function::HistogramQuantile => Kind::HistogramQuantile,
            Function::HistogramFraction => Kind::HistogramFraction,
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
                if let Expr::Selector(selector) = args[0].without_parens() {
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

    fn rollup(&mut self, function: Function, args: &[Expr], moments: &Moments) -> usize {
        let is_absent = function == Function::AbsentOverTime;
        let over = if is_absent {
            Function::PresentOverTime
        } else {
            function
        };
        let (mut source, mut scalars) = (None, Vec::new());
        for arg in args {
            match arg.without_parens() {
                range @ (Expr::Range(..) | Expr::Subquery(_)) => source = Some(range),
                scalar => scalars.push(self.plan(scalar, moments)),
            }
        }
        let place = match source {
            Some(Expr::Range(selector, range_ms)) => {
                let span = Span {
                    range_ms: *range_ms,
                    shift: shift_of(selector),
                };
                self.add(Kind::Rollup(over, choice_of(selector), span), scalars, moments)
            }
            Some(Expr::Subquery(subquery)) => {
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
    match expr.without_parens() {
        Expr::Text(text) => Arc::clone(text),
        _ => Arc::from(""),
    }
}

fn own_choice(kind: &Kind) -> Option<&Choice> {
    match kind {
        Kind::Instant(choice, _) | Kind::SampleTime(choice, _) => Some(choice),
        Kind::Samples(choice, _) | Kind::Rollup(_, choice, _) => Some(choice),
        _ => None,
    }
}

fn reads_of(kind: &Kind, inputs: &[Arc<Node>]) -> Arc<[Choice]> {
    let own = own_choice(kind);
    if let (None, [only]) = (own, inputs) {
        return Arc::clone(&only.reads);
    }
    let mut reads: Vec<Choice> = own.cloned().into_iter().collect();
    for choice in inputs.iter().flat_map(|input| input.reads.iter()) {
        if !reads.contains(choice) {
            reads.push(Arc::clone(choice));
        }
    }
    Arc::from(reads)
}

/// The labels of `absent`: those that equalities pin down, unless another matcher names them too.
fn absent_labels(expr: &Expr) -> Labels {
    let (Expr::Selector(selector) | Expr::Range(selector, _)) = expr.without_parens() else {
        return Labels::empty();
    };
    let mut builder = marketprism_model::LabelsBuilder::default();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in selector
        .matchers
        .iter()
        .filter(|m| &*m.name != labels::METRIC_NAME)
    {
        if matcher.op == MatcherOp::Equal && !seen.contains(&&*matcher.name) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            builder.set(&matcher.name, "");
        }
    }
    builder.build()
}

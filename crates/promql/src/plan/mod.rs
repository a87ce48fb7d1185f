//! Plans: what is calculated from what, at which moments, each thing once.
//!
//! A plan is a graph of nodes in the order of calculation. Equal parts of an expression are one node,
//! and equal parts of different expressions prepared by one engine are the same node with the same
//! number: so a session can share their results. Moments are part of a node's identity: the steps of
//! the query, a single moment for what `@` pins down, or the steps of a subquery.
//! Deliberately absent: any time. A plan is good for every evaluation.

mod info;
mod lengths;
mod planner;

pub(crate) use lengths::{AT_AN_INSTANT, LengthContext};

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::series::Bookmark;
use marketprism_model::{Labels, Matcher, MatcherOp};

use crate::answer::QueryError;
use crate::ast::{
    AggregateOp, At, BinaryOp, Expr, Extension, LabelChoice, Matching, Number, SetOp, ValueType,
};
use crate::functions::Function;
use crate::notes::Part;

/// Matchers in a fixed order, each once: equal choices are equal keys. With them goes the place in which a source marks
/// what they chose.
#[derive(Clone, Debug)]
pub(crate) struct Choice(Arc<Chosen>);

#[derive(Debug)]
struct Chosen {
    bookmark: Bookmark,
    matchers: Box<[Matcher]>,
}

impl Choice {
    /// Puts matchers in order.
    pub(crate) fn of(mut matchers: Vec<Matcher>) -> Self {
        matchers.sort_by(|a, b| (&a.name, a.op, &a.value).cmp(&(&b.name, b.op, &b.value)));
        matchers.dedup();
        Choice(Arc::new(Chosen {
            bookmark: Bookmark::default(),
            matchers: Box::from(matchers),
        }))
    }

    /// The bookmark, which belongs to these matchers alone.
    pub(crate) fn bookmark(&self) -> &Bookmark {
        &self.0.bookmark
    }
}

impl Deref for Choice {
    type Target = [Matcher];

    fn deref(&self) -> &[Matcher] {
        &self.0.matchers
    }
}

impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.matchers == other.0.matchers
    }
}

impl Eq for Choice {}

impl Hash for Choice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.matchers.hash(state);
    }
}

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
    /// What is done at the borders; never of a subquery.
    pub(crate) extension: Option<Extension>,
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
    /// `start()`, `end()`, `range()` or `step()` of the query.
    Context(Function),
    /// The greater or the lesser of two scalars.
    OneOf(Function),
    /// What cannot be evaluated, and why.
    Refused(Arc<str>),
    /// The value of one moment, at each step.
    Spread,
    /// An instant selector.
    Instant(Choice, Shift),
    /// The same, with no more of native histograms than their counts and sums.
    CountedInstant(Choice, Shift),
    /// An instant selector whose values are interpolated.
    Smoothed(Choice, Shift),
    /// When the samples of an instant selector were taken.
    SampleTime(Choice, Shift),
    /// The raw samples of a range; only at the root.
    Samples(Choice, Span),
    /// The points of a subquery (input 0); only at the root.
    Points(Span),
    /// A function over the samples of a range; inputs are its scalars.
    Rollup(Function, Choice, Span),
    /// The same, with no more of native histograms than their counts and sums.
    CountedRollup(Function, Choice, Span),
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
    /// A vector (input 0) and the labels of info series.
    Info(InfoChoice),
    /// Quantile (input 0) of histograms, classic or native (input 1).
    HistogramQuantile,
    /// Share between bounds (inputs 0, 1) of histograms, classic or native (input 2).
    HistogramFraction,
    /// Gives a vector (input 0) a label that names a quantile (input 1).
    QuantileLabel(Arc<str>),
    /// The rows of two vectors.
    Both,
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

/// The second argument of `info`, and when it is looked up.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct InfoChoice {
    /// What chooses info series: `names` and `data` together.
    pub(crate) choice: Choice,
    /// The conditions on the names of info series.
    pub(crate) names: Arc<[Matcher]>,
    /// The conditions on the labels that are taken over; all are when there is none.
    pub(crate) data: Arc<[Matcher]>,
    /// That of the first selector in the vector.
    pub(crate) shift: Shift,
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
    let is_name = |m: &&Matcher| &*m.name == METRIC_NAME && m.op == MatcherOp::Equal;
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
}

#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order of calculation; the last is the root.
    pub(crate) places: Vec<Place>,
    pub(crate) moments: Vec<Moments>,
    pub(crate) value_type: ValueType,
    /// Where in the query's text a node and its arguments begin, sorted by the node's number; of a node that
    /// comes twice, its last place.
    marks: Vec<(u64, Box<[u32]>)>,
}

/// A planned query; cheap to clone, good for every evaluation.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) plan: Arc<Plan>,
    expr: Arc<Expr>,
    /// Where the lines of the text after the first begin.
    lines: Arc<[u32]>,
    /// Whether a length of time waits for the query, so that it must be planned anew for it.
    is_waiting: bool,
}

impl Prepared {
    /// Gives the expression that was planned.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Reads something of the plan, so that it is near when it is evaluated; of no meaning.
    #[inline]
    pub fn touch(&self) -> usize {
        self.plan.places.len() ^ self.plan.moments.len() ^ usize::from(self.is_waiting)
    }

    /// The same of the plan's parts; the plan itself should be near.
    #[inline]
    pub fn touch_parts(&self) -> usize {
        let places = self.plan.places.iter();
        places.fold(0, |sum, place| {
            let node = &place.node;
            let choice = own_choice(&node.kind).map_or(0, |choice| choice.len());
            sum ^ node.id as usize ^ node.reads.len() ^ choice ^ place.inputs.first().copied().unwrap_or(0)
        })
    }

    /// Gives the type of the answer of an instant query.
    pub fn value_type(&self) -> ValueType {
        self.plan.value_type
    }

    /// Gives line and column, from 1, of a part of a node in the text; columns are counted in bytes, as
    /// Prometheus does here.
    pub(crate) fn position(&self, node: u64, part: Part) -> Option<(usize, usize)> {
        let all = &self.plan.marks;
        let (_, marks) = &all[all.binary_search_by_key(&node, |(id, _)| *id).ok()?];
        let at = *match part {
            Part::Whole => marks.first()?,
            Part::Argument(place) => marks.get(usize::from(place) + 1)?,
        };
        let line = self.lines.partition_point(|start| *start <= at);
        let start = line.checked_sub(1).map_or(0, |before| self.lines[before]);
        Some((line + 1, (at - start) as usize + 1))
    }
}

/// Gives where the lines of a text after the first begin.
fn line_starts(text: &str) -> Arc<[u32]> {
    let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    breaks
        .map(|(at, _)| u32::try_from(at + 1).unwrap_or(u32::MAX))
        .collect()
}

type Key = (Kind, Vec<u64>, Moments);

/// The table of nodes is never swept below this length.
const SWEEP_AT_LEAST: usize = 1024;

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
    /// Plans an expression that has been checked and was written as `text`.
    pub(crate) fn prepare(&self, expr: &Expr, text: &str) -> Prepared {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = Arc::new(planner::plan(nodes, expr));
        Prepared {
            plan,
            expr: Arc::new(expr.clone()),
            lines: line_starts(text),
            is_waiting: lengths::is_waiting(expr),
        }
    }

    /// Calculates the lengths of time that wait for the query.
    pub(crate) fn resolved<'q>(
        &self,
        query: &'q Prepared,
        context: LengthContext,
    ) -> Result<Cow<'q, Prepared>, QueryError> {
        if !query.is_waiting {
            return Ok(Cow::Borrowed(query));
        }
        let mut expr = Expr::clone(&query.expr);
        lengths::resolve(&mut expr, context)?;
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Cow::Owned(Prepared {
            plan: Arc::new(planner::plan(nodes, &expr)),
            expr: Arc::new(expr),
            lines: Arc::clone(&query.lines),
            is_waiting: false,
        }))
    }
}

impl Interned {
    /// Finds the node of a calculation, or makes it.
    fn intern(&mut self, kind: Kind, inputs: Vec<Arc<Node>>, moments: &Moments) -> Arc<Node> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let key: Key = (
            kind,
            inputs.iter().map(|input| input.id).collect(),
            moments.clone(),
        );
        if let Some(known) = self.by_key.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let node = Arc::new(Node {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            kind: key.0.clone(),
            moments: moments.clone(),
            reads: reads_of(&key.0, &inputs),
            _inputs: inputs,
        });
        if self.by_key.len() >= self.sweep_at {
            self.by_key.retain(|_, node| node.strong_count() > 0);
            self.sweep_at = SWEEP_AT_LEAST.max(self.by_key.len() * 2);
        }
        self.by_key.insert(key, Arc::downgrade(&node));
        node
    }
}

fn own_choice(kind: &Kind) -> Option<&Choice> {
    match kind {
        Kind::Instant(choice, _) | Kind::CountedInstant(choice, _) => Some(choice),
        Kind::Smoothed(choice, _) | Kind::SampleTime(choice, _) => Some(choice),
        Kind::Samples(choice, _) | Kind::Rollup(_, choice, _) => Some(choice),
        Kind::CountedRollup(_, choice, _) => Some(choice),
        Kind::Info(info) => Some(&info.choice),
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
            reads.push(choice.clone());
        }
    }
    Arc::from(reads)
}

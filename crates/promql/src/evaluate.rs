//! Evaluates a plan: each place in turn, inputs before what uses them.
//!
//! Nothing recurses, so no expression can overflow the stack. A result is dropped, or changed in
//! place, after its last use.

mod progress;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use marketprism_model::series::ReadError;
use marketprism_model::{Labels, SeriesSource};

use crate::answer::{Answer, QueryError, Series, Stop};
use crate::ast::At;
use crate::cache::Cache;
use crate::column::{Batch, Cells, Grid, Rows, RowsId, ScalarColumn};
use crate::engine::{EngineConfig, Interrupt, Workers};
use crate::functions::Function;
use crate::notes::Notes;
use crate::plan::{Kind, Moments, Plan, Prepared, Shift};
use crate::select::Wanted;
use crate::session::Memo;
use progress::{Progress, merged};

use crate::{
    aggregate, arithmetic, assemble, histogram, info, instant, join, relabel, rollup, select, sets, smooth,
};

/// What a place yields.
#[derive(Clone)]
pub(crate) enum Output {
    Scalar(ScalarColumn),
    Text(Arc<str>),
    Vector(Arc<Batch>),
    Matrix(Arc<Vec<Series>>),
}

impl Output {
    pub(crate) fn vector(batch: Batch) -> Self {
        Output::Vector(Arc::new(batch))
    }

    /// Counts the values held.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Output::Vector(batch) => usize::try_from(batch.weight()).unwrap_or(usize::MAX),
            Output::Scalar(ScalarColumn::Steps(values)) => values.len(),
            Output::Matrix(series) => series.iter().map(weight_of).sum(),
            _ => 1,
        }
    }

    /// Counts the bytes held: eight a value, and the labels that were made for it.
    pub(crate) fn bytes(&self) -> u64 {
        let labels = match self {
            Output::Vector(batch) => batch.rows.bytes(),
            Output::Matrix(series) => series.iter().map(|series| series.labels.bytes_held()).sum(),
            Output::Scalar(_) | Output::Text(_) => 0,
        };
        self.weight() as u64 * size_of::<f64>() as u64 + labels as u64
    }
}

/// The inputs of one place; no kind has more than three.
#[derive(Default)]
pub(crate) struct Inputs {
    slots: [Option<Output>; 3],
}

impl Inputs {
    /// Makes inputs of a vector alone.
    pub(crate) fn of_batch(batch: Arc<Batch>) -> Self {
        Inputs {
            slots: [Some(Output::Vector(batch)), None, None],
        }
    }

    /// Takes a vector, for changing: its own when nobody else holds it.
    pub(crate) fn take_batch(&mut self, place: usize) -> Batch {
        Arc::unwrap_or_clone(self.batch(place))
    }

    /// Takes a vector, for reading.
    pub(crate) fn batch(&mut self, place: usize) -> Arc<Batch> {
        match self.slots[place].take() {
            Some(Output::Vector(batch)) => batch,
            _ => unreachable!("the check has settled the types of all inputs"),
        }
    }

    pub(crate) fn scalar(&self, place: usize) -> ScalarColumn {
        match &self.slots[place] {
            Some(Output::Scalar(column)) => column.clone(),
            _ => unreachable!("the check has settled the types of all inputs"),
        }
    }

    pub(crate) fn has_scalar(&self, place: usize) -> bool {
        matches!(self.slots[place], Some(Output::Scalar(_)))
    }

    pub(crate) fn has_vector(&self, place: usize) -> bool {
        matches!(self.slots[place], Some(Output::Vector(_)))
    }

    pub(crate) fn text(&self, place: usize) -> Arc<str> {
        match &self.slots[place] {
            Some(Output::Text(text)) => Arc::clone(text),
            _ => unreachable!("the check has settled the types of all inputs"),
        }
    }
}

/// Tables made from labels, kept between evaluations.
pub(crate) struct Tables {
    pub(crate) groups: Cache<aggregate::GroupsKey, Arc<aggregate::Groups>>,
    pub(crate) joins: Cache<join::JoinKey, Arc<join::Joined>>,
    pub(crate) sets: Cache<sets::SetKey, Arc<sets::SetTable>>,
    pub(crate) buckets: Cache<RowsId, Arc<histogram::Buckets>>,
    pub(crate) relabelled: Cache<(RowsId, Kind), Arc<relabel::Relabelled>>,
}

impl Tables {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let each = bytes_max / 5;
        Tables {
            groups: Cache::new(each),
            joins: Cache::new(each),
            sets: Cache::new(each),
            buckets: Cache::new(each),
            relabelled: Cache::new(each),
        }
    }
}

/// One evaluation, or the series of evaluations of a session.
pub(crate) struct Run<'a> {
    pub(crate) config: &'a EngineConfig,
    pub(crate) workers: &'a dyn Workers,
    pub(crate) tables: &'a Tables,
    pub(crate) source: &'a dyn SeriesSource,
    pub(crate) interrupt: &'a dyn Interrupt,
    /// The steps of the query.
    pub(crate) query: Grid,
    /// The end of the query, which the last step may fall short of.
    end: i64,
    /// Remarks on the place at hand.
    pub(crate) notes: Notes,
    samples: AtomicU64,
}

/// What an evaluated place leaves: its value, and the remarks on it and all below.
#[derive(Clone)]
pub(crate) struct Done {
    pub(crate) output: Output,
    pub(crate) notes: Option<Arc<Notes>>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        config: &'a EngineConfig,
        workers: &'a dyn Workers,
        tables: &'a Tables,
        source: &'a dyn SeriesSource,
        interrupt: &'a dyn Interrupt,
        query: Grid,
        end: i64,
    ) -> Self {
        let samples = AtomicU64::new(0);
        Run {
            config,
            workers,
            tables,
            source,
            interrupt,
            query,
            end,
            notes: Notes::default(),
            samples,
        }
    }

    /// Evaluates a query and makes the answer of it.
    pub(crate) fn answer(&mut self, query: &Prepared, is_instant: bool) -> Result<Answer, QueryError> {
        let done = self.evaluate(query, None)?;
        assemble::answer(done, query, self.query, is_instant)
    }

    pub(crate) fn lookback_ms(&self) -> i64 {
        i64::try_from(self.config.lookback.as_millis()).unwrap_or(i64::MAX)
    }

    /// Starts the count of samples anew, for the next evaluation of a session.
    pub(crate) fn reset_samples(&mut self) {
        self.samples = AtomicU64::new(0);
    }

    /// Counts samples that were read, and stops the query that reads too many.
    pub(crate) fn count_samples(&self, samples: usize) -> Result<(), QueryError> {
        let before = self.samples.fetch_add(samples as u64, Ordering::Relaxed);
        if before.saturating_add(samples as u64) > self.config.samples_max {
            return Err(QueryError::TooManySamples {
                limit: self.config.samples_max,
            });
        }
        Ok(())
    }

    /// Refuses a batch that would hold too many values.
    pub(crate) fn check_size(&self, rows: usize, steps: usize) -> Result<(), QueryError> {
        let values = (rows as u64).saturating_mul(steps as u64);
        if values > self.config.samples_max {
            return Err(QueryError::TooManySamples {
                limit: self.config.samples_max,
            });
        }
        self.check_bytes(values.saturating_mul(size_of::<f64>() as u64))
    }

    /// Refuses to hold more histograms than weigh so much.
    pub(crate) fn check_held(&self, weight: u64) -> Result<(), QueryError> {
        if weight > self.config.samples_max {
            return Err(QueryError::TooManySamples {
                limit: self.config.samples_max,
            });
        }
        Ok(())
    }

    /// Refuses to hold more bytes, be it values, histograms or labels.
    pub(crate) fn check_bytes(&self, bytes: u64) -> Result<(), QueryError> {
        match self.config.bytes_max {
            limit if bytes > limit => Err(QueryError::TooManyBytes { limit }),
            _ => Ok(()),
        }
    }

    pub(crate) fn check_interrupt(&self) -> Result<(), QueryError> {
        match self.interrupt.stop() {
            None => Ok(()),
            Some(Stop::Cancelled) => Err(QueryError::Cancelled),
            Some(Stop::TimedOut) => Err(QueryError::TimedOut {
                limit: self.config.timeout,
            }),
        }
    }

    /// Makes the query's error of a reader's; a reader that was told to stop says only so.
    pub(crate) fn read_error(&self, error: ReadError) -> QueryError {
        match error {
            ReadError::Interrupted => self.check_interrupt().err().unwrap_or(QueryError::Cancelled),
            other => QueryError::Read(other),
        }
    }

    /// Gives the fixed moment of an `@`.
    pub(crate) fn pinned(&self, shift: Shift) -> Option<i64> {
        shift.at.map(|at| match at {
            At::Time(ms) => ms,
            At::Start => self.query.start,
            At::End => self.end,
        })
    }

    fn grid(&self, moments: &Moments) -> Result<Grid, QueryError> {
        match moments {
            Moments::Query => Ok(self.query),
            Moments::Once => Ok(Grid {
                start: self.query.start,
                step: 1,
                count: 1,
            }),
            Moments::Subquery { outer, span, step_ms } => {
                let (first, last) = match (outer, self.pinned(span.shift)) {
                    (_, Some(at)) => (at, at),
                    (Some(outer), None) => {
                        let outer = self.grid(outer)?;
                        (outer.start, outer.last())
                    }
                    (None, None) => (self.query.start, self.query.last()),
                };
                let default_ms = i64::try_from(self.config.subquery_step.as_millis()).unwrap_or(60_000);
                let step = step_ms.unwrap_or(default_ms).max(1);
                let before = first - span.shift.offset_ms - span.range_ms;
                let aligned = step * (before / step);
                let start = if aligned <= before {
                    aligned + step
                } else {
                    aligned
                };
                let end = last - span.shift.offset_ms;
                let count = if end < start {
                    0
                } else {
                    ((end - start) / step) as u64 + 1
                };
                self.check_size(1, usize::try_from(count).unwrap_or(usize::MAX))?;
                Ok(Grid {
                    start,
                    step,
                    count: count as usize,
                })
            }
        }
    }

    /// Evaluates a plan's root. With a memo, what is there is not calculated again, and what
    /// another plan may ask for is put there.
    pub(crate) fn evaluate(
        &mut self,
        query: &Prepared,
        mut memo: Option<&mut Memo>,
    ) -> Result<Done, QueryError> {
        // Far enough for any date, and no sum with an offset or a range can overflow.
        let is_far = |moment: i64| moment.unsigned_abs() > 1 << 60;
        if is_far(self.query.start) || is_far(self.end) {
            return Err(QueryError::Range {
                reason: "the moment is out of bounds",
            });
        }
        let plan: &Plan = &query.plan;
        let root = plan.places.len() - 1;
        let mut progress = Progress::new(plan, memo.as_deref());
        for place in 0..=root {
            if !progress.is_wanted(place) {
                continue;
            }
            let grid = progress.grid(self, plan, place)?;
            // A subquery has steps of its own.
            let inner = match plan.places[place].inputs.first() {
                Some(input) => progress.grid(self, plan, *input)?,
                None => grid,
            };
            let (inputs, mut notes) = progress.take_inputs(&plan.places[place]);
            let node = &plan.places[place].node;
            let output = self.calculate(&node.kind, inputs, grid, inner)?;
            // What was told to stop has not filled its rows.
            if !matches!(node.kind, Kind::Number(_) | Kind::Text(_)) {
                self.check_interrupt()?;
            }
            if !self.notes.is_empty() {
                let mut own = std::mem::take(&mut self.notes);
                own.belong_to(node.id);
                notes = merged(notes, Some(Arc::new(own)));
            }
            let done = Done { output, notes };
            if let Some(memo) = memo.as_deref_mut()
                && progress.stages[place].is_kept
            {
                memo.put(node, &done);
            }
            progress.put(place, done);
            self.check_bytes(progress.bytes)?;
            if progress.held > self.config.samples_max {
                return Err(QueryError::TooManySamples {
                    limit: self.config.samples_max,
                });
            }
        }
        match progress.stages[root].done.take() {
            Some(done) => Ok(done),
            None => unreachable!("the root is always calculated"),
        }
    }

    fn calculate(
        &mut self,
        kind: &Kind,
        mut inputs: Inputs,
        grid: Grid,
        inner: Grid,
    ) -> Result<Output, QueryError> {
        let inputs = &mut inputs;
        match kind {
            Kind::Number(number) => Ok(Output::Scalar(ScalarColumn::Constant(number.0))),
            Kind::Text(text) => Ok(Output::Text(Arc::clone(text))),
            Kind::Time => {
                let column = ScalarColumn::from_fn(grid.count, |step| grid.moment(step) as f64 / 1000.0);
                Ok(Output::Scalar(column))
            }
            Kind::Context(function) => Ok(Output::Scalar(ScalarColumn::Constant(self.context(*function)))),
            Kind::OneOf(function) => Ok(arithmetic::one_of(*function, inputs, grid)),
            Kind::Refused(reason) => Err(QueryError::Data(reason.to_string())),
            Kind::Spread => self.spread(inputs, grid),
            Kind::Instant(choice, shift) => select::instant(self, choice, *shift, grid, Wanted::Samples),
            Kind::CountedInstant(choice, shift) => {
                select::instant(self, choice, *shift, grid, Wanted::Counts)
            }
            Kind::Smoothed(choice, shift) => smooth::instant(self, choice, *shift, grid),
            Kind::SampleTime(choice, shift) => select::instant(self, choice, *shift, grid, Wanted::Times),
            Kind::Samples(choice, span) => select::samples(self, choice, *span, grid),
            Kind::Points(_) => select::points(&inputs.batch(0), inner),
            Kind::Rollup(function, choice, span) => {
                rollup::over_samples(self, *function, (choice, Wanted::Samples), *span, inputs, grid)
            }
            Kind::CountedRollup(function, choice, span) => {
                rollup::over_samples(self, *function, (choice, Wanted::Counts), *span, inputs, grid)
            }
            Kind::SubqueryRollup(function, span) => {
                rollup::over_points(self, *function, *span, inputs, grid, inner)
            }
            Kind::Map(function) => instant::map(*function, inputs, grid),
            Kind::Date(function) => instant::date(*function, inputs, grid),
            Kind::Sort(function, labels) => instant::sort(self, *function, labels, inputs, grid),
            Kind::Absent(labels) => instant::absent(labels, &inputs.batch(0), grid),
            Kind::ToScalar => instant::to_scalar(&inputs.batch(0), grid),
            Kind::ToVector => instant::to_vector(&inputs.scalar(0), grid),
            Kind::LabelReplace { .. } | Kind::LabelJoin { .. } => relabel::relabel(self, kind, inputs),
            Kind::Info(info) => info::enrich(self, info, inputs, grid),
            Kind::HistogramQuantile => histogram::quantile(self, inputs, grid),
            Kind::HistogramFraction => histogram::fraction(self, inputs),
            Kind::QuantileLabel(name) => histogram::label(self, name, inputs),
            Kind::Both => histogram::both(self, inputs),
            Kind::Negate => arithmetic::negate(self, inputs, grid),
            Kind::Scalars(op) => Ok(arithmetic::scalars(*op, inputs, grid)),
            Kind::VectorScalar {
                op,
                is_bool,
                is_scalar_left,
            } => arithmetic::vector_scalar(self, *op, *is_bool, *is_scalar_left, inputs),
            Kind::Join {
                op,
                is_bool,
                matching,
            } => join::join(self, *op, *is_bool, matching, inputs),
            Kind::Set(op, labels) => sets::combine(self, *op, labels, inputs),
            Kind::Aggregate { op, grouping } => {
                aggregate::aggregate(self, *op, grouping.as_ref(), inputs, grid)
            }
        }
    }

    /// What the functions of the query itself say, in seconds.
    fn context(&self, function: Function) -> f64 {
        let (start, end) = (self.query.start, self.end);
        let millis = match function {
            Function::Start => start,
            Function::End => end,
            Function::Range => end - start,
            _ if start == end => 0,
            _ => self.query.step,
        };
        millis as f64 / 1000.0
    }

    /// Repeats the value of one moment at each step.
    fn spread(&mut self, inputs: &mut Inputs, grid: Grid) -> Result<Output, QueryError> {
        if inputs.has_scalar(0) {
            return Ok(Output::Scalar(ScalarColumn::Constant(inputs.scalar(0).at(0))));
        }
        let once = inputs.batch(0);
        if grid.count == 1 {
            return Ok(Output::Vector(once));
        }
        self.check_size(once.rows.len(), grid.count)?;
        let values = once
            .values
            .iter()
            .flat_map(|value| std::iter::repeat_n(*value, grid.count))
            .collect();
        let repeat = |cells: &Cells| -> Cells {
            let repeated = |cell: &Option<_>| std::iter::repeat_n(cell.clone(), grid.count);
            cells.iter().flat_map(repeated).collect()
        };
        let cells = (values, once.histograms.as_ref().map(repeat));
        let (rows, names) = (Arc::clone(&once.rows), once.names.clone());
        Ok(Output::vector(Batch::of_cells(rows, names, grid.count, cells)))
    }
}

fn weight_of(series: &Series) -> usize {
    let histograms = series.histograms.iter().map(|(_, histogram)| histogram.weight());
    series.points.len() + histograms.sum::<usize>()
}

/// Rows without any labels, one of them: what `vector(1)` and `sum(x)` yield.
pub(crate) fn unlabelled_row() -> Arc<Rows> {
    static ROW: std::sync::OnceLock<Arc<Rows>> = std::sync::OnceLock::new();
    Arc::clone(ROW.get_or_init(|| Arc::new(Rows::lasting(vec![Labels::empty()]))))
}

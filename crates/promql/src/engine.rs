//! The engine: settings, limits and kept tables, and the ways to ask it.
//!
//! One engine serves one source: tables are kept by the numbers that the source gives its selections.
//! Invariant: it starts no thread and reads no clock. Workers, the moment, the data and the wish to
//! stop all come from the caller.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{SeriesSource, Timestamp};

use crate::answer::{Answer, QueryError, Stop};
use crate::ast::{Expr, ValueType};
use crate::column::Grid;
use crate::evaluate::{Run, Tables};
use crate::plan::{AT_AN_INSTANT, Interner, LengthContext, Prepared};
use crate::session::Session;

/// Settings and limits.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// How far an instant selector looks back for a sample; 5 minutes.
    pub lookback: Duration,
    /// The most samples that a query may read, and values that it may hold at once; 50 million.
    pub samples_max: u64,
    /// The most bytes that a query may hold at once: values, histograms, the labels it makes; 1 GiB.
    pub bytes_max: u64,
    /// The most steps of a range query; 11,000.
    pub steps_max: usize,
    /// What the caller's [`Interrupt`] keeps; named in the error. 2 minutes.
    pub timeout: Duration,
    /// Distance of a subquery's steps when it names none; 1 minute.
    pub subquery_step: Duration,
    /// The most bytes that kept tables may hold: groups, joins and the labels made for them; 200 MB.
    pub table_bytes_max: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            lookback: Duration::from_secs(300),
            samples_max: 50_000_000,
            bytes_max: 1 << 30,
            steps_max: 11_000,
            timeout: Duration::from_secs(120),
            subquery_step: Duration::from_secs(60),
            table_bytes_max: 200_000_000,
        }
    }
}

/// Tells a running evaluation to stop. It is asked often, from any worker; once it has said so, it must
/// keep saying so.
pub trait Interrupt: Sync {
    /// Gives the reason to stop, `None` to go on.
    fn stop(&self) -> Option<Stop>;
}

/// A question that says true when the evaluation is to be cancelled.
impl<F: Fn() -> bool + Sync> Interrupt for F {
    fn stop(&self) -> Option<Stop> {
        self().then_some(Stop::Cancelled)
    }
}

/// Never stops; for tests and small data.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uninterrupted;

impl Interrupt for Uninterrupted {
    fn stop(&self) -> Option<Stop> {
        None
    }
}

/// Lends hands: reading and rolling up series is split into tasks.
pub trait Workers: Send + Sync {
    /// Gives how many tasks can run side by side; at least 1.
    fn count(&self) -> usize;

    /// Runs `task(0)` to `task(tasks - 1)`, in any order, and returns when all are done.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// Does everything on the caller's thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallerThread;

impl Workers for CallerThread {
    fn count(&self) -> usize {
        1
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

/// Evaluates prepared queries over one source.
pub struct Engine {
    config: EngineConfig,
    workers: Arc<dyn Workers>,
    interner: Interner,
    tables: Tables,
}

impl Engine {
    /// Makes an engine that works on the caller's thread.
    pub fn new(config: EngineConfig) -> Self {
        Engine::with_workers(config, Arc::new(CallerThread))
    }

    /// Makes an engine that splits its work.
    pub fn with_workers(config: EngineConfig, workers: Arc<dyn Workers>) -> Self {
        let tables = Tables::new(config.table_bytes_max);
        Engine {
            config,
            workers,
            interner: Interner::default(),
            tables,
        }
    }

    /// Gives the settings.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Plans an expression that [`crate::parse`] gave; remarks count its columns in one line.
    pub fn prepare(&self, expr: &Expr) -> Prepared {
        self.interner.prepare(expr, "")
    }

    /// Plans an expression that [`crate::parse`] gave of this text; remarks name line and column in it.
    pub fn prepare_written(&self, expr: &Expr, text: &str) -> Prepared {
        self.interner.prepare(expr, text)
    }

    /// Evaluates at one moment.
    pub fn instant(
        &self,
        source: &dyn SeriesSource,
        query: &Prepared,
        at: Timestamp,
        interrupt: &dyn Interrupt,
    ) -> Result<Answer, QueryError> {
        let grid = Grid {
            start: at.millis(),
            step: 1,
            count: 1,
        };
        let query = self.interner.resolved(query, AT_AN_INSTANT)?;
        self.run(source, interrupt, grid, grid.start).answer(&query, true)
    }

    /// Evaluates at `start`, then every `step`, up to `end`. The answer is always a matrix.
    pub fn range(
        &self,
        source: &dyn SeriesSource,
        query: &Prepared,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
        interrupt: &dyn Interrupt,
    ) -> Result<Answer, QueryError> {
        if !matches!(query.value_type(), ValueType::Vector | ValueType::Scalar) {
            let reason = "a range query must yield a scalar or an instant vector";
            return Err(QueryError::Range { reason });
        }
        let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        if step_ms < 1 {
            return Err(QueryError::Range {
                reason: "the step must be at least a millisecond",
            });
        }
        let Some(length) = end
            .millis()
            .checked_sub(start.millis())
            .filter(|length| *length >= 0)
        else {
            return Err(QueryError::Range {
                reason: "the end lies before the start",
            });
        };
        let steps = (length / step_ms) as u64 + 1;
        if steps > self.config.steps_max as u64 {
            return Err(QueryError::TooManySteps {
                steps,
                limit: self.config.steps_max,
            });
        }
        let grid = Grid {
            start: start.millis(),
            step: step_ms,
            count: steps as usize,
        };
        let context = LengthContext {
            step_s: step.as_secs_f64(),
            range_s: length as f64 / 1000.0,
        };
        let query = self.interner.resolved(query, context)?;
        self.run(source, interrupt, grid, end.millis())
            .answer(&query, false)
    }

    /// Opens a session: many instant evaluations at one moment, which share equal parts.
    pub fn session<'a>(
        &'a self,
        source: &'a dyn SeriesSource,
        at: Timestamp,
        interrupt: &'a dyn Interrupt,
    ) -> Session<'a> {
        let grid = Grid {
            start: at.millis(),
            step: 1,
            count: 1,
        };
        Session::new(&self.interner, self.run(source, interrupt, grid, grid.start))
    }

    fn run<'a>(
        &'a self,
        source: &'a dyn SeriesSource,
        interrupt: &'a dyn Interrupt,
        query: Grid,
        end: i64,
    ) -> Run<'a> {
        Run::new(
            &self.config,
            &*self.workers,
            &self.tables,
            source,
            interrupt,
            query,
            end,
        )
    }
}

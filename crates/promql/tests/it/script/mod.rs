//! Runs scripts in Prometheus' test language: `load`, `clear`, `eval`, `expect`.
//!
//! Source: the README of `promql/promqltest` in prometheus/prometheus, and what its runner does with it: every
//! instant query is asked again with all of its selectors pinned by `@` and from other moments, and each of these
//! as the middle step of a range query; all must give what is expected. Both the old spelling (`eval_fail`) and the
//! new one (`expect fail`) are read; what cannot be read fails the script.
//! Deliberately absent: start timestamps, which our samples do not have. Evals that read series with them are
//! reported as skipped.

mod command;
mod expect;
mod load;
mod pinned;

use std::time::Duration;

use marketprism_model::{Labels, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_promql::{
    Answer, Engine, EngineConfig, Expr, QueryError, Series, Uninterrupted, Value, parse,
};

pub use command::{Command, Eval, When, commands, millis};

/// What became of one `eval`.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    Passed,
    /// Not run, because it needs what we deliberately do not have.
    Skipped(&'static str),
    Failed(String),
}

/// One `eval` and its outcome.
#[derive(Debug)]
pub struct Report {
    pub line: usize,
    pub query: String,
    pub outcome: Outcome,
}

/// Runs a script and reports on each of its evals; `Err` says which line is none of the language.
pub fn run(script: &str) -> Result<Vec<Report>, String> {
    let mut runner = Runner::default();
    let mut reports = Vec::new();
    for command in commands(script)? {
        match command {
            Command::Clear => runner = Runner::default(),
            Command::Load(load) => {
                runner.timed.extend(load.timed.iter().cloned());
                load.fill(&runner.memory)?;
            }
            Command::Eval(eval) => reports.push(Report {
                line: eval.line,
                query: eval.query.clone(),
                outcome: runner.outcome(&eval),
            }),
        }
    }
    Ok(reports)
}

#[derive(Default)]
struct Runner {
    memory: Memory,
    /// Series that have start timestamps.
    timed: Vec<Labels>,
}

impl Runner {
    fn outcome(&self, eval: &Eval) -> Outcome {
        const TIMED: Outcome = Outcome::Skipped("start timestamps");
        if eval.query.contains("start_timestamp(") {
            return TIMED;
        }
        let expr = match parse(&eval.query) {
            Ok(expr) => expr,
            Err(error) => return verdict(eval.expected.check_failure(&error.to_string())),
        };
        let selectors = expr.selectors();
        let is_timed = |labels: &Labels| {
            selectors
                .iter()
                .any(|selector| selector.matchers.iter().all(|m| m.matches_labels(labels)))
        };
        if self.timed.iter().any(is_timed) {
            return TIMED;
        }
        match eval.when {
            When::Range { .. } => verdict(self.check_range(eval, &expr)),
            When::Instant(at) => verdict(self.check_instants(eval, &expr, at)),
        }
    }

    fn check_range(&self, eval: &Eval, expr: &Expr) -> Result<(), String> {
        match self.ask(expr, &eval.when) {
            Err(error) => eval.expected.check_failure(&error.to_string()),
            Ok(answer) => eval.expected.check(&answer, &eval.when),
        }
    }

    /// Checks the instant, and what must come to the same.
    fn check_instants(&self, eval: &Eval, expr: &Expr, at: i64) -> Result<(), String> {
        self.check_instant(eval, expr, at)?;
        let Some(pinned) = pinned::pinned(expr, at) else {
            return Ok(());
        };
        // Printed and read again, so that remarks stand where they stand in the text.
        let text = pinned.to_string();
        let pinned = parse(&text).map_err(|error| format!("{text}: {error}"))?;
        let moments = match at {
            0 => [-1000, 0, 1000, 0, 0],
            at => [-10 * at, 0, at / 5, at, 10 * at],
        };
        for moment in moments {
            self.check_instant(eval, &pinned, moment)
                .map_err(|why| format!("{text} at {moment}: {why}"))?;
        }
        Ok(())
    }

    fn check_instant(&self, eval: &Eval, expr: &Expr, at: i64) -> Result<(), String> {
        let expected = &eval.expected;
        let answer = match self.ask(expr, &When::Instant(at)) {
            Err(error) => return expected.check_failure(&error.to_string()),
            Ok(answer) => answer,
        };
        expected.check(&answer, &eval.when)?;
        const OF_THE_QUERY: [&str; 4] = ["start()", "end()", "range()", "step()"];
        let text = expr.to_string();
        let may_vary = OF_THE_QUERY.iter().any(|call| text.contains(call));
        if expected.is_instant_only() || may_vary {
            return Ok(());
        }
        let range = When::Range {
            start: at - 60_000,
            end: at + 60_000,
            step: 60_000,
        };
        let over_range = self
            .ask(expr, &range)
            .map_err(|error| format!("as a range: {error}"))?;
        let Value::Matrix(series) = over_range.value else {
            return Err(format!("as a range: {over_range:?} is no matrix"));
        };
        let middle = middle(&series, at);
        let middle = match (&answer.value, &middle) {
            (Value::Scalar(_), Value::Vector(samples)) if samples.len() == 1 => {
                Value::Scalar(samples[0].value)
            }
            _ => middle,
        };
        expected
            .check_value(&middle, &eval.when)
            .map_err(|why| format!("as a range: {why}"))
    }

    fn ask(&self, expr: &Expr, when: &When) -> Result<Answer, QueryError> {
        let engine = Engine::new(EngineConfig::default());
        let prepared = engine.prepare(expr);
        let moment = Timestamp::from_millis;
        match *when {
            When::Instant(at) => engine.instant(&self.memory, &prepared, moment(at), &Uninterrupted),
            When::Range { start, end, step } => {
                let step = Duration::from_millis(step as u64);
                let (start, end) = (moment(start), moment(end));
                engine.range(&self.memory, &prepared, start, end, step, &Uninterrupted)
            }
        }
    }
}

fn verdict(result: Result<(), String>) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Failed(why),
    }
}

/// The vector at one step of a matrix.
fn middle(series: &[Series], at: i64) -> Value {
    let at = Timestamp::from_millis(at);
    let mut samples = Vec::new();
    for series in series {
        let number = series.points.iter().find(|point| point.timestamp == at);
        let histogram = series.histograms.iter().find(|(moment, _)| *moment == at);
        if number.is_some() || histogram.is_some() {
            samples.push(marketprism_promql::InstantSample {
                labels: series.labels.clone(),
                timestamp: at,
                value: number.map_or(0.0, |point| point.value),
                histogram: histogram.map(|(_, histogram)| histogram.clone()),
            });
        }
    }
    Value::Vector(samples)
}

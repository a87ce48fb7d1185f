//! One question of `query` or `query_range`, from its parameters to its answer: kept, shared, put together, or evaluated.
//!
//! `query`, `query_range` and their kept answers take the same road, so limits, statistics and failures are one thing for all.
//! Deliberately absent: JSON and the reading of moments (`query`), and whether an answer is still right (`cache`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use marketprism_model::Timestamp;
use marketprism_promql::{Answer, Engine, EngineConfig, Expr, QueryError, ValueType};

use super::answer::{ErrorType, Failure, JSON};
use super::counted::{Counted, Read};
use super::params::{Params, parse_duration_ms};
use super::query::{Extras, on_worker, parse, timed_out, write_answer};
use super::series::read_failure;
use super::stats::{self, Spent};
use crate::Server;
use crate::answer::{Finished, Gzip};
use crate::cache::reach::newest_read;
use crate::cache::steps::RangeQuestion;
use crate::cache::{self, Asked, Cache};
use crate::parts::Parts;

/// Where an expression is evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moments {
    One(Timestamp),
    Range {
        start: Timestamp,
        end: Timestamp,
        step: Duration,
    },
}

impl Moments {
    /// Gives the end.
    pub(super) fn last_ms(self) -> i64 {
        match self {
            Moments::One(at) => at.millis(),
            Moments::Range { end, .. } => end.millis(),
        }
    }
}

/// How an expression is evaluated.
pub(super) struct Question {
    timeout: Duration,
    lookback: Option<Duration>,
    limit: Option<usize>,
    /// Which statistics are wanted; empty for none.
    stats: String,
}

impl Question {
    /// Reads what is left when the moments and the limit were read.
    pub(super) fn read(server: &Server, params: &Params, limit: Option<usize>) -> Result<Self, Failure> {
        let longest = server.shared().config.query_timeout;
        let timeout = match params.duration_ms("timeout")? {
            None => longest,
            Some(wish_ms) => Duration::from_millis(wish_ms.max(0).unsigned_abs()).min(longest),
        };
        let lookback = match params.get("lookback_delta") {
            "" => None,
            text => {
                let lookback_ms = parse_duration_ms(text).map_err(|reason| {
                    Failure::bad_data(format!("error parsing lookback delta duration: {reason}"))
                })?;
                // Zero and less mean the engine's own.
                u64::try_from(lookback_ms)
                    .ok()
                    .filter(|ms| *ms > 0)
                    .map(Duration::from_millis)
            }
        };
        Ok(Question {
            timeout,
            lookback,
            limit,
            stats: params.get("stats").to_owned(),
        })
    }

    /// Makes a question without wishes.
    pub(super) fn plain(timeout: Duration) -> Self {
        Question {
            timeout,
            lookback: None,
            limit: None,
            stats: String::new(),
        }
    }

    /// Answers from what is kept, together with an equal question, or by an evaluation.
    pub(super) async fn answer(
        mut self,
        server: &Server,
        moments: Moments,
        text: String,
        gzip: Gzip,
        is_kept: bool,
    ) -> Result<Response, Failure> {
        let shared = server.shared();
        // Statistics tell of one evaluation, so they want one.
        let asked = match is_kept && self.stats.is_empty() {
            true => shared.cache.ask(self.key(moments, &text, gzip)),
            false => Asked::Alone,
        };
        let flight = match asked {
            Asked::Alone => None,
            Asked::Answered(answer) => return Ok(answer.into_response()),
            Asked::Leading(flight) => Some(Arc::new(flight)),
            Asked::Following(following) => {
                let since = shared.clock.monotonic();
                match tokio::time::timeout(self.timeout, following.wait()).await {
                    Ok(Some(answer)) => return Ok(answer.into_response()),
                    Ok(None) => {}
                    Err(_) => return Err(timed_out(server, self.timeout)),
                }
                let waited = shared.clock.monotonic().saturating_sub(since);
                self.timeout = self.timeout.saturating_sub(waited);
                None
            }
        };
        let (limit, bytes_max, stats) = (self.limit, shared.config.answer_bytes_max, self.stats.clone());
        let known = flight.clone();
        let find = move |expr: &Expr| known.and_then(|flight| flight.under(&expr.to_string()));
        let finish = move |expr: &Expr, answer: Answer, spent: &Spent| {
            let is_noted = !answer.warnings.is_empty() || !answer.infos.is_empty();
            let extras = Extras {
                limit,
                stats: stats::text(&stats, spent),
                warning: stats::warning(&stats),
            };
            let written = write_answer(moments, answer, extras, bytes_max)?;
            let finished = Finished::new(JSON, written.into_bytes(), gzip);
            if let Some(flight) = flight {
                let newest_ms = newest_read(expr, moments.last_ms());
                flight.land(&expr.to_string(), newest_ms, is_noted, &finished);
            }
            Ok(finished)
        };
        let answer = self.run(server, moments, text, find, finish).await?;
        Ok(answer.into_response())
    }

    /// Gives all that the answer depends on but the samples. The time limit is not among it: what was answered was
    /// answered in time.
    fn key(&self, moments: Moments, text: &str, gzip: Gzip) -> cache::Question {
        let (start_ms, step_ms) = match moments {
            Moments::One(at) => (at.millis(), None),
            Moments::Range { start, step, .. } => (start.millis(), u64::try_from(step.as_millis()).ok()),
        };
        cache::Question {
            text: text.to_owned(),
            start_ms,
            end_ms: moments.last_ms(),
            step_ms,
            limit: self.limit,
            lookback: self.lookback,
            gzip: gzip.0,
        }
    }

    /// Evaluates on a worker, unless `find` knows the answer to what was parsed.
    pub(super) async fn run<T: Send + 'static>(
        self,
        server: &Server,
        moments: Moments,
        text: String,
        find: impl FnOnce(&Expr) -> Option<T> + Send + 'static,
        finish: impl FnOnce(&Expr, Answer, &Spent) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let parts = server.parts()?;
        let (clock, cache) = (
            Arc::clone(&server.shared().clock),
            Arc::clone(&server.shared().cache),
        );
        let seconds = server.shared().metrics.query_seconds.clone();
        let asked = clock.monotonic();
        on_worker(server, self.timeout, move |abandoned| {
            let started = clock.monotonic();
            let outcome = parse_for(moments, &text).and_then(|expr| match find(&expr) {
                Some(found) => Ok(found),
                None => {
                    let parsed = clock.monotonic();
                    let (answer, read) = self.evaluate(&parts, &cache, moments, (&text, &expr), abandoned)?;
                    let spent = Spent {
                        queue: started.saturating_sub(asked),
                        preparation: parsed.saturating_sub(started),
                        evaluation: clock.monotonic().saturating_sub(parsed),
                        read,
                    };
                    finish(&expr, answer, &spent)
                }
            });
            seconds.inc_by(clock.monotonic().saturating_sub(started).as_secs_f64());
            outcome
        })
        .await
    }

    fn evaluate(
        &self,
        parts: &Parts,
        cache: &Cache,
        moments: Moments,
        (text, expr): (&str, &Expr),
        abandoned: &AtomicBool,
    ) -> Result<(Answer, Read), Failure> {
        // Another look-back means other tables; such queries are rare and get an engine of their own.
        let own_engine = self.lookback.map(|lookback| {
            Engine::new(EngineConfig {
                lookback,
                ..parts.engine.config().clone()
            })
        });
        let engine = own_engine.as_ref().unwrap_or(&*parts.engine);
        let source = Counted::new(&*parts.series);
        let interrupt = || abandoned.load(Ordering::Relaxed);
        let query = engine.prepare_written(expr, text);
        let answer = match moments {
            Moments::One(at) => engine
                .instant(&source, &query, at, &interrupt)
                .map(|answer| (answer, source.take())),
            Moments::Range { start, end, step } => {
                let mut read = Read::default();
                let mut range = |start_ms, end_ms| {
                    let (start, end) = (Timestamp::from_millis(start_ms), Timestamp::from_millis(end_ms));
                    let answer = engine.range(&source, &query, start, end, step, &interrupt)?;
                    let own = source.take();
                    read.samples += own.samples;
                    read.series = read.series.max(own.series);
                    Ok((answer, own))
                };
                let answer = match self.stats.is_empty() {
                    false => range(start.millis(), end.millis()).map(|(answer, _)| answer),
                    true => cache.range(
                        &RangeQuestion {
                            expr,
                            sent_as: text,
                            start_ms: start.millis(),
                            end_ms: end.millis(),
                            step_ms: i64::try_from(step.as_millis()).unwrap_or(i64::MAX),
                            lookback: self.lookback,
                            samples_max: engine.config().samples_max,
                            steps_max: engine.config().steps_max,
                        },
                        &mut range,
                    ),
                };
                answer.map(|answer| (answer, read))
            }
        };
        answer.map_err(query_failure)
    }
}

/// Reads an expression that can be evaluated at those moments.
fn parse_for(moments: Moments, text: &str) -> Result<Expr, Failure> {
    let expr = parse(text)?;
    let name = match (moments, expr.value_type()) {
        (Moments::One(_), _) | (Moments::Range { .. }, ValueType::Scalar | ValueType::Vector) => {
            return Ok(expr);
        }
        (Moments::Range { .. }, ValueType::Matrix) => "range vector",
        (Moments::Range { .. }, _) => "string",
    };
    let reason =
        format_args!("invalid expression type \"{name}\" for range query, must be Scalar or instant Vector");
    Err(Failure::parameter("query", reason))
}

fn query_failure(error: QueryError) -> Failure {
    let (kind, key) = match &error {
        QueryError::Cancelled => (ErrorType::Canceled, ""),
        QueryError::TimedOut { .. } => (ErrorType::Timeout, "timeout"),
        QueryError::TooManySteps { .. } | QueryError::Range { .. } | QueryError::Length(_) => {
            (ErrorType::BadData, "")
        }
        QueryError::TooManySamples { .. } => (ErrorType::Execution, "samples_max"),
        QueryError::TooManyBytes { .. } => (ErrorType::Execution, "bytes_max"),
        QueryError::Data(_) => (ErrorType::Execution, ""),
        QueryError::Read(_) => (ErrorType::Internal, ""),
    };
    match error {
        QueryError::Read(error) => read_failure(error),
        error if key.is_empty() => Failure::new(kind, error.to_string()),
        error => {
            // The engine may call the limit by a name of its own; whoever reads this knows the configuration.
            let text = error.to_string();
            let text = text.strip_suffix(&format!(" ({key})")).unwrap_or(&text);
            Failure::new(kind, format!("{text} (server.query_{key})"))
        }
    }
}

//! `query`, `query_range` and what belongs to them: expressions evaluated for a client.
//!
//! An expression is parsed and evaluated on a query worker with an interrupt: it stops at its deadline and when
//! the client goes away. Parsing belongs there too, for it compiles regular expressions, which a client can make
//! as costly as it likes; and so does writing the answer, so that no async thread ever sees a big one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use marketprism_model::{Histogram, Timestamp};
use marketprism_promql::{Answer, Engine, EngineConfig, Expr, QueryError, Value, ValueType, cut_remarks};

use super::answer::{ErrorType, Failure, JSON, success};
use super::number::{push_plain, push_timestamp, push_value};
use super::params::Params;
use super::series::{TRUNCATED, check_length, read_failure};
use super::write_histogram::push_histogram_point;
use super::write_json::{push_labels, push_string, push_strings};
use crate::Server;
use crate::answer::{Finished, Gzip};
use crate::cache::reach::newest_read;
use crate::cache::{self, Asked};
use crate::parts::Parts;
use crate::request::Form;
use crate::workers::InterruptGuard;

/// A range query has at most this many steps.
const STEPS_MAX: i64 = 11_000;
/// Reading an expression without evaluating it may take this long.
const QUICK: Duration = Duration::from_secs(30);

/// `GET|POST query`
pub async fn instant(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let now = server.shared().clock.now();
    let given = form.params.time("time")?;
    let question = Question::read(&server, &form.params)?;
    let text = form.params.get("query").to_owned();
    let moments = Moments::One(given.unwrap_or(now));
    // No two questions about "now" are equal, so the answer would only push out others.
    let is_kept = given.is_some();
    question.answer(&server, moments, text, form.gzip, is_kept).await
}

/// `GET|POST query_range`
pub async fn range(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let params = &form.params;
    let start = params.required_time("start")?;
    let end = params.required_time("end")?;
    if end < start {
        return Err(Failure::parameter(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let step_ms = params.required_duration_ms("step")?;
    if step_ms <= 0 {
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(Failure::parameter("step", reason));
    }
    let length_ms = end.millis().saturating_sub(start.millis());
    if length_ms / step_ms > STEPS_MAX {
        return Err(Failure::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let question = Question::read(&server, params)?;
    let text = params.get("query").to_owned();
    let step = Duration::from_millis(step_ms.unsigned_abs());
    let moments = Moments::Range { start, end, step };
    question.answer(&server, moments, text, form.gzip, true).await
}

/// `GET|POST query_exemplars`: no exemplar is kept, so the answer to a valid question is an empty list.
pub async fn exemplars(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    form.params.range()?;
    let text = form.params.get("query").to_owned();
    on_worker(&server, QUICK, move |_| parse(&text)).await?;
    Ok(success::<[u8; 0]>(&[], &[], form.gzip))
}

/// `GET|POST format_query`
pub async fn format(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let text = form.params.get("query").to_owned();
    let written = on_worker(&server, QUICK, move |_| parse(&text).map(|expr| expr.to_string()));
    Ok(success(&written.await?, &[], form.gzip))
}

/// Reads an expression; a fault is told with line and column where they are known.
///
/// Call it off the async threads.
fn parse(text: &str) -> Result<Expr, Failure> {
    if text.trim().is_empty() {
        let reason = "1:1: parse error: no expression found in input";
        return Err(Failure::parameter("query", reason));
    }
    marketprism_promql::parse(text).map_err(|error| {
        let place = error.position.map_or(String::new(), |at| {
            let before = text.get(..at).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let line = before.matches('\n').count() + 1;
            format!("{line}:{}: ", before[line_start..].chars().count() + 1)
        });
        Failure::parameter("query", format_args!("{place}parse error: {}", error.message))
    })
}

/// Evaluates at one moment, for the pages.
pub async fn evaluate(server: &Server, at: Timestamp, text: String) -> Result<Answer, Failure> {
    let question = Question {
        timeout: server.shared().config.query_timeout,
        lookback: None,
        limit: None,
    };
    question
        .run(server, Moments::One(at), text, |_| None, |_, answer| Ok(answer))
        .await
}

/// Does what a client asked for on a query worker, within `timeout`.
///
/// The task's flag rises when the time is over and when the client goes away; the worker is free again only when
/// the task ends, so a task of many steps looks at it between them.
pub async fn on_worker<T: Send + 'static>(
    server: &Server,
    timeout: Duration,
    task: impl FnOnce(&AtomicBool) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    // Dropped with this future: when the time is over, and when the client goes away.
    let (_guard, abandoned) = InterruptGuard::new();
    let work = server.shared().queries.run(move || task(&abandoned));
    match tokio::time::timeout(timeout, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => {
            server.shared().metrics.queries_refused.inc();
            Err(error.into())
        }
        Err(_) => Err(timed_out()),
    }
}

fn timed_out() -> Failure {
    Failure::new(ErrorType::Timeout, "query timed out in expression evaluation")
}

/// Where an expression is evaluated.
#[derive(Clone, Copy, Debug)]
enum Moments {
    One(Timestamp),
    Range {
        start: Timestamp,
        end: Timestamp,
        step: Duration,
    },
}

impl Moments {
    fn last_ms(self) -> i64 {
        match self {
            Moments::One(at) => at.millis(),
            Moments::Range { end, .. } => end.millis(),
        }
    }
}

/// How an expression is evaluated.
struct Question {
    timeout: Duration,
    lookback: Option<Duration>,
    limit: Option<usize>,
}

impl Question {
    fn read(server: &Server, params: &Params) -> Result<Self, Failure> {
        let limit = params.limit()?;
        let longest = server.shared().config.query_timeout;
        let timeout = match params.duration_ms("timeout")? {
            None => longest,
            Some(wish_ms) => Duration::from_millis(wish_ms.max(0).unsigned_abs()).min(longest),
        };
        let lookback = params
            .duration_ms("lookback_delta")?
            .filter(|lookback_ms| *lookback_ms > 0)
            .map(|lookback_ms| Duration::from_millis(lookback_ms.unsigned_abs()));
        Ok(Question {
            timeout,
            lookback,
            limit,
        })
    }

    /// Answers from what is kept, together with an equal question, or by an evaluation.
    async fn answer(
        mut self,
        server: &Server,
        moments: Moments,
        text: String,
        gzip: Gzip,
        is_kept: bool,
    ) -> Result<Response, Failure> {
        let shared = server.shared();
        let asked = match is_kept {
            true => shared.cache.ask(self.key(moments, &text, gzip)),
            false => Asked::Alone,
        };
        let flight = match asked {
            Asked::Alone => None,
            Asked::Answered(answer) => return Ok(answer.into_response()),
            Asked::Leading(flight) => Some(flight),
            Asked::Following(following) => {
                let since = shared.clock.monotonic();
                match tokio::time::timeout(self.timeout, following.wait()).await {
                    Ok(Some(answer)) => return Ok(answer.into_response()),
                    Ok(None) => {}
                    Err(_) => return Err(timed_out()),
                }
                let waited = shared.clock.monotonic().saturating_sub(since);
                self.timeout = self.timeout.saturating_sub(waited);
                None
            }
        };
        let (limit, bytes_max) = (self.limit, shared.config.answer_bytes_max);
        let write = move |answer| {
            let text = write_answer(moments, answer, limit, bytes_max)?;
            Ok(Finished::new(JSON, text.into_bytes(), gzip))
        };
        let answer = match flight {
            None => {
                self.run(server, moments, text, |_| None, move |_, answer| write(answer))
                    .await?
            }
            Some(flight) => {
                let flight = Arc::new(flight);
                let known = Arc::clone(&flight);
                let find = move |expr: &Expr| known.under(&expr.to_string());
                let land = move |expr: &Expr, answer| {
                    let finished = write(answer)?;
                    flight.land(&expr.to_string(), newest_read(expr, moments.last_ms()), &finished);
                    Ok(finished)
                };
                self.run(server, moments, text, find, land).await?
            }
        };
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
    async fn run<T: Send + 'static>(
        self,
        server: &Server,
        moments: Moments,
        text: String,
        find: impl FnOnce(&Expr) -> Option<T> + Send + 'static,
        finish: impl FnOnce(&Expr, Answer) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let parts = server.parts()?;
        let clock = Arc::clone(&server.shared().clock);
        let seconds = server.shared().metrics.query_seconds.clone();
        on_worker(server, self.timeout, move |abandoned| {
            let started = clock.monotonic();
            let outcome = parse_for(moments, &text).and_then(|expr| match find(&expr) {
                Some(found) => Ok(found),
                None => self
                    .evaluate(&parts, moments, (&expr, &text), abandoned)
                    .and_then(|answer| finish(&expr, answer)),
            });
            seconds.inc_by(clock.monotonic().saturating_sub(started).as_secs_f64());
            outcome
        })
        .await
    }

    fn evaluate(
        &self,
        parts: &Parts,
        moments: Moments,
        (expr, text): (&Expr, &str),
        abandoned: &AtomicBool,
    ) -> Result<Answer, Failure> {
        // Another look-back means other tables; such queries are rare and get an engine of their own.
        let own_engine = self.lookback.map(|lookback| {
            Engine::new(EngineConfig {
                lookback,
                ..parts.engine.config().clone()
            })
        });
        let engine = own_engine.as_ref().unwrap_or(&*parts.engine);
        let interrupt = || abandoned.load(Ordering::Relaxed);
        let query = engine.prepare_written(expr, text);
        match moments {
            Moments::One(at) => engine.instant(&*parts.series, &query, at, &interrupt),
            Moments::Range { start, end, step } => {
                engine.range(&*parts.series, &query, start, end, step, &interrupt)
            }
        }
        .map_err(query_failure)
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
    Err(Failure::bad_data(format!(
        "invalid expression type \"{name}\" for range query, must be Scalar or instant Vector"
    )))
}

fn query_failure(error: QueryError) -> Failure {
    let kind = match error {
        QueryError::Read(error) => return read_failure(error),
        QueryError::Cancelled => ErrorType::Canceled,
        QueryError::TimedOut { .. } => ErrorType::Timeout,
        QueryError::TooManySteps { .. } | QueryError::Range { .. } | QueryError::Length(_) => {
            ErrorType::BadData
        }
        QueryError::TooManySamples { .. } | QueryError::TooManyBytes { .. } | QueryError::Data(_) => {
            ErrorType::Execution
        }
    };
    Failure::new(kind, error.to_string())
}

/// Of warnings and of infos no more than this are told, as in Prometheus.
const REMARKS_MAX: usize = 10;

/// Writes the whole answer; `limit` cuts series, `bytes_max` refuses what no client should get at once.
fn write_answer(
    moments: Moments,
    answer: Answer,
    limit: Option<usize>,
    bytes_max: usize,
) -> Result<String, Failure> {
    let Answer {
        value,
        mut warnings,
        mut infos,
    } = answer;
    let at = match moments {
        Moments::One(at) => at.millis(),
        Moments::Range { end, .. } => end.millis(),
    };
    let mut writer = Writer {
        text: String::from(r#"{"status":"success","data":{"resultType":""#),
        bytes_max,
    };
    let is_truncated = writer.value(at, &value, limit.unwrap_or(usize::MAX))?;
    let mut text = writer.text;
    text.push('}');
    if is_truncated {
        warnings.insert(0, TRUNCATED.to_owned());
    }
    cut_remarks(&mut warnings, REMARKS_MAX, "warning");
    cut_remarks(&mut infos, REMARKS_MAX, "info");
    for (name, notes) in [("warnings", warnings), ("infos", infos)] {
        if !notes.is_empty() {
            text.push_str(&format!(",\"{name}\":"));
            push_strings(&mut text, notes.iter().map(String::as_str));
        }
    }
    text.push('}');
    Ok(text)
}

struct Writer {
    text: String,
    bytes_max: usize,
}

impl Writer {
    /// Writes the rest of `data`'s inside; says whether series were left out.
    fn value(&mut self, at_ms: i64, value: &Value, limit: usize) -> Result<bool, Failure> {
        match value {
            Value::Scalar(number) => {
                self.text.push_str(r#"scalar","result":["#);
                push_timestamp(&mut self.text, at_ms);
                self.text.push_str(",\"");
                push_plain(&mut self.text, *number);
                self.text.push_str("\"]");
                Ok(false)
            }
            Value::Text(string) => {
                self.text.push_str(r#"string","result":["#);
                push_timestamp(&mut self.text, at_ms);
                self.text.push(',');
                push_string(&mut self.text, string);
                self.text.push(']');
                Ok(false)
            }
            Value::Vector(samples) => {
                self.text.push_str(r#"vector","result":["#);
                for (place, sample) in samples.iter().take(limit).enumerate() {
                    self.metric(place, &sample.labels);
                    if let Some(histogram) = &sample.histogram {
                        self.text.push_str(r#","histogram":"#);
                        push_histogram_point(&mut self.text, sample.timestamp.millis(), histogram);
                    } else {
                        self.text.push_str(r#","value":"#);
                        self.point(sample.timestamp.millis(), sample.value);
                    }
                    self.end_of_series()?;
                }
                self.text.push(']');
                Ok(samples.len() > limit)
            }
            Value::Matrix(series) => {
                self.text.push_str(r#"matrix","result":["#);
                for (place, series) in series.iter().take(limit).enumerate() {
                    self.metric(place, &series.labels);
                    if !series.points.is_empty() || series.histograms.is_empty() {
                        self.text.push_str(r#","values":["#);
                        for (place, sample) in series.points.iter().enumerate() {
                            if place > 0 {
                                self.text.push(',');
                            }
                            self.point(sample.timestamp.millis(), sample.value);
                        }
                        self.text.push(']');
                    }
                    self.histograms(&series.histograms)?;
                    self.end_of_series()?;
                }
                self.text.push(']');
                Ok(series.len() > limit)
            }
        }
    }

    fn metric(&mut self, place: usize, labels: &marketprism_model::Labels) {
        self.text.push_str(if place == 0 {
            r#"{"metric":"#
        } else {
            r#",{"metric":"#
        });
        push_labels(&mut self.text, labels);
    }

    fn point(&mut self, at_ms: i64, value: f64) {
        self.text.push('[');
        push_timestamp(&mut self.text, at_ms);
        self.text.push_str(",\"");
        push_value(&mut self.text, value);
        self.text.push_str("\"]");
    }

    fn histograms(&mut self, histograms: &[(Timestamp, Arc<Histogram>)]) -> Result<(), Failure> {
        for (place, (at, histogram)) in histograms.iter().enumerate() {
            let before = if place == 0 { r#","histograms":["# } else { "," };
            self.text.push_str(before);
            push_histogram_point(&mut self.text, at.millis(), histogram);
            check_length(self.text.len(), self.bytes_max)?;
        }
        if !histograms.is_empty() {
            self.text.push(']');
        }
        Ok(())
    }

    fn end_of_series(&mut self) -> Result<(), Failure> {
        self.text.push('}');
        check_length(self.text.len(), self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use marketprism_model::{Labels, Sample};
    use marketprism_promql::{InstantSample, Series};

    fn written(value: Value, limit: Option<usize>) -> String {
        let answer = Answer {
            value,
            warnings: vec![],
            infos: vec!["PromQL info: x".to_owned()],
        };
        write_answer(
            Moments::One(Timestamp::from_millis(1_500)),
            answer,
            limit,
            1 << 20,
        )
        .expect("it is short")
    }

    #[test]
    fn every_kind_of_value_has_prometheus_shape() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "a\"b")]);
        assert_eq!(
            written(Value::Scalar(1.5), None),
            r#"{"status":"success","data":{"resultType":"scalar","result":[1.500,"1.5"]},"infos":["PromQL info: x"]}"#
        );
        assert_eq!(
            written(Value::Text("a".into()), None),
            r#"{"status":"success","data":{"resultType":"string","result":[1.500,"a"]},"infos":["PromQL info: x"]}"#
        );
        let sample = InstantSample {
            labels: labels.clone(),
            timestamp: Timestamp::from_millis(1_500),
            value: f64::NAN,
            histogram: None,
        };
        assert_eq!(
            written(Value::Vector(vec![sample.clone(), sample]), Some(1)),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"b"},"value":[1.500,"NaN"]}]},"warnings":["results truncated due to limit"],"infos":["PromQL info: x"]}"#
        );
        let point = |millis, value| Sample {
            timestamp: Timestamp::from_millis(millis),
            value,
        };
        let series = Series {
            labels,
            points: vec![point(1_000, 1.0), point(2_000, 1e21)],
            histograms: Vec::new(),
        };
        assert_eq!(
            written(Value::Matrix(vec![series]), None),
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a\"b"},"values":[[1,"1"],[2,"1e+21"]]}]},"infos":["PromQL info: x"]}"#
        );
    }

    #[test]
    fn histograms_stand_beside_or_in_place_of_values() {
        let histogram = Arc::new(Histogram::default());
        let at = Timestamp::from_millis(2_000);
        let sample = InstantSample {
            labels: Labels::empty(),
            timestamp: at,
            value: 0.0,
            histogram: Some(Arc::clone(&histogram)),
        };
        assert_eq!(
            written(Value::Vector(vec![sample]), None),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[2,{"count":"0","sum":"0"}]}]},"infos":["PromQL info: x"]}"#
        );
        let series = |points| Series {
            labels: Labels::empty(),
            points,
            histograms: vec![(at, Arc::clone(&histogram))],
        };
        let point = Sample {
            timestamp: Timestamp::from_millis(1_000),
            value: 1.0,
        };
        assert_eq!(
            written(Value::Matrix(vec![series(vec![]), series(vec![point])]), None),
            concat!(
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"histograms":[[2,{"count":"0","sum":"0"}]]},"#,
                r#"{"metric":{},"values":[[1,"1"]],"histograms":[[2,{"count":"0","sum":"0"}]]}]},"infos":["PromQL info: x"]}"#
            )
        );
    }

    #[test]
    fn an_answer_beyond_the_limit_is_an_execution_error() {
        let sample = InstantSample {
            labels: Labels::from_pairs([("a", "x".repeat(100))]),
            timestamp: Timestamp::from_millis(0),
            value: 0.0,
            histogram: None,
        };
        let answer = Answer {
            value: Value::Vector(vec![sample]),
            warnings: vec![],
            infos: vec![],
        };
        let failure = write_answer(Moments::One(Timestamp::from_millis(0)), answer, None, 64)
            .expect_err("it is longer");
        assert_eq!(failure.kind, ErrorType::Execution);
    }
}

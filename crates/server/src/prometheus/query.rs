//! `query`, `query_range` and what belongs to them: expressions evaluated for a client.
//!
//! An expression is parsed and evaluated on a query worker with an interrupt: it stops at its deadline and when
//! the client goes away. Parsing belongs there too, for it compiles regular expressions, which a client can make
//! as costly as it likes; and so does writing the answer, so that no async thread ever sees a big one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use marketprism_model::{Histogram, Timestamp};
use marketprism_promql::{Answer, Expr, Value, cut_remarks, tree_json};

use super::answer::{ErrorType, Failure, nothing, success};
use super::evaluation::{Moments, Question};
use super::number::{push_plain, push_timestamp, push_value};
use super::series::{TRUNCATED, check_length};
use super::write_histogram::push_histogram_point;
use super::write_json::{push_labels, push_string, push_strings};
use crate::Server;
use crate::request::Form;
use crate::workers::InterruptGuard;

/// A range query has at most this many steps.
const STEPS_MAX: i64 = 11_000;
/// Reading an expression without evaluating it may take this long.
const QUICK: Duration = Duration::from_secs(30);

/// `GET|POST query`
pub async fn instant(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let now = server.shared().clock.now();
    let limit = form.params.limit()?;
    let given = form.params.time("time")?;
    let question = Question::read(&server, &form.params, limit)?;
    let text = form.params.get("query").to_owned();
    let moments = Moments::One(given.unwrap_or(now));
    // No two questions about "now" are equal, so the answer would only push out others.
    let is_kept = given.is_some();
    question.answer(&server, moments, text, form.gzip, is_kept).await
}

/// `GET|POST query_range`
pub async fn range(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let params = &form.params;
    let limit = params.limit()?;
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
    let question = Question::read(&server, params, limit)?;
    let text = params.get("query").to_owned();
    let step = Duration::from_millis(step_ms.unsigned_abs());
    let moments = Moments::Range { start, end, step };
    question.answer(&server, moments, text, form.gzip, true).await
}

/// `GET|POST query_exemplars`: no exemplar is kept, so the answer to a valid question is an empty list.
pub async fn exemplars(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let range = form.params.range()?;
    if range.end < range.start {
        let reason = "end timestamp must not be before start timestamp";
        return Err(Failure::bad_data(reason));
    }
    let text = form.params.get("query").to_owned();
    let has_selectors = on_worker(&server, QUICK, move |_| match parse(&text) {
        Ok(expr) => Ok(!expr.selectors().is_empty()),
        // Here, and only here, Prometheus does not name the parameter.
        Err(failure) => Err(Failure {
            message: failure
                .message
                .replacen("invalid parameter \"query\": ", "", 1)
                .into(),
            ..failure
        }),
    })
    .await?;
    Ok(match has_selectors {
        true => success::<[u8; 0]>(&[], &[], form.gzip),
        false => nothing(),
    })
}

/// `GET|POST format_query`
pub async fn format(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let text = form.params.get("query").to_owned();
    let written = on_worker(&server, QUICK, move |_| parse(&text).map(|expr| expr.pretty()));
    Ok(success(&written.await?, &[], form.gzip))
}

/// `GET|POST parse_query`: the tree of an expression.
pub async fn tree(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let text = form.params.get("query").to_owned();
    let tree = on_worker(&server, QUICK, move |_| parse(&text).map(|expr| tree_json(&expr)));
    Ok(success(&tree.await?, &[], form.gzip))
}

/// Reads an expression; a fault is told with line and column.
///
/// Call it off the async threads.
pub(super) fn parse(text: &str) -> Result<Expr, Failure> {
    marketprism_promql::parse(text).map_err(|error| Failure::parameter("query", error))
}

/// Evaluates at one moment, for the pages.
pub async fn evaluate(server: &Server, at: Timestamp, text: String) -> Result<Answer, Failure> {
    let question = Question::plain(server.shared().config.query_timeout);
    question
        .run(
            server,
            Moments::One(at),
            text,
            |_| None,
            |_, answer, _| Ok(answer),
        )
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
    if timeout.is_zero() {
        return Err(Failure::new(ErrorType::Timeout, "query timed out in query queue"));
    }
    // Dropped with this future: when the time is over, and when the client goes away.
    let (_guard, abandoned) = InterruptGuard::new();
    let work = server.shared().queries.run(move || task(&abandoned));
    match tokio::time::timeout(timeout, work).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => {
            server.shared().metrics.queries_refused.inc();
            let mut failure = Failure::from(error);
            if failure.kind == ErrorType::Unavailable {
                failure
                    .message
                    .to_mut()
                    .push_str(" (server.query_workers, server.query_queue)");
            }
            Err(failure)
        }
        Err(_) => Err(timed_out(server, timeout)),
    }
}

/// Says that the time is over, and whose limit it was.
pub(super) fn timed_out(server: &Server, timeout: Duration) -> Failure {
    let mut message = "query timed out in expression evaluation".to_owned();
    if timeout == server.shared().config.query_timeout {
        let limit = marketprism_model::duration::format(timeout);
        message.push_str(&format!(" (server.query_timeout is {limit})"));
    }
    Failure::new(ErrorType::Timeout, message)
}

/// What an answer is written with beside its value.
#[derive(Default)]
pub(super) struct Extras {
    /// So many series.
    pub(super) limit: Option<usize>,
    /// Statistics, as JSON.
    pub(super) stats: Option<String>,
    /// One more warning.
    pub(super) warning: Option<String>,
}

/// Of warnings and of infos no more than this are told, as in Prometheus.
const REMARKS_MAX: usize = 10;

/// Writes the whole answer; `bytes_max` refuses what no client should get at once.
pub(super) fn write_answer(
    moments: Moments,
    answer: Answer,
    extras: Extras,
    bytes_max: usize,
) -> Result<String, Failure> {
    let Answer {
        value,
        mut warnings,
        mut infos,
    } = answer;
    let mut writer = Writer {
        text: String::from(r#"{"status":"success","data":{"resultType":""#),
        bytes_max,
    };
    let is_truncated = writer.value(moments.last_ms(), &value, extras.limit.unwrap_or(usize::MAX))?;
    let mut text = writer.text;
    if let Some(stats) = &extras.stats {
        text.push_str(",\"stats\":");
        text.push_str(stats);
    }
    text.push('}');
    if is_truncated {
        warnings.insert(0, TRUNCATED.to_owned());
    }
    warnings.extend(extras.warning);
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
            Extras {
                limit,
                ..Extras::default()
            },
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
        let failure = write_answer(
            Moments::One(Timestamp::from_millis(0)),
            answer,
            Extras::default(),
            64,
        )
        .expect_err("it is longer");
        assert_eq!(failure.kind, ErrorType::Execution);
    }
}

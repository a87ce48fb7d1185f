//! The same queries here and at a live Prometheus, over the same data.
//!
//! The peer is Debian's Prometheus 2.42, and where it differs from Prometheus 3 we follow 3. So the
//! comparison keeps away from the differences instead of excusing mismatches:
//! - Ranges and lookback are left-open in 3: samples lie 7 s off every multiple of 15 s, and steps of
//!   subqueries 15 s off every window's edge, so that no edge ever meets a sample.
//! - In 3, a counter's zero point is weighed after the rule for distant edges: counters begin far above
//!   zero and are never interrupted.
//! - In 3, names are dropped at the end: no selector chooses two metrics.
//! - What 2.42 does not know is not asked: `mad_over_time`, `sort_by_label`, `histogram_fraction` of
//!   classic buckets, `double_exponential_smoothing` (there `holt_winters`, asked under that name).
//! - 2.42 gives the deviation of a single NaN or infinity as 0, where 3 says NaN: only finite values are
//!   asked for it. It also loses what `@` pins under `timestamp` and `predict_linear`.
//! - 2.42 forgets to drop the name after `atan2`: it is asked only where there is none.
//! - Values that stand for an exact zero may be noise of the size of rounding in either.

pub mod data;
mod peer;
pub mod queries;

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_model::{Labels, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_promql::{Engine, EngineConfig, QueryError, Uninterrupted, Value, parse};

use crate::scale;
use data::{END_S, START_S};
use peer::{Found, Prometheus};
use queries::Generator;

const QUERIES: usize = 2_000;
const TOLERANCE: f64 = 1e-9;

/// One query and when it is asked.
pub struct Question {
    pub query: String,
    /// Start, end and step in seconds; an instant when they are equal.
    pub start: i64,
    pub end: i64,
    pub step: i64,
}

fn ours(engine: &Engine, memory: &Memory, question: &Question) -> Result<Found, QueryError> {
    let query = question
        .query
        .replace("holt_winters", "double_exponential_smoothing");
    let expr = parse(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let prepared = engine.prepare(&expr);
    let moment = |seconds: i64| Timestamp::from_millis(seconds * 1000);
    let answer = if question.start == question.end {
        engine.instant(memory, &prepared, moment(question.start), &Uninterrupted)?
    } else {
        let (start, end) = (moment(question.start), moment(question.end));
        engine.range(
            memory,
            &prepared,
            start,
            end,
            Duration::from_secs(question.step as u64),
            &Uninterrupted,
        )?
    };
    let mut found = BTreeMap::new();
    match answer.value {
        Value::Scalar(value) => {
            found.insert(Labels::empty(), vec![(question.start * 1000, value)]);
        }
        Value::Text(_) => unreachable!("no text is asked for"),
        Value::Vector(samples) => {
            for sample in samples {
                found.insert(sample.labels, vec![(sample.timestamp.millis(), sample.value)]);
            }
        }
        Value::Matrix(series) => {
            for series in series {
                let points = series
                    .points
                    .iter()
                    .map(|point| (point.timestamp.millis(), point.value));
                found.insert(series.labels, points.collect());
            }
        }
    }
    Ok(found)
}

fn is_close(a: f64, b: f64, noise: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= (TOLERANCE * a.abs().max(b.abs())).max(noise)
}

/// Says where two answers differ.
fn difference(ours: &Found, theirs: &Found) -> Option<String> {
    let labels = |found: &Found| found.keys().map(Labels::to_string).collect::<Vec<_>>().join(" ");
    if !ours.keys().eq(theirs.keys()) {
        return Some(format!(
            "series\n      ours   {}\n      theirs {}",
            labels(ours),
            labels(theirs)
        ));
    }
    // Differences of large values leave rounding noise where the true answer is zero.
    let largest = theirs
        .values()
        .flatten()
        .map(|(_, v)| v.abs())
        .filter(|v| v.is_finite())
        .fold(0.0, f64::max);
    let noise = 1e-13 * largest.max(1.0);
    for ((labels, ours), theirs) in ours.iter().zip(theirs.values()) {
        if !ours.iter().map(|(at, _)| at).eq(theirs.iter().map(|(at, _)| at)) {
            return Some(format!(
                "moments of {labels}\n      ours   {ours:?}\n      theirs {theirs:?}"
            ));
        }
        let pairs = ours.iter().zip(theirs);
        if let Some(((at, ours), (_, theirs))) = pairs.into_iter().find(|(o, t)| !is_close(o.1, t.1, noise)) {
            return Some(format!("{labels} at {at}: ours {ours:?}, theirs {theirs:?}"));
        }
    }
    None
}

#[test]
fn two_thousand_queries_answer_as_prometheus_does() {
    let (memory, text) = data::generate();
    let prometheus = Prometheus::start(&text);
    let engine = Engine::new(EngineConfig::default());
    let mut generator = Generator::new(20_261_124);
    let (mut accepted, mut non_empty, mut failures) = (0, 0, Vec::new());
    let queries = QUERIES * scale();
    for _ in 0..queries {
        let question = generator.question(START_S, END_S);
        let (ours, theirs) = (ours(&engine, &memory, &question), prometheus.ask(&question));
        let verdict = match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => {
                accepted += 1;
                non_empty += usize::from(!theirs.is_empty());
                difference(ours, theirs)
            }
            (Err(_), Err(_)) => None,
            (Err(ours), Ok(_)) => Some(format!("only we fail: {ours}")),
            (Ok(_), Err(theirs)) => Some(format!("only they fail: {theirs}")),
        };
        if let Some(why) = verdict {
            let Question {
                query,
                start,
                end,
                step,
            } = &question;
            failures.push(format!("{query}\n    [{start}..{end} step {step}] {why}"));
        }
    }
    let mismatches = failures.len();
    println!("generated {queries}, accepted {accepted}, non-empty {non_empty}, mismatches {mismatches}");
    assert!(
        failures.is_empty(),
        "{mismatches} mismatches:\n{}",
        failures.join("\n")
    );
    assert!(
        accepted * 100 >= queries * 90,
        "only {accepted} of {queries} were accepted"
    );
    assert!(
        non_empty * 100 >= queries * 80,
        "only {non_empty} of {queries} had an answer"
    );
}

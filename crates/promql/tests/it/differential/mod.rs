//! The same queries here and at a live Prometheus, over the same data.
//!
//! The peer is Debian's Prometheus 2.42, and where it differs from Prometheus 3 we follow 3. The comparison keeps
//! away from these differences by what is asked, instead of excusing mismatches; [`known`] lists them one by one,
//! and shows of each that it is there.
//!
//! `MARKETPRISM_PROMQL_QUERIES` sets how many queries are asked, `MARKETPRISM_PROMQL_SEED` where they begin.

pub mod data;
pub mod grammar;
mod known;
mod natives;
mod peer;
mod remote_write;
mod scripts;

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_model::{Labels, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_promql::{
    Engine, EngineConfig, Expr, ExprKind, Function, Uninterrupted, Value, ValueType, parse,
};

use crate::scale;
use grammar::Generator;
use peer::{Answer, Found, Prometheus};

const QUERIES: usize = 12_000;
const SEED: u64 = 20_261_124;
const TOLERANCE: f64 = 1e-9;

/// One query and when it is asked; an instant where start and end are equal.
#[derive(Clone, Debug)]
pub struct Question {
    pub query: String,
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

impl Question {
    /// The query in the words of Prometheus 3, which renamed a function.
    pub fn renamed(&self) -> String {
        self.query.replace("holt_winters", "double_exponential_smoothing")
    }

    fn about(&self, query: String) -> Question {
        Question {
            query,
            ..self.clone()
        }
    }
}

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text:?} is no number")),
    )
}

fn ours(memory: &Memory, question: &Question) -> Result<Answer, String> {
    let engine = Engine::new(EngineConfig::default());
    let expr = parse(&question.renamed()).map_err(|error| error.to_string())?;
    let prepared = engine.prepare(&expr);
    let (start, end) = (
        Timestamp::from_millis(question.start_ms),
        Timestamp::from_millis(question.end_ms),
    );
    let answer = if start == end {
        engine.instant(memory, &prepared, start, &Uninterrupted)
    } else {
        let step = Duration::from_millis(question.step_ms as u64);
        engine.range(memory, &prepared, start, end, step, &Uninterrupted)
    };
    let mut found = Found::new();
    match answer.map_err(|error| error.to_string())?.value {
        Value::Text(text) => return Ok(Answer::Text(text)),
        Value::Scalar(value) => {
            found.insert(Labels::empty(), vec![(question.start_ms, value)]);
        }
        Value::Vector(samples) => {
            for sample in samples {
                let twice = found.insert(sample.labels, vec![(sample.timestamp.millis(), sample.value)]);
                assert!(twice.is_none(), "{}: a series comes twice", question.query);
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
    Ok(Answer::Series(found))
}

fn theirs(prometheus: &mut Prometheus, question: &Question) -> Result<Answer, String> {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let (start, end) = (seconds(question.start_ms), seconds(question.end_ms));
    prometheus.ask(&question.query, start, end, seconds(question.step_ms))
}

fn is_close(a: f64, b: f64, noise: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= (TOLERANCE * a.abs().max(b.abs())).max(noise)
}

/// Says where two answers differ.
fn difference(ours: &Answer, theirs: &Answer) -> Option<String> {
    let (Answer::Series(ours), Answer::Series(theirs)) = (ours, theirs) else {
        return (ours != theirs).then(|| format!("ours {ours:?}, theirs {theirs:?}"));
    };
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

/// Says where both sides differ about a question, be it that only one of them answers.
fn verdict(memory: &Memory, prometheus: &mut Prometheus, question: &Question) -> (Option<String>, Outcome) {
    match (ours(memory, question), theirs(prometheus, question)) {
        (Ok(ours), Ok(theirs)) => {
            let is_empty = matches!(&theirs, Answer::Series(found) if found.is_empty());
            let outcome = if is_empty {
                Outcome::Empty
            } else {
                Outcome::Answered
            };
            (difference(&ours, &theirs), outcome)
        }
        (Err(_), Err(_)) => (None, Outcome::Refused),
        (Err(ours), Ok(_)) => (Some(format!("only we fail: {ours}")), Outcome::Refused),
        (Ok(_), Err(theirs)) => (Some(format!("only they fail: {theirs}")), Outcome::Refused),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Answered,
    Empty,
    Refused,
}

/// Calls `visit` with an expression and all of its parts.
pub fn each_part<'a>(expr: &'a Expr, visit: &mut dyn FnMut(&'a Expr)) {
    visit(expr);
    match &expr.kind {
        ExprKind::Subquery(subquery) => each_part(&subquery.expr, visit),
        ExprKind::Call(_, arguments) => arguments.iter().for_each(|argument| each_part(argument, visit)),
        ExprKind::Aggregate(aggregate) => {
            if let Some(param) = &aggregate.param {
                each_part(param, visit);
            }
            each_part(&aggregate.expr, visit);
        }
        ExprKind::Binary(binary) => {
            each_part(&binary.left, visit);
            each_part(&binary.right, visit);
        }
        ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => each_part(inner, visit),
        ExprKind::Number(_)
        | ExprKind::Duration(_)
        | ExprKind::Text(_)
        | ExprKind::Selector(_)
        | ExprKind::Range(..) => {}
    }
}

/// Finds the smallest part of a query about which both sides differ as well.
fn smallest(memory: &Memory, prometheus: &mut Prometheus, question: &Question) -> Option<String> {
    let expr = parse(&question.renamed()).ok()?;
    let mut parts = Vec::new();
    each_part(&expr, &mut |part| {
        if matches!(part.value_type(), ValueType::Scalar | ValueType::Vector) {
            parts.push(
                part.to_string()
                    .replace("double_exponential_smoothing", "holt_winters"),
            );
        }
    });
    parts.sort_by_key(String::len);
    parts.into_iter().find_map(|part| {
        let question = question.about(part);
        let why = verdict(memory, prometheus, &question).0?;
        Some(format!("{}\n      {why}", question.query))
    })
}

#[test]
fn thousands_of_queries_answer_as_prometheus_does() {
    let memory = data::generate();
    let mut prometheus = Prometheus::start();
    prometheus.fill(&memory);
    let seed = from_environment("MARKETPRISM_PROMQL_SEED").unwrap_or(SEED);
    let queries = from_environment("MARKETPRISM_PROMQL_QUERIES").unwrap_or(QUERIES * scale());
    let mut generator = Generator::new(seed);
    let (mut outcomes, mut failures) = ([0; 3], Vec::new());
    let mut asked = Asked::default();
    for number in 0..queries {
        let question = generator.question();
        asked.add(&question);
        let (why, outcome) = verdict(&memory, &mut prometheus, &question);
        outcomes[outcome as usize] += 1;
        if let Some(why) = why {
            let smallest = smallest(&memory, &mut prometheus, &question);
            let Question {
                query,
                start_ms,
                end_ms,
                step_ms,
            } = &question;
            failures.push(format!(
                "{number}: {query}\n    [{start_ms}..{end_ms} step {step_ms}] {why}\n    smallest: {}",
                smallest.unwrap_or_default()
            ));
        }
    }
    let [answered, empty, refused] = outcomes;
    let mismatches = failures.len();
    println!(
        "seed {seed}: asked {queries}, answered {answered}, empty {empty}, refused {refused}, mismatches {mismatches}"
    );
    println!("{}", asked.text());
    assert!(
        failures.is_empty(),
        "seed {seed}: {mismatches} mismatches:\n{}",
        failures.join("\n")
    );
    assert!(
        answered * 10 >= queries * 7,
        "only {answered} of {queries} had an answer"
    );
    if queries >= QUERIES {
        asked.check();
    }
}

/// How often each function and operator was asked.
#[derive(Default)]
struct Asked(BTreeMap<&'static str, usize>);

impl Asked {
    fn add(&mut self, question: &Question) {
        let Ok(expr) = parse(&question.renamed()) else {
            return;
        };
        each_part(&expr, &mut |part| {
            let name = match &part.kind {
                ExprKind::Call(function, _) => function.signature().name,
                ExprKind::Aggregate(aggregate) => aggregate.op.as_str(),
                ExprKind::Binary(binary) => binary.op.as_str(),
                ExprKind::Subquery(_) => "subquery",
                ExprKind::Negate(_) => "negation",
                _ => return,
            };
            *self.0.entry(name).or_default() += 1;
        });
    }

    fn text(&self) -> String {
        let counts = self.0.iter().map(|(name, count)| format!("{name} {count}"));
        counts.collect::<Vec<_>>().join(", ")
    }

    /// Fails when something that both sides know was hardly asked.
    fn check(&self) {
        let functions = Function::ALL.iter().map(|function| function.signature().name);
        let others = [
            "sum",
            "avg",
            "min",
            "max",
            "count",
            "group",
            "stddev",
            "stdvar",
            "topk",
            "bottomk",
            "quantile",
            "count_values",
            "+",
            "-",
            "*",
            "/",
            "%",
            "^",
            "atan2",
            "==",
            "!=",
            ">",
            "<",
            ">=",
            "<=",
            "and",
            "or",
            "unless",
            "subquery",
            "negation",
        ];
        let seldom: Vec<&str> = functions
            .chain(others)
            .filter(|name| !known::NEW_FUNCTIONS.contains(name))
            .filter(|name| self.0.get(name).copied().unwrap_or(0) < 10)
            .collect();
        assert!(seldom.is_empty(), "hardly asked: {seldom:?}");
    }
}

//! What must hold for any query, over the generated queries and data of the differential run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Labels, Timestamp};
use marketprism_promql::{
    Answer, Engine, EngineConfig, InstantSample, Prepared, Uninterrupted, Value, Workers, parse,
};

use crate::differential::Question;
use crate::differential::data::{self, END_S, START_S};
use crate::differential::queries::Generator;
use crate::scale;
use marketprism_promql::memory::Memory;

/// Times the scale of the run.
const QUERIES: usize = 600;

fn questions(seed: u64) -> Vec<Question> {
    let mut generator = Generator::new(seed);
    let known = |question: Question| Question {
        query: question
            .query
            .replace("holt_winters", "double_exponential_smoothing"),
        ..question
    };
    (0..QUERIES * scale())
        .map(|_| known(generator.question(START_S, END_S)))
        .collect()
}

fn prepare(engine: &Engine, question: &Question) -> Prepared {
    engine.prepare(&parse(&question.query).unwrap_or_else(|error| panic!("{}: {error}", question.query)))
}

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// Bits, so that NaN equals itself and nothing is rounded away.
fn bits(samples: &[InstantSample]) -> BTreeMap<Labels, u64> {
    samples
        .iter()
        .map(|sample| (sample.labels.clone(), sample.value.to_bits()))
        .collect()
}

#[test]
fn what_is_printed_reads_back_as_the_same_expression() {
    for question in questions(1) {
        let expr = parse(&question.query).expect("generated queries are valid");
        let printed = expr.to_string();
        let again = parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(again, expr, "{} prints as {printed}", question.query);
        assert_eq!(again.to_string(), printed);
    }
}

#[test]
fn each_step_of_a_range_is_the_instant_at_that_moment() {
    let (memory, _) = data::generate();
    let engine = Engine::new(EngineConfig::default());
    let mut compared = 0;
    for question in questions(2).iter().filter(|q| !q.query.contains("end()")) {
        let (query, step) = (
            prepare(&engine, question),
            Duration::from_secs(question.step as u64),
        );
        let (start, end) = (moment(question.start), moment(question.end));
        let range = engine.range(&memory, &query, start, end, step, &Uninterrupted);
        let Ok(Answer {
            value: Value::Matrix(series),
            ..
        }) = range
        else {
            panic!("{}: {range:?}", question.query);
        };
        let mut at = question.start;
        while at <= question.end {
            let found: BTreeMap<Labels, u64> = series
                .iter()
                .filter_map(|series| {
                    let point = series.points.iter().find(|point| point.timestamp == moment(at))?;
                    Some((series.labels.clone(), point.value.to_bits()))
                })
                .collect();
            let instant = engine.instant(&memory, &query, moment(at), &Uninterrupted);
            let Ok(Answer {
                value: Value::Vector(samples),
                ..
            }) = instant
            else {
                panic!("{}: {instant:?}", question.query);
            };
            assert_eq!(found, bits(&samples), "{} at {at}", question.query);
            compared += samples.len();
            at += question.step;
        }
    }
    assert!(compared > 10_000, "only {compared} values were compared");
}

#[test]
fn a_session_answers_as_separate_evaluations_do() {
    let (memory, _) = data::generate();
    let shared = Engine::new(EngineConfig::default());
    let at = moment(END_S - 45);
    let mut session = shared.session(&memory, at, &Uninterrupted);
    for question in questions(3) {
        let together = session.evaluate(&prepare(&shared, &question)).expect("answers");
        // A new engine each time, so that nothing is kept from before.
        let alone = Engine::new(EngineConfig::default());
        let alone = alone
            .instant(&memory, &prepare(&alone, &question), at, &Uninterrupted)
            .expect("answers");
        assert_eq!(
            format!("{together:?}"),
            format!("{alone:?}"),
            "{}",
            question.query
        );
    }
}

/// Splits tasks over two threads.
struct Threads;

impl Workers for Threads {
    fn count(&self) -> usize {
        2
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            scope.spawn(|| (0..tasks).step_by(2).for_each(task));
            (1..tasks).step_by(2).for_each(task);
        });
    }
}

#[test]
fn split_work_answers_as_the_callers_thread_does() {
    let memory = Memory::default();
    for series in 0..1_500 {
        let labels = [
            ("__name__", "m_total"),
            ("series", &series.to_string()),
            ("group", &(series % 7).to_string()),
        ];
        for at in 0..20 {
            memory.append(
                &Labels::from_pairs(labels),
                Timestamp::from_millis(at * 15_000),
                (at * (series + 1)) as f64,
            );
        }
    }
    let (alone, split) = (
        Engine::new(EngineConfig::default()),
        Engine::with_workers(EngineConfig::default(), Arc::new(Threads)),
    );
    for query in [
        "rate(m_total[2m])",
        "sum by (group) (rate(m_total[2m]))",
        "m_total > 100",
        "sum(m_total @ 60)",
    ] {
        let ask = |engine: &Engine| {
            let prepared = engine.prepare(&parse(query).expect("valid"));
            let (start, end) = (moment(60), moment(300));
            let answer = engine.range(
                &memory,
                &prepared,
                start,
                end,
                Duration::from_secs(30),
                &Uninterrupted,
            );
            format!("{:?}", answer.expect("answers"))
        };
        assert_eq!(ask(&split), ask(&alone), "{query}");
    }
}

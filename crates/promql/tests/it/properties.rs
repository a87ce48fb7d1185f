//! What must hold for any query, over the generated queries and data of the differential run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Histogram, Labels, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_promql::notation::write_histogram;
use marketprism_promql::{
    Answer, Engine, EngineConfig, Prepared, QueryError, Series, Uninterrupted, Value, ValueType, Workers,
    parse,
};

use crate::differential::Question;
use crate::differential::data::{self, END_S};
use crate::differential::grammar::Generator;
use crate::scale;

/// Times the scale of the run.
const QUERIES: usize = 600;

fn questions(seed: u64) -> Vec<Question> {
    let mut generator = Generator::new(seed);
    (0..QUERIES * scale()).map(|_| generator.question()).collect()
}

fn prepare(engine: &Engine, question: &Question) -> Option<Prepared> {
    parse(&question.renamed()).ok().map(|expr| engine.prepare(&expr))
}

fn moment(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// One value, so that NaN equals itself and nothing is rounded away.
fn cell(value: f64, histogram: Option<&Arc<Histogram>>) -> String {
    match histogram {
        None => format!("{:x}", value.to_bits()),
        Some(histogram) => format!("{:?} {}", histogram.reset_hint, write_histogram(histogram)),
    }
}

type Cells = BTreeMap<Labels, String>;

/// The vector at one step of a matrix.
fn step_of(series: &[Series], at: Timestamp) -> Cells {
    let mut cells = Cells::new();
    for series in series {
        let number = series.points.iter().find(|point| point.timestamp == at);
        let histogram = series.histograms.iter().find(|(moment, _)| *moment == at);
        if number.is_some() || histogram.is_some() {
            let value = number.map_or(0.0, |point| point.value);
            cells.insert(
                series.labels.clone(),
                cell(value, histogram.map(|(_, histogram)| histogram)),
            );
        }
    }
    cells
}

fn instant_of(value: &Value) -> Option<Cells> {
    match value {
        Value::Scalar(value) => Some(Cells::from([(Labels::empty(), cell(*value, None))])),
        Value::Vector(samples) => {
            let cells = samples.iter().map(|sample| {
                (
                    sample.labels.clone(),
                    cell(sample.value, sample.histogram.as_ref()),
                )
            });
            Some(cells.collect())
        }
        Value::Text(_) | Value::Matrix(_) => None,
    }
}

#[test]
fn what_is_printed_reads_back_as_the_same_expression() {
    for question in questions(1) {
        let Ok(expr) = parse(&question.renamed()) else {
            continue;
        };
        let printed = expr.to_string();
        let again = parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(again, expr, "{} prints as {printed}", question.query);
        assert_eq!(again.to_string(), printed);
    }
}

/// And a range fails just where one of its steps does.
#[test]
fn each_step_of_a_range_is_the_instant_at_that_moment() {
    let memory = data::generate();
    let engine = Engine::new(EngineConfig::default());
    let (mut compared, mut failed) = (0, 0);
    for question in questions(2) {
        let Some(query) = prepare(&engine, &question) else {
            continue;
        };
        let of_the_query = ["start()", "end()"];
        let kind = query.expr().value_type();
        if of_the_query.iter().any(|call| question.query.contains(call))
            || !matches!(kind, ValueType::Scalar | ValueType::Vector)
        {
            continue;
        }
        let step_ms = question.step_ms;
        let end_ms = question.end_ms.min(question.start_ms + 6 * step_ms);
        let step = Duration::from_millis(step_ms as u64);
        let (start, end) = (moment(question.start_ms), moment(end_ms));
        let range = engine.range(&memory, &query, start, end, step, &Uninterrupted);
        let moments = (question.start_ms..=end_ms).step_by(step_ms as usize).map(moment);
        let instants: Vec<_> = moments
            .map(|at| (at, engine.instant(&memory, &query, at, &Uninterrupted)))
            .collect();
        let Ok(range) = range else {
            let fails = instants.iter().any(|(_, instant)| instant.is_err());
            assert!(fails, "{}: {range:?}, and no step of it", question.query);
            failed += 1;
            continue;
        };
        let Value::Matrix(series) = &range.value else {
            panic!("{}: {range:?}", question.query);
        };
        for (at, instant) in instants {
            let instant = instant.unwrap_or_else(|error| panic!("{} at {at:?}: {error}", question.query));
            let cells = instant_of(&instant.value).expect("a vector or a scalar");
            assert_eq!(step_of(series, at), cells, "{} at {at:?}", question.query);
            compared += cells.len();
        }
    }
    assert!(compared > 5_000, "only {compared} values were compared");
    assert!(failed > 3, "only {failed} failures were compared");
}

#[test]
fn a_session_answers_as_separate_evaluations_do() {
    let memory = data::generate();
    let shared = Engine::new(EngineConfig::default());
    let at = moment((END_S - 45) * 1000);
    let mut session = shared.session(&memory, at, &Uninterrupted);
    let outcome = |answer: Result<&Answer, &QueryError>| match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => error.to_string(),
    };
    for question in questions(3) {
        let Some(query) = prepare(&shared, &question) else {
            continue;
        };
        let together = session.evaluate(&query);
        let together = outcome(together.as_deref());
        // A new engine each time, so that nothing is kept from before.
        let alone = Engine::new(EngineConfig::default());
        let alone = alone.instant(&memory, &alone.prepare(query.expr()), at, &Uninterrupted);
        assert_eq!(together, outcome(alone.as_ref()), "{}", question.query);
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
            let (start, end) = (moment(60_000), moment(300_000));
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

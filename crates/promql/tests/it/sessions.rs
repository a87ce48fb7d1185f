//! Rules of one tick share what they read, and see what was written before them. And limits hold.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use marketprism_model::{Labels, Timestamp};
use marketprism_promql::{
    Answer, Engine, EngineConfig, Interrupt, Prepared, QueryError, Session, Stop, Uninterrupted, Value, parse,
};

use marketprism_promql::memory::Memory;

const AT: i64 = 300_000;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn memory() -> Memory {
    let memory = Memory::default();
    for instance in ["a", "b", "c"] {
        for step in 0..=20 {
            let name = labels(&[("__name__", "m_total"), ("instance", instance)]);
            memory.append(&name, Timestamp::from_millis(step * 15_000), (step * 15) as f64);
        }
    }
    memory
}

fn rules<const N: usize>(engine: &Engine, queries: [&str; N]) -> [Prepared; N] {
    queries.map(|query| engine.prepare(&parse(query).expect(query)))
}

fn values(session: &mut Session<'_>, query: &Prepared) -> Vec<f64> {
    let answer = session.evaluate(query).expect("answers");
    match &answer.value {
        Value::Vector(samples) => samples.iter().map(|sample| sample.value).collect(),
        other => panic!("{other:?} is no vector"),
    }
}

#[test]
fn equal_parts_of_different_rules_are_read_once() {
    let (memory, engine) = (memory(), Engine::new(EngineConfig::default()));
    let mut session = engine.session(&memory, Timestamp::from_millis(AT), &Uninterrupted);
    let alike = rules(
        &engine,
        [
            "sum(rate(m_total[5m]))",
            "max by (instance) (rate(m_total[5m]))",
            "rate(m_total[5m]) > 0.5",
            "(rate(m_total[5m])) / 2",
        ],
    );
    for query in &alike {
        assert!(!values(&mut session, query).is_empty(), "{}", query.expr());
    }
    assert_eq!(memory.selects(), 1);
    // Another range or shift is another part.
    for query in &rules(&engine, ["rate(m_total[1m])", "rate(m_total[5m] offset 1m)"]) {
        values(&mut session, query);
    }
    assert_eq!(memory.selects(), 3);
}

#[test]
fn a_part_that_stands_twice_in_one_rule_is_read_once() {
    let (memory, engine) = (memory(), Engine::new(EngineConfig::default()));
    let mut session = engine.session(&memory, Timestamp::from_millis(AT), &Uninterrupted);
    let [rule] = rules(&engine, ["sum(m_total) + sum(m_total) + max(m_total)"]);
    assert_eq!(values(&mut session, &rule), [2_100.0]);
    assert_eq!(memory.selects(), 1);
}

#[test]
fn a_rule_sees_what_the_rule_before_it_wrote() {
    let (memory, engine) = (memory(), Engine::new(EngineConfig::default()));
    let alert = labels(&[("__name__", "ALERTS"), ("alertname", "Down")]);
    let mut session = engine.session(&memory, Timestamp::from_millis(AT), &Uninterrupted);
    let queries = [
        r#"count(ALERTS{alertname="Down"})"#,
        r#"count({__name__=~"ALERTS.*"})"#,
        r#"count(ALERTS{alertname="Other"})"#,
        "sum(m_total)",
    ];
    let (before, after) = (rules(&engine, queries), rules(&engine, queries));
    let [by_name, by_pattern, another, of_all] = &after;
    for query in &before {
        values(&mut session, query);
    }
    memory.append(&alert, Timestamp::from_millis(AT), 1.0);
    session.written(&alert);
    let selects = memory.selects();
    assert_eq!(values(&mut session, by_name), [1.0]);
    assert_eq!(values(&mut session, by_pattern), [1.0]);
    assert_eq!(memory.selects(), selects + 2);
    // What cannot have read it stays.
    assert!(values(&mut session, another).is_empty());
    assert_eq!(values(&mut session, of_all), [900.0]);
    assert_eq!(memory.selects(), selects + 2);
}

/// When the session made room for a sum, it forgot what had been read for it, and so gave the sum again after
/// one of its series had been written.
#[test]
fn a_session_without_room_still_sees_what_was_written() {
    let memory = Memory::default();
    let series = |instance| labels(&[("__name__", "m_total"), ("instance", instance)]);
    for instance in ["a", "b", "c"] {
        memory.append(&series(instance), Timestamp::from_millis(AT), 1.0);
    }
    // Room for the three values read and the three doubled, but not for their sum beside them.
    let config = EngineConfig {
        samples_max: 6,
        ..EngineConfig::default()
    };
    let engine = Engine::new(config);
    let mut session = engine.session(&memory, Timestamp::from_millis(AT), &Uninterrupted);
    let [one, other] = rules(&engine, ["sum(m_total * 2)", "sum(m_total * 2)"]);
    assert_eq!(values(&mut session, &one), [6.0]);
    memory.append(&series("d"), Timestamp::from_millis(AT), 1.0);
    session.written(&series("d"));
    assert_eq!(values(&mut session, &other), [8.0]);
}

/// What was too large to be kept was not noted as read, though the sum of it was kept.
#[test]
fn what_is_too_large_to_stay_is_noted_as_read() {
    let memory = Memory::default();
    let long = "x".repeat(2_000);
    let at = Timestamp::from_millis(AT);
    let info = |instance: &str| {
        let pairs = [("__name__", "target_info"), ("job", "j"), ("version", &long)];
        labels(&[&pairs[..], &[("instance", instance)]].concat())
    };
    for instance in ["a", "b"] {
        let pairs = [("__name__", "m_total"), ("job", "j"), ("instance", instance)];
        memory.append(&labels(&pairs), at, 1.0);
    }
    memory.append(&info("a"), at, 1.0);
    // Room for 100 values, but not for a long label.
    let config = EngineConfig {
        samples_max: 100,
        ..EngineConfig::default()
    };
    let engine = Engine::new(config);
    let mut session = engine.session(&memory, at, &Uninterrupted);
    let query = r#"sum(info(m_total, {version=~".+"}))"#;
    let [one, other] = rules(&engine, [query, query]);
    assert_eq!(values(&mut session, &one), [1.0]);
    memory.append(&info("b"), at, 1.0);
    session.written(&info("b"));
    assert_eq!(values(&mut session, &other), [2.0]);
}

#[test]
fn remarks_come_with_shared_parts_too() {
    let memory = Memory::default();
    for (at, value) in [(AT - 1_000, 1.0), (AT, 2.0)] {
        memory.append(
            &labels(&[("__name__", "gauge")]),
            Timestamp::from_millis(at),
            value,
        );
    }
    let engine = Engine::new(EngineConfig::default());
    let mut session = engine.session(&memory, Timestamp::from_millis(AT), &Uninterrupted);
    let queries = ["rate(gauge[5m])", "rate(gauge[5m])", "sum(rate(gauge[5m])) + 1"];
    for query in &rules(&engine, queries) {
        let answer = session.evaluate(query).expect("answers");
        assert_eq!(answer.infos.len(), 1, "{}", query.expr());
    }
}

fn ask(engine: &Engine, query: &str, interrupt: &dyn Interrupt) -> Result<Answer, QueryError> {
    let prepared = engine.prepare(&parse(query).expect(query));
    engine.instant(&memory(), &prepared, Timestamp::from_millis(AT), interrupt)
}

#[test]
fn a_query_stops_when_it_is_told_to() {
    let engine = Engine::new(EngineConfig::default());
    let cancelled = ask(&engine, "sum(m_total)", &|| true);
    assert!(matches!(cancelled, Err(QueryError::Cancelled)), "{cancelled:?}");
    struct Late;
    impl Interrupt for Late {
        fn stop(&self) -> Option<Stop> {
            Some(Stop::TimedOut)
        }
    }
    let late = ask(&engine, "sum(m_total)", &Late).expect_err("late");
    assert_eq!(late.to_string(), "query timed out after 2m");
}

#[test]
fn a_query_that_would_read_or_hold_too_much_is_refused() {
    let config = EngineConfig {
        samples_max: 50,
        ..EngineConfig::default()
    };
    let engine = Engine::new(config);
    // Three series of 21 samples.
    for query in [
        "rate(m_total[10m])",
        "m_total[10m]",
        "max_over_time(vector(1)[1h:1s])",
    ] {
        let outcome = ask(&engine, query, &Uninterrupted);
        assert!(
            matches!(outcome, Err(QueryError::TooManySamples { limit: 50 })),
            "{query}: {outcome:?}"
        );
    }
    assert!(ask(&engine, "rate(m_total[1m])", &Uninterrupted).is_ok());
}

#[test]
fn a_range_must_make_sense() {
    let (memory, engine) = (memory(), Engine::new(EngineConfig::default()));
    let range = |query: &str, start, end, step| {
        let prepared = engine.prepare(&parse(query).expect(query));
        let (start, end) = (Timestamp::from_millis(start), Timestamp::from_millis(end));
        engine.range(
            &memory,
            &prepared,
            start,
            end,
            Duration::from_millis(step),
            &Uninterrupted,
        )
    };
    assert!(matches!(
        range("m_total", 0, 11_000, 1),
        Err(QueryError::TooManySteps { steps: 11_001, .. })
    ));
    assert!(range("m_total", 0, 10_999, 1).is_ok());
    assert!(matches!(range("m_total", 1, 0, 1), Err(QueryError::Range { .. })));
    assert!(matches!(range("m_total", 0, 1, 0), Err(QueryError::Range { .. })));
    assert!(matches!(
        range("m_total[5m]", 0, 1, 1),
        Err(QueryError::Range { .. })
    ));
    assert!(matches!(
        range("m_total", i64::MAX - 1, i64::MAX, 1),
        Err(QueryError::Range { .. })
    ));
    assert!(matches!(
        range("m_total", i64::MIN, i64::MAX, 1),
        Err(QueryError::Range { .. })
    ));
}

/// A single row can be hours of work: the interrupt must be asked within it too.
#[test]
fn a_single_row_of_endless_work_stops_too() {
    let engine = Engine::new(EngineConfig::default());
    let asked = AtomicUsize::new(0);
    let after_a_while = || asked.fetch_add(1, Ordering::Relaxed) > 20;
    // 86,400 windows of 86,400 points each, over one row.
    let query = "sum_over_time(sum_over_time(vector(1)[1d:1s])[1d:1s])";
    let outcome = ask(&engine, query, &after_a_while);
    assert!(matches!(outcome, Err(QueryError::Cancelled)), "{outcome:?}");
    assert!(asked.into_inner() < 40);
}

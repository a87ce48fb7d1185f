//! No query may hold more than its limits, however it goes about it; each refusal names the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use marketprism_model::{Histogram, Labels, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_promql::{Engine, EngineConfig, Interrupt, QueryError, Stop, Uninterrupted, parse};

const SERIES: usize = 500;

/// Series with an instance each, one with a long label, and an info series for each.
fn memory() -> Memory {
    let (memory, at) = (Memory::new(), Timestamp::from_millis(0));
    let long = "x".repeat(20_000);
    for n in 0..SERIES {
        let instance = n.to_string();
        let pairs = [("__name__", "m"), ("job", "j"), ("instance", &instance)];
        memory.append(&Labels::from_pairs(pairs), at, n as f64);
        let info = [
            ("__name__", "target_info"),
            ("job", "j"),
            ("instance", &instance),
            ("note", &long),
        ];
        memory.append(&Labels::from_pairs(info), at, 1.0);
    }
    let pairs = [("__name__", "long"), ("job", "j"), ("note", &long)];
    memory.append(&Labels::from_pairs(pairs), at, 1.0);
    let histogram = Arc::new(Histogram {
        count: 1.0,
        sum: 1.0,
        zero_count: 1.0,
        ..Histogram::default()
    });
    for n in 0..SERIES {
        let pairs = [("__name__", "h"), ("instance", &*n.to_string())];
        memory.append_histogram(&Labels::from_pairs(pairs), at, &histogram);
    }
    memory
}

fn ask(config: EngineConfig, query: &str) -> Result<(), QueryError> {
    let engine = Engine::new(config);
    let prepared = engine.prepare(&parse(query).expect(query));
    engine
        .instant(&memory(), &prepared, Timestamp::from_millis(0), &Uninterrupted)
        .map(drop)
}

/// Queries that make labels of some ten million bytes.
const HEAVY: &[&str] = &[
    r#"label_replace(m, "note", "$1$1$1$1", "note", "(.*)") * 0 + label_join(m * on () group_left (note) long, "a", "", "note", "note")"#,
    "m * on (job) group_left (note) long",
    "info(m)",
    r#"label_join(m * on () group_left (note) long, "b", "-", "note", "note")"#,
    "max without (job) (target_info)",
];

#[test]
fn labels_that_a_query_makes_are_bounded() {
    let bounded = EngineConfig {
        bytes_max: 4_000_000,
        ..EngineConfig::default()
    };
    for query in HEAVY {
        let error = ask(bounded.clone(), query).expect_err(query);
        assert!(
            matches!(error, QueryError::TooManyBytes { limit: 4_000_000 }),
            "{query}: {error}"
        );
        assert!(
            error.to_string().contains("the limit is 4000000 bytes"),
            "{error}"
        );
        ask(EngineConfig::default(), query).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
    // What is small passes.
    ask(bounded, "sum by (instance) (m) * 2").expect("small labels");
}

#[test]
fn groups_and_values_count_among_the_bytes() {
    let bounded = |bytes_max| EngineConfig {
        bytes_max,
        ..EngineConfig::default()
    };
    // 500 labels of values, some hundred bytes each.
    let query = r#"count_values("value", m)"#;
    assert!(matches!(
        ask(bounded(20_000), query),
        Err(QueryError::TooManyBytes { .. })
    ));
    ask(bounded(200_000), query).expect("small enough");
    // A subquery of 100,000 steps holds 800,000 bytes a series.
    let query = "max_over_time(vector(1)[100000s:1s])";
    assert!(matches!(
        ask(bounded(500_000), query),
        Err(QueryError::TooManyBytes { .. })
    ));
    ask(bounded(2_000_000), query).expect("small enough");
}

#[test]
fn subqueries_of_subqueries_are_bounded_before_anything_is_made() {
    let config = EngineConfig {
        samples_max: 1_000_000,
        ..EngineConfig::default()
    };
    let query = "max_over_time(max_over_time(max_over_time(m[50d:1s])[50d:1s])[50d:1s])";
    let error = ask(config, query).expect_err(query);
    assert_eq!(
        error.to_string(),
        "query processing would load too many samples into memory; the limit is 1000000"
    );
}

#[test]
fn histograms_count_by_their_weight() {
    let config = EngineConfig {
        samples_max: 1_000,
        ..EngineConfig::default()
    };
    ask(config.clone(), "count(m)").expect("500 numbers");
    let error = ask(config, "h").expect_err("500 histograms weigh more than 1,000 numbers");
    assert!(matches!(error, QueryError::TooManySamples { .. }), "{error}");
}

/// Lets some questions pass, then says that time is up.
struct Patience(AtomicUsize);

impl Interrupt for Patience {
    fn stop(&self) -> Option<Stop> {
        let left = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.is_err().then_some(Stop::TimedOut)
    }
}

#[test]
fn time_ends_a_query_wherever_it_is() {
    let memory = memory();
    for query in HEAVY {
        for patience in 0..2 {
            // A new engine has kept nothing that would make the query short.
            let engine = Engine::new(EngineConfig::default());
            let prepared = engine.prepare(&parse(query).expect(query));
            let interrupt = Patience(AtomicUsize::new(patience));
            let error = engine
                .instant(&memory, &prepared, Timestamp::from_millis(0), &interrupt)
                .expect_err(query);
            assert_eq!(error.to_string(), "query timed out after 2m", "{query}");
        }
    }
}

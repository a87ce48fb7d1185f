//! Native histograms on many hands, within limits, and out of their senses.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{BucketSpan, Buckets, Histogram, Labels, ResetHint, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_promql::{
    Answer, Engine, EngineConfig, QueryError, Uninterrupted, Value, Workers, histogram_buckets,
    histogram_text, parse,
};
use proptest::prelude::*;

use crate::scale;

/// Four threads, and no order among tasks.
struct Threads;

impl Workers for Threads {
    fn count(&self) -> usize {
        4
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for number in (0..tasks).rev() {
                scope.spawn(move || task(number));
            }
        });
    }
}

fn histogram(counts: &[f64]) -> Arc<Histogram> {
    Arc::new(Histogram {
        count: counts.iter().sum(),
        sum: counts.iter().sum(),
        positive: Buckets {
            spans: vec![BucketSpan {
                offset: 0,
                length: counts.len() as u32,
            }],
            counts: counts.to_vec(),
        },
        ..Histogram::default()
    })
}

fn minute(minutes: i64) -> Timestamp {
    Timestamp::from_millis(minutes * 60_000)
}

fn many_series() -> Memory {
    let memory = Memory::new();
    for series in 0..1500 {
        let labels = Labels::from_pairs([("__name__", "h"), ("i", &*format!("{series:04}"))]);
        for step in 0..10 {
            // Every seventh series is one of numbers, and every eleventh becomes one.
            if series % 7 == 0 || series % 11 == 0 && step > 5 {
                memory.append(&labels, minute(step), step as f64);
            } else {
                let count = (series % 5 + step) as f64;
                memory.append_histogram(&labels, minute(step), &histogram(&[count, 2.0 * count]));
            }
        }
    }
    memory
}

fn range(engine: &Engine, memory: &Memory, query: &str) -> Result<Answer, QueryError> {
    let prepared = engine.prepare(&parse(query).expect(query));
    let step = Duration::from_secs(60);
    engine.range(memory, &prepared, minute(0), minute(9), step, &Uninterrupted)
}

#[test]
fn many_hands_give_the_same_answers() {
    let memory = many_series();
    let (alone, together) = (
        Engine::new(EngineConfig::default()),
        Engine::with_workers(EngineConfig::default(), Arc::new(Threads)),
    );
    for query in [
        "h",
        "rate(h[3m])",
        "sum_over_time(h[3m])",
        "changes(h[5m])",
        "histogram_avg(increase(h[4m]))",
    ] {
        let (one, other) = (
            range(&alone, &memory, query).expect(query),
            range(&together, &memory, query).expect(query),
        );
        assert_eq!(one, other, "{query}");
        let Value::Matrix(series) = &one.value else {
            panic!("{query} gives a matrix");
        };
        assert!(series.len() > 1000, "{query}: {}", series.len());
    }
}

#[test]
fn histograms_count_by_what_they_weigh() {
    let memory = Memory::new();
    let labels = Labels::from_pairs([("__name__", "h")]);
    for step in 0..10 {
        memory.append_histogram(&labels, minute(step), &histogram(&vec![step as f64; 1000]));
    }
    let answered = |samples_max: u64, query: &str| {
        let engine = Engine::new(EngineConfig {
            samples_max,
            ..EngineConfig::default()
        });
        match range(&engine, &memory, query) {
            Ok(_) => true,
            Err(QueryError::TooManySamples { limit }) => {
                assert_eq!(limit, samples_max);
                false
            }
            Err(other) => panic!("{query}: {other}"),
        }
    };
    // Ten of them weigh some ten thousand, to read and to hold each.
    for query in [
        "h",
        "rate(h[5m])",
        "h + h",
        "2 * h",
        "sum(h)",
        "sum by (a) (h)",
        "avg_over_time(h[5m])",
    ] {
        assert!(answered(100_000, query), "{query}");
        assert!(!answered(5_000, query), "{query}");
    }
    // Ten numbers are read from them, and held.
    assert!(answered(25_000, "histogram_sum(h)"));
}

/// Numbers that clients send when something is wrong, and usual ones.
fn odd_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0u32..50).prop_map(f64::from),
        1 => proptest::sample::select(vec![0.1, 1e300, f64::NAN, f64::INFINITY, f64::MAX, -1.0, -0.0, 5e-324]),
    ]
}

fn odd_side() -> impl Strategy<Value = Buckets> {
    let spans = proptest::collection::vec((0i32..3, 0u32..3), 0..4);
    let start = prop_oneof![4 => -6i32..6, 1 => proptest::sample::select(vec![-260_000, 260_000, -1, 1024])];
    let counts = proptest::collection::vec(odd_number(), 12);
    (start, spans, counts).prop_map(|(start, spans, counts)| {
        let mut made = Buckets::default();
        for (place, (offset, length)) in spans.into_iter().enumerate() {
            let offset = if place == 0 { start } else { offset };
            made.spans.push(BucketSpan { offset, length });
        }
        let length: u32 = made.spans.iter().map(|span| span.length).sum();
        made.counts = counts[..length as usize].to_vec();
        made
    })
}

fn odd_histogram() -> impl Strategy<Value = Histogram> {
    let hint = proptest::sample::select(vec![
        ResetHint::Unknown,
        ResetHint::Reset,
        ResetHint::NotReset,
        ResetHint::Gauge,
    ]);
    let numbers = (odd_number(), odd_number(), odd_number());
    let threshold = proptest::sample::select(vec![0.0, 0.001, 0.7, 1.0, f64::NAN, f64::INFINITY, 1e308]);
    let bounds = proptest::sample::subsequence(vec![-2.0, 0.0, 0.5, 1.0, 5.0], 0..=5);
    let parts = (
        hint,
        -5i32..=8,
        numbers,
        threshold,
        bounds,
        odd_side(),
        odd_side(),
    );
    parts.prop_map(
        |(hint, schema, (count, sum, zero), threshold, bounds, positive, negative)| {
            let mut made = Histogram {
                reset_hint: hint,
                schema,
                zero_threshold: threshold,
                zero_count: zero,
                count,
                sum,
                positive,
                negative,
                custom_bounds: Arc::from([]),
            };
            if schema < -4 {
                made.schema = marketprism_model::histogram::CUSTOM_BOUNDS_SCHEMA;
                (made.zero_threshold, made.zero_count) = (0.0, 0.0);
                made.negative = Buckets::default();
                made.custom_bounds = Arc::from(bounds);
            }
            made
        },
    )
}

const QUERIES: &[&str] = &[
    "h",
    "-h",
    "h + h offset 1m",
    "h - ignoring(a) h offset 2m",
    "h * 2 == h + h",
    "h / 0",
    "h </ 0.7",
    "h >/ -0.7",
    "h </ NaN",
    "rate(h[3m])",
    "delta(h[4m])",
    "irate(h[3m])",
    "increase(h[4m:1m])",
    "rate(h[3m] smoothed)",
    "increase(h[3m] anchored)",
    "sum_over_time(h[4m])",
    "avg_over_time(h[4m])",
    "changes(h[4m]) + resets(h[4m])",
    "last_over_time(h[4m])",
    "max_over_time(h[4m])",
    "sum(h)",
    "avg by (a) (h)",
    "count_values(\"v\", h)",
    "topk(1, h)",
    "limitk(1, h)",
    "limit_ratio(0.5, h)",
    "histogram_quantile(0.5, h)",
    "histogram_quantiles(sum(h), \"q\", 0.1, 0.9, time() / 240)",
    "histogram_fraction(-1, 0.6, h)",
    "histogram_stddev(h)",
    "histogram_avg(rate(h[3m]))",
    "histogram_count(sum(h))",
    "h or h offset 1m",
    "h unless h != h",
    "label_replace(h, \"b\", \"$1\", \"a\", \"(.*)\")",
    "timestamp(h)",
    "absent(h)",
];

/// What stands at a moment, as text: bits of NaN do not matter here.
fn at(value: &Value, moment: Timestamp) -> Vec<String> {
    let text = |labels: &Labels, number: f64, histogram: Option<&Histogram>| match histogram {
        Some(histogram) => format!("{labels} {}", histogram_text(histogram)),
        None => format!("{labels} {number}"),
    };
    let mut lines = Vec::new();
    match value {
        Value::Vector(samples) => {
            lines.extend(
                samples
                    .iter()
                    .map(|s| text(&s.labels, s.value, s.histogram.as_deref())),
            );
        }
        Value::Matrix(all) => {
            for series in all {
                let points = series.points.iter().filter(|point| point.timestamp == moment);
                lines.extend(points.map(|point| text(&series.labels, point.value, None)));
                let histograms = series.histograms.iter().filter(|(known, _)| *known == moment);
                lines.extend(histograms.map(|(_, histogram)| text(&series.labels, 0.0, Some(histogram))));
            }
        }
        other => panic!("{other:?}"),
    }
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64 * scale() as u32))]

    /// Steps of a range are instants but for what is known of resets under `histogram_count`, where it depends on
    /// how far back samples are read; that is told in remarks alone.
    #[test]
    fn odd_histograms_are_survived_and_steps_are_instants(
        first in proptest::collection::vec(odd_histogram(), 5),
        second in proptest::collection::vec(proptest::option::of(odd_histogram()), 5),
    ) {
        let memory = Memory::new();
        let labels = |a: &str| Labels::from_pairs([("__name__", "h"), ("a", a)]);
        for (step, histogram) in first.into_iter().enumerate() {
            histogram_buckets(&histogram);
            memory.append_histogram(&labels("1"), minute(step as i64), &Arc::new(histogram));
        }
        for (step, histogram) in second.into_iter().enumerate() {
            match histogram {
                Some(histogram) => memory.append_histogram(&labels("2"), minute(step as i64), &Arc::new(histogram)),
                None => memory.append(&labels("2"), minute(step as i64), step as f64),
            }
        }
        let engine = Engine::new(EngineConfig::default());
        for query in QUERIES {
            let whole = range(&engine, &memory, query);
            let prepared = engine.prepare(&parse(query).expect(query));
            for step in 0..5 {
                let instant = engine.instant(&memory, &prepared, minute(step), &Uninterrupted);
                match (&whole, instant) {
                    (Ok(whole), Ok(instant)) => {
                        prop_assert_eq!(at(&whole.value, minute(step)), at(&instant.value, minute(step)), "{} at {}", query, step);
                    }
                    (Err(_), _) => {}
                    (Ok(_), Err(error)) => prop_assert!(false, "{}: {}", query, error),
                }
            }
        }
    }
}

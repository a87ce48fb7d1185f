//! What Prometheus calls experimental, which Debian's does not know: a range is what its instants are, and a session
//! answers as single queries do, over random data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Buckets, Histogram, Labels, ResetHint, Timestamp};
use marketprism_model::{histogram::BucketSpan, sample::stale_nan};
use marketprism_promql::memory::Memory;
use marketprism_promql::{Answer, Engine, EngineConfig, Uninterrupted, Value, parse};
use proptest::prelude::*;

const QUERIES: &[&str] = &[
    "rate(m[40s] anchored)",
    "increase(m[25s] anchored offset 7s)",
    "delta(m[1m] anchored)",
    "changes(m[40s] anchored)",
    "resets(m[40s] anchored)",
    "rate(m[40s] smoothed)",
    "increase(m[25s] smoothed offset -20s)",
    "delta(m[1m] smoothed)",
    "m smoothed",
    "sum by (i) (m smoothed offset 13s) > 3",
    "max_over_time((m smoothed)[1m:17s])",
    "sum_over_time(increase(m[30s] smoothed)[1m:11s])",
    "m @ 100 smoothed",
    "info(m)",
    "info(m, {v=~\".+\"})",
    "info(m offset 30s, {v!=\"b\"})",
    "count by (v) (info(m))",
    "info(m @ 70)",
    "last_over_time(info(m)[1m:20s])",
    "limit_ratio(0.5, m)",
    "limit_ratio(-0.5, m)",
    "count(limit_ratio by (i) (time() % 3 / 2 - 0.5, m))",
    "limitk(2, m)",
    "m + on (i) group_left () fill_right (7) limitk(1, n)",
    "vector(max_of(time() % 100, 50)) - min_of(scalar(n), 3)",
    "mad_over_time(m[1m])",
    "ts_of_max_over_time(m[1m]) - ts_of_first_over_time(m[1m])",
    "double_exponential_smoothing(m[1m], 0.4, 0.6)",
];

/// A moment of a series: nothing, a number, a histogram, or its end.
#[derive(Clone, Debug)]
enum Point {
    Nothing,
    Number(u8),
    Histogram(u8),
    End,
}

fn point() -> impl Strategy<Value = Point> {
    prop_oneof![
        2 => Just(Point::Nothing),
        9 => (0u8..20).prop_map(Point::Number),
        1 => (0u8..20).prop_map(Point::Histogram),
        1 => Just(Point::End),
    ]
}

fn histogram(count: u8) -> Arc<Histogram> {
    let count = f64::from(count);
    Arc::new(Histogram {
        count,
        sum: count * 1.5,
        positive: Buckets {
            spans: vec![BucketSpan { offset: 0, length: 1 }],
            counts: vec![count],
        },
        reset_hint: ResetHint::Unknown,
        ..Histogram::default()
    })
}

fn fill(memory: &Memory, labels: &[(&str, &str)], points: &[Point]) {
    let labels = Labels::from_pairs(labels.iter().copied());
    for (place, point) in points.iter().enumerate() {
        let at = Timestamp::from_millis(place as i64 * 10_000 + 3_000);
        match point {
            Point::Nothing => {}
            Point::Number(value) => memory.append(&labels, at, f64::from(*value)),
            Point::Histogram(count) => memory.append_histogram(&labels, at, &histogram(*count)),
            Point::End => memory.append(&labels, at, stale_nan()),
        }
    }
}

/// What an answer holds at a moment, written so that any NaN equals any other.
type Held = BTreeMap<Labels, String>;

fn at_moment(answer: &Answer, at: Timestamp) -> Held {
    let number = |value: f64| format!("{value}");
    match &answer.value {
        Value::Vector(samples) => samples
            .iter()
            .map(|sample| {
                let text = match &sample.histogram {
                    Some(histogram) => format!("{histogram:?}"),
                    None => number(sample.value),
                };
                (sample.labels.clone(), text)
            })
            .collect(),
        Value::Matrix(series) => {
            let mut held = Held::new();
            for series in series {
                let numbers = series.points.iter().filter(|point| point.timestamp == at);
                held.extend(numbers.map(|point| (series.labels.clone(), number(point.value))));
                let histograms = series.histograms.iter().filter(|(moment, _)| *moment == at);
                held.extend(histograms.map(|(_, found)| (series.labels.clone(), format!("{found:?}"))));
            }
            held
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48 * crate::scale() as u32))]

    #[test]
    fn ranges_are_their_instants_and_sessions_their_queries(
        all in proptest::collection::vec(proptest::collection::vec(point(), 20), 6),
        step_s in 7i64..40,
    ) {
        let memory = Memory::new();
        for (n, points) in all.iter().enumerate() {
            let i = n.to_string();
            match n {
                0..3 => fill(&memory, &[("__name__", "m"), ("instance", "x"), ("i", &i)], points),
                3 => fill(&memory, &[("__name__", "n"), ("i", "0")], points),
                _ => {
                    let only_numbers: Vec<Point> = points
                        .iter()
                        .map(|point| match point {
                            Point::Histogram(_) => Point::Nothing,
                            other => other.clone(),
                        })
                        .collect();
                    // One after the other, so that neither is in the other's way.
                    let half = if n == 4 { &only_numbers[..10] } else { &only_numbers[10..] };
                    let shifted: Vec<Point> = std::iter::repeat_n(Point::Nothing, if n == 4 { 0 } else { 10 })
                        .chain(half.iter().cloned())
                        .collect();
                    let version = if n == 4 { "a" } else { "b" };
                    fill(&memory, &[("__name__", "target_info"), ("instance", "x"), ("v", version)], &shifted);
                }
            }
        }
        let engine = Engine::new(EngineConfig { lookback: Duration::from_secs(45), ..EngineConfig::default() });
        let prepared: Vec<_> = QUERIES.iter().map(|query| engine.prepare(&parse(query).expect(query))).collect();
        let moments: Vec<Timestamp> = (0..6).map(|n| Timestamp::from_millis(60_000 + n * step_s * 1000)).collect();
        let step = Duration::from_secs(step_s as u64);
        for (query, text) in prepared.iter().zip(QUERIES) {
            let range = engine.range(&memory, query, moments[0], moments[5], step, &Uninterrupted);
            let instants: Vec<_> = moments
                .iter()
                .map(|at| engine.instant(&memory, query, *at, &Uninterrupted))
                .collect();
            // A range fails when one of its instants does.
            prop_assert_eq!(range.is_err(), instants.iter().any(Result::is_err), "{}", text);
            let Ok(range) = range else { continue };
            for (at, instant) in moments.iter().zip(&instants) {
                let instant = instant.as_ref().expect("none failed");
                prop_assert_eq!(at_moment(&range, *at), at_moment(instant, *at), "{} at {}", text, at);
            }
        }
        let mut session = engine.session(&memory, moments[2], &Uninterrupted);
        for (query, text) in prepared.iter().zip(QUERIES) {
            let alone = engine.instant(&memory, query, moments[2], &Uninterrupted);
            match (session.evaluate(query), alone) {
                (Ok(shared), Ok(alone)) => {
                    prop_assert_eq!(at_moment(&shared, moments[2]), at_moment(&alone, moments[2]), "{}", text);
                    prop_assert_eq!((&shared.warnings, &shared.infos), (&alone.warnings, &alone.infos), "{}", text);
                }
                (Err(shared), Err(alone)) => prop_assert_eq!(shared.to_string(), alone.to_string()),
                (shared, alone) => prop_assert!(false, "{text}: {shared:?}, {alone:?}"),
            }
        }
    }
}

//! Native histograms beside Prometheus: bounds to the last bit, and what additions and counters make of them.
//!
//! Only what 2.42 does as 3 does is asked: quantiles and fractions were linear then, averages and most functions
//! over ranges had no histograms, and a counter's zero did not bound extrapolation, so counters begin high here.

use std::collections::BTreeMap;
use std::sync::Arc;

use marketprism_model::{BucketSpan, Buckets, Histogram, Labels, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_promql::{Engine, EngineConfig, Uninterrupted, Value, histogram_buckets, parse};
use serde_json::Value as Json;

use super::peer::Prometheus;

/// 2024-06-01T00:00:00Z.
const START_S: i64 = 1_717_200_000;
const STEP_S: i64 = 15;
const STEPS: i64 = 40;

/// Numbers from a seed: Marsaglia's xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Fresh observations on the populated buckets of one sign; what the zero bucket holds is not among them.
    fn side(&mut self, layout: &[BucketSpan], schema: i32, zero_threshold: f64) -> Buckets {
        let length: u32 = layout.iter().map(|span| span.length).sum();
        let mut made = Buckets {
            spans: layout.to_vec(),
            counts: vec![0.0; length as usize],
        };
        let mut counts = Vec::new();
        made.each(|index, _| {
            let upper = (f64::from(index) * f64::from(-schema).exp2()).exp2();
            let is_outside = upper > zero_threshold * 1.000_001;
            counts.push(if is_outside { self.below(20) as f64 } else { 0.0 });
        });
        made.counts = counts;
        made
    }

    fn layout(&mut self) -> Vec<BucketSpan> {
        let spans = 1 + self.below(3);
        let span = |place: u64, chance: &mut Chance| BucketSpan {
            offset: if place == 0 {
                chance.below(30) as i32 - 15
            } else {
                1 + chance.below(4) as i32
            },
            length: 1 + chance.below(4) as u32,
        };
        (0..spans).map(|place| span(place, self)).collect()
    }
}

fn total(histogram: &Histogram) -> f64 {
    let sides = histogram.positive.counts.iter().chain(&histogram.negative.counts);
    histogram.zero_count + sides.sum::<f64>()
}

/// A counter that grows and, perhaps, begins anew; `schema` and the zero bucket stay.
fn counter(chance: &mut Chance, schema: i32, zero_threshold: f64, resets_at: Option<i64>) -> Vec<Histogram> {
    let (positive, negative) = (chance.layout(), chance.layout());
    let mut all: Vec<Histogram> = Vec::new();
    for step in 0..STEPS {
        let mut made = Histogram {
            schema,
            zero_threshold,
            zero_count: chance.below(5) as f64,
            sum: chance.below(1000) as f64 / 8.0,
            positive: chance.side(&positive, schema, zero_threshold),
            negative: chance.side(&negative, schema, zero_threshold),
            ..Histogram::default()
        };
        let before = all.last().filter(|_| resets_at != Some(step));
        let high = if step == 0 { 10_000.0 } else { 0.0 };
        let grow = |counts: &mut [f64], before: Option<&Vec<f64>>| {
            for (place, count) in counts.iter_mut().enumerate() {
                *count += before.map_or(0.0, |before| before[place]);
            }
        };
        grow(
            &mut made.positive.counts,
            before.map(|before| &before.positive.counts),
        );
        grow(
            &mut made.negative.counts,
            before.map(|before| &before.negative.counts),
        );
        made.zero_count += before.map_or(high, |before| before.zero_count);
        made.sum += before.map_or(0.0, |before| before.sum);
        made.count = total(&made);
        all.push(made);
    }
    all
}

fn generate() -> Memory {
    let (memory, mut chance) = (Memory::new(), Chance(0x9e37_79b9_7f4a_7c15));
    for series in 0..39i32 {
        let schema = series % 13 - 4;
        // The last of them ends inside a bucket of most schemas.
        let threshold = [0.0, 1.0 / 1024.0, 0.0625, 0.3][chance.below(4) as usize];
        let resets_at = (series % 3 == 0).then(|| 5 + chance.below(30) as i64);
        let labels = Labels::from_pairs([
            ("__name__", "h"),
            ("i", &*series.to_string()),
            ("g", &*(series % 4).to_string()),
        ]);
        for (step, histogram) in counter(&mut chance, schema, threshold, resets_at)
            .into_iter()
            .enumerate()
        {
            let at = Timestamp::from_millis((START_S + step as i64 * STEP_S) * 1000);
            memory.append_histogram(&labels, at, &Arc::new(histogram));
        }
    }
    memory
}

/// Count, sum and buckets, or a number alone.
#[derive(Debug)]
struct Told {
    numbers: Vec<f64>,
    /// Rule and bounds of each bucket; counts are among the numbers.
    buckets: Vec<(u8, f64, f64)>,
}

type Found = BTreeMap<Labels, Told>;

fn theirs(data: &Json) -> Found {
    let number = |text: &Json| -> f64 { text.as_str().expect("a text").parse().expect("a number") };
    let series = data["result"].as_array().expect("a vector").iter().map(|series| {
        let labels = series["metric"].as_object().expect("labels");
        let labels = labels
            .iter()
            .map(|(name, value)| (name, value.as_str().expect("a text")));
        let mut told = Told {
            numbers: Vec::new(),
            buckets: Vec::new(),
        };
        if let Some(histogram) = series["histogram"][1].as_object() {
            told.numbers
                .extend([number(&histogram["count"]), number(&histogram["sum"])]);
            for bucket in histogram
                .get("buckets")
                .and_then(Json::as_array)
                .into_iter()
                .flatten()
            {
                let rule = bucket[0].as_u64().expect("a rule") as u8;
                told.buckets.push((rule, number(&bucket[1]), number(&bucket[2])));
                told.numbers.push(number(&bucket[3]));
            }
        } else {
            told.numbers.push(number(&series["value"][1]));
        }
        (Labels::from_pairs(labels), told)
    });
    series.collect()
}

fn ours(engine: &Engine, memory: &Memory, query: &str, at: Timestamp) -> Found {
    let prepared = engine.prepare(&parse(query).expect(query));
    let answer = engine
        .instant(memory, &prepared, at, &Uninterrupted)
        .expect(query);
    let Value::Vector(samples) = answer.value else {
        panic!("{query} gives a vector");
    };
    let told = |histogram: &Histogram| {
        let buckets = histogram_buckets(histogram);
        let counts = buckets.iter().map(|bucket| bucket.count);
        Told {
            numbers: [histogram.count, histogram.sum]
                .into_iter()
                .chain(counts)
                .collect(),
            buckets: buckets
                .iter()
                .map(|b| (b.boundary_rule, b.left, b.right))
                .collect(),
        }
    };
    let series = samples.iter().map(|sample| {
        let told = match &sample.histogram {
            Some(histogram) => told(histogram),
            None => Told {
                numbers: vec![sample.value],
                buckets: Vec::new(),
            },
        };
        (sample.labels.clone(), told)
    });
    series.collect()
}

/// Says what differs: bounds must be the same, numbers nearly so.
fn difference(ours: &Found, theirs: &Found) -> Option<String> {
    if ours.keys().ne(theirs.keys()) {
        return Some(format!("{:?} and {:?}", ours.keys(), theirs.keys()));
    }
    ours.iter()
        .zip(theirs.values())
        .find_map(|((labels, one), other)| {
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()));
            let same = one.buckets == other.buckets
                && one.numbers.len() == other.numbers.len()
                && one.numbers.iter().zip(&other.numbers).all(near);
            (!same).then(|| format!("{labels}\n  ours   {one:?}\n  theirs {other:?}"))
        })
}

const QUERIES: &[&str] = &[
    "h",
    "sum(h)",
    "sum by (g) (h)",
    "count by (g) (h)",
    "group(h)",
    "rate(h[2m])",
    "increase(h[100s])",
    "rate(h[2m] offset 1m)",
    "sum(rate(h[2m]))",
    "sum without (i) (increase(h[3m]))",
    "histogram_count(h)",
    "histogram_sum(rate(h[2m]))",
    "histogram_count(sum(increase(h[1m])))",
    "h{i=\"5\"} + ignoring(i, g) h{i=\"20\"}",
    "h{i=\"7\"} + ignoring(i, g) h{i=\"12\"}",
    "sum(h{g=\"1\"}) + sum(h{g=\"2\"})",
    "h offset 100s",
    "count_over_time(h[1m])",
    "present_over_time(h[1m])",
    "h and on(g) h{i=\"3\"}",
    "h{g=\"1\"} or h{g=\"3\"}",
];

#[test]
fn native_histograms_are_those_of_prometheus() {
    let memory = generate();
    let mut prometheus = Prometheus::start();
    prometheus.fill(&memory);
    let engine = Engine::new(EngineConfig::default());
    let (mut compared, mut differences) = (0, Vec::new());
    for query in QUERIES {
        for second in [127, 233, 349, 488, 599] {
            let at = START_S + second;
            let data = prometheus.ask_json(query, at as f64).expect(query);
            let (theirs, ours) = (
                theirs(&data),
                ours(&engine, &memory, query, Timestamp::from_millis(at * 1000)),
            );
            assert!(!theirs.is_empty(), "{query} at {second}");
            compared += theirs.len();
            if let Some(difference) = difference(&ours, &theirs) {
                differences.push(format!("{query} at {second}: {difference}"));
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} answers:\n{}",
        differences.len(),
        QUERIES.len() * 5,
        differences[..differences.len().min(5)].join("\n")
    );
    assert!(compared > 1000, "{compared} series were compared");
}

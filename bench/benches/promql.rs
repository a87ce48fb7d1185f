//! The query engine alone, over samples in memory: 200 hosts × 100 series, 1,000 samples each.
//!
//! Run with `cargo bench -p marketprism-bench --bench promql`. Everything runs on one thread, so time is CPU time.
//! The source keeps its choices, as the store does; decoding and locks are the store's own matter.

use std::collections::HashMap;
use std::hint::black_box;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use marketprism_model::series::{ReadError, SeriesVisitor};
use marketprism_model::{Labels, Matcher, Samples, Selection, SeriesSource, TimeRange, Timestamp};
use marketprism_promql::{Engine, EngineConfig, Prepared, Uninterrupted, parse};

const HOSTS: usize = 200;
const SERIES_A_HOST: usize = 100;
/// 32 of a host's series are of this metric, so that 6,400 are chosen together.
const CPU_SERIES: usize = 32;
const SAMPLES: usize = 1_000;
const STEP_MS: i64 = 15_000;
const END_MS: i64 = 1_700_006_400_000 + SAMPLES as i64 * STEP_MS;

struct Columns {
    labels: Vec<Labels>,
    timestamps: Vec<i64>,
    values: Vec<Vec<f64>>,
}

struct Source {
    columns: Arc<Columns>,
    chosen: Mutex<HashMap<Vec<Matcher>, Arc<Chosen>>>,
}

struct Chosen {
    id: u64,
    columns: Arc<Columns>,
    labels: Vec<Labels>,
    places: Vec<usize>,
}

impl Source {
    fn new() -> Self {
        let mut rows: Vec<(Labels, Vec<f64>)> = Vec::new();
        for host in 0..HOSTS {
            for series in 0..SERIES_A_HOST {
                rows.push((labels(host, series), values(host * SERIES_A_HOST + series)));
            }
        }
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let (labels, values) = rows.into_iter().unzip();
        let timestamps = (1..=SAMPLES as i64)
            .map(|at| END_MS - (SAMPLES as i64 - at) * STEP_MS - 7)
            .collect();
        let columns = Arc::new(Columns {
            labels,
            timestamps,
            values,
        });
        Source {
            columns,
            chosen: Mutex::new(HashMap::new()),
        }
    }
}

fn labels(host: usize, series: usize) -> Labels {
    let (instance, job) = (format!("i{host}"), format!("job{}", host % 10));
    let (name, cpu) = match series {
        0 => ("errors_total".to_owned(), String::new()),
        cpu if cpu < CPU_SERIES => ("cpu_seconds_total".to_owned(), cpu.to_string()),
        other => (format!("metric_{other}_total"), String::new()),
    };
    let mode = ["user", "system", "idle", "iowait"][series % 4];
    let mode = if cpu.is_empty() { "" } else { mode };
    let pairs = [
        ("__name__", name.as_str()),
        ("instance", &instance),
        ("job", &job),
        ("cpu", &cpu),
        ("mode", mode),
    ];
    Labels::from_pairs(
        pairs
            .into_iter()
            .chain([("region", "eu-west-1"), ("env", "production")]),
    )
}

/// A counter of uneven steps that falls back once, from a multiplicative sequence.
fn values(seed: usize) -> Vec<f64> {
    let (mut state, mut value) = (seed as u64 * 2 + 1, 1e6);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / 1e5
    };
    (0..SAMPLES)
        .map(|at| {
            value = if at == seed % 900 { 0.0 } else { value + next() };
            value
        })
        .collect()
}

impl SeriesSource for Source {
    fn select(&self, matchers: &[Matcher], _: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = chosen.get(matchers) {
            return Ok(Arc::clone(known) as Arc<dyn Selection>);
        }
        let columns = Arc::clone(&self.columns);
        let keeps = |place: &usize| matchers.iter().all(|m| m.matches_labels(&columns.labels[*place]));
        let places: Vec<usize> = (0..columns.labels.len()).filter(keeps).collect();
        let labels = places
            .iter()
            .map(|place| columns.labels[*place].clone())
            .collect();
        let id = chosen.len() as u64;
        let new = Arc::new(Chosen {
            id,
            labels,
            places,
            columns: Arc::clone(&self.columns),
        });
        chosen.insert(matchers.to_vec(), Arc::clone(&new));
        Ok(new)
    }

    fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }
}

impl Selection for Chosen {
    fn id(&self) -> u64 {
        self.id
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(
        &self,
        positions: Range<usize>,
        range: TimeRange,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<(), ReadError> {
        let timestamps = &self.columns.timestamps;
        let first = timestamps.partition_point(|at| *at < range.start.millis());
        let after_last = timestamps.partition_point(|at| *at <= range.end.millis());
        for position in positions {
            let values = &self.columns.values[self.places[position]];
            visit(
                position,
                Samples::numbers(&timestamps[first..after_last], &values[first..after_last]),
            )?;
        }
        Ok(())
    }
}

fn prepare(engine: &Engine, text: &str) -> Prepared {
    engine.prepare(&parse(text).unwrap_or_else(|error| panic!("{text}: {error}")))
}

/// 100 aggregations over the same columns, as dashboards and recording rules ask them.
fn overlapping() -> Vec<String> {
    let ops = ["sum", "avg", "max", "min", "count"];
    let groups = ["", " by (job)", " by (instance)", " by (mode)", " by (job, mode)"];
    let ranges = ["[5m]", "[1m]", "[10m]", "[5m] offset 5m"];
    let mut all = Vec::new();
    for op in ops {
        for group in groups {
            for range in ranges {
                all.push(format!("{op}{group} (rate(cpu_seconds_total{range}))"));
            }
        }
    }
    all
}

fn measure(criterion: &mut Criterion) {
    let (source, engine) = (Source::new(), Engine::new(EngineConfig::default()));
    let at = Timestamp::from_millis(END_MS);
    let instant = |query: &Prepared| {
        engine
            .instant(&source, query, at, &Uninterrupted)
            .expect("answers")
    };

    let sum = prepare(&engine, "sum by (job) (rate(cpu_seconds_total[5m]))");
    criterion.bench_function("instant: sum by (job) (rate(cpu[5m])), 6,200 series", |b| {
        b.iter(|| black_box(instant(&sum)));
    });
    let all = prepare(&engine, "rate(cpu_seconds_total[5m])");
    criterion.bench_function("instant: rate(cpu[5m]), 6,200 series answered", |b| {
        b.iter(|| black_box(instant(&all)));
    });
    let ratio = prepare(
        &engine,
        r#"sum by (instance) (rate(cpu_seconds_total{mode="user"}[5m])) / sum by (instance) (rate(cpu_seconds_total[5m])) > 0.9"#,
    );
    criterion.bench_function("instant: ratio of two sums by (instance)", |b| {
        b.iter(|| black_box(instant(&ratio)));
    });
    let range = |query: &Prepared| {
        let (start, step) = (at - Duration::from_secs(4 * 3600), Duration::from_secs(60));
        engine
            .range(&source, query, start, at, step, &Uninterrupted)
            .expect("answers")
    };
    criterion.bench_function("range 4 h at 1 m: sum by (job) (rate(cpu[5m]))", |b| {
        b.iter(|| black_box(range(&sum)));
    });
    let highest = prepare(&engine, "max by (job) (max_over_time(cpu_seconds_total[1h]))");
    criterion.bench_function("range 4 h at 1 m: max by (job) (max_over_time(cpu[1h]))", |b| {
        b.iter(|| black_box(range(&highest)));
    });

    let rules: Vec<Prepared> = (0..1_000)
        .map(|rule| {
            let (host, metric) = (rule % HOSTS, 40 + rule / HOSTS);
            prepare(
                &engine,
                &format!(r#"rate(metric_{metric}_total{{instance="i{host}"}}[5m]) > 1000"#),
            )
        })
        .collect();
    criterion.bench_function("session: 1,000 rules rate(m{instance=\"iN\"}[5m]) > 1000", |b| {
        b.iter(|| {
            let mut session = engine.session(&source, at, &Uninterrupted);
            for rule in &rules {
                black_box(session.evaluate(rule).expect("answers"));
            }
        });
    });
    let firing: Vec<Prepared> = (0..1_000)
        .map(|rule| {
            let (host, metric) = (rule % HOSTS, 40 + rule / HOSTS);
            prepare(
                &engine,
                &format!(r#"rate(metric_{metric}_total{{instance="i{host}"}}[5m]) > 0"#),
            )
        })
        .collect();
    criterion.bench_function("session: 1,000 rules, all firing", |b| {
        b.iter(|| {
            let mut session = engine.session(&source, at, &Uninterrupted);
            for rule in &firing {
                black_box(session.evaluate(rule).expect("answers"));
            }
        });
    });
    let aggregations: Vec<Prepared> = overlapping().iter().map(|text| prepare(&engine, text)).collect();
    criterion.bench_function("session: 100 overlapping aggregations", |b| {
        b.iter(|| {
            let mut session = engine.session(&source, at, &Uninterrupted);
            for query in &aggregations {
                black_box(session.evaluate(query).expect("answers"));
            }
        });
    });
    criterion.bench_function("parse and prepare a rule", |b| {
        let text = r#"sum by (job) (rate(http_requests_total{code=~"5..", env="production"}[5m])) / sum by (job) (rate(http_requests_total{env="production"}[5m])) > 0.05"#;
        b.iter(|| black_box(prepare(&engine, text)));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = measure
}
criterion_main!(benches);

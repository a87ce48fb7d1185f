//! One tick of 1,000 alert rules on the real store and the real lifecycle, 50 of them firing, in one process.
//!
//! Run with `cargo bench -p marketprism-bench --bench rules`. Everything runs on one thread, so time is CPU time. Beside
//! the whole tick stand its parts: the same expressions alone, and the same series chosen and read without any language.
//! In a program that ticks every few seconds the caches have forgotten the rules in between; so each is measured again
//! after something else went through them.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use marketprism_alerts::{Alerts, Config as AlertConfig};
use marketprism_model::sample::Durability;
use marketprism_model::{Labels, Matcher, RefSample, SampleSink, SeriesSource, TimeRange, Timestamp};
use marketprism_promql::{Engine, EngineConfig, Prepared, Uninterrupted, parse};
use marketprism_rules::{Group, GroupDefaults, Installation, Ports, RuleSet, evaluate_alone, parse_file};
use marketprism_state::Database;
use marketprism_storage::{Config, Store};
use marketprism_testkit::{ManualClock, SeededChance};
use prometheus_client::registry::Registry;

const HOSTS: usize = 200;
const SERIES_A_HOST: usize = 100;
const WATCHED: usize = 5;
/// One host in so many fires, for each watched counter.
const FIRING_ONE_IN: usize = 20;
const SAMPLES: i64 = 120;
const START_MS: i64 = 1_767_571_200_000;
const STEP_MS: i64 = 15_000;

/// More than the caches hold.
const WASTE_BYTES: usize = 96 << 20;

struct World {
    clock: ManualClock,
    store: Store,
    alerts: Arc<Alerts>,
    engine: Engine,
    group: Group,
    end: Timestamp,
    _dir: tempfile::TempDir,
}

fn labels(host: usize, series: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{series}_total")),
        ("instance", format!("i{host}")),
        ("job", format!("job{}", host % 10)),
        ("region", "eu-west-1".to_owned()),
        ("env", "production".to_owned()),
    ])
}

fn rules() -> String {
    let mut text = "groups:\n- name: watched\n  interval: 15s\n  rules:\n".to_owned();
    for host in 0..HOSTS {
        for series in 0..WATCHED {
            text += &format!(
                "  - alert: Watched{series}Host{host}\n    expr: rate(metric_{series}_total{{instance=\"i{host}\"}}[5m]) > 10\n    \
                 labels: {{severity: low}}\n    annotations: {{summary: \"{{{{ $labels.instance }}}} is at {{{{ $value }}}}\"}}\n"
            );
        }
    }
    text
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = ManualClock::new(Timestamp::from_millis(START_MS));
        let store =
            Store::open(Config::new(dir.path()), Arc::new(clock.clone()), &|_| {}).expect("the store opens");
        let mut refs = Vec::new();
        for host in 0..HOSTS {
            for series in 0..SERIES_A_HOST {
                let rate = if host % FIRING_ONE_IN == series { 12.0 } else { 2.0 };
                refs.push((store.resolve(&labels(host, series)).expect("room"), rate));
            }
        }
        for round in 0..SAMPLES {
            let timestamp = Timestamp::from_millis(START_MS + round * STEP_MS);
            clock.jump_to(timestamp);
            let batch: Vec<RefSample> = refs
                .iter()
                .map(|(series, rate)| RefSample {
                    series: *series,
                    timestamp,
                    value: (round * STEP_MS / 1_000) as f64 * rate,
                })
                .collect();
            store.append(&batch, Durability::Interval).expect("a whole disk");
        }
        let engine = Engine::new(EngineConfig::default());
        let file = parse_file("rules.yml", rules().as_bytes(), &GroupDefaults::default());
        let set = RuleSet::new(file.expect("good rules").groups, true);
        let group = Group::new(&set.groups()[0], &engine);
        let records = Arc::new(Database::in_memory().expect("records"));
        let alerts = Alerts::load(
            AlertConfig::default(),
            records,
            Arc::new(clock.clone()),
            Arc::new(SeededChance::new(1)),
            &mut Registry::default(),
        );
        World {
            end: clock_now(&clock),
            alerts: alerts.expect("the lifecycle starts"),
            clock,
            store,
            engine,
            group,
            _dir: dir,
        }
    }

    fn tick(&mut self, at: Timestamp) -> usize {
        let installation = Installation::default();
        let ports = Ports {
            engine: &self.engine,
            source: &self.store,
            sink: &self.store,
            lifecycle: &*self.alerts,
            clock: &self.clock,
            interrupt: &Uninterrupted,
            installation: &installation,
        };
        let tick = evaluate_alone(&mut self.group, at, &ports);
        assert_eq!(tick.failures, 0);
        tick.samples
    }
}

fn clock_now(clock: &ManualClock) -> Timestamp {
    marketprism_model::Clock::now(clock)
}

/// Goes through more memory than the caches hold.
fn cool(waste: &mut [u8]) {
    for line in waste.chunks_mut(64) {
        line[0] = line[0].wrapping_add(1);
    }
    black_box(waste);
}

fn tick(criterion: &mut Criterion) {
    let mut world = World::new();
    let mut waste = vec![0u8; WASTE_BYTES];
    let mut at = world.end;
    // The first ticks make alerts and series.
    for _ in 0..3 {
        at = Timestamp::from_millis(at.millis() + 1);
        assert_eq!(world.tick(at), 2 * HOSTS * WATCHED / FIRING_ONE_IN);
    }
    let mut group = criterion.benchmark_group("1,000 alert rules, 50 firing");
    group.sample_size(30);
    group.bench_function("the whole tick", |bencher| {
        bencher.iter(|| {
            at = Timestamp::from_millis(at.millis() + 1);
            black_box(world.tick(at))
        });
    });
    group.bench_function("the whole tick, caches cold", |bencher| {
        let each = |()| {
            at = Timestamp::from_millis(at.millis() + 1);
            black_box(world.tick(at))
        };
        bencher.iter_batched(|| cool(&mut waste), each, BatchSize::PerIteration);
    });
    let queries: Vec<Prepared> = world
        .group
        .spec()
        .rules
        .iter()
        .map(|rule| world.engine.prepare(&parse(&rule.expr).expect("a good rule")))
        .collect();
    group.bench_function("expressions", |bencher| {
        bencher.iter(|| {
            let mut session = world.engine.session(&world.store, world.end, &Uninterrupted);
            for query in &queries {
                black_box(session.evaluate(query).expect("an answer"));
            }
        });
    });
    group.bench_function("expressions, caches cold", |bencher| {
        let each = |()| {
            let mut session = world.engine.session(&world.store, world.end, &Uninterrupted);
            for query in &queries {
                black_box(session.evaluate(query).expect("an answer"));
            }
        };
        bencher.iter_batched(|| cool(&mut waste), each, BatchSize::PerIteration);
    });
    let chosen: Vec<Vec<Matcher>> = (0..HOSTS * WATCHED)
        .map(|rule| {
            let (host, series) = (rule / WATCHED, rule % WATCHED);
            vec![
                Matcher::equal("__name__", format!("metric_{series}_total").as_str()),
                Matcher::equal("instance", format!("i{host}").as_str()),
            ]
        })
        .collect();
    let range = TimeRange::new(Timestamp::from_millis(world.end.millis() - 299_999), world.end);
    group.bench_function("choosing", |bencher| {
        bencher.iter(|| {
            for matchers in &chosen {
                black_box(world.store.select(matchers, range).expect("a choice"));
            }
        });
    });
    group.bench_function("choosing and reading", |bencher| {
        bencher.iter(|| {
            let mut count = 0;
            for matchers in &chosen {
                let choice = world.store.select(matchers, range).expect("a choice");
                choice
                    .read(0..1, range, &mut |_, samples| {
                        count += samples.values.len();
                        Ok(())
                    })
                    .expect("samples");
            }
            black_box(count)
        });
    });
    group.finish();
}

criterion_group!(benches, tick);
criterion_main!(benches);

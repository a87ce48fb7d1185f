//! The store alone: append, memory, disk, replay, select and read, for 200 hosts of 100 series, 1,000 samples each.
//!
//! One run from start to end, because each figure rests on the state that the one before left; so it is no
//! Criterion bench. Run with `cargo bench -p marketprism-bench --bench storage`; `MARKETPRISM_BENCH_ROUNDS` changes
//! the 1,000 samples a series. CPU time is that of the whole process, the synchronising thread included.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::sample::Durability;
use marketprism_model::{
    Chance, Clock, Labels, Matcher, RefSample, SampleSink, SeriesRef, SeriesSource, TimeRange, Timestamp,
};
use marketprism_storage::{Config, Store};
use marketprism_testkit::{MachineClock, ManualClock, SeededChance};

const HOSTS: usize = 200;
const SERIES_A_HOST: usize = 100;
/// 32 of a host's series are of this metric, so that 6,400 are chosen together.
const CPU: &str = "node_cpu_seconds_total";
const START: i64 = 1_767_571_200_000;
const INTERVAL: i64 = 15_000;

/// Of twenty series nine are counters in hundredths with uneven steps (CPU seconds), six gauges with two decimals,
/// four rarely change, and one is a sum of measurements whose every digit is noise.
struct Values {
    chance: SeededChance,
    state: Vec<f64>,
}

impl Values {
    fn next(&mut self, series: usize) -> f64 {
        let random = self.chance.next_unit_f64();
        let state = &mut self.state[series];
        match series % 20 {
            0..=8 => *state = (*state * 100.0 + random * 1_500.0).round() / 100.0,
            9..=14 => *state = ((*state + (random - 0.5) * 4.0) * 100.0).round() / 100.0,
            15..=18 if random < 0.02 => *state = (random * 5_000.0).round(),
            19 => *state += random,
            _ => {}
        }
        *state
    }
}

fn labels(host: usize, number: usize) -> Labels {
    let (instance, number_text) = (format!("host-{host:03}.example.com:9100"), number.to_string());
    let name = if number < 32 {
        CPU.to_owned()
    } else {
        format!("node_metric_{number}_bytes")
    };
    let mut pairs = vec![
        ("__name__", name.as_str()),
        ("instance", &instance),
        ("job", "node"),
        (
            "env",
            if host.is_multiple_of(4) {
                "staging"
            } else {
                "production"
            },
        ),
        ("region", ["eu-west-1", "us-east-1", "ap-east-1"][host % 3]),
    ];
    let cpu = (number / 8).to_string();
    if number < 32 {
        pairs.push(("cpu", &cpu));
        pairs.push((
            "mode",
            [
                "idle", "user", "system", "iowait", "irq", "softirq", "steal", "nice",
            ][number % 8],
        ));
    } else {
        pairs.push(("device", &number_text));
    }
    Labels::from_pairs(pairs)
}

fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("Linux tells") * 4096
}

/// CPU time of this process in seconds, from clock ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("a name in brackets")
        .split(' ')
        .collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(12) + ticks(13)) / 100.0
}

fn say(name: &str, value: f64, unit: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{name:<46} {value:>12.2} {unit}").expect("standard output takes it");
}

struct Run {
    dir: std::path::PathBuf,
    store: Store,
    clock: ManualClock,
    machine: MachineClock,
    refs: Vec<Vec<SeriesRef>>,
    values: Values,
}

impl Run {
    fn time(&self, round: usize) -> i64 {
        START + round as i64 * INTERVAL
    }

    /// Appends one round of all hosts, each its own append; a scrape is a few milliseconds early or late.
    fn round(&mut self, round: usize, batch: &mut Vec<RefSample>) {
        let base = self.time(round);
        self.clock.jump_to(Timestamp::from_millis(base + INTERVAL));
        for host in 0..HOSTS {
            let jitter = (self.values.chance.next_u64() % 5) as i64;
            let timestamp = Timestamp::from_millis(base + host as i64 * 70 + jitter);
            batch.clear();
            for (number, series) in self.refs[host].iter().enumerate() {
                let value = self.values.next(host * SERIES_A_HOST + number);
                batch.push(RefSample {
                    series: *series,
                    timestamp,
                    value,
                });
            }
            let appended = self
                .store
                .append(batch, Durability::Interval)
                .expect("a whole disk");
            assert_eq!(appended.accepted, SERIES_A_HOST);
        }
    }

    fn append_all(&mut self, rounds: usize, rss_before: u64) {
        let mut batch = Vec::new();
        let (mut cut_seconds, mut rss_peak) = (0.0, 0u64);
        let generator = self.generator_seconds(rounds);
        let (wall, cpu) = (self.machine.monotonic(), cpu_seconds());
        for round in 0..rounds {
            self.round(round, &mut batch);
            if round == 719 {
                let stats = self.store.stats();
                rss_peak = rss_bytes() - rss_before;
                say(
                    "RSS a series at 720 samples in memory",
                    rss_peak as f64 / stats.series as f64,
                    "B",
                );
                say(
                    "log",
                    stats.wal_bytes as f64 / stats.head_samples as f64,
                    "B/sample",
                );
            }
            if round % 4 == 3 {
                let before = cpu_seconds();
                let done = self.store.maintain(self.clock.now()).expect("a whole disk");
                if done.blocks_cut > 0 {
                    cut_seconds += cpu_seconds() - before;
                }
            }
        }
        let samples = (rounds * HOSTS * SERIES_A_HOST) as f64;
        let cpu = cpu_seconds() - cpu - cut_seconds - generator;
        say(
            "append, with log synchronised every 100 ms",
            cpu * 1e9 / samples,
            "ns CPU/sample",
        );
        say("append", samples / cpu / 1e6, "M samples/s/core");
        let wall = (self.machine.monotonic() - wall).as_secs_f64() - generator - cut_seconds;
        say("append, wall", samples / wall / 1e6, "M samples/s");
        let stats = self.store.stats();
        if stats.blocks > 0 {
            say(
                "block cut",
                stats.block_samples as f64 / cut_seconds / 1e6,
                "M samples/s/core",
            );
            let index = self.index_bytes() as f64 / stats.block_samples as f64;
            say("disk, index", index, "B/sample");
            say(
                "disk, blocks with index",
                stats.block_bytes as f64 / stats.block_samples as f64,
                "B/sample",
            );
        }
        let rss = rss_bytes().saturating_sub(rss_before).max(rss_peak.min(1));
        say("RSS a series at the end", rss as f64 / stats.series as f64, "B");
    }

    fn index_bytes(&self) -> u64 {
        let blocks = std::fs::read_dir(self.dir.join("blocks")).expect("the store's folder");
        let index = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("a block").path().join("index");
        blocks
            .map(|entry| std::fs::metadata(index(entry)).expect("an index").len())
            .sum()
    }

    /// What making the values costs, to be taken off.
    fn generator_seconds(&self, rounds: usize) -> f64 {
        let mut values = Values {
            chance: SeededChance::new(2),
            state: vec![0.0; HOSTS * SERIES_A_HOST],
        };
        let before = cpu_seconds();
        let mut sum = 0.0;
        for _ in 0..rounds {
            (0..HOSTS * SERIES_A_HOST).for_each(|series| sum += values.next(series));
        }
        assert!(sum != 0.5);
        cpu_seconds() - before
    }

    /// The best of five runs of `count` acts, in seconds an act: the machine may have other things to do.
    fn each<T>(&self, count: u32, mut act: impl FnMut(u32) -> T) -> f64 {
        let mut best = f64::INFINITY;
        for _ in 0..if count == 1 { 1 } else { 5 } {
            let start = self.machine.monotonic();
            for n in 0..count {
                std::hint::black_box(act(n));
            }
            best = best.min((self.machine.monotonic() - start).as_secs_f64() / f64::from(count));
        }
        best
    }

    fn read_window(&self, matchers: &[Matcher], range: TimeRange) -> (usize, usize) {
        let selection = self.store.select(matchers, range).expect("nothing is damaged");
        let (mut series, mut samples) = (0, 0);
        selection
            .read(0..selection.labels().len(), range, &mut |_, found| {
                series += 1;
                samples += found.values.len();
                Ok(())
            })
            .expect("nothing is damaged");
        (series, samples)
    }

    fn queries(&self) {
        let now = self.clock.now();
        let recent = TimeRange::new(now - Duration::from_secs(300), now);
        let cpu = [Matcher::equal("__name__", CPU)];
        let first = self.each(1, |_| {
            self.store.select(&cpu, recent).expect("nothing is damaged")
        });
        say("select 6,400 series, first time", first * 1e6, "us");
        let kept = self.each(20_000, |_| {
            self.store.select(&cpu, recent).expect("nothing is damaged")
        });
        say("select 6,400 series, kept", kept * 1e9, "ns");
        assert_eq!(self.read_window(&cpu, recent).0, 6_400);
        let read = self.each(10, |_| self.read_window(&cpu, recent));
        say("select and read 5 min of 6,400 series", read * 1e6, "us");
        let rules: Vec<[Matcher; 2]> = (0..1_000)
            .map(|n| {
                [
                    Matcher::equal("__name__", CPU),
                    Matcher::equal("instance", &format!("host-{:03}.example.com:9100", n % HOSTS)),
                ]
            })
            .collect();
        self.read_window(&rules[0], recent);
        let rule = self.each(10_000, |n| self.read_window(&rules[n as usize % 1_000], recent));
        say("select and read 5 min of one host's 32 series", rule * 1e9, "ns");
        let hour = TimeRange::new(now - Duration::from_secs(3600), now);
        let read = self.each(2, |_| self.read_window(&cpu, hour));
        say("read 1 h of 6,400 series", read * 1e3, "ms");
        let old = TimeRange::new(
            Timestamp::from_millis(START),
            Timestamp::from_millis(START + 7_000_000),
        );
        let found = self.read_window(&cpu, old);
        let read = self.each(2, |_| self.read_window(&cpu, old));
        say(
            "read 6,400 series from a block",
            found.1 as f64 / read / 1e6,
            "M samples/s",
        );
        let all = self.read_window(&cpu, TimeRange::ALL);
        let read = self.each(2, |_| self.read_window(&cpu, TimeRange::ALL));
        say(
            "read everything of 6,400 series",
            all.1 as f64 / read / 1e6,
            "M samples/s",
        );
    }
}

fn main() {
    let rounds = std::env::var("MARKETPRISM_BENCH_ROUNDS").ok();
    let rounds: usize = rounds.and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let clock = ManualClock::new(Timestamp::from_millis(START));
    let rss_before = rss_bytes();
    let open = |clock: &ManualClock| {
        Store::open(Config::new(dir.path()), Arc::new(clock.clone()), &|_| {}).expect("the store opens")
    };
    let store = open(&clock);
    let machine = MachineClock::default();
    let before = machine.monotonic();
    let refs: Vec<Vec<SeriesRef>> = (0..HOSTS)
        .map(|host| {
            (0..SERIES_A_HOST)
                .map(|n| store.resolve(&labels(host, n)).expect("room"))
                .collect()
        })
        .collect();
    let resolved = (machine.monotonic() - before).as_secs_f64();
    say(
        "make a series",
        resolved * 1e9 / (HOSTS * SERIES_A_HOST) as f64,
        "ns",
    );
    say(
        "RSS a series without samples",
        (rss_bytes() - rss_before) as f64 / (HOSTS * SERIES_A_HOST) as f64,
        "B",
    );
    let values = Values {
        chance: SeededChance::new(1),
        state: vec![1_000.0; HOSTS * SERIES_A_HOST],
    };
    let mut run = Run {
        dir: dir.path().to_owned(),
        store,
        clock,
        machine,
        refs,
        values,
    };
    run.append_all(rounds, rss_before);
    run.queries();
    let clock = run.clock.clone();
    drop(run);
    let (machine, cpu) = (MachineClock::default(), cpu_seconds());
    let before = machine.monotonic();
    let store = open(&clock);
    let replay = store.stats().replay;
    let wall = (machine.monotonic() - before).as_secs_f64();
    say("reopen", wall * 1e3, "ms");
    say(
        "replay",
        replay.samples as f64 / (cpu_seconds() - cpu) / 1e6,
        "M samples/s/core",
    );
}

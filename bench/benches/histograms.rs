//! Native histograms at rest: bytes in memory, in the log and in blocks, ours and Debian's Prometheus'.
//!
//! 200 series, 1,000 samples each at 15 s: counters of 25 buckets that see some 40 observations a sample, so that most
//! buckets change, a new bucket now and then. Ours is the store alone, in this process; Prometheus is a process that
//! gets the same by remote write. Run with `cargo bench -p marketprism-bench --bench histograms`.

use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;
use marketprism_bench::peer::{Disk, Launch, Peer, Prometheus};
use marketprism_bench::process::Process;
use marketprism_bench::remote_write as wire;
use marketprism_bench::running::Running;
use marketprism_model::sample::Durability;
use marketprism_model::{
    BucketSpan, Buckets, Chance, Clock, Histogram, Labels, RefHistogram, SampleSink, SeriesRef, SeriesSource,
    TimeRange, Timestamp,
};
use marketprism_storage::{Config, Store};
use marketprism_testkit::{MachineClock, ManualClock, SeededChance};
use prost::Message as _;

const SERIES: usize = 200;
const ROUNDS: usize = 1_000;
const START: i64 = 1_767_571_200_000;
const INTERVAL: i64 = 15_000;
const BUCKETS: usize = 25;

/// Counters, the same for both sides.
struct Source {
    chance: SeededChance,
    counts: Vec<Vec<u64>>,
    sums: Vec<f64>,
}

impl Source {
    fn new() -> Self {
        Source {
            chance: SeededChance::new(1),
            counts: vec![vec![0; BUCKETS]; SERIES],
            sums: vec![0.0; SERIES],
        }
    }

    fn observe(&mut self, series: usize, round: usize) {
        if round % 400 == 200 + series {
            self.counts[series].push(0);
        }
        let buckets = self.counts[series].len();
        for _ in 0..40 {
            // Three dice make a hill.
            let dice: f64 = (0..3).map(|_| self.chance.next_unit_f64()).sum();
            let bucket = (dice / 3.0 * buckets as f64) as usize;
            self.counts[series][bucket.min(buckets - 1)] += 1;
            self.sums[series] += dice * 0.001;
        }
    }

    /// The histogram of what a series has observed so far.
    fn histogram(&self, series: usize) -> Histogram {
        let counts: Vec<f64> = self.counts[series].iter().map(|count| *count as f64).collect();
        Histogram {
            schema: 3,
            zero_threshold: 2f64.powi(-128),
            count: counts.iter().sum(),
            sum: self.sums[series],
            positive: Buckets {
                spans: vec![BucketSpan {
                    offset: -10,
                    length: counts.len() as u32,
                }],
                counts,
            },
            ..Histogram::default()
        }
    }
}

fn say(name: &str, value: f64, unit: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{name:<52} {value:>10.2} {unit}").expect("standard output takes it");
}

fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("Linux tells") * 4096
}

fn ours() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (clock, machine) = (
        ManualClock::new(Timestamp::from_millis(START)),
        MachineClock::default(),
    );
    let store = Store::open(Config::new(dir.path()), Arc::new(clock.clone()), &|_| {}).expect("it opens");
    let name =
        |n: usize| Labels::from_pairs([("__name__", "lag_seconds"), ("instance", &format!("host-{n}"))]);
    let refs: Vec<SeriesRef> = (0..SERIES)
        .map(|n| store.resolve(&name(n)).expect("room"))
        .collect();
    let mut source = Source::new();
    let before = rss_bytes();
    let (mut spent, mut cutting) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
    for round in 0..ROUNDS {
        let timestamp = Timestamp::from_millis(START + round as i64 * INTERVAL);
        clock.jump_to(timestamp);
        let batch: Vec<RefHistogram> = (0..SERIES)
            .map(|n| {
                source.observe(n, round);
                RefHistogram {
                    series: refs[n],
                    timestamp,
                    histogram: Arc::new(source.histogram(n)),
                }
            })
            .collect();
        let from = machine.monotonic();
        let appended = store
            .append_histograms(&batch, Durability::Interval)
            .expect("a whole disk");
        assert_eq!(appended.accepted, SERIES);
        spent += machine.monotonic() - from;
        if round + 1 == 720 {
            let stats = store.stats();
            say(
                "ours: memory, 3 h of samples",
                (rss_bytes() - before) as f64 / stats.head_samples as f64,
                "B/histogram",
            );
            say(
                "ours: log",
                stats.wal_bytes as f64 / stats.head_samples as f64,
                "B/histogram",
            );
        }
        if round % 4 == 3 {
            let from = machine.monotonic();
            if store.maintain(clock.now()).expect("a whole disk").blocks_cut > 0 {
                cutting += machine.monotonic() - from;
            }
        }
    }
    let stats = store.stats();
    say(
        "ours: append, log included",
        spent.as_secs_f64() * 1e9 / (SERIES * ROUNDS) as f64,
        "ns/histogram",
    );
    say(
        "ours: cutting a block",
        cutting.as_secs_f64() * 1e9 / stats.block_samples as f64,
        "ns/histogram",
    );
    say(
        "ours: block with index",
        stats.block_bytes as f64 / stats.block_samples as f64,
        "B/histogram",
    );
    say_reading(&store, &machine);
}

fn say_reading(store: &Store, machine: &MachineClock) {
    let selection = store.select(&[], TimeRange::ALL).expect("nothing is damaged");
    let (from, mut read) = (machine.monotonic(), 0);
    let mut count = |_: usize, samples: marketprism_model::Samples<'_>| {
        read += samples.histograms.len();
        Ok(())
    };
    selection
        .read(0..SERIES, TimeRange::ALL, &mut count)
        .expect("nothing is damaged");
    let took = (machine.monotonic() - from).as_secs_f64();
    say(
        "ours: reading everything",
        took * 1e9 / read as f64,
        "ns/histogram",
    );
    assert_eq!(read, SERIES * ROUNDS);
}

/// Prometheus with native histograms switched on.
struct Native;

impl Peer for Native {
    fn name(&self) -> &'static str {
        Prometheus.name()
    }

    fn spawn(&self, launch: &Launch) -> Result<Vec<Process>> {
        let config = launch.folder.join("prometheus.yml");
        std::fs::write(&config, "scrape_configs: []\n")?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", launch.data().display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.level=warn"])
            .args(["--web.enable-remote-write-receiver", "--web.enable-admin-api"])
            .arg("--enable-feature=native-histograms");
        Ok(vec![Process::spawn(command, &launch.log())?])
    }

    fn ready_path(&self) -> &'static str {
        Prometheus.ready_path()
    }

    fn iterations_metric(&self) -> &'static str {
        Prometheus.iterations_metric()
    }

    fn missed_metric(&self) -> &'static str {
        Prometheus.missed_metric()
    }

    fn rest(&self, running: &Running, written: u64) -> Result<Disk> {
        Prometheus.rest(running, written)
    }
}

fn theirs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let launch = Launch {
        folder: folder.path().to_owned(),
        rules: None,
    };
    let running = Running::start(&Native, launch)?;
    let mut source = Source::new();
    let before = running.memory()?.resident_bytes;
    for round in 0..ROUNDS {
        let timeseries = (0..SERIES).map(|n| {
            source.observe(n, round);
            let counts = &source.counts[n];
            let mut last = 0;
            let delta = |count: &u64| {
                let delta = *count as i64 - last;
                last = *count as i64;
                delta
            };
            let label = |name: &str, value: String| wire::Label {
                name: name.to_owned(),
                value,
            };
            wire::TimeSeries {
                labels: vec![
                    label("__name__", "lag_seconds".to_owned()),
                    label("instance", format!("host-{n}")),
                ],
                samples: Vec::new(),
                histograms: vec![wire::Histogram {
                    count: counts.iter().sum(),
                    sum: source.sums[n],
                    schema: 3,
                    zero_threshold: 2f64.powi(-128),
                    spans: vec![wire::Span {
                        offset: -10,
                        length: counts.len() as u32,
                    }],
                    deltas: counts.iter().map(delta).collect(),
                    timestamp: START + round as i64 * INTERVAL,
                }],
            }
        });
        let request = wire::WriteRequest {
            timeseries: timeseries.collect(),
        };
        running.write(&snap::raw::Encoder::new().compress_vec(&request.encode_to_vec())?)?;
        if round + 1 == 720 {
            let resident = running.memory()?.resident_bytes.saturating_sub(before);
            say(
                "Prometheus: memory, 3 h of samples",
                resident as f64 / (SERIES * 720) as f64,
                "B/histogram",
            );
        }
    }
    let disk = Native.rest(&running, (SERIES * ROUNDS) as u64)?;
    say(
        "Prometheus: blocks with index",
        disk.bytes as f64 / disk.samples as f64,
        "B/histogram",
    );
    Ok(())
}

fn main() -> Result<()> {
    ours();
    theirs()
}

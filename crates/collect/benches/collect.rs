//! The roads of this room in CPU time: parsing, steady scrapes and remote write, first into nothing, then into the
//! store with its log.
//!
//! One run from start to end; `cargo bench -p marketprism-collect`. `MARKETPRISM_BENCH_ROUNDS` changes the number of
//! scrapes a target. CPU time is that of the whole process, the log's synchronising thread included.

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use marketprism_collect::exposition::{Entry, Format, Parser};
use marketprism_collect::remote_write::Limits;
use marketprism_collect::scrape::road::{Fetched, Road, SampleRules};
use marketprism_collect::{CollectMetrics, MetadataStore, RemoteWriteReceiver};
use marketprism_model::sample::{AppendError, Appended, Durability};
use marketprism_model::{Labels, RefHistogram, RefSample, SampleSink, SeriesRef, Timestamp};
use marketprism_storage::{Config, Store};
use marketprism_testkit::ManualClock;

const TARGETS: usize = 20;
const SERIES_A_TARGET: usize = 1_000;
const START: i64 = 1_767_571_200_000;
const INTERVAL: i64 = 15_000;

/// Takes everything and keeps nothing, so that only this room is measured.
struct Nothing;

impl SampleSink for Nothing {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        Ok(SeriesRef(labels.fingerprint()))
    }

    fn append(&self, samples: &[RefSample], _: Durability) -> Result<Appended, AppendError> {
        black_box(samples);
        Ok(Appended {
            accepted: samples.len(),
            ..Appended::default()
        })
    }

    fn append_histograms(&self, histograms: &[RefHistogram], _: Durability) -> Result<Appended, AppendError> {
        black_box(histograms);
        Ok(Appended {
            accepted: histograms.len(),
            ..Appended::default()
        })
    }
}

/// A page of a host: a HELP and a TYPE for every tenth line, lines of some 95 bytes, a third of the values with decimals.
fn page(round: usize) -> String {
    let mut text = String::new();
    for number in 0..SERIES_A_TARGET {
        if number % 10 == 0 {
            let family = number / 10;
            text.push_str(&format!(
                "# HELP node_metric_{family}_total What family {family} counts, in a few words.\n"
            ));
            text.push_str(&format!("# TYPE node_metric_{family}_total counter\n"));
        }
        let (family, value) = (number / 10, number * 7 + round * 13);
        let decimals = if number % 3 == 0 {
            format!(".{:02}", round % 100)
        } else {
            String::new()
        };
        text.push_str(&format!(
            "node_metric_{family}_total{{cpu=\"{}\",mode=\"iowait\",device=\"/dev/mapper/vg-{number}\"}} {value}{decimals}\n",
            number % 10,
        ));
    }
    text
}

fn cpu_seconds() -> f64 {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    usage.tv_sec as f64 + usage.tv_nsec as f64 / 1e9
}

fn report(what: &str, count: usize, work: impl FnOnce()) {
    let before = cpu_seconds();
    work();
    let seconds = cpu_seconds() - before;
    let rate = count as f64 / seconds / 1e6;
    writeln!(
        std::io::stdout(),
        "{what}: {rate:.2} M/s of CPU ({count} in {seconds:.2} s)"
    )
    .expect("stdout takes text");
}

fn rounds() -> usize {
    std::env::var("MARKETPRISM_BENCH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100)
}

fn roads() -> Vec<Road> {
    let road = |at: usize| {
        let instance = format!("host-{at:03}.example.com:9100");
        let labels = Labels::from_pairs([
            ("instance", instance.as_str()),
            ("job", "node"),
            ("region", "eu-west-1"),
        ]);
        let rules = SampleRules {
            target_labels: labels,
            honors_labels: false,
            honors_timestamps: true,
            tracks_timestamps_staleness: false,
            metric_relabel: Arc::from([]),
            histograms: marketprism_collect::exposition::HistogramRules::default(),
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            has_extra_metrics: false,
            timeout: Duration::from_secs(10),
        };
        Road::new(rules, CollectMetrics::default())
    };
    (0..TARGETS).map(road).collect()
}

fn scrape(what: &str, sink: &dyn SampleSink, clock: &ManualClock, pages: &[String]) {
    let mut roads = roads();
    let mut round = |at: usize| {
        clock.advance(Duration::from_millis(INTERVAL as u64));
        let now = Timestamp::from_millis(START + INTERVAL * (at as i64 + 1));
        let fetched = Fetched::Body {
            bytes: pages[at % pages.len()].as_bytes(),
            format: Format::Prometheus,
        };
        for road in &mut roads {
            let (_, read, appended) = road.take(&fetched, now, || Duration::ZERO, sink);
            read.expect("valid");
            appended.expect("taken");
        }
    };
    report(&format!("{what}, first sight"), TARGETS * SERIES_A_TARGET, || {
        round(0)
    });
    report(
        &format!("{what}, steady"),
        TARGETS * SERIES_A_TARGET * (rounds() - 1),
        || (1..rounds()).for_each(&mut round),
    );
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn field(bytes: &mut Vec<u8>, number: u64, content: &[u8]) {
    varint(bytes, number << 3 | 2);
    varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

/// A request of one target's series with one sample each, as Prometheus sends it.
fn request(target: usize, time: i64, value: f64) -> Vec<u8> {
    let mut message = Vec::new();
    for number in 0..SERIES_A_TARGET {
        let mut series = Vec::new();
        let (name, instance) = (
            format!("node_metric_{}_total", number / 10),
            format!("host-{target:03}.example.com:9100"),
        );
        let (cpu, device) = ((number % 10).to_string(), format!("/dev/mapper/vg-{number}"));
        let labels = [
            ("__name__", name.as_str()),
            ("cpu", &cpu),
            ("device", &device),
            ("instance", &instance),
            ("job", "pushed"),
            ("mode", "iowait"),
            ("region", "eu-west-1"),
        ];
        for (name, value) in labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        let mut sample = vec![9];
        sample.extend_from_slice(&(value + number as f64).to_le_bytes());
        sample.push(16);
        varint(&mut sample, time as u64);
        field(&mut series, 2, &sample);
        field(&mut message, 1, &series);
    }
    snap::raw::Encoder::new().compress_vec(&message).expect("short")
}

fn push(what: &str, sink: &dyn SampleSink, clock: &ManualClock, rounds: usize) {
    let receiver = RemoteWriteReceiver::new(
        Limits::default(),
        CollectMetrics::default(),
        MetadataStore::default(),
    );
    let requests: Vec<Vec<u8>> = (0..rounds * TARGETS)
        .map(|at| {
            let round = at / TARGETS;
            request(
                at % TARGETS,
                START + INTERVAL * (round as i64 + 1),
                (round * 13) as f64,
            )
        })
        .collect();
    let mut handle = |at: usize| {
        if at.is_multiple_of(TARGETS) {
            clock.advance(Duration::from_millis(INTERVAL as u64));
        }
        let outcome = receiver.handle(&requests[at], sink).expect("readable");
        assert_eq!(outcome.accepted, SERIES_A_TARGET);
    };
    report(&format!("{what}, first sight"), TARGETS * SERIES_A_TARGET, || {
        (0..TARGETS).for_each(&mut handle)
    });
    let steady = requests.len() - TARGETS;
    report(&format!("{what}, steady"), steady * SERIES_A_TARGET, || {
        (TARGETS..requests.len()).for_each(&mut handle)
    });
}

fn open(clock: &ManualClock) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store =
        Store::open(Config::new(folder.path()), Arc::new(clock.clone()), &|_| {}).expect("an empty store");
    (folder, store)
}

fn main() {
    let pages: Vec<String> = (0..10).map(page).collect();
    let lines = rounds() * TARGETS * SERIES_A_TARGET;
    report("parser alone, lines with labels", lines, || {
        for at in 0..rounds() * TARGETS {
            let mut parser = Parser::new(pages[at % pages.len()].as_bytes(), Format::Prometheus);
            while let Some(entry) = parser.next_entry().expect("valid") {
                if let Entry::Sample(sample) = entry {
                    black_box(sample);
                }
            }
        }
    });
    let clock = ManualClock::new(Timestamp::from_millis(START));
    scrape("scrapes into nothing", &Nothing, &clock, &pages);
    let clock = ManualClock::new(Timestamp::from_millis(START));
    let (_folder, store) = open(&clock);
    scrape("scrapes into the store", &store, &clock, &pages);
    drop(store);
    let clock = ManualClock::new(Timestamp::from_millis(START));
    push("remote write into nothing", &Nothing, &clock, rounds().min(50));
    let clock = ManualClock::new(Timestamp::from_millis(START));
    let (_folder, store) = open(&clock);
    push(
        "remote write into the store, synced",
        &store,
        &clock,
        rounds().min(50),
    );
}

//! What the tests share: a store on a temporary folder, and everything it holds as a map.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::histogram::CUSTOM_BOUNDS_SCHEMA;
use marketprism_model::sample::{AppendError, Appended, Durability};
use marketprism_model::series::ReadError;
use marketprism_model::{
    BucketSpan, Buckets, Clock, Histogram, Labels, Matcher, RefHistogram, RefSample, ResetHint, SampleSink,
    SeriesSource, TimeRange, Timestamp,
};
use marketprism_storage::{Config, Store, SyncMode};
use marketprism_testkit::ManualClock;

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
/// 2026-01-05T00:00:00Z, a multiple of two hours.
pub const START: i64 = 1_767_571_200_000;

/// Everything a store holds: value bits by moment by series; a histogram by [`histogram_bits`] of its seed.
pub type Contents = BTreeMap<Labels, BTreeMap<i64, u64>>;

/// Makes the histogram of a seed: of all kinds, with shapes that come and go.
pub fn histogram(seed: u32) -> Histogram {
    let side = |offset: i32, lengths: &[u32]| Buckets {
        spans: lengths
            .iter()
            .enumerate()
            .map(|(place, length)| BucketSpan {
                offset: if place == 0 { offset } else { 2 },
                length: *length,
            })
            .collect(),
        counts: (0..lengths.iter().sum())
            .map(|bucket: u32| f64::from(seed * (bucket + 1) % 1_000))
            .collect(),
    };
    let histogram = Histogram {
        schema: 3,
        zero_threshold: 2f64.powi(-128),
        zero_count: f64::from(seed % 3),
        count: f64::from(seed),
        sum: f64::from(seed) / 3.0,
        positive: side(-4, &[2 + seed / 64 % 3, 3]),
        ..Histogram::default()
    };
    match seed % 16 {
        5 => Histogram {
            schema: CUSTOM_BOUNDS_SCHEMA,
            zero_threshold: 0.0,
            zero_count: 0.0,
            positive: side(0, &[4]),
            custom_bounds: Arc::from([0.1, 0.5, 2.5]),
            ..histogram
        },
        7 => Histogram {
            reset_hint: ResetHint::Gauge,
            negative: side(1, &[1, 1]),
            zero_count: 0.25,
            ..histogram
        },
        11 => Histogram {
            sum: f64::NAN,
            positive: Buckets::default(),
            ..histogram
        },
        _ => histogram,
    }
}

/// Stands for the histogram of a seed where numbers stand for themselves; the bits of a NaN that no test gives.
pub fn histogram_bits(seed: u32) -> u64 {
    0xfff4_0000_0000_0000 | u64::from(seed)
}

/// Appends the histograms of seeds to numbered series.
pub fn append_histograms(
    store: &Store,
    histograms: &[(usize, i64, u32)],
    durability: Durability,
) -> Result<Appended, AppendError> {
    let mut batch = Vec::new();
    for (number, time, seed) in histograms {
        batch.push(RefHistogram {
            series: store.resolve(&series(*number))?,
            timestamp: Timestamp::from_millis(*time),
            histogram: Arc::new(histogram(*seed)),
        });
    }
    store.append_histograms(&batch, durability)
}

/// How much longer than by default the tests run: `MARKETPRISM_TEST_SCALE`.
pub fn scale() -> u32 {
    let scale = std::env::var("MARKETPRISM_TEST_SCALE").ok();
    scale.and_then(|text| text.parse().ok()).unwrap_or(1)
}

pub fn clock_at(millis: i64) -> ManualClock {
    ManualClock::new(Timestamp::from_millis(millis))
}

/// A configuration that leaves the disk alone, for tests that do not ask about power.
pub fn config(dir: &Path) -> Config {
    Config {
        sync: SyncMode::Os,
        copy_grace: minutes(15),
        ..Config::new(dir)
    }
}

pub fn open(config: Config, clock: &ManualClock) -> Store {
    Store::open(config, Arc::new(clock.clone()), &|_| {}).expect("the store opens")
}

pub fn now(clock: &ManualClock) -> i64 {
    clock.now().millis()
}

pub fn series(number: usize) -> Labels {
    let host = format!("host-{}", number % 7);
    Labels::from_pairs([
        ("__name__", format!("metric_{}", number / 7).as_str()),
        ("host", host.as_str()),
    ])
}

/// Appends samples of numbered series.
pub fn append(
    store: &Store,
    samples: &[(usize, i64, f64)],
    durability: Durability,
) -> Result<Appended, AppendError> {
    let mut batch = Vec::new();
    for (number, time, value) in samples {
        batch.push(RefSample {
            series: store.resolve(&series(*number))?,
            timestamp: Timestamp::from_millis(*time),
            value: *value,
        });
    }
    store.append(&batch, durability)
}

/// Reads the chosen series within a range; asserts what every reading must hold to.
pub fn read(store: &Store, matchers: &[Matcher], start: i64, end: i64) -> Result<Contents, ReadError> {
    let range = TimeRange::new(Timestamp::from_millis(start), Timestamp::from_millis(end));
    let selection = store.select(matchers, range)?;
    let labels = selection.labels();
    assert!(labels.is_sorted_by(|a, b| a < b), "series are sorted, each once");
    let mut contents = Contents::new();
    selection.read(0..labels.len(), range, &mut |position, samples| {
        assert_eq!(samples.timestamps.len(), samples.values.len());
        assert!(samples.timestamps.is_sorted_by(|a, b| a < b), "each moment once");
        assert!(samples.timestamps.iter().all(|t| (start..=end).contains(t)));
        let bits = samples.values.iter().map(|value| value.to_bits());
        let mut map: BTreeMap<i64, u64> = samples.timestamps.iter().copied().zip(bits).collect();
        assert!(
            samples.histograms.is_sorted_by(|a, b| a.0 < b.0),
            "each moment once"
        );
        for (time, found) in samples.histograms {
            assert!((start..=end).contains(time));
            let seed = found.count as u32;
            // NaN is not equal to itself, but its text is.
            assert_eq!(
                format!("{found:?}"),
                format!("{:?}", histogram(seed)),
                "bit for bit"
            );
            let other = map.insert(*time, histogram_bits(seed));
            assert_eq!(other, None, "a number or a histogram");
        }
        assert!(contents.insert(labels[position].clone(), map).is_none());
        Ok(())
    })?;
    contents.retain(|_, samples| !samples.is_empty());
    Ok(contents)
}

pub fn read_all(store: &Store) -> Contents {
    read(store, &[], i64::MIN, i64::MAX).expect("the store is readable")
}

pub fn count(contents: &Contents) -> usize {
    contents.values().map(BTreeMap::len).sum()
}

/// Says which samples of `part` are not in `whole` with the same bits.
pub fn missing<'a>(part: &'a Contents, whole: &Contents) -> Vec<(&'a Labels, i64)> {
    let mut missing = Vec::new();
    for (labels, samples) in part {
        for (time, bits) in samples {
            if whole.get(labels).and_then(|other| other.get(time)) != Some(bits) {
                missing.push((labels, *time));
            }
        }
    }
    missing
}

/// Says how many samples of `part` are missing in `whole`, and the first few: a long list tells no more.
pub fn some_missing<'a>(part: &'a Contents, whole: &Contents) -> (usize, Vec<(&'a Labels, i64)>) {
    let mut missing = missing(part, whole);
    let count = missing.len();
    missing.truncate(3);
    (count, missing)
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a temporary folder");
    for entry in std::fs::read_dir(from).expect("a folder of the test") {
        let entry = entry.expect("a folder of the test");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a file of the test");
        }
    }
}

pub fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

//! What the tests share: a store on a temporary folder, and everything it holds as a map.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::sample::{AppendError, Appended, Durability};
use marketprism_model::series::ReadError;
use marketprism_model::{Clock, Labels, Matcher, RefSample, SampleSink, SeriesSource, TimeRange, Timestamp};
use marketprism_storage::{Config, Store, SyncMode};
use marketprism_testkit::ManualClock;

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
/// 2026-01-05T00:00:00Z, a multiple of two hours.
pub const START: i64 = 1_767_571_200_000;

/// Everything a store holds: value bits by moment by series.
pub type Contents = BTreeMap<Labels, BTreeMap<i64, u64>>;

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
        let map = samples.timestamps.iter().copied().zip(bits).collect();
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

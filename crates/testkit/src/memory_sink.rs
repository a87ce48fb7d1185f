//! A store of samples that remembers everything and forgets names on demand.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use marketprism_model::sample::{AppendError, Appended, Durability, is_stale};
use marketprism_model::{Histogram, Labels, RefHistogram, RefSample, SampleSink, SeriesRef, Timestamp};

/// Takes samples as the store does, in memory: same time and bits is no news, another value is refused.
#[derive(Default)]
pub struct MemorySink {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    names: HashMap<Labels, SeriesRef>,
    labels: BTreeMap<SeriesRef, Labels>,
    forgotten: HashSet<SeriesRef>,
    samples: BTreeMap<Labels, BTreeMap<Timestamp, f64>>,
    histograms: BTreeMap<Labels, BTreeMap<Timestamp, Arc<Histogram>>>,
    next: u64,
    resolved: usize,
    appends: usize,
    synced: usize,
    series_limit: Option<usize>,
    is_refusing: bool,
}

impl MemorySink {
    /// Makes an empty store.
    pub fn new() -> Self {
        MemorySink::default()
    }

    /// Gives the samples of a series as it is printed, oldest first; marks of its end are `None`.
    pub fn samples_of(&self, series: &str) -> Vec<(Timestamp, Option<f64>)> {
        let inner = self.lock();
        let found = inner
            .samples
            .iter()
            .find(|(labels, _)| labels.to_string() == series);
        let samples = found.map(|(_, samples)| samples.iter());
        samples
            .into_iter()
            .flatten()
            .map(|(at, value)| (*at, (!is_stale(*value)).then_some(*value)))
            .collect()
    }

    /// Gives the histograms of a series as it is printed, oldest first.
    pub fn histograms_of(&self, series: &str) -> Vec<(Timestamp, Arc<Histogram>)> {
        let inner = self.lock();
        let found = inner
            .histograms
            .iter()
            .find(|(labels, _)| labels.to_string() == series);
        let histograms = found.map(|(_, histograms)| histograms.iter());
        histograms
            .into_iter()
            .flatten()
            .map(|(at, histogram)| (*at, Arc::clone(histogram)))
            .collect()
    }

    /// Gives every series with its newest sample, sorted; a mark of its end is `None`.
    pub fn newest(&self) -> Vec<(Labels, Timestamp, Option<f64>)> {
        let inner = self.lock();
        let newest = inner.samples.iter().filter_map(|(labels, samples)| {
            let (at, value) = samples.last_key_value()?;
            Some((labels.clone(), *at, (!is_stale(*value)).then_some(*value)))
        });
        newest.collect()
    }

    /// Gives the newest value of a series as it is printed; `None` when it ended or never was.
    pub fn value_of(&self, series: &str) -> Option<f64> {
        self.samples_of(series).last().and_then(|(_, value)| *value)
    }

    /// Forgets every name, so that samples under one come back as unknown.
    pub fn forget_names(&self) {
        let mut inner = self.lock();
        let names: Vec<SeriesRef> = inner.labels.keys().copied().collect();
        inner.forgotten.extend(names);
        inner.labels.clear();
        inner.names.clear();
    }

    /// Lets no more than this many series be made.
    pub fn limit_series(&self, limit: Option<usize>) {
        self.lock().series_limit = limit;
    }

    /// Refuses every append, as a full disk does, or takes them again.
    pub fn refuse_appends(&self, is_refusing: bool) {
        self.lock().is_refusing = is_refusing;
    }

    /// Counts how often a name was asked for.
    pub fn resolved(&self) -> usize {
        self.lock().resolved
    }

    /// Counts appends, and those that had to reach the disk.
    pub fn appends(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.appends, inner.synced)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SampleSink for MemorySink {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        let mut inner = self.lock();
        inner.resolved += 1;
        if let Some(series) = inner.names.get(labels) {
            return Ok(*series);
        }
        if let Some(limit) = inner.series_limit.filter(|limit| inner.names.len() >= *limit) {
            return Err(AppendError::SeriesLimit { limit });
        }
        inner.next += 1;
        let series = SeriesRef(inner.next);
        inner.names.insert(labels.clone(), series);
        inner.labels.insert(series, labels.clone());
        Ok(series)
    }

    fn append(&self, samples: &[RefSample], durability: Durability) -> Result<Appended, AppendError> {
        let mut inner = self.lock();
        if inner.is_refusing {
            return Err(AppendError::Log {
                reason: "no space left on device".to_owned(),
            });
        }
        inner.appends += 1;
        inner.synced += usize::from(durability == Durability::Synced);
        let mut appended = Appended::default();
        for (position, sample) in samples.iter().enumerate() {
            let Some(labels) = inner.labels.get(&sample.series).cloned() else {
                assert!(
                    inner.forgotten.contains(&sample.series),
                    "{:?} was never a name",
                    sample.series
                );
                appended.unknown_series.push(position);
                continue;
            };
            let series = inner.samples.entry(labels).or_default();
            match series.get(&sample.timestamp) {
                Some(known) if known.to_bits() != sample.value.to_bits() => appended.conflicting += 1,
                Some(_) => appended.accepted += 1,
                None => {
                    series.insert(sample.timestamp, sample.value);
                    appended.accepted += 1;
                }
            }
        }
        Ok(appended)
    }

    fn append_histograms(
        &self,
        histograms: &[RefHistogram],
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        let mut inner = self.lock();
        if inner.is_refusing {
            return Err(AppendError::Log {
                reason: "no space left on device".to_owned(),
            });
        }
        inner.appends += 1;
        inner.synced += usize::from(durability == Durability::Synced);
        let mut appended = Appended::default();
        for (position, sample) in histograms.iter().enumerate() {
            let Some(labels) = inner.labels.get(&sample.series).cloned() else {
                appended.unknown_series.push(position);
                continue;
            };
            let holds_number = inner
                .samples
                .get(&labels)
                .is_some_and(|numbers| numbers.contains_key(&sample.timestamp));
            let series = inner.histograms.entry(labels).or_default();
            match series.get(&sample.timestamp) {
                _ if holds_number => appended.conflicting += 1,
                Some(known) if *known != sample.histogram => appended.conflicting += 1,
                Some(_) => appended.accepted += 1,
                None => {
                    series.insert(sample.timestamp, Arc::clone(&sample.histogram));
                    appended.accepted += 1;
                }
            }
        }
        Ok(appended)
    }
}

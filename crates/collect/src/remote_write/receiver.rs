//! From a request to the store, and to the answer that the sender understands.
//!
//! What can be taken is taken, and is on the disk before the answer; what can never be taken is counted and answered
//! with 400, which tells a sender not to send it again; what may be taken later is answered with 503.
//!
//! The cache from raw labels to names has two generations: what is used moves to the young one, and when that is
//! full the old one is forgotten. So it stays bounded, and a sender's working set stays in it.

use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use marketprism_model::labels::METRIC_NAME;
use marketprism_model::sample::{AppendError, Appended, Durability, stale_nan};
use marketprism_model::{Labels, RefHistogram, RefSample, SampleSink, SeriesRef, Timestamp};
use parking_lot::Mutex;
use thiserror::Error;

use super::Version;
use super::decode::{DecodeError, Limits, PushedContent, WriteRequest, decode, decompress, walk_labels};
use super::second::decode_second;
use crate::metadata::{FamilyMetadata, MetadataStore};
use crate::metrics::{CollectMetrics, RequestOutcome};
use crate::scrape::road::refusal;

const SHARDS: usize = 16;
/// Each run is written to the disk by itself; what a series says after as many marks goes with the last.
const RUNS_MAX: usize = 4;
/// Bytes of raw labels that one generation of one shard may hold; 2 × 16 × 8 MiB together.
const GENERATION_BYTES_MAX: usize = 8 << 20;
/// What a cached series costs besides its bytes, roughly.
const ENTRY_BYTES: usize = 48;

/// Why nothing of a request was taken.
#[derive(Debug, Error)]
pub enum RemoteWriteError {
    /// It cannot be read.
    #[error("bad remote write request: {0}")]
    Bad(#[from] DecodeError),
    /// The store cannot take it now; the sender shall try again.
    #[error("store cannot take samples now: {0}")]
    Unavailable(AppendError),
}

impl RemoteWriteError {
    /// Gives the HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            RemoteWriteError::Bad(_) => 400,
            RemoteWriteError::Unavailable(_) => 503,
        }
    }
}

/// What became of a request that could be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Samples on the disk, those that were there already included, and histograms.
    pub accepted: usize,
    /// How many of them are histograms, marks of ended series of histograms included.
    pub accepted_histograms: usize,
    /// Older than the store's window.
    pub too_old: usize,
    /// Too far ahead of the clock.
    pub too_far_ahead: usize,
    /// At a moment that holds another value.
    pub conflicting: usize,
    /// Of series without a name, with a label twice, or with a label without a name.
    pub bad_labels: usize,
    /// Of series that the store has no room for.
    pub over_series_limit: usize,
    /// Histograms that cannot be.
    pub bad_histograms: usize,
    /// Why the first of them cannot be.
    pub bad_histogram: Option<String>,
}

impl Outcome {
    /// Counts what was refused.
    pub fn refused(&self) -> usize {
        self.parts().iter().map(|(count, _)| count).sum()
    }

    /// Gives the HTTP status: 204 when all was taken, 400 when something never will be.
    pub fn status(&self) -> u16 {
        if self.refused() == 0 { 204 } else { 400 }
    }

    /// Gives the body of the answer, empty when all was taken.
    pub fn message(&self) -> String {
        if self.refused() == 0 {
            return String::new();
        }
        let mut text = format!("{} samples taken; refused: ", self.accepted);
        let mut separator = "";
        for (count, why) in self.parts().iter().filter(|(count, _)| *count > 0) {
            let _ = write!(text, "{separator}{count} {why}");
            separator = ", ";
        }
        if let Some(reason) = &self.bad_histogram {
            let _ = write!(text, " (the first: {reason})");
        }
        text
    }

    fn parts(&self) -> [(usize, &'static str); 6] {
        [
            (self.too_old, "out of order and older than the window"),
            (self.too_far_ahead, "too far in the future"),
            (self.conflicting, "with another value at the same time"),
            (self.bad_labels, "with invalid labels"),
            (self.over_series_limit, "of new series over the series limit"),
            (self.bad_histograms, "native histograms that cannot be"),
        ]
    }
}

#[derive(Default)]
struct Generation {
    table: HashTable<(Box<[u8]>, SeriesRef)>,
    bytes: usize,
}

#[derive(Default)]
struct Shard {
    young: Generation,
    old: Generation,
}

/// Takes remote write requests. One serves all senders.
pub struct RemoteWriteReceiver {
    limits: Limits,
    metrics: CollectMetrics,
    metadata: MetadataStore,
    hasher: DefaultHashBuilder,
    shards: [Mutex<Shard>; SHARDS],
}

/// Why a series' labels cannot name it.
enum Unnamed {
    BadLabels,
    SeriesLimit,
    Store(AppendError),
}

impl RemoteWriteReceiver {
    /// Makes a receiver with an empty cache.
    pub fn new(limits: Limits, metrics: CollectMetrics, metadata: MetadataStore) -> Self {
        RemoteWriteReceiver {
            limits,
            metrics,
            metadata,
            hasher: DefaultHashBuilder::default(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Takes one request's body of the first version; see [`Self::handle_version`].
    pub fn handle(&self, compressed: &[u8], sink: &dyn SampleSink) -> Result<Outcome, RemoteWriteError> {
        self.handle_version(Version::First, compressed, sink)
    }

    /// Takes one request's body as it came. Blocks until the samples are on the disk: call it off the async threads.
    pub fn handle_version(
        &self,
        version: Version,
        compressed: &[u8],
        sink: &dyn SampleSink,
    ) -> Result<Outcome, RemoteWriteError> {
        let result = self.take(version, compressed, sink);
        let outcome = match &result {
            Ok(outcome) if outcome.refused() == 0 => "taken",
            Ok(_) => "partial",
            Err(RemoteWriteError::Bad(_)) => "bad_request",
            Err(RemoteWriteError::Unavailable(_)) => "unavailable",
        };
        self.metrics
            .remote_write_requests
            .get_or_create(&RequestOutcome { outcome })
            .inc();
        if let Ok(outcome) = &result {
            self.metrics.refuse("bad_labels", outcome.bad_labels);
            self.metrics.refuse("series_limit", outcome.over_series_limit);
            self.metrics.refuse("histogram", outcome.bad_histograms);
        }
        result
    }

    fn take(
        &self,
        version: Version,
        compressed: &[u8],
        sink: &dyn SampleSink,
    ) -> Result<Outcome, RemoteWriteError> {
        let message = decompress(compressed, &self.limits)?;
        let request = match version {
            Version::First => decode(&message, &self.limits)?,
            Version::Second => decode_second(&message, &self.limits)?,
        };
        let mut outcome = Outcome::default();
        let mut lists = Lists::default();
        lists.samples.reserve_exact(request.samples.len());
        lists.series_of.reserve_exact(request.samples.len());
        for (index, series) in request.series.iter().enumerate() {
            let count = series.samples.len() + series.histograms.len();
            if count == 0 {
                continue;
            }
            match self.name(request.raw_labels(series), sink) {
                Ok(name) => lists.add(&request, index, name, &mut outcome),
                Err(Unnamed::BadLabels) => outcome.bad_labels += count,
                Err(Unnamed::SeriesLimit) => outcome.over_series_limit += count,
                Err(Unnamed::Store(error)) => return Err(RemoteWriteError::Unavailable(error)),
            }
        }
        self.append_all(&request, &lists, sink, &mut outcome)?;
        for pushed in &request.metadata {
            self.metadata.push(FamilyMetadata {
                family: pushed.family.to_owned(),
                kind: pushed.kind,
                help: pushed.help.to_owned(),
                unit: pushed.unit.to_owned(),
            });
        }
        Ok(outcome)
    }

    /// Appends numbers, and run by run histograms and marks, each list for itself.
    fn append_all(
        &self,
        request: &WriteRequest<'_>,
        lists: &Lists,
        sink: &dyn SampleSink,
        outcome: &mut Outcome,
    ) -> Result<(), RemoteWriteError> {
        self.append(request, &lists.samples, &lists.series_of, sink, outcome)?;
        let before = outcome.accepted;
        for run in &lists.runs {
            self.append(request, &run.histograms, &run.series_of.histograms, sink, outcome)?;
            self.append(request, &run.marks, &run.series_of.marks, sink, outcome)?;
        }
        outcome.accepted_histograms = outcome.accepted - before;
        Ok(())
    }

    /// Appends, and once more what the store had forgotten the name of.
    fn append<T: Named>(
        &self,
        request: &WriteRequest<'_>,
        samples: &[T],
        series_of: &[u32],
        sink: &dyn SampleSink,
        outcome: &mut Outcome,
    ) -> Result<(), RemoteWriteError> {
        if samples.is_empty() {
            return Ok(());
        }
        let unknown = self.append_once(samples, sink, outcome)?;
        if unknown.is_empty() {
            return Ok(());
        }
        let mut again = Vec::with_capacity(unknown.len());
        for at in unknown {
            let raw = request.raw_labels(&request.series[series_of[at] as usize]);
            // Several samples of one series: the first makes the new name, the others find it.
            match self.rename(raw, samples[at].series(), sink) {
                Ok(series) => again.push(samples[at].renamed(series)),
                Err(Unnamed::BadLabels) => outcome.bad_labels += 1,
                Err(Unnamed::SeriesLimit) => outcome.over_series_limit += 1,
                Err(Unnamed::Store(error)) => return Err(RemoteWriteError::Unavailable(error)),
            }
        }
        let still_unknown = self.append_once(&again, sink, outcome)?;
        if still_unknown.is_empty() {
            return Ok(());
        }
        // The store forgets faster than it names; the sender shall try again.
        Err(RemoteWriteError::Unavailable(AppendError::Unavailable {
            state: "forgetting series",
        }))
    }

    fn append_once<T: Named>(
        &self,
        samples: &[T],
        sink: &dyn SampleSink,
        outcome: &mut Outcome,
    ) -> Result<Vec<usize>, RemoteWriteError> {
        let appended = T::append(samples, sink).map_err(|error| {
            self.metrics.refuse(refusal(&error), samples.len());
            RemoteWriteError::Unavailable(error)
        })?;
        self.metrics.count_appended(&appended);
        outcome.accepted += appended.accepted;
        outcome.too_old += appended.too_old;
        outcome.too_far_ahead += appended.too_far_ahead;
        outcome.conflicting += appended.conflicting;
        Ok(appended.unknown_series)
    }

    fn name(&self, raw: &[u8], sink: &dyn SampleSink) -> Result<SeriesRef, Unnamed> {
        let hash = self.hasher.hash_one(raw);
        if let Some(series) = self.shard(hash).lock().find(hash, raw, &self.hasher) {
            return Ok(series);
        }
        let series = resolve(raw, sink)?;
        self.shard(hash)
            .lock()
            .young_insert(hash, raw, series, &self.hasher);
        Ok(series)
    }

    fn rename(&self, raw: &[u8], forgotten: SeriesRef, sink: &dyn SampleSink) -> Result<SeriesRef, Unnamed> {
        let hash = self.hasher.hash_one(raw);
        match self.shard(hash).lock().find(hash, raw, &self.hasher) {
            Some(series) if series != forgotten => return Ok(series),
            _ => {}
        }
        let series = resolve(raw, sink)?;
        self.shard(hash)
            .lock()
            .young_insert(hash, raw, series, &self.hasher);
        Ok(series)
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // The table uses the top seven and the low bits; the shard takes others.
        &self.shards[(hash >> 48) as usize % SHARDS]
    }
}

/// A sample of a series that the store has named.
trait Named {
    fn series(&self) -> SeriesRef;
    fn renamed(&self, series: SeriesRef) -> Self;
    fn append(samples: &[Self], sink: &dyn SampleSink) -> Result<Appended, AppendError>
    where
        Self: Sized;
}

impl Named for RefSample {
    fn series(&self) -> SeriesRef {
        self.series
    }

    fn renamed(&self, series: SeriesRef) -> Self {
        RefSample { series, ..*self }
    }

    fn append(samples: &[Self], sink: &dyn SampleSink) -> Result<Appended, AppendError> {
        sink.append(samples, Durability::Synced)
    }
}

impl Named for RefHistogram {
    fn series(&self) -> SeriesRef {
        self.series
    }

    fn renamed(&self, series: SeriesRef) -> Self {
        RefHistogram {
            series,
            ..self.clone()
        }
    }

    fn append(samples: &[Self], sink: &dyn SampleSink) -> Result<Appended, AppendError> {
        sink.append_histograms(samples, Durability::Synced)
    }
}

/// What is appended, list by list.
#[derive(Default)]
struct Lists {
    samples: Vec<RefSample>,
    /// For each sample, the place of its series in the request.
    series_of: Vec<u32>,
    /// Histograms and the marks that stood between them.
    runs: [Run; RUNS_MAX],
}

/// Of each series, histograms in a row and the marks that follow them: so none is older than what went before it.
#[derive(Default)]
struct Run {
    histograms: Vec<RefHistogram>,
    marks: Vec<RefSample>,
    series_of: SeriesOf,
}

/// For each sample of a list, the place of its series in the request.
#[derive(Default)]
struct SeriesOf {
    marks: Vec<u32>,
    histograms: Vec<u32>,
}

impl Lists {
    /// Adds the samples of one series.
    fn add(&mut self, request: &WriteRequest<'_>, index: usize, name: SeriesRef, outcome: &mut Outcome) {
        let series = &request.series[index];
        for sample in &request.samples[series.samples.clone()] {
            self.samples.push(RefSample {
                series: name,
                timestamp: Timestamp::from_millis(sample.timestamp_ms),
                value: sample.value,
            });
            self.series_of.push(index as u32);
        }
        let (mut place, mut is_ended) = (0, false);
        for pushed in &request.histograms[series.histograms.clone()] {
            let timestamp = Timestamp::from_millis(pushed.timestamp_ms);
            match &pushed.content {
                PushedContent::Histogram(histogram) => {
                    if std::mem::take(&mut is_ended) {
                        place = (place + 1).min(RUNS_MAX - 1);
                    }
                    let run = &mut self.runs[place];
                    run.histograms.push(RefHistogram {
                        series: name,
                        timestamp,
                        histogram: Arc::clone(histogram),
                    });
                    run.series_of.histograms.push(index as u32);
                }
                PushedContent::Stale => {
                    is_ended = true;
                    let run = &mut self.runs[place];
                    run.marks.push(RefSample {
                        series: name,
                        timestamp,
                        value: stale_nan(),
                    });
                    run.series_of.marks.push(index as u32);
                }
                PushedContent::Invalid(reason) => {
                    outcome.bad_histograms += 1;
                    outcome.bad_histogram.get_or_insert_with(|| reason.clone());
                }
            }
        }
    }
}

impl Shard {
    fn find(&mut self, hash: u64, raw: &[u8], hasher: &DefaultHashBuilder) -> Option<SeriesRef> {
        if let Some((_, series)) = self.young.table.find(hash, |(known, _)| **known == *raw) {
            return Some(*series);
        }
        let found = self
            .old
            .table
            .find_entry(hash, |(known, _)| **known == *raw)
            .ok()?;
        let ((raw, series), _) = found.remove();
        self.insert(hash, raw, series, hasher);
        Some(series)
    }

    fn young_insert(&mut self, hash: u64, raw: &[u8], series: SeriesRef, hasher: &DefaultHashBuilder) {
        if let Some((_, known)) = self.young.table.find_mut(hash, |(known, _)| **known == *raw) {
            *known = series;
            return;
        }
        self.insert(hash, Box::from(raw), series, hasher);
    }

    fn insert(&mut self, hash: u64, raw: Box<[u8]>, series: SeriesRef, hasher: &DefaultHashBuilder) {
        self.young.bytes += raw.len() + ENTRY_BYTES;
        self.young
            .table
            .insert_unique(hash, (raw, series), |(known, _)| hasher.hash_one(&**known));
        if self.young.bytes > GENERATION_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

fn resolve(raw: &[u8], sink: &dyn SampleSink) -> Result<SeriesRef, Unnamed> {
    let labels = labels_of(raw).ok_or(Unnamed::BadLabels)?;
    sink.resolve(&labels).map_err(|error| match error {
        AppendError::SeriesLimit { .. } => Unnamed::SeriesLimit,
        AppendError::Labels { .. } => Unnamed::BadLabels,
        other => Unnamed::Store(other),
    })
}

/// Makes labels of a series' raw bytes; `None` when they cannot name one.
fn labels_of(raw: &[u8]) -> Option<Labels> {
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(16);
    walk_labels(raw, |name, value| pairs.push((name, value))).ok()?;
    pairs.sort_unstable();
    let is_distinct = pairs.windows(2).all(|pair| pair[0].0 != pair[1].0);
    let is_named = pairs.iter().all(|(name, _)| !name.is_empty());
    pairs.retain(|(_, value)| !value.is_empty());
    let has_metric = pairs.iter().any(|(name, _)| *name == METRIC_NAME);
    (is_distinct && is_named && has_metric).then(|| Labels::from_sorted(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_known_and_the_cache_stays_bounded() {
        let (mut shard, hasher) = (Shard::default(), DefaultHashBuilder::default());
        let find = |shard: &mut Shard, raw: &[u8]| shard.find(hasher.hash_one(raw), raw, &hasher);
        let insert = |shard: &mut Shard, raw: &[u8], series| {
            shard.young_insert(hasher.hash_one(raw), raw, SeriesRef(series), &hasher);
        };
        insert(&mut shard, b"used", 1);
        let large = |at: u8| vec![at; 1 << 20];
        for at in 0..40 {
            insert(&mut shard, &large(at), 100 + u64::from(at));
            assert_eq!(find(&mut shard, b"used"), Some(SeriesRef(1)), "after {at}");
            assert!(shard.young.bytes + shard.old.bytes <= 2 * (GENERATION_BYTES_MAX + (2 << 20)));
        }
        assert_eq!(find(&mut shard, &large(0)), None, "the first is forgotten");
        assert_eq!(find(&mut shard, &large(39)), Some(SeriesRef(139)));
    }

    #[test]
    fn equal_hashes_do_not_mislead() {
        let (mut shard, hasher) = (Shard::default(), DefaultHashBuilder::default());
        shard.young_insert(7, b"a", SeriesRef(1), &hasher);
        shard.young_insert(7, b"b", SeriesRef(2), &hasher);
        assert_eq!(shard.find(7, b"a", &hasher), Some(SeriesRef(1)));
        assert_eq!(shard.find(7, b"b", &hasher), Some(SeriesRef(2)));
        assert_eq!(shard.find(7, b"c", &hasher), None);
    }
}

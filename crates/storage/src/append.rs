//! Taking samples in: judging each one, memory, the log, and waiting for the disk.
//!
//! Memory comes first, so that each sample is judged against what is really there; the log decides whether the
//! append is acknowledged. When the log fails, the samples stay in memory, for alerting must go on while the disk is
//! full; equal samples that come again are then logged although they are known.
//! Numbers and histograms take the same way; what differs is the trait [`Incoming`].

use std::sync::Arc;

use marketprism_model::sample::{AppendError, Appended, Durability};
use marketprism_model::{Histogram, Labels, Matcher, RefHistogram, RefSample, SeriesRef};
use parking_lot::{MutexGuard, RwLockWriteGuard};

use crate::block::Times;
use crate::codec::histogram::is_same_bits;
use crate::columns::Mixed;
use crate::config::SyncPolicy;
use crate::head::series::{Outcome, Series};
use crate::head::{self, Shard};
use crate::store::{Shared, Writer};
use crate::wal::log::Log;
use crate::wal::record::{Encoder, Forgotten};

/// A sample is taken in order when it is not older than this before the newest of all, whatever the window says.
const LAG_MS_MIN: i64 = 3_600_000;
/// A sample this old was taken just now: what a series holds from then on is of the time before a clock was set back.
const LIVE_MS_MAX: i64 = 60_000;

/// What a moment of a series holds.
pub(crate) enum Held {
    /// A number, by its bits.
    Number(u64),
    /// A histogram.
    Histogram(Arc<Histogram>),
}

/// A sample on its way in: a number or a histogram.
pub(crate) trait Incoming {
    /// Whether the log needs a segment of the later version for it.
    const IS_HISTOGRAM: bool;
    /// The series.
    fn series(&self) -> SeriesRef;
    /// When.
    fn time(&self) -> i64;
    /// Takes it as the newest of its series.
    fn push(&self, series: &mut Series);
    /// Takes it behind the newest of its series.
    fn insert_late(&self, series: &mut Series) -> Outcome;
    /// Says whether the moment holds just this.
    fn is_held(&self, held: &Held) -> bool;
    /// Adds it to the log.
    fn log(&self, encoder: &mut Encoder);
}

impl Incoming for RefSample {
    const IS_HISTOGRAM: bool = false;

    #[inline]
    fn series(&self) -> SeriesRef {
        self.series
    }

    #[inline]
    fn time(&self) -> i64 {
        self.timestamp.millis()
    }

    #[inline]
    fn push(&self, series: &mut Series) {
        series.push(self.time(), self.value);
    }

    fn insert_late(&self, series: &mut Series) -> Outcome {
        series.insert_late(self.time(), self.value)
    }

    fn is_held(&self, held: &Held) -> bool {
        matches!(held, Held::Number(bits) if *bits == self.value.to_bits())
    }

    #[inline]
    fn log(&self, encoder: &mut Encoder) {
        let (slot, generation) = (head::slot_of(self.series), head::generation_of(self.series));
        encoder.push(slot, generation, self.time(), self.value);
    }
}

impl Incoming for RefHistogram {
    const IS_HISTOGRAM: bool = true;

    fn series(&self) -> SeriesRef {
        self.series
    }

    fn time(&self) -> i64 {
        self.timestamp.millis()
    }

    fn push(&self, series: &mut Series) {
        series.push_histogram(self.time(), &self.histogram);
    }

    fn insert_late(&self, series: &mut Series) -> Outcome {
        series.insert_late_histogram(self.time(), &self.histogram)
    }

    fn is_held(&self, held: &Held) -> bool {
        matches!(held, Held::Histogram(known) if is_same_bits(known, &self.histogram))
    }

    fn log(&self, encoder: &mut Encoder) {
        let (slot, generation) = (head::slot_of(self.series), head::generation_of(self.series));
        encoder.push_histogram(slot, generation, self.time(), &self.histogram);
    }
}

impl Shared {
    /// Appends histograms, unless one of them cannot be: then nothing is taken.
    pub(crate) fn append_histograms(
        &self,
        histograms: &[RefHistogram],
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        for sample in histograms {
            sample.histogram.check()?;
        }
        self.append(histograms, durability)
    }

    /// Appends samples: to memory and then to the log, which decides whether they are acknowledged.
    pub(crate) fn append<T: Incoming>(
        &self,
        samples: &[T],
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        let mut writer = self.writer.lock();
        if writer.is_stopping {
            return Err(AppendError::Unavailable { state: "stopping" });
        }
        let unlogged_to = writer.unlogged_to;
        let prepared = match &mut writer.log {
            Some(log) => log
                .prepare(T::IS_HISTOGRAM && !samples.is_empty())
                .map(|has_failed| {
                    // After a failed fsync, what memory holds may be missing from the disk.
                    if has_failed {
                        self.head.newest()
                    } else {
                        unlogged_to
                    }
                }),
            None => Ok(unlogged_to),
        };
        writer.unlogged_to = *prepared.as_ref().unwrap_or(&unlogged_to);
        let log = writer.log.as_mut().filter(|_| prepared.is_ok());
        let mut batch = Batch::new(self, prepared.as_ref().map_or(i64::MAX, |to| *to), log);
        batch.run(samples);
        let Batch {
            appended,
            late,
            newest,
            oldest,
            forgotten_to,
            ..
        } = batch;
        self.counters.count(&appended, late, T::IS_HISTOGRAM);
        self.head.note(oldest, newest);
        let written = prepared.and_then(|_| self.write(&mut writer, newest.max(forgotten_to)));
        match written {
            Err(reason) => {
                writer.unlogged_to = writer.unlogged_to.max(newest);
                Err(AppendError::Log { reason })
            }
            Ok(()) => {
                let waits = match self.config.sync_policy() {
                    SyncPolicy::Always => true,
                    SyncPolicy::Gathered { .. } => durability == Durability::Synced,
                    SyncPolicy::Never => false,
                };
                let has_log = writer.log.is_some();
                drop(writer);
                if has_log && waits && appended.accepted > 0 {
                    self.sync.flush().map_err(|reason| AppendError::Log {
                        reason: reason.to_string(),
                    })?;
                }
                Ok(appended)
            }
        }
    }

    fn write(&self, writer: &mut MutexGuard<'_, Writer>, newest: i64) -> Result<(), String> {
        let Some(log) = writer.log.as_mut().filter(|log| !log.encoder.is_empty()) else {
            return Ok(());
        };
        let index = self.index.read();
        let labels_of = |slot| {
            let (labels, _) = index
                .tenant(slot)
                .expect("a series with new samples is not removed");
            labels.clone()
        };
        log.write(newest, labels_of).map(|_position| ())
    }

    /// Looks into the blocks for a moment of a series.
    fn held_in_blocks(&self, labels: &Labels, time: i64) -> Option<Held> {
        let matchers: Vec<Matcher> = labels.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
        for block in &self.block_set().blocks {
            if !block.overlaps(time, time) {
                continue;
            }
            let found = block.choose(&matchers).and_then(|chosen| {
                let mut samples = Mixed::default();
                for (other, ordinal) in chosen {
                    if other == *labels {
                        block.read(ordinal, time, time, &mut Times::default(), &mut samples)?;
                    }
                }
                let number = samples.numbers.values.first();
                let histogram = samples.histograms.pop();
                Ok(number
                    .map(|value| Held::Number(value.to_bits()))
                    .or(histogram.map(|(_, histogram)| Held::Histogram(histogram))))
            });
            // A damaged block is reported by its reader, and holds nothing that could be compared.
            if let Ok(Some(held)) = self.or_leave_out(found) {
                return Some(held);
            }
        }
        None
    }
}

/// One append under way.
struct Batch<'a> {
    store: &'a Shared,
    log: Option<&'a mut Log>,
    unlogged_to: i64,
    now: i64,
    newest_allowed: i64,
    oldest_in_order: i64,
    oldest_late: i64,
    appended: Appended,
    late: u64,
    oldest: i64,
    newest: i64,
    /// Positions of samples older than the head's floor: blocks decide about them.
    behind: Vec<usize>,
    /// The newest moment that was forgotten because the clock was set back.
    forgotten_to: i64,
}

impl<'a> Batch<'a> {
    fn new(store: &'a Shared, unlogged_to: i64, log: Option<&'a mut Log>) -> Self {
        let now = store.clock.now().millis();
        let millis = |span: std::time::Duration| span.as_millis() as i64;
        let window = millis(store.config.out_of_order_window);
        let newest = store.head.newest().min(now);
        let retained = now.saturating_sub(millis(store.config.retention));
        Batch {
            store,
            log,
            unlogged_to,
            now,
            newest_allowed: now.saturating_add(millis(store.config.future_limit)),
            oldest_in_order: newest.saturating_sub(window.max(LAG_MS_MIN)).max(retained),
            oldest_late: newest.saturating_sub(window).max(retained),
            appended: Appended::default(),
            late: 0,
            oldest: i64::MAX,
            newest: i64::MIN,
            behind: Vec::new(),
            forgotten_to: i64::MIN,
        }
    }

    fn run<T: Incoming>(&mut self, samples: &[T]) {
        // No clock that shows this time would have let them in. Left where they are, they would stand between the
        // samples to come, and rules would judge by them.
        let newest = self.store.head.newest();
        if newest > self.newest_allowed {
            self.rewind(samples, newest);
        }
        let mut locked: Option<(usize, RwLockWriteGuard<'_, Shard>)> = None;
        for (position, sample) in samples.iter().enumerate() {
            let series = sample.series();
            let (slot, generation) = (head::slot_of(series), head::generation_of(series));
            let (number, place) = head::place(slot);
            if !matches!(&locked, Some((locked, _)) if *locked == number) {
                drop(locked.take());
                locked = Some((number, self.store.head.write(number)));
            }
            let (_, shard) = locked.as_mut().expect("locked above");
            let floor = shard.floor;
            let Some(series) = shard.get_mut(place, generation).filter(|_| generation != 0) else {
                self.appended.unknown_series.push(position);
                continue;
            };
            self.take(position, sample, series, floor);
        }
        drop(locked);
        for position in std::mem::take(&mut self.behind) {
            self.take_behind(&samples[position]);
        }
    }

    #[inline]
    fn take<T: Incoming>(&mut self, position: usize, sample: &T, series: &mut Series, floor: i64) {
        let time = sample.time();
        if time > self.newest_allowed {
            self.appended.too_far_ahead += 1;
            return;
        }
        match series.newest() {
            Some(newest) if time <= newest => {
                // The newest sample itself may come again whatever the window: a sender repeats what it is unsure of.
                if time < self.oldest_late && time < newest {
                    self.appended.too_old += 1;
                } else if time < floor {
                    self.behind.push(position);
                } else {
                    let outcome = sample.insert_late(series);
                    self.settle(outcome, sample, true);
                }
            }
            _ if time < self.oldest_in_order => self.appended.too_old += 1,
            _ if time < floor => self.behind.push(position),
            _ => {
                sample.push(series);
                self.settle(Outcome::Taken, sample, false);
            }
        }
    }

    /// Forgets what memory holds of the time before the clock was set back.
    #[cold]
    fn rewind<T: Incoming>(&mut self, samples: &[T], newest: i64) {
        let times = samples.iter().map(T::time);
        let live = times.filter(|time| *time >= self.now.saturating_sub(LIVE_MS_MAX));
        let from = live.min().unwrap_or(i64::MAX).min(self.now + 1);
        self.store.head.rewind(from);
        self.forgotten_to = newest;
        if let Some(log) = &mut self.log {
            log.encoder.forget(Forgotten { from, newest });
        }
        tracing::warn!(
            ahead_ms = newest - self.now,
            "the clock was set back; samples that lie ahead of it are forgotten"
        );
    }

    /// Takes a sample of a time that has moved to blocks already.
    fn take_behind<T: Incoming>(&mut self, sample: &T) {
        let (slot, time) = (head::slot_of(sample.series()), sample.time());
        let labels = self
            .store
            .index
            .read()
            .tenant(slot)
            .map(|(labels, _)| labels.clone());
        let Some(labels) = labels else { return };
        let outcome = match self.store.held_in_blocks(&labels, time) {
            Some(held) if sample.is_held(&held) => Outcome::Known,
            Some(_) => Outcome::Conflicting,
            None => {
                let (shard, place) = head::place(slot);
                let mut shard = self.store.head.write(shard);
                let Some(series) = shard.get_mut(place, head::generation_of(sample.series())) else {
                    return;
                };
                put(series, sample)
            }
        };
        self.settle(outcome, sample, true);
    }

    #[inline]
    fn settle<T: Incoming>(&mut self, outcome: Outcome, sample: &T, is_late: bool) {
        let time = sample.time();
        let is_logged = match outcome {
            Outcome::Taken => true,
            Outcome::Known => time <= self.unlogged_to,
            Outcome::Conflicting => {
                self.appended.conflicting += 1;
                return;
            }
        };
        self.appended.accepted += 1;
        if outcome == Outcome::Taken {
            self.late += u64::from(is_late);
            self.oldest = self.oldest.min(time);
        }
        self.newest = self.newest.max(time);
        if is_logged && let Some(log) = &mut self.log {
            sample.log(&mut log.encoder);
        }
    }
}

/// Takes a sample wherever it belongs in its series.
pub(crate) fn put<T: Incoming>(series: &mut Series, sample: &T) -> Outcome {
    if series.newest().is_none_or(|newest| newest < sample.time()) {
        sample.push(series);
        Outcome::Taken
    } else {
        sample.insert_late(series)
    }
}

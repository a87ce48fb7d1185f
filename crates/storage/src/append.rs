//! Taking samples in: judging each one, memory, the log, and waiting for the disk.
//!
//! Memory comes first, so that each sample is judged against what is really there; the log decides whether the
//! append is acknowledged. When the log fails, the samples stay in memory, for alerting must go on while the disk is
//! full; equal samples that come again are then logged although they are known.

use marketprism_model::sample::{AppendError, Appended, Durability};
use marketprism_model::{Labels, Matcher, RefSample};
use parking_lot::{MutexGuard, RwLockWriteGuard};

use crate::block::Times;
use crate::columns::Columns;
use crate::config::SyncPolicy;
use crate::head::series::{Outcome, Series};
use crate::head::{self, Shard};
use crate::store::{Shared, Writer};
use crate::wal::log::Log;
use crate::wal::record::Forgotten;

/// A sample is taken in order when it is not older than this before the newest of all, whatever the window says.
const LAG_MS_MIN: i64 = 3_600_000;
/// A sample this old was taken just now: what a series holds from then on is of the time before a clock was set back.
const LIVE_MS_MAX: i64 = 60_000;

impl Shared {
    /// Appends samples: to memory and then to the log, which decides whether they are acknowledged.
    pub(crate) fn append(
        &self,
        samples: &[RefSample],
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        let mut writer = self.writer.lock();
        if writer.is_stopping {
            return Err(AppendError::Unavailable { state: "stopping" });
        }
        let unlogged_to = writer.unlogged_to;
        let prepared = match &mut writer.log {
            Some(log) => log.prepare().map(|has_failed| {
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
        self.counters.count(&appended, late);
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
    fn bits_in_blocks(&self, labels: &Labels, time: i64) -> Option<u64> {
        let matchers: Vec<Matcher> = labels.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
        for block in &self.block_set().blocks {
            if !block.overlaps(time, time) {
                continue;
            }
            let found = block.choose(&matchers).and_then(|chosen| {
                let mut columns = Columns::default();
                for (other, ordinal) in chosen {
                    if other == *labels {
                        block.read(ordinal, time, time, &mut Times::default(), &mut columns)?;
                    }
                }
                Ok(columns.values.first().map(|value| value.to_bits()))
            });
            // A damaged block is reported by its reader, and holds nothing that could be compared.
            if let Ok(Some(bits)) = self.or_leave_out(found) {
                return Some(bits);
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

    fn run(&mut self, samples: &[RefSample]) {
        // No clock that shows this time would have let them in. Left where they are, they would stand between the
        // samples to come, and rules would judge by them.
        let newest = self.store.head.newest();
        if newest > self.newest_allowed {
            self.rewind(samples, newest);
        }
        let mut locked: Option<(usize, RwLockWriteGuard<'_, Shard>)> = None;
        for (position, sample) in samples.iter().enumerate() {
            let (slot, generation) = (head::slot_of(sample.series), head::generation_of(sample.series));
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
    fn take(&mut self, position: usize, sample: &RefSample, series: &mut Series, floor: i64) {
        let time = sample.timestamp.millis();
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
                    let outcome = series.insert_late(time, sample.value);
                    self.settle(outcome, sample, true);
                }
            }
            _ if time < self.oldest_in_order => self.appended.too_old += 1,
            _ if time < floor => self.behind.push(position),
            _ => {
                series.push(time, sample.value);
                self.settle(Outcome::Taken, sample, false);
            }
        }
    }

    /// Forgets what memory holds of the time before the clock was set back.
    #[cold]
    fn rewind(&mut self, samples: &[RefSample], newest: i64) {
        let times = samples.iter().map(|sample| sample.timestamp.millis());
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
    fn take_behind(&mut self, sample: &RefSample) {
        let (slot, time) = (head::slot_of(sample.series), sample.timestamp.millis());
        let labels = self
            .store
            .index
            .read()
            .tenant(slot)
            .map(|(labels, _)| labels.clone());
        let Some(labels) = labels else { return };
        let outcome = match self.store.bits_in_blocks(&labels, time) {
            Some(bits) if bits == sample.value.to_bits() => Outcome::Known,
            Some(_) => Outcome::Conflicting,
            None => {
                let (shard, place) = head::place(slot);
                let mut shard = self.store.head.write(shard);
                let Some(series) = shard.get_mut(place, head::generation_of(sample.series)) else {
                    return;
                };
                put(series, time, sample.value)
            }
        };
        self.settle(outcome, sample, true);
    }

    #[inline]
    fn settle(&mut self, outcome: Outcome, sample: &RefSample, is_late: bool) {
        let time = sample.timestamp.millis();
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
            let (slot, generation) = (head::slot_of(sample.series), head::generation_of(sample.series));
            log.encoder.push(slot, generation, time, sample.value);
        }
    }
}

/// Takes a sample wherever it belongs in its series.
pub(crate) fn put(series: &mut Series, time: i64, value: f64) -> Outcome {
    if series.newest().is_none_or(|newest| newest < time) {
        series.push(time, value);
        Outcome::Taken
    } else {
        series.insert_late(time, value)
    }
}

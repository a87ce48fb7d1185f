//! The store: the ports by which samples come in and series are read, and what they share.
//!
//! Lock order: maintenance, writer, index, shard. Appends go one at a time through the writer's lock, so the order
//! of the log is the order of memory; readers never take it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use marketprism_model::sample::{AppendError, Appended, Durability};
use marketprism_model::series::ReadError;
use marketprism_model::{
    Clock, Labels, Matcher, RefSample, SampleSink, Selection, SeriesRef, SeriesSource, TimeRange, Timestamp,
};
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockWriteGuard};

use crate::block::Block;
use crate::columns::Columns;
use crate::config::{Config, SyncMode};
use crate::files::{Files, FolderLock};
use crate::head::index::Index;
use crate::head::series::{Outcome, Series};
use crate::head::{self, Head, Shard};
use crate::select::{self, BlockSet, Choices};
use crate::stats::{Counters, DamagedBlock, ReplayReport, Stats};
use crate::wal::log::Log;
use crate::wal::sync::Sync;

/// A sample is taken in order when it is not older than this before the newest of all, whatever the window says.
const LAG_MS_MIN: i64 = 3_600_000;
/// The labels of a series take no more bytes together.
const LABEL_BYTES_MAX: usize = 64 << 10;

/// The writing end; one thread at a time.
pub(crate) struct Writer {
    /// `None` in a store without files.
    pub log: Option<Log>,
    /// Samples up to this moment may be in memory and not in the log, so equal ones that come again are logged.
    unlogged_to: i64,
    is_stopping: bool,
}

/// What the store's parts share.
pub struct Shared {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    /// `None` in a store without files.
    pub(crate) files: Option<Arc<dyn Files>>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) index: RwLock<Index>,
    pub(crate) head: Head,
    blocks: RwLock<Arc<BlockSet>>,
    damaged: Mutex<Vec<DamagedBlock>>,
    pub(crate) choices: Mutex<Choices>,
    /// Held while maintenance runs.
    pub(crate) maintenance: Mutex<()>,
    pub(crate) maintenance_error: Mutex<Option<String>>,
    pub(crate) counters: Counters,
    pub(crate) next_block: AtomicU64,
    pub(crate) sync: Arc<Sync>,
    replay: Mutex<ReplayReport>,
    sync_thread: Mutex<Option<JoinHandle<()>>>,
    _lock: Option<FolderLock>,
}

/// The sample store. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

impl Store {
    /// Makes a store without files, for tests of rules: nothing outlives it, and samples past the retention of
    /// 30 days are forgotten.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Self {
        let shared = Shared::new(
            Config::new(""),
            clock,
            None,
            None,
            BlockSet::default(),
            Vec::new(),
        );
        Store {
            shared: Arc::new(shared),
        }
    }

    /// Tells how the store does. Walks all series: for pages and scrapes, not for every request.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Counts the series in the head.
    pub fn series_count(&self) -> usize {
        self.shared.index.read().series_count()
    }

    /// Takes no more samples, brings the log to the disk and stops the store's thread. Reading still works.
    pub fn shutdown(&self) -> Result<(), AppendError> {
        self.shared.stop()
    }
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        files: Option<Arc<dyn Files>>,
        lock: Option<FolderLock>,
        set: BlockSet,
        damaged: Vec<DamagedBlock>,
    ) -> Self {
        Shared {
            config,
            clock,
            files,
            writer: Mutex::new(Writer {
                log: None,
                unlogged_to: i64::MIN,
                is_stopping: false,
            }),
            index: RwLock::default(),
            head: Head::new(),
            blocks: RwLock::new(Arc::new(set)),
            damaged: Mutex::new(damaged),
            choices: Mutex::default(),
            maintenance: Mutex::new(()),
            maintenance_error: Mutex::new(None),
            counters: Counters::default(),
            next_block: AtomicU64::new(1),
            sync: Arc::default(),
            replay: Mutex::default(),
            sync_thread: Mutex::new(None),
            _lock: lock,
        }
    }

    /// Ends the opening: appends may come.
    pub(crate) fn start(&self, log: Log, replay: ReplayReport) -> std::io::Result<()> {
        self.writer.lock().log = Some(log);
        *self.replay.lock() = replay;
        if let SyncMode::Interval(interval) = self.config.sync {
            let sync = Arc::clone(&self.sync);
            let thread = std::thread::Builder::new()
                .name("storage-sync".to_owned())
                .spawn(move || sync.run(interval))?;
            *self.sync_thread.lock() = Some(thread);
        }
        Ok(())
    }

    fn stop(&self) -> Result<(), AppendError> {
        let has_log = {
            let mut writer = self.writer.lock();
            writer.is_stopping = true;
            writer.log.is_some()
        };
        self.sync.stop();
        if let Some(thread) = self.sync_thread.lock().take() {
            // A panic there has been reported by the panic hook; the flush below decides.
            let _ = thread.join();
        }
        if !has_log {
            return Ok(());
        }
        self.sync.flush().map_err(|reason| AppendError::Log {
            reason: reason.to_string(),
        })
    }

    pub(crate) fn block_set(&self) -> Arc<BlockSet> {
        Arc::clone(&self.blocks.read())
    }

    /// Changes the set of blocks; readers see the old or the new one.
    pub(crate) fn change_blocks(&self, change: impl FnOnce(&mut BlockSet)) {
        let mut blocks = self.blocks.write();
        let mut set = BlockSet {
            blocks: blocks.blocks.clone(),
            floor: blocks.floor,
        };
        change(&mut set);
        set.blocks
            .sort_by_key(|block| (block.meta().min_time, block.meta().ulid));
        *blocks = Arc::new(set);
    }

    /// After damage was found in a block, leaves the block out; gives the outcome back.
    pub(crate) fn or_leave_out<T>(&self, outcome: Result<T, ReadError>) -> Result<T, ReadError> {
        if let Err(ReadError::Corrupt { block, reason }) = &outcome {
            self.change_blocks(|set| set.blocks.retain(|block| !block.is_damaged()));
            let mut damaged = self.damaged.lock();
            if damaged.iter().all(|known| known.name != *block) {
                damaged.push(DamagedBlock {
                    name: block.clone(),
                    reason: reason.clone(),
                });
            }
        }
        outcome
    }

    fn check_labels(labels: &Labels) -> Result<(), AppendError> {
        let refuse = |reason: String| Err(AppendError::Labels { reason });
        if labels.is_empty() {
            return refuse("a series needs at least one label".to_owned());
        }
        let bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > LABEL_BYTES_MAX {
            return refuse(format!("{bytes} bytes together, at most {LABEL_BYTES_MAX}"));
        }
        if labels.iter().any(|(name, _)| name.is_empty()) {
            return refuse("a label without a name".to_owned());
        }
        Ok(())
    }

    /// Gives the reference of a series, making the series when it is new.
    pub(crate) fn resolve(&self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        if let Some((slot, generation)) = self.index.read().find(labels) {
            return Ok(head::reference(slot, generation));
        }
        Self::check_labels(labels)?;
        self.seat(labels, self.config.series_limit)
    }

    /// Gives the reference of a series, making it when it is new and there are fewer than `limit`.
    pub(crate) fn seat(&self, labels: &Labels, limit: usize) -> Result<SeriesRef, AppendError> {
        let mut index = self.index.write();
        if let Some((slot, generation)) = index.find(labels) {
            return Ok(head::reference(slot, generation));
        }
        if index.series_count() >= limit {
            self.counters.refused_series.fetch_add(1, Ordering::Relaxed);
            return Err(AppendError::SeriesLimit { limit });
        }
        let (slot, generation) = index.add(labels.clone());
        self.head.seat(slot, generation, self.clock.now().millis());
        self.counters.series_created.fetch_add(1, Ordering::Relaxed);
        Ok(head::reference(slot, generation))
    }

    fn append(&self, samples: &[RefSample], durability: Durability) -> Result<Appended, AppendError> {
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
            ..
        } = batch;
        self.counters.count(&appended, late);
        self.head.note(oldest, newest);
        let written = prepared.and_then(|_| self.write(&mut writer, newest));
        match written {
            Err(reason) => {
                writer.unlogged_to = writer.unlogged_to.max(newest);
                Err(AppendError::Log { reason })
            }
            Ok(()) => {
                let waits = self.config.sync == SyncMode::Durable || durability == Durability::Synced;
                let has_log = writer.log.is_some();
                drop(writer);
                if has_log && waits && self.config.sync != SyncMode::Os && appended.accepted > 0 {
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
                        block.read(ordinal, time, time, &mut columns)?;
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

    fn stats(&self) -> Stats {
        let set = self.block_set();
        let (wal_segments, wal_bytes) = {
            let writer = self.writer.lock();
            writer.log.as_ref().map_or((0, 0), |log| log.size())
        };
        let (wal_errors, wal_last_error) = self.sync.errors();
        let mut head_samples = 0;
        for shard in 0..self.head.shard_count() {
            let shard = self.head.read(shard);
            head_samples += shard
                .seats()
                .map(|(_, seat)| seat.series.count() as u64)
                .sum::<u64>();
        }
        let moment = |time: i64| Some(Timestamp::from_millis(time));
        let block_oldest = set.blocks.iter().map(|block| block.meta().min_time).min();
        let block_newest = set.blocks.iter().map(|block| block.meta().max_time).max();
        let head_oldest = Some(self.head.oldest()).filter(|oldest| *oldest != i64::MAX);
        let head_newest = Some(self.head.newest()).filter(|newest| *newest != i64::MIN);
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Stats {
            series: self.index.read().series_count(),
            series_limit: self.config.series_limit,
            series_created: get(&counters.series_created),
            series_removed: get(&counters.series_removed),
            head_samples,
            appended: get(&counters.appended),
            appended_late: get(&counters.appended_late),
            refused_too_old: get(&counters.too_old),
            refused_too_far_ahead: get(&counters.too_far_ahead),
            refused_conflicting: get(&counters.conflicting),
            refused_series: get(&counters.refused_series),
            oldest: block_oldest.into_iter().chain(head_oldest).min().and_then(moment),
            newest: block_newest.into_iter().chain(head_newest).max().and_then(moment),
            wal_segments,
            wal_bytes,
            wal_errors,
            wal_last_error,
            blocks: set.blocks.len(),
            block_bytes: set.blocks.iter().map(|block| block.bytes()).sum(),
            block_samples: set.blocks.iter().map(|block| block.meta().samples).sum(),
            damaged_blocks: self.damaged.lock().clone(),
            blocks_cut: get(&counters.blocks_cut),
            blocks_deleted: get(&counters.blocks_deleted),
            maintenance_errors: get(&counters.maintenance_errors),
            maintenance_last_error: self.maintenance_error.lock().clone(),
            selections: self.choices.lock().count(),
            replay: self.replay.lock().clone(),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody is left to be told; whoever wants to know calls `shutdown`.
        let _ = self.stop();
    }
}

/// One append under way.
struct Batch<'a> {
    store: &'a Shared,
    log: Option<&'a mut Log>,
    unlogged_to: i64,
    newest_allowed: i64,
    oldest_in_order: i64,
    oldest_late: i64,
    appended: Appended,
    late: u64,
    oldest: i64,
    newest: i64,
    /// Positions of samples older than the head's floor: blocks decide about them.
    behind: Vec<usize>,
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
            newest_allowed: now.saturating_add(millis(store.config.future_limit)),
            oldest_in_order: newest.saturating_sub(window.max(LAG_MS_MIN)).max(retained),
            oldest_late: newest.saturating_sub(window).max(retained),
            appended: Appended::default(),
            late: 0,
            oldest: i64::MAX,
            newest: i64::MIN,
            behind: Vec::new(),
        }
    }

    fn run(&mut self, samples: &[RefSample]) {
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

impl SampleSink for Store {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        self.shared.resolve(labels)
    }

    /// Appends samples: to the log, then to memory, in that they were given.
    ///
    /// After [`AppendError::Log`] the samples are visible in memory, so that alerting goes on while the disk is
    /// full; they are not acknowledged, and are logged when they come again.
    fn append(&self, samples: &[RefSample], durability: Durability) -> Result<Appended, AppendError> {
        self.shared.append(samples, durability)
    }
}

impl SeriesSource for Store {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        Ok(select::select(&self.shared, matchers, range)?)
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, ReadError> {
        let mut names = Vec::new();
        if matchers.is_empty() {
            if range.end.millis() >= self.shared.head.oldest() {
                names = self.shared.index.read().label_names();
            }
            for block in self.overlapping(range) {
                names.extend(self.shared.or_leave_out(block.label_names())?);
            }
        } else {
            let chosen = select::select(&self.shared, matchers, range)?;
            let pairs = chosen.labels().iter().flat_map(Labels::iter);
            let unique: std::collections::BTreeSet<&str> = pairs.map(|(name, _)| name).collect();
            names = unique.into_iter().map(str::to_owned).collect();
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, ReadError> {
        let mut values = Vec::new();
        if matchers.is_empty() {
            if range.end.millis() >= self.shared.head.oldest() {
                values = self.shared.index.read().label_values(name);
            }
            for block in self.overlapping(range) {
                values.extend(self.shared.or_leave_out(block.label_values(name))?);
            }
        } else {
            let chosen = select::select(&self.shared, matchers, range)?;
            let found = chosen.labels().iter().filter_map(|labels| labels.get(name));
            let unique: std::collections::BTreeSet<&str> = found.collect();
            values = unique.into_iter().map(str::to_owned).collect();
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }
}

impl Store {
    fn overlapping(&self, range: TimeRange) -> Vec<Arc<Block>> {
        let set = self.shared.block_set();
        set.overlapping(range).cloned().collect()
    }
}

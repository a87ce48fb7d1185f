//! The store: the ports by which samples come in and series are read, and what they share.
//!
//! Lock order: maintenance, writer, index, shard. Appends go one at a time through the writer's lock, so the order
//! of the log is the order of memory; readers never take it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;

use marketprism_model::sample::{AppendError, Appended, Durability};
use marketprism_model::series::{Bookmark, ReadError};
use marketprism_model::{
    Clock, Labels, Matcher, RefHistogram, RefSample, SampleSink, Selection, SeriesRef, SeriesSource,
    TimeRange, Timestamp,
};
use parking_lot::{Mutex, RwLock};

use crate::block::Block;
use crate::config::{Config, SyncPolicy};
use crate::files::{Files, FolderLock};
use crate::head::index::{Changes, Index};
use crate::head::{self, Head};
use crate::kept::{Kept, Limit};
use crate::select::{self, BlockSet, Choices};
use crate::stats::{Counters, DamagedBlock, ReplayReport, Stats};
use crate::wal::log::Log;
use crate::wal::sync::Sync;

/// The labels of a series take no more bytes together.
const LABEL_BYTES_MAX: usize = 64 << 10;

/// The writing end; one thread at a time.
pub(crate) struct Writer {
    /// `None` in a store without files.
    pub log: Option<Log>,
    /// Samples up to this moment may be in memory and not in the log, so equal ones that come again are logged.
    pub unlogged_to: i64,
    /// No more appends are taken.
    pub is_stopping: bool,
}

/// What the store's parts share.
pub struct Shared {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    /// `None` in a store without files.
    pub(crate) files: Option<Arc<dyn Files>>,
    /// What the store no longer needs and a copy under way may; `None` in a store without files.
    pub(crate) kept: Option<Arc<Kept>>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) index: RwLock<Index>,
    /// The number of the index's last change, for who need not look into it otherwise.
    pub(crate) index_changes: Changes,
    pub(crate) head: Head,
    blocks: RwLock<Arc<BlockSet>>,
    /// The newest moment in any of the blocks, `i64::MIN` without samples in any.
    blocks_to: AtomicI64,
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
    /// Held until the log is closed, though somebody may still hold the store then.
    lock: Mutex<Option<FolderLock>>,
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
        let sync = Arc::new(Sync::new(Arc::clone(&clock), config.sync_policy()));
        let kept = files.as_ref().map(|files| {
            let limit = Limit {
                age: config.copy_grace,
                bytes: config.copy_grace_bytes,
            };
            Arc::new(Kept::new(Arc::clone(files), Arc::clone(&clock), limit))
        });
        let index = Index::default();
        Shared {
            config,
            clock,
            files,
            kept,
            writer: Mutex::new(Writer {
                log: None,
                unlogged_to: i64::MIN,
                is_stopping: false,
            }),
            index_changes: index.changes(),
            index: RwLock::new(index),
            head: Head::new(),
            blocks_to: AtomicI64::new(set.newest()),
            blocks: RwLock::new(Arc::new(set)),
            damaged: Mutex::new(damaged),
            choices: Mutex::default(),
            maintenance: Mutex::new(()),
            maintenance_error: Mutex::new(None),
            counters: Counters::default(),
            next_block: AtomicU64::new(1),
            sync,
            replay: Mutex::default(),
            sync_thread: Mutex::new(None),
            lock: Mutex::new(lock),
        }
    }

    /// Ends the opening: appends may come.
    pub(crate) fn start(&self, log: Log, replay: ReplayReport) -> std::io::Result<()> {
        self.writer.lock().log = Some(log);
        *self.replay.lock() = replay;
        if let SyncPolicy::Gathered { interval, .. } = self.config.sync_policy() {
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
        // Whoever opens the folder next must not meet a block that is being cut or deleted.
        let _alone = self.maintenance.lock();
        let flushed = self.sync.flush().map_err(|reason| AppendError::Log {
            reason: reason.to_string(),
        });
        self.lock.lock().take();
        flushed
    }

    pub(crate) fn block_set(&self) -> Arc<BlockSet> {
        Arc::clone(&self.blocks.read())
    }

    /// Says whether no block has samples at `start` or later.
    pub(crate) fn is_behind_blocks(&self, start: i64) -> bool {
        self.blocks_to.load(Ordering::Acquire) < start
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
        self.blocks_to.store(set.newest(), Ordering::Release);
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

    fn stats(&self) -> Stats {
        let set = self.block_set();
        let (wal_segments, wal_bytes) = {
            let writer = self.writer.lock();
            writer.log.as_ref().map_or((0, 0), |log| log.size())
        };
        let (wal_errors, wal_last_error) = self.sync.errors();
        let waiting = self.sync.waiting();
        let (kept_files, kept_bytes) = self.kept.as_ref().map_or((0, 0), |kept| kept.size());
        let (mut head_samples, mut head_histograms, mut head_chunks) = (0, 0, 0);
        for shard in 0..self.head.shard_count() {
            for (_, seat) in self.head.read(shard).seats() {
                head_samples += seat.series.count() as u64;
                head_histograms += seat.series.histogram_count() as u64;
                head_chunks += seat.series.chunk_count() as u64;
            }
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
            head_histograms,
            head_chunks,
            appended: get(&counters.appended),
            appended_histograms: get(&counters.appended_histograms),
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
            wal_unsynced_appends: waiting.appends,
            wal_unsynced_age_seconds: waiting.age.map(|age| age.as_secs_f64()),
            wal_syncs: waiting.syncs,
            wal_last_sync: waiting.last_sync,
            wal_last_sync_seconds: waiting.last_sync_took.as_secs_f64(),
            kept_files,
            kept_bytes,
            blocks: set.blocks.len(),
            block_bytes: set.blocks.iter().map(|block| block.bytes()).sum(),
            block_samples: set.blocks.iter().map(|block| block.meta().samples).sum(),
            block_histograms: set.blocks.iter().map(|block| block.meta().histograms).sum(),
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

impl SampleSink for Store {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        self.shared.resolve(labels)
    }

    /// Appends samples to memory and to the log.
    ///
    /// After [`AppendError::Log`] the samples are visible in memory, so that alerting goes on while the disk is
    /// full; they are not acknowledged, and are logged when they come again.
    fn append(&self, samples: &[RefSample], durability: Durability) -> Result<Appended, AppendError> {
        self.shared.append(samples, durability)
    }

    /// Appends histograms to memory and to the log, as numbers are.
    ///
    /// When one does not pass [`marketprism_model::Histogram::check`], nothing is taken: that is the door's duty.
    fn append_histograms(
        &self,
        histograms: &[RefHistogram],
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        self.shared.append_histograms(histograms, durability)
    }
}

impl SeriesSource for Store {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        Ok(select::select(&self.shared, matchers, range)?)
    }

    fn select_again(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        bookmark: &Bookmark,
    ) -> Result<Arc<dyn Selection>, ReadError> {
        Ok(select::select_again(&self.shared, matchers, range, bookmark)?)
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

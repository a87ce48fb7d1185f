//! Housekeeping: cutting blocks from the head, dropping what the log no longer needs, retention, idle series.
//!
//! A cut goes so, and a crash between any two steps loses nothing and doubles nothing:
//! 1. The log starts a new segment; every sample in lower ones is in memory.
//! 2. Samples older than the cut are written to blocks, one for each two hours that have any. Each block says in
//!    its description which moments of which segments it has taken over, so replay passes them over from the very
//!    rename that made the block real.
//! 3. The blocks are shown to readers; only then memory forgets what they hold. A series that got a late sample
//!    meanwhile keeps everything until the next cut, and readers see equal samples once.
//! 4. Segments of which every sample is in blocks are no longer needed. They are deleted a while later, as the files
//!    of deleted blocks are: see `kept`.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use marketprism_model::{Labels, SeriesRef, Timestamp, kill_point};
use thiserror::Error;

use crate::block::meta::Cut;
use crate::block::ulid::Ulid;
use crate::block::writer::{DELETED, Writer};
use crate::block::{Block, BlockError};
use crate::columns::Mixed;
use crate::files::Files;
use crate::head::{self, Head, Seat};
use crate::kept::{self, Doomed};
use crate::store::{Shared, Store};

/// A block covers this much, aligned to the epoch.
pub const BLOCK_MS: i64 = 2 * 3_600_000;
/// The head is cut when its samples span more than this.
pub const HEAD_MS_MAX: i64 = 3 * 3_600_000;

/// So many series are cut under one lock.
const FORGET_RUN: usize = 256;

/// Why maintenance could not be finished; what was there is there still, and the next run tries again.
#[derive(Debug, Error)]
pub enum MaintainError {
    /// A block cannot be written.
    #[error("cutting a block: {0}")]
    Cut(io::Error),
    /// A block that was just written cannot be read.
    #[error("reading back a new block: {0}")]
    ReadBack(BlockError),
    /// What is no longer needed cannot be deleted.
    #[error("deleting log segments or blocks that are no longer needed: {0}")]
    Release(io::Error),
    /// A block cannot be deleted.
    #[error("deleting block {block}: {error}")]
    Retention {
        /// The block.
        block: Ulid,
        /// The system's words.
        error: io::Error,
    },
}

/// What a run of maintenance has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Maintained {
    /// Blocks cut.
    pub blocks_cut: usize,
    /// Blocks deleted by retention.
    pub blocks_deleted: usize,
    /// Log segments deleted.
    pub segments_deleted: usize,
    /// Series removed from the head because nothing of them is in memory.
    pub series_removed: usize,
}

/// A series at the time of a cut.
struct Candidate {
    labels: Labels,
    series: SeriesRef,
    /// How many samples were written to blocks.
    written: usize,
}

impl Store {
    /// Does what has become due by `now`: for a loop that calls once a minute, off the async threads.
    ///
    /// Every step is tried, even when an earlier one failed; the first failure is given back, and kept for the
    /// statistics until a run succeeds. After a shutdown nothing is done.
    pub fn maintain(&self, now: Timestamp) -> Result<Maintained, MaintainError> {
        let _alone = self.shared.maintenance.lock();
        let mut done = Maintained::default();
        if self.shared.writer.lock().is_stopping {
            // The folder may be another store's by now.
            return Ok(done);
        }
        let cut = self.shared.cut_due(now.millis(), &mut done);
        let retained = self.shared.retain(now.millis(), &mut done);
        let released = self.shared.release(&mut done);
        let outcome = cut.and(retained).and(released).map(|()| done);
        *self.shared.maintenance_error.lock() = outcome.as_ref().err().map(|error| error.to_string());
        if outcome.is_err() {
            self.shared
                .counters
                .maintenance_errors
                .fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}

impl Shared {
    fn cut_due(&self, now: i64, done: &mut Maintained) -> Result<(), MaintainError> {
        let Some(files) = self.files.clone() else {
            let retention = self.config.retention.as_millis() as i64;
            self.forget(now.saturating_sub(retention), None);
            done.series_removed += self.remove_idle(now.saturating_sub(retention));
            return Ok(());
        };
        // A clock that has been set back must not make samples "ahead" push out those of now.
        let newest = self.head.newest().min(now);
        loop {
            // What came late, behind the last cut, waits for the next one.
            let oldest = self.head.oldest().max(self.block_set().floor);
            if newest.saturating_sub(oldest) <= HEAD_MS_MAX {
                return Ok(());
            }
            let end = oldest - oldest.rem_euclid(BLOCK_MS) + BLOCK_MS;
            self.cut(&files, now, end, done)?;
        }
    }

    /// Moves all samples older than `end` to blocks.
    fn cut(
        &self,
        files: &Arc<dyn Files>,
        now: i64,
        end: i64,
        done: &mut Maintained,
    ) -> Result<(), MaintainError> {
        let dir = self.config.dir.join(crate::open::BLOCK_DIR);
        let segments_below = {
            let mut writer = self.writer.lock();
            writer.log.as_mut().map_or(u64::MAX, |log| {
                log.rotate();
                log.next_number()
            })
        };
        let mut candidates = self.candidates();
        let mut blocks = Vec::new();
        for from in self.ranges_before(&candidates, end) {
            let number = self.next_block.fetch_add(1, Ordering::Relaxed);
            let cut = Cut {
                from,
                to: (from + BLOCK_MS).min(end),
                segments_below,
            };
            let ulid = Ulid::new(now, u128::from(number));
            let block = self.write_block(files, &dir, ulid, cut, &mut candidates)?;
            blocks.extend(block);
        }
        done.blocks_cut += blocks.len();
        self.counters
            .blocks_cut
            .fetch_add(blocks.len() as u64, Ordering::Relaxed);
        self.change_blocks(|set| {
            set.blocks.extend(blocks);
            set.floor = set.floor.max(end);
        });
        self.forget(end, Some(&candidates));
        done.series_removed += self.remove_idle(end);
        self.choices.lock().forget_unused();
        if let Some(log) = self.writer.lock().log.as_mut() {
            log.drop_before(segments_below, end);
        }
        Ok(())
    }

    /// Deletes what has stayed long enough for copies.
    fn release(&self, done: &mut Maintained) -> Result<(), MaintainError> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        done.segments_deleted += kept.release_due().map_err(MaintainError::Release)?;
        Ok(())
    }

    /// Gives the error of a cut; on a full disk the next cut has the room of what stayed for copies.
    fn not_cut(&self, error: io::Error) -> MaintainError {
        if let Some(kept) = self.kept.as_ref().filter(|_| kept::is_full(&error)) {
            kept.release_all();
        }
        MaintainError::Cut(error)
    }

    fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        {
            let index = self.index.read();
            for shard in 0..self.head.shard_count() {
                let shard_read = self.head.read(shard);
                for (place, seat) in shard_read.seats().filter(|(_, seat)| !seat.series.is_empty()) {
                    let slot = Head::slot_at(shard, place);
                    if let Some((labels, generation)) = index.tenant(slot)
                        && generation == seat.generation
                    {
                        candidates.push(Candidate {
                            labels: labels.clone(),
                            series: head::reference(slot, generation),
                            written: 0,
                        });
                    }
                }
            }
        }
        candidates.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        candidates
    }

    fn collect(&self, series: SeriesRef, start: i64, end: i64, out: &mut Mixed) {
        out.clear();
        let (shard, place) = head::place(head::slot_of(series));
        if let Some(series) = self.head.read(shard).get(place, head::generation_of(series)) {
            series.collect(start, end, out);
        }
    }

    /// Gives the starts of the two-hour ranges that have samples older than `end`.
    fn ranges_before(&self, candidates: &[Candidate], end: i64) -> BTreeSet<i64> {
        let (mut ranges, mut samples) = (BTreeSet::new(), Mixed::default());
        for candidate in candidates {
            let (shard, place) = head::place(head::slot_of(candidate.series));
            let oldest = {
                let shard = self.head.read(shard);
                let series = shard.get(place, head::generation_of(candidate.series));
                series.and_then(|series| series.oldest())
            };
            let Some(oldest) = oldest.filter(|oldest| *oldest < end) else {
                continue;
            };
            if oldest >= end - BLOCK_MS {
                ranges.insert(end - BLOCK_MS);
                continue;
            }
            self.collect(candidate.series, i64::MIN, end - 1, &mut samples);
            ranges.extend(samples.moments().map(|time| time - time.rem_euclid(BLOCK_MS)));
        }
        ranges
    }

    fn write_block(
        &self,
        files: &Arc<dyn Files>,
        dir: &Path,
        ulid: Ulid,
        cut: Cut,
        candidates: &mut [Candidate],
    ) -> Result<Option<Arc<Block>>, MaintainError> {
        let mut writer =
            Writer::new(Arc::clone(files), dir, ulid, cut).map_err(|error| self.not_cut(error))?;
        let mut samples = Mixed::default();
        for candidate in candidates {
            self.collect(candidate.series, cut.from, cut.to - 1, &mut samples);
            candidate.written += samples.len();
            if let Err(error) = writer.push(candidate.labels.clone(), &samples) {
                writer.discard();
                return Err(self.not_cut(error));
            }
        }
        if writer.is_empty() {
            writer.discard();
            return Ok(None);
        }
        let path = writer.finish().map_err(|error| self.not_cut(error))?;
        let block = Block::open(&**files, &path).map_err(MaintainError::ReadBack)?;
        Ok(Some(Arc::new(block)))
    }

    /// Forgets the samples older than `end`; with candidates, only where all of them were written.
    fn forget(&self, end: i64, candidates: Option<&[Candidate]>) {
        let mut written: Vec<(SeriesRef, usize)> = candidates
            .unwrap_or_default()
            .iter()
            .map(|candidate| (candidate.series, candidate.written))
            .collect();
        written.sort_unstable();
        let is_written = |series: SeriesRef, count: usize| {
            let at = written.binary_search_by_key(&series, |(series, _)| *series);
            candidates.is_none() || at.is_ok_and(|at| written[at].1 == count)
        };
        for number in 0..self.head.shard_count() {
            let tenants: Vec<(usize, u32)> = {
                let mut shard = self.head.write(number);
                if candidates.is_some() {
                    // Before the first sample goes: a reader that sees this looks at the new blocks.
                    shard.floor = shard.floor.max(end);
                }
                let tenant = |(place, seat): (usize, &Seat)| (place, seat.generation);
                shard.seats().map(tenant).collect()
            };
            // A few at a time, so that appends never wait long.
            for tenants in tenants.chunks(FORGET_RUN) {
                let mut shard = self.head.write(number);
                for (place, generation) in tenants {
                    let name = head::reference(Head::slot_at(number, *place), *generation);
                    let Some(series) = shard.get_mut(*place, *generation) else {
                        continue;
                    };
                    let count = series.count_before(end);
                    if count > 0 && is_written(name, count) {
                        series.drop_before(end);
                    }
                }
            }
        }
    }

    /// Removes the series that have nothing in memory and got nothing since `end`; gives their number.
    fn remove_idle(&self, end: i64) -> usize {
        // With the writer's lock no append is between finding a series and logging it.
        let _writer = self.writer.lock();
        let mut index = self.index.write();
        let (mut idle, mut oldest) = (Vec::new(), i64::MAX);
        for number in 0..self.head.shard_count() {
            let shard = self.head.read(number);
            for (place, seat) in shard.seats() {
                oldest = oldest.min(seat.series.oldest().unwrap_or(i64::MAX));
                if seat.series.is_empty() && seat.since < end {
                    idle.push(Head::slot_at(number, place));
                }
            }
        }
        self.head.set_oldest(oldest);
        index.remove_all(&idle);
        idle.iter().for_each(|slot| self.head.unseat(*slot));
        self.counters
            .series_removed
            .fetch_add(idle.len() as u64, Ordering::Relaxed);
        idle.len()
    }

    /// Deletes whole blocks that are too old, and the oldest while all is too large.
    fn retain(&self, now: i64, done: &mut Maintained) -> Result<(), MaintainError> {
        let Some(files) = &self.files else {
            return Ok(());
        };
        let set = self.block_set();
        // Age is counted from the newest block: a clock that jumps ahead must not delete a month of history.
        let newest = set.blocks.iter().map(|block| block.meta().max_time).max();
        let reference = newest.unwrap_or(i64::MIN).min(now);
        let oldest_kept = reference.saturating_sub(self.config.retention.as_millis() as i64);
        let log_bytes = {
            let writer = self.writer.lock();
            writer.log.as_ref().map_or(0, |log| log.size().1)
        };
        let mut bytes = log_bytes + set.blocks.iter().map(|block| block.bytes()).sum::<u64>();
        let mut doomed = Vec::new();
        for block in &set.blocks {
            let is_too_much = self.config.retention_bytes.is_some_and(|limit| bytes > limit);
            if block.meta().max_time < oldest_kept || is_too_much {
                bytes -= block.bytes();
                doomed.push(Arc::clone(block));
            }
        }
        if doomed.is_empty() {
            return Ok(());
        }
        self.change_blocks(|set| {
            set.blocks.retain(|block| {
                doomed
                    .iter()
                    .all(|doomed| doomed.meta().ulid != block.meta().ulid)
            });
        });
        self.choices.lock().forget();
        for block in doomed {
            self.delete_block(&**files, &block)?;
            done.blocks_deleted += 1;
            self.counters.blocks_deleted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Gives a block the name of a deleted one, so that a crash never leaves half a block under its own; its files
    /// stay for a while, for who reads them one after the other.
    fn delete_block(&self, files: &dyn Files, block: &Block) -> Result<(), MaintainError> {
        let ulid = block.meta().ulid;
        let told = |error| MaintainError::Retention { block: ulid, error };
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        let doomed = block.dir().with_file_name(format!("{ulid}{DELETED}"));
        kill_point("retention.before_delete");
        files.rename(block.dir(), &doomed).map_err(told)?;
        kept.keep(Doomed::Block(doomed), block.bytes());
        Ok(())
    }
}

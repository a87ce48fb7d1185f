//! What the store tells about itself: for `/metrics`, the statistics page and alerts about ourselves.

use std::sync::atomic::{AtomicU64, Ordering};

use marketprism_model::Timestamp;
use marketprism_model::sample::Appended;
use serde::Serialize;

/// Samples that a damaged log no longer gives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LostRange {
    /// The segment; its damaged file is kept under a name ending in `.quarantined`.
    pub segment: u64,
    /// Where the damage begins in the file.
    pub offset: u64,
    /// How many bytes could not be read.
    pub bytes: u64,
    /// What is wrong there.
    pub reason: String,
    /// The newest moment that was read before the damage; `None` when there is none.
    pub after: Option<Timestamp>,
}

/// What the replay of the log found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ReplayReport {
    /// Segments read.
    pub segments: u64,
    /// Records read.
    pub records: u64,
    /// Samples read, those that blocks hold already included.
    pub samples: u64,
    /// Samples passed over because a block holds them.
    pub in_blocks: u64,
    /// Samples passed over because memory held another value at their moment.
    pub conflicting: u64,
    /// Bytes cut from the end of the last segment: a write that the crash interrupted, never acknowledged.
    pub torn_bytes: u64,
    /// What damage has taken.
    pub lost: Vec<LostRange>,
}

/// How far the opening of a store has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Segments read so far.
    pub segments: u64,
    /// Segments in all.
    pub segments_total: u64,
    /// Samples read so far.
    pub samples: u64,
}

/// A block that is left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DamagedBlock {
    /// The folder's name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The state of the store at one moment.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stats {
    /// Series in the head.
    pub series: usize,
    /// The most series that the head may hold.
    pub series_limit: usize,
    /// Series made since the store was opened.
    pub series_created: u64,
    /// Series removed from the head since then.
    pub series_removed: u64,
    /// Samples in the head.
    pub head_samples: u64,
    /// How many of them are histograms.
    pub head_histograms: u64,
    /// Packed chunks in the head; the newest samples of each series are in none yet.
    pub head_chunks: u64,
    /// Samples accepted since the store was opened, replay not counted.
    pub appended: u64,
    /// Of these, histograms.
    pub appended_histograms: u64,
    /// Of all, samples that came out of order.
    pub appended_late: u64,
    /// Samples refused because they were too old.
    pub refused_too_old: u64,
    /// Samples refused because they were too far ahead of the clock.
    pub refused_too_far_ahead: u64,
    /// Samples refused because their moment holds another value.
    pub refused_conflicting: u64,
    /// Series refused because the limit is reached.
    pub refused_series: u64,
    /// The oldest sample, in head or blocks.
    pub oldest: Option<Timestamp>,
    /// The newest sample.
    pub newest: Option<Timestamp>,
    /// Segments of the log.
    pub wal_segments: usize,
    /// Their bytes.
    pub wal_bytes: u64,
    /// Writes and fsyncs of the log that failed.
    pub wal_errors: u64,
    /// The last one's words.
    pub wal_last_error: Option<String>,
    /// Appends that are written and not known to be on the disk; 0 when the kernel decides (`os`).
    pub wal_unsynced_appends: u64,
    /// How long the oldest of them has waited at most; `None` without any.
    pub wal_unsynced_age_seconds: Option<f64>,
    /// Fsyncs of the log since the store was opened.
    pub wal_syncs: u64,
    /// When the last of them ended.
    pub wal_last_sync: Option<Timestamp>,
    /// How long it took.
    pub wal_last_sync_seconds: f64,
    /// Log segments and blocks that only stay for a copy under way.
    pub kept_files: usize,
    /// Their bytes, which are in no other number.
    pub kept_bytes: u64,
    /// Blocks.
    pub blocks: usize,
    /// Their bytes.
    pub block_bytes: u64,
    /// Their samples.
    pub block_samples: u64,
    /// How many of them are histograms.
    pub block_histograms: u64,
    /// Blocks that are left out.
    pub damaged_blocks: Vec<DamagedBlock>,
    /// Blocks cut since the store was opened.
    pub blocks_cut: u64,
    /// Blocks deleted by retention since then.
    pub blocks_deleted: u64,
    /// Maintenance runs that failed since then.
    pub maintenance_errors: u64,
    /// The last one's words.
    pub maintenance_last_error: Option<String>,
    /// Choices of series that are kept.
    pub selections: usize,
    /// What the replay found.
    pub replay: ReplayReport,
}

/// Numbers that only grow.
#[derive(Default)]
pub struct Counters {
    /// See [`Stats::series_created`].
    pub series_created: AtomicU64,
    /// See [`Stats::series_removed`].
    pub series_removed: AtomicU64,
    /// See [`Stats::appended`].
    pub appended: AtomicU64,
    /// See [`Stats::appended_histograms`].
    pub appended_histograms: AtomicU64,
    /// See [`Stats::appended_late`].
    pub appended_late: AtomicU64,
    /// See [`Stats::refused_too_old`].
    pub too_old: AtomicU64,
    /// See [`Stats::refused_too_far_ahead`].
    pub too_far_ahead: AtomicU64,
    /// See [`Stats::refused_conflicting`].
    pub conflicting: AtomicU64,
    /// See [`Stats::refused_series`].
    pub refused_series: AtomicU64,
    /// See [`Stats::blocks_cut`].
    pub blocks_cut: AtomicU64,
    /// See [`Stats::blocks_deleted`].
    pub blocks_deleted: AtomicU64,
    /// See [`Stats::maintenance_errors`].
    pub maintenance_errors: AtomicU64,
}

impl Counters {
    /// Adds what became of an append.
    pub fn count(&self, appended: &Appended, late: u64, are_histograms: bool) {
        let add = |counter: &AtomicU64, count: usize| {
            if count > 0 {
                counter.fetch_add(count as u64, Ordering::Relaxed);
            }
        };
        add(&self.appended, appended.accepted);
        add(
            &self.appended_histograms,
            if are_histograms { appended.accepted } else { 0 },
        );
        add(&self.appended_late, late as usize);
        add(&self.too_old, appended.too_old);
        add(&self.too_far_ahead, appended.too_far_ahead);
        add(&self.conflicting, appended.conflicting);
    }
}

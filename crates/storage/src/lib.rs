//! Keeps samples: write-ahead log, head, blocks, index, retention.
//!
//! Samples come in through `SampleSink`: to the log, then to the head in memory. Every two hours the oldest part
//! of the head becomes a block on disk, and the log forgets it. Series go out through `SeriesSource`, which merges
//! head and blocks. The formats on disk are drawn in `docs/formats/wal.md` and `docs/formats/block.md`.
//!
//! What survives what: an acknowledged sample survives the death of the process in every sync mode, for it is
//! handed to the kernel before it is acknowledged. It survives a loss of power when it was appended with
//! `Durability::Synced` or in mode `durable`; in mode `batch` what was scraped in the last 5 s may be lost.
//!
//! A copy of the folder that is made while the store runs can be opened: what the store no longer needs stays for
//! a while, so that whoever lists blocks and log at different moments misses nothing.
//!
//! Native histograms take the same way as numbers, in records, chunks and lists of their own, and a store without any
//! writes what it wrote before there were any.
//!
//! Deliberately absent: queries, downsampling, merging of blocks.

mod append;
mod backup;
pub mod block;
pub mod codec;
pub mod columns;
mod config;
pub mod files;
mod head;
mod kept;
mod maintain;
mod open;
mod select;
mod stats;
mod store;
pub mod wal;

pub use backup::{BackupError, BackupProgress, BackupReport, Fault, VerifyReport, WriteFile, backup, verify};
pub use config::{Batching, Config, ConfigError, SyncMode};
pub use maintain::{MaintainError, Maintained};
pub use open::OpenError;
pub use stats::{DamagedBlock, LostRange, Progress, ReplayReport, Stats};
pub use store::Store;

/// The named points at which a crash test ends the process inside this room.
pub const POINTS: &[&str] = &[
    "wal.append.before_write",
    "wal.append.after_write",
    "wal.before_fsync",
    "wal.after_fsync",
    "wal.rotate",
    "block.tmp_written",
    "block.before_rename",
    "block.after_rename",
    "wal.checkpoint.before",
    "wal.checkpoint.after",
    "retention.before_delete",
];

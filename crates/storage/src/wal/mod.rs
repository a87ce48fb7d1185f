//! The write-ahead log: what was acknowledged, until it stands in a block.
//!
//! An append is written to the current segment before it is answered, and is synchronised as `SyncMode` says. A
//! segment on which a write or an fsync failed is never touched again: what the system has of it is unknown, and
//! a second fsync may answer "done" for pages that the first one dropped. Drawn in `docs/formats/wal.md`.

pub mod log;
pub mod record;
pub mod segment;
pub mod sync;

//! Blocks: two hours of samples on disk, written once and never changed.
//!
//! A block is a folder named by a ULID with three files: `chunks` holds the samples, `index` finds them, and
//! `meta.json` says what the block is. It is written under another name, synchronised, renamed and only then
//! believed, so there is never half a block. Drawn byte by byte in `docs/formats/block.md`.
//! Deliberately absent: merging of blocks, and sums kept beside the chunks.

pub mod index;
pub mod meta;
pub mod part;
pub mod reader;
pub mod ulid;
pub mod writer;

pub use reader::{Block, Times};

use thiserror::Error;

use crate::codec::Damaged;

/// Why a block cannot be used.
#[derive(Debug, Error)]
pub enum BlockError {
    /// A file cannot be read.
    #[error("{file}: {error}")]
    Io {
        /// The file within the block.
        file: &'static str,
        /// The system's words.
        error: std::io::Error,
    },
    /// A file is not what was written.
    #[error("{file} is {damage}")]
    Damaged {
        /// The file within the block.
        file: &'static str,
        /// What does not fit.
        damage: Damaged,
    },
    /// The block was written by a later version of the program, unless a single byte is damaged.
    #[error("{file} has format version {version}; this program reads up to {known}")]
    Version {
        /// The file within the block.
        file: &'static str,
        /// The file's version.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
}

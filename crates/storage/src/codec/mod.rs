//! How numbers become bytes: variable-length integers, packed chunks, pco columns.
//!
//! All decoders read bytes that a disk may have damaged: they check every bound, allocate no more than the
//! input justifies, and answer [`Damaged`] instead of panicking. A checksum around the bytes is the caller's.

pub mod bits;
pub mod column;
pub mod histogram;
pub mod histogram_chunk;
pub mod packed;
pub mod varint;

use thiserror::Error;

/// Bytes that are not what their writer wrote.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("damaged: {0}")]
pub struct Damaged(pub &'static str);

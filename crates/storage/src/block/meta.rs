//! `meta.json`: what a block is.

use serde::{Deserialize, Serialize};

use super::BlockError;
use super::ulid::Ulid;
use crate::codec::Damaged;

/// The name of the file.
pub const FILE: &str = "meta.json";
/// The newest version known here, that of blocks which hold histograms.
pub const VERSION: u32 = 2;
/// The version of blocks without histograms: a program that knows no others reads them.
pub const VERSION_OF_NUMBERS: u32 = 1;
/// The file is never longer.
pub const BYTES_MAX: usize = 64 << 10;

/// Which samples of the log a block has taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cut {
    /// The first moment, in milliseconds.
    pub from: i64,
    /// The moment behind the last one.
    pub to: i64,
    /// Only segments numbered below this were read.
    pub segments_below: u64,
}

/// One file of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Its size.
    pub bytes: u64,
}

/// What a block is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Meta {
    /// The version of the block's format.
    pub version: u32,
    /// Its name.
    pub ulid: Ulid,
    /// The moment of its oldest sample, in milliseconds.
    pub min_time: i64,
    /// The moment of its newest sample.
    pub max_time: i64,
    /// How many samples it holds.
    pub samples: u64,
    /// How many of them are histograms; not written without any.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub histograms: u64,
    /// Of how many series.
    pub series: u64,
    /// Which samples of the log it has taken over.
    pub cut: Cut,
    /// The file `chunks`.
    pub chunks: Part,
    /// The file `index`.
    pub index: Part,
}

/// Gives the version of a block with so many histograms.
pub fn version_with(histograms: u64) -> u32 {
    if histograms > 0 {
        VERSION
    } else {
        VERSION_OF_NUMBERS
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What `meta.json` holds: the description, and the checksum of its compact JSON text.
#[derive(Serialize, Deserialize)]
struct Sealed {
    meta: Meta,
    crc32: u32,
}

#[derive(Deserialize)]
struct Versioned {
    meta: VersionOnly,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

fn checksum(meta: &Meta) -> u32 {
    let text = serde_json::to_vec(meta).expect("a description has only numbers and names");
    crc32fast::hash(&text)
}

/// Writes the file.
pub fn encode(meta: &Meta) -> Vec<u8> {
    let sealed = Sealed {
        crc32: checksum(meta),
        meta: meta.clone(),
    };
    serde_json::to_vec_pretty(&sealed).expect("a description has only numbers and names")
}

/// Reads the file.
///
/// Fuzz target: any bytes are safe.
pub fn decode(bytes: &[u8]) -> Result<Meta, BlockError> {
    let damaged = |reason| BlockError::Damaged {
        file: FILE,
        damage: Damaged(reason),
    };
    if bytes.len() > BYTES_MAX {
        return Err(damaged("too long"));
    }
    let sealed = serde_json::from_slice::<Sealed>(bytes);
    if let Ok(Versioned { meta }) = serde_json::from_slice::<Versioned>(bytes)
        && meta.version > VERSION
    {
        return Err(match sealed {
            // Everything else is as a version known here writes it, so the number itself is damaged.
            Ok(Sealed { meta, crc32 })
                if (VERSION_OF_NUMBERS..=VERSION).any(|version| {
                    let meta = meta.clone();
                    checksum(&Meta { version, ..meta }) == crc32
                }) =>
            {
                damaged("checksum")
            }
            _ => BlockError::Version {
                file: FILE,
                version: meta.version,
                known: VERSION,
            },
        });
    }
    let sealed = sealed.map_err(|_| damaged("not the JSON of a block"))?;
    if sealed.meta.version != version_with(sealed.meta.histograms) {
        return Err(damaged("version"));
    }
    if sealed.crc32 != checksum(&sealed.meta) {
        return Err(damaged("checksum"));
    }
    if sealed.meta.min_time > sealed.meta.max_time {
        return Err(damaged("times out of order"));
    }
    Ok(sealed.meta)
}

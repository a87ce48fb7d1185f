//! Reading one segment of the log, however damaged.
//!
//! What stands before the first fault is good: every record carries a checksum over all of its bytes. After it
//! nothing can be trusted, for values are differences against earlier records. A fault with nothing valid behind
//! it is a *torn* end, the usual trace of a crash in the middle of a write; one with valid records behind it is
//! *damage*, and what followed is lost.

use marketprism_model::Labels;

use super::record::{self, Decoder, Forgotten, HEADER_BYTES, Numbered, NumberedHistogram, PAYLOAD_BYTES_MAX};
use crate::codec::Damaged;

/// First bytes of every segment: a name, behind which the version of the format follows.
pub const NAME: [u8; 7] = *b"MPWAL\0\0";
/// The newest version known here, that of segments which hold histograms.
pub const VERSION: u8 = 2;
/// The version of segments without histograms: a program that knows no others reads on.
pub const VERSION_OF_NUMBERS: u8 = 1;
/// Magic, number, checksum.
pub const SEGMENT_HEADER_BYTES: usize = 20;
/// Behind a fault, this much is searched for a record that proves it damage and not a torn end.
const SEARCH_BYTES_MAX: usize = 2 * PAYLOAD_BYTES_MAX;

/// Writes the first bytes of a segment.
pub fn header(number: u64, version: u8) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes[..7].copy_from_slice(&NAME);
    bytes[7] = version;
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Gives a segment's version; `None` when its first bytes are not whole.
///
/// Every version, also a later one, begins with these 20 bytes, so a later version is told from damage.
pub fn version(bytes: &[u8]) -> Option<u8> {
    let header = bytes.get(..SEGMENT_HEADER_BYTES)?;
    let is_whole = header[..7] == NAME && crc32fast::hash(&header[..16]).to_le_bytes() == header[16..];
    is_whole.then_some(header[7])
}

/// Takes what a segment holds, in the order in which it was written.
pub trait Replay {
    /// A series; the first one of a segment has number 0, the next one 1, and so on.
    fn define(&mut self, labels: Labels);
    /// Samples of series that were defined before.
    fn append(&mut self, samples: &[Numbered]);
    /// Histograms of series that were defined before.
    fn append_histograms(&mut self, histograms: Vec<NumberedHistogram>);
    /// Samples of all series, appended before in this segment or another, that do not hold any more.
    fn forget(&mut self, forgotten: Forgotten);
}

/// How a segment ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With its last whole record.
    Whole,
    /// In the middle of a record, with nothing valid behind it.
    Torn,
    /// With a fault that has valid records behind it, or in its header.
    Damaged(&'static str),
}

/// What was read of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The bytes up to the first fault.
    pub good_bytes: usize,
    /// The records in them.
    pub records: u64,
    /// The samples in them.
    pub samples: u64,
    /// The newest moment in them, also of samples taken back; `i64::MIN` without any.
    pub newest: i64,
    /// How it ended.
    pub end: End,
}

/// Reads a segment into `into`, up to its end or first fault.
///
/// Fuzz target: any bytes are safe.
pub fn read(bytes: &[u8], number: u64, into: &mut dyn Replay) -> Reading {
    let mut reading = Reading {
        good_bytes: 0,
        records: 0,
        samples: 0,
        newest: i64::MIN,
        end: End::Whole,
    };
    let headers = (VERSION_OF_NUMBERS..=VERSION).map(|version| header(number, version));
    if !headers.clone().any(|header| bytes.starts_with(&header)) {
        let is_start = headers.clone().any(|header| header.starts_with(bytes));
        let is_hollow = bytes.iter().all(|byte| *byte == 0);
        reading.end = if is_start || is_hollow {
            End::Torn
        } else {
            End::Damaged("segment header")
        };
        return reading;
    }
    reading.good_bytes = SEGMENT_HEADER_BYTES;
    let version = bytes[NAME.len()];
    let (mut decoder, mut samples) = (Decoder::default(), Vec::new());
    while reading.good_bytes < bytes.len() {
        let rest = &bytes[reading.good_bytes..];
        let Some((kind, payload)) = whole_record(rest) else {
            reading.end = if has_record_behind(rest) {
                End::Damaged("checksum")
            } else {
                End::Torn
            };
            return reading;
        };
        if let Err(Damaged(reason)) = take(
            version,
            kind,
            payload,
            &mut decoder,
            &mut samples,
            &mut reading,
            into,
        ) {
            reading.end = End::Damaged(reason);
            return reading;
        }
        reading.records += 1;
        reading.good_bytes += HEADER_BYTES + payload.len();
    }
    reading
}

fn take(
    version: u8,
    kind: u8,
    payload: &[u8],
    decoder: &mut Decoder,
    samples: &mut Vec<Numbered>,
    reading: &mut Reading,
    into: &mut dyn Replay,
) -> Result<(), Damaged> {
    match kind {
        record::SERIES => decoder.series(payload)?.into_iter().for_each(|l| into.define(l)),
        record::SAMPLES => {
            decoder.samples(payload, samples)?;
            into.append(samples);
            reading.samples += samples.len() as u64;
            let newest = samples.iter().map(|sample| sample.time).max();
            reading.newest = reading.newest.max(newest.unwrap_or(i64::MIN));
        }
        record::HISTOGRAMS if version >= VERSION => {
            let histograms = decoder.histograms(payload)?;
            reading.samples += histograms.len() as u64;
            let newest = histograms.iter().map(|sample| sample.time).max();
            reading.newest = reading.newest.max(newest.unwrap_or(i64::MIN));
            into.append_histograms(histograms);
        }
        record::FORGET => {
            let forgotten = Forgotten::read(payload)?;
            into.forget(forgotten);
            // As long as what is taken back stands in an older segment, this one must not go.
            reading.newest = reading.newest.max(forgotten.newest);
        }
        _ => return Err(Damaged("unknown type of record")),
    }
    Ok(())
}

/// Gives type and payload when the bytes begin with a whole record whose checksum holds.
fn whole_record(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = word(1) as usize;
    let payload = rest.get(..length).filter(|_| length <= PAYLOAD_BYTES_MAX)?;
    (record::checksum(head[0], payload) == word(5)).then_some((head[0], payload))
}

fn has_record_behind(bytes: &[u8]) -> bool {
    (1..bytes.len().min(SEARCH_BYTES_MAX)).any(|at| {
        (record::SERIES..=record::HISTOGRAMS).contains(&bytes[at]) && whole_record(&bytes[at..]).is_some()
    })
}

//! The parts of the file `chunks`: columns of times, chunks of values, and chunks of histograms.
//!
//! All series of a target are scraped at the same moments, so their times stand once, as a column that chunks
//! point to. A chunk too short for that carries its times itself.

use std::sync::Arc;

use marketprism_model::Histogram;

use crate::codec::varint::{self, Reader};
use crate::codec::{Damaged, column, histogram_chunk, packed};
use crate::columns::Mixed;

/// The name of the file.
pub const FILE: &str = "chunks";
/// First bytes of the file: a name, and the version of the format. Chunks of histograms do not raise it: the file is
/// under way when the first of them comes, and the block's description, written last, says that there are some.
pub const MAGIC: [u8; 8] = *b"MPCHK\0\0\x01";

/// No chunk holds more samples; a longer run is cut into equal pieces.
pub const CHUNK_COUNT_MAX: usize = 4_096;

const KIND_PACKED: u8 = 1;
const KIND_VALUES: u8 = 2;
const KIND_TIMES: u8 = 3;
const KIND_HISTOGRAMS: u8 = 4;
const KIND_HISTOGRAMS_AT: u8 = 5;

/// Appends `[kind][column][count][length][crc32][data]`.
fn put(out: &mut Vec<u8>, kind: u8, column: u64, count: usize, data: &[u8]) {
    let from = out.len();
    out.push(kind);
    varint::put_u64(out, column);
    varint::put_u64(out, count as u64);
    varint::put_u64(out, data.len() as u64);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&out[from..]);
    hasher.update(data);
    out.extend_from_slice(&hasher.finalize().to_le_bytes());
    out.extend_from_slice(data);
}

/// A part whose checksum holds.
pub struct Part<'a> {
    kind: u8,
    /// Meaningless in a chunk that carries its own times.
    column: u64,
    count: usize,
    data: &'a [u8],
}

/// Takes the part at `offset` of the file.
pub fn get(file: &[u8], offset: u64) -> Result<Part<'_>, Damaged> {
    let bytes = usize::try_from(offset)
        .ok()
        .and_then(|offset| file.get(offset..))
        .ok_or(Damaged("offset behind the end"))?;
    let mut reader = Reader::new(bytes);
    let (kind, column) = (reader.u8()?, reader.var_u64()?);
    let (count, length) = (reader.var_u64()?, reader.var_u64()?);
    let head = &bytes[..bytes.len() - reader.remaining()];
    let crc = reader.u32()?;
    let length = usize::try_from(length).map_err(|_| Damaged("ends too early"))?;
    let data = reader.bytes(length)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(data);
    if hasher.finalize() != crc {
        return Err(Damaged("checksum"));
    }
    if count > column::COUNT_MAX as u64 {
        return Err(Damaged("longer than any"));
    }
    Ok(Part {
        kind,
        column,
        count: count as usize,
        data,
    })
}

/// Appends a column of times.
pub fn put_times(out: &mut Vec<u8>, times: &[i64]) {
    put(out, KIND_TIMES, 0, times.len(), &column::encode_times(times));
}

/// Appends a chunk that carries its own times.
pub fn put_packed(out: &mut Vec<u8>, times: &[i64], values: &[f64]) {
    let mut data = Vec::new();
    packed::Encoder::of(times, values).finish_into(&mut data);
    put(out, KIND_PACKED, 0, times.len(), &data);
}

/// Appends a chunk whose times are a column.
pub fn put_values(out: &mut Vec<u8>, column: u32, values: &[f64]) {
    let data = column::encode_values(values);
    put(out, KIND_VALUES, u64::from(column), values.len(), &data);
}

/// Appends a chunk of histograms, with its times when there is no column for them.
pub fn put_histograms(out: &mut Vec<u8>, column: Option<u32>, times: &[i64], histograms: &[Arc<Histogram>]) {
    let mut data = Vec::new();
    if column.is_none() {
        varint::put_bytes(&mut data, &column::encode_times(times));
    }
    data.extend(histogram_chunk::encode(histograms));
    match column {
        None => put(out, KIND_HISTOGRAMS, 0, times.len(), &data),
        Some(column) => put(out, KIND_HISTOGRAMS_AT, u64::from(column), times.len(), &data),
    }
}

impl Part<'_> {
    /// Gives a column's times, which rise.
    pub fn times(&self) -> Result<Vec<i64>, Damaged> {
        if self.kind != KIND_TIMES {
            return Err(Damaged("not a column of times"));
        }
        let mut times = Vec::new();
        column::decode_times(self.data, self.count, &mut times)?;
        check_rising(&times)?;
        Ok(times)
    }

    /// Gives the number of the column that holds a chunk's times, `None` when it carries them itself.
    pub fn column(&self) -> Option<u64> {
        matches!(self.kind, KIND_VALUES | KIND_HISTOGRAMS_AT).then_some(self.column)
    }

    /// Says whether it is a chunk of histograms.
    pub fn has_histograms(&self) -> bool {
        matches!(self.kind, KIND_HISTOGRAMS | KIND_HISTOGRAMS_AT)
    }

    /// Appends a chunk's samples to `out`, at least those up to `end`; `times` are those of its column, if it has one.
    ///
    /// After an error `out` is as it was.
    pub fn samples_into(&self, times: &[i64], end: i64, out: &mut Mixed) -> Result<(), Damaged> {
        let numbers = &mut out.numbers;
        match self.kind {
            KIND_PACKED => {
                let from = numbers.len();
                let decoded = packed::decode_into(self.data, self.count, numbers)
                    .and_then(|()| check_rising(&numbers.timestamps[from..]));
                if decoded.is_err() {
                    numbers.truncate(from);
                }
                decoded
            }
            KIND_VALUES | KIND_HISTOGRAMS_AT if times.len() != self.count => {
                Err(Damaged("column of another length"))
            }
            KIND_VALUES => {
                let needed = times.partition_point(|time| *time <= end);
                column::decode_first_values(self.data, self.count, needed, &mut numbers.values)?;
                numbers.timestamps.extend_from_slice(&times[..needed]);
                Ok(())
            }
            KIND_HISTOGRAMS_AT => self.histograms_into(times, self.data, out),
            KIND_HISTOGRAMS => {
                let mut reader = Reader::new(self.data);
                let mut own = Vec::new();
                column::decode_times(reader.prefixed()?, self.count, &mut own)?;
                check_rising(&own)?;
                self.histograms_into(&own, reader.bytes(reader.remaining())?, out)
            }
            _ => Err(Damaged("unknown kind of chunk")),
        }
    }

    fn histograms_into(&self, times: &[i64], data: &[u8], out: &mut Mixed) -> Result<(), Damaged> {
        let histograms = histogram_chunk::decode(data, self.count)?;
        out.histograms.extend(times.iter().copied().zip(histograms));
        Ok(())
    }
}

fn check_rising(times: &[i64]) -> Result<(), Damaged> {
    let is_rising = times.is_sorted_by(|a, b| a < b);
    is_rising.then_some(()).ok_or(Damaged("times out of order"))
}

//! The payloads of the log: series, samples and histograms. Drawn byte by byte in `docs/formats/wal.md`.
//!
//! A segment stands alone: a series is defined in it before its first sample there and is then known by a small
//! number, its place in the order of definitions. So losing or dropping one segment never takes a definition away
//! from another. Times and values are differences within the segment; histograms are written whole.

use marketprism_model::{Histogram, Labels};

use crate::codec::varint::{self, Reader};
use crate::codec::{Damaged, histogram};

/// Type byte of a record that defines series.
pub const SERIES: u8 = 1;
/// Type byte of a record of samples.
pub const SAMPLES: u8 = 2;
/// Type byte of a record that takes samples back.
pub const FORGET: u8 = 3;
/// Type byte of a record of histograms; only in segments of version 2.
pub const HISTOGRAMS: u8 = 4;

/// Bytes before the payload: type, length, checksum.
pub const HEADER_BYTES: usize = 9;
/// A record is closed when its payload grows past this.
const PAYLOAD_BYTES_FULL: usize = 256 << 10;
/// No payload is longer; one part may follow after a record is full.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

const NEXT_SERIES: u8 = 0x80;
const SAME_TIME: u8 = 0x40;
const VALUE_CODES: u8 = 0x3f;

/// Gives the checksum of a record.
pub fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(&(payload.len() as u32).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn put_record(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX);
    out.push(kind);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(kind, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// How the XOR of two values is written: `count` bytes after `skip` zero bytes at the low end.
const fn value_code(skip: u32, count: u32) -> u8 {
    // Codes run through counts 1 to 8; count n leaves 9 - n possible skips.
    let before = (count - 1) * (18 - count) / 2;
    (1 + before + skip) as u8
}

const fn value_shapes() -> [(u8, u8); 64] {
    let mut shapes = [(0u8, 0u8); 64];
    let mut count = 1;
    while count <= 8 {
        let mut skip = 0;
        while skip <= 8 - count {
            shapes[value_code(skip, count) as usize] = (skip as u8, count as u8);
            skip += 1;
        }
        count += 1;
    }
    shapes
}

static VALUE_SHAPES: [(u8, u8); 64] = value_shapes();

#[derive(Clone, Copy, Default)]
struct Known {
    value: u64,
    epoch: u32,
    generation: u32,
    number: u32,
}

/// Encodes appends into records, and knows what the current segment has defined.
#[derive(Default)]
pub struct Encoder {
    known: Vec<Known>,
    epoch: u32,
    defined: u32,
    new: Vec<u32>,
    payload: Vec<u8>,
    closed: Vec<u8>,
    count: u32,
    last_number: u32,
    last_time: i64,
    histograms: Histograms,
}

/// The record of histograms under way.
#[derive(Default)]
struct Histograms {
    payload: Vec<u8>,
    last_number: i64,
    last_time: i64,
}

impl Encoder {
    /// Forgets everything: the next record opens a segment.
    pub fn start_segment(&mut self) {
        self.epoch += 1;
        self.defined = 0;
        self.new.clear();
        self.payload.clear();
        self.histograms.payload.clear();
        self.closed.clear();
        self.count = 0;
    }

    /// Says whether nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.histograms.payload.is_empty() && self.closed.is_empty()
    }

    /// Adds a sample.
    #[inline]
    pub fn push(&mut self, slot: u32, generation: u32, time: i64, value: f64) {
        let number = self.number_of(slot, generation);
        if self.count == 0 {
            varint::put_i64(&mut self.payload, time);
            (self.last_number, self.last_time) = (u32::MAX, time);
        }
        self.count += 1;
        let known = &mut self.known[slot as usize];
        let xor = known.value ^ value.to_bits();
        known.value = value.to_bits();
        let mut control = 0;
        let mut bytes = 0;
        if xor != 0 {
            let skip = xor.trailing_zeros() / 8;
            bytes = 8 - xor.leading_zeros() / 8 - skip;
            control = value_code(skip, bytes);
        }
        let is_next = number == self.last_number.wrapping_add(1);
        control |= if is_next { NEXT_SERIES } else { 0 };
        control |= if time == self.last_time { SAME_TIME } else { 0 };
        self.payload.push(control);
        if !is_next {
            let step = i64::from(number) - i64::from(self.last_number as i32);
            varint::put_i64(&mut self.payload, step);
        }
        if time != self.last_time {
            varint::put_i64(&mut self.payload, time.wrapping_sub(self.last_time));
        }
        if xor != 0 {
            let low = (xor >> (xor.trailing_zeros() / 8 * 8)).to_le_bytes();
            self.payload.extend_from_slice(&low[..bytes as usize]);
        }
        (self.last_number, self.last_time) = (number, time);
        if self.payload.len() >= PAYLOAD_BYTES_FULL {
            self.close();
        }
    }

    /// Adds a histogram; the segment must be of version 2.
    pub fn push_histogram(&mut self, slot: u32, generation: u32, time: i64, histogram: &Histogram) {
        let number = i64::from(self.number_of(slot, generation));
        let record = &mut self.histograms;
        if record.payload.is_empty() {
            (record.last_number, record.last_time) = (-1, 0);
        }
        varint::put_i64(&mut record.payload, number - record.last_number);
        varint::put_i64(&mut record.payload, time.wrapping_sub(record.last_time));
        histogram::put(&mut record.payload, histogram);
        (record.last_number, record.last_time) = (number, time);
        if record.payload.len() >= PAYLOAD_BYTES_FULL {
            self.close();
        }
    }

    /// Adds that samples pushed before do not hold any more.
    pub fn forget(&mut self, forgotten: Forgotten) {
        self.close();
        let mut payload = Vec::new();
        varint::put_i64(&mut payload, forgotten.from);
        varint::put_i64(&mut payload, forgotten.newest);
        put_record(&mut self.closed, FORGET, &payload);
    }

    #[inline]
    fn number_of(&mut self, slot: u32, generation: u32) -> u32 {
        if self.known.len() <= slot as usize {
            self.known.resize(slot as usize + 1, Known::default());
        }
        let known = &mut self.known[slot as usize];
        if known.epoch != self.epoch || known.generation != generation {
            *known = Known {
                value: 0,
                epoch: self.epoch,
                generation,
                number: self.defined,
            };
            self.defined += 1;
            self.new.push(slot);
        }
        known.number
    }

    fn close(&mut self) {
        if self.count > 0 {
            put_record(&mut self.closed, SAMPLES, &self.payload);
            self.payload.clear();
            self.count = 0;
        }
        let histograms = &mut self.histograms.payload;
        if !histograms.is_empty() {
            put_record(&mut self.closed, HISTOGRAMS, histograms);
            histograms.clear();
        }
    }

    /// Appends what was pushed to `out` as whole records, definitions first; gives the bytes of the definitions.
    pub fn take_into(&mut self, labels_of: impl Fn(u32) -> Labels, out: &mut Vec<u8>) -> usize {
        let from = out.len();
        let mut payload = Vec::new();
        for slot in self.new.drain(..) {
            put_labels(&mut payload, &labels_of(slot));
            if payload.len() >= PAYLOAD_BYTES_FULL {
                put_record(out, SERIES, &payload);
                payload.clear();
            }
        }
        if !payload.is_empty() {
            put_record(out, SERIES, &payload);
        }
        let definitions = out.len() - from;
        self.close();
        out.append(&mut self.closed);
        definitions
    }
}

/// Appends labels: their number, then name and value in turn, each preceded by its length.
pub fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    varint::put_u64(out, labels.len() as u64);
    for (name, value) in labels {
        varint::put_bytes(out, name.as_bytes());
        varint::put_bytes(out, value.as_bytes());
    }
}

/// Reads what [`put_labels`] wrote.
pub fn get_labels(reader: &mut Reader<'_>) -> Result<Labels, Damaged> {
    let count = reader.count(2)?;
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, value) = (reader.text()?, reader.text()?);
        if value.is_empty() || pairs.last().is_some_and(|(last, _)| *last >= name) {
            return Err(Damaged("labels out of order"));
        }
        pairs.push((name, value));
    }
    Ok(Labels::from_sorted(pairs))
}

/// A sample as a record holds it: the series by the number of its definition in the segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbered {
    /// The place of the series in the segment's definitions.
    pub number: u32,
    /// Milliseconds since the Unix epoch.
    pub time: i64,
    /// The value.
    pub value: f64,
}

/// A histogram as a record holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberedHistogram {
    /// The place of the series in the segment's definitions.
    pub number: u32,
    /// Milliseconds since the Unix epoch.
    pub time: i64,
    /// The histogram, which has passed its check.
    pub histogram: Histogram,
}

/// What all series forget when the clock was set back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forgotten {
    /// The samples at this moment and after it.
    pub from: i64,
    /// The newest of them.
    pub newest: i64,
}

impl Forgotten {
    /// Reads a payload that takes samples back.
    pub fn read(payload: &[u8]) -> Result<Self, Damaged> {
        let mut reader = Reader::new(payload);
        let (from, newest) = (reader.var_i64()?, reader.var_i64()?);
        if !reader.is_empty() {
            return Err(Damaged("more than two times"));
        }
        Ok(Forgotten { from, newest })
    }
}

/// Decodes the payloads of one segment, in order.
#[derive(Default)]
pub struct Decoder {
    values: Vec<u64>,
}

impl Decoder {
    /// Reads a payload of definitions.
    pub fn series(&mut self, payload: &[u8]) -> Result<Vec<Labels>, Damaged> {
        let mut reader = Reader::new(payload);
        let mut defined = Vec::new();
        while !reader.is_empty() {
            defined.push(get_labels(&mut reader)?);
        }
        self.values.resize(self.values.len() + defined.len(), 0);
        Ok(defined)
    }

    /// Reads a payload of samples into `out`, which is emptied first.
    pub fn samples(&mut self, payload: &[u8], out: &mut Vec<Numbered>) -> Result<(), Damaged> {
        out.clear();
        let mut reader = Reader::new(payload);
        let mut time = reader.var_i64()?;
        let mut number = -1i64;
        while !reader.is_empty() {
            let control = reader.u8()?;
            let step = if control & NEXT_SERIES != 0 {
                1
            } else {
                reader.var_i64()?
            };
            number = number.checked_add(step).ok_or(Damaged("series out of range"))?;
            if control & SAME_TIME == 0 {
                time = time.wrapping_add(reader.var_i64()?);
            }
            let known = usize::try_from(number)
                .ok()
                .and_then(|number| self.values.get_mut(number))
                .ok_or(Damaged("series not defined"))?;
            let code = control & VALUE_CODES;
            if code != 0 {
                let (skip, count) = VALUE_SHAPES[usize::from(code)];
                if count == 0 {
                    return Err(Damaged("unknown form of value"));
                }
                *known ^= reader.low_bytes(usize::from(count))? << (u32::from(skip) * 8);
            }
            out.push(Numbered {
                number: number as u32,
                time,
                value: f64::from_bits(*known),
            });
        }
        Ok(())
    }

    /// Reads a payload of histograms.
    pub fn histograms(&self, payload: &[u8]) -> Result<Vec<NumberedHistogram>, Damaged> {
        let mut reader = Reader::new(payload);
        let (mut number, mut time, mut all) = (-1i64, 0i64, Vec::new());
        while !reader.is_empty() {
            number = number.wrapping_add(reader.var_i64()?);
            time = time.wrapping_add(reader.var_i64()?);
            let histogram = histogram::get(&mut reader)?;
            if !usize::try_from(number).is_ok_and(|number| number < self.values.len()) {
                return Err(Damaged("series not defined"));
            }
            all.push(NumberedHistogram {
                number: number as u32,
                time,
                histogram,
            });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::histogram::strategies;
    use proptest::prelude::*;

    fn labels_of(slot: u32) -> Labels {
        Labels::from_pairs([("slot", slot.to_string())])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn appended_samples_come_back_with_their_series(
            appends in proptest::collection::vec(proptest::collection::vec((0u32..50, any::<i64>(), any::<u64>()), 0..40), 1..10),
        ) {
            let (mut encoder, mut bytes) = (Encoder::default(), Vec::new());
            encoder.start_segment();
            for append in &appends {
                for (slot, time, bits) in append {
                    encoder.push(*slot, 1, *time, f64::from_bits(*bits));
                }
                encoder.take_into(labels_of, &mut bytes);
            }
            let (mut decoder, mut defined, mut back, mut samples) = (Decoder::default(), Vec::new(), Vec::new(), Vec::new());
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() {
                let (kind, length, crc) = (reader.u8().expect("type"), reader.u32().expect("length"), reader.u32().expect("crc"));
                let payload = reader.bytes(length as usize).expect("payload");
                prop_assert_eq!(crc, checksum(kind, payload));
                if kind == SERIES {
                    defined.extend(decoder.series(payload).expect("own bytes"));
                } else {
                    decoder.samples(payload, &mut samples).expect("own bytes");
                    back.extend(samples.iter().map(|s| (defined[s.number as usize].clone(), s.time, s.value.to_bits())));
                }
            }
            let expected: Vec<_> = appends.iter().flatten().map(|(slot, time, bits)| (labels_of(*slot), *time, *bits)).collect();
            prop_assert_eq!(back, expected);
        }

        #[test]
        fn appended_histograms_come_back_with_their_series(
            appends in proptest::collection::vec(proptest::collection::vec((0u32..50, any::<i64>(), strategies::histogram()), 0..20), 1..5),
        ) {
            let (mut encoder, mut bytes) = (Encoder::default(), Vec::new());
            encoder.start_segment();
            for append in &appends {
                append.iter().for_each(|(slot, time, histogram)| encoder.push_histogram(*slot, 1, *time, histogram));
                // Numbers of the same append stand in a record of their own.
                encoder.push(77, 1, 5, 1.0);
                encoder.take_into(labels_of, &mut bytes);
            }
            let (mut decoder, mut defined, mut back) = (Decoder::default(), Vec::new(), Vec::new());
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() {
                let (kind, length, _) = (reader.u8().expect("type"), reader.u32().expect("length"), reader.u32().expect("crc"));
                let payload = reader.bytes(length as usize).expect("payload");
                match kind {
                    SERIES => defined.extend(decoder.series(payload).expect("own bytes")),
                    SAMPLES => decoder.samples(payload, &mut Vec::new()).expect("own bytes"),
                    _ => back.extend(decoder.histograms(payload).expect("own bytes")),
                }
            }
            let expected: Vec<_> = appends.iter().flatten().collect();
            prop_assert_eq!(back.len(), expected.len());
            for (found, (slot, time, histogram)) in back.iter().zip(expected) {
                prop_assert_eq!((&defined[found.number as usize], found.time), (&labels_of(*slot), *time));
                prop_assert!(histogram::is_same_bits(&found.histogram, histogram));
            }
        }

        #[test]
        fn any_payload_is_decoded_or_refused(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::default();
            let _ = decoder.series(&payload);
            let _ = decoder.samples(&payload, &mut Vec::new());
            let _ = decoder.histograms(&payload);
        }
    }

    #[test]
    fn a_steady_scrape_costs_one_byte_a_sample() {
        let (mut encoder, mut bytes) = (Encoder::default(), Vec::new());
        encoder.start_segment();
        (0..100).for_each(|slot| encoder.push(slot, 1, 15_000, 7.0));
        encoder.take_into(labels_of, &mut bytes);
        bytes.clear();
        (0..100).for_each(|slot| encoder.push(slot, 1, 30_000, 7.0));
        encoder.take_into(labels_of, &mut bytes);
        assert_eq!(bytes.len(), HEADER_BYTES + 3 + 100);
    }

    #[test]
    fn a_slot_with_a_new_tenant_is_defined_anew() {
        let (mut encoder, mut bytes) = (Encoder::default(), Vec::new());
        encoder.start_segment();
        encoder.push(3, 1, 0, 1.0);
        assert!(encoder.take_into(labels_of, &mut bytes) > 0);
        encoder.push(3, 1, 1, 1.0);
        assert_eq!(encoder.take_into(labels_of, &mut bytes), 0);
        encoder.push(3, 2, 2, 1.0);
        assert!(encoder.take_into(labels_of, &mut bytes) > 0);
    }
}

//! XOR chunks: samples as differences of differences of time, and of value bits.
//!
//! Encodes one sample at a time and as fast as memory allows, so it is the form of the head, where a chunk grows
//! while it is read. Bit for bit, so NaNs keep their payload.
//!
//! Source: Pelkonen et al. (2015), "Gorilla: A Fast, Scalable, In-Memory Time Series Database", section 4.1. The
//! classes of time differences are ours: 7 bits hold the jitter of a scraper in milliseconds.

use super::Damaged;
use super::bits::{BitReader, BitWriter};
use crate::columns::Columns;

/// Bits of the time classes behind the prefixes `10`, `110`, `1110`; `1111` is followed by 64.
const TIME_BITS: [u32; 3] = [7, 14, 20];

/// No window of value bits has been opened yet.
const NO_WINDOW: u8 = 0xff;

/// A chunk that grows.
#[derive(Clone, Debug)]
pub struct Encoder {
    bits: BitWriter,
    count: u32,
    last_time: i64,
    last_delta: i64,
    last_value: u64,
    leading: u8,
    trailing: u8,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder {
            bits: BitWriter::default(),
            count: 0,
            last_time: 0,
            last_delta: 0,
            last_value: 0,
            leading: NO_WINDOW,
            trailing: 0,
        }
    }
}

impl Encoder {
    /// Counts the samples.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Gives the newest time; meaningless while empty.
    pub fn last_time(&self) -> i64 {
        self.last_time
    }

    /// Appends a sample.
    pub fn push(&mut self, time: i64, value: f64) {
        let bits = value.to_bits();
        if self.count == 0 {
            self.bits.put(time as u64, 64);
            self.bits.put(bits, 64);
        } else {
            let delta = time.wrapping_sub(self.last_time);
            self.put_time(delta.wrapping_sub(self.last_delta));
            self.put_value(bits ^ self.last_value);
            self.last_delta = delta;
        }
        self.last_time = time;
        self.last_value = bits;
        self.count += 1;
    }

    #[inline]
    fn put_time(&mut self, difference: i64) {
        if difference == 0 {
            self.bits.put(0, 1);
            return;
        }
        for (class, width) in TIME_BITS.into_iter().enumerate() {
            let half = 1i64 << (width - 1);
            if (-half..half).contains(&difference) {
                let prefix = (1u64 << (class + 2)) - 2;
                self.bits.put(prefix, class as u32 + 2);
                self.bits.put(difference as u64, width);
                return;
            }
        }
        self.bits.put(0b1111, 4);
        self.bits.put(difference as u64, 64);
    }

    #[inline]
    fn put_value(&mut self, xor: u64) {
        if xor == 0 {
            self.bits.put(0, 1);
            return;
        }
        let leading = xor.leading_zeros().min(31) as u8;
        let trailing = xor.trailing_zeros() as u8;
        let is_inside = self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing;
        if is_inside {
            let width = 64 - u32::from(self.leading) - u32::from(self.trailing);
            // A window that has become much too wide costs more than opening a new one.
            if width <= 64 - u32::from(leading) - u32::from(trailing) + 11 {
                self.bits.put(0b10, 2);
                self.bits.put(xor >> self.trailing, width);
                return;
            }
        }
        let width = 64 - u32::from(leading) - u32::from(trailing);
        self.bits.put(0b11, 2);
        self.bits.put(u64::from(leading), 5);
        self.bits.put(u64::from(width - 1), 6);
        self.bits.put(xor >> trailing, width);
        (self.leading, self.trailing) = (leading, trailing);
    }

    /// Appends the chunk's bytes to `out`; the count is kept elsewhere.
    pub fn finish_into(&self, out: &mut Vec<u8>) {
        self.bits.finish_into(out);
    }
}

/// Appends the `count` samples of a chunk to `out`. After an error `out` holds what came before the damage.
///
/// Fuzz target: any bytes and any count are safe.
pub fn decode_into(bytes: &[u8], count: usize, out: &mut Columns) -> Result<(), Damaged> {
    if count == 0 {
        return Ok(());
    }
    if (count - 1).saturating_mul(2).saturating_add(128) > bytes.len().saturating_mul(8) {
        return Err(Damaged("chunk too short for its count"));
    }
    let mut bits = BitReader::new(bytes);
    out.timestamps.reserve(count);
    out.values.reserve(count);
    let (mut time, mut delta) = (bits.get(64)? as i64, 0i64);
    let mut value = bits.get(64)?;
    let (mut leading, mut trailing) = (NO_WINDOW, 0u8);
    out.push(time, f64::from_bits(value));
    for _ in 1..count {
        delta = delta.wrapping_add(get_time(&mut bits)?);
        time = time.wrapping_add(delta);
        if bits.bit()? {
            if bits.bit()? {
                leading = bits.get(5)? as u8;
                let width = bits.get(6)? as u8 + 1;
                trailing = 64u8
                    .checked_sub(leading + width)
                    .ok_or(Damaged("value window too wide"))?;
            } else if leading == NO_WINDOW {
                return Err(Damaged("value window never opened"));
            }
            let width = 64 - u32::from(leading) - u32::from(trailing);
            value ^= bits.get(width)? << trailing;
        }
        out.push(time, f64::from_bits(value));
    }
    Ok(())
}

#[inline]
fn get_time(bits: &mut BitReader<'_>) -> Result<i64, Damaged> {
    if !bits.bit()? {
        return Ok(0);
    }
    for width in TIME_BITS {
        if !bits.bit()? {
            let raw = bits.get(width)? << (64 - width);
            return Ok(raw as i64 >> (64 - width));
        }
    }
    Ok(bits.get(64)? as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(samples: &[(i64, u64)]) {
        let mut encoder = Encoder::default();
        for (time, bits) in samples {
            encoder.push(*time, f64::from_bits(*bits));
        }
        let (mut bytes, mut columns) = (Vec::new(), Columns::default());
        encoder.finish_into(&mut bytes);
        decode_into(&bytes, samples.len(), &mut columns).expect("own bytes");
        let back: Vec<(i64, u64)> = columns.iter().map(|(t, v)| (t, v.to_bits())).collect();
        assert_eq!(back, samples);
    }

    proptest! {
        #[test]
        fn any_samples_come_back_bit_for_bit(samples in proptest::collection::vec(any::<(i64, u64)>(), 0..300)) {
            round_trip(&samples);
        }

        #[test]
        fn likely_samples_come_back_bit_for_bit(
            start in 0i64..2_000_000_000_000,
            steps in proptest::collection::vec((-3i64..20_000, -5i32..5), 1..300),
        ) {
            let mut time = start;
            let samples: Vec<(i64, u64)> = steps.iter().map(|(step, value)| {
                time += step;
                (time, (f64::from(*value) / 10.0).to_bits())
            }).collect();
            round_trip(&samples);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0usize..2_000) {
            let mut columns = Columns::default();
            let _ = decode_into(&bytes, count, &mut columns);
            prop_assert!(columns.len() <= count);
        }
    }

    #[test]
    fn the_mark_of_an_ended_series_keeps_its_bits() {
        round_trip(&[
            (0, 1.5f64.to_bits()),
            (15_000, marketprism_model::sample::STALE_NAN_BITS),
            (30_000, f64::NAN.to_bits()),
            (45_000, 0),
            (60_000, (-0.0f64).to_bits()),
        ]);
    }

    #[test]
    fn a_steady_value_costs_two_bits_a_sample() {
        let mut encoder = Encoder::default();
        (0..240).for_each(|i| encoder.push(i * 15_000, 42.0));
        let mut bytes = Vec::new();
        encoder.finish_into(&mut bytes);
        // 128 bits for the first sample, 1 + 1 for each further one, and the step of 15,000 ms once more in 20 bits.
        assert_eq!(bytes.len(), (128 + 239 * 2 + 3 + 20usize).div_ceil(8));
    }
}

//! Packed chunks: samples in groups of up to 16, as differences of time and, of values, whatever is shorter.
//!
//! The form of the head, where a chunk grows while it is read: a group costs some ten nanoseconds a sample. Values
//! that are decimals of few digits, as most gauges and counters are, become whole numbers and are written as
//! differences within the narrowest frame; all others as XOR of their bits. Bit for bit, so NaNs keep their
//! payload. Drawn in `docs/formats/block.md`, for short chunks of blocks have the same form.
//!
//! Source of the XOR form: Pelkonen et al. (2015), "Gorilla: A Fast, Scalable, In-Memory Time Series Database",
//! section 4.1.2.

use super::Damaged;
use super::bits::{BitReader, BitWriter};
use crate::columns::Columns;

/// A group holds at most this many samples.
pub const GROUP_COUNT_MAX: usize = 16;

/// Powers of ten by which values are tried to become whole numbers.
const SCALES: [f64; 8] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e9];
/// Whole numbers stay below this, so that they are exact and their differences fit.
const WHOLE_MAX: f64 = (1u64 << 51) as f64;
/// Bits of a whole number that is written without a difference.
const WHOLE_BITS: u32 = 53;

/// No window of value bits has been opened yet.
const NO_WINDOW: u8 = 0xff;

/// Gives the whole number that stands for the value at a scale, when it gives back every bit.
#[inline]
fn whole(value: f64, scale: f64) -> Option<i64> {
    let scaled = value * scale;
    if scaled.is_nan() || scaled.abs() >= WHOLE_MAX {
        return None;
    }
    let number = (scaled + 0.5f64.copysign(scaled)) as i64;
    ((number as f64 / scale).to_bits() == value.to_bits()).then_some(number)
}

fn fold(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unfold(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn width(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// Where differences lie: from `base`, in `width` bits each.
#[derive(Clone, Copy)]
struct Frame {
    base: i64,
    width: u32,
}

impl Frame {
    fn of(differences: &[i64]) -> Self {
        let base = differences.iter().copied().min().unwrap_or(0);
        let span = differences.iter().map(|d| d.wrapping_sub(base) as u64).max();
        Frame {
            base,
            width: width(span.unwrap_or(0)),
        }
    }

    fn bits(&self, count: usize, last_base: i64) -> u32 {
        14 + width(fold(self.base.wrapping_sub(last_base))) + self.width * count as u32
    }

    fn put(&self, differences: &[i64], last_base: &mut i64, out: &mut BitWriter) {
        let step = fold(self.base.wrapping_sub(*last_base));
        out.put(u64::from(width(step)), 7);
        out.put(step, width(step));
        out.put(u64::from(self.width), 7);
        for difference in differences {
            out.put(difference.wrapping_sub(self.base) as u64, self.width);
        }
        *last_base = self.base;
    }

    fn get(last_base: &mut i64, bits: &mut BitReader<'_>) -> Result<Self, Damaged> {
        let step_width = bits.get(7)? as u32;
        if step_width > 64 {
            return Err(Damaged("frame too wide"));
        }
        let base = last_base.wrapping_add(unfold(bits.get(step_width)?));
        let width = bits.get(7)? as u32;
        if width > 64 {
            return Err(Damaged("frame too wide"));
        }
        *last_base = base;
        Ok(Frame { base, width })
    }

    /// Walks the sums of `start` and the differences that follow.
    #[inline]
    fn sums(
        &self,
        start: i64,
        count: usize,
        bits: &mut BitReader<'_>,
        mut each: impl FnMut(i64),
    ) -> Result<i64, Damaged> {
        let mut differences = [0u64; GROUP_COUNT_MAX];
        bits.get_run(self.width, &mut differences[..count])?;
        let mut sum = start;
        for difference in &differences[..count] {
            sum = sum.wrapping_add(self.base).wrapping_add(*difference as i64);
            each(sum);
        }
        Ok(sum)
    }
}

/// What writer and reader both know between two samples.
#[derive(Clone, Copy, Debug)]
struct State {
    time: i64,
    value: u64,
    time_base: i64,
    value_base: i64,
    scale: u8,
    leading: u8,
    trailing: u8,
}

impl State {
    fn new() -> Self {
        State {
            time: 0,
            value: 0,
            time_base: 0,
            value_base: 0,
            scale: 0,
            leading: NO_WINDOW,
            trailing: 0,
        }
    }

    /// Gives the XOR window for a difference that is not zero, and whether it is a new one.
    #[inline]
    fn window(&self, xor: u64) -> (u8, u8, bool) {
        let leading = xor.leading_zeros().min(31) as u8;
        let trailing = xor.trailing_zeros() as u8;
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            // A window that has become much too wide costs more than opening a new one.
            let waste = (leading - self.leading) + (trailing - self.trailing);
            if waste <= 11 {
                return (self.leading, self.trailing, false);
            }
        }
        (leading, trailing, true)
    }
}

/// A chunk that grows.
#[derive(Clone, Debug)]
pub struct Encoder {
    bits: BitWriter,
    count: u32,
    state: State,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder {
            bits: BitWriter::default(),
            count: 0,
            state: State::new(),
        }
    }
}

impl Encoder {
    /// Packs whole columns.
    pub fn of(times: &[i64], values: &[f64]) -> Self {
        let mut encoder = Encoder::default();
        for (times, values) in times.chunks(GROUP_COUNT_MAX).zip(values.chunks(GROUP_COUNT_MAX)) {
            encoder.push(times, values);
        }
        encoder
    }

    /// Counts the samples.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Gives the newest time; meaningless while empty.
    pub fn last_time(&self) -> i64 {
        self.state.time
    }

    /// Appends a group of 1 to 16 samples.
    pub fn push(&mut self, mut times: &[i64], mut values: &[f64]) {
        debug_assert!(times.len() == values.len() && (1..=GROUP_COUNT_MAX).contains(&times.len()));
        self.bits.put(times.len() as u64 - 1, 4);
        let is_first = self.count == 0;
        if self.count as usize == GROUP_COUNT_MAX {
            // The rest will take about as much as the first group; asking for it once keeps the heap whole.
            let first = self.bits.byte_count();
            self.bits
                .reserve((first + first.saturating_sub(16) * 15).min(4_096));
        }
        self.count += times.len() as u32;
        if is_first {
            self.bits.put(times[0] as u64, 64);
            self.bits.put(values[0].to_bits(), 64);
            (self.state.time, self.state.value) = (times[0], values[0].to_bits());
            (times, values) = (&times[1..], &values[1..]);
        }
        if !times.is_empty() {
            self.put_times(times);
            self.put_values(values);
        }
    }

    fn put_times(&mut self, times: &[i64]) {
        let mut differences = [0i64; GROUP_COUNT_MAX];
        for (difference, time) in differences.iter_mut().zip(times) {
            *difference = time.wrapping_sub(self.state.time);
            self.state.time = *time;
        }
        let differences = &differences[..times.len()];
        Frame::of(differences).put(differences, &mut self.state.time_base, &mut self.bits);
    }

    fn put_values(&mut self, values: &[f64]) {
        let mut numbers = [0i64; GROUP_COUNT_MAX];
        match self.find_scale(values, &mut numbers) {
            Some(scale) if self.put_whole(scale, &mut numbers[..values.len()], values) => {}
            _ => self.put_xor(values),
        }
    }

    /// Finds a scale at which all values are whole, the last one used first.
    fn find_scale(&self, values: &[f64], numbers: &mut [i64]) -> Option<u8> {
        let fits = |scale: &u8, numbers: &mut [i64]| {
            let factor = SCALES[usize::from(*scale)];
            values
                .iter()
                .zip(numbers)
                .all(|(value, number)| whole(*value, factor).map(|whole| *number = whole).is_some())
        };
        let last = self.state.scale;
        if fits(&last, numbers) {
            return Some(last);
        }
        (0..SCALES.len() as u8).find(|scale| *scale != last && fits(scale, numbers))
    }

    /// Writes whole numbers, unless XOR is shorter.
    fn put_whole(&mut self, scale: u8, numbers: &mut [i64], values: &[f64]) -> bool {
        let last = whole(f64::from_bits(self.state.value), SCALES[usize::from(scale)]);
        let first = numbers[0];
        // From here on `numbers` are differences.
        let mut before = last.unwrap_or(first);
        for number in numbers.iter_mut() {
            let difference = *number - before;
            before = *number;
            *number = difference;
        }
        let last_base = if scale == self.state.scale {
            self.state.value_base
        } else {
            0
        };
        let differences = if last.is_some() {
            &numbers[..]
        } else {
            &numbers[1..]
        };
        let frame = Frame::of(differences);
        let raw_bits = if last.is_some() { 0 } else { WHOLE_BITS };
        if frame.width > 1 && frame.bits(differences.len(), last_base) + raw_bits + 3 > self.xor_bits(values)
        {
            return false;
        }
        self.bits.put(1, 1);
        self.bits.put(u64::from(scale), 3);
        if last.is_none() {
            self.bits.put(fold(first), WHOLE_BITS);
        }
        self.state.scale = scale;
        self.state.value_base = last_base;
        frame.put(differences, &mut self.state.value_base, &mut self.bits);
        self.state.value = values[values.len() - 1].to_bits();
        true
    }

    /// Counts the bits that XOR would take.
    fn xor_bits(&self, values: &[f64]) -> u32 {
        let (mut state, mut bits) = (self.state, 0);
        for value in values {
            let xor = value.to_bits() ^ state.value;
            state.value = value.to_bits();
            if xor == 0 {
                bits += 1;
                continue;
            }
            let (leading, trailing, is_new) = state.window(xor);
            bits += if is_new { 13 } else { 2 } + 64 - u32::from(leading) - u32::from(trailing);
            (state.leading, state.trailing) = (leading, trailing);
        }
        bits
    }

    fn put_xor(&mut self, values: &[f64]) {
        self.bits.put(0, 1);
        for value in values {
            let xor = value.to_bits() ^ self.state.value;
            self.state.value = value.to_bits();
            if xor == 0 {
                self.bits.put(0, 1);
                continue;
            }
            let (leading, trailing, is_new) = self.state.window(xor);
            let width = 64 - u32::from(leading) - u32::from(trailing);
            if is_new {
                let head = 0b11 << 11 | u64::from(leading) << 6 | u64::from(width - 1);
                self.bits.put(head, 13);
                (self.state.leading, self.state.trailing) = (leading, trailing);
            } else {
                self.bits.put(0b10, 2);
            }
            self.bits.put(xor >> trailing, width);
        }
    }

    /// Gives the chunk's bytes; the count is kept elsewhere.
    pub fn into_bytes(self) -> Box<[u8]> {
        self.bits.into_bytes()
    }

    /// Appends the chunk's bytes to `out`.
    pub fn finish_into(&self, out: &mut Vec<u8>) {
        self.bits.finish_into(out);
    }
}

/// Appends the `count` samples of a chunk to `out`. After an error `out` holds what came before the damage.
///
/// Fuzz target: any bytes and any count are safe.
pub fn decode_into(bytes: &[u8], count: usize, out: &mut Columns) -> Result<(), Damaged> {
    // A group of 16 takes at least 34 bits.
    if count.div_ceil(GROUP_COUNT_MAX).saturating_mul(34) > bytes.len().saturating_mul(8).saturating_add(34) {
        return Err(Damaged("chunk too short for its count"));
    }
    let mut bits = BitReader::new(bytes);
    out.timestamps.reserve(count);
    out.values.reserve(count);
    let mut state = State::new();
    let mut left = count;
    while left > 0 {
        let group = bits.get(4)? as usize + 1;
        let mut rest = group;
        if group > left {
            return Err(Damaged("group larger than its chunk"));
        }
        if left == count {
            state.time = bits.get(64)? as i64;
            state.value = bits.get(64)?;
            out.push(state.time, f64::from_bits(state.value));
            rest -= 1;
        }
        left -= group;
        if rest > 0 {
            let from = out.len();
            let read = get_group(&mut bits, rest, &mut state, out);
            if read.is_err() {
                out.timestamps.truncate(from);
                out.values.truncate(from);
                return read;
            }
        }
    }
    Ok(())
}

fn get_group(
    bits: &mut BitReader<'_>,
    count: usize,
    state: &mut State,
    out: &mut Columns,
) -> Result<(), Damaged> {
    let frame = Frame::get(&mut state.time_base, bits)?;
    state.time = frame.sums(state.time, count, bits, |time| out.timestamps.push(time))?;
    if bits.bit()? {
        return get_whole(bits, count, state, out);
    }
    for _ in 0..count {
        if bits.bit()? {
            if bits.bit()? {
                let head = bits.get(11)?;
                state.leading = (head >> 6) as u8;
                let width = (head & 63) as u8 + 1;
                state.trailing = 64u8
                    .checked_sub(state.leading + width)
                    .ok_or(Damaged("value window too wide"))?;
            } else if state.leading == NO_WINDOW {
                return Err(Damaged("value window never opened"));
            }
            let width = 64 - u32::from(state.leading) - u32::from(state.trailing);
            state.value ^= bits.get(width)? << state.trailing;
        }
        out.values.push(f64::from_bits(state.value));
    }
    Ok(())
}

fn get_whole(
    bits: &mut BitReader<'_>,
    count: usize,
    state: &mut State,
    out: &mut Columns,
) -> Result<(), Damaged> {
    let scale = bits.get(3)? as u8;
    if scale != state.scale {
        (state.scale, state.value_base) = (scale, 0);
    }
    let factor = SCALES[usize::from(scale)];
    let (mut number, mut count) = (0i64, count);
    match whole(f64::from_bits(state.value), factor) {
        Some(last) => number = last,
        None => {
            number = number.wrapping_add(unfold(bits.get(WHOLE_BITS)?));
            out.values.push(number as f64 / factor);
            count -= 1;
        }
    }
    let frame = Frame::get(&mut state.value_base, bits)?;
    number = frame.sums(number, count, bits, |number| {
        out.values.push(number as f64 / factor)
    })?;
    state.value = (number as f64 / factor).to_bits();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use marketprism_model::sample::STALE_NAN_BITS;
    use proptest::prelude::*;

    fn round_trip(samples: &[(i64, u64)]) -> usize {
        let times: Vec<i64> = samples.iter().map(|(time, _)| *time).collect();
        let values: Vec<f64> = samples.iter().map(|(_, bits)| f64::from_bits(*bits)).collect();
        let (mut bytes, mut columns) = (Vec::new(), Columns::default());
        Encoder::of(&times, &values).finish_into(&mut bytes);
        decode_into(&bytes, samples.len(), &mut columns).expect("own bytes");
        let back: Vec<(i64, u64)> = columns.iter().map(|(t, v)| (t, v.to_bits())).collect();
        assert_eq!(back, samples);
        bytes.len()
    }

    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![
            6 => (-100_000i64..100_000, 0u32..5).prop_map(|(n, digits)| (n as f64 / 10f64.powi(digits as i32)).to_bits()),
            2 => (0u64..1 << 53).prop_map(|n| (n as f64).to_bits()),
            1 => any::<u64>(),
            1 => prop_oneof![Just(STALE_NAN_BITS), Just(f64::NAN.to_bits()), Just((-0.0f64).to_bits()), Just(0), Just(f64::INFINITY.to_bits())],
        ]
    }

    proptest! {
        #[test]
        fn any_samples_come_back_bit_for_bit(samples in proptest::collection::vec(any::<(i64, u64)>(), 0..300)) {
            round_trip(&samples);
        }

        #[test]
        fn likely_samples_come_back_bit_for_bit(
            start in 0i64..2_000_000_000_000,
            steps in proptest::collection::vec((-3i64..20_000, value()), 1..300),
            is_steady in any::<bool>(),
        ) {
            let (mut time, mut last) = (start, 1.0f64.to_bits());
            let samples: Vec<(i64, u64)> = steps.iter().map(|(step, bits)| {
                time += step;
                if !is_steady || step % 3 == 0 { last = *bits }
                (time, last)
            }).collect();
            round_trip(&samples);
        }

        #[test]
        fn groups_of_any_size_come_back(sizes in proptest::collection::vec(1usize..=16, 1..20), digits in 0i32..8) {
            let (mut encoder, mut expected) = (Encoder::default(), Columns::default());
            for size in sizes {
                let from = expected.len();
                for _ in 0..size {
                    let n = expected.len() as i64;
                    expected.push(n * 15_000 + n % 3, (n * n % 1_000) as f64 / 10f64.powi(digits));
                }
                encoder.push(&expected.timestamps[from..], &expected.values[from..]);
            }
            let (mut bytes, mut back) = (Vec::new(), Columns::default());
            encoder.finish_into(&mut bytes);
            decode_into(&bytes, expected.len(), &mut back).expect("own bytes");
            prop_assert_eq!(back, expected);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0usize..2_000) {
            let mut columns = Columns::default();
            let _ = decode_into(&bytes, count, &mut columns);
            prop_assert!(columns.len() <= count && columns.values.len() == columns.timestamps.len());
        }

        #[test]
        fn damaged_chunks_are_decoded_or_refused(at in any::<prop::sample::Index>(), flip in 1u8..=255) {
            let times: Vec<i64> = (0..100).map(|i| i * 15_000 + i % 2).collect();
            let values: Vec<f64> = (0..100).map(|i| if i < 50 { i as f64 / 10.0 } else { 1.0 / (i as f64) }).collect();
            let mut bytes = Vec::new();
            Encoder::of(&times, &values).finish_into(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let _ = decode_into(&bytes, times.len(), &mut Columns::default());
        }
    }

    #[test]
    fn sizes_are_those_of_the_drawing() {
        let size = |value: fn(i64) -> f64, jitter: fn(i64) -> i64| {
            let samples: Vec<(i64, u64)> = (0..240)
                .map(|i| (i * 15_000 + jitter(i), value(i).to_bits()))
                .collect();
            round_trip(&samples)
        };
        // 15 groups of 4 + 14 + 4 + 14 bits; the first sample whole (128); the step of 15,000 folded once (15 bits).
        assert_eq!(size(|_| 42.0, |_| 0), (15 * 36 + 128 + 15usize).div_ceil(8));
        // A counter of hundredths with steps of 0 to 10.23 takes 10 bits a sample and some for the frames.
        let counter = size(|i| (i * 600 + i * 7919 % 511) as f64 / 100.0, |_| 0);
        assert!(counter * 8 < 240 * 13, "{counter} bytes");
    }
}

//! Columns of a block: values and times compressed by pco, bit for bit.
//!
//! pco needs some hundred numbers to pay for its header, so short chunks take another road (`packed`), and
//! short columns of times are written as variable-length differences.

use pco::ChunkConfig;
use pco::standalone::{simple_compress, simple_decompress_into};

use super::Damaged;
use super::varint::{self, Reader};

/// A column of fewer numbers is not given to pco.
pub const PCO_COUNT_MIN: usize = 240;

/// No column holds more numbers.
pub const COUNT_MAX: usize = 1 << 16;

/// pco decodes a part of its numbers only in whole batches of so many.
const PCO_BATCH_COUNT: usize = 256;

/// Level 4 was measured to lose 1 % of size against level 8 at twice its speed.
const LEVEL: usize = 4;

const TIMES_DIFFERENCES: u8 = 0;
const TIMES_PCO: u8 = 1;

fn config() -> ChunkConfig {
    ChunkConfig::default().with_compression_level(LEVEL)
}

/// Compresses values; every bit comes back.
pub fn encode_values(values: &[f64]) -> Vec<u8> {
    simple_compress(values, &config()).expect("pco refuses only bad settings and counts above 2^24")
}

/// Appends `count` values to `out`.
///
/// Fuzz target: any bytes and any count are safe.
pub fn decode_values(bytes: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), Damaged> {
    if count > COUNT_MAX {
        return Err(Damaged("column longer than any"));
    }
    let from = out.len();
    out.resize(from + count, 0.0);
    let progress = simple_decompress_into(bytes, &mut out[from..]);
    match progress {
        Ok(progress) if progress.n_processed == count => Ok(()),
        _ => {
            out.truncate(from);
            Err(Damaged("column of values"))
        }
    }
}

/// Appends the first `needed` of `count` values to `out`.
///
/// A short window at the front of a chunk costs less than all of it: pco decodes in batches, and those behind the
/// window are left alone.
pub fn decode_first_values(
    bytes: &[u8],
    count: usize,
    needed: usize,
    out: &mut Vec<f64>,
) -> Result<(), Damaged> {
    let from = out.len();
    decode_values(bytes, needed.next_multiple_of(PCO_BATCH_COUNT).min(count), out)?;
    out.truncate(from + needed);
    Ok(())
}

/// Compresses times. They need not rise, but cost least when their steps are even.
pub fn encode_times(times: &[i64]) -> Vec<u8> {
    let mut bytes = vec![TIMES_DIFFERENCES];
    let (mut last, mut last_delta) = (0i64, 0i64);
    for time in times {
        let delta = time.wrapping_sub(last);
        varint::put_i64(&mut bytes, delta.wrapping_sub(last_delta));
        (last, last_delta) = (*time, delta);
    }
    if times.len() >= PCO_COUNT_MIN {
        let mut packed = vec![TIMES_PCO];
        packed.extend(
            simple_compress(times, &config()).expect("pco refuses only bad settings and counts above 2^24"),
        );
        if packed.len() < bytes.len() {
            return packed;
        }
    }
    bytes
}

/// Appends `count` times to `out`.
///
/// Fuzz target: any bytes and any count are safe.
pub fn decode_times(bytes: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), Damaged> {
    if count > COUNT_MAX {
        return Err(Damaged("column longer than any"));
    }
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        TIMES_DIFFERENCES => {
            if count > reader.remaining() {
                return Err(Damaged("count larger than what is there"));
            }
            let (mut last, mut delta) = (0i64, 0i64);
            for _ in 0..count {
                delta = delta.wrapping_add(reader.var_i64()?);
                last = last.wrapping_add(delta);
                out.push(last);
            }
            Ok(())
        }
        TIMES_PCO => {
            let from = out.len();
            out.resize(from + count, 0);
            match simple_decompress_into(&bytes[1..], &mut out[from..]) {
                Ok(progress) if progress.n_processed == count => Ok(()),
                _ => {
                    out.truncate(from);
                    Err(Damaged("column of times"))
                }
            }
        }
        _ => Err(Damaged("unknown form of times")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_values_come_back_bit_for_bit(bits in proptest::collection::vec(any::<u64>(), 1..700)) {
            let values: Vec<f64> = bits.iter().map(|b| f64::from_bits(*b)).collect();
            let mut back = Vec::new();
            decode_values(&encode_values(&values), values.len(), &mut back).expect("own bytes");
            prop_assert_eq!(back.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), bits);
        }

        #[test]
        fn decimal_values_with_stale_marks_come_back(parts in proptest::collection::vec((0i32..100_000, 0u8..20), 240..500)) {
            let values: Vec<f64> = parts.iter().map(|(value, stale)| match stale {
                0 => marketprism_model::sample::stale_nan(),
                1 => f64::NAN,
                _ => f64::from(*value) / 100.0,
            }).collect();
            let mut back = Vec::new();
            decode_values(&encode_values(&values), values.len(), &mut back).expect("own bytes");
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&values));
        }

        #[test]
        fn the_first_values_are_those_of_the_whole(bits in proptest::collection::vec(any::<u64>(), 1..700), needed in any::<prop::sample::Index>()) {
            let values: Vec<f64> = bits.iter().map(|b| f64::from_bits(*b)).collect();
            let needed = needed.index(values.len() + 1);
            let mut back = vec![1.0];
            decode_first_values(&encode_values(&values), values.len(), needed, &mut back).expect("own bytes");
            prop_assert_eq!(back[1..].iter().map(|v| v.to_bits()).collect::<Vec<_>>(), &bits[..needed]);
        }

        #[test]
        fn any_times_come_back(times in proptest::collection::vec(any::<i64>(), 0..500)) {
            let mut back = Vec::new();
            decode_times(&encode_times(&times), times.len(), &mut back).expect("own bytes");
            prop_assert_eq!(back, times);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0usize..3_000) {
            let (mut values, mut times) = (Vec::new(), Vec::new());
            let _ = decode_values(&bytes, count, &mut values);
            let _ = decode_times(&bytes, count, &mut times);
            prop_assert!(values.len() <= count && times.len() <= count);
        }

        #[test]
        fn damaged_columns_are_decoded_or_refused(at in any::<prop::sample::Index>(), flip in 1u8..=255) {
            let values: Vec<f64> = (0..480).map(|i| f64::from(i * 37 % 101) / 10.0).collect();
            let mut bytes = encode_values(&values);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let _ = decode_values(&bytes, values.len(), &mut Vec::new());
        }
    }
}

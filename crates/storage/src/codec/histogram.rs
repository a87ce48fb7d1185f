//! One histogram as bytes: its shape and its counts, every bit kept.
//!
//! Used by the log, where each histogram stands alone; chunks keep shapes once and counts in columns
//! (`histogram_chunk`). Numbers that are whole, as nearly all counts are, take as few bytes as they need.

use std::sync::Arc;

use marketprism_model::histogram::BUCKETS_MAX;
use marketprism_model::{BucketSpan, Buckets, Histogram, ResetHint};

use super::Damaged;
use super::varint::{self, Reader};

/// Whole numbers of at least this magnitude are written bit by bit.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
const IS_WHOLE: u8 = 0x04;
const HINTS: u8 = 0x03;

/// Gives the value as a whole number from which every bit of it comes back; not −0, NaN and the infinities.
pub fn whole(value: f64) -> Option<i64> {
    let number = value as i64;
    (value.abs() < WHOLE_MAX && (number as f64).to_bits() == value.to_bits()).then_some(number)
}

/// Appends a number: an even varint for a whole one, else 1 and its eight bytes.
fn put_number(out: &mut Vec<u8>, value: f64) {
    match whole(value) {
        Some(number) => varint::put_u64(out, (((number << 1) ^ (number >> 63)) as u64) << 1),
        None => {
            out.push(1);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }
}

fn get_number(reader: &mut Reader<'_>) -> Result<f64, Damaged> {
    match reader.var_u64()? {
        1 => Ok(f64::from_bits(reader.u64()?)),
        odd if odd & 1 == 1 => Err(Damaged("unknown form of number")),
        even => {
            let folded = even >> 1;
            Ok(((folded >> 1) as i64 ^ -((folded & 1) as i64)) as f64)
        }
    }
}

fn put_spans(out: &mut Vec<u8>, spans: &[BucketSpan]) {
    varint::put_u64(out, spans.len() as u64);
    for span in spans {
        varint::put_i64(out, i64::from(span.offset));
        varint::put_u64(out, u64::from(span.length));
    }
}

fn get_spans(reader: &mut Reader<'_>) -> Result<Vec<BucketSpan>, Damaged> {
    let count = reader.count(2)?;
    if count > BUCKETS_MAX {
        return Err(Damaged("more spans than any histogram has"));
    }
    let range = |_| Damaged("span out of range");
    let span = |reader: &mut Reader<'_>| {
        Ok(BucketSpan {
            offset: reader.var_i64()?.try_into().map_err(range)?,
            length: reader.var_u64()?.try_into().map_err(range)?,
        })
    };
    (0..count).map(|_| span(reader)).collect()
}

/// Counts the buckets that spans describe.
fn described(spans: &[BucketSpan]) -> Result<usize, Damaged> {
    let count: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if count > BUCKETS_MAX as u64 {
        return Err(Damaged("more buckets than any histogram has"));
    }
    Ok(count as usize)
}

/// Where the buckets of a histogram lie; what its counts mean.
#[derive(Clone, Debug)]
pub struct Shape {
    /// See [`Histogram::schema`].
    pub schema: i32,
    /// See [`Histogram::zero_threshold`].
    pub zero_threshold: f64,
    /// The spans above zero.
    pub positive: Vec<BucketSpan>,
    /// The spans below zero.
    pub negative: Vec<BucketSpan>,
    /// See [`Histogram::custom_bounds`].
    pub custom_bounds: Arc<[f64]>,
}

impl Shape {
    /// Copies the shape of a histogram.
    pub fn of(histogram: &Histogram) -> Self {
        Shape {
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            positive: histogram.positive.spans.clone(),
            negative: histogram.negative.spans.clone(),
            custom_bounds: Arc::clone(&histogram.custom_bounds),
        }
    }

    /// Says whether the histogram has this shape, bit for bit.
    pub fn is_of(&self, histogram: &Histogram) -> bool {
        self.schema == histogram.schema
            && self.zero_threshold.to_bits() == histogram.zero_threshold.to_bits()
            && self.positive == histogram.positive.spans
            && self.negative == histogram.negative.spans
            && is_same(&self.custom_bounds, &histogram.custom_bounds)
    }

    /// Counts the buckets above and below zero.
    pub fn bucket_counts(&self) -> Result<(usize, usize), Damaged> {
        Ok((described(&self.positive)?, described(&self.negative)?))
    }

    /// Makes a histogram of this shape.
    pub fn with(&self, positive: Vec<f64>, negative: Vec<f64>) -> Histogram {
        let side = |spans: &Vec<BucketSpan>, counts| Buckets {
            spans: spans.clone(),
            counts,
        };
        Histogram {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive: side(&self.positive, positive),
            negative: side(&self.negative, negative),
            custom_bounds: Arc::clone(&self.custom_bounds),
            ..Histogram::default()
        }
    }

    /// Appends the shape.
    pub fn put(&self, out: &mut Vec<u8>) {
        varint::put_i64(out, i64::from(self.schema));
        put_number(out, self.zero_threshold);
        put_spans(out, &self.positive);
        put_spans(out, &self.negative);
        varint::put_u64(out, self.custom_bounds.len() as u64);
        self.custom_bounds
            .iter()
            .for_each(|bound| put_number(out, *bound));
    }

    /// Reads what [`Self::put`] wrote.
    pub fn get(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let schema = reader.var_i64()?;
        let zero_threshold = get_number(reader)?;
        let (positive, negative) = (get_spans(reader)?, get_spans(reader)?);
        let count = reader.count(1)?;
        if count > BUCKETS_MAX {
            return Err(Damaged("more bounds than any histogram has"));
        }
        let bounds: Result<Vec<f64>, Damaged> = (0..count).map(|_| get_number(reader)).collect();
        Ok(Shape {
            schema: schema.try_into().map_err(|_| Damaged("schema out of range"))?,
            zero_threshold,
            positive,
            negative,
            custom_bounds: bounds?.into(),
        })
    }
}

fn is_same(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Says whether two histograms hold the same, bit for bit; what is known of a reset does not count, for whoever sends
/// a histogram again may know less.
pub fn is_same_bits(a: &Histogram, b: &Histogram) -> bool {
    Shape::of(a).is_of(b)
        && is_same(&[a.count, a.zero_count, a.sum], &[b.count, b.zero_count, b.sum])
        && is_same(&a.positive.counts, &b.positive.counts)
        && is_same(&a.negative.counts, &b.negative.counts)
}

/// Gives the number that stands for a hint.
pub fn hint_code(hint: ResetHint) -> u8 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    }
}

/// Gives the hint for which a number stands.
pub fn hint_of(code: u8) -> Result<ResetHint, Damaged> {
    match code {
        0 => Ok(ResetHint::Unknown),
        1 => Ok(ResetHint::Reset),
        2 => Ok(ResetHint::NotReset),
        3 => Ok(ResetHint::Gauge),
        _ => Err(Damaged("unknown reset hint")),
    }
}

/// Appends a histogram.
pub fn put(out: &mut Vec<u8>, histogram: &Histogram) {
    let counts = || histogram.positive.counts.iter().chain(&histogram.negative.counts);
    let is_whole = counts().all(|count| whole(*count).is_some());
    out.push(hint_code(histogram.reset_hint) | if is_whole { IS_WHOLE } else { 0 });
    Shape::of(histogram).put(out);
    for number in [histogram.count, histogram.zero_count, histogram.sum] {
        put_number(out, number);
    }
    let mut last = 0;
    for count in counts() {
        match whole(*count).filter(|_| is_whole) {
            Some(number) => {
                varint::put_i64(out, number - last);
                last = number;
            }
            None => out.extend_from_slice(&count.to_bits().to_le_bytes()),
        }
    }
}

/// Reads what [`put`] wrote.
///
/// Fuzz target: any bytes are safe; what comes back has passed [`Histogram::check`].
pub fn get(reader: &mut Reader<'_>) -> Result<Histogram, Damaged> {
    let flags = reader.u8()?;
    if flags & !(HINTS | IS_WHOLE) != 0 {
        return Err(Damaged("unknown form of histogram"));
    }
    let shape = Shape::get(reader)?;
    let (above, below) = shape.bucket_counts()?;
    let (count, zero_count, sum) = (get_number(reader)?, get_number(reader)?, get_number(reader)?);
    let is_whole = flags & IS_WHOLE != 0;
    if reader.remaining() < (above + below) * if is_whole { 1 } else { 8 } {
        return Err(Damaged("ends too early"));
    }
    let mut last = 0i64;
    let mut counts = |buckets: usize| {
        let number = |_| {
            if is_whole {
                last = last.wrapping_add(reader.var_i64()?);
                Ok(last as f64)
            } else {
                Ok(f64::from_bits(reader.u64()?))
            }
        };
        (0..buckets).map(number).collect::<Result<Vec<f64>, Damaged>>()
    };
    let (positive, negative) = (counts(above)?, counts(below)?);
    let histogram = Histogram {
        reset_hint: hint_of(flags & HINTS)?,
        count,
        zero_count,
        sum,
        ..shape.with(positive, negative)
    };
    let checked = histogram.check();
    checked.map_err(|_| Damaged("histogram that cannot be"))?;
    Ok(histogram)
}

#[cfg(test)]
pub(crate) mod strategies {
    use proptest::prelude::*;

    use super::*;

    fn count() -> impl Strategy<Value = f64> {
        prop_oneof![
            12 => (0u32..1_000).prop_map(f64::from),
            2 => 0.0f64..1e6,
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(1e300),
            1 => Just(-0.0),
        ]
    }

    fn buckets(offsets: std::ops::Range<i32>) -> impl Strategy<Value = Buckets> {
        proptest::collection::vec((offsets, proptest::collection::vec(count(), 0..4)), 0..4).prop_map(
            |runs| {
                let mut buckets = Buckets::default();
                for (place, (offset, counts)) in runs.into_iter().enumerate() {
                    buckets.spans.push(BucketSpan {
                        offset: if place == 0 { offset } else { offset.abs() },
                        length: counts.len() as u32,
                    });
                    buckets.counts.extend(counts);
                }
                buckets
            },
        )
    }

    /// Histograms that pass the door, of every kind.
    pub fn histogram() -> impl Strategy<Value = Histogram> {
        let numbers = (count(), count(), any::<u64>(), 0u8..4);
        let exponential = (
            0i32..=8,
            buckets(-5..5),
            buckets(-5..5),
            prop_oneof![Just(0.0), Just(1e-30), Just(0.5)],
        )
            .prop_map(|(schema, positive, negative, zero_threshold)| Histogram {
                schema,
                positive,
                negative,
                zero_threshold,
                ..Histogram::default()
            });
        let custom = proptest::collection::vec((1u32..100, count()), 0..6).prop_map(|steps| {
            let mut bound = 0.0;
            let mut custom = Histogram {
                schema: marketprism_model::histogram::CUSTOM_BOUNDS_SCHEMA,
                ..Histogram::default()
            };
            let mut bounds = Vec::new();
            for (step, count) in &steps {
                bound += f64::from(*step) / 8.0;
                bounds.push(bound);
                custom.positive.counts.push(*count);
            }
            custom.positive.spans.push(BucketSpan {
                offset: 0,
                length: steps.len() as u32,
            });
            custom.custom_bounds = bounds.into();
            custom
        });
        (
            prop_oneof![3 => exponential.boxed(), 1 => custom.boxed()],
            numbers,
        )
            .prop_map(|(shape, (count, zero_count, sum, hint))| Histogram {
                count,
                zero_count: if shape.has_custom_bounds() {
                    0.0
                } else {
                    zero_count
                },
                sum: f64::from_bits(sum),
                reset_hint: hint_of(hint).expect("one of four"),
                ..shape
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::strategies::histogram;
    use super::*;

    proptest! {
        #[test]
        fn any_histogram_comes_back_bit_for_bit(histograms in proptest::collection::vec(histogram(), 1..5)) {
            let mut bytes = Vec::new();
            histograms.iter().for_each(|histogram| put(&mut bytes, histogram));
            let mut reader = Reader::new(&bytes);
            for histogram in &histograms {
                prop_assert_eq!(histogram.check(), Ok(()), "the strategy makes what passes the door");
                let back = get(&mut reader).expect("own bytes");
                prop_assert!(is_same_bits(histogram, &back));
                prop_assert_eq!(back.reset_hint, histogram.reset_hint);
            }
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(histogram) = get(&mut Reader::new(&bytes)) {
                prop_assert_eq!(histogram.check(), Ok(()));
            }
        }

        #[test]
        fn damaged_histograms_are_decoded_or_refused(histogram in histogram(), at in any::<prop::sample::Index>(), flip in 1u8..=255) {
            let mut bytes = Vec::new();
            put(&mut bytes, &histogram);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let _ = get(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn a_histogram_of_whole_numbers_is_as_long_as_the_drawing_says() {
        let histogram = Histogram {
            schema: 3,
            count: 10.0,
            sum: 2.5,
            positive: Buckets {
                spans: vec![BucketSpan {
                    offset: -2,
                    length: 4,
                }],
                counts: vec![1.0, 2.0, 3.0, 4.0],
            },
            ..Histogram::default()
        };
        let mut bytes = Vec::new();
        put(&mut bytes, &histogram);
        let expected = [
            &[0x04, 6, 0][..],               // whole, schema 3, threshold 0
            &[1, 3, 4, 0, 0],                // one span from −2 of 4, none below, no bounds
            &[40, 0],                        // count 10, nothing in the zero bucket
            &[1, 0, 0, 0, 0, 0, 0, 4, 0x40], // sum 2.5
            &[2, 2, 2, 2],                   // each count one more than the one before
        ]
        .concat();
        assert_eq!(bytes, expected);
    }
}

//! A run of histograms of one series as bytes: each shape once, each bucket's counts as a column.
//!
//! A histogram that gets a new bucket gets a new shape, but its other buckets stay in their columns, so that their
//! counts go on being differences. A column is as long as there are histograms with its bucket. The count of all
//! observations is written as what it is more than its buckets, which is nothing for nearly every histogram.

use std::sync::Arc;

use marketprism_model::Histogram;

use super::bits::{BitReader, BitWriter};
use super::histogram::{self, Shape, hint_code, hint_of, whole};
use super::varint::{self, Reader};
use super::{Damaged, column, packed};
use crate::columns::Columns;

/// The histograms of a chunk weigh no more together, by [`Histogram::weight`].
pub const WEIGHT_MAX: usize = 1 << 20;

const COLUMN_CONSTANT: u8 = 0;
const COLUMN_WHOLE: u8 = 1;
const COLUMN_PACKED: u8 = 2;
const COLUMN_PCO: u8 = 3;

/// So many differences share one base and one width.
const GROUP_COUNT: usize = 32;

/// A shape, and the columns of its buckets.
struct Placed {
    shape: Shape,
    positive: Vec<usize>,
    negative: Vec<usize>,
    uses: usize,
}

/// Neighbours of one shape and one hint.
struct Run {
    shape: usize,
    hint: u8,
    count: usize,
}

/// Gives the indices of a side's buckets, nearest to zero first.
fn indices(spans: &[marketprism_model::BucketSpan], into: &mut Vec<i64>) {
    into.clear();
    let mut index = 0i64;
    for span in spans {
        index = index.saturating_add(i64::from(span.offset));
        into.extend(index..index.saturating_add(i64::from(span.length)));
        index = index.saturating_add(i64::from(span.length));
    }
}

/// Gives each bucket of each shape its column; gives the number of columns.
///
/// The columns are those of the buckets above zero by rising index, then of those below.
fn place(shapes: &mut [Placed]) -> usize {
    let (mut first, mut list) = (0, Vec::new());
    for is_positive in [true, false] {
        let mut all: Vec<i64> = Vec::new();
        for placed in shapes.iter() {
            let shape = &placed.shape;
            indices(
                if is_positive {
                    &shape.positive
                } else {
                    &shape.negative
                },
                &mut list,
            );
            all.extend_from_slice(&list);
            if all.len() > 4 * WEIGHT_MAX {
                all.sort_unstable();
                all.dedup();
            }
        }
        all.sort_unstable();
        all.dedup();
        for placed in shapes.iter_mut() {
            let shape = &placed.shape;
            indices(
                if is_positive {
                    &shape.positive
                } else {
                    &shape.negative
                },
                &mut list,
            );
            let column = |index: &i64| first + all.binary_search(index).unwrap_or_default();
            let columns = list.iter().map(column).collect();
            *(if is_positive {
                &mut placed.positive
            } else {
                &mut placed.negative
            }) = columns;
        }
        first += all.len();
    }
    first
}

/// Appends a column of numbers.
fn put_column(out: &mut Vec<u8>, values: &[f64]) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|value| value.to_bits() == first.to_bits()) {
        out.push(COLUMN_CONSTANT);
        out.extend_from_slice(&first.to_bits().to_le_bytes());
        return;
    }
    let numbers: Option<Vec<i64>> = values.iter().map(|value| whole(*value)).collect();
    let (mut form, mut bytes) = match numbers {
        Some(numbers) => (COLUMN_WHOLE, whole_column(&numbers)),
        None => {
            let places: Vec<i64> = (0..values.len() as i64).collect();
            let mut bytes = Vec::new();
            packed::Encoder::of(&places, values).finish_into(&mut bytes);
            (COLUMN_PACKED, bytes)
        }
    };
    if values.len() >= column::PCO_COUNT_MIN {
        let other = column::encode_values(values);
        if other.len() < bytes.len() {
            (form, bytes) = (COLUMN_PCO, other);
        }
    }
    out.push(form);
    varint::put_bytes(out, &bytes);
}

fn whole_column(numbers: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint::put_i64(&mut bytes, numbers[0]);
    let differences: Vec<i64> = numbers.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for group in differences.chunks(GROUP_COUNT) {
        let base = group.iter().copied().min().unwrap_or_default();
        let widest = group.iter().map(|difference| (difference - base) as u64).max();
        let width = 64 - widest.unwrap_or_default().leading_zeros();
        varint::put_i64(&mut bytes, base);
        bytes.push(width as u8);
        let mut bits = BitWriter::default();
        group
            .iter()
            .for_each(|difference| bits.put((difference - base) as u64, width));
        bits.finish_into(&mut bytes);
    }
    bytes
}

fn get_column(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, Damaged> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let form = reader.u8()?;
    if form == COLUMN_CONSTANT {
        return Ok(vec![f64::from_bits(reader.u64()?); count]);
    }
    let bytes = reader.prefixed()?;
    let mut columns = Columns::default();
    match form {
        COLUMN_WHOLE => columns.values = get_whole_column(bytes, count)?,
        COLUMN_PACKED => packed::decode_into(bytes, count, &mut columns)?,
        COLUMN_PCO => column::decode_values(bytes, count, &mut columns.values)?,
        _ => return Err(Damaged("unknown form of column")),
    }
    if columns.values.len() != count {
        return Err(Damaged("column of another length"));
    }
    Ok(columns.values)
}

fn get_whole_column(bytes: &[u8], count: usize) -> Result<Vec<f64>, Damaged> {
    let mut reader = Reader::new(bytes);
    let mut number = reader.var_i64()?;
    let mut values = vec![number as f64];
    while values.len() < count {
        let in_group = (count - values.len()).min(GROUP_COUNT);
        let (base, width) = (reader.var_i64()?, u32::from(reader.u8()?));
        if width > 64 {
            return Err(Damaged("wider than any number"));
        }
        let mut bits = BitReader::new(reader.bytes((in_group * width as usize).div_ceil(8))?);
        for _ in 0..in_group {
            number = number.wrapping_add(base).wrapping_add(bits.get(width)? as i64);
            values.push(number as f64);
        }
    }
    if !reader.is_empty() {
        return Err(Damaged("more than a column"));
    }
    Ok(values)
}

/// The columns under way: sum, count, zero count, and one for each bucket.
const FIXED_COLUMNS: usize = 3;

/// Gives what the buckets and the zero bucket count together, when every number is whole.
fn total(histogram: &Histogram) -> Option<i64> {
    let counts = histogram.positive.counts.iter().chain(&histogram.negative.counts);
    let sum = counts
        .chain([&histogram.zero_count])
        .try_fold(0i64, |sum, count| sum.checked_add(whole(*count)?));
    sum.filter(|sum| whole(*sum as f64) == Some(*sum) && whole(histogram.count).is_some())
}

/// Compresses histograms; every bit comes back. Together they weigh at most [`WEIGHT_MAX`].
pub fn encode(histograms: &[Arc<Histogram>]) -> Vec<u8> {
    let (mut shapes, mut runs) = (Vec::<Placed>::new(), Vec::<Run>::new());
    for histogram in histograms {
        let hint = hint_code(histogram.reset_hint);
        if let Some(run) = runs.last_mut()
            && run.hint == hint
            && shapes[run.shape].shape.is_of(histogram)
        {
            run.count += 1;
            continue;
        }
        let known = shapes.iter().position(|placed| placed.shape.is_of(histogram));
        let shape = known.unwrap_or_else(|| {
            shapes.push(Placed::new(Shape::of(histogram)));
            shapes.len() - 1
        });
        runs.push(Run {
            shape,
            hint,
            count: 1,
        });
    }
    let mut columns = vec![Vec::new(); FIXED_COLUMNS + place(&mut shapes)];
    let totals: Option<Vec<i64>> = histograms.iter().map(|histogram| total(histogram)).collect();
    let shape_of = runs
        .iter()
        .flat_map(|run| std::iter::repeat_n(run.shape, run.count));
    for (at, (histogram, shape)) in histograms.iter().zip(shape_of).enumerate() {
        let buckets = totals.as_ref().map_or(0.0, |totals| totals[at] as f64);
        columns[0].push(histogram.sum);
        columns[1].push(if totals.is_some() {
            histogram.count - buckets
        } else {
            histogram.count
        });
        columns[2].push(histogram.zero_count);
        let placed = &shapes[shape];
        let above = placed.positive.iter().zip(&histogram.positive.counts);
        let below = placed.negative.iter().zip(&histogram.negative.counts);
        above
            .chain(below)
            .for_each(|(column, count)| columns[FIXED_COLUMNS + column].push(*count));
    }
    let mut out = vec![u8::from(totals.is_some())];
    varint::put_u64(&mut out, shapes.len() as u64);
    shapes.iter().for_each(|placed| placed.shape.put(&mut out));
    varint::put_u64(&mut out, runs.len() as u64);
    for run in &runs {
        varint::put_u64(&mut out, run.shape as u64);
        out.push(run.hint);
        varint::put_u64(&mut out, run.count as u64);
    }
    columns.iter().for_each(|column| put_column(&mut out, column));
    out
}

impl Placed {
    fn new(shape: Shape) -> Self {
        Placed {
            shape,
            positive: Vec::new(),
            negative: Vec::new(),
            uses: 0,
        }
    }

    fn weight(&self) -> usize {
        let shape = &self.shape;
        let spans = shape.positive.len() + shape.negative.len();
        let buckets = shape
            .bucket_counts()
            .map_or(WEIGHT_MAX, |(above, below)| above + below);
        10 + spans + buckets + shape.custom_bounds.len()
    }
}

fn get_runs(reader: &mut Reader<'_>, shapes: &mut [Placed], count: usize) -> Result<Vec<Run>, Damaged> {
    let run_count = reader.count(3)?;
    let (mut runs, mut covered, mut weight) = (Vec::with_capacity(run_count), 0usize, 0usize);
    for _ in 0..run_count {
        let (shape, hint, length) = (reader.var_u64()?, reader.u8()?, reader.var_u64()?);
        hint_of(hint)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= count - covered);
        let length = length.ok_or(Damaged("more histograms than there are"))?;
        let placed = usize::try_from(shape)
            .ok()
            .and_then(|shape| shapes.get_mut(shape));
        let placed = placed.ok_or(Damaged("shape not described"))?;
        placed.uses += length;
        covered += length;
        weight = weight.saturating_add(length.saturating_mul(placed.weight()));
        runs.push(Run {
            shape: shape as usize,
            hint,
            count: length,
        });
    }
    if covered != count {
        return Err(Damaged("fewer histograms than there are"));
    }
    if weight > WEIGHT_MAX {
        return Err(Damaged("heavier than any chunk"));
    }
    Ok(runs)
}

fn get_shapes(reader: &mut Reader<'_>) -> Result<Vec<Placed>, Damaged> {
    let count = reader.count(5)?;
    let (mut shapes, mut weight) = (Vec::with_capacity(count), 0usize);
    for _ in 0..count {
        let placed = Placed::new(Shape::get(reader)?);
        weight = weight.saturating_add(placed.weight());
        if weight > WEIGHT_MAX {
            return Err(Damaged("heavier than any chunk"));
        }
        shapes.push(placed);
    }
    Ok(shapes)
}

/// Reads `count` histograms.
///
/// Fuzz target: any bytes and any count are safe; what comes back has passed [`Histogram::check`].
pub fn decode(bytes: &[u8], count: usize) -> Result<Vec<Arc<Histogram>>, Damaged> {
    let mut reader = Reader::new(bytes);
    let is_difference = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Damaged("unknown form of chunk")),
    };
    let mut shapes = get_shapes(&mut reader)?;
    let runs = get_runs(&mut reader, &mut shapes, count)?;
    let mut lengths = vec![count; FIXED_COLUMNS + place(&mut shapes)];
    lengths[FIXED_COLUMNS..].fill(0);
    for placed in &shapes {
        for column in placed.positive.iter().chain(&placed.negative) {
            lengths[FIXED_COLUMNS + column] += placed.uses;
        }
    }
    let columns: Result<Vec<Vec<f64>>, Damaged> = lengths
        .iter()
        .map(|length| get_column(&mut reader, *length))
        .collect();
    let columns = columns?;
    if !reader.is_empty() {
        return Err(Damaged("more than its columns"));
    }
    let mut cursors = vec![0usize; columns.len()];
    let mut next = |column: usize| {
        let value = columns[column].get(cursors[column]).copied();
        cursors[column] += 1;
        value.ok_or(Damaged("column of another length"))
    };
    let mut histograms = Vec::with_capacity(count);
    for run in &runs {
        let placed = &shapes[run.shape];
        for _ in 0..run.count {
            let (sum, count, zero_count) = (next(0)?, next(1)?, next(2)?);
            let mut side = |columns: &[usize]| -> Result<Vec<f64>, Damaged> {
                columns
                    .iter()
                    .map(|column| next(FIXED_COLUMNS + column))
                    .collect()
            };
            let mut histogram = placed
                .shape
                .with(side(&placed.positive)?, side(&placed.negative)?);
            (histogram.sum, histogram.count, histogram.zero_count) = (sum, count, zero_count);
            if is_difference {
                let total = total(&histogram).ok_or(Damaged("counts that are not whole"))?;
                histogram.count += total as f64;
            }
            histogram.reset_hint = hint_of(run.hint)?;
            histogram
                .check()
                .map_err(|_| Damaged("histogram that cannot be"))?;
            histograms.push(Arc::new(histogram));
        }
    }
    Ok(histograms)
}

/// Says whether two runs hold the same, bit for bit.
pub fn is_same_run(a: &[Arc<Histogram>], b: &[Arc<Histogram>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| histogram::is_same_bits(a, b))
}

#[cfg(test)]
mod tests {
    use marketprism_model::{BucketSpan, Buckets};
    use proptest::prelude::*;

    use super::super::histogram::strategies;
    use super::*;

    /// A counter with 20 buckets, observed some 40 times a scrape; a bucket more from the middle on.
    fn growing(count: usize) -> Vec<Arc<Histogram>> {
        let mut state = 7u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut counts = vec![0.0; 20];
        let mut sum = 0.0;
        let step = |at: usize| {
            if at == count / 2 {
                counts.push(0.0);
            }
            for _ in 0..40 {
                let bucket = (random(counts.len() as u64) + random(counts.len() as u64)) / 2;
                counts[bucket as usize] += 1.0;
                sum += 0.001 * random(1_000) as f64;
            }
            Arc::new(Histogram {
                schema: 3,
                zero_threshold: 2f64.powi(-128),
                count: counts.iter().sum(),
                sum,
                positive: Buckets {
                    spans: vec![BucketSpan {
                        offset: -10,
                        length: counts.len() as u32,
                    }],
                    counts: counts.clone(),
                },
                ..Histogram::default()
            })
        };
        (0..count).map(step).collect()
    }

    proptest! {
        #[test]
        fn any_histograms_come_back_bit_for_bit(histograms in proptest::collection::vec(strategies::histogram(), 1..40)) {
            let histograms: Vec<Arc<Histogram>> = histograms.into_iter().map(Arc::new).collect();
            let back = decode(&encode(&histograms), histograms.len()).expect("own bytes");
            prop_assert!(is_same_run(&histograms, &back));
            let hints = |run: &[Arc<Histogram>]| run.iter().map(|h| h.reset_hint).collect::<Vec<_>>();
            prop_assert_eq!(hints(&histograms), hints(&back));
        }

        #[test]
        fn any_column_comes_back(numbers in proptest::collection::vec(-(1i64 << 53) + 1..1i64 << 53, 1..600), bits in proptest::collection::vec(any::<u64>(), 1..300)) {
            let whole: Vec<f64> = numbers.iter().map(|number| *number as f64).collect();
            let any: Vec<f64> = bits.iter().map(|bits| f64::from_bits(*bits)).collect();
            for values in [whole, any] {
                let mut bytes = Vec::new();
                put_column(&mut bytes, &values);
                let back = get_column(&mut Reader::new(&bytes), values.len()).expect("own bytes");
                let of = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(of(&back), of(&values));
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0usize..1_000) {
            let _ = decode(&bytes, count);
        }

        #[test]
        fn damaged_chunks_are_decoded_or_refused(at in any::<prop::sample::Index>(), flip in 1u8..=255, count in 0usize..60) {
            let mut bytes = encode(&growing(40));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(histograms) = decode(&bytes, count) {
                prop_assert!(histograms.iter().all(|histogram| histogram.check().is_ok()));
            }
        }
    }

    #[test]
    fn few_bytes_describe_much() {
        // A run of one shape whose counts do not change, and claims to be of four thousand million histograms.
        let mut bytes = vec![0, 1];
        Shape::of(&Histogram::default()).put(&mut bytes);
        bytes.extend([1, 0, 0]);
        varint::put_u64(&mut bytes, u64::from(u32::MAX));
        for _ in 0..FIXED_COLUMNS {
            bytes.push(COLUMN_CONSTANT);
            bytes.extend([0; 8]);
        }
        assert!(decode(&bytes, u32::MAX as usize).is_err());
    }

    #[test]
    fn a_counter_of_twenty_buckets_takes_a_fraction_of_its_memory() {
        let histograms = growing(480);
        let bytes = encode(&histograms);
        let (each, raw) = (bytes.len() / 480, 8 * histograms[0].weight());
        assert!(each < 24 && raw > 200, "{each} bytes a histogram, of {raw}");
        let back = decode(&bytes, 480).expect("own bytes");
        assert!(is_same_run(&histograms, &back));
    }
}

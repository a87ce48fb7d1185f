//! Native histograms as they come over the wire: counts that may be whole or not, as differences or as themselves.
//!
//! Remote write and the exposition as protobuf number their fields differently and mean the same, so what is gathered
//! here becomes a histogram in one place. What no client can mean is refused with a reason; the sender's other samples
//! are taken.

use std::sync::Arc;

use marketprism_model::histogram::BUCKETS_MAX;
use marketprism_model::{BucketSpan, Buckets, Histogram, ResetHint};

use crate::protobuf::{Broken, Reader, Value, unfold};

/// One side's buckets, as sent.
#[derive(Default)]
pub(crate) struct Side {
    spans: Vec<BucketSpan>,
    /// Of a histogram of whole numbers: each count minus the one before.
    deltas: Vec<i64>,
    /// Of any other: the counts.
    counts: Vec<f64>,
    is_overfull: bool,
}

impl Side {
    /// Says whether one more fits; what does not is not kept, and refused in the end.
    fn has_room(&mut self, count: usize) -> bool {
        self.is_overfull |= count >= BUCKETS_MAX;
        !self.is_overfull
    }

    /// Takes a span.
    pub fn span(&mut self, mut reader: Reader<'_>) -> Result<(), Broken> {
        let (mut offset, mut length) = (0i64, 0u64);
        while let Some(field) = reader.next_field()? {
            match field {
                (1, Value::Varint(value)) => offset = unfold(value),
                (2, Value::Varint(value)) => length = value,
                _ => {}
            }
        }
        if self.has_room(self.spans.len()) {
            // What does not fit into the type lies outside of every schema too.
            self.spans.push(BucketSpan {
                offset: offset.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
                length: length.min(u32::MAX.into()) as u32,
            });
        }
        Ok(())
    }

    /// Takes differences.
    pub fn deltas(&mut self, value: Value<'_>) -> Result<(), Broken> {
        value.each_varint(|delta| {
            if self.has_room(self.deltas.len()) {
                self.deltas.push(unfold(delta));
            }
        })
    }

    /// Takes counts.
    pub fn counts(&mut self, value: Value<'_>) -> Result<(), Broken> {
        value.each_double(|count| {
            if self.has_room(self.counts.len()) {
                self.counts.push(count);
            }
        })
    }

    fn build(self, is_float: bool, total: &mut i128) -> Result<Buckets, String> {
        if self.is_overfull {
            return Err(format!("more than {BUCKETS_MAX} buckets or spans on one side"));
        }
        if is_float {
            return Ok(Buckets {
                spans: self.spans,
                counts: self.counts,
            });
        }
        let (mut counts, mut count) = (Vec::with_capacity(self.deltas.len()), 0i64);
        for delta in self.deltas {
            count = count
                .checked_add(delta)
                .ok_or("a bucket's count is out of range")?;
            *total += i128::from(count);
            counts.push(count as f64);
        }
        Ok(Buckets {
            spans: self.spans,
            counts,
        })
    }
}

/// A count, in one of its two forms.
#[derive(Clone, Copy, Default)]
pub(crate) struct Count {
    pub whole: u64,
    pub float: f64,
}

/// What was sent of a histogram.
#[derive(Default)]
pub(crate) struct Sent {
    /// Counts are numbers of any kind, and buckets have counts instead of differences.
    pub is_float: bool,
    pub count: Count,
    pub zero_count: Count,
    pub sum: f64,
    pub schema: i64,
    pub zero_threshold: f64,
    pub positive: Side,
    pub negative: Side,
    pub reset_hint: ResetHint,
    pub custom_bounds: Vec<f64>,
}

impl Sent {
    /// Takes written bounds.
    pub fn custom_bounds(&mut self, value: Value<'_>) -> Result<(), Broken> {
        let bounds = &mut self.custom_bounds;
        value.each_double(|bound| {
            // One more than there may be is enough to be refused.
            if bounds.len() <= BUCKETS_MAX {
                bounds.push(bound);
            }
        })
    }

    /// Gives how many numbers were kept of it; for limits.
    pub fn weight(&self) -> usize {
        let side = |side: &Side| side.spans.len() + side.deltas.len() + side.counts.len();
        10 + side(&self.positive) + side(&self.negative) + self.custom_bounds.len()
    }

    /// Makes the histogram; says why there is none.
    pub fn build(self) -> Result<Arc<Histogram>, String> {
        let is_float = self.is_float;
        let mut total = i128::from(self.zero_count.whole);
        let number = |count: Count| if is_float { count.float } else { count.whole as f64 };
        let histogram = Histogram {
            reset_hint: self.reset_hint,
            schema: i32::try_from(self.schema).unwrap_or(i32::MIN),
            zero_threshold: self.zero_threshold,
            zero_count: number(self.zero_count),
            count: number(self.count),
            sum: self.sum,
            positive: self.positive.build(is_float, &mut total)?,
            negative: self.negative.build(is_float, &mut total)?,
            custom_bounds: self.custom_bounds.into(),
        };
        histogram.check().map_err(|error| error.to_string())?;
        let count = i128::from(self.count.whole);
        // Observations of NaN are in no bucket, and make the sum NaN.
        let is_whole = if histogram.sum.is_nan() {
            total <= count
        } else {
            total == count
        };
        if !is_float && !is_whole {
            return Err(format!("its buckets count {total}, and it counts {count}"));
        }
        Ok(Arc::new(histogram))
    }
}

/// Gives the hint for which a number stands.
pub(crate) fn hint_of(number: u64) -> ResetHint {
    match number {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

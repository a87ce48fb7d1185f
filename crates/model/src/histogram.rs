//! Native histograms: a whole distribution as one sample.
//!
//! Counts are `f64` throughout: counters of whole numbers stay exact up to 2^53, and rates, sums and
//! averages of histograms are histograms again. Buckets stand in spans, so that only populated regions
//! cost anything; bounds follow from the schema.
//! Deliberately absent: arithmetic. What the sum of two histograms is, `promql` decides.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The schema of histograms whose bounds are written out; classic buckets in the native form (NHCB).
pub const CUSTOM_BOUNDS_SCHEMA: i32 = -53;
/// The coarsest exponential schema.
pub const SCHEMA_MIN: i32 = -4;
/// The finest exponential schema.
pub const SCHEMA_MAX: i32 = 8;
/// The most populated buckets on one side, and the most custom bounds; more are refused at the door.
pub const BUCKETS_MAX: usize = 10_000;

/// What a counter histogram is known to have done before this sample.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetHint {
    /// Nothing is known; the buckets tell.
    #[default]
    Unknown,
    /// It was reset.
    Reset,
    /// It was not reset.
    NotReset,
    /// It is no counter.
    Gauge,
}

/// A run of buckets next to each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct BucketSpan {
    /// Distance to the end of the span before, in buckets; for the first span, the index of its first bucket.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// The populated buckets of one sign.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Buckets {
    /// Where the buckets are.
    pub spans: Vec<BucketSpan>,
    /// The count of each bucket of the spans, in order; not cumulated.
    pub counts: Vec<f64>,
}

/// A distribution at a moment.
///
/// Source: `github.com/prometheus/prometheus/model/histogram`, `FloatHistogram`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Histogram {
    /// What is known about a reset.
    pub reset_hint: ResetHint,
    /// −4 … 8: bounds are powers of 2^(2^−schema); [`CUSTOM_BOUNDS_SCHEMA`]: they are written out.
    pub schema: i32,
    /// Observations of at most this distance from zero are in the zero bucket.
    pub zero_threshold: f64,
    /// The count of the zero bucket.
    pub zero_count: f64,
    /// The count of all observations, NaN ones included.
    pub count: f64,
    /// The sum of all observations.
    pub sum: f64,
    /// Buckets above zero; with custom bounds, all of them.
    pub positive: Buckets,
    /// Buckets below zero, by their distance from it.
    pub negative: Buckets,
    /// Upper bounds in rising order, +Inf left out; only with [`CUSTOM_BOUNDS_SCHEMA`].
    pub custom_bounds: Arc<[f64]>,
}

/// Why a histogram cannot be.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum HistogramError {
    /// The schema is none that exists.
    #[error("histogram schema {0} is none of -4 to 8 and -53")]
    Schema(i32),
    /// Spans and counts do not fit, or lie beyond what can be.
    #[error("{side} buckets: {reason}")]
    Buckets {
        /// `positive` or `negative`.
        side: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// The custom bounds are not rising, not finite, too many, or stand where there may be none.
    #[error("custom bounds: {0}")]
    Bounds(&'static str),
    /// A count or the zero threshold is negative.
    #[error("{what} is {value}; it cannot be negative")]
    Negative {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: f64,
    },
}

impl Buckets {
    /// Calls `visit` with the index and the count of each bucket, from the one nearest to zero.
    pub fn each(&self, mut visit: impl FnMut(i32, f64)) {
        let (mut index, mut counts) = (0i32, self.counts.iter());
        for (place, span) in self.spans.iter().enumerate() {
            index = if place == 0 {
                span.offset
            } else {
                index.saturating_add(span.offset)
            };
            for count in counts.by_ref().take(span.length as usize) {
                visit(index, *count);
                index = index.saturating_add(1);
            }
        }
    }

    fn check(
        &self,
        side: &'static str,
        indices: std::ops::RangeInclusive<i64>,
    ) -> Result<(), HistogramError> {
        let fail = |reason: String| Err(HistogramError::Buckets { side, reason });
        let described: u64 = self.spans.iter().map(|span| u64::from(span.length)).sum();
        if described != self.counts.len() as u64 {
            return fail(format!(
                "spans describe {described} buckets, there are {}",
                self.counts.len()
            ));
        }
        if self.counts.len() > BUCKETS_MAX || self.spans.len() > BUCKETS_MAX {
            return fail(format!("more than {BUCKETS_MAX}"));
        }
        let mut index = 0i64;
        for (place, span) in self.spans.iter().enumerate() {
            if place > 0 && span.offset < 0 {
                return fail(format!("span {} has the offset {}", place + 1, span.offset));
            }
            index += i64::from(span.offset);
            if span.length > 0
                && !(indices.contains(&index) && indices.contains(&(index + i64::from(span.length) - 1)))
            {
                return fail(format!("span {} lies outside of what the schema has", place + 1));
            }
            index += i64::from(span.length);
        }
        match self.counts.iter().find(|count| **count < 0.0) {
            Some(count) => fail(format!("a bucket counts {count}")),
            None => Ok(()),
        }
    }
}

impl Histogram {
    /// Says whether the bounds are written out.
    pub fn has_custom_bounds(&self) -> bool {
        self.schema == CUSTOM_BOUNDS_SCHEMA
    }

    /// Gives how many samples of eight bytes it weighs about; for limits.
    pub fn weight(&self) -> usize {
        let side = |buckets: &Buckets| buckets.spans.len() + buckets.counts.len();
        10 + side(&self.positive) + side(&self.negative) + self.custom_bounds.len()
    }

    /// Refuses what no client can mean; everything behind the door may rely on it.
    pub fn check(&self) -> Result<(), HistogramError> {
        let indices = if self.has_custom_bounds() {
            self.check_custom()?;
            0..=self.custom_bounds.len() as i64
        } else if (SCHEMA_MIN..=SCHEMA_MAX).contains(&self.schema) {
            if !self.custom_bounds.is_empty() {
                return Err(HistogramError::Bounds("only schema -53 has them"));
            }
            // Indices of all f64, with one bucket more on each side.
            let of_exponent = |exponent: i64| match self.schema {
                schema if schema >= 0 => exponent << schema,
                schema => exponent >> -schema,
            };
            of_exponent(-1075) - 1..=of_exponent(1024) + 1
        } else {
            return Err(HistogramError::Schema(self.schema));
        };
        self.positive.check("positive", indices.clone())?;
        self.negative.check("negative", indices)?;
        let counts = [
            ("the zero threshold", self.zero_threshold),
            ("the zero count", self.zero_count),
            ("the count", self.count),
        ];
        match counts.into_iter().find(|(_, value)| *value < 0.0) {
            Some((what, value)) => Err(HistogramError::Negative { what, value }),
            None => Ok(()),
        }
    }

    fn check_custom(&self) -> Result<(), HistogramError> {
        let bounds = &self.custom_bounds;
        if bounds.len() > BUCKETS_MAX {
            return Err(HistogramError::Bounds("more than 10000"));
        }
        if bounds.iter().any(|bound| !bound.is_finite()) {
            return Err(HistogramError::Bounds("they must be finite"));
        }
        if bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(HistogramError::Bounds("they must rise"));
        }
        if self.zero_count != 0.0
            || self.zero_threshold != 0.0
            || !self.negative.counts.is_empty()
            || !self.negative.spans.is_empty()
        {
            return Err(HistogramError::Bounds(
                "they go without a zero bucket and negative buckets",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pairs: &[(i32, u32)]) -> Vec<BucketSpan> {
        pairs
            .iter()
            .map(|(offset, length)| BucketSpan {
                offset: *offset,
                length: *length,
            })
            .collect()
    }

    #[test]
    fn buckets_are_visited_with_their_indices() {
        let buckets = Buckets {
            spans: spans(&[(-2, 2), (1, 1)]),
            counts: vec![1.0, 2.0, 3.0],
        };
        let mut seen = Vec::new();
        buckets.each(|index, count| seen.push((index, count)));
        assert_eq!(seen, [(-2, 1.0), (-1, 2.0), (1, 3.0)]);
    }

    #[test]
    fn what_no_client_can_mean_is_refused() {
        let good = Histogram {
            positive: Buckets {
                spans: spans(&[(0, 2)]),
                counts: vec![1.0, 2.0],
            },
            count: 3.0,
            ..Histogram::default()
        };
        assert_eq!(good.check(), Ok(()));
        let check = |change: &dyn Fn(&mut Histogram)| {
            let mut histogram = good.clone();
            change(&mut histogram);
            histogram.check()
        };
        assert_eq!(check(&|h| h.schema = 9), Err(HistogramError::Schema(9)));
        assert!(check(&|h| h.positive.counts.push(1.0)).is_err());
        assert!(check(&|h| h.positive.counts[0] = -1.0).is_err());
        assert!(check(&|h| h.positive.spans[0].offset = i32::MAX).is_err());
        assert!(check(&|h| h.positive.spans = spans(&[(0, 1), (-1, 1)])).is_err());
        assert!(check(&|h| h.custom_bounds = Arc::from([1.0])).is_err());
        assert!(check(&|h| h.zero_count = -1.0).is_err());
        let custom = |bounds: &[f64]| {
            check(&|h| (h.schema, h.custom_bounds) = (CUSTOM_BOUNDS_SCHEMA, Arc::from(bounds)))
        };
        assert_eq!(custom(&[1.0]), Ok(()));
        assert!(custom(&[]).is_err(), "two buckets need a bound");
        assert!(custom(&[2.0, 1.0]).is_err());
        assert!(custom(&[1.0, f64::INFINITY]).is_err());
    }
}

//! Samples, and the port by which every room hands them to the store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Histogram, HistogramError, Labels, Timestamp};

/// The bits that say "this series has ended here"; kept bit for bit on every road.
///
/// Source: `github.com/prometheus/prometheus/model/value`.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Gives the value that marks the end of a series.
pub const fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Says whether the value is the mark of an ended series; other NaNs are values.
pub const fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// Writes a float field to JSON without losing NaN and the infinities, which become the strings `"NaN"`,
/// `"+Inf"` and `"-Inf"`: `#[serde(with = "float")]`.
pub mod float {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a number, or one of the three strings.
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            serializer.serialize_f64(*value)
        } else if value.is_nan() {
            serializer.serialize_str("NaN")
        } else {
            serializer.serialize_str(if *value > 0.0 { "+Inf" } else { "-Inf" })
        }
    }

    /// Reads what [`serialize`] wrote.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(value) => Ok(value),
            Written::Word(word) => word
                .parse()
                .map_err(|_| serde::de::Error::custom(format_args!("not a number: {word:?}"))),
        }
    }
}

/// A value at a moment.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub timestamp: Timestamp,
    /// What.
    #[serde(with = "float")]
    pub value: f64,
}

/// The store's name for a series. Opaque, and short-lived: a series that got no samples for long loses it,
/// and [`SampleSink::append`] then reports the samples that came under it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SeriesRef(pub u64);

/// A sample of a series that the store has named.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RefSample {
    /// The series.
    pub series: SeriesRef,
    /// When.
    pub timestamp: Timestamp,
    /// What.
    pub value: f64,
}

/// A histogram of a series that the store has named.
#[derive(Clone, PartialEq, Debug)]
pub struct RefHistogram {
    /// The series.
    pub series: SeriesRef,
    /// When.
    pub timestamp: Timestamp,
    /// What; [`Histogram::check`] holds for it.
    pub histogram: Arc<Histogram>,
}

/// When an append may be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// At once; the log is synchronised within the store's sync interval. For scrapes and derived series.
    Interval,
    /// After the samples are on the disk. For whoever acknowledges to somebody outside.
    Synced,
}

/// What became of the samples of one append.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Appended {
    /// Taken, or there already with the same bits.
    pub accepted: usize,
    /// Older than the out-of-order window.
    pub too_old: usize,
    /// Further ahead of the clock than the store allows.
    pub too_far_ahead: usize,
    /// At a moment that holds another value.
    pub conflicting: usize,
    /// Positions of samples whose series the store no longer knows: name it again and append once more.
    pub unknown_series: Vec<usize>,
}

impl Appended {
    /// Counts the samples that will never be taken.
    pub fn refused(&self) -> usize {
        self.too_old + self.too_far_ahead + self.conflicting
    }
}

/// Why nothing of an append was taken.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The store holds as many series as it may.
    #[error("series limit of {limit} reached; raise storage.series_limit or drop labels with many values")]
    SeriesLimit {
        /// The limit.
        limit: usize,
    },
    /// The write-ahead log cannot be written. The samples can be read, so that alerting goes on, but they are not
    /// acknowledged: whoever must not lose them sends them again.
    #[error("write-ahead log: {reason}")]
    Log {
        /// The file and the system's words.
        reason: String,
    },
    /// The labels cannot name a series.
    #[error("bad labels: {reason}")]
    Labels {
        /// What is wrong with them.
        reason: String,
    },
    /// A histogram cannot be: [`Histogram::check`] refuses it.
    #[error("bad histogram: {0}")]
    Histogram(#[from] HistogramError),
    /// The store is being shut down or still replays its log.
    #[error("store is {state}")]
    Unavailable {
        /// `starting` or `stopping`.
        state: &'static str,
    },
}

/// Takes samples into the store. All rooms write through this port.
pub trait SampleSink: Send + Sync {
    /// Gives the store's name for a series, making the series when it is new.
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, AppendError>;

    /// Appends samples, in any order of series; the samples of one series oldest first.
    ///
    /// With [`Durability::Synced`] it blocks until the disk has them: call it off the async threads.
    fn append(&self, samples: &[RefSample], durability: Durability) -> Result<Appended, AppendError>;

    /// Appends histograms, in any order of series; those of one series oldest first. A moment that holds a number
    /// is [`Appended::conflicting`], as is one that holds another histogram.
    fn append_histograms(
        &self,
        histograms: &[RefHistogram],
        durability: Durability,
    ) -> Result<Appended, AppendError>;
}

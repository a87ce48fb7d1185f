//! The port through which expressions, detectors and pages read series.
//!
//! Choosing and reading are apart, because a choice can be kept: as long as the same [`Selection`] comes
//! back, everything derived from its labels (groups, join keys) still holds.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use crate::{Histogram, Labels, Matcher, TimeRange};

/// Samples of one series, oldest first. `timestamps` and `values` have the same length.
///
/// A series holds numbers, histograms, or first one and then the other; at one moment it has one of them.
/// The mark of its end is always a number.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// Moments of the numbers: milliseconds since the Unix epoch, rising.
    pub timestamps: &'a [i64],
    /// The numbers; marks of an ended series included.
    pub values: &'a [f64],
    /// The histograms with their moments, rising; empty for nearly every series.
    pub histograms: &'a [(i64, Arc<Histogram>)],
}

impl<'a> Samples<'a> {
    /// Makes samples that are numbers alone.
    pub fn numbers(timestamps: &'a [i64], values: &'a [f64]) -> Self {
        Samples {
            timestamps,
            values,
            histograms: &[],
        }
    }
}

/// Why series cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A block is damaged; what it covered is missing from the answer.
    #[error("block {block}: {reason}")]
    Corrupt {
        /// The block's name.
        block: String,
        /// What does not fit.
        reason: String,
    },
    /// The reader was told to stop: time out, client gone, shutdown.
    #[error("interrupted")]
    Interrupted,
    /// The store still replays its log.
    #[error("store is {state}")]
    Unavailable {
        /// `starting` or `stopping`.
        state: &'static str,
    },
    /// The system refused to read.
    #[error("{reason}")]
    Io {
        /// The file and the system's words.
        reason: String,
    },
}

/// Called for each series that has samples in the range: its position in the selection, then the samples.
/// An error ends the reading and comes back from [`Selection::read`].
pub type SeriesVisitor<'a> = dyn FnMut(usize, Samples<'_>) -> Result<(), ReadError> + 'a;

/// A choice of series, fixed at the moment it was made.
pub trait Selection: Send + Sync {
    /// Names this choice: two selections with the same number hold the same series in the same order.
    fn id(&self) -> u64;

    /// Gives the labels of each series, sorted by labels.
    fn labels(&self) -> &[Labels];

    /// Reads the samples of the series at `positions` that lie in `range`, calling `visit` series by series.
    fn read(
        &self,
        positions: std::ops::Range<usize>,
        range: TimeRange,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<(), ReadError>;
}

/// Where a source marks what it chose for one set of matchers, so that it finds it again without looking at them.
///
/// Whoever owns a bookmark brings it with the same matchers each time, to whatever source; what is in it is the
/// source's own affair, and a source that finds another's mark in it leaves that out of account.
#[derive(Default)]
pub struct Bookmark(Mutex<Option<Arc<dyn Any + Send + Sync>>>);

impl Bookmark {
    /// Gives what was marked, when it is of this kind.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let mark = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = mark.as_ref().filter(|mark| mark.is::<T>())?;
        Arc::downcast(Arc::clone(mark)).ok()
    }

    /// Marks something in the place of what was there.
    pub fn put(&self, mark: Arc<dyn Any + Send + Sync>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = held.replace(mark);
        drop(held);
        drop(before);
    }
}

impl fmt::Debug for Bookmark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Bookmark")
    }
}

/// Gives series to whoever asks.
pub trait SeriesSource: Send + Sync {
    /// Chooses the series that all matchers keep and that may have samples in `range`.
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, ReadError>;

    /// The same as [`SeriesSource::select`], for matchers that come again and again: a source may mark its choice.
    fn select_again(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        bookmark: &Bookmark,
    ) -> Result<Arc<dyn Selection>, ReadError> {
        let _ = bookmark;
        self.select(matchers, range)
    }

    /// Gives the label names of the chosen series, sorted; all series when there is no matcher.
    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, ReadError>;

    /// Gives the values of one label among the chosen series, sorted; all series when there is no matcher.
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, ReadError>;
}

//! A source that counts what is read from it: for the `stats` of an answer, and for the limits of one put together.
//!
//! Every sample counts once for each time that it is read; choices keep their numbers, so the engine's tables hold.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use marketprism_model::series::{ReadError, SeriesVisitor};
use marketprism_model::{Labels, Matcher, Selection, SeriesSource, TimeRange};

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Read {
    /// Samples; a histogram counts as what it weighs.
    pub samples: u64,
    /// Series that were chosen, for each selector anew.
    pub series: u64,
}

#[derive(Default)]
struct Counts {
    samples: AtomicU64,
    series: AtomicU64,
}

/// The counting source.
pub(crate) struct Counted<'a> {
    source: &'a dyn SeriesSource,
    counts: Arc<Counts>,
}

impl<'a> Counted<'a> {
    /// Wraps a source.
    pub(crate) fn new(source: &'a dyn SeriesSource) -> Self {
        Counted {
            source,
            counts: Arc::default(),
        }
    }

    /// Gives what was read since the last call.
    pub(crate) fn take(&self) -> Read {
        Read {
            samples: self.counts.samples.swap(0, Ordering::Relaxed),
            series: self.counts.series.swap(0, Ordering::Relaxed),
        }
    }
}

impl SeriesSource for Counted<'_> {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        let inner = self.source.select(matchers, range)?;
        let series = inner.labels().len() as u64;
        self.counts.series.fetch_add(series, Ordering::Relaxed);
        Ok(Arc::new(CountedSelection {
            inner,
            counts: Arc::clone(&self.counts),
        }))
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, ReadError> {
        self.source.label_names(matchers, range)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, ReadError> {
        self.source.label_values(name, matchers, range)
    }
}

struct CountedSelection {
    inner: Arc<dyn Selection>,
    counts: Arc<Counts>,
}

impl Selection for CountedSelection {
    fn id(&self) -> u64 {
        self.inner.id()
    }

    fn labels(&self) -> &[Labels] {
        self.inner.labels()
    }

    fn read(
        &self,
        positions: Range<usize>,
        range: TimeRange,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<(), ReadError> {
        let mut samples = 0;
        let outcome = self.inner.read(positions, range, &mut |position, read| {
            samples += read.values.len();
            samples += read
                .histograms
                .iter()
                .map(|(_, histogram)| histogram.weight())
                .sum::<usize>();
            visit(position, read)
        });
        self.counts.samples.fetch_add(samples as u64, Ordering::Relaxed);
        outcome
    }
}

//! Series in memory, for time that is simulated: what a unit test is given, and what rules write meanwhile.
//!
//! A source and a sink in one. Input is loaded beforehand and becomes visible moment by moment, so that no
//! expression sees what lies ahead. Deliberately absent: limits of the real store (age, order, retention), and
//! whatever makes it durable.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use marketprism_model::sample::{AppendError, Appended, Durability};
use marketprism_model::series::ReadError;
use marketprism_model::{
    Histogram, Labels, Matcher, RefHistogram, RefSample, SampleSink, Selection, SeriesRef, SeriesSource,
    TimeRange, Timestamp,
};
use marketprism_promql::memory::{self, MemorySeries};
use parking_lot::{Mutex, RwLock};

/// One value of input, at its moment.
#[derive(Clone, PartialEq, Debug)]
pub enum Point {
    /// A number; the mark of an ended series included.
    Number(f64),
    /// A histogram.
    Histogram(Arc<Histogram>),
}

/// Series that grow, in the order of time.
#[derive(Default)]
pub struct Memory {
    visible: memory::Memory,
    named: RwLock<Named>,
    /// Input that is not visible yet, the newest first.
    ahead: Mutex<Vec<(MemorySeries, Vec<(i64, Point)>)>>,
    /// What was written to the sink, as so many samples.
    written: AtomicU64,
}

/// Series by the numbers under which the sink knows them.
#[derive(Default)]
struct Named {
    by_labels: HashMap<Labels, u64>,
    series: Vec<MemorySeries>,
}

impl Memory {
    /// Takes a series whose points become visible as [`Memory::show_until`] tells; `points` are in the order of time.
    pub fn load(&self, labels: &Labels, mut points: Vec<(i64, Point)>) {
        points.reverse();
        self.ahead.lock().push((self.visible.series(labels), points));
    }

    /// Shows all input up to a moment, itself included. A point that is not newer than what its series already holds is
    /// dropped, as a store would drop it.
    pub fn show_until(&self, at: Timestamp) {
        let mut ahead = self.ahead.lock();
        for (series, points) in ahead.iter_mut() {
            while points.last().is_some_and(|(due, _)| *due <= at.millis()) {
                let Some((due, point)) = points.pop() else { break };
                let due = Timestamp::from_millis(due);
                match point {
                    Point::Number(value) => series.push(due, value),
                    Point::Histogram(histogram) => series.push_histogram(due, &histogram),
                };
            }
        }
        ahead.retain(|(_, points)| !points.is_empty());
    }

    /// Gives how many samples were written, a histogram counted as what it weighs. It is for the writer to stop in time.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn named(&self, series: SeriesRef) -> Option<MemorySeries> {
        let position = usize::try_from(series.0).ok()?;
        self.named.read().series.get(position).cloned()
    }
}

impl SeriesSource for Memory {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        self.visible.select(matchers, range)
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, ReadError> {
        self.visible.label_names(matchers, range)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, ReadError> {
        self.visible.label_values(name, matchers, range)
    }
}

impl SampleSink for Memory {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        if let Some(known) = self.named.read().by_labels.get(labels) {
            return Ok(SeriesRef(*known));
        }
        let mut named = self.named.write();
        let next = named.series.len() as u64;
        let number = *named.by_labels.entry(labels.clone()).or_insert(next);
        if number == next {
            named.series.push(self.visible.series(labels));
        }
        Ok(SeriesRef(number))
    }

    fn append(&self, samples: &[RefSample], _: Durability) -> Result<Appended, AppendError> {
        self.written.fetch_add(samples.len() as u64, Ordering::Relaxed);
        let pushed = samples.iter().map(|sample| {
            let series = self.named(sample.series)?;
            Some(series.push(sample.timestamp, sample.value))
        });
        Ok(counted(pushed))
    }

    fn append_histograms(&self, histograms: &[RefHistogram], _: Durability) -> Result<Appended, AppendError> {
        let weight: usize = histograms.iter().map(|sample| sample.histogram.weight()).sum();
        self.written.fetch_add(weight as u64, Ordering::Relaxed);
        let pushed = histograms.iter().map(|sample| {
            let series = self.named(sample.series)?;
            Some(series.push_histogram(sample.timestamp, &sample.histogram))
        });
        Ok(counted(pushed))
    }
}

/// Counts what was pushed; nothing for a series that is not known.
fn counted(pushed: impl Iterator<Item = Option<bool>>) -> Appended {
    let mut appended = Appended::default();
    for (place, is_newer) in pushed.enumerate() {
        match is_newer {
            None => appended.unknown_series.push(place),
            Some(true) => appended.accepted += 1,
            Some(false) => appended.conflicting += 1,
        }
    }
    appended
}

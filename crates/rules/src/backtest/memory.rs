//! Series in memory, for time that is simulated: what a unit test is given, and what rules write meanwhile.
//!
//! A source and a sink in one. Input is loaded beforehand and becomes visible moment by moment, so that no
//! expression sees what lies ahead. Deliberately absent: limits of the real store (age, order, retention), and
//! whatever makes it durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::unit_test::hint_after;
use marketprism_model::sample::{AppendError, Appended, Durability};
use marketprism_model::series::{ReadError, SeriesVisitor};
use marketprism_model::{
    Histogram, Labels, Matcher, RefHistogram, RefSample, SampleSink, Samples, Selection, SeriesRef,
    SeriesSource, TimeRange, Timestamp,
};
use parking_lot::{Mutex, RwLock};

/// One value of input, at its moment.
#[derive(Clone, PartialEq, Debug)]
pub enum Point {
    /// A number; the mark of an ended series included.
    Number(f64),
    /// A histogram.
    Histogram(Arc<Histogram>),
}

#[derive(Default)]
struct Column {
    timestamps: Vec<i64>,
    values: Vec<f64>,
    histograms: Vec<(i64, Arc<Histogram>)>,
}

impl Column {
    fn last(&self) -> Option<i64> {
        let histogram = self.histograms.last().map(|(at, _)| *at);
        self.timestamps.last().copied().max(histogram)
    }
}

impl Column {
    /// Gives a histogram with what a store would know of its reset: nothing when no histogram stands right before it.
    fn as_stored(&self, histogram: Arc<Histogram>) -> Arc<Histogram> {
        let Some((at, before)) = self.histograms.last() else {
            return histogram;
        };
        if self.timestamps.last().is_some_and(|number| number > at) {
            return histogram;
        }
        let reset_hint = hint_after(before, &histogram);
        if reset_hint == histogram.reset_hint {
            return histogram;
        }
        Arc::new(Histogram {
            reset_hint,
            ..(*histogram).clone()
        })
    }
}

type Shared = Arc<RwLock<Column>>;

/// Series that grow, in the order of time.
#[derive(Default)]
pub struct Memory {
    series: RwLock<Known>,
    chosen: Mutex<HashMap<Vec<Matcher>, Arc<Chosen>>>,
    next_id: AtomicU64,
    /// Input that is not visible yet, the newest first.
    ahead: Mutex<Vec<(Shared, Vec<(i64, Point)>)>>,
}

#[derive(Default)]
struct Known {
    by_labels: BTreeMap<Labels, usize>,
    columns: Vec<Shared>,
}

struct Chosen {
    id: u64,
    labels: Vec<Labels>,
    columns: Vec<Shared>,
}

/// Choices that are kept; more are made anew each time.
const CHOICES_MAX: usize = 4096;

impl Memory {
    /// Takes a series whose points become visible as [`Memory::show_until`] tells; `points` are in the order of time.
    pub fn load(&self, labels: &Labels, mut points: Vec<(i64, Point)>) {
        points.reverse();
        let at = self.position(labels);
        let column = Arc::clone(&self.series.read().columns[at]);
        self.ahead.lock().push((column, points));
    }

    /// Shows all input up to a moment, itself included. A point that is not newer than what its series already holds is
    /// dropped, as a store would drop it.
    pub fn show_until(&self, at: Timestamp) {
        let mut ahead = self.ahead.lock();
        for (column, points) in ahead.iter_mut() {
            let mut column = column.write();
            while points.last().is_some_and(|(due, _)| *due <= at.millis()) {
                let Some((due, point)) = points.pop() else { break };
                if column.last().is_some_and(|last| last >= due) {
                    continue;
                }
                match point {
                    Point::Number(value) => {
                        column.timestamps.push(due);
                        column.values.push(value);
                    }
                    Point::Histogram(histogram) => {
                        let histogram = column.as_stored(histogram);
                        column.histograms.push((due, histogram));
                    }
                }
            }
        }
        ahead.retain(|(_, points)| !points.is_empty());
    }

    /// Counts the series.
    pub fn len(&self) -> usize {
        self.series.read().columns.len()
    }

    /// Says whether there is no series at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn position(&self, labels: &Labels) -> usize {
        if let Some(known) = self.series.read().by_labels.get(labels) {
            return *known;
        }
        let mut series = self.series.write();
        // Choices made so far do not hold the new series.
        self.chosen
            .lock()
            .retain(|matchers, _| !matchers.iter().all(|matcher| matcher.matches_labels(labels)));
        let position = series.columns.len();
        series.columns.push(Shared::default());
        series.by_labels.insert(labels.clone(), position);
        position
    }

    fn column(&self, series: SeriesRef) -> Option<Shared> {
        let position = usize::try_from(series.0).ok()?;
        self.series.read().columns.get(position).cloned()
    }

    fn names(&self, matchers: &[Matcher], each: impl Fn(&Labels, &mut BTreeSet<String>)) -> Vec<String> {
        let mut found = BTreeSet::new();
        for labels in self.series.read().by_labels.keys() {
            if matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                each(labels, &mut found);
            }
        }
        found.into_iter().collect()
    }
}

impl SeriesSource for Memory {
    fn select(&self, matchers: &[Matcher], _: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        let series = self.series.read();
        let mut chosen = self.chosen.lock();
        if let Some(known) = chosen.get(matchers) {
            return Ok(Arc::clone(known) as Arc<dyn Selection>);
        }
        let mut new = Chosen {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            labels: Vec::new(),
            columns: Vec::new(),
        };
        for (labels, position) in &series.by_labels {
            if matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                new.labels.push(labels.clone());
                new.columns.push(Arc::clone(&series.columns[*position]));
            }
        }
        let new = Arc::new(new);
        if chosen.len() < CHOICES_MAX {
            chosen.insert(matchers.to_vec(), Arc::clone(&new));
        }
        Ok(new)
    }

    fn label_names(&self, matchers: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        Ok(self.names(matchers, |labels, found| {
            found.extend(labels.iter().map(|(name, _)| name.to_owned()));
        }))
    }

    fn label_values(&self, name: &str, matchers: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        Ok(self.names(matchers, |labels, found| {
            found.extend(labels.get(name).map(str::to_owned));
        }))
    }
}

impl Selection for Chosen {
    fn id(&self) -> u64 {
        self.id
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(
        &self,
        positions: Range<usize>,
        range: TimeRange,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<(), ReadError> {
        let (start, end) = (range.start.millis(), range.end.millis());
        for position in positions {
            let column = self.columns[position].read();
            let first = column.timestamps.partition_point(|at| *at < start);
            let last = column.timestamps.partition_point(|at| *at <= end).max(first);
            let first_histogram = column.histograms.partition_point(|(at, _)| *at < start);
            let last_histogram = column
                .histograms
                .partition_point(|(at, _)| *at <= end)
                .max(first_histogram);
            let samples = Samples {
                timestamps: &column.timestamps[first..last],
                values: &column.values[first..last],
                histograms: &column.histograms[first_histogram..last_histogram],
            };
            if !samples.timestamps.is_empty() || !samples.histograms.is_empty() {
                visit(position, samples)?;
            }
        }
        Ok(())
    }
}

impl SampleSink for Memory {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        Ok(SeriesRef(self.position(labels) as u64))
    }

    fn append(&self, samples: &[RefSample], _: Durability) -> Result<Appended, AppendError> {
        let mut appended = Appended::default();
        for (place, sample) in samples.iter().enumerate() {
            let Some(column) = self.column(sample.series) else {
                appended.unknown_series.push(place);
                continue;
            };
            let mut column = column.write();
            let at = sample.timestamp.millis();
            if column.last().is_some_and(|last| last >= at) {
                appended.conflicting += 1;
                continue;
            }
            column.timestamps.push(at);
            column.values.push(sample.value);
            appended.accepted += 1;
        }
        Ok(appended)
    }

    fn append_histograms(&self, histograms: &[RefHistogram], _: Durability) -> Result<Appended, AppendError> {
        let mut appended = Appended::default();
        for (place, sample) in histograms.iter().enumerate() {
            let Some(column) = self.column(sample.series) else {
                appended.unknown_series.push(place);
                continue;
            };
            let mut column = column.write();
            let at = sample.timestamp.millis();
            if column.last().is_some_and(|last| last >= at) {
                appended.conflicting += 1;
                continue;
            }
            column.histograms.push((at, Arc::clone(&sample.histogram)));
            appended.accepted += 1;
        }
        Ok(appended)
    }
}

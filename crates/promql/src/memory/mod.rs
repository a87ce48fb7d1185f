//! Series in memory: the plainest source that keeps the port's promises.
//!
//! For what needs no store: the unit tests of rules and their backtests, fuzzing, and this room's own tests.
//! Histograms come back with the hints that a store would give them, for queries judge by these.
//! Deliberately absent: retention, an index, speed with many series. All of them are looked at for each new choice.

mod hint;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use marketprism_model::series::{ReadError, SeriesVisitor};
use marketprism_model::{Histogram, Labels, Matcher, Samples, Selection, SeriesSource, TimeRange, Timestamp};

use crate::notation::{NotedSeries, NotedValue};

/// Choices kept at a time; when there are more, all are forgotten and made anew.
const CHOICES_MAX: usize = 4_096;

/// A source whose series grow sample by sample.
#[derive(Default)]
pub struct Memory {
    series: RwLock<BTreeMap<Labels, Shared>>,
    choices: Mutex<HashMap<Vec<Matcher>, Arc<Choice>>>,
    next_id: AtomicU64,
    selects: AtomicUsize,
}

type Shared = Arc<RwLock<Column>>;

/// One series of a [`Memory`], for whoever writes to it again and again. Clones write to the same series.
#[derive(Clone)]
pub struct MemorySeries(Shared);

#[derive(Default)]
struct Column {
    timestamps: Vec<i64>,
    values: Vec<f64>,
    histograms: Vec<(i64, Arc<Histogram>)>,
}

struct Choice {
    id: u64,
    labels: Vec<Labels>,
    columns: Vec<Shared>,
}

impl Memory {
    /// Makes a source without series.
    pub fn new() -> Self {
        Memory::default()
    }

    /// Gives the series with these labels; one that is not there begins without samples.
    pub fn series(&self, labels: &Labels) -> MemorySeries {
        let known = {
            let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
            series.get(labels).cloned()
        };
        MemorySeries(known.unwrap_or_else(|| {
            let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
            // Choices made so far do not hold the new series.
            self.choices()
                .retain(|matchers, _| !matchers.iter().all(|matcher| matcher.matches_labels(labels)));
            Arc::clone(series.entry(labels.clone()).or_default())
        }))
    }

    /// Adds a number, at any moment; one that is there at the same moment is replaced.
    pub fn append(&self, labels: &Labels, at: Timestamp, value: f64) {
        let series = self.series(labels);
        let (mut column, at) = (series.write(), at.millis());
        column.histograms.retain(|(known, _)| *known != at);
        match column.timestamps.binary_search(&at) {
            Ok(place) => column.values[place] = value,
            Err(place) => {
                column.timestamps.insert(place, at);
                column.values.insert(place, value);
            }
        }
    }

    /// Adds a histogram behind all samples of the series; its hint becomes what a store would say of it.
    ///
    /// A histogram that is not the newest of its series is added too, with its hint as it stands.
    pub fn append_histogram(&self, labels: &Labels, at: Timestamp, histogram: &Arc<Histogram>) {
        let series = self.series(labels);
        let (mut column, at) = (series.write(), at.millis());
        if let Ok(place) = column.timestamps.binary_search(&at) {
            column.timestamps.remove(place);
            column.values.remove(place);
        }
        match column.histograms.binary_search_by_key(&at, |(known, _)| *known) {
            Ok(place) => column.histograms[place].1 = Arc::clone(histogram),
            Err(place) if place == column.histograms.len() => {
                let settled = column.settled(histogram);
                column.histograms.push((at, settled));
            }
            Err(place) => column.histograms.insert(place, (at, Arc::clone(histogram))),
        }
    }

    /// Adds a series as it was written down, its first value at `start`, the others `interval` apart.
    pub fn load(&self, series: &NotedSeries, start: Timestamp, interval: Duration) {
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        for (place, value) in series.values.iter().enumerate() {
            let after = i64::try_from(place).unwrap_or(i64::MAX).saturating_mul(interval);
            let at = Timestamp::from_millis(start.millis().saturating_add(after));
            match value {
                Some(NotedValue::Number(value)) => self.append(&series.labels, at, *value),
                Some(NotedValue::Histogram { histogram, .. }) => {
                    self.append_histogram(&series.labels, at, histogram);
                }
                None => {}
            }
        }
    }

    /// Counts how often series were chosen.
    pub fn selects(&self) -> usize {
        self.selects.load(Ordering::Relaxed)
    }

    /// Visits all series in the order of their labels, with all of their samples.
    pub fn each(&self, mut visit: impl FnMut(&Labels, Samples<'_>)) {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        for (labels, column) in series.iter() {
            let column = column.read().unwrap_or_else(PoisonError::into_inner);
            visit(labels, column.between(i64::MIN, i64::MAX));
        }
    }

    fn choices(&self) -> MutexGuard<'_, HashMap<Vec<Matcher>, Arc<Choice>>> {
        self.choices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self, matchers: &[Matcher], each: impl Fn(&Labels, &mut BTreeSet<String>)) -> Vec<String> {
        let mut found = BTreeSet::new();
        self.each(|labels, _| {
            if matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                each(labels, &mut found);
            }
        });
        found.into_iter().collect()
    }
}

impl MemorySeries {
    /// Adds a number behind all samples; says whether it was newer than they are, else nothing is done.
    pub fn push(&self, at: Timestamp, value: f64) -> bool {
        let mut column = self.write();
        let is_newer = column.is_older_than(at);
        if is_newer {
            column.timestamps.push(at.millis());
            column.values.push(value);
        }
        is_newer
    }

    /// Adds a histogram as [`MemorySeries::push`] does a number; its hint becomes what a store would say of it.
    pub fn push_histogram(&self, at: Timestamp, histogram: &Arc<Histogram>) -> bool {
        let mut column = self.write();
        let is_newer = column.is_older_than(at);
        if is_newer {
            let settled = column.settled(histogram);
            column.histograms.push((at.millis(), settled));
        }
        is_newer
    }

    fn write(&self) -> RwLockWriteGuard<'_, Column> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Column {
    fn is_older_than(&self, at: Timestamp) -> bool {
        let histogram = self.histograms.last().map(|(known, _)| *known);
        self.timestamps.last().copied().max(histogram) < Some(at.millis())
    }

    /// Gives the histogram the hint of its place at the end.
    fn settled(&self, histogram: &Arc<Histogram>) -> Arc<Histogram> {
        // A number in between begins anew, as does the mark of an end.
        let newest_number = self.timestamps.last().copied().unwrap_or(i64::MIN);
        let before = self.histograms.last().filter(|(at, _)| *at > newest_number);
        let hint = hint::stored(before.map(|(_, histogram)| &**histogram), histogram);
        if hint == histogram.reset_hint {
            return Arc::clone(histogram);
        }
        let mut settled = Histogram::clone(histogram);
        settled.reset_hint = hint;
        Arc::new(settled)
    }

    fn between(&self, first: i64, last: i64) -> Samples<'_> {
        let numbers = self.timestamps.partition_point(|at| *at < first)
            ..self.timestamps.partition_point(|at| *at <= last);
        let histograms = self.histograms.partition_point(|(at, _)| *at < first)
            ..self.histograms.partition_point(|(at, _)| *at <= last);
        Samples {
            timestamps: &self.timestamps[numbers.clone()],
            values: &self.values[numbers],
            histograms: &self.histograms[histograms],
        }
    }
}

impl SeriesSource for Memory {
    fn select(&self, matchers: &[Matcher], _: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        self.selects.fetch_add(1, Ordering::Relaxed);
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let mut choices = self.choices();
        if let Some(known) = choices.get(matchers) {
            return Ok(Arc::clone(known) as Arc<dyn Selection>);
        }
        let mut new = Choice {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            labels: Vec::new(),
            columns: Vec::new(),
        };
        for (labels, column) in series.iter() {
            if matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                new.labels.push(labels.clone());
                new.columns.push(Arc::clone(column));
            }
        }
        let new = Arc::new(new);
        if choices.len() >= CHOICES_MAX {
            choices.clear();
        }
        choices.insert(matchers.to_vec(), Arc::clone(&new));
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

impl Selection for Choice {
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
        for position in positions {
            let column = self.columns[position]
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            let samples = column.between(range.start.millis(), range.end.millis());
            if !samples.timestamps.is_empty() || !samples.histograms.is_empty() {
                visit(position, samples)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use marketprism_model::ResetHint;

    use super::*;
    use crate::notation::parse_series;

    fn hints(text: &str) -> Vec<ResetHint> {
        let memory = Memory::new();
        let series = parse_series(text).expect(text);
        memory.load(&series, Timestamp::from_millis(0), Duration::from_secs(1));
        let mut hints = Vec::new();
        memory.each(|_, samples| hints.extend(samples.histograms.iter().map(|(_, h)| h.reset_hint)));
        hints
    }

    #[test]
    fn samples_come_back_in_order_and_once() {
        let (memory, labels) = (Memory::new(), Labels::from_pairs([("a", "b")]));
        for (at, value) in [(20, 2.0), (10, 1.0), (20, 3.0)] {
            memory.append(&labels, Timestamp::from_millis(at), value);
        }
        memory.append_histogram(&labels, Timestamp::from_millis(10), &Arc::default());
        let mut seen = Vec::new();
        memory.each(|_, samples| {
            seen.push((
                samples.timestamps.to_vec(),
                samples.values.to_vec(),
                samples.histograms.len(),
            ));
        });
        assert_eq!(seen, [(vec![20], vec![3.0], 1)]);
    }

    /// As the chunks of a Prometheus give them back: only what follows another in the same chunk is known not to be
    /// a reset.
    #[test]
    fn histograms_have_the_hints_of_a_store() {
        use ResetHint::{Gauge, NotReset, Unknown};
        let check = |text: &str, expected: &[ResetHint]| assert_eq!(hints(text), expected, "{text}");
        check(
            "a {{count:1 buckets:[1]}}+{{count:1 buckets:[1]}}x2",
            &[Unknown, NotReset, NotReset],
        );
        check(
            "a {{count:2 buckets:[2]}} {{count:1 buckets:[1]}} {{count:1 buckets:[1]}}",
            &[Unknown, Unknown, NotReset],
        );
        check(
            "a {{count:2 buckets:[1 1]}} {{count:3 buckets:[3]}}",
            &[Unknown, Unknown],
        );
        check(
            "a {{count:2 buckets:[2 0]}} {{count:3 buckets:[3]}}",
            &[Unknown, NotReset],
        );
        check(
            "a {{schema:1 count:2 buckets:[2]}} {{count:3 buckets:[3]}}",
            &[Unknown, Unknown],
        );
        check(
            "a {{count:1}} {{count:1 counter_reset_hint:reset}} {{count:1}}",
            &[Unknown, Unknown, NotReset],
        );
        check(
            "a {{counter_reset_hint:gauge}}x1 {{}}x1",
            &[Gauge, Gauge, Unknown, NotReset],
        );
        check(
            "a {{}} 1 {{}} stale {{}} {{counter_reset_hint:not_reset}}",
            &[Unknown, Unknown, Unknown, NotReset],
        );
        check("a {{counter_reset_hint:not_reset}}", &[Unknown]);
    }
}

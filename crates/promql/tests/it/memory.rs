//! Series in memory: the plainest source that keeps the port's promises.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use marketprism_model::series::{ReadError, SeriesVisitor};
use marketprism_model::{Labels, Matcher, Samples, Selection, SeriesSource, TimeRange};
use parking_lot::{Mutex, RwLock};

#[derive(Default)]
struct Column {
    timestamps: Vec<i64>,
    values: Vec<f64>,
}

type Shared = Arc<RwLock<Column>>;

/// A source whose series grow through [`Memory::append`].
#[derive(Default)]
pub struct Memory {
    series: RwLock<BTreeMap<Labels, Shared>>,
    chosen: Mutex<HashMap<Vec<Matcher>, Arc<Chosen>>>,
    next_id: Mutex<u64>,
    selects: AtomicUsize,
}

struct Chosen {
    id: u64,
    labels: Vec<Labels>,
    columns: Vec<Shared>,
}

impl Memory {
    /// Counts how often series were chosen.
    pub fn selects(&self) -> usize {
        self.selects.load(Ordering::Relaxed)
    }

    /// Adds a sample; the samples of a series come oldest first.
    pub fn append(&self, labels: &Labels, at: i64, value: f64) {
        let known = self.series.read().get(labels).cloned();
        let column = known.unwrap_or_else(|| {
            // Choices made so far do not hold the new series.
            self.chosen.lock().clear();
            Arc::clone(self.series.write().entry(labels.clone()).or_default())
        });
        let mut column = column.write();
        match column.timestamps.last() {
            Some(last) if *last == at => {
                column.values.pop();
                column.values.push(value);
            }
            last => {
                assert!(last.is_none_or(|last| *last < at), "{labels} goes back in time");
                column.timestamps.push(at);
                column.values.push(value);
            }
        }
    }

    fn names(&self, matchers: &[Matcher], each: impl Fn(&Labels, &mut BTreeSet<String>)) -> Vec<String> {
        let mut found = BTreeSet::new();
        for labels in self.series.read().keys() {
            if matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                each(labels, &mut found);
            }
        }
        found.into_iter().collect()
    }
}

impl SeriesSource for Memory {
    fn select(&self, matchers: &[Matcher], _: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        self.selects.fetch_add(1, Ordering::Relaxed);
        let mut chosen = self.chosen.lock();
        if let Some(known) = chosen.get(matchers) {
            return Ok(Arc::clone(known) as Arc<dyn Selection>);
        }
        let mut next_id = self.next_id.lock();
        *next_id += 1;
        let mut new = Chosen {
            id: *next_id,
            labels: Vec::new(),
            columns: Vec::new(),
        };
        for (labels, column) in self.series.read().iter() {
            if matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                new.labels.push(labels.clone());
                new.columns.push(Arc::clone(column));
            }
        }
        let new = Arc::new(new);
        chosen.insert(matchers.to_vec(), Arc::clone(&new));
        Ok(new)
    }

    fn label_names(&self, matchers: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        Ok(self.names(matchers, |labels, found| {
            found.extend(labels.iter().map(|(n, _)| n.to_owned()))
        }))
    }

    fn label_values(&self, name: &str, matchers: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        Ok(self.names(matchers, |labels, found| {
            found.extend(labels.get(name).map(str::to_owned))
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
        for position in positions {
            let column = self.columns[position].read();
            let first = column.timestamps.partition_point(|at| *at < range.start.millis());
            let after_last = column.timestamps.partition_point(|at| *at <= range.end.millis());
            if first < after_last {
                let timestamps = &column.timestamps[first..after_last];
                visit(
                    position,
                    Samples::numbers(timestamps, &column.values[first..after_last]),
                )?;
            }
        }
        Ok(())
    }
}

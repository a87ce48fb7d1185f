//! Columns: the values of many series at many steps, and the labels they belong to.
//!
//! A batch holds `rows × steps` values, series by series. A step without a value holds the mark of an
//! ended series: selectors drop the mark when they read, and whatever calculates passes absent steps by,
//! so no present value ever has those bits, and they are free to mean "absent" here.
//! The labels of a batch are shared and have an identity, so that groups and joins made from them can
//! be kept for as long as the same labels come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Histogram, Labels, Selection, sample};

/// The value of a step that has none.
pub(crate) const ABSENT: f64 = sample::stale_nan();

/// Says whether a step has no value.
#[inline(always)]
pub(crate) fn is_absent(value: f64) -> bool {
    sample::is_stale(value)
}

/// The moments of an evaluation: `start`, then every `step`, `count` times.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Grid {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) count: usize,
}

impl Grid {
    pub(crate) fn moment(&self, step: usize) -> i64 {
        self.start + self.step * step as i64
    }

    /// The last moment; the first one when the grid is empty.
    pub(crate) fn last(&self) -> i64 {
        self.moment(self.count.saturating_sub(1))
    }
}

/// Says whether a label tells what a metric is, rather than which: it goes when the values are no longer
/// those of the metric.
pub(crate) fn is_metadata(label: &str) -> bool {
    matches!(label, METRIC_NAME | "__type__" | "__unit__")
}

fn without_metadata(labels: &Labels) -> Labels {
    if labels.iter().any(|(name, _)| is_metadata(name)) {
        labels.filtered(|name| !is_metadata(name))
    } else {
        labels.clone()
    }
}

/// What tells one set of labels from another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum RowsId {
    /// The source's number of a selection.
    Selection(u64),
    /// Made here; never given twice within the process.
    Derived(u64),
}

enum RowLabels {
    Selection(Arc<dyn Selection>),
    Owned(Vec<Labels>),
}

/// The labels of a batch's rows.
pub(crate) struct Rows {
    /// `None` for labels that are made anew each time and not worth a place in any cache.
    id: Option<RowsId>,
    labels: RowLabels,
}

impl Rows {
    pub(crate) fn of_selection(selection: Arc<dyn Selection>) -> Self {
        Rows {
            id: Some(RowsId::Selection(selection.id())),
            labels: RowLabels::Selection(selection),
        }
    }

    /// Rows that will come back, from a cache: they get an identity.
    pub(crate) fn lasting(labels: Vec<Labels>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = RowsId::Derived(NEXT.fetch_add(1, Ordering::Relaxed));
        Rows {
            id: Some(id),
            labels: RowLabels::Owned(labels),
        }
    }

    /// Rows of this one evaluation.
    pub(crate) fn passing(labels: Vec<Labels>) -> Self {
        Rows {
            id: None,
            labels: RowLabels::Owned(labels),
        }
    }

    pub(crate) fn id(&self) -> Option<RowsId> {
        self.id
    }

    pub(crate) fn labels(&self) -> &[Labels] {
        match &self.labels {
            RowLabels::Selection(selection) => selection.labels(),
            RowLabels::Owned(labels) => labels,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.labels().len()
    }
}

/// Whether the metric's name is dropped from the labels in the end.
///
/// Dropping is put off, so that `label_replace` and `by (__name__)` still see the name.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Names {
    Kept,
    Dropped,
    /// Row by row.
    Mixed(Arc<[bool]>),
}

impl Names {
    pub(crate) fn is_dropped(&self, row: usize) -> bool {
        match self {
            Names::Kept => false,
            Names::Dropped => true,
            Names::Mixed(flags) => flags[row],
        }
    }

    /// Joins flags row by row.
    pub(crate) fn from_flags(flags: Vec<bool>) -> Self {
        if flags.iter().all(|dropped| !dropped) {
            Names::Kept
        } else if flags.iter().all(|dropped| *dropped) {
            Names::Dropped
        } else {
            Names::Mixed(Arc::from(flags))
        }
    }
}

/// An instant vector at every step of a grid.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) rows: Arc<Rows>,
    pub(crate) names: Names,
    pub(crate) steps: usize,
    /// `rows × steps` values, row by row.
    pub(crate) values: Vec<f64>,
    /// Where `values` is absent, there may be a histogram; `None` for nearly every batch.
    pub(crate) histograms: Option<Cells>,
}

/// Histograms in the places of a batch's values.
pub(crate) type Cells = Vec<Option<Arc<Histogram>>>;

impl Batch {
    /// Makes a batch without histograms.
    pub(crate) fn numbers(rows: Arc<Rows>, names: Names, steps: usize, values: Vec<f64>) -> Self {
        Batch {
            rows,
            names,
            steps,
            values,
            histograms: None,
        }
    }

    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.steps..(row + 1) * self.steps]
    }

    /// Gives the labels that a row has in an answer.
    pub(crate) fn answer_labels(&self, row: usize) -> Labels {
        let labels = &self.rows.labels()[row];
        if self.names.is_dropped(row) {
            without_metadata(labels)
        } else {
            labels.clone()
        }
    }

    /// Keeps rows and their order; calculates each present value anew.
    pub(crate) fn map(mut self, mut change: impl FnMut(f64) -> f64) -> Self {
        for value in &mut self.values {
            if !is_absent(*value) {
                *value = change(*value);
            }
        }
        self
    }

    /// Says whether any row has a value at this step.
    pub(crate) fn has_any(&self, step: usize) -> bool {
        (0..self.rows.len()).any(|row| !is_absent(self.values[row * self.steps + step]))
    }
}

/// A scalar at every step of a grid.
#[derive(Clone, Debug)]
pub(crate) enum ScalarColumn {
    Constant(f64),
    Steps(Arc<[f64]>),
}

impl ScalarColumn {
    #[inline]
    pub(crate) fn at(&self, step: usize) -> f64 {
        match self {
            ScalarColumn::Constant(value) => *value,
            ScalarColumn::Steps(values) => values[step],
        }
    }

    pub(crate) fn from_fn(steps: usize, value: impl FnMut(usize) -> f64) -> Self {
        ScalarColumn::Steps((0..steps).map(value).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_values_passes_absent_steps_by() {
        let rows = Arc::new(Rows::passing(vec![Labels::empty()]));
        let batch = Batch::numbers(rows, Names::Kept, 3, vec![1.0, ABSENT, f64::NAN]);
        let changed = batch.map(|value| -value);
        let absent: Vec<bool> = changed.values.iter().map(|value| is_absent(*value)).collect();
        assert_eq!(absent, [false, true, false]);
    }
}

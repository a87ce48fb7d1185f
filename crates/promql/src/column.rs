//! Columns: the values of many series at many steps, and the labels they belong to.
//!
//! A cell is a number; else a histogram, of which nearly every batch has none; else absent. So whatever only
//! looks at numbers sees histograms as absent, and pays nothing for them.
//! A batch holds `rows × steps` values, series by series. A step without a value holds the mark of an
//! ended series: selectors drop the mark when they read, and whatever calculates passes absent steps by,
//! so no present value ever has those bits, and they are free to mean "absent" here.
//! The labels of a batch are shared and have an identity, so that groups and joins made from them can
//! be kept for as long as the same labels come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Histogram, Labels, ResetHint, Selection, sample};

use crate::native::Operand;

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
    /// What the labels take in memory, as far as they were made here.
    bytes: usize,
}

impl Rows {
    pub(crate) fn of_selection(selection: Arc<dyn Selection>) -> Self {
        Rows {
            id: Some(RowsId::Selection(selection.id())),
            labels: RowLabels::Selection(selection),
            bytes: 0,
        }
    }

    /// Rows that will come back, from a cache: they get an identity.
    pub(crate) fn lasting(labels: Vec<Labels>) -> Self {
        Rows::made(labels).named()
    }

    /// Rows that will come back, with labels that others hold too.
    pub(crate) fn lasting_shared(labels: Vec<Labels>) -> Self {
        Rows::passing(labels).named()
    }

    fn named(self) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = RowsId::Derived(NEXT.fetch_add(1, Ordering::Relaxed));
        Rows { id: Some(id), ..self }
    }

    /// Rows of this one evaluation, with labels that others hold too.
    pub(crate) fn passing(labels: Vec<Labels>) -> Self {
        Rows {
            id: None,
            bytes: labels.len() * size_of::<Labels>(),
            labels: RowLabels::Owned(labels),
        }
    }

    /// Rows of this one evaluation, with labels made for it.
    pub(crate) fn made(labels: Vec<Labels>) -> Self {
        Rows {
            bytes: labels.iter().map(Labels::bytes_held).sum(),
            ..Rows::passing(labels)
        }
    }

    /// Counts the bytes of memory that labels made here take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
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

/// Histograms in the places of values.
pub(crate) type Cells = Vec<Option<Arc<Histogram>>>;

/// Counts what histograms weigh; one that stands in neighbouring cells is held once.
pub(crate) fn weight(cells: &[Option<Arc<Histogram>>]) -> u64 {
    let (mut total, mut last) = (0, std::ptr::null());
    for histogram in cells.iter().flatten() {
        let this = Arc::as_ptr(histogram);
        if !std::ptr::eq(this, last) {
            total += histogram.weight() as u64;
        }
        last = this;
    }
    total + cells.len() as u64
}

impl Batch {
    /// Makes a batch of cells.
    pub(crate) fn of_cells(
        rows: Arc<Rows>,
        names: Names,
        steps: usize,
        (values, histograms): (Vec<f64>, Option<Cells>),
    ) -> Self {
        Batch {
            rows,
            names,
            steps,
            values,
            histograms,
        }
    }

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

    /// Gives the histogram of a cell.
    #[inline]
    pub(crate) fn histogram(&self, cell: usize) -> Option<&Arc<Histogram>> {
        self.histograms.as_ref()?[cell].as_ref()
    }

    /// Gives what stands in a cell.
    pub(crate) fn operand(&self, cell: usize) -> Option<Operand> {
        if !is_absent(self.values[cell]) {
            return Some(Operand::Number(self.values[cell]));
        }
        self.histogram(cell)
            .map(|found| Operand::Histogram(Arc::clone(found)))
    }

    /// Says whether anything stands in a cell.
    #[inline]
    pub(crate) fn is_present(&self, cell: usize) -> bool {
        !is_absent(self.values[cell]) || self.histogram(cell).is_some()
    }

    /// Says whether a row has anything at any step.
    pub(crate) fn has_row(&self, row: usize) -> bool {
        self.row(row).iter().any(|value| !is_absent(*value)) || self.has_histogram_row(row)
    }

    /// Says whether a row has a histogram at any step.
    pub(crate) fn has_histogram_row(&self, row: usize) -> bool {
        let is_any = |cells: &Cells| {
            cells[row * self.steps..(row + 1) * self.steps]
                .iter()
                .any(Option::is_some)
        };
        self.histograms.as_ref().is_some_and(is_any)
    }

    /// Gives the histograms of a row, with the moments of its steps. What they are known to have done before does
    /// not hold for steps, which may leave samples out or repeat them.
    pub(crate) fn points_of(&self, row: usize, moments: &[i64]) -> Vec<(i64, Arc<Histogram>)> {
        let Some(cells) = &self.histograms else {
            return Vec::new();
        };
        let mut points: Vec<(i64, Arc<Histogram>)> = Vec::new();
        // The last one seen, and what was made of it.
        let mut last: Option<(&Arc<Histogram>, Arc<Histogram>)> = None;
        let cells = &cells[row * self.steps..(row + 1) * self.steps];
        for (at, cell) in moments.iter().zip(cells) {
            let Some(histogram) = cell else {
                continue;
            };
            let unhinted = match &last {
                Some((known, unhinted)) if Arc::ptr_eq(known, histogram) => Arc::clone(unhinted),
                _ if matches!(histogram.reset_hint, ResetHint::Unknown | ResetHint::Gauge) => {
                    Arc::clone(histogram)
                }
                _ => Arc::new(Histogram {
                    reset_hint: ResetHint::Unknown,
                    ..Histogram::clone(histogram)
                }),
            };
            points.push((*at, Arc::clone(&unhinted)));
            last = Some((histogram, unhinted));
        }
        points
    }

    /// Keeps rows and their order; calculates each present number anew, and passes histograms by.
    pub(crate) fn map(mut self, mut change: impl FnMut(f64) -> f64) -> Self {
        for value in &mut self.values {
            if !is_absent(*value) {
                *value = change(*value);
            }
        }
        self.histograms = None;
        self
    }

    /// Says whether any row has anything at this step.
    pub(crate) fn has_any(&self, step: usize) -> bool {
        (0..self.rows.len()).any(|row| self.is_present(row * self.steps + step))
    }

    /// Counts the values held.
    pub(crate) fn weight(&self) -> u64 {
        self.values.len() as u64 + self.histograms.as_ref().map_or(0, |cells| weight(cells))
    }
}

/// Cells in the making, numbers and histograms.
#[derive(Default)]
pub(crate) struct Canvas {
    values: Vec<f64>,
    histograms: Option<Cells>,
    held: u64,
}

impl Canvas {
    /// Starts from numbers.
    pub(crate) fn over(values: Vec<f64>) -> Self {
        Canvas {
            values,
            histograms: None,
            held: 0,
        }
    }

    /// Adds cells with nothing in them.
    pub(crate) fn grow(&mut self, cells: usize) {
        self.values.resize(self.values.len() + cells, ABSENT);
        if let Some(histograms) = &mut self.histograms {
            histograms.resize(self.values.len(), None);
        }
    }

    /// Adds cells behind.
    pub(crate) fn extend(&mut self, other: Canvas) {
        let length = self.values.len();
        self.values.extend(other.values);
        if self.histograms.is_some() || other.histograms.is_some() {
            let mut cells = self.histograms.take().unwrap_or_else(|| vec![None; length]);
            cells.extend(other.histograms.unwrap_or_default());
            cells.resize(self.values.len(), None);
            self.histograms = Some(cells);
        }
        self.held += other.held;
    }

    /// Gives the numbers of a row.
    pub(crate) fn row(&mut self, row: usize, steps: usize) -> &mut [f64] {
        &mut self.values[row * steps..(row + 1) * steps]
    }

    pub(crate) fn put(&mut self, cell: usize, operand: Operand) {
        match operand {
            Operand::Number(value) => {
                self.values[cell] = value;
                if let Some(histograms) = &mut self.histograms {
                    histograms[cell] = None;
                }
            }
            Operand::Histogram(histogram) => {
                self.values[cell] = ABSENT;
                self.held += histogram.weight() as u64;
                let length = self.values.len();
                self.histograms.get_or_insert_with(|| vec![None; length])[cell] = Some(histogram);
            }
        }
    }

    /// Leaves nothing in a cell.
    pub(crate) fn clear(&mut self, cell: usize) {
        self.values[cell] = ABSENT;
        if let Some(histograms) = &mut self.histograms {
            histograms[cell] = None;
        }
    }

    /// Counts what the histograms put so far weigh.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    pub(crate) fn finish(self) -> (Vec<f64>, Option<Cells>) {
        (self.values, self.histograms)
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

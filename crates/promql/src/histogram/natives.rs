//! Native histograms among classic buckets, and what `histogram_quantiles` makes of many quantiles.
//!
//! A native histogram and classic buckets with the same labels are one row of the result; where both have a value at a step,
//! nothing is the answer. Deliberately absent: what a histogram tells, which is `native`'s.

use std::collections::HashMap;
use std::sync::Arc;

use marketprism_model::{Histogram, Labels};

use super::Buckets;
use crate::answer::QueryError;
use crate::column::{ABSENT, Batch, Canvas, Names, Rows, ScalarColumn};
use crate::evaluate::{Inputs, Output, Run};
use crate::functions::Function;
use crate::native;
use crate::notes::general;

/// The rows of a vector that hold native histograms, and the rows of their results.
#[derive(Default)]
pub(super) struct Natives {
    /// The row in the vector, and that of the result: one of a classic histogram with the same labels, or a new one.
    pub(super) rows: Vec<(usize, usize)>,
    /// Labels of the new rows.
    labels: Vec<Labels>,
    /// The native row of classic histograms that have one.
    by_classic: HashMap<usize, usize>,
}

impl Natives {
    pub(super) fn of(batch: &Batch, table: &Buckets) -> Self {
        let mut natives = Natives::default();
        if batch.histograms.is_none() {
            return natives;
        }
        let classic: HashMap<&Labels, usize> = table
            .rows
            .labels()
            .iter()
            .enumerate()
            .map(|(place, labels)| (labels, place))
            .collect();
        for (row, labels) in batch.rows.labels().iter().enumerate() {
            if !batch.has_histogram_row(row) {
                continue;
            }
            let place = classic.get(labels).copied();
            let result = place.unwrap_or(table.histograms.len() + natives.labels.len());
            if let Some(place) = place {
                natives.by_classic.insert(place, row);
            } else {
                natives.labels.push(labels.clone());
            }
            natives.rows.push((row, result));
        }
        natives
    }

    /// Gives the histogram that stands beside classic buckets, at a step.
    pub(super) fn beside<'b>(
        &self,
        batch: &'b Batch,
        classic: usize,
        step: usize,
    ) -> Option<&'b Arc<Histogram>> {
        let row = self.by_classic.get(&classic)?;
        batch.histogram(row * batch.steps + step)
    }

    pub(super) fn count(&self) -> usize {
        self.labels.len()
    }

    /// Gives the rows of all results.
    pub(super) fn rows_with(self, classic: &Arc<Rows>) -> Arc<Rows> {
        if self.labels.is_empty() {
            return Arc::clone(classic);
        }
        let labels = classic.labels().iter().cloned().chain(self.labels);
        Arc::new(Rows::passing(labels.collect()))
    }
}

/// `histogram_count`, `histogram_sum` and the like: a number of each native histogram; numbers are passed by.
pub(crate) fn measure(function: Function, inputs: &mut Inputs) -> Output {
    let mut batch = inputs.take_batch(0);
    let measured = |histogram: &Arc<Histogram>| match function {
        Function::HistogramCount => histogram.count,
        Function::HistogramSum => histogram.sum,
        Function::HistogramAvg => native::average(histogram),
        Function::HistogramStdvar => native::variance(histogram),
        _ => native::variance(histogram).sqrt(),
    };
    batch.names = Names::Dropped;
    match batch.histograms.take() {
        None => batch.values.fill(ABSENT),
        Some(cells) => {
            for (value, cell) in batch.values.iter_mut().zip(&cells) {
                *value = cell.as_ref().map_or(ABSENT, measured);
            }
        }
    }
    Output::vector(batch)
}

/// Labels the rows of a vector (input 0) with a quantile (input 1).
pub(crate) fn label(run: &Run<'_>, name: &str, inputs: &mut Inputs) -> Result<Output, QueryError> {
    let (batch, phi) = (inputs.batch(0), inputs.scalar(1));
    if let ScalarColumn::Constant(phi) = phi {
        let labelled = batch
            .rows
            .labels()
            .iter()
            .map(|labels| labels.with(name, &written(phi)));
        let rows = Arc::new(Rows::passing(labelled.collect()));
        let mut batch = Arc::unwrap_or_clone(batch);
        batch.rows = rows;
        return Ok(Output::vector(batch));
    }
    // A quantile that changes from step to step has a row for each of its values.
    let (mut places, mut labels, mut flags): (HashMap<(usize, u64), usize>, _, _) =
        (HashMap::new(), Vec::new(), Vec::new());
    let mut canvas = Canvas::over(Vec::new());
    for row in 0..batch.rows.len() {
        for step in 0..batch.steps {
            let Some(operand) = batch.operand(row * batch.steps + step) else {
                continue;
            };
            let phi = phi.at(step);
            let next = labels.len();
            let place = *places.entry((row, phi.to_bits())).or_insert_with(|| {
                labels.push(batch.rows.labels()[row].with(name, &written(phi)));
                flags.push(batch.names.is_dropped(row));
                canvas.grow(batch.steps);
                next
            });
            canvas.put(place * batch.steps + step, operand);
            run.check_size(labels.len(), batch.steps)?;
        }
    }
    let (rows, names) = (Arc::new(Rows::passing(labels)), Names::from_flags(flags));
    Ok(Output::vector(Batch::of_cells(
        rows,
        names,
        batch.steps,
        canvas.finish(),
    )))
}

/// Puts the rows of one vector behind those of another.
pub(crate) fn both(run: &Run<'_>, inputs: &mut Inputs) -> Result<Output, QueryError> {
    let (first, second) = (inputs.batch(0), inputs.batch(1));
    let count = first.rows.len() + second.rows.len();
    run.check_size(count, first.steps)?;
    let mut canvas = Canvas::over(Vec::new());
    canvas.grow(count * first.steps);
    for (before, batch) in [(0, &first), (first.rows.len() * first.steps, &second)] {
        for cell in 0..batch.values.len() {
            if let Some(operand) = batch.operand(cell) {
                canvas.put(before + cell, operand);
            }
        }
    }
    let labels = first.rows.labels().iter().chain(second.rows.labels());
    let flags = [&first, &second]
        .into_iter()
        .flat_map(|batch| (0..batch.rows.len()).map(|row| batch.names.is_dropped(row)));
    let (rows, names) = (
        Arc::new(Rows::passing(labels.cloned().collect())),
        Names::from_flags(flags.collect()),
    );
    Ok(Output::vector(Batch::of_cells(
        rows,
        names,
        first.steps,
        canvas.finish(),
    )))
}

/// Writes a quantile as a label has it: whole numbers with a decimal.
fn written(phi: f64) -> String {
    let mut text = general(phi, None);
    if phi.is_finite() && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::Operand;

    #[test]
    fn quantiles_are_written_as_open_metrics_does() {
        let written: Vec<String> = [0.5, 1.0, 0.0, f64::INFINITY, f64::NAN, 1e-7]
            .map(written)
            .to_vec();
        assert_eq!(written, ["0.5", "1.0", "0.0", "+Inf", "NaN", "1e-07"]);
    }

    #[test]
    fn a_number_that_only_histograms_have_passes_numbers_by() {
        let rows = Arc::new(Rows::passing(vec![Labels::empty(), Labels::empty()]));
        let histogram = Histogram {
            count: 4.0,
            sum: 6.0,
            ..Histogram::default()
        };
        let mut canvas = Canvas::over(vec![1.0, ABSENT]);
        canvas.put(1, Operand::Histogram(Arc::new(histogram)));
        let batch = Batch::of_cells(rows, Names::Kept, 1, canvas.finish());
        let mut inputs = Inputs::of_batch(std::sync::Arc::new(batch));
        let Output::Vector(made) = measure(Function::HistogramAvg, &mut inputs) else {
            panic!("it is a vector");
        };
        assert!(crate::column::is_absent(made.values[0]) && made.values[1] == 1.5);
    }
}

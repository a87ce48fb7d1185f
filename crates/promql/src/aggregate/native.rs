//! What aggregations make of groups that hold histograms.
//!
//! Source: Prometheus 3, `promql/engine.go`, `aggregation`: histograms are added and averaged among themselves, a
//! mix with numbers gives nothing, and what knows only numbers passes them by.

use marketprism_model::Histogram;

use super::Groups;
use crate::answer::QueryError;
use crate::ast::AggregateOp;
use crate::column::{Batch, Canvas, is_absent};
use crate::evaluate::Run;
use crate::native::{Added, Incompatible, Operand, Total, compact};
use crate::notes::{HistogramOperation, Notes, Part, Remark};
use crate::rollup::HistogramMean;
use std::sync::Arc;

/// A sum or a mean in the making.
enum Fold {
    Sum(Total),
    Mean(Box<HistogramMean>),
}

impl Fold {
    fn of(op: AggregateOp, first: &Histogram) -> Self {
        if op == AggregateOp::Avg {
            Fold::Mean(Box::new(HistogramMean::of(first)))
        } else {
            Fold::Sum(Total::of(first))
        }
    }

    fn add(&mut self, histogram: &Histogram) -> Result<Added, Incompatible> {
        match self {
            Fold::Sum(total) => total.add(histogram),
            Fold::Mean(mean) => mean.add(histogram),
        }
    }

    fn finish(self) -> Histogram {
        let mut made = match self {
            Fold::Sum(total) => total.compensated(),
            Fold::Mean(mean) => mean.finish(),
        };
        compact(&mut made);
        made
    }
}

/// Corrects what the numbers alone gave, in the cells of groups that hold histograms.
pub(super) fn correct(
    run: &mut Run<'_>,
    op: AggregateOp,
    batch: &Batch,
    groups: &Groups,
    canvas: &mut Canvas,
) -> Result<(), QueryError> {
    let is_folded = matches!(op, AggregateOp::Sum | AggregateOp::Avg);
    let is_counted = matches!(op, AggregateOp::Count | AggregateOp::Group);
    if !is_folded && !is_counted {
        if batch
            .histograms
            .as_ref()
            .is_some_and(|cells| cells.iter().any(Option::is_some))
        {
            run.notes
                .add(Part::Argument(0), Remark::HistogramIgnored(op.as_str()));
        }
        return Ok(());
    }
    for group in 0..groups.count() {
        let members = groups.members(group);
        if !members.iter().any(|row| batch.has_histogram_row(*row as usize)) {
            continue;
        }
        run.check_interrupt()?;
        for step in 0..batch.steps {
            let cell = |row: &u32| *row as usize * batch.steps + step;
            if !members.iter().any(|row| batch.histogram(cell(row)).is_some()) {
                continue;
            }
            let result = group * batch.steps + step;
            if is_counted {
                let count = members.iter().filter(|row| batch.is_present(cell(row))).count();
                let value = if op == AggregateOp::Group {
                    1.0
                } else {
                    count as f64
                };
                canvas.put(result, Operand::Number(value));
                continue;
            }
            match fold(op, batch, members, step, &mut run.notes) {
                Some(made) => canvas.put(result, Operand::Histogram(Arc::new(made))),
                None => canvas.clear(result),
            }
        }
        run.check_held(canvas.held())?;
    }
    Ok(())
}

/// Adds up or averages the histograms of a group at a step.
fn fold(
    op: AggregateOp,
    batch: &Batch,
    members: &[u32],
    step: usize,
    notes: &mut Notes,
) -> Option<Histogram> {
    let (mut folded, mut has_number): (Option<Fold>, bool) = (None, false);
    let (mut has_reset, mut has_no_reset) = (false, false);
    for row in members {
        let cell = *row as usize * batch.steps + step;
        if !is_absent(batch.values[cell]) {
            has_number = true;
            continue;
        }
        let Some(histogram) = batch.histogram(cell) else {
            continue;
        };
        if has_number && folded.is_none() {
            break;
        }
        has_reset |= histogram.reset_hint == marketprism_model::ResetHint::Reset;
        has_no_reset |= histogram.reset_hint == marketprism_model::ResetHint::NotReset;
        let Some(sum) = &mut folded else {
            folded = Some(Fold::of(op, histogram));
            continue;
        };
        match sum.add(histogram) {
            Ok(added) if added.bounds_reconciled => {
                let remark = Remark::MismatchedCustomBuckets(HistogramOperation::Aggregation);
                notes.add(Part::Argument(0), remark);
            }
            Ok(_) => {}
            Err(Incompatible) => {
                let metric = batch.rows.labels()[*row as usize].metric_name();
                notes.add(Part::Argument(0), Remark::MixedExponentialCustom(metric));
                // Nothing that comes after is looked at, so a number before it is all that makes a mix.
                if has_number {
                    notes.add(Part::Argument(0), Remark::MixedFloatsHistogramsInAggregation);
                }
                return None;
            }
        }
    }
    if has_number {
        notes.add(Part::Argument(0), Remark::MixedFloatsHistogramsInAggregation);
        return None;
    }
    if has_reset && has_no_reset {
        let remark = Remark::ResetCollision(HistogramOperation::Aggregation);
        notes.add(Part::Argument(0), remark);
    }
    folded.map(Fold::finish)
}

//! Aggregations that choose rows (`topk`, `bottomk`, `limitk`), and `count_values`.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use marketprism_model::Labels;

use super::{Groups, chosen_labels};
use crate::answer::QueryError;
use crate::ast::{AggregateOp, LabelChoice};
use crate::column::{ABSENT, Batch, Canvas, Cells, Grid, Names, Rows, ScalarColumn, is_absent};
use crate::evaluate::{Output, Run};
use crate::native::histogram_text;
use crate::notes::{Part, Remark, general};
use crate::number;
use crate::quote::Quoted;
use crate::relabel::is_label;

/// From this on, a count is too large: the largest number that rounds down to an `i64`.
const LARGEST_COUNT: f64 = 9_223_372_036_854_774_784.0;

/// Keeps the k best rows of each group, step by step. At a single step the rows come best first.
pub(super) fn choose(
    run: &mut Run<'_>,
    op: AggregateOp,
    batch: &Batch,
    groups: &Groups,
    count: &ScalarColumn,
    grid: Grid,
) -> Result<Output, QueryError> {
    let counts: Vec<f64> = (0..grid.count).map(|step| count.at(step)).collect();
    if !counts.iter().any(|count| *count >= 1.0) && !counts.iter().any(|count| count.is_nan()) {
        return Ok(Output::vector(pick(batch, &[])));
    }
    if counts.iter().any(|count| count.is_nan()) {
        return Err(QueryError::Data("Parameter value is NaN".to_owned()));
    }
    if let Some(count) = counts.iter().find(|count| **count <= i64::MIN as f64) {
        let count = general(*count, None);
        return Err(QueryError::Data(format!("Scalar value {count} underflows int64")));
    }
    if let Some(count) = counts.iter().find(|count| **count >= LARGEST_COUNT) {
        let count = general(*count, None);
        return Err(QueryError::Data(format!("Scalar value {count} overflows int64")));
    }
    // A limit takes what comes; an order needs numbers.
    let takes_histograms = op == AggregateOp::Limitk;
    let has_histograms = |cells: &Cells| cells.iter().any(Option::is_some);
    if !takes_histograms && batch.histograms.as_ref().is_some_and(has_histograms) {
        run.notes.add(Part::Whole, Remark::HistogramIgnored(op.as_str()));
    }
    let mut canvas = Canvas::over(vec![ABSENT; batch.values.len()]);
    let mut order = Vec::new();
    for (step, count) in counts.iter().enumerate() {
        let keep = count.max(0.0) as usize;
        for group in 0..groups.count() {
            let present = |row: &u32| {
                let cell = *row as usize * batch.steps + step;
                !is_absent(batch.values[cell]) || takes_histograms && batch.histogram(cell).is_some()
            };
            let mut rows: Vec<u32> = groups.members(group).iter().copied().filter(present).collect();
            sort_best_first(op, batch, step, &mut rows);
            rows.truncate(keep);
            for row in &rows {
                let cell = *row as usize * batch.steps + step;
                if let Some(operand) = batch.operand(cell) {
                    canvas.put(cell, operand);
                }
            }
            if batch.steps == 1 {
                order.extend(rows);
            }
        }
    }
    if batch.steps == 1 {
        return Ok(Output::vector(pick(batch, &order)));
    }
    let (rows, names) = (Arc::clone(&batch.rows), batch.names.clone());
    Ok(Output::vector(Batch::of_cells(
        rows,
        names,
        batch.steps,
        canvas.finish(),
    )))
}

/// NaN is the worst in both directions; equal values keep their order.
fn sort_best_first(op: AggregateOp, batch: &Batch, step: usize, rows: &mut [u32]) {
    let value = |row: &u32| batch.row(*row as usize)[step];
    let by = |ascending: bool| {
        move |a: &u32, b: &u32| -> Ordering {
            let (a, b) = (value(a), value(b));
            match (a.is_nan(), b.is_nan()) {
                (false, false) if ascending => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
                (false, false) => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
                (a_is_nan, b_is_nan) => a_is_nan.cmp(&b_is_nan),
            }
        }
    };
    match op {
        AggregateOp::Topk => rows.sort_by(by(false)),
        AggregateOp::Bottomk => rows.sort_by(by(true)),
        _ => {}
    }
}

/// Makes a batch of chosen rows, in the order given.
pub(crate) fn pick(batch: &Batch, rows: &[u32]) -> Batch {
    let labels = batch.rows.labels();
    let picked = Rows::passing(rows.iter().map(|row| labels[*row as usize].clone()).collect());
    let flags = rows.iter().map(|row| batch.names.is_dropped(*row as usize));
    let values = rows.iter().flat_map(|row| batch.row(*row as usize)).copied();
    let histograms = batch.histograms.as_ref().map(|cells| {
        let of_row = |row: &u32| &cells[*row as usize * batch.steps..(*row as usize + 1) * batch.steps];
        rows.iter().flat_map(of_row).cloned().collect()
    });
    Batch::of_cells(
        Arc::new(picked),
        Names::from_flags(flags.collect()),
        batch.steps,
        (values.collect(), histograms),
    )
}

/// The interrupt is asked after so many rows.
const INTERRUPT_EVERY: usize = 1024;

/// Counts equal values: one row a group and value, which stands in `label`.
pub(super) fn count_values(
    run: &Run<'_>,
    batch: &Batch,
    grouping: Option<&LabelChoice>,
    label: &str,
) -> Result<Output, QueryError> {
    if !is_label(label) {
        let label = Quoted(label);
        return Err(QueryError::Data(format!("invalid label name {label}")));
    }
    let nothing = LabelChoice::Only(Arc::from([]));
    let grouping = grouping.unwrap_or(&nothing);
    let (mut known, mut bytes): (HashMap<Labels, usize>, usize) = (HashMap::new(), 0);
    let (mut labels, mut values): (Vec<Labels>, Vec<f64>) = (Vec::new(), Vec::new());
    let takes_label = match grouping {
        LabelChoice::Only(_) => true,
        LabelChoice::Except(names) => !names.iter().any(|name| **name == *label),
    };
    for (row, row_labels) in batch.rows.labels().iter().enumerate() {
        if row.is_multiple_of(INTERRUPT_EVERY) {
            run.check_interrupt()?;
        }
        let group = chosen_labels(row_labels, grouping);
        let mut place_of = |values: &mut Vec<f64>, text: String| -> Result<usize, QueryError> {
            let named = if takes_label {
                group.with(label, &text)
            } else {
                group.clone()
            };
            let next = labels.len();
            let place = *known.entry(named).or_insert_with_key(|named| {
                bytes += named.bytes_held();
                labels.push(named.clone());
                values.resize((next + 1) * batch.steps, ABSENT);
                next
            });
            run.check_size(labels.len(), batch.steps)?;
            run.check_bytes(bytes as u64)?;
            Ok(place)
        };
        // Most rows repeat their value from step to step.
        let mut last: Option<(u64, usize)> = None;
        for (step, value) in batch.row(row).iter().enumerate() {
            let place = if is_absent(*value) {
                match batch.histogram(row * batch.steps + step) {
                    Some(histogram) => place_of(&mut values, histogram_text(histogram))?,
                    None => continue,
                }
            } else {
                match last {
                    Some((bits, place)) if bits == value.to_bits() => place,
                    _ => {
                        let place = place_of(&mut values, number::plain(*value))?;
                        last = Some((value.to_bits(), place));
                        place
                    }
                }
            };
            let cell = &mut values[place * batch.steps + step];
            *cell = if is_absent(*cell) { 1.0 } else { *cell + 1.0 };
        }
    }
    let rows = Arc::new(Rows::made(labels));
    Ok(Output::vector(Batch::numbers(
        rows,
        Names::Kept,
        batch.steps,
        values,
    )))
}

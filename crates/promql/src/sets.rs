//! `and`, `or`, `unless`: rows are kept by what the other side has at the same step.

use std::collections::HashMap;
use std::sync::Arc;

use marketprism_model::Labels;

use crate::answer::QueryError;
use crate::ast::{LabelChoice, SetOp};
use crate::column::{ABSENT, Batch, Cells, Names, Rows, RowsId, is_absent};
use crate::evaluate::{Inputs, Output, Run};
use crate::join::Signatures;

pub(crate) type SetKey = (RowsId, RowsId, LabelChoice, bool);

/// How the rows of two sides meet, made from labels alone.
pub(crate) struct SetTable {
    signatures: Signatures,
    /// For `or`: the row of the result in which each right row stands. Left rows keep their places. A
    /// right row with the labels of a left one matches it, so they never have values together: they
    /// share a place, unless one of them is going to lose its name.
    right_places: Vec<u32>,
    union: Arc<Rows>,
}

impl SetTable {
    fn build(left: &Rows, right: &Rows, labels: &LabelChoice, may_share: bool) -> Self {
        let signatures = Signatures::build(left, right, labels);
        let mut places: HashMap<&Labels, usize> = HashMap::new();
        let mut all: Vec<Labels> = left.labels().to_vec();
        if may_share {
            places.extend(
                left.labels()
                    .iter()
                    .enumerate()
                    .map(|(row, labels)| (labels, row)),
            );
        }
        let right_places = right.labels().iter().map(|labels| {
            places.get(labels).copied().unwrap_or_else(|| {
                all.push(labels.clone());
                all.len() - 1
            }) as u32
        });
        let right_places = right_places.collect();
        SetTable {
            signatures,
            right_places,
            union: Arc::new(Rows::lasting_shared(all)),
        }
    }
}

fn table(run: &Run<'_>, left: &Rows, right: &Rows, labels: &LabelChoice, may_share: bool) -> Arc<SetTable> {
    let (Some(left_id), Some(right_id)) = (left.id(), right.id()) else {
        return Arc::new(SetTable::build(left, right, labels, may_share));
    };
    let key = (left_id, right_id, labels.clone(), may_share);
    let fits = |table: &Arc<SetTable>| {
        table.signatures.left.len() == left.len() && table.signatures.right.len() == right.len()
    };
    if let Some(known) = run.tables.sets.get(&key).filter(fits) {
        return known;
    }
    let built = Arc::new(SetTable::build(left, right, labels, may_share));
    run.tables.sets.put(
        key,
        Arc::clone(&built),
        built.union.bytes() + (left.len() + right.len()) * 16,
    );
    built
}

/// Marks the signatures that a side has at each step.
fn presence(batch: &Batch, signatures: &[u32], count: usize) -> Vec<bool> {
    let mut present = vec![false; count * batch.steps];
    for (row, signature) in signatures.iter().enumerate() {
        let marks = &mut present[*signature as usize * batch.steps..][..batch.steps];
        for (mark, value) in marks.iter_mut().zip(batch.row(row)) {
            *mark |= !is_absent(*value);
        }
        if let Some(cells) = &batch.histograms {
            let cells = &cells[row * batch.steps..][..batch.steps];
            marks
                .iter_mut()
                .zip(cells)
                .for_each(|(mark, cell)| *mark |= cell.is_some());
        }
    }
    present
}

/// Drops what stands where the other side's presence is not `wanted`.
fn keep_where(batch: &mut Batch, signatures: &[u32], present: &[bool], wanted: bool) {
    let steps = batch.steps;
    let marks = |row: usize| &present[signatures[row] as usize * steps..][..steps];
    for (row, values) in batch.values.chunks_mut(steps.max(1)).enumerate() {
        for (value, mark) in values.iter_mut().zip(marks(row)) {
            if *mark != wanted {
                *value = ABSENT;
            }
        }
    }
    let Some(cells) = &mut batch.histograms else {
        return;
    };
    for (row, cells) in cells.chunks_mut(steps.max(1)).enumerate() {
        for (cell, mark) in cells.iter_mut().zip(marks(row)) {
            if *mark != wanted {
                *cell = None;
            }
        }
    }
}

/// Combines two vectors as sets.
pub(crate) fn combine(
    run: &mut Run<'_>,
    op: SetOp,
    labels: &LabelChoice,
    inputs: &mut Inputs,
) -> Result<Output, QueryError> {
    let (mut left, mut right) = (inputs.take_batch(0), inputs.take_batch(1));
    let may_share = left.names == right.names && !matches!(left.names, Names::Mixed(_));
    let table = table(run, &left.rows, &right.rows, labels, may_share);
    let Signatures {
        left: left_signatures,
        right: right_signatures,
        count,
    } = &table.signatures;
    run.check_size(*count, left.steps)?;
    match op {
        SetOp::And | SetOp::Unless => {
            let present = presence(&right, right_signatures, *count);
            keep_where(&mut left, left_signatures, &present, op == SetOp::And);
            Ok(Output::vector(left))
        }
        SetOp::Or => {
            let present = presence(&left, left_signatures, *count);
            keep_where(&mut right, right_signatures, &present, false);
            union(run, &table, left, &right, may_share)
        }
    }
}

fn union(
    run: &Run<'_>,
    table: &SetTable,
    left: Batch,
    right: &Batch,
    is_shared: bool,
) -> Result<Output, QueryError> {
    let (steps, rows) = (left.steps, table.union.len());
    run.check_size(rows, steps)?;
    let names = if is_shared {
        left.names
    } else {
        let left_flags = (0..left.rows.len()).map(|row| left.names.is_dropped(row));
        let right_flags = (0..right.rows.len()).map(|row| right.names.is_dropped(row));
        Names::from_flags(left_flags.chain(right_flags).collect())
    };
    let mut values = left.values;
    values.resize(rows * steps, ABSENT);
    for (row, place) in table.right_places.iter().enumerate() {
        let cells = &mut values[*place as usize * steps..][..steps];
        for (cell, value) in cells.iter_mut().zip(right.row(row)) {
            if !is_absent(*value) {
                *cell = *value;
            }
        }
    }
    let histograms = joined_histograms(table, left.histograms, right, rows * steps);
    let rows = Arc::clone(&table.union);
    Ok(Output::vector(Batch::of_cells(
        rows,
        names,
        steps,
        (values, histograms),
    )))
}

/// The histograms of both sides; where they share a place, they never have something together.
fn joined_histograms(table: &SetTable, left: Option<Cells>, right: &Batch, cells: usize) -> Option<Cells> {
    if left.is_none() && right.histograms.is_none() {
        return None;
    }
    let mut all = left.unwrap_or_default();
    all.resize(cells, None);
    for (place, cell) in right.histograms.iter().flatten().enumerate() {
        if let Some(histogram) = cell {
            let row = table.right_places[place / right.steps] as usize;
            all[row * right.steps + place % right.steps] = Some(Arc::clone(histogram));
        }
    }
    Some(all)
}

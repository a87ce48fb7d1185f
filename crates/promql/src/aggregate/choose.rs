//! Aggregations that choose rows (`topk`, `bottomk`, `limitk`), and `count_values`.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use marketprism_model::Labels;

use super::{Groups, chosen_labels};
use crate::answer::QueryError;
use crate::ast::{AggregateOp, LabelChoice};
use crate::column::{ABSENT, Batch, Grid, Names, Rows, ScalarColumn, is_absent};
use crate::evaluate::{Output, Run};

/// Keeps the k best rows of each group, step by step. At a single step the rows come best first.
pub(super) fn choose(
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
        return Err(QueryError::Data("parameter value is NaN".to_owned()));
    }
    if let Some(count) = counts.iter().find(|count| !(-9.2e18..9.2e18).contains(*count)) {
        return Err(QueryError::Data(format!("scalar value {count} overflows int64")));
    }
    let mut values = vec![ABSENT; batch.values.len()];
    let mut order = Vec::new();
    for (step, count) in counts.iter().enumerate() {
        let keep = count.max(0.0) as usize;
        for group in 0..groups.count() {
            let present = |row: &u32| !is_absent(batch.row(*row as usize)[step]);
            let mut rows: Vec<u32> = groups.members(group).iter().copied().filter(present).collect();
            sort_best_first(op, batch, step, &mut rows);
            rows.truncate(keep);
            for row in &rows {
                let cell = *row as usize * batch.steps + step;
                values[cell] = batch.values[cell];
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
    Ok(Output::vector(Batch::numbers(rows, names, batch.steps, values)))
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
    Batch::numbers(
        Arc::new(picked),
        Names::from_flags(flags.collect()),
        batch.steps,
        values.collect(),
    )
}

/// Counts equal values: one row a group and value, which stands in `label`.
pub(super) fn count_values(
    run: &Run<'_>,
    batch: &Batch,
    grouping: Option<&LabelChoice>,
    label: &str,
) -> Result<Output, QueryError> {
    let nothing = LabelChoice::Only(Arc::from([]));
    let grouping = grouping.unwrap_or(&nothing);
    let mut known: HashMap<Labels, usize> = HashMap::new();
    let (mut labels, mut values): (Vec<Labels>, Vec<f64>) = (Vec::new(), Vec::new());
    let takes_label = match grouping {
        LabelChoice::Only(_) => true,
        LabelChoice::Except(names) => !names.iter().any(|name| **name == *label),
    };
    for (row, row_labels) in batch.rows.labels().iter().enumerate() {
        let group = chosen_labels(row_labels, grouping);
        // Most rows repeat their value from step to step.
        let mut last: Option<(u64, usize)> = None;
        for (step, value) in batch
            .row(row)
            .iter()
            .enumerate()
            .filter(|(_, value)| !is_absent(**value))
        {
            let place = match last {
                Some((bits, place)) if bits == value.to_bits() => place,
                _ => {
                    let named = if takes_label {
                        group.with(label, &written(*value))
                    } else {
                        group.clone()
                    };
                    let next = labels.len();
                    let place = *known.entry(named).or_insert_with_key(|named| {
                        labels.push(named.clone());
                        values.resize((next + 1) * batch.steps, ABSENT);
                        next
                    });
                    run.check_size(labels.len(), batch.steps)?;
                    place
                }
            };
            last = Some((value.to_bits(), place));
            let cell = &mut values[place * batch.steps + step];
            *cell = if is_absent(*cell) { 1.0 } else { *cell + 1.0 };
        }
    }
    let rows = Arc::new(Rows::passing(labels));
    Ok(Output::vector(Batch::numbers(
        rows,
        Names::Kept,
        batch.steps,
        values,
    )))
}

/// Writes a value as Prometheus does in labels: plain digits, never an exponent.
fn written(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        v => v.to_string(),
    }
}

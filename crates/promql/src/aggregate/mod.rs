//! Aggregations: many rows become one a group, or the best of a group are chosen.
//!
//! Which row belongs to which group depends on labels alone, so the table is kept between evaluations.

mod choose;
mod fold;
mod native;
mod ratio;

pub(crate) use choose::pick;

use std::collections::HashMap;
use std::sync::Arc;

use marketprism_model::Labels;
use marketprism_model::labels::METRIC_NAME;

use crate::answer::QueryError;
use crate::ast::{AggregateOp, LabelChoice};
use crate::column::{Batch, Canvas, Grid, Names, Rows, RowsId};
use crate::evaluate::{Inputs, Output, Run, unlabelled_row};

pub(crate) type GroupsKey = (RowsId, Option<LabelChoice>);

/// Which row belongs to which group.
pub(crate) struct Groups {
    /// The group of each row.
    pub(crate) of: Vec<u32>,
    /// The rows of all groups, group by group, in their order.
    members: Vec<u32>,
    /// Where each group's members begin, and the end.
    starts: Vec<u32>,
    /// The labels of each group, in the order in which rows first name them.
    pub(crate) rows: Arc<Rows>,
}

impl Groups {
    pub(crate) fn count(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn members(&self, group: usize) -> &[u32] {
        &self.members[self.starts[group] as usize..self.starts[group + 1] as usize]
    }

    fn build(rows: &Rows, grouping: Option<&LabelChoice>) -> Self {
        let mut of = Vec::with_capacity(rows.len());
        let groups = match grouping {
            None => {
                of.resize(rows.len(), 0);
                if rows.len() == 0 {
                    Arc::new(Rows::passing(Vec::new()))
                } else {
                    unlabelled_row()
                }
            }
            Some(grouping) => {
                let mut known: HashMap<Labels, u32> = HashMap::new();
                let mut labels = Vec::new();
                for row in rows.labels() {
                    let group_labels = chosen_labels(row, grouping);
                    let next = labels.len() as u32;
                    let group = *known.entry(group_labels).or_insert_with_key(|group_labels| {
                        labels.push(group_labels.clone());
                        next
                    });
                    of.push(group);
                }
                Arc::new(Rows::lasting(labels))
            }
        };
        let mut starts = vec![0u32; groups.len() + 1];
        of.iter().for_each(|group| starts[*group as usize + 1] += 1);
        for group in 0..groups.len() {
            starts[group + 1] += starts[group];
        }
        let (mut next, mut members) = (starts.clone(), vec![0u32; of.len()]);
        for (row, group) in of.iter().enumerate() {
            members[next[*group as usize] as usize] = row as u32;
            next[*group as usize] += 1;
        }
        Groups {
            of,
            members,
            starts,
            rows: groups,
        }
    }
}

/// Keeps the labels that `by` or `without` keeps.
pub(crate) fn chosen_labels(labels: &Labels, choice: &LabelChoice) -> Labels {
    match choice {
        LabelChoice::Only(names) => labels.filtered(|label| names.iter().any(|name| **name == *label)),
        LabelChoice::Except(names) => {
            labels.filtered(|label| label != METRIC_NAME && !names.iter().any(|name| **name == *label))
        }
    }
}

fn groups(run: &Run<'_>, rows: &Rows, grouping: Option<&LabelChoice>) -> Arc<Groups> {
    let Some(id) = rows.id() else {
        return Arc::new(Groups::build(rows, grouping));
    };
    let key: GroupsKey = (id, grouping.cloned());
    // A source that gives one number to two choices must not lead to a wrong answer in silence.
    if let Some(known) = run
        .tables
        .groups
        .get(&key)
        .filter(|known| known.of.len() == rows.len())
    {
        return known;
    }
    let built = Arc::new(Groups::build(rows, grouping));
    let weight = built.of.len() * 8 + built.count() * 4 + built.rows.bytes();
    run.tables.groups.put(key, Arc::clone(&built), weight);
    built
}

/// What a cell of a group takes, at most, while it is calculated.
const CELL_BYTES: u64 = 64;

/// Aggregates a vector (input 0), with the parameter as input 1.
pub(crate) fn aggregate(
    run: &mut Run<'_>,
    op: AggregateOp,
    grouping: Option<&LabelChoice>,
    inputs: &mut Inputs,
    grid: Grid,
) -> Result<Output, QueryError> {
    let batch = inputs.batch(0);
    if op == AggregateOp::CountValues {
        return choose::count_values(run, &batch, grouping, &inputs.text(1));
    }
    let groups = groups(run, &batch.rows, grouping);
    run.check_size(groups.count(), grid.count)?;
    // What is calculated of a group takes more than its value in the end.
    run.check_bytes((groups.count() as u64).saturating_mul(grid.count as u64 * CELL_BYTES))?;
    let values = match op {
        AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => {
            return choose::choose(run, op, &batch, &groups, &inputs.scalar(1), grid);
        }
        AggregateOp::Quantile => fold::quantiles(run, &batch, &groups, &inputs.scalar(1), grid),
        AggregateOp::Sum => fold::sum(&batch, &groups),
        AggregateOp::Avg => fold::avg(&batch, &groups),
        AggregateOp::Min => fold::extreme(&batch, &groups, |new, old| new < old),
        AggregateOp::Max => fold::extreme(&batch, &groups, |new, old| new > old),
        AggregateOp::Count => fold::count(&batch, &groups),
        AggregateOp::Group => fold::count(&batch, &groups)
            .into_iter()
            .map(fold::one_if_present)
            .collect(),
        AggregateOp::Stdvar => fold::variance(&batch, &groups, |variance| variance),
        AggregateOp::Stddev => fold::variance(&batch, &groups, f64::sqrt),
        AggregateOp::CountValues => unreachable!("handled above"),
        AggregateOp::LimitRatio => {
            return ratio::limit_ratio(run, &batch, &inputs.scalar(1), grid);
        }
    };
    let mut canvas = Canvas::over(values);
    if batch.histograms.is_some() {
        native::correct(run, op, &batch, &groups, &mut canvas)?;
    }
    let names = group_names(&batch, &groups, grouping);
    let rows = Arc::clone(&groups.rows);
    Ok(Output::vector(Batch::of_cells(
        rows,
        names,
        batch.steps,
        canvas.finish(),
    )))
}

/// A group's name is dropped when that of any of its rows is; only `by (__name__)` keeps names at all.
fn group_names(batch: &Batch, groups: &Groups, grouping: Option<&LabelChoice>) -> Names {
    let has_names = match grouping {
        Some(LabelChoice::Only(names)) => names.iter().any(|name| &**name == METRIC_NAME),
        _ => false,
    };
    if !has_names {
        return Names::Kept;
    }
    let is_dropped = |row: &u32| {
        let row = *row as usize;
        batch.names.is_dropped(row) && batch.has_row(row)
    };
    Names::from_flags(
        (0..groups.count())
            .map(|group| groups.members(group).iter().any(is_dropped))
            .collect(),
    )
}

//! Aggregations that make one value of a group's values at each step.

use crate::arithmetic::{go_max, go_min};
use crate::column::{ABSENT, Batch, Grid, ScalarColumn, is_absent};
use crate::evaluate::Run;
use crate::notes::{Part, Remark};
use crate::sum::{self, Mean};

use super::Groups;

/// Calls `each(cell, value)` for every present value, where `cell` is the group's cell of that step.
#[inline(always)]
fn for_each_cell(batch: &Batch, groups: &Groups, mut each: impl FnMut(usize, f64)) {
    let steps = batch.steps;
    if steps == 1 {
        for (value, group) in batch.values.iter().zip(&groups.of) {
            if !is_absent(*value) {
                each(*group as usize, *value);
            }
        }
        return;
    }
    for (row, group) in groups.of.iter().enumerate() {
        let first = *group as usize * steps;
        for (step, value) in batch.row(row).iter().enumerate() {
            if !is_absent(*value) {
                each(first + step, *value);
            }
        }
    }
}

fn cells(batch: &Batch, groups: &Groups) -> usize {
    groups.count() * batch.steps
}

pub(super) fn sum(batch: &Batch, groups: &Groups) -> Vec<f64> {
    let mut totals = vec![ABSENT; cells(batch, groups)];
    let mut lost = vec![0.0; totals.len()];
    for_each_cell(batch, groups, |cell, value| {
        if is_absent(totals[cell]) {
            totals[cell] = value;
        } else {
            (totals[cell], lost[cell]) = sum::add(value, totals[cell], lost[cell]);
        }
    });
    for (total, lost) in totals.iter_mut().zip(lost) {
        if !is_absent(*total) {
            *total += lost;
        }
    }
    totals
}

pub(super) fn avg(batch: &Batch, groups: &Groups) -> Vec<f64> {
    let mut means: Vec<Option<Mean>> = vec![None; cells(batch, groups)];
    for_each_cell(batch, groups, |cell, value| {
        means[cell].get_or_insert_default().add(value)
    });
    means
        .into_iter()
        .map(|mean| mean.map_or(ABSENT, Mean::mean))
        .collect()
}

/// The least or greatest value, NaN only when there is nothing else.
pub(super) fn extreme(batch: &Batch, groups: &Groups, is_better: impl Fn(f64, f64) -> bool) -> Vec<f64> {
    let mut best = vec![ABSENT; cells(batch, groups)];
    for_each_cell(batch, groups, |cell, value| {
        if best[cell].is_nan() || is_better(value, best[cell]) {
            best[cell] = value;
        }
    });
    best
}

pub(super) fn count(batch: &Batch, groups: &Groups) -> Vec<f64> {
    let mut counts = vec![ABSENT; cells(batch, groups)];
    for_each_cell(batch, groups, |cell, _| {
        counts[cell] = if is_absent(counts[cell]) {
            1.0
        } else {
            counts[cell] + 1.0
        };
    });
    counts
}

pub(super) fn one_if_present(value: f64) -> f64 {
    if is_absent(value) { ABSENT } else { 1.0 }
}

/// The population variance, made into the result by `finish`.
///
/// Source: Welford (1962).
pub(super) fn variance(batch: &Batch, groups: &Groups, finish: impl Fn(f64) -> f64) -> Vec<f64> {
    #[derive(Clone, Copy, Default)]
    struct Moments {
        count: f64,
        mean: f64,
        squares: f64,
    }
    let mut all = vec![Moments::default(); cells(batch, groups)];
    for_each_cell(batch, groups, |cell, value| {
        let moments = &mut all[cell];
        moments.count += 1.0;
        if moments.count == 1.0 {
            moments.mean = value;
            moments.squares = if value.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = value - moments.mean;
        moments.mean += delta / moments.count;
        moments.squares += delta * (value - moments.mean);
    });
    all.iter()
        .map(|m| {
            if m.count == 0.0 {
                ABSENT
            } else {
                finish(m.squares / m.count)
            }
        })
        .collect()
}

pub(super) fn quantiles(
    run: &mut Run<'_>,
    batch: &Batch,
    groups: &Groups,
    phi: &ScalarColumn,
    grid: Grid,
) -> Vec<f64> {
    let phis = || (0..grid.count).map(|step| phi.at(step));
    let remarkable = [
        phis().find(|phi| phi.is_nan()),
        phis().reduce(go_max).filter(|most| *most > 1.0),
        phis().reduce(go_min).filter(|least| *least < 0.0),
    ];
    for phi in remarkable.into_iter().flatten() {
        run.notes.add(Part::Argument(1), Remark::InvalidQuantile(phi));
    }
    let mut values = vec![ABSENT; cells(batch, groups)];
    let mut sorted = Vec::new();
    for group in 0..groups.count() {
        for step in 0..batch.steps {
            let members = groups
                .members(group)
                .iter()
                .map(|row| batch.row(*row as usize)[step]);
            sorted.clear();
            sorted.extend(members.filter(|value| !is_absent(*value)));
            if !sorted.is_empty() {
                values[group * batch.steps + step] = sum::quantile(phi.at(step), &mut sorted);
            }
        }
    }
    values
}

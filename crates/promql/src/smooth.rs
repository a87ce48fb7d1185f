//! `smoothed` instant selectors: values between samples are interpolated.
//!
//! A smoothed selector looks as far ahead as it looks back. Where there is no sample ahead yet, the last one
//! stands; where there is none behind, there is no value.
//!
//! Source: Prometheus 3, `promql/engine.go`, `smoothSeries`.

use std::sync::Arc;

use marketprism_model::{Samples, TimeRange, Timestamp, sample};

use crate::answer::QueryError;
use crate::column::{Batch, Grid, Names, Rows};
use crate::evaluate::{Output, Run};
use crate::plan::{Choice, Shift};
use crate::select;

/// Gives the value at `at` on the line between two samples. A counter that fell between them has begun anew from 0.
pub(crate) fn interpolated(before: (i64, f64), after: (i64, f64), at: i64, is_counter: bool) -> f64 {
    let ((from, first), (to, last)) = (before, after);
    let first = if is_counter && last < first { 0.0 } else { first };
    first + (last - first) * (at - from) as f64 / (to - from) as f64
}

/// A smoothed instant selector at each step.
pub(crate) fn instant(
    run: &mut Run<'_>,
    choice: &Choice,
    shift: Shift,
    grid: Grid,
) -> Result<Output, QueryError> {
    let (pinned, lookback_ms) = (run.pinned(shift), run.lookback_ms());
    let moment = |step: usize| pinned.unwrap_or_else(|| grid.moment(step)) - shift.offset_ms;
    let range = TimeRange::new(
        Timestamp::from_millis(moment(0).saturating_sub(lookback_ms).saturating_add(1)),
        Timestamp::from_millis(moment(grid.count.saturating_sub(1)).saturating_add(lookback_ms)),
    );
    let selection = select::select(run, choice, range)?;
    let values = select::columns(run, &*selection, range, grid.count, || {
        let (mut timestamps, mut values) = (Vec::new(), Vec::new());
        move |samples: Samples<'_>, row: &mut [f64]| {
            timestamps.clear();
            values.clear();
            for (at, value) in samples.timestamps.iter().zip(samples.values) {
                if !sample::is_stale(*value) {
                    timestamps.push(*at);
                    values.push(*value);
                }
            }
            let mut next = 0;
            for (step, cell) in row.iter_mut().enumerate() {
                let moment = moment(step);
                while timestamps.get(next).is_some_and(|at| *at < moment) {
                    next += 1;
                }
                let point = |place: usize| Some((*timestamps.get(place)?, *values.get(place)?));
                let after = point(next).filter(|(at, _)| *at <= moment.saturating_add(lookback_ms));
                let before = next
                    .checked_sub(1)
                    .and_then(point)
                    .filter(|(at, _)| *at > moment.saturating_sub(lookback_ms));
                match (before, after) {
                    (_, Some((at, value))) if at == moment => *cell = value,
                    (Some(before), Some(after)) => *cell = interpolated(before, after, moment, false),
                    (Some((_, value)), None) => *cell = value,
                    (None, _) => {}
                }
            }
        }
    })?;
    let rows = Arc::new(Rows::of_selection(selection));
    Ok(Output::vector(Batch::numbers(
        rows,
        Names::Kept,
        grid.count,
        values,
    )))
}

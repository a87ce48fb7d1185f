//! Makes answers of columns: labels for what survived, in the shape that was asked for.

use std::collections::HashSet;
use std::sync::Arc;

use marketprism_model::{Histogram, Labels, Sample, Timestamp};

use crate::answer::{Answer, InstantSample, QueryError, Series, Value};
use crate::column::{Batch, Grid, Names, RowsId, is_absent};
use crate::evaluate::{Done, Output};
use crate::plan::Prepared;
use crate::quote::lenient;

/// Makes the answer of a query whose steps are `grid`: of one moment, or a matrix over a range.
pub(crate) fn answer(
    done: Done,
    query: &Prepared,
    grid: Grid,
    is_instant: bool,
) -> Result<Answer, QueryError> {
    let moment = |step: usize| Timestamp::from_millis(grid.moment(step));
    let value = match (done.output, is_instant) {
        (Output::Text(text), _) => Value::Text(lenient(&text).into_owned()),
        (Output::Matrix(series), _) => Value::Matrix(Arc::unwrap_or_clone(series)),
        (Output::Scalar(column), true) => Value::Scalar(column.at(0)),
        (Output::Scalar(column), false) => {
            let point = |step| Sample {
                timestamp: moment(step),
                value: column.at(step),
            };
            let points = (0..grid.count).map(point).collect();
            Value::Matrix(vec![Series {
                labels: Labels::empty(),
                points,
                histograms: Vec::new(),
            }])
        }
        (Output::Vector(batch), true) => Value::Vector(vector(&batch, moment(0))?),
        (Output::Vector(batch), false) => Value::Matrix(matrix(&batch, grid)?),
    };
    let notes = done.notes.map(Arc::unwrap_or_clone).unwrap_or_default();
    Ok(notes.into_answer(value, query))
}

fn vector(batch: &Batch, timestamp: Timestamp) -> Result<Vec<InstantSample>, QueryError> {
    let sample = |row: usize, value: f64, histogram: Option<Arc<Histogram>>| InstantSample {
        labels: batch.answer_labels(row),
        timestamp,
        value,
        histogram,
    };
    let mut samples = Vec::new();
    for (row, value) in batch.values.iter().enumerate() {
        if !is_absent(*value) {
            samples.push(sample(row, *value, None));
        } else if let Some(histogram) = batch.histogram(row) {
            samples.push(sample(row, 0.0, Some(Arc::clone(histogram))));
        }
    }
    if samples.len() > 1 && may_repeat(batch) {
        let distinct: HashSet<&Labels> = samples.iter().map(|sample| &sample.labels).collect();
        if distinct.len() < samples.len() {
            return Err(same_labels());
        }
    }
    Ok(samples)
}

/// Rows of a selection differ by themselves, unless labels were taken from them.
fn may_repeat(batch: &Batch) -> bool {
    !(batch.names == Names::Kept && matches!(batch.rows.id(), Some(RowsId::Selection(_))))
}

/// Two results with the same labels: no one could tell them apart.
pub(crate) fn same_labels() -> QueryError {
    QueryError::Data("vector cannot contain metrics with the same labelset".to_owned())
}

/// Makes a matrix, sorted by labels; rows that came to have the same labels become one series when
/// they never meet.
pub(crate) fn matrix(batch: &Batch, grid: Grid) -> Result<Vec<Series>, QueryError> {
    let mut all: Vec<Series> = Vec::new();
    for row in 0..batch.rows.len() {
        let points: Vec<Sample> = batch
            .row(row)
            .iter()
            .enumerate()
            .filter(|(_, value)| !is_absent(**value))
            .map(|(step, value)| Sample {
                timestamp: Timestamp::from_millis(grid.moment(step)),
                value: *value,
            })
            .collect();
        let histograms = histograms(batch, row, grid);
        if !points.is_empty() || !histograms.is_empty() {
            all.push(Series {
                labels: batch.answer_labels(row),
                points,
                histograms,
            });
        }
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut merged: Vec<Series> = Vec::with_capacity(all.len());
    for series in all {
        match merged.last_mut() {
            Some(last) if last.labels == series.labels => {
                last.points.extend(series.points);
                last.points.sort_by_key(|point| point.timestamp);
                last.histograms.extend(series.histograms);
                last.histograms.sort_by_key(|(at, _)| *at);
                if meets_itself(last) {
                    return Err(same_labels());
                }
            }
            _ => merged.push(series),
        }
    }
    Ok(merged)
}

fn histograms(batch: &Batch, row: usize, grid: Grid) -> Vec<(Timestamp, Arc<Histogram>)> {
    let Some(cells) = &batch.histograms else {
        return Vec::new();
    };
    let cells = cells[row * batch.steps..(row + 1) * batch.steps]
        .iter()
        .enumerate();
    cells
        .filter_map(|(step, cell)| {
            Some((
                Timestamp::from_millis(grid.moment(step)),
                Arc::clone(cell.as_ref()?),
            ))
        })
        .collect()
}

/// Says whether a series has two points at one moment.
fn meets_itself(series: &Series) -> bool {
    let mut moments: Vec<Timestamp> = series.points.iter().map(|point| point.timestamp).collect();
    moments.extend(series.histograms.iter().map(|(at, _)| *at));
    moments.sort_unstable();
    moments.windows(2).any(|pair| pair[0] == pair[1])
}

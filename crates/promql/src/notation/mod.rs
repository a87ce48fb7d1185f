//! The notation in which Prometheus' rule unit tests and test scripts write series down:
//! `http_requests_total{job="api"} 1+2x5 _x3 stale {{schema:0 sum:3 count:2 buckets:[1 1]}}`.
//!
//! A little language of its own beside PromQL: a metric, then what it holds, interval by interval. It is read by
//! hand, without recursion, and what it expands to is bounded, for rule tests come from outside too.
//! Deliberately absent: hexadecimal numbers, for `0x1` is a zero twice here as it is there; and times, for only
//! the reader of a whole test knows the interval.
//!
//! Source: `docs/configuration/unit_testing_rules.md` (series) and the grammar of `promql/parser` in
//! prometheus/prometheus.

mod cursor;
mod histogram;
mod metric;

use std::sync::Arc;

use marketprism_model::{Histogram, Labels, sample};
use thiserror::Error;

use cursor::Cursor;
use histogram::Described;
pub use histogram::write_histogram;

use crate::native::Total;

/// The longest text that is read.
pub const NOTATION_BYTES_MAX: usize = 4 << 20;
/// The most values that one series may expand to.
pub const VALUES_MAX: usize = 1_000_000;
/// The most that the histograms of one series may weigh together, in samples of eight bytes.
pub const HISTOGRAM_WEIGHT_MAX: usize = 8 << 20;

/// One value of a series.
#[derive(Clone, PartialEq, Debug)]
pub enum NotedValue {
    /// A number; the stale mark for `stale`.
    Number(f64),
    /// A native histogram. Nothing but its shape is checked: whoever stores it calls [`Histogram::check`].
    Histogram {
        /// The histogram.
        histogram: Arc<Histogram>,
        /// Whether its `counter_reset_hint` was written down; where it was not, a test does not compare it.
        is_hint_noted: bool,
    },
}

/// A series as it was written down.
#[derive(Clone, PartialEq, Debug)]
pub struct NotedSeries {
    /// The labels, the metric's name among them.
    pub labels: Labels,
    /// A value for each interval from the first on; `None` where there is none.
    pub values: Vec<Option<NotedValue>>,
}

/// Why a text is no series.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{line}:{column}: parse error: {message}")]
pub struct NotationError {
    /// What is wrong.
    pub message: String,
    /// The line of the text, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
    /// The byte of the text, from 0.
    pub position: usize,
}

/// Reads a series: a metric and its values.
///
/// Values are separated by blanks: `5`, `-Inf`, `NaN`, `stale`, `_` (nothing), `_x3` (three times nothing), `5x3`
/// (four times 5), `5+2x3` and `5-2x3` (5, and three more, each 2 further), and native histograms in `{{…}}`, which
/// may be repeated and stepped the same way.
///
/// # Errors
/// [`NotationError`] for a text that is none, is longer than [`NOTATION_BYTES_MAX`], or expands to more than
/// [`VALUES_MAX`] values or [`HISTOGRAM_WEIGHT_MAX`].
pub fn parse_series(text: &str) -> Result<NotedSeries, NotationError> {
    let mut cursor = Cursor::new(text)?;
    cursor.skip_blanks();
    let start = cursor.rest().len();
    let labels = metric::read(&mut cursor, false)?;
    if cursor.rest().len() == start {
        return Err(cursor.unexpected("series description", "a metric's name or \"{\""));
    }
    let mut values = Values::default();
    while cursor.skip_blanks() {
        if cursor.is_at_end() {
            break;
        }
        read_item(&mut cursor, &mut values)?;
    }
    if !cursor.is_at_end() {
        return Err(cursor.unexpected("series values", "a space between values"));
    }
    Ok(NotedSeries {
        labels,
        values: values.all,
    })
}

/// Reads a metric alone: `name{label="value"}`, as rule tests name the labels of a sample.
///
/// # Errors
/// [`NotationError`] for a text that is none.
pub fn parse_metric(text: &str) -> Result<Labels, NotationError> {
    let mut cursor = Cursor::new(text)?;
    cursor.skip_blanks();
    let labels = metric::read(&mut cursor, true)?;
    cursor.skip_blanks();
    if cursor.is_at_end() {
        Ok(labels)
    } else {
        Err(cursor.unexpected("metric", "the end of the text"))
    }
}

/// The values so far, and what they weigh.
#[derive(Default)]
struct Values {
    all: Vec<Option<NotedValue>>,
    histogram_weight: usize,
}

impl Values {
    /// Makes room, or says that there is none.
    fn reserve(&mut self, cursor: &Cursor<'_>, count: usize) -> Result<(), NotationError> {
        if count > VALUES_MAX || self.all.len() + count > VALUES_MAX {
            return Err(cursor.error(format!("a series of more than {VALUES_MAX} values")));
        }
        self.all.reserve(count);
        Ok(())
    }

    fn push_histogram(&mut self, cursor: &Cursor<'_>, described: &Described) -> Result<(), NotationError> {
        self.histogram_weight = self.histogram_weight.saturating_add(described.histogram.weight());
        if self.histogram_weight > HISTOGRAM_WEIGHT_MAX {
            let message = format!("the histograms of a series weigh more than {HISTOGRAM_WEIGHT_MAX}");
            return Err(cursor.error(message));
        }
        self.all.push(Some(NotedValue::Histogram {
            histogram: Arc::clone(&described.histogram),
            is_hint_noted: described.is_hint_noted,
        }));
        Ok(())
    }
}

/// Reads one item, which may stand for many values.
fn read_item(cursor: &mut Cursor<'_>, values: &mut Values) -> Result<(), NotationError> {
    if cursor.take("_") {
        let count = if cursor.take("x") {
            cursor.repetitions()?
        } else {
            1
        };
        values.reserve(cursor, count)?;
        values.all.extend(std::iter::repeat_n(None, count));
        return Ok(());
    }
    if cursor.starts_with("{{") {
        return read_histograms(cursor, values);
    }
    if cursor.take_word("stale") {
        values.reserve(cursor, 1)?;
        values.all.push(Some(NotedValue::Number(sample::stale_nan())));
        return Ok(());
    }
    let mut value = cursor.signed_number("series values", "number or \"stale\"")?;
    let step = if cursor.starts_with("+") || cursor.starts_with("-") {
        let step = cursor.signed_number("series values", "number")?;
        if !cursor.starts_with("x") {
            return Err(cursor.unexpected("series values", "\"x\" and the number of steps"));
        }
        step
    } else {
        0.0
    };
    let steps = if cursor.take("x") {
        cursor.repetitions()?
    } else {
        0
    };
    values.reserve(cursor, steps.saturating_add(1))?;
    values.all.push(Some(NotedValue::Number(value)));
    for _ in 0..steps {
        value += step;
        values.all.push(Some(NotedValue::Number(value)));
    }
    Ok(())
}

fn read_histograms(cursor: &mut Cursor<'_>, values: &mut Values) -> Result<(), NotationError> {
    let base = histogram::read(cursor)?;
    let is_rising = cursor.take("+");
    if !is_rising && !cursor.take("-") {
        let count = if cursor.take("x") {
            cursor.repetitions()?
        } else {
            0
        };
        values.reserve(cursor, count.saturating_add(1))?;
        for _ in 0..=count {
            values.push_histogram(cursor, &base)?;
        }
        return Ok(());
    }
    let step = histogram::read(cursor)?;
    if !cursor.take("x") {
        return Err(cursor.unexpected("series values", "\"x\" and the number of steps"));
    }
    let steps = cursor.repetitions()?;
    values.reserve(cursor, steps.saturating_add(1))?;
    // The step tells for all of them whether the hint counts.
    let mut next = Described {
        is_hint_noted: step.is_hint_noted,
        ..base
    };
    values.push_histogram(cursor, &next)?;
    for _ in 0..steps {
        let sum = stepped(&next.histogram, &step.histogram, is_rising)
            .map_err(|reason| cursor.error(format!("error combining histograms: {reason}")))?;
        next.histogram = Arc::new(sum);
        values.push_histogram(cursor, &next)?;
    }
    Ok(())
}

/// One step of a stepped histogram. The step may be finer than what it is added to, and never coarser.
fn stepped(base: &Histogram, step: &Histogram, is_rising: bool) -> Result<Histogram, String> {
    if base.schema > step.schema {
        return Err(format!(
            "cannot merge from schema {} to {}",
            step.schema, base.schema
        ));
    }
    let mut total = Total::of(base);
    let added = if is_rising {
        total.add(step)
    } else {
        total.subtract(step)
    };
    added.map_err(|_| "custom bounds and exponential ones cannot be merged".to_owned())?;
    Ok(total.plain())
}

#[cfg(test)]
mod tests;

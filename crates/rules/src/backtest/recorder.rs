//! Recording rules in columns: what they yield becomes series that later rules read.
//!
//! It writes what the running program would write tick by tick, with marks where a series ends.
//! Deliberately absent: alerting rules (`columns`).

use std::collections::{BTreeMap, HashMap, HashSet};

use marketprism_model::sample::{Durability, stale_nan};
use marketprism_model::{Labels, RefSample, SampleSink as _, SeriesRef};

use crate::backtest::BacktestError;
use crate::backtest::columns::{Window, doubled, first_good};

/// A recording rule and the series that it wrote last.
#[derive(Default)]
pub(super) struct Recorder {
    alive: HashMap<Labels, SeriesRef>,
    /// Those of them whose last sample is no mark of the end.
    last: HashSet<SeriesRef>,
}

impl Window<'_, '_> {
    /// Writes what a recording rule yields, and marks where a series ends.
    pub(super) fn record(
        &self,
        recorder: &mut Recorder,
        failed: &mut BTreeMap<u64, String>,
    ) -> Result<(), BacktestError> {
        let mut outputs: BTreeMap<Labels, Vec<(u64, f64)>> = BTreeMap::new();
        for (series, points) in self.columns(failed)? {
            let labels = self.rule.definition.recorded(&series);
            let output = outputs.entry(labels.clone()).or_default();
            if output.is_empty() {
                *output = points;
                continue;
            }
            output.extend(points);
            output.sort_by_key(|(tick, _)| *tick);
            for pair in output.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
                failed.insert(pair[0].0, doubled(&labels));
            }
        }
        let mut named: Vec<(SeriesRef, Vec<(u64, f64)>)> = Vec::new();
        for (labels, mut points) in outputs {
            points.retain(|(tick, _)| !failed.contains_key(tick));
            if points.is_empty() && !recorder.alive.contains_key(&labels) {
                continue;
            }
            let series = self
                .course
                .memory
                .resolve(&labels)
                .map_err(|error| BacktestError::Memory(error.to_string()))?;
            recorder.alive.insert(labels, series);
            named.push((series, points));
        }
        let still: HashSet<SeriesRef> = named.iter().map(|(series, _)| *series).collect();
        let gone = recorder.alive.values().filter(|series| !still.contains(series));
        named.extend(gone.map(|series| (*series, Vec::new())));
        for (series, points) in named {
            let is_alive = self.write(series, &points, recorder.last.remove(&series), failed)?;
            if is_alive {
                recorder.last.insert(series);
            }
        }
        let last = &recorder.last;
        recorder.alive.retain(|_, series| last.contains(series));
        Ok(())
    }

    /// Writes one series; says whether it is alive at the end of the window.
    fn write(
        &self,
        series: SeriesRef,
        points: &[(u64, f64)],
        was_alive: bool,
        failed: &BTreeMap<u64, String>,
    ) -> Result<bool, BacktestError> {
        let schedule = &self.course.schedules[self.rule.group];
        let offset = self.course.groups()[self.rule.group].query_offset;
        let mut samples = Vec::with_capacity(points.len() + 1);
        let mut put = |tick: u64, value: f64| {
            samples.push(RefSample {
                series,
                timestamp: schedule.at(tick) - offset,
                value,
            });
        };
        let (mut is_alive, mut next) = (was_alive, self.ticks.start);
        for (tick, value) in points {
            let end = first_good(failed, next, *tick);
            if is_alive && end < *tick {
                put(end, stale_nan());
            }
            put(*tick, *value);
            (is_alive, next) = (true, tick + 1);
        }
        let end = first_good(failed, next, self.ticks.end);
        if is_alive && end < self.ticks.end {
            put(end, stale_nan());
            is_alive = false;
        }
        let appended = self.course.memory.append(&samples, Durability::Interval);
        appended.map_err(|error| BacktestError::Memory(error.to_string()))?;
        Ok(is_alive)
    }
}

//! The series that one rule writes.
//!
//! Labels of an output are made once: what the expression yields is looked up by its own labels, so a
//! steady rule writes by the store's references and builds no label set at all. A series that is not
//! written again is marked as ended.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use marketprism_model::sample::{AppendError, Durability, stale_nan};
use marketprism_model::{Histogram, Labels, RefHistogram, RefSample, SampleSink, SeriesRef, Timestamp};

/// What an output is made of: labels, and which of several outputs they make.
type Key = (Labels, u8);

#[derive(Debug)]
struct Series {
    labels: Labels,
    named: Option<SeriesRef>,
    /// The evaluation that wrote it last.
    written: u64,
    keys: Vec<Key>,
}

/// All series of one rule.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    by_key: HashMap<Key, usize>,
    by_labels: HashMap<Labels, usize>,
    series: Vec<Option<Series>>,
    free: Vec<usize>,
    evaluation: u64,
    /// Of this evaluation: position, value, and the evaluation that wrote it before.
    pending: Vec<(usize, f64, u64)>,
    /// The same of values that are histograms.
    pending_histograms: Vec<(usize, Arc<Histogram>, u64)>,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Written {
    pub samples: usize,
    pub refused: usize,
}

impl Outputs {
    /// Counts the series that are alive.
    pub(crate) fn len(&self) -> usize {
        self.by_labels.len()
    }

    /// Begins an evaluation.
    pub(crate) fn begin(&mut self) {
        self.evaluation += 1;
        self.pending.clear();
        self.pending_histograms.clear();
    }

    /// Puts a value under what it is made of; `make` builds the labels when they are not known yet.
    ///
    /// Gives the labels back when something else was put under them in this evaluation.
    pub(crate) fn put(&mut self, key: Key, value: f64, make: impl FnOnce() -> Labels) -> Result<(), Labels> {
        let (position, before) = self.take(key, make)?;
        self.pending.push((position, value, before));
        Ok(())
    }

    /// Like [`Outputs::put`], for a histogram.
    pub(crate) fn put_histogram(
        &mut self,
        key: Key,
        histogram: &Arc<Histogram>,
        make: impl FnOnce() -> Labels,
    ) -> Result<(), Labels> {
        let (position, before) = self.take(key, make)?;
        self.pending_histograms
            .push((position, Arc::clone(histogram), before));
        Ok(())
    }

    /// Gives the position under a key, which is thereby written, and the evaluation that wrote it before.
    fn take(&mut self, key: Key, make: impl FnOnce() -> Labels) -> Result<(usize, u64), Labels> {
        let position = match self.by_key.get(&key) {
            Some(position) => *position,
            None => self.learn(key, make()),
        };
        let evaluation = self.evaluation;
        let series = self.at(position);
        if series.written == evaluation {
            return Err(series.labels.clone());
        }
        Ok((position, std::mem::replace(&mut series.written, evaluation)))
    }

    fn at(&mut self, position: usize) -> &mut Series {
        self.series[position]
            .as_mut()
            .expect("positions are dropped together with their keys")
    }

    fn learn(&mut self, key: Key, labels: Labels) -> usize {
        let position = match self.by_labels.get(&labels) {
            Some(position) => *position,
            None => {
                let fresh = Series {
                    labels: labels.clone(),
                    named: None,
                    written: 0,
                    keys: Vec::with_capacity(1),
                };
                let position = match self.free.pop() {
                    Some(position) => {
                        self.series[position] = Some(fresh);
                        position
                    }
                    None => {
                        self.series.push(Some(fresh));
                        self.series.len() - 1
                    }
                };
                self.by_labels.insert(labels, position);
                position
            }
        };
        self.at(position).keys.push(key.clone());
        self.by_key.insert(key, position);
        position
    }

    /// Ends an evaluation that failed: what stood before it, stands.
    pub(crate) fn abort(&mut self) {
        for (position, _, before) in std::mem::take(&mut self.pending) {
            self.at(position).written = before;
        }
        for (position, _, before) in std::mem::take(&mut self.pending_histograms) {
            self.at(position).written = before;
        }
        // What was learnt in this evaluation only was never written.
        self.drop_where(|series| series.written == 0, |_| {});
        self.evaluation -= 1;
    }

    /// Writes this evaluation's samples, and marks of the end for what it no longer has. `written` is told
    /// the labels of both.
    pub(crate) fn commit(
        &mut self,
        sink: &dyn SampleSink,
        at: Timestamp,
        mut written: impl FnMut(&Labels),
    ) -> Result<Written, AppendError> {
        let pending = std::mem::take(&mut self.pending);
        let mut failure = None;
        let mut samples = Vec::with_capacity(pending.len());
        for (position, value, _) in &pending {
            let series = self.at(*position);
            match name(series, sink) {
                Ok(named) => {
                    written(&series.labels);
                    samples.push(RefSample {
                        series: named,
                        timestamp: at,
                        value: *value,
                    });
                }
                Err(error) => failure = Some(error),
            }
        }
        let outcome = self.append(sink, &samples, &pending);
        let histograms = self.commit_histograms(sink, at, &mut written);
        self.end(sink, at, &mut written);
        self.pending = pending;
        self.pending.clear();
        match (outcome, histograms, failure) {
            (Err(error), _, _) | (_, Err(error), _) | (_, _, Some(error)) => Err(error),
            (Ok(numbers), Ok(histograms), None) => Ok(Written {
                samples: numbers.samples + histograms.samples,
                refused: numbers.refused + histograms.refused,
            }),
        }
    }

    /// Writes this evaluation's histograms, once more under new names where the store had forgotten the old ones.
    fn commit_histograms(
        &mut self,
        sink: &dyn SampleSink,
        at: Timestamp,
        written: &mut impl FnMut(&Labels),
    ) -> Result<Written, AppendError> {
        let (mut rest, odd): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending_histograms)
            .into_iter()
            .partition(|(_, histogram, _)| histogram.check().is_ok());
        let mut outcome = Written::default();
        // What no store can hold, such as a difference with counts below zero: the series ends.
        for (position, _, before) in odd {
            self.at(position).written = before;
            outcome.refused += 1;
        }
        for is_last in [false, true] {
            if rest.is_empty() {
                break;
            }
            let mut samples = Vec::with_capacity(rest.len());
            for (position, histogram, _) in &rest {
                let series = self.at(*position);
                samples.push(RefHistogram {
                    series: name(series, sink)?,
                    timestamp: at,
                    histogram: Arc::clone(histogram),
                });
                written(&series.labels);
            }
            let appended = sink.append_histograms(&samples, Durability::Interval)?;
            outcome.samples += appended.accepted;
            outcome.refused += appended.refused();
            if is_last {
                outcome.refused += appended.unknown_series.len();
                break;
            }
            let forgotten = appended.unknown_series.iter();
            rest = forgotten.filter_map(|place| rest.get(*place).cloned()).collect();
            for (position, _, _) in &rest {
                self.at(*position).named = None;
            }
        }
        Ok(outcome)
    }

    /// Appends, and once more under new names what the store had forgotten.
    fn append(
        &mut self,
        sink: &dyn SampleSink,
        samples: &[RefSample],
        pending: &[(usize, f64, u64)],
    ) -> Result<Written, AppendError> {
        if samples.is_empty() {
            return Ok(Written::default());
        }
        let appended = sink.append(samples, Durability::Interval)?;
        let mut outcome = Written {
            samples: appended.accepted,
            refused: appended.refused(),
        };
        if appended.unknown_series.is_empty() {
            return Ok(outcome);
        }
        let forgotten: HashSet<SeriesRef> = appended
            .unknown_series
            .iter()
            .filter_map(|at| samples.get(*at).map(|sample| sample.series))
            .collect();
        let mut again = Vec::with_capacity(forgotten.len());
        for (position, value, _) in pending {
            let series = self.at(*position);
            if series.named.is_some_and(|named| forgotten.contains(&named)) {
                series.named = None;
                again.push(RefSample {
                    series: name(series, sink)?,
                    timestamp: samples[0].timestamp,
                    value: *value,
                });
            }
        }
        let appended = sink.append(&again, Durability::Interval)?;
        outcome.samples += appended.accepted;
        outcome.refused += appended.refused() + appended.unknown_series.len();
        Ok(outcome)
    }

    /// Marks the end of whatever was not written in this evaluation.
    fn end(&mut self, sink: &dyn SampleSink, at: Timestamp, written: &mut impl FnMut(&Labels)) {
        let evaluation = self.evaluation;
        let mut marks = Vec::new();
        self.drop_where(
            |series| series.written != evaluation,
            |series| {
                written(&series.labels);
                marks.extend(series.named.map(|series| RefSample {
                    series,
                    timestamp: at,
                    value: stale_nan(),
                }));
            },
        );
        if marks.is_empty() {
            return;
        }
        if let Err(error) = sink.append(&marks, Durability::Interval) {
            // Readers lose sight of the series after the lookback anyway.
            tracing::warn!(logger = "rules", error = %error, "ends of series could not be written");
        }
    }

    /// Marks the end of all series, for the rule is gone.
    pub(crate) fn end_all(&mut self, sink: &dyn SampleSink, at: Timestamp) {
        self.begin();
        self.end(sink, at, &mut |_| {});
    }

    fn drop_where(&mut self, is_dropped: impl Fn(&Series) -> bool, mut dropped: impl FnMut(&Series)) {
        for position in 0..self.series.len() {
            if !self.series[position].as_ref().is_some_and(&is_dropped) {
                continue;
            }
            if let Some(series) = self.series[position].take() {
                dropped(&series);
                self.by_labels.remove(&series.labels);
                for key in &series.keys {
                    self.by_key.remove(key);
                }
                self.free.push(position);
            }
        }
    }
}

fn name(series: &mut Series, sink: &dyn SampleSink) -> Result<SeriesRef, AppendError> {
    match series.named {
        Some(named) => Ok(named),
        None => {
            let named = sink.resolve(&series.labels)?;
            series.named = Some(named);
            Ok(named)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use marketprism_testkit::MemorySink;

    fn counting(count: f64) -> Arc<Histogram> {
        Arc::new(Histogram {
            count,
            sum: count,
            ..Histogram::default()
        })
    }

    #[test]
    fn histograms_are_written_and_what_no_store_holds_ends_the_series() {
        let (sink, mut outputs) = (MemorySink::new(), Outputs::default());
        let labels = || Labels::from_pairs([("__name__", "recorded")]);
        let mut tick = |second: i64, count: f64| {
            outputs.begin();
            outputs
                .put_histogram((labels(), 0), &counting(count), labels)
                .expect("it is put once");
            let at = Timestamp::from_millis(second * 1000);
            outputs.commit(&sink, at, |_| {}).expect("the sink takes it")
        };
        let written = |samples, refused| Written { samples, refused };
        assert_eq!(tick(1, 3.0), written(1, 0));
        sink.forget_names();
        assert_eq!(tick(2, 4.0), written(1, 0));
        assert_eq!(tick(3, -1.0), written(0, 1));
        let counts: Vec<f64> = sink
            .histograms_of("recorded")
            .iter()
            .map(|(_, histogram)| histogram.count)
            .collect();
        assert_eq!(counts, [3.0, 4.0]);
        let ends = sink.samples_of("recorded");
        assert_eq!(ends, [(Timestamp::from_millis(3000), None)]);
    }
}

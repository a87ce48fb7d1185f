//! From one body to the store: the whole road of a scrape, without time and network.
//!
//! A scrape is taken whole or not at all: labels are made and limits are checked before the store hears of any new
//! series, and samples, marks of ended series and the meta series go to the store in one append.
//!
//! Invariant: nothing here waits for the network or reads a clock; the store's append may block.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::sample::{AppendError, Appended, Durability, is_stale, stale_nan};
use marketprism_model::{Labels, RefHistogram, RefSample, SampleSink, SeriesRef, Timestamp};
use thiserror::Error;

use super::lines::{FreshLine, LineCache, Reading, TimeRules, still_ended};
use super::sample_rules::LabelFault;
pub use super::sample_rules::SampleRules;
use crate::exposition::{Format, ParseError, ProtobufError, SeriesError, UnfoldError, unfold};
use crate::metadata::{MetadataStore, TargetMetadata};
use crate::metrics::CollectMetrics;

/// Why a body that came gives no samples.
#[derive(Debug, Error)]
pub enum RoadError {
    /// A line cannot be read.
    #[error("{0}")]
    Parse(#[from] ParseError),
    /// A message cannot be read.
    #[error(transparent)]
    Protobuf(#[from] ProtobufError),
    /// A line can be read, but names no series.
    #[error("{reason} ({place})")]
    Labels {
        /// What is wrong.
        reason: SeriesError,
        /// Where.
        place: ParseError,
    },
    /// Relabelling took the metric's name away.
    #[error("sample without a metric name after relabelling: {0}")]
    NoName(String),
    /// There are too many samples.
    #[error("sample_limit exceeded (samples: {count}, limit: {limit})")]
    SampleLimit {
        /// As many as there are.
        count: usize,
        /// As many as may be.
        limit: usize,
    },
    /// A sample has too many labels.
    #[error("label_limit exceeded (series: {series}, labels: {count}, limit: {limit})")]
    LabelLimit {
        /// The metric's name, cut.
        series: String,
        /// As many as there are.
        count: usize,
        /// As many as may be.
        limit: usize,
    },
    /// A label's name is too long.
    #[error("label_name_length_limit exceeded (series: {series}, bytes: {length}, limit: {limit})")]
    NameLength {
        /// The metric's name, cut.
        series: String,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A label's value is too long.
    #[error(
        "label_value_length_limit exceeded (series: {series}, label: {label}, bytes: {length}, limit: {limit})"
    )]
    ValueLength {
        /// The metric's name, cut.
        series: String,
        /// The label's name, cut.
        label: String,
        /// Its value's length.
        length: usize,
        /// The limit.
        limit: usize,
    },
}

impl From<UnfoldError> for RoadError {
    fn from(error: UnfoldError) -> Self {
        match error {
            UnfoldError::Protobuf(error) => RoadError::Protobuf(error),
            UnfoldError::Parse(error) => RoadError::Parse(error),
        }
    }
}

/// What one scrape came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Samples in the body, up to its first fault.
    pub scraped: usize,
    /// Those of them that relabelling kept.
    pub kept: usize,
    /// Those of them whose series are new to the target.
    pub series_added: usize,
    /// Length of the body, -1 when it was too long, 0 when there was none.
    pub body_bytes: i64,
}

/// A scrape that was fetched, or was not.
#[derive(Clone, Copy, Debug)]
pub enum Fetched<'a> {
    /// The target answered.
    Body {
        /// What.
        bytes: &'a [u8],
        /// In which format.
        format: Format,
    },
    /// It did not.
    Failed {
        /// Whether the answer was longer than allowed.
        is_too_long: bool,
    },
}

const REPORT_NAMES: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];
const PLAIN_REPORTS: usize = 5;
/// A longer name of a series is cut in messages.
pub(super) const SHOWN_CHARS_MAX: usize = 200;

/// The road of one target, with everything it remembers between scrapes.
pub struct Road {
    rules: SampleRules,
    cache: LineCache,
    reading: Reading,
    report_series: [Option<SeriesRef>; REPORT_NAMES.len()],
    /// Series of the road that this one follows, until the first scrape shows which of them live on.
    inherited: Vec<SeriesRef>,
    comments_hash: Option<u64>,
    /// The moment of the last scrape.
    last_at: Option<Timestamp>,
    /// The reason for which a series was refused last, as far as it was told.
    told_refusal: Option<&'static str>,
    metrics: CollectMetrics,
}

impl Road {
    /// Makes the road of a target that was never scraped.
    pub fn new(rules: SampleRules, metrics: CollectMetrics) -> Self {
        Road {
            rules,
            cache: LineCache::default(),
            reading: Reading::default(),
            report_series: [None; REPORT_NAMES.len()],
            inherited: Vec::new(),
            comments_hash: None,
            last_at: None,
            told_refusal: None,
            metrics,
        }
    }

    /// Goes on under other rules: what was read stays known if the rules label alike, else only what must be ended.
    pub fn follow(&mut self, mut old: Road) {
        self.inherited = std::mem::take(&mut old.inherited);
        self.last_at = old.last_at;
        if self.rules.labels_like(&old.rules) {
            self.cache = old.cache;
            self.comments_hash = old.comments_hash;
            self.report_series = old.report_series;
        } else {
            self.inherited.extend(old.cache.end_all());
        }
    }

    /// Takes one scrape to the store; the report's samples are written even when the scrape failed.
    ///
    /// `duration` is asked for when the body has been read. The error is why the scrape counts as failed.
    pub fn take(
        &mut self,
        fetched: &Fetched<'_>,
        at: Timestamp,
        duration: impl FnOnce() -> Duration,
        sink: &dyn SampleSink,
    ) -> (Report, Result<(), RoadError>, Result<(), AppendError>) {
        self.reading.clear();
        self.last_at = Some(at);
        let (mut report, mut result) = (Report::default(), Ok(()));
        let is_up = match fetched {
            Fetched::Body { bytes, format } => {
                report.body_bytes = bytes.len() as i64;
                result = self.read(bytes, *format, at, sink, &mut report);
                result.is_ok()
            }
            Fetched::Failed { is_too_long } => {
                report.body_bytes = if *is_too_long { -1 } else { 0 };
                false
            }
        };
        let mut ended = if is_up {
            self.cache.settle(&self.reading)
        } else {
            self.reading.clear_samples();
            self.cache.end_all()
        };
        ended.append(&mut self.inherited);
        still_ended(&mut ended, &self.reading);
        self.push_stale(&ended, at);
        self.push_report(is_up, duration(), report, at, sink);
        let appended = self.append(sink);
        (report, result, appended)
    }

    /// Reads the comments when they changed since they were read last.
    pub fn metadata_of(
        &mut self,
        body: &[u8],
        format: Format,
        store: &MetadataStore,
    ) -> Option<TargetMetadata> {
        let hash = self.reading.comments_hash;
        if self.comments_hash == Some(hash) {
            return None;
        }
        self.comments_hash = Some(hash);
        let text = unfold(body, format, self.rules.histograms).ok()?.text;
        Some(store.of_body(&text, format))
    }

    /// Ends every series and the meta series; for a target that is gone for good.
    pub fn end(&mut self, now: Timestamp, sink: &dyn SampleSink) -> Result<(), AppendError> {
        self.reading.clear();
        // At the moment of the last samples, or before it, a mark would be refused or overlooked.
        let after_last = self.last_at.map(|last| last + Duration::from_millis(1));
        let at = after_last.map_or(now, |after| after.max(now));
        let mut ended = self.cache.end_all();
        ended.append(&mut self.inherited);
        ended.extend(self.report_series.iter().flatten());
        ended.sort_unstable();
        ended.dedup();
        self.push_stale(&ended, at);
        self.append(sink)
    }

    fn read(
        &mut self,
        body: &[u8],
        format: Format,
        at: Timestamp,
        sink: &dyn SampleSink,
        report: &mut Report,
    ) -> Result<(), RoadError> {
        if body.is_empty() {
            // As in Prometheus an empty answer is an empty scrape, whatever the format would want.
            self.cache
                .read(b"", Format::Prometheus, TimeRules::plain(at), &mut self.reading)?;
            return Ok(());
        }
        let times = TimeRules {
            at,
            honors_timestamps: self.rules.honors_timestamps,
            tracks_staleness: self.rules.tracks_timestamps_staleness,
        };
        let unfolded = unfold(body, format, self.rules.histograms)?;
        let body = &*unfolded.text;
        let read = self.cache.read(body, format, times, &mut self.reading);
        if read.is_ok() {
            self.cache
                .read_natives(&unfolded.natives, times, &mut self.reading);
        }
        // Also for a body that broke off: the report tells how many samples before the fault would have been kept.
        let labelled = self.label_fresh(body, format);
        (report.scraped, report.kept) = (self.reading.scraped, self.reading.kept);
        let labelled = match read.map_err(RoadError::from).and(labelled) {
            Ok(labelled) => labelled,
            Err(error) => {
                self.cache.abandon();
                return Err(error);
            }
        };
        report.series_added = self.name_fresh(&labelled, sink);
        self.metrics.refuse("duplicate", self.reading.duplicates);
        Ok(())
    }

    /// Makes labels for the lines seen first, and checks the limits; the store has heard nothing yet.
    fn label_fresh(&mut self, body: &[u8], format: Format) -> Result<Vec<(FreshLine, Labels)>, RoadError> {
        let fresh = std::mem::take(&mut self.reading.fresh);
        let mut labelled = Vec::with_capacity(fresh.len());
        for line in &fresh {
            let (raw, kind) = self.cache.fresh(*line);
            let labels = self.rules.label(raw, kind).map_err(|error| match error {
                LabelFault::Series(reason) => {
                    let place = crate::exposition::Parser::new(body, format).error_at(line.offset, "here");
                    RoadError::Labels { reason, place }
                }
                LabelFault::Road(error) => error,
            })?;
            match labels {
                Some(labels) => labelled.push((*line, labels)),
                None => {
                    self.cache.drop_fresh(*line);
                    self.reading.kept -= 1;
                }
            }
        }
        self.reading.fresh = fresh;
        let count = self.reading.samples.len() + self.reading.histograms.len() + labelled.len();
        if self.rules.sample_limit > 0 && count > self.rules.sample_limit {
            return Err(RoadError::SampleLimit {
                count,
                limit: self.rules.sample_limit,
            });
        }
        Ok(labelled)
    }

    /// Asks the store for names. A series it will not make is left out and asked for again next time, so that a full
    /// store costs only what is new.
    fn name_fresh(&mut self, labelled: &[(FreshLine, Labels)], sink: &dyn SampleSink) -> usize {
        let mut added = 0;
        for (line, labels) in labelled {
            match sink.resolve(labels) {
                Ok(series) => {
                    let sample = self.cache.name_fresh(*line, series, &self.reading);
                    self.reading.push(sample);
                    added += 1;
                }
                Err(error) => self.refuse(labels.metric_name(), &error),
            }
        }
        added
    }

    /// Counts a series that the store will not make; the first of its kind is also told, for somebody must know why
    /// a series is missing although its target is up.
    fn refuse(&mut self, series: &str, error: &AppendError) {
        let reason = refusal(error);
        self.metrics.refuse(reason, 1);
        if self.told_refusal != Some(reason) {
            self.told_refusal = Some(reason);
            let target = &self.rules.target_labels;
            tracing::warn!(logger = "scrape", %target, series, %error, "series refused");
        }
    }

    fn push_stale(&mut self, ended: &[SeriesRef], at: Timestamp) {
        self.metrics.stale_markers.inc_by(ended.len() as u64);
        let mark = |series: &SeriesRef| RefSample {
            series: *series,
            timestamp: at,
            value: stale_nan(),
        };
        self.reading.samples.extend(ended.iter().map(mark));
    }

    fn push_report(
        &mut self,
        is_up: bool,
        duration: Duration,
        report: Report,
        at: Timestamp,
        sink: &dyn SampleSink,
    ) {
        let values = [
            f64::from(u8::from(is_up)),
            duration.as_secs_f64(),
            report.scraped as f64,
            report.kept as f64,
            report.series_added as f64,
            self.rules.timeout.as_secs_f64(),
            self.rules.sample_limit as f64,
            report.body_bytes as f64,
        ];
        let count = if self.rules.has_extra_metrics {
            values.len()
        } else {
            PLAIN_REPORTS
        };
        for (at_report, value) in values.into_iter().enumerate().take(count) {
            match self.report_series(at_report, sink) {
                Ok(series) => self.reading.samples.push(RefSample {
                    series,
                    timestamp: at,
                    value,
                }),
                Err(error) => self.metrics.refuse(refusal(&error), 1),
            }
        }
    }

    fn report_series(&mut self, index: usize, sink: &dyn SampleSink) -> Result<SeriesRef, AppendError> {
        if let Some(series) = self.report_series[index] {
            return Ok(series);
        }
        let series = sink.resolve(&self.rules.target_labels.with(METRIC_NAME, REPORT_NAMES[index]))?;
        self.report_series[index] = Some(series);
        Ok(series)
    }

    fn append(&mut self, sink: &dyn SampleSink) -> Result<(), AppendError> {
        let samples = std::mem::take(&mut self.reading.samples);
        let histograms = std::mem::take(&mut self.reading.histograms);
        let result = self.append_naming_anew(&samples, &histograms, sink);
        if let Err(error) = &result {
            self.metrics
                .refuse(refusal(error), samples.len() + histograms.len());
        }
        (self.reading.samples, self.reading.histograms) = (samples, histograms);
        result
    }

    fn append_naming_anew(
        &mut self,
        samples: &[RefSample],
        histograms: &[RefHistogram],
        sink: &dyn SampleSink,
    ) -> Result<(), AppendError> {
        let numbers = self.counted(sink.append(samples, Durability::Interval)?);
        let natives = if histograms.is_empty() {
            Appended::default()
        } else {
            self.counted(sink.append_histograms(histograms, Durability::Interval)?)
        };
        if numbers.unknown_series.is_empty() && natives.unknown_series.is_empty() {
            return Ok(());
        }
        // A mark of an ended series needs no name, for nobody sees a forgotten series.
        let unknown = numbers.unknown_series.iter().map(|at| samples[*at]);
        let unknown: Vec<RefSample> = unknown.filter(|sample| !is_stale(sample.value)).collect();
        let unknown_natives = natives.unknown_series.iter().map(|at| histograms[*at].clone());
        let unknown_natives: Vec<RefHistogram> = unknown_natives.collect();
        let names = unknown.iter().map(|sample| sample.series);
        let names = names
            .chain(unknown_natives.iter().map(|sample| sample.series))
            .collect();
        let renamed = self.rename(&names, sink);
        let again = |sample: RefSample| {
            let series = *renamed.get(&sample.series)?;
            Some(RefSample { series, ..sample })
        };
        let again: Vec<RefSample> = unknown.into_iter().filter_map(again).collect();
        let second = self.counted(sink.append(&again, Durability::Interval)?);
        self.metrics.refuse("store", second.unknown_series.len());
        let again = |sample: RefHistogram| {
            let series = *renamed.get(&sample.series)?;
            Some(RefHistogram { series, ..sample })
        };
        let again: Vec<RefHistogram> = unknown_natives.into_iter().filter_map(again).collect();
        if !again.is_empty() {
            let second = self.counted(sink.append_histograms(&again, Durability::Interval)?);
            self.metrics.refuse("store", second.unknown_series.len());
        }
        Ok(())
    }

    fn counted(&self, appended: Appended) -> Appended {
        self.metrics.count_appended(&appended);
        appended
    }

    /// Names series anew that the store forgot; gives the new names by the old ones.
    fn rename(&mut self, names: &HashSet<SeriesRef>, sink: &dyn SampleSink) -> HashMap<SeriesRef, SeriesRef> {
        let mut renamed: HashMap<SeriesRef, SeriesRef> = HashMap::new();
        for id in self.cache.lines_of(names) {
            let (raw, kind, old) = self.cache.line(id);
            let Ok(Some(labels)) = self.rules.label(raw, kind) else {
                continue;
            };
            match sink.resolve(&labels) {
                Ok(series) => {
                    renamed.insert(old, series);
                    self.cache.rename(id, series);
                }
                Err(error) => self.metrics.refuse(refusal(&error), 1),
            }
        }
        for index in 0..REPORT_NAMES.len() {
            let Some(old) = self.report_series[index].filter(|series| names.contains(series)) else {
                continue;
            };
            self.report_series[index] = None;
            match self.report_series(index, sink) {
                Ok(series) => {
                    renamed.insert(old, series);
                }
                Err(error) => self.metrics.refuse(refusal(&error), 1),
            }
        }
        renamed
    }
}

pub(crate) fn refusal(error: &AppendError) -> &'static str {
    match error {
        AppendError::SeriesLimit { .. } => "series_limit",
        AppendError::Labels { .. } => "bad_labels",
        AppendError::Histogram(_) => "histogram",
        AppendError::Log { .. } | AppendError::Unavailable { .. } => "store",
    }
}

#[cfg(test)]
#[path = "road_tests.rs"]
mod tests;

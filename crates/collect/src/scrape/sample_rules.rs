//! What a job says about the samples of its targets: how they are labelled, limited and timed.
//!
//! Each line is labelled by itself, so that its labels can be kept until these rules change ([`SampleRules::labels_like`]).
//! Deliberately absent: limits of a whole scrape and the store; those are the road's.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Labels, LabelsBuilder};

use super::road::{RoadError, SHOWN_CHARS_MAX};
use crate::exposition::{HistogramRules, MetricKind, SeriesError, decode_series_noting};
use crate::relabel::{RelabelRule, relabel};
use crate::target::Target;

/// How the samples of one target are labelled, limited and timed. A limit of 0 is none.
#[derive(Clone, PartialEq, Debug)]
pub struct SampleRules {
    /// What every sample of the target gets.
    pub target_labels: Labels,
    /// Whether labels of the target's own win over `target_labels`.
    pub honors_labels: bool,
    /// Whether times that the target gives are taken.
    pub honors_timestamps: bool,
    /// Whether series with times of their own end with a mark.
    pub tracks_timestamps_staleness: bool,
    /// Rewrites the labels.
    pub metric_relabel: Arc<[RelabelRule]>,
    /// How histograms are taken.
    pub histograms: HistogramRules,
    /// Samples after relabelling.
    pub sample_limit: usize,
    /// Labels at a sample.
    pub label_limit: usize,
    /// Bytes of a label's name.
    pub label_name_length_limit: usize,
    /// Bytes of a label's value.
    pub label_value_length_limit: usize,
    /// Whether the three further meta series are written.
    pub has_extra_metrics: bool,
    /// What `scrape_timeout_seconds` tells.
    pub timeout: Duration,
}

/// Why a line gets no labels.
pub(super) enum LabelFault {
    Series(SeriesError),
    Road(RoadError),
}

impl SampleRules {
    /// Labels with the target's labels and changes nothing else.
    pub fn plain(target: &Target) -> Self {
        SampleRules {
            target_labels: target.labels.clone(),
            honors_labels: false,
            honors_timestamps: false,
            tracks_timestamps_staleness: false,
            metric_relabel: Arc::from([]),
            histograms: HistogramRules::default(),
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            has_extra_metrics: false,
            timeout: target.timeout,
        }
    }

    /// Says whether the same line gets the same labels, so that its name may be kept.
    pub(super) fn labels_like(&self, other: &SampleRules) -> bool {
        self.target_labels == other.target_labels
            && self.honors_labels == other.honors_labels
            && self.metric_relabel == other.metric_relabel
            && self.label_limit == other.label_limit
            && self.label_name_length_limit == other.label_name_length_limit
            && self.label_value_length_limit == other.label_value_length_limit
    }

    /// Makes the labels of a line; `None` when relabelling drops it.
    pub(super) fn label(&self, raw: &[u8], kind: MetricKind) -> Result<Option<Labels>, LabelFault> {
        let mut empty = Vec::new();
        let mut labels = decode_series_noting(raw, kind, &mut |name| empty.push(name.to_owned()))
            .map_err(LabelFault::Series)?;
        self.add_target_labels(&mut labels, &empty);
        if !relabel(&self.metric_relabel, &mut labels) {
            return Ok(None);
        }
        let labels = labels.build();
        if labels.is_empty() {
            return Ok(None);
        }
        if labels.get(METRIC_NAME).is_none() {
            let shown = labels.to_string().chars().take(SHOWN_CHARS_MAX).collect();
            return Err(LabelFault::Road(RoadError::NoName(shown)));
        }
        self.check_limits(&labels).map_err(LabelFault::Road)?;
        Ok(Some(labels))
    }

    /// `empty` names labels that the target wrote with an empty value.
    fn add_target_labels(&self, labels: &mut LabelsBuilder, empty: &[String]) {
        let mut conflicting = Vec::new();
        for (name, value) in &self.target_labels {
            match labels.get(name) {
                Some(_) if self.honors_labels => {}
                None if self.honors_labels && empty.iter().any(|written| written == name) => {}
                Some(exposed) => {
                    conflicting.push((name, exposed.to_owned()));
                    labels.set(name, value);
                }
                None => {
                    labels.set(name, value);
                }
            }
        }
        // The shortest first, as Prometheus does: its prefixed name may be the next one's own.
        conflicting.sort_by_key(|(name, _)| name.len());
        for (name, exposed) in conflicting {
            let mut moved = format!("exported_{name}");
            while labels.get(&moved).is_some() {
                moved.insert_str(0, "exported_");
            }
            labels.set(&moved, &exposed);
        }
    }

    fn check_limits(&self, labels: &Labels) -> Result<(), RoadError> {
        let series = || labels.metric_name().chars().take(50).collect::<String>();
        if self.label_limit > 0 && labels.len() > self.label_limit {
            return Err(RoadError::LabelLimit {
                series: series(),
                count: labels.len(),
                limit: self.label_limit,
            });
        }
        for (name, value) in labels {
            if self.label_name_length_limit > 0 && name.len() > self.label_name_length_limit {
                let (length, limit) = (name.len(), self.label_name_length_limit);
                return Err(RoadError::NameLength {
                    series: series(),
                    length,
                    limit,
                });
            }
            if self.label_value_length_limit > 0 && value.len() > self.label_value_length_limit {
                let (length, limit) = (value.len(), self.label_value_length_limit);
                let label = name.chars().take(50).collect();
                return Err(RoadError::ValueLength {
                    series: series(),
                    label,
                    length,
                    limit,
                });
            }
        }
        Ok(())
    }
}

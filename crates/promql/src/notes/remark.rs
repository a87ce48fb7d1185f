//! What remarks say: every annotation of Prometheus 3, in its words.
//!
//! Source: `util/annotations` of github.com/prometheus/prometheus.
//! Deliberately absent: the remarks on start timestamps, which are not stored, and on the `__type__` label,
//! which Prometheus gives only behind a feature flag.

use std::fmt;

use marketprism_model::Timestamp;

use super::general;
use crate::quote::Quoted;

/// What happened to histograms when a remark on it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HistogramOperation {
    Addition,
    Subtraction,
    Aggregation,
}

impl fmt::Display for HistogramOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HistogramOperation::Addition => "addition",
            HistogramOperation::Subtraction => "subtraction",
            HistogramOperation::Aggregation => "aggregation",
        })
    }
}

/// How much bucket counts had to be changed to rise, over how many histograms.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Monotonicity {
    /// The moments of the first and the last histogram, in milliseconds.
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// The lowest and the highest bound of a bucket that was changed.
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    /// The largest change of a count.
    pub(crate) difference: f64,
    /// How many histograms were changed.
    pub(crate) count: u64,
}

impl Monotonicity {
    pub(super) fn merge(&mut self, other: &Monotonicity) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.lowest = self.lowest.min(other.lowest);
        self.highest = self.highest.max(other.highest);
        self.difference = self.difference.max(other.difference);
        self.count = self.count.saturating_add(other.count);
    }
}

impl fmt::Display for Monotonicity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whole seconds, cut towards zero as Go divides.
        let moment = |ms: i64| {
            let text = Timestamp::from_millis(ms / 1000 * 1000).to_string();
            text.replace(".000Z", "Z")
        };
        write!(
            f,
            ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
            general(self.lowest, None),
            general(self.highest, None),
            general(self.difference, Some(2)),
            self.count,
            moment(self.first),
            moment(self.last),
        )
    }
}

/// A remark. An empty metric name is left out where Prometheus leaves it out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Remark<'a> {
    // Warnings.
    InvalidRatio {
        ratio: f64,
        capped_to: f64,
    },
    InvalidQuantile(f64),
    BadBucketLabel {
        metric: &'a str,
        le: &'a str,
    },
    /// Numbers and histograms in one series.
    MixedFloatsHistograms(&'a str),
    MixedFloatsHistogramsInAggregation,
    MixedClassicNative(&'a str),
    NotCounter(&'a str),
    NotGauge(&'a str),
    MixedExponentialCustom(&'a str),
    /// The operator between two histograms.
    IncompatibleBuckets(&'a str),
    SortOverRange,
    ResetCollision(HistogramOperation),
    // Infos.
    PossibleNonCounter(&'a str),
    ForcedMonotonicity {
        metric: &'a str,
        counted: Monotonicity,
    },
    /// Types of the sides and the operator between them.
    IncompatibleTypes {
        left: &'a str,
        op: &'a str,
        right: &'a str,
    },
    /// The aggregation that passes histograms by.
    HistogramIgnored(&'a str),
    HistogramIgnoredInRange(&'a str),
    QuantileNanResult(&'a str),
    QuantileNanSkew(&'a str),
    FractionNans(&'a str),
    MismatchedCustomBuckets(HistogramOperation),
}

impl<'a> Remark<'a> {
    pub(super) fn is_info(&self) -> bool {
        matches!(
            self,
            Remark::PossibleNonCounter(_)
                | Remark::ForcedMonotonicity { .. }
                | Remark::IncompatibleTypes { .. }
                | Remark::HistogramIgnored(_)
                | Remark::HistogramIgnoredInRange(_)
                | Remark::QuantileNanResult(_)
                | Remark::QuantileNanSkew(_)
                | Remark::FractionNans(_)
                | Remark::MismatchedCustomBuckets(_)
        )
    }

    /// What is added up when the remark is made again.
    pub(super) fn monotonicity(&self) -> Option<&Monotonicity> {
        match self {
            Remark::ForcedMonotonicity { counted, .. } => Some(counted),
            _ => None,
        }
    }

    fn write_warning(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::InvalidRatio { ratio, capped_to } => write!(
                f,
                "ratio value should be between -1 and 1, got {}, capping to {}",
                general(*ratio, None),
                general(*capped_to, None)
            ),
            Remark::InvalidQuantile(phi) => write!(
                f,
                "quantile value should be between 0 and 1, got {}",
                general(*phi, None)
            ),
            Remark::BadBucketLabel { metric, le } => write!(
                f,
                "bucket label \"le\" is missing or has a malformed value of {}{}",
                Quoted(le),
                ForMetric(metric)
            ),
            Remark::MixedFloatsHistograms(metric) => write!(
                f,
                "encountered a mix of histograms and floats for metric name {}",
                Quoted(metric)
            ),
            Remark::MixedFloatsHistogramsInAggregation => {
                f.write_str("encountered a mix of histograms and floats for aggregation")
            }
            Remark::MixedClassicNative(metric) => write!(
                f,
                "vector contains a mix of classic and native histograms{}",
                ForMetric(metric)
            ),
            Remark::NotCounter(metric) => write!(
                f,
                "this native histogram metric is not a counter: {}",
                Quoted(metric)
            ),
            Remark::NotGauge(metric) => write!(
                f,
                "this native histogram metric is not a gauge: {}",
                Quoted(metric)
            ),
            Remark::MixedExponentialCustom(metric) => write!(
                f,
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric \
                 name {}",
                Quoted(metric)
            ),
            Remark::IncompatibleBuckets(op) => write!(
                f,
                "incompatible bucket layout encountered for binary operator {op}"
            ),
            Remark::ResetCollision(operation) => {
                write!(f, "conflicting counter resets during histogram {operation}")
            }
            _ => f.write_str(
                "sort is ineffective for range queries since results are always ordered by labels",
            ),
        }
    }
}

impl fmt::Display for Remark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::PossibleNonCounter(metric) => write!(
                f,
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                Quoted(metric)
            ),
            Remark::ForcedMonotonicity { metric, .. } => write!(
                f,
                "input to histogram_quantile needed to be fixed for monotonicity (see \
                 https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
                ForMetric(metric)
            ),
            Remark::IncompatibleTypes { left, op, right } => write!(
                f,
                "incompatible sample types encountered for binary operator {}: {left} {op} {right}",
                Quoted(op)
            ),
            Remark::HistogramIgnored(aggregation) => {
                write!(f, "ignored histogram in {aggregation} aggregation")
            }
            Remark::HistogramIgnoredInRange(metric) => write!(
                f,
                "ignored histograms in a range containing both floats and histograms for metric name {}",
                Quoted(metric)
            ),
            Remark::QuantileNanResult(metric) => write!(
                f,
                "input to histogram_quantile has NaN observations, result is NaN{}",
                ForMetric(metric)
            ),
            Remark::QuantileNanSkew(metric) => write!(
                f,
                "input to histogram_quantile has NaN observations, result is skewed higher{}",
                ForMetric(metric)
            ),
            Remark::FractionNans(metric) => write!(
                f,
                "input to histogram_fraction has NaN observations, which are excluded from all fractions{}",
                ForMetric(metric)
            ),
            Remark::MismatchedCustomBuckets(operation) => {
                write!(f, "mismatched custom buckets were reconciled during {operation}")
            }
            _ => self.write_warning(f),
        }
    }
}

/// The name of a metric at the end of a remark, when there is one.
struct ForMetric<'a>(&'a str);

impl fmt::Display for ForMetric<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " for metric name {}", Quoted(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_names_what_it_is_about() {
        let check = |remark: Remark<'_>, expected: &str| assert_eq!(remark.to_string(), expected);
        check(
            Remark::BadBucketLabel {
                metric: "a_bucket",
                le: "x\"",
            },
            "bucket label \"le\" is missing or has a malformed value of \"x\\\"\" for metric name \"a_bucket\"",
        );
        check(
            Remark::IncompatibleTypes {
                left: "float",
                op: "%",
                right: "histogram",
            },
            "incompatible sample types encountered for binary operator \"%\": float % histogram",
        );
        check(
            Remark::MixedClassicNative(""),
            "vector contains a mix of classic and native histograms",
        );
        check(
            Remark::MismatchedCustomBuckets(HistogramOperation::Subtraction),
            "mismatched custom buckets were reconciled during subtraction",
        );
        assert!(Remark::HistogramIgnored("min").is_info() && !Remark::SortOverRange.is_info());
    }

    #[test]
    fn changed_bucket_counts_are_added_up() {
        let one = |at: i64, bound: f64, difference: f64| Monotonicity {
            first: at,
            last: at,
            lowest: bound,
            highest: bound,
            difference,
            count: 1,
        };
        let mut all = one(61_500, 0.5, 2.0);
        all.merge(&one(0, 10.0, 123.4));
        assert_eq!(
            all.to_string(),
            ", from buckets 0.5 to 10, with a max diff of 1.2e+02, over 2 samples from 1970-01-01T00:00:00Z to \
             1970-01-01T00:01:01Z"
        );
    }
}

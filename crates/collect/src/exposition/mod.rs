//! Exposition: what targets say when they are scraped, in Prometheus' text format 0.0.4, in OpenMetrics 1.0, and in
//! protobuf, which is unfolded into text and native histograms.
//!
//! The parser borrows from the body and keeps a sample's series as raw bytes, because a target says the same
//! series again and again: whoever knows those bytes already needs no labels. [`decode_series`] makes labels
//! of them on first sight. One broken line ends the parsing, as in Prometheus: half a scrape is worse than
//! none, for it looks like series that ended.
//!
//! Deliberately absent: exemplars (their syntax is checked, they are dropped).
//!
//! Source: `prometheus.io/docs/instrumenting/exposition_formats`, the OpenMetrics 1.0 specification, and the
//! lexers of `github.com/prometheus/prometheus/model/textparse` where the two leave room.

mod converted;
mod format;
mod number;
mod parser;
mod protobuf;
mod series;
#[cfg(test)]
mod tests;

pub use format::{Format, FormatError, ScrapeProtocol, accept_header};
pub use number::parse_float;
pub use parser::{Entry, ParseError, Parser, Sample};
pub use protobuf::{HistogramRules, ProtobufError};
pub(crate) use series::decode_series_noting;
pub use series::{SeriesError, decode_series};

use std::borrow::Cow;
use std::sync::Arc;

use marketprism_model::Histogram;
use serde::Serialize;

/// A native histogram of a body.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct NativeSample {
    /// The series as text writes it.
    pub series: Vec<u8>,
    /// A time of its own.
    pub timestamp_ms: Option<i64>,
    /// What was observed; it has passed its check. `None` is the mark of an ended series.
    pub histogram: Option<Arc<Histogram>>,
}

/// A body as the road takes it: text, and beside it what text cannot say.
#[derive(Debug)]
pub(crate) struct Unfolded<'a> {
    /// Numbers and comments.
    pub text: Cow<'a, [u8]>,
    /// Histograms, in the order of the body.
    pub natives: Vec<NativeSample>,
}

/// Unfolds a body of any format by the rules; the text is then read as `format` too.
pub(crate) fn unfold<'a>(
    body: &'a [u8],
    format: Format,
    rules: HistogramRules,
) -> Result<Unfolded<'a>, UnfoldError> {
    let mut unfolded = match format {
        Format::Protobuf => protobuf::unfold_body(body, rules)?,
        Format::Prometheus | Format::OpenMetrics => Unfolded {
            text: Cow::Borrowed(body),
            natives: Vec::new(),
        },
    };
    if rules.converts_classic {
        let converted = converted::convert(unfolded.text, format, rules.keeps_classic)?;
        // A family that is native already needs no second histogram from its classic buckets.
        let native: std::collections::HashSet<Vec<u8>> = unfolded
            .natives
            .iter()
            .map(|native| native.series.clone())
            .collect();
        let others = converted
            .natives
            .into_iter()
            .filter(|made| !native.contains(&made.series));
        unfolded.natives.extend(others);
        unfolded.text = converted.text;
    }
    Ok(unfolded)
}

/// Why a body cannot be unfolded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnfoldError {
    /// A message cannot be read.
    #[error(transparent)]
    Protobuf(#[from] ProtobufError),
    /// A line cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

/// What a metric family is, as its `# TYPE` line says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// Only rises, or starts again at zero.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
    /// Buckets that may fall.
    GaugeHistogram,
    /// Quantiles, a sum and a count.
    Summary,
    /// A constant 1 whose labels tell something.
    Info,
    /// One series a state, 1 for those that hold.
    Stateset,
    /// Nobody said.
    #[default]
    Unknown,
}

impl MetricKind {
    /// Gives the word that Prometheus' API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::Stateset => "stateset",
            MetricKind::Unknown => "unknown",
        }
    }

    fn parse(word: &[u8], format: Format) -> Option<Self> {
        Some(match (word, format) {
            (b"counter", _) => MetricKind::Counter,
            (b"gauge", _) => MetricKind::Gauge,
            (b"histogram", _) => MetricKind::Histogram,
            (b"summary", _) => MetricKind::Summary,
            (b"untyped", Format::Prometheus) | (b"unknown", Format::OpenMetrics) => MetricKind::Unknown,
            (b"untyped", Format::Protobuf) => MetricKind::Unknown,
            (b"gaugehistogram", Format::OpenMetrics | Format::Protobuf) => MetricKind::GaugeHistogram,
            (b"info", Format::OpenMetrics) => MetricKind::Info,
            (b"stateset", Format::OpenMetrics) => MetricKind::Stateset,
            _ => return None,
        })
    }
}

//! Exposition text: what targets say when they are scraped, in Prometheus' format 0.0.4 and in OpenMetrics 1.0.
//!
//! The parser borrows from the body and keeps a sample's series as raw bytes, because a target says the same
//! series again and again: whoever knows those bytes already needs no labels. [`decode_series`] makes labels
//! of them on first sight. One broken line ends the parsing, as in Prometheus: half a scrape is worse than
//! none, for it looks like series that ended.
//!
//! Deliberately absent: protobuf, native histograms and exemplars (their syntax is checked, they are dropped).
//!
//! Source: `prometheus.io/docs/instrumenting/exposition_formats`, the OpenMetrics 1.0 specification, and the
//! lexers of `github.com/prometheus/prometheus/model/textparse` where the two leave room.

mod format;
mod number;
mod parser;
mod series;
#[cfg(test)]
mod tests;

pub use format::{Format, FormatError, ScrapeProtocol, accept_header};
pub use number::parse_float;
pub use parser::{Entry, ParseError, Parser, Sample};
pub(crate) use series::decode_series_noting;
pub use series::{SeriesError, decode_series};

use serde::Serialize;

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
            (b"gaugehistogram", Format::OpenMetrics) => MetricKind::GaugeHistogram,
            (b"info", Format::OpenMetrics) => MetricKind::Info,
            (b"stateset", Format::OpenMetrics) => MetricKind::Stateset,
            _ => return None,
        })
    }
}

//! Which format a target speaks: what we ask for, and what its `Content-Type` says.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A format, as far as reading differs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// Prometheus' text format, versions 0.0.4 and 1.0.0.
    Prometheus,
    /// OpenMetrics text, versions 0.0.1 and 1.0.0.
    OpenMetrics,
    /// Protobuf, and the text that is made of it.
    Protobuf,
}

/// A protocol as `scrape_protocols` and `fallback_scrape_protocol` name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ScrapeProtocol {
    /// Protobuf, the only one that has native histograms.
    PrometheusProto,
    /// `text/plain;version=0.0.4`
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText004,
    /// `text/plain;version=1.0.0`, names in UTF-8.
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText100,
    /// `application/openmetrics-text;version=0.0.1`
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText001,
    /// `application/openmetrics-text;version=1.0.0`, names in UTF-8.
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText100,
}

impl ScrapeProtocol {
    /// What Prometheus 3 asks for when nothing is configured.
    pub const DEFAULT: [ScrapeProtocol; 4] = [
        ScrapeProtocol::OpenMetricsText100,
        ScrapeProtocol::OpenMetricsText001,
        ScrapeProtocol::PrometheusText100,
        ScrapeProtocol::PrometheusText004,
    ];

    /// What Prometheus 3 asks for when native histograms are wanted and nothing is configured.
    pub const DEFAULT_WITH_NATIVE: [ScrapeProtocol; 5] = [
        ScrapeProtocol::PrometheusProto,
        ScrapeProtocol::OpenMetricsText100,
        ScrapeProtocol::OpenMetricsText001,
        ScrapeProtocol::PrometheusText100,
        ScrapeProtocol::PrometheusText004,
    ];

    /// Gives the format.
    pub const fn format(self) -> Format {
        match self {
            ScrapeProtocol::PrometheusProto => Format::Protobuf,
            ScrapeProtocol::PrometheusText004 | ScrapeProtocol::PrometheusText100 => Format::Prometheus,
            ScrapeProtocol::OpenMetricsText001 | ScrapeProtocol::OpenMetricsText100 => Format::OpenMetrics,
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            ScrapeProtocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            ScrapeProtocol::PrometheusText004 => "text/plain;version=0.0.4",
            ScrapeProtocol::PrometheusText100 => "text/plain;version=1.0.0;escaping=allow-utf-8",
            ScrapeProtocol::OpenMetricsText001 => "application/openmetrics-text;version=0.0.1",
            ScrapeProtocol::OpenMetricsText100 => {
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
            }
        }
    }
}

/// The weight that Prometheus gives its first choice, in tenths: one more than the protocols it knows.
const FIRST_WEIGHT: usize = 6;

/// Writes the `Accept` header as Prometheus 3 does.
pub fn accept_header(protocols: &[ScrapeProtocol]) -> String {
    let mut header = String::new();
    let mut weight = FIRST_WEIGHT;
    for protocol in protocols.iter().take(FIRST_WEIGHT - 1) {
        header.push_str(&format!("{};q=0.{weight},", protocol.media_type()));
        weight -= 1;
    }
    header.push_str(&format!("*/*;q=0.{weight}"));
    header
}

/// The answer's `Content-Type` names no format that can be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FormatError {
    /// There is none, and no fallback.
    #[error("answer has no Content-Type and no fallback_scrape_protocol is set")]
    Missing,
    /// It is something else, and there is no fallback.
    #[error("answer has unsupported Content-Type {0:?} and no fallback_scrape_protocol is set")]
    Unsupported(String),
}

impl Format {
    /// Reads a `Content-Type`; like Prometheus 3 it guesses nothing, but takes the configured fallback.
    pub fn of_content_type(
        content_type: Option<&str>,
        fallback: Option<ScrapeProtocol>,
    ) -> Result<Format, FormatError> {
        let fallback = fallback.map(ScrapeProtocol::format);
        let Some(content_type) = content_type.filter(|text| !text.trim().is_empty()) else {
            return fallback.ok_or(FormatError::Missing);
        };
        let media_type = content_type.split(';').next().unwrap_or("").trim();
        match media_type.to_ascii_lowercase().as_str() {
            "application/openmetrics-text" => Ok(Format::OpenMetrics),
            "text/plain" => Ok(Format::Prometheus),
            "application/vnd.google.protobuf" => Ok(Format::Protobuf),
            _ => fallback.ok_or_else(|| FormatError::Unsupported(content_type.chars().take(100).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_header_is_that_of_prometheus_3() {
        // Written by hand from scrape.acceptHeader: weights fall from 6 tenths.
        assert_eq!(
            accept_header(&ScrapeProtocol::DEFAULT),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
    }

    #[test]
    fn protobuf_is_asked_for_in_its_place() {
        assert_eq!(
            accept_header(&[ScrapeProtocol::PrometheusProto, ScrapeProtocol::PrometheusText004]),
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.4"
        );
        assert_eq!(ScrapeProtocol::DEFAULT_WITH_NATIVE[1..], ScrapeProtocol::DEFAULT);
    }

    #[test]
    fn content_type_decides_and_nothing_is_guessed() {
        let check = |text: Option<&str>, fallback, expected| {
            assert_eq!(Format::of_content_type(text, fallback), expected, "{text:?}");
        };
        check(
            Some("text/plain; version=0.0.4; charset=utf-8"),
            None,
            Ok(Format::Prometheus),
        );
        check(Some("Text/Plain"), None, Ok(Format::Prometheus));
        check(
            Some("application/openmetrics-text; version=1.0.0"),
            None,
            Ok(Format::OpenMetrics),
        );
        check(
            Some(
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            ),
            None,
            Ok(Format::Protobuf),
        );
        check(None, None, Err(FormatError::Missing));
        check(
            Some("text/html"),
            None,
            Err(FormatError::Unsupported("text/html".to_owned())),
        );
        check(
            Some("text/html"),
            Some(ScrapeProtocol::PrometheusText004),
            Ok(Format::Prometheus),
        );
        check(
            None,
            Some(ScrapeProtocol::OpenMetricsText100),
            Ok(Format::OpenMetrics),
        );
    }
}

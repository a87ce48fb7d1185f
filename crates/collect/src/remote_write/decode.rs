//! From compressed bytes to series that still lie in the message.
//!
//! A series' labels stay raw bytes: decoding them is what a steady sender shall not cost.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use marketprism_model::Histogram;
use marketprism_model::sample::is_stale;
use thiserror::Error;

use crate::exposition::MetricKind;
use crate::metadata::cut_text;
use crate::native::{Sent, hint_of};
use crate::protobuf::{Broken, Reader, Value, unfold};

/// What one request may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes after decompression.
    pub body_bytes_max: usize,
    /// Series.
    pub series_max: usize,
    /// Samples of all series together, and the numbers of their histograms.
    pub samples_max: usize,
    /// Labels of one series.
    pub labels_max: usize,
    /// Bytes of a label's name or value.
    pub label_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes_max: 64 << 20,
            series_max: 200_000,
            samples_max: 2_000_000,
            labels_max: 128,
            label_bytes_max: 64 << 10,
        }
    }
}

/// Why a request cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The compression is broken.
    #[error("snappy: {0}")]
    Snappy(String),
    /// It is larger than allowed.
    #[error("request of {size} bytes after decompression, more than the limit of {limit}")]
    TooLarge {
        /// As it says itself.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The message breaks off or contradicts the encoding.
    #[error("protobuf: {0}")]
    Protobuf(#[from] Broken),
    /// It holds more of something than allowed.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A label is longer than allowed.
    #[error("label name or value of {length} bytes, more than the limit of {limit}")]
    LongLabel {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
}

/// One pushed sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PushedSample {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value; marks of ended series included.
    pub value: f64,
}

/// One pushed histogram.
#[derive(Clone, PartialEq, Debug)]
pub struct PushedHistogram {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// What was sent.
    pub content: PushedContent,
}

/// What stands in the place of a histogram.
#[derive(Clone, PartialEq, Debug)]
pub enum PushedContent {
    /// A histogram that has passed its check.
    Histogram(Arc<Histogram>),
    /// The mark of an ended series.
    Stale,
    /// A histogram that cannot be, and why not.
    Invalid(String),
}

/// One series of a request.
#[derive(Clone, PartialEq, Debug)]
pub struct PushedSeries {
    /// Where its labels lie in [`WriteRequest::label_bytes`], as the first version of the protocol writes them.
    pub raw_labels: Range<usize>,
    /// Where its samples lie in [`WriteRequest::samples`].
    pub samples: Range<usize>,
    /// Where its histograms lie in [`WriteRequest::histograms`].
    pub histograms: Range<usize>,
}

/// What a sender says about a family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PushedMetadata<'a> {
    /// The family's name.
    pub family: &'a str,
    /// What it is.
    pub kind: MetricKind,
    /// What it means, cut to what is kept.
    pub help: &'a str,
    /// Its unit, cut likewise.
    pub unit: &'a str,
}

/// A request, decoded as far as every request must be.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct WriteRequest<'a> {
    /// The bytes in which the labels lie.
    pub label_bytes: Cow<'a, [u8]>,
    /// The series, in the order of the message.
    pub series: Vec<PushedSeries>,
    /// The samples of all series.
    pub samples: Vec<PushedSample>,
    /// The histograms of all series.
    pub histograms: Vec<PushedHistogram>,
    /// What the histograms weigh together, counted in numbers.
    pub(super) weight: usize,
    /// What was said about families.
    pub metadata: Vec<PushedMetadata<'a>>,
}

impl WriteRequest<'_> {
    /// Gives the raw labels of a series.
    pub fn raw_labels(&self, series: &PushedSeries) -> &[u8] {
        &self.label_bytes[series.raw_labels.clone()]
    }

    /// Takes a sample that still fits.
    #[inline]
    pub(super) fn push_sample(&mut self, sample: Reader<'_>, limits: &Limits) -> Result<(), DecodeError> {
        if self.samples.len() >= limits.samples_max {
            return Err(DecodeError::TooMany {
                what: "samples",
                limit: limits.samples_max,
            });
        }
        self.samples.push(decode_sample(sample)?);
        Ok(())
    }

    /// Takes a histogram that still fits.
    pub(super) fn push_histogram(
        &mut self,
        histogram: Reader<'_>,
        limits: &Limits,
    ) -> Result<(), DecodeError> {
        let (pushed, weight) = decode_histogram(histogram)?;
        self.weight += weight;
        if self.weight > limits.samples_max {
            return Err(DecodeError::TooMany {
                what: "numbers in histograms",
                limit: limits.samples_max,
            });
        }
        self.histograms.push(pushed);
        Ok(())
    }
}

/// Undoes the compression (snappy's block format), within the limit.
pub fn decompress(compressed: &[u8], limits: &Limits) -> Result<Vec<u8>, DecodeError> {
    let snappy = |error: snap::Error| DecodeError::Snappy(error.to_string());
    let size = snap::raw::decompress_len(compressed).map_err(snappy)?;
    if size > limits.body_bytes_max {
        return Err(DecodeError::TooLarge {
            size,
            limit: limits.body_bytes_max,
        });
    }
    snap::raw::Decoder::new()
        .decompress_vec(compressed)
        .map_err(snappy)
}

/// Decodes a decompressed request; labels stay raw.
pub fn decode<'a>(message: &'a [u8], limits: &Limits) -> Result<WriteRequest<'a>, DecodeError> {
    let mut request = WriteRequest {
        label_bytes: Cow::Borrowed(message),
        ..WriteRequest::default()
    };
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field {
            (1, Value::Bytes(series)) => {
                if request.series.len() >= limits.series_max {
                    return Err(DecodeError::TooMany {
                        what: "series",
                        limit: limits.series_max,
                    });
                }
                decode_series(series, limits, &mut request)?;
            }
            (3, Value::Bytes(metadata)) => {
                if request.metadata.len() >= limits.series_max {
                    return Err(DecodeError::TooMany {
                        what: "metadata entries",
                        limit: limits.series_max,
                    });
                }
                request.metadata.push(decode_metadata(metadata)?);
            }
            _ => {}
        }
    }
    Ok(request)
}

fn decode_series<'a>(
    mut reader: Reader<'a>,
    limits: &Limits,
    request: &mut WriteRequest<'a>,
) -> Result<(), DecodeError> {
    let (first, first_histogram) = (request.samples.len(), request.histograms.len());
    let mut raw_labels = reader.at..reader.at;
    let mut labels = 0usize;
    loop {
        let before = reader.at;
        let Some(field) = reader.next_field()? else { break };
        match field {
            (1, Value::Bytes(label)) => {
                // The labels' bytes are the series' name here, so they must lie together, as every sender writes them.
                if labels == 0 {
                    raw_labels = before..before;
                } else if before != raw_labels.end {
                    return Err(reader.fault("labels do not stand together").into());
                }
                labels += 1;
                if labels > limits.labels_max {
                    return Err(DecodeError::TooMany {
                        what: "labels in a series",
                        limit: limits.labels_max,
                    });
                }
                let length = label.end - label.at;
                if length > limits.label_bytes_max {
                    return Err(DecodeError::LongLabel {
                        length,
                        limit: limits.label_bytes_max,
                    });
                }
                raw_labels.end = reader.at;
            }
            (2, Value::Bytes(sample)) => {
                request.push_sample(sample, limits)?;
            }
            (4, Value::Bytes(histogram)) => request.push_histogram(histogram, limits)?,
            _ => {}
        }
    }
    request.series.push(PushedSeries {
        raw_labels,
        samples: first..request.samples.len(),
        histograms: first_histogram..request.histograms.len(),
    });
    Ok(())
}

#[inline]
fn decode_sample(mut reader: Reader<'_>) -> Result<PushedSample, Broken> {
    let mut sample = PushedSample {
        timestamp_ms: 0,
        value: 0.0,
    };
    while let Some(field) = reader.next_field()? {
        match field {
            (1, Value::Fixed64(bits)) => sample.value = f64::from_bits(bits),
            (2, Value::Varint(time)) => sample.timestamp_ms = time as i64,
            (1 | 2, _) => return Err(reader.fault("sample field of wrong type")),
            _ => {}
        }
    }
    Ok(sample)
}

/// Reads a histogram; gives its weight too. Both versions of the protocol have the same message.
fn decode_histogram(mut reader: Reader<'_>) -> Result<(PushedHistogram, usize), Broken> {
    let (mut sent, mut timestamp_ms) = (Sent::default(), 0);
    while let Some((number, value)) = reader.next_field()? {
        match (number, value) {
            (1, Value::Varint(count)) => {
                sent.count.whole = count;
                sent.is_float = false;
            }
            (2, Value::Fixed64(bits)) => {
                sent.count.float = f64::from_bits(bits);
                sent.is_float = true;
            }
            (3, Value::Fixed64(bits)) => sent.sum = f64::from_bits(bits),
            (4, Value::Varint(schema)) => sent.schema = unfold(schema),
            (5, Value::Fixed64(bits)) => sent.zero_threshold = f64::from_bits(bits),
            (6, Value::Varint(count)) => sent.zero_count.whole = count,
            (7, Value::Fixed64(bits)) => sent.zero_count.float = f64::from_bits(bits),
            (8, Value::Bytes(span)) => sent.negative.span(span)?,
            (9, value) => sent.negative.deltas(value)?,
            (10, value) => sent.negative.counts(value)?,
            (11, Value::Bytes(span)) => sent.positive.span(span)?,
            (12, value) => sent.positive.deltas(value)?,
            (13, value) => sent.positive.counts(value)?,
            (14, Value::Varint(hint)) => sent.reset_hint = hint_of(hint),
            (15, Value::Varint(time)) => timestamp_ms = time as i64,
            (16, value) => sent.custom_bounds(value)?,
            (1..=7 | 14 | 15, _) => return Err(reader.fault("histogram field of wrong type")),
            _ => {}
        }
    }
    let weight = sent.weight();
    let content = if is_stale(sent.sum) {
        PushedContent::Stale
    } else {
        sent.build()
            .map_or_else(PushedContent::Invalid, PushedContent::Histogram)
    };
    let pushed = PushedHistogram {
        timestamp_ms,
        content,
    };
    Ok((pushed, weight))
}

fn decode_metadata(mut reader: Reader<'_>) -> Result<PushedMetadata<'_>, Broken> {
    let mut metadata = PushedMetadata {
        family: "",
        kind: MetricKind::Unknown,
        help: "",
        unit: "",
    };
    while let Some(field) = reader.next_field()? {
        match field {
            (1, Value::Varint(kind)) => metadata.kind = kind_of(kind),
            (2, Value::Bytes(text)) => metadata.family = text.text()?,
            (4, Value::Bytes(text)) => metadata.help = cut_text(text.text()?),
            (5, Value::Bytes(text)) => metadata.unit = cut_text(text.text()?),
            _ => {}
        }
    }
    Ok(metadata)
}

pub(super) fn kind_of(number: u64) -> MetricKind {
    match number {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::GaugeHistogram,
        5 => MetricKind::Summary,
        6 => MetricKind::Info,
        7 => MetricKind::Stateset,
        _ => MetricKind::Unknown,
    }
}

/// Walks the names and values of a series' raw labels, in the order of the message.
pub(super) fn walk_labels<'a>(raw: &'a [u8], mut visit: impl FnMut(&'a str, &'a str)) -> Result<(), Broken> {
    let mut reader = Reader::new(raw);
    while let Some(field) = reader.next_field()? {
        let (1, Value::Bytes(mut label)) = field else {
            return Err(reader.fault("not a label"));
        };
        let (mut name, mut value) = ("", "");
        while let Some(field) = label.next_field()? {
            match field {
                (1, Value::Bytes(text)) => name = text.text()?,
                (2, Value::Bytes(text)) => value = text.text()?,
                _ => {}
            }
        }
        visit(name, value);
    }
    Ok(())
}

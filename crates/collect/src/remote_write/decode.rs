//! From compressed bytes to series that still lie in the message.
//!
//! A decoder of our own, because the five messages of the protocol need a page, and because a series' labels must
//! stay raw bytes: decoding them is what a steady sender shall not cost. Unknown fields are skipped, as protobuf asks.
//!
//! Source: Protocol Buffers, "Encoding".

use thiserror::Error;

use crate::exposition::MetricKind;

/// What one request may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes after decompression.
    pub body_bytes_max: usize,
    /// Series.
    pub series_max: usize,
    /// Samples of all series together.
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
    #[error("protobuf: {reason} at byte {at}")]
    Protobuf {
        /// What is wrong.
        reason: &'static str,
        /// Where, in the decompressed message.
        at: usize,
    },
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

/// One series of a request.
#[derive(Clone, PartialEq, Debug)]
pub struct PushedSeries<'a> {
    /// The part of the message that holds the labels, raw; see [`PushedSeries::labels`].
    pub raw_labels: &'a [u8],
    /// Where its samples lie in [`WriteRequest::samples`].
    pub samples: std::ops::Range<usize>,
    /// Native histograms, which are not taken.
    pub histograms: usize,
}

/// What a sender says about a family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PushedMetadata<'a> {
    /// The family's name.
    pub family: &'a str,
    /// What it is.
    pub kind: MetricKind,
    /// What it means.
    pub help: &'a str,
    /// Its unit.
    pub unit: &'a str,
}

/// A request, decoded as far as every request must be.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct WriteRequest<'a> {
    /// The series, in the order of the message.
    pub series: Vec<PushedSeries<'a>>,
    /// The samples of all series.
    pub samples: Vec<PushedSample>,
    /// What was said about families.
    pub metadata: Vec<PushedMetadata<'a>>,
    /// Native histograms of all series.
    pub histograms: usize,
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
    let mut request = WriteRequest::default();
    let mut reader = Reader {
        bytes: message,
        at: 0,
        end: message.len(),
    };
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
    let first = request.samples.len();
    let mut raw_labels = reader.at..reader.at;
    let (mut labels, mut histograms) = (0usize, 0usize);
    loop {
        let before = reader.at;
        let Some(field) = reader.next_field()? else { break };
        match field {
            (1, Value::Bytes(label)) => {
                // The labels' bytes are the series' name here, so they must lie together, as every sender writes them.
                if labels == 0 {
                    raw_labels = before..before;
                } else if before != raw_labels.end {
                    return Err(reader.fault("labels do not stand together"));
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
                if request.samples.len() >= limits.samples_max {
                    return Err(DecodeError::TooMany {
                        what: "samples",
                        limit: limits.samples_max,
                    });
                }
                request.samples.push(decode_sample(sample)?);
            }
            (4, Value::Bytes(_)) => histograms += 1,
            _ => {}
        }
    }
    request.histograms += histograms;
    request.series.push(PushedSeries {
        raw_labels: &reader.bytes[raw_labels],
        samples: first..request.samples.len(),
        histograms,
    });
    Ok(())
}

#[inline]
fn decode_sample(mut reader: Reader<'_>) -> Result<PushedSample, DecodeError> {
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

fn decode_metadata(mut reader: Reader<'_>) -> Result<PushedMetadata<'_>, DecodeError> {
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
            (4, Value::Bytes(text)) => metadata.help = text.text()?,
            (5, Value::Bytes(text)) => metadata.unit = text.text()?,
            _ => {}
        }
    }
    Ok(metadata)
}

fn kind_of(number: u64) -> MetricKind {
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
pub(super) fn walk_labels<'a>(
    raw: &'a [u8],
    mut visit: impl FnMut(&'a str, &'a str),
) -> Result<(), DecodeError> {
    let mut reader = Reader {
        bytes: raw,
        at: 0,
        end: raw.len(),
    };
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

/// A cursor over one message. It keeps the whole buffer, so that positions in errors are those of the request.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(Reader<'a>),
    Other,
}

impl<'a> Reader<'a> {
    fn fault(&self, reason: &'static str) -> DecodeError {
        DecodeError::Protobuf { reason, at: self.at }
    }

    #[inline]
    fn next_field(&mut self) -> Result<Option<(u32, Value<'a>)>, DecodeError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| self.fault("field number out of range"))?;
        if number == 0 {
            return Err(self.fault("field number 0"));
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = self.varint()?;
                let rest = (self.end - self.at) as u64;
                if length > rest {
                    return Err(self.fault("length beyond the end"));
                }
                let inner = Reader {
                    bytes: self.bytes,
                    at: self.at,
                    end: self.at + length as usize,
                };
                self.at = inner.end;
                Value::Bytes(inner)
            }
            5 => {
                self.fixed::<4>()?;
                Value::Other
            }
            _ => return Err(self.fault("unknown wire type")),
        };
        Ok(Some((number, value)))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.at >= self.end {
                return Err(self.fault("breaks off within a number"));
            }
            let byte = self.bytes[self.at];
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.fault("number longer than ten bytes"))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        if self.end - self.at < N {
            return Err(self.fault("breaks off within a number"));
        }
        let mut bytes = [0u8; N];
        bytes.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        Ok(bytes)
    }

    fn text(self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(&self.bytes[self.at..self.end]).map_err(|_| self.fault("text is not UTF-8"))
    }
}

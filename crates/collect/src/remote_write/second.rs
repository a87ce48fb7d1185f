//! Remote write 2.0: the same samples, with every text once.
//!
//! Labels are written out as the first version writes them, into one buffer, so that the memory of names serves both
//! versions alike. Exemplars and the moments at which counters began are passed over.
//!
//! Source: "Prometheus Remote-Write Specification 2.0", and `prompb/io/prometheus/write/v2/types.proto`.

use super::decode::{DecodeError, Limits, PushedMetadata, PushedSeries, WriteRequest, kind_of};
use crate::exposition::MetricKind;
use crate::metadata::cut_text;
use crate::protobuf::{Broken, Reader, Value};

/// Decodes a decompressed `io.prometheus.write.v2.Request`.
pub fn decode_second<'a>(message: &'a [u8], limits: &Limits) -> Result<WriteRequest<'a>, DecodeError> {
    let symbols = read_symbols(message, limits)?;
    let mut request = WriteRequest::default();
    let mut labels = Labels {
        symbols: &symbols,
        bytes: Vec::new(),
        references: Vec::new(),
    };
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        let (5, Value::Bytes(series)) = field else {
            continue;
        };
        if request.series.len() >= limits.series_max {
            return Err(DecodeError::TooMany {
                what: "series",
                limit: limits.series_max,
            });
        }
        read_series(series, limits, &mut labels, &mut request)?;
    }
    request.label_bytes = labels.bytes.into();
    Ok(request)
}

/// Reads the texts, wherever they stand.
fn read_symbols<'a>(message: &'a [u8], limits: &Limits) -> Result<Vec<&'a str>, DecodeError> {
    let (mut symbols, mut reader) = (Vec::new(), Reader::new(message));
    while let Some(field) = reader.next_field()? {
        let (4, Value::Bytes(text)) = field else { continue };
        if symbols.len() >= limits.samples_max {
            return Err(DecodeError::TooMany {
                what: "symbols",
                limit: limits.samples_max,
            });
        }
        let text = text.text()?;
        if symbols.is_empty() && !text.is_empty() {
            return Err(reader.fault("the first symbol is not empty").into());
        }
        symbols.push(text);
    }
    Ok(symbols)
}

/// Where labels are written out.
struct Labels<'a, 's> {
    symbols: &'s [&'a str],
    bytes: Vec<u8>,
    /// The references of the series under way.
    references: Vec<u64>,
}

impl<'a> Labels<'a, '_> {
    fn symbol(&self, reference: u64, reader: &Reader<'_>) -> Result<&'a str, Broken> {
        let symbol = usize::try_from(reference)
            .ok()
            .and_then(|at| self.symbols.get(at));
        symbol
            .copied()
            .ok_or_else(|| reader.fault("reference to no symbol"))
    }

    /// Writes out the labels of a series; gives the metric's name.
    fn write(&mut self, reader: &Reader<'_>, limits: &Limits) -> Result<&'a str, DecodeError> {
        let mut metric = "";
        if !self.references.len().is_multiple_of(2) {
            return Err(reader.fault("label name without a value").into());
        }
        for pair in std::mem::take(&mut self.references).chunks_exact(2) {
            let (name, value) = (self.symbol(pair[0], reader)?, self.symbol(pair[1], reader)?);
            if name == marketprism_model::labels::METRIC_NAME {
                metric = value;
            }
            let mut label = Vec::with_capacity(name.len() + value.len() + 12);
            put(&mut label, 1, name.as_bytes());
            put(&mut label, 2, value.as_bytes());
            if label.len() > limits.label_bytes_max {
                return Err(DecodeError::LongLabel {
                    length: label.len(),
                    limit: limits.label_bytes_max,
                });
            }
            put(&mut self.bytes, 1, &label);
        }
        if self.bytes.len() > limits.body_bytes_max {
            return Err(DecodeError::TooLarge {
                size: self.bytes.len(),
                limit: limits.body_bytes_max,
            });
        }
        Ok(metric)
    }
}

/// Appends a field of bytes, as the first version's messages have it.
fn put(out: &mut Vec<u8>, field: u8, content: &[u8]) {
    out.push(field << 3 | 2);
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
}

fn read_series<'a>(
    mut reader: Reader<'a>,
    limits: &Limits,
    labels: &mut Labels<'a, '_>,
    request: &mut WriteRequest<'a>,
) -> Result<(), DecodeError> {
    let (first, first_histogram) = (request.samples.len(), request.histograms.len());
    let from = labels.bytes.len();
    let mut metadata = None;
    while let Some(field) = reader.next_field()? {
        match field {
            (1, references) => {
                let (known, limit) = (&mut labels.references, 2 * limits.labels_max);
                references.each_varint(|reference| {
                    // One more than there may be is enough to be refused.
                    if known.len() <= limit {
                        known.push(reference);
                    }
                })?;
                if known.len() > limit {
                    return Err(DecodeError::TooMany {
                        what: "labels in a series",
                        limit: limits.labels_max,
                    });
                }
            }
            (2, Value::Bytes(sample)) => request.push_sample(sample, limits)?,
            (3, Value::Bytes(histogram)) => request.push_histogram(histogram, limits)?,
            (5, Value::Bytes(told)) => metadata = Some(told),
            (2 | 3 | 5, _) => return Err(reader.fault("field of a series of wrong type").into()),
            _ => {}
        }
    }
    let metric = labels.write(&reader, limits)?;
    if let Some(told) = metadata
        && let Some(told) = read_metadata(told, metric, labels)?
        && request.metadata.last() != Some(&told)
    {
        request.metadata.push(told);
    }
    request.series.push(PushedSeries {
        raw_labels: from..labels.bytes.len(),
        samples: first..request.samples.len(),
        histograms: first_histogram..request.histograms.len(),
    });
    Ok(())
}

/// Reads what is told of a series; `None` when that is nothing.
fn read_metadata<'a>(
    mut reader: Reader<'a>,
    metric: &'a str,
    labels: &Labels<'a, '_>,
) -> Result<Option<PushedMetadata<'a>>, Broken> {
    let (mut kind, mut help, mut unit) = (MetricKind::Unknown, "", "");
    while let Some(field) = reader.next_field()? {
        match field {
            (1, Value::Varint(number)) => kind = kind_of(number),
            (3, Value::Varint(reference)) => help = cut_text(labels.symbol(reference, &reader)?),
            (4, Value::Varint(reference)) => unit = cut_text(labels.symbol(reference, &reader)?),
            _ => {}
        }
    }
    let is_nothing = metric.is_empty() || (kind == MetricKind::Unknown && help.is_empty() && unit.is_empty());
    // Told of a series, and kept of its family.
    let suffixes: &[&str] = match kind {
        MetricKind::Histogram | MetricKind::GaugeHistogram => &["_bucket", "_sum", "_count"],
        MetricKind::Summary => &["_sum", "_count"],
        _ => &[],
    };
    let family = suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix));
    Ok((!is_nothing).then_some(PushedMetadata {
        family: family.unwrap_or(metric),
        kind,
        help,
        unit,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::*;

    fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        fields
            .iter()
            .for_each(|(number, content)| put(&mut out, *number, content));
        out
    }

    /// Every series referred to one text, and each reference was compared and copied whole.
    #[test]
    fn a_long_help_text_is_cut_before_it_is_multiplied() {
        let long = "x".repeat(100_000);
        let help = |told: &WriteRequest<'_>| told.metadata.iter().map(|told| told.help.len()).max();
        let of = |name: u8| message(&[(1, &[1, name]), (5, &[3 << 3, 2, 4 << 3, 2])]);
        let second = message(&[
            (4, b""),
            (4, b"__name__"),
            (4, long.as_bytes()),
            (4, b"a"),
            (4, b"b"),
            (5, &of(3)),
            (5, &of(4)),
        ]);
        let second = decode_second(&second, &Limits::default()).expect("valid");
        assert_eq!((second.metadata.len(), help(&second)), (2, Some(1024)));
        let first = message(&[(3, &message(&[(2, b"a"), (4, long.as_bytes())]))]);
        let first = decode(&first, &Limits::default()).expect("valid");
        assert_eq!((first.metadata.len(), help(&first)), (1, Some(1024)));
    }
}

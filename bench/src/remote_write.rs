//! Remote write 1.0 as a sender speaks it: protobuf messages in one snappy block.
//!
//! Written here anew, and not taken from the product, so that a mistake in the product's decoder cannot
//! hide behind the same mistake in its encoder.
//!
//! Source: the Prometheus Remote-Write 1.0 specification.

use prost::Message;

/// The body of one request.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// Series with their samples.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// One series.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Labels, sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Samples, oldest first.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Native histograms, oldest first.
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Histogram>,
}

/// One native histogram of whole numbers, without buckets below zero.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// Observations.
    #[prost(uint64, tag = "1")]
    pub count: u64,
    /// Their sum.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// How fine the buckets are.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// Half the width of the zero bucket.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// Where the buckets are.
    #[prost(message, repeated, tag = "11")]
    pub spans: Vec<Span>,
    /// Each bucket's count minus the one before.
    #[prost(sint64, repeated, tag = "12")]
    pub deltas: Vec<i64>,
    /// Milliseconds since the Unix epoch.
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
}

/// A run of buckets.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// Where it begins.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// How many buckets.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// One label.
#[derive(Clone, PartialEq, Message)]
pub struct Label {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// One sample.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    /// The value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// A request whose labels stay and whose samples change: encoded once, then patched in place, so that the
/// harness spends its time on sending.
pub struct Template {
    bytes: Vec<u8>,
    /// For each series, where its sample's value begins.
    values: Vec<usize>,
}

/// Moments from 2004 to 2109 take six bytes, and so any of them can replace another in place.
const PLACEHOLDER: Sample = Sample {
    value: 1.0,
    timestamp: 1 << 40,
};
const TIMESTAMP_BYTES: usize = 6;

impl Template {
    /// Makes a request with one sample for each of the label sets.
    pub fn new(series: Vec<Vec<Label>>) -> Self {
        let mut template = Template {
            bytes: Vec::new(),
            values: Vec::with_capacity(series.len()),
        };
        for labels in series {
            let timeseries = vec![TimeSeries {
                labels,
                samples: vec![PLACEHOLDER],
                histograms: Vec::new(),
            }];
            template.bytes.extend(WriteRequest { timeseries }.encode_to_vec());
            // A sample ends with its value, the timestamp's tag and the timestamp.
            template
                .values
                .push(template.bytes.len() - TIMESTAMP_BYTES - 1 - 8);
        }
        template
    }

    /// Gives every series its next value and gives the body as it goes over the wire.
    pub fn to_body(&mut self, at_ms: i64, values: impl Iterator<Item = f64>) -> Vec<u8> {
        let mut timestamp = Vec::with_capacity(TIMESTAMP_BYTES);
        prost::encoding::encode_varint(at_ms as u64, &mut timestamp);
        assert_eq!(
            timestamp.len(),
            TIMESTAMP_BYTES,
            "{at_ms} ms is not a moment of this century"
        );
        for (&start, value) in self.values.iter().zip(values) {
            self.bytes[start..start + 8].copy_from_slice(&value.to_le_bytes());
            self.bytes[start + 9..start + 9 + TIMESTAMP_BYTES].copy_from_slice(&timestamp);
        }
        snap::raw::Encoder::new()
            .compress_vec(&self.bytes)
            .expect("a batch is far below snappy's limit of 4 GiB")
    }

    /// Counts its series.
    pub fn series_count(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, value: &str) -> Label {
        Label {
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }

    /// The bytes were written by hand from the specification's field numbers and wire types.
    #[test]
    fn a_request_has_the_bytes_of_the_specification() {
        let request = WriteRequest {
            timeseries: vec![TimeSeries {
                labels: vec![label("a", "b")],
                samples: vec![Sample {
                    value: 1.0,
                    timestamp: 3,
                }],
                histograms: Vec::new(),
            }],
        };
        let expected = [
            0x0a, 0x15, // timeseries, 21 bytes
            0x0a, 0x06, 0x0a, 0x01, b'a', 0x12, 0x01, b'b', // label
            0x12, 0x0b, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0x03, // sample
        ];
        assert_eq!(request.encode_to_vec(), expected);
    }

    #[test]
    fn a_patched_request_decodes_to_the_new_samples() {
        let mut template = Template::new(vec![
            vec![label("a", "b")],
            vec![label("c", "d"), label("e", "f")],
        ]);
        template.to_body(1_700_000_000_000, [7.0, 8.0].into_iter());
        let body = template.to_body(1_700_000_015_000, [0.0, -2.5].into_iter());
        let bytes = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
        let request = WriteRequest::decode(bytes.as_slice()).expect("protobuf");
        let at = |value| {
            vec![Sample {
                value,
                timestamp: 1_700_000_015_000,
            }]
        };
        assert_eq!(request.timeseries[0].samples, at(0.0));
        assert_eq!(request.timeseries[1].samples, at(-2.5));
        assert_eq!(
            request.timeseries[1].labels,
            vec![label("c", "d"), label("e", "f")]
        );
    }
}

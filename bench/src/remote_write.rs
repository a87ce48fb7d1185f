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

impl WriteRequest {
    /// Gives the body as it goes over the wire.
    pub fn to_body(&self) -> Vec<u8> {
        snap::raw::Encoder::new()
            .compress_vec(&self.encode_to_vec())
            .expect("a batch is far below snappy's limit of 4 GiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes were written by hand from the specification's field numbers and wire types.
    #[test]
    fn a_request_has_the_bytes_of_the_specification() {
        let request = WriteRequest {
            timeseries: vec![TimeSeries {
                labels: vec![Label { name: "a".into(), value: "b".into() }],
                samples: vec![Sample { value: 1.0, timestamp: 3 }],
            }],
        };
        let expected = [
            0x0a, 0x15, // timeseries, 21 bytes
            0x0a, 0x06, 0x0a, 0x01, b'a', 0x12, 0x01, b'b', // label
            0x12, 0x0b, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0x03, // sample
        ];
        assert_eq!(request.encode_to_vec(), expected);
        let body = request.to_body();
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&body).expect("own body"), expected);
    }
}

//! Families of metrics as protobuf says them, and the native histograms among them as they should be read.

use marketprism_model::{BucketSpan, Buckets, Histogram};

use crate::message::Message;

pub const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Families as protobuf says them: each preceded by its length.
pub fn body(families: &[Message]) -> Vec<u8> {
    let mut body = Vec::new();
    for family in families {
        Message::varint(&mut body, family.0.len() as u64);
        body.extend(&family.0);
    }
    body
}

pub const COUNTER: i64 = 0;
pub const GAUGE: i64 = 1;
pub const SUMMARY: i64 = 2;
pub const UNTYPED: i64 = 3;
pub const HISTOGRAM: i64 = 4;
pub const GAUGE_HISTOGRAM: i64 = 5;

pub fn family(name: &str, kind: i64, metrics: &[Message]) -> Message {
    let family = Message::default()
        .bytes(1, name.as_bytes())
        .bytes(2, b"Some \\ help.")
        .number(3, kind);
    metrics
        .iter()
        .fold(family, |family, metric| family.bytes(4, &metric.0))
}

pub fn metric(labels: &[(&str, &str)], field: u64, content: &Message) -> Message {
    let pair = |name: &str, value: &str| {
        Message::default()
            .bytes(1, name.as_bytes())
            .bytes(2, value.as_bytes())
    };
    labels
        .iter()
        .fold(Message::default(), |metric, (name, value)| {
            metric.bytes(1, &pair(name, value).0)
        })
        .bytes(field, &content.0)
}

pub fn number(value: f64) -> Message {
    Message::default().double(1, value)
}

pub fn classic_buckets(histogram: Message, buckets: &[(f64, i64)]) -> Message {
    buckets.iter().fold(histogram, |histogram, (bound, count)| {
        histogram.bytes(3, &Message::default().number(1, *count).double(2, *bound).0)
    })
}

/// Buckets −2, −1 and 3 above zero with 1, 4 and 2; 7 in bucket 5 below it, 2 in the zero bucket: 16.
pub fn whole_message() -> Message {
    Message::default()
        .number(1, 16)
        .double(2, 18.4)
        .zigzag(5, 1)
        .double(6, 0.001)
        .number(7, 2)
        .spans(9, &[(5, 1)])
        .zigzags(10, &[7])
        .spans(12, &[(-2, 2), (3, 1)])
        .zigzags(13, &[1, 3, -2])
}

pub fn whole() -> Histogram {
    Histogram {
        schema: 1,
        zero_threshold: 0.001,
        zero_count: 2.0,
        count: 16.0,
        sum: 18.4,
        positive: buckets(&[(-2, 2), (3, 1)], &[1.0, 4.0, 2.0]),
        negative: buckets(&[(5, 1)], &[7.0]),
        ..Histogram::default()
    }
}

pub fn float_message() -> Message {
    Message::default()
        .double(4, 4.75)
        .double(2, -1.5)
        .zigzag(5, -4)
        .double(6, 1e-100)
        .double(8, 0.25)
        .spans(12, &[(0, 2)])
        .doubles(14, &[1.5, 3.0])
}

pub fn float() -> Histogram {
    Histogram {
        schema: -4,
        zero_threshold: 1e-100,
        zero_count: 0.25,
        count: 4.75,
        sum: -1.5,
        positive: buckets(&[(0, 2)], &[1.5, 3.0]),
        ..Histogram::default()
    }
}

pub fn buckets(spans: &[(i32, u32)], counts: &[f64]) -> Buckets {
    let span = |(offset, length): &(i32, u32)| BucketSpan {
        offset: *offset,
        length: *length,
    };
    Buckets {
        spans: spans.iter().map(span).collect(),
        counts: counts.to_vec(),
    }
}

//! Remote write 1.0, sender's side: protobuf in snappy's block format.
//!
//! Written by hand, for it is short, and the test then shares no code with what it proves.
//! Source: `prompb/remote.proto` and `prompb/types.proto` in prometheus/prometheus; `format_description.txt` of snappy.

use marketprism_model::{BucketSpan, Histogram, Labels, ResetHint};
use marketprism_promql::memory::Memory;

/// The samples of a source, in pieces of time, oldest first.
pub fn requests(memory: &Memory, piece_ms: i64) -> Vec<Vec<u8>> {
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    memory.each(|_, samples| {
        let moments = samples
            .timestamps
            .iter()
            .chain(samples.histograms.iter().map(|(at, _)| at));
        for at in moments {
            (first, last) = (first.min(*at), last.max(*at));
        }
    });
    let mut requests = Vec::new();
    while first <= last {
        let piece = first..first + piece_ms;
        let mut request = Vec::new();
        memory.each(|labels, samples| {
            let mut series = Vec::new();
            let values = samples.timestamps.iter().zip(samples.values);
            for (at, value) in values.filter(|(at, _)| piece.contains(at)) {
                let mut sample = Vec::new();
                double(&mut sample, 1, *value);
                whole(&mut sample, 2, *at as u64);
                bytes(&mut series, 2, &sample);
            }
            for (at, histogram) in samples.histograms.iter().filter(|(at, _)| piece.contains(at)) {
                bytes(&mut series, 4, &histogram_message(*at, histogram));
            }
            if !series.is_empty() {
                let mut message = labels_message(labels);
                message.extend_from_slice(&series);
                bytes(&mut request, 1, &message);
            }
        });
        if !request.is_empty() {
            requests.push(snappy(&request));
        }
        first += piece_ms;
    }
    requests
}

fn labels_message(labels: &Labels) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in labels.iter() {
        let mut label = Vec::new();
        bytes(&mut label, 1, name.as_bytes());
        bytes(&mut label, 2, value.as_bytes());
        bytes(&mut out, 1, &label);
    }
    out
}

/// A histogram of floats.
fn histogram_message(at: i64, histogram: &Histogram) -> Vec<u8> {
    let mut out = Vec::new();
    double(&mut out, 2, histogram.count);
    double(&mut out, 3, histogram.sum);
    whole(&mut out, 4, zigzag(histogram.schema));
    double(&mut out, 5, histogram.zero_threshold);
    double(&mut out, 7, histogram.zero_count);
    for (buckets, spans_field, counts_field) in [(&histogram.negative, 8, 10), (&histogram.positive, 11, 13)]
    {
        for BucketSpan { offset, length } in &buckets.spans {
            let mut span = Vec::new();
            whole(&mut span, 1, zigzag(*offset));
            whole(&mut span, 2, u64::from(*length));
            bytes(&mut out, spans_field, &span);
        }
        let counts: Vec<u8> = buckets
            .counts
            .iter()
            .flat_map(|count| count.to_le_bytes())
            .collect();
        bytes(&mut out, counts_field, &counts);
    }
    let hint = match histogram.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    whole(&mut out, 14, hint);
    whole(&mut out, 15, at as u64);
    out
}

fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)) as u32)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn whole(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Packs nothing: literals alone are valid snappy.
fn snappy(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + data.len() / 60_000 + 8);
    varint(&mut out, data.len() as u64);
    for piece in data.chunks(1 << 16) {
        // Tag 61: the length less one in two bytes.
        out.push(61 << 2);
        out.extend_from_slice(&((piece.len() - 1) as u16).to_le_bytes());
        out.extend_from_slice(piece);
    }
    out
}

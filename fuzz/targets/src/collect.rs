//! What targets say, what senders push, and how both are described.

use marketprism_collect::config::parse_yaml;
use marketprism_collect::discovery::{FileFormat, parse_target_groups};
use marketprism_collect::exposition::{Entry, Format, Parser, Sample, decode_series};
use marketprism_collect::relabel::{RelabelRule, relabel};
use marketprism_collect::remote_write::{Limits, decode, decompress};
use marketprism_model::LabelsBuilder;

use crate::text;

pub fn exposition(input: &[u8]) {
    scrape(input, Format::Prometheus);
}

pub fn openmetrics(input: &[u8]) {
    scrape(input, Format::OpenMetrics);
}

/// Reads a body as a first scrape does, and then as a later one that knows every series.
fn scrape(body: &[u8], format: Format) {
    let mut parser = Parser::new(body, format);
    let mut samples = Vec::new();
    loop {
        let start = parser.position();
        match parser.next_entry() {
            Ok(Some(Entry::Sample(sample))) => {
                let _ = decode_series(sample.series, parser.kind());
                samples.push((start, sample));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    for (start, sample) in samples {
        let mut again = Parser::new(&body[start..], format);
        if let Some(short) = again.next_of(sample.series) {
            assert!(
                is_same(&short, &sample),
                "{short:?} on the short road, {sample:?} on the long one"
            );
        }
    }
}

fn is_same(a: &Sample<'_>, b: &Sample<'_>) -> bool {
    (a.series, a.value.to_bits(), a.timestamp_ms) == (b.series, b.value.to_bits(), b.timestamp_ms)
}

pub fn remote_write(input: &[u8]) {
    let limits = Limits::default();
    if let Ok(message) = decompress(input, &limits) {
        let _ = decode(&message, &limits);
    }
    // Most damages are caught by the compression, so the decoder is also given the bytes as they are.
    let _ = decode(input, &limits);
}

pub fn file_sd(input: &[u8]) {
    for format in [FileFormat::Json, FileFormat::Yaml] {
        let _ = parse_target_groups(&text(input), format);
    }
}

pub fn relabelling(input: &[u8]) {
    let Ok(rules) = parse_yaml::<Vec<RelabelRule>>(&text(input)) else {
        return;
    };
    let mut labels = LabelsBuilder::default();
    for (name, value) in [
        ("__address__", "host-1:9100"),
        ("job", "node"),
        ("a", "b;c"),
        ("__meta_x", "ä"),
    ] {
        labels.set(name, value);
    }
    relabel(&rules, &mut labels);
}

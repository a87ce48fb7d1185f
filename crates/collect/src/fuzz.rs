//! Every parser of outside input as a plain function for fuzzing: any input, no panic.

use crate::discovery::{FileFormat, parse_target_groups};
use crate::exposition::{Entry, Format, Parser, decode_series};
use crate::relabel::{RelabelRule, relabel};
use crate::remote_write::{Limits, decode, decompress};

/// Reads a body in both formats, and makes labels of every series it accepts.
pub fn exposition(bytes: &[u8]) {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let mut parser = Parser::new(bytes, format);
        while let Ok(Some(entry)) = parser.next_entry() {
            if let Entry::Sample(sample) = entry {
                // What was accepted once must be recognised when it comes again.
                let line = [sample.series, b" 1\n"].concat();
                let again = Parser::new(&line, format).next_of(sample.series);
                assert!(again.is_some_and(|again| again.series == sample.series));
                if let Ok(mut labels) = decode_series(sample.series, parser.kind()) {
                    labels.build();
                }
            }
        }
    }
}

/// Reads relabel rules from YAML and applies them to a few labels.
pub fn relabelling(text: &str) {
    let Ok(rules) = crate::config::parse_yaml::<Vec<RelabelRule>>(text) else {
        return;
    };
    let mut labels = marketprism_model::LabelsBuilder::default();
    labels
        .set("__name__", "http_requests_total")
        .set("instance", "host-1:9100")
        .set("é", "日本")
        .set("code", "200");
    if relabel(&rules, &mut labels) {
        labels.build();
    }
}

/// Reads a whole scrape configuration.
pub fn scrape_config(text: &str) {
    if let Ok(file) = crate::config::parse_yaml::<crate::config::ScrapeFile>(text)
        && let Ok(pools) = file.validate()
    {
        for pool in pools {
            for group in &pool.static_groups {
                for address in &group.targets {
                    let _ = crate::target::populate(&pool, address, &group.into());
                }
            }
        }
    }
}

/// Reads a target file in both notations.
pub fn target_file(text: &str) {
    let _ = parse_target_groups(text, FileFormat::Json);
    let _ = parse_target_groups(text, FileFormat::Yaml);
}

/// Reads a remote write request as it comes, and its inside without the compression.
pub fn remote_write(bytes: &[u8]) {
    let limits = Limits {
        body_bytes_max: 1 << 20,
        series_max: 1_000,
        samples_max: 10_000,
        ..Limits::default()
    };
    if let Ok(message) = decompress(bytes, &limits) {
        let _ = decode(&message, &limits);
    }
    let _ = decode(bytes, &limits);
}

/// Reads every file of the host from the same text.
pub fn host_files(text: &str) {
    crate::host::parse_everything(text);
}

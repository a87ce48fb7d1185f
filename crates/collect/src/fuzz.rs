//! Every parser of outside input as a plain function for fuzzing: any input, no panic.

use crate::discovery::{FileFormat, parse_target_groups};
use crate::exposition::{Entry, Format, HistogramRules, Parser, decode_series, unfold};
use crate::relabel::{RelabelRule, relabel};
use crate::remote_write::{Limits, decode, decode_second, decompress};

/// Reads a body in both formats, and makes labels of every series it accepts.
pub fn exposition(bytes: &[u8]) {
    unfolding(bytes);
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

/// Unfolds a body of every format, with all that may be made of its histograms; the text of protobuf is readable.
pub fn unfolding(bytes: &[u8]) {
    let rules = HistogramRules {
        takes_native: true,
        keeps_classic: true,
        converts_classic: true,
    };
    for format in [Format::Protobuf, Format::Prometheus, Format::OpenMetrics] {
        let Ok(unfolded) = unfold(bytes, format, rules) else {
            continue;
        };
        for native in &unfolded.natives {
            assert!(
                native
                    .histogram
                    .as_ref()
                    .is_none_or(|histogram| histogram.check().is_ok())
            );
        }
        let mut parser = Parser::new(&unfolded.text, format);
        while parser
            .next_entry()
            .expect("what was unfolded is readable")
            .is_some()
        {}
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
        let _ = decode_second(&message, &limits);
    }
    let _ = decode(bytes, &limits);
    let _ = decode_second(bytes, &limits);
}

/// Reads every file of the host from the same text.
pub fn host_files(text: &str) {
    crate::host::parse_everything(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const YAML: &str = "([a-z_]{1,12}: |- |\\[|\\]|\\{|\\}|, |\n|  |\"|'|\\(|\\$1|replace|keep|hashmod|regex: |source_labels: |targets: |labels: |&a |\\*a |[0-9]{1,4}){0,30}";

    proptest! {
        #[test]
        fn any_request_ends_in_series_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            remote_write(&bytes);
        }

        #[test]
        fn requests_close_to_valid_ones_do_too(
            fields in proptest::collection::vec((0u8..6, 0u8..8, proptest::collection::vec(any::<u8>(), 0..12)), 0..12),
        ) {
            let mut message = Vec::new();
            for (number, wire, content) in fields {
                message.extend([number << 3 | wire, content.len() as u8]);
                message.extend(content);
            }
            remote_write(&message);
            let mut series = vec![0x0a, message.len().min(127) as u8];
            series.extend(message.iter().take(127));
            remote_write(&series);
        }

        #[test]
        fn any_rules_are_applied_or_refused(text in YAML) {
            relabelling(&text);
        }

        #[test]
        fn any_replacement_expands(
            regex in "(\\(|\\)|\\.\\*|[a-z]|\\?P<[a-z]>|\\|){0,8}",
            replacement in "(\\$|\\{|\\}|[0-9a-z_]|é){0,12}",
        ) {
            let rule = format!("[{{source_labels: [instance], target_label: x, regex: {regex:?}, replacement: {replacement:?}}}]");
            relabelling(&rule);
        }

        #[test]
        fn any_target_file_is_read_or_refused(text in YAML) {
            target_file(&text);
            scrape_config(&format!("scrape_configs:\n{text}"));
        }

        #[test]
        fn any_file_of_the_kernel_gives_text_that_can_be_read(
            text in "(cpu[0-9]?|intr|ctxt|some|full|total=|eth0:|:|vda|Mem|\\(|\\)| kB|[0-9]{1,20}|-|/|\\\\040|\"| |\n|\\PC){0,60}",
        ) {
            host_files(&text);
        }
    }

    #[test]
    fn whole_files_of_the_kernel_give_text_that_can_be_read() {
        for text in [
            "cpu0 1 2 3 4 5 6 7 8 9 10\nbtime 5\n",
            "a\"b\\: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
            "1 2 a\"b 1 2 3 4 5 6 7 8 9 10 11\n",
            "1 2 3 / /a\\134b\" rw - ext4 \\042dev rw\n",
        ] {
            host_files(text);
        }
    }
}

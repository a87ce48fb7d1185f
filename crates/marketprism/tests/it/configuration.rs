//! Configuration files as people damage them: a thousand mutations of good ones.
//!
//! None may end in a panic or take long, and each that is refused names file and line. The good ones are the
//! deployment guide's YAML blocks laid together, the file that is shipped, and Prometheus' own example.

use std::path::Path;
use std::time::Duration;

use marketprism::config::{self, Source};
use marketprism_model::{Chance, Clock as _};
use marketprism_testkit::{MachineClock, SeededChance};

/// Cases of each file; `MARKETPRISM_TEST_SCALE` multiplies them.
const CASES: usize = 500;
/// Longer than any of these may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(1);

const SHIPPED: &str = include_str!("../../../../config/config.yaml");

const GUIDE: &str = include_str!("../../../../docs/deployment-guide.zh-CN.md");

/// The sections that the guide shows one by one, laid together. That of HTTPS names files that are not there.
fn guide() -> String {
    const SECTIONS: [&str; 6] = [
        "alert_manager:",
        "notification_manager:",
        "anomaly_detection:",
        "logging:",
        "performance:",
        "security:",
    ];
    let blocks = GUIDE.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let is_section = |block: &&str| SECTIONS.iter().any(|section| block.starts_with(section));
    let sections: Vec<&str> = blocks.filter(is_section).collect();
    assert_eq!(
        sections.len(),
        SECTIONS.len(),
        "the guide shows each section once"
    );
    sections.concat()
}

/// A Prometheus configuration with what people paste.
const PROMETHEUS: &str = r#"
global:
  scrape_interval: 15s
  evaluation_interval: 15s
  external_labels: {monitor: codelab, replica: "1"}
alerting:
  alertmanagers:
    - static_configs:
        - targets: ["alertmanager:9093"]
rule_files:
  - "first.rules"
  - 'second/*.rules'
scrape_configs:
  - &plain
    job_name: prometheus
    static_configs:
      - targets: ["localhost:9090"]
        labels: {app: prometheus}
  - <<: *plain
    job_name: 'node'
    scheme: https
    tls_config: {insecure_skip_verify: true}
    basic_auth:
      username: admin
      password: |
        a secret
    params:
      module: [http_2xx]
    relabel_configs:
      - source_labels: [__address__]
        regex: '(.*):\d+'
        target_label: instance
        replacement: ${1}
      - {action: labeldrop, regex: "tmp_.*"}
  - job_name: k8s
    kubernetes_sd_configs: [{role: pod}]
    metric_relabel_configs:
      - source_labels: [__name__]
        regex: go_.*
        action: drop
remote_write:
  - url: http://remote/write
"#;

/// Lets a text be read as a file would be; gives the errors.
fn read(text: &str) -> Result<(), String> {
    let source = Source {
        text,
        name: "mutated.yaml",
        folder: Path::new("/etc/marketprism"),
        data_dir: Path::new("data"),
        variable: &|name| match name {
            "SMTP_USERNAME" => Some("ops@example.com".to_owned()),
            "JWT_SECRET" => Some("0123456789abcdef0123456789abcdef".to_owned()),
            name => name.starts_with("S").then(|| "https://example.com/x".to_owned()),
        },
        read_secret: &|_| Ok("secret".to_owned()),
        read_text: &|_| Err("no such file".to_owned()),
    };
    config::parse(&source)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// One of the ways in which files go wrong; the lines are those of the file.
fn mutate(lines: &mut Vec<String>, chance: &SeededChance) {
    let below = |end: usize| (chance.next_u64() % end.max(1) as u64) as usize;
    if lines.is_empty() {
        return;
    }
    let at = below(lines.len());
    let other = below(lines.len());
    let line = lines[at].clone();
    let value_at = line.find(": ").map(|at| at + 2);
    match below(14) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(other, line),
        2 => lines.swap(at, other),
        3 => lines[at] = format!("{}{line}", " ".repeat(1 + below(5))),
        4 => lines[at] = line.trim_start().to_owned(),
        5 => lines[at] = format!("\t{}", line.trim_start()),
        6 => {
            const VALUES: [&str; 14] = [
                "[]",
                "{}",
                "-1",
                "\"text\"",
                "true",
                "1e9999",
                "~",
                "{a: {b: c}}",
                "[1, 2]",
                "99999999999999999999",
                "&a *a",
                "!!binary x",
                "|",
                "'",
            ];
            if let Some(value_at) = value_at {
                lines[at] = format!("{}{}", &line[..value_at], VALUES[below(VALUES.len())]);
            }
        }
        7 => {
            // A key with a letter lost, doubled or swapped.
            let letters: Vec<char> = line.chars().collect();
            let start = letters.iter().position(|c| c.is_alphabetic()).unwrap_or(0);
            let spot = (start + below(8)).min(letters.len().saturating_sub(1));
            let mut letters = letters;
            match below(3) {
                0 if !letters.is_empty() => drop(letters.remove(spot)),
                1 if !letters.is_empty() => letters.insert(spot, letters[spot]),
                _ if spot + 1 < letters.len() => letters.swap(spot, spot + 1),
                _ => {}
            }
            lines[at] = letters.into_iter().collect();
        }
        8 => lines.truncate(at),
        9 => {
            // A flipped bit that leaves the text a text.
            let mut bytes = line.into_bytes();
            if !bytes.is_empty() {
                let spot = below(bytes.len());
                bytes[spot] ^= 1 << below(7);
            }
            lines[at] = String::from_utf8_lossy(&bytes).into_owned();
        }
        10 => {
            const PIECES: [&str; 12] = [
                ":", "- ", "{", "}", "[", "\"", "'", "# ", "&x ", "*x", "${UNSET}", "---",
            ];
            let spot = line
                .char_indices()
                .map(|(at, _)| at)
                .nth(below(line.chars().count()))
                .unwrap_or(0);
            lines[at].insert_str(spot, PIECES[below(PIECES.len())]);
        }
        11 => lines[at] = line.replace("${", "${UN"),
        12 => lines[at].push('\r'),
        _ => lines[at] = line.replace(": ", ":"),
    }
}

#[test]
fn a_thousand_mutated_files_are_judged_soon_and_every_refusal_names_file_and_line() {
    let scale = std::env::var("MARKETPRISM_TEST_SCALE").ok();
    let scale: usize = scale.map_or(1, |text| {
        text.parse().expect("MARKETPRISM_TEST_SCALE is a number")
    });
    let merged = format!("{}{PROMETHEUS}", guide());
    let clock = MachineClock::default();
    let (mut refused, mut accepted, mut slowest) = (0, 0, Duration::ZERO);
    for (name, text) in [
        ("guide", &*merged),
        ("shipped", SHIPPED),
        ("prometheus", PROMETHEUS),
    ] {
        read(text).unwrap_or_else(|error| panic!("{name} is good as it stands: {error}"));
        for case in 0..CASES * scale {
            let chance = SeededChance::new(case as u64);
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            for _ in 0..1 + case % 4 {
                mutate(&mut lines, &chance);
            }
            let mutated = lines.join("\n");
            let started = clock.monotonic();
            let outcome = read(&mutated);
            let elapsed = clock.monotonic() - started;
            slowest = slowest.max(elapsed);
            assert!(elapsed < PATIENCE, "{name}, case {case}: {elapsed:?}\n{mutated}");
            match outcome {
                Ok(()) => accepted += 1,
                Err(told) => {
                    refused += 1;
                    for fault in told.lines() {
                        assert!(
                            is_placed(fault, lines.len()),
                            "{name}, case {case}: {fault:?}\n{mutated}"
                        );
                    }
                }
            }
        }
    }
    // Mutations that change nothing, or nothing that matters, prove nothing.
    assert!(
        refused > 2 * accepted / 3,
        "{refused} refused, {accepted} accepted"
    );
    assert!(accepted > 0 && slowest > Duration::ZERO);
}

/// Says whether a fault is `mutated.yaml:line:column: words`, with a line of the file.
fn is_placed(fault: &str, lines: usize) -> bool {
    let mut parts = fault.splitn(4, ':');
    let name = parts.next() == Some("mutated.yaml");
    let line = parts.next().and_then(|line| line.parse::<usize>().ok());
    let column = parts.next().and_then(|column| column.parse::<usize>().ok());
    let words = parts.next().is_some_and(|words| words.trim().len() > 3);
    name && line.is_some_and(|line| (1..=lines + 1).contains(&line))
        && column.is_some_and(|at| at > 0)
        && words
}

//! `/metrics` in use: the guide's names, what promtool says of it, and the page that explains every name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use marketprism_testkit::{FakeWebhook, is_true_within};

use crate::exporter::Exporter;
use crate::program::{PATIENCE, Program};

const PAGE: &str = include_str!("../../../../docs/operating/metrics.md");

/// The deployment guide's names.
const PROMISED: [&str; 4] = [
    "marketprism_alert_total",
    "marketprism_alert_active",
    "marketprism_anomaly_detection_duration",
    "marketprism_notification_sent_total",
];

/// One row of the page.
#[derive(Debug)]
struct Row {
    kind: String,
    labels: BTreeSet<String>,
    is_there_at_once: bool,
}

/// Reads the tables of the page: name, type, labels, from when, meaning.
fn page() -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, from, meaning, _] = cells[..] else {
            panic!("five columns: {line}");
        };
        assert!(!meaning.is_empty() && !from.is_empty(), "{line}");
        let labels = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned());
        let row = Row {
            kind: kind.to_owned(),
            labels: labels.filter(|label| !label.is_empty()).collect(),
            is_there_at_once: from == "start",
        };
        let known = rows.insert(name.trim_matches('`').to_owned(), row);
        assert!(known.is_none(), "twice: {line}");
    }
    rows
}

/// What a text in Prometheus' format holds: families with their types, series, and the label names of each family.
struct Shown {
    kinds: BTreeMap<String, String>,
    series: BTreeSet<String>,
    labels: BTreeMap<String, BTreeSet<String>>,
}

fn shown(text: &str) -> Shown {
    let mut shown = Shown {
        kinds: BTreeMap::new(),
        series: BTreeSet::new(),
        labels: BTreeMap::new(),
    };
    let mut family = String::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            name.clone_into(&mut family);
            shown.kinds.insert(family.clone(), kind.to_owned());
        } else if !line.starts_with('#') {
            let end = line.find(['{', ' ']).expect("a series has a value");
            assert!(line[..end].starts_with(&family), "{line} is outside of {family}");
            shown.series.insert(line[..end].to_owned());
            let labels = shown.labels.entry(family.clone()).or_default();
            // No value of ours has an equals sign and a quote in it but for names of rule groups, which have none.
            labels.extend(line[end..].split("=\"").filter_map(|part| {
                let start = part.rfind(['{', ','])? + 1;
                let name = &part[start..];
                let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                is_name.then(|| name.to_owned())
            }));
        }
    }
    // They belong to the type.
    for labels in shown.labels.values_mut() {
        labels.remove("le");
        labels.remove("quantile");
    }
    shown
}

/// Gives the figures in the format that a client without wishes gets.
fn figures(program: &Program) -> String {
    let (status, text) = program.get("/metrics");
    assert_eq!(status, 200, "{text}");
    text
}

fn check_with_promtool(text: &str) {
    let promtool = Path::new("/usr/bin/promtool");
    assert!(
        promtool.exists(),
        "promtool is missing; run: apt-get install prometheus"
    );
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start promtool");
    let mut input = child.stdin.take().expect("asked for");
    input.write_all(text.as_bytes()).expect("promtool reads");
    drop(input);
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn the_guides_names_are_there_from_the_start_and_can_be_asked_for() {
    let program = Program::start("host: {interval: 1s}\nalert_manager: {default_rules: false}\n");
    let text = figures(&program);
    check_with_promtool(&text);
    let shown = shown(&text);
    for name in PROMISED {
        assert!(shown.series.contains(name), "{name} in\n{text}");
    }
    let page = page();
    let missing: Vec<_> = page
        .iter()
        .filter(|(name, row)| row.is_there_at_once && !shown.kinds.contains_key(*name))
        .collect();
    assert!(missing.is_empty(), "said to be there from the start: {missing:?}");
    for line in [
        "marketprism_anomaly_detection_duration_count 0",
        "marketprism_alert_total{level=\"critical\"} 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
    }
    // The program scrapes itself, and the bare names are series that a query finds.
    let is_asked = |name: &&str| !program.query(name).is_empty();
    let missing = || -> Vec<_> { PROMISED.iter().filter(|name| !is_asked(name)).collect() };
    assert!(
        is_true_within(PATIENCE, || missing().is_empty()),
        "{:?}",
        missing()
    );
}

#[test]
fn every_figure_of_a_busy_program_is_explained_and_none_is_explained_that_is_not_there() {
    let webhook = FakeWebhook::start();
    // A sample from the far future is refused, and counted with its reason.
    let exporter = Exporter::start("queue_length 3\nahead 1 99999999999999\n");
    let program = Program::start(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\nhost: {{interval: 1s}}\n\
         alert_manager: {{evaluation_interval: 1}}\n\
         scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
         notification_manager:\n  route: {{group_wait: 1s}}\n  channels:\n    webhook: {{enabled: true, url: '{}'}}\n",
        exporter.address(),
        webhook.url()
    ));
    // A push that cannot be read makes the counters of pushes appear.
    let push = [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
    ];
    program.post_bytes("/api/v1/write", &push, b"no snappy");
    let page = page();
    let missing = || -> Vec<String> {
        let shown = shown(&figures(&program));
        page.keys()
            .filter(|name| !shown.kinds.contains_key(*name))
            .cloned()
            .collect()
    };
    let is_complete = is_true_within(PATIENCE, || {
        !webhook.received().is_empty() && missing().is_empty()
    });
    assert!(
        is_complete,
        "explained, and not there: {:?}\n{}",
        missing(),
        program.log()
    );

    let text = figures(&program);
    check_with_promtool(&text);
    let shown = shown(&text);
    for (name, kind) in &shown.kinds {
        let row = page
            .get(name)
            .unwrap_or_else(|| panic!("{name} ({kind}) is not explained"));
        assert_eq!(&row.kind, kind, "{name}");
        let labels = shown.labels.get(name).cloned().unwrap_or_default();
        assert_eq!(row.labels, labels, "{name}");
    }
}

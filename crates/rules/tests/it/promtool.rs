//! The same rules over the same samples, by us and by Debian's promtool: every recorded series, `ALERTS` and
//! `ALERTS_FOR_STATE` at every minute.
//!
//! The expected samples are ours; promtool's silence is the proof.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use crate::world::{START_MS, World, minute};

const RULES: &str = r#"groups:
- name: g
  rules:
  - {record: r_copy, expr: m, labels: {kind: copy}}
  - {record: r_sum, expr: sum by (job) (m)}
  - {record: r_rate, expr: 'rate(c[150s])'}
  - {record: r_only_positive, expr: m > 0}
  - {record: r_renamed, expr: 'label_replace(r_copy, "where", "$1", "i", "(.*)")', labels: {kind: ''}}
  - {alert: Now, expr: m > 0, labels: {severity: 'x-{{ $labels.i }}', '__drop': ''}}
  - {alert: Later, expr: r_only_positive > 0, for: 2m}
  - {alert: NoData, expr: absent(m)}
  - {record: r_alerts, expr: 'count by (alertname, alertstate) (ALERTS)'}
  - {record: r_one, expr: 1}
- name: h
  rules:
  - {alert: OfAlerts, expr: 'ALERTS{alertname="Later", alertstate="firing"} == 1'}
"#;

/// Ranges and gaps avoid a sample exactly at the left edge, which Prometheus 3 leaves out and 2 takes.
/// A character a minute: a digit is a value, `_` no sample, `x` the end of the series.
const STORIES: &[(&str, &str)] = &[
    (r#"m{i="a", job="x"}"#, "0110111_110x11111____1111100"),
    (r#"m{i="b", job="x"}"#, "11110000111111111xxxx0000000"),
    (r#"m{i="c", job="y"}"#, "________5555x___________5555"),
    (r#"c{i="a"}"#, "0123456789012_3456789____312"),
];

fn labels_of(series: &str) -> Vec<(String, String)> {
    let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
    let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
    for pair in rest
        .trim_end_matches('}')
        .split(", ")
        .filter(|pair| !pair.is_empty())
    {
        let (name, value) = pair.split_once('=').unwrap();
        pairs.push((name.to_owned(), value.trim_matches('"').to_owned()));
    }
    pairs
}

#[test]
fn series_and_alerts_are_promtools_at_every_minute() {
    let length = STORIES[0].1.len();
    let mut world = World::new(RULES);
    let mut test = String::from(
        "rule_files: [rules.yml]\nevaluation_interval: 1m\ngroup_eval_order: [g, h]\ntests:\n- interval: 1m\n  input_series:\n",
    );
    for (series, story) in STORIES {
        assert_eq!(story.len(), length);
        let values: Vec<String> = story
            .chars()
            .map(|c| {
                if c == 'x' {
                    "stale".to_owned()
                } else {
                    c.to_string()
                }
            })
            .collect();
        writeln!(test, "  - {{series: '{series}', values: '{}'}}", values.join(" ")).unwrap();
    }
    test += "  promql_expr_test:\n";
    let mut asked = 0;
    for i in 0..length {
        let at = minute(i as i64);
        world.clock.jump_to(at);
        for (series, story) in STORIES {
            let pairs = labels_of(series);
            let pairs: Vec<(&str, &str)> = pairs
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            match story.as_bytes()[i] {
                b'_' => {}
                b'x' => world.push(&pairs, at, None),
                digit => world.push(&pairs, at, Some(f64::from(digit - b'0'))),
            }
        }
        for tick in world.tick(at) {
            assert_eq!(tick.failures, 0);
        }
        let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for name in [
            "r_copy",
            "r_sum",
            "r_rate",
            "r_only_positive",
            "r_renamed",
            "r_alerts",
            "r_one",
            "ALERTS",
            "ALERTS_FOR_STATE",
        ] {
            by_name.insert(name, world.ask(name, at));
        }
        for (name, lines) in by_name {
            writeln!(test, "  - expr: {name}\n    eval_time: {i}m\n    exp_samples:").unwrap();
            for line in &lines {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let mut value: f64 = value.parse().unwrap();
                if name == "ALERTS_FOR_STATE" {
                    value -= (START_MS / 1000) as f64;
                }
                writeln!(test, "    - {{labels: '{series}', value: {value}}}").unwrap();
                asked += 1;
            }
        }
    }
    assert!(asked > 500, "only {asked} samples are compared");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yml"), RULES).unwrap();
    std::fs::write(folder.path().join("test.yml"), test).unwrap();
    let run = Command::new("promtool")
        .args(["test", "rules", "test.yml"])
        .current_dir(folder.path())
        .output()
        .expect("promtool is missing: apt-get install prometheus");
    assert!(
        run.status.success(),
        "{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
    println!("{asked} samples compared");
}

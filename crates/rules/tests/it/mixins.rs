//! The rules of the mixins over series made for them: the same alerts as under Debian's promtool.
//!
//! Their own tests cover few of their rules. So each selector gets series that meet it, what we find is written down as
//! expected, and promtool judges it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use marketprism_model::Labels;
use marketprism_rules::unit_test::{Failure, FileReport, run_file};
use marketprism_rules::{GroupDefaults, parse_file};

use crate::unit_tests::{Dice, Everything, Expectations, complaint, found, promtool, write_test};

/// Gives a series for each selector of a file's rules, with what its equalities ask for and one label to tell two apart.
fn series_for(text: &str, dice: &Dice, instances: &[&str]) -> String {
    let file = parse_file("rules.yml", text.as_bytes(), &GroupDefaults::default()).unwrap();
    let mut known = BTreeMap::new();
    for rule in file.groups.iter().flat_map(|group| &group.rules) {
        for selector in rule.parsed.selectors() {
            let Some(name) = selector.metric_name() else {
                continue;
            };
            if name == "ALERTS" || known.len() > 400 {
                continue;
            }
            for other in instances {
                let mut labels = Labels::from_pairs([
                    ("__name__", name),
                    ("job", "j"),
                    ("instance", *other),
                    ("namespace", "n"),
                ])
                .to_builder();
                for matcher in selector.matchers.iter() {
                    let alternatives = matcher
                        .value
                        .split('|')
                        .map(|one| one.trim_matches(['^', '$', '(', ')']));
                    let plain = alternatives
                        .filter(|one| !one.contains(['.', '*', '[', '+', '\\']))
                        .find(|one| matcher.matches(one));
                    if let (false, Some(value)) =
                        (matcher.op.is_negative() || &*matcher.name == "__name__", plain)
                    {
                        labels.set(&matcher.name, value);
                    }
                }
                let labels = labels.build();
                if selector
                    .matchers
                    .iter()
                    .all(|matcher| matcher.matches_labels(&labels))
                {
                    let values = [
                        "0x39",
                        "1x39",
                        "0+60x39",
                        "5x20 0x19",
                        "100-2x39",
                        "1x9 _x5 1x24",
                        "0x9 3x30",
                        "100000x39",
                    ];
                    known.entry(labels).or_insert_with(|| *dice.one(&values));
                }
            }
        }
    }
    let lines = known.iter().map(|(labels, values)| {
        format!(
            "  - {{series: '{}', values: '_ {values}'}}\n",
            labels.to_string().replace('\'', "''")
        )
    });
    lines.collect()
}

fn files_of_others() -> Vec<PathBuf> {
    let named = std::env::var_os("MARKETPRISM_RULE_CORPORA").map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/rule-corpora");
    let corpora = named.unwrap_or(usual);
    let mut files = vec![PathBuf::from("/etc/prometheus/ceph/ceph_default_alerts.yml")];
    for folder in [
        "kube-prometheus",
        "node-mixin",
        "prometheus-mixin",
        "kubernetes-mixin",
    ] {
        let entries = std::fs::read_dir(corpora.join(folder))
            .into_iter()
            .flatten()
            .flatten();
        let is_yaml = |path: &PathBuf| {
            path.extension()
                .is_some_and(|ending| ending == "yml" || ending == "yaml")
        };
        files.extend(entries.map(|entry| entry.path()).filter(is_yaml));
    }
    files.sort();
    files
}

/// The rules of others over series made for them: which alerts fire, with all labels and texts, as promtool says.
#[test]
fn rules_of_others_over_generated_series_have_promtools_verdicts() {
    let files = files_of_others();
    let dice = Dice::seeded(12);
    let folder = tempfile::tempdir().unwrap();
    let (mut asked, mut firing, mut tests) = (0, 0, Vec::new());
    for (place, rules) in files.iter().enumerate() {
        let text = std::fs::read_to_string(rules).expect("apt-get install ceph-prometheus-alerts");
        let file = parse_file("rules.yml", text.as_bytes(), &GroupDefaults::default()).unwrap();
        let names: BTreeSet<String> = file
            .groups
            .iter()
            .flat_map(|group| &group.rules)
            .filter(|rule| rule.alerting().is_some())
            .map(|rule| rule.name.to_string())
            .collect();
        let mut expected = Expectations::default();
        for name in &names {
            for minutes in [11, 38] {
                expected
                    .alerts
                    .push((Duration::from_secs(minutes * 60), name.clone(), Vec::new()));
            }
        }
        let path = folder.path().join(format!("of{place}.yml"));
        // Left to itself promtool takes groups in any order, and a rule of another group sees this minute's record or the last.
        let order: Vec<String> = file
            .groups
            .iter()
            .map(|group| format!("{:?}", group.name))
            .collect();
        let order = format!("[{}]", order.join(", "));
        let write = |input: &str, expected: &Expectations| {
            let test = write_test(input, expected).replace("[rules.yml]", &format!("[{}]", rules.display()));
            std::fs::write(&path, test.replace("[first, second]", &order)).unwrap();
        };
        // Two series of each may not fit a join; one does, or both programs say that it does not.
        let mut input = String::new();
        let mut report = FileReport::default();
        for instances in [&["a", "b"][..], &["a"]] {
            input = series_for(&text, &dice, instances);
            write(&input, &expected);
            report = run_file(&path, &mut Everything);
            let fails = |failure: &Failure| !matches!(failure, Failure::Alerts { .. });
            if !report.cases[0].failures.iter().any(fails) {
                break;
            }
            tests.push((
                rules.clone(),
                path.with_extension(format!("failing{place}.yml")),
                false,
            ));
            std::fs::copy(&path, &tests[tests.len() - 1].1).unwrap();
        }
        let case = &report.cases[0];
        if tests
            .iter()
            .filter(|(of, _, is_good)| of == rules && !is_good)
            .count()
            == 2
        {
            continue;
        }
        found(case, &mut expected);
        firing += expected
            .alerts
            .iter()
            .filter(|(_, _, alerts)| !alerts.is_empty())
            .count();
        asked += expected.alerts.len();
        write(&input, &expected);
        tests.push((rules.clone(), path, true));
    }
    let mut differences = Vec::new();
    for (rules, path, is_good) in &tests {
        if promtool(folder.path(), std::slice::from_ref(path))[0] != *is_good {
            let words = complaint(folder.path(), path);
            differences.push(format!(
                "{}: we say {is_good}; {}",
                rules.display(),
                words.chars().take(3000).collect::<String>()
            ));
        }
    }
    let refused = tests.iter().filter(|(_, _, is_good)| !is_good).count();
    println!(
        "{} files ({refused} fail in both), {asked} questions, {firing} with alerts that fire",
        tests.len()
    );
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(
        firing * 10 > asked,
        "only {firing} of {asked} questions find an alert"
    );
}

//! Unit tests in promtool's format: the same verdicts as Debian's promtool.
//!
//! What is expected is first what we find, and then changed at random; promtool judges the same files. So both ways of
//! being wrong show: passing what promtool fails, and failing what it passes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use marketprism_model::{Chance as _, duration};
use marketprism_rules::unit_test::{CaseReport, Failure, FileReport, SeenAlert, SeenSample, Watch, run_file};
use marketprism_testkit::SeededChance;

const RULES: &str = r#"groups:
- name: second
  rules:
  - {record: r_of_first, expr: 'sum by (job) (r_copy)'}
  - {alert: OfFirst, expr: 'r_copy > 1', labels: {severity: page}}
- name: first
  interval: 7m
  rules:
  - {record: r_copy, expr: m, labels: {kind: copy}}
  - {record: r_rate, expr: 'rate(c[150s])'}
  - {record: r_sub, expr: 'max_over_time(m[4m30s:])'}
  - alert: Now
    expr: m > 2
    labels: {severity: '{{ if gt $value 5.0 }}critical{{ else }}high{{ end }}', gone: ''}
    annotations:
      summary: '{{ $labels.i }} of {{ $labels.job }} is {{ $value | humanize }} in {{ $externalLabels.site }}'
      empty: '{{ if false }}x{{ end }}'
  - {alert: Later, expr: m > 0, for: 2m, keep_firing_for: 3m}
  - {alert: Kept, expr: m > 4, keep_firing_for: 2m, annotations: {value: '{{ $value }}'}}
  - {alert: Now, expr: 'm{job="x"} > 4', for: 1m, labels: {severity: second}}
  - {alert: Lost, expr: absent(m), for: 3m}
"#;

const EXPRESSIONS: &[&str] = &[
    "m",
    "r_copy",
    "r_of_first",
    "r_rate",
    "r_sub",
    "ALERTS",
    "count by (alertname, alertstate) (ALERTS)",
    "sum(m) / count(m)",
    "time()",
    "m > 3",
    "nothing_at_all",
];
const ALERTS: &[&str] = &["Now", "Later", "Kept", "Lost", "OfFirst", "Unknown"];

pub struct Everything;
impl Watch for Everything {}

struct Only(&'static str);
impl Watch for Only {
    fn is_chosen(&self, name: &str) -> bool {
        name.contains(self.0)
    }
}

pub struct Dice(SeededChance);

impl Dice {
    pub fn seeded(seed: u64) -> Self {
        Dice(SeededChance::new(seed))
    }

    fn below(&self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    pub fn one<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What is expected, before it is written.
#[derive(Clone, Default)]
pub struct Expectations {
    pub alerts: Vec<(Duration, String, Vec<SeenAlert>)>,
    pub expressions: Vec<(Duration, String, Vec<SeenSample>)>,
}

fn values(dice: &Dice) -> String {
    let pieces = [
        "1",
        "0",
        "5",
        "6",
        "_",
        "_x3",
        "stale",
        "0x4",
        "3x5",
        "1+1x5",
        "9-2x4",
        "-1x2",
        "1e0",
        "0.5+0.25x6",
        "7",
    ];
    let words: Vec<&str> = (0..3 + dice.below(8)).map(|_| *dice.one(&pieces)).collect();
    // Nothing is exactly as old as the lookback or a range when it is asked for: there 2 and 3 differ.
    format!("_ {}", words.join(" "))
}

pub fn write_test(dice_text: &str, expected: &Expectations) -> String {
    let mut text = format!(
        "rule_files: [rules.yml]\nevaluation_interval: 1m\ngroup_eval_order: [first, second]\ntests:\n- name: generated\n  interval: 61s\n  \
         external_labels: {{site: sh}}\n  input_series:\n{dice_text}"
    );
    let map = |pairs: &[(String, String)]| {
        let inside: Vec<String> = pairs
            .iter()
            .filter(|(name, _)| name != "alertname")
            .map(|(name, value)| format!("{name}: {value:?}"))
            .collect();
        format!("{{{}}}", inside.join(", "))
    };
    text += "  alert_rule_test:\n";
    for (at, name, alerts) in &expected.alerts {
        writeln!(
            text,
            "  - eval_time: {}\n    alertname: {name}\n    exp_alerts:",
            duration::format(*at)
        )
        .unwrap();
        for alert in alerts {
            let (labels, annotations) = (map(&alert.labels), map(&alert.annotations));
            writeln!(
                text,
                "    - {{exp_labels: {labels}, exp_annotations: {annotations}}}"
            )
            .unwrap();
        }
    }
    text += "  promql_expr_test:\n";
    for (at, expr, samples) in &expected.expressions {
        writeln!(
            text,
            "  - eval_time: {}\n    expr: '{expr}'\n    exp_samples:",
            duration::format(*at)
        )
        .unwrap();
        for sample in samples {
            writeln!(
                text,
                "    - {{labels: '{}', value: {:?}}}",
                sample.labels, sample.value
            )
            .unwrap();
        }
    }
    text
}

/// Takes what was found as what is expected.
pub fn found(case: &CaseReport, expected: &mut Expectations) {
    for failure in &case.failures {
        match failure {
            Failure::Alerts {
                alert_name,
                at,
                found,
                ..
            } => {
                for entry in expected
                    .alerts
                    .iter_mut()
                    .filter(|(time, name, _)| time == at && name == alert_name)
                {
                    entry.2 = found.clone();
                }
            }
            Failure::Samples { expr, at, found, .. } => {
                for entry in expected
                    .expressions
                    .iter_mut()
                    .filter(|(time, text, _)| time == at && text == expr)
                {
                    entry.2 = found.clone();
                }
            }
            other => panic!("{}", other.headline()),
        }
    }
}

/// Changes one thing, or nothing.
fn mutate(dice: &Dice, expected: &mut Expectations) {
    let alert = dice.below(expected.alerts.len());
    let sample = dice.below(expected.expressions.len());
    match dice.below(8) {
        0 => {
            let alerts = &mut expected.alerts[alert].2;
            let pair = ("severity".to_owned(), "other".to_owned());
            match alerts.first_mut() {
                Some(alert) => alert.labels.push(("zone".to_owned(), "z".to_owned())),
                None => alerts.push(SeenAlert {
                    labels: vec![pair],
                    annotations: Vec::new(),
                }),
            }
        }
        1 => drop(expected.alerts[alert].2.pop()),
        2 => {
            for alert in &mut expected.alerts[alert].2 {
                alert.annotations.retain(|(name, _)| name != "empty");
            }
        }
        3 => {
            for alert in expected.alerts[alert].2.iter_mut().take(1) {
                alert.labels.push(("gone".to_owned(), String::new()));
            }
        }
        4 => drop(expected.expressions[sample].2.pop()),
        5 => {
            for sample in expected.expressions[sample].2.iter_mut().take(1) {
                sample.value = sample.value.next_up();
            }
        }
        6 => {
            for sample in expected.expressions[sample].2.iter_mut().take(1) {
                sample.labels = sample.labels.with("kind", "copy").with("__name__", "m");
            }
        }
        _ => {}
    }
}

fn generated(dice: &Dice, folder: &Path, place: usize) -> PathBuf {
    let mut input = String::new();
    let series = [
        r#"m{i="a", job="x"}"#,
        r#"m{i="b", job="x"}"#,
        r#"m{i="c", job="y"}"#,
        r#"c{i="a"}"#,
    ];
    for series in series {
        writeln!(input, "  - {{series: '{series}', values: '{}'}}", values(dice)).unwrap();
    }
    // Of a series that is written twice the last counts.
    if dice.below(3) == 0 {
        writeln!(
            input,
            "  - {{series: '{}', values: '{}'}}",
            series[0],
            values(dice)
        )
        .unwrap();
    }
    let mut expected = Expectations::default();
    for _ in 0..3 {
        let at = Duration::from_secs(30 * dice.below(60) as u64);
        expected
            .alerts
            .push((at, (*dice.one(ALERTS)).to_owned(), Vec::new()));
        let at = Duration::from_secs(30 * dice.below(60) as u64);
        expected
            .expressions
            .push((at, (*dice.one(EXPRESSIONS)).to_owned(), Vec::new()));
    }
    let path = folder.join(format!("test{place}.yml"));
    std::fs::write(&path, write_test(&input, &expected)).unwrap();
    let report = run_file(&path, &mut Everything);
    assert!(report.faults.is_empty() && report.cases.len() == 1, "{report:?}");
    found(&report.cases[0], &mut expected);
    mutate(dice, &mut expected);
    std::fs::write(&path, write_test(&input, &expected)).unwrap();
    path
}

/// Asks promtool about files; gives what passes.
pub fn promtool(folder: &Path, files: &[PathBuf]) -> Vec<bool> {
    let run = Command::new("promtool")
        .args(["test", "rules"])
        .args(files)
        .current_dir(folder)
        .output()
        .expect("promtool is missing: apt-get install prometheus");
    let told = String::from_utf8_lossy(&run.stdout);
    let parts: Vec<&str> = told.split("Unit Testing:").skip(1).collect();
    assert_eq!(
        parts.len(),
        files.len(),
        "{told}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    parts.iter().map(|part| part.contains("SUCCESS")).collect()
}

/// Gives what promtool says of a file.
pub fn complaint(folder: &Path, file: &Path) -> String {
    let run = Command::new("promtool")
        .args(["test", "rules"])
        .arg(file)
        .current_dir(folder)
        .output();
    let run = run.expect("promtool is missing: apt-get install prometheus");
    String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr)
}

fn told(report: &FileReport) -> String {
    let failures = report.cases.iter().flat_map(|case| &case.failures);
    let lines = failures.map(|failure| format!("{} {:?}", failure.headline(), failure.sides()));
    lines
        .chain(report.faults.iter().cloned())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn generated_tests_and_their_mutations_have_promtools_verdicts() {
    let cases = std::env::var("MARKETPRISM_RULE_TESTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(120);
    let seed = std::env::var("MARKETPRISM_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_261_124);
    let dice = Dice::seeded(seed);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yml"), RULES).unwrap();
    let files: Vec<PathBuf> = (0..cases)
        .map(|place| generated(&dice, folder.path(), place))
        .collect();
    let theirs = promtool(folder.path(), &files);
    let (mut passed, mut failed) = (0, 0);
    for (file, theirs) in files.iter().zip(&theirs) {
        let report = run_file(file, &mut Everything);
        let text = std::fs::read_to_string(file).unwrap();
        let words = || complaint(folder.path(), file);
        assert_eq!(
            report.is_good(),
            *theirs,
            "seed {seed}: promtool: {}; we: {}\n{text}",
            words(),
            told(&report)
        );
        *(if *theirs { &mut passed } else { &mut failed }) += 1;
    }
    println!("{passed} passed and {failed} failed, in both");
    assert!(
        passed * 5 > cases && failed * 5 > cases,
        "{passed} passed, {failed} failed"
    );
}

/// Files that are wrong in themselves, and odd ones that are right.
#[test]
fn what_promtool_refuses_is_refused_and_what_it_takes_is_taken() {
    let body = |text: &str| {
        format!("rule_files: [rules.yml]\ntests:\n- input_series: [{{series: m, values: '1x5'}}]\n{text}")
    };
    let alert = "  alert_rule_test: [{eval_time: 1m, alertname: Lost";
    let expr = "  promql_expr_test: [{eval_time: 1m, expr: ";
    let cases: Vec<(&str, String)> = vec![
        ("an empty file", String::new()),
        ("no test", "rule_files: [rules.yml]\n".to_owned()),
        ("no file matches", "rule_files: ['none*.yml', missing.yml]\ntests: [{input_series: []}]\n".to_owned()),
        ("an unknown key", "rule_file: [rules.yml]\n".to_owned()),
        ("an unknown key of a test", body("  nmae: x\n")),
        ("a repeated group", "group_eval_order: [a, a]\n".to_owned()),
        ("a bad duration", "evaluation_interval: 5\n".to_owned()),
        ("a zero duration", "evaluation_interval: 0\ntests: []\n".to_owned()),
        ("no alert name", body("  alert_rule_test: [{eval_time: 1m}]\n")),
        ("no expected alert", body(&format!("{alert}}}]\n"))),
        ("numbers where texts stand", body(&format!("{alert}, exp_alerts: [{{exp_labels: {{a: 1}}}}]}}]\n"))),
        ("a text where a number stands", body(&format!("{expr}m, exp_samples: [{{labels: m, value: '1'}}]}}]\n"))),
        ("a number as hexadecimal", body(&format!("{expr}m, exp_samples: [{{labels: m, value: 0x1}}]}}]\n"))),
        ("no number", body(&format!("{expr}m * 0, exp_samples: [{{labels: '{{}}'}}]}}]\n"))),
        ("infinity", body(&format!("{expr}m / 0, exp_samples: [{{labels: '{{}}', value: .inf}}]}}]\n"))),
        ("NaN equals nothing", body(&format!("{expr}m * 0 / 0, exp_samples: [{{labels: '{{}}', value: .nan}}]}}]\n"))),
        ("a range", body(&format!("{expr}'m[1m]'}}]\n"))),
        ("a string", body(&format!("{expr}'\"a\"'}}]\n"))),
        ("a scalar", body(&format!("{expr}'2', exp_samples: [{{labels: '', value: 2}}]}}]\n"))),
        ("a scalar with braces", body(&format!("{expr}'2', exp_samples: [{{labels: '{{}}', value: 2}}]}}]\n"))),
        ("a bad expression", body(&format!("{expr}'m +'}}]\n"))),
        ("bad labels", body(&format!("{expr}m, exp_samples: [{{labels: 'm{{', value: 1}}]}}]\n"))),
        ("an inequality for labels", body(&format!("{expr}m, exp_samples: [{{labels: 'm{{a!=\"b\"}}', value: 1}}]}}]\n"))),
        ("bad values", "tests: [{input_series: [{series: m, values: '1+'}]}]\n".to_owned()),
        ("bare values", "tests: [{input_series: [{series: m, values: 1}]}]\n".to_owned()),
        ("no values", "tests: [{input_series: [{series: m}]}]\n".to_owned()),
        ("a bad series", "tests: [{input_series: [{series: 'm{', values: '1'}]}]\n".to_owned()),
        ("a failing rule", "rule_files: [failing.yml]\ntests: [{input_series: [{series: 'm{a=\"1\"}', values: '1'}, {series: 'm{a=\"2\"}', values: '1'}]}]\n".to_owned()),
        ("a bad rule file", "rule_files: [bad.yml]\ntests: [{input_series: []}]\n".to_owned()),
        ("a bad rule file without a test", "rule_files: [bad.yml]\n".to_owned()),
        ("a duplicate key", "tests: []\ntests: []\n".to_owned()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    write("rules.yml", RULES);
    write(
        "bad.yml",
        "groups: [{name: g, rules: [{record: r, expr: 'm +'}]}]\n",
    );
    write(
        "failing.yml",
        "groups: [{name: g, rules: [{record: r, expr: 'm * on () m'}]}]\n",
    );
    for (place, (story, text)) in cases.iter().enumerate() {
        let file = write(&format!("case{place}.yml"), text);
        let theirs = promtool(folder.path(), std::slice::from_ref(&file))[0];
        let report = run_file(&file, &mut Everything);
        let words = || complaint(folder.path(), &file);
        assert_eq!(
            report.is_good(),
            theirs,
            "{story}: promtool: {}; we: {}\n{text}",
            words(),
            told(&report)
        );
    }
}

#[test]
fn a_test_may_start_anywhere_in_time_and_be_chosen_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.yml");
    let test = "tests:\n- name: in 2021\n  start_timestamp: '2021-01-01T00:00:00Z'\n  promql_expr_test:\n  \
                - {expr: time(), eval_time: 1m, exp_samples: [{labels: '', value: 1609459260}]}\n\
                - name: in seconds\n  start_timestamp: 1609459200\n  promql_expr_test:\n  \
                - {expr: year(), eval_time: 0, exp_samples: [{labels: '{}', value: 2020}]}\n";
    std::fs::write(&file, test).unwrap();
    let report = run_file(&file, &mut Only("2021"));
    assert!(report.is_good() && report.cases.len() == 1, "{}", told(&report));
    let report = run_file(&file, &mut Everything);
    assert!(!report.is_good(), "2021 is not 2020");
    assert_eq!(report.cases[1].line, 6);
    assert!(
        told(&report).starts_with("expression \"year()\" at 0s"),
        "{}",
        told(&report)
    );
}

/// Files that Debian's promtool 2.42 fails, and why: they were written for Prometheus 3, and pass there.
const ONLY_SINCE_3: &[(&str, &str)] = &[
    (
        "absent_alert-test.yaml",
        "a sample that is exactly as old as the lookback is not seen",
    ),
    (
        "tests.yaml",
        "a range leaves out a sample that is exactly as old as it is long",
    ),
];

/// Unit tests that others wrote for the rules that others wrote; see `tests/data/README.md`.
#[test]
fn public_unit_tests_have_promtools_verdicts() {
    let named = std::env::var_os("MARKETPRISM_RULE_CORPORA").map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/rule-corpora");
    let corpora = named.unwrap_or(usual);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(corpora.join("kubernetes-mixin/tests"))
        .into_iter()
        .flatten()
        .flatten()
    {
        files.push(entry.path());
    }
    files.sort();
    if files.is_empty() {
        println!(
            "no public unit tests in {}; see tests/data/README.md",
            corpora.display()
        );
        return;
    }
    let mut cases = 0;
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let report = run_file(file, &mut Everything);
        cases += report.cases.len();
        assert!(report.is_good(), "{name}: {}", told(&report));
        let theirs = promtool(&corpora, std::slice::from_ref(file))[0];
        let known = ONLY_SINCE_3.iter().find(|(of, _)| *of == name);
        assert_eq!(
            theirs,
            known.is_none(),
            "{name}: {known:?} {}",
            complaint(&corpora, file)
        );
    }
    println!("{} files, {cases} tests", files.len());
    assert!(cases > 100, "only {cases} tests");
}

#[test]
fn native_histograms_are_read_recorded_and_compared_with_what_is_known_of_their_reset() {
    let folder = tempfile::tempdir().unwrap();
    let rules =
        "groups: [{name: g, rules: [{record: copy, expr: h}, {record: many, expr: 'histogram_count(h)'}]}]\n";
    std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
    let check = |at: &str, expr: &str, expected: &str, is_good: bool| {
        let file = folder.path().join("test.yml");
        let test = format!(
            "rule_files: [rules.yml]\ntests:\n- input_series: [{{series: h, values: '{{{{schema:0 sum:3 count:2 buckets:[2]}}}}+{{{{sum:1 count:1 buckets:[1]}}}}x2 {{{{sum:1 count:1 buckets:[1]}}}}'}}]\n  \
             promql_expr_test:\n  - {{expr: {expr}, eval_time: {at}, exp_samples: [{expected}]}}\n"
        );
        std::fs::write(&file, &test).unwrap();
        let report = run_file(&file, &mut Everything);
        assert_eq!(report.is_good(), is_good, "{test}{}", told(&report));
    };
    let of = |name: &str, text: &str| format!("{{labels: {name}, histogram: '{{{{{text}}}}}'}}");
    // Of the first nothing is known; the next have not been reset. The last has fewer observations than before, which
    // Prometheus' store does not tell either: whoever calculates has to look.
    check("0", "h", &of("h", "sum:3 count:2 buckets:[2]"), true);
    check(
        "1m",
        "h",
        &of("h", "sum:4 count:3 counter_reset_hint:not_reset buckets:[3]"),
        true,
    );
    check("1m", "h", &of("h", "sum:4 count:3 buckets:[3]"), false);
    check(
        "3m",
        "h",
        &of("h", "sum:1 count:1 counter_reset_hint:reset buckets:[1]"),
        false,
    );
    check("3m", "h", &of("h", "sum:1 count:1 buckets:[1]"), true);
    check(
        "1m",
        "h",
        &of("h", "sum:4 count:4 counter_reset_hint:not_reset buckets:[4]"),
        false,
    );
    check("1m", "many", "{labels: many, value: 3}", true);
}

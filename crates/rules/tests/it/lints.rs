//! Lints: each speaks where the fault is, with its place, and is silent about rules that are right.

use std::path::{Path, PathBuf};
use std::time::Duration;

use marketprism_promql::Selector;
use marketprism_rules::lint::{CATALOGUE, Finding, Options, Read, Weight, lint};
use marketprism_rules::{GroupDefaults, Language, defaults, parse_file};

fn findings(text: &str, options: &Options<'_>) -> Vec<Finding> {
    let file = parse_file("rules.yml", text.as_bytes(), &GroupDefaults::default()).expect(text);
    lint(&[Read { text, file: &file }], options).unwrap()
}

/// Gives the warnings of one alert with this expression, as `name@column of the expression`.
fn of_expression(expr: &str) -> Vec<String> {
    let text = format!("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: |\n      {expr}\n");
    let found = findings(&text, &Options::default());
    let warnings = found.iter().filter(|one| one.weight == Weight::Warning);
    warnings
        .map(|one| {
            assert_eq!(one.line, 6, "{one:?}");
            format!("{}@{}", one.lint, one.column - 6)
        })
        .collect()
}

#[test]
fn each_fault_of_an_expression_is_found_at_its_place_and_its_mended_form_is_silent() {
    let check = |expr: &str, expected: &[&str]| assert_eq!(of_expression(expr), expected, "{expr}");
    check(r#"up{a="x", a="y"} == 1"#, &["contradiction@1"]);
    check(r#"up{a="x", a!~"x|y"} == 1"#, &["contradiction@1"]);
    check(r#"up{a="x", a=~"x|y"} == 1"#, &[]);
    check(r#"sum(x) / (sum(a) - sum(b)) > 2"#, &["division@1"]);
    check(r#"sum(x) / (sum(a) - sum(b) > 0) > 2"#, &[]);
    check(r#"sum(errors) / sum(requests) > 0.1"#, &[]);
    check(r#"sum(errors) / sum(requests) != 1"#, &["division@1"]);
    check(r#"count(up == 1) < 2"#, &["vanishing@1"]);
    check(r#"sum(up == bool 1) < 2"#, &[]);
    check(r#"(count(up == 1) or vector(0)) < 2"#, &[]);
    check(r#"count(up) == 0"#, &["never-holds@1"]);
    check(r#"count(up) < 1"#, &["never-holds@1"]);
    check(r#"count(up) < 2"#, &[]);
    check(r#"x > NaN"#, &["never-holds@1"]);
    check(r#"x > bool 1"#, &["always-holds@1"]);
    check(r#"x * 2"#, &["always-holds@1"]);
    check(r#"vector(1)"#, &[]);
    check(r#"absent(x)"#, &[]);
    check(r#"x and y"#, &[]);
    check(r#"job:x:ratio"#, &[]);
    check(r#"1 < rate(cache_ratio[5m])"#, &["rate-of-gauge@5"]);
    check(r#"rate(requests_total[5m]) > 1"#, &[]);
    check(r#"deriv(requests_total[5m]) > 1"#, &["counter-raw@1"]);
    check(r#"requests_total > 100"#, &["counter-raw@1"]);
    check(r#"rate(requests_total[20s]) > 1"#, &["range-short@1"]);
    check(r#"increase(requests_total[5m]) == 3"#, &["increase-exact@1"]);
    check(r#"increase(requests_total[5m]) == 0"#, &[]);
    check(r#"sum by (a) (x) > sum by (b) (y)"#, &["join-labels@1"]);
    check(r#"sum by (a) (x) > on () sum by (b) (y)"#, &[]);
    check(r#"sum by (a) (x) > on (a) sum by (b) (y)"#, &["join-labels@1"]);
    check(r#"sum by (a) (x) > ignoring (a, b) sum by (b) (y)"#, &[]);
    check(r#"sum by (a, b) (x) > on (a) group_left () sum by (a) (y)"#, &[]);
    check(
        r#"histogram_quantile(0.9, sum by (job) (rate(d_bucket[5m]))) > 1"#,
        &["quantile-le@1"],
    );
    check(
        r#"histogram_quantile(0.9, sum by (job, le) (rate(d_bucket[5m]))) > 1"#,
        &[],
    );
    check(r#"histogram_quantile(0.9, sum by (job) (rate(d[5m]))) > 1"#, &[]);
}

/// Gives all findings of one rule, as `name@line:column`.
fn of_rule(rule: &str) -> Vec<String> {
    let rule = rule.trim().replace('\n', "\n    ");
    let text = format!("groups:\n- name: g\n  interval: 2m\n  rules:\n  - {rule}\n");
    let found = findings(&text, &Options::default());
    found
        .iter()
        .map(|one| format!("{}@{}:{}", one.lint, one.line, one.column))
        .collect()
}

const GOOD: &str = "labels: {severity: high}\nannotations: {summary: s, runbook_url: r}";

#[test]
fn each_fault_of_a_rule_is_found_at_its_place() {
    let check = |rule: &str, expected: &[&str]| assert_eq!(of_rule(rule), expected, "{rule}");
    check(&format!("alert: A\nexpr: x > 1\n{GOOD}"), &[]);
    check(
        &format!("alert: A\nexpr: x > 1\nfor: 1m\n{GOOD}"),
        &["for-short@7:10"],
    );
    check(
        "alert: A\nexpr: x > 1",
        &["no-runbook@5:0", "no-severity@5:0", "no-summary@5:0"],
    );
    check("record: total\nexpr: sum(x)", &["record-name@5:13"]);
    check("record: job:x:sum\nexpr: sum by (job) (x)", &[]);
    let lost = "alert: A\nexpr: sum by (job) (x) > 1\nlabels: {severity: high}\nannotations:\n  runbook_url: r\n  summary: '{{ $labels.job }} {{ $labels.instance }}'";
    check(lost, &["label-lost@10:16"]);
    let joined = "alert: A\nexpr: sum by (job) (x) * on (job) group_left (instance) y > 1\nlabels: {severity: high}\nannotations:\n  runbook_url: r\n  summary: '{{ $labels.instance }}'";
    check(joined, &[]);
    let value = "alert: A\nexpr: x > 1\nlabels:\n  severity: '{{ if gt $value 5.0 }}high{{ else }}low{{ end }}'\n  seen: '{{ $value }}'\nannotations: {summary: s, action: r}";
    check(value, &["value-in-label@9:13"]);
    let levels = "alert: A\nexpr: x\nlevels:\n- {level: critical, when: '> 5'}\n- {level: low, when: '> 9'}\nannotations: {summary: s, action: r}";
    check(levels, &["levels-unordered@7:12"]);
    check(
        &format!("alert: A\nexpr: up == 0\n{GOOD}"),
        &["absent-missing@6:11"],
    );
    check(&format!("alert: A\nexpr: up == 0 or absent(up)\n{GOOD}"), &[]);
}

#[test]
fn a_place_is_found_however_the_expression_is_folded() {
    let check = |expr: &str, line: usize, column: usize| {
        let text = format!("groups:\n- name: g\n  rules:\n  - record: a:b:c\n    expr: {expr}\n");
        let found = findings(&text, &Options::default());
        let found: Vec<_> = found.iter().map(|one| (one.lint, one.line, one.column)).collect();
        assert_eq!(found, [("range-short", line, column)], "{text}");
    };
    check("1 + rate(x[1s])", 5, 15);
    check("'1 + rate(x[1s])'", 5, 16);
    check("\"1 + rate(x[1s])\"", 5, 16);
    check("|\n      1\n      + rate(x[1s])", 7, 9);
    check(">-\n      1\n      +\n        rate(x[1s])", 8, 9);
    check("1\n      + rate(x[1s])", 6, 9);
    check("\"y{a=\\\"b\\\"} + rate(x[1s])\"", 5, 25);
    check("'y{a=''中文''} + rate(x[1s])'", 5, 26);
    check("|  # a note\n\n      1\n\n      + rate(x[1s])", 9, 9);
    let text = "groups:\n- name: g\n  rules:\n  - alert: A\n    annotations:\n      action: a\n      summary: |\n        expr: no\n    labels: {severity: low}\n    expr: rate(x[1s]) > 0\n";
    let found = findings(text, &Options::default());
    assert_eq!(
        (found.len(), found[0].line, found[0].column),
        (1, 10, 11),
        "{found:?}"
    );
}

#[test]
fn lints_are_allowed_by_name_and_equal_rules_are_found_across_files() {
    let text = "groups:\n- name: g\n  rules:\n  - {record: 'a:b', expr: x}\n- name: h\n  rules:\n  - {record: 'a:b', expr: x}\n";
    let found = findings(text, &Options::default());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].lint, found[0].line), ("duplicate", 7));
    let words = [Language::Chinese, Language::English].map(|language| found[0].fact.words(language));
    assert!(
        words.iter().all(|words| words.contains("rules.yml:4")),
        "{words:?}"
    );
    let allowed = Options {
        allowed: ["duplicate".to_owned()].into(),
        ..Options::default()
    };
    assert_eq!(findings(text, &allowed), []);
    let slow = Options {
        scrape_interval: Duration::from_secs(60),
        ..Options::default()
    };
    let text = "groups:\n- name: g\n  rules:\n  - {record: 'a:b', expr: 'rate(x[1m])'}\n";
    assert_eq!(findings(text, &Options::default()), []);
    assert_eq!(findings(text, &slow).len(), 1);
}

#[test]
fn selectors_that_no_series_meets_are_found_unless_a_rule_makes_them() {
    let has_series =
        |selector: &Selector| -> Result<bool, String> { Ok(selector.metric_name() == Some("here")) };
    let options = Options {
        has_series: Some(&has_series),
        ..Options::default()
    };
    let text = "groups:\n- name: g\n  rules:\n  - {record: 'a:b', expr: 'here + gone'}\n  - {record: 'a:c', expr: 'a:b + ALERTS'}\n  - {alert: A, expr: absent(gone), labels: {severity: low}, annotations: {summary: s, action: a}}\n";
    let found = findings(text, &options);
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.lint, one.line, one.fact.words(Language::English)))
        .collect();
    assert_eq!(
        found,
        [(
            "absent-series",
            4,
            "no stored series is chosen by gone".to_owned()
        )]
    );
}

#[test]
fn the_rules_inside_the_program_have_no_finding() {
    for (name, text) in defaults() {
        let file = parse_file(name, text.as_bytes(), &GroupDefaults::default()).unwrap();
        let found = lint(&[Read { text, file: &file }], &Options::default()).unwrap();
        let warnings: Vec<_> = found.iter().filter(|one| one.weight == Weight::Warning).collect();
        assert!(warnings.is_empty(), "{warnings:#?}");
    }
}

#[test]
fn every_lint_has_a_name_of_its_own_and_says_what_to_do_in_both_languages() {
    let names: std::collections::BTreeSet<&str> = CATALOGUE.iter().map(|lint| lint.name).collect();
    assert_eq!(names.len(), CATALOGUE.len());
    let is_chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    for text in CATALOGUE.iter().flat_map(|lint| [lint.what, lint.advice]) {
        assert!(is_chinese(text.chinese), "{text:?}");
        assert!(!text.english.is_empty() && !is_chinese(text.english), "{text:?}");
        // What is code stays the same, but for where a language needs more or less of it.
        for code in text.english.split('`').skip(1).step_by(2) {
            assert!(text.chinese.contains(code), "{code} is missing: {text:?}");
        }
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path
            .extension()
            .is_some_and(|ending| ending == "yml" || ending == "yaml")
        {
            found.push(path);
        }
    }
}

/// What was looked at stands in `tests/data/README.md`. Each warning is shown, so that a false alarm is seen.
#[test]
fn public_rules_have_few_findings() {
    let named = std::env::var_os("MARKETPRISM_RULE_CORPORA").map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/rule-corpora");
    let mut paths = vec![PathBuf::from("/etc/prometheus/ceph/ceph_default_alerts.yml")];
    files(&named.unwrap_or(usual), &mut paths);
    let (mut rules, mut warnings, mut lost) = (0, 0, 0);
    for path in paths {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let name = path.display().to_string();
        let Ok(file) = parse_file(&name, text.as_bytes(), &GroupDefaults::default()) else {
            continue;
        };
        rules += file.groups.iter().map(|group| group.rules.len()).sum::<usize>();
        for one in lint(
            &[Read {
                text: &text,
                file: &file,
            }],
            &Options::default(),
        )
        .unwrap()
        {
            if one.weight == Weight::Warning {
                *(if one.lint == "label-lost" {
                    &mut lost
                } else {
                    &mut warnings
                }) += 1;
                println!(
                    "{}:{}:{} {} [{}] {}",
                    one.file,
                    one.line,
                    one.column,
                    one.rule,
                    one.lint,
                    one.fact.words(Language::English)
                );
            }
        }
    }
    println!("{warnings} warnings about {rules} rules, and {lost} labels lost");
    // Labels that are lost are many in public rules, and each of them is: `sum by (job) (…)` and a text of the instance.
    assert!(
        rules > 50 && warnings * 100 < rules && lost * 5 < rules,
        "{warnings} warnings and {lost} lost labels in {rules} rules"
    );
}

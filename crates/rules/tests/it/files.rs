//! Reading rule files: what is accepted, what is refused, and in which words.

use std::time::Duration;

use marketprism_model::{Level, labels};
use marketprism_rules::{GroupDefaults, RuleFile, RuleFileError, RuleSet, load, parse_file};

fn parse(text: &str) -> Result<RuleFile, Vec<RuleFileError>> {
    parse_file("rules.yml", text.as_bytes(), &GroupDefaults::default())
}

fn rule(body: &str) -> String {
    format!(
        "groups:\n- name: g\n  rules:\n  - {}\n",
        body.trim().replace('\n', "\n    ")
    )
}

/// Checks that a file is refused with exactly these words.
fn refused(text: &str, words: &[&str]) {
    let errors = parse(text).expect_err(text);
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(told, words, "{text}");
}

#[test]
fn a_file_of_prometheus_is_read_as_it_is() {
    let file = parse(
        "# comment\ngroups:\n- name: host\n  interval: 30s\n  query_offset: 1m\n  limit: 10\n  labels: {team: ops, n: 1}\n  rules:\n  - record: job:up:sum\n    expr: |\n      sum by (job) (up)\n    labels: {kind: recorded}\n  - alert: Down\n    expr: up == 0\n    for: 5m\n    keep_firing_for: 1h30m\n    labels:\n      severity: critical\n      team: 'db'\n      on: true\n      gone:\n    annotations: {summary: '{{ $labels.instance }} is down', code: 007}\n- name: empty\n  rules: []\n- name: nothing\n",
    )
    .unwrap();
    let group = &file.groups[0];
    assert_eq!(
        (group.interval, group.query_offset),
        (Duration::from_secs(30), Duration::from_secs(60))
    );
    assert_eq!((group.limit, group.line, &*group.name), (10, 3, "host"));
    let (recording, alerting) = (&group.rules[0], &group.rules[1]);
    assert_eq!(
        recording.labels.to_string(),
        r#"{kind="recorded", n="1", team="ops"}"#
    );
    assert_eq!(&*recording.expr, "sum by (job) (up)\n");
    assert_eq!(
        alerting.labels.to_string(),
        r#"{n="1", on="true", severity="critical", team="db"}"#
    );
    let alert = alerting.alerting().unwrap();
    assert_eq!(
        (alert.hold_for, alert.keep_firing_for),
        (Duration::from_secs(300), Duration::from_secs(5400))
    );
    assert_eq!(alert.annotations.get("code"), Some("007"));
    assert_eq!(
        (alert.context.interval, alerting.line),
        (Duration::from_secs(30), 13)
    );
    assert_eq!(file.groups[1].interval, Duration::from_secs(60));
    assert_eq!(file.groups[2].rules.len(), 0);
}

#[test]
fn an_empty_file_has_no_groups() {
    for text in ["", "\n# nothing\n", "---\n", "groups:\n", "groups: []", "{}"] {
        assert_eq!(parse(text).expect(text).groups.len(), 0, "{text:?}");
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    refused(
        "groupz: []\n",
        &["rules.yml:1:1: unknown field \"groupz\"; did you mean \"groups\"?"],
    );
    refused(
        "groups:\n- name: g\n  intervall: 5s\n",
        &["rules.yml:3:3: unknown field \"intervall\"; did you mean \"interval\"?"],
    );
    refused(
        &rule("alert: A\nexpr: up\nlables: {a: b}"),
        &["rules.yml:6:5: unknown field \"lables\"; did you mean \"labels\"?"],
    );
    refused(
        &rule("alert: A\nexpr: up\nseverity: x"),
        &[
            "rules.yml:6:5: unknown field \"severity\"; known are record, alert, expr, interval, for, keep_firing_for, recover, missing, labels, annotations, levels",
        ],
    );
}

#[test]
fn broken_yaml_names_its_line() {
    for (text, line) in [
        ("groups:\n- name: 'a\n", 2),
        ("groups: {\n", 1),
        ("groups:\n\t- a\n", 2),
        ("groups:\n- name: a\n  name: b\n", 3),
    ] {
        let errors = parse(text).expect_err(text);
        assert!(
            errors.len() == 1 && errors[0].line >= line,
            "{text:?}: {errors:?}"
        );
    }
    assert!(parse_file("x", b"\xff\xfe", &GroupDefaults::default()).is_err());
}

#[test]
fn every_fault_of_a_file_is_told_with_its_place() {
    refused(
        "groups:\n- name: a\n  rules:\n  - alert: A\n    expr: sum(\n  - record: r\n    expr: up\n    for: 5m\n- name: a\n  interval: 5x\n  rules:\n  - expr: up\n  - alert: B\n    record: b\n    expr: up\n  - alert: C\n",
        &[
            "rules.yml:5:15: group \"a\", rule \"A\": could not parse expression: 1:5: parse error: unclosed left parenthesis",
            "rules.yml:8:10: group \"a\", rule \"r\": invalid field 'for' in recording rule",
            "rules.yml:10:13: group \"a\": not a duration: \"5x\"; expected numbers with units y, w, d, h, m, s, ms from large to small, such as \"1h30m\"",
            "rules.yml:12:5: group \"a\": one of 'record' or 'alert' must be set",
            "rules.yml:13:5: group \"a\": only one of 'record' and 'alert' must be set",
            "rules.yml:16:5: group \"a\", rule \"C\": field 'expr' must be set in rule",
            "rules.yml:9: group \"a\": group name \"a\" is repeated in the same file; names must be unique",
        ],
    );
}

#[test]
fn a_fault_within_an_expression_is_told_with_its_line_in_the_file() {
    let check = |expr: &str, place: &str, inner: &str| {
        let text =
            format!("groups:\n- name: a\n  rules:\n  - record: r\n    expr: {expr}\n    labels: {{}}\n");
        let expected = format!(
            "rules.yml:{place}: group \"a\", rule \"r\": could not parse expression: {inner}: parse error: unexpected \
             identifier \"bi\"; expected an operator or the end of the expression"
        );
        refused(&text, &[&expected]);
    };
    check("up bi", "5:14", "1:4");
    check("'up{a=''é''} bi'", "5:24", "1:12");
    check("|\n      up\n        + up\n      bi", "8:7", "3:1");
    check("|2-\n       up\n      bi", "7:7", "2:1");
    check(">\n      up\n      + up\n      bi", "8:7", "1:9");
    check("up\n      bi", "6:7", "1:4");
    // What cannot be followed is told with the place of the whole.
    check("\"\\x75p bi\"", "5:11", "1:4");
}

#[test]
fn templates_are_checked_when_the_file_is_read() {
    refused(
        &rule("alert: A\nexpr: up\nlabels:\n  a: '{{ $labels.x'\nannotations:\n  b: '{{ nope }}'"),
        &[
            "rules.yml:7:10: group \"g\", rule \"A\": label \"a\": template: __alert_A:1: unclosed action",
            "rules.yml:9:10: group \"g\", rule \"A\": annotation \"b\": template: __alert_A:1: function \"nope\" not defined",
        ],
    );
    refused(
        &rule("alert: A\nexpr: up\nlabels: {__name__: x}"),
        &["rules.yml:6:24: group \"g\", rule \"A\": invalid label name \"__name__\""],
    );
}

#[test]
fn levels_are_sorted_and_inherit_the_times_of_the_rule() {
    let file = parse(&rule(
        "alert: Cpu\nexpr: cpu\nfor: 5m\nlevels:\n- {level: high, when: '> 90'}\n- {level: critical, when: '> 95', for: 2m, recover: '< 90', keep_firing_for: 1m}",
    ))
    .unwrap();
    let alert = file.groups[0].rules[0].alerting().unwrap();
    let levels: Vec<(Level, u64, u64)> = alert
        .levels
        .iter()
        .map(|level| {
            (
                level.level,
                level.hold_for.as_secs(),
                level.keep_firing_for.as_secs(),
            )
        })
        .collect();
    assert_eq!(levels, [(Level::Critical, 120, 60), (Level::High, 300, 0)]);
    assert_eq!(alert.context.conditions[0].level, Some(Level::Critical));
}

#[test]
fn levels_that_make_no_sense_are_refused() {
    refused(
        &rule(
            "alert: A\nexpr: a\nlabels: {severity: x}\nlevels:\n- {level: high, when: 'over 9'}\n- {level: worst, when: '> 1'}\n- {level: low, when: '> 5', recover: '< 9'}\n- {level: low, when: '> 6'}",
        ),
        &[
            "rules.yml:8:27: group \"g\", rule \"A\": \"over 9\" is no threshold; expected an operator and a number, such as \"> 95\"",
            "rules.yml:9:15: group \"g\", rule \"A\": unknown level \"worst\"; known are critical, high, medium, low",
            "rules.yml:10:26: group \"g\", rule \"A\": recover \"< 9\" must look the other way than when \"> 5\" and not reach past it",
            "rules.yml:11:15: group \"g\", rule \"A\": level low stands there twice",
            "rules.yml:4:5: group \"g\", rule \"A\": a rule with levels must not set 'severity': it follows the level",
        ],
    );
    refused(
        &rule("alert: A\nexpr: a\nlevels: []"),
        &["rules.yml:6:13: group \"g\", rule \"A\": levels is empty; leave it out or name a level"],
    );
    refused(
        &rule("record: a\nexpr: a\nlevels:\n- {level: low, when: '> 1'}"),
        &["rules.yml:7:7: group \"g\", rule \"a\": invalid field 'levels' in recording rule"],
    );
}

#[test]
fn a_rule_that_stands_twice_is_a_warning() {
    let file = parse("groups:\n- name: g\n  rules:\n  - {alert: A, expr: up}\n  - {alert: A, expr: down}\n  - {record: A, expr: up}\n").unwrap();
    let told: Vec<String> = file.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "rules.yml:5: group \"g\", rule \"A\": a rule of this name and these labels stands in the group before it"
        ]
    );
    assert_eq!(labels::ALERT_NAME, "alertname");
}

/// Two rules of one name changed places when their files were renamed. Each took the identity of the other, so
/// what the one held was told as resolved, and again as firing after its `for`.
#[test]
fn rules_of_one_name_keep_their_identity_when_files_are_renamed_and_rules_change_places() {
    let up = "groups: [{name: a, rules: [{alert: A, expr: up == 0, for: 5m}]}]";
    let disk = "groups: [{name: b, rules: [{alert: A, expr: disk > 90}, {record: 'A', expr: up}]}]";
    let ids = |texts: [&str; 2]| {
        let groups = texts
            .iter()
            .flat_map(|text| parse(text).expect("good").groups)
            .collect();
        let set = RuleSet::new(groups, true);
        let rules = set.groups().iter().flat_map(|group| &group.rules);
        let mut ids: Vec<_> = rules.map(|rule| (rule.expr.to_string(), rule.id)).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids([up, disk]), ids([disk, up]));
    let mut different: Vec<_> = ids([up, up]).into_iter().map(|(_, id)| id).collect();
    different.dedup();
    assert_eq!(different.len(), 2);
}

/// A rule folder on a network drive was away when the program started, and its link led nowhere: the wildcard
/// matched nothing, all rules counted as removed, and every alert was told as resolved.
#[test]
fn what_a_wildcard_finds_but_nobody_can_read_is_a_fault_and_not_a_removal() {
    let folder = tempfile::tempdir().expect("folder");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), folder.path().join("a.yml")).expect("link");
    std::fs::create_dir(folder.path().join("folder.yml")).expect("folder");
    std::fs::write(folder.path().join("b.yml"), "groups: []").expect("file");
    let loaded = load(
        &["*.yml".to_owned()],
        folder.path(),
        &[],
        &GroupDefaults::default(),
    );
    let told: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("a.yml"), "{told:?}");
}

//! The same rule texts expanded by us and by Debian's promtool.
//!
//! `promtool test rules` tells the annotations it got when the expected ones differ; so the expected ones are
//! ours, and promtool's silence is the proof. On a difference the test shows promtool's words.

use std::path::Path;
use std::process::Command;

use marketprism_model::{Labels, Timestamp};
use marketprism_template::{Environment, QuerySample, QuerySource, RuleData, RuleText, expand_rule_text};

/// Texts whose outcome must be promtool's, to the byte. The rule is `up == 0`, judged at one minute past
/// the epoch for `up{instance="db-1.example.org:9100", job="x"}`.
const TEXTS: &[&str] = &[
    // Variables, fields, missing keys.
    "{{ $labels.instance }} of {{ $labels.job }} is at {{ $value }}",
    "{{ .Labels.instance }} {{ .Value }} {{ .ExternalURL }} {{ $externalURL }} {{ .ExternalLabels }}",
    "[{{ $labels.nope }}] [{{ $externalLabels.nope }}] {{ .Labels }} {{ $labels.__name__ }}",
    "{{ $ }} {{ . }}",
    "{{ $labels.nope.deeper }}",
    "{{ .Nope }}",
    "{{ .Nope.Bar | printf \"%s %s\" \"a long text\" }}",
    "{{ $value.Foo }}",
    "{{ with $labels }}{{ .job }}{{ $.Value }}{{ end }}",
    // Text, trimming, comments.
    "a {{- 1 -}} b {{ 2 }} c\n{{- /* gone */ -}}\n d {{/* gone */}} e",
    "{{ \"quoted \\\"text\\\" \\u00e9 \\x41\" }} {{ `raw \\n` }} {{ 'a' }}",
    "{{if true}}\n  x\n{{- end}}\n\n  y",
    // Numbers.
    "{{ 1000000.0 }} {{ 123456789.0 }} {{ 100000.0 }} {{ 1e20 }} {{ 1e21 }} {{ 0.0001 }} {{ 0.00001 }} {{ .5 }} {{ 1.5e3 }}",
    "{{ 0x1F }} {{ 1_000 }} {{ 0b101 }} {{ 017 }} {{ 0o17 }} {{ -5 }} {{ +5 }} {{ 0x1p-2 }}",
    // Control.
    "{{ if eq $labels.job \"x\" }}yes{{ else }}no{{ end }}",
    "{{ if false }}a{{ else if $labels.nope }}b{{ else if $labels.job }}c{{ else }}d{{ end }}",
    "{{ with $x := $labels.job }}{{ $x }}{{ . }}{{ else }}none{{ end }}{{ with $labels.nope }}a{{ else }}{{ .Value }}{{ end }}",
    "{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}",
    "{{ range $v := $labels }}<{{ $v }}>{{ end }}{{ range $externalLabels }}x{{ else }}none{{ end }}",
    "{{ range $k, $v := $labels }}{{ if eq $k \"instance\" }}{{ continue }}{{ end }}{{ $k }}{{ if eq $k \"job\" }}{{ break }}{{ end }}-{{ end }}",
    "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ $x }}{{ end }}{{ $x }}",
    "{{ $n := \"\" }}{{ range $k, $v := $labels }}{{ $n = printf \"%s%s,\" $n $k }}{{ end }}{{ $n }}",
    "{{ define \"t\" }}<{{ . }}|{{ $ }}>{{ end }}{{ template \"t\" $labels.job }}{{ template \"t\" }}",
    "{{ block \"b\" $labels }}{{ .job }}{{ end }}{{ define \"c\" }}c{{ end }}{{ template \"c\" . }}",
    "{{ define \"t\" }}{{ .arg0 }}/{{ .arg1 }}/{{ .arg2 }}{{ end }}{{ template \"t\" args $labels.job 5 }}",
    "{{ define \"t\" }}\n  {{ .Nope }}{{ end }}{{ template \"t\" . }}",
    "{{ template \"nope\" }}",
    "{{ range 1.5 }}{{ end }}",
    // Functions of Go.
    "{{ and 1 0 }} {{ and 1 2 }} {{ or 0 \"x\" }} {{ or 0 0.0 }} {{ not 0 }} {{ and false (first (query \"nope\")) }}",
    "{{ eq 1 1 }} {{ eq \"a\" \"b\" \"a\" }} {{ ne 1 2 }} {{ lt 1 2 }} {{ le 1.0 2.0 }} {{ gt \"b\" \"a\" }} {{ ge 1 2 }}",
    "{{ eq $value 1 }}",
    "{{ eq $value 0.0 }} {{ gt $value 1.5 }}",
    "{{ eq $labels $labels }}",
    "{{ lt true false }}",
    "{{ eq 1 }}",
    "{{ len \"abc\" }} {{ index \"abc\" 1 }} {{ slice \"hello\" 1 3 }} {{ len $labels }} {{ index $labels \"job\" }}[{{ index $labels \"nope\" }}]",
    "{{ index \"abc\" 5 }}",
    "{{ index $labels 5 }}",
    "{{ len 5 }}",
    "{{ slice \"hello\" 3 1 }}",
    "{{ print 1 2 \"a\" \"b\" 3 }} {{ println \"x\" 1 }} {{ html \"<a&\\\">\" }} {{ js \"it's <\" }} {{ urlquery \"a b&c\" }}",
    "{{ printf \"%v %g %e %f\" 123456789.0 123456789.0 1234.5 0.1 }} {{ printf \"%G %.3g %.10g %6.2f| %-8.1f| %+d %05d\" 1e-7 1234567.0 1234567.0 3.14159 2.5 5 42 }}",
    "{{ printf \"%x %X %o %b %c %q %U %t %T %#x %#o\" 255 255 8 5 65 65 65 true 1.5 255 8 }}",
    "{{ printf \"%s %q %x %10s|%-10s|%.2s %d %\" \"hé\" \"a\\\"b\\n\" \"hi\" \"r\" \"l\" \"trunc\" \"str\" }}",
    "{{ printf \"%d %s\" 1 }} {{ printf \"%d\" 1 2 }} {{ printf \"%[2]s %[1]s\" \"a\" \"b\" }} {{ printf \"%*d\" 5 42 }} {{ printf \"%z\" 3 }} {{ printf \"%v\" nil }}",
    "{{ printf \"%d\" $value }} {{ printf \"%s\" 1 }} {{ printf \"%v|%s\" $labels.nope $labels.nope }} {{ printf \"%.1f%%\" 12.345 }}",
    "{{ printf \"%v %v\" (args 1 \"b\") (args) }} {{ printf \"%s\" $labels }} {{ printf \"%q\" $labels }} {{ printf \"%d\" $labels }}",
    "{{ printf \"%t %d %s\" \"x\" true nil }} {{ printf \"%08.3f|%+.2e|% d|%x\" -3.14159 12345.678 5 -255 }}",
    "{{ printf \"%3c|%-3c|%03d|%+q|%#q|%6.3v\" 65 66 -5 \"é\" \"a\" 3.14159 }}",
    "{{ printf \"%!\" }} {{ printf \"%-+5d|%+v|%#v\" 7 7 7 }}",
    "{{ printf 5 }}",
    "{{ $labels.job | printf \"%s-%s\" \"a\" | toUpper | len }}",
    "{{ (index $labels \"job\") | toUpper }} {{ (print \"a\" 1) }} {{ ($labels).job }} {{ (query \"up\" | first).Value }}",
    "{{ nil }}",
    "{{ \"a\" 1 }}",
    "{{ toUpper }}",
    "{{ toUpper \"a\" \"b\" }}",
    "{{ toUpper 1 }}",
    "{{ toUpper $value }}",
    "{{ $labels.job.foo }}",
    "{{ $labels.job 1 }}",
    // Functions of Prometheus.
    "{{ query \"up\" | first | value }} {{ with query \"up\" }}{{ . | first | label \"instance\" }}{{ end }}",
    "{{ range query \"a\" | sortByLabel \"x\" }}{{ .Labels.x }}:{{ .Value }} {{ end }}{{ query \"a\" | len }}",
    "{{ first (query \"nope\") }}",
    "{{ first \"x\" }}",
    "{{ with query \"nope\" }}some{{ else }}none{{ end }}",
    "{{ range query \"a\" }}{{ strvalue . }}{{ label \"x\" . }}{{ .Nope }}{{ end }}",
    "{{ title \"hello wORLD foo_bar it's a-b\" }} {{ toUpper \"aé\" }} {{ toLower \"AÉ\" }}",
    "{{ reReplaceAll \"(.*):(\\\\d+)\" \"$2-${1}x$$ $1x $9 $\" $labels.instance }} {{ reReplaceAll \"a*\" \"-\" \"baac\" }}",
    "{{ reReplaceAll \"(?P<h>[a-z]+)-\" \"${h}_\" \"db-1\" }} {{ match \"^db\" $labels.instance }} {{ match \"x\" \"y\" }}",
    "{{ stripPort \"a:1\" }} {{ stripPort \"[::1]:80\" }} {{ stripPort \"a\" }} {{ stripPort \"::1\" }} {{ stripPort \"a:b:c\" }}",
    "{{ stripDomain \"a.b.c:1\" }} {{ stripDomain \"a.b\" }} {{ stripDomain \"1.2.3.4:80\" }} {{ stripDomain \"[::1]:80\" }} {{ stripDomain \"::1\" }} {{ stripDomain \"a\" }}",
    "{{ graphLink \"up == 0\" }} {{ tableLink \"a{b=\\\"c d\\\"}\" }}",
    "{{ safeHtml \"<b>\" }} {{ args 1 2 }} {{ parseDuration \"1h30m\" }}",
    "{{ humanize 0.0 }} {{ humanize 1 }} {{ humanize 1234567.0 }} {{ humanize 0.00012 }} {{ humanize 999999.0 }} {{ humanize \"1e30\" }} {{ humanize -1500.0 }} {{ humanize \"NaN\" }} {{ humanize \"Inf\" }} {{ humanize 12 }}",
    "{{ humanize1024 0.0 }} {{ humanize1024 1.0 }} {{ humanize1024 1048576.0 }} {{ humanize1024 1500.0 }} {{ humanize1024 -1e12 }} {{ humanize1024 0.3 }} {{ humanize1024 \"-Inf\" }}",
    "{{ humanizeDuration 0.0 }} {{ humanizeDuration 1.5 }} {{ humanizeDuration 59.999 }} {{ humanizeDuration 60 }} {{ humanizeDuration 3661.7 }} {{ humanizeDuration 90061 }} {{ humanizeDuration 0.0123 }} {{ humanizeDuration -90061 }} {{ humanizeDuration 1e-7 }} {{ humanizeDuration \"12.345678\" }} {{ humanizeDuration -0.5 }}",
    "{{ humanizePercentage 0.12345 }} {{ humanizePercentage 1.0 }} {{ humanizePercentage 12345.0 }} {{ humanizePercentage -0.00001 }}",
    "{{ humanizeTimestamp 0.0 }} {{ humanizeTimestamp 1435065584.128 }} {{ humanizeTimestamp \"NaN\" }} {{ humanizeTimestamp -1.5 }}",
    "{{ (1435065584.128 | toTime).Format \"2006-01-02 15:04:05.000 Mon Jan\" }} {{ (toTime 0).Unix }} {{ (toTime 86400).Year }}",
    "{{ (toTime 3600.0).Weekday }} {{ (toTime 3600.0).Hour }} {{ (toTime 3600.0).Month }} {{ (toTime 3600.0).UTC.Format \"Monday, 02-Jan-06 15:04:05 MST\" }}",
    "{{ humanize \"x\" }}",
    "{{ humanize $labels }}",
    "{{ humanizeTimestamp 1e30 }}",
    "{{ $value | humanize }} {{ $value | humanizePercentage }} {{ 0.5 | humanizeDuration | toUpper }}",
    "第 {{ $labels.instance }} 台主机已经宕机",
    // Without an action a text is copied.
    "plain }} text $labels",
];

struct Samples;

impl QuerySource for Samples {
    fn query(&self, expression: &str, at: Timestamp) -> Result<Vec<QuerySample>, String> {
        assert_eq!(
            at,
            Timestamp::from_millis(60_000),
            "queries are asked at the tick"
        );
        let sample = |pairs: &[(&str, &str)], value: f64| QuerySample {
            labels: Labels::from_pairs(pairs.iter().copied()),
            value: value.into(),
        };
        Ok(match expression {
            "up" => vec![QuerySample {
                labels: labels(),
                value: 0.0.into(),
            }],
            "a" => vec![
                sample(&[("__name__", "a"), ("x", "1"), ("y", "c")], 1.5),
                sample(&[("__name__", "a"), ("x", "3"), ("y", "a")], 2.0),
                sample(&[("__name__", "a"), ("x", "2"), ("y", "b")], 1e9),
            ],
            _ => Vec::new(),
        })
    }
}

fn labels() -> Labels {
    Labels::from_pairs([
        ("__name__", "up"),
        ("instance", "db-1.example.org:9100"),
        ("job", "x"),
    ])
}

fn expand(text: &str) -> String {
    let environment = Environment {
        now: Timestamp::from_millis(60_000),
        external_url: "",
        queries: Some(&Samples),
    };
    let data = RuleData::new(&labels(), 0.0, &Labels::empty(), "");
    expand_rule_text("A", text, &data, &environment)
}

fn promtool(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let run = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("promtool is missing: apt-get install prometheus");
    let words = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    (run.status.success(), words)
}

/// Quotes for YAML and, for these texts, as Go's %q does.
fn go_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out + "\""
}

/// A test of promtool: three series, one alert, and the annotations that it must have.
const TEST_HEAD: &str = r#"
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
- interval: 1m
  input_series:
  - {series: 'up{instance="db-1.example.org:9100", job="x"}', values: '0 0 0'}
  - {series: 'a{x="1", y="c"}', values: '1.5 1.5 1.5'}
  - {series: 'a{x="3", y="a"}', values: '2 2 2'}
  - {series: 'a{x="2", y="b"}', values: '1e9 1e9 1e9'}
  alert_rule_test:
  - eval_time: 1m
    alertname: A
    exp_alerts:
    - exp_labels: {instance: "db-1.example.org:9100", job: x}
      exp_annotations:
"#;

#[test]
fn rule_texts_expand_as_promtool_expands_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules =
        String::from("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n    annotations:\n");
    let mut test = TEST_HEAD.to_owned();
    for (i, text) in TEXTS.iter().enumerate() {
        rules += &format!("      t{i:03}: {}\n", go_quoted(text));
        test += &format!("        t{i:03}: {}\n", go_quoted(&expand(text)));
    }
    std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
    std::fs::write(folder.path().join("test.yml"), test).unwrap();
    let (is_equal, words) = promtool(folder.path(), &["test", "rules", "test.yml"]);
    if is_equal {
        return;
    }
    // Shows each difference by itself: promtool prints all annotations in one line.
    let Some(got) = words.split("got:[").nth(1) else {
        panic!("promtool refuses the test: {words}");
    };
    let mut differences = String::new();
    for (i, text) in TEXTS.iter().enumerate() {
        let ours = go_quoted(&expand(text));
        if !got.contains(&format!("t{i:03}={ours}")) {
            let theirs = got.split(&format!("t{i:03}=")).nth(1).unwrap_or("");
            let theirs = theirs.split(&format!(", t{:03}=", i + 1)).next().unwrap_or("");
            differences += &format!("\n{text}\n  ours   {ours}\n  theirs {theirs}\n");
        }
    }
    panic!("promtool disagrees:{differences}");
}

/// Texts that promtool refuses; our words must be its words.
const FAULTS: &[&str] = &[
    "a\n{{ nope }}",
    "{{ $x }}",
    "{{ if true }}",
    "{{ end }}",
    "{{ .a",
    "{{ \"a }}",
    "{{ `a }}",
    "{{ if }}a{{ end }}",
    "{{ (1 }}",
    "{{ 1) }}",
    "{{ 1 | 2 }}",
    "{{ break }}",
    "{{/* a }}",
    "{{ 3x }}",
    "{{ a.b@c }}",
    "{{ $labels:= }}",
    "{{ }}",
    "{{ template }}",
    "{{ , }}",
    "{{ \"a\".b }}",
    "{{ if 1 }}{{ else }}{{ else }}{{ end }}",
    "{{ .a$b }}",
    "{{ $a, $b := 1 }}",
    "{{ range $a, 1 }}{{ end }}",
    "{{ 1:2 }}",
    "{{ \"\\q\" }}",
    "{{ 08 }}",
    "{{ 99999999999999999999 }}",
    "{{ | toUpper }}",
    "{{ template \"a\" | }}",
    "{{ else }}",
    "{{ ! }}",
    "{{ é }}",
    "{{ ☃ }}",
    "{{ 1\n\n.a$b }}",
    "{{ define \"a\" }}",
    "{{ if 1 }}{{ define \"a\" }}{{ end }}{{ end }}",
    "{{ 'ab' }}",
    "{{ nil.a }}",
    "{{ if 1 }}{{ else with 1 }}{{ end }}",
];

#[test]
fn faulty_texts_are_refused_in_promtools_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = String::from("groups:\n- name: g\n  rules:\n");
    for (i, text) in FAULTS.iter().enumerate() {
        rules += &format!(
            "  - alert: F{i:03}\n    expr: up\n    annotations:\n      a: {}\n",
            go_quoted(text)
        );
    }
    std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
    let (_, words) = promtool(folder.path(), &["check", "rules", "rules.yml"]);
    for (i, text) in FAULTS.iter().enumerate() {
        let error = RuleText::parse(&format!("F{i:03}"), text)
            .expect_err(text)
            .to_string();
        assert!(words.contains(&error), "{text}\n  ours {error}\n{words}");
    }
}

//! No template can run away.

use marketprism_model::{Labels, Timestamp};
use marketprism_template::{Dialect, Environment, Limits, Template, TemplateError, Value};

fn run(text: &str, limits: Limits) -> Result<String, TemplateError> {
    let environment = Environment {
        now: Timestamp::from_millis(0),
        external_url: "http://localhost",
        queries: None,
    };
    let data = Value::Labels(Labels::from_pairs([("a", "1"), ("b", "2")]));
    Template::parse(Dialect::Prometheus, "t", text, &[])?.execute(&data, &environment, &limits)
}

fn check(text: &str, limits: Limits, words: &str) {
    let error = run(text, limits).expect_err(text).to_string();
    assert!(error.contains(words), "{text}: {error}");
}

#[test]
fn output_is_bounded_to_the_byte() {
    let limits = Limits {
        output_bytes_max: 10,
        ..Limits::default()
    };
    assert_eq!(run("{{ \"12345\" }}67890", limits).unwrap(), "1234567890");
    check("{{ \"12345\" }}67890-", limits, "more than 10 bytes of output");
}

#[test]
fn texts_that_double_end_with_an_error() {
    let doubling = "{{ $x := \"0123456789\" }}".to_owned() + &"{{ $x = printf \"%s%s\" $x $x }}".repeat(40);
    check(&doubling, Limits::default(), "bytes in one text");
    let replacing = "{{ reReplaceAll \"\" (printf \"%0999999d\" 1) (printf \"%0999999d\" 1) | len }}";
    check(replacing, Limits::default(), "bytes in one text");
}

#[test]
fn values_that_share_and_double_end_with_an_error() {
    let doubling = "{{ $x := 1 }}".to_owned() + &"{{ $x = args $x $x }}".repeat(30) + "{{ $x }}";
    check(&doubling, Limits::default(), "bytes of output");
    let deep = "{{ $x := 1 }}".to_owned() + &"{{ $x = args $x }}".repeat(100);
    check(&deep, Limits::default(), "nest deeper than 32");
}

#[test]
fn loops_and_recursion_end_with_an_error() {
    check(
        "{{ range 1000000000 }}{{ end }}",
        Limits::default(),
        "more than 1000000 steps",
    );
    check(
        "{{ define \"r\" }}{{ template \"r\" }}{{ end }}{{ template \"r\" }}",
        Limits::default(),
        "levels of calls",
    );
    let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(200), ")".repeat(200));
    check(&parentheses, Limits::default(), "levels of nesting");
    let controls = "{{ if true }}".repeat(200) + &"{{ end }}".repeat(200);
    check(&controls, Limits::default(), "levels of nesting");
}

#[test]
fn the_deepest_template_that_parses_is_expanded_on_a_small_stack() {
    let text = format!(
        "{}{{{{ {}1{} }}}}{}",
        "{{ if true }}".repeat(50),
        "(".repeat(50),
        ")".repeat(50),
        "{{ end }}".repeat(50)
    );
    let run = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(move || run(&text, Limits::default()))
        .unwrap();
    assert_eq!(run.join().unwrap().unwrap(), "1");
}

#[test]
fn parse_errors_name_the_template_and_the_line() {
    let check = |text: &str, words: &str| {
        let error = Template::parse(Dialect::Prometheus, "x", text, &[]).expect_err(text);
        assert_eq!(error.to_string(), words, "{text}");
    };
    // Words of Go 1.19, asked of promtool with the same texts.
    check("a\n{{ nope }}", "template: x:2: function \"nope\" not defined");
    check("{{ $x }}", "template: x:1: undefined variable \"$x\"");
    check("{{ if true }}", "template: x:1: unexpected EOF");
    check("{{ end }}", "template: x:1: unexpected {{end}}");
    check("{{ .a", "template: x:1: unclosed action");
    check("{{ \"a }}", "template: x:1: unterminated quoted string");
    check("{{ if }}a{{ end }}", "template: x:1: missing value for if");
    check("{{ (1 }}", "template: x:1: unclosed left paren");
    check("{{ 1) }}", "template: x:1: unexpected right paren");
    check(
        "{{ 1 | 2 }}",
        "template: x:1: non executable command in pipeline stage 2",
    );
    check("{{ break }}", "template: x:1: {{break}} outside {{range}}");
    check("{{/* a }}", "template: x:1: unclosed comment");
    check("{{ 3x }}", "template: x:1: bad number syntax: \"3x\"");
    check("{{ a.b@c }}", "template: x:1: function \"a\" not defined");
    check("{{ $labels:= }}", "template: x:1: missing value for command");
    check("{{ }}", "template: x:1: missing value for command");
    check(
        "{{ template }}",
        "template: x:1: unexpected \"}}\" in template clause",
    );
    check("{{ , }}", "template: x:1: unexpected \",\" in command");
    check(
        "{{ \"a\".b }}",
        "template: x:1: unexpected . after term \"\\\"a\\\"\"",
    );
    check(
        "{{ if 1 }}{{ else }}{{ else }}{{ end }}",
        "template: x:1: expected end; found {{else}}",
    );
}

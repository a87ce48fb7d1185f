//! No template can run away.

use marketprism_model::{Labels, Timestamp};
use marketprism_template::{Dialect, Environment, Limits, Template, TemplateError, Value};
use proptest::prelude::*;

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

/// Pieces that make templates which often parse.
const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{{- ",
    " -}}",
    "if ",
    "range ",
    "with ",
    "end",
    "else",
    "else if ",
    "define \"a\"",
    "template \"a\" ",
    "block \"b\" .",
    "break",
    "continue",
    "$x := ",
    "$x = ",
    "$i, $x := ",
    "$x",
    "$labels",
    "$value",
    ".",
    ".Labels",
    ".CommonLabels",
    ".At",
    ".Format \"2006\"",
    ".SortedPairs",
    ".a",
    "(",
    ")",
    " | ",
    ", ",
    "\"s\"",
    "`r`",
    "'c'",
    "1",
    "-0x1F",
    "1.5e3",
    "99999999999",
    "nil",
    "true",
    " ",
    "\n",
    "printf \"%v %5.2f %[1]q %*d\" ",
    "index ",
    "slice ",
    "eq ",
    "lt ",
    "and ",
    "not ",
    "len ",
    "args ",
    "humanize ",
    "humanizeDuration ",
    "toTime ",
    "reReplaceAll \"(a|b)*\" \"$1\" ",
    "title ",
    "date ",
    "join \",\" ",
    "stringSlice ",
    "toJson ",
    "since ",
    "tz \"Asia/Shanghai\" ",
    "/* c */",
    "é",
    "}",
    "{{end}}",
    "{{ end }}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_text_makes_the_parser_or_the_executor_panic(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..24),
        noise in ".{0,8}",
    ) {
        let inside = pieces.concat();
        marketprism_template::fuzz(&inside);
        marketprism_template::fuzz(&format!("{{{{{inside}}}}}"));
        marketprism_template::fuzz(&format!("{{{{ $x := 1 }}}}{{{{ range .Labels }}}}{{{{ {inside}{noise} }}}}{{{{ end }}}}"));
    }
}

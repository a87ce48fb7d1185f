//! Regular expressions here and in Go: what matches here must match in Debian's Prometheus, and nothing else.
//!
//! The peer is promtool, which evaluates `label_replace` in tests of rules. Prometheus 2.42 does not let `.` match a
//! newline, as 3 does: no value has one here.

use std::fmt::Write;
use std::process::Command;

use marketprism_model::matcher::anchored;

const INSTALL: &str = "install the peer: apt-get install -y prometheus";

const PATTERNS: &[&str] = &[
    r"\d+",
    r"\D+",
    r"\w+",
    r"\W+",
    r"\s*",
    r"\S+",
    r"[\d\s]+",
    r"[\D]+",
    r"[^\W]+",
    r"[^\s]+",
    r".*\b.",
    r".\b.*",
    r".\B.+",
    r"\B.*",
    r".*\Ba.*",
    r"(?i)\w+",
    r"(?i)[k]+",
    r"(?i)ß|STRASSE",
    r"(?i)é+",
    r"\pL+",
    r"\p{Greek}+",
    r"\P{Lu}+",
    r"\p{^Lu}+",
    r"\PL+",
    r"[\pN_]+",
    r"[[:alpha:]]+",
    r"[[:^alpha:]]+",
    r"[[:word:][:space:]]+",
    r"[a&&b]+",
    r"[[a]+",
    r"[[:]+",
    r"[!--b]+",
    r"[]a-]+",
    r"[^]]+",
    r"[a\]]+",
    r"[\x41-\x{5a}]+",
    r"[+--]",
    r"\<a\>",
    r"\Qa.b\E",
    r"a\.b",
    r"a.b",
    r"\101\x42",
    r"\0101*A?.*",
    r"a{2}",
    r"(?:a{10}b{10}){0,100}(a{2}){1,3}|aaa",
    r"a{2,}?",
    r"a{1,2}",
    r"a{,2}",
    r"a{x}",
    r"x{01}",
    r"{",
    r"}",
    r"]",
    r"(?P<x>a)(b)?",
    r"(?:a|)b",
    r"(?i:A)b",
    r"a(?i)B",
    r"(?s).+",
    r"(?U)a+",
    r"\Aa\z",
    r"^a$",
    r"a^|b",
    r"(|a)+",
    r"",
    r"\#\-\~\&\%\_",
    r"[.]",
    r"~#-&",
    r"\a|\f|\t|\v",
];

const VALUES: &[&str] = &[
    "",
    "a",
    "aa",
    "aaa",
    "ab",
    "b",
    "a.b",
    "axb",
    "A",
    "AB",
    "K",
    "\u{212a}",
    "k",
    "ſ",
    "7",
    "42 7",
    "٧",
    "é",
    "éé",
    "É",
    "éa",
    "na\u{ef}ve",
    "\u{a0}",
    " ",
    "\t",
    "\u{b}",
    "\u{2003}",
    "_",
    "a_b",
    "straße",
    "STRASSE",
    "ß",
    "ẞ",
    "Ω",
    "ωmega",
    "Ⅷ",
    "世界",
    "&",
    "a&b",
    "[",
    "]",
    "^",
    "-",
    "+",
    ",",
    "a-b",
    "<a>",
    "a{,2}",
    "a{x}",
    "x{01}",
    "{",
    "}",
    "#-~&%_",
    "~#-&",
    ".",
    "\u{7}",
];

/// What Go refuses, and the engine in use might not.
const REFUSED: &[&str] = &[
    r"\Qa.b",
    "a**",
    "a+?*",
    "a{2}{3}",
    "a{1001}",
    "(a{100}){11}",
    "((?:b|a{100}?c)*d){11,}",
    "a{3,2}",
    r"\1",
    r"\8",
    r"\e",
    r"\E",
    r"\é",
    "[z-a]",
    "[[:nope:]]",
    "[[:[:alpha:]]",
    "[[::]]",
    "(?x)a",
    "(?=a)",
    "(?<!a)b",
    "(?R)",
    "(a",
    "[a",
    r"\p{L",
    r"\p{Nope}",
    r"\x{110000}",
    r"\xg1",
    r"[\b]",
    r"\Z",
    r"\h",
    "*a",
    "(*)",
    r"\u0041",
    r"[a-\d]",
];

/// Writes a text as PromQL does.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "\"{}\"",
        escaped
            .replace('\t', "\\t")
            .replace('\u{b}', "\\v")
            .replace('\u{7}', "\\a")
    )
}

fn expression(pattern: &str, value: &str) -> String {
    let (pattern, value) = (quoted(pattern), quoted(value));
    format!(r#"label_replace(label_replace(vector(1), "v", {value}, "", ""), "m", "yes", "v", {pattern})"#)
}

/// Runs tests of expressions, each with the series that it must yield, and gives whether all held and what was said.
fn promtool(tests: &[(String, String)]) -> (bool, String) {
    let mut file = String::from("evaluation_interval: 1m\ntests:\n- interval: 1m\n  promql_expr_test:\n");
    let json = |text: &str| serde_json::to_string(text).expect("a text is JSON");
    for (expression, series) in tests {
        let (expression, series) = (json(expression), json(series));
        let _ = writeln!(
            file,
            "  - {{expr: {expression}, eval_time: 0m, exp_samples: [{{labels: {series}, value: 1}}]}}"
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("patterns.yml");
    std::fs::write(&path, file).expect("a file");
    let outcome = Command::new("promtool")
        .args(["test", "rules"])
        .arg(&path)
        .output()
        .unwrap_or_else(|error| panic!("promtool: {error}; {INSTALL}"));
    let said = [outcome.stdout, outcome.stderr].concat();
    (
        outcome.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn what_matches_here_matches_in_go() {
    let (mut tests, mut matches) = (Vec::new(), 0);
    for pattern in PATTERNS {
        let regex = anchored(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for value in VALUES {
            let is_match = regex.is_match(value);
            matches += usize::from(is_match);
            let mut labels = Vec::new();
            labels.extend(is_match.then(|| "m=\"yes\"".to_owned()));
            labels.extend((!value.is_empty()).then(|| format!("v={}", quoted(value))));
            let series = format!("{{{}}}", labels.join(", "));
            tests.push((expression(pattern, value), series));
        }
    }
    assert!(
        matches > tests.len() / 20,
        "only {matches} of {} match",
        tests.len()
    );
    let (is_success, said) = promtool(&tests);
    assert!(is_success, "{said}");
}

#[test]
fn what_go_refuses_is_refused_here() {
    let tests: Vec<(String, String)> = REFUSED
        .iter()
        .map(|pattern| (expression(pattern, "a"), "{}".to_owned()))
        .collect();
    let (_, said) = promtool(&tests);
    for pattern in REFUSED {
        assert!(anchored(pattern).is_err(), "{pattern} is taken here");
    }
    let refusals = said
        .matches("invalid regular expression in label_replace()")
        .count();
    assert_eq!(refusals, REFUSED.len(), "{said}");
}

/// Parts of random patterns, so that what is special stands next to what is special.
const PARTS: &[&str] = &[
    "a",
    "b",
    "é",
    "K",
    "1",
    "_",
    "-",
    " ",
    ".",
    "*",
    "+",
    "?",
    "|",
    "^",
    "$",
    "(",
    ")",
    "[",
    "]",
    "[^",
    "(?:",
    "(?i)",
    "(?i:",
    "(?P<n>",
    "(?s)",
    "(?U)",
    "(?-i)",
    "{",
    "}",
    "{2}",
    "{,2}",
    "{0,1}",
    ",",
    ":",
    "&&",
    "--",
    "~~",
    "[:alpha:]",
    "[:^digit:]",
    "\\d",
    "\\D",
    "\\w",
    "\\W",
    "\\s",
    "\\S",
    "\\b",
    "\\B",
    "\\A",
    "\\z",
    "\\pL",
    "\\PL",
    "\\p{Lu}",
    "\\p{^Lu}",
    "\\x41",
    "\\x{e9}",
    "\\141",
    "\\0",
    "\\.",
    "\\-",
    "\\]",
    "\\<",
    "\\>",
    "\\Q",
    "\\E",
    "\\n",
    "a-c",
    "é-ü",
    "#",
    "\"",
    "/",
    "=",
    "<",
];

#[test]
fn random_patterns_are_read_as_go_reads_them() {
    let mut state = 20_261_124u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    let mut matches = 0;
    for _ in 0..3_000 * crate::scale() {
        let pattern: String = (0..1 + next(7)).map(|_| PARTS[next(PARTS.len())]).collect();
        match anchored(&pattern) {
            // With `)$` behind it, label_replace balances what matchers refuse.
            Err(reason) if reason == "unexpected )" => {}
            Err(_) => refused.push((expression(&pattern, "a"), "{}".to_owned())),
            Ok(regex) => {
                for value in ["", "a", "aa", "B", "é", "1", "_", "a1", "-", "a b"] {
                    let is_match = regex.is_match(value);
                    matches += usize::from(is_match);
                    let mut labels = Vec::new();
                    labels.extend(is_match.then(|| "m=\"yes\"".to_owned()));
                    labels.extend((!value.is_empty()).then(|| format!("v={}", quoted(value))));
                    taken.push((expression(&pattern, value), format!("{{{}}}", labels.join(", "))));
                }
            }
        }
    }
    assert!(
        matches > taken.len() / 50 && refused.len() > 100,
        "{matches} matches of {}, {} refused",
        taken.len(),
        refused.len()
    );
    let (is_success, said) = promtool(&taken);
    assert!(is_success, "{said}");
    let (_, said) = promtool(&refused);
    let taken_there: Vec<&String> = refused
        .iter()
        .map(|(expression, _)| expression)
        .filter(|expression| {
            // Go quotes what it says of an expression.
            let told = format!("{expression:?}");
            let lines = said.lines().filter(|line| line.contains(&told));
            !lines
                .clone()
                .any(|line| line.contains("invalid regular expression in label_replace()"))
        })
        .collect();
    assert!(
        taken_there.is_empty(),
        "{} of {}: {taken_there:#?}",
        taken_there.len(),
        refused.len()
    );
}

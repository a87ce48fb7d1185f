//! What the parser takes and refuses. The bodies are written by hand after the two specifications and Prometheus'
//! lexers; `tests/it/prometheus_scrape.rs` holds the same parser against a real Prometheus.

use super::*;
use proptest::prelude::*;

/// Writes what a body says, one entry a line, or the error.
fn read(body: &str, format: Format) -> Result<Vec<String>, ParseError> {
    let mut parser = Parser::new(body.as_bytes(), format);
    let mut entries = Vec::new();
    while let Some(entry) = parser.next_entry()? {
        entries.push(match entry {
            Entry::Sample(sample) => {
                let labels = decode_series(sample.series, parser.kind())
                    .expect("accepted above")
                    .build();
                let time = sample.timestamp_ms.map_or(String::new(), |ms| format!(" @{ms}"));
                format!("{labels} {}{time}", sample.value)
            }
            Entry::Type(family, kind) => {
                format!("type {} {}", String::from_utf8_lossy(family), kind.as_str())
            }
            Entry::Help(family, text) => format!("help {} {text:?}", String::from_utf8_lossy(family)),
            Entry::Unit(family, unit) => {
                format!(
                    "unit {} {}",
                    String::from_utf8_lossy(family),
                    String::from_utf8_lossy(unit)
                )
            }
        });
    }
    Ok(entries)
}

#[track_caller]
fn check(format: Format, body: &str, expected: &[&str]) {
    assert_eq!(read(body, format).expect(body), expected, "{body}");
}

#[track_caller]
fn refuse(format: Format, body: &str, line: usize, reason: &str) {
    let error = read(body, format).expect_err(body);
    assert_eq!((error.line, error.reason), (line, reason), "{body}");
}

const TEXT: Format = Format::Prometheus;
const OPEN: Format = Format::OpenMetrics;

#[test]
fn plain_lines_are_read() {
    check(
        TEXT,
        "# HELP go_gc A \\\\ help\\n text with \\\"quotes\".\n# TYPE go_gc summary\n\
         go_gc{quantile=\"0\"} 4.9351e-05\ngo_gc{quantile=\"0.25\",} 7.424100000000001e-05\n\n\
         \t# a comment\n#nothing\n# TYPES no type\n\
         wind { a = \"b\" , c=\"\" }   7 1395066363000\t\nup -Inf\nx{a=\"1\"b=\"2\"}NaN\nlast{} +1",
        &[
            "help go_gc \"A \\\\ help\\n text with \\\\\\\"quotes\\\".\"",
            "type go_gc summary",
            "go_gc{quantile=\"0.0\"} 0.000049351",
            "go_gc{quantile=\"0.25\"} 0.00007424100000000001",
            "wind{a=\"b\"} 7 @1395066363000",
            "up -inf",
            "x{a=\"1\", b=\"2\"} NaN",
            "last 1",
        ],
    );
}

#[test]
fn escapes_and_utf8_in_values_are_read() {
    check(
        TEXT,
        "a{v=\"say \\\"hi\\\" C:\\\\dir\\nnext \\x\",w=\"日本\\\\\"} 1\nb{v=\"real\nnewline\"} 2\n",
        &[
            "a{v=\"say \\\"hi\\\" C:\\\\dir\\nnext \\\\x\", w=\"日本\\\\\"} 1",
            "b{v=\"real\\nnewline\"} 2",
        ],
    );
}

#[test]
fn quoted_names_are_read() {
    check(
        TEXT,
        "# TYPE \"http.requests\" counter\n{\"http.requests\", \"a.b\"=\"v\", k=\"w\"} 1\n{\"plain\"} 2\n{k=\"w\",\"late\"} 3\n",
        &[
            "type http.requests counter",
            "{\"http.requests\", \"a.b\"=\"v\", k=\"w\"} 1",
            "plain 2",
            "late{k=\"w\"} 3",
        ],
    );
    refuse(TEXT, "{\"a\",\"b\"} 1\n", 1, "metric name is set twice");
    refuse(TEXT, "a{\"b\"} 1\n", 1, "metric name is set twice");
    refuse(TEXT, "{a=\"b\"} 1\n", 1, "metric name is not set");
}

#[test]
fn a_broken_line_names_itself() {
    refuse(TEXT, "ok 1\nbad\nok 2\n", 2, "expected value after metric");
    refuse(TEXT, "ok 1\n\n# TYPE x count\n", 3, "unknown metric type");
    refuse(
        TEXT,
        "# HELP \nok 1\n",
        1,
        "expected metric name after HELP or TYPE",
    );
    refuse(TEXT, "a{b=\"c} 1\n", 1, "unclosed label value");
    refuse(TEXT, "a{b=c} 1\n", 1, "expected quoted label value");
    refuse(TEXT, "a{,} 1\n", 1, "expected label name");
    refuse(TEXT, "a{1b=\"c\"} 1\n", 1, "expected label name");
    refuse(TEXT, "1a 1\n", 1, "expected a metric name");
    refuse(TEXT, "a 0x10\n", 1, "value is not a number");
    refuse(TEXT, "a 1_000\n", 1, "value is not a number");
    refuse(
        TEXT,
        "a 1 2 3\n",
        1,
        "expected timestamp or end of line after value",
    );
    refuse(
        TEXT,
        "a 1 -5\n",
        1,
        "expected timestamp or end of line after value",
    );
    refuse(TEXT, "a 1 99999999999999999999\n", 1, "timestamp is out of range");
    refuse(TEXT, "a 1\r\n", 1, "value is not a number");
    let error = read(&format!("x 1\n{} 1 2 3\n", "y".repeat(500)), TEXT).expect_err("three numbers");
    assert_eq!((error.line, error.excerpt.len()), (2, 120));
}

#[test]
fn invalid_utf8_is_refused_where_it_matters_and_passed_over_in_comments() {
    let verdict = |body: &[u8]| {
        let mut parser = Parser::new(body, TEXT);
        loop {
            match parser.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err((error.line, error.reason)),
            }
        }
    };
    assert_eq!(verdict(b"# just \xff text\na{b=\"c\"} 1\n"), Ok(()));
    assert_eq!(
        verdict(b"a 1\na{b=\"\xff\"} 1\n"),
        Err((2, "unclosed label value"))
    );
    assert_eq!(verdict(b"# HELP a \xff\n"), Err((1, "help text is not UTF-8")));
}

#[test]
fn openmetrics_is_read() {
    check(
        OPEN,
        "# HELP foo_seconds A \\\"help\\\".\n# TYPE foo_seconds histogram\n# UNIT foo_seconds seconds\n\
         foo_seconds_bucket{le=\"1\"} 5 # {trace_id=\"x\",span=\"y\"} 0.5 1520879607.789\n\
         foo_seconds_bucket{le=\"1e6\"} 6 1.5 # {} 3\nfoo_seconds_bucket{le=\"+Inf\"} 7\n\
         # TYPE s stateset\ns{s=\"a\"} 1\n{\"u.v\",a=\"b\"} 2 -1.5\n# EOF\n",
        &[
            "help foo_seconds \"A \\\"help\\\".\"",
            "type foo_seconds histogram",
            "unit foo_seconds seconds",
            "foo_seconds_bucket{le=\"1.0\"} 5",
            "foo_seconds_bucket{le=\"1e+06\"} 6 @1500",
            "foo_seconds_bucket{le=\"+Inf\"} 7",
            "type s stateset",
            "s{s=\"a\"} 1",
            "{\"u.v\", a=\"b\"} 2 @-1500",
        ],
    );
    check(OPEN, "# EOF", &[]);
}

#[test]
fn openmetrics_is_strict() {
    refuse(OPEN, "", 1, "data does not end with # EOF");
    refuse(OPEN, "a 1\n", 2, "data does not end with # EOF");
    refuse(OPEN, "a 1", 1, "data does not end with # EOF");
    refuse(OPEN, "a 1\n# EOF\nb 2\n", 2, "unexpected data after # EOF");
    refuse(OPEN, "\n# EOF\n", 1, "expected a metric name");
    refuse(
        OPEN,
        "a  1\n# EOF\n",
        1,
        "expected one space and a value after metric",
    );
    refuse(OPEN, "a 1 \n# EOF\n", 1, "expected timestamp");
    refuse(
        OPEN,
        "a{b=\"c\"d=\"e\"} 1\n# EOF\n",
        1,
        "expected , or } after label value",
    );
    refuse(OPEN, "a{b=\"x\ny\"} 1\n# EOF\n", 1, "unclosed label value");
    refuse(OPEN, "a 1 NaN\n# EOF\n", 1, "timestamp is not finite");
    refuse(
        OPEN,
        "a 1 # {x=\"y\"}\n# EOF\n",
        1,
        "expected one space and a value after exemplar labels",
    );
    refuse(OPEN, "a 1 # {\"x\"} 1\n# EOF\n", 1, "metric name is set twice");
    refuse(OPEN, "# TYPE a untyped\n# EOF\n", 1, "unknown metric type");
    refuse(
        OPEN,
        "# UNIT a_bytes seconds\n# EOF\n",
        1,
        "unit is not a suffix of the metric name",
    );
    refuse(
        OPEN,
        "# hello\n# EOF\n",
        1,
        "expected HELP, TYPE, UNIT or EOF after #",
    );
}

#[test]
fn bounds_are_written_as_openmetrics_writes_them() {
    // By hand after Go's strconv 'g' format: an exponent below -4 or from 6 on.
    let bounds = [
        ("5", "5.0"),
        ("-1", "-1.0"),
        ("0", "0.0"),
        ("100000", "100000.0"),
        ("1000000", "1e+06"),
        ("1234567", "1.234567e+06"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("2.5", "2.5"),
        ("+Inf", "+Inf"),
        ("word", "word"),
    ];
    for (written, expected) in bounds {
        let series = format!("h_bucket{{le=\"{written}\",quantile=\"{written}\"}}");
        let labels = decode_series(series.as_bytes(), MetricKind::Histogram)
            .expect("a series")
            .build();
        assert_eq!(
            (labels.get("le"), labels.get("quantile")),
            (Some(expected), Some(written))
        );
        let labels = decode_series(series.as_bytes(), MetricKind::Gauge)
            .expect("a series")
            .build();
        assert_eq!(labels.get("le"), Some(written));
    }
}

#[test]
fn a_label_set_twice_names_no_series() {
    let error = decode_series(b"a{b=\"1\",b=\"2\"}", MetricKind::Unknown).expect_err("b is set twice");
    assert_eq!(error, SeriesError::Twice("b".to_owned()));
    assert_eq!(
        decode_series(b"{\"\"}", MetricKind::Unknown).expect_err("no name"),
        SeriesError::EmptyName
    );
}

#[test]
fn a_family_that_ends_within_a_character_has_no_histogram() {
    let rules = HistogramRules {
        converts_classic: true,
        ..HistogramRules::default()
    };
    let body = b"# TYPE \"a\xC3\" histogram\n{\"a\xC3\xA9_bucket\",le=\"1\"} 1\n";
    let unfolded = unfold(body, TEXT, rules).expect("readable");
    assert_eq!((&*unfolded.text, unfolded.natives.len()), (&body[..], 0));
}

#[test]
fn a_known_series_is_recognised_only_where_it_ends() {
    let next = |body: &str, raw: &str| {
        let mut parser = Parser::new(body.as_bytes(), TEXT);
        let value = parser.next_of(raw.as_bytes()).map(|sample| sample.value);
        (value, parser.position())
    };
    assert_eq!(next("foo 1\nbar 2\n", "foo"), (Some(1.0), 6));
    assert_eq!(next("foo_bar 1\n", "foo"), (None, 0));
    assert_eq!(next("foo {a=\"b\"} 1\n", "foo"), (None, 0));
    assert_eq!(next("foo{a=\"b\"} 1\n", "foo"), (None, 0));
    assert_eq!(next("foo 1 123\n", "foo"), (None, 0));
    assert_eq!(next("foo x\n", "foo"), (None, 0));
    assert_eq!(next("foo 1", "foo"), (None, 0));
}

fn value_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_map(|value| format!("{value:e}")),
        any::<i32>().prop_map(|value| value.to_string())
    ]
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

proptest! {
    #[test]
    fn what_is_written_comes_back(
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,12}",
        labels in proptest::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,8}", "\\PC{0,12}|[\"\\\\\n]{1,3}", 0..5),
        value in value_text(),
        time in proptest::option::of(0i64..4_000_000_000_000),
    ) {
        let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let series = format!("{name}{{{}}}", pairs.join(","));
        let line = match time {
            Some(ms) => format!("{series} {value} {ms}\n"),
            None => format!("{series} {value}\n"),
        };
        let mut parser = Parser::new(line.as_bytes(), TEXT);
        let entry = parser.next_entry().expect("a valid line").expect("one line");
        let Entry::Sample(sample) = entry else { panic!("not a sample: {entry:?}") };
        prop_assert_eq!(sample.series, series.as_bytes());
        prop_assert_eq!(sample.timestamp_ms, time);
        let expected: f64 = value.parse().expect("written by the standard library");
        prop_assert!(sample.value == expected || (sample.value.is_nan() && expected.is_nan()));
        let built = decode_series(sample.series, MetricKind::Unknown).expect("distinct labels").build();
        let kept: Vec<_> = labels.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let got: Vec<_> = built.iter().filter(|(n, _)| *n != "__name__").collect();
        prop_assert_eq!(got, kept);
        prop_assert_eq!(built.metric_name(), name);
    }

    #[test]
    fn any_bytes_end_in_entries_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzz::exposition(&bytes);
    }

    #[test]
    fn near_misses_end_in_entries_or_an_error(body in "([a-c{}\",=\\\\ #\n0-9.+-]|# TYPE |# HELP |# EOF\n|le=\"){0,40}") {
        crate::fuzz::exposition(body.as_bytes());
    }
}

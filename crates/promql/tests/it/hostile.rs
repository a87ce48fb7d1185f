//! Texts that nobody would write, but somebody may send.

use marketprism_model::{Labels, Timestamp};
use marketprism_promql::{
    DEPTH_MAX, Engine, EngineConfig, TEXT_BYTES_MAX, Uninterrupted, Value, fuzz, parse,
};
use proptest::prelude::*;

use crate::scale;
use marketprism_promql::memory::Memory;

#[test]
fn expressions_nest_as_deep_as_allowed_and_no_deeper() {
    // Every way to nest, repeated: before, in the middle, after.
    let ways = [
        ("(", "a", ")"),
        ("-", "a", ""),
        ("sum(", "a", ")"),
        ("abs(", "a", ")"),
        ("a + ", "a", ""),
        ("a ^ ", "a", ""),
        ("a or ", "a", ""),
        ("", "a", " unless a"),
        ("topk(1, ", "a", ")"),
        ("topk(scalar(", "a", "), a)"),
        ("max_over_time(", "a", "[1m:1m])"),
        ("(a > bool ", "a", ")"),
    ];
    for (before, middle, after) in ways {
        for depth in [1, 16, DEPTH_MAX / 4, DEPTH_MAX - 2, DEPTH_MAX + 1, 10 * DEPTH_MAX] {
            let text = format!("{}{middle}{}", before.repeat(depth), after.repeat(depth));
            if depth > DEPTH_MAX {
                let error = parse(&text).expect_err("deeper than allowed");
                assert!(
                    error.message.contains("nests deeper"),
                    "{before}…{after}: {error}"
                );
                assert!(error.position.is_some());
            } else {
                // Some ways take two levels each, and then it is refused too; what is accepted must also
                // survive printing and evaluating.
                fuzz::evaluate(&text);
            }
        }
        let text = format!(
            "{}{middle}{}",
            before.repeat(DEPTH_MAX / 4),
            after.repeat(DEPTH_MAX / 4)
        );
        parse(&text).unwrap_or_else(|error| panic!("{before}…{after}: {error}"));
    }
}

#[test]
fn long_texts_are_refused_before_they_cost_anything() {
    let error = parse(&" ".repeat(TEXT_BYTES_MAX + 1)).expect_err("too long");
    assert!(error.to_string().contains("exceeds"), "{error}");
    assert!(parse(&format!("{}a", " ".repeat(TEXT_BYTES_MAX - 1))).is_ok());
}

#[test]
fn durations_and_numbers_out_of_range_are_refused_with_their_place() {
    let check = |text: &str, position: usize| {
        let error = parse(text).expect_err(text);
        assert_eq!(error.position, Some(position), "{text}: {error}");
    };
    check("a[1h5000000000000ms]", 2);
    check("a[1000y]", 2);
    check("a[1e300]", 2);
    check("a[NaN]", 2);
    check("a[Inf]", 2);
    check("a offset 1e300", 9);
    check("a offset - Inf", 9);
    check("a[5m:5000000000000ms]", 5);
    check("a[5m:NaN]", 5);
    check("a offset # a comment\n1e300", 21);
    check("a[5m", 4);
    check("sum(a))", 7);
    check("a{b=\"c}", 4);
}

#[test]
fn labels_cannot_be_doubled_without_end() {
    let mut text = "a".to_owned();
    for _ in 0..40 {
        text = format!(r#"label_join({text}, "job", "", "job", "job")"#);
    }
    fuzz::evaluate(&text);
}

#[rustfmt::skip]
const WORDS: &[&str] = &[
    "a", "b_total", "c_bucket", "{", "}", "(", ")", "[", "]", "5m", "1m:", "30s", ":", ",", "job", "=",
    "!=", "=~", "\"j\"", "'x'", "`.*`", "le", "1", "0.5", "-1", "1e9", "NaN", "Inf", "+", "-", "*", "/",
    "%", "^", "==", ">", "<=", "and", "or", "unless", "atan2", "bool", "on", "ignoring", "group_left",
    "group_right", "by", "without", "offset", "@", "start()", "end()", "sum", "avg", "topk", "quantile",
    "count_values", "stddev", "rate", "increase", "irate", "delta", "deriv", "max_over_time",
    "quantile_over_time", "absent_over_time", "absent", "scalar", "vector", "time()", "label_replace",
    "label_join", "histogram_quantile", "sort", "timestamp", "hour", "clamp", "round", "\"$1\"", "#", "\n",
    "é", "\\", "{__name__=~\".+\"}", "rate(b_total[5m])", "sum by (job) (a)", "(a)", "a[5m]", "a[5m:1m]", "@
    300", "offset -1m",
];

/// A careless join must end at its first ambiguity, not after pairing everything with everything.
#[test]
fn a_join_of_all_with_all_fails_before_it_costs_anything() {
    let memory = Memory::default();
    for series in 0..30_000 {
        let labels = [("__name__", "m"), ("series", &series.to_string())];
        memory.append(&Labels::from_pairs(labels), Timestamp::from_millis(0), 1.0);
    }
    let engine = Engine::new(EngineConfig::default());
    for query in [
        "m + on () m",
        "m + on () group_left () m",
        "m + on () group_right (series) m",
    ] {
        let prepared = engine.prepare(&parse(query).expect(query));
        let outcome = engine.instant(&memory, &prepared, Timestamp::from_millis(0), &Uninterrupted);
        let error = outcome.expect_err("ambiguous").to_string();
        assert!(
            error.contains("many-to-many matching not allowed"),
            "{query}: {error}"
        );
    }
    // One on the right, all on the left: that is allowed, and linear.
    let prepared = engine.prepare(&parse("count(m + on () group_left () sum(m))").expect("valid"));
    let outcome = engine
        .instant(&memory, &prepared, Timestamp::from_millis(0), &Uninterrupted)
        .expect("answers");
    assert!(matches!(&outcome.value, Value::Vector(found) if found[0].value == 30_000.0));
}

/// Pieces of the language, put together at random: sometimes they make sense.
fn pieces() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(WORDS), 1..14).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000 * scale() as u32))]

    #[test]
    fn no_sequence_of_words_makes_it_panic(text in pieces()) {
        fuzz::evaluate(&text);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}") {
        fuzz::evaluate(&text);
    }
}

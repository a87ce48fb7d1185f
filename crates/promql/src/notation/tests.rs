//! Expected values were worked out from the documented notation, by hand.

use std::sync::Arc;

use marketprism_model::{BucketSpan, Histogram, Labels, ResetHint, sample};
use proptest::prelude::*;

use super::{
    NotationError, NotedSeries, NotedValue, VALUES_MAX, parse_metric, parse_series, write_histogram,
};
use crate::fuzz;

fn series(text: &str) -> NotedSeries {
    parse_series(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> NotationError {
    parse_series(text).expect_err(text)
}

/// The numbers as bits, so that NaN and the stale mark equal themselves.
fn check(values: &str, expected: &[Option<f64>]) {
    let found: Vec<Option<u64>> = series(&format!("a {values}"))
        .values
        .iter()
        .map(|value| {
            value.as_ref().map(|value| match value {
                NotedValue::Number(number) => number.to_bits(),
                NotedValue::Histogram { .. } => panic!("{values} holds a histogram"),
            })
        })
        .collect();
    let expected: Vec<Option<u64>> = expected.iter().map(|value| value.map(f64::to_bits)).collect();
    assert_eq!(found, expected, "{values}");
}

fn histograms(text: &str) -> Vec<Arc<Histogram>> {
    series(text)
        .values
        .into_iter()
        .map(|value| match value {
            Some(NotedValue::Histogram { histogram, .. }) => histogram,
            other => panic!("{other:?} is no histogram"),
        })
        .collect()
}

#[test]
fn numbers_stand_alone_repeat_and_step() {
    check("", &[]);
    check(
        "1 -2 +3 0.5 .5",
        &[Some(1.0), Some(-2.0), Some(3.0), Some(0.5), Some(0.5)],
    );
    check("5x2", &[Some(5.0); 3]);
    check("5x0", &[Some(5.0)]);
    check("1+2x3", &[Some(1.0), Some(3.0), Some(5.0), Some(7.0)]);
    check("1-2x2", &[Some(1.0), Some(-1.0), Some(-3.0)]);
    check("-1-0.5x1", &[Some(-1.0), Some(-1.5)]);
    check("1e2 1E-2x1", &[Some(100.0), Some(0.01), Some(0.01)]);
    check("1e2+1e1x1", &[Some(100.0), Some(110.0)]);
    check(
        "1_000 010 08 0x1",
        &[Some(1000.0), Some(8.0), Some(8.0), Some(0.0), Some(0.0)],
    );
    check("\t1   2 ", &[Some(1.0), Some(2.0)]);
}

#[test]
fn words_stand_for_what_no_digits_can() {
    check("_ _x2 _x0 1", &[None, None, None, Some(1.0)]);
    check("stale", &[Some(sample::stale_nan())]);
    check(
        "NaN nan Inf -iNf +INF",
        &[
            Some(f64::NAN),
            Some(f64::NAN),
            Some(f64::INFINITY),
            Some(f64::NEG_INFINITY),
            Some(f64::INFINITY),
        ],
    );
}

#[test]
fn a_metric_has_a_name_and_labels_in_either_spelling() {
    let check = |text: &str, pairs: &[(&str, &str)]| {
        let expected = Labels::from_pairs(pairs.iter().copied());
        assert_eq!(series(&format!("{text} 1")).labels, expected, "{text}");
        assert_eq!(parse_metric(text), Ok(expected), "{text}");
    };
    check("a", &[("__name__", "a")]);
    check("a:b_c{}", &[("__name__", "a:b_c")]);
    check("sum{by=\"on\"}", &[("__name__", "sum"), ("by", "on")]);
    check("{}", &[]);
    check("{x=\"y\",}", &[("x", "y")]);
    check("{\"a.b\", \"c d\"='e'}", &[("__name__", "a.b"), ("c d", "e")]);
    check(
        r#"a{b="\"\\\n\x41\101\u00e9\U0001F600"}"#,
        &[("__name__", "a"), ("b", "\"\\\nAA\u{e9}\u{1F600}")],
    );
    check(r"a{b=`\n`}", &[("__name__", "a"), ("b", r"\n")]);
    check("a{__name__=\"b\"}", &[("__name__", "a")]);
    assert_eq!(parse_metric(""), Ok(Labels::empty()));
    assert_eq!(parse_metric(" a { b = \"c\" } "), parse_metric("a{b=\"c\"}"));
}

#[test]
fn a_histogram_has_every_key() {
    let text = "a {{schema:1 sum:-0.3 count:3.1 z_bucket:7.1 z_bucket_w:0.05 buckets:[5.1 10 7] offset:-3 \
                n_buckets:[4 1e1] n_offset:2 counter_reset_hint:gauge}}";
    let found = &histograms(text)[0];
    assert_eq!((found.schema, found.sum, found.count), (1, -0.3, 3.1));
    assert_eq!((found.zero_count, found.zero_threshold), (7.1, 0.05));
    assert_eq!(
        found.positive.spans,
        [BucketSpan {
            offset: -3,
            length: 3
        }]
    );
    assert_eq!(found.positive.counts, [5.1, 10.0, 7.0]);
    assert_eq!(found.negative.spans, [BucketSpan { offset: 2, length: 2 }]);
    assert_eq!(found.negative.counts, [4.0, 10.0]);
    assert_eq!(found.reset_hint, ResetHint::Gauge);
    let custom =
        &histograms("a {{SCHEMA:-53 custom_values:[5 10 Inf] buckets:[1 4 ] sum:-Inf count:NaN }}")[0];
    assert_eq!(custom.schema, -53);
    assert_eq!(*custom.custom_bounds, [5.0, 10.0, f64::INFINITY]);
    assert!(custom.sum == f64::NEG_INFINITY && custom.count.is_nan());
    assert_eq!(*histograms("a {{}}")[0], Histogram::default());
    assert_eq!(*histograms("a {{ }}")[0], Histogram::default());
}

#[test]
fn a_hint_counts_only_where_it_is_written() {
    let noted = |text: &str| -> Vec<bool> {
        let flag = |value: &Option<NotedValue>| {
            matches!(
                value,
                Some(NotedValue::Histogram {
                    is_hint_noted: true,
                    ..
                })
            )
        };
        series(text).values.iter().map(flag).collect()
    };
    assert_eq!(noted("a {{}} {{counter_reset_hint:unknown}}"), [false, true]);
    assert_eq!(noted("a {{}}+{{counter_reset_hint:reset}}x1"), [true, true]);
    assert_eq!(noted("a {{counter_reset_hint:reset}}+{{}}x1"), [false, false]);
}

#[test]
fn histograms_repeat_and_step() {
    let repeated = histograms("a {{count:2 buckets:[2]}}x2");
    assert_eq!(repeated.len(), 3);
    assert!(Arc::ptr_eq(&repeated[0], &repeated[2]));
    let risen = histograms("a {{sum:1 count:1 buckets:[1]}}+{{sum:2 count:3 buckets:[1 2]}}x2");
    let shape = |h: &Arc<Histogram>| (h.sum, h.count, h.positive.counts.clone());
    assert_eq!(
        risen.iter().map(shape).collect::<Vec<_>>(),
        [
            (1.0, 1.0, vec![1.0]),
            (3.0, 4.0, vec![2.0, 2.0]),
            (5.0, 7.0, vec![3.0, 4.0]),
        ]
    );
    let fallen = histograms("a {{count:5 z_bucket:5}}-{{count:1 z_bucket:1}}x1");
    assert_eq!((fallen[1].count, fallen[1].zero_count), (4.0, 4.0));
    // Two buckets of schema 1 are one of schema 0.
    let coarser = histograms("a {{buckets:[1] offset:1}}+{{schema:1 buckets:[10 20] offset:1}}x1");
    assert_eq!(
        (coarser[1].schema, coarser[1].positive.counts.clone()),
        (0, vec![31.0])
    );
}

#[test]
fn what_is_no_series_is_refused_where_it_fails() {
    let check = |text: &str, column: usize, message: &str| {
        let error = error(text);
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    };
    check("", 1, "metric");
    check("5 1", 1, "metric");
    check("a{b} 1", 4, "\"=\"");
    check("a{b=\"c\" d=\"e\"} 1", 9, "\",\" or \"}\"");
    check("a{b=\"c\",b=\"d\"} 1", 14, "given twice");
    check("a{b=\"c} 1", 5, "unterminated");
    check("a{b=\"\\q\"} 1", 6, "unknown escape");
    check("a{b=\"\\xff\"} 1", 5, "UTF-8");
    check("a {b=\"c\"} 1", 3, "series values");
    check("a 1,2", 4, "a space between values");
    check("a 1x", 5, "repetitions");
    check("a 1x-3", 5, "repetitions");
    check("a 1x1.5", 5, "repetitions");
    check("a 1+2", 6, "\"x\"");
    check("a 1 + 2x3", 6, "number");
    check("a 5m", 3, "bad number syntax");
    check("a 1..2", 3, "bad number syntax");
    check("a 1__2", 3, "bad number syntax");
    check("a 1e999", 3, "bad number syntax");
    check("a stalex3", 3, "unexpected \"stalex3\"");
    check("a é", 3, "unexpected \"é\"");
    check("a NaNx3", 3, "unexpected \"NaNx3\"");
    check("a {{sum:1 sum:2}}", 11, "duplicate key");
    check("a {{sums:1}}", 5, "bad histogram descriptor");
    check("a {{sum}}", 8, "missing `:`");
    check("a {{sum:+1}}", 9, "number");
    check("a {{sum:1", 10, "histogram description key");
    check("a {{buckets:[]}}", 14, "number");
    check("a {{buckets:[1 +2]}}", 16, "invalid character");
    check("a {{schema:1.5}}", 12, "whole number");
    check("a {{schema:99999999999}}", 12, "beyond");
    check("a {{counter_reset_hint:perhaps}}", 24, "not_reset");
    check("a {{}}+5x3", 8, "{{ }}");
    check("a {{}}+{{}}", 12, "\"x\"");
    check(
        "a {{schema:1}}+{{schema:0}}x1",
        30,
        "cannot merge from schema 0 to 1",
    );
    assert_eq!(
        error("a\n  1 q").to_string(),
        "2:5: parse error: unexpected \"q\" in series values, expected number or \"stale\""
    );
}

#[test]
fn what_it_expands_to_is_bounded() {
    assert_eq!(series(&format!("a _x{VALUES_MAX}")).values.len(), VALUES_MAX);
    for text in [
        "a _x1000001",
        "a 1x1000000",
        "a 1+1x18446744073709551615",
        "a _x18446744073709551616",
        "a 1x999999 1",
        "a {{}}x18446744073709551615",
        "a {{}}+{{}}x999999",
    ] {
        assert!(parse_series(text).is_err(), "{text}");
    }
}

#[test]
fn a_histogram_reads_back_as_it_is_written() {
    for text in [
        "{{}}",
        "{{schema:2 count:14 sum:-2.5 z_bucket:1 z_bucket_w:0.001 counter_reset_hint:not_reset offset:-2 buckets:[1 0 4] n_offset:1 n_buckets:[8]}}",
        "{{schema:-53 count:1e+06 sum:NaN custom_values:[0.1 1 1e-05] buckets:[5]}}",
    ] {
        let found = &histograms(&format!("a {text}"))[0];
        assert_eq!(write_histogram(found), text);
    }
    // What counts nothing at either end is not written.
    let found = &histograms("a {{offset:3 buckets:[0 0 1.5 0]}}")[0];
    assert_eq!(write_histogram(found), "{{offset:5 buckets:[1.5]}}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Pieces of the notation, put together at random.
    #[test]
    fn no_text_makes_it_panic(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..14)) {
        fuzz::notation(&format!("a{{b=\"c\"}} {}", pieces.concat()));
        fuzz::notation(&pieces.concat());
    }
}

#[rustfmt::skip]
const PIECES: &[&str] = &[
    " ", " ", " ", "{{", "}}", "{{count:1 buckets:[1 2]}}", "{{schema:-53 custom_values:[1 2] buckets:[1 0 3]}}", "+", "-",
    "x", "x3", "x99", "_", "1", "0.5", "-7", "Inf", "NaN", "stale", "schema:", "2", "sum:", "offset:", "-3", "n_offset:",
    "n_buckets:[4 5]", "z_bucket:1", "z_bucket_w:0.1", "counter_reset_hint:gauge", "custom_values:[1]", "[", "]", "a", "{", "}",
    "b=\"c\"", ",", "\"", "'", "\\", "é", "2147483647", "1e308", "_x1000000", ".", "\n",
];

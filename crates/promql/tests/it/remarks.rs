//! Remarks on queries: their words, and the places in the text that they name.
//!
//! Source of the words and of which part is named: Prometheus 3, `util/annotations`.

use std::time::Duration;

use marketprism_model::{Labels, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_promql::{Answer, Engine, EngineConfig, Uninterrupted, parse};

const NOT_COUNTER: &str =
    "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: ";

fn memory() -> Memory {
    let memory = Memory::new();
    let put = |labels: Labels, value: fn(i64) -> f64| {
        (0..=10).for_each(|minute| {
            memory.append(&labels, Timestamp::from_millis(minute * 60_000), value(minute));
        });
    };
    for name in ["a", "b"] {
        put(Labels::from_pairs([("__name__", name)]), |minute| minute as f64);
    }
    // From le="1" on, the counts fall by 3, and the last is high again.
    put(
        Labels::from_pairs([("__name__", "h_bucket"), ("le", "0.5")]),
        |_| 10.0,
    );
    put(
        Labels::from_pairs([("__name__", "h_bucket"), ("le", "1")]),
        |_| 7.0,
    );
    put(
        Labels::from_pairs([("__name__", "h_bucket"), ("le", "2")]),
        |_| 8.0,
    );
    put(
        Labels::from_pairs([("__name__", "h_bucket"), ("le", "+Inf")]),
        |_| 20.0,
    );
    put(
        Labels::from_pairs([("__name__", "bad_bucket"), ("le", "x")]),
        |_| 1.0,
    );
    memory
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_millis(minute * 60_000)
}

fn instant(query: &str) -> Answer {
    let engine = Engine::new(EngineConfig::default());
    let prepared = engine.prepare_written(&parse(query).expect(query), query);
    engine
        .instant(&memory(), &prepared, at(10), &Uninterrupted)
        .expect(query)
}

fn over_range(query: &str) -> Answer {
    let engine = Engine::new(EngineConfig::default());
    let prepared = engine.prepare_written(&parse(query).expect(query), query);
    let step = Duration::from_secs(60);
    engine
        .range(&memory(), &prepared, at(8), at(10), step, &Uninterrupted)
        .expect(query)
}

fn check(query: &str, expected: &[&str]) {
    let answer = instant(query);
    let found: Vec<&String> = answer.warnings.iter().chain(&answer.infos).collect();
    assert_eq!(found, expected, "{query}");
}

#[test]
fn remarks_name_line_and_column() {
    let counter = |name: &str, place: &str| format!("{NOT_COUNTER}\"{name}\" ({place})");
    let one = |query: &str, place: &str| check(query, &[&counter("a", place)]);
    one("rate(a[5m])", "1:6");
    one("1 + increase( (a[5m]) )", "1:16");
    one("1 +\n  # why\n  sum(rate(\n\ta[5m]))", "4:2");
    // Columns count bytes, as they do in Prometheus.
    one(
        "label_replace(rate(a[5m]), \"é\", \"\", \"\", \"\") + rate(a[4m] offset 1m)",
        "1:53",
    );
    check(
        "rate(a[5m]) / rate(b[5m])",
        &[&counter("a", "1:6"), &counter("b", "1:20")],
    );
}

#[test]
fn a_remark_is_told_once_at_its_last_place() {
    let counter = |place: &str| format!("{NOT_COUNTER}\"a\" ({place})");
    let one = |query: &str, place: &str| check(query, &[&counter(place)]);
    one("rate(a[5m]) + rate(a[4m])", "1:20");
    one("rate(a[5m]) + rate(a[5m])", "1:20");
    one("rate(a[5m]) + rate(a[4m]) + rate(a[5m])", "1:34");
    one("rate(a[4m]) + (rate(a[4m]) + rate(a[5m]))", "1:35");
    // A parameter is evaluated before the vector, a scalar on the left before what is on the right.
    one("topk(scalar(rate(a[5m])) + 1, rate(a[4m]))", "1:36");
    one("scalar(rate(a[5m])) * rate(a[4m])", "1:28");
}

#[test]
fn each_query_of_a_session_names_its_own_places() {
    let (memory, engine) = (memory(), Engine::new(EngineConfig::default()));
    let texts = ["rate(a[5m])", "100 *\n rate(a[5m])", "sum(rate(a[5m]))"];
    let prepared = texts.map(|text| engine.prepare_written(&parse(text).expect(text), text));
    let mut session = engine.session(&memory, at(10), &Uninterrupted);
    let places = ["1:6", "2:7", "1:10"];
    for (query, place) in prepared.iter().zip(places) {
        let answer = session.evaluate(query).expect(place);
        assert_eq!(answer.infos, [format!("{NOT_COUNTER}\"a\" ({place})")]);
    }
}

#[test]
fn parameters_are_named_where_they_stand() {
    let quantile = |phi: &str, place: &str| {
        format!("PromQL warning: quantile value should be between 0 and 1, got {phi} ({place})")
    };
    check("quantile(2, a)", &[&quantile("2", "1:10")]);
    check("quantile by (x) ((-0.5), a)", &[&quantile("-0.5", "1:19")]);
    check("quantile(NaN, a)", &[&quantile("NaN", "1:10")]);
    check("quantile_over_time(1e7, a[5m])", &[&quantile("1e+07", "1:20")]);
    check(
        "limit_ratio(-1.5, a)",
        &["PromQL warning: ratio value should be between -1 and 1, got -1.5, capping to -1 (1:13)"],
    );
    // Over a range, an aggregation tells its extremes, not each value.
    let answer = over_range("quantile(time() - 540, a)");
    assert_eq!(answer.warnings, [quantile("-60", "1:10"), quantile("60", "1:10")]);
}

#[test]
fn buckets_that_had_to_be_fixed_are_counted() {
    let fixed = |count: u32, from: &str| {
        format!(
            "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see \
             https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name \
             \"h_bucket\", from buckets 1 to 2, with a max diff of 3, over {count} samples from \
             1970-01-01T00:{from}:00Z to 1970-01-01T00:10:00Z (1:25)"
        )
    };
    let query = "histogram_quantile(0.9, h_bucket)";
    assert_eq!(instant(query).infos, [fixed(1, "10")]);
    assert_eq!(over_range(query).infos, [fixed(3, "08")]);
    check(
        "histogram_quantile(0.9, bad_bucket)",
        &[
            "PromQL warning: bucket label \"le\" is missing or has a malformed value of \"x\" for metric name \
             \"bad_bucket\" (1:25)",
        ],
    );
}

#[test]
fn sorting_over_a_range_is_remarked_at_the_call() {
    let answer = over_range("1 * sort_by_label(a, \"x\")");
    assert_eq!(
        answer.warnings,
        [
            "PromQL warning: sort is ineffective for range queries since results are always ordered by labels (1:5)"
        ]
    );
    assert!(instant("sort(a)").warnings.is_empty());
}

#[test]
fn long_lists_are_cut_for_whoever_asks() {
    let mut remarks: Vec<String> = (0..12).map(|n| n.to_string()).collect();
    marketprism_promql::cut_remarks(&mut remarks, 10, "info");
    assert_eq!(remarks.len(), 11);
    assert_eq!(remarks[10], "2 more info annotations omitted");
    let mut few = vec!["a".to_owned(); 10];
    marketprism_promql::cut_remarks(&mut few, 10, "warning");
    assert_eq!(few.len(), 10);
}

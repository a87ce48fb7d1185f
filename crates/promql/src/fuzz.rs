//! The whole room as a plain function for fuzzing: any text, no panic, bounded work.

mod choices;
mod grammar;
mod program;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use marketprism_model::{Histogram, Labels, Timestamp, sample};

use crate::answer::{Answer, QueryError, Series, Value};
use crate::ast::{Expr, ExprKind, ValueType};
use crate::engine::{Engine, EngineConfig, Uninterrupted};
use crate::memory::Memory;
use crate::notation::{NotedValue, parse_metric, parse_series, write_histogram};
use crate::parse::{TEXT_BYTES_MAX, parse};
use crate::plan::Prepared;
use crate::tree::tree_json;

/// The samples of every series, one each 15 s; some series end, some hold NaN and infinities.
const STEP_MS: i64 = 15_000;
const SAMPLES: usize = 40;

/// The limits under which a fuzzed expression is evaluated.
pub const SAMPLES_MAX: u64 = 50_000;
/// See [`SAMPLES_MAX`].
pub const BYTES_MAX: u64 = 8 << 20;

/// A few series with which most expressions find something to do: numbers, classic and native histograms.
pub fn series() -> &'static Memory {
    static SERIES: LazyLock<Memory> = LazyLock::new(make_series);
    &SERIES
}

fn make_series() -> Memory {
    let shapes: [fn(usize) -> f64; 4] = [
        |at| at as f64 * 3.5,
        |at| (at % 7) as f64 - 3.0,
        |at| if at % 5 == 0 { f64::NAN } else { f64::INFINITY },
        |at| if at > 20 { sample::stale_nan() } else { 1.0 },
    ];
    let memory = Memory::new();
    let names = [
        ("a", ""),
        ("b_total", ""),
        ("c_bucket", "0.5"),
        ("c_bucket", "+Inf"),
    ];
    for (place, shape) in shapes.iter().enumerate() {
        for (name, le) in names {
            let instance = place.to_string();
            let labels = Labels::from_pairs([
                ("__name__", name),
                ("job", "j"),
                ("instance", &instance),
                ("le", le),
            ]);
            for at in 0..SAMPLES {
                memory.append(&labels, Timestamp::from_millis(at as i64 * STEP_MS), shape(at));
            }
        }
    }
    for text in NOTED {
        let series = parse_series(text).expect("the series of this module are well written");
        let step = Duration::from_millis(STEP_MS.unsigned_abs());
        memory.load(&series, Timestamp::from_millis(0), step);
    }
    memory
}

/// Histograms of every kind, resets, gaps and changes of their shape; and what `info` looks for.
#[rustfmt::skip]
const NOTED: [&str; 9] = [
    r#"exponential{job="j", instance="0"} {{schema:1 count:4 sum:6 z_bucket:1 z_bucket_w:0.5 buckets:[1 2]}}+{{schema:1 count:4 sum:6 z_bucket:1 z_bucket_w:0.5 buckets:[1 2]}}x40"#,
    r#"exponential{job="j", instance="1"} {{count:8 sum:-2 buckets:[1 0 2] n_buckets:[3 2]}}x9 {{count:1 sum:1 offset:3 buckets:[1]}}+{{count:1 sum:1 offset:3 buckets:[1]}}x20"#,
    r#"exponential{job="j", instance="2"} _x20 {{schema:-1 count:3 sum:NaN buckets:[3]}}x9 stale {{schema:3 count:2 sum:Inf z_bucket:2}}x5"#,
    r#"custom{job="j", instance="0"} {{schema:-53 count:4 sum:7 custom_values:[1 2 4] buckets:[1 2 1]}}+{{schema:-53 count:4 sum:7 custom_values:[1 2 4] buckets:[1 2 1]}}x40"#,
    r#"custom{job="j", instance="1"} {{schema:-53 count:3 sum:7 custom_values:[1 3] buckets:[1 1 1]}}x20 {{schema:-53 count:6 sum:9 custom_values:[0.5 1 2] offset:1 buckets:[3 3]}}x10"#,
    r#"mixed{job="j", instance="0"} 1 2 {{count:2 sum:2 buckets:[2]}}x9 7+1x10 {{schema:-53 count:1 sum:1 custom_values:[1] buckets:[1]}}x9"#,
    r#"gauge_histogram{job="j", instance="0"} {{count:4 sum:4 buckets:[4] counter_reset_hint:gauge}} {{count:2 sum:1 buckets:[2] counter_reset_hint:gauge}}x20"#,
    r#"target_info{job="j", instance="0", version="1"} 1x40"#,
    r#"target_info{job="j", instance="1", version="2"} 1x9 stale"#,
];

/// Makes an expression of some bytes that finds something to calculate, and evaluates it.
///
/// # Panics
/// As [`evaluate`].
pub fn program(bytes: &[u8]) {
    evaluate(&program_text(bytes));
}

/// The expression that some bytes make for [`program`].
pub fn program_text(bytes: &[u8]) -> String {
    /// Longer expressions only repeat what shorter ones have.
    const INPUT_BYTES_MAX: usize = 96;
    program::expression(&bytes[..bytes.len().min(INPUT_BYTES_MAX)])
}

/// Makes a sentence of the language of some bytes, and reads it.
///
/// # Panics
/// When it is not read, or what is printed does not read back as the same expression.
pub fn sentence(bytes: &[u8]) {
    /// Longer sentences only repeat what shorter ones have.
    const BYTES_MAX: usize = 512;
    let text = grammar::sentence(&bytes[..bytes.len().min(BYTES_MAX)]);
    match parse(&text) {
        Ok(expr) => check_printed(&text, &expr),
        // A length of time may have as many parts as an expression has levels.
        Err(error) => assert!(error.message.contains("nests deeper"), "{text:?}: {error}"),
    }
}

/// The sentence that some bytes make.
#[cfg(test)]
pub(crate) fn text_of(bytes: &[u8]) -> String {
    grammar::sentence(bytes)
}

/// Reads what is printed, on one line and on many.
fn check_printed(text: &str, expr: &Expr) {
    for printed in [expr.to_string(), expr.pretty()] {
        // Deep expressions may need more space to stand over lines than is looked at.
        if printed.len() > TEXT_BYTES_MAX {
            continue;
        }
        match parse(&printed) {
            Ok(again) => assert!(
                again == *expr,
                "{text:?} prints as {printed:?}, which reads as {again}"
            ),
            Err(error) => panic!("{text:?} prints as {printed:?}: {error}"),
        }
    }
    let _ = tree_json(expr);
}

/// Reads a series of a rule test.
///
/// # Panics
/// When a histogram does not read back as it is written.
pub fn notation(text: &str) {
    let _ = parse_metric(text);
    let Ok(series) = parse_series(text) else {
        return;
    };
    // Few are enough: the others are steps of these.
    for value in series.values.iter().flatten().take(64) {
        if let NotedValue::Histogram { histogram, .. } = value {
            let written = write_histogram(histogram);
            let again =
                parse_series(&format!("a {written}")).unwrap_or_else(|error| panic!("{written}: {error}"));
            match &again.values[..] {
                [Some(NotedValue::Histogram { histogram: again, .. })] => {
                    assert_eq!(write_histogram(again), written, "{text:?}");
                }
                other => panic!("{written} reads as {other:?}"),
            }
        }
    }
}

/// Parses a text and, when it is an expression, evaluates it over a few series: at an instant, over a
/// range, at each step of that, and twice in a session.
///
/// # Panics
/// When what is printed does not read back as the same expression, a session answers otherwise than an evaluation
/// alone, or a step of a range otherwise than the instant: then something has been found.
pub fn evaluate(text: &str) {
    let expr = match parse(text) {
        Ok(expr) => expr,
        Err(error) => {
            let start = error.span.start as usize;
            assert!(
                start <= text.len() && !error.to_string().is_empty(),
                "{text:?}: {error}"
            );
            return;
        }
    };
    check_printed(text, &expr);
    let config = EngineConfig {
        samples_max: SAMPLES_MAX,
        bytes_max: BYTES_MAX,
        steps_max: 100,
        ..EngineConfig::default()
    };
    let (engine, source) = (Engine::new(config), series());
    let prepared = engine.prepare(&expr);
    let at = Timestamp::from_millis(SAMPLES as i64 * STEP_MS);
    let alone = engine.instant(source, &prepared, at, &Uninterrupted);
    check_steps(&engine, source, &prepared);
    let mut session = engine.session(source, at, &Uninterrupted);
    for _ in 0..2 {
        let together = session.evaluate(&prepared);
        let (alone, together) = (format!("{alone:?}"), format!("{together:?}"));
        // A session that has calculated a part already reads less, and may succeed where one alone may not.
        let is_limited = alone.contains("TooMany") || together.contains("TooMany");
        assert!(
            is_limited || alone == together,
            "{text:?}: alone {alone}, in a session {together}"
        );
    }
}

/// Evaluates over a range, and each step of it as an instant.
fn check_steps(engine: &Engine, source: &Memory, query: &Prepared) {
    const FIRST_MS: i64 = 60_000;
    const LAST_MS: i64 = SAMPLES as i64 * STEP_MS;
    const DISTANCE_MS: i64 = 45_000;
    let moment = Timestamp::from_millis;
    let step = Duration::from_millis(DISTANCE_MS.unsigned_abs());
    let range = engine.range(
        source,
        query,
        moment(FIRST_MS),
        moment(LAST_MS),
        step,
        &Uninterrupted,
    );
    let text = query.expr().to_string();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // As in Prometheus, the parameter of an aggregation stands still where what is aggregated does; and which of equal
    // values are chosen hangs on the order of rows, which is another over a range.
    let may_compare = !has(&[
        "start()", "end()", "step()", "range()", "topk", "bottomk", "limitk",
    ]) && !has_calculated_parameter(query.expr());
    let moments = (FIRST_MS..=LAST_MS).step_by(DISTANCE_MS as usize).map(moment);
    if !may_compare || !matches!(query.expr().value_type(), ValueType::Vector | ValueType::Scalar) {
        return;
    }
    let mut instants = Vec::new();
    for at in moments {
        let instant = engine.instant(source, query, at, &Uninterrupted);
        if is_limited(&instant) || is_limited(&range) {
            return;
        }
        instants.push((at, instant));
    }
    let series = match &range {
        Ok(Answer {
            value: Value::Matrix(series),
            ..
        }) => series,
        Ok(answer) => panic!("{text}: {answer:?} over a range"),
        Err(error) => {
            let fails = instants.iter().any(|(_, instant)| instant.is_err());
            assert!(fails, "{text}: a range fails with {error}, and no step of it");
            return;
        }
    };
    for (at, instant) in instants {
        let instant =
            instant.unwrap_or_else(|error| panic!("{text}: a range answers, and at {at} fails {error}"));
        let (over_range, alone) = (step_of(series, at), instant_of(&instant.value));
        assert!(
            over_range == alone,
            "{text} at {at}:\n over a range {over_range:?}\n alone {alone:?}"
        );
    }
}

/// Says whether an aggregation has a parameter that is no number.
fn has_calculated_parameter(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Aggregate(aggregate) => {
            let is_written = |param: &Expr| {
                matches!(
                    param.without_parens().kind,
                    ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::Text(_)
                )
            };
            !aggregate.param.as_ref().is_none_or(is_written) || has_calculated_parameter(&aggregate.expr)
        }
        ExprKind::Subquery(subquery) => has_calculated_parameter(&subquery.expr),
        ExprKind::Call(_, arguments) => arguments.iter().any(has_calculated_parameter),
        ExprKind::Binary(binary) => {
            has_calculated_parameter(&binary.left) || has_calculated_parameter(&binary.right)
        }
        ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => {
            has_calculated_parameter(inner)
        }
        _ => false,
    }
}

fn is_limited(answer: &Result<Answer, QueryError>) -> bool {
    matches!(answer, Err(error) if format!("{error:?}").contains("TooMany"))
}

/// A value as a text, in which every NaN is the same and nothing else is.
fn cell(value: f64, histogram: Option<&Arc<Histogram>>) -> String {
    match histogram {
        Some(histogram) => format!("{histogram:?}"),
        None => format!("{value:?}"),
    }
}

fn step_of(series: &[Series], at: Timestamp) -> BTreeMap<Labels, String> {
    let mut cells = BTreeMap::new();
    for series in series {
        let numbers = series
            .points
            .iter()
            .map(|point| (point.timestamp, cell(point.value, None)));
        let histograms = series
            .histograms
            .iter()
            .map(|(at, histogram)| (*at, cell(0.0, Some(histogram))));
        let found: Vec<String> = numbers
            .chain(histograms)
            .filter(|(moment, _)| *moment == at)
            .map(|(_, cell)| cell)
            .collect();
        assert!(found.len() < 2, "{} has two values at {at}", series.labels);
        cells.extend(found.into_iter().map(|cell| (series.labels.clone(), cell)));
    }
    cells
}

fn instant_of(value: &Value) -> BTreeMap<Labels, String> {
    match value {
        Value::Scalar(value) => BTreeMap::from([(Labels::empty(), cell(*value, None))]),
        Value::Vector(samples) => samples
            .iter()
            .map(|sample| {
                (
                    sample.labels.clone(),
                    cell(sample.value, sample.histogram.as_ref()),
                )
            })
            .collect(),
        Value::Text(_) | Value::Matrix(_) => BTreeMap::new(),
    }
}

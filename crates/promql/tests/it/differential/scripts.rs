//! Our scripts, asked of the peer: what they expect is not ours alone.
//!
//! What 2.42 cannot know is told by the query (functions, operators and spellings that came later) or by the series
//! (native histograms, which were another thing then); what it answers otherwise is listed below, one by one.

use marketprism_model::{Labels, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_promql::{ExprKind, InstantSample, Series, Value, parse};
use serde_json::Value as Json;

use super::known::NEW_FUNCTIONS;
use super::peer::Prometheus;
use crate::coverage::{names, scripts};
use crate::script::{Command, Eval, When, commands, millis};

/// What came after 2.42.
const NEW_NAMES: [&str; 12] = [
    "calculated length",
    "anchored",
    "duration as number",
    "fill",
    "fill_left",
    "fill_right",
    "limit_ratio",
    "limitk",
    "smoothed",
    "</",
    ">/",
    "double_exponential_smoothing",
];

const OPEN: &str = "windows are open on the left since 3.0";

/// Evals that 2.42 answers otherwise, their first moment, and why.
const DIFFERENT: &[(&str, &str, &str)] = &[
    ("sum(big)", "0", "sums are compensated"),
    ("changes(c_total[20s])", "50s", OPEN),
    ("resets(c_total[20s])", "50s", OPEN),
    (
        r#"label_replace(w * 2, "metric", "$1", "__name__", "(.*)")"#,
        "0",
        "names are dropped at the end",
    ),
    (
        "0x1F + 1e2 + .5 + 1_000 + 010",
        "0",
        "numbers may have underscores",
    ),
    (r#"sum_over_time(a{x="1"}[3m:])"#, "3m", OPEN),
    (r#"sum_over_time(a{x="1"}[1m:30s] @ 120 offset 1m)"#, "5m", OPEN),
    (r#"a{i="1"} atan2 b"#, "0", "2.42 keeps the name after atan2"),
    (
        "t + on (job, i) (u offset 0s)",
        "0",
        "2.42 refuses an offset of nothing",
    ),
    (r#"increase(c_total{x="reset"}[5m])"#, "5m", OPEN),
    (r#"delta(c_total{x="reset"}[5m])"#, "5m", OPEN),
    (r#"max_over_time(g{x="a"}[2m])"#, "0", OPEN),
    (r#"min_over_time(g{x="a"}[3m])"#, "0", OPEN),
    (r#"rate(g{x="a"}[1m:30s])"#, "5m", OPEN),
    (r#"up{instance="b"}"#, "14m", OPEN),
    (r#"count_over_time(up{instance="b"}[2m])"#, "4m", OPEN),
    (r#"up{instance="b"}[2m]"#, "4m", OPEN),
    (r#"sum_over_time(up{instance="b"}[2m:1m] @ 240)"#, "9m", OPEN),
];

/// Says why 2.42 cannot answer a query as 3 does, where the query tells.
fn is_new(eval: &Eval, memory: &Memory) -> Option<String> {
    let expr = parse(&eval.query).ok()?;
    let names = names(&expr);
    let new = names
        .iter()
        .find(|name| NEW_FUNCTIONS.contains(name) || NEW_NAMES.contains(name));
    if let Some(name) = new {
        return Some((*name).to_owned());
    }
    let selectors = expr.selectors();
    let mut reads_histograms = false;
    memory.each(|labels, samples| {
        reads_histograms |= !samples.histograms.is_empty()
            && selectors.iter().any(|selector| {
                selector
                    .matchers
                    .iter()
                    .all(|matcher| matcher.matches_labels(labels))
            });
    });
    if reads_histograms {
        return Some("native histograms".to_owned());
    }
    let is_quoted = |text: &str| text.contains("{\"") || text.contains(", \"") && !text.contains('(');
    if is_quoted(&eval.query) {
        return Some("quoted names".to_owned());
    }
    matches!(expr.kind, ExprKind::Paren(ref inner) if matches!(inner.kind, ExprKind::Text(_)))
        .then(|| "a text in parentheses".to_owned())
}

/// The peer's answer in our form.
fn value(data: &Json) -> Value {
    let number = |pair: &Json| pair[1].as_str().expect("a value").parse().expect("a number");
    let moment =
        |pair: &Json| Timestamp::from_millis((pair[0].as_f64().expect("a moment") * 1000.0).round() as i64);
    let labels = |series: &Json| {
        let labels = series["metric"].as_object().expect("labels").iter();
        Labels::from_pairs(labels.map(|(name, value)| (name.as_str(), value.as_str().expect("a text"))))
    };
    let result = &data["result"];
    match data["resultType"].as_str() {
        Some("scalar") => Value::Scalar(number(result)),
        Some("string") => Value::Text(result[1].as_str().expect("a text").to_owned()),
        Some("vector") => {
            let samples = result
                .as_array()
                .expect("a list")
                .iter()
                .map(|sample| InstantSample {
                    labels: labels(sample),
                    timestamp: moment(&sample["value"]),
                    value: number(&sample["value"]),
                    histogram: None,
                });
            Value::Vector(samples.collect())
        }
        _ => {
            let series = result.as_array().expect("a list").iter().map(|series| Series {
                labels: labels(series),
                points: series["values"]
                    .as_array()
                    .expect("values")
                    .iter()
                    .map(|pair| marketprism_model::Sample {
                        timestamp: moment(pair),
                        value: number(pair),
                    })
                    .collect(),
                histograms: Vec::new(),
            });
            Value::Matrix(series.collect())
        }
    }
}

/// Says whether the peer gives what the eval expects.
fn check(prometheus: &mut Prometheus, eval: &Eval) -> Result<(), String> {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let answer = match eval.when {
        When::Instant(at) => prometheus.ask_json(&eval.query, seconds(at)),
        When::Range { start, end, step } => {
            prometheus.ask_range_json(&eval.query, seconds(start), seconds(end), seconds(step))
        }
    };
    match (answer, eval.expected.must_fail()) {
        (Ok(_), true) => Err("it does not fail".to_owned()),
        (Err(_), true) => Ok(()),
        (Err(error), false) => Err(error),
        (Ok(data), false) => eval.expected.check_value(&value(&data), &eval.when),
    }
}

#[test]
fn scripts_expect_what_prometheus_answers() {
    let (mut agreed, mut new, mut failures, mut listed) = (0, 0, Vec::new(), Vec::new());
    for path in scripts() {
        let script = std::fs::read_to_string(&path).expect("a script");
        let (mut memory, mut prometheus) = (Memory::new(), None);
        for command in commands(&script).expect("a script") {
            let eval = match command {
                Command::Clear => {
                    (memory, prometheus) = (Memory::new(), None);
                    continue;
                }
                Command::Load(load) => {
                    load.fill(&memory).expect("a script that runs");
                    // Older samples than the newest are not taken: what is there is written anew.
                    prometheus = None;
                    continue;
                }
                Command::Eval(eval) => eval,
            };
            if is_new(&eval, &memory).is_some() {
                new += 1;
                continue;
            }
            let prometheus = prometheus.get_or_insert_with(|| {
                let mut prometheus = Prometheus::start();
                prometheus.fill_numbers(&memory);
                prometheus
            });
            let difference = DIFFERENT
                .iter()
                .position(|(query, at, _)| *query == eval.query && millis(at) == Ok(eval.when.first()));
            match (check(prometheus, &eval), difference) {
                (Ok(()), None) => agreed += 1,
                (Err(_), Some(place)) => listed.push(place),
                (Ok(()), Some(place)) => {
                    let (query, _, why) = DIFFERENT[place];
                    failures.push(format!("{query} is answered alike, though {why}"))
                }
                (Err(why), None) => failures.push(format!(
                    "{}:{} {}\n    {why}",
                    path.display(),
                    eval.line,
                    eval.query
                )),
            }
        }
    }
    println!(
        "{agreed} evals agreed, {new} are new, {} differ as listed, {} do not agree",
        listed.len(),
        failures.len()
    );
    let unasked = DIFFERENT
        .iter()
        .enumerate()
        .filter(|(place, _)| !listed.contains(place));
    failures
        .extend(unasked.map(|(_, (query, at, _))| format!("{query} at {at} is listed and does not differ")));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(agreed > 150, "only {agreed} evals were compared");
}

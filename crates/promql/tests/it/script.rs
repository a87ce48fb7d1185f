//! Runs scripts in Prometheus' test language: `load`, `clear`, `eval`, `expect`.
//!
//! Source: the README of `promql/promqltest` in prometheus/prometheus. Both the old spelling
//! (`eval_fail`, `eval_ordered`) and the new (`expect fail`) are read. Each instant query also runs as
//! the middle step of a range query, and the two must agree.

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_model::{Labels, Timestamp, duration, matcher, sample};
use marketprism_promql::{Answer, Engine, EngineConfig, Expr, Uninterrupted, Value, parse};

use crate::memory::Memory;

/// What became of one `eval`.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    Passed,
    /// Not run, because it needs what we deliberately do not have.
    Skipped(&'static str),
    Failed(String),
}

/// One `eval` and its outcome.
#[derive(Debug)]
pub struct Report {
    pub line: usize,
    pub query: String,
    pub outcome: Outcome,
}

/// A value of a series line; `None` where the script leaves a gap.
type Point = Option<f64>;

#[derive(Default)]
struct Expected {
    series: Vec<(Labels, Vec<Point>)>,
    scalar: Option<f64>,
    text: Option<String>,
    range_vector: Option<(i64, i64, i64)>,
    is_ordered: bool,
    has_histograms: bool,
    /// (`fail`, `warn`, `info`, `no_warn`, `no_info`; how the message is given; the message)
    remarks: Vec<(String, String, String)>,
}

enum When {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

/// Runs a script and reports on each of its evals.
pub fn run(script: &str) -> Vec<Report> {
    let lines: Vec<&str> = script
        .lines()
        .map(|line| {
            if line.trim_start().starts_with('#') {
                ""
            } else {
                line.trim_end()
            }
        })
        .collect();
    let mut runner = Runner {
        memory: Memory::default(),
        beyond: Vec::new(),
        reports: Vec::new(),
    };
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim();
        let block: Vec<&str> = lines[at + 1..]
            .iter()
            .map(|line| line.trim())
            .take_while(|line| !line.is_empty() && !is_command(line))
            .collect();
        if line == "clear" {
            (runner.memory, runner.beyond) = (Memory::default(), Vec::new());
            at += 1;
        } else if let Some(step) = line.strip_prefix("load") {
            runner.load(step, &block);
            at += 1 + block.len();
        } else if line.starts_with("eval") {
            runner.eval(at + 1, line, &block);
            at += 1 + block.len();
        } else {
            assert!(line.is_empty(), "line {}: {line:?} is no command", at + 1);
            at += 1;
        }
    }
    runner.reports
}

fn is_command(line: &str) -> bool {
    line == "clear" || line.starts_with("load ") || line.starts_with("load_") || line.starts_with("eval")
}

struct Runner {
    memory: Memory,
    /// Series that hold what we do not have, and what that is.
    beyond: Vec<(Labels, &'static str)>,
    reports: Vec<Report>,
}

impl Runner {
    fn load(&mut self, step: &str, block: &[&str]) {
        let is_native = step.starts_with("_with_nhcb");
        let step = millis(step.trim_start_matches("_with_nhcb").trim());
        for line in block {
            if let Some((series, _)) = line.split_once("@st") {
                self.beyond.push((line_of_series(series).0, "start timestamps"));
                continue;
            }
            let (labels, points) = line_of_series(line);
            if line.contains("{{") {
                self.beyond.push((labels, "native histograms"));
                continue;
            }
            if is_native {
                let name = labels
                    .metric_name()
                    .strip_suffix("_bucket")
                    .unwrap_or(labels.metric_name())
                    .to_owned();
                self.beyond
                    .push((labels.without("le").with("__name__", &name), "native histograms"));
            }
            for (place, point) in points.iter().enumerate() {
                if let Some(value) = point {
                    self.memory.append(&labels, place as i64 * step, *value);
                }
            }
        }
    }

    fn eval(&mut self, line: usize, command: &str, block: &[&str]) {
        let (kind, rest) = command.split_once(' ').expect("eval has arguments");
        let (query, when) = query_of(rest.trim());
        let mut expected = expectations(block);
        match kind.strip_prefix("eval_") {
            Some("fail") => expected
                .remarks
                .push(("fail".into(), String::new(), String::new())),
            Some("warn") => expected
                .remarks
                .push(("warn".into(), String::new(), String::new())),
            Some("info") => expected
                .remarks
                .push(("info".into(), String::new(), String::new())),
            Some("ordered") => expected.is_ordered = true,
            _ => {}
        }
        let outcome = self.outcome(query, &when, &expected);
        self.reports.push(Report {
            line,
            query: query.to_owned(),
            outcome,
        });
    }

    fn outcome(&self, query: &str, when: &When, expected: &Expected) -> Outcome {
        if expected.has_histograms {
            return Outcome::Skipped("native histograms");
        }
        if let Some(reason) = beyond(query) {
            return Outcome::Skipped(reason);
        }
        let must_fail = expected.remarks.iter().find(|(kind, ..)| kind == "fail");
        let expr = match parse(query) {
            Ok(expr) => expr,
            Err(_) if must_fail.is_some() => return Outcome::Passed,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let reads = |labels: &Labels| {
            let selectors = expr.selectors();
            selectors
                .iter()
                .any(|s| s.matchers.iter().all(|m| m.matches_labels(labels)))
        };
        if let Some((_, reason)) = self.beyond.iter().find(|(labels, _)| reads(labels)) {
            return Outcome::Skipped(reason);
        }
        match (self.ask(&expr, when), must_fail) {
            (Err(error), Some((_, how, message))) => {
                let found = error.to_string();
                if says(how, message, &found) {
                    Outcome::Passed
                } else {
                    Outcome::Failed(format!("failed with {found:?} instead of {message:?}"))
                }
            }
            (Err(error), None) => Outcome::Failed(error.to_string()),
            (Ok(answer), Some(_)) => Outcome::Failed(format!("did not fail: {answer:?}")),
            (Ok(answer), None) => match compare(&answer, when, expected) {
                Err(difference) => Outcome::Failed(difference),
                Ok(()) => self.compare_as_range(&expr, when, &answer),
            },
        }
    }

    fn ask(&self, expr: &Expr, when: &When) -> Result<Answer, marketprism_promql::QueryError> {
        let engine = Engine::new(EngineConfig::default());
        let prepared = engine.prepare(expr);
        let moment = Timestamp::from_millis;
        match *when {
            When::Instant(at) => engine.instant(&self.memory, &prepared, moment(at), &Uninterrupted),
            When::Range { start, end, step } => {
                let step = Duration::from_millis(step as u64);
                engine.range(
                    &self.memory,
                    &prepared,
                    moment(start),
                    moment(end),
                    step,
                    &Uninterrupted,
                )
            }
        }
    }

    /// Asks an instant query once more as the middle of a range, where it must answer the same.
    fn compare_as_range(&self, expr: &Expr, when: &When, answer: &Answer) -> Outcome {
        let When::Instant(at) = *when else {
            return Outcome::Passed;
        };
        let Value::Vector(instant) = &answer.value else {
            return Outcome::Passed;
        };
        let text = expr.to_string();
        if text.contains("start()") || text.contains("end()") {
            return Outcome::Passed;
        }
        let range = When::Range {
            start: at - 60_000,
            end: at + 60_000,
            step: 60_000,
        };
        // Its neighbours may fail where the step itself does not.
        let Ok(Answer {
            value: Value::Matrix(series),
            ..
        }) = self.ask(expr, &range)
        else {
            return Outcome::Passed;
        };
        let mut found = BTreeMap::new();
        for series in series {
            for point in series.points.iter().filter(|p| p.timestamp.millis() == at) {
                found.insert(series.labels.clone(), point.value);
            }
        }
        let expected: BTreeMap<Labels, f64> = instant
            .iter()
            .map(|sample| (sample.labels.clone(), sample.value))
            .collect();
        let agrees = found.len() == expected.len()
            && found
                .iter()
                .zip(&expected)
                .all(|((l1, v1), (l2, v2))| l1 == l2 && is_close(*v1, *v2));
        if agrees {
            Outcome::Passed
        } else {
            Outcome::Failed(format!("over a range {found:?}, at the instant {expected:?}"))
        }
    }
}

/// Names what a query needs that we deliberately do not have.
fn beyond(query: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 17] = [
        ("anchored", "extended range selectors"),
        ("smoothed", "extended range selectors"),
        ("histogram_quantiles", "experimental function"),
        ("histogram_avg", "native histograms"),
        ("histogram_count", "native histograms"),
        ("histogram_sum", "native histograms"),
        ("histogram_std", "native histograms"),
        ("info(", "experimental function"),
        ("limit_ratio", "experimental aggregation"),
        ("start_timestamp", "experimental function"),
        ("max_of(", "experimental function"),
        ("min_of(", "experimental function"),
        ("step()", "duration expression"),
        ("range()", "duration expression"),
        ("</", "native histograms"),
        (">/", "native histograms"),
        ("\"\\xff\"", "text that is not UTF-8"),
    ];
    let lower = query.to_ascii_lowercase();
    if let Some((_, reason)) = WORDS.iter().find(|(word, _)| lower.contains(word)) {
        return Some(reason);
    }
    let is_called = |word: &str| {
        let places = lower.match_indices(word);
        places
            .into_iter()
            .any(|(at, _)| !lower[..at].trim_end().ends_with('@'))
    };
    if is_called("start()") || is_called("end()") {
        return Some("experimental function");
    }
    let is_calculated = |text: &str| text.contains(['+', '*', '/', '%', '^', '(']) || text[1..].contains('-');
    let brackets = lower.split('[').skip(1).filter_map(|rest| rest.split_once(']'));
    let has_calculated_range = brackets
        .into_iter()
        .any(|(inner, _)| inner.len() > 1 && is_calculated(inner));
    let has_calculated_offset = lower.contains("offset (") || lower.contains("offset -(");
    (has_calculated_range || has_calculated_offset).then_some("duration expression")
}

fn query_of(rest: &str) -> (&str, When) {
    if let Some(rest) = rest.strip_prefix("instant") {
        let rest = rest.trim();
        let (at, query) = match rest.strip_prefix("at ") {
            Some(rest) => rest.trim().split_once(' ').expect("a query follows the moment"),
            None => ("0", rest),
        };
        return (query.trim(), When::Instant(millis(at)));
    }
    let rest = rest
        .strip_prefix("range from ")
        .expect("eval is instant or range");
    let (start, rest) = rest.split_once(" to ").expect("a range has an end");
    let (end, rest) = rest.split_once(" step ").expect("a range has a step");
    let (step, query) = rest.trim().split_once(' ').expect("a query follows the step");
    let (start, end, step) = (millis(start.trim()), millis(end.trim()), millis(step));
    (query.trim(), When::Range { start, end, step })
}

fn millis(text: &str) -> i64 {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text),
    };
    if let Ok(seconds) = text.parse::<f64>() {
        return sign * (seconds * 1000.0).round() as i64;
    }
    sign * duration::parse(text).expect("a duration").as_millis() as i64
}

fn expectations(block: &[&str]) -> Expected {
    let mut expected = Expected::default();
    for line in block {
        if let Some(rest) = line.strip_prefix("expect range vector from ") {
            let (start, rest) = rest.split_once(" to ").expect("a range has an end");
            let (end, step) = rest.split_once(" step ").expect("a range has a step");
            expected.range_vector = Some((millis(start), millis(end), millis(step)));
        } else if let Some(text) = line.strip_prefix("expect string ") {
            expected.text = Some(unquoted(text.trim()).0);
        } else if line.starts_with("expected_fail_message") || line.starts_with("expected_fail_regexp") {
            let (how, message) = line.split_once(' ').unwrap_or((line, ""));
            let how = if how == "expected_fail_message" {
                "msg"
            } else {
                "regex"
            };
            expected
                .remarks
                .push(("fail".into(), how.into(), message.trim().to_owned()));
        } else if let Some(rest) = line.strip_prefix("expect ") {
            let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            if kind == "ordered" {
                expected.is_ordered = true;
                continue;
            }
            let (how, message) = rest.split_once(':').unwrap_or(("", ""));
            expected
                .remarks
                .push((kind.into(), how.trim().into(), message.trim().into()));
        } else if line.contains("{{") {
            expected.has_histograms = true;
        } else if let Ok(scalar) = line.parse::<f64>() {
            expected.scalar = Some(scalar);
        } else {
            expected.series.push(line_of_series(line));
        }
    }
    expected
}

/// Says whether a message is the expected one; its position at the end does not count.
fn says(how: &str, expected: &str, found: &str) -> bool {
    let without_position = |text: &str| -> String {
        let text = text.trim();
        let start = [" (", " \\("].iter().filter_map(|open| text.rfind(open)).max();
        match start {
            Some(start) if text[start..].contains(':') && text.ends_with(')') => text[..start].to_owned(),
            _ => text.to_owned(),
        }
    };
    match how {
        "msg" => [expected.to_owned(), without_position(expected)]
            .iter()
            .any(|e| e.eq_ignore_ascii_case(found)),
        "regex" => [expected.to_owned(), without_position(expected)]
            .iter()
            .any(|pattern| {
                let pattern = pattern.trim_end_matches('$').trim_start_matches('^');
                let regex = matcher::anchored(&format!(".*{pattern}.*")).expect("a valid pattern");
                regex.is_match(found)
            }),
        _ => true,
    }
}

fn compare(answer: &Answer, when: &When, expected: &Expected) -> Result<(), String> {
    for (kind, how, message) in &expected.remarks {
        let found = if kind.ends_with("warn") {
            &answer.warnings
        } else {
            &answer.infos
        };
        match kind.as_str() {
            "no_warn" | "no_info" if found.is_empty() => {}
            "warn" | "info" if found.iter().any(|found| says(how, message, found)) => {}
            _ => return Err(format!("expected {kind} {message:?}, found {found:?}")),
        }
    }
    for (kind, found) in [("warn", &answer.warnings), ("info", &answer.infos)] {
        let of_kind: Vec<_> = expected.remarks.iter().filter(|(k, ..)| k == kind).collect();
        let is_expected = |found: &String| of_kind.iter().any(|(_, how, message)| says(how, message, found));
        if !of_kind.is_empty() && !found.iter().all(is_expected) {
            return Err(format!("unexpected {kind} among {found:?}"));
        }
    }
    match &answer.value {
        Value::Text(text) => match &expected.text {
            Some(expected) if expected == text => Ok(()),
            other => Err(format!("{text:?} instead of {other:?}")),
        },
        Value::Scalar(value) => match expected.scalar {
            Some(expected) if is_close(expected, *value) => Ok(()),
            other => Err(format!("{value} instead of {other:?}")),
        },
        Value::Vector(samples) => {
            let found: Vec<_> = samples
                .iter()
                .map(|s| (s.labels.clone(), vec![(0, s.value)]))
                .collect();
            let wanted = expected.series.iter().map(|(labels, points)| {
                (
                    labels.clone(),
                    vec![(0, points.first().copied().flatten().unwrap_or(f64::NAN))],
                )
            });
            same_series(found, wanted.collect(), expected.is_ordered)
        }
        Value::Matrix(series) => {
            let (start, step) = match (when, expected.range_vector) {
                (_, Some((start, _, step))) => (start, step),
                (When::Range { start, step, .. }, None) => (*start, *step),
                (When::Instant(at), None) => (*at, 1),
            };
            let found = series.iter().map(|s| {
                (
                    s.labels.clone(),
                    s.points.iter().map(|p| (p.timestamp.millis(), p.value)).collect(),
                )
            });
            let wanted = expected.series.iter().map(|(labels, points)| {
                let points = points.iter().enumerate();
                let present =
                    points.filter_map(|(place, value)| value.map(|v| (start + place as i64 * step, v)));
                (labels.clone(), present.collect::<Vec<_>>())
            });
            // A series of gaps alone is there only to be read.
            same_series(
                found.collect(),
                wanted.filter(|(_, points)| !points.is_empty()).collect(),
                false,
            )
        }
    }
}

type Line = (Labels, Vec<(i64, f64)>);

fn same_series(mut found: Vec<Line>, mut wanted: Vec<Line>, is_ordered: bool) -> Result<(), String> {
    if !is_ordered {
        found.sort_by(|a, b| a.0.cmp(&b.0));
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let same = found.len() == wanted.len()
        && found
            .iter()
            .zip(&wanted)
            .all(|((labels, points), (wanted_labels, wanted_points))| {
                labels == wanted_labels
                    && points.len() == wanted_points.len()
                    && points
                        .iter()
                        .zip(wanted_points)
                        .all(|(found, wanted)| found.0 == wanted.0 && is_close(found.1, wanted.1))
            });
    if same {
        Ok(())
    } else {
        Err(format!("found {found:?}, expected {wanted:?}"))
    }
}

fn is_close(a: f64, b: f64) -> bool {
    if a == b || a.is_nan() && b.is_nan() {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < 1e-6 * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < 1e-6
}

/// Reads `name{label="value"} 1 2+3x4 _ stale`.
fn line_of_series(line: &str) -> (Labels, Vec<Point>) {
    let name_end = line
        .find(|c: char| c == '{' || c.is_whitespace())
        .unwrap_or(line.len());
    let (name, mut rest) = line.split_at(name_end);
    let mut pairs: Vec<(String, String)> = Vec::new();
    if !name.is_empty() {
        pairs.push(("__name__".into(), name.into()));
    }
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner.trim_start();
        while !rest.starts_with('}') {
            let (key, after) = if rest.starts_with(['"', '\'', '`']) {
                let (key, length) = unquoted(rest);
                (key, rest[length..].trim_start())
            } else {
                let end = rest
                    .find(|c: char| c == '=' || c.is_whitespace())
                    .expect("a label has a value");
                (rest[..end].to_owned(), rest[end..].trim_start())
            };
            rest = match after.strip_prefix('=') {
                Some(after) => {
                    let after = after.trim_start();
                    let (value, length) = unquoted(after);
                    pairs.push((key, value));
                    after[length..].trim_start()
                }
                None => {
                    pairs.push(("__name__".into(), key));
                    after
                }
            };
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        rest = &rest[1..];
    }
    let points = if line.contains("{{") {
        Vec::new()
    } else {
        rest.split_whitespace().flat_map(points_of).collect()
    };
    (Labels::from_pairs(pairs), points)
}

/// Reads a quoted text; gives it and how many bytes it took.
fn unquoted(text: &str) -> (String, usize) {
    let quote = text.chars().next().expect("a quote");
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return (out, at + 1),
            '\\' if quote != '`' => match chars.next().expect("an escaped character").1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                other => out.push(other),
            },
            c => out.push(c),
        }
    }
    panic!("unterminated text: {text}");
}

/// Reads `5`, `_`, `stale`, `_x3`, `5x3`, `1+2x3`, `1-2x3`.
fn points_of(text: &str) -> Vec<Point> {
    let (value, times) = match text.rsplit_once('x') {
        Some((value, times)) if times.bytes().all(|b| b.is_ascii_digit()) && !times.is_empty() => {
            (value, Some(times.parse::<usize>().expect("a count")))
        }
        _ => (text, None),
    };
    if value == "_" {
        return vec![None; times.unwrap_or(1)];
    }
    if value == "stale" {
        return vec![Some(sample::stale_nan()); times.map_or(1, |times| times + 1)];
    }
    if let Ok(number) = value.parse::<f64>() {
        return vec![Some(number); times.map_or(1, |times| times + 1)];
    }
    // The sign between start and step, not one of an exponent.
    let bytes = value.as_bytes();
    let split = (1..bytes.len())
        .rev()
        .find(|at| matches!(bytes[*at], b'+' | b'-') && !matches!(bytes[*at - 1], b'e' | b'E' | b'+' | b'-'))
        .unwrap_or_else(|| panic!("{text:?} is no point"));
    let start: f64 = value[..split]
        .parse()
        .unwrap_or_else(|_| panic!("{text:?} is no point"));
    let step: f64 = value[split..]
        .trim_start_matches('+')
        .parse()
        .unwrap_or_else(|_| panic!("{text:?}"));
    let mut next = start;
    (0..=times.expect("a step needs a count"))
        .map(|_| {
            let point = next;
            next += step;
            Some(point)
        })
        .collect()
}

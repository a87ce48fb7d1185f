//! Series as tests write them: `up{job="a"}` and `1+2x3 _ stale`.
//!
//! The values become visible only when a test runs, so the expansion is bounded here: a test file cannot ask for
//! more memory than [`VALUES_MAX`] points a series.

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::sample::stale_nan;
use marketprism_model::{Labels, MatcherOp};

use crate::backtest::memory::Point;

/// A series may have this many values.
pub(crate) const VALUES_MAX: usize = 2_000_000;

/// Reads `name{label="value"}`; without name or braces also. Labels with an empty value are kept apart, for a sample
/// never has one.
pub(crate) fn labels(text: &str) -> Result<Labels, String> {
    let trimmed = text.trim();
    let inside = trimmed.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    if trimmed.is_empty() || inside.is_some_and(|inside| inside.trim().is_empty()) {
        return Ok(Labels::empty());
    }
    // A selector must choose something; what is read here need not.
    let selector = marketprism_promql::parse_selector(trimmed).map_err(|error| error.to_string())?;
    let mut pairs = Vec::new();
    for matcher in selector.matchers.iter() {
        if matcher.op != MatcherOp::Equal {
            return Err(format!(
                "{}{}: a series is named by = alone",
                matcher.name,
                matcher.op.as_str()
            ));
        }
        if matcher.value.is_empty() && &*matcher.name == METRIC_NAME {
            return Err("the metric name is empty".to_owned());
        }
        pairs.push((matcher.name.to_string(), matcher.value.to_string()));
    }
    Ok(Labels::from_pairs(pairs))
}

/// Reads the values of a series: each a point or a gap.
pub(crate) fn values(text: &str) -> Result<Vec<Option<Point>>, String> {
    if text.contains("{{") {
        return Err("native histograms cannot be read here yet".to_owned());
    }
    let mut points = Vec::new();
    for word in text.split_ascii_whitespace() {
        item(word, &mut points)?;
    }
    Ok(points)
}

/// Reads one histogram, as a sample expects it.
pub(crate) fn histogram(text: &str) -> Result<Point, String> {
    let mut points = values(text)?;
    match (points.pop(), points.len()) {
        (Some(Some(point @ Point::Histogram(_))), 0) => Ok(point),
        (_, count) => Err(format!("expected one histogram, found {} values", count + 1)),
    }
}

/// Reads `5`, `_`, `stale`, `_x3`, `5x3`, `1+2x3`, `1-2x3`.
fn item(word: &str, points: &mut Vec<Option<Point>>) -> Result<(), String> {
    let refuse = || format!("{word:?} is no value; expected a number, a+bxn, axn, _, _xn or stale");
    let (value, times) = match word.rsplit_once('x') {
        Some((value, times)) if !times.is_empty() && times.bytes().all(|b| b.is_ascii_digit()) => {
            (value, Some(times.parse::<usize>().map_err(|_| refuse())?))
        }
        _ => (word, None),
    };
    let count = match (value, times) {
        ("_", times) => times.unwrap_or(1),
        (_, times) => times.unwrap_or(0).saturating_add(1),
    };
    if points.len().saturating_add(count) > VALUES_MAX {
        return Err(format!(
            "{word:?} makes more than {VALUES_MAX} values of the series"
        ));
    }
    if value == "_" {
        points.extend((0..count).map(|_| None));
        return Ok(());
    }
    let mut repeat = |first: f64, step: f64| {
        let mut next = first;
        for _ in 0..count {
            points.push(Some(Point::Number(next)));
            next += step;
        }
    };
    if value == "stale" {
        repeat(stale_nan(), 0.0);
        return Ok(());
    }
    if let Some(number) = number(value) {
        repeat(number, 0.0);
        return Ok(());
    }
    // The sign between start and step, not one of an exponent.
    let bytes = value.as_bytes();
    let split = (1..bytes.len())
        .rev()
        .find(|at| matches!(bytes[*at], b'+' | b'-') && !matches!(bytes[*at - 1], b'e' | b'E' | b'+' | b'-'))
        .ok_or_else(refuse)?;
    let first = number(&value[..split]).ok_or_else(refuse)?;
    let step = number(&value[split..]).ok_or_else(refuse)?;
    if times.is_none() {
        return Err(refuse());
    }
    repeat(first, step);
    Ok(())
}

/// Reads a number as PromQL writes them, but for hexadecimal ones: `0x2` is a zero and two more.
fn number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        let word = digits.to_ascii_lowercase();
        return match word.as_str() {
            "inf" => Some(sign * f64::INFINITY),
            "nan" => Some(f64::NAN),
            _ => None,
        };
    }
    digits.parse::<f64>().ok().map(|value| sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_expand_as_the_notation_says() {
        let check = |text: &str, expected: &str| {
            let found: Vec<String> = values(text)
                .expect(text)
                .iter()
                .map(|point| match point {
                    None => "_".to_owned(),
                    Some(Point::Number(value)) if marketprism_model::sample::is_stale(*value) => {
                        "stale".to_owned()
                    }
                    Some(Point::Number(value)) => value.to_string(),
                    Some(Point::Histogram(_)) => "histogram".to_owned(),
                })
                .collect();
            assert_eq!(found.join(" "), expected, "{text}");
        };
        check("-2+4x3", "-2 2 6 10");
        check(" 1-2x4", "1 -1 -3 -5 -7");
        check("1x4", "1 1 1 1 1");
        check("1 _x3 stale", "1 _ _ _ stale");
        check("0x2 0x1", "0 0 0 0 0");
        check("1e-3+1e-3x1 NaN -Inf", "0.001 0.002 NaN -inf");
        check("1--1x2 1+-1x1", "1 2 3 1 0");
        for text in ["1+2", "x3", "1+x3", "a", "1x99999999"] {
            values(text).expect_err(text);
        }
    }

    #[test]
    fn labels_are_those_of_a_selector_with_equalities_alone() {
        assert_eq!(labels("{}"), Ok(Labels::empty()));
        assert_eq!(
            labels(r#"up{job="a"}"#),
            Ok(Labels::from_pairs([("__name__", "up"), ("job", "a")]))
        );
        labels(r#"up{job!="a"}"#).expect_err("an inequality names no series");
    }
}

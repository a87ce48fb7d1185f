//! What a query must give, and whether it does; values are compared as Prometheus' runner compares them.

use std::collections::BTreeMap;
use std::sync::Arc;

use marketprism_model::{Buckets, Histogram, Labels, matcher, sample};
use marketprism_promql::notation::{NotedValue, write_histogram};
use marketprism_promql::{Answer, Value};

use super::command::{When, millis, named, next, series};

/// Values that differ by less than this share of their sum are alike.
const EPSILON: f64 = 1e-6;

/// How a message is given.
enum Wanted {
    Any,
    Exactly(String),
    Matching(String),
}

#[derive(Default)]
pub struct Expected {
    /// The values by labels, and the place of the line; the last line of the same labels counts.
    series: BTreeMap<Labels, (usize, Vec<Option<NotedValue>>)>,
    scalar: Option<f64>,
    text: Option<String>,
    /// Start, end and step of a range vector at an instant.
    range_vector: Option<(i64, i64, i64)>,
    is_ordered: bool,
    fails: Vec<Wanted>,
    warnings: Vec<Wanted>,
    infos: Vec<Wanted>,
    has_no_warning: bool,
    has_no_info: bool,
}

impl Expected {
    pub fn read(block: &[&str], is_instant: bool) -> Result<Self, String> {
        let mut expected = Expected::default();
        let mut lines = block.iter();
        while let Some(line) = lines.next() {
            let (word, rest) = next(line);
            if word == "expect" {
                expected.read_expect(rest)?;
            } else if let Some(message) = line.strip_prefix("expected_fail_message") {
                expected.fails = vec![Wanted::Exactly(message.trim().to_owned())];
            } else if let Some(pattern) = line.strip_prefix("expected_fail_regexp") {
                expected.fails = vec![Wanted::Matching(pattern.trim().to_owned())];
            } else if let Some(value) = number(line) {
                expected.scalar = Some(value);
                if let Some(line) = lines.next() {
                    return Err(format!("{line:?} stands behind a scalar"));
                }
            } else {
                let series = series(line)?;
                if is_instant && series.values.len() > 1 && expected.range_vector.is_none() {
                    return Err(format!("{line:?}: an instant has one value"));
                }
                if is_instant && series.values.is_empty() {
                    return Err(format!("{line:?}: an instant has a value"));
                }
                let place = expected.series.len();
                expected.series.insert(series.labels, (place, series.values));
            }
        }
        if !expected.infos.is_empty() && expected.has_no_info
            || !expected.warnings.is_empty() && expected.has_no_warning
        {
            return Err("a remark and none at once".to_owned());
        }
        Ok(expected)
    }

    fn read_expect(&mut self, line: &str) -> Result<(), String> {
        let (kind, rest) = next(line);
        match kind {
            "string" => {
                self.text = Some(unquoted(rest)?);
                return Ok(());
            }
            "range" => {
                let (vector, rest) = next(rest);
                let (start, rest) = named("from", rest)?;
                let (end, rest) = named("to", rest)?;
                let (step, rest) = named("step", rest)?;
                if vector != "vector" || !rest.is_empty() {
                    return Err(format!("expect {line}: no range vector"));
                }
                self.range_vector = Some((millis(start)?, millis(end)?, millis(step)?));
                return Ok(());
            }
            _ => {}
        }
        if rest.is_empty() {
            return self.demand(kind);
        }
        let wanted = match rest.split_once(':') {
            Some(("msg", message)) => Wanted::Exactly(message.trim().to_owned()),
            Some(("regex", pattern)) => Wanted::Matching(pattern.trim().to_owned()),
            _ => return Err(format!("expect {line}: expected msg: or regex:")),
        };
        match kind {
            "fail" if self.fails.is_empty() => self.fails.push(wanted),
            "warn" => self.warnings.push(wanted),
            "info" => self.infos.push(wanted),
            _ => return Err(format!("expect {line}: there is no such expectation")),
        }
        Ok(())
    }

    /// Demands a kind of outcome, whatever its words.
    pub fn demand(&mut self, kind: &str) -> Result<(), String> {
        match kind {
            "ordered" => self.is_ordered = true,
            "fail" if self.fails.is_empty() => self.fails.push(Wanted::Any),
            // The old spelling, whose message is given by a line of its own.
            "fail" => {}
            "warn" => self.warnings.push(Wanted::Any),
            "info" => self.infos.push(Wanted::Any),
            "no_warn" => self.has_no_warning = true,
            "no_info" => self.has_no_info = true,
            _ => return Err(format!("expect {kind}: there is no such expectation")),
        }
        Ok(())
    }

    /// Says whether the query must be refused.
    pub fn must_fail(&self) -> bool {
        !self.fails.is_empty()
    }

    /// Says whether the value cannot come from a range query, which yields vectors in the order of labels.
    pub fn is_instant_only(&self) -> bool {
        self.text.is_some() || self.range_vector.is_some() || self.is_ordered
    }

    /// Checks an error.
    pub fn check_failure(&self, found: &str) -> Result<(), String> {
        match self.fails.first() {
            None => Err(format!("failed with {found:?}")),
            // Where Prometheus finds a fault only when it evaluates, ours may stand behind a place in the text.
            Some(wanted)
                if wanted.is(found) || found.splitn(2, ": parse error: ").any(|part| wanted.is(part)) =>
            {
                Ok(())
            }
            Some(wanted) => Err(format!("failed with {found:?}, expected {}", wanted.text())),
        }
    }

    /// Checks an answer.
    pub fn check(&self, answer: &Answer, when: &When) -> Result<(), String> {
        if !self.fails.is_empty() {
            return Err(format!("did not fail: {:?}", answer.value));
        }
        check_remarks("warning", &self.warnings, self.has_no_warning, &answer.warnings)?;
        check_remarks("info", &self.infos, self.has_no_info, &answer.infos)?;
        self.check_value(&answer.value, when)
    }

    /// Checks a value.
    pub fn check_value(&self, value: &Value, when: &When) -> Result<(), String> {
        match value {
            Value::Text(text) => match &self.text {
                Some(expected) if expected == text => Ok(()),
                other => Err(format!("{text:?} instead of {other:?}")),
            },
            Value::Scalar(value) => match self.scalar {
                Some(expected) if is_close(expected, *value) => Ok(()),
                other => Err(format!("{value} instead of {other:?}")),
            },
            Value::Vector(samples) => {
                let found = samples.iter().map(|sample| {
                    let value = found_value(sample.value, sample.histogram.as_ref());
                    (&sample.labels, vec![(0, value)])
                });
                self.check_series(found.collect(), 0, 1)
            }
            Value::Matrix(series) => {
                if !series.is_sorted_by(|a, b| a.labels <= b.labels) {
                    return Err("the matrix is not sorted".to_owned());
                }
                let (start, end, step) = match (self.range_vector, when) {
                    (Some(range), _) => range,
                    (None, When::Range { start, end, step }) => (*start, *end, *step),
                    (None, When::Instant(_)) => return Err("a range vector".to_owned()),
                };
                let room = (end - start) / step.max(1) + 1;
                if let Some((labels, _)) = self
                    .series
                    .iter()
                    .find(|(_, (_, values))| values.len() as i64 > room)
                {
                    return Err(format!("{labels} is expected to have more values than fit"));
                }
                let found = series.iter().map(|series| {
                    let numbers = series
                        .points
                        .iter()
                        .map(|point| (point.timestamp.millis(), found_value(point.value, None)));
                    let histograms = series
                        .histograms
                        .iter()
                        .map(|(at, histogram)| (at.millis(), found_value(0.0, Some(histogram))));
                    let mut points: Vec<_> = numbers.chain(histograms).collect();
                    points.sort_by_key(|(at, _)| *at);
                    (&series.labels, points)
                });
                self.check_series(found.collect(), start, step)
            }
        }
    }

    fn check_series(&self, found: Vec<Line<'_>>, start: i64, step: i64) -> Result<(), String> {
        if self.scalar.is_some() || self.text.is_some() {
            return Err(format!("no scalar and no text, but {found:?}"));
        }
        for (place, (labels, points)) in found.iter().enumerate() {
            let Some((expected_place, values)) = self.series.get(*labels) else {
                return Err(format!("unexpected {labels}: {points:?}"));
            };
            if self.is_ordered && *expected_place != place {
                return Err(format!("{labels} at place {place}, expected at {expected_place}"));
            }
            let expected: Vec<(i64, &NotedValue)> = values
                .iter()
                .enumerate()
                .filter_map(|(place, value)| Some((start + place as i64 * step, value.as_ref()?)))
                .collect();
            let is_same = points.len() == expected.len()
                && points
                    .iter()
                    .zip(&expected)
                    .all(|(found, expected)| found.0 == expected.0 && is_same(expected.1, &found.1));
            if !is_same {
                let (found, expected) = (
                    texts(points.iter().map(|(at, v)| (*at, v))),
                    texts(expected.into_iter()),
                );
                return Err(format!(
                    "{labels}\n      found    {found}\n      expected {expected}"
                ));
            }
        }
        match self
            .series
            .keys()
            .find(|labels| !found.iter().any(|(known, _)| known == labels))
        {
            Some(missing) => Err(format!(
                "{missing} is missing among {:?}",
                found.iter().map(|f| f.0).collect::<Vec<_>>()
            )),
            None => Ok(()),
        }
    }
}

type Line<'a> = (&'a Labels, Vec<(i64, NotedValue)>);

fn found_value(number: f64, histogram: Option<&Arc<Histogram>>) -> NotedValue {
    match histogram {
        None => NotedValue::Number(number),
        Some(histogram) => NotedValue::Histogram {
            histogram: Arc::clone(histogram),
            is_hint_noted: true,
        },
    }
}

fn texts<'a>(points: impl Iterator<Item = (i64, &'a NotedValue)>) -> String {
    let text = |(at, value): (i64, &NotedValue)| match value {
        NotedValue::Number(number) => format!("{number}@{at}"),
        NotedValue::Histogram { histogram, .. } => format!("{}@{at}", write_histogram(histogram)),
    };
    points.map(text).collect::<Vec<_>>().join(" ")
}

impl Wanted {
    fn is(&self, found: &str) -> bool {
        match self {
            Wanted::Any => true,
            Wanted::Exactly(text) => text == found,
            Wanted::Matching(pattern) => {
                let anywhere = format!("(?s:.*)(?:{pattern})(?s:.*)");
                matcher::anchored(&anywhere)
                    .expect("a valid pattern")
                    .is_match(found)
            }
        }
    }

    fn text(&self) -> &str {
        match self {
            Wanted::Any => "anything",
            Wanted::Exactly(text) | Wanted::Matching(text) => text,
        }
    }
}

fn check_remarks(kind: &str, wanted: &[Wanted], has_none: bool, found: &[String]) -> Result<(), String> {
    if has_none && !found.is_empty() {
        return Err(format!("unexpected {kind}: {found:?}"));
    }
    if wanted.is_empty() {
        return Ok(());
    }
    if let Some(missing) = wanted
        .iter()
        .find(|wanted| !found.iter().any(|text| wanted.is(text)))
    {
        return Err(format!("expected {kind} {:?}, found {found:?}", missing.text()));
    }
    match found
        .iter()
        .find(|text| !wanted.iter().any(|wanted| wanted.is(text)))
    {
        Some(unexpected) => Err(format!("unexpected {kind} {unexpected:?}")),
        None => Ok(()),
    }
}

fn is_same(expected: &NotedValue, found: &NotedValue) -> bool {
    match (expected, found) {
        (NotedValue::Number(expected), NotedValue::Number(found)) => is_close(*expected, *found),
        (
            NotedValue::Histogram {
                histogram,
                is_hint_noted,
            },
            NotedValue::Histogram { histogram: found, .. },
        ) => is_same_histogram(histogram, found, *is_hint_noted),
        _ => false,
    }
}

/// Says whether two histograms count the same in the same buckets; empty buckets do not matter.
fn is_same_histogram(expected: &Histogram, found: &Histogram, is_hint_noted: bool) -> bool {
    let close = |read: fn(&Histogram) -> f64| is_close(read(expected), read(found));
    expected.schema == found.schema
        && close(|h| h.count)
        && close(|h| h.sum)
        && (!expected.has_custom_bounds() || expected.custom_bounds == found.custom_bounds)
        && expected.zero_threshold == found.zero_threshold
        && close(|h| h.zero_count)
        && is_same_buckets(&expected.negative, &found.negative)
        && is_same_buckets(&expected.positive, &found.positive)
        && (!is_hint_noted || expected.reset_hint == found.reset_hint)
}

fn is_same_buckets(expected: &Buckets, found: &Buckets) -> bool {
    let counted = |buckets: &Buckets| {
        let mut counted = Vec::new();
        buckets.each(|index, count| {
            if count != 0.0 {
                counted.push((index, count));
            }
        });
        counted
    };
    let (expected, found) = (counted(expected), counted(found));
    expected.len() == found.len()
        && expected
            .iter()
            .zip(&found)
            .all(|(a, b)| a.0 == b.0 && is_close(a.1, b.1))
}

/// Says whether two values are alike: up to a millionth, NaN like NaN, the mark of an end only like itself.
fn is_close(a: f64, b: f64) -> bool {
    if sample::is_stale(a) || sample::is_stale(b) {
        return sample::is_stale(a) && sample::is_stale(b);
    }
    if a == b || a.is_nan() && b.is_nan() {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

/// A line that is a number alone: a scalar.
fn number(line: &str) -> Option<f64> {
    let (sign, digits) = match line.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, line.strip_prefix('+').unwrap_or(line)),
    };
    match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16)
            .ok()
            .map(|whole| sign * whole as f64),
        None => digits.parse::<f64>().ok().map(|value| sign * value),
    }
}

/// A whole text in double or back quotes.
fn unquoted(text: &str) -> Result<String, String> {
    let fail = || format!("{text} is no quoted text");
    let quote = text
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '`'))
        .ok_or_else(fail)?;
    let inner = text[1..].strip_suffix(quote).ok_or_else(fail)?;
    let (mut out, mut chars) = (String::new(), inner.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' if quote == '"' => out.push(match chars.next().ok_or_else(fail)? {
                'n' => '\n',
                't' => '\t',
                c @ ('\\' | '"') => c,
                _ => return Err(fail()),
            }),
            c if c == quote => return Err(fail()),
            c => out.push(c),
        }
    }
    Ok(out)
}

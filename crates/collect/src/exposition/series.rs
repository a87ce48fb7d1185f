//! The part of a line that names its series: `name{label="value",…}` or `{"name", …}`.
//!
//! Scanning and decoding are apart: every line is scanned, only a line seen for the first time is decoded.

use std::borrow::Cow;

use marketprism_model::LabelsBuilder;
use marketprism_model::labels::{BUCKET_LE, METRIC_NAME};
use thiserror::Error;

use super::MetricKind;
use super::number::parse_float;

/// What differs between the formats, and whether the whole body is known to be UTF-8.
#[derive(Clone, Copy)]
pub(super) struct ScanRules {
    pub(super) is_openmetrics: bool,
    pub(super) is_utf8: bool,
}

const LABEL: u8 = 1;
const METRIC: u8 = 2;
const DIGIT: u8 = 4;

/// What each byte may be in an unquoted name.
const CLASSES: [u8; 256] = {
    let mut classes = [0u8; 256];
    let mut byte = 0usize;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphabetic() || b == b'_' {
            classes[byte] = LABEL | METRIC;
        } else if b == b':' {
            classes[byte] = METRIC;
        } else if b.is_ascii_digit() {
            classes[byte] = DIGIT;
        }
        byte += 1;
    }
    classes
};

#[inline]
fn name_length(text: &[u8], class: u8) -> usize {
    match text.first() {
        Some(first) if CLASSES[*first as usize] & class != 0 => {
            let tail = text[1..]
                .iter()
                .position(|b| CLASSES[*b as usize] & (class | DIGIT) == 0);
            tail.map_or(text.len(), |at| at + 1)
        }
        _ => 0,
    }
}

/// Counts the bytes of the unquoted metric name that `text` begins with, 0 when there is none.
#[inline]
pub(super) fn metric_name_length(text: &[u8]) -> usize {
    name_length(text, METRIC)
}

/// Checks the series that begins at `start`; gives the position after it.
#[inline]
pub(super) fn scan_series(body: &[u8], start: usize, rules: ScanRules) -> Result<usize, &'static str> {
    let name = metric_name_length(&body[start..]);
    let end = start + name;
    let mut brace = end;
    if !rules.is_openmetrics {
        while let Some(b' ' | b'\t') = body.get(brace) {
            brace += 1;
        }
    }
    match body.get(brace) {
        Some(b'{') => scan_labels(body, brace, name > 0, rules),
        _ if name == 0 => Err("expected a metric name"),
        _ => Ok(end),
    }
}

/// Checks an exemplar's labels from the opening brace on; quoted names without a value are no labels here.
pub(super) fn scan_exemplar_labels(
    body: &[u8],
    brace: usize,
    rules: ScanRules,
) -> Result<usize, &'static str> {
    scan_labels(body, brace, true, rules)
}

fn scan_labels(body: &[u8], brace: usize, has_name: bool, rules: ScanRules) -> Result<usize, &'static str> {
    let mut has_name = has_name;
    let mut at = skip(body, brace + 1, rules);
    loop {
        let is_quoted = match body.get(at) {
            Some(b'}') => break,
            Some(b'"') => {
                at = scan_quoted(body, at, rules, false).ok_or("unclosed quoted name")?;
                true
            }
            _ => {
                let length = name_length(&body[at..], LABEL);
                if length == 0 {
                    return Err("expected label name");
                }
                at += length;
                false
            }
        };
        at = skip(body, at, rules);
        if is_quoted && matches!(body.get(at), Some(b',' | b'}')) {
            if has_name {
                return Err("metric name is set twice");
            }
            has_name = true;
            if body[at] == b'}' {
                break;
            }
            at = skip(body, at + 1, rules);
            continue;
        }
        if body.get(at) != Some(&b'=') {
            return Err("expected = after label name");
        }
        at = skip(body, at + 1, rules);
        if body.get(at) != Some(&b'"') {
            return Err("expected quoted label value");
        }
        let value = at;
        at = scan_quoted(body, at, rules, rules.is_openmetrics).ok_or("unclosed label value")?;
        if !rules.is_utf8 && std::str::from_utf8(&body[value..at]).is_err() {
            return Err("label value is not UTF-8");
        }
        at = skip(body, at, rules);
        match body.get(at) {
            Some(b',') => at = skip(body, at + 1, rules),
            Some(b'}') => break,
            // Prometheus' own format forgives a forgotten comma.
            _ if rules.is_openmetrics => return Err("expected , or } after label value"),
            _ => {}
        }
    }
    if has_name {
        Ok(at + 1)
    } else {
        Err("metric name is not set")
    }
}

#[inline]
fn skip(body: &[u8], mut at: usize, rules: ScanRules) -> usize {
    if !rules.is_openmetrics {
        while let Some(b' ' | b'\t') = body.get(at) {
            at += 1;
        }
    }
    at
}

/// Gives the position after the closing quote.
#[inline]
fn scan_quoted(body: &[u8], open: usize, rules: ScanRules, is_one_line: bool) -> Option<usize> {
    let mut at = open + 1;
    loop {
        match *body.get(at)? {
            b'"' => break,
            b'\\' => at += 2,
            b'\n' if is_one_line => return None,
            _ => at += 1,
        }
    }
    if !rules.is_utf8 && std::str::from_utf8(&body[open..at]).is_err() {
        return None;
    }
    Some(at + 1)
}

/// Why a line that can be read names no series.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SeriesError {
    /// A label stands there twice.
    #[error("label {0:?} is set twice")]
    Twice(String),
    /// The metric's or a label's name is empty.
    #[error("empty name")]
    EmptyName,
    /// The bytes were never accepted by the parser.
    #[error("not a series")]
    NotSeries,
}

/// Makes labels of a series that the parser accepted.
///
/// `kind` is what the last `# TYPE` line said: the `le` of a histogram and the `quantile` of a summary are written
/// in OpenMetrics' form (`1` becomes `1.0`), as Prometheus 3 does.
pub fn decode_series(series: &[u8], kind: MetricKind) -> Result<LabelsBuilder, SeriesError> {
    decode_series_noting(series, kind, &mut |_| {})
}

/// As [`decode_series`], and tells the names of labels that were written with an empty value: such a label is absent,
/// but under `honor_labels` it keeps the target's label away, on which the Pushgateway relies.
pub(crate) fn decode_series_noting(
    series: &[u8],
    kind: MetricKind,
    note_empty: &mut dyn FnMut(&str),
) -> Result<LabelsBuilder, SeriesError> {
    let text = std::str::from_utf8(series).map_err(|_| SeriesError::NotSeries)?;
    let mut labels = LabelsBuilder::default();
    let name_end = metric_name_length(series);
    let mut rest = text[name_end..].trim_start_matches([' ', '\t']);
    if name_end > 0 {
        labels.set(METRIC_NAME, &text[..name_end]);
    }
    rest = match rest.strip_prefix('{') {
        Some(inner) => inner,
        None if rest.is_empty() && name_end > 0 => return Ok(labels),
        None => return Err(SeriesError::NotSeries),
    };
    let normal = match kind {
        MetricKind::Histogram => BUCKET_LE,
        MetricKind::Summary => "quantile",
        _ => "",
    };
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.starts_with('}') {
            break;
        }
        let (name, after) = take_name(rest).ok_or(SeriesError::NotSeries)?;
        let after = after.trim_start_matches([' ', '\t']);
        let (name, value) = match after.strip_prefix('=') {
            Some(after) => {
                let (value, after) =
                    take_quoted(after.trim_start_matches([' ', '\t'])).ok_or(SeriesError::NotSeries)?;
                rest = after;
                (name, value)
            }
            None => {
                rest = after;
                (Cow::Borrowed(METRIC_NAME), name)
            }
        };
        if name.is_empty() || (name == METRIC_NAME && value.is_empty()) {
            return Err(SeriesError::EmptyName);
        }
        if labels.get(&name).is_some() {
            return Err(SeriesError::Twice(name.chars().take(100).collect()));
        }
        if value.is_empty() {
            note_empty(&name);
        }
        if *name == *normal {
            labels.set(&name, &normal_bound(&value));
        } else {
            labels.set(&name, &value);
        }
    }
    Ok(labels)
}

fn take_name(text: &str) -> Option<(Cow<'_, str>, &str)> {
    if text.starts_with('"') {
        return take_quoted(text);
    }
    let length = name_length(text.as_bytes(), LABEL);
    (length > 0).then(|| (Cow::Borrowed(&text[..length]), &text[length..]))
}

fn take_quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        match *bytes.get(at)? {
            b'"' => break,
            // The escaped character may be longer than a byte; its tail holds neither quote nor backslash.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Some((unescape(&text[1..at], false), &text[at + 1..]))
}

/// Replaces `\\`, `\n` and, unless `keeps_quotes`, `\"`; other backslashes stay, as in Prometheus.
pub(super) fn unescape(text: &str, keeps_quotes: bool) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let (c, length) = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            Some(b'"') if !keeps_quotes => ('"', 2),
            _ => ('\\', 1),
        };
        plain.push(c);
        rest = &rest[at + length..];
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// Writes a series as the parser reads it; names that other characters are in are quoted.
pub(super) fn put_series<'a>(
    out: &mut Vec<u8>,
    name: &str,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let is_plain = metric_name_length(name.as_bytes()) == name.len();
    let mut separator = b'{';
    if is_plain {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.push(separator);
        put_quoted(out, name);
        separator = b',';
    }
    for (name, value) in labels {
        out.push(separator);
        separator = b',';
        if name_length(name.as_bytes(), LABEL) == name.len() && !name.is_empty() {
            out.extend_from_slice(name.as_bytes());
        } else {
            put_quoted(out, name);
        }
        out.push(b'=');
        put_quoted(out, value);
    }
    if separator == b',' {
        out.push(b'}');
    }
}

fn put_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => out.push(other),
        }
    }
    out.push(b'"');
}

/// Writes a bound as OpenMetrics does: shortest digits, and always a point or an exponent.
fn normal_bound(text: &str) -> Cow<'_, str> {
    match parse_float(text.as_bytes()) {
        Some(value) => bound_text(value),
        None => Cow::Borrowed(text),
    }
}

/// The same for a number.
pub(super) fn bound_text(value: f64) -> Cow<'static, str> {
    if value.is_nan() {
        return Cow::Borrowed("NaN");
    }
    if value.is_infinite() {
        return Cow::Borrowed(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Go's 'g' format with the fewest digits writes an exponent below -4 or from 6 on.
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return Cow::Owned(format!("{mantissa}e{sign}{:02}", exponent.abs()));
    }
    let plain = format!("{value}");
    Cow::Owned(if plain.contains('.') { plain } else { plain + ".0" })
}

//! A native histogram in double braces: `{{schema:1 sum:-0.3 count:3 z_bucket:1 buckets:[1 1] n_buckets:[0 1]}}`.

use std::fmt::Write as _;
use std::sync::Arc;

use marketprism_model::histogram::BUCKETS_MAX;
use marketprism_model::{BucketSpan, Buckets, Histogram, ResetHint};

use super::NotationError;
use super::cursor::Cursor;
use crate::notes::general;

const CONTEXT: &str = "histogram description";
const KEY: &str = "histogram description key, e.g. buckets:[5 10 7]";
const HINTS: [(&str, ResetHint); 4] = [
    ("unknown", ResetHint::Unknown),
    ("reset", ResetHint::Reset),
    ("not_reset", ResetHint::NotReset),
    ("gauge", ResetHint::Gauge),
];

/// A histogram, and whether it was said what is known of a reset.
#[derive(Clone)]
pub(super) struct Described {
    pub(super) histogram: Arc<Histogram>,
    pub(super) is_hint_noted: bool,
}

/// What has been read of a histogram; buckets have no place before both of their keys are known.
#[derive(Default)]
struct Parts {
    histogram: Histogram,
    positive: (i32, Vec<f64>),
    negative: (i32, Vec<f64>),
    known: Vec<String>,
}

/// Reads a histogram.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Described, NotationError> {
    if !cursor.take("{{") {
        return Err(cursor.unexpected("series values", "a histogram in {{ }}"));
    }
    let mut parts = Parts::default();
    let is_blank = cursor.skip_blanks();
    if is_blank && !cursor.starts_with("}}") {
        return Err(cursor.unexpected(CONTEXT, "\"}}\", or the first key without a space before it"));
    }
    while !cursor.take("}}") {
        read_key(cursor, &mut parts)?;
        if !cursor.skip_blanks() && !cursor.starts_with("}}") {
            return Err(cursor.unexpected(CONTEXT, KEY));
        }
    }
    let mut histogram = parts.histogram;
    histogram.positive = placed(cursor, parts.positive)?;
    histogram.negative = placed(cursor, parts.negative)?;
    Ok(Described {
        is_hint_noted: parts.known.iter().any(|key| key == "counter_reset_hint"),
        histogram: Arc::new(histogram),
    })
}

fn read_key(cursor: &mut Cursor<'_>, parts: &mut Parts) -> Result<(), NotationError> {
    let word = cursor.word();
    let key = word.to_ascii_lowercase();
    let histogram = &mut parts.histogram;
    if parts.known.contains(&key) {
        return Err(cursor.error(format!("duplicate key {key:?} in histogram")));
    }
    let signed = |cursor: &mut Cursor<'_>| {
        if cursor.starts_with("+") {
            return Err(cursor.unexpected(CONTEXT, "number"));
        }
        cursor.signed_number(CONTEXT, "number")
    };
    let start = |cursor: &mut Cursor<'_>| {
        cursor.advance(word.len());
        if cursor.take(":") {
            Ok(())
        } else {
            Err(cursor.error("missing `:` for histogram descriptor".to_owned()))
        }
    };
    match key.as_str() {
        "schema" => {
            start(cursor)?;
            histogram.schema = cursor.whole_number("schema")?;
        }
        "sum" => {
            start(cursor)?;
            histogram.sum = signed(cursor)?;
        }
        "count" => {
            start(cursor)?;
            histogram.count = signed(cursor)?;
        }
        "z_bucket" => {
            start(cursor)?;
            histogram.zero_count = signed(cursor)?;
        }
        "z_bucket_w" => {
            start(cursor)?;
            histogram.zero_threshold = cursor.number(CONTEXT, "number")?;
        }
        "custom_values" => {
            start(cursor)?;
            histogram.custom_bounds = list(cursor)?.into();
        }
        "buckets" => {
            start(cursor)?;
            parts.positive.1 = list(cursor)?;
        }
        "offset" => {
            start(cursor)?;
            parts.positive.0 = cursor.whole_number("offset")?;
        }
        "n_buckets" => {
            start(cursor)?;
            parts.negative.1 = list(cursor)?;
        }
        "n_offset" => {
            start(cursor)?;
            parts.negative.0 = cursor.whole_number("n_offset")?;
        }
        "counter_reset_hint" => {
            start(cursor)?;
            histogram.reset_hint = hint(cursor)?;
        }
        "" => return Err(cursor.unexpected(CONTEXT, KEY)),
        _ => return Err(cursor.error(format!("bad histogram descriptor found: {word:?}"))),
    }
    parts.known.push(key);
    Ok(())
}

fn hint(cursor: &mut Cursor<'_>) -> Result<ResetHint, NotationError> {
    let word = cursor.word();
    let known = HINTS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    let Some((_, hint)) = known else {
        return Err(cursor.unexpected(CONTEXT, "unknown, reset, not_reset or gauge"));
    };
    cursor.advance(word.len());
    Ok(*hint)
}

/// Reads `[5 10 7]`; at least one number, none before a blank.
fn list(cursor: &mut Cursor<'_>) -> Result<Vec<f64>, NotationError> {
    if !cursor.take("[") {
        return Err(cursor.unexpected(CONTEXT, "\"[\""));
    }
    let mut numbers = Vec::new();
    loop {
        if cursor.starts_with("+") {
            return Err(cursor.error("invalid character in buckets description: '+'".to_owned()));
        }
        if numbers.len() == BUCKETS_MAX {
            return Err(cursor.error(format!("more than {BUCKETS_MAX} numbers in a histogram's list")));
        }
        numbers.push(cursor.signed_number("buckets", "number")?);
        let is_blank = cursor.skip_blanks();
        if cursor.take("]") {
            return Ok(numbers);
        }
        if !is_blank {
            return Err(cursor.unexpected("buckets", "a space or \"]\""));
        }
    }
}

/// Gives the buckets one span, from the bucket of the index `offset` on.
fn placed(cursor: &Cursor<'_>, (offset, counts): (i32, Vec<f64>)) -> Result<Buckets, NotationError> {
    let length = counts.len() as u32;
    if offset.checked_add_unsigned(length).is_none() {
        return Err(cursor.error(format!(
            "buckets from the index {offset} on lie beyond what can be"
        )));
    }
    let spans = match length {
        0 => Vec::new(),
        length => vec![BucketSpan { offset, length }],
    };
    Ok(Buckets { spans, counts })
}

/// Writes a histogram down in this notation, as `promtool test rules` shows it: keys whose value is the usual one
/// are left out, and buckets between the first and the last that count nothing are zeros.
pub fn write_histogram(histogram: &Histogram) -> String {
    let mut keys: Vec<String> = Vec::new();
    if histogram.schema != 0 {
        keys.push(format!("schema:{}", histogram.schema));
    }
    let numbers = [
        ("count", histogram.count),
        ("sum", histogram.sum),
        ("z_bucket", histogram.zero_count),
        ("z_bucket_w", histogram.zero_threshold),
    ];
    for (key, value) in numbers.into_iter().filter(|(_, value)| *value != 0.0) {
        keys.push(format!("{key}:{}", number(value)));
    }
    if histogram.has_custom_bounds() && !histogram.custom_bounds.is_empty() {
        keys.push(format!("custom_values:{}", bracketed(&histogram.custom_bounds)));
    }
    if histogram.reset_hint != ResetHint::Unknown {
        let hint = HINTS.iter().find(|(_, hint)| *hint == histogram.reset_hint);
        keys.extend(hint.map(|(name, _)| format!("counter_reset_hint:{name}")));
    }
    for (prefix, buckets) in [("", &histogram.positive), ("n_", &histogram.negative)] {
        let (offset, counts) = joined(buckets);
        if counts.is_empty() {
            continue;
        }
        if offset != 0 {
            keys.push(format!("{prefix}offset:{offset}"));
        }
        keys.push(format!("{prefix}buckets:{}", bracketed(&counts)));
    }
    format!("{{{{{}}}}}", keys.join(" "))
}

/// The buckets in one run, from the first that counts something to the last.
fn joined(buckets: &Buckets) -> (i32, Vec<f64>) {
    let mut counted = Vec::new();
    buckets.each(|index, count| {
        if count != 0.0 {
            counted.push((index, count));
        }
    });
    let (Some((first, _)), Some((last, _))) = (counted.first().copied(), counted.last().copied()) else {
        return (0, Vec::new());
    };
    let length = (i64::from(last) - i64::from(first) + 1) as usize;
    // What lies too far apart to be written as one run keeps its counts alone.
    if length > BUCKETS_MAX {
        return (first, counted.into_iter().map(|(_, count)| count).collect());
    }
    let mut counts = vec![0.0; length];
    for (index, count) in counted {
        counts[(index - first) as usize] = count;
    }
    (first, counts)
}

fn bracketed(numbers: &[f64]) -> String {
    let mut out = String::from("[");
    for (place, value) in numbers.iter().enumerate() {
        let separator = if place == 0 { "" } else { " " };
        write!(out, "{separator}{}", number(*value)).expect("a string takes all");
    }
    out + "]"
}

/// The shortest text that reads back as the number; the sign of `+Inf` is not known here.
fn number(value: f64) -> String {
    general(value, None).trim_start_matches('+').to_owned()
}

//! The functions of Prometheus' rule templates.
//!
//! Source: the documentation of Prometheus, "Template reference". The behaviour at the edges (zero, NaN,
//! texts that are no numbers) is that of promtool, compared in `tests/it/promtool.rs`.

use std::net::IpAddr;

use marketprism_model::{Timestamp, duration};

use crate::builtin::escape_query;
use crate::functions::{Environment, Fault, Function, Kind, Outcome, SAMPLE_TYPE, SAMPLES_TYPE};
use crate::functions::{regex, replace_all, text};
use crate::number::{format_float, parse_float};
use crate::print::time_text;
use crate::value::{DEPTH_MAX, Value};

pub(crate) const FUNCTIONS: &[Function] = &[
    Function::new("query", &[Kind::String], |environment, arguments| {
        query(environment, text(arguments, 0))
    }),
    Function::new("first", &[Kind::Samples], |_, arguments| match &arguments[0] {
        Value::List(list) if !list.items.is_empty() => Ok(list.items[0].clone()),
        _ => Err("first() called on vector with no elements".into()),
    }),
    Function::new("label", &[Kind::String, Kind::Sample], |_, arguments| {
        Ok(label(&arguments[1], text(arguments, 0)))
    }),
    Function::new("value", &[Kind::Sample], |_, arguments| match &arguments[0] {
        Value::Record(sample) => Ok(sample.field("Value").cloned().unwrap_or_default()),
        _ => Ok(Value::Nil),
    }),
    Function::new("strvalue", &[Kind::Sample], |_, arguments| {
        Ok(label(&arguments[0], "__value__"))
    }),
    Function::new("sortByLabel", &[Kind::String, Kind::Samples], |_, arguments| {
        Ok(sort_by_label(text(arguments, 0), &arguments[1]))
    }),
    Function::variadic("args", &[], Kind::Any, |_, arguments| args(arguments)),
    Function::new(
        "reReplaceAll",
        &[Kind::String, Kind::String, Kind::String],
        |_, arguments| replace_all(text(arguments, 0), text(arguments, 1), text(arguments, 2)),
    ),
    Function::new("match", &[Kind::String, Kind::String], |_, arguments| {
        Ok(Value::Bool(
            regex(text(arguments, 0))?.is_match(text(arguments, 1)),
        ))
    }),
    Function::new("safeHtml", &[Kind::String], |_, arguments| {
        Ok(arguments[0].clone())
    }),
    Function::new("title", &[Kind::String], |_, arguments| {
        Ok(title(text(arguments, 0)).into())
    }),
    Function::new("toUpper", &[Kind::String], |_, arguments| {
        Ok(text(arguments, 0).to_uppercase().into())
    }),
    Function::new("toLower", &[Kind::String], |_, arguments| {
        Ok(text(arguments, 0).to_lowercase().into())
    }),
    Function::new("graphLink", &[Kind::String], |_, arguments| {
        Ok(expression_link(text(arguments, 0), 0))
    }),
    Function::new("tableLink", &[Kind::String], |_, arguments| {
        Ok(expression_link(text(arguments, 0), 1))
    }),
    Function::new("stripPort", &[Kind::String], |_, arguments| {
        let address = text(arguments, 0);
        Ok(split_host_port(address).map_or(address, |(host, _)| host).into())
    }),
    Function::new("stripDomain", &[Kind::String], |_, arguments| {
        Ok(strip_domain(text(arguments, 0)).into())
    }),
    Function::new("humanize", &[Kind::Any], |_, arguments| {
        Ok(humanize(to_float(&arguments[0])?).into())
    }),
    Function::new("humanize1024", &[Kind::Any], |_, arguments| {
        Ok(humanize_1024(to_float(&arguments[0])?).into())
    }),
    Function::new("humanizeDuration", &[Kind::Any], |_, arguments| {
        Ok(humanize_duration(to_float(&arguments[0])?).into())
    }),
    Function::new("humanizePercentage", &[Kind::Any], |_, arguments| {
        let percentage = to_float(&arguments[0])? * 100.0;
        Ok(format!("{}%", four_digits(percentage)).into())
    }),
    Function::new("humanizeTimestamp", &[Kind::Any], |_, arguments| {
        let seconds = to_float(&arguments[0])?;
        if !seconds.is_finite() {
            return Ok(four_digits(seconds).into());
        }
        match to_time(seconds)? {
            Value::Time(at) => Ok(time_text(&at).into()),
            other => Ok(other),
        }
    }),
    Function::new("toTime", &[Kind::Any], |_, arguments| {
        to_time(to_float(&arguments[0])?)
    }),
    Function::new("toDuration", &[Kind::Any], |_, arguments| {
        let nanoseconds = to_float(&arguments[0])? * 1e9;
        if !fits_nanoseconds(nanoseconds) {
            return Err(format!("{nanoseconds} cannot be represented as a duration").into());
        }
        Ok(Value::Duration(nanoseconds as i64))
    }),
    Function::new("now", &[], |environment, _| {
        Ok(Value::Float(environment.now.seconds_f64()))
    }),
    Function::new("pathPrefix", &[], |environment, _| {
        Ok(path_of(environment.external_url).into())
    }),
    Function::new("externalURL", &[], |environment, _| {
        Ok(environment.external_url.into())
    }),
    Function::new(
        "parseDuration",
        &[Kind::String],
        |_, arguments| match duration::parse(text(arguments, 0)) {
            Ok(span) => Ok(Value::Float(span.as_secs_f64())),
            Err(error) => Err(error.to_string().into()),
        },
    ),
    Function::new("urlQueryEscape", &[Kind::String], |_, arguments| {
        Ok(escape_query(text(arguments, 0)).into())
    }),
];

/// A query gives a template at most this many series.
const SAMPLES_MAX: usize = 10_000;

fn query(environment: &Environment<'_>, expression: &str) -> Outcome {
    let Some(queries) = environment.queries else {
        return Err("queries are not available here".into());
    };
    let samples = queries.query(expression, environment.now)?;
    if samples.len() > SAMPLES_MAX {
        return Err(format!(
            "query gives {} series, more than {SAMPLES_MAX}; aggregate first",
            samples.len()
        )
        .into());
    }
    let samples = samples.into_iter().map(|sample| {
        let fields = [
            ("Labels", Value::Labels(sample.labels)),
            ("Value", sample.value.to_value()),
        ];
        Value::record(SAMPLE_TYPE, fields)
    });
    Ok(Value::list_with(SAMPLES_TYPE, samples, []))
}

fn label(sample: &Value, name: &str) -> Value {
    match sample {
        Value::Record(sample) => match sample.field("Labels") {
            Some(Value::Labels(labels)) => labels.get(name).unwrap_or("").into(),
            _ => "".into(),
        },
        _ => "".into(),
    }
}

fn sort_by_label(name: &str, samples: &Value) -> Value {
    let Value::List(list) = samples else {
        return Value::Nil;
    };
    let mut sorted: Vec<(Value, Value)> = list
        .items
        .iter()
        .map(|sample| (label(sample, name), sample.clone()))
        .collect();
    sorted.sort_by(|(a, _), (b, _)| match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => std::cmp::Ordering::Equal,
    });
    Value::list_with(SAMPLES_TYPE, sorted.into_iter().map(|(_, sample)| sample), [])
}

fn args(arguments: &[Value]) -> Outcome {
    if arguments.iter().any(|argument| argument.depth() >= DEPTH_MAX) {
        return Err(format!("arguments nest deeper than {DEPTH_MAX}").into());
    }
    Ok(Value::map(
        arguments
            .iter()
            .enumerate()
            .map(|(i, argument)| (format!("arg{i}"), argument.clone())),
    ))
}

fn expression_link(expression: &str, tab: u8) -> Value {
    format!("/graph?g0.expr={}&g0.tab={tab}", escape_query(expression)).into()
}

/// Upper-cases the first letter of each word, as Go's `strings.Title`: letters, digits and underscores
/// belong to words.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut previous = ' ';
    for c in text.chars() {
        if is_separator(previous) {
            titled.extend(c.to_uppercase());
        } else {
            titled.push(c);
        }
        previous = c;
    }
    titled
}

fn is_separator(c: char) -> bool {
    match c {
        c if c.is_ascii() => !c.is_ascii_alphanumeric() && c != '_',
        c if c.is_alphanumeric() => false,
        c => c.is_whitespace(),
    }
}

/// Splits `host:port` and `[host]:port`; `None` when there is no port or it is ambiguous.
///
/// Source: the documentation of Go's `net.SplitHostPort`.
fn split_host_port(address: &str) -> Option<(&str, &str)> {
    let colon = address.rfind(':')?;
    let (host, port) = (&address[..colon], &address[colon + 1..]);
    let host = match host.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let is_clean = !host.contains(['[', ']']) && !port.contains(['[', ']']);
    is_clean.then_some((host, port))
}

fn strip_domain(address: &str) -> String {
    let (host, port) = split_host_port(address).unwrap_or((address, ""));
    if host.parse::<IpAddr>().is_ok() {
        return address.to_owned();
    }
    let host = host.split('.').next().unwrap_or(host);
    match port {
        "" => host.to_owned(),
        port if host.contains(':') => format!("[{host}]:{port}"),
        port => format!("{host}:{port}"),
    }
}

/// Turns numbers, texts of numbers and durations into floats, as all `humanize` functions do.
pub(crate) fn to_float(value: &Value) -> Result<f64, Fault> {
    match value {
        Value::Float(number) => Ok(*number),
        Value::Int(number) => Ok(*number as f64),
        Value::Duration(nanoseconds) => Ok(*nanoseconds as f64 / 1e9),
        Value::String(text) => parse_float(text).ok_or_else(|| {
            Fault::Reason(format!(
                "strconv.ParseFloat: parsing {}: invalid syntax",
                crate::print::quote(text)
            ))
        }),
        other => Err(format!("can't convert {} to float", other.type_name()).into()),
    }
}

fn four_digits(value: f64) -> String {
    format_float(value, 'g', Some(4))
}

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];
const BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return four_digits(value);
    }
    let (scaled, prefix) = if value.abs() >= 1.0 {
        scale(value, &LARGE, |v| {
            if v.abs() >= 1000.0 { Some(v / 1000.0) } else { None }
        })
    } else {
        small(value)
    };
    format!("{}{prefix}", four_digits(scaled))
}

fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return four_digits(value);
    }
    let (scaled, prefix) = scale(value, &BINARY, |v| {
        if v.abs() >= 1024.0 { Some(v / 1024.0) } else { None }
    });
    format!("{}{prefix}", four_digits(scaled))
}

fn small(value: f64) -> (f64, &'static str) {
    scale(
        value,
        &SMALL,
        |v| if v.abs() < 1.0 { Some(v * 1000.0) } else { None },
    )
}

/// Scales step by step while `step` gives a next value, and gives the prefix of the last step.
fn scale(
    mut value: f64,
    prefixes: &[&'static str],
    step: impl Fn(f64) -> Option<f64>,
) -> (f64, &'static str) {
    let mut reached = "";
    for prefix in prefixes {
        match step(value) {
            Some(next) => (value, reached) = (next, prefix),
            None => break,
        }
    }
    (value, reached)
}

/// Writes seconds as `1d 2h 3m 4s`, or with a prefix below a second.
pub(crate) fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return four_digits(value);
    }
    if value == 0.0 {
        return "0s".to_owned();
    }
    if value.abs() < 1.0 {
        let (scaled, prefix) = small(value);
        return format!("{}{prefix}s", four_digits(scaled));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let whole = value.abs() as i64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", four_digits(value.abs())),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

fn fits_nanoseconds(nanoseconds: f64) -> bool {
    nanoseconds.abs() <= i64::MAX as f64
}

fn to_time(seconds: f64) -> Outcome {
    let nanoseconds = seconds * 1e9;
    if !fits_nanoseconds(nanoseconds) {
        return Err(format!(
            "{} cannot be represented as a nanoseconds timestamp since it overflows int64",
            format_float(seconds, 'g', None)
        )
        .into());
    }
    Ok(Value::time(Timestamp::from_millis(
        nanoseconds as i64 / 1_000_000,
    )))
}

/// Gives the path of an address: what follows the host, up to a question mark or hash.
fn path_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = after_scheme.find('/').map_or("", |at| &after_scheme[at..]);
    path.split(['?', '#']).next().unwrap_or(path)
}

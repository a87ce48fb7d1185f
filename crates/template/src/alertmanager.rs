//! The functions of Alertmanager's notification templates, and the methods of its labels.
//!
//! Source: the documentation of Alertmanager, "Notification template reference".

use std::fmt::{self, Write as _};

use jiff::tz::TimeZoneDatabase;
use marketprism_model::Labels;

use crate::functions::{Environment, Function, Kind, Outcome, STRINGS_TYPE, TEXT_BYTES_MAX};
use crate::functions::{regex, replace_all, text};
use crate::layout;
use crate::number::format_float;
use crate::print::{Output, write_value};
use crate::prometheus::{humanize_duration, to_float};
use crate::value::{List, Value};

pub(crate) const FUNCTIONS: &[Function] = &[
    Function::new("toUpper", &[Kind::String], |_, arguments| {
        Ok(text(arguments, 0).to_uppercase().into())
    }),
    Function::new("toLower", &[Kind::String], |_, arguments| {
        Ok(text(arguments, 0).to_lowercase().into())
    }),
    Function::new("title", &[Kind::String], |_, arguments| {
        Ok(title(text(arguments, 0)).into())
    }),
    Function::new("trimSpace", &[Kind::String], |_, arguments| {
        Ok(text(arguments, 0).trim().into())
    }),
    Function::new("join", &[Kind::String, Kind::Strings], |_, arguments| {
        join(text(arguments, 0), &arguments[1])
    }),
    Function::new("match", &[Kind::String, Kind::String], |_, arguments| {
        Ok(Value::Bool(
            regex(text(arguments, 0))?.is_match(text(arguments, 1)),
        ))
    }),
    Function::new("safeHtml", &[Kind::String], |_, arguments| {
        Ok(arguments[0].clone())
    }),
    Function::new(
        "safeUrl",
        &[Kind::String],
        |_, arguments| Ok(arguments[0].clone()),
    ),
    Function::new("urlUnescape", &[Kind::String], |_, arguments| {
        unescape_query(text(arguments, 0))
    }),
    Function::new(
        "reReplaceAll",
        &[Kind::String, Kind::String, Kind::String],
        |_, arguments| replace_all(text(arguments, 0), text(arguments, 1), text(arguments, 2)),
    ),
    Function::variadic("stringSlice", &[], Kind::String, |_, arguments| {
        Ok(Value::list_with(STRINGS_TYPE, arguments.iter().cloned(), []))
    }),
    Function::new(
        "date",
        &[Kind::String, Kind::Time],
        |_, arguments| match &arguments[1] {
            Value::Time(at) => Ok(layout::format(at, text(arguments, 0)).into()),
            _ => Ok(Value::Nil),
        },
    ),
    Function::new("tz", &[Kind::String, Kind::Time], |_, arguments| {
        in_zone(text(arguments, 0), &arguments[1])
    }),
    Function::new("since", &[Kind::Time], since),
    Function::new("humanizeDuration", &[Kind::Any], |_, arguments| {
        Ok(humanize_duration(to_float(&arguments[0])?).into())
    }),
    Function::new("toJson", &[Kind::Any], |_, arguments| {
        let mut out = Output::new(TEXT_BYTES_MAX);
        write_json(&mut out, &arguments[0])?;
        Ok(out.into_text().into())
    }),
];

/// The methods of labels.
pub(crate) const PAIRS_METHODS: &[Function] = &[
    Function::new("SortedPairs", &[Kind::Pairs], |_, arguments| {
        Ok(sorted_pairs(&pairs(arguments)))
    }),
    Function::new("Names", &[Kind::Pairs], |_, arguments| {
        Ok(Value::strings(in_order(&pairs(arguments)).map(|(name, _)| name)))
    }),
    Function::new("Values", &[Kind::Pairs], |_, arguments| {
        Ok(Value::strings(
            in_order(&pairs(arguments)).map(|(_, value)| value),
        ))
    }),
    Function::new("Remove", &[Kind::Pairs, Kind::Strings], |_, arguments| {
        let names = strings(&arguments[1]);
        Ok(Value::Pairs(
            pairs(arguments).filtered(|name| !names.contains(&name)),
        ))
    }),
];

fn pairs(arguments: &[Value]) -> Labels {
    match arguments.first() {
        Some(Value::Pairs(labels)) => labels.clone(),
        _ => Labels::empty(),
    }
}

/// Walks labels with `alertname` first, the others by name, as `SortedPairs` does.
fn in_order(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    let name = marketprism_model::labels::ALERT_NAME;
    let first = labels.get(name).map(|value| (name, value));
    first
        .into_iter()
        .chain(labels.iter().filter(move |(label, _)| *label != name))
}

fn sorted_pairs(labels: &Labels) -> Value {
    let items = in_order(labels).map(|(name, value)| {
        Value::record("template.Pair", [("Name", name.into()), ("Value", value.into())])
    });
    let views = [
        ("Names", Value::strings(in_order(labels).map(|(name, _)| name))),
        ("Values", Value::strings(in_order(labels).map(|(_, value)| value))),
    ];
    Value::list_with("template.Pairs", items, views)
}

fn strings(list: &Value) -> Vec<&str> {
    match list {
        Value::List(List { items, .. }) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => &**text,
                _ => "",
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn join(separator: &str, list: &Value) -> Outcome {
    let mut out = Output::new(TEXT_BYTES_MAX);
    for (i, item) in strings(list).into_iter().enumerate() {
        if i > 0 {
            out.write_str(separator)?;
        }
        out.write_str(item)?;
    }
    Ok(out.into_text().into())
}

/// Upper-cases the first letter of each word and lower-cases the others.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut is_inside = false;
    for c in text.chars() {
        let is_word = c.is_alphanumeric() || (is_inside && matches!(c, '\'' | '’' | '_'));
        match (is_word, is_inside) {
            (true, false) => titled.extend(c.to_uppercase()),
            (true, true) => titled.extend(c.to_lowercase()),
            (false, _) => titled.push(c),
        }
        is_inside = is_word;
    }
    titled
}

fn unescape_query(text: &str) -> Outcome {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let Some(byte) = byte else {
                    return Err(format!("invalid URL escape in {text:?}").into());
                };
                bytes.push(byte);
                rest = &tail[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned().into())
}

fn in_zone(name: &str, at: &Value) -> Outcome {
    let Value::Time(at) = at else {
        return Ok(Value::Nil);
    };
    let zone = match name {
        "" | "UTC" | "Local" => jiff::tz::TimeZone::UTC,
        name => TimeZoneDatabase::bundled()
            .get(name)
            .map_err(|_| format!("unknown time zone {name}"))?,
    };
    Ok(Value::Time(std::sync::Arc::new(at.with_time_zone(zone))))
}

fn since(environment: &Environment<'_>, arguments: &[Value]) -> Outcome {
    let Value::Time(at) = &arguments[0] else {
        return Ok(Value::Nil);
    };
    let nanoseconds = i128::from(environment.now.millis()) * 1_000_000 - at.timestamp().as_nanosecond();
    Ok(Value::Duration(crate::moment::saturated(nanoseconds)))
}

/// Writes a value as Go's `json.Marshal` does: keys of maps sorted, `<`, `>` and `&` escaped.
fn write_json(out: &mut Output, value: &Value) -> fmt::Result {
    match value {
        Value::Nil => out.write_str("null"),
        Value::Bool(_) | Value::Int(_) => write_value(out, value),
        Value::Float(number) if !number.is_finite() => out.write_str("null"),
        Value::Float(number) => {
            let is_plain = *number == 0.0 || (1e-6..1e21).contains(&number.abs());
            let text = format_float(*number, if is_plain { 'f' } else { 'e' }, None);
            out.write_str(&text.replace("e-0", "e-"))
        }
        Value::String(text) => write_json_text(out, text),
        Value::List(list) => {
            out.write_str("[")?;
            for (i, item) in list.items.iter().enumerate() {
                out.write_str(if i > 0 { "," } else { "" })?;
                write_json(out, item)?;
            }
            out.write_str("]")
        }
        Value::Map(map) => write_object(out, map.entries.iter().map(|(key, item)| (&**key, item))),
        Value::Record(record) => {
            let fields: Vec<(String, &Value)> = record
                .fields
                .iter()
                .map(|(name, item)| (json_name(name), item))
                .collect();
            write_object(out, fields.iter().map(|(name, item)| (name.as_str(), *item)))
        }
        Value::Labels(labels) | Value::Pairs(labels) => {
            out.write_str("{")?;
            for (i, (name, value)) in labels.iter().enumerate() {
                out.write_str(if i > 0 { "," } else { "" })?;
                write_json_text(out, name)?;
                out.write_str(":")?;
                write_json_text(out, value)?;
            }
            out.write_str("}")
        }
        Value::Time(at) => write_json_text(out, &layout::format(at, "2006-01-02T15:04:05.999999999Z07:00")),
        Value::Duration(nanoseconds) => write!(out, "{nanoseconds}"),
    }
}

fn write_object<'v>(out: &mut Output, entries: impl Iterator<Item = (&'v str, &'v Value)>) -> fmt::Result {
    out.write_str("{")?;
    for (i, (name, item)) in entries.enumerate() {
        out.write_str(if i > 0 { "," } else { "" })?;
        write_json_text(out, name)?;
        out.write_str(":")?;
        write_json(out, item)?;
    }
    out.write_str("}")
}

/// Gives the name under which a field stands in JSON: `StartsAt` is `startsAt`.
fn json_name(field: &str) -> String {
    let mut chars = field.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn write_json_text(out: &mut Output, text: &str) -> fmt::Result {
    out.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => write!(out, "\\u{:04x}", c as u32)?,
            c if (c as u32) < 0x20 => write!(out, "\\u{:04x}", c as u32)?,
            c => out.write_char(c)?,
        }
    }
    out.write_str("\"")
}

//! The functions that every Go template has.
//!
//! Source: the documentation of Go's `text/template`, "Functions".

use std::fmt::Write as _;

use crate::functions::{Body, Fault, Function, Kind, Outcome, TEXT_BYTES_MAX};
use crate::print::{Output, is_printable, write_value};
use crate::printf::sprintf;
use crate::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "and",
        arguments: &[Kind::Any],
        rest: Some(Kind::Any),
        body: Body::And,
    },
    Function {
        name: "or",
        arguments: &[Kind::Any],
        rest: Some(Kind::Any),
        body: Body::Or,
    },
    Function::new("not", &[Kind::Any], |_, arguments| {
        Ok(Value::Bool(!arguments[0].is_true()))
    }),
    Function::variadic("eq", &[Kind::Any], Kind::Any, |_, arguments| {
        equal_to_any(&arguments[0], &arguments[1..]).map(Value::Bool)
    }),
    Function::new("ne", &[Kind::Any, Kind::Any], |_, arguments| {
        equal_to_any(&arguments[0], &arguments[1..]).map(|is_equal| Value::Bool(!is_equal))
    }),
    Function::new("lt", &[Kind::Any, Kind::Any], |_, arguments| {
        less(&arguments[0], &arguments[1]).map(Value::Bool)
    }),
    Function::new("le", &[Kind::Any, Kind::Any], |_, arguments| {
        less_or_equal(&arguments[0], &arguments[1]).map(Value::Bool)
    }),
    // Greater is "not less or equal", also for NaN, as in Go.
    Function::new("gt", &[Kind::Any, Kind::Any], |_, arguments| {
        less_or_equal(&arguments[0], &arguments[1]).map(|is_less| Value::Bool(!is_less))
    }),
    Function::new("ge", &[Kind::Any, Kind::Any], |_, arguments| {
        less(&arguments[0], &arguments[1]).map(|is_less| Value::Bool(!is_less))
    }),
    Function::variadic("index", &[Kind::Any], Kind::Any, |_, arguments| index(arguments)),
    Function::variadic("slice", &[Kind::Any], Kind::Any, |_, arguments| slice(arguments)),
    Function::new("len", &[Kind::Any], |_, arguments| len(&arguments[0])),
    Function::variadic("print", &[], Kind::Any, |_, arguments| print(arguments)),
    Function::variadic("println", &[], Kind::Any, |_, arguments| {
        let mut out = Output::new(TEXT_BYTES_MAX);
        for (i, argument) in arguments.iter().enumerate() {
            if i > 0 {
                out.write_str(" ")?;
            }
            write_value(&mut out, argument)?;
        }
        out.write_str("\n")?;
        Ok(out.into_text().into())
    }),
    Function::variadic("printf", &[Kind::String], Kind::Any, |_, arguments| {
        let mut out = Output::new(TEXT_BYTES_MAX);
        sprintf(&mut out, crate::functions::text(arguments, 0), &arguments[1..])?;
        Ok(out.into_text().into())
    }),
    Function::variadic("html", &[], Kind::Any, |_, arguments| {
        escaped(arguments, escape_html)
    }),
    Function::variadic("js", &[], Kind::Any, |_, arguments| escaped(arguments, escape_js)),
    Function::variadic("urlquery", &[], Kind::Any, |_, arguments| {
        escaped(arguments, |out, text| out.write_str(&escape_query(text)))
    }),
];

#[derive(PartialEq, Eq)]
enum Basic<'v> {
    Bool(bool),
    Int(i64),
    Float,
    String(&'v str),
    None,
}

fn basic(value: &Value) -> Basic<'_> {
    match value {
        Value::Bool(is_true) => Basic::Bool(*is_true),
        Value::Int(number) | Value::Duration(number) => Basic::Int(*number),
        Value::Float(_) => Basic::Float,
        Value::String(text) => Basic::String(text),
        _ => Basic::None,
    }
}

const INCOMPATIBLE: &str = "incompatible types for comparison";
const INVALID: &str = "invalid type for comparison";

fn equal_to_any(first: &Value, others: &[Value]) -> Result<bool, Fault> {
    check_comparable(first)?;
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_comparable(value: &Value) -> Result<(), Fault> {
    match value {
        Value::List(_) | Value::Map(_) | Value::Labels(_) | Value::Pairs(_) | Value::Record(_) => {
            let mut shown = Output::new(1000);
            // What does not fit is cut; this is only a message.
            let _ = write_value(&mut shown, value);
            let reason = format!("non-comparable type {}: {}", shown.into_text(), value.type_name());
            Err(reason.into())
        }
        _ => Ok(()),
    }
}

fn equal(a: &Value, b: &Value) -> Result<bool, Fault> {
    match (a, b) {
        (Value::Nil, other) | (other, Value::Nil) => Ok(matches!(other, Value::Nil)),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Time(a), Value::Time(b)) => Ok(a == b),
        _ => match (basic(a), basic(b)) {
            (Basic::Bool(a), Basic::Bool(b)) => Ok(a == b),
            (Basic::Int(a), Basic::Int(b)) => Ok(a == b),
            (Basic::String(a), Basic::String(b)) => Ok(a == b),
            (Basic::None, Basic::None) => {
                check_comparable(b)?;
                Ok(false)
            }
            _ => Err(INCOMPATIBLE.into()),
        },
    }
}

fn less(a: &Value, b: &Value) -> Result<bool, Fault> {
    if let (Value::Float(a), Value::Float(b)) = (a, b) {
        return Ok(a < b);
    }
    match (basic(a), basic(b)) {
        (Basic::None, _) | (_, Basic::None) | (Basic::Bool(_), Basic::Bool(_)) => Err(INVALID.into()),
        (Basic::Int(a), Basic::Int(b)) => Ok(a < b),
        (Basic::String(a), Basic::String(b)) => Ok(a < b),
        _ => Err(INCOMPATIBLE.into()),
    }
}

fn less_or_equal(a: &Value, b: &Value) -> Result<bool, Fault> {
    Ok(less(a, b)? || equal(a, b)?)
}

fn position(index: &Value, length: usize) -> Result<usize, Fault> {
    match index {
        Value::Int(number) => match usize::try_from(*number) {
            Ok(at) if at <= length => Ok(at),
            _ => Err(format!("index out of range: {number}").into()),
        },
        Value::Nil => Err("cannot index slice/array with nil".into()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name()).into()),
    }
}

fn index(arguments: &[Value]) -> Outcome {
    let mut item = arguments[0].clone();
    if let Value::Nil = item {
        return Err("index of untyped nil".into());
    }
    for index in &arguments[1..] {
        item = match &item {
            Value::List(list) => {
                let at = position(index, list.items.len())?;
                match list.items.get(at) {
                    Some(item) => item.clone(),
                    None => return Err(format!("index out of range: {at}").into()),
                }
            }
            Value::String(text) => {
                let at = position(index, text.len())?;
                match text.as_bytes().get(at) {
                    Some(byte) => Value::Int(i64::from(*byte)),
                    None => return Err(format!("index out of range: {at}").into()),
                }
            }
            Value::Map(map) => map.entries.get(key(index)?).cloned().unwrap_or_default(),
            Value::Labels(labels) | Value::Pairs(labels) => labels.get(key(index)?).unwrap_or("").into(),
            Value::Nil => return Err("index of nil pointer".into()),
            other => return Err(format!("can't index item of type {}", other.type_name()).into()),
        };
    }
    Ok(item)
}

fn key(index: &Value) -> Result<&str, Fault> {
    match index {
        Value::String(key) => Ok(key),
        Value::Nil => Err("value is nil; should be of type string".into()),
        other => Err(format!("value has type {}; should be string", other.type_name()).into()),
    }
}

fn slice(arguments: &[Value]) -> Outcome {
    let (item, indexes) = (&arguments[0], &arguments[1..]);
    if indexes.len() > 3 {
        return Err(format!("too many slice indexes: {}", indexes.len()).into());
    }
    let length = match item {
        Value::String(_) if indexes.len() == 3 => return Err("cannot 3-index slice a string".into()),
        Value::String(text) => text.len(),
        Value::List(list) => list.items.len(),
        Value::Nil => return Err("slice of untyped nil".into()),
        other => return Err(format!("can't slice item of type {}", other.type_name()).into()),
    };
    let mut bounds = [0, length, length];
    for (bound, index) in bounds.iter_mut().zip(indexes) {
        *bound = position(index, length)?;
    }
    let [start, end, capacity] = bounds;
    if start > end {
        return Err(format!("invalid slice index: {start} > {end}").into());
    }
    if end > capacity {
        return Err(format!("invalid slice index: {end} > {capacity}").into());
    }
    Ok(match item {
        Value::String(text) => String::from_utf8_lossy(&text.as_bytes()[start..end])
            .into_owned()
            .into(),
        Value::List(list) => Value::list_with(list.type_name, list.items[start..end].iter().cloned(), []),
        _ => Value::Nil,
    })
}

fn len(item: &Value) -> Outcome {
    let length = match item {
        Value::String(text) => text.len(),
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.entries.len(),
        Value::Labels(labels) | Value::Pairs(labels) => labels.len(),
        Value::Nil => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.type_name()).into()),
    };
    Ok(Value::Int(length as i64))
}

/// `fmt.Sprint`: a space between two operands when neither is a string.
pub(crate) fn print(arguments: &[Value]) -> Outcome {
    let mut out = Output::new(TEXT_BYTES_MAX);
    for (i, argument) in arguments.iter().enumerate() {
        let is_string = |value: &Value| matches!(value, Value::String(_));
        if i > 0 && !is_string(argument) && !is_string(&arguments[i - 1]) {
            out.write_str(" ")?;
        }
        write_value(&mut out, argument)?;
    }
    Ok(out.into_text().into())
}

fn escaped(arguments: &[Value], escape: fn(&mut Output, &str) -> std::fmt::Result) -> Outcome {
    let text = print(arguments)?;
    let mut out = Output::new(TEXT_BYTES_MAX);
    escape(&mut out, crate::functions::text(std::slice::from_ref(&text), 0))?;
    Ok(out.into_text().into())
}

fn escape_html(out: &mut Output, text: &str) -> std::fmt::Result {
    for c in text.chars() {
        match c {
            '&' => out.write_str("&amp;")?,
            '<' => out.write_str("&lt;")?,
            '>' => out.write_str("&gt;")?,
            '"' => out.write_str("&#34;")?,
            '\'' => out.write_str("&#39;")?,
            '\0' => out.write_str("\u{fffd}")?,
            c => out.write_char(c)?,
        }
    }
    Ok(())
}

fn escape_js(out: &mut Output, text: &str) -> std::fmt::Result {
    for c in text.chars() {
        match c {
            '\\' => out.write_str("\\\\")?,
            '\'' => out.write_str("\\'")?,
            '"' => out.write_str("\\\"")?,
            '<' | '>' | '&' | '=' => write!(out, "\\u{:04X}", c as u32)?,
            c if is_printable(c) => out.write_char(c)?,
            c => write!(out, "\\u{:04X}", c as u32)?,
        }
    }
    Ok(())
}

/// Escapes as Go's `url.QueryEscape`: a space is `+`, letters, digits and `-_.~` stay.
pub(crate) fn escape_query(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => escaped.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            byte => write!(escaped, "%{byte:02X}").expect("a String takes everything"),
        }
    }
    escaped
}

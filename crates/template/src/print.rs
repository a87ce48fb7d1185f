//! How a value reads when it is printed: Go's `%v`.
//!
//! Everything goes into an [`Output`], which knows its limit, so that no template can fill the memory.

use std::fmt::{self, Write};

use jiff::ZonedDateTime;

use crate::number::format_float;
use crate::value::Value;

/// Text with a limit of bytes; what does not fit is an error.
pub(crate) struct Output {
    text: String,
    limit: usize,
}

impl Output {
    pub(crate) fn new(limit: usize) -> Self {
        Output {
            text: String::new(),
            limit,
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > self.limit {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

/// Writes a value as `fmt.Fprint` does.
pub(crate) fn write_value(out: &mut dyn Write, value: &Value) -> fmt::Result {
    match value {
        Value::Nil => out.write_str("<nil>"),
        Value::Bool(is_true) => write!(out, "{is_true}"),
        Value::Int(number) => write!(out, "{number}"),
        Value::Float(number) => out.write_str(&format_float(*number, 'g', None)),
        Value::String(text) => out.write_str(text),
        Value::List(list) => write_between(out, "[", "]", list.items.iter(), |out, item| {
            write_value(out, item)
        }),
        Value::Map(map) => write_between(out, "map[", "]", map.entries.iter(), |out, (key, item)| {
            write!(out, "{key}:")?;
            write_value(out, item)
        }),
        Value::Labels(labels) | Value::Pairs(labels) => {
            write_between(out, "map[", "]", labels.iter(), |out, (name, value)| {
                write!(out, "{name}:{value}")
            })
        }
        Value::Record(record) => write_between(out, "{", "}", record.fields.iter(), |out, (_, item)| {
            write_value(out, item)
        }),
        Value::Time(at) => out.write_str(&time_text(at)),
        Value::Duration(nanoseconds) => out.write_str(&duration_text(*nanoseconds)),
    }
}

fn write_between<T>(
    out: &mut dyn Write,
    open: &str,
    close: &str,
    items: impl Iterator<Item = T>,
    mut write_item: impl FnMut(&mut dyn Write, T) -> fmt::Result,
) -> fmt::Result {
    out.write_str(open)?;
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.write_str(" ")?;
        }
        write_item(out, item)?;
    }
    out.write_str(close)
}

/// Writes a time as `time.Time.String` does: `2006-01-02 15:04:05.999999999 -0700 MST`.
pub(crate) fn time_text(at: &ZonedDateTime) -> String {
    crate::layout::format(at, "2006-01-02 15:04:05.999999999 -0700 MST")
}

/// Writes a duration as `time.Duration.String` does: `1h2m3.5s`, `1.5ms`, `0s`.
pub(crate) fn duration_text(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let magnitude = nanoseconds.unsigned_abs();
    let decimal = |value: u64, unit: u64, name: &str| {
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", value % unit);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() || unit == 1 { "" } else { "." };
        let fraction = if unit == 1 { "" } else { fraction };
        format!("{}{point}{fraction}{name}", value / unit)
    };
    let text = match magnitude {
        0 => "0s".to_owned(),
        1..1_000 => decimal(magnitude, 1, "ns"),
        1_000..1_000_000 => decimal(magnitude, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(magnitude, 1_000_000, "ms"),
        _ => {
            let minutes = magnitude / 60_000_000_000;
            let seconds = decimal(magnitude % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

/// Quotes a text as Go's `strconv.Quote` does.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        push_escaped(&mut quoted, c, '"');
    }
    quoted.push('"');
    quoted
}

/// Quotes a text as Go's `strconv.QuoteToASCII` does.
pub(crate) fn quote_ascii(text: &str) -> String {
    let mut quoted = String::new();
    for c in quote(text).chars() {
        match c as u32 {
            0..0x80 => quoted.push(c),
            code @ 0x80..0x10000 => push_formatted(&mut quoted, format_args!("\\u{code:04x}")),
            code => push_formatted(&mut quoted, format_args!("\\U{code:08x}")),
        }
    }
    quoted
}

/// Quotes a character as Go's `strconv.QuoteRune` does.
pub(crate) fn quote_character(c: char) -> String {
    let mut quoted = String::from("'");
    push_escaped(&mut quoted, c, '\'');
    quoted.push('\'');
    quoted
}

fn push_escaped(quoted: &mut String, c: char, quote: char) {
    match c {
        '\\' => quoted.push_str("\\\\"),
        '\u{7}' => quoted.push_str("\\a"),
        '\u{8}' => quoted.push_str("\\b"),
        '\u{c}' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\u{b}' => quoted.push_str("\\v"),
        c if c == quote => {
            quoted.push('\\');
            quoted.push(c);
        }
        c if is_printable(c) => quoted.push(c),
        c if (c as u32) < 0x80 => push_formatted(quoted, format_args!("\\x{:02x}", c as u32)),
        c if (c as u32) < 0x10000 => push_formatted(quoted, format_args!("\\u{:04x}", c as u32)),
        c => push_formatted(quoted, format_args!("\\U{:08x}", c as u32)),
    }
}

fn push_formatted(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes everything");
}

/// Says whether Go would print the character: letters, marks, numbers, punctuation, symbols and the space.
pub(crate) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // The standard library knows the table, but also escapes a mark at the very beginning of a text.
    let mut pair = [0u8; 5];
    pair[0] = b'a';
    let length = 1 + c.encode_utf8(&mut pair[1..]).len();
    std::str::from_utf8(&pair[..length]).is_ok_and(|text| text.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_go_prints_them() {
        // From the documentation of Go's time.Duration.String and its examples.
        let check = |nanoseconds, text: &str| assert_eq!(duration_text(nanoseconds), text);
        check(0, "0s");
        check(1, "1ns");
        check(1_100, "1.1µs");
        check(2_200_000, "2.2ms");
        check(3_300_000_000, "3.3s");
        check(245_000_000_000, "4m5s");
        check(245_001_000_000, "4m5.001s");
        check(18_367_001_000_000, "5h6m7.001s");
        check(480_000_000_001, "8m0.000000001s");
        check(i64::MAX, "2562047h47m16.854775807s");
        check(i64::MIN, "-2562047h47m16.854775808s");
    }

    #[test]
    fn quotes_escape_what_go_escapes() {
        assert_eq!(
            quote("a\"b\\\n\u{7}\u{1}é\u{a0}\u{301}\u{10ffff}"),
            "\"a\\\"b\\\\\\n\\a\\x01é\\u00a0\u{301}\\U0010ffff\""
        );
    }
}

//! Numbers, durations and strings: from what is written to what is meant.
//!
//! Deliberately absent: where a literal begins and ends; the lexer has seen to that, and to its escapes.
//!
//! Source: Go's `strconv.ParseInt`, `ParseFloat` and `Unquote`; `model.ParseDuration` of prometheus/common.

use crate::length::SPAN_MS_MAX;
use crate::lex::{Token, TokenKind};
use crate::parse::{Parser, Read};
use crate::quote::{Quoted, text_of};

/// The units of durations from large to small, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The longest length of time in seconds, either way.
pub(super) const SECONDS_MAX: f64 = SPAN_MS_MAX as f64 / 1000.0;

impl Parser<'_> {
    /// Gives the value of a number, or of a duration in seconds.
    pub(super) fn number(&self, token: Token) -> Read<f64> {
        let text = self.text_of(token);
        let value = match token.kind {
            TokenKind::Duration => seconds(text),
            _ => number(text),
        };
        value.or_else(|message| self.fail(message, token.span()))
    }

    /// Gives what a string says, without its quotes; bytes that are no UTF-8 are held by stand-ins.
    pub(super) fn string(&self, token: Token) -> String {
        let text = self.text_of(token);
        unquoted(text.get(1..text.len() - 1).unwrap_or(""), text.starts_with('`'))
    }
}

/// Reads a number as Go does: a whole one in base 10, 8 (`017`) or 16, else a float.
fn number(text: &str) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "inf" => return Ok(f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    let refuse = |reason| {
        let text = Quoted(text);
        Err(format!(
            "error parsing number: strconv.ParseFloat: parsing {text}: {reason}"
        ))
    };
    let Some(plain) = without_underscores(&lower) else {
        return refuse("invalid syntax");
    };
    let whole = match plain.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None if plain.len() > 1 && plain.starts_with('0') => i64::from_str_radix(&plain[1..], 8).ok(),
        None => plain.parse().ok(),
    };
    if let Some(whole) = whole {
        return Ok(whole as f64);
    }
    match plain.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => refuse("value out of range"),
        Err(_) => refuse("invalid syntax"),
    }
}

/// Takes underscores away; `None` where one does not separate digits.
fn without_underscores(lower: &str) -> Option<String> {
    if !lower.contains('_') {
        return Some(lower.to_owned());
    }
    // The prefix of a base counts as a digit.
    let (digits, is_hex) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, true),
        None => (lower, false),
    };
    let is_digit = |c: char| c.is_ascii_digit() || (is_hex && c.is_ascii_hexdigit());
    let mut before = if is_hex { '0' } else { '.' };
    for c in digits.chars() {
        if (c == '_' && !is_digit(before)) || (before == '_' && !is_digit(c)) {
            return None;
        }
        before = c;
    }
    (before != '_').then(|| lower.replace('_', ""))
}

/// Reads `1h30m` as seconds.
fn seconds(text: &str) -> Result<f64, String> {
    let (mut rest, mut total_ms, mut next_unit) = (text, 0u64, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (count, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        let (unit, tail) = tail.split_at(letters);
        let Ok(count) = count.parse::<u64>() else {
            return Err(format!("not a valid duration string: {}", Quoted(text)));
        };
        let Some(place) = UNITS.iter().position(|(name, _)| *name == unit) else {
            let (unit, text) = (Quoted(unit), Quoted(text));
            return Err(format!("unknown unit {unit} in duration {text}"));
        };
        if place < next_unit {
            return Err(format!("not a valid duration string: {}", Quoted(text)));
        }
        let part = count.checked_mul(UNITS[place].1);
        total_ms = part
            .and_then(|part| total_ms.checked_add(part))
            .filter(|ms| *ms <= SPAN_MS_MAX as u64)
            .ok_or("duration out of range")?;
        (rest, next_unit) = (tail, place + 1);
    }
    Ok(total_ms as f64 / 1000.0)
}

/// Resolves the escapes of a string, which the lexer has checked.
fn unquoted(inner: &str, is_raw: bool) -> String {
    if is_raw || !inner.contains('\\') {
        return inner.to_owned();
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(place) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..place]);
        let mut chars = rest[place + 1..].chars();
        let escape = chars.next().unwrap_or('\\');
        let (from, digits) = match escape {
            'x' => (1, 2),
            'u' => (1, 4),
            'U' => (1, 8),
            '0'..='7' => (0, 3),
            _ => (0, 0),
        };
        let code = &rest[place + 1..].get(from..from + digits).unwrap_or("");
        let radix = if from == 1 { 16 } else { 8 };
        let value = u32::from_str_radix(code, radix).unwrap_or(0);
        match escape {
            'a' => bytes.push(0x07),
            'b' => bytes.push(0x08),
            'f' => bytes.push(0x0c),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(0x0b),
            'x' | '0'..='7' => bytes.push(value.to_le_bytes()[0]),
            'u' | 'U' => {
                let c = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        let escaped = if digits > 0 {
            from + digits
        } else {
            escape.len_utf8()
        };
        rest = &rest[place + 1 + escaped..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    text_of(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        let check = |text: &str, expected: f64| {
            let found = number(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(found.to_bits(), expected.to_bits(), "{text} is {found}");
        };
        check("0", 0.0);
        check("1.5e-3", 0.0015);
        check(".5", 0.5);
        check("5.", 5.0);
        check("017", 15.0);
        check("08", 8.0);
        check("0x1F", 31.0);
        check("0X_1f", 31.0);
        check("1_000_000", 1e6);
        check("1_0.2_5e1_0", 10.25e10);
        check("9223372036854775808", 9_223_372_036_854_775_808.0);
        check("iNf", f64::INFINITY);
        check("NAN", f64::NAN);
        for (text, reason) in [
            ("0x1_", "invalid syntax"),
            ("0xffffffffffffffffff", "invalid syntax"),
            ("0x", "invalid syntax"),
            ("1e400", "value out of range"),
        ] {
            let error = number(text).expect_err(text);
            assert!(error.contains("strconv.ParseFloat"), "{error}");
            assert!(error.ends_with(reason), "{text}: {error}");
        }
    }

    #[test]
    fn durations_go_from_large_units_to_small_ones() {
        assert_eq!(seconds("1y2w3d4h5m6s7ms"), Ok(33_019_506.007));
        assert_eq!(seconds("90m"), Ok(5400.0));
        let check = |text: &str, expected: &str| assert_eq!(seconds(text), Err(expected.to_owned()));
        check("5m1h", "not a valid duration string: \"5m1h\"");
        check("5m5m", "not a valid duration string: \"5m5m\"");
        check("5hs", "unknown unit \"hs\" in duration \"5hs\"");
        check("1000y", "duration out of range");
        check("1h5000000000000ms", "duration out of range");
    }

    #[test]
    fn strings_resolve_the_escapes_of_go() {
        let check = |inner: &str, expected: &str| {
            assert_eq!(unquoted(inner, false), expected, "{inner}");
        };
        check(r#"a\"b\\c\n\t\a"#, "a\"b\\c\n\t\x07");
        check(r"\x41\101\u00e9\U0001F600é", "AAé😀é");
        // The bytes of one character may be written apart.
        check(r"\xc3\xa9", "é");
        check(r"a\xffb", &text_of(b"a\xffb".to_vec()));
        assert_eq!(unquoted("a\\n\r\nb", true), "a\\n\r\nb");
    }
}

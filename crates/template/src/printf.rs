//! `printf` with Go's verbs, flags, widths, precisions and argument numbers.
//!
//! What does not fit prints Go's own complaint, such as `%!d(string=x)`, for users know it and a message
//! with a complaint in it is better than none.
//!
//! Source: the documentation of Go's `fmt`.

use std::fmt::{self, Write};

use crate::number::format_float;
use crate::print::{duration_text, quote, quote_ascii, quote_character, time_text, write_value};
use crate::value::Value;

/// Widths, precisions and argument numbers beyond this are refused, as in Go.
const NUMBER_MAX: usize = 1_000_000;

#[derive(Clone, Copy, Default)]
struct Spec {
    is_sharp: bool,
    is_zero: bool,
    is_plus: bool,
    is_minus: bool,
    is_space: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats by a format text.
pub(crate) fn sprintf(out: &mut dyn Write, format: &str, arguments: &[Value]) -> fmt::Result {
    Formatter {
        out,
        rest: format,
        arguments,
        next: 0,
        is_reordered: false,
        is_number_good: true,
    }
    .run()
}

struct Formatter<'a> {
    out: &'a mut dyn Write,
    rest: &'a str,
    arguments: &'a [Value],
    next: usize,
    is_reordered: bool,
    is_number_good: bool,
}

impl Formatter<'_> {
    fn run(mut self) -> fmt::Result {
        let mut was_reordered = false;
        while let Some(at) = self.rest.find('%') {
            self.out.write_str(&self.rest[..at])?;
            self.rest = &self.rest[at + 1..];
            self.is_reordered = false;
            self.is_number_good = true;
            self.directive()?;
            was_reordered |= self.is_reordered;
        }
        self.out.write_str(self.rest)?;
        if was_reordered || self.next >= self.arguments.len() {
            return Ok(());
        }
        self.out.write_str("%!(EXTRA ")?;
        for (i, argument) in self.arguments[self.next..].iter().enumerate() {
            if i > 0 {
                self.out.write_str(", ")?;
            }
            match argument {
                Value::Nil => self.out.write_str("<nil>")?,
                argument => {
                    write!(self.out, "{}=", argument.type_name())?;
                    write_value(self.out, argument)?;
                }
            }
        }
        self.out.write_str(")")
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn directive(&mut self) -> fmt::Result {
        let mut spec = self.flags();
        let mut after_number = self.argument_number();
        if self.peek() == Some('*') {
            self.rest = &self.rest[1..];
            match self.star() {
                Some(width) => {
                    spec.width = Some(width.unsigned_abs() as usize);
                    if width < 0 {
                        (spec.is_minus, spec.is_zero) = (true, false);
                    }
                }
                None => self.out.write_str("%!(BADWIDTH)")?,
            }
            after_number = false;
        } else {
            spec.width = self.digits();
            if after_number && spec.width.is_some() {
                self.is_number_good = false;
            }
        }
        if self.peek() == Some('.') {
            self.rest = &self.rest[1..];
            if after_number {
                self.is_number_good = false;
            }
            after_number = self.argument_number();
            if self.peek() == Some('*') {
                self.rest = &self.rest[1..];
                match self.star().filter(|precision| *precision >= 0) {
                    Some(precision) => spec.precision = Some(precision as usize),
                    None => self.out.write_str("%!(BADPREC)")?,
                }
                after_number = false;
            } else {
                spec.precision = Some(self.digits().unwrap_or(0));
            }
        }
        if !after_number {
            self.argument_number();
        }
        self.verb(&spec)
    }

    fn flags(&mut self) -> Spec {
        let mut spec = Spec::default();
        while let Some(c) = self.peek() {
            match c {
                '#' => spec.is_sharp = true,
                '0' => spec.is_zero = !spec.is_minus,
                '+' => spec.is_plus = true,
                '-' => (spec.is_minus, spec.is_zero) = (true, false),
                ' ' => spec.is_space = true,
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        spec
    }

    fn digits(&mut self) -> Option<usize> {
        let count = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        digits.parse().ok().filter(|number| *number <= NUMBER_MAX)
    }

    /// Reads `[n]`, which chooses the next argument; says whether there was one.
    fn argument_number(&mut self) -> bool {
        let Some(inside) = self.rest.strip_prefix('[') else {
            return false;
        };
        self.is_reordered = true;
        let Some((number, rest)) = inside.split_once(']') else {
            self.is_number_good = false;
            self.rest = inside;
            return false;
        };
        self.rest = rest;
        match number.parse::<usize>() {
            Ok(number) if number >= 1 && number <= self.arguments.len() => self.next = number - 1,
            _ => self.is_number_good = false,
        }
        true
    }

    fn star(&mut self) -> Option<i64> {
        let argument = self.arguments.get(self.next);
        self.next = (self.next + 1).min(self.arguments.len());
        match argument {
            Some(Value::Int(number)) if number.unsigned_abs() <= NUMBER_MAX as u64 => Some(*number),
            _ => None,
        }
    }

    fn verb(&mut self, spec: &Spec) -> fmt::Result {
        let Some(verb) = self.peek() else {
            return self.out.write_str("%!(NOVERB)");
        };
        self.rest = &self.rest[verb.len_utf8()..];
        if verb == '%' {
            return self.out.write_str("%");
        }
        if !self.is_number_good {
            return write!(self.out, "%!{verb}(BADINDEX)");
        }
        let Some(argument) = self.arguments.get(self.next) else {
            return write!(self.out, "%!{verb}(MISSING)");
        };
        self.next += 1;
        write_argument(self.out, spec, verb, argument)
    }
}

fn write_argument(out: &mut dyn Write, spec: &Spec, verb: char, argument: &Value) -> fmt::Result {
    if verb == 'T' {
        return pad(out, spec, argument.type_name());
    }
    // With `v` the flags + and # mean "with names" and "as Go source", which numbers do not show.
    let spec = &match verb {
        'v' => Spec {
            is_plus: false,
            is_sharp: false,
            ..*spec
        },
        _ => *spec,
    };
    match argument {
        Value::Nil if verb == 'v' => pad(out, spec, "<nil>"),
        Value::Bool(is_true) if matches!(verb, 't' | 'v') => {
            pad(out, spec, if *is_true { "true" } else { "false" })
        }
        Value::Int(number) => integer(out, spec, verb, *number, argument),
        Value::Float(number) => float(out, spec, verb, *number, argument),
        Value::String(text) => string(out, spec, verb, text, argument),
        Value::Time(at) => string(out, spec, verb, &time_text(at), argument),
        Value::Duration(span) if matches!(verb, 's' | 'v' | 'q' | 'x' | 'X') => {
            string(out, spec, verb, &duration_text(*span), argument)
        }
        Value::Duration(span) => integer(out, spec, verb, *span, argument),
        Value::List(list) => {
            out.write_str("[")?;
            for (i, item) in list.items.iter().enumerate() {
                separate(out, i)?;
                write_argument(out, spec, verb, item)?;
            }
            out.write_str("]")
        }
        Value::Map(map) => {
            out.write_str("map[")?;
            for (i, (key, item)) in map.entries.iter().enumerate() {
                separate(out, i)?;
                write_argument(out, spec, verb, &Value::String(key.clone()))?;
                out.write_str(":")?;
                write_argument(out, spec, verb, item)?;
            }
            out.write_str("]")
        }
        Value::Labels(labels) | Value::Pairs(labels) => {
            out.write_str("map[")?;
            for (i, (name, value)) in labels.iter().enumerate() {
                separate(out, i)?;
                write_argument(out, spec, verb, &Value::from(name))?;
                out.write_str(":")?;
                write_argument(out, spec, verb, &Value::from(value))?;
            }
            out.write_str("]")
        }
        Value::Record(record) => {
            out.write_str("{")?;
            for (i, (_, item)) in record.fields.iter().enumerate() {
                separate(out, i)?;
                write_argument(out, spec, verb, item)?;
            }
            out.write_str("}")
        }
        Value::Nil | Value::Bool(_) => bad_verb(out, verb, argument),
    }
}

fn separate(out: &mut dyn Write, position: usize) -> fmt::Result {
    if position > 0 { out.write_str(" ") } else { Ok(()) }
}

fn bad_verb(out: &mut dyn Write, verb: char, argument: &Value) -> fmt::Result {
    if let Value::Nil = argument {
        return write!(out, "%!{verb}(<nil>)");
    }
    write!(out, "%!{verb}({}=", argument.type_name())?;
    write_value(out, argument)?;
    out.write_str(")")
}

fn pad(out: &mut dyn Write, spec: &Spec, text: &str) -> fmt::Result {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    if spec.is_minus {
        out.write_str(text)?;
        return fill(out, ' ', missing);
    }
    fill(out, if spec.is_zero { '0' } else { ' ' }, missing)?;
    out.write_str(text)
}

fn fill(out: &mut dyn Write, with: char, mut count: usize) -> fmt::Result {
    let block = if with == '0' {
        "0000000000000000"
    } else {
        "                "
    };
    while count > 0 {
        let now = count.min(block.len());
        out.write_str(&block[..now])?;
        count -= now;
    }
    Ok(())
}

fn string(out: &mut dyn Write, spec: &Spec, verb: char, text: &str, argument: &Value) -> fmt::Result {
    let truncated = match spec.precision {
        Some(precision) => match text.char_indices().nth(precision) {
            Some((end, _)) => &text[..end],
            None => text,
        },
        None => text,
    };
    match verb {
        'v' | 's' => pad(out, spec, truncated),
        'q' if spec.is_sharp && !truncated.contains('`') && !truncated.contains(char::is_control) => {
            pad(out, spec, &format!("`{truncated}`"))
        }
        'q' if spec.is_plus => pad(out, spec, &quote_ascii(truncated)),
        'q' => pad(out, spec, &quote(truncated)),
        'x' | 'X' => {
            let bytes = text.as_bytes();
            let bytes = &bytes[..spec.precision.unwrap_or(bytes.len()).min(bytes.len())];
            let mut hexadecimal = String::with_capacity(2 * bytes.len());
            for (i, byte) in bytes.iter().enumerate() {
                if i > 0 && spec.is_space {
                    hexadecimal.push(' ');
                }
                if spec.is_sharp && (i == 0 || spec.is_space) {
                    hexadecimal.push_str("0x");
                }
                write!(hexadecimal, "{byte:02x}")?;
            }
            if verb == 'X' {
                hexadecimal.make_ascii_uppercase();
            }
            pad(out, spec, &hexadecimal)
        }
        _ => bad_verb(out, verb, argument),
    }
}

fn integer(out: &mut dyn Write, spec: &Spec, verb: char, number: i64, argument: &Value) -> fmt::Result {
    let magnitude = number.unsigned_abs();
    let (digits, prefix) = match verb {
        'v' | 'd' => (magnitude.to_string(), ""),
        'b' => (format!("{magnitude:b}"), if spec.is_sharp { "0b" } else { "" }),
        'o' => (format!("{magnitude:o}"), if spec.is_sharp { "0" } else { "" }),
        'O' => (format!("{magnitude:o}"), "0o"),
        'x' => (format!("{magnitude:x}"), if spec.is_sharp { "0x" } else { "" }),
        'X' => (format!("{magnitude:X}"), if spec.is_sharp { "0X" } else { "" }),
        'c' => return pad(out, spec, character(number).encode_utf8(&mut [0; 4])),
        'q' => return pad(out, spec, &quote_character(character(number))),
        'U' => {
            let c = character(number);
            let text = format!("U+{magnitude:04X}");
            return match spec.is_sharp {
                true => pad(out, spec, &format!("{text} '{c}'")),
                false => pad(out, spec, &text),
            };
        }
        _ => return bad_verb(out, verb, argument),
    };
    let sign = sign_of(spec, number < 0);
    let plain = Spec {
        is_zero: false,
        ..*spec
    };
    let least = match (spec.precision, spec.width) {
        (Some(0), _) if number == 0 => return pad(out, &plain, ""),
        (Some(precision), _) => precision,
        (None, Some(width)) if spec.is_zero => width.saturating_sub(sign.len()),
        _ => 0,
    };
    let zeros = "0".repeat(least.saturating_sub(digits.len()));
    pad(out, &plain, &format!("{sign}{prefix}{zeros}{digits}"))
}

fn sign_of(spec: &Spec, is_negative: bool) -> &'static str {
    match () {
        () if is_negative => "-",
        () if spec.is_plus => "+",
        () if spec.is_space => " ",
        () => "",
    }
}

fn character(number: i64) -> char {
    u32::try_from(number)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn float(out: &mut dyn Write, spec: &Spec, verb: char, number: f64, argument: &Value) -> fmt::Result {
    let text = match verb {
        'v' => format_float(number, 'g', spec.precision),
        'g' | 'G' => format_float(number, verb, spec.precision),
        'e' | 'E' | 'f' | 'F' => format_float(number, verb, Some(spec.precision.unwrap_or(6))),
        _ => return bad_verb(out, verb, argument),
    };
    let unsigned = text.trim_start_matches(['+', '-']);
    let is_negative = text.starts_with('-');
    if !number.is_finite() {
        let sign = match (number.is_nan(), is_negative) {
            (true, _) => sign_of(spec, false),
            (false, true) => "-",
            (false, false) if spec.is_space && !spec.is_plus => " ",
            (false, false) => "+",
        };
        let plain = Spec {
            is_zero: false,
            ..*spec
        };
        return pad(out, &plain, &format!("{sign}{unsigned}"));
    }
    let sign = sign_of(spec, is_negative);
    if spec.is_zero && !spec.is_minus {
        out.write_str(sign)?;
        let width = spec.width.map(|width| width.saturating_sub(sign.len()));
        return pad(out, &Spec { width, ..*spec }, unsigned);
    }
    pad(out, spec, &format!("{sign}{unsigned}"))
}

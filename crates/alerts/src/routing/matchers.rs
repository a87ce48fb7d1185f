//! Matchers as people write them: `a="b"`, `{a=~"x",c!=d}`.
//!
//! Alertmanager has two grammars, the classic one and that of UTF-8 names (0.27 and newer). A text that only
//! one of them reads is read by that one; where both read it and differ, the classic one counts, so that no
//! old configuration changes its meaning.
//! Deliberately absent: what a matcher does; see [`marketprism_model::Matcher`].

mod classic;
mod utf8;

use std::fmt::Write as _;

use marketprism_model::{Matcher, MatcherError, MatcherOp};
use thiserror::Error;

/// A text of matchers is at most this long.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// A text holds at most so many matchers.
pub const MATCHERS_MAX: usize = 500;

/// Why a text is no list of matchers.
#[derive(Debug, Error)]
pub enum ParseError {
    /// The text is longer than [`TEXT_BYTES_MAX`].
    #[error("{0} bytes of matchers are too many; at most {TEXT_BYTES_MAX}")]
    TooLong(usize),
    /// The text holds more than [`MATCHERS_MAX`] matchers.
    #[error("{0} matchers in one text are too many; at most {MATCHERS_MAX}")]
    TooMany(usize),
    /// Neither grammar reads it.
    #[error(
        "not a matcher: {text:?}: {reason}; expected label, one of = != =~ !~, and a value, as in {example}"
    )]
    Syntax {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
        /// How it looks when it is right.
        example: &'static str,
    },
    /// One matcher was wanted.
    #[error("expected one matcher, found {0}")]
    NotOne(usize),
    /// An expression cannot be used.
    #[error(transparent)]
    Expression(#[from] MatcherError),
}

/// A matcher that was read and not yet compiled.
#[derive(PartialEq, Eq, Debug)]
struct Raw {
    name: String,
    op: MatcherOp,
    value: String,
}

/// Reads matchers separated by commas, within braces or not; an empty text holds none.
///
/// Source: Alertmanager 0.27 and newer, `matcher/compat` without feature flags.
pub fn parse(text: &str) -> Result<Vec<Matcher>, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ParseError::TooLong(text.len()));
    }
    either(text, classic::parse(text), || utf8::parse(text))
}

/// Reads exactly one matcher, without braces, as a filter of Alertmanager's API is read.
pub fn parse_one(text: &str) -> Result<Matcher, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ParseError::TooLong(text.len()));
    }
    if text.starts_with('{') || text.ends_with('}') {
        return Err(syntax(text, "braces stand around lists only", ""));
    }
    // Alone, the classic grammar takes commas as part of the value.
    let classic = classic::parse_one(text).map(|raw| vec![raw]);
    let mut matchers = either(text, classic, || utf8::parse(text))?;
    match (matchers.pop(), matchers.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(ParseError::NotOne(0)),
        (Some(_), others) => Err(ParseError::NotOne(others + 1)),
    }
}

/// Takes the classic reading when it makes matchers, else the other.
fn either(
    text: &str,
    classic: Result<Vec<Raw>, String>,
    utf8: impl FnOnce() -> Result<Vec<Raw>, String>,
) -> Result<Vec<Matcher>, ParseError> {
    let (classic_fault, expression) = match classic.map(|raw| compiled(text, &raw)) {
        Ok(Ok(matchers)) => return Ok(matchers),
        Ok(Err(error)) => (String::new(), Some(error)),
        Err(fault) => (fault, None),
    };
    match (utf8(), expression) {
        (Ok(raw), None) => compiled(text, &raw),
        (Ok(raw), Some(error)) => compiled(text, &raw).map_err(|_| error),
        (Err(_), Some(error)) => Err(error),
        (Err(fault), None) => Err(syntax(text, &fault, &classic_fault)),
    }
}

fn compiled(text: &str, raw: &[Raw]) -> Result<Vec<Matcher>, ParseError> {
    if raw.len() > MATCHERS_MAX {
        return Err(ParseError::TooMany(raw.len()));
    }
    raw.iter()
        .map(|raw| {
            if raw.name.is_empty() {
                return Err(syntax(text, "the label's name is empty", ""));
            }
            Ok(Matcher::new(&raw.name, raw.op, &raw.value)?)
        })
        .collect()
}

fn syntax(text: &str, utf8: &str, classic: &str) -> ParseError {
    const SHOWN_CHARACTERS_MAX: usize = 200;
    let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
    // The classic grammar knows one fault only, but for quotes.
    let reason = if classic.contains("quote") { classic } else { utf8 };
    ParseError::Syntax {
        text: shown,
        reason: reason.to_owned(),
        example: "severity=~\"critical|high\"",
    }
}

/// Puts matchers into Alertmanager's order: by name, value and operator.
pub fn sort(matchers: &mut [Matcher]) {
    matchers.sort_by(|a, b| (&a.name, &a.value, a.op).cmp(&(&b.name, &b.value, b.op)));
}

/// Writes one matcher as Alertmanager does; [`parse_one`] reads the same again.
pub fn write_one(matcher: &Matcher) -> String {
    let mut text = String::new();
    append(&mut text, matcher);
    text
}

/// Writes matchers as Alertmanager does, within braces; [`parse`] reads the same again.
pub fn write(matchers: &[Matcher]) -> String {
    let mut text = String::from("{");
    for (number, matcher) in matchers.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        append(&mut text, matcher);
    }
    text.push('}');
    text
}

fn append(text: &mut String, matcher: &Matcher) {
    let (name, op, value) = (&*matcher.name, matcher.op.as_str(), &*matcher.value);
    if name.contains(utf8::is_reserved) {
        quote(text, name);
        text.push_str(op);
        quote(text, value);
        return;
    }
    text.push_str(name);
    text.push_str(op);
    text.push('"');
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
}

/// Writes a text in Go's double quotes. What Go would escape for looks alone (other scripts never) stays.
fn quote(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{7}' => text.push_str("\\a"),
            '\u{8}' => text.push_str("\\b"),
            '\u{b}' => text.push_str("\\v"),
            '\u{c}' => text.push_str("\\f"),
            control if control.is_control() && (control as u32) < 0x80 => {
                let _ = write!(text, "\\x{:02x}", control as u32);
            }
            control if control.is_control() => {
                let _ = write!(text, "\\u{:04x}", control as u32);
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

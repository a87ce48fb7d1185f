//! A place in the text, with the small things that are read from it: blanks, numbers, texts in quotes.

use super::{NOTATION_BYTES_MAX, NotationError};

pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// Says whether a byte may stand in a word; a word begins with one that is no digit.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, NotationError> {
        let cursor = Cursor { text, at: 0 };
        if text.len() > NOTATION_BYTES_MAX {
            let message = format!("a text of {} bytes exceeds {NOTATION_BYTES_MAX}", text.len());
            return Err(cursor.error(message));
        }
        Ok(cursor)
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn starts_with(&self, what: &str) -> bool {
        self.rest().starts_with(what)
    }

    /// The byte `ahead` of here, 0 behind the end.
    pub(super) fn peek(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Goes on by bytes, which must end a character.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    pub(super) fn take(&mut self, what: &str) -> bool {
        let is_there = self.starts_with(what);
        if is_there {
            self.at += what.len();
        }
        is_there
    }

    /// Takes a word only as a whole.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        self.word() == word && self.take(word)
    }

    /// The word that begins here; empty where none does.
    pub(super) fn word(&self) -> &'a str {
        let rest = self.rest();
        if self.peek(0).is_ascii_digit() {
            return "";
        }
        let end = rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len());
        &rest[..end]
    }

    /// Passes blanks; says whether there was one.
    pub(super) fn skip_blanks(&mut self) -> bool {
        let rest = self.rest();
        let blanks = rest
            .bytes()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
        self.at += blanks;
        blanks > 0
    }

    pub(super) fn error(&self, message: String) -> NotationError {
        self.error_at(self.at, message)
    }

    fn error_at(&self, position: usize, message: String) -> NotationError {
        let before = &self.text[..position];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        NotationError {
            message,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            position,
        }
    }

    /// Says that something else was expected here.
    pub(super) fn unexpected(&self, context: &str, expected: &str) -> NotationError {
        let found = match (self.word(), self.rest().chars().next()) {
            (_, None) => "end of input".to_owned(),
            ("", Some(found)) => format!("{:?}", found.to_string()),
            (word, _) => format!("{:?}", word.chars().take(40).collect::<String>()),
        };
        self.error(format!("unexpected {found} in {context}, expected {expected}"))
    }

    /// Reads how often something is repeated: digits alone.
    pub(super) fn repetitions(&mut self) -> Result<usize, NotationError> {
        let (start, digits) = (self.at, self.digits());
        let (text, after) = (&self.text[start..start + digits], self.peek(digits));
        if digits == 0 || is_word(after) || after == b'.' {
            return Err(self.unexpected("series values", "a whole number of repetitions"));
        }
        self.at += digits;
        text.parse()
            .map_err(|_| self.error_at(start, format!("invalid repetition in series values: {text}")))
    }

    fn digits(&self) -> usize {
        self.rest()
            .bytes()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    }

    /// Reads a whole number that may be negative.
    pub(super) fn whole_number(&mut self, context: &str) -> Result<i32, NotationError> {
        let start = self.at;
        self.take("-");
        let digits = self.digits();
        let after = self.peek(digits);
        if digits == 0 || is_word(after) || after == b'.' {
            return Err(self.unexpected(context, "a whole number"));
        }
        self.at += digits;
        let text = &self.text[start..self.at];
        text.parse()
            .map_err(|_| self.error_at(start, format!("{text} is beyond what {context} can hold")))
    }

    /// Reads a number that may have a sign.
    pub(super) fn signed_number(&mut self, context: &str, expected: &str) -> Result<f64, NotationError> {
        if self.take("-") {
            return Ok(-self.number(context, expected)?);
        }
        self.take("+");
        self.number(context, expected)
    }

    /// Reads a number without a sign; `NaN` and `Inf` in any case.
    pub(super) fn number(&mut self, context: &str, expected: &str) -> Result<f64, NotationError> {
        let word = self.word();
        for (name, value) in [("nan", f64::NAN), ("inf", f64::INFINITY)] {
            if word.eq_ignore_ascii_case(name) {
                self.at += name.len();
                return Ok(value);
            }
        }
        let first = self.peek(0);
        if !(first.is_ascii_digit() || first == b'.' && self.peek(1).is_ascii_digit()) {
            return Err(self.unexpected(context, expected));
        }
        let text = self.number_text()?;
        let start = self.at;
        self.at += text.len();
        value_of(text).ok_or_else(|| self.error_at(start, format!("bad number syntax: {text:?}")))
    }

    /// The text of a number; what follows it must not go on like one, but for the `x` of a repetition.
    fn number_text(&self) -> Result<&'a str, NotationError> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut end = 0;
        while let Some(byte) = bytes.get(end) {
            let is_sign_of_exponent =
                matches!(byte, b'+' | b'-') && end > 0 && matches!(bytes[end - 1], b'e' | b'E');
            if !(byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'e' | b'E') || is_sign_of_exponent) {
                break;
            }
            end += 1;
        }
        match bytes.get(end) {
            Some(byte) if is_word(*byte) && *byte != b'x' => {
                let word_end = rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len());
                let bad = &rest[..word_end.max(end)];
                Err(self.error(format!("bad number syntax: {bad:?}")))
            }
            _ => Ok(&rest[..end]),
        }
    }

    /// Reads a text in one of the three quotings, with Go's escapes in two of them.
    pub(super) fn quoted(&mut self, context: &str) -> Result<String, NotationError> {
        let quote = self.peek(0);
        if !matches!(quote, b'"' | b'\'' | b'`') {
            return Err(self.unexpected(context, "string"));
        }
        let start = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let byte = self.peek(0);
            if self.is_at_end() || byte == b'\n' && quote != b'`' {
                return Err(self.error_at(start, "unterminated quoted string".to_owned()));
            }
            self.at += 1;
            match byte {
                _ if byte == quote => break,
                b'\\' if quote != b'`' => self.escaped(quote, &mut bytes)?,
                _ => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).map_err(|_| self.error_at(start, "a label's text must be UTF-8".to_owned()))
    }

    /// Reads what stands behind a backslash.
    fn escaped(&mut self, quote: u8, out: &mut Vec<u8>) -> Result<(), NotationError> {
        let (start, byte) = (self.at - 1, self.peek(0));
        let simple = match byte {
            b'a' => Some(0x07),
            b'b' => Some(0x08),
            b'f' => Some(0x0c),
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'v' => Some(0x0b),
            b'\\' => Some(b'\\'),
            _ if byte == quote => Some(quote),
            _ => None,
        };
        if let Some(simple) = simple {
            self.at += 1;
            out.push(simple);
            return Ok(());
        }
        let (skip, digits, radix) = match byte {
            b'x' => (1, 2, 16),
            b'u' => (1, 4, 16),
            b'U' => (1, 8, 16),
            b'0'..=b'7' => (0, 3, 8),
            _ => return Err(self.error_at(start, "unknown escape sequence".to_owned())),
        };
        let end = self.at + skip + digits;
        let code = self
            .text
            .get(self.at + skip..end)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|text| u32::from_str_radix(text, radix).ok());
        let Some(code) = code else {
            return Err(self.error_at(start, "illegal escape sequence".to_owned()));
        };
        self.at = end;
        if digits > 3 {
            let Some(letter) = char::from_u32(code) else {
                let message = "escape sequence is an invalid Unicode code point".to_owned();
                return Err(self.error_at(start, message));
            };
            out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        let byte = u8::try_from(code)
            .map_err(|_| self.error_at(start, "escape sequence is beyond one byte".to_owned()))?;
        out.push(byte);
        Ok(())
    }
}

/// The value of a number's text: a whole one with a leading zero is octal where it can be, underscores stand
/// between digits, and what no `f64` can hold is refused.
fn value_of(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let is_between_digits = |at: usize| {
        let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
        digit(at.checked_sub(1)) && digit(at.checked_add(1))
    };
    let mut underscores = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_');
    if !underscores.all(|(at, _)| is_between_digits(at)) {
        return None;
    }
    let digits = text.replace('_', "");
    let is_octal =
        digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    if is_octal && let Ok(whole) = i64::from_str_radix(&digits, 8) {
        return Some(whole as f64);
    }
    let value: f64 = digits.parse().ok()?;
    value.is_finite().then_some(value)
}

//! Looks over an expression's text before the parser sees it.
//!
//! The parser in use neither bounds nesting nor gives positions, takes durations beyond its own range
//! as nothing, and panics on some numbers. So whatever could overflow a stack, be misread or give no
//! useful message is refused here, with its position.
//! Invariant: what passes nests at most [`DEPTH_MAX`] deep, and each duration is what it says.

use crate::parse::ParseError;

/// The longest text that is looked at.
pub const TEXT_BYTES_MAX: usize = 128 << 10;

/// How deep expressions may nest; operators of one chain count as levels, for the tree leans over.
pub const DEPTH_MAX: usize = 256;

/// The longest duration, 100 years: far beyond any store, far within all arithmetic on milliseconds.
pub(crate) const SPAN_MS_MAX: i64 = 100 * 365 * 86_400_000;

struct Level {
    bracket: u8,
    opened_at: usize,
    operators: usize,
}

struct Guard<'a> {
    text: &'a str,
    at: usize,
    levels: Vec<Level>,
    /// Whether the last word was `offset`, so that a duration follows.
    after_offset: bool,
}

/// Refuses text that is too long, too deep, unbalanced, or whose durations are out of range.
pub(crate) fn look_over(text: &str) -> Result<(), ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("expression of {} bytes exceeds {TEXT_BYTES_MAX}", text.len());
        return Err(ParseError::new(message, None));
    }
    let root = Level {
        bracket: 0,
        opened_at: 0,
        operators: 0,
    };
    Guard {
        text,
        at: 0,
        levels: vec![root],
        after_offset: false,
    }
    .run()
}

impl Guard<'_> {
    fn error<T>(&self, message: impl Into<String>, at: usize) -> Result<T, ParseError> {
        Err(ParseError::new(message.into(), Some(at)))
    }

    fn run(mut self) -> Result<(), ParseError> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at).copied() {
            match byte {
                b'#' => self.skip_while(|b| b != b'\n'),
                b'"' | b'\'' | b'`' => self.string(byte)?,
                b'(' | b'[' | b'{' => self.open(byte)?,
                b')' | b']' | b'}' => self.close(byte)?,
                b'0'..=b'9' | b'.' => self.number()?,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.word()?,
                b':' if self.is_in_range() => self.at += 1,
                b':' => self.skip_while(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':'),
                b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'<' | b'>' | b'=' | b'!' => self.operator()?,
                _ => self.at += 1,
            }
            // Spaces of all kinds, comments and signs may stand between "offset" and its duration.
            let is_between = matches!(byte, b'#' | b'+' | b'-') || !byte.is_ascii_graphic();
            if !is_between && !byte.is_ascii_alphabetic() {
                self.after_offset = false;
            }
        }
        match self.levels.last() {
            Some(level) if level.bracket != 0 => {
                let open = char::from(level.bracket);
                self.error(format!("unclosed {open:?}"), level.opened_at)
            }
            _ => Ok(()),
        }
    }

    /// Steps over the byte at hand and all that follow while `keep` holds.
    fn skip_while(&mut self, keep: impl Fn(u8) -> bool) {
        let rest = &self.text.as_bytes()[self.at + 1..];
        self.at += 1 + rest.iter().take_while(|b| keep(**b)).count();
    }

    fn string(&mut self, quote: u8) -> Result<(), ParseError> {
        let (bytes, start) = (self.text.as_bytes(), self.at);
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                None => return self.error("unterminated string", start),
                Some(b'\n') if quote != b'`' => return self.error("unterminated string", start),
                Some(b'\\') if quote != b'`' => self.at += 2,
                Some(byte) => {
                    self.at += 1;
                    if *byte == quote {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn open(&mut self, bracket: u8) -> Result<(), ParseError> {
        // A range or subquery wraps what stands before it, so it is a level that stays.
        if bracket == b'['
            && let Some(level) = self.levels.last_mut()
        {
            level.operators += 1;
        }
        self.levels.push(Level {
            bracket,
            opened_at: self.at,
            operators: 0,
        });
        self.at += 1;
        self.check_depth()
    }

    fn close(&mut self, bracket: u8) -> Result<(), ParseError> {
        let opening = match bracket {
            b')' => b'(',
            b']' => b'[',
            _ => b'{',
        };
        let at = self.at;
        match self.levels.pop() {
            Some(level) if level.bracket == opening => {}
            _ => return self.error(format!("unexpected {:?}", char::from(bracket)), at),
        }
        self.at += 1;
        Ok(())
    }

    fn operator(&mut self) -> Result<(), ParseError> {
        let is_pair = self.text.as_bytes().get(self.at + 1) == Some(&b'=');
        self.at += if is_pair { 2 } else { 1 };
        self.count_operator()
    }

    fn count_operator(&mut self) -> Result<(), ParseError> {
        if let Some(level) = self.levels.last_mut() {
            level.operators += 1;
        }
        self.check_depth()
    }

    /// No tree is deeper than its open brackets and the operators between them.
    fn check_depth(&self) -> Result<(), ParseError> {
        let depth: usize = match &self.levels[..] {
            // Most operators stand in a shallow text: the sum is short.
            levels if levels.len() > DEPTH_MAX => levels.len(),
            levels => levels.iter().map(|level| level.operators + 1).sum(),
        };
        if depth > DEPTH_MAX {
            return self.error(
                format!("expression nests deeper than {DEPTH_MAX} levels"),
                self.at,
            );
        }
        Ok(())
    }

    fn word(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        self.skip_while(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':');
        let word = &self.text[start..self.at];
        let is_one_of = |words: &[&str]| words.iter().any(|w| w.eq_ignore_ascii_case(word));
        if is_one_of(&["inf", "nan"]) && self.expects_duration() {
            return self.error(format!("{word} is no duration"), start);
        }
        self.after_offset = is_one_of(&["offset"]);
        if is_one_of(&["and", "or", "unless", "atan2"]) {
            return self.count_operator();
        }
        Ok(())
    }

    fn expects_duration(&self) -> bool {
        self.after_offset || self.is_in_range()
    }

    fn is_in_range(&self) -> bool {
        self.levels.last().is_some_and(|level| level.bracket == b'[')
    }

    fn number(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        self.skip_while(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_');
        // The sign of an exponent belongs to the number, unless the digits are hexadecimal.
        let is_hex = self.text[start..self.at].to_ascii_lowercase().starts_with("0x");
        if !is_hex
            && self.text[start..self.at].ends_with(['e', 'E'])
            && matches!(self.text.as_bytes().get(self.at), Some(b'+' | b'-'))
        {
            self.skip_while(|b| b.is_ascii_digit());
        }
        let token = &self.text[start..self.at];
        let expects_duration = self.expects_duration();
        self.after_offset = false;
        if let Some(parts) = duration_parts(token) {
            let total = parts.iter().try_fold(0i64, |total, (count, unit_ms)| {
                let count = u32::try_from(*count).ok()?;
                total.checked_add(i64::from(count).checked_mul(*unit_ms)?)
            });
            if total.is_none_or(|ms| ms > SPAN_MS_MAX) {
                return self.error(format!("duration {token} is out of range"), start);
            }
        } else if expects_duration {
            let seconds: Option<f64> = token.parse().ok();
            if seconds.is_none_or(|s| !s.is_finite() || s * 1000.0 > SPAN_MS_MAX as f64) {
                return self.error(format!("{token} is no duration, or out of range"), start);
            }
        }
        Ok(())
    }
}

/// Takes `1h30m` apart into counts and units in milliseconds; `None` for what is no duration.
fn duration_parts(token: &str) -> Option<Vec<(u64, i64)>> {
    let (mut parts, mut rest) = (Vec::new(), token);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        };
        if digits == 0 {
            return None;
        }
        parts.push((number.parse().unwrap_or(u64::MAX), unit_ms));
        rest = &rest[digits + letters..];
    }
    Some(parts)
}

//! Regular expressions as Prometheus users write them, which is as Go's `regexp` (RE2) reads them.
//!
//! The engine in use reads another dialect: its `\d`, `\w`, `\s` and `\b` know all of Unicode where Go's know
//! ASCII, it finds operators in classes (`[a&&b]`) and words' edges in `\<` where Go sees plain characters, and
//! lacks `\Q…\E`, octal escapes and literal braces. So a pattern is read here by Go's rules and written anew with
//! nothing left that the two read differently. Case folding and `\pL` are the same in both, and stay.
//! Deliberately absent: Go's names of faults. What both refuse is refused in the engine's words.
//!
//! Source: `regexp/syntax` of the Go standard library, flags `Perl` and `DotNL`.

use std::fmt::Write;

/// The longest run that a repetition may ask for.
const REPEAT_MAX: u32 = 1000;
/// Groups may be nested this deep.
const DEPTH_MAX: usize = 250;

/// Writes a pattern of Go's dialect in that of `regex-automata`, for which words' edges are ASCII.
///
/// The error says what is wrong, without the pattern.
pub(crate) fn translated(pattern: &str) -> Result<String, String> {
    let mut reader = Reader {
        rest: pattern,
        out: String::with_capacity(pattern.len() + 8),
        depth: 0,
        repeated: None,
        flags_from: None,
        has_class_ends: true,
        repeats: 1,
        group_repeats: Vec::new(),
    };
    while !reader.rest.is_empty() {
        reader.piece()?;
    }
    if reader.depth > 0 {
        return Err("missing closing ): unclosed group".to_owned());
    }
    Ok(reader.out)
}

struct Reader<'a> {
    rest: &'a str,
    out: String,
    depth: usize,
    /// The repetition that was just read: it cannot be repeated itself.
    repeated: Option<&'a str>,
    /// Where groups of flags alone begin at the end of what is written: a repetition behind them is of what stands
    /// before.
    flags_from: Option<usize>,
    /// Whether `:]` may follow; that none does is found once, or many `[:` would be long work.
    has_class_ends: bool,
    /// How often the counts of what was read last repeat a part of it, within each other.
    repeats: u32,
    /// The same for what is in each open group, the outermost first.
    group_repeats: Vec<u32>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn skip(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Writes a character that means itself.
    fn literal(&mut self, c: char) {
        if c.is_ascii_alphanumeric() || !c.is_ascii() {
            self.out.push(c);
        } else {
            let _ = write!(self.out, "\\x{{{:x}}}", c as u32);
        }
    }

    /// Reads one character, class, group's edge or repetition.
    fn piece(&mut self) -> Result<(), String> {
        let (before, repeated) = (self.rest, self.repeated.take());
        let flags_from = self.flags_from.take();
        let Some(c) = self.next() else {
            return Ok(());
        };
        if !matches!(c, '(' | ')' | '{' | '*' | '+' | '?') {
            self.repeats = 1;
        }
        match c {
            '\\' => self.escape(),
            '[' => self.class(),
            '(' => self.group(before, flags_from),
            ')' => {
                let inner = self.group_repeats.pop().unwrap_or(1);
                self.note_repeats(inner);
                self.depth = self.depth.checked_sub(1).ok_or("unexpected )")?;
                self.out.push(')');
                Ok(())
            }
            '|' | '^' | '$' | '.' => {
                self.out.push(c);
                Ok(())
            }
            '*' | '+' | '?' => self.repetition(before, repeated, flags_from),
            '{' => match repetition_count(self.rest) {
                Some((length, counts)) => {
                    if counts.iter().flatten().any(|count| *count > REPEAT_MAX)
                        || matches!(counts, [Some(least), Some(most)] if least > most)
                    {
                        return Err(format!("invalid repeat count: `{}`", &before[..length + 1]));
                    }
                    // Without an upper count, the lower one counts; none at all repeats nothing.
                    let count = counts[1].or(counts[0]).unwrap_or(1);
                    let repeats = self.repeats.saturating_mul(count.max(1));
                    if repeats > REPEAT_MAX {
                        return Err(format!("invalid repeat count: `{}`", &before[..length + 1]));
                    }
                    self.note_repeats(repeats);
                    self.rest = &self.rest[length..];
                    self.repetition(before, repeated, flags_from)
                }
                None => {
                    self.repeats = 1;
                    self.literal(c);
                    Ok(())
                }
            },
            c => {
                self.literal(c);
                Ok(())
            }
        }
    }

    fn note_repeats(&mut self, repeats: u32) {
        self.repeats = repeats;
        if let Some(group) = self.group_repeats.last_mut() {
            *group = repeats.max(*group);
        }
    }

    /// Writes the repetition that began at `before`.
    fn repetition(
        &mut self,
        before: &'a str,
        repeated: Option<&'a str>,
        flags_from: Option<usize>,
    ) -> Result<(), String> {
        self.skip("?");
        let written = |from: &'a str| &from[..from.len() - self.rest.len()];
        if let Some(first) = repeated {
            return Err(format!(
                "invalid nested repetition operator: `{}`",
                written(first)
            ));
        }
        let place = flags_from.unwrap_or(self.out.len());
        self.out.insert_str(place, written(before));
        self.repeated = Some(before);
        Ok(())
    }

    /// Reads what follows the opening bracket of a group.
    fn group(&mut self, before: &str, flags_from: Option<usize>) -> Result<(), String> {
        let start = self.out.len();
        self.out.push('(');
        if !self.skip("?") {
            return self.enter();
        }
        self.out.push('?');
        for name in ["P<", "<"] {
            if self.skip(name) {
                self.out.push_str(name);
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                match self.rest.split_once('>') {
                    Some((name, rest)) if !name.is_empty() && name.chars().all(is_name) => {
                        self.out.push_str(&self.rest[..name.len() + 1]);
                        self.rest = rest;
                    }
                    _ => return Err("invalid named capture".to_owned()),
                }
                return self.enter();
            }
        }
        // Flags: what is not among these means something else in the engine's dialect.
        while let Some(c) = self.next() {
            match c {
                'i' | 'm' | 's' | 'U' | '-' => self.out.push(c),
                ':' => {
                    self.out.push(c);
                    return self.enter();
                }
                ')' => {
                    self.out.push(c);
                    self.flags_from = flags_from.or(Some(start));
                    return Ok(());
                }
                _ => break,
            }
        }
        let length = before.len() - self.rest.len();
        Err(format!(
            "invalid or unsupported Perl syntax: `{}`",
            &before[..length]
        ))
    }

    fn enter(&mut self) -> Result<(), String> {
        self.depth += 1;
        self.group_repeats.push(1);
        if self.depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} groups within each other"));
        }
        Ok(())
    }

    /// Reads what follows a backslash outside classes.
    fn escape(&mut self) -> Result<(), String> {
        let mut chars = self.rest.chars();
        match chars.next() {
            Some(c) if perl_class(c).is_some() => {
                self.rest = chars.as_str();
                self.perl_class(c);
            }
            Some(c @ ('A' | 'z')) => {
                self.rest = chars.as_str();
                self.out.extend(['\\', c]);
            }
            Some(c @ ('b' | 'B')) => {
                self.rest = chars.as_str();
                let _ = write!(self.out, "(?-u:\\{c})");
            }
            Some('Q') => {
                let text = chars.as_str();
                // Prometheus writes `)$` behind every pattern, which an open quotation would swallow.
                let (literal, rest) = text.split_once("\\E").ok_or("missing closing \\E")?;
                self.rest = rest;
                literal.chars().for_each(|c| self.literal(c));
            }
            Some('p' | 'P') => self.unicode_class()?,
            _ => {
                let c = self.escaped()?;
                self.literal(c);
            }
        }
        Ok(())
    }

    fn perl_class(&mut self, c: char) {
        if let Some((negated, ranges)) = perl_class(c) {
            let _ = write!(self.out, "[{}{ranges}]", if negated { "^" } else { "" });
        }
    }

    /// Reads `pL`, `p{Greek}` or `p{^Greek}` after the backslash.
    fn unicode_class(&mut self) -> Result<(), String> {
        let mut is_negated = self.next() == Some('P');
        let name = if self.skip("{") {
            let (name, rest) = self
                .rest
                .split_once('}')
                .ok_or("invalid character class range: missing }")?;
            self.rest = rest;
            name
        } else {
            let name = self.rest;
            let length = self.next().map_or(0, char::len_utf8);
            &name[..length]
        };
        let name = match name.strip_prefix('^') {
            Some(name) => {
                is_negated = !is_negated;
                name
            }
            None => name,
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("invalid character class range: `\\p{{{name}}}`"));
        }
        let letter = if is_negated { 'P' } else { 'p' };
        let _ = write!(self.out, "\\{letter}{{{name}}}");
        Ok(())
    }

    /// Reads what follows a backslash and stands for one character.
    fn escaped(&mut self) -> Result<char, String> {
        let before = self.rest;
        let Some(c) = self.next() else {
            return Err("trailing backslash at end of expression".to_owned());
        };
        let is_octal = |c: Option<char>| c.filter(|c| ('0'..='7').contains(c));
        let value = match c {
            'a' => Some('\x07'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            'x' => self.hexadecimal(),
            // One figure alone would be a reference back, which RE2 has not.
            '0'..='7' if c == '0' || is_octal(self.rest.chars().next()).is_some() => {
                let mut code = c as u32 - '0' as u32;
                for _ in 0..2 {
                    let Some(figure) = is_octal(self.rest.chars().next()) else {
                        break;
                    };
                    code = code * 8 + (figure as u32 - '0' as u32);
                    self.next();
                }
                char::from_u32(code)
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
            _ => None,
        };
        value.ok_or_else(|| {
            let length = before.len() - self.rest.len();
            format!("invalid escape sequence: `\\{}`", &before[..length])
        })
    }

    /// Reads `7f` or `{10ffff}` after `\x`.
    fn hexadecimal(&mut self) -> Option<char> {
        let figures = if self.skip("{") {
            let (figures, rest) = self.rest.split_once('}')?;
            self.rest = rest;
            figures
        } else {
            let figures = self.rest.get(..2)?;
            self.rest = &self.rest[2..];
            figures
        };
        let is_number = (1..=8).contains(&figures.len()) && figures.bytes().all(|b| b.is_ascii_hexdigit());
        let code = is_number
            .then(|| u32::from_str_radix(figures, 16).ok())
            .flatten()?;
        char::from_u32(code)
    }

    /// Reads a class after its opening bracket.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.skip("^") {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            if self.rest.is_empty() {
                return Err("missing closing ]: unclosed character class".to_owned());
            }
            if !is_first && self.skip("]") {
                self.out.push(']');
                return Ok(());
            }
            is_first = false;
            if self.has_class_ends && self.rest.starts_with("[:") {
                if let Some(end) = self.rest[2..].find(":]") {
                    let (name, rest) = self.rest.split_at(end + 4);
                    self.out.push_str(&ascii_class(name)?);
                    self.rest = rest;
                    continue;
                }
                self.has_class_ends = false;
            }
            if let Some(escaped) = self.rest.strip_prefix('\\') {
                match escaped.chars().next() {
                    Some('p' | 'P') => {
                        self.rest = escaped;
                        self.unicode_class()?;
                        continue;
                    }
                    Some(c) if perl_class(c).is_some() => {
                        self.rest = &escaped[c.len_utf8()..];
                        self.perl_class(c);
                        continue;
                    }
                    _ => {}
                }
            }
            self.class_range()?;
        }
    }

    /// Reads a character of a class, or a range of them.
    fn class_range(&mut self) -> Result<(), String> {
        let before = self.rest;
        let first = self.class_char()?;
        let mut last = first;
        if self.rest.starts_with('-') && !self.rest.starts_with("-]") && self.rest.len() > 1 {
            self.skip("-");
            last = self.class_char()?;
        }
        if last < first {
            let length = before.len() - self.rest.len();
            return Err(format!("invalid character class range: `{}`", &before[..length]));
        }
        self.literal(first);
        if last != first {
            self.out.push('-');
            self.literal(last);
        }
        Ok(())
    }

    fn class_char(&mut self) -> Result<char, String> {
        if self.skip("\\") {
            return self.escaped();
        }
        self.next()
            .ok_or_else(|| "missing closing ]: unclosed character class".to_owned())
    }
}

/// Gives whether a Perl class is negated, and its ranges.
fn perl_class(letter: char) -> Option<(bool, &'static str)> {
    Some(match letter {
        'd' => (false, "0-9"),
        'D' => (true, "0-9"),
        's' => (false, r"\t\n\f\r\x20"),
        'S' => (true, r"\t\n\f\r\x20"),
        'w' => (false, "0-9A-Za-z_"),
        'W' => (true, "0-9A-Za-z_"),
        _ => return None,
    })
}

/// Checks the name of a class such as `[:alpha:]`.
fn ascii_class(written: &str) -> Result<String, String> {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
        "upper", "word", "xdigit",
    ];
    let name = written
        .strip_prefix("[:")
        .and_then(|name| name.strip_suffix(":]"))
        .unwrap_or("");
    if NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
        Ok(written.to_owned())
    } else {
        Err(format!("invalid character class range: `{written}`"))
    }
}

/// Reads `2}`, `2,}` or `2,5}`: how long it is, and its least and most; `None` when a brace is only a brace.
fn repetition_count(text: &str) -> Option<(usize, [Option<u32>; 2])> {
    // Only as far as it can be a repetition: many braces would be long work.
    let is_count = |byte: &u8| byte.is_ascii_digit() || *byte == b',';
    let inner = &text[..text.bytes().take_while(|byte| is_count(byte)).count()];
    if !text[inner.len()..].starts_with('}') {
        return None;
    }
    let count = |figures: &str| {
        let is_number = !figures.is_empty() && figures.bytes().all(|byte| byte.is_ascii_digit());
        let is_plain = figures.len() == 1 || !figures.starts_with('0');
        // What is too long to be read is too large as well.
        (is_number && is_plain).then(|| figures.parse().unwrap_or(u32::MAX))
    };
    let counts = match inner.split_once(',') {
        None => [Some(count(inner)?), None],
        Some((least, "")) => [Some(count(least)?), None],
        Some((least, most)) => [Some(count(least)?), Some(count(most)?)],
    };
    Some((inner.len() + 1, counts))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matcher::anchored;

    #[test]
    fn what_the_two_dialects_read_differently_is_read_as_go_does() {
        let check = |pattern: &str, value: &str, expected: bool| {
            let regex = anchored(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(regex.is_match(value), expected, "{pattern} on {value:?}");
        };
        check(r"\d", "7", true);
        check(r"\d", "٧", false);
        check(r"[\D]", "٧", true);
        check(r"\w+", "naïve", false);
        check(r"\s", "\u{a0}", false);
        check(r"\s", "\u{b}", false);
        check(r"na\bïve", "naïve", true);
        check(r"n\Ba.*", "naïve", true);
        check(r".\B.*", "éa", false);
        check(r".\B.", "éé", true);
        check("[a&&b]", "&", true);
        check("[[a]", "[", true);
        check(r"\<a\>", "<a>", true);
        check(r"\Qa.b\E.", "a.bc", true);
        check("a{,2}", "a{,2}", true);
        check("a{2}", "aa", true);
        check("(?:a{10}b{10}){0,100}(a{2}){3}", "aaaaaa", true);
        check("x{01}", "x{01}", true);
        check(r"\101[\102]", "AB", true);
        check(r"[]-a]", "^", true);
        check("[[:]", ":", true);
        check("[[:]+", "[:", true);
        check(r"[^]]", "]", false);
        check(r"\pL\p{^Greek}\P{Lu}", "éxx", true);
        check("(?i)straße", "STRAßE", true);
        check("(?i)k", "\u{212a}", true);
        check("(?-s:.)", "\n", false);
        check("(?P<name>a)(?<other_1>b)", "ab", true);
        check("ab(?i)(?s){2}C", "abbc", true);
        check("ab(?i)*C", "ac", true);
        check("a*(?i)*B", "aab", true);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for pattern in [
            "a**",
            "a+?*",
            "a{2}{3}",
            "a{1001}",
            "a{3,2}",
            r"\1",
            r"\8",
            r"\e",
            r"\E",
            r"\_\é",
            "[z-a]",
            "[[:nope:]]",
            "(a{100}){11}",
            "((?:b|a{100}?c)*d){11,}",
            "[[:[:alpha:]]",
            "[[::]]",
            "a)|(b",
            "(?P<n>a",
            "(?P<a-b>c)",
            "(?x)a",
            "(?=a)",
            "(?R)",
            "(a",
            "[a",
            r"\p{L",
            r"\x{110000}",
            r"\xg1",
            r"\",
        ] {
            assert!(anchored(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test is of how long the work takes")]
    fn many_openings_are_no_long_work() {
        // Looking to the end from each would be some 10^12 steps.
        let openings = 1_000_000;
        let started = std::time::Instant::now();
        assert!(translated(&format!("[{}x]", "[:".repeat(openings))).is_ok());
        assert!(translated(&format!("{}}}", "{".repeat(openings))).is_ok());
        assert!(translated(&"{1".repeat(openings)).is_ok());
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
        assert!(translated(&nested(DEPTH_MAX)).is_ok());
        assert!(translated(&nested(DEPTH_MAX + 1)).is_err());
    }

    proptest! {
        /// Whatever is written, it is translated or refused, and what is translated the engine can judge.
        #[test]
        fn no_pattern_makes_it_panic(pattern in r"([\\()\[\]{}*+?|^$.,:<>=&~#PQEpdwsbzxiU019é-]|[a-c]){0,24}", value: String) {
            if let Ok(regex) = anchored(&pattern) {
                regex.is_match(&value);
            }
        }

        #[test]
        fn a_quoted_text_matches_itself_alone(text in "[^\\\\]{0,12}", other: String) {
            let regex = anchored(&format!(r"\Q{text}\E")).expect("a quotation");
            prop_assert!(regex.is_match(&text));
            prop_assert_eq!(regex.is_match(&other), text == other);
        }
    }
}

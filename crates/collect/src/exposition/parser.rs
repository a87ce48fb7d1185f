//! Walks a body line by line.
//!
//! One cursor, no look-back, no allocation on the road of a sample. What a line may look like stands in
//! [`super::series`] for the part that names the series, here for everything after it and for comments.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;

use super::number::parse_float;
use super::series::{ScanRules, scan_series, unescape};
use super::{Format, MetricKind};

/// A longer excerpt of a broken line is cut.
const EXCERPT_BYTES_MAX: usize = 120;

/// The line that ended the parsing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// The beginning of the line, cut and made printable.
    pub excerpt: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {} in {:?}", self.line, self.reason, self.excerpt)
    }
}

impl std::error::Error for ParseError {}

/// One sample, its series still as bytes of the body.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample<'a> {
    /// The metric's name and labels as written, syntax checked.
    pub series: &'a [u8],
    /// The value.
    pub value: f64,
    /// Milliseconds since the Unix epoch, when the target gave a time.
    pub timestamp_ms: Option<i64>,
}

/// What a line says.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry<'a> {
    /// A sample.
    Sample(Sample<'a>),
    /// A `# TYPE` line: the family and what it is.
    Type(&'a [u8], MetricKind),
    /// A `# HELP` line: the family and its text.
    Help(&'a [u8], Cow<'a, str>),
    /// A `# UNIT` line: the family and its unit.
    Unit(&'a [u8], &'a [u8]),
}

type Reason = &'static str;

/// Reads one body.
pub struct Parser<'a> {
    body: &'a [u8],
    at: usize,
    format: Format,
    kind: MetricKind,
    is_utf8: bool,
}

impl<'a> Parser<'a> {
    /// Starts at the beginning of a body.
    pub fn new(body: &'a [u8], format: Format) -> Self {
        Parser {
            body,
            at: 0,
            format,
            kind: MetricKind::Unknown,
            is_utf8: std::str::from_utf8(body).is_ok(),
        }
    }

    /// Gives what the last `# TYPE` line said, whatever its family; Prometheus lets it govern `le` and `quantile`.
    pub fn kind(&self) -> MetricKind {
        self.kind
    }

    /// Gives the position of the next byte to read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Gives the next entry, `None` at the proper end of the body.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            let start = self.at;
            let step = match self.format {
                Format::Prometheus | Format::Protobuf => self.step_prometheus(),
                Format::OpenMetrics => self.step_openmetrics(),
            };
            match step.map_err(|reason| self.error_at(start, reason))? {
                Step::Entry(entry) => return Ok(Some(entry)),
                Step::Nothing => {}
                Step::End => return Ok(None),
            }
        }
    }

    /// Reads the next line as a sample of the series `raw`, which an earlier body held in valid form.
    ///
    /// `None` when the line says something else: nothing is read then, and [`Parser::next_entry`] will tell.
    #[inline]
    pub fn next_of(&mut self, raw: &[u8]) -> Option<Sample<'a>> {
        let rest = &self.body[self.at..];
        if !rest.starts_with(raw) || rest.get(raw.len()) != Some(&b' ') {
            return None;
        }
        let end = self.at + raw.len();
        let value_at = end + 1;
        let mut at = value_at;
        while !matches!(self.body.get(at), None | Some(b' ' | b'\n' | b'\t' | b'{')) {
            at += 1;
        }
        // Only the plainest shape is read here; times, exemplars and faults go the long road.
        if self.body.get(at) != Some(&b'\n') {
            return None;
        }
        let value = parse_float(&self.body[value_at..at])?;
        let series = &self.body[self.at..end];
        self.at = at + 1;
        Some(Sample {
            series,
            value,
            timestamp_ms: None,
        })
    }

    /// Describes a fault of the line around `offset`; for what is found wrong after parsing.
    pub fn error_at(&self, offset: usize, reason: &'static str) -> ParseError {
        let offset = offset.min(self.body.len());
        let start = memchr::memrchr(b'\n', &self.body[..offset]).map_or(0, |at| at + 1);
        let end = memchr(b'\n', &self.body[offset..]).map_or(self.body.len(), |at| offset + at);
        let excerpt = &self.body[start..end.min(start + EXCERPT_BYTES_MAX)];
        ParseError {
            line: memchr::memchr_iter(b'\n', &self.body[..start]).count() + 1,
            excerpt: String::from_utf8_lossy(excerpt).into_owned(),
            reason,
        }
    }

    fn step_prometheus(&mut self) -> Result<Step<'a>, Reason> {
        self.skip_blanks();
        match self.peek() {
            None => Ok(Step::End),
            Some(b'\n') => {
                self.at += 1;
                Ok(Step::Nothing)
            }
            Some(b'#') => self.prometheus_comment(),
            Some(_) => self.prometheus_sample(),
        }
    }

    fn prometheus_comment(&mut self) -> Result<Step<'a>, Reason> {
        let line = self.take_line();
        let Some(rest) = line[1..]
            .strip_prefix(b" ")
            .or_else(|| line[1..].strip_prefix(b"\t"))
        else {
            return Ok(Step::Nothing);
        };
        let rest = trim_blanks(rest);
        let words = [&b"HELP"[..], b"TYPE", b"UNIT"];
        // Units are known to what protobuf says; Prometheus' own text passes over them.
        let known = if self.format == Format::Protobuf { 3 } else { 2 };
        for word in &words[..known] {
            let Some(rest) = rest.strip_prefix(*word) else {
                continue;
            };
            if !matches!(rest.first(), Some(b' ' | b'\t')) {
                return Ok(Step::Nothing);
            }
            let (family, text) =
                take_family(trim_blanks(rest)).ok_or("expected metric name after HELP or TYPE")?;
            // One character parts the name from its text; what follows it counts.
            let text = text.get(1..).unwrap_or(b"");
            return self.metadata(word, family, text).map(Step::Entry);
        }
        Ok(Step::Nothing)
    }

    fn metadata(&mut self, word: &[u8], family: &'a [u8], text: &'a [u8]) -> Result<Entry<'a>, Reason> {
        match word {
            b"TYPE" => {
                self.kind = MetricKind::parse(text, self.format).ok_or("unknown metric type")?;
                Ok(Entry::Type(family, self.kind))
            }
            b"UNIT" => {
                let fits = text.is_empty()
                    || family
                        .strip_suffix(text)
                        .is_some_and(|stem| stem.last() == Some(&b'_'));
                if fits {
                    Ok(Entry::Unit(family, text))
                } else {
                    Err("unit is not a suffix of the metric name")
                }
            }
            _ => {
                let text = std::str::from_utf8(text).map_err(|_| "help text is not UTF-8")?;
                let keeps_quotes = self.format != Format::OpenMetrics;
                Ok(Entry::Help(family, unescape(text, keeps_quotes)))
            }
        }
    }

    fn prometheus_sample(&mut self) -> Result<Step<'a>, Reason> {
        let start = self.at;
        let rules = ScanRules {
            is_openmetrics: false,
            is_utf8: self.is_utf8,
        };
        self.at = scan_series(self.body, start, rules)?;
        let series = &self.body[start..self.at];
        self.skip_blanks();
        let value = self.take_while(|b| !matches!(b, b'{' | b' ' | b'\t' | b'\n'));
        if value.is_empty() {
            return Err("expected value after metric");
        }
        let value = parse_float(value).ok_or("value is not a number")?;
        self.skip_blanks();
        let mut timestamp_ms = None;
        let digits = self.take_while(|b| b.is_ascii_digit());
        if !digits.is_empty() {
            timestamp_ms = Some(parse_millis(digits).ok_or("timestamp is out of range")?);
            self.skip_blanks();
        }
        match self.peek() {
            Some(b'\n') => self.at += 1,
            None => {}
            Some(_) => return Err("expected timestamp or end of line after value"),
        }
        Ok(Step::Entry(Entry::Sample(Sample {
            series,
            value,
            timestamp_ms,
        })))
    }

    fn step_openmetrics(&mut self) -> Result<Step<'a>, Reason> {
        match self.peek() {
            None => Err("data does not end with # EOF"),
            Some(b'#') => self.openmetrics_comment(),
            Some(_) => self.openmetrics_sample(),
        }
    }

    fn openmetrics_comment(&mut self) -> Result<Step<'a>, Reason> {
        let rest = &self.body[self.at..];
        if let Some(after) = rest.strip_prefix(b"# EOF") {
            return match after {
                b"" | b"\n" => {
                    self.at = self.body.len();
                    Ok(Step::End)
                }
                _ => Err("unexpected data after # EOF"),
            };
        }
        if memchr(b'\n', rest).is_none() {
            return Err("data does not end with # EOF");
        }
        let line = self.take_line();
        for word in [&b"HELP"[..], b"TYPE", b"UNIT"] {
            let prefix = line.strip_prefix(b"# ").and_then(|rest| rest.strip_prefix(word));
            let Some(rest) = prefix.and_then(|rest| rest.strip_prefix(b" ")) else {
                continue;
            };
            let (family, text) = take_family(rest).ok_or("expected metric name after HELP, TYPE or UNIT")?;
            let text = text
                .strip_prefix(b" ")
                .ok_or("expected one space and a text after the metric name")?;
            return self.metadata(word, family, text).map(Step::Entry);
        }
        Err("expected HELP, TYPE, UNIT or EOF after #")
    }

    fn openmetrics_sample(&mut self) -> Result<Step<'a>, Reason> {
        let start = self.at;
        let rules = ScanRules {
            is_openmetrics: true,
            is_utf8: self.is_utf8,
        };
        self.at = scan_series(self.body, start, rules)?;
        let series = &self.body[start..self.at];
        let value = self.spaced_number(
            "expected one space and a value after metric",
            "value is not a number",
        )?;
        let mut timestamp_ms = None;
        if self.peek() == Some(b' ') && !self.body[self.at..].starts_with(b" # {") {
            let seconds = self.spaced_number("expected timestamp", "timestamp is not a number")?;
            if !seconds.is_finite() {
                return Err("timestamp is not finite");
            }
            timestamp_ms = Some((seconds * 1000.0) as i64);
        }
        if self.body[self.at..].starts_with(b" # {") {
            self.at += 3;
            self.exemplar()?;
        }
        match self.peek() {
            Some(b'\n') => self.at += 1,
            None => return Err("data does not end with # EOF"),
            Some(_) => return Err("expected end of line or exemplar"),
        }
        Ok(Step::Entry(Entry::Sample(Sample {
            series,
            value,
            timestamp_ms,
        })))
    }

    /// Checks an exemplar from its opening brace on, and drops it.
    fn exemplar(&mut self) -> Result<(), Reason> {
        let rules = ScanRules {
            is_openmetrics: true,
            is_utf8: self.is_utf8,
        };
        self.at = super::series::scan_exemplar_labels(self.body, self.at, rules)?;
        self.spaced_number(
            "expected one space and a value after exemplar labels",
            "exemplar value is not a number",
        )?;
        if self.peek() == Some(b' ') {
            let seconds = self.spaced_number(
                "expected exemplar timestamp",
                "exemplar timestamp is not a number",
            )?;
            if !seconds.is_finite() {
                return Err("exemplar timestamp is not finite");
            }
        }
        Ok(())
    }

    fn spaced_number(&mut self, absent: Reason, bad: Reason) -> Result<f64, Reason> {
        if self.peek() != Some(b' ') {
            return Err(absent);
        }
        self.at += 1;
        let text = self.take_while(|b| !matches!(b, b' ' | b'\n'));
        if text.is_empty() {
            return Err(absent);
        }
        parse_float(text).ok_or(bad)
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    #[inline]
    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.body[self.at..];
        let length = rest.iter().position(|b| !keep(*b)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Takes the rest of the line, without its end.
    fn take_line(&mut self) -> &'a [u8] {
        let rest = &self.body[self.at..];
        let length = memchr(b'\n', rest).unwrap_or(rest.len());
        self.at = (self.at + length + 1).min(self.body.len());
        &rest[..length]
    }
}

enum Step<'a> {
    Entry(Entry<'a>),
    Nothing,
    End,
}

fn trim_blanks(text: &[u8]) -> &[u8] {
    let start = text
        .iter()
        .position(|b| !matches!(b, b' ' | b'\t'))
        .unwrap_or(text.len());
    &text[start..]
}

/// Takes a family's name, quoted or not, from the beginning of a comment's text.
fn take_family(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.first() == Some(&b'"') {
        let mut at = 1;
        loop {
            match text.get(at)? {
                b'"' => return Some((&text[1..at], &text[at + 1..])),
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    }
    let length = super::series::metric_name_length(text);
    (length > 0).then(|| text.split_at(length))
}

fn parse_millis(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0i64, |sum, digit| {
        sum.checked_mul(10)?.checked_add(i64::from(digit - b'0'))
    })
}

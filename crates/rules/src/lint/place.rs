//! Where in a file something of a rule stands.
//!
//! The reader of YAML gives the text of an expression, but not how it was folded or quoted. So a place is found by
//! counting what is not white space: folding changes nothing else.

use marketprism_promql::Span;

/// The text of a file around one rule.
pub(super) struct Source<'a> {
    lines: Vec<&'a str>,
    /// The line where the rule begins, from 1.
    first: usize,
    expr: &'a str,
    /// Where the expression's text begins: line and byte, from 0; `None` when it was not found.
    begin: Option<(usize, usize)>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, first: usize, expr: &'a str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let mut source = Source {
            lines,
            first: first.max(1),
            expr,
            begin: None,
        };
        source.begin = source.find_expression();
        source
    }

    fn find_expression(&self) -> Option<(usize, usize)> {
        let (line, at) = self.find_key("expr")?;
        let rest = &self.lines[line][at..];
        let value = rest.trim_start();
        let begin = at + (rest.len() - value.len());
        if value.starts_with(['|', '>']) || value.is_empty() || value.starts_with('#') {
            return Some((line + 1, 0));
        }
        let quote = usize::from(value.starts_with(['\'', '"']));
        Some((line, begin + quote))
    }

    /// Finds a key of the rule; gives the line from 0, and the byte after its colon.
    fn find_key(&self, key: &str) -> Option<(usize, usize)> {
        let quoted = [format!("{key}:"), format!("\"{key}\":"), format!("'{key}':")];
        for (line, text) in self.lines.iter().enumerate().skip(self.first - 1).take(400) {
            // The next rule has begun.
            let is_next = line >= self.first
                && ["- alert:", "- record:"]
                    .iter()
                    .any(|begin| text.trim_start().starts_with(begin));
            if is_next {
                return None;
            }
            for key in &quoted {
                let places = text.match_indices(key.as_str());
                let own = places.into_iter().find(|(at, _)| {
                    let before = text[..*at].trim_end();
                    before.is_empty() || before.ends_with(['-', '{', ','])
                });
                if let Some((at, _)) = own {
                    return Some((line, at + key.len()));
                }
            }
        }
        None
    }

    /// Gives line and column of a part of the expression.
    pub(super) fn of_span(&self, span: Span) -> (usize, usize) {
        let Some((line, byte)) = self.begin else {
            return (self.first, 0);
        };
        let start = (span.start as usize).min(self.expr.len());
        let before = self.expr.get(..start).unwrap_or_default();
        let mut left = before.chars().filter(|c| !c.is_whitespace()).count();
        let mut byte = byte;
        for (number, text) in self.lines.iter().enumerate().skip(line) {
            let rest = text.get(byte..).unwrap_or_default();
            for (at, c) in rest.char_indices() {
                if c.is_whitespace() {
                    continue;
                }
                if left == 0 {
                    return (number + 1, byte + at + 1);
                }
                left -= 1;
            }
            byte = 0;
        }
        (self.first, 0)
    }

    /// Gives line and column of a key's value; of the rule when it is not found.
    pub(super) fn of_key(&self, key: &str) -> (usize, usize) {
        match self.find_key(key) {
            Some((line, byte)) => {
                let rest = &self.lines[line][byte..];
                (line + 1, byte + 1 + (rest.len() - rest.trim_start().len()))
            }
            None => (self.first, 0),
        }
    }
}

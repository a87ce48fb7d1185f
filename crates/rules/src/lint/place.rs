//! Where in a file something of a rule stands.
//!
//! Parts of an expression are found as the reader's own faults are; the values of keys by looking for the key in the rule's
//! lines, for the reader keeps no place of theirs. Columns count characters.

use marketprism_promql::Span;

use crate::rule::Rule;
use crate::scalar::{self, FilePlace};

/// The text of a file around one rule.
pub(super) struct Source<'a> {
    text: &'a str,
    lines: Vec<&'a str>,
    /// The line where the rule begins, from 1.
    first: usize,
    expr: &'a str,
    /// Where the expression begins.
    begin: FilePlace,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, rule: &'a Rule) -> Self {
        Source {
            text,
            lines: text.lines().collect(),
            first: rule.line.max(1),
            expr: &rule.expr,
            begin: rule.expr_place,
        }
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

    /// Gives line and column of a part of the expression; of the whole when it cannot be followed to there.
    pub(super) fn of_span(&self, span: Span) -> FilePlace {
        if self.begin.0 == 0 {
            return (self.first, 0);
        }
        scalar::place(self.text, self.begin, self.expr, span.start as usize).unwrap_or(self.begin)
    }

    /// Gives line and column of a key's value; of the rule when it is not found.
    pub(super) fn of_key(&self, key: &str) -> FilePlace {
        match self.find_key(key) {
            Some((line, byte)) => {
                let (before, rest) = self.lines[line].split_at(byte);
                let space = rest.chars().take_while(|c| c.is_whitespace()).count();
                (line + 1, before.chars().count() + space + 1)
            }
            None => (self.first, 0),
        }
    }
}

//! Where something stands in the text of an expression.
//!
//! Every node of a tree knows its stretch, so that each fault and each remark has a line and a column. Deliberately absent: the
//! text itself; whoever asked has it.

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};

/// A stretch of an expression's text, in bytes from its start.
///
/// Equality and hash see nothing of it: two expressions are the same when they say the same, wherever
/// they stand. So any span equals any other.
#[derive(Clone, Copy, Default, Debug)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Span {}

impl Hash for Span {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Span {
    /// Makes a span of byte offsets; texts are far shorter than what the fields hold.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let offset = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Span {
            start: offset(start),
            end: offset(end),
        }
    }

    /// Gives the span from the start of this one to the end of another.
    pub(crate) const fn to(self, end: Span) -> Self {
        Span {
            start: self.start,
            end: end.end,
        }
    }

    /// Gives the place of the span's start in its text: line and column, counted from 1.
    ///
    /// The column counts bytes, as Prometheus does.
    pub fn place(self, text: &str) -> Place {
        let start = (self.start as usize).min(text.len());
        let before = &text.as_bytes()[..start];
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        Place {
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            column: 1 + start - line_start,
        }
    }
}

/// A line and a column, counted from 1; written `3:14`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The byte within the line.
    pub column: usize,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_bytes_from_one() {
        let text = "a +\n  b\n+ é + c";
        let check = |word: &str, expected: &str| {
            let start = text.find(word).expect(word);
            assert_eq!(
                Span::new(start, start).place(text).to_string(),
                expected,
                "{word}"
            );
        };
        check("a", "1:1");
        check("+", "1:3");
        check("b", "2:3");
        check("é", "3:3");
        check("c", "3:8");
        assert_eq!(Span::new(99, 99).place("a").to_string(), "1:2");
    }

    #[test]
    fn expressions_are_equal_wherever_they_stand() {
        assert_eq!(Span::new(0, 1), Span::new(7, 9));
    }
}

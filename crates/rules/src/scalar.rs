//! Where a byte of a YAML scalar's value stands in the file.
//!
//! The value is followed through the source side by side. What YAML may change between them is white
//! space (indents and folded lines) and what quotes escape; anything else ends the search, and the
//! scalar's own place must do.

use std::iter::Peekable;
use std::str::Chars;

/// A line and a column of a file, counted from 1; columns count characters.
pub(crate) type FilePlace = (usize, usize);

struct Source<'a> {
    rest: Peekable<Chars<'a>>,
    at: FilePlace,
}

impl Source<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        self.at = match next {
            '\n' => (self.at.0 + 1, 1),
            _ => (self.at.0, self.at.1 + 1),
        };
        Some(next)
    }

    fn skip_space(&mut self) {
        while self.rest.peek().is_some_and(|c| c.is_whitespace()) {
            self.next();
        }
    }

    /// Takes one character of a value as the quotes write it; `None` for escapes that are not followed.
    fn next_quoted(&mut self, quote: Option<char>) -> Option<char> {
        match (self.next()?, quote) {
            ('\'', Some('\'')) => self.next(),
            ('\\', Some('"')) => self.next().filter(|c| matches!(c, '"' | '\\' | '/')),
            (c, _) => Some(c),
        }
    }
}

/// Finds the place of the byte `offset` of a scalar's `value`, the scalar beginning at `begin` in `file`.
///
/// `None` when the value cannot be followed to there, as through an alias or an escape such as `\x41`.
pub(crate) fn place(file: &str, begin: FilePlace, value: &str, offset: usize) -> Option<FilePlace> {
    let line = file.split_inclusive('\n').skip(begin.0.checked_sub(1)?);
    let start = file.len() - line.map(str::len).sum::<usize>();
    let mut source = Source {
        rest: file.get(start..)?.chars().peekable(),
        at: (begin.0, 1),
    };
    while source.at.1 < begin.1 {
        source.next()?;
    }
    let quote = match source.rest.peek()? {
        quote @ ('"' | '\'') => Some(*quote),
        '|' | '>' => {
            while source.next()? != '\n' {}
            None
        }
        _ => None,
    };
    if quote.is_some() {
        source.next();
    }
    for (at, c) in value.char_indices() {
        if !c.is_whitespace() {
            source.skip_space();
        }
        if at >= offset {
            return Some(source.at);
        }
        if !c.is_whitespace() && source.next_quoted(quote)? != c {
            return None;
        }
    }
    // The end of the value: right after its last character.
    Some(source.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mark is where the scalar begins, and the arrow where its fault must be found.
    fn check(file: &str, value: &str, fault: &str) {
        let find = |mark: &str| {
            let before = &file[..file.find(mark).expect(mark)];
            let line = before.rfind('\n').map_or(0, |at| at + 1);
            (
                1 + before.matches('\n').count(),
                1 + before[line..].chars().count(),
            )
        };
        let begin = file.find("expr: ").map(|at| at + 6).expect("an expression");
        let before = &file[..begin];
        let column = 1 + before[before.rfind('\n').map_or(0, |at| at + 1)..]
            .chars()
            .count();
        let begin = (1 + before.matches('\n').count(), column);
        let offset = value.find(fault).expect(fault);
        assert_eq!(place(file, begin, value, offset), Some(find(fault)), "{file}");
    }

    #[test]
    fn a_fault_is_found_in_every_style_of_scalar() {
        check("- alert: A\n  expr: sum(a) bi (b)\n", "sum(a) bi (b)", "bi");
        check("- expr: \"é{a='1'} bi\"\n", "é{a='1'} bi", "bi");
        check("- expr: \"a{b=\\\"c\\\"} bi\"\n", "a{b=\"c\"} bi", "bi");
        check("- expr: 'a{b=''c''} bi'\n", "a{b='c'} bi", "bi");
        check(
            "- expr: |\n    sum(a)\n      + bi\n  for: 1m\n",
            "sum(a)\n  + bi\n",
            "bi",
        );
        check("- expr: |2- # a note\n    a\n\n    bi c\n", "  a\n\n  bi c", "bi");
        check("- expr: >-\n    sum(a)\n    + b\n    bi\n", "sum(a) + b bi", "bi");
        check("- expr: sum(a)\n    + b\n    bi\n", "sum(a) + b bi", "bi");
    }

    #[test]
    fn the_end_of_a_value_is_after_its_last_character() {
        assert_eq!(place("expr: sum(a\n", (1, 7), "sum(a", 5), Some((1, 12)));
        assert_eq!(place("expr: |\n  sum(a\n", (1, 7), "sum(a\n", 6), Some((2, 8)));
    }

    #[test]
    fn what_cannot_be_followed_has_no_place() {
        assert_eq!(place("expr: *alias\n", (1, 7), "sum(a) bi", 7), None);
        assert_eq!(place("expr: \"\\x61 bi\"\n", (1, 7), "a bi", 2), None);
        assert_eq!(place("", (7, 3), "a", 0), None);
    }
}

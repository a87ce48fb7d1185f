//! Reads an expression: text in, checked tree out.
//!
//! The language is that of Prometheus 3.14 with all that it calls experimental, and so are the words
//! about a fault: people search for them. Where a word is misspelt, the message says what was meant.
//! By hand, because the trees of hostile texts must stay shallow and every fault must have its place:
//! recursion and trees are bounded by [`DEPTH_MAX`], and what has been read waits on a stack of its own
//! rather than in the frames of calls. What a tree means is checked in [`crate::check`].
//! Bytes of a string that are no UTF-8 (`"\xff"`) match no label and print as they are written; as an answer
//! they are U+FFFD.

mod aggregation;
mod binary;
mod expression;
mod length;
mod literal;
mod modifier;
mod selector;

use std::collections::HashMap;
use std::sync::Arc;

use marketprism_model::Matcher;
use marketprism_model::nearest::nearest;
use thiserror::Error;

use crate::ast::{Expr, Selector};
use crate::check;
use crate::lex::{Lexer, Token, TokenKind, followers};
use crate::quote::Quoted;
use crate::span::{Place, Span};

/// The longest text that is looked at.
pub const TEXT_BYTES_MAX: usize = 128 << 10;

/// How deep expressions may nest; operators of one chain count as levels, for the tree leans over.
pub const DEPTH_MAX: usize = 256;

/// What the compiled regular expressions of one text may take in memory together; equal ones count once.
const REGEX_BYTES_MAX: usize = 32 << 20;

/// Why a text is no expression; written `1:5: parse error: …` with line and column.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{}: parse error: {message}", place.map_or("unknown position".to_owned(), |place| place.to_string()))]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes from the start of the text; `None` when the text is empty.
    pub position: Option<usize>,
    /// What the message is about.
    pub span: Span,
    /// Line and column of [`ParseError::position`].
    pub place: Option<Place>,
}

impl ParseError {
    pub(crate) fn boxed(message: impl Into<String>, span: Span) -> Box<Self> {
        Box::new(ParseError {
            message: message.into(),
            position: None,
            span,
            place: None,
        })
    }

    /// Gives the error its place in the text.
    fn placed(mut self, text: &str) -> ParseError {
        if !text.is_empty() {
            self.position = Some(self.span.start as usize);
            self.place = Some(self.span.place(text));
        }
        self
    }
}

/// What reading gives; a fault is boxed, so that the frames of calls stay small.
pub(crate) type Read<T> = Result<T, Box<ParseError>>;

/// Reads an expression and checks what it means: types and counts of arguments, ranges against
/// instants, matching modifiers, and that no selector chooses everything.
///
/// Bounded: at most [`TEXT_BYTES_MAX`] bytes and [`DEPTH_MAX`] levels. Never panics.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    let read = || -> Read<Expr> {
        let mut expr = Parser::new(text)?.whole()?;
        check::check(text, &mut expr)?;
        Ok(expr)
    };
    read().map_err(|error| error.placed(text))
}

/// Reads a selector alone, as `match[]` gives it: `up{job="a"}`, without range, offset or `@`.
pub fn parse_selector(text: &str) -> Result<Selector, ParseError> {
    let read = || -> Read<Selector> {
        let (selector, span) = Parser::new(text)?.whole_selector()?;
        check::check_selector(&selector, span)?;
        Ok(selector)
    };
    read().map_err(|error| error.placed(text))
}

/// An expression and how many levels it has.
struct Grown {
    expr: Expr,
    depth: usize,
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    /// The token that was looked at, but not taken.
    ahead: Option<Token>,
    /// The end of the last token that was taken.
    end: usize,
    /// What has been read and is not yet part of a larger expression.
    made: Vec<Grown>,
    /// How many expressions are open.
    open: usize,
    /// How many aggregations are open; faults within them say so.
    aggregations: usize,
    /// How many parts the length at hand has.
    length_parts: usize,
    /// The regular expressions so far: one that is written again is not compiled again.
    expressions: HashMap<Arc<str>, Matcher>,
    /// What they take in memory.
    regex_bytes: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Read<Self> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("expression of {} bytes exceeds {TEXT_BYTES_MAX}", text.len());
            return Err(ParseError::boxed(message, Span::default()));
        }
        Ok(Parser {
            text,
            lexer: Lexer::new(text),
            ahead: None,
            made: Vec::new(),
            end: 0,
            open: 0,
            aggregations: 0,
            length_parts: 0,
            expressions: HashMap::new(),
            regex_bytes: 0,
        })
    }

    fn whole(&mut self) -> Read<Expr> {
        if self.peek()? == TokenKind::End {
            return Err(ParseError::boxed("no expression found in input", Span::default()));
        }
        self.expression(0)?;
        match self.peek()? {
            TokenKind::End => Ok(self.pop().expr),
            _ => self.unexpected_after_operand("an operator or the end of the expression"),
        }
    }

    /// Looks at the next token without taking it.
    fn look(&mut self) -> Read<Token> {
        match self.ahead {
            Some(token) => Ok(token),
            None => {
                let token = self.lexer.next()?;
                self.ahead = Some(token);
                Ok(token)
            }
        }
    }

    fn peek(&mut self) -> Read<TokenKind> {
        self.look().map(|token| token.kind)
    }

    fn take(&mut self) -> Read<Token> {
        let token = self.look()?;
        self.ahead = None;
        self.end = token.end;
        Ok(token)
    }

    /// Takes the next token if it is of this kind.
    fn take_if(&mut self, kind: TokenKind) -> Read<Option<Token>> {
        match self.peek()? {
            found if found == kind => self.take().map(Some),
            _ => Ok(None),
        }
    }

    fn text_of(&self, token: Token) -> &'a str {
        &self.text[token.start..token.end]
    }

    fn fail<T>(&self, message: impl Into<String>, span: Span) -> Read<T> {
        Err(ParseError::boxed(message, span))
    }

    /// Refuses the next token where something else should stand: in Prometheus' words, and then what was expected, which
    /// Prometheus does not say here.
    fn unexpected<T>(&mut self, expected: &str) -> Read<T> {
        let place = if self.aggregations > 0 { "aggregation" } else { "" };
        self.unexpected_in(place, "")
            .map_err(|mut error: Box<ParseError>| {
                error.message.push_str("; expected ");
                error.message.push_str(expected);
                error
            })
    }

    /// The same after a whole operand, where a word may be a misspelt operator or modifier.
    fn unexpected_after_operand<T>(&mut self, expected: &str) -> Read<T> {
        let token = self.look()?;
        let refused = self.unexpected(expected);
        // A shorter word is near to all that are as short.
        if token.kind != TokenKind::Identifier || token.end - token.start < 3 {
            return refused;
        }
        refused.map_err(|error| {
            let word = self.text_of(token).to_ascii_lowercase();
            error.suggesting(nearest(&word, followers()))
        })
    }

    /// Refuses the next token, naming what it stands in and what was expected.
    fn unexpected_in<T>(&mut self, place: &str, expected: &str) -> Read<T> {
        let token = self.look()?;
        let mut message = format!("unexpected {}", self.description(token));
        if !place.is_empty() {
            message.push_str(" in ");
            message.push_str(place);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.fail(message, token.span())
    }

    fn description(&self, token: Token) -> String {
        let text = self.text_of(token);
        let shown = || match text.char_indices().nth(10) {
            Some((end, _)) if text.len() > 10 => format!("{}...", Quoted(&text[..end])),
            _ if text.len() > 10 => format!("{}...", Quoted(text)),
            _ => Quoted(text).to_string(),
        };
        match token.kind {
            TokenKind::End => "end of input".to_owned(),
            TokenKind::Identifier => format!("identifier {}", Quoted(text)),
            TokenKind::MetricIdentifier => format!("metric identifier {}", Quoted(text)),
            TokenKind::Text => format!("string {}", shown()),
            TokenKind::Number => format!("number {}", shown()),
            TokenKind::Duration => format!("duration {}", shown()),
            TokenKind::Keyword(_) => format!("<{text}>"),
            TokenKind::Aggregate(_) => format!("<aggr:{text}>"),
            TokenKind::Operator(_) | TokenKind::Matches | TokenKind::NotMatches | TokenKind::At => {
                format!("<op:{text}>")
            }
            _ => shown(),
        }
    }

    /// Enters one more level.
    fn enter(&mut self) -> Read<()> {
        self.open += 1;
        match self.open {
            open if open > DEPTH_MAX => self.too_deep(),
            _ => Ok(()),
        }
    }

    fn too_deep<T>(&self) -> Read<T> {
        let at = self.ahead.map_or(self.end, |token| token.start);
        self.fail(
            format!("expression nests deeper than {DEPTH_MAX} levels"),
            Span::new(at, at),
        )
    }

    /// Leaves an expression over parts whose deepest has `depth` levels.
    fn push(&mut self, expr: Expr, depth: usize) -> Read<()> {
        if depth >= DEPTH_MAX {
            return self.too_deep();
        }
        self.made.push(Grown {
            expr,
            depth: depth + 1,
        });
        Ok(())
    }

    /// Takes the expression that was left last.
    fn pop(&mut self) -> Grown {
        match self.made.pop() {
            Some(grown) => grown,
            None => unreachable!("every reader leaves what it has read"),
        }
    }

    /// The expression that was left last.
    fn last(&mut self) -> &mut Expr {
        match self.made.last_mut() {
            Some(grown) => &mut grown.expr,
            None => unreachable!("every reader leaves what it has read"),
        }
    }
}

impl ParseError {
    fn suggesting(mut self: Box<Self>, word: Option<&str>) -> Box<Self> {
        if let Some(word) = word {
            self.message.push_str(&format!("; did you mean {word:?}?"));
        }
        self
    }
}

#[cfg(test)]
mod tests;

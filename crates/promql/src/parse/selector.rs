//! Selectors of series: a metric's name and matchers in braces.
//!
//! A name may also stand within the braces, in quotes. Deliberately absent: the rule that some matcher must not match the empty
//! text, which is checked with the types.

use std::sync::Arc;

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Matcher, MatcherOp};

use crate::ast::{BinaryOp, Comparison, Expr, ExprKind, Selector};
use crate::length::Length;
use crate::lex::{Token, TokenKind};
use crate::parse::{ParseError, Parser, REGEX_BYTES_MAX, Read};
use crate::quote::is_text;
use crate::span::Span;

const PLACE: &str = "label matching";

fn operator(kind: TokenKind) -> Option<MatcherOp> {
    match kind {
        TokenKind::Equal => Some(MatcherOp::Equal),
        TokenKind::Operator(BinaryOp::Comparison(Comparison::NotEqual)) => Some(MatcherOp::NotEqual),
        TokenKind::Matches => Some(MatcherOp::Matches),
        TokenKind::NotMatches => Some(MatcherOp::NotMatches),
        _ => None,
    }
}

impl Parser<'_> {
    /// Reads a whole text that is one selector.
    pub(super) fn whole_selector(&mut self) -> Read<(Selector, Span)> {
        let name = match self.peek()? {
            TokenKind::LeftBrace => None,
            TokenKind::End => {
                return Err(ParseError::boxed(
                    "unexpected end of input; expected a selector",
                    Span::new(self.text.len(), self.text.len()),
                ));
            }
            _ => Some(self.take()?),
        };
        if let Some(name) = name.filter(|name| !super::expression::may_be_metric(name.kind)) {
            self.ahead = Some(name);
            return self.unexpected("a selector");
        }
        self.selector(name)?;
        let expr = self.pop().expr;
        match (self.peek()?, expr.kind) {
            (TokenKind::End, ExprKind::Selector(selector)) => Ok((selector, expr.span)),
            _ => self.unexpected("the end of the selector"),
        }
    }

    /// Reads a selector whose name, if any, has been taken.
    pub(super) fn selector(&mut self, name: Option<Token>) -> Read<()> {
        let begin = match name {
            Some(name) => name.span(),
            None => self.look()?.span(),
        };
        let mut matchers: Vec<Matcher> = Vec::new();
        matchers.extend(name.map(|name| Matcher::equal(METRIC_NAME, self.text_of(name))));
        if name.is_none() || self.peek()? == TokenKind::LeftBrace {
            self.matchers(&mut matchers)?;
        }
        let selector = Selector {
            matchers: Arc::from(matchers),
            is_named: name.is_some(),
            at: None,
            offset: Length::ZERO,
            extension: None,
        };
        let span = begin.to(Span::new(self.end, self.end));
        self.push(Expr::new(ExprKind::Selector(selector), span), 0)
    }

    /// Reads matchers in braces; the left one is the next token.
    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Read<()> {
        self.take()?;
        loop {
            if self.take_if(TokenKind::RightBrace)?.is_some() {
                return Ok(());
            }
            matchers.push(self.matcher()?);
            match self.peek()? {
                TokenKind::Comma => {
                    self.take()?;
                }
                TokenKind::RightBrace => {}
                _ => return self.unexpected_in(PLACE, "\",\" or \"}\""),
            }
        }
    }

    fn matcher(&mut self) -> Read<Matcher> {
        let token = self.look()?;
        let name = match token.kind {
            TokenKind::Identifier => self.text_of(token).to_owned(),
            TokenKind::Text => self.string(token),
            _ => return self.unexpected_in(PLACE, "identifier or \"}\""),
        };
        self.take()?;
        let Some(op) = operator(self.peek()?) else {
            return match token.kind {
                // A text alone is the metric's name.
                TokenKind::Text => Ok(Matcher::equal(METRIC_NAME, &name)),
                _ => self.unexpected_in(PLACE, "label matching operator"),
            };
        };
        self.take()?;
        let Some(value) = self.take_if(TokenKind::Text)? else {
            return self.unexpected_in(PLACE, "string");
        };
        let span = token.span().to(value.span());
        let text = self.string(value);
        if matches!(op, MatcherOp::Equal | MatcherOp::NotEqual) {
            return Matcher::new(&name, op, &text).or_else(|error| self.fail(error.to_string(), span));
        }
        if !is_text(&text) {
            return self.fail("error parsing regexp: invalid UTF-8", span);
        }
        let known = self.expressions.get(&*text);
        if let Some(matcher) = known.and_then(|known| known.renamed(&name, op)) {
            return Ok(matcher);
        }
        let matcher = Matcher::new(&name, op, &text).or_else(|error| self.fail(error.to_string(), span))?;
        self.regex_bytes += matcher.regex_bytes();
        if self.regex_bytes > REGEX_BYTES_MAX {
            let message = format!(
                "regular expressions take more than {} MiB of memory together",
                REGEX_BYTES_MAX >> 20
            );
            return self.fail(message, span);
        }
        self.expressions
            .insert(Arc::clone(&matcher.value), matcher.clone());
        Ok(matcher)
    }
}

//! Operands and what holds them together: calls, parentheses, signs, names.

use std::sync::Arc;

use marketprism_model::nearest::nearest;

use crate::ast::{Arithmetic, BinaryOp, Expr, ExprKind, Number};
use crate::functions::Function;
use crate::lex::{Keyword, Token, TokenKind};
use crate::parse::{Grown, ParseError, Parser};
use crate::quote::Quoted;
use crate::span::Span;

/// Signs bind as closely as `*`, so only `^` binds more closely to what follows one.
const SIGN_OPERAND: u8 = 6;

/// The arguments of a call, and the levels of the deepest.
pub(super) struct Arguments {
    pub(super) exprs: Vec<Expr>,
    pub(super) depth: usize,
}

/// Says whether a word of the language may also be a metric's name.
pub(super) fn may_be_metric(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Identifier | TokenKind::MetricIdentifier => true,
        TokenKind::Aggregate(_) | TokenKind::Moment(_) | TokenKind::Operator(BinaryOp::Set(_)) => true,
        TokenKind::Keyword(keyword) => !matches!(
            keyword,
            Keyword::Bool | Keyword::GroupLeft | Keyword::GroupRight | Keyword::Ignoring | Keyword::On
        ),
        _ => false,
    }
}

pub(super) fn sign_of(kind: TokenKind) -> Option<Arithmetic> {
    match kind {
        TokenKind::Operator(BinaryOp::Arithmetic(op @ (Arithmetic::Add | Arithmetic::Subtract))) => Some(op),
        _ => None,
    }
}

fn begins_operand(kind: TokenKind) -> bool {
    let is_plain = matches!(
        kind,
        TokenKind::Number
            | TokenKind::Duration
            | TokenKind::Text
            | TokenKind::LeftParen
            | TokenKind::LeftBrace
    );
    is_plain || may_be_metric(kind) || sign_of(kind).is_some()
}

impl Parser<'_> {
    /// Reads an operand with its signs and all that follows it closely.
    pub(super) fn operand(&mut self) -> Result<Grown, ParseError> {
        match sign_of(self.peek()?) {
            None => self.with_modifiers(),
            Some(sign) => self.signed(sign),
        }
    }

    fn signed(&mut self, sign: Arithmetic) -> Result<Grown, ParseError> {
        let begin = self.take()?.span();
        let Grown { mut expr, depth } = self.expression(SIGN_OPERAND)?;
        let span = begin.to(expr.span);
        let is_minus = sign == Arithmetic::Subtract;
        if let ExprKind::Number(number) | ExprKind::Duration(number) = &mut expr.kind {
            if is_minus {
                *number = Number(-number.0);
            }
            expr.span = span;
            return Ok(Grown { expr, depth });
        }
        let inner = Box::new(expr);
        let kind = if is_minus {
            ExprKind::Negate(inner)
        } else {
            ExprKind::Plus(inner)
        };
        self.grow(Expr::new(kind, span), depth)
    }

    /// Reads an operand without what modifies it.
    pub(super) fn primary(&mut self) -> Result<Grown, ParseError> {
        let token = self.look()?;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => self.number_literal(),
            TokenKind::Text => {
                self.take()?;
                let text = Arc::from(self.string(token));
                self.grow(Expr::new(ExprKind::Text(text), token.span()), 0)
            }
            TokenKind::LeftParen => self.parenthesis(),
            TokenKind::LeftBrace => self.selector(None),
            kind if may_be_metric(kind) => self.named(),
            _ => self.unexpected(),
        }
    }

    fn number_literal(&mut self) -> Result<Grown, ParseError> {
        let token = self.take()?;
        let number = Number(self.number(token)?);
        let kind = match token.kind {
            TokenKind::Duration => ExprKind::Duration(number),
            _ => ExprKind::Number(number),
        };
        self.grow(Expr::new(kind, token.span()), 0)
    }

    fn parenthesis(&mut self) -> Result<Grown, ParseError> {
        let begin = self.take()?.span();
        let Grown { expr, depth } = self.expression(0)?;
        let Some(end) = self.take_if(TokenKind::RightParen)? else {
            return self.unexpected_after_operand();
        };
        let kind = ExprKind::Paren(Box::new(expr));
        self.grow(Expr::new(kind, begin.to(end.span())), depth)
    }

    /// Reads what begins with a name: a call, an aggregation or a selector.
    fn named(&mut self) -> Result<Grown, ParseError> {
        let name = self.take()?;
        match (name.kind, self.peek()?) {
            (
                TokenKind::Aggregate(op),
                TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without),
            ) => self.aggregation(name, op),
            (TokenKind::Identifier | TokenKind::Moment(_), TokenKind::LeftParen) => self.call(name),
            _ => self.selector(Some(name)),
        }
    }

    fn call(&mut self, name: Token) -> Result<Grown, ParseError> {
        let Arguments { exprs, depth } = self.arguments()?;
        let word = self.text_of(name);
        let Some(function) = Function::named(word) else {
            return self.unknown_function(name);
        };
        let span = name.span().to(Span::new(self.end, self.end));
        self.grow(Expr::new(ExprKind::Call(function, exprs), span), depth)
    }

    fn unknown_function<T>(&self, name: Token) -> Result<T, ParseError> {
        let word = self.text_of(name);
        let functions = Function::ALL.iter().map(|function| function.signature().name);
        let meant = nearest(
            &word.to_ascii_lowercase(),
            functions.chain(crate::lex::aggregations()),
        );
        let error = ParseError::new(
            format!("unknown function with name {}", Quoted(word)),
            name.span(),
        );
        Err(error.suggesting(meant))
    }

    /// Reads arguments in parentheses; the left one is the next token.
    pub(super) fn arguments(&mut self) -> Result<Arguments, ParseError> {
        self.take()?;
        let (mut exprs, mut depth) = (Vec::new(), 0);
        if self.take_if(TokenKind::RightParen)?.is_some() {
            return Ok(Arguments { exprs, depth });
        }
        loop {
            let grown = self.expression(0)?;
            depth = depth.max(grown.depth);
            exprs.push(grown.expr);
            match self.peek()? {
                TokenKind::RightParen => {
                    self.take()?;
                    return Ok(Arguments { exprs, depth });
                }
                TokenKind::Comma => {
                    let comma = self.take()?;
                    if !begins_operand(self.peek()?) {
                        let message = "trailing commas not allowed in function call args";
                        return self.fail(message, comma.span());
                    }
                }
                _ => return self.unexpected_after_operand(),
            }
        }
    }
}

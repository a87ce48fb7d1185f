//! Operands and what holds them together: calls, parentheses, signs, names.
//!
//! Many words of the language may also be a metric's name; what follows decides, as in Prometheus.

use std::sync::Arc;

use marketprism_model::nearest::nearest;

use crate::ast::{Arithmetic, BinaryOp, Expr, ExprKind, Number};
use crate::functions::Function;
use crate::lex::{Keyword, Token, TokenKind, aggregations};
use crate::parse::{Grown, ParseError, Parser, Read};
use crate::quote::Quoted;
use crate::span::Span;

/// Signs bind as closely as `*`, so only `^` binds more closely to what follows one.
const SIGN_OPERAND: u8 = 6;

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

pub(super) fn begins_operand(kind: TokenKind) -> bool {
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
    pub(super) fn operand(&mut self) -> Read<()> {
        match sign_of(self.peek()?) {
            None => self.with_modifiers(),
            Some(sign) => {
                let begin = self.take()?.span();
                self.expression(SIGN_OPERAND)?;
                self.add_sign(sign, begin)
            }
        }
    }

    fn add_sign(&mut self, sign: Arithmetic, begin: Span) -> Read<()> {
        let Grown { mut expr, depth } = self.pop();
        let span = begin.to(expr.span);
        let is_minus = sign == Arithmetic::Subtract;
        if let ExprKind::Number(number) | ExprKind::Duration(number) = &mut expr.kind {
            if is_minus {
                *number = Number(-number.0);
            }
            expr.span = span;
            return self.push(expr, depth - 1);
        }
        let inner = Box::new(expr);
        let kind = if is_minus {
            ExprKind::Negate(inner)
        } else {
            ExprKind::Plus(inner)
        };
        self.push(Expr::new(kind, span), depth)
    }

    /// Reads an operand without what modifies it.
    pub(super) fn primary(&mut self) -> Read<()> {
        match self.peek()? {
            TokenKind::Number | TokenKind::Duration => self.number_literal(),
            TokenKind::Text => self.text_literal(),
            TokenKind::LeftParen => {
                let begin = self.take()?.span();
                self.expression(0)?;
                self.close_parenthesis(begin)
            }
            TokenKind::LeftBrace => self.selector(None),
            kind if may_be_metric(kind) => self.named(),
            _ => self.unexpected("an expression"),
        }
    }

    fn number_literal(&mut self) -> Read<()> {
        let token = self.take()?;
        let number = Number(self.number(token)?);
        let kind = match token.kind {
            TokenKind::Duration => ExprKind::Duration(number),
            _ => ExprKind::Number(number),
        };
        self.push(Expr::new(kind, token.span()), 0)
    }

    fn text_literal(&mut self) -> Read<()> {
        let token = self.take()?;
        let text = Arc::from(self.string(token));
        self.push(Expr::new(ExprKind::Text(text), token.span()), 0)
    }

    fn close_parenthesis(&mut self, begin: Span) -> Read<()> {
        let Some(end) = self.take_if(TokenKind::RightParen)? else {
            return self.unexpected_after_operand("an operator or \")\"");
        };
        let Grown { expr, depth } = self.pop();
        let kind = ExprKind::Paren(Box::new(expr));
        self.push(Expr::new(kind, begin.to(end.span())), depth)
    }

    /// Reads what begins with a name: a call, an aggregation or a selector.
    fn named(&mut self) -> Read<()> {
        let name = self.take()?;
        match (name.kind, self.peek()?) {
            (
                TokenKind::Aggregate(op),
                TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without),
            ) => self.aggregation(name, op),
            (TokenKind::Identifier | TokenKind::Moment(_), TokenKind::LeftParen) => {
                let count = self.arguments()?;
                self.close_call(name, count)
            }
            _ => self.selector(Some(name)),
        }
    }

    fn close_call(&mut self, name: Token, count: usize) -> Read<()> {
        let Some(function) = Function::named(self.text_of(name)) else {
            return self.unknown_function(name);
        };
        let (exprs, depth) = self.pop_all(count);
        let span = name.span().to(Span::new(self.end, self.end));
        self.push(Expr::new(ExprKind::Call(function, exprs), span), depth)
    }

    /// Takes the expressions that were left last, and the levels of the deepest.
    pub(super) fn pop_all(&mut self, count: usize) -> (Vec<Expr>, usize) {
        let left = self.made.split_off(self.made.len().saturating_sub(count));
        let depth = left.iter().map(|grown| grown.depth).max().unwrap_or(0);
        (left.into_iter().map(|grown| grown.expr).collect(), depth)
    }

    fn unknown_function<T>(&self, name: Token) -> Read<T> {
        let word = self.text_of(name);
        let functions = Function::ALL.iter().map(|function| function.signature().name);
        let meant = nearest(&word.to_ascii_lowercase(), aggregations().chain(functions));
        let message = format!("unknown function with name {}", Quoted(word));
        Err(ParseError::boxed(message, name.span()).suggesting(meant))
    }

    /// Reads arguments in parentheses, the left one being the next token; gives how many were left.
    pub(super) fn arguments(&mut self) -> Read<usize> {
        self.take()?;
        if self.take_if(TokenKind::RightParen)?.is_some() {
            return Ok(0);
        }
        let mut count = 0;
        loop {
            self.expression(0)?;
            count += 1;
            if self.ends_arguments()? {
                return Ok(count);
            }
        }
    }

    /// Takes what follows an argument: a comma, or the right parenthesis.
    fn ends_arguments(&mut self) -> Read<bool> {
        match self.peek()? {
            TokenKind::RightParen => {
                self.take()?;
                Ok(true)
            }
            TokenKind::Comma => {
                let comma = self.take()?;
                if begins_operand(self.peek()?) {
                    return Ok(false);
                }
                let message = "trailing commas not allowed in function call args";
                self.fail(message, comma.span())
            }
            _ => self.unexpected_after_operand("an operator, \",\" or \")\""),
        }
    }
}

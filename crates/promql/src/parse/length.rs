//! Lengths of time and calculations with them, in brackets and after `offset`.
//!
//! A small language of its own with the signs and the precedence of the large one, but without vectors. What needs no query is
//! calculated here; `step()` and `range()` stay in the tree until the query is known.

use std::sync::Arc;

use crate::ast::{Arithmetic, BinaryOp, Number};
use crate::length::{Length, LengthExpr, LengthKind};
use crate::lex::{Moment, TokenKind};
use crate::parse::binary::{binding_right, operator};
use crate::parse::expression::sign_of;
use crate::parse::literal::SECONDS_MAX;
use crate::parse::{DEPTH_MAX, Parser, Read};
use crate::span::Span;

/// Signs bind as closely as `*`.
const SIGN_OPERAND: u8 = 6;

/// Where a length stands, and what stands there, for messages.
type Expected<'a> = (&'a str, &'a str);

const OFFSET: Expected<'static> = ("offset", "number, duration, step(), or range()");

fn number_of(length: &LengthExpr) -> Option<f64> {
    match length.kind {
        LengthKind::Number(number) | LengthKind::Duration(number) => Some(number.0),
        _ => None,
    }
}

/// Says whether a length depends on the query.
fn is_calculated(length: &LengthExpr) -> bool {
    match &length.kind {
        LengthKind::Number(_) | LengthKind::Duration(_) => false,
        LengthKind::Step | LengthKind::Range => true,
        LengthKind::Negate(inner) | LengthKind::Paren(inner) => is_calculated(inner),
        LengthKind::Binary(_, sides) | LengthKind::Min(sides) | LengthKind::Max(sides) => {
            is_calculated(&sides.0) || is_calculated(&sides.1)
        }
    }
}

fn with_sign(sign: Arithmetic, begin: Span, length: LengthExpr) -> LengthExpr {
    let span = begin.to(length.span);
    let kind = match length.kind {
        kind if sign == Arithmetic::Add => kind,
        LengthKind::Number(number) => LengthKind::Number(Number(-number.0)),
        LengthKind::Duration(number) => LengthKind::Duration(Number(-number.0)),
        kind => LengthKind::Negate(Box::new(LengthExpr {
            kind,
            span: length.span,
        })),
    };
    LengthExpr { kind, span }
}

impl Parser<'_> {
    /// Reads a length that must be positive.
    pub(super) fn positive_length(&mut self, place: &str, expected: &str) -> Read<Length> {
        self.length_parts = 0;
        let length = self.length(0, (place, expected))?;
        if number_of(&length).is_some_and(|seconds| seconds <= 0.0) {
            return self.fail("duration must be greater than 0", length.span);
        }
        Ok(folded(length, false))
    }

    /// Reads the length of an offset. A sign, a number and a call stand alone: `a offset 5m + b` is a sum of
    /// two selectors; only what stands in parentheses goes on.
    pub(super) fn offset(&mut self) -> Read<Length> {
        self.length_parts = 0;
        let sign = match sign_of(self.peek()?) {
            None => None,
            Some(sign) => Some((sign, self.take()?.span())),
        };
        let is_single = match self.peek()? {
            TokenKind::LeftParen => sign.is_some(),
            kind => sign_of(kind).is_none(),
        };
        let length = match sign {
            None if is_single => self.length_operand(OFFSET)?,
            None => self.length(0, OFFSET)?,
            Some((sign, begin)) if is_single => {
                let length = match self.peek()? {
                    TokenKind::Number | TokenKind::Duration => self.length_literal(begin)?,
                    _ => self.length_operand(OFFSET)?,
                };
                with_sign(sign, begin, length)
            }
            Some((sign, begin)) => {
                let length = self.length(SIGN_OPERAND, OFFSET)?;
                self.length_operations(with_sign(sign, begin, length), 0, OFFSET)?
            }
        };
        Ok(folded(length, true))
    }

    fn length(&mut self, least: u8, expected: Expected<'_>) -> Read<LengthExpr> {
        let operand = self.length_operand(expected)?;
        self.length_operations(operand, least, expected)
    }

    fn length_operations(
        &mut self,
        mut left: LengthExpr,
        least: u8,
        expected: Expected<'_>,
    ) -> Read<LengthExpr> {
        while let Some(BinaryOp::Arithmetic(op)) = operator(self.peek()?, least.max(4)) {
            if op == Arithmetic::Atan2 {
                break;
            }
            let sign = self.take()?.span();
            let right = self.length(binding_right(BinaryOp::Arithmetic(op)), expected)?;
            let is_zero = number_of(&right) == Some(0.0);
            match op {
                Arithmetic::Divide if is_zero => return self.fail("division by zero", sign),
                Arithmetic::Modulo if is_zero => return self.fail("modulo by zero", sign),
                _ => {}
            }
            let span = left.span.to(right.span);
            let kind = LengthKind::Binary(op, Box::new((left, right)));
            left = LengthExpr { kind, span };
        }
        Ok(left)
    }

    fn length_operand(&mut self, expected: Expected<'_>) -> Read<LengthExpr> {
        self.length_parts += 1;
        if self.length_parts > DEPTH_MAX {
            return self.too_deep();
        }
        let token = self.look()?;
        if let Some(sign) = sign_of(token.kind) {
            self.take()?;
            let operand = self.length(SIGN_OPERAND, expected)?;
            return Ok(with_sign(sign, token.span(), operand));
        }
        let kind = match token.kind {
            TokenKind::Number | TokenKind::Duration => return self.length_literal(token.span()),
            TokenKind::LeftParen => {
                self.take()?;
                let inner = self.length(0, expected)?;
                self.close_length(expected)?;
                match inner.kind {
                    kind @ LengthKind::Paren(_) => kind,
                    kind => LengthKind::Paren(Box::new(LengthExpr {
                        kind,
                        span: inner.span,
                    })),
                }
            }
            TokenKind::Moment(moment) => self.length_call(moment, expected)?,
            _ => return self.unexpected_in(expected.0, expected.1),
        };
        let span = token.span().to(Span::new(self.end, self.end));
        Ok(LengthExpr { kind, span })
    }

    /// Reads a number or a duration; one that is too long is told at `place`.
    fn length_literal(&mut self, place: Span) -> Read<LengthExpr> {
        let token = self.take()?;
        let seconds = self.number(token)?;
        // NaN is in no range, and refused when the length is folded.
        if seconds.abs() > SECONDS_MAX {
            return self.fail("duration out of range", place);
        }
        let number = Number(seconds);
        let kind = match token.kind {
            TokenKind::Duration => LengthKind::Duration(number),
            _ => LengthKind::Number(number),
        };
        Ok(LengthExpr {
            kind,
            span: token.span(),
        })
    }

    fn length_call(&mut self, moment: Moment, expected: Expected<'_>) -> Read<LengthKind> {
        if let Moment::Start | Moment::End = moment {
            return self.unexpected_in(expected.0, expected.1);
        }
        self.take()?;
        self.expect_in_length(TokenKind::LeftParen, expected)?;
        let make = match moment {
            Moment::MaxOf => LengthKind::Max,
            Moment::MinOf => LengthKind::Min,
            other => {
                self.close_length(expected)?;
                let is_step = other == Moment::Step;
                return Ok(if is_step {
                    LengthKind::Step
                } else {
                    LengthKind::Range
                });
            }
        };
        let first = self.length(0, expected)?;
        self.expect_in_length(TokenKind::Comma, expected)?;
        let second = self.length(0, expected)?;
        self.close_length(expected)?;
        Ok(make(Box::new((first, second))))
    }

    fn close_length(&mut self, expected: Expected<'_>) -> Read<()> {
        self.expect_in_length(TokenKind::RightParen, expected)
    }

    fn expect_in_length(&mut self, kind: TokenKind, expected: Expected<'_>) -> Read<()> {
        match self.take_if(kind)? {
            Some(_) => Ok(()),
            None => self.unexpected_in(expected.0, expected.1),
        }
    }
}

/// Calculates what needs no query. A calculation that comes to nothing is left to fail where it is asked for,
/// as Prometheus does.
fn folded(length: LengthExpr, may_be_negative: bool) -> Length {
    if is_calculated(&length) {
        return Length::Calculated(Arc::new(length));
    }
    match (length.millis(0.0, 0.0, may_be_negative), number_of(&length)) {
        (Ok(ms), Some(_)) => Length::Millis(ms),
        (Ok(ms), None) => Length::Constant(ms, Arc::new(length)),
        (Err(_), _) => Length::Calculated(Arc::new(length)),
    }
}

//! What follows an operand closely: ranges, subqueries, `offset`, `@`, `anchored`, `smoothed`.
//!
//! Each is laid onto the operand that was read last; one that it cannot have, or has already, is told with its place.

use crate::ast::{Arithmetic, At, Expr, ExprKind, Extension, Selector, Subquery};
use crate::length::{Length, SPAN_MS_MAX};
use crate::lex::{Keyword, Moment, TokenKind};
use crate::parse::expression::sign_of;
use crate::parse::{Grown, Parser, Read};
use crate::span::Span;

/// The furthest fixed moment, either way: far beyond any store, far within all arithmetic.
const AT_MS_MAX: f64 = 100.0 * SPAN_MS_MAX as f64;

impl Parser<'_> {
    /// Reads an operand with what modifies it.
    pub(super) fn with_modifiers(&mut self) -> Read<()> {
        self.primary()?;
        while self.modifier()? {}
        Ok(())
    }

    /// Reads a modifier, if one follows.
    fn modifier(&mut self) -> Read<bool> {
        match self.peek()? {
            TokenKind::LeftBracket => self.brackets()?,
            TokenKind::Keyword(Keyword::Offset) => {
                self.take()?;
                let length = self.offset()?;
                self.set_offset(length)?;
            }
            TokenKind::At => {
                self.take()?;
                self.at()?;
            }
            TokenKind::Keyword(Keyword::Anchored) => {
                self.take()?;
                self.set_extension(Extension::Anchored)?;
            }
            TokenKind::Keyword(Keyword::Smoothed) => {
                self.take()?;
                self.set_extension(Extension::Smoothed)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads `[5m]` or `[1h:1m]`.
    fn brackets(&mut self) -> Read<()> {
        let open = self.take()?.span();
        let number = "number, duration, step(), or range()";
        let range = self.positive_length("subquery or range selector", number)?;
        if self.take_if(TokenKind::RightBracket)?.is_some() {
            return self.close_range(range, open);
        }
        if self.take_if(TokenKind::Colon)?.is_none() {
            return self.unexpected_in("subquery or range", "\":\" or \"]\"");
        }
        let mut step = None;
        if self.peek()? != TokenKind::RightBracket {
            let expected = "number, duration, step(), range(), or \"]\"";
            step = Some(self.positive_length("subquery selector", expected)?);
        }
        if self.take_if(TokenKind::RightBracket)?.is_none() {
            return self.unexpected_in("subquery selector", "\"]\"");
        }
        let Grown { expr, depth } = self.pop();
        let span = expr.span.to(self.here());
        let subquery = Subquery {
            expr,
            range,
            step,
            at: None,
            offset: Length::ZERO,
        };
        self.push(Expr::new(ExprKind::Subquery(Box::new(subquery)), span), depth)
    }

    /// The end of what was taken.
    fn here(&self) -> Span {
        Span::new(self.end, self.end)
    }

    fn close_range(&mut self, range: Length, open: Span) -> Read<()> {
        let Grown { expr, depth } = self.pop();
        let span = expr.span.to(self.here());
        let fault = match &expr.kind {
            ExprKind::Selector(selector) if selector.offset != Length::ZERO => {
                "no offset modifiers allowed before range"
            }
            ExprKind::Selector(selector) if selector.at.is_some() => "no @ modifiers allowed before range",
            ExprKind::Selector(_) => "",
            _ => "ranges only allowed for vector selectors",
        };
        match expr.kind {
            ExprKind::Selector(selector) if fault.is_empty() => {
                self.push(Expr::new(ExprKind::Range(selector, range), span), depth - 1)
            }
            _ => self.fail(fault, open.to(self.here())),
        }
    }

    fn set_offset(&mut self, length: Length) -> Read<()> {
        let end = self.here();
        let expr = self.last();
        let span = expr.span;
        let offset = match &mut expr.kind {
            ExprKind::Selector(selector) | ExprKind::Range(selector, _) => &mut selector.offset,
            ExprKind::Subquery(subquery) => &mut subquery.offset,
            _ => {
                let message = "offset modifier must be preceded by an instant vector selector or range vector \
                               selector or a subquery";
                return self.fail(message, span);
            }
        };
        if *offset != Length::ZERO {
            return self.fail("offset may not be set multiple times", span);
        }
        *offset = length;
        expr.span = span.to(end);
        Ok(())
    }

    fn at(&mut self) -> Read<()> {
        const PLACE: (&str, &str) = ("@", "timestamp");
        let sign = sign_of(self.peek()?);
        if sign.is_some() {
            self.take()?;
        }
        let at = match self.peek()? {
            TokenKind::Number | TokenKind::Duration => {
                let token = self.take()?;
                let value = self.number(token)?;
                let is_minus = sign == Some(Arithmetic::Subtract);
                self.moment(if is_minus { -value } else { value })?
            }
            TokenKind::Moment(moment @ (Moment::Start | Moment::End)) if sign.is_none() => {
                self.take()?;
                for parenthesis in [TokenKind::LeftParen, TokenKind::RightParen] {
                    if self.take_if(parenthesis)?.is_none() {
                        return self.unexpected_in(PLACE.0, PLACE.1);
                    }
                }
                if moment == Moment::Start {
                    At::Start
                } else {
                    At::End
                }
            }
            _ => return self.unexpected_in(PLACE.0, PLACE.1),
        };
        self.set_at(at)
    }

    fn moment(&mut self, seconds: f64) -> Read<At> {
        let span = self.last().span;
        let ms = (seconds * 1000.0).round();
        if ms.is_nan() || ms.abs() > AT_MS_MAX {
            let shown = match seconds {
                infinite if infinite.is_infinite() => format!("{infinite:+}").replace("inf", "Inf"),
                seconds => format!("{seconds:.6}"),
            };
            return self.fail(format!("timestamp out of bounds for @ modifier: {shown}"), span);
        }
        Ok(At::Time(ms as i64))
    }

    fn set_at(&mut self, moment: At) -> Read<()> {
        let end = self.here();
        let expr = self.last();
        let span = expr.span;
        let at = match &mut expr.kind {
            ExprKind::Selector(selector) | ExprKind::Range(selector, _) => &mut selector.at,
            ExprKind::Subquery(subquery) => &mut subquery.at,
            _ => {
                let message = "@ modifier must be preceded by an instant vector selector or range vector selector \
                               or a subquery";
                return self.fail(message, span);
            }
        };
        if at.is_some() {
            return self.fail("@ <timestamp> may not be set multiple times", span);
        }
        *at = Some(moment);
        expr.span = span.to(end);
        Ok(())
    }

    fn set_extension(&mut self, extension: Extension) -> Read<()> {
        let end = self.here();
        let expr = self.last();
        let (span, word) = (expr.span, extension.as_str());
        match &mut expr.kind {
            ExprKind::Selector(Selector { extension: own, .. })
            | ExprKind::Range(Selector { extension: own, .. }, _) => {
                if own.is_some_and(|own| own != extension) {
                    let message = "anchored and smoothed modifiers cannot be used together";
                    return self.fail(message, span);
                }
                *own = Some(extension);
                expr.span = span.to(end);
                Ok(())
            }
            ExprKind::Subquery(_) => {
                self.fail(format!("{word} modifier is not supported for subqueries"), span)
            }
            _ => self.fail(format!("{word} modifier not implemented"), span),
        }
    }
}

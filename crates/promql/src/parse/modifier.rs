//! What follows an operand closely: ranges, subqueries, `offset`, `@`, `anchored`, `smoothed`.

use crate::ast::{Arithmetic, At, Expr, ExprKind, Extension, Selector, Subquery};
use crate::length::{Length, SPAN_MS_MAX};
use crate::lex::{Keyword, Moment, TokenKind};
use crate::parse::expression::sign_of;
use crate::parse::{Grown, ParseError, Parser};
use crate::span::Span;

/// The furthest fixed moment, either way: far beyond any store, far within all arithmetic.
const AT_MS_MAX: f64 = 100.0 * SPAN_MS_MAX as f64;

impl Parser<'_> {
    pub(super) fn with_modifiers(&mut self) -> Result<Grown, ParseError> {
        let mut grown = self.primary()?;
        loop {
            match self.peek()? {
                TokenKind::LeftBracket => grown = self.brackets(grown)?,
                TokenKind::Keyword(Keyword::Offset) => {
                    self.take()?;
                    let length = self.offset()?;
                    self.set_offset(&mut grown.expr, length)?;
                }
                TokenKind::At => {
                    self.take()?;
                    self.at(&mut grown.expr)?;
                }
                TokenKind::Keyword(Keyword::Anchored) => {
                    self.take()?;
                    self.set_extension(&mut grown.expr, Extension::Anchored)?;
                }
                TokenKind::Keyword(Keyword::Smoothed) => {
                    self.take()?;
                    self.set_extension(&mut grown.expr, Extension::Smoothed)?;
                }
                _ => return Ok(grown),
            }
        }
    }

    /// Reads `[5m]` or `[1h:1m]`.
    fn brackets(&mut self, grown: Grown) -> Result<Grown, ParseError> {
        let open = self.take()?.span();
        let number = "number, duration, step(), or range()";
        let range = self.positive_length("subquery or range selector", number)?;
        if self.take_if(TokenKind::RightBracket)?.is_some() {
            return self.range(grown, range, open);
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
        let span = grown.expr.span.to(self.here());
        let subquery = Subquery {
            expr: grown.expr,
            range,
            step,
            at: None,
            offset: Length::ZERO,
        };
        let kind = ExprKind::Subquery(Box::new(subquery));
        self.grow(Expr::new(kind, span), grown.depth)
    }

    /// The end of what was taken.
    fn here(&self) -> Span {
        Span::new(self.end, self.end)
    }

    fn range(&self, grown: Grown, range: Length, open: Span) -> Result<Grown, ParseError> {
        let span = grown.expr.span.to(self.here());
        let fault = match &grown.expr.kind {
            ExprKind::Selector(selector) if selector.offset != Length::ZERO => {
                "no offset modifiers allowed before range"
            }
            ExprKind::Selector(selector) if selector.at.is_some() => "no @ modifiers allowed before range",
            ExprKind::Selector(_) => "",
            _ => "ranges only allowed for vector selectors",
        };
        match grown.expr.kind {
            ExprKind::Selector(selector) if fault.is_empty() => Ok(Grown {
                expr: Expr::new(ExprKind::Range(selector, range), span),
                depth: grown.depth,
            }),
            _ => self.fail(fault, open.to(self.here())),
        }
    }

    fn set_offset(&self, expr: &mut Expr, length: Length) -> Result<(), ParseError> {
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
        expr.span = span.to(self.here());
        Ok(())
    }

    fn at(&mut self, expr: &mut Expr) -> Result<(), ParseError> {
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
                self.moment(if is_minus { -value } else { value }, expr.span)?
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
        self.set_at(expr, at)
    }

    fn moment(&self, seconds: f64, span: Span) -> Result<At, ParseError> {
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

    fn set_at(&self, expr: &mut Expr, moment: At) -> Result<(), ParseError> {
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
        expr.span = span.to(self.here());
        Ok(())
    }

    fn set_extension(&self, expr: &mut Expr, extension: Extension) -> Result<(), ParseError> {
        let (span, word) = (expr.span, extension.as_str());
        match &mut expr.kind {
            ExprKind::Selector(Selector { extension: own, .. })
            | ExprKind::Range(Selector { extension: own, .. }, _) => {
                if own.is_some_and(|own| own != extension) {
                    let message = "anchored and smoothed modifiers cannot be used together";
                    return self.fail(message, span);
                }
                *own = Some(extension);
                expr.span = span.to(self.here());
                Ok(())
            }
            ExprKind::Subquery(_) => {
                self.fail(format!("{word} modifier is not supported for subqueries"), span)
            }
            _ => self.fail(format!("{word} modifier not implemented"), span),
        }
    }
}

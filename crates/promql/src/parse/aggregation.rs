//! Aggregations, and the lists of labels that groupings and matchings are made of.

use std::sync::Arc;

use crate::ast::{Aggregate, AggregateOp, BinaryOp, Expr, ExprKind, LabelChoice};
use crate::lex::{Keyword, Token, TokenKind};
use crate::parse::expression::Arguments;
use crate::parse::{Grown, ParseError, Parser};
use crate::quote::Quoted;
use crate::span::Span;

const fn has_parameter(op: AggregateOp) -> bool {
    matches!(
        op,
        AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::CountValues
            | AggregateOp::Quantile
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio
    )
}

/// Says whether a token may be a label without quotes.
fn may_be_label(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Identifier
        | TokenKind::MetricIdentifier
        | TokenKind::Aggregate(_)
        | TokenKind::Moment(_)
        | TokenKind::Operator(BinaryOp::Set(_)) => true,
        TokenKind::Operator(op) => op.as_str() == "atan2",
        TokenKind::Keyword(keyword) => keyword != Keyword::Without,
        _ => false,
    }
}

impl Parser<'_> {
    /// Reads an aggregation whose operator has been taken.
    pub(super) fn aggregation(&mut self, name: Token, op: AggregateOp) -> Result<Grown, ParseError> {
        self.aggregations += 1;
        let mut grouping = self.grouping()?;
        if self.peek()? != TokenKind::LeftParen {
            return self.unexpected();
        }
        let arguments = self.arguments()?;
        let span = name.span().to(Span::new(self.end, self.end));
        let span = match grouping {
            Some(_) => span,
            None => {
                grouping = self.grouping()?;
                name.span().to(Span::new(self.end, self.end))
            }
        };
        self.aggregations -= 1;
        self.aggregate(op, grouping, arguments, span)
    }

    fn aggregate(
        &self,
        op: AggregateOp,
        grouping: Option<LabelChoice>,
        arguments: Arguments,
        span: Span,
    ) -> Result<Grown, ParseError> {
        let Arguments { mut exprs, depth } = arguments;
        let (expected, found) = (1 + usize::from(has_parameter(op)), exprs.len());
        if found == 0 {
            return self.fail("no arguments for aggregate expression provided", span);
        }
        let (Some(expr), true) = (exprs.pop(), found == expected) else {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {expected}, got {found}"
            );
            return self.fail(message, span);
        };
        let aggregate = Aggregate {
            op,
            // An empty `by ()` is the one group of no grouping at all.
            grouping: grouping.filter(|choice| *choice != LabelChoice::Only(Arc::from([]))),
            param: exprs.pop(),
            expr,
        };
        self.grow(Expr::new(ExprKind::Aggregate(Box::new(aggregate)), span), depth)
    }

    fn grouping(&mut self) -> Result<Option<LabelChoice>, ParseError> {
        let make = match self.peek()? {
            TokenKind::Keyword(Keyword::By) => LabelChoice::Only,
            TokenKind::Keyword(Keyword::Without) => LabelChoice::Except,
            _ => return Ok(None),
        };
        self.take()?;
        self.label_names().map(|names| Some(make(names)))
    }

    /// Reads names of labels in parentheses, as they are or in quotes.
    pub(super) fn label_names(&mut self) -> Result<Arc<[Arc<str>]>, ParseError> {
        const PLACE: &str = "grouping opts";
        if self.take_if(TokenKind::LeftParen)?.is_none() {
            return self.unexpected_in(PLACE, "\"(\"");
        }
        let mut names: Vec<Arc<str>> = Vec::new();
        loop {
            if self.peek()? == TokenKind::RightParen && (names.is_empty() || self.has_comma_before()) {
                self.take()?;
                return Ok(Arc::from(names));
            }
            names.push(self.label_name(PLACE)?);
            match self.peek()? {
                TokenKind::Comma => {
                    self.take()?;
                }
                TokenKind::RightParen => {
                    self.take()?;
                    return Ok(Arc::from(names));
                }
                _ => return self.unexpected_in(PLACE, "\",\" or \")\""),
            }
        }
    }

    fn has_comma_before(&self) -> bool {
        self.text[..self.end].ends_with(',')
    }

    fn label_name(&mut self, place: &str) -> Result<Arc<str>, ParseError> {
        let token = self.look()?;
        let name = match token.kind {
            TokenKind::Text => self.string(token),
            kind if may_be_label(kind) => self.text_of(token).to_owned(),
            _ => return self.unexpected_in(place, "label"),
        };
        self.take()?;
        if name.is_empty() {
            let message = format!("invalid label name for grouping: {}", Quoted(&name));
            return self.fail(message, token.span());
        }
        Ok(Arc::from(name))
    }
}

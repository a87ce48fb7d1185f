//! Aggregations, and the lists of labels that groupings and matchings are made of.
//!
//! The grouping may stand before the parentheses or behind them. Deliberately absent: which parameter fits, which is checked with
//! the types.

use std::sync::Arc;

use crate::ast::{Aggregate, AggregateOp, BinaryOp, Expr, ExprKind, LabelChoice};
use crate::lex::{Keyword, Token, TokenKind};
use crate::parse::{Parser, Read};
use crate::quote::{Quoted, is_text};
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
    pub(super) fn aggregation(&mut self, name: Token, op: AggregateOp) -> Read<()> {
        self.aggregations += 1;
        let before = self.grouping()?;
        if self.peek()? != TokenKind::LeftParen {
            return self.unexpected("\"(\"");
        }
        let count = self.arguments()?;
        let grouping = match before {
            Some(before) => Some(before),
            None => self.grouping()?,
        };
        self.aggregations -= 1;
        self.close_aggregation(name, op, grouping, count)
    }

    fn close_aggregation(
        &mut self,
        name: Token,
        op: AggregateOp,
        grouping: Option<LabelChoice>,
        count: usize,
    ) -> Read<()> {
        let span = name.span().to(Span::new(self.end, self.end));
        let expected = 1 + usize::from(has_parameter(op));
        if count == 0 {
            return self.fail("no arguments for aggregate expression provided", span);
        }
        let (mut exprs, depth) = self.pop_all(count);
        let (Some(expr), true) = (exprs.pop(), count == expected) else {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {expected}, got {count}"
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
        let kind = ExprKind::Aggregate(Box::new(aggregate));
        self.push(Expr::new(kind, span), depth)
    }

    fn grouping(&mut self) -> Read<Option<LabelChoice>> {
        let make = match self.peek()? {
            TokenKind::Keyword(Keyword::By) => LabelChoice::Only,
            TokenKind::Keyword(Keyword::Without) => LabelChoice::Except,
            _ => return Ok(None),
        };
        self.take()?;
        self.label_names().map(|names| Some(make(names)))
    }

    /// Reads names of labels in parentheses, as they are or in quotes.
    pub(super) fn label_names(&mut self) -> Read<Arc<[Arc<str>]>> {
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

    fn label_name(&mut self, place: &str) -> Read<Arc<str>> {
        let token = self.look()?;
        let name = match token.kind {
            TokenKind::Text => self.string(token),
            kind if may_be_label(kind) => self.text_of(token).to_owned(),
            _ => return self.unexpected_in(place, "label"),
        };
        self.take()?;
        if name.is_empty() || !is_text(&name) {
            let message = format!("invalid label name for grouping: {}", Quoted(&name));
            return self.fail(message, token.span());
        }
        Ok(Arc::from(name))
    }
}

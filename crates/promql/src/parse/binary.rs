//! Operators between operands: how closely they bind, and how two vectors are matched.
//!
//! Precedence climbing: what binds more closely is read first.

use std::sync::Arc;

use crate::ast::{
    Arithmetic, Binary, BinaryOp, Cardinality, Expr, ExprKind, LabelChoice, Matching, Number, SetOp,
};
use crate::lex::{Keyword, TokenKind};
use crate::parse::expression::{begins_operand, sign_of};
use crate::parse::{Parser, Read};

/// How closely an operator binds; at least 1.
const fn binding(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Set(SetOp::Or) => 1,
        BinaryOp::Set(SetOp::And | SetOp::Unless) => 2,
        BinaryOp::Comparison(_) => 3,
        BinaryOp::Arithmetic(op) => match op {
            Arithmetic::TrimUpper | Arithmetic::TrimLower => 3,
            Arithmetic::Add | Arithmetic::Subtract => 4,
            Arithmetic::Multiply | Arithmetic::Divide | Arithmetic::Modulo | Arithmetic::Atan2 => 5,
            Arithmetic::Power => 6,
        },
    }
}

/// How closely the operators on the right side of one must bind; only `^` takes its like.
pub(super) const fn binding_right(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Arithmetic(Arithmetic::Power) => binding(op),
        _ => binding(op) + 1,
    }
}

/// Gives the operator when it binds at least as closely as `least`.
pub(super) fn operator(kind: TokenKind, least: u8) -> Option<BinaryOp> {
    match kind {
        TokenKind::Operator(op) if binding(op) >= least => Some(op),
        _ => None,
    }
}

impl Parser<'_> {
    /// Reads an expression whose operators bind at least as closely as `least`.
    pub(super) fn expression(&mut self, least: u8) -> Read<()> {
        self.enter()?;
        self.operand()?;
        while let Some(op) = operator(self.peek()?, least) {
            let (is_bool, matching) = self.operator_with_modifiers()?;
            self.expression(binding_right(op))?;
            self.join(op, is_bool, *matching)?;
        }
        self.open -= 1;
        Ok(())
    }

    /// Which sides are vectors is known when types are checked; until then any operator has a matching.
    fn operator_with_modifiers(&mut self) -> Read<(bool, Box<Matching>)> {
        self.take()?;
        let is_bool = self.take_if(TokenKind::Keyword(Keyword::Bool))?.is_some();
        Ok((is_bool, Box::new(self.matching()?)))
    }

    fn join(&mut self, op: BinaryOp, is_bool: bool, matching: Matching) -> Read<()> {
        let (right, left) = (self.pop(), self.pop());
        let (span, depth) = (left.expr.span.to(right.expr.span), left.depth.max(right.depth));
        let binary = Binary {
            op,
            left: left.expr,
            right: right.expr,
            is_bool,
            matching: Some(matching),
        };
        self.push(Expr::new(ExprKind::Binary(Box::new(binary)), span), depth)
    }

    fn matching(&mut self) -> Read<Matching> {
        let mut matching = Matching::default();
        match self.peek()? {
            TokenKind::Keyword(Keyword::On) => {
                self.take()?;
                matching.labels = LabelChoice::Only(self.label_names()?);
                matching.cardinality = self.cardinality()?;
            }
            TokenKind::Keyword(Keyword::Ignoring) => {
                self.take()?;
                matching.labels = LabelChoice::Except(self.label_names()?);
                matching.cardinality = self.cardinality()?;
            }
            _ => {}
        }
        self.fills(&mut matching)?;
        Ok(matching)
    }

    fn cardinality(&mut self) -> Read<Cardinality> {
        let make = match self.peek()? {
            TokenKind::Keyword(Keyword::GroupLeft) => Cardinality::ManyToOne,
            TokenKind::Keyword(Keyword::GroupRight) => Cardinality::OneToMany,
            _ => return Ok(Cardinality::OneToOne),
        };
        self.take()?;
        match self.peek()? {
            // The list may be left out before an operand; a parenthesis always begins the list.
            kind if kind != TokenKind::LeftParen && begins_operand(kind) => Ok(make(Arc::from([]))),
            _ => self.label_names().map(make),
        }
    }

    fn fills(&mut self, matching: &mut Matching) -> Read<()> {
        match self.peek()? {
            TokenKind::Keyword(Keyword::Fill) => {
                let value = self.fill()?;
                (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
            }
            TokenKind::Keyword(Keyword::FillLeft) => {
                matching.fill_left = Some(self.fill()?);
                if self.peek()? == TokenKind::Keyword(Keyword::FillRight) {
                    matching.fill_right = Some(self.fill()?);
                }
            }
            TokenKind::Keyword(Keyword::FillRight) => {
                matching.fill_right = Some(self.fill()?);
                if self.peek()? == TokenKind::Keyword(Keyword::FillLeft) {
                    matching.fill_left = Some(self.fill()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads `fill (-1)`; its word is the next token.
    fn fill(&mut self) -> Read<Number> {
        self.take()?;
        if self.take_if(TokenKind::LeftParen)?.is_none() {
            return self.unexpected("\"(\"");
        }
        let sign = sign_of(self.peek()?);
        if sign.is_some() {
            self.take()?;
        }
        let (TokenKind::Number | TokenKind::Duration) = self.peek()? else {
            return self.unexpected("a number");
        };
        let token = self.take()?;
        let value = self.number(token)?;
        if self.take_if(TokenKind::RightParen)?.is_none() {
            return self.unexpected("\")\"");
        }
        let is_minus = sign == Some(Arithmetic::Subtract);
        Ok(Number(if is_minus { -value } else { value }))
    }
}

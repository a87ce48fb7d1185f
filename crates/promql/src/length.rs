//! Lengths of time as they are written after a selector: ranges, offsets, steps of subqueries.
//!
//! Most are durations. Some are calculated, from numbers alone or from the step and the range of the
//! query; only the latter must wait for the query to be known.

use std::sync::Arc;

use crate::ast::{Arithmetic, Number};
use crate::span::Span;

/// A length of time.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Length {
    /// A duration or a number of seconds, in milliseconds; negative only for offsets.
    Millis(i64),
    /// What a calculation with numbers alone comes to, in milliseconds, and how it was written.
    Constant(i64, Arc<LengthExpr>),
    /// A calculation with the step or the range of the query.
    Calculated(Arc<LengthExpr>),
}

impl Length {
    /// No time at all.
    pub const ZERO: Length = Length::Millis(0);

    /// Gives the length in milliseconds, `None` when only the query can tell.
    pub const fn millis(&self) -> Option<i64> {
        match self {
            Length::Millis(ms) | Length::Constant(ms, _) => Some(*ms),
            Length::Calculated(_) => None,
        }
    }
}

/// A calculation with lengths of time, in seconds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LengthExpr {
    /// What is calculated.
    pub kind: LengthKind,
    /// Where it stands in the text.
    pub span: Span,
}

/// A part of a calculation with lengths of time.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LengthKind {
    /// `1.5`: seconds.
    Number(Number),
    /// `5m`: seconds as well, written as a duration.
    Duration(Number),
    /// `step()`: the step of the query, 0 at an instant.
    Step,
    /// `range()`: from the first step of the query to the last, 0 at an instant.
    Range,
    /// `-a`
    Negate(Box<LengthExpr>),
    /// `(a)`
    Paren(Box<LengthExpr>),
    /// `a + b`; of the operators, those that calculate with numbers alone but `atan2`.
    Binary(Arithmetic, Box<(LengthExpr, LengthExpr)>),
    /// `min_of(a, b)`
    Min(Box<(LengthExpr, LengthExpr)>),
    /// `max_of(a, b)`
    Max(Box<(LengthExpr, LengthExpr)>),
}

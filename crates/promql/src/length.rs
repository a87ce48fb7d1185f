//! Lengths of time as they are written after a selector: ranges, offsets, steps of subqueries.
//!
//! Most are durations. Some are calculated, from numbers alone or from the step and the range of the
//! query; only the latter must wait for the query to be known.

use std::sync::Arc;

use crate::arithmetic::calculate;
use crate::ast::{Arithmetic, Number};
use crate::span::Span;

/// The longest length, 100 years: far beyond any store, far within all arithmetic on milliseconds.
pub(crate) const SPAN_MS_MAX: i64 = 100 * 365 * 86_400_000;

/// Why a calculation comes to no length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LengthFault {
    /// What is wrong.
    pub(crate) message: &'static str,
    /// What of the calculation.
    pub(crate) span: Span,
}

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

impl LengthExpr {
    /// Calculates the length in milliseconds, from the step and the range of the query in seconds.
    ///
    /// An error when it is no number or too long, and, unless `may_be_negative`, when it is not positive.
    pub(crate) fn millis(
        &self,
        step_s: f64,
        range_s: f64,
        may_be_negative: bool,
    ) -> Result<i64, LengthFault> {
        let fault = |message| {
            let span = self.span;
            Err(LengthFault { message, span })
        };
        let seconds = self.seconds(step_s, range_s)?;
        if !seconds.is_finite() {
            return fault("duration is NaN or infinite");
        }
        if seconds <= 0.0 && !may_be_negative {
            return fault("duration must be greater than 0");
        }
        let ms = match self.kind {
            LengthKind::Number(_) | LengthKind::Duration(_) => ((seconds * 1e9).round() / 1e6).trunc(),
            _ => (seconds * 1000.0).trunc(),
        };
        if ms.abs() > SPAN_MS_MAX as f64 {
            return fault("duration is out of range");
        }
        // A range below a millisecond still ends where it should.
        Ok(if may_be_negative {
            ms as i64
        } else {
            (ms as i64).max(1)
        })
    }

    fn seconds(&self, step_s: f64, range_s: f64) -> Result<f64, LengthFault> {
        let both = |sides: &(LengthExpr, LengthExpr)| -> Result<(f64, f64), LengthFault> {
            Ok((
                sides.0.seconds(step_s, range_s)?,
                sides.1.seconds(step_s, range_s)?,
            ))
        };
        Ok(match &self.kind {
            LengthKind::Number(number) | LengthKind::Duration(number) => number.0,
            LengthKind::Step => step_s,
            LengthKind::Range => range_s,
            LengthKind::Negate(inner) => -inner.seconds(step_s, range_s)?,
            LengthKind::Paren(inner) => inner.seconds(step_s, range_s)?,
            LengthKind::Binary(op, sides) => {
                let (left, right) = both(sides)?;
                let message = match op {
                    Arithmetic::Divide if right == 0.0 => "division by zero",
                    Arithmetic::Modulo if right == 0.0 => "modulo by zero",
                    _ => return Ok(calculate(*op, left, right)),
                };
                return Err(LengthFault {
                    message,
                    span: self.span,
                });
            }
            LengthKind::Min(sides) => extreme(both(sides)?, f64::min),
            LengthKind::Max(sides) => extreme(both(sides)?, f64::max),
        })
    }
}

/// NaN wins over any number.
fn extreme((left, right): (f64, f64), choose: fn(f64, f64) -> f64) -> f64 {
    if left.is_nan() || right.is_nan() {
        return f64::NAN;
    }
    choose(left, right)
}

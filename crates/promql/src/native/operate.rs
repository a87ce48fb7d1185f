//! Operators on histograms, and on a histogram and a number.
//!
//! What does not fit gives nothing and a remark, never an error. Deliberately absent: batches; whoever has one asks cell by cell.
//!
//! Source: Prometheus 3, `promql/engine.go`, `vectorElemBinop`.

use std::sync::Arc;

use marketprism_model::{Buckets, Histogram, ResetHint};

use super::cells;
use super::total::{Added, Incompatible, Total};
use super::{is_equal, trim};
use crate::ast::{Arithmetic, BinaryOp, Comparison};
use crate::column::ABSENT;
use crate::notes::{HistogramOperation, Remark};

/// A number or a histogram.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Number(f64),
    Histogram(Arc<Histogram>),
}

impl Operand {
    fn kind(&self) -> &'static str {
        match self {
            Operand::Number(_) => "float",
            Operand::Histogram(_) => "histogram",
        }
    }
}

/// What an operator makes of two operands.
#[derive(Debug)]
pub(crate) struct Made {
    /// Nothing when the operands do not fit, or a comparison does not hold.
    pub(crate) value: Option<Operand>,
    pub(crate) remark: Option<Remark<'static>>,
}

impl Made {
    /// Says whether the operands do not fit; a comparison that does not hold is no refusal.
    pub(crate) fn is_refused(&self) -> bool {
        self.value.is_none() && self.remark.is_some()
    }

    fn nothing(remark: Remark<'static>) -> Self {
        Made {
            value: None,
            remark: Some(remark),
        }
    }

    fn histogram(histogram: Histogram) -> Self {
        Made {
            value: Some(Operand::Histogram(Arc::new(histogram))),
            remark: None,
        }
    }
}

/// Drops empty buckets; those left stand in as few spans as can be.
pub(crate) fn compact(histogram: &mut Histogram) {
    for side in [&mut histogram.positive, &mut histogram.negative] {
        let has_gaps_only = side.spans.iter().skip(1).all(|span| span.offset > 0)
            && side.spans.iter().all(|span| span.length > 0);
        if has_gaps_only && side.counts.iter().all(|count| *count != 0.0) {
            continue;
        }
        let all = cells::cells(side);
        let populated = all.iter().filter(|cell| cell.count != 0.0);
        *side = cells::buckets(populated.map(|cell| (cell.index, cell.count)));
    }
}

/// Multiplies all counts and the sum. By a negative number, it becomes a gauge.
pub(crate) fn scaled(histogram: &Histogram, factor: f64) -> Histogram {
    let mut made = changed(histogram, |value| value * factor);
    if factor < 0.0 {
        made.reset_hint = ResetHint::Gauge;
    }
    made
}

/// Divides all counts and the sum. By a negative number, it becomes a gauge; by zero, it loses its buckets.
pub(crate) fn divided(histogram: &Histogram, by: f64) -> Histogram {
    let mut made = changed(histogram, |value| value / by);
    if by == 0.0 {
        (made.positive, made.negative) = (Buckets::default(), Buckets::default());
    } else if by < 0.0 {
        made.reset_hint = ResetHint::Gauge;
    }
    made
}

fn changed(histogram: &Histogram, change: impl Fn(f64) -> f64) -> Histogram {
    let side = |buckets: &Buckets| Buckets {
        spans: buckets.spans.clone(),
        counts: buckets.counts.iter().map(|count| change(*count)).collect(),
    };
    Histogram {
        reset_hint: histogram.reset_hint,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count: change(histogram.zero_count),
        count: change(histogram.count),
        sum: change(histogram.sum),
        positive: side(&histogram.positive),
        negative: side(&histogram.negative),
        custom_bounds: Arc::clone(&histogram.custom_bounds),
    }
}

/// Calculates or compares two operands, at least one of which is a histogram or the operator is made for them.
pub(crate) fn operate(op: BinaryOp, is_bool: bool, left: &Operand, right: &Operand) -> Made {
    let made = match (left, right) {
        (Operand::Number(left), Operand::Number(right)) => numbers(op, *left, *right),
        (Operand::Histogram(left), Operand::Histogram(right)) => histograms(op, left, right),
        (Operand::Histogram(histogram), Operand::Number(number)) => with_number(op, histogram, *number),
        (Operand::Number(number), Operand::Histogram(histogram)) => match op {
            BinaryOp::Arithmetic(Arithmetic::Multiply) => Some(product(histogram, *number)),
            _ => None,
        },
    };
    let Some(mut made) = made else {
        return Made::nothing(Remark::IncompatibleTypes {
            left: left.kind(),
            op: op.as_str(),
            right: right.kind(),
        });
    };
    if is_bool {
        let holds = made.value.is_some();
        made.value = Some(Operand::Number(if holds { 1.0 } else { 0.0 }));
    }
    made
}

fn product(histogram: &Histogram, factor: f64) -> Made {
    let mut made = scaled(histogram, factor);
    compact(&mut made);
    Made::histogram(made)
}

fn numbers(op: BinaryOp, left: f64, right: f64) -> Option<Made> {
    let value = match op {
        BinaryOp::Arithmetic(Arithmetic::TrimUpper | Arithmetic::TrimLower) => return None,
        _ => crate::arithmetic::pair(op, false, left, right),
    };
    let is_nothing = value.to_bits() == ABSENT.to_bits();
    Some(Made {
        value: (!is_nothing).then_some(Operand::Number(value)),
        remark: None,
    })
}

/// `None` when nothing can be made of a histogram and a number.
fn with_number(op: BinaryOp, histogram: &Histogram, number: f64) -> Option<Made> {
    let BinaryOp::Arithmetic(op) = op else {
        return None;
    };
    Some(match op {
        Arithmetic::Multiply => product(histogram, number),
        Arithmetic::Divide => {
            let mut made = divided(histogram, number);
            compact(&mut made);
            Made::histogram(made)
        }
        Arithmetic::TrimUpper => Made::histogram(trim::trim(histogram, number, true)),
        Arithmetic::TrimLower => Made::histogram(trim::trim(histogram, number, false)),
        _ => return None,
    })
}

/// `None` when nothing can be made of two histograms.
fn histograms(op: BinaryOp, left: &Arc<Histogram>, right: &Histogram) -> Option<Made> {
    Some(match op {
        BinaryOp::Arithmetic(Arithmetic::Add) => {
            let mut total = Total::of(left);
            let added = total.add(right);
            combined(op, total, added, HistogramOperation::Addition)
        }
        BinaryOp::Arithmetic(Arithmetic::Subtract) => {
            let mut total = Total::of(left);
            let added = total.subtract(right);
            combined(op, total, added, HistogramOperation::Subtraction)
        }
        BinaryOp::Comparison(comparison @ (Comparison::Equal | Comparison::NotEqual)) => {
            let holds = is_equal(left, right) == (comparison == Comparison::Equal);
            Made {
                value: holds.then(|| Operand::Histogram(Arc::clone(left))),
                remark: None,
            }
        }
        _ => return None,
    })
}

fn combined(
    op: BinaryOp,
    total: Total,
    added: Result<Added, Incompatible>,
    operation: HistogramOperation,
) -> Made {
    match added {
        Err(Incompatible) => Made::nothing(Remark::IncompatibleBuckets(op.as_str())),
        // Prometheus warns of it, and gives no result.
        Ok(added) if added.hints_collide => Made::nothing(Remark::ResetCollision(operation)),
        Ok(added) => {
            let mut made = total.plain();
            if operation == HistogramOperation::Subtraction {
                made.reset_hint = ResetHint::Gauge;
            }
            compact(&mut made);
            let remark = Remark::MismatchedCustomBuckets(operation);
            Made {
                remark: added.bounds_reconciled.then_some(remark),
                ..Made::histogram(made)
            }
        }
    }
}

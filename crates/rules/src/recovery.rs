//! When a plain rule's alert is over: not as soon as its condition fails, but when its value has come back far enough.
//!
//! `expr: cpu > 95` with `recover: "< 90"` is one alert for a value that swings around 95. The comparison that decides is
//! taken off the expression, so that the value can be seen although the condition is false.

use marketprism_promql::{BinaryOp, Comparison, Expr, ExprKind, ValueType};

use crate::level::{Threshold, disagreement};

/// When an alert of a plain rule is over.
#[derive(Clone, PartialEq, Debug)]
pub struct Recovery {
    /// The value must meet this.
    pub recover: Threshold,
    /// The same as it is written.
    pub text: String,
    /// What is compared.
    pub(crate) operand: Expr,
}

impl Recovery {
    /// Reads `< 90` for a rule with this expression.
    pub(crate) fn read(text: &str, expr: &Expr) -> Result<Self, String> {
        let recover = Threshold::parse(text)?;
        let (operand, op, bound) = decided(expr).ok_or(
            "recover needs an expression that ends in a comparison with a number, such as \"cpu > 95\", for its value must \
             be seen although the condition is false",
        )?;
        let text = text.trim().to_owned();
        let when = Threshold {
            op,
            bound: bound.unwrap_or(f64::NAN),
        };
        match disagreement(&when, &recover) {
            Some(_) => Err(format!(
                "recover {text:?} must look the other way than the expression's comparison {:?} and not reach past it",
                BinaryOp::Comparison(op).as_str(),
            )),
            None => Ok(Recovery {
                recover,
                text,
                operand,
            }),
        }
    }
}

/// Takes a comparison with a number apart: what is compared, how with it on the left, and the number where it is known.
fn decided(expr: &Expr) -> Option<(Expr, Comparison, Option<f64>)> {
    match &expr.kind {
        ExprKind::Paren(inner) => decided(inner),
        ExprKind::Binary(binary) if !binary.is_bool => {
            let BinaryOp::Comparison(op) = binary.op else {
                return None;
            };
            match (binary.left.value_type(), binary.right.value_type()) {
                (ValueType::Vector, ValueType::Scalar) => {
                    Some((binary.left.clone(), op, crate::level::number(&binary.right)))
                }
                (ValueType::Scalar, ValueType::Vector) => Some((
                    binary.right.clone(),
                    op.mirrored(),
                    crate::level::number(&binary.left),
                )),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, expr: &str) -> Result<String, String> {
        let parsed = marketprism_promql::parse(expr).expect("it parses");
        Recovery::read(text, &parsed).map(|recovery| recovery.operand.to_string())
    }

    #[test]
    fn a_recovery_looks_at_what_the_expression_compares() {
        let check =
            |text: &str, expr: &str, operand: &str| assert_eq!(read(text, expr).as_deref(), Ok(operand));
        check("< 90", "cpu > 95", "cpu");
        check("< 90", "(95 < sum by (i) (cpu))", "sum by (i) (cpu)");
        check("> 10", "free <= -5", "free");
        check("== 1", "up == 0", "up");
        check("< 3", "load > scalar(cores) * 2", "load");
    }

    #[test]
    fn a_recovery_that_cannot_be_seen_or_overlaps_is_refused() {
        for (text, expr) in [
            ("< 90", "absent(cpu)"),
            ("< 90", "cpu > on (i) max_cpu"),
            ("< 90", "cpu > bool 95"),
            ("< 96", "cpu > 95"),
            ("> 90", "cpu > 95"),
            ("> 3", "load > scalar(cores)"),
            ("about 90", "cpu > 95"),
        ] {
            assert!(read(text, expr).is_err(), "{expr} with {text}");
        }
    }
}

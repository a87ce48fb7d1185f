//! Levels: one alert that rises and falls, instead of one rule for each severity.
//!
//! A level holds when the value meets `when`. What no longer does lingers until it meets `recover`, so
//! that a value that swings around a threshold makes one alert and not twenty.

use std::time::Duration;

use marketprism_model::{Level, Verdict};
use marketprism_promql::{Comparison, Expr, ExprKind, Number, parse};

/// A comparison with a number: `> 95`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Threshold {
    /// How the value is compared.
    pub op: Comparison,
    /// With what.
    pub bound: f64,
}

/// The longer operator first, so that `>=` is not read as `>`.
const OPERATORS: [(&str, Comparison); 6] = [
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    (">", Comparison::Greater),
    ("<", Comparison::Less),
];

impl Threshold {
    /// Reads `> 95`; the number as PromQL writes numbers.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("{text:?} is no threshold; expected an operator and a number, such as \"> 95\"");
        let text_left = text.trim();
        let (word, op) = OPERATORS
            .iter()
            .find(|(word, _)| text_left.starts_with(word))
            .ok_or_else(refuse)?;
        let bound = parse(&text_left[word.len()..])
            .ok()
            .and_then(|expr| number(&expr))
            .filter(|bound| !bound.is_nan())
            .ok_or_else(refuse)?;
        Ok(Threshold { op: *op, bound })
    }

    /// Says whether a value meets it.
    pub fn holds(&self, value: f64) -> bool {
        self.op.holds(value, self.bound)
    }

    fn is_upward(&self) -> bool {
        matches!(self.op, Comparison::Greater | Comparison::GreaterOrEqual)
    }

    fn is_downward(&self) -> bool {
        matches!(self.op, Comparison::Less | Comparison::LessOrEqual)
    }
}

/// Gives the number that an expression is.
pub(crate) fn number(expr: &Expr) -> Option<f64> {
    match &expr.kind {
        ExprKind::Number(Number(value)) | ExprKind::Duration(Number(value)) => Some(*value),
        ExprKind::Negate(inner) => number(inner).map(|value| -value),
        ExprKind::Plus(inner) | ExprKind::Paren(inner) => number(inner),
        _ => None,
    }
}

/// One level of a rule.
#[derive(Clone, PartialEq, Debug)]
pub struct LevelSpec {
    /// Which one.
    pub level: Level,
    /// When it holds.
    pub when: Threshold,
    /// `when` as it is written.
    pub when_text: String,
    /// When it is over; as soon as `when` fails, if absent.
    pub recover: Option<Threshold>,
    /// `recover` as it is written.
    pub recover_text: Option<String>,
    /// How long it must hold before it fires.
    pub hold_for: Duration,
    /// How long it keeps firing after it last held.
    pub keep_firing_for: Duration,
}

impl LevelSpec {
    /// Says how the level stands for a value.
    pub fn verdict(&self, value: f64) -> Verdict {
        if self.when.holds(value) {
            return Verdict::Holds;
        }
        match &self.recover {
            Some(recover) if !recover.holds(value) => Verdict::Lingers,
            _ => Verdict::Clear,
        }
    }

    /// Finds what makes no sense: a recovery on the same side as the threshold, or beyond it.
    pub(crate) fn fault(&self) -> Option<String> {
        disagreement(&self.when, self.recover.as_ref()?)?;
        Some(format!(
            "recover {:?} must look the other way than when {:?} and not reach past it",
            self.recover_text.as_deref().unwrap_or(""),
            self.when_text
        ))
    }
}

/// Says whether a recovery lies on the same side as its threshold, or beyond it. A threshold whose number is not known
/// (NaN) is compared by its side alone.
pub(crate) fn disagreement(when: &Threshold, recover: &Threshold) -> Option<()> {
    let is_opposed =
        (when.is_upward() && recover.is_downward()) || (when.is_downward() && recover.is_upward());
    let is_gap = when.bound.is_nan()
        || match when.is_upward() {
            true => recover.bound <= when.bound,
            false => recover.bound >= when.bound,
        };
    let is_ordered = when.is_upward() || when.is_downward();
    (is_ordered && (!is_opposed || !is_gap)).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(when: &str, recover: Option<&str>) -> LevelSpec {
        LevelSpec {
            level: Level::High,
            when: Threshold::parse(when).unwrap(),
            when_text: when.to_owned(),
            recover: recover.map(|text| Threshold::parse(text).unwrap()),
            recover_text: recover.map(str::to_owned),
            hold_for: Duration::ZERO,
            keep_firing_for: Duration::ZERO,
        }
    }

    #[test]
    fn a_threshold_is_an_operator_and_a_number() {
        let check =
            |text: &str, op, bound| assert_eq!(Threshold::parse(text), Ok(Threshold { op, bound }), "{text}");
        check("> 95", Comparison::Greater, 95.0);
        check(">=-1.5e3", Comparison::GreaterOrEqual, -1500.0);
        check(" < 0x10 ", Comparison::Less, 16.0);
        check("== +Inf", Comparison::Equal, f64::INFINITY);
        check("!= (3)", Comparison::NotEqual, 3.0);
        for text in ["", ">", "95", "> up", "> NaN", "=> 1", "> 1 > 2"] {
            let error = Threshold::parse(text).expect_err(text);
            assert!(error.contains("expected an operator and a number"), "{error}");
        }
    }

    #[test]
    fn a_value_between_threshold_and_recovery_lingers() {
        let level = level("> 95", Some("< 90"));
        let story: String = [80.0, 96.0, 93.0, 90.0, 89.9, f64::NAN]
            .map(|value| match level.verdict(value) {
                Verdict::Holds => '#',
                Verdict::Lingers => '~',
                Verdict::Clear => '.',
                Verdict::Unknown => '?',
            })
            .iter()
            .collect();
        assert_eq!(story, ".#~~.~");
    }

    #[test]
    fn a_recovery_that_overlaps_its_threshold_is_a_fault() {
        assert_eq!(level("> 95", Some("< 90")).fault(), None);
        assert_eq!(level("< 5", Some(">= 5")).fault(), None);
        assert_eq!(level("== 1", Some("== 0")).fault(), None);
        assert!(level("> 95", Some("< 96")).fault().is_some());
        assert!(level("> 95", Some("> 90")).fault().is_some());
        assert!(level("< 5", Some("> 4")).fault().is_some());
    }
}

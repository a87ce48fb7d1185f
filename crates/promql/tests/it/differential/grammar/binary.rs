//! Operators between two expressions.

use super::{Generator, Made, Place, Precision};

const ARITHMETIC: [&str; 5] = ["+", "-", "*", "/", "%"];
const COMPARISONS: [&str; 6] = ["==", "!=", ">", "<", ">=", "<="];

impl Generator {
    pub(super) fn binary(&mut self, place: Place) -> Made {
        match self.below(14) {
            0 | 1 => self.with_scalar(place),
            2 | 3 => self.compared_with_scalar(place),
            4 | 5 => self.one_to_one(place),
            6 | 7 => self.grouped(place),
            8 => self.joined_with_info(place),
            9 | 10 => self.of_sets(place),
            11 => self.careless(place),
            12 => self.chain(place),
            _ => self.against_its_past(place),
        }
    }

    fn with_scalar(&mut self, place: Place) -> Made {
        let op = self.pick(&["+", "-", "*", "/", "%", "^", "atan2"]);
        let inner = match op {
            // The remainder of rounding is rounding, and so is its power.
            "%" | "^" => self.usual(place),
            "atan2" => self.vector_that(place, |made| !made.is_named),
            _ => self.vector(place),
        };
        let scalar = match op {
            "%" => self.pick(&["7", "0.3", "-2", "0", "Inf"]).to_owned(),
            "^" => self.pick(&["2", "0.5", "-1", "0", "3"]).to_owned(),
            "+" | "-" if inner.precision == Precision::Rounded => self.pick(&["1", "0.5", "-100"]).to_owned(),
            _ => self.scalar(place.deeper()),
        };
        if op == "atan2" && inner.is_named {
            return inner;
        }
        let is_left = matches!(op, "+" | "-" | "*" | "/") && self.one_in(3);
        let text = if is_left {
            format!("{scalar} {op} ({})", inner.text)
        } else {
            format!("({}) {op} {scalar}", inner.text)
        };
        let precision = match op {
            "^" | "atan2" => Precision::Rounded,
            _ => Precision::Exact,
        };
        Made {
            is_odd: true,
            ..inner.becomes(text, precision)
        }
    }

    fn compared_with_scalar(&mut self, place: Place) -> Made {
        let inner = self.vector(place);
        let op = self.comparison(inner.precision);
        let is_bool = self.one_in(3);
        let scalar = match inner.precision {
            Precision::Rounded => self.pick(&["0.1234567", "-17.77", "3.21e2", "1e5"]).to_owned(),
            _ => self.scalar(place.deeper()),
        };
        let op = if is_bool {
            format!("{op} bool")
        } else {
            op.to_owned()
        };
        let text = if self.one_in(3) {
            format!("{scalar} {op} ({})", inner.text)
        } else {
            format!("({}) {op} {scalar}", inner.text)
        };
        if is_bool {
            let mut made = inner.becomes(text, Precision::Summable);
            (made.precision, made.is_odd) = (Precision::Summable, false);
            return made;
        }
        Made { text, ..inner }
    }

    /// What is rounded is not asked to be equal.
    fn comparison(&mut self, precision: Precision) -> &'static str {
        match precision {
            Precision::Rounded => self.pick(&[">", "<", ">=", "<="]),
            _ => self.pick(&COMPARISONS),
        }
    }

    /// The operator between two vectors of these precisions; whether it is a comparison, and whether one of bool.
    fn operator(&mut self, left: &Made, right: &Made) -> (String, bool, bool) {
        let precision = left.precision.max(right.precision);
        if self.one_in(3) {
            let op = self.comparison(precision);
            let is_bool = self.one_in(2);
            return (
                format!("{op}{}", if is_bool { " bool" } else { "" }),
                true,
                is_bool,
            );
        }
        let op = match precision {
            // What is left of two rounded numbers may be rounding alone.
            Precision::Rounded => self.pick(&["*", "/", "*", "+"]),
            _ => self.pick(&ARITHMETIC),
        };
        (op.to_owned(), false, false)
    }

    fn outcome(&self, left: &Made, right: &Made, text: String, is_comparison: bool, is_bool: bool) -> Made {
        if is_bool {
            let mut made = left.becomes(text, Precision::Summable);
            (made.precision, made.is_odd) = (Precision::Summable, false);
            return made;
        }
        if is_comparison {
            return Made { text, ..left.clone() };
        }
        Made {
            is_odd: true,
            ..left.becomes(text, Precision::Exact.max(right.precision))
        }
    }

    /// Two vectors whose series are told apart by the same labels.
    fn one_to_one(&mut self, place: Place) -> Made {
        let left = self.vector_that(place, |made| made.identity.is_some());
        let mut identity = left.identity.clone().unwrap_or_default();
        identity.sort_unstable();
        let right = self.vector_that(place, |made| {
            let mut other = made.identity.clone().unwrap_or_else(|| vec!["?"]);
            other.sort_unstable();
            other == identity
        });
        let (op, is_comparison, is_bool) = self.operator(&left, &right);
        let matching = match self.below(4) {
            0 => format!(" on ({})", identity.join(", ")),
            1 => " ignoring (missing)".to_owned(),
            _ => String::new(),
        };
        let text = format!("({}) {op}{matching} ({})", left.text, right.text);
        let mut made = self.outcome(&left, &right, text, is_comparison, is_bool);
        made.is_named &= matching.is_empty();
        made
    }

    /// Two vectors brought to the same labels by aggregations.
    fn grouped(&mut self, place: Place) -> Made {
        let (left, right) = (self.vector(place), self.vector(place));
        let by = self.pick(&["job, instance", "job"]);
        let ops = ["max", "min"];
        let (of_left, of_right) = (self.pick(&ops), self.pick(&ops));
        let (op, is_comparison, is_bool) = if self.one_in(8) {
            ("atan2".to_owned(), false, false)
        } else {
            self.operator(&left, &right)
        };
        let text = format!(
            "{of_left} by ({by}) ({}) {op} {of_right} by ({by}) ({})",
            left.text, right.text
        );
        let precision = if op == "atan2" {
            Precision::Rounded
        } else {
            left.precision
        };
        let left = Made {
            identity: Some(by.split(", ").collect()),
            ..left.becomes(String::new(), precision)
        };
        self.outcome(&left, &right, text, is_comparison, is_bool)
    }

    /// Many with one: labels come over from the one.
    fn joined_with_info(&mut self, place: Place) -> Made {
        let many = self.vector_that(place, |made| {
            made.identity
                .as_ref()
                .is_some_and(|labels| labels.contains(&"job"))
        });
        let has_instance = many
            .identity
            .as_ref()
            .is_some_and(|labels| labels.contains(&"instance"));
        let (one, on, include) = match (has_instance, self.below(3)) {
            (true, 0) => ("build_info", "instance, job", "version"),
            (true, 1) => ("sum by (instance, job) (up)", "job, instance", ""),
            _ => ("region_info", "job", "region"),
        };
        let op = self.pick(&["*", "+", ">", "== bool", ">= bool", "-"]);
        let exact = many.precision <= Precision::Exact;
        let op = if exact { op } else { "*" };
        let text = if self.one_in(3) {
            format!("{one} {op} on ({on}) group_right ({include}) ({})", many.text)
        } else if self.one_in(4) {
            format!("({}) {op} on ({on}) group_left {one}", many.text)
        } else {
            format!("({}) {op} on ({on}) group_left ({include}) {one}", many.text)
        };
        let precision = many.precision.max(Precision::Exact);
        Made {
            // A filter keeps the name.
            is_named: op == ">",
            is_odd: true,
            identity: None,
            ..many.becomes(text, precision)
        }
    }

    fn of_sets(&mut self, place: Place) -> Made {
        let (left, right) = (self.vector(place), self.vector(place));
        let op = self.pick(&["and", "or", "unless"]);
        let matching = self.pick(&[
            "",
            " on (job)",
            " on (instance)",
            " ignoring (code, mode, le)",
            " on ()",
            " ignoring (instance)",
        ]);
        let text = format!("({}) {op}{matching} ({})", left.text, right.text);
        if op != "or" {
            return Made { text, ..left };
        }
        Made {
            text,
            identity: None,
            precision: left.precision.max(right.precision),
            // With names only here and there, nothing may hang on them.
            is_named: true,
            is_distinct: false,
            is_odd: left.is_odd || right.is_odd,
        }
    }

    /// Vectors matched without a thought: often they must not match.
    fn careless(&mut self, place: Place) -> Made {
        let (left, right) = (self.exact(place), self.exact(place));
        // What a comparison filters out, 2.42 does not match.
        let op = self.pick(&["+", "/", "> bool", "== bool"]);
        let labels = self.pick(&["job", "instance", "job, instance", "code", ""]);
        let choice = self.pick(&["on", "ignoring"]);
        let group = self.pick(&[
            "",
            " group_left",
            " group_right",
            " group_left (version)",
            " group_right ()",
        ]);
        // A label cannot be both matched and brought over.
        let text = format!("({}) {op} {choice} ({labels}){group} ({})", left.text, right.text);
        Made {
            identity: None,
            is_odd: true,
            ..left.becomes(text, Precision::Exact)
        }
    }

    /// Operators in a row, without parentheses: precedence decides.
    fn chain(&mut self, place: Place) -> Made {
        let mut text = self.plain(place).text;
        let mut has_power = false;
        for _ in 0..2 + self.below(3) {
            // A power of a rounded number may be none at all.
            let ops = ["+", "-", "*", "/", "+", "-", "*", "^"];
            let op = self.pick(&ops[..if has_power { 7 } else { 8 }]);
            has_power |= op == "^";
            let operand = if self.one_in(3) {
                self.plain(place).text
            } else {
                self.pick(&["2", "3", "-1", "0.5"]).to_owned()
            };
            text = format!("{text} {op} {operand}");
        }
        if self.one_in(3) {
            text = format!("-{text}");
        }
        let precision = if has_power {
            Precision::Rounded
        } else {
            Precision::Exact
        };
        Made {
            text,
            identity: Some(vec!["job", "instance"]),
            precision,
            is_named: false,
            is_distinct: false,
            is_odd: true,
        }
    }

    fn against_its_past(&mut self, place: Place) -> Made {
        let family = self.family(|family| !family.is_odd);
        let selector = self.selector(family);
        let op = self.pick(&["-", ">", "<=", "== bool", "/", "and", "unless", "or"]);
        let shift = if place.reach_min > 20 { "10m" } else { "1m" };
        Made {
            text: format!("{selector} {op} {selector} offset {shift}"),
            identity: None,
            precision: Precision::Exact,
            is_named: true,
            is_distinct: false,
            is_odd: true,
        }
    }
}

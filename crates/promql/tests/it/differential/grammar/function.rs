//! Functions of instant vectors.

use super::{Generator, Made, Place, Precision};

impl Generator {
    pub(super) fn function(&mut self, place: Place) -> Made {
        match self.below(14) {
            0 => {
                let function = self.pick(&["abs", "deg", "rad"]);
                let inner = self.vector(place);
                inner.becomes(format!("{function}({})", inner.text), Precision::Exact)
            }
            1 => {
                let function = self.pick(&[
                    "exp", "ln", "log2", "log10", "sinh", "cosh", "tanh", "asinh", "atan",
                ]);
                let inner = self.usual(place);
                let mut made = inner.becomes(format!("{function}({})", inner.text), Precision::Rounded);
                made.is_odd = true;
                made
            }
            2 => {
                // Where these are steep, they magnify any rounding.
                let function = self.pick(&["sin", "cos", "tan", "asin", "acos", "acosh", "atanh"]);
                let inner = self.usual(place);
                let scaled = if function.starts_with('a') && function != "acosh" {
                    format!("{function}(({}) / 128)", inner.text)
                } else {
                    format!("{function}({})", inner.text)
                };
                let mut made = inner.becomes(scaled, Precision::Rounded);
                made.is_odd = true;
                made
            }
            3 => {
                let inner = self.exact(place);
                let nearest = self.pick(&["", ", 1", ", 0.1", ", 5", ", -2"]);
                let function = self.pick(&["floor", "ceil", "sgn", "round", "sqrt"]);
                let nearest = if function == "round" { nearest } else { "" };
                inner.becomes(format!("{function}({}{nearest})", inner.text), Precision::Exact)
            }
            4 | 5 => {
                let inner = self.vector(place);
                let (low, high) = (self.scalar(place.deeper()), self.scalar(place.deeper()));
                let text = match self.below(4) {
                    0 => format!("clamp({}, {low}, {high})", inner.text),
                    1 => format!("clamp({}, -5, 20)", inner.text),
                    2 => format!("clamp_min({}, {low})", inner.text),
                    _ => format!("clamp_max({}, {high})", inner.text),
                };
                inner.becomes(text, Precision::Exact)
            }
            6 => {
                let inner = self.vector(place);
                let precision = inner.precision;
                let sign = self.pick(&["-", "-", "+"]);
                let text = format!("{sign}({})", inner.text);
                if sign == "+" {
                    return Made { text, ..inner };
                }
                inner.becomes(text, precision)
            }
            7 => {
                let function = self.pick(&["sort", "sort_desc"]);
                let inner = self.vector(place);
                Made {
                    text: format!("{function}({})", inner.text),
                    ..inner
                }
            }
            8 => self.date(place),
            9 | 10 => self.relabelled(place),
            11 => self.absent(place),
            12 => {
                let scalar = self.scalar(place);
                Made {
                    text: format!("vector({scalar})"),
                    identity: Some(Vec::new()),
                    precision: Precision::Exact,
                    is_named: false,
                    is_distinct: false,
                    is_odd: true,
                }
            }
            _ => self.timestamp(place),
        }
    }

    fn date(&mut self, place: Place) -> Made {
        let function = self.pick(&[
            "hour",
            "minute",
            "day_of_month",
            "day_of_week",
            "day_of_year",
            "month",
            "year",
            "days_in_month",
        ]);
        let argument = match self.below(4) {
            0 => String::new(),
            1 => format!("vector(time() - 86400 * {})", self.below(1500)),
            2 => format!("({}) * 1e6", self.plain(place).text),
            _ => "timestamp(up) * 1.1".to_owned(),
        };
        Made {
            text: format!("{function}({argument})"),
            identity: if argument.contains("vector") || argument.is_empty() {
                Some(Vec::new())
            } else {
                Some(vec!["job", "instance"])
            },
            precision: Precision::Summable,
            is_named: false,
            is_distinct: false,
            is_odd: false,
        }
    }

    fn relabelled(&mut self, place: Place) -> Made {
        let inner = self.vector(place);
        let (before, after, is_safe) = self.pick(&[
            (
                "label_replace(",
                r#", "shard", "$1-x", "instance", "(.+)-\\d:.*")"#,
                true,
            ),
            (
                "label_replace(",
                r#", "shard", "${1}${2}", "instance", "(?:a|d)(.)(.*)")"#,
                true,
            ),
            (
                "label_replace(",
                r#", "shard", "$part", "instance", "(?P<part>[a-z]+).*")"#,
                true,
            ),
            ("label_replace(", r#", "shard", "$9$$", "job", ".*")"#, true),
            ("label_replace(", r#", "shard", "x", "missing", "")"#, true),
            ("label_replace(", r#", "job", "other", "job", "ap")"#, true),
            ("label_replace(", r#", "job", "other", "job", "api")"#, false),
            ("label_replace(", r#", "instance", "", "instance", ".*")"#, false),
            ("label_replace(", r#", "code", "x", "code", "4.*|5.*")"#, false),
            ("label_join(", r#", "both", "/", "job", "instance")"#, true),
            ("label_join(", r#", "both", "", "missing")"#, true),
            (
                "label_join(",
                r#", "job", "-", "instance", "job", "missing")"#,
                false,
            ),
            ("label_join(", r#", "instance", "", "job")"#, false),
            ("label_join(", r#", "both", "x")"#, true),
        ]);
        Made {
            text: format!("{before}{}{after}", inner.text),
            identity: if is_safe { inner.identity.clone() } else { None },
            ..inner
        }
    }

    fn absent(&mut self, place: Place) -> Made {
        let text = match self.below(6) {
            0 => "absent(missing{a=\"b\", c=~\"d\", e!=\"f\"})".to_owned(),
            1 => format!("absent({})", self.vector(place).text),
            2 => format!("absent_over_time({})", self.range_vector(place)),
            3 => "absent_over_time(missing{a=\"b\", a=\"c\", d=\"e\"}[5m])".to_owned(),
            4 => format!("absent(sum({} > 1e9))", self.plain(place).text),
            _ => "absent({__name__=\"missing\", job=\"x\"})".to_owned(),
        };
        Made {
            text,
            identity: Some(Vec::new()),
            precision: Precision::Summable,
            is_named: false,
            is_distinct: false,
            is_odd: false,
        }
    }

    fn timestamp(&mut self, place: Place) -> Made {
        // 2.42 loses an offset beside `@` under this one.
        let inner = loop {
            let inner = if self.one_in(3) {
                self.vector(place)
            } else {
                self.leaf(place)
            };
            if !(inner.text.contains('@') && inner.text.contains("offset")) {
                break inner;
            }
        };
        let mut made = inner.becomes(format!("timestamp({})", inner.text), Precision::Exact);
        (made.precision, made.is_odd) = (Precision::Exact, false);
        made
    }
}

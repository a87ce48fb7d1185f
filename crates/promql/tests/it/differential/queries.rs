//! Makes queries up: all of the language that both sides know, over data that is there.

use marketprism_model::Chance;
use marketprism_testkit::SeededChance;

use super::Question;

const COUNTERS: [(&str, &str); 3] = [
    ("requests_total", "code"),
    ("cpu_seconds_total", "mode"),
    ("latency_bucket", "le"),
];
const GAUGES: [&str; 2] = ["temperature", "load"];
const RANGES: [&str; 5] = ["2m", "5m", "10m", "30m", "1h"];

pub struct Generator {
    chance: SeededChance,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Generator {
            chance: SeededChance::new(seed),
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.chance.next_u64() % limit as u64) as usize
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Asks at 15 s past a full minute, so that steps of subqueries stay clear of window edges.
    pub fn question(&mut self, start: i64, end: i64) -> Question {
        let query = self.vector(3);
        let moment = start + 75 * 60 + 15 + 60 * self.below(((end - start) / 60 - 80) as usize) as i64;
        if self.one_in(3) {
            let step = 60 * (1 + self.below(10) as i64);
            let length = step * self.below(25) as i64;
            // An instant is a range of no length.
            return Question {
                query,
                start: moment - length,
                end: moment,
                step,
            };
        }
        Question {
            query,
            start: moment,
            end: moment,
            step: 60,
        }
    }

    fn matchers(&mut self, extra: Option<&str>) -> String {
        let mut all = Vec::new();
        if self.one_in(3) {
            all.push(self.pick(&[
                r#"job="api""#,
                r#"job!="db""#,
                r#"job=~"api|web""#,
                r#"job!~"w.*""#,
                r#"instance=~".+-[01]:9100""#,
                r#"instance!~"api-3.*""#,
                r#"missing="""#,
            ]));
        }
        match extra {
            Some("code") if self.one_in(3) => all.push(self.pick(&[r#"code="200""#, r#"code=~"4..|5..""#])),
            Some("mode") if self.one_in(3) => all.push(r#"mode="user""#),
            _ => {}
        }
        if all.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", all.join(","))
        }
    }

    fn shift(&mut self) -> String {
        match self.below(10) {
            0 => " offset 7m".into(),
            1 => " offset 1h".into(),
            2 => " offset -3m".into(),
            3 => " @ end()".into(),
            4 => " @ 1700012415 offset 5m".into(),
            _ => String::new(),
        }
    }

    fn counter(&mut self) -> (String, &'static str) {
        let (name, label) = self.pick(&COUNTERS);
        (format!("{name}{}", self.matchers(Some(label))), label)
    }

    fn gauge(&mut self) -> String {
        let name = self.pick(&GAUGES);
        format!("{name}{}", self.matchers(None))
    }

    /// A vector whose values hardly ever repeat, each row with `job` and `instance`.
    fn distinct(&mut self) -> String {
        match self.below(4) {
            0 => {
                let (function, range) = (self.pick(&["rate", "increase"]), self.pick(&RANGES));
                let (selector, shift) = (self.counter().0, self.shift());
                format!("{function}({selector}[{range}]{shift})")
            }
            1 => {
                let function = self.pick(&["delta", "deriv", "idelta"]);
                let (selector, range, shift) = (self.gauge(), self.pick(&RANGES), self.shift());
                format!("{function}({selector}[{range}]{shift})")
            }
            2 => format!("{}{}", self.gauge(), self.shift()),
            _ => {
                let function = self.pick(&["avg", "sum", "min", "max", "stddev", "stdvar", "last"]);
                let (selector, range, shift) = (self.gauge(), self.pick(&RANGES), self.shift());
                format!("{function}_over_time({selector}[{range}]{shift})")
            }
        }
    }

    /// As [`Self::distinct`], without NaN and infinities.
    fn finite(&mut self) -> String {
        let (range, shift) = (self.pick(&RANGES), self.shift());
        match self.below(3) {
            0 => format!("temperature{}{shift}", self.matchers(None)),
            1 => format!(
                "avg_over_time(temperature{}[{range}]{shift})",
                self.matchers(None)
            ),
            _ => format!("rate({}[{range}]{shift})", self.counter().0),
        }
    }

    fn rollup(&mut self) -> String {
        let (range, shift) = (self.pick(&RANGES), self.shift());
        match self.below(8) {
            0 => {
                let function = self.pick(&[
                    "irate",
                    "resets",
                    "changes",
                    "count_over_time",
                    "present_over_time",
                ]);
                format!("{function}({}[{range}]{shift})", self.counter().0)
            }
            1 => {
                let ahead = self.pick(&["60", "3600", "-600"]);
                let shift = if shift.contains('@') { String::new() } else { shift };
                format!("predict_linear({}[{range}]{shift}, {ahead})", self.gauge())
            }
            2 => {
                let phi = self.pick(&["0", "0.25", "0.9", "1", "1.5", "-1"]);
                format!("quantile_over_time({phi}, {}[{range}]{shift})", self.gauge())
            }
            3 => format!("holt_winters({}[{range}]{shift}, 0.3, 0.6)", self.gauge()),
            4 => {
                let function = self.pick(&["changes", "count_over_time"]);
                format!("{function}({}[{range}]{shift})", self.gauge())
            }
            5 => {
                let inner = self.distinct();
                let function =
                    self.pick(&["avg", "max", "min", "sum", "count", "last", "stddev", "quantile"]);
                let (range, step) = (self.pick(&["5m", "20m", "1h"]), self.pick(&["1m", "5m", ""]));
                let phi = if function == "quantile" { "0.7, " } else { "" };
                format!("{function}_over_time({phi}({inner})[{range}:{step}]{shift})")
            }
            // 2.42 loses what `@` pins under these two.
            6 => format!("timestamp({})", self.gauge()),
            _ => format!(
                "absent_over_time({}[{range}]{shift})",
                self.pick(&["missing{a=\"b\"}", "up"])
            ),
        }
    }

    fn grouping(&mut self) -> &'static str {
        self.pick(&[
            "",
            " by (job)",
            " by (instance)",
            " by (job, instance)",
            " without (instance)",
            " without (job, code)",
            " by (missing)",
        ])
    }

    fn aggregation(&mut self, depth: usize) -> String {
        let grouping = self.grouping();
        match self.below(8) {
            0 => {
                let (op, count) = (self.pick(&["topk", "bottomk"]), self.pick(&["1", "2", "3", "5"]));
                format!("{op}{grouping} ({count}, {})", self.distinct())
            }
            1 => {
                let phi = self.pick(&["0", "0.5", "0.95", "1", "-0.5", "2"]);
                format!("quantile{grouping} ({phi}, {})", self.vector(depth - 1))
            }
            2 => format!("count_values{grouping} (\"value\", up{})", self.matchers(None)),
            _ => {
                let op = self.pick(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]);
                if op.starts_with("std") {
                    return format!("{op}{grouping} ({})", self.finite());
                }
                format!("{op}{grouping} ({})", self.vector(depth - 1))
            }
        }
    }

    fn scalar(&mut self) -> String {
        match self.below(6) {
            0 => "time()".into(),
            1 => "pi()".into(),
            2 => format!("scalar(sum({}))", self.gauge()),
            _ => self.pick(&["2", "0.5", "-3", "1e3", "0", "10"]).into(),
        }
    }

    fn binary(&mut self, depth: usize) -> String {
        match self.below(8) {
            0 => {
                let op = self.pick(&["+", "-", "*", "/", "%", "^"]);
                if op == "%" {
                    // The remainder of a large number is mostly its rounding.
                    return format!("({}) % {}", self.finite(), self.pick(&["7", "0.3", "-2"]));
                }
                format!("({}) {op} {}", self.vector(depth - 1), self.scalar())
            }
            1 => {
                let op = self.pick(&["==", "!=", ">", "<", ">=", "<="]);
                let is_bool = self.pick(&["", " bool"]);
                format!("({}) {op}{is_bool} {}", self.vector(depth - 1), self.scalar())
            }
            2 => {
                let op = self.pick(&["-", "*", "/", ">", "<", ">= bool", "!="]);
                format!("{} {op} ({})", self.scalar(), self.vector(depth - 1))
            }
            3 => {
                let op = self.pick(&["+", "-", "/", ">", "< bool", "atan2"]);
                let (left, right) = (self.distinct(), self.distinct());
                format!("sum by (job, instance) ({left}) {op} max by (job, instance) ({right})")
            }
            4 => {
                let (op, left) = (self.pick(&["*", "/", ">", "=="]), self.distinct());
                format!("({left}) {op} on (instance, job) group_left (version) build_info")
            }
            5 => {
                let left = self.distinct();
                format!(
                    "avg by (job) ({left}) / on (job) group_right () ({})",
                    self.distinct()
                )
            }
            6 => {
                let op = self.pick(&["and", "or", "unless"]);
                let matching = self.pick(&["", " on (job)", " on (instance)", " ignoring (code, mode, le)"]);
                format!(
                    "({}) {op}{matching} ({})",
                    self.vector(depth - 1),
                    self.vector(depth - 1)
                )
            }
            _ => {
                let name = self.pick(&GAUGES);
                let op = self.pick(&["-", ">", "<=", "== bool"]);
                format!("{name} {op} {name} offset 10m")
            }
        }
    }

    fn function(&mut self, depth: usize) -> String {
        let inner = self.vector(depth - 1);
        match self.below(9) {
            0 => {
                let function = self.pick(&[
                    "abs", "ceil", "floor", "exp", "ln", "log2", "log10", "sqrt", "sgn", "sin", "cos", "tan",
                    "atan", "sinh", "cosh", "tanh", "asinh", "deg", "rad",
                ]);
                match function {
                    // The sine of a large number is mostly its rounding.
                    "sin" | "cos" | "tan" => format!("{function}(clamp({inner}, -5, 20))"),
                    _ => format!("{function}({inner})"),
                }
            }
            1 => format!("clamp({inner}, -5, 20)"),
            2 => {
                let (function, bound) = (self.pick(&["clamp_min", "clamp_max"]), self.scalar());
                format!("{function}({inner}, {bound})")
            }
            3 => format!("round({inner}, {})", self.pick(&["1", "0.1", "5"])),
            4 => format!("-({inner})"),
            5 => {
                let function = self.pick(&["sort", "sort_desc"]);
                format!("{function}({inner})")
            }
            6 => {
                let function = self.pick(&[
                    "hour",
                    "minute",
                    "day_of_month",
                    "day_of_week",
                    "month",
                    "year",
                    "days_in_month",
                ]);
                let argument = if self.one_in(2) {
                    ""
                } else {
                    "timestamp(up) * 1000"
                };
                format!("{function}({argument})")
            }
            7 => format!(r#"label_replace({inner}, "shard", "$1-x", "instance", "(.+)-\\d:.*")"#),
            _ => format!(r#"label_join({inner}, "both", "/", "job", "instance")"#),
        }
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return if self.one_in(4) {
                self.rollup()
            } else {
                self.distinct()
            };
        }
        match self.below(10) {
            0 | 1 => self.rollup(),
            2 => self.distinct(),
            3..=5 => self.aggregation(depth),
            6 | 7 => self.binary(depth),
            8 => self.function(depth),
            _ => {
                let (phi, range) = (self.pick(&["0.5", "0.9", "0.99", "0", "1"]), self.pick(&RANGES));
                let by = self.pick(&["le", "le, job", "le, instance, job"]);
                format!("histogram_quantile({phi}, sum by ({by}) (rate(latency_bucket[{range}])))")
            }
        }
    }
}

//! Expressions that find something to calculate, made of bytes: all functions, operators and modifiers, over the
//! series of this module.
//!
//! Types are right; what a function refuses all the same (a modifier that it cannot have, an argument out of range) stays in.

use super::choices::{Choices, Chooses};
use crate::ast::ValueType;
use crate::functions::Function;

/// Makes an expression of what the bytes choose.
pub(super) fn expression(bytes: &[u8]) -> String {
    let mut choices = Program(Choices::of(bytes));
    match choices.below(12) {
        0 => choices.scalar(),
        1 => choices.matrix(),
        _ => choices.vector(),
    }
}

#[rustfmt::skip]
const METRICS: &[&str] = &[
    "a", "b_total", "c_bucket", "exponential", "custom", "mixed", "gauge_histogram", "target_info", "missing",
    "{__name__=~\"a|exponential\"}", "{__name__=~\"custom|exponential|c_bucket\"}", "a", "b_total", "exponential",
];
const MATCHERS: &[&str] = &[
    "instance=\"0\"",
    "instance!=\"1\"",
    "instance=~\"[12]\"",
    "le!~\"0.*\"",
    "missing=\"\"",
    "job=\"j\"",
];
const LENGTHS: &[&str] = &["2m", "1m", "5m", "15s", "10m", "1ms", "(1m + 30s)", "90", "1h"];
const STEPS: &[&str] = &["1m", "15s", "", "7s", "2m"];
const NUMBERS: &[&str] = &[
    "1", "0.5", "0", "-1", "2", "NaN", "Inf", "-Inf", "1e300", "0.99", "3", "5m",
];
const TEXTS: &[&str] = &[
    "\"instance\"",
    "\"job\"",
    "\"new\"",
    "\"$1\"",
    "\"(.*)\"",
    "\"(.)(.?)\"",
    "\"\"",
    "\"le\"",
    "\"__name__\"",
    "\"é x\"",
];
const LABELS: &[&str] = &["instance", "job", "le", "missing", "version", "q"];

struct Program<'a>(Choices<'a>);

impl<'a> Chooses<'a> for Program<'a> {
    const DEPTH_MAX: usize = 6;

    fn choices(&mut self) -> &mut Choices<'a> {
        &mut self.0
    }
}

impl Program<'_> {
    fn labels(&mut self) -> String {
        let names: Vec<&str> = (0..self.below(3)).map(|_| self.one_of(LABELS)).collect();
        names.join(", ")
    }

    fn metric(&mut self) -> String {
        let metric = self.one_of(METRICS);
        if metric.ends_with('}') || self.below(3) != 1 {
            return metric.to_owned();
        }
        format!("{metric}{{{}}}", self.one_of(MATCHERS))
    }

    fn times(&mut self) -> &'static str {
        self.one_of(&[
            "",
            "",
            "",
            " offset 1m",
            " @ 300",
            " offset -30s",
            " @ end()",
            " @ start() offset 90s",
            " offset step()",
        ])
    }

    fn extension(&mut self) -> &'static str {
        self.one_of(&["", "", "", "", " anchored", " smoothed"])
    }

    fn matrix(&mut self) -> String {
        self.within(|choices| match choices.way(3) {
            0 | 1 => {
                let (metric, length) = (choices.metric(), choices.one_of(LENGTHS));
                let (extension, times) = (choices.extension(), choices.times());
                format!("{metric}[{length}]{extension}{times}")
            }
            _ => {
                let (inner, length) = (choices.vector(), choices.one_of(LENGTHS));
                let (step, times) = (choices.one_of(STEPS), choices.times());
                format!("({inner})[{length}:{step}]{times}")
            }
        })
    }

    fn scalar(&mut self) -> String {
        self.within(|choices| match choices.way(6) {
            0..=2 => choices.one_of(NUMBERS).to_owned(),
            3 => {
                let functions = ["time()", "pi()", "step()", "start()", "end()", "range()"];
                functions[choices.below(functions.len())].to_owned()
            }
            4 => {
                let operators = ["+", "-", "*", "/", "%", "^", "atan2", "> bool", "== bool"];
                let op = operators[choices.below(operators.len())];
                format!("({} {op} {})", choices.scalar(), choices.scalar())
            }
            _ => match choices.below(3) {
                0 => format!("scalar({})", choices.vector()),
                1 => format!("max_of({}, {})", choices.scalar(), choices.scalar()),
                _ => format!("min_of({}, {})", choices.scalar(), choices.scalar()),
            },
        })
    }

    fn call(&mut self) -> String {
        let of_vectors: Vec<Function> = Function::ALL
            .iter()
            .copied()
            .filter(|function| function.signature().yields == ValueType::Vector)
            .collect();
        let function = of_vectors[self.below(of_vectors.len())];
        let signature = function.signature();
        if function == Function::Info {
            let inner = self.vector();
            return format!("info({inner}, {{{}}})", self.one_of(MATCHERS));
        }
        let most = signature.count_max.min(signature.count_min + 2);
        let count = signature.count_min + self.below(most - signature.count_min + 1);
        let arguments: Vec<String> = (0..count)
            .map(|place| {
                let last = signature.arguments.len() - 1;
                match signature.arguments[place.min(last)] {
                    ValueType::Scalar => self.scalar(),
                    ValueType::Vector => self.vector(),
                    ValueType::Matrix => self.matrix(),
                    ValueType::Text => self.one_of(TEXTS).to_owned(),
                }
            })
            .collect();
        format!("{}({})", signature.name, arguments.join(", "))
    }

    fn aggregation(&mut self) -> String {
        #[rustfmt::skip]
        const PLAIN: &[&str] = &["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];
        const WITH_SCALAR: &[&str] = &["topk", "bottomk", "quantile", "limitk", "limit_ratio"];
        let grouping = match self.below(3) {
            0 => String::new(),
            1 => format!(" by ({}) ", self.labels()),
            _ => format!(" without ({}) ", self.labels()),
        };
        match self.below(8) {
            0..=3 => format!("{}{grouping}({})", self.one_of(PLAIN), self.vector()),
            4 => format!(
                "count_values{grouping}({}, {})",
                self.one_of(TEXTS),
                self.vector()
            ),
            _ => {
                let op = self.one_of(WITH_SCALAR);
                format!("{op}{grouping}({}, {})", self.scalar(), self.vector())
            }
        }
    }

    fn binary(&mut self) -> String {
        const CALCULATIONS: &[&str] = &["+", "-", "*", "/", "%", "^", "atan2", "</", ">/"];
        const COMPARISONS: &[&str] = &["==", "!=", ">", "<", ">=", "<="];
        const SETS: &[&str] = &["and", "or", "unless"];
        let matching = match self.below(4) {
            0 | 1 => String::new(),
            2 => format!(" on ({})", self.labels()),
            _ => format!(" ignoring ({})", self.labels()),
        };
        let (op, group) = match self.below(5) {
            0 => {
                return format!(
                    "({}) {}{matching} ({})",
                    self.vector(),
                    self.one_of(SETS),
                    self.vector()
                );
            }
            1 => (self.one_of(COMPARISONS).to_owned(), self.group(&matching)),
            2 => (
                format!("{} bool", self.one_of(COMPARISONS)),
                self.group(&matching),
            ),
            _ => (self.one_of(CALCULATIONS).to_owned(), self.group(&matching)),
        };
        match self.below(4) {
            0 => format!("({}) {op} {}", self.vector(), self.scalar()),
            1 => format!("{} {op} ({})", self.scalar(), self.vector()),
            _ => {
                let fill = self.one_of(&["", "", " fill (0)", " fill_left (1)", " fill_right (NaN)"]);
                format!(
                    "({}) {op}{matching}{group}{fill} ({})",
                    self.vector(),
                    self.vector()
                )
            }
        }
    }

    fn group(&mut self, matching: &str) -> String {
        if matching.is_empty() {
            return String::new();
        }
        match self.below(4) {
            0 => format!(" group_left ({})", self.labels()),
            1 => format!(" group_right ({})", self.labels()),
            _ => String::new(),
        }
    }

    fn vector(&mut self) -> String {
        self.within(|choices| match choices.way(8) {
            0 | 1 => {
                let (metric, times) = (choices.metric(), choices.times());
                format!("{metric}{times}")
            }
            2..=4 => choices.call(),
            5 => choices.aggregation(),
            6 => choices.binary(),
            _ => match choices.below(3) {
                0 => format!("-{}", choices.metric()),
                1 => format!("vector({})", choices.scalar()),
                _ => {
                    let (metric, extension) = (choices.metric(), choices.extension());
                    format!("{metric}{extension}{}", choices.times())
                }
            },
        })
    }
}

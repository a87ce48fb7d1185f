//! Sentences of the language, made of bytes: whatever the bytes are, the sentence is valid.
//!
//! Deliberately absent: types. What a sentence means may be refused, and often is.

use super::choices::{Choices, Chooses};

/// Makes an expression of what the bytes choose.
pub fn sentence(bytes: &[u8]) -> String {
    let mut choices = Sentence(Choices::of(bytes));
    match choices.below(8) {
        0 => choices.scalar(),
        1 => choices.matrix(),
        2 => choices.string(),
        _ => choices.vector(),
    }
}

#[rustfmt::skip]
const NAMES: &[&str] = &[
    "a", "b_total", "c_bucket", "job:rate:5m", "sum", "by", "offset", "start", "step", "max_of", "fill", "anchored",
    "and", "OR", "without", "limitk", ":a",
];
#[rustfmt::skip]
const LABELS: &[&str] = &[
    "job", "le", "_x1", "\"k.x\"", "'服务'", "`a b`", "sum", "by", "on", "bool", "offset", "and", "end", "atan2",
    "fill_left", "group_left", "inf_", "\"without\"",
];
const STRINGS: &[&str] = &[
    "\"j\"",
    "''",
    "`\\d`",
    "'a\\'b'",
    "\"\\x41\\u00e9\\377\"",
    "\"é\\n\\\\\"",
];
const PATTERNS: &[&str] = &["\"j|k.*\"", "''", "`\\d+`", "'a\\'b'", "\"\\x41\\u00e9\""];
#[rustfmt::skip]
const NUMBERS: &[&str] = &[
    "1", "0", "0.5", ".25", "5.", "1e3", "2E-3", "0x1F", "017", "1_000", "Inf", "nAn", "5m", "1h30m", "250ms", "1e300",
];
const SPANS: &[&str] = &["5m", "90", "1m30s", "0.5", "1y", "0x10", "250ms"];
const SPACES: &[&str] = &["", " ", "  ", "\n", "\t", " # note\n"];

struct Sentence<'a>(Choices<'a>);

impl<'a> Chooses<'a> for Sentence<'a> {
    const DEPTH_MAX: usize = 12;

    fn choices(&mut self) -> &mut Choices<'a> {
        &mut self.0
    }
}

impl Sentence<'_> {
    fn space(&mut self) -> &'static str {
        self.one_of(SPACES)
    }

    fn string(&mut self) -> String {
        self.one_of(STRINGS).to_owned()
    }

    fn labels(&mut self) -> String {
        let names: Vec<&str> = (0..self.below(4)).map(|_| self.one_of(LABELS)).collect();
        let end = if !names.is_empty() && self.below(3) == 1 {
            ","
        } else {
            ""
        };
        format!("{}({}{end})", self.space(), names.join(", "))
    }

    fn matchers(&mut self) -> String {
        const OPS: &[&str] = &["=", "!=", "=~", "!~"];
        let mut matchers = Vec::new();
        for _ in 0..self.below(3) {
            let (space, label) = (self.space(), self.one_of(LABELS));
            let (op, value) = (self.one_of(OPS), self.one_of(PATTERNS));
            matchers.push(format!("{space}{label}{op}{value}"));
        }
        matchers.join(",")
    }

    /// A selector without times.
    fn series(&mut self) -> String {
        match self.below(4) {
            0 => self.one_of(NAMES).to_owned(),
            1 => format!("{}{}{{{}}}", self.one_of(NAMES), self.space(), self.matchers()),
            2 => format!("{{\"http.requests\", {}}}", self.matchers()),
            _ => format!("{{{}{}job!=\"\"}}", self.matchers_and_comma(), self.space()),
        }
    }

    fn matchers_and_comma(&mut self) -> String {
        match self.matchers() {
            none if none.is_empty() => none,
            some => some + ",",
        }
    }

    fn length(&mut self) -> String {
        self.within(|choices| match choices.way(12) {
            1 => "step()".to_owned(),
            2 => "range( )".to_owned(),
            3 => format!("({})", choices.length()),
            4 => format!("-{}", choices.length()),
            5 => format!("+ {}", choices.length()),
            6 => format!("min_of({}, {})", choices.length(), choices.length()),
            7 => format!("MAX_OF({}, {})", choices.length(), choices.length()),
            8 => {
                let op = choices.one_of(&["+", "-", "*", "/", "%", "^"]);
                format!("{} {op} {}", choices.length(), choices.length())
            }
            _ => choices.one_of(SPANS).to_owned(),
        })
    }

    fn positive_length(&mut self) -> String {
        match self.below(3) {
            0 | 1 => self.one_of(SPANS).to_owned(),
            _ => format!("({})", self.length()),
        }
    }

    fn times(&mut self) -> String {
        let at = match self.below(6) {
            0 => " @ start()",
            1 => "@ END ( )",
            2 => " @ -1.5",
            3 => "@5m",
            _ => "",
        };
        let offset = match self.below(5) {
            0 => format!(" offset {}", self.one_of(SPANS)),
            1 => format!(" offset -{}", self.one_of(SPANS)),
            2 => format!(" offset ({})", self.length()),
            3 => " offset -step()".to_owned(),
            _ => String::new(),
        };
        match self.below(2) {
            0 => format!("{at}{offset}"),
            _ => format!("{offset} {at}"),
        }
    }

    fn extension(&mut self) -> &'static str {
        self.one_of(&["", "", " anchored", " smoothed"])
    }

    fn matrix(&mut self) -> String {
        self.within(|choices| match choices.way(3) {
            0 | 1 => {
                let (series, length) = (choices.series(), choices.positive_length());
                let (extension, times) = (choices.extension(), choices.times());
                format!("{series}[{length}]{extension}{times}")
            }
            _ => {
                let (inner, range) = (choices.vector(), choices.positive_length());
                let step = if choices.below(2) == 0 {
                    String::new()
                } else {
                    choices.positive_length()
                };
                format!("({inner})[{range}:{step}]{}", choices.times())
            }
        })
    }

    fn scalar(&mut self) -> String {
        self.within(|choices| match choices.way(9) {
            1 => format!("-{}", choices.scalar()),
            2 => format!("+{}", choices.scalar()),
            3 => format!("({})", choices.scalar()),
            4 => format!("scalar({})", choices.vector()),
            5 => choices
                .one_of(&["time()", "pi( )", "step()", "start()", "end ()", "range()"])
                .to_owned(),
            6 => format!("max_of({},{})", choices.scalar(), choices.scalar()),
            7 => {
                let op = choices.one_of(&["+", "-", "*", "/", "%", "^", "atan2", "== bool", "< BOOL"]);
                format!("{} {op} {}", choices.scalar(), choices.scalar())
            }
            _ => choices.one_of(NUMBERS).to_owned(),
        })
    }

    fn matching(&mut self) -> String {
        let side = self.one_of(&["", "group_left", "group_right"]);
        match (self.below(4), side) {
            (0, _) => String::new(),
            (1, "") => format!("on{}", self.labels()),
            (_, "") => format!("ignoring{}", self.labels()),
            (1, side) => format!("on () {side} {}", self.labels()),
            (_, side) => format!("ignoring {} {side} ()", self.labels()),
        }
    }

    fn fill(&mut self) -> &'static str {
        self.one_of(&[
            "",
            "fill(0)",
            "fill (-1e30)",
            "fill_left(5m) fill_right(+2)",
            "fill_right(NaN)",
        ])
    }

    fn join(&mut self) -> String {
        const CALCULATES: &[&str] = &["+", "-", "*", "/", "%", "^", "atan2", "</", ">/"];
        const COMPARES: &[&str] = &["==", "!=", ">", "<", ">=", "<="];
        let (left, right) = (self.operand(), self.operand());
        match self.below(4) {
            0 => format!("{left} {} {right}", self.one_of(CALCULATES)),
            1 => {
                let (op, is_bool) = (self.one_of(COMPARES), self.one_of(&["", "bool"]));
                format!("{left}{op} {is_bool} {} {} {right}", self.matching(), self.fill())
            }
            2 => {
                let op = self.one_of(&["and", "or", "UNLESS"]);
                format!("{left} {op} on{} {right}", self.labels())
            }
            _ => {
                let (op, matching, fill) = (self.one_of(CALCULATES), self.matching(), self.fill());
                format!("{left} {op} {matching} {fill} {right}")
            }
        }
    }

    fn aggregation(&mut self) -> String {
        let grouping = match self.below(3) {
            0 => String::new(),
            1 => format!(" by {} ", self.labels()),
            _ => format!(" without {} ", self.labels()),
        };
        let (op, arguments) = match self.below(3) {
            0 => ("Sum", format!("({})", self.vector())),
            1 => ("limit_ratio", format!("({}, {})", self.scalar(), self.vector())),
            _ => ("count_values", format!("(\"v\", {})", self.vector())),
        };
        match self.below(2) {
            0 => format!("{op}{grouping}{arguments}"),
            _ => format!("{op}{arguments}{grouping}"),
        }
    }

    /// A vector that stays whole beside any operator.
    fn operand(&mut self) -> String {
        match self.below(2) {
            0 => self.series(),
            _ => format!("({})", self.vector()),
        }
    }

    fn call(&mut self) -> String {
        match self.below(7) {
            0 => format!("rate({})", self.matrix()),
            1 => format!("abs({}{})", self.space(), self.vector()),
            2 => format!("quantile_over_time({}, {})", self.scalar(), self.matrix()),
            3 => format!("info({}, {{{}}})", self.vector(), self.matchers()),
            4 => format!("label_join({}, \"x\", {}, \"y\")", self.vector(), self.string()),
            5 => "hour()".to_owned(),
            _ => format!(
                "histogram_quantiles({}, \"q\", 0.5, {})",
                self.vector(),
                self.scalar()
            ),
        }
    }

    fn vector(&mut self) -> String {
        self.within(|choices| match choices.way(8) {
            1 => format!("-{}", choices.vector()),
            2 => format!("({})", choices.vector()),
            3 => choices.call(),
            4 => choices.aggregation(),
            5 => choices.join(),
            6 => format!("{} + {}", choices.scalar(), choices.operand()),
            _ => {
                let (series, extension, times) = (choices.series(), choices.extension(), choices.times());
                format!("{series}{extension}{times}")
            }
        })
    }
}

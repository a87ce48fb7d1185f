//! What a lint found in one rule, and how that is said.
//!
//! A finding keeps the fact and not its words, so that one run can be told in any language. [`Both`] has a field a
//! language: a fact that one of them cannot say does not compile.

use serde::{Serialize, Serializer};

use crate::language::Language;

/// What was found in a rule. Texts are parts of the rule's file as they stand there.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each variant's words say what its fields are")]
pub enum Fact {
    Excluding {
        first: String,
        second: String,
    },
    EmptyValue {
        label: String,
    },
    GaugeByName {
        metric: String,
    },
    CounterByName {
        metric: String,
    },
    RangeTooShort {
        range: String,
        scrape: String,
    },
    BucketsLost,
    TwoNumbers {
        holds: bool,
    },
    ComparedWithNan,
    NothingToCount {
        operator: &'static str,
    },
    NothingLeft {
        operator: &'static str,
    },
    ExactIncrease {
        bound: String,
    },
    DifferenceIsZero {
        divisor: String,
    },
    DivisorIsZero {
        divisor: String,
    },
    OnlyOneSideHas {
        left: String,
        right: String,
    },
    NotStored {
        selector: String,
    },
    StandsAlready {
        place: String,
    },
    NoColon {
        name: String,
    },
    NoSeverity,
    NoSummary,
    NoRunbook,
    ForTooShort {
        hold_for: String,
        interval: String,
    },
    LabelLost {
        text: String,
        label: String,
        is_own: bool,
    },
    ValueInLabel {
        label: String,
    },
    BoolFires,
    NothingCompared,
    HoldsSooner {
        worse: String,
        milder: String,
    },
    UpAlone,
}

/// The words of a fact.
struct Both {
    english: String,
    chinese: String,
}

/// Formats both words of a fact from the same parts.
macro_rules! both {
    ($english:literal, $chinese:literal) => {
        Both {
            english: format!($english),
            chinese: format!($chinese),
        }
    };
}

impl Fact {
    /// Says it in a language.
    pub fn words(&self, language: Language) -> String {
        let Both { english, chinese } = self.both();
        language.of(chinese, english)
    }

    #[rustfmt::skip]
    fn both(&self) -> Both {
        match self {
            Fact::Excluding { first, second } => both!("{first} and {second} exclude each other", "{first} 与 {second} 互相矛盾"),
            Fact::EmptyValue { label } => both!("{label}=\"\" chooses series without the label {label}", "{label}=\"\" 选的是没有标签 {label} 的序列"),
            Fact::GaugeByName { metric } => both!("{metric} is a gauge by its name", "从名字看，{metric} 是 gauge"),
            Fact::CounterByName { metric } => both!("{metric} is a counter by its name", "从名字看，{metric} 是计数器"),
            Fact::RangeTooShort { range, scrape } => both!("a range of {range} holds fewer than two scrapes of {scrape}", "区间 {range} 容不下两次采集（采集间隔 {scrape}）"),
            Fact::BucketsLost => both!("the label le is gone before the quantile is calculated", "计算分位数之前标签 le 已经没有了"),
            Fact::TwoNumbers { holds } => {
                let outcome = u8::from(*holds);
                both!("both sides are numbers: the result is always {outcome}", "两侧都是数字，结果总是 {outcome}")
            }
            Fact::ComparedWithNan => both!("nothing compares with NaN", "任何值与 NaN 比较都不成立"),
            Fact::NothingToCount { operator } => both!("{operator} of nothing is nothing, and never 0", "没有序列时 {operator} 没有结果，而不是 0"),
            Fact::NothingLeft { operator } => both!("{operator} of what a filter leaves says nothing when nothing is left", "过滤后一条不剩时，{operator} 没有结果"),
            Fact::ExactIncrease { bound } => both!("increase is compared with exactly {bound}", "increase 与整数 {bound} 作精确比较"),
            Fact::DifferenceIsZero { divisor } => both!("the divisor {divisor} is 0 when both are equal, and the result then infinite", "两者相等时除数 {divisor} 为 0，结果为无穷大"),
            Fact::DivisorIsZero { divisor } => both!("where {divisor} is 0 the result is NaN or infinite, which differs from any number", "{divisor} 为 0 时结果是 NaN 或无穷大，与任何数都不相等"),
            Fact::OnlyOneSideHas { left, right } => match (left.is_empty(), right.is_empty()) {
                (false, true) => both!("only the left side has {left}", "只有左侧有标签 {left}"),
                (true, _) => both!("only the right side has {right}", "只有右侧有标签 {right}"),
                (false, false) => both!("only the left side has {left}, only the right side {right}", "标签 {left} 只在左侧，{right} 只在右侧"),
            },
            Fact::NotStored { selector } => both!("no stored series is chosen by {selector}", "已存数据中没有 {selector} 选中的序列"),
            Fact::StandsAlready { place } => both!("it stands at {place} already, with the same labels and expression", "{place} 已有同样的规则，标签和表达式都相同"),
            Fact::NoColon { name } => both!("{name} has no colon", "{name} 不含冒号"),
            Fact::NoSeverity => both!("it has no severity", "没有级别"),
            Fact::NoSummary => both!("it has neither summary nor description", "既没有 summary 也没有 description"),
            Fact::NoRunbook => both!("it has no runbook", "没有处理手册"),
            Fact::ForTooShort { hold_for, interval } => both!("for {hold_for} is less than the interval of {interval}", "for {hold_for} 小于评估间隔 {interval}"),
            Fact::LabelLost { text, label, is_own: false } => both!("{text} uses $labels.{label}, which the expression does not yield", "{text} 用到了 $labels.{label}，表达式的结果里没有它"),
            Fact::LabelLost { text, label, is_own: true } => both!(
                "{text} uses $labels.{label}, which the expression does not yield; the rule's own labels are not among $labels",
                "{text} 用到了 $labels.{label}，表达式的结果里没有它；规则自己的标签不在 $labels 之中"
            ),
            Fact::ValueInLabel { label } => both!("the label {label} holds the value", "标签 {label} 里带着数值"),
            Fact::BoolFires => both!("bool yields 0 where the comparison fails, and an alert fires on 0 as well", "比较不成立时 bool 给出 0，而结果为 0 告警同样会触发"),
            Fact::NothingCompared => both!("nothing is compared, so it fires as soon as there is any series", "没有任何比较，只要有序列就会触发"),
            Fact::HoldsSooner { worse, milder } => both!("{worse} holds sooner than {milder}", "{worse} 比 {milder} 先成立"),
            Fact::UpAlone => both!("up == 0 says nothing of a target that is no longer known", "目标被移除之后，up == 0 就没有结果了"),
        }
    }
}

/// Other programs are given the English words.
impl Serialize for Fact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.words(Language::English))
    }
}

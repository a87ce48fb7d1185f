//! The lints: their names, what they mean, what to do; in both languages.
//!
//! A lint without its Chinese or its English words does not compile.

use crate::language::Text;
use crate::lint::Weight;

/// A lint.
#[derive(Clone, Copy, Debug)]
pub struct Lint {
    /// Its name, by which it is allowed.
    pub name: &'static str,
    /// How much its findings weigh.
    pub weight: Weight,
    /// What is likely wrong.
    pub what: Text,
    /// What to do about it.
    pub advice: Text,
}

macro_rules! lints {
    ($($name:literal $weight:ident {
        what: $what:literal / $what_zh:literal,
        advice: $advice:literal / $advice_zh:literal,
    })*) => {
        &[$(Lint {
            name: $name,
            weight: Weight::$weight,
            what: Text { english: $what, chinese: $what_zh },
            advice: Text { english: $advice, chinese: $advice_zh },
        }),*]
    };
}

/// All lints.
#[rustfmt::skip]
pub const CATALOGUE: &[Lint] = lints! {
    "absent-series" Warning {
        what: "no stored series has these labels" / "已存数据中没有这样的序列",
        advice: "check the names of metric and labels; if the series only comes later, allow this lint"
            / "核对指标名和标签；如果序列以后才会出现，可用 --allow 关闭此项",
    }
    "contradiction" Warning {
        what: "the matchers of a label exclude each other, so no series can be chosen" / "同一标签的条件互相矛盾，选不出任何序列",
        advice: "drop one of the matchers, or join the two choices with `or`" / "去掉其中一个条件，或把两种选择用 `or` 连接",
    }
    "division" Warning {
        what: "a divisor that can be 0 makes ±Inf or NaN, and the comparison then holds" / "除数可能为 0，结果是 ±Inf 或 NaN，而此时条件成立",
        advice: "require the divisor to be above 0, such as `a / (b > 0)`" / "要求除数大于 0，例如 `a / (b > 0)`",
    }
    "vanishing" Warning {
        what: "what is counted or added up is filtered first, and when nothing is left there is no result that could be small"
            / "先过滤再计数或求和，一条不剩时就没有结果，也就谈不上“太少”",
        advice: "count before filtering (`sum(x == bool 1)`), or add `or vector(0)`" / "不过滤而直接计数（`sum(x == bool 1)`），或加上 `or vector(0)`",
    }
    "absent-missing" Info {
        what: "when the target itself is no longer known there is no `up`, and nothing fires" / "目标本身被移除后就没有 `up`，不会触发告警",
        advice: "add a rule with `absent(up{…})` for jobs that must exist" / "对必须存在的 job 另加一条 `absent(up{…})` 规则",
    }
    "never-holds" Warning {
        what: "the comparison can never hold" / "这个比较永远不会成立",
        advice: "mend the comparison; for absence use `absent(…)`" / "改正比较；判断缺失请用 `absent(…)`",
    }
    "always-holds" Warning {
        what: "the expression yields a result whatever the values, so the alert always fires" / "无论数值是多少表达式都有结果，告警会一直触发",
        advice: "compare without `bool`, or compare at all" / "去掉 `bool`，或补上比较",
    }
    "rate-of-gauge" Warning {
        what: "a rate of a gauge takes every fall for a restart" / "对 gauge 求 rate，每次下降都会被当成计数器重启",
        advice: "use `delta` or `deriv` for gauges" / "gauge 请用 `delta` 或 `deriv`",
    }
    "counter-raw" Warning {
        what: "a counter's value since its start is compared or derived, and falls to 0 at each restart" / "直接比较计数器的累计值或对它求导，而它每次重启都会归零",
        advice: "use `rate` or `increase`" / "用 `rate` 或 `increase`",
    }
    "range-short" Warning {
        what: "a range shorter than two scrapes rarely holds the two samples that a rate needs" / "区间短于两个采集间隔，往往凑不齐求速率所需的两个样本",
        advice: "use at least four scrape intervals" / "至少取四个采集间隔",
    }
    "increase-exact" Warning {
        what: "`increase` extrapolates and seldom yields whole numbers" / "`increase` 会外推，结果很少是整数",
        advice: "compare with `>` or `<`, or use `changes` or `resets`" / "改用 `>` 或 `<` 比较，或用 `changes`、`resets`",
    }
    "label-lost" Warning {
        what: "a text uses a label that the expression does not yield" / "文案用到了表达式结果里没有的标签",
        advice: "add the label to `by (…)`, or take it out of the text" / "把该标签加进 `by (…)`，或从文案中去掉",
    }
    "value-in-label" Warning {
        what: "a label that holds the value makes a new alert each time the value changes" / "标签里带着数值，数值一变就成了一条新告警",
        advice: "put the value into an annotation" / "把数值放进注解",
    }
    "join-labels" Warning {
        what: "the two sides have different labels, so no pair is ever found" / "两侧标签不同，永远匹配不上",
        advice: "name the common labels with `on (…)`" / "用 `on (…)` 写明共有的标签",
    }
    "quantile-le" Warning {
        what: "`histogram_quantile` needs the label `le`, and the aggregation drops it" / "`histogram_quantile` 需要标签 `le`，而它已被聚合掉",
        advice: "add `le` to `by (…)`" / "把 `le` 加进 `by (…)`",
    }
    "for-short" Warning {
        what: "`for` is shorter than the group's interval, and so means one more evaluation" / "`for` 短于评估间隔，实际效果只是再等一次评估",
        advice: "make it a multiple of the interval, or leave it out" / "取间隔的整数倍，或干脆不写",
    }
    "levels-unordered" Warning {
        what: "a worse level holds sooner than a milder one" / "更严重的级别反而先成立",
        advice: "order the thresholds by level" / "按级别排好阈值",
    }
    "duplicate" Warning {
        what: "the same rule stands in two places" / "同一条规则写了两遍",
        advice: "keep one of them" / "保留一条",
    }
    "record-name" Info {
        what: "a recording rule without colons in its name looks like a scraped metric" / "记录规则的名字不含冒号，看起来像采集来的指标",
        advice: "name it level:metric:operation" / "按“层级:指标:运算”命名",
    }
    "empty-value" Info {
        what: "a matcher with an empty value chooses series without the label" / "值为空的条件选的是没有该标签的序列",
        advice: "if a value was meant, name it" / "若本意是某个值，请写明",
    }
    "no-severity" Info {
        what: "nothing says how bad the alert is" / "看不出告警有多严重",
        advice: "add a label `severity`, or `levels`" / "加上标签 `severity`，或使用 `levels`",
    }
    "no-summary" Info {
        what: "nothing says to people what is wrong" / "收到的人看不出出了什么问题",
        advice: "add an annotation `summary` or `description`" / "加上注解 `summary` 或 `description`",
    }
    "no-runbook" Info {
        what: "nothing says what to do" / "没有说明该怎么处理",
        advice: "add an annotation `runbook_url` or `action`" / "加上注解 `runbook_url` 或 `action`",
    }
};

pub(super) fn of(name: &str) -> &'static Lint {
    let found = CATALOGUE.iter().find(|lint| lint.name == name);
    found.unwrap_or(&CATALOGUE[0])
}

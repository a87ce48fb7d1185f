//! The languages in which messages are written, and the fixed words of each.
//!
//! Deliberately absent: the words of rules; those stand in annotations (see `compose`).

use std::time::Duration;

use marketprism_model::{AlertState, Labels, Level};
use serde::{Deserialize, Serialize};

/// A language of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Language {
    /// Simplified Chinese.
    #[default]
    #[serde(rename = "zh-CN", alias = "zh")]
    Chinese,
    /// English.
    #[serde(rename = "en", alias = "en-US", alias = "en-GB")]
    English,
}

/// The fixed words of a language. Field names say where a word stands.
pub(crate) struct Words {
    pub(crate) tag: &'static str,
    pub(crate) resolved: &'static str,
    pub(crate) colon: &'static str,
    pub(crate) where_: &'static str,
    pub(crate) since: &'static str,
    pub(crate) ended: &'static str,
    pub(crate) value: &'static str,
    pub(crate) last_value: &'static str,
    pub(crate) action: &'static str,
    pub(crate) runbook: &'static str,
    pub(crate) details: &'static str,
    pub(crate) labels: &'static str,
    pub(crate) open: &'static str,
    pub(crate) open_all: &'static str,
    pub(crate) receiver: &'static str,
    pub(crate) zone: &'static str,
    pub(crate) sent_by: &'static str,
    levels: [&'static str; 4],
    units: [&'static str; 4],
    unit_gap: &'static str,
}

const CHINESE: Words = Words {
    tag: "zh-CN",
    resolved: "已恢复",
    colon: "：",
    where_: "位置",
    since: "开始",
    ended: "恢复",
    value: "当前值",
    last_value: "最后的值",
    action: "处理",
    runbook: "处置手册",
    details: "详情",
    labels: "标签",
    open: "查看告警",
    open_all: "查看全部告警",
    receiver: "接收方",
    zone: "时区",
    sent_by: "由 MarketPrism 监控告警系统发送",
    levels: ["低", "中", "高", "严重"],
    units: [" 天", " 小时", " 分钟", " 秒"],
    unit_gap: " ",
};

const ENGLISH: Words = Words {
    tag: "en",
    resolved: "resolved",
    colon: ": ",
    where_: "Where",
    since: "Since",
    ended: "Resolved",
    value: "Value",
    last_value: "Last value",
    action: "What to do",
    runbook: "Runbook",
    details: "Details",
    labels: "Labels",
    open: "Open alert",
    open_all: "Open all alerts",
    receiver: "Receiver",
    zone: "Time zone",
    sent_by: "Sent by MarketPrism",
    levels: ["low", "medium", "high", "critical"],
    units: ["d", "h", "m", "s"],
    unit_gap: " ",
};

impl Language {
    pub(crate) const fn words(self) -> &'static Words {
        match self {
            Language::Chinese => &CHINESE,
            Language::English => &ENGLISH,
        }
    }

    /// Chooses an annotation: the one written for this language (`summary_en`, `summary_zh`), else the plain one.
    pub(crate) fn annotation<'a>(self, annotations: &'a Labels, name: &str) -> Option<&'a str> {
        let suffix = match self {
            Language::Chinese => "zh",
            Language::English => "en",
        };
        annotations
            .get(&format!("{name}_{suffix}"))
            .or_else(|| annotations.get(name))
            .map(str::trim)
            .filter(|text| !text.is_empty())
    }

    /// Says how bad it is, in the way people are paged by and in a word: `P1 严重`.
    pub(crate) fn severity(self, level: Level) -> String {
        let word = self.words().levels[level as usize];
        format!("{} {word}", level.priority())
    }

    /// Says how an alert stands: how bad it is, or that it is over.
    pub(crate) fn standing(self, state: AlertState, level: Level) -> String {
        match state {
            AlertState::Resolved => self.words().resolved.to_owned(),
            AlertState::Pending | AlertState::Firing => self.severity(level),
        }
    }

    /// Says a count of alerts.
    pub(crate) fn alerts(self, count: usize) -> String {
        match (self, count) {
            (Language::Chinese, count) => format!("{count} 条告警"),
            (Language::English, 1) => "1 alert".to_owned(),
            (Language::English, count) => format!("{count} alerts"),
        }
    }

    /// Says that alerts were left out.
    pub(crate) fn more(self, count: usize) -> String {
        match self {
            Language::Chinese => format!("还有 {count} 条"),
            Language::English => format!("{count} more"),
        }
    }

    /// Says how long, in its two largest units.
    pub(crate) fn span(self, span: Duration) -> String {
        let words = self.words();
        let seconds = span.as_secs();
        let parts = [
            seconds / 86_400,
            seconds / 3_600 % 24,
            seconds / 60 % 60,
            seconds % 60,
        ];
        let first = parts.iter().position(|part| *part > 0).unwrap_or(3);
        let said = (first..(first + 2).min(4)).filter(|at| parts[*at] > 0 || *at == first);
        said.map(|at| format!("{}{}", parts[at], words.units[at]))
            .collect::<Vec<_>>()
            .join(words.unit_gap)
    }

    /// Says how long something has lasted so far, or lasted in all.
    pub(crate) fn lasting(self, span: Duration, is_over: bool) -> String {
        let span = self.span(span);
        match (self, is_over) {
            (Language::Chinese, false) => format!("已持续 {span}"),
            (Language::Chinese, true) => format!("持续了 {span}"),
            (Language::English, false) => format!("for {span}"),
            (Language::English, true) => format!("lasted {span}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_their_two_largest_units() {
        let check = |seconds, chinese: &str, english: &str| {
            let span = Duration::from_secs(seconds);
            assert_eq!(Language::Chinese.span(span), chinese);
            assert_eq!(Language::English.span(span), english);
        };
        check(0, "0 秒", "0s");
        check(59, "59 秒", "59s");
        check(300, "5 分钟", "5m");
        check(5_430, "1 小时 30 分钟", "1h 30m");
        check(86_401, "1 天", "1d");
        check(200_000, "2 天 7 小时", "2d 7h");
    }

    #[test]
    fn annotations_are_chosen_by_language() {
        let annotations = Labels::from_pairs([
            ("summary", "磁盘将满"),
            ("summary_en", "Disk is filling"),
            ("description", "plain"),
        ]);
        let check = |language: Language, name, expected| {
            assert_eq!(language.annotation(&annotations, name), expected)
        };
        check(Language::Chinese, "summary", Some("磁盘将满"));
        check(Language::English, "summary", Some("Disk is filling"));
        check(Language::English, "description", Some("plain"));
        check(Language::English, "action", None);
    }
}

//! The languages in which messages are written, and the fixed words of each.
//!
//! Deliberately absent: the words of rules; those stand in annotations (see `compose`).

use std::time::Duration;

use marketprism_model::{AlertState, Labels, Level, Purpose};
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
    pub(crate) flapping: &'static str,
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
    flapping: "抖动",
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
    flapping: "Flapping",
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

    /// Says in a word or two why a message comes, for its title; nothing when it simply tells how alerts stand.
    pub(crate) fn reason(self, purpose: &Purpose, state: AlertState) -> Option<&'static str> {
        let is_over = state == AlertState::Resolved;
        Some(match (self, purpose) {
            (_, Purpose::Group) => return None,
            // The end of what escalated is an end like any other.
            (_, Purpose::Escalation { .. }) if is_over => return None,
            (Language::Chinese, Purpose::Escalation { .. }) => "无人认领",
            (Language::English, Purpose::Escalation { .. }) => "Not acknowledged",
            (Language::Chinese, Purpose::Storm) => "告警风暴",
            (Language::English, Purpose::Storm) => "Alert storm",
            (Language::Chinese, Purpose::Fallback { .. }) => "代发",
            (Language::English, Purpose::Fallback { .. }) => "Undelivered elsewhere",
        })
    }

    /// Says in a sentence why a message comes; nothing when it simply tells how alerts stand.
    pub(crate) fn notice(self, purpose: &Purpose, state: AlertState) -> Option<String> {
        let is_over = state == AlertState::Resolved;
        Some(match (self, purpose) {
            (_, Purpose::Group) => return None,
            (Language::Chinese, Purpose::Escalation { policy, .. }) if is_over => {
                format!("此前无人认领，曾按升级策略“{policy}”通知您；现已恢复。")
            }
            (Language::English, Purpose::Escalation { policy, .. }) if is_over => {
                format!("You were told by escalation policy \"{policy}\"; it is over now.")
            }
            (Language::Chinese, Purpose::Escalation { policy, step }) => {
                format!("至今无人认领，升级策略“{policy}”进行到第 {step} 步，轮到您处理。")
            }
            (Language::English, Purpose::Escalation { policy, step }) => format!(
                "Nobody has acknowledged it: step {step} of escalation policy \"{policy}\" asks you to."
            ),
            (Language::Chinese, Purpose::Storm) => {
                "短时间内告警过多，由本条汇总代替逐条通知；P1 告警仍单独通知。".to_owned()
            }
            (Language::English, Purpose::Storm) => {
                "So many alerts began at once that this digest speaks for them; P1 alerts still come one by one."
                    .to_owned()
            }
            (Language::Chinese, Purpose::Fallback { receiver, channel }) => {
                format!("未能通过渠道“{channel}”送达接收方“{receiver}”，改发给您。")
            }
            (Language::English, Purpose::Fallback { receiver, channel }) => format!(
                "It could not be delivered to receiver \"{receiver}\" through channel \"{channel}\", so it comes to you."
            ),
        })
    }

    /// Says that an alert comes and goes, and what follows from it.
    pub(crate) fn flapping(self, count: u32, is_over: bool) -> String {
        match (self, is_over) {
            (Language::Chinese, false) => format!("反复触发，近期 {count} 次；稳定恢复后才通知恢复"),
            (Language::Chinese, true) => format!("反复触发，近期 {count} 次；现已稳定恢复"),
            (Language::English, false) => {
                format!("fired {count} times lately; its end is told once it stays away")
            }
            (Language::English, true) => format!("fired {count} times lately; it has stayed away since"),
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

//! Which language a page speaks, and every text it shows, in each.
//!
//! One struct of texts with a value for each language: a text without its translation does not compile.

use http::{HeaderMap, header};
use marketprism_model::Role;

use crate::prometheus::params::Params;

/// A language of the pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    /// Simplified Chinese.
    Chinese,
    /// English.
    English,
}

impl Language {
    /// Chooses: `?lang=` first, then the best of `Accept-Language`, English otherwise.
    pub fn choose(params: &Params, headers: &HeaderMap) -> Self {
        if let Some(language) = Language::from_tag(params.get("lang")) {
            return language;
        }
        let accepted = headers.get(header::ACCEPT_LANGUAGE);
        let mut best = (0.0, Language::English);
        for part in accepted
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
            .split(',')
        {
            let (tag, weight) = part.split_once(';').unwrap_or((part, ""));
            let weight: f32 = weight
                .trim()
                .strip_prefix("q=")
                .unwrap_or("1")
                .parse()
                .unwrap_or(0.0);
            if let Some(language) = Language::from_tag(tag.trim())
                && weight > best.0
            {
                best = (weight, language);
            }
        }
        best.1
    }

    fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or("");
        if primary.eq_ignore_ascii_case("zh") {
            Some(Language::Chinese)
        } else if primary.eq_ignore_ascii_case("en") {
            Some(Language::English)
        } else {
            None
        }
    }

    /// Gives the language's tag.
    pub const fn tag(self) -> &'static str {
        match self {
            Language::Chinese => "zh-CN",
            Language::English => "en",
        }
    }

    /// Gives the texts.
    pub const fn texts(self) -> &'static Texts {
        match self {
            Language::Chinese => &CHINESE,
            Language::English => &ENGLISH,
        }
    }

    /// Gives the other language and how it calls itself.
    pub const fn other(self) -> (Language, &'static str) {
        match self {
            Language::Chinese => (Language::English, "English"),
            Language::English => (Language::Chinese, "中文"),
        }
    }
}

/// Every text of the pages.
#[allow(missing_docs)] // Each field is named after the text it holds.
pub struct Texts {
    pub overview: &'static str,
    pub expression: &'static str,
    pub phase_starting: &'static str,
    pub phase_ready: &'static str,
    pub phase_draining: &'static str,
    pub healthy: &'static str,
    pub unhealthy: &'static str,
    pub all_quiet: &'static str,
    pub firing: &'static str,
    pub pending: &'static str,
    pub resolved: &'static str,
    pub alerts_firing: &'static str,
    pub firing_alerts: &'static str,
    pub pending_alerts: &'static str,
    pub no_firing: &'static str,
    pub no_pending: &'static str,
    pub more_not_shown: &'static str,
    pub since: &'static str,
    pub acknowledged_by: &'static str,
    pub flaps: &'static str,
    pub assigned_to: &'static str,
    pub until: &'static str,
    pub not_told: &'static str,
    pub value: &'static str,
    pub notifications: &'static str,
    pub no_notifications: &'static str,
    pub status_waiting: &'static str,
    pub status_sending: &'static str,
    pub status_delivered: &'static str,
    pub status_failed: &'static str,
    pub attempts: &'static str,
    pub channel: &'static str,
    pub targets: &'static str,
    pub no_targets: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub unknown: &'static str,
    pub last_scrape: &'static str,
    pub never: &'static str,
    pub rule_groups: &'static str,
    pub no_rules: &'static str,
    pub rules: &'static str,
    pub every: &'static str,
    pub took: &'static str,
    pub no_errors: &'static str,
    pub with_errors: &'static str,
    pub missed: &'static str,
    pub store: &'static str,
    pub no_figures: &'static str,
    pub section_unreadable: &'static str,
    pub updated: &'static str,
    pub refreshes: &'static str,
    pub story: &'static str,
    pub no_events: &'static str,
    pub labels: &'static str,
    pub annotations: &'static str,
    pub group: &'static str,
    pub no_such_alert: &'static str,
    pub back: &'static str,
    pub runbook: &'static str,
    pub began: &'static str,
    pub fired: &'static str,
    pub ended: &'static str,
    pub event_pending: &'static str,
    pub event_fired: &'static str,
    pub event_level: &'static str,
    pub event_resolved: &'static str,
    pub event_acknowledged: &'static str,
    pub event_unacknowledged: &'static str,
    pub event_joined_incident: &'static str,
    pub event_steady: &'static str,
    pub event_flapping: &'static str,
    pub event_escalated: &'static str,
    pub event_noted: &'static str,
    pub event_unassigned: &'static str,
    pub event_assigned: &'static str,
    pub event_suppressed: &'static str,
    pub event_unsuppressed: &'static str,
    pub event_notified: &'static str,
    pub who_hears: &'static str,
    pub telling_off: &'static str,
    pub settles: &'static str,
    pub no_channel: &'static str,
    pub told: &'static str,
    pub not_told_yet: &'static str,
    pub escalation: &'static str,
    pub next_step: &'static str,
    pub next_look: &'static str,
    pub outcome_started: &'static str,
    pub outcome_delivered: &'static str,
    pub outcome_retry: &'static str,
    pub outcome_refused: &'static str,
    pub outcome_uncertain: &'static str,
    pub evaluate: &'static str,
    pub enter_expression: &'static str,
    pub no_result: &'static str,
    pub series_shown: &'static str,
    pub at_time: &'static str,
    pub starting_page: &'static str,
    pub day: &'static str,
    pub hour: &'static str,
    pub minute: &'static str,
    pub second: &'static str,
    pub limit_reason: &'static str,
    pub mute_reason: &'static str,
    pub inhibition_reason: &'static str,
    pub silence_reason: &'static str,
    pub storm_reason: &'static str,
    pub digest_told: &'static str,
    pub login_title: &'static str,
    pub login_lead: &'static str,
    pub user_name: &'static str,
    pub password: &'static str,
    pub log_in: &'static str,
    pub log_out: &'static str,
    pub logged_in_as: &'static str,
    pub login_wrong: &'static str,
    pub login_too_many: &'static str,
    pub login_unavailable: &'static str,
    pub login_help: &'static str,
    pub role_viewer: &'static str,
    pub role_operator: &'static str,
    pub role_admin: &'static str,
}

impl Texts {
    /// Gives the word for a role.
    pub const fn role(&self, role: Role) -> &'static str {
        match role {
            Role::Viewer => self.role_viewer,
            Role::Operator => self.role_operator,
            Role::Admin => self.role_admin,
        }
    }
}

static CHINESE: Texts = Texts {
    overview: "总览",
    expression: "表达式",
    phase_starting: "启动中",
    phase_ready: "就绪",
    phase_draining: "正在停止",
    healthy: "健康",
    unhealthy: "异常",
    all_quiet: "一切正常",
    firing: "告警中",
    pending: "待确认",
    resolved: "已恢复",
    alerts_firing: "条告警",
    firing_alerts: "正在告警",
    pending_alerts: "等待触发",
    no_firing: "当前没有告警。",
    no_pending: "没有等待触发的告警。",
    more_not_shown: "还有更多未显示",
    since: "持续",
    acknowledged_by: "已确认：",
    flaps: "反复告警次数：",
    assigned_to: "交由：",
    until: "至",
    not_told: "未通知：",
    value: "当前值",
    notifications: "最近通知",
    no_notifications: "还没有发送过通知。",
    status_waiting: "等待发送",
    status_sending: "发送中",
    status_delivered: "已送达",
    status_failed: "发送失败",
    attempts: "尝试次数",
    channel: "渠道",
    targets: "采集目标",
    no_targets: "没有配置采集目标。",
    up: "正常",
    down: "不可达",
    unknown: "未知",
    last_scrape: "上次采集",
    never: "从未",
    rule_groups: "规则组",
    no_rules: "没有加载任何规则。",
    rules: "条规则",
    every: "周期",
    took: "耗时",
    no_errors: "正常",
    with_errors: "出错",
    missed: "次错过",
    store: "存储与性能",
    no_figures: "暂无数据。",
    section_unreadable: "这一部分暂时无法读取：",
    updated: "更新于",
    refreshes: "每 15 秒自动刷新",
    story: "经过",
    no_events: "暂无事件。",
    labels: "标签",
    annotations: "注释",
    group: "规则组",
    no_such_alert: "没有这条告警，可能已超过保留期限。",
    back: "返回总览",
    runbook: "处理手册",
    began: "开始",
    fired: "触发",
    ended: "结束",
    event_pending: "条件开始成立",
    event_fired: "开始告警",
    event_level: "级别变化",
    event_resolved: "恢复",
    event_acknowledged: "已确认",
    event_unacknowledged: "确认失效",
    event_joined_incident: "归入事件",
    event_steady: "恢复稳定",
    event_flapping: "频繁抖动，暂缓恢复通知",
    event_escalated: "升级通知",
    event_noted: "备注",
    event_unassigned: "取消指派",
    event_assigned: "指派给",
    event_suppressed: "暂不通知",
    event_unsuppressed: "恢复通知",
    event_notified: "通知",
    who_hears: "通知去向",
    telling_off: "通知已关闭，任何人都不会收到消息。",
    settles: "启动后等待各规则评估，此前不发通知：",
    no_channel: "该接收人没有配置通知渠道",
    told: "已通知",
    not_told_yet: "尚未通知",
    escalation: "升级策略",
    next_step: "下一步",
    next_look: "下次检查",
    outcome_started: "进行中",
    outcome_delivered: "已送达",
    outcome_retry: "将重试",
    outcome_refused: "被拒绝",
    outcome_uncertain: "不确定是否送达",
    evaluate: "计算",
    enter_expression: "输入 PromQL 表达式，例如 up",
    no_result: "没有结果。",
    series_shown: "条序列",
    at_time: "时间",
    starting_page: "正在启动，页面稍后可用。",
    day: "天",
    hour: "小时",
    minute: "分钟",
    second: "秒",
    limit_reason: "超过活跃告警上限",
    mute_reason: "处于免打扰时段",
    inhibition_reason: "被另一告警抑制",
    silence_reason: "被静默",
    storm_reason: "告警风暴，由汇总消息代为通知",
    digest_told: "汇总消息送达于",
    login_title: "登录",
    login_lead: "请使用 MarketPrism 账号登录。",
    user_name: "用户名",
    password: "密码",
    log_in: "登录",
    log_out: "退出",
    logged_in_as: "当前登录用户",
    login_wrong: "用户名或密码不正确。",
    login_too_many: "尝试次数过多，请稍后再试。需等待：",
    login_unavailable: "暂时无法登录，请稍后再试。",
    login_help: "忘记密码？请联系管理员重置。",
    role_viewer: "只读",
    role_operator: "运维",
    role_admin: "管理员",
};

static ENGLISH: Texts = Texts {
    overview: "Overview",
    expression: "Expression",
    phase_starting: "starting",
    phase_ready: "ready",
    phase_draining: "stopping",
    healthy: "healthy",
    unhealthy: "unhealthy",
    all_quiet: "All quiet",
    firing: "firing",
    pending: "pending",
    resolved: "resolved",
    alerts_firing: "firing",
    firing_alerts: "Firing",
    pending_alerts: "Pending",
    no_firing: "Nothing fires.",
    no_pending: "Nothing is about to fire.",
    more_not_shown: "more are not shown",
    since: "for",
    acknowledged_by: "acknowledged by ",
    flaps: "Flapping, times it came back:",
    assigned_to: "assigned to ",
    until: "until",
    not_told: "not notified:",
    value: "value",
    notifications: "Last notifications",
    no_notifications: "Nothing has been sent yet.",
    status_waiting: "waiting",
    status_sending: "sending",
    status_delivered: "delivered",
    status_failed: "failed",
    attempts: "attempts",
    channel: "channel",
    targets: "Targets",
    no_targets: "No target is configured.",
    up: "up",
    down: "down",
    unknown: "unknown",
    last_scrape: "last scrape",
    never: "never",
    rule_groups: "Rule groups",
    no_rules: "No rule is loaded.",
    rules: "rules",
    every: "every",
    took: "took",
    no_errors: "ok",
    with_errors: "with errors",
    missed: "missed",
    store: "Store and performance",
    no_figures: "No figures yet.",
    section_unreadable: "This part cannot be read at the moment:",
    updated: "updated",
    refreshes: "refreshes every 15 seconds",
    story: "Story",
    no_events: "No events yet.",
    labels: "Labels",
    annotations: "Annotations",
    group: "group",
    no_such_alert: "There is no such alert; it may have passed its retention.",
    back: "Back to the overview",
    runbook: "Runbook",
    began: "began",
    fired: "fired",
    ended: "ended",
    event_pending: "The condition began to hold",
    event_fired: "Fired",
    event_level: "Level changed",
    event_resolved: "Resolved",
    event_acknowledged: "Acknowledged",
    event_unacknowledged: "Acknowledgement ended",
    event_joined_incident: "Joined an incident",
    event_steady: "Steady again",
    event_flapping: "Flapping; its ends are held back",
    event_escalated: "Escalated",
    event_noted: "Note",
    event_unassigned: "No longer assigned",
    event_assigned: "Assigned to",
    event_suppressed: "Held back",
    event_unsuppressed: "No longer held back",
    event_notified: "Notification",
    who_hears: "Who hears of it",
    telling_off: "Notifications are switched off; nobody is told anything.",
    settles: "After the start nothing is told before",
    no_channel: "this receiver has no channel",
    told: "told",
    not_told_yet: "not told",
    escalation: "escalation",
    next_step: "next step",
    next_look: "looked at next",
    outcome_started: "under way",
    outcome_delivered: "delivered",
    outcome_retry: "to be retried",
    outcome_refused: "refused",
    outcome_uncertain: "uncertain",
    evaluate: "Evaluate",
    enter_expression: "A PromQL expression, for example up",
    no_result: "No result.",
    series_shown: "series",
    at_time: "at",
    starting_page: "Starting; the page comes in a moment.",
    day: "d",
    hour: "h",
    minute: "min",
    second: "s",
    limit_reason: "more alerts than max_active_alerts",
    mute_reason: "muted by the time interval",
    inhibition_reason: "inhibited by another alert",
    silence_reason: "silenced by",
    storm_reason: "an alert storm: a digest speaks for it",
    digest_told: "the digest arrived",
    login_title: "Log in",
    login_lead: "Use your MarketPrism account.",
    user_name: "User name",
    password: "Password",
    log_in: "Log in",
    log_out: "Log out",
    logged_in_as: "logged in as",
    login_wrong: "The user name or the password is wrong.",
    login_too_many: "There were too many attempts. Try again in ",
    login_unavailable: "Logging in is not possible at the moment. Try again later.",
    login_help: "Forgotten the password? An administrator can set a new one.",
    role_viewer: "viewer",
    role_operator: "operator",
    role_admin: "admin",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_beats_the_header_and_the_header_is_weighed() {
        let check = |query: &str, accept: &str, expected: Language| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, accept.parse().expect("a header value"));
            let params = Params::parse(query, b"").expect("few parameters");
            assert_eq!(Language::choose(&params, &headers), expected, "{query} {accept}");
        };
        check("", "zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese);
        check("", "en-GB,en;q=0.9,zh;q=0.8", Language::English);
        check("", "fr, zh;q=0.5, en;q=0.4", Language::Chinese);
        check("", "fr", Language::English);
        check("", "zh;q=0", Language::English);
        check("lang=zh", "en", Language::Chinese);
        check("lang=en-US", "zh", Language::English);
        check("lang=tlh", "zh", Language::Chinese);
    }
}

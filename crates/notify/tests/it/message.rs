//! What a person reads.

use std::time::Duration;

use jiff::tz::TimeZone;
use marketprism_model::{AlertState, Labels, Level, Notification, NotifiedAlert, Purpose};
use marketprism_notify::compose::{Audience, Message, compose};
use marketprism_notify::{Language, Links, email};

use crate::fixture::{self, EXTERNAL_URL, START, alert, firing, notification};

fn audience(language: Language, zone: &str) -> Audience {
    Audience {
        language,
        zone: TimeZone::get(zone).expect(zone),
        links: Links::new(EXTERNAL_URL),
        alerts_max: 5,
    }
}

fn chinese(notification: &Notification) -> Message {
    compose(notification, &audience(Language::Chinese, "Asia/Shanghai"))
}

fn with_labels(mut alert: NotifiedAlert, pairs: &[(&str, &str)]) -> NotifiedAlert {
    alert.labels = Labels::from_pairs(pairs.iter().copied());
    alert
}

#[test]
fn one_alert_leads_with_what_where_and_how_bad() {
    let message = chinese(&firing(1, "email"));
    assert_eq!(message.title, "[P1 严重] HostDown：db1:9100");
    let entry = &message.entries[0];
    assert_eq!(entry.summary, "主机无响应");
    assert_eq!(entry.since, "2026-11-24 12:05:43 +08:00 (已持续 5 分钟)");
    assert_eq!((entry.value.as_str(), entry.value_name), ("0", "当前值"));
    assert_eq!(entry.action.as_deref(), Some("先看电源"));
    assert_eq!(message.zone, "Asia/Shanghai");
}

#[test]
fn english_readers_get_english_annotations_in_their_zone() {
    let message = compose(
        &firing(1, "email"),
        &audience(Language::English, "America/New_York"),
    );
    assert_eq!(message.title, "[P1 critical] HostDown: db1:9100");
    let entry = &message.entries[0];
    assert_eq!(entry.summary, "Host is down");
    assert_eq!(entry.action.as_deref(), Some("Check the power first"));
    assert_eq!(entry.since, "2026-11-23 23:05:43 -05:00 (for 5m)");
}

#[test]
fn what_is_over_says_when_and_asks_for_nothing() {
    let over = alert("HostDown", AlertState::Resolved, Level::Critical);
    let message = chinese(&notification(1, "email", vec![over]));
    assert_eq!(message.title, "[已恢复] HostDown：db1:9100");
    let entry = &message.entries[0];
    assert_eq!(
        entry.ended.as_deref(),
        Some("2026-11-24 12:10:43 +08:00 (持续了 5 分钟)")
    );
    assert_eq!((entry.action.as_deref(), entry.value_name), (None, "最后的值"));
}

#[test]
fn a_group_tells_the_worst_first_the_resolved_last_and_counts_the_rest() {
    let mut alerts = vec![
        alert("A", AlertState::Resolved, Level::Critical),
        alert("B", AlertState::Firing, Level::Low),
        alert("C", AlertState::Firing, Level::High),
        alert("D", AlertState::Firing, Level::Medium),
    ];
    let names = |message: &Message| -> Vec<String> {
        message.entries.iter().map(|entry| entry.name.clone()).collect()
    };
    let message = chinese(&notification(1, "email", alerts.clone()));
    assert_eq!(names(&message), ["C", "D", "B", "A"]);
    assert_eq!(message.title, "[P2 高] 3 条告警：C, …");
    assert_eq!(message.omitted, 0);

    alerts.extend((0..4).map(|_| alert("B", AlertState::Firing, Level::Low)));
    let mut crowded = notification(1, "email", alerts);
    crowded.content.truncated_alerts = 100;
    let message = chinese(&crowded);
    assert_eq!(names(&message), ["C", "D", "B", "B", "A"]);
    assert_eq!(message.omitted, 103);
    assert_eq!(message.title, "[P2 高] 107 条告警：C, …");
    assert_eq!(message.link.as_deref(), Some("https://monitor.example.com/"));
}

/// In a group of sixty a newcomer stood behind all others of its level, and whoever read the message that came
/// for it did not find it there.
#[test]
fn of_one_level_the_newest_comes_first() {
    let names = ["old", "new", "middle"];
    let mut alerts: Vec<_> = names
        .map(|name| alert(name, AlertState::Firing, Level::High))
        .into();
    for (alert, minutes) in alerts.iter_mut().zip([60, 1, 30]) {
        alert.starts_at = START - Duration::from_secs(60 * minutes);
    }
    let message = chinese(&notification(1, "email", alerts));
    let told: Vec<_> = message.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(told, ["new", "middle", "old"]);
}

#[test]
fn alerts_of_one_name_are_counted_under_it() {
    let pair = vec![fixture::alert("HostDown", AlertState::Firing, Level::High); 2];
    assert_eq!(
        chinese(&notification(1, "email", pair)).title,
        "[P2 高] HostDown：2 条告警"
    );
}

#[test]
fn places_are_named_by_what_there_is() {
    let check = |pairs: &[(&str, &str)], expected: &str| {
        let labelled = with_labels(alert("X", AlertState::Firing, Level::Low), pairs);
        let message = chinese(&notification(1, "email", vec![labelled]));
        assert_eq!(message.entries[0].place, expected);
    };
    check(
        &[
            ("alertname", "X"),
            ("instance", "a:1"),
            ("mountpoint", "/data"),
            ("cluster", "sh"),
        ],
        "sh · a:1 · /data",
    );
    check(&[("alertname", "X"), ("job", "node"), ("x", "1")], "node");
    check(
        &[
            ("alertname", "X"),
            ("severity", "low"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("d", "4"),
        ],
        "a=1 · b=2 · c=3",
    );
    check(&[("alertname", "X")], "");
    check(&[("node", "n1"), ("instance", "n1")], "n1");
}

#[test]
fn values_are_written_to_be_read_at_a_glance() {
    let check = |value: f64, expected: &str| {
        let mut valued = alert("X", AlertState::Firing, Level::Low);
        valued.value = value;
        let message = chinese(&notification(1, "email", vec![valued]));
        assert_eq!(message.entries[0].value, expected, "{value}");
    };
    check(0.0, "0");
    check(-0.0, "0");
    check(100.0, "100");
    check(1_234_567.0, "1234567");
    check(95.123_456, "95.123");
    check(0.000_123_456, "0.00012346");
    check(123_456.789, "123457");
    check(-7.5, "-7.5");
    check(1e300, "1.0000e300");
    check(1.5e-9, "1.5000e-9");
    check(f64::NAN, "NaN");
    check(f64::NEG_INFINITY, "-Inf");
    check(f64::INFINITY, "+Inf");
}

#[test]
fn without_an_address_of_our_own_there_are_no_links() {
    let mut audience = audience(Language::Chinese, "UTC");
    audience.links = Links::default();
    let message = compose(&firing(1, "email"), &audience);
    assert_eq!(
        (message.link.as_ref(), message.entries[0].link.as_ref()),
        (None, None)
    );
}

#[test]
fn a_runbook_that_is_no_web_page_is_no_link() {
    let mut tricky = alert("X", AlertState::Firing, Level::Low);
    tricky.annotations = Labels::from_pairs([("runbook_url", "javascript:alert(1)")]);
    let message = chinese(&notification(1, "email", vec![tricky]));
    assert_eq!(message.entries[0].runbook_url, None);
}

#[test]
fn html_takes_everything_from_outside_as_text() {
    let evil = "<script>alert(1)</script>\"' onload=x & <img src=//evil>";
    let mut tricky = with_labels(
        alert("X", AlertState::Firing, Level::Low),
        &[("alertname", evil), ("instance", evil), ("z\"><b", evil)],
    );
    tricky.annotations = Labels::from_pairs([
        ("summary", evil),
        ("description", evil),
        ("action", evil),
        ("runbook_url", "https://x/\"><script>alert(2)</script>"),
    ]);
    let html = email::preview(&chinese(&notification(1, "email", vec![tricky])));
    assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("<b\""));
    let link = "href=\"https://x/&quot;&gt;&lt;script&gt;alert(2)&lt;/script&gt;\"";
    assert!(html.contains(link), "no attribute is left early");
    assert!(html.contains("&lt;script&gt;"));
}

#[test]
fn html_needs_nothing_from_the_network() {
    let html = email::preview(&chinese(&firing(1, "email")));
    for tag in ["<img", "<link", "<script", "<style", "url(", "src="] {
        assert!(!html.contains(tag), "{tag}");
    }
    assert!(html.contains("P1 严重"), "the level stands there as a word");
    assert!(html.starts_with("<!DOCTYPE html>"));
}

/// What a message leads with, for a purpose, in both languages: title and notice.
fn led(purpose: &Purpose, state: AlertState) -> [(String, String); 2] {
    let mut told = notification(1, "email", vec![alert("HostDown", state, Level::Critical)]);
    told.content.purpose = purpose.clone();
    [(Language::Chinese, "Asia/Shanghai"), (Language::English, "UTC")].map(|(language, zone)| {
        let message = compose(&told, &audience(language, zone));
        (message.title, message.notice.unwrap_or_default())
    })
}

#[test]
fn an_escalation_says_that_nobody_took_it_and_its_end_is_an_ordinary_end() {
    let purpose = Purpose::Escalation {
        policy: "oncall".to_owned(),
        step: 2,
    };
    let [chinese, english] = led(&purpose, AlertState::Firing);
    assert_eq!(chinese.0, "[P1 严重] 无人认领：HostDown：db1:9100");
    assert_eq!(
        chinese.1,
        "至今无人认领，升级策略“oncall”进行到第 2 步，轮到您处理。"
    );
    assert_eq!(english.0, "[P1 critical] Not acknowledged: HostDown: db1:9100");
    assert_eq!(
        english.1,
        "Nobody has acknowledged it: step 2 of escalation policy \"oncall\" asks you to."
    );
    let [chinese, english] = led(&purpose, AlertState::Resolved);
    assert_eq!(chinese.0, "[已恢复] HostDown：db1:9100");
    assert_eq!(english.0, "[resolved] HostDown: db1:9100");
    assert!(english.1.contains("it is over now"), "{}", english.1);
}

#[test]
fn a_storm_and_a_fallback_say_so_first() {
    let [chinese, english] = led(&Purpose::Storm, AlertState::Firing);
    assert_eq!(chinese.0, "[P1 严重] 告警风暴：HostDown：db1:9100");
    assert_eq!(english.0, "[P1 critical] Alert storm: HostDown: db1:9100");
    assert!(chinese.1.contains("P1 告警仍单独通知"), "{}", chinese.1);
    let fallback = Purpose::Fallback {
        receiver: "ops".to_owned(),
        channel: "ops/webhook[0]".to_owned(),
    };
    let [chinese, english] = led(&fallback, AlertState::Firing);
    assert_eq!(chinese.0, "[P1 严重] 代发：HostDown：db1:9100");
    assert_eq!(
        chinese.1,
        "未能通过渠道“ops/webhook[0]”送达接收方“ops”，改发给您。"
    );
    assert_eq!(
        english.1,
        "It could not be delivered to receiver \"ops\" through channel \"ops/webhook[0]\", so it comes to you."
    );
    assert_eq!(led(&Purpose::Group, AlertState::Firing)[0].1, "");
}

#[test]
fn a_flapping_alert_says_how_often_it_came_and_what_that_means_for_its_end() {
    let mut alert = alert("HostDown", AlertState::Firing, Level::High);
    alert.flaps = 7;
    let message = chinese(&notification(1, "email", vec![alert.clone()]));
    assert_eq!(
        message.entries[0].flapping.as_deref(),
        Some("反复触发，近期 7 次；稳定恢复后才通知恢复")
    );
    let html = email::preview(&message);
    assert!(html.contains("抖动") && html.contains("近期 7 次"));
    alert.flaps = 0;
    assert_eq!(
        chinese(&notification(1, "email", vec![alert])).entries[0].flapping,
        None
    );
}

#[test]
fn an_alert_of_another_program_shows_no_value() {
    let mut alert = alert("HostDown", AlertState::Firing, Level::High);
    alert.expr = String::new();
    let message = chinese(&notification(1, "email", vec![alert]));
    assert_eq!(message.entries[0].value, "");
    assert!(!email::preview(&message).contains("当前值"));
}

/// Names of policies come from the configuration, and a notice stands in headers of messages and in HTML.
#[test]
fn a_notice_is_one_line_and_escaped() {
    let purpose = Purpose::Escalation {
        policy: "a\r\nBcc: x <b>".to_owned(),
        step: 1,
    };
    let mut told = notification(1, "email", vec![alert("X", AlertState::Firing, Level::Low)]);
    told.content.purpose = purpose;
    let message = chinese(&told);
    let notice = message.notice.clone().expect("a notice");
    assert!(!notice.contains(char::is_control), "{notice:?}");
    assert!(email::preview(&message).contains("Bcc: x &lt;b&gt;"));
}

//! Slack and DingTalk, against fakes that judge as the real ones do.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{AlertState, Clock, Labels, Level, NotificationStatus};
use marketprism_testkit::{FakeDingTalk, FakeSlack, ManualClock, wait_for_async};

use crate::fixture::{Desk, PATIENCE, START, alert, firing, notification};

fn robot(secret: &str) -> FakeDingTalk {
    FakeDingTalk::start("tok3n", Some(secret), Arc::new(ManualClock::new(START)))
}

fn dingtalk_desk(robot: &FakeDingTalk, more: &str) -> Desk {
    Desk::new(&format!(
        "channels:\n  dingtalk: {{webhook_url: '{}', {more}}}",
        robot.url()
    ))
}

#[tokio::test]
async fn dingtalk_takes_a_signed_message_with_its_mentions() {
    let robot = robot("SECtest");
    let desk = dingtalk_desk(&robot, "secret: SECtest, at_mobiles: ['13800000000']");
    let _running = desk.run();
    let id = desk.put(firing(1, "dingtalk"));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    assert_eq!(desk.attempts(id), ["delivered 0 errcode 0: ok"]);
    let body = robot.received()[0].json();
    assert_eq!(body["markdown"]["title"], "[P1 严重] HostDown：db1:9100");
    let text = body["markdown"]["text"].as_str().expect("a text");
    assert!(
        text.contains("主机无响应") && text.ends_with("@13800000000"),
        "{text}"
    );
}

#[tokio::test]
async fn dingtalk_with_a_wrong_secret_is_refused_for_good() {
    let robot = robot("SECright");
    let desk = dingtalk_desk(&robot, "secret: SECwrong");
    let _running = desk.run();
    let id = desk.put(firing(1, "dingtalk"));
    desk.wait_for_status(id, NotificationStatus::Failed).await;
    let attempts = desk.attempts(id);
    assert_eq!(attempts.len(), 1);
    assert!(
        attempts[0].starts_with("refused 310000 errcode 310000: sign not match"),
        "{attempts:?}"
    );
}

#[tokio::test]
async fn dingtalk_that_is_asked_too_often_is_left_alone_for_a_minute() {
    let robot = robot("SECtest");
    robot.order_error(130_101, "send too fast, exceed 20 times per minute");
    let desk = dingtalk_desk(&robot, "secret: SECtest");
    let _running = desk.run();
    let id = desk.put(firing(1, "dingtalk"));
    desk.wait_for_retry(id, 1).await;
    let due = desk.outbox.get(id).expect("put in").due_at;
    assert_eq!(due, START + Duration::from_secs(60));
    // Another message through the same robot waits as well.
    let other = desk.put(firing(2, "dingtalk"));
    desk.clock.advance(Duration::from_secs(59));
    assert_eq!(desk.status(other), NotificationStatus::Waiting);
    assert_eq!(robot.received().len(), 1);
    desk.clock.advance(Duration::from_secs(1));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    desk.wait_for_status(other, NotificationStatus::Delivered).await;
}

#[tokio::test]
async fn dingtalk_never_gets_more_than_twenty_messages_a_minute() {
    let clock = ManualClock::new(START);
    let robot = FakeDingTalk::start("tok3n", None, Arc::new(clock.clone()));
    let yaml = format!(
        "channels:\n  dingtalk: {{webhook_url: '{}', timeout: 60}}",
        robot.url()
    );
    let desk = Desk::on_clock(&yaml, clock);
    let _running = desk.run();
    let ids: Vec<_> = (0..50)
        .map(|number| desk.put(firing(number, "dingtalk")))
        .collect();
    let delivered = || {
        let stands = |id: &&_| desk.status(**id) == NotificationStatus::Delivered;
        ids.iter().filter(stands).count()
    };
    wait_for_async(PATIENCE, || delivered() == 20).await;
    wait_for_async(PATIENCE, || {
        desk.clock.advance(Duration::from_secs(1));
        delivered() == 50
    })
    .await;
    // The robot counts by the same clock, and would have said so.
    assert!(
        ids.iter()
            .flat_map(|id| desk.attempts(*id))
            .all(|attempt| attempt == "delivered 0 errcode 0: ok")
    );
    assert!(desk.clock.now() >= START + Duration::from_secs(120));
}

#[tokio::test]
async fn dingtalk_messages_stay_below_the_limit_and_say_what_they_leave_out() {
    let robot = robot("SECtest");
    let desk = dingtalk_desk(&robot, "secret: SECtest");
    let _running = desk.run();
    let long = "磁盘空间不足，请尽快处理。\"引号\"\n".repeat(60);
    let alerts = (0..200).map(|number| {
        let mut alert = alert(&format!("Disk{number}"), AlertState::Firing, Level::High);
        alert.annotations = Labels::from_pairs([("summary", &long), ("description", &long)]);
        alert
    });
    let id = desk.put(notification(1, "dingtalk", alerts.collect()));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    let request = &robot.received()[0];
    assert!(request.body.len() <= 20_000, "{}", request.body.len());
    assert!(
        request.body.len() > 15_000,
        "and they use what they may: {}",
        request.body.len()
    );
    let body = request.json();
    let text = body["markdown"]["text"].as_str().expect("a text");
    let told = text.matches("\n- 位置").count();
    assert!(told > 0);
    assert!(
        text.contains(&format!(
            "**还有 {} 条** → [查看全部告警](https://monitor.example.com/)",
            200 - told
        )),
        "{text}"
    );
}

#[tokio::test]
async fn slack_takes_a_message_within_its_limits() {
    let slack = FakeSlack::start();
    let desk = Desk::new(&format!(
        "channels:\n  slack: {{webhook_url: '{}', channel: '#alerts', language: en}}",
        slack.url()
    ));
    let _running = desk.run();
    let long = "<!channel> & more ".repeat(400);
    let alerts = (0..60).map(|number| {
        let mut alert = alert(&format!("Disk{number}"), AlertState::Firing, Level::High);
        alert.annotations =
            Labels::from_pairs([("summary", &long), ("description", &long), ("action", &long)]);
        alert
    });
    let id = desk.put(notification(1, "slack", alerts.collect()));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    assert_eq!(desk.attempts(id), ["delivered 200 HTTP 200 ok"]);
    let body = slack.received()[0].json();
    assert_eq!(body["channel"], "#alerts");
    assert_eq!(body["text"], "*[P2 high] 60 alerts: Disk0, …*");
    assert_eq!(body["attachments"][0]["color"], "#c2570c");
    let written = body.to_string();
    assert!(
        written.contains("45 more → <https://monitor.example.com/|Open all alerts>"),
        "{written}"
    );
    assert!(!written.contains("<!channel>"));
}

#[tokio::test]
async fn slack_says_when_to_come_back() {
    let slack = FakeSlack::start();
    slack.order_rate_limit(30);
    let desk = Desk::new(&format!("channels:\n  slack: {{webhook_url: '{}'}}", slack.url()));
    let _running = desk.run();
    let id = desk.put(firing(1, "slack"));
    desk.wait_for_retry(id, 1).await;
    assert_eq!(
        desk.outbox.get(id).expect("put in").due_at,
        START + Duration::from_secs(30)
    );
    desk.clock.advance(Duration::from_secs(30));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    assert_eq!(
        desk.attempts(id),
        ["retry 429 HTTP 429 rate_limited", "delivered 200 HTTP 200 ok"]
    );
}

#[tokio::test]
async fn a_removed_slack_webhook_is_refused_with_slacks_word() {
    let slack = FakeSlack::start();
    let desk = Desk::new(&format!(
        "channels:\n  slack: {{webhook_url: '{}'}}",
        slack.removed_url()
    ));
    let _running = desk.run();
    let id = desk.put(firing(1, "slack"));
    desk.wait_for_status(id, NotificationStatus::Failed).await;
    assert_eq!(desk.attempts(id), ["refused 404 HTTP 404 no_service"]);
}

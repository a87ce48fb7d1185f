//! What the API and the pages say of alerts: told only when it arrived, no begin in the future, no second silence.

use std::time::Duration;

use http::StatusCode;
use marketprism_alerts::ReceivedAlert;
use marketprism_model::{AttemptOutcome, DeliveryAttempt, Id, Level, NotificationStatus, Timestamp};
use serde_json::{Value, json};

use crate::reply::{get, post_json};
use crate::rig::{Rig, labels};

async fn why(rig: &Rig, id: Id) -> Value {
    let why = get(rig.address, &format!("/api/v1/alerts/{id}/why")).await;
    why.json()["groups"][0]["channels"][0].take()
}

async fn page(rig: &Rig, id: Id, language: &str) -> String {
    let page = get(rig.address, &format!("/alerts/{id}?lang={language}")).await;
    page.text().to_owned()
}

/// A user read "told" beside a message that still waited for a channel that could not be reached.
#[tokio::test]
async fn an_alert_is_called_told_only_when_its_message_arrived() {
    let rig = Rig::start().await;
    let id = rig
        .rooms
        .raise("Down", Level::Critical, Duration::ZERO, &[("instance", "a")], 1.0);
    rig.rooms.flush();
    let waiting = why(&rig, id).await;
    assert_eq!(waiting["told_at"], Value::Null, "{waiting}");
    assert_eq!(waiting["message"]["progress"], "queued", "{waiting}");
    assert!(waiting["group_last_told_at"].is_string(), "{waiting}");
    assert!(!page(&rig, id, "zh").await.contains("已通知"));
    let now = rig.rooms.clock_now();
    let message = rig.rooms.outbox().due(now, 1).expect("memory answers").remove(0);
    let attempt = |number: u32, outcome: AttemptOutcome, at: Timestamp| DeliveryAttempt {
        notification: message.id,
        number,
        started_at: at,
        finished_at: (outcome != AttemptOutcome::Started).then_some(at),
        outcome,
        provider_code: 0,
        detail: String::new(),
    };
    let finish = |number, outcome, at: Timestamp, status, retry_at| {
        let outbox = rig.rooms.outbox();
        outbox
            .begin(&attempt(number, AttemptOutcome::Started, at))
            .expect("memory takes it");
        let ended = attempt(number, outcome, at);
        outbox.finish(&ended, status, retry_at).expect("memory takes it");
    };
    let later = now + Duration::from_secs(60);
    finish(
        1,
        AttemptOutcome::Retry,
        now,
        NotificationStatus::Waiting,
        Some(later),
    );
    let retrying = why(&rig, id).await;
    assert_eq!(
        (
            &retrying["told_at"],
            &retrying["message"]["progress"],
            &retrying["message"]["attempts"]
        ),
        (&Value::Null, &json!("retrying"), &json!(1)),
        "{retrying}"
    );
    finish(
        2,
        AttemptOutcome::Delivered,
        later,
        NotificationStatus::Delivered,
        None,
    );
    let told = why(&rig, id).await;
    assert_eq!(
        (&told["told_at"], &told["message"]["progress"]),
        (&json!(later.to_string()), &json!("delivered")),
        "{told}"
    );
    assert!(page(&rig, id, "zh").await.contains("已通知"));
}

/// An alert that joins its group later was shown as told when the group was.
#[tokio::test]
async fn an_alert_that_the_message_does_not_name_was_not_told_by_it() {
    let rig = Rig::start().await;
    rig.rooms
        .raise("Down", Level::Critical, Duration::ZERO, &[("instance", "a")], 1.0);
    rig.rooms.flush();
    let later = rig
        .rooms
        .raise("Down", Level::Critical, Duration::ZERO, &[("instance", "b")], 1.0);
    let found = why(&rig, later).await;
    assert_eq!(
        (&found["told_level"], &found["told_at"], &found["message"]),
        (&Value::Null, &Value::Null, &Value::Null),
        "{found}"
    );
}

/// A sender that names only the end begins, by Alertmanager's rule, at that end; the page showed a begin to come.
#[tokio::test]
async fn an_alert_of_another_program_begins_when_it_came_and_has_neither_value_nor_expression() {
    let rig = Rig::start().await;
    let now = rig.rooms.clock_now();
    let received = ReceivedAlert {
        labels: labels(&[("alertname", "Backup"), ("severity", "warning")]),
        annotations: labels(&[]),
        starts_at: None,
        ends_at: Some(now + Duration::from_secs(3_600)),
        generator_url: String::new(),
    };
    let answers = rig.rooms.alerts.receive(vec![received]);
    assert!(answers.is_ok(), "{answers:?}");
    let active = rig.rooms.alerts.active();
    let alert = active
        .iter()
        .find(|alert| alert.name() == "Backup")
        .expect("it was taken");
    assert!(alert.active_at > now, "it is the case that the page met");
    let shown = page(&rig, alert.id, "en").await;
    assert!(!shown.contains("2026-08-01 10:30:00"), "a begin to come: {shown}");
    for absent in ["<pre>", "value 1", "g0.expr"] {
        assert!(!shown.contains(absent), "{absent}: {shown}");
    }
    let home = get(rig.address, "/").await;
    assert!(home.text().contains(">Backup</a>") && !home.text().contains("class=\"number\">1<"));
}

#[tokio::test]
async fn silencing_an_alert_again_says_which_silence_holds_and_makes_no_second_one() {
    let rig = Rig::start().await;
    let id = rig
        .rooms
        .raise("Down", Level::Critical, Duration::ZERO, &[("instance", "a")], 1.0);
    let path = format!("/api/v1/alerts/{id}/suppress");
    let suppress = async |note: &str| {
        let reply = post_json(rig.address, &path, &json!({ "note": note, "by": "chen" })).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()["suppressed_by"].take()
    };
    let first = suppress("replaced tomorrow").await;
    assert_eq!(first[0]["reason"], "silence", "{first}");
    assert!(first[0]["silence"].is_string(), "{first}");
    assert_eq!(suppress("replaced tomorrow").await, first);
    assert_eq!(suppress("the part is late").await, first);
    assert_eq!(rig.rooms.alerts.silences().len(), 1);
    let body = json!({ "ids": [id], "action": "suppress", "note": "replaced tomorrow", "by": "li" });
    let many = post_json(rig.address, "/api/v1/alerts/actions", &body)
        .await
        .json();
    assert_eq!(many["items"][0]["alert"]["suppressed_by"], first, "{many}");
    let until = (rig.rooms.clock_now() + Duration::from_secs(3_600)).to_string();
    let body = json!({ "note": "for an hour", "until": until, "by": "chen" });
    let other = post_json(rig.address, &path, &body).await.json();
    assert_eq!(
        other["suppressed_by"].as_array().map(Vec::len),
        Some(2),
        "{other}"
    );
    let chinese = page(&rig, id, "zh").await;
    assert!(chinese.contains("已静默：replaced tomorrow") && chinese.contains("the part is late"));
    assert!(!chinese.contains("silenced by"), "{chinese}");
}

#[tokio::test]
async fn a_recurring_silence_says_whether_it_holds_now_and_when_that_changes() {
    let rig = Rig::start().await;
    let check = async |times: Value, holds: bool, next: &str| {
        let body = json!({
            "matchers": ["team=\"db\""], "ends_at": "2026-09-01T00:00:00Z", "comment": "backups", "by": "chen",
            "recurs": [{ "times": times }],
        });
        let made = post_json(rig.address, "/api/v1/silences", &body).await.json();
        assert_eq!(made["state"], "active", "{made}");
        assert_eq!(
            (&made["holds_now"], &made["next_change_at"]),
            (&json!(holds), &json!(next)),
            "{made}"
        );
    };
    // The clock of the rig shows 2026-08-01 09:30 UTC.
    let outside = json!([{ "start_time": "01:00", "end_time": "03:00" }]);
    check(outside, false, "2026-08-02T01:00:00.000Z").await;
    let within = json!([{ "start_time": "09:00", "end_time": "10:00" }]);
    check(within, true, "2026-08-01T10:00:00.000Z").await;
    let body = json!({
        "matchers": ["a=\"b\""], "ends_at": "2026-09-01T00:00:00Z", "duration": "2h", "comment": "x", "by": "chen",
    });
    let both = post_json(rig.address, "/api/v1/silences", &body).await;
    assert_eq!(both.status, StatusCode::BAD_REQUEST);
    assert!(both.text().contains("both given"), "{}", both.text());
}

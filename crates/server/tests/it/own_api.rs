//! Our own API: alerts, what people do to them, notifications, figures.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use marketprism_model::{AlertState, AttemptOutcome, DeliveryAttempt, Id, Level, NotificationStatus};
use marketprism_server::Config;
use serde_json::{Value, json};

use crate::reply::{get, post_json};
use crate::rig::{Rig, Rooms, START, groups};

/// Three alerts: one P1 on db1 that was told by mail, one P3 on web1, one pending P4.
fn raise_three(rooms: &Rooms) -> [Id; 3] {
    let now = Duration::ZERO;
    let critical = rooms.raise(
        "HostDown",
        Level::Critical,
        now,
        &[("instance", "db1"), ("job", "node")],
        0.0,
    );
    rooms.clock.advance(Duration::from_secs(30));
    let medium = rooms.raise(
        "DiskFull",
        Level::Medium,
        now,
        &[("instance", "web1"), ("job", "node")],
        91.5,
    );
    rooms.clock.advance(Duration::from_secs(30));
    let wait = Duration::from_secs(300);
    let pending = rooms.raise("Slow", Level::Low, wait, &[("instance", "web1")], f64::INFINITY);
    [critical, medium, pending]
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list");
    items
        .iter()
        .map(|item| item["name"].as_str().expect("a name"))
        .collect()
}

#[tokio::test]
async fn alerts_are_listed_newest_first_filtered_and_page_by_page() {
    let rig = Rig::start().await;
    assert_eq!(
        get(rig.address, "/api/v1/alerts").await.json(),
        json!({ "items": [], "next_cursor": null })
    );
    raise_three(&rig.rooms);
    let check = async |query: &str, expected: &[&str]| {
        let reply = get(rig.address, &format!("/api/v1/alerts?{query}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{query}: {:?}", reply.body);
        assert_eq!(names(&reply.json()), expected, "{query}");
    };
    check("", &["Slow", "DiskFull", "HostDown"]).await;
    check("state=firing", &["DiskFull", "HostDown"]).await;
    check("state=firing,pending&level=low", &["Slow"]).await;
    check("level=critical&level=medium", &["DiskFull", "HostDown"]).await;
    check("label=instance:web1", &["Slow", "DiskFull"]).await;
    check("label=instance:web1&label=job:node", &["DiskFull"]).await;
    check("acknowledged=true", &[]).await;

    let first = get(rig.address, "/api/v1/alerts?limit=2").await.json();
    assert_eq!(names(&first), ["Slow", "DiskFull"]);
    let cursor = first["next_cursor"].as_str().expect("there is more");
    let rest = get(rig.address, &format!("/api/v1/alerts?limit=2&cursor={cursor}"))
        .await
        .json();
    assert_eq!(
        (names(&rest), &rest["next_cursor"]),
        (vec!["HostDown"], &Value::Null)
    );
}

#[tokio::test]
async fn an_alert_is_told_with_its_story_and_each_attempt_to_tell_of_it() {
    let rig = Rig::start().await;
    let [critical, _, pending] = raise_three(&rig.rooms);
    rig.rooms.flush();
    let notification = rig
        .rooms
        .outbox()
        .due(rig.rooms.clock_now(), 10)
        .expect("memory answers");
    let notification = notification
        .iter()
        .find(|notification| {
            notification
                .content
                .alerts
                .iter()
                .any(|alert| alert.id == critical)
        })
        .expect("a critical alert is told");
    let mut attempt = DeliveryAttempt {
        notification: notification.id,
        number: 1,
        started_at: rig.rooms.clock_now(),
        finished_at: None,
        outcome: AttemptOutcome::Started,
        provider_code: 0,
        detail: String::new(),
    };
    rig.rooms.outbox().begin(&attempt).expect("memory takes it");
    attempt.finished_at = Some(rig.rooms.clock_now());
    attempt.outcome = AttemptOutcome::Delivered;
    attempt.provider_code = 250;
    attempt.detail = "queued".to_owned();
    rig.rooms
        .outbox()
        .finish(&attempt, NotificationStatus::Delivered, None)
        .expect("memory takes it");

    let told = get(rig.address, &format!("/api/v1/alerts/{critical}"))
        .await
        .json();
    assert_eq!(told["id"], critical.to_string());
    assert_eq!(
        (&told["level"], &told["priority"]),
        (&json!("critical"), &json!("P1"))
    );
    assert_eq!(told["labels"]["severity"], "critical");
    assert_eq!(told["active_at"], "2026-08-01T09:30:00.000Z");
    assert_eq!(told["fired_at"], "2026-08-01T09:30:00.000Z");
    assert_eq!(told["resolved_at"], Value::Null);
    let kinds: Vec<_> = told["events"]
        .as_array()
        .expect("a story")
        .iter()
        .map(|event| &event["kind"])
        .collect();
    assert!(kinds.contains(&&json!("fired")), "{kinds:?}");
    let message = &told["notifications"][0];
    assert_eq!(
        (&message["status"], &message["channel"]),
        (&json!("delivered"), &json!("mail"))
    );
    assert_eq!(message["attempts"][0]["provider_code"], 250);
    assert_eq!(message["attempts"][0]["outcome"], "delivered");

    let list = get(
        rig.address,
        &format!("/api/v1/notifications?alert={critical}&status=delivered"),
    )
    .await
    .json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(list["items"][0]["attempts"][0]["detail"], "queued");
    let none = get(
        rig.address,
        &format!("/api/v1/notifications?alert={critical}&status=failed"),
    )
    .await
    .json();
    assert_eq!(none, json!({ "items": [], "next_cursor": null }));

    let told = get(rig.address, &format!("/api/v1/alerts/{pending}"))
        .await
        .json();
    assert_eq!(
        (&told["state"], &told["value"]),
        (&json!("pending"), &json!("+Inf"))
    );
}

#[tokio::test]
async fn acknowledging_and_resolving_by_hand_reach_the_records() {
    let rig = Rig::start().await;
    let [critical, medium, pending] = raise_three(&rig.rooms);
    let path = |id: Id, act: &str| format!("/api/v1/alerts/{id}/{act}");
    let until = "2026-08-01T11:00:00Z";
    let body = json!({ "by": "chen", "note": "on it", "until": until });
    let reply = post_json(rig.address, &path(critical, "acknowledge"), &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{:?}", reply.body);
    assert_eq!(reply.json()["acknowledged"]["until"], "2026-08-01T11:00:00.000Z");
    let taken = rig
        .rooms
        .alert(critical)
        .acknowledged
        .expect("it was acknowledged");
    assert_eq!((taken.by.as_str(), taken.note.as_str()), ("chen", "on it"));
    let list = get(rig.address, "/api/v1/alerts?acknowledged=true").await.json();
    assert_eq!(names(&list), ["HostDown"]);

    let reply = post_json(rig.address, &path(medium, "resolve"), &json!({ "by": "chen" })).await;
    assert_eq!(
        (reply.status, &reply.json()["state"]),
        (StatusCode::OK, &json!("resolved"))
    );
    assert_eq!(rig.rooms.alert(medium).state, AlertState::Resolved);

    let check = async |id: Id, act: &str, body: Value, status: u16| {
        let reply = post_json(rig.address, &path(id, act), &body).await;
        assert_eq!(reply.status.as_u16(), status, "{act} {body}: {:?}", reply.body);
        assert_eq!(reply.header("content-type"), "application/problem+json");
    };
    check(medium, "resolve", json!({ "by": "chen" }), 409).await;
    check(pending, "acknowledge", json!({ "by": "chen" }), 409).await;
    check(Id::from_u128(1), "acknowledge", json!({ "by": "chen" }), 404).await;
    check(critical, "acknowledge", json!({ "by": " " }), 400).await;
    check(
        critical,
        "acknowledge",
        json!({ "by": "chen", "until": "2026-08-01T09:00:00Z" }),
        400,
    )
    .await;
    check(
        critical,
        "acknowledge",
        json!({ "by": "chen", "until": "tomorrow" }),
        400,
    )
    .await;
    check(
        critical,
        "acknowledge",
        json!({ "by": "chen", "notes": "misspelt" }),
        400,
    )
    .await;
    check(
        critical,
        "acknowledge",
        json!({ "by": "chen", "note": "x".repeat(5000) }),
        400,
    )
    .await;
    check(critical, "acknowledge", json!("chen"), 400).await;
}

#[tokio::test]
async fn figures_are_given_by_section_and_reloads_tell_what_is_wrong() {
    let rig = Rig::start().await;
    assert_eq!(
        get(rig.address, "/api/v1/stats/storage").await.json()["series"],
        12
    );
    let unknown = get(rig.address, "/api/v1/stats/nonsense").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(
        unknown.json()["detail"],
        "no figures are kept under \"nonsense\"; there are alerts, performance, storage"
    );
    for path in ["/-/reload", "/prometheus/-/reload"] {
        rig.rooms
            .may_reload
            .store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(
            post_json(rig.address, path, &json!({})).await.status,
            StatusCode::OK
        );
        rig.rooms
            .may_reload
            .store(false, std::sync::atomic::Ordering::Relaxed);
        let refused = post_json(rig.address, path, &json!({})).await;
        assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            refused.json()["detail"],
            "config.yaml line 3: unknown key \"rulez\""
        );
    }
}

#[tokio::test]
async fn rule_groups_of_the_compatible_surface_come_page_by_page() {
    let mut rooms = Rooms::new(START);
    rooms.rules = Arc::new(groups(8, "no such metric"));
    let rig = Rig::start_with(Config::default(), rooms).await;
    let mut found = Vec::new();
    let mut token = String::new();
    for expected in [3, 3, 2] {
        let path = format!("/prometheus/api/v1/rules?group_limit=3&group_next_token={token}");
        let data = get(rig.address, &path).await.json()["data"].take();
        let page = data["groups"].as_array().expect("a list");
        assert_eq!(page.len(), expected);
        found.extend(
            page.iter()
                .map(|group| group["name"].as_str().expect("a name").to_owned()),
        );
        token = data["groupNextToken"].as_str().unwrap_or("").to_owned();
    }
    assert_eq!(token, "", "nothing follows the last page");
    let all: Vec<String> = (0..8).map(|number| format!("group {number}")).collect();
    assert_eq!(found, all);
    let check = async |query: &str, message: &str| {
        let reply = get(rig.address, &format!("/prometheus/api/v1/rules?{query}")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(reply.json()["error"], message);
    };
    check(
        "group_next_token=x",
        "invalid parameter \"group_next_token\": group_limit needs to be present in order to paginate over the groups",
    )
    .await;
    check(
        "group_limit=0",
        "invalid parameter \"group_limit\": group_limit needs to be greater than 0",
    )
    .await;
    check(
        "group_limit=1&group_next_token=x",
        "invalid parameter \"group_next_token\": invalid group_next_token 'x'. were rule groups changed?",
    )
    .await;
    check(
        "exclude_alerts=maybe",
        "invalid parameter \"exclude_alerts\": error converting exclude_alerts: strconv.ParseBool: parsing \"maybe\": invalid syntax",
    )
    .await;
}

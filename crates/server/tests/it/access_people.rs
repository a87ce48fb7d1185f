//! Users, tokens, one's own password, who acts under which name, and what the audit log says of it.

use http::{Request, StatusCode};
use marketprism_access::Config as AccessConfig;
use marketprism_model::{Id, Level, Role};
use marketprism_server::Config;
use serde_json::{Value, json};
use std::time::Duration;

use crate::people::{PASSWORD, basic, bearer, json as json_request, user};
use crate::reply::{Reply, post_json, send};
use crate::rig::Rig;

async fn ask(rig: &Rig, method: &str, path: &str, authorization: &str, body: &Value) -> Reply {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    send(rig.address, json_request(method, path, authorization), body).await
}

/// Gives the audit log, oldest first, as `actor action subject outcome`.
async fn audit(rig: &Rig, authorization: &str) -> Vec<String> {
    let reply = ask(
        rig,
        "GET",
        "/api/v1/audit?limit=1000",
        authorization,
        &Value::Null,
    )
    .await;
    assert_eq!(reply.status, StatusCode::OK, "{:?}", reply.body);
    let list = reply.json();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or("?").to_owned();
    let entries = list["items"].as_array().expect("a list").iter().rev();
    entries
        .map(|entry| {
            ["actor", "action", "subject", "outcome"]
                .map(|name| text(entry, name))
                .join(" ")
        })
        .collect()
}

#[tokio::test]
async fn an_administrator_makes_changes_and_removes_users() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let root = bearer(&access, "root", Role::Admin);
    let new = json!({ "name": "Chen", "role": "operator", "password": PASSWORD });
    let made = ask(&rig, "POST", "/api/v1/users", &root, &new).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
    let told = made.json();
    assert_eq!(
        (&told["name"], &told["role"], &told["is_disabled"]),
        (&json!("chen"), &json!("operator"), &json!(false))
    );
    assert!(!made.text().contains("argon2") && told.get("password").is_none());
    assert_eq!(
        ask(&rig, "POST", "/api/v1/users", &root, &new).await.status,
        StatusCode::CONFLICT
    );
    for name in ["ann", "bob"] {
        user(&access, name, Role::Viewer);
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/users?limit=3&cursor={cursor}");
        let page = ask(&rig, "GET", &path, &root, &Value::Null).await.json();
        let items = page["items"].as_array().expect("a list").clone();
        names.extend(
            items
                .iter()
                .map(|item| item["name"].as_str().expect("a name").to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(names, ["ann", "bob", "chen", "root"]);
    let changed = ask(
        &rig,
        "PATCH",
        "/api/v1/users/chen",
        &root,
        &json!({ "role": "admin" }),
    )
    .await;
    assert_eq!(
        (changed.status, &changed.json()["role"]),
        (StatusCode::OK, &json!("admin"))
    );
    assert_eq!(
        ask(&rig, "DELETE", "/api/v1/users/chen", &root, &Value::Null)
            .await
            .status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        ask(&rig, "DELETE", "/api/v1/users/chen", &root, &Value::Null)
            .await
            .status,
        StatusCode::NOT_FOUND
    );
    // The last administrator cannot go, be weakened or be shut out.
    for (method, body) in [
        ("DELETE", Value::Null),
        ("PATCH", json!({ "role": "viewer" })),
        ("PATCH", json!({ "is_disabled": true })),
    ] {
        let reply = ask(&rig, method, "/api/v1/users/root", &root, &body).await;
        assert_eq!(
            reply.status,
            StatusCode::CONFLICT,
            "{method} {body}: {:?}",
            reply.body
        );
    }
    let lines = audit(&rig, &root).await;
    for line in [
        "root user.create chen done",
        "root user.change chen done",
        "root user.delete chen done",
        "root user.delete chen failed",
        "root user.delete root failed",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line:?} is not in {lines:#?}");
    }
}

#[tokio::test]
async fn a_token_is_shown_once_works_for_tools_and_ends() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let root = bearer(&access, "root", Role::Admin);
    let new = json!({ "name": "grafana", "role": "viewer", "expires_at": "2026-08-01T10:30:00Z" });
    let made = ask(&rig, "POST", "/api/v1/tokens", &root, &new).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
    let value = made.json()["value"].as_str().expect("it is shown").to_owned();
    assert!(value.starts_with("mp_"));
    let list = ask(&rig, "GET", "/api/v1/tokens", &root, &Value::Null).await;
    assert!(!list.text().contains(&value), "only once");
    assert_eq!(list.json()["items"][0]["created_by"], "root");
    assert_eq!(list.json()["items"][0]["last_used_at"], Value::Null);
    let query = async |authorization: &str| {
        let request =
            Request::get("/prometheus/api/v1/query?query=1%2B1").header("authorization", authorization);
        send(rig.address, request, "").await.status
    };
    assert_eq!(query(&format!("Bearer {value}")).await, StatusCode::OK);
    assert_eq!(query(&basic("any name", &value)).await, StatusCode::OK);
    let list = ask(&rig, "GET", "/api/v1/tokens", &root, &Value::Null).await;
    assert_eq!(
        list.json()["items"][0]["last_used_at"],
        "2026-08-01T09:30:00.000Z"
    );
    rig.rooms.clock.advance(Duration::from_secs(3600));
    assert_eq!(
        query(&format!("Bearer {value}")).await,
        StatusCode::UNAUTHORIZED,
        "it has ended"
    );
    let new = json!({ "name": "loki", "role": "operator" });
    let made = ask(&rig, "POST", "/api/v1/tokens", &root, &new).await;
    let value = format!("Bearer {}", made.json()["value"].as_str().expect("it is shown"));
    assert_eq!(query(&value).await, StatusCode::OK);
    assert_eq!(
        ask(&rig, "DELETE", "/api/v1/tokens/loki", &root, &Value::Null)
            .await
            .status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(query(&value).await, StatusCode::UNAUTHORIZED, "it was deleted");
    let lines = audit(&rig, &root).await;
    for line in ["root token.create grafana done", "root token.delete loki done"] {
        assert!(lines.contains(&line.to_owned()), "{line:?} is not in {lines:#?}");
    }
}

#[tokio::test]
async fn everybody_changes_their_own_password_with_the_old_one() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let root = bearer(&access, "root", Role::Admin);
    let vera = bearer(&access, "vera", Role::Viewer);
    let change = async |authorization: &str, old: &str, new: &str| {
        let body = json!({ "old": old, "new": new });
        ask(&rig, "POST", "/api/v1/auth/password", authorization, &body).await
    };
    assert_eq!(
        change(&vera, "not the old one", "a new password").await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        change(&vera, PASSWORD, "short").await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        change(&vera, PASSWORD, "a new password").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        change(&vera, PASSWORD, "a new password").await.status,
        StatusCode::UNAUTHORIZED,
        "the session ended"
    );
    let login = async |password: &str| {
        let body = json!({ "username": "vera", "password": password });
        post_json(rig.address, "/api/v1/auth/login", &body).await.status
    };
    assert_eq!(login(PASSWORD).await, StatusCode::UNAUTHORIZED);
    assert_eq!(login("a new password").await, StatusCode::OK);
    let new = json!({ "name": "tool", "role": "admin" });
    let made = ask(&rig, "POST", "/api/v1/tokens", &root, &new).await;
    let token = made.json()["value"].as_str().expect("it is shown").to_owned();
    let reply = change(&format!("Bearer {token}"), PASSWORD, "a new password").await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "a token has no password");
    let lines = audit(&rig, &root).await;
    assert!(
        lines.contains(&"vera password.change vera done".to_owned()),
        "{lines:#?}"
    );
    assert!(
        lines.contains(&" authenticate vera refused".to_owned()),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn acts_are_kept_under_the_name_of_whoever_asked_and_no_other() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let root = bearer(&access, "root", Role::Admin);
    let chen = bearer(&access, "chen", Role::Operator);
    let vera = bearer(&access, "vera", Role::Viewer);
    let made = ask(
        &rig,
        "POST",
        "/api/v1/tokens",
        &root,
        &json!({ "name": "bot", "role": "operator" }),
    )
    .await;
    let bot = format!("Bearer {}", made.json()["value"].as_str().expect("it is shown"));
    let raise = |name: &str| {
        rig.rooms
            .raise(name, Level::High, Duration::ZERO, &[("instance", "db1")], 1.0)
    };
    let act = async |id: Id, act: &str, who: &str, body: Value| {
        ask(&rig, "POST", &format!("/api/v1/alerts/{id}/{act}"), who, &body).await
    };
    let taken_by = |id: Id| rig.rooms.alert(id).acknowledged.map(|taken| taken.by);

    let first = raise("First");
    assert_eq!(
        act(first, "acknowledge", &vera, json!({})).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        act(first, "acknowledge", &chen, json!({ "by": "root" }))
            .await
            .status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(taken_by(first), None);
    let reply = act(first, "acknowledge", &chen, json!({ "note": "on it" })).await;
    assert_eq!(
        (reply.status, &reply.json()["acknowledged"]["by"]),
        (StatusCode::OK, &json!("chen"))
    );
    let second = raise("Second");
    assert_eq!(
        act(second, "acknowledge", &chen, json!({ "by": "chen" }))
            .await
            .status,
        StatusCode::OK
    );
    let third = raise("Third");
    assert_eq!(
        act(third, "acknowledge", &bot, json!({})).await.status,
        StatusCode::OK
    );
    assert_eq!(taken_by(third).as_deref(), Some("token:bot"));
    let fourth = raise("Fourth");
    assert_eq!(
        act(fourth, "acknowledge", &bot, json!({ "by": "root" }))
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(taken_by(fourth).as_deref(), Some("root (token:bot)"));
    assert_eq!(
        act(fourth, "resolve", &chen, json!({ "note": "replaced" }))
            .await
            .status,
        StatusCode::OK
    );
    let story = ask(
        &rig,
        "GET",
        &format!("/api/v1/alerts/{fourth}"),
        &vera,
        &Value::Null,
    )
    .await
    .json();
    let resolved = story["events"]
        .as_array()
        .expect("a story")
        .iter()
        .find(|event| event["kind"] == "resolved");
    assert_eq!(resolved.expect("it was resolved")["actor"], "chen");

    let request = json_request("POST", "/-/reload", &root).header("x-request-id", "reload-17");
    assert_eq!(send(rig.address, request, "").await.status, StatusCode::OK);
    let lines = audit(&rig, &root).await;
    for line in [
        format!("vera alert.acknowledge {first} refused"),
        format!("chen alert.acknowledge {first} failed"),
        format!("chen alert.acknowledge {first} done"),
        format!("token:bot alert.acknowledge {fourth} done"),
        format!("chen alert.resolve {fourth} done"),
        "root config.reload  done".to_owned(),
        "chen login chen done".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line:?} is not in {lines:#?}");
    }
    let newest = ask(
        &rig,
        "GET",
        "/api/v1/audit?action=config.reload&limit=1",
        &root,
        &Value::Null,
    )
    .await
    .json();
    let newest = &newest["items"][0];
    assert_eq!(
        (&newest["trace_id"], &newest["client"]),
        (&json!("reload-17"), &json!("127.0.0.1"))
    );
    assert_eq!(
        (&newest["role"], &newest["at"]),
        (&json!("admin"), &json!("2026-08-01T09:30:00.000Z"))
    );
    let of_bot = ask(&rig, "GET", "/api/v1/audit?actor=token:bot", &root, &Value::Null)
        .await
        .json();
    assert_eq!(of_bot["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_client_that_hangs_up_cannot_act_without_a_line_in_the_log() {
    use tokio::io::AsyncWriteExt as _;
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let root = bearer(&access, "root", Role::Admin);
    for number in 0..50 {
        let body = json!({ "name": format!("tool{number:02}"), "role": "viewer" }).to_string();
        let request = format!(
            "POST /api/v1/tokens HTTP/1.1\r\nhost: x\r\nauthorization: {root}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(rig.address)
            .await
            .expect("the server listens");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("the server reads");
        for _ in 0..number {
            tokio::task::yield_now().await;
        }
        // A reset, not a polite end.
        stream.set_zero_linger().expect("a socket option");
        drop(stream);
    }
    let polite = ask(
        &rig,
        "POST",
        "/api/v1/tokens",
        &root,
        &json!({ "name": "polite", "role": "viewer" }),
    )
    .await;
    assert_eq!(polite.status, StatusCode::CREATED);
    let made = || access.tokens().expect("memory answers").len();
    let lines = || {
        let filter = marketprism_model::AuditFilter {
            action: "token.create".to_owned(),
            limit: 1000,
            ..marketprism_model::AuditFilter::default()
        };
        let page = access.audit(&filter).expect("memory answers");
        page.items
            .iter()
            .filter(|entry| entry.outcome == marketprism_model::AuditOutcome::Done)
            .count()
    };
    marketprism_testkit::wait_for_async(Duration::from_secs(30), || made() > 0 && made() == lines()).await;
}

#[tokio::test]
async fn an_act_that_breaks_leaves_its_line_too() {
    let rig = Rig::unborn(Config::default(), crate::rig::Rooms::new(crate::rig::START)).await;
    let access = rig.rooms.access(&AccessConfig::default());
    let mut parts = rig.rooms.parts();
    parts.reload = std::sync::Arc::new(|| panic!("as a fault would"));
    rig.server.install_access(std::sync::Arc::clone(&access));
    rig.server.install(parts);
    rig.readiness.ready();
    let root = bearer(&access, "root", Role::Admin);
    let reply = ask(&rig, "POST", "/-/reload", &root, &Value::Null).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    let lines = audit(&rig, &root).await;
    assert!(
        lines.contains(&"root config.reload  failed".to_owned()),
        "{lines:#?}"
    );
}

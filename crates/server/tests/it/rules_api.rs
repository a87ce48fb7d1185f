//! `/api/v1/rules` as its clients see it: made, seen, changed, deleted; by whom; and what is said when it cannot be.

use http::{Request, StatusCode};
use marketprism_access::Config as AccessConfig;
use marketprism_model::Role;
use marketprism_server::Config;
use serde_json::{Value, json};

use crate::people::bearer;
use crate::reply::{Reply, get, send};
use crate::rig::Rig;

const DISK: &str = "name: disk\ncomment: 第一版\nrules:\n- alert: Full\n  expr: free < 5\n  for: 1m\n";

/// Sends a body of a media type as somebody.
async fn ask(
    rig: &Rig,
    (method, path): (&str, &str),
    who: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    if !who.is_empty() {
        request = request.header("authorization", who);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(rig.address, request, body.to_owned()).await
}

const YAML: (&str, &str) = ("content-type", "application/yaml");
const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_group_is_made_seen_changed_and_deleted_and_its_history_stays() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let (li, wang) = (
        bearer(&access, "li", Role::Operator),
        bearer(&access, "wang", Role::Operator),
    );
    let root = bearer(&access, "root", Role::Admin);
    let made = ask(&rig, ("POST", "/api/v1/rules"), &li, &[YAML], DISK).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
    assert_eq!(made.header("etag"), "\"1\"");
    let told = made.json();
    let id = told["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/rules/{id}");
    assert_eq!(made.header("location"), path);
    for (name, expected) in [
        ("source", json!("api")),
        ("name", json!("disk")),
        ("version", json!(1)),
        ("author", json!("li")),
        ("created_by", json!("li")),
        ("comment", json!("第一版")),
        ("warnings", json!([])),
        (
            "definition",
            json!({"name": "disk", "rules": [{"alert": "Full", "expr": "free < 5", "for": "1m"}]}),
        ),
    ] {
        assert_eq!(told[name], expected, "{name}");
    }

    // A rule alone joins its group.
    let rule = r#"{"group": "disk", "alert": "Slow", "expr": "wait > 3", "recover": "< 2"}"#;
    let joined = ask(&rig, ("POST", "/api/v1/rules?comment=slow"), &wang, &[JSON], rule).await;
    assert_eq!(joined.status, StatusCode::OK, "{:?}", joined.body);
    let told = joined.json();
    assert_eq!(
        (
            &told["version"],
            &told["author"],
            &told["created_by"],
            &told["comment"]
        ),
        (&json!(2), &json!("wang"), &json!("li"), &json!("slow"))
    );

    let change = [YAML, ("if-match", "\"2\"")];
    let changed = ask(&rig, ("PUT", &path), &li, &change, &DISK.replace("< 5", "< 4")).await;
    assert_eq!(
        (changed.status, changed.header("etag")),
        (StatusCode::OK, "\"3\"")
    );

    let one = ask(&rig, ("GET", &path), &li, &[], "").await.json();
    assert_eq!(one["definition"]["rules"][0]["expr"], "free < 4");
    let history = one["history"].as_array().expect("a list");
    let authors: Vec<&Value> = history.iter().map(|version| &version["author"]).collect();
    assert_eq!(authors, ["li", "wang", "li"]);
    assert_eq!(history[2]["definition"]["rules"][0]["expr"], "free < 5");
    let list = ask(&rig, ("GET", "/api/v1/rules"), &li, &[], "").await.json();
    assert_eq!(
        (&list["items"][0]["name"], &list["items"][0]["source"]),
        (&json!("disk"), &json!("api"))
    );
    let file = ask(&rig, ("GET", &format!("{path}?format=yaml")), &li, &[], "").await;
    assert_eq!(file.header("content-type"), "application/yaml");
    assert!(file.text().starts_with("groups:"), "{}", file.text());

    let late = [("if-match", "\"2\"")];
    let refused = ask(&rig, ("DELETE", &path), &wang, &late, "").await;
    assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(refused.json()["current"]["version"], 3);
    let gone = ask(&rig, ("DELETE", &format!("{path}?comment=over")), &wang, &[], "").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(
        ask(&rig, ("GET", &path), &li, &[], "").await.status,
        StatusCode::NOT_FOUND
    );
    let kept = ask(&rig, ("GET", &format!("{path}?deleted=true")), &li, &[], "")
        .await
        .json();
    assert_eq!(
        (
            &kept["deleted"],
            &kept["history"][0]["deleted"],
            &kept["history"][0]["comment"]
        ),
        (&json!(true), &json!(true), &json!("over"))
    );

    let log = ask(&rig, ("GET", "/api/v1/audit?limit=100"), &root, &[], "")
        .await
        .json();
    let mut acts: Vec<String> = log["items"]
        .as_array()
        .expect("a list")
        .iter()
        .rev()
        .filter(|entry| {
            entry["action"]
                .as_str()
                .is_some_and(|action| action.starts_with("rules."))
        })
        .map(|entry| {
            ["actor", "action", "outcome"]
                .map(|name| entry[name].as_str().unwrap_or("?"))
                .join(" ")
        })
        .collect();
    // The clock stands still here, so that lines of one moment are in no order.
    acts.sort();
    assert_eq!(
        acts,
        [
            "li rules.change done",
            "li rules.create done",
            "wang rules.create done",
            "wang rules.delete done",
            "wang rules.delete failed",
        ]
    );
    assert!(
        log.to_string().contains(&format!("disk ({id})")),
        "the line names the group"
    );
}

#[tokio::test]
async fn what_cannot_be_done_is_told_with_what_stands_and_every_fault_with_its_place() {
    let rig = Rig::start().await;
    let made = ask(&rig, ("POST", "/api/v1/rules"), "", &[YAML], DISK).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
    assert_eq!(
        made.json()["author"],
        "anonymous",
        "nobody is asked who they are here"
    );
    let path = format!("/api/v1/rules/{}", made.json()["id"].as_str().expect("an id"));
    let check =
        async |method: &str, path: &str, headers: &[(&str, &str)], body: &str, status: u16, words: &str| {
            let reply = ask(&rig, (method, path), "", headers, body).await;
            assert_eq!(reply.status.as_u16(), status, "{method} {path}: {:?}", reply.body);
            assert!(
                reply.text().contains(words),
                "{words} is missing in {}",
                reply.text()
            );
            reply.json()
        };
    check(
        "POST",
        "/api/v1/rules",
        &[YAML],
        DISK,
        409,
        "is called \\\"disk\\\" already",
    )
    .await;
    check("PUT", &path, &[YAML], DISK, 428, "If-Match").await;
    let stale = format!("version: 7\n{DISK}");
    let told = check("PUT", &path, &[YAML], &stale, 409, "version 1 stands, not 7").await;
    assert_eq!(told["current"]["name"], "disk");
    check(
        "PUT",
        &path,
        &[YAML, ("if-match", "\"9\"")],
        DISK,
        412,
        "version 1 stands, not 9",
    )
    .await;
    check("PUT", &path, &[YAML, ("if-match", "new")], DISK, 400, "If-Match").await;
    check(
        "POST",
        "/api/v1/rules",
        &[("content-type", "text/plain")],
        DISK,
        415,
        "application/yaml",
    )
    .await;
    check("POST", "/api/v1/rules?coment=x", &[YAML], DISK, 400, "coment").await;
    let nowhere = "/api/v1/rules/018f2d3a-0000-7000-8000-000000000000";
    check(
        "PUT",
        nowhere,
        &[YAML, ("if-match", "1")],
        DISK,
        404,
        "no rule group",
    )
    .await;
    check("DELETE", nowhere, &[], "", 404, "no rule group").await;
    check(
        "GET",
        "/api/v1/rules/host",
        &[],
        "",
        404,
        "groups of files have none",
    )
    .await;
    let huge = "#".repeat(300 << 10);
    check("POST", "/api/v1/rules", &[YAML], &huge, 413, "262144").await;

    let faulty = "name: g\nrules:\n- alert: A\n  expr: sum(\n- record: r\n  expr: up\n  for: 5m\n";
    let told = check("POST", "/api/v1/rules", &[YAML], faulty, 400, "bad-rules").await;
    let places: Vec<(&Value, &Value)> = told["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|fault| (&fault["line"], &fault["rule"]))
        .collect();
    assert_eq!(places, [(&json!(4), &json!("A")), (&json!(7), &json!("r"))]);
    let list = get(rig.address, "/api/v1/rules").await.json();
    assert_eq!(
        list["items"].as_array().map(Vec::len),
        Some(1),
        "nothing faulty was kept"
    );
}

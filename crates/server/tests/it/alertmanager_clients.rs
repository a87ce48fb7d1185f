//! What karma and Grafana ask of an Alertmanager, replayed: the requests as their code makes them, the answers as their
//! code reads them; and what holds for every client of that surface.
//!
//! Written down from karma's source (`internal/mapper/v017`, `internal/verprobe`, 2026) and Grafana's
//! (`plugins/datasource/alertmanager`, `features/alerting/unified`, `ngalert/api/lotex_am.go`, 2026).

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Request, StatusCode};
use marketprism_access::Config as AccessConfig;
use marketprism_model::{Level, Role};
use marketprism_server::Config;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::alertmanager_peer::our_config;
use crate::people;
use crate::reply::{Reply, get, send};
use crate::rig::{Rig, Rooms, START};

/// What karma reads of a group, of an alert and of a silence; a missing key would be an error there or here.
#[derive(Deserialize)]
struct KarmaGroup {
    labels: BTreeMap<String, String>,
    receiver: KarmaReceiver,
    alerts: Vec<KarmaAlert>,
}

#[derive(Deserialize)]
struct KarmaReceiver {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KarmaAlert {
    starts_at: String,
    annotations: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    fingerprint: String,
    #[serde(default, rename = "generatorURL")]
    generator_url: String,
    status: KarmaStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KarmaStatus {
    state: String,
    inhibited_by: Vec<String>,
    silenced_by: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KarmaSilence {
    id: String,
    starts_at: String,
    ends_at: String,
    created_by: String,
    comment: String,
    matchers: Vec<KarmaMatcher>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KarmaMatcher {
    name: String,
    value: String,
    is_regex: bool,
    is_equal: Option<bool>,
}

/// A rig with routes, an inhibition, an alert of our own and two of others.
async fn house() -> (Rig, String) {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    rig.rooms.alerts.set_config(our_config()).expect("good settings");
    rig.rooms.raise(
        "HostDown",
        Level::Critical,
        Duration::ZERO,
        &[("instance", "a")],
        0.0,
    );
    let operator = people::bearer(&access, "chen", Role::Operator);
    let body = json!([
        { "labels": { "alertname": "Slow", "severity": "warning", "instance": "a" } },
        { "labels": { "alertname": "Full", "team": "db" }, "generatorURL": "http://vm/x" },
    ]);
    let reply = post(&rig, "alerts", &operator, &body).await;
    assert_eq!((reply.status, reply.text()), (StatusCode::OK, ""));
    (rig, operator)
}

async fn post(rig: &Rig, path: &str, authorization: &str, body: &Value) -> Reply {
    let request = people::json("POST", &format!("/alertmanager/api/v2/{path}"), authorization);
    send(rig.address, request, body.to_string()).await
}

async fn ask(rig: &Rig, path: &str, authorization: &str) -> Reply {
    let request = Request::get(path).header("authorization", authorization);
    send(rig.address, request, "").await
}

fn is_moment(text: &str) -> bool {
    text.len() == 24 && text.parse::<jiff::Timestamp>().is_ok()
}

#[tokio::test]
async fn karma_reads_groups_silences_and_the_version() {
    let (rig, operator) = house().await;
    let metrics = ask(&rig, "/alertmanager/metrics", &operator).await;
    let version = metrics
        .text()
        .lines()
        .find(|line| line.starts_with("alertmanager_build_info{version=\"0.34.0\""));
    assert!(version.is_some(), "{}", metrics.text());
    // Karma makes a silence for what it shows, with the name of whoever is logged in there.
    let silence = json!({
        "matchers": [{ "name": "alertname", "value": "Full", "isRegex": false, "isEqual": true }],
        "startsAt": "2026-08-01T09:30:00.000Z", "endsAt": "2026-08-01T10:30:00.000Z",
        "createdBy": "li@example.com", "comment": "karma",
    });
    let made = post(&rig, "silences", &operator, &silence).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    let id = made.json()["silenceID"].as_str().expect("an id").to_owned();

    let reply = ask(&rig, "/alertmanager/api/v2/silences", &operator).await;
    let silences: Vec<KarmaSilence> = serde_json::from_slice(&reply.body).expect("karma's shape");
    let [one] = &silences[..] else {
        panic!("{}", reply.text())
    };
    assert_eq!((&one.id, one.comment.as_str()), (&id, "karma"));
    assert_eq!(one.created_by, "li@example.com (chen)");
    assert!(is_moment(&one.starts_at) && is_moment(&one.ends_at));
    let matcher = &one.matchers[0];
    assert_eq!(
        (matcher.name.as_str(), matcher.value.as_str()),
        ("alertname", "Full")
    );
    assert_eq!((matcher.is_regex, matcher.is_equal), (false, Some(true)));

    let reply = ask(&rig, "/alertmanager/api/v2/alerts/groups", &operator).await;
    let groups: Vec<KarmaGroup> = serde_json::from_slice(&reply.body).expect("karma's shape");
    let mut told: Vec<(String, String, String, usize, usize)> = Vec::new();
    for group in &groups {
        for alert in &group.alerts {
            assert!(is_moment(&alert.starts_at), "{}", alert.starts_at);
            assert_eq!(alert.fingerprint.len(), 16);
            assert_eq!(group.labels["alertname"], alert.labels["alertname"]);
            assert_eq!(
                alert.labels["alertname"] == "HostDown",
                !alert.annotations.is_empty()
            );
            let link = match alert.labels["alertname"].as_str() {
                "HostDown" => "/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
                "Full" => "http://vm/x",
                _ => "",
            };
            assert_eq!(alert.generator_url, link);
            told.push((
                group.receiver.name.clone(),
                alert.labels["alertname"].clone(),
                alert.status.state.clone(),
                alert.status.silenced_by.len(),
                alert.status.inhibited_by.len(),
            ));
        }
    }
    let row = |receiver: &str, name: &str, state: &str, silenced, inhibited| {
        (
            receiver.to_owned(),
            name.to_owned(),
            state.to_owned(),
            silenced,
            inhibited,
        )
    };
    let expected = [
        row("database", "Full", "suppressed", 1, 0),
        row("everyone", "HostDown", "active", 0, 0),
        row("everyone", "Slow", "suppressed", 0, 1),
    ];
    assert_eq!(told, expected);
    // Karma ends it.
    let path = format!("/alertmanager/api/v2/silence/{id}");
    let ended = send(rig.address, people::json("DELETE", &path, &operator), "").await;
    assert_eq!(ended.status, StatusCode::OK);
    let shown = ask(&rig, &path, &operator).await.json();
    assert_eq!(shown["status"]["state"], "expired", "{shown}");
}

/// "Save & test" asks first for a Mimir's path, and a 200 there would break it; 404 must never be a page.
#[tokio::test]
async fn grafana_finds_an_alertmanager_and_no_mimir() {
    let (rig, operator) = house().await;
    for path in [
        "/alertmanager/alertmanager/api/v2/status",
        "/alertmanager/api/v1/status/buildinfo",
        "/alertmanager/api/v1/alerts",
        "/alertmanager/",
        "/alertmanager",
    ] {
        let reply = ask(&rig, path, &operator).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!reply.text().contains("<html"), "{path}");
    }
    let status = ask(&rig, "/alertmanager/api/v2/status", &operator).await.json();
    assert!(
        status["config"]["original"]
            .as_str()
            .is_some_and(|text| text.contains("database"))
    );
    assert_eq!(status["versionInfo"]["version"], "0.34.0");
    assert_eq!(status["cluster"], json!({ "status": "disabled", "peers": [] }));
    assert_eq!(status["uptime"], "2026-08-01T09:30:00.000Z");
    // The lists of its pages, as its proxy passes them on.
    let query = "filter=alertname%3D%22HostDown%22&silenced=true&inhibited=true&active=true";
    let alerts = ask(&rig, &format!("/alertmanager/api/v2/alerts?{query}"), &operator)
        .await
        .json();
    assert_eq!(alerts.as_array().map(Vec::len), Some(1), "{alerts}");
    for key in [
        "annotations",
        "endsAt",
        "fingerprint",
        "receivers",
        "startsAt",
        "updatedAt",
        "labels",
        "generatorURL",
    ] {
        assert!(alerts[0].get(key).is_some(), "{key} in {alerts}");
    }
    let state = json!({ "state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": [] });
    assert_eq!(alerts[0]["status"], state);
    // An alert of our own stands until it is seen no more: so long a client that counts on it may wait.
    assert_eq!(alerts[0]["endsAt"], "2026-08-01T09:35:00.000Z");
    // Its form sends an id of null for a new silence, and changes one by its id.
    let silence = |id: Value, until: &str| {
        json!({
            "id": id, "comment": "made in Grafana", "createdBy": "chen",
            "startsAt": "2026-08-01T09:30:00.000Z", "endsAt": until,
            "matchers": [{ "name": "instance", "value": "a", "isRegex": false, "isEqual": true }],
        })
    };
    let made = post(
        &rig,
        "silences",
        &operator,
        &silence(Value::Null, "2026-08-01T11:30:00.000Z"),
    )
    .await;
    let id = made.json()["silenceID"].clone();
    let changed = post(
        &rig,
        "silences",
        &operator,
        &silence(id.clone(), "2026-08-01T12:30:00.000Z"),
    )
    .await;
    assert_eq!(changed.json()["silenceID"], id);
}

#[tokio::test]
async fn a_muted_group_is_suppressed_and_may_be_left_out() {
    let (rig, operator) = house().await;
    let mut config = our_config();
    config.time_intervals = serde_json::from_value(json!([
        { "name": "mornings", "time_intervals": [{ "times": [{ "start_time": "09:00", "end_time": "10:00" }] }] },
    ]))
    .expect("Alertmanager's words");
    config.route.routes[0].mute_time_intervals = vec!["mornings".to_owned()];
    rig.rooms.alerts.set_config(config).expect("good settings");
    let groups = ask(
        &rig,
        "/alertmanager/api/v2/alerts/groups?receiver=database",
        &operator,
    )
    .await
    .json();
    let status =
        json!({ "state": "suppressed", "silencedBy": [], "inhibitedBy": [], "mutedBy": ["mornings"] });
    assert_eq!(groups[0]["alerts"][0]["status"], status, "{groups}");
    let rest = ask(&rig, "/alertmanager/api/v2/alerts/groups?muted=false", &operator)
        .await
        .json();
    assert_eq!(rest.as_array().map(Vec::len), Some(2), "{rest}");
    // The list of alerts does not tell of groups.
    let alerts = ask(&rig, "/alertmanager/api/v2/alerts?receiver=database", &operator)
        .await
        .json();
    assert_eq!(alerts[0]["status"]["state"], "active", "{alerts}");
}

#[tokio::test]
async fn refusals_are_texts_and_acts_leave_their_line() {
    let (rig, access) = Rig::guarded(Config::default(), &AccessConfig::default()).await;
    let viewer = people::bearer(&access, "bob", Role::Viewer);
    let admin = people::bearer(&access, "root", Role::Admin);
    let nobody = get(rig.address, "/alertmanager/api/v2/alerts").await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    assert!(nobody.json().is_string(), "{}", nobody.text());
    let refused = post(&rig, "alerts", &viewer, &json!([])).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.json().is_string(), "{}", refused.text());
    let silence = json!({
        "matchers": [{ "name": "a", "value": ".+", "isRegex": true }], "createdBy": "root", "comment": "x",
        "startsAt": "2026-08-01T09:30:00Z", "endsAt": "2026-08-01T10:30:00Z",
    });
    let wide = post(&rig, "silences", &admin, &silence).await;
    assert_eq!(wide.status, StatusCode::BAD_REQUEST);
    assert!(
        wide.json()
            .as_str()
            .is_some_and(|words| words.contains("confirm")),
        "{}",
        wide.text()
    );
    let mut meant = silence.clone();
    meant["annotations"] = json!({ "confirm": "true" });
    let made = post(&rig, "silences", &admin, &meant).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    let lines = ask(&rig, "/api/v1/audit?action=silence.put", &admin).await.json();
    // Both within one millisecond, so in any order.
    let id = made.json()["silenceID"].as_str().expect("an id").to_owned();
    let mut kept: Vec<[&str; 3]> = lines["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| ["actor", "subject", "outcome"].map(|key| line[key].as_str().unwrap_or("")))
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, [["root", "", "failed"], ["root", &id, "done"]], "{lines}");
}

/// The answer is written as it leaves, so it must be whole whatever its length, and compressed where that is wanted.
#[tokio::test]
async fn thousands_of_alerts_come_whole_and_in_order() {
    const COUNT: usize = 3000;
    let rooms = Rooms::new(START);
    let config = marketprism_alerts::Config {
        max_active_alerts: 2 * COUNT,
        ..our_config()
    };
    rooms.alerts.set_config(config).expect("good settings");
    let rig = Rig::start_with(Config::default(), rooms).await;
    let alert = |at: usize| json!({ "labels": { "alertname": "Many", "number": at.to_string() } });
    let body: Vec<Value> = (0..COUNT).map(alert).collect();
    let request = Request::post("/alertmanager/api/v2/alerts").header("content-type", "application/json");
    let reply = send(rig.address, request, Value::from(body).to_string()).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    for path in ["alerts", "alerts/groups"] {
        let plain = get(rig.address, &format!("/alertmanager/api/v2/{path}")).await;
        let packed = Request::get(format!("/alertmanager/api/v2/{path}")).header("accept-encoding", "gzip");
        let packed = send(rig.address, packed, "").await;
        assert_eq!(packed.header("content-encoding"), "gzip");
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(&*packed.body);
        std::io::Read::read_to_string(&mut decoder, &mut text).expect("it is gzip");
        assert!(text == plain.text(), "{path}");
        let told = plain.json();
        let alerts = if path == "alerts" {
            &told
        } else {
            &told[0]["alerts"]
        };
        let alerts = alerts.as_array().expect("a list");
        assert_eq!(alerts.len(), COUNT);
        if path == "alerts" {
            let prints: Vec<_> = alerts.iter().map(|alert| alert["fingerprint"].as_str()).collect();
            assert!(prints.is_sorted());
        }
    }
}

//! Next to Debian's Alertmanager with the same routes, alerts and silences: same answers, same status codes.
//!
//! Compared is everything but moments, ids and versions. What this Alertmanager (0.25) does not know and newer ones do
//! is left out by name; where we answer otherwise on purpose, the table says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use http::{Method, Request};
use marketprism_alerts::routing::{InhibitRuleConfig, RouteConfig};
use marketprism_alerts::{Config as AlertsConfig, Receiver};
use marketprism_model::Clock as _;
use marketprism_server::Config;
use marketprism_testkit::{ChildGuard, MachineClock, ManualClock, free_port};
use serde_json::{Value, json};

use crate::reply::{Reply, encoded, send};
use crate::rig::{Rig, Rooms};

/// A real process may be slow to start on a loaded machine; the wait ends as soon as it is there.
const TRIES: usize = 600;
const PAUSE: Duration = Duration::from_millis(100);

const PEER_CONFIG: &str = r#"
route:
  receiver: default
  group_by: [alertname]
  group_wait: 0s
  routes:
    - {receiver: database, matchers: ['team="db"'], continue: true}
    - {receiver: everyone, matchers: ['severity=~"critical|warning"']}
receivers: [{name: default}, {name: database}, {name: everyone}]
inhibit_rules:
  - {source_matchers: ['severity="critical"'], target_matchers: ['severity="warning"'], equal: [instance]}
"#;

/// The same in our words.
pub fn our_config() -> AlertsConfig {
    let route = |receiver: &str, matcher: &str, is_continuing: bool| RouteConfig {
        receiver: Some(receiver.to_owned()),
        matchers: vec![matcher.to_owned()],
        is_continuing,
        ..RouteConfig::default()
    };
    AlertsConfig {
        settle: Duration::ZERO,
        route: RouteConfig {
            group_wait: Some(Duration::ZERO),
            routes: vec![
                route("database", "team=\"db\"", true),
                route("everyone", "severity=~\"critical|warning\"", false),
            ],
            ..RouteConfig::root("default", &["alertname"])
        },
        receivers: ["default", "database", "everyone"]
            .map(|name| Receiver {
                name: name.to_owned(),
                channels: Vec::new(),
            })
            .to_vec(),
        inhibit_rules: vec![InhibitRuleConfig {
            source_matchers: vec!["severity=\"critical\"".to_owned()],
            target_matchers: vec!["severity=\"warning\"".to_owned()],
            equal: vec!["instance".to_owned()],
            ..InhibitRuleConfig::default()
        }],
        ..AlertsConfig::default()
    }
}

const ALERTS: &str = r#"[
    {"labels":{"alertname":"Down","team":"db","instance":"a","severity":"critical","empty":""},
     "annotations":{"summary":"it is \"down\""},"generatorURL":"http://prometheus/graph?g0.expr=up"},
    {"labels":{"alertname":"Slow","team":"db","instance":"a","severity":"warning"}},
    {"labels":{"alertname":"Slow","team":"db","instance":"b","severity":"warning","job":"x"},"startsAt":"2026-01-01T00:00:00+08:00"},
    {"labels":{"alertname":"Full","disk":"/data"},"endsAt":"2036-01-01T00:00:00Z","startsAt":"0001-01-01T00:00:00.000Z"},
    {"labels":{"alertname":"Over"},"startsAt":"2026-01-01T00:00:00Z","endsAt":"2026-01-02T00:00:00Z"}
]"#;

struct Sides {
    /// Our hands; each request is later than the one before, as with the peer.
    clock: ManualClock,
    ours: SocketAddr,
    theirs: SocketAddr,
    /// The ids of silences on either side, in the order in which they were made.
    silences: [Vec<String>; 2],
}

/// One request, answered by both.
struct Pair {
    what: String,
    ours: Reply,
    theirs: Reply,
}

impl Sides {
    async fn ask(&self, method: &str, path: &str, body: &str) -> Pair {
        let request = |prefix: &str, side: usize| {
            let mut named = path.to_owned();
            let mut sent = body.to_owned();
            for (at, id) in self.silences[side].iter().enumerate() {
                named = named.replace(&format!("<silence {at}>"), id);
                sent = sent.replace(&format!("<silence {at}>"), id);
            }
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let request = Request::builder()
                .method(method)
                .uri(format!("{prefix}{named}"))
                .header("content-type", "application/json");
            (request, sent)
        };
        self.clock.advance(Duration::from_millis(5));
        let (request_one, sent_one) = request("/alertmanager", 0);
        let (request_other, sent_other) = request("", 1);
        Pair {
            what: format!("{method} {path} {body}"),
            ours: send(self.ours, request_one, sent_one).await,
            theirs: send(self.theirs, request_other, sent_other).await,
        }
    }

    /// Takes away what differs by nature: moments, ids, versions.
    fn plain(&self, value: &mut Value, side: usize) {
        match value {
            Value::String(text) => {
                if text.len() >= 24 && text.parse::<jiff::Timestamp>().is_ok() {
                    *text = "<moment>".to_owned();
                }
                for (at, id) in self.silences[side].iter().enumerate() {
                    *text = text.replace(id, &format!("<silence {at}>"));
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.plain(item, side)),
            Value::Object(map) => {
                if side == 0 {
                    // Unknown to 0.25: the time intervals that mute, labels of routes, annotations of silences.
                    map.remove("mutedBy");
                    map.remove("routeLabels");
                    if map.contains_key("matchers") {
                        map.remove("annotations");
                    }
                }
                map.values_mut().for_each(|value| self.plain(value, side));
            }
            _ => {}
        }
    }

    /// Holds both answers against each other; `codes` maps their status to ours where they differ on purpose.
    fn compare(&self, pair: &Pair, codes: &BTreeMap<u16, u16>) -> Option<String> {
        let (ours, theirs) = (pair.ours.status.as_u16(), pair.theirs.status.as_u16());
        let expected = codes.get(&theirs).copied().unwrap_or(theirs);
        if ours != expected {
            let (one, other) = (pair.ours.text(), pair.theirs.text());
            return Some(format!("{}: {ours} {one}, not {expected} {other}", pair.what));
        }
        if theirs != 200 {
            // A strict client reads a text, where it reads anything.
            let is_text = pair.ours.body.is_empty() || pair.ours.json().is_string();
            return (!is_text).then(|| format!("{}: {}", pair.what, pair.ours.text()));
        }
        let read = |reply: &Reply, side: usize| match reply.body.is_empty() {
            true => Value::Null,
            false => {
                let mut value = reply.json();
                self.plain(&mut value, side);
                value
            }
        };
        let (one, other) = (read(&pair.ours, 0), read(&pair.theirs, 1));
        (one != other).then(|| format!("{}:\n  ours   {one}\n  theirs {other}", pair.what))
    }
}

/// Starts the peer; gives its address.
async fn peer(home: &std::path::Path) -> (ChildGuard, SocketAddr) {
    let binary = "/usr/bin/prometheus-alertmanager";
    assert!(
        std::path::Path::new(binary).exists(),
        "prometheus-alertmanager is missing; run: apt-get install prometheus-alertmanager"
    );
    let file = home.join("alertmanager.yml");
    std::fs::write(&file, PEER_CONFIG).expect("write the configuration");
    let port = free_port();
    let child = ChildGuard::spawn(
        Command::new(binary)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", home.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address="),
    )
    .expect("start Alertmanager");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 0..TRIES {
        if std::net::TcpStream::connect(address).is_ok() {
            return (child, address);
        }
        MachineClock::default().sleep(PAUSE).await;
    }
    panic!("Alertmanager does not listen:\n{}", child.output());
}

#[tokio::test]
async fn clients_of_alertmanager_are_answered_as_debians_answers_them() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let (_child, theirs) = peer(home.path()).await;
    let rooms = Rooms::new(MachineClock::default().now());
    rooms.alerts.set_config(our_config()).expect("good settings");
    let rig = Rig::start_with(Config::default(), rooms).await;
    let mut sides = Sides {
        clock: rig.rooms.clock.clone(),
        ours: rig.address,
        theirs,
        silences: [Vec::new(), Vec::new()],
    };
    let mut wrong = Vec::new();
    let same = BTreeMap::new();
    // Ours is a text where go-openapi has an object of its own, and 400 where it has 422.
    let strict = BTreeMap::from([(422, 400)]);
    for path in ["alerts", "alerts/groups", "silences", "receivers"] {
        let pair = sides.ask("GET", &format!("/api/v2/{path}"), "").await;
        wrong.extend(sides.compare(&pair, &same));
    }
    let sent = sides.ask("POST", "/api/v2/alerts", ALERTS).await;
    wrong.extend(sides.compare(&sent, &same));
    settle(&sides).await;

    for query in QUERIES {
        for path in ["alerts", "alerts/groups"] {
            let (name, value) = query.split_once('=').unwrap_or((query, ""));
            let path = match value {
                "" => format!("/api/v2/{path}?{query}"),
                value => format!("/api/v2/{path}?{name}={}", encoded(value)),
            };
            let pair = sides.ask("GET", &path, "").await;
            wrong.extend(sides.compare(&pair, &same));
        }
    }
    for body in BAD_ALERTS {
        let pair = sides.ask("POST", "/api/v2/alerts", body).await;
        wrong.extend(sides.compare(&pair, &strict));
    }
    silences(&mut sides, &mut wrong).await;
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// Waits until the peer has passed its alerts through its groups.
async fn settle(sides: &Sides) {
    for _ in 0..TRIES {
        let pair = sides.ask("GET", "/api/v2/alerts", "").await;
        let answer = pair.theirs.json();
        let alerts = answer.as_array().expect("a list");
        let is_processed = |alert: &Value| alert["status"]["state"] != "unprocessed";
        let groups = sides.ask("GET", "/api/v2/alerts/groups", "").await.theirs.json();
        if alerts.len() == 4 && alerts.iter().all(is_processed) && groups.as_array().map(Vec::len) == Some(5)
        {
            return;
        }
        MachineClock::default().sleep(PAUSE).await;
    }
    panic!("the peer has not processed its alerts");
}

const QUERIES: &[&str] = &[
    "x",
    "filter=alertname=\"Slow\"",
    "filter=alertname=~\"S.*\"",
    "filter=alertname!=\"Slow\"",
    "filter=alertname=~\"S\"",
    "filter=disk=\"\"",
    "filter=disk!=\"\"",
    "filter=absent=~\".*\"",
    "filter=absent!~\".+\"",
    "filter=nonsense",
    "filter=",
    "filter=a=~\"[\"",
    "filter=alertname=Slow",
    "receiver=data",
    "receiver=data.*",
    "receiver=default|everyone",
    "receiver=[",
    "receiver=",
    "active=false",
    "active=maybe",
    "active=",
    "silenced=false",
    "inhibited=false",
    "inhibited=0",
    "unprocessed=false",
    "nonsense=1",
];

const BAD_ALERTS: &[&str] = &[
    "",
    "x",
    "{}",
    "[{}]",
    "[]",
    "null",
    r#"[{"labels":{}}]"#,
    r#"[{"labels":{"empty":""}}]"#,
    r#"[{"labels":{"a":1}}]"#,
    r#"[{"labels":{"a":"b"},"startsAt":"yesterday"}]"#,
    r#"[{"labels":{"a":"b"},"startsAt":"2026-01-02T00:00:00Z","endsAt":"2026-01-01T00:00:00Z"}]"#,
];

async fn silences(sides: &mut Sides, wrong: &mut Vec<String>) {
    let whole = |matchers: &str| {
        format!(
            r#"{{"matchers":{matchers},"startsAt":"2026-01-01T00:00:00Z","endsAt":"2036-01-01T00:00:00Z","createdBy":"chen","comment":"work"}}"#
        )
    };
    let one = whole(r#"[{"name":"disk","value":"/data","isRegex":false}]"#);
    let other = whole(
        r#"[{"name":"alertname","value":"D.*","isRegex":true,"isEqual":true},{"name":"team","value":"x","isRegex":false,"isEqual":false}]"#,
    );
    // Those that are active come in the order of their ends.
    for body in [&one, &other.replace("2036", "2037")] {
        make(sides, wrong, body).await;
    }
    let same = BTreeMap::new();
    for path in [
        "silences",
        "silence/<silence 0>",
        "alerts",
        "alerts/groups",
        "alerts?silenced=false",
        "alerts?active=false",
        "silences?filter=disk%3D%22%2Fdata%22",
        "silences?filter=disk%3D~%22%2Fdata%22",
        "silences?filter=nonsense",
    ] {
        let pair = sides.ask("GET", &format!("/api/v2/{path}"), "").await;
        wrong.extend(sides.compare(&pair, &same));
    }
    // Another start of an active one makes another silence, as other matchers do; the old one ends.
    let named = |body: &str| body.replace("{\"matchers\"", "{\"id\":\"<silence 0>\",\"matchers\"");
    make(
        sides,
        wrong,
        &named(&one).replace("work", "more work").replace("2036", "2035"),
    )
    .await;
    make(sides, wrong, &named(&one).replace("/data", "/var")).await;
    let bad = BTreeMap::from([(422, 400)]);
    for body in [
        "{}",
        "x",
        "",
        &whole("[]"),
        &whole(r#"[{"name":"a","value":"","isRegex":false}]"#),
        &whole(r#"[{"name":"a","value":".*","isRegex":true}]"#),
        &whole(r#"[{"name":"a","value":"[","isRegex":true}]"#),
        &whole(r#"[{"name":"a","value":"b"}]"#),
        &one.replace("2036", "2025"),
        &one.replace("2036", "2026"),
        &one.replace("{\"matchers\"", "{\"id\":\"nonsense\",\"matchers\""),
        &one.replace(
            "{\"matchers\"",
            "{\"id\":\"00000000-0000-4000-8000-000000000000\",\"matchers\"",
        ),
    ] {
        let pair = sides.ask("POST", "/api/v2/silences", body).await;
        wrong.extend(sides.compare(&pair, &bad));
    }
    // Newer ones say 404 of what is not there, as their API always promised; ours says so of what is no id, too.
    let gone = BTreeMap::from([(500, 404), (422, 404)]);
    for id in [
        "<silence 1>",
        "<silence 1>",
        "<silence 0>",
        "00000000-0000-4000-8000-000000000000",
        "nonsense",
    ] {
        for method in ["DELETE", "GET"] {
            let pair = sides.ask(method, &format!("/api/v2/silence/{id}"), "").await;
            wrong.extend(sides.compare(&pair, &gone));
        }
    }
    let pair = sides.ask("GET", "/api/v2/silences", "").await;
    wrong.extend(sides.compare(&pair, &same));
}

/// Makes a silence on both sides and remembers its ids.
async fn make(sides: &mut Sides, wrong: &mut Vec<String>, body: &str) {
    let pair = sides.ask("POST", "/api/v2/silences", body).await;
    for (side, reply) in [&pair.ours, &pair.theirs].into_iter().enumerate() {
        match reply.json()["silenceID"].as_str() {
            Some(id) => sides.silences[side].push(id.to_owned()),
            None => wrong.push(format!("{}: {side}: {}", pair.what, reply.text())),
        }
    }
    let keys = |reply: &Reply| {
        json!(
            reply
                .json()
                .as_object()
                .map(|map| map.keys().cloned().collect::<Vec<_>>())
        )
    };
    if keys(&pair.ours) != keys(&pair.theirs) {
        wrong.push(format!(
            "{}: {} {}",
            pair.what,
            pair.ours.text(),
            pair.theirs.text()
        ));
    }
}

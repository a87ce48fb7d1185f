//! `POST /api/v1/rules/backtest`: what rules would have done with the data that is stored.

use std::sync::Arc;

use http::{Request, StatusCode};
use marketprism_model::Labels;
use marketprism_promql::{Engine, EngineConfig};
use marketprism_rules::{FileRules, Group, GroupDefaults, Installation, RuleSet, RulesSnapshot, parse_file};
use marketprism_server::Config;
use serde_json::{Value, json};

use crate::reply::{Reply, send};
use crate::rig::{Rig, Rooms, START};

const RULES: &str = "groups:\n- name: g\n  interval: 1m\n  rules:\n  - {alert: Hot, expr: temperature > 80, for: 2m, labels: {severity: critical}}\n";

async fn ask(rig: &Rig, body: &Value) -> Reply {
    let request = Request::builder()
        .method("POST")
        .uri("/api/v1/rules/backtest")
        .header("content-type", "application/json");
    send(rig.address, request, body.to_string()).await
}

/// An hour of two rooms: the first is hot for ten minutes, twenty minutes ago.
fn rooms() -> Rooms {
    let rooms = Rooms::new(START);
    for room in ["server", "office"] {
        let labels = Labels::from_pairs([("__name__", "temperature"), ("room", room)]);
        let samples: Vec<(u64, f64)> = (0..=60)
            .rev()
            .map(|minutes| {
                let is_hot = room == "server" && (11..=20).contains(&minutes);
                (minutes * 60, if is_hot { 90.0 } else { 40.0 })
            })
            .collect();
        rooms.append(&labels, &samples);
    }
    rooms
}

fn hour(rules: Value) -> Value {
    let start = START - std::time::Duration::from_secs(3600);
    json!({ "rules": rules, "start": start.to_string(), "end": START.to_string() })
}

#[tokio::test]
async fn a_backtest_answers_what_would_have_fired_and_who_would_have_heard() {
    let rig = Rig::start_with(Config::default(), rooms()).await;
    let as_json = json!({ "groups": [{ "name": "g", "interval": "1m", "rules": [
        { "alert": "Hot", "expr": "temperature > 80", "for": "2m", "labels": { "severity": "critical" } }
    ] }] });
    for rules in [json!(RULES), as_json] {
        let answer = ask(&rig, &hour(rules)).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        let told = answer.json();
        assert_eq!(told["method"], "columns");
        assert_eq!(told["evaluations"], 60);
        let rule = &told["rules"][0];
        assert_eq!(
            (&rule["fired"], &rule["flaps"], &rule["failures"]),
            (&json!(1), &json!(0), &json!(0))
        );
        let alert = &rule["alerts"][0];
        assert_eq!(
            alert["labels"],
            json!({"alertname": "Hot", "room": "server", "severity": "critical"})
        );
        // Ten evaluations see it, two of which wait.
        assert_eq!(alert["firing_s"], 480.0);
        let states: Vec<&Value> = alert["stretches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["state"])
            .collect();
        assert_eq!(states, ["pending", "firing"]);
        // Mail hears of the beginning and of the end.
        assert_eq!(told["notifications"]["by_channel"], json!({"mail": 2}));
        assert_eq!(told["notifications"]["is_supposed"], false);
        assert_eq!(told["present"], Value::Null);
    }
    // Nothing of it is real.
    assert!(rig.rooms.alerts.active().is_empty());
}

#[tokio::test]
async fn a_backtest_is_drawn_in_the_language_that_is_asked_for() {
    let rig = Rig::start_with(Config::default(), rooms()).await;
    let mut body = hour(json!(RULES));
    body["format"] = json!("svg");
    for (language, title) in [("zh", "规则回测"), ("en", "Backtest of rules")] {
        body["language"] = json!(language);
        let answer = ask(&rig, &body).await;
        assert_eq!(answer.header("content-type"), "image/svg+xml; charset=utf-8");
        let picture = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(
            picture.starts_with("<svg ") && picture.contains(title),
            "{picture}"
        );
        assert!(
            picture.contains("room=server") && !picture.contains("room=office"),
            "{picture}"
        );
        assert!(picture.contains("class=\"critical\""), "{picture}");
    }
}

#[tokio::test]
async fn a_backtest_is_run_under_the_settings_that_rules_run_under() {
    let rig = Rig::start_with(Config::default(), rooms()).await;
    let files = FileRules {
        defaults: GroupDefaults {
            interval: std::time::Duration::from_secs(120),
            ..GroupDefaults::default()
        },
        installation: Installation {
            external_labels: Labels::from_pairs([("site", "north")]),
            external_url: "https://here.test".to_owned(),
        },
        is_on: true,
        ..FileRules::default()
    };
    rig.rooms.rulebook.set_files(files).await.unwrap();
    let rules = "groups:\n- name: g\n  rules:\n  - {alert: Hot, expr: temperature > 80, labels: {from: '{{ $externalLabels.site }} {{ $externalURL }}'}}\n";
    let told = ask(&rig, &hour(json!(rules))).await.json();
    let rule = &told["rules"][0];
    assert_eq!(
        (&rule["interval_s"], &rule["evaluations"]),
        (&json!(120.0), &json!(30))
    );
    assert_eq!(rule["alerts"][0]["labels"]["from"], "north https://here.test");
}

#[tokio::test]
async fn a_rule_is_compared_with_the_one_of_its_name_that_runs() {
    let mut rooms = rooms();
    let runs = RULES.replace("for: 2m", "for: 20m");
    let file = parse_file("rules.yml", runs.as_bytes(), &GroupDefaults::default()).unwrap();
    let set = RuleSet::new(file.groups, true);
    let engine = Engine::new(EngineConfig::default());
    rooms.rules = Arc::new(RulesSnapshot {
        groups: set
            .groups()
            .iter()
            .map(|spec| Arc::new(Group::new(spec, &engine).snapshot()))
            .collect(),
    });
    let rig = Rig::start_with(Config::default(), rooms).await;
    let mut body = hour(json!(RULES));
    body["compare"] = json!(true);
    let told = ask(&rig, &body).await.json();
    assert_eq!(
        (&told["rules"][0]["fired"], &told["present"]["rules"][0]["fired"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(
        (
            &told["notifications"]["total"],
            &told["present"]["notifications"]["total"]
        ),
        (&json!(2), &json!(0))
    );
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_with_the_reason() {
    let rig = Rig::start_with(Config::default(), rooms()).await;
    let refused = async |change: &dyn Fn(&mut Value)| {
        let mut body = hour(json!(RULES));
        change(&mut body);
        let answer = ask(&rig, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body} {:?}", answer.body);
        let told = answer.json();
        (
            told["detail"].as_str().unwrap_or_default().to_owned(),
            told["errors"].clone(),
        )
    };
    let (detail, errors) = refused(&|body| {
        body["rules"] = json!("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'up +'}\n")
    })
    .await;
    assert!(detail.starts_with("request:4:"), "{detail}");
    assert_eq!((&errors[0]["line"], &errors[0]["rule"]), (&json!(4), &json!("A")));
    let (detail, _) = refused(&|body| body["start"] = body["end"].clone()).await;
    assert!(detail.contains("range is empty"), "{detail}");
    let (detail, _) = refused(&|body| body["start"] = json!(0)).await;
    assert!(
        detail.contains("more than 5000000; shorten the range"),
        "{detail}"
    );
    let (detail, _) = refused(&|body| body["end"] = json!(253_402_300_799_i64)).await;
    assert!(detail.contains("must not end after the present"), "{detail}");
    let (detail, _) = refused(&|body| body["format"] = json!("png")).await;
    assert!(detail.contains("known are json, svg"), "{detail}");
    let (detail, _) = refused(&|body| body["step"] = json!("1ms")).await;
    assert!(detail.contains("step must be at least 1s"), "{detail}");
    let (detail, _) = refused(&|body| body["rules"] = json!("")).await;
    assert!(detail.contains("no rule"), "{detail}");
    let (detail, _) = refused(&|body| body["unknown"] = json!(1)).await;
    assert!(detail.contains("unknown"), "{detail}");
}

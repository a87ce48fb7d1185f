//! Rules made by API in the whole program: they fire, outlive a death, stand beside files, reach the next leader, and
//! their alerts end with them. And what a rule makes of missing data across a death.

use std::fs;

use marketprism_testkit::{FakeWebhook, is_true_within};
use serde_json::{Value, json};

use crate::exporter::Exporter;
use crate::program::{PATIENCE, Program, one_of_each};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn start(exporter: &Exporter, webhook: &FakeWebhook, rules: &str) -> Program {
    let mut program = Program::prepare(&one_of_each(exporter.address(), &webhook.url()));
    fs::write(program.home().join("rules.yaml"), rules).expect("write the rules");
    program.launch(&[]);
    program.wait_until_ready();
    program
}

fn alerts(program: &Program, state: &str) -> Vec<Value> {
    let list = program.get_json(&format!("/api/v1/alerts?state={state}"));
    list["items"].as_array().cloned().unwrap_or_default()
}

fn named<'a>(alerts: &'a [Value], name: &str) -> Option<&'a Value> {
    alerts.iter().find(|alert| alert["name"] == name)
}

fn wait_until(program: &Program, what: &str, is_true: impl FnMut() -> bool) {
    assert!(
        is_true_within(PATIENCE, is_true),
        "never: {what}; log:\n{}",
        program.log()
    );
}

const FILE: &str = "groups:\n- name: files\n  rules:\n  - {alert: OfFile, expr: broken == 1}\n";

#[test]
fn a_rule_made_by_api_fires_outlives_a_death_and_its_alert_ends_with_it() {
    let exporter = Exporter::start("broken 1\n");
    let webhook = FakeWebhook::start();
    let mut program = start(&exporter, &webhook, FILE);
    let group = json!({
        "name": "made",
        "comment": "值班新增",
        "rules": [
            { "alert": "OfApi", "expr": "broken == 1", "labels": { "severity": "high" } },
            { "record": "made:broken", "expr": "broken * 2" },
        ],
    });
    let (status, made) = program.send("POST", "/api/v1/rules", &[JSON], group.to_string().as_bytes());
    assert_eq!(status, 201, "{made}");
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let path = format!("/api/v1/rules/{}", made["id"].as_str().expect("an id"));
    assert_eq!((&made["author"], &made["version"]), (&json!("admin"), &json!(1)));
    wait_until(&program, "both fire", || {
        let firing = alerts(&program, "firing");
        named(&firing, "OfApi").is_some() && named(&firing, "OfFile").is_some()
    });
    let id = named(&alerts(&program, "firing"), "OfApi").expect("it fires")["id"].clone();
    wait_until(&program, "the record is written", || {
        program
            .query("made:broken")
            .first()
            .is_some_and(|(_, value)| *value == 2.0)
    });

    program.kill();
    program.launch(&[]);
    program.wait_until_ready();
    let stands = program.get_json(&path);
    assert_eq!(
        (&stands["name"], &stands["comment"]),
        (&json!("made"), &json!("值班新增"))
    );
    let prometheus = program.get_json("/prometheus/api/v1/rules?file[]=api");
    assert_eq!(prometheus["data"]["groups"][0]["name"], "made");
    assert_eq!(prometheus["data"]["groups"][0]["file"], "api");
    wait_until(&program, "it is evaluated again", || {
        let list = program.get_json("/prometheus/api/v1/rules?file[]=api");
        list["data"]["groups"][0]["rules"][0]["state"] == "firing"
    });
    let again = alerts(&program, "firing");
    assert_eq!(
        named(&again, "OfApi").map(|alert| &alert["id"]),
        Some(&id),
        "the same alert"
    );

    // Reading the files anew leaves it alone.
    fs::write(program.home().join("rules.yaml"), FILE.replace("OfFile", "Other")).expect("write the rules");
    let (status, words) = program.send("POST", "/-/reload", &[], b"");
    assert_eq!(status, 200, "{words}");
    wait_until(&program, "the file's rule is another", || {
        named(&alerts(&program, "firing"), "Other").is_some()
    });
    assert_eq!(
        named(&alerts(&program, "firing"), "OfApi").map(|alert| &alert["id"]),
        Some(&id)
    );

    let (status, words) = program.send("DELETE", &path, &[("If-Match", "\"1\"")], b"");
    assert_eq!(status, 204, "{words}");
    let resolved = alerts(&program, "resolved");
    let ended = named(&resolved, "OfApi").expect("it has ended at once");
    assert_eq!(ended["id"], id);
    let story = program.get_json(&format!("/api/v1/alerts/{}", id.as_str().expect("an id")));
    let reasons: Vec<&Value> = story["events"]
        .as_array()
        .expect("a story")
        .iter()
        .filter(|event| event["kind"] == "resolved")
        .map(|event| &event["reason"])
        .collect();
    assert_eq!(reasons, ["the rule was removed"]);
    assert!(
        named(&alerts(&program, "firing"), "Other").is_some(),
        "the file's rule goes on"
    );
    let ended = || program.query("made:broken").is_empty();
    wait_until(&program, "its series has ended", ended);
    let audit = program.get_json("/api/v1/audit?action=rules.delete");
    assert_eq!(audit["items"][0]["outcome"], "done");
}

#[test]
fn an_alert_that_is_kept_while_its_data_is_missing_outlives_a_death() {
    let exporter = Exporter::start("load{disk=\"a\"} 9\nload{disk=\"b\"} 1\n");
    let webhook = FakeWebhook::start();
    let rules = "groups:\n- name: g\n  rules:\n  - {alert: Kept, expr: load > 5, missing: keep}\n  - {alert: Plain, expr: load > 5}\n";
    let mut program = start(&exporter, &webhook, rules);
    wait_until(&program, "both fire", || alerts(&program, "firing").len() == 2);
    let id = named(&alerts(&program, "firing"), "Kept").expect("it fires")["id"].clone();
    exporter.set("load{disk=\"b\"} 1\n");
    wait_until(&program, "the plain one ends", || {
        alerts(&program, "firing").len() == 1
    });
    program.kill();
    program.launch(&[]);
    program.wait_until_ready();
    let mut evaluations = 0.0;
    wait_until(&program, "it is evaluated some times", || {
        let seen = program.query("marketprism_rule_group_iterations_total");
        evaluations = seen.first().map_or(0.0, |(_, value)| *value);
        let groups = program.get_json("/api/v1/rules");
        groups["items"][0]["iterations"]
            .as_u64()
            .is_some_and(|count| count > 4)
    });
    let firing = alerts(&program, "firing");
    assert_eq!(
        named(&firing, "Kept").map(|alert| &alert["id"]),
        Some(&id),
        "{evaluations}"
    );
    let shown = program.get_json("/api/v1/rules");
    assert_eq!(shown["items"][0]["rules"][0]["missing_count"], 1);
    exporter.set("load{disk=\"a\"} 1\nload{disk=\"b\"} 1\n");
    wait_until(&program, "data that is well ends it", || {
        alerts(&program, "firing").is_empty()
    });
}

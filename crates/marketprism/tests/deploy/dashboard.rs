//! The Grafana dashboard and its provisioning: every query is asked of the running program.

use std::fs;

use marketprism_testkit::{FakeWebhook, is_true_within};
use serde_json::Value;

use crate::compose;
use crate::files::{document, files_below, read};
use crate::program::{PATIENCE, Program};

const DASHBOARD: &str = "deploy/grafana/dashboards/marketprism.json";

/// Panels that are rightly empty while nothing is wrong, or while what they show is not in use.
const QUIET: [&str; 4] = [
    "错过的评估 / Ticks missed",
    "被拒绝的样本 / Samples refused",
    "证书剩余 / Certificate left",
    "远程写入 / Remote write",
];

const CONFIG: &str = "
global: {scrape_interval: 1s, scrape_timeout: 900ms}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: away
    static_configs: [{targets: ['127.0.0.1:1']}]
host: {interval: 1s}
alert_manager: {evaluation_interval: 1}
notification_manager:
  route: {group_by: [alertname], group_wait: 1s, group_interval: 1s}
  channels:
    webhook: {enabled: true, url: 'WEBHOOK'}
";

const RULES: &str = "
groups:
  - name: shown
    rules:
      - alert: Shown
        expr: node_memory_MemTotal_bytes > 0
        labels: {severity: high}
";

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON")
}

fn panels() -> Vec<Value> {
    dashboard()["panels"].as_array().cloned().expect("panels")
}

fn title(panel: &Value) -> &str {
    panel["title"].as_str().expect("a title")
}

/// Gives each panel's queries, Grafana's variables filled in.
fn queries(panel: &Value) -> Vec<String> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    let filled = targets.map(|target| {
        let text = target["expr"].as_str().expect("a query");
        let text = text.replace("$__rate_interval", "15s").replace("$instance", ".*");
        assert!(
            !text.contains('$'),
            "{}: a variable that is not known here: {text}",
            title(panel)
        );
        text
    });
    filled.collect()
}

fn ask(program: &Program, query: &str, from: f64, to: f64) -> Result<usize, String> {
    let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let path = format!("/prometheus/api/v1/query_range?query={query}&start={from}&end={to}&step=1");
    let (status, body) = program.get(&path);
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    match answer["data"]["result"].as_array() {
        Some(result) if status == 200 => Ok(result.len()),
        _ => Err(format!("{status}: {body}")),
    }
}

#[test]
fn every_query_of_the_dashboard_is_answered_and_those_of_a_working_service_with_data() {
    let webhook = FakeWebhook::start();
    let mut program = Program::prepare(&CONFIG.replace("WEBHOOK", &webhook.url()));
    fs::write(program.home().join("rules.yaml"), RULES).expect("write the rules");
    program.launch(&[]);
    program.wait_until_ready();
    assert!(
        is_true_within(PATIENCE, || !webhook.received().is_empty()),
        "{}",
        program.log()
    );

    // Somebody knocks who is not let in.
    let url = program.url();
    let stranger = ureq::get(format!("{url}/api/v1/alerts")).call();
    assert!(
        matches!(stranger, Err(ureq::Error::StatusCode(401))),
        "{stranger:?}"
    );
    let login = ureq::post(format!("{url}/api/v1/auth/login")).header("content-type", "application/json");
    let login = login.send("{\"username\": \"admin\", \"password\": \"a guess\"}");
    assert!(matches!(login, Err(ureq::Error::StatusCode(401))), "{login:?}");

    // A rate needs two scrapes after the count began.
    let now = |program: &Program| {
        program
            .query("vector(time())")
            .first()
            .map_or(0.0, |(_, value)| *value)
    };
    let mut empty: Vec<(String, String)> = Vec::new();
    let is_full = is_true_within(PATIENCE, || {
        let to = now(&program);
        empty.clear();
        for panel in panels() {
            for query in queries(&panel) {
                let answer = ask(&program, &query, to - 30.0, to);
                let series = answer.unwrap_or_else(|fault| panic!("{}: {query}\n{fault}", title(&panel)));
                if series == 0 && !QUIET.contains(&title(&panel)) {
                    empty.push((title(&panel).to_owned(), query));
                }
            }
        }
        empty.is_empty()
    });
    assert!(is_full, "without data: {empty:#?}");
    assert!(program.stop().success());
}

#[test]
fn the_dashboard_shows_the_four_metrics_of_the_guide() {
    let all: Vec<String> = panels().iter().flat_map(queries).collect();
    let guide = read("docs/deployment-guide.zh-CN.md");
    let names = guide
        .lines()
        .filter_map(|line| line.strip_prefix("- `marketprism_"));
    let names: Vec<&str> = names.filter_map(|rest| rest.split('`').next()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        assert!(
            all.iter()
                .any(|query| query.contains(&format!("marketprism_{name}{{"))),
            "{name}"
        );
    }
}

#[test]
fn panels_lie_side_by_side_and_speak_two_languages() {
    let panels = panels();
    let mut taken = std::collections::BTreeMap::new();
    let mut ids = std::collections::BTreeSet::new();
    for panel in &panels {
        let place = |name: &str| {
            panel["gridPos"][name]
                .as_u64()
                .unwrap_or_else(|| panic!("no {name}: {panel}"))
        };
        let (left, top, width, height) = (place("x"), place("y"), place("w"), place("h"));
        assert!(width > 0 && height > 0 && left + width <= 24, "{}", title(panel));
        for cell in (top..top + height).flat_map(|y| (left..left + width).map(move |x| (x, y))) {
            let other = taken.insert(cell, title(panel));
            assert_eq!(other, None, "{} lies over another panel", title(panel));
        }
        assert!(
            ids.insert(panel["id"].as_u64().expect("a number")),
            "{} has a number twice",
            title(panel)
        );
        let is_one_word = ["HTTP", "CPU"].contains(&title(panel));
        let (chinese, english) = title(panel).split_once(" / ").unwrap_or_default();
        let is_bilingual = !chinese.is_ascii() && english.is_ascii() && !english.is_empty();
        assert!(is_one_word || is_bilingual, "{}", title(panel));
    }
    let titles: Vec<&str> = panels.iter().map(title).collect();
    assert!(
        QUIET.iter().all(|quiet| titles.contains(quiet)),
        "a quiet panel is gone"
    );
}

#[test]
fn the_provisioning_leads_to_the_source_and_the_dashboards() {
    let file = "deploy/grafana/provisioning/datasources/marketprism.yaml";
    let sources = document(file, &read(file));
    let sources: Vec<Value> = sources["datasources"].as_array().cloned().expect("sources");
    let known: Vec<&Value> = sources.iter().map(|source| &source["uid"]).collect();
    for panel in panels().iter().filter(|panel| panel["type"] != "row") {
        assert!(known.contains(&&panel["datasource"]["uid"]), "{}", title(panel));
    }
    let composed = compose::ours();
    let services = composed["services"].as_object().expect("services");
    for source in &sources {
        let address = source["url"].as_str().expect("an address");
        let host = address
            .trim_start_matches("http://")
            .split(':')
            .next()
            .unwrap_or_default();
        assert!(services.contains_key(host), "{address}: no such service");
    }
    let file = "deploy/grafana/provisioning/dashboards/marketprism.yaml";
    let providers = document(file, &read(file));
    let path = providers["providers"][0]["options"]["path"]
        .as_str()
        .expect("a path");
    let laid = compose::volumes(&services["grafana"]);
    let source = laid.iter().find(|(_, inside)| inside == path);
    let (source, _) = source.unwrap_or_else(|| panic!("nothing is mounted at {path}"));
    assert!(source.ends_with("deploy/grafana/dashboards"), "{source}");
    assert!(!files_below("deploy/grafana/dashboards", ".json").is_empty());
}

//! The guide's keys, and what they do in a running program.

use std::fs;

use marketprism_testkit::is_true_within;
use serde_json::Value;

use crate::program::{PATIENCE, Program};
use crate::settings::{Settings, VARIABLES};
use crate::web;

/// A group without an interval of its own, with four alerts that fire at once.
const FOUR_ALERTS: &str = "
groups:
  - name: guide
    rules:
      - {alert: Many, expr: 'label_replace(vector(1), \"n\", \"1\", \"\", \"\")', labels: {severity: low}}
      - {alert: Many, expr: 'label_replace(vector(1), \"n\", \"2\", \"\", \"\")', labels: {severity: low}}
      - {alert: Many, expr: 'label_replace(vector(1), \"n\", \"3\", \"\", \"\")', labels: {severity: low}}
      - {alert: Many, expr: 'label_replace(vector(1), \"n\", \"4\", \"\", \"\")', labels: {severity: low}}
";

fn started(settings: &Settings) -> Program {
    let mut program = Program::prepare(&settings.0);
    fs::write(program.home().join("rules.yaml"), FOUR_ALERTS).expect("write the rules");
    // The Slack of whoever runs the tests is not told.
    program.set_environment("SLACK_WEBHOOK_URL", "");
    program.launch(&VARIABLES);
    program.wait_until_ready();
    program
}

fn interval(program: &Program, group: &str) -> Value {
    let rules = program.get_json("/prometheus/api/v1/rules");
    let groups = rules["data"]["groups"].as_array().cloned().unwrap_or_default();
    let group = groups.iter().find(|found| found["name"] == group);
    group.expect("the group is there")["interval"].clone()
}

#[test]
fn all_sections_together_are_in_force() {
    let settings = Settings::of_the_guide().with("rule_files: [rules.yaml]\n");
    let program = started(&settings);
    assert_eq!(interval(&program, "guide"), 30);

    let performance = || web::json(web::get(&(program.url() + "/api/v1/stats/performance"), &[]));
    let stats = performance();
    assert_eq!(stats["cache"]["enabled"], true, "{stats}");
    assert_eq!(stats["cache"]["entries_max"], 1000, "{stats}");
    for queue in ["queries", "look_ups", "pushes"] {
        let queue = &stats["queues"][queue];
        assert_eq!(
            (&queue["running_max"], &queue["waiting_max"]),
            (&10.into(), &1000.into())
        );
    }
    assert_eq!(stats["queues"]["deliveries"]["running_max"], 10, "{stats}");
    let evaluations = stats["queues"]["evaluations"]["running_max"].as_u64();
    assert!(
        evaluations.is_some_and(|most| (1..=10).contains(&most)),
        "{stats}"
    );

    // Loopback is always admitted, and nobody is a trusted proxy, so what a client says of its address counts for nothing.
    let forged = [("X-Forwarded-For", "203.0.113.9")];
    assert_eq!(web::get(&(program.url() + "/metrics"), &forged).0, 200);

    // Asked twice, the answer is remembered.
    let ask = "/prometheus/api/v1/query_range?query=up&start=1700000000&end=1700000600&step=60";
    let (first, second) = (program.get_json(ask), program.get_json(ask));
    assert_eq!(first, second);
    let hits = performance()["cache"]["hits"].as_u64();
    assert!(hits.is_some_and(|hits| hits > 0), "{}", performance());

    // Batches are written: nothing waits much longer than flush_interval_seconds.
    let syncs = || performance()["batch"]["syncs"].as_u64();
    let before = syncs();
    assert!(is_true_within(PATIENCE, || syncs() > before), "{}", performance());
    let age = performance()["batch"]["unsynced_age_seconds"]
        .as_f64()
        .unwrap_or(0.0);
    assert!(age < 10.0, "{age}");

    let refusals: Vec<String> = program
        .log()
        .lines()
        .filter(|line| line.contains("\"level\":\"ERROR\""))
        .map(str::to_owned)
        .collect();
    assert_eq!(refusals, Vec::<String>::new());
}

#[test]
fn intervals_and_limits_of_alerts_are_those_of_the_file() {
    // The guide's own numbers are also the defaults, or too long for a test: others show that the keys are what counts.
    let settings = Settings::of_the_guide()
        .with_rules("rules.yaml")
        .at_a_quick_pace()
        .replace("cleanup_interval: 3600", "cleanup_interval: 1")
        .replace(
            "max_active_alerts: 1000",
            "max_active_alerts: 2\n  default_rules: false",
        );
    let program = started(&settings);
    assert_eq!(interval(&program, "guide"), 1);

    let alerts = || {
        let list = program.get_json("/api/v1/alerts?state=firing&label=alertname:Many");
        list["items"].as_array().cloned().unwrap_or_default()
    };
    let is_all_there = is_true_within(PATIENCE, || alerts().len() == 4);
    assert!(is_all_there, "{:?}\nlog:\n{}", alerts(), program.log());
    let is_limited = |alert: &&Value| alert["suppressed_by"].to_string().contains("limit");
    assert_eq!(alerts().iter().filter(is_limited).count(), 2, "{:?}", alerts());

    let own = || {
        let list = program.get_json("/api/v1/alerts?state=firing&label=alertname:MarketPrismAlertLimit");
        list["items"][0].clone()
    };
    let is_told = || own()["level"] == "critical" && own()["suppressed_by"] == serde_json::json!([]);
    assert!(
        is_true_within(PATIENCE, is_told),
        "{}\nlog:\n{}",
        own(),
        program.log()
    );

    // Each cleaning up copies the records.
    let copied_at = || {
        let copy = program.home().join("data/records.snapshot.db");
        fs::metadata(copy).and_then(|file| file.modified()).ok()
    };
    for _ in 0..2 {
        let before = copied_at();
        assert!(
            is_true_within(PATIENCE, || copied_at() > before),
            "{}",
            program.log()
        );
    }
}

#[test]
fn a_full_queue_refuses_with_the_time_to_come_back_and_is_counted() {
    let settings = Settings::of_the_guide()
        .replace("max_workers: 10", "max_workers: 1")
        .replace("queue_size: 1000", "queue_size: 0");
    let program = started(&settings);
    let authorization = program.authorization().expect("there is an administrator");
    // Each is another question, and a long one, so that no answer is remembered and two meet.
    let ask = |number: usize| {
        let url = format!(
            "{}/prometheus/api/v1/query?query=sum_over_time((vector({number})%2B1)[1d:1s])",
            program.url()
        );
        web::get_header(&url, &authorization, "retry-after")
    };
    let mut answers = Vec::new();
    let is_refused = is_true_within(PATIENCE, || {
        let from = answers.len();
        let round: Vec<(u16, Option<String>)> = std::thread::scope(|scope| {
            let asking: Vec<_> = (from..from + 4)
                .map(|number| scope.spawn(move || ask(number)))
                .collect();
            asking
                .into_iter()
                .map(|asked| asked.join().expect("asking does not fail"))
                .collect()
        });
        answers.extend(round);
        answers.iter().any(|(status, _)| *status == 503)
    });
    assert!(is_refused, "{answers:?}");
    for (status, retry_after) in &answers {
        let seconds = retry_after.as_deref().and_then(|text| text.parse::<u64>().ok());
        match status {
            200 => assert_eq!(seconds, None),
            503 => assert!(seconds.is_some_and(|seconds| seconds > 0), "{retry_after:?}"),
            _ => panic!("{answers:?}"),
        }
    }
    let refused = answers.iter().filter(|(status, _)| *status == 503).count() as u64;
    let stats = web::json(web::get(&(program.url() + "/api/v1/stats/performance"), &[]));
    assert_eq!(stats["queues"]["queries"]["refused"], refused, "{stats}");
}

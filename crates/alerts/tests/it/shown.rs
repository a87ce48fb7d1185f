//! What the room shows of itself: numbers for the program's own metrics, a line for each alert.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use marketprism_alerts::Alerts;
use marketprism_model::{Lifecycle, Timestamp};
use marketprism_state::Database;
use marketprism_testkit::{ManualClock, SeededChance};
use prometheus_client::registry::Registry;

use crate::world::*;

fn started(registry: &mut Registry) -> Arc<Alerts> {
    let db = Arc::new(Database::in_memory().expect("memory"));
    let clock = Arc::new(ManualClock::new(start()));
    Alerts::load(config(), db, clock, Arc::new(SeededChance::new(99)), registry).expect("load")
}

fn observe(alerts: &Alerts, rule: &marketprism_model::RuleContext, at: Timestamp, marks: &str) {
    let observations = if marks.is_empty() {
        vec![]
    } else {
        vec![seen(&rule.name, "1", marks)]
    };
    alerts.observe(rule, at, observations).expect("observe");
}

#[test]
fn the_metrics_follow_the_alerts() {
    let mut registry = Registry::default();
    let alerts = started(&mut registry);
    let shows = |lines: &[&str]| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes everything");
        for line in lines {
            assert!(text.lines().any(|shown| shown == *line), "no {line} in\n{text}");
        }
    };
    shows(&[
        "marketprism_alert_total{level=\"critical\"} 0",
        "marketprism_alert_active{level=\"high\",state=\"firing\"} 0",
    ]);
    let (plain, levels) = (rule("A", HOUR), leveled("L", Duration::ZERO, Duration::ZERO));
    observe(&alerts, &plain, start(), "#");
    observe(&alerts, &levels, start(), ".#");
    shows(&[
        "marketprism_alert_total{level=\"high\"} 1",
        "marketprism_alert_active{level=\"high\",state=\"firing\"} 1",
        "marketprism_alert_active{level=\"medium\",state=\"pending\"} 1",
    ]);
    observe(&alerts, &levels, start() + MINUTE, "##");
    observe(&alerts, &plain, start() + MINUTE, "");
    alerts.commit(start() + MINUTE).expect("commit");
    shows(&[
        "marketprism_alert_total{level=\"critical\"} 0",
        "marketprism_alert_active{level=\"high\",state=\"firing\"} 0",
        "marketprism_alert_active{level=\"critical\",state=\"firing\"} 1",
        "marketprism_alert_active{level=\"medium\",state=\"pending\"} 0",
        "marketprism_alert_commits_total 1",
        "marketprism_alert_commit_failures_total 0",
    ]);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_alert_that_begins_to_fire_is_logged_once_as_the_guide_greps_for_it() {
    // For the whole process: the other tests run beside this one, and theirs are told apart by the alert.
    let lines = Lines::default();
    let sink = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || sink.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
    let alerts = started(&mut Registry::default());
    let rule = rule("A", MINUTE);
    for minute in 0..4 {
        observe(&alerts, &rule, start() + MINUTE * minute, "#");
    }
    let id = alerts.active()[0].id.to_string();
    let written = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
    let created: Vec<serde_json::Value> = written
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("json"))
        .filter(|line| line["fields"]["alert_id"] == *id)
        .collect();
    assert_eq!(created.len(), 1, "{written}");
    assert_eq!(created[0]["level"], "INFO");
    let fields = &created[0]["fields"];
    assert_eq!(fields["message"], "创建告警");
    assert_eq!(
        (fields["rule"].as_str(), fields["level"].as_str()),
        (Some("A"), Some("medium"))
    );
}

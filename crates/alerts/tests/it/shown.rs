//! What the room shows of itself: numbers for the program's own metrics, a line for each alert.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use marketprism_alerts::Alerts;
use marketprism_model::records::NotificationFilter;
use marketprism_model::{AlertStore, Lifecycle, Outbox, Timestamp};
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
fn an_alert_that_begins_to_fire_is_logged_once_and_leads_to_its_messages() {
    // For the whole process: the other tests run beside this one, and theirs are told apart by the alert.
    let lines = Lines::default();
    let sink = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || sink.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
    let db = Arc::new(Database::in_memory().expect("memory"));
    let alerts = Alerts::load(
        config(),
        Arc::clone(&db) as Arc<dyn AlertStore>,
        Arc::new(ManualClock::new(start())),
        Arc::new(SeededChance::new(1_234)),
        &mut Registry::default(),
    )
    .expect("load");
    let rule = rule("A", MINUTE);
    for minute in 0..4 {
        observe(&alerts, &rule, start() + MINUTE * minute, "#");
    }
    alerts.flush(start() + HOUR).expect("flush");
    let id = alerts.active()[0].id.to_string();
    let written = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
    let lines: Vec<serde_json::Value> = written
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("json"))
        .filter(|line| line["fields"].to_string().contains(&id))
        .collect();
    let said = |message: &str| -> Vec<&serde_json::Value> {
        lines
            .iter()
            .filter(|line| line["fields"]["message"] == message)
            .collect()
    };
    let created = said("创建告警");
    assert_eq!(created.len(), 1, "{written}");
    assert_eq!(created[0]["level"], "INFO");
    let fields = &created[0]["fields"];
    assert_eq!(
        (fields["rule"].as_str(), fields["alert_level"].as_str()),
        (Some("A"), Some("medium"))
    );
    assert_eq!(fields["trace_id"], id.replace('-', ""));
    assert!(
        fields["labels"]
            .as_str()
            .is_some_and(|labels| labels.contains("alertname=\"A\"")),
        "{fields}"
    );

    // From the alert to each of its messages, and by their traces to what became of them.
    let everything = NotificationFilter {
        limit: 100,
        ..NotificationFilter::default()
    };
    let page = db.notifications(&everything).expect("list");
    assert!(!page.items.is_empty());
    let mut traces: Vec<String> = page
        .items
        .iter()
        .map(|message| message.id.to_string().replace('-', ""))
        .collect();
    let told = said("创建通知");
    let mut shown: Vec<String> = told
        .iter()
        .filter_map(|line| line["fields"]["trace_id"].as_str().map(str::to_owned))
        .collect();
    traces.sort_unstable();
    shown.sort_unstable();
    assert_eq!(shown, traces, "{written}");
}

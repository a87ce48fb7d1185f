//! The rules inside the program, held against what the program really says of itself and its machine.

use std::collections::BTreeSet;

use marketprism_testkit::{FakeWebhook, is_true_within};

use crate::program::{PATIENCE, Program};

/// Names that the rules ask for and that exist only once what they count has happened, or on machines that
/// have the thing.
const LATER: [&str; 6] = [
    "marketprism_samples_refused_total",
    "marketprism_rule_evaluation_failures_total",
    "node_filesystem_readonly",
    "node_network_receive_errs_total",
    "node_network_transmit_errs_total",
    "node_pressure_memory_stalled_seconds_total",
];

#[test]
fn every_metric_that_the_rules_inside_ask_for_is_there() {
    let webhook = FakeWebhook::start();
    let program = Program::start(&format!(
        "host: {{interval: 1s}}\nalert_manager: {{evaluation_interval: 1}}\nnotification_manager:\n  route: {{group_wait: 1s}}\n  \
         channels:\n    webhook: {{enabled: true, url: '{}'}}\n",
        webhook.url()
    ));
    // The watchdog's message makes the figures of deliveries appear.
    assert!(
        is_true_within(PATIENCE, || !webhook.received().is_empty()),
        "log:\n{}",
        program.log()
    );
    let mut asked = BTreeSet::new();
    for (name, text) in marketprism_rules::defaults() {
        let file =
            marketprism_rules::parse_file(name, text.as_bytes(), &Default::default()).expect("it loads");
        let exprs = file
            .groups
            .iter()
            .flat_map(|group| &group.rules)
            .map(|rule| &rule.parsed);
        asked.extend(exprs.flat_map(|expr| expr.metric_names()).map(str::to_owned));
    }
    assert!(asked.len() > 30, "{asked:?}");
    let is_there = |name: &str| !program.query(&format!("last_over_time({name}[5m])")).is_empty();
    let missing = || -> Vec<&String> {
        asked
            .iter()
            .filter(|name| !LATER.contains(&name.as_str()) && !is_there(name))
            .collect()
    };
    let is_complete = is_true_within(PATIENCE, || missing().is_empty());
    assert!(
        is_complete,
        "the rules ask for metrics that nobody gives: {:?}",
        missing()
    );
}

//! An `alertmanager.yml` in the place of our own file: told as what it is, not key by key.
//!
//! Deliberately absent: reading it. Which file is which stays for the operator to say.

use super::fault::Fault;
use super::tree::{Node, Value};

/// The keys of Alertmanager's file that stand in ours below another, or not at all.
const KEYS: [&str; 6] = [
    "route",
    "receivers",
    "inhibit_rules",
    "templates",
    "time_intervals",
    "mute_time_intervals",
];

/// Takes Alertmanager's keys out of the outermost map when both `route` and `receivers` stand there, and tells them by
/// one fault.
pub fn take_out(root: &mut Node) -> Option<Fault> {
    root.get("receivers")?;
    let at = root.get("route")?.at;
    // `global` is a section of Prometheus' file too, which is ours where there is something to scrape.
    let is_global_ours = root.get("scrape_configs").is_some();
    if let Value::Map(pairs) = &mut root.value {
        pairs.retain(|pair| !KEYS.contains(&pair.key.as_str()) && (pair.key != "global" || is_global_ours));
    }
    let reason = "looks like an alertmanager.yml; name that file in notification_manager.alertmanager_config, or \
                  put its sections below notification_manager";
    Some(Fault::of_key(at, "route", reason))
}

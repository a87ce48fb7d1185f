//! A short picture of who hears of what: the routes as a tree, and the ways to each receiver.
//!
//! Deliberately absent: what a route would do with an alert; `GET /api/v1/alerts/{id}/why` tells that.

use std::fmt::Write as _;

use marketprism_alerts::routing::{GroupBy, RouteConfig, RoutingTree};

use crate::config::Loaded;

/// Draws routes and receivers of a configuration that names receivers; nothing for one that does not.
pub fn picture(loaded: &Loaded) -> String {
    let mut text = String::new();
    if loaded.channels.receivers.is_empty() {
        return text;
    }
    text.push_str("routes\n");
    let root = &loaded.alerts.route;
    let _ = writeln!(text, "  {}{}", told_to(root), pace(loaded));
    draw(root, "  ", &mut text);
    text.push_str("receivers\n");
    for receiver in &loaded.alerts.receivers {
        let ways: Vec<&str> = receiver
            .channels
            .iter()
            .map(|channel| channel.name.as_str())
            .collect();
        let ways = match ways.is_empty() {
            true => "nobody is reached".to_owned(),
            false => ways.join(", "),
        };
        let is_fallback = loaded.alerts.fallback_receiver.as_ref() == Some(&receiver.name);
        let fallback = if is_fallback { " (fallback)" } else { "" };
        let _ = writeln!(text, "  {}{fallback}: {ways}", receiver.name);
        let prepared = loaded.channels.receivers.iter();
        for (entry, reason) in prepared
            .filter(|known| known.name == receiver.name)
            .flat_map(|known| &known.undelivered)
        {
            let _ = writeln!(text, "    not delivered: {entry}, {reason}");
        }
    }
    text
}

/// Says how the root groups and paces, as far as the tree can be built; it has been judged before.
fn pace(loaded: &Loaded) -> String {
    let names: Vec<&str> = loaded
        .alerts
        .receivers
        .iter()
        .map(|known| known.name.as_str())
        .collect();
    let root = RouteConfig {
        routes: Vec::new(),
        escalation: None,
        ..loaded.alerts.route.clone()
    };
    let known = marketprism_alerts::routing::KnownNames {
        receivers: &names,
        time_intervals: &[],
        escalations: &[],
    };
    let Ok(tree) = RoutingTree::new(&root, known) else {
        return String::new();
    };
    let Some((_, route)) = tree.routes().next() else {
        return String::new();
    };
    let by = match &route.group_by {
        GroupBy::All => "all labels".to_owned(),
        GroupBy::Labels(labels) if labels.is_empty() => "nothing".to_owned(),
        GroupBy::Labels(labels) => labels
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    };
    let [wait, interval, repeat] = [route.group_wait, route.group_interval, route.repeat_interval]
        .map(marketprism_model::duration::format);
    format!("  (grouped by {by}; wait {wait}, interval {interval}, repeat {repeat})")
}

fn told_to(route: &RouteConfig) -> String {
    let mut text = route
        .receiver
        .as_ref()
        .map_or_else(String::new, |receiver| format!("-> {receiver}"));
    let mut add = |words: String| {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{words}");
    };
    if let Some(policy) = &route.escalation {
        add(format!("escalates by {policy}"));
    }
    if !route.mute_time_intervals.is_empty() {
        add(format!("muted within {}", route.mute_time_intervals.join(", ")));
    }
    if !route.active_time_intervals.is_empty() {
        add(format!("only within {}", route.active_time_intervals.join(", ")));
    }
    if route.is_continuing {
        add("continues".to_owned());
    }
    text
}

fn draw(route: &RouteConfig, margin: &str, text: &mut String) {
    for (index, child) in route.routes.iter().enumerate() {
        let is_last = index + 1 == route.routes.len();
        let (branch, trunk) = if is_last {
            ("└─", "   ")
        } else {
            ("├─", "│  ")
        };
        let mut matchers: Vec<String> = child.matchers.clone();
        let equal = child.match_equal.iter();
        matchers.extend(equal.map(|(name, value)| format!("{name}={value:?}")));
        let regex = child.match_regex.iter();
        matchers.extend(regex.map(|(name, value)| format!("{name}=~{value:?}")));
        let matchers = match matchers.is_empty() {
            true => "everything".to_owned(),
            false => matchers.join(", "),
        };
        let line = format!("{margin}{branch} {matchers}  {}", told_to(child));
        let _ = writeln!(text, "{}", line.trim_end());
        draw(child, &format!("{margin}{trunk}"), text);
    }
}

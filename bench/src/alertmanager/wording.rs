//! What both sides are given: the routes as `alertmanager.yml`, and alerts as Prometheus posts them.

use std::fmt::Write;

use super::webhook::Webhook;

/// Alerts in one request, as Prometheus sends them.
pub const BATCH: usize = 64;
/// Teams, each with a route of its own.
const TEAMS: usize = 20;
/// Alert names.
const NAMES: usize = 50;
/// Clusters.
const CLUSTERS: usize = 10;

/// How the groups of a configuration are paced.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// `group_by`, in brackets.
    pub group_by: &'static str,
    /// `group_wait`.
    pub wait: &'static str,
    /// `group_interval`.
    pub interval: &'static str,
}

/// Writes a tree: 20 teams, critical alerts of a team to a receiver of their own, every tenth team also to `audit`.
pub fn configuration(webhook: &Webhook, pace: Pace) -> String {
    let Pace {
        group_by,
        wait,
        interval,
    } = pace;
    let mut text = format!(
        "route:\n  receiver: everybody\n  group_by: {group_by}\n  group_wait: {wait}\n  group_interval: {interval}\n  repeat_interval: 4h\n  routes:\n"
    );
    text += "  - matchers: ['team=~\"team-[01]0\"']\n    receiver: audit\n    continue: true\n";
    for team in 0..TEAMS {
        let _ = writeln!(
            text,
            "  - matchers: ['team=\"team-{team:02}\"']\n    receiver: team\n    routes:\n    - matchers: ['severity=\"critical\"']\n      receiver: urgent"
        );
    }
    text += "receivers:\n";
    for receiver in ["everybody", "audit", "team", "urgent"] {
        let url = webhook.url(receiver);
        let _ = writeln!(
            text,
            "- name: {receiver}\n  webhook_configs: [{{url: '{url}', send_resolved: true}}]"
        );
    }
    text
}

/// Says who is told of an alert, by the tree above, reckoned without it.
pub fn receivers_of(number: usize) -> Vec<&'static str> {
    let team = number % TEAMS;
    let last = if is_critical(number) { "urgent" } else { "team" };
    match team {
        0 | 10 => vec!["audit", last],
        _ => vec![last],
    }
}

fn is_critical(number: usize) -> bool {
    number.is_multiple_of(7)
}

/// Writes one alert. Times are milliseconds since the epoch.
pub fn alert(number: usize, starts_ms: i64, ends_ms: i64) -> String {
    let severity = if is_critical(number) {
        "critical"
    } else {
        "warning"
    };
    let (name, cluster, team) = (number % NAMES, number / NAMES % CLUSTERS, number % TEAMS);
    let (starts, ends) = (moment(starts_ms), moment(ends_ms));
    format!(
        r#"{{"labels":{{"alertname":"Alert{name:02}","cluster":"c{cluster}","id":"{number}","instance":"10.0.{}.{}:9100","job":"node","severity":"{severity}","team":"team-{team:02}"}},"annotations":{{"summary":"instance {number} is out of its limits","description":"the value of instance {number} has been above 90 % for five minutes","runbook_url":"https://example.com/runbooks/{name}"}},"startsAt":"{starts}","endsAt":"{ends}","generatorURL":"http://prometheus.example.com:9090/graph?g0.expr=up&g0.tab=1"}}"#,
        number / 250,
        number % 250
    )
}

/// Puts alerts together into the bodies of requests.
pub fn bodies(alerts: impl Iterator<Item = String>) -> Vec<Vec<u8>> {
    let alerts: Vec<String> = alerts.collect();
    let body = |batch: &[String]| format!("[{}]", batch.join(",")).into_bytes();
    alerts.chunks(BATCH).map(body).collect()
}

fn moment(at_ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(at_ms).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_hold_64_alerts_each_and_are_json() {
        let bodies = bodies((0..130).map(|number| alert(number, 1_795_514_400_000, 1_795_514_640_123)));
        let read = |body: &Vec<u8>| serde_json::from_slice::<serde_json::Value>(body).expect("JSON");
        let lists: Vec<serde_json::Value> = bodies.iter().map(read).collect();
        let lengths: Vec<usize> = lists
            .iter()
            .map(|list| list.as_array().map_or(0, Vec::len))
            .collect();
        assert_eq!(lengths, [64, 64, 2]);
        assert_eq!(lists[0][0]["endsAt"], "2026-11-24T10:04:00.123Z");
        assert_eq!(lists[2][1]["labels"]["id"], "129");
    }
}

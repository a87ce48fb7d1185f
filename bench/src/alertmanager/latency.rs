//! From breach to message: a post until its webhook on both sides, and for ours a sample until the webhook of its rule.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::sides::{Kind, Side};
use super::wording::{Pace, alert, bodies};
use crate::clock;
use crate::remote_write::{Label, Template};
use crate::report::{Measure, Report};

/// Alerts that are posted, one after the other.
const POSTS: usize = 300;
/// Series that break their limit, one after the other.
const BREACHES: usize = 200;
/// The pause between two of them; no divisor of the evaluation interval, so that all phases are met.
const STEP: Duration = Duration::from_millis(137);
/// What may lie between a sample and its message: one evaluation interval and 250 ms.
const GOAL_MS: f64 = 1_250.0;
const PACE: Pace = Pace {
    group_by: "['...']",
    wait: "0s",
    interval: "1m",
};

const POST_P50: Measure = measure("post until webhook, `group_wait: 0s`: p50");
const POST_P99: Measure = measure("post until webhook: p99");
const RULE_P50: Measure = measure("sample until webhook, rules each 1 s, `for: 0`, `group_wait: 0s`: p50");
const RULE_P99: Measure = measure("sample until webhook: p99");

const fn measure(what: &'static str) -> Measure {
    Measure {
        what,
        unit: "wall ms",
        goals: &[],
    }
}

const RULES: &str = "groups:\n- name: breach\n  interval: 1s\n  rules:\n  - alert: Breach\n    expr: breach > 10\n    \
                     labels: {team: team-01, severity: warning}\n";

/// Measures one side.
pub fn run(kind: &Kind, folder: &Path, report: &mut Report) -> Result<()> {
    let is_ours = matches!(kind, Kind::MarketPrism(_));
    let side = Side::start(kind, &folder.join("latency"), PACE, is_ours.then_some(RULES))?;
    let mut sent_ms = Vec::new();
    for number in (0..POSTS).map(post_number) {
        let now_ms = clock::now_ms();
        let body = bodies(std::iter::once(alert(number, now_ms, now_ms + 3_600_000)));
        side.post_alerts(&body[0])?;
        sent_ms.push((number.to_string(), now_ms));
        clock::pause(STEP / 4);
    }
    let figures = delays(&side, &sent_ms)?;
    report.measured(POST_P50, side.name(), &[percentile(&figures, 0.5)]);
    report.measured(POST_P99, side.name(), &[percentile(&figures, 0.99)]);
    if is_ours {
        breaches(&side, report)?;
    }
    Ok(())
}

/// Only one receiver hears of each.
fn post_number(nth: usize) -> usize {
    100_000 + nth * 20 + 1
}

fn breaches(side: &Side, report: &mut Report) -> Result<()> {
    let label = |name: &str, value: String| Label {
        name: name.to_owned(),
        value,
    };
    let series = (0..BREACHES).map(|nth| {
        vec![
            label("__name__", "breach".to_owned()),
            label("id", format!("breach-{nth}")),
        ]
    });
    let mut writer = Template::new(series.collect());
    side.write(&writer.to_body(clock::now_ms(), (0..BREACHES).map(|_| 1.0)))?;
    clock::pause(Duration::from_secs(3));
    let mut sent_ms = Vec::new();
    for nth in 0..BREACHES {
        clock::pause(STEP);
        let now_ms = clock::now_ms();
        let values = (0..BREACHES).map(|other| if other <= nth { 99.0 } else { 1.0 });
        side.write(&writer.to_body(now_ms, values))?;
        sent_ms.push((format!("breach-{nth}"), now_ms));
    }
    let figures = delays(side, &sent_ms)?;
    let p99 = percentile(&figures, 0.99);
    report.measured(RULE_P50, side.name(), &[percentile(&figures, 0.5)]);
    report.measured(RULE_P99, side.name(), &[p99]);
    let verdict = if p99 <= GOAL_MS { "hit" } else { "**miss**" };
    report.note(format!(
        "sample until webhook, goal p99 ≤ {GOAL_MS} ms: {verdict} ({p99} ms, the latest of {BREACHES} {} ms)",
        percentile(&figures, 1.0)
    ));
    Ok(())
}

/// Waits for all messages and gives how long each took, in milliseconds, sorted.
fn delays(side: &Side, sent_ms: &[(String, i64)]) -> Result<Vec<f64>> {
    let arrival = |received: &super::webhook::Received, id: &str| {
        let receivers = ["team", "urgent"].map(|receiver| format!("{receiver} firing {id}"));
        receivers
            .iter()
            .find_map(|key| received.first_ms.get(key).copied())
    };
    side.await_told(Duration::from_secs(60), |received| {
        sent_ms.iter().all(|(id, _)| arrival(received, id).is_some())
    })?;
    let mut delays = Vec::new();
    for (id, at_ms) in sent_ms {
        let told_ms = side.webhook.look(|received| arrival(received, id));
        delays.push((told_ms.context("it came")? - at_ms) as f64);
    }
    delays.sort_by(f64::total_cmp);
    Ok(delays)
}

/// Gives the smallest value that at least this share of `sorted` does not exceed.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        let found = [0.5, 0.99, 1.0].map(|share| percentile(&sorted, share));
        assert_eq!(found, [100.0, 198.0, 200.0]);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }
}

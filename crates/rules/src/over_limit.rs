//! The alert about a rule that yields more than its group's `limit`.
//!
//! Prometheus fails such a rule and drops what it held. Here what stood, stands, and somebody is told, for a rule that
//! no longer judges is a hole in the guard. The alert is held by a rule of its own, named after the one that failed.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::labels::{ALERT_NAME, SEVERITY};
use marketprism_model::{Condition, Labels, Level, Observation, RuleContext, RuleId, Verdict};

use crate::rule::{GroupSpec, Rule};

/// The name of the alert.
pub const RULE_LIMIT_ALERT: &str = "MarketPrismRuleLimit";

/// Gives the rule that holds the alert; `None` in a group without a limit.
pub(crate) fn context(group: &GroupSpec, rule: &Rule) -> Option<RuleContext> {
    (group.limit > 0).then(|| RuleContext {
        id: id(rule),
        name: Arc::from(RULE_LIMIT_ALERT),
        group: Arc::clone(&group.name),
        file: Arc::clone(&group.file),
        expr: Arc::clone(&rule.expr),
        conditions: vec![Condition {
            level: None,
            hold_for: Duration::ZERO,
            keep_firing_for: Duration::ZERO,
            unknown_max: None,
        }],
        interval: rule.interval_in(group),
    })
}

/// Each rule has a holder of its own: namesakes of one group share the alert, and what one of them holds the other must
/// not clear.
fn id(rule: &Rule) -> RuleId {
    let of = Labels::from_pairs([("kind", rule.kind_word()), ("rule_id", &rule.id.to_string())]);
    RuleId::new(RULE_LIMIT_ALERT, &of, 0)
}

fn labels(group: &GroupSpec, rule: &Rule) -> Labels {
    let group = format!("{};{}", group.file, group.name);
    Labels::from_pairs([
        (ALERT_NAME, RULE_LIMIT_ALERT),
        (SEVERITY, Level::High.as_str()),
        ("rule", &*rule.name),
        ("rule_group", &group),
    ])
}

/// Says how far a rule is over the limit.
pub(crate) fn observation(group: &GroupSpec, rule: &Rule, count: usize, what: &str) -> Observation {
    let (limit, name) = (group.limit, &rule.name);
    let zh = match what {
        "alerts" => "条告警",
        _ => "条序列",
    };
    let summary = format!(
        "规则 {name} 产生 {count} {zh}，超过所在分组的上限 {limit}：本次结果未采用，此前状态保持不变"
    );
    let summary_en = format!(
        "rule {name} yields {count} {what}, more than the limit of {limit} of its group: nothing of it was taken, and what stood before stands"
    );
    Observation {
        labels: labels(group, rule),
        value: count as f64,
        annotations: Labels::from_pairs([("summary", summary), ("summary_en", summary_en)]),
        verdicts: vec![Verdict::Holds],
    }
}

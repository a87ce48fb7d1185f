//! The limit of alerts that are told, and the alert about ourselves when it is reached.
//!
//! Beyond `max_active_alerts` alerts are stored but not told, so that a flood does not bury people; that this
//! happens is told once, as P1. As soon as there is room the oldest that still fire are told after all. The P1
//! ends when there was room for all of them for five minutes, so that it does not flap at the edge.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::alert::Suppression;
use marketprism_model::labels::{ALERT_NAME, SEVERITY};
use marketprism_model::{Alert, AlertEventKind, AlertState, Id, Labels, Level, Timestamp};

use crate::book::{Book, Cause};
use crate::condition::SET_ASIDE_MAX;

/// The name of the alert about the limit.
pub const LIMIT_ALERT: &str = "MarketPrismAlertLimit";

/// How long every firing alert must have been told before the alert about the limit ends.
const CALM: Duration = Duration::from_secs(300);

/// The name of the group that alerts about ourselves belong to.
const OWN_GROUP: &str = "marketprism";

fn limit_labels() -> Labels {
    Labels::from_pairs([(ALERT_NAME, LIMIT_ALERT), (SEVERITY, Level::Critical.as_str())])
}

/// Says whether an alert is the one about the limit, which no rule holds.
pub(crate) fn is_own(alert: &Alert) -> bool {
    alert.group == OWN_GROUP && alert.rules.is_empty() && alert.name() == LIMIT_ALERT
}

impl Book {
    /// Tells what there is room for, and begins the alert about the limit when there is none.
    pub fn settle_limit(&mut self, at: Timestamp) {
        while self.told_firing < self.plan.config.max_active_alerts {
            let Some(id) = self.limited.pop_first() else { break };
            self.unsuppress(id, at);
        }
        if self.limited.is_empty() {
            return;
        }
        self.limit_calm_since = None;
        let labels = limit_labels();
        let fingerprint = labels.fingerprint();
        let count = self.limited.len() as f64;
        if let Some(alert) = self.active.get_mut(&fingerprint) {
            if alert.value != count {
                Arc::make_mut(alert).value = count;
                self.version += 1;
            }
        } else if self
            .limit_set_aside_at
            .is_none_or(|since| at.since(since) >= SET_ASIDE_MAX)
        {
            self.limit_set_aside_at = None;
            self.begin_limit_alert(fingerprint, labels, at, count);
        }
    }

    /// Ends the alert about the limit when there has been room for long enough. For every flush.
    pub fn settle_limit_alert(&mut self, now: Timestamp) {
        if !self.limited.is_empty() {
            return;
        }
        let calm_since = *self.limit_calm_since.get_or_insert(now);
        if now < calm_since {
            self.limit_calm_since = Some(now);
        }
        if now.since(calm_since) < CALM {
            return;
        }
        self.limit_set_aside_at = None;
        let cause = Cause {
            reason: "every firing alert is told again",
            actor: None,
        };
        let fingerprint = limit_labels().fingerprint();
        if self.active.get(&fingerprint).is_some_and(|alert| is_own(alert)) {
            self.resolve(fingerprint, now, cause);
        }
    }

    fn unsuppress(&mut self, id: Id, at: Timestamp) {
        let Some(fingerprint) = self.by_id.get(&id).copied() else {
            return;
        };
        self.change(fingerprint, |alert| {
            alert.suppressed_by.retain(|by| *by != Suppression::Limit);
            alert.updated_at = at;
        });
        let by = Suppression::Limit;
        self.event(id, at, None, AlertEventKind::Unsuppressed { by });
        self.told_firing += 1;
        if let Some(alert) = self.active.get(&fingerprint).map(Arc::clone) {
            self.inhibitor.started(id, fingerprint, &alert.sent_labels());
            self.join_groups(&alert, at);
        }
    }

    fn begin_limit_alert(&mut self, fingerprint: u64, labels: Labels, at: Timestamp, count: f64) {
        let limit = self.plan.config.max_active_alerts;
        let summary = format!(
            "正在触发的告警超过上限 {limit}，超出部分只记录不通知 / more than {limit} alerts fire; those beyond are stored but not told"
        );
        let alert = Alert {
            id: Id::new(at, self.chance.as_ref()),
            labels,
            annotations: Labels::from_pairs([("summary", summary.as_str())]),
            state: AlertState::Pending,
            level: Level::Critical,
            has_levels: false,
            value: count,
            active_at: at,
            fired_at: None,
            resolved_at: None,
            updated_at: at,
            rules: Vec::new(),
            group: OWN_GROUP.to_owned(),
            expr: String::new(),
            acknowledged: None,
            suppressed_by: Vec::new(),
            assigned: None,
            external: None,
            incident: None,
            flaps: 0,
        };
        self.insert_active(fingerprint, alert);
        self.fire_unlimited(fingerprint, at, Level::Critical, None);
        if let Some(alert) = self.active.get(&fingerprint).map(Arc::clone) {
            self.join_groups(&alert, at);
        }
    }
}

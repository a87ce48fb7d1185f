//! The numbers this room shows of itself.

use marketprism_model::{Alert, AlertState, Level, Purpose};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByLevel {
    level: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByPurpose {
    purpose: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ByLevelAndState {
    level: &'static str,
    state: &'static str,
}

/// Counters and gauges, cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    fired: Family<ByLevel, Counter>,
    active: Family<ByLevelAndState, Gauge>,
    suppressed: Family<ByReason, Gauge>,
    silences: Family<ByState, Gauge>,
    pub(crate) commits: Counter,
    pub(crate) commit_failures: Counter,
    pub(crate) records_lost: Counter,
    notifications: Family<ByPurpose, Counter>,
}

impl Metrics {
    /// Makes them and adds them to the program's registry. The registry writes `_total` behind counters.
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Metrics::default();
        for level in Level::ALL {
            let level = level.as_str();
            drop(metrics.fired.get_or_create(&ByLevel { level }));
            for state in [AlertState::Pending, AlertState::Firing] {
                let state = state.as_str();
                drop(metrics.active.get_or_create(&ByLevelAndState { level, state }));
            }
        }
        for purpose in ["group", "escalation", "storm", "fallback"] {
            drop(metrics.notifications.get_or_create(&ByPurpose { purpose }));
        }
        for reason in ["limit", "silence", "inhibition", "mute", "storm"] {
            drop(metrics.suppressed.get_or_create(&ByReason { reason }));
        }
        metrics.count_silences([0; 3]);
        registry.register(
            "marketprism_alert_silences",
            "Silences that are kept",
            metrics.silences.clone(),
        );
        registry.register(
            "marketprism_alert",
            "Alerts that began to fire",
            metrics.fired.clone(),
        );
        registry.register(
            "marketprism_alert_active",
            "Alerts that pend or fire",
            metrics.active.clone(),
        );
        registry.register(
            "marketprism_alert_suppressed",
            "Alerts that fire and are not told, or only in a digest, for a reason",
            metrics.suppressed.clone(),
        );
        registry.register(
            "marketprism_alert_commits",
            "Transactions of the alert lifecycle",
            metrics.commits.clone(),
        );
        registry.register(
            "marketprism_alert_commit_failures",
            "Transactions that the store refused; they are tried again",
            metrics.commit_failures.clone(),
        );
        registry.register(
            "marketprism_alert_records_lost",
            "Events and ended alerts lost because the store was away for too long",
            metrics.records_lost.clone(),
        );
        registry.register(
            "marketprism_alert_notifications",
            "Notifications put into the outbox",
            metrics.notifications.clone(),
        );
        metrics
    }

    /// Counts a message that was decided and written.
    pub fn count_notification(&self, purpose: &Purpose) {
        let purpose = match purpose {
            Purpose::Group => "group",
            Purpose::Escalation { .. } => "escalation",
            Purpose::Storm => "storm",
            Purpose::Fallback { .. } => "fallback",
        };
        self.notifications.get_or_create(&ByPurpose { purpose }).inc();
    }

    /// Shows how many silences are pending, active and expired.
    pub fn count_silences(&self, counts: [usize; 3]) {
        for (state, count) in ["pending", "active", "expired"].into_iter().zip(counts) {
            self.silences
                .get_or_create(&ByState { state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts an alert that began to fire.
    pub fn count_fired(&self, level: Level) {
        self.fired
            .get_or_create(&ByLevel {
                level: level.as_str(),
            })
            .inc();
    }

    /// Counts an active alert in (`by` = 1) or out (`by` = -1) of the gauges.
    pub fn count_active(&self, alert: &Alert, by: i64) {
        if alert.state != AlertState::Resolved {
            let (level, state) = (alert.level.as_str(), alert.state.as_str());
            self.active
                .get_or_create(&ByLevelAndState { level, state })
                .inc_by(by);
        }
        if alert.state == AlertState::Firing {
            for reason in &alert.suppressed_by {
                let reason = reason.as_str();
                self.suppressed.get_or_create(&ByReason { reason }).inc_by(by);
            }
        }
    }
}

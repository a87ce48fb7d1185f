//! What the delivery counts about itself.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct SentLabels {
    channel: String,
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ChannelLabels {
    channel: String,
}

const ATTEMPT_BOUNDS_S: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
const DELAY_BOUNDS_S: [f64; 9] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

/// The figures of delivery; clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    sent: Family<SentLabels, Counter>,
    attempts: Family<ChannelLabels, Histogram, fn() -> Histogram>,
    delays: Family<ChannelLabels, Histogram, fn() -> Histogram>,
    pub(crate) pending: Gauge,
    pub(crate) store_errors: Counter,
}

impl Metrics {
    /// Adds the figures to the program's registry, which prefixes them with `marketprism_`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics {
            sent: Family::default(),
            attempts: Family::new_with_constructor(|| Histogram::new(ATTEMPT_BOUNDS_S)),
            delays: Family::new_with_constructor(|| Histogram::new(DELAY_BOUNDS_S)),
            pending: Gauge::default(),
            store_errors: Counter::default(),
        };
        registry.register(
            "notification_sent",
            "Attempts to deliver a notification, by how they ended; gave_up counts notifications past their deadline",
            metrics.sent.clone(),
        );
        registry.register(
            "notification_attempt_duration_seconds",
            "Time one attempt took",
            metrics.attempts.clone(),
        );
        registry.register(
            "notification_delay_seconds",
            "Time from the decision to notify until the provider took it",
            metrics.delays.clone(),
        );
        registry.register(
            "notification_pending",
            "Notifications that are neither delivered nor given up",
            metrics.pending.clone(),
        );
        registry.register(
            "notification_store_errors",
            "Times the outbox could not be read or written",
            metrics.store_errors.clone(),
        );
        metrics
    }

    /// Counts attempts that a crash cut; nobody knows any more which channel each was for.
    pub(crate) fn uncertain(&self, count: u64) {
        let labels = SentLabels {
            channel: String::new(),
            outcome: "uncertain",
        };
        self.sent.get_or_create(&labels).inc_by(count);
    }

    pub(crate) fn sent(&self, channel: &str, outcome: &'static str) {
        let channel = channel.to_owned();
        self.sent.get_or_create(&SentLabels { channel, outcome }).inc();
    }

    pub(crate) fn attempt(&self, channel: &str, took: Duration) {
        let channel = channel.to_owned();
        self.attempts
            .get_or_create(&ChannelLabels { channel })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn delay(&self, channel: &str, took: Duration) {
        let channel = channel.to_owned();
        self.delays
            .get_or_create(&ChannelLabels { channel })
            .observe(took.as_secs_f64());
    }
}

//! What the delivery counts about itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use marketprism_model::Timestamp;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::backlog::Backlog;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct SentLabels {
    channel: String,
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ChannelLabels {
    channel: String,
}

impl ChannelLabels {
    fn of(channel: &str) -> Self {
        let channel = channel.to_owned();
        ChannelLabels { channel }
    }
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
    pub(crate) running: Gauge,
    running_max: Gauge,
    waiting: Family<ChannelLabels, Gauge>,
    oldest_waiting: Family<ChannelLabels, Seconds>,
    /// Channels whose queues are shown.
    known: Arc<Mutex<BTreeSet<String>>>,
    pub(crate) store_errors: Counter,
}

type Seconds = Gauge<f64, AtomicU64>;

/// How attempts end.
const OUTCOMES: [&str; 4] = ["delivered", "refused", "retry", "gave_up"];

impl Metrics {
    /// Adds the figures to the program's registry, which prefixes them with `marketprism_`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics {
            sent: Family::default(),
            attempts: Family::new_with_constructor(|| Histogram::new(ATTEMPT_BOUNDS_S)),
            delays: Family::new_with_constructor(|| Histogram::new(DELAY_BOUNDS_S)),
            pending: Gauge::default(),
            running: Gauge::default(),
            running_max: Gauge::default(),
            waiting: Family::default(),
            oldest_waiting: Family::default(),
            known: Arc::default(),
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
            "notification_deliveries_running",
            "Attempts to deliver that are under way",
            metrics.running.clone(),
        );
        registry.register(
            "notification_deliveries_running_max",
            "The most attempts to deliver at the same time",
            metrics.running_max.clone(),
        );
        registry.register(
            "notification_waiting_groups",
            "Groups whose next notification waits for its channel; counted up to a thousand",
            metrics.waiting.clone(),
        );
        registry.register(
            "notification_oldest_waiting_seconds",
            "How long the oldest notification has waited for its channel, 0 when none does",
            metrics.oldest_waiting.clone(),
        );
        registry.register(
            "notification_store_errors",
            "Times the outbox could not be read or written",
            metrics.store_errors.clone(),
        );
        metrics.uncertain(0);
        metrics
    }

    /// Shows channels before their first message, so that alerts on their counters have a beginning.
    pub(crate) fn introduce<'a>(&self, channels: impl Iterator<Item = &'a String>, workers_max: usize) {
        self.running_max.set(workers_max as i64);
        for channel in channels {
            for outcome in OUTCOMES {
                let channel = channel.clone();
                drop(self.sent.get_or_create(&SentLabels { channel, outcome }));
            }
            let labels = ChannelLabels::of(channel);
            drop(self.attempts.get_or_create(&labels));
            drop(self.delays.get_or_create(&labels));
            self.known.lock().insert(channel.clone());
            drop(self.waiting.get_or_create(&labels));
            drop(self.oldest_waiting.get_or_create(&labels));
        }
    }

    /// Forgets a channel that is no longer in use.
    pub(crate) fn forget(&self, channel: &str) {
        for outcome in OUTCOMES {
            let channel = channel.to_owned();
            self.sent.remove(&SentLabels { channel, outcome });
        }
        self.known.lock().remove(channel);
        let labels = ChannelLabels::of(channel);
        self.attempts.remove(&labels);
        self.delays.remove(&labels);
        self.waiting.remove(&labels);
        self.oldest_waiting.remove(&labels);
    }

    /// Shows what waits. Channels that nothing waits for are set to nothing.
    pub(crate) fn backlog(&self, backlog: &Backlog, now: Timestamp) {
        let open = i64::try_from(backlog.open).unwrap_or(i64::MAX);
        self.pending.set(open);
        let mut known = self.known.lock();
        for channel in known
            .iter()
            .filter(|channel| !backlog.queues.contains_key(*channel))
        {
            let labels = ChannelLabels::of(channel);
            self.waiting.get_or_create(&labels).set(0);
            self.oldest_waiting.get_or_create(&labels).set(0.0);
        }
        known.extend(backlog.queues.keys().cloned());
        for (channel, queue) in &backlog.queues {
            let labels = ChannelLabels::of(channel);
            let count = i64::try_from(queue.groups).unwrap_or(i64::MAX);
            self.waiting.get_or_create(&labels).set(count);
            let age = now.since(queue.oldest);
            self.oldest_waiting.get_or_create(&labels).set(age.as_secs_f64());
        }
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
        self.attempts
            .get_or_create(&ChannelLabels::of(channel))
            .observe(took.as_secs_f64());
    }

    pub(crate) fn delay(&self, channel: &str, took: Duration) {
        self.delays
            .get_or_create(&ChannelLabels::of(channel))
            .observe(took.as_secs_f64());
    }
}

//! Notifications to deliver, and notifiers to deliver them.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{
    AlertState, Chance, Clock, Id, Labels, Level, Notification, NotificationContent, NotificationStatus,
    NotifiedAlert, Outbox, Timestamp,
};
use marketprism_net::smtp::SmtpClient;
use marketprism_net::{Egress, HttpClient};
use marketprism_notify::{Config, Links, Notifier, OutboxBell};
use marketprism_testkit::{ManualClock, MemoryOutbox, SeededChance, wait_for_async};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

/// 2026-11-24 12:10:43 in Shanghai, 04:10:43 UTC.
pub const START: Timestamp = Timestamp::from_millis(1_795_493_443_000);
/// Longer than any real peer on this machine takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const EXTERNAL_URL: &str = "https://monitor.example.com";

pub fn alert(name: &str, state: AlertState, level: Level) -> NotifiedAlert {
    let labels = Labels::from_pairs([
        ("alertname", name),
        ("instance", "db1:9100"),
        ("severity", level.as_str()),
    ]);
    NotifiedAlert {
        id: Id::new(START, &SeededChance::new(labels.fingerprint())),
        state,
        level,
        fingerprint: format!("{:016x}", labels.fingerprint()),
        annotations: Labels::from_pairs([
            ("summary", "主机无响应"),
            ("summary_en", "Host is down"),
            ("action", "先看电源"),
            ("action_en", "Check the power first"),
            ("runbook_url", "https://wiki.example.com/host-down"),
        ]),
        labels,
        value: 0.0,
        starts_at: Timestamp::from_millis(START.millis() - 300_000),
        ends_at: (state == AlertState::Resolved).then_some(START),
        expr: "up == 0".to_owned(),
        generator_url: None,
        flaps: 0,
    }
}

pub fn notification(number: u64, channel: &str, alerts: Vec<NotifiedAlert>) -> Notification {
    let is_firing = alerts.iter().any(|alert| alert.state == AlertState::Firing);
    Notification {
        id: Id::new(START, &SeededChance::new(number)),
        group_key: format!("{{}}:{{alertname=\"Group{number}\"}}"),
        receiver: "default".to_owned(),
        channel: channel.to_owned(),
        created_at: START,
        due_at: START,
        deadline_at: START + Duration::from_secs(3600),
        attempts: 0,
        status: NotificationStatus::Waiting,
        content: NotificationContent {
            state: if is_firing {
                AlertState::Firing
            } else {
                AlertState::Resolved
            },
            group_labels: Labels::from_pairs([("alertname", "HostDown")]),
            common_labels: alerts.first().map_or_else(Labels::empty, |a| a.labels.clone()),
            common_annotations: Labels::empty(),
            alerts,
            truncated_alerts: 0,
            purpose: Default::default(),
        },
    }
}

/// Each number is another alert, so that none waits for another.
pub fn firing(number: u64, channel: &str) -> Notification {
    let mut host_down = alert("HostDown", AlertState::Firing, Level::Critical);
    host_down.id = Id::new(START, &SeededChance::new(number));
    notification(number, channel, vec![host_down])
}

/// A notifier over an outbox in memory, on a clock with hands.
pub struct Desk {
    pub notifier: Arc<Notifier>,
    pub outbox: Arc<MemoryOutbox>,
    pub clock: ManualClock,
    pub registry: Registry,
    pub bell: OutboxBell,
    pub cancel: CancellationToken,
}

impl Desk {
    pub fn new(yaml: &str) -> Self {
        Desk::on_clock(yaml, ManualClock::new(START))
    }

    pub fn on_clock(yaml: &str, clock: ManualClock) -> Self {
        let outbox = Arc::new(MemoryOutbox::new());
        let config: Config = serde_saphyr::from_str(yaml).expect("the test's configuration");
        let prepared = config.prepare(&|_| None).expect("the test's configuration");
        let mut registry = Registry::default();
        let clock_port: Arc<dyn Clock> = Arc::new(clock.clone());
        let chance: Arc<dyn Chance> = Arc::new(SeededChance::new(7));
        let store: Arc<dyn Outbox> = Arc::<MemoryOutbox>::clone(&outbox);
        let notifier = Notifier::new(
            &prepared,
            Links::new(EXTERNAL_URL),
            store,
            Arc::new(HttpClient::new(Egress::default())),
            Arc::new(SmtpClient::new(Egress::default())),
            clock_port,
            chance,
            &mut registry,
        );
        Desk {
            bell: notifier.bell(),
            notifier: Arc::new(notifier),
            outbox,
            clock,
            registry,
            cancel: CancellationToken::new(),
        }
    }

    /// Starts the loop; it ends when the desk is cancelled.
    pub fn run(&self) -> tokio::task::JoinHandle<()> {
        let (notifier, cancel) = (Arc::clone(&self.notifier), self.cancel.clone());
        tokio::spawn(async move { notifier.run(cancel).await })
    }

    pub fn put(&self, notification: Notification) -> Id {
        let id = notification.id;
        self.outbox.put(notification);
        self.bell.ring();
        id
    }

    pub fn status(&self, id: Id) -> NotificationStatus {
        self.outbox.get(id).expect("it was put in").status
    }

    /// Lists how the attempts ended: outcome, code, and detail.
    pub fn attempts(&self, id: Id) -> Vec<String> {
        let attempts = self.outbox.attempts(id).expect("memory");
        let said = attempts
            .iter()
            .map(|a| format!("{} {} {}", a.outcome.as_str(), a.provider_code, a.detail));
        said.collect()
    }

    pub async fn wait_for_status(&self, id: Id, status: NotificationStatus) {
        self.wait_until(id, || self.status(id) == status).await;
    }

    /// Waits for something to become true of a notification; shows its attempts when it does not.
    async fn wait_until(&self, id: Id, condition: impl FnMut() -> bool) {
        let waiting = wait_for_async(2 * PATIENCE, condition);
        let outcome = tokio::time::timeout(PATIENCE, waiting).await;
        let (stands, attempts) = (self.outbox.get(id), self.attempts(id));
        assert!(
            outcome.is_ok(),
            "{:?}, {attempts:?}",
            stands.map(|n| (n.status, n.due_at))
        );
    }

    /// Waits until the notification waits for its next attempt after `attempts` failed ones.
    pub async fn wait_for_retry(&self, id: Id, attempts: u32) {
        self.wait_until(id, || {
            let notification = self.outbox.get(id).expect("it was put in");
            notification.status == NotificationStatus::Waiting && notification.attempts == attempts
        })
        .await;
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("text");
        text
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

//! Notifications: what the outbox holds, and what became of each attempt to deliver it.

use serde::{Deserialize, Serialize};

use crate::{AlertState, Id, Labels, Level, Timestamp};

/// Where a notification stands in the outbox.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotificationStatus {
    /// Waits for its first or next attempt.
    Waiting,
    /// An attempt is under way; after a crash this means that nobody knows whether it arrived.
    Sending,
    /// A receipt was recorded.
    Delivered,
    /// Given up: refused for good, or past its deadline.
    Failed,
}

impl NotificationStatus {
    /// Gives the word used in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            NotificationStatus::Waiting => "waiting",
            NotificationStatus::Sending => "sending",
            NotificationStatus::Delivered => "delivered",
            NotificationStatus::Failed => "failed",
        }
    }
}

/// One alert inside a notification, frozen when the notification was made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NotifiedAlert {
    /// The alert's record.
    pub id: Id,
    /// Firing or resolved.
    pub state: AlertState,
    /// Its level then.
    pub level: Level,
    /// Labels as sent, `severity` included.
    pub labels: Labels,
    /// Annotations then.
    pub annotations: Labels,
    /// The value then.
    #[serde(with = "crate::sample::float")]
    pub value: f64,
    /// When it began to fire.
    pub starts_at: Timestamp,
    /// When it resolved.
    pub ends_at: Option<Timestamp>,
    /// The identity that Alertmanager's clients know, 16 hexadecimal digits.
    pub fingerprint: String,
    /// The expression that saw it, for the link back.
    pub expr: String,
    /// The link back that its sender gave, when another program sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator_url: Option<String>,
    /// How often it came back within the flapping window; 0 while it does not flap.
    #[serde(default)]
    pub flaps: u32,
}

/// Why a message exists.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It tells how a group of alerts stands.
    #[default]
    Group,
    /// Nobody took the alerts in hand in time.
    Escalation {
        /// The policy.
        policy: String,
        /// The step, counted from 1.
        step: u32,
    },
    /// It speaks for the alerts of a storm.
    Storm,
    /// Another channel could not be reached.
    Fallback {
        /// The receiver that should have heard.
        receiver: String,
        /// Its channel.
        channel: String,
    },
}

/// What a notification says, in no language and no layout yet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NotificationContent {
    /// Firing when any of its alerts fires.
    pub state: AlertState,
    /// The labels that made the group.
    pub group_labels: Labels,
    /// Labels that all its alerts share.
    pub common_labels: Labels,
    /// Annotations that all its alerts share.
    pub common_annotations: Labels,
    /// The alerts, firing ones first.
    pub alerts: Vec<NotifiedAlert>,
    /// How many alerts were left out for length.
    pub truncated_alerts: u32,
    /// Why it is said.
    #[serde(default)]
    pub purpose: Purpose,
}

/// One message to one channel, from the moment it was decided until it is delivered or given up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Notification {
    /// UUID version 7; also the Message-ID and the Idempotency-Key, the same on every attempt.
    pub id: Id,
    /// The group's key, as Alertmanager writes it: the route's path and the labels, `{}/{team="db"}:{alertname="X"}`.
    pub group_key: String,
    /// The receiver it is for.
    pub receiver: String,
    /// The channel of that receiver, by its configured name.
    pub channel: String,
    /// When it was decided.
    pub created_at: Timestamp,
    /// When the next attempt is due.
    pub due_at: Timestamp,
    /// When it is given up.
    pub deadline_at: Timestamp,
    /// How many attempts have begun.
    pub attempts: u32,
    /// Where it stands.
    pub status: NotificationStatus,
    /// What it says.
    pub content: NotificationContent,
}

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// Under way.
    Started,
    /// The provider took it.
    Delivered,
    /// Failed in a way that may pass; another attempt follows unless the deadline is near.
    Retry,
    /// Failed for good.
    Refused,
    /// The program stopped between sending and the receipt: it may or may not have arrived.
    Uncertain,
}

impl AttemptOutcome {
    /// Gives the word used in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            AttemptOutcome::Started => "started",
            AttemptOutcome::Delivered => "delivered",
            AttemptOutcome::Retry => "retry",
            AttemptOutcome::Refused => "refused",
            AttemptOutcome::Uncertain => "uncertain",
        }
    }
}

/// One attempt to deliver a notification.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DeliveryAttempt {
    /// The notification.
    pub notification: Id,
    /// Counted from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The provider's status: an HTTP status, an SMTP code; 0 when there was no answer.
    pub provider_code: i32,
    /// The provider's words or ours, without secrets, at most 1 KiB.
    pub detail: String,
}

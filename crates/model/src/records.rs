//! The stores of records, as ports. `state` implements them; no SQL stands elsewhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    Alert, AlertEvent, AlertState, Category, DeliveryAttempt, Id, Incident, IncidentEvent, IncidentFilter,
    Labels, Level, Notification, NotificationStatus, RuleId, ShiftOverride, Silence, SilenceFilter,
    Timestamp,
};

/// Why records could not be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database refused; trying again later may help.
    #[error("{operation}: {reason}")]
    Database {
        /// What was attempted.
        operation: &'static str,
        /// The database's words.
        reason: String,
    },
    /// A record cannot be understood.
    #[error("{what} {id} is damaged: {reason}")]
    Damaged {
        /// The kind of record.
        what: &'static str,
        /// Which one.
        id: String,
        /// What does not fit.
        reason: String,
    },
    /// Another replica leads; what was to be written is out of date.
    #[error("{operation}: another replica leads now")]
    Fenced {
        /// What was attempted.
        operation: &'static str,
    },
    /// A cursor was not made by this store.
    #[error("bad cursor {0:?}; use next_cursor of the page before")]
    Cursor(String),
}

/// One page of a list, newest first.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Page<T> {
    /// The records.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next_cursor: Option<String>,
}

/// The clock of one condition for one label set: how long it has held, whether it fires.
///
/// Kept by (rule, labels, condition) and apart from the alert, so that several rules can hold one alert.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClockRecord {
    /// The rule.
    pub rule: RuleId,
    /// The alert's identity, [`Labels::fingerprint`].
    pub fingerprint: u64,
    /// Position of the condition in the rule.
    pub condition: u32,
    /// The level it raises.
    pub level: Level,
    /// When it began to hold.
    pub active_at: Timestamp,
    /// When it began to fire; `None` while pending.
    pub fired_at: Option<Timestamp>,
    /// When it was last evaluated.
    pub seen_at: Timestamp,
    /// Since when it no longer holds but is kept firing.
    pub missed_since: Option<Timestamp>,
    /// Since when nobody can tell whether it holds, for its data is missing.
    pub unknown_since: Option<Timestamp>,
    /// When somebody resolved its alert by hand while it held; until it has cleared once, or an hour has
    /// passed, it holds no alert.
    pub set_aside_at: Option<Timestamp>,
}

/// What was last told about one group through one channel: Alertmanager's notification log, durable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ToldRecord {
    /// The channel's name.
    pub channel: String,
    /// When the notification was decided.
    pub at: Timestamp,
    /// Fingerprints that were told as firing, with the level told, sorted.
    pub firing: Vec<(u64, Level)>,
    /// Fingerprints that were told as resolved, sorted.
    pub resolved: Vec<u64>,
}

/// A group of alerts that are told together, and when it is told next.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The group's key: the route's path and the group's labels.
    pub key: String,
    /// The labels that made it.
    pub labels: Labels,
    /// The receiver that hears of it.
    pub receiver: String,
    /// The next flush.
    pub flush_at: Timestamp,
    /// Whether the first flush has passed, so that `group_interval` rules, not `group_wait`.
    pub is_flushed: bool,
    /// The alerts in it, firing ones and those whose end is still to be told.
    pub alerts: Vec<Id>,
    /// What each channel was last told.
    pub told: Vec<ToldRecord>,
    /// How far its escalation has come; `None` when none runs.
    pub escalation: Option<EscalationRecord>,
}

/// How far the escalation of a group has come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EscalationRecord {
    /// The policy's name.
    pub policy: String,
    /// Since when nobody has the group in hand.
    pub since: Timestamp,
    /// Alerts that nobody has in hand, with the level they stood at, sorted; empty while the escalation rests.
    #[serde(default)]
    pub members: Vec<(u64, Level)>,
    /// Steps that were taken in this round.
    pub steps_taken: u32,
    /// Rounds that were completed.
    pub rounds: u32,
    /// When the last step was taken.
    pub stepped_at: Option<Timestamp>,
    /// Fingerprints that the steps told as firing, by channel: what was opened must be closed.
    pub told: Vec<ToldRecord>,
}

/// Everything that one tick changed, written in one transaction or not at all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct AlertCommit {
    /// Alerts as they stand now; replaced by id.
    pub alerts: Vec<Alert>,
    /// Pending alerts that vanished: deleted with their events, for nobody was told.
    pub dropped_alerts: Vec<Id>,
    /// What happened, in order.
    pub events: Vec<AlertEvent>,
    /// Clocks as they stand now; replaced by (rule, fingerprint, condition).
    pub clocks: Vec<ClockRecord>,
    /// Clocks that ended.
    pub dropped_clocks: Vec<(RuleId, u64, u32)>,
    /// Groups as they stand now; replaced by key.
    pub groups: Vec<GroupRecord>,
    /// Groups that are empty and told of.
    pub dropped_groups: Vec<String>,
    /// New messages.
    pub outbox: Vec<Notification>,
    /// Silences as they stand now; replaced by id.
    pub silences: Vec<Silence>,
    /// Incidents as they stand now; replaced by id.
    pub incidents: Vec<Incident>,
    /// What happened to incidents, in order.
    pub incident_events: Vec<IncidentEvent>,
    /// Overrides of schedules as they stand now; replaced by id.
    pub overrides: Vec<ShiftOverride>,
    /// Overrides that were taken back.
    pub dropped_overrides: Vec<Id>,
}

impl AlertCommit {
    /// Says whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == AlertCommit::default()
    }
}

/// Everything the lifecycle needs to go on where it stood.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct AlertSnapshot {
    /// Alerts that are pending or firing, and resolved ones that a group still holds.
    pub alerts: Vec<Alert>,
    /// All clocks.
    pub clocks: Vec<ClockRecord>,
    /// All groups.
    pub groups: Vec<GroupRecord>,
    /// Silences that are not over, and those that ended within the last five days.
    pub silences: Vec<Silence>,
    /// Incidents that are open.
    pub incidents: Vec<Incident>,
    /// Overrides of schedules that are not over.
    pub overrides: Vec<ShiftOverride>,
    /// When the lifecycle was last known to run; `None` on the first start.
    pub heartbeat_at: Option<Timestamp>,
}

/// Which alerts a list shows; empty lists mean "all".
#[derive(Clone, PartialEq, Debug, Default)]
pub struct AlertFilter {
    /// States.
    pub states: Vec<AlertState>,
    /// Levels.
    pub levels: Vec<Level>,
    /// Labels that must be equal.
    pub labels: Vec<(String, String)>,
    /// Whether it is acknowledged.
    pub is_acknowledged: Option<bool>,
    /// What it is about.
    pub categories: Vec<Category>,
    /// Who is to see to it.
    pub assigned_to: Option<String>,
    /// The incident that it is part of.
    pub incident: Option<Id>,
    /// Records that began at or after this moment.
    pub since: Option<Timestamp>,
    /// Records that began before this moment.
    pub until: Option<Timestamp>,
    /// At most this many, 1 to 1000.
    pub limit: usize,
    /// Where the page begins.
    pub cursor: Option<String>,
}

/// Keeps alerts, their clocks, groups and events.
pub trait AlertStore: Send + Sync {
    /// Reads what is alive, for the start.
    fn load(&self) -> Result<AlertSnapshot, StoreError>;

    /// Writes a commit in one transaction, durable on return.
    fn commit(&self, commit: &AlertCommit) -> Result<(), StoreError>;

    /// Says whether messages of a commit that could not be written are told nevertheless, so that deciding goes on. They are
    /// given again until they are written.
    fn tells_while_away(&self) -> bool {
        false
    }

    /// Notes that the lifecycle runs, so that the next start knows how long it was down.
    fn heartbeat(&self, at: Timestamp) -> Result<(), StoreError>;

    /// Lists alerts, newest first.
    fn alerts(&self, filter: &AlertFilter) -> Result<Page<Alert>, StoreError>;

    /// Gives one alert.
    fn alert(&self, id: Id) -> Result<Option<Alert>, StoreError>;

    /// Gives the story of an alert, oldest first.
    fn events(&self, alert: Id) -> Result<Vec<AlertEvent>, StoreError>;

    /// Lists silences, newest first.
    fn silences(&self, filter: &SilenceFilter) -> Result<Page<Silence>, StoreError>;

    /// Gives one silence.
    fn silence(&self, id: Id) -> Result<Option<Silence>, StoreError>;

    /// Lists incidents, newest first.
    fn incidents(&self, filter: &IncidentFilter) -> Result<Page<Incident>, StoreError>;

    /// Gives one incident.
    fn incident(&self, id: Id) -> Result<Option<Incident>, StoreError>;

    /// Gives the timeline of an incident, oldest first.
    fn incident_events(&self, incident: Id) -> Result<Vec<IncidentEvent>, StoreError>;

    /// Deletes what ended before `now - keep`: alerts with their events, incidents with theirs, silences, overrides and
    /// settled notifications; gives the number of alerts among it.
    fn clean(&self, now: Timestamp, keep: Duration) -> Result<u64, StoreError>;
}

/// Which notifications a list shows; empty lists mean "all".
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NotificationFilter {
    /// States.
    pub statuses: Vec<NotificationStatus>,
    /// Notifications that speak of this alert.
    pub alert: Option<Id>,
    /// At most this many, 1 to 1000.
    pub limit: usize,
    /// Where the page begins.
    pub cursor: Option<String>,
}

/// Keeps notifications until they are delivered, and the log of what was attempted.
pub trait Outbox: Send + Sync {
    /// Turns attempts that a crash cut into `uncertain` ones and makes them due again; gives their number.
    /// Called once, before the first [`Outbox::due`].
    fn recover(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Gives waiting notifications that are due, the oldest first; of each group, receiver and channel only the first, and
    /// none while an older open one to the same channel speaks of one of its alerts, so that nobody hears "resolved" before
    /// "firing", even when the alert has changed its group.
    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Notification>, StoreError>;

    /// Gives when the next waiting notification is due, `None` when there is none.
    fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Makes waiting notifications due at `latest` at the latest; gives the number of those that were due later.
    /// Called when the wall clock was set back, or nobody would look at them before it shows the old time again.
    fn bring_forward(&self, latest: Timestamp) -> Result<u64, StoreError>;

    /// Records that an attempt begins, durable before the first byte leaves.
    fn begin(&self, attempt: &DeliveryAttempt) -> Result<(), StoreError>;

    /// Records how the attempt ended and where the notification stands; with `retry_at` it waits again.
    fn finish(
        &self,
        attempt: &DeliveryAttempt,
        status: NotificationStatus,
        retry_at: Option<Timestamp>,
    ) -> Result<(), StoreError>;

    /// Gives notifications that were given up since the last heartbeat of the lifecycle, in the order of their ends; at most
    /// `limit`, the newest. A process that died may not have written what follows from them. Asked at the start, before the
    /// first heartbeat.
    fn given_up_unheard(&self, limit: usize) -> Result<Vec<Notification>, StoreError>;

    /// Counts notifications that are neither delivered nor given up.
    fn open_count(&self) -> Result<u64, StoreError>;

    /// Lists notifications, newest first.
    fn notifications(&self, filter: &NotificationFilter) -> Result<Page<Notification>, StoreError>;

    /// Gives the attempts at one notification, oldest first.
    fn attempts(&self, notification: Id) -> Result<Vec<DeliveryAttempt>, StoreError>;
}

//! A world with a clock that a test turns, a database in memory, and a store that can be told to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use marketprism_alerts::{Alerts, ChannelRoute, Config, Receiver};
use marketprism_model::records::{NotificationFilter, Outbox};
use marketprism_model::{
    ActiveAlert, Alert, AlertCommit, AlertEvent, AlertEventKind, AlertFilter, AlertSnapshot, AlertState,
    AlertStore, Clock, Condition, Id, Incident, IncidentEvent, IncidentFilter, Labels, Level, Lifecycle,
    Notification, Observation, Page, RuleContext, RuleId, Silence, SilenceFilter, StoreError, Timestamp,
    Verdict,
};
use marketprism_state::Database;
use marketprism_testkit::{ManualClock, SeededChance};
use prometheus_client::registry::Registry;

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);

/// The beginning of every test's time.
pub fn start() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000)
}

/// A store that refuses on demand, before or after the database has taken the commit.
pub struct Store {
    pub db: Database,
    pub refuse: AtomicU32,
    pub refuse_after_writing: AtomicU32,
    /// How many reads of one alert find its record damaged.
    pub damaged_reads: AtomicU32,
    pub commits: AtomicU64,
}

fn take_one(count: &AtomicU32) -> bool {
    count
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        .is_ok()
}

fn refused() -> StoreError {
    StoreError::Database {
        operation: "commit alerts",
        reason: "told to refuse".to_owned(),
    }
}

impl AlertStore for Store {
    fn load(&self) -> Result<AlertSnapshot, StoreError> {
        self.db.load()
    }
    fn commit(&self, commit: &AlertCommit) -> Result<(), StoreError> {
        if take_one(&self.refuse) {
            return Err(refused());
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.db.commit(commit)?;
        if take_one(&self.refuse_after_writing) {
            return Err(refused());
        }
        Ok(())
    }
    fn heartbeat(&self, at: Timestamp) -> Result<(), StoreError> {
        self.db.heartbeat(at)
    }
    fn alerts(&self, filter: &AlertFilter) -> Result<Page<Alert>, StoreError> {
        self.db.alerts(filter)
    }
    fn alert(&self, id: Id) -> Result<Option<Alert>, StoreError> {
        if take_one(&self.damaged_reads) {
            return Err(StoreError::Damaged {
                what: "alert",
                id: id.to_string(),
                reason: "told to be".to_owned(),
            });
        }
        self.db.alert(id)
    }
    fn events(&self, alert: Id) -> Result<Vec<AlertEvent>, StoreError> {
        self.db.events(alert)
    }
    fn silences(&self, filter: &SilenceFilter) -> Result<Page<Silence>, StoreError> {
        self.db.silences(filter)
    }
    fn silence(&self, id: Id) -> Result<Option<Silence>, StoreError> {
        self.db.silence(id)
    }
    fn incidents(&self, filter: &IncidentFilter) -> Result<Page<Incident>, StoreError> {
        self.db.incidents(filter)
    }
    fn incident(&self, id: Id) -> Result<Option<Incident>, StoreError> {
        self.db.incident(id)
    }
    fn incident_events(&self, incident: Id) -> Result<Vec<IncidentEvent>, StoreError> {
        self.db.incident_events(incident)
    }
    fn clean(&self, now: Timestamp, keep: Duration) -> Result<u64, StoreError> {
        self.db.clean(now, keep)
    }
}

pub struct World {
    pub clock: ManualClock,
    pub store: Arc<Store>,
    pub alerts: Arc<Alerts>,
    pub config: Config,
    chance: Arc<SeededChance>,
}

/// One receiver with `mail`, which hears ends, and `pager`, which does not; nothing waits to settle.
pub fn config() -> Config {
    let channel = |name: &str, send_resolved| ChannelRoute::new(name, send_resolved);
    Config {
        receivers: vec![Receiver {
            name: "default".to_owned(),
            channels: vec![channel("mail", true), channel("pager", false)],
        }],
        settle: Duration::ZERO,
        ..Config::default()
    }
}

impl World {
    pub fn new(config: Config) -> Self {
        World::with_database(config, Database::in_memory().expect("memory"))
    }

    pub fn with_database(config: Config, db: Database) -> Self {
        let clock = ManualClock::new(start());
        let chance = Arc::new(SeededChance::new(7));
        let store = Arc::new(Store {
            db,
            refuse: AtomicU32::new(0),
            refuse_after_writing: AtomicU32::new(0),
            damaged_reads: AtomicU32::new(0),
            commits: AtomicU64::new(0),
        });
        let alerts = load(&config, &store, &clock, &chance);
        World {
            clock,
            store,
            alerts,
            config,
            chance,
        }
    }

    /// Forgets everything that is not in the store, and starts anew.
    pub fn restart(&mut self) {
        self.alerts = load(&self.config, &self.store, &self.clock, &self.chance);
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// One evaluation of one rule, now, with its commit and a flush of what is due.
    pub fn evaluate(&self, rule: &RuleContext, observations: Vec<Observation>) -> Vec<ActiveAlert> {
        let active = self.observe(rule, observations);
        self.alerts.commit(self.now()).expect("commit");
        self.alerts.heartbeat(self.now()).expect("flush");
        active
    }

    /// One evaluation that stays in memory.
    pub fn observe(&self, rule: &RuleContext, observations: Vec<Observation>) -> Vec<ActiveAlert> {
        self.alerts
            .observe(rule, self.now(), observations)
            .expect("observe")
    }

    pub fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// Lets minutes pass in which the rule sees the same.
    pub fn minutes(&self, count: u32, rule: &RuleContext, observations: &[Observation]) {
        for _ in 0..count {
            self.pass(MINUTE);
            self.evaluate(rule, observations.to_vec());
        }
    }

    /// All stored alerts, the oldest first.
    pub fn stored(&self) -> Vec<Alert> {
        let mut filter = AlertFilter {
            limit: 1000,
            ..AlertFilter::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self.store.alerts(&filter).expect("list");
            all.extend(page.items);
            match page.next_cursor {
                None => break,
                cursor => filter.cursor = cursor,
            }
        }
        all.sort_by(|a, b| (a.active_at, &a.labels, a.id).cmp(&(b.active_at, &b.labels, b.id)));
        all
    }

    pub fn only_stored(&self) -> Alert {
        let mut all = self.stored();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// All messages, the oldest first.
    pub fn messages(&self) -> Vec<Notification> {
        let mut filter = NotificationFilter {
            limit: 1000,
            ..NotificationFilter::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self.store.db.notifications(&filter).expect("list");
            all.extend(page.items);
            match page.next_cursor {
                None => break,
                cursor => filter.cursor = cursor,
            }
        }
        all.reverse();
        all
    }

    /// The messages to one channel, in short: the minute, and `+` or `-` with level and label `i`.
    pub fn heard(&self, channel: &str) -> Vec<String> {
        self.messages()
            .iter()
            .filter(|message| message.channel == channel)
            .map(in_short)
            .collect()
    }

    /// The story of an alert, in short.
    pub fn story(&self, alert: Id) -> Vec<String> {
        self.store
            .events(alert)
            .expect("events")
            .iter()
            .map(event_in_short)
            .collect()
    }
}

fn load(config: &Config, store: &Arc<Store>, clock: &ManualClock, chance: &Arc<SeededChance>) -> Arc<Alerts> {
    let store: Arc<dyn AlertStore> = Arc::clone(store) as _;
    let mut registry = Registry::default();
    Alerts::load(
        config.clone(),
        store,
        Arc::new(clock.clone()),
        Arc::clone(chance) as _,
        &mut registry,
    )
    .expect("load")
}

fn in_short(message: &Notification) -> String {
    let minute = message.created_at.since(start()).as_secs() / 60;
    let alerts: Vec<String> = message
        .content
        .alerts
        .iter()
        .map(|alert| {
            let sign = if alert.state == AlertState::Firing {
                '+'
            } else {
                '-'
            };
            format!("{sign}{}:{}", alert.labels.get("i").unwrap_or("?"), alert.level)
        })
        .collect();
    format!("{minute} {}", alerts.join(" "))
}

pub fn event_in_short(event: &AlertEvent) -> String {
    let minute = event.at.since(start()).as_secs() / 60;
    let actor = event
        .actor
        .as_ref()
        .map_or(String::new(), |actor| format!(" by {actor}"));
    let what = match &event.kind {
        AlertEventKind::Pending => "pending".to_owned(),
        AlertEventKind::Fired { level, reason: None } => format!("fired {level}"),
        AlertEventKind::Fired {
            level,
            reason: Some(reason),
        } => format!("fired {level}: {reason}"),
        AlertEventKind::LevelChanged { from, to } => format!("{from} to {to}"),
        AlertEventKind::Resolved { reason } => format!("resolved: {reason}"),
        AlertEventKind::Acknowledged { note } => format!("acknowledged: {note}"),
        AlertEventKind::Unacknowledged { reason } => format!("unacknowledged: {reason}"),
        AlertEventKind::Suppressed { by } => format!("suppressed: {}", by.as_str()),
        AlertEventKind::Unsuppressed { by } => format!("unsuppressed: {}", by.as_str()),
        AlertEventKind::Assigned { to: Some(to) } => format!("assigned to {to}"),
        AlertEventKind::Assigned { to: None } => "unassigned".to_owned(),
        AlertEventKind::Noted { note } => format!("noted: {note}"),
        AlertEventKind::Escalated { step, receivers, .. } => {
            format!("escalated {step}: {}", receivers.join(" "))
        }
        AlertEventKind::Flapping { count } => format!("flapping {count}"),
        AlertEventKind::Steady => "steady".to_owned(),
        AlertEventKind::JoinedIncident { .. } => "joined an incident".to_owned(),
        AlertEventKind::Notified { channel, outcome } => format!("{channel} {outcome}"),
    };
    format!("{minute} {what}{actor}")
}

/// A plain rule of some name; its conditions can be replaced.
pub fn rule(name: &str, hold_for: Duration) -> RuleContext {
    RuleContext {
        id: RuleId::new(name, &Labels::empty(), 0),
        name: Arc::from(name),
        group: Arc::from("group"),
        file: Arc::from("rules.yaml"),
        expr: Arc::from("up == 0"),
        conditions: vec![Condition {
            level: None,
            hold_for,
            keep_firing_for: Duration::ZERO,
            unknown_max: None,
        }],
        interval: MINUTE,
    }
}

/// A rule with a critical and a high level.
pub fn leveled(name: &str, critical_for: Duration, high_for: Duration) -> RuleContext {
    let condition = |level, hold_for| Condition {
        level: Some(level),
        hold_for,
        keep_firing_for: Duration::ZERO,
        unknown_max: None,
    };
    RuleContext {
        conditions: vec![
            condition(Level::Critical, critical_for),
            condition(Level::High, high_for),
        ],
        ..rule(name, Duration::ZERO)
    }
}

/// What a rule named `name` sees of instance `i`; one mark a condition: `#` holds, `~` lingers, `?` nobody can tell, `.` is clear.
pub fn seen(name: &str, i: &str, marks: &str) -> Observation {
    Observation {
        labels: Labels::from_pairs([("alertname", name), ("i", i)]),
        value: 1.0,
        annotations: Labels::from_pairs([("summary", "主机不可达")]),
        verdicts: marks
            .chars()
            .map(|mark| match mark {
                '#' => Verdict::Holds,
                '~' => Verdict::Lingers,
                '?' => Verdict::Unknown,
                _ => Verdict::Clear,
            })
            .collect(),
    }
}

/// Adds a severity.
pub fn with_severity(mut observation: Observation, severity: &str) -> Observation {
    observation.labels = observation.labels.with("severity", severity);
    observation
}

impl Store {
    pub fn db_snapshot(&self) -> AlertSnapshot {
        self.db.load().expect("load")
    }
}

//! Records to store, made from a number, and the engines that store them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use marketprism_model::records::GroupRecord;
use marketprism_model::{
    Alert, AlertCommit, AlertEvent, AlertEventKind, AlertState, Chance, Claim, Id, Labels, LeaseStore, Level,
    Notification, NotificationContent, NotificationStatus, NotifiedAlert, Replica, RuleId, Timestamp,
};
use marketprism_state::Database;
use marketprism_testkit::PostgresServer;

/// What can stand behind the ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// Both, the embedded one first.
    pub const ALL: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];

    /// Gives an empty database, which this process leads.
    pub fn database(self) -> Database {
        match self {
            Engine::Sqlite => Database::in_memory().expect("memory"),
            Engine::Postgres => {
                let db = Database::connect(&PostgresServer::shared().new_schema()).expect("connect");
                lead(&db, "tests");
                db
            }
        }
    }
}

/// Takes the lease for an hour.
pub fn lead(db: &Database, name: &str) -> u64 {
    match db.claim(&replica(name), seconds(3_600)).expect("claim") {
        Claim::Ours { epoch } => epoch,
        Claim::Theirs { holder } => panic!("{holder:?} leads"),
    }
}

/// A replica that nobody can reach.
pub fn replica(name: &str) -> Replica {
    Replica {
        id: name.to_owned(),
        address: String::new(),
    }
}

/// Runs a test on an empty database of each engine.
#[expect(clippy::print_stdout, reason = "names the engine when the test fails")]
pub fn on_each_engine(test: impl Fn(Database)) {
    for engine in Engine::ALL {
        println!("on {engine:?}");
        test(engine.database());
    }
}

/// A moment some milliseconds after the tests' beginning.
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

/// Some seconds.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Counts, so that identifiers are distinct and ordered.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Chance for Counter {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Draws that repeat with their seed.
pub struct Draws(AtomicU64);

impl Draws {
    /// Begins anew.
    pub fn seeded(seed: u64) -> Self {
        Draws(AtomicU64::new(seed.wrapping_mul(0xd134_2543_de82_ef95)))
    }

    /// Draws a number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        self.next_u64() % end
    }
}

impl Chance for Draws {
    fn next_u64(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 29)
    }
}

/// The `n`-th identifier; a greater `n` is younger.
pub fn id(n: u64) -> Id {
    Id::new(at(n as i64), &Counter(AtomicU64::new(n)))
}

/// A firing alert with the `n`-th identifier.
pub fn alert(n: u64, labels: &[(&str, &str)]) -> Alert {
    Alert {
        id: id(n),
        labels: Labels::from_pairs(labels.iter().copied()),
        annotations: Labels::from_pairs([("summary", "磁盘将满")]),
        state: AlertState::Firing,
        level: Level::High,
        has_levels: false,
        value: n as f64 + 0.1,
        active_at: at(n as i64),
        fired_at: Some(at(n as i64 + 1)),
        resolved_at: None,
        updated_at: at(n as i64 + 2),
        rules: vec![RuleId(u64::MAX - n)],
        group: "host".to_owned(),
        expr: "up == 0".to_owned(),
        acknowledged: None,
        suppressed_by: Vec::new(),
        assigned: None,
        external: None,
        incident: None,
        flaps: 0,
    }
}

/// The alert, resolved at a moment.
pub fn resolved(mut alert: Alert, when: Timestamp) -> Alert {
    alert.state = AlertState::Resolved;
    alert.resolved_at = Some(when);
    alert
}

/// An event of an alert.
pub fn event(n: u64, alert: &Alert, kind: AlertEventKind) -> AlertEvent {
    AlertEvent {
        id: id(n),
        alert: alert.id,
        at: at(n as i64),
        actor: None,
        kind,
    }
}

/// A commit of alerts alone.
pub fn alerts(alerts: Vec<Alert>) -> AlertCommit {
    AlertCommit {
        alerts,
        ..AlertCommit::default()
    }
}

/// A commit of messages alone.
pub fn messages(outbox: Vec<Notification>) -> AlertCommit {
    AlertCommit {
        outbox,
        ..AlertCommit::default()
    }
}

/// The `n`-th message of a group to a channel, about these alerts, due at once.
pub fn message(n: u64, group: &str, channel: &str, about: &[&Alert]) -> Notification {
    let told = |alert: &&Alert| NotifiedAlert {
        id: alert.id,
        state: alert.state,
        level: alert.level,
        labels: alert.sent_labels(),
        annotations: alert.annotations.clone(),
        value: alert.value,
        starts_at: alert.active_at,
        ends_at: alert.resolved_at,
        fingerprint: format!("{:016x}", alert.fingerprint()),
        expr: alert.expr.clone(),
        generator_url: None,
        flaps: 0,
    };
    Notification {
        id: id(n),
        group_key: group.to_owned(),
        receiver: "default".to_owned(),
        channel: channel.to_owned(),
        created_at: at(n as i64),
        due_at: at(n as i64),
        deadline_at: at(n as i64) + Duration::from_secs(3600),
        attempts: 0,
        status: NotificationStatus::Waiting,
        content: NotificationContent {
            state: AlertState::Firing,
            group_labels: Labels::empty(),
            common_labels: Labels::empty(),
            common_annotations: Labels::empty(),
            alerts: about.iter().map(told).collect(),
            truncated_alerts: 0,
            purpose: Default::default(),
        },
    }
}

/// A group that holds alerts.
pub fn group(key: &str, members: &[&Alert]) -> GroupRecord {
    GroupRecord {
        key: key.to_owned(),
        labels: Labels::from_pairs([("alertname", key)]),
        receiver: "default".to_owned(),
        flush_at: at(30_000),
        is_flushed: false,
        alerts: members.iter().map(|alert| alert.id).collect(),
        told: Vec::new(),
        escalation: None,
    }
}

/// Tells a thread that the test is over, however it ends; without it a failing test would wait for the thread for ever.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

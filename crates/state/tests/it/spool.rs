//! A database that is away: what is decided meanwhile is told from the journal, and recorded once it is back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::records::NotificationFilter;
use marketprism_model::{
    AlertCommit, AlertEventKind, AlertStore, AttemptOutcome, Claim, Clock, DeliveryAttempt, Id, LeaseStore,
    Level, Notification, NotificationStatus, Outbox, Timestamp,
};
use marketprism_state::{Database, SpooledRecords};
use marketprism_testkit::{ManualClock, PostgresServer, is_true_within};

use crate::support::*;

const LEASE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of its own, for it is killed; a replica that leads; its journal.
struct Rig {
    server: PostgresServer,
    folder: tempfile::TempDir,
    clock: ManualClock,
    records: SpooledRecords,
}

fn open(server: &PostgresServer, folder: &Path, clock: &ManualClock) -> SpooledRecords {
    let database = Arc::new(Database::connect(&server.url()).expect("connect"));
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    SpooledRecords::open(database, &folder.join("spool"), clock).expect("the journal")
}

impl Rig {
    fn new() -> Self {
        let server = PostgresServer::start();
        let folder = tempfile::tempdir().expect("folder");
        let clock = ManualClock::new(at(0));
        let records = open(&server, folder.path(), &clock);
        let rig = Rig {
            server,
            folder,
            clock,
            records,
        };
        rig.lead("first");
        rig
    }

    fn lead(&self, name: &str) {
        let claim = self.records.claim(&replica(name), LEASE).expect("claim");
        assert!(matches!(claim, Claim::Ours { .. }), "{claim:?}");
    }

    fn now(&self) -> Timestamp {
        at(1_000_000)
    }

    /// Decides messages while nobody can record them; gives the commit, which the lifecycle keeps and tries again.
    fn decide(&self, messages: Vec<Notification>) -> AlertCommit {
        let alerts = messages.iter().flat_map(|message| &message.content.alerts);
        let alerts: Vec<_> = alerts.map(|told| told.id).collect();
        let commit = AlertCommit {
            alerts: alerts
                .iter()
                .map(|known| {
                    let mut record = alert(1, &[("alertname", "A")]);
                    record.id = *known;
                    record
                })
                .collect(),
            outbox: messages,
            ..AlertCommit::default()
        };
        self.records.commit(&commit).expect_err("the database is away");
        commit
    }

    fn due(&self) -> Vec<Notification> {
        self.records.due(self.now(), 100).expect("due")
    }

    fn back(&mut self) {
        self.server.restart();
        let records = &self.records;
        let is_back = is_true_within(PATIENCE, || records.open_count().is_ok());
        assert!(is_back, "the database does not come back");
    }

    fn commit_again(&self, commit: &AlertCommit) {
        let is_written = is_true_within(PATIENCE, || self.records.commit(commit).is_ok());
        assert!(is_written, "{:?}", self.records.commit(commit));
    }

    fn status(&self, id: Id) -> Option<NotificationStatus> {
        let filter = NotificationFilter {
            limit: 100,
            ..NotificationFilter::default()
        };
        let page = self.records.notifications(&filter).expect("list");
        let found = page.items.iter().find(|message| message.id == id);
        found.map(|message| message.status)
    }
}

fn begin(records: &SpooledRecords, message: &Notification) -> DeliveryAttempt {
    let attempt = DeliveryAttempt {
        notification: message.id,
        number: message.attempts + 1,
        started_at: at(5),
        finished_at: None,
        outcome: AttemptOutcome::Started,
        provider_code: 0,
        detail: String::new(),
    };
    records.begin(&attempt).expect("begin");
    attempt
}

fn deliver(records: &SpooledRecords, message: &Notification) {
    let attempt = DeliveryAttempt {
        finished_at: Some(at(6)),
        outcome: AttemptOutcome::Delivered,
        provider_code: 200,
        ..begin(records, message)
    };
    let status = NotificationStatus::Delivered;
    records.finish(&attempt, status, None).expect("finish");
}

fn ids(messages: &[Notification]) -> Vec<Id> {
    messages.iter().map(|message| message.id).collect()
}

fn about(n: u64, group: &str, level: Level) -> Notification {
    let mut subject = alert(n, &[("alertname", "A")]);
    subject.level = level;
    message(n, group, "mail", &[&subject])
}

#[test]
fn what_is_decided_while_the_database_is_away_is_told_and_recorded_once_it_is_back() {
    let mut rig = Rig::new();
    rig.server.kill();
    let (told, retried, untold) = (
        about(1, "a", Level::Low),
        about(2, "b", Level::High),
        about(3, "c", Level::High),
    );
    let commit = rig.decide(vec![told.clone(), retried.clone(), untold.clone()]);
    rig.decide(commit.outbox.clone());
    assert_eq!(ids(&rig.due()), [told.id, retried.id, untold.id]);
    deliver(&rig.records, &told);
    let refused = DeliveryAttempt {
        finished_at: Some(at(6)),
        outcome: AttemptOutcome::Retry,
        ..begin(&rig.records, &retried)
    };
    let later = Some(at(2_000_000));
    rig.records
        .finish(&refused, NotificationStatus::Waiting, later)
        .expect("finish");
    assert_eq!(ids(&rig.due()), [untold.id]);

    rig.back();
    // The message has not reached the database, which knows nothing to send.
    assert_eq!(ids(&rig.due()), []);
    rig.commit_again(&commit);
    assert_eq!(ids(&rig.due()), [untold.id]);
    assert_eq!(rig.status(told.id), Some(NotificationStatus::Delivered));
    assert_eq!(rig.status(retried.id), Some(NotificationStatus::Waiting));
    let attempts = rig.records.attempts(retried.id).expect("attempts");
    assert_eq!(attempts, [refused]);
    let story = rig.records.events(told.content.alerts[0].id).expect("events");
    assert!(
        matches!(&story[..], [event] if matches!(&event.kind, AlertEventKind::Notified { outcome, .. } if outcome == "delivered")),
        "{story:?}"
    );
    deliver(&rig.records, &untold);
    assert_eq!(rig.status(untold.id), Some(NotificationStatus::Delivered));
    let journal = std::fs::metadata(rig.folder.path().join("spool")).expect("the journal");
    assert_eq!(journal.len(), 8, "the journal is empty");
}

#[test]
fn one_that_is_cut_off_longer_than_its_lease_tells_p1_alone_and_says_that_it_may_be_doubled() {
    let rig = {
        let mut rig = Rig::new();
        rig.server.kill();
        rig
    };
    let (minor, major) = (about(1, "a", Level::High), about(2, "b", Level::Critical));
    rig.decide(vec![minor.clone(), major.clone()]);
    assert_eq!(rig.due(), [minor, major.clone()]);
    rig.clock.advance(LEASE);
    let due = rig.due();
    assert_eq!(ids(&due), [major.id]);
    let annotations = &due[0].content.alerts[0].annotations;
    let summary = annotations.get("summary").expect("a summary");
    assert!(
        summary.starts_with("[可能重复 / possibly doubled]") && summary.ends_with("磁盘将满"),
        "{summary}"
    );
}

#[test]
fn whoever_does_not_lead_tells_nothing_and_keeps_nothing() {
    let mut rig = Rig::new();
    rig.records.release(&replica("first")).expect("release");
    rig.server.kill();
    rig.decide(vec![about(1, "a", Level::Critical)]);
    rig.records.due(rig.now(), 9).expect_err("the database is away");
    rig.records.next_due().expect_err("the database is away");
    let journal = std::fs::metadata(rig.folder.path().join("spool")).expect("the journal");
    assert_eq!(journal.len(), 8);
}

#[test]
fn a_message_overtakes_none_that_waits_on_the_same_way_in_the_database() {
    let mut rig = Rig::new();
    let first = about(1, "a", Level::High);
    rig.records
        .commit(&messages(vec![first.clone()]))
        .expect("commit");
    assert_eq!(ids(&rig.due()), [first.id]);
    rig.server.kill();
    let (second, third, other) = (
        about(2, "a", Level::High),
        about(3, "b", Level::High),
        about(4, "b", Level::High),
    );
    rig.decide(vec![second, third.clone(), other.clone()]);
    assert_eq!(ids(&rig.due()), [third.id]);
    deliver(&rig.records, &third);
    assert_eq!(ids(&rig.due()), [other.id]);
}

/// What waits in the database behind another message was not seen as due; it is older nevertheless.
#[test]
fn a_message_of_the_journal_overtakes_none_about_the_same_alert_whatever_their_groups() {
    for is_restarted in [false, true] {
        let mut rig = Rig::new();
        let subjects: Vec<_> = (1..5).map(|n| alert(n, &[("alertname", "A")])).collect();
        let about = |n: u64, group: &str, channel: &str, subject: usize| {
            message(n, group, channel, &[&subjects[subject]])
        };
        let (first, behind) = (about(1, "old", "mail", 0), about(2, "old", "mail", 1));
        let told = about(3, "old", "pager", 2);
        let commit = messages(vec![first.clone(), behind.clone(), told.clone()]);
        rig.records.commit(&commit).expect("commit");
        if is_restarted {
            rig.records = open(&rig.server, rig.folder.path(), &rig.clock);
            rig.server.run("UPDATE replica_lease SET expires_at = 0");
            rig.lead("second");
            rig.records.recover(at(9)).expect("recover");
        }
        assert_eq!(ids(&rig.due()), [first.id, told.id]);
        deliver(&rig.records, &told);
        rig.server.kill();
        let over = [0, 1, 2].map(|subject| about(10 + subject as u64, "new", "mail", subject));
        let (again, elsewhere) = (about(20, "c", "pager", 1), about(21, "d", "pager", 2));
        let (one, two) = (about(22, "e", "mail", 3), about(23, "f", "mail", 3));
        let all = over.iter().chain([&again, &elsewhere, &one, &two]);
        let commit = rig.decide(all.cloned().collect());
        assert_eq!(
            ids(&rig.due()),
            [again.id, elsewhere.id, one.id],
            "restarted: {is_restarted}"
        );
        deliver(&rig.records, &one);
        assert_eq!(ids(&rig.due()), [again.id, elsewhere.id, two.id]);
        rig.back();
        rig.commit_again(&commit);
        assert_eq!(ids(&rig.due()), [first.id, again.id, elsewhere.id, two.id]);
        deliver(&rig.records, &first);
        assert!(ids(&rig.due()).contains(&behind.id));
    }
}

/// The process dies while the database is away; what it remembered is gone, and the next one decides anew.
#[test]
fn the_next_process_keeps_what_was_told_as_history_and_sends_none_of_it_again() {
    let mut rig = Rig::new();
    rig.server.kill();
    let (told, cut, untried) = (
        about(1, "a", Level::High),
        about(2, "b", Level::High),
        about(3, "c", Level::High),
    );
    rig.decide(vec![told.clone(), cut.clone(), untried.clone()]);
    deliver(&rig.records, &told);
    begin(&rig.records, &cut);
    rig.back();
    // Dropped without a word, as a kill does.
    rig.records = open(&rig.server, rig.folder.path(), &rig.clock);
    rig.server.run("UPDATE replica_lease SET expires_at = 0");
    rig.lead("second");
    assert_eq!(rig.records.recover(at(9)).expect("recover"), 1);
    assert_eq!(rig.status(told.id), Some(NotificationStatus::Delivered));
    assert_eq!(rig.status(cut.id), Some(NotificationStatus::Failed));
    assert_eq!(rig.status(untried.id), None);
    let attempts = rig.records.attempts(cut.id).expect("attempts");
    assert_eq!(attempts[0].outcome, AttemptOutcome::Uncertain);
    assert_eq!(ids(&rig.due()), []);
    assert_eq!(rig.records.recover(at(9)).expect("once"), 0);
}

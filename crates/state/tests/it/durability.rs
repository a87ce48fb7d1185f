//! Crashes, full disks, locks and files that are not ours.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use marketprism_model::records::NotificationFilter;
use marketprism_model::{
    AlertCommit, AlertEventKind, AlertStore, AttemptOutcome, DeliveryAttempt, IncidentEventKind,
    IncidentState, NotificationStatus, Outbox, StoreError,
};
use marketprism_state::{Database, OpenError, POINTS};
use marketprism_testkit::PostgresServer;

use crate::management::{incident, line, shift, silence};
use crate::support::*;

const PLACE: &str = "MARKETPRISM_STATE_TEST_PLACE";

fn file(folder: &Path) -> std::path::PathBuf {
    folder.join("state.db")
}

/// Stores an alert with its message, sends the message, and records the receipt.
#[test]
#[ignore = "the kill test starts it as a process of its own"]
fn the_life_of_one_message() {
    let place = std::env::var(PLACE).expect("set by the kill test");
    let db = if place.starts_with("postgres://") {
        let db = Database::connect(&place).expect("connect");
        lead(&db, "the process that dies");
        db
    } else {
        Database::open(&file(Path::new(&place))).expect("open")
    };
    let subject = alert(1, &[("alertname", "A")]);
    let told = message(2, "g", "mail", &[&subject]);
    db.commit(&AlertCommit {
        alerts: vec![subject.clone()],
        events: vec![event(3, &subject, AlertEventKind::Pending)],
        outbox: vec![told.clone()],
        silences: vec![silence(4, 0, i64::from(u32::MAX))],
        incidents: vec![incident(5, IncidentState::Open)],
        incident_events: vec![line(6, id(5), IncidentEventKind::Opened)],
        overrides: vec![shift(7, i64::from(u32::MAX))],
        ..AlertCommit::default()
    })
    .expect("commit");
    let mut attempt = DeliveryAttempt {
        notification: told.id,
        number: 1,
        started_at: at(10),
        finished_at: None,
        outcome: AttemptOutcome::Started,
        provider_code: 0,
        detail: String::new(),
    };
    db.begin(&attempt).expect("begin");
    (attempt.outcome, attempt.finished_at) = (AttemptOutcome::Delivered, Some(at(11)));
    db.finish(&attempt, NotificationStatus::Delivered, None)
        .expect("finish");
}

#[test]
fn whatever_the_moment_of_death_a_step_is_whole_or_absent() {
    for point in POINTS {
        let folder = tempfile::tempdir().expect("folder");
        die(
            point,
            folder.path().to_str().expect("a path of the tests is text"),
        );
        whole_or_absent(
            point,
            &Database::open(&file(folder.path())).expect("opens after the crash"),
        );

        let url = PostgresServer::shared().new_schema();
        die(point, &url);
        whole_or_absent(point, &Database::connect(&url).expect("connects after the crash"));
    }
}

fn die(point: &str, place: &str) {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "durability::the_life_of_one_message"])
        .env(PLACE, place)
        .env("MARKETPRISM_KILL_POINT", point)
        .output()
        .expect("start");
    assert!(!output.status.success(), "{point} was never passed");
}

fn whole_or_absent(point: &str, db: &Database) {
    // An even number of points passed means that as many halves of them are durable.
    let durable = POINTS
        .iter()
        .position(|known| *known == point)
        .expect("known")
        .div_ceil(2);
    let stored = db.load().expect("load");
    let counts = [
        stored.alerts.len(),
        stored.silences.len(),
        stored.incidents.len(),
        stored.overrides.len(),
        db.incident_events(id(5)).expect("timeline").len(),
    ];
    assert_eq!(counts, [usize::from(durable >= 1); 5], "{point}");
    let filter = NotificationFilter {
        limit: 10,
        ..NotificationFilter::default()
    };
    let status = db
        .notifications(&filter)
        .expect("list")
        .items
        .first()
        .map(|message| message.status);
    let expected = match durable {
        0 => None,
        1 => Some(NotificationStatus::Waiting),
        2 => Some(NotificationStatus::Sending),
        _ => Some(NotificationStatus::Delivered),
    };
    assert_eq!(status, expected, "{point}");
    let story: Vec<String> = db
        .events(id(1))
        .expect("events")
        .iter()
        .map(|event| match &event.kind {
            AlertEventKind::Notified { outcome, .. } => outcome.clone(),
            _ => "pending".to_owned(),
        })
        .collect();
    let expected: &[&str] = match durable {
        0 => &[],
        1 | 2 => &["pending"],
        _ => &["pending", "delivered"],
    };
    assert_eq!(story, expected, "{point}");
}

#[test]
fn a_commit_survives_reopening_and_readers_see_it() {
    let folder = tempfile::tempdir().expect("folder");
    {
        let db = Database::open(&file(folder.path())).expect("open");
        db.commit(&alerts(vec![alert(1, &[("alertname", "A")])]))
            .expect("commit");
        assert!(db.alert(id(1)).expect("a reader's connection").is_some());
    }
    let db = Database::open(&file(folder.path())).expect("open again");
    assert_eq!(db.load().expect("load").alerts.len(), 1);
}

#[test]
fn many_readers_and_a_writer_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().expect("folder");
    let on_file = Database::open(&file(folder.path())).expect("open");
    let on_server = Engine::Postgres.database();
    for db in [on_file, on_server] {
        db.commit(&alerts(vec![alert(0, &[("alertname", "A")])]))
            .expect("commit");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let alerts = db.load().expect("load").alerts.len();
                        assert!(alerts % 2 == 1, "{alerts} alerts: half a commit was seen");
                    }
                });
            }
            scope.spawn(|| {
                for n in 1..40 {
                    let pair = [2 * n, 2 * n + 1].map(|n| alert(n, &[("alertname", "A")]));
                    db.commit(&alerts(pair.to_vec())).expect("commit");
                }
            });
        });
    }
}

#[test]
fn a_file_that_another_process_holds_is_an_error_and_later_none() {
    let folder = tempfile::tempdir().expect("folder");
    let db = Database::open_with_busy_timeout(&file(folder.path()), Duration::from_millis(1)).expect("open");
    let holder = rusqlite::Connection::open(file(folder.path())).expect("second connection");
    holder.execute_batch("BEGIN IMMEDIATE").expect("hold the file");
    let error = db
        .commit(&alerts(vec![alert(1, &[("alertname", "A")])]))
        .expect_err("held");
    assert!(
        matches!(&error, StoreError::Database { operation: "commit alerts", reason } if reason.contains("locked")),
        "{error}"
    );
    assert!(db.load().expect("reading goes on").alerts.is_empty());
    holder.execute_batch("ROLLBACK").expect("let go");
    db.commit(&alerts(vec![alert(1, &[("alertname", "A")])]))
        .expect("commit");
}

#[test]
fn what_is_no_database_is_refused_with_its_path() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(
        file(folder.path()),
        "not a database, but long enough to be looked at".repeat(40),
    )
    .expect("write");
    let error = Database::open(&file(folder.path())).err().expect("refused");
    let text = error.to_string();
    assert!(
        text.contains("state.db") && text.contains("not a database"),
        "{text}"
    );
    let missing = Database::open(&folder.path().join("absent/state.db"))
        .err()
        .expect("refused");
    assert!(missing.to_string().contains("absent/state.db"), "{missing}");
}

#[test]
fn a_newer_schema_is_refused_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("folder");
    drop(Database::open(&file(folder.path())).expect("open"));
    rusqlite::Connection::open(file(folder.path()))
        .expect("open")
        .execute(
            "INSERT INTO schema_steps (version, checksum) VALUES (99, 'x')",
            [],
        )
        .expect("a step of the future");
    let error = Database::open(&file(folder.path())).err().expect("refused");
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("newer release"), "{error}");
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// The disk was full, the alert about it could not be recorded, and what cannot be recorded is not sent: nobody
/// was told until somebody made room.
#[test]
fn on_a_full_disk_alerts_and_their_messages_are_still_recorded() {
    let disk = tempfile::tempdir().expect("folder");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"])
        .arg(disk.path())
        .output()
        .expect("run mount");
    assert!(
        mounted.status.success(),
        "this test mounts a small tmpfs: {mounted:?}"
    );
    let _unmount = Unmount(disk.path().to_owned());
    let db = Database::open(&file(disk.path())).expect("open");
    let mut filler = std::fs::File::create(disk.path().join("filler")).expect("create");
    while std::io::Write::write_all(&mut filler, &[1u8; 4096]).is_ok() {}

    // Far more than one checkpoint of the log: a night of alerts about the disk.
    for n in 0..500u64 {
        let subject = alert(
            4 * n + 1,
            &[("alertname", "DiskFull"), ("instance", &n.to_string())],
        );
        let told = message(4 * n + 2, &format!("g{n}"), "mail", &[&subject]);
        let fired = event(4 * n + 3, &subject, AlertEventKind::Pending);
        db.commit(&AlertCommit {
            alerts: vec![subject],
            events: vec![fired],
            outbox: vec![told.clone()],
            ..AlertCommit::default()
        })
        .unwrap_or_else(|error| panic!("alert {n}: {error}"));
        let attempt = DeliveryAttempt {
            notification: told.id,
            number: 1,
            started_at: at(10),
            finished_at: None,
            outcome: AttemptOutcome::Started,
            provider_code: 0,
            detail: String::new(),
        };
        db.begin(&attempt)
            .unwrap_or_else(|error| panic!("attempt {n}: {error}"));
        let ended = DeliveryAttempt {
            finished_at: Some(at(11)),
            outcome: AttemptOutcome::Delivered,
            ..attempt
        };
        db.finish(&ended, NotificationStatus::Delivered, None)
            .unwrap_or_else(|error| panic!("receipt {n}: {error}"));
    }
    assert_eq!(db.load().expect("load").alerts.len(), 500);
}

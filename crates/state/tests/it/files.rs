//! Copies of the files: beside a running service, by `tar`, by a backup, back and forward through the schema.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use marketprism_model::{
    AccessStore, AlertCommit, AlertStore, ClockRecord, Id, Level, Role, RuleId, Secret, User,
};
use marketprism_state::{Database, OpenError};

use crate::support::*;

fn file(folder: &Path) -> PathBuf {
    folder.join("records.db")
}

/// Rounds of what takes long; `make test-long` asks for more.
fn rounds(count: u64) -> u64 {
    let scale = std::env::var("MARKETPRISM_TEST_SCALE")
        .ok()
        .and_then(|text| text.parse().ok());
    count * scale.unwrap_or(1)
}

fn rights(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

/// The hashes of passwords stood in files that every user of the machine could read.
#[test]
fn the_owner_alone_reads_the_records_their_log_and_every_copy() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("folder");
    let path = file(folder.path());
    let check = |db: &Database| {
        db.snapshot().expect("a snapshot");
        marketprism_state::backup(&path, &folder.path().join("copy.db"), &mut |_| {}).expect("a backup");
        for name in [
            "records.db",
            "records.db-wal",
            "records.db-shm",
            "records.snapshot.db",
            "copy.db",
        ] {
            assert_eq!(rights(&folder.path().join(name)), 0o600, "{name}");
        }
    };
    check(&Database::open(&path).expect("open"));
    // An earlier release left others in.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set rights");
    check(&Database::open(&path).expect("open again"));
}

/// A commit that says the same number in four tables, and in as many places of the file.
fn numbered(n: u64) -> AlertCommit {
    let mut subject = alert(1, &[("alertname", "A")]);
    subject.value = n as f64;
    let other = alert(n + 10, &[("alertname", "B"), ("n", &n.to_string())]);
    let mut told = group("g", &[&subject]);
    told.flush_at = at(n as i64);
    AlertCommit {
        alerts: vec![subject, other.clone()],
        clocks: vec![ClockRecord {
            rule: RuleId(1),
            fingerprint: 1,
            condition: 0,
            level: Level::Low,
            active_at: at(0),
            fired_at: None,
            seen_at: at(n as i64),
            missed_since: None,
            unknown_since: None,
            set_aside_at: None,
        }],
        groups: vec![told],
        outbox: vec![message(n + 10, &format!("g{n}"), "mail", &[&other])],
        ..AlertCommit::default()
    }
}

/// Gives the number that the records say, having compared all places that say it.
fn number_of(db: &Database) -> u64 {
    let stored = db.load().expect("load");
    let Some(group) = stored.groups.first() else {
        return 0;
    };
    let n = (group.flush_at.millis() - at(0).millis()) as u64;
    assert_eq!(
        stored.clocks[0].seen_at,
        at(n as i64),
        "the clock is of another moment"
    );
    let subject = db.alert(id(1)).expect("read").expect("stored");
    assert_eq!(subject.value, n as f64, "the alert is of another moment");
    assert!(
        db.alert(id(n + 10)).expect("read").is_some(),
        "the newest alert is missing"
    );
    assert!(
        db.alert(id(n + 11)).expect("read").is_none(),
        "an alert is newer than the commit"
    );
    assert_eq!(stored.alerts.len() as u64, n + 1, "alerts are missing");
    n
}

fn tar(arguments: &[&str]) {
    let output = Command::new("tar")
        .args(arguments)
        .output()
        .expect("tar starts; install it with: apt-get install tar");
    // 1 says that a file changed while it was read, which is the point of these tests.
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the tests is text")
}

/// The guide backs up with `tar` while the service runs. A file and its log that are copied one after the other are
/// of two moments.
#[test]
fn a_tar_of_the_running_folder_opens_whole_and_loses_nothing_older_than_its_snapshot() {
    let home = tempfile::tempdir().expect("folder");
    let data = home.path().join("data");
    fs::create_dir(&data).expect("folder");
    let db = Database::open(&file(&data)).expect("open");
    let (written, kept, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let mut from_snapshot = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let beside = rusqlite::Connection::open(file(&data)).expect("a connection for checkpoints");
            let mut n = 0;
            while !is_over.load(Ordering::SeqCst) {
                n += 1;
                db.commit(&numbered(n)).expect("commit");
                written.store(n, Ordering::SeqCst);
                if n.is_multiple_of(7) {
                    beside
                        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                        .expect("checkpoint");
                }
                if n.is_multiple_of(50) {
                    db.snapshot().expect("snapshot");
                    kept.store(n, Ordering::SeqCst);
                }
            }
        });
        let _stop = Stop(&is_over);
        for round in 0..rounds(25) {
            let floor = kept.load(Ordering::SeqCst);
            let archive = home.path().join("data.tar.gz");
            tar(&["-czf", text(&archive), "-C", text(home.path()), "data"]);
            let ceiling = written.load(Ordering::SeqCst) + 1;
            let restored = home.path().join(format!("restored-{round}"));
            fs::create_dir(&restored).expect("folder");
            tar(&["-xzf", text(&archive), "-C", text(&restored)]);
            let path = file(&restored.join("data"));
            let copy = Database::open(&path).unwrap_or_else(|error| panic!("round {round}: {error}"));
            let n = number_of(&copy);
            assert!(
                (floor..=ceiling).contains(&n),
                "round {round}: {n} is not in {floor}..={ceiling}"
            );
            from_snapshot += u64::from(copy.report().is_from_snapshot);
            copy.commit(&numbered(n + 1)).expect("the copy goes on");
            drop(copy);
            let again = Database::open(&path).expect("open again");
            assert_eq!(
                (number_of(&again), &again.report().remark),
                (n + 1, &None),
                "round {round}"
            );
            drop(again);
            fs::remove_dir_all(&restored).expect("remove");
        }
    });
    assert!(written.load(Ordering::SeqCst) > 50, "the writer hardly wrote");
    assert_eq!(
        from_snapshot,
        rounds(25),
        "a copy of files in use was taken as it stood"
    );
}

#[test]
fn a_copy_made_in_use_gives_way_to_the_snapshot_and_the_report_says_what_is_lost() {
    let home = tempfile::tempdir().expect("folder");
    let (data, other) = (home.path().join("data"), home.path().join("other"));
    fs::create_dir(&data).expect("folder");
    fs::create_dir(&other).expect("folder");
    let db = Database::open(&file(&data)).expect("open");
    db.commit(&numbered(1)).expect("commit");
    db.heartbeat(at(100)).expect("heartbeat");
    db.snapshot().expect("snapshot");
    db.commit(&numbered(2)).expect("commit");
    for entry in fs::read_dir(&data).expect("list") {
        let entry = entry.expect("entry");
        fs::copy(entry.path(), other.join(entry.file_name())).expect("copy");
    }
    let copy = Database::open(&file(&other)).expect("open");
    assert_eq!(number_of(&copy), 1);
    let report = copy.report();
    assert!(
        report.is_from_snapshot && report.records_until == Some(at(100)),
        "{report:?}"
    );
    let aside = report.set_aside.clone().expect("nothing is deleted");
    assert_eq!(aside, other.join("records.db.damaged-1"));
    assert!(other.join("records.db.damaged-1-wal").exists());
    // The original is not touched by any of it.
    assert_eq!(number_of(&db), 2);
}

#[test]
fn a_copy_of_a_stopped_service_is_taken_as_it_stands() {
    let home = tempfile::tempdir().expect("folder");
    let db = Database::open(&file(home.path())).expect("open");
    db.commit(&numbered(1)).expect("commit");
    db.snapshot().expect("snapshot");
    db.commit(&numbered(2)).expect("commit");
    drop(db);
    let other = home.path().join("other");
    fs::create_dir(&other).expect("folder");
    for name in ["records.db", "records.snapshot.db"] {
        fs::copy(home.path().join(name), other.join(name)).expect("copy");
    }
    let copy = Database::open(&file(&other)).expect("open");
    assert_eq!((number_of(&copy), copy.report()), (2, &Default::default()));
}

#[test]
fn a_damaged_file_gives_way_to_the_snapshot_and_without_one_is_refused() {
    let home = tempfile::tempdir().expect("folder");
    let path = file(home.path());
    let db = Database::open(&path).expect("open");
    for n in 1..200 {
        db.commit(&numbered(n)).expect("commit");
    }
    db.snapshot().expect("snapshot");
    drop(db);
    let spoil = || {
        let mut bytes = fs::read(&path).expect("read");
        let end = bytes.len().min(400_000);
        bytes[8_192..end].fill(0xa5);
        // Written over the same file, as a failing disk does; and as if the service had been cut off.
        fs::write(&path, bytes).expect("write");
        let _ = rusqlite::Connection::open(&path)
            .expect("open")
            .execute("UPDATE open_mark SET is_open = 1", []);
    };
    spoil();
    let db = Database::open(&path).expect("the snapshot stands in");
    assert!(db.report().is_from_snapshot, "{:?}", db.report());
    assert_eq!(number_of(&db), 199);
    drop(db);
    fs::remove_file(&path).expect("remove");
    let db = Database::open(&path).expect("a lost file has its snapshot too");
    assert_eq!((number_of(&db), db.report().is_from_snapshot), (199, true));
    drop(db);
    fs::remove_file(home.path().join("records.snapshot.db")).expect("remove");
    spoil();
    let error = Database::open(&path).err().expect("refused");
    assert!(matches!(&error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("restore a backup"), "{error}");
}

#[test]
fn another_process_works_beside_the_service_and_changes_nothing_unasked() {
    let home = tempfile::tempdir().expect("folder");
    let path = file(home.path());
    Database::open_beside(&path)
        .err()
        .expect("there is nothing to open");
    assert!(!path.exists(), "a file was made");
    let db = Database::open(&path).expect("open");
    db.commit(&numbered(1)).expect("commit");
    let beside = Database::open_beside(&path).expect("open beside");
    let user = User {
        id: Id::from_u128(7),
        name: "li".to_owned(),
        role: Role::Admin,
        password: Secret::new("$argon2id$x"),
        is_disabled: false,
        created_at: at(0),
        sessions_from: at(0),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| (2..60).for_each(|n| db.commit(&numbered(n)).expect("the service goes on")));
        scope.spawn(|| (0..30).for_each(|_| beside.put_user(&user).expect("the command line too")));
    });
    drop(beside);
    assert_eq!(db.users().expect("users"), [user]);
    assert_eq!(number_of(&db), 59);
    drop(db);
    rusqlite::Connection::open(&path)
        .expect("open")
        .execute(
            "DELETE FROM schema_steps WHERE version = (SELECT max(version) FROM schema_steps)",
            [],
        )
        .expect("an older schema");
    let error = Database::open_beside(&path).err().expect("refused");
    assert!(matches!(error, OpenError::Older { .. }), "{error}");
}

#[test]
fn a_backup_is_whole_while_others_write_and_shows_its_progress() {
    let home = tempfile::tempdir().expect("folder");
    let path = file(home.path());
    let db = Database::open(&path).expect("open");
    for n in 1..100 {
        db.commit(&numbered(n)).expect("commit");
    }
    let to = home.path().join("backup.db");
    let is_over = AtomicBool::new(false);
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 99;
            while !is_over.load(Ordering::SeqCst) {
                n += 1;
                db.commit(&numbered(n)).expect("the service goes on");
            }
        });
        let _stop = Stop(&is_over);
        for _ in 0..rounds(10) {
            seen.clear();
            marketprism_state::backup(&path, &to, &mut |progress| seen.push(progress)).expect("backup");
            let copy = Database::open(&to).expect("open");
            assert!(number_of(&copy) >= 99);
            assert_eq!(copy.report(), &Default::default());
        }
    });
    let last = seen.last().expect("progress");
    assert!(last.pages == last.pages_total && last.pages > 256, "{last:?}");
    assert!(
        seen.len() > 2 && seen.windows(2).all(|pair| pair[0].pages <= pair[1].pages),
        "{seen:?}"
    );

    drop(db);
    let aside = marketprism_state::restore(&to, &path)
        .expect("restore")
        .expect("the old file is kept");
    assert!(aside.exists());
    let (restored, copy) = (
        Database::open(&path).expect("open"),
        Database::open(&to).expect("open"),
    );
    assert_eq!(number_of(&restored), number_of(&copy));
    fs::write(home.path().join("no.db"), "not a backup").expect("write");
    marketprism_state::restore(&home.path().join("no.db"), &path).expect_err("refused");
    assert_eq!(number_of(&restored), number_of(&copy));
}

#[test]
fn the_schema_goes_back_and_forward_and_keeps_what_the_older_one_has_room_for() {
    let home = tempfile::tempdir().expect("folder");
    let path = file(home.path());
    let db = Database::open(&path).expect("open");
    db.commit(&numbered(1)).expect("commit");
    db.end_session(id(1), at(1_000)).expect("end a session");
    drop(db);
    for to in (1..Database::SCHEMA_VERSION).rev() {
        Database::downgrade(&path, to).expect("downgrade");
        let steps: u32 = rusqlite::Connection::open(&path)
            .expect("open")
            .query_row("SELECT count(*) FROM schema_steps", [], |row| row.get(0))
            .expect("count");
        assert_eq!(steps, to);
    }
    for wanted in [0, 2] {
        let error = Database::downgrade(&path, wanted).expect_err("no way");
        assert!(matches!(error, OpenError::NoWayBack { found: 1, .. }), "{error}");
    }
    let db = Database::open(&path).expect("forward again");
    assert_eq!(number_of(&db), 1);
    assert!(
        !db.is_session_ended(id(1)).expect("look"),
        "the older schema had no room for it"
    );
}

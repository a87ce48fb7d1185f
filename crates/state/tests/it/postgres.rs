//! What only a server brings: several replicas, a lease, a network that fails, passwords and certificates.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use marketprism_model::{
    AccessStore, AccessStoreError, Alert, AlertCommit, AlertFilter, AlertStore, AttemptOutcome, Claim,
    DeliveryAttempt, LeaseStore, NotificationStatus, Outbox, Replica, Role, Secret, StoreError, User,
};
use marketprism_state::{Database, OpenError};
use marketprism_testkit::{PostgresServer, TestAuthority, free_port, wait_for};

use crate::support::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn server() -> &'static PostgresServer {
    PostgresServer::shared()
}

fn one(n: u64) -> AlertCommit {
    alerts(vec![alert(n, &[("alertname", "A")])])
}

fn is_fenced<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Fenced { .. }))
}

#[test]
fn replicas_that_start_together_bring_the_schema_forward_once() {
    let url = server().new_schema();
    let start = Barrier::new(6);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                start.wait();
                Database::connect(&url).expect("connect").load().expect("load");
            });
        }
    });
    let schema = url.rsplit("%3D").next().expect("named at the end");
    let steps = server().run(&format!("SELECT count(*) FROM {schema}.schema_steps"));
    assert_eq!(steps, Database::SCHEMA_VERSION.to_string());
    Database::connect_beside(&url).expect("a command beside the service");
}

#[test]
fn the_schema_of_a_server_is_guarded_like_that_of_a_file() {
    let url = server().new_schema();
    let schema = url.rsplit("%3D").next().expect("named at the end");
    let error = Database::connect_beside(&url).err().expect("nothing there");
    assert!(error.to_string().contains("schema_steps"), "{error}");
    let db = Database::connect(&url).expect("connect");
    lead(&db, "a");
    db.commit(&one(1)).expect("commit");
    drop(db);
    server().run(&format!("INSERT INTO {schema}.schema_steps VALUES (99, 'x')"));
    for refused in [Database::connect(&url), Database::connect_beside(&url)] {
        let error = refused.err().expect("refused");
        assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    }
    server().run(&format!("DELETE FROM {schema}.schema_steps WHERE version = 99"));
    for to in (1..Database::SCHEMA_VERSION).rev() {
        Database::downgrade_server(&url, to).expect("downgrade");
        assert_eq!(
            server().run(&format!("SELECT count(*) FROM {schema}.schema_steps")),
            to.to_string()
        );
        let error = Database::connect_beside(&url).err().expect("refused");
        assert!(
            matches!(error, OpenError::Older { found, .. } if found == to),
            "{error}"
        );
    }
    let error = Database::downgrade_server(&url, 2).expect_err("no way");
    assert!(
        matches!(
            error,
            OpenError::NoWayBack {
                found: 1,
                wanted: 2,
                ..
            }
        ),
        "{error}"
    );
    let db = Database::connect(&url).expect("forward again");
    assert!(db.alert(id(1)).expect("read").is_some());
}

#[test]
fn one_replica_leads_at_a_time_and_each_new_holder_raises_the_epoch() {
    let url = server().new_schema();
    let (a, b) = (
        Database::connect(&url).expect("connect"),
        Database::connect(&url).expect("connect"),
    );
    let first = Replica {
        id: "a".to_owned(),
        address: "10.0.0.1:8082".to_owned(),
    };
    let hour = seconds(3_600);
    assert_eq!(a.claim(&first, hour).expect("claim"), Claim::Ours { epoch: 1 });
    assert_eq!(
        b.claim(&replica("b"), hour).expect("claim"),
        Claim::Theirs {
            holder: first.clone()
        }
    );
    assert_eq!(a.claim(&first, hour).expect("renew"), Claim::Ours { epoch: 1 });
    b.release(&replica("b"))
        .expect("what is not ours is not given back");
    assert_eq!(a.claim(&first, hour).expect("renew"), Claim::Ours { epoch: 1 });
    a.release(&first).expect("release");
    let Claim::Ours { epoch } = b.claim(&replica("b"), hour).expect("claim") else {
        panic!("b does not lead")
    };
    assert!(epoch > 1, "{epoch}");
    assert_eq!(
        a.claim(&first, hour).expect("claim"),
        Claim::Theirs { holder: replica("b") }
    );
}

#[test]
fn a_lease_that_has_run_out_is_taken_over_by_exactly_one() {
    let url = server().new_schema();
    let gone = Database::connect(&url).expect("connect");
    assert_eq!(
        gone.claim(&replica("gone"), Duration::from_millis(300))
            .expect("claim"),
        Claim::Ours { epoch: 1 }
    );
    let others: Vec<Database> = (0..4)
        .map(|_| Database::connect(&url).expect("connect"))
        .collect();
    let winners = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for (n, db) in others.iter().enumerate() {
            let winners = &winners;
            scope.spawn(move || {
                let me = replica(&format!("r{n}"));
                wait_for(PATIENCE, || match db.claim(&me, seconds(3_600)).expect("claim") {
                    Claim::Ours { epoch } => {
                        assert_eq!(epoch, 2);
                        winners.fetch_add(1, Ordering::SeqCst);
                        true
                    }
                    Claim::Theirs { holder } => holder.id != "gone",
                });
            });
        }
    });
    assert_eq!(winners.load(Ordering::SeqCst), 1);
    // The one whose lease ran out does not know it yet; nothing that it writes is taken.
    assert!(is_fenced(gone.commit(&one(1))));
}

/// A leader that had been replaced found the lease free again, got a new epoch with it, and what it remembered from before
/// the other led passed the fence.
#[test]
fn a_leader_that_was_replaced_meanwhile_gets_no_new_epoch_before_it_was_told() {
    let url = server().new_schema();
    let (old, other) = (
        Database::connect(&url).expect("connect"),
        Database::connect(&url).expect("connect"),
    );
    lead(&old, "old");
    let schema = url.rsplit("%3D").next().expect("named at the end");
    server().run(&format!("UPDATE {schema}.replica_lease SET expires_at = 0"));
    lead(&other, "other");
    other.release(&replica("other")).expect("release");
    let told = old.claim(&replica("old"), seconds(60)).expect("claim");
    assert!(matches!(told, Claim::Theirs { .. }), "{told:?}");
    assert!(is_fenced(old.commit(&one(1))));
    lead(&old, "old");
    old.commit(&one(1)).expect("it leads again, with its eyes open");
}

#[test]
fn whoever_does_not_lead_changes_neither_alerts_nor_messages() {
    let url = server().new_schema();
    let (leader, other) = (
        Database::connect(&url).expect("connect"),
        Database::connect(&url).expect("connect"),
    );
    assert!(is_fenced(leader.commit(&one(1))), "nobody has claimed yet");
    lead(&leader, "leader");
    let told = message(7, "g", "mail", &[]);
    leader.commit(&messages(vec![told.clone()])).expect("commit");
    let attempt = DeliveryAttempt {
        notification: told.id,
        number: 1,
        started_at: at(10),
        finished_at: None,
        outcome: AttemptOutcome::Started,
        provider_code: 0,
        detail: String::new(),
    };
    let refused_to = |db: &Database| {
        [
            is_fenced(db.commit(&one(2))),
            is_fenced(db.heartbeat(at(1))),
            is_fenced(db.clean(at(1_000_000), seconds(1))),
            is_fenced(db.recover(at(1))),
            is_fenced(db.bring_forward(at(1))),
            is_fenced(db.begin(&attempt)),
            is_fenced(db.finish(&attempt, NotificationStatus::Delivered, None)),
        ]
    };
    assert_eq!(refused_to(&other), [true; 7], "without a claim");
    other.claim(&replica("other"), seconds(60)).expect("claim");
    assert_eq!(refused_to(&other), [true; 7], "with a claim that was refused");
    // Reading, and what the lease does not guard, goes on.
    assert_eq!(other.due(at(100), 10).expect("due").len(), 1);
    other.end_session(id(1), at(1)).expect("end a session");

    leader.release(&replica("leader")).expect("release");
    lead(&other, "other");
    assert_eq!(refused_to(&leader), [true; 7], "after the release");
    // One that was cut off and believes in its old epoch.
    let cut_off = Database::connect(&url).expect("connect");
    other.release(&replica("other")).expect("release");
    lead(&cut_off, "cut off");
    let schema = url.rsplit("%3D").next().expect("named at the end");
    server().run(&format!("UPDATE {schema}.replica_lease SET expires_at = 0"));
    lead(&other, "other");
    assert_eq!(refused_to(&cut_off), [true; 7], "with an old epoch");
    assert!(
        other.load().expect("load").heartbeat_at.is_none(),
        "something was written"
    );
    assert_eq!(other.due(at(100), 10).expect("due").len(), 1);
    other.begin(&attempt).expect("the leader goes on");
}

/// Renewing waited for every long commit, and when the commit was longer than the lease, the leader lost it.
#[test]
fn a_lease_is_renewed_during_a_commit_and_taken_over_only_after_it() {
    let url = server().new_schema();
    let db = Database::connect(&url).expect("connect");
    lead(&db, "a");
    let is_done = AtomicBool::new(false);
    let renewals = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            db.commit(&alerts(
                (0..4_000).map(|n| alert(n, &[("alertname", "A")])).collect(),
            ))
            .expect("commit");
            is_done.store(true, Ordering::SeqCst);
        });
        while !is_done.load(Ordering::SeqCst) {
            assert_eq!(lead(&db, "a"), 1);
            renewals.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert!(
        renewals.load(Ordering::SeqCst) > 5,
        "{renewals:?} renewals during a long commit"
    );
    // A writer that was decided on under the old epoch is either in, before the new holder reads, or fenced.
    let other = Database::connect(&url).expect("connect");
    let schema = url.rsplit("%3D").next().expect("named at the end");
    let (last, is_over) = (AtomicU64::new(4_000), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _stop = Stop(&is_over);
        scope.spawn(|| {
            for n in (4_001..).take_while(|_| !is_over.load(Ordering::SeqCst)) {
                match db.commit(&one(n)) {
                    Ok(()) => last.store(n, Ordering::SeqCst),
                    Err(StoreError::Fenced { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        wait_for(PATIENCE, || last.load(Ordering::SeqCst) > 4_020);
        server().run(&format!("UPDATE {schema}.replica_lease SET expires_at = 0"));
        lead(&other, "b");
        let newest = AlertFilter {
            limit: 1,
            ..AlertFilter::default()
        };
        let seen = other.alerts(&newest).expect("list").items.remove(0).id;
        wait_for(PATIENCE, || is_fenced(db.heartbeat(at(1))));
        let later = other.alerts(&newest).expect("list").items.remove(0).id;
        assert_eq!(seen, later, "the old leader wrote after the new one had begun");
    });
}

#[test]
fn a_server_that_dies_costs_errors_and_then_everything_goes_on() {
    let mut server = PostgresServer::start();
    let db = Database::connect(&server.url()).expect("connect");
    lead(&db, "a");
    let written = AtomicU64::new(0);
    let (failed, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 1;
            while !is_over.load(Ordering::SeqCst) {
                match db.commit(&one(n)) {
                    Ok(()) => {
                        written.store(n, Ordering::SeqCst);
                        n += 1;
                    }
                    Err(error) => {
                        assert!(matches!(&error, StoreError::Database { .. }), "{error}");
                        assert!(!error.to_string().contains(server_password()), "{error}");
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        });
        let _stop = Stop(&is_over);
        for _ in 0..3 {
            let before = written.load(Ordering::SeqCst);
            wait_for(PATIENCE, || written.load(Ordering::SeqCst) > before + 20);
            let errors = failed.load(Ordering::SeqCst);
            server.kill();
            wait_for(PATIENCE, || failed.load(Ordering::SeqCst) > errors);
            let error = db.load().expect_err("away").to_string();
            assert!(
                error.contains("127.0.0.1") && error.contains("load alerts"),
                "{error}"
            );
            server.restart();
        }
        let before = written.load(Ordering::SeqCst);
        wait_for(PATIENCE, || written.load(Ordering::SeqCst) > before + 20);
    });
    // Every commit that returned is there, and each once.
    let stored = db.load().expect("load").alerts;
    let expected: Vec<_> = (1..=written.load(Ordering::SeqCst)).map(id).collect();
    let found: Vec<_> = stored
        .iter()
        .map(|alert: &Alert| alert.id)
        .take(expected.len())
        .collect();
    assert_eq!(found, expected);
}

/// Of each seventeen seconds with a server that took connections and answered none, twelve were spent waiting for it, and
/// rules were not evaluated meanwhile.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "what is measured is how long a call really takes"
)]
fn a_server_that_does_not_answer_is_waited_for_once_and_found_again_by_itself() {
    let server = PostgresServer::start();
    let db = Database::connect(&server.url()).expect("connect");
    let file = server.run("SELECT pg_read_file('postmaster.pid', 0, 12)");
    let process = file.lines().next().expect("its number").to_owned();
    server.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    );
    let tell = |signal: &str| {
        let told = std::process::Command::new("kill")
            .args([signal, &process])
            .status();
        assert!(told.expect("kill runs").success());
    };
    tell("-STOP");
    let first = db.load().expect_err("it does not answer").to_string();
    assert!(first.contains("no answer"), "{first}");
    let begun = std::time::Instant::now();
    let mut calls = 0;
    while begun.elapsed() < Duration::from_secs(4) {
        db.load().expect_err("it does not answer");
        calls += 1;
    }
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(calls > 100, "{calls}");
    tell("-CONT");
    wait_for(PATIENCE, || db.load().is_ok());
}

fn server_password() -> &'static str {
    server().password()
}

#[test]
fn of_many_who_take_a_name_at_once_one_has_it() {
    let url = server().new_schema();
    let db = Database::connect(&url).expect("connect");
    let start = Barrier::new(6);
    let (done, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    for round in 0..10 {
        std::thread::scope(|scope| {
            for n in 0..6 {
                let (db, start, done, taken) = (&db, &start, &done, &taken);
                scope.spawn(move || {
                    let user = User {
                        id: id(10 * round + n),
                        name: format!("user{round}"),
                        role: Role::Viewer,
                        password: Secret::new("$argon2id$x"),
                        is_disabled: false,
                        created_at: at(0),
                        sessions_from: at(0),
                    };
                    start.wait();
                    match db.put_user(&user) {
                        Ok(()) => done.fetch_add(1, Ordering::SeqCst),
                        Err(AccessStoreError::NameTaken(_)) => taken.fetch_add(1, Ordering::SeqCst),
                        Err(error) => panic!("{error}"),
                    };
                });
            }
        });
    }
    assert_eq!((done.into_inner(), taken.into_inner()), (10, 50));
}

#[test]
fn an_async_worker_may_call_though_it_should_not() {
    let url = server().new_schema();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let task = tokio::spawn(async move {
            let db = Database::connect(&url).expect("connect");
            lead(&db, "a");
            db.commit(&one(1)).expect("commit");
            db.load().expect("load").alerts.len()
        });
        assert_eq!(task.await.expect("no panic"), 1);
    });
}

#[test]
fn errors_say_where_and_what_but_never_the_password() {
    let check = |url: &str, expected: &[&str]| {
        let error = Database::connect(url).err().expect("refused").to_string();
        for part in expected {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
        assert!(
            !error.contains("s3cret") && !error.contains(server_password()),
            "{error}"
        );
    };
    let port = server().port();
    let nobody = free_port();
    check(
        &format!("postgres://li:s3cret@127.0.0.1:{nobody}/x"),
        &[&format!("127.0.0.1:{nobody}"), "refused", "DATABASE_URL"],
    );
    check(
        &format!("postgres://marketprism:s3cret@127.0.0.1:{port}/x"),
        &["28P01", "password authentication failed"],
    );
    check(
        &format!("postgres://marketprism:s3cret@127.0.0.1:{port}/x?sslmode=require"),
        &["TLS"],
    );
    check(
        &server().url().replace("/postgres", "/absent"),
        &["absent", "does not exist"],
    );
    check("not an address s3cret", &["DATABASE_URL", "postgres://"]);
}

/// A server that takes connections and says nothing is as bad as one that is away; nobody may wait for it for ever.
#[test]
#[expect(clippy::disallowed_methods, reason = "measures how long the caller is kept")]
fn a_server_that_says_nothing_is_given_up_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("address").port();
    let begun = std::time::Instant::now();
    let error = Database::connect(&format!("postgres://li:s3cret@127.0.0.1:{port}/x"))
        .err()
        .expect("given up");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(error.to_string().contains("no answer within"), "{error}");
}

/// Somebody's own session holds the table, a migration for example: the writer is told, and goes on afterwards.
#[test]
fn a_lock_that_is_held_for_long_is_an_error_and_no_hanging() {
    let url = server().new_schema();
    let schema = url.rsplit("%3D").next().expect("named at the end").to_owned();
    let db = Database::connect(&url).expect("connect");
    lead(&db, "a");
    db.commit(&one(1)).expect("commit");
    std::thread::scope(|scope| {
        let schema = &schema;
        // The writer below tries until it meets the lock.
        scope.spawn(move || {
            server().run(&format!(
                "BEGIN; LOCK TABLE {schema}.alerts; SELECT pg_sleep(14); COMMIT"
            ));
        });
        let mut refused = None;
        wait_for(PATIENCE, || {
            refused = db.commit(&one(2)).err();
            refused.is_some()
        });
        let error = refused.expect("waited for").to_string();
        assert!(error.contains("lock timeout"), "{error}");
        wait_for(PATIENCE, || db.commit(&one(3)).is_ok());
    });
    assert_eq!(db.load().expect("load").alerts.len(), 3);
}

#[test]
fn sslmode_means_what_it_means_to_postgresql() {
    let mut server = PostgresServer::start();
    let authority = TestAuthority::new();
    server.set_certificate(&authority.issue(&["elsewhere.example"]));
    server.restart();
    let ca = authority.ca_file().display().to_string().replace('/', "%2F");
    let foreign = TestAuthority::new();
    let other = foreign.ca_file().display().to_string().replace('/', "%2F");
    let connect = |parameters: &str| Database::connect(&format!("{}?{parameters}", server.url()));
    for accepted in [
        "sslmode=disable",
        "sslmode=prefer",
        "sslmode=require",
        &format!("sslmode=verify-ca&sslrootcert={ca}"),
    ] {
        connect(accepted).unwrap_or_else(|error| panic!("{accepted}: {error}"));
    }
    for refused in [
        "sslmode=verify-full".to_owned(),
        format!("sslmode=verify-full&sslrootcert={ca}"),
        format!("sslmode=verify-ca&sslrootcert={other}"),
        format!("sslmode=require&sslrootcert={other}"),
    ] {
        let error = connect(&refused)
            .err()
            .unwrap_or_else(|| panic!("{refused} was accepted"))
            .to_string();
        assert!(
            error.contains("certificate") || error.contains("authority"),
            "{refused}: {error}"
        );
    }
    server.set_certificate(&authority.issue(&["127.0.0.1"]));
    server.restart();
    let connect = |parameters: &str| Database::connect(&format!("{}?{parameters}", server.url()));
    connect(&format!("sslmode=verify-full&sslrootcert={ca}")).expect("the name is right now");
    let encrypted = || {
        server.run("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'marketprism'")
    };
    let kept = connect("sslmode=require").expect("connect");
    assert_eq!(encrypted(), "1", "the connection is not encrypted");
    drop(kept);
}

#[test]
fn texts_without_end_and_characters_of_all_kinds_are_stored() {
    on_each_engine(|db| {
        let long = "很长的\0文本".repeat(2_000);
        let subject = alert(1, &[("alertname", &long), ("severity", &long)]);
        let mut told = group(&long, &[&subject]);
        let sent = message(2, &long, "mail", &[&subject]);
        let commit = AlertCommit {
            alerts: vec![subject.clone()],
            groups: vec![told.clone()],
            outbox: vec![sent.clone()],
            ..AlertCommit::default()
        };
        db.commit(&commit).expect("commit");
        told.is_flushed = true;
        db.commit(&AlertCommit {
            groups: vec![told.clone()],
            ..AlertCommit::default()
        })
        .expect("the group again");
        let stored = db.load().expect("load");
        assert_eq!(
            (stored.alerts, stored.groups),
            (vec![subject.clone()], vec![told])
        );
        assert_eq!(db.due(at(9), 9).expect("due"), [sent]);
        let filter = AlertFilter {
            labels: vec![
                ("severity".to_owned(), long.clone()),
                ("alertname".to_owned(), long.clone()),
            ],
            limit: 5,
            ..AlertFilter::default()
        };
        assert_eq!(db.alerts(&filter).expect("list").items, [subject]);
    });
}

//! Users, tokens, ended sessions and the audit log, through their port.

use marketprism_model::{
    AccessStore, AccessStoreError, ApiToken, AuditEntry, AuditFilter, AuditOutcome, Claim, LeaseStore,
    Replica, Role, Secret, StoreError, User,
};
use marketprism_state::Database;

use crate::support::*;

fn user(n: u64, name: &str) -> User {
    User {
        id: id(n),
        name: name.to_owned(),
        role: Role::Operator,
        password: Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"),
        is_disabled: false,
        created_at: at(1),
        sessions_from: at(2),
    }
}

fn token(n: u64, name: &str) -> ApiToken {
    ApiToken {
        id: id(n),
        name: name.to_owned(),
        role: Role::Viewer,
        digest: [n as u8; 32],
        created_by: "li".to_owned(),
        created_at: at(1),
        expires_at: Some(at(90_000)),
        last_used_at: None,
    }
}

fn entry(n: u64, actor: &str, action: &str) -> AuditEntry {
    AuditEntry {
        id: id(n),
        at: at(n as i64),
        actor: actor.to_owned(),
        role: (!actor.is_empty()).then_some(Role::Admin),
        action: action.to_owned(),
        subject: "警报".to_owned(),
        outcome: [AuditOutcome::Done, AuditOutcome::Refused, AuditOutcome::Failed][n as usize % 3],
        client: "192.0.2.1".to_owned(),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        detail: String::new(),
    }
}

#[test]
fn users_are_read_back_changed_by_id_and_deleted_by_name() {
    on_each_engine(|db| {
        assert!(db.users().expect("users").is_empty());
        let (wang, mut li) = (user(1, "wang"), user(2, "li"));
        db.put_user(&wang).expect("put");
        db.put_user(&li).expect("put");
        assert_eq!(db.users().expect("users"), [li.clone(), wang.clone()]);
        li.role = Role::Admin;
        li.is_disabled = true;
        li.password = Secret::new("$argon2id$other");
        li.sessions_from = at(9);
        li.name = "li2".to_owned();
        db.put_user(&li).expect("change");
        assert_eq!(db.user("li").expect("user"), None);
        let read = db.user("li2").expect("user").expect("renamed");
        assert_eq!((read.password.expose(), &read), ("$argon2id$other", &li));
        assert!(db.delete_user("wang").expect("delete"));
        assert!(!db.delete_user("wang").expect("delete"));
        assert_eq!(db.users().expect("users"), [li]);
    });
}

#[test]
fn a_taken_name_is_said_and_changes_nothing() {
    on_each_engine(|db| {
        db.put_user(&user(1, "li")).expect("put");
        db.put_token(&token(1, "grafana")).expect("put");
        let error = db.put_user(&user(2, "li")).expect_err("taken");
        assert!(
            matches!(&error, AccessStoreError::NameTaken(name) if name == "li"),
            "{error}"
        );
        let error = db.put_token(&token(2, "grafana")).expect_err("taken");
        assert!(
            matches!(&error, AccessStoreError::NameTaken(name) if name == "grafana"),
            "{error}"
        );
        assert_eq!(
            (
                db.users().expect("users").len(),
                db.tokens().expect("tokens").len()
            ),
            (1, 1)
        );
        db.delete_user("li").expect("delete");
        db.put_user(&user(2, "li")).expect("the name is free again");
    });
}

#[test]
fn tokens_are_found_by_their_digest() {
    on_each_engine(|db| {
        let (one, mut two) = (token(1, "one"), token(2, "two"));
        two.expires_at = None;
        db.put_token(&one).expect("put");
        db.put_token(&two).expect("put");
        assert_eq!(db.token(&[2; 32]).expect("token"), Some(two.clone()));
        assert_eq!(db.token(&[3; 32]).expect("token"), None);
        assert_eq!(db.tokens().expect("tokens"), [one, two]);
        // A digest stands for one token: another record with it is refused whatever its name.
        let mut double = token(3, "three");
        double.digest = [2; 32];
        db.put_token(&double).expect_err("the digest is taken");
    });
}

/// The use of a token was noted by a request that had read it just before somebody revoked it; the note brought the
/// token back.
#[test]
fn the_note_of_a_use_never_brings_back_a_deleted_token() {
    on_each_engine(|db| {
        let fresh = token(1, "one");
        db.put_token(&fresh).expect("put");
        let used = ApiToken {
            last_used_at: Some(at(60_000)),
            ..fresh
        };
        db.put_token(&used).expect("note");
        assert_eq!(db.token(&used.digest).expect("token"), Some(used.clone()));
        assert!(db.delete_token("one").expect("delete"));
        db.put_token(&used).expect("a note that comes too late");
        assert_eq!(db.token(&used.digest).expect("token"), None);
    });
}

#[test]
fn an_ended_session_stays_ended_until_it_would_have_ended_by_itself() {
    on_each_engine(|db| {
        db.end_session(id(1), at(1_000)).expect("end");
        db.end_session(id(1), at(1_000)).expect("end it again");
        db.end_session(id(2), at(5_000)).expect("end");
        let ended = |n| db.is_session_ended(id(n)).expect("look");
        assert_eq!([ended(1), ended(2), ended(3)], [true, true, false]);
        assert_eq!(db.clean_access(at(2_000), at(0)).expect("clean"), 1);
        assert_eq!([ended(1), ended(2)], [false, true]);
    });
}

fn walk(db: &Database, mut filter: AuditFilter) -> Vec<AuditEntry> {
    let mut found = Vec::new();
    loop {
        let page = db.audit(&filter).expect("page");
        assert!(page.items.len() <= filter.limit);
        found.extend(page.items);
        match page.next_cursor {
            None => return found,
            cursor => filter.cursor = cursor,
        }
    }
}

#[test]
fn the_audit_log_is_paged_filtered_and_cleaned() {
    on_each_engine(|db| {
        let actors = ["li", "", "token:grafana"];
        let all: Vec<AuditEntry> = (0..1_300)
            .map(|n| {
                entry(
                    n,
                    actors[n as usize % 3],
                    ["login", "user.create"][n as usize % 2],
                )
            })
            .collect();
        for written in &all {
            db.record(written).expect("record");
        }
        db.record(&all[7])
            .expect("the same again, as after an unknown outcome");
        for (actor, action, limit) in [
            ("", "", 7),
            ("li", "", 1_000),
            ("", "login", 5),
            ("li", "user.create", 3),
            ("x", "", 1),
        ] {
            let filter = AuditFilter {
                actor: actor.to_owned(),
                action: action.to_owned(),
                limit,
                cursor: None,
            };
            let is_wanted = |entry: &&AuditEntry| {
                (actor.is_empty() || entry.actor == actor) && (action.is_empty() || entry.action == action)
            };
            let expected: Vec<AuditEntry> = all.iter().rev().filter(is_wanted).cloned().collect();
            assert_eq!(walk(&db, filter), expected, "{actor:?} {action:?}");
        }
        let foreign = AuditFilter {
            limit: 1,
            cursor: Some("'; --".to_owned()),
            ..AuditFilter::default()
        };
        assert!(matches!(db.audit(&foreign), Err(StoreError::Cursor(_))));
        assert_eq!(db.clean_access(at(0), at(1_290)).expect("clean"), 1_290);
        assert_eq!(
            walk(
                &db,
                AuditFilter {
                    limit: 100,
                    ..AuditFilter::default()
                }
            )
            .len(),
            10
        );
    });
}

#[test]
fn an_entry_without_end_is_cut_at_a_character() {
    on_each_engine(|db| {
        let mut long = entry(1, "li", "login");
        long.detail = "长".repeat(100_000);
        long.subject = "x".repeat(100_000);
        db.record(&long).expect("record");
        let read = walk(
            &db,
            AuditFilter {
                limit: 1,
                ..AuditFilter::default()
            },
        )
        .remove(0);
        assert_eq!((read.detail.len(), read.subject.len()), (3_999, 4_000));
        assert!(long.detail.starts_with(&read.detail));
    });
}

#[test]
fn the_embedded_database_is_always_led_by_its_process() {
    let db = Database::in_memory().expect("memory");
    let replica = Replica {
        id: "a".to_owned(),
        address: String::new(),
    };
    assert_eq!(
        db.claim(&replica, seconds(10)).expect("claim"),
        Claim::Ours { epoch: 1 }
    );
    db.release(&replica).expect("release");
    assert_eq!(
        db.claim(&replica, seconds(10)).expect("claim"),
        Claim::Ours { epoch: 1 }
    );
}

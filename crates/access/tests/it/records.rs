//! The room on a real database: what it was told is still so after a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use marketprism_access::{
    Access, ChangeError, Config, Credential, Identity, NewToken, NewUser, Parts, Refusal, UserChange,
};
use marketprism_model::{AuditFilter, Role, Secret};
use marketprism_state::Database;
use marketprism_testkit::{ManualClock, SeededChance, SeededEntropy};
use prometheus_client::registry::Registry;

use crate::rig::{PASSWORD, SECRET, START, here, word};

fn open(file: &Path, clock: &ManualClock, seed: u64) -> Access {
    let parts = Parts {
        store: Arc::new(Database::open(file).expect("a database")),
        clock: Arc::new(clock.clone()),
        chance: Arc::new(SeededChance::new(seed)),
        entropy: Arc::new(SeededEntropy::new(seed)),
    };
    Access::open(
        &Config::default(),
        Secret::new(SECRET),
        parts,
        &mut Registry::default(),
    )
}

fn bearer(access: &Access, token: &Secret) -> Result<Identity, Refusal> {
    access.identify(&here(), Some(&Credential::Bearer(token.clone())))
}

#[test]
fn users_sessions_tokens_and_the_audit_log_outlive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("records.db");
    let clock = ManualClock::new(START);
    let access = open(&file, &clock, 1);
    let first = access.ensure_admin().expect("records").expect("a password");
    let new = |name: &str| NewUser {
        name: name.to_owned(),
        role: Role::Operator,
        password: Secret::new(PASSWORD),
    };
    access.create_user(new("bob")).expect("a user");
    assert!(matches!(
        access.create_user(new("BOB")),
        Err(ChangeError::NameTaken(_))
    ));
    let kept = access.login(&here(), "admin", &first).expect("a login");
    let ended = access.login(&here(), "admin", &first).expect("a login");
    access.logout(&ended.identity).expect("a logout");
    let token = NewToken {
        name: "grafana".to_owned(),
        role: Role::Viewer,
        expires_at: Some(START + Duration::from_secs(86_400)),
    };
    let (_, token) = access.create_token(&kept.identity, token).expect("a token");
    assert_eq!(word(&bearer(&access, &token)), "in");
    drop(access);

    clock.advance(Duration::from_secs(60));
    let access = open(&file, &clock, 2);
    assert_eq!(access.ensure_admin().expect("records"), None);
    assert_eq!(word(&bearer(&access, &kept.token)), "in");
    assert_eq!(word(&bearer(&access, &ended.token)), "expired");
    assert_eq!(bearer(&access, &token).expect("in").actor, "token:grafana");
    assert_eq!(word(&access.login(&here(), "bob", &Secret::new(PASSWORD))), "in");
    let tokens = access.tokens().expect("records");
    assert_eq!(tokens[0].last_used_at, Some(START + Duration::from_secs(60)));
    let weaker = UserChange {
        role: Some(Role::Viewer),
        ..UserChange::default()
    };
    let last = access.change_user("admin", weaker);
    assert!(matches!(last, Err(ChangeError::LastAdmin(_))), "{last:?}");

    let mut filter = AuditFilter {
        action: "login".to_owned(),
        limit: 2,
        ..AuditFilter::default()
    };
    let newest = access.audit(&filter).expect("records");
    filter.cursor = newest.next_cursor;
    let oldest = access.audit(&filter).expect("records");
    let actors: Vec<&str> = newest
        .items
        .iter()
        .chain(&oldest.items)
        .map(|it| it.actor.as_str())
        .collect();
    assert_eq!(actors, ["bob", "admin", "admin"]);

    access.delete_token("grafana").expect("a deletion");
    assert_eq!(word(&bearer(&access, &token)), "bad_credential");
    assert!(access.tokens().expect("records").is_empty());
}

#[test]
fn a_password_reset_beside_the_running_program_ends_its_sessions_within_five_seconds() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("records.db");
    let clock = ManualClock::new(START);
    let running = open(&file, &clock, 1);
    let first = running.ensure_admin().expect("records").expect("a password");
    let session = running.login(&here(), "admin", &first).expect("a login");
    assert_eq!(word(&bearer(&running, &session.token)), "in");
    clock.advance(Duration::from_secs(1));
    let parts = Parts {
        store: Arc::new(Database::open_beside(&file).expect("the same database")),
        clock: Arc::new(clock.clone()),
        chance: Arc::new(SeededChance::new(5)),
        entropy: Arc::new(SeededEntropy::new(5)),
    };
    let (config, secret) = (Config::default(), Secret::new(SECRET));
    let beside = Access::open(&config, secret, parts, &mut Registry::default());
    let reset = UserChange {
        password: Some(Secret::new("another horse")),
        ..UserChange::default()
    };
    beside.change_user("admin", reset).expect("a change");
    clock.advance(Duration::from_secs(5));
    assert_eq!(word(&bearer(&running, &session.token)), "expired");
    assert_eq!(word(&running.login(&here(), "admin", &first)), "bad_credential");
    assert_eq!(
        word(&running.login(&here(), "admin", &Secret::new("another horse"))),
        "in"
    );
}

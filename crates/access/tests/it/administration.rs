//! Users and tokens made, changed and deleted; the last administrator stays.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use marketprism_access::{ChangeError, FIRST_ADMIN, Identity, NewToken, NewUser, UserChange};
use marketprism_model::{Role, Secret};

use crate::rig::{PASSWORD, Rig, here, word};

fn disabled(is_disabled: bool) -> UserChange {
    UserChange {
        is_disabled: Some(is_disabled),
        ..UserChange::default()
    }
}

fn role(role: Role) -> UserChange {
    UserChange {
        role: Some(role),
        ..UserChange::default()
    }
}

#[test]
fn the_first_start_makes_one_administrator_and_tells_the_password_once() {
    let rig = Rig::new();
    let password = rig.access.ensure_admin().expect("records").expect("a password");
    assert_eq!(password.expose().len(), 24);
    let session = rig
        .try_login(&here(), FIRST_ADMIN, password.expose())
        .expect("a login");
    assert_eq!(session.identity.role, Role::Admin);
    assert_eq!(rig.access.ensure_admin().expect("records"), None);
    let users = rig.access.users().expect("records");
    assert_eq!(users.len(), 1);
    assert!(
        users[0]
            .password
            .expose()
            .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
    );
    let shown = serde_json::to_string(&users).expect("it serialises");
    assert!(!shown.contains("argon2"), "{shown}");
}

#[test]
fn the_last_enabled_administrator_cannot_be_deleted_weakened_or_disabled() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    rig.user("bob", Role::Operator);
    rig.user("eve", Role::Admin);
    rig.access
        .change_user("eve", disabled(true))
        .expect("ada remains");
    let refused = [
        rig.access.delete_user("ada"),
        rig.access.change_user("ADA", disabled(true)).map(drop),
        rig.access.change_user("ada", role(Role::Operator)).map(drop),
    ];
    for result in refused {
        assert!(
            matches!(result, Err(ChangeError::LastAdmin(ref name)) if name == "ada"),
            "{result:?}"
        );
    }
    let password = UserChange {
        password: Some(Secret::new("another horse")),
        ..UserChange::default()
    };
    rig.access
        .change_user("ada", password)
        .expect("the password may change");
    rig.access.delete_user("eve").expect("a disabled one may go");
    rig.access
        .change_user("bob", role(Role::Admin))
        .expect("a second one");
    rig.access.delete_user("ada").expect("bob remains");
    assert!(matches!(
        rig.access.delete_user("bob"),
        Err(ChangeError::LastAdmin(_))
    ));
}

#[test]
fn two_administrators_who_delete_each_other_at_once_leave_one() {
    for _ in 0..20 {
        let rig = Rig::new();
        let first = rig.access.ensure_admin().expect("records");
        assert!(first.is_some());
        let operator = NewUser {
            name: "bob".to_owned(),
            role: Role::Admin,
            password: Secret::new(PASSWORD),
        };
        rig.access.create_user(operator).expect("a new user");
        let start = Barrier::new(2);
        thread::scope(|scope| {
            for name in ["admin", "bob"] {
                let (rig, start) = (&rig, &start);
                scope.spawn(move || {
                    start.wait();
                    _ = rig.access.delete_user(name);
                });
            }
        });
        assert_eq!(rig.access.users().expect("records").len(), 1);
    }
}

#[test]
fn names_and_passwords_that_do_not_fit_are_refused_with_what_fits() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let make = |name: &str, password: &str| {
        let new = NewUser {
            name: name.to_owned(),
            role: Role::Viewer,
            password: Secret::new(password),
        };
        rig.access.create_user(new).map_err(|error| error.to_string())
    };
    let long = "x".repeat(65);
    for name in ["", "a b", "a/b", "名字", "a\nb", &long, "token:x"] {
        let told = make(name, PASSWORD).expect_err("no user");
        assert!(
            told.ends_with("it must have 1 to 64 of a-z, 0-9, '.', '_', '@', '-'"),
            "{told}"
        );
    }
    let most = "x".repeat(64);
    assert!(make(&most, "12345678").is_ok());
    assert_eq!(
        make("bob", "1234567").expect_err("no user"),
        "a password has 8 to 1024 bytes, not 7"
    );
    assert_eq!(
        make("bob", &"x".repeat(1025)).expect_err("no user"),
        "a password has 8 to 1024 bytes, not 1025"
    );
    assert!(make("bob", &"x".repeat(1024)).is_ok());
    assert_eq!(
        make("ADA", PASSWORD).expect_err("no user"),
        "the name \"ada\" is taken"
    );
    let short = UserChange {
        password: Some(Secret::new("short")),
        ..UserChange::default()
    };
    assert!(matches!(
        rig.access.change_user("ada", short),
        Err(ChangeError::Password(_))
    ));
    assert!(matches!(
        rig.access.change_user("eve", role(Role::Viewer)),
        Err(ChangeError::NotFound(_))
    ));
    assert!(matches!(
        rig.access.delete_user("eve"),
        Err(ChangeError::NotFound(_))
    ));
    assert!(matches!(
        rig.access.delete_token("eve"),
        Err(ChangeError::NotFound(_))
    ));
}

#[test]
fn a_token_does_at_most_what_its_maker_may_and_does_not_begin_ended() {
    let rig = Rig::new();
    let operator = Identity {
        actor: "bob".to_owned(),
        role: Role::Operator,
        session: None,
    };
    let make = |name: &str, role, expires_at| {
        let new = NewToken {
            name: name.to_owned(),
            role,
            expires_at,
        };
        rig.access.create_token(&operator, new)
    };
    let (token, value) = make("grafana", Role::Operator, None).expect("a token");
    assert_eq!((token.created_by.as_str(), token.last_used_at), ("bob", None));
    assert_eq!(word(&rig.bearer(&value)), "in");
    let above = make("above", Role::Admin, None);
    assert!(matches!(above, Err(ChangeError::RoleAbove { .. })), "{above:?}");
    assert!(matches!(
        make("grafana", Role::Viewer, None),
        Err(ChangeError::NameTaken(_))
    ));
    assert!(matches!(
        make("past", Role::Viewer, Some(rig.now())),
        Err(ChangeError::Past(_))
    ));
    let later = rig.now() + Duration::from_secs(1);
    assert!(make("future", Role::Viewer, Some(later)).is_ok());
    let shown = format!(
        "{token:?} {}",
        serde_json::to_string(&token).expect("it serialises")
    );
    assert!(!shown.contains(value.expose()), "the value is told once");
}

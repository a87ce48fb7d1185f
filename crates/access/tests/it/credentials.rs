//! Passwords and API tokens: who is let in by them, and what each costs.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use marketprism_access::{Config, Credential, Identity, Refusal, UserChange};
use marketprism_model::{AccessStore, Id, Role, Secret, User};

use crate::rig::{PASSWORD, Rig, START, at, here, word};

/// Hashes of the password `password` with the salt `somesalt`, from the reference implementation's test.c.
const REFERENCE: &str =
    "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
const REFERENCE_CHEAP: &str =
    "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

fn put(rig: &Rig, name: &str, hash: &str) {
    let user = User {
        id: Id::from_u128(name.len() as u128),
        name: name.to_owned(),
        role: Role::Viewer,
        password: Secret::new(hash),
        is_disabled: false,
        created_at: START,
        sessions_from: START,
    };
    rig.store.put_user(&user).expect("a new user");
}

fn stored(rig: &Rig, name: &str) -> String {
    let user = rig.store.user(name).expect("readable").expect("there");
    user.password.expose().to_owned()
}

#[test]
fn a_login_gives_a_session_with_the_users_role_and_names_count_in_small_letters() {
    let rig = Rig::new();
    rig.user("Ada.Lovelace@example", Role::Operator);
    let session = rig
        .try_login(&here(), "ADA.lovelace@EXAMPLE", PASSWORD)
        .expect("a login");
    let identity = rig.bearer(&session.token).expect("in");
    assert_eq!(
        (identity.actor.as_str(), identity.role),
        ("ada.lovelace@example", Role::Operator)
    );
    assert_eq!(identity, session.identity);
    assert!(rig.access.require(&identity, Role::Viewer).is_ok());
    let refused = rig.access.require(&identity, Role::Admin);
    assert!(matches!(refused, Err(Refusal::Forbidden { needs: Role::Admin })));
}

#[test]
fn an_unknown_name_a_wrong_password_and_a_disabled_user_cost_and_read_the_same() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    rig.user("bob", Role::Viewer);
    let disabled = UserChange {
        is_disabled: Some(true),
        ..UserChange::default()
    };
    rig.access.change_user("bob", disabled).expect("a change");
    put(&rig, "damaged", "no hash at all");
    let mut told = Vec::new();
    let cases = [
        ("ada", "wrong horse"),
        ("nobody", "wrong horse"),
        ("bob", PASSWORD),
        ("bob", "wrong horse"),
        ("damaged", "wrong horse"),
    ];
    for (client, (name, password)) in cases.into_iter().enumerate() {
        let client = at(&format!("10.0.1.{client}"));
        let (hashes, reads) = (rig.hashes(), rig.store.reads());
        let refusal = rig.try_login(&client, name, password).expect_err("no login");
        let work = (rig.hashes() - hashes, rig.store.reads() - reads);
        assert_eq!(work, (1, 1), "{name}: runs of argon2 and reads");
        told.push(refusal.to_string());
    }
    told.dedup();
    assert_eq!(told, ["the credentials are not accepted"]);
}

#[test]
fn what_can_be_no_password_or_no_name_costs_no_hash() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let before = rig.hashes();
    let (long, long_name) = ("x".repeat(1025), "x".repeat(65));
    let huge = "x".repeat(10 << 20);
    let cases = [
        ("ada", ""),
        ("ada", "short"),
        ("ada", &long),
        ("ada", &huge),
        ("", "long enough"),
        ("a b", "long enough"),
        ("名字", "long enough"),
        (&long_name, "long enough"),
        ("ada\0", "long enough"),
        (&huge, "long enough"),
    ];
    for (place, (name, password)) in cases.into_iter().enumerate() {
        let client = at(&format!("10.0.1.{place}"));
        assert_eq!(word(&rig.try_login(&client, name, password)), "bad_credential");
        assert_eq!(word(&rig.basic(&client, name, password)), "bad_credential");
    }
    assert_eq!(rig.hashes(), before);
}

#[test]
fn hashes_of_the_reference_are_read_and_cheap_ones_are_lifted_at_the_login() {
    let rig = Rig::new();
    put(&rig, "reference", REFERENCE);
    put(&rig, "cheap", REFERENCE_CHEAP);
    put(&rig, "ruinous", &REFERENCE.replace("m=65536", "m=4194304"));
    assert_eq!(word(&rig.try_login(&here(), "reference", "password")), "in");
    assert_eq!(stored(&rig, "reference"), REFERENCE);
    assert_eq!(
        word(&rig.try_login(&here(), "cheap", "passwore")),
        "bad_credential"
    );
    assert_eq!(stored(&rig, "cheap"), REFERENCE_CHEAP);
    let session = rig.try_login(&here(), "cheap", "password").expect("a login");
    assert!(stored(&rig, "cheap").starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert_eq!(word(&rig.bearer(&session.token)), "in");
    assert_eq!(word(&rig.try_login(&here(), "cheap", "password")), "in");
    assert_eq!(
        word(&rig.try_login(&here(), "ruinous", "password")),
        "bad_credential"
    );
}

#[test]
fn basic_authentication_runs_argon2_once_and_again_after_a_new_password() {
    let rig = Rig::new();
    rig.user("prometheus", Role::Viewer);
    rig.user("ada", Role::Admin);
    let before = rig.hashes();
    for _ in 0..100 {
        let identity = rig.basic(&here(), "prometheus", PASSWORD).expect("in");
        assert_eq!(
            (identity.actor.as_str(), identity.role),
            ("prometheus", Role::Viewer)
        );
        rig.pass(Duration::from_secs(15));
    }
    assert_eq!(rig.hashes() - before, 1);
    // Five minutes without a request, and it is checked anew.
    rig.pass(Duration::from_secs(301));
    assert_eq!(word(&rig.basic(&here(), "prometheus", PASSWORD)), "in");
    assert_eq!(rig.hashes() - before, 2);

    let change = UserChange {
        password: Some(Secret::new("another horse")),
        ..UserChange::default()
    };
    rig.access.change_user("prometheus", change).expect("a change");
    assert_eq!(
        word(&rig.basic(&here(), "prometheus", PASSWORD)),
        "bad_credential"
    );
    assert_eq!(word(&rig.basic(&here(), "prometheus", "another horse")), "in");
    let change = UserChange {
        is_disabled: Some(true),
        ..UserChange::default()
    };
    rig.access.change_user("prometheus", change).expect("a change");
    assert_eq!(
        word(&rig.basic(&here(), "prometheus", "another horse")),
        "disabled"
    );
}

#[test]
fn equal_requests_at_the_same_time_share_one_check() {
    let rig = Rig::new();
    rig.user("grafana", Role::Viewer);
    let before = rig.hashes();
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(word(&rig.basic(&here(), "grafana", PASSWORD)), "in");
            });
        }
    });
    assert_eq!(rig.hashes() - before, 1);
}

#[test]
fn a_flood_of_logins_is_told_to_come_back_and_the_honest_among_them_are_not_counted() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let start = Barrier::new(64);
    let words: Vec<&str> = thread::scope(|scope| {
        let flood: Vec<_> = (0..64)
            .map(|place| {
                let (rig, start) = (&rig, &start);
                scope.spawn(move || {
                    let client = at(&format!("10.1.0.{place}"));
                    start.wait();
                    word(&rig.try_login(&client, "ada", PASSWORD))
                })
            })
            .collect();
        flood.into_iter().map(|it| it.join().expect("no panic")).collect()
    });
    let count = |wanted| words.iter().filter(|word| **word == wanted).count();
    assert_eq!(count("in") + count("busy"), 64, "{words:?}");
    assert!(
        count("in") >= 17,
        "at least the queue and one slot pass: {words:?}"
    );
    assert!(count("busy") > 0, "64 at once do not all run: {words:?}");
}

#[test]
fn an_api_token_lets_in_as_bearer_and_as_the_password_of_any_name() {
    let rig = Rig::new();
    let token = rig.api_token("Grafana", Role::Operator, None);
    assert!(
        token.expose().starts_with("mp_") && token.expose().len() == 52,
        "{}",
        token.expose()
    );
    let expected = Identity {
        actor: "token:grafana".to_owned(),
        role: Role::Operator,
        session: None,
    };
    assert_eq!(rig.bearer(&token).expect("in"), expected);
    assert_eq!(
        rig.basic(&here(), "anything at all", token.expose()).expect("in"),
        expected
    );
    let cookie = rig
        .access
        .identify(&here(), Some(&Credential::Cookie(token.clone())));
    assert_eq!(word(&cookie), "bad_credential", "a cookie is for sessions");

    let kept = rig.store.tokens().expect("readable").remove(0);
    let digest = ring::digest::digest(&ring::digest::SHA256, token.expose().as_bytes());
    assert_eq!(kept.digest.as_slice(), digest.as_ref(), "only the digest is kept");
    assert!(rig.access.logout(&expected).is_ok());

    rig.access.delete_token("grafana").expect("a deletion");
    assert_eq!(word(&rig.bearer(&token)), "bad_credential");
}

#[test]
fn an_api_token_ends_at_its_time_and_a_deleted_one_within_five_seconds_everywhere() {
    let one = Rig::new();
    let brief = one.api_token("brief", Role::Viewer, Some(one.now() + Duration::from_secs(60)));
    let long = one.api_token("long", Role::Viewer, None);
    let two = Rig::on(&Config::default(), one.store.clone(), one.clock.clone(), 9);
    assert_eq!(word(&two.bearer(&long)), "in");
    one.pass(Duration::from_secs(59));
    assert_eq!(word(&one.bearer(&brief)), "in");
    one.pass(Duration::from_secs(1));
    assert_eq!(word(&one.bearer(&brief)), "expired");
    assert_eq!(word(&two.bearer(&long)), "in");
    one.access.delete_token("long").expect("a deletion");
    one.pass(Duration::from_secs(5));
    assert_eq!(word(&two.bearer(&long)), "bad_credential");
    assert!(
        one.store
            .tokens()
            .expect("readable")
            .iter()
            .all(|token| token.name != "long")
    );
}

#[test]
fn a_mistyped_api_token_is_known_without_asking_the_records() {
    let rig = Rig::new();
    let token = rig.api_token("grafana", Role::Viewer, None);
    let reads = rig.store.reads();
    let text = token.expose();
    let last = if text.ends_with('A') { "B" } else { "A" };
    let mistyped = [
        text[..51].to_owned(),
        format!("{text}A"),
        format!("{}{last}", &text[..51]),
        text.replacen('_', "_A", 1),
        text.to_uppercase().replacen("MP", "mp", 1),
        "mp_".to_owned(),
        format!("mp_{}", "é".repeat(24)),
    ];
    for wrong in mistyped {
        assert_eq!(word(&rig.bearer(&Secret::new(wrong))), "bad_credential");
    }
    assert_eq!(rig.store.reads(), reads);
}

#[test]
fn the_use_of_a_token_is_noted_once_a_minute() {
    let rig = Rig::new();
    let token = rig.api_token("grafana", Role::Viewer, None);
    let writes = rig.store.writes();
    for _ in 0..600 {
        rig.pass(Duration::from_secs(1));
        assert_eq!(word(&rig.bearer(&token)), "in");
    }
    let noted = rig.store.tokens().expect("readable")[0].last_used_at;
    assert_eq!(noted, Some(START + Duration::from_secs(600)));
    let written = rig.store.writes() - writes;
    assert!((10..=11).contains(&written), "{written} writes in ten minutes");
}

#[test]
fn without_authentication_everybody_is_an_administrator_without_a_name() {
    let mut config = Config::default();
    config.api_auth.enabled = false;
    let rig = Rig::with(&config);
    let identity = rig.access.identify(&here(), None).expect("in");
    assert_eq!(identity, Identity::anybody());
    assert_eq!(word(&rig.bearer(&Secret::new("nonsense"))), "in");
    rig.access
        .set_config(&Config::default(), Secret::new(crate::rig::SECRET));
    assert_eq!(word(&rig.access.identify(&here(), None)), "no_credential");
}

#[test]
fn what_needs_no_argon2_is_known_beforehand() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let token = rig.api_token("grafana", Role::Viewer, None);
    let basic = |user: &str, password: &str| Credential::Basic {
        user: user.to_owned(),
        password: Secret::new(password),
    };
    let is_quick = |credential: &Credential| {
        let said = rig.access.is_quick(credential);
        let before = rig.hashes();
        _ = rig.access.identify(&here(), Some(credential));
        assert_eq!(said, rig.hashes() == before, "what was said is what happened");
        said
    };
    assert!(is_quick(&Credential::Bearer(token.clone())));
    assert!(is_quick(&Credential::Cookie(Secret::new("nonsense"))));
    assert!(is_quick(&basic("any", token.expose())));
    assert!(!is_quick(&basic("nobody", PASSWORD)));
    assert!(!is_quick(&basic("ada", PASSWORD)));
    assert!(is_quick(&basic("ada", PASSWORD)), "it was right a moment ago");
}

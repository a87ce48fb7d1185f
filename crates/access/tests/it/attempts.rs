//! Guessing, in simulated hours: how much of it reaches the check.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use marketprism_access::Refusal;
use marketprism_model::{Role, Secret};

use crate::rig::{PASSWORD, Rig, at, here, word};

#[test]
fn ten_thousand_guesses_in_three_hours_at_one_name_reach_the_check_thirty_times() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let before = rig.hashes();
    for guess in 0..10_000 {
        let result = rig.try_login(&at("203.0.113.9"), "ada", &format!("password-{guess}"));
        assert!(result.is_err());
        rig.pass(Duration::from_millis(1080));
    }
    let checked = rig.hashes() - before;
    println!("10,000 guesses in 3 h at one name from one address: {checked} checked");
    // Five are free, ten waits double up to 15 min (17 min together), then one each 15 min: 5 + 10 + 11.
    assert!((20..=30).contains(&checked), "{checked} guesses were checked");
    // Meanwhile the honest user comes in from elsewhere.
    assert_eq!(word(&rig.try_login(&here(), "ada", PASSWORD)), "in");
}

#[test]
fn ten_thousand_names_in_three_hours_from_one_address_reach_the_check_fifty_times() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let before = rig.hashes();
    for guess in 0..10_000 {
        assert!(
            rig.try_login(&at("203.0.113.9"), &format!("user{guess}"), PASSWORD)
                .is_err()
        );
        rig.pass(Duration::from_millis(1080));
    }
    let checked = rig.hashes() - before;
    println!("10,000 names in 3 h from one address: {checked} checked");
    assert!((45..=55).contains(&checked), "{checked} guesses were checked");
    assert_eq!(word(&rig.try_login(&here(), "ada", PASSWORD)), "in");
}

#[test]
fn all_addresses_of_one_ipv6_subscriber_count_as_one() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let before = rig.hashes();
    for guess in 0..1000 {
        let client = at(&format!("2001:db8:1:2:{:x}::{guess:x}", guess % 7));
        assert!(
            rig.try_login(&client, "ada", &format!("password-{guess}"))
                .is_err()
        );
    }
    assert_eq!(rig.hashes() - before, 5);
    assert_eq!(
        word(&rig.try_login(&at("2001:db8:1:3::1"), "ada", PASSWORD)),
        "in",
        "a neighbour"
    );
    let mapped = at("::ffff:10.9.9.9");
    for guess in 0..5 {
        assert!(
            rig.try_login(&mapped, "ada", &format!("password-{guess}"))
                .is_err()
        );
    }
    assert_eq!(
        word(&rig.try_login(&at("10.9.9.9"), "ada", "password-9")),
        "too_many_attempts"
    );
}

#[test]
fn a_flood_of_names_from_many_addresses_pushes_nobody_out_who_is_honest() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    // Names that can be none cost no hash, so the flood is quick.
    for address in 0..20_000u32 {
        let client = at(&format!(
            "10.{}.{}.{}",
            100 + (address >> 16),
            (address >> 8) & 255,
            address & 255
        ));
        assert!(rig.try_login(&client, "no such name!", "wrong horse").is_err());
    }
    assert_eq!(
        rig.figure("marketprism_access_watched_addresses"),
        10_000,
        "memory is bounded"
    );
    assert_eq!(word(&rig.try_login(&here(), "ada", PASSWORD)), "in");
}

#[test]
fn a_wait_is_told_doubles_and_is_not_prolonged_by_trying_again() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let wait = |guess: &str| match rig.try_login(&here(), "ada", guess) {
        Err(Refusal::TooManyAttempts { retry_after }) => Some(retry_after.as_secs()),
        Err(Refusal::BadCredential) => None,
        other => panic!("{other:?}"),
    };
    let mut waits = Vec::new();
    for guess in 0..20 {
        if let Some(seconds) = wait(&format!("password-{guess}")) {
            waits.push(seconds);
            for _ in 0..50 {
                assert_eq!(wait("meanwhile"), Some(seconds));
            }
            rig.pass(Duration::from_secs(seconds));
            assert_eq!(wait(&format!("password-{guess}-again")), None);
        }
    }
    assert_eq!(waits[..6], [1, 2, 4, 8, 16, 32]);
    assert_eq!(waits.iter().max(), Some(&900));
    // The right password waits like any other, and then all is forgotten.
    assert_eq!(
        word(&rig.try_login(&here(), "ada", PASSWORD)),
        "too_many_attempts"
    );
    rig.pass(Duration::from_secs(900));
    assert_eq!(word(&rig.try_login(&here(), "ada", PASSWORD)), "in");
    assert_eq!(wait("password-x"), None);
    assert_eq!(wait("password-y"), None);
}

#[test]
fn an_old_password_in_a_tool_costs_one_check_and_locks_nobody_out() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    rig.user("grafana", Role::Viewer);
    let before = rig.hashes();
    for _ in 0..500 {
        assert_eq!(
            word(&rig.basic(&here(), "grafana", "last year's horse")),
            "bad_credential"
        );
        assert_eq!(
            word(&rig.basic(&here(), "nobody", "last year's horse")),
            "bad_credential"
        );
    }
    assert_eq!(rig.hashes() - before, 2);
    assert_eq!(word(&rig.try_login(&here(), "ada", PASSWORD)), "in");
    assert_eq!(word(&rig.basic(&here(), "grafana", PASSWORD)), "in");
    // When what was wrong becomes right, it is found out.
    let change = marketprism_access::UserChange {
        password: Some(Secret::new("last year's horse")),
        ..Default::default()
    };
    rig.access.change_user("grafana", change).expect("a change");
    assert_eq!(word(&rig.basic(&here(), "grafana", "last year's horse")), "in");
}

#[test]
fn guessed_api_tokens_and_basic_passwords_count_against_the_address_and_known_ones_pass() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    rig.user("prometheus", Role::Viewer);
    let token = rig.api_token("grafana", Role::Viewer, None);
    let fresh = rig.api_token("fresh", Role::Viewer, None);
    assert_eq!(word(&rig.bearer(&token)), "in");
    assert_eq!(word(&rig.basic(&here(), "prometheus", PASSWORD)), "in");
    let mut words = Vec::new();
    for guess in 0..60 {
        let wrong = Secret::new(format!("mp_{guess:049}"));
        words.push(word(&rig.bearer(&wrong)));
    }
    assert_eq!(words.iter().filter(|word| **word == "bad_credential").count(), 30);
    assert_eq!(words[59], "too_many_attempts");
    assert_eq!(
        word(&rig.try_login(&here(), "ada", PASSWORD)),
        "too_many_attempts"
    );
    assert_eq!(word(&rig.bearer(&fresh)), "too_many_attempts");
    // Whoever was let in a moment ago stays in, for minutes.
    for _ in 0..120 {
        assert_eq!(word(&rig.bearer(&token)), "in");
        assert_eq!(word(&rig.basic(&here(), "prometheus", PASSWORD)), "in");
        rig.pass(Duration::from_millis(8));
    }
}

#[test]
fn guesses_at_the_same_time_pass_no_more_than_one_after_another() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let before = rig.hashes();
    let start = Barrier::new(40);
    thread::scope(|scope| {
        for guess in 0..40 {
            let (rig, start) = (&rig, &start);
            scope.spawn(move || {
                start.wait();
                let result = rig.try_login(&at("203.0.113.9"), "ada", &format!("password-{guess}"));
                assert!(result.is_err());
            });
        }
    });
    let checked = rig.hashes() - before;
    assert_eq!(checked, 5, "five are free, the others wait");
}

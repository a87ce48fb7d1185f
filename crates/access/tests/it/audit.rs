//! What the audit log tells, and what it never tells.

use std::time::Duration;

use marketprism_access::Event;
use marketprism_model::{AuditFilter, AuditOutcome, Role};

use crate::rig::{PASSWORD, Rig, at, here, word};

#[test]
fn logins_stand_in_the_audit_log_whether_they_were_let_in_or_not() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let client = here().with_trace_id("0af7651916cd43dd8448eb211c80319c");
    assert!(rig.try_login(&client, "ada", PASSWORD).is_ok());
    assert!(rig.try_login(&at("10.0.0.2"), "ada", "wrong horse").is_err());
    assert!(rig.basic(&at("10.0.0.3"), "ada", PASSWORD).is_ok());
    assert!(rig.basic(&at("10.0.0.3"), "ada", PASSWORD).is_ok());
    let log = rig.store.audit_log();
    let told: Vec<_> = log
        .iter()
        .map(|it| {
            (
                it.action.as_str(),
                it.actor.as_str(),
                it.subject.as_str(),
                it.outcome,
                it.client.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("login", "ada", "ada", AuditOutcome::Done, "10.0.0.1"),
            ("login", "", "ada", AuditOutcome::Refused, "10.0.0.2"),
            ("authenticate", "ada", "ada", AuditOutcome::Done, "10.0.0.3"),
        ]
    );
    assert_eq!(log[0].trace_id, "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((log[0].role, log[1].role), (Some(Role::Admin), None));
    assert_eq!(log[1].detail, "bad_credential");
}

#[test]
fn no_secret_and_no_name_that_nobody_has_reaches_the_audit_log() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let token = rig.api_token("grafana", Role::Viewer, None);
    let session = rig.login("ada");
    assert!(
        rig.try_login(&at("10.0.0.2"), "my-secret-password", "hunter2hunter2")
            .is_err()
    );
    assert!(
        rig.basic(&at("10.0.0.3"), "my-secret-password", "hunter2hunter2")
            .is_err()
    );
    let wrong = token.expose().replace("mp_", "mp_x");
    assert!(rig.basic(&at("10.0.0.4"), "ada", &wrong).is_err());
    let log = format!("{:?}", rig.store.audit_log());
    for secret in [
        "my-secret-password",
        "hunter2",
        PASSWORD,
        "mp_",
        session.token.expose(),
    ] {
        assert!(!log.contains(secret), "{secret} stands in {log}");
    }
}

#[test]
fn an_hour_of_refusals_leaves_a_page_and_the_number_of_the_others() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    for guess in 0..36_000 {
        assert!(
            rig.try_login(&at("203.0.113.9"), "no name!", &format!("password-{guess}"))
                .is_err()
        );
        rig.pass(Duration::from_millis(100));
    }
    let log = rig.store.audit_log();
    assert!((60..80).contains(&log.len()), "{} entries", log.len());
    let left_out: u64 = log
        .iter()
        .filter_map(|entry| entry.detail.split(' ').find_map(|word| word.parse::<u64>().ok()))
        .sum();
    assert!(left_out + log.len() as u64 > 35_000, "{left_out} counted");
    let kept = rig.figure("marketprism_access_audit_entries_total{outcome=\"kept\"}");
    let lost = rig.figure("marketprism_access_audit_entries_total{outcome=\"left_out\"}");
    assert_eq!((kept, kept + lost), (log.len() as u64, 36_000));
    // A hundred clients in one second leave twenty.
    rig.pass(Duration::from_secs(10));
    for place in 0..100 {
        assert!(
            rig.try_login(&at(&format!("198.51.100.{place}")), "no name!", "wrong horse")
                .is_err()
        );
    }
    assert_eq!(rig.store.audit_log().len(), log.len() + 20);
}

#[test]
fn what_others_record_is_bounded_and_listed_and_cleaned_by_age() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let identity = rig.login("ada").identity;
    let long = "x\n".repeat(10_000);
    rig.access.record(Event {
        identity: Some(&identity),
        action: "alert.acknowledge",
        subject: &long,
        outcome: AuditOutcome::Done,
        client: None,
        trace_id: "abc",
        detail: &long,
    });
    let filter = AuditFilter {
        action: "alert.acknowledge".to_owned(),
        limit: 10,
        ..AuditFilter::default()
    };
    let page = rig.access.audit(&filter).expect("records");
    let entry = &page.items[0];
    assert_eq!(
        (
            entry.actor.as_str(),
            entry.client.as_str(),
            entry.trace_id.as_str()
        ),
        ("ada", "", "abc")
    );
    assert_eq!((entry.subject.len(), entry.detail.len()), (200, 500));
    assert!(!entry.detail.contains('\n'));

    rig.access.logout(&identity).expect("a logout");
    assert_eq!(rig.store.ended_sessions(), 1);
    rig.pass(Duration::from_secs(25 * 3600));
    assert_eq!(
        rig.access.clean().expect("records"),
        1,
        "the ended session would have ended by itself"
    );
    rig.pass(Duration::from_secs(365 * 86_400));
    assert_eq!(
        rig.access.clean().expect("records"),
        2,
        "login and acknowledgement"
    );
    assert!(rig.store.audit_log().is_empty());
}

#[test]
fn a_login_goes_on_when_the_audit_log_cannot_be_written() {
    let rig = Rig::new();
    rig.user("ada", Role::Admin);
    let identity = rig.login("ada").identity;
    rig.store.set_away(true);
    rig.access.record(Event {
        identity: Some(&identity),
        action: "alert.acknowledge",
        subject: "",
        outcome: AuditOutcome::Done,
        client: Some(&here()),
        trace_id: "",
        detail: "",
    });
    assert_eq!(
        rig.figure("marketprism_access_audit_entries_total{outcome=\"failed\"}"),
        1
    );
    assert_eq!(word(&rig.try_login(&here(), "ada", PASSWORD)), "store");
    assert_eq!(rig.figure("marketprism_access_logins_total{outcome=\"done\"}"), 1);
    assert_eq!(
        rig.figure("marketprism_access_logins_total{outcome=\"refused\"}"),
        1
    );
}

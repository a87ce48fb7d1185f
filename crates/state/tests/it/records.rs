//! What is written is read back as it was; what was dropped is gone.

use marketprism_model::alert::{Acknowledgement, Suppression};
use marketprism_model::records::ToldRecord;
use marketprism_model::{
    Alert, AlertCommit, AlertEventKind, AlertState, AlertStore, ClockRecord, Labels, Level, RuleId,
};
use proptest::prelude::*;

use crate::support::*;

#[test]
fn an_empty_database_loads_as_a_first_start() {
    on_each_engine(|db| assert_eq!(db.load().expect("load"), Default::default()));
}

#[test]
fn the_snapshot_holds_what_is_alive_and_ends_that_are_still_to_be_told() {
    on_each_engine(|db| {
        let mut pending = alert(1, &[("alertname", "A")]);
        pending.state = AlertState::Pending;
        pending.fired_at = None;
        let firing = alert(2, &[("alertname", "B")]);
        let untold = resolved(alert(3, &[("alertname", "C")]), at(50));
        let told = resolved(alert(4, &[("alertname", "D")]), at(60));
        let clock = ClockRecord {
            rule: RuleId(u64::MAX),
            fingerprint: 1 << 63,
            condition: 3,
            level: Level::Critical,
            active_at: at(0),
            fired_at: Some(at(1)),
            seen_at: at(2),
            missed_since: Some(at(3)),
            unknown_since: Some(at(4)),
            set_aside_at: Some(at(4)),
        };
        let mut holding = group("{}:{alertname=\"C\"}", &[&firing, &untold]);
        holding.told = vec![ToldRecord {
            channel: "mail".to_owned(),
            at: at(9),
            firing: vec![(u64::MAX, Level::Critical)],
            resolved: vec![7],
        }];
        let commit = AlertCommit {
            alerts: vec![pending.clone(), firing.clone(), untold.clone(), told],
            clocks: vec![clock.clone()],
            groups: vec![holding.clone()],
            ..AlertCommit::default()
        };
        db.commit(&commit).expect("commit");
        db.heartbeat(at(5)).expect("heartbeat");
        db.heartbeat(at(6)).expect("heartbeat");
        let snapshot = db.load().expect("load");
        assert_eq!(snapshot.alerts, [pending, firing, untold]);
        assert_eq!((snapshot.clocks, snapshot.groups), (vec![clock], vec![holding]));
        assert_eq!(snapshot.heartbeat_at, Some(at(6)));
    });
}

#[test]
fn records_are_replaced_by_their_keys_and_dropped_by_them() {
    on_each_engine(|db| {
        let first = alert(1, &[("alertname", "A")]);
        let kept = group("g", &[&first]);
        let clock = ClockRecord {
            rule: RuleId(1),
            fingerprint: 2,
            condition: 0,
            level: Level::Low,
            active_at: at(0),
            fired_at: None,
            seen_at: at(0),
            missed_since: None,
            unknown_since: None,
            set_aside_at: None,
        };
        db.commit(&AlertCommit {
            alerts: vec![first.clone()],
            events: vec![event(1, &first, AlertEventKind::Pending)],
            clocks: vec![clock.clone()],
            groups: vec![kept.clone()],
            ..AlertCommit::default()
        })
        .expect("first");
        let mut changed = first.clone();
        changed.acknowledged = Some(Acknowledgement {
            by: "王".to_owned(),
            at: at(3),
            until: None,
            note: String::new(),
            level: Level::High,
        });
        changed.suppressed_by = vec![Suppression::Limit];
        changed.annotations = Labels::from_pairs([("summary", "anew")]);
        db.commit(&alerts(vec![changed.clone()])).expect("change");
        assert_eq!(db.alert(first.id).expect("read"), Some(changed));

        db.commit(&AlertCommit {
            dropped_alerts: vec![first.id],
            dropped_clocks: vec![(clock.rule, clock.fingerprint, clock.condition)],
            dropped_groups: vec![kept.key],
            ..AlertCommit::default()
        })
        .expect("drop");
        assert_eq!(db.load().expect("load"), Default::default());
        assert_eq!(db.alert(first.id).expect("read"), None);
        assert!(db.events(first.id).expect("events").is_empty());
    });
}

#[test]
fn events_keep_the_order_in_which_they_were_written_and_are_written_once() {
    on_each_engine(|db| {
        let subject = alert(1, &[("alertname", "A")]);
        // Identifiers of one millisecond fall in any order; the story must not.
        let story = [
            event(9, &subject, AlertEventKind::Pending),
            event(
                5,
                &subject,
                AlertEventKind::Fired {
                    level: Level::High,
                    reason: Some("条件仍成立".to_owned()),
                },
            ),
            event(
                7,
                &subject,
                AlertEventKind::Resolved {
                    reason: "by hand".to_owned(),
                },
            ),
        ];
        let commit = AlertCommit {
            alerts: vec![subject.clone()],
            events: story.to_vec(),
            ..AlertCommit::default()
        };
        db.commit(&commit).expect("commit");
        db.commit(&commit)
            .expect("the same again, as after an unknown outcome");
        assert_eq!(db.events(subject.id).expect("events"), story);
    });
}

#[test]
fn cleaning_takes_old_ends_and_leaves_the_rest() {
    on_each_engine(|db| {
        let old = resolved(alert(1, &[("alertname", "A"), ("job", "x")]), at(0));
        let recent = resolved(alert(2, &[("alertname", "A")]), at(100_000));
        let untold = resolved(alert(3, &[("alertname", "A")]), at(0));
        let firing = alert(4, &[("alertname", "A")]);
        db.commit(&AlertCommit {
            alerts: vec![old.clone(), recent.clone(), untold.clone(), firing.clone()],
            events: vec![event(1, &old, AlertEventKind::Pending)],
            groups: vec![group("g", &[&untold])],
            ..AlertCommit::default()
        })
        .expect("commit");
        assert_eq!(db.clean(at(110_000), seconds(60)).expect("clean"), 1);
        assert_eq!(db.alert(old.id).expect("read"), None);
        assert!(db.events(old.id).expect("events").is_empty());
        for kept in [recent, untold, firing] {
            assert!(
                db.alert(kept.id).expect("read").is_some(),
                "{:?} is gone",
                kept.id
            );
        }
    });
}

#[test]
fn cleaning_goes_on_past_one_batch() {
    on_each_engine(|db| {
        db.commit(&alerts(
            (0..1_234)
                .map(|n| resolved(alert(n, &[("alertname", "A")]), at(0)))
                .collect(),
        ))
        .expect("commit");
        assert_eq!(db.clean(at(10_000), seconds(1)).expect("clean"), 1_234);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_alert_is_read_back_as_it_was(
        bits in any::<u64>(),
        pairs in proptest::collection::vec((".{1,8}", ".{0,8}"), 0..6),
        active_at in any::<i64>(),
        expr in ".{0,20}",
    ) {
        for engine in Engine::ALL {
        let db = engine.database();
        let mut written = alert(1, &[]);
        written.labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n, v)));
        written.value = f64::from_bits(bits);
        written.active_at = marketprism_model::Timestamp::from_millis(active_at);
        written.expr = expr.clone();
        db.commit(&alerts(vec![written.clone()])).expect("commit");
        let read = db.alert(written.id).expect("read").expect("stored");
        prop_assert!(is_same_value(read.value, written.value), "{} became {}", written.value, read.value);
        let without_value = |alert: &Alert| Alert { value: 0.0, ..alert.clone() };
        prop_assert_eq!(without_value(&read), without_value(&written));
        }
    }
}

/// A NaN stays a NaN; SQLite keeps no sign of zero.
fn is_same_value(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

#[test]
fn values_that_are_no_numbers_survive() {
    on_each_engine(|db| {
        for value in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -0.0,
            f64::MIN_POSITIVE / 2.0,
            0.1 + 0.2,
        ] {
            let mut written = alert(1, &[("alertname", "A")]);
            written.value = value;
            db.commit(&alerts(vec![written.clone()])).expect("commit");
            let read = db.alert(written.id).expect("read").expect("stored").value;
            assert!(is_same_value(read, value), "{value} became {read}");
        }
    });
}

//! A restart at any tick changes nothing that happens later; downtime is treated as decided.

use std::sync::atomic::Ordering;
use std::time::Duration;

use marketprism_model::{AlertState, Lifecycle, Observation, RuleContext};
use proptest::prelude::*;

use crate::world::*;

#[test]
fn a_pending_alert_goes_on_over_an_hour_of_downtime_and_begins_anew_after_a_longer_one() {
    let check = |downtime: Duration, expected: AlertState| {
        let mut world = World::new(config());
        let rule = rule("A", 2 * HOUR);
        world.evaluate(&rule, vec![seen("A", "1", "#")]);
        world.minutes(60, &rule, &[seen("A", "1", "#")]);
        world.pass(downtime);
        world.restart();
        world.evaluate(&rule, vec![seen("A", "1", "#")]);
        assert_eq!(world.only_stored().state, AlertState::Pending);
        // One more minute makes two hours from the first sign when the clock went on.
        world.minutes(1, &rule, &[seen("A", "1", "#")]);
        assert_eq!(world.only_stored().state, expected, "down for {downtime:?}");
    };
    check(59 * MINUTE, AlertState::Firing);
    check(61 * MINUTE, AlertState::Pending);
    check(3 * HOUR, AlertState::Pending);
}

#[test]
fn an_alert_whose_data_is_missing_stands_over_a_restart_and_ends_with_its_reason_when_that_lasts_too_long() {
    let mut world = World::new(config());
    let mut rule = rule("A", Duration::ZERO);
    rule.conditions[0].unknown_max = Some(30 * MINUTE);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.minutes(10, &rule, &[seen("A", "1", "?")]);
    world.restart();
    let held = world.alerts.held(rule.id);
    assert_eq!((held.len(), held[0].state), (1, AlertState::Firing));
    assert_eq!(held[0].labels, seen("A", "1", "?").labels);
    world.minutes(19, &rule, &[seen("A", "1", "?")]);
    assert_eq!(world.only_stored().state, AlertState::Firing);
    world.minutes(2, &rule, &[seen("A", "1", "?")]);
    let alert = world.only_stored();
    assert_eq!(alert.state, AlertState::Resolved);
    let story = world.story(alert.id);
    assert!(
        story
            .iter()
            .any(|line| line.ends_with("resolved: its data was missing for too long")),
        "{story:?}"
    );
}

#[test]
fn a_firing_alert_stands_over_any_downtime_until_its_rule_says_otherwise() {
    let mut world = World::new(config());
    let (one, other) = (rule("A", Duration::ZERO), rule("B", Duration::ZERO));
    world.evaluate(&one, vec![seen("A", "1", "#")]);
    world.minutes(2, &one, &[seen("A", "1", "#")]);
    world.pass(72 * HOUR);
    world.restart();
    world
        .alerts
        .retain_rules(&[one.id, other.id], world.now())
        .expect("retain");
    // Another rule's evaluation says nothing about it.
    world.minutes(10, &other, &[]);
    assert_eq!(world.only_stored().state, AlertState::Firing);
    world.evaluate(&one, vec![]);
    let alert = world.only_stored();
    assert_eq!(alert.state, AlertState::Resolved);
    assert_eq!(alert.fired_at, Some(start()));
    world.minutes(6, &one, &[]);
    assert_eq!(
        world.heard("mail").len(),
        3,
        "told, repeated after days, and closed: {:?}",
        world.heard("mail")
    );
}

#[test]
fn a_rule_that_vanished_during_the_downtime_ends_its_alerts() {
    let mut world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.restart();
    world.alerts.retain_rules(&[], world.now()).expect("retain");
    assert_eq!(
        world.story(world.only_stored().id)[1],
        "0 resolved: the rule was removed"
    );
}

/// Rules that share instances and one label set between them.
fn rules() -> Vec<RuleContext> {
    let mut kept = rule("kept", MINUTE);
    kept.conditions[0].keep_firing_for = 3 * MINUTE;
    kept.conditions[0].unknown_max = Some(2 * MINUTE);
    let mut shared = leveled("shared", 2 * MINUTE, Duration::ZERO);
    shared.conditions[1].keep_firing_for = MINUTE;
    vec![
        rule("plain", 2 * MINUTE),
        kept,
        leveled("levels", 3 * MINUTE, MINUTE),
        shared,
    ]
}

/// What each rule sees of two instances in one minute; the last two rules see the same alerts.
fn observations(rule: usize, marks: &[u8; 4]) -> Vec<Observation> {
    let name = ["plain", "kept", "shared", "shared"][rule];
    (0..2)
        .filter_map(|i| {
            let mark = |m: u8| ["#", "#", "~", ".", "?"][usize::from(m % 5)];
            let m = marks[i * 2];
            let marks = match rule {
                0 | 1 if m % 5 == 3 => return None,
                0 | 1 if m % 5 == 4 => "?".to_owned(),
                0 | 1 => "#".to_owned(),
                _ => format!("{}{}", mark(m), mark(marks[i * 2 + 1])),
            };
            Some(seen(name, &i.to_string(), &marks))
        })
        .collect()
}

/// Runs the minutes, restarting before those that are listed, and tells everything that was decided.
fn future(minutes: &[[[u8; 4]; 4]], restarts: &[usize]) -> (Vec<String>, Vec<String>) {
    let mut world = World::new(config());
    let rules = rules();
    for (minute, marks) in minutes.iter().enumerate() {
        if restarts.contains(&minute) {
            world.restart();
        }
        for (rule, context) in rules.iter().enumerate() {
            world.observe(context, observations(rule, &marks[rule]));
        }
        world.alerts.commit(world.now()).expect("commit");
        world.alerts.heartbeat(world.now()).expect("flush");
        world.pass(MINUTE);
    }
    let alerts = world
        .stored()
        .iter()
        .map(|alert| {
            let state = (
                alert.state,
                alert.level,
                alert.active_at,
                alert.fired_at,
                alert.resolved_at,
            );
            format!(
                "{} {state:?} {:?} {:?}",
                alert.labels,
                alert.rules,
                world.story(alert.id)
            )
        })
        .collect();
    let mut alerts: Vec<String> = alerts;
    alerts.sort();
    let messages = ["mail", "pager"]
        .iter()
        .flat_map(|channel| world.heard(channel))
        .collect();
    (alerts, messages)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_restart_at_any_tick_gives_the_same_future(
        runs in proptest::collection::vec((any::<[[u8; 4]; 4]>(), 1usize..5), 1..12),
        restarts in proptest::collection::vec(0usize..40, 0..6),
    ) {
        let minutes: Vec<_> = runs.iter().flat_map(|(marks, times)| std::iter::repeat_n(*marks, *times)).collect();
        let (alerts, messages) = future(&minutes, &[]);
        let (restarted_alerts, restarted_messages) = future(&minutes, &restarts);
        prop_assert_eq!(alerts, restarted_alerts);
        prop_assert_eq!(messages, restarted_messages);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn there_is_never_more_than_one_active_alert_for_a_label_set(
        minutes in proptest::collection::vec(any::<[[u8; 4]; 4]>(), 1..30),
    ) {
        let world = World::new(config());
        let rules = rules();
        for marks in &minutes {
            for (rule, context) in rules.iter().enumerate() {
                world.observe(context, observations(rule, &marks[rule]));
            }
            world.alerts.commit(world.now()).expect("commit");
            let mut active: Vec<u64> = world
                .stored()
                .iter()
                .filter(|alert| alert.state != AlertState::Resolved)
                .map(|alert| alert.fingerprint())
                .collect();
            active.sort_unstable();
            let count = active.len();
            active.dedup();
            prop_assert_eq!(active.len(), count);
            world.pass(MINUTE);
        }
        for alert in world.stored() {
            // What resolved had fired, once, and no change of level made a second alert of it.
            let story = world.story(alert.id);
            let count = |word: &str| story.iter().filter(|line| line.contains(word)).count();
            prop_assert_eq!(count("fired"), usize::from(alert.state != AlertState::Pending), "{:?}", story);
            prop_assert_eq!(count("resolved:"), usize::from(alert.state == AlertState::Resolved));
            prop_assert_eq!(alert.fired_at.is_some(), alert.state != AlertState::Pending);
        }
    }
}

#[test]
fn a_start_without_news_writes_nothing() {
    let mut world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#"), seen("A", "2", "#")]);
    world.minutes(2, &rule, &[seen("A", "1", "#"), seen("A", "2", "#")]);
    let before = (
        world.store.db_snapshot(),
        world.store.commits.load(Ordering::SeqCst),
    );
    world.restart();
    world.evaluate(&rule, vec![seen("A", "1", "#"), seen("A", "2", "#")]);
    assert_eq!(
        (
            world.store.db_snapshot(),
            world.store.commits.load(Ordering::SeqCst)
        ),
        before
    );
}

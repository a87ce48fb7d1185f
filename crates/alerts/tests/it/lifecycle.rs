//! What a rule sees becomes an alert, and its story.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{
    AlertState, Labels, Level, Lifecycle, LifecycleError, RuleContext, RuleId, Timestamp,
};

use crate::world::*;

/// One character a minute: what one series of a rule shows, and how its alert stands.
fn check_rule(rule: &RuleContext, seen_marks: &str, expected: &str) {
    let world = World::new(config());
    let mut states = String::new();
    for mark in seen_marks.chars() {
        let observations = match mark {
            '.' => vec![],
            _ => vec![seen(&rule.name, "1", &mark.to_string())],
        };
        let active = world.evaluate(rule, observations);
        states.push(match active.first().map(|alert| alert.state) {
            None => '.',
            Some(AlertState::Pending) => 'p',
            Some(AlertState::Firing) => 'F',
            Some(AlertState::Resolved) => 'R',
        });
        world.pass(MINUTE);
    }
    assert_eq!(states, expected, "{seen_marks}");
}

fn check(seen_marks: &str, expected: &str) {
    check_rule(&rule("A", 2 * MINUTE), seen_marks, expected);
}

#[test]
fn an_alert_fires_only_after_the_condition_held_for_two_minutes() {
    check("##.###.", "pp.ppF.");
}

#[test]
fn an_alert_is_kept_firing_as_long_as_the_rule_wants() {
    let mut kept = rule("A", Duration::ZERO);
    kept.conditions[0].keep_firing_for = 2 * MINUTE;
    check_rule(&kept, "#..#....", "FFFFFF..");
}

#[test]
fn the_story_of_an_alert_is_written_as_it_happened() {
    let world = World::new(config());
    let rule = rule("A", MINUTE);
    for marks in ["#", "#", "#", ""] {
        let observations = if marks.is_empty() {
            vec![]
        } else {
            vec![seen("A", "1", marks)]
        };
        world.evaluate(&rule, observations);
        world.pass(MINUTE);
    }
    let alert = world.only_stored();
    assert_eq!(
        world.story(alert.id),
        ["0 pending", "1 fired medium", "3 resolved: the condition cleared"]
    );
    assert_eq!(
        (alert.state, alert.active_at, alert.fired_at, alert.resolved_at),
        (
            AlertState::Resolved,
            start(),
            Some(start() + MINUTE),
            Some(start() + 3 * MINUTE)
        )
    );
    assert_eq!(alert.rules, [rule.id]);
}

#[test]
fn a_pending_alert_that_vanishes_leaves_nothing() {
    let world = World::new(config());
    let rule = rule("A", MINUTE);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    assert_eq!(world.only_stored().state, AlertState::Pending);
    world.pass(MINUTE);
    world.evaluate(&rule, vec![]);
    assert!(world.stored().is_empty());
    assert!(world.store.db_snapshot().clocks.is_empty());
    assert!(world.messages().is_empty());
}

#[test]
fn each_time_the_same_fires_anew_it_is_a_new_alert() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    for observations in [vec![seen("A", "1", "#")], vec![], vec![seen("A", "1", "#")]] {
        world.evaluate(&rule, observations);
        world.pass(MINUTE);
    }
    let all = world.stored();
    let states: Vec<_> = all.iter().map(|alert| alert.state).collect();
    assert_eq!(states, [AlertState::Resolved, AlertState::Firing]);
    assert_eq!(all[0].fingerprint(), all[1].fingerprint());
}

#[test]
fn levels_move_inside_one_alert() {
    let world = World::new(config());
    let rule = leveled("A", 2 * MINUTE, Duration::ZERO);
    let mut sent = Vec::new();
    for marks in [".#", "##", "##", "##", "~#", ".#", ".."] {
        let active = world.evaluate(&rule, vec![seen("A", "1", marks)]);
        sent.push(
            active
                .first()
                .and_then(|alert| alert.labels.get("severity").map(str::to_owned)),
        );
        world.pass(MINUTE);
    }
    let sent: Vec<_> = sent
        .iter()
        .map(|severity| severity.as_deref().unwrap_or("-"))
        .collect();
    assert_eq!(
        sent,
        ["high", "high", "high", "critical", "critical", "high", "-"]
    );
    assert_eq!(
        world.story(world.only_stored().id),
        [
            "0 fired high",
            "3 high to critical",
            "5 critical to high",
            "6 resolved: the condition cleared"
        ]
    );
}

#[test]
fn a_plain_rules_level_follows_its_severity() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    let active = world.evaluate(
        &rule,
        vec![
            with_severity(seen("A", "1", "#"), "page"),
            with_severity(seen("A", "2", "#"), "info"),
            seen("A", "3", "#"),
        ],
    );
    let mut levels: Vec<_> = active.iter().map(|alert| alert.level).collect();
    levels.sort_unstable();
    assert_eq!(levels, [Level::Low, Level::Medium, Level::Critical]);
}

#[test]
fn an_alert_that_two_rules_hold_ends_when_none_does() {
    let world = World::new(config());
    let (one, two) = (rule("one", Duration::ZERO), rule("two", Duration::ZERO));
    world.evaluate(&one, vec![seen("A", "1", "#")]);
    world.evaluate(&two, vec![seen("A", "1", "#")]);
    let alert = world.only_stored();
    assert_eq!(alert.rules, [one.id, two.id]);
    world.pass(MINUTE);
    assert!(
        world.evaluate(&one, vec![]).is_empty(),
        "the rule holds it no more"
    );
    assert_eq!(world.only_stored().rules, [two.id]);
    assert_eq!(world.only_stored().state, AlertState::Firing);
    world.evaluate(&two, vec![]);
    assert_eq!(world.only_stored().state, AlertState::Resolved);
}

#[test]
fn the_rule_that_came_first_says_what_the_alert_says() {
    let world = World::new(config());
    let (one, two) = (rule("one", Duration::ZERO), rule("two", Duration::ZERO));
    let valued = |value| {
        let mut observation = seen("A", "1", "#");
        observation.value = value;
        observation
    };
    world.evaluate(&one, vec![valued(1.0)]);
    world.evaluate(&two, vec![valued(2.0)]);
    assert_eq!(world.alerts.active()[0].value.to_bits(), 1.0f64.to_bits());
    world.evaluate(&one, vec![]);
    world.evaluate(&two, vec![valued(3.0)]);
    assert_eq!(world.alerts.active()[0].value.to_bits(), 3.0f64.to_bits());
}

#[test]
fn two_results_with_the_same_labels_fail_the_rule_and_nothing_is_taken() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    let result = world.alerts.observe(
        &rule,
        world.now(),
        vec![seen("A", "1", "#"), seen("A", "2", "#"), seen("A", "1", "#")],
    );
    let Err(LifecycleError::DuplicateLabels { labels }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(labels, Labels::from_pairs([("alertname", "A"), ("i", "1")]));
    world.alerts.commit(world.now()).expect("commit");
    assert!(world.stored().is_empty() && world.alerts.active().is_empty());
}

#[test]
fn a_removed_rule_ends_its_alerts_at_once_with_the_reason() {
    let world = World::new(config());
    let (kept, removed) = (rule("kept", Duration::ZERO), rule("removed", Duration::ZERO));
    let pending = rule("pending", HOUR);
    world.evaluate(&kept, vec![seen("K", "1", "#")]);
    world.evaluate(&removed, vec![seen("R", "1", "#")]);
    world.evaluate(&pending, vec![seen("P", "1", "#")]);
    world.pass(MINUTE);
    world
        .alerts
        .retain_rules(&[kept.id], world.now())
        .expect("retain");
    let all = world.stored();
    let states: Vec<_> = all.iter().map(|alert| (alert.name(), alert.state)).collect();
    assert_eq!(
        states,
        [("K", AlertState::Firing), ("R", AlertState::Resolved)],
        "pending ones vanish"
    );
    assert_eq!(world.story(all[1].id)[1], "1 resolved: the rule was removed");
    assert_eq!(world.store.db_snapshot().clocks.len(), 1);
}

#[test]
fn a_rule_that_moves_to_another_file_and_group_keeps_its_alert() {
    let world = World::new(config());
    let mut moving = rule("A", Duration::ZERO);
    world.evaluate(&moving, vec![seen("A", "1", "#")]);
    (moving.file, moving.group) = (Arc::from("other.yaml"), Arc::from("other"));
    world
        .alerts
        .retain_rules(&[moving.id], world.now())
        .expect("retain");
    world.pass(MINUTE);
    world.evaluate(&moving, vec![seen("A", "1", "#")]);
    assert_eq!(world.story(world.only_stored().id), ["0 fired medium"]);
    assert_eq!(world.alerts.active()[0].group, "other");
}

#[test]
fn a_reload_that_takes_a_level_away_lets_its_clock_end() {
    let world = World::new(config());
    let mut rule = leveled("A", Duration::ZERO, Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "##")]);
    rule.conditions.truncate(1);
    rule.conditions[0].level = Some(Level::Low);
    world.pass(MINUTE);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    let alert = world.only_stored();
    assert_eq!(world.story(alert.id), ["0 fired critical", "1 critical to low"]);
    let clocks = world.store.db_snapshot().clocks;
    assert_eq!(
        clocks.iter().map(|clock| clock.level).collect::<Vec<_>>(),
        [Level::Low]
    );
}

#[test]
fn a_clock_set_back_ends_no_alert_before_it_began() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world
        .clock
        .jump_to(Timestamp::from_millis(start().millis() - 3_600_000));
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    assert_eq!(world.only_stored().state, AlertState::Firing);
    world.evaluate(&rule, vec![]);
    let alert = world.only_stored();
    assert!(alert.resolved_at >= alert.fired_at, "{alert:?}");
}

#[test]
fn a_new_value_alone_is_shown_but_not_written() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.minutes(1, &rule, &[seen("A", "1", "#")]);
    let commits = world.store.commits.load(std::sync::atomic::Ordering::SeqCst);
    let mut newer = seen("A", "1", "#");
    newer.value = 42.0;
    newer.annotations = Labels::from_pairs([("summary", "newer")]);
    let active = world.evaluate(&rule, vec![newer]);
    assert_eq!(
        (active[0].value, active[0].annotations.get("summary")),
        (42.0, Some("newer"))
    );
    assert_eq!(world.alerts.active()[0].value, 42.0);
    assert_eq!(
        world.store.commits.load(std::sync::atomic::Ordering::SeqCst),
        commits
    );
    // With the end it is written.
    world.evaluate(&rule, vec![]);
    assert_eq!(world.only_stored().value, 42.0);
}

#[test]
fn equal_rules_that_are_told_apart_by_ordinal_hold_one_alert() {
    let world = World::new(config());
    let (one, mut two) = (rule("A", Duration::ZERO), rule("A", Duration::ZERO));
    two.id = RuleId::new("A", &Labels::empty(), 1);
    world.evaluate(&one, vec![seen("A", "1", "#")]);
    world.evaluate(&two, vec![seen("A", "1", "#")]);
    assert_eq!(world.only_stored().rules, [one.id, two.id]);
}

#[test]
fn the_list_of_active_alerts_is_the_same_value_until_something_changes() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    let (first, second) = (world.alerts.active(), world.alerts.active());
    assert!(Arc::ptr_eq(&first, &second));
    world.evaluate(&rule, vec![]);
    assert!(world.alerts.active().is_empty());
    assert_eq!(first.len(), 1, "a reader keeps what it was given");
}

/// A rule with one level got a worse one by a reload: the clock of the old one stood in the first place, and
/// 92 % paged as P1 because the new level lingered.
#[test]
fn a_level_that_is_added_by_a_reload_does_not_take_the_clock_of_another() {
    let world = World::new(config());
    let both = leveled("A", Duration::ZERO, 2 * MINUTE);
    let mut high = both.clone();
    high.conditions.remove(0);
    world.minutes(3, &high, &[seen("A", "1", "#")]);
    world.minutes(2, &both, &[seen("A", "1", "~#")]);
    let alert = world.only_stored();
    assert_eq!((alert.state, alert.level), (AlertState::Firing, Level::High));
    assert_eq!(world.story(alert.id), ["1 pending", "3 fired high"]);
    // And the other way round, over a restart: the clock of the level that is left goes on.
    world.minutes(1, &high, &[seen("A", "1", "~")]);
    assert_eq!(world.only_stored().state, AlertState::Firing);
    let clocks = world.store.db_snapshot().clocks;
    assert_eq!(
        clocks
            .iter()
            .map(|clock| (clock.condition, clock.level))
            .collect::<Vec<_>>(),
        [(0, Level::High)]
    );
}

#[test]
fn a_rule_that_gets_levels_by_a_reload_sends_their_severity() {
    let world = World::new(config());
    world.minutes(1, &rule("A", Duration::ZERO), &[seen("A", "1", "#")]);
    world.minutes(
        1,
        &leveled("A", Duration::ZERO, Duration::ZERO),
        &[seen("A", "1", "##")],
    );
    let alert = world.only_stored();
    assert_eq!(alert.sent_labels().get("severity"), Some("critical"));
}

//! Who hears what, and when: groups, repeats, ends.

use std::time::Duration;

use marketprism_alerts::{ALERTS_TOLD_MAX, Config};
use marketprism_model::{AlertState, Labels, Lifecycle, Observation};

use crate::world::*;

fn both() -> Vec<Observation> {
    vec![seen("A", "1", "#"), seen("A", "2", "#")]
}

#[test]
fn a_group_waits_then_follows_its_interval_then_repeats() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    // The first flush is due after 30 s, and the next five minutes after that.
    world.minutes(2, &rule, &[seen("A", "1", "#")]);
    world.minutes(250, &rule, &both());
    assert_eq!(
        world.heard("mail"),
        ["1 +1:medium", "6 +1:medium +2:medium", "246 +1:medium +2:medium"]
    );
    assert_eq!(world.heard("pager"), world.heard("mail"));
    let message = &world.messages()[0];
    assert_eq!(message.group_key, r#"{}:{alertname="A"}"#);
    assert_eq!(message.deadline_at, message.created_at + HOUR);
    assert_eq!(message.receiver, "default");
    assert_eq!(
        message.content.group_labels,
        Labels::from_pairs([("alertname", "A")])
    );
    assert_eq!(
        message.content.common_labels,
        Labels::from_pairs([("alertname", "A"), ("i", "1")])
    );
}

#[test]
fn the_end_is_told_once_where_ends_are_told() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, both());
    world.minutes(3, &rule, &both());
    world.minutes(4, &rule, &[seen("A", "1", "#")]);
    world.minutes(30, &rule, &[]);
    assert_eq!(
        world.heard("mail"),
        ["1 +1:medium +2:medium", "6 +1:medium -2:medium", "11 -1:medium"]
    );
    assert_eq!(world.heard("pager"), ["1 +1:medium +2:medium"]);
    let last = &world
        .messages()
        .into_iter()
        .rfind(|message| message.channel == "mail")
        .expect("told");
    assert_eq!(last.content.state, AlertState::Resolved);
    assert!(last.content.alerts[0].ends_at.is_some());
    let snapshot = world.store.db_snapshot();
    assert!(snapshot.groups.is_empty(), "an empty group that is told of goes");
    assert!(snapshot.alerts.is_empty());
}

#[test]
fn what_came_and_went_before_the_first_flush_is_not_told() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.pass(Duration::from_secs(15));
    world.evaluate(&rule, vec![]);
    world.minutes(10, &rule, &[]);
    assert!(world.messages().is_empty());
    assert!(world.store.db_snapshot().groups.is_empty());
}

#[test]
fn what_fires_again_before_its_end_was_told_never_ended_for_whoever_hears() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.minutes(2, &rule, &[seen("A", "1", "#")]);
    world.minutes(1, &rule, &[]);
    world.minutes(10, &rule, &[seen("A", "1", "#")]);
    world.minutes(10, &rule, &[]);
    assert_eq!(world.stored().len(), 2);
    assert_eq!(world.heard("mail"), ["1 +1:medium", "16 -1:medium"]);
}

#[test]
fn a_level_that_rises_is_told_and_the_end_carries_the_last_one() {
    let world = World::new(config());
    let rule = leveled("A", Duration::ZERO, Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", ".#")]);
    world.minutes(2, &rule, &[seen("A", "1", ".#")]);
    world.minutes(5, &rule, &[seen("A", "1", "##")]);
    world.minutes(10, &rule, &[seen("A", "1", ".#")]);
    world.minutes(10, &rule, &[seen("A", "1", "..")]);
    assert_eq!(world.heard("mail"), ["1 +1:high", "6 +1:critical", "21 -1:high"]);
    let levels: Vec<_> = world
        .messages()
        .iter()
        .filter(|message| message.channel == "mail")
        .map(|message| message.content.common_labels.get("severity").map(str::to_owned))
        .collect();
    assert_eq!(
        levels,
        ["high", "critical", "high"].map(|level| Some(level.to_owned()))
    );
}

#[test]
fn three_dots_group_by_all_labels() {
    let mut all = config();
    all.route.group_by = Some(vec!["...".to_owned()]);
    let world = World::new(all);
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, both());
    world.minutes(1, &rule, &both());
    let mut keys: Vec<_> = world
        .messages()
        .into_iter()
        .map(|message| message.group_key)
        .collect();
    keys.dedup();
    keys.sort();
    keys.dedup();
    assert_eq!(
        keys,
        [r#"{}:{alertname="A", i="1"}"#, r#"{}:{alertname="A", i="2"}"#]
    );
}

#[test]
fn a_new_grouping_tells_nobody_again_and_forgets_no_end() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, both());
    world.minutes(2, &rule, &both());
    let mut regrouped = config();
    regrouped.route.group_by = Some(vec!["i".to_owned()]);
    world.alerts.set_config(regrouped).expect("valid");
    world.minutes(10, &rule, &both());
    assert_eq!(world.heard("mail"), ["1 +1:medium +2:medium"]);
    world.minutes(10, &rule, &[]);
    let mut ends = world.heard("mail").split_off(1);
    ends.sort();
    assert_eq!(ends, ["16 -1:medium", "16 -2:medium"]);
}

#[test]
fn a_channel_that_is_added_hears_of_what_fires() {
    let mut silent = config();
    silent.receivers[0].channels.clear();
    let world = World::new(silent);
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.minutes(10, &rule, &[seen("A", "1", "#")]);
    assert!(world.messages().is_empty());
    world.alerts.set_config(config()).expect("valid");
    world.minutes(10, &rule, &[seen("A", "1", "#")]);
    assert_eq!(world.heard("mail"), ["11 +1:medium"]);
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let world = World::new(config());
    let bad = Config {
        max_active_alerts: 0,
        ..config()
    };
    world.alerts.set_config(bad).expect_err("refused");
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    assert!(world.only_stored().suppressed_by.is_empty());
}

#[test]
fn of_thousands_every_one_is_told_a_thousand_a_message() {
    let world = World::new(Config {
        max_active_alerts: 5_000,
        ..config()
    });
    let rule = rule("A", Duration::ZERO);
    let many: Vec<_> = (0..ALERTS_TOLD_MAX + 234)
        .map(|i| seen("A", &i.to_string(), "#"))
        .collect();
    world.evaluate(&rule, many.clone());
    world.minutes(1, &rule, &many);
    let sizes = |world: &World| -> Vec<(usize, u32)> {
        let messages = world.messages();
        let mail = messages.iter().filter(|message| message.channel == "mail");
        mail.map(|message| (message.content.alerts.len(), message.content.truncated_alerts))
            .collect()
    };
    assert_eq!(sizes(&world), [(ALERTS_TOLD_MAX, 0), (234, 0)]);
    // Nobody is told again of those that were told.
    world.minutes(10, &rule, &many);
    assert_eq!(sizes(&world).len(), 2);
}

/// A group of 1,234 told alerts had a newcomer and an end: both were cut off as "the rest", so nobody was told
/// of the newcomer, and a pager that is closed by fingerprint stayed open for good.
#[test]
fn what_is_new_and_what_ended_is_told_however_large_the_group_is() {
    let world = World::new(Config {
        max_active_alerts: 5_000,
        ..config()
    });
    let rule = rule("A", Duration::ZERO);
    let many =
        |from: usize, to: usize| -> Vec<_> { (from..to).map(|i| seen("A", &i.to_string(), "#")).collect() };
    let count = ALERTS_TOLD_MAX + 234;
    world.evaluate(&rule, many(0, count));
    world.minutes(2, &rule, &many(0, count));
    world.minutes(6, &rule, &many(1, count + 1));
    let messages = world.messages();
    let last = messages
        .iter()
        .rfind(|message| message.channel == "mail")
        .expect("told");
    let has = |i: usize, state| {
        let is_it = |alert: &&marketprism_model::NotifiedAlert| alert.labels.get("i") == Some(&i.to_string());
        last.content
            .alerts
            .iter()
            .find(is_it)
            .is_some_and(|alert| alert.state == state)
    };
    assert!(has(count, AlertState::Firing), "the newcomer was cut off");
    assert!(has(0, AlertState::Resolved), "the end was cut off");
    assert_eq!(
        (last.content.alerts.len(), last.content.truncated_alerts),
        (ALERTS_TOLD_MAX, 235)
    );
    assert_eq!(last.content.alerts[0].state, AlertState::Firing);
}

/// Delivery was switched off for maintenance: the logs of what was told were emptied meanwhile, so ends were
/// never told, and everything that still fired was told a second time when it was switched on again.
#[test]
fn while_nobody_is_told_the_logs_stand_and_afterwards_only_news_and_ends_are_told() {
    let mut world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    let see = |instances: &[&str]| -> Vec<_> { instances.iter().map(|i| seen("A", i, "#")).collect() };
    let told = |is_telling| {
        let mut config = config();
        config.is_telling = is_telling;
        if !is_telling {
            config.receivers[0].channels.clear();
        }
        config
    };
    world.evaluate(&rule, see(&["stays", "ends"]));
    world.minutes(1, &rule, &see(&["stays", "ends"]));
    world.alerts.set_config(told(false)).expect("off");
    world.config = told(false);
    // One ends, one comes and goes, one comes and stays; a day of repeats is not told either.
    world.minutes(20, &rule, &see(&["stays", "flits"]));
    world.minutes(20, &rule, &see(&["stays", "comes"]));
    world.restart();
    world.minutes(1500, &rule, &see(&["stays", "comes"]));
    assert_eq!(world.heard("mail"), ["1 +ends:medium +stays:medium"]);
    world.alerts.set_config(told(true)).expect("on");
    world.minutes(10, &rule, &see(&["stays", "comes"]));
    assert_eq!(
        world.heard("mail"),
        [
            "1 +ends:medium +stays:medium",
            "1542 +stays:medium +comes:medium -ends:medium"
        ]
    );
    assert_eq!(world.store.db_snapshot().groups[0].alerts.len(), 2);
}

/// The mail server was away for an hour and a half. What was told meanwhile was given up at its deadline, and
/// people heard of it only when repeats were due, hours after the server was back.
#[test]
fn what_never_reached_its_channel_is_told_again_with_the_next_tick() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    let see = |instances: &[&str]| -> Vec<_> { instances.iter().map(|i| seen("A", i, "#")).collect() };
    world.evaluate(&rule, see(&["1"]));
    world.minutes(1, &rule, &see(&["1"]));
    world.minutes(5, &rule, &see(&["1", "2"]));
    assert_eq!(world.heard("mail"), ["1 +1:medium", "6 +1:medium +2:medium"]);
    let mails: Vec<_> = world
        .messages()
        .into_iter()
        .filter(|message| message.channel == "mail")
        .collect();
    // The first is followed by one that says it all.
    world.alerts.undelivered(&mails[0]);
    world.minutes(10, &rule, &see(&["1", "2"]));
    assert_eq!(world.heard("mail").len(), 2);
    world.alerts.undelivered(&mails[1]);
    world.minutes(5, &rule, &see(&["1", "2"]));
    assert_eq!(world.heard("mail")[2..], ["21 +1:medium +2:medium"]);
    assert_eq!(world.heard("pager").len(), 2, "the other channel lost nothing");
    // What an older message may have opened is closed all the same.
    let again = world.messages().pop().expect("told");
    world.alerts.undelivered(&again);
    world.minutes(5, &rule, &[]);
    assert_eq!(world.heard("mail")[3..], ["26 -1:medium -2:medium"]);
}

#[test]
fn after_a_start_nothing_is_told_before_every_rule_had_its_say() {
    let mut settling = config();
    settling.settle = 2 * MINUTE;
    let mut world = World::new(settling);
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.restart();
    assert_eq!(world.alerts.next_flush(), Some(start() + 2 * MINUTE));
    world.minutes(1, &rule, &[seen("A", "1", "#")]);
    assert!(world.messages().is_empty());
    world.minutes(1, &rule, &[seen("A", "1", "#")]);
    assert_eq!(world.heard("mail"), ["2 +1:medium"]);
}

#[test]
fn a_clock_set_back_by_a_day_does_not_silence_a_group() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.minutes(2, &rule, &[seen("A", "1", "#")]);
    world.clock.jump_to(start() - 24 * HOUR);
    world.evaluate(&rule, both());
    world.minutes(6, &rule, &both());
    assert_eq!(world.heard("mail").len(), 2);
    world.minutes(5, &rule, &[]);
    assert_eq!(world.heard("mail").len(), 3);
    world.alerts.commit(world.now()).expect("commit");
}

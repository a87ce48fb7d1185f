//! What people do to alerts.

use std::time::Duration;

use marketprism_alerts::{ActError, NOTE_BYTES_MAX};
use marketprism_model::{AlertState, Id, Lifecycle};

use crate::world::*;

fn firing() -> (World, marketprism_model::RuleContext, Id) {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    let id = world.only_stored().id;
    (world, rule, id)
}

#[test]
fn an_acknowledged_alert_is_told_once_and_repeated_only_after_it_was_given_back() {
    let (world, rule, id) = firing();
    world
        .alerts
        .acknowledge(id, "wang", "在处理", None)
        .expect("acknowledge");
    assert_eq!(world.only_stored().acknowledged.expect("stored").by, "wang");
    world.minutes(600, &rule, &[seen("A", "1", "#")]);
    assert_eq!(world.heard("mail"), ["1 +1:medium"]);
    world.alerts.unacknowledge(id, "li").expect("give back");
    world.minutes(5, &rule, &[seen("A", "1", "#")]);
    assert_eq!(world.heard("mail"), ["1 +1:medium", "601 +1:medium"]);
    assert_eq!(
        world.story(id),
        [
            "0 fired medium",
            "0 acknowledged: 在处理 by wang",
            "600 unacknowledged: by hand by li"
        ]
    );
}

#[test]
fn an_acknowledgement_ends_with_its_time() {
    let (world, rule, id) = firing();
    let until = world.now() + HOUR;
    world
        .alerts
        .acknowledge(id, "wang", "", Some(until))
        .expect("acknowledge");
    world.minutes(61, &rule, &[seen("A", "1", "#")]);
    assert!(world.only_stored().acknowledged.is_none());
    assert_eq!(
        world.story(id).last().expect("story"),
        "60 unacknowledged: its time is over"
    );
}

#[test]
fn an_acknowledgement_ends_when_the_level_rises_and_not_when_it_falls() {
    let world = World::new(config());
    let rule = leveled("A", Duration::ZERO, Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "##")]);
    let id = world.only_stored().id;
    world
        .alerts
        .acknowledge(id, "wang", "", None)
        .expect("acknowledge");
    world.minutes(1, &rule, &[seen("A", "1", ".#")]);
    assert!(world.only_stored().acknowledged.is_some());
    // Back at what was acknowledged is no rise.
    world.minutes(1, &rule, &[seen("A", "1", "##")]);
    assert!(world.only_stored().acknowledged.is_some());
    world.minutes(1, &rule, &[seen("A", "1", ".#")]);
    world
        .alerts
        .acknowledge(id, "li", "", None)
        .expect("acknowledge at high");
    world.minutes(10, &rule, &[seen("A", "1", "##")]);
    assert!(world.only_stored().acknowledged.is_none());
    assert!(
        world
            .story(id)
            .contains(&"4 unacknowledged: the level rose to critical".to_owned())
    );
}

#[test]
fn resolving_by_hand_holds_until_the_condition_has_cleared_once() {
    let (world, rule, id) = firing();
    world.minutes(2, &rule, &[seen("A", "1", "#")]);
    let resolved = world.alerts.resolve(id, "wang", "误报").expect("resolve");
    assert_eq!(resolved.state, AlertState::Resolved);
    assert!(world.alerts.active().is_empty());
    world.minutes(10, &rule, &[seen("A", "1", "#")]);
    assert_eq!(world.stored().len(), 1, "it stays away while the condition holds");
    assert!(world.observe(&rule, vec![seen("A", "1", "#")]).is_empty());
    world.minutes(1, &rule, &[]);
    world.minutes(1, &rule, &[seen("A", "1", "#")]);
    let all = world.stored();
    assert_eq!(all.len(), 2);
    assert_eq!(world.story(id)[1], "2 resolved: by hand: 误报 by wang");
    assert_eq!(world.story(all[1].id), ["14 fired medium"]);
    assert_eq!(
        world.heard("mail")[1],
        "6 -1:medium",
        "who was told hears of the end"
    );
}

#[test]
fn what_is_still_true_an_hour_after_it_was_resolved_by_hand_fires_anew_with_that_reason() {
    let (mut world, rule, id) = firing();
    world.alerts.resolve(id, "wang", "").expect("resolve");
    world.minutes(30, &rule, &[seen("A", "1", "#")]);
    // A restart in between makes no difference.
    world.restart();
    world.minutes(29, &rule, &[seen("A", "1", "#")]);
    assert_eq!(world.stored().len(), 1);
    world.minutes(1, &rule, &[seen("A", "1", "#")]);
    let all = world.stored();
    assert_eq!(
        world.story(all[1].id),
        ["60 fired medium: still true one hour after it was resolved by hand"]
    );
    assert_eq!(all[1].fired_at, Some(start() + HOUR));
}

#[test]
fn a_worse_condition_that_begins_after_a_resolution_by_hand_fires() {
    let world = World::new(config());
    let rule = leveled("A", Duration::ZERO, Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", ".#")]);
    world
        .alerts
        .resolve(world.only_stored().id, "wang", "")
        .expect("resolve");
    world.minutes(5, &rule, &[seen("A", "1", ".#")]);
    assert_eq!(world.stored().len(), 1);
    world.minutes(1, &rule, &[seen("A", "1", "##")]);
    let all = world.stored();
    assert_eq!(world.story(all[1].id), ["6 fired critical"]);
    world.minutes(1, &rule, &[seen("A", "1", ".#")]);
    assert_eq!(
        world.stored()[1].state,
        AlertState::Resolved,
        "what was set aside does not hold it"
    );
}

#[test]
fn acts_on_what_is_not_firing_are_refused_with_the_reason() {
    let (world, rule, id) = firing();
    let unknown = Id::from_u128(1);
    assert!(
        matches!(world.alerts.acknowledge(unknown, "w", "", None), Err(ActError::Unknown(named)) if named == unknown)
    );
    assert!(matches!(
        world.alerts.unacknowledge(id, "w"),
        Err(ActError::NotAcknowledged(_))
    ));
    let past = world.alerts.acknowledge(id, "w", "", Some(world.now()));
    assert!(matches!(past, Err(ActError::Past { .. })));
    let long = "x".repeat(NOTE_BYTES_MAX + 1);
    assert!(
        matches!(world.alerts.resolve(id, "w", &long), Err(ActError::NoteTooLong { bytes }) if bytes == long.len())
    );
    world.minutes(1, &rule, &[]);
    assert!(matches!(
        world.alerts.resolve(id, "w", ""),
        Err(ActError::Resolved(_))
    ));
    let slow = crate::world::rule("P", HOUR);
    world.evaluate(&slow, vec![seen("P", "1", "#")]);
    let pending = world.alerts.active()[0].id;
    assert!(matches!(
        world.alerts.acknowledge(pending, "w", "", None),
        Err(ActError::Pending(_))
    ));
}

#[test]
fn an_act_that_the_store_refused_is_written_with_the_next_tick() {
    let (world, _rule, id) = firing();
    world.store.refuse.store(1, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(
        world.alerts.acknowledge(id, "wang", "", None),
        Err(ActError::Store(_))
    ));
    world.alerts.commit(world.now()).expect("commit");
    assert!(world.only_stored().acknowledged.is_some());
}

//! A store that refuses, and one that takes a commit and then says that it did not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use marketprism_model::{AlertState, Lifecycle};

use crate::world::*;

#[test]
fn what_the_store_refused_is_written_with_the_next_tick_and_once() {
    let world = World::new(config());
    let rule = rule("A", MINUTE);
    world.store.refuse.store(u32::MAX, Ordering::SeqCst);
    for minute in 0..4 {
        let observations = if minute < 3 {
            vec![seen("A", "1", "#")]
        } else {
            vec![]
        };
        world.observe(&rule, observations);
        world.alerts.commit(world.now()).expect_err("refused");
        world.alerts.flush(world.now()).expect_err("refused");
        world.pass(MINUTE);
    }
    assert!(world.stored().is_empty());
    world.store.refuse.store(0, Ordering::SeqCst);
    world.alerts.commit(world.now()).expect("commit");
    let alert = world.only_stored();
    assert_eq!(
        world.story(alert.id),
        ["0 pending", "1 fired medium", "3 resolved: the condition cleared"]
    );
    assert!(world.store.db_snapshot().clocks.is_empty());
}

#[test]
fn nothing_is_decided_for_people_while_the_store_refuses() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.store.refuse.store(u32::MAX, Ordering::SeqCst);
    // Long enough for two repeats that nobody could have heard.
    for _ in 0..60 {
        world.pass(10 * MINUTE);
        let _ = world.alerts.flush(world.now());
    }
    world.store.refuse.store(0, Ordering::SeqCst);
    world.alerts.flush(world.now()).expect("flush");
    assert_eq!(
        world.heard("mail"),
        ["10 +1:medium", "600 +1:medium"],
        "the first decision stands, and the next is made when it is through"
    );
}

#[test]
fn a_commit_whose_outcome_was_unknown_doubles_nothing() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    world.store.refuse_after_writing.store(1, Ordering::SeqCst);
    world.observe(&rule, vec![seen("A", "1", "#")]);
    world.alerts.commit(world.now()).expect_err("unknown");
    world.alerts.commit(world.now()).expect("again");
    world.pass(MINUTE);
    world.store.refuse_after_writing.store(1, Ordering::SeqCst);
    world.alerts.flush(world.now()).expect_err("unknown");
    world.alerts.flush(world.now()).expect("again");
    let alert = world.only_stored();
    assert_eq!(world.story(alert.id), ["0 fired medium"]);
    assert_eq!(world.heard("mail"), ["1 +1:medium"]);
}

#[test]
fn a_pending_alert_that_vanished_while_the_store_refused_leaves_nothing() {
    let world = World::new(config());
    let rule = rule("A", HOUR);
    world.store.refuse.store(1, Ordering::SeqCst);
    world.observe(&rule, vec![seen("A", "1", "#")]);
    world.alerts.commit(world.now()).expect_err("refused");
    world.observe(&rule, vec![]);
    world.alerts.commit(world.now()).expect("commit");
    assert!(world.stored().is_empty());
    assert!(world.store.db_snapshot().clocks.is_empty());
}

#[test]
fn groups_that_tick_at_once_lose_no_transition() {
    let world = World::new(config());
    std::thread::scope(|scope| {
        for group in 0..8 {
            let world = &world;
            scope.spawn(move || {
                let rule = rule(&format!("A{group}"), Duration::ZERO);
                for round in 0..20 {
                    let i = round.to_string();
                    world.observe(&rule, vec![seen(&rule.name, &i, "#")]);
                    world.alerts.commit(world.now()).expect("commit");
                    // What a commit returned for is in the store.
                    let stored = world.stored();
                    let mine = stored.iter().filter(|alert| alert.name() == &*rule.name).count();
                    assert_eq!(mine, round + 1);
                }
            });
        }
    });
    let all = world.stored();
    assert_eq!(all.len(), 8 * 20);
    assert_eq!(
        all.iter()
            .filter(|alert| alert.state == AlertState::Firing)
            .count(),
        8
    );
    for alert in all {
        let expected = if alert.state == AlertState::Firing { 1 } else { 2 };
        assert_eq!(world.story(alert.id).len(), expected);
    }
}

//! Too many alerts: those beyond the limit are stored, and that it happened is told once.

use std::time::Duration;

use marketprism_alerts::{Config, LIMIT_ALERT};
use marketprism_model::alert::Suppression;
use marketprism_model::{AlertState, Level, Observation};

use crate::world::*;

fn limited(max: usize) -> World {
    World::new(Config {
        max_active_alerts: max,
        ..config()
    })
}

fn flood(count: std::ops::Range<u32>) -> Vec<Observation> {
    count.map(|i| seen("A", &i.to_string(), "#")).collect()
}

#[test]
fn alerts_beyond_the_limit_are_stored_and_one_p1_says_so() {
    let world = limited(3);
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, flood(0..5));
    let all = world.stored();
    let suppressed: Vec<_> = all
        .iter()
        .filter(|alert| alert.suppressed_by == [Suppression::Limit])
        .collect();
    assert_eq!(suppressed.len(), 2);
    assert_eq!(
        world.story(suppressed[0].id),
        ["0 fired medium", "0 suppressed: limit"]
    );
    let own: Vec<_> = all.iter().filter(|alert| alert.name() == LIMIT_ALERT).collect();
    assert_eq!(
        (own.len(), own[0].level, own[0].state),
        (1, Level::Critical, AlertState::Firing)
    );
    world.minutes(10, &rule, &flood(0..5));
    let heard = world.heard("pager");
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard.contains(&"1 +?:critical".to_owned()), "{heard:?}");
    assert!(
        heard.contains(&"1 +0:medium +1:medium +2:medium".to_owned()),
        "{heard:?}"
    );
}

#[test]
fn when_there_is_room_again_what_still_fires_is_told_and_the_p1_ends() {
    let world = limited(3);
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, flood(0..5));
    world.minutes(5, &rule, &flood(0..5));
    world.minutes(10, &rule, &flood(2..5));
    let heard = world.heard("mail");
    assert!(
        heard.contains(&"6 +2:medium +3:medium +4:medium -0:medium -1:medium".to_owned()),
        "{heard:?}"
    );
    assert!(heard.contains(&"11 -?:critical".to_owned()), "{heard:?}");
    let all = world.stored();
    assert!(all.iter().all(|alert| alert.suppressed_by.is_empty()));
}

#[test]
fn a_suppressed_alert_that_ends_is_never_told() {
    let world = limited(1);
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, flood(0..2));
    world.minutes(7, &rule, &flood(0..1));
    assert_eq!(
        world
            .heard("mail")
            .iter()
            .filter(|heard| heard.contains("1:medium"))
            .count(),
        0
    );
    assert!(
        world
            .alerts
            .active()
            .iter()
            .all(|alert| alert.name() != LIMIT_ALERT)
    );
}

#[test]
fn the_limit_holds_over_a_restart_and_a_higher_one_tells_the_rest() {
    let mut world = limited(2);
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, flood(0..4));
    world.minutes(2, &rule, &flood(0..4));
    world.restart();
    world.minutes(1, &rule, &flood(0..4));
    let suppressed = |world: &World| {
        world
            .alerts
            .active()
            .iter()
            .filter(|alert| !alert.suppressed_by.is_empty())
            .count()
    };
    assert_eq!(suppressed(&world), 2);
    let higher = Config {
        max_active_alerts: 10,
        ..world.config.clone()
    };
    world.alerts.set_config(higher).expect("valid");
    assert_eq!(suppressed(&world), 0);
}

#[test]
fn an_edge_that_is_crossed_again_and_again_is_one_p1() {
    let world = limited(2);
    let rule = rule("A", Duration::ZERO);
    for minute in 0..60 {
        world.evaluate(&rule, flood(0..if minute % 4 == 0 { 3 } else { 2 }));
        world.pass(MINUTE);
    }
    let own = world
        .stored()
        .iter()
        .filter(|alert| alert.name() == LIMIT_ALERT)
        .count();
    assert_eq!(own, 1);
}

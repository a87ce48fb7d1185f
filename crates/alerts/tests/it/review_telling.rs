//! Who is told, where a review found somebody forgotten or told too much. Each test opens with the fault's story.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use marketprism_alerts::escalation::{PolicyConfig, StepConfig};
use marketprism_alerts::storm::StormConfig;
use marketprism_alerts::{AlertAct, ChannelRoute, Config, Receiver};
use marketprism_model::{Id, Purpose};
use serde_json::{Value, json};

use crate::world::*;

fn receiver(name: &str, channel: &str) -> Receiver {
    Receiver {
        name: name.to_owned(),
        channels: vec![ChannelRoute::new(channel, true)],
    }
}

/// Every alert has a group of its own, but in a storm, which begins with the fourth within a minute.
fn stormy(route: Value) -> Config {
    let mut root = json!({"receiver": "default", "group_by": ["..."]});
    for (key, value) in route.as_object().expect("an object") {
        root[key] = value.clone();
    }
    let mut config = config();
    config.receivers.push(receiver("wang", "phone"));
    config.receivers.push(receiver("spare", "fax"));
    Config {
        storm: StormConfig {
            threshold: 3,
            window: MINUTE,
        },
        max_active_alerts: 1000,
        route: serde_json::from_value(root).expect("a route"),
        escalation_policies: vec![PolicyConfig {
            name: "night".to_owned(),
            steps: vec![StepConfig {
                after: MINUTE,
                notify: vec!["wang".to_owned()],
            }],
            repeat: None,
            levels: Vec::new(),
        }],
        ..config
    }
}

fn called(world: &World) -> HashSet<Id> {
    let calls = world.messages().into_iter();
    calls
        .filter(|message| message.channel == "phone")
        .flat_map(|message| message.content.alerts)
        .map(|alert| alert.id)
        .collect()
}

/// A storm's digest escalated by the root's policy: of ten alerts whose route has one, seven were never escalated.
#[test]
fn a_storm_leaves_its_alerts_the_escalation_of_their_route() {
    let config = stormy(json!({
        "routes": [{"matchers": ["alertname=\"A\""], "escalation": "night"}],
    }));
    let mut world = World::new(config);
    let rule = rule("A", Duration::ZERO);
    let storm: Vec<_> = (0..10).map(|i| seen("A", &i.to_string(), "#")).collect();
    world.evaluate(&rule, storm.clone());
    world.restart();
    world.minutes(60, &rule, &storm);
    assert_eq!(called(&world).len(), 10);
}

/// And the other way round: the root's policy called somebody for alerts of a route that escalates to nobody.
#[test]
fn a_storm_does_not_escalate_what_its_route_does_not() {
    let mut config = stormy(json!({
        "routes": [
            {"matchers": ["alertname=\"A\""], "escalation": "night"},
            {"matchers": ["alertname=\"B\""]},
        ],
    }));
    config.receivers.push(receiver("other", "other"));
    let world = World::new(config);
    let (a, b) = (rule("A", Duration::ZERO), rule("B", Duration::ZERO));
    let many = |name| -> Vec<_> { (0..10).map(|i| seen(name, &i.to_string(), "#")).collect() };
    for _ in 0..60 {
        world.evaluate(&a, many("A"));
        world.evaluate(&b, many("B"));
        world.pass(MINUTE);
    }
    let called = called(&world);
    let names = world.alerts.active();
    let names: HashSet<&str> = names
        .iter()
        .filter(|alert| called.contains(&alert.id))
        .map(|alert| alert.name())
        .collect();
    assert_eq!((called.len(), names), (10, HashSet::from(["A"])));
}

/// Fifty alerts joined a storm's group that stood already; that was never written, so after a restart each had a group
/// of its own, and fifty messages went out at once.
#[test]
fn a_restart_remembers_who_joined_a_storm() {
    let mut world = World::new(stormy(json!({})));
    let rule = rule("A", Duration::ZERO);
    let storm: Vec<_> = (0..60).map(|i| seen("A", &i.to_string(), "#")).collect();
    world.evaluate(&rule, storm[..10].to_vec());
    world.pass(Duration::from_secs(15));
    world.evaluate(&rule, storm.clone());
    assert_eq!(world.alerts.groups(world.now()).len(), 4);
    world.restart();
    assert_eq!(world.alerts.groups(world.now()).len(), 4);
    world.minutes(3, &rule, &storm);
    assert_eq!(world.heard("mail").len(), 4);
}

/// The end of a mute makes a group due; a storm's group had to wait for its next tick, up to its whole interval.
#[test]
fn a_storm_that_was_muted_speaks_when_the_mute_ends() {
    let mut config = stormy(json!({
        "group_wait": "0s",
        "group_interval": "1h",
        "routes": [{"matchers": ["alertname=\"A\""], "mute_time_intervals": ["now"]}],
    }));
    // Time begins at 22:13 UTC.
    config.time_intervals = serde_json::from_value(json!([{
        "name": "now",
        "time_intervals": [{"times": [{"start_time": "22:00", "end_time": "22:30"}]}],
    }]))
    .expect("intervals");
    let world = World::new(config);
    let rule = rule("A", Duration::ZERO);
    let storm: Vec<_> = (0..10).map(|i| seen("A", &i.to_string(), "#")).collect();
    world.evaluate(&rule, storm.clone());
    world.minutes(25, &rule, &storm);
    let digests: Vec<u64> = world
        .messages()
        .iter()
        .filter(|message| message.channel == "mail" && message.content.purpose == Purpose::Storm)
        .map(|message| message.created_at.since(start()).as_secs() / 60)
        .collect();
    assert_eq!(digests, [17]);
}

/// A message was given up after somebody had silenced, or acknowledged, its alert; the fallback receiver was told of it
/// all the same.
#[test]
fn the_fallback_hears_nothing_of_what_is_silenced_or_in_hand() {
    let check = |act: Option<AlertAct>, heard: usize| {
        let config = Config {
            fallback_receiver: Some("spare".to_owned()),
            ..stormy(json!({}))
        };
        let world = World::new(config);
        let rule = rule("A", Duration::ZERO);
        let alerts = [seen("A", "1", "#")];
        world.evaluate(&rule, alerts.to_vec());
        world.minutes(2, &rule, &alerts);
        let id = world.alerts.active()[0].id;
        let is_quiet = act.is_some();
        if let Some(act) = act {
            world.alerts.act(id, &act, "li").expect("acted");
        }
        for message in world.messages() {
            if message.channel == "mail" {
                world.alerts.undelivered(&message);
            }
        }
        world.minutes(2, &rule, &alerts);
        assert_eq!(world.heard("fax").len(), heard, "quiet: {is_quiet}");
    };
    check(None, 1);
    let comment = "known".to_owned();
    check(Some(AlertAct::Suppress { comment, until: None }), 0);
    let note = "on it".to_owned();
    check(Some(AlertAct::Acknowledge { note, until: None }), 0);
}

/// A message was given up whose alert was over and its record damaged: the read failed before anything was decided, and so
/// did every later one, so that nobody was told of anything until a restart.
#[test]
fn a_damaged_record_does_not_stop_the_telling() {
    let config = Config {
        fallback_receiver: Some("spare".to_owned()),
        ..stormy(json!({}))
    };
    let world = World::new(config);
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.minutes(2, &rule, &[seen("A", "1", "#")]);
    let lost = world.messages();
    world.minutes(10, &rule, &[]);
    world.store.damaged_reads.store(u32::MAX, Ordering::SeqCst);
    lost.iter().for_each(|message| world.alerts.undelivered(message));
    world.minutes(2, &rule, &[seen("A", "2", "#")]);
    assert_eq!(
        world.heard("mail").last().map(String::as_str),
        Some("14 +2:medium")
    );
    let read = u32::MAX - world.store.damaged_reads.load(Ordering::SeqCst);
    assert!(read > 0, "the damaged record was met");
}

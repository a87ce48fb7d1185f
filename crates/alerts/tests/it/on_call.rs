//! Escalation, schedules and incidents as the room composes them: observations in, messages and records out.

use std::time::Duration;

use marketprism_alerts::escalation::{PolicyConfig, RepeatConfig, StepConfig};
use marketprism_alerts::incidents::IncidentsConfig;
use marketprism_alerts::schedule::{LayerConfig, Rotation, ScheduleConfig, Turn};
use marketprism_alerts::{ChannelRoute, Config, Receiver};
use marketprism_model::records::AlertStore;
use marketprism_model::{AlertState, IncidentFilter, IncidentState, Purpose};

use crate::world::{MINUTE, World, config, rule, seen, start, with_severity};

/// Whoever is on call at once, the boss after ten minutes, all again half an hour later.
fn night() -> Config {
    let receiver = |name: &str| Receiver {
        name: name.to_owned(),
        channels: vec![ChannelRoute::new(format!("phone-{name}"), true)],
    };
    let mut config = config();
    config.receivers.extend(["wang", "boss"].map(receiver));
    config.route.escalation = Some("night".to_owned());
    config.route.group_wait = Some(Duration::ZERO);
    let step = |after: u32, target: &str| StepConfig {
        after: MINUTE * after,
        notify: vec![target.to_owned()],
    };
    config.escalation_policies = vec![PolicyConfig {
        name: "night".to_owned(),
        steps: vec![step(0, "schedule:ops"), step(10, "boss")],
        repeat: Some(RepeatConfig {
            every: MINUTE * 30,
            times: 1,
        }),
        levels: Vec::new(),
    }];
    config.schedules = vec![ScheduleConfig {
        name: "ops".to_owned(),
        time_zone: "Asia/Shanghai".to_owned(),
        layers: vec![LayerConfig {
            participants: vec![Turn::One("wang".to_owned())],
            rotation: Rotation::Daily,
            starts: "2020-01-01".to_owned(),
            ends: None,
            handover: "09:00".to_owned(),
            on: None,
            within: Vec::new(),
        }],
    }];
    config
}

/// What the telephones were told: the minute, whom, `+` or `-`, and the step.
fn calls(world: &World) -> Vec<String> {
    let messages = world.messages().into_iter();
    let calls = messages.filter_map(|message| {
        let Purpose::Escalation { policy, step } = &message.content.purpose else {
            return None;
        };
        assert_eq!(policy, "night");
        let minute = message.created_at.since(start()).as_secs() / 60;
        let (mark, step) = match message.content.state {
            AlertState::Resolved => ("-", String::new()),
            _ => ("+", format!(" {step}")),
        };
        Some(format!("{minute} {mark}{}{step}", message.receiver))
    });
    calls.collect()
}

#[test]
fn nobody_answers_so_the_next_one_is_called_and_everybody_who_was_called_hears_the_end() {
    let world = World::new(night());
    let rule = rule("Down", Duration::ZERO);
    world.evaluate(&rule, vec![seen("Down", "a", "#")]);
    world.minutes(60, &rule, &[seen("Down", "a", "#")]);
    world.minutes(10, &rule, &[seen("Down", "a", ".")]);
    let all = calls(&world);
    assert_eq!(
        all[..4],
        ["0 +wang 1", "10 +boss 2", "40 +wang 1", "50 +boss 2"],
        "{all:?}"
    );
    let ends: Vec<&str> = all[4..]
        .iter()
        .filter_map(|call| call.split(' ').nth(1))
        .collect();
    assert_eq!(ends.len(), 2, "each is told of the end once: {all:?}");
    assert!(ends.contains(&"-wang") && ends.contains(&"-boss"), "{all:?}");
}

#[test]
fn an_answer_stops_the_calls_also_over_a_restart() {
    let mut world = World::new(night());
    let rule = rule("Down", Duration::ZERO);
    world.evaluate(&rule, vec![seen("Down", "a", "#")]);
    world.minutes(5, &rule, &[seen("Down", "a", "#")]);
    let id = world.only_stored().id;
    world
        .alerts
        .acknowledge(id, "wang", "", None)
        .expect("acknowledged");
    world.minutes(3, &rule, &[seen("Down", "a", "#")]);
    world.restart();
    world.minutes(60, &rule, &[seen("Down", "a", "#")]);
    assert_eq!(calls(&world), ["0 +wang 1"]);
}

#[test]
fn a_step_that_was_due_while_the_program_was_down_is_taken_once_after_the_start() {
    let mut world = World::new(night());
    let rule = rule("Down", Duration::ZERO);
    world.evaluate(&rule, vec![seen("Down", "a", "#")]);
    world.pass(MINUTE * 25);
    world.restart();
    world.evaluate(&rule, vec![seen("Down", "a", "#")]);
    world.minutes(40, &rule, &[seen("Down", "a", "#")]);
    // The second round begins half an hour after the boss was called.
    assert_eq!(
        calls(&world),
        ["0 +wang 1", "25 +boss 2", "55 +wang 1", "65 +boss 2"]
    );
}

#[test]
fn related_alerts_are_one_incident_from_the_first_to_the_end_also_over_a_restart() {
    let mut config = config();
    config.incidents = IncidentsConfig {
        labels: vec!["i".to_owned()],
        ..IncidentsConfig::default()
    };
    let mut world = World::new(config);
    let (disk, slow) = (rule("DiskFull", Duration::ZERO), rule("Slow", Duration::ZERO));
    world.evaluate(&disk, vec![with_severity(seen("DiskFull", "a", "#"), "low")]);
    world.pass(MINUTE);
    world.restart();
    world.evaluate(&slow, vec![with_severity(seen("Slow", "a", "#"), "critical")]);
    let filter = IncidentFilter {
        limit: 10,
        ..IncidentFilter::default()
    };
    let list = |world: &World| world.store.db.incidents(&filter).expect("list").items;
    let all = list(&world);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!((all[0].title.as_str(), all[0].alerts.len()), ("Slow (i=a)", 2));
    assert!(
        world
            .stored()
            .iter()
            .all(|alert| alert.incident == Some(all[0].id))
    );
    world.evaluate(&disk, vec![with_severity(seen("DiskFull", "a", "."), "low")]);
    world.evaluate(&slow, vec![with_severity(seen("Slow", "a", "."), "critical")]);
    world.minutes(6, &disk, &[]);
    assert_eq!(list(&world)[0].state, IncidentState::Resolved);
    assert_eq!(
        world.store.db.incident_events(all[0].id).expect("timeline").len(),
        7
    );
}

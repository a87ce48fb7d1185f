//! Faults that a review found in what ends, what is acted on and what is limited; each test opens with its story.

use std::time::Duration;

use marketprism_alerts::{AlertAct, Config, OverrideDraft, ReceivedAlert, Receiver};
use marketprism_model::{Labels, Lifecycle};

use crate::world::{HOUR, MINUTE, World, config, rule, seen, start};

/// Somebody silenced an alert until it is resolved, while the evaluation that was to end it was running. The end bore
/// the moment of the plan, before the silence began; so the silence had silenced nothing, stood for a year, and the
/// next occurrence was told to nobody.
#[test]
fn a_silence_made_during_the_evaluation_that_ends_its_alert_ends_with_it() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    let seen = [seen("A", "1", "#")];
    world.evaluate(&rule, seen.to_vec());
    world.minutes(1, &rule, &seen);
    world.pass(MINUTE);
    let planned = world.now();
    world.pass(Duration::from_millis(300));
    suppress(&world, "1");
    world.alerts.observe(&rule, planned, vec![]).expect("observe");
    world.alerts.commit(planned).expect("commit");
    world.minutes(10, &rule, &[]);
    assert_eq!(world.heard("mail"), ["1 +1:medium", "6 -1:medium"]);
    world.minutes(5, &rule, &seen);
    assert_eq!(world.heard("mail").len(), 3, "{:?}", world.heard("mail"));
}

/// The limit was one. A target began to fire, and before its group was due a source that inhibits it; the source was
/// beyond the limit and so not told, and the target was inhibited by it: nobody heard of either.
#[test]
fn an_alert_beyond_the_limit_inhibits_nothing_until_there_is_room() {
    let inhibit_rules = serde_json::json!([
        {"source_matchers": ["alertname=\"S\""], "target_matchers": ["alertname=\"A\""]}
    ]);
    let world = World::new(Config {
        max_active_alerts: 1,
        inhibit_rules: serde_json::from_value(inhibit_rules).expect("rules"),
        ..config()
    });
    let (target, source) = (rule("A", Duration::ZERO), rule("S", Duration::ZERO));
    let (targets, sources) = ([seen("A", "1", "#")], [seen("S", "2", "#")]);
    world.evaluate(&target, targets.to_vec());
    world.pass(Duration::from_secs(10));
    world.evaluate(&source, sources.to_vec());
    for _ in 0..5 {
        world.minutes(1, &target, &targets);
        world.evaluate(&source, sources.to_vec());
    }
    let heard = world.heard("mail");
    assert!(heard.iter().any(|told| told.contains("+1:medium")), "{heard:?}");
}

/// Somebody silenced the alert that has no label but its name; the others of that name, with more labels, fell silent
/// with it, though "exactly its labels" was promised.
#[test]
fn suppressing_an_alert_leaves_those_with_more_labels_audible() {
    let world = World::new(config());
    let rule = rule("A", Duration::ZERO);
    let mut bare = seen("A", "1", "#");
    bare.labels = Labels::from_pairs([("alertname", "A")]);
    let both = [bare, seen("A", "2", "#")];
    world.evaluate(&rule, both.to_vec());
    suppress(&world, "");
    world.minutes(10, &rule, &both);
    assert_eq!(world.heard("mail"), ["1 +2:medium"]);
}

/// A sender said that its alert ends at minute 10, later that it ends at minute 30. The second word was not written;
/// after a restart in minute 6 the alert ended with the grace of the restart, long before its time.
#[test]
fn an_end_that_its_sender_moved_survives_a_restart() {
    let mut world = World::new(config());
    let word = |minutes: u32| ReceivedAlert {
        labels: Labels::from_pairs([("alertname", "E"), ("i", "1")]),
        annotations: Labels::empty(),
        starts_at: None,
        ends_at: Some(start() + MINUTE * minutes),
        generator_url: String::new(),
    };
    for minutes in [10, 30] {
        let taken = world.alerts.receive(vec![word(minutes)]).expect("received");
        assert_eq!(taken, [Ok(())]);
    }
    world.pass(MINUTE * 6);
    world.restart();
    for _ in 7..30 {
        world.pass(MINUTE);
        world.alerts.heartbeat(world.now()).expect("turn");
        assert_eq!(world.alerts.active().len(), 1, "{}", world.now());
    }
    world.pass(MINUTE);
    world.alerts.heartbeat(world.now()).expect("turn");
    assert_eq!(world.alerts.active().len(), 0);
}

/// The clock ran nine hours ahead for one turn of the loop and was set back. The override of the eight hours between
/// was forgotten, and the wrong person was on call.
#[test]
fn an_override_survives_a_clock_that_jumps_ahead_and_back() {
    let mut config = config();
    let receiver = |name: &str| Receiver {
        name: name.to_owned(),
        channels: Vec::new(),
    };
    config.receivers.extend(["wang", "boss"].map(receiver));
    config.schedules = serde_json::from_value(serde_json::json!([{
        "name": "ops", "time_zone": "Asia/Shanghai",
        "layers": [{"participants": ["wang"], "rotation": "daily", "starts": "2020-01-01", "handover": "09:00"}]
    }]))
    .expect("schedules");
    let world = World::new(config);
    let now = world.now();
    let draft = OverrideDraft {
        schedule: "ops".to_owned(),
        receiver: "boss".to_owned(),
        starts_at: now,
        ends_at: now + HOUR * 8,
        created_by: "li".to_owned(),
        comment: "swapped".to_owned(),
    };
    world.alerts.put_override(draft).expect("arranged");
    world.clock.jump_to(now + HOUR * 9);
    world.alerts.heartbeat(world.now()).expect("turn");
    assert_eq!(world.alerts.overrides(), []);
    assert_eq!(world.alerts.on_call(world.now())[0].1, ["wang"]);
    world.clock.jump_to(now + MINUTE);
    world.alerts.heartbeat(world.now()).expect("turn");
    assert_eq!(world.alerts.on_call(world.now())[0].1, ["boss"]);
}

/// Silences until it is resolved the alert whose label `i` has this value.
fn suppress(world: &World, i: &str) {
    let active = world.alerts.active();
    let alert = active
        .iter()
        .find(|alert| alert.labels.get("i").unwrap_or_default() == i)
        .expect("it fires");
    let act = AlertAct::Suppress {
        comment: "known".to_owned(),
        until: None,
    };
    world.alerts.act(alert.id, &act, "li").expect("suppressed");
}

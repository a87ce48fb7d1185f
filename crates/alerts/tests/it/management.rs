//! Routes, silences, inhibition, mutes, storms, flapping, escalation and other programs' alerts, as people meet them. Most
//! tests are a fault of today's systems, told first.

use std::time::Duration;

use marketprism_alerts::flapping::FlappingConfig;
use marketprism_alerts::silences::SilenceDraft;
use marketprism_alerts::storm::StormConfig;
use marketprism_alerts::{AlertAct, ChannelRoute, Config, ReceiveError, ReceivedAlert, Receiver};
use marketprism_model::alert::Suppression;
use marketprism_model::{AlertState, Labels, Lifecycle, Matcher, Notification, Purpose, Timestamp};
use serde_json::{Value, json};

use crate::world::*;

fn receiver(name: &str, channels: &[&str]) -> Receiver {
    Receiver {
        name: name.to_owned(),
        channels: channels
            .iter()
            .map(|name| ChannelRoute::new(*name, true))
            .collect(),
    }
}

/// Receivers `default` (channel `mail`), `db` (`db-mail`), `boss` (`phone`) and `last` (`fax`); what is given of a
/// route stands over a root that groups by `alertname` and `i`.
fn routed(route: Value) -> Config {
    let mut root = json!({"receiver": "default", "group_by": ["alertname", "i"]});
    for (key, value) in route.as_object().expect("an object") {
        root[key] = value.clone();
    }
    Config {
        route: serde_json::from_value(root).expect("a route"),
        receivers: vec![
            receiver("default", &["mail"]),
            receiver("db", &["db-mail"]),
            receiver("boss", &["phone"]),
            receiver("last", &["fax"]),
        ],
        settle: Duration::ZERO,
        ..Config::default()
    }
}

fn silence(label: &str, value: &str, until: Timestamp) -> SilenceDraft {
    SilenceDraft {
        matchers: vec![Matcher::equal(label, value)],
        ends_at: until,
        created_by: "wang".to_owned(),
        comment: "known".to_owned(),
        ..SilenceDraft::default()
    }
}

fn sent(labels: &[(&str, &str)]) -> ReceivedAlert {
    ReceivedAlert {
        labels: Labels::from_pairs(labels.iter().copied()),
        annotations: Labels::from_pairs([("summary", "far away")]),
        starts_at: None,
        ends_at: None,
        generator_url: "http://prometheus/graph".to_owned(),
    }
}

/// An alert that resolves while it is silenced never sends its "resolved", and the pager stays open.
#[test]
fn what_was_opened_is_closed_though_it_is_silenced() {
    let world = World::new(routed(json!({})));
    let rule = rule("A", Duration::ZERO);
    let firing = [seen("A", "1", "#")];
    world.evaluate(&rule, firing.to_vec());
    world.minutes(2, &rule, &firing);
    let made = world.alerts.put_silence(silence("i", "1", start() + HOUR), true);
    let id = made.expect("a silence").silence.id;
    world.minutes(20, &rule, &firing);
    let alert = world.only_stored();
    assert_eq!(alert.suppressed_by, [Suppression::Silence(id)]);
    world.minutes(10, &rule, &[]);
    assert_eq!(world.heard("mail"), ["1 +1:medium", "26 -1:medium"]);
    assert_eq!(
        world.story(alert.id),
        [
            "0 fired medium",
            "6 suppressed: silence",
            "23 resolved: the condition cleared"
        ]
    );
}

#[test]
fn what_is_silenced_from_the_beginning_is_told_neither_as_firing_nor_as_over_but_when_the_silence_ends() {
    let world = World::new(routed(json!({})));
    world
        .alerts
        .put_silence(silence("i", "1", start() + 30 * MINUTE), true)
        .expect("a silence");
    world
        .alerts
        .put_silence(silence("i", "2", start() + 30 * MINUTE), true)
        .expect("a silence");
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#"), seen("A", "2", "#")]);
    world.minutes(10, &rule, &[seen("A", "1", "#"), seen("A", "2", "#")]);
    world.minutes(40, &rule, &[seen("A", "1", "#")]);
    assert_eq!(world.heard("mail"), ["31 +1:medium"]);
    world.minutes(10, &rule, &[]);
    assert_eq!(world.heard("mail"), ["31 +1:medium", "51 -1:medium"]);
}

/// Ends of what an inhibited alert had opened are lost, and inhibited alerts page on a restart, before their source is
/// there.
#[test]
fn inhibition_holds_over_a_restart_and_hides_no_end() {
    let config = Config {
        inhibit_rules: serde_json::from_value(json!([{
            "source_matchers": ["alertname=\"Down\""],
            "target_matchers": ["alertname=\"A\""],
            "equal": ["i"],
        }]))
        .expect("rules"),
        ..routed(json!({}))
    };
    let mut world = World::new(config);
    let (down, a) = (rule("Down", Duration::ZERO), rule("A", Duration::ZERO));
    let both = |world: &World, downs: bool, fires: &[&str]| {
        world.pass(MINUTE);
        world.observe(
            &down,
            if downs {
                vec![seen("Down", "1", "#")]
            } else {
                vec![]
            },
        );
        world.evaluate(&a, fires.iter().map(|i| seen("A", i, "#")).collect());
    };
    // 1 is told before it is inhibited, 2 has no source.
    (0..3).for_each(|_| both(&world, false, &["1"]));
    (0..3).for_each(|_| both(&world, true, &["1", "2"]));
    world.restart();
    (0..250).for_each(|_| both(&world, true, &["1", "2"]));
    (0..10).for_each(|_| both(&world, true, &["2"]));
    let told = world.heard("mail");
    let of = |i: &str| -> Vec<&String> { told.iter().filter(|line| line.contains(i)).collect() };
    // `+1` at 2 is A; the one at 5 is Down. Neither end nor beginning of A is told while it was quiet, but its end once.
    let names: Vec<(u64, String, bool)> = world
        .messages()
        .iter()
        .filter(|message| message.content.group_labels.get("i") == Some("1"))
        .map(|message| {
            let alert = &message.content.alerts[0];
            let name = alert.labels.get("alertname").unwrap_or("").to_owned();
            (minute(message), name, alert.ends_at.is_some())
        })
        .collect();
    assert_eq!(
        names,
        [
            (2, "A".to_owned(), false),
            (5, "Down".to_owned(), false),
            (245, "Down".to_owned(), false),
            (257, "A".to_owned(), true),
        ]
    );
    assert_eq!(of("+2:").len(), 2, "{told:?}");
}

fn minute(message: &Notification) -> u64 {
    message.created_at.since(start()).as_secs() / 60
}

/// Still-firing alerts are not told when a mute window ends, and what ends within it is never closed.
#[test]
fn the_end_of_a_mute_tells_what_still_fires_and_a_mute_hides_no_end() {
    // The tests' time begins on a Tuesday at 22:13:20 UTC; the mute is from 22:30 to 23:07.
    let config = Config {
        time_intervals: serde_json::from_value(json!([{
            "name": "night",
            "time_intervals": [{"times": [{"start_time": "22:30", "end_time": "23:07"}]}],
        }]))
        .expect("intervals"),
        ..routed(json!({"routes": [{"mute_time_intervals": ["night"]}]}))
    };
    let world = World::new(config);
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.minutes(19, &rule, &[seen("A", "1", "#")]);
    world.minutes(10, &rule, &[seen("A", "1", "#"), seen("A", "2", "#")]);
    world.minutes(10, &rule, &[seen("A", "2", "#"), seen("A", "3", "#")]);
    let quiet = world.alerts.active();
    assert_eq!(quiet.len(), 2);
    for alert in quiet.iter() {
        let reasons = world.alerts.suppressions(alert, world.now());
        assert_eq!(reasons, [Suppression::Mute("night".to_owned())]);
    }
    world.minutes(10, &rule, &[seen("A", "2", "#")]);
    world.minutes(10, &rule, &[seen("A", "2", "#")]);
    // The mute ends 53 min and 40 s after the start; the tick of the group would be at minute 56.
    assert_eq!(
        world.heard("mail"),
        ["1 +1:medium", "31 -1:medium", "54 +2:medium"]
    );
}

#[test]
fn an_alert_that_takes_several_routes_is_told_and_closed_on_each() {
    let routes = json!({"routes": [
        {"receiver": "db", "matchers": ["i=~\"1|2\""], "continue": true, "group_wait": "5m"},
        {"receiver": "boss", "matchers": ["i=\"1\""]},
    ]});
    let mut world = World::new(routed(routes));
    let rule = rule("A", Duration::ZERO);
    let all = ["1", "2", "3"].map(|i| seen("A", i, "#"));
    world.evaluate(&rule, all.to_vec());
    world.minutes(3, &rule, &all);
    world.restart();
    world.minutes(5, &rule, &all);
    world.minutes(10, &rule, &[]);
    assert_eq!(
        world.heard("db-mail"),
        ["5 +1:medium", "5 +2:medium", "10 -1:medium", "10 -2:medium"]
    );
    assert_eq!(world.heard("phone"), ["1 +1:medium", "11 -1:medium"]);
    assert_eq!(world.heard("mail"), ["1 +3:medium", "11 -3:medium"]);
}

#[test]
fn a_level_that_rises_takes_the_routes_of_the_new_level_as_well() {
    let routes = json!({"routes": [{"receiver": "boss", "matchers": ["severity=\"critical\""]}]});
    let mut world = World::new(routed(routes));
    let rule = leveled("L", Duration::ZERO, Duration::ZERO);
    world.evaluate(&rule, vec![seen("L", "1", ".#")]);
    world.minutes(3, &rule, &[seen("L", "1", ".#")]);
    world.minutes(3, &rule, &[seen("L", "1", "##")]);
    world.minutes(3, &rule, &[seen("L", "1", ".#")]);
    world.restart();
    world.minutes(10, &rule, &[]);
    assert_eq!(world.heard("phone"), ["4 +1:critical", "14 -1:high"]);
    assert_eq!(world.heard("mail"), ["1 +1:high", "6 +1:critical", "11 -1:high"]);
}

/// After a reload that leads alerts elsewhere, whoever was told before is never told of the end.
#[test]
fn a_reload_tells_nobody_again_and_closes_what_former_routes_opened() {
    let world = World::new(routed(json!({})));
    let rule = rule("A", Duration::ZERO);
    let firing = [seen("A", "1", "#"), seen("A", "2", "#")];
    world.evaluate(&rule, firing.to_vec());
    world.minutes(3, &rule, &firing);
    // 1 goes to others now, 2 to the same by another route.
    let routes = json!({"routes": [
        {"receiver": "db", "matchers": ["i=\"1\""]},
        {"matchers": ["i=\"2\""]},
    ]});
    world.alerts.set_config(routed(routes)).expect("settings");
    world.minutes(10, &rule, &firing);
    world.minutes(10, &rule, &[]);
    assert_eq!(
        world.heard("mail"),
        ["1 +1:medium", "1 +2:medium", "16 -1:medium", "16 -2:medium"]
    );
    assert_eq!(world.heard("db-mail"), ["6 +1:medium", "16 -1:medium"]);
}

/// A channel failure loses the message; nobody else hears.
#[test]
fn a_message_that_is_given_up_reaches_the_fallback_once_and_is_closed_there() {
    let config = Config {
        fallback_receiver: Some("last".to_owned()),
        ..routed(json!({}))
    };
    let world = World::new(config);
    let rule = rule("A", Duration::ZERO);
    let firing = [seen("A", "1", "#")];
    world.evaluate(&rule, firing.to_vec());
    world.minutes(2, &rule, &firing);
    let lost = world.messages();
    world.alerts.undelivered(&lost[0]);
    world.minutes(1, &rule, &firing);
    assert_eq!(world.heard("fax"), ["3 +1:medium"]);
    let stand_in = world.messages().pop().expect("told");
    assert_eq!(
        stand_in.content.purpose,
        Purpose::Fallback {
            receiver: "default".to_owned(),
            channel: "mail".to_owned()
        }
    );
    // The same message fails again: the fallback knows already.
    world.minutes(3, &rule, &firing);
    let again = world
        .messages()
        .into_iter()
        .rfind(|message| message.channel == "mail");
    world.alerts.undelivered(&again.expect("told again"));
    world.minutes(2, &rule, &firing);
    // And so does the fallback's own, for which nobody stands in.
    world.alerts.undelivered(&stand_in);
    world.minutes(2, &rule, &firing);
    assert_eq!(world.heard("fax"), ["3 +1:medium"]);
    world.minutes(10, &rule, &[]);
    assert_eq!(world.heard("fax"), ["3 +1:medium", "11 -1:medium"]);
}

/// What stood in for a pager once looked like any other message: its readers did not know why it came to them.
#[test]
fn what_stands_in_for_what_nobody_delivers_says_so_and_is_closed() {
    let mut config = routed(json!({"routes": [{"receiver": "boss", "matchers": ["alertname=\"P\""]}]}));
    config.receivers[2].channels[0] = ChannelRoute {
        stands_in_for: Some("pagerduty_configs[0]".to_owned()),
        ..ChannelRoute::new("mail", true)
    };
    let world = World::new(config);
    let (own, pager) = (rule("A", Duration::ZERO), rule("P", Duration::ZERO));
    for _ in 0..3 {
        world.evaluate(&own, vec![seen("A", "1", "#")]);
        world.minutes(1, &pager, &[seen("P", "1", "#")]);
    }
    let purposes: Vec<(String, Purpose)> = world
        .messages()
        .into_iter()
        .map(|message| (message.receiver, message.content.purpose))
        .collect();
    let stand_in = Purpose::Fallback {
        receiver: "boss".to_owned(),
        channel: "pagerduty_configs[0]".to_owned(),
    };
    let expected = [
        ("default".to_owned(), Purpose::Group),
        ("boss".to_owned(), stand_in),
    ];
    assert!(
        purposes.len() == 2 && expected.iter().all(|told| purposes.contains(told)),
        "{purposes:?}"
    );
    world.minutes(10, &pager, &[]);
    let last = world.messages().pop().expect("told");
    assert_eq!(
        (last.receiver.as_str(), last.content.state),
        ("boss", AlertState::Resolved)
    );
}

#[test]
fn a_message_that_is_given_up_after_its_alert_ended_reaches_the_fallback_as_one_that_is_over() {
    let config = Config {
        fallback_receiver: Some("last".to_owned()),
        ..routed(json!({}))
    };
    let world = World::new(config);
    let rule = rule("A", Duration::ZERO);
    world.evaluate(&rule, vec![seen("A", "1", "#")]);
    world.minutes(2, &rule, &[seen("A", "1", "#")]);
    world.minutes(20, &rule, &[]);
    for message in world.messages() {
        world.alerts.undelivered(&message);
    }
    world.minutes(5, &rule, &[]);
    assert_eq!(world.heard("fax"), ["23 -1:medium"]);
}

#[test]
fn in_a_storm_one_digest_speaks_for_the_rest_and_the_worst_gets_through() {
    let config = Config {
        storm: StormConfig {
            threshold: 3,
            window: MINUTE,
        },
        max_active_alerts: 1000,
        ..routed(json!({}))
    };
    let mut world = World::new(config);
    let rule = rule("A", Duration::ZERO);
    let mut storm: Vec<_> = (0..20).map(|i| seen("A", &i.to_string(), "#")).collect();
    storm.push(with_severity(seen("A", "99", "#"), "critical"));
    world.evaluate(&rule, storm.clone());
    world.minutes(3, &rule, &storm);
    let messages = world.messages();
    // Three of their own, the P1, and one for the other seventeen.
    assert_eq!(messages.len(), 5, "{:?}", world.heard("mail"));
    let digest = messages
        .iter()
        .find(|message| message.content.purpose == Purpose::Storm)
        .expect("a digest");
    assert_eq!(
        (digest.group_key.as_str(), digest.content.alerts.len()),
        ("{storm}:default", 17)
    );
    world.restart();
    world.minutes(10, &rule, &storm);
    assert_eq!(world.messages().len(), 5, "nothing is told twice");
    // It is calm: a newcomer goes its own way, and everything is closed once.
    storm.push(seen("A", "new", "#"));
    world.minutes(3, &rule, &storm);
    world.minutes(20, &rule, &[]);
    let closed: Vec<String> = world
        .heard("mail")
        .iter()
        .flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .filter(|word| word.starts_with('-'))
        .collect();
    assert_eq!(closed.len(), 22, "{closed:?}");
    assert!(world.heard("mail").contains(&"15 +new:medium".to_owned()));
}

#[test]
fn what_flaps_is_told_once_and_closed_when_it_has_stayed_away() {
    let config = Config {
        flapping: FlappingConfig {
            threshold: 3,
            window: 30 * MINUTE,
            hold: 10 * MINUTE,
        },
        ..routed(json!({"group_wait": "0s", "group_interval": "1m"}))
    };
    let mut world = World::new(config);
    let rule = rule("A", Duration::ZERO);
    for _ in 0..6 {
        world.minutes(2, &rule, &[seen("A", "1", "#")]);
        world.minutes(2, &rule, &[]);
    }
    world.restart();
    world.minutes(20, &rule, &[]);
    // Two whole turns, then it flaps: the third beginning is told, and the end ten minutes after the last, at 23.
    assert_eq!(
        world.heard("mail"),
        [
            "1 +1:medium",
            "3 -1:medium",
            "5 +1:medium",
            "7 -1:medium",
            "9 +1:medium",
            "33 -1:medium"
        ]
    );
    let last = world.stored().pop().expect("stored");
    assert_eq!(last.flaps, 6);
    assert_eq!(
        world.story(last.id),
        [
            "21 fired medium",
            "21 flapping 6",
            "23 resolved: the condition cleared",
            "33 steady"
        ]
    );
}

#[test]
fn a_silence_until_resolved_ends_with_its_alert_and_closes_it() {
    let world = World::new(routed(json!({})));
    let rule = rule("A", Duration::ZERO);
    let firing = [seen("A", "1", "#")];
    world.evaluate(&rule, firing.to_vec());
    world.minutes(2, &rule, &firing);
    let id = world.only_stored().id;
    let act = AlertAct::Suppress {
        comment: "moved".to_owned(),
        until: None,
    };
    world.alerts.act(id, &act, "li").expect("suppressed");
    world.minutes(300, &rule, &firing);
    assert_eq!(world.heard("mail"), ["1 +1:medium"]);
    world.minutes(6, &rule, &[]);
    assert_eq!(world.heard("mail"), ["1 +1:medium", "306 -1:medium"]);
    let silence = world.alerts.silences().pop().expect("kept");
    assert_eq!(silence.ends_at, start() + 303 * MINUTE);
    world.minutes(5, &rule, &firing);
    assert_eq!(world.heard("mail").len(), 3, "it is told again");
}

#[test]
fn other_programs_alerts_live_by_their_senders_words() {
    let mut world = World::new(routed(json!({})));
    let a = sent(&[("alertname", "X"), ("i", "1"), ("severity", "critical")]);
    let mut ended = a.clone();
    let mut bad = a.clone();
    bad.labels = Labels::empty();
    ended.labels = Labels::from_pairs([("alertname", "X"), ("i", "2")]);
    ended.ends_at = Some(world.now() - MINUTE);
    ended.starts_at = Some(world.now() - HOUR);
    let answers = world.alerts.receive(vec![bad, a.clone(), ended]).expect("stored");
    assert_eq!(answers, [Err(ReceiveError::NoLabel), Ok(()), Ok(())]);
    // What was over before it came is nothing.
    let alert = world.only_stored();
    assert_eq!(
        alert.external.as_ref().expect("external").ends_at,
        start() + 5 * MINUTE
    );
    world.alerts.retain_rules(&[], world.now()).expect("kept");
    let pass = |world: &World| {
        world.pass(MINUTE);
        world.alerts.heartbeat(world.now()).expect("flush");
    };
    for _ in 0..8 {
        pass(&world);
        world.alerts.receive(vec![a.clone()]).expect("again");
    }
    assert_eq!(world.heard("mail"), ["1 +1:critical"]);
    let told = &world.messages()[0].content.alerts[0];
    assert_eq!(told.generator_url.as_deref(), Some("http://prometheus/graph"));
    // A restart gives its sender a whole timeout to speak again, though the record says less.
    world.restart();
    for _ in 0..4 {
        pass(&world);
    }
    assert_eq!(world.alerts.active().len(), 1);
    for _ in 0..10 {
        pass(&world);
    }
    assert_eq!(world.heard("mail"), ["1 +1:critical", "16 -1:critical"]);
    assert_eq!(
        world.story(alert.id),
        [
            "0 fired critical",
            "13 resolved: its sender no longer speaks of it"
        ]
    );
    // An end that was given beats a later timeout, and an earlier start counts.
    let mut long = a.clone();
    long.ends_at = Some(world.now() + HOUR);
    world.alerts.receive(vec![long]).expect("stored");
    let mut early = a.clone();
    early.starts_at = Some(world.now() - 2 * HOUR);
    world.alerts.receive(vec![early]).expect("stored");
    for _ in 0..30 {
        pass(&world);
    }
    let alert = world.alerts.active()[0].clone();
    assert_eq!(alert.fired_at, Some(start() + 22 * MINUTE - 2 * HOUR));
    let mut over = a;
    over.ends_at = Some(world.now());
    world.alerts.receive(vec![over]).expect("stored");
    assert!(world.alerts.active().is_empty());
    assert_eq!(
        world.story(alert.id).last().map(String::as_str),
        Some("52 resolved: its sender says that it is over")
    );
}

#[test]
fn nobody_answers_so_others_are_told_and_closed() {
    let config = Config {
        escalation_policies: serde_json::from_value(json!([{
            "name": "night",
            "steps": [{"after": "10m", "notify": ["boss"]}, {"after": "20m", "notify": ["last", "default"]}],
        }]))
        .expect("policies"),
        ..routed(json!({"escalation": "night", "repeat_interval": "30d"}))
    };
    let mut world = World::new(config);
    let rule = rule("A", Duration::ZERO);
    let firing = [seen("A", "1", "#")];
    world.evaluate(&rule, firing.to_vec());
    world.minutes(12, &rule, &firing);
    assert_eq!(world.heard("phone"), ["11 +1:medium"]);
    world.restart();
    world.minutes(20, &rule, &firing);
    assert_eq!(world.heard("fax"), ["21 +1:medium"]);
    assert_eq!(world.heard("mail"), ["1 +1:medium", "21 +1:medium"]);
    let id = world.only_stored().id;
    assert_eq!(
        world.story(id),
        [
            "0 fired medium",
            "11 escalated 1: boss",
            "21 escalated 2: last default"
        ]
    );
    world.minutes(10, &rule, &[]);
    for channel in ["phone", "fax", "mail"] {
        let closed: Vec<_> = world
            .heard(channel)
            .into_iter()
            .filter(|line| line.contains('-'))
            .collect();
        assert_eq!(closed, ["36 -1:medium"], "{channel}");
    }
}

#[test]
fn whoever_takes_it_in_hand_stops_the_escalation() {
    let config = Config {
        escalation_policies: serde_json::from_value(json!([{
            "name": "night", "steps": [{"after": "10m", "notify": ["boss"]}],
        }]))
        .expect("policies"),
        ..routed(json!({"escalation": "night"}))
    };
    let world = World::new(config);
    let rule = rule("A", Duration::ZERO);
    let firing = [seen("A", "1", "#")];
    world.evaluate(&rule, firing.to_vec());
    world.minutes(5, &rule, &firing);
    let id = world.only_stored().id;
    world.alerts.acknowledge(id, "wang", "", None).expect("taken");
    world.minutes(60, &rule, &firing);
    assert!(world.heard("phone").is_empty());
}

/// Nobody can say why an alert was told, or was not.
#[test]
fn why_an_alert_was_or_was_not_told_is_answered() {
    let routes = json!({"routes": [
        {"receiver": "db", "matchers": ["i=\"2\""]},
        {"receiver": "boss", "matchers": ["i=\"1\""]},
        {"receiver": "last"},
    ]});
    let world = World::new(routed(routes));
    let rule = rule("A", Duration::ZERO);
    let firing = [seen("A", "1", "#")];
    world.evaluate(&rule, firing.to_vec());
    let id = world.only_stored().id;
    let explain = |world: &World| {
        let found = world.alerts.explain(id, world.now()).expect("read");
        found.expect("known")
    };
    let waiting = explain(&world);
    assert!(waiting.groups[0].is_waiting && waiting.groups[0].channels[0].told.is_none());
    assert_eq!(waiting.groups[0].due_at, start() + Duration::from_secs(30));
    world.minutes(2, &rule, &firing);
    let made = world.alerts.put_silence(silence("i", "1", start() + HOUR), true);
    let silence = made.expect("a silence").silence;
    let told = explain(&world);
    let places: Vec<(&str, bool)> = told
        .walk
        .iter()
        .map(|visit| {
            (
                visit.place.as_str(),
                visit.verdicts.iter().all(|verdict| verdict.is_match),
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            ("route", true),
            ("route.routes[0]", false),
            ("route.routes[1]", true)
        ]
    );
    assert_eq!(told.suppressions, [Suppression::Silence(silence.id)]);
    assert_eq!(*told.silences[0], silence);
    let group = &told.groups[0];
    assert_eq!(
        (group.receiver.as_str(), group.place.as_deref()),
        ("boss", Some("route.routes[1]"))
    );
    assert_eq!(group.channels[0].told_at, Some(start() + MINUTE));
    world.minutes(20, &rule, &[]);
    let over = explain(&world);
    assert!(over.groups.is_empty() && over.walk.len() == 3);
    assert!(
        world
            .alerts
            .explain(marketprism_model::Id::from_u128(1), world.now())
            .expect("read")
            .is_none()
    );
}

#[test]
fn acts_of_people_are_told_in_the_story_with_their_author_and_survive_a_restart() {
    let mut world = World::new(routed(json!({})));
    let rule = rule("A", Duration::ZERO);
    let both = [seen("A", "1", "#"), seen("A", "2", "#")];
    world.evaluate(&rule, both.to_vec());
    let ids: Vec<_> = world.stored().iter().map(|alert| alert.id).collect();
    let assign = AlertAct::Assign {
        to: Some("li".to_owned()),
        note: "their service".to_owned(),
    };
    let mut asked = ids.clone();
    asked.push(marketprism_model::Id::from_u128(7));
    let answers = world.alerts.act_on(&asked, &assign, "wang").expect("written");
    assert!(answers[0].1.is_ok() && answers[1].1.is_ok() && answers[2].1.is_err());
    world.restart();
    let alert = world.alerts.active()[0].clone();
    assert_eq!(alert.assigned.as_ref().expect("assigned").to, "li");
    world.minutes(1, &rule, &[]);
    let note = AlertAct::Note {
        note: "a cable".to_owned(),
    };
    world.alerts.act(alert.id, &note, "li").expect("noted");
    assert_eq!(
        world.story(alert.id),
        [
            "0 fired medium",
            "0 assigned to li by wang",
            "0 noted: their service by wang",
            "1 resolved: the condition cleared",
            "1 noted: a cable by li"
        ]
    );
    let empty = AlertAct::Note { note: " ".to_owned() };
    assert!(world.alerts.act(alert.id, &empty, "li").is_err());
}

//! Days of random verdicts under routes, silences, inhibition, mutes, storms, flapping, escalation, other programs' alerts,
//! messages that are given up, restarts and a store that refuses. Checked from the messages alone: whatever was opened is
//! closed exactly once, nothing is told twice but as a repeat, and nothing that was silent is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use marketprism_alerts::flapping::FlappingConfig;
use marketprism_alerts::silences::SilenceDraft;
use marketprism_alerts::storm::StormConfig;
use marketprism_alerts::{AlertAct, ChannelRoute, Config, ReceivedAlert, Receiver};
use marketprism_model::alert::Suppression;
use marketprism_model::{
    AlertState, Chance, Labels, Level, Lifecycle, Matcher, Notification, Purpose, Timestamp,
};
use marketprism_testkit::SeededChance;
use serde_json::json;

use crate::world::*;

/// Long enough after the last verdict for every end to be told, held back or not.
const CALM: u32 = 4 * 60;
const NAMES: [&str; 3] = ["A", "B", "Down"];

struct Dice(SeededChance);

impl Dice {
    fn below(&self, n: u64) -> u64 {
        self.0.next_u64() % n
    }
    fn once_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn config(seed: u64) -> Config {
    let receiver = |name: &str, channel: &str| Receiver {
        name: name.to_owned(),
        channels: vec![ChannelRoute::new(channel, true)],
    };
    Config {
        route: serde_json::from_value(json!({
            "receiver": "default", "group_by": ["alertname"], "escalation": "night",
            "routes": [
                {"receiver": "db", "matchers": ["i=~\"0|1\""], "continue": true, "group_by": ["i"]},
                {"receiver": "default", "matchers": ["alertname=\"B\""], "mute_time_intervals": ["odd"],
                 "group_by": ["..."], "group_interval": "2m"},
                {"receiver": "boss", "matchers": ["severity=\"critical\""], "group_wait": "0s"},
            ],
        }))
        .expect("a route"),
        receivers: vec![
            receiver("default", "mail"),
            receiver("db", "db-mail"),
            receiver("boss", "phone"),
            receiver("last", "fax"),
            receiver("night", "siren"),
        ],
        time_intervals: serde_json::from_value(json!([{"name": "odd", "time_intervals": [{"times": [
            {"start_time": "01:00", "end_time": "02:30"}, {"start_time": "13:10", "end_time": "15:20"}]}]}]))
        .expect("intervals"),
        inhibit_rules: serde_json::from_value(json!([{
            "source_matchers": ["alertname=\"Down\""], "target_matchers": ["alertname=\"A\""], "equal": ["i"]}]))
        .expect("rules"),
        escalation_policies: serde_json::from_value(json!([{"name": "night",
            "steps": [{"after": "20m", "notify": ["night"]}], "repeat": {"every": "30m", "times": 2}}]))
        .expect("policies"),
        fallback_receiver: Some("last".to_owned()),
        storm: StormConfig {
            threshold: if seed.is_multiple_of(2) { 1 } else { 0 },
            window: 5 * MINUTE,
        },
        flapping: FlappingConfig {
            threshold: if seed.is_multiple_of(3) { 3 } else { 0 },
            ..FlappingConfig::default()
        },
        incidents: Default::default(),
        max_active_alerts: if seed.is_multiple_of(5) { 6 } else { 1000 },
        settle: Duration::ZERO,
        ..Config::default()
    }
}

fn people(world: &World, dice: &Dice) {
    let active = world.alerts.active();
    if active.is_empty() {
        return;
    }
    let alert = &active[dice.below(active.len() as u64) as usize];
    let note = String::new();
    let until = world.now() + MINUTE * (1 + dice.below(90)) as u32;
    let act = match dice.below(5) {
        0 => AlertAct::Acknowledge { note, until: None },
        1 => AlertAct::Acknowledge {
            note,
            until: Some(until),
        },
        2 => AlertAct::Resolve { note },
        3 => AlertAct::Suppress {
            comment: "known".to_owned(),
            until: dice.once_in(2).then_some(until),
        },
        _ => AlertAct::Unacknowledge,
    };
    // Pending ones refuse, and so may the store.
    let _ = world.alerts.act(alert.id, &act, "wang");
    if dice.once_in(3) {
        let draft = SilenceDraft {
            matchers: vec![Matcher::equal("i", &dice.below(4).to_string())],
            ends_at: until,
            created_by: "li".to_owned(),
            comment: "works".to_owned(),
            ..SilenceDraft::default()
        };
        let _ = world.alerts.put_silence(draft, true);
    }
}

/// What was to be silent at each moment, by fingerprint.
type Silent = BTreeMap<Timestamp, BTreeSet<String>>;
/// Channels and groups of which a message was given up, so that the same may be told again before repeats are due.
type Lost = BTreeSet<(String, String)>;

fn simulate(seed: u64, minutes: u32) -> (World, Silent, Lost) {
    let mut world = World::new(config(seed));
    let dice = Dice(SeededChance::new(seed));
    let rules = [
        rule("A", Duration::ZERO),
        rule("B", MINUTE),
        leveled("Down", 3 * MINUTE, Duration::ZERO),
    ];
    let mut marks: BTreeMap<(usize, u64), &str> = BTreeMap::new();
    let (mut silent, mut lost) = (Silent::new(), Lost::new());
    for minute in 0..minutes + CALM {
        let is_calm = minute >= minutes;
        for (at, rule) in rules.iter().enumerate() {
            for i in 0..4 {
                if dice.once_in(4 + i * i * 12) {
                    let choices: &[&str] = if at == 2 {
                        &["", "", ".#", "##"]
                    } else {
                        &["", "#"]
                    };
                    marks.insert((at, i), choices[dice.below(choices.len() as u64) as usize]);
                }
            }
            let seen = (0..4)
                .filter(|_| !is_calm)
                .filter_map(|i| {
                    let marks = marks.get(&(at, i)).copied().unwrap_or("");
                    (!marks.is_empty()).then(|| seen(NAMES[at], &i.to_string(), marks))
                })
                .collect();
            world.observe(rule, seen);
            let _ = world.alerts.commit(world.now());
        }
        if !is_calm && dice.once_in(6) {
            let i = (10 + dice.below(4)).to_string();
            let severity = ["critical", "low"][dice.below(2) as usize];
            let _ = world.alerts.receive(vec![ReceivedAlert {
                labels: Labels::from_pairs([("alertname", "Far"), ("i", &i), ("severity", severity)]),
                annotations: Labels::empty(),
                starts_at: None,
                ends_at: dice.once_in(4).then_some(world.now()),
                generator_url: String::new(),
            }]);
        }
        if !is_calm && dice.once_in(40) {
            world.store.refuse.store(dice.below(6) as u32, Ordering::SeqCst);
        }
        if !is_calm && dice.once_in(10) {
            people(&world, &dice);
        }
        if !is_calm && dice.once_in(30) {
            let messages = world.messages();
            if let Some(message) = messages.get(messages.len().saturating_sub(1 + dice.below(5) as usize)) {
                world.alerts.undelivered(message);
                lost.insert((message.channel.clone(), message.group_key.clone()));
            }
        }
        let quiet = world
            .alerts
            .active()
            .iter()
            .filter(|alert| {
                let reasons = world.alerts.suppressions(alert, world.now());
                reasons
                    .iter()
                    .any(|by| matches!(by, Suppression::Silence(_) | Suppression::Inhibition(_)))
            })
            .map(|alert| format!("{:016x}", alert.fingerprint()))
            .collect();
        silent.insert(world.now(), quiet);
        let _ = world.alerts.heartbeat(world.now());
        if !is_calm && dice.once_in(150) {
            world.store.refuse.store(0, Ordering::SeqCst);
            world.restart();
        }
        world.pass(MINUTE);
    }
    (world, silent, lost)
}

/// What one channel believes of one group: open alerts with their level, and when it was told last.
#[derive(Default)]
struct Ear {
    open: BTreeMap<String, Level>,
    told_at: Option<Timestamp>,
}

fn hear(ears: &mut BTreeMap<(String, String), Ear>, message: &Notification, silent: &Silent, has_lost: bool) {
    let ear = ears
        .entry((message.channel.clone(), message.group_key.clone()))
        .or_default();
    let is_fallback = matches!(message.content.purpose, Purpose::Fallback { .. });
    let is_step = matches!(message.content.purpose, Purpose::Escalation { .. });
    let mut has_news = false;
    for alert in &message.content.alerts {
        if alert.state == AlertState::Firing {
            let quiet = silent.get(&message.created_at);
            assert!(
                is_fallback || quiet.is_none_or(|quiet| !quiet.contains(&alert.fingerprint)),
                "told though it was silent: {message:?}"
            );
            let known = ear.open.insert(alert.fingerprint.clone(), alert.level);
            has_news |= known.is_none_or(|known| known < alert.level);
        } else {
            let was_open = ear.open.remove(&alert.fingerprint).is_some();
            assert!(was_open || is_fallback, "closed what was not open: {message:?}");
            has_news = true;
        }
    }
    if !has_news && !is_fallback && !is_step && !has_lost {
        let since = message.created_at.since(ear.told_at.expect("the first is news"));
        assert!(
            since + Duration::from_secs(1) >= 4 * HOUR,
            "told again after {since:?}: {message:?}"
        );
    }
    ear.told_at = Some(message.created_at);
}

fn check(seed: u64, minutes: u32) -> (usize, BTreeSet<&'static str>) {
    let (world, silent, lost) = simulate(seed, minutes);
    let messages = world.messages();
    let mut ears = BTreeMap::new();
    let mut purposes = BTreeSet::new();
    for message in &messages {
        purposes.insert(match message.content.purpose {
            Purpose::Group => "group",
            Purpose::Storm => "storm",
            Purpose::Escalation { .. } => "escalation",
            Purpose::Fallback { .. } => "fallback",
        });
        let has_lost = lost.contains(&(message.channel.clone(), message.group_key.clone()));
        hear(&mut ears, message, &silent, has_lost);
    }
    for (whom, ear) in ears {
        assert!(
            ear.open.is_empty(),
            "seed {seed}: {whom:?} still believes in {:?}",
            ear.open
        );
    }
    let stored = world.stored();
    for alert in &stored {
        assert_eq!(alert.state, AlertState::Resolved, "seed {seed}: {alert:?}");
    }
    (messages.len(), purposes)
}

#[test]
fn days_of_everything_at_once_leave_nothing_open_and_tell_nothing_that_is_silent() {
    let mut purposes = BTreeSet::new();
    for seed in 0..6 {
        let (messages, found) = check(seed, 24 * 60);
        assert!(
            messages > 200,
            "seed {seed} is too quiet to prove anything: {messages}"
        );
        purposes.extend(found);
    }
    assert_eq!(purposes.len(), 4, "only {purposes:?} were seen");
}

#[test]
#[ignore = "many seeds, minutes"]
fn many_days_of_everything_at_once() {
    for seed in 100..200 {
        check(seed, 24 * 60);
    }
}

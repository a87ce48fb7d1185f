//! A week of random verdicts, restarts, store failures and people, checked by invariants over what is left.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use marketprism_alerts::{Config, LIMIT_ALERT};
use marketprism_model::{
    Alert, AlertEventKind, AlertState, AlertStore, Chance, Id, Level, Lifecycle, Notification, Observation,
    RuleContext, Timestamp,
};
use marketprism_testkit::SeededChance;

use crate::world::*;

const WEEK: u32 = 7 * 24 * 60;
/// Long enough after the last verdict for every end to be told.
const CALM: u32 = 3 * 60;

struct Dice(SeededChance);

impl Dice {
    fn below(&self, n: u64) -> u64 {
        self.0.next_u64() % n
    }
    /// True once in `n` times.
    fn once_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn rules() -> Vec<RuleContext> {
    let mut kept = rule("kept", 2 * MINUTE);
    kept.conditions[0].keep_firing_for = 10 * MINUTE;
    vec![
        rule("quick", Duration::ZERO),
        rule("slow", 15 * MINUTE),
        kept,
        leveled("levels", 5 * MINUTE, MINUTE),
        leveled("twin", Duration::ZERO, Duration::ZERO),
        leveled("twin2", Duration::ZERO, 3 * MINUTE),
    ]
}

/// How each (rule, instance) stands; it changes from time to time, so that there are runs and flaps.
struct Streams {
    marks: BTreeMap<(usize, u64), &'static str>,
    instances: u64,
}

impl Streams {
    fn step(&mut self, dice: &Dice, rules: &[RuleContext]) {
        for (rule, context) in rules.iter().enumerate() {
            for i in 0..self.instances {
                // Every instance has its own temper: some flap, some stand for hours.
                if !dice.once_in(3 + (i * i * 20)) {
                    continue;
                }
                let choices: &[&str] = if context.conditions.len() == 1 {
                    &["", "", "#"]
                } else {
                    &["", "..", ".#", "##", "~#", ".~"]
                };
                self.marks
                    .insert((rule, i), choices[dice.below(choices.len() as u64) as usize]);
            }
        }
    }

    fn seen(&self, rule: usize, rules: &[RuleContext]) -> Vec<Observation> {
        // The two twins hold the same alerts.
        let name = rules[rule].name.trim_end_matches('2');
        (0..self.instances)
            .filter_map(|i| {
                let marks = self.marks.get(&(rule, i)).copied().unwrap_or("");
                (!marks.is_empty()).then(|| seen(name, &i.to_string(), marks))
            })
            .collect()
    }
}

fn simulate(seed: u64, minutes: u32, max_active_alerts: usize) -> World {
    let mut world = World::new(Config {
        max_active_alerts,
        ..config()
    });
    let (dice, rules) = (Dice(SeededChance::new(seed)), rules());
    let mut streams = Streams {
        marks: BTreeMap::new(),
        instances: 4,
    };
    for minute in 0..minutes + CALM {
        let is_calm = minute >= minutes;
        streams.step(&dice, &rules);
        for (rule, context) in rules.iter().enumerate() {
            // Now and then an evaluation fails, and nothing is reported.
            if !is_calm && dice.once_in(50) {
                continue;
            }
            let observations = if is_calm {
                vec![]
            } else {
                streams.seen(rule, &rules)
            };
            world.observe(context, observations);
            let _ = world.alerts.commit(world.now());
        }
        if !is_calm {
            disturb(&world, &dice);
        }
        let _ = world.alerts.heartbeat(world.now());
        if !is_calm && dice.once_in(200) {
            // A crash: what was not committed is lost; sometimes time is lost as well.
            if dice.once_in(4) {
                world.pass(Duration::from_secs(60 * dice.below(90)));
            }
            world.store.refuse.store(0, Ordering::SeqCst);
            world.restart();
        }
        world.pass(MINUTE);
    }
    world
}

fn disturb(world: &World, dice: &Dice) {
    if dice.once_in(40) {
        world.store.refuse.store(dice.below(12) as u32, Ordering::SeqCst);
    }
    if dice.once_in(40) {
        world.store.refuse_after_writing.store(1, Ordering::SeqCst);
    }
    if dice.once_in(30) {
        let active = world.alerts.active();
        if active.is_empty() {
            return;
        }
        let id = active[dice.below(active.len() as u64) as usize].id;
        // Pending ones refuse, and so may the store; both are part of life.
        let _ = match dice.below(3) {
            0 => world.alerts.acknowledge(id, "wang", "", None),
            1 => world
                .alerts
                .acknowledge(id, "li", "", Some(world.now() + 30 * MINUTE)),
            _ => world.alerts.resolve(id, "wang", ""),
        };
    }
}

/// What one channel believes to be firing, from its messages alone.
#[derive(Default)]
struct Listener {
    /// By fingerprint: since when it is believed, and the level last heard.
    open: HashMap<String, Level>,
    /// When what was opened and closed: (fingerprint, opened, closed).
    spans: Vec<(String, Timestamp, Option<Timestamp>)>,
    /// By group: when it was last told, and what.
    last: HashMap<String, (Timestamp, BTreeSet<(String, Level)>)>,
}

impl Listener {
    fn hear(&mut self, message: &Notification, sends_resolved: bool) {
        let firing: BTreeSet<(String, Level)> = message
            .content
            .alerts
            .iter()
            .filter(|alert| alert.state == AlertState::Firing)
            .map(|alert| (alert.fingerprint.clone(), alert.level))
            .collect();
        let mut has_news = false;
        for (fingerprint, level) in &firing {
            match self.open.insert(fingerprint.clone(), *level) {
                None => {
                    has_news = true;
                    self.spans.push((fingerprint.clone(), message.created_at, None));
                }
                Some(before) => has_news |= *level > before,
            }
        }
        for alert in message
            .content
            .alerts
            .iter()
            .filter(|alert| alert.state == AlertState::Resolved)
        {
            assert!(sends_resolved, "{} hears no ends", message.channel);
            assert!(
                self.open.remove(&alert.fingerprint).is_some(),
                "{} was told of an end that it heard no beginning of, or twice",
                message.channel
            );
            has_news = true;
            let span = self
                .spans
                .iter_mut()
                .rfind(|(known, ..)| *known == alert.fingerprint)
                .expect("opened");
            span.2 = Some(message.created_at);
        }
        let last = self
            .last
            .insert(message.group_key.clone(), (message.created_at, firing));
        if !has_news && sends_resolved {
            // The same again: only as a repeat.
            let (at, _) = last.expect("the first message of a group is news");
            let since = message.created_at.since(at) + Duration::from_secs(1);
            assert!(since >= 4 * HOUR, "told again after {since:?}: {message:?}");
        }
    }
}

fn check(world: &World) -> (usize, usize) {
    let (all, messages) = (world.stored(), world.messages());
    let stories: HashMap<Id, Vec<_>> = all
        .iter()
        .map(|alert| (alert.id, world.store.events(alert.id).expect("events")))
        .collect();
    for alert in &all {
        check_story(alert, &stories[&alert.id]);
    }
    check_overlap(&all);

    let mut listeners = [("mail", true), ("pager", false)].map(|(channel, sends_resolved)| {
        let mut listener = Listener::default();
        for message in messages.iter().filter(|message| message.channel == channel) {
            listener.hear(message, sends_resolved);
        }
        listener
    });
    let mail = &mut listeners[0];
    assert!(mail.open.is_empty(), "never closed: {:?}", mail.open);
    let told: BTreeSet<Id> = messages
        .iter()
        .flat_map(|message| message.content.alerts.iter().map(|alert| alert.id))
        .collect();
    let mut missed = 0;
    for alert in &all {
        let is_suppressed = stories[&alert.id]
            .iter()
            .any(|event| matches!(event.kind, AlertEventKind::Suppressed { .. }));
        let (Some(from), Some(to)) = (alert.fired_at, alert.resolved_at) else {
            continue;
        };
        // It had a flush in its life when it lived longer than a group's interval and any trouble.
        let lived = to.since(from);
        if is_suppressed || told.contains(&alert.id) || lived < 8 * MINUTE {
            continue;
        }
        let fingerprint = format!("{:016x}", alert.fingerprint());
        let is_covered = mail.spans.iter().any(|(known, opened, closed)| {
            *known == fingerprint
                && *opened <= from + 8 * MINUTE
                && closed.is_none_or(|closed| closed >= from)
        });
        // While the store refuses or the process is down nothing can be told; that is bounded by the dice.
        missed += usize::from(!is_covered);
        assert!(is_covered || lived < 110 * MINUTE, "never told: {alert:?}");
    }
    assert!(
        missed * 50 <= all.len(),
        "{missed} of {} were not told",
        all.len()
    );
    (all.len(), messages.len())
}

fn check_story(alert: &Alert, story: &[marketprism_model::AlertEvent]) {
    let lines: Vec<String> = story.iter().map(event_in_short).collect();
    let count =
        |matches: fn(&AlertEventKind) -> bool| story.iter().filter(|event| matches(&event.kind)).count();
    assert_eq!(
        alert.state,
        AlertState::Resolved,
        "{} never ended: {lines:?}",
        alert.labels
    );
    assert_eq!(
        count(|kind| matches!(kind, AlertEventKind::Fired { .. })),
        1,
        "{lines:?}"
    );
    assert_eq!(
        count(|kind| matches!(kind, AlertEventKind::Resolved { .. })),
        1,
        "{lines:?}"
    );
    assert!(
        count(|kind| matches!(kind, AlertEventKind::Pending)) <= 1,
        "{lines:?}"
    );
    assert!(
        matches!(
            story.last().expect("a story").kind,
            AlertEventKind::Resolved { .. }
        ),
        "{lines:?}"
    );
    assert!(story.is_sorted_by_key(|event| event.at), "{lines:?}");
    assert!(
        alert.resolved_at >= alert.fired_at && alert.fired_at >= Some(alert.active_at),
        "{alert:?}"
    );
    // The level at the end is what the story tells.
    let mut level = None;
    for event in story {
        match &event.kind {
            AlertEventKind::Fired { level: fired, .. } => level = Some(*fired),
            AlertEventKind::LevelChanged { from, to } => {
                assert_eq!(level, Some(*from), "{lines:?}");
                level = Some(*to);
            }
            _ => {}
        }
    }
    assert_eq!(level, Some(alert.level), "{lines:?}");
}

/// Alerts of the same labels follow each other, and never stand at once.
fn check_overlap(all: &[Alert]) {
    let mut by_fingerprint: BTreeMap<u64, Vec<&Alert>> = BTreeMap::new();
    for alert in all {
        by_fingerprint.entry(alert.fingerprint()).or_default().push(alert);
    }
    for mut alerts in by_fingerprint.into_values() {
        alerts.sort_by_key(|alert| (alert.fired_at, alert.resolved_at));
        for pair in alerts.windows(2) {
            assert!(
                pair[1].fired_at >= pair[0].resolved_at,
                "{:?} and {:?}",
                pair[0],
                pair[1]
            );
        }
    }
}

#[test]
fn a_week_of_trouble_forgets_nothing_and_doubles_nothing() {
    let world = simulate(1, WEEK, 1000);
    let (alerts, messages) = check(&world);
    assert!(
        alerts > 1000 && messages > 500,
        "too quiet to prove anything: {alerts} alerts, {messages} messages"
    );
}

#[test]
fn days_with_a_tight_limit_forget_nothing_and_double_nothing() {
    for seed in 2..5 {
        let world = simulate(seed, WEEK / 7, 5);
        check(&world);
        assert!(
            world.stored().iter().any(|alert| alert.name() == LIMIT_ALERT),
            "the limit was never reached"
        );
    }
}

#[test]
#[ignore = "many seeds, minutes"]
fn many_weeks_of_trouble() {
    for seed in 100..130 {
        check(&simulate(seed, WEEK, if seed % 3 == 0 { 6 } else { 1000 }));
    }
}

#[test]
fn the_same_seed_gives_the_same_week() {
    let run = || {
        let world = simulate(9, 600, 1000);
        (world.heard("mail"), world.stored())
    };
    assert_eq!(run(), run());
}

//! One life of a few hours: conditions that come and go, people, faults, and the process that must bear them.
//!
//! A step is fifteen seconds. What is true is kept here; what is told is judged by the [`Oracle`] after each step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use marketprism_alerts::silences::SilenceDraft;
use marketprism_alerts::{Alerts, ReceivedAlert};
use marketprism_model::{
    AlertState, AlertStore, Clock, Condition, Id, Labels, Lifecycle, Matcher, Observation, RuleContext,
    RuleId, Timestamp, Verdict,
};
use marketprism_testkit::{ManualClock, SeededChance};
use prometheus_client::registry::Registry;

use super::fragile::{Death, Fragile, Mood};
use super::oracle::{Oracle, Step};
use super::plan::{CHANNELS, Dice, Identity, MINUTE, NAMES, Plan, RESOLVE_TIMEOUT, SETTLE, identities};
use super::postman::Postman;

pub const STEP: Duration = Duration::from_secs(15);
/// Steps with faults, and steps at the end in which everything calms down.
const TROUBLED: u32 = 4 * 60 * 2;
const CALM: u32 = 45 * 4;
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A silence as its author knows it.
pub struct Quiet {
    pub comment: String,
    id: Option<Id>,
    pairs: Vec<(String, String)>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    /// It ends with this identity, after it has silenced it.
    until_resolved: Option<usize>,
    has_hit: bool,
    /// Whether the store has not confirmed it as it stands.
    is_unwritten: bool,
    /// Whether nobody can say from outside if it holds.
    is_unsure: bool,
    /// Whether it was over once: then the clock was set back, and it need not hold again.
    was_over: bool,
}

/// What the world knows of one identity.
#[derive(Clone, Default)]
pub struct Truth {
    /// Whether the condition is true.
    pub holds: bool,
    /// What the last evaluation told the process.
    pub seen: bool,
    /// When its sender spoke of it last.
    spoken_at: Option<Duration>,
    /// Acknowledged, and until when.
    pub acknowledged: Option<Option<Timestamp>>,
}

pub struct Life {
    pub dice: Dice,
    pub clock: ManualClock,
    pub store: Arc<Fragile>,
    chance: Arc<SeededChance>,
    pub alerts: Option<Arc<Alerts>>,
    up_at: Duration,
    heartbeat_due: Timestamp,
    pub identities: Vec<Identity>,
    pub truth: Vec<Truth>,
    plans: Vec<Plan>,
    plan: usize,
    silences: Vec<Quiet>,
    restarted_at: Duration,
    jumped_at: Option<Duration>,
    pub postman: Postman,
    pub oracle: Oracle,
    rules: Vec<RuleContext>,
    stormy_until: Duration,
    refuses_until: Duration,
}

fn rules() -> Vec<RuleContext> {
    let names = NAMES[..NAMES.len() - 1].iter();
    names
        .map(|name| RuleContext {
            id: RuleId::new(name, &Labels::empty(), 0),
            name: Arc::from(*name),
            group: Arc::from("group"),
            file: Arc::from("rules.yaml"),
            expr: Arc::from("up == 0"),
            conditions: vec![Condition {
                level: None,
                hold_for: Duration::ZERO,
                keep_firing_for: Duration::ZERO,
                unknown_max: None,
            }],
            interval: STEP,
        })
        .collect()
}

impl Life {
    pub fn new(seed: u64) -> Life {
        let dice = Dice::new(seed);
        // 2026-08-01T00:00:00Z
        let clock = ManualClock::new(Timestamp::from_millis(1_785_542_400_000));
        let identities = identities(&dice);
        let first = Plan::drawn(&dice, &identities, None);
        let second = Plan::drawn(&dice, &identities, Some(&first));
        let oracle = Oracle::new(identities.len(), first.longest().max(second.longest()));
        let mut life = Life {
            store: Arc::new(Fragile::new()),
            chance: Arc::new(SeededChance::new(seed)),
            alerts: None,
            up_at: Duration::ZERO,
            heartbeat_due: clock.now(),
            truth: vec![Truth::default(); identities.len()],
            plans: vec![first, second],
            plan: 0,
            silences: Vec::new(),
            restarted_at: Duration::ZERO,
            jumped_at: None,
            postman: Postman::default(),
            rules: rules(),
            stormy_until: Duration::ZERO,
            refuses_until: Duration::ZERO,
            dice,
            clock,
            identities,
            oracle,
        };
        life.start();
        life
    }

    /// Lives to the end, or to the first fault that the oracle finds.
    pub fn live(&mut self) {
        for step in 0..TROUBLED + CALM {
            let is_calm = step >= TROUBLED;
            self.step(is_calm);
            if self.oracle.fault.is_some() {
                return;
            }
        }
        self.oracle.end();
    }

    fn step(&mut self, is_calm: bool) {
        self.clock.advance(STEP);
        self.change_conditions(is_calm);
        self.disturb(is_calm);
        if self.alerts.is_none() && self.clock.monotonic() >= self.up_at {
            self.start();
        }
        if !is_calm {
            self.act();
        }
        self.run();
        self.judge();
    }

    fn tell(&mut self, identity: Option<usize>, text: impl Into<String>) {
        self.oracle.note(self.clock.monotonic(), identity, text.into());
    }

    fn judge(&mut self) {
        let (now, wall) = (self.clock.monotonic(), self.clock.now());
        if self.store.refusals.swap(0, Ordering::Relaxed) > 0 || self.alerts.is_none() {
            self.oracle.trouble(now);
        }
        self.truth.iter_mut().for_each(|truth| {
            let is_over = truth.acknowledged.flatten().is_some_and(|until| until <= wall);
            if is_over && self.alerts.is_some() {
                truth.acknowledged = None;
            }
        });
        let silenced: Vec<Option<bool>> = (0..self.identities.len())
            .map(|at| self.is_silenced(at))
            .collect();
        let firing: Vec<Option<bool>> = (0..self.identities.len()).map(|at| self.is_firing(at)).collect();
        let step = Step {
            now,
            wall,
            plan: &self.plans[self.plan],
            identities: &self.identities,
            truth: &self.truth,
            silenced,
            firing,
            decided: self.store.take_decided(),
            heard: self.postman.take_heard(),
        };
        self.oracle.judge(step);
    }

    /// Says whether something fires as far as the process can know; `None` when that hangs on a hair.
    fn is_firing(&self, at: usize) -> Option<bool> {
        let truth = &self.truth[at];
        if !self.identities[at].is_sent() {
            return Some(truth.seen);
        }
        let silent_since = truth.spoken_at.unwrap_or_default().max(self.restarted_at);
        let silent_since = silent_since.max(self.jumped_at.unwrap_or_default());
        let silent_for = self.clock.monotonic().saturating_sub(silent_since);
        let has_jumped = self
            .jumped_at
            .is_some_and(|at| truth.spoken_at.is_none_or(|spoken| spoken <= at));
        match truth.holds {
            true if truth.seen && !has_jumped && silent_for < RESOLVE_TIMEOUT / 2 => Some(true),
            false if silent_for > RESOLVE_TIMEOUT + 2 * STEP => Some(false),
            _ => None,
        }
    }

    fn is_silenced(&self, at: usize) -> Option<bool> {
        let wall = self.clock.now();
        let labels = &self.identities[at].labels;
        let mut is_unsure = false;
        for silence in &self.silences {
            if silence
                .pairs
                .iter()
                .any(|(name, value)| labels.get(name) != Some(value))
            {
                continue;
            }
            if silence.is_unsure || silence.was_over {
                is_unsure = true;
            } else if silence.starts_at <= wall && wall < silence.ends_at {
                return Some(true);
            }
        }
        if is_unsure { None } else { Some(false) }
    }

    // The world.

    fn change_conditions(&mut self, is_calm: bool) {
        let is_stormy = self.clock.monotonic() < self.stormy_until;
        for at in 0..self.identities.len() {
            // Every instance has its own temper: one flaps, one stands for an hour.
            let temper = 12 + 40 * (at as u64 % 4) * (at as u64 % 4);
            let holds = match self.truth[at].holds {
                true if is_calm => false,
                false if is_calm => false,
                false if is_stormy => self.dice.once_in(3),
                true => !self.dice.once_in(temper),
                false => self.dice.once_in(temper * 2),
            };
            if holds != self.truth[at].holds {
                self.truth[at].holds = holds;
                self.tell(
                    Some(at),
                    if holds {
                        "condition true"
                    } else {
                        "condition false"
                    },
                );
            }
        }
        if !is_calm && self.dice.once_in(300) {
            self.stormy_until = self.clock.monotonic() + MINUTE;
            self.tell(None, "much goes wrong at once");
        }
    }

    fn disturb(&mut self, is_calm: bool) {
        let now = self.clock.monotonic();
        if *self.store.mood.lock() != Mood::Fine && (is_calm || now >= self.refuses_until) {
            *self.store.mood.lock() = Mood::Fine;
            self.tell(None, "the store is well");
        }
        if is_calm {
            self.store.death_in.store(0, Ordering::Relaxed);
            self.postman.all_up();
            return;
        }
        if self.dice.once_in(150) {
            let mood = self.dice.pick(&[Mood::Refuses, Mood::Loses]);
            *self.store.mood.lock() = mood;
            self.refuses_until = now + STEP * (1 + self.dice.below(20) as u32);
            self.tell(None, format!("the store {mood:?}"));
        }
        if self.dice.once_in(60) {
            self.store
                .death_in
                .store(1 + self.dice.below(12) as u32, Ordering::Relaxed);
        }
        if self.dice.once_in(400) {
            let minutes = 1 + self.dice.below(180) as i64;
            let minutes = if self.dice.once_in(2) { -minutes } else { minutes };
            let wall = self.clock.now().millis() + minutes * 60_000;
            self.clock.jump_to(Timestamp::from_millis(wall));
            self.jumped_at = Some(now);
            self.oracle.jumped(now, self.clock.now());
            self.silences
                .iter_mut()
                .filter(|silence| silence.until_resolved.is_some())
                .for_each(|silence| {
                    silence.is_unsure = true;
                });
            self.tell(None, format!("the wall clock jumps by {minutes} min"));
        }
        if self.dice.once_in(80) {
            let channel = self.dice.pick(&CHANNELS).1;
            let until = now + STEP * (1 + self.dice.below(100) as u32);
            self.postman.take_down(channel, until);
            self.tell(None, format!("{channel} is away"));
        }
        for channel in self.postman.down(now) {
            self.oracle.channel_trouble(channel, now);
        }
    }

    // The process.

    /// Does something that the process may not survive.
    fn mortal<T>(&mut self, act: impl FnOnce(&Alerts) -> T) -> Option<T> {
        let alerts = self.alerts.clone()?;
        match catch_unwind(AssertUnwindSafe(|| act(&alerts))) {
            Ok(done) => Some(done),
            Err(death) => {
                self.die(death);
                None
            }
        }
    }

    fn die(&mut self, death: Box<dyn std::any::Any + Send>) {
        if !death.is::<Death>() {
            std::panic::resume_unwind(death);
        }
        self.alerts = None;
        self.oracle.counts.deaths += 1;
        let rest = if self.dice.once_in(3) {
            self.dice.below(40)
        } else {
            0
        };
        self.up_at = self.clock.monotonic() + STEP * rest as u32;
        self.tell(None, "the process dies");
    }

    fn start(&mut self) {
        let (store, chance) = (Arc::clone(&self.store), Arc::clone(&self.chance));
        let (clock, config) = (Arc::new(self.clock.clone()), self.plans[self.plan].config());
        let started = catch_unwind(AssertUnwindSafe(|| {
            let store: Arc<dyn AlertStore> = store;
            let alerts = Alerts::load(config, store, clock, chance, &mut Registry::default()).expect("load");
            let rules: Vec<RuleId> = rules().iter().map(|rule| rule.id).collect();
            // The store may refuse; then it is written with the next tick.
            let _ = alerts.retain_rules(&rules, self.clock.now());
            alerts
        }));
        match started {
            Err(death) => self.die(death),
            Ok(alerts) => {
                self.alerts = Some(alerts);
                self.restarted_at = self.clock.monotonic();
                self.postman.recover(&self.store, self.clock.now());
                self.heartbeat_due = self.clock.now();
                self.oracle.trouble(self.clock.monotonic() + SETTLE);
                self.tell(None, "the process starts");
                self.look_at_what_stands();
            }
        }
    }

    /// Looks up, as a person would, what became of acts that were cut.
    fn look_at_what_stands(&mut self) {
        let Some(alerts) = self.alerts.clone() else { return };
        let known = alerts.silences();
        let wall = self.clock.now();
        let mut lost = Vec::new();
        self.silences.retain_mut(|silence| {
            match known.iter().find(|known| known.comment == silence.comment) {
                Some(found) => {
                    if !silence.is_unwritten
                        && silence.until_resolved.is_none()
                        && found.ends_at != silence.ends_at
                    {
                        lost.push(format!("silence {} ends at {}", silence.comment, found.ends_at));
                    }
                    silence.id = Some(found.id);
                    silence.ends_at = found.ends_at;
                    silence.is_unsure |= silence.until_resolved.is_some();
                    silence.is_unwritten = false;
                    true
                }
                None => {
                    if !silence.is_unwritten && silence.until_resolved.is_none() && silence.ends_at > wall {
                        lost.push(format!("silence {} is lost", silence.comment));
                    }
                    false
                }
            }
        });
        for fault in lost {
            self.oracle.fail(None, fault);
        }
        let active = alerts.active();
        for (identity, truth) in self.identities.iter().zip(&mut self.truth) {
            let alert = active
                .iter()
                .find(|alert| alert.fingerprint() == identity.fingerprint);
            truth.acknowledged = alert
                .and_then(|alert| alert.acknowledged.as_ref())
                .map(|taken| taken.until);
        }
    }

    fn run(&mut self) {
        for rule in 0..self.rules.len() {
            self.evaluate(rule);
        }
        self.speak();
        self.follow_silences();
        let wall = self.clock.now();
        // As the room's own loop does.
        self.heartbeat_due = self.heartbeat_due.min(wall + HEARTBEAT);
        if wall >= self.heartbeat_due {
            self.heartbeat_due = wall + HEARTBEAT;
            let _ = self.mortal(|alerts| alerts.heartbeat(wall));
        } else {
            let _ = self.mortal(|alerts| match alerts.next_flush() {
                Some(due) if due <= wall => alerts.flush(wall),
                _ => Ok(0),
            });
        }
        let is_written = self.store.refusals.load(Ordering::Relaxed) == 0 && self.alerts.is_some();
        if is_written {
            self.silences
                .iter_mut()
                .for_each(|silence| silence.is_unwritten = false);
        }
        self.deliver();
    }

    fn evaluate(&mut self, rule: usize) {
        let wall = self.clock.now();
        let of_rule: Vec<usize> = (0..self.identities.len())
            .filter(|at| self.identities[*at].name == rule)
            .collect();
        let holding = of_rule.iter().filter(|at| self.truth[**at].holds);
        let observations = holding
            .map(|at| Observation {
                labels: self.identities[*at].labels.clone(),
                value: 1.0,
                annotations: Labels::empty(),
                verdicts: vec![Verdict::Holds],
            })
            .collect();
        let context = self.rules[rule].clone();
        let told = self.mortal(|alerts| {
            alerts.observe(&context, wall, observations).expect("observed");
            let _ = alerts.commit(wall);
        });
        if told.is_none() {
            return;
        }
        for at in of_rule {
            let truth = &mut self.truth[at];
            truth.seen = truth.holds;
            if !truth.holds {
                truth.acknowledged = None;
            }
        }
    }

    /// Lets the other program speak of its alerts: every minute while they hold, and sometimes of their end.
    fn speak(&mut self) {
        let (now, wall) = (self.clock.monotonic(), self.clock.now());
        let mut words = Vec::new();
        for (identity, truth) in self.identities.iter().zip(&mut self.truth) {
            if !identity.is_sent() || self.alerts.is_none() {
                continue;
            }
            let is_due = truth.spoken_at.is_none_or(|at| now >= at + MINUTE) || !truth.seen;
            let ends = !truth.holds && truth.seen && identity.fingerprint.is_multiple_of(2);
            if (truth.holds && is_due) || ends {
                truth.spoken_at = Some(now);
                words.push(ReceivedAlert {
                    labels: identity.labels.clone(),
                    annotations: Labels::empty(),
                    starts_at: None,
                    ends_at: ends.then_some(wall),
                    generator_url: String::new(),
                });
            }
            if !truth.holds {
                truth.acknowledged = None;
            }
            truth.seen = truth.holds;
        }
        if !words.is_empty() && self.mortal(|alerts| alerts.receive(words).map(drop)).is_none() {
            // The sender had no answer, and speaks again.
            let senders = self
                .identities
                .iter()
                .zip(&mut self.truth)
                .filter(|(identity, _)| identity.is_sent());
            senders.for_each(|(_, truth)| truth.seen = false);
        }
    }

    fn deliver(&mut self) {
        let Some(alerts) = self.alerts.clone() else { return };
        let (store, clock) = (Arc::clone(&self.store), self.clock.clone());
        let done = catch_unwind(AssertUnwindSafe(|| {
            self.postman.walk(&store, clock.now(), clock.monotonic(), &alerts)
        }));
        match done {
            Ok(given_up) => self.oracle.given_up.extend(given_up),
            Err(death) => {
                self.oracle.given_up.extend(self.postman.take_given_up());
                self.die(death);
            }
        }
    }

    // People.

    fn act(&mut self) {
        if self.alerts.is_none() {
            return;
        }
        match self.dice.below(160) {
            0 => self.reload(),
            1..=3 => self.silence(),
            4 => self.expire(),
            5 => self.prolong(),
            6..=9 => self.acknowledge(),
            10 => self.silence_until_resolved(),
            _ => {}
        }
    }

    fn reload(&mut self) {
        self.plan = (self.plan + 1) % self.plans.len();
        self.tell(None, "other routes");
        let config = self.plans[self.plan].config();
        let _ = self.mortal(|alerts| alerts.set_config(config));
        self.oracle.reloaded(self.clock.monotonic());
    }

    fn put(&mut self, quiet: Quiet, id: Option<Id>) {
        let draft = SilenceDraft {
            id,
            matchers: quiet
                .pairs
                .iter()
                .map(|(name, value)| Matcher::equal(name, value))
                .collect(),
            starts_at: None,
            ends_at: quiet.ends_at,
            created_by: "wang".to_owned(),
            comment: quiet.comment.clone(),
            recurs: None,
            is_until_resolved: Some(quiet.until_resolved.is_some()),
        };
        self.tell(
            None,
            format!(
                "silence {}: {:?} until {}",
                quiet.comment, quiet.pairs, quiet.ends_at
            ),
        );
        self.oracle.counts.silences += 1;
        let comment = quiet.comment.clone();
        self.silences.push(quiet);
        let _ = self.mortal(|alerts| alerts.put_silence(draft, true));
        self.learn_id(&comment);
    }

    fn learn_id(&mut self, comment: &str) {
        let Some(alerts) = &self.alerts else { return };
        let id = alerts
            .silences()
            .iter()
            .find(|known| known.comment == comment)
            .map(|known| known.id);
        if let Some(silence) = self
            .silences
            .iter_mut()
            .find(|silence| silence.comment == comment)
        {
            silence.id = id;
        }
    }

    fn fresh(&self, pairs: Vec<(String, String)>) -> Quiet {
        let wall = self.clock.now();
        Quiet {
            comment: format!("s{}", self.oracle.counts.silences),
            id: None,
            pairs,
            starts_at: wall,
            ends_at: wall + MINUTE * (2 + self.dice.below(40) as u32),
            until_resolved: None,
            has_hit: false,
            is_unwritten: true,
            is_unsure: false,
            was_over: false,
        }
    }

    fn pairs(&self, at: usize, names: &[&str]) -> Vec<(String, String)> {
        let labels = &self.identities[at].labels;
        names
            .iter()
            .map(|name| ((*name).to_owned(), labels.get(name).unwrap_or("").to_owned()))
            .collect()
    }

    fn silence(&mut self) {
        let at = self.dice.below(self.identities.len() as u64) as usize;
        let names = self
            .dice
            .pick(&[&["alertname", "i"][..], &["team"], &["alertname"]]);
        let quiet = self.fresh(self.pairs(at, names));
        self.put(quiet, None);
    }

    fn silence_until_resolved(&mut self) {
        let at = self.dice.below(self.identities.len() as u64 - 4) as usize;
        if !self.truth[at].seen {
            return;
        }
        let mut quiet = self.fresh(self.pairs(at, &["alertname", "i"]));
        quiet.until_resolved = Some(at);
        quiet.has_hit = true;
        quiet.ends_at = quiet.starts_at + MINUTE * 60;
        self.put(quiet, None);
    }

    /// One of the silences that stand for certain.
    fn standing(&self) -> Option<usize> {
        let wall = self.clock.now();
        let standing: Vec<usize> = (0..self.silences.len())
            .filter(|at| {
                let silence = &self.silences[*at];
                let holds = silence.starts_at <= wall && wall < silence.ends_at;
                holds && !silence.was_over && silence.until_resolved.is_none() && silence.id.is_some()
            })
            .collect();
        (!standing.is_empty()).then(|| self.dice.pick(&standing))
    }

    fn expire(&mut self) {
        let Some(at) = self.standing() else { return };
        let silence = &mut self.silences[at];
        silence.ends_at = self.clock.now();
        silence.is_unwritten = true;
        let (id, comment) = (silence.id, silence.comment.clone());
        self.tell(None, format!("silence {comment} is ended by hand"));
        let _ = self.mortal(|alerts| id.map(|id| alerts.expire_silence(id)));
    }

    /// Moves the end of a silence, or gives it other matchers, which makes another of it.
    fn prolong(&mut self) {
        let Some(at) = self.standing() else { return };
        let wall = self.clock.now();
        let id = self.silences[at].id;
        if self.dice.once_in(2) {
            let other = self.dice.below(self.identities.len() as u64) as usize;
            let quiet = self.fresh(self.pairs(other, &["alertname", "team", "i"]));
            let old = &mut self.silences[at];
            old.ends_at = wall;
            old.is_unwritten = true;
            self.put(quiet, id);
            return;
        }
        let silence = &mut self.silences[at];
        silence.ends_at = wall + MINUTE * (1 + self.dice.below(30) as u32);
        silence.is_unwritten = true;
        let draft = SilenceDraft {
            id,
            matchers: silence
                .pairs
                .iter()
                .map(|(name, value)| Matcher::equal(name, value))
                .collect(),
            ends_at: silence.ends_at,
            created_by: "li".to_owned(),
            comment: silence.comment.clone(),
            ..SilenceDraft::default()
        };
        let text = format!("silence {} now until {}", silence.comment, silence.ends_at);
        self.tell(None, text);
        let _ = self.mortal(|alerts| alerts.put_silence(draft, true));
    }

    fn follow_silences(&mut self) {
        if self.alerts.is_none() {
            return;
        }
        let wall = self.clock.now();
        for silence in &mut self.silences {
            silence.was_over |= silence.ends_at <= wall;
            let Some(at) = silence.until_resolved else {
                continue;
            };
            let is_active = silence.starts_at <= wall && wall < silence.ends_at;
            if self.truth[at].seen && is_active {
                silence.has_hit = true;
            } else if silence.has_hit && is_active && !silence.is_unsure {
                silence.ends_at = wall;
                silence.is_unwritten = true;
            }
        }
        // What is long over is out of mind.
        self.silences
            .retain(|silence| silence.ends_at + MINUTE * 240 > wall);
    }

    fn acknowledge(&mut self) {
        let Some(alerts) = self.alerts.clone() else { return };
        let firing: Vec<(Id, usize)> = alerts
            .active()
            .iter()
            .filter(|alert| alert.state == AlertState::Firing)
            .filter_map(|alert| {
                let fingerprint = alert.fingerprint();
                let at = self
                    .identities
                    .iter()
                    .position(|known| known.fingerprint == fingerprint)?;
                Some((alert.id, at))
            })
            .collect();
        if firing.is_empty() {
            return;
        }
        let (id, at) = self.dice.pick(&firing);
        let until =
            (!self.dice.once_in(3)).then(|| self.clock.now() + MINUTE * (1 + self.dice.below(60) as u32));
        self.truth[at].acknowledged = Some(until);
        self.tell(Some(at), "acknowledged");
        self.oracle.counts.acknowledgements += 1;
        let _ = self.mortal(|alerts| alerts.acknowledge(id, "zhao", "", until));
    }
}

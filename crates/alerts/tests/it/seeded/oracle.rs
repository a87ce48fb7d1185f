//! Who judges a life: from the truth and from what receivers heard, and never from what the room thinks of itself.
//!
//! Promises are held against time without trouble: whoever must be told within a group's interval must have been told
//! when, for so long, the process ran, the store took what it was given, the channel was there, and nothing else kept the
//! alert quiet. Each trouble starts the count anew, so every promise must also be kept after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use marketprism_model::{AlertState, Id, Notification, Purpose, Timestamp};

use super::life::Truth;
use super::plan::{CHANNELS, FLAP_HOLD, Identity, MINUTE, Node, Plan, ROUND_EVERY, STEP_AFTER};
use super::postman::Heard;

/// A message that failed comes again after half a minute; steps are coarse.
const SLACK: Duration = Duration::from_secs(75);
/// Lines of a story that are shown.
const STORY_MAX: usize = 90;

/// How much of everything a life had, so that none of the checks is idle.
#[derive(Default, Debug, Clone)]
pub struct Counts {
    pub deaths: usize,
    pub jumps: usize,
    pub reloads: usize,
    pub silences: usize,
    pub acknowledgements: usize,
    pub troubles: usize,
    pub uncertain: usize,
    pub given_up: usize,
    pub groups: usize,
    pub storms: usize,
    pub escalations: usize,
    pub fallbacks: usize,
    pub repeats: usize,
    pub ends: usize,
    /// Times at which somebody was owed a message, and had it.
    pub kept_told: usize,
    pub kept_closed: usize,
    pub kept_quiet: usize,
    pub kept_escalated: usize,
}

impl Counts {
    /// Gives them all by name.
    pub fn all(&self) -> [(&'static str, usize); 18] {
        [
            ("deaths", self.deaths),
            ("jumps", self.jumps),
            ("reloads", self.reloads),
            ("silences", self.silences),
            ("acknowledgements", self.acknowledgements),
            ("troubles", self.troubles),
            ("uncertain", self.uncertain),
            ("given up", self.given_up),
            ("group messages", self.groups),
            ("storm messages", self.storms),
            ("escalations", self.escalations),
            ("fallbacks", self.fallbacks),
            ("repeats", self.repeats),
            ("ends", self.ends),
            ("told in time", self.kept_told),
            ("closed in time", self.kept_closed),
            ("kept quiet", self.kept_quiet),
            ("escalated in time", self.kept_escalated),
        ]
    }
}

/// Everything there is to know of one step.
pub struct Step<'a> {
    /// Time since the beginning, whatever the wall shows.
    pub now: Duration,
    pub wall: Timestamp,
    pub plan: &'a Plan,
    pub identities: &'a [Identity],
    pub truth: &'a [Truth],
    /// By identity; `None` where nobody can say.
    pub silenced: Vec<Option<bool>>,
    pub firing: Vec<Option<bool>>,
    pub decided: Vec<Notification>,
    pub heard: Vec<Heard>,
}

impl Step<'_> {
    fn is_inhibited(&self, at: usize) -> bool {
        let target = &self.identities[at];
        self.plan
            .inhibitions
            .iter()
            .filter(|rule| rule.target == target.name)
            .any(|rule| {
                self.identities.iter().zip(self.truth).any(|(source, truth)| {
                    truth.seen
                        && source.name == rule.source
                        && source.labels.get(rule.equal) == target.labels.get(rule.equal)
                })
            })
    }

    fn at(&self, fingerprint: &str) -> Option<usize> {
        place(self.identities, fingerprint)
    }

    fn node(&self, at: usize, receiver: &str) -> Option<&Node> {
        let found = self.plan.find(&self.identities[at].labels);
        found.into_iter().find(|node| node.receiver == receiver)
    }

    /// Says whether something is certain to fire and certain not to be kept quiet, but for the mutes of a route.
    fn is_audible(&self, at: usize) -> bool {
        self.firing[at] == Some(true) && self.silenced[at] == Some(false) && !self.is_inhibited(at)
    }
}

/// What a channel was told of one identity as firing.
struct Told {
    /// When last; `None` when that message was given up.
    at: Option<Timestamp>,
    group: String,
    /// Whether it has ended since, as far as anybody can say.
    has_ended: bool,
}

/// An escalating group.
#[derive(Default)]
struct Watched {
    idle_since: Option<Duration>,
    last_idle: Duration,
    open_since: Option<Duration>,
    is_valid: bool,
    told_at: Option<Duration>,
    /// When each step was last decided.
    steps: BTreeMap<(String, u32), Duration>,
}

pub struct Oracle {
    pub fault: Option<String>,
    pub counts: Counts,
    longest: Duration,
    steady_since: Duration,
    changed_at: Duration,
    channel_steady: BTreeMap<&'static str, Duration>,
    audible_since: Vec<BTreeMap<&'static str, Duration>>,
    over_since: Vec<Option<Duration>>,
    /// What each channel heard and takes to be firing.
    open: BTreeMap<&'static str, BTreeSet<usize>>,
    /// The place of every message in the order of decisions; ids follow the wall clock, which jumps.
    order: BTreeMap<Id, usize>,
    /// The newest message that each channel heard of each identity, by that order.
    newest: BTreeMap<(&'static str, usize), usize>,
    told: BTreeMap<String, BTreeMap<usize, Told>>,
    watched: BTreeMap<String, Watched>,
    /// Messages that were given up in the step that is under way.
    pub given_up: Vec<Notification>,
    story: Vec<(Duration, Option<usize>, String)>,
}

impl Oracle {
    pub fn new(identities: usize, longest: Duration) -> Self {
        Oracle {
            fault: None,
            counts: Counts::default(),
            longest,
            steady_since: Duration::ZERO,
            changed_at: Duration::ZERO,
            channel_steady: BTreeMap::new(),
            audible_since: vec![BTreeMap::new(); identities],
            over_since: vec![None; identities],
            open: BTreeMap::new(),
            order: BTreeMap::new(),
            newest: BTreeMap::new(),
            told: BTreeMap::new(),
            watched: BTreeMap::new(),
            given_up: Vec::new(),
            story: Vec::new(),
        }
    }

    /// Writes a line of the story, of one identity or of the whole world.
    pub fn note(&mut self, now: Duration, identity: Option<usize>, text: String) {
        self.story.push((now, identity, text));
    }

    /// Until `until` nobody can be held to anything.
    pub fn trouble(&mut self, until: Duration) {
        self.counts.troubles += 1;
        self.steady_since = self.steady_since.max(until);
        self.void();
    }

    fn void(&mut self) {
        for watched in self.watched.values_mut() {
            watched.is_valid = false;
            watched.idle_since = None;
        }
    }

    pub fn channel_trouble(&mut self, channel: &'static str, now: Duration) {
        self.channel_steady.insert(channel, now);
    }

    pub fn jumped(&mut self, now: Duration, wall: Timestamp) {
        self.counts.jumps += 1;
        self.trouble(now);
        self.changed_at = now;
        // A time in the future would hold repeats up, so it counts as now.
        let told = self.told.values_mut().flat_map(BTreeMap::values_mut);
        told.for_each(|told| told.at = told.at.map(|at| at.min(wall)));
    }

    pub fn reloaded(&mut self, now: Duration) {
        self.counts.reloads += 1;
        self.trouble(now);
        self.changed_at = now;
    }

    /// A message did not reach its channel in time: it may be told again, and an end in it is told no more.
    fn judge_given_up(&mut self, now: Duration, message: &Notification, identities: &[Identity]) {
        self.counts.given_up += 1;
        self.note(
            now,
            None,
            format!("{} was given up [{}]", message.channel, message.group_key),
        );
        if let Some(told) = self.told.get_mut(&message.channel) {
            // After a reload the alerts of that group may stand in others, together with more.
            let has_moved = self.counts.reloads > 0;
            let of_group = told
                .values_mut()
                .filter(|told| has_moved || told.group == message.group_key);
            of_group.for_each(|told| told.at = None);
        }
        for alert in message
            .content
            .alerts
            .iter()
            .filter(|alert| alert.state == AlertState::Resolved)
        {
            if let (Some(open), Some(at)) = (
                self.open.get_mut(message.channel.as_str()),
                place(identities, &alert.fingerprint),
            ) {
                open.remove(&at);
            }
        }
    }

    pub fn fail(&mut self, at: Option<usize>, fault: String) {
        if self.fault.is_some() {
            return;
        }
        let of_it = self.story.iter().filter(|(_, of, _)| of.is_none() || of == &at);
        let lines: Vec<_> = of_it.collect();
        let mut text = format!("{fault}\n");
        for (now, _, line) in lines.iter().skip(lines.len().saturating_sub(STORY_MAX)) {
            let seconds = now.as_secs();
            let _ = writeln!(text, "  {:>3}:{:02} {line}", seconds / 60, seconds % 60);
        }
        self.fault = Some(text);
    }

    /// Nothing is open when a life has ended calmly.
    pub fn end(&mut self) {
        let open: Vec<(&str, usize)> = self
            .open
            .iter()
            .filter(|(channel, _)| sends_resolved(channel))
            .flat_map(|(channel, open)| open.iter().map(|at| (*channel, *at)))
            .collect();
        if let Some((channel, at)) = open.first() {
            self.fail(
                Some(*at),
                format!("at the end {channel} was never told of the end"),
            );
        }
    }

    pub fn judge(&mut self, mut step: Step<'_>) {
        for message in std::mem::take(&mut step.decided) {
            self.judge_decided(&step, &message);
        }
        // Messages are carried after a step's decisions.
        for message in std::mem::take(&mut self.given_up) {
            self.judge_given_up(step.now, &message, step.identities);
        }
        for heard in std::mem::take(&mut step.heard) {
            self.judge_heard(&step, &heard);
        }
        for told in self.told.values_mut() {
            for (at, told) in told {
                told.has_ended |= step.firing[*at] != Some(true);
            }
        }
        for at in 0..step.identities.len() {
            self.owed_told(&step, at);
            self.owed_closed(&step, at);
        }
        self.owed_escalation(&step);
    }
}

impl Oracle {
    /// What was decided, at the step at which it became durable.
    fn judge_decided(&mut self, step: &Step<'_>, message: &Notification) {
        self.order.insert(message.id, self.order.len());
        let channel = message.channel.as_str();
        let purpose = &message.content.purpose;
        // A decision that the store took late was right when it was made; by now it cannot be judged as strictly.
        let is_fresh = message.created_at == step.wall;
        let (mut firing, mut ended) = (Vec::new(), Vec::new());
        for alert in &message.content.alerts {
            let Some(at) = step.at(&alert.fingerprint) else {
                self.fail(
                    None,
                    format!("{channel} was told of something unknown: {:?}", alert.labels),
                );
                return;
            };
            let is_firing = alert.state == AlertState::Firing;
            let word = if is_firing { "firing" } else { "over" };
            let text = format!(
                "decided: {channel} hears {word} ({purpose:?}) [{}]",
                message.group_key
            );
            self.note(step.now, Some(at), text);
            if is_firing {
                firing.push(at)
            } else {
                ended.push(at)
            }
        }
        match purpose {
            Purpose::Group => self.counts.groups += 1,
            Purpose::Storm => self.counts.storms += 1,
            Purpose::Escalation { .. } => self.counts.escalations += 1,
            Purpose::Fallback { .. } => self.counts.fallbacks += 1,
        }
        self.counts.ends += ended.len();
        if is_fresh {
            firing.iter().for_each(|at| self.judge_spoken(step, message, *at));
            ended.iter().for_each(|at| {
                if !step.identities[*at].is_sent() && step.firing[*at] == Some(true) {
                    self.fail(Some(*at), format!("{channel} was told of an end, and it fires"));
                }
            });
        }
        if matches!(purpose, Purpose::Group | Purpose::Storm) {
            self.judge_repeat(step, message, &firing, &ended, is_fresh);
        }
        if let Purpose::Escalation { step: number, .. } = purpose
            && !firing.is_empty()
        {
            self.judge_escalation(step, message, *number, &firing, is_fresh);
        }
        self.keep(step, message, &firing, &ended);
    }

    /// Whoever is spoken of as firing must fire, and must not be kept quiet.
    fn judge_spoken(&mut self, step: &Step<'_>, message: &Notification, at: usize) {
        let channel = &message.channel;
        let fault = match &message.content.purpose {
            Purpose::Fallback { .. } => return,
            _ if step.firing[at] == Some(false) => "it is over",
            _ if step.silenced[at] == Some(true) => "it is silenced",
            _ if step.is_inhibited(at) => "it is inhibited",
            Purpose::Storm if step.identities[at].is_critical => "P1 was held by a storm",
            Purpose::Escalation { .. } if step.truth[at].acknowledged.is_some() => "it is acknowledged",
            Purpose::Escalation { .. } => return,
            Purpose::Group | Purpose::Storm => match step.node(at, &message.receiver) {
                None => "no route leads there",
                Some(node) if step.plan.is_muted(node, step.wall) => "its route is muted",
                Some(_) => return,
            },
        };
        self.fail(Some(at), format!("{channel} was told that it fires, and {fault}"));
    }

    fn judge_repeat(
        &mut self,
        step: &Step<'_>,
        message: &Notification,
        firing: &[usize],
        ended: &[usize],
        is_fresh: bool,
    ) {
        let channel = message.channel.as_str();
        let known = self.told.entry(channel.to_owned()).or_default();
        // Whoever is called or stands in may have heard by two groups, when the routes changed between.
        let is_routed = CHANNELS
            .iter()
            .any(|(receiver, name, _)| *name == channel && receiver.starts_with('r'));
        if let Some(at) = ended.iter().find(|at| is_routed && !known.contains_key(at)) {
            self.fail(
                Some(*at),
                format!("{channel} was told of an end twice, or without a beginning"),
            );
            return;
        }
        let is_news = |at: &&usize| match known.get(at) {
            None => true,
            Some(told) => told.has_ended && !sends_resolved(channel),
        };
        if !ended.is_empty() || firing.iter().any(|at| is_news(&at)) {
            return;
        }
        self.counts.repeats += 1;
        let repeat = match (message.content.purpose == Purpose::Storm, firing.first()) {
            (false, Some(at)) => step.node(*at, &message.receiver).map(|node| node.repeat),
            _ => Some(step.plan.root.repeat),
        };
        let Some(repeat) = repeat else { return };
        let soonest = |at: &usize| {
            let told_at = known.get(at).and_then(|told| told.at)?;
            let since = message.created_at.since(told_at) + Duration::from_secs(2);
            (since < repeat).then_some((*at, since))
        };
        if let Some((at, since)) = firing.iter().find_map(soonest) {
            self.fail(
                Some(at),
                format!("{channel} was told the same again after {since:?}, not {repeat:?}"),
            );
            return;
        }
        if is_fresh && firing.iter().all(|at| step.truth[*at].acknowledged.is_some()) {
            self.fail(
                firing.first().copied(),
                format!("{channel} was told again, and all are acknowledged"),
            );
        }
    }

    fn judge_escalation(
        &mut self,
        step: &Step<'_>,
        message: &Notification,
        number: u32,
        firing: &[usize],
        is_fresh: bool,
    ) {
        if message.group_key.starts_with("{storm}") || !is_fresh {
            return;
        }
        let Some(group) = escalating(step, firing[0], &message.group_key) else {
            return;
        };
        let watched = self.watched.entry(group).or_default();
        let last = watched
            .steps
            .insert((message.group_key.clone(), number), step.now);
        let Some(last) = last.filter(|last| *last > watched.last_idle && *last > self.changed_at) else {
            return;
        };
        if step.now - last + MINUTE < ROUND_EVERY {
            let since = step.now - last;
            self.fail(
                Some(firing[0]),
                format!(
                    "step {number} of {} was taken again after {since:?}",
                    message.group_key
                ),
            );
        }
    }

    fn keep(&mut self, step: &Step<'_>, message: &Notification, firing: &[usize], ended: &[usize]) {
        let known = self.told.entry(message.channel.clone()).or_default();
        for at in firing {
            let told = Told {
                at: Some(message.created_at.min(step.wall)),
                group: message.group_key.clone(),
                has_ended: step.firing[*at] != Some(true),
            };
            known.insert(*at, told);
        }
        for at in ended {
            known.remove(at);
        }
    }

    fn judge_heard(&mut self, step: &Step<'_>, heard: &Heard) {
        let message = &heard.message;
        let channel = CHANNELS
            .iter()
            .map(|(_, name, _)| *name)
            .find(|name| *name == message.channel);
        let Some(channel) = channel else {
            self.fail(None, format!("{} is no channel", message.channel));
            return;
        };
        if heard.is_again {
            self.counts.uncertain += 1;
            if !heard.is_uncertain {
                self.fail(
                    None,
                    format!("{channel} heard one message twice, and no attempt is uncertain"),
                );
            }
            return;
        }
        let Some(number) = self.order.get(&message.id).copied() else {
            self.fail(None, format!("{channel} heard what nobody decided"));
            return;
        };
        for alert in &message.content.alerts {
            let Some(at) = step.at(&alert.fingerprint) else {
                continue;
            };
            let open = self.open.entry(channel).or_default();
            let is_firing = alert.state == AlertState::Firing;
            let newest = self.newest.entry((channel, at)).or_insert(number);
            if number < *newest {
                let text = format!("{channel} heard of it in another order than was decided");
                self.fail(Some(at), text);
                return;
            }
            *newest = number;
            if is_firing {
                open.insert(at);
            } else {
                open.remove(&at);
                if !sends_resolved(channel) {
                    self.fail(
                        Some(at),
                        format!("{channel} was told of an end, and wants to hear of none"),
                    );
                }
            }
            self.note(
                step.now,
                Some(at),
                format!("{channel} heard {}", if is_firing { "firing" } else { "over" }),
            );
            if is_firing
                && channel == "e1a"
                && let Some(group) = escalating(step, at, &message.group_key)
            {
                self.watched.entry(group).or_default().told_at = Some(step.now);
            }
        }
    }

    fn steady(&self, channel: &str) -> Duration {
        self.channel_steady
            .get(channel)
            .map_or(self.steady_since, |at| self.steady_since.max(*at))
    }

    fn owed_told(&mut self, step: &Step<'_>, at: usize) {
        let found = step.plan.find(&step.identities[at].labels);
        let is_audible = step.is_audible(at) && step.truth[at].acknowledged.is_none();
        for (receiver, channel, _) in CHANNELS {
            let node = found.iter().find(|node| node.receiver == receiver);
            let Some(node) = node.filter(|node| is_audible && !step.plan.is_muted(node, step.wall)) else {
                self.audible_since[at].remove(channel);
                self.counts.kept_quiet += usize::from(node.is_some() && step.firing[at] == Some(true));
                continue;
            };
            let since = *self.audible_since[at].entry(channel).or_insert(step.now);
            let mut longest = node.longest();
            if step.plan.has_storms && !step.identities[at].is_critical {
                longest = longest.max(step.plan.root.longest());
            }
            let owed_at = since.max(self.steady(channel)) + longest + SLACK;
            if step.now <= owed_at {
                continue;
            }
            if self.open.get(channel).is_some_and(|open| open.contains(&at)) {
                self.counts.kept_told += 1;
            } else {
                let text = format!(
                    "{channel} was not told though it fires since minute {}",
                    since.as_secs() / 60
                );
                self.fail(Some(at), text);
            }
        }
    }

    fn owed_closed(&mut self, step: &Step<'_>, at: usize) {
        if step.firing[at] != Some(false) {
            self.over_since[at] = None;
            return;
        }
        let since = *self.over_since[at].get_or_insert(step.now);
        let hold = if step.plan.has_flapping {
            FLAP_HOLD
        } else {
            Duration::ZERO
        };
        for (_, channel, _) in CHANNELS.iter().filter(|(.., sends_resolved)| *sends_resolved) {
            let owed_at = since.max(self.steady(channel)) + hold + self.longest + SLACK;
            if step.now <= owed_at {
                continue;
            }
            if self.open.get(channel).is_some_and(|open| open.contains(&at)) {
                let text = format!(
                    "{channel} was not told of the end in minute {}",
                    since.as_secs() / 60
                );
                self.fail(Some(at), text);
            } else {
                self.counts.kept_closed += 1;
            }
        }
    }

    fn owed_escalation(&mut self, step: &Step<'_>) {
        let mut groups: BTreeMap<String, (bool, bool, usize)> = BTreeMap::new();
        for (at, identity) in step.identities.iter().enumerate() {
            for node in step
                .plan
                .find(&identity.labels)
                .into_iter()
                .filter(|node| node.has_escalation)
            {
                let is_kept = step.truth[at].acknowledged.is_some() || step.plan.is_muted(node, step.wall);
                let is_open = step.is_audible(at) && !is_kept;
                let may_be_open = step.firing[at] != Some(false)
                    && step.silenced[at] != Some(true)
                    && !step.is_inhibited(at)
                    && !is_kept;
                let group = groups
                    .entry(node.group(&identity.labels))
                    .or_insert((false, false, at));
                if is_open {
                    group.2 = at;
                }
                group.0 |= is_open;
                group.1 |= may_be_open;
            }
        }
        let e1_steady = self.steady("e1a");
        let mut owed = None;
        for (key, (is_open, may_be_open, at)) in groups {
            let watched = self.watched.entry(key).or_default();
            if !may_be_open {
                watched.last_idle = step.now;
                watched.idle_since.get_or_insert(step.now);
                watched.open_since = None;
                continue;
            }
            if watched.open_since.is_none() {
                // Whoever was quiet for a moment only goes on where they were.
                let needed = self.longest + FLAP_HOLD + MINUTE;
                watched.is_valid = is_open
                    && watched
                        .idle_since
                        .is_some_and(|since| step.now - since > needed && since > e1_steady);
                watched.open_since = Some(step.now);
            }
            watched.idle_since = None;
            watched.is_valid &= is_open;
            let Some(since) = watched
                .open_since
                .filter(|since| watched.is_valid && *since > e1_steady)
            else {
                continue;
            };
            // With storms it may be another group that escalates.
            if step.plan.has_storms || step.now <= since + self.longest + STEP_AFTER[0] + SLACK {
                continue;
            }
            if watched.told_at.is_some_and(|told| told >= since) {
                self.counts.kept_escalated += 1;
            } else {
                owed = Some((at, since));
            }
        }
        if let Some((at, since)) = owed {
            let text = format!(
                "nobody was called though its group is open since minute {}",
                since.as_secs() / 60
            );
            self.fail(Some(at), text);
        }
    }
}

/// Gives the escalating group of an identity that a message speaks of, as the tree here names it.
fn escalating(step: &Step<'_>, at: usize, group_key: &str) -> Option<String> {
    let labels = &step.identities[at].labels;
    let nodes = step.plan.find(labels);
    let mut nodes = nodes.into_iter().filter(|node| node.has_escalation);
    // Two escalating routes of one identity cannot be told apart by the message.
    let node = nodes.next()?;
    let is_plain = nodes.next().is_none() && !group_key.starts_with("{storm}");
    is_plain.then(|| node.group(labels))
}

fn place(identities: &[Identity], fingerprint: &str) -> Option<usize> {
    let fingerprint = u64::from_str_radix(fingerprint, 16).ok()?;
    identities
        .iter()
        .position(|identity| identity.fingerprint == fingerprint)
}

fn sends_resolved(channel: &str) -> bool {
    CHANNELS
        .iter()
        .any(|(_, name, sends_resolved)| *name == channel && *sends_resolved)
}

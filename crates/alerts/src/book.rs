//! Everything alive, in memory: clocks, active alerts, groups, and what has changed since the last write.
//!
//! One book behind one lock. The rooms' pure parts decide; the book applies what they decided, so every
//! transition goes through the few functions of this file and leaves its event, its count and its change.
//! Deliberately absent: the store and the clock. Whoever holds the lock never waits for either.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use marketprism_model::alert::{Acknowledgement, Suppression};
use marketprism_model::{
    Alert, AlertEvent, AlertEventKind, AlertState, Chance, ExternalSource, Id, Level, Notification,
    Observation, RuleContext, RuleId, ShiftOverride, Timestamp,
};

use crate::changes::Changes;
use crate::condition::ConditionClock;
use crate::flapping::Flaps;
use crate::groups::Groups;
use crate::incidents::Incidents;
use crate::inhibition::Inhibitor;
use crate::life::{self, Hold, Next};
use crate::limit;
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::silences::Silences;
use crate::storm::Storms;

/// Why an alert is over, as its story tells.
pub(crate) const REASON_CLEARED: &str = "the condition cleared";
pub(crate) const REASON_MISSING: &str = "its data was missing for too long";
pub(crate) const REASON_RULE_REMOVED: &str = "the rule was removed";
pub(crate) const REASON_STILL_TRUE: &str = "still true one hour after it was resolved by hand";

/// The conditions of one rule for one label set.
pub(crate) struct RuleHold {
    /// By position; `None` where the condition does not run.
    pub clocks: Vec<Option<ConditionClock>>,
    /// The level each raises.
    pub levels: Vec<Level>,
}

impl RuleHold {
    /// Gives the running clock of a level.
    pub fn clock_of(&self, level: Level) -> Option<ConditionClock> {
        let mut known = self.clocks.iter().zip(&self.levels);
        known.find_map(|(clock, known)| clock.filter(|_| *known == level))
    }

    /// Walks the running conditions that have a part in an alert.
    pub fn parts(&self) -> impl Iterator<Item = (ConditionClock, Level)> + '_ {
        self.clocks.iter().zip(&self.levels).filter_map(|(clock, level)| {
            clock
                .filter(|clock| !clock.is_set_aside())
                .map(|clock| (clock, *level))
        })
    }
}

/// What a rule saw when an alert is settled.
pub(crate) struct Seen<'a> {
    pub rule: &'a RuleContext,
    pub observation: &'a Observation,
    /// Whether a condition came back that had been set aside by hand.
    pub is_revived: bool,
    /// Since when it holds, where the rule knows better than the clock; then another program sent it.
    pub starts_at: Option<Timestamp>,
}

impl Seen<'_> {
    fn has_levels(&self) -> bool {
        self.rule
            .conditions
            .iter()
            .any(|condition| condition.level.is_some())
    }
}

/// Why an alert may end now, and who ends it.
#[derive(Clone, Copy)]
pub(crate) struct Cause<'a> {
    pub reason: &'a str,
    pub actor: Option<&'a str>,
}

/// The usual cause: the condition is no longer true.
pub(crate) const CLEARED: Cause<'static> = Cause {
    reason: REASON_CLEARED,
    actor: None,
};

/// Nobody could tell any more whether the condition is true.
pub(crate) const MISSING: Cause<'static> = Cause {
    reason: REASON_MISSING,
    actor: None,
};

/// An alert that began to fire, for the log.
pub(crate) struct Notice {
    pub alert: Arc<Alert>,
    pub level: Level,
}

/// Resolved alerts whose end a group still has to tell: at most one a label set, for one that fires again
/// takes the place of the one before.
#[derive(Default)]
pub(crate) struct Ended {
    alerts: HashMap<Id, Arc<Alert>>,
    by_fingerprint: HashMap<u64, Id>,
}

impl Ended {
    pub fn insert(&mut self, alert: Arc<Alert>) {
        if let Some(known) = self.of(alert.fingerprint())
            && known > alert.id
        {
            return;
        }
        if let Some(older) = self.by_fingerprint.insert(alert.fingerprint(), alert.id) {
            self.alerts.remove(&older);
        }
        self.alerts.insert(alert.id, alert);
    }

    pub fn get(&self, id: Id) -> Option<&Arc<Alert>> {
        self.alerts.get(&id)
    }

    /// Gives the one with these labels.
    pub fn of(&self, fingerprint: u64) -> Option<Id> {
        self.by_fingerprint.get(&fingerprint).copied()
    }

    /// Keeps those for which `keep` answers true.
    pub fn retain(&mut self, mut keep: impl FnMut(Id) -> bool) {
        let gone: Vec<Id> = self.alerts.keys().copied().filter(|id| !keep(*id)).collect();
        gone.into_iter().for_each(|id| self.remove(id));
    }

    /// The same by what they are about.
    pub fn retain_fingerprints(&mut self, mut keep: impl FnMut(u64) -> bool) {
        let by_fingerprint = &mut self.by_fingerprint;
        self.alerts.retain(|_, alert| {
            let is_kept = keep(alert.fingerprint());
            if !is_kept {
                by_fingerprint.remove(&alert.fingerprint());
            }
            is_kept
        });
    }

    pub fn remove(&mut self, id: Id) {
        if let Some(alert) = self.alerts.remove(&id)
            && self.of(alert.fingerprint()) == Some(id)
        {
            self.by_fingerprint.remove(&alert.fingerprint());
        }
    }
}

/// What becomes due for one alert. Entries are not taken back; who pops one looks whether it still holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    /// Its acknowledgement ends.
    Acknowledgement,
    /// Another program's word for it runs out.
    External,
    /// It has been quiet for so long that it no longer flaps.
    Flapping,
}

/// Everything alive.
pub(crate) struct Book {
    pub plan: Arc<Plan>,
    pub chance: Arc<dyn Chance>,
    pub metrics: Metrics,
    pub rules: HashMap<RuleId, HashMap<u64, RuleHold>>,
    /// Which rules have clocks for a fingerprint, the oldest first.
    pub holders: HashMap<u64, Vec<RuleId>>,
    pub active: HashMap<u64, Arc<Alert>>,
    pub by_id: HashMap<Id, u64>,
    /// Resolved alerts whose end a group still has to tell.
    pub ended: Ended,
    /// Firing alerts that are not told because too many fire.
    pub limited: BTreeSet<Id>,
    /// Firing alerts that are told.
    pub told_firing: usize,
    pub groups: Groups,
    pub silences: Silences,
    pub inhibitor: Inhibitor,
    pub incidents: Incidents,
    /// Those that are not over.
    pub overrides: Vec<ShiftOverride>,
    pub storms: Storms,
    pub flaps: Flaps,
    /// What other programs said last of the alerts that they sent, by fingerprint.
    pub externals: HashMap<u64, ExternalSource>,
    /// Messages that were given up, for the fallback receiver.
    pub fallen: VecDeque<Notification>,
    /// What is due for one alert by time alone.
    pub timers: BTreeSet<(Timestamp, Timer, u64)>,
    /// The newest time that was seen.
    pub latest_now: Timestamp,
    /// When somebody resolved the alert about the limit by hand.
    pub limit_set_aside_at: Option<Timestamp>,
    /// Since when every firing alert is told.
    pub limit_calm_since: Option<Timestamp>,
    pub changes: Changes,
    /// Groups that changed since the last write; how they stand is read when they are written.
    pub changed_groups: BTreeSet<Arc<str>>,
    pub notices: Vec<Notice>,
    /// Grows with every change that a reader can see.
    pub version: u64,
}

impl Book {
    pub fn new(plan: Arc<Plan>, chance: Arc<dyn Chance>, metrics: Metrics) -> Self {
        Book {
            silences: Silences::new(plan.config.silences.clone()),
            incidents: Incidents::new(plan.config.incidents.clone()),
            inhibitor: plan.inhibitor.clone(),
            chance,
            metrics,
            rules: HashMap::new(),
            plan,
            holders: HashMap::new(),
            active: HashMap::new(),
            by_id: HashMap::new(),
            ended: Ended::default(),
            limited: BTreeSet::new(),
            told_firing: 0,
            groups: Groups::default(),
            overrides: Vec::new(),
            storms: Storms::default(),
            flaps: Flaps::default(),
            externals: HashMap::new(),
            fallen: VecDeque::new(),
            timers: BTreeSet::new(),
            latest_now: Timestamp::MIN,
            limit_set_aside_at: None,
            limit_calm_since: None,
            changes: Changes::default(),
            changed_groups: BTreeSet::new(),
            notices: Vec::new(),
            version: 0,
        }
    }

    /// Takes out what has changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        for key in std::mem::take(&mut self.changed_groups) {
            let (active, ended) = (&self.by_id, &self.ended);
            let group = self.groups.change(&key, |group| {
                // Ends that a new beginning has replaced.
                let alerts = &mut group.record.alerts;
                alerts.retain(|id| active.contains_key(id) || ended.get(*id).is_some());
                group.record.clone()
            });
            self.changes.group(key.to_string(), group);
        }
        let incidents = self.incidents.take_changes();
        self.changes.incidents(incidents.incidents, incidents.events);
        std::mem::take(&mut self.changes)
    }

    /// Gives what the running conditions say of a label set's alert, the rules that have a part in it, and
    /// since when the first of them holds.
    fn held(&self, fingerprint: u64) -> (Vec<Hold>, Vec<RuleId>, Timestamp) {
        let (mut holds, mut rules) = (Vec::new(), Vec::new());
        let mut active_at = Timestamp::MAX;
        for rule in self.holders.get(&fingerprint).map_or(&[][..], Vec::as_slice) {
            let Some(hold) = self.rules.get(rule).and_then(|holds| holds.get(&fingerprint)) else {
                continue;
            };
            let before = holds.len();
            for (clock, level) in hold.parts() {
                active_at = active_at.min(clock.active_at);
                holds.push(Hold {
                    is_firing: clock.is_firing(),
                    level,
                });
            }
            if holds.len() > before {
                rules.push(*rule);
            }
        }
        (holds, rules, active_at)
    }

    /// Lets the alert of a label set follow its conditions.
    pub fn settle(&mut self, fingerprint: u64, at: Timestamp, seen: Option<&Seen<'_>>, cause: Cause<'_>) {
        let (holds, rules, active_at) = self.held(fingerprint);
        let old = self.active.get(&fingerprint).map(|alert| alert.state);
        match (life::decide(old, &holds), old, seen) {
            (Next::Inactive, ..) => {}
            // Only a rule that sees the condition can tell what a new alert says.
            (Next::Pend(_) | Next::Fire(_), None, None) => {}
            (Next::Pend(level), _, seen) => {
                if let Some(seen) = seen {
                    let id = self.begin(fingerprint, at, active_at, level, rules, seen);
                    self.event(id, at, None, AlertEventKind::Pending);
                }
            }
            (Next::Fire(level), None, Some(seen)) => {
                self.begin(fingerprint, at, active_at, level, rules, seen);
                self.fire(
                    fingerprint,
                    at,
                    level,
                    seen.is_revived.then_some(REASON_STILL_TRUE),
                );
            }
            (Next::Fire(level), Some(_), _) => {
                self.refresh(fingerprint, active_at, rules, seen);
                self.fire(fingerprint, at, level, None);
            }
            (Next::Stay(level), ..) => {
                self.refresh(fingerprint, active_at, rules, seen);
                self.set_level(fingerprint, at, level);
            }
            (Next::Drop, ..) => self.drop_pending(fingerprint),
            (Next::Resolve, ..) => {
                self.refresh(fingerprint, active_at, Vec::new(), seen);
                self.resolve(fingerprint, at, cause);
            }
        }
    }

    /// Makes a pending alert; one that fires at once is fired by the caller.
    fn begin(
        &mut self,
        fingerprint: u64,
        at: Timestamp,
        active_at: Timestamp,
        level: Level,
        rules: Vec<RuleId>,
        seen: &Seen<'_>,
    ) -> Id {
        let external = seen
            .starts_at
            .and_then(|_| self.externals.get(&fingerprint).cloned());
        let alert = Alert {
            id: Id::new(at, self.chance.as_ref()),
            labels: seen.observation.labels.clone(),
            annotations: seen.observation.annotations.clone(),
            state: AlertState::Pending,
            level,
            has_levels: seen.has_levels(),
            value: seen.observation.value,
            active_at: seen.starts_at.unwrap_or(active_at),
            fired_at: None,
            resolved_at: None,
            updated_at: at,
            rules,
            group: seen.rule.group.to_string(),
            expr: seen.rule.expr.to_string(),
            acknowledged: None,
            suppressed_by: Vec::new(),
            assigned: None,
            external,
            incident: None,
            flaps: 0,
        };
        let id = alert.id;
        self.insert_active(fingerprint, alert);
        id
    }

    /// Puts a new alert among the active ones.
    pub fn insert_active(&mut self, fingerprint: u64, alert: Alert) {
        self.metrics.count_active(&alert, 1);
        let alert = Arc::new(alert);
        self.by_id.insert(alert.id, fingerprint);
        self.changes.alert(&alert);
        self.active.insert(fingerprint, alert);
        self.version += 1;
    }

    /// Takes what is newest from the rule that leads, the first of those that hold the alert.
    fn refresh(
        &mut self,
        fingerprint: u64,
        active_at: Timestamp,
        rules: Vec<RuleId>,
        seen: Option<&Seen<'_>>,
    ) {
        let Some(alert) = self.active.get_mut(&fingerprint) else {
            return;
        };
        if let Some(seen) = seen
            && rules.first().is_none_or(|leader| *leader == seen.rule.id)
        {
            if alert.has_levels != seen.has_levels() {
                Arc::make_mut(alert).has_levels = seen.has_levels();
                self.changes.alert(alert);
                self.version += 1;
            }
            let is_same = alert.value.to_bits() == seen.observation.value.to_bits()
                && alert.annotations == seen.observation.annotations
                && *alert.expr == *seen.rule.expr
                && *alert.group == *seen.rule.group;
            if !is_same {
                let alert = Arc::make_mut(alert);
                alert.value = seen.observation.value;
                alert.annotations = seen.observation.annotations.clone();
                alert.expr = seen.rule.expr.to_string();
                alert.group = seen.rule.group.to_string();
                self.version += 1;
            }
        }
        let is_pending = alert.state == AlertState::Pending;
        let has_moved = is_pending && active_at != Timestamp::MAX && alert.active_at != active_at;
        // The rules of an alert that is over stay in its record.
        let has_other_rules = !rules.is_empty() && alert.rules != rules;
        if has_moved || has_other_rules {
            let changed = Arc::make_mut(alert);
            if has_moved {
                changed.active_at = active_at;
            }
            if has_other_rules {
                changed.rules = rules;
            }
            self.changes.alert(alert);
            self.version += 1;
        }
    }

    /// Changes an active alert, and notes it.
    pub fn change<T>(&mut self, fingerprint: u64, change: impl FnOnce(&mut Alert) -> T) -> Option<T> {
        let alert = self.active.get_mut(&fingerprint)?;
        self.metrics.count_active(alert, -1);
        let answer = change(Arc::make_mut(alert));
        self.metrics.count_active(alert, 1);
        self.changes.alert(alert);
        self.version += 1;
        Some(answer)
    }

    /// Writes a line of an alert's story.
    pub fn event(&mut self, alert: Id, at: Timestamp, actor: Option<&str>, kind: AlertEventKind) {
        self.changes.event(AlertEvent {
            id: Id::new(at, self.chance.as_ref()),
            alert,
            at,
            actor: actor.map(str::to_owned),
            kind,
        });
    }

    fn fire(&mut self, fingerprint: u64, at: Timestamp, level: Level, reason: Option<&str>) {
        self.fire_unlimited(fingerprint, at, level, reason);
        let Some(alert) = self.active.get(&fingerprint).map(Arc::clone) else {
            return;
        };
        if self.told_firing < self.plan.config.max_active_alerts {
            self.told_firing += 1;
            self.join_groups(&alert, at);
        } else {
            self.change(fingerprint, |alert| alert.suppressed_by.push(Suppression::Limit));
            self.limited.insert(alert.id);
            self.inhibitor.ended(alert.id);
            let by = Suppression::Limit;
            self.event(alert.id, at, None, AlertEventKind::Suppressed { by });
        }
        self.join_incident(fingerprint, &alert, at);
    }

    /// Lets an alert fire without asking how many do.
    pub fn fire_unlimited(&mut self, fingerprint: u64, at: Timestamp, level: Level, reason: Option<&str>) {
        let flaps = self.flaps.began(fingerprint, at, &self.plan.config.flapping);
        let fired = self.change(fingerprint, |alert| {
            alert.state = AlertState::Firing;
            alert.level = level;
            // What another program sent began when that says.
            alert.fired_at = Some(if alert.external.is_some() {
                alert.active_at.min(at)
            } else {
                at
            });
            alert.flaps = flaps;
            alert.updated_at = at;
            alert.id
        });
        let Some(alert) = fired else { return };
        let reason = reason.map(str::to_owned);
        self.event(alert, at, None, AlertEventKind::Fired { level, reason });
        self.metrics.count_fired(level);
        self.note_flapping(alert, fingerprint, at, flaps);
        self.note_started(fingerprint, at);
        if let Some(alert) = self.active.get(&fingerprint).map(Arc::clone) {
            self.notices.push(Notice { alert, level });
        }
    }

    fn set_level(&mut self, fingerprint: u64, at: Timestamp, to: Level) {
        let Some(alert) = self.active.get(&fingerprint) else {
            return;
        };
        let (id, from, state) = (alert.id, alert.level, alert.state);
        if from == to {
            return;
        }
        self.change(fingerprint, |alert| {
            alert.level = to;
            alert.updated_at = at;
        });
        if state != AlertState::Firing {
            return;
        }
        self.event(id, at, None, AlertEventKind::LevelChanged { from, to });
        self.note_relabelled(fingerprint, at);
        let has_risen = |taken: &Acknowledgement| to > taken.level;
        if self
            .active
            .get(&fingerprint)
            .is_some_and(|alert| alert.acknowledged.as_ref().is_some_and(has_risen))
        {
            self.end_acknowledgement(fingerprint, at, None, &format!("the level rose to {to}"));
        }
    }

    /// Ends an acknowledgement, with the reason in the story.
    pub fn end_acknowledgement(
        &mut self,
        fingerprint: u64,
        at: Timestamp,
        actor: Option<&str>,
        reason: &str,
    ) {
        let id = self.change(fingerprint, |alert| {
            alert.acknowledged = None;
            alert.updated_at = at;
            alert.id
        });
        if let Some(id) = id {
            let reason = reason.to_owned();
            self.event(id, at, actor, AlertEventKind::Unacknowledged { reason });
        }
    }

    fn drop_pending(&mut self, fingerprint: u64) {
        if let Some(alert) = self.active.remove(&fingerprint) {
            self.metrics.count_active(&alert, -1);
            self.by_id.remove(&alert.id);
            self.changes.drop_alert(alert.id);
            self.version += 1;
        }
    }

    /// Ends an alert that fired; its group still has to tell of the end.
    pub fn resolve(&mut self, fingerprint: u64, at: Timestamp, cause: Cause<'_>) {
        let ended = self.change(fingerprint, |alert| {
            alert.state = AlertState::Resolved;
            let over_at = alert
                .external
                .as_ref()
                .map_or(at, |source| source.ends_at.min(at));
            // A clock that was set back must not let an alert end before it began.
            alert.resolved_at = Some(alert.fired_at.map_or(over_at, |fired_at| fired_at.max(over_at)));
            alert.updated_at = at;
        });
        if ended.is_none() {
            return;
        }
        let Some(alert) = self.active.remove(&fingerprint) else {
            return;
        };
        self.by_id.remove(&alert.id);
        let reason = cause.reason.to_owned();
        self.event(alert.id, at, cause.actor, AlertEventKind::Resolved { reason });
        let was_told = !self.limited.remove(&alert.id);
        if was_told && !limit::is_own(&alert) {
            self.told_firing = self.told_firing.saturating_sub(1);
        }
        if !self.groups.of(alert.id).is_empty() {
            self.ended.insert(Arc::clone(&alert));
        }
        self.note_ended(&alert, at);
    }
}

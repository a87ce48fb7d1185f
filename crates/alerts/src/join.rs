//! How alerts come into groups, and how groups follow a new tree of routes.
//!
//! An alert joins one group for each route that its labels take. It leaves a group only when that has told of its
//! end: a level that falls and so takes another route adds a group, and closes nothing by surprise.
//! When the tree changes, what was told goes along by the channel's name, so a reload is no news; and what a channel
//! heard that no route of the alert leads to any more stays in a log of its own, so that it is still closed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use marketprism_model::alert::Suppression;
use marketprism_model::labels::SEVERITY;
use marketprism_model::records::{GroupRecord, ToldRecord};
use marketprism_model::{Alert, AlertEventKind, AlertState, Id, Labels, Level, Notification, Timestamp};

use crate::book::Book;
use crate::flush::NEVER;
use crate::group::{self, told_level};
use crate::groups::{Group, Kind};
use crate::plan::Plan;

/// A group that an alert belongs to.
struct Place {
    key: String,
    kind: Kind,
    labels: Labels,
    receiver: String,
}

impl Book {
    /// Puts an alert that begins to be told into the groups of its routes.
    pub fn join_groups(&mut self, alert: &Arc<Alert>, at: Timestamp) {
        // The same labels firing again before their end was told: nothing ended for whoever hears of it.
        let inherited = self.take_replaced(alert.fingerprint());
        let plan = Arc::clone(&self.plan);
        let mut storms: Vec<(String, bool)> = Vec::new();
        for route in plan.tree.find(&alert.sent_labels()) {
            let mut place = place_of(&plan, route, alert);
            // The digest of a storm that told the one before speaks for this one as well.
            let storm = storm_key(&place.receiver, plan.tree.route(route).escalation.as_deref());
            if alert.level < Level::Critical && inherited.iter().any(|key| **key == *storm) {
                continue;
            }
            if inherited.is_empty() {
                let known = storms.iter().find(|(receiver, _)| *receiver == place.receiver);
                let is_storm = known.map(|(_, is_storm)| *is_storm).unwrap_or_else(|| {
                    let is_storm = self.storms.began(&place.receiver, at, &plan.config.storm);
                    storms.push((place.receiver.clone(), is_storm));
                    is_storm
                });
                let opens_group = self.groups.get(&place.key).is_none();
                if is_storm && opens_group && alert.level < Level::Critical {
                    place = storm_place(&plan, route);
                    self.note_storm(alert, at);
                }
            }
            self.enter(place, alert, at);
        }
        for key in inherited {
            if let Some(group) = self.groups.get(&key) {
                let place = Place {
                    key: group.record.key.clone(),
                    kind: group.kind.clone(),
                    labels: group.record.labels.clone(),
                    receiver: group.record.receiver.clone(),
                };
                self.enter(place, alert, at);
                // After a restart the record tells which alert took the place of the one that was told.
                self.changed_groups.insert(key);
            }
        }
    }

    /// Puts an alert whose level changed into the groups of the routes that it takes now as well.
    pub fn join_more_groups(&mut self, alert: &Arc<Alert>, at: Timestamp) {
        let plan = Arc::clone(&self.plan);
        for route in plan.tree.find(&alert.sent_labels()) {
            let place = place_of(&plan, route, alert);
            let storm = storm_place(&plan, route).key;
            let is_spoken_for = self.groups.of(alert.id).iter().any(|key| **key == *storm);
            let key: Arc<str> = Arc::from(place.key.as_str());
            if (!is_spoken_for || alert.level == Level::Critical) && self.enter(place, alert, at) {
                self.changed_groups.insert(key);
            }
        }
    }

    /// Takes out the ended alert with these labels, whose end was not told everywhere; gives where it was not.
    fn take_replaced(&mut self, fingerprint: u64) -> Vec<Arc<str>> {
        let Some(replaced) = self.ended.of(fingerprint) else {
            return Vec::new();
        };
        self.ended.remove(replaced);
        self.groups.forget(replaced)
    }

    fn note_storm(&mut self, alert: &Arc<Alert>, at: Timestamp) {
        let is_new = self.change(alert.fingerprint(), |alert| {
            let is_new = !alert.suppressed_by.contains(&Suppression::Storm);
            if is_new {
                alert.suppressed_by.push(Suppression::Storm);
                alert.suppressed_by.sort_unstable();
            }
            is_new
        });
        if is_new == Some(true) {
            let by = Suppression::Storm;
            self.event(alert.id, at, None, AlertEventKind::Suppressed { by });
        }
    }

    /// Puts an alert into a group, which begins to wait when it is new; says whether it was not in it yet.
    fn enter(&mut self, place: Place, alert: &Alert, at: Timestamp) -> bool {
        let wait = self.plan.wait(&place.kind);
        let is_storm = matches!(place.kind, Kind::Storm(_));
        let key = match self.groups.key(&place.key) {
            Some(key) => Arc::clone(key),
            None => {
                let key: Arc<str> = Arc::from(place.key.as_str());
                let record = new_record(place.key, place.labels, place.receiver, at + wait);
                let group = Group {
                    record,
                    kind: place.kind,
                    wake_at: None,
                };
                self.groups.put(Arc::clone(&key), group);
                self.changed_groups.insert(Arc::clone(&key));
                key
            }
        };
        if !self.groups.enter(alert.id, &key) {
            return false;
        }
        // Who is in a storm's group stands only in its record; who is in another, the routes tell.
        if is_storm {
            self.changed_groups.insert(Arc::clone(&key));
        }
        // One that another program saw begin long ago has waited already.
        let has_waited = alert.fired_at.is_some_and(|fired_at| fired_at + wait < at);
        self.groups.change(&key, |group| {
            group.record.alerts.push(alert.id);
            if has_waited && !group.record.is_flushed {
                group.record.flush_at = group.record.flush_at.min(at);
            }
        });
        true
    }

    /// Gives the alert of a group's entry, firing or ended.
    pub fn grouped(&self, id: Id) -> Option<&Arc<Alert>> {
        match self.by_id.get(&id) {
            Some(fingerprint) => self.active.get(fingerprint),
            None => self.ended.get(id),
        }
    }

    /// Builds all groups anew from `old` ones. `is_restart`: the tree may be the same, so alerts also stay in groups
    /// that they joined at another level; after a reload they take the routes of now.
    pub fn regroup(&mut self, old: Vec<GroupRecord>, is_restart: bool, now: Timestamp) {
        let plan = Arc::clone(&self.plan);
        let old = Old::new(old);
        let mut moved: HashMap<String, Group> = HashMap::new();
        let mut seen = HashSet::new();
        for id in old.records.iter().flat_map(|record| &record.alerts) {
            if !seen.insert(*id) {
                continue;
            }
            let Some(alert) = self.grouped(*id).map(Arc::clone) else {
                continue;
            };
            let places = old.places(&plan, &alert, is_restart);
            old.move_alert(&plan, &alert, places, &mut moved, now);
        }
        self.replace_groups(&old, moved, now);
        for alert in self.firing_told() {
            let places = old.places(&plan, &alert, is_restart);
            for place in places {
                self.enter(place, &alert, now);
            }
        }
    }

    fn replace_groups(&mut self, old: &Old, moved: HashMap<String, Group>, now: Timestamp) {
        self.groups = Default::default();
        for record in &old.records {
            if !moved.contains_key(&record.key) {
                self.changed_groups.insert(Arc::from(record.key.as_str()));
            }
        }
        for (key, mut group) in moved {
            let key: Arc<str> = Arc::from(key);
            match old.by_key(&key) {
                Some(record) if is_same(record, &group.record) => group.record = record.clone(),
                _ => {
                    self.changed_groups.insert(Arc::clone(&key));
                }
            }
            for id in &group.record.alerts {
                self.groups.enter(*id, &key);
            }
            group.wake_at = self.wake_at(&group, now);
            self.groups.put(key, group);
        }
        // The next look at the clock brings forward what the new settings, or an old clock, put too far away.
        self.latest_now = Timestamp::MAX;
        let (groups, ended) = (&self.groups, &mut self.ended);
        ended.retain(|id| !groups.of(id).is_empty());
    }

    /// Gives firing alerts that are to be told, the oldest first.
    fn firing_told(&self) -> Vec<Arc<Alert>> {
        let mut firing: Vec<Arc<Alert>> = self
            .active
            .values()
            .filter(|alert| alert.state == AlertState::Firing && !self.limited.contains(&alert.id))
            .map(Arc::clone)
            .collect();
        firing.sort_unstable_by_key(|alert| alert.id);
        firing
    }
}

/// The groups before a change, by key and by alert.
struct Old {
    records: Vec<GroupRecord>,
    by_key: HashMap<String, usize>,
    of: HashMap<Id, Vec<usize>>,
}

impl Old {
    fn new(mut records: Vec<GroupRecord>) -> Self {
        records.sort_by(|a, b| a.key.cmp(&b.key));
        let by_key = records
            .iter()
            .enumerate()
            .map(|(at, record)| (record.key.clone(), at))
            .collect();
        let mut of: HashMap<Id, Vec<usize>> = HashMap::new();
        for (at, record) in records.iter().enumerate() {
            for id in &record.alerts {
                of.entry(*id).or_default().push(at);
            }
        }
        Old { records, by_key, of }
    }

    fn by_key(&self, key: &str) -> Option<&GroupRecord> {
        self.by_key.get(key).map(|at| &self.records[*at])
    }

    fn of(&self, alert: Id) -> impl Iterator<Item = &GroupRecord> {
        let homes = self.of.get(&alert).map_or(&[][..], Vec::as_slice);
        homes.iter().map(|at| &self.records[*at])
    }

    /// Gives the groups that an alert belongs to now.
    fn places(&self, plan: &Plan, alert: &Alert, is_restart: bool) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        let mut add = |place: Place| {
            if places.iter().all(|known| known.key != place.key) {
                places.push(place);
            }
        };
        for route in plan.tree.find(&alert.sent_labels()) {
            let place = place_of(plan, route, alert);
            let is_storm = self
                .of(alert.id)
                .any(|old| old.receiver == place.receiver && old.key.starts_with(STORM));
            add(if is_storm { storm_place(plan, route) } else { place });
        }
        if is_restart {
            for record in self.of(alert.id) {
                let place = match (plan.route_of(record), plan.storm_of(record)) {
                    // The configuration may have changed while the process was away.
                    (Some(route), _) if !may_lead_to(plan, route, alert) => continue,
                    (Some(route), _) => place_of(plan, route, alert),
                    (None, Some(kind)) => Place {
                        key: record.key.clone(),
                        kind,
                        labels: Labels::empty(),
                        receiver: record.receiver.clone(),
                    },
                    (None, None) => continue,
                };
                if place.key == record.key {
                    add(place);
                }
            }
        }
        places
    }

    /// Moves an alert, and what was told of it, to where it belongs now.
    fn move_alert(
        &self,
        plan: &Plan,
        alert: &Alert,
        places: Vec<Place>,
        moved: &mut HashMap<String, Group>,
        now: Timestamp,
    ) {
        let fingerprint = alert.fingerprint();
        let keys: Vec<String> = places.iter().map(|place| place.key.clone()).collect();
        let (stayed, left): (Vec<&GroupRecord>, Vec<&GroupRecord>) =
            self.of(alert.id).partition(|old| keys.contains(&old.key));
        for place in places {
            let key = place.key.clone();
            let home = stayed.iter().find(|old| old.key == key);
            let group = moved.entry(place.key.clone()).or_insert_with(|| {
                let mut group = self.begin(plan, place, now);
                // A group that begins out of others goes on in their pace.
                if self.by_key(&key).is_none()
                    && let Some(flush_at) = left.iter().map(|old| old.flush_at).min()
                {
                    group.record.flush_at = flush_at;
                }
                group
            });
            if home.is_none() {
                for old in &left {
                    group.record.flush_at = group.record.flush_at.min(old.flush_at);
                    group.record.is_flushed |= old.is_flushed;
                }
            }
            group.record.alerts.push(alert.id);
            for told in home.iter().flat_map(|old| &old.told) {
                carry(&mut group.record.told, told, fingerprint);
            }
        }
        for old in &left {
            for told in logs_of(old) {
                carry_over(plan, told, fingerprint, &keys, &stayed, moved);
            }
        }
    }

    /// Makes the group of a place, out of the one that had the same key.
    fn begin(&self, plan: &Plan, place: Place, now: Timestamp) -> Group {
        let wait = plan.wait(&place.kind);
        let mut record = new_record(place.key, place.labels, place.receiver, now + wait);
        if let Some(old) = self.by_key(&record.key) {
            record.flush_at = old.flush_at;
            record.is_flushed = old.is_flushed;
            record.escalation.clone_from(&old.escalation);
        }
        Group {
            record,
            kind: place.kind,
            wake_at: None,
        }
    }
}

/// Takes what a channel was told of an alert out of a group that the alert left, to those it came to that tell the
/// same channel; to the first of all its groups when none does, so that it is closed there.
fn carry_over(
    plan: &Plan,
    told: &ToldRecord,
    fingerprint: u64,
    keys: &[String],
    stayed: &[&GroupRecord],
    moved: &mut HashMap<String, Group>,
) {
    if told_level(told, fingerprint).is_none() {
        return;
    }
    let is_new = |key: &&String| stayed.iter().all(|old| old.key != **key);
    let mut is_carried = false;
    for key in keys.iter().filter(is_new) {
        let Some(group) = moved.get_mut(key) else { continue };
        let mut channels = plan.channels(&group.record.receiver).iter();
        if channels.any(|channel| channel.name == told.channel) {
            carry(&mut group.record.told, told, fingerprint);
            is_carried = true;
        }
    }
    let is_known = |key: &String| {
        let group = moved.get(key);
        let mut logs = group.iter().flat_map(|group| &group.record.told);
        logs.any(|log| log.channel == told.channel && told_level(log, fingerprint).is_some())
    };
    if !is_carried
        && !keys.iter().any(is_known)
        && let Some(group) = keys.first().and_then(|key| moved.get_mut(key))
    {
        carry(&mut group.record.told, told, fingerprint);
    }
}

/// Gives what the channels of a group, and of its escalation, were told.
fn logs_of(record: &GroupRecord) -> impl Iterator<Item = &ToldRecord> {
    let steps = record.escalation.iter().flat_map(|steps| &steps.told);
    record.told.iter().chain(steps)
}

/// Takes what a channel was told of one alert into another log.
fn carry(logs: &mut Vec<ToldRecord>, told: &ToldRecord, fingerprint: u64) {
    let Some(level) = told_level(told, fingerprint) else {
        return;
    };
    let entry = (fingerprint, level);
    match logs.iter_mut().find(|log| log.channel == told.channel) {
        Some(log) => {
            // What was given up in either place is told again.
            let is_given_up = log.at == NEVER || told.at == NEVER;
            log.at = if is_given_up { NEVER } else { log.at.max(told.at) };
            if let Err(place) = log.firing.binary_search_by_key(&fingerprint, |(known, _)| *known) {
                log.firing.insert(place, entry);
            }
        }
        None => logs.push(ToldRecord {
            channel: told.channel.clone(),
            at: told.at,
            firing: vec![entry],
            resolved: Vec::new(),
        }),
    }
}

/// Says whether a group has the same alerts as before.
fn is_same(old: &GroupRecord, new: &GroupRecord) -> bool {
    if old.alerts.len() != new.alerts.len() || old.receiver != new.receiver {
        return false;
    }
    let known: HashSet<&Id> = old.alerts.iter().collect();
    let told = |record: &GroupRecord| record.told.iter().map(|log| log.firing.len()).sum::<usize>();
    new.alerts.iter().all(|id| known.contains(id)) && told(old) == told(new)
}

fn new_record(key: String, labels: Labels, receiver: String, flush_at: Timestamp) -> GroupRecord {
    GroupRecord {
        key,
        labels,
        receiver,
        flush_at,
        is_flushed: false,
        alerts: Vec::new(),
        told: Vec::new(),
        escalation: None,
    }
}

/// Gives the bare record of a group that is no more, from a message of it.
pub(crate) fn record_of(message: &Notification) -> GroupRecord {
    new_record(
        message.group_key.clone(),
        message.content.group_labels.clone(),
        message.receiver.clone(),
        message.created_at,
    )
}

/// Says whether an alert takes a route at one of its levels; it stays in the groups of those that it had.
fn may_lead_to(plan: &Plan, route: crate::routing::RouteIndex, alert: &Alert) -> bool {
    let leads = |labels: &Labels| plan.tree.find(labels).contains(&route);
    let at_level = |level: &Level| leads(&alert.labels.with(SEVERITY, level.as_str()));
    leads(&alert.sent_labels()) || (alert.has_levels && Level::ALL.iter().any(at_level))
}

fn place_of(plan: &Plan, index: crate::routing::RouteIndex, alert: &Alert) -> Place {
    let route = plan.tree.route(index);
    let labels = group::group_labels(route, alert);
    Place {
        key: group::group_key(&route.key, &labels),
        kind: Kind::Route(index),
        labels,
        receiver: route.receiver.clone(),
    }
}

fn storm_place(plan: &Plan, index: crate::routing::RouteIndex) -> Place {
    let route = plan.tree.route(index);
    Place {
        key: storm_key(&route.receiver, route.escalation.as_deref()),
        kind: Kind::Storm(route.escalation.as_deref().map(Arc::from)),
        labels: Labels::empty(),
        receiver: route.receiver.clone(),
    }
}

/// How the key of a storm's group begins; no route's key begins like it.
const STORM: &str = "{storm}";

/// Gives the key of the group that speaks for a storm over a receiver, among alerts that escalate by one policy.
pub(crate) fn storm_key(receiver: &str, policy: Option<&str>) -> String {
    match policy {
        None => format!("{STORM}:{receiver}"),
        Some(policy) => format!("{STORM}/{{escalation={policy:?}}}:{receiver}"),
    }
}

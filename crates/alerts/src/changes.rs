//! What has changed since the last write: the latest state of each record, and the events in their order.
//!
//! When the store refuses, the changes come back and newer ones are laid over them, so a database that is
//! away for long costs one entry a record. What grows with time even so, events and ended alerts, has a
//! bound; beyond it the oldest are lost, and counted. It is kept only where changes come back: while the store
//! takes what it is given nothing is lost, however much a single turn brings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use marketprism_model::records::GroupRecord;
use marketprism_model::{
    Alert, AlertCommit, AlertEvent, AlertState, ClockRecord, Id, Incident, IncidentEvent, Level,
    Notification, RuleId, ShiftOverride, Silence,
};

use crate::condition::ConditionClock;

/// Events that wait for the store; beyond it the oldest are lost.
const EVENTS_MAX: usize = 100_000;
/// Alerts that wait for the store; beyond it the oldest resolved ones are lost.
const ALERTS_MAX: usize = 100_000;

/// The key of a clock: rule, fingerprint, position of the condition.
pub(crate) type ClockKey = (RuleId, u64, u32);

/// Changes on their way to the store.
#[derive(Default)]
pub(crate) struct Changes {
    alerts: BTreeMap<Id, Arc<Alert>>,
    dropped_alerts: BTreeSet<Id>,
    events: VecDeque<AlertEvent>,
    clocks: BTreeMap<ClockKey, Option<(ConditionClock, Level)>>,
    groups: BTreeMap<String, Option<GroupRecord>>,
    outbox: Vec<Notification>,
    silences: BTreeMap<Id, Silence>,
    incidents: BTreeMap<Id, Incident>,
    incident_events: VecDeque<IncidentEvent>,
    overrides: BTreeMap<Id, Option<ShiftOverride>>,
    lost: u64,
}

impl Changes {
    /// Says whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
            && self.dropped_alerts.is_empty()
            && self.events.is_empty()
            && self.clocks.is_empty()
            && self.groups.is_empty()
            && self.outbox.is_empty()
            && self.silences.is_empty()
            && self.incidents.is_empty()
            && self.incident_events.is_empty()
            && self.overrides.is_empty()
    }

    /// Counts the messages to be sent.
    pub fn messages(&self) -> usize {
        self.outbox.len()
    }

    /// Notes an alert as it stands now.
    pub fn alert(&mut self, alert: &Arc<Alert>) {
        self.alerts.insert(alert.id, Arc::clone(alert));
    }

    /// Gives a changed alert as it stands now.
    pub fn alert_of(&self, id: Id) -> Option<Arc<Alert>> {
        self.alerts.get(&id).map(Arc::clone)
    }

    /// Notes that a pending alert vanished.
    pub fn drop_alert(&mut self, id: Id) {
        self.alerts.remove(&id);
        self.dropped_alerts.insert(id);
    }

    /// Notes an event.
    pub fn event(&mut self, event: AlertEvent) {
        self.events.push_back(event);
    }

    /// Notes a clock as it stands now, or that it ended.
    pub fn clock(&mut self, key: ClockKey, clock: Option<(ConditionClock, Level)>) {
        self.clocks.insert(key, clock);
    }

    /// Notes a group as it stands now; `None` when it is empty and told of.
    pub fn group(&mut self, key: String, group: Option<GroupRecord>) {
        self.groups.insert(key, group);
    }

    /// Notes a message.
    pub fn message(&mut self, notification: Notification) {
        self.outbox.push(notification);
    }

    /// Notes a silence as it stands now.
    pub fn silence(&mut self, silence: Silence) {
        self.silences.insert(silence.id, silence);
    }

    /// Notes incidents as they stand now, and what happened to them.
    pub fn incidents(&mut self, incidents: Vec<Incident>, events: Vec<IncidentEvent>) {
        self.incidents
            .extend(incidents.into_iter().map(|incident| (incident.id, incident)));
        self.incident_events.extend(events);
    }

    /// Notes an override as it stands now, `None` when it was taken back.
    pub fn arranged(&mut self, id: Id, arranged: Option<ShiftOverride>) {
        self.overrides.insert(id, arranged);
    }

    /// Puts back what the store refused, under what has changed since.
    pub fn put_back(&mut self, older: Changes) {
        for (id, alert) in older.alerts {
            if !self.dropped_alerts.contains(&id) {
                self.alerts.entry(id).or_insert(alert);
            }
        }
        self.dropped_alerts.extend(older.dropped_alerts);
        let newer = std::mem::replace(&mut self.events, older.events);
        self.events.extend(newer);
        for (key, clock) in older.clocks {
            self.clocks.entry(key).or_insert(clock);
        }
        for (key, group) in older.groups {
            self.groups.entry(key).or_insert(group);
        }
        for (id, silence) in older.silences {
            self.silences.entry(id).or_insert(silence);
        }
        for (id, incident) in older.incidents {
            self.incidents.entry(id).or_insert(incident);
        }
        let newer = std::mem::replace(&mut self.incident_events, older.incident_events);
        self.incident_events.extend(newer);
        for (id, arranged) in older.overrides {
            self.overrides.entry(id).or_insert(arranged);
        }
        let newer = std::mem::replace(&mut self.outbox, older.outbox);
        self.outbox.extend(newer);
        self.lost += older.lost;
        self.trim();
    }

    /// Gives how many records were lost for want of room since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn trim(&mut self) {
        while self.events.len() > EVENTS_MAX {
            self.events.pop_front();
            self.lost += 1;
        }
        while self.incident_events.len() > EVENTS_MAX {
            self.incident_events.pop_front();
            self.lost += 1;
        }
        if self.alerts.len() > ALERTS_MAX {
            let excess = self.alerts.len() - ALERTS_MAX;
            let oldest: Vec<Id> = self
                .alerts
                .values()
                .filter(|alert| alert.state == AlertState::Resolved)
                .map(|alert| alert.id)
                .take(excess)
                .collect();
            self.lost += oldest.len() as u64;
            for id in oldest {
                self.alerts.remove(&id);
            }
        }
    }

    /// Gives the transaction that writes all of it.
    pub fn to_commit(&self) -> AlertCommit {
        let (mut clocks, mut dropped_clocks) = (Vec::new(), Vec::new());
        for (key, clock) in &self.clocks {
            match clock {
                Some((clock, level)) => clocks.push(record(*key, clock, *level)),
                None => dropped_clocks.push(*key),
            }
        }
        let (mut groups, mut dropped_groups) = (Vec::new(), Vec::new());
        for (key, group) in &self.groups {
            match group {
                Some(group) => groups.push(group.clone()),
                None => dropped_groups.push(key.clone()),
            }
        }
        AlertCommit {
            alerts: self.alerts.values().map(|alert| Alert::clone(alert)).collect(),
            dropped_alerts: self.dropped_alerts.iter().copied().collect(),
            events: self.events.iter().cloned().collect(),
            clocks,
            dropped_clocks,
            groups,
            dropped_groups,
            outbox: self.outbox.clone(),
            silences: self.silences.values().cloned().collect(),
            incidents: self.incidents.values().cloned().collect(),
            incident_events: self.incident_events.iter().cloned().collect(),
            overrides: self.overrides.values().flatten().cloned().collect(),
            dropped_overrides: self
                .overrides
                .iter()
                .filter(|(_, arranged)| arranged.is_none())
                .map(|(id, _)| *id)
                .collect(),
        }
    }
}

fn record((rule, fingerprint, condition): ClockKey, clock: &ConditionClock, level: Level) -> ClockRecord {
    ClockRecord {
        rule,
        fingerprint,
        condition,
        level,
        active_at: clock.active_at,
        fired_at: clock.fired_at,
        seen_at: clock.seen_at,
        missed_since: clock.missed_since,
        unknown_since: clock.unknown_since,
        set_aside_at: clock.set_aside_at,
    }
}

#[cfg(test)]
mod tests {
    use marketprism_model::{AlertEventKind, Timestamp};

    use super::*;

    fn event(n: usize) -> AlertEvent {
        AlertEvent {
            id: Id::from_u128(n as u128),
            alert: Id::from_u128(1),
            at: Timestamp::from_millis(n as i64),
            actor: None,
            kind: AlertEventKind::Pending,
        }
    }

    #[test]
    fn what_came_back_goes_before_what_is_newer() {
        let mut older = Changes::default();
        older.event(event(1));
        older.group("g".to_owned(), None);
        let mut newer = Changes::default();
        newer.event(event(2));
        newer.put_back(older);
        let commit = newer.to_commit();
        assert_eq!(commit.events, [event(1), event(2)]);
        assert_eq!(commit.dropped_groups, ["g"]);
    }

    #[test]
    fn what_changed_while_the_store_refused_stands_over_what_came_back() {
        let clock = ConditionClock {
            active_at: Timestamp::from_millis(1),
            fired_at: None,
            seen_at: Timestamp::from_millis(1),
            missed_since: None,
            unknown_since: None,
            set_aside_at: None,
        };
        let group = |flush_at| GroupRecord {
            key: "g".to_owned(),
            labels: Default::default(),
            receiver: "r".to_owned(),
            flush_at: Timestamp::from_millis(flush_at),
            is_flushed: false,
            alerts: Vec::new(),
            told: Vec::new(),
            escalation: None,
        };
        let key = (RuleId(1), 2, 3);
        let (mut older, mut newer) = (Changes::default(), Changes::default());
        older.clock(key, Some((clock, Level::High)));
        older.group("g".to_owned(), Some(group(1)));
        newer.clock(key, None);
        newer.group("g".to_owned(), Some(group(2)));
        newer.put_back(older);
        let commit = newer.to_commit();
        assert_eq!((commit.clocks, commit.dropped_clocks), (vec![], vec![key]));
        assert_eq!(commit.groups, [group(2)]);
    }

    /// 100,500 alerts recovered in one turn while the store was well; the ends of 500 were thrown away, and the
    /// records said for ever that they fire.
    #[test]
    fn events_beyond_the_bound_are_lost_from_the_oldest_on_and_counted() {
        let mut changes = Changes::default();
        for n in 0..EVENTS_MAX + 3 {
            changes.event(event(n));
        }
        assert_eq!(changes.take_lost(), 0, "the store has not refused them");
        let refused = std::mem::take(&mut changes);
        changes.put_back(refused);
        assert_eq!((changes.take_lost(), changes.take_lost()), (3, 0));
        let commit = changes.to_commit();
        assert_eq!((commit.events.len(), &commit.events[0]), (EVENTS_MAX, &event(3)));
    }
}

//! How the book is filled at the start from what the store kept.

use std::collections::HashMap;
use std::sync::Arc;

use marketprism_model::alert::Suppression;
use marketprism_model::records::GroupRecord;
use marketprism_model::{Alert, AlertSnapshot, AlertState, ClockRecord, Id, Incident, RuleId, Timestamp};

use crate::book::{Book, RuleHold};
use crate::condition::ConditionClock;
use crate::flush::next_tick;
use crate::groups::Kind;
use crate::limit;

/// A rule has far fewer conditions; a position beyond it is a damaged record.
const CONDITIONS_MAX: u32 = 64;

impl Book {
    /// Takes up everything where it stood. `now` is only for groups that must begin to wait anew.
    pub fn restore(&mut self, snapshot: AlertSnapshot, now: Timestamp) {
        for alert in snapshot.alerts {
            self.restore_alert(alert);
        }
        for record in snapshot.clocks {
            self.restore_clock(record, snapshot.heartbeat_at);
        }
        self.order_holders();
        self.silences.restore(snapshot.silences, now);
        self.drop_replaced();
        self.restore_external(now);
        let firing: Vec<u64> = self.fingerprints_firing();
        for fingerprint in firing {
            self.note_started(fingerprint, now);
        }
        let groups = snapshot
            .groups
            .into_iter()
            .map(|group| self.restored_group(group, snapshot.heartbeat_at))
            .collect();
        // Firing alerts without a group get one, too. They are always written together; a restored backup of one
        // table, or a hand in the database, must not silence an alert.
        self.regroup(groups, true, now);
        self.restore_incidents(snapshot.incidents, now);
        self.overrides = snapshot.overrides;
        self.settle_limit(now);
    }

    fn restore_alert(&mut self, alert: Alert) {
        if let (true, Some(fired_at)) = (alert.flaps > 0, alert.fired_at) {
            self.flaps.restore(alert.fingerprint(), fired_at, alert.flaps);
        }
        if alert.state == AlertState::Resolved {
            self.ended.insert(Arc::new(alert));
            return;
        }
        if alert.state == AlertState::Firing {
            if alert.suppressed_by.contains(&Suppression::Limit) {
                self.limited.insert(alert.id);
            } else if !limit::is_own(&alert) {
                self.told_firing += 1;
            }
        }
        self.metrics.count_active(&alert, 1);
        let fingerprint = alert.fingerprint();
        self.by_id.insert(alert.id, fingerprint);
        self.active.insert(fingerprint, Arc::new(alert));
        self.version += 1;
    }

    /// Takes a clock up. It was evaluated at least until the last heartbeat, though that was not written
    /// each time.
    fn restore_clock(&mut self, record: ClockRecord, heartbeat_at: Option<Timestamp>) {
        if record.condition >= CONDITIONS_MAX {
            self.changes
                .clock((record.rule, record.fingerprint, record.condition), None);
            return;
        }
        let position = record.condition as usize;
        let hold = self
            .rules
            .entry(record.rule)
            .or_default()
            .entry(record.fingerprint)
            .or_insert_with(|| RuleHold {
                clocks: Vec::new(),
                levels: Vec::new(),
            });
        if hold.clocks.len() <= position {
            hold.clocks.resize(position + 1, None);
            hold.levels.resize(position + 1, record.level);
        }
        hold.levels[position] = record.level;
        hold.clocks[position] = Some(ConditionClock {
            active_at: record.active_at,
            fired_at: record.fired_at,
            seen_at: match (record.unknown_since, heartbeat_at) {
                // Nobody could tell anything since.
                (Some(since), _) => since,
                (None, Some(beat)) => beat.max(record.seen_at),
                (None, None) => record.seen_at,
            },
            missed_since: record.missed_since,
            unknown_since: record.unknown_since,
            set_aside_at: record.set_aside_at,
        });
        let holders = self.holders.entry(record.fingerprint).or_default();
        if !holders.contains(&record.rule) {
            holders.push(record.rule);
        }
    }

    /// Brings the rules that hold an alert into the order of its record, whose first one leads.
    fn order_holders(&mut self) {
        for (fingerprint, holders) in &mut self.holders {
            let Some(alert) = self.active.get(fingerprint) else {
                continue;
            };
            let places: HashMap<RuleId, usize> = alert
                .rules
                .iter()
                .enumerate()
                .map(|(place, rule)| (*rule, place))
                .collect();
            holders.sort_by_key(|rule| (places.get(rule).copied().unwrap_or(usize::MAX), *rule));
        }
    }

    fn restore_incidents(&mut self, incidents: Vec<Incident>, now: Timestamp) {
        let firing: Vec<(Arc<Alert>, Vec<String>)> = self
            .fingerprints_firing()
            .iter()
            .filter_map(|fingerprint| self.active.get(fingerprint))
            .map(|alert| {
                let groups = self.groups.of(alert.id).iter();
                (Arc::clone(alert), groups.map(|key| key.to_string()).collect())
            })
            .collect();
        let firing = firing.iter().map(|(alert, groups)| (&**alert, groups.as_slice()));
        self.incidents.restore(incidents, firing, now);
    }

    /// Forgets ends that a new beginning has replaced: for whoever hears of them, nothing ended.
    fn drop_replaced(&mut self) {
        let (active, limited) = (&self.active, &self.limited);
        self.ended.retain_fingerprints(|fingerprint| {
            active
                .get(&fingerprint)
                .is_none_or(|alert| alert.state != AlertState::Firing || limited.contains(&alert.id))
        });
    }

    /// Gives what fires, the oldest first.
    fn fingerprints_firing(&self) -> Vec<u64> {
        let mut firing: Vec<(Id, u64)> = self
            .active
            .iter()
            .filter(|(_, alert)| alert.state == AlertState::Firing)
            .map(|(fingerprint, alert)| (alert.id, *fingerprint))
            .collect();
        firing.sort_unstable();
        firing.into_iter().map(|(_, fingerprint)| fingerprint).collect()
    }

    /// Gives a group as it would stand. Its ticks until the last heartbeat have passed, though a tick that told
    /// nothing was not written.
    fn restored_group(&self, mut group: GroupRecord, heartbeat_at: Option<Timestamp>) -> GroupRecord {
        if let Some(beat) = heartbeat_at.filter(|beat| group.is_flushed && group.flush_at <= *beat) {
            let kind = self.plan.route_of(&group).map_or(Kind::Storm(None), Kind::Route);
            group.flush_at = next_tick(group.flush_at, self.plan.interval(&kind), beat);
        }
        group
    }
}

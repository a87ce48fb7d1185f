//! How groups fill, and what is told when their time comes.
//!
//! A flush only decides and writes messages into the outbox; it sends nothing. The decision and the group's
//! log of what was told are one transaction, so a crash can neither forget a message nor decide it twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::records::{GroupRecord, ToldRecord};
use marketprism_model::{
    Alert, AlertState, Id, Labels, Notification, NotificationContent, NotificationStatus, NotifiedAlert,
    Timestamp,
};

use crate::book::Book;
use crate::config::Config;
use crate::group::{self, Member};

/// A message carries at most this many alerts; the rest is a number.
pub const ALERTS_TOLD_MAX: usize = 1_000;

impl Book {
    /// Puts a firing alert into its group, which begins to wait when it is new.
    pub fn join_group(&mut self, alert: &Arc<Alert>, at: Timestamp) {
        let labels = group::group_labels(&self.config.route, alert);
        let key = group::group_key(&labels);
        let route = &self.config.route;
        let group = self.groups.entry(key).or_insert_with_key(|key| GroupRecord {
            key: key.clone(),
            labels,
            receiver: route.receiver.clone(),
            flush_at: at + route.group_wait,
            is_flushed: false,
            alerts: Vec::new(),
            told: Vec::new(),
        });
        // The same labels firing again before their end was told: nothing ended for whoever hears of it.
        let fingerprint = alert.fingerprint();
        let (ended, group_of) = (&mut self.ended, &mut self.group_of);
        group.alerts.retain(|id| {
            let is_replaced = ended.get(id).is_some_and(|old| old.fingerprint() == fingerprint);
            if is_replaced {
                ended.remove(id);
                group_of.remove(id);
            }
            !is_replaced
        });
        group.alerts.push(alert.id);
        self.group_of.insert(alert.id, group.key.clone());
        self.changes.group(group);
    }

    /// Gives the alert of a group's entry, firing or ended.
    fn grouped(&self, id: Id) -> Option<&Arc<Alert>> {
        match self.by_id.get(&id) {
            Some(fingerprint) => self.active.get(fingerprint),
            None => self.ended.get(&id),
        }
    }

    /// Gives when the next group is due, `None` when there is none.
    pub fn next_flush(&self, now: Timestamp) -> Option<Timestamp> {
        self.groups
            .values()
            .map(|group| due_at(group, &self.config, now))
            .min()
    }

    /// Decides for every group that is due what its channels hear; gives the number of messages.
    pub fn flush(&mut self, now: Timestamp) -> usize {
        let due: Vec<String> = self
            .groups
            .values()
            .filter(|group| due_at(group, &self.config, now) <= now)
            .map(|group| group.key.clone())
            .collect();
        due.iter().map(|key| self.flush_group(key, now)).sum()
    }

    fn flush_group(&mut self, key: &str, now: Timestamp) -> usize {
        let Some(mut group) = self.groups.remove(key) else {
            return 0;
        };
        let before = group.clone();
        let config = Arc::clone(&self.config);
        let mut alerts: Vec<Arc<Alert>> = group
            .alerts
            .iter()
            .filter_map(|id| self.grouped(*id).map(Arc::clone))
            .collect();
        alerts.sort_by(|a, b| (a.fired_at, &a.labels).cmp(&(b.fired_at, &b.labels)));
        let (firing, ended): (Vec<_>, Vec<_>) = alerts
            .into_iter()
            .partition(|alert| alert.state == AlertState::Firing);
        let members: Vec<Member> = firing.iter().map(|alert| member(alert)).collect();
        let over: Vec<u64> = ended.iter().map(|alert| alert.fingerprint()).collect();
        let (mut told, mut messages) = (Vec::new(), 0);
        for channel in config.channels() {
            let log = group.told.iter().find(|told| told.channel == channel.name);
            let decision = group::decide(log, &members, &over, channel, config.route.repeat_interval, now);
            if decision.cause.is_some() {
                let is_told = |fingerprint: &u64| decision.ended.binary_search(fingerprint).is_ok();
                let ends = ended
                    .iter()
                    .zip(&over)
                    .filter(|(_, fingerprint)| is_told(fingerprint));
                let told: Vec<&Alert> = firing
                    .iter()
                    .chain(ends.map(|(alert, _)| alert))
                    .map(Arc::as_ref)
                    .collect();
                let id = Id::new(now, self.chance.as_ref());
                self.changes
                    .message(message(id, &group, &channel.name, &told, &config, now));
                messages += 1;
            }
            told.extend(decision.told);
        }
        for alert in &ended {
            self.ended.remove(&alert.id);
            self.group_of.remove(&alert.id);
        }
        group.told = told;
        group.receiver.clone_from(&config.route.receiver);
        group.alerts = firing.iter().map(|alert| alert.id).collect();
        group.is_flushed = true;
        group.flush_at = next_tick(before.flush_at, config.route.group_interval, now);
        if group.alerts.is_empty() {
            self.changes.drop_group(key);
            return messages;
        }
        // The next tick alone is not worth a write: after a restart an old one is simply due.
        let is_changed = GroupRecord {
            flush_at: before.flush_at,
            ..group.clone()
        } != before;
        if is_changed {
            self.changes.group(&group);
        }
        self.groups.insert(group.key.clone(), group);
        messages
    }

    /// Moves alerts whose group has another key since the configuration changed; what was told of them goes
    /// with them, so that nobody hears of them again for that.
    pub fn regroup(&mut self) {
        let old = std::mem::take(&mut self.groups);
        let mut moved: BTreeMap<String, GroupRecord> = BTreeMap::new();
        for group in old.values() {
            for id in &group.alerts {
                let Some(alert) = self.grouped(*id) else { continue };
                let labels = group::group_labels(&self.config.route, alert);
                let key = group::group_key(&labels);
                let target = moved.entry(key).or_insert_with_key(|key| GroupRecord {
                    key: key.clone(),
                    labels,
                    receiver: group.receiver.clone(),
                    flush_at: group.flush_at,
                    is_flushed: group.is_flushed,
                    alerts: Vec::new(),
                    told: Vec::new(),
                });
                target.flush_at = target.flush_at.min(group.flush_at);
                target.is_flushed |= group.is_flushed;
                target.alerts.push(*id);
                let fingerprint = alert.fingerprint();
                for told in &group.told {
                    carry(&mut target.told, told, fingerprint);
                }
            }
        }
        for (key, group) in &mut moved {
            if let Some(old) = old.get(key)
                && old.alerts == group.alerts
            {
                *group = old.clone();
            } else {
                self.changes.group(group);
            }
            for id in &group.alerts {
                self.group_of.insert(*id, key.clone());
            }
        }
        for key in old.keys().filter(|key| !moved.contains_key(*key)) {
            self.changes.drop_group(key);
        }
        self.groups = moved;
    }
}

fn member(alert: &Alert) -> Member {
    Member {
        fingerprint: alert.fingerprint(),
        level: alert.level,
        is_acknowledged: alert.acknowledged.is_some(),
    }
}

/// Takes what a channel was told of one alert into another log.
fn carry(logs: &mut Vec<ToldRecord>, told: &ToldRecord, fingerprint: u64) {
    let Ok(found) = told
        .firing
        .binary_search_by_key(&fingerprint, |(known, _)| *known)
    else {
        return;
    };
    let entry = told.firing[found];
    match logs.iter_mut().find(|log| log.channel == told.channel) {
        Some(log) => {
            log.at = log.at.max(told.at);
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

/// Gives when a group is due. A flush can never be further away than its own wait: when it seems so, the
/// clock was set back, and it is due at once.
fn due_at(group: &GroupRecord, config: &Config, now: Timestamp) -> Timestamp {
    let longest = config.route.group_wait.max(config.route.group_interval);
    if group.flush_at > now + longest {
        now
    } else {
        group.flush_at
    }
}

/// Gives the next tick of a group's pace: from the plan, not from now, and after now.
pub(crate) fn next_tick(planned: Timestamp, interval: Duration, now: Timestamp) -> Timestamp {
    let next = planned + interval;
    if next > now && next <= now + interval {
        return next;
    }
    if planned > now {
        return now + interval;
    }
    let interval_ms = (interval.as_millis() as i64).max(1);
    let missed = now.since(planned).as_millis() as i64 / interval_ms;
    planned + Duration::from_millis(((missed + 1) * interval_ms) as u64)
}

fn message(
    id: Id,
    group: &GroupRecord,
    channel: &str,
    told: &[&Alert],
    config: &Config,
    now: Timestamp,
) -> Notification {
    let kept = &told[..told.len().min(ALERTS_TOLD_MAX)];
    let alerts: Vec<NotifiedAlert> = kept.iter().map(|alert| notified(alert)).collect();
    let has_firing = told.iter().any(|alert| alert.state == AlertState::Firing);
    Notification {
        id,
        group_key: group.key.clone(),
        receiver: config.route.receiver.clone(),
        channel: channel.to_owned(),
        created_at: now,
        due_at: now,
        deadline_at: now + config.notification_deadline,
        attempts: 0,
        status: NotificationStatus::Waiting,
        content: NotificationContent {
            state: if has_firing {
                AlertState::Firing
            } else {
                AlertState::Resolved
            },
            group_labels: group.labels.clone(),
            common_labels: common(alerts.iter().map(|alert| &alert.labels)),
            common_annotations: common(alerts.iter().map(|alert| &alert.annotations)),
            truncated_alerts: (told.len() - kept.len()) as u32,
            alerts,
        },
    }
}

fn notified(alert: &Alert) -> NotifiedAlert {
    NotifiedAlert {
        id: alert.id,
        state: alert.state,
        level: alert.level,
        labels: alert.sent_labels(),
        annotations: alert.annotations.clone(),
        value: alert.value,
        starts_at: alert.fired_at.unwrap_or(alert.active_at),
        ends_at: alert.resolved_at,
        fingerprint: format!("{:016x}", alert.fingerprint()),
        expr: alert.expr.clone(),
    }
}

/// Gives the pairs that all sets share.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else {
        return Labels::empty();
    };
    sets.fold(first.clone(), |shared, set| {
        if shared.iter().all(|(name, value)| set.get(name) == Some(value)) {
            return shared;
        }
        Labels::from_sorted(
            shared
                .iter()
                .filter(|(name, value)| set.get(name) == Some(*value)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_of_a_group_follows_its_plan_even_after_it_was_late() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let check = |planned: i64, now: i64, next: i64| {
            let found = next_tick(at(planned), Duration::from_secs(300), at(now));
            assert_eq!(found, at(next), "planned {planned}, flushed at {now}");
        };
        check(1000, 1000, 1300);
        check(1000, 1010, 1300);
        check(1000, 1300, 1600);
        check(1000, 5000, 5200);
        // The clock was set back.
        check(9000, 1000, 1300);
    }

    #[test]
    fn common_labels_are_those_that_all_share() {
        let sets = [
            Labels::from_pairs([("a", "1"), ("b", "2"), ("c", "3")]),
            Labels::from_pairs([("a", "1"), ("b", "x")]),
            Labels::from_pairs([("a", "1"), ("b", "2"), ("d", "4")]),
        ];
        assert_eq!(common(sets.iter()), Labels::from_pairs([("a", "1")]));
        assert_eq!(common([].iter()), Labels::empty());
    }
}

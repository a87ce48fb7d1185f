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

/// A message carries at most this many alerts. News beyond it fills further messages; of what was told before,
/// the rest is a number.
pub const ALERTS_TOLD_MAX: usize = 1_000;

/// Longer ago than any repeat interval.
const NEVER: Timestamp = Timestamp::from_millis(0);

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
            escalation: None,
        });
        // The same labels firing again before their end was told: nothing ended for whoever hears of it.
        if let Some(replaced) = self.ended.of(alert.fingerprint()) {
            self.ended.remove(replaced);
            self.group_of.remove(&replaced);
        }
        group.alerts.push(alert.id);
        self.group_of.insert(alert.id, group.key.clone());
        if !self.changed_groups.contains(&group.key) {
            self.changed_groups.insert(group.key.clone());
        }
    }

    /// Gives the alert of a group's entry, firing or ended.
    fn grouped(&self, id: Id) -> Option<&Arc<Alert>> {
        match self.by_id.get(&id) {
            Some(fingerprint) => self.active.get(fingerprint),
            None => self.ended.get(id),
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
        if !self.config.is_telling {
            due.iter().for_each(|key| self.pass_over(key, now));
            return 0;
        }
        due.iter().map(|key| self.flush_group(key, now)).sum()
    }

    /// Lets a group's tick pass while nobody is told anything: its log stands, so that what was opened is
    /// closed when telling goes on, and what came and went meanwhile is forgotten.
    fn pass_over(&mut self, key: &str, now: Timestamp) {
        let Some(mut group) = self.groups.remove(key) else {
            return;
        };
        group.flush_at = next_tick(group.flush_at, self.config.route.group_interval, now);
        let count = group.alerts.len();
        let told = std::mem::take(&mut group.told);
        group.alerts.retain(|id| {
            let is_open = self.ended.get(*id).is_none_or(|alert| {
                let fingerprint = alert.fingerprint();
                told.iter()
                    .any(|log| group::told_level(log, fingerprint).is_some())
            });
            if !is_open {
                self.ended.remove(*id);
                self.group_of.remove(id);
            }
            is_open
        });
        group.told = told;
        if group.alerts.len() < count {
            self.changed_groups.insert(key.to_owned());
        }
        if !group.alerts.is_empty() {
            self.groups.insert(group.key.clone(), group);
        }
    }

    /// Makes every group due, for telling goes on after it was switched off.
    pub fn tell_soon(&mut self, now: Timestamp) {
        for group in self.groups.values_mut() {
            group.flush_at = group.flush_at.min(now);
        }
    }

    /// Lets a group be told again with its next tick, for a message never reached its channel. When a later
    /// message went the same way, that one says it all.
    ///
    /// Only the time is forgotten: an older message may have opened what this one repeated, and that must
    /// still be closed.
    pub fn tell_again(&mut self, message: &Notification) {
        let Some(group) = self.groups.get_mut(&message.group_key) else {
            return;
        };
        let log = group.told.iter_mut().find(|log| log.channel == message.channel);
        if let Some(log) = log.filter(|log| log.at <= message.created_at) {
            log.at = NEVER;
            self.changed_groups.insert(message.group_key.clone());
        }
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
        alerts.sort_by(|a, b| order(a).cmp(&order(b)));
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
                let ends = ended.iter().zip(&over).filter(|(_, over)| is_told(over));
                let told = firing
                    .iter()
                    .zip(&members)
                    .map(|(alert, member)| (&**alert, group::is_news(log, member)))
                    .chain(ends.map(|(alert, _)| (&**alert, true)))
                    .collect();
                for part in parts(told) {
                    let id = Id::new(now, self.chance.as_ref());
                    let message = message(id, &group, &channel.name, &part, &config, now);
                    self.changes.message(message);
                    messages += 1;
                }
            }
            told.extend(decision.told);
        }
        for alert in &ended {
            self.ended.remove(alert.id);
            self.group_of.remove(&alert.id);
        }
        group.told = told;
        group.receiver.clone_from(&config.route.receiver);
        group.alerts = firing.iter().map(|alert| alert.id).collect();
        group.is_flushed = true;
        group.flush_at = next_tick(before.flush_at, config.route.group_interval, now);
        if group.alerts.is_empty() {
            self.changed_groups.insert(key.to_owned());
            return messages;
        }
        // The next tick alone is not worth a write: after a restart an old one is simply due.
        let is_changed = GroupRecord {
            flush_at: before.flush_at,
            ..group.clone()
        } != before;
        if is_changed {
            self.changed_groups.insert(key.to_owned());
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
                    escalation: None,
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
                self.changed_groups.insert(key.clone());
            }
            for id in &group.alerts {
                self.group_of.insert(*id, key.clone());
            }
        }
        for key in old.keys().filter(|key| !moved.contains_key(*key)) {
            self.changed_groups.insert(key.clone());
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

/// What one message carries.
struct Part<'a> {
    alerts: Vec<&'a Alert>,
    truncated: usize,
}

/// Parts what is to be told, firing ones first, into messages: whatever is news (`true`) is in one of them, for
/// what a receiver never heard of it cannot close, and what it opened it must; of the rest as much as fits.
fn parts(told: Vec<(&Alert, bool)>) -> Vec<Part<'_>> {
    let (mut news, mut known) = (Vec::new(), Vec::new());
    for (alert, is_news) in told {
        if is_news {
            news.push(alert)
        } else {
            known.push(alert)
        }
    }
    let mut parts: Vec<Part<'_>> = news
        .chunks(ALERTS_TOLD_MAX)
        .map(|alerts| Part {
            alerts: alerts.to_vec(),
            truncated: 0,
        })
        .collect();
    if parts.is_empty() {
        parts.push(Part {
            alerts: Vec::new(),
            truncated: 0,
        });
    }
    if let Some(last) = parts.last_mut() {
        let room = known.len().min(ALERTS_TOLD_MAX - last.alerts.len());
        last.truncated = known.len() - room;
        last.alerts.splice(0..0, known.drain(..room));
        last.alerts.sort_by(|a, b| order(a).cmp(&order(b)));
    }
    parts
}

/// The order of a message: firing ones first, then since when, then by name.
fn order(alert: &Alert) -> (bool, Option<Timestamp>, &Labels) {
    (alert.state == AlertState::Resolved, alert.fired_at, &alert.labels)
}

fn message(
    id: Id,
    group: &GroupRecord,
    channel: &str,
    part: &Part<'_>,
    config: &Config,
    now: Timestamp,
) -> Notification {
    let alerts: Vec<NotifiedAlert> = part.alerts.iter().map(|alert| notified(alert)).collect();
    let has_firing = part.alerts.iter().any(|alert| alert.state == AlertState::Firing);
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
            truncated_alerts: u32::try_from(part.truncated).unwrap_or(u32::MAX),
            alerts,
            purpose: Default::default(),
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
        generator_url: None,
        flaps: 0,
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

//! What is told when the time of a group comes.
//!
//! A flush only decides and writes messages into the outbox; it sends nothing. The decision and the group's
//! log of what was told are one transaction, so a crash can neither forget a message nor decide it twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::records::{GroupRecord, ToldRecord};
use marketprism_model::{Alert, AlertState, Id, Notification, Purpose, Timestamp};

use crate::book::Book;
use crate::config::ChannelRoute;
use crate::group::{self, Member, Members};
use crate::groups::{Group, Kind};
use crate::message::{Address, message, order, parts};
use crate::plan::Plan;

/// Longer ago than any repeat interval.
pub(crate) const NEVER: Timestamp = Timestamp::from_millis(0);

/// The alerts of a group as they stand at a flush, each list in the order of messages.
pub(crate) struct Standing {
    /// Fire, and may be told.
    pub audible: Vec<Arc<Alert>>,
    pub members: Vec<Member>,
    /// Fire, and are not to be told now.
    pub suppressed: Vec<Arc<Alert>>,
    /// Are over, but held back, for they flap.
    pub held: Vec<Arc<Alert>>,
    /// Are over.
    pub ended: Vec<Arc<Alert>>,
    pub over: Vec<u64>,
    /// Fingerprints of what is suppressed or held, sorted.
    pub quiet: Vec<u64>,
    pub is_muted: bool,
}

impl Standing {
    fn members(&self) -> Members<'_> {
        Members {
            audible: &self.members,
            quiet: &self.quiet,
            ended: &self.over,
        }
    }

    /// What stays in the group.
    fn staying(&self) -> Vec<Id> {
        let all = self.audible.iter().chain(&self.suppressed).chain(&self.held);
        all.map(|alert| alert.id).collect()
    }
}

impl Book {
    /// Gives when the next group is due, `None` when there is none.
    pub fn next_flush(&self) -> Option<Timestamp> {
        self.groups.next_due()
    }

    /// Decides for every group that is due what its channels hear; gives the number of messages.
    pub fn flush(&mut self, now: Timestamp) -> usize {
        self.note_time(now);
        let due = self.groups.due(now);
        if !self.plan.config.is_telling {
            due.iter().for_each(|key| self.pass_over(key, now));
            return 0;
        }
        due.iter().map(|key| self.flush_group(key, now)).sum()
    }

    /// Brings groups forward when the wall clock was set back: a flush can never be further away than its own wait, and
    /// a sender's word never holds longer than its time.
    pub fn note_time(&mut self, now: Timestamp) {
        if now < self.latest_now {
            self.shorten_external(now);
            let plan = Arc::clone(&self.plan);
            self.groups
                .bring_forward(now, |group| plan.longest_wait(&group.kind));
        }
        self.latest_now = now;
    }

    /// Puts other settings in place; groups follow.
    pub fn set_plan(&mut self, plan: Arc<Plan>, now: Timestamp) {
        if plan.config.inhibit_rules != self.plan.config.inhibit_rules {
            self.inhibitor = plan.inhibitor.clone();
            for alert in self
                .active
                .values()
                .filter(|alert| alert.state == AlertState::Firing && !self.limited.contains(&alert.id))
            {
                self.inhibitor
                    .started(alert.id, alert.fingerprint(), &alert.sent_labels());
            }
        }
        self.incidents.configure(plan.config.incidents.clone());
        self.silences.set_config(plan.config.silences.clone());
        self.plan = plan;
        let groups = self.groups.iter().map(|group| group.record.clone()).collect();
        self.regroup(groups, false, now);
    }

    /// Lets a group's tick pass while nobody is told anything: its log stands, so that what was opened is
    /// closed when telling goes on, and what came and went meanwhile is forgotten.
    fn pass_over(&mut self, key: &str, now: Timestamp) {
        let Some((key, mut group)) = self.groups.take(key) else {
            return;
        };
        group.wake_at = None;
        group.record.flush_at = next_tick(group.record.flush_at, self.plan.interval(&group.kind), now);
        let count = group.record.alerts.len();
        let told = std::mem::take(&mut group.record.told);
        group.record.alerts.retain(|id| {
            let is_open = match self.grouped(*id) {
                None => false,
                Some(alert) => {
                    let fingerprint = alert.fingerprint();
                    alert.state == AlertState::Firing
                        || told
                            .iter()
                            .any(|log| group::told_level(log, fingerprint).is_some())
                }
            };
            if !is_open {
                self.leave_group(*id, &key);
            }
            is_open
        });
        group.record.told = told;
        if group.record.alerts.len() < count {
            self.changed_groups.insert(Arc::clone(&key));
        }
        if !group.record.alerts.is_empty() {
            self.groups.put(key, group);
        }
    }

    /// Takes an alert that is over out of a group; it is forgotten when that was the last one.
    fn leave_group(&mut self, id: Id, key: &str) {
        if self.groups.leave(id, key) {
            self.ended.remove(id);
        }
    }

    /// Makes every group due, for telling goes on after it was switched off.
    pub fn tell_soon(&mut self, now: Timestamp) {
        self.groups.change_all(|group| {
            group.record.flush_at = group.record.flush_at.min(now);
        });
    }

    /// Lets a group be told again with its next tick, for a message never reached its channel. When a later
    /// message went the same way, that one says it all. Alerts that went to other groups since, by a reload, are told
    /// again there.
    ///
    /// Only the time is forgotten: an older message may have opened what this one repeated, and that must
    /// still be closed.
    pub fn tell_again(&mut self, message: &Notification) {
        for key in self.groups_of_message(message) {
            let is_forgotten = self.groups.change(&key, |group| {
                let mut logs = group.record.told.iter_mut();
                // Where an alert came from elsewhere, the time of the log may be another's.
                let is_moved = *key != *message.group_key;
                let is_last = |at| is_moved || at <= message.created_at;
                let log = logs.find(|log| log.channel == message.channel && is_last(log.at));
                log.map(|log| log.at = NEVER).is_some()
            });
            if is_forgotten == Some(true) {
                self.changed_groups.insert(key);
            }
        }
    }

    /// Gives the group of a message, and those that its alerts went to when they are not there any more.
    fn groups_of_message(&self, message: &Notification) -> BTreeSet<Arc<str>> {
        let own: Arc<str> = Arc::from(message.group_key.as_str());
        let alerts = message.content.alerts.iter();
        let moved = alerts
            .map(|told| self.groups.of(told.id))
            .filter(|groups| !groups.contains(&own))
            .flatten()
            .map(Arc::clone)
            .collect::<Vec<_>>();
        moved.into_iter().chain([own]).collect()
    }

    /// Decides what the channels of a group hear, and what stands in its log afterwards.
    fn flush_group(&mut self, key: &str, now: Timestamp) -> usize {
        let Some((key, mut group)) = self.groups.take(key) else {
            return 0;
        };
        let plan = Arc::clone(&self.plan);
        let standing = self.standing(&group, now);
        let old_told = std::mem::take(&mut group.record.told);
        let old_escalation = group.record.escalation.clone();
        let (told, mut messages) = self.tell(&plan, &group, &old_told, &standing, now);
        for alert in &standing.ended {
            self.settle_steady(alert, now);
            self.leave_group(alert.id, &key);
        }
        let is_told = told != old_told;
        group.record.told = told;
        messages += self.escalate(&plan, &mut group, &standing, now);
        let old_count = group.record.alerts.len();
        group.record.alerts = standing.staying();
        let receiver = plan.receiver(&group);
        let is_changed = is_told
            || !group.record.is_flushed
            || group.record.receiver != receiver
            || old_escalation != group.record.escalation
            || (!standing.ended.is_empty() && old_count > group.record.alerts.len());
        group.record.receiver = receiver;
        group.record.is_flushed = true;
        if group.record.flush_at <= now {
            group.record.flush_at = next_tick(group.record.flush_at, plan.interval(&group.kind), now);
        }
        // The next tick alone is not worth a write: after a restart an old one is simply due.
        if is_changed || group.record.alerts.is_empty() {
            self.changed_groups.insert(Arc::clone(&key));
        }
        if !group.record.alerts.is_empty() {
            let has_silent = standing.is_muted && !standing.suppressed.is_empty();
            let mute_end = if has_silent {
                self.mute_end(&group, now)
            } else {
                None
            };
            let step = self.escalation_due(&plan, &group);
            group.wake_at = [mute_end, step].into_iter().flatten().min();
            self.groups.put(key, group);
        }
        messages
    }

    /// Finds out who of a group may be told, and notes what keeps the others quiet.
    fn standing(&mut self, group: &Group, now: Timestamp) -> Standing {
        let mut alerts: Vec<Arc<Alert>> = group
            .record
            .alerts
            .iter()
            .filter_map(|id| self.grouped(*id).map(Arc::clone))
            .collect();
        alerts.sort_by(|a, b| order(a).cmp(&order(b)));
        let muted = self.mutes(group, now);
        let mut standing = Standing {
            audible: Vec::new(),
            members: Vec::new(),
            suppressed: Vec::new(),
            held: Vec::new(),
            ended: Vec::new(),
            over: Vec::new(),
            quiet: Vec::new(),
            is_muted: !muted.is_empty(),
        };
        for alert in alerts {
            if alert.state != AlertState::Firing {
                if self.is_held(&alert, now) {
                    standing.quiet.push(alert.fingerprint());
                    standing.held.push(alert);
                } else {
                    standing.over.push(alert.fingerprint());
                    standing.ended.push(alert);
                }
                continue;
            }
            let by_labels = self.suppressions_by_labels(&alert, now);
            let muted = match group.kind {
                Kind::Route(_) => muted.clone(),
                Kind::Storm(_) => self.mutes_of(&alert, group, now),
            };
            standing.is_muted |= !muted.is_empty();
            let is_quiet = !by_labels.is_empty() || !muted.is_empty();
            self.note_suppressions(&alert, by_labels, &muted, &group.record.key, now);
            if is_quiet {
                standing.quiet.push(alert.fingerprint());
                standing.suppressed.push(alert);
            } else {
                standing.members.push(member(&alert));
                standing.audible.push(alert);
            }
        }
        standing.quiet.sort_unstable();
        standing
    }

    /// Writes the messages of a group; gives its log afterwards and their number.
    fn tell(
        &mut self,
        plan: &Plan,
        group: &Group,
        told: &[ToldRecord],
        standing: &Standing,
        now: Timestamp,
    ) -> (Vec<ToldRecord>, usize) {
        let receiver = plan.receiver(group);
        let channels = plan.channels(&receiver);
        let repeat = plan.repeat(&group.kind);
        let purpose = |channel: &ChannelRoute| match (&group.kind, &channel.stands_in_for) {
            (Kind::Storm(_), _) => Purpose::Storm,
            (Kind::Route(_), None) => Purpose::Group,
            (Kind::Route(_), Some(lacking)) => Purpose::Fallback {
                receiver: receiver.clone(),
                channel: lacking.clone(),
            },
        };
        let (mut after, mut messages) = (Vec::new(), 0);
        for channel in channels {
            let log = told.iter().find(|told| told.channel == channel.name);
            let decision = group::decide(log, standing.members(), channel, repeat, now);
            if decision.cause.is_some() {
                let address = |name| Address {
                    receiver: &receiver,
                    channel: name,
                    purpose: purpose(channel),
                };
                let ended = &decision.ended;
                messages += self.write(plan, &group.record, address, channel, log, standing, ended, now);
            }
            after.extend(decision.told);
        }
        for log in told {
            if channels.iter().any(|channel| channel.name == log.channel) {
                continue;
            }
            let closed = self.close(plan, &group.record, log, standing, &Purpose::Group, now);
            messages += closed.1;
            after.extend(closed.0);
        }
        (after, messages)
    }

    /// Tells a channel that the group's receiver does not have of what ended, and only of that: it heard of it by way
    /// of a fallback, or before the routes changed.
    pub fn close(
        &mut self,
        plan: &Plan,
        group: &GroupRecord,
        log: &ToldRecord,
        standing: &Standing,
        purpose: &Purpose,
        now: Timestamp,
    ) -> (Option<ToldRecord>, usize) {
        let Some((receiver, channel)) = plan.channel(&log.channel) else {
            return (None, 0);
        };
        let mut quiet = standing.quiet.clone();
        quiet.extend(standing.members.iter().map(|member| member.fingerprint));
        quiet.sort_unstable();
        let members = Members {
            audible: &[],
            quiet: &quiet,
            ended: &standing.over,
        };
        let decision = group::decide(Some(log), members, channel, Duration::MAX, now);
        let mut messages = 0;
        if decision.cause.is_some() {
            let address = |channel| Address {
                receiver,
                channel,
                purpose: purpose.clone(),
            };
            let only_ends = Standing {
                audible: Vec::new(),
                members: Vec::new(),
                suppressed: Vec::new(),
                held: Vec::new(),
                ended: standing.ended.clone(),
                over: standing.over.clone(),
                quiet: Vec::new(),
                is_muted: false,
            };
            let ended = &decision.ended;
            messages = self.write(plan, group, address, channel, Some(log), &only_ends, ended, now);
        }
        (decision.told.filter(|told| !told.firing.is_empty()), messages)
    }

    /// Writes what a channel hears into the outbox, in as many messages as it takes.
    #[expect(
        clippy::too_many_arguments,
        reason = "one decision, with all that it was made of"
    )]
    fn write<'a>(
        &mut self,
        plan: &Plan,
        group: &GroupRecord,
        address: impl Fn(&'a str) -> Address<'a>,
        channel: &'a ChannelRoute,
        log: Option<&ToldRecord>,
        standing: &Standing,
        ended: &[u64],
        now: Timestamp,
    ) -> usize {
        let is_told = |fingerprint: &u64| ended.binary_search(fingerprint).is_ok();
        let ends = standing.ended.iter().zip(&standing.over);
        let told = standing
            .audible
            .iter()
            .zip(&standing.members)
            .map(|(alert, member)| (&**alert, group::is_news(log, member)))
            .chain(
                ends.filter(|(_, over)| is_told(over))
                    .map(|(alert, _)| (&**alert, true)),
            )
            .collect();
        let mut count = 0;
        for part in parts(told) {
            let id = Id::new(now, self.chance.as_ref());
            let message = message(id, group, address(&channel.name), &part, plan, now);
            self.changes.message(message);
            count += 1;
        }
        count
    }

    /// Gives when the intervals that mute a group may let it speak.
    pub fn mute_end(&self, group: &Group, now: Timestamp) -> Option<Timestamp> {
        let routes = match group.kind {
            Kind::Route(route) => BTreeSet::from([route]),
            Kind::Storm(_) => self
                .firing_in(group)
                .flat_map(|alert| self.routes_in_storm(alert, group))
                .collect(),
        };
        let changes = routes.into_iter().flat_map(|route| {
            let route = self.plan.tree.route(route);
            [&route.mute, &route.active].map(|names| self.plan.intervals.next_change(names, now))
        });
        changes.flatten().min()
    }

    fn firing_in<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Arc<Alert>> {
        let alerts = group.record.alerts.iter().filter_map(|id| self.grouped(*id));
        alerts.filter(|alert| alert.state == AlertState::Firing)
    }

    /// Gives when a group that stands unchanged is looked at besides its ticks.
    pub fn wake_at(&self, group: &Group, now: Timestamp) -> Option<Timestamp> {
        let is_muted = group.record.is_flushed
            && match group.kind {
                Kind::Route(_) => !self.mutes(group, now).is_empty(),
                Kind::Storm(_) => self
                    .firing_in(group)
                    .any(|alert| !self.mutes_of(alert, group, now).is_empty()),
            };
        let mute_end = if is_muted { self.mute_end(group, now) } else { None };
        let step = self.escalation_due(&self.plan, group);
        [mute_end, step].into_iter().flatten().min()
    }
}

fn member(alert: &Alert) -> Member {
    Member {
        fingerprint: alert.fingerprint(),
        level: alert.level,
        is_acknowledged: alert.acknowledged.is_some(),
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
}

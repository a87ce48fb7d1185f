//! Escalation steps at the flush of a group: messages to the step's receivers, and the end of what they opened.
//!
//! The log of a step stands in the escalation's own record. A channel that hears of an alert by the group itself is
//! closed there, and not a second time here.

use std::sync::Arc;

use marketprism_model::records::{EscalationRecord, ToldRecord};
use marketprism_model::{Alert, AlertEventKind, Id, Level, Purpose, Timestamp};

use crate::book::Book;
use crate::escalation::{self, Member, Policy};
use crate::flush::Standing;
use crate::group::told_level;
use crate::groups::Group;
use crate::message::{Address, message, parts};
use crate::plan::Plan;

impl Book {
    /// Takes the step that is due, if any; gives the number of messages.
    pub fn escalate(&mut self, plan: &Plan, group: &mut Group, standing: &Standing, now: Timestamp) -> usize {
        let mut messages = self.close_steps(plan, group, standing, now);
        let Some(policy) = plan.policy(&group.kind) else {
            group.record.escalation = group.record.escalation.as_ref().and_then(escalation::rest);
            return messages;
        };
        let suppressed = standing.suppressed.iter().map(|alert| member(alert, true));
        let members: Vec<Member> = standing
            .audible
            .iter()
            .map(|alert| member(alert, false))
            .chain(suppressed)
            .collect();
        let decision = escalation::decide(policy, group.record.escalation.as_ref(), &members, now);
        group.record.escalation = decision.record;
        if let Some(step) = decision.step {
            let open: Vec<&Arc<Alert>> = standing
                .audible
                .iter()
                .filter(|alert| policy.is_open(&member(alert, false)))
                .collect();
            messages += self.take_step(plan, policy, group, &step, &open, now);
        }
        messages
    }

    /// Gives when the next step of a group is due.
    pub fn escalation_due(&self, plan: &Plan, group: &Group) -> Option<Timestamp> {
        let policy = plan.policy(&group.kind)?;
        escalation::next_due(policy, group.record.escalation.as_ref()?)
    }

    fn take_step(
        &mut self,
        plan: &Plan,
        policy: &Policy,
        group: &mut Group,
        step: &escalation::Step<'_>,
        open: &[&Arc<Alert>],
        now: Timestamp,
    ) -> usize {
        let mut targets = escalation::targets(step.notify, &plan.schedules, &self.overrides, now);
        // When nobody is on call somebody must hear nevertheless.
        if !targets.vacant.is_empty()
            && let Some(fallback) = &plan.config.fallback_receiver
            && !targets.receivers.contains(fallback)
        {
            targets.receivers.push(fallback.clone());
        }
        let name = &policy.config().name;
        let mut told: Vec<&str> = Vec::new();
        let mut messages = 0;
        for receiver in &targets.receivers {
            for channel in plan.channels(receiver) {
                // Two receivers of a step may share a channel.
                if told.contains(&channel.name.as_str()) {
                    continue;
                }
                told.push(&channel.name);
                for part in parts(open.iter().map(|alert| (&***alert, true)).collect()) {
                    let address = Address {
                        receiver,
                        channel: &channel.name,
                        purpose: Purpose::Escalation {
                            policy: name.clone(),
                            step: step.number,
                        },
                    };
                    let id = Id::new(now, self.chance.as_ref());
                    self.changes
                        .message(message(id, &group.record, address, &part, plan, now));
                    messages += 1;
                }
                remember(group, &channel.name, open, now);
            }
        }
        for alert in open {
            let kind = AlertEventKind::Escalated {
                policy: name.clone(),
                step: step.number,
                receivers: targets.receivers.clone(),
            };
            self.event(alert.id, now, None, kind);
        }
        messages
    }

    /// Closes for the receivers of steps what they were told of and what is over.
    fn close_steps(&mut self, plan: &Plan, group: &mut Group, standing: &Standing, now: Timestamp) -> usize {
        let Some(mut record) = group.record.escalation.take() else {
            return 0;
        };
        let logs = std::mem::take(&mut record.told);
        let mut messages = 0;
        for log in &logs {
            let purpose = Purpose::Escalation {
                policy: record.policy.clone(),
                step: record.steps_taken.max(1),
            };
            let (log, count) = self.close(plan, &group.record, log, standing, &purpose, now);
            record.told.extend(log);
            messages += count;
        }
        let is_idle = record.told.is_empty() && record.members.is_empty();
        group.record.escalation = (!is_idle).then_some(record);
        messages
    }
}

/// Notes what a step told a channel, but for what the group itself told it.
fn remember(group: &mut Group, channel: &str, open: &[&Arc<Alert>], now: Timestamp) {
    let own = group.record.told.iter().find(|log| log.channel == channel);
    let is_known = |fingerprint| own.is_some_and(|log| told_level(log, fingerprint).is_some());
    let opened: Vec<(u64, Level)> = open
        .iter()
        .map(|alert| (alert.fingerprint(), alert.level))
        .filter(|(fingerprint, _)| !is_known(*fingerprint))
        .collect();
    let Some(EscalationRecord { told, .. }) = &mut group.record.escalation else {
        return;
    };
    if opened.is_empty() {
        return;
    }
    if told.iter().all(|log| log.channel != channel) {
        told.push(ToldRecord {
            channel: channel.to_owned(),
            at: now,
            firing: Vec::new(),
            resolved: Vec::new(),
        });
    }
    let Some(log) = told.iter_mut().find(|log| log.channel == channel) else {
        return;
    };
    log.at = now;
    for entry in opened {
        match log.firing.binary_search_by_key(&entry.0, |(known, _)| *known) {
            Ok(place) => log.firing[place] = entry,
            Err(place) => log.firing.insert(place, entry),
        }
    }
}

fn member(alert: &Alert, is_suppressed: bool) -> Member {
    Member {
        fingerprint: alert.fingerprint(),
        level: alert.level,
        is_acknowledged: alert.acknowledged.is_some(),
        is_suppressed,
    }
}

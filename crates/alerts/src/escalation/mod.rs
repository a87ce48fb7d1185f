//! Escalation: who is told next while nobody takes a group of alerts in hand.
//!
//! A policy is a row of steps, and perhaps rounds of the same steps. They run while any alert of the group is *open*: it
//! fires, is not suppressed, has one of the policy's levels, and nobody has acknowledged it. The wait before a step is
//! counted from the step that was taken before it, so that whoever was told late, for the program was down or its clock was
//! set back, still has the whole time to answer before the next one is called, and a night's steps never come at once.
//! Pure by design, as in `condition`: the caller brings the group's facts and `now`, and stores the record.
//! Deliberately absent: messages, and what a receiver is. The caller tells the receivers of a step, notes in the record's
//! `told` what it told, and closes that later; a decision here leaves `told` as it is.

mod config;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use marketprism_model::records::EscalationRecord;
use marketprism_model::{Level, ShiftOverride, Timestamp};

use crate::schedule::Schedules;
pub use config::{PolicyConfig, RepeatConfig, SCHEDULE_PREFIX, StepConfig};

/// The configured policies, by name.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    by_name: BTreeMap<String, Policy>,
}

impl Policies {
    /// Gives the policy of this name.
    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.by_name.get(name)
    }

    /// Walks the names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// A policy that was found good: at least one step, each later than the one before.
#[derive(Clone, Debug)]
pub struct Policy {
    config: PolicyConfig,
}

/// One firing alert of the group, as far as escalation needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its identity.
    pub fingerprint: u64,
    /// The level that stands.
    pub level: Level,
    /// Whether somebody has it in hand.
    pub is_acknowledged: bool,
    /// Whether it is not told now: silenced, inhibited, muted, held back.
    pub is_suppressed: bool,
}

/// A step that is to be taken now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step<'a> {
    /// Which one, counted from 1.
    pub number: u32,
    /// In which round, counted from 1.
    pub round: u32,
    /// Receivers and `schedule:NAME`; [`targets`] tells who that is now.
    pub notify: &'a [String],
}

/// What is to be done, and the record afterwards.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision<'a> {
    /// The step to take now; at most one, for the next one waits from here.
    pub step: Option<Step<'a>>,
    /// The record afterwards; `None` when nothing runs and nothing that a step told is left to close.
    pub record: Option<EscalationRecord>,
}

impl Policy {
    /// Gives what was configured.
    pub fn config(&self) -> &PolicyConfig {
        &self.config
    }

    /// Says whether an alert of this group keeps the escalation running.
    pub fn is_open(&self, member: &Member) -> bool {
        let levels = &self.config.levels;
        !member.is_acknowledged
            && !member.is_suppressed
            && (levels.is_empty() || levels.contains(&member.level))
    }

    /// Gives how many rounds there are.
    fn rounds(&self) -> u32 {
        1 + self.config.repeat.map_or(0, |repeat| repeat.times)
    }

    /// Gives how long the next step waits from the one before it, or from the beginning; `None` when all are taken.
    fn wait(&self, record: &EscalationRecord) -> Option<Duration> {
        let steps = &self.config.steps;
        let taken = record.steps_taken as usize;
        if record.rounds >= self.rounds() {
            return None;
        }
        // A policy may have become shorter since: what is past its end belongs to the next round.
        let first = steps.first()?.after;
        match (taken, record.stepped_at) {
            (0, None) => Some(first),
            (0, Some(_)) => Some(self.config.repeat?.every + first),
            _ => Some(steps.get(taken)?.after.saturating_sub(steps[taken - 1].after)),
        }
    }
}

/// Decides whether a step is due. `members` are the group's firing alerts, each fingerprint once.
///
/// To be asked whenever a member begins, ends, is acknowledged or no longer, is suppressed or no longer, or changes its
/// level, and at [`next_due`]. The escalation
/// - begins when a first alert is open, and anew when an open one has risen, when the policy is another one, or when an
///   alert opens after all rounds are through;
/// - goes on when a further alert opens meanwhile;
/// - stops when none is open.
pub fn decide<'a>(
    policy: &'a Policy,
    record: Option<&EscalationRecord>,
    members: &[Member],
    now: Timestamp,
) -> Decision<'a> {
    let mut open: Vec<(u64, Level)> = members
        .iter()
        .filter(|member| policy.is_open(member))
        .map(|member| (member.fingerprint, member.level))
        .collect();
    open.sort_unstable();
    if open.is_empty() {
        return Decision {
            step: None,
            record: record.and_then(rest),
        };
    }
    let mut next = match record {
        Some(record) if goes_on(policy, record, &open) => record.clone(),
        _ => EscalationRecord {
            policy: policy.config.name.clone(),
            since: now,
            members: Vec::new(),
            steps_taken: 0,
            rounds: 0,
            stepped_at: None,
            told: record.map_or(Vec::new(), |record| record.told.clone()),
        },
    };
    next.members = open;
    // Moments from the future, after the clock was set back, would hold the next step up for as long.
    next.since = next.since.min(now);
    next.stepped_at = next.stepped_at.map(|at| at.min(now));
    settle_length(policy, &mut next);
    let step = due(policy, &next)
        .filter(|due| *due <= now)
        .and_then(|_| take(policy, &mut next, now));
    Decision {
        step,
        record: Some(next),
    }
}

/// Gives when the next step is due while the group stays as it is; `None` when nothing runs or all steps are taken.
pub fn next_due(policy: &Policy, record: &EscalationRecord) -> Option<Timestamp> {
    if record.members.is_empty() || record.policy != policy.config.name {
        return None;
    }
    due(policy, record)
}

/// Gives the record of an escalation that no longer runs, for its policy is gone or no alert is open; `None` when
/// nothing that a step told is left to close.
pub fn rest(record: &EscalationRecord) -> Option<EscalationRecord> {
    let is_closed = record.told.iter().all(|told| told.firing.is_empty());
    (!is_closed).then(|| EscalationRecord {
        members: Vec::new(),
        steps_taken: 0,
        rounds: 0,
        stepped_at: None,
        ..record.clone()
    })
}

/// Says whether a running escalation goes on where it is.
fn goes_on(policy: &Policy, record: &EscalationRecord, open: &[(u64, Level)]) -> bool {
    let known = |fingerprint: u64| {
        let found = record
            .members
            .binary_search_by_key(&fingerprint, |(known, _)| *known);
        found.ok().map(|at| record.members[at].1)
    };
    let has_risen = open
        .iter()
        .any(|(fingerprint, level)| known(*fingerprint).is_some_and(|known| known < *level));
    let is_through = record.rounds >= policy.rounds();
    let has_newcomer = open.iter().any(|(fingerprint, _)| known(*fingerprint).is_none());
    let is_left_alone = is_through && has_newcomer;
    let is_running = !record.members.is_empty() && record.policy == policy.config.name;
    is_running && !has_risen && !is_left_alone
}

/// Ends the round when a policy has become shorter than what was taken of it.
fn settle_length(policy: &Policy, record: &mut EscalationRecord) {
    if record.steps_taken as usize >= policy.config.steps.len() {
        record.steps_taken = 0;
        record.rounds = record.rounds.saturating_add(1);
    }
}

fn due(policy: &Policy, record: &EscalationRecord) -> Option<Timestamp> {
    Some(record.stepped_at.unwrap_or(record.since) + policy.wait(record)?)
}

/// Takes the next step.
fn take<'a>(policy: &'a Policy, record: &mut EscalationRecord, now: Timestamp) -> Option<Step<'a>> {
    let step = policy.config.steps.get(record.steps_taken as usize)?;
    record.steps_taken += 1;
    record.stepped_at = Some(now);
    let taken = Step {
        number: record.steps_taken,
        round: record.rounds.saturating_add(1),
        notify: &step.notify,
    };
    settle_length(policy, record);
    Some(taken)
}

/// Who a step tells.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Targets {
    /// Receivers, each once, in the order of the step.
    pub receivers: Vec<String>,
    /// Schedules that have nobody on call now: somebody else must hear instead.
    pub vacant: Vec<String>,
}

/// Gives who the targets of a step are at a moment.
pub fn targets(
    notify: &[String],
    schedules: &Schedules,
    overrides: &[ShiftOverride],
    now: Timestamp,
) -> Targets {
    let mut targets = Targets::default();
    let mut seen = HashSet::new();
    for target in notify {
        let receivers = match target.strip_prefix(SCHEDULE_PREFIX) {
            None => vec![target.clone()],
            Some(name) => schedules
                .get(name)
                .map_or(Vec::new(), |schedule| schedule.who(now, overrides)),
        };
        if receivers.is_empty() {
            targets.vacant.push(target[SCHEDULE_PREFIX.len()..].to_owned());
        }
        targets.receivers.extend(
            receivers
                .into_iter()
                .filter(|receiver| seen.insert(receiver.clone())),
        );
    }
    targets
}

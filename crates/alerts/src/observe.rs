//! How an evaluation enters the book: clocks first, then the alerts that they hold.

use std::collections::{HashMap, HashSet};

use marketprism_model::labels::SEVERITY;
use marketprism_model::{
    ActiveAlert, Alert, Condition, Labels, Level, LifecycleError, Observation, RuleContext, RuleId,
    Timestamp, Verdict,
};

use crate::book::{Book, CLEARED, Cause, MISSING, REASON_RULE_REMOVED, RuleHold, Seen};
use crate::condition::{ConditionClock, advance};
use crate::external;
use crate::limit;

/// An observation and the fingerprint of its labels.
pub(crate) type Keyed = (u64, Observation);

/// Computes the fingerprints outside the lock; two observations with the same labels fail all of them.
pub(crate) fn keyed(observations: Vec<Observation>) -> Result<Vec<Keyed>, LifecycleError> {
    let mut known = HashSet::with_capacity(observations.len());
    let mut keyed = Vec::with_capacity(observations.len());
    for observation in observations {
        let fingerprint = observation.labels.fingerprint();
        if !known.insert(fingerprint) {
            return Err(LifecycleError::DuplicateLabels {
                labels: observation.labels,
            });
        }
        keyed.push((fingerprint, observation));
    }
    Ok(keyed)
}

/// How the clocks of one label set moved.
struct Moved {
    is_revived: bool,
    /// Positions whose clock is worth writing, with what it is now.
    changed: Vec<(u32, Option<(ConditionClock, Level)>)>,
    hold: Option<RuleHold>,
}

impl Book {
    /// Takes everything a rule observed and gives its alerts that are active after it.
    pub fn observe(&mut self, rule: &RuleContext, at: Timestamp, observations: &[Keyed]) -> Vec<ActiveAlert> {
        if observations.is_empty() && !self.rules.contains_key(&rule.id) {
            return Vec::new();
        }
        let mentioned: HashSet<u64> = observations.iter().map(|(fingerprint, _)| *fingerprint).collect();
        let mut unmentioned: Vec<u64> = self
            .rules
            .get(&rule.id)
            .map(|holds| {
                holds
                    .keys()
                    .copied()
                    .filter(|known| !mentioned.contains(known))
                    .collect()
            })
            .unwrap_or_default();
        unmentioned.sort_unstable();
        for fingerprint in unmentioned {
            self.advance(rule, at, fingerprint, None);
            self.settle(fingerprint, at, None, CLEARED);
        }
        for (fingerprint, observation) in observations {
            let Some(is_revived) = self.advance(rule, at, *fingerprint, Some(observation)) else {
                continue;
            };
            let seen = Seen {
                rule,
                observation,
                is_revived,
                starts_at: None,
            };
            let is_unknown = observation.verdicts.contains(&Verdict::Unknown);
            self.settle(
                *fingerprint,
                at,
                Some(&seen),
                if is_unknown { MISSING } else { CLEARED },
            );
        }
        self.settle_limit(at);
        self.active_of(rule.id)
    }

    /// Advances the clocks of one label set; `None` when there was none and none begins.
    pub fn advance(
        &mut self,
        rule: &RuleContext,
        at: Timestamp,
        fingerprint: u64,
        observation: Option<&Observation>,
    ) -> Option<bool> {
        let old = self
            .rules
            .get_mut(&rule.id)
            .and_then(|holds| holds.remove(&fingerprint));
        let had_clocks = old.is_some();
        let labels = match observation {
            Some(observation) => Some(&observation.labels),
            None => self.active.get(&fingerprint).map(|alert| &alert.labels),
        };
        let moved = moved(old, rule, labels, observation, at);
        for (condition, clock) in moved.changed {
            self.changes.clock((rule.id, fingerprint, condition), clock);
        }
        match moved.hold {
            Some(hold) => {
                self.rules.entry(rule.id).or_default().insert(fingerprint, hold);
                if !had_clocks {
                    self.holders.entry(fingerprint).or_default().push(rule.id);
                }
            }
            None if had_clocks => self.forget_holder(rule.id, fingerprint),
            None => return None,
        }
        Some(moved.is_revived)
    }

    /// Notes that a rule has no clock for a label set any more.
    fn forget_holder(&mut self, rule: RuleId, fingerprint: u64) {
        if let Some(holders) = self.holders.get_mut(&fingerprint) {
            holders.retain(|holder| *holder != rule);
            if holders.is_empty() {
                self.holders.remove(&fingerprint);
            }
        }
        if self.rules.get(&rule).is_some_and(HashMap::is_empty) {
            self.rules.remove(&rule);
        }
    }

    /// Gives the alerts that a rule has a part in.
    fn active_of(&self, rule: RuleId) -> Vec<ActiveAlert> {
        self.parts_of(rule, Alert::sent_labels)
    }

    /// The same with the labels that were observed.
    pub fn held_by(&self, rule: RuleId) -> Vec<ActiveAlert> {
        self.parts_of(rule, |alert| alert.labels.clone())
    }

    fn parts_of(&self, rule: RuleId, labels: impl Fn(&Alert) -> Labels) -> Vec<ActiveAlert> {
        let Some(holds) = self.rules.get(&rule) else {
            return Vec::new();
        };
        holds
            .iter()
            .filter(|(_, hold)| hold.parts().next().is_some())
            .filter_map(|(fingerprint, _)| self.active.get(fingerprint))
            .map(|alert| ActiveAlert {
                labels: labels(alert),
                state: alert.state,
                level: alert.level,
                active_at: alert.active_at,
                value: alert.value,
                annotations: alert.annotations.clone(),
            })
            .collect()
    }

    /// Ends what no existing rule holds any more.
    pub fn retain_rules(&mut self, rules: &[RuleId], at: Timestamp) {
        // What other programs send is no rule's.
        let kept: HashSet<RuleId> = rules.iter().copied().chain([external::rule()]).collect();
        let mut gone: Vec<RuleId> = self
            .rules
            .keys()
            .copied()
            .filter(|rule| !kept.contains(rule))
            .collect();
        gone.sort_unstable();
        let mut touched = Vec::new();
        for rule in gone {
            for (fingerprint, hold) in self.rules.remove(&rule).unwrap_or_default() {
                for (condition, clock) in hold.clocks.iter().enumerate() {
                    if clock.is_some() {
                        self.changes.clock((rule, fingerprint, condition as u32), None);
                    }
                }
                self.forget_holder(rule, fingerprint);
                touched.push(fingerprint);
            }
        }
        // An alert without any clock is held by nobody, whatever its record says.
        touched.extend(
            self.active
                .iter()
                .filter(|(fingerprint, alert)| {
                    !limit::is_own(alert) && !self.holders.contains_key(*fingerprint)
                })
                .map(|(fingerprint, _)| *fingerprint),
        );
        touched.sort_unstable();
        touched.dedup();
        let removed = Cause {
            reason: REASON_RULE_REMOVED,
            actor: None,
        };
        for fingerprint in touched {
            self.settle(fingerprint, at, None, removed);
        }
        self.settle_limit(at);
    }

    /// Sets aside every condition that holds an alert, and ends it.
    pub fn resolve_by_hand(&mut self, fingerprint: u64, at: Timestamp, cause: Cause<'_>) {
        for rule in self.holders.get(&fingerprint).cloned().unwrap_or_default() {
            let Some(hold) = self
                .rules
                .get_mut(&rule)
                .and_then(|holds| holds.get_mut(&fingerprint))
            else {
                continue;
            };
            for (condition, clock) in hold.clocks.iter_mut().enumerate() {
                if let Some(clock) = clock {
                    clock.set_aside_at.get_or_insert(at);
                    let level = hold.levels[condition];
                    self.changes
                        .clock((rule, fingerprint, condition as u32), Some((*clock, level)));
                }
            }
        }
        if self
            .active
            .get(&fingerprint)
            .is_some_and(|alert| limit::is_own(alert))
        {
            self.limit_set_aside_at = Some(at);
            self.resolve(fingerprint, at, cause);
        } else {
            self.settle(fingerprint, at, None, cause);
        }
        self.settle_limit(at);
    }
}

fn moved(
    old: Option<RuleHold>,
    rule: &RuleContext,
    labels: Option<&Labels>,
    observation: Option<&Observation>,
    at: Timestamp,
) -> Moved {
    let old_clocks = old.as_ref().map_or(&[][..], |hold| &hold.clocks);
    let old_clock = |position: usize| old_clocks.get(position).copied().flatten();
    // A reload may have put a level in another place: its clock is that of the level, not of the place.
    let kept_clock = |position: usize, condition: &Condition| match condition.level {
        Some(level) => old.as_ref().and_then(|hold| hold.clock_of(level)),
        None => old_clock(position),
    };
    // An unmentioned label set is clear in every condition, and so is a condition without a verdict.
    let verdict = |position: usize| {
        observation
            .and_then(|observation| observation.verdicts.get(position).copied())
            .unwrap_or(Verdict::Clear)
    };
    let mut is_revived = false;
    let clocks: Vec<Option<ConditionClock>> = rule
        .conditions
        .iter()
        .enumerate()
        .map(|(position, condition)| {
            let kept = kept_clock(position, condition);
            let clock = advance(kept, verdict(position), condition, rule.interval, at);
            let was_set_aside = kept.is_some_and(|kept| kept.is_set_aside());
            is_revived |= was_set_aside && clock.is_some_and(|clock| !clock.is_set_aside());
            clock
        })
        .collect();
    let levels = levels_of(rule, labels, old.as_ref());
    let old_level = |position: usize| old.as_ref().and_then(|hold| hold.levels.get(position).copied());
    let mut changed = Vec::new();
    // A reload may have taken conditions away; their clocks end here.
    for position in 0..clocks.len().max(old_clocks.len()) {
        let (old, new) = (old_clock(position), clocks.get(position).copied().flatten());
        let level = levels.get(position).copied();
        let is_worth_writing = match (old, new) {
            (None, None) => false,
            (Some(old), Some(new)) => new.differs_from(&old) || old_level(position) != level,
            _ => true,
        };
        if is_worth_writing {
            changed.push((position as u32, new.zip(level)));
        }
    }
    let hold = clocks
        .iter()
        .any(Option::is_some)
        .then_some(RuleHold { clocks, levels });
    Moved {
        is_revived,
        changed,
        hold,
    }
}

/// Gives the level that each condition raises: its own, or that of the `severity` label.
fn levels_of(rule: &RuleContext, labels: Option<&Labels>, old: Option<&RuleHold>) -> Vec<Level> {
    rule.conditions
        .iter()
        .enumerate()
        .map(|(position, condition)| match (condition.level, labels) {
            (Some(level), _) => level,
            (None, Some(labels)) => Level::from_severity(labels.get(SEVERITY).unwrap_or("")),
            (None, None) => old
                .and_then(|hold| hold.levels.get(position).copied())
                .unwrap_or(Level::Medium),
        })
        .collect()
}

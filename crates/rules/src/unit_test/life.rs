//! The life of alerts in a unit test: exactly Prometheus' own, and levels.
//!
//! The product's lifecycle merges what several rules hold, keeps records and tells people; a verdict of a test
//! depends on none of that. Pure but for its lock.
//!
//! Source: `github.com/prometheus/prometheus`, `rules.AlertingRule.Eval`.

use std::collections::BTreeMap;

use marketprism_model::{
    ActiveAlert, AlertState, Condition, Labels, Level, Lifecycle, LifecycleError, Observation, RuleContext,
    RuleId, Timestamp, Verdict, labels,
};
use parking_lot::Mutex;

/// How one condition stands.
#[derive(Clone, Copy, Debug)]
struct Held {
    active_at: Timestamp,
    is_firing: bool,
    missed_since: Option<Timestamp>,
    unknown_since: Option<Timestamp>,
}

struct Kept {
    observation: Observation,
    held: Vec<Option<Held>>,
}

/// Alerts of a test.
#[derive(Default)]
pub(crate) struct Life {
    kept: Mutex<BTreeMap<(RuleId, Labels), Kept>>,
}

fn advance(old: Option<Held>, verdict: Verdict, condition: &Condition, at: Timestamp) -> Option<Held> {
    match (old, verdict) {
        (None, Verdict::Holds) => Some(Held {
            active_at: at,
            is_firing: condition.hold_for.is_zero(),
            missed_since: None,
            unknown_since: None,
        }),
        (Some(held), Verdict::Holds) => Some(Held {
            active_at: held.active_at,
            is_firing: held.is_firing || at.since(held.active_at) >= condition.hold_for,
            missed_since: None,
            unknown_since: None,
        }),
        (Some(held), Verdict::Lingers) if held.is_firing => Some(Held {
            missed_since: None,
            unknown_since: None,
            ..held
        }),
        (Some(held), Verdict::Unknown) => {
            let since = held.unknown_since.unwrap_or(at);
            if condition.unknown_max.is_some_and(|most| at.since(since) >= most) {
                return advance(Some(held), Verdict::Clear, condition, at);
            }
            Some(Held {
                unknown_since: Some(since),
                ..held
            })
        }
        (Some(held), Verdict::Clear) if held.is_firing => {
            let since = held.missed_since.unwrap_or(at);
            (at.since(since) < condition.keep_firing_for).then_some(Held {
                missed_since: Some(since),
                unknown_since: None,
                ..held
            })
        }
        _ => None,
    }
}

fn shown(kept: &Kept, conditions: &[Condition]) -> Option<ActiveAlert> {
    let pairs = || {
        conditions
            .iter()
            .zip(&kept.held)
            .filter_map(|(condition, held)| Some((condition, (*held)?)))
    };
    let (condition, held) = pairs()
        .find(|(_, held)| held.is_firing)
        .or_else(|| pairs().next())?;
    let observation = &kept.observation;
    Some(ActiveAlert {
        labels: match condition.level {
            Some(level) => observation.labels.with(labels::SEVERITY, level.as_str()),
            None => observation.labels.clone(),
        },
        state: if held.is_firing {
            AlertState::Firing
        } else {
            AlertState::Pending
        },
        level: condition.level.unwrap_or(Level::Medium),
        active_at: held.active_at,
        value: observation.value,
        annotations: observation.annotations.clone(),
    })
}

impl Lifecycle for Life {
    fn observe(
        &self,
        rule: &RuleContext,
        at: Timestamp,
        observations: Vec<Observation>,
    ) -> Result<Vec<ActiveAlert>, LifecycleError> {
        let mut all = self.kept.lock();
        let first = (rule.id, Labels::empty());
        let mut old: BTreeMap<Labels, Kept> = BTreeMap::new();
        let keys: Vec<Labels> = all
            .range(first..)
            .take_while(|((id, _), _)| *id == rule.id)
            .map(|((_, labels), _)| labels.clone())
            .collect();
        for labels in keys {
            if let Some(kept) = all.remove(&(rule.id, labels.clone())) {
                old.insert(labels, kept);
            }
        }
        let mut now: BTreeMap<Labels, Kept> = BTreeMap::new();
        for observation in observations {
            let before = old.remove(&observation.labels);
            let held = rule.conditions.iter().enumerate().map(|(place, condition)| {
                let before = before
                    .as_ref()
                    .and_then(|kept| kept.held.get(place).copied().flatten());
                let verdict = observation.verdicts.get(place).copied().unwrap_or(Verdict::Clear);
                advance(before, verdict, condition, at)
            });
            let held = held.collect();
            now.insert(observation.labels.clone(), Kept { observation, held });
        }
        for (labels, mut kept) in old {
            for (held, condition) in kept.held.iter_mut().zip(&rule.conditions) {
                *held = advance(*held, Verdict::Clear, condition, at);
            }
            now.insert(labels, kept);
        }
        let mut active = Vec::with_capacity(now.len());
        for (labels, kept) in now {
            if let Some(alert) = shown(&kept, &rule.conditions) {
                active.push(alert);
                all.insert((rule.id, labels), kept);
            }
        }
        Ok(active)
    }

    fn held(&self, rule: RuleId) -> Vec<ActiveAlert> {
        let all = self.kept.lock();
        let of_rule = all
            .range((rule, Labels::empty())..)
            .take_while(|((id, _), _)| *id == rule);
        let observed = of_rule.filter_map(|(_, kept)| {
            let held = kept.held.iter().flatten();
            let active_at = held.clone().map(|held| held.active_at).min()?;
            let is_firing = held.clone().any(|held| held.is_firing);
            Some(ActiveAlert {
                labels: kept.observation.labels.clone(),
                state: if is_firing {
                    AlertState::Firing
                } else {
                    AlertState::Pending
                },
                level: Level::Medium,
                active_at,
                value: kept.observation.value,
                annotations: kept.observation.annotations.clone(),
            })
        });
        observed.collect()
    }

    fn commit(&self, _at: Timestamp) -> Result<(), LifecycleError> {
        Ok(())
    }

    fn retain_rules(&self, _rules: &[RuleId], _at: Timestamp) -> Result<(), LifecycleError> {
        Ok(())
    }
}

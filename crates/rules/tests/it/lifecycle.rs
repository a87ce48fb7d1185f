//! A lifecycle in a few lines: enough of `for` and levels to see what rules make of its answers.

use std::collections::BTreeMap;
use std::sync::Mutex;

use marketprism_model::{
    ActiveAlert, AlertState, Labels, Level, Lifecycle, LifecycleError, Observation, RuleContext, RuleId,
    Timestamp, Verdict, labels,
};

/// Since when a condition has held, and whether it fires.
type Held = Option<(Timestamp, bool)>;

/// Keeps, for each rule and label set, how each condition stands.
#[derive(Default)]
pub struct CountingLifecycle {
    pub inner: Mutex<Inner>,
}

#[derive(Default)]
pub struct Inner {
    held: BTreeMap<(RuleId, Labels), Vec<Held>>,
    /// Observations of the last call for each rule.
    pub observed: BTreeMap<String, Vec<Observation>>,
    pub commits: Vec<Timestamp>,
    pub retained: Vec<Vec<RuleId>>,
    /// The rule at which the lifecycle fails as no lifecycle should.
    pub panics_at: Option<&'static str>,
}

impl Lifecycle for CountingLifecycle {
    fn observe(
        &self,
        rule: &RuleContext,
        at: Timestamp,
        observations: Vec<Observation>,
    ) -> Result<Vec<ActiveAlert>, LifecycleError> {
        let mut guard = self.inner.lock().unwrap();
        if guard.panics_at == Some(&*rule.name) {
            drop(guard);
            panic!("a fault of the lifecycle");
        }
        let inner = &mut *guard;
        inner.observed.insert(rule.name.to_string(), observations.clone());
        let mut alerts = Vec::new();
        let mut still = BTreeMap::new();
        for observation in observations {
            let key = (rule.id, observation.labels.clone());
            let before = inner.held.remove(&key);
            let held: Vec<Held> = observation
                .verdicts
                .iter()
                .zip(&rule.conditions)
                .enumerate()
                .map(|(i, (verdict, condition))| {
                    let before = before.as_ref().and_then(|held| held[i]);
                    match verdict {
                        Verdict::Holds => {
                            let since = before.map_or(at, |(since, _)| since);
                            Some((since, at.since(since) >= condition.hold_for))
                        }
                        // What fires stays, nothing new begins.
                        Verdict::Lingers => before.filter(|(_, is_firing)| *is_firing),
                        Verdict::Clear => None,
                        Verdict::Unknown => before,
                    }
                })
                .collect();
            let standing = || rule.conditions.iter().zip(held.iter().copied());
            let firing = standing().find(|(_, held)| held.is_some_and(|(_, is_firing)| is_firing));
            let worst = firing.or_else(|| standing().find(|(_, held)| held.is_some()));
            if let Some((condition, Some((active_at, is_firing)))) = worst {
                let shown = match condition.level {
                    Some(level) => observation.labels.with(labels::SEVERITY, level.as_str()),
                    None => observation.labels.clone(),
                };
                alerts.push(ActiveAlert {
                    labels: shown,
                    state: if is_firing {
                        AlertState::Firing
                    } else {
                        AlertState::Pending
                    },
                    level: condition.level.unwrap_or(Level::Medium),
                    active_at,
                    value: observation.value,
                    annotations: observation.annotations.clone(),
                });
                still.insert(key, held);
            }
        }
        inner.held.retain(|(id, _), _| *id != rule.id);
        inner.held.append(&mut still);
        Ok(alerts)
    }

    fn held(&self, rule: RuleId) -> Vec<ActiveAlert> {
        let inner = self.inner.lock().unwrap();
        let of_rule = inner.held.iter().filter(|((id, _), _)| *id == rule);
        of_rule
            .map(|((_, labels), held)| ActiveAlert {
                labels: labels.clone(),
                state: match held.iter().flatten().any(|(_, is_firing)| *is_firing) {
                    true => AlertState::Firing,
                    false => AlertState::Pending,
                },
                level: Level::Medium,
                active_at: held
                    .iter()
                    .flatten()
                    .map(|(since, _)| *since)
                    .min()
                    .unwrap_or_default(),
                value: 0.0,
                annotations: Labels::empty(),
            })
            .collect()
    }

    fn commit(&self, at: Timestamp) -> Result<(), LifecycleError> {
        self.inner.lock().unwrap().commits.push(at);
        Ok(())
    }

    fn retain_rules(&self, rules: &[RuleId], _: Timestamp) -> Result<(), LifecycleError> {
        self.inner.lock().unwrap().retained.push(rules.to_vec());
        Ok(())
    }
}

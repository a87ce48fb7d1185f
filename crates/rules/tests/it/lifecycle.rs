//! A lifecycle in a few lines: enough of `for` and levels to see what rules make of its answers.

use std::collections::BTreeMap;
use std::sync::Mutex;

use marketprism_model::{
    ActiveAlert, AlertState, Labels, Level, Lifecycle, LifecycleError, Observation, RuleContext, RuleId,
    Timestamp, Verdict, labels,
};

/// Keeps, for each rule and label set, since when each condition has held.
#[derive(Default)]
pub struct CountingLifecycle {
    pub inner: Mutex<Inner>,
}

#[derive(Default)]
pub struct Inner {
    held: BTreeMap<(RuleId, Labels), Vec<Option<Timestamp>>>,
    /// Observations of the last call for each rule.
    pub observed: BTreeMap<String, Vec<Observation>>,
    pub commits: Vec<Timestamp>,
    pub retained: Vec<Vec<RuleId>>,
}

impl Lifecycle for CountingLifecycle {
    fn observe(
        &self,
        rule: &RuleContext,
        at: Timestamp,
        observations: Vec<Observation>,
    ) -> Result<Vec<ActiveAlert>, LifecycleError> {
        let mut inner = self.inner.lock().unwrap();
        let inner = &mut *inner;
        inner.observed.insert(rule.name.to_string(), observations.clone());
        let mut alerts = Vec::new();
        let mut still = BTreeMap::new();
        for observation in observations {
            let key = (rule.id, observation.labels.clone());
            let before = inner.held.remove(&key);
            let since: Vec<Option<Timestamp>> = observation
                .verdicts
                .iter()
                .enumerate()
                .map(
                    |(i, verdict)| match (verdict, before.as_ref().and_then(|since| since[i])) {
                        (Verdict::Holds, since) => Some(since.unwrap_or(at)),
                        (Verdict::Lingers, since) => since,
                        (Verdict::Clear, _) => None,
                    },
                )
                .collect();
            let firing =
                rule.conditions.iter().zip(&since).find(|(condition, since)| {
                    since.is_some_and(|since| at.since(since) >= condition.hold_for)
                });
            let worst = firing.or_else(|| {
                rule.conditions
                    .iter()
                    .zip(&since)
                    .find(|(_, since)| since.is_some())
            });
            if let Some((condition, Some(active_at))) = worst {
                let shown = match condition.level {
                    Some(level) => observation.labels.with(labels::SEVERITY, level.as_str()),
                    None => observation.labels.clone(),
                };
                alerts.push(ActiveAlert {
                    labels: shown,
                    state: if firing.is_some() {
                        AlertState::Firing
                    } else {
                        AlertState::Pending
                    },
                    level: condition.level.unwrap_or(Level::Medium),
                    active_at: *active_at,
                    value: observation.value,
                    annotations: observation.annotations.clone(),
                });
                still.insert(key, since);
            }
        }
        inner.held.retain(|(id, _), _| *id != rule.id);
        inner.held.append(&mut still);
        Ok(alerts)
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

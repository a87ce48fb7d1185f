//! What the operator writes of an escalation policy, and what is wrong with it.

use std::time::Duration;

use marketprism_model::{Level, duration};
use serde::{Deserialize, Serialize};

use super::{Policies, Policy};
use crate::routing::{Faults, RoutingError};
use crate::schedule::{Schedules, count, name};

/// What a target begins with that is a schedule, not a receiver.
pub const SCHEDULE_PREFIX: &str = "schedule:";

const POLICIES_MAX: usize = 1000;
const STEPS_MAX: usize = 20;
const TARGETS_MAX: usize = 20;
const ROUNDS_MAX: u32 = 100;
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const MINUTE: Duration = Duration::from_secs(60);

/// A row of steps, and which alerts they are for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// The name that a route's `escalation` uses.
    pub name: String,
    /// The steps, 1 to 20, each later than the one before.
    pub steps: Vec<StepConfig>,
    /// Whether all steps are taken again; once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<RepeatConfig>,
    /// The levels that escalate; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<Level>,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    /// How long after the round began. Up to 7 d, more than the step before.
    #[serde(with = "duration")]
    pub after: Duration,
    /// Who is told: names of receivers, and `schedule:NAME` for whoever is on call then. 1 to 20.
    pub notify: Vec<String>,
}

/// Further rounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepeatConfig {
    /// How long after a round's last step the next round begins. 1 min to 7 d.
    #[serde(with = "duration")]
    pub every: Duration,
    /// How many rounds follow the first, 1 to 100.
    pub times: u32,
}

impl Policies {
    /// Takes the configured policies; `receivers` are the names that may be told. Gives every fault at once.
    pub fn new(
        configs: &[PolicyConfig],
        receivers: &[&str],
        schedules: &Schedules,
    ) -> Result<Policies, RoutingError> {
        let mut faults = Faults::default();
        count(&mut faults, "escalation_policies", configs.len(), 0, POLICIES_MAX);
        let mut policies = Policies::default();
        for (position, config) in configs.iter().enumerate().take(POLICIES_MAX) {
            let place = format!("escalation_policies[{position}]");
            name(&mut faults, format!("{place}.name"), &config.name);
            check_steps(config, &place, receivers, schedules, &mut faults);
            check_repeat(config.repeat, &place, &mut faults);
            let policy = Policy {
                config: config.clone(),
            };
            if policies.by_name.insert(config.name.clone(), policy).is_some() {
                faults.add(
                    format!("{place}.name"),
                    format!("{:?} is there twice", config.name),
                );
            }
        }
        faults.or(policies)
    }
}

fn check_steps(
    config: &PolicyConfig,
    place: &str,
    receivers: &[&str],
    schedules: &Schedules,
    faults: &mut Faults,
) {
    count(
        faults,
        &format!("{place}.steps"),
        config.steps.len(),
        1,
        STEPS_MAX,
    );
    let mut before = None;
    for (position, step) in config.steps.iter().enumerate().take(STEPS_MAX) {
        let place = format!("{place}.steps[{position}]");
        let given = duration::format(step.after);
        if step.after > WEEK {
            faults.add(
                format!("{place}.after"),
                format!("{given} is out of range; use 0s to 7d"),
            );
        } else if before.is_some_and(|before| step.after <= before) {
            faults.add(
                format!("{place}.after"),
                format!("{given} is not more than the step before has"),
            );
        }
        before = Some(step.after);
        count(
            faults,
            &format!("{place}.notify"),
            step.notify.len(),
            1,
            TARGETS_MAX,
        );
        for (position, target) in step.notify.iter().enumerate().take(TARGETS_MAX) {
            let place = format!("{place}.notify[{position}]");
            match target.strip_prefix(SCHEDULE_PREFIX) {
                Some(name) if schedules.get(name).is_none() => {
                    let known: Vec<&str> = schedules.names().collect();
                    faults.add_unknown(place, "schedule", name, &known);
                }
                None if !receivers.contains(&target.as_str()) => {
                    faults.add_unknown(place, "receiver", target, receivers);
                }
                _ => {}
            }
        }
    }
}

fn check_repeat(repeat: Option<RepeatConfig>, place: &str, faults: &mut Faults) {
    let Some(repeat) = repeat else { return };
    if repeat.every < MINUTE || repeat.every > WEEK {
        let given = duration::format(repeat.every);
        faults.add(
            format!("{place}.repeat.every"),
            format!("{given} is out of range; use 1m to 7d"),
        );
    }
    if !(1..=ROUNDS_MAX).contains(&repeat.times) {
        let given = repeat.times;
        faults.add(
            format!("{place}.repeat.times"),
            format!("{given} is out of range; use 1 to {ROUNDS_MAX}"),
        );
    }
}

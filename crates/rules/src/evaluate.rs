//! One tick of one group.
//!
//! Rules run in order, and what one wrote the next one reads. A rule that fails changes nothing: no alert
//! resolves, no series ends, the reason is kept to be shown. Expressions are evaluated, and series
//! written, at `at − query_offset`; alerts are judged at `at`.
//! Pure: the moment, the data and the sinks come from the caller; the clock only measures how long it took.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::sample::AppendError;
use marketprism_model::{
    ActiveAlert, Clock, Labels, Lifecycle, LifecycleError, SampleSink, SeriesSource, Timestamp,
};
use marketprism_promql::{Engine, InstantSample, Interrupt, QueryError, Session, Uninterrupted};
use thiserror::Error;

use crate::group::{Group, RunningRule};
use crate::observe::{observe, vector};
use crate::output::Written;
use crate::over_limit;
use crate::rule::{GroupSpec, Rule, RuleKind};
use crate::snapshot::Health;

/// The label that says in `ALERTS` how an alert stands.
const ALERT_STATE: &str = "alertstate";
const ALERTS: &str = "ALERTS";
const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";

/// What the installation is called; templates speak of it.
#[derive(Clone, Debug, Default)]
pub struct Installation {
    /// `global.external_labels`
    pub external_labels: Labels,
    /// The address under which users reach the program, without a final slash.
    pub external_url: String,
}

/// What an evaluation is given.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    /// Evaluates expressions.
    pub engine: &'a Engine,
    /// Gives series.
    pub source: &'a dyn SeriesSource,
    /// Takes recorded series and `ALERTS`.
    pub sink: &'a dyn SampleSink,
    /// Takes observations.
    pub lifecycle: &'a dyn Lifecycle,
    /// Measures how long evaluations take.
    pub clock: &'a dyn Clock,
    /// Tells an evaluation to stop.
    pub interrupt: &'a dyn RuleInterrupt,
    /// What templates may say about us.
    pub installation: &'a Installation,
}

/// Tells an evaluation to stop; each rule has its own time.
pub trait RuleInterrupt: Interrupt {
    /// Is called before each rule.
    fn rule_begins(&self);
}

impl RuleInterrupt for Uninterrupted {
    fn rule_begins(&self) {}
}

/// What one tick of one group came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tick {
    /// Rules that were evaluated.
    pub evaluations: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Samples that were written, marks of ended series left out.
    pub samples: usize,
    /// Samples that the store will never take.
    pub samples_refused: usize,
    /// Rules that yielded more than their group's limit.
    pub over_limit: u64,
    /// How long each rule took.
    pub rule_times: Vec<Duration>,
}

/// Why a rule's evaluation came to nothing.
#[derive(Debug, Error)]
pub(crate) enum RuleError {
    #[error("{0}")]
    Query(#[from] QueryError),
    #[error("rule result is not a vector or scalar")]
    Type,
    #[error("two results have the labels {0}; the rule's expression or labels must tell them apart")]
    Duplicate(Labels),
    #[error("exceeded limit of {limit} with {count} {what}")]
    Limit {
        limit: usize,
        count: usize,
        what: &'static str,
    },
    #[error("{0}")]
    Lifecycle(#[from] LifecycleError),
    #[error("writing the result: {0}")]
    Append(#[from] AppendError),
}

/// Evaluates a group by itself; see [`evaluate_group`].
pub fn evaluate_alone(group: &mut Group, at: Timestamp, ports: &Ports<'_>) -> Tick {
    let moment = at - group.spec.query_offset;
    let mut session = ports.engine.session(ports.source, moment, ports.interrupt);
    evaluate_group(group, at, ports, &mut session)
}

/// Evaluates a group's rules at `at`, in order, and ends the tick with one commit of the lifecycle.
///
/// `session` must stand at `at − query_offset`; groups of one moment may share it.
pub fn evaluate_group(
    group: &mut Group,
    at: Timestamp,
    ports: &Ports<'_>,
    session: &mut Session<'_>,
) -> Tick {
    let begun = ports.clock.monotonic();
    let mut tick = Tick {
        rule_times: Vec::with_capacity(group.rules.len()),
        ..Tick::default()
    };
    let tick_of = Moment {
        at,
        written_at: at - group.spec.query_offset,
        limit: group.spec.limit,
    };
    let spec = Arc::clone(&group.spec);
    let rules = group
        .rules
        .chunks_mut(NEAR_COUNT)
        .inspect(|rules| bring_near(rules));
    for rule in rules.flatten().filter(|rule| rule.is_due(at)) {
        let rule_begun = ports.clock.monotonic();
        ports.interrupt.rule_begins();
        let outcome = evaluate_rule(rule, tick_of, ports, session);
        tick.evaluations += 1;
        tell_limit(rule, &spec, &outcome, at, ports);
        match outcome {
            // The program stops: nothing was learnt about the rule.
            Err(RuleError::Query(QueryError::Cancelled)) => break,
            Ok(written) => {
                tick.samples += written.samples;
                tick.samples_refused += written.refused;
                (rule.health, rule.last_error) = (Health::Ok, None);
            }
            Err(error) => {
                tick.failures += 1;
                tick.over_limit += u64::from(matches!(error, RuleError::Limit { .. }));
                let reason: Arc<str> = Arc::from(error.to_string());
                if rule.last_error.as_ref() != Some(&reason) {
                    tracing::warn!(logger = "rules", rule = %rule.rule.name, group = %group.spec.name, error = %reason, "rule failed");
                }
                (rule.health, rule.last_error) = (Health::Err, Some(reason));
            }
        }
        rule.last_at = Some(at);
        rule.evaluation_time = ports.clock.monotonic().saturating_sub(rule_begun);
        tick.rule_times.push(rule.evaluation_time);
    }
    let committed = ports.lifecycle.commit(at);
    // The lifecycle keeps what it could not write and tries again at the next tick.
    if let Err(error) = &committed
        && !group.is_commit_failing
    {
        tracing::error!(logger = "rules", group = %group.spec.name, error = %error, "alerts could not be stored");
    }
    group.is_commit_failing = committed.is_err();
    group.last_at = Some(at);
    group.iterations += 1;
    group.evaluation_time = ports.clock.monotonic().saturating_sub(begun);
    tick
}

/// So many rules are brought near at once: what is touched of them fits into the nearest cache.
const NEAR_COUNT: usize = 16;

/// Touches what the evaluation of rules will: a rule that slept for seconds lies in no cache, and waiting for the parts of
/// all of them together takes a fraction of waiting for one after the other.
fn bring_near(rules: &[RunningRule]) {
    let touch = |touch: fn(&RunningRule) -> usize| {
        black_box(rules.iter().fold(0, |sum: usize, rule| sum ^ touch(rule)));
    };
    touch(RunningRule::touch);
    touch(|rule| rule.rule.touch() ^ rule.prepared.touch());
    touch(|rule| rule.prepared.touch_parts());
}

/// Raises the alert about the limit, or ends it when the rule succeeded. Any other fault leaves it as it is.
fn tell_limit(
    rule: &RunningRule,
    group: &GroupSpec,
    outcome: &Result<Written, RuleError>,
    at: Timestamp,
    ports: &Ports<'_>,
) {
    let Some(context) = &rule.over_limit else { return };
    let observations = match outcome {
        Ok(_) => Vec::new(),
        Err(RuleError::Limit { count, what, .. }) => {
            vec![over_limit::observation(group, &rule.rule, *count, what)]
        }
        Err(_) => return,
    };
    // A single observation has no double, which is all that can be refused.
    let _ = ports.lifecycle.observe(context, at, observations);
}

#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub at: Timestamp,
    pub written_at: Timestamp,
    pub limit: usize,
}

fn evaluate_rule(
    rule: &mut RunningRule,
    moment: Moment,
    ports: &Ports<'_>,
    session: &mut Session<'_>,
) -> Result<Written, RuleError> {
    let answer = session.evaluate(&rule.prepared)?;
    let samples = &*vector(&answer, moment.written_at)?;
    let definition = Arc::clone(&rule.rule);
    match &definition.kind {
        RuleKind::Recording => record(rule, &definition, samples, moment, ports, session),
        RuleKind::Alerting(alerting) => {
            let observations = observe(rule, alerting, samples, moment, ports, session)?;
            let alerts = ports
                .lifecycle
                .observe(&alerting.context, moment.at, observations)?;
            hold(rule, alerts, moment, ports, session)
        }
    }
}

fn record(
    rule: &mut RunningRule,
    definition: &Rule,
    samples: &[InstantSample],
    moment: Moment,
    ports: &Ports<'_>,
    session: &mut Session<'_>,
) -> Result<Written, RuleError> {
    check_limit(moment.limit, samples.len(), "series")?;
    rule.outputs.begin();
    for sample in samples {
        let make = || definition.recorded(&sample.labels);
        let key = (sample.labels.clone(), 0);
        let put = match &sample.histogram {
            Some(histogram) => rule.outputs.put_histogram(key, histogram, make),
            None => rule.outputs.put(key, sample.value, make),
        };
        if let Err(labels) = put {
            rule.outputs.abort();
            return Err(RuleError::Duplicate(labels));
        }
    }
    let written = rule
        .outputs
        .commit(ports.sink, moment.written_at, |labels| session.written(labels))?;
    Ok(written)
}

pub(crate) fn check_limit(limit: usize, count: usize, what: &'static str) -> Result<(), RuleError> {
    if limit > 0 && count > limit {
        return Err(RuleError::Limit { limit, count, what });
    }
    Ok(())
}

/// Keeps the alerts to be shown, and writes `ALERTS` and `ALERTS_FOR_STATE`.
fn hold(
    rule: &mut RunningRule,
    mut alerts: Vec<ActiveAlert>,
    moment: Moment,
    ports: &Ports<'_>,
    session: &mut Session<'_>,
) -> Result<Written, RuleError> {
    // Most rules hold nothing, now as before.
    if alerts.is_empty() && rule.alerts.is_empty() && rule.outputs.len() == 0 {
        return Ok(Written::default());
    }
    alerts.sort_by(|a, b| a.labels.cmp(&b.labels));
    rule.outputs.begin();
    for alert in &alerts {
        let state = || {
            let labels = alert.labels.with(ALERT_STATE, alert.state.as_str());
            labels.with(METRIC_NAME, ALERTS)
        };
        let since = || alert.labels.with(METRIC_NAME, ALERTS_FOR_STATE);
        let since_s = alert.active_at.millis().div_euclid(1000) as f64;
        // Equal labels cannot come twice from the lifecycle; were it so, the first stands.
        let _ = rule
            .outputs
            .put((alert.labels.clone(), 1 + alert.state as u8), 1.0, state);
        let _ = rule.outputs.put((alert.labels.clone(), 0), since_s, since);
    }
    rule.alerts = Arc::from(alerts);
    let written = rule
        .outputs
        .commit(ports.sink, moment.written_at, |labels| session.written(labels))?;
    Ok(written)
}

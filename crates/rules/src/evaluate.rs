//! One tick of one group.
//!
//! Rules run in order, and what one wrote the next one reads. A rule that fails changes nothing: no alert
//! resolves, no series ends, the reason is kept to be shown. Expressions are evaluated, and series
//! written, at `at − query_offset`; alerts are judged at `at`.
//! Pure: the moment, the data and the sinks come from the caller; the clock only measures how long it took.

use std::borrow::Cow;
use std::sync::Arc;

use marketprism_model::labels::{ALERT_NAME, METRIC_NAME, SEVERITY};
use marketprism_model::sample::AppendError;
use marketprism_model::{
    ActiveAlert, Clock, Labels, Lifecycle, LifecycleError, Observation, SampleSink, SeriesSource, Timestamp,
    Verdict,
};
use marketprism_promql::{
    Answer, Engine, InstantSample, Interrupt, QueryError, Session, Uninterrupted, Value, histogram_text,
};
use marketprism_template::{Environment, QuerySample, QuerySource, RuleData, RuleText, SampleValue};
use thiserror::Error;

use crate::group::{Group, RunningRule};
use crate::output::Written;
use crate::rule::{AlertingRule, Rule, RuleKind};
use crate::snapshot::Health;

/// The label that says in `ALERTS` how an alert stands.
const ALERT_STATE: &str = "alertstate";
/// What a template may make of a label: alerts are kept, compared and sent by it.
const LABEL_BYTES_MAX: usize = 4 << 10;
/// What a template may make of an annotation: it goes with each alert into memory, records and messages.
const ANNOTATION_BYTES_MAX: usize = 16 << 10;
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
}

/// Why a rule's evaluation came to nothing.
#[derive(Debug, Error)]
enum RuleError {
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
    let mut tick = Tick::default();
    let tick_of = Moment {
        at,
        written_at: at - group.spec.query_offset,
        limit: group.spec.limit,
    };
    for rule in &mut group.rules {
        let rule_begun = ports.clock.monotonic();
        ports.interrupt.rule_begins();
        let outcome = evaluate_rule(rule, tick_of, ports, session);
        tick.evaluations += 1;
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
                let reason: Arc<str> = Arc::from(error.to_string());
                if rule.last_error.as_ref() != Some(&reason) {
                    tracing::warn!(logger = "rules", rule = %rule.rule.name, group = %group.spec.name, error = %reason, "rule failed");
                }
                (rule.health, rule.last_error) = (Health::Err, Some(reason));
            }
        }
        rule.last_at = Some(at);
        rule.evaluation_time = ports.clock.monotonic().saturating_sub(rule_begun);
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

#[derive(Clone, Copy)]
struct Moment {
    at: Timestamp,
    written_at: Timestamp,
    limit: usize,
}

fn evaluate_rule(
    rule: &mut RunningRule,
    moment: Moment,
    ports: &Ports<'_>,
    session: &mut Session<'_>,
) -> Result<Written, RuleError> {
    let answer = session.evaluate(&rule.prepared)?;
    let scalar;
    let samples: &[InstantSample] = match &answer.value {
        Value::Vector(samples) => samples,
        Value::Scalar(value) => {
            scalar = [InstantSample {
                labels: Labels::empty(),
                timestamp: moment.written_at,
                value: *value,
                histogram: None,
            }];
            &scalar
        }
        _ => return Err(RuleError::Type),
    };
    let definition = Arc::clone(&rule.rule);
    match &definition.kind {
        RuleKind::Recording => record(rule, &definition, samples, moment, ports, session),
        RuleKind::Alerting(alerting) => {
            let observations = observe(&definition, alerting, samples, moment, ports)?;
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
        let make = || {
            let mut builder = sample.labels.to_builder();
            builder.set(METRIC_NAME, &definition.name);
            for (name, value) in &definition.labels {
                builder.set(name, value);
            }
            for name in &definition.removed {
                builder.set(name, "");
            }
            builder.build()
        };
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

/// Judges what the expression yielded. Series that are clear at every level are left out: the lifecycle
/// takes whatever is not mentioned as clear.
fn observe(
    definition: &Rule,
    alerting: &AlertingRule,
    samples: &[InstantSample],
    moment: Moment,
    ports: &Ports<'_>,
) -> Result<Vec<Observation>, RuleError> {
    let judged: Vec<(&InstantSample, Vec<Verdict>)> = samples
        .iter()
        .map(|sample| (sample, alerting.verdicts(compared_value(sample))))
        .filter(|(_, verdicts)| verdicts.iter().any(|verdict| *verdict != Verdict::Clear))
        .collect();
    check_limit(moment.limit, judged.len(), "alerts")?;
    let queries = Queries { ports };
    let environment = Environment {
        now: moment.at,
        external_url: &ports.installation.external_url,
        queries: Some(&queries),
    };
    let mut observations = Vec::with_capacity(judged.len());
    for (sample, verdicts) in judged {
        let data = RuleData::new(
            &sample.labels,
            told_value(sample),
            &ports.installation.external_labels,
            environment.external_url,
        );
        observations.push(Observation {
            labels: alert_labels(definition, alerting, &sample.labels, &data, &environment),
            value: sample.value,
            annotations: annotations(&alerting.annotation_texts, &data, &environment),
            verdicts,
        });
    }
    let mut seen = std::collections::HashSet::with_capacity(observations.len());
    for observation in &observations {
        if !seen.insert(&observation.labels) {
            return Err(RuleError::Duplicate(observation.labels.clone()));
        }
    }
    Ok(observations)
}

/// What templates tell of a value: a histogram is written out.
fn told_value(sample: &InstantSample) -> SampleValue {
    match &sample.histogram {
        Some(histogram) => SampleValue::Histogram(histogram_text(histogram)),
        None => SampleValue::Number(sample.value),
    }
}

/// What levels compare: a histogram is no number, and neither more nor less than one.
fn compared_value(sample: &InstantSample) -> f64 {
    if sample.histogram.is_some() {
        f64::NAN
    } else {
        sample.value
    }
}

fn alert_labels(
    definition: &Rule,
    alerting: &AlertingRule,
    series: &Labels,
    data: &RuleData,
    environment: &Environment<'_>,
) -> Labels {
    let mut builder = series.to_builder();
    builder.set(METRIC_NAME, "");
    for (name, text) in &alerting.label_texts {
        builder.set(name, &cut(text.expand(data, environment), LABEL_BYTES_MAX));
    }
    if !alerting.levels.is_empty() {
        builder.set(SEVERITY, "");
    }
    builder.set(ALERT_NAME, &definition.name);
    builder.build()
}

fn annotations(texts: &[(Box<str>, RuleText)], data: &RuleData, environment: &Environment<'_>) -> Labels {
    Labels::from_pairs(
        texts
            .iter()
            .map(|(name, text)| (name, cut(text.expand(data, environment), ANNOTATION_BYTES_MAX))),
    )
}

/// Cuts a text between two characters, and marks the cut.
fn cut(text: Cow<'_, str>, bytes_max: usize) -> Cow<'_, str> {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return text;
    }
    let end = text.floor_char_boundary(bytes_max - MARK.len());
    Cow::Owned(format!("{}{MARK}", &text[..end]))
}

fn check_limit(limit: usize, count: usize, what: &'static str) -> Result<(), RuleError> {
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

/// Answers the `query` of templates.
struct Queries<'a> {
    ports: &'a Ports<'a>,
}

impl QuerySource for Queries<'_> {
    fn query(&self, expression: &str, at: Timestamp) -> Result<Vec<QuerySample>, String> {
        let parsed = marketprism_promql::parse(expression).map_err(|error| error.to_string())?;
        let ports = self.ports;
        let prepared = ports.engine.prepare(&parsed);
        let answer: Answer = ports
            .engine
            .instant(ports.source, &prepared, at, ports.interrupt)
            .map_err(|error| error.to_string())?;
        match answer.value {
            Value::Vector(samples) => Ok(samples
                .into_iter()
                .map(|sample| QuerySample {
                    value: told_value(&sample),
                    labels: sample.labels,
                })
                .collect()),
            Value::Scalar(value) => Ok(vec![QuerySample {
                labels: Labels::empty(),
                value: value.into(),
            }]),
            _ => Err("query result is not a vector or scalar".to_owned()),
        }
    }
}

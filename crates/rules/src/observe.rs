//! What an alerting rule sees at one moment: what its expression yields, what lingers, and what is missing.
//!
//! Series that are clear at every level are left out: the lifecycle takes whatever is not mentioned as clear. What
//! needs more than the expression (a recovery, a policy for missing data) is asked only of rules that have it, and a
//! recovery only while something fires.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use marketprism_model::labels::{ALERT_NAME, METRIC_NAME, SEVERITY};
use marketprism_model::{ActiveAlert, Labels, Observation, Timestamp, Verdict};
use marketprism_promql::{Answer, InstantSample, Prepared, QueryError, Session, Value, histogram_text};
use marketprism_template::{Environment, QuerySample, QuerySource, RuleData, RuleText, SampleValue};

use crate::evaluate::{Moment, Ports, RuleError, check_limit};
use crate::group::RunningRule;
use crate::missing::{Case, Identity, LOOK_BACK, MISSING_DATA, Memory, pairs};
use crate::recovery::Recovery;
use crate::rule::{AlertingRule, Rule};

/// What a template may make of a label: alerts are kept, compared and sent by it.
pub(crate) const LABEL_BYTES_MAX: usize = 4 << 10;
/// What a template may make of an annotation: it goes with each alert into memory, records and messages.
const ANNOTATION_BYTES_MAX: usize = 16 << 10;

/// Judges what the expression yielded.
pub(crate) fn observe(
    rule: &mut RunningRule,
    alerting: &AlertingRule,
    samples: &[InstantSample],
    moment: Moment,
    ports: &Ports<'_>,
    session: &mut Session<'_>,
) -> Result<Vec<Observation>, RuleError> {
    let is_plain = alerting.recovery.is_none() && alerting.missing_data.is_none();
    if samples.is_empty() && is_plain {
        return Ok(Vec::new());
    }
    let definition = Arc::clone(&rule.rule);
    let judged: Vec<(&InstantSample, Vec<Verdict>)> = samples
        .iter()
        .map(|sample| (sample, alerting.verdicts(compared_value(sample))))
        .filter(|(_, verdicts)| verdicts.iter().any(|verdict| *verdict != Verdict::Clear))
        .collect();
    check_limit(moment.limit, judged.len(), "alerts")?;
    let queries = Queries { ports };
    let author = Author {
        definition: &definition,
        alerting,
        ports,
        environment: Environment {
            now: moment.at,
            external_url: &ports.installation.external_url,
            queries: Some(&queries),
        },
    };
    let mut observations = Vec::with_capacity(judged.len());
    for (sample, verdicts) in judged {
        observations.push(author.observation(sample, verdicts));
    }
    refuse_doubles(&observations)?;
    if is_plain {
        return Ok(observations);
    }
    let held = ports.lifecycle.held(definition.id);
    let own = alerting.label_texts.iter().map(|(name, _)| &**name);
    let identity = Identity::new(own, !alerting.levels.is_empty());
    if let Some(recovery) = &alerting.recovery
        && let Some(operand) = &rule.operand
    {
        let operand = session.evaluate(operand)?;
        let operand = vector(&operand, moment.written_at)?;
        linger(&author, &identity, recovery, &held, &operand, &mut observations);
    }
    if alerting.missing_data.is_some() {
        complete(
            rule,
            &author,
            &identity,
            held,
            samples,
            moment,
            session,
            &mut observations,
        )?;
    }
    Ok(observations)
}

/// Adds what no longer holds but has not come back far enough, of what is held.
fn linger(
    author: &Author<'_>,
    identity: &Identity<'_>,
    recovery: &Recovery,
    held: &[ActiveAlert],
    operand: &[InstantSample],
    observations: &mut Vec<Observation>,
) {
    let held: HashSet<Labels> = held.iter().map(|alert| identity.of(&alert.labels)).collect();
    if held.is_empty() {
        return;
    }
    let mut seen: HashSet<Labels> = observations.iter().map(|one| one.labels.clone()).collect();
    for sample in operand {
        if recovery.recover.holds(compared_value(sample)) || !held.contains(&identity.of(&sample.labels)) {
            continue;
        }
        let observation = author.observation(sample, vec![Verdict::Lingers]);
        if seen.insert(observation.labels.clone()) {
            observations.push(observation);
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "they are what one tick of a rule has at hand"
)]
fn complete(
    rule: &mut RunningRule,
    author: &Author<'_>,
    identity: &Identity<'_>,
    held: Vec<ActiveAlert>,
    samples: &[InstantSample],
    moment: Moment,
    session: &mut Session<'_>,
    observations: &mut Vec<Observation>,
) -> Result<(), RuleError> {
    let (Some(policy), Some(asked)) = (&author.alerting.missing_data, &rule.asked) else {
        return Ok(());
    };
    let answer;
    let present: Cow<'_, [InstantSample]> = match &asked.presence {
        Some(presence) => {
            answer = session.evaluate(presence)?;
            vector(&answer, moment.written_at)?
        }
        None => Cow::Borrowed(samples),
    };
    let down = session.evaluate(&asked.down)?;
    let down = pairs(&vector(&down, moment.written_at)?);
    if policy.raises() && !rule.memory.is_seeded {
        let presence = asked.presence.as_ref().unwrap_or(&rule.prepared);
        look_back(&mut rule.memory, author, identity, presence, moment)?;
    }
    let case = Case {
        policy,
        at: moment.at,
        identity,
        present: &present,
        down: &down,
        held,
        conditions: author.alerting.context.conditions.len(),
    };
    case.complete(&mut rule.memory, observations, |series, word| {
        author.missing(series, word)
    });
    refuse_doubles(observations)
}

/// Looks for series that were there before the start. A look that fails is repeated with the next tick, and what the rule
/// sees now counts all the same.
fn look_back(
    memory: &mut Memory,
    author: &Author<'_>,
    identity: &Identity<'_>,
    presence: &Prepared,
    moment: Moment,
) -> Result<(), RuleError> {
    for back in LOOK_BACK {
        let at = moment.written_at - back;
        match author.at(presence, at) {
            Ok(samples) => memory.seed(identity, at, &samples),
            // The program stops.
            Err(error @ RuleError::Query(QueryError::Cancelled)) => return Err(error),
            Err(error) => {
                if memory.seed_failed() {
                    let rule = &author.definition.name;
                    tracing::warn!(logger = "rules", rule = %rule, error = %error, "the time before the start could not be read");
                }
                return Ok(());
            }
        }
    }
    memory.is_seeded = true;
    Ok(())
}

fn refuse_doubles(observations: &[Observation]) -> Result<(), RuleError> {
    let mut seen = HashSet::with_capacity(observations.len());
    match observations.iter().find(|one| !seen.insert(&one.labels)) {
        Some(twice) => Err(RuleError::Duplicate(twice.labels.clone())),
        None => Ok(()),
    }
}

/// Gives the samples of an answer; a scalar is one without labels.
pub(crate) fn vector(answer: &Answer, at: Timestamp) -> Result<Cow<'_, [InstantSample]>, RuleError> {
    match &answer.value {
        Value::Vector(samples) => Ok(Cow::Borrowed(samples)),
        Value::Scalar(value) => Ok(Cow::Owned(vec![InstantSample {
            labels: Labels::empty(),
            timestamp: at,
            value: *value,
            histogram: None,
        }])),
        _ => Err(RuleError::Type),
    }
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
    match sample.histogram {
        Some(_) => f64::NAN,
        None => sample.value,
    }
}

/// Writes the labels and annotations of a rule's alerts.
struct Author<'a> {
    definition: &'a Rule,
    alerting: &'a AlertingRule,
    ports: &'a Ports<'a>,
    environment: Environment<'a>,
}

impl Author<'_> {
    fn observation(&self, sample: &InstantSample, verdicts: Vec<Verdict>) -> Observation {
        let data = self.data(&sample.labels, told_value(sample));
        Observation {
            labels: self.labels(&sample.labels, &data),
            value: sample.value,
            annotations: self.annotations(&data),
            verdicts,
        }
    }

    fn data(&self, labels: &Labels, value: SampleValue) -> RuleData {
        let installation = self.ports.installation;
        RuleData::new(
            labels,
            value,
            &installation.external_labels,
            self.environment.external_url,
        )
    }

    fn labels(&self, series: &Labels, data: &RuleData) -> Labels {
        let mut builder = series.to_builder();
        builder.set(METRIC_NAME, "");
        for (name, text) in &self.alerting.label_texts {
            builder.set(name, &cut(text.expand(data, &self.environment), LABEL_BYTES_MAX));
        }
        if !self.alerting.levels.is_empty() {
            builder.set(SEVERITY, "");
        }
        builder.set(ALERT_NAME, &self.definition.name);
        builder.build()
    }

    fn annotations(&self, data: &RuleData) -> Labels {
        let expanded = |text: &RuleText| {
            let text = text.expand(data, &self.environment).into_owned();
            cut(Cow::Owned(text), ANNOTATION_BYTES_MAX)
        };
        let texts = self.alerting.annotation_texts.iter();
        Labels::from_pairs(texts.map(|(name, text)| (name, expanded(text))))
    }

    /// Gives labels and annotations of the alert that says that data is missing.
    fn missing(&self, series: &Labels, case: &'static str) -> (Labels, Labels) {
        let data = self.data(series, f64::NAN.into());
        let labels = self.labels(series, &data).with(MISSING_DATA, case);
        let (zh, en) = match case {
            "empty" => ("查询没有任何数据", "the expression yields no data at all"),
            "scrape" => (
                "采集目标失败，序列没有数据",
                "its target cannot be scraped, and so its data is missing",
            ),
            _ => (
                "序列已消失，没有数据",
                "its series has vanished, and so its data is missing",
            ),
        };
        let annotations = self.annotations(&data);
        let annotations = annotations.with(MISSING_DATA, zh).with("missing_data_en", en);
        (labels, annotations)
    }

    /// Asks for the samples of another moment.
    fn at(&self, query: &Prepared, at: Timestamp) -> Result<Vec<InstantSample>, RuleError> {
        let ports = self.ports;
        let answer = ports.engine.instant(ports.source, query, at, ports.interrupt)?;
        Ok(vector(&answer, at)?.into_owned())
    }
}

/// Cuts a text between two characters, and marks the cut.
pub(crate) fn cut(text: Cow<'_, str>, bytes_max: usize) -> Cow<'_, str> {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return text;
    }
    let end = text.floor_char_boundary(bytes_max - MARK.len());
    Cow::Owned(format!("{}{MARK}", &text[..end]))
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

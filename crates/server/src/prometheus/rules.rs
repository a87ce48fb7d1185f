//! `rules` and `alerts`: what is evaluated, how it goes, and what it holds.

use std::collections::HashSet;
use std::hash::Hasher as _;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use marketprism_model::rule::Fnv1a;
use marketprism_model::{Labels, Matcher, Timestamp};
use marketprism_rules::{GroupSnapshot, RuleSnapshot, RulesSnapshot};
use serde_json::{Value, json};

use super::answer::{Failure, success, time};
use super::number::push_alert_value;
use super::params::{Params, parse_whole};
use super::query::on_worker;
use super::series::selectors;
use crate::Server;
use crate::request::Form;

/// `GET rules`
pub async fn rules(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let parts = server.parts()?;
    on_worker(&server, server.shared().config.query_timeout, move |abandoned| {
        let filter = Filter::read(&form.params, abandoned)?;
        let data = filter.page((parts.rules)().as_ref())?;
        Ok(success(&data, &[], form.gzip))
    })
    .await
}

/// `GET alerts`: what pends or fires, the oldest first.
pub async fn alerts(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let parts = server.parts()?;
    let active = parts.alerts.active();
    let told = active.iter().map(|alert| {
        let state = alert.state.as_str();
        one_alert(
            &alert.sent_labels(),
            &alert.annotations,
            state,
            alert.active_at,
            alert.value,
        )
    });
    let data = json!({ "alerts": told.collect::<Vec<_>>() });
    Ok(success(&data, &[], form.gzip))
}

fn one_alert(labels: &Labels, annotations: &Labels, state: &str, active_at: Timestamp, value: f64) -> Value {
    let mut written = String::new();
    push_alert_value(&mut written, value);
    json!({
        "labels": labels,
        "annotations": annotations,
        "state": state,
        "activeAt": time(Some(active_at)),
        "value": written,
    })
}

/// Reads `exclude_alerts`, a switch in any case.
fn has_no_alerts(text: &str) -> Result<bool, Failure> {
    match text.to_ascii_lowercase().as_str() {
        "" | "0" | "f" | "false" => Ok(false),
        "1" | "t" | "true" => Ok(true),
        text => {
            let reason = format_args!(
                "error converting exclude_alerts: strconv.ParseBool: parsing {text:?}: invalid syntax"
            );
            Err(Failure::parameter("exclude_alerts", reason))
        }
    }
}

/// Which rules are wanted; empty sets mean "all".
struct Filter<'a> {
    alerting: bool,
    recording: bool,
    names: HashSet<&'a str>,
    groups: HashSet<&'a str>,
    files: HashSet<&'a str>,
    selectors: Vec<Vec<Matcher>>,
    has_alerts: bool,
    group_limit: usize,
    next_token: &'a str,
}

impl<'a> Filter<'a> {
    fn read(params: &'a Params, abandoned: &AtomicBool) -> Result<Self, Failure> {
        let (alerting, recording) = match params.get("type").to_ascii_lowercase().as_str() {
            "" => (true, true),
            "alert" => (true, false),
            "record" => (false, true),
            other => {
                return Err(Failure::parameter(
                    "type",
                    format_args!("not supported value {other:?}"),
                ));
            }
        };
        let next_token = params.get("group_next_token");
        let group_limit = match params.get("group_limit") {
            "" if next_token.is_empty() => usize::MAX,
            "" => {
                let reason = "group_limit needs to be present in order to paginate over the groups";
                return Err(Failure::parameter("group_next_token", reason));
            }
            text => match parse_whole(text).map(usize::try_from) {
                Ok(Ok(limit)) if limit > 0 => limit,
                Ok(_) => {
                    let reason = "group_limit needs to be greater than 0";
                    return Err(Failure::parameter("group_limit", reason));
                }
                Err(reason) => {
                    let reason = reason.replacen("Atoi", "ParseInt", 1);
                    let reason = format_args!("group_limit needs to be a valid number: {reason}");
                    return Err(Failure::parameter("group_limit", reason));
                }
            },
        };
        let set = |name| params.all(name).collect();
        Ok(Filter {
            alerting,
            recording,
            names: set("rule_name[]"),
            groups: set("rule_group[]"),
            files: set("file[]"),
            selectors: selectors(params, abandoned)?,
            has_alerts: !has_no_alerts(params.get("exclude_alerts"))?,
            group_limit,
            next_token,
        })
    }

    /// Writes the groups that are wanted, from the one that the token names.
    fn page(&self, snapshot: &RulesSnapshot) -> Result<Value, Failure> {
        let mut groups = Vec::new();
        let mut is_reached = self.next_token.is_empty();
        let mut next_token = None;
        for group in &snapshot.groups {
            let token = token(group);
            is_reached = is_reached || token == self.next_token;
            if !is_reached || !self.wants_group(group) {
                continue;
            }
            let rules: Vec<Value> = group
                .rules
                .iter()
                .filter(|rule| self.wants_rule(rule))
                .map(|rule| self.rule(rule))
                .collect();
            if rules.is_empty() {
                continue;
            }
            if groups.len() == self.group_limit {
                next_token = Some(token);
                break;
            }
            groups.push(one_group(group, rules));
        }
        if !is_reached {
            let reason = format_args!(
                "invalid group_next_token '{}'. were rule groups changed?",
                self.next_token
            );
            return Err(Failure::parameter("group_next_token", reason));
        }
        let mut data = json!({ "groups": groups });
        if let Some(token) = next_token {
            data["groupNextToken"] = token.into();
        }
        Ok(data)
    }

    fn wants_group(&self, group: &GroupSnapshot) -> bool {
        let has = |set: &HashSet<&str>, name: &str| set.is_empty() || set.contains(name);
        has(&self.groups, &group.spec.name) && has(&self.files, &group.spec.file)
    }

    fn wants_rule(&self, rule: &RuleSnapshot) -> bool {
        let is_kind = if rule.rule.alerting().is_some() {
            self.alerting
        } else {
            self.recording
        };
        let keeps =
            |matchers: &Vec<Matcher>| matchers.iter().all(|one| one.matches_labels(&rule.rule.labels));
        is_kind
            && (self.names.is_empty() || self.names.contains(&*rule.rule.name))
            && (self.selectors.is_empty() || self.selectors.iter().any(keeps))
    }

    fn rule(&self, snapshot: &RuleSnapshot) -> Value {
        let rule = &snapshot.rule;
        let mut told = json!({
            "name": rule.name,
            "query": rule.expr,
            "health": snapshot.health.as_str(),
            "evaluationTime": seconds(snapshot.evaluation_time),
            "lastEvaluation": time(snapshot.last_evaluation),
            "type": rule.kind_word(),
        });
        let document = told.as_object_mut().expect("it is an object");
        if let Some(error) = &snapshot.last_error {
            document.insert("lastError".to_owned(), error.as_ref().into());
        }
        match rule.alerting() {
            Some(alerting) => {
                let state = snapshot.state().map_or("inactive", |state| state.as_str());
                let shown = if self.has_alerts { &*snapshot.alerts } else { &[] };
                let alerts = shown.iter().map(|alert| {
                    let state = alert.state.as_str();
                    one_alert(
                        &alert.labels,
                        &alert.annotations,
                        state,
                        alert.active_at,
                        alert.value,
                    )
                });
                let mut add = |name: &str, value: Value| document.insert(name.to_owned(), value);
                add("state", state.into());
                add("duration", seconds(alerting.hold_for));
                add("keepFiringFor", seconds(alerting.keep_firing_for));
                add("labels", json!(rule.labels));
                add("annotations", json!(alerting.annotations));
                add("alerts", alerts.collect());
            }
            None => {
                document.insert("labels".to_owned(), json!(rule.labels));
            }
        }
        told
    }
}

fn one_group(group: &GroupSnapshot, rules: Vec<Value>) -> Value {
    json!({
        "name": group.spec.name,
        "file": group.spec.file,
        "rules": rules,
        "interval": seconds(group.spec.interval),
        "limit": group.spec.limit,
        "evaluationTime": seconds(group.evaluation_time),
        "lastEvaluation": time(group.last_evaluation),
    })
}

/// Writes a span in seconds; whole ones without a fraction, as Go writes them.
fn seconds(span: Duration) -> Value {
    if span.subsec_nanos() == 0 {
        span.as_secs().into()
    } else {
        span.as_secs_f64().into()
    }
}

/// Names a group so that the next page can begin with it.
fn token(group: &GroupSnapshot) -> String {
    let mut hash = Fnv1a::default();
    hash.write(group.spec.file.as_bytes());
    hash.write(b";");
    hash.write(group.spec.name.as_bytes());
    format!("{:016x}", hash.finish())
}

//! `/api/v1/rules`: rule groups and how their rules stand, levels included; and those that are made here.
//!
//! Groups of files are only shown: the file is what is changed. A group that is made by API is changed as a whole, and
//! whoever changes it names the version that was seen. What the rules mean is judged in the room `rules`, with the same
//! words as for files.

use std::collections::HashSet;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use marketprism_model::{Id, RuleGroupRecord, RuleGroupVersion, RuleStoreError};
use marketprism_rules::{
    ApiGroup, Edit, GroupSnapshot, LevelSpec, MissingPolicy, Origin, RuleFileError, RuleSnapshot,
    RulebookError, SUBMISSION_BYTES_MAX, Saved, Submission, definition_to_yaml,
};
use serde_json::{Value, json};

use super::{document, list};
use crate::Server;
use crate::access::{Caller, Subject};
use crate::answer::{self, Gzip};
use crate::problem::Problem;
use crate::request::{Query, Segment, has_media_type, read_body};

/// Media types of YAML: the registered one, and those that came before it.
const YAML_TYPES: [&str; 4] = [
    "application/yaml",
    "application/x-yaml",
    "text/yaml",
    "text/x-yaml",
];
/// A comment may have this many bytes.
const COMMENT_BYTES_MAX: usize = 2_000;

/// `GET /api/v1/rules`: all groups in one page, for they are few.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    list::known_only(&query.params, &[])?;
    let parts = server.parts()?;
    let snapshot = (parts.rules)();
    let running: HashSet<Id> = snapshot.groups.iter().filter_map(|group| id_of(group)).collect();
    let made = parts.rulebook.groups();
    let idle = made.iter().filter(|group| !running.contains(&group.record.id));
    let groups: Vec<Value> = snapshot
        .groups
        .iter()
        .map(|group| one_group(group))
        .chain(idle.map(idle_group))
        .collect();
    Ok(answer::json(
        &json!({ "items": groups, "next_cursor": null }),
        query.gzip,
    ))
}

/// `GET /api/v1/rules/{id}`: a group made by API as it stands, how its rules do, and its history; `format=yaml` gives it
/// as a rule file, `deleted=true` finds deleted ones too.
pub async fn one(
    State(server): State<Server>,
    Segment(id): Segment,
    query: Query,
) -> Result<Response, Problem> {
    list::known_only(&query.params, &["format", "deleted"])?;
    let is_yaml = match query.params.get("format") {
        "" | "json" => false,
        "yaml" => true,
        other => {
            let reason = format_args!("{other:?} is not known; known are json, yaml");
            return Err(Problem::bad_parameter("format", reason));
        }
    };
    let finds_deleted = match query.params.get("deleted") {
        "" | "false" => false,
        "true" => true,
        other => {
            let reason = format_args!("{other:?} is neither true nor false");
            return Err(Problem::bad_parameter("deleted", reason));
        }
    };
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let stands = parts.rulebook.group(id);
    if stands.is_none() && !finds_deleted {
        return Err(not_found(id));
    }
    if let (true, Some(group)) = (is_yaml, &stands) {
        return yaml(&group.record);
    }
    let rulebook = std::sync::Arc::clone(&parts.rulebook);
    let history = server
        .act(move || rulebook.history(id).map_err(Problem::from))
        .await?;
    if stands.is_none() && history.is_empty() {
        return Err(not_found(id));
    }
    let mut told = match &stands {
        Some(group) => {
            let mut told = record_document(&group.record);
            let snapshot = (parts.rules)();
            let running = snapshot.groups.iter().find(|group| id_of(group) == Some(id));
            told["rules"] = running.map_or(Value::Null, |group| group.rules.iter().map(one_rule).collect());
            told["faults"] = group.faults.iter().map(fault).collect();
            told
        }
        None => json!({ "id": id.to_string(), "source": "api", "deleted": true, "definition": null }),
    };
    told["history"] = history.iter().map(version).collect();
    let mut response = answer::json(&told, query.gzip);
    if let Some(group) = &stands {
        tag(&mut response, &group.record);
    }
    Ok(response)
}

/// `POST /api/v1/rules`: a group, a rule file of one group, or one rule with its `group`, as JSON or YAML; 201 with the
/// group, 200 when the rule joined a group that was there.
pub async fn create(
    State(server): State<Server>,
    caller: Caller,
    query: Query,
    request: Request,
) -> Result<Response, Problem> {
    list::known_only(&query.params, &["comment"])?;
    let parts = server.parts()?;
    let edit = edit(&caller, &query, None)?;
    let sent = submission(request).await?;
    let saved = parts.rulebook.create(sent, edit).await?;
    Ok(answer_saved(&saved))
}

/// `PUT /api/v1/rules/{id}`: the group that is sent takes the place of the one that stands; `If-Match`, or `version` in
/// the body, names the version that was seen.
pub async fn change(
    State(server): State<Server>,
    Segment(id): Segment,
    caller: Caller,
    query: Query,
    request: Request,
) -> Result<Response, Problem> {
    list::known_only(&query.params, &["comment"])?;
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let seen = if_match(request.headers())?;
    let edit = edit(&caller, &query, seen)?;
    let sent = submission(request).await?;
    let changed = parts.rulebook.change(id, sent, edit).await;
    let saved = changed.map_err(|error| told(error, seen.is_some(), parts.rulebook.group(id)))?;
    Ok(answer_saved(&saved))
}

/// `DELETE /api/v1/rules/{id}`: its alerts resolve at once. `If-Match` may name the version that was seen.
pub async fn remove(
    State(server): State<Server>,
    Segment(id): Segment,
    caller: Caller,
    query: Query,
    request: Request,
) -> Result<Response, Problem> {
    list::known_only(&query.params, &["comment"])?;
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let seen = if_match(request.headers())?;
    let edit = edit(&caller, &query, seen)?;
    let deleted = parts.rulebook.delete(id, edit).await;
    let deleted = deleted.map_err(|error| told(error, true, parts.rulebook.group(id)))?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.extensions_mut().insert(Subject(subject(&deleted)));
    Ok(response)
}

fn parse_id(text: &str) -> Result<Id, Problem> {
    text.parse()
        .map_err(|_| Problem::not_found("no rule group made by API has this id; groups of files have none"))
}

fn not_found(id: Id) -> Problem {
    Problem::not_found(RuleStoreError::NotFound(id).to_string())
}

/// Reads who changes, what was seen, and why.
fn edit(caller: &Caller, query: &Query, expected: Option<u32>) -> Result<Edit, Problem> {
    let comment = query.params.get("comment");
    if comment.len() > COMMENT_BYTES_MAX {
        let reason = format_args!("longer than {COMMENT_BYTES_MAX} bytes");
        return Err(Problem::bad_parameter("comment", reason));
    }
    let actor = &caller.identity()?.actor;
    Ok(Edit {
        author: match actor.is_empty() {
            true => "anonymous".to_owned(),
            false => actor.clone(),
        },
        expected,
        comment: comment.to_owned(),
    })
}

async fn submission(request: Request) -> Result<Submission, Problem> {
    let is_json = has_media_type(request.headers(), "application/json");
    let is_yaml = YAML_TYPES
        .iter()
        .any(|name| has_media_type(request.headers(), name));
    if !is_json && !is_yaml {
        return Err(Problem::unsupported_media_type(
            "the body must be application/json or application/yaml",
        ));
    }
    let bytes = read_body(request.into_body(), SUBMISSION_BYTES_MAX).await?;
    Submission::read(&bytes, is_json).map_err(|faults| faulty(&faults))
}

/// Reads the version of `If-Match: "3"`; `*` and an absent header name none.
fn if_match(headers: &HeaderMap) -> Result<Option<u32>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("").trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
    number.parse().map(Some).map_err(|_| {
        Problem::bad_parameter(
            "If-Match",
            "it is no version; send the ETag of the group, such as \"3\"",
        )
    })
}

fn tag(response: &mut Response, record: &RuleGroupRecord) {
    if let Ok(value) = HeaderValue::try_from(format!("\"{}\"", record.version)) {
        response.headers_mut().insert(header::ETAG, value);
    }
}

fn subject(record: &RuleGroupRecord) -> String {
    format!("{} ({})", record.name, record.id)
}

fn answer_saved(saved: &Saved) -> Response {
    let record = &saved.record;
    let mut told = record_document(record);
    told["warnings"] = saved.warnings.clone().into();
    let mut response = answer::json(&told, Gzip(false));
    if saved.is_new {
        *response.status_mut() = StatusCode::CREATED;
        if let Ok(place) = HeaderValue::try_from(format!("/api/v1/rules/{}", record.id)) {
            response.headers_mut().insert(header::LOCATION, place);
        }
    }
    tag(&mut response, record);
    response.extensions_mut().insert(Subject(subject(record)));
    response
}

fn yaml(record: &RuleGroupRecord) -> Result<Response, Problem> {
    let text = definition_to_yaml(&record.definition).map_err(|error| {
        tracing::error!(error = %error, "a rule group that was made by API is damaged");
        Problem::internal()
    })?;
    let kind = [(header::CONTENT_TYPE, "application/yaml")];
    let mut response = (kind, text).into_response();
    tag(&mut response, record);
    Ok(response)
}

/// Names every fault with its place.
fn faulty(faults: &[RuleFileError]) -> Problem {
    let detail: Vec<String> = faults.iter().take(20).map(ToString::to_string).collect();
    Problem::bad_rules(detail.join("; ")).with("errors", faults.iter().map(fault).collect())
}

fn fault(fault: &RuleFileError) -> Value {
    json!({
        "line": (fault.line > 0).then_some(fault.line),
        "column": (fault.column > 0).then_some(fault.column),
        "group": fault.group,
        "rule": fault.rule,
        "reason": fault.reason,
    })
}

impl From<RulebookError> for Problem {
    fn from(error: RulebookError) -> Self {
        told(error, false, None)
    }
}

/// Says why a change was not made, with the group that stands when somebody else has changed it.
fn told(error: RulebookError, is_by_header: bool, stands: Option<ApiGroup>) -> Problem {
    match error {
        RulebookError::Faulty(faults) => faulty(&faults),
        RulebookError::NotAGroup => Problem::bad_body(error.to_string()),
        RulebookError::NoVersion => Problem::precondition_required(error.to_string()),
        RulebookError::TooManyRules { .. } => Problem::conflict(error.to_string()),
        RulebookError::Store(RuleStoreError::Conflict { .. }) => {
            let problem = match is_by_header {
                true => Problem::precondition_failed(error.to_string()),
                false => Problem::conflict(error.to_string()),
            };
            match stands {
                Some(group) => problem.with("current", record_document(&group.record)),
                None => problem,
            }
        }
        RulebookError::Store(RuleStoreError::NotFound(id)) => not_found(id),
        RulebookError::Store(RuleStoreError::NameTaken(_) | RuleStoreError::TooMany { .. }) => {
            Problem::conflict(error.to_string())
        }
        RulebookError::Store(RuleStoreError::Store(error)) => error.into(),
        RulebookError::Replace(_) => Problem::unavailable(error.to_string()),
        RulebookError::Panicked => Problem::internal(),
    }
}

fn id_of(group: &GroupSnapshot) -> Option<Id> {
    match &group.spec.origin {
        Origin::File => None,
        Origin::Api(record) => Some(record.id),
    }
}

/// Writes a group that was made by API.
fn record_document(record: &RuleGroupRecord) -> Value {
    let definition: Value = serde_json::from_str(&record.definition).unwrap_or(Value::Null);
    json!({
        "id": record.id.to_string(),
        "source": "api",
        "name": record.name,
        "version": record.version,
        "author": record.updated_by,
        "comment": record.comment,
        "created_by": record.created_by,
        "created_at": document::time(record.created_at),
        "updated_at": document::time(record.updated_at),
        "definition": definition,
    })
}

fn version(version: &RuleGroupVersion) -> Value {
    json!({
        "version": version.version,
        "name": version.name,
        "author": version.author,
        "at": document::time(version.at),
        "comment": version.comment,
        "deleted": version.is_deletion,
        "definition": serde_json::from_str::<Value>(&version.definition).unwrap_or(Value::Null),
    })
}

fn one_group(group: &GroupSnapshot) -> Value {
    let mut told = json!({
        "name": group.spec.name,
        "file": group.spec.file,
        "line": group.spec.line,
        "source": "file",
        "interval_s": group.spec.interval.as_secs_f64(),
        "query_offset_s": group.spec.query_offset.as_secs_f64(),
        "jitter_s": group.spec.jitter.as_secs_f64(),
        "limit": group.spec.limit,
        "last_evaluation": document::time(group.last_evaluation),
        "evaluation_time_s": group.evaluation_time.as_secs_f64(),
        "iterations": group.iterations,
        "missed": group.missed,
        "rules": group.rules.iter().map(one_rule).collect::<Vec<_>>(),
    });
    if let Origin::Api(record) = &group.spec.origin {
        add_origin(&mut told, record);
    }
    told
}

/// Writes a group made by API that does not run.
fn idle_group(group: &ApiGroup) -> Value {
    let mut told = json!({
        "name": group.record.name,
        "file": marketprism_rules::API_FILE,
        "rules": [],
        "faults": group.faults.iter().map(fault).collect::<Vec<_>>(),
    });
    add_origin(&mut told, &group.record);
    told
}

fn add_origin(told: &mut Value, record: &RuleGroupRecord) {
    let Value::Object(mut origin) = record_document(record) else {
        return;
    };
    origin.remove("definition");
    if let Value::Object(told) = told {
        told.append(&mut origin);
    }
}

fn one_rule(snapshot: &RuleSnapshot) -> Value {
    let rule = &snapshot.rule;
    let mut told = json!({
        "id": rule.id.to_string(),
        "type": rule.kind_word(),
        "name": rule.name,
        "expr": rule.expr,
        "line": rule.line,
        "interval_s": rule.interval.map(|own| own.as_secs_f64()),
        "labels": document::labels(&rule.labels),
        "health": snapshot.health.as_str(),
        "last_error": snapshot.last_error,
        "last_evaluation": document::time(snapshot.last_evaluation),
        "evaluation_time_s": snapshot.evaluation_time.as_secs_f64(),
        "series": snapshot.series,
    });
    if let Some(alerting) = rule.alerting() {
        told["annotations"] = document::labels(&alerting.annotations);
        told["for_s"] = alerting.hold_for.as_secs_f64().into();
        told["keep_firing_for_s"] = alerting.keep_firing_for.as_secs_f64().into();
        told["levels"] = alerting.levels.iter().map(one_level).collect();
        told["recover"] = alerting
            .recovery
            .as_ref()
            .map(|recovery| recovery.text.as_str())
            .into();
        told["missing"] = alerting.missing_data.as_ref().map_or(Value::Null, missing_data);
        told["missing_count"] = snapshot.missing.into();
        told["state"] = snapshot.state().map_or("inactive", |state| state.as_str()).into();
        told["alert_count"] = snapshot.alerts.len().into();
    }
    told
}

fn one_level(level: &LevelSpec) -> Value {
    json!({
        "level": level.level,
        "when": level.when_text,
        "recover": level.recover_text,
        "for_s": level.hold_for.as_secs_f64(),
        "keep_firing_for_s": level.keep_firing_for.as_secs_f64(),
    })
}

fn missing_data(policy: &MissingPolicy) -> Value {
    json!({
        "series": policy.series.as_str(),
        "scrape": policy.scrape.as_str(),
        "empty": policy.empty.as_str(),
        "at_most_s": policy.at_most.map(|span| span.as_secs_f64()),
    })
}

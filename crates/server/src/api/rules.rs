//! `/api/v1/rules`: rule groups and how their rules stand, levels included.

use axum::extract::State;
use axum::response::Response;
use marketprism_rules::{GroupSnapshot, LevelSpec, RuleSnapshot};
use serde_json::{Value, json};

use super::{document, list};
use crate::Server;
use crate::answer;
use crate::problem::Problem;
use crate::request::Query;

/// `GET /api/v1/rules`: all groups in one page, for they are few.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    list::known_only(&query.params, &[])?;
    let parts = server.parts()?;
    let groups: Vec<Value> = (parts.rules)()
        .groups
        .iter()
        .map(|group| one_group(group))
        .collect();
    Ok(answer::json(
        &json!({ "items": groups, "next_cursor": null }),
        query.gzip,
    ))
}

fn one_group(group: &GroupSnapshot) -> Value {
    json!({
        "name": group.spec.name,
        "file": group.spec.file,
        "line": group.spec.line,
        "interval_s": group.spec.interval.as_secs_f64(),
        "query_offset_s": group.spec.query_offset.as_secs_f64(),
        "limit": group.spec.limit,
        "last_evaluation": document::time(group.last_evaluation),
        "evaluation_time_s": group.evaluation_time.as_secs_f64(),
        "iterations": group.iterations,
        "missed": group.missed,
        "rules": group.rules.iter().map(one_rule).collect::<Vec<_>>(),
    })
}

fn one_rule(snapshot: &RuleSnapshot) -> Value {
    let rule = &snapshot.rule;
    let mut told = json!({
        "id": rule.id.to_string(),
        "type": rule.kind_word(),
        "name": rule.name,
        "expr": rule.expr,
        "line": rule.line,
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

//! `/api/v1/audit`: who did what, when, from where, and how it ended.

use axum::extract::State;
use axum::response::Response;
use marketprism_model::{AuditEntry, AuditFilter};
use serde_json::{Value, json};

use super::document;
use super::list::{cursor, known_only, limit};
use crate::Server;
use crate::access;
use crate::answer;
use crate::problem::Problem;
use crate::request::Query;

/// `GET /api/v1/audit`: newest first.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    let params = &query.params;
    known_only(params, &["actor", "action", "limit", "cursor"])?;
    let filter = AuditFilter {
        actor: params.get("actor").to_owned(),
        action: params.get("action").to_owned(),
        limit: limit(params)?,
        cursor: cursor(params),
    };
    let page = access::ask(&server, false, move |access| access.audit(&filter)).await?;
    Ok(answer::json(&document::page(&page, entry), query.gzip))
}

fn entry(entry: &AuditEntry) -> Value {
    json!({
        "id": entry.id.to_string(),
        "at": entry.at.to_string(),
        "actor": entry.actor,
        "role": entry.role.map(|role| role.name()),
        "action": entry.action,
        "subject": entry.subject,
        "outcome": entry.outcome,
        "client": entry.client,
        "trace_id": entry.trace_id,
        "detail": entry.detail,
    })
}

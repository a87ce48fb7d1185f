//! `/api/v1/tokens`: long-lived credentials of programs. For administrators.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use marketprism_access::NewToken;
use marketprism_model::{ApiToken, Role};
use serde::Deserialize;
use serde_json::{Value, json};

use super::document::time;
use super::list::{known_only, page_by_name};
use crate::Server;
use crate::access::{self, Caller, Subject};
use crate::answer::{self, Gzip};
use crate::problem::Problem;
use crate::prometheus::params::parse_time;
use crate::request::{LOGIN_BYTES_MAX, Query, Segment, read_json};

/// `GET /api/v1/tokens`: by name, without their values, which nobody keeps.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    known_only(&query.params, &["limit", "cursor"])?;
    let tokens = access::ask(&server, false, |access| access.tokens()).await?;
    let page = page_by_name(&query.params, &tokens, |token| &token.name, document)?;
    Ok(answer::json(&page, query.gzip))
}

/// The body of a new token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    role: Role,
    #[serde(default)]
    expires_at: Option<String>,
}

/// `POST /api/v1/tokens`: `{name, role, expires_at}`; 201 with the token and, this once, its `value`.
pub async fn create(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let by = caller.identity()?.clone();
    let New {
        name,
        role,
        expires_at,
    } = read_json(request, LOGIN_BYTES_MAX).await?;
    let expires_at = match expires_at.as_deref() {
        None | Some("") => None,
        Some(text) => Some(parse_time(text).map_err(|reason| Problem::bad_parameter("expires_at", reason))?),
    };
    let new = NewToken {
        name,
        role,
        expires_at,
    };
    let (token, value) = access::ask(&server, false, move |access| access.create_token(&by, new)).await?;
    let mut told = document(&token);
    told["value"] = value.expose().into();
    let mut response = answer::json(&told, Gzip(false));
    *response.status_mut() = StatusCode::CREATED;
    response.extensions_mut().insert(Subject(token.name));
    Ok(response)
}

/// `DELETE /api/v1/tokens/{name}`: worth nothing from now on.
pub async fn remove(State(server): State<Server>, Segment(name): Segment) -> Result<Response, Problem> {
    access::ask(&server, false, move |access| access.delete_token(&name)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn document(token: &ApiToken) -> Value {
    json!({
        "id": token.id.to_string(),
        "name": token.name,
        "role": token.role.name(),
        "created_by": token.created_by,
        "created_at": token.created_at.to_string(),
        "expires_at": time(token.expires_at),
        "last_used_at": time(token.last_used_at),
    })
}

//! `/api/v1/users`: who can log in. For administrators.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use marketprism_access::{ChangeError, NewUser, UserChange};
use marketprism_model::{Role, Secret, User};
use serde::Deserialize;
use serde_json::{Value, json};

use super::list::{known_only, page_by_name};
use crate::Server;
use crate::access::{self, Subject};
use crate::answer::{self, Gzip};
use crate::problem::Problem;
use crate::request::{LOGIN_BYTES_MAX, Query, Segment, read_json};

/// `GET /api/v1/users`: by name.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    known_only(&query.params, &["limit", "cursor"])?;
    let users = access::ask(&server, false, |access| access.users()).await?;
    let page = page_by_name(&query.params, &users, |user| &user.name, document)?;
    Ok(answer::json(&page, query.gzip))
}

/// The body of a new user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    role: Role,
    password: Secret,
}

/// `POST /api/v1/users`: `{name, role, password}`; 201 with the user.
pub async fn create(State(server): State<Server>, request: Request) -> Result<Response, Problem> {
    let New { name, role, password } = read_json(request, LOGIN_BYTES_MAX).await?;
    let new = NewUser { name, role, password };
    let user = access::ask(&server, true, move |access| access.create_user(new)).await?;
    let mut response = answer::json(&document(&user), Gzip(false));
    *response.status_mut() = StatusCode::CREATED;
    response.extensions_mut().insert(Subject(user.name));
    Ok(response)
}

/// The body of a change; what is absent stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default)]
    role: Option<Role>,
    #[serde(default)]
    password: Option<Secret>,
    #[serde(default)]
    is_disabled: Option<bool>,
}

/// `PATCH /api/v1/users/{name}`: `{role, password, is_disabled}`, each may be left out; the user's sessions end.
pub async fn change(
    State(server): State<Server>,
    Segment(name): Segment,
    request: Request,
) -> Result<Response, Problem> {
    let change: Change = read_json(request, LOGIN_BYTES_MAX).await?;
    let change = UserChange {
        role: change.role,
        password: change.password,
        is_disabled: change.is_disabled,
    };
    let user = access::ask(&server, true, move |access| access.change_user(&name, change)).await?;
    Ok(answer::json(&document(&user), Gzip(false)))
}

/// `DELETE /api/v1/users/{name}`
pub async fn remove(State(server): State<Server>, Segment(name): Segment) -> Result<Response, Problem> {
    access::ask(&server, false, move |access| access.delete_user(&name)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Name(_) => Problem::bad_parameter("name", error),
            ChangeError::Password(_) => Problem::bad_parameter("password", error),
            ChangeError::Past(_) => Problem::bad_parameter("expires_at", error),
            ChangeError::NotFound(_) => Problem::not_found(error.to_string()),
            ChangeError::NameTaken(_) | ChangeError::LastAdmin(_) | ChangeError::TooMany => {
                Problem::conflict(error.to_string())
            }
            ChangeError::RoleAbove { .. } => Problem::forbidden(error.to_string()),
            ChangeError::Busy => Problem::busy(error.to_string()),
            ChangeError::Store(error) => error.into(),
        }
    }
}

fn document(user: &User) -> Value {
    json!({
        "id": user.id.to_string(),
        "name": user.name,
        "role": user.role.name(),
        "is_disabled": user.is_disabled,
        "created_at": user.created_at.to_string(),
    })
}

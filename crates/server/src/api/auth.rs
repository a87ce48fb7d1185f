//! `/api/v1/auth`: beginning and ending a session, and who asks.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use marketprism_access::{Access, Client, Credential, Refusal, UserChange};
use marketprism_model::Secret;
use serde::Deserialize;
use serde_json::json;

use crate::Server;
use crate::access::{self, Caller, Subject, refusal};
use crate::answer::{self, Gzip};
use crate::problem::Problem;
use crate::request::{LOGIN_BYTES_MAX, read_json};

/// The body of `login`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    username: String,
    password: Secret,
}

/// `POST /api/v1/auth/login`: `{username, password}`, the answer is `{token, expires_at}`.
pub async fn login(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers().clone();
    let Login { username, password } = read_json(request, LOGIN_BYTES_MAX).await?;
    let outcome = access::ask(&server, true, move |access| {
        access.login(&caller.client, &username, &password)
    })
    .await;
    Ok(match outcome {
        Ok(session) => {
            let told = json!({
                "token": session.token.expose(),
                "expires_at": session.expires_at.to_string(),
            });
            answer::json(&told, Gzip(false))
        }
        Err(problem) => refusal::challenged(problem, &headers),
    })
}

/// `POST /api/v1/auth/logout`: the token that asks is worth nothing from now on.
pub async fn logout(State(server): State<Server>, caller: Caller) -> Result<Response, Problem> {
    let identity = caller.identity()?.clone();
    if identity.session.is_none() {
        return Err(Problem::conflict(
            "no session asks; API tokens and passwords have none to end",
        ));
    }
    let subject = identity.actor.clone();
    access::ask(&server, false, move |access| access.logout(&identity)).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.extensions_mut().insert(Subject(subject));
    Ok(response)
}

/// `GET /api/v1/auth/me`: who asks; the name is empty where nobody is asked.
pub async fn me(caller: Caller) -> Result<Response, Problem> {
    let identity = caller.identity()?;
    let told = json!({
        "name": identity.actor,
        "role": identity.role.name(),
        "session_expires_at": identity.session.map(|session| session.expires_at.to_string()),
        "client": caller.client.address.to_string(),
    });
    Ok(answer::json(&told, Gzip(false)))
}

/// The body of `password`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    old: Secret,
    new: Secret,
}

/// `POST /api/v1/auth/password`: `{old, new}`; all sessions of the user end, this one too.
pub async fn password(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let Caller { client, identity } = caller;
    let name = identity.map_or_else(String::new, |identity| identity.actor);
    let Change { old, new } = read_json(request, LOGIN_BYTES_MAX).await?;
    let subject = name.clone();
    access::ask(&server, true, move |access| {
        change(access, &client, name, old, new)
    })
    .await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.extensions_mut().insert(Subject(subject));
    Ok(response)
}

/// Checks the old password as any other, failures counted, and sets the new one.
fn change(access: &Access, client: &Client, name: String, old: Secret, new: Secret) -> Result<(), Problem> {
    let credential = Credential::Basic {
        user: name.clone(),
        password: old,
    };
    match access.identify(client, Some(&credential)) {
        Ok(identity) if !name.is_empty() && identity.actor == name => {}
        Ok(_) => return Err(Problem::conflict("no user asks; only users have a password")),
        Err(Refusal::BadCredential) => return Err(Problem::forbidden("the old password is not accepted")),
        Err(refusal) => return Err(refusal.into()),
    }
    let change = UserChange {
        password: Some(new),
        ..UserChange::default()
    };
    access.change_user(&name, change)?;
    Ok(())
}

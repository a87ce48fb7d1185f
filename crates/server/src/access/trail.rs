//! The line that each request which changes something leaves in the audit log, however it ends.
//!
//! Such a request runs as a task of its own: a client that hangs up right after asking cannot have the act without
//! the line. The act comes first and its line after it; a store that fails in between costs the line, which is then
//! an error in the program's log.

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::StatusCode;
use marketprism_access::Event;
use marketprism_model::AuditOutcome;
use tracing::Instrument as _;

use super::{Asked, Caller, ask};
use crate::Server;
use crate::alertmanager::answer::Explained;
use crate::problem::Problem;
use crate::routes::Route;

/// What somebody named is kept up to this length.
const SUBJECT_CHARS_MAX: usize = 128;
/// What is said of the outcome is kept up to this length.
const DETAIL_CHARS_MAX: usize = 256;

/// What a request was about, told by its handler where the path does not say it.
#[derive(Clone, Debug)]
pub struct Subject(pub String);

/// Lets the handler answer; a row of the table with an action leaves its line.
///
/// Where nobody is asked who they are before the handler (logging in and out), whoever recognises the sender writes it.
pub async fn run(
    server: &Server,
    asked: Asked,
    caller: Option<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let action = asked.route.and_then(|route| Some((route.action?, route.path)));
    let known = caller.filter(|caller| caller.identity.is_some());
    let (Some((action, pattern)), Some(caller)) = (action, known) else {
        return next.run(request).await;
    };
    let server = server.clone();
    let named = varying_part(pattern, request.uri().path()).to_owned();
    let time_limit = server.shared().config.request_timeout;
    let task = async move {
        let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
        let answered = tokio::time::timeout(time_limit, handled).await;
        let (outcome, subject, detail) = match &answered {
            Ok(Ok(response)) => told(response, named),
            Ok(Err(_)) => (AuditOutcome::Failed, named, "a fault of the server".to_owned()),
            Err(_) => (AuditOutcome::Failed, named, "it took too long".to_owned()),
        };
        record(&server, &caller, action, subject, outcome, detail).await;
        match answered {
            Ok(outcome) => outcome,
            Err(_) => Ok(Problem::timeout(time_limit).into_response()),
        }
    };
    match tokio::spawn(task.in_current_span()).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => Problem::internal().into_response(),
    }
}

/// Leaves the line of an act whose sender was recognised and may not do it.
pub async fn refused(server: &Server, caller: &Caller, route: &Route, path: &str) {
    let Some(action) = route.action else { return };
    let subject = varying_part(route.path, path).to_owned();
    let detail = "the role does not suffice".to_owned();
    record(server, caller, action, subject, AuditOutcome::Refused, detail).await;
}

/// Reads from an answer how the request ended. A problem with a body is named by its kind only, for its words may
/// repeat what was sent.
fn told(response: &Response, named: String) -> (AuditOutcome, String, String) {
    let subject = match response.extensions().get::<Subject>() {
        Some(Subject(subject)) => subject.clone(),
        None => named,
    };
    let explained = response
        .extensions()
        .get::<Explained>()
        .map(|explained| &explained.0);
    let detail = match response.extensions().get::<Problem>().or(explained) {
        None => String::new(),
        Some(problem) if problem.status == StatusCode::BAD_REQUEST => problem.kind.to_owned(),
        Some(problem) => problem.detail.to_string(),
    };
    let outcome = match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            AuditOutcome::Refused
        }
        status if status.is_client_error() || status.is_server_error() => AuditOutcome::Failed,
        _ => AuditOutcome::Done,
    };
    (outcome, subject, detail)
}

async fn record(
    server: &Server,
    caller: &Caller,
    action: &'static str,
    subject: String,
    outcome: AuditOutcome,
    detail: String,
) {
    let caller = caller.clone();
    let recorded = ask(server, false, move |access| {
        access.record(Event {
            identity: caller.identity.as_ref(),
            action,
            subject: &shortened(&subject, SUBJECT_CHARS_MAX),
            outcome,
            client: Some(&caller.client),
            trace_id: &caller.client.trace_id,
            detail: &shortened(&detail, DETAIL_CHARS_MAX),
        });
        Ok::<(), Problem>(())
    });
    if let Err(problem) = recorded.await {
        tracing::error!(action, error = %problem.detail, "an act could not be written to the audit log");
    }
}

fn shortened(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

/// Gives the part of a path that stands for `{…}` in the pattern, as it was sent; empty when there is none.
fn varying_part<'a>(pattern: &str, path: &'a str) -> &'a str {
    let mut pairs = pattern.split('/').zip(path.split('/'));
    pairs
        .find(|(part, _)| part.starts_with('{'))
        .map_or("", |(_, given)| given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_varying_part_of_a_path_is_what_the_act_is_about() {
        assert_eq!(varying_part("/api/v1/users/{name}", "/api/v1/users/bob"), "bob");
        assert_eq!(
            varying_part("/api/v1/alerts/{id}/resolve", "/api/v1/alerts/17/resolve"),
            "17"
        );
        assert_eq!(varying_part("/-/reload", "/-/reload"), "");
    }
}

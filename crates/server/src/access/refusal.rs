//! How a refusal is told: in the shape of the surface that was asked, with constant words.
//!
//! Nothing here says whether a user exists, which password was nearly right or what a list holds; whoever may know
//! finds it in the audit log. Pages send a browser to the login instead, and back afterwards.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use marketprism_access::Refusal;
use serde_json::json;

use crate::alertmanager::answer::Failure;
use crate::answer::{self, Gzip};
use crate::page::login;
use crate::problem::Problem;
use crate::prometheus;

/// What tools are told to send.
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"MarketPrism\", charset=\"UTF-8\"");
/// What programs of ours are told to send.
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"MarketPrism\"");

/// In which shape a path answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Surface {
    /// Our own: problem details.
    Own,
    /// A page: a browser without a session is sent to the login.
    Page,
    /// Prometheus' shape of an error.
    Prometheus,
    /// Alertmanager's shape of an error.
    Alertmanager,
}

impl Surface {
    /// Gives the surface of a route of the table.
    pub fn of(path: &str) -> Self {
        match path {
            "/" | "/alerts/{id}" | "/graph" | "/prometheus/graph" => Surface::Page,
            "/prometheus/api/v1/write" => Surface::Own,
            _ if path.starts_with("/prometheus/api/v1/") => Surface::Prometheus,
            _ if path.starts_with("/alertmanager/api/v2/") => Surface::Alertmanager,
            _ => Surface::Own,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let words = refusal.to_string();
        match refusal {
            Refusal::Address => Problem::address_refused(words),
            Refusal::NoCredential | Refusal::BadCredential | Refusal::Expired | Refusal::Disabled => {
                Problem::unauthorized(words)
            }
            Refusal::Forbidden { .. } => Problem::forbidden(words),
            Refusal::TooManyAttempts { retry_after } => Problem::too_many_attempts(words, retry_after),
            Refusal::Busy => Problem::busy(words),
            Refusal::Store(error) => {
                tracing::warn!(%error, "nobody can be recognised");
                Problem::unavailable(words)
            }
        }
    }
}

/// Answers a refused request in the shape of its surface.
pub fn answer(
    surface: Surface,
    problem: Problem,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Response {
    let is_unauthorized = problem.status == StatusCode::UNAUTHORIZED;
    if is_unauthorized && surface == Surface::Page && is_browser(method, headers) {
        return login::redirect(uri);
    }
    let mut response = match surface {
        Surface::Prometheus => in_prometheus_shape(&problem),
        Surface::Alertmanager => Failure(problem).into_response(),
        Surface::Own | Surface::Page => problem.into_response(),
    };
    if is_unauthorized {
        challenge(&mut response, headers);
    }
    response
}

/// Answers a login of a program that failed.
pub fn challenged(problem: Problem, headers: &HeaderMap) -> Response {
    let is_unauthorized = problem.status == StatusCode::UNAUTHORIZED;
    let mut response = problem.into_response();
    if is_unauthorized {
        challenge(&mut response, headers);
    }
    response
}

/// Says what to send. A script of a page is not offered basic authentication, or the browser asks for it itself.
fn challenge(response: &mut Response, headers: &HeaderMap) {
    let mode = headers.get(HeaderName::from_static("sec-fetch-mode"));
    if mode.is_none_or(|mode| mode == "navigate") {
        response.headers_mut().append(header::WWW_AUTHENTICATE, BASIC);
    }
    response.headers_mut().append(header::WWW_AUTHENTICATE, BEARER);
}

/// Says which credential a login page would accept: none that a browser asks for by itself.
pub fn challenge_of_forms(response: &mut Response) {
    response.headers_mut().append(header::WWW_AUTHENTICATE, BEARER);
}

fn is_browser(method: &Method, headers: &HeaderMap) -> bool {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/html"));
    method.is_safe() && headers.get_all(header::ACCEPT).iter().any(accepts)
}

/// Prometheus has no words for refusals of this kind; these are what its relatives use.
fn in_prometheus_shape(problem: &Problem) -> Response {
    let kind = match problem.status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::TOO_MANY_REQUESTS => "too_many_requests",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        _ => "internal",
    };
    let document = json!({ "status": "error", "errorType": kind, "error": problem.detail });
    let text = document.to_string().into_bytes();
    let mut response = answer::body(problem.status, prometheus::answer::JSON, text, Gzip(false));
    if let Some(span) = problem.retry_after {
        let seconds = HeaderValue::from(span.as_secs().max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

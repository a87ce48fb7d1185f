//! How this surface answers: JSON, and a JSON string where something went wrong.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::answer::{self, Gzip};
use crate::problem::Problem;

/// The media type of every answer.
pub const JSON: &str = "application/json";

/// Why a request has no answer. The words of a problem, in this surface's shape.
#[derive(Clone, Debug)]
pub struct Failure(pub Problem);

/// Stays with the response, so that the audit log can say what went wrong.
#[derive(Clone, Debug)]
pub struct Explained(pub Problem);

impl Failure {
    /// The request cannot be understood or done.
    pub fn bad_request(words: impl Into<String>) -> Self {
        Failure(Problem::bad_body(words.into()))
    }

    /// Nothing is there.
    pub fn not_found(words: impl Into<String>) -> Self {
        Failure(Problem::not_found(words.into()))
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Failure(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let text = serde_json::to_vec(&self.0.detail).expect("a text is JSON");
        let mut response = answer::body(self.0.status, JSON, text, Gzip(false));
        if let Some(span) = self.0.retry_after {
            let seconds = HeaderValue::from(span.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response.extensions_mut().insert(Explained(self.0));
        response
    }
}

/// Answers that it is done, as Alertmanager does: with nothing.
pub fn done() -> Response {
    StatusCode::OK.into_response()
}

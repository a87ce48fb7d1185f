//! The envelope of every answer on the compatible surface: `status`, `data`, or `errorType` and `error`.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use marketprism_model::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::answer::{self, Gzip};
use crate::problem::Problem;
use crate::workers::WorkError;

/// The media type of every answer.
pub const JSON: &str = "application/json";

/// What Prometheus 3 answers to a query that was stopped, after nginx; mostly nobody is there to read it.
static CLIENT_CLOSED: std::sync::LazyLock<StatusCode> =
    std::sync::LazyLock::new(|| StatusCode::from_u16(499).expect("it has three digits"));

/// The kinds of failure that clients tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorType {
    /// The request cannot be understood.
    BadData,
    /// The expression cannot be evaluated.
    Execution,
    /// It took too long.
    Timeout,
    /// It was stopped.
    Canceled,
    /// A fault of ours.
    Internal,
    /// Nothing is there.
    NotFound,
    /// The store cannot answer now, or all workers are busy.
    Unavailable,
}

impl ErrorType {
    const fn word(self) -> &'static str {
        match self {
            ErrorType::BadData => "bad_data",
            ErrorType::Execution => "execution",
            ErrorType::Timeout => "timeout",
            ErrorType::Canceled => "canceled",
            ErrorType::Internal => "internal",
            ErrorType::NotFound => "not_found",
            ErrorType::Unavailable => "unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            ErrorType::BadData => StatusCode::BAD_REQUEST,
            ErrorType::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorType::NotFound => StatusCode::NOT_FOUND,
            ErrorType::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorType::Canceled => *CLIENT_CLOSED,
            ErrorType::Timeout | ErrorType::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Why a request on the compatible surface has no data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The kind.
    pub kind: ErrorType,
    /// What happened, in Prometheus' words where it has some.
    pub message: Cow<'static, str>,
}

impl Failure {
    /// Makes a failure.
    pub fn new(kind: ErrorType, message: impl Into<Cow<'static, str>>) -> Self {
        Failure {
            kind,
            message: message.into(),
        }
    }

    /// The request cannot be understood.
    pub fn bad_data(message: impl Into<Cow<'static, str>>) -> Self {
        Failure::new(ErrorType::BadData, message)
    }

    /// A parameter cannot be used.
    pub fn parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        Failure::bad_data(format!("invalid parameter \"{name}\": {reason}"))
    }
}

impl From<WorkError> for Failure {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Full { .. } => Failure::new(ErrorType::Unavailable, error.to_string()),
            WorkError::Panicked => Failure::new(
                ErrorType::Internal,
                "the request failed through a fault of the server",
            ),
        }
    }
}

/// While the rooms are not there, the surface answers with a problem, as every other path does.
impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Failure::new(ErrorType::Unavailable, problem.detail)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let document = json!({
            "status": "error",
            "errorType": self.kind.word(),
            "error": self.message,
        });
        let text = document.to_string().into_bytes();
        let mut response = answer::body(self.kind.status(), JSON, text, Gzip(false));
        if self.kind == ErrorType::Unavailable {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Writes a moment; one that never was is Go's zero time, which clients know.
pub fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string())
}

/// Answers that there is nothing to tell, as Prometheus does where it has no data at all.
pub fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Wraps data that serde can write.
pub fn success<T: Serialize>(data: &T, warnings: &[String], gzip: Gzip) -> Response {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        status: &'static str,
        data: &'a T,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        warnings: &'a [String],
    }
    let envelope = Envelope {
        status: "success",
        data,
        warnings,
    };
    answer::json(&envelope, gzip)
}

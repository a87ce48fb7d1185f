//! The one shape of an error in our own API: RFC 9457 problem details.
//!
//! The compatible surfaces have shapes of their own, in their own folders. A problem does not know the
//! request it answers; [`crate::guard`] adds `instance` on the way out.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use marketprism_model::StoreError;
use serde_json::{Value, json};

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong with a request, for whoever sent it.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// Names the kind of problem, stable across releases: `not-found`, `bad-parameter`.
    pub kind: &'static str,
    /// What the kind means, the same for each of its kind.
    pub title: &'static str,
    /// What happened this time.
    pub detail: Cow<'static, str>,
    /// When another try makes sense.
    pub retry_after: Option<Duration>,
    /// Further members of the document, such as `errors`.
    pub members: Vec<(&'static str, Value)>,
}

impl Problem {
    fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Problem {
            status,
            kind,
            title,
            detail: detail.into(),
            retry_after: None,
            members: Vec::new(),
        }
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(Duration::from_secs(seconds));
        self
    }

    /// Adds a member to the document.
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.members.push((name, value));
        self
    }

    /// Nothing is there.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// The path exists, but not with this method.
    pub fn method_not_allowed(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            detail,
        )
    }

    /// A parameter of the path or the query cannot be used.
    pub fn bad_parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad-parameter",
            "Bad parameter",
            format!("{name}: {reason}"),
        )
    }

    /// The body cannot be understood.
    pub fn bad_body(reason: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "bad-body", "Bad request body", reason)
    }

    /// The body is not of a kind that is understood here.
    pub fn unsupported_media_type(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Unsupported media type",
            detail,
        )
    }

    /// The body came too slowly.
    pub fn too_slow(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "too-slow",
            "Request too slow",
            detail,
        )
    }

    /// The body is longer than allowed.
    pub fn body_too_large(limit: usize) -> Self {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "Request body too large",
            format!("the body is longer than {limit} bytes"),
        )
    }

    /// A browser sends it for the page of another site.
    pub fn cross_site() -> Self {
        Problem::new(
            StatusCode::FORBIDDEN,
            "cross-site",
            "Cross-site request",
            "this request changes something and was sent by a page of another site",
        )
    }

    /// The address is on no list.
    pub fn address_refused(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(
            StatusCode::FORBIDDEN,
            "address-refused",
            "Address refused",
            detail,
        )
    }

    /// Nobody is recognised by what was shown, or nothing was shown.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", detail)
    }

    /// Whoever asks was recognised and may not do this.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
    }

    /// Too many credentials from there were wrong.
    pub fn too_many_attempts(detail: impl Into<Cow<'static, str>>, wait: Duration) -> Self {
        let problem = Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-attempts",
            "Too many attempts",
            detail,
        );
        // Rounded up, so that whoever keeps to it comes late enough.
        problem.retry_after(wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
    }

    /// The request contradicts what stands.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// The request is so wide that its sender must say that it is meant.
    pub fn confirmation_required(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(
            StatusCode::CONFLICT,
            "confirmation-required",
            "Confirmation required",
            detail,
        )
    }

    /// The request names a version that no longer stands.
    pub fn precondition_failed(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "precondition-failed",
            "Precondition failed",
            detail,
        )
    }

    /// The request must name the version that it changes.
    pub fn precondition_required(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "precondition-required",
            "Precondition required",
            detail,
        )
    }

    /// Rules are faulty.
    pub fn bad_rules(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "bad-rules", "Faulty rules", detail)
    }

    /// The configuration cannot be used; what ran before still runs.
    pub fn reload_refused(reason: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "reload-refused",
            "The new configuration was refused",
            reason,
        )
    }

    /// Too many requests of this kind are under way.
    pub fn busy(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy", detail).retry_after(1)
    }

    /// The process does not serve yet, or no more.
    pub fn not_ready(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready", detail).retry_after(5)
    }

    /// Part of the process stands still.
    pub fn stalled(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stalled", "Stalled", detail)
    }

    /// What is needed to answer cannot be reached at the moment.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Temporarily unavailable",
            detail,
        )
        .retry_after(5)
    }

    /// The request took longer than allowed.
    pub fn timeout(limit: Duration) -> Self {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "timeout",
            "Request timed out",
            format!("no answer within {}", marketprism_model::duration::format(limit)),
        )
    }

    /// A fault of ours; the details are in the log, under the same trace id.
    pub fn internal() -> Self {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "the request failed through a fault of the server; its log has the details",
        )
    }

    /// Writes the document, with the path it answers when that is known.
    pub fn document(&self, instance: Option<&str>) -> Value {
        let mut document = json!({
            "type": format!("urn:marketprism:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(instance) = instance {
            document["instance"] = instance.into();
        }
        for (name, value) in &self.members {
            document[*name] = value.clone();
        }
        document
    }

    /// Builds the response, with the path it answers when that is known.
    pub fn response(self, instance: Option<&str>) -> Response {
        let document = self.document(instance);
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))],
            document.to_string(),
        )
            .into_response();
        if let Some(span) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(span.as_secs().max(1)));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response(None)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Cursor(_) => Problem::bad_parameter("cursor", error),
            StoreError::Database { .. } | StoreError::Fenced { .. } => {
                Problem::unavailable(error.to_string())
            }
            StoreError::Damaged { .. } => {
                tracing::error!(error = %error, "a record is damaged");
                Problem::internal()
            }
        }
    }
}

//! How requests are read: bodies within a limit, parameters, JSON.
//!
//! axum's own extractors answer in plain text; these answer in the shapes of our surfaces.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use bytes::Bytes;
use http::request::Parts as Head;
use http::{HeaderMap, Method, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::Server;
use crate::answer::Gzip;
use crate::problem::Problem;
use crate::prometheus::answer::Failure;
use crate::prometheus::params::Params;
use crate::stream::is_too_slow;

/// Bytes of a body that tells of users, passwords and tokens; strangers may send one.
pub const LOGIN_BYTES_MAX: usize = 16 << 10;

/// Reads a whole body of at most `limit` bytes.
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::body_too_large(limit)),
        Err(error) if is_too_slow(&*error) => Err(Problem::too_slow("the body came too slowly")),
        Err(error) => Err(Problem::bad_body(format!("the body broke off: {error}"))),
    }
}

/// Reads a JSON body; the error names line and column, and the field that is unknown, missing or there twice.
///
/// Bounded in length by `limit` and in depth by serde_json, which gives up at 128 levels.
/// The media type must be JSON's: a foreign page can make a browser send anything but that.
pub async fn read_json<T: DeserializeOwned>(request: Request, limit: usize) -> Result<T, Problem> {
    if !has_media_type(request.headers(), "application/json") {
        return Err(Problem::unsupported_media_type(
            "the body must be application/json",
        ));
    }
    let bytes = read_body(request.into_body(), limit).await?;
    serde_json::from_slice(&bytes).map_err(|error| Problem::bad_body(error.to_string()))
}

/// The parameters of a GET or of a posted form, for the compatible surface.
pub struct Form {
    /// The parameters.
    pub params: Params,
    /// Whether the answer may be compressed.
    pub gzip: Gzip,
}

impl FromRequest<Server> for Form {
    type Rejection = Failure;

    async fn from_request(request: Request, server: &Server) -> Result<Self, Failure> {
        let (head, body) = request.into_parts();
        // As in Go, the body of a GET is no form.
        let is_form =
            head.method == Method::POST && has_media_type(&head.headers, "application/x-www-form-urlencoded");
        let form = if is_form {
            let limit = server.shared().config.body_bytes_max;
            read_body(body, limit)
                .await
                .map_err(|problem| Failure::bad_data(problem.detail))?
        } else {
            Bytes::new()
        };
        Ok(Form {
            params: Params::parse(head.uri.query().unwrap_or(""), &form)?,
            gzip: Gzip::from_headers(&head.headers),
        })
    }
}

/// The part of the path that varies; every route has at most one.
pub struct Segment(pub String);

impl FromRequestParts<Server> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Head, server: &Server) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(head, server).await {
            Ok(Path(segment)) => Ok(Segment(segment)),
            Err(rejection) => Err(Problem::bad_parameter("path", rejection.body_text())),
        }
    }
}

/// The parameters of the query string, for our own API and the pages.
pub struct Query {
    /// The parameters.
    pub params: Params,
    /// Whether the answer may be compressed.
    pub gzip: Gzip,
}

impl FromRequestParts<Server> for Query {
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Head, _: &Server) -> Result<Self, Problem> {
        let params = Params::parse(head.uri.query().unwrap_or(""), b"")
            .map_err(|failure| Problem::bad_parameter("query string", failure.message))?;
        Ok(Query {
            params,
            gzip: Gzip::from_headers(&head.headers),
        })
    }
}

/// Says whether the body is of a media type; parameters such as `charset` do not count.
pub fn has_media_type(headers: &HeaderMap, wanted: &str) -> bool {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let name = media_type.unwrap_or("").split(';').next().unwrap_or("");
    name.trim().eq_ignore_ascii_case(wanted)
}

//! `POST /api/v1/write`: samples that others push, by Prometheus remote write 1.0.
//!
//! Senders retry what is answered with 5xx and drop what is answered with 4xx; so whatever may pass later is
//! 503 here, a full queue included. The bytes under way are bounded before a body is read.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use tokio::sync::SemaphorePermit;

use crate::Server;
use crate::problem::Problem;
use crate::request::{has_media_type, read_body};
use crate::workers::WorkError;

/// What clients call the message of the second version, which is not spoken here.
const VERSION_2: &str = "io.prometheus.write.v2.Request";
/// The budget of bytes under way is counted in pieces of this size.
const PIECE_BYTES: usize = 1 << 10;

/// `POST /api/v1/write` and the same under `/prometheus`.
pub async fn write(State(server): State<Server>, request: Request) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let (head, body) = request.into_parts();
    check_kind(&head.headers)?;
    let limit = server.shared().config.push_bytes_max;
    let _budget = reserve(&server, &head.headers, limit)?;
    let bytes = read_body(body, limit).await?;
    let work = server
        .shared()
        .pushes
        .run(move || parts.remote_write.handle(&bytes, &*parts.samples));
    let outcome = match work.await {
        Ok(outcome) => outcome,
        Err(error @ WorkError::Full { .. }) => return Err(Problem::busy(error.to_string())),
        Err(WorkError::Panicked) => return Err(Problem::internal()),
    };
    match outcome {
        Ok(outcome) if outcome.status() == 204 => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(outcome) => Err(Problem::bad_body(outcome.message())),
        Err(error) if error.status() == 400 => Err(Problem::bad_body(error.to_string())),
        Err(error) => Err(Problem::unavailable(error.to_string())),
    }
}

/// Refuses what is not snappy-compressed protobuf of the first version; absent headers are taken as right.
fn check_kind(headers: &HeaderMap) -> Result<(), Problem> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"snappy")
    {
        return Err(Problem::unsupported_media_type(
            "the body must be encoded with snappy",
        ));
    }
    let Some(media_type) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    if !has_media_type(headers, "application/x-protobuf") {
        return Err(Problem::unsupported_media_type(
            "the body must be application/x-protobuf",
        ));
    }
    if media_type.to_str().is_ok_and(|text| text.contains(VERSION_2)) {
        return Err(Problem::unsupported_media_type(
            "remote write 2.0 is not spoken here; send prometheus.WriteRequest",
        ));
    }
    Ok(())
}

/// Takes the bytes of a request out of the budget; a body of unknown length takes the most it may have.
fn reserve<'a>(
    server: &'a Server,
    headers: &HeaderMap,
    limit: usize,
) -> Result<SemaphorePermit<'a>, Problem> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(limit);
    if length > limit {
        return Err(Problem::body_too_large(limit));
    }
    let pieces = u32::try_from(length.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
    server
        .shared()
        .push_budget
        .try_acquire_many(pieces)
        .map_err(|_| Problem::busy("too many pushed bytes are being handled; try again later"))
}

/// Gives how many pieces may be under way: eight of the longest requests.
pub fn budget(push_bytes_max: usize) -> usize {
    8 * push_bytes_max.div_ceil(PIECE_BYTES)
}

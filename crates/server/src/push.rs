//! `POST /api/v1/write`: samples that others push, by Prometheus remote write 1.0 and 2.0.
//!
//! Senders retry what is answered with 5xx and drop what is answered with 4xx; so whatever may pass later is
//! 503 here, a full queue included. The bytes under way are bounded while bodies are read.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use marketprism_collect::remote_write::{Outcome, Version};
use tokio::sync::SemaphorePermit;

use crate::Server;
use crate::problem::Problem;
use crate::request::has_media_type;
use crate::stream::is_too_slow;
use crate::workers::WorkError;

/// Tell a sender of the second version what was written; a sender that misses them takes the request for lost.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];
/// The budget of bytes under way is counted in pieces of this size.
const PIECE_BYTES: usize = 1 << 10;

/// `POST /api/v1/write` and the same under `/prometheus`.
pub async fn write(State(server): State<Server>, request: Request) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let (head, body) = request.into_parts();
    let version = check_kind(&head.headers)?;
    let limit = server.shared().config.push_bytes_max;
    let (bytes, _budget) = read(&server, &head.headers, body, limit).await?;
    let work = server.shared().pushes.run(move || {
        parts
            .remote_write
            .handle_version(version, &bytes, &*parts.samples)
    });
    let outcome = match work.await {
        Ok(outcome) => outcome,
        Err(error @ WorkError::Full { .. }) => return Err(Problem::busy(error.to_string())),
        Err(WorkError::Panicked) => return Err(Problem::internal()),
    };
    match outcome {
        Ok(outcome) => Ok(answer(version, &outcome)),
        Err(error) if error.status() == 400 => Err(Problem::bad_body(error.to_string())),
        Err(error) => Err(Problem::unavailable(error.to_string())),
    }
}

/// Answers a request that could be read.
fn answer(version: Version, outcome: &Outcome) -> Response {
    let mut response = match outcome.status() {
        204 => StatusCode::NO_CONTENT.into_response(),
        _ => Problem::bad_body(outcome.message()).into_response(),
    };
    if version == Version::Second {
        let histograms = outcome.accepted_histograms;
        let counts = [outcome.accepted - histograms, histograms, 0];
        for (name, count) in WRITTEN.into_iter().zip(counts) {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, HeaderValue::from(count));
        }
    }
    response
}

/// Refuses what is not snappy-compressed protobuf of a version that is known; absent headers are taken as right.
fn check_kind(headers: &HeaderMap) -> Result<Version, Problem> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"snappy")
    {
        return Err(Problem::unsupported_media_type(
            "the body must be encoded with snappy",
        ));
    }
    let Some(media_type) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Version::First);
    };
    if !has_media_type(headers, "application/x-protobuf") {
        return Err(Problem::unsupported_media_type(
            "the body must be application/x-protobuf",
        ));
    }
    let version = media_type.to_str().ok().and_then(Version::of_content_type);
    version.ok_or_else(|| {
        Problem::unsupported_media_type(
            "the message must be prometheus.WriteRequest or io.prometheus.write.v2.Request",
        )
    })
}

/// Reads a body, taking its bytes out of the budget as they come: what a client only announces costs nothing.
pub(crate) async fn read<'a>(
    server: &'a Server,
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
) -> Result<(Bytes, SemaphorePermit<'a>), Problem> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(Problem::body_too_large(limit));
    }
    let busy = || Problem::busy("too many pushed bytes are being handled; try again later");
    let budget = &server.shared().push_budget;
    let mut taken = budget.try_acquire_many(0).map_err(|_| busy())?;
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match is_too_slow(&error) {
            true => Problem::unavailable("the body came too slowly"),
            false => Problem::bad_body(format!("the body broke off: {error}")),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(Problem::body_too_large(limit));
        }
        bytes.extend_from_slice(&data);
        let pieces = bytes
            .len()
            .div_ceil(PIECE_BYTES)
            .saturating_sub(taken.num_permits());
        let more = budget.try_acquire_many(u32::try_from(pieces).unwrap_or(u32::MAX));
        taken.merge(more.map_err(|_| busy())?);
    }
    Ok((bytes.freeze(), taken))
}

/// Gives how many pieces may be under way: eight of the longest requests.
pub fn budget(push_bytes_max: usize) -> usize {
    8 * push_bytes_max.div_ceil(PIECE_BYTES)
}

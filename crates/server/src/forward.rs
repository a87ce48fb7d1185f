//! What a standby does with requests: it passes them whole to the replica that leads, and its answers back.
//!
//! So every replica can be asked, whatever stands in front of them. The standby has judged address, origin, identity
//! and role already; the leader judges again, by the credentials that the request brings and by the standby's word for
//! the client's address. A request that was passed on once is never passed on again: two replicas that each take the
//! other for the leader would send it to and fro.
//! Deliberately absent: who leads and how it is reached. That is behind [`Forward`].

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use marketprism_access::Client;
use marketprism_model::BoxFuture;

use crate::Server;
use crate::alertmanager;
use crate::problem::Problem;
use crate::push;
use crate::readiness::Phase;
use crate::trace;

/// Marks what was passed on.
pub const FORWARDED: HeaderName = HeaderName::from_static("x-marketprism-forwarded");
/// So many requests are passed on at once.
pub(crate) const FORWARDS_MAX: usize = 256;

/// What a standby answers by itself: its own state, its own figures, and sessions, which all replicas share.
const ANSWERED_HERE: [&str; 11] = [
    "/health",
    "/ready",
    "/metrics",
    "/login",
    "/logout",
    "/assets/{name}",
    "/api/v1/auth/login",
    "/api/v1/auth/logout",
    "/api/v1/auth/me",
    "/prometheus/-/healthy",
    "/prometheus/-/ready",
];

/// Headers of one connection, which mean nothing on the next one.
///
/// Source: RFC 9110, section 7.6.1, and what RFC 2616 listed.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Meant for this server: what a browser tells of its page is judged already, and the leader is asked under another
/// name and in its own coding.
const MEANT_FOR_US: [HeaderName; 8] = [
    header::HOST,
    header::EXPECT,
    header::CONTENT_LENGTH,
    header::ACCEPT_ENCODING,
    header::ORIGIN,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("sec-fetch-mode"),
    HeaderName::from_static("sec-fetch-dest"),
];

/// Asks the replica that leads.
pub trait Forward: Send + Sync {
    /// Sends a request, whose address is a path with its query, and gives the whole answer.
    ///
    /// The answer's body is decoded. The error says why there is none, for the log. Whoever implements it bounds the
    /// time and the length of the answer.
    fn forward(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Bytes>, String>>;
}

/// Gives who passes requests of this route on; `None` when they are answered here.
pub(crate) fn forwarder_of(server: &Server, route: &str) -> Option<Arc<dyn Forward>> {
    let is_standby = matches!(server.shared().readiness.phase(), Phase::StandingBy { .. });
    if !is_standby || ANSWERED_HERE.contains(&route) {
        return None;
    }
    server.forwarder()
}

/// Passes a request on and gives the leader's answer.
pub(crate) async fn relay(
    server: &Server,
    forwarder: Arc<dyn Forward>,
    client: Option<&Client>,
    trace_id: &str,
    request: Request,
) -> Response {
    match pass_on(server, &*forwarder, client, trace_id, request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn pass_on(
    server: &Server,
    forwarder: &dyn Forward,
    client: Option<&Client>,
    trace_id: &str,
    request: Request,
) -> Result<Response, Problem> {
    let shared = server.shared();
    if request.headers().contains_key(&FORWARDED) {
        return Err(Problem::not_ready(
            "this replica stands by and was asked by another one; the leader changes just now",
        ));
    }
    let busy = |_| Problem::busy("too many requests are being passed on to the leader; try again later");
    let _place = shared.forwards.try_acquire().map_err(busy)?;
    let (head, body) = request.into_parts();
    let config = &shared.config;
    let limit = match head.uri.path() {
        path if path.ends_with("/api/v1/write") => config.push_bytes_max,
        alertmanager::alerts::PATH => alertmanager::alerts::body_bytes_max(config),
        _ => config.body_bytes_max,
    };
    let (body, _budget) = push::read(server, &head.headers, body, limit).await?;
    let mut passed = http::Request::new(body);
    *passed.method_mut() = head.method;
    *passed.uri_mut() = path_of(&head.uri);
    *passed.headers_mut() = end_to_end(&head.headers);
    let headers = passed.headers_mut();
    for name in MEANT_FOR_US {
        headers.remove(name);
    }
    headers.insert(FORWARDED, HeaderValue::from_static("1"));
    if let Ok(trace_id) = HeaderValue::from_str(trace_id) {
        headers.insert(trace::REQUEST_ID, trace_id);
    }
    if let Some(client) = client {
        let (name, word) = server.access()?.vouch(client);
        headers.insert(name, word);
    }
    let answer = forwarder.forward(passed).await.map_err(|error| {
        shared.metrics.forwards_failed.inc();
        tracing::warn!(error, "the leader did not answer");
        Problem::unavailable("no leader answers; a new one is chosen within seconds")
    })?;
    shared.metrics.forwards.inc();
    let (mut head, body) = answer.into_parts();
    head.headers = end_to_end(&head.headers);
    head.headers.remove(header::CONTENT_LENGTH);
    head.version = http::Version::HTTP_11;
    Ok(Response::from_parts(head, Body::from(body)))
}

/// Gives the path and the query.
fn path_of(uri: &Uri) -> Uri {
    uri.path_and_query()
        .map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()))
}

/// Gives the headers that mean something beyond one connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: HashSet<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if !HOP_BY_HOP.contains(name) && !named.contains(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_connection_stays_on_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Secret-Hop"),
            ("x-secret-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "timeout=5"),
            ("authorization", "Bearer x"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let kept = end_to_end(&headers);
        let names: Vec<_> = kept.iter().map(|(name, value)| (name.as_str(), value)).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(kept.get_all("set-cookie").iter().count(), 2);
        assert_eq!(path_of(&Uri::from_static("http://a:1/x?y=1#z")), "/x?y=1");
    }
}

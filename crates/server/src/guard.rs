//! What happens to every request, whatever it asks: it gets a name, a time limit and a net for panics, and passes only
//! if it may.
//!
//! Who may ask is told by [`crate::access`], inside the guard, so that a refusal too carries the request's name.

use std::panic::AssertUnwindSafe;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use tracing::Instrument as _;

use crate::Server;
use crate::access::{self, Asked};
use crate::forward;
use crate::page;
use crate::problem::Problem;
use crate::routes::ANSWERED_AT_ONCE;
use crate::trace;

/// Stands for the route of a path that is not served.
const UNMATCHED: &str = "unmatched";

/// The page uses one style sheet of ours and nothing else: no script, no frame, no foreign address.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'";

/// Handles one request inside the guard.
pub async fn guard(State(server): State<Server>, request: Request, next: Next) -> Response {
    let shared = server.shared();
    let started = shared.clock.monotonic();
    let trace_id = trace::trace_id(request.headers(), &*shared.chance);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| UNMATCHED.to_owned(), |matched| matched.as_str().to_owned());
    let span = tracing::info_span!("request", %trace_id, %method, path);

    let handling = pass(&server, request, next, &route, &trace_id);
    let handled = AssertUnwindSafe(handling).catch_unwind();
    let limited = tokio::time::timeout(shared.config.request_timeout, handled);
    let response = async {
        match limited.await {
            Ok(Ok(response)) => response,
            Ok(Err(panic)) => {
                tracing::error!(error = panic_text(&*panic), "a handler panicked");
                Problem::internal().into_response()
            }
            Err(_) => {
                tracing::warn!("a request took too long");
                Problem::timeout(shared.config.request_timeout).into_response()
            }
        }
    }
    .instrument(span)
    .await;

    let mut response = with_instance(response, &path);
    let elapsed = shared.clock.monotonic().saturating_sub(started);
    tracing::debug!(
        trace_id,
        status = response.status().as_u16(),
        elapsed_ms = elapsed.as_millis() as u64,
        "a request was answered"
    );
    shared
        .metrics
        .request(&route, &method, response.status(), elapsed);
    decorate(response.headers_mut(), &trace_id);
    response
}

/// Hands a request to its handler if it may pass: address, then origin, then identity and role, then readiness.
async fn pass(server: &Server, mut request: Request, next: Next, route: &str, trace_id: &str) -> Response {
    let method = request.method();
    let asked = Asked::of(method, Some(route).filter(|route| *route != UNMATCHED));
    if route == "/" && server.access().is_err() {
        return page::not_yet(server, request.uri(), request.headers());
    }
    let client = match access::admit(server, asked, &request, trace_id) {
        Ok(client) => client,
        Err(problem) => return access::refused(asked, problem, &request),
    };
    let link_base = server.shared().config.link_base();
    if !method.is_safe() && is_cross_site(request.headers(), request.uri(), link_base) {
        return Problem::cross_site().into_response();
    }
    let mut caller = None;
    if let Some(client) = client {
        match access::identify(server, asked, client, request.uri(), request.headers()).await {
            Ok(known) => caller = Some(known),
            Err(problem) => return access::refused(asked, problem, &request),
        }
    }
    if route != UNMATCHED
        && let Some(forwarder) = forward::forwarder_of(server, route)
    {
        let client = caller.as_ref().map(|caller| &caller.client);
        return forward::relay(server, forwarder, client, trace_id, request).await;
    }
    let has_to_wait = route != UNMATCHED && !ANSWERED_AT_ONCE.contains(&route);
    if has_to_wait && let Err(not_yet) = server.parts() {
        return not_yet.into_response();
    }
    if let Some(caller) = &caller {
        request.extensions_mut().insert(caller.clone());
    }
    access::run(server, asked, caller, request, next).await
}

/// Says whether a browser sends this for the page of another site. Other programs name no site.
///
/// A browser on a plain HTTP address sends `Origin` only, so both headers are looked at; the origin must be the
/// host that was asked, or the external address when a proxy asks under another name. What cannot be read or stands
/// twice is no word of a browser about a page of ours.
fn is_cross_site(headers: &HeaderMap, asked: &Uri, external_url: &str) -> bool {
    let header = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?;
        let is_one = values.next().is_none();
        Some(first.to_str().ok().filter(|_| is_one).unwrap_or(""))
    };
    if let Some(site) = header(HeaderName::from_static("sec-fetch-site")) {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = header(header::ORIGIN) else {
        return false;
    };
    let host = origin.split_once("://").map_or("", |(_, host)| host);
    // HTTP/2 names the host in the address.
    let own = header(header::HOST).or_else(|| asked.authority().map(|authority| authority.as_str()));
    let is_host = own.is_some_and(|own| own.eq_ignore_ascii_case(host));
    let is_external = external_url
        .strip_prefix(origin)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    host.is_empty() || !(is_host || is_external)
}

/// Adds the path to a problem; other responses pass.
fn with_instance(mut response: Response, path: &str) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    let mut told = problem.response(Some(path));
    let own: Vec<HeaderName> = told.headers().keys().cloned().collect();
    for (name, value) in response.headers() {
        if !own.contains(name) && name != header::CONTENT_LENGTH {
            told.headers_mut().append(name.clone(), value.clone());
        }
    }
    told
}

fn decorate(headers: &mut HeaderMap, trace_id: &str) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "same-origin");
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Ok(value) = HeaderValue::from_str(trace_id) {
        headers.insert(HeaderName::from_static(trace::REQUEST_ID), value);
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With HTTP/2 the host stands in the address alone, and a browser that sends `Origin` only could not log in. An
    /// origin that was empty or not to be read counted as none.
    #[test]
    fn a_browser_is_believed_about_its_page_only_in_words_that_it_would_use() {
        let check = |headers: &[(&'static str, &str)], asked: &str, is_foreign: bool| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
            }
            let asked = asked.parse().expect("an address");
            let found = is_cross_site(&map, &asked, "https://watch.example/x");
            assert_eq!(found, is_foreign, "{headers:?} {asked}");
        };
        let host = ("host", "here:8082");
        check(&[host], "/", false);
        check(&[host, ("origin", "http://here:8082")], "/", false);
        check(&[("origin", "https://here:8082")], "https://HERE:8082/", false);
        check(&[host, ("origin", "https://watch.example")], "/", false);
        for origin in [
            "",
            "null",
            "http:",
            "https:",
            "https://",
            "\u{e9}",
            "http://here",
            "https://watch.exampl",
        ] {
            check(&[host, ("origin", origin)], "/", true);
            check(&[("origin", origin)], "https://here:8082/", true);
        }
        // The host that was asked is the one in the header, where there is one.
        check(&[host, ("origin", "http://evil")], "http://evil/", true);
        check(&[("origin", "http://here")], "/", true);
        let own = ("origin", "http://here:8082");
        check(&[host, own, own], "/", true);
        check(&[host, own, ("sec-fetch-site", "cross-site")], "/", true);
        check(&[host, ("sec-fetch-site", "\u{e9}")], "/", true);
        check(&[host, ("sec-fetch-site", "same-origin")], "/", false);
    }
}

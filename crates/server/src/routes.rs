//! Every route there is, as one table, and the router that is built from nothing else.
//!
//! So no route exists outside the table, and what the table says of a path is what answers there.
//! Unknown paths are problems, never a page: Grafana tells servers apart by their 404s.

use axum::Router;
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use http::{HeaderValue, Method, Uri, header};

use crate::problem::Problem;
use crate::{Server, api, guard, health, page, prometheus};

/// One route.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with `{name}` for a part that varies.
    pub path: &'static str,
    /// What it answers, in one line.
    pub what: &'static str,
    handler: fn() -> MethodRouter<Server>,
}

const fn route(
    method: Method,
    path: &'static str,
    what: &'static str,
    handler: fn() -> MethodRouter<Server>,
) -> Route {
    Route {
        method,
        path,
        what,
        handler,
    }
}

/// All routes.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    // What orchestrators and scrapers ask.
    route(Method::GET, "/health", "whether a restart would help", || get(health::health)),
    route(Method::GET, "/ready", "whether requests may come", || get(health::ready)),
    route(Method::GET, "/metrics", "the program's own figures, OpenMetrics text", || get(health::metrics)),
    route(Method::POST, "/-/reload", "reads the configuration anew", || post(health::reload)),
    // Pages.
    route(Method::GET, "/", "the page: health, alerts, notifications, targets, rules, store", || get(page::overview)),
    route(Method::GET, "/alerts/{id}", "the page of one alert with its story", || get(page::alert)),
    route(Method::GET, "/assets/{name}", "the style sheet and the icon", || get(page::asset)),
    // Pages.
    // Our own API.
    route(Method::GET, "/api/v1/alerts/{id}", "one alert with its events and notifications", || get(api::alerts::one)),
    route(Method::GET, "/api/v1/notifications", "notifications, newest first; status, alert, limit, cursor", || get(api::notifications::list)),
    route(Method::GET, "/api/v1/stats/{section}", "figures: performance, storage, alerts", || get(api::stats::one)),
    // The surface that Prometheus' clients know.
    route(Method::GET, "/prometheus/-/healthy", "as /health, in words", || get(health::prometheus_healthy)),
    route(Method::GET, "/prometheus/-/ready", "as /ready, in words", || get(health::prometheus_ready)),
    route(Method::POST, "/prometheus/-/reload", "reads the configuration anew", || post(health::reload)),
    route(Method::GET, "/prometheus/api/v1/series", "series by selectors", || get(prometheus::series::series)),
    route(Method::POST, "/prometheus/api/v1/series", "the same, as a form", || post(prometheus::series::series)),
    route(Method::GET, "/prometheus/api/v1/labels", "label names", || get(prometheus::series::label_names)),
    route(Method::POST, "/prometheus/api/v1/labels", "the same, as a form", || post(prometheus::series::label_names)),
    route(Method::GET, "/prometheus/api/v1/label/{name}/values", "values of a label", || get(prometheus::series::label_values)),
];

/// Builds the router of the table.
pub(crate) fn router(server: Server) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, (route.handler)());
    }
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        // Authentication and the allow list stand here: outside every route and inside the guard.
        .layer(middleware::from_fn_with_state(server.clone(), guard::guard))
        .with_state(server)
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::not_found(format!("nothing is served at {}", shortened(uri.path())))
}

async fn unknown_method(method: Method, uri: Uri) -> Response {
    let mut problem =
        Problem::method_not_allowed(format!("{method} is not served at {}", shortened(uri.path())))
            .response(None);
    if let Some(allow) = allowed_methods(uri.path()) {
        problem.headers_mut().insert(header::ALLOW, allow);
    }
    problem
}

/// Gives the `Allow` header of a path in the table.
fn allowed_methods(path: &str) -> Option<HeaderValue> {
    let mut methods: Vec<&str> = ROUTES
        .iter()
        .filter(|route| matches_pattern(route.path, path))
        .map(|route| route.method.as_str())
        .collect();
    methods.sort_unstable();
    methods.dedup();
    HeaderValue::from_str(&methods.join(", ")).ok()
}

fn matches_pattern(pattern: &str, path: &str) -> bool {
    let (mut left, mut right) = (pattern.split('/'), path.split('/'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(part), Some(given)) if part == given || part.starts_with('{') => {}
            _ => return false,
        }
    }
}

fn shortened(path: &str) -> String {
    path.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_route_stands_twice_and_each_says_what_it_is() {
        let mut seen = HashSet::new();
        for route in ROUTES {
            assert!(
                seen.insert((route.method.clone(), route.path)),
                "{} {}",
                route.method,
                route.path
            );
            assert!(!route.what.is_empty(), "{} {}", route.method, route.path);
        }
    }

    #[test]
    fn patterns_match_part_by_part() {
        assert!(matches_pattern("/a/{id}/b", "/a/1/b"));
        assert!(!matches_pattern("/a/{id}/b", "/a/1"));
        assert!(!matches_pattern("/a/{id}", "/a/1/b"));
    }
}

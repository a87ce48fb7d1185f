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
use crate::{Server, api, guard, health, page, prometheus, push};

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
    route(Method::GET, "/graph", "the page of one expression, as links to Prometheus' graph expect", || get(page::expression::graph)),
    route(Method::GET, "/assets/{name}", "the style sheet and the icon", || get(page::asset)),
    // Our own API.
    route(Method::GET, "/api/v1/alerts", "alerts, newest first; state, level, label=name:value, acknowledged, limit, cursor", || get(api::alerts::list)),
    route(Method::GET, "/api/v1/alerts/{id}", "one alert with its events and notifications", || get(api::alerts::one)),
    route(Method::POST, "/api/v1/alerts/{id}/acknowledge", "takes an alert in hand: {by, note, until}", || post(api::alerts::acknowledge)),
    route(Method::POST, "/api/v1/alerts/{id}/resolve", "resolves an alert by hand: {by, note}", || post(api::alerts::resolve)),
    route(Method::GET, "/api/v1/notifications", "notifications, newest first; status, alert, limit, cursor", || get(api::notifications::list)),
    route(Method::GET, "/api/v1/rules", "rule groups and how their rules stand", || get(api::rules::list)),
    route(Method::GET, "/api/v1/stats/{section}", "figures: performance, storage, alerts", || get(api::stats::one)),
    route(Method::POST, "/api/v1/write", "Prometheus remote write 1.0", || post(push::write)),
    // The surface that Prometheus' clients know.
    route(Method::GET, "/prometheus/-/healthy", "as /health, in words", || get(health::prometheus_healthy)),
    route(Method::GET, "/prometheus/-/ready", "as /ready, in words", || get(health::prometheus_ready)),
    route(Method::POST, "/prometheus/-/reload", "reads the configuration anew", || post(health::reload)),
    route(Method::GET, "/prometheus/graph", "the page of one expression", || get(page::expression::graph)),
    route(Method::POST, "/prometheus/api/v1/write", "Prometheus remote write 1.0", || post(push::write)),
    route(Method::GET, "/prometheus/api/v1/query", "an expression at one moment", || get(prometheus::query::instant)),
    route(Method::POST, "/prometheus/api/v1/query", "the same, as a form", || post(prometheus::query::instant)),
    route(Method::GET, "/prometheus/api/v1/query_range", "an expression over a range", || get(prometheus::query::range)),
    route(Method::POST, "/prometheus/api/v1/query_range", "the same, as a form", || post(prometheus::query::range)),
    route(Method::GET, "/prometheus/api/v1/query_exemplars", "exemplars; always none", || get(prometheus::query::exemplars)),
    route(Method::POST, "/prometheus/api/v1/query_exemplars", "the same, as a form", || post(prometheus::query::exemplars)),
    route(Method::GET, "/prometheus/api/v1/format_query", "an expression, written evenly", || get(prometheus::query::format)),
    route(Method::POST, "/prometheus/api/v1/format_query", "the same, as a form", || post(prometheus::query::format)),
    route(Method::GET, "/prometheus/api/v1/series", "series by selectors", || get(prometheus::series::series)),
    route(Method::POST, "/prometheus/api/v1/series", "the same, as a form", || post(prometheus::series::series)),
    route(Method::GET, "/prometheus/api/v1/labels", "label names", || get(prometheus::series::label_names)),
    route(Method::POST, "/prometheus/api/v1/labels", "the same, as a form", || post(prometheus::series::label_names)),
    route(Method::GET, "/prometheus/api/v1/label/{name}/values", "values of a label", || get(prometheus::series::label_values)),
    route(Method::GET, "/prometheus/api/v1/metadata", "type, help and unit of metrics", || get(prometheus::targets::metadata)),
    route(Method::GET, "/prometheus/api/v1/targets", "targets and how their scrapes went", || get(prometheus::targets::targets)),
    route(Method::GET, "/prometheus/api/v1/targets/metadata", "metadata by target", || get(prometheus::targets::targets_metadata)),
    route(Method::GET, "/prometheus/api/v1/rules", "rule groups; type, rule_name[], rule_group[], file[], match[], exclude_alerts", || get(prometheus::rules::rules)),
    route(Method::GET, "/prometheus/api/v1/alerts", "pending and firing alerts", || get(prometheus::rules::alerts)),
    route(Method::GET, "/prometheus/api/v1/alertmanagers", "Alertmanagers; always none", || get(prometheus::status::alertmanagers)),
    route(Method::GET, "/prometheus/api/v1/status/buildinfo", "version, for clients that choose features by it", || get(prometheus::status::buildinfo)),
    route(Method::GET, "/prometheus/api/v1/status/flags", "settings as flags", || get(prometheus::status::flags)),
    route(Method::GET, "/prometheus/api/v1/status/config", "the configuration that runs, without secrets", || get(prometheus::status::config)),
    route(Method::GET, "/prometheus/api/v1/status/runtimeinfo", "since when and how it runs", || get(prometheus::status::runtimeinfo)),
    route(Method::GET, "/prometheus/api/v1/status/tsdb", "which metrics and labels make the most series", || get(prometheus::status::tsdb)),
];

/// Routes that answer before the rooms stand; all others say "not yet" until then.
pub(crate) const ANSWERED_AT_ONCE: [&str; 6] = [
    "/",
    "/health",
    "/ready",
    "/assets/{name}",
    "/prometheus/-/healthy",
    "/prometheus/-/ready",
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
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
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

//! Every route there is, as one table, and the router that is built from nothing else.
//!
//! So no route exists outside the table, and what the table says of a path is what answers there: what it needs of
//! whoever asks, and under which name an act stands in the audit log.
//! Unknown paths are problems, never a page: Grafana tells servers apart by their 404s.

use axum::Router;
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use http::{HeaderValue, Method, Uri, header};
use marketprism_model::Role;

use crate::problem::Problem;
use crate::{Server, alertmanager, api, guard, health, page, prometheus, push};

/// What a route needs of whoever asks; each needs what the ones before it need.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Needs {
    /// Nothing: no allow list, no credential. What orchestrators ask.
    Nothing,
    /// An address that the allow list holds.
    Address,
    /// Also a credential with this role.
    Role(Role),
}

impl Needs {
    /// The most that can be needed.
    pub const ADMIN: Needs = Needs::Role(Role::Admin);

    /// Gives the word of the API's documentation.
    pub fn word(self) -> &'static str {
        match self {
            Needs::Nothing => "nothing",
            Needs::Address => "address",
            Needs::Role(role) => role.name(),
        }
    }
}

/// One route.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with `{name}` for a part that varies.
    pub path: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Under which name its use stands in the audit log; `None` for what changes nothing, and for pushed samples.
    pub action: Option<&'static str>,
    /// What it answers, in one line.
    pub what: &'static str,
    handler: fn() -> MethodRouter<Server>,
}

const fn route(
    method: Method,
    path: &'static str,
    needs: Needs,
    what: &'static str,
    handler: fn() -> MethodRouter<Server>,
) -> Route {
    Route {
        method,
        path,
        needs,
        action: None,
        what,
        handler,
    }
}

/// A route whose use leaves a line in the audit log.
const fn act(
    method: Method,
    path: &'static str,
    needs: Needs,
    action: &'static str,
    what: &'static str,
    handler: fn() -> MethodRouter<Server>,
) -> Route {
    Route {
        method,
        path,
        needs,
        action: Some(action),
        what,
        handler,
    }
}

const NOTHING: Needs = Needs::Nothing;
const ADDRESS: Needs = Needs::Address;
const VIEWER: Needs = Needs::Role(Role::Viewer);
const OPERATOR: Needs = Needs::Role(Role::Operator);
const ADMIN: Needs = Needs::ADMIN;

/// All routes.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    // What orchestrators and scrapers ask.
    route(Method::GET, "/health", NOTHING, "whether a restart would help", || get(health::health)),
    route(Method::GET, "/ready", NOTHING, "whether requests may come", || get(health::ready)),
    route(Method::GET, "/metrics", ADDRESS, "the program's own figures, OpenMetrics text", || get(health::metrics)),
    act(Method::POST, "/-/reload", ADMIN, "config.reload", "reads the configuration anew", || post(health::reload)),
    // Pages.
    route(Method::GET, "/", VIEWER, "the page: health, alerts, notifications, targets, rules, store", || get(page::overview)),
    route(Method::GET, "/alerts/{id}", VIEWER, "the page of one alert with its story", || get(page::alert)),
    route(Method::GET, "/graph", VIEWER, "the page of one expression, as links to Prometheus' graph expect", || get(page::expression::graph)),
    route(Method::GET, "/login", ADDRESS, "the page that asks for name and password; next", || get(page::login::form)),
    act(Method::POST, "/login", ADDRESS, "login", "begins a session in the browser: username, password, next as a form", || post(page::login::submit)),
    act(Method::POST, "/logout", ADDRESS, "logout", "ends the browser's session", || post(page::login::logout)),
    route(Method::GET, "/assets/{name}", ADDRESS, "the style sheet and the icon", || get(page::asset)),
    // Our own API.
    route(Method::GET, "/api/v1/alerts", VIEWER, "alerts, newest first; state, level, label=name:value, acknowledged, category, assigned_to, incident, since, until, limit, cursor", || get(api::alerts::list)),
    route(Method::GET, "/api/v1/alerts/{id}", VIEWER, "one alert with its events and notifications", || get(api::alerts::one)),
    act(Method::POST, "/api/v1/alerts/{id}/acknowledge", OPERATOR, "alert.acknowledge", "takes an alert in hand: {note, until, by}", || post(api::acts::acknowledge)),
    act(Method::POST, "/api/v1/alerts/{id}/unacknowledge", OPERATOR, "alert.unacknowledge", "gives an alert back: {by}", || post(api::acts::unacknowledge)),
    act(Method::POST, "/api/v1/alerts/{id}/resolve", OPERATOR, "alert.resolve", "resolves an alert by hand: {note, by}", || post(api::acts::resolve)),
    act(Method::POST, "/api/v1/alerts/{id}/assign", OPERATOR, "alert.assign", "says who is to see to an alert: {to, note, by}", || post(api::acts::assign)),
    act(Method::POST, "/api/v1/alerts/{id}/unassign", OPERATOR, "alert.unassign", "says that nobody is to see to it any more: {note, by}", || post(api::acts::unassign)),
    act(Method::POST, "/api/v1/alerts/{id}/note", OPERATOR, "alert.note", "writes something down in an alert's story: {note, by}", || post(api::acts::note)),
    act(Method::POST, "/api/v1/alerts/{id}/suppress", OPERATOR, "alert.suppress", "silences this alert alone, until it resolves or until: {note, until, by}", || post(api::acts::suppress)),
    act(Method::POST, "/api/v1/alerts/actions", OPERATOR, "alerts.act", "does one of these to up to 1000 alerts: {ids, action, by, …}", || post(api::acts::many)),
    route(Method::GET, "/api/v1/alerts/{id}/why", VIEWER, "why an alert is, or is not, told: routes, groups, reasons, channels", || get(api::why::why)),
    // What is not to be told, by which way, and to whom.
    route(Method::GET, "/api/v1/silences", VIEWER, "silences, newest first; state, limit, cursor", || get(api::silences::list)),
    act(Method::POST, "/api/v1/silences", OPERATOR, "silence.create", "makes a silence: {matchers, starts_at, ends_at or duration, comment, recurs, until_resolved, confirm, by}", || post(api::silences::create)),
    route(Method::POST, "/api/v1/silences/preview", VIEWER, "what a silence would hit: {matchers}", || post(api::silences::preview)),
    route(Method::GET, "/api/v1/silences/{id}", VIEWER, "one silence", || get(api::silences::one)),
    act(Method::PUT, "/api/v1/silences/{id}", OPERATOR, "silence.change", "changes a silence, which may end it and make another: as POST", || put(api::silences::change)),
    act(Method::DELETE, "/api/v1/silences/{id}", OPERATOR, "silence.expire", "ends a silence", || delete(api::silences::expire)),
    route(Method::GET, "/api/v1/routes", VIEWER, "the tree of routes, receivers, inhibition, time intervals", || get(api::routes::tree)),
    route(Method::POST, "/api/v1/routes/test", VIEWER, "where an alert with these labels would go, and why: {labels}", || post(api::routes::test)),
    route(Method::GET, "/api/v1/incidents", VIEWER, "incidents, newest first; state, level, owner, alerts_min, since, until, limit, cursor", || get(api::incidents::list)),
    route(Method::GET, "/api/v1/incidents/{id}", VIEWER, "one incident with its timeline and alerts", || get(api::incidents::one)),
    act(Method::POST, "/api/v1/incidents/{id}/own", OPERATOR, "incident.own", "says who sees to an incident: {owner, by}", || post(api::incidents::own)),
    act(Method::POST, "/api/v1/incidents/{id}/rename", OPERATOR, "incident.rename", "gives an incident another title: {title, by}", || post(api::incidents::rename)),
    act(Method::POST, "/api/v1/incidents/{id}/note", OPERATOR, "incident.note", "writes something down in its timeline: {note, by}", || post(api::incidents::note)),
    act(Method::POST, "/api/v1/incidents/{id}/resolve", OPERATOR, "incident.resolve", "says that an incident is over: {note, by}", || post(api::incidents::resolve)),
    act(Method::POST, "/api/v1/incidents/{id}/reopen", OPERATOR, "incident.reopen", "opens an incident again: {by}", || post(api::incidents::reopen)),
    route(Method::GET, "/api/v1/schedules", VIEWER, "on-call schedules, and who is on call now", || get(api::schedules::list)),
    route(Method::GET, "/api/v1/schedules/{name}", VIEWER, "one schedule with its shifts; from, to", || get(api::schedules::one)),
    act(Method::POST, "/api/v1/overrides", OPERATOR, "override.create", "lets somebody stand in: {schedule, receiver, starts_at, ends_at, comment, by}", || post(api::schedules::put_override)),
    act(Method::DELETE, "/api/v1/overrides/{id}", OPERATOR, "override.delete", "takes an override back", || delete(api::schedules::drop_override)),
    route(Method::GET, "/api/v1/notifications", VIEWER, "notifications, newest first; status, alert, limit, cursor", || get(api::notifications::list)),
    route(Method::GET, "/api/v1/rules", VIEWER, "rule groups and how their rules stand", || get(api::rules::list)),
    act(Method::POST, "/api/v1/rules", OPERATOR, "rules.create", "makes a rule group, or adds one rule to a group: JSON or YAML; comment", || post(api::rules::create)),
    route(Method::POST, "/api/v1/rules/backtest", OPERATOR, "what rules would have done in the past: {rules, start, end, step, format, language, method, compare}", || post(api::backtest::run)),
    route(Method::GET, "/api/v1/rules/{id}", VIEWER, "a rule group made by API with its history; format, deleted", || get(api::rules::one)),
    act(Method::PUT, "/api/v1/rules/{id}", OPERATOR, "rules.change", "changes a rule group made by API: JSON or YAML, If-Match; comment", || put(api::rules::change)),
    act(Method::DELETE, "/api/v1/rules/{id}", OPERATOR, "rules.delete", "deletes a rule group made by API; If-Match, comment", || delete(api::rules::remove)),
    route(Method::GET, "/api/v1/stats/performance", ADDRESS, "figures of the program's own work and load", || get(api::stats::performance)),
    route(Method::GET, "/api/v1/stats/{section}", VIEWER, "figures: storage, alerts", || get(api::stats::one)),
    route(Method::POST, "/api/v1/write", OPERATOR, "Prometheus remote write 1.0 and 2.0", || post(push::write)),
    // Who may ask.
    act(Method::POST, "/api/v1/auth/login", ADDRESS, "login", "begins a session: {username, password}", || post(api::auth::login)),
    act(Method::POST, "/api/v1/auth/logout", VIEWER, "logout", "ends the session that asks", || post(api::auth::logout)),
    route(Method::GET, "/api/v1/auth/me", VIEWER, "who asks, and with which role", || get(api::auth::me)),
    act(Method::POST, "/api/v1/auth/password", VIEWER, "password.change", "changes one's own password: {old, new}", || post(api::auth::password)),
    route(Method::GET, "/api/v1/users", ADMIN, "users by name; limit, cursor", || get(api::users::list)),
    act(Method::POST, "/api/v1/users", ADMIN, "user.create", "makes a user: {name, role, password}", || post(api::users::create)),
    act(Method::PATCH, "/api/v1/users/{name}", ADMIN, "user.change", "changes a user: {role, password, is_disabled}", || patch(api::users::change)),
    act(Method::DELETE, "/api/v1/users/{name}", ADMIN, "user.delete", "deletes a user", || delete(api::users::remove)),
    route(Method::GET, "/api/v1/tokens", ADMIN, "API tokens by name, without their values; limit, cursor", || get(api::tokens::list)),
    act(Method::POST, "/api/v1/tokens", ADMIN, "token.create", "makes an API token and shows its value once: {name, role, expires_at}", || post(api::tokens::create)),
    act(Method::DELETE, "/api/v1/tokens/{name}", ADMIN, "token.delete", "deletes an API token", || delete(api::tokens::remove)),
    route(Method::GET, "/api/v1/audit", ADMIN, "who did what, newest first; actor, action, limit, cursor", || get(api::audit::list)),
    // The surface that Prometheus' clients know.
    route(Method::GET, "/prometheus/-/healthy", ADDRESS, "as /health, in words", || get(health::prometheus_healthy)),
    route(Method::GET, "/prometheus/-/ready", ADDRESS, "as /ready, in words", || get(health::prometheus_ready)),
    act(Method::POST, "/prometheus/-/reload", ADMIN, "config.reload", "reads the configuration anew", || post(health::reload)),
    route(Method::GET, "/prometheus/graph", VIEWER, "the page of one expression", || get(page::expression::graph)),
    route(Method::POST, "/prometheus/api/v1/write", OPERATOR, "Prometheus remote write 1.0 and 2.0", || post(push::write)),
    route(Method::GET, "/prometheus/api/v1/query", VIEWER, "an expression at one moment", || get(prometheus::query::instant)),
    route(Method::POST, "/prometheus/api/v1/query", VIEWER, "the same, as a form", || post(prometheus::query::instant)),
    route(Method::GET, "/prometheus/api/v1/query_range", VIEWER, "an expression over a range", || get(prometheus::query::range)),
    route(Method::POST, "/prometheus/api/v1/query_range", VIEWER, "the same, as a form", || post(prometheus::query::range)),
    route(Method::GET, "/prometheus/api/v1/query_exemplars", VIEWER, "exemplars; always none", || get(prometheus::query::exemplars)),
    route(Method::POST, "/prometheus/api/v1/query_exemplars", VIEWER, "the same, as a form", || post(prometheus::query::exemplars)),
    route(Method::GET, "/prometheus/api/v1/format_query", VIEWER, "an expression, written evenly", || get(prometheus::query::format)),
    route(Method::POST, "/prometheus/api/v1/format_query", VIEWER, "the same, as a form", || post(prometheus::query::format)),
    route(Method::GET, "/prometheus/api/v1/parse_query", VIEWER, "an expression's tree", || get(prometheus::query::tree)),
    route(Method::POST, "/prometheus/api/v1/parse_query", VIEWER, "the same, as a form", || post(prometheus::query::tree)),
    route(Method::GET, "/prometheus/api/v1/series", VIEWER, "series by selectors", || get(prometheus::series::series)),
    route(Method::POST, "/prometheus/api/v1/series", VIEWER, "the same, as a form", || post(prometheus::series::series)),
    route(Method::GET, "/prometheus/api/v1/labels", VIEWER, "label names", || get(prometheus::series::label_names)),
    route(Method::POST, "/prometheus/api/v1/labels", VIEWER, "the same, as a form", || post(prometheus::series::label_names)),
    route(Method::GET, "/prometheus/api/v1/label/{name}/values", VIEWER, "values of a label", || get(prometheus::series::label_values)),
    route(Method::GET, "/prometheus/api/v1/metadata", VIEWER, "type, help and unit of metrics", || get(prometheus::targets::metadata)),
    route(Method::GET, "/prometheus/api/v1/targets", VIEWER, "targets and how their scrapes went", || get(prometheus::targets::targets)),
    route(Method::GET, "/prometheus/api/v1/scrape_pools", VIEWER, "names of the jobs", || get(prometheus::targets::scrape_pools)),
    route(Method::GET, "/prometheus/api/v1/targets/metadata", VIEWER, "metadata by target", || get(prometheus::targets::targets_metadata)),
    route(Method::GET, "/prometheus/api/v1/rules", VIEWER, "rule groups; type, rule_name[], rule_group[], file[], match[], exclude_alerts, group_limit, group_next_token", || get(prometheus::rules::rules)),
    route(Method::GET, "/prometheus/api/v1/alerts", VIEWER, "pending and firing alerts", || get(prometheus::rules::alerts)),
    route(Method::GET, "/prometheus/api/v1/alertmanagers", VIEWER, "Alertmanagers; always none", || get(prometheus::status::alertmanagers)),
    route(Method::GET, "/prometheus/api/v1/status/buildinfo", VIEWER, "version, for clients that choose features by it", || get(prometheus::status::buildinfo)),
    route(Method::GET, "/prometheus/api/v1/status/flags", VIEWER, "settings as flags", || get(prometheus::status::flags)),
    route(Method::GET, "/prometheus/api/v1/status/config", ADMIN, "the configuration that runs, without secrets", || get(prometheus::status::config)),
    route(Method::GET, "/prometheus/api/v1/status/runtimeinfo", VIEWER, "since when and how it runs", || get(prometheus::status::runtimeinfo)),
    route(Method::GET, "/prometheus/api/v1/status/tsdb", VIEWER, "which metrics and labels make the most series", || get(prometheus::status::tsdb)),
    route(Method::GET, "/prometheus/api/v1/status/walreplay", VIEWER, "how far the log is replayed", || get(prometheus::status::walreplay)),
    route(Method::GET, "/prometheus/api/v1/features", VIEWER, "what is spoken and served here, as Prometheus names it", || get(prometheus::features::features)),
    route(Method::GET, "/prometheus/api/v1/notifications", VIEWER, "what is wrong with the server itself", || get(prometheus::status::notifications)),
    route(Method::GET, "/prometheus/api/v1/notifications/live", VIEWER, "nothing: ask again", || get(prometheus::status::notifications_live)),
    // The surface that Alertmanager's clients know.
    route(Method::GET, "/alertmanager/-/healthy", ADDRESS, "as /health, in a word", || get(alertmanager::status::healthy)),
    route(Method::GET, "/alertmanager/-/ready", ADDRESS, "as /ready, in a word", || get(alertmanager::status::ready)),
    act(Method::POST, "/alertmanager/-/reload", ADMIN, "config.reload", "reads the configuration anew", || post(health::reload)),
    route(Method::GET, "/alertmanager/metrics", VIEWER, "the version that is spoken, and counts of alerts and silences", || get(alertmanager::status::metrics)),
    route(Method::GET, "/alertmanager/api/v2/status", VIEWER, "version, and the routes as Alertmanager's configuration", || get(alertmanager::status::status)),
    route(Method::GET, "/alertmanager/api/v2/receivers", VIEWER, "names of receivers; receiver_matchers", || get(alertmanager::status::receivers)),
    route(Method::GET, "/alertmanager/api/v2/alerts", VIEWER, "alerts that fire; filter, receiver, active, silenced, inhibited", || get(alertmanager::alerts::list)),
    route(Method::POST, "/alertmanager/api/v2/alerts", OPERATOR, "takes alerts of other programs", || post(alertmanager::alerts::receive)),
    route(Method::GET, "/alertmanager/api/v2/alerts/groups", VIEWER, "the same as they are told together; also muted", || get(alertmanager::groups::list)),
    route(Method::GET, "/alertmanager/api/v2/silences", VIEWER, "silences; filter, active, pending, expired", || get(alertmanager::silences::list)),
    act(Method::POST, "/alertmanager/api/v2/silences", OPERATOR, "silence.put", "makes or changes a silence", || post(alertmanager::silences::put)),
    route(Method::GET, "/alertmanager/api/v2/silence/{id}", VIEWER, "one silence", || get(alertmanager::silences::one)),
    act(Method::DELETE, "/alertmanager/api/v2/silence/{id}", OPERATOR, "silence.expire", "ends a silence", || delete(alertmanager::silences::expire)),
];

/// Routes that answer before the rooms stand; all others say "not yet" until then.
pub(crate) const ANSWERED_AT_ONCE: [&str; 14] = [
    "/",
    "/login",
    "/logout",
    "/api/v1/auth/login",
    "/api/v1/auth/logout",
    "/api/v1/auth/me",
    "/health",
    "/ready",
    "/metrics",
    "/assets/{name}",
    "/prometheus/-/healthy",
    "/prometheus/-/ready",
    "/alertmanager/-/healthy",
    "/alertmanager/-/ready",
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
        // The guard holds every route, the unknown ones too: allow list, identity, role, audit log.
        .layer(middleware::from_fn_with_state(server.clone(), guard::guard))
        .with_state(server)
}

/// Grafana looks for Go's words "page not found" to learn that rules cannot be edited under `/prometheus`.
async fn unknown_path(uri: Uri) -> Problem {
    Problem::not_found(format!(
        "page not found: nothing is served at {}",
        shortened(uri.path())
    ))
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

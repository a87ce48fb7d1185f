//! `status`, `receivers`, and what is asked outside the API: whether it lives, and which version it is.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use marketprism_alerts::Alerts;
use marketprism_alerts::routing::{Original, original};
use marketprism_model::{AlertState, SilenceState};
use serde_json::{Value, json};

use super::answer::Failure;
use super::filter;
use crate::Server;
use crate::answer::{self, Gzip};
use crate::health;
use crate::parts::BuildInfo;
use crate::problem::Problem;
use crate::request::Query;

/// The version of Alertmanager whose API is spoken here. Clients choose features by it.
const SPOKEN_VERSION: &str = "0.34.0";

/// `GET status`: replicas find each other in the database, so there is no cluster of gossips.
pub async fn status(State(server): State<Server>, query: Query) -> Result<Response, Failure> {
    let parts = server.parts()?;
    let build = &parts.build;
    let document = json!({
        "cluster": { "status": "disabled", "peers": [] },
        "versionInfo": {
            "version": SPOKEN_VERSION,
            "revision": build.revision,
            "branch": branch(build),
            "buildUser": "",
            "buildDate": build.built_at,
            "goVersion": build.compiler,
        },
        "config": { "original": written(&parts.alerts) },
        "uptime": server.shared().started_at.to_string(),
    });
    Ok(answer::json(&document, query.gzip))
}

/// `GET receivers`
pub async fn receivers(State(server): State<Server>, query: Query) -> Result<Response, Failure> {
    let is_wanted = filter::has_receivers(&query.params)?;
    let routing = server.parts()?.alerts.routing();
    let config = routing.config();
    let names = config.receivers.iter().filter(|_| is_wanted);
    let document: Vec<Value> = names.map(|receiver| json!({ "name": receiver.name })).collect();
    Ok(answer::json(&document, query.gzip))
}

/// `GET /-/healthy`, in Alertmanager's word.
pub async fn healthy(State(server): State<Server>) -> Response {
    match health::health(State(server)).await {
        Ok(_) => (StatusCode::OK, "OK").into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// `GET /-/ready`
pub async fn ready(State(server): State<Server>) -> Response {
    match health::ready(State(server)).await {
        Ok(_) => (StatusCode::OK, "OK").into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// `GET /metrics`: what karma reads the version from, and the counts that dashboards of Alertmanager show. All figures
/// of the program stand under `/metrics` of its own.
pub async fn metrics(State(server): State<Server>) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let now = server.shared().clock.now();
    let mut text = String::new();
    let mut family = |name: &str, help: &str, samples: &[(String, usize)]| {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        for (labels, value) in samples {
            text.push_str(&format!("{name}{{{labels}}} {value}\n"));
        }
    };
    let build = &parts.build;
    let labels = format!(
        "version={SPOKEN_VERSION:?},revision={:?},branch={:?},goversion={:?}",
        build.revision,
        branch(build),
        build.compiler
    );
    family(
        "alertmanager_build_info",
        "Which Alertmanager is spoken here, and who answers.",
        &[(labels, 1)],
    );
    let active = parts.alerts.active();
    let firing = || active.iter().filter(|alert| alert.state == AlertState::Firing);
    let held = firing().filter(|alert| !alert.suppressed_by.is_empty()).count();
    let counts = [("active", firing().count() - held), ("suppressed", held)];
    let state = |(word, count): (&str, usize)| (format!("state={word:?}"), count);
    family(
        "alertmanager_alerts",
        "How many alerts fire, by state.",
        &counts.map(state),
    );
    let silences = parts.alerts.silences();
    let count = |state: SilenceState| {
        let there = silences.iter().filter(|silence| silence.state(now) == state);
        (state.as_str(), there.count())
    };
    let counts = [SilenceState::Active, SilenceState::Pending, SilenceState::Expired].map(count);
    family(
        "alertmanager_silences",
        "How many silences there are, by state.",
        &counts.map(state),
    );
    Ok(answer::body(
        StatusCode::OK,
        health::PROMETHEUS_TEXT,
        text.into_bytes(),
        Gzip(false),
    ))
}

fn branch(build: &BuildInfo) -> String {
    format!("marketprism-{}", build.version)
}

/// Writes the routes as Alertmanager's configuration, which amtool reads.
fn written(alerts: &Alerts) -> String {
    let routing = alerts.routing();
    let config = routing.config();
    let receivers: Vec<&str> = config
        .receivers
        .iter()
        .map(|receiver| receiver.name.as_str())
        .collect();
    original(&Original {
        resolve_timeout: config.resolve_timeout,
        route: &config.route,
        receivers: &receivers,
        inhibit_rules: &config.inhibit_rules,
        time_intervals: &config.time_intervals,
    })
}

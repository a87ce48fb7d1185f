//! `/health`, `/ready`, `/metrics`: what orchestrators and scrapers ask.
//!
//! Health says whether a restart would help; readiness whether requests should come. The first two answer
//! from the moment the port is bound.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use crate::Server;
use crate::answer::{self, Gzip};
use crate::problem::Problem;
use crate::readiness::Phase;

/// The media type of Prometheus' text format.
pub(crate) const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The media type of the format that the encoder writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /health`: 503 when the watchdog sees a loop that stands still.
pub async fn health(State(server): State<Server>) -> Result<Response, Problem> {
    let shared = server.shared();
    if let Ok(parts) = server.parts()
        && let Err(reason) = (parts.watchdog)()
    {
        return Err(Problem::stalled(reason));
    }
    let uptime_s = shared.clock.now().since(shared.started_at).as_secs();
    let document = json!({
        "status": "healthy",
        "phase": shared.readiness.phase().as_str(),
        "uptime_s": uptime_s,
    });
    Ok(answer::json(&document, Gzip(false)))
}

/// `GET /ready`: 503 with the reason while starting and draining. A standby is ready: what it is asked, it asks the
/// leader.
pub async fn ready(State(server): State<Server>) -> Result<Response, Problem> {
    let reason = match server.shared().readiness.phase() {
        Phase::Starting(reason) => reason,
        Phase::Draining => "the process is about to stop".to_owned(),
        Phase::StandingBy { leader } => {
            let document = json!({ "status": "standby", "leader": leader });
            return Ok(answer::json(&document, Gzip(false)));
        }
        Phase::Ready => {
            server.parts()?;
            return Ok(answer::json(&json!({ "status": "ready" }), Gzip(false)));
        }
    };
    Err(Problem::not_ready(reason))
}

/// `GET /metrics`: the program's own figures.
pub async fn metrics(State(server): State<Server>, headers: HeaderMap) -> Result<Response, Problem> {
    let metrics = server.metrics_text()?;
    let accepts_open_metrics = headers.get_all(header::ACCEPT).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.contains("application/openmetrics-text"))
    });
    let media_type = if accepts_open_metrics {
        OPEN_METRICS
    } else {
        PROMETHEUS_TEXT
    };
    let text = match accepts_open_metrics {
        true => (metrics.open)(),
        false => (metrics.plain)(),
    };
    Ok(answer::body(
        StatusCode::OK,
        media_type,
        text.into_bytes(),
        Gzip::from_headers(&headers),
    ))
}

/// `GET /-/healthy` of the compatible surface, in Prometheus' words.
pub async fn prometheus_healthy(State(server): State<Server>) -> Response {
    match health(State(server)).await {
        Ok(_) => (StatusCode::OK, "MarketPrism is Healthy.\n").into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// `GET /-/ready` of the compatible surface.
pub async fn prometheus_ready(State(server): State<Server>) -> Response {
    match ready(State(server)).await {
        Ok(_) => (StatusCode::OK, "MarketPrism is Ready.\n").into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// `POST /-/reload`: reads the configuration anew; a bad one leaves the old one running and is named.
pub async fn reload(State(server): State<Server>) -> Result<Response, Problem> {
    let parts = server.parts()?;
    match (parts.reload)().await {
        Ok(()) => Ok(StatusCode::OK.into_response()),
        Err(reason) => Err(Problem::reload_refused(reason)),
    }
}

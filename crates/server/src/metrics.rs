//! What the server counts about itself.
//!
//! Routes are labelled by their pattern, never by the path asked for, so that strangers cannot make series.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: String,
    code: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

/// The server's own figures; clones share them.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    pub(crate) connections: Gauge,
    pub(crate) queries_refused: Counter,
    pub(crate) query_seconds: Counter<f64, AtomicU64>,
}

const BOUNDS_S: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

impl Default for Metrics {
    fn default() -> Self {
        let make: fn() -> Histogram = || Histogram::new(BOUNDS_S);
        Metrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(make),
            connections: Gauge::default(),
            queries_refused: Counter::default(),
            query_seconds: Counter::default(),
        }
    }
}

impl Metrics {
    /// Adds the figures to the program's registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "marketprism_http_requests",
            "Requests answered",
            self.requests.clone(),
        );
        registry.register(
            "marketprism_http_request_duration_seconds",
            "Time until the answer's head was ready",
            self.durations.clone(),
        );
        registry.register(
            "marketprism_http_connections",
            "Connections open",
            self.connections.clone(),
        );
        registry.register(
            "marketprism_queries_refused",
            "Queries refused because all workers were busy and the queue was full",
            self.queries_refused.clone(),
        );
        registry.register(
            "marketprism_query_seconds",
            "Time spent on evaluating queries of the API",
            self.query_seconds.clone(),
        );
    }

    pub(crate) fn request(&self, route: &str, method: &Method, code: StatusCode, elapsed: Duration) {
        let route = route.to_owned();
        let method = match *method {
            Method::GET | Method::POST | Method::PUT | Method::DELETE | Method::HEAD => method.to_string(),
            _ => "other".to_owned(),
        };
        self.durations
            .get_or_create(&RouteLabels { route: route.clone() })
            .observe(elapsed.as_secs_f64());
        let labels = RequestLabels {
            route,
            method,
            code: code.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
    }
}

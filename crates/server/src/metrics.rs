//! What the server counts about itself.
//!
//! Routes are labelled by their pattern, never by the path asked for, so that strangers cannot make series.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde::Serialize;

use crate::cache::{Cache, CacheFigures};
use crate::clients::{Clients, ConnectionFigures};
use crate::workers::{WorkerFigures, Workers};

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

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// How busy the server is, for `/api/v1/stats/performance`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Figures {
    /// Queries under way, waiting and refused.
    pub queries: WorkerFigures,
    /// Remote-write requests.
    pub pushes: WorkerFigures,
    /// Look-ups in the records.
    pub look_ups: WorkerFigures,
    /// Answers of queries that are kept.
    pub query_cache: CacheFigures,
    /// Connections.
    pub connections: ConnectionFigures,
}

/// Those whose state is asked rather than counted; clones share it.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) queries: Workers,
    pub(crate) pushes: Workers,
    pub(crate) look_ups: Workers,
    pub(crate) cache: Arc<Cache>,
    pub(crate) clients: Arc<Clients>,
}

impl Sources {
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            queries: self.queries.figures(),
            pushes: self.pushes.figures(),
            look_ups: self.look_ups.figures(),
            query_cache: self.cache.figures(),
            connections: self.clients.figures(),
        }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.figures();
        let kinds = [
            ("query", figures.queries),
            ("push", figures.pushes),
            ("look_up", figures.look_ups),
        ];
        let of_kinds = |figure: fn(&WorkerFigures) -> usize| {
            let family = Family::<KindLabels, Gauge>::default();
            for (kind, workers) in &kinds {
                let value = i64::try_from(figure(workers)).unwrap_or(i64::MAX);
                family.get_or_create(&KindLabels { kind }).set(value);
            }
            family
        };
        put(
            &mut encoder,
            "server_tasks_running",
            "Tasks of a kind under way",
            &of_kinds(|f| f.running),
        )?;
        put(
            &mut encoder,
            "server_tasks_waiting",
            "Tasks of a kind that wait",
            &of_kinds(|f| f.waiting),
        )?;
        let help = "The most tasks of a kind that run at once";
        put(
            &mut encoder,
            "server_tasks_running_max",
            help,
            &of_kinds(|f| f.running_max),
        )?;
        let help = "The most tasks of a kind that wait";
        put(
            &mut encoder,
            "server_tasks_waiting_max",
            help,
            &of_kinds(|f| f.waiting_max),
        )?;
        let refused = Family::<KindLabels, Counter>::default();
        for (kind, workers) in &kinds {
            refused
                .get_or_create(&KindLabels { kind })
                .inc_by(workers.refused);
        }
        put(
            &mut encoder,
            "server_tasks_refused",
            "Tasks refused because the queue was full",
            &refused,
        )?;
        put_cache(&mut encoder, &figures.query_cache)?;
        let closed = Family::<ReasonLabels, Counter>::default();
        for (reason, count) in [
            ("client", figures.connections.refused_client),
            ("full", figures.connections.refused_full),
        ] {
            closed.get_or_create(&ReasonLabels { reason }).inc_by(count);
        }
        let help = "Connections closed at once: their client had its share, or all places were taken";
        put(&mut encoder, "http_connections_refused", help, &closed)
    }
}

fn put_cache(encoder: &mut DescriptorEncoder<'_>, cache: &CacheFigures) -> fmt::Result {
    let counters = [
        (
            "hits",
            "Queries answered from the cache, or together with an equal one",
            cache.hits,
        ),
        ("misses", "Queries that the cache did not know", cache.misses),
        (
            "steps_reused",
            "Steps of range queries taken from those kept",
            cache.steps_reused,
        ),
        (
            "steps_evaluated",
            "Steps of range queries evaluated while steps are kept",
            cache.steps_evaluated,
        ),
    ];
    for (name, help, value) in counters {
        put(
            encoder,
            &format!("query_cache_{name}"),
            help,
            &ConstCounter::new(value),
        )?;
    }
    let gauges = [
        ("entries", "Answers of queries kept", cache.entries),
        ("bytes", "Bytes of the answers kept", cache.bytes),
        (
            "ranges",
            "Expressions over ranges whose steps are kept",
            cache.ranges,
        ),
        ("range_bytes", "Bytes of the steps kept", cache.range_bytes),
    ];
    for (name, help, value) in gauges {
        let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        put(encoder, &format!("query_cache_{name}"), help, &value)?;
    }
    Ok(())
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    let name = format!("marketprism_{name}");
    let family = encoder.encode_descriptor(&name, help, None, metric.metric_type())?;
    metric.encode(family)
}

/// The server's own figures; clones share them.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    pub(crate) connections: Gauge,
    pub(crate) queries_refused: Counter,
    pub(crate) query_seconds: Counter<f64, AtomicU64>,
    pub(crate) handshakes_failed: Counter,
    pub(crate) certificate_ends_at: Gauge,
    pub(crate) forwards: Counter,
    pub(crate) forwards_failed: Counter,
    pub(crate) sources: Sources,
}

const BOUNDS_S: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

impl Metrics {
    pub(crate) fn new(sources: Sources) -> Self {
        let make: fn() -> Histogram = || Histogram::new(BOUNDS_S);
        Metrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(make),
            connections: Gauge::default(),
            queries_refused: Counter::default(),
            query_seconds: Counter::default(),
            handshakes_failed: Counter::default(),
            certificate_ends_at: Gauge::default(),
            forwards: Counter::default(),
            forwards_failed: Counter::default(),
            sources,
        }
    }

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
        registry.register(
            "marketprism_tls_handshakes_failed",
            "Connections that ended before TLS was agreed on",
            self.handshakes_failed.clone(),
        );
        registry.register(
            "marketprism_tls_certificate_end_timestamp_seconds",
            "When the server's certificate expires, 0 without one",
            self.certificate_ends_at.clone(),
        );
        registry.register(
            "marketprism_http_forwards",
            "Requests passed on to the leader and answered by it",
            self.forwards.clone(),
        );
        registry.register(
            "marketprism_http_forwards_failed",
            "Requests that no leader answered",
            self.forwards_failed.clone(),
        );
        registry.register_collector(Box::new(self.sources.clone()));
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

//! The program's own figures: one registry, and what the store and the process tell on request.
//!
//! Rooms register their counters when they are built; what is a state rather than a count is asked at each
//! scrape. The text is OpenMetrics, or Prometheus' older format for whoever does not ask for OpenMetrics: what `curl`
//! shows must also be what `promtool check metrics` takes.
//! Labels come from the configuration and from lists in the code, never from requests or samples, so that nobody
//! outside can make series of ours. `docs/operating/metrics.md` lists every name; a test compares it with a running
//! program.

mod plain;
mod pools;
mod process;
mod store;
mod summary;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use plain::plain;
pub use pools::PoolFigures;
pub use process::{ProcessFigures, process};
pub use store::StoreFigures;
pub use summary::Summary;

/// The registry, shared between the rooms that register and the page that shows.
pub type SharedRegistry = Arc<Mutex<Figures>>;

/// All figures: the registry of the client library, and the summary, a type that the library does not have.
#[derive(Debug)]
pub struct Figures {
    registry: Registry,
    detection: Arc<Summary>,
}

impl Figures {
    /// Gives the durations of anomaly detection, for whoever detects to add to.
    pub fn detection(&self) -> Arc<Summary> {
        Arc::clone(&self.detection)
    }
}

impl Deref for Figures {
    type Target = Registry;
    fn deref(&self) -> &Registry {
        &self.registry
    }
}

impl DerefMut for Figures {
    fn deref_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }
}

/// Makes a registry that knows who was built.
pub fn registry() -> SharedRegistry {
    let mut registry = Registry::default();
    let build = Info::new(vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", crate::build_info::REVISION),
    ]);
    registry.register("marketprism_build", "Who built the program", build);
    let detection = Summary::new(
        "marketprism_anomaly_detection_duration",
        "Seconds that one run of an anomaly detector took; quantiles of the newest thousand runs, NaN before the first",
    );
    Arc::new(Mutex::new(Figures {
        registry,
        detection: Arc::new(detection),
    }))
}

/// Writes all figures as OpenMetrics text.
pub fn encode(registry: &SharedRegistry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let figures = registry.lock().unwrap_or_else(PoisonError::into_inner);
    prometheus_client::encoding::text::encode_registry(&mut text, &figures.registry)?;
    figures.detection.encode(&mut text)?;
    prometheus_client::encoding::text::encode_eof(&mut text)?;
    Ok(text)
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

//! What the program scrapes of itself: the host, and its own figures.

use std::sync::Arc;

use marketprism_collect::scrape::LocalSource;
use marketprism_collect::{HostCollector, SelfCollector};
use marketprism_model::Clock;

use crate::config::Config;
use crate::metrics::{SharedRegistry, encode};

/// Gives the sources that the configuration asks for; `instance` names this process among its replicas.
pub fn local_sources(
    config: &Config,
    instance: &str,
    registry: &SharedRegistry,
    clock: &Arc<dyn Clock>,
) -> Vec<LocalSource> {
    // The figures hold the scraper, and the scraper these sources; a circle would outlive a start anew.
    let registry = Arc::downgrade(registry);
    let own = SelfCollector::source(instance, config.host.interval, move || {
        let registry = registry.upgrade().ok_or("the program stops")?;
        encode(&registry).map_err(|error| error.to_string())
    });
    let host = config
        .host
        .enabled
        .then(|| HostCollector::source(&config.host, Arc::clone(clock)));
    host.into_iter().chain([own]).collect()
}

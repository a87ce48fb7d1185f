//! What this room counts about itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why samples were not taken.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct RefusalReason {
    /// `too_old`, `too_far_ahead`, `conflicting`, `duplicate`, `series_limit`, `bad_labels`, `histogram` or `store`.
    pub reason: &'static str,
}

/// How a remote write request ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct RequestOutcome {
    /// `taken`, `partial`, `bad_request` or `unavailable`.
    pub outcome: &'static str,
}

/// The counters of the room. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct CollectMetrics {
    pub(crate) scrapes: Counter,
    pub(crate) scrape_failures: Counter,
    pub(crate) samples: Counter,
    pub(crate) refused: Family<RefusalReason, Counter>,
    pub(crate) stale_markers: Counter,
    pub(crate) targets: Gauge,
    pub(crate) discovery_failures: Counter,
    pub(crate) remote_write_requests: Family<RequestOutcome, Counter>,
}

impl CollectMetrics {
    /// Makes the counters and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = CollectMetrics::default();
        registry.register(
            "marketprism_scrapes",
            "Scrapes that were attempted",
            metrics.scrapes.clone(),
        );
        registry.register(
            "marketprism_scrape_failures",
            "Scrapes that failed, for any reason",
            metrics.scrape_failures.clone(),
        );
        registry.register(
            "marketprism_samples_appended",
            "Samples that the store took from scrapes and remote write",
            metrics.samples.clone(),
        );
        registry.register(
            "marketprism_samples_refused",
            "Samples that were not taken, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "marketprism_stale_markers",
            "Marks written for series that ended",
            metrics.stale_markers.clone(),
        );
        registry.register(
            "marketprism_scrape_targets",
            "Targets being scraped",
            metrics.targets.clone(),
        );
        registry.register(
            "marketprism_discovery_failures",
            "Target files that could not be read and targets that could not be made",
            metrics.discovery_failures.clone(),
        );
        registry.register(
            "marketprism_remote_write_requests",
            "Remote write requests, by outcome",
            metrics.remote_write_requests.clone(),
        );
        metrics
    }

    pub(crate) fn refuse(&self, reason: &'static str, count: usize) {
        if count > 0 {
            self.refused
                .get_or_create(&RefusalReason { reason })
                .inc_by(count as u64);
        }
    }

    pub(crate) fn count_appended(&self, appended: &marketprism_model::sample::Appended) {
        self.samples.inc_by(appended.accepted as u64);
        self.refuse("too_old", appended.too_old);
        self.refuse("too_far_ahead", appended.too_far_ahead);
        self.refuse("conflicting", appended.conflicting);
    }
}

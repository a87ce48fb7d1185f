//! `performance`: how much is written, remembered and done at once. And `anomaly_detection`, which waits for its room.

use std::time::Duration;

use marketprism_model::duration;
use serde::Deserialize;

use super::Seconds;
use super::judge::Reasons;

/// The `performance` section.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Performance {
    /// The write road.
    pub batch_processing: BatchProcessing,
    /// Results of queries.
    pub caching: Caching,
    /// Evaluation and delivery.
    pub concurrency: Concurrency,
}

/// How samples are gathered before they are written.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchProcessing {
    /// Whether they are gathered at all; without it every scrape, push and rule waits for the disk.
    pub enabled: bool,
    /// As soon as so many scrapes, pushes and rules wait for the disk, they are written; 1 to 100000.
    pub batch_size: usize,
    /// None waits longer, 10 ms to 1 h.
    pub flush_interval_seconds: Seconds,
}

impl Default for BatchProcessing {
    fn default() -> Self {
        BatchProcessing {
            enabled: true,
            batch_size: 100,
            flush_interval_seconds: Seconds::whole(5),
        }
    }
}

/// How results of queries are remembered.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caching {
    /// Whether they are remembered at all.
    pub enabled: bool,
    /// As many results, 1 to 1000000.
    pub cache_size: usize,
    /// For this long, 1 s to 1 d.
    pub ttl_seconds: Seconds,
}

impl Default for Caching {
    fn default() -> Self {
        Caching {
            enabled: false,
            cache_size: 1000,
            ttl_seconds: Seconds::whole(300),
        }
    }
}

/// How much is done at the same time; where nothing is said, each room has its own measure.
#[derive(Clone, Copy, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Concurrency {
    /// Queries, pushes, evaluations and deliveries under way at the same time, each kind by itself; 1 to 256.
    pub max_workers: Option<usize>,
    /// As many more of each kind may wait, 0 to 100000.
    pub queue_size: Option<usize>,
}

impl Caching {
    /// Gives the same in the server's words.
    pub fn of_server(&self) -> marketprism_server::CacheConfig {
        marketprism_server::CacheConfig {
            enabled: self.enabled,
            entries_max: self.cache_size,
            ttl: self.ttl_seconds.0,
            ..marketprism_server::CacheConfig::default()
        }
    }
}

impl Concurrency {
    /// Gives the threads that evaluate rules: not more than there are cores.
    pub fn evaluation_workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.max_workers.map_or(cores, |most| most.min(cores))
    }

    /// Gives the same in the server's words.
    pub fn of_server(&self) -> marketprism_server::Concurrency {
        marketprism_server::Concurrency {
            max_workers: self.max_workers,
            queue_size: self.queue_size,
        }
    }
}

impl Performance {
    /// Checks every limit.
    pub(super) fn judge(&self, reasons: &mut Reasons) {
        let mut within = |field: &str, given: Option<usize>, least: usize, most: usize| {
            if let Some(given) = given.filter(|given| !(least..=most).contains(given)) {
                reasons.note(
                    format!("performance.{field}"),
                    format!("is {given}; it must be from {least} to {most}"),
                );
            }
        };
        let (batch, concurrency) = (&self.batch_processing, self.concurrency);
        within("batch_processing.batch_size", Some(batch.batch_size), 1, 100_000);
        within("caching.cache_size", Some(self.caching.cache_size), 1, 1_000_000);
        within("concurrency.max_workers", concurrency.max_workers, 1, 256);
        within("concurrency.queue_size", concurrency.queue_size, 0, 100_000);
        reasons.judge_span(
            "performance.batch_processing.flush_interval_seconds",
            self.batch_processing.flush_interval_seconds.0,
            Duration::from_millis(10)..=Duration::from_secs(3600),
        );
        reasons.judge_span(
            "performance.caching.ttl_seconds",
            self.caching.ttl_seconds.0,
            Duration::from_secs(1)..=Duration::from_secs(86_400),
        );
    }
}

/// The `anomaly_detection` section.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnomalyDetection {
    /// Whether anomalies are looked for.
    pub enabled: bool,
    /// By statistics.
    pub statistical: Statistical,
    /// By learning.
    pub ml: Learning,
}

impl Default for AnomalyDetection {
    fn default() -> Self {
        AnomalyDetection {
            enabled: true,
            statistical: Statistical::default(),
            ml: Learning::default(),
        }
    }
}

/// What counts as unusual by statistics.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Statistical {
    /// A robust z-score above this is an anomaly, above 0 and up to 100.
    pub threshold: f64,
}

impl Default for Statistical {
    fn default() -> Self {
        Statistical { threshold: 2.0 }
    }
}

/// What counts as unusual by learning.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Learning {
    /// The share of anomalies that is expected, above 0 and up to 0.5.
    pub contamination: f64,
}

impl Default for Learning {
    fn default() -> Self {
        Learning { contamination: 0.1 }
    }
}

impl AnomalyDetection {
    /// Checks every limit.
    pub(super) fn judge(&self, reasons: &mut Reasons) {
        let mut within = |field: &str, given: f64, most: f64| {
            if !(given > 0.0 && given <= most) {
                reasons.note(
                    format!("anomaly_detection.{field}"),
                    format!("is {given}; it must be above 0 and at most {most}"),
                );
            }
        };
        within("statistical.threshold", self.statistical.threshold, 100.0);
        within("ml.contamination", self.ml.contamination, 0.5);
    }
}

/// Says that a span is outside of its limits.
pub(super) fn out_of_range(given: Duration, least: Duration, most: Duration) -> String {
    let [given, least, most] = [given, least, most].map(duration::format);
    format!("is {given}; it must be from {least} to {most}")
}

//! The program's own figures: one registry, and what the store and the process tell on request.
//!
//! Rooms register their counters when they are built; what is a state rather than a count is asked at each
//! scrape.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use marketprism_model::Clock;
use marketprism_storage::{Stats, Store};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The registry, shared between the rooms that register and the page that shows.
pub type SharedRegistry = Arc<Mutex<Registry>>;

/// Makes a registry that knows who was built.
pub fn registry() -> SharedRegistry {
    let mut registry = Registry::default();
    let build = Info::new(vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", crate::build_info::REVISION),
    ]);
    registry.register("marketprism_build", "Who built the program", build);
    Arc::new(Mutex::new(registry))
}

/// Writes all figures as OpenMetrics text.
pub fn encode(registry: &SharedRegistry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Asks the store at each scrape.
pub struct StoreFigures(pub Store);

impl fmt::Debug for StoreFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreFigures")
    }
}

impl Collector for StoreFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.0.stats();
        for (name, help, value) in gauges(&stats) {
            put(&mut encoder, name, help, &ConstGauge::new(value))?;
        }
        for (name, help, value) in counters(&stats) {
            put(&mut encoder, name, help, &ConstCounter::new(value))?;
        }
        Ok(())
    }
}

fn gauges(stats: &Stats) -> Vec<(&'static str, &'static str, f64)> {
    let seconds = |at: Option<marketprism_model::Timestamp>| at.map_or(0.0, |at| at.seconds_f64());
    vec![
        ("storage_series", "Series in the head", stats.series as f64),
        (
            "storage_series_limit",
            "The most series that the head may hold",
            stats.series_limit as f64,
        ),
        (
            "storage_head_samples",
            "Samples in the head",
            stats.head_samples as f64,
        ),
        (
            "storage_wal_bytes",
            "Bytes of the write-ahead log",
            stats.wal_bytes as f64,
        ),
        (
            "storage_wal_segments",
            "Segments of the write-ahead log",
            stats.wal_segments as f64,
        ),
        ("storage_blocks", "Blocks on disk", stats.blocks as f64),
        (
            "storage_blocks_damaged",
            "Blocks left out because they are damaged",
            stats.damaged_blocks.len() as f64,
        ),
        ("storage_block_bytes", "Bytes of blocks", stats.block_bytes as f64),
        (
            "storage_block_samples",
            "Samples in blocks",
            stats.block_samples as f64,
        ),
        (
            "storage_oldest_sample_timestamp_seconds",
            "The oldest sample, 0 when there is none",
            seconds(stats.oldest),
        ),
        (
            "storage_newest_sample_timestamp_seconds",
            "The newest sample, 0 when there is none",
            seconds(stats.newest),
        ),
        (
            "storage_replay_lost_ranges",
            "Damaged stretches of the log at the last start",
            stats.replay.lost.len() as f64,
        ),
    ]
}

fn counters(stats: &Stats) -> Vec<(&'static str, &'static str, u64)> {
    vec![
        ("storage_samples_appended", "Samples accepted", stats.appended),
        (
            "storage_samples_late",
            "Samples accepted out of order",
            stats.appended_late,
        ),
        (
            "storage_samples_too_old",
            "Samples refused because they were too old",
            stats.refused_too_old,
        ),
        (
            "storage_samples_too_far_ahead",
            "Samples refused because they were ahead of the clock",
            stats.refused_too_far_ahead,
        ),
        (
            "storage_samples_conflicting",
            "Samples refused because their moment holds another value",
            stats.refused_conflicting,
        ),
        ("storage_series_created", "Series made", stats.series_created),
        (
            "storage_series_removed",
            "Series removed from the head",
            stats.series_removed,
        ),
        (
            "storage_series_refused",
            "Series refused because the limit is reached",
            stats.refused_series,
        ),
        (
            "storage_wal_errors",
            "Failed writes and syncs of the log",
            stats.wal_errors,
        ),
        (
            "storage_maintenance_errors",
            "Failed block cuts and clean-ups",
            stats.maintenance_errors,
        ),
        ("storage_blocks_cut", "Blocks cut", stats.blocks_cut),
        (
            "storage_blocks_deleted",
            "Blocks deleted by retention",
            stats.blocks_deleted,
        ),
    ]
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    let name = format!("marketprism_{name}");
    metric.encode(encoder.encode_descriptor(&name, help, None, metric.metric_type())?)
}

/// Asks the kernel about this process at each scrape; the conventional `process_` names.
pub struct ProcessFigures {
    clock: Arc<dyn Clock>,
    started_seconds: f64,
}

impl ProcessFigures {
    /// Notes when the process started.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let started_seconds = clock.now().seconds_f64();
        ProcessFigures {
            clock,
            started_seconds,
        }
    }
}

impl fmt::Debug for ProcessFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessFigures")
    }
}

impl Collector for ProcessFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let process = read_process();
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge(
            "process_start_time_seconds",
            "When the process started",
            self.started_seconds,
        )?;
        gauge(
            "process_resident_memory_bytes",
            "Resident memory",
            process.resident_bytes,
        )?;
        gauge("process_open_fds", "Open file descriptors", process.open_files)?;
        gauge(
            "marketprism_clock_seconds",
            "The wall clock as the program sees it",
            self.clock.now().seconds_f64(),
        )?;
        let cpu = ConstCounter::new(process.cpu_seconds);
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            "CPU time used",
            None,
            cpu.metric_type(),
        )?)
    }
}

/// Gives what the process uses, for the statistics page.
pub fn process() -> serde_json::Value {
    let process = read_process();
    serde_json::json!({
        "resident_bytes": process.resident_bytes,
        "cpu_seconds": process.cpu_seconds,
        "open_files": process.open_files,
    })
}

struct Process {
    resident_bytes: f64,
    cpu_seconds: f64,
    open_files: f64,
}

/// Reads `/proc/self`; what cannot be read is 0.
fn read_process() -> Process {
    let page = rustix::param::page_size() as f64;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name may hold spaces; what follows its closing parenthesis begins with field 3.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let field = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    Process {
        resident_bytes: statm
            .split_whitespace()
            .nth(1)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
            * page,
        cpu_seconds: (field(11) + field(12)) / ticks,
        open_files: std::fs::read_dir("/proc/self/fd").map_or(0.0, |entries| entries.count() as f64),
    }
}

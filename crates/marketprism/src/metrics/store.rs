//! What the store tells of itself at each scrape.

use std::fmt;

use marketprism_storage::{Stats, Store};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::put;

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
            put(
                &mut encoder,
                &format!("marketprism_{name}"),
                help,
                &ConstGauge::new(value),
            )?;
        }
        for (name, help, value) in counters(&stats) {
            put(
                &mut encoder,
                &format!("marketprism_{name}"),
                help,
                &ConstCounter::new(value),
            )?;
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
            "storage_head_histograms",
            "Native histograms among the samples in the head",
            stats.head_histograms as f64,
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
            "storage_block_histograms",
            "Native histograms among the samples in blocks",
            stats.block_histograms as f64,
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
            "storage_wal_unsynced_appends",
            "Appends written to the log and not known to be on the disk",
            stats.wal_unsynced_appends as f64,
        ),
        (
            "storage_wal_unsynced_age_seconds",
            "How long the oldest of them has waited, 0 when there is none",
            stats.wal_unsynced_age_seconds.unwrap_or(0.0),
        ),
        (
            "storage_wal_last_sync_duration_seconds",
            "How long the last fsync of the log took",
            stats.wal_last_sync_seconds,
        ),
        (
            "storage_kept_files",
            "Segments and blocks that only stay for a copy under way",
            stats.kept_files as f64,
        ),
        ("storage_kept_bytes", "Their bytes", stats.kept_bytes as f64),
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
            "storage_histograms_appended",
            "Native histograms among the samples accepted",
            stats.appended_histograms,
        ),
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
        ("storage_wal_syncs", "Fsyncs of the log", stats.wal_syncs),
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

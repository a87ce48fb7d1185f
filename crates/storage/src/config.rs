//! What the operator may decide about the store, and what is refused.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Appends that are synchronised together, at least and at most.
const BATCH_SIZE_RANGE: RangeInclusive<u64> = 1..=100_000;
/// How long written samples may wait for the disk.
const FLUSH_INTERVAL_RANGE: RangeInclusive<Duration> = Duration::from_millis(10)..=HOUR;

/// Late samples may be accepted for this long at most.
const OUT_OF_ORDER_WINDOW_MAX: Duration = Duration::from_secs(86_400);

/// When written samples are made to survive a loss of power.
///
/// In every mode an append is handed to the kernel before it is answered, so an acknowledged sample survives the
/// death of the process (`kill -9`, a panic, an out-of-memory kill). The modes differ in what survives the death
/// of the *machine*. An append with `Durability::Synced` waits for the disk in every mode but `os`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncMode {
    /// As [`Config::batch`] says: after so many appends or so much time, whichever comes first.
    #[default]
    Batch,
    /// Every append waits for the disk; one fsync answers all that wait.
    Durable,
    /// The log is synchronised this often; a loss of power costs at most this much of scraped data.
    Interval(Duration),
    /// The kernel decides (about 30 s on Linux); nothing is ever synchronised, but for block files.
    Os,
}

impl SyncMode {
    /// What the word `interval` alone means: synchronised every 100 ms.
    pub const INTERVAL_DEFAULT: SyncMode = SyncMode::Interval(Duration::from_millis(100));
}

impl FromStr for SyncMode {
    type Err = ConfigError;

    /// Reads `batch`, `durable`, `os`, `interval` or `interval=250ms`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text.split_once('=').unwrap_or((text, "")) {
            ("batch", "") => Some(SyncMode::Batch),
            ("durable", "") => Some(SyncMode::Durable),
            ("os", "") => Some(SyncMode::Os),
            ("interval", "") => Some(SyncMode::INTERVAL_DEFAULT),
            ("interval", span) => marketprism_model::duration::parse(span)
                .ok()
                .map(SyncMode::Interval),
            _ => None,
        }
        .ok_or_else(|| ConfigError {
            field: "storage.sync",
            value: format!("{text:?}"),
            limit: "batch, durable, os, interval or interval=100ms",
        })
    }
}

impl fmt::Display for SyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncMode::Batch => f.write_str("batch"),
            SyncMode::Durable => f.write_str("durable"),
            SyncMode::Os => f.write_str("os"),
            SyncMode::Interval(span) => {
                write!(f, "interval={}", marketprism_model::duration::format(*span))
            }
        }
    }
}

/// How appends are gathered for the disk: the keys `performance.batch_processing`.
///
/// They count in [`SyncMode::Batch`] only, which is the default; whoever names another `storage.sync` decides by
/// that alone. An append is what one scrape, one push or one rule hands in, whatever number of samples it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batching {
    /// Without batching every append waits for the disk, as in [`SyncMode::Durable`].
    pub enabled: bool,
    /// As soon as so many appends wait for the disk, they are synchronised; 1 to 100,000.
    pub batch_size: u64,
    /// No append waits longer before it is synchronised, so a loss of power costs at most this much of scraped
    /// data; from 10 ms to 1 h.
    pub flush_interval: Duration,
}

impl Default for Batching {
    /// Gives what the deployment guide shows: 100 appends or 5 s.
    fn default() -> Self {
        Batching {
            enabled: true,
            batch_size: 100,
            flush_interval: Duration::from_secs(5),
        }
    }
}

/// What of the log waits for the disk, and how long: the sync mode and the batch keys, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SyncPolicy {
    /// Every append waits.
    Always,
    /// At so many appends, or after so long.
    Gathered { appends: u64, interval: Duration },
    /// The kernel decides.
    Never,
}

/// How the store behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The folder of the store; made when absent. One process at a time.
    pub dir: PathBuf,
    /// When samples are made to survive a loss of power.
    pub sync: SyncMode,
    /// How appends are gathered for the disk in [`SyncMode::Batch`].
    pub batch: Batching,
    /// How long files stay that the store no longer needs, for a copy of the running folder: as long as a copy may
    /// take from listing the blocks to reading the log; at most 24 h. They go at once when the disk is full.
    pub copy_grace: Duration,
    /// How many bytes such files take at most, the oldest going first. They do not count for `retention_bytes`.
    pub copy_grace_bytes: u64,
    /// Blocks whose newest sample is older than this are deleted; at least 3 h.
    pub retention: Duration,
    /// The oldest blocks are deleted while blocks and log together are larger than this, in bytes.
    pub retention_bytes: Option<u64>,
    /// How far behind the newest sample of the store one may be that comes out of the order of its series; at most
    /// 24 h, zero refuses all.
    pub out_of_order_window: Duration,
    /// How many series the head holds at most; a further one is refused.
    pub series_limit: usize,
    /// How far ahead of the clock a sample may be; at most 24 h.
    pub future_limit: Duration,
}

impl Config {
    /// Gives the defaults for a folder: sync at 100 appends or after 5 s, 30 days, 1 h of lateness, 2,000,000 series,
    /// 10 min ahead, and 1 h or 2 GiB for copies.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Config {
            dir: dir.into(),
            sync: SyncMode::Batch,
            batch: Batching::default(),
            copy_grace: HOUR,
            copy_grace_bytes: 2 << 30,
            retention: 30 * DAY,
            retention_bytes: None,
            out_of_order_window: HOUR,
            series_limit: 2_000_000,
            future_limit: 10 * MINUTE,
        }
    }

    /// Checks every limit; the error names the field, its value and the limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field, value: String, limit| Err(ConfigError { field, value, limit });
        let written = marketprism_model::duration::format;
        if let SyncMode::Interval(interval) = self.sync
            && !(Duration::from_millis(1)..=MINUTE).contains(&interval)
        {
            return refuse("storage.sync interval", written(interval), "from 1ms to 1m");
        }
        self.batch.validate()?;
        if self.copy_grace > DAY {
            return refuse("storage.copy_grace", written(self.copy_grace), "at most 24h");
        }
        if self.retention < 3 * HOUR || self.retention > 36_500 * DAY {
            return refuse("storage.retention", written(self.retention), "from 3h to 100y");
        }
        if let Some(bytes) = self.retention_bytes
            && bytes < 64 << 20
        {
            return refuse(
                "storage.retention_bytes",
                bytes.to_string(),
                "at least 67108864 (64 MiB)",
            );
        }
        if self.out_of_order_window > OUT_OF_ORDER_WINDOW_MAX {
            return refuse(
                "storage.out_of_order_window",
                written(self.out_of_order_window),
                "at most 24h",
            );
        }
        if self.series_limit == 0 || self.series_limit > 1 << 30 {
            return refuse(
                "storage.series_limit",
                self.series_limit.to_string(),
                "from 1 to 1073741824",
            );
        }
        if self.future_limit > DAY {
            return refuse("storage.future_limit", written(self.future_limit), "at most 24h");
        }
        Ok(())
    }

    pub(crate) fn sync_policy(&self) -> SyncPolicy {
        match self.sync {
            SyncMode::Durable => SyncPolicy::Always,
            SyncMode::Batch if !self.batch.enabled => SyncPolicy::Always,
            SyncMode::Batch => SyncPolicy::Gathered {
                appends: self.batch.batch_size,
                interval: self.batch.flush_interval,
            },
            SyncMode::Interval(interval) => SyncPolicy::Gathered {
                appends: u64::MAX,
                interval,
            },
            SyncMode::Os => SyncPolicy::Never,
        }
    }
}

impl Batching {
    /// Checks both limits.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !BATCH_SIZE_RANGE.contains(&self.batch_size) {
            return Err(ConfigError {
                field: "performance.batch_processing.batch_size",
                value: self.batch_size.to_string(),
                limit: "from 1 to 100000",
            });
        }
        if !FLUSH_INTERVAL_RANGE.contains(&self.flush_interval) {
            return Err(ConfigError {
                field: "performance.batch_processing.flush_interval_seconds",
                value: self.flush_interval.as_secs_f64().to_string(),
                limit: "from 0.01 to 3600",
            });
        }
        Ok(())
    }
}

/// A setting is outside its limits.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{field} is {value}; it must be {limit}")]
pub struct ConfigError {
    /// The setting, by its whole key.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What is allowed.
    pub limit: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sync_modes_read_what_they_write() {
        for text in ["batch", "durable", "os", "interval=100ms", "interval=1s"] {
            assert_eq!(
                text.parse::<SyncMode>().map(|mode| mode.to_string()),
                Ok(text.to_owned())
            );
        }
        assert_eq!("interval".parse(), Ok(SyncMode::INTERVAL_DEFAULT));
        for text in ["", "often", "durable=1s", "interval=x"] {
            assert!(text.parse::<SyncMode>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn defaults_are_valid_and_each_limit_is_named() {
        assert_eq!(Config::new("data").validate(), Ok(()));
        let check = |change: fn(&mut Config), field: &str| {
            let mut config = Config::new("data");
            change(&mut config);
            assert_eq!(config.validate().map_err(|error| error.field), Err(field));
        };
        check(
            |c| c.sync = SyncMode::Interval(Duration::ZERO),
            "storage.sync interval",
        );
        let batch = "performance.batch_processing.batch_size";
        check(|c| c.batch.batch_size = 0, batch);
        check(|c| c.batch.batch_size = 100_001, batch);
        let flush = "performance.batch_processing.flush_interval_seconds";
        check(|c| c.batch.flush_interval = Duration::from_millis(9), flush);
        check(|c| c.batch.flush_interval = HOUR + MINUTE, flush);
        check(|c| c.copy_grace = 2 * DAY, "storage.copy_grace");
        check(|c| c.retention = HOUR, "storage.retention");
        check(|c| c.retention_bytes = Some(1), "storage.retention_bytes");
        check(
            |c| c.out_of_order_window = 25 * HOUR,
            "storage.out_of_order_window",
        );
        check(|c| c.series_limit = 0, "storage.series_limit");
        check(|c| c.future_limit = 2 * DAY, "storage.future_limit");
    }

    #[test]
    fn a_named_sync_wins_over_the_batch_keys() {
        let gathered = |appends, interval| SyncPolicy::Gathered { appends, interval };
        let mut config = Config::new("data");
        assert_eq!(config.sync_policy(), gathered(100, Duration::from_secs(5)));
        config.batch.enabled = false;
        assert_eq!(config.sync_policy(), SyncPolicy::Always);
        config.sync = SyncMode::INTERVAL_DEFAULT;
        let named = gathered(u64::MAX, Duration::from_millis(100));
        assert_eq!(config.sync_policy(), named);
        config.sync = SyncMode::Os;
        assert_eq!(config.sync_policy(), SyncPolicy::Never);
        config.batch.enabled = true;
        config.sync = SyncMode::Durable;
        assert_eq!(config.sync_policy(), SyncPolicy::Always);
    }
}

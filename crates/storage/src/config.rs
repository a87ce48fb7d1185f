//! What the operator may decide about the store, and what is refused.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Late samples may be accepted for this long at most.
const OUT_OF_ORDER_WINDOW_MAX: Duration = Duration::from_secs(86_400);

/// When written samples are made to survive a loss of power.
///
/// In every mode an append is handed to the kernel before it is answered, so an acknowledged sample survives the
/// death of the process (`kill -9`, a panic, an out-of-memory kill). The modes differ in what survives the death
/// of the *machine*. An append with `Durability::Synced` waits for the disk in every mode but `os`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncMode {
    /// Every append waits for the disk; one fsync answers all that wait.
    Durable,
    /// The log is synchronised this often; a loss of power costs at most this much of scraped data.
    Interval(Duration),
    /// The kernel decides (about 30 s on Linux); nothing is ever synchronised, but for block files.
    Os,
}

impl Default for SyncMode {
    fn default() -> Self {
        SyncMode::INTERVAL_DEFAULT
    }
}

impl SyncMode {
    /// The mode for scraped data: synchronised every 100 ms.
    pub const INTERVAL_DEFAULT: SyncMode = SyncMode::Interval(Duration::from_millis(100));
}

impl FromStr for SyncMode {
    type Err = ConfigError;

    /// Reads `durable`, `os`, `interval` or `interval=250ms`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text.split_once('=').unwrap_or((text, "")) {
            ("durable", "") => Some(SyncMode::Durable),
            ("os", "") => Some(SyncMode::Os),
            ("interval", "") => Some(SyncMode::INTERVAL_DEFAULT),
            ("interval", span) => marketprism_model::duration::parse(span)
                .ok()
                .map(SyncMode::Interval),
            _ => None,
        }
        .ok_or_else(|| ConfigError {
            field: "sync",
            value: format!("{text:?}"),
            limit: "durable, os, interval or interval=100ms",
        })
    }
}

impl fmt::Display for SyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncMode::Durable => f.write_str("durable"),
            SyncMode::Os => f.write_str("os"),
            SyncMode::Interval(span) => {
                write!(f, "interval={}", marketprism_model::duration::format(*span))
            }
        }
    }
}

/// How the store behaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The folder of the store; made when absent. One process at a time.
    pub dir: PathBuf,
    /// When samples are made to survive a loss of power.
    pub sync: SyncMode,
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
    /// Gives the defaults for a folder: sync every 100 ms, 30 days, 1 h of lateness, 2,000,000 series, 10 min ahead.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Config {
            dir: dir.into(),
            sync: SyncMode::INTERVAL_DEFAULT,
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
            return refuse("sync interval", written(interval), "from 1ms to 1m");
        }
        if self.retention < 3 * HOUR || self.retention > 36_500 * DAY {
            return refuse("retention", written(self.retention), "from 3h to 100y");
        }
        if let Some(bytes) = self.retention_bytes
            && bytes < 64 << 20
        {
            return refuse("retention_bytes", bytes.to_string(), "at least 67108864 (64 MiB)");
        }
        if self.out_of_order_window > OUT_OF_ORDER_WINDOW_MAX {
            return refuse(
                "out_of_order_window",
                written(self.out_of_order_window),
                "at most 24h",
            );
        }
        if self.series_limit == 0 || self.series_limit > 1 << 30 {
            return refuse(
                "series_limit",
                self.series_limit.to_string(),
                "from 1 to 1073741824",
            );
        }
        if self.future_limit > DAY {
            return refuse("future_limit", written(self.future_limit), "at most 24h");
        }
        Ok(())
    }
}

/// A setting is outside its limits.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("storage.{field} is {value}; it must be {limit}")]
pub struct ConfigError {
    /// The setting.
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
        for text in ["durable", "os", "interval=100ms", "interval=1s"] {
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
        check(|c| c.sync = SyncMode::Interval(Duration::ZERO), "sync interval");
        check(|c| c.retention = HOUR, "retention");
        check(|c| c.retention_bytes = Some(1), "retention_bytes");
        check(|c| c.out_of_order_window = 25 * HOUR, "out_of_order_window");
        check(|c| c.series_limit = 0, "series_limit");
        check(|c| c.future_limit = 2 * DAY, "future_limit");
    }
}

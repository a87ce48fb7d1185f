//! What the operator sets: how many silences there may be, and what is too wide to be meant.

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// How many silences are kept, how large one may be, and what needs a confirmation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Silences that are not over, and as many that ended lately. 1 to 100,000, default 10,000.
    pub max: usize,
    /// All texts of one silence together, in bytes. 256 to 1 MiB, default 16 KiB.
    pub bytes_max: usize,
    /// What needs a confirmation.
    pub guard: Guard,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max: 10_000,
            bytes_max: 16 << 10,
            guard: Guard::default(),
        }
    }
}

/// When a silence is so wide that it is taken only with a confirmation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guard {
    /// Whether silences are looked at. Default true.
    #[serde(rename = "enabled")]
    pub is_on: bool,
    /// It hits more than this share of the alerts that fire, in per cent. 1 to 100, default 50; 100 never asks
    /// because of the share.
    pub percent: u8,
    /// And at least this many, so that the only two alerts of a small shop may be silenced. Default 10.
    pub least: usize,
}

impl Default for Guard {
    fn default() -> Self {
        Guard {
            is_on: true,
            percent: 50,
            least: 10,
        }
    }
}

impl Config {
    /// Checks every field against its limits.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let range = |field, value: usize, limits| ConfigError::Range {
            field,
            value: value.to_string(),
            limits,
        };
        if !(1..=100_000).contains(&self.max) {
            return Err(range("silences.max", self.max, "1 to 100000"));
        }
        if !(256..=1 << 20).contains(&self.bytes_max) {
            return Err(range("silences.bytes_max", self.bytes_max, "256 to 1048576"));
        }
        if !(1..=100).contains(&self.guard.percent) {
            let percent = usize::from(self.guard.percent);
            return Err(range("silences.guard.percent", percent, "1 to 100"));
        }
        Ok(())
    }
}

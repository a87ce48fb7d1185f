//! Storms: so many alerts begin at once that one digest speaks for the rest.
//!
//! Counted for each receiver over a sliding window. While it storms, alerts below P1 that would open a group of
//! their own join one group of the receiver instead; what that group told is closed like everything else, so
//! nothing is lost and nothing is told twice. P1 goes its usual way, and so does what joins a group that exists, for
//! neither makes a flood of messages.
//! Pure by design, as in `condition`; a restart forgets only how many alerts began within the last window.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Timestamp, duration};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// When a receiver is in a storm.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StormConfig {
    /// It storms when more alerts than this begin to fire for one receiver within the window. 0 to 100,000; 0, the
    /// default, means that it never does.
    pub threshold: usize,
    /// The window. 1 s to 1 h, default 1 min.
    #[serde(with = "duration")]
    pub window: Duration,
}

impl Default for StormConfig {
    fn default() -> Self {
        StormConfig {
            threshold: 0,
            window: Duration::from_secs(60),
        }
    }
}

impl StormConfig {
    /// Checks every field against its limits.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.threshold > 100_000 {
            return Err(ConfigError::Range {
                field: "storm.threshold",
                value: self.threshold.to_string(),
                limits: "0 to 100000",
            });
        }
        if self.window < Duration::from_secs(1) || self.window > Duration::from_secs(3600) {
            return Err(ConfigError::Range {
                field: "storm.window",
                value: duration::format(self.window),
                limits: "1s to 1h",
            });
        }
        Ok(())
    }
}

/// The newest beginnings for one receiver.
#[derive(Debug, Default)]
struct Beginnings {
    /// At most one more than the threshold, the oldest first.
    at: VecDeque<Timestamp>,
    is_storm: bool,
}

/// Which receivers are in a storm.
#[derive(Debug, Default)]
pub struct Storms {
    by_receiver: HashMap<Arc<str>, Beginnings>,
}

impl Storms {
    /// Counts an alert that begins to fire for a receiver, and says whether it storms there.
    ///
    /// It begins with the alert after the threshold, and is over with the first alert within whose window half as
    /// many or fewer began.
    pub fn began(&mut self, receiver: &str, now: Timestamp, config: &StormConfig) -> bool {
        if config.threshold == 0 {
            return false;
        }
        if !self.by_receiver.contains_key(receiver) {
            self.by_receiver
                .insert(Arc::from(receiver), Beginnings::default());
        }
        let Some(known) = self.by_receiver.get_mut(receiver) else {
            return false;
        };
        known.at.push_back(now);
        while known.at.len() > config.threshold + 1 || is_out(known.at.front(), now, config.window) {
            known.at.pop_front();
        }
        let count = known.at.len();
        known.is_storm = if known.is_storm {
            count > config.threshold / 2
        } else {
            count > config.threshold
        };
        known.is_storm
    }

    /// Says whether it storms for a receiver, without counting.
    pub fn is_storm(&self, receiver: &str, now: Timestamp, config: &StormConfig) -> bool {
        let Some(known) = self.by_receiver.get(receiver) else {
            return false;
        };
        let within = known
            .at
            .iter()
            .filter(|at| !is_out(Some(at), now, config.window))
            .count();
        config.threshold > 0 && known.is_storm && within > config.threshold / 2
    }
}

/// Says whether a moment is outside the window that ends now; a moment of the future, before the clock was set back, is.
fn is_out(at: Option<&Timestamp>, now: Timestamp, window: Duration) -> bool {
    at.is_some_and(|at| *at > now || now.since(*at) >= window)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: StormConfig = StormConfig {
        threshold: 4,
        window: Duration::from_secs(60),
    };

    /// Beginnings at these seconds; `#` where it storms.
    fn check(seconds: &[i64], expected: &str) {
        let mut storms = Storms::default();
        let found: String = seconds
            .iter()
            .map(|second| Timestamp::from_millis(1_700_000_000_000 + second * 1000))
            .map(|now| storms.began("ops", now, &CONFIG))
            .map(|is_storm| if is_storm { '#' } else { '.' })
            .collect();
        assert_eq!(found, expected, "{seconds:?}");
    }

    #[test]
    fn the_alert_after_the_threshold_begins_a_storm_and_a_quiet_window_ends_it() {
        check(&[0, 1, 2, 3, 4, 5], "....##");
        check(&[0, 20, 40, 60, 80, 100], "......");
        // Two within a minute are half of the threshold: it is over.
        check(&[0, 1, 2, 3, 4, 30, 63, 64, 200, 201], "....####..");
    }

    #[test]
    fn a_clock_that_was_set_back_begins_to_count_anew() {
        check(&[1000, 1001, 1002, 1003, 0, 1, 2, 3, 4], "........#");
    }

    #[test]
    fn receivers_are_apart_and_a_threshold_of_none_is_off() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut storms = Storms::default();
        for _ in 0..5 {
            storms.began("ops", now, &CONFIG);
        }
        assert!(storms.is_storm("ops", now, &CONFIG) && !storms.began("db", now, &CONFIG));
        assert!(!storms.is_storm("ops", now + Duration::from_secs(60), &CONFIG));
        let off = StormConfig::default();
        assert!((0..1000).all(|_| !storms.began("web", now, &off)));
    }
}

//! Flapping: an alert that comes and goes so often that its ends are held back.
//!
//! Whoever is told of every end and every return learns nothing new and soon reads none of it. So the end of an
//! alert that flaps is told only when it has stayed away for a while; when it comes back before, nothing is said.
//! Pure by design, as in `condition`. How often something began is memory alone: after a restart an alert flaps on
//! that flapped before, for its record says so, and the others are counted anew.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use marketprism_model::{Timestamp, duration};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// Beginnings of one alert that are remembered.
const BEGINNINGS_MAX: usize = 100;

/// When an alert flaps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlappingConfig {
    /// It flaps when it began to fire at least this often within the window. 0, or 2 to 100; 0, the default, means
    /// that nothing ever does.
    pub threshold: usize,
    /// The window. 1 min to 1 d, default 30 min.
    #[serde(with = "duration")]
    pub window: Duration,
    /// How long after its last end that end is told. 1 s to 1 d, default 10 min.
    #[serde(with = "duration")]
    pub hold: Duration,
}

impl Default for FlappingConfig {
    fn default() -> Self {
        FlappingConfig {
            threshold: 0,
            window: Duration::from_secs(1800),
            hold: Duration::from_secs(600),
        }
    }
}

impl FlappingConfig {
    /// Checks every field against its limits.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let range = |field, value, limits| Err(ConfigError::Range { field, value, limits });
        if self.threshold == 1 || self.threshold > BEGINNINGS_MAX {
            return range("flapping.threshold", self.threshold.to_string(), "0, or 2 to 100");
        }
        let day = Duration::from_secs(86_400);
        if self.window < Duration::from_secs(60) || self.window > day {
            return range("flapping.window", duration::format(self.window), "1m to 1d");
        }
        if self.hold < Duration::from_secs(1) || self.hold > day {
            return range("flapping.hold", duration::format(self.hold), "1s to 1d");
        }
        Ok(())
    }
}

/// How often each alert began to fire lately.
#[derive(Debug, Default)]
pub struct Flaps {
    beginnings: HashMap<u64, VecDeque<Timestamp>>,
    /// Every beginning, the oldest first, so that what is long over is forgotten without a walk.
    order: VecDeque<(Timestamp, u64)>,
}

impl Flaps {
    /// Notes that something begins to fire; gives how often it did within the window, 0 when that is not flapping.
    pub fn began(&mut self, fingerprint: u64, now: Timestamp, config: &FlappingConfig) -> u32 {
        if config.threshold == 0 {
            return 0;
        }
        self.forget(now, config.window);
        let beginnings = self.beginnings.entry(fingerprint).or_default();
        beginnings.push_back(now);
        if beginnings.len() > BEGINNINGS_MAX {
            beginnings.pop_front();
        }
        self.order.push_back((now, fingerprint));
        let count = beginnings
            .iter()
            .filter(|at| !is_out(**at, now, config.window))
            .count();
        if count >= config.threshold {
            count as u32
        } else {
            0
        }
    }

    /// Takes up an alert that flapped before this start.
    pub fn restore(&mut self, fingerprint: u64, began_at: Timestamp, flaps: u32) {
        let count = (flaps as usize).min(BEGINNINGS_MAX);
        self.beginnings
            .entry(fingerprint)
            .or_default()
            .extend(std::iter::repeat_n(began_at, count));
        self.order.push_back((began_at, fingerprint));
    }

    /// Gives when something last began, as far as that is remembered.
    pub fn newest(&self, fingerprint: u64) -> Option<Timestamp> {
        self.beginnings
            .get(&fingerprint)
            .and_then(|beginnings| beginnings.back().copied())
    }

    fn forget(&mut self, now: Timestamp, window: Duration) {
        // After the clock was set back they are not in order, so that one walk is due.
        if self.order.back().is_some_and(|(at, _)| *at > now) {
            self.order.retain(|(at, _)| !is_out(*at, now, window));
            self.beginnings.retain(|_, beginnings| {
                beginnings.retain(|at| !is_out(*at, now, window));
                !beginnings.is_empty()
            });
        }
        while self.order.front().is_some_and(|(at, _)| now.since(*at) >= window) {
            let Some((_, fingerprint)) = self.order.pop_front() else {
                break;
            };
            if let Some(beginnings) = self.beginnings.get_mut(&fingerprint) {
                while beginnings.front().is_some_and(|at| now.since(*at) >= window) {
                    beginnings.pop_front();
                }
                if beginnings.is_empty() {
                    self.beginnings.remove(&fingerprint);
                }
            }
        }
    }
}

/// Says whether a moment is outside the window that ends now; a moment of the future, before the clock was set back, is.
fn is_out(at: Timestamp, now: Timestamp, window: Duration) -> bool {
    at > now || now.since(at) >= window
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: FlappingConfig = FlappingConfig {
        threshold: 3,
        window: Duration::from_secs(1800),
        hold: Duration::from_secs(600),
    };

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + minutes * 60_000)
    }

    fn check(minutes: &[i64], expected: &[u32]) {
        let mut flaps = Flaps::default();
        let found: Vec<u32> = minutes
            .iter()
            .map(|minute| flaps.began(7, at(*minute), &CONFIG))
            .collect();
        assert_eq!(found, expected, "{minutes:?}");
    }

    #[test]
    fn it_flaps_from_the_third_beginning_within_half_an_hour() {
        check(&[0, 5, 10, 15], &[0, 0, 3, 4]);
        check(&[0, 15, 30, 45], &[0, 0, 0, 0]);
        check(&[0, 5, 10, 36, 70], &[0, 0, 3, 0, 0]);
    }

    #[test]
    fn what_is_long_over_is_forgotten() {
        let mut flaps = Flaps::default();
        for minute in 0..10_000 {
            flaps.began(minute as u64, at(minute), &CONFIG);
        }
        assert!(flaps.beginnings.len() <= 31 && flaps.order.len() <= 31);
    }

    #[test]
    fn what_flapped_before_a_restart_flaps_on() {
        let mut flaps = Flaps::default();
        flaps.restore(7, at(0), 4);
        assert_eq!(flaps.began(7, at(5), &CONFIG), 5);
        assert_eq!(flaps.began(8, at(5), &CONFIG), 0);
    }

    /// A clock that had run a day ahead was set back; the beginnings of that future counted for a day, so that what
    /// began every two hours was said to flap, and nothing was forgotten.
    #[test]
    fn what_began_in_a_future_that_was_set_back_does_not_count() {
        check(&[1440, 1441, 0, 120, 240, 360], &[0, 0, 0, 0, 0, 0]);
        let mut flaps = Flaps::default();
        flaps.began(u64::MAX, at(100_000), &CONFIG);
        for minute in 0..10_000 {
            flaps.began(minute as u64, at(minute), &CONFIG);
        }
        assert!(flaps.beginnings.len() <= 31 && flaps.order.len() <= 31);
    }
}

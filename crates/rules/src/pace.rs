//! When a group is due.
//!
//! A group's ticks are the moments that leave the same remainder when divided by its interval; the
//! remainder follows from file and name, so that groups do not all run at once and every replica and every
//! restart finds the same moments. Pace is kept from the plan: `due = due + interval`. Ticks that came too
//! late are skipped and counted, never caught up. All times are UTC, so no change of daylight saving time
//! shows here.

use std::hash::Hasher;
use std::time::Duration;

use marketprism_model::Timestamp;
use marketprism_model::rule::Fnv1a;

/// The plan of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    interval: Duration,
    offset: Duration,
    due: Timestamp,
}

/// What the plan says now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is due before this.
    Wait {
        /// The next tick.
        until: Timestamp,
    },
    /// A tick is due.
    Run {
        /// The tick.
        at: Timestamp,
        /// How many before it were skipped.
        missed: u64,
    },
}

/// Offsets are whole multiples of this where the interval allows: groups of one moment share their reading.
const GRAIN_MS: u64 = 1_000;

impl Pace {
    /// Plans from `now` on.
    pub fn new(file: &str, name: &str, interval: Duration, now: Timestamp) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let mut hash = Fnv1a::default();
        hash.write(file.as_bytes());
        hash.write(&[0xff]);
        hash.write(name.as_bytes());
        let mut offset_ms = hash.finish() % interval_ms;
        if interval_ms >= 2 * GRAIN_MS {
            offset_ms -= offset_ms % GRAIN_MS;
        }
        let mut pace = Pace {
            interval,
            offset: Duration::from_millis(offset_ms),
            due: now,
        };
        pace.due = pace.next_slot(now);
        pace
    }

    /// Gives the next tick.
    pub fn due(&self) -> Timestamp {
        self.due
    }

    /// Gives the first tick at `from` or later.
    fn next_slot(&self, from: Timestamp) -> Timestamp {
        let slot = (from - self.offset).align_down(self.interval) + self.offset;
        if slot < from { slot + self.interval } else { slot }
    }

    /// Plans anew so that no tick falls at `now` or before it, nor further away than the interval.
    pub fn put_off(&mut self, now: Timestamp) {
        self.due = self.next_slot(now + Duration::from_millis(1));
    }

    /// Says what is due and plans on.
    ///
    /// A clock that is set back by at most an interval is waited for, so that no tick comes twice. One that
    /// is set back further starts a new plan: an hour without any judgement would be worse than moments that
    /// are judged again.
    pub fn step(&mut self, now: Timestamp) -> Step {
        if now < self.due {
            if self.due.since(now) > self.interval.saturating_mul(2) {
                self.due = self.next_slot(now);
            }
            return Step::Wait { until: self.due };
        }
        let interval_ms = self.interval.as_millis().max(1);
        let missed = self.due.max(now).since(self.due).as_millis() / interval_ms;
        let missed = u64::try_from(missed).unwrap_or(u64::MAX);
        let skipped_ms = u64::try_from(u128::from(missed) * interval_ms).unwrap_or(u64::MAX);
        let at = self.due + Duration::from_millis(skipped_ms);
        self.due = at + self.interval;
        Step::Run { at, missed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn pace() -> Pace {
        Pace::new("rules.yml", "host", MINUTE, Timestamp::from_millis(0))
    }

    /// Runs a story: at each moment, in milliseconds, what was run and how much was missed.
    fn check(moments: &[i64], runs: &[(i64, u64)]) {
        let mut pace = pace();
        let first = pace.due().millis();
        let mut ran = Vec::new();
        for moment in moments {
            while let Step::Run { at, missed } = pace.step(Timestamp::from_millis(first + moment)) {
                ran.push((at.millis() - first, missed));
            }
        }
        assert_eq!(ran, runs);
    }

    #[test]
    fn ticks_keep_their_distance_however_late_the_loop_wakes() {
        check(
            &[0, 60_007, 120_950, 180_001],
            &[(0, 0), (60_000, 0), (120_000, 0), (180_000, 0)],
        );
    }

    #[test]
    fn nothing_runs_early_and_nothing_twice() {
        check(&[-1, 0, 0, 1, 59_999, 60_000, 60_000], &[(0, 0), (60_000, 0)]);
    }

    #[test]
    fn ticks_that_came_too_late_are_skipped_and_counted() {
        check(&[0, 200_000, 240_000], &[(0, 0), (180_000, 2), (240_000, 0)]);
    }

    #[test]
    fn a_clock_that_jumps_a_year_ahead_makes_one_tick() {
        let year = 365 * 86_400_000;
        check(
            &[0, year, year + 60_000],
            &[(0, 0), (year, 525_599), (year + 60_000, 0)],
        );
    }

    #[test]
    fn a_clock_set_back_a_little_is_waited_for() {
        check(
            &[0, 60_000, 30_000, 59_000, 120_000],
            &[(0, 0), (60_000, 0), (120_000, 0)],
        );
    }

    #[test]
    fn a_clock_set_back_an_hour_does_not_stop_the_rules_for_an_hour() {
        let hour = 3_600_000;
        check(
            &[0, hour, 30_000, 60_000, 120_000],
            &[(0, 0), (hour, 59), (60_000, 0), (120_000, 0)],
        );
    }

    #[test]
    fn slots_spread_over_the_interval_and_survive_a_restart() {
        let slot = |name: &str, now| {
            let pace = Pace::new("f", name, MINUTE, Timestamp::from_millis(now));
            pace.due().millis().rem_euclid(60_000)
        };
        let slots: std::collections::HashSet<i64> = (0..200).map(|i| slot(&format!("g{i}"), 0)).collect();
        assert!(slots.len() > 40, "{} slots of 60", slots.len());
        assert!(slots.iter().all(|slot| slot % 1000 == 0));
        for now in [0, 12_345, 86_399_999] {
            assert_eq!(slot("host", now), slot("host", 1));
        }
    }
}

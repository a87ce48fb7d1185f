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

use crate::rule::GroupSpec;

/// The plan of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    interval: Duration,
    /// Intervals of single rules that the group's own moments do not cover.
    others: Vec<Duration>,
    offset: Duration,
    /// How much later than its moment a tick may begin.
    jitter: Duration,
    seed: u64,
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

/// Moments between two turns of the loop that are counted one by one when a group has several intervals.
const COUNTED_MAX: u64 = 10_000;

impl Pace {
    /// Plans from `now` on.
    pub fn new(file: &str, name: &str, interval: Duration, now: Timestamp) -> Self {
        let interval = interval.max(MOMENT);
        let seed = seed(file, name);
        let mut pace = Pace {
            interval,
            others: Vec::new(),
            offset: offset(seed, interval),
            jitter: Duration::ZERO,
            seed,
            due: now,
        };
        pace.due = pace.next_slot(now);
        pace
    }

    /// Plans a group from `now` on, with the intervals of its rules and its jitter.
    pub fn of(group: &GroupSpec, now: Timestamp) -> Self {
        let mut pace = Pace::new(&group.file, &group.name, group.interval, now);
        let interval_ms = pace.interval.as_millis();
        pace.others = group.rules.iter().filter_map(|rule| rule.interval).collect();
        pace.others
            .retain(|other| !other.as_millis().is_multiple_of(interval_ms));
        pace.others.sort_unstable();
        pace.others.dedup();
        pace.jitter = group.jitter;
        pace.due = pace.next_slot(now);
        pace
    }

    /// Gives the next tick.
    pub fn due(&self) -> Timestamp {
        self.due
    }

    /// Gives the distances of the ticks, that of the group first.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = Duration> + '_ {
        std::iter::once(self.interval).chain(self.others.iter().copied())
    }

    /// Gives the first tick at `from` or later.
    pub(crate) fn next_slot(&self, from: Timestamp) -> Timestamp {
        let next = |interval| {
            let slot = slot_before(from, interval, self.offset);
            if slot < from { slot + interval } else { slot }
        };
        self.intervals().map(next).min().unwrap_or(from)
    }

    /// Gives the last tick at `to` or before it.
    fn last_slot(&self, to: Timestamp) -> Timestamp {
        let last = |interval| slot_before(to, interval, self.offset);
        self.intervals().map(last).max().unwrap_or(to)
    }

    /// Gives when a tick begins: its moment, and what the jitter adds to that.
    fn begins(&self, slot: Timestamp) -> Timestamp {
        let jitter_ms = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        if jitter_ms == 0 {
            return slot;
        }
        let mut hash = Fnv1a::default();
        hash.write(&self.seed.to_le_bytes());
        hash.write(&slot.millis().to_le_bytes());
        slot + Duration::from_millis(mixed(hash.finish()) % jitter_ms)
    }

    /// Plans anew so that no tick falls at `now` or before it, nor further away than the interval.
    pub fn put_off(&mut self, now: Timestamp) {
        self.due = self.next_slot(now + MOMENT);
    }

    /// Says what is due and plans on.
    ///
    /// A clock that is set back by at most an interval is waited for, so that no tick comes twice. One that
    /// is set back further starts a new plan: an hour without any judgement would be worse than moments that
    /// are judged again.
    pub fn step(&mut self, now: Timestamp) -> Step {
        let begins = self.begins(self.due);
        if now < begins {
            if self.due.since(now) > self.interval.saturating_mul(2) {
                self.due = self.next_slot(now);
            }
            return Step::Wait {
                until: self.begins(self.due),
            };
        }
        let mut at = self.last_slot(now).max(self.due);
        if at > self.due && now < self.begins(at) {
            at = self.last_slot(at - MOMENT).max(self.due);
        }
        let missed = self.count(self.due, at);
        self.due = self.next_slot(at + MOMENT);
        Step::Run { at, missed }
    }

    /// Counts the ticks from `from`, which is one, up to but without `to`.
    fn count(&self, from: Timestamp, to: Timestamp) -> u64 {
        let by = |interval: Duration| {
            let count = to.since(from).as_millis() / interval.as_millis().max(1);
            u64::try_from(count).unwrap_or(u64::MAX)
        };
        let shortest = self.intervals().min().unwrap_or(self.interval);
        if self.others.is_empty() || by(shortest) > COUNTED_MAX {
            return by(shortest);
        }
        let (mut slot, mut count) = (from, 0);
        while slot < to {
            slot = self.next_slot(slot + MOMENT);
            count += 1;
        }
        count
    }
}

/// The shortest span.
const MOMENT: Duration = Duration::from_millis(1);

/// Gives the last moment at `at` or before it that leaves the remainder `offset` when divided by `interval`.
pub(crate) fn slot_before(at: Timestamp, interval: Duration, offset: Duration) -> Timestamp {
    (at - offset).align_down(interval) + offset
}

/// Gives the remainder of a group, which the intervals of its rules share, so that a rule whose interval is a multiple of
/// the group's runs with the group.
pub(crate) fn offset_of(group: &GroupSpec) -> Duration {
    offset(seed(&group.file, &group.name), group.interval.max(MOMENT))
}

fn seed(file: &str, name: &str) -> u64 {
    let mut hash = Fnv1a::default();
    hash.write(file.as_bytes());
    hash.write(&[0xff]);
    hash.write(name.as_bytes());
    hash.finish()
}

fn offset(seed: u64, interval: Duration) -> Duration {
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    let mut offset_ms = seed % interval_ms;
    if interval_ms >= 2 * GRAIN_MS {
        offset_ms -= offset_ms % GRAIN_MS;
    }
    Duration::from_millis(offset_ms)
}

/// Spreads the bits of a hash, whose low ones follow the last byte too closely.
fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
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

    fn group(text: &str) -> GroupSpec {
        let file = crate::parse_file("rules.yml", text.as_bytes(), &Default::default());
        file.expect("it is good").groups.remove(0)
    }

    /// Steps a second at a time and gives the ticks, in seconds after the group's own first moment.
    fn ticks(text: &str, seconds: i64) -> Vec<i64> {
        let group = group(text);
        let start = Timestamp::from_millis(0) + offset_of(&group);
        let mut pace = Pace::of(&group, start);
        let mut ran = Vec::new();
        for second in 0..=seconds {
            while let Step::Run { at, missed } = pace.step(start + Duration::from_secs(second as u64)) {
                assert_eq!(missed, 0);
                ran.push((at.millis() - start.millis()) / 1000);
            }
        }
        ran
    }

    #[test]
    fn a_rule_with_an_interval_of_its_own_adds_the_moments_that_the_group_lacks() {
        let own = |own: &str| {
            format!("groups: [{{name: g, interval: 1m, rules: [{{record: a, expr: 1, interval: {own}}}]}}]")
        };
        assert_eq!(
            ticks(&own("5m"), 300),
            [0, 60, 120, 180, 240, 300],
            "a multiple adds none"
        );
        assert_eq!(ticks(&own("20s"), 60), [0, 20, 40, 60]);
        assert_eq!(ticks(&own("90s"), 200), [0, 60, 90, 120, 180]);
    }

    #[test]
    fn moments_of_several_intervals_that_came_too_late_are_counted_each_once() {
        let group = group("groups: [{name: g, interval: 1m, rules: [{record: a, expr: 1, interval: 90s}]}]");
        let start = Timestamp::from_millis(0) + offset_of(&group);
        let mut pace = Pace::of(&group, start);
        let late = start + Duration::from_secs(185);
        // 0, 60, 90 and 120 are past.
        let at = start + Duration::from_secs(180);
        assert_eq!(pace.step(late), Step::Run { at, missed: 4 });
        assert!(matches!(pace.step(late), Step::Wait { .. }));
    }

    #[test]
    fn jitter_lets_a_tick_begin_later_and_leaves_its_moment_alone() {
        let group = group("groups: [{name: g, interval: 1m, jitter: 20s, rules: []}]");
        let mut pace = Pace::of(&group, Timestamp::from_millis(0));
        let (mut now, mut delays) = (Timestamp::from_millis(0), Vec::new());
        while delays.len() < 200 {
            match pace.step(now) {
                Step::Wait { until } => now = until,
                Step::Run { at, missed } => {
                    assert_eq!(missed, 0);
                    assert_eq!(slot_before(at, MINUTE, offset_of(&group)), at);
                    delays.push(now.since(at).as_millis());
                }
            }
        }
        assert!(delays.iter().all(|delay| *delay < 20_000), "{delays:?}");
        assert!(delays.iter().any(|delay| *delay < 4_000) && delays.iter().any(|delay| *delay > 16_000));
    }
}

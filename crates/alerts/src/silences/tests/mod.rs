//! What silences promise, by hand and by properties.

mod editing;
mod finding;
mod guarding;
mod resolving;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use marketprism_model::{Chance, DayTimes, Labels, Matcher, MatcherOp, TimeInterval, Timestamp};

use super::{Config, Recurrence, SilenceChange, SilenceDraft, SilenceError, Silences};

/// Times of the day in UTC, and nothing else of an interval.
pub(super) struct TimesOfDay;

const DAY: i64 = 1440;

impl TimesOfDay {
    fn minute(at: Timestamp) -> i64 {
        at.millis().div_euclid(60_000)
    }
}

impl Recurrence for TimesOfDay {
    fn contains(&self, interval: &TimeInterval, now: Timestamp) -> bool {
        let minute = TimesOfDay::minute(now).rem_euclid(DAY);
        let is_within =
            |times: &DayTimes| (times.start_minute.into()..times.end_minute.into()).contains(&minute);
        interval.times.iter().any(is_within)
    }

    fn next_change(&self, interval: &TimeInterval, now: Timestamp) -> Option<Timestamp> {
        let was = self.contains(interval, now);
        (1..=DAY)
            .map(|minutes| Timestamp::from_millis((TimesOfDay::minute(now) + minutes) * 60_000))
            .find(|at| self.contains(interval, *at) != was)
    }
}

/// Counts, so that ids differ and runs do not.
#[derive(Default)]
pub(super) struct Counting(AtomicU64);

impl Chance for Counting {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Silences with a clock that a test sets by hand.
pub(super) struct Desk {
    pub silences: Silences,
    pub now: Timestamp,
    chance: Counting,
}

impl Desk {
    pub fn new() -> Self {
        Desk::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        Desk {
            silences: Silences::new(config),
            now: at(1_000_000),
            chance: Counting::default(),
        }
    }

    pub fn set(&mut self, draft: SilenceDraft) -> Result<SilenceChange, SilenceError> {
        self.silences.set(draft, false, self.now, &self.chance)
    }

    pub fn confirm(&mut self, draft: SilenceDraft) -> Result<SilenceChange, SilenceError> {
        self.silences.set(draft, true, self.now, &self.chance)
    }

    pub fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    pub fn is_silent(&self, labels: &Labels) -> bool {
        !self.silences.silencing(labels, self.now, &TimesOfDay).is_empty()
    }
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// Reads `name=value`, `name!=value`, `name=~value`, `name!~value`.
pub(super) fn matcher(text: &str) -> Matcher {
    let mark = text.find(['=', '!']).expect("a mark");
    let op = MatcherOp::ALL
        .into_iter()
        .filter(|op| text[mark..].starts_with(op.as_str()))
        .max_by_key(|op| op.as_str().len())
        .expect("an operator");
    let value = &text[mark + op.as_str().len()..];
    Matcher::new(&text[..mark], op, value).expect("a good expression")
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// A draft of an hour from now.
pub(super) fn draft(desk: &Desk, matchers: &[&str]) -> SilenceDraft {
    SilenceDraft {
        matchers: matchers.iter().map(|text| matcher(text)).collect(),
        ends_at: desk.now + Duration::from_secs(3600),
        created_by: "wang".to_owned(),
        comment: "the disk is being exchanged".to_owned(),
        ..SilenceDraft::default()
    }
}

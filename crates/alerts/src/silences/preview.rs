//! Shows what a silence would hit before it is made: the alerts that fire now, and those of the last day.

use std::time::Duration;

use marketprism_model::{Id, Labels, Matcher, Timestamp};

use super::Silences;

/// A preview names at most this many alerts.
pub const ALERTS_NAMED_MAX: usize = 100;

/// Alerts that ended are remembered for this long.
const REMEMBERED: Duration = Duration::from_secs(86_400);
/// And at most this many.
const REMEMBERED_MAX: usize = 20_000;

/// What a silence would hit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Preview {
    /// Alerts that fire.
    pub firing: usize,
    /// Those that it hits.
    pub hits: usize,
    /// The newest of those, at most [`ALERTS_NAMED_MAX`].
    pub alerts: Vec<Id>,
    /// Alerts that ended within the last day.
    pub ended: usize,
    /// Those that it would have hit.
    pub ended_hits: usize,
    /// From when on alerts that ended are counted, if not for the whole day: the program started, or there were
    /// too many.
    pub ended_since: Option<Timestamp>,
}

/// An alert that fires no more.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    at: Timestamp,
    labels: Labels,
}

impl Silences {
    /// Says what a silence with these matchers would hit.
    pub fn preview(&self, matchers: &[Matcher], now: Timestamp) -> Preview {
        let mut alerts: Vec<Id> = self.hits(matchers).collect();
        let hits = alerts.len();
        alerts.sort_unstable_by(|a, b| b.cmp(a));
        alerts.truncate(ALERTS_NAMED_MAX);
        let from = now - REMEMBERED;
        let ended = || self.ended.iter().filter(|ended| ended.at >= from);
        Preview {
            firing: self.firing.len(),
            hits,
            alerts,
            ended: ended().count(),
            ended_hits: ended().filter(|ended| is_match(matchers, &ended.labels)).count(),
            ended_since: self.ended_since.filter(|since| *since > from),
        }
    }

    /// Walks the firing alerts that matchers hit.
    pub(super) fn hits(&self, matchers: &[Matcher]) -> impl Iterator<Item = Id> {
        self.firing
            .iter()
            .filter(|(_, labels)| is_match(matchers, labels))
            .map(|(alert, _)| *alert)
    }

    pub(super) fn remember_ended(&mut self, labels: Labels, at: Timestamp) {
        if self.ended.len() == REMEMBERED_MAX
            && let Some(lost) = self.ended.pop_front()
        {
            self.ended_since = Some(lost.at + Duration::from_millis(1));
        }
        self.ended.push_back(Ended { at, labels });
    }

    /// Forgets alerts that ended more than a day ago.
    pub(super) fn forget_ended(&mut self, now: Timestamp) {
        let from = now - REMEMBERED;
        while self.ended.front().is_some_and(|ended| ended.at < from) {
            self.ended.pop_front();
        }
    }
}

fn is_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches_labels(labels))
}

//! Silences: who is not to be told of what, and until when.
//!
//! All silences that are not over, and those that ended lately, stand in memory, found by the labels of an alert
//! and not by a walk; so what silences an alert is asked anew whenever that matters, and no mark on the alert can
//! be out of date. Alertmanager's rules of editing hold (`edit`). Ours beyond them: silences that recur, silences
//! that end when what they silenced has resolved (`resolving`), a look at what one would hit (`preview`), and a
//! guard against silencing everything by accident (`guard`).
//! Deliberately absent: the clock, the store, and what a silenced alert means to a group.

mod config;
mod edit;
mod guard;
mod index;
mod literals;
mod preview;
mod resolving;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Id, Labels, Silence, SilenceState, TimeInterval, Timestamp};

pub use config::{Config, Guard};
pub use edit::{SilenceChange, SilenceDraft, SilenceError};
pub use guard::Width;
pub use preview::Preview;

use index::Index;
use preview::Ended;
use resolving::Resolving;

/// Silences that ended are kept in memory for this long, as Alertmanager keeps them.
pub const ENDED_KEPT: Duration = Duration::from_secs(5 * 86_400);

/// A silence that ended stays in the index for this long, so that a clock that is set back finds it again.
const INDEXED_AFTER_END: Duration = Duration::from_secs(3600);

/// So many turns of a silence's recurrence are looked at for the next one that changes whether it holds.
const TURNS_MAX: usize = 64;

/// Says when recurring times hold; calendars and zones stand elsewhere.
pub trait Recurrence {
    /// Says whether the moment lies within.
    fn contains(&self, interval: &TimeInterval, now: Timestamp) -> bool;

    /// Gives the next moment at which that may turn; `None` when it does not within a year.
    fn next_change(&self, interval: &TimeInterval, now: Timestamp) -> Option<Timestamp>;
}

/// All silences that are not over, and those that ended lately.
#[derive(Debug, Default)]
pub struct Silences {
    config: Config,
    by_id: HashMap<Id, Arc<Silence>>,
    index: Index,
    /// Those in the index that recur.
    recurring: HashSet<Id>,
    /// What their expressions take in memory.
    regex_bytes: usize,
    /// Alerts that fire.
    firing: HashMap<Id, Labels>,
    /// Alerts that ended within the last day, the oldest first.
    ended: VecDeque<Ended>,
    /// From when on `ended` is complete.
    ended_since: Option<Timestamp>,
    resolving: Resolving,
}

impl Silences {
    /// Makes an empty set.
    pub fn new(config: Config) -> Self {
        Silences {
            config,
            ..Silences::default()
        }
    }

    /// Puts new limits in place; they concern what is added from now on.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// Takes up silences from the records, whatever the limits are now.
    pub fn restore(&mut self, silences: Vec<Silence>, now: Timestamp) {
        for silence in silences {
            self.put(silence, now);
        }
    }

    /// Adds a silence, or replaces the one of the same id. Nothing is checked: see [`Silences::set`].
    pub fn put(&mut self, silence: Silence, now: Timestamp) {
        self.remove(silence.id);
        let silence = Arc::new(silence);
        self.regex_bytes += regex_bytes(&silence);
        if is_indexed(&silence, now) {
            self.index.insert(&silence);
            if !silence.recurs.is_empty() {
                self.recurring.insert(silence.id);
            }
        }
        if silence.is_until_resolved && silence.state(now) != SilenceState::Expired {
            let hit = self.firing.iter().filter(|(_, labels)| silence.matches(labels));
            self.resolving.watch(silence.id, hit.map(|(alert, _)| *alert));
        } else {
            self.resolving.forget(silence.id);
        }
        self.by_id.insert(silence.id, silence);
    }

    /// Ends a silence now; one that had not begun never holds. Gives what stands then, `None` when it was over.
    pub fn expire(&mut self, id: Id, now: Timestamp) -> Result<Option<Silence>, SilenceError> {
        let silence = self.by_id.get(&id).ok_or(SilenceError::Unknown(id))?;
        let Some(over) = edit::ended(silence, now) else {
            return Ok(None);
        };
        self.put(over.clone(), now);
        Ok(Some(over))
    }

    /// Gives one silence.
    pub fn get(&self, id: Id) -> Option<&Arc<Silence>> {
        self.by_id.get(&id)
    }

    /// Walks all silences, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Silence>> {
        self.by_id.values()
    }

    /// Counts those that are pending, active and expired.
    pub fn counts(&self, now: Timestamp) -> [usize; 3] {
        let mut counts = [0; 3];
        for silence in self.by_id.values() {
            counts[silence.state(now) as usize] += 1;
        }
        counts
    }

    /// Gives the silences that hold for these labels at this moment, sorted.
    pub fn silencing(&self, labels: &Labels, now: Timestamp, recurrence: &impl Recurrence) -> Vec<Id> {
        let mut ids = Vec::new();
        self.index.matching(labels, |silence| {
            if holds(silence, now, recurrence) {
                ids.push(silence.id);
            }
        });
        ids.sort_unstable();
        ids
    }

    /// Notes that an alert fires, with the labels that are sent; again when they have changed.
    pub fn started(&mut self, alert: Id, labels: &Labels, now: Timestamp) {
        self.ended_since.get_or_insert(now);
        self.firing.insert(alert, labels.clone());
        if self.resolving.is_empty() {
            return;
        }
        let resolving = &mut self.resolving;
        self.index.matching(labels, |silence| {
            if silence.is_until_resolved && silence.state(now) != SilenceState::Expired {
                resolving.hit(silence.id, alert);
            }
        });
    }

    /// Notes that an alert fires no more. Then [`Silences::finished`] gives the silences that this ends.
    ///
    /// `now` may lie before the beginning of a silence that holds: an evaluation ends alerts at the moment of its
    /// plan, and somebody may have silenced one while it ran.
    pub fn ended(&mut self, alert: Id, now: Timestamp) {
        let Some(labels) = self.firing.remove(&alert) else {
            return;
        };
        self.remember_ended(labels, now);
        let by_id = &self.by_id;
        self.resolving.ended(alert, |silence| {
            by_id
                .get(&silence)
                .is_some_and(|silence| silence.state(now.max(silence.updated_at)) == SilenceState::Active)
        });
    }

    /// Ends the silences "until resolved" whose alerts have all resolved, and gives them as they stand then.
    ///
    /// Write them in the transaction that writes the ends of their alerts: then no restart finds one without the
    /// other.
    pub fn finished(&mut self, now: Timestamp) -> Vec<Silence> {
        let mut over = Vec::new();
        for id in self.resolving.take_spent() {
            let silence = self.by_id.get(&id).and_then(|silence| edit::ended(silence, now));
            if let Some(silence) = silence {
                self.put(silence.clone(), now);
                over.push(silence);
            }
        }
        over
    }

    /// Lets go of what ended long ago. For every turn of the loop.
    pub fn clean(&mut self, now: Timestamp) {
        let mut gone: Vec<(Timestamp, Id)> = Vec::new();
        for silence in self.by_id.values() {
            if silence.state(now) == SilenceState::Expired {
                gone.push((silence.ends_at, silence.id));
            }
        }
        gone.sort_unstable();
        let surplus = gone.len().saturating_sub(self.config.max);
        for (at, (ends_at, id)) in gone.into_iter().enumerate() {
            if at < surplus || now.since(ends_at) > ENDED_KEPT {
                self.remove(id);
                self.resolving.forget(id);
                self.by_id.remove(&id);
            } else if now.since(ends_at) > INDEXED_AFTER_END {
                self.unindex(id);
            }
        }
        self.forget_ended(now);
    }

    /// Takes a silence out of everything that follows from it, but for what it has silenced.
    fn remove(&mut self, id: Id) {
        self.unindex(id);
        if let Some(old) = self.by_id.get(&id) {
            self.regex_bytes -= regex_bytes(old);
        }
    }

    fn unindex(&mut self, id: Id) {
        let Some(silence) = self.by_id.get(&id) else {
            return;
        };
        self.index.remove(silence);
        self.recurring.remove(&id);
    }
}

/// Says whether a silence holds at a moment, for whatever it matches.
pub(crate) fn holds(silence: &Silence, now: Timestamp, recurrence: &impl Recurrence) -> bool {
    silence.state(now) == SilenceState::Active
        && (silence.recurs.is_empty()
            || silence
                .recurs
                .iter()
                .any(|interval| recurrence.contains(interval, now)))
}

/// Gives the next moment at which a silence begins or ceases to hold; `None` when it does not within the turns that are
/// looked at.
pub(crate) fn next_turn(
    silence: &Silence,
    now: Timestamp,
    recurrence: &impl Recurrence,
) -> Option<Timestamp> {
    let turn = |at: Timestamp| match silence.state(at) {
        SilenceState::Expired => None,
        SilenceState::Pending => Some(silence.starts_at),
        SilenceState::Active => {
            let intervals = silence.recurs.iter();
            let turns = intervals.filter_map(|interval| recurrence.next_change(interval, at));
            turns.chain([silence.ends_at]).min()
        }
    };
    let is_now = holds(silence, now, recurrence);
    std::iter::successors(turn(now), |at| turn(*at))
        .take(TURNS_MAX)
        .find(|at| holds(silence, *at, recurrence) != is_now)
}

fn is_indexed(silence: &Silence, now: Timestamp) -> bool {
    now.since(silence.ends_at) <= INDEXED_AFTER_END
}

fn regex_bytes(silence: &Silence) -> usize {
    silence.matchers.iter().map(|matcher| matcher.regex_bytes()).sum()
}

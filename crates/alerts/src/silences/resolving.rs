//! Silences that end when what they silenced has resolved.
//!
//! Such a silence ends when the last alert that it hit has ended, and it has held while one of them did: one that
//! has silenced nothing yet waits for its alert, until its end. What it has hit stays its own until it ends, though
//! its labels change meanwhile, as when the level rises.

use std::collections::{HashMap, HashSet};

use marketprism_model::Id;

/// Which firing alerts the silences "until resolved" have hit.
#[derive(Debug, Default)]
pub(super) struct Resolving {
    hits: HashMap<Id, HashSet<Id>>,
    by_alert: HashMap<Id, Vec<Id>>,
    /// Silences that have silenced something.
    used: HashSet<Id>,
    /// Silences whose last alert has ended since this was asked.
    spent: Vec<Id>,
}

impl Resolving {
    pub(super) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// Begins to follow a silence, or follows it on with the alerts that fire and that it matches now.
    pub(super) fn watch(&mut self, silence: Id, firing: impl Iterator<Item = Id>) {
        self.hits.entry(silence).or_default();
        for alert in firing {
            self.hit(silence, alert);
        }
    }

    /// Notes that a silence that is followed matches an alert that fires.
    pub(super) fn hit(&mut self, silence: Id, alert: Id) {
        let Some(hits) = self.hits.get_mut(&silence) else {
            return;
        };
        if hits.insert(alert) {
            self.by_alert.entry(alert).or_default().push(silence);
        }
    }

    /// Notes that an alert has ended; `is_active` says whether a silence holds.
    pub(super) fn ended(&mut self, alert: Id, is_active: impl Fn(Id) -> bool) {
        for silence in self.by_alert.remove(&alert).unwrap_or_default() {
            let Some(hits) = self.hits.get_mut(&silence) else {
                continue;
            };
            hits.remove(&alert);
            let is_last = hits.is_empty();
            if is_active(silence) {
                self.used.insert(silence);
            }
            if is_last && self.used.contains(&silence) {
                self.spent.push(silence);
            }
        }
    }

    /// Gives the silences that have silenced something and hit nothing more that fires.
    pub(super) fn take_spent(&mut self) -> Vec<Id> {
        let mut spent = std::mem::take(&mut self.spent);
        spent.retain(|silence| self.hits.get(silence).is_some_and(HashSet::is_empty));
        spent.sort_unstable();
        spent.dedup();
        spent
    }

    /// Follows a silence no more.
    pub(super) fn forget(&mut self, silence: Id) {
        for alert in self.hits.remove(&silence).unwrap_or_default() {
            let Some(silences) = self.by_alert.get_mut(&alert) else {
                continue;
            };
            silences.retain(|other| *other != silence);
            if silences.is_empty() {
                self.by_alert.remove(&alert);
            }
        }
        self.used.remove(&silence);
    }
}

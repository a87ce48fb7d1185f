//! All groups: by key, by the time when they are due, and by the alerts that are in them.
//!
//! An alert is in one group for each route that it takes. Groups stand in the order in which they are due, so
//! that a turn of the loop looks at those alone.
//! Invariant: every group in the map stands in the index at exactly its [`Group::due_at`]; nothing here reads a
//! clock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::records::GroupRecord;
use marketprism_model::{Id, Timestamp};

use crate::routing::RouteIndex;

/// What makes a group, and sets its pace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A route of the tree.
    Route(RouteIndex),
    /// A storm over a receiver, whose alerts one group speaks for: one for each policy by which their routes escalate.
    Storm(Option<Arc<str>>),
}

/// One group as it is kept in memory.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// What is written of it.
    pub record: GroupRecord,
    /// What makes it.
    pub kind: Kind,
    /// When it is looked at besides its ticks: a mute ends, or an escalation takes its next step.
    pub wake_at: Option<Timestamp>,
}

impl Group {
    /// Gives when it is looked at next.
    pub fn due_at(&self) -> Timestamp {
        let tick = self.record.flush_at;
        self.wake_at.map_or(tick, |wake| wake.min(tick))
    }
}

/// All groups.
#[derive(Default)]
pub(crate) struct Groups {
    by_key: HashMap<Arc<str>, Group>,
    due: BTreeSet<(Timestamp, Arc<str>)>,
    of: HashMap<Id, Vec<Arc<str>>>,
}

impl Groups {
    pub fn key(&self, key: &str) -> Option<&Arc<str>> {
        self.by_key.get_key_value(key).map(|(key, _)| key)
    }

    pub fn get(&self, key: &str) -> Option<&Group> {
        self.by_key.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.by_key.values()
    }

    /// Takes a group out, with its place among those that are due; which alerts are in it stays known.
    pub fn take(&mut self, key: &str) -> Option<(Arc<str>, Group)> {
        let (key, group) = self.by_key.remove_entry(key)?;
        self.due.remove(&(group.due_at(), Arc::clone(&key)));
        Some((key, group))
    }

    /// Puts a group in.
    pub fn put(&mut self, key: Arc<str>, group: Group) {
        self.due.insert((group.due_at(), Arc::clone(&key)));
        self.by_key.insert(key, group);
    }

    /// Changes a group; its place among those that are due follows. `None` when there is no such group.
    pub fn change<T>(&mut self, key: &str, change: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let (key, group) = self.by_key.get_key_value(key)?;
        let (key, before) = (Arc::clone(key), group.due_at());
        let group = self.by_key.get_mut(&key)?;
        let answer = change(group);
        let after = group.due_at();
        if before != after {
            self.due.remove(&(before, Arc::clone(&key)));
            self.due.insert((after, key));
        }
        Some(answer)
    }

    /// Changes every group, in no order.
    pub fn change_all(&mut self, mut change: impl FnMut(&mut Group)) {
        self.due.clear();
        for (key, group) in &mut self.by_key {
            change(group);
            self.due.insert((group.due_at(), Arc::clone(key)));
        }
    }

    /// Gives when the first group is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Gives the groups that are due, those that have been for longest first.
    pub fn due(&self, now: Timestamp) -> Vec<Arc<str>> {
        self.due
            .iter()
            .take_while(|(due, _)| *due <= now)
            .map(|(_, key)| Arc::clone(key))
            .collect()
    }

    /// Gives the groups that an alert is in, in the order in which it joined.
    pub fn of(&self, alert: Id) -> &[Arc<str>] {
        self.of.get(&alert).map_or(&[], Vec::as_slice)
    }

    /// Notes that an alert is in a group; says whether it was not yet.
    pub fn enter(&mut self, alert: Id, key: &Arc<str>) -> bool {
        let groups = self.of.entry(alert).or_default();
        let is_new = !groups.contains(key);
        if is_new {
            groups.push(Arc::clone(key));
        }
        is_new
    }

    /// Notes that an alert left a group; says whether it is in none any more.
    pub fn leave(&mut self, alert: Id, key: &str) -> bool {
        let Some(groups) = self.of.get_mut(&alert) else {
            return true;
        };
        groups.retain(|known| **known != *key);
        let is_nowhere = groups.is_empty();
        if is_nowhere {
            self.of.remove(&alert);
        }
        is_nowhere
    }

    /// Notes that an alert is in no group any more; gives those in which it was.
    pub fn forget(&mut self, alert: Id) -> Vec<Arc<str>> {
        self.of.remove(&alert).unwrap_or_default()
    }

    /// Brings groups forward that seem to be due later than they ever can be, for the wall clock was set back.
    pub fn bring_forward(&mut self, now: Timestamp, longest: impl Fn(&Group) -> Duration) {
        self.change_all(|group| {
            if group.record.flush_at > now + longest(group) {
                group.record.flush_at = now;
            }
        });
    }
}

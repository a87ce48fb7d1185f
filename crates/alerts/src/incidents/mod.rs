//! Incidents: related alerts as one story.
//!
//! An alert that begins to fire joins the incident of
//! 1. an alert that inhibits it, or that it inhibits, while that incident is open;
//! 2. its group;
//! 3. another alert with the same value of a topology label, the labels in the configured order;
//!
//! the latter two if something happened there within the window: an alert joined, rose or ended. Otherwise it opens one of its
//! own, so that each alert has a place for owner and notes; lists leave out incidents of one alert. An incident
//! is over when all its alerts have been for a while, and opens again when a related one comes within the window. Incidents are
//! never merged: what a person has read stays as it was.
//! Pure by design: the caller brings alerts, `now` and chance, and stores what changed. Each key has one incident, the one that
//! last got an alert with it, so that joining costs a look-up a label however many incidents there are.
//! Deliberately absent: messages. Incidents order what people read, not what they are told.

mod acts;
mod config;
mod index;
mod join;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use marketprism_model::{
    Alert, Chance, Hint, Id, Incident, IncidentEvent, IncidentEventKind, IncidentState, Timestamp,
};

pub use acts::{Act, IncidentError, OWNER_LENGTH_MAX, TITLE_LENGTH_MAX};
pub use config::IncidentsConfig;
use index::{Index, Key};
use join::{RELATION_FIRST, suffix};

/// So many incidents are kept in memory: open ones and those that ended within the window. Beyond it alerts join, but open
/// none.
pub const KEPT_MAX: usize = 200_000;
/// An incident holds no more hints.
pub const HINTS_MAX: usize = 20;
/// A clock that goes back by less is not worth looking through all incidents: whatever waits, waits as much longer.
const SET_BACK_MIN: Duration = Duration::from_secs(60);

const REASON_ENDED: &str = "all its alerts ended";

/// One incident in memory.
struct Kept {
    incident: Incident,
    /// The name of the worst alert.
    lead: String,
    /// How many of its alerts fire.
    firing: usize,
    /// By which keys it can be found.
    keys: Vec<Key>,
    /// When it is over, or may be forgotten, unless something happens.
    due: Option<Timestamp>,
}

/// What has changed since the last call.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct IncidentChanges {
    /// Incidents as they stand now, each once.
    pub incidents: Vec<Incident>,
    /// What happened, in order.
    pub events: Vec<IncidentEvent>,
}

/// Incidents that are open, and those that ended within the window.
pub struct Incidents {
    config: IncidentsConfig,
    kept: HashMap<Id, Kept>,
    /// The incident of each alert that fires.
    of_alert: HashMap<Id, Id>,
    index: Index,
    due: BTreeSet<(Timestamp, Id)>,
    changed: BTreeSet<Id>,
    /// Changed ones that are no longer kept.
    gone: BTreeMap<Id, Incident>,
    events: Vec<IncidentEvent>,
    seen_at: Timestamp,
    refused: u64,
}

impl Incidents {
    /// Begins without incidents.
    pub fn new(config: IncidentsConfig) -> Self {
        Incidents {
            config,
            kept: HashMap::new(),
            of_alert: HashMap::new(),
            index: Index::default(),
            due: BTreeSet::new(),
            changed: BTreeSet::new(),
            gone: BTreeMap::new(),
            events: Vec::new(),
            seen_at: Timestamp::MIN,
            refused: 0,
        }
    }

    /// Goes on with what was stored: open incidents, and the alerts that fire, each with the keys of its groups.
    ///
    /// An open incident of which no alert fires is given the hold time from `now`, for its rules may not have had their say.
    pub fn restore<'a>(
        &mut self,
        incidents: impl IntoIterator<Item = Incident>,
        firing: impl IntoIterator<Item = (&'a Alert, &'a [String])>,
        now: Timestamp,
    ) {
        self.look(now);
        for incident in incidents {
            if incident.state == IncidentState::Open {
                self.keep(incident);
            }
        }
        for (alert, groups) in firing {
            let Some(id) = alert.incident.filter(|id| self.kept.contains_key(id)) else {
                continue;
            };
            self.of_alert.insert(alert.id, id);
            let keys = self.keys(alert, groups);
            self.enter(id, &keys);
            if let Some(kept) = self.kept.get_mut(&id) {
                kept.firing += 1;
            }
        }
        let ids: Vec<Id> = self.kept.keys().copied().collect();
        for id in ids {
            self.plan(id, now);
        }
    }

    /// Takes new settings; what is open stays, and goes by them from now on.
    pub fn configure(&mut self, config: IncidentsConfig) {
        self.config = config;
    }

    /// Takes an alert that begins to fire; gives the incident that it joined. `groups` are the keys of its groups, `linked`
    /// the alerts that inhibit it or are inhibited by it, as far as that is known.
    ///
    /// `None` when incidents are off, or when there are too many to open another.
    pub fn fired(
        &mut self,
        alert: &Alert,
        groups: &[String],
        linked: &[Id],
        now: Timestamp,
        chance: &dyn Chance,
    ) -> Option<Id> {
        self.look(now);
        if !self.config.is_enabled {
            return None;
        }
        if let Some(known) = self.of_alert.get(&alert.id) {
            return Some(*known);
        }
        let (id, relation) = match self.related(alert, groups, linked, now) {
            Some(found) => found,
            None => (self.open(alert, now, chance)?, RELATION_FIRST.to_owned()),
        };
        self.join(id, alert, relation, now, chance);
        let keys = self.keys(alert, groups);
        self.enter(id, &keys);
        Some(id)
    }

    /// Takes an alert that fires whose level changed.
    pub fn level_changed(&mut self, alert: &Alert, now: Timestamp, chance: &dyn Chance) {
        self.look(now);
        let Some(id) = self.of_alert.get(&alert.id).copied() else {
            return;
        };
        let Some(kept) = self.kept.get_mut(&id) else {
            return;
        };
        let incident = &mut kept.incident;
        if alert.level <= incident.level {
            return;
        }
        let kind = IncidentEventKind::LevelRose {
            from: incident.level,
            to: alert.level,
        };
        incident.level = alert.level;
        incident.moved_at = now;
        alert.name().clone_into(&mut kept.lead);
        kept.entitle();
        self.event(id, now, None, kind, chance);
    }

    /// Takes an alert that is over.
    pub fn ended(&mut self, alert: &Alert, now: Timestamp, chance: &dyn Chance) {
        self.look(now);
        let Some(id) = self.of_alert.remove(&alert.id) else {
            return;
        };
        let Some(kept) = self.kept.get_mut(&id) else {
            return;
        };
        kept.firing = kept.firing.saturating_sub(1);
        kept.incident.moved_at = now;
        let name = alert.name().to_owned();
        self.event(
            id,
            now,
            None,
            IncidentEventKind::AlertResolved {
                alert: alert.id,
                name,
            },
            chance,
        );
        self.plan(id, now);
    }

    /// Ends incidents whose alerts have been over for the hold time, and forgets those that nothing can join any more.
    pub fn tick(&mut self, now: Timestamp, chance: &dyn Chance) {
        self.look(now);
        while let Some((_, id)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.unplan(id);
            let Some(kept) = self.kept.get_mut(&id) else {
                continue;
            };
            if kept.incident.state == IncidentState::Resolved {
                self.forget(id);
                continue;
            }
            kept.incident.state = IncidentState::Resolved;
            kept.incident.resolved_at = Some(kept.incident.moved_at);
            let reason = REASON_ENDED.to_owned();
            self.event(id, now, None, IncidentEventKind::Resolved { reason }, chance);
            self.plan(id, now);
        }
    }

    /// Gives when [`Incidents::tick`] has something to do next, unless something happens before.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes guesses at the cause of an open incident, the best one first; gives whether it is known.
    pub fn hint(&mut self, id: Id, mut hints: Vec<Hint>, now: Timestamp) -> bool {
        hints.truncate(HINTS_MAX);
        let Some(kept) = self.kept.get_mut(&id) else {
            return false;
        };
        kept.incident.hints = hints;
        kept.incident.updated_at = now;
        self.changed.insert(id);
        true
    }

    /// Takes out what has changed since the last call.
    pub fn take_changes(&mut self) -> IncidentChanges {
        let changed = std::mem::take(&mut self.changed);
        let mut incidents: Vec<Incident> = std::mem::take(&mut self.gone).into_values().collect();
        let kept = changed.iter().filter_map(|id| self.kept.get(id));
        incidents.extend(kept.map(|kept| kept.incident.clone()));
        IncidentChanges {
            incidents,
            events: std::mem::take(&mut self.events),
        }
    }

    /// Gives an incident that is open, or ended within the window.
    pub fn get(&self, id: Id) -> Option<&Incident> {
        self.kept.get(&id).map(|kept| &kept.incident)
    }

    /// Gives the incident of an alert that fires.
    pub fn of(&self, alert: Id) -> Option<Id> {
        self.of_alert.get(&alert).copied()
    }

    /// Counts the incidents that are open.
    pub fn open_count(&self) -> usize {
        let is_open = |kept: &&Kept| kept.incident.state == IncidentState::Open;
        self.kept.values().filter(is_open).count()
    }

    /// Counts the alerts that were given no incident, for there were too many.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Gives the keys by which others find an alert.
    fn keys(&self, alert: &Alert, groups: &[String]) -> Vec<Key> {
        let labels = self.config.labels.iter();
        let labels = labels.filter_map(|name| Key::label(name, alert.labels.get(name)?));
        groups
            .iter()
            .map(|group| Key::group(group))
            .chain(labels)
            .collect()
    }

    /// Lets an incident be found by keys.
    fn enter(&mut self, id: Id, keys: &[Key]) {
        let Some(kept) = self.kept.get_mut(&id) else {
            return;
        };
        for key in keys {
            if self.index.get(*key) != Some(id) {
                self.index.set(*key, id);
                kept.keys.push(*key);
            }
        }
    }

    /// Takes an incident into memory; its alerts and keys are yet to come.
    fn keep(&mut self, incident: Incident) {
        let suffix = suffix(&incident.labels);
        // A title that was shortened lost its end.
        let lead = incident
            .title
            .strip_suffix(&suffix)
            .or_else(|| incident.title.split(" (").next());
        let lead = lead.unwrap_or_default().to_owned();
        let id = incident.id;
        self.gone.remove(&id);
        let shared = incident.labels.clone();
        self.kept.insert(
            id,
            Kept {
                incident,
                lead,
                firing: 0,
                keys: Vec::new(),
                due: None,
            },
        );
        let keys: Vec<Key> = shared
            .iter()
            .filter_map(|(name, value)| Key::label(name, value))
            .collect();
        self.enter(id, &keys);
    }

    /// Drops an incident from memory; what changed of it is still given out.
    fn forget(&mut self, id: Id) {
        self.unplan(id);
        let Some(kept) = self.kept.remove(&id) else { return };
        for key in &kept.keys {
            self.index.remove(*key, id);
        }
        for alert in &kept.incident.alerts {
            if self.of(*alert) == Some(id) {
                self.of_alert.remove(alert);
            }
        }
        if self.changed.remove(&id) {
            self.gone.insert(id, kept.incident);
        }
    }

    /// Plans the end of an incident of which no alert fires, or that it is forgotten.
    fn plan(&mut self, id: Id, now: Timestamp) {
        self.unplan(id);
        let Some(kept) = self.kept.get_mut(&id) else {
            return;
        };
        let due = match kept.incident.state {
            IncidentState::Open if kept.firing > 0 || kept.incident.is_held_open => return,
            IncidentState::Open => now + self.config.hold,
            // Within the window, its end included, something may join.
            IncidentState::Resolved => kept.incident.moved_at + self.config.window + Duration::from_millis(1),
        };
        kept.due = Some(due);
        self.due.insert((due, id));
    }

    fn unplan(&mut self, id: Id) {
        if let Some(due) = self.kept.get_mut(&id).and_then(|kept| kept.due.take()) {
            self.due.remove(&(due, id));
        }
    }

    /// Looks at the clock: when it was set back, nothing waits for the old future.
    fn look(&mut self, now: Timestamp) {
        if self.seen_at.since(now) < SET_BACK_MIN {
            self.seen_at = self.seen_at.max(now);
            return;
        }
        self.seen_at = now;
        let mut planned = Vec::new();
        for (id, kept) in &mut self.kept {
            kept.incident.moved_at = kept.incident.moved_at.min(now);
            planned.extend(kept.due.map(|_| *id));
        }
        for id in planned {
            self.plan(id, now);
        }
    }

    /// Writes a line of the timeline; the incident counts as changed.
    fn event(
        &mut self,
        incident: Id,
        at: Timestamp,
        actor: Option<&str>,
        kind: IncidentEventKind,
        chance: &dyn Chance,
    ) {
        if let Some(kept) = self.kept.get_mut(&incident) {
            kept.incident.updated_at = at;
            self.changed.insert(incident);
        }
        let (id, actor) = (Id::new(at, chance), actor.map(str::to_owned));
        self.events.push(IncidentEvent {
            id,
            incident,
            at,
            actor,
            kind,
        });
    }
}

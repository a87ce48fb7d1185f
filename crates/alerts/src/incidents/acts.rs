//! What people do with an incident.

use marketprism_model::{Chance, Id, Incident, IncidentEventKind, IncidentState, Timestamp};
use thiserror::Error;

use super::{Incidents, KEPT_MAX};
use crate::operator::NOTE_BYTES_MAX;

/// A title is no longer than this, in characters.
pub const TITLE_LENGTH_MAX: usize = 200;
/// An owner's name is no longer than this, in characters.
pub const OWNER_LENGTH_MAX: usize = 100;

/// What a person does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Says who sees to it, or that nobody does any more.
    Own(Option<String>),
    /// Gives it a title, which stays.
    Rename(String),
    /// Writes something down.
    Note(String),
    /// Says that it is over, and why. Its alerts go on by themselves; one that begins later opens another incident.
    Resolve(String),
    /// Opens it again; it stays open until a person says that it is over. With those of its alerts that fire.
    Reopen {
        /// Its alerts that fire.
        firing: Vec<Id>,
    },
}

/// Why an act is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IncidentError {
    /// There is no such incident.
    #[error("no incident {0}")]
    Unknown(Id),
    /// A text is empty or too long.
    #[error("{field} must have 1 to {most} {unit}, and no control characters")]
    Text {
        /// Which text.
        field: &'static str,
        /// How long it may be.
        most: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// It is over already.
    #[error("incident {0} is resolved already")]
    Resolved(Id),
    /// It is open already.
    #[error("incident {0} is open already")]
    Open(Id),
    /// Too many are open.
    #[error("{KEPT_MAX} incidents are in memory already")]
    TooMany,
}

impl Incidents {
    /// Says whether an incident is in memory; one that is not has to be brought to [`Incidents::act`] from the store.
    pub fn keeps(&self, id: Id) -> bool {
        self.kept.contains_key(&id) || self.gone.contains_key(&id)
    }

    /// Does what a person wants; gives the incident as it stands then. `stored` is the incident as it was stored, for one
    /// that is not in memory.
    pub fn act(
        &mut self,
        id: Id,
        stored: Option<Incident>,
        act: Act,
        actor: &str,
        now: Timestamp,
        chance: &dyn Chance,
    ) -> Result<Incident, IncidentError> {
        self.look(now);
        let state = check(&act)?;
        if !self.kept.contains_key(&id) {
            let stored = self
                .gone
                .get(&id)
                .cloned()
                .or(stored)
                .filter(|stored| stored.id == id);
            let stored = stored.ok_or(IncidentError::Unknown(id))?;
            if self.kept.len() >= KEPT_MAX {
                return Err(IncidentError::TooMany);
            }
            self.keep(stored);
        }
        let done = self.apply(id, act, state, actor, now, chance);
        let incident = self.get(id).cloned().ok_or(IncidentError::Unknown(id));
        // What is over is kept only as long as something may join it, and nothing joins what a person ended.
        let is_by_hand = state == Some(IncidentState::Resolved) && done.is_ok();
        let is_planned = self.kept.get(&id).is_some_and(|kept| kept.due.is_some());
        let is_over = incident
            .as_ref()
            .is_ok_and(|incident| incident.state == IncidentState::Resolved);
        if is_by_hand || (is_over && !is_planned) {
            self.forget(id);
        } else if !is_planned {
            self.plan(id, now);
        }
        done.and(incident)
    }

    fn apply(
        &mut self,
        id: Id,
        act: Act,
        state: Option<IncidentState>,
        actor: &str,
        now: Timestamp,
        chance: &dyn Chance,
    ) -> Result<(), IncidentError> {
        let kept = self.kept.get_mut(&id).ok_or(IncidentError::Unknown(id))?;
        let incident = &mut kept.incident;
        match state {
            Some(IncidentState::Resolved) if incident.state == IncidentState::Resolved => {
                return Err(IncidentError::Resolved(id));
            }
            Some(IncidentState::Open) if incident.state == IncidentState::Open => {
                return Err(IncidentError::Open(id));
            }
            _ => {}
        }
        let kind = match act {
            Act::Own(owner) => {
                incident.owner.clone_from(&owner);
                IncidentEventKind::Owned { owner }
            }
            Act::Rename(title) => {
                incident.title.clone_from(&title);
                incident.is_renamed = true;
                IncidentEventKind::Renamed { title }
            }
            Act::Note(note) => IncidentEventKind::Noted { note },
            Act::Resolve(reason) => {
                incident.state = IncidentState::Resolved;
                incident.resolved_at = Some(now);
                incident.is_held_open = false;
                IncidentEventKind::Resolved { reason }
            }
            Act::Reopen { firing } => {
                incident.state = IncidentState::Open;
                incident.resolved_at = None;
                incident.is_held_open = true;
                let own: Vec<Id> = firing
                    .into_iter()
                    .filter(|alert| incident.alerts.contains(alert))
                    .collect();
                self.take_back(id, &own);
                IncidentEventKind::Reopened
            }
        };
        self.event(id, now, Some(actor), kind, chance);
        Ok(())
    }

    /// Lets alerts that fire be part of an incident that was opened again.
    fn take_back(&mut self, id: Id, firing: &[Id]) {
        self.unplan(id);
        let free: Vec<Id> = firing
            .iter()
            .copied()
            .filter(|alert| self.of(*alert).is_none())
            .collect();
        if let Some(kept) = self.kept.get_mut(&id) {
            kept.firing += free.len();
            self.of_alert.extend(free.into_iter().map(|alert| (alert, id)));
        }
    }
}

/// Checks the texts of an act; gives the state that it leads to, when it leads to one.
fn check(act: &Act) -> Result<Option<IncidentState>, IncidentError> {
    let characters = |field, text: &str, most| {
        let is_good = (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        is_good.then_some(()).ok_or(IncidentError::Text {
            field,
            most,
            unit: "characters",
        })
    };
    let bytes = |field, text: &str| {
        let is_good = (1..=NOTE_BYTES_MAX).contains(&text.len());
        let most = NOTE_BYTES_MAX;
        is_good.then_some(()).ok_or(IncidentError::Text {
            field,
            most,
            unit: "bytes",
        })
    };
    match act {
        Act::Own(None) => Ok(None),
        Act::Own(Some(owner)) => characters("owner", owner, OWNER_LENGTH_MAX).map(|()| None),
        Act::Rename(title) => characters("title", title, TITLE_LENGTH_MAX).map(|()| None),
        Act::Note(note) => bytes("note", note).map(|()| None),
        Act::Resolve(reason) => bytes("reason", reason).map(|()| Some(IncidentState::Resolved)),
        Act::Reopen { .. } => Ok(Some(IncidentState::Open)),
    }
}

/// Cuts a title that became too long.
pub(super) fn shortened(title: String) -> String {
    if title.chars().count() <= TITLE_LENGTH_MAX {
        return title;
    }
    let mut short: String = title.chars().take(TITLE_LENGTH_MAX - 1).collect();
    short.push('…');
    short
}

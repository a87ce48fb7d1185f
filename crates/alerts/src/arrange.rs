//! What people arrange beside single alerts: silences, who stands in on call, and what they do with incidents.
//!
//! The rules stand in the pure parts; here they meet the book, its one transaction and the clock.

use marketprism_model::{Id, Incident, ShiftOverride, Silence, StoreError, Timestamp};
use thiserror::Error;

use crate::alerts::Alerts;
use crate::book::Book;
use crate::incidents::{Act, IncidentError};
use crate::routing::RoutingError;
use crate::schedule::{OverrideError, Schedules};
use crate::silences::{SilenceChange, SilenceDraft, SilenceError};
use crate::time_interval::Interval;

/// Why something was not arranged.
#[derive(Debug, Error)]
pub enum ArrangeError {
    /// The silence is not taken.
    #[error(transparent)]
    Silence(#[from] SilenceError),
    /// The zone or the calendar of a recurring silence is not known.
    #[error("recurs: {0}")]
    Recurrence(#[from] RoutingError),
    /// The silence is over already.
    #[error("silence {0} is over already")]
    Over(Id),
    /// The override is not taken.
    #[error(transparent)]
    Override(#[from] OverrideError),
    /// There is no such override, or it is over.
    #[error("no override {0}")]
    UnknownOverride(Id),
    /// The act on the incident is not taken.
    #[error(transparent)]
    Incident(#[from] IncidentError),
    /// It stands in memory, but the store refused it; it is tried again with the next tick.
    #[error("alert records: {0}")]
    Store(#[from] StoreError),
}

/// Who stands in for whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverrideDraft {
    /// The schedule's name.
    pub schedule: String,
    /// Who is on call instead: a receiver's name.
    pub receiver: String,
    /// From when.
    pub starts_at: Timestamp,
    /// Until when, exclusive.
    pub ends_at: Timestamp,
    /// Who arranged it.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

impl Alerts {
    /// Gives the schedules as they are configured.
    pub fn schedules(&self) -> Schedules {
        self.plan().schedules.clone()
    }

    /// Gives the overrides that are not over.
    pub fn overrides(&self) -> Vec<ShiftOverride> {
        let now = self.clock.now();
        let mut overrides = self.book.lock().overrides.clone();
        overrides.retain(|arranged| arranged.ends_at > now);
        overrides
    }

    /// Gives who is on call now, by schedule: receivers, none when nobody is.
    pub fn on_call(&self, now: Timestamp) -> Vec<(String, Vec<String>)> {
        let book = self.book.lock();
        let schedules = &book.plan.schedules;
        let who = |name: &str| {
            let schedule = schedules.get(name)?;
            Some((name.to_owned(), schedule.who(now, &book.overrides)))
        };
        schedules.names().filter_map(who).collect()
    }

    /// Makes or changes a silence. `is_confirmed`: its author knows how wide it is.
    pub fn put_silence(
        &self,
        draft: SilenceDraft,
        is_confirmed: bool,
    ) -> Result<SilenceChange, ArrangeError> {
        let now = self.clock.now();
        let change = {
            let mut book = self.book.lock();
            for interval in draft.recurs.iter().flatten() {
                Interval::new(interval, &book.plan.calendars)?;
            }
            book.set_silence(draft, is_confirmed, now)?
        };
        self.write_now()?;
        self.wake.notify_one();
        Ok(change)
    }

    /// Ends a silence now; one that had not begun never holds.
    pub fn expire_silence(&self, id: Id) -> Result<Silence, ArrangeError> {
        let now = self.clock.now();
        let silence = {
            let mut book = self.book.lock();
            let silence = book.silences.expire(id, now)?.ok_or(ArrangeError::Over(id))?;
            book.changes.silence(silence.clone());
            silence
        };
        self.write_now()?;
        Ok(silence)
    }

    /// Arranges that somebody stands in.
    pub fn put_override(&self, draft: OverrideDraft) -> Result<ShiftOverride, ArrangeError> {
        let now = self.clock.now();
        let arranged = {
            let mut book = self.book.lock();
            let arranged = ShiftOverride {
                id: Id::new(now, book.chance.as_ref()),
                schedule: draft.schedule,
                receiver: draft.receiver,
                starts_at: draft.starts_at,
                ends_at: draft.ends_at,
                created_by: draft.created_by,
                created_at: now,
                comment: draft.comment,
            };
            let plan = &book.plan;
            let receivers: Vec<&str> = plan
                .config
                .receivers
                .iter()
                .map(|receiver| receiver.name.as_str())
                .collect();
            let standing = book.overrides.iter().filter(|other| other.ends_at > now);
            plan.schedules
                .check_override(&arranged, &receivers, standing.count(), now)?;
            book.overrides.push(arranged.clone());
            book.changes.arranged(arranged.id, Some(arranged.clone()));
            arranged
        };
        self.write_now()?;
        Ok(arranged)
    }

    /// Takes an override back.
    pub fn drop_override(&self, id: Id) -> Result<ShiftOverride, ArrangeError> {
        let now = self.clock.now();
        let dropped = {
            let mut book = self.book.lock();
            let is_meant = |arranged: &ShiftOverride| arranged.id == id && arranged.ends_at > now;
            let place = book.overrides.iter().position(is_meant);
            let place = place.ok_or(ArrangeError::UnknownOverride(id))?;
            let dropped = book.overrides.remove(place);
            book.changes.arranged(id, None);
            dropped
        };
        self.write_now()?;
        Ok(dropped)
    }

    /// Does what a person wants with an incident; gives it as it stands then. The alerts that fire of one that is
    /// opened again are found here, whatever the act says of them.
    pub fn act_on_incident(&self, id: Id, act: Act, by: &str) -> Result<Incident, ArrangeError> {
        let now = self.clock.now();
        let is_kept = self.book.lock().incidents.keeps(id);
        let stored = if is_kept { None } else { self.store.incident(id)? };
        let incident = {
            let mut book = self.book.lock();
            let book = &mut *book;
            let act = match act {
                Act::Reopen { .. } => Act::Reopen {
                    firing: book.firing_of(id, stored.as_ref()),
                },
                act => act,
            };
            book.incidents
                .act(id, stored, act, by, now, book.chance.as_ref())?
        };
        self.write_now()?;
        Ok(incident)
    }
}

impl Book {
    /// Makes or changes a silence, and notes what that changed.
    pub fn set_silence(
        &mut self,
        draft: SilenceDraft,
        is_confirmed: bool,
        now: Timestamp,
    ) -> Result<SilenceChange, SilenceError> {
        let change = self
            .silences
            .set(draft, is_confirmed, now, self.chance.as_ref())?;
        if let Some(replaced) = &change.replaced {
            self.changes.silence(replaced.clone());
        }
        self.changes.silence(change.silence.clone());
        Ok(change)
    }

    fn firing_of(&self, id: Id, stored: Option<&Incident>) -> Vec<Id> {
        let incident = self.incidents.get(id).or(stored);
        let alerts = incident.map_or(&[][..], |incident| &incident.alerts);
        let is_active = |alert: &Id| self.by_id.contains_key(alert);
        alerts.iter().copied().filter(is_active).collect()
    }
}

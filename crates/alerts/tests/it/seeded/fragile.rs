//! A store that refuses on demand, and in whose calls the process can die.
//!
//! All that the room knows leaves it through the store, so a death between two steps of the room looks to the next
//! start like one before or after a call: every call has both points. A death unwinds out of the room; whoever lives
//! through it must throw the room away.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use marketprism_model::{
    Alert, AlertCommit, AlertEvent, AlertFilter, AlertSnapshot, AlertStore, Id, Incident, IncidentEvent,
    IncidentFilter, Notification, Page, Silence, SilenceFilter, StoreError, Timestamp,
};
use marketprism_state::Database;
use parking_lot::Mutex;

/// What unwinds when the process dies.
pub struct Death;

/// How the database meets a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Fine,
    /// It refuses, and nothing is written.
    Refuses,
    /// It writes, and the answer is lost.
    Loses,
}

pub struct Fragile {
    pub db: Database,
    pub mood: Mutex<Mood>,
    /// Points until the process dies; 0 is never.
    pub death_in: AtomicU32,
    /// Messages that were decided and are durable, each once, since they were asked for.
    decided: Mutex<Vec<Notification>>,
    known: Mutex<HashSet<Id>>,
    /// Refusals since they were asked for.
    pub refusals: AtomicU32,
}

impl Fragile {
    pub fn new() -> Self {
        Fragile {
            db: Database::in_memory().expect("memory"),
            mood: Mutex::new(Mood::Fine),
            death_in: AtomicU32::new(0),
            decided: Mutex::default(),
            known: Mutex::default(),
            refusals: AtomicU32::new(0),
        }
    }

    /// Passes a point at which the process may die.
    pub fn point(&self) {
        let left = self.death_in.load(Ordering::Relaxed);
        if left > 0 {
            self.death_in.store(left - 1, Ordering::Relaxed);
            if left == 1 {
                std::panic::resume_unwind(Box::new(Death));
            }
        }
    }

    pub fn take_decided(&self) -> Vec<Notification> {
        std::mem::take(&mut self.decided.lock())
    }

    fn refused(&self) -> StoreError {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        StoreError::Database {
            operation: "commit alerts",
            reason: "told to refuse".to_owned(),
        }
    }
}

impl AlertStore for Fragile {
    fn load(&self) -> Result<AlertSnapshot, StoreError> {
        self.point();
        self.db.load()
    }

    fn commit(&self, commit: &AlertCommit) -> Result<(), StoreError> {
        self.point();
        let mood = *self.mood.lock();
        if mood == Mood::Refuses {
            return Err(self.refused());
        }
        self.db
            .commit(commit)
            .expect("the database takes what it is given");
        let mut known = self.known.lock();
        let new = commit.outbox.iter().filter(|message| known.insert(message.id));
        self.decided.lock().extend(new.cloned());
        drop(known);
        self.point();
        if mood == Mood::Loses {
            return Err(self.refused());
        }
        Ok(())
    }

    fn heartbeat(&self, at: Timestamp) -> Result<(), StoreError> {
        self.point();
        if *self.mood.lock() == Mood::Refuses {
            return Err(self.refused());
        }
        self.db.heartbeat(at)?;
        self.point();
        Ok(())
    }

    fn alerts(&self, filter: &AlertFilter) -> Result<Page<Alert>, StoreError> {
        self.db.alerts(filter)
    }
    fn alert(&self, id: Id) -> Result<Option<Alert>, StoreError> {
        self.point();
        self.db.alert(id)
    }
    fn events(&self, alert: Id) -> Result<Vec<AlertEvent>, StoreError> {
        self.db.events(alert)
    }
    fn silences(&self, filter: &SilenceFilter) -> Result<Page<Silence>, StoreError> {
        self.db.silences(filter)
    }
    fn silence(&self, id: Id) -> Result<Option<Silence>, StoreError> {
        self.db.silence(id)
    }
    fn incidents(&self, filter: &IncidentFilter) -> Result<Page<Incident>, StoreError> {
        self.db.incidents(filter)
    }
    fn incident(&self, id: Id) -> Result<Option<Incident>, StoreError> {
        self.db.incident(id)
    }
    fn incident_events(&self, incident: Id) -> Result<Vec<IncidentEvent>, StoreError> {
        self.db.incident_events(incident)
    }
    fn clean(&self, now: Timestamp, keep: Duration) -> Result<u64, StoreError> {
        self.db.clean(now, keep)
    }
}

//! The port of the lifecycle: a tick's changes in one transaction, and everything alive for the start.

use std::collections::HashSet;
use std::time::Duration;

use marketprism_model::kill_point::kill_point;
use marketprism_model::{
    Alert, AlertCommit, AlertEvent, AlertFilter, AlertSnapshot, AlertStore, Id, Incident, IncidentEvent,
    IncidentFilter, Page, Silence, SilenceFilter, StoreError, Timestamp,
};

use crate::alert_rows::{
    ALERT_COLUMNS, delete_alert, delete_clock, delete_group, read_alert, read_clocks, read_events,
    read_groups, write_alert, write_clock, write_event, write_group,
};
use crate::alert_search;
use crate::cleaning;
use crate::database::{Database, StepError};
use crate::incident_rows::{
    one_incident, open_incidents, read_incident_events, search_incidents, write_incident,
    write_incident_event,
};
use crate::outbox::{settle, write_notification};
use crate::row::{Columns, id_bytes};
use crate::session::{Bind, Session, binds};
use crate::silence_rows::{
    delete_override, one_silence, overrides_that_end_after, search_silences, silences_that_end_after,
    write_override, write_silence,
};
use crate::spool::Spooled;

/// How long silences that are over are still among what is loaded.
const SILENCES_KEPT: Duration = Duration::from_secs(5 * 24 * 3600);
/// Alerts that are read by one question.
const READ_AT_ONCE: usize = 500;

impl AlertStore for Database {
    fn load(&self) -> Result<AlertSnapshot, StoreError> {
        self.read("load alerts", |db| {
            let groups = read_groups(db)?;
            let mut alerts = active_alerts(db)?;
            let mut known: HashSet<Id> = alerts.iter().map(|alert| alert.id).collect();
            let mut untold: Vec<Id> = groups.iter().flat_map(|group| &group.alerts).copied().collect();
            untold.retain(|id| known.insert(*id));
            for ids in untold.chunks(READ_AT_ONCE) {
                alerts.extend(alerts_by_id(db, ids)?);
            }
            // A store has no clock: what had not ended at the last sign of life may still hold.
            let heartbeat_at = heartbeat_of(db)?;
            let alive_at = heartbeat_at.unwrap_or(Timestamp::from_millis(0));
            Ok(AlertSnapshot {
                alerts,
                clocks: read_clocks(db)?,
                groups,
                silences: silences_that_end_after(db, alive_at - SILENCES_KEPT)?,
                incidents: open_incidents(db)?,
                overrides: overrides_that_end_after(db, alive_at)?,
                heartbeat_at,
            })
        })
    }

    fn commit(&self, commit: &AlertCommit) -> Result<(), StoreError> {
        self.commit_and_settle(commit, &[])
    }

    fn heartbeat(&self, at: Timestamp) -> Result<(), StoreError> {
        self.write_as_leader("note the heartbeat", |db| {
            db.execute(
                "INSERT INTO lifecycle (id, heartbeat_at) VALUES (1, ?1)
                 ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at",
                &binds![at.millis()],
            )?;
            Ok(())
        })
    }

    fn alerts(&self, filter: &AlertFilter) -> Result<Page<Alert>, StoreError> {
        self.read("list alerts", |db| alert_search::search(db, filter))
    }

    fn alert(&self, id: Id) -> Result<Option<Alert>, StoreError> {
        self.read("read an alert", |db| one_alert(db, id))
    }

    fn events(&self, alert: Id) -> Result<Vec<AlertEvent>, StoreError> {
        self.read("read an alert's events", |db| read_events(db, alert))
    }

    fn silences(&self, filter: &SilenceFilter) -> Result<Page<Silence>, StoreError> {
        self.read("list silences", |db| search_silences(db, filter))
    }

    fn silence(&self, id: Id) -> Result<Option<Silence>, StoreError> {
        self.read("read a silence", |db| one_silence(db, id))
    }

    fn incidents(&self, filter: &IncidentFilter) -> Result<Page<Incident>, StoreError> {
        self.read("list incidents", |db| search_incidents(db, filter))
    }

    fn incident(&self, id: Id) -> Result<Option<Incident>, StoreError> {
        self.read("read an incident", |db| one_incident(db, id))
    }

    fn incident_events(&self, incident: Id) -> Result<Vec<IncidentEvent>, StoreError> {
        self.read("read an incident's timeline", |db| {
            read_incident_events(db, incident)
        })
    }

    fn clean(&self, now: Timestamp, keep: Duration) -> Result<u64, StoreError> {
        cleaning::clean(self, now, keep)
    }
}

fn active_alerts(db: &dyn Session) -> Result<Vec<Alert>, StepError> {
    let sql = format!(
        "SELECT {ALERT_COLUMNS} FROM alerts a WHERE a.state = 'pending'
         UNION ALL SELECT {ALERT_COLUMNS} FROM alerts a WHERE a.state = 'firing' ORDER BY 1"
    );
    db.query(&sql, &[])?.iter().map(read_alert).collect()
}

fn one_alert(db: &dyn Session, id: Id) -> Result<Option<Alert>, StepError> {
    let sql = format!("SELECT {ALERT_COLUMNS} FROM alerts a WHERE a.id = ?1");
    let row = db.query_one(&sql, &binds![id_bytes(id)])?;
    row.as_ref().map(read_alert).transpose()
}

impl Database {
    /// Writes a commit, and with it what became of those of its messages that were told while the database was away.
    pub(crate) fn commit_and_settle(&self, commit: &AlertCommit, told: &[Spooled]) -> Result<(), StoreError> {
        if commit.is_empty() {
            return Ok(());
        }
        self.write_as_leader("commit alerts", |db| {
            for alert in &commit.alerts {
                write_alert(db, alert)?;
            }
            for event in &commit.events {
                write_event(db, event)?;
            }
            for id in &commit.dropped_alerts {
                delete_alert(db, *id)?;
            }
            for key in &commit.dropped_clocks {
                delete_clock(db, *key)?;
            }
            for clock in &commit.clocks {
                write_clock(db, clock)?;
            }
            for key in &commit.dropped_groups {
                delete_group(db, key)?;
            }
            for group in &commit.groups {
                write_group(db, group)?;
            }
            for notification in &commit.outbox {
                write_notification(db, notification)?;
            }
            write_arrangements(db, commit)?;
            for spooled in told {
                settle(db, spooled)?;
            }
            kill_point("state.commit.before");
            Ok(())
        })?;
        kill_point("state.commit.after");
        Ok(())
    }
}

/// Gives those of the alerts that are there, the oldest first.
fn alerts_by_id(db: &dyn Session, ids: &[Id]) -> Result<Vec<Alert>, StepError> {
    let marks: Vec<String> = (1..=ids.len()).map(|mark| format!("?{mark}")).collect();
    let values: Vec<Bind<'_>> = ids.iter().map(|id| id_bytes(*id).into()).collect();
    let sql = format!(
        "SELECT {ALERT_COLUMNS} FROM alerts a WHERE a.id IN ({}) ORDER BY 1",
        marks.join(", ")
    );
    db.query(&sql, &values)?.iter().map(read_alert).collect()
}

/// Writes what people arranged, and incidents.
fn write_arrangements(db: &dyn Session, commit: &AlertCommit) -> Result<(), StepError> {
    for silence in &commit.silences {
        write_silence(db, silence)?;
    }
    for incident in &commit.incidents {
        write_incident(db, incident)?;
    }
    for event in &commit.incident_events {
        write_incident_event(db, event)?;
    }
    for id in &commit.dropped_overrides {
        delete_override(db, *id)?;
    }
    for shift in &commit.overrides {
        write_override(db, shift)?;
    }
    Ok(())
}

fn heartbeat_of(db: &dyn Session) -> Result<Option<Timestamp>, StepError> {
    match db.query_one("SELECT heartbeat_at FROM lifecycle WHERE id = 1", &[])? {
        None => Ok(None),
        Some(row) => Columns::named(&row, "heartbeat", "1".to_owned()).optional_time(0),
    }
}

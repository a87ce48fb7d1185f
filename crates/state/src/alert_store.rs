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
use crate::database::{Database, StepError};
use crate::outbox::write_notification;
use crate::row::{Columns, id_bytes};
use crate::session::{Session, binds};

/// Old records are deleted this many at a time, so that a commit of the lifecycle never waits long.
const CLEANED_AT_ONCE: usize = 500;

impl AlertStore for Database {
    fn load(&self) -> Result<AlertSnapshot, StoreError> {
        self.read("load alerts", |db| {
            let groups = read_groups(db)?;
            let mut alerts = active_alerts(db)?;
            let mut known: HashSet<Id> = alerts.iter().map(|alert| alert.id).collect();
            for id in groups.iter().flat_map(|group| &group.alerts) {
                if known.insert(*id) {
                    alerts.extend(one_alert(db, *id)?);
                }
            }
            Ok(AlertSnapshot {
                alerts,
                clocks: read_clocks(db)?,
                groups,
                heartbeat_at: heartbeat_of(db)?,
                ..AlertSnapshot::default()
            })
        })
    }

    fn commit(&self, commit: &AlertCommit) -> Result<(), StoreError> {
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
            kill_point("state.commit.before");
            Ok(())
        })?;
        kill_point("state.commit.after");
        Ok(())
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

    fn silences(&self, _filter: &SilenceFilter) -> Result<Page<Silence>, StoreError> {
        Err(unkept("list silences"))
    }

    fn silence(&self, _id: Id) -> Result<Option<Silence>, StoreError> {
        Err(unkept("read a silence"))
    }

    fn incidents(&self, _filter: &IncidentFilter) -> Result<Page<Incident>, StoreError> {
        Err(unkept("list incidents"))
    }

    fn incident(&self, _id: Id) -> Result<Option<Incident>, StoreError> {
        Err(unkept("read an incident"))
    }

    fn incident_events(&self, _incident: Id) -> Result<Vec<IncidentEvent>, StoreError> {
        Err(unkept("read an incident's timeline"))
    }

    fn clean(&self, now: Timestamp, keep: Duration) -> Result<u64, StoreError> {
        let before = now - keep;
        let mut deleted = 0;
        let mut passed = Passed::default();
        while !passed.is_end {
            deleted += self.write_as_leader("clean alerts", |db| clean_alerts(db, before, &mut passed))?;
        }
        while self.write_as_leader("clean notifications", |db| clean_notifications(db, before))? > 0 {}
        Ok(deleted)
    }
}

/// The schema has no room for these yet.
fn unkept(operation: &'static str) -> StoreError {
    StoreError::Database {
        operation,
        reason: "the schema has no room for it".to_owned(),
    }
}

/// How far a cleaning has come, so that alerts which stay are looked at once.
struct Passed {
    resolved_at: Timestamp,
    id: Id,
    is_end: bool,
}

impl Default for Passed {
    fn default() -> Self {
        Passed {
            resolved_at: Timestamp::from_millis(i64::MIN),
            id: Id::from_u128(0),
            is_end: false,
        }
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

fn heartbeat_of(db: &dyn Session) -> Result<Option<Timestamp>, StepError> {
    match db.query_one("SELECT heartbeat_at FROM lifecycle WHERE id = 1", &[])? {
        None => Ok(None),
        Some(row) => Columns::named(&row, "heartbeat", "1".to_owned()).optional_time(0),
    }
}

/// Deletes a batch of alerts that ended long ago, unless a group still has their end to tell; gives their number.
fn clean_alerts(db: &dyn Session, before: Timestamp, passed: &mut Passed) -> Result<u64, StepError> {
    let rows = db.query(
        "SELECT a.id, a.resolved_at FROM alerts a
         WHERE a.resolved_at < ?1 AND (a.resolved_at, a.id) > (?2, ?3)
         ORDER BY a.resolved_at, a.id LIMIT ?4",
        &binds![
            before.millis(),
            passed.resolved_at.millis(),
            id_bytes(passed.id),
            CLEANED_AT_ONCE
        ],
    )?;
    passed.is_end = rows.len() < CLEANED_AT_ONCE;
    if rows.is_empty() {
        return Ok(0);
    }
    let held: HashSet<Id> = read_groups(db)?
        .into_iter()
        .flat_map(|group| group.alerts)
        .collect();
    let mut deleted = 0;
    for row in &rows {
        let (columns, id) = Columns::with_id(row, "alert")?;
        (passed.resolved_at, passed.id) = (columns.time(1)?, id);
        if !held.contains(&id) {
            delete_alert(db, id)?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// Deletes a batch of notifications that were settled long ago, with their attempts.
fn clean_notifications(db: &dyn Session, before: Timestamp) -> Result<u64, StepError> {
    db.execute(
        "DELETE FROM notifications WHERE seq IN
             (SELECT seq FROM notifications WHERE settled_at < ?1 ORDER BY settled_at LIMIT ?2)",
        &binds![before.millis(), CLEANED_AT_ONCE],
    )
}

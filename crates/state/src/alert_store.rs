//! The port of the lifecycle: a tick's changes in one transaction, and everything alive for the start.

use std::collections::HashSet;
use std::time::Duration;

use marketprism_model::kill_point::kill_point;
use marketprism_model::{
    Alert, AlertCommit, AlertEvent, AlertFilter, AlertSnapshot, AlertStore, Id, Page, StoreError, Timestamp,
};
use rusqlite::Connection;

use crate::alert_rows::{
    ALERT_COLUMNS, delete_alert, delete_clock, delete_group, read_alert, read_clocks, read_events,
    read_groups, write_alert, write_clock, write_event, write_group,
};
use crate::alert_search;
use crate::database::{Database, StepError};
use crate::outbox::write_notification;
use crate::row::{Columns, id_bytes};

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
            })
        })
    }

    fn commit(&self, commit: &AlertCommit) -> Result<(), StoreError> {
        if commit.is_empty() {
            return Ok(());
        }
        self.write("commit alerts", |db| {
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
        self.write("note the heartbeat", |db| {
            db.prepare_cached(
                "INSERT INTO lifecycle (id, heartbeat_at) VALUES (1, ?1)
                 ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at",
            )?
            .execute([at.millis()])?;
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

    fn clean(&self, now: Timestamp, keep: Duration) -> Result<u64, StoreError> {
        let before = now - keep;
        let mut deleted = 0;
        loop {
            let batch = self.write("clean alerts", |db| clean_alerts(db, before))?;
            deleted += batch as u64;
            if batch == 0 {
                break;
            }
        }
        while self.write("clean notifications", |db| clean_notifications(db, before))? > 0 {}
        Ok(deleted)
    }
}

fn active_alerts(db: &Connection) -> Result<Vec<Alert>, StepError> {
    let sql = format!(
        "SELECT {ALERT_COLUMNS} FROM alerts a WHERE a.state = 'pending'
         UNION ALL SELECT {ALERT_COLUMNS} FROM alerts a WHERE a.state = 'firing' ORDER BY 1"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut alerts = Vec::new();
    while let Some(row) = rows.next()? {
        alerts.push(read_alert(row)?);
    }
    Ok(alerts)
}

fn one_alert(db: &Connection, id: Id) -> Result<Option<Alert>, StepError> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {ALERT_COLUMNS} FROM alerts a WHERE a.id = ?1"))?;
    let mut rows = statement.query([id_bytes(id)])?;
    rows.next()?.map(read_alert).transpose()
}

fn heartbeat_of(db: &Connection) -> Result<Option<Timestamp>, StepError> {
    let mut statement = db.prepare_cached("SELECT heartbeat_at FROM lifecycle WHERE id = 1")?;
    let mut rows = statement.query([])?;
    match rows.next()? {
        None => Ok(None),
        Some(row) => Columns::named(row, "heartbeat", "1".to_owned()).optional_time(0),
    }
}

/// Deletes a batch of alerts that ended long ago, unless a group still has their end to tell.
fn clean_alerts(db: &Connection, before: Timestamp) -> Result<usize, StepError> {
    let old: Vec<Id> = {
        let mut statement = db.prepare_cached(
            "SELECT a.id FROM alerts a WHERE a.resolved_at < ?1 AND a.id NOT IN
                 (SELECT unhex(replace(j.value, '-', '')) FROM alert_groups g, json_each(g.alerts) j)
             ORDER BY a.resolved_at LIMIT ?2",
        )?;
        let mut rows = statement.query((before.millis(), CLEANED_AT_ONCE as i64))?;
        let mut old = Vec::new();
        while let Some(row) = rows.next()? {
            old.push(Columns::with_id(row, "alert")?.1);
        }
        old
    };
    for id in &old {
        delete_alert(db, *id)?;
    }
    Ok(old.len())
}

/// Deletes a batch of notifications that were settled long ago, with their attempts.
fn clean_notifications(db: &Connection, before: Timestamp) -> Result<usize, StepError> {
    Ok(db
        .prepare_cached(
            "DELETE FROM notifications WHERE seq IN
                 (SELECT seq FROM notifications WHERE settled_at < ?1 ORDER BY settled_at LIMIT ?2)",
        )?
        .execute((before.millis(), CLEANED_AT_ONCE as i64))?)
}

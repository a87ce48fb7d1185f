//! Deletes what ended long ago, a batch at a time, so that a commit of the lifecycle never waits long.
//!
//! What still has something to tell stays: an alert that a group holds, and an incident that is open.

use std::collections::HashSet;
use std::time::Duration;

use marketprism_model::{Id, StoreError, Timestamp};

use crate::alert_rows::{delete_alert, read_groups};
use crate::database::{Database, StepError};
use crate::row::{Columns, id_bytes};
use crate::session::{Session, binds};

/// Old records are deleted this many at a time.
const CLEANED_AT_ONCE: usize = 500;

/// What is deleted by a moment: an operation's name, the table, the moment's column, what else must hold.
const BY_MOMENT: [(&str, &str, &str, &str); 4] = [
    ("clean notifications", "notifications", "settled_at", ""),
    ("clean silences", "silences", "ends_at", ""),
    // One that began again may still know its former end.
    (
        "clean incidents",
        "incidents",
        "resolved_at",
        " AND state = 'resolved'",
    ),
    ("clean shift overrides", "shift_overrides", "ends_at", ""),
];

/// Deletes what ended before `now - keep`; gives the number of alerts among it.
pub(crate) fn clean(database: &Database, now: Timestamp, keep: Duration) -> Result<u64, StoreError> {
    let before = now - keep;
    let mut deleted = 0;
    let mut passed = Passed::default();
    while !passed.is_end {
        deleted += database.write_as_leader("clean alerts", |db| clean_alerts(db, before, &mut passed))?;
    }
    for (operation, table, column, and) in BY_MOMENT {
        let sql = format!(
            "DELETE FROM {table} WHERE id IN
                 (SELECT id FROM {table} WHERE {column} < ?1{and} ORDER BY {column} LIMIT ?2)"
        );
        let values = binds![before.millis(), CLEANED_AT_ONCE];
        while database.write_as_leader(operation, |db| db.execute(&sql, &values))? > 0 {}
    }
    Ok(deleted)
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

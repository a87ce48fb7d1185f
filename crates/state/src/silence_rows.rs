//! The rows of what people arrange by hand: silences, and overrides of schedules.
//!
//! A silence's state follows from its times, so none is stored; lists ask by the moment that the filter brings.

use marketprism_model::{Id, Page, ShiftOverride, Silence, SilenceFilter, SilenceState, Timestamp};

use crate::database::StepError;
use crate::row::{Columns, id_bytes, json, parse_cursor};
use crate::session::{Row, Session, binds};

/// Pages are at most this long.
const LIMIT_MAX: usize = 1000;

/// The columns of a silence, in the order that [`read_silence`] expects; `s` is the table.
const SILENCE_COLUMNS: &str = "s.id, s.matchers, s.starts_at, s.ends_at, s.updated_at, s.created_by, \
     s.comment, s.recurs, s.is_until_resolved";

/// Writes a silence as it stands now.
pub(crate) fn write_silence(db: &dyn Session, silence: &Silence) -> Result<(), StepError> {
    db.execute_later(
        "INSERT INTO silences (id, matchers, starts_at, ends_at, updated_at, created_by, comment, recurs,
             is_until_resolved)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id) DO UPDATE SET matchers = excluded.matchers, starts_at = excluded.starts_at,
             ends_at = excluded.ends_at, updated_at = excluded.updated_at, created_by = excluded.created_by,
             comment = excluded.comment, recurs = excluded.recurs,
             is_until_resolved = excluded.is_until_resolved",
        &binds![
            id_bytes(silence.id),
            json(&silence.matchers)?,
            silence.starts_at.millis(),
            silence.ends_at.millis(),
            silence.updated_at.millis(),
            &silence.created_by,
            &silence.comment,
            json(&silence.recurs)?,
            silence.is_until_resolved,
        ],
    )
}

fn read_silence(row: &Row) -> Result<Silence, StepError> {
    let (columns, id) = Columns::with_id(row, "silence")?;
    Ok(Silence {
        id,
        matchers: columns.json(1)?,
        starts_at: columns.time(2)?,
        ends_at: columns.time(3)?,
        updated_at: columns.time(4)?,
        created_by: columns.text(5)?,
        comment: columns.text(6)?,
        recurs: columns.json(7)?,
        is_until_resolved: columns.flag(8)?,
    })
}

/// Gives one silence.
pub(crate) fn one_silence(db: &dyn Session, id: Id) -> Result<Option<Silence>, StepError> {
    let sql = format!("SELECT {SILENCE_COLUMNS} FROM silences s WHERE s.id = ?1");
    let row = db.query_one(&sql, &binds![id_bytes(id)])?;
    row.as_ref().map(read_silence).transpose()
}

/// Gives the silences that end after a moment, the oldest first.
pub(crate) fn silences_that_end_after(db: &dyn Session, at: Timestamp) -> Result<Vec<Silence>, StepError> {
    let sql = format!("SELECT {SILENCE_COLUMNS} FROM silences s WHERE s.ends_at > ?1 ORDER BY s.id");
    let rows = db.query(&sql, &binds![at.millis()])?;
    rows.iter().map(read_silence).collect()
}

/// Gives one page of silences, newest first. Those that are not over are few, so that they are found by their end;
/// the others by their identifiers.
pub(crate) fn search_silences(db: &dyn Session, filter: &SilenceFilter) -> Result<Page<Silence>, StepError> {
    let limit = filter.limit.clamp(1, LIMIT_MAX);
    let mut values = binds![filter.now.millis()].to_vec();
    let mut condition = String::new();
    if let Some(before) = filter.cursor.as_deref().map(parse_cursor::<Id>).transpose()? {
        values.push(id_bytes(before).into());
        condition.push_str(" AND s.id < ?2");
    }
    let is_wanted = |state| filter.states.is_empty() || filter.states.contains(&state);
    let mut states = Vec::new();
    if is_wanted(SilenceState::Pending) {
        states.push("(s.ends_at > ?1 AND s.starts_at > ?1)");
    }
    if is_wanted(SilenceState::Active) {
        states.push("(s.ends_at > ?1 AND s.starts_at <= ?1)");
    }
    let source = if is_wanted(SilenceState::Expired) {
        states.push("(s.ends_at <= ?1)");
        "silences s"
    } else {
        // Read on its own, so that no engine walks through years of what is over.
        "(SELECT * FROM silences WHERE ends_at > ?1 ORDER BY ends_at LIMIT 1000000) s"
    };
    let sql = format!(
        "SELECT {SILENCE_COLUMNS} FROM {source} WHERE ({}){condition} ORDER BY s.id DESC LIMIT {}",
        states.join(" OR "),
        limit + 1
    );
    let rows = db.query(&sql, &values)?;
    let mut items = rows.iter().map(read_silence).collect::<Result<Vec<_>, _>>()?;
    let has_more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| has_more);
    Ok(Page {
        next_cursor: last.map(|silence| silence.id.to_string()),
        items,
    })
}

/// Writes an override as it stands now.
pub(crate) fn write_override(db: &dyn Session, shift: &ShiftOverride) -> Result<(), StepError> {
    db.execute_later(
        "INSERT INTO shift_overrides (id, schedule, receiver, starts_at, ends_at, created_by, created_at, comment)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET schedule = excluded.schedule, receiver = excluded.receiver,
             starts_at = excluded.starts_at, ends_at = excluded.ends_at, created_by = excluded.created_by,
             created_at = excluded.created_at, comment = excluded.comment",
        &binds![
            id_bytes(shift.id),
            &shift.schedule,
            &shift.receiver,
            shift.starts_at.millis(),
            shift.ends_at.millis(),
            &shift.created_by,
            shift.created_at.millis(),
            &shift.comment,
        ],
    )
}

/// Deletes an override; what is absent already is fine.
pub(crate) fn delete_override(db: &dyn Session, id: Id) -> Result<(), StepError> {
    db.execute_later("DELETE FROM shift_overrides WHERE id = ?1", &binds![id_bytes(id)])
}

/// Gives the overrides that end after a moment, the oldest first.
pub(crate) fn overrides_that_end_after(
    db: &dyn Session,
    at: Timestamp,
) -> Result<Vec<ShiftOverride>, StepError> {
    let rows = db.query(
        "SELECT id, schedule, receiver, starts_at, ends_at, created_by, created_at, comment
         FROM shift_overrides WHERE ends_at > ?1 ORDER BY id",
        &binds![at.millis()],
    )?;
    let mut overrides = Vec::with_capacity(rows.len());
    for row in &rows {
        let (columns, id) = Columns::with_id(row, "shift override")?;
        overrides.push(ShiftOverride {
            id,
            schedule: columns.text(1)?,
            receiver: columns.text(2)?,
            starts_at: columns.time(3)?,
            ends_at: columns.time(4)?,
            created_by: columns.text(5)?,
            created_at: columns.time(6)?,
            comment: columns.text(7)?,
        });
    }
    Ok(overrides)
}

//! The rows of alerts, events, clocks and groups: one function writes a noun, one reads it back.

use std::hash::Hasher;

use marketprism_model::labels::SEVERITY;
use marketprism_model::records::{GroupRecord, ToldRecord};
use marketprism_model::rule::Fnv1a;
use marketprism_model::{Alert, AlertEvent, AlertEventKind, ClockRecord, Id, Labels, RuleId};

use crate::database::StepError;
use crate::row::{Columns, float, hash_bits, id_bytes, json, millis};
use crate::session::{Bind, Row, Session, binds};

/// The columns of an alert, in the order that [`read_alert`] expects; `a` is the table.
pub(crate) const ALERT_COLUMNS: &str = "a.id, a.state, a.level, a.has_levels, a.value, a.active_at, \
     a.fired_at, a.resolved_at, a.updated_at, a.group_name, a.expr, a.labels, a.annotations, a.rules, \
     a.acknowledged, a.suppressed, a.assigned, a.external, a.incident, a.flaps";

/// As much of a severity, or of a name, as its index knows.
const INDEXED_BYTES_MAX: usize = 200;

/// Gives the hash that `alert_labels` knows a label by.
pub(crate) fn pair_hash(name: &str, value: &str) -> i64 {
    let mut hash = Fnv1a::default();
    hash.write(name.as_bytes());
    hash.write(&[0xff]);
    hash.write(value.as_bytes());
    hash_bits(hash.finish())
}

/// Gives a severity, or an assignee's name, as its column has it: an index takes no text without end.
pub(crate) fn index_key(text: &str) -> &str {
    &text[..text.floor_char_boundary(INDEXED_BYTES_MAX)]
}

/// Writes an alert as it stands now, and its labels when it is new.
pub(crate) fn write_alert(db: &dyn Session, alert: &Alert) -> Result<(), StepError> {
    let id = id_bytes(alert.id);
    // The severity that is sent, so that a filter finds what people see.
    let severity = if alert.has_levels {
        alert.level.as_str()
    } else {
        alert.labels.get(SEVERITY).unwrap_or("")
    };
    let assigned_to = alert.assigned.as_ref().map(|assigned| index_key(&assigned.to));
    db.execute_later(
        "INSERT INTO alerts (id, fingerprint, name, severity, state, level, has_levels, value, active_at,
             fired_at, resolved_at, updated_at, group_name, expr, labels, annotations, rules, acknowledged,
             suppressed, category, assigned, assigned_to, external, incident, flaps)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
             ?23, ?24, ?25)
         ON CONFLICT (id) DO UPDATE SET severity = excluded.severity, state = excluded.state,
             level = excluded.level, has_levels = excluded.has_levels, value = excluded.value,
             active_at = excluded.active_at, fired_at = excluded.fired_at,
             resolved_at = excluded.resolved_at, updated_at = excluded.updated_at,
             group_name = excluded.group_name, expr = excluded.expr, annotations = excluded.annotations,
             rules = excluded.rules, acknowledged = excluded.acknowledged, suppressed = excluded.suppressed,
             assigned = excluded.assigned, assigned_to = excluded.assigned_to, external = excluded.external,
             incident = excluded.incident, flaps = excluded.flaps",
        &binds![
            id,
            hash_bits(alert.fingerprint()),
            alert.name(),
            index_key(severity),
            alert.state.as_str(),
            alert.level.as_str(),
            alert.has_levels,
            float(alert.value),
            alert.active_at.millis(),
            millis(alert.fired_at),
            millis(alert.resolved_at),
            alert.updated_at.millis(),
            &alert.group,
            &alert.expr,
            json(&alert.labels)?,
            json(&alert.annotations)?,
            json(&alert.rules)?,
            alert.acknowledged.as_ref().map(json).transpose()?,
            json(&alert.suppressed_by)?,
            alert.category().as_str(),
            alert.assigned.as_ref().map(json).transpose()?,
            assigned_to,
            alert.external.as_ref().map(json).transpose()?,
            alert.incident.map(id_bytes),
            alert.flaps,
        ],
    )?;
    db.execute_many(
        "INSERT INTO alert_labels (pair, alert) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        &pairs_of(&alert.labels, id),
    )
}

/// Gives the key of each label's row.
fn pairs_of(labels: &Labels, id: [u8; 16]) -> Vec<Vec<Bind<'static>>> {
    let pair = |(name, value)| binds![pair_hash(name, value), id].to_vec();
    labels.into_iter().map(pair).collect()
}

/// Reads a row of [`ALERT_COLUMNS`].
pub(crate) fn read_alert(row: &Row) -> Result<Alert, StepError> {
    let (columns, id) = Columns::with_id(row, "alert")?;
    Ok(Alert {
        id,
        state: columns.word(1)?,
        level: columns.word(2)?,
        has_levels: columns.flag(3)?,
        value: columns.float(4)?,
        active_at: columns.time(5)?,
        fired_at: columns.optional_time(6)?,
        resolved_at: columns.optional_time(7)?,
        updated_at: columns.time(8)?,
        group: columns.text(9)?,
        expr: columns.text(10)?,
        labels: columns.json(11)?,
        annotations: columns.json(12)?,
        rules: columns.json(13)?,
        acknowledged: columns.optional_json(14)?,
        suppressed_by: columns.json(15)?,
        assigned: columns.optional_json(16)?,
        external: columns.optional_json(17)?,
        incident: columns.optional_id(18)?,
        flaps: columns.count(19)?,
    })
}

/// Deletes an alert with its labels and events; what is absent already is fine.
pub(crate) fn delete_alert(db: &dyn Session, id: Id) -> Result<(), StepError> {
    let bytes = id_bytes(id);
    let Some(row) = db.query_one("SELECT id, labels FROM alerts WHERE id = ?1", &binds![bytes])? else {
        return Ok(());
    };
    let labels: Labels = Columns::with_id(&row, "alert")?.0.json(1)?;
    db.execute_many(
        "DELETE FROM alert_labels WHERE pair = ?1 AND alert = ?2",
        &pairs_of(&labels, bytes),
    )?;
    db.execute_later("DELETE FROM alerts WHERE id = ?1", &binds![bytes])
}

/// Writes an event once, however often it is given; an event of an alert that is gone is left out.
pub(crate) fn write_event(db: &dyn Session, event: &AlertEvent) -> Result<(), StepError> {
    db.execute_later(
        "INSERT INTO alert_events (id, alert, at, actor, kind)
         SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM alerts WHERE id = ?2)
         ON CONFLICT (id) DO NOTHING",
        &binds![
            id_bytes(event.id),
            id_bytes(event.alert),
            event.at.millis(),
            event.actor.as_ref(),
            json(&event.kind)?,
        ],
    )
}

/// Reads the story of an alert, in the order in which it was written.
pub(crate) fn read_events(db: &dyn Session, alert: Id) -> Result<Vec<AlertEvent>, StepError> {
    let rows = db.query(
        "SELECT id, at, actor, kind FROM alert_events WHERE alert = ?1 ORDER BY seq",
        &binds![id_bytes(alert)],
    )?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let (columns, id) = Columns::with_id(row, "alert event")?;
        events.push(AlertEvent {
            id,
            alert,
            at: columns.time(1)?,
            actor: columns.optional_text(2)?,
            kind: columns.json::<AlertEventKind>(3)?,
        });
    }
    Ok(events)
}

/// Writes a clock as it stands now.
pub(crate) fn write_clock(db: &dyn Session, clock: &ClockRecord) -> Result<(), StepError> {
    db.execute_later(
        "INSERT INTO alert_clocks (rule, fingerprint, condition, active_at, fired_at, seen_at, missed_since,
             set_aside_at, level, unknown_since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (rule, fingerprint, condition) DO UPDATE SET active_at = excluded.active_at,
             fired_at = excluded.fired_at, seen_at = excluded.seen_at,
             missed_since = excluded.missed_since, set_aside_at = excluded.set_aside_at,
             level = excluded.level, unknown_since = excluded.unknown_since",
        &binds![
            hash_bits(clock.rule.0),
            hash_bits(clock.fingerprint),
            clock.condition,
            clock.active_at.millis(),
            millis(clock.fired_at),
            clock.seen_at.millis(),
            millis(clock.missed_since),
            millis(clock.set_aside_at),
            clock.level.as_str(),
            millis(clock.unknown_since),
        ],
    )
}

/// Deletes a clock; what is absent already is fine.
pub(crate) fn delete_clock(db: &dyn Session, key: (RuleId, u64, u32)) -> Result<(), StepError> {
    db.execute_later(
        "DELETE FROM alert_clocks WHERE rule = ?1 AND fingerprint = ?2 AND condition = ?3",
        &binds![hash_bits(key.0.0), hash_bits(key.1), key.2],
    )
}

/// Reads all clocks.
pub(crate) fn read_clocks(db: &dyn Session) -> Result<Vec<ClockRecord>, StepError> {
    let rows = db.query(
        "SELECT rule, fingerprint, condition, active_at, fired_at, seen_at, missed_since, set_aside_at,
             level, unknown_since
         FROM alert_clocks
         ORDER BY rule, fingerprint, condition",
        &[],
    )?;
    let mut clocks = Vec::with_capacity(rows.len());
    for row in &rows {
        let rule = Columns::named(row, "alert clock", String::new()).hash(0)?;
        let columns = Columns::named(row, "alert clock", RuleId(rule).to_string());
        clocks.push(ClockRecord {
            rule: RuleId(columns.hash(0)?),
            fingerprint: columns.hash(1)?,
            condition: columns.count(2)?,
            active_at: columns.time(3)?,
            fired_at: columns.optional_time(4)?,
            seen_at: columns.time(5)?,
            missed_since: columns.optional_time(6)?,
            set_aside_at: columns.optional_time(7)?,
            level: columns.word(8)?,
            unknown_since: columns.optional_time(9)?,
        });
    }
    Ok(clocks)
}

/// Writes a group as it stands now. Its key has no index that an upsert could use on every engine, for it has no end.
pub(crate) fn write_group(db: &dyn Session, group: &GroupRecord) -> Result<(), StepError> {
    delete_group(db, &group.key)?;
    let values = binds![
        &group.key,
        json(&group.labels)?,
        &group.receiver,
        group.flush_at.millis(),
        group.is_flushed,
        json(&group.alerts)?,
        json(&group.told)?,
        group.escalation.as_ref().map(json).transpose()?,
    ];
    db.execute_later(
        "INSERT INTO alert_groups (key, labels, receiver, flush_at, is_flushed, alerts, told, escalation)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &values,
    )
}

/// Deletes a group; what is absent already is fine.
pub(crate) fn delete_group(db: &dyn Session, key: &str) -> Result<(), StepError> {
    db.execute_later("DELETE FROM alert_groups WHERE key = ?1", &binds![key])
}

/// Reads all groups.
pub(crate) fn read_groups(db: &dyn Session) -> Result<Vec<GroupRecord>, StepError> {
    let rows = db.query(
        "SELECT key, labels, receiver, flush_at, is_flushed, alerts, told, escalation FROM alert_groups
         ORDER BY key",
        &[],
    )?;
    let mut groups = Vec::with_capacity(rows.len());
    for row in &rows {
        let key = Columns::named(row, "alert group", String::new()).text(0)?;
        let columns = Columns::named(row, "alert group", key.clone());
        groups.push(GroupRecord {
            key,
            labels: columns.json(1)?,
            receiver: columns.text(2)?,
            flush_at: columns.time(3)?,
            is_flushed: columns.flag(4)?,
            alerts: columns.json::<Vec<Id>>(5)?,
            told: columns.json::<Vec<ToldRecord>>(6)?,
            escalation: columns.optional_json(7)?,
        });
    }
    Ok(groups)
}

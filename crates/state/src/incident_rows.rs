//! The rows of incidents and of their timelines, and the list of incidents.
//!
//! A list works as that of alerts: what few have (an owner, a beginning within a span) is gathered, else each combination
//! of state and level is a walk of its own.

use marketprism_model::{
    Id, Incident, IncidentEvent, IncidentEventKind, IncidentFilter, IncidentState, Level, Page,
};

use crate::alert_rows::index_key;
use crate::alert_search::{COMMON, each, merged};
use crate::database::StepError;
use crate::row::{Columns, count, id_bytes, json, millis, parse_cursor};
use crate::session::{Bind, Row, Session, binds};

/// Pages are at most this long.
const LIMIT_MAX: usize = 1000;

/// The columns of an incident, in the order that [`read_incident`] expects; `i` is the table.
const COLUMNS: &str = "i.id, i.title, i.state, i.level, i.opened_at, i.resolved_at, i.updated_at, i.owner, \
     i.labels, i.alerts, i.hints, i.is_renamed, i.is_held_open, i.moved_at";

/// Writes an incident as it stands now.
pub(crate) fn write_incident(db: &dyn Session, incident: &Incident) -> Result<(), StepError> {
    db.execute_later(
        "INSERT INTO incidents (id, title, state, level, opened_at, resolved_at, updated_at, owner, labels,
             alerts, hints, is_renamed, is_held_open, moved_at, owner_key, alert_count)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
         ON CONFLICT (id) DO UPDATE SET title = excluded.title, state = excluded.state,
             level = excluded.level, opened_at = excluded.opened_at, resolved_at = excluded.resolved_at,
             updated_at = excluded.updated_at, owner = excluded.owner, labels = excluded.labels,
             alerts = excluded.alerts, hints = excluded.hints, is_renamed = excluded.is_renamed,
             is_held_open = excluded.is_held_open, moved_at = excluded.moved_at, owner_key = excluded.owner_key,
             alert_count = excluded.alert_count",
        &binds![
            id_bytes(incident.id),
            &incident.title,
            incident.state.as_str(),
            incident.level.as_str(),
            incident.opened_at.millis(),
            millis(incident.resolved_at),
            incident.updated_at.millis(),
            incident.owner.as_ref(),
            json(&incident.labels)?,
            json(&incident.alerts)?,
            json(&incident.hints)?,
            incident.is_renamed,
            incident.is_held_open,
            incident.moved_at.millis(),
            incident.owner.as_deref().map(index_key),
            incident.alerts.len(),
        ],
    )
}

fn read_incident(row: &Row) -> Result<Incident, StepError> {
    let (columns, id) = Columns::with_id(row, "incident")?;
    Ok(Incident {
        id,
        title: columns.text(1)?,
        state: columns.word(2)?,
        level: columns.word(3)?,
        opened_at: columns.time(4)?,
        resolved_at: columns.optional_time(5)?,
        updated_at: columns.time(6)?,
        owner: columns.optional_text(7)?,
        labels: columns.json(8)?,
        alerts: columns.json(9)?,
        hints: columns.json(10)?,
        is_renamed: columns.flag(11)?,
        is_held_open: columns.flag(12)?,
        moved_at: columns.time(13)?,
    })
}

/// Gives one incident.
pub(crate) fn one_incident(db: &dyn Session, id: Id) -> Result<Option<Incident>, StepError> {
    let sql = format!("SELECT {COLUMNS} FROM incidents i WHERE i.id = ?1");
    let row = db.query_one(&sql, &binds![id_bytes(id)])?;
    row.as_ref().map(read_incident).transpose()
}

/// Gives the incidents that are open, the oldest first.
pub(crate) fn open_incidents(db: &dyn Session) -> Result<Vec<Incident>, StepError> {
    let sql = format!("SELECT {COLUMNS} FROM incidents i WHERE i.state = 'open' ORDER BY i.id");
    db.query(&sql, &[])?.iter().map(read_incident).collect()
}

/// Gives one page of incidents, newest first.
pub(crate) fn search_incidents(
    db: &dyn Session,
    filter: &IncidentFilter,
) -> Result<Page<Incident>, StepError> {
    let limit = filter.limit.clamp(1, LIMIT_MAX);
    let query = Query::new(filter)?;
    let sql = match query.few(db)? {
        Some(property) => query.gathered(&property, filter, limit + 1),
        None => query.combined(filter, limit + 1),
    };
    let rows = db.query(&sql, &query.values)?;
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        items.push(read_incident(row)?);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| has_more);
    Ok(Page {
        next_cursor: last.map(|incident| incident.id.to_string()),
        items,
    })
}

/// SQL under construction: the values in the order of their marks.
struct Query {
    values: Vec<Bind<'static>>,
    /// What every row must have, of the table `i`.
    conditions: Vec<String>,
    /// Those of them that an index of their own knows.
    properties: Vec<String>,
}

impl Query {
    fn new(filter: &IncidentFilter) -> Result<Self, StepError> {
        let mut query = Query {
            values: Vec::new(),
            conditions: Vec::new(),
            properties: Vec::new(),
        };
        let mut times = Vec::new();
        if let Some(since) = filter.since {
            times.push(query.condition("i.opened_at >=", since.millis().into()));
        }
        if let Some(until) = filter.until {
            times.push(query.condition("i.opened_at <", until.millis().into()));
        }
        if !times.is_empty() {
            query.properties.push(times.join(" AND "));
        }
        if let Some(owner) = &filter.owner {
            let key = query.condition("i.owner_key =", index_key(owner).to_owned().into());
            query.properties.push(key);
            query.condition("i.owner =", owner.clone().into());
        }
        if let Some(before) = filter.cursor.as_deref().map(parse_cursor::<Id>).transpose()? {
            query.condition("i.id <", id_bytes(before).into());
        }
        if filter.alerts_min >= 2 {
            // Literally, so that the index of these is found.
            query.conditions.push("i.alert_count >= 2".to_owned());
        }
        if filter.alerts_min > 0 && filter.alerts_min != 2 {
            query.condition("i.alert_count >=", filter.alerts_min.into());
        }
        Ok(query)
    }

    fn condition(&mut self, text: &str, value: Bind<'static>) -> String {
        self.values.push(value);
        let condition = format!("{text} ?{}", self.values.len());
        self.conditions.push(condition.clone());
        condition
    }

    /// Gives a property that few incidents have, if there is one.
    fn few(&self, db: &dyn Session) -> Result<Option<String>, StepError> {
        for property in &self.properties {
            // Each statement takes all values, whose types its marks say; so it names them all.
            let sql = format!(
                "SELECT count(*) FROM (SELECT 1 FROM incidents i WHERE {property} LIMIT {COMMON}) AS counted"
            );
            let (sql, values) = renumbered(&sql, &self.values);
            if count(db, &sql, &values)? < COMMON {
                return Ok(Some(property.clone()));
            }
        }
        Ok(None)
    }

    /// Gathers the few that have a property and tries the rest on them.
    fn gathered(&self, property: &str, filter: &IncidentFilter, limit: usize) -> String {
        let mut residue = self.conditions.clone();
        residue.extend(one_of(
            "i.state",
            filter.states.iter().map(|state| state.as_str()),
        ));
        residue.extend(one_of(
            "i.level",
            filter.levels.iter().map(|level| level.as_str()),
        ));
        format!(
            "WITH few AS MATERIALIZED (SELECT i.id AS id FROM incidents i WHERE {property} LIMIT {COMMON})
             SELECT {COLUMNS} FROM few CROSS JOIN incidents i WHERE i.id = few.id AND {}
             ORDER BY i.id DESC LIMIT {limit}",
            residue.join(" AND ")
        )
    }

    /// Merges one walk for each wanted combination of state and level.
    fn combined(&self, filter: &IncidentFilter, limit: usize) -> String {
        let residue: String = self
            .conditions
            .iter()
            .map(|condition| format!(" AND {condition}"))
            .collect();
        let mut arms = Vec::new();
        for state in each(&filter.states, &[IncidentState::Open, IncidentState::Resolved]) {
            for level in each(&filter.levels, &Level::ALL) {
                arms.push(format!(
                    "SELECT {COLUMNS} FROM incidents i WHERE i.state = '{state}' AND i.level = '{level}'{residue}
                     ORDER BY i.id DESC LIMIT {limit}"
                ));
            }
        }
        merged(&arms, 1, limit)
    }
}

/// Gives a statement that has some of the values' marks with those values alone, in its own numbers.
fn renumbered(sql: &str, values: &[Bind<'static>]) -> (String, Vec<Bind<'static>>) {
    let (mut text, mut own) = (String::with_capacity(sql.len()), Vec::new());
    let mut parts = sql.split('?');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let mark: usize = part[..digits].parse().unwrap_or(1);
        own.extend(values.get(mark - 1).cloned());
        text.push_str(&format!("?{}{}", own.len(), &part[digits..]));
    }
    (text, own)
}

/// Writes that a column has one of the words, which are the program's own; nothing when there are none.
fn one_of(column: &str, words: impl Iterator<Item = &'static str>) -> Option<String> {
    let list: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    (!list.is_empty()).then(|| format!("{column} IN ({})", list.join(", ")))
}

/// Writes a line of a timeline once, however often it is given; one of an incident that is gone is left out.
pub(crate) fn write_incident_event(db: &dyn Session, event: &IncidentEvent) -> Result<(), StepError> {
    db.execute_later(
        "INSERT INTO incident_events (id, incident, at, actor, kind)
         SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM incidents WHERE id = ?2)
         ON CONFLICT (id) DO NOTHING",
        &binds![
            id_bytes(event.id),
            id_bytes(event.incident),
            event.at.millis(),
            event.actor.as_ref(),
            json(&event.kind)?,
        ],
    )
}

/// Reads the timeline of an incident, in the order in which it was written.
pub(crate) fn read_incident_events(db: &dyn Session, incident: Id) -> Result<Vec<IncidentEvent>, StepError> {
    let rows = db.query(
        "SELECT id, at, actor, kind FROM incident_events WHERE incident = ?1 ORDER BY seq",
        &binds![id_bytes(incident)],
    )?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let (columns, id) = Columns::with_id(row, "incident event")?;
        events.push(IncidentEvent {
            id,
            incident,
            at: columns.time(1)?,
            actor: columns.optional_text(2)?,
            kind: columns.json::<IncidentEventKind>(3)?,
        });
    }
    Ok(events)
}

//! Finds alerts for lists and histories: filters become SQL that walks an index from the newest on.
//!
//! The order is that of identifiers, which is that of creation and never changes, so a page boundary stays
//! where it was while alerts change state. The walk is led by one of two indexes:
//! - by state and level: each combination is a walk of its own, and SQLite merges them;
//! - by the rarest of the wanted labels, when resolved alerts are wanted too.
//!
//! The other filters are tried on each row of the walk. So a page is slow only when two common properties
//! hardly ever meet; then the walk is as long as the more common one's list.

use marketprism_model::labels::SEVERITY;
use marketprism_model::{Alert, AlertFilter, AlertState, Id, Level, Page, StoreError};
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::alert_rows::{ALERT_COLUMNS, pair_hash, read_alert};
use crate::database::StepError;
use crate::row::id_bytes;

/// Pages are at most this long.
const LIMIT_MAX: usize = 1000;
/// A label with this many alerts is common enough; counting goes no further.
const COUNT_MAX: u32 = 5_000;

/// Gives one page of alerts.
pub(crate) fn search(db: &Connection, filter: &AlertFilter) -> Result<Page<Alert>, StepError> {
    let limit = filter.limit.clamp(1, LIMIT_MAX);
    let before = filter.cursor.as_deref().map(parse_cursor).transpose()?;
    let mut query = Query::default();
    let sql = query.build(db, filter, before, limit + 1)?;
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(query.values))?;
    let mut items = Vec::with_capacity(limit.min(128));
    while let Some(row) = rows.next()? {
        items.push(read_alert(row)?);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items
        .last()
        .filter(|_| has_more)
        .map(|alert| alert.id.to_string());
    Ok(Page { items, next_cursor })
}

fn parse_cursor(cursor: &str) -> Result<Id, StoreError> {
    cursor
        .parse()
        .map_err(|_| StoreError::Cursor(cursor.chars().take(64).collect()))
}

/// SQL under construction: the values in the order of their marks.
#[derive(Default)]
struct Query {
    values: Vec<Value>,
}

impl Query {
    fn mark(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    fn build(
        &mut self,
        db: &Connection,
        filter: &AlertFilter,
        before: Option<Id>,
        limit: usize,
    ) -> Result<String, StepError> {
        let may_be_resolved = filter.states.is_empty() || filter.states.contains(&AlertState::Resolved);
        let leader = if may_be_resolved {
            rarest_label(db, filter)?
        } else {
            None
        };
        let mut residue = self.conditions_on_labels(filter);
        if let Some(is_acknowledged) = filter.is_acknowledged {
            let not = if is_acknowledged { "NOT " } else { "" };
            residue.push_str(&format!(" AND a.acknowledged IS {not}NULL"));
        }
        let before = before.map(|id| self.mark(id_bytes(id).to_vec()));
        let mut arms = Vec::new();
        if let Some((name, value)) = leader {
            let pair = self.mark(pair_hash(name, value));
            let before = before.map_or(String::new(), |mark| format!(" AND l.alert < {mark}"));
            let states = words("a.state", filter.states.iter().map(|state| state.as_str()));
            let levels = words("a.level", filter.levels.iter().map(|level| level.as_str()));
            // A cross join keeps the labels' index in the lead, which has the wanted order.
            return Ok(format!(
                "SELECT {ALERT_COLUMNS} FROM alert_labels l CROSS JOIN alerts a ON a.id = l.alert
                 WHERE l.pair = {pair}{before}{states}{levels}{residue} ORDER BY l.alert DESC LIMIT {limit}"
            ));
        }
        let before = before.map_or(String::new(), |mark| format!(" AND a.id < {mark}"));
        for (state, level) in combinations(filter) {
            let state = state.map_or(String::new(), |state| format!(" AND a.state = '{state}'"));
            let level = level.map_or(String::new(), |level| format!(" AND a.level = '{level}'"));
            arms.push(format!(
                "SELECT {ALERT_COLUMNS} FROM alerts a WHERE 1 = 1{state}{level}{before}{residue}"
            ));
        }
        let order = if arms.len() == 1 { "a.id" } else { "1" };
        Ok(format!(
            "{} ORDER BY {order} DESC LIMIT {limit}",
            arms.join(" UNION ALL ")
        ))
    }

    fn conditions_on_labels(&mut self, filter: &AlertFilter) -> String {
        let mut conditions = String::new();
        for (name, value) in &filter.labels {
            let value_mark = self.mark(value.clone());
            conditions.push_str(&if name == SEVERITY {
                format!(" AND a.severity = {value_mark}")
            } else {
                // A label with an empty value is an absent one.
                let name_mark = self.mark(name.clone());
                format!(
                    " AND coalesce((SELECT j.value FROM json_each(a.labels) j WHERE j.key = {name_mark}), '') = {value_mark}"
                )
            });
        }
        conditions
    }
}

/// Writes ` AND column IN ('a', 'b')`, or nothing when there are no words. The words are the program's own.
fn words(column: &str, words: impl Iterator<Item = &'static str>) -> String {
    let list: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    if list.is_empty() {
        String::new()
    } else {
        format!(" AND {column} IN ({})", list.join(", "))
    }
}

/// Gives each wanted pair of state and level once, `None` for "any".
fn combinations(filter: &AlertFilter) -> Vec<(Option<AlertState>, Option<Level>)> {
    fn each<T: Copy + Ord>(wanted: &[T]) -> Vec<Option<T>> {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            vec![None]
        } else {
            wanted.into_iter().map(Some).collect()
        }
    }
    let levels = each(&filter.levels);
    each(&filter.states)
        .into_iter()
        .flat_map(|state| levels.iter().map(move |level| (state, *level)))
        .collect()
}

/// Gives the wanted label that the fewest alerts have, `None` when no label can lead.
fn rarest_label<'f>(
    db: &Connection,
    filter: &'f AlertFilter,
) -> Result<Option<(&'f str, &'f str)>, StepError> {
    let candidates: Vec<(&str, &str)> = filter
        .labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, value)| *name != SEVERITY && !value.is_empty())
        .collect();
    if candidates.len() < 2 {
        return Ok(candidates.first().copied());
    }
    let mut statement = db.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM alert_labels WHERE pair = ?1 LIMIT ?2) AS counted",
    )?;
    let mut rarest = None;
    for (name, value) in candidates {
        let count: u32 = statement.query_row((pair_hash(name, value), COUNT_MAX), |row| row.get(0))?;
        if rarest.is_none_or(|(fewest, _)| count < fewest) {
            rarest = Some((count, (name, value)));
        }
    }
    Ok(rarest.map(|(_, label)| label))
}

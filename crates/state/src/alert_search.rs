//! Finds alerts for lists and histories: filters become SQL that walks an index from the newest on.
//!
//! The order is that of identifiers, which is that of creation and never changes, so a page boundary stays
//! where it was while alerts change state. The walk is led by one of two indexes:
//! - by state and level: each combination is a walk of its own, and they are merged;
//! - by the rarest of the wanted labels, when resolved alerts are wanted too.
//!
//! The other filters are tried on each row of the walk, labels by their hashes; what was found is held against the
//! wanted texts here, which also settles what no index knows: that a label is absent. So a page is slow only when
//! two common properties hardly ever meet, or when most alerts have a label that is to be absent; then the walk is as
//! long as the more common one's list.

use marketprism_model::labels::SEVERITY;
use marketprism_model::{Alert, AlertFilter, AlertState, Id, Level, Page};

use crate::alert_rows::{ALERT_COLUMNS, pair_hash, read_alert, severity_key};
use crate::database::StepError;
use crate::row::{count, id_bytes, parse_cursor};
use crate::session::{Bind, Session, binds};

/// Pages are at most this long.
const LIMIT_MAX: usize = 1000;
/// A label with this many alerts is common enough; counting goes no further.
const COUNT_MAX: u32 = 5_000;

/// Gives one page of alerts.
pub(crate) fn search(db: &dyn Session, filter: &AlertFilter) -> Result<Page<Alert>, StepError> {
    let limit = filter.limit.clamp(1, LIMIT_MAX);
    let mut before: Option<Id> = filter.cursor.as_deref().map(parse_cursor).transpose()?;
    let leader = if filter.states.is_empty() || filter.states.contains(&AlertState::Resolved) {
        rarest_label(db, filter)?
    } else {
        None
    };
    let mut items: Vec<Alert> = Vec::with_capacity(limit.min(128));
    loop {
        let mut query = Query::default();
        let sql = query.build(filter, leader, before, limit + 1);
        let rows = db.query(&sql, &query.values)?;
        for row in &rows {
            let alert = read_alert(row)?;
            before = Some(alert.id);
            if has_labels(&alert, filter) {
                items.push(alert);
            }
        }
        if items.len() > limit || rows.len() <= limit {
            break;
        }
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items
        .last()
        .filter(|_| has_more)
        .map(|alert| alert.id.to_string());
    Ok(Page { items, next_cursor })
}

/// Says whether the alert, as it is sent, has the wanted labels; one with an empty value is an absent one.
fn has_labels(alert: &Alert, filter: &AlertFilter) -> bool {
    filter.labels.iter().all(|(name, value)| {
        let found = if name == SEVERITY && alert.has_levels {
            Some(alert.level.as_str())
        } else {
            alert.labels.get(name)
        };
        found.unwrap_or("") == value
    })
}

/// SQL under construction: the values in the order of their marks.
#[derive(Default)]
struct Query<'a> {
    values: Vec<Bind<'a>>,
}

impl<'a> Query<'a> {
    fn mark(&mut self, value: impl Into<Bind<'a>>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    fn build(
        &mut self,
        filter: &'a AlertFilter,
        leader: Option<(&str, &str)>,
        before: Option<Id>,
        limit: usize,
    ) -> String {
        let mut residue = self.conditions_on_labels(filter, leader);
        if let Some(is_acknowledged) = filter.is_acknowledged {
            let not = if is_acknowledged { "NOT " } else { "" };
            residue.push_str(&format!(" AND a.acknowledged IS {not}NULL"));
        }
        let before = before.map(|id| self.mark(id_bytes(id)));
        if let Some((name, value)) = leader {
            let pair = self.mark(pair_hash(name, value));
            let before = before.map_or(String::new(), |mark| format!(" AND l.alert < {mark}"));
            let states = words("a.state", filter.states.iter().map(|state| state.as_str()));
            let levels = words("a.level", filter.levels.iter().map(|level| level.as_str()));
            // SQLite keeps the order of a cross join: the labels' index leads, which has the wanted order.
            return format!(
                "SELECT {ALERT_COLUMNS} FROM alert_labels l CROSS JOIN alerts a
                 WHERE a.id = l.alert AND l.pair = {pair}{before}{states}{levels}{residue}
                 ORDER BY l.alert DESC LIMIT {limit}"
            );
        }
        let before = before.map_or(String::new(), |mark| format!(" AND a.id < {mark}"));
        let mut arms = Vec::new();
        for (state, level) in combinations(filter) {
            let state = state.map_or(String::new(), |state| format!(" AND a.state = '{state}'"));
            let level = level.map_or(String::new(), |level| format!(" AND a.level = '{level}'"));
            arms.push(format!(
                "SELECT {ALERT_COLUMNS} FROM alerts a WHERE 1 = 1{state}{level}{before}{residue}
                 ORDER BY a.id DESC LIMIT {limit}"
            ));
        }
        merged(&arms, 1, limit)
    }

    fn conditions_on_labels(&mut self, filter: &'a AlertFilter, leader: Option<(&str, &str)>) -> String {
        let mut conditions = String::new();
        for (name, value) in &filter.labels {
            if name == SEVERITY {
                let mark = self.mark(severity_key(value));
                conditions.push_str(&format!(" AND a.severity = {mark}"));
            } else if !value.is_empty() && leader != Some((name, value)) {
                let mark = self.mark(pair_hash(name, value));
                conditions.push_str(&format!(
                    " AND EXISTS (SELECT 1 FROM alert_labels x WHERE x.pair = {mark} AND x.alert = a.id)"
                ));
            }
        }
        conditions
    }
}

/// Joins walks that each have their order and limit into one, whose order is that of column `order`, downwards. Each has a
/// limit of its own, because not every engine merges them lazily.
pub(crate) fn merged(arms: &[String], order: usize, limit: usize) -> String {
    if let [arm] = arms {
        return arm.clone();
    }
    let arms: Vec<String> = arms
        .iter()
        .enumerate()
        .map(|(n, arm)| format!("SELECT * FROM ({arm}) AS arm{n}"))
        .collect();
    format!("{} ORDER BY {order} DESC LIMIT {limit}", arms.join(" UNION ALL "))
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
    db: &dyn Session,
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
    let sql = "SELECT count(*) FROM (SELECT 1 FROM alert_labels WHERE pair = ?1 LIMIT ?2) AS counted";
    let mut rarest = None;
    for (name, value) in candidates {
        let count = count(db, sql, &binds![pair_hash(name, value), COUNT_MAX])?;
        if rarest.is_none_or(|(fewest, _)| count < fewest) {
            rarest = Some((count, (name, value)));
        }
    }
    Ok(rarest.map(|(_, label)| label))
}

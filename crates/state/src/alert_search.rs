//! Finds alerts for lists and histories: filters become SQL that walks an index from the newest on.
//!
//! The order is that of identifiers, which is that of creation and never changes, so a page boundary stays
//! where it was while alerts change state. Whatever is wanted, one property leads:
//! - a rare one (a label, an assignee, an incident, a category, a level, a state, being acknowledged): the few alerts that have it
//!   are gathered first, and the other filters are tried on them;
//! - when all are common, an incident, an assignee, a label or being acknowledged leads a walk along its index, else each
//!   combination of category, state and level is a walk of its own, and they are merged.
//!
//! The other filters are tried on each row of the walk, labels by their hashes; what was found is held against the
//! wanted texts here, which also settles what no index knows: that a label is absent. Identifiers begin with the time,
//! so that a span of time is a span of each index. So a page is slow only when two properties that are both common
//! hardly ever meet, or when most alerts have a label that is to be absent; then the walk is as long as the more common
//! one's list within the span.

use marketprism_model::labels::SEVERITY;
use marketprism_model::{Alert, AlertFilter, AlertState, Category, Id, Level, Page, Timestamp};

use crate::alert_rows::{ALERT_COLUMNS, index_key, pair_hash, read_alert};
use crate::database::StepError;
use crate::row::{count, id_bytes, parse_cursor};
use crate::session::{Bind, Session};

/// Pages are at most this long.
const LIMIT_MAX: usize = 1000;
/// A property of this many alerts is common; counting goes no further.
pub(crate) const COMMON: u64 = 5_000;
/// All states.
const STATES: [AlertState; 3] = [AlertState::Pending, AlertState::Firing, AlertState::Resolved];
/// Moments are bounded as identifiers bound them: 48 bits of milliseconds.
const MILLIS_MAX: i64 = (1 << 48) - 1;

/// Gives one page of alerts.
pub(crate) fn search(db: &dyn Session, filter: &AlertFilter) -> Result<Page<Alert>, StepError> {
    search_by(db, filter, COMMON)
}

/// The same for another number of alerts that makes a property common.
fn search_by(db: &dyn Session, filter: &AlertFilter, common: u64) -> Result<Page<Alert>, StepError> {
    let limit = filter.limit.clamp(1, LIMIT_MAX);
    let mut before: Option<Id> = filter.cursor.as_deref().map(parse_cursor).transpose()?;
    let lead = choose(db, filter, common)?;
    let mut items: Vec<Alert> = Vec::with_capacity(limit.min(128));
    loop {
        let mut query = Query::of(db);
        let sql = query.build(filter, lead, before, limit + 1);
        let rows = db.query(&sql, &query.values)?;
        for row in &rows {
            let alert = read_alert(row)?;
            before = Some(alert.id);
            if is_wanted(&alert, filter) {
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

/// Says whether the alert has the wanted texts, of which SQL saw a hash or the beginning. Labels are those that are sent;
/// one with an empty value is an absent one.
fn is_wanted(alert: &Alert, filter: &AlertFilter) -> bool {
    let assigned_to = alert.assigned.as_ref().map(|assigned| assigned.to.as_str());
    let has_assignee = filter
        .assigned_to
        .as_deref()
        .is_none_or(|to| assigned_to == Some(to));
    has_assignee
        && filter.labels.iter().all(|(name, value)| {
            let found = if name == SEVERITY && alert.has_levels {
                Some(alert.level.as_str())
            } else {
                alert.labels.get(name)
            };
            found.unwrap_or("") == value
        })
}

/// A property that an index knows.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Property<'f> {
    Incident(Id),
    Assignee(&'f str),
    Label(&'f str, &'f str),
    Acknowledged,
    Severity(&'f str),
    Categories,
    Levels,
    States,
}

/// What leads the walk.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Lead<'f> {
    /// The alerts with this property are few, and gathered.
    Gathered(Property<'f>),
    /// The index of this property is walked.
    Walked(Property<'f>),
    /// The index of categories, states and levels is.
    Combinations,
}

impl<'f> Property<'f> {
    /// Gives the properties that the filter wants, those that lead best first.
    fn all_of(filter: &'f AlertFilter) -> Vec<Property<'f>> {
        let mut all: Vec<Property<'f>> = filter.incident.map(Property::Incident).into_iter().collect();
        all.extend(filter.assigned_to.as_deref().map(Property::Assignee));
        let labels = filter.labels.iter();
        let indexed = labels.filter(|(name, value)| name != SEVERITY && !value.is_empty());
        all.extend(indexed.map(|(name, value)| Property::Label(name, value)));
        all.extend((filter.is_acknowledged == Some(true)).then_some(Property::Acknowledged));
        let severities = filter.labels.iter().filter(|(name, _)| name == SEVERITY);
        all.extend(severities.map(|(_, value)| Property::Severity(value)));
        all.extend((!filter.categories.is_empty()).then_some(Property::Categories));
        all.extend((!filter.levels.is_empty()).then_some(Property::Levels));
        all.extend((!filter.states.is_empty()).then_some(Property::States));
        all
    }

    /// Gives the table with its name, the column of the alert's identifier, and the condition.
    fn source(self, filter: &AlertFilter, query: &mut Query<'f>) -> (&'static str, &'static str, String) {
        let of_alerts = |condition| ("alerts p", "p.id", condition);
        match self {
            Property::Incident(id) => of_alerts(format!("p.incident = {}", query.mark(id_bytes(id)))),
            Property::Assignee(to) => of_alerts(format!("p.assigned_to = {}", query.mark(index_key(to)))),
            Property::Label(name, value) => (
                "alert_labels p",
                "p.alert",
                format!("p.pair = {}", query.mark(pair_hash(name, value))),
            ),
            Property::Acknowledged => of_alerts("p.acknowledged IS NOT NULL".to_owned()),
            Property::Severity(value) => of_alerts(format!("p.severity = {}", query.mark(index_key(value)))),
            Property::Levels => of_alerts(one_of("p.level", levels(filter))),
            Property::Categories => of_alerts(one_of("p.category", categories(filter))),
            Property::States => of_alerts(one_of("p.state", states(filter))),
        }
    }
}

/// Chooses what leads: counting costs little, a wrong guess a walk through everything.
fn choose<'f>(db: &dyn Session, filter: &'f AlertFilter, common: u64) -> Result<Lead<'f>, StepError> {
    let properties = Property::all_of(filter);
    let is_of_combinations = |property: &Property<'_>| {
        matches!(
            property,
            Property::Categories | Property::Levels | Property::States
        )
    };
    // Their index has the wanted order, so there is nothing to gather and to sort.
    if filter.is_acknowledged.is_none() && properties.iter().all(is_of_combinations) {
        return Ok(Lead::Combinations);
    }
    let mut rarest: Option<(u64, Property<'_>)> = None;
    for property in &properties {
        let mut query = Query::of(db);
        let (table, _, condition) = property.source(filter, &mut query);
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT {common}) AS counted"
        );
        let count = count(db, &sql, &query.values)?;
        if rarest.is_none_or(|(fewest, _)| count < fewest) {
            rarest = Some((count, *property));
        }
        if count < common / 10 {
            break;
        }
    }
    Ok(match (rarest, properties.first()) {
        (Some((count, property)), _) if count < common => Lead::Gathered(property),
        (_, Some(first)) if !is_of_combinations(first) => Lead::Walked(*first),
        _ => Lead::Combinations,
    })
}

/// SQL under construction: the values in the order of their marks.
struct Query<'a> {
    values: Vec<Bind<'a>>,
    is_planned_by_counts: bool,
}

impl<'a> Query<'a> {
    fn of(db: &dyn Session) -> Self {
        Query {
            values: Vec::new(),
            is_planned_by_counts: db.is_planned_by_counts(),
        }
    }

    fn mark(&mut self, value: impl Into<Bind<'a>>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    fn build(&mut self, filter: &'a AlertFilter, lead: Lead<'a>, before: Option<Id>, limit: usize) -> String {
        let span = self.span(filter, before);
        let mut residue = self.conditions(filter, lead);
        let (gathered, property) = match lead {
            Lead::Combinations => return self.combined(filter, &span, &residue, limit),
            Lead::Gathered(property) => (true, property),
            Lead::Walked(property) => (false, property),
        };
        let (table, id, condition) = property.source(filter, self);
        // Of the walked index where that may know them.
        let of = if !gathered && table == "alerts p" {
            "p"
        } else {
            "a"
        };
        residue.push_str(&words(&format!("{of}.category"), categories(filter)));
        residue.push_str(&words(&format!("{of}.state"), states(filter)));
        residue.push_str(&words(&format!("{of}.level"), levels(filter)));
        let span = span.of(id);
        if gathered {
            return format!(
                "WITH few AS MATERIALIZED (SELECT {id} AS id FROM {table} WHERE {condition}{span} LIMIT {COMMON})
                 SELECT {ALERT_COLUMNS} FROM few CROSS JOIN alerts a WHERE a.id = few.id{residue}
                 ORDER BY a.id DESC LIMIT {limit}"
            );
        }
        // SQLite keeps the order of a cross join: the property's index leads, which has the wanted order.
        format!(
            "SELECT {ALERT_COLUMNS} FROM {table} CROSS JOIN alerts a
             WHERE a.id = {id} AND {condition}{span}{residue} ORDER BY {id} DESC LIMIT {limit}"
        )
    }

    /// Merges one walk for each wanted combination of category, state and level.
    fn combined(&self, filter: &AlertFilter, span: &Span, residue: &str, limit: usize) -> String {
        let walk = |columns: &[(&str, &'static str)]| {
            let (condition, order) = span.within(columns, self.is_planned_by_counts);
            format!(
                "SELECT {ALERT_COLUMNS} FROM alerts a WHERE {condition}{residue} ORDER BY {order} LIMIT {limit}"
            )
        };
        let mut walks = Vec::new();
        if filter.categories.is_empty() {
            for (state, level) in pairs(filter) {
                let state = state.map(|state| ("a.state", state.as_str()));
                let level = level.map(|level| ("a.level", level.as_str()));
                walks.push(walk(&state.into_iter().chain(level).collect::<Vec<_>>()));
            }
            return merged(&walks, 1, limit);
        }
        // The index of categories knows all three, in this order.
        for category in categories(filter) {
            for state in each(&filter.states, &STATES) {
                for level in each(&filter.levels, &Level::ALL) {
                    walks.push(walk(&[
                        ("a.category", category),
                        ("a.state", state.as_str()),
                        ("a.level", level.as_str()),
                    ]));
                }
            }
        }
        merged(&walks, 1, limit)
    }

    /// Bounds identifiers by the times and by the cursor.
    fn span(&mut self, filter: &AlertFilter, before: Option<Id>) -> Span {
        let since = filter.since.map_or(Id::from_u128(0), first_id);
        let until = filter.until.map_or(Id::from_u128(u128::MAX), first_id);
        Span {
            since: self.mark(id_bytes(since)),
            before: self.mark(id_bytes(before.map_or(until, |before| before.min(until)))),
        }
    }

    fn conditions(&mut self, filter: &'a AlertFilter, lead: Lead<'a>) -> String {
        let mut conditions = String::new();
        let is_led_by = |property| [Lead::Gathered(property), Lead::Walked(property)].contains(&lead);
        for (name, value) in &filter.labels {
            if name == SEVERITY {
                let mark = self.mark(index_key(value));
                conditions.push_str(&format!(" AND a.severity = {mark}"));
            } else if !value.is_empty() && !is_led_by(Property::Label(name, value)) {
                let mark = self.mark(pair_hash(name, value));
                conditions.push_str(&format!(
                    " AND EXISTS (SELECT 1 FROM alert_labels x WHERE x.pair = {mark} AND x.alert = a.id)"
                ));
            }
        }
        if let Some(is_acknowledged) = filter.is_acknowledged {
            let not = if is_acknowledged { "NOT " } else { "" };
            conditions.push_str(&format!(" AND a.acknowledged IS {not}NULL"));
        }
        if let Some(id) = filter.incident {
            conditions.push_str(&format!(" AND a.incident = {}", self.mark(id_bytes(id))));
        }
        if let Some(to) = &filter.assigned_to {
            conditions.push_str(&format!(" AND a.assigned_to = {}", self.mark(index_key(to))));
        }
        conditions
    }
}

/// Bounds of identifiers, as marks.
struct Span {
    since: String,
    before: String,
}

impl Span {
    fn of(&self, column: &str) -> String {
        format!(" AND {column} >= {} AND {column} < {}", self.since, self.before)
    }

    /// Writes that the columns, in an index's order, have these words and the identifier is in the span; and the order.
    ///
    /// PostgreSQL takes columns to be independent, so it would rather walk all alerts by identifier and hope to meet some that
    /// fit. There the last column is bounded together with the identifier and leads the order, which only the index has.
    fn within(&self, columns: &[(&str, &'static str)], is_planned_by_counts: bool) -> (String, String) {
        let equal = |columns: &[(&str, &'static str)]| -> String {
            let one = |(column, word): &(&str, &str)| format!("{column} = '{word}' AND ");
            columns.iter().map(one).collect()
        };
        let Span { since, before } = self;
        match columns.split_last() {
            Some(((column, word), others)) if is_planned_by_counts => (
                format!(
                    "{}({column}, a.id) >= ('{word}', {since}) AND ({column}, a.id) < ('{word}', {before})",
                    equal(others)
                ),
                format!("{column} DESC, a.id DESC"),
            ),
            _ => (
                format!("{}a.id >= {since} AND a.id < {before}", equal(columns)),
                "a.id DESC".to_owned(),
            ),
        }
    }
}

/// Gives the first identifier that can be made at a moment.
fn first_id(at: Timestamp) -> Id {
    if at.millis() > MILLIS_MAX {
        return Id::from_u128(u128::MAX);
    }
    Id::from_u128((at.millis().max(0) as u128) << 80)
}

fn categories(filter: &AlertFilter) -> impl Iterator<Item = &'static str> {
    each(&filter.categories, &[]).into_iter().map(Category::as_str)
}

fn levels(filter: &AlertFilter) -> impl Iterator<Item = &'static str> {
    each(&filter.levels, &[]).into_iter().map(Level::as_str)
}

fn states(filter: &AlertFilter) -> impl Iterator<Item = &'static str> {
    each(&filter.states, &[]).into_iter().map(AlertState::as_str)
}

/// Gives each wanted value once; `all` when none is named.
pub(crate) fn each<T: Copy + Ord>(named: &[T], all: &[T]) -> Vec<T> {
    let mut wanted = if named.is_empty() { all } else { named }.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
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

/// Writes `column IN ('a', 'b')`. The words are the program's own.
fn one_of(column: &str, words: impl Iterator<Item = &'static str>) -> String {
    let list: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    format!("{column} IN ({})", list.join(", "))
}

/// Writes ` AND column IN ('a', 'b')`, or nothing when there are no words.
fn words(column: &str, words: impl Iterator<Item = &'static str>) -> String {
    let mut words = words.peekable();
    if words.peek().is_none() {
        return String::new();
    }
    format!(" AND {}", one_of(column, words))
}

/// Gives each wanted pair of state and level once, `None` for "any".
fn pairs(filter: &AlertFilter) -> Vec<(Option<AlertState>, Option<Level>)> {
    fn options<T: Copy + Ord>(wanted: &[T]) -> Vec<Option<T>> {
        match each(wanted, &[]) {
            none if none.is_empty() => vec![None],
            some => some.into_iter().map(Some).collect(),
        }
    }
    let levels = options(&filter.levels);
    let states = options(&filter.states);
    let with_levels = |state| levels.iter().map(move |level| (state, *level));
    states.into_iter().flat_map(with_levels).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use marketprism_model::alert::Acknowledgement;
    use marketprism_model::{AlertCommit, AlertStore, Assignment, Chance, Labels, LeaseStore, Replica};
    use marketprism_testkit::PostgresServer;

    use super::*;
    use crate::Database;

    /// Draws that repeat with their seed.
    struct Draws(AtomicU64);

    impl Chance for Draws {
        fn next_u64(&self) -> u64 {
            let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 29)
        }
    }

    impl Draws {
        fn below(&self, end: u64) -> u64 {
            self.next_u64() % end
        }
        fn some<T: Copy>(&self, of: &[T]) -> Vec<T> {
            let wanted = |_: &&T| self.below(3) == 0;
            if self.below(2) == 0 {
                return Vec::new();
            }
            of.iter().filter(wanted).copied().collect()
        }
        fn maybe<T>(&self, value: impl FnOnce() -> T) -> Option<T> {
            (self.below(4) == 0).then(value)
        }
    }

    fn moment(n: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + n as i64)
    }

    fn drawn(n: u64, draws: &Draws) -> Alert {
        let category = ["", "security", "capacity"][draws.below(3) as usize];
        let job = ["a", "b", ""][draws.below(3) as usize];
        let severity = ["critical", "x"][draws.below(2) as usize];
        Alert {
            id: Id::new(moment(n), draws),
            labels: Labels::from_pairs([("category", category), ("job", job), ("severity", severity)]),
            annotations: Labels::empty(),
            state: STATES[draws.below(3) as usize],
            level: Level::ALL[draws.below(4) as usize],
            has_levels: draws.below(2) == 0,
            value: 1.0,
            active_at: moment(n),
            fired_at: None,
            resolved_at: None,
            updated_at: moment(n),
            rules: Vec::new(),
            group: String::new(),
            expr: String::new(),
            acknowledged: draws.maybe(|| Acknowledgement {
                by: "li".to_owned(),
                at: moment(n),
                until: None,
                note: String::new(),
                level: Level::High,
            }),
            suppressed_by: Vec::new(),
            assigned: draws.maybe(|| Assignment {
                to: "li".to_owned(),
                by: "li".to_owned(),
                at: moment(n),
            }),
            external: None,
            incident: draws.maybe(|| Id::from_u128(7)),
            flaps: 0,
        }
    }

    fn filter(draws: &Draws) -> AlertFilter {
        let labels = [
            ("job", "a"),
            ("job", ""),
            ("severity", "critical"),
            ("category", "security"),
        ];
        AlertFilter {
            states: draws.some(&STATES),
            levels: draws.some(&Level::ALL),
            labels: draws
                .some(&labels)
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            is_acknowledged: draws.maybe(|| draws.below(2) == 0),
            categories: draws.some(&Category::ALL),
            assigned_to: draws.maybe(|| "li".to_owned()),
            incident: draws.maybe(|| Id::from_u128(7)),
            since: draws.maybe(|| moment(draws.below(80))),
            until: draws.maybe(|| moment(draws.below(80))),
            limit: 1 + draws.below(30) as usize,
            cursor: draws.maybe(|| first_id(moment(draws.below(80))).to_string()),
        }
    }

    /// The tests' databases are small, so that everything in them is rare; here it is common.
    #[test]
    fn whatever_leads_the_walk_the_page_is_the_same() {
        let server = Database::connect(&PostgresServer::shared().new_schema()).expect("connect");
        let replica = Replica {
            id: "tests".to_owned(),
            address: String::new(),
        };
        server
            .claim(&replica, std::time::Duration::from_secs(3_600))
            .expect("claim");
        let mut leads = std::collections::BTreeMap::<String, u32>::new();
        for db in [Database::in_memory().expect("memory"), server] {
            let draws = Draws(AtomicU64::new(1));
            db.commit(&AlertCommit {
                alerts: (0..80).map(|n| drawn(n, &draws)).collect(),
                ..AlertCommit::default()
            })
            .expect("commit");
            let mut found = 0;
            for case in 0..600 {
                let filter = filter(&draws);
                let page = |common| {
                    let page = db.read("search", |db| search_by(db, &filter, common));
                    page.unwrap_or_else(|error| panic!("case {case}, {filter:?}: {error}"))
                };
                let few = page(COMMON);
                for common in [0, 5, 20, COMMON] {
                    assert_eq!(page(common), few, "case {case}, common from {common}: {filter:?}");
                    let lead = db.read("choose", |db| choose(db, &filter, common));
                    let lead = format!("{:?}", lead.expect("a lead"));
                    let name = lead.split_inclusive(['(', ')']).take(2).collect();
                    *leads.entry(name).or_default() += 1;
                }
                found += few.items.len();
            }
            assert!(found > 600, "too few cases found anything: {found} alerts");
        }
        let of = |kind: &str| leads.keys().filter(|lead| lead.starts_with(kind)).count();
        assert!(
            of("Walked") >= 5 && of("Gathered") >= 8 && of("Combinations") == 1,
            "{leads:?}"
        );
    }
}

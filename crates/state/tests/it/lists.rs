//! Lists: whatever the filter, the pages together are what a plain walk over all alerts would give.

use marketprism_model::alert::Acknowledgement;
use marketprism_model::{
    Alert, AlertFilter, AlertState, AlertStore, Assignment, Category, Level, StoreError, Timestamp,
};
use marketprism_state::Database;
use proptest::prelude::*;

use crate::support::*;

const STATES: [AlertState; 3] = [AlertState::Pending, AlertState::Firing, AlertState::Resolved];

/// What an alert is drawn from: state, level, acknowledged, with levels, job, severity; category, assignee, incident.
type Draw = ((usize, usize, bool, bool, u8, u8), (usize, u8, u8));

/// A name that is longer than the index knows.
fn assignee(n: u8) -> String {
    format!("{}{n}", "李".repeat(100))
}

/// Makes the `n`-th alert from a few draws.
fn drawn(n: u64, draw: &Draw) -> Alert {
    let ((state, level, is_acknowledged, has_levels, job, severity), (category, assigned_to, incident)) =
        draw;
    let job = format!("job{job}");
    let severity = if *has_levels {
        ""
    } else {
        ["critical", "warning", ""][usize::from(*severity)]
    };
    let category = ["", "system", "Business", "capacity", "other"][*category];
    let labels = [
        ("alertname", "A"),
        ("job", &job),
        ("severity", severity),
        ("category", category),
    ];
    let mut alert = alert(n, &labels);
    alert.assigned = (*assigned_to > 0).then(|| Assignment {
        to: assignee(*assigned_to),
        by: "wang".to_owned(),
        at: at(0),
    });
    alert.incident = (*incident > 0).then(|| id(u64::from(*incident)));
    alert.state = STATES[*state];
    alert.level = Level::ALL[*level];
    alert.has_levels = *has_levels;
    alert.acknowledged = is_acknowledged.then(|| Acknowledgement {
        by: "li".to_owned(),
        at: at(0),
        until: None,
        note: String::new(),
        level: Level::Low,
    });
    alert
}

fn is_wanted(alert: &Alert, filter: &AlertFilter) -> bool {
    let sent = alert.sent_labels();
    (filter.states.is_empty() || filter.states.contains(&alert.state))
        && (filter.levels.is_empty() || filter.levels.contains(&alert.level))
        && filter
            .labels
            .iter()
            .all(|(name, value)| sent.get(name).unwrap_or("") == value)
        && filter
            .is_acknowledged
            .is_none_or(|wanted| alert.acknowledged.is_some() == wanted)
        && (filter.categories.is_empty() || filter.categories.contains(&alert.category()))
        && filter
            .assigned_to
            .as_ref()
            .is_none_or(|to| alert.assigned.as_ref().is_some_and(|assigned| assigned.to == *to))
        && filter
            .incident
            .is_none_or(|incident| alert.incident == Some(incident))
        && filter.since.is_none_or(|since| alert.active_at >= since)
        && filter.until.is_none_or(|until| alert.active_at < until)
}

fn a_moment() -> impl Strategy<Value = Option<Timestamp>> {
    let near = (-2..45i64).prop_map(at);
    let far = prop_oneof![Just(i64::MIN), Just(-1), Just(1 << 48), Just(i64::MAX)];
    proptest::option::weighted(
        0.3,
        prop_oneof![8 => near, 1 => far.prop_map(Timestamp::from_millis)],
    )
}

/// Categories, assignee, incident, since and until of a filter; most filters want few of them.
type Management = (
    Vec<Category>,
    Option<String>,
    Option<u8>,
    Option<Timestamp>,
    Option<Timestamp>,
);

fn management() -> impl Strategy<Value = Management> {
    let categories = prop_oneof![
        Just(Vec::new()),
        proptest::sample::subsequence(Category::ALL.to_vec(), 0..=5)
    ];
    let assigned_to = proptest::option::weighted(0.3, (0..3u8).prop_map(assignee));
    let incident = proptest::option::weighted(0.3, 0..3u8);
    (categories, assigned_to, incident, a_moment(), a_moment())
}

fn pages(db: &Database, mut filter: AlertFilter) -> Vec<Alert> {
    let mut found = Vec::new();
    loop {
        let page = db.alerts(&filter).expect("page");
        assert!(page.items.len() <= filter.limit);
        found.extend(page.items);
        match page.next_cursor {
            None => return found,
            cursor => filter.cursor = cursor,
        }
    }
}

fn a_label() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        (0u8..3).prop_map(|n| ("job".to_owned(), format!("job{n}"))),
        Just(("alertname".to_owned(), "A".to_owned())),
        prop_oneof![Just("critical"), Just("warning"), Just("high"), Just("")]
            .prop_map(|severity| ("severity".to_owned(), severity.to_owned())),
        Just(("absent".to_owned(), String::new())),
        Just(("absent".to_owned(), "x".to_owned())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn pages_together_are_what_a_plain_walk_gives(
        draws in proptest::collection::vec(
            ((0..3usize, 0..4usize, any::<bool>(), any::<bool>(), 0..3u8, 0..3u8), (0..5usize, 0..3u8, 0..3u8)),
            0..40,
        ),
        states in proptest::sample::subsequence(STATES.to_vec(), 0..=3),
        levels in proptest::sample::subsequence(Level::ALL.to_vec(), 0..=4),
        labels in proptest::collection::vec(a_label(), 0..3),
        is_acknowledged in any::<Option<bool>>(),
        (categories, assigned_to, incident, since, until) in management(),
        limit in 1..12usize,
    ) {
        let all: Vec<Alert> = draws.iter().enumerate().map(|(n, draw)| drawn(n as u64, draw)).collect();
        let incident = incident.map(|n| id(u64::from(n)));
        let filter = AlertFilter {
            states, levels, labels, is_acknowledged, categories, assigned_to, incident, since, until, limit, cursor: None,
        };
        let expected: Vec<_> = all.iter().rev().filter(|alert| is_wanted(alert, &filter)).map(|a| a.id).collect();
        for engine in Engine::ALL {
            let db = engine.database();
            db.commit(&alerts(all.clone())).expect("commit");
            let found: Vec<_> = pages(&db, filter.clone()).iter().map(|alert| alert.id).collect();
            prop_assert_eq!(found, expected.clone(), "on {:?}", engine);
        }
    }
}

#[test]
fn a_page_goes_on_where_it_stopped_though_alerts_came_and_changed() {
    on_each_engine(|db| {
        let all: Vec<Alert> = (0..6).map(|n| alert(n, &[("alertname", "A")])).collect();
        db.commit(&alerts(all.clone())).expect("commit");
        let filter = AlertFilter {
            limit: 3,
            ..AlertFilter::default()
        };
        let first = db.alerts(&filter).expect("first page");
        db.commit(&alerts(vec![
            alert(7, &[("alertname", "A")]),
            resolved(all[1].clone(), at(9)),
        ]))
        .expect("meanwhile");
        let second = db
            .alerts(&AlertFilter {
                cursor: first.next_cursor,
                ..filter
            })
            .expect("second page");
        let ids: Vec<_> = first
            .items
            .iter()
            .chain(&second.items)
            .map(|alert| alert.id)
            .collect();
        assert_eq!(ids, [5, 4, 3, 2, 1, 0].map(id));
        assert_eq!(second.next_cursor, None);
    });
}

#[test]
fn a_severity_that_follows_the_level_is_found_as_it_is_sent() {
    on_each_engine(|db| {
        let mut leveled = alert(1, &[("alertname", "A")]);
        (leveled.has_levels, leveled.level) = (true, Level::High);
        db.commit(&alerts(vec![leveled.clone()])).expect("commit");
        leveled.level = Level::Critical;
        db.commit(&alerts(vec![leveled])).expect("rise");
        let count = |severity: &str| {
            let labels = vec![("severity".to_owned(), severity.to_owned())];
            let filter = AlertFilter {
                labels,
                limit: 10,
                ..AlertFilter::default()
            };
            db.alerts(&filter).expect("list").items.len()
        };
        assert_eq!((count("high"), count("critical")), (0, 1));
    });
}

#[test]
fn a_foreign_cursor_is_refused_by_name() {
    on_each_engine(|db| {
        for cursor in [
            "",
            "x",
            "'; DROP TABLE alerts",
            "017f22e2-79b0-7fff-bfff-fffffffffffg",
        ] {
            let filter = AlertFilter {
                limit: 1,
                cursor: Some(cursor.to_owned()),
                ..AlertFilter::default()
            };
            assert!(matches!(db.alerts(&filter), Err(StoreError::Cursor(named)) if named == cursor));
        }
    });
}

#[test]
fn names_and_values_are_data_and_never_sql() {
    on_each_engine(|db| {
        let odd = "a'\"; DROP TABLE alerts; -- $.[0]";
        let stored = alert(1, &[("alertname", "A"), (odd, odd)]);
        db.commit(&alerts(vec![stored.clone()])).expect("commit");
        let filter = AlertFilter {
            labels: vec![(odd.to_owned(), odd.to_owned())],
            limit: 5,
            ..AlertFilter::default()
        };
        assert_eq!(db.alerts(&filter).expect("list").items, [stored]);
    });
}

//! Lists: whatever the filter, the pages together are what a plain walk over all alerts would give.

use marketprism_model::alert::Acknowledgement;
use marketprism_model::{Alert, AlertFilter, AlertState, AlertStore, Level, StoreError};
use marketprism_state::Database;
use proptest::prelude::*;

use crate::support::*;

const STATES: [AlertState; 3] = [AlertState::Pending, AlertState::Firing, AlertState::Resolved];

/// Makes the `n`-th alert from a few draws.
fn drawn(n: u64, draw: &(usize, usize, bool, bool, u8, u8)) -> Alert {
    let (state, level, is_acknowledged, has_levels, job, severity) = draw;
    let job = format!("job{job}");
    let severity = if *has_levels {
        ""
    } else {
        ["critical", "warning", ""][usize::from(*severity)]
    };
    let mut alert = alert(n, &[("alertname", "A"), ("job", &job), ("severity", severity)]);
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
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn pages_together_are_what_a_plain_walk_gives(
        draws in proptest::collection::vec((0..3usize, 0..4usize, any::<bool>(), any::<bool>(), 0..3u8, 0..3u8), 0..40),
        states in proptest::sample::subsequence(STATES.to_vec(), 0..=3),
        levels in proptest::sample::subsequence(Level::ALL.to_vec(), 0..=4),
        labels in proptest::collection::vec(a_label(), 0..3),
        is_acknowledged in any::<Option<bool>>(),
        limit in 1..12usize,
    ) {
        let all: Vec<Alert> = draws.iter().enumerate().map(|(n, draw)| drawn(n as u64, draw)).collect();
        let filter = AlertFilter { states, levels, labels, is_acknowledged, limit, ..AlertFilter::default() };
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

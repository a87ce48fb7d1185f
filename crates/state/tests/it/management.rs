//! What people arrange and what belongs together: silences, overrides, incidents, and what alerts know of them.

use marketprism_model::alert::Suppression;
use marketprism_model::records::EscalationRecord;
use marketprism_model::{
    Alert, AlertCommit, AlertEvent, AlertEventKind, AlertFilter, AlertStore, Assignment, Category,
    ExternalSource, Hint, Id, Incident, IncidentEvent, IncidentEventKind, IncidentFilter, IncidentState,
    Labels, Level, Matcher, MatcherOp, ShiftOverride, Silence, SilenceFilter, SilenceState, TimeInterval,
};
use marketprism_state::Database;
use marketprism_testkit::PostgresServer;
use proptest::prelude::*;

use crate::support::*;

pub fn silence(n: u64, starts: i64, ends: i64) -> Silence {
    let matcher = |name, op, value| Matcher::new(name, op, value).expect("a matcher");
    Silence {
        id: id(n),
        matchers: vec![
            matcher("alertname", MatcherOp::Matches, "磁盘.*"),
            matcher("env", MatcherOp::NotEqual, "it's\"test\0"),
        ],
        starts_at: at(starts),
        ends_at: at(ends),
        updated_at: at(n as i64),
        created_by: "王".to_owned(),
        comment: "计划内维护".to_owned(),
        recurs: vec![TimeInterval {
            location: Some("Asia/Shanghai".to_owned()),
            ..TimeInterval::default()
        }],
        is_until_resolved: n % 2 == 1,
    }
}

pub fn shift(n: u64, ends: i64) -> ShiftOverride {
    ShiftOverride {
        id: id(n),
        schedule: "数据库".to_owned(),
        receiver: "li".to_owned(),
        starts_at: at(0),
        ends_at: at(ends),
        created_by: "wang".to_owned(),
        created_at: at(n as i64),
        comment: "换班".to_owned(),
    }
}

pub fn incident(n: u64, state: IncidentState) -> Incident {
    Incident {
        id: id(n),
        title: "DiskFull @ db-1".to_owned(),
        is_renamed: n.is_multiple_of(2),
        is_held_open: n.is_multiple_of(3),
        state,
        level: Level::High,
        opened_at: at(n as i64),
        resolved_at: (state == IncidentState::Resolved).then(|| at(n as i64 + 1)),
        updated_at: at(n as i64 + 2),
        moved_at: at(n as i64 + 3),
        owner: (n % 2 == 1).then(|| "li".to_owned()),
        labels: Labels::from_pairs([("cluster", "华东")]),
        alerts: vec![id(9), id(3)],
        hints: vec![Hint {
            score: 0.5,
            text: "磁盘写满".to_owned(),
            alert: Some(id(3)),
            expr: None,
        }],
    }
}

pub fn line(n: u64, incident: Id, kind: IncidentEventKind) -> IncidentEvent {
    IncidentEvent {
        id: id(n),
        incident,
        at: at(n as i64),
        actor: (n % 2 == 1).then(|| "li".to_owned()),
        kind,
    }
}

#[test]
fn all_that_an_alert_and_a_group_know_is_read_back_as_it_was() {
    on_each_engine(|db| {
        let mut subject = alert(1, &[("alertname", "A"), ("category", "Security")]);
        subject.assigned = Some(Assignment {
            to: "运维".repeat(500),
            by: "li".to_owned(),
            at: at(3),
        });
        subject.external = Some(ExternalSource {
            ends_at: at(9),
            is_timeout: true,
            generator_url: "http://prometheus/graph".to_owned(),
        });
        subject.incident = Some(id(7));
        subject.flaps = 4;
        subject.suppressed_by = vec![
            Suppression::Limit,
            Suppression::Silence(id(5)),
            Suppression::Inhibition(id(6)),
            Suppression::Mute("夜间".to_owned()),
            Suppression::Storm,
        ];
        let mut told = group("g", &[&subject]);
        told.escalation = Some(EscalationRecord {
            policy: "database".to_owned(),
            since: at(1),
            members: vec![(u64::MAX, Level::High)],
            steps_taken: 2,
            rounds: 1,
            stepped_at: Some(at(2)),
            told: Vec::new(),
        });
        let commit = AlertCommit {
            alerts: vec![subject.clone()],
            groups: vec![told.clone()],
            ..AlertCommit::default()
        };
        db.commit(&commit).expect("commit");
        let stored = db.load().expect("load");
        assert_eq!(
            (stored.alerts, stored.groups),
            (vec![subject.clone()], vec![told])
        );

        (subject.assigned, subject.external, subject.incident) = (None, None, None);
        (subject.flaps, subject.suppressed_by) = (0, Vec::new());
        db.commit(&alerts(vec![subject.clone()])).expect("taken back");
        assert_eq!(db.alert(subject.id).expect("read"), Some(subject));
    });
}

#[test]
fn silences_incidents_and_overrides_are_replaced_by_id_and_loaded_while_they_matter() {
    on_each_engine(|db| {
        let day = 24 * 3600 * 1000;
        let (long_over, lately_over) = (silence(1, 0, 4 * day), silence(2, 0, 6 * day));
        let mut holding = silence(3, 0, 100 * day);
        let (gone, kept) = (shift(4, 9 * day), shift(5, 11 * day));
        let mut open = incident(6, IncidentState::Open);
        let over = incident(7, IncidentState::Resolved);
        let first = AlertCommit {
            silences: vec![long_over.clone(), lately_over.clone(), holding.clone()],
            incidents: vec![open.clone(), over.clone()],
            overrides: vec![gone, kept.clone(), shift(8, 20 * day)],
            ..AlertCommit::default()
        };
        db.commit(&first).expect("commit");
        holding.comment = "again".to_owned();
        (open.title, open.owner, open.moved_at) = ("renamed".to_owned(), None, at(99));
        let second = AlertCommit {
            silences: vec![holding.clone()],
            incidents: vec![open.clone()],
            dropped_overrides: vec![id(8)],
            ..AlertCommit::default()
        };
        db.commit(&second).expect("change");
        db.heartbeat(at(10 * day)).expect("heartbeat");
        let stored = db.load().expect("load");
        assert_eq!(stored.silences, [lately_over, holding]);
        assert_eq!(
            (stored.incidents, stored.overrides),
            (vec![open.clone()], vec![kept])
        );
        assert_eq!(db.silence(long_over.id).expect("read"), Some(long_over));
        assert_eq!(db.silence(id(99)).expect("read"), None);
        assert_eq!(db.incident(over.id).expect("read"), Some(over));
        assert_eq!(db.incident(id(99)).expect("read"), None);
    });
}

#[test]
fn a_timeline_keeps_its_order_and_is_written_once() {
    on_each_engine(|db| {
        let subject = incident(1, IncidentState::Open);
        // Identifiers of one millisecond fall in any order.
        let joined = IncidentEventKind::AlertJoined {
            alert: id(3),
            name: "磁盘".to_owned(),
            relation: "cluster".to_owned(),
        };
        let story = [
            line(9, subject.id, IncidentEventKind::Opened),
            line(5, subject.id, joined),
            line(7, subject.id, IncidentEventKind::Owned { owner: None }),
        ];
        let mut incident_events = story.to_vec();
        incident_events.push(line(8, id(99), IncidentEventKind::Opened));
        let commit = AlertCommit {
            incidents: vec![subject.clone()],
            incident_events,
            ..AlertCommit::default()
        };
        db.commit(&commit).expect("commit");
        db.commit(&commit)
            .expect("the same again, as after an unknown outcome");
        assert_eq!(db.incident_events(subject.id).expect("timeline"), story);
        assert!(db.incident_events(id(99)).expect("timeline").is_empty());
    });
}

#[test]
fn cleaning_takes_what_ended_long_ago_and_leaves_what_is_open() {
    on_each_engine(|db| {
        let mut began_again = incident(3, IncidentState::Open);
        began_again.resolved_at = Some(at(1));
        let commit = AlertCommit {
            silences: (0..1_200)
                .map(|n| silence(10 + n, 0, 5))
                .chain([silence(1, 0, 900_000)])
                .collect(),
            incidents: vec![
                incident(1, IncidentState::Open),
                incident(2, IncidentState::Resolved),
                began_again,
            ],
            incident_events: vec![
                line(1, id(1), IncidentEventKind::Opened),
                line(2, id(2), IncidentEventKind::Opened),
            ],
            overrides: vec![shift(1, 5), shift(2, 900_000)],
            ..AlertCommit::default()
        };
        db.commit(&commit).expect("commit");
        db.heartbeat(at(0)).expect("heartbeat");
        db.clean(at(100_000), seconds(60)).expect("clean");
        let silences = db.silences(&SilenceFilter {
            limit: 1000,
            ..SilenceFilter::default()
        });
        let silences: Vec<_> = silences.expect("list").items.iter().map(|kept| kept.id).collect();
        assert_eq!(silences, [id(1)]);
        let stored = db.load().expect("load");
        let incidents: Vec<_> = stored.incidents.iter().map(|kept| kept.id).collect();
        assert_eq!(incidents, [id(1), id(3)]);
        assert_eq!(db.incident(id(2)).expect("read"), None);
        assert!(db.incident_events(id(2)).expect("timeline").is_empty());
        assert_eq!(db.incident_events(id(1)).expect("timeline").len(), 1);
        assert_eq!(stored.overrides, [shift(2, 900_000)]);
    });
}

fn pages<T>(mut page: impl FnMut(Option<String>) -> marketprism_model::Page<T>) -> Vec<T> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let next = page(cursor);
        found.extend(next.items);
        cursor = next.next_cursor;
        if cursor.is_none() {
            return found;
        }
    }
}

const STATES: [SilenceState; 3] = [SilenceState::Pending, SilenceState::Active, SilenceState::Expired];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn pages_of_silences_together_are_what_a_plain_walk_gives(
        draws in proptest::collection::vec((0..20i64, 0..20i64), 0..30),
        states in proptest::sample::subsequence(STATES.to_vec(), 0..=3),
        now in 0..22i64,
        limit in 1..9usize,
    ) {
        let all: Vec<Silence> = (0..).zip(&draws)
            .map(|(n, (starts, length))| silence(n, *starts, starts + length)).collect();
        let is_wanted = |silence: &&Silence| states.is_empty() || states.contains(&silence.state(at(now)));
        let expected: Vec<Silence> = all.iter().rev().filter(is_wanted).cloned().collect();
        for engine in Engine::ALL {
            let db = engine.database();
            db.commit(&AlertCommit { silences: all.clone(), ..AlertCommit::default() }).expect("commit");
            let found = pages(|cursor| {
                let filter = SilenceFilter { states: states.clone(), now: at(now), limit, cursor };
                db.silences(&filter).expect("page")
            });
            prop_assert_eq!(&found, &expected, "on {:?}", engine);
        }
    }

    #[test]
    fn pages_of_incidents_together_are_what_a_plain_walk_gives(
        draws in proptest::collection::vec((any::<bool>(), 0..4usize, 0..3u8, 0..20i64, 0..4u64), 0..30),
        states in proptest::sample::subsequence(vec![IncidentState::Open, IncidentState::Resolved], 0..=2),
        levels in proptest::sample::subsequence(Level::ALL.to_vec(), 0..=4),
        owner in prop_oneof![Just(None), (0..3u8).prop_map(|n| Some(format!("o{n}")))],
        since in prop_oneof![Just(None), (0..20i64).prop_map(|n| Some(at(n)))],
        until in prop_oneof![Just(None), (0..20i64).prop_map(|n| Some(at(n)))],
        alerts_min in prop_oneof![2 => Just(0), 1 => Just(2), 1 => 0..4usize],
        limit in 1..9usize,
    ) {
        let drawn = |(n, (is_open, level, owner, opened, count)): (u64, &(bool, usize, u8, i64, u64))| Incident {
            level: Level::ALL[*level],
            owner: (*owner > 0).then(|| format!("o{owner}")),
            opened_at: at(*opened),
            alerts: (0..*count).map(id).collect(),
            ..incident(n, if *is_open { IncidentState::Open } else { IncidentState::Resolved })
        };
        let all: Vec<Incident> = (0..).zip(&draws).map(drawn).collect();
        let is_wanted = |incident: &&Incident| {
            (states.is_empty() || states.contains(&incident.state))
                && (levels.is_empty() || levels.contains(&incident.level))
                && (owner.is_none() || incident.owner == owner)
                && incident.alerts.len() >= alerts_min
                && since.is_none_or(|since| incident.opened_at >= since)
                && until.is_none_or(|until| incident.opened_at < until)
        };
        let expected: Vec<Incident> = all.iter().rev().filter(is_wanted).cloned().collect();
        for engine in Engine::ALL {
            let db = engine.database();
            db.commit(&AlertCommit { incidents: all.clone(), ..AlertCommit::default() }).expect("commit");
            let found = pages(|cursor| {
                let filter = IncidentFilter {
                    states: states.clone(), levels: levels.clone(), owner: owner.clone(), alerts_min, since, until, limit, cursor,
                };
                db.incidents(&filter).expect("page")
            });
            prop_assert_eq!(&found, &expected, "on {:?}", engine);
        }
    }
}

/// A database of the release before, whose alerts had no column for what they are about.
struct Older {
    folder: tempfile::TempDir,
    url: String,
    engine: Engine,
}

impl Older {
    fn new(engine: Engine) -> Self {
        Older {
            folder: tempfile::tempdir().expect("folder"),
            url: PostgresServer::shared().new_schema(),
            engine,
        }
    }

    fn open(&self) -> Database {
        match self.engine {
            Engine::Sqlite => Database::open(&self.folder.path().join("records.db")).expect("open"),
            Engine::Postgres => {
                let db = Database::connect(&self.url).expect("connect");
                lead(&db, "tests");
                db
            }
        }
    }

    fn go_back(&self) {
        match self.engine {
            Engine::Sqlite => Database::downgrade(&self.folder.path().join("records.db"), 4),
            Engine::Postgres => Database::downgrade_server(&self.url, 4),
        }
        .expect("downgrade");
    }
}

#[test]
fn alerts_of_an_older_schema_get_the_category_that_their_label_says() {
    for engine in Engine::ALL {
        let older = Older::new(engine);
        let words = [
            "business",
            "Performance",
            "SECURITY",
            "capacity",
            "system",
            "other",
            "",
            "business\0",
            "\"business\"",
            "business\u{10fffe}",
        ];
        let mut all: Vec<Alert> = (0..)
            .zip(words)
            .map(|(n, word)| alert(n, &[("alertname", "A"), ("category", word), ("note", "\0\\\"")]))
            .collect();
        // Texts that look like the label.
        all.push(alert(
            20,
            &[("Category", "business"), ("note", r#","category":"business""#)],
        ));
        all.push(alert(21, &[(r#"a,"category"#, "business")]));
        all.push(alert(22, &[("my,category", "security"), ("zone", "b")]));
        all.push(alert(23, &[("category", "business"), ("aaa", r#"ends,"#)]));
        let db = older.open();
        db.commit(&alerts(all.clone())).expect("commit");
        drop(db);
        older.go_back();
        let db = older.open();
        for category in Category::ALL {
            let filter = AlertFilter {
                categories: vec![category],
                limit: 100,
                ..AlertFilter::default()
            };
            let found: Vec<_> = db
                .alerts(&filter)
                .expect("list")
                .items
                .iter()
                .map(|a| a.id)
                .collect();
            let of_it = all.iter().rev().filter(|alert| alert.category() == category);
            let expected: Vec<_> = of_it.map(|alert| alert.id).collect();
            assert_eq!(found, expected, "{category} on {engine:?}");
        }
    }
}

#[test]
fn the_way_back_leaves_what_the_older_program_understands() {
    for engine in Engine::ALL {
        let older = Older::new(engine);
        let mut both = alert(1, &[("alertname", "A")]);
        both.suppressed_by = vec![Suppression::Limit, Suppression::Silence(id(5))];
        let mut muted = alert(2, &[("alertname", "B")]);
        muted.suppressed_by = vec![Suppression::Mute("limit".to_owned())];
        let by_limit = || AlertEventKind::Suppressed {
            by: Suppression::Limit,
        };
        let kinds = [
            AlertEventKind::Pending,
            by_limit(),
            AlertEventKind::Suppressed {
                by: Suppression::Storm,
            },
            AlertEventKind::Unsuppressed {
                by: Suppression::Mute("limit".to_owned()),
            },
            AlertEventKind::Assigned { to: None },
            AlertEventKind::Noted { note: "x".to_owned() },
            AlertEventKind::Escalated {
                policy: "p".to_owned(),
                step: 1,
                receivers: Vec::new(),
            },
            AlertEventKind::Flapping { count: 3 },
            AlertEventKind::Steady,
            AlertEventKind::JoinedIncident { incident: id(4) },
        ];
        let events: Vec<AlertEvent> = (0..).zip(kinds).map(|(n, kind)| event(n, &both, kind)).collect();
        let db = older.open();
        let commit = AlertCommit {
            alerts: vec![both.clone(), muted.clone()],
            events,
            silences: vec![silence(1, 0, 9)],
            incidents: vec![incident(2, IncidentState::Open)],
            ..AlertCommit::default()
        };
        db.commit(&commit).expect("commit");
        drop(db);
        older.go_back();
        let db = older.open();
        let reasons = |id| db.alert(id).expect("read").expect("kept").suppressed_by;
        assert_eq!(reasons(both.id), [Suppression::Limit], "on {engine:?}");
        assert_eq!(reasons(muted.id), [], "on {engine:?}");
        let story = db.events(both.id).expect("events");
        let story: Vec<_> = story.into_iter().map(|event| event.kind).collect();
        assert_eq!(story, [AlertEventKind::Pending, by_limit()], "on {engine:?}");
        let stored = db.load().expect("load");
        assert!(stored.silences.is_empty() && stored.incidents.is_empty());
    }
}

#[test]
fn whoever_does_not_lead_changes_neither_silences_nor_incidents() {
    let url = PostgresServer::shared().new_schema();
    let db = Database::connect(&url).expect("connect");
    let commits = [
        AlertCommit {
            silences: vec![silence(1, 0, 9)],
            ..AlertCommit::default()
        },
        AlertCommit {
            incidents: vec![incident(1, IncidentState::Open)],
            ..AlertCommit::default()
        },
        AlertCommit {
            overrides: vec![shift(1, 9)],
            ..AlertCommit::default()
        },
        AlertCommit {
            dropped_overrides: vec![id(1)],
            ..AlertCommit::default()
        },
    ];
    for commit in &commits {
        let refused = db.commit(commit).expect_err("nobody has claimed");
        assert!(
            matches!(refused, marketprism_model::StoreError::Fenced { .. }),
            "{refused}"
        );
    }
    lead(&db, "a");
    for commit in &commits {
        db.commit(commit).expect("the leader");
    }
    assert_eq!(db.load().expect("load").incidents.len(), 1);
}

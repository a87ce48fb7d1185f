use std::collections::{BTreeMap, HashMap};

use marketprism_model::{AlertState, Labels, Level};
use marketprism_testkit::SeededChance;
use proptest::prelude::*;

use super::*;

fn at(minutes: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000) + Duration::from_secs(60 * minutes)
}

fn alert(number: u128, level: Level, name: &str, labels: &[(&str, &str)]) -> Alert {
    let pairs = labels.iter().copied().chain([("alertname", name)]);
    Alert {
        id: Id::from_u128(number),
        labels: Labels::from_pairs(pairs),
        annotations: Labels::empty(),
        state: AlertState::Firing,
        level,
        has_levels: false,
        value: 1.0,
        active_at: at(0),
        fired_at: Some(at(0)),
        resolved_at: None,
        updated_at: at(0),
        rules: Vec::new(),
        group: String::new(),
        expr: String::new(),
        acknowledged: None,
        suppressed_by: Vec::new(),
        assigned: None,
        external: None,
        incident: None,
        flaps: 0,
    }
}

/// Incidents with a window of ten minutes and a hold of five.
struct World {
    incidents: Incidents,
    chance: SeededChance,
    /// As the store would have them.
    stored: BTreeMap<Id, Incident>,
    timeline: Vec<IncidentEvent>,
}

impl World {
    fn new(config: IncidentsConfig) -> Self {
        World {
            incidents: Incidents::new(config),
            chance: SeededChance::new(7),
            stored: BTreeMap::new(),
            timeline: Vec::new(),
        }
    }

    fn store(&mut self) {
        let changes = self.incidents.take_changes();
        self.stored.extend(
            changes
                .incidents
                .into_iter()
                .map(|incident| (incident.id, incident)),
        );
        self.timeline.extend(changes.events);
    }

    fn fire(&mut self, minute: u64, alert: &Alert, groups: &[&str], linked: &[u128]) -> Id {
        self.tick(minute);
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let linked: Vec<Id> = linked.iter().map(|id| Id::from_u128(*id)).collect();
        let id = self
            .incidents
            .fired(alert, &groups, &linked, at(minute), &self.chance);
        self.store();
        id.expect("there is room")
    }

    fn end(&mut self, minute: u64, alert: &Alert) {
        self.tick(minute);
        self.incidents.ended(alert, at(minute), &self.chance);
        self.store();
    }

    fn tick(&mut self, minute: u64) {
        self.incidents.tick(at(minute), &self.chance);
        self.store();
    }

    fn act(&mut self, minute: u64, id: Id, act: Act) -> Result<Incident, IncidentError> {
        let stored = (!self.incidents.keeps(id))
            .then(|| self.stored.get(&id).cloned())
            .flatten();
        let done = self
            .incidents
            .act(id, stored, act, "wang", at(minute), &self.chance);
        self.store();
        done
    }

    /// Writes an incident's timeline, a word an event.
    fn story(&self, id: Id) -> String {
        let own = self.timeline.iter().filter(|event| event.incident == id);
        let words = own.map(|event| match &event.kind {
            IncidentEventKind::Opened => "opened".to_owned(),
            IncidentEventKind::AlertJoined { name, relation, .. } => format!("+{name}/{relation}"),
            IncidentEventKind::AlertResolved { name, .. } => format!("-{name}"),
            IncidentEventKind::LevelRose { to, .. } => format!("rose/{to}"),
            IncidentEventKind::Owned { owner } => format!("owner/{}", owner.as_deref().unwrap_or("")),
            IncidentEventKind::Renamed { .. } => "renamed".to_owned(),
            IncidentEventKind::Noted { note } => format!("note/{note}"),
            IncidentEventKind::Resolved { .. } => "resolved".to_owned(),
            IncidentEventKind::Reopened => "reopened".to_owned(),
        });
        words.collect::<Vec<String>>().join(" ")
    }
}

fn world() -> World {
    World::new(IncidentsConfig::default())
}

#[test]
fn what_fails_after_its_database_failed_is_one_story_from_the_first_sign_to_the_end() {
    let mut world = world();
    let disk = alert(
        1,
        Level::High,
        "DiskFull",
        &[("instance", "db1:9100"), ("service", "orders")],
    );
    let slow = alert(
        2,
        Level::Critical,
        "Slow",
        &[("instance", "web1:8080"), ("service", "orders")],
    );
    let down = alert(3, Level::Low, "Down", &[("instance", "web1:9100")]);
    let id = world.fire(0, &disk, &["g1"], &[]);
    assert_eq!(
        world.stored[&id].title,
        "DiskFull (instance=db1:9100, service=orders)"
    );
    assert_eq!(world.fire(4, &slow, &["g2"], &[]), id);
    assert_eq!(world.stored[&id].title, "Slow (service=orders)");
    // Of the same machine as the second, though by another exporter's port.
    assert_eq!(world.fire(13, &down, &["g3"], &[]), id);
    let incident = &world.stored[&id];
    assert_eq!(
        (incident.title.as_str(), incident.level),
        ("Slow", Level::Critical)
    );
    assert!(incident.labels.is_empty());
    for (minute, alert) in [(20, &slow), (21, &disk), (22, &down)] {
        world.end(minute, alert);
    }
    world.tick(26);
    assert_eq!(
        world.stored[&id].state,
        IncidentState::Open,
        "held, so that it does not flap"
    );
    world.tick(27);
    let incident = &world.stored[&id];
    assert_eq!(
        (incident.state, incident.resolved_at),
        (IncidentState::Resolved, Some(at(22)))
    );
    assert_eq!(
        world.story(id),
        "opened +DiskFull/first +Slow/service rose/critical +Down/instance -Slow -DiskFull -Down resolved"
    );
}

#[test]
fn nothing_in_common_or_too_late_is_another_incident() {
    let mut world = world();
    let one = alert(1, Level::High, "A", &[("service", "orders"), ("job", "node")]);
    let other = alert(2, Level::High, "B", &[("service", "search"), ("job", "node")]);
    let late = alert(3, Level::High, "C", &[("service", "orders")]);
    let first = world.fire(0, &one, &["g1"], &[]);
    assert_ne!(world.fire(1, &other, &["g2"], &[]), first, "a job is no place");
    assert_ne!(
        world.fire(11, &late, &["g1"], &[]),
        first,
        "eleven minutes later, though of its group"
    );
    let soon = alert(4, Level::High, "D", &[("service", "search")]);
    assert_eq!(
        world.fire(11, &soon, &[], &[]),
        world.incidents.of(other.id).expect("open")
    );
}

#[test]
fn an_alert_of_the_same_group_joins_though_it_shares_no_label() {
    let mut world = world();
    let one = alert(1, Level::High, "A", &[("instance", "a")]);
    let two = alert(2, Level::High, "A", &[("instance", "b")]);
    let id = world.fire(0, &one, &["{}:{alertname=\"A\"}"], &[]);
    assert_eq!(world.fire(9, &two, &["{}:{alertname=\"A\"}"], &[]), id);
    assert!(world.story(id).ends_with("+A/group"));
}

#[test]
fn what_is_inhibited_belongs_to_its_cause_however_long_that_stands() {
    let mut world = world();
    let cause = alert(1, Level::Critical, "RackDown", &[("rack", "r1")]);
    let effect = alert(2, Level::High, "HostDown", &[("instance", "h1")]);
    let id = world.fire(0, &cause, &["g1"], &[]);
    assert_eq!(world.fire(300, &effect, &["g2"], &[1]), id);
    assert!(world.story(id).ends_with("+HostDown/inhibition"));
    // What is over is no cause any more.
    world.end(301, &cause);
    world.end(301, &effect);
    let later = alert(3, Level::High, "HostDown", &[("instance", "h2")]);
    assert_ne!(world.fire(302, &later, &["g3"], &[1]), id);
}

#[test]
fn an_alert_that_comes_back_opens_its_incident_again_within_the_window_and_not_later() {
    let mut world = world();
    let labels = [("service", "orders")];
    let first = alert(1, Level::High, "A", &labels);
    let id = world.fire(0, &first, &["g"], &[]);
    world.end(1, &first);
    world.tick(6);
    assert_eq!(world.stored[&id].state, IncidentState::Resolved);
    let second = alert(2, Level::High, "A", &labels);
    assert_eq!(world.fire(11, &second, &["g"], &[]), id);
    assert_eq!(
        (world.stored[&id].state, world.stored[&id].resolved_at),
        (IncidentState::Open, None)
    );
    world.end(12, &second);
    let third = alert(3, Level::High, "A", &labels);
    assert_ne!(world.fire(23, &third, &["g"], &[]), id);
    assert_eq!(
        world.story(id),
        "opened +A/first -A resolved reopened +A/group -A resolved"
    );
}

#[test]
fn the_worst_level_stays_and_names_the_incident() {
    let mut world = world();
    let mut one = alert(1, Level::High, "A", &[("service", "orders")]);
    let two = alert(2, Level::High, "B", &[("service", "orders")]);
    let id = world.fire(0, &one, &[], &[]);
    world.fire(0, &two, &[], &[]);
    assert_eq!(
        world.stored[&id].title, "A (service=orders)",
        "the first of the worst"
    );
    let mut risen = two.clone();
    for (level, expected) in [
        (Level::Critical, "B (service=orders)"),
        (Level::Low, "B (service=orders)"),
    ] {
        risen.level = level;
        world.incidents.level_changed(&risen, at(1), &world.chance);
        world.store();
        assert_eq!(world.stored[&id].title, expected);
        assert_eq!(world.stored[&id].level, Level::Critical);
    }
    one.level = Level::Critical;
    world.incidents.level_changed(&one, at(2), &world.chance);
    world.store();
    assert_eq!(world.story(id), "opened +A/first +B/service rose/critical");
}

#[test]
fn an_incident_that_is_full_is_followed_by_another() {
    let mut world = World::new(IncidentsConfig {
        alerts_max: 3,
        ..IncidentsConfig::default()
    });
    let ids: Vec<Id> = (0..7)
        .map(|number| {
            world.fire(
                0,
                &alert(number, Level::High, "A", &[("service", "x")]),
                &["g"],
                &[],
            )
        })
        .collect();
    assert!(ids[0] == ids[2] && ids[2] != ids[3] && ids[3] == ids[5] && ids[5] != ids[6]);
    assert!(world.stored.values().all(|incident| incident.alerts.len() <= 3));
}

#[test]
fn a_person_owns_renames_notes_ends_and_opens_again() {
    let mut world = world();
    let one = alert(1, Level::High, "A", &[("service", "orders")]);
    let two = alert(2, Level::Critical, "B", &[("service", "orders")]);
    let id = world.fire(0, &one, &[], &[]);
    world.act(1, id, Act::Own(Some("wang".to_owned()))).expect("done");
    world
        .act(1, id, Act::Rename("Orders are slow".to_owned()))
        .expect("done");
    world.act(1, id, Act::Note("looking".to_owned())).expect("done");
    world.fire(2, &two, &[], &[]);
    assert_eq!(world.stored[&id].title, "Orders are slow");
    let over = world.act(3, id, Act::Resolve("noise".to_owned())).expect("done");
    assert_eq!(
        (over.state, over.resolved_at),
        (IncidentState::Resolved, Some(at(3)))
    );
    assert_eq!(
        world.act(3, id, Act::Resolve("again".to_owned())),
        Err(IncidentError::Resolved(id))
    );
    // A person said that it is over: what comes next is another story.
    let three = alert(3, Level::High, "C", &[("service", "orders")]);
    let other = world.fire(4, &three, &[], &[]);
    assert_ne!(other, id);
    // A note on what is over and not in memory opens nothing.
    let noted = world
        .act(5, id, Act::Note("it was noise".to_owned()))
        .expect("done");
    assert_eq!(noted.state, IncidentState::Resolved);
    let firing = vec![one.id, two.id, three.id];
    let again = world.act(6, id, Act::Reopen { firing }).expect("done");
    assert_eq!(
        (again.state, again.is_held_open, again.resolved_at),
        (IncidentState::Open, true, None)
    );
    assert_eq!(world.incidents.of(two.id), Some(id));
    assert_eq!(
        world.incidents.of(three.id),
        Some(other),
        "what belongs to another stays there"
    );
    world.end(7, &one);
    world.end(7, &two);
    world.tick(600);
    assert_eq!(
        world.stored[&id].state,
        IncidentState::Open,
        "until a person says that it is over"
    );
    world
        .act(601, id, Act::Resolve("fixed".to_owned()))
        .expect("done");
    assert_eq!(
        world.story(id),
        "opened +A/first owner/wang renamed note/looking +B/service rose/critical resolved note/it was noise \
         reopened -A -B resolved"
    );
    let actors = world
        .timeline
        .iter()
        .filter(|event| event.actor.as_deref() == Some("wang"))
        .count();
    assert_eq!(actors, 7);
}

#[test]
fn what_a_person_says_has_its_limits() {
    let mut world = world();
    let id = world.fire(0, &alert(1, Level::High, "A", &[]), &[], &[]);
    for act in [
        Act::Own(Some(String::new())),
        Act::Own(Some("x".repeat(OWNER_LENGTH_MAX + 1))),
        Act::Rename("a\nb".to_owned()),
        Act::Rename("x".repeat(TITLE_LENGTH_MAX + 1)),
        Act::Note(String::new()),
        Act::Note("x".repeat(5000)),
        Act::Resolve(String::new()),
    ] {
        assert!(
            matches!(world.act(1, id, act.clone()), Err(IncidentError::Text { .. })),
            "{act:?}"
        );
    }
    assert_eq!(
        world.act(1, id, Act::Reopen { firing: Vec::new() }),
        Err(IncidentError::Open(id))
    );
    let unknown = Id::from_u128(99);
    assert_eq!(
        world.act(1, unknown, Act::Own(None)),
        Err(IncidentError::Unknown(unknown))
    );
}

#[test]
fn titles_are_bounded_and_say_so() {
    let mut world = world();
    let long = "x".repeat(500);
    let id = world.fire(0, &alert(1, Level::High, "A", &[("service", &long)]), &[], &[]);
    let title = &world.stored[&id].title;
    assert_eq!(title.chars().count(), TITLE_LENGTH_MAX);
    assert!(title.starts_with("A (service=xxx") && title.ends_with('…'));
}

#[test]
fn after_a_restart_alerts_join_and_end_as_if_nothing_had_been() {
    let mut before = world();
    let mut one = alert(1, Level::High, "A", &[("service", "orders"), ("instance", "a")]);
    let id = before.fire(0, &one, &["g1"], &[]);
    one.incident = Some(id);
    let mut after = world();
    let groups = ["g1".to_owned()];
    let stored = before.stored.values().cloned();
    after.incidents.restore(stored, [(&one, &groups[..])], at(2));
    after.stored = before.stored.clone();
    let by_label = alert(2, Level::Low, "B", &[("instance", "a")]);
    let by_group = alert(3, Level::Low, "C", &[]);
    assert_eq!(after.fire(3, &by_label, &[], &[]), id);
    assert_eq!(after.fire(3, &by_group, &["g1"], &[]), id);
    assert_eq!(
        after.stored[&id].title, "A",
        "the worst alert is still known by name"
    );
    for alert in [&one, &by_label, &by_group] {
        after.end(4, alert);
    }
    after.tick(9);
    assert_eq!(after.stored[&id].state, IncidentState::Resolved);
}

#[test]
fn after_a_restart_an_incident_whose_alerts_ended_meanwhile_is_given_the_hold_time() {
    let mut before = world();
    let id = before.fire(0, &alert(1, Level::High, "A", &[]), &[], &[]);
    let mut after = world();
    after
        .incidents
        .restore(before.stored.values().cloned(), [], at(60));
    assert_eq!(after.incidents.next_due(), Some(at(65)));
    after.tick(65);
    assert_eq!(after.stored[&id].state, IncidentState::Resolved);
}

#[test]
fn a_clock_set_back_leaves_no_incident_open_until_the_old_future() {
    let mut world = world();
    let one = alert(1, Level::High, "A", &[("service", "x")]);
    let id = world.fire(6000, &one, &[], &[]);
    world.end(6001, &one);
    world.tick(0);
    assert_eq!(world.incidents.next_due(), Some(at(5)));
    world.tick(5);
    assert_eq!(world.stored[&id].state, IncidentState::Resolved);
    let far = alert(2, Level::High, "A", &[("service", "x")]);
    assert_ne!(world.fire(30, &far, &[], &[]), id);
}

#[test]
fn while_incidents_are_off_none_opens_and_open_ones_come_to_their_end() {
    let mut world = world();
    let one = alert(1, Level::High, "A", &[("service", "x")]);
    let id = world.fire(0, &one, &[], &[]);
    world.incidents.configure(IncidentsConfig {
        is_enabled: false,
        ..IncidentsConfig::default()
    });
    let two = alert(2, Level::High, "B", &[("service", "x")]);
    assert_eq!(world.incidents.fired(&two, &[], &[], at(1), &world.chance), None);
    world.end(2, &one);
    world.tick(7);
    assert_eq!(world.stored[&id].state, IncidentState::Resolved);
}

#[test]
fn settings_out_of_their_limits_are_named() {
    assert_eq!(IncidentsConfig::default().validate(), Ok(()));
    let text = "{enabled: true, window: 0s, hold: 2d, labels: [service, service, ''], alerts_max: 1}";
    let config: IncidentsConfig = serde_saphyr::from_str(text).expect("reads");
    let text = config.validate().expect_err("refused").to_string();
    for place in [
        "window: 0s",
        "hold: 2d",
        "labels[1]",
        "labels[2]",
        "alerts_max: 1",
    ] {
        assert!(
            text.contains(&format!("incidents.{place}")),
            "{place} is not in\n{text}"
        );
    }
    assert!(serde_saphyr::from_str::<IncidentsConfig>("{windo: 1m}").is_err());
}

/// A hundred thousand alerts, each related to one other: what is looked through grows with the labels, not with what is open.
#[test]
fn a_hundred_thousand_alerts_find_their_incidents() {
    let mut world = world();
    for number in 0..100_000u128 {
        let (service, instance) = (format!("s{}", number / 2), format!("i{number}:9100"));
        let one = alert(
            number,
            Level::High,
            "A",
            &[("service", &service), ("instance", &instance)],
        );
        world
            .incidents
            .fired(&one, &[], &[], at(0), &world.chance)
            .expect("room");
    }
    world.store();
    assert_eq!(world.stored.len(), 50_000);
    assert!(world.stored.values().all(|incident| incident.alerts.len() == 2));
}

/// The same decisions by looking through every alert that ever joined, the newest first.
#[derive(Default)]
struct Naive {
    joined: Vec<(Id, Vec<String>)>,
    moved: HashMap<Id, (Timestamp, usize)>,
}

impl Naive {
    fn keys(config: &IncidentsConfig, alert: &Alert, groups: &[String]) -> Vec<String> {
        let groups = groups.iter().map(|group| format!("group {group}"));
        let labels = config
            .labels
            .iter()
            .filter_map(|name| Some(format!("{name} {}", alert.labels.get(name)?)));
        groups.chain(labels).collect()
    }

    fn find(&self, config: &IncidentsConfig, keys: &[String], now: Timestamp) -> Option<Id> {
        keys.iter().find_map(|key| {
            let (id, _) = self.joined.iter().rev().find(|(_, keys)| keys.contains(key))?;
            let (moved, count) = self.moved[id];
            (now.since(moved) <= config.window && count < config.alerts_max).then_some(*id)
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_index_finds_what_looking_through_all_of_them_finds(
        script in prop::collection::vec((0u64..8, 0usize..12, 0usize..3, 0usize..4, 0usize..4, 0usize..4), 1..120),
        alerts_max in 2usize..6,
    ) {
        let config = IncidentsConfig {
            alerts_max,
            labels: vec!["service".to_owned(), "host".to_owned()],
            ..IncidentsConfig::default()
        };
        let mut world = World::new(config.clone());
        let mut naive = Naive::default();
        let mut firing: BTreeMap<usize, (Alert, Id)> = BTreeMap::new();
        let (mut minute, mut next) = (0u64, 0u128);
        for (wait, slot, group, service, host, level) in script {
            minute += wait;
            if let Some((ended, id)) = firing.remove(&slot) {
                world.end(minute, &ended);
                naive.moved.get_mut(&id).expect("known").0 = at(minute);
                continue;
            }
            next += 1;
            // The last of the values means that the label is absent.
            let values = [format!("s{service}"), format!("h{host}")];
            let labels: Vec<(&str, &str)> = [("service", &values[0], service), ("host", &values[1], host)]
                .into_iter()
                .filter(|(_, _, number)| *number < 3)
                .map(|(name, value, _)| (name, value.as_str()))
                .collect();
            let one = alert(next, Level::ALL[level], "A", &labels);
            let group = format!("g{group}{service}");
            let keys = Naive::keys(&config, &one, std::slice::from_ref(&group));
            let expected = naive.find(&config, &keys, at(minute));
            let id = world.fire(minute, &one, &[&group], &[]);
            match expected {
                Some(expected) => prop_assert_eq!(id, expected),
                None => prop_assert!(!naive.moved.contains_key(&id), "it opens a new one"),
            }
            naive.joined.push((id, keys));
            let entry = naive.moved.entry(id).or_insert((at(minute), 0));
            *entry = (at(minute), entry.1 + 1);
            firing.insert(slot, (one, id));
            // What fires is in an open incident that knows it, at its level at least.
            for (alert, id) in firing.values() {
                let incident = &world.stored[id];
                prop_assert_eq!(incident.state, IncidentState::Open);
                prop_assert!(incident.alerts.contains(&alert.id) && incident.level >= alert.level);
            }
        }
        // Each alert is in exactly one incident.
        let mut all: Vec<Id> = world.stored.values().flat_map(|incident| incident.alerts.clone()).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (1..=next).map(Id::from_u128).collect::<Vec<_>>());
        // When everything has ended nothing is open, and nothing is left in memory.
        for (alert, _) in std::mem::take(&mut firing).into_values() {
            world.end(minute, &alert);
        }
        let mut ticks = 0;
        while let Some(due) = world.incidents.next_due() {
            world.incidents.tick(due, &world.chance);
            world.store();
            ticks += 1;
            prop_assert!(ticks < 1000, "each tick gets on");
        }
        prop_assert!(world.stored.values().all(|incident| incident.state == IncidentState::Resolved));
        let left = (world.incidents.kept.len(), world.incidents.of_alert.len(), world.incidents.index.len());
        prop_assert_eq!(left, (0, 0, 0));
        for (id, incident) in &world.stored {
            let story = world.story(*id);
            let count = |word: &str| story.split(' ').filter(|event| event.starts_with(word)).count();
            prop_assert_eq!(count("+"), incident.alerts.len());
            prop_assert_eq!(count("-"), incident.alerts.len());
            prop_assert_eq!(count("resolved"), count("reopened") + 1);
        }
    }
}

//! What goes beyond Prometheus: a rule's own interval, recovery, missing data, and the alert about a limit.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use marketprism_alerts::Alerts;
use marketprism_model::labels::ALERT_NAME;
use marketprism_model::series::ReadError;
use marketprism_model::{AlertState, Matcher, Selection, SeriesSource, TimeRange, Verdict};
use marketprism_promql::Uninterrupted;
use marketprism_rules::{GroupDefaults, Ports, RULE_LIMIT_ALERT, evaluate_alone, evaluate_group, parse_file};
use marketprism_state::Database;
use marketprism_storage::Store;
use marketprism_testkit::SeededChance;
use prometheus_client::registry::Registry;

use crate::world::{SECOND, World, minute};

fn group(rule: &str) -> String {
    let rule = rule.trim().replace('\n', "\n    ");
    format!("groups:\n- name: g\n  rules:\n  - {rule}\n")
}

/// Which instances are shown as what: `a=F b=p`, an alert about missing data as `a=F!series`.
fn shown(world: &World, minutes: i64) -> String {
    let letters = world.ask("ALERTS", minute(minutes)).into_iter().map(|line| {
        let label = |name: &str| {
            let begin = line.find(&format!("{name}=\""))? + name.len() + 2;
            Some(line[begin..].split('"').next().unwrap_or("").to_owned())
        };
        let state = if line.contains("pending") { 'p' } else { 'F' };
        let case = label("missing_data").map_or(String::new(), |case| format!("!{case}"));
        format!("{}={state}{case}", label("instance").unwrap_or_default())
    });
    let mut letters: Vec<String> = letters.collect();
    letters.sort();
    letters.join(" ")
}

/// Runs a rule over instances `a` and `b` of the metric `m`, a minute each: a digit is the value, `-` means that the
/// series has ended, `x` that the target could not be scraped.
fn check(rule: &str, a: &str, b: &str, expected: &[&str]) {
    let mut world = World::new(&group(rule));
    assert_eq!((a.len(), b.len()), (expected.len(), expected.len()));
    for (i, expected) in expected.iter().enumerate() {
        let at = minute(i as i64);
        world.clock.jump_to(at);
        for (instance, story) in [("a", a), ("b", b)] {
            let c = char::from(story.as_bytes()[i]);
            let series = |name| [("__name__", name), ("instance", instance), ("job", "node")];
            world.push(&series("m"), at, c.to_digit(10).map(f64::from));
            world.push(
                &series("up"),
                at,
                (c != '-').then_some(f64::from(u8::from(c != 'x'))),
            );
        }
        assert_eq!(world.tick(at)[0].failures, 0, "{:?}", world.error(0));
        assert_eq!(
            shown(&world, i as i64),
            *expected,
            "{rule}: minute {i} of {a} and {b}"
        );
    }
}

#[test]
fn a_plain_rule_recovers_only_when_its_value_has_come_back_far_enough() {
    let rule = "alert: A\nexpr: m > 5\nrecover: '< 3'";
    check(
        rule,
        "16543236",
        "44444444",
        &["", "a=F", "a=F", "a=F", "a=F", "", "", "a=F"],
    );
    // What lingers begins nothing: `for` counts only what holds.
    check(
        "alert: A\nexpr: m > 5\nrecover: '< 3'\nfor: 1m",
        "6466",
        "0000",
        &["a=p", "", "a=p", "a=F"],
    );
    // The number may stand on the left, and the sides may be turned.
    check(
        "alert: A\nexpr: 5 > m\nrecover: '>= 7'",
        "4667",
        "9999",
        &["a=F", "a=F", "a=F", ""],
    );
}

#[test]
fn missing_data_resolves_by_default_as_in_prometheus() {
    let rule = "alert: A\nexpr: m > 5";
    check(rule, "66-6", "1111", &["a=F", "a=F", "", "a=F"]);
    for word in ["resolve", "ok"] {
        check(
            &format!("{rule}\nmissing: {word}"),
            "66-",
            "1--",
            &["a=F", "a=F", ""],
        );
    }
}

#[test]
fn missing_data_may_keep_what_stands_and_data_that_is_well_ends_it() {
    let rule = "alert: A\nexpr: m > 5\nmissing: keep";
    check(rule, "6--61", "11111", &["a=F", "a=F", "a=F", "a=F", ""]);
    check(rule, "6--1-", "11111", &["a=F", "a=F", "a=F", "", ""]);
    // The whole selection may be gone as well.
    check(rule, "6--1", "1--1", &["a=F", "a=F", "a=F", ""]);
    // Nothing begins without data, and what pends does not fire on nothing.
    check(
        "alert: A\nexpr: m > 5\nfor: 2m\nmissing: keep",
        "-6--6",
        "11111",
        &["", "a=p", "a=p", "a=p", "a=F"],
    );
}

#[test]
fn a_target_that_cannot_be_scraped_is_told_from_a_series_that_is_gone() {
    let rule = "alert: A\nexpr: m > 5\nmissing: {series: resolve, scrape: keep}";
    check(rule, "6xx1", "1111", &["a=F", "a=F", "a=F", ""]);
    let world = |story: &str, expected: &[&str]| check(rule, story, &"1".repeat(story.len()), expected);
    world("6-", &["a=F", ""]);
    world("6x-", &["a=F", "a=F", ""]);
}

#[test]
fn missing_data_may_raise_an_alert_for_each_series_and_one_for_all() {
    let rule = "alert: A\nexpr: m > 5\nmissing: alert";
    check(rule, "1--11", "11111", &["", "a=F!series", "a=F!series", "", ""]);
    check(rule, "1xx1", "1111", &["", "a=F!scrape", "a=F!scrape", ""]);
    // What fires already stands; nobody is told twice.
    check(rule, "6--1", "1111", &["a=F", "a=F", "a=F", ""]);
    // A selection that is empty is one alert.
    check(rule, "1--1", "1--1", &["", "=F!empty", "=F!empty", ""]);
    check(
        "alert: A\nexpr: m > 5\nmissing: {empty: alert}",
        "1--1",
        "11-1",
        &["", "", "=F!empty", ""],
    );
    // An aggregate has no series of its own.
    check(
        "alert: A\nexpr: sum(m) > 8\nmissing: alert",
        "61--",
        "61-1",
        &["=F", "", "=F!empty", ""],
    );
}

#[test]
fn levels_know_missing_data_too_and_what_is_missing_is_at_the_lowest() {
    let rule = "alert: A\nexpr: m\nmissing: alert\nlevels:\n- {level: high, when: '> 5'}\n- {level: critical, when: '> 8'}";
    let mut world = World::new(&group(rule));
    world.push(&[("__name__", "m"), ("instance", "a")], minute(0), Some(1.0));
    world.push(&[("__name__", "m"), ("instance", "b")], minute(0), Some(1.0));
    world.tick(minute(0));
    world.push(&[("__name__", "m"), ("instance", "a")], minute(1), None);
    world.tick(minute(1));
    let observed = world.lifecycle.inner.lock().unwrap().observed["A"].clone();
    assert_eq!(observed.len(), 1);
    assert_eq!(observed[0].verdicts, [Verdict::Clear, Verdict::Holds]);
    assert!(observed[0].value.is_nan());
    assert_eq!(
        observed[0].annotations.get("missing_data_en"),
        Some("its series has vanished, and so its data is missing")
    );
}

#[test]
fn series_that_vanished_while_the_program_was_down_are_noticed() {
    let mut world = World::new(&group("alert: A\nexpr: m > 5\nmissing: alert"));
    let instance = |instance| [("__name__", "m"), ("instance", instance)];
    for name in ["a", "b"] {
        world.push(&instance(name), minute(0), Some(1.0));
    }
    world.push(&instance("a"), minute(1), None);
    // The first evaluation ever is half an hour later; b goes on.
    world.clock.jump_to(minute(31));
    world.push(&instance("b"), minute(31), Some(1.0));
    world.tick(minute(31));
    // a was there for a minute only, which none of the looks back meets.
    assert_eq!(shown(&world, 31), "");
    let mut world = World::new(&group("alert: A\nexpr: m > 5\nmissing: alert"));
    for i in 0..=2 {
        world.push(&instance("a"), minute(i), Some(1.0));
    }
    world.clock.jump_to(minute(32));
    world.push(&instance("b"), minute(32), Some(1.0));
    world.tick(minute(32));
    assert_eq!(shown(&world, 32), "a=F!series");
}

/// A store that answers a few questions and no more.
struct Failing {
    store: Store,
    answers_left: Mutex<usize>,
}

impl SeriesSource for Failing {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        let mut left = self.answers_left.lock().unwrap();
        *left = left
            .checked_sub(1)
            .ok_or(ReadError::Unavailable { state: "stopping" })?;
        self.store.select(matchers, range)
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, ReadError> {
        self.store.label_names(matchers, range)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, ReadError> {
        self.store.label_values(name, matchers, range)
    }
}

/// It failed the rule, and what had vanished was never looked for again.
#[test]
fn a_look_at_the_time_before_the_start_that_fails_is_repeated_and_fails_no_rule() {
    let mut world = World::new(&group("alert: A\nexpr: m > 5\nmissing: alert"));
    let instance = |instance| [("__name__", "m"), ("instance", instance)];
    for i in 0..=2 {
        world.push(&instance("a"), minute(i), Some(1.0));
    }
    world.clock.jump_to(minute(32));
    world.push(&instance("b"), minute(32), Some(9.0));
    // The rule itself is answered, and the first look back.
    let failing = Failing {
        store: world.store.clone(),
        answers_left: Mutex::new(1),
    };
    let ports = Ports {
        engine: &world.engine,
        source: &failing,
        sink: &world.store,
        lifecycle: &world.lifecycle,
        clock: &world.clock,
        interrupt: &Uninterrupted,
        installation: &world.installation,
    };
    let mut session = world.engine.session(&world.store, minute(32), &Uninterrupted);
    let tick = evaluate_group(&mut world.groups[0], minute(32), &ports, &mut session);
    drop(session);
    assert_eq!(tick.failures, 0, "{:?}", world.error(0));
    assert_eq!(shown(&world, 32), "b=F");
    world.tick(minute(33));
    assert_eq!(shown(&world, 33), "a=F!series b=F");
}

#[test]
fn what_makes_no_sense_is_refused_with_a_word_of_help() {
    let check = |rule: &str, words: &str| {
        let text = group(rule);
        let errors = parse_file("rules.yml", text.as_bytes(), &GroupDefaults::default()).expect_err(rule);
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|one| one.contains(words)), "{rule}: {told:?}");
        assert!(errors.iter().all(|error| error.line > 0), "{told:?}");
    };
    check(
        "alert: A\nexpr: m\nmissing: keep",
        "missing needs an expression that ends in a comparison",
    );
    check(
        "alert: A\nexpr: m > 1\nmissing: perhaps",
        "known are resolve, keep, alert",
    );
    check(
        "alert: A\nexpr: m > 1\nmissing: {seres: keep}",
        "did you mean \"series\"?",
    );
    check(
        "alert: A\nexpr: m > 1\nmissing: {series: keep, at_most: soon}",
        "at_most: ",
    );
    check(
        "alert: A\nexpr: absent(m)\nrecover: '< 1'",
        "recover needs an expression",
    );
    check("alert: A\nexpr: m > 5\nrecover: '< 6'", "must look the other way");
    check(
        "alert: A\nexpr: m\nrecover: '< 6'\nlevels: [{level: high, when: '> 7'}]",
        "a rule with levels says 'recover' in each of them",
    );
    check(
        "record: r\nexpr: m\nmissing: keep",
        "invalid field 'missing' in recording rule",
    );
    check(
        "record: r\nexpr: m\nrecover: '< 1'",
        "invalid field 'recover' in recording rule",
    );
    check(
        "record: r\nexpr: m\ninterval: 0s",
        "interval must be longer than 0",
    );
    let jitter = "groups: [{name: g, interval: 1m, jitter: 31s, rules: []}]";
    let errors = parse_file("rules.yml", jitter.as_bytes(), &GroupDefaults::default()).expect_err("too long");
    assert!(
        errors[0].reason.contains("half the shortest interval"),
        "{errors:?}"
    );
}

#[test]
fn a_rule_with_an_interval_of_its_own_runs_in_the_order_of_the_group_when_both_are_due() {
    let mut world = World::new(
        "groups:\n- name: g\n  interval: 1m\n  rules:\n  - {record: fast, expr: m}\n  - {record: slow, expr: fast * 10, interval: 3m}\n  - {record: last, expr: slow + 1}\n",
    );
    let mut counts = Vec::new();
    for i in 0..9 {
        let at = minute(i);
        world.clock.jump_to(at);
        world.push(&[("__name__", "m")], at, Some(i as f64));
        counts.push(world.tick(at)[0].evaluations);
    }
    // The first tick evaluates everything, then two of three.
    assert_eq!(counts[0], 3);
    assert!(
        counts[1..].windows(3).all(|three| three.iter().sum::<u64>() == 7),
        "{counts:?}"
    );
    let slow = world.ask("slow", minute(8));
    let last = world.ask("last", minute(8));
    let number = |lines: &[String]| lines[0].rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    assert_eq!(number(&last), number(&slow) + 1.0);
    let written = world.ask("count_over_time(slow[9m])", minute(8));
    assert_eq!(
        written,
        [format!(
            "{{}} {}",
            counts.iter().filter(|count| **count == 3).count()
        )]
    );
}

#[test]
fn a_limit_that_is_exceeded_is_an_alert_of_its_own_until_the_rule_succeeds_again() {
    let mut world =
        World::new("groups:\n- name: g\n  limit: 1\n  rules:\n  - {alert: A, expr: m > 0, for: 1m}\n");
    let story = [("a", 0, 1), ("b", 1, 1), ("b", 3, 0)];
    let limit_of = |world: &World| {
        let inner = world.lifecycle.inner.lock().unwrap();
        inner.observed.get(RULE_LIMIT_ALERT).cloned().unwrap_or_default()
    };
    let mut failures = Vec::new();
    for i in 0..5 {
        let at = minute(i);
        world.clock.jump_to(at);
        for (instance, from, value) in story {
            if i == from {
                world.push(
                    &[("__name__", "m"), ("instance", instance)],
                    at,
                    Some(f64::from(value)),
                );
            }
        }
        let tick = &world.tick(at)[0];
        failures.push((tick.failures, tick.over_limit, limit_of(&world).len()));
    }
    assert_eq!(failures, [(0, 0, 0), (1, 1, 1), (1, 1, 1), (0, 0, 0), (0, 0, 0)]);
    // What stood before the overflow stood through it: a's minute went on.
    assert_eq!(shown(&world, 4), "a=F");
}

/// Whether an alert about a limit fires after each minute of a story, by the lifecycle that runs, and that it is one.
fn limit_told(rules: &str, story: &[f64]) -> Vec<bool> {
    let mut world = World::new(&format!("groups:\n- name: g\n  limit: 1\n  rules:\n{rules}"));
    let lifecycle = Alerts::load(
        marketprism_alerts::Config::default(),
        Arc::new(Database::in_memory().expect("memory")),
        Arc::new(world.clock.clone()),
        Arc::new(SeededChance::new(1)),
        &mut Registry::default(),
    )
    .expect("nothing is there yet");
    let mut ids = HashSet::new();
    let mut told = Vec::new();
    for (at, value) in (0..).map(minute).zip(story) {
        world.clock.jump_to(at);
        for instance in ["a", "b"] {
            world.push(&[("__name__", "m"), ("instance", instance)], at, Some(*value));
        }
        let ports = Ports {
            engine: &world.engine,
            source: &world.store,
            sink: &world.store,
            lifecycle: &*lifecycle,
            clock: &world.clock,
            interrupt: &Uninterrupted,
            installation: &world.installation,
        };
        for group in &mut world.groups {
            evaluate_alone(group, at, &ports);
        }
        let active = lifecycle.active();
        let mut limits = active.iter().filter(|alert| {
            let name = alert.labels.get(ALERT_NAME);
            name == Some(RULE_LIMIT_ALERT) && alert.state == AlertState::Firing
        });
        let first = limits.next();
        assert!(limits.next().is_none(), "{active:?}");
        ids.extend(first.map(|alert| alert.id));
        told.push(first.is_some());
    }
    assert_eq!(ids.len(), 1, "it is one alert that stands");
    told
}

/// The rule that was well cleared what its namesake had raised, within one tick.
#[test]
fn a_rule_that_is_well_does_not_end_the_alert_about_its_namesake_s_limit() {
    let warning = "  - {alert: A, expr: m > 0, labels: {severity: warning}}\n";
    let critical = "  - {alert: A, expr: m > 8, labels: {severity: critical}}\n";
    let recorded = "  - {record: A, expr: m > 0}\n";
    let silent = "  - {alert: A, expr: m > 8}\n";
    for (one, other) in [
        (warning, critical),
        (critical, warning),
        (recorded, silent),
        (silent, recorded),
    ] {
        let rules = format!("{one}{other}");
        let told = limit_told(&rules, &[1.0, 1.0, 9.0, 1.0, 0.0, 0.0]);
        assert_eq!(told, [true, true, true, true, false, false], "{rules}");
    }
}

/// `SECOND` is what other tests count in.
#[test]
fn a_query_offset_moves_what_is_asked_and_written_and_not_what_is_judged() {
    let mut world = World::new(
        "groups:\n- name: g\n  query_offset: 1m\n  rules:\n  - {record: r, expr: m}\n  - {alert: A, expr: m > 0}\n",
    );
    world.push(&[("__name__", "m")], minute(0), Some(1.0));
    world.tick(minute(0));
    assert!(
        world.ask("ALERTS", minute(0)).is_empty(),
        "a minute ago there was nothing"
    );
    world.tick(minute(1));
    assert_eq!(
        world.ask("timestamp(r)", minute(1)),
        [format!("{{}} {}", minute(0).millis() / 1000)]
    );
    assert_eq!(
        world.ask("ALERTS_FOR_STATE", minute(1)),
        [format!(
            "ALERTS_FOR_STATE{{alertname=\"A\"}} {}",
            minute(1).millis() / 1000
        )],
        "the alert is judged at the tick itself"
    );
    assert_eq!(SECOND.as_millis(), 1000);
}

//! What a tick does: in which order, at which moment, and what is left alone when something fails.

use marketprism_model::{Labels, Verdict};
use marketprism_rules::Health;

use crate::world::{SECOND, START_MS, World, minute};

/// Runs one alerting rule for a while. Each character is a minute: `#` the metric is 1, `.` it is 0, a digit
/// is its value, `-` there is no sample and the series has ended. What comes out is what `ALERTS` shows:
/// `.` nothing, `p` pending, `F` firing, and, with levels, the first letter of the level that fires.
fn check(rule: &str, story: &str, expected: &str) {
    let rules = format!(
        "groups:\n- name: g\n  rules:\n  - {}\n",
        rule.trim().replace('\n', "\n    ")
    );
    let mut world = World::new(&rules);
    let mut shown = String::new();
    for (i, c) in story.chars().enumerate() {
        let at = minute(i as i64);
        let value = match c {
            '#' => Some(1.0),
            '.' => Some(0.0),
            '-' => None,
            digit => digit.to_digit(10).map(f64::from),
        };
        world.clock.jump_to(at);
        world.push(&[("__name__", "m"), ("instance", "a")], at, value);
        assert_eq!(world.tick(at)[0].failures, 0, "{:?}", world.error(0));
        let alerts = world.ask("ALERTS", at);
        assert!(alerts.len() <= 1, "{alerts:?}");
        shown.push(match alerts.first() {
            None => '.',
            Some(alert) if alert.contains("pending") => 'p',
            Some(alert) => match alert.split("severity=\"").nth(1) {
                Some(level) => level.chars().next().unwrap_or('?'),
                None => 'F',
            },
        });
    }
    assert_eq!(shown, expected, "{rule}: {story}");
}

#[test]
fn alert_fires_only_after_the_condition_held_for_two_minutes() {
    check("alert: A\nexpr: m == 1\nfor: 2m", "##.###.", "pp.ppF.");
    check("alert: A\nexpr: m == 1", "#.##-#", "F.FF.F");
}

#[test]
fn levels_rise_fall_and_linger() {
    let rule = "alert: A\nexpr: m\nlevels:\n- {level: high, when: '> 5', recover: '< 4'}\n- {level: critical, when: '>= 8', recover: '< 7'}";
    check(rule, "16897743546", ".hcccch...h");
}

#[test]
fn a_level_may_need_longer_than_another() {
    let rule = "alert: A\nexpr: m\nfor: 1m\nlevels:\n- {level: low, when: '> 2', for: 3m}\n- {level: critical, when: '> 8'}";
    check(rule, "333399991", "pppllccc.");
}

#[test]
fn a_rule_sees_what_the_rule_before_it_wrote_in_the_same_tick() {
    let mut world = World::new(
        "groups:\n- name: g\n  rules:\n  - {record: doubled, expr: m * 2}\n  - {alert: Twice, expr: doubled > 3}\n  - {record: firing, expr: 'sum by (alertname) (ALERTS{alertstate=\"firing\"})'}\n",
    );
    world.push(&[("__name__", "m"), ("instance", "a")], minute(0), Some(2.0));
    world.tick(minute(0));
    assert_eq!(world.ask("doubled", minute(0)), ["doubled{instance=\"a\"} 4"]);
    assert_eq!(world.ask("firing", minute(0)), ["firing{alertname=\"Twice\"} 1"]);
}

#[test]
fn alerts_carry_series_labels_then_rule_labels_then_the_name() {
    let mut world = World::new(
        "groups:\n- name: g\n  labels: {team: ops, severity: low}\n  rules:\n  - alert: A\n    expr: m > 0\n    labels: {severity: high, where: '{{ $labels.instance }}/{{ $externalLabels.site }}', drop: '', bad: '{{ $value.x }}'}\n    annotations:\n      summary: '{{ $labels.__name__ }} = {{ $value }} since {{ $externalURL }}'\n      others: '{{ range query \"m\" }}{{ .Value }} {{ end }}'\n",
    );
    for (instance, value) in [("a", 1.0), ("b", 0.0)] {
        world.push(
            &[
                ("__name__", "m"),
                ("instance", instance),
                ("drop", "x"),
                ("alertname", "old"),
            ],
            minute(0),
            Some(value),
        );
    }
    world.tick(minute(0));
    let observed = world.lifecycle.inner.lock().unwrap().observed["A"].clone();
    assert_eq!(observed.len(), 1);
    let expected = Labels::from_pairs([
        ("alertname", "A"),
        ("instance", "a"),
        ("severity", "high"),
        ("team", "ops"),
        ("where", "a/sh"),
        (
            "bad",
            "<error expanding template: error executing template __alert_A: template: __alert_A:1:121: executing \"__alert_A\" at <$value.x>: can't evaluate field x in type float64>",
        ),
    ]);
    assert_eq!(observed[0].labels, expected);
    assert_eq!(
        observed[0].annotations.get("summary"),
        Some("m = 1 since http://localhost:8082")
    );
    assert_eq!(observed[0].annotations.get("others"), Some("1 0 "));
    assert_eq!(observed[0].verdicts, [Verdict::Holds]);
    assert_eq!(world.lifecycle.inner.lock().unwrap().commits, [minute(0)]);
}

#[test]
fn for_state_holds_the_second_when_the_condition_began() {
    let mut world = World::new("groups:\n- name: g\n  rules:\n  - {alert: A, expr: m, for: 5m}\n");
    for i in 0..3 {
        world.push(&[("__name__", "m")], minute(i), Some(1.0));
        world.tick(minute(i));
    }
    let started = (START_MS / 1000).to_string();
    assert_eq!(
        world.ask("ALERTS_FOR_STATE", minute(2)),
        [format!("ALERTS_FOR_STATE{{alertname=\"A\"}} {started}")]
    );
    assert_eq!(
        world.ask("ALERTS", minute(2)),
        ["ALERTS{alertname=\"A\", alertstate=\"pending\"} 1"]
    );
}

#[test]
fn a_series_that_vanished_ends_at_once_and_one_that_changes_state_leaves_no_double() {
    let mut world = World::new(
        "groups:\n- name: g\n  rules:\n  - {record: r, expr: m > 0}\n  - {alert: A, expr: m > 0, for: 1m}\n",
    );
    let story = [(1.0, "r 1", "pending"), (1.0, "r 1", "firing"), (0.0, "", "")];
    for (i, (value, recorded, state)) in story.into_iter().enumerate() {
        let at = minute(i as i64);
        world.clock.jump_to(at);
        world.push(&[("__name__", "m")], at, Some(value));
        world.tick(at);
        assert_eq!(world.ask("r", at).join(""), recorded);
        let alerts = world.ask("ALERTS", at);
        assert_eq!(
            (alerts.len(), alerts.join("").contains(state)),
            (usize::from(!state.is_empty()), true),
            "{alerts:?}"
        );
    }
}

#[test]
fn a_failed_evaluation_changes_nothing_and_is_shown() {
    let mut world = World::new(
        "groups:\n- name: g\n  rules:\n  - {record: r, expr: m + on (x) n}\n  - {alert: A, expr: m + on (x) n > 0}\n",
    );
    world.push(&[("__name__", "m"), ("x", "1"), ("i", "a")], minute(0), Some(1.0));
    world.push(&[("__name__", "n"), ("x", "1")], minute(0), Some(1.0));
    assert_eq!(world.tick(minute(0))[0].failures, 0);
    assert_eq!(world.ask("ALERTS", minute(0)).len(), 1);
    // A second series on the left makes the match ambiguous.
    world.clock.jump_to(minute(1));
    world.push(&[("__name__", "m"), ("x", "1"), ("i", "b")], minute(1), Some(1.0));
    let tick = &world.tick(minute(1))[0];
    assert_eq!((tick.evaluations, tick.failures, tick.samples), (2, 2, 0));
    assert_eq!(
        world.ask("r", minute(1)).len(),
        1,
        "no mark of the end was written"
    );
    assert_eq!(world.ask("ALERTS{alertstate=\"firing\"}", minute(1)).len(), 1);
    let snapshot = world.groups[0].snapshot();
    assert_eq!(snapshot.rules[1].health, Health::Err);
    assert_eq!(snapshot.rules[1].alerts.len(), 1, "the alert stands");
    // The other series ends, and so does the failure.
    world.clock.jump_to(minute(2));
    world.push(&[("__name__", "m"), ("x", "1"), ("i", "b")], minute(2), None);
    assert_eq!(world.tick(minute(2))[0].failures, 0);
    assert_eq!(
        (world.error(0), world.groups[0].snapshot().rules[0].health),
        (None, Health::Ok)
    );
}

#[test]
fn results_that_the_labels_do_not_tell_apart_fail_the_rule() {
    let mut world = World::new(
        "groups:\n- name: g\n  rules:\n  - {record: r, expr: m, labels: {instance: ''}}\n  - {record: s, expr: '{__name__=~\"m|n\"}'}\n  - {alert: A, expr: m, labels: {instance: all}}\n",
    );
    for (name, instance) in [("m", "a"), ("m", "b"), ("n", "a")] {
        world.push(
            &[("__name__", name), ("instance", instance)],
            minute(0),
            Some(1.0),
        );
    }
    assert_eq!(world.tick(minute(0))[0].failures, 3);
    assert_eq!(
        world.error(1).unwrap(),
        "two results have the labels s{instance=\"a\"}; the rule's expression or labels must tell them apart"
    );
    assert!(
        world
            .error(2)
            .unwrap()
            .contains("{alertname=\"A\", instance=\"all\"}")
    );
    assert_eq!(world.ask("{__name__=~\"r|s|ALERTS\"}", minute(0)), [""; 0]);
    assert!(
        !world.lifecycle.inner.lock().unwrap().observed.contains_key("A"),
        "nothing of it was sent"
    );
}

#[test]
fn a_limit_that_is_exceeded_fails_the_rule_and_keeps_what_stood() {
    let mut world = World::new(
        "groups:\n- name: g\n  limit: 1\n  rules:\n  - {record: r, expr: m}\n  - {alert: A, expr: m > 0}\n",
    );
    world.push(&[("__name__", "m"), ("i", "a")], minute(0), Some(1.0));
    assert_eq!(world.tick(minute(0))[0].failures, 0);
    world.clock.jump_to(minute(1));
    world.push(&[("__name__", "m"), ("i", "b")], minute(1), Some(1.0));
    assert_eq!(world.tick(minute(1))[0].failures, 2);
    assert_eq!(world.error(0).unwrap(), "exceeded limit of 1 with 2 series");
    assert_eq!(world.error(1).unwrap(), "exceeded limit of 1 with 2 alerts");
    assert_eq!(world.ask("r", minute(1)).len(), 1);
    assert_eq!(world.ask("ALERTS{i=\"a\"}", minute(1)).len(), 1);
}

#[test]
fn an_offset_reads_and_writes_in_the_past_and_judges_now() {
    let mut world = World::new(
        "groups:\n- name: g\n  query_offset: 2m\n  rules:\n  - {record: r, expr: m}\n  - {alert: A, expr: m > 1}\n",
    );
    for i in 0..=5 {
        world.clock.jump_to(minute(i));
        world.push(&[("__name__", "m")], minute(i), Some(i as f64));
    }
    world.tick(minute(5));
    assert_eq!(world.ask("r", minute(3)), ["r 3"]);
    assert_eq!(
        world.ask("timestamp(r)", minute(5)),
        [format!("{{}} {}", minute(3).seconds_f64())]
    );
    assert_eq!(world.ask("timestamp(ALERTS)", minute(5)).len(), 1);
    assert_eq!(world.groups[0].snapshot().rules[1].alerts[0].active_at, minute(5));
}

#[test]
fn a_scalar_is_a_series_without_labels_and_a_text_fails() {
    let mut world = World::new(
        "groups:\n- name: g\n  rules:\n  - {record: one, expr: 1, labels: {a: b}}\n  - {record: text, expr: '\"x\"'}\n",
    );
    world.tick(minute(0));
    assert_eq!(world.ask("one", minute(0)), ["one{a=\"b\"} 1"]);
    assert_eq!(world.error(1).unwrap(), "rule result is not a vector or scalar");
}

#[test]
fn a_reload_keeps_what_is_still_there_and_ends_what_is_gone() {
    let mut world = World::new(
        "groups:\n- name: g\n  rules:\n  - {record: stays, expr: m}\n  - {record: goes, expr: m}\n  - {alert: Stays, expr: m}\n",
    );
    world.push(&[("__name__", "m")], minute(0), Some(1.0));
    world.tick(minute(0));
    // The rules that stay move to another group, and one gets another expression.
    let at = minute(0) + SECOND;
    world.reload(
        "groups:\n- name: h\n  rules:\n  - {record: stays, expr: m * 2}\n  - {alert: Stays, expr: m}\n",
        at,
    );
    assert_eq!(world.ask("goes", at), [""; 0]);
    assert_eq!(world.ask("stays", at), ["stays 1"]);
    assert_eq!(world.ask("ALERTS", at).len(), 1);
    assert_eq!(world.groups[0].snapshot().rules[1].alerts.len(), 1);
    world.tick(minute(1));
    assert_eq!(world.ask("stays", minute(1)), ["stays 2"]);
}

#[test]
fn equal_rules_are_told_apart_by_their_order() {
    let world = World::new(
        "groups:\n- name: g\n  rules:\n  - {alert: A, expr: m > 1}\n  - {alert: A, expr: m > 2}\n  - {alert: A, expr: m > 2, labels: {x: y}}\n",
    );
    let rules = &world.groups[0].spec().rules;
    let ids: std::collections::BTreeSet<_> = rules.iter().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), 3);
    for rule in rules {
        assert_eq!(rule.alerting().unwrap().context.id, rule.id);
    }
}

#[test]
fn a_week_of_minutes_keeps_every_series_and_every_alert() {
    let mut world = World::new(
        "groups:\n- name: g\n  rules:\n  - {record: r, expr: m}\n  - {alert: A, expr: r > 4, for: 3m}\n",
    );
    let mut firing = 0;
    for i in 0..7 * 24 * 60 {
        world.clock.jump_to(minute(i));
        // Up for half of every hour.
        let value = if i % 60 < 30 { 9.0 } else { 0.0 };
        world.push(&[("__name__", "m"), ("i", "a")], minute(i), Some(value));
        let tick = &world.tick(minute(i))[0];
        assert_eq!((tick.failures, tick.samples_refused), (0, 0));
        firing += world.ask("ALERTS{alertstate=\"firing\"}", minute(i)).len();
    }
    assert_eq!(firing, 7 * 24 * 27);
}

/// A template may write a quarter of a megabyte; all of it went with each alert into memory, records and messages.
#[test]
fn texts_of_templates_are_cut_to_a_size_that_can_be_kept_and_sent() {
    let mut world = World::new(
        "groups: [{name: g, rules: [{alert: A, expr: m == 1, labels: {long: '{{ printf \"%200000s\" \"a\" }}'}, annotations: {summary: '主{{ printf \"%200000s\" \"a\" }}'}}]}]",
    );
    world.push(&[("__name__", "m")], minute(0), Some(1.0));
    assert_eq!(world.tick(minute(0))[0].failures, 0, "{:?}", world.error(0));
    let inner = world.lifecycle.inner.lock().unwrap();
    let observation = &inner.observed["A"][0];
    let (label, text) = (
        observation.labels.get("long").unwrap(),
        observation.annotations.get("summary").unwrap(),
    );
    assert_eq!((label.len(), text.len()), (4 << 10, 16 << 10), "{label:.200}");
    assert!(label.ends_with('…') && text.ends_with('…'));
}

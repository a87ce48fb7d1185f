//! Backtests: columns and ticks come to the same, and to what the running program would have done.

use std::sync::Arc;
use std::time::Duration;

use marketprism_alerts::Config;
use marketprism_alerts::rehearsal::{Rehearsal, Told};
use marketprism_model::sample::{Durability, stale_nan};
use marketprism_model::{
    Chance as _, Clock as _, Labels, RefSample, SampleSink as _, SeriesSource, Timestamp,
};
use marketprism_promql::{Engine, EngineConfig, Uninterrupted};
use marketprism_rules::backtest::{
    BacktestError, EVALUATIONS_MAX, Given, Method, Report, Request, backtest, svg,
};
use marketprism_rules::{Installation, Language, RuleSet};
use marketprism_storage::Store;
use marketprism_testkit::{MachineClock, ManualClock, SeededChance};

use crate::world::{MINUTE_MS, START_MS, minute, rule_set};

/// A store whose series tell a story: one character a minute, `_` no sample, `x` the end.
fn store(stories: &[(&[(&str, &str)], &str)]) -> Store {
    let clock = ManualClock::new(minute(0));
    let store = Store::in_memory(Arc::new(clock.clone()));
    let named: Vec<_> = stories
        .iter()
        .map(|(series, story)| {
            let named = store
                .resolve(&Labels::from_pairs(series.iter().copied()))
                .unwrap();
            (named, story.chars().collect::<Vec<char>>())
        })
        .collect();
    let length = named
        .iter()
        .map(|(_, story)| story.len())
        .max()
        .unwrap_or_default();
    for at in 0..length {
        clock.jump_to(minute(at as i64));
        for (series, story) in &named {
            let value = match story.get(at) {
                None | Some('_') => continue,
                Some('x') => stale_nan(),
                Some('n') => f64::NAN,
                Some(digit) => f64::from(digit.to_digit(36).unwrap()),
            };
            let sample = RefSample {
                series: *series,
                timestamp: minute(at as i64),
                value,
            };
            let appended = store.append(&[sample], Durability::Interval).unwrap();
            assert_eq!(appended.accepted, 1);
        }
    }
    store
}

fn run(
    source: &dyn SeriesSource,
    rules: &RuleSet,
    minutes: (i64, i64),
    method: Option<Method>,
    config: Config,
) -> Result<(Report, Told), BacktestError> {
    run_by(EngineConfig::default(), source, rules, minutes, method, config)
}

fn run_by(
    engine: EngineConfig,
    source: &dyn SeriesSource,
    rules: &RuleSet,
    minutes: (i64, i64),
    method: Option<Method>,
    config: Config,
) -> Result<(Report, Told), BacktestError> {
    let (start, end) = (minute(minutes.0), minute(minutes.1));
    let rehearsal = Rehearsal::new(config, start).unwrap();
    let engine = Engine::new(engine);
    let installation = Installation::default();
    let report = backtest(
        &Request {
            rules,
            start,
            end,
            now: end,
            step: None,
            method,
            evaluations_max: EVALUATIONS_MAX,
        },
        &Given {
            engine: &engine,
            source,
            lifecycle: rehearsal.lifecycle(),
            move_to: &|at| rehearsal.move_to(at, &|| false),
            installation: &installation,
            interrupt: &Uninterrupted,
            progress: &|_| {},
        },
    )?;
    Ok((report, rehearsal.told()))
}

/// The stretches of a rule's first alert, a character a minute.
fn picture(report: &Report, rule: usize, minutes: (i64, i64)) -> String {
    let Some(alert) = report.rules[rule].alerts.first() else {
        return String::new();
    };
    let shown = |at: Timestamp| {
        let holds =
            |one: &&marketprism_rules::backtest::Stretch| one.from <= at && (at < one.to || one.is_open);
        match alert.stretches.iter().find(holds) {
            None => '.',
            Some(one) if one.state == marketprism_model::AlertState::Pending => 'p',
            Some(one) if report.rules[rule].name == "Leveled" => one.level.as_str().chars().next().unwrap(),
            Some(_) => 'F',
        }
    };
    // A group's moments lie within each minute, wherever its slot is.
    (minutes.0..minutes.1)
        .map(|at| shown(minute(at) + Duration::from_millis(59_999)))
        .collect()
}

const PLAIN: &str = r#"groups:
- name: g
  rules:
  - {alert: Plain, expr: m == 1, for: 2m, labels: {severity: page}}
  - alert: Leveled
    expr: m
    levels:
    - {level: high, when: '> 5', recover: '< 4'}
    - {level: critical, when: '>= 8', recover: '< 7', for: 1m}
"#;

#[test]
fn a_backtest_tells_what_would_have_fired_when_and_for_how_long() {
    let source = store(&[(&[("__name__", "m"), ("i", "a")], "0011110110066998866300000000")]);
    for method in [Method::Columns, Method::Ticks] {
        let (report, told) = run(
            &source,
            &rule_set(PLAIN),
            (0, 28),
            Some(method),
            Config::default(),
        )
        .unwrap();
        assert_eq!(report.method, method);
        assert_eq!(
            picture(&report, 0, (0, 27)),
            "..ppFF.pp..................",
            "{method:?}"
        );
        assert_eq!(
            picture(&report, 1, (0, 27)),
            "...........hhhccchh........",
            "{method:?}"
        );
        let plain = &report.rules[0];
        assert_eq!((plain.fired, plain.flaps, plain.failures), (1, 0, 0));
        assert_eq!((plain.firing_s, plain.evaluations), (120.0, 28));
        assert!(told.total > 0 && told.is_supposed, "{told:?}");
        // `m == 1` filters at the value with which it began.
        assert_eq!(plain.alerts[0].value, 1.0);
        assert_eq!(
            plain.alerts[0].labels,
            Labels::from_pairs([("alertname", "Plain"), ("i", "a"), ("severity", "page")])
        );
    }
}

const MANY: &str = r#"groups:
- name: first
  interval: 30s
  rules:
  - {record: r, expr: 'sum by (i) (m)', labels: {kind: sum}}
  - {alert: OfRecord, expr: 'r > 4', for: 90s, keep_firing_for: 1m}
  - {alert: ByValue, expr: 'm > 3', labels: {how: '{{ if gt $value 6.0 }}much{{ else }}some{{ end }}'}}
- name: second
  query_offset: 20s
  rules:
  - {alert: Lost, expr: 'absent(m{i="a"})', for: 1m}
  - {alert: Joined, expr: 'm * on (j) group_left () n > 2'}
  - {alert: Twice, expr: 'm > 5', labels: {i: same}}
  - alert: Leveled
    expr: 'avg_over_time(m[150s])'
    levels:
    - {level: low, when: '> 2', recover: '< 1', for: 2m}
    - {level: critical, when: '> 6', keep_firing_for: 3m}
  - {record: doubled, expr: 'r * 2'}
  - {alert: Scalar, expr: 'scalar(m{i="b"}) > bool 3', keep_firing_for: 1m}
"#;

#[test]
fn columns_and_ticks_come_to_the_same() {
    let cases = std::env::var("MARKETPRISM_BACKTESTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(40);
    let dice = SeededChance::new(4);
    let marks: Vec<char> = "0123456789__xn11777".chars().collect();
    let rules = rule_set(MANY);
    let (mut fired, mut failed, mut messages) = (0, 0, 0);
    for case in 0..cases {
        let length = 40 + (dice.next_u64() % 60) as i64;
        let story = |pace: u64| -> String {
            let mut mark = '1';
            (0..length)
                .map(|_| {
                    if dice.next_u64().is_multiple_of(pace) {
                        mark = marks[(dice.next_u64() % marks.len() as u64) as usize];
                    }
                    mark
                })
                .collect()
        };
        let (a, b, n, n2) = (story(2), story(5), story(9), story(7));
        let source = store(&[
            (&[("__name__", "m"), ("i", "a"), ("j", "x")], &a),
            (&[("__name__", "m"), ("i", "b"), ("j", "x")], &b),
            (&[("__name__", "n"), ("j", "x")], &n),
            (&[("__name__", "n"), ("j", "x"), ("k", "x")], &n2),
        ]);
        let ask = |method| run(&source, &rules, (0, length), Some(method), Config::default()).unwrap();
        let (mut columns, told) = ask(Method::Columns);
        let (ticks, told_by_ticks) = ask(Method::Ticks);
        columns.method = Method::Ticks;
        for (ours, theirs) in columns.rules.iter().zip(&ticks.rules) {
            assert_eq!(
                ours, theirs,
                "case {case}: {} over\n{a}\n{b}\n{n}\n{n2}",
                ours.name
            );
        }
        assert_eq!(columns, ticks, "case {case}");
        assert_eq!(told, told_by_ticks, "case {case}");
        fired += ticks.rules.iter().map(|rule| rule.fired).sum::<u64>();
        failed += ticks.rules.iter().map(|rule| rule.failures).sum::<u64>();
        messages += told.total;
    }
    println!("{cases} cases: fired {fired} times, failed {failed} times, {messages} messages");
    assert!(
        fired > 100 && failed > 100 && messages > 100,
        "{fired} {failed} {messages}"
    );
}

#[test]
fn columns_are_chosen_only_where_they_mean_the_same() {
    let check = |rules: &str, expected: Method| {
        let text = format!("groups:\n- name: g\n  rules:\n{rules}");
        let source = store(&[(&[("__name__", "m")], "0101")]);
        let (report, _) = run(&source, &rule_set(&text), (0, 4), None, Config::default()).unwrap();
        assert_eq!(report.method, expected, "{rules}");
        let forced = run(
            &source,
            &rule_set(&text),
            (0, 4),
            Some(Method::Columns),
            Config::default(),
        );
        match (expected, forced) {
            (Method::Columns, Ok((forced, _))) => assert_eq!(forced, report, "{rules}"),
            (Method::Ticks, Err(error)) => {
                let told = error.to_string();
                assert!(told.contains("cannot be run in columns: it"), "{rules}: {told}");
                assert!(told.ends_with("; ask for a backtest by ticks"), "{told}");
            }
            (expected, forced) => panic!("{rules}: {expected:?}, {forced:?}"),
        }
    };
    check("  - {alert: A, expr: m > 0}\n", Method::Columns);
    check(
        "  - {record: r, expr: m}\n  - {alert: A, expr: r > 0}\n",
        Method::Columns,
    );
    check(
        "  - {alert: A, expr: r > 0}\n  - {record: r, expr: m}\n",
        Method::Ticks,
    );
    check("  - {record: r, expr: r or m}\n", Method::Ticks);
    check("  - {record: r, expr: '{i=\"a\"} or m'}\n", Method::Ticks);
    check("  - {alert: A, expr: 'count(ALERTS) > 0'}\n", Method::Ticks);
    check("  - {alert: A, expr: 'm offset -1m > 0'}\n", Method::Ticks);
    check("  - {alert: A, expr: 'm @ end() > 0'}\n", Method::Ticks);
    check("  - {alert: A, expr: 'm > 0', interval: 20s}\n", Method::Ticks);
    check(
        "  - {alert: A, expr: 'm > 0', labels: {a: '{{ query \"m\" | len }}'}}\n",
        Method::Ticks,
    );
}

#[test]
fn what_a_rule_recorded_in_the_past_does_not_count_from_the_beginning_on() {
    // The stored recording says 9 throughout; the rule now says 1.
    let source = store(&[
        (&[("__name__", "m")], "1111111111"),
        (&[("__name__", "r")], "9999999999"),
    ]);
    let text = "groups:\n- name: g\n  rules:\n  - {record: r, expr: m}\n  - {alert: A, expr: r > 5}\n  - {alert: B, expr: 'max_over_time(r[3m]) > 5'}\n";
    for method in [Method::Columns, Method::Ticks] {
        let (report, _) = run(&source, &rule_set(text), (5, 9), Some(method), Config::default()).unwrap();
        assert_eq!(report.rules[1].fired, 0, "{method:?}");
        // What was recorded before the beginning is all there is of that time.
        assert_eq!(picture(&report, 2, (5, 9)), "FF..", "{method:?}");
    }
}

#[test]
fn rules_with_intervals_of_their_own_are_evaluated_as_often_as_in_the_running_program() {
    let source = store(&[(&[("__name__", "m")], &"1".repeat(31))]);
    let text = "groups:\n- name: g\n  interval: 1m\n  rules:\n  - {alert: Often, expr: m, interval: 20s}\n  - {alert: Seldom, expr: m, interval: 5m}\n";
    let (report, _) = run(&source, &rule_set(text), (0, 30), None, Config::default()).unwrap();
    let (often, seldom) = (&report.rules[0], &report.rules[1]);
    assert_eq!((often.interval_s, seldom.interval_s), (20.0, 300.0));
    assert!((90..=91).contains(&often.evaluations), "{}", often.evaluations);
    // The first tick of all evaluates it whenever that is, as after a start.
    assert!((6..=7).contains(&seldom.evaluations), "{}", seldom.evaluations);
    assert_eq!(report.evaluations, often.evaluations + seldom.evaluations);
}

#[test]
fn limits_are_told_with_what_to_do() {
    let source = store(&[(&[("__name__", "m")], "1")]);
    let rules = rule_set(PLAIN);
    let ask_until = |minutes, now, evaluations_max| {
        let rehearsal = Rehearsal::new(Config::default(), minute(0)).unwrap();
        let engine = Engine::new(EngineConfig::default());
        let request = Request {
            rules: &rules,
            start: minute(0),
            end: minute(minutes),
            now: minute(now),
            step: None,
            method: None,
            evaluations_max,
        };
        let given = Given {
            engine: &engine,
            source: &source,
            lifecycle: rehearsal.lifecycle(),
            move_to: &|at| rehearsal.move_to(at, &|| false),
            installation: &Installation::default(),
            interrupt: &|| evaluations_max == 1_000_000,
            progress: &|_| {},
        };
        backtest(&request, &given)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let ask = |minutes, evaluations_max| ask_until(minutes, minutes, evaluations_max);
    assert_eq!(
        ask(0, 100),
        Err("the range is empty: the end must lie after the start".to_owned())
    );
    assert_eq!(
        ask(60, 100),
        Err("2 rules over this range are 120 evaluations, more than 100; shorten the range, choose fewer rules, or set a \
             longer step"
            .to_owned())
    );
    assert_eq!(ask(60, 1_000_000), Err("backtest was cancelled".to_owned()));
    assert_eq!(
        ask_until(60, 54, 1_000),
        Err("the range must not end after the present".to_owned())
    );
    assert_eq!(ask_until(60, 55, 1_000), Ok(()), "clocks differ");
    let ten_years = 3653 * 1440;
    assert_eq!(
        ask(ten_years + 1, 50_000_000),
        Err("the range must not be longer than ten years".to_owned())
    );
}

#[test]
fn time_that_passes_in_a_rehearsal_stops_when_told_to() {
    let start = minute(0);
    let rehearsal = Rehearsal::new(Config::default(), start).unwrap();
    let source = store(&[(&[("__name__", "m")], "1")]);
    let engine = Engine::new(EngineConfig::default());
    let rules = rule_set("groups:\n- name: g\n  rules:\n  - {alert: A, expr: 'vector(1)'}\n");
    // The alert fires on for years, and is told of again and again; whoever asked leaves meanwhile.
    let asked = std::cell::Cell::new(0);
    let is_stopped = || {
        asked.set(asked.get() + 1);
        asked.get() > 10
    };
    let run = |minutes, is_stopped: &dyn Fn() -> bool| {
        let request = Request {
            rules: &rules,
            start,
            end: minute(minutes),
            now: minute(minutes),
            step: None,
            method: None,
            evaluations_max: EVALUATIONS_MAX,
        };
        let given = Given {
            engine: &engine,
            source: &source,
            lifecycle: rehearsal.lifecycle(),
            move_to: &|at| rehearsal.move_to(at, is_stopped),
            installation: &Installation::default(),
            interrupt: &Uninterrupted,
            progress: &|_| {},
        };
        backtest(&request, &given).unwrap()
    };
    assert_eq!(run(5, &|| false).rules[0].fired, 1);
    let told = rehearsal.told().total;
    rehearsal.move_to(minute(5 * 365 * 1440), &is_stopped).unwrap();
    let more = rehearsal.told().total - told;
    assert_eq!(asked.get(), 11);
    assert!(more <= 10, "{more} more messages");
}

#[test]
fn what_a_backtest_holds_is_limited_as_one_query_is() {
    let many: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    let story: String = (0..1000)
        .map(|at| if at % 100 < 50 { '1' } else { '9' })
        .collect();
    let over = |series: usize, minutes: usize| {
        let labels: Vec<[(&str, &str); 2]> = many[..series]
            .iter()
            .map(|i| [("__name__", "m"), ("i", i.as_str())])
            .collect();
        let stories: Vec<(&[(&str, &str)], &str)> = labels
            .iter()
            .map(|labels| (&labels[..], &story[..minutes]))
            .collect();
        store(&stories)
    };
    let ask = |source: &Store, rule: &str, minutes: i64, method: Method| {
        let rules = rule_set(&format!("groups:\n- name: g\n  rules:\n  - {rule}\n"));
        let engine = EngineConfig {
            samples_max: 2_000,
            ..EngineConfig::default()
        };
        run_by(
            engine,
            source,
            &rules,
            (0, minutes),
            Some(method),
            Config::default(),
        )
        .map(|(report, _)| (report.rules[0].fired, report.rules[0].failures))
        .map_err(|error| error.to_string())
    };
    let (alert, record) = ("{alert: A, expr: m > 5}", "{record: r, expr: sum(m)}");
    // A window of few series and many ticks is made shorter; one that is too wide at its shortest is refused.
    let narrow = over(3, 1000);
    let by_ticks = ask(&narrow, alert, 1000, Method::Ticks);
    assert_eq!(ask(&narrow, alert, 1000, Method::Columns), Ok((30, 0)));
    assert_eq!(
        by_ticks,
        Err("more than 2000 written samples; shorten the range or choose fewer rules".to_owned()),
        "each firing alert is written as series"
    );
    let wide = over(100, 64);
    assert_eq!(
        ask(&wide, "{alert: A, expr: m}", 64, Method::Columns),
        Err("more than 2000 results of a rule at once; shorten the range or choose fewer rules".to_owned())
    );
    let refused = Err("more than 2000 written samples; shorten the range or choose fewer rules".to_owned());
    for method in [Method::Columns, Method::Ticks] {
        assert_eq!(ask(&narrow, record, 1000, method), Ok((0, 0)), "{method:?}");
        assert_eq!(
            ask(&narrow, "{record: r, expr: m}", 1000, method),
            refused,
            "{method:?}"
        );
    }
}

/// A month of one rule over a hundred series, every 15 seconds, with an alert now and then.
#[test]
fn a_month_of_one_rule_over_a_hundred_series_takes_seconds() {
    let source = marketprism_rules::backtest::memory::Memory::default();
    let step_ms = 15_000;
    let ticks = 30 * 86_400_000 / step_ms;
    let dice = SeededChance::new(9);
    for i in 0..100 {
        let labels = Labels::from_pairs([("__name__", "m"), ("i", &i.to_string())]);
        let points = (0..ticks).map(|tick| {
            // Once in three days for ten minutes each is above the threshold.
            let is_high = (tick + i * 170) % 17_280 < 40;
            let noise = (dice.next_u64() % 100) as f64 / 10.0;
            let value = if is_high { 95.0 } else { 50.0 + noise };
            (
                START_MS + tick * step_ms,
                marketprism_rules::backtest::memory::Point::Number(value),
            )
        });
        source.load(&labels, points.collect());
    }
    let minutes = 30 * 86_400_000 / MINUTE_MS;
    source.show_until(minute(minutes));
    let rules =
        rule_set("groups:\n- name: g\n  interval: 15s\n  rules:\n  - {alert: High, expr: m > 90, for: 1m}\n");
    let clock = MachineClock::default();
    let begun = clock.monotonic();
    let (report, told) = run(&source, &rules, (0, minutes), None, Config::default()).unwrap();
    let took = clock.monotonic() - begun;
    println!(
        "{} evaluations in {took:?}, fired {} times, {} messages",
        report.evaluations, report.rules[0].fired, told.total
    );
    assert_eq!(report.method, Method::Columns);
    assert!(report.rules[0].fired >= 900, "{}", report.rules[0].fired);
    let seconds = if cfg!(debug_assertions) { 60 } else { 6 };
    assert!(took < Duration::from_secs(seconds), "{took:?}");
    let picture = svg(&report, Language::English);
    assert!(picture.len() < 2 << 20, "{} bytes", picture.len());
}

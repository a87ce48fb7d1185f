//! Many rule files at random over many series at random, by us (with the real lifecycle) and by Debian's promtool: every
//! recorded series, `ALERTS`, `ALERTS_FOR_STATE` and every firing alert with its labels and annotations, at every minute.
//!
//! What is expected is what we say; promtool's silence is the proof. A seed that fails is named and can be run alone:
//! `RULES_SEED=17`. What Prometheus 2 and 3 see differently is not drawn: samples at the left edge of a range or exactly as
//! old as the lookback, and sums whose last bit follows the order of their parts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use marketprism_alerts::Alerts;
use marketprism_model::labels::ALERT_NAME;
use marketprism_model::{AlertState, Chance, Clock, Labels, SampleSink, SeriesSource};
use marketprism_promql::{Engine, EngineConfig, Uninterrupted, Value};
use marketprism_rules::{Group, Installation, Ports, evaluate_alone};
use marketprism_state::Database;
use marketprism_storage::Store;
use marketprism_testkit::{ManualClock, SeededChance};
use prometheus_client::registry::Registry;

use crate::world::{START_MS, minute, rule_set};

const MINUTES: usize = 26;

struct Dice(SeededChance);

impl Dice {
    fn below(&self, count: usize) -> usize {
        (self.0.next_u64() % count as u64) as usize
    }

    fn one_of<'a, T: ?Sized>(&self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn is_so(&self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A series and what it says each minute: a number, nothing, or its end.
struct Story {
    labels: Vec<(&'static str, String)>,
    minutes: Vec<Option<f64>>,
    ends: BTreeSet<usize>,
}

fn stories(dice: &Dice) -> Vec<Story> {
    let mut all = Vec::new();
    for (name, job, instance) in [
        ("m", "x", "a"),
        ("m", "x", "b"),
        ("m", "y", "c"),
        ("n", "x", "a"),
        ("n", "y", "c"),
        ("c", "x", "a"),
        ("c", "y", "b"),
    ] {
        let mut story = Story {
            labels: vec![
                ("__name__", name.to_owned()),
                ("job", job.to_owned()),
                ("i", instance.to_owned()),
            ],
            minutes: Vec::new(),
            ends: BTreeSet::new(),
        };
        // Counters stay far from zero and never begin anew, for 2 and 3 extrapolate differently to zero.
        let begin = if name == "c" { 1_000 } else { 0 };
        let (mut value, mut gap, mut is_over) = (begin + dice.below(4), 0, dice.is_so(20));
        for minute in 0..MINUTES {
            let luck = dice.below(100);
            if is_over && luck >= 25 || !is_over && luck < 6 && gap == 0 {
                if !is_over && minute > 0 {
                    story.ends.insert(minute);
                }
                is_over = true;
                gap = 0;
                story.minutes.push(None);
                continue;
            }
            // Never so long that a sample is exactly as old as the lookback, nor at the end.
            if !is_over && gap < 3 && (luck < 14 || gap > 0 && luck < 45) && minute + 1 < MINUTES {
                gap += 1;
                story.minutes.push(None);
                continue;
            }
            (is_over, gap) = (false, 0);
            value = match name {
                "c" => value + dice.below(5),
                _ if dice.is_so(60) => value,
                _ => dice.below(7),
            };
            story.minutes.push(Some(value as f64));
        }
        all.push(story);
    }
    all
}

/// Draws an expression that yields a vector without doubles after the rule's labels.
fn expression(dice: &Dice, records: &[String]) -> String {
    let record = records.get(dice.below(records.len().max(1)));
    let known = record.map_or("m", String::as_str);
    let number = dice.below(6).to_string();
    let compared = dice.one_of(&[">", "<", ">=", "<=", "==", "!="]);
    let template = dice.one_of(&[
        "m",
        "m CMP NUM",
        "n CMP NUM",
        "NUM CMP m",
        "m CMP bool NUM",
        "sum by (job) (m) CMP NUM",
        "max without (i) (m) CMP NUM",
        "count by (job) (m CMP NUM)",
        "min(m) CMP NUM",
        "absent(m{i=\"a\"})",
        "absent(n{job=\"y\"} CMP NUM)",
        "rate(c[150s]) * 60 CMP NUM",
        "increase(c[210s]) > 0",
        "changes(m[210s]) CMP NUM",
        "max_over_time(m[150s]) CMP NUM",
        "count_over_time(m[150s]) CMP NUM",
        "m CMP on (i) group_left () n",
        "m and on (i) n CMP NUM",
        "m CMP NUM unless on (i) n",
        "m CMP NUM or n CMP NUM",
        "m offset 1m CMP NUM",
        "(m - n) CMP NUM",
        "m % 3 CMP NUM",
        "-m < NUM",
        "KNOWN CMP NUM",
        "KNOWN",
        "sum by (i) (KNOWN) CMP NUM",
        "vector(NUM) CMP 2",
        "count(ALERTS{alertstate=\"firing\"}) CMP NUM",
        "count by (i) (ALERTS) CMP NUM",
        "count by (i) (ALERTS_FOR_STATE) > 0",
        "clamp_max(m, 3) CMP NUM",
        "sort_desc(m) CMP NUM",
        "timestamp(m) >= bool 0",
        "label_replace(m, \"where\", \"in-$1\", \"i\", \"(.*)\") CMP NUM",
    ]);
    template
        .replace("CMP", compared)
        .replace("NUM", &number)
        .replace("KNOWN", known)
}

/// Draws a rule file of two groups; gives its text, and the names of records and alerts.
fn rules(dice: &Dice) -> (String, Vec<String>, Vec<String>) {
    let (mut text, mut records, mut alerts) = ("groups:\n".to_owned(), Vec::new(), Vec::new());
    for group in ["first", "second"] {
        writeln!(text, "- name: {group}\n  rules:").unwrap();
        for _ in 0..2 + dice.below(4) {
            let expr = expression(dice, &records);
            if dice.is_so(35) {
                let name = format!("r{}", records.len());
                write!(text, "  - record: {name}\n    expr: '{expr}'\n").unwrap();
                if dice.is_so(40) {
                    text += "    labels: {kind: made}\n";
                }
                records.push(name);
                continue;
            }
            let name = format!("A{}", alerts.len());
            write!(text, "  - alert: {name}\n    expr: '{expr}'\n").unwrap();
            match dice.below(4) {
                0 => {}
                1 => text += "    for: 1m\n",
                2 => text += "    for: 150s\n",
                _ => text += "    for: 4m\n",
            }
            if dice.is_so(35) {
                text += dice.one_of(&["    keep_firing_for: 2m\n", "    keep_firing_for: 150s\n"]);
            }
            if dice.is_so(60) {
                text += dice.one_of(&[
                    "    labels: {severity: high}\n",
                    "    labels: {severity: 'on-{{ $labels.job }}'}\n",
                    "    labels: {big: '{{ if gt $value 3.0 }}yes{{ else }}no{{ end }}'}\n",
                    "    labels: {team: ops, i: '{{ $labels.i }}!'}\n",
                ]);
            }
            if dice.is_so(60) {
                text += dice.one_of(&[
                    "    annotations: {summary: '{{ $labels.i }} of {{ $labels.job }} is {{ $value }}'}\n",
                    "    annotations: {summary: '{{ printf \"%.2f\" $value }} {{ $value | humanize }}', fixed: text}\n",
                    "    annotations: {others: 'n: {{ range query \"sum by (job) (n{job=\\\"x\\\"})\" }}{{ .Labels.job }}={{ .Value }} {{ end }}'}\n",
                    "    annotations: {bad: '{{ $value.x }}'}\n",
                ]);
            }
            alerts.push(name);
        }
    }
    (text, records, alerts)
}

struct Count {
    samples: usize,
    firing: usize,
    /// Whether any alert ever fired.
    has_fired: bool,
}

/// Plays one case and writes it down for promtool.
fn play(dice: &Dice, folder: &Path, seed: usize) -> Count {
    let (text, records, alert_names) = rules(dice);
    let stories = stories(dice);
    let rules_name = format!("rules{seed}.yml");
    std::fs::write(folder.join(&rules_name), &text).unwrap();
    let clock = ManualClock::new(minute(0));
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let store = Store::in_memory(Arc::clone(&shared));
    let lifecycle = Alerts::load(
        marketprism_alerts::Config::default(),
        Arc::new(Database::in_memory().expect("memory")),
        shared,
        Arc::new(SeededChance::new(1)),
        &mut Registry::default(),
    )
    .expect("nothing is there yet");
    let engine = Engine::new(EngineConfig::default());
    let set = rule_set(&text);
    let mut groups: Vec<Group> = set
        .groups()
        .iter()
        .map(|spec| Group::new(spec, &engine))
        .collect();
    let installation = Installation::default();
    let ports = Ports {
        engine: &engine,
        source: &store,
        sink: &store,
        lifecycle: &*lifecycle,
        clock: &clock,
        interrupt: &Uninterrupted,
        installation: &installation,
    };
    let mut test = format!(
        "rule_files: [{rules_name}]\nevaluation_interval: 1m\ngroup_eval_order: [first, second]\ntests:\n- interval: 1m\n  input_series:\n"
    );
    for story in &stories {
        let labels = Labels::from_pairs(story.labels.iter().map(|(name, value)| (*name, value.as_str())));
        let word = |(minute, value): (usize, &Option<f64>)| match value {
            Some(value) => value.to_string(),
            None if story.ends.contains(&minute) => "stale".to_owned(),
            None => "_".to_owned(),
        };
        let words: Vec<String> = story.minutes.iter().enumerate().map(word).collect();
        writeln!(test, "  - {{series: '{labels}', values: '{}'}}", words.join(" ")).unwrap();
    }
    let (mut samples, mut firing) = (String::new(), String::new());
    let mut count = Count {
        samples: 0,
        firing: 0,
        has_fired: false,
    };
    for i in 0..MINUTES {
        let at = minute(i as i64);
        clock.jump_to(at);
        for story in &stories {
            let value = match story.minutes[i] {
                Some(value) => value,
                None if story.ends.contains(&i) => marketprism_model::sample::stale_nan(),
                None => continue,
            };
            push(&store, &story.labels, at, value);
        }
        for group in &mut groups {
            let tick = evaluate_alone(group, at, &ports);
            let told = group
                .snapshot()
                .rules
                .iter()
                .find_map(|rule| rule.last_error.clone());
            assert_eq!(tick.failures, 0, "seed {seed}: {told:?} in\n{text}");
        }
        let names = records
            .iter()
            .map(String::as_str)
            .chain(["ALERTS", "ALERTS_FOR_STATE"]);
        for name in names {
            writeln!(samples, "  - expr: {name}\n    eval_time: {i}m\n    exp_samples:").unwrap();
            for (labels, mut value) in ask(&engine, &store, name, at) {
                if name == "ALERTS_FOR_STATE" {
                    value -= (START_MS / 1000) as f64;
                }
                writeln!(
                    samples,
                    "    - {{labels: {}, value: {value}}}",
                    quoted(&labels.to_string())
                )
                .unwrap();
                count.samples += 1;
            }
        }
        for name in &alert_names {
            writeln!(
                firing,
                "  - alertname: {name}\n    eval_time: {i}m\n    exp_alerts:"
            )
            .unwrap();
            let active = lifecycle.active();
            let of_name = active
                .iter()
                .filter(|alert| alert.labels.get(ALERT_NAME) == Some(name));
            for alert in of_name.filter(|alert| alert.state == AlertState::Firing) {
                let pairs = |labels: &Labels| {
                    let pairs = labels.iter().filter(|(name, _)| *name != ALERT_NAME);
                    let pairs: Vec<String> = pairs
                        .map(|(name, value)| format!("{name}: {}", quoted(value)))
                        .collect();
                    pairs.join(", ")
                };
                writeln!(
                    firing,
                    "    - {{exp_labels: {{{}}}, exp_annotations: {{{}}}}}",
                    pairs(&alert.labels),
                    pairs(&alert.annotations)
                )
                .unwrap();
                count.firing += 1;
                count.has_fired = true;
            }
        }
    }
    write!(test, "  promql_expr_test:\n{samples}").unwrap();
    if !alert_names.is_empty() {
        write!(test, "  alert_rule_test:\n{firing}").unwrap();
    }
    std::fs::write(folder.join(format!("test{seed}.yml")), test).unwrap();
    count
}

/// Writes a text as YAML takes it on one line.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn push(store: &Store, labels: &[(&'static str, String)], at: marketprism_model::Timestamp, value: f64) {
    let labels = Labels::from_pairs(labels.iter().map(|(name, value)| (*name, value.as_str())));
    let series = store.resolve(&labels).unwrap();
    let sample = marketprism_model::RefSample {
        series,
        timestamp: at,
        value,
    };
    let durability = marketprism_model::sample::Durability::Interval;
    assert_eq!(store.append(&[sample], durability).unwrap().accepted, 1);
}

fn ask(
    engine: &Engine,
    source: &dyn SeriesSource,
    name: &str,
    at: marketprism_model::Timestamp,
) -> Vec<(Labels, f64)> {
    let prepared = engine.prepare(&marketprism_promql::parse(name).unwrap());
    let answer = engine.instant(source, &prepared, at, &Uninterrupted).unwrap();
    let Value::Vector(samples) = answer.value else {
        panic!("{name} gives no vector");
    };
    samples
        .into_iter()
        .map(|sample| (sample.labels, sample.value))
        .collect()
}

/// Runs unit tests; gives what is said when one fails.
fn promtool(folder: &Path, tests: &[String]) -> Option<String> {
    let run = Command::new("promtool")
        .args(["test", "rules"])
        .args(tests)
        .current_dir(folder)
        .output()
        .expect("promtool is missing: apt-get install prometheus");
    let said = [run.stdout, run.stderr].concat();
    (!run.status.success()).then(|| String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn rules_at_random_come_to_promtools_verdicts_at_every_minute() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
    };
    let seeds = match number("RULES_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..40 * number("MARKETPRISM_TEST_SCALE").unwrap_or(1),
    };
    let folder = tempfile::tempdir().unwrap();
    let (mut samples, mut firing, mut fired, cases) = (0, 0, 0, seeds.len());
    let mut tests = Vec::new();
    for seed in seeds {
        let count = play(&Dice(SeededChance::new(seed as u64)), folder.path(), seed);
        samples += count.samples;
        firing += count.firing;
        fired += usize::from(count.has_fired);
        tests.push(format!("test{seed}.yml"));
    }
    for some in tests.chunks(20) {
        if promtool(folder.path(), some).is_none() {
            continue;
        }
        for test in some {
            if let Some(said) = promtool(folder.path(), std::slice::from_ref(test)) {
                let rules =
                    std::fs::read_to_string(folder.path().join(test.replace("test", "rules"))).unwrap();
                let head: String = said.chars().take(3_000).collect();
                panic!("{test}: {head}\n{rules}");
            }
        }
    }
    println!(
        "{cases} cases, {fired} of them with alerts that fired; {samples} samples and {firing} firing alerts compared"
    );
    if cases >= 40 {
        assert!(fired * 10 >= cases * 8, "only {fired} of {cases} cases fired");
        assert!(
            samples > 100 * cases && firing > 20 * cases,
            "{samples} samples, {firing} alerts"
        );
    }
}

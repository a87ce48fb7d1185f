//! Routes, configurations and matchers next to Debian's amtool (0.25: the classic grammar of matchers only).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use marketprism_alerts::routing::{GroupBy, Original, RoutingTree, matchers, original};
use marketprism_model::Labels;
use tempfile::TempDir;

use crate::routing_words::{Dice, NAMES, Whole, build, read, receivers};

/// Runs amtool; gives what it printed when it succeeded, else what it complained of.
fn amtool(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("amtool")
        .args(arguments)
        .output()
        .expect("amtool is there; run: apt-get install prometheus-alertmanager");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stdout) + &text(&output.stderr))
    }
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().expect("temporary folder"))
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        fs::write(&path, text).expect("written");
        format!("--config.file={}", path.display())
    }
}

/// Gives the lines of `amtool config routes show` without the drawn branches.
fn shown(file: &str) -> Vec<String> {
    let text = amtool(&["config", "routes", "show", file]).expect("amtool reads it");
    let is_drawn = |character: char| matches!(character, '├' | '└' | '─' | '│' | ' ' | '\u{a0}' | '.');
    text.lines()
        .skip(1)
        .map(|line| line.trim_start_matches(is_drawn).to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// The same from our tree.
fn shown_by_us(tree: &RoutingTree) -> Vec<String> {
    let line = |(number, route): (usize, &marketprism_alerts::routing::Route)| {
        let what = match number {
            0 => "default-route".to_owned(),
            _ => matchers::write(&route.matchers),
        };
        let goes_on = if route.is_continuing {
            "continue: true  "
        } else {
            ""
        };
        format!("{what}  {goes_on}receiver: {}", route.receiver)
    };
    tree.routes()
        .map(|(_, route)| route)
        .enumerate()
        .map(line)
        .collect()
}

#[test]
fn alerts_find_the_receivers_that_amtool_finds() {
    const TREES: u64 = 60;
    const ALERTS: usize = 8;
    let folder = Folder::new();
    let (mut asked, mut below_root, mut several) = (0, 0, 0);
    for seed in 0..TREES {
        let dice = Dice::new(seed);
        let whole = dice.whole();
        let json = serde_json::to_string(&whole).expect("writes");
        // JSON is YAML, so both programs read the same bytes.
        let tree = read(&json).expect("ours reads it").tree;
        let file = folder.file("tree.yml", &json);
        assert_eq!(shown_by_us(&tree), shown(&file), "seed {seed}: {json}");
        let names: Vec<&str> = whole
            .receivers
            .iter()
            .map(|receiver| receiver.name.as_str())
            .collect();
        let written = original(&Original {
            resolve_timeout: Duration::from_secs(300),
            route: &whole.route,
            receivers: &names,
            inhibit_rules: &[],
            time_intervals: &[],
        });
        let rewritten = folder.file("original.yml", &written);
        assert_eq!(shown(&file), shown(&rewritten), "seed {seed}: {written}");
        for _ in 0..ALERTS {
            let labels = dice.labels(&tree);
            let pairs: Vec<String> = labels
                .iter()
                .map(|(name, value)| {
                    format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
                })
                .collect();
            let mut arguments = vec!["config", "routes", "test", rewritten.as_str()];
            arguments.extend(pairs.iter().map(String::as_str));
            let theirs = amtool(&arguments).expect("amtool answers");
            let ours = receivers(&tree, &labels);
            assert_eq!(ours, theirs.trim_end(), "seed {seed}, {labels:?}: {json}");
            asked += 1;
            below_root += usize::from(tree.find(&labels)[0].place() != 0);
            several += usize::from(ours.contains(','));
        }
    }
    println!("{asked} alerts; {below_root} went below the root, {several} to several routes");
    assert!(
        below_root * 100 >= asked * 80,
        "{below_root} of {asked} went below the root"
    );
    assert!(
        several * 5 >= asked,
        "{several} of {asked} went to several routes"
    );
}

/// A configuration, and what differs from amtool on purpose.
struct Sample {
    name: &'static str,
    yaml: String,
    difference: Option<&'static str>,
}

fn sample(name: &'static str, yaml: impl Into<String>) -> Sample {
    Sample {
        name,
        yaml: yaml.into(),
        difference: None,
    }
}

fn differs(name: &'static str, yaml: impl Into<String>, why: &'static str) -> Sample {
    Sample {
        difference: Some(why),
        ..sample(name, yaml)
    }
}

/// Wraps a child route.
fn child(route: &str) -> String {
    format!(
        "route:\n  receiver: a\n  routes:\n  - {route}\nreceivers: [{{name: a}}, {{name: b}}]\n\
         time_intervals: [{{name: nights, time_intervals: [{{times: [{{start_time: '22:00', end_time: '24:00'}}]}}]}}]\n"
    )
}

/// Wraps an interval.
fn interval(interval: &str) -> String {
    format!(
        "route: {{receiver: a}}\nreceivers: [{{name: a}}]\n\
         time_intervals: [{{name: t, time_intervals: [{interval}]}}]\n"
    )
}

fn inhibit(rule: &str) -> String {
    format!("route: {{receiver: a}}\nreceivers: [{{name: a}}]\ninhibit_rules: [{rule}]\n")
}

fn root(keys: &str) -> String {
    format!("route: {{receiver: a{keys}}}\nreceivers: [{{name: a}}]\n")
}

fn samples() -> Vec<Sample> {
    let mut samples = vec![
        sample("smallest", root("")),
        sample("root with matchers", root(", matchers: [x=y]")),
        sample("root with match", root(", match: {x: y}")),
        sample("root with match_re", root(", match_re: {x: y}")),
        sample("root continues", root(", continue: true")),
        sample("root muted", root(", mute_time_intervals: [x]")),
        sample("root grouped", root(", group_by: [alertname, job]")),
        sample("root grouped by all", root(", group_by: ['...']")),
        sample("all beside others", root(", group_by: ['...', job]")),
        sample("grouped twice", root(", group_by: [job, job]")),
        sample("grouped by nothing", root(", group_by: []")),
        sample("empty label in a group", root(", group_by: ['']")),
        differs(
            "UTF-8 label in a group",
            root(", group_by: ['a.b']"),
            "UTF-8 names came with Alertmanager 0.27",
        ),
        sample("no wait", root(", group_wait: 0s")),
        sample("group_interval zero", root(", group_interval: 0s")),
        sample("repeat_interval zero", root(", repeat_interval: 0s")),
        sample(
            "repeat below group interval",
            root(", group_interval: 5m, repeat_interval: 1m"),
        ),
        differs(
            "group_interval of 10 ms",
            root(", group_interval: 10ms"),
            "an interval under 100 ms would keep a machine busy with nothing else",
        ),
        sample("bad duration", root(", group_wait: fast")),
        sample("duration without unit", root(", group_wait: 30")),
        sample("unknown key", root(", recever: b")),
        sample("no receiver", "route: {}\nreceivers: [{name: a}]\n"),
        sample(
            "unknown root receiver",
            "route: {receiver: b}\nreceivers: [{name: a}]\n",
        ),
        sample("no route", "receivers: [{name: a}]\n"),
        sample("unknown child receiver", child("{receiver: c}")),
        sample(
            "nulls",
            child("{receiver: b, matchers: , match: , routes: , group_by: }"),
        ),
        sample("bare numbers", child("{receiver: b, match: {code: 500}}")),
        sample("mute", child("{receiver: b, mute_time_intervals: [nights]}")),
        sample("active", child("{receiver: b, active_time_intervals: [nights]}")),
        sample(
            "unknown mute",
            child("{receiver: b, mute_time_intervals: [days]}"),
        ),
        sample(
            "unknown active",
            child("{receiver: b, active_time_intervals: [days]}"),
        ),
        sample("expression", child("{match_re: {a: 'x|y'}}")),
        sample("bad expression", child("{match_re: {a: '('}}")),
        sample("bad name of match", child("{match: {'a-b': x}}")),
        sample("bad name of match_re", child("{match_re: {'a b': x}}")),
        sample("bad matcher", child("{matchers: ['a b']}")),
        sample("bad expression in matcher", child("{matchers: ['a=~\"(\"']}")),
        sample("lookaround", child("{matchers: ['a=~\"(?=x)\"']}")),
        differs(
            "UTF-8 matcher",
            child("{matchers: ['\"a.b\"=\"x\"']}"),
            "UTF-8 names came with Alertmanager 0.27",
        ),
        sample("braces", child("{matchers: ['{a=b,c!=d}']}")),
        sample("empty matcher", child("{matchers: ['']}")),
        sample("unquoted", child("{matchers: [a = b]}")),
        differs(
            "escalation",
            child("{receiver: b, escalation: nights}"),
            "escalation is ours; config.original gives it as a comment",
        ),
        sample(
            "inhibition",
            inhibit("{source_matchers: [a=b], target_matchers: [c=d], equal: [e]}"),
        ),
        sample(
            "old inhibition",
            inhibit("{source_match: {a: b}, target_match_re: {c: d.*}}"),
        ),
        sample("inhibition of all", inhibit("{}")),
        sample(
            "bad source",
            inhibit("{source_matchers: ['a b'], target_matchers: [c=d]}"),
        ),
        sample(
            "bad target",
            inhibit("{source_matchers: [a=b], target_match_re: {c: '['}}"),
        ),
        sample("bad name in source_match", inhibit("{source_match: {'a.b': x}}")),
        sample("empty equal", inhibit("{equal: ['']}")),
        sample("unknown inhibit key", inhibit("{sources: [a=b]}")),
        differs(
            "named rule",
            inhibit("{name: x, source_matchers: [a=b], target_matchers: [c=d]}"),
            "names came with Alertmanager 0.28",
        ),
    ];
    samples.extend(interval_samples());
    samples
}

fn interval_samples() -> Vec<Sample> {
    let mut samples = vec![
        sample(
            "nameless interval",
            "route: {receiver: a}\nreceivers: [{name: a}]\ntime_intervals: [{name: ''}]\n",
        ),
        sample(
            "interval without parts",
            "route: {receiver: a}\nreceivers: [{name: a}]\ntime_intervals: [{name: x}]\n",
        ),
        sample(
            "intervals of one name",
            "route: {receiver: a}\nreceivers: [{name: a}]\ntime_intervals: [{name: x}, {name: x}]\n",
        ),
        sample("zone in small letters", interval("{location: europe/berlin}")),
        differs(
            "zone Local",
            interval("{location: Local}"),
            "it means another time on each machine",
        ),
        differs(
            "empty list",
            interval("{weekdays: []}"),
            "Alertmanager reads it as never",
        ),
        differs(
            "month 13",
            interval("{months: ['13']}"),
            "Alertmanager forgets to check; it never holds",
        ),
        differs(
            "calendar",
            interval("{calendar: {name: cn, days: working}}"),
            "calendars are ours; config.original gives them as comments",
        ),
    ];
    for part in [
        "{}",
        "{times: [{start_time: '09:00', end_time: '17:00'}]}",
        "{times: [{start_time: '00:00', end_time: '24:00'}]}",
        "{times: [{start_time: '9:00', end_time: '17:00'}]}",
        "{times: [{start_time: '17:00', end_time: '09:00'}]}",
        "{times: [{start_time: '17:00', end_time: '17:00'}]}",
        "{times: [{start_time: '24:00', end_time: '24:00'}]}",
        "{times: [{start_time: '17:00'}]}",
        "{times: [{start_time: '17:60', end_time: '18:00'}]}",
        "{weekdays: ['monday:friday', saturday]}",
        "{weekdays: ['Monday:FRIDAY']}",
        "{weekdays: ['friday:monday']}",
        "{weekdays: [1]}",
        "{weekdays: [mon]}",
        "{days_of_month: ['1:5', '-3:-1', '15']}",
        "{days_of_month: [1, -1]}",
        "{days_of_month: ['0']}",
        "{days_of_month: ['32']}",
        "{days_of_month: ['-32']}",
        "{days_of_month: ['5:1']}",
        "{days_of_month: ['-1:-3']}",
        "{days_of_month: ['-5:5']}",
        "{days_of_month: ['1:-1']}",
        "{days_of_month: ['30:-1']}",
        "{days_of_month: ['27:-1']}",
        "{days_of_month: ['28:-1']}",
        "{months: ['may:august', '12', december]}",
        "{months: ['august:may']}",
        "{months: [smarch]}",
        "{years: ['2020:2022', '2030']}",
        "{years: [2020]}",
        "{years: ['2022:2020']}",
        "{years: ['2020:2021:2022']}",
        "{years: [soon]}",
        "{location: Europe/Berlin}",
        "{location: UTC}",
        "{location: ''}",
        "{location: Mars/Olympus}",
        "{hours: [1]}",
    ] {
        samples.push(sample(part, interval(part)));
    }
    samples
}

#[test]
fn what_amtool_accepts_is_accepted_and_what_it_refuses_is_refused() {
    let folder = Folder::new();
    let (mut good, mut bad) = (0, 0);
    let mut faults = Vec::new();
    for sample in samples() {
        let file = folder.file("sample.yml", &sample.yaml);
        let theirs = amtool(&["check-config", file.trim_start_matches("--config.file=")]);
        let ours = read(&sample.yaml).map(|_| ());
        match (&ours, &theirs, sample.difference) {
            (Ok(()), Ok(_), None) => good += 1,
            (Err(_), Err(_), None) => bad += 1,
            (Ok(()), Err(_), Some(_)) | (Err(_), Ok(_), Some(_)) => {}
            (ours, theirs, difference) => {
                faults.push(format!("{} ({difference:?}): {ours:?} / {theirs:?}", sample.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    println!("{good} accepted by both, {bad} refused by both");
    assert!(good >= 30 && bad >= 30, "{good} accepted, {bad} refused");
}

/// Texts of matchers, good and bad, from pieces at which parsers differ.
fn matcher_text(dice: &Dice) -> String {
    const OPS: [&str; 6] = ["=", "!=", "=~", "!~", "==", " = "];
    const NAMES: [&str; 8] = ["a:b", " d ", "_", "1a", "a.b", "\"q\"", "", "x y"];
    const VALUES: [&str; 20] = [
        "a",
        "\"a\"",
        "\"\"",
        "",
        "\"a,b\"",
        "a b",
        "\"a\\\"b\"",
        "\"a\\nb\"",
        "\\d",
        "\"\\\\d+\"",
        "\"\\d+\"",
        "a\"b",
        "\"a",
        "a\"",
        "\"x|y\"",
        "(",
        "{a}",
        "\"日本\"",
        "'a'",
        "\"\\t\"",
    ];
    // Most pieces are plain, so that whole texts are read about as often as not.
    let is_plain = || dice.below(4) > 0;
    let matcher = || {
        let name = if is_plain() {
            dice.one_of(&["a", "b_c"])
        } else {
            dice.one_of(&NAMES)
        };
        let op = dice.one_of(if is_plain() { &OPS[..4] } else { &OPS });
        let value = dice.one_of(if is_plain() { &VALUES[..11] } else { &VALUES });
        format!("{name}{op}{value}")
    };
    let mut text = matcher();
    for _ in 0..dice.below(3) {
        text = format!("{text}{}{}", dice.one_of(&[",", ", ", ",", ",,", " "]), matcher());
    }
    match dice.below(6) {
        0 => format!("{{{text}}}"),
        1 => format!("{{{text},}}"),
        2 => format!("{{{text}"),
        _ => text,
    }
}

#[test]
fn matchers_that_amtool_reads_mean_the_same() {
    const TEXTS: u64 = 500;
    let folder = Folder::new();
    let (mut read_by_both, mut refused_by_both, mut utf8_only) = (0, 0, Vec::new());
    for seed in 0..TEXTS {
        let text = matcher_text(&Dice::new(1000 + seed));
        let whole = serde_json::json!({
            "route": {"receiver": "a", "routes": [{"receiver": "b", "matchers": [text]}]},
            "receivers": [{"name": "a"}, {"name": "b"}],
        });
        let file = folder.file("matcher.yml", &whole.to_string());
        let ours = matchers::parse(&text).map(|mut matchers| {
            matchers::sort(&mut matchers);
            format!("{}  receiver: b", matchers::write(&matchers))
        });
        match (amtool(&["config", "routes", "show", &file]), ours) {
            (Ok(_), Ok(ours)) => {
                read_by_both += 1;
                assert_eq!(shown(&file)[1], ours, "{text:?}");
            }
            (Ok(theirs), Err(error)) => panic!("{text:?}: {error}; amtool reads {theirs}"),
            (Err(_), Err(_)) => refused_by_both += 1,
            (Err(_), Ok(_)) => utf8_only.push(text),
        }
    }
    println!(
        "{read_by_both} read by both, {refused_by_both} refused by both, {} by the UTF-8 grammar only: {:?}",
        utf8_only.len(),
        &utf8_only[..utf8_only.len().min(20)],
    );
    assert!(
        read_by_both >= 150 && refused_by_both >= 100,
        "{read_by_both}, {refused_by_both}"
    );
    // What only the grammar of UTF-8 names reads: names in quotes or with other letters, names that begin with
    // digits, and Go's escapes.
    for text in utf8_only {
        assert!(
            ["a.b", "\"q\"", "1a", "\\t", "\\d"]
                .iter()
                .any(|piece| text.contains(piece)),
            "{text:?}"
        );
    }
}

#[test]
fn the_whole_configuration_as_original_is_accepted_and_keeps_its_meaning() {
    let yaml = r#"
route:
  receiver: 'default: "main"'
  group_by: [alertname, cluster]
  group_wait: 10s
  repeat_interval: 3h
  routes:
  - matchers: ['severity=~"critical|high"', 'path="C:\\x\n"']
    receiver: 团队
    escalation: nights
    mute_time_intervals: [offhours]
    group_by: ['...']
    routes:
    - match: {on: "yes", "null": "~"}
      group_by: []
  - match_re: {job: 'a|b'}
    active_time_intervals: [offhours]
receivers: [{name: 'default: "main"'}, {name: 团队}]
inhibit_rules:
- {name: x, source_matchers: [severity=critical], target_matchers: ['severity=~"high|low"'], equal: [cluster]}
- {source_match: {a: b}, target_match_re: {c: d.*}}
time_intervals:
- name: offhours
  time_intervals:
  - {times: [{start_time: '18:00', end_time: '24:00'}], weekdays: ['monday:friday'], location: Asia/Shanghai}
  - {days_of_month: ['-3:-1', 1], months: ['may:august'], years: [2026], calendar: {name: cn, days: off}}
"#;
    let whole: Whole = serde_saphyr::from_str(yaml).expect("reads");
    let names: Vec<&str> = whole
        .receivers
        .iter()
        .map(|receiver| receiver.name.as_str())
        .collect();
    let text = original(&Original {
        resolve_timeout: Duration::from_secs(300),
        route: &whole.route,
        receivers: &names,
        inhibit_rules: &whole.inhibit_rules,
        time_intervals: &whole.time_intervals,
    });
    let folder = Folder::new();
    let file = folder.file("original.yml", &text);
    let verdict = amtool(&["check-config", file.trim_start_matches("--config.file=")]);
    let verdict = verdict.unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(
        verdict.contains("2 inhibit rules") && verdict.contains("2 receivers"),
        "{verdict}"
    );

    // We read it back, too, and it differs only by what Alertmanager has no word for.
    let again: Whole = serde_saphyr::from_str(&text).expect("reads again");
    let (before, after) = (build(&whole).expect("good"), build(&again).expect("good"));
    let keys = |tree: &RoutingTree| -> Vec<(String, String, GroupBy)> {
        let routes = tree.routes().map(|(_, route)| route);
        routes
            .map(|route| (route.key.clone(), route.receiver.clone(), route.group_by.clone()))
            .collect()
    };
    assert_eq!(keys(&before.tree), keys(&after.tree));
    let parts = |whole: &Whole| -> BTreeMap<String, usize> {
        let named = whole.time_intervals.iter();
        named
            .map(|named| (named.name.clone(), named.time_intervals.len()))
            .collect()
    };
    assert_eq!(parts(&whole), parts(&again));
    assert_eq!(
        whole.time_intervals[0].time_intervals[0],
        again.time_intervals[0].time_intervals[0]
    );
    assert_eq!(after.intervals.names(), ["offhours"]);
    let muted = &after.tree.routes().nth(1).expect("the first child").1.mute;
    assert_eq!(muted, &["offhours"]);
    assert!(
        text.contains("# escalation: \"nights\"") && text.contains("# calendar: \"cn\""),
        "{text}"
    );
    let found = Labels::from_pairs([("severity", "high"), ("path", "C:\\x\n")]);
    assert_eq!(receivers(&before.tree, &found), "团队");
    assert_eq!(receivers(&after.tree, &found), "团队");
    assert!(
        NAMES
            .iter()
            .all(|name| found.get(name).is_none_or(|value| value == "high"))
    );
}

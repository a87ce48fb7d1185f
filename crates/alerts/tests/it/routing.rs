//! Routes as the rest of the room asks for them: inheritance, keys, faults, explanations, and the matchers.

use std::collections::HashSet;
use std::time::Duration;

use marketprism_alerts::routing::matchers::{self, parse, parse_one};
use marketprism_alerts::routing::{
    GroupBy, KnownNames, Outcome, ROUTES_MAX, RouteConfig, RouteIndex, RoutingTree,
};
use marketprism_model::{Labels, Matcher, MatcherOp};
use proptest::prelude::*;

use crate::routing_words::{Dice, labels, read, receivers};

const TREE: &str = r#"
route:
  receiver: ops
  group_by: [alertname]
  routes:
  - matchers: ['team=db', 'severity=~"critical|high"']
    receiver: db
    group_by: ['...']
    group_wait: 5s
    mute_time_intervals: [nights]
    escalation: nights
    continue: true
    routes:
    - {matchers: [env=test], receiver: nobody}
    - {matchers: [env!=test]}
  - {matchers: [team=db], receiver: db-mail, continue: true}
  - {matchers: [team=db], receiver: db-log, group_by: []}
  - {match_re: {team: 'web|api'}, receiver: web, repeat_interval: 1h}
receivers: [{name: ops}, {name: db}, {name: nobody}, {name: db-mail}, {name: db-log}, {name: web}]
time_intervals: [{name: nights, time_intervals: [{times: [{start_time: '22:00', end_time: '24:00'}]}]}]
"#;

fn tree() -> RoutingTree {
    read(TREE).expect("a good tree").tree
}

#[test]
fn children_inherit_what_they_do_not_say_but_no_intervals() {
    let tree = tree();
    let routes: Vec<_> = tree.routes().map(|(_, route)| route).collect();
    let [root, db, _, leaf, mail, log, web] = routes.as_slice() else {
        panic!("seven routes");
    };
    let seconds = Duration::from_secs;
    assert_eq!(root.group_by, GroupBy::Labels(vec!["alertname".to_owned()]));
    assert_eq!(
        [root.group_wait, root.group_interval, root.repeat_interval],
        [seconds(30), seconds(300), seconds(14_400)]
    );
    assert_eq!(
        (&*leaf.receiver, &leaf.group_by, leaf.group_wait),
        ("db", &GroupBy::All, seconds(5))
    );
    assert_eq!(leaf.escalation.as_deref(), Some("nights"));
    assert_eq!(
        (db.mute.as_slice(), leaf.mute.len()),
        (["nights".to_owned()].as_slice(), 0)
    );
    assert_eq!(mail.group_by, root.group_by);
    // An empty list says nothing, as in Alertmanager.
    assert_eq!(log.group_by, root.group_by);
    assert_eq!(web.repeat_interval, seconds(3600));

    let alert = labels(&[("alertname", "Down"), ("team", "db"), ("zone", "1")]);
    assert_eq!(root.group_labels(&alert), labels(&[("alertname", "Down")]));
    assert_eq!(leaf.group_labels(&alert), alert);
    assert_eq!(log.group_labels(&alert), labels(&[("alertname", "Down")]));

    let ungrouped =
        read("{route: {receiver: ops, group_by: []}, receivers: [{name: ops}]}").expect("a good tree");
    let root = ungrouped
        .tree
        .routes()
        .next()
        .map(|(_, route)| route)
        .expect("a root");
    assert_eq!(root.group_by, GroupBy::Labels(Vec::new()));
    assert_eq!(root.group_labels(&alert), Labels::empty());
}

#[test]
fn keys_are_alertmanagers_and_name_one_route_each() {
    let tree = tree();
    let keys: Vec<&str> = tree.routes().map(|(_, route)| route.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            r#"{}"#,
            r#"{}/{severity=~"critical|high",team="db"}"#,
            r#"{}/{severity=~"critical|high",team="db"}/{env="test"}"#,
            r#"{}/{severity=~"critical|high",team="db"}/{env!="test"}"#,
            r#"{}/{team="db"}"#,
            r#"{}/{team="db"}/1"#,
            r#"{}/{team=~"^(?:web|api)$"}"#,
        ]
    );
    for (index, route) in tree.routes() {
        assert_eq!(tree.by_key(&route.key), Some(index));
    }
    for seed in 0..200 {
        let whole = Dice::new(seed).whole();
        let tree = read(&serde_json::to_string(&whole).expect("writes"))
            .expect("good")
            .tree;
        let keys: HashSet<&str> = tree.routes().map(|(_, route)| route.key.as_str()).collect();
        assert_eq!(keys.len(), tree.len(), "seed {seed}");
    }
}

#[test]
fn an_alert_goes_down_to_the_first_that_matches_and_on_where_told() {
    let tree = tree();
    let check = |pairs: &[(&str, &str)], expected: &str| {
        assert_eq!(receivers(&tree, &labels(pairs)), expected, "{pairs:?}");
    };
    check(&[], "ops");
    check(&[("team", "db"), ("severity", "high")], "db,db-mail,db-log");
    check(
        &[("team", "db"), ("severity", "high"), ("env", "test")],
        "nobody,db-mail,db-log",
    );
    check(&[("team", "db"), ("severity", "low")], "db-mail,db-log");
    check(&[("team", "api")], "web");
    check(&[("team", "apis")], "ops");
}

#[test]
fn the_way_is_told_with_the_matcher_that_decided() {
    let tree = tree();
    let visits = tree.explain(&labels(&[("team", "db"), ("severity", "low")]));
    let told: Vec<_> = visits
        .iter()
        .map(|visit| (&*visit.place, visit.outcome, visit.passed_over.len()))
        .collect();
    assert_eq!(
        told,
        [
            ("route", Outcome::HandedDown, 0),
            ("route.routes[0]", Outcome::Refused, 0),
            ("route.routes[1]", Outcome::Chosen, 0),
            ("route.routes[2]", Outcome::Chosen, 1),
        ]
    );
    let refused: Vec<_> = visits[1]
        .verdicts
        .iter()
        .filter(|verdict| !verdict.is_match)
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].matcher.to_string(), r#"severity=~"critical|high""#);
    assert_eq!(refused[0].value.as_deref(), Some("low"));
    let json = serde_json::to_value(&visits[1]).expect("the API shows it");
    assert_eq!(json["outcome"], "refused");
    assert_eq!(json["verdicts"][0]["matcher"]["op"], "=~");

    for seed in 0..100 {
        let dice = Dice::new(seed);
        let tree = read(&serde_json::to_string(&dice.whole()).expect("writes"))
            .expect("good")
            .tree;
        for _ in 0..10 {
            let labels = dice.labels(&tree);
            let visits = tree.explain(&labels);
            let chosen = visits.iter().filter(|visit| visit.outcome == Outcome::Chosen);
            // The walk tells a parent before its children, and of these one is chosen.
            let chosen: Vec<RouteIndex> = chosen.map(|visit| visit.route).collect();
            assert_eq!(chosen, tree.find(&labels), "seed {seed}, {labels:?}");
        }
    }
}

#[test]
fn every_fault_is_named_at_once_with_place_value_and_what_is_allowed() {
    let yaml = r#"
route:
  match: {a: b}
  continue: true
  group_by: ['...', job]
  routes:
  - receiver: opps
    group_interval: 0s
    routes:
    - {matchers: ['a b'], mute_time_intervals: [nigths], escalation: night}
  - {match_re: {c: '('}, group_by: [x, x, '']}
receivers: [{name: ops}]
time_intervals: [{name: nights}]
"#;
    let text = read(yaml).err().expect("refused");
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "route.receiver: the root needs a receiver",
        "route.match: the root takes every alert",
        "route.continue: the root takes every alert",
        "route.group_by: \"...\" means all labels",
        "route.routes[0].group_interval: 0s is out of range; use 100ms to 1y",
        "route.routes[0].receiver: no receiver is called \"opps\"; known are ops; did you mean \"ops\"?",
        "route.routes[0].routes[0].matchers[0]: not a matcher: \"a b\"",
        "route.routes[0].routes[0].escalation: no escalation policy is called \"night\"; known are nights",
        "route.routes[0].routes[0].mute_time_intervals[0]: no time interval is called \"nigths\"; known are nights; did you mean \"nights\"?",
        "route.routes[1].match_re: label c: bad regular expression \"(\"",
        "route.routes[1].group_by[1]: label \"x\" is there twice",
        "route.routes[1].group_by[2]: the label's name is empty",
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\nexpected {expected}");
    }
}

#[test]
fn the_examples_of_the_manual_are_good_and_say_what_the_manual_says() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating");
    for page in ["routing.md", "routing.zh-CN.md"] {
        let text = std::fs::read_to_string(folder.join(page)).expect(page);
        let (_, rest) = text.split_once("```yaml\n").expect("an example");
        let (example, _) = rest.split_once("```").expect("its end");
        let (_, inner) = example
            .split_once("notification_manager:\n")
            .expect("its section");
        let yaml: String = inner.lines().map(|line| format!("{}\n", &line[2..])).collect();
        let tree = read(&yaml).unwrap_or_else(|error| panic!("{page}: {error}")).tree;
        let check = |pairs: &[(&str, &str)], expected: &str| {
            assert_eq!(receivers(&tree, &labels(pairs)), expected, "{page}: {pairs:?}");
        };
        check(&[("team", "db"), ("severity", "high")], "db-pager,db-mail");
        check(&[("team", "db"), ("severity", "low")], "db-mail");
        check(&[("team", "trading")], "trading");
        check(&[], "ops");
    }
}

#[test]
fn trees_without_end_are_refused() {
    let build = |root: &RouteConfig| {
        let known = KnownNames {
            receivers: &["a"],
            ..KnownNames::default()
        };
        RoutingTree::new(root, known)
            .map(|tree| tree.len())
            .map_err(|error| error.to_string())
    };
    let mut deep = RouteConfig::root("a", &[]);
    for _ in 0..60 {
        deep = RouteConfig {
            receiver: Some("a".to_owned()),
            routes: vec![deep],
            ..RouteConfig::default()
        };
    }
    let error = build(&deep).expect_err("too deep");
    assert!(error.contains("nested too deeply; at most 50"), "{error}");
    let mut wide = RouteConfig::root("a", &[]);
    wide.routes = vec![RouteConfig::default(); ROUTES_MAX - 1];
    assert_eq!(build(&wide), Ok(ROUTES_MAX));
    wide.routes.push(RouteConfig::default());
    let error = build(&wide).expect_err("too wide");
    assert!(error.contains("too many routes; at most 20000"), "{error}");
}

fn check(text: &str, expected: &[(&str, &str, &str)]) {
    let read = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let read: Vec<_> = read
        .iter()
        .map(|matcher| (&*matcher.name, matcher.op.as_str(), &*matcher.value))
        .collect();
    assert_eq!(read, expected, "{text:?}");
}

#[test]
fn matchers_are_read_in_both_grammars() {
    check("", &[]);
    check("{}", &[]);
    check(r#"{a=~"x|y", b!=c,}"#, &[("a", "=~", "x|y"), ("b", "!=", "c")]);
    check(r#""a.b"="x""#, &[("a.b", "=", "x")]);
    check("名=值", &[("名", "=", "值")]);
    check(
        r#"{"foo\u00e9 \"bar\""!~"\\d+"}"#,
        &[("fooé \"bar\"", "!~", "\\d+")],
    );
    check(r#""\xe5\x90\x8d"="\101\t\U0001F642""#, &[("名", "=", "A\t🙂")]);
    // Where both read a text and differ, it keeps its old meaning.
    check(r#"a="\t""#, &[("a", "=", "\\t")]);
    check(r#"a="\u0061""#, &[("a", "=", "\\u0061")]);
    // But the old meaning is no expression here, so the new one counts.
    check(r#"a=~"\u0061""#, &[("a", "=~", "a")]);
    // Only the classic grammar reads these.
    check("a=b c", &[("a", "=", "b c")]);
    check(r#"a=~\d+"#, &[("a", "=~", "\\d+")]);
    check("a:b=x}", &[("a:b", "=", "x")]);
    check("a==b", &[("a", "=", "=b")]);
}

#[test]
fn what_neither_grammar_reads_is_refused_with_the_reason() {
    let check = |text: &str, reason: &str| {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{text:?}: {error}");
    };
    check("a", "the operator is missing");
    check("a.b=", "the value is missing");
    check("=b", "the label's name is missing");
    check(r#""a"="b"#, "quote");
    check(r#""a.b"="x",,"#, "the label's name is missing");
    check(r#""a.b"="x" "c"="y""#, "a comma is missing");
    check(r#"{"a.b"="x""#, "the closing brace is missing");
    check(r#""a.b"="x"}"#, "the opening brace is missing");
    check(r#"{"a.b"="x"} y"#, "something follows the closing brace");
    check(r#""a.b"='x'"#, "must stand within double quotes");
    check(r#""a.b"="\q""#, "unknown escape \\q");
    check(r#""a.b"="\xff""#, "no UTF-8");
    check(r#""a.b"="\ud800""#, "unknown escape \\u");
    check(r#"""="x""#, "the label's name is empty");
    check(r#"a=~"(""#, "bad regular expression");
    check(&"a=b,".repeat(600), "at most 500");
    check(&"a".repeat(70_000), "at most 65536");
}

#[test]
fn one_matcher_is_read_as_a_filter_of_the_api() {
    let check = |text: &str, expected: &str| {
        let read = parse_one(text).map(|matcher| matchers::write_one(&matcher));
        assert_eq!(read.expect(text), expected);
    };
    check("a=b", r#"a="b""#);
    check("a=b,c=d", r#"a="b,c=d""#);
    check(r#""a b"=c"#, r#""a b"="c""#);
    assert!(parse_one("{a=b}").is_err());
    assert!(parse_one("").is_err());
    assert!(
        parse_one(r#""a.b"=c,"d.e"=f"#)
            .expect_err("two")
            .to_string()
            .contains("found 2")
    );
}

proptest! {
    #[test]
    fn matchers_that_are_written_are_read_again(
        name in ".{1,8}", op in 0usize..4, value in ".*", other in "[a-z_]{1,5}"
    ) {
        let op = MatcherOp::ALL[op];
        // As an expression, text stands for itself only without letters of the syntax.
        let value = if matches!(op, MatcherOp::Equal | MatcherOp::NotEqual) {
            value
        } else {
            value.chars().filter(|character| character.is_alphanumeric()).collect()
        };
        let written = [
            Matcher::new(&name, op, &value).expect("compiles"),
            Matcher::new(&other, MatcherOp::NotEqual, &value).expect("no expression"),
        ];
        let text = matchers::write(&written);
        prop_assert_eq!(&parse(&text).expect("reads")[..], &written[..], "{}", text);
        let alone = matchers::write_one(&written[0]);
        prop_assert_eq!(&parse_one(&alone).expect("reads"), &written[0], "{}", alone);
    }

    #[test]
    fn no_text_makes_the_parser_fall(text in "[a-z\"\\\\{}=~!,.x0-9 \n]{0,40}") {
        if let Ok(read) = parse(&text) {
            prop_assert_eq!(parse(&matchers::write(&read)).expect("reads again"), read);
        }
    }
}

//! Ways of alerts through a tree of 1,000 routes, inhibition among 100,000 alerts, and the next change of intervals.
//!
//! Run with `cargo bench -p marketprism-bench --bench routing`. Everything runs on one thread.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use marketprism_alerts::calendar::Calendars;
use marketprism_alerts::inhibition::Inhibitor;
use marketprism_alerts::routing::{InhibitRuleConfig, KnownNames, RouteConfig, RoutingTree};
use marketprism_alerts::time_interval::{Interval, next_change};
use marketprism_model::time_interval::DAY_MINUTES;
use marketprism_model::{DayTimes, Id, Labels, Span, TimeInterval, Timestamp};

const TEAMS: usize = 200;
const SEVERITIES: [&str; 4] = ["critical", "high", "medium", "low"];
const HOSTS: usize = 50_000;

/// A thousand routes: teams, and below each its severities; `is_regex` keeps the look-up by value from helping.
fn tree(is_regex: bool) -> RoutingTree {
    let op = if is_regex { "=~" } else { "=" };
    let mut root = RouteConfig::root("ops", &["alertname"]);
    root.routes = (0..TEAMS)
        .map(|team| RouteConfig {
            matchers: vec![format!("team{op}\"team{team}\"")],
            routes: SEVERITIES
                .iter()
                .map(|severity| RouteConfig {
                    matchers: vec![format!("severity{op}\"{severity}\"")],
                    ..RouteConfig::default()
                })
                .collect(),
            ..RouteConfig::default()
        })
        .collect();
    let known = KnownNames {
        receivers: &["ops"],
        ..KnownNames::default()
    };
    RoutingTree::new(&root, known).expect("a good tree")
}

fn alert(team: usize) -> Labels {
    Labels::from_pairs([
        ("alertname", "DiskFull".to_owned()),
        ("instance", "host-1:9100".to_owned()),
        ("severity", "medium".to_owned()),
        ("team", format!("team{team}")),
    ])
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find in 1000 routes");
    for (name, is_regex) in [("by value", false), ("by expression", true)] {
        let tree = tree(is_regex);
        for (place, team) in [("first", 0), ("last", TEAMS - 1), ("none", TEAMS)] {
            let labels = alert(team);
            group.bench_function(format!("{name}/{place}"), |b| {
                b.iter(|| tree.find(black_box(&labels)))
            });
        }
    }
    group.finish();
}

fn host(severity: &str, host: usize) -> Labels {
    Labels::from_pairs([
        ("alertname", "Down".to_owned()),
        ("host", format!("host{host}")),
        ("severity", severity.to_owned()),
    ])
}

fn inhibition(c: &mut Criterion) {
    let rule = InhibitRuleConfig {
        source_matchers: vec!["severity=critical".to_owned()],
        target_matchers: vec!["severity=~\"high|low\"".to_owned()],
        equal: vec!["alertname".to_owned(), "host".to_owned()],
        ..InhibitRuleConfig::default()
    };
    let mut inhibitor = Inhibitor::new(&[rule]).expect("a good rule");
    for number in 0..HOSTS {
        for (at, severity) in ["critical", "low"].into_iter().enumerate() {
            let labels = host(severity, number);
            let id = Id::from_u128((2 * number + at) as u128);
            inhibitor.started(id, labels.fingerprint(), &labels);
        }
    }
    assert_eq!(inhibitor.sources(), HOSTS);
    let mut group = c.benchmark_group("inhibition among 100000 alerts");
    for (name, labels) in [
        ("inhibited", host("low", HOSTS / 2)),
        ("not inhibited", host("low", HOSTS)),
        ("no target", host("medium", 1)),
    ] {
        let fingerprint = labels.fingerprint();
        group.bench_function(name, |b| {
            b.iter(|| inhibitor.inhibited_by(fingerprint, black_box(&labels)))
        });
    }
    let labels = host("critical", HOSTS);
    let id = Id::from_u128(u128::MAX);
    group.bench_function("start and end", |b| {
        b.iter(|| {
            inhibitor.started(id, labels.fingerprint(), black_box(&labels));
            inhibitor.ended(id);
        });
    });
    group.finish();
}

fn changes(c: &mut Criterion) {
    let calendars = Calendars::default();
    let compiled = |said: TimeInterval| Interval::new(&said, &calendars).expect("a good interval");
    let nights = compiled(TimeInterval {
        times: vec![DayTimes {
            start_minute: 22 * 60,
            end_minute: DAY_MINUTES,
        }],
        location: Some("Europe/Berlin".to_owned()),
        ..TimeInterval::default()
    });
    let never = compiled(TimeInterval {
        years: vec![Span {
            begin: 2100,
            end: 2100,
        }],
        location: Some("Europe/Berlin".to_owned()),
        ..TimeInterval::default()
    });
    let now = Timestamp::from_millis(1_774_746_000_000);
    let mut group = c.benchmark_group("intervals");
    group.bench_function("contains", |b| b.iter(|| nights.contains(black_box(now))));
    group.bench_function("next change today", |b| {
        b.iter(|| next_change([&nights], black_box(now)))
    });
    group.bench_function("no change for 400 days", |b| {
        b.iter(|| next_change([&never], black_box(now)))
    });
    group.finish();
}

criterion_group!(benches, find, inhibition, changes);
criterion_main!(benches);

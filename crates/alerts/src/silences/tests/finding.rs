//! The index gives what a plain walk gives, and the next change is the next change.

use std::collections::BTreeSet;

use marketprism_model::{Id, Silence};
use proptest::prelude::*;

use super::super::literals::{literals, stem};
use super::super::{Silences, holds, next_turn};
use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];
const VALUES: [&str; 4] = ["1", "2", "x.y", "数"];
const PATTERNS: [&str; 16] = [
    "1",
    "1|2",
    "(1|2)",
    "(?:1|2)",
    "^(?:2|数)$",
    "^1$",
    "x\\.y",
    "x.y",
    ".+",
    ".*",
    "",
    "1|",
    "[12]",
    "(1)|(2)",
    "x.*",
    "x\\.+",
];

fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
    let plain = (0..NAMES.len(), 0..=VALUES.len(), any::<bool>()).prop_map(|(name, value, is_equal)| {
        let op = if is_equal {
            MatcherOp::Equal
        } else {
            MatcherOp::NotEqual
        };
        Matcher::new(NAMES[name], op, VALUES.get(value).unwrap_or(&"")).expect("no expression")
    });
    let expression =
        (0..NAMES.len(), 0..PATTERNS.len(), any::<bool>()).prop_map(|(name, pattern, is_positive)| {
            let op = if is_positive {
                MatcherOp::Matches
            } else {
                MatcherOp::NotMatches
            };
            Matcher::new(NAMES[name], op, PATTERNS[pattern]).expect("a good expression")
        });
    proptest::collection::vec(prop_oneof![3 => plain, 2 => expression], 1..4)
}

prop_compose! {
    fn silence()(
        id in 0_u128..12,
        matchers in matchers(),
        starts in 0_i64..600,
        lasts in 0_i64..600,
        times in proptest::option::weighted(0.3, (0_u16..10, 1_u16..5)),
    ) -> Silence {
        let interval = |(start_minute, length): (u16, u16)| TimeInterval {
            times: vec![DayTimes { start_minute, end_minute: start_minute + length }],
            ..TimeInterval::default()
        };
        Silence {
            id: Id::from_u128(id),
            matchers,
            starts_at: at(starts),
            ends_at: at(starts + lasts),
            updated_at: at(0),
            created_by: "li".to_owned(),
            comment: "generated".to_owned(),
            recurs: times.map(interval).into_iter().collect(),
            is_until_resolved: false,
        }
    }
}

/// All sets of the labels and values above.
fn alerts() -> Vec<Labels> {
    let values: Vec<Option<&str>> = VALUES.iter().copied().map(Some).chain([None]).collect();
    let mut sets = Vec::new();
    for a in &values {
        for b in &values {
            for c in &values {
                let pairs = NAMES.iter().zip([a, b, c]);
                sets.push(Labels::from_pairs(
                    pairs.filter_map(|(name, value)| Some((*name, (*value)?))),
                ));
            }
        }
    }
    sets
}

fn walked(silences: &Silences, labels: &Labels, now: Timestamp) -> Vec<Id> {
    let hits = silences
        .iter()
        .filter(|silence| silence.matches(labels) && holds(silence, now, &TimesOfDay));
    let ids: BTreeSet<Id> = hits.map(|silence| silence.id).collect();
    ids.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_index_gives_what_a_plain_walk_gives(
        steps in proptest::collection::vec((silence(), 0_i64..120, any::<bool>(), any::<bool>()), 1..20),
    ) {
        let mut silences = Silences::default();
        let mut now = 0;
        for (silence, seconds, cleans, expires) in steps {
            let id = silence.id;
            now += seconds;
            silences.put(silence, at(now));
            if expires {
                silences.expire(id, at(now)).expect("just put");
            }
            if cleans {
                silences.clean(at(now));
            }
            for labels in alerts() {
                // The clock may be set back for a while.
                for moment in [now, now - 30, now + 30] {
                    let found = silences.silencing(&labels, at(moment), &TimesOfDay);
                    prop_assert_eq!(found, walked(&silences, &labels, at(moment)), "{} at {}", labels, moment);
                }
            }
        }
    }

    #[test]
    fn until_the_next_change_nothing_changes_and_then_something_may(
        made in proptest::collection::vec(silence(), 1..6),
        now in 0_i64..1200,
    ) {
        let mut silences = Silences::default();
        for silence in made {
            silences.put(silence, at(0));
        }
        let silent = |silences: &Silences, at| alerts().iter().map(|labels| silences.silencing(labels, at, &TimesOfDay)).collect::<Vec<_>>();
        let next = silences.iter().filter_map(|silence| next_turn(silence, at(now), &TimesOfDay)).min();
        prop_assert!(next.is_none_or(|next| next > at(now)));
        let before = silent(&silences, at(now));
        for seconds in (now..1260).step_by(10) {
            if next.is_some_and(|next| at(seconds) >= next) {
                break;
            }
            prop_assert_eq!(&silent(&silences, at(seconds)), &before, "at {}", seconds);
        }
        if let Some(next) = next {
            prop_assert_eq!(&silent(&silences, next - Duration::from_millis(1)), &before);
        }
    }

    #[test]
    fn listed_words_are_exactly_what_the_expression_keeps(
        pattern in r"(\^)?(\(|\(\?:)?([ab1\-]|\\\.|\\\||\||\\d|\\-|[.*?+]|b\{0\}){0,6}\)?(\$)?",
        value in r"[ab1\-.|d]{0,4}",
    ) {
        let Ok(matcher) = Matcher::new("name", MatcherOp::Matches, &pattern) else {
            return Ok(());
        };
        if let Some(words) = literals(&pattern) {
            prop_assert_eq!(words.iter().any(|word| **word == *value), matcher.matches(&value));
            for word in words {
                prop_assert!(matcher.matches(&word), "{:?}", word);
            }
        }
        let stem = stem(&pattern);
        prop_assert!(!matcher.matches(&value) || value.starts_with(&stem), "{:?}", stem);
    }
}

#[test]
fn the_begin_of_an_expression_is_read_as_far_as_it_is_plain() {
    let check = |pattern: &str, expected: &str| assert_eq!(stem(pattern), expected, "{pattern:?}");
    check("web-.*", "web-");
    check("^web.+$", "web");
    check(r"10\.0\.0\..*", "10.0.0.");
    check("webs?", "web");
    check("数据库.*", "数据库");
    for pattern in [".*web", "(?i)web", "web|db", "[w]eb", "w*", r"\d"] {
        check(pattern, "");
    }
}

#[test]
fn words_between_bars_are_listed_and_expressions_are_not() {
    let check = |pattern: &str, expected: Option<&[&str]>| {
        let words = literals(pattern);
        let words: Option<Vec<&str>> = words
            .as_ref()
            .map(|words| words.iter().map(|word| &**word).collect());
        assert_eq!(words.as_deref(), expected, "{pattern:?}");
    };
    check("b|a|b", Some(&["a", "b"]));
    check("(a|b)", Some(&["a", "b"]));
    check("^(?:a|b)$", Some(&["a", "b"]));
    check("^a$", Some(&["a"]));
    check(r"10\.0\.0\.1:9100", Some(&["10.0.0.1:9100"]));
    check("a|", Some(&["", "a"]));
    for pattern in ["a.*", "^a|b$", "(a)|(b)", "(?i)a", "[ab]", r"\d", r"a\", "(a|b)c"] {
        check(pattern, None);
    }
}

#[test]
fn the_rare_half_of_a_silence_is_its_place() {
    let mut desk = Desk::new();
    for instance in 0..1_000 {
        let text = format!("instance=web-{instance}");
        let draft = draft(&desk, &["alertname=Down", &text]);
        desk.set(draft).expect("taken");
    }
    let mut asked = 0;
    let web = labels(&[("alertname", "Down"), ("instance", "web-7"), ("job", "web")]);
    desk.silences.index.matching(&web, |_| asked += 1);
    assert_eq!(asked, 1);
    assert!(desk.silences.index.crowd_max() <= 2, "no place is crowded");
    for silence in desk.silences.iter().map(|silence| silence.id).collect::<Vec<_>>() {
        desk.silences.expire(silence, desk.now).expect("known");
    }
    desk.wait(3_601);
    desk.silences.clean(desk.now);
    assert!(desk.silences.index.is_empty(), "nothing is left behind");
}

#[test]
fn a_recurring_silence_holds_within_its_times_only() {
    let mut desk = Desk::new();
    desk.now = at(0);
    let nightly = TimeInterval {
        times: vec![DayTimes {
            start_minute: 60,
            end_minute: 120,
        }],
        ..TimeInterval::default()
    };
    let draft = SilenceDraft {
        recurs: Some(vec![nightly]),
        ends_at: at(3 * 86_400),
        ..draft(&desk, &["job=backup"])
    };
    let nightly = desk.set(draft).expect("taken").silence;
    let backup = labels(&[("job", "backup")]);
    let mut turns = Vec::new();
    while let Some(next) = next_turn(&nightly, desk.now, &TimesOfDay) {
        desk.now = next;
        turns.push((next.millis() / 60_000, desk.is_silent(&backup)));
    }
    let day = 1440;
    let expected = [
        (60, true),
        (120, false),
        (day + 60, true),
        (day + 120, false),
        (2 * day + 60, true),
        (2 * day + 120, false),
    ];
    assert_eq!(turns, expected);
}

//! Inhibition against its definition: every pair of alerts tried one by one.

use marketprism_alerts::inhibition::Inhibitor;
use marketprism_alerts::routing::InhibitRuleConfig;
use marketprism_model::{Id, Labels, Matcher, MatcherOp};

use crate::routing_words::{Dice, labels};

fn rule(source: &[&str], target: &[&str], equal: &[&str]) -> InhibitRuleConfig {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    InhibitRuleConfig {
        source_matchers: texts(source),
        target_matchers: texts(target),
        equal: texts(equal),
        ..InhibitRuleConfig::default()
    }
}

fn id(number: usize) -> Id {
    Id::from_u128(number as u128)
}

/// One rule, alerts that fire, and who inhibits the asked.
#[track_caller]
fn check(rule: InhibitRuleConfig, firing: &[&[(&str, &str)]], asked: &[(&str, &str)], by: Option<usize>) {
    let mut inhibitor = Inhibitor::new(&[rule]).expect("a good rule");
    for (number, pairs) in firing.iter().enumerate() {
        let labels = labels(pairs);
        inhibitor.started(id(number), labels.fingerprint(), &labels);
    }
    let asked = labels(asked);
    assert_eq!(inhibitor.inhibited_by(asked.fingerprint(), &asked), by.map(id));
}

#[test]
fn a_source_inhibits_targets_that_share_the_labels() {
    let critical = || rule(&["severity=critical"], &["severity=~\"high|low\""], &["host"]);
    let source: &[(&str, &str)] = &[("severity", "critical"), ("host", "a")];
    check(
        critical(),
        &[source],
        &[("severity", "high"), ("host", "a")],
        Some(0),
    );
    check(
        critical(),
        &[source],
        &[("severity", "high"), ("host", "b")],
        None,
    );
    check(
        critical(),
        &[source],
        &[("severity", "info"), ("host", "a")],
        None,
    );
    check(critical(), &[source], source, None);
    check(critical(), &[], &[("severity", "high"), ("host", "a")], None);
    // The oldest of several.
    let other: &[(&str, &str)] = &[("severity", "critical"), ("host", "a"), ("job", "x")];
    check(
        critical(),
        &[source, other],
        &[("severity", "high"), ("host", "a")],
        Some(0),
    );
}

#[test]
fn an_absent_label_is_an_empty_one() {
    let by_host = rule(&["kind=source"], &["kind=target"], &["host", "rack"]);
    check(
        by_host.clone(),
        &[&[("kind", "source")]],
        &[("kind", "target")],
        Some(0),
    );
    check(
        by_host.clone(),
        &[&[("kind", "source"), ("host", "a")]],
        &[("kind", "target")],
        None,
    );
    check(
        by_host,
        &[&[("kind", "source"), ("host", "a")]],
        &[("kind", "target"), ("host", "a"), ("rack", "")],
        Some(0),
    );
}

#[test]
fn alerts_that_match_both_sides_do_not_inhibit_each_other() {
    let both = || rule(&["a=1"], &["b=1"], &["host"]);
    let two_sided: &[(&str, &str)] = &[("a", "1"), ("b", "1"), ("host", "x")];
    let another: &[(&str, &str)] = &[("a", "1"), ("b", "1"), ("host", "x"), ("job", "y")];
    let source: &[(&str, &str)] = &[("a", "1"), ("host", "x")];
    check(both(), &[two_sided], two_sided, None);
    check(both(), &[two_sided, another], another, None);
    // A pure source inhibits it, and it inhibits a pure target.
    check(both(), &[two_sided, source], another, Some(1));
    check(both(), &[two_sided], &[("b", "1"), ("host", "x")], Some(0));
}

#[test]
fn an_alert_that_ended_or_changed_its_labels_inhibits_as_it_is_now() {
    let mut inhibitor =
        Inhibitor::new(&[rule(&["severity=critical"], &["severity=low"], &["host"])]).expect("good");
    let low = labels(&[("severity", "low"), ("host", "a")]);
    let critical = labels(&[("severity", "critical"), ("host", "a")]);
    inhibitor.started(id(1), 1, &critical);
    inhibitor.started(id(2), 2, &critical);
    inhibitor.ended(id(1));
    assert_eq!(inhibitor.inhibited_by(9, &low), Some(id(2)));
    inhibitor.started(id(2), 2, &labels(&[("severity", "high"), ("host", "a")]));
    assert_eq!((inhibitor.inhibited_by(9, &low), inhibitor.sources()), (None, 0));
    inhibitor.ended(id(7));
}

#[test]
fn faults_of_all_rules_are_named() {
    let rules = [
        rule(&["a b"], &["c=d"], &[""]),
        rule(&["a=b"], &["c=~\"(\""], &[]),
    ];
    let text = Inhibitor::new(&rules).expect_err("refused").to_string();
    for place in [
        "inhibit_rules[0].source_matchers[0]: ",
        "inhibit_rules[0].equal[0]: ",
        "inhibit_rules[1].target_matchers[0]: ",
    ] {
        assert!(text.contains(place), "{text}");
    }
}

/// The definition, alert by alert.
fn is_inhibited(
    rules: &[(Vec<Matcher>, Vec<Matcher>, Vec<&str>)],
    firing: &[(Id, Labels)],
    asked: &Labels,
) -> bool {
    let all =
        |matchers: &[Matcher], labels: &Labels| matchers.iter().all(|matcher| matcher.matches_labels(labels));
    rules.iter().any(|(source, target, equal)| {
        all(target, asked)
            && firing.iter().any(|(_, other)| {
                all(source, other)
                    && equal
                        .iter()
                        .all(|label| asked.get(label).unwrap_or("") == other.get(label).unwrap_or(""))
                    && !(all(source, asked) && all(target, other))
            })
    })
}

#[test]
fn the_look_up_answers_as_the_definition_does() {
    const LABELS: [&str; 3] = ["a", "b", "c"];
    let (mut asked, mut inhibited) = (0, 0);
    for seed in 0..400 {
        let dice = Dice::new(seed);
        let alert = || {
            let pairs = LABELS.iter().map(|name| (*name, dice.one_of(&["", "1", "2"])));
            Labels::from_pairs(pairs)
        };
        let pick = || {
            let op = MatcherOp::ALL[dice.below(2)];
            Matcher::new(dice.one_of(&LABELS), op, dice.one_of(&["", "1", "2"])).expect("no expression")
        };
        let plain: Vec<_> = (0..=dice.below(3))
            .map(|_| (vec![pick()], vec![pick()], LABELS[..dice.below(3)].to_vec()))
            .collect();
        let written = |matchers: &[Matcher]| matchers.iter().map(ToString::to_string).collect();
        let configs: Vec<_> = plain
            .iter()
            .map(|(source, target, equal)| InhibitRuleConfig {
                source_matchers: written(source),
                target_matchers: written(target),
                equal: equal.iter().map(|label| (*label).to_owned()).collect(),
                ..InhibitRuleConfig::default()
            })
            .collect();
        let mut inhibitor = Inhibitor::new(&configs).expect("good rules");
        let mut firing: Vec<(Id, Labels)> = Vec::new();
        for step in 0..30 {
            let labels = alert();
            if dice.below(3) == 0 && !firing.is_empty() {
                let (gone, _) = firing.swap_remove(dice.below(firing.len()));
                inhibitor.ended(gone);
            } else if firing.iter().all(|(_, other)| *other != labels) {
                inhibitor.started(id(step), labels.fingerprint(), &labels);
                firing.push((id(step), labels));
            }
            let question = alert();
            let by = inhibitor.inhibited_by(question.fingerprint(), &question);
            assert_eq!(
                by.is_some(),
                is_inhibited(&plain, &firing, &question),
                "seed {seed}, step {step}"
            );
            if let Some(by) = by {
                assert!(firing.iter().any(|(id, _)| *id == by), "it fires");
                inhibited += 1;
            }
            asked += 1;
        }
    }
    assert!(
        inhibited * 5 > asked && inhibited * 5 < asked * 4,
        "{inhibited} of {asked} were inhibited"
    );
}

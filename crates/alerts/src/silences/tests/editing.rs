//! Making and changing silences: Alertmanager's rules, and what they are for.

use std::collections::BTreeSet;

use marketprism_model::{DayTimes, Silence, SilenceState, Span, TimeInterval};
use proptest::prelude::*;

use super::*;

/// Makes a silence from `from` to `until`, seconds from the desk's begin.
fn made(desk: &mut Desk, from: i64, until: i64) -> Silence {
    let zero = desk.now.millis() / 1000;
    let draft = SilenceDraft {
        starts_at: Some(at(zero + from)),
        ends_at: at(zero + until),
        ..draft(desk, &["alertname=DiskFull"])
    };
    desk.set(draft).expect("taken").silence
}

/// The same silence again, as a client sends it back.
fn again(silence: &Silence) -> SilenceDraft {
    SilenceDraft {
        id: Some(silence.id),
        matchers: silence.matchers.clone(),
        starts_at: Some(silence.starts_at),
        ends_at: silence.ends_at,
        created_by: silence.created_by.clone(),
        comment: silence.comment.clone(),
        recurs: None,
        is_until_resolved: None,
    }
}

#[test]
fn the_end_the_author_and_the_comment_of_an_active_silence_change_in_place() {
    let mut desk = Desk::new();
    let old = made(&mut desk, 0, 3600);
    desk.wait(60);
    let longer = SilenceDraft {
        ends_at: old.ends_at + Duration::from_secs(3600),
        created_by: "li".to_owned(),
        comment: "takes longer".to_owned(),
        // A client that knows whole seconds only.
        starts_at: Some(old.starts_at + Duration::from_millis(999)),
        ..again(&old)
    };
    let change = desk.set(longer).expect("taken");
    assert_eq!(change.replaced, None);
    let expected = Silence {
        ends_at: old.ends_at + Duration::from_secs(3600),
        created_by: "li".to_owned(),
        comment: "takes longer".to_owned(),
        updated_at: desk.now,
        ..old
    };
    assert_eq!(change.silence, expected);
    assert_eq!(desk.silences.iter().count(), 1);
}

#[test]
fn other_matchers_end_the_old_silence_and_make_a_new_one() {
    let mut desk = Desk::new();
    let old = made(&mut desk, 0, 3600);
    desk.wait(60);
    let other = SilenceDraft {
        matchers: vec![matcher("alertname=DiskFull"), matcher("instance=a")],
        ..again(&old)
    };
    let change = desk.set(other).expect("taken");
    assert_ne!(change.silence.id, old.id);
    assert_eq!(
        change.silence.starts_at, desk.now,
        "nothing is silent in hindsight"
    );
    let replaced = change.replaced.expect("the old one ended");
    assert_eq!(
        (replaced.id, replaced.starts_at, replaced.ends_at),
        (old.id, old.starts_at, desk.now)
    );
    assert!(!desk.is_silent(&labels(&[("alertname", "DiskFull")])));
    assert!(desk.is_silent(&labels(&[("alertname", "DiskFull"), ("instance", "a")])));
}

#[test]
fn the_order_of_matchers_is_no_change() {
    let mut desk = Desk::new();
    let first = draft(&desk, &["a=1", "b=2"]);
    let old = desk.set(first).expect("taken").silence;
    let mut turned = again(&old);
    turned.matchers.reverse();
    assert_eq!(desk.set(turned).expect("taken").silence.id, old.id);
}

#[test]
fn moving_the_start_of_an_active_silence_makes_a_new_one() {
    let mut desk = Desk::new();
    let old = made(&mut desk, 0, 3600);
    desk.wait(60);
    let later = SilenceDraft {
        starts_at: Some(desk.now + Duration::from_secs(600)),
        ..again(&old)
    };
    let change = desk.set(later).expect("taken");
    assert_ne!(change.silence.id, old.id);
    assert_eq!(change.silence.state(desk.now), SilenceState::Pending);
    assert_eq!(
        change.replaced.expect("ended").state(desk.now),
        SilenceState::Expired
    );
    assert!(!desk.is_silent(&labels(&[("alertname", "DiskFull")])));
}

#[test]
fn a_pending_silence_moves_in_place_but_not_into_the_past() {
    let mut desk = Desk::new();
    let old = made(&mut desk, 600, 3600);
    let sooner = SilenceDraft {
        starts_at: Some(desk.now + Duration::from_secs(60)),
        ..again(&old)
    };
    let moved = desk.set(sooner).expect("taken");
    assert_eq!((moved.silence.id, moved.replaced), (old.id, None));
    let past = SilenceDraft {
        starts_at: Some(desk.now - Duration::from_secs(60)),
        ..again(&old)
    };
    let change = desk.set(past).expect("taken");
    assert_ne!(change.silence.id, old.id);
    assert_eq!(change.silence.starts_at, desk.now);
    let replaced = change.replaced.expect("the old one never holds");
    assert_eq!((replaced.starts_at, replaced.ends_at), (desk.now, desk.now));
}

#[test]
fn what_is_over_is_not_changed_but_made_anew() {
    let mut desk = Desk::new();
    let old = made(&mut desk, 0, 60);
    desk.wait(60);
    assert!(
        !desk.is_silent(&labels(&[("alertname", "DiskFull")])),
        "the end is exclusive"
    );
    let longer = SilenceDraft {
        ends_at: desk.now + Duration::from_secs(60),
        ..again(&old)
    };
    let change = desk.set(longer).expect("taken");
    assert_ne!(change.silence.id, old.id);
    assert_eq!((change.silence.starts_at, change.replaced), (desk.now, None));
    assert_eq!(desk.silences.get(old.id).map(|kept| (**kept).clone()), Some(old));
}

#[test]
fn ending_a_silence_twice_changes_nothing_the_second_time() {
    let mut desk = Desk::new();
    let silence = made(&mut desk, 0, 3600);
    desk.wait(60);
    let over = desk
        .silences
        .expire(silence.id, desk.now)
        .expect("known")
        .expect("ended");
    assert_eq!((over.ends_at, over.updated_at), (desk.now, desk.now));
    assert!(!desk.is_silent(&labels(&[("alertname", "DiskFull")])));
    desk.wait(60);
    assert_eq!(desk.silences.expire(silence.id, desk.now), Ok(None));
    let unknown = marketprism_model::Id::from_u128(7);
    assert_eq!(
        desk.silences.expire(unknown, desk.now),
        Err(SilenceError::Unknown(unknown))
    );
    let nobody = SilenceDraft {
        id: Some(unknown),
        ..draft(&desk, &["a=1"])
    };
    assert_eq!(desk.set(nobody), Err(SilenceError::Unknown(unknown)));
}

#[test]
fn a_client_that_knows_no_recurrence_keeps_it() {
    let mut desk = Desk::new();
    let nightly = TimeInterval {
        times: vec![DayTimes {
            start_minute: 60,
            end_minute: 120,
        }],
        ..TimeInterval::default()
    };
    let recurring = SilenceDraft {
        recurs: Some(vec![nightly.clone()]),
        ..draft(&desk, &["job=backup"])
    };
    let old = desk.set(recurring).expect("taken").silence;
    let longer = SilenceDraft {
        ends_at: old.ends_at + Duration::from_secs(86_400),
        ..again(&old)
    };
    let kept = desk.set(longer).expect("taken").silence;
    assert_eq!((kept.id, &kept.recurs), (old.id, &vec![nightly]));
    let always = SilenceDraft {
        recurs: Some(Vec::new()),
        ..again(&kept)
    };
    let change = desk.set(always).expect("taken");
    assert_ne!(change.silence.id, old.id, "when it held can be told afterwards");
    assert!(change.silence.recurs.is_empty());
}

#[test]
fn what_is_no_silence_is_refused_with_the_reason() {
    let mut desk = Desk::new();
    let mut check = |change: fn(&mut SilenceDraft), words: &str| {
        let mut draft = draft(&desk, &["alertname=X"]);
        change(&mut draft);
        let error = desk.set(draft).expect_err("refused").to_string();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
        assert_eq!(desk.silences.iter().count(), 0);
    };
    check(|d| d.matchers.clear(), "at least one matcher");
    check(
        |d| d.matchers = vec![matcher("a="), matcher("b=~.*")],
        "must not match the empty string",
    );
    check(|d| d.matchers = vec![matcher("=x")], "name is empty");
    check(|d| d.starts_at = Some(d.ends_at), "not before its end");
    check(
        |d| (d.starts_at, d.ends_at) = (Some(at(10)), at(20)),
        "not after now",
    );
    check(|d| d.comment = " ".to_owned(), "comment must not be empty");
    check(|d| d.created_by = String::new(), "created_by must not be empty");
    check(|d| d.comment = "x".repeat(17_000), "limit of 16384");
    check(
        |d| d.matchers = vec![matcher("a=1"); 65],
        "matchers: 65 is more than the limit of 64",
    );
    check(
        |d| d.recurs = Some(vec![TimeInterval::default(); 17]),
        "limit of 16",
    );
    check(
        |d| (d.recurs, d.is_until_resolved) = (Some(vec![TimeInterval::default()]), Some(true)),
        "recurs",
    );
    check(
        |d| {
            d.recurs = Some(vec![TimeInterval {
                weekdays: vec![Span { begin: 5, end: 7 }],
                ..TimeInterval::default()
            }])
        },
        "recurs[0].weekdays: 5 to 7",
    );
    check(
        |d| {
            d.recurs = Some(vec![TimeInterval {
                times: vec![DayTimes {
                    start_minute: 600,
                    end_minute: 600,
                }],
                ..TimeInterval::default()
            }])
        },
        "recurs[0].times: 600 to 600",
    );
}

#[test]
fn a_negative_matcher_alone_is_a_silence_as_in_alertmanager() {
    let mut desk = Desk::new();
    let draft = draft(&desk, &["severity!=critical"]);
    desk.confirm(draft).expect("taken");
    assert!(desk.is_silent(&labels(&[("severity", "low")])));
    assert!(!desk.is_silent(&labels(&[("severity", "critical")])));
}

#[test]
fn there_are_only_so_many_and_those_that_are_over_do_not_count() {
    let mut desk = Desk::with(Config {
        max: 3,
        ..Config::default()
    });
    let mut ids = Vec::new();
    for name in ["a=1", "a=2", "a=3"] {
        let draft = draft(&desk, &[name]);
        ids.push(desk.set(draft).expect("there is room").silence.id);
    }
    let fourth = draft(&desk, &["a=4"]);
    let error = desk.set(fourth.clone()).expect_err("no room").to_string();
    assert!(error.contains("4 is more than the limit of 3"), "{error}");
    let changed = SilenceDraft {
        id: Some(ids[0]),
        ..fourth.clone()
    };
    desk.set(changed).expect("one took the place of another");
    desk.silences.expire(ids[1], desk.now).expect("known");
    desk.set(draft(&desk, &["a=5"])).expect("one is over");
    for turn in 0..10 {
        let last = desk
            .silences
            .iter()
            .find(|kept| kept.state(desk.now) == SilenceState::Active);
        let last = last.expect("three hold").id;
        desk.silences.expire(last, desk.now).expect("known");
        desk.wait(1);
        desk.set(draft(&desk, &[&format!("b={turn}")]))
            .expect("there is room");
        desk.silences.clean(desk.now);
    }
    assert_eq!(
        desk.silences.counts(desk.now),
        [0, 3, 3],
        "and only so many are remembered"
    );
    desk.wait(5 * 86_400 + 3_601);
    desk.silences.clean(desk.now);
    assert_eq!(desk.silences.iter().count(), 0);
}

/// One act of an operator.
#[derive(Clone, Debug)]
enum Act {
    Wait(u64),
    Make {
        matcher: usize,
        from: i64,
        until: i64,
    },
    Edit {
        which: usize,
        matcher: Option<usize>,
        from: Option<i64>,
        until: i64,
    },
    Expire {
        which: usize,
    },
}

const MATCHERS: [&str; 5] = ["a=1", "a=2", "b=~x|y", "b!=x", "a=~[12]"];

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (1_u64..90).prop_map(Act::Wait),
        (0..MATCHERS.len(), -60_i64..120, -10_i64..200).prop_map(|(matcher, from, until)| Act::Make {
            matcher,
            from,
            until
        }),
        (
            0_usize..8,
            proptest::option::weighted(0.3, 0..MATCHERS.len()),
            proptest::option::of(-60_i64..120),
            -10_i64..200
        )
            .prop_map(|(which, matcher, from, until)| Act::Edit {
                which,
                matcher,
                from,
                until
            }),
        (0_usize..8).prop_map(|which| Act::Expire { which }),
    ];
    proptest::collection::vec(act, 1..30)
}

fn perform(desk: &mut Desk, act: Act) {
    let after = |desk: &Desk, seconds: i64| Timestamp::from_millis(desk.now.millis() + seconds * 1000);
    let nth = |desk: &Desk, which: usize| {
        let ids: BTreeSet<_> = desk.silences.iter().map(|silence| silence.id).collect();
        ids.into_iter()
            .nth(which)
            .and_then(|id| desk.silences.get(id).cloned())
    };
    match act {
        Act::Wait(seconds) => desk.wait(seconds),
        Act::Make { matcher, from, until } => {
            let draft = SilenceDraft {
                starts_at: Some(after(desk, from)),
                ends_at: after(desk, until),
                ..draft(desk, &[MATCHERS[matcher]])
            };
            // Refusals are part of the game.
            drop(desk.confirm(draft));
        }
        Act::Edit {
            which,
            matcher: other,
            from,
            until,
        } => {
            let Some(old) = nth(desk, which) else { return };
            let draft = SilenceDraft {
                matchers: other.map_or(old.matchers.clone(), |at| vec![matcher(MATCHERS[at])]),
                starts_at: from.map(|from| after(desk, from)).or(Some(old.starts_at)),
                ends_at: after(desk, until),
                ..again(&old)
            };
            drop(desk.confirm(draft));
        }
        Act::Expire { which } => {
            let Some(old) = nth(desk, which) else { return };
            desk.silences.expire(old.id, desk.now).expect("known");
        }
    }
}

/// Says what was silent at a moment, by the records that stand now.
fn silent_at(desk: &Desk, moment: Timestamp) -> BTreeSet<String> {
    let holding = desk
        .silences
        .iter()
        .filter(|kept| kept.state(moment) == SilenceState::Active);
    holding
        .flat_map(|kept| &kept.matchers)
        .map(|matcher| format!("{}{}{}", matcher.name, matcher.op.as_str(), matcher.value))
        .collect()
}

proptest! {
    /// Whatever is done later, the records tell what was silent when.
    #[test]
    fn no_change_rewrites_the_past(acts in acts()) {
        let mut desk = Desk::new();
        let begin = desk.now;
        let mut past: Vec<(Timestamp, BTreeSet<String>)> = Vec::new();
        for act in acts {
            let before = desk.now;
            perform(&mut desk, act);
            for (moment, silent) in &past {
                prop_assert_eq!(&silent_at(&desk, *moment), silent, "at {}", moment);
            }
            while past.len() < ((desk.now.since(begin).as_secs()) as usize) {
                let moment = begin + Duration::from_secs(past.len() as u64);
                past.push((moment, silent_at(&desk, moment)));
            }
            prop_assert!(desk.now >= before);
        }
    }

    /// One that was changed in place has the id, the matchers and, once it holds, the start that it had.
    #[test]
    fn an_id_means_one_thing_for_ever(acts in acts()) {
        let mut desk = Desk::new();
        for act in acts {
            let now = desk.now;
            let before: Vec<_> = desk.silences.iter().cloned().collect();
            perform(&mut desk, act);
            for old in before {
                let new = desk.silences.get(old.id).expect("nothing is lost");
                prop_assert_eq!(&new.matchers, &old.matchers);
                match old.state(now) {
                    SilenceState::Pending => {}
                    SilenceState::Active => prop_assert_eq!(new.starts_at, old.starts_at),
                    SilenceState::Expired => prop_assert_eq!(new, &old),
                }
            }
        }
    }
}

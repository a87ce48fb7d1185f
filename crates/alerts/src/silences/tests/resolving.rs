//! Silences that end when what they silenced has resolved.

use marketprism_model::{Id, Silence, SilenceState};
use proptest::prelude::*;

use super::*;

fn until_resolved(desk: &mut Desk, matcher: &str, from: u64) -> Silence {
    let draft = SilenceDraft {
        starts_at: Some(desk.now + Duration::from_secs(from)),
        is_until_resolved: Some(true),
        ..draft(desk, &[matcher])
    };
    desk.set(draft).expect("taken").silence
}

fn id(number: u128) -> Id {
    Id::from_u128(number)
}

#[test]
fn it_ends_with_the_last_alert_that_it_silenced() {
    let mut desk = Desk::new();
    let web = labels(&[("job", "web")]);
    desk.silences.started(id(1), &web, desk.now);
    let silence = until_resolved(&mut desk, "job=web", 0);
    desk.silences.started(id(2), &web, desk.now);
    desk.silences.started(id(3), &labels(&[("job", "db")]), desk.now);
    desk.wait(10);
    desk.silences.ended(id(1), desk.now);
    assert_eq!(desk.silences.finished(desk.now), []);
    assert!(desk.is_silent(&web));
    desk.wait(10);
    desk.silences.ended(id(2), desk.now);
    let over = desk.silences.finished(desk.now);
    assert_eq!(over.len(), 1);
    assert_eq!(
        (over[0].id, over[0].ends_at, over[0].updated_at),
        (silence.id, desk.now, desk.now)
    );
    assert!(!desk.is_silent(&web), "what comes back is told");
    assert_eq!(desk.silences.finished(desk.now), [], "it ends once");
}

#[test]
fn one_that_has_silenced_nothing_waits_for_its_alert() {
    let mut desk = Desk::new();
    let web = labels(&[("job", "web")]);
    let silence = until_resolved(&mut desk, "job=web", 0);
    desk.silences.started(id(1), &labels(&[("job", "db")]), desk.now);
    desk.silences.ended(id(1), desk.now);
    assert_eq!(desk.silences.finished(desk.now), []);
    desk.wait(60);
    assert!(desk.is_silent(&web));
    desk.silences.started(id(2), &web, desk.now);
    desk.silences.ended(id(2), desk.now);
    assert_eq!(desk.silences.finished(desk.now).len(), 1);
    assert_eq!(
        desk.silences.get(silence.id).expect("kept").state(desk.now),
        SilenceState::Expired
    );
}

#[test]
fn an_alert_that_ended_before_the_silence_began_was_not_silenced() {
    let mut desk = Desk::new();
    let web = labels(&[("job", "web")]);
    until_resolved(&mut desk, "job=web", 60);
    desk.silences.started(id(1), &web, desk.now);
    desk.silences.ended(id(1), desk.now);
    assert_eq!(desk.silences.finished(desk.now), []);
    desk.wait(60);
    assert!(desk.is_silent(&web));
}

#[test]
fn an_alert_that_comes_back_in_the_same_tick_keeps_it() {
    let mut desk = Desk::new();
    let web = labels(&[("job", "web")]);
    until_resolved(&mut desk, "job=web", 0);
    desk.silences.started(id(1), &web, desk.now);
    desk.silences.ended(id(1), desk.now);
    desk.silences.started(id(2), &web, desk.now);
    assert_eq!(desk.silences.finished(desk.now), []);
    desk.silences.ended(id(2), desk.now);
    assert_eq!(desk.silences.finished(desk.now).len(), 1);
}

/// An alert with levels is `severity="high"`, is silenced, and becomes critical: it is told again, and the silence
/// stays for when it falls back, until the alert is over.
#[test]
fn an_alert_whose_labels_change_stays_the_one_that_was_silenced() {
    let mut desk = Desk::new();
    until_resolved(&mut desk, "severity=high", 0);
    let [high, critical] = ["high", "critical"].map(|level| labels(&[("job", "web"), ("severity", level)]));
    desk.silences.started(id(1), &high, desk.now);
    desk.silences.started(id(1), &critical, desk.now);
    assert_eq!(desk.silences.finished(desk.now), []);
    assert!(desk.is_silent(&high) && !desk.is_silent(&critical));
    desk.silences.ended(id(1), desk.now);
    assert_eq!(desk.silences.finished(desk.now).len(), 1);
}

#[test]
fn a_restart_changes_nothing() {
    let mut desk = Desk::new();
    let web = labels(&[("job", "web")]);
    desk.silences.started(id(1), &web, desk.now);
    let silence = until_resolved(&mut desk, "job=web", 0);
    desk.wait(600);
    let mut after = Silences::default();
    after.restore(vec![silence.clone()], desk.now);
    after.started(id(1), &web, desk.now);
    assert_eq!(after.finished(desk.now), []);
    after.ended(id(1), desk.now);
    assert_eq!(
        after.finished(desk.now).first().map(|over| over.id),
        Some(silence.id)
    );
}

#[test]
fn prolonging_it_keeps_what_it_has_silenced() {
    let mut desk = Desk::new();
    let web = labels(&[("job", "web")]);
    let silence = until_resolved(&mut desk, "job=web", 0);
    desk.silences.started(id(1), &web, desk.now);
    desk.wait(60);
    let longer = SilenceDraft {
        id: Some(silence.id),
        ends_at: silence.ends_at + Duration::from_secs(600),
        ..draft(&desk, &["job=web"])
    };
    assert_eq!(desk.set(longer).expect("taken").silence.id, silence.id);
    desk.silences.ended(id(1), desk.now);
    assert_eq!(desk.silences.finished(desk.now).len(), 1);
}

proptest! {
    /// Against a plain account: which alerts matched, whether one of them ended while the silence held.
    #[test]
    fn silences_end_exactly_when_a_plain_account_says_so(
        from in 0_u64..20,
        steps in proptest::collection::vec((0_u128..4, any::<bool>(), any::<bool>(), 0_u64..5), 1..40),
    ) {
        let mut desk = Desk::new();
        let silence = until_resolved(&mut desk, "job=web", from);
        let mut firing = std::collections::BTreeSet::new();
        let mut is_used = false;
        let mut is_over = false;
        for (alert, matches, starts, seconds) in steps {
            desk.wait(seconds);
            // Each number is one alert with labels of its own, matching or not.
            let alert = id(alert * 2 + u128::from(matches));
            let job = labels(&[("job", if matches { "web" } else { "db" })]);
            let mut last_ended = false;
            if starts {
                desk.silences.started(alert, &job, desk.now);
                if matches && !is_over {
                    firing.insert(alert);
                }
            } else {
                desk.silences.ended(alert, desk.now);
                if firing.remove(&alert) {
                    is_used |= desk.now >= silence.starts_at;
                    last_ended = firing.is_empty();
                }
            }
            let ends = !is_over && last_ended && is_used;
            prop_assert_eq!(desk.silences.finished(desk.now).len(), usize::from(ends));
            is_over |= ends;
        }
    }
}

//! What is too wide to be meant, and what a silence would hit.

use marketprism_model::Id;

use super::super::Guard;
use super::*;

fn with_firing(count: u128) -> Desk {
    let mut desk = Desk::new();
    for alert in 0..count {
        let instance = format!("web-{alert}");
        let pairs = [
            ("alertname", "Down"),
            ("instance", instance.as_str()),
            ("job", "web"),
        ];
        desk.silences
            .started(Id::from_u128(alert), &labels(&pairs), desk.now);
    }
    desk
}

#[test]
fn matchers_that_match_whatever_there_is_need_a_confirmation() {
    let check = |matchers: &[&str], is_wide: bool| {
        let mut desk = Desk::new();
        let wide = draft(&desk, matchers);
        let refused = desk.set(wide.clone()).err();
        assert_eq!(refused.is_some(), is_wide, "{matchers:?}");
        if let Some(error) = refused {
            assert!(error.to_string().contains("confirm"), "{error}");
            desk.confirm(wide).expect("it is meant");
        }
    };
    check(&["alertname=~.+"], true);
    check(&["alertname=~(.|\n)+"], true);
    check(&["alertname!="], true);
    check(&["alertname=~.*", "job=~..*"], true);
    check(&["severity!=critical"], true);
    check(&["alertname=~.+", "job=web"], false);
    check(&["alertname=~[A-Z].*"], false);
    check(&["alertname=~.*Down"], false);
    check(&["instance=~web-.+"], false);
}

#[test]
fn a_large_share_of_what_fires_needs_a_confirmation() {
    let mut desk = with_firing(20);
    let error = desk
        .set(draft(&desk, &["job=web"]))
        .expect_err("wide")
        .to_string();
    assert!(
        error.contains("20 of 20 firing alerts, more than 50 %"),
        "{error}"
    );
    desk.set(draft(&desk, &["instance=~web-[0-9]"]))
        .expect("ten of twenty is half, not more");
    desk.set(draft(&desk, &["instance=~web-1?[0-9]"]))
        .expect_err("all of them");
    let confirmed = draft(&desk, &["job=web"]);
    desk.confirm(confirmed).expect("it is meant");
}

#[test]
fn the_only_alerts_of_a_small_shop_may_be_silenced() {
    let mut desk = with_firing(9);
    desk.set(draft(&desk, &["job=web"])).expect("nine are few");
}

#[test]
fn what_was_confirmed_once_can_be_prolonged_without_asking_again() {
    let mut desk = with_firing(20);
    let wide = draft(&desk, &["job=web"]);
    let made = desk.confirm(wide.clone()).expect("it is meant").silence;
    let longer = SilenceDraft {
        id: Some(made.id),
        starts_at: Some(made.starts_at),
        ends_at: made.ends_at + Duration::from_secs(60),
        ..wide.clone()
    };
    desk.set(longer).expect("nobody new falls silent");
    let wider = SilenceDraft {
        id: Some(made.id),
        matchers: vec![matcher("alertname=Down")],
        ..wide
    };
    desk.set(wider).expect_err("that is another silence");
}

#[test]
fn the_guard_can_be_switched_off() {
    let mut desk = Desk::with(Config {
        guard: Guard {
            is_on: false,
            ..Guard::default()
        },
        ..Config::default()
    });
    desk.set(draft(&desk, &["alertname=~.+"])).expect("nobody asks");
}

#[test]
fn a_preview_shows_what_fires_and_what_ended_within_a_day() {
    let mut desk = with_firing(150);
    for alert in 0..30 {
        desk.silences.ended(Id::from_u128(alert), desk.now);
        desk.wait(3600);
    }
    desk.silences.clean(desk.now);
    let preview = desk.silences.preview(&[matcher("instance=~web-.*5")], desk.now);
    // Of 30 to 149 the numbers that end in 5: 35, 45, … 145.
    assert_eq!((preview.firing, preview.hits), (120, 12));
    assert_eq!(preview.alerts.first(), Some(&Id::from_u128(145)));
    // Those that ended within 24 hours are 6 to 29, of which 15 and 25 match.
    assert_eq!((preview.ended, preview.ended_hits), (24, 2));
    assert_eq!(preview.ended_since, None, "the whole day was seen");
    let all = desk.silences.preview(&[matcher("job=web")], desk.now);
    assert_eq!((all.hits, all.alerts.len()), (120, 100));
}

#[test]
fn a_preview_says_when_less_than_a_day_was_seen() {
    let mut desk = with_firing(2);
    let begin = desk.now;
    desk.wait(600);
    desk.silences.ended(Id::from_u128(1), desk.now);
    assert_eq!(
        desk.silences.preview(&[matcher("job=web")], desk.now).ended_since,
        Some(begin)
    );
}

#[test]
fn settings_out_of_their_limits_are_named() {
    let check = |change: fn(&mut Config), words: &str| {
        let mut config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        change(&mut config);
        let text = config.validate().expect_err("refused").to_string();
        assert!(text.contains(words), "{text}");
    };
    check(|config| config.max = 0, "silences.max: 0");
    check(|config| config.bytes_max = 10, "silences.bytes_max: 10");
    check(|config| config.guard.percent = 101, "silences.guard.percent: 101");
}

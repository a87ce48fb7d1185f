//! Kept answers live as long as they are right, and no longer; moments are set by hand.

use super::*;
use bytes::Bytes;
use marketprism_model::Timestamp;
use marketprism_testkit::ManualClock;

const JSON: &str = "application/json";

fn on() -> CacheConfig {
    CacheConfig {
        enabled: true,
        ..CacheConfig::default()
    }
}

fn question(text: &str) -> Question {
    Question {
        text: text.to_owned(),
        start_ms: 1_000,
        end_ms: 1_000,
        step_ms: None,
        limit: None,
        lookback: None,
        gzip: false,
    }
}

fn answer(text: &str) -> Finished {
    Finished {
        media_type: JSON,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
        is_gzip: false,
    }
}

fn cache(config: CacheConfig) -> (Arc<Cache>, Changes, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_millis(0));
    let cache = Cache::new(config, Arc::new(clock.clone()));
    let changes = Changes::new();
    cache.watch(changes.clone());
    (cache, changes, clock)
}

fn lead(cache: &Arc<Cache>, text: &str) -> Flight {
    match cache.ask(question(text)) {
        Asked::Leading(flight) => flight,
        _ => panic!("{text} has an answer, or somebody else evaluates it"),
    }
}

fn answered(cache: &Arc<Cache>, text: &str) -> Option<Finished> {
    match cache.ask(question(text)) {
        Asked::Answered(answer) => Some(answer),
        _ => None,
    }
}

#[test]
fn an_answer_is_used_until_its_time_is_touched_or_over() {
    let (cache, changes, clock) = cache(on());
    lead(&cache, "up").land("up", 1_000, false, &answer("one"));
    assert_eq!(answered(&cache, "up"), Some(answer("one")));
    changes.touch(2_000);
    assert_eq!(
        answered(&cache, "up"),
        Some(answer("one")),
        "later samples change nothing"
    );
    changes.touch(1_000);
    assert_eq!(answered(&cache, "up"), None, "its last moment was touched");
    lead(&cache, "up").land("up", 1_000, false, &answer("two"));
    clock.advance(Duration::from_secs(299));
    assert_eq!(answered(&cache, "up"), Some(answer("two")));
    clock.advance(Duration::from_secs(1));
    assert_eq!(answered(&cache, "up"), None, "its time to live is over");
    let figures = cache.figures();
    assert_eq!((figures.hits, figures.entries, figures.bytes), (3, 0, 0));
}

#[test]
fn an_answer_read_while_samples_came_in_is_not_kept() {
    let (cache, changes, _) = cache(on());
    let flight = lead(&cache, "up");
    changes.touch(500);
    flight.land("up", 1_000, false, &answer("half"));
    assert_eq!(answered(&cache, "up"), None);
}

#[test]
fn another_spelling_finds_the_same_answer() {
    let (cache, _, _) = cache(on());
    lead(&cache, "sum( up )").land("sum(up)", 1_000, false, &answer("3"));
    assert_eq!(answered(&cache, "sum(up)"), Some(answer("3")));
    let flight = lead(&cache, "sum  (up)");
    assert_eq!(flight.under("sum(up)"), Some(answer("3")));
    drop(flight);
    assert_eq!(answered(&cache, "sum  (up)"), Some(answer("3")));
    assert_eq!((cache.figures().hits, cache.figures().misses), (3, 1));
}

#[test]
fn whatever_changes_the_answer_changes_the_question() {
    let (cache, _, _) = cache(on());
    lead(&cache, "up").land("up", 1_000, false, &answer("one"));
    let others: [fn(&mut Question); 6] = [
        |question| question.start_ms = 0,
        |question| question.end_ms = 2_000,
        |question| question.step_ms = Some(1),
        |question| question.limit = Some(1),
        |question| question.lookback = Some(Duration::from_secs(1)),
        |question| question.gzip = true,
    ];
    for change in others {
        let mut other = question("up");
        change(&mut other);
        assert!(matches!(cache.ask(other), Asked::Leading(_)));
    }
}

#[test]
fn the_longest_unused_answer_goes_first_and_a_big_one_is_not_kept() {
    let config = CacheConfig {
        entries_max: 2,
        bytes_max: 1 << 20,
        ..on()
    };
    let (cache, _, _) = cache(config);
    for text in ["a", "b"] {
        lead(&cache, text).land(text, 1_000, false, &answer(text));
    }
    assert!(answered(&cache, "a").is_some());
    lead(&cache, "c").land("c", 1_000, false, &answer("c"));
    assert!(answered(&cache, "b").is_none());
    assert!(answered(&cache, "a").is_some() && answered(&cache, "c").is_some());
    let big = "x".repeat(1 << 17);
    lead(&cache, "big").land("big", 1_000, false, &answer(&big));
    assert!(answered(&cache, "big").is_none());
    assert!(cache.figures().bytes <= 1 << 20);
    cache.set_config(CacheConfig {
        enabled: false,
        ..config
    });
    assert_eq!((cache.figures().entries, cache.figures().bytes), (0, 0));
    assert!(matches!(cache.ask(question("a")), Asked::Alone));
}

#[tokio::test]
async fn equal_questions_wait_for_one_evaluation() {
    let (cache, changes, _) = cache(on());
    let flight = lead(&cache, "up");
    let follow = || match cache.ask(question("up")) {
        Asked::Following(following) => following,
        _ => panic!("somebody evaluates it"),
    };
    let early = follow();
    // What comes now must be seen by whoever asks after it, though not by those who asked before.
    changes.touch(900);
    let late = follow();
    flight.land("up", 1_000, false, &answer("one"));
    drop(flight);
    assert_eq!(early.wait().await, Some(answer("one")));
    assert_eq!(late.wait().await, None);
    let flight = lead(&cache, "up");
    let abandoned = follow();
    drop(flight);
    assert_eq!(abandoned.wait().await, None);
}

#[test]
fn nothing_is_kept_before_changes_are_watched() {
    let clock = ManualClock::new(Timestamp::from_millis(0));
    let blind = Cache::new(on(), Arc::new(clock));
    assert!(matches!(blind.ask(question("up")), Asked::Alone));
}

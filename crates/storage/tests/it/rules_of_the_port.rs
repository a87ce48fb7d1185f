//! What the ports promise, one promise a test.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::sample::{AppendError, Durability, STALE_NAN_BITS};
use marketprism_model::{
    Clock, Labels, Matcher, MatcherOp, RefSample, SampleSink, SeriesRef, SeriesSource, TimeRange, Timestamp,
};
use marketprism_storage::{Config, OpenError, Store};

use crate::harness::*;

#[test]
fn a_selection_stays_the_same_until_a_series_comes_that_it_must_hold() {
    let clock = clock_at(START);
    let store = Store::in_memory(Arc::new(clock.clone()));
    append(&store, &[(0, START, 1.0), (1, START, 1.0)], Durability::Interval).expect("in memory");
    let matchers = [Matcher::equal("__name__", "metric_0")];
    let select = || store.select(&matchers, TimeRange::ALL).expect("in memory");
    let first = select();
    assert_eq!(first.labels().len(), 2);
    append(
        &store,
        &[(0, START + 1, 1.0), (8, START, 1.0)],
        Durability::Interval,
    )
    .expect("in memory");
    assert!(
        Arc::ptr_eq(&first, &select()),
        "a series of another metric changes nothing"
    );
    append(&store, &[(2, START, 1.0)], Durability::Interval).expect("in memory");
    let second = select();
    assert_ne!(first.id(), second.id());
    assert_eq!(second.labels().len(), 3);
    assert_eq!(
        first.labels().len(),
        2,
        "a choice is fixed at the moment it was made"
    );
}

#[test]
fn an_old_selection_reads_what_a_cut_has_moved_to_a_block() {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let store = open(config(dir.path()), &clock);
    for minute in 0..240 {
        clock.jump_to(marketprism_model::Timestamp::from_millis(START + minute * MINUTE));
        append(
            &store,
            &[(0, START + minute * MINUTE, minute as f64)],
            Durability::Interval,
        )
        .expect("a whole disk");
    }
    let selection = store.select(&[], TimeRange::ALL).expect("nothing is damaged");
    let done = store.maintain(clock.now()).expect("a whole disk");
    assert_eq!(done.blocks_cut, 1);
    let mut count = 0;
    selection
        .read(0..1, TimeRange::ALL, &mut |_, samples| {
            count += samples.values.len();
            Ok(())
        })
        .expect("nothing is damaged");
    assert_eq!(count, 240);
    let recent = TimeRange::new(clock.now() - minutes(5), clock.now());
    let (a, b) = (store.select(&[], recent), store.select(&[], recent));
    assert_eq!(a.expect("in memory").id(), b.expect("in memory").id());
}

#[test]
fn a_series_that_falls_silent_loses_its_name_and_the_slot_gets_a_new_tenant() {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let store = open(config(dir.path()), &clock);
    let old = store.resolve(&series(0)).expect("room for it");
    append(&store, &[(0, START, 7.0)], Durability::Interval).expect("a whole disk");
    for minute in 1..300 {
        clock.advance(minutes(1));
        append(&store, &[(1, START + minute * MINUTE, 1.0)], Durability::Interval).expect("a whole disk");
    }
    let done = store.maintain(clock.now()).expect("a whole disk");
    assert_eq!(done.series_removed, 1);
    let new = store.resolve(&series(2)).expect("room for it");
    assert_eq!(new.0 as u32, old.0 as u32, "the slot is used again");
    let sample = |series| RefSample {
        series,
        timestamp: clock.now(),
        value: 1.0,
    };
    let appended = store
        .append(
            &[
                sample(new),
                sample(old),
                sample(SeriesRef(u64::MAX)),
                sample(SeriesRef(5)),
            ],
            Durability::Interval,
        )
        .expect("a whole disk");
    assert_eq!((appended.accepted, appended.unknown_series), (1, vec![1, 2, 3]));
    let contents = read_all(&store);
    assert_eq!(
        contents[&series(0)].values().copied().collect::<Vec<_>>(),
        [7f64.to_bits()]
    );
    assert_eq!(contents[&series(2)].len(), 1);
}

#[test]
fn the_series_limit_refuses_new_series_and_no_old_one() {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let mut limited = config(dir.path());
    limited.series_limit = 3;
    let store = open(limited.clone(), &clock);
    append(
        &store,
        &[(0, START, 1.0), (1, START, 1.0), (2, START, 1.0)],
        Durability::Interval,
    )
    .expect("three are allowed");
    assert!(matches!(
        store.resolve(&series(3)),
        Err(AppendError::SeriesLimit { limit: 3 })
    ));
    drop(store);
    limited.series_limit = 1;
    let store = open(limited, &clock);
    assert_eq!(count(&read_all(&store)), 3, "a lowered limit loses nothing");
    assert!(store.resolve(&series(1)).is_ok());
    assert_eq!(store.stats().refused_series, 0);
}

#[test]
fn labels_that_cannot_name_a_series_are_refused() {
    let store = Store::in_memory(Arc::new(clock_at(START)));
    let long = "x".repeat(70_000);
    for labels in [
        Labels::empty(),
        Labels::from_pairs([("a", long.as_str())]),
        Labels::from_pairs([("", "x")]),
    ] {
        assert!(matches!(store.resolve(&labels), Err(AppendError::Labels { .. })));
    }
}

#[test]
fn samples_ahead_of_the_clock_and_behind_the_window_are_refused_by_reason() {
    let clock = clock_at(START);
    let store = Store::in_memory(Arc::new(clock.clone()));
    let appended = append(
        &store,
        &[
            (0, START, 1.0),
            (0, START + 10 * MINUTE, 1.0),
            (0, START + 10 * MINUTE + 1, 1.0),
            (0, START - HOUR, 1.0),
            (0, START - HOUR, 2.0),
        ],
        Durability::Interval,
    )
    .expect("in memory");
    assert_eq!(
        (appended.accepted, appended.too_far_ahead, appended.conflicting),
        (3, 1, 1)
    );
    let later = append(
        &store,
        &[(0, START - HOUR - 1, 1.0), (1, START - HOUR - 1, 1.0)],
        Durability::Interval,
    );
    assert_eq!(later.expect("in memory").too_old, 2);
    let stats = store.stats();
    assert_eq!(
        (
            stats.refused_too_far_ahead,
            stats.refused_conflicting,
            stats.refused_too_old
        ),
        (1, 1, 2)
    );
}

#[test]
fn a_moment_holds_a_number_or_a_histogram_and_the_same_again_is_no_news() {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let mut wide = config(dir.path());
    wide.out_of_order_window = Duration::from_secs(12 * 3600);
    let mut store = open(wide.clone(), &clock);
    for minute in 0..240 {
        clock.jump_to(Timestamp::from_millis(START + minute * MINUTE));
        let (time, seed) = (now(&clock), minute as u32);
        append(&store, &[(0, time, 1.0)], Durability::Interval).expect("a whole disk");
        append_histograms(&store, &[(1, time, seed)], Durability::Interval).expect("a whole disk");
    }
    let check = |store: &Store, minute: i64| {
        let (time, seed) = (START + minute * MINUTE, minute as u32);
        let told = |appended: marketprism_model::sample::Appended| (appended.accepted, appended.conflicting);
        let numbers = append(
            store,
            &[(0, time, 1.0), (0, time, 2.0), (1, time, 1.0)],
            Durability::Interval,
        );
        assert_eq!(told(numbers.expect("a whole disk")), (1, 2), "minute {minute}");
        let histograms = [(1, time, seed), (1, time, seed + 1), (0, time, seed)];
        let histograms = append_histograms(store, &histograms, Durability::Interval);
        assert_eq!(told(histograms.expect("a whole disk")), (1, 2), "minute {minute}");
    };
    // The newest, in the tail, packed, and the oldest; then in a block, and replayed.
    for minute in [239, 230, 100, 0] {
        check(&store, minute);
    }
    let before = read_all(&store);
    store.maintain(clock.now()).expect("a whole disk");
    assert_eq!(store.stats().block_histograms, 120);
    check(&store, 100);
    drop(store);
    store = open(wide, &clock);
    for minute in [239, 130, 100, 0] {
        check(&store, minute);
    }
    assert_eq!(read_all(&store), before, "nothing was replaced");
    let stats = store.stats();
    assert_eq!((stats.head_histograms, stats.block_histograms), (120, 120));
    assert_eq!(stats.appended_histograms, 4, "replay not counted");
}

#[test]
fn what_a_sender_knows_of_resets_does_not_make_a_histogram_another_one() {
    let store = Store::in_memory(Arc::new(clock_at(START)));
    let series = store.resolve(&series(0)).expect("room for it");
    let sample = |reset_hint| marketprism_model::RefHistogram {
        series,
        timestamp: Timestamp::from_millis(START),
        histogram: Arc::new(marketprism_model::Histogram {
            reset_hint,
            ..histogram(3)
        }),
    };
    for hint in [
        marketprism_model::ResetHint::NotReset,
        marketprism_model::ResetHint::Unknown,
    ] {
        let appended = store
            .append_histograms(&[sample(hint)], Durability::Interval)
            .expect("in memory");
        assert_eq!((appended.accepted, appended.conflicting), (1, 0));
    }
}

#[test]
fn a_histogram_that_cannot_be_is_refused_whole() {
    let store = Store::in_memory(Arc::new(clock_at(START)));
    let series = store.resolve(&series(0)).expect("room for it");
    let mut bad = histogram(3);
    bad.positive.counts[0] = -1.0;
    let samples = [histogram(3), bad].map(|histogram| marketprism_model::RefHistogram {
        series,
        timestamp: Timestamp::from_millis(START),
        histogram: Arc::new(histogram),
    });
    let refused = store
        .append_histograms(&samples, Durability::Interval)
        .expect_err("a bucket counts -1");
    assert!(refused.to_string().contains("a bucket counts -1"), "{refused}");
    assert_eq!(store.stats().head_samples, 0);
}

#[test]
fn a_series_of_histograms_ends_with_a_number() {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let store = open(config(dir.path()), &clock);
    append_histograms(&store, &[(0, START, 1), (0, START + 1, 2)], Durability::Interval)
        .expect("a whole disk");
    append(
        &store,
        &[(0, START + 2, f64::from_bits(STALE_NAN_BITS))],
        Durability::Interval,
    )
    .expect("a whole disk");
    append_histograms(&store, &[(0, START + 3, 3)], Durability::Interval).expect("a whole disk");
    let expected = [
        histogram_bits(1),
        histogram_bits(2),
        STALE_NAN_BITS,
        histogram_bits(3),
    ];
    let values = |store: &Store| {
        read_all(store)[&series(0)]
            .values()
            .copied()
            .collect::<Vec<u64>>()
    };
    assert_eq!(values(&store), expected);
    drop(store);
    assert_eq!(values(&open(config(dir.path()), &clock)), expected);
}

#[test]
fn a_clock_that_is_set_back_does_not_shut_samples_out() {
    let clock = clock_at(START + 400 * 24 * HOUR);
    let store = Store::in_memory(Arc::new(clock.clone()));
    append(&store, &[(0, now(&clock), 1.0)], Durability::Interval).expect("in memory");
    clock.jump_to(marketprism_model::Timestamp::from_millis(START));
    for minute in 0..90 {
        clock.advance(minutes(1));
        let appended = append(
            &store,
            &[(0, START + minute * MINUTE, minute as f64)],
            Durability::Interval,
        );
        assert_eq!(appended.expect("in memory").accepted, 1, "minute {minute}");
    }
    assert_eq!(count(&read_all(&store)), 90, "what lay ahead is forgotten");
}

#[test]
fn a_folder_belongs_to_one_store_at_a_time() {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let store = open(config(dir.path()), &clock);
    let second = Store::open(config(dir.path()), Arc::new(clock.clone()), &|_| {});
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    let selection = store.select(&[], TimeRange::ALL).expect("in memory");
    drop(store);
    open(config(dir.path()), &clock);
    assert!(
        selection.read(0..1, TimeRange::ALL, &mut |_, _| Ok(())).is_err(),
        "its store is gone"
    );
}

#[test]
fn label_names_and_values_come_from_head_and_blocks() {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let store = open(config(dir.path()), &clock);
    append(&store, &[(0, START, 1.0)], Durability::Interval).expect("a whole disk");
    for minute in 1..300 {
        clock.advance(minutes(1));
        append(&store, &[(8, START + minute * MINUTE, 1.0)], Durability::Interval).expect("a whole disk");
    }
    store.maintain(clock.now()).expect("a whole disk");
    let values = |matchers: &[Matcher], range| {
        store
            .label_values("host", matchers, range)
            .expect("nothing is damaged")
    };
    assert_eq!(values(&[], TimeRange::ALL), ["host-0", "host-1"]);
    let recent = TimeRange::new(clock.now() - minutes(5), clock.now());
    assert_eq!(values(&[], recent), ["host-1"]);
    let matcher = Matcher::new("__name__", MatcherOp::Matches, "metric_0.*").expect("valid");
    assert_eq!(values(std::slice::from_ref(&matcher), TimeRange::ALL), ["host-0"]);
    assert_eq!(
        store
            .label_names(&[], TimeRange::ALL)
            .expect("nothing is damaged"),
        ["__name__", "host"]
    );
    assert_eq!(
        store
            .label_names(&[matcher], TimeRange::ALL)
            .expect("nothing is damaged"),
        ["__name__", "host"]
    );
}

#[test]
fn retention_deletes_whole_blocks_by_age_and_by_size() {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let mut short = config(dir.path());
    short.retention = Duration::from_secs(6 * 3600);
    let store = open(short.clone(), &clock);
    for minute in 0..24 * 60 {
        append(&store, &[(0, now(&clock), minute as f64)], Durability::Interval).expect("a whole disk");
        clock.advance(minutes(1));
        if minute % 10 == 0 {
            store.maintain(clock.now()).expect("a whole disk");
        }
    }
    let stats = store.stats();
    let oldest = stats.oldest.expect("there are samples").millis();
    assert!(stats.blocks_cut >= 10 && stats.blocks_deleted >= 5, "{stats:?}");
    assert!(oldest < now(&clock) - 6 * HOUR && oldest >= now(&clock) - 12 * HOUR);
    assert_eq!(
        read_all(&store)[&series(0)].len() as i64,
        (now(&clock) - oldest) / MINUTE,
        "no gap in what is left"
    );
    assert!(
        stats.wal_segments <= 3,
        "the log is kept short: {}",
        stats.wal_segments
    );
    drop(store);
    let names = std::fs::read_dir(dir.path().join("blocks"))
        .expect("a folder")
        .count();
    assert_eq!(names, stats.blocks, "nothing is left of deleted blocks");
    let store = open(short, &clock);
    assert_eq!(
        read_all(&store)[&series(0)].len() as i64,
        (now(&clock) - oldest) / MINUTE
    );
}

#[test]
fn a_store_that_was_shut_down_takes_nothing_and_reads_on() {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let mut durable = config(dir.path());
    durable.sync = marketprism_storage::SyncMode::INTERVAL_DEFAULT;
    let store = open(durable, &clock);
    append(&store, &[(0, START, 1.0)], Durability::Synced).expect("a whole disk");
    store.shutdown().expect("a whole disk");
    assert!(matches!(
        append(&store, &[(0, START + 1, 1.0)], Durability::Interval),
        Err(AppendError::Unavailable { state: "stopping" })
    ));
    assert_eq!(count(&read_all(&store)), 1);
}

#[test]
fn choices_that_nobody_asks_for_are_forgotten_after_two_cuts() {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let store = open(config(dir.path()), &clock);
    let recent =
        |clock: &marketprism_testkit::ManualClock| TimeRange::new(clock.now() - minutes(5), clock.now());
    let matchers = |name| [Matcher::equal("__name__", name)];
    let mut kept = Vec::new();
    for minute in 0..9 * 60 {
        append(&store, &[(0, now(&clock), minute as f64)], Durability::Interval).expect("a whole disk");
        store
            .select(&matchers("metric_0"), recent(&clock))
            .expect("in memory");
        if minute == 0 {
            store
                .select(&matchers("asked_once"), recent(&clock))
                .expect("in memory");
        }
        let done = store.maintain(clock.now()).expect("a whole disk");
        if done.blocks_cut > 0 {
            kept.push(store.stats().selections);
        }
        clock.advance(minutes(1));
    }
    assert_eq!(kept, [2, 1, 1], "the first cut only notes what is used");
}

/// After ninety minutes the clock goes back by an hour, and on at moments that lie `shift` after those of before.
fn check_set_back(shift: i64) {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let mut store = open(config(dir.path()), &clock);
    let mut expected = std::collections::BTreeMap::new();
    let mut silent = std::collections::BTreeMap::new();
    let mut distributed = std::collections::BTreeMap::new();
    for _ in 0..90 {
        // The second series will be silent from the step on, and must not come back either.
        let samples = [(0, now(&clock), 1.0), (1, now(&clock), 1.0)];
        append(&store, &samples, Durability::Interval).expect("a whole disk");
        append_histograms(&store, &[(2, now(&clock), 1)], Durability::Interval).expect("a whole disk");
        if now(&clock) < START + 30 * MINUTE + shift {
            expected.insert(now(&clock), 1f64.to_bits());
            silent.insert(now(&clock), 1f64.to_bits());
            distributed.insert(now(&clock), histogram_bits(1));
        }
        clock.advance(minutes(1));
    }
    clock.jump_to(Timestamp::from_millis(START + 30 * MINUTE + shift));
    // Nobody knows of a series whether it goes on, until it does.
    for contents in [&mut expected, &mut silent, &mut distributed] {
        contents.insert(now(&clock) - 1, STALE_NAN_BITS);
    }
    for minute in 0..40 {
        if minute == 20 {
            drop(store);
            store = open(config(dir.path()), &clock);
        }
        let appended = append(&store, &[(0, now(&clock), 2.0)], Durability::Interval).expect("a whole disk");
        assert_eq!((appended.accepted, appended.refused()), (1, 0), "minute {minute}");
        expected.insert(now(&clock), 2f64.to_bits());
        let appended = append_histograms(&store, &[(2, now(&clock), 2)], Durability::Interval);
        assert_eq!(appended.expect("a whole disk").accepted, 1, "minute {minute}");
        distributed.insert(now(&clock), histogram_bits(2));
        clock.advance(minutes(1));
    }
    let contents = read_all(&store);
    assert_eq!(contents[&series(0)], expected, "shifted by {shift} ms");
    assert_eq!(contents[&series(1)], silent, "shifted by {shift} ms");
    assert_eq!(contents[&series(2)], distributed, "shifted by {shift} ms");
}

#[test]
fn a_clock_set_back_forgets_what_lies_ahead_of_it_so_that_old_values_do_not_stand_among_the_new() {
    check_set_back(0);
    check_set_back(7_000);
}

#[test]
fn a_sender_whose_clock_is_a_little_ahead_loses_nothing() {
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let store = open(config(dir.path()), &clock);
    append(&store, &[(0, START + 9 * MINUTE, 1.0)], Durability::Interval).expect("a whole disk");
    append(&store, &[(0, START + MINUTE, 2.0)], Durability::Interval).expect("a whole disk");
    assert_eq!(read_all(&store)[&series(0)].len(), 2);
}

/// A replica that steps down opens its store anew while its last readers still hold the old one.
#[test]
fn a_store_that_was_shut_down_may_be_opened_again_while_somebody_still_holds_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock: Arc<dyn Clock> = Arc::new(clock_at(1_700_000_000_000));
    let open = || Store::open(Config::new(folder.path()), Arc::clone(&clock), &|_| ());
    let held = open().expect("the folder is free");
    assert!(open().is_err(), "it is in use");
    held.shutdown().expect("a whole disk");
    open().expect("it is free again");
}

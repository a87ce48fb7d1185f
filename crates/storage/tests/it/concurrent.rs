//! Readers, writers and maintenance at the same time.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use marketprism_model::sample::Durability;
use marketprism_model::{Clock, SeriesSource, TimeRange, Timestamp};

use crate::harness::*;

#[test]
fn readers_miss_nothing_while_blocks_are_cut_and_late_samples_come() {
    const MINUTES: i64 = 30 * 60;
    const SERIES: usize = 5;
    let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
    let mut wide = config(dir.path());
    wide.out_of_order_window = std::time::Duration::from_secs(12 * 3600);
    let store = open(wide.clone(), &clock);
    // How many minutes are acknowledged; a late sample comes for every minute, four hours later.
    let (acknowledged, is_done) = (AtomicI64::new(0), AtomicBool::new(false));
    let late_of = |minute: i64| (minute >= 240).then(|| START + (minute - 240) * MINUTE + 500);
    let expected = |minutes: i64| minutes * SERIES as i64 + (minutes - 240).max(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for minute in 0..MINUTES {
                let time = START + minute * MINUTE;
                clock.jump_to(Timestamp::from_millis(time));
                let mut samples: Vec<_> = (0..SERIES).map(|n| (n, time, minute as f64)).collect();
                samples.extend(late_of(minute).map(|time| (0, time, 0.5)));
                let appended = append(&store, &samples, Durability::Interval).expect("a whole disk");
                assert_eq!(appended.accepted, samples.len());
                acknowledged.store(minute + 1, Ordering::SeqCst);
            }
            is_done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                store.maintain(clock.now()).expect("a whole disk");
                std::thread::yield_now();
            }
        });
        scope.spawn(|| {
            let mut readings = 0;
            let old = store.select(&[], TimeRange::ALL).expect("nothing is damaged");
            while !is_done.load(Ordering::SeqCst) {
                let before = acknowledged.load(Ordering::SeqCst);
                let found = count(&read_all(&store)) as i64;
                assert!(
                    found >= expected(before),
                    "{found} samples of {}",
                    expected(before)
                );
                old.read(0..old.labels().len(), TimeRange::ALL, &mut |_, samples| {
                    assert!(samples.timestamps.is_sorted_by(|a, b| a < b));
                    assert!(samples.timestamps.len() as i64 >= before);
                    Ok(())
                })
                .expect("nothing is damaged");
                readings += 1;
            }
            assert!(readings > 0);
        });
    });
    store.maintain(clock.now()).expect("a whole disk");
    let stats = store.stats();
    assert!(stats.blocks_cut > 10, "{stats:?}");
    let whole = read_all(&store);
    assert_eq!(count(&whole) as i64, expected(MINUTES));
    drop(store);
    assert_eq!(read_all(&open(wide, &clock)), whole);
}

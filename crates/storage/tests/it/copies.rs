//! Copies of a running folder: tar at any moment, and what stays on the disk for its sake.
//!
//! The writer's history is a function of the step, so whoever opens a copy can tell lost from kept and real from
//! invented. Its clock is turned by hand: hours pass, blocks are cut and deleted, while one tar reads.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use marketprism_model::sample::{AppendError, Durability};
use marketprism_model::{Chance, Clock, RefSample, SampleSink, Timestamp};
use marketprism_storage::{Config, Store};
use marketprism_testkit::{ManualClock, SeededChance, is_true_within};

use crate::failing_disk::{FailingDisk, Fault};
use crate::harness::*;

const SERIES: usize = 50;
const RETENTION_MINUTES: i64 = 12 * 60;
/// No tar lasts longer by the writer's clock.
const GRACE_MINUTES: i64 = 7 * 60;
const PATIENCE: Duration = Duration::from_secs(120);

fn copied_config(dir: &Path) -> Config {
    let mut config = config(dir);
    config.retention = Duration::from_secs(RETENTION_MINUTES as u64 * 60);
    config.out_of_order_window = Duration::from_secs(6 * 3600);
    config.copy_grace = Duration::from_secs(GRACE_MINUTES as u64 * 60);
    config
}

/// A minute's scrape of values in which every bit is noise, so that the folder is larger than a pipe, and late ones.
fn samples_at(step: i64) -> Vec<(usize, i64, f64)> {
    let time = START + step * MINUTE;
    let chance = SeededChance::new(step as u64);
    let mut samples: Vec<_> = (0..SERIES).map(|n| (n, time, chance.next_unit_f64())).collect();
    samples.push((SERIES, time - 20 * MINUTE + 1_000 * (step % 2), step as f64));
    if step % 5 == 0 {
        samples.push((0, time - 30 * MINUTE + 500, 0.5));
        samples.push((1, time - 4 * HOUR + 250, 0.25));
    }
    samples
}

fn contents_of(steps: impl Iterator<Item = i64>) -> Contents {
    let mut numbered = vec![BTreeMap::new(); SERIES + 1];
    for (number, time, value) in steps.flat_map(samples_at) {
        numbered[number].insert(time, value.to_bits());
    }
    let labelled = (0..).map(series).zip(numbered);
    labelled.filter(|(_, samples)| !samples.is_empty()).collect()
}

#[derive(Default)]
struct Progress {
    tried: AtomicI64,
    acknowledged: AtomicI64,
    cuts: AtomicU64,
    deleted: AtomicU64,
    /// The writer waits behind this step.
    limit: AtomicI64,
    is_over: AtomicBool,
}

fn write(store: &Store, clock: &ManualClock, progress: &Progress) {
    let labels: Vec<_> = (0..=SERIES).map(series).collect();
    let name = |number: usize| store.resolve(&labels[number]).expect("room");
    let mut step = 0;
    while !progress.is_over.load(SeqCst) {
        if step > progress.limit.load(SeqCst) {
            std::thread::yield_now();
            continue;
        }
        clock.advance(minutes(1));
        progress.tried.store(step, SeqCst);
        let batch: Vec<_> = samples_at(step)
            .into_iter()
            .map(|(number, time, value)| RefSample {
                series: name(number),
                timestamp: Timestamp::from_millis(time),
                value,
            })
            .collect();
        let appended = store.append(&batch, Durability::Interval).expect("a whole disk");
        assert_eq!(appended.refused(), 0, "step {step}: {appended:?}");
        progress.acknowledged.store(step, SeqCst);
        if step % 10 == 9 {
            store.maintain(clock.now()).expect("a whole disk");
            let stats = store.stats();
            progress.cuts.store(stats.blocks_cut, SeqCst);
            progress.deleted.store(stats.blocks_deleted, SeqCst);
        }
        step += 1;
    }
}

/// Lets tar read `folder`, stopping it where the seed says until a block was cut; or lets it run, packing.
fn tar(folder: &Path, archive: &Path, chance: &SeededChance, progress: &Progress) {
    let whole: &[&str] = &["data"];
    let parts =
        [whole, &["data/blocks", "data/wal"], &["data/wal", "data/blocks"]][(chance.next_u64() % 3) as usize];
    let is_free = chance.next_u64().is_multiple_of(4);
    let mut command = Command::new("tar");
    command.arg("-C").arg(folder).stderr(Stdio::piped());
    let output = if is_free {
        command.arg("-czf").arg(archive).args(parts).output()
    } else {
        command.args(["-cf", "-"]).args(parts).stdout(Stdio::piped());
        let mut child = command.spawn().expect("tar is installed");
        let mut pipe = child.stdout.take().expect("piped");
        let mut out = std::fs::File::create(archive).expect("a file of the test");
        let mut buffer = vec![0; 32 << 10];
        loop {
            let taken = pipe.read(&mut buffer).expect("tar writes");
            if taken == 0 {
                break;
            }
            out.write_all(&buffer[..taken]).expect("room");
            if chance.next_u64().is_multiple_of(6) {
                let seen = progress.cuts.load(SeqCst);
                let is_past = || progress.acknowledged.load(SeqCst) >= progress.limit.load(SeqCst);
                assert!(is_true_within(PATIENCE, || progress.cuts.load(SeqCst) > seen || is_past()));
            }
        }
        child.wait_with_output()
    };
    let output = output.expect("tar ends");
    let words = String::from_utf8_lossy(&output.stderr);
    // 1: a file changed or went away while it was read, as they do here.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{parts:?}: {words}");
}

fn check_restored(archive: &Path, clock: &ManualClock, kept: &Contents, given: &Contents, what: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(archive).arg("-C").arg(dir.path());
    let status = unpack.status().expect("tar is installed");
    assert!(status.success(), "{what}: tar -x");
    let data = dir.path().join("data");
    let mut before = None;
    for _ in 0..2 {
        let store = open(copied_config(&data), clock);
        let (found, stats) = (read_all(&store), store.stats());
        let (lost, first) = some_missing(kept, &found);
        assert_eq!(lost, 0, "{what}: older than the copy and lost: {first:?}");
        let (invented, first) = some_missing(&found, given);
        assert_eq!(invented, 0, "{what}: invented: {first:?}");
        assert_eq!(stats.replay.lost, [], "{what}");
        assert_eq!(stats.damaged_blocks, [], "{what}");
        assert!(
            before.as_ref().is_none_or(|before| *before == found),
            "{what}: opened again"
        );
        before = Some(found);
    }
    for folder in ["wal", "blocks"] {
        for entry in std::fs::read_dir(data.join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_string_lossy();
            let is_plain = name.ends_with(".wal") || !name.contains('.');
            assert!(is_plain, "{what}: {name} is left");
        }
    }
}

#[test]
fn a_tar_of_the_running_folder_restores_everything_older_than_its_beginning() {
    let rounds = 30 * u64::from(scale());
    let home = tempfile::tempdir().expect("a folder");
    let clock = clock_at(START - MINUTE);
    let store = open(copied_config(&home.path().join("data")), &clock);
    let progress = Progress::default();
    let (mut with_cuts, mut with_deletions) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| write(&store, &clock, &progress));
        // Whatever fails, the writer ends, and the failure is told.
        let _over = Over(&progress);
        for seed in 0..rounds {
            let chance = SeededChance::new(seed);
            let start = progress.limit.load(SeqCst) + 20 + (chance.next_u64() % 200) as i64;
            progress.limit.store(start + GRACE_MINUTES - 30, SeqCst);
            let is_there = || progress.acknowledged.load(SeqCst) >= start;
            while !is_there() {
                assert!(is_true_within(PATIENCE, is_there));
            }
            let began = progress.acknowledged.load(SeqCst);
            progress.limit.store(began + GRACE_MINUTES - 30, SeqCst);
            let (cuts, deleted) = (progress.cuts.load(SeqCst), progress.deleted.load(SeqCst));
            let archive = home.path().join("copy.tar");
            tar(home.path(), &archive, &chance, &progress);
            let tried = progress.tried.load(SeqCst) + 1;
            with_cuts += u64::from(progress.cuts.load(SeqCst) > cuts);
            with_deletions += u64::from(progress.deleted.load(SeqCst) > deleted);
            progress.limit.store(tried, SeqCst);
            // What retention may have deleted meanwhile is not asked for.
            let oldest = (tried - RETENTION_MINUTES).max(0);
            let mut kept = contents_of(oldest..=began);
            for samples in kept.values_mut() {
                samples.retain(|time, _| *time >= START + oldest * MINUTE);
            }
            kept.retain(|_, samples| !samples.is_empty());
            let given = contents_of((oldest - 2 * RETENTION_MINUTES).max(0)..=tried);
            check_restored(&archive, &clock, &kept, &given, &format!("seed {seed}"));
        }
    });
    assert!(
        with_cuts * 2 >= rounds && with_deletions * 3 >= rounds,
        "of {rounds} copies, blocks were cut during {with_cuts} and deleted during {with_deletions}"
    );
}

struct Over<'a>(&'a Progress);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, SeqCst);
    }
}

/// A store with a sample a minute, one block of two hours, and 310 minutes in all. The next maintenance cuts a
/// second block; then the first segment, which ends at minute 189, is not needed any more.
fn before_a_cut(config: Config, disk: &FailingDisk) -> (Store, ManualClock) {
    let clock = clock_at(START);
    let files = Arc::new(disk.clone());
    let store = Store::open_on(files, config, Arc::new(clock.clone()), &|_| {}).expect("the store opens");
    let run = |count| {
        for _ in 0..count {
            append(&store, &[(0, now(&clock), 1.5)], Durability::Interval).expect("a whole disk");
            clock.advance(minutes(1));
        }
    };
    run(190);
    assert_eq!(store.maintain(clock.now()).expect("a whole disk").blocks_cut, 1);
    run(120);
    assert_eq!((store.stats().kept_files, store.stats().kept_bytes), (0, 0));
    (store, clock)
}

fn copy_parts(from: &Path, to: &Path, parts: [&str; 2], between: impl FnOnce()) {
    copy_dir(&from.join(parts[0]), &to.join(parts[0]));
    between();
    copy_dir(&from.join(parts[1]), &to.join(parts[1]));
}

#[test]
fn what_stays_for_copies_is_what_keeps_one_around_a_cut_whole() {
    for (grace, parts, lost) in [
        (Duration::from_secs(900), ["blocks", "wal"], 0),
        (Duration::from_secs(900), ["wal", "blocks"], 0),
        (Duration::ZERO, ["wal", "blocks"], 0),
        // What stood in the first segment only: minutes 120 to 189.
        (Duration::ZERO, ["blocks", "wal"], 70),
    ] {
        let (dir, copy) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        let mut config = config(dir.path());
        config.copy_grace = grace;
        let (store, clock) = before_a_cut(config.clone(), &FailingDisk::default());
        let whole = read_all(&store);
        copy_parts(dir.path(), copy.path(), parts, || {
            assert_eq!(store.maintain(clock.now()).expect("a whole disk").blocks_cut, 1);
        });
        config.dir = copy.path().to_owned();
        let found = read_all(&open(config, &clock));
        assert_eq!(missing(&whole, &found).len(), lost, "{grace:?}, {parts:?}");
        assert_eq!(missing(&found, &whole), [], "{grace:?}, {parts:?}");
    }
}

#[test]
fn what_stays_for_copies_goes_by_age_and_after_a_restart_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, clock) = before_a_cut(config(dir.path()), &FailingDisk::default());
    let whole = read_all(&store);
    let deleted = |store: &Store| {
        let done = store.maintain(clock.now()).expect("a whole disk");
        (done.segments_deleted, store.stats().kept_files)
    };
    assert_eq!(deleted(&store), (0, 1));
    clock.advance(minutes(10));
    assert_eq!(deleted(&store), (0, 1));
    drop(store);
    let store = open(config(dir.path()), &clock);
    let stats = store.stats();
    let kept_bytes = stats.kept_bytes;
    assert!(stats.kept_files == 1 && kept_bytes > 0, "{stats:?}");
    assert_eq!(stats.replay.in_blocks, 240, "minutes 0 to 239");
    assert_eq!(read_all(&store), whole);
    clock.advance(minutes(14));
    assert_eq!(deleted(&store), (0, 1), "the time began anew");
    clock.advance(minutes(1));
    assert_eq!(deleted(&store), (1, 0));
    assert_eq!(store.stats().kept_bytes, kept_bytes, "deleted, and held open");
    clock.advance(minutes(15));
    assert_eq!(deleted(&store), (0, 0));
    assert_eq!(store.stats().kept_bytes, 0);
    assert_eq!(read_all(&store), whole);
    drop(store);
    assert_eq!(read_all(&open(config(dir.path()), &clock)), whole);
}

#[test]
fn a_store_that_was_shut_down_cuts_and_deletes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, clock) = before_a_cut(config(dir.path()), &FailingDisk::default());
    store.shutdown().expect("a whole disk");
    let done = store.maintain(clock.now()).expect("nothing is tried");
    assert_eq!(done, marketprism_storage::Maintained::default());
    assert_eq!(store.stats().blocks, 1);
}

#[test]
fn what_stays_for_copies_takes_no_more_bytes_than_it_may() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = config(dir.path());
    config.copy_grace = Duration::from_secs(24 * 3600);
    config.retention = Duration::from_secs(3 * 3600);
    config.copy_grace_bytes = 6_000;
    let (store, clock) = before_a_cut(config, &FailingDisk::default());
    let (mut most, mut deleted) = (0, 0);
    for minute in 0..24 * 60 {
        append(&store, &[(0, now(&clock), minute as f64)], Durability::Interval).expect("a whole disk");
        clock.advance(minutes(1));
        if minute % 10 == 9 {
            deleted += store
                .maintain(clock.now())
                .expect("a whole disk")
                .segments_deleted;
            let stats = store.stats();
            most = most.max(stats.kept_bytes);
            assert!(stats.kept_bytes <= 6_000, "{stats:?}");
        }
    }
    assert!(
        most > 3_000 && deleted > 3,
        "{most} bytes at most, {deleted} deleted"
    );
}

#[test]
fn a_full_disk_takes_back_what_stays_for_copies() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = FailingDisk::default();
    let (store, clock) = before_a_cut(config(dir.path()), &disk);
    store.maintain(clock.now()).expect("a whole disk");
    let contents = read_all(&store);
    assert_eq!(store.stats().kept_files, 1);
    disk.arm(Fault::Full, 0, 1);
    let refused = append(&store, &[(0, now(&clock), 7.0)], Durability::Interval);
    assert!(matches!(refused, Err(AppendError::Log { .. })));
    assert_eq!(
        store.stats().kept_files,
        0,
        "they are gone with the first failure"
    );
    append(&store, &[(0, now(&clock), 7.0)], Durability::Interval).expect("there is room again");
    drop(store);
    let found = read_all(&open(config(dir.path()), &clock));
    assert_eq!(missing(&contents, &found), []);
    assert_eq!(count(&found), count(&contents) + 1);
}

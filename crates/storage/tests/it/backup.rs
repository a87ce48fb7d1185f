//! Backups of a running store, and checks of what they wrote.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use marketprism_model::sample::Durability;
use marketprism_model::{Chance, Clock};
use marketprism_storage::{BackupError, BackupReport, Store, backup, verify};
use marketprism_testkit::{ManualClock, SeededChance};

use crate::harness::*;

const SERIES: usize = 5;

fn write_below(to: &Path) -> impl FnMut(&Path, &mut dyn Read, u64) -> std::io::Result<()> + '_ {
    |file, bytes, length| {
        let path = to.join(file);
        std::fs::create_dir_all(path.parent().expect("below the folder"))?;
        let copied = std::io::copy(bytes, &mut std::fs::File::create_new(path)?)?;
        assert_eq!(copied, length, "{}", file.display());
        Ok(())
    }
}

fn back_up(from: &Path, to: &Path) -> BackupReport {
    backup(from, &mut write_below(to), &|_| {}).expect("a whole disk")
}

/// A minute's scrape, now and then with a sample that is late by up to six hours.
fn step(store: &Store, clock: &ManualClock, chance: &SeededChance, given: &mut Contents) {
    clock.advance(minutes(1));
    let mut samples: Vec<_> = (0..SERIES)
        .map(|n| (n, now(clock), chance.next_unit_f64()))
        .collect();
    if chance.next_u64().is_multiple_of(20) {
        let late = (chance.next_u64() % (5 * HOUR) as u64) as i64;
        samples.push((SERIES, now(clock) - late, 0.5));
    }
    let appended = append(store, &samples, Durability::Interval).expect("a whole disk");
    // The late one may hit a moment twice.
    assert!(appended.accepted >= SERIES);
    for (number, time, value) in samples {
        let moments = given.entry(series(number)).or_default();
        moments.entry(time).or_insert(value.to_bits());
    }
}

#[test]
fn a_backup_holds_everything_older_than_itself_whatever_is_cut_and_deleted_while_it_runs() {
    let (mut cuts_during, mut expired) = (0, 0);
    for seed in 0..10 * u64::from(scale()) {
        let chance = SeededChance::new(seed);
        let (dir, copy) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        let mut config = config(dir.path());
        config.out_of_order_window = Duration::from_secs(6 * 3600);
        config.retention = Duration::from_secs(8 * 3600);
        // Nothing stays for its sake: the order of the passes alone must do.
        config.copy_grace = Duration::ZERO;
        let clock = clock_at(START);
        let store = open(config.clone(), &clock);
        let mut given = Contents::new();
        let run = |count: u64, given: &mut Contents| {
            for _ in 0..count {
                step(&store, &clock, &chance, given);
            }
            store.maintain(clock.now()).expect("a whole disk").blocks_cut
        };
        for _ in 0..10 {
            run(60 + chance.next_u64() % 30, &mut given);
        }
        let before = given.clone();
        let mut into = write_below(copy.path());
        let report = backup(
            dir.path(),
            &mut |file, bytes, length| {
                if chance.next_u64().is_multiple_of(6) {
                    cuts_during += run(1 + chance.next_u64() % 150, &mut given);
                }
                into(file, bytes, length)
            },
            &|_| {},
        )
        .expect("a whole disk");
        expired += report.expired;
        assert_eq!(report.faults, [], "seed {seed}");
        let verified = verify(copy.path(), &|_| {}).expect("a whole disk");
        assert_eq!((verified.faults, verified.torn_bytes), (vec![], 0), "seed {seed}");
        assert_eq!(
            (verified.segments, verified.blocks),
            (report.segments, report.blocks)
        );
        assert_eq!(verified.bytes, report.bytes, "seed {seed}");
        config.dir = copy.path().to_owned();
        let oldest = now(&clock) - 8 * HOUR;
        let restored = open(config, &clock);
        let found = read_all(&restored);
        let mut lost = missing(&before, &found);
        lost.retain(|(_, time)| *time >= oldest);
        assert_eq!(lost.len(), 0, "seed {seed}: {:?}", lost.first());
        assert_eq!(some_missing(&found, &given), (0, vec![]), "seed {seed}: invented");
        let stats = restored.stats();
        assert_eq!(
            (stats.replay.lost, stats.replay.torn_bytes),
            (vec![], 0),
            "seed {seed}"
        );
        assert_eq!(stats.damaged_blocks, [], "seed {seed}");
    }
    assert!(
        cuts_during > 10 && expired > 0,
        "{cuts_during} blocks were cut meanwhile, {expired} expired"
    );
}

/// A small store, closed: a block in which samples are columns and packed, and a log.
fn small(dir: &Path) -> Contents {
    let clock = clock_at(START);
    let store = open(config(dir), &clock);
    for step in 0..500i64 {
        clock.jump_to(marketprism_model::Timestamp::from_millis(START + step * 27_000));
        let mut samples = vec![(0, now(&clock), (step % 7) as f64), (1, now(&clock), 2.0)];
        if step % 50 == 0 {
            samples.push((2, now(&clock) + 1, step as f64));
        }
        append(&store, &samples, Durability::Interval).expect("a whole disk");
    }
    store.maintain(clock.now()).expect("a whole disk");
    append(&store, &[(0, now(&clock) + 2, 1.0)], Durability::Interval).expect("a whole disk");
    assert_eq!(store.stats().blocks, 1);
    read_all(&store)
}

fn files_below(dir: &Path, part: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir.join(part)).expect("a folder of the test") {
        let own = part.join(entry.expect("an entry").file_name());
        if dir.join(&own).is_dir() {
            files_below(dir, &own, found);
        } else {
            found.insert(
                own.clone(),
                std::fs::read(dir.join(own)).expect("a file of the test"),
            );
        }
    }
}

#[test]
fn a_backup_is_an_exact_copy_without_the_lock_and_tells_how_far_it_is() {
    let (dir, copy) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let whole = small(dir.path());
    let told = RefCell::new(Vec::new());
    let report = backup(dir.path(), &mut write_below(copy.path()), &|progress| {
        told.borrow_mut().push(progress);
    })
    .expect("a whole disk");
    let (mut original, mut copied) = (BTreeMap::new(), BTreeMap::new());
    files_below(dir.path(), Path::new(""), &mut original);
    files_below(copy.path(), Path::new(""), &mut copied);
    assert!(original.remove(Path::new("lock")).is_some());
    assert_eq!(original, copied);
    let bytes: usize = copied.values().map(Vec::len).sum();
    assert_eq!((report.files, report.bytes), (copied.len() as u64, bytes as u64));
    assert_eq!(report.blocks, 1);
    let told = told.into_inner();
    assert!(told.is_sorted_by_key(|progress| progress.bytes));
    let (first, last) = (told[0], told[told.len() - 1]);
    assert_eq!((first.bytes, first.bytes_total), (0, bytes as u64));
    assert_eq!((last.bytes, last.bytes_total), (bytes as u64, bytes as u64));
    let verified = verify(copy.path(), &|_| {}).expect("a whole disk");
    assert_eq!(verified.faults, []);
    let clock = clock_at(START + 4 * HOUR);
    let store = open(config(copy.path()), &clock);
    assert_eq!(read_all(&store), whole);
    let stats = store.stats();
    assert_eq!(verified.block_samples, stats.block_samples);
    assert_eq!(verified.segment_samples, stats.replay.samples);
}

#[test]
fn a_check_finds_any_flipped_byte_and_any_file_cut_off() {
    let dir = tempfile::tempdir().expect("a folder");
    small(dir.path());
    let (mut files, mut checks) = (BTreeMap::new(), 0);
    files_below(dir.path(), Path::new(""), &mut files);
    files.remove(Path::new("lock"));
    for (file, bytes) in &files {
        let path = dir.path().join(file);
        let mut check = |changed: &[u8], what: &str| {
            std::fs::write(&path, changed).expect("a file of the test");
            let report = verify(dir.path(), &|_| {}).expect("a whole disk");
            let is_torn = report.torn_bytes > 0 && file.starts_with("wal");
            let is_named = report.faults.iter().any(|fault| fault.file == *file);
            assert!(is_torn || is_named, "{} {what}: {report:?}", file.display());
            checks += 1;
        };
        for at in (0..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[at] ^= if at % 2 == 0 { 0x01 } else { 0xff };
            check(&flipped, &format!("byte {at}"));
        }
        if file.starts_with("blocks") {
            check(&bytes[..bytes.len() / 2], "cut off");
        }
        std::fs::write(&path, bytes).expect("a file of the test");
    }
    assert!(checks > 200, "{checks}");
    let gone = files
        .keys()
        .find(|file| file.ends_with("index"))
        .expect("a block");
    std::fs::remove_file(dir.path().join(gone)).expect("a file of the test");
    let report = verify(dir.path(), &|_| {}).expect("a whole disk");
    assert_eq!(report.faults.len(), 1);
    assert_eq!(report.faults[0].file, *gone);
}

#[test]
fn a_backup_of_a_damaged_store_names_the_damage_and_keeps_what_is_there() {
    let dir = tempfile::tempdir().expect("a folder");
    small(dir.path());
    let mut files = BTreeMap::new();
    files_below(dir.path(), Path::new(""), &mut files);
    files.remove(Path::new("lock"));
    for (file, bytes) in &files {
        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        std::fs::write(dir.path().join(file), &damaged).expect("a file of the test");
        let copy = tempfile::tempdir().expect("a folder");
        let report = back_up(dir.path(), copy.path());
        let named: Vec<_> = report.faults.iter().map(|fault| &fault.file).collect();
        assert_eq!(named, [file], "{report:?}");
        let copied = std::fs::read(copy.path().join(file)).expect("copied as it is");
        assert_eq!(copied, damaged, "{}", file.display());
        std::fs::write(dir.path().join(file), bytes).expect("a file of the test");
    }
}

#[test]
fn what_is_no_store_or_cannot_be_written_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let refused = verify(dir.path(), &|_| {});
    assert!(matches!(refused, Err(BackupError::NotAStore(_))), "{refused:?}");
    small(dir.path());
    let full = backup(
        dir.path(),
        &mut |_, _, _| Err(std::io::ErrorKind::StorageFull.into()),
        &|_| {},
    );
    assert!(matches!(full, Err(BackupError::Write { .. })), "{full:?}");
    let lazy = backup(dir.path(), &mut |_, _, _| Ok(()), &|_| {});
    let Err(error) = lazy else {
        panic!("a writer that takes nothing must not look like a backup");
    };
    assert!(error.to_string().contains("were not taken"), "{error}");
}

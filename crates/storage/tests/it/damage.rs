//! A small store, with every byte of every file cut off or flipped.

use std::path::{Path, PathBuf};

use marketprism_model::sample::{Durability, STALE_NAN_BITS};
use marketprism_model::series::ReadError;
use marketprism_model::{Clock, SeriesSource};

use crate::harness::*;

/// A store whose samples are all in the log: three series, twelve appends, two of them late.
fn small_log(dir: &Path) -> Contents {
    let clock = clock_at(START);
    let store = open(config(dir), &clock);
    for step in 0..10i64 {
        clock.advance(minutes(1));
        let time = now(&clock);
        let value = |n: i64| {
            if step == 5 {
                f64::from_bits(STALE_NAN_BITS)
            } else {
                (step * n) as f64 / 3.0
            }
        };
        append(
            &store,
            &[
                (0, time, value(1)),
                (1, time, value(2)),
                (8, time + n_jitter(step), 5.0),
            ],
            Durability::Interval,
        )
        .expect("a whole disk");
    }
    append(&store, &[(0, START - 30_000, 9.5)], Durability::Interval).expect("a whole disk");
    append(&store, &[(1, START - 30_000, 9.5)], Durability::Interval).expect("a whole disk");
    read_all(&store)
}

fn n_jitter(step: i64) -> i64 {
    step % 3
}

/// The same with histograms: two series, one of them also of numbers, twelve appends, of which the first has a histogram.
fn small_log_of_histograms(dir: &Path) -> Contents {
    let clock = clock_at(START);
    let store = open(config(dir), &clock);
    for step in 0..10i64 {
        clock.advance(minutes(1));
        let time = now(&clock);
        if step % 5 == 4 {
            append(&store, &[(0, time, step as f64)], Durability::Interval).expect("a whole disk");
        } else {
            let histograms = [(0, time, step as u32 * 3), (8, time + n_jitter(step), 5)];
            append_histograms(&store, &histograms, Durability::Interval).expect("a whole disk");
        }
    }
    append_histograms(&store, &[(0, START - 30_000, 7)], Durability::Interval).expect("a whole disk");
    append(&store, &[(8, START - 30_000, 9.5)], Durability::Interval).expect("a whole disk");
    read_all(&store)
}

/// A store whose older samples are in one block: long series for shared columns, a short one for XOR.
fn small_block(dir: &Path) -> Contents {
    let clock = clock_at(START);
    let store = open(config(dir), &clock);
    for step in 0..500i64 {
        let time = START + step * 27_000;
        clock.jump_to(marketprism_model::Timestamp::from_millis(time));
        append(
            &store,
            &[(0, time, (step % 7) as f64), (1, time, 2.0)],
            Durability::Interval,
        )
        .expect("a whole disk");
        // Histograms that hardly change are short in the block, and many enough to share a column of times.
        let histograms = [(2, time, 200 + step as u32 / 100), (3, time + 2, step as u32)];
        let few = if step % 50 == 0 { 2 } else { 1 };
        append_histograms(&store, &histograms[..few], Durability::Interval).expect("a whole disk");
        if step % 50 == 0 {
            append(&store, &[(8, time + 1, step as f64)], Durability::Interval).expect("a whole disk");
        }
    }
    store.maintain(clock.now()).expect("a whole disk");
    assert_eq!(store.stats().blocks, 1);
    read_all(&store)
}

fn only_file(dir: &Path, end: &str) -> PathBuf {
    let entries = std::fs::read_dir(dir).expect("a folder of the test");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.to_string_lossy().ends_with(end));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Opens a damaged copy twice: nothing is invented, what is missing is reported, and the repair holds.
///
/// `is_clean`: the file ends with a whole record, as if nothing more had ever been written.
fn check_damaged_log(dir: &Path, name: &Path, bytes: &[u8], is_clean: bool, whole: &Contents, what: &str) {
    let copy = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(copy.path().join("wal")).expect("a folder");
    let segment = copy
        .path()
        .join(name.strip_prefix(dir).expect("below the folder"));
    std::fs::write(&segment, bytes).expect("a file of the test");
    let clock = clock_at(START + HOUR);
    let store = open(config(copy.path()), &clock);
    let found = read_all(&store);
    assert_eq!(missing(&found, whole), [], "{what}: samples were invented");
    let replay = store.stats().replay;
    if count(&found) < count(whole) && !is_clean {
        assert!(
            replay.torn_bytes > 0 || !replay.lost.is_empty(),
            "{what}: a loss was not reported"
        );
    }
    drop(store);
    let store = open(config(copy.path()), &clock);
    assert_eq!(
        read_all(&store),
        found,
        "{what}: the second opening finds other samples"
    );
    let replay = store.stats().replay;
    assert_eq!(
        (replay.torn_bytes, replay.lost),
        (0, vec![]),
        "{what}: the repair did not hold"
    );
}

/// Makes a log: in a folder, with or without histograms.
type Maker = fn(&Path) -> Contents;

#[test]
fn a_log_cut_off_at_any_byte_loses_only_what_was_cut() {
    for (make, records) in [(small_log as Maker, 13), (small_log_of_histograms as Maker, 13)] {
        let dir = tempfile::tempdir().expect("a folder");
        let whole = make(dir.path());
        let segment = only_file(&dir.path().join("wal"), ".wal");
        let bytes = std::fs::read(&segment).expect("a file of the test");
        // Ends of records, by the drawing in docs/formats/wal.md: a header of 20 bytes, then type, length, checksum, payload.
        let mut ends = vec![0, 20];
        while let Some(end) = ends.last().copied().filter(|end| *end < bytes.len()) {
            let length: [u8; 4] = bytes[end + 1..][..4].try_into().expect("four bytes");
            ends.push(end + 9 + u32::from_le_bytes(length) as usize);
        }
        assert_eq!(
            (ends.last(), ends.len()),
            (Some(&bytes.len()), 2 + records),
            "twelve appends, one with definitions"
        );
        for length in 0..bytes.len() {
            check_damaged_log(
                dir.path(),
                &segment,
                &bytes[..length],
                ends.contains(&length),
                &whole,
                &format!("cut at {length}"),
            );
        }
    }
}

#[test]
fn a_log_with_any_byte_flipped_invents_nothing_and_reports_the_loss() {
    for make in [small_log as Maker, small_log_of_histograms as Maker] {
        let dir = tempfile::tempdir().expect("a folder");
        let whole = make(dir.path());
        let segment = only_file(&dir.path().join("wal"), ".wal");
        let bytes = std::fs::read(&segment).expect("a file of the test");
        for at in 0..bytes.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                check_damaged_log(
                    dir.path(),
                    &segment,
                    &damaged,
                    false,
                    &whole,
                    &format!("byte {at} ^ {mask:#x}"),
                );
            }
        }
    }
}

#[test]
fn a_damaged_segment_is_kept_aside_and_the_ones_behind_it_are_replayed() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut whole = small_log(dir.path());
    let segment = only_file(&dir.path().join("wal"), ".wal");
    let clock = clock_at(START + HOUR);
    let store = open(config(dir.path()), &clock);
    append(&store, &[(0, START + HOUR, 77.0)], Durability::Interval).expect("a whole disk");
    drop(store);
    let mut bytes = std::fs::read(&segment).expect("a file of the test");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&segment, &bytes).expect("a file of the test");
    let store = open(config(dir.path()), &clock);
    let (found, stats) = (read_all(&store), store.stats());
    let samples = whole.get_mut(&series(0)).expect("it has samples");
    samples.insert(START + HOUR, 77f64.to_bits());
    assert_eq!(missing(&found, &whole), []);
    assert_eq!(found[&series(0)][&(START + HOUR)], 77f64.to_bits());
    assert_eq!(stats.replay.lost.len(), 1);
    let lost = &stats.replay.lost[0];
    assert!(
        lost.offset <= middle as u64 && lost.bytes > 0 && lost.after.is_some(),
        "{lost:?}"
    );
    let aside = only_file(&dir.path().join("wal"), ".quarantined");
    assert_eq!(std::fs::read(aside).expect("a file of the test"), bytes);
}

/// Reads a store with a damaged block until it no longer complains; nothing may be invented.
fn check_damaged_block(dir: &Path, file: &Path, bytes: &[u8], whole: &Contents, what: &str) {
    let copy = tempfile::tempdir().expect("a folder");
    copy_dir(dir, copy.path());
    let target = copy
        .path()
        .join(file.strip_prefix(dir).expect("below the folder"));
    std::fs::write(&target, bytes).expect("a file of the test");
    let clock = clock_at(START + 5 * HOUR);
    let store = open(config(copy.path()), &clock);
    let found = match read(&store, &[], i64::MIN, i64::MAX) {
        Ok(found) => found,
        Err(ReadError::Corrupt { .. }) => {
            read(&store, &[], i64::MIN, i64::MAX).expect("left out from now on")
        }
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!(missing(&found, whole), [], "{what}: samples were invented");
    if count(&found) < count(whole) {
        assert_eq!(
            store.stats().damaged_blocks.len(),
            1,
            "{what}: a loss was not reported"
        );
    }
    let in_memory = whole[&series(0)].range(START + 2 * HOUR..).count();
    let still = found[&series(0)].range(START + 2 * HOUR..).count();
    assert_eq!(still, in_memory, "{what}: what is not in the block is untouched");
    append(&store, &[(0, START + 5 * HOUR, 1.0)], Durability::Interval).expect("a whole disk");
    assert!(
        store.label_names(&[], marketprism_model::TimeRange::ALL).is_ok(),
        "{what}"
    );
}

#[test]
fn a_block_with_any_byte_flipped_or_cut_off_invents_nothing_and_is_reported() {
    let dir = tempfile::tempdir().expect("a folder");
    let whole = small_block(dir.path());
    let blocks = dir.path().join("blocks");
    let block = std::fs::read_dir(&blocks)
        .expect("a folder")
        .next()
        .expect("a block")
        .expect("an entry")
        .path();
    for name in ["meta.json", "index", "chunks"] {
        let file = block.join(name);
        let bytes = std::fs::read(&file).expect("a file of the test");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= if at % 2 == 0 { 0x01 } else { 0xff };
            check_damaged_block(dir.path(), &file, &damaged, &whole, &format!("{name} byte {at}"));
        }
        for length in (0..bytes.len()).step_by(7) {
            check_damaged_block(
                dir.path(),
                &file,
                &bytes[..length],
                &whole,
                &format!("{name} cut at {length}"),
            );
        }
    }
}

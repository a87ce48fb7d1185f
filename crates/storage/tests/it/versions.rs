//! A folder in which a later version of the program has written: refused by name and number, and left as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use marketprism_model::Clock;
use marketprism_model::sample::Durability;
use marketprism_storage::{OpenError, Store};

use crate::harness::*;

/// A store with one block and a log.
fn fill(dir: &Path) -> PathBuf {
    let clock = clock_at(START);
    let store = open(config(dir), &clock);
    for _ in 0..4 * 60 {
        append(&store, &[(0, now(&clock), 1.0)], Durability::Interval).expect("a whole disk");
        clock.advance(minutes(1));
    }
    store.maintain(clock.now()).expect("a whole disk");
    append(&store, &[(0, now(&clock), 1.0)], Durability::Interval).expect("a whole disk");
    assert_eq!(store.stats().blocks, 1);
    let mut entries = std::fs::read_dir(dir.join("blocks")).expect("a folder");
    entries.next().expect("a block").expect("an entry").path()
}

fn bytes_below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a folder of the test") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(bytes_below(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).expect("a file of the test"));
        }
    }
    found
}

/// The folder is refused with a message that names the file, both versions and the way out, and is not touched.
fn check_refused(dir: &Path, file: &Path, version: u32) {
    let before = bytes_below(dir);
    let refused = Store::open(config(dir), Arc::new(clock_at(START + 5 * HOUR)), &|_| {});
    let Err(error @ OpenError::Version { .. }) = refused else {
        panic!(
            "{} of version {version}: {:?}",
            file.display(),
            refused.map(|store| store.stats().damaged_blocks)
        );
    };
    let text = error.to_string();
    for part in [
        file.to_str().expect("a name in letters"),
        &format!("format version {version}"),
        "reads up to 2",
        "restore the backup",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(
        bytes_below(dir),
        before,
        "{}: nothing was changed",
        file.display()
    );
}

#[test]
fn a_log_segment_of_a_later_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    fill(dir.path());
    // As docs/formats/wal.md draws it: name, version, number, checksum; what follows is unknown here.
    let mut bytes = b"MPWAL\0\0\x03".to_vec();
    bytes.extend_from_slice(&77u64.to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(b"another way to write records");
    let file = dir.path().join("wal/0000000077.wal");
    std::fs::write(&file, bytes).expect("a file of the test");
    check_refused(dir.path(), &file, 3);
}

#[test]
fn a_block_of_a_later_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = fill(dir.path()).join("meta.json");
    let text = std::fs::read_to_string(&file).expect("JSON");
    let renewed = r#"{"meta": {"version": 4, "something": "new"}, "crc32": 1}"#;
    // A later version seals other bytes, so its checksum is another one.
    let later = |version: &str| {
        text.replacen("\"version\": 1", version, 1)
            .replacen("\"crc32\": ", "\"crc32\": 1", 1)
    };
    let (grown, resealed) = (later("\"version\": 3, \"level\": 4"), later("\"version\": 3"));
    for (text, version) in [(renewed, 4), (grown.as_str(), 3), (resealed.as_str(), 3)] {
        std::fs::write(&file, text).expect("a file of the test");
        check_refused(dir.path(), &file, version);
    }
}

#[test]
fn a_damaged_version_number_is_damage_and_keeps_no_store_from_opening() {
    for other in [2, 3] {
        let dir = tempfile::tempdir().expect("a folder");
        let file = fill(dir.path()).join("meta.json");
        let text = std::fs::read_to_string(&file).expect("JSON");
        let flipped = text.replacen("\"version\": 1", &format!("\"version\": {other}"), 1);
        std::fs::write(&file, flipped).expect("a file of the test");
        let damaged = open(config(dir.path()), &clock_at(START + 5 * HOUR))
            .stats()
            .damaged_blocks;
        assert_eq!(damaged.len(), 1);
        let expected = if other == 2 { "version" } else { "checksum" };
        assert!(damaged[0].reason.contains(expected), "{}", damaged[0].reason);
    }
}

/// Whoever has no histograms can go back to a program that knew none; whoever has some is told by it why not.
#[test]
fn only_what_holds_histograms_is_written_in_the_later_version() {
    for has_histograms in [false, true] {
        let (dir, clock) = (tempfile::tempdir().expect("a folder"), clock_at(START));
        let store = open(config(dir.path()), &clock);
        for minute in 0..4 * 60 {
            append(&store, &[(0, now(&clock), 1.0)], Durability::Interval).expect("a whole disk");
            if has_histograms && minute > 9 {
                append_histograms(&store, &[(1, now(&clock), 1)], Durability::Interval)
                    .expect("a whole disk");
            }
            clock.advance(minutes(1));
        }
        let bytes = bytes_below(&dir.path().join("wal"));
        let versions: Vec<u8> = bytes.values().map(|bytes| bytes[7]).collect();
        let expected: &[u8] = if has_histograms { &[1, 2] } else { &[1] };
        assert_eq!(versions, expected, "a new segment with the first histogram");
        store.maintain(clock.now()).expect("a whole disk");
        let stats = store.stats();
        assert_eq!(
            (stats.blocks, stats.block_histograms),
            (1, if has_histograms { 110 } else { 0 })
        );
        let bytes = bytes_below(&dir.path().join("blocks"));
        let description = |(path, bytes): (&PathBuf, &Vec<u8>)| {
            path.ends_with("meta.json")
                .then(|| String::from_utf8(bytes.clone()).expect("JSON"))
        };
        let text = bytes.iter().find_map(description).expect("a description");
        assert_eq!(text.contains("\"version\": 2"), has_histograms, "{text}");
        assert_eq!(text.contains("\"histograms\": 110"), has_histograms, "{text}");
        assert_eq!(text.contains("histograms"), has_histograms, "{text}");
    }
}

#[test]
fn an_index_or_chunks_of_a_later_version_are_left_out_with_both_versions_named() {
    for name in ["index", "chunks"] {
        let dir = tempfile::tempdir().expect("a folder");
        let file = fill(dir.path()).join(name);
        let mut bytes = std::fs::read(&file).expect("a file of the test");
        assert_eq!(bytes[7], 1, "the version, as docs/formats/block.md draws it");
        bytes[7] = 2;
        std::fs::write(&file, bytes).expect("a file of the test");
        let damaged = open(config(dir.path()), &clock_at(START + 5 * HOUR))
            .stats()
            .damaged_blocks;
        let expected = format!("{name} has format version 2; this program reads up to 1");
        assert_eq!(damaged.len(), 1);
        assert_eq!(damaged[0].reason, expected);
    }
}

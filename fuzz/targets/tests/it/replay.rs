//! The replay: every file of the corpus as it is, then damaged in many ways.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use marketprism_fuzz_targets::{TARGETS, Target, run};

use crate::mutation::{Dice, mutated};

/// Damages of each file; `MARKETPRISM_TEST_SCALE` multiplies them.
const MUTATIONS: u64 = 2_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

fn files(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = corpus().join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).expect("corpus file")))
        .collect()
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let folders = fs::read_dir(corpus()).expect("corpus");
    let folders: BTreeSet<String> = folders
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(targets, folders);
    for target in &targets {
        assert!(
            files(target).len() >= 3,
            "{target}: a corpus of three files at least"
        );
    }
    let binaries = fs::read_dir(corpus().join("../fuzz_targets")).expect("binaries");
    let binaries: BTreeSet<String> = binaries
        .map(|entry| {
            entry
                .expect("entry")
                .path()
                .file_stem()
                .expect("name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(targets, binaries, "each target has its libFuzzer binary");
}

#[test]
fn no_target_panics_on_its_corpus_or_on_mutations_of_it() {
    let scale = std::env::var("MARKETPRISM_TEST_SCALE").ok();
    let scale: u64 = scale.map_or(1, |text| {
        text.parse().expect("MARKETPRISM_TEST_SCALE is a number")
    });
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism()
        .expect("number of cores")
        .get();
    std::thread::scope(|scope| {
        for _ in 0..workers.min(TARGETS.len()) {
            scope.spawn(|| {
                while let Some(target) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    replay(target, MUTATIONS * scale);
                }
            });
        }
    });
}

fn replay((target, _): &Target, mutations: u64) {
    let files = files(target);
    for (position, (path, bytes)) in files.iter().enumerate() {
        survives(target, bytes, &format!("{}", path.display()));
        let (_, other) = &files[(position + 1) % files.len()];
        for number in 0..mutations {
            let damaged = mutated(bytes, other, &mut Dice(number));
            survives(
                target,
                &damaged,
                &format!("{} with damage {number}", path.display()),
            );
        }
    }
}

fn survives(target: &str, input: &[u8], what: &str) {
    assert!(
        catch_unwind(|| run(target, input)).is_ok(),
        "{target} panics on {what}: {}",
        input.escape_ascii()
    );
}

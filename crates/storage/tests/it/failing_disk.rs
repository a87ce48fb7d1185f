//! A disk that is full, writes half, or fails at fsync and drops what was not yet on it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use marketprism_model::sample::{AppendError, Durability};
use marketprism_model::{Clock, SampleSink};
use marketprism_storage::files::{Disk, Files, FolderLock, LogFile, View};
use marketprism_storage::{Config, Store, SyncMode};

use crate::harness::*;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A write takes half of what it is given, and the next one fails.
    ShortWrite,
    /// A write takes nothing: no space left.
    Full,
    /// An fsync fails, and everything since the last good one is gone from the disk.
    SyncDrops,
    /// A new file cannot be made.
    Create,
    /// A rename fails.
    Rename,
    /// A file cannot be removed.
    Remove,
}

#[derive(Default)]
pub struct Plan {
    fault: Option<Fault>,
    /// Operations of the fault's kind that still go well.
    after: u64,
    /// How many then fail.
    count: u64,
    is_half_written: bool,
    pub synced: HashMap<PathBuf, u64>,
    written: HashMap<PathBuf, u64>,
    failed: u64,
    pub writes: u64,
    pub syncs: u64,
    /// An fsync lasts until so many writes were made.
    pub writes_awaited: u64,
    /// What happens elsewhere while something is renamed.
    at_rename: Option<Box<dyn FnOnce() + Send>>,
}

impl Plan {
    fn strikes(&mut self, fault: Fault) -> bool {
        if self.fault != Some(fault) || self.count == 0 {
            return false;
        }
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        self.count -= 1;
        self.failed += 1;
        true
    }
}

#[derive(Clone, Default)]
pub struct FailingDisk(Arc<Mutex<Plan>>);

struct FailingFile {
    path: PathBuf,
    inner: Arc<dyn LogFile>,
    disk: FailingDisk,
}

impl FailingDisk {
    pub fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn arm(&self, fault: Fault, after: u64, count: u64) {
        let mut plan = self.plan();
        (plan.fault, plan.after, plan.count) = (Some(fault), after, count);
    }

    fn heal(&self) {
        self.plan().fault = None;
    }

    fn failed(&self) -> u64 {
        self.plan().failed
    }
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

fn broken() -> io::Error {
    io::Error::other("input/output error")
}

impl LogFile for FailingFile {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut plan = self.disk.plan();
        if std::mem::take(&mut plan.is_half_written) {
            return Err(broken());
        }
        let bytes = if plan.strikes(Fault::ShortWrite) {
            plan.is_half_written = true;
            &bytes[..bytes.len() / 2]
        } else if plan.strikes(Fault::Full) {
            return Err(full());
        } else {
            bytes
        };
        let taken = self.inner.write(bytes)?;
        plan.writes += 1;
        *plan.written.entry(self.path.clone()).or_default() += taken as u64;
        Ok(taken)
    }

    fn sync(&self) -> io::Result<()> {
        let mut plan = self.disk.plan();
        if plan.strikes(Fault::SyncDrops) {
            let synced = plan.synced.get(&self.path).copied().unwrap_or(0);
            Disk.truncate(&self.path, synced).expect("the real disk is whole");
            plan.written.insert(self.path.clone(), synced);
            return Err(broken());
        }
        let written = plan.written.get(&self.path).copied().unwrap_or(0);
        plan.synced.insert(self.path.clone(), written);
        plan.syncs += 1;
        drop(plan);
        while {
            let plan = self.disk.plan();
            plan.writes < plan.writes_awaited
        } {
            std::thread::yield_now();
        }
        // Power is never lost in a test, so the machine's own disk need not be waited for.
        Ok(())
    }
}

impl Files for FailingDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.list(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        if self.plan().strikes(Fault::Create) {
            return Err(full());
        }
        Ok(Arc::new(FailingFile {
            path: path.to_owned(),
            inner: Disk.create(path)?,
            disk: self.clone(),
        }))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Disk.read(path)
    }
    fn view(&self, path: &Path) -> io::Result<View> {
        Disk.view(path)
    }
    fn size(&self, path: &Path) -> io::Result<u64> {
        Disk.size(path)
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        assert!(len <= Disk.size(path)?, "cutting must not make a file longer");
        Disk.truncate(path, len)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.plan().strikes(Fault::Rename) {
            return Err(broken());
        }
        let meanwhile = self.plan().at_rename.take();
        meanwhile.into_iter().for_each(|act| act());
        Disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        if self.plan().strikes(Fault::Remove) {
            return Err(broken());
        }
        Disk.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        Disk.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<FolderLock> {
        Disk.lock(path)
    }
}

struct Trial {
    dir: tempfile::TempDir,
    disk: FailingDisk,
    clock: marketprism_testkit::ManualClock,
    config: Config,
    /// Acknowledged with `Synced`.
    acknowledged: Contents,
    /// Ever given to the store.
    given: Contents,
}

impl Trial {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = config(dir.path());
        config.sync = SyncMode::Durable;
        Trial {
            dir,
            disk: FailingDisk::default(),
            clock: clock_at(START),
            config,
            acknowledged: Contents::new(),
            given: Contents::new(),
        }
    }

    fn open(&self) -> Store {
        let (files, clock) = (Arc::new(self.disk.clone()), Arc::new(self.clock.clone()));
        Store::open_on(files, self.config.clone(), clock, &|_| {}).expect("the store opens")
    }

    /// Gives three samples and a histogram a minute to the store; says how many appends were not acknowledged.
    fn run(&mut self, store: &Store, count: u64) -> usize {
        let mut refused = 0;
        for _ in 0..count {
            self.clock.advance(minutes(1));
            let time = now(&self.clock);
            let samples: Vec<_> = (0..3)
                .map(|n| (n, time, (time / MINUTE) as f64 + n as f64))
                .collect();
            let histogram = (3, time, (time / MINUTE % 5_000) as u32);
            let numbers: Vec<_> = samples
                .iter()
                .map(|(n, time, value)| (*n, *time, value.to_bits()))
                .collect();
            for part in [numbers, vec![(3, time, histogram_bits(histogram.2))]] {
                let note = |contents: &mut Contents| {
                    for (number, time, bits) in &part {
                        contents.entry(series(*number)).or_default().insert(*time, *bits);
                    }
                };
                note(&mut self.given);
                let appended = match part.len() {
                    3 => append(store, &samples, Durability::Synced),
                    _ => append_histograms(store, &[histogram], Durability::Synced),
                };
                match appended {
                    Ok(appended) => {
                        assert_eq!(appended.accepted, part.len());
                        note(&mut self.acknowledged);
                    }
                    Err(AppendError::Log { .. }) => refused += 1,
                    Err(error) => panic!("unexpected: {error}"),
                }
            }
            assert_eq!(
                missing(&self.given, &read_all(store)),
                [],
                "memory answers whatever the disk does"
            );
        }
        refused
    }

    fn check_reopened(&self, what: &str) {
        let found = read_all(&self.open());
        assert_eq!(
            missing(&self.acknowledged, &found),
            [],
            "{what}: acknowledged and lost"
        );
        assert_eq!(missing(&found, &self.given), [], "{what}: invented");
    }
}

#[test]
fn whatever_write_or_fsync_fails_nothing_acknowledged_is_lost_and_later_appends_work() {
    let mut refused_in_all = 0;
    for fault in [Fault::ShortWrite, Fault::Full, Fault::SyncDrops, Fault::Create] {
        for after in 0..12 {
            for count in [1, 3] {
                let what = format!("{fault:?} after {after}, {count} times");
                let mut trial = Trial::new();
                let store = trial.open();
                trial.disk.arm(fault, after, count);
                let refused = trial.run(&store, 15);
                assert_eq!(refused > 0, trial.disk.failed() > 0, "{what}");
                refused_in_all += refused;
                trial.disk.heal();
                assert_eq!(trial.run(&store, 3), 0, "{what}: the log works again");
                let stats = store.stats();
                assert_eq!(stats.wal_errors > 0, refused > 0, "{what}: {stats:?}");
                drop(store);
                trial.check_reopened(&what);
            }
        }
    }
    assert!(refused_in_all > 50, "the faults struck: {refused_in_all}");
}

#[test]
fn a_sample_that_was_not_acknowledged_is_logged_when_it_comes_again() {
    for fault in [Fault::ShortWrite, Fault::Full, Fault::SyncDrops] {
        let trial = Trial::new();
        let store = trial.open();
        let give = |time| append(&store, &[(0, time, 1.5)], Durability::Synced);
        give(START).expect("a whole disk");
        trial.disk.arm(fault, 0, 1);
        assert!(
            matches!(give(START + 1), Err(AppendError::Log { .. })),
            "{fault:?}"
        );
        assert_eq!(give(START + 1).expect("healed").accepted, 1);
        drop(store);
        let found = read_all(&trial.open());
        assert_eq!(found[&series(0)].len(), 2, "{fault:?}");
    }
}

#[test]
fn a_histogram_that_was_not_acknowledged_is_logged_when_it_comes_again() {
    for fault in [Fault::ShortWrite, Fault::Full, Fault::SyncDrops] {
        let trial = Trial::new();
        let store = trial.open();
        let give = |time| append_histograms(&store, &[(0, time, 5)], Durability::Synced);
        give(START).expect("a whole disk");
        trial.disk.arm(fault, 0, 1);
        let refused = give(START + 1);
        assert!(matches!(refused, Err(AppendError::Log { .. })), "{fault:?}");
        assert_eq!(give(START + 1).expect("healed").accepted, 1);
        drop(store);
        let found = read_all(&trial.open());
        assert_eq!(found[&series(0)].len(), 2, "{fault:?}");
    }
}

#[test]
fn a_cut_that_fails_at_any_step_is_tried_again_and_loses_and_doubles_nothing() {
    let mut failures = 0;
    for fault in [
        Fault::Full,
        Fault::ShortWrite,
        Fault::SyncDrops,
        Fault::Create,
        Fault::Rename,
        Fault::Remove,
    ] {
        for after in 0..5 {
            let what = format!("{fault:?} after {after}");
            let mut trial = Trial::new();
            let store = trial.open();
            assert_eq!(trial.run(&store, 200), 0);
            trial.disk.arm(fault, after, 1);
            let first = store.maintain(trial.clock.now());
            failures += usize::from(first.is_err());
            assert_eq!(
                first.is_err(),
                store.stats().maintenance_last_error.is_some(),
                "{what}"
            );
            assert_eq!(read_all(&store), trial.given, "{what}: after the failure");
            trial.disk.heal();
            store.maintain(trial.clock.now()).expect("healed");
            assert_eq!(store.stats().maintenance_last_error, None, "{what}");
            assert_eq!(store.stats().blocks, 1, "{what}");
            assert_eq!(read_all(&store), trial.given, "{what}: after the second run");
            assert_eq!(trial.run(&store, 3), 0, "{what}");
            drop(store);
            trial.check_reopened(&what);
            let names = std::fs::read_dir(trial.dir.path().join("blocks"))
                .expect("a folder")
                .count();
            assert_eq!(names, 1, "{what}: nothing half done is left");
        }
    }
    assert!(failures >= 10, "the faults struck: {failures}");
}

#[test]
fn many_who_wait_share_one_fsync() {
    const SENDERS: usize = 8;
    let trial = Trial::new();
    let store = trial.open();
    let resolved: Vec<_> = (0..SENDERS)
        .map(|n| store.resolve(&series(n)).expect("room"))
        .collect();
    // The first fsync lasts until the segment's header and all eight records are written.
    trial.disk.plan().writes_awaited = 1 + SENDERS as u64;
    std::thread::scope(|scope| {
        for series in resolved {
            let (store, clock) = (&store, &trial.clock);
            scope.spawn(move || {
                let sample = marketprism_model::RefSample {
                    series,
                    timestamp: clock.now(),
                    value: 1.0,
                };
                let appended = store.append(&[sample], Durability::Synced).expect("a whole disk");
                assert_eq!(appended.accepted, 1);
            });
        }
    });
    assert!(
        trial.disk.plan().syncs <= 2,
        "one for the first, one for all who came meanwhile"
    );
    drop(store);
    assert_eq!(count(&read_all(&trial.open())), SENDERS);
}

#[test]
fn a_late_sample_that_comes_between_writing_a_block_and_forgetting_is_kept() {
    let mut trial = Trial::new();
    trial.config.out_of_order_window = std::time::Duration::from_secs(12 * 3600);
    let store = trial.open();
    trial.run(&store, 200);
    let late = START + 30 * MINUTE + 1;
    let (in_store, in_series) = (store.clone(), 1);
    trial.disk.plan().at_rename = Some(Box::new(move || {
        let appended = append(&in_store, &[(in_series, late, 0.25)], Durability::Synced);
        assert_eq!(appended.expect("a whole disk").accepted, 1);
    }));
    store.maintain(trial.clock.now()).expect("a whole disk");
    assert!(trial.disk.plan().at_rename.is_none(), "a block was renamed");
    for contents in [&mut trial.given, &mut trial.acknowledged] {
        contents
            .entry(series(1))
            .or_default()
            .insert(late, 0.25f64.to_bits());
    }
    assert_eq!(read_all(&store), trial.given);
    trial.run(&store, 200);
    assert_eq!(
        store
            .maintain(trial.clock.now())
            .expect("a whole disk")
            .blocks_cut,
        2,
        "one for the late sample"
    );
    assert_eq!(read_all(&store), trial.given);
    drop(store);
    trial.check_reopened("after the second cut");
}

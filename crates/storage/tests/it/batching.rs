//! The batch keys: when appends are brought to the disk, counted on a disk that tells.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::sample::Durability;
use marketprism_model::{Chance, Clock};
use marketprism_storage::files::{Disk, Files};
use marketprism_storage::{Batching, Config, Stats, Store, SyncMode};
use marketprism_testkit::{ManualClock, SeededChance, is_true_within};

use crate::failing_disk::FailingDisk;
use crate::harness::*;

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any test lasts: whatever is synchronised was not synchronised because of time.
const NEVER: Duration = Duration::from_secs(3600);

struct Trial {
    dir: tempfile::TempDir,
    disk: FailingDisk,
    clock: ManualClock,
    store: Store,
    count: i64,
}

impl Trial {
    fn new(batch: Batching, sync: SyncMode) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let config = Config {
            batch,
            sync,
            ..Config::new(dir.path())
        };
        let (disk, clock) = (FailingDisk::default(), clock_at(START));
        let files = Arc::new(disk.clone());
        let store = Store::open_on(files, config, Arc::new(clock.clone()), &|_| {}).expect("the store opens");
        Trial {
            dir,
            disk,
            clock,
            store,
            count: 0,
        }
    }

    fn of_size(batch_size: u64, flush_interval: Duration) -> Self {
        let batch = Batching {
            enabled: true,
            batch_size,
            flush_interval,
        };
        Trial::new(batch, SyncMode::Batch)
    }

    /// Makes so many appends of one sample, a second apart.
    fn append(&mut self, count: i64, durability: Durability) {
        for _ in 0..count {
            self.clock.advance(Duration::from_secs(1));
            self.count += 1;
            append(
                &self.store,
                &[(0, now(&self.clock), self.count as f64)],
                durability,
            )
            .expect("a whole disk");
        }
    }

    fn syncs(&self) -> u64 {
        self.disk.plan().syncs
    }

    fn is_soon(&self, condition: impl Fn(&Stats) -> bool) -> bool {
        is_true_within(PATIENCE, || condition(&self.store.stats()))
    }

    /// Opens what the disk has when the power fails now; gives the number of samples found.
    fn after_power_loss(&self) -> usize {
        let copy = tempfile::tempdir().expect("a folder");
        copy_dir(self.dir.path(), copy.path());
        let plan = self.disk.plan();
        for name in Disk.list(&copy.path().join("wal")).expect("a folder") {
            let own = self.dir.path().join("wal").join(&name);
            let synced = plan.synced.get(&own).copied().unwrap_or(0);
            let file = copy.path().join("wal").join(&name);
            Disk.truncate(&file, synced).expect("a file of the test");
        }
        drop(plan);
        let found = read_all(&open(config(copy.path()), &self.clock));
        let Some(samples) = found.get(&series(0)) else {
            return 0;
        };
        let expected: Vec<u64> = (1..=samples.len()).map(|n| (n as f64).to_bits()).collect();
        let values: Vec<u64> = samples.values().copied().collect();
        assert_eq!(
            values, expected,
            "what is there are the first ones, without a gap"
        );
        samples.len()
    }
}

#[test]
fn a_full_batch_is_synchronised_at_once_and_nothing_before() {
    let mut trial = Trial::of_size(10, NEVER);
    trial.append(9, Durability::Interval);
    let stats = trial.store.stats();
    assert_eq!(
        (trial.syncs(), stats.wal_syncs, stats.wal_unsynced_appends),
        (0, 0, 9)
    );
    // The first of the nine came at second 1 of 9.
    assert_eq!(stats.wal_unsynced_age_seconds, Some(8.0));
    assert_eq!(trial.after_power_loss(), 0);
    trial.append(1, Durability::Interval);
    assert!(trial.is_soon(|stats| stats.wal_unsynced_appends == 0));
    let stats = trial.store.stats();
    assert_eq!(
        (trial.syncs(), stats.wal_syncs),
        (1, 1),
        "one fsync for ten appends"
    );
    assert_eq!(stats.wal_last_sync, Some(trial.clock.now()));
    assert_eq!(stats.wal_unsynced_age_seconds, None);
    assert_eq!(trial.after_power_loss(), 10);
    trial.append(9, Durability::Interval);
    assert_eq!(trial.syncs(), 1);
}

#[test]
fn appends_go_on_while_a_full_batch_is_on_its_way_and_the_next_fsync_takes_them_all() {
    let mut trial = Trial::of_size(10, NEVER);
    trial.append(9, Durability::Interval);
    // The fsync lasts until 25 more appends are written: one that fills the batch, and 24 that come meanwhile.
    let awaited = trial.disk.plan().writes + 25;
    trial.disk.plan().writes_awaited = awaited;
    trial.append(25, Durability::Interval);
    assert!(trial.is_soon(|stats| stats.wal_unsynced_appends < 10));
    let stats = trial.store.stats();
    let syncs = trial.syncs();
    assert!(
        syncs <= 3,
        "34 appends in the tenfold took {syncs} fsyncs: {stats:?}"
    );
    assert!(trial.after_power_loss() > 24);
}

#[test]
fn a_batch_that_does_not_fill_is_synchronised_after_the_flush_interval() {
    let mut trial = Trial::of_size(100_000, Duration::from_millis(10));
    trial.append(3, Durability::Interval);
    assert!(trial.is_soon(|stats| stats.wal_unsynced_appends == 0));
    assert!((1..=3).contains(&trial.syncs()));
    assert_eq!(trial.after_power_loss(), 3);
    let before = trial.syncs();
    // Nothing is written: the disk is left alone, however often the interval passes.
    assert!(!is_true_within(Duration::from_millis(100), || trial.syncs() > before));
}

#[test]
fn a_loss_of_power_costs_less_than_a_batch_and_nothing_that_was_waited_for() {
    const SIZE: usize = 16;
    for seed in 0..20 * u64::from(scale()) {
        let chance = SeededChance::new(seed);
        let mut trial = Trial::of_size(SIZE as u64, NEVER);
        let (mut given, mut waited_for) = (0, 0);
        for _ in 0..1 + chance.next_u64() % 100 {
            given += 1;
            if chance.next_u64().is_multiple_of(9) {
                trial.append(1, Durability::Synced);
                waited_for = given;
            } else {
                trial.append(1, Durability::Interval);
            }
        }
        assert!(trial.is_soon(|stats| stats.wal_unsynced_appends < SIZE as u64));
        let found = trial.after_power_loss();
        let what = format!("seed {seed}: {found} of {given}, {waited_for} waited for");
        assert!(found >= waited_for && found + SIZE > given, "{what}");
    }
}

#[test]
fn without_batching_every_append_is_on_the_disk_before_it_is_answered() {
    let batch = Batching {
        enabled: false,
        ..Batching::default()
    };
    let mut trial = Trial::new(batch, SyncMode::Batch);
    for count in 1..=20 {
        trial.append(1, Durability::Interval);
        assert_eq!(trial.syncs(), count);
        assert_eq!(trial.store.stats().wal_unsynced_appends, 0);
        assert_eq!(trial.after_power_loss() as u64, count);
    }
}

#[test]
fn a_named_sync_interval_leaves_the_batch_size_without_effect() {
    let batch = Batching {
        batch_size: 1,
        ..Batching::default()
    };
    let mut trial = Trial::new(batch, SyncMode::Interval(Duration::from_secs(60)));
    trial.append(50, Durability::Interval);
    assert_eq!((trial.syncs(), trial.store.stats().wal_unsynced_appends), (0, 50));
    trial.append(1, Durability::Synced);
    assert_eq!((trial.syncs(), trial.store.stats().wal_unsynced_appends), (1, 0));
}

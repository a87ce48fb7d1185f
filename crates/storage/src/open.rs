//! Opening a store: clearing what a crash left half done, opening the blocks, replaying the log.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use marketprism_model::{Clock, Labels, RefHistogram, RefSample, SeriesRef, Timestamp};
use parking_lot::RwLockWriteGuard;
use thiserror::Error;

use crate::append::{Incoming, put};
use crate::block::meta::{self, Cut};
use crate::block::ulid::Ulid;
use crate::block::writer::{DELETED, TEMPORARY};
use crate::block::{Block, BlockError};
use crate::config::{Config, ConfigError, SyncPolicy};
use crate::files::{Disk, Files};
use crate::head::series::Outcome;
use crate::head::{self, Shard};
use crate::select::BlockSet;
use crate::stats::{DamagedBlock, LostRange, Progress, ReplayReport};
use crate::store::{Shared, Store};
use crate::wal::log::{self, Closed, Log};
use crate::wal::record::{Forgotten, Numbered, NumberedHistogram};
use crate::wal::segment::{self, End, Replay};

pub(crate) const LOG_DIR: &str = "wal";
pub(crate) const BLOCK_DIR: &str = "blocks";
const LOCK_FILE: &str = "lock";
pub(crate) const QUARANTINED: &str = ".quarantined";

/// Why a store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A setting is outside its limits.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process has the folder.
    #[error("{path}: in use by another process", path = .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file was written by a later version of the program. Nothing in the folder was changed.
    #[error(
        "{path}: format version {version}, this program reads up to {known}; start the later version of the program \
         again, or restore the backup that was made before the upgrade into an empty folder",
        path = .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The system refused.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
}

fn at(path: &Path) -> impl Fn(io::Error) -> OpenError + '_ {
    move |error| OpenError::Io {
        path: path.to_owned(),
        error,
    }
}

impl Store {
    /// Opens the store in a folder of the machine's disk; returns when the log is replayed.
    ///
    /// `progress` is called after each segment of the log. Damage does not keep a store from opening: damaged
    /// blocks are left out and damaged segments cut behind their last good record, and both are in the statistics.
    pub fn open(
        config: Config,
        clock: Arc<dyn Clock>,
        progress: &dyn Fn(Progress),
    ) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(Disk), config, clock, progress)
    }

    /// Opens the store on a file system of the caller's choice.
    pub fn open_on(
        files: Arc<dyn Files>,
        config: Config,
        clock: Arc<dyn Clock>,
        progress: &dyn Fn(Progress),
    ) -> Result<Self, OpenError> {
        config.validate()?;
        let (log_dir, block_dir) = (config.dir.join(LOG_DIR), config.dir.join(BLOCK_DIR));
        for dir in [&log_dir, &block_dir] {
            files.create_dir_all(dir).map_err(at(dir))?;
        }
        let lock_path = config.dir.join(LOCK_FILE);
        let lock = files.lock(&lock_path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked {
                path: lock_path.clone(),
            },
            _ => at(&lock_path)(error),
        })?;
        check_versions(&*files, &log_dir, &block_dir)?;
        let opened = open_blocks(&*files, &block_dir)?;
        let cuts: Vec<Cut> = opened.set.blocks.iter().map(|block| block.meta().cut).collect();
        let is_synced = config.sync_policy() != SyncPolicy::Never;
        let floor = opened.set.floor;
        let shared = Shared::new(
            config,
            clock,
            Some(Arc::clone(&files)),
            Some(lock),
            opened.set,
            opened.damaged,
        );
        shared.next_block.store(opened.next_block, Ordering::Relaxed);
        for shard in 0..shared.head.shard_count() {
            shared.head.write(shard).floor = floor;
        }
        let newest = shared
            .block_set()
            .blocks
            .iter()
            .map(|block| block.meta().max_time)
            .max();
        shared.head.note(i64::MAX, newest.unwrap_or(i64::MIN));
        let replayed = replay(&shared, &*files, &log_dir, &cuts, progress)?;
        let segments_below = cuts.iter().map(|cut| cut.segments_below).max().unwrap_or(1);
        let kept = shared
            .kept
            .clone()
            .expect("a store with files keeps some for copies");
        let mut log = Log::new(
            files,
            log_dir.clone(),
            Arc::clone(&shared.sync),
            kept,
            is_synced,
            replayed.next.max(segments_below),
        );
        log.take_over(replayed.in_blocks);
        // A copy may be under way that began before this process.
        log.drop_before(segments_below, floor);
        log.take_over(replayed.closed);
        shared.start(log, replayed.report).map_err(at(&log_dir))?;
        Ok(Store {
            shared: Arc::new(shared),
        })
    }
}

/// Refuses a folder in which a later version of the program has written, before anything is repaired or cut.
///
/// Going on without a later block would hand out its segment numbers again, and a later segment would look damaged.
fn check_versions(files: &dyn Files, log_dir: &Path, block_dir: &Path) -> Result<(), OpenError> {
    for name in files.list(log_dir).map_err(at(log_dir))? {
        let path = log_dir.join(&name);
        if log::number_in(&name).is_none() {
            continue;
        }
        let version = segment::version(&files.view(&path).map_err(at(&path))?);
        if let Some(version) = version.filter(|version| *version > segment::VERSION) {
            return Err(OpenError::Version {
                path,
                version: u32::from(version),
                known: u32::from(segment::VERSION),
            });
        }
    }
    for name in files.list(block_dir).map_err(at(block_dir))? {
        let path = block_dir.join(&name).join(meta::FILE);
        let is_short = |length: u64| length <= meta::BYTES_MAX as u64;
        if name.parse::<Ulid>().is_err() || !files.size(&path).is_ok_and(is_short) {
            continue;
        }
        let description = files.read(&path).map_err(at(&path))?;
        if let Err(BlockError::Version { version, known, .. }) = meta::decode(&description) {
            return Err(OpenError::Version { path, version, known });
        }
    }
    Ok(())
}

struct OpenedBlocks {
    set: BlockSet,
    damaged: Vec<DamagedBlock>,
    next_block: u64,
}

fn open_blocks(files: &dyn Files, dir: &Path) -> Result<OpenedBlocks, OpenError> {
    let mut opened = OpenedBlocks {
        set: BlockSet {
            blocks: Vec::new(),
            floor: i64::MIN,
        },
        damaged: Vec::new(),
        next_block: 1,
    };
    let mut names = files.list(dir).map_err(at(dir))?;
    names.sort_unstable();
    for name in names {
        let path = dir.join(&name);
        if name.ends_with(TEMPORARY) || name.ends_with(DELETED) {
            files.remove_dir_all(&path).map_err(at(&path))?;
            continue;
        }
        let Ok(ulid) = name.parse::<Ulid>() else {
            continue;
        };
        opened.next_block = opened.next_block.max(ulid.number().saturating_add(1));
        match Block::open(files, &path) {
            Ok(block) => opened.set.blocks.push(Arc::new(block)),
            Err(error) => {
                tracing::error!(block = %name, %error, "block cannot be used and is left out");
                opened.damaged.push(DamagedBlock {
                    name,
                    reason: error.to_string(),
                });
            }
        }
    }
    let blocks = &mut opened.set.blocks;
    blocks.sort_by_key(|block| (block.meta().min_time, block.meta().ulid));
    opened.set.floor = blocks.iter().map(|b| b.meta().cut.to).max().unwrap_or(i64::MIN);
    Ok(opened)
}

struct Replayed {
    report: ReplayReport,
    closed: Vec<Closed>,
    /// Segments of which every sample is in a block that can be read.
    in_blocks: Vec<Closed>,
    next: u64,
}

fn replay(
    store: &Shared,
    files: &dyn Files,
    dir: &Path,
    cuts: &[Cut],
    progress: &dyn Fn(Progress),
) -> Result<Replayed, OpenError> {
    let names: HashSet<String> = files.list(dir).map_err(at(dir))?.into_iter().collect();
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| log::number_in(name)).collect();
    numbers.sort_unstable();
    let quarantined = names
        .iter()
        .filter_map(|name| log::number_in(name.strip_suffix(QUARANTINED)?));
    let used = quarantined.chain(numbers.iter().copied()).max();
    let mut replayed = Replayed {
        report: ReplayReport::default(),
        closed: Vec::new(),
        in_blocks: Vec::new(),
        next: used.map_or(1, |number| number + 1),
    };
    for number in &numbers {
        let is_last = Some(number) == numbers.last();
        let report = &mut replayed.report;
        let before = (report.samples, report.in_blocks);
        let closed = replay_segment(store, files, dir, *number, is_last, cuts, report)?;
        if report.samples - before.0 == report.in_blocks - before.1 {
            replayed.in_blocks.extend(closed);
        } else {
            replayed.closed.extend(closed);
        }
        progress(Progress {
            segments: replayed.report.segments,
            segments_total: numbers.len() as u64,
            samples: replayed.report.samples,
        });
    }
    Ok(replayed)
}

/// Replays one segment and repairs it; gives it back unless nothing is left of it.
fn replay_segment(
    store: &Shared,
    files: &dyn Files,
    dir: &Path,
    number: u64,
    is_last: bool,
    cuts: &[Cut],
    report: &mut ReplayReport,
) -> Result<Option<Closed>, OpenError> {
    let path = dir.join(log::file_name(number));
    let bytes = files.read(&path).map_err(at(&path))?;
    let mut into = IntoHead::new(store, number, cuts);
    let reading = segment::read(&bytes, number, &mut into);
    report.segments += 1;
    report.records += reading.records;
    report.samples += reading.samples;
    report.in_blocks += into.in_blocks;
    report.conflicting += into.conflicting;
    into.finish();
    let rest = bytes.len() - reading.good_bytes;
    let damage = match reading.end {
        End::Whole => None,
        // Segments are left only after their last record, so a torn end elsewhere is damage too.
        End::Torn if is_last || reading.good_bytes == 0 => {
            report.torn_bytes += rest as u64;
            None
        }
        End::Torn => Some("ends in the middle of a record"),
        End::Damaged(reason) => Some(reason),
    };
    if let Some(reason) = damage {
        let kept = dir.join(format!("{}{QUARANTINED}", log::file_name(number)));
        quarantine(files, &kept, &bytes).map_err(at(&kept))?;
        let lost = LostRange {
            segment: number,
            offset: reading.good_bytes as u64,
            bytes: rest as u64,
            reason: reason.to_owned(),
            after: Some(reading.newest)
                .filter(|newest| *newest != i64::MIN)
                .map(Timestamp::from_millis),
        };
        tracing::error!(
            segment = number,
            offset = lost.offset,
            bytes = lost.bytes,
            error = reason,
            "log segment is damaged; what follows is lost, the file is kept aside"
        );
        report.lost.push(lost);
    }
    if reading.good_bytes <= segment::SEGMENT_HEADER_BYTES {
        files.remove_file(&path).map_err(at(&path))?;
        return Ok(None);
    }
    if rest > 0 {
        files
            .truncate(&path, reading.good_bytes as u64)
            .map_err(at(&path))?;
    }
    Ok(Some(Closed {
        number,
        bytes: reading.good_bytes as u64,
        newest: reading.newest,
    }))
}

/// Keeps a copy of a damaged segment, before the segment itself is cut; done again after a crash in between.
fn quarantine(files: &dyn Files, path: &Path, bytes: &[u8]) -> io::Result<()> {
    match files.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = files.create(path)?;
    crate::files::write_all(&*file, bytes)?;
    file.sync()?;
    path.parent().map_or(Ok(()), |dir| files.sync_dir(dir))
}

/// Brings a segment's samples into the head, but for those that a block has taken over.
struct IntoHead<'a> {
    store: &'a Shared,
    cuts: Vec<Cut>,
    cut_end: i64,
    series: Vec<SeriesRef>,
    oldest: i64,
    newest: i64,
    in_blocks: u64,
    conflicting: u64,
}

impl<'a> IntoHead<'a> {
    fn new(store: &'a Shared, number: u64, cuts: &[Cut]) -> Self {
        let cuts: Vec<Cut> = cuts
            .iter()
            .copied()
            .filter(|cut| number < cut.segments_below)
            .collect();
        IntoHead {
            store,
            cut_end: cuts.iter().map(|cut| cut.to).max().unwrap_or(i64::MIN),
            cuts,
            series: Vec::new(),
            oldest: i64::MAX,
            newest: i64::MIN,
            in_blocks: 0,
            conflicting: 0,
        }
    }

    fn is_in_block(&self, time: i64) -> bool {
        time < self.cut_end && self.cuts.iter().any(|cut| (cut.from..cut.to).contains(&time))
    }

    /// Takes the samples of these series and moments, which `sample` makes.
    fn take<T: Incoming>(
        &mut self,
        moments: impl Iterator<Item = (u32, i64)>,
        sample: impl Fn(usize, SeriesRef) -> T,
    ) {
        let mut locked: Option<(usize, RwLockWriteGuard<'_, Shard>)> = None;
        for (at, (number, time)) in moments.enumerate() {
            if self.is_in_block(time) {
                self.in_blocks += 1;
                continue;
            }
            let name = self.series[number as usize];
            let (number, place) = head::place(head::slot_of(name));
            if !matches!(&locked, Some((locked, _)) if *locked == number) {
                drop(locked.take());
                locked = Some((number, self.store.head.write(number)));
            }
            let (_, shard) = locked.as_mut().expect("locked above");
            let Some(series) = shard.get_mut(place, head::generation_of(name)) else {
                continue;
            };
            if put(series, &sample(at, name)) == Outcome::Conflicting {
                self.conflicting += 1;
            }
            self.oldest = self.oldest.min(time);
            self.newest = self.newest.max(time);
        }
    }

    fn finish(self) {
        self.store.head.note(self.oldest, self.newest);
    }
}

impl Replay for IntoHead<'_> {
    fn define(&mut self, labels: Labels) {
        // The limit is for new series; these were there already, and a lowered limit must not lose samples.
        self.series
            .push(self.store.seat(&labels, usize::MAX).unwrap_or(SeriesRef(0)));
    }

    fn forget(&mut self, forgotten: Forgotten) {
        self.store.head.rewind(forgotten.from);
        self.newest = self.newest.min(forgotten.from.saturating_sub(1));
    }

    fn append(&mut self, samples: &[Numbered]) {
        self.take(
            samples.iter().map(|sample| (sample.number, sample.time)),
            |at, series| RefSample {
                series,
                timestamp: Timestamp::from_millis(samples[at].time),
                value: samples[at].value,
            },
        );
    }

    fn append_histograms(&mut self, histograms: Vec<NumberedHistogram>) {
        let moments: Vec<(u32, i64)> = histograms
            .iter()
            .map(|sample| (sample.number, sample.time))
            .collect();
        let histograms: Vec<_> = histograms
            .into_iter()
            .map(|sample| Arc::new(sample.histogram))
            .collect();
        self.take(moments.iter().copied(), |at, series| RefHistogram {
            series,
            timestamp: Timestamp::from_millis(moments[at].1),
            histogram: Arc::clone(&histograms[at]),
        });
    }
}

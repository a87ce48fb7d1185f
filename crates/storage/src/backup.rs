//! Copying a store's folder while the store runs in another process, and checking a copy.
//!
//! Three passes: blocks, log, blocks again. What a cut moves while the first pass reads is missed by it and, if the
//! store no longer keeps it for copies, by the second; then the third finds it, for a block is there before the
//! first of its segments goes. So the copy holds everything that was acknowledged before the second pass began,
//! however long it takes. Nothing is locked and nothing in the folder is written.
//! Deliberately absent: the form of the copy. The caller writes an archive, a folder, or what it likes.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use marketprism_model::Labels;
use thiserror::Error;

use crate::block::ulid::Ulid;
use crate::block::{Block, BlockError, index, meta, part};
use crate::files::{Disk, Files};
use crate::open::{BLOCK_DIR, LOG_DIR, QUARANTINED};
use crate::wal::log;
use crate::wal::record::{Forgotten, Numbered, NumberedHistogram};
use crate::wal::segment::{self, End, Reading, Replay};

/// Progress is told after this many bytes.
const STEP_BYTES: u64 = 256 << 10;

/// Why a folder cannot be copied or checked.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The folder is not one of a store.
    #[error("{path}: not the folder of a sample store (it needs the folders wal and blocks)", path = .0.display())]
    NotAStore(PathBuf),
    /// The system refused to read.
    #[error("{path}: {error}", path = .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// The caller could not write.
    #[error("writing {path}: {error}", path = .path.display())]
    Write {
        /// The file, by its path within the store's folder.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
}

/// How far a backup or a check has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackupProgress {
    /// Bytes done.
    pub bytes: u64,
    /// Bytes in all; changes while the store writes.
    pub bytes_total: u64,
}

/// Something in the folder that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The file, by its path within the store's folder.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What was copied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BackupReport {
    /// Files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments of the log among them.
    pub segments: u64,
    /// Blocks.
    pub blocks: u64,
    /// Blocks that retention deleted before they could be read.
    pub expired: u64,
    /// Damage that was there already; the damaged files are in the copy as they are.
    pub faults: Vec<Fault>,
}

/// What a check of a folder found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyReport {
    /// Segments of the log.
    pub segments: u64,
    /// Samples in them.
    pub segment_samples: u64,
    /// Bytes at the end of the newest segment that are no whole record: a write that was never acknowledged.
    pub torn_bytes: u64,
    /// Blocks.
    pub blocks: u64,
    /// Samples in them.
    pub block_samples: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong; nothing is lost when this is empty.
    pub faults: Vec<Fault>,
}

/// Takes a file of a backup: its path within the store's folder, its bytes, and how many they are.
///
/// Must read all of them.
pub type WriteFile<'a> = dyn FnMut(&Path, &mut dyn Read, u64) -> io::Result<()> + 'a;

/// Copies the store in `dir`, file by file, through `write`; the store may run meanwhile.
///
/// Everything acknowledged before the last blocks were copied and the log was begun is in the copy. Checksums are
/// looked at on the way. A backup that is broken off by an error is worth nothing.
pub fn backup(
    dir: &Path,
    write: &mut WriteFile<'_>,
    progress: &dyn Fn(BackupProgress),
) -> Result<BackupReport, BackupError> {
    let mut walk = Walk::new(dir, progress)?;
    let mut copy = Copy {
        write,
        report: BackupReport::default(),
    };
    let before = walk.blocks()?;
    before.iter().try_for_each(|name| copy.block(&mut walk, name))?;
    let names = walk.segments()?;
    let newest = names.iter().filter_map(|name| log::number_in(name)).max();
    names
        .iter()
        .try_for_each(|name| copy.segment(&mut walk, name, newest))?;
    for name in walk.blocks()?.difference(&before) {
        copy.block(&mut walk, name)?;
    }
    walk.end();
    Ok(copy.report)
}

/// Reads everything in the folder of a store and compares it with its checksums; writes nothing.
///
/// For a restored copy, before a store is opened on it. An error means that the folder could not be read; what is
/// wrong within it is in the report.
pub fn verify(dir: &Path, progress: &dyn Fn(BackupProgress)) -> Result<VerifyReport, BackupError> {
    let mut walk = Walk::new(dir, progress)?;
    let mut report = VerifyReport::default();
    let names = walk.segments()?;
    let newest = names.iter().filter_map(|name| log::number_in(name)).max();
    for name in &names {
        let Some(number) = log::number_in(name) else {
            continue;
        };
        let file = Path::new(LOG_DIR).join(name);
        let bytes = walk.read(&file)?;
        let (reading, fault) = read_segment(&bytes, number, newest);
        report.segments += 1;
        report.segment_samples += reading.samples;
        match fault {
            Some(reason) => report.faults.push(Fault {
                file: file.clone(),
                reason,
            }),
            None => report.torn_bytes += (bytes.len() - reading.good_bytes) as u64,
        }
        walk.plan(&file, bytes.len() as u64);
        walk.done(bytes.len() as u64);
    }
    for name in walk.blocks()? {
        let file = Path::new(BLOCK_DIR).join(&name);
        let opened = Block::open(&Disk, &dir.join(&file));
        let checked = opened.and_then(|block| block.check(true).map(|()| block));
        report.blocks += 1;
        match checked {
            Ok(block) => report.block_samples += block.meta().samples,
            Err(error) => report.faults.push(fault_of(&file, &error)),
        }
        for part in [part::FILE, index::FILE, meta::FILE] {
            let planned = walk.planned.get(&file.join(part)).copied();
            walk.done(planned.unwrap_or(0));
        }
    }
    walk.end();
    report.bytes = walk.bytes;
    Ok(report)
}

fn fault_of(block: &Path, error: &BlockError) -> Fault {
    let part = match error {
        BlockError::Io { file, .. } | BlockError::Damaged { file, .. } | BlockError::Version { file, .. } => {
            file
        }
    };
    Fault {
        file: block.join(part),
        reason: error.to_string(),
    }
}

/// Says what a segment holds, and what is wrong with it.
fn read_segment(bytes: &[u8], number: u64, newest: Option<u64>) -> (Reading, Option<String>) {
    let reading = segment::read(bytes, number, &mut Nothing);
    let later = segment::version(bytes).filter(|version| *version > segment::VERSION);
    let fault = match (later, reading.end) {
        (Some(version), _) => Some(format!(
            "format version {version}; this program reads up to {}",
            segment::VERSION
        )),
        (_, End::Whole) => None,
        (_, End::Torn) if newest == Some(number) || reading.good_bytes == 0 => None,
        (_, End::Torn) => Some(format!(
            "ends in the middle of a record at byte {}",
            reading.good_bytes
        )),
        (_, End::Damaged(reason)) => Some(format!("damaged at byte {}: {reason}", reading.good_bytes)),
    };
    (reading, fault)
}

/// Takes what a segment holds and keeps nothing.
struct Nothing;

impl Replay for Nothing {
    fn define(&mut self, _: Labels) {}
    fn append(&mut self, _: &[Numbered]) {}
    fn append_histograms(&mut self, _: Vec<NumberedHistogram>) {}
    fn forget(&mut self, _: Forgotten) {}
}

/// A walk over the folder, and how far it has come.
struct Walk<'a> {
    dir: &'a Path,
    progress: &'a dyn Fn(BackupProgress),
    planned: HashMap<PathBuf, u64>,
    bytes: u64,
    bytes_total: u64,
    told: u64,
}

impl<'a> Walk<'a> {
    fn new(dir: &'a Path, progress: &'a dyn Fn(BackupProgress)) -> Result<Self, BackupError> {
        if [LOG_DIR, BLOCK_DIR].iter().any(|part| !dir.join(part).is_dir()) {
            return Err(BackupError::NotAStore(dir.to_owned()));
        }
        let mut walk = Walk {
            dir,
            progress,
            planned: HashMap::new(),
            bytes: 0,
            bytes_total: 0,
            told: 0,
        };
        walk.blocks()?;
        walk.segments()?;
        walk.tell();
        Ok(walk)
    }

    fn list(&self, part: &str) -> Result<Vec<String>, BackupError> {
        let path = self.dir.join(part);
        Disk.list(&path)
            .map_err(|error| BackupError::Read { path, error })
    }

    /// Names the blocks, oldest first, and plans their files.
    fn blocks(&mut self) -> Result<BTreeSet<String>, BackupError> {
        let names = self.list(BLOCK_DIR)?.into_iter();
        let names: BTreeSet<String> = names.filter(|name| name.parse::<Ulid>().is_ok()).collect();
        for name in &names {
            for part in [part::FILE, index::FILE, meta::FILE] {
                self.plan_new(&Path::new(BLOCK_DIR).join(name).join(part));
            }
        }
        Ok(names)
    }

    /// Names the files of the log, oldest first, and plans them.
    fn segments(&mut self) -> Result<BTreeSet<String>, BackupError> {
        let names = self.list(LOG_DIR)?.into_iter();
        let is_known =
            |name: &String| log::number_in(name.strip_suffix(QUARANTINED).unwrap_or(name)).is_some();
        let names: BTreeSet<String> = names.filter(is_known).collect();
        for name in &names {
            self.plan_new(&Path::new(LOG_DIR).join(name));
        }
        Ok(names)
    }

    fn read(&self, file: &Path) -> Result<Vec<u8>, BackupError> {
        let path = self.dir.join(file);
        Disk.read(&path)
            .map_err(|error| BackupError::Read { path, error })
    }

    fn plan_new(&mut self, file: &Path) {
        if !self.planned.contains_key(file) {
            let bytes = Disk.size(&self.dir.join(file)).unwrap_or(0);
            self.plan(file, bytes);
        }
    }

    /// Notes how many bytes a file has, whatever was thought before.
    fn plan(&mut self, file: &Path, bytes: u64) {
        let before = self.planned.insert(file.to_owned(), bytes).unwrap_or(0);
        self.bytes_total = self.bytes_total - before + bytes;
    }

    fn done(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes - self.told >= STEP_BYTES {
            self.tell();
        }
    }

    fn tell(&mut self) {
        self.told = self.bytes;
        (self.progress)(BackupProgress {
            bytes: self.bytes,
            bytes_total: self.bytes_total.max(self.bytes),
        });
    }

    fn end(&mut self) {
        self.bytes_total = self.bytes;
        self.tell();
    }
}

/// Bytes on their way to the caller.
struct Metered<'a, 'b> {
    rest: &'a [u8],
    walk: &'a mut Walk<'b>,
}

impl Read for Metered<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let taken = self.rest.read(into)?;
        self.walk.done(taken as u64);
        Ok(taken)
    }
}

struct Copy<'a, 'b> {
    write: &'a mut WriteFile<'b>,
    report: BackupReport,
}

impl Copy<'_, '_> {
    fn file(&mut self, walk: &mut Walk<'_>, file: &Path, bytes: &[u8]) -> Result<(), BackupError> {
        let length = bytes.len() as u64;
        walk.plan(file, length);
        let mut metered = Metered { rest: bytes, walk };
        let told = |error| BackupError::Write {
            path: file.to_owned(),
            error,
        };
        (self.write)(file, &mut metered, length).map_err(told)?;
        if !metered.rest.is_empty() {
            let words = format!("{} of {length} bytes were not taken", metered.rest.len());
            return Err(told(io::Error::other(words)));
        }
        self.report.files += 1;
        self.report.bytes += length;
        Ok(())
    }

    fn segment(&mut self, walk: &mut Walk<'_>, name: &str, newest: Option<u64>) -> Result<(), BackupError> {
        let file = Path::new(LOG_DIR).join(name);
        let bytes = match walk.read(&file) {
            // A block has taken over what was in it, and the third pass will find that block.
            Err(BackupError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                walk.plan(&file, 0);
                return Ok(());
            }
            read => read?,
        };
        let Some(number) = log::number_in(name) else {
            return self.file(walk, &file, &bytes);
        };
        let (reading, fault) = read_segment(&bytes, number, newest);
        let whole = if fault.is_some() {
            bytes.len()
        } else {
            reading.good_bytes
        };
        if let Some(reason) = fault {
            self.report.faults.push(Fault {
                file: file.clone(),
                reason,
            });
        } else if whole <= segment::SEGMENT_HEADER_BYTES {
            walk.plan(&file, 0);
            return Ok(());
        }
        self.report.segments += 1;
        // The rest is a write under way, which nobody was told of.
        self.file(walk, &file, &bytes[..whole])
    }

    fn block(&mut self, walk: &mut Walk<'_>, name: &str) -> Result<(), BackupError> {
        let folder = Path::new(BLOCK_DIR).join(name);
        let path = walk.dir.join(&folder);
        let description = Disk.read(&path.join(meta::FILE));
        let opened = Block::open(&Disk, &path);
        if let (Ok(description), Ok(block)) = (description, &opened) {
            if let Err(error) = block.check(false) {
                self.report.faults.push(fault_of(&folder, &error));
            }
            // The open files stay whole, even when retention deletes the block now.
            let (chunks, index) = block.files();
            self.file(walk, &folder.join(part::FILE), chunks)?;
            self.file(walk, &folder.join(index::FILE), index)?;
            self.file(walk, &folder.join(meta::FILE), &description)?;
            self.report.blocks += 1;
            return Ok(());
        }
        let is_gone = !path.is_dir();
        for part in [part::FILE, index::FILE, meta::FILE] {
            let file = folder.join(part);
            match walk.read(&file) {
                Ok(bytes) if !is_gone => self.file(walk, &file, &bytes)?,
                _ => walk.plan(&file, 0),
            }
        }
        match opened {
            Err(error) if !is_gone => {
                self.report.blocks += 1;
                self.report.faults.push(fault_of(&folder, &error));
            }
            _ => self.report.expired += 1,
        }
        Ok(())
    }
}

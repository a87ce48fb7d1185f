//! What the store no longer needs, and a copy under way may.
//!
//! `tar` and its like list folders and read files at different moments. Whoever lists the blocks, then a cut moves
//! hours of the log to a block, and only then reads the log, would find these hours nowhere if the segments were
//! gone. And whoever reads a block file by file would have half a block if it were deleted between two of them. So
//! segments that blocks have taken over, and blocks under the name of deleted ones, stay for a while.
//! When they are deleted, they are held open for as long again. For a tar that was given several names takes two
//! files with one inode number for one file with two names; and the system gives a number again once its file
//! is gone, so what is read first must not be followed by something new under the same number.
//! A restart meanwhile may bring back samples that retention has just deleted with their block; the next cut and
//! retention take them again.
//!
//! The oldest go first, for an older segment without a later one's record of what was forgotten would bring it back.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Clock, kill_point};
use parking_lot::Mutex;

use crate::files::{Files, View};

/// What may stay.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Nothing stays longer.
    pub age: Duration,
    /// All together take no more.
    pub bytes: u64,
}

/// A file or folder that may go.
#[derive(Debug)]
pub enum Doomed {
    /// A segment of the log.
    Segment(PathBuf),
    /// The folder of a block, under the name of a deleted one.
    Block(PathBuf),
}

struct Entry {
    doomed: Doomed,
    bytes: u64,
    since: Duration,
}

/// What stays for copies, oldest first.
pub struct Kept {
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    limit: Limit,
    entries: Mutex<VecDeque<Entry>>,
    held: Mutex<VecDeque<Held>>,
}

/// Deleted files, open.
struct Held {
    _views: Vec<View>,
    bytes: u64,
    since: Duration,
}

/// Says whether the disk has no room left.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl Kept {
    /// Starts with nothing.
    pub fn new(files: Arc<dyn Files>, clock: Arc<dyn Clock>, limit: Limit) -> Self {
        Kept {
            files,
            clock,
            limit,
            entries: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// Takes over a file or folder that the store no longer needs; it goes when it is due.
    pub fn keep(&self, doomed: Doomed, bytes: u64) {
        let since = self.clock.monotonic();
        self.entries.lock().push_back(Entry { doomed, bytes, since });
    }

    /// Removes what has stayed long enough, and the oldest while all take too much; gives the number of segments
    /// removed. What cannot be removed is tried again at the next call.
    pub fn release_due(&self) -> io::Result<usize> {
        let now = self.clock.monotonic();
        let is_old = |since: Duration| now.saturating_sub(since) >= self.limit.age;
        self.held.lock().retain(|held| !is_old(held.since));
        let aged = self.release(|entry| is_old(entry.since), self.limit.age > Duration::ZERO)?;
        let mut bytes = self.size().1;
        self.held.lock().retain(|held| {
            let is_too_much = bytes > self.limit.bytes;
            bytes -= if is_too_much { held.bytes } else { 0 };
            !is_too_much
        });
        let pressed = self.release(
            |entry| {
                let is_too_much = bytes > self.limit.bytes;
                bytes -= if is_too_much { entry.bytes } else { 0 };
                is_too_much
            },
            false,
        )?;
        Ok(aged + pressed)
    }

    /// Removes everything: the disk is full, and what is written now is worth more than a copy.
    pub fn release_all(&self) {
        let bytes = self.size().1;
        if bytes == 0 {
            return;
        }
        self.held.lock().clear();
        match self.release(|_| true, false) {
            Ok(_) => tracing::warn!(
                bytes,
                "the disk is full; what stayed for copies is deleted, and a copy under way may lack samples"
            ),
            Err(error) => {
                tracing::warn!(%error, "the disk is full, and what stayed for copies cannot be deleted")
            }
        }
    }

    fn release(&self, mut is_due: impl FnMut(&Entry) -> bool, is_held: bool) -> io::Result<usize> {
        let (mut segments, mut failure) = (0, None);
        self.entries.lock().retain(|entry| {
            // After a failure nothing younger goes, or what an older segment holds might come back.
            if !is_due(entry) || failure.is_some() {
                return true;
            }
            let views = if is_held {
                self.views(&entry.doomed)
            } else {
                Vec::new()
            };
            match self.remove(&entry.doomed) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    failure = Some(error);
                    return true;
                }
                _ => segments += usize::from(matches!(entry.doomed, Doomed::Segment(_))),
            }
            if is_held {
                self.held.lock().push_back(Held {
                    _views: views,
                    bytes: entry.bytes,
                    since: self.clock.monotonic(),
                });
            }
            false
        });
        failure.map_or(Ok(segments), Err)
    }

    /// Opens the files, as far as they can be opened: without it a rare copy is spoilt, and nothing else.
    fn views(&self, doomed: &Doomed) -> Vec<View> {
        match doomed {
            Doomed::Segment(path) => self.files.view(path).into_iter().collect(),
            Doomed::Block(dir) => {
                let names = self.files.list(dir).unwrap_or_default();
                let views = names.iter().map(|name| self.files.view(&dir.join(name)));
                views.filter_map(Result::ok).collect()
            }
        }
    }

    fn remove(&self, doomed: &Doomed) -> io::Result<()> {
        match doomed {
            Doomed::Segment(path) => {
                kill_point("wal.checkpoint.before");
                let removed = self.files.remove_file(path);
                kill_point("wal.checkpoint.after");
                removed
            }
            Doomed::Block(path) => self.files.remove_dir_all(path),
        }
    }

    /// Gives the number of files and folders, and the bytes of them and of what is deleted and still open.
    pub fn size(&self) -> (usize, u64) {
        let entries = self.entries.lock();
        let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let held: u64 = self.held.lock().iter().map(|held| held.bytes).sum();
        (entries.len(), bytes + held)
    }
}

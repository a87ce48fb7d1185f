//! Writing the log: segments one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use marketprism_model::{Labels, kill_point};

use super::record::Encoder;
use super::segment::{self, SEGMENT_HEADER_BYTES};
use super::sync::Sync;
use crate::files::{Files, LogFile, write_all};
use crate::kept::{self, Doomed, Kept};

/// A segment is closed when its samples take this many bytes. Definitions do not count: a million series must
/// not fill segment after segment with nothing but their names.
pub const SEGMENT_SAMPLE_BYTES: u64 = 64 << 20;

/// Gives the name of a segment's file.
pub fn file_name(number: u64) -> String {
    format!("{number:010}.wal")
}

/// Gives the number in the name of a segment's file.
pub fn number_in(name: &str) -> Option<u64> {
    name.strip_suffix(".wal")?.parse().ok()
}

/// A segment that is no longer written.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// Its number.
    pub number: u64,
    /// Its size.
    pub bytes: u64,
    /// The newest moment in it, `i64::MIN` without samples.
    pub newest: i64,
}

struct Current {
    closed: Closed,
    file: Arc<dyn LogFile>,
    sample_bytes: u64,
    version: u8,
}

/// The writing end of the log. One thread at a time.
pub struct Log {
    files: Arc<dyn Files>,
    dir: PathBuf,
    sync: Arc<Sync>,
    kept: Arc<Kept>,
    is_synced: bool,
    next: u64,
    /// Of the segments to come: the later one from the first histogram on.
    version: u8,
    current: Option<Current>,
    closed: Vec<Closed>,
    /// Where the samples of the append under way are collected.
    pub encoder: Encoder,
    buffer: Vec<u8>,
}

impl Log {
    /// Continues a log behind the segments that are there; the first append opens segment `next`.
    ///
    /// Segments that are no longer needed go to `kept`. `is_synced` is false when the disk is never waited for.
    pub fn new(
        files: Arc<dyn Files>,
        dir: PathBuf,
        sync: Arc<Sync>,
        kept: Arc<Kept>,
        is_synced: bool,
        next: u64,
    ) -> Self {
        Log {
            files,
            dir,
            sync,
            kept,
            is_synced,
            next,
            version: segment::VERSION_OF_NUMBERS,
            current: None,
            closed: Vec::new(),
            encoder: Encoder::default(),
            buffer: Vec::new(),
        }
    }

    /// Takes over the segments that an earlier process left.
    pub fn take_over(&mut self, closed: Vec<Closed>) {
        self.closed.extend(closed);
    }

    /// Makes sure that a segment is open, before samples are encoded for it; says whether the one before failed.
    ///
    /// Histograms need a segment of the later version: a store that never gets any can go back to a program that
    /// knows none.
    pub fn prepare(&mut self, has_histograms: bool) -> Result<bool, String> {
        let mut has_failed = false;
        if has_histograms {
            self.version = segment::VERSION;
        }
        if let Some(current) = &self.current {
            if !self.sync.is_usable(current.closed.number) {
                self.abandon();
                has_failed = true;
            } else if current.sample_bytes >= SEGMENT_SAMPLE_BYTES || current.version < self.version {
                self.rotate();
            }
        }
        if self.current.is_none() {
            self.open_segment()
                .inspect_err(|reason| self.sync.note_error(reason))?;
        }
        Ok(has_failed)
    }

    fn open_segment(&mut self) -> Result<(), String> {
        let number = self.next;
        let path = self.dir.join(file_name(number));
        let kept = Arc::clone(&self.kept);
        let told = |error: std::io::Error| {
            if kept::is_full(&error) {
                kept.release_all();
            }
            format!("{}: {error}", path.display())
        };
        let file = self.files.create(&path).map_err(told)?;
        self.next += 1;
        let written = write_all(&*file, &segment::header(number, self.version)).and_then(|()| {
            if self.is_synced {
                self.files.sync_dir(&self.dir)
            } else {
                Ok(())
            }
        });
        if let Err(error) = written {
            // A file without a whole header holds nothing; when it cannot go, replay skips it.
            let _ = self.files.remove_file(&path);
            return Err(told(error));
        }
        self.encoder.start_segment();
        self.sync.open(number, Arc::clone(&file));
        self.current = Some(Current {
            closed: Closed {
                number,
                bytes: SEGMENT_HEADER_BYTES as u64,
                newest: i64::MIN,
            },
            file,
            sample_bytes: 0,
            version: self.version,
        });
        Ok(())
    }

    /// Writes what the encoder holds; gives the position to wait for.
    ///
    /// After an error the segment is closed behind its last whole record, and the next append opens a new one.
    pub fn write(&mut self, newest: i64, labels_of: impl Fn(u32) -> Labels) -> Result<u64, String> {
        let Some(current) = &mut self.current else {
            return Err("no segment is open".to_owned());
        };
        self.buffer.clear();
        let definitions = self.encoder.take_into(labels_of, &mut self.buffer) as u64;
        let bytes = self.buffer.len() as u64;
        kill_point("wal.append.before_write");
        let written = write_all(&*current.file, &self.buffer);
        kill_point("wal.append.after_write");
        if self.buffer.capacity() > 4 << 20 {
            self.buffer = Vec::new();
        }
        let number = current.closed.number;
        if let Err(error) = written {
            let reason = format!("{}: {error}", self.dir.join(file_name(number)).display());
            self.sync.give_up(&reason);
            self.abandon();
            if kept::is_full(&error) {
                self.kept.release_all();
            }
            return Err(reason);
        }
        // The bytes are in the file even when an fsync gave it up meanwhile, so replay will see them.
        current.closed.bytes += bytes;
        current.closed.newest = current.closed.newest.max(newest);
        current.sample_bytes += bytes - definitions;
        self.sync
            .wrote(number, bytes)
            .map_err(|reason| reason.to_string())
    }

    /// Leaves a segment on which something failed, cut behind its last whole record if the disk still obeys.
    fn abandon(&mut self) {
        if let Some(current) = self.current.take() {
            let path = self.dir.join(file_name(current.closed.number));
            let is_longer = self
                .files
                .size(&path)
                .is_ok_and(|size| size > current.closed.bytes);
            if is_longer {
                // When this fails too, replay finds the torn record and reports it.
                let _ = self.files.truncate(&path, current.closed.bytes);
            }
            self.closed.push(current.closed);
        }
    }

    /// Closes the current segment; the next append opens a new one.
    pub fn rotate(&mut self) {
        if let Some(current) = self.current.take() {
            if self.is_synced {
                // A failure fails those who wait for these positions; the segment is left either way.
                let _ = self.sync.flush();
            }
            kill_point("wal.rotate");
            self.closed.push(current.closed);
        }
    }

    /// Gives the number that the next segment will have; all samples of closed segments are in lower ones.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Gives up the segments numbered below `number` of which every sample is older than `end`; they stay for a
    /// while, for copies.
    pub fn drop_before(&mut self, number: u64, end: i64) {
        let (kept, dir) = (&self.kept, &self.dir);
        self.closed.retain(|closed| {
            let is_needed = closed.number >= number || closed.newest >= end;
            if !is_needed {
                let path = dir.join(file_name(closed.number));
                kept.keep(Doomed::Segment(path), closed.bytes);
            }
            is_needed
        });
    }

    /// Gives the number of segments and of bytes in all, without those that only stay for copies.
    pub fn size(&self) -> (usize, u64) {
        let current = self.current.as_ref().map(|current| current.closed);
        let segments = self.closed.iter().copied().chain(current);
        segments.fold((0, 0), |(count, bytes), closed| (count + 1, bytes + closed.bytes))
    }

    /// Gives the folder of the segments.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

//! Writing a block: to another name, to the disk, and only then to its own name.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use marketprism_model::{Histogram, Labels, kill_point};

use super::index::{self, ChunkAt};
use super::meta::{self, Cut, Meta, Part};
use super::part;
use super::ulid::Ulid;
use crate::codec::column::PCO_COUNT_MIN;
use crate::codec::histogram_chunk::WEIGHT_MAX;
use crate::columns::{Mixed, Moments};
use crate::files::{Files, LogFile, write_all};

/// The end of the name under which a block is written.
pub const TEMPORARY: &str = ".tmp";
/// The end of the name under which a block is deleted.
pub const DELETED: &str = ".tmp-deleted";

const BUFFER_BYTES: usize = 1 << 20;

/// Collects the samples of a block, series by series in the order of labels.
pub struct Writer {
    files: Arc<dyn Files>,
    temporary: PathBuf,
    ulid: Ulid,
    cut: Cut,
    chunks: Arc<dyn LogFile>,
    buffer: Vec<u8>,
    written: u64,
    series: Vec<(Labels, Vec<ChunkAt>)>,
    columns: Vec<u64>,
    /// Columns by two independent hashes of their times: 128 bits, so that equal hashes mean equal times.
    known: HashMap<(u64, u64), u32>,
    hashers: (RandomState, RandomState),
    samples: u64,
    histograms: u64,
    min_time: i64,
    max_time: i64,
}

impl Writer {
    /// Makes the temporary folder within `dir` and the first file in it.
    pub fn new(files: Arc<dyn Files>, dir: &Path, ulid: Ulid, cut: Cut) -> io::Result<Self> {
        let temporary = dir.join(format!("{ulid}{TEMPORARY}"));
        files.create_dir_all(&temporary)?;
        let chunks = files.create(&temporary.join(part::FILE))?;
        Ok(Writer {
            files,
            temporary,
            ulid,
            cut,
            chunks,
            buffer: part::MAGIC.to_vec(),
            written: 0,
            series: Vec::new(),
            columns: Vec::new(),
            known: HashMap::new(),
            hashers: (RandomState::new(), RandomState::new()),
            samples: 0,
            histograms: 0,
            min_time: i64::MAX,
            max_time: i64::MIN,
        })
    }

    /// Adds a series, which must come after the last one in the order of labels; nothing when it is empty.
    pub fn push(&mut self, labels: Labels, samples: &Mixed) -> io::Result<()> {
        if samples.is_empty() {
            return Ok(());
        }
        debug_assert!(self.series.last().is_none_or(|(before, _)| *before < labels));
        self.samples += samples.len() as u64;
        let mut chunks = Vec::new();
        let numbers = &samples.numbers;
        if !numbers.is_empty() {
            let pieces = numbers.len().div_ceil(part::CHUNK_COUNT_MAX);
            let count = numbers.len().div_ceil(pieces);
            chunks.reserve_exact(pieces);
            for (times, values) in numbers.timestamps.chunks(count).zip(numbers.values.chunks(count)) {
                chunks.push(self.push_chunk(times, values)?);
            }
        }
        self.push_histograms(&samples.histograms, &mut chunks)?;
        for chunk in &chunks {
            self.min_time = self.min_time.min(chunk.first);
            self.max_time = self.max_time.max(chunk.last);
        }
        self.series.push((labels, chunks));
        Ok(())
    }

    /// Adds histograms in pieces that are neither too long nor too heavy.
    fn push_histograms(&mut self, moments: &Moments, chunks: &mut Vec<ChunkAt>) -> io::Result<()> {
        self.histograms += moments.len() as u64;
        let (mut times, mut piece, mut weight) = (Vec::new(), Vec::new(), 0);
        for (time, histogram) in moments {
            let heavier = weight + histogram.weight();
            if !times.is_empty() && (heavier > WEIGHT_MAX || times.len() >= part::CHUNK_COUNT_MAX) {
                chunks.push(self.push_histogram_chunk(&times, &piece)?);
                times.clear();
                piece.clear();
                weight = 0;
            }
            weight += histogram.weight();
            times.push(*time);
            piece.push(Arc::clone(histogram));
        }
        if !times.is_empty() {
            chunks.push(self.push_histogram_chunk(&times, &piece)?);
        }
        Ok(())
    }

    fn push_histogram_chunk(&mut self, times: &[i64], piece: &[Arc<Histogram>]) -> io::Result<ChunkAt> {
        let column = (times.len() >= PCO_COUNT_MIN).then(|| self.column(times));
        let offset = self.written + self.buffer.len() as u64;
        part::put_histograms(&mut self.buffer, column, times, piece);
        self.pushed(times, offset)
    }

    fn push_chunk(&mut self, times: &[i64], values: &[f64]) -> io::Result<ChunkAt> {
        let column = (times.len() >= PCO_COUNT_MIN).then(|| self.column(times));
        let offset = self.written + self.buffer.len() as u64;
        match column {
            Some(column) => part::put_values(&mut self.buffer, column, values),
            None => part::put_packed(&mut self.buffer, times, values),
        }
        self.pushed(times, offset)
    }

    /// Ends a chunk: makes room in the buffer, and gives its place.
    fn pushed(&mut self, times: &[i64], offset: u64) -> io::Result<ChunkAt> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(ChunkAt {
            first: times[0],
            last: times[times.len() - 1],
            offset,
        })
    }

    fn column(&mut self, times: &[i64]) -> u32 {
        let key = (self.hashers.0.hash_one(times), self.hashers.1.hash_one(times));
        if let Some(number) = self.known.get(&key) {
            return *number;
        }
        let number = self.columns.len() as u32;
        self.columns.push(self.written + self.buffer.len() as u64);
        part::put_times(&mut self.buffer, times);
        self.known.insert(key, number);
        number
    }

    fn flush(&mut self) -> io::Result<()> {
        write_all(&*self.chunks, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Says whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Forgets what was written.
    pub fn discard(self) {
        // What stays is removed when the store is opened next.
        let _ = self.files.remove_dir_all(&self.temporary);
    }

    /// Brings everything to the disk and gives the block its name; gives its folder.
    ///
    /// After an error nothing of the block is believed, and the temporary folder is removed.
    pub fn finish(mut self) -> io::Result<PathBuf> {
        let finished = self.write_and_rename();
        if finished.is_err() {
            self.discard();
        }
        finished
    }

    fn write_and_rename(&mut self) -> io::Result<PathBuf> {
        self.flush()?;
        self.chunks.sync()?;
        let index = index::encode(&self.series, &self.columns);
        self.write_file(index::FILE, &index)?;
        let meta = Meta {
            version: meta::version_with(self.histograms),
            ulid: self.ulid,
            min_time: self.min_time,
            max_time: self.max_time,
            samples: self.samples,
            histograms: self.histograms,
            series: self.series.len() as u64,
            cut: self.cut,
            chunks: Part { bytes: self.written },
            index: Part {
                bytes: index.len() as u64,
            },
        };
        self.write_file(meta::FILE, &meta::encode(&meta))?;
        kill_point("block.tmp_written");
        self.files.sync_dir(&self.temporary)?;
        let parent = self.temporary.parent().expect("made by joining a name");
        let dir = parent.join(self.ulid.to_string());
        kill_point("block.before_rename");
        self.files.rename(&self.temporary, &dir)?;
        kill_point("block.after_rename");
        self.files.sync_dir(parent)?;
        Ok(dir)
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.files.create(&self.temporary.join(name))?;
        write_all(&*file, bytes)?;
        file.sync()
    }
}

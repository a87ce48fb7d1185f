//! Reading a block, however damaged.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use marketprism_model::series::ReadError;
use marketprism_model::{Labels, Matcher};

use super::index::{self, Index, Sections, Texts};
use super::meta::{self, Meta};
use super::ulid::Ulid;
use super::{BlockError, part};
use crate::codec::Damaged;
use crate::columns::{self, Mixed};
use crate::files::{Files, View};

/// A reading keeps no more times than this.
const TIMES_MAX: usize = 1 << 18;

/// The columns of times that one reading has decoded: all series of a target point to the same ones.
#[derive(Default)]
pub struct Times {
    columns: HashMap<(Ulid, u64), Vec<i64>>,
    count: usize,
}

impl Times {
    fn column(
        &mut self,
        block: Ulid,
        number: u64,
        decode: impl FnOnce() -> Result<Vec<i64>, Damaged>,
    ) -> Result<&[i64], Damaged> {
        if self.count > TIMES_MAX {
            self.columns.clear();
            self.count = 0;
        }
        match self.columns.entry((block, number)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let column = decode()?;
                self.count += column.len();
                Ok(place.insert(column))
            }
        }
    }
}

/// A block that is open for reading. Its files stay readable after it was deleted.
pub struct Block {
    meta: Meta,
    dir: PathBuf,
    chunks: View,
    index: View,
    sections: OnceLock<Result<Sections, Damaged>>,
    is_damaged: AtomicBool,
}

impl Block {
    /// Opens the block in a folder: reads its description and checks that the files are whole.
    ///
    /// The checksums of the index are looked at when it is first used, those of chunks when they are read: a
    /// month of blocks must not be read through before the first alert can be judged.
    pub fn open(files: &dyn Files, dir: &Path) -> Result<Self, BlockError> {
        let io = |file| move |error| BlockError::Io { file, error };
        let length = files.size(&dir.join(meta::FILE)).map_err(io(meta::FILE))?;
        if length > meta::BYTES_MAX as u64 {
            return Err(BlockError::Damaged {
                file: meta::FILE,
                damage: Damaged("too long"),
            });
        }
        let meta = meta::decode(&files.read(&dir.join(meta::FILE)).map_err(io(meta::FILE))?)?;
        let whole = |file: &'static str, magic: &[u8; 8], bytes: u64| {
            let view = files.view(&dir.join(file)).map_err(io(file))?;
            if let Some(version) = view.get(7).filter(|version| **version > magic[7])
                && view.starts_with(&magic[..7])
            {
                return Err(BlockError::Version {
                    file,
                    version: u32::from(*version),
                    known: u32::from(magic[7]),
                });
            }
            let damage = match (view.len() as u64 == bytes, view.starts_with(magic)) {
                (true, true) => return Ok(view),
                (false, _) => Damaged("of another length than it was written with"),
                (_, false) => Damaged("name or version"),
            };
            Err(BlockError::Damaged { file, damage })
        };
        Ok(Block {
            chunks: whole(part::FILE, &part::MAGIC, meta.chunks.bytes)?,
            index: whole(index::FILE, &index::MAGIC, meta.index.bytes)?,
            dir: dir.to_owned(),
            meta,
            sections: OnceLock::new(),
            is_damaged: AtomicBool::new(false),
        })
    }

    /// Gives the block's description.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Gives the block's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives the size of its files in bytes.
    pub fn bytes(&self) -> u64 {
        self.meta.chunks.bytes + self.meta.index.bytes
    }

    /// Says whether the block has samples in a range, both ends included.
    pub fn overlaps(&self, start: i64, end: i64) -> bool {
        self.meta.min_time <= end && start <= self.meta.max_time
    }

    /// Says whether damage was found in it.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    fn index(&self) -> Result<Index<'_>, Damaged> {
        let sections = self.sections.get_or_init(|| Sections::check(&self.index));
        (*sections)?.index(&self.index)
    }

    /// Notes damage, and turns it into the error of the read that found it.
    fn damage(&self, file: &'static str) -> impl Fn(Damaged) -> ReadError + '_ {
        move |damage| {
            if !self.is_damaged.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    error = %BlockError::Damaged { file, damage },
                    block = %self.meta.ulid,
                    "block is damaged and left out from now on"
                );
            }
            ReadError::Corrupt {
                block: self.meta.ulid.to_string(),
                reason: format!("{file} is {damage}"),
            }
        }
    }

    /// Gives the series that all matchers keep, sorted by labels.
    pub fn choose(&self, matchers: &[Matcher]) -> Result<Vec<(Labels, u32)>, ReadError> {
        self.index()
            .and_then(|index| {
                let mut texts = Texts::default();
                let ordinals = index.choose(matchers)?;
                let labelled = |ordinal| Ok((index.labels(ordinal, &mut texts)?, ordinal));
                ordinals.into_iter().map(labelled).collect()
            })
            .map_err(self.damage(index::FILE))
    }

    /// Gives all label names, sorted.
    pub fn label_names(&self) -> Result<Vec<String>, ReadError> {
        let names = self.index().and_then(|index| index.label_names());
        names.map_err(self.damage(index::FILE))
    }

    /// Gives all values of a label, sorted.
    pub fn label_values(&self, name: &str) -> Result<Vec<String>, ReadError> {
        let values = self.index().and_then(|index| index.label_values(name));
        values.map_err(self.damage(index::FILE))
    }

    /// Appends the samples of a series from `start` to `end` to `out`. After an error `out` is as it was.
    pub fn read(
        &self,
        ordinal: u32,
        start: i64,
        end: i64,
        times: &mut Times,
        out: &mut Mixed,
    ) -> Result<(), ReadError> {
        let index = self.index().map_err(self.damage(index::FILE))?;
        let chunks = index.chunks(ordinal).map_err(self.damage(index::FILE))?;
        let (from, histograms_from) = (out.numbers.len(), out.histograms.len());
        for chunk in chunks {
            if chunk.first > end || chunk.last < start {
                continue;
            }
            let (chunk_from, side_from) = (out.numbers.len(), out.histograms.len());
            let decoded = part::get(&self.chunks, chunk.offset)
                .and_then(|part| {
                    let column = match part.column() {
                        Some(number) => times.column(self.meta.ulid, number, || {
                            part::get(&self.chunks, index.column(number)?)?.times()
                        })?,
                        None => &[],
                    };
                    part.samples_into(column, end, out)
                })
                .and_then(|()| {
                    let (times, side) = (&out.numbers.timestamps, &out.histograms);
                    let is_behind = |at: usize| side.get(at - 1).map(|m| m.0) < side.get(at).map(|m| m.0);
                    let is_ordered = (chunk_from == from
                        || chunk_from == times.len()
                        || times[chunk_from - 1] < times[chunk_from])
                        && (side_from == histograms_from || side_from == side.len() || is_behind(side_from));
                    is_ordered.then_some(()).ok_or(Damaged("chunks out of order"))
                });
            if let Err(damage) = decoded {
                out.numbers.truncate(from);
                out.histograms.truncate(histograms_from);
                return Err(self.damage(part::FILE)(damage));
            }
        }
        out.numbers.clip(from, start, end);
        if out.histograms.len() > histograms_from {
            columns::clip_moments(&mut out.histograms, histograms_from, start, end);
        }
        Ok(())
    }

    /// Gives the bytes of `chunks` and `index`.
    pub fn files(&self) -> (&[u8], &[u8]) {
        (&self.chunks, &self.index)
    }

    /// Compares everything with its checksums; with `decodes` reads every sample too, and counts them.
    ///
    /// Unlike a reading it neither leaves the block out afterwards nor logs.
    pub fn check(&self, decodes: bool) -> Result<(), BlockError> {
        let damaged = |file| move |damage| BlockError::Damaged { file, damage };
        let index = self.index().map_err(damaged(index::FILE))?;
        let (mut times, mut mixed, mut samples) = (Times::default(), Mixed::default(), 0);
        for ordinal in 0..index.series_count() as u32 {
            for chunk in index.chunks(ordinal).map_err(damaged(index::FILE))? {
                mixed.clear();
                let checked = part::get(&self.chunks, chunk.offset).and_then(|part| {
                    let column = match part.column() {
                        Some(number) => times.column(self.meta.ulid, number, || {
                            part::get(&self.chunks, index.column(number)?)?.times()
                        })?,
                        None => &[],
                    };
                    match decodes {
                        true => part.samples_into(column, i64::MAX, &mut mixed),
                        false => Ok(()),
                    }
                });
                checked.map_err(damaged(part::FILE))?;
                samples += mixed.len() as u64;
            }
        }
        if decodes && samples != self.meta.samples {
            return Err(damaged(part::FILE)(Damaged(
                "not the number of samples that the block was written with",
            )));
        }
        Ok(())
    }

    /// Counts the series by its index.
    pub fn series_count(&self) -> Result<usize, ReadError> {
        let count = self.index().map(|index| index.series_count());
        count.map_err(self.damage(index::FILE))
    }
}

/// Reads everything in three files given as bytes, as a query would; gives the samples found.
///
/// Fuzz target: any bytes are safe. `chunks` and `index` are read as they are, whatever `meta` says.
pub fn read_all(index_bytes: &[u8], chunks: &[u8]) -> Result<Vec<(Labels, Mixed)>, Damaged> {
    let index = Sections::check(index_bytes)?.index(index_bytes)?;
    let (mut texts, mut all) = (Texts::default(), Vec::new());
    for ordinal in index.choose(&[])? {
        let mut mixed = Mixed::default();
        for chunk in index.chunks(ordinal)? {
            let part = part::get(chunks, chunk.offset)?;
            let times = match part.column() {
                Some(number) => part::get(chunks, index.column(number)?)?.times()?,
                None => Vec::new(),
            };
            part.samples_into(&times, i64::MAX, &mut mixed)?;
        }
        all.push((index.labels(ordinal, &mut texts)?, mixed));
    }
    for name in index.label_names()? {
        index.label_values(&name)?;
    }
    Ok(all)
}

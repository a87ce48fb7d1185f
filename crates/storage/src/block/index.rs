//! The file `index`: symbols, series, postings, columns; each a section with its own checksum.
//!
//! Written whole from what the writer collected; read where it lies, through bounds-checked look-ups, without a
//! copy in memory.

use std::collections::BTreeMap;

use marketprism_model::{Labels, Matcher};

use crate::codec::Damaged;
use crate::codec::varint::{self, Reader};
use crate::head::index::compared_words;
use crate::head::postings;

/// The name of the file.
pub const FILE: &str = "index";
/// First bytes of the file: a name, and the version of the format.
pub const MAGIC: [u8; 8] = *b"MPIDX\0\0\x01";

const SECTION_COUNT: usize = 4;
const FOOTER_BYTES: usize = SECTION_COUNT * 20 + 4;
/// Every so many symbols one is written whole.
const SYMBOL_RUN: usize = 16;

/// Where a chunk lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkAt {
    /// The moment of its first sample.
    pub first: i64,
    /// The moment of its last sample.
    pub last: i64,
    /// Its place in the file `chunks`.
    pub offset: u64,
}

fn put_u32(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&(value as u32).to_le_bytes());
}

/// Writes the file. `series` are sorted by labels; `columns` are the offsets of the columns of times.
pub fn encode(series: &[(Labels, Vec<ChunkAt>)], columns: &[u64]) -> Vec<u8> {
    let mut symbols: BTreeMap<&str, u32> = BTreeMap::new();
    for (labels, _) in series {
        for (name, value) in labels {
            symbols.insert(name, 0);
            symbols.insert(value, 0);
        }
    }
    symbols.values_mut().zip(0..).for_each(|(id, next)| *id = next);
    let mut offsets = Vec::new();
    columns
        .iter()
        .for_each(|offset| offsets.extend_from_slice(&offset.to_le_bytes()));
    let sections = [
        encode_symbols(symbols.keys().copied()),
        encode_series(series, &symbols),
        encode_postings(series, &symbols),
        offsets,
    ];
    let (mut out, mut footer) = (MAGIC.to_vec(), Vec::new());
    for section in sections {
        footer.extend_from_slice(&(out.len() as u64).to_le_bytes());
        footer.extend_from_slice(&(section.len() as u64).to_le_bytes());
        footer.extend_from_slice(&crc32fast::hash(&section).to_le_bytes());
        out.extend_from_slice(&section);
    }
    let crc = crc32fast::hash(&footer);
    out.extend_from_slice(&footer);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn encode_symbols<'a>(symbols: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let (mut restarts, mut data, mut last, mut count) = (Vec::new(), Vec::new(), "", 0);
    for symbol in symbols {
        let is_restart = count % SYMBOL_RUN == 0;
        let shared = if is_restart {
            put_u32(&mut restarts, data.len());
            0
        } else {
            let same = last.bytes().zip(symbol.bytes()).take_while(|(a, b)| a == b);
            same.count()
        };
        varint::put_u64(&mut data, shared as u64);
        varint::put_bytes(&mut data, &symbol.as_bytes()[shared..]);
        (last, count) = (symbol, count + 1);
    }
    let mut out = Vec::with_capacity(4 + restarts.len() + data.len());
    put_u32(&mut out, count);
    out.extend_from_slice(&restarts);
    out.extend_from_slice(&data);
    out
}

fn encode_series(series: &[(Labels, Vec<ChunkAt>)], symbols: &BTreeMap<&str, u32>) -> Vec<u8> {
    let (mut offsets, mut data) = (Vec::new(), Vec::new());
    let (mut last_first, mut last_offset) = (0i64, 0u64);
    for (labels, chunks) in series {
        put_u32(&mut offsets, data.len());
        varint::put_u64(&mut data, labels.len() as u64);
        for (name, value) in labels {
            varint::put_u64(&mut data, u64::from(symbols[name]));
            varint::put_u64(&mut data, u64::from(symbols[value]));
        }
        varint::put_u64(&mut data, chunks.len() as u64);
        (last_first, last_offset) = (0, 0);
        for chunk in chunks {
            varint::put_i64(&mut data, chunk.first.wrapping_sub(last_first));
            varint::put_u64(&mut data, chunk.last.wrapping_sub(chunk.first) as u64);
            varint::put_u64(&mut data, chunk.offset.wrapping_sub(last_offset));
            (last_first, last_offset) = (chunk.first, chunk.offset);
        }
    }
    let _ = (last_first, last_offset);
    let mut out = Vec::with_capacity(4 + offsets.len() + data.len());
    put_u32(&mut out, series.len());
    out.extend_from_slice(&offsets);
    out.extend_from_slice(&data);
    out
}

fn encode_postings(series: &[(Labels, Vec<ChunkAt>)], symbols: &BTreeMap<&str, u32>) -> Vec<u8> {
    let mut lists: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
    for (ordinal, (labels, _)) in series.iter().enumerate() {
        for (name, value) in labels {
            let list = lists.entry((symbols[name], symbols[value])).or_default();
            list.push(ordinal as u32);
        }
    }
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for ((name, value), list) in &lists {
        put_u32(&mut table, *name as usize);
        put_u32(&mut table, *value as usize);
        put_u32(&mut table, data.len());
        varint::put_u64(&mut data, list.len() as u64);
        let mut last = 0;
        for ordinal in list {
            varint::put_u64(&mut data, u64::from(ordinal - last));
            last = *ordinal;
        }
    }
    let mut out = Vec::with_capacity(4 + table.len() + data.len());
    put_u32(&mut out, lists.len());
    out.extend_from_slice(&table);
    out.extend_from_slice(&data);
    out
}

/// The index where it lies.
#[derive(Clone, Copy)]
pub struct Index<'a> {
    symbol_count: usize,
    symbol_restarts: &'a [u8],
    symbol_data: &'a [u8],
    series_count: usize,
    series_offsets: &'a [u8],
    series_data: &'a [u8],
    posting_count: usize,
    posting_table: &'a [u8],
    posting_data: &'a [u8],
    columns: &'a [u8],
}

fn u32_at(table: &[u8], at: usize) -> Result<usize, Damaged> {
    let bytes = table.get(at * 4..at * 4 + 4).ok_or(Damaged("table too short"))?;
    Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")) as usize)
}

/// Splits a section into its count, its table of `width` bytes an entry, and the data behind it.
fn table(
    section: &[u8],
    entries: impl Fn(usize) -> usize,
    width: usize,
) -> Result<(usize, &[u8], &[u8]), Damaged> {
    let count = u32_at(section, 0)?;
    let bytes = entries(count)
        .checked_mul(width)
        .ok_or(Damaged("table too long"))?;
    let (table, data) = section[4..]
        .split_at_checked(bytes)
        .ok_or(Damaged("table too short"))?;
    Ok((count, table, data))
}

/// Where the sections lie; made once a file, after every checksum was looked at.
#[derive(Clone, Copy)]
pub struct Sections([(usize, usize); SECTION_COUNT]);

impl Sections {
    /// Reads the footer and checks every section.
    pub fn check(file: &[u8]) -> Result<Self, Damaged> {
        if !file.starts_with(&MAGIC) {
            return Err(Damaged("name or version"));
        }
        let footer_at = file
            .len()
            .checked_sub(FOOTER_BYTES)
            .filter(|at| *at >= MAGIC.len())
            .ok_or(Damaged("ends too early"))?;
        let footer = &file[footer_at..];
        let mut reader = Reader::new(footer);
        let mut sections = [(0, 0); SECTION_COUNT];
        for section in &mut sections {
            let (offset, length, crc) = (reader.u64()?, reader.u64()?, reader.u32()?);
            let end = offset.checked_add(length).filter(|end| *end <= footer_at as u64);
            let end = end.ok_or(Damaged("section behind the end"))? as usize;
            if crc32fast::hash(&file[offset as usize..end]) != crc {
                return Err(Damaged("checksum of a section"));
            }
            *section = (offset as usize, end);
        }
        if reader.u32()? != crc32fast::hash(&footer[..FOOTER_BYTES - 4]) {
            return Err(Damaged("checksum of the footer"));
        }
        let sections = Sections(sections);
        sections.index(file)?;
        Ok(sections)
    }

    /// Gives the index in the file that was checked.
    pub fn index<'a>(&self, file: &'a [u8]) -> Result<Index<'a>, Damaged> {
        let section = |n: usize| {
            let (from, to) = self.0[n];
            file.get(from..to).ok_or(Damaged("section behind the end"))
        };
        let (symbol_count, symbol_restarts, symbol_data) =
            table(section(0)?, |count| count.div_ceil(SYMBOL_RUN), 4)?;
        let (series_count, series_offsets, series_data) = table(section(1)?, |count| count, 4)?;
        let (posting_count, posting_table, posting_data) = table(section(2)?, |count| count, 12)?;
        Ok(Index {
            symbol_count,
            symbol_restarts,
            symbol_data,
            series_count,
            series_offsets,
            series_data,
            posting_count,
            posting_table,
            posting_data,
            columns: section(3)?,
        })
    }
}

impl<'a> Index<'a> {
    /// Counts the series.
    pub fn series_count(&self) -> usize {
        self.series_count
    }

    /// Gives the offset of a column of times in the file `chunks`.
    pub fn column(&self, number: u64) -> Result<u64, Damaged> {
        let at = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_mul(8));
        let bytes = at
            .and_then(|at| self.columns.get(at..at.checked_add(8)?))
            .ok_or(Damaged("unknown column"))?;
        Ok(u64::from_le_bytes(
            bytes.try_into().expect("eight bytes were taken"),
        ))
    }

    fn symbol_run(&self, run: usize) -> Result<Reader<'a>, Damaged> {
        let from = u32_at(self.symbol_restarts, run)?;
        let data = self
            .symbol_data
            .get(from..)
            .ok_or(Damaged("symbol behind the end"))?;
        Ok(Reader::new(data))
    }

    fn next_symbol(reader: &mut Reader<'_>, symbol: &mut Vec<u8>) -> Result<(), Damaged> {
        let shared = reader.var_u64()?;
        if shared > symbol.len() as u64 {
            return Err(Damaged("symbol shares more than there is"));
        }
        symbol.truncate(shared as usize);
        symbol.extend_from_slice(reader.prefixed()?);
        Ok(())
    }

    /// Gives a symbol's text.
    fn symbol(&self, id: usize) -> Result<String, Damaged> {
        if id >= self.symbol_count {
            return Err(Damaged("unknown symbol"));
        }
        let (mut reader, mut symbol) = (self.symbol_run(id / SYMBOL_RUN)?, Vec::new());
        for _ in 0..=id % SYMBOL_RUN {
            Self::next_symbol(&mut reader, &mut symbol)?;
        }
        String::from_utf8(symbol).map_err(|_| Damaged("text is not UTF-8"))
    }

    /// Finds a text's symbol.
    fn find_symbol(&self, text: &str) -> Result<Option<usize>, Damaged> {
        let (mut low, mut high) = (0, self.symbol_count.div_ceil(SYMBOL_RUN));
        let mut symbol = Vec::new();
        while low < high {
            let middle = low + (high - low) / 2;
            symbol.clear();
            Self::next_symbol(&mut self.symbol_run(middle)?, &mut symbol)?;
            if symbol.as_slice() <= text.as_bytes() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(run) = low.checked_sub(1) else {
            return Ok(None);
        };
        let mut reader = self.symbol_run(run)?;
        symbol.clear();
        let first = run * SYMBOL_RUN;
        for id in first..self.symbol_count.min(first + SYMBOL_RUN) {
            Self::next_symbol(&mut reader, &mut symbol)?;
            if symbol == text.as_bytes() {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn series(&self, ordinal: u32) -> Result<Reader<'a>, Damaged> {
        let from = u32_at(self.series_offsets, ordinal as usize)?;
        let data = self
            .series_data
            .get(from..)
            .ok_or(Damaged("series behind the end"))?;
        Ok(Reader::new(data))
    }

    /// Gives the labels of a series; `texts` keeps symbols that were looked up.
    pub fn labels(&self, ordinal: u32, texts: &mut Texts) -> Result<Labels, Damaged> {
        let mut reader = self.series(ordinal)?;
        let count = reader.count(2)?;
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            for _ in 0..2 {
                let id = reader.var_u64()? as usize;
                if !texts.0.contains_key(&id) {
                    texts.0.insert(id, self.symbol(id)?);
                }
                ids.push(id);
            }
        }
        let pairs = || {
            ids.chunks_exact(2)
                .map(|pair| (&*texts.0[&pair[0]], &*texts.0[&pair[1]]))
        };
        let is_sorted = pairs().is_sorted_by(|a, b| a.0 < b.0);
        if !is_sorted || pairs().any(|(_, value)| value.is_empty()) {
            return Err(Damaged("labels out of order"));
        }
        Ok(Labels::from_sorted(pairs()))
    }

    /// Gives the chunks of a series, oldest first.
    pub fn chunks(&self, ordinal: u32) -> Result<Vec<ChunkAt>, Damaged> {
        let mut reader = self.series(ordinal)?;
        for _ in 0..reader.count(2)? * 2 {
            reader.var_u64()?;
        }
        let count = reader.count(3)?;
        let (mut chunks, mut first, mut offset) = (Vec::with_capacity(count), 0i64, 0u64);
        for _ in 0..count {
            first = first.wrapping_add(reader.var_i64()?);
            let last = first.wrapping_add(reader.var_u64()? as i64);
            offset = offset.wrapping_add(reader.var_u64()?);
            chunks.push(ChunkAt { first, last, offset });
        }
        Ok(chunks)
    }

    fn posting(&self, at: usize) -> Result<(usize, usize, usize), Damaged> {
        let part = |n| u32_at(self.posting_table, at * 3 + n);
        Ok((part(0)?, part(1)?, part(2)?))
    }

    /// Gives the place of the first posting that is not before (name, value).
    fn posting_bound(&self, name: usize, value: usize) -> Result<usize, Damaged> {
        let (mut low, mut high) = (0, self.posting_count);
        while low < high {
            let middle = low + (high - low) / 2;
            let (other_name, other_value, _) = self.posting(middle)?;
            if (other_name, other_value) < (name, value) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn posting_list(&self, offset: usize) -> Result<Vec<u32>, Damaged> {
        let data = self
            .posting_data
            .get(offset..)
            .ok_or(Damaged("postings behind the end"))?;
        let mut reader = Reader::new(data);
        let count = reader.count(1)?;
        let (mut list, mut last) = (Vec::with_capacity(count), 0u64);
        for at in 0..count {
            let step = reader.var_u64()?;
            last = last.checked_add(step).ok_or(Damaged("postings out of order"))?;
            if last >= self.series_count as u64 || (at > 0 && step == 0) {
                return Err(Damaged("postings out of order"));
            }
            list.push(last as u32);
        }
        Ok(list)
    }

    /// Gives the values of a label with the offset of their postings, in the order of symbols.
    fn values_of(&self, name: usize) -> Result<Vec<(usize, usize)>, Damaged> {
        let (mut at, mut values) = (self.posting_bound(name, 0)?, Vec::new());
        while at < self.posting_count {
            let (other, value, offset) = self.posting(at)?;
            if other != name {
                break;
            }
            values.push((value, offset));
            at += 1;
        }
        Ok(values)
    }

    /// Gives the lists of the values that the matcher keeps, or those that it does not.
    fn lists(&self, matcher: &Matcher, is_kept: bool) -> Result<Vec<Vec<u32>>, Damaged> {
        let Some(name) = self.find_symbol(&matcher.name)? else {
            return Ok(Vec::new());
        };
        let mut lists = Vec::new();
        if let Some(words) = compared_words(matcher)
            && is_kept != matcher.op.is_negative()
        {
            for word in words {
                let Some(value) = self.find_symbol(word)? else {
                    continue;
                };
                let at = self.posting_bound(name, value)?;
                if at < self.posting_count
                    && let (other_name, other_value, offset) = self.posting(at)?
                    && (other_name, other_value) == (name, value)
                {
                    lists.push(self.posting_list(offset)?);
                }
            }
            return Ok(lists);
        }
        for (value, offset) in self.values_of(name)? {
            if matcher.matches(&self.symbol(value)?) == is_kept {
                lists.push(self.posting_list(offset)?);
            }
        }
        Ok(lists)
    }

    /// Gives the series that all matchers keep, in the order of labels.
    pub fn choose(&self, matchers: &[Matcher]) -> Result<Vec<u32>, Damaged> {
        let mut chosen: Option<Vec<u32>> = None;
        for matcher in matchers.iter().filter(|m| !m.matches_empty()) {
            let lists = self.lists(matcher, true)?;
            let union = postings::union(lists.iter().map(Vec::as_slice));
            match &mut chosen {
                None => chosen = Some(union),
                Some(chosen) => postings::intersect(chosen, &union),
            }
        }
        let mut chosen = chosen.unwrap_or_else(|| (0..self.series_count as u32).collect());
        for matcher in matchers.iter().filter(|m| m.matches_empty()) {
            for list in self.lists(matcher, false)? {
                postings::subtract(&mut chosen, &list);
            }
        }
        Ok(chosen)
    }

    /// Gives all label names, sorted.
    pub fn label_names(&self) -> Result<Vec<String>, Damaged> {
        let (mut names, mut at) = (Vec::new(), 0);
        while at < self.posting_count {
            let (name, _, _) = self.posting(at)?;
            names.push(self.symbol(name)?);
            at = self.posting_bound(name + 1, 0)?.max(at + 1);
        }
        Ok(names)
    }

    /// Gives all values of a label, sorted.
    pub fn label_values(&self, name: &str) -> Result<Vec<String>, Damaged> {
        let Some(name) = self.find_symbol(name)? else {
            return Ok(Vec::new());
        };
        let values = self.values_of(name)?;
        values.into_iter().map(|(value, _)| self.symbol(value)).collect()
    }
}

/// Symbols that were looked up already.
#[derive(Default)]
pub struct Texts(hashbrown::HashMap<usize, String>);

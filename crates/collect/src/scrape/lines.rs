//! What a target's lines were called last time: raw series bytes → the store's name.
//!
//! A target says the same lines in the same order at every scrape, so the next line is guessed: if the bytes are
//! those that followed last time, neither syntax nor labels are looked at again, and only the value is read. A
//! wrong guess costs one hash look-up, an unknown line waits until the whole body has proved readable.
//!
//! Lines that relabelling drops are kept, too, for dropping must not cost more than taking. Lines that a successful
//! scrape did not hold are forgotten after their series got its mark.
//!
//! Invariant: a body that cannot be read leaves no trace here but for the scrape's number.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use marketprism_model::sample::stale_nan;
use marketprism_model::{Histogram, RefHistogram, RefSample, SeriesRef, Timestamp};

use crate::exposition::{Entry, Format, MetricKind, NativeSample, ParseError, Parser, Sample};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Waits for its labels.
    Fresh,
    /// Relabelling drops it.
    Dropped,
    /// The store knows it.
    Named,
}

struct Line {
    start: u32,
    length: u32,
    series: SeriesRef,
    /// The number of the scrape that held it last.
    seen: u32,
    kind: MetricKind,
    state: State,
    /// Whether a mark is due when it vanishes.
    is_live: bool,
}

/// A line seen for the first time.
#[derive(Clone, Copy, Debug)]
pub(super) struct FreshLine {
    line: u32,
    value: f64,
    timestamp: Timestamp,
    /// Where it stands in the body, for messages.
    pub(super) offset: usize,
    /// The place of its histogram, when it is no number.
    histogram: Option<u32>,
}

/// A sample under the store's name.
pub(super) enum NamedSample {
    Number(RefSample),
    Histogram(RefHistogram),
}

/// What one body held. Its buffers are used again.
#[derive(Default, Debug)]
pub(super) struct Reading {
    /// Samples of known series.
    pub(super) samples: Vec<RefSample>,
    /// Histograms of known series.
    pub(super) histograms: Vec<RefHistogram>,
    /// Histograms of lines that need a name.
    fresh_histograms: Vec<Arc<Histogram>>,
    /// Lines that need a name.
    pub(super) fresh: Vec<FreshLine>,
    /// Samples in the body.
    pub(super) scraped: usize,
    /// Samples that relabelling kept, as far as it is known.
    pub(super) kept: usize,
    /// Second samples of a line without a time of their own.
    pub(super) duplicates: usize,
    /// Changes when any comment does.
    pub(super) comments_hash: u64,
}

impl Reading {
    pub(super) fn clear(&mut self) {
        self.clear_samples();
        self.fresh.clear();
        self.fresh_histograms.clear();
        (self.scraped, self.kept, self.duplicates, self.comments_hash) = (0, 0, 0, 0);
    }
}

impl Reading {
    /// Forgets the samples, and nothing else.
    pub(super) fn clear_samples(&mut self) {
        self.samples.clear();
        self.histograms.clear();
    }

    /// Takes a sample that got its name.
    pub(super) fn push(&mut self, sample: NamedSample) {
        match sample {
            NamedSample::Number(sample) => self.samples.push(sample),
            NamedSample::Histogram(sample) => self.histograms.push(sample),
        }
    }
}

/// How samples with times of their own are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeRules {
    /// The moment of the scrape.
    pub(super) at: Timestamp,
    pub(super) honors_timestamps: bool,
    pub(super) tracks_staleness: bool,
}

impl TimeRules {
    /// Gives every sample the moment of the scrape.
    pub(super) const fn plain(at: Timestamp) -> Self {
        TimeRules {
            at,
            honors_timestamps: false,
            tracks_staleness: false,
        }
    }
}

#[derive(Default)]
pub(super) struct LineCache {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Lines in the order of the last successful scrape, dropped ones included.
    order: Vec<u32>,
    next_order: Vec<u32>,
    scrape: u32,
    /// Whether the last scrape was taken, so that its series have not ended yet.
    has_live: bool,
    /// As many lines were known before the body now being read.
    settled: usize,
    settled_bytes: usize,
}

impl LineCache {
    /// Reads a body. On an error the caller must call [`LineCache::abandon`].
    pub(super) fn read(
        &mut self,
        body: &[u8],
        format: Format,
        times: TimeRules,
        reading: &mut Reading,
    ) -> Result<(), ParseError> {
        self.scrape = self.scrape.wrapping_add(1);
        self.next_order.clear();
        (self.settled, self.settled_bytes) = (self.lines.len(), self.bytes.len());
        let mut parser = Parser::new(body, format);
        let mut guess = 0;
        loop {
            if let Some(&id) = self.order.get(guess)
                && let Some(sample) = parser.next_of(self.raw(id))
            {
                guess += 1;
                self.take(id, sample, times, reading, parser.position());
                continue;
            }
            match parser.next_entry()? {
                Some(Entry::Sample(sample)) => {
                    let id = self.find_or_add(sample.series, parser.kind());
                    guess = self.guess_after(id, guess);
                    self.take(id, sample, times, reading, parser.position());
                }
                Some(comment) => reading.comments_hash = self.mix_comment(reading.comments_hash, &comment),
                None => return Ok(()),
            }
        }
    }

    /// Takes the native histograms of the body whose text was just read. Their series are lines of the memory too.
    pub(super) fn read_natives(&mut self, natives: &[NativeSample], times: TimeRules, reading: &mut Reading) {
        for native in natives {
            let guess = self.next_order.len();
            let id = match self.order.get(guess) {
                Some(&id) if self.raw(id) == native.series => id,
                _ => self.find_or_add(&native.series, MetricKind::Histogram),
            };
            let sample = Sample {
                series: &[],
                value: stale_nan(),
                timestamp_ms: native.timestamp_ms,
            };
            let (known, fresh) = (reading.samples.len(), reading.fresh.len());
            self.take(id, sample, times, reading, 0);
            // A mark is a number, and taken.
            let Some(histogram) = &native.histogram else {
                continue;
            };
            // What was taken as a number is the histogram, in its place.
            if let Some(sample) = (reading.samples.len() > known)
                .then(|| reading.samples.pop())
                .flatten()
            {
                reading.histograms.push(RefHistogram {
                    series: sample.series,
                    timestamp: sample.timestamp,
                    histogram: Arc::clone(histogram),
                });
            } else if let Some(line) = reading.fresh[fresh..].first_mut() {
                line.histogram = Some(reading.fresh_histograms.len() as u32);
                reading.fresh_histograms.push(Arc::clone(histogram));
            }
        }
    }

    #[inline]
    fn raw(&self, id: u32) -> &[u8] {
        let line = &self.lines[id as usize];
        &self.bytes[line.start as usize..][..line.length as usize]
    }

    #[inline]
    fn take(&mut self, id: u32, sample: Sample<'_>, times: TimeRules, reading: &mut Reading, end: usize) {
        reading.scraped += 1;
        let own_time = sample.timestamp_ms.filter(|_| times.honors_timestamps);
        let line = &mut self.lines[id as usize];
        let is_repeated = line.seen == self.scrape;
        line.seen = self.scrape;
        if !is_repeated {
            self.next_order.push(id);
        }
        if line.state == State::Dropped {
            return;
        }
        reading.kept += 1;
        if is_repeated && own_time.is_none() {
            reading.duplicates += 1;
            return;
        }
        line.is_live |= own_time.is_none() || times.tracks_staleness;
        let timestamp = own_time.map_or(times.at, Timestamp::from_millis);
        match line.state {
            State::Named => {
                reading.samples.push(RefSample {
                    series: line.series,
                    timestamp,
                    value: sample.value,
                });
            }
            _ => {
                let offset = end.saturating_sub(1);
                reading.fresh.push(FreshLine {
                    line: id,
                    value: sample.value,
                    timestamp,
                    offset,
                    histogram: None,
                });
            }
        }
    }

    fn find_or_add(&mut self, raw: &[u8], kind: MetricKind) -> u32 {
        let hash = self.hasher.hash_one(raw);
        let (lines, bytes) = (&self.lines, &self.bytes);
        let is_same = |id: &u32| {
            let line = &lines[*id as usize];
            &bytes[line.start as usize..][..line.length as usize] == raw
        };
        if let Some(id) = self.table.find(hash, is_same) {
            return *id;
        }
        let id = self.lines.len() as u32;
        self.lines.push(Line {
            start: self.bytes.len() as u32,
            length: raw.len() as u32,
            series: SeriesRef(0),
            seen: self.scrape.wrapping_sub(1),
            kind,
            state: State::Fresh,
            is_live: false,
        });
        self.bytes.extend_from_slice(raw);
        let (lines, bytes, hasher) = (&self.lines, &self.bytes, &self.hasher);
        self.table.insert_unique(hash, id, |id| {
            let line = &lines[*id as usize];
            hasher.hash_one(&bytes[line.start as usize..][..line.length as usize])
        });
        id
    }

    /// Guesses on behind a line that was found by its hash: most often a few lines vanished or came.
    fn guess_after(&self, id: u32, guess: usize) -> usize {
        const FAR: usize = 64;
        let near = self.order[guess.min(self.order.len())..].iter().take(FAR);
        match near.into_iter().position(|known| *known == id) {
            Some(skipped) => guess + skipped + 1,
            None => guess,
        }
    }

    fn mix_comment(&self, hash: u64, comment: &Entry<'_>) -> u64 {
        match comment {
            Entry::Type(family, kind) => self.hasher.hash_one((hash, family, *kind)),
            Entry::Help(family, text) => self.hasher.hash_one((hash, family, text.as_bytes())),
            Entry::Unit(family, unit) => self.hasher.hash_one((hash, family, unit)),
            Entry::Sample(_) => hash,
        }
    }

    /// Gives the bytes of a fresh line and what its family was said to be.
    pub(super) fn fresh(&self, fresh: FreshLine) -> (&[u8], MetricKind) {
        (self.raw(fresh.line), self.lines[fresh.line as usize].kind)
    }

    /// Says that relabelling drops a fresh line.
    pub(super) fn drop_fresh(&mut self, fresh: FreshLine) {
        let line = &mut self.lines[fresh.line as usize];
        (line.state, line.is_live) = (State::Dropped, false);
    }

    /// Says what the store calls a fresh line, and gives its sample.
    pub(super) fn name_fresh(
        &mut self,
        fresh: FreshLine,
        series: SeriesRef,
        reading: &Reading,
    ) -> NamedSample {
        let line = &mut self.lines[fresh.line as usize];
        (line.state, line.series) = (State::Named, series);
        let timestamp = fresh.timestamp;
        match fresh.histogram {
            Some(place) => NamedSample::Histogram(RefHistogram {
                series,
                timestamp,
                histogram: Arc::clone(&reading.fresh_histograms[place as usize]),
            }),
            None => NamedSample::Number(RefSample {
                series,
                timestamp,
                value: fresh.value,
            }),
        }
    }

    /// Forgets everything that the body being read brought.
    pub(super) fn abandon(&mut self) {
        let (settled, lines, bytes, hasher) = (self.settled, &self.lines, &self.bytes, &self.hasher);
        for line in &lines[settled..] {
            let hash = hasher.hash_one(&bytes[line.start as usize..][..line.length as usize]);
            if let Ok(entry) = self
                .table
                .find_entry(hash, |id| lines[*id as usize].start == line.start)
            {
                entry.remove();
            }
        }
        self.lines.truncate(self.settled);
        self.bytes.truncate(self.settled_bytes);
        self.next_order.clear();
    }

    /// Ends every series: gives those that were live, which are so no longer. A second call gives none.
    pub(super) fn end_all(&mut self) -> Vec<SeriesRef> {
        let mut ended = Vec::new();
        let has_live = std::mem::replace(&mut self.has_live, false);
        // A body that broke off has touched lines, so the flags are cleared even when nothing is live.
        for line in self.lines.iter_mut().filter(|line| line.is_live) {
            line.is_live = false;
            if has_live && line.state == State::Named {
                ended.push(line.series);
            }
        }
        ended
    }

    /// Accepts the body that was read: gives the series that ended, and forgets their lines.
    ///
    /// `reading` is this scrape: a series that another spelling still names has not ended.
    pub(super) fn settle(&mut self, reading: &Reading) -> Vec<SeriesRef> {
        std::mem::swap(&mut self.order, &mut self.next_order);
        self.has_live = true;
        let unnamed = self.lines[self.settled..]
            .iter()
            .any(|line| line.state == State::Fresh);
        if self.order.len() == self.lines.len() && !unnamed {
            return Vec::new();
        }
        let now = self.scrape;
        let vanished = self
            .lines
            .iter()
            .filter(|line| line.seen != now && line.is_live && line.state == State::Named);
        let mut ended: Vec<SeriesRef> = vanished.map(|line| line.series).collect();
        still_ended(&mut ended, reading);
        self.rebuild();
        ended
    }

    /// Lays the lines out anew in the order of the last scrape, leaving out the others and those without a name.
    fn rebuild(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut lines = Vec::with_capacity(self.order.len());
        self.table.clear();
        for id in &self.order {
            let old = &self.lines[*id as usize];
            if old.state == State::Fresh {
                continue;
            }
            let raw = &self.bytes[old.start as usize..][..old.length as usize];
            lines.push(Line {
                start: bytes.len() as u32,
                ..*old
            });
            bytes.extend_from_slice(raw);
        }
        (self.bytes, self.lines) = (bytes, lines);
        self.order = (0..self.lines.len() as u32).collect();
        let (lines, bytes, hasher) = (&self.lines, &self.bytes, &self.hasher);
        let hash_of = |id: &u32| {
            let line = &lines[*id as usize];
            hasher.hash_one(&bytes[line.start as usize..][..line.length as usize])
        };
        for id in &self.order {
            self.table.insert_unique(hash_of(id), *id, hash_of);
        }
    }

    /// Gives the lines that bear one of these names, for naming them anew.
    pub(super) fn lines_of(&self, names: &HashSet<SeriesRef>) -> Vec<u32> {
        let lines = self.lines.iter().enumerate();
        lines
            .filter(|(_, line)| line.state == State::Named && names.contains(&line.series))
            .map(|(id, _)| id as u32)
            .collect()
    }

    /// Gives a line's bytes, kind and name.
    pub(super) fn line(&self, id: u32) -> (&[u8], MetricKind, SeriesRef) {
        let line = &self.lines[id as usize];
        (self.raw(id), line.kind, line.series)
    }

    /// Gives a line another name.
    pub(super) fn rename(&mut self, id: u32, series: SeriesRef) {
        self.lines[id as usize].series = series;
    }

    /// Counts the lines that are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }
}

/// Leaves in `ended` only the series that got no sample in this scrape.
pub(super) fn still_ended(ended: &mut Vec<SeriesRef>, reading: &Reading) {
    if ended.is_empty() {
        return;
    }
    let candidates: HashSet<SeriesRef> = ended.iter().copied().collect();
    let numbers = reading.samples.iter().map(|sample| sample.series);
    let histograms = reading.histograms.iter().map(|sample| sample.series);
    let alive: HashSet<SeriesRef> = numbers
        .chain(histograms)
        .filter(|series| candidates.contains(series))
        .collect();
    ended.retain(|series| !alive.contains(series));
    ended.sort_unstable();
    ended.dedup();
}

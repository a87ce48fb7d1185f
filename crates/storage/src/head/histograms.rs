//! The histograms of one series in memory: an open tail, packed chunks, and what came late.
//!
//! As for numbers, but rarer and heavier: the newest 24 to 40 lie uncompressed unless they weigh too much, so that the
//! usual windows are lent out, and each time the oldest of them leave, the newest chunk is packed anew with them until
//! it is full. That costs some microseconds a histogram and keeps a chunk's shapes and columns whole.
//! Invariant: times rise strictly from the chunks to the tail, and none of them is among the late ones.

use std::sync::Arc;

use marketprism_model::Histogram;

use crate::codec::histogram_chunk;
use crate::columns::{Moments, within_moments};

const TAIL_COUNT_MAX: usize = 40;
const TAIL_COUNT_MOVED: usize = 16;
/// A tail weighs no more unless it is one histogram, counted in numbers of eight bytes.
const TAIL_WEIGHT_MAX: usize = 1 << 14;
const CHUNK_COUNT: usize = 128;
/// A chunk of more is not packed anew, for that would take as long each time; what a tail hands over fits in either way.
const CHUNK_WEIGHT: usize = 1 << 16;

struct Chunk {
    times: Box<[i64]>,
    weight: usize,
    bytes: Box<[u8]>,
}

impl Chunk {
    fn pack(moments: &Moments) -> Self {
        let histograms: Vec<Arc<Histogram>> = moments
            .iter()
            .map(|(_, histogram)| Arc::clone(histogram))
            .collect();
        Chunk {
            times: moments.iter().map(|(time, _)| *time).collect(),
            weight: weight_of(moments),
            bytes: histogram_chunk::encode(&histograms).into(),
        }
    }

    fn unpack(&self) -> Moments {
        let histograms = histogram_chunk::decode(&self.bytes, self.times.len());
        let histograms = histograms.expect("a chunk in memory is as it was encoded");
        self.times.iter().copied().zip(histograms).collect()
    }

    fn first(&self) -> i64 {
        self.times[0]
    }

    fn last(&self) -> i64 {
        self.times[self.times.len() - 1]
    }
}

fn weight_of(moments: &[(i64, Arc<Histogram>)]) -> usize {
    moments.iter().map(|(_, histogram)| histogram.weight()).sum()
}

/// The histograms of one series.
#[derive(Default)]
pub struct Histograms {
    tail: Moments,
    tail_weight: usize,
    chunks: Vec<Chunk>,
    late: Moments,
}

impl Histograms {
    /// Gives the oldest moment in memory.
    pub fn oldest(&self) -> Option<i64> {
        let in_order = self.chunks.first().map(Chunk::first);
        let in_order = in_order.or(self.tail.first().map(|(time, _)| *time));
        in_order
            .into_iter()
            .chain(self.late.first().map(|(time, _)| *time))
            .min()
    }

    /// Gives the newest moment in memory.
    pub fn newest(&self) -> Option<i64> {
        let in_order = self.tail.last().map(|(time, _)| *time);
        let in_order = in_order.or(self.chunks.last().map(Chunk::last));
        in_order
            .into_iter()
            .chain(self.late.last().map(|(time, _)| *time))
            .max()
    }

    /// Counts the histograms in memory.
    pub fn count(&self) -> usize {
        let packed: usize = self.chunks.iter().map(|chunk| chunk.times.len()).sum();
        packed + self.tail.len() + self.late.len()
    }

    /// Counts the packed chunks.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tail.is_empty() && self.chunks.is_empty() && self.late.is_empty()
    }

    /// Takes a histogram that is newer than all of its series.
    pub fn push(&mut self, time: i64, histogram: Arc<Histogram>) {
        self.tail_weight += histogram.weight();
        self.tail.push((time, histogram));
        let is_full = self.tail.len() > TAIL_COUNT_MAX || self.tail_weight > TAIL_WEIGHT_MAX;
        if is_full && self.tail.len() > 1 {
            self.pack_tail();
        }
    }

    fn pack_tail(&mut self) {
        let moved = TAIL_COUNT_MOVED.min(self.tail.len() - 1);
        let mut moved: Moments = self.tail.drain(..moved).collect();
        let weight = weight_of(&moved);
        self.tail_weight -= weight;
        let last = self.chunks.pop_if(|chunk| {
            chunk.times.len() + moved.len() <= CHUNK_COUNT && chunk.weight + weight <= CHUNK_WEIGHT
        });
        if let Some(chunk) = last {
            let mut whole = chunk.unpack();
            whole.append(&mut moved);
            moved = whole;
        }
        self.chunks.push(Chunk::pack(&moved));
    }

    /// Puts a histogram, of whose moment nothing is in memory, among the late ones.
    pub fn insert_late(&mut self, time: i64, histogram: Arc<Histogram>) {
        let at = self.late.partition_point(|(other, _)| *other < time);
        self.late.insert(at, (time, histogram));
    }

    /// Gives the histogram of a moment.
    pub fn at(&self, time: i64) -> Option<Arc<Histogram>> {
        for moments in [&self.tail, &self.late] {
            if let Ok(at) = moments.binary_search_by_key(&time, |(other, _)| *other) {
                return Some(Arc::clone(&moments[at].1));
            }
        }
        let chunk = self
            .chunks
            .iter()
            .find(|chunk| chunk.times.binary_search(&time).is_ok())?;
        let at = chunk.times.binary_search(&time).ok()?;
        chunk.unpack().into_iter().nth(at).map(|(_, histogram)| histogram)
    }

    /// Says whether a moment holds a histogram.
    pub fn has(&self, time: i64) -> bool {
        let is_in = |moments: &Moments| moments.binary_search_by_key(&time, |(other, _)| *other).is_ok();
        is_in(&self.tail)
            || is_in(&self.late)
            || self
                .chunks
                .iter()
                .any(|chunk| chunk.times.binary_search(&time).is_ok())
    }

    /// Lends the histograms from `start` to `end` when they all lie in the tail, `None` when some may not.
    pub fn hot(&self, start: i64, end: i64) -> Option<&[(i64, Arc<Histogram>)]> {
        if self.chunks.last().is_some_and(|chunk| chunk.last() >= start)
            || !within_moments(&self.late, start, end).is_empty()
        {
            return None;
        }
        Some(within_moments(&self.tail, start, end))
    }

    /// Appends the histograms from `start` to `end` to `out`, late ones in their places.
    pub fn collect(&self, start: i64, end: i64, out: &mut Moments) {
        let from = out.len();
        for chunk in self
            .chunks
            .iter()
            .filter(|chunk| chunk.first() <= end && chunk.last() >= start)
        {
            let moments = chunk.unpack();
            out.extend_from_slice(within_moments(&moments, start, end));
        }
        out.extend_from_slice(within_moments(&self.tail, start, end));
        let late = within_moments(&self.late, start, end);
        if !late.is_empty() {
            out.extend_from_slice(late);
            out[from..].sort_by_key(|(time, _)| *time);
        }
    }

    /// Counts the histograms older than `end`.
    pub fn count_before(&self, end: i64) -> usize {
        let before = |moments: &Moments| moments.partition_point(|(time, _)| *time < end);
        let packed = self
            .chunks
            .iter()
            .map(|chunk| chunk.times.partition_point(|time| *time < end));
        packed.sum::<usize>() + before(&self.tail) + before(&self.late)
    }

    /// Forgets the histograms older than `end`.
    pub fn drop_before(&mut self, end: i64) {
        self.late
            .drain(..self.late.partition_point(|(time, _)| *time < end));
        self.tail
            .drain(..self.tail.partition_point(|(time, _)| *time < end));
        self.chunks.retain(|chunk| chunk.last() >= end);
        if let Some(chunk) = self.chunks.first_mut().filter(|chunk| chunk.first() < end) {
            let moments = chunk.unpack();
            *chunk = Chunk::pack(&within_moments(&moments, end, i64::MAX).to_vec());
        }
        self.settle();
    }

    /// Forgets the histograms at `start` and after it.
    pub fn drop_from(&mut self, start: i64) {
        self.late
            .truncate(self.late.partition_point(|(time, _)| *time < start));
        self.tail
            .truncate(self.tail.partition_point(|(time, _)| *time < start));
        self.chunks.retain(|chunk| chunk.first() < start);
        if let Some(chunk) = self.chunks.last_mut().filter(|chunk| chunk.last() >= start) {
            let mut moments = chunk.unpack();
            moments.truncate(moments.partition_point(|(time, _)| *time < start));
            *chunk = Chunk::pack(&moments);
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.tail_weight = weight_of(&self.tail);
        self.late.shrink_to_fit();
        self.chunks.shrink_to_fit();
    }
}

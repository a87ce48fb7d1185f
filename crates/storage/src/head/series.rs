//! The samples of one series in memory: an open tail, packed chunks, and what came late.
//!
//! The newest 32 to 48 samples lie uncompressed, so that the windows of most alert rules are lent out without
//! decoding or copying. When the tail is full its oldest 16 move into a packed chunk, which is sealed at 240.
//! Samples that came out of order wait in a small sorted list of their own and are merged when read.
//! They, histograms and packed chunks stand aside, so that all that a window in the tail needs is one line of a cache.
//! Invariant: times rise strictly from sealed chunks through the open chunk to the tail, and none of them is
//! among the late ones; a moment holds a number or a histogram.

use std::sync::Arc;

use marketprism_model::Histogram;
use marketprism_model::series::Samples;

use super::histograms::Histograms;
use super::tail::{TAIL_COUNT_MAX, Tail};
use crate::codec::histogram::is_same_bits;
use crate::codec::packed::{self, Encoder};
use crate::columns::{self, Columns, Mixed};

const TAIL_COUNT_MOVED: usize = 16;
const CHUNK_COUNT: usize = 240;

/// What became of one sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is new.
    Taken,
    /// It is there already, with the same bits.
    Known,
    /// Its moment holds other bits.
    Conflicting,
}

struct Chunk {
    first: i64,
    last: i64,
    count: u16,
    bytes: Box<[u8]>,
}

struct Open {
    first: i64,
    encoder: Encoder,
}

/// What is no longer in the tail, oldest first.
#[derive(Default)]
struct Packed {
    sealed: Vec<Chunk>,
    open: Option<Box<Open>>,
}

impl Packed {
    fn is_empty(&self) -> bool {
        self.open.is_none() && self.sealed.is_empty()
    }

    fn oldest(&self) -> Option<i64> {
        let sealed = self.sealed.first().map(|chunk| chunk.first);
        sealed.or(self.open.as_ref().map(|open| open.first))
    }

    fn newest(&self) -> Option<i64> {
        let open = self.open.as_ref().map(|open| open.encoder.last_time());
        open.or(self.sealed.last().map(|chunk| chunk.last))
    }

    fn count(&self) -> usize {
        self.sealed.iter().map(|c| usize::from(c.count)).sum::<usize>()
            + self.open.as_ref().map_or(0, |open| open.encoder.count())
    }

    fn seal(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.sealed.reserve_exact(1);
        self.sealed.push(Chunk {
            first: open.first,
            last: open.encoder.last_time(),
            count: open.encoder.count() as u16,
            bytes: open.encoder.into_bytes(),
        });
    }

    /// Takes the open chunk out, decoded.
    fn take_open(&mut self) -> Option<Columns> {
        let open = self.open.take()?;
        let (mut bytes, mut columns) = (Vec::new(), Columns::default());
        open.encoder.finish_into(&mut bytes);
        decode_own(&bytes, open.encoder.count(), &mut columns);
        Some(columns)
    }

    fn open_with(&mut self, times: &[i64], values: &[f64]) {
        if let Some(first) = times.first().copied() {
            let encoder = Encoder::of(times, values);
            self.open = Some(Box::new(Open { first, encoder }));
        }
    }

    fn collect(&self, start: i64, end: i64, out: &mut Columns) {
        let from = out.len();
        for chunk in &self.sealed {
            if chunk.first <= end && chunk.last >= start {
                decode_own(&chunk.bytes, usize::from(chunk.count), out);
            }
        }
        if let Some(open) = &self.open
            && open.first <= end
            && open.encoder.last_time() >= start
        {
            let mut bytes = Vec::new();
            open.encoder.finish_into(&mut bytes);
            decode_own(&bytes, open.encoder.count(), out);
        }
        out.clip(from, start, end);
    }

    fn count_before(&self, end: i64) -> usize {
        let (mut columns, mut count) = (Columns::default(), 0);
        for chunk in &self.sealed {
            if chunk.last < end {
                count += usize::from(chunk.count);
            } else if chunk.first < end {
                columns.clear();
                decode_own(&chunk.bytes, usize::from(chunk.count), &mut columns);
                count += columns.timestamps.partition_point(|t| *t < end);
            }
        }
        if let Some(open) = &self.open
            && open.first < end
        {
            columns.clear();
            let mut bytes = Vec::new();
            open.encoder.finish_into(&mut bytes);
            decode_own(&bytes, open.encoder.count(), &mut columns);
            count += columns.timestamps.partition_point(|t| *t < end);
        }
        count
    }

    fn drop_before(&mut self, end: i64) {
        self.sealed.retain(|chunk| chunk.last >= end);
        if let Some(chunk) = self.sealed.first_mut()
            && chunk.first < end
        {
            let mut columns = Columns::default();
            decode_own(&chunk.bytes, usize::from(chunk.count), &mut columns);
            *chunk = repack(&columns, end);
        }
        self.sealed.shrink_to_fit();
        if self.open.as_ref().is_some_and(|open| open.first < end)
            && let Some(columns) = self.take_open()
        {
            let from = columns.timestamps.partition_point(|t| *t < end);
            self.open_with(&columns.timestamps[from..], &columns.values[from..]);
        }
    }

    fn drop_from(&mut self, start: i64) {
        let before = |times: &[i64]| times.partition_point(|t| *t < start);
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.encoder.last_time() >= start)
            && let Some(columns) = self.take_open()
        {
            let kept = before(&columns.timestamps);
            self.open_with(&columns.timestamps[..kept], &columns.values[..kept]);
        }
        self.sealed.retain(|chunk| chunk.first < start);
        if let Some(chunk) = self.sealed.last_mut()
            && chunk.last >= start
        {
            let mut columns = Columns::default();
            decode_own(&chunk.bytes, usize::from(chunk.count), &mut columns);
            let kept = before(&columns.timestamps);
            *chunk = pack(&columns.timestamps[..kept], &columns.values[..kept]);
        }
    }
}

/// What came late, and histograms.
#[derive(Default)]
struct Rare {
    late: Vec<(i64, f64)>,
    histograms: Histograms,
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.late.is_empty() && self.histograms.is_empty()
    }
}

/// Stands for no moment in [`Series`].
const NEVER: i64 = i64::MIN;

/// The samples of one series.
pub struct Series {
    tail: Tail,
    /// The newest moment of what is packed: a window that begins later need not look there.
    packed_to: i64,
    packed: Option<Box<Packed>>,
    /// What most series never have lies elsewhere, so that many of them fit into a cache.
    rare: Option<Box<Rare>>,
    /// Kept when samples move to a block, so that order is judged against what was ever taken.
    newest: i64,
}

impl Default for Series {
    fn default() -> Self {
        Series {
            tail: Tail::default(),
            packed_to: NEVER,
            packed: None,
            rare: None,
            newest: NEVER,
        }
    }
}

impl Series {
    /// Gives the newest moment that was ever taken in order.
    #[inline]
    pub fn newest(&self) -> Option<i64> {
        (self.newest != NEVER).then_some(self.newest)
    }

    /// Gives the oldest moment in memory.
    pub fn oldest(&self) -> Option<i64> {
        let packed = self.packed.as_ref().and_then(|packed| packed.oldest());
        let in_order = packed.or(self.tail.samples().timestamps.first().copied());
        let late = self.late().first().map(|(time, _)| *time);
        let histograms = self.rare.as_ref().and_then(|rare| rare.histograms.oldest());
        in_order.into_iter().chain(late).chain(histograms).min()
    }

    /// Counts the histograms among the samples in memory.
    pub fn histogram_count(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.histograms.count())
    }

    fn late(&self) -> &[(i64, f64)] {
        self.rare.as_ref().map_or(&[], |rare| &rare.late)
    }

    /// Counts the samples in memory.
    pub fn count(&self) -> usize {
        self.packed.as_ref().map_or(0, |packed| packed.count())
            + self.tail.len()
            + self.late().len()
            + self.histogram_count()
    }

    /// Counts the packed chunks, the open one included; the newest samples are in none yet.
    pub fn chunk_count(&self) -> usize {
        let histograms = self.rare.as_ref().map_or(0, |rare| rare.histograms.chunk_count());
        let numbers = self.packed.as_ref().map_or(0, |packed| {
            packed.sealed.len() + usize::from(packed.open.is_some())
        });
        numbers + histograms
    }

    /// Says whether no sample is in memory.
    pub fn is_empty(&self) -> bool {
        self.tail.is_empty() && self.packed.is_none() && self.rare.as_ref().is_none_or(|rare| rare.is_empty())
    }

    /// Takes a sample that is newer than all of its series.
    #[inline]
    pub fn push(&mut self, time: i64, value: f64) {
        debug_assert!(self.newest().is_none_or(|newest| newest < time));
        if self.tail.len() >= TAIL_COUNT_MAX {
            self.pack_tail();
        }
        self.tail.push(time, value);
        self.newest = time;
    }

    /// Takes a histogram that is newer than all samples of its series.
    pub fn push_histogram(&mut self, time: i64, histogram: &Arc<Histogram>) {
        debug_assert!(self.newest().is_none_or(|newest| newest < time));
        let rare = self.rare.get_or_insert_default();
        rare.histograms.push(time, Arc::clone(histogram));
        self.newest = time;
    }

    fn pack_tail(&mut self) {
        let Samples {
            timestamps, values, ..
        } = self.tail.samples();
        let packed = self.packed.get_or_insert_default();
        let open = packed.open.get_or_insert_with(|| {
            Box::new(Open {
                first: timestamps[0],
                encoder: Encoder::default(),
            })
        });
        let moved = ..TAIL_COUNT_MOVED;
        open.encoder.push(&timestamps[moved], &values[moved]);
        self.packed_to = timestamps[TAIL_COUNT_MOVED - 1];
        if open.encoder.count() >= CHUNK_COUNT {
            packed.seal();
        }
        self.tail.drop_first(TAIL_COUNT_MOVED);
    }

    /// Takes a sample that is not newer than all of its series.
    pub fn insert_late(&mut self, time: i64, value: f64) -> Outcome {
        match self.bits_at(time) {
            Some(bits) if bits == value.to_bits() => Outcome::Known,
            Some(_) => Outcome::Conflicting,
            None if self.rare.as_ref().is_some_and(|rare| rare.histograms.has(time)) => Outcome::Conflicting,
            None => {
                let late = &mut self.rare.get_or_insert_default().late;
                let at = late.partition_point(|(t, _)| *t < time);
                late.insert(at, (time, value));
                Outcome::Taken
            }
        }
    }

    /// Takes a histogram that is not newer than all samples of its series.
    pub fn insert_late_histogram(&mut self, time: i64, histogram: &Arc<Histogram>) -> Outcome {
        if self.bits_at(time).is_some() {
            return Outcome::Conflicting;
        }
        let side = &mut self.rare.get_or_insert_default().histograms;
        match side.at(time) {
            Some(known) if is_same_bits(&known, histogram) => Outcome::Known,
            Some(_) => Outcome::Conflicting,
            None => {
                side.insert_late(time, Arc::clone(histogram));
                Outcome::Taken
            }
        }
    }

    /// Gives the bits of the value at a moment, `None` when memory holds none.
    pub fn bits_at(&self, time: i64) -> Option<u64> {
        if let Some(value) = self.tail.within(time, time).values.first() {
            return Some(value.to_bits());
        }
        let late = self.late();
        if let Ok(at) = late.binary_search_by_key(&time, |(t, _)| *t) {
            return Some(late[at].1.to_bits());
        }
        let mut columns = Columns::default();
        if let Some(packed) = &self.packed {
            packed.collect(time, time, &mut columns);
        }
        columns.values.first().map(|value| value.to_bits())
    }

    /// Lends the samples from `start` to `end` when they all lie in the tail, `None` when some may not.
    #[inline]
    pub fn hot(&self, start: i64, end: i64) -> Option<Samples<'_>> {
        if self.packed_to >= start {
            return None;
        }
        let numbers = self.tail.within(start, end);
        let Some(rare) = &self.rare else {
            return Some(numbers);
        };
        if let (Some((first, _)), Some((last, _))) = (rare.late.first(), rare.late.last())
            && *first <= end
            && *last >= start
        {
            return None;
        }
        Some(Samples {
            histograms: rare.histograms.hot(start, end)?,
            ..numbers
        })
    }

    /// Touches the series and the ends of its tail, so that they are near when they are read.
    #[inline]
    pub fn touch_ends(&self) -> i64 {
        let times = self.tail.samples().timestamps;
        times.first().copied().unwrap_or(0) ^ times.last().copied().unwrap_or(0)
    }

    /// Touches what [`Series::hot`] would lend of the tail; the ends should be near.
    #[inline]
    pub fn touch(&self, start: i64, end: i64) -> u64 {
        const NUMBERS_A_LINE: usize = 8;
        let values = self.tail.within(start, end).values;
        let lines = values.iter().step_by(NUMBERS_A_LINE);
        let touched = lines.fold(0, |sum, value| sum ^ value.to_bits());
        touched ^ values.last().map_or(0, |value| value.to_bits())
    }

    /// Appends the samples from `start` to `end` to `out`, late ones in their places.
    pub fn collect(&self, start: i64, end: i64, out: &mut Mixed) {
        if let Some(rare) = &self.rare {
            rare.histograms.collect(start, end, &mut out.histograms);
        }
        self.collect_numbers(start, end, &mut out.numbers);
    }

    fn collect_numbers(&self, start: i64, end: i64, out: &mut Columns) {
        let late_ones = self.late();
        let from = late_ones.partition_point(|(t, _)| *t < start);
        let to = late_ones.partition_point(|(t, _)| *t <= end);
        if from >= to {
            self.collect_in_order(start, end, out);
            return;
        }
        let (mut in_order, mut late) = (Columns::default(), Columns::default());
        self.collect_in_order(start, end, &mut in_order);
        late_ones[from..to].iter().for_each(|(t, v)| late.push(*t, *v));
        columns::merge_into(in_order.samples(), late.samples(), out);
    }

    fn collect_in_order(&self, start: i64, end: i64, out: &mut Columns) {
        if let Some(packed) = &self.packed {
            packed.collect(start, end, out);
        }
        out.extend(self.tail.within(start, end));
    }

    /// Counts the samples older than `end`.
    pub fn count_before(&self, end: i64) -> usize {
        let late = self.late().partition_point(|(t, _)| *t < end);
        let packed = self.packed.as_ref().map_or(0, |packed| packed.count_before(end));
        let tail = self.tail.samples().timestamps.partition_point(|t| *t < end);
        let rare = self.rare.as_ref();
        let histograms = rare.map_or(0, |rare| rare.histograms.count_before(end));
        late + packed + tail + histograms
    }

    /// Forgets the samples older than `end`.
    pub fn drop_before(&mut self, end: i64) {
        self.change_rare(|rare| {
            rare.late.drain(..rare.late.partition_point(|(t, _)| *t < end));
            rare.late.shrink_to_fit();
            rare.histograms.drop_before(end);
        });
        self.change_packed(|packed| packed.drop_before(end));
        let gone = self.tail.samples().timestamps.partition_point(|t| *t < end);
        self.tail.drop_first(gone);
    }

    /// Changes what is rare; a series that has nothing of it any more is as one that never had any.
    fn change_rare(&mut self, change: impl FnOnce(&mut Rare)) {
        if let Some(rare) = &mut self.rare {
            change(rare);
            if rare.is_empty() {
                self.rare = None;
            }
        }
    }

    fn change_packed(&mut self, change: impl FnOnce(&mut Packed)) {
        if let Some(packed) = &mut self.packed {
            change(packed);
            self.packed_to = packed.newest().unwrap_or(NEVER);
            if packed.is_empty() {
                self.packed = None;
            }
        }
    }

    /// Forgets the samples at `start` and after it, as if they had never been taken.
    pub fn drop_from(&mut self, start: i64) {
        self.change_rare(|rare| {
            rare.late.truncate(rare.late.partition_point(|(t, _)| *t < start));
            rare.histograms.drop_from(start);
        });
        let times = self.tail.samples().timestamps;
        let kept = times.partition_point(|t| *t < start);
        self.tail.truncate(kept);
        self.change_packed(|packed| packed.drop_from(start));
        let histograms = self.rare.as_ref().and_then(|rare| rare.histograms.newest());
        let tail = self.tail.samples().timestamps.last().copied();
        let packed = self.packed.as_ref().and_then(|packed| packed.newest());
        let late = self.late().last().map(|(time, _)| *time);
        let left = tail.or(packed).into_iter().chain(late).chain(histograms).max();
        if self.newest != NEVER {
            self.newest = left.unwrap_or(self.newest.min(start - 1));
        }
    }
}

/// Decodes a chunk of this process's own making.
fn decode_own(bytes: &[u8], count: usize, out: &mut Columns) {
    packed::decode_into(bytes, count, out).expect("a chunk in memory is as it was encoded");
}

fn repack(columns: &Columns, end: i64) -> Chunk {
    let from = columns.timestamps.partition_point(|t| *t < end);
    pack(&columns.timestamps[from..], &columns.values[from..])
}

/// Packs samples, of which there is at least one.
fn pack(times: &[i64], values: &[f64]) -> Chunk {
    let encoder = Encoder::of(times, values);
    Chunk {
        first: times[0],
        last: encoder.last_time(),
        count: encoder.count() as u16,
        bytes: encoder.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A number, or a histogram made of it.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Held {
        Number(f64),
        Histogram(f64),
    }

    /// Like histograms differ in their buckets too, so that shapes change within a chunk.
    fn histogram(value: f64) -> Arc<Histogram> {
        Arc::new(Histogram {
            sum: value / 3.0,
            count: value,
            positive: marketprism_model::Buckets {
                spans: vec![marketprism_model::BucketSpan {
                    offset: value as i32,
                    length: 2,
                }],
                counts: vec![value, 1.0],
            },
            ..Histogram::default()
        })
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(i64, Held),
        Late(i64, Held),
        Drop(i64),
        Forget(i64),
    }

    fn held() -> impl Strategy<Value = Held> {
        let number = (0u8..4).prop_map(|value| Held::Number(f64::from(value)));
        let histogram = (0u8..4).prop_map(|value| Held::Histogram(f64::from(value)));
        prop_oneof![number, histogram]
    }

    /// Runs of one kind, as they come: of numbers, of histograms, and now and then one of the other.
    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = || {
            prop_oneof![
                20 => (1i64..30, 0u8..4).prop_map(|(d, v)| Step::Push(d, Held::Number(f64::from(v)))),
                1 => (1i64..30, held()).prop_map(|(d, held)| Step::Push(d, held)),
                3 => (0i64..400, held()).prop_map(|(back, held)| Step::Late(back, held)),
                1 => (0i64..400).prop_map(Step::Drop),
                1 => (0i64..4_000).prop_map(Step::Forget),
            ]
        };
        let run = (proptest::collection::vec(step(), 1..300), any::<bool>());
        let of_kind = |(steps, is_histograms): (Vec<Step>, bool)| {
            let turn = move |step| match step {
                Step::Push(delta, Held::Number(value)) if is_histograms => {
                    Step::Push(delta, Held::Histogram(value))
                }
                step => step,
            };
            steps.into_iter().map(turn).collect::<Vec<Step>>()
        };
        proptest::collection::vec(run.prop_map(of_kind), 1..4).prop_map(|runs| runs.concat())
    }

    fn contents(samples: Samples<'_>) -> Vec<(i64, Held)> {
        let numbers = samples
            .timestamps
            .iter()
            .zip(samples.values)
            .map(|(t, v)| (*t, Held::Number(*v)));
        let held = |histogram: &Histogram| Held::Histogram(histogram.count);
        let histograms = samples
            .histograms
            .iter()
            .map(|(time, histogram)| (*time, held(histogram)));
        assert!(
            samples.timestamps.is_sorted_by(|a, b| a < b)
                && samples.histograms.is_sorted_by(|a, b| a.0 < b.0)
        );
        let mut all: Vec<(i64, Held)> = numbers.chain(histograms).collect();
        all.sort_by_key(|(time, _)| *time);
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn a_series_behaves_as_a_sorted_map(steps in steps(), start in 0i64..9_000, span in 0i64..9_000) {
            let (mut series, mut map, mut newest) = (Series::default(), BTreeMap::new(), 0i64);
            for step in steps {
                match step {
                    Step::Push(delta, held) => {
                        newest += delta;
                        match held {
                            Held::Number(value) => series.push(newest, value),
                            Held::Histogram(value) => series.push_histogram(newest, &histogram(value)),
                        }
                        map.insert(newest, held);
                    }
                    Step::Late(back, held) => {
                        let time = newest - back;
                        let expected = match map.get(&time) {
                            None => Outcome::Taken,
                            Some(known) if *known == held => Outcome::Known,
                            Some(_) => Outcome::Conflicting,
                        };
                        let outcome = match held {
                            Held::Number(value) => series.insert_late(time, value),
                            Held::Histogram(value) => series.insert_late_histogram(time, &histogram(value)),
                        };
                        prop_assert_eq!(outcome, expected);
                        map.entry(time).or_insert(held);
                    }
                    Step::Drop(back) => {
                        let end = newest - back;
                        prop_assert_eq!(series.count_before(end), map.range(..end).count());
                        series.drop_before(end);
                        map = map.split_off(&end);
                    }
                    Step::Forget(back) => {
                        let start = newest - back;
                        series.drop_from(start);
                        map.split_off(&start);
                        newest = map.keys().next_back().copied().unwrap_or(start - 1).min(newest);
                        prop_assert!(series.newest().is_none_or(|known| known <= newest));
                    }
                }
            }
            prop_assert_eq!(series.count(), map.len());
            prop_assert_eq!(series.is_empty(), map.is_empty());
            let is_histogram = |held: &&Held| matches!(held, Held::Histogram(_));
            prop_assert_eq!(series.histogram_count(), map.values().filter(is_histogram).count());
            prop_assert_eq!(series.oldest(), map.keys().next().copied());
            let end = start + span;
            let expected: Vec<(i64, Held)> = map.range(start..=end).map(|(t, held)| (*t, *held)).collect();
            let mut mixed = Mixed::default();
            series.collect(start, end, &mut mixed);
            prop_assert_eq!(contents(mixed.samples()), expected.clone());
            if let Some(hot) = series.hot(start, end) {
                prop_assert_eq!(contents(hot), expected);
            }
        }
    }

    #[test]
    fn a_series_is_no_more_than_six_words_whatever_it_may_come_to_hold() {
        // The tail, what is packed, what is rare, and the newest moments of the series and of what is packed.
        assert_eq!(size_of::<Series>(), 6 * size_of::<u64>());
    }

    #[test]
    fn a_window_of_six_minutes_of_histograms_is_lent_and_heavy_ones_are_packed() {
        let mut series = Series::default();
        for i in 0..1_000 {
            series.push_histogram(i * 15_000, &histogram(i as f64));
            assert!(series.hot((i - 23) * 15_000, i * 15_000).is_some());
        }
        let heavy = |at: i64| {
            let mut heavy = Histogram::clone(&histogram(at as f64));
            heavy.schema = 8;
            heavy.positive.spans[0] = marketprism_model::BucketSpan {
                offset: 0,
                length: 5_000,
            };
            heavy.positive.counts = (0..5_000).map(|bucket| (at * bucket) as f64).collect();
            Arc::new(heavy)
        };
        let mut series = Series::default();
        (0..50).for_each(|at| series.push_histogram(at, &heavy(at)));
        assert!(
            series.hot(40, 50).is_none(),
            "ten of them are more than a tail holds"
        );
        let mut mixed = Mixed::default();
        series.collect(0, 50, &mut mixed);
        assert_eq!(mixed.histograms.len(), 50);
        assert!(
            mixed
                .histograms
                .iter()
                .all(|(at, histogram)| is_same_bits(histogram, &heavy(*at)))
        );
    }

    #[test]
    fn a_window_of_eight_minutes_at_15_s_is_lent_without_decoding() {
        let mut series = Series::default();
        for i in 0..1_000 {
            series.push(i * 15_000, i as f64);
            assert!(series.hot((i - 31) * 15_000, i * 15_000).is_some());
        }
    }
}

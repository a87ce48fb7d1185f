//! Choosing series and reading them: the choices that are kept, and the merging of head and blocks.
//!
//! A choice is kept under its matchers and the blocks its range touches. It is handed out again, with the same
//! number, as long as the index upholds the evidence it rests on; in steady state that is one look-up. Whoever asks
//! again and again brings a bookmark: then it is none, and neither matchers nor locks are touched.
//! A choice holds labels, not samples: reading it looks at the head and the blocks of that moment, so it stays
//! right when samples move from one to the other, or a block is deleted.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use marketprism_model::series::{Bookmark, ReadError, SeriesVisitor};
use marketprism_model::{Labels, Matcher, Selection, SeriesRef, TimeRange};
use parking_lot::Mutex;

use crate::block::ulid::Ulid;
use crate::block::{Block, Times};
use crate::columns::{self, Columns, Mixed};
use crate::head;
use crate::head::index::Evidence;
use crate::store::Shared;

/// So many choices are kept in any case.
const CHOICES_MIN: usize = 8_192;
/// And one for so many series in memory, for who has many series has many rules: a choice weighs less than a kilobyte, a
/// fraction of what its series do.
const SERIES_A_CHOICE: usize = 8;
/// The kept choices hold no more series together.
const POSITIONS_MAX: usize = 2_000_000;

/// A larger choice is not marked: whoever holds the bookmark would keep it, and its look-up is the least of its cost.
const MARKED_MAX: usize = 64;

/// So many series are brought near at once: what is touched of them fits into the nearest cache.
const RUN_MAX: usize = 32;

/// A series that is not in this source.
const ABSENT: u32 = u32::MAX;
const NO_SEAT: SeriesRef = SeriesRef(u64::MAX);

/// The blocks of one moment, oldest first.
#[derive(Default)]
pub struct BlockSet {
    /// The blocks.
    pub blocks: Vec<Arc<Block>>,
    /// Head samples older than this have moved into them.
    pub floor: i64,
}

impl BlockSet {
    /// Gives the blocks that have samples in a range.
    pub fn overlapping(&self, range: TimeRange) -> impl Iterator<Item = &Arc<Block>> {
        let (start, end) = (range.start.millis(), range.end.millis());
        self.blocks.iter().filter(move |block| block.overlaps(start, end))
    }

    /// Gives the newest moment in any of them, `i64::MIN` when there is none.
    pub fn newest(&self) -> i64 {
        let newest = self.blocks.iter().map(|block| block.meta().max_time).max();
        newest.unwrap_or(i64::MIN)
    }
}

struct Kept {
    used: u64,
    choice: Arc<Choice>,
}

/// The choices that are kept.
#[derive(Default)]
pub struct Choices {
    kept: HashMap<u64, Kept>,
    positions: usize,
    uses: u64,
    unused_since: u64,
}

impl Choices {
    fn evict(&mut self, series: usize) {
        let choices_max = CHOICES_MIN.max(series / SERIES_A_CHOICE);
        if self.kept.len() <= choices_max && self.positions <= POSITIONS_MAX {
            return;
        }
        let mut uses: Vec<u64> = self.kept.values().map(|kept| kept.used).collect();
        let middle = uses.len() / 2;
        let (_, median, _) = uses.select_nth_unstable(middle);
        let median = *median;
        self.kept.retain(|_, kept| kept.used >= median);
        self.positions = self.kept.values().map(|kept| kept.choice.labels.len()).sum();
    }

    /// Forgets the choices that nobody asked for since this was called last, for they keep the labels of series
    /// that are gone.
    pub fn forget_unused(&mut self) {
        let since = std::mem::replace(&mut self.unused_since, self.uses);
        self.kept.retain(|_, kept| kept.used > since);
        self.positions = self.kept.values().map(|kept| kept.choice.labels.len()).sum();
    }

    /// Forgets every choice, so that none keeps a deleted block's files alive.
    pub fn forget(&mut self) {
        self.kept.clear();
        self.positions = 0;
    }

    /// Counts the choices.
    pub fn count(&self) -> usize {
        self.kept.len()
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A choice of series.
pub struct Choice {
    id: u64,
    store: Weak<Shared>,
    labels: Vec<Labels>,
    seats: Vec<SeriesRef>,
    /// Of no use when the head was left out.
    evidence: Evidence,
    /// The blocks that its range touched.
    blocks: Vec<Ulid>,
    has_head: bool,
    matchers: Vec<Matcher>,
    /// Where the series stand in the blocks looked at so far.
    ordinals: Mutex<HashMap<Ulid, Arc<[u32]>>>,
}

/// Chooses, or hands out the choice that still stands.
pub fn select(store: &Arc<Shared>, matchers: &[Matcher], range: TimeRange) -> Result<Arc<Choice>, ReadError> {
    let set = store.block_set();
    let blocks: Vec<Arc<Block>> = set.overlapping(range).cloned().collect();
    let has_head = range.end.millis() >= store.head.oldest();
    let mut hasher = DefaultHasher::new();
    (matchers, has_head).hash(&mut hasher);
    blocks
        .iter()
        .for_each(|block| block.meta().ulid.hash(&mut hasher));
    let key = hasher.finish();
    let index = store.index.read();
    {
        let mut choices = store.choices.lock();
        choices.uses += 1;
        let uses = choices.uses;
        if let Some(kept) = choices.kept.get_mut(&key)
            && kept.choice.matchers == matchers
            && kept.choice.has_head == has_head
            && kept
                .choice
                .blocks
                .iter()
                .eq(blocks.iter().map(|block| &block.meta().ulid))
            && (!has_head || index.upholds(matchers, &kept.choice.evidence))
        {
            kept.used = uses;
            return Ok(Arc::clone(&kept.choice));
        }
    }
    let (evidence, series_in_head) = (index.evidence(matchers), index.series_count());
    let mut series: Vec<(Labels, SeriesRef)> = Vec::new();
    if has_head {
        let tenant = |slot| {
            let (labels, generation) = index.tenant(slot)?;
            Some((labels.clone(), head::reference(slot, generation)))
        };
        series.extend(index.choose(matchers).into_iter().filter_map(tenant));
    }
    drop(index);
    let mut in_blocks = Vec::with_capacity(blocks.len());
    for block in &blocks {
        let chosen = store.or_leave_out(block.choose(matchers))?;
        series.extend(chosen.iter().map(|(labels, _)| (labels.clone(), NO_SEAT)));
        in_blocks.push((block.meta().ulid, chosen));
    }
    // A seat sorts before its absence, so it survives the removal of doubles.
    series.sort_unstable();
    series.dedup_by(|later, earlier| later.0 == earlier.0);
    let (labels, seats): (Vec<Labels>, _) = series.into_iter().unzip();
    let ordinals = in_blocks
        .into_iter()
        .map(|(ulid, chosen)| (ulid, ordinals_of(&labels, chosen)))
        .collect();
    let choice = Arc::new(Choice {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        store: Arc::downgrade(store),
        labels,
        seats,
        evidence,
        blocks: blocks.iter().map(|block| block.meta().ulid).collect(),
        has_head,
        matchers: matchers.to_vec(),
        ordinals: Mutex::new(ordinals),
    });
    let mut choices = store.choices.lock();
    choices.positions += choice.labels.len();
    let used = choices.uses;
    let replaced = choices.kept.insert(
        key,
        Kept {
            used,
            choice: Arc::clone(&choice),
        },
    );
    choices.positions -= replaced.map_or(0, |kept| kept.choice.labels.len());
    choices.evict(series_in_head);
    Ok(choice)
}

/// Chooses, or hands out the marked choice if it still stands.
pub fn select_again(
    store: &Arc<Shared>,
    matchers: &[Matcher],
    range: TimeRange,
    bookmark: &Bookmark,
) -> Result<Arc<Choice>, ReadError> {
    if let Some(marked) = bookmark.get::<Choice>()
        && marked.stands(store, range)
    {
        return Ok(marked);
    }
    let choice = select(store, matchers, range)?;
    if choice.labels.len() <= MARKED_MAX && choice.has_head && choice.blocks.is_empty() {
        bookmark.put(Arc::clone(&choice) as Arc<_>);
    }
    Ok(choice)
}

/// Gives the place in a block of each of `labels`, of what was chosen in it; both are sorted by labels.
fn ordinals_of(labels: &[Labels], chosen: Vec<(Labels, u32)>) -> Arc<[u32]> {
    let mut rest = chosen.into_iter().peekable();
    let place = |labels: &Labels| {
        while rest.next_if(|(other, _)| other < labels).is_some() {}
        rest.next_if(|(other, _)| other == labels)
            .map_or(ABSENT, |(_, ordinal)| ordinal)
    };
    labels.iter().map(place).collect()
}

/// The blocks one reading looks at, with the places of the chosen series in them.
struct Sources {
    floor: i64,
    blocks: Vec<(Arc<Block>, Arc<[u32]>)>,
}

#[derive(Default)]
struct Scratch {
    merged: Mixed,
    part: Mixed,
    spare: Columns,
    times: Times,
}

impl Scratch {
    /// Merges `part` into `merged`; where both hold a moment, `part` wins.
    fn merge(&mut self) {
        let (merged, part) = (&mut self.merged, &mut self.part);
        if !part.histograms.is_empty() {
            columns::merge_moments(&mut merged.histograms, &mut part.histograms);
        }
        let (merged, part) = (&mut merged.numbers, &mut part.numbers);
        if part.is_empty() {
            return;
        }
        if merged.is_empty() {
            std::mem::swap(merged, part);
            return;
        }
        self.spare.clear();
        let is_apart = merged.timestamps.last() < part.timestamps.first();
        if is_apart {
            merged.extend(part.samples());
            return;
        }
        columns::merge_into(part.samples(), merged.samples(), &mut self.spare);
        std::mem::swap(merged, &mut self.spare);
    }
}

impl Choice {
    /// Says whether [`select`] would choose the same in this store for this range; only of what lies in the head alone.
    fn stands(&self, store: &Arc<Shared>, range: TimeRange) -> bool {
        let (start, end) = (range.start.millis(), range.end.millis());
        std::ptr::eq(self.store.as_ptr(), Arc::as_ptr(store))
            && self.has_head
            && self.blocks.is_empty()
            && store.is_behind_blocks(start)
            && end >= store.head.oldest()
            && (self.evidence.is_fresh(&store.index_changes)
                || store.index.read().upholds(&self.matchers, &self.evidence))
    }

    fn sources(&self, store: &Shared, range: TimeRange) -> Result<Sources, ReadError> {
        let set = store.block_set();
        let mut blocks = Vec::new();
        for block in set.overlapping(range) {
            blocks.push((Arc::clone(block), self.ordinals_in(block)?));
        }
        Ok(Sources {
            floor: set.floor,
            blocks,
        })
    }

    fn ordinals_in(&self, block: &Block) -> Result<Arc<[u32]>, ReadError> {
        let ulid = block.meta().ulid;
        if let Some(known) = self.ordinals.lock().get(&ulid) {
            return Ok(Arc::clone(known));
        }
        let ordinals = ordinals_of(&self.labels, block.choose(&self.matchers)?);
        self.ordinals.lock().insert(ulid, Arc::clone(&ordinals));
        Ok(ordinals)
    }

    fn read_from(
        &self,
        store: &Shared,
        positions: Range<usize>,
        range: TimeRange,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<(), ReadError> {
        let mut scratch = Scratch::default();
        let start = range.start.millis();
        let mut next = positions.start;
        while next < positions.end && store.is_behind_blocks(start) {
            let run = self.neighbours(next..positions.end);
            next = run.end;
            let rest = self.read_tails(store, run, range, visit)?;
            if !rest.is_empty() {
                self.read_merged(store, rest, range, &mut scratch, visit)?;
            }
        }
        self.read_merged(store, next..positions.end, range, &mut scratch, visit)
    }

    /// Gives the first positions that lie in one shard.
    fn neighbours(&self, positions: Range<usize>) -> Range<usize> {
        let shard = |position: usize| head::place(head::slot_of(self.seats[position])).0;
        let end = positions.end.min(positions.start + RUN_MAX);
        let first = shard(positions.start);
        let apart = (positions.start..end).find(|position| shard(*position) != first);
        positions.start..apart.unwrap_or(end)
    }

    /// Reads series of one shard out of their tails, as far as all that the range asks of them is there; gives the
    /// positions that are left. No block has samples in the range.
    ///
    /// Series lie scattered in memory, and waiting for one after the other would take most of the time. So what the
    /// reading will touch is touched before, for all of them at once.
    fn read_tails(
        &self,
        store: &Shared,
        run: Range<usize>,
        range: TimeRange,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<Range<usize>, ReadError> {
        let (start, end) = (range.start.millis(), range.end.millis());
        let seats = &self.seats[run.clone()];
        let shard = store.head.read(head::place(head::slot_of(seats[0])).0);
        if shard.floor > start {
            // Samples have moved since the blocks were looked at; the new ones were published before.
            return Ok(run);
        }
        let series_of = |seat: &SeriesRef| {
            let (_, place) = head::place(head::slot_of(*seat));
            shard.get(place, head::generation_of(*seat))
        };
        if seats.len() > 1 {
            let series = || seats.iter().filter_map(series_of);
            black_box(series().fold(0, |sum: i64, series| sum ^ series.touch_ends()));
            black_box(series().fold(0, |sum: u64, series| sum ^ series.touch(start, end)));
        }
        for (position, seat) in run.clone().zip(seats) {
            let Some(series) = series_of(seat) else {
                continue;
            };
            let Some(samples) = series.hot(start, end) else {
                return Ok(position..run.end);
            };
            if !samples.timestamps.is_empty() || !samples.histograms.is_empty() {
                visit(position, samples)?;
            }
        }
        Ok(run.end..run.end)
    }

    /// Reads series from head and blocks.
    fn read_merged(
        &self,
        store: &Shared,
        positions: Range<usize>,
        range: TimeRange,
        scratch: &mut Scratch,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<(), ReadError> {
        if positions.is_empty() {
            return Ok(());
        }
        let (start, end) = (range.start.millis(), range.end.millis());
        let mut sources = self.sources(store, range)?;
        let mut locked = None;
        for position in positions {
            scratch.merged.clear();
            let seat = self.seats[position];
            if seat != NO_SEAT {
                let (shard, place) = head::place(head::slot_of(seat));
                if !matches!(&locked, Some((number, _)) if *number == shard) {
                    drop(locked.take());
                    let mut guard = store.head.read(shard);
                    if guard.floor > sources.floor {
                        // Samples have moved since the blocks were looked at; the new ones were published before.
                        drop(guard);
                        sources = self.sources(store, range)?;
                        guard = store.head.read(shard);
                    }
                    locked = Some((shard, guard));
                }
                let (_, guard) = locked.as_ref().expect("locked above");
                if let Some(series) = guard.get(place, head::generation_of(seat)) {
                    if sources.blocks.is_empty()
                        && let Some(samples) = series.hot(start, end)
                    {
                        if !samples.timestamps.is_empty() || !samples.histograms.is_empty() {
                            visit(position, samples)?;
                        }
                        continue;
                    }
                    scratch.part.clear();
                    series.collect(start, end, &mut scratch.part);
                }
                if !sources.blocks.is_empty() {
                    // Decoding blocks takes long; appends must not wait for it.
                    locked = None;
                }
            }
            let in_head = std::mem::take(&mut scratch.part);
            for (block, ordinals) in &sources.blocks {
                let ordinal = ordinals[position];
                if ordinal != ABSENT {
                    scratch.part.clear();
                    block.read(ordinal, start, end, &mut scratch.times, &mut scratch.part)?;
                    scratch.merge();
                }
            }
            scratch.part = in_head;
            scratch.merge();
            scratch.part.clear();
            if !scratch.merged.is_empty() {
                if !scratch.merged.histograms.is_empty() {
                    scratch.merged.settle();
                }
                visit(position, scratch.merged.samples())?;
            }
        }
        Ok(())
    }
}

impl Selection for Choice {
    fn id(&self) -> u64 {
        self.id
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    /// Reads; while a series that lies in the head is visited, part of the head is locked against appends, so
    /// `visit` must not call the store, and should not take long.
    fn read(
        &self,
        positions: Range<usize>,
        range: TimeRange,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<(), ReadError> {
        let Some(store) = self.store.upgrade() else {
            return Err(ReadError::Unavailable { state: "stopping" });
        };
        let positions = positions.start..positions.end.min(self.labels.len());
        let read = self.read_from(&store, positions, range, visit);
        store.or_leave_out(read)
    }
}

//! The newest samples, in memory: series in shards, and the index that finds them.
//!
//! Series live in 32 shards, each behind its own lock; 256 neighbours share a shard, so that the samples of one
//! target, whose series were made together, need one or two locks. Lock order: index before shard.
//! A series has a slot and the slot a generation, which together are its `SeriesRef`; when a series is removed
//! its slot's generation grows, so an old reference is told apart from the slot's next tenant.

pub mod histograms;
pub mod index;
pub mod postings;
pub mod series;
pub mod tail;

use std::sync::atomic::{AtomicI64, Ordering};

use marketprism_model::SeriesRef;
use marketprism_model::sample::stale_nan;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use series::Series;

const SHARD_COUNT: usize = 32;
const SHARD_RUN: usize = 256;

/// Gives the slot in a reference.
pub fn slot_of(series: SeriesRef) -> u32 {
    series.0 as u32
}

/// Gives the generation in a reference.
pub fn generation_of(series: SeriesRef) -> u32 {
    (series.0 >> 32) as u32
}

/// Makes a reference.
pub fn reference(slot: u32, generation: u32) -> SeriesRef {
    SeriesRef(u64::from(generation) << 32 | u64::from(slot))
}

/// Gives the number of the shard that holds a slot, and the place in it.
#[inline]
pub fn place(slot: u32) -> (usize, usize) {
    let slot = slot as usize;
    let run = slot / SHARD_RUN;
    (
        run % SHARD_COUNT,
        run / SHARD_COUNT * SHARD_RUN + slot % SHARD_RUN,
    )
}

/// A place for a series: one line of a cache, so that whoever comes to it waits for memory once.
#[derive(Default)]
#[repr(align(64))]
pub struct Seat {
    /// The generation of the tenant, 0 while there is none.
    pub generation: u32,
    /// When the tenant moved in, by the clock.
    pub since: i64,
    /// The tenant's samples.
    pub series: Series,
}

/// One part of the series.
pub struct Shard {
    seats: Vec<Seat>,
    /// Samples older than this have moved to blocks.
    pub floor: i64,
}

impl Shard {
    /// Gives the series that a reference names, `None` when it is gone.
    #[inline]
    pub fn get(&self, place: usize, generation: u32) -> Option<&Series> {
        self.seats
            .get(place)
            .filter(|seat| seat.generation == generation)
            .map(|seat| &seat.series)
    }

    /// Gives the series that a reference names, to be changed; `None` when it is gone.
    #[inline]
    pub fn get_mut(&mut self, place: usize, generation: u32) -> Option<&mut Series> {
        self.seats
            .get_mut(place)
            .filter(|seat| seat.generation == generation)
            .map(|seat| &mut seat.series)
    }

    /// Walks the occupied seats, with their places.
    pub fn seats(&self) -> impl Iterator<Item = (usize, &Seat)> {
        self.seats
            .iter()
            .enumerate()
            .filter(|(_, seat)| seat.generation != 0)
    }
}

/// The shards of the head, and the bounds of what they hold.
pub struct Head {
    shards: Vec<RwLock<Shard>>,
    newest: AtomicI64,
    oldest: AtomicI64,
}

impl Head {
    /// Makes an empty head.
    pub fn new() -> Self {
        let shard = || {
            RwLock::new(Shard {
                seats: Vec::new(),
                floor: i64::MIN,
            })
        };
        Head {
            shards: (0..SHARD_COUNT).map(|_| shard()).collect(),
            newest: AtomicI64::new(i64::MIN),
            oldest: AtomicI64::new(i64::MAX),
        }
    }

    /// Counts the shards.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Locks a shard for reading.
    pub fn read(&self, shard: usize) -> RwLockReadGuard<'_, Shard> {
        self.shards[shard].read()
    }

    /// Locks a shard for writing.
    pub fn write(&self, shard: usize) -> RwLockWriteGuard<'_, Shard> {
        self.shards[shard].write()
    }

    /// Gives the slot at a place of a shard; the inverse of [`place`].
    pub fn slot_at(shard: usize, place: usize) -> u32 {
        let run = place / SHARD_RUN * SHARD_COUNT + shard;
        (run * SHARD_RUN + place % SHARD_RUN) as u32
    }

    /// Moves a new series into a slot.
    pub fn seat(&self, slot: u32, generation: u32, since: i64) {
        let (shard, place) = place(slot);
        let mut shard = self.write(shard);
        if shard.seats.len() <= place {
            let more = (shard.seats.len() / 8).max(SHARD_RUN);
            if shard.seats.capacity() <= place {
                shard.seats.reserve_exact(more);
            }
            shard.seats.resize_with(place + 1, Seat::default);
        }
        shard.seats[place] = Seat {
            generation,
            since,
            series: Series::default(),
        };
    }

    /// Moves a series out of its slot.
    pub fn unseat(&self, slot: u32) {
        let (shard, place) = place(slot);
        if let Some(seat) = self.write(shard).seats.get_mut(place) {
            *seat = Seat::default();
        }
    }

    /// Gives the newest moment of any sample ever taken, `i64::MIN` when there is none.
    pub fn newest(&self) -> i64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// Gives a moment that no sample in memory is older than, `i64::MAX` when there is none.
    pub fn oldest(&self) -> i64 {
        self.oldest.load(Ordering::Relaxed)
    }

    /// Notes the oldest and the newest moment of samples that were taken.
    pub fn note(&self, oldest: i64, newest: i64) {
        self.newest.fetch_max(newest, Ordering::Relaxed);
        self.oldest.fetch_min(oldest, Ordering::Relaxed);
    }

    /// Forgets the samples at `from` and after it, because the clock was set back behind them, and marks the series
    /// that lose some as ended: those that live on get new samples, and of the others nobody knows what held an hour
    /// ago. No append may be under way.
    pub fn rewind(&self, from: i64) {
        let end = from.saturating_sub(1);
        for shard in &self.shards {
            let mut shard = shard.write();
            let seats = shard.seats.iter_mut().filter(|seat| seat.generation != 0);
            for seat in seats.filter(|seat| seat.series.newest().is_some_and(|newest| newest >= from)) {
                seat.series.drop_from(from);
                if !seat.series.is_empty() && seat.series.newest().is_some_and(|newest| newest < end) {
                    seat.series.push(end, stale_nan());
                }
            }
        }
        self.newest.fetch_min(end, Ordering::Relaxed);
    }

    /// Sets the oldest moment anew, after samples left; no append may be under way.
    pub fn set_oldest(&self, oldest: i64) {
        self.oldest.store(oldest, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_one_line_of_a_cache() {
        assert_eq!(size_of::<Seat>(), 64);
    }

    #[test]
    fn each_slot_has_one_place_and_each_place_one_slot() {
        for slot in (0..200_000).chain([u32::MAX / 2]) {
            let (shard, place) = place(slot);
            assert_eq!(Head::slot_at(shard, place), slot);
        }
        assert_eq!(
            place(255).0,
            place(0).0,
            "neighbours share a shard, so one lock serves a target"
        );
        assert_ne!(place(256).0, place(0).0);
    }
}

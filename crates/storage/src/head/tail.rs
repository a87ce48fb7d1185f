//! The newest samples of a series, uncompressed, times and values in one piece of memory.
//!
//! Windows of alert rules are lent out of here, each to a rule that slept for seconds: what counts is how many places in
//! memory a window touches, and whether one must have come before the next is known. So there is one pointer to
//! follow, and where a window begins is reckoned from the usual distance of samples rather than searched for.

use marketprism_model::series::Samples;

/// A tail holds no more samples.
pub const TAIL_COUNT_MAX: usize = 48;
/// A series that lives for so few samples stays small; one that lives on gets all it will need at once, for growing in
/// steps leaves holes behind that no other series fits into.
const FEW: usize = 4;

struct Room<const N: usize> {
    times: [i64; N],
    values: [f64; N],
}

impl<const N: usize> Room<N> {
    fn of(samples: Samples<'_>) -> Box<Self> {
        let mut room = Room {
            times: [0; N],
            values: [0.0; N],
        };
        let count = samples.timestamps.len();
        room.times[..count].copy_from_slice(samples.timestamps);
        room.values[..count].copy_from_slice(samples.values);
        Box::new(room)
    }
}

/// The number of samples stands beside the room, so that both enums and it take two words.
#[derive(Default)]
enum Held {
    #[default]
    None,
    Few(u8, Box<Room<FEW>>),
    Many(u8, Box<Room<TAIL_COUNT_MAX>>),
}

/// The newest samples of a series, times rising.
#[derive(Default)]
pub struct Tail(Held);

impl Tail {
    /// Counts the samples.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Held::None => 0,
            Held::Few(count, _) | Held::Many(count, _) => usize::from(*count),
        }
    }

    /// Says whether there is no sample.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lends all samples.
    #[inline]
    pub fn samples(&self) -> Samples<'_> {
        match &self.0 {
            Held::None => Samples::numbers(&[], &[]),
            Held::Few(count, room) => {
                let count = usize::from(*count);
                Samples::numbers(&room.times[..count], &room.values[..count])
            }
            Held::Many(count, room) => {
                let count = usize::from(*count);
                Samples::numbers(&room.times[..count], &room.values[..count])
            }
        }
    }

    /// Lends the samples from `start` to `end`, both included.
    #[inline]
    pub fn within(&self, start: i64, end: i64) -> Samples<'_> {
        let Samples {
            timestamps, values, ..
        } = self.samples();
        let last = match timestamps.last() {
            Some(newest) if *newest <= end => timestamps.len(),
            _ => timestamps.partition_point(|time| *time <= end),
        };
        let first = count_before(&timestamps[..last], start);
        Samples::numbers(&timestamps[first..last], &values[first..last])
    }

    /// Adds a sample; the tail must not be full.
    #[inline]
    pub fn push(&mut self, time: i64, value: f64) {
        match &mut self.0 {
            Held::Many(count, room) => {
                let at = usize::from(*count);
                (room.times[at], room.values[at]) = (time, value);
                *count += 1;
            }
            Held::Few(count, room) if usize::from(*count) < FEW => {
                let at = usize::from(*count);
                (room.times[at], room.values[at]) = (time, value);
                *count += 1;
            }
            _ => self.push_into_more(time, value),
        }
    }

    fn push_into_more(&mut self, time: i64, value: f64) {
        let before = self.samples();
        let count = before.timestamps.len() as u8;
        self.0 = match count {
            0 => Held::Few(0, Room::of(before)),
            _ => Held::Many(count, Room::of(before)),
        };
        self.push(time, value);
    }

    /// Forgets the first `count` samples.
    pub fn drop_first(&mut self, count: usize) {
        match &mut self.0 {
            Held::None => {}
            Held::Few(left, room) => {
                room.times.copy_within(count.., 0);
                room.values.copy_within(count.., 0);
                *left -= count as u8;
            }
            Held::Many(left, room) => {
                room.times.copy_within(count.., 0);
                room.values.copy_within(count.., 0);
                *left -= count as u8;
            }
        }
    }

    /// Forgets all but the first `count` samples.
    pub fn truncate(&mut self, count: usize) {
        if let Held::Few(left, _) | Held::Many(left, _) = &mut self.0 {
            *left = (*left).min(count as u8);
        }
    }
}

/// Counts the leading times before `start`. They rise; where they do so evenly, three of them are looked at.
#[inline]
fn count_before(times: &[i64], start: i64) -> usize {
    let (Some(first), Some(newest)) = (times.first(), times.last()) else {
        return 0;
    };
    if *first >= start {
        return 0;
    }
    if *newest < start {
        return times.len();
    }
    // So there are at least two, and the answer is one of the places after the first.
    let last = times.len() - 1;
    let step = (newest.saturating_sub(*first) / last as i64).max(1);
    let back = usize::try_from(newest.saturating_sub(start) / step).unwrap_or(last);
    let mut place = last.saturating_sub(back).max(1);
    while times[place] < start {
        place += 1;
    }
    while times[place - 1] >= start {
        place -= 1;
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tail_is_two_words() {
        assert_eq!(size_of::<Tail>(), 2 * size_of::<usize>());
    }

    proptest! {
        #[test]
        fn what_is_reckoned_is_what_would_be_found(
            times in proptest::collection::btree_set(-50i64..400, 0..48),
            start in -60i64..410,
            is_even in any::<bool>(),
        ) {
            let mut times: Vec<i64> = times.into_iter().collect();
            if is_even {
                times = (0..times.len() as i64).map(|place| place * 7).collect();
            }
            prop_assert_eq!(count_before(&times, start), times.partition_point(|time| *time < start));
        }

        #[test]
        fn times_far_apart_are_found_too(mut times in proptest::collection::vec(any::<i64>(), 0..48), start in any::<i64>()) {
            times.sort_unstable();
            times.dedup();
            prop_assert_eq!(count_before(&times, start), times.partition_point(|time| *time < start));
        }

        #[test]
        fn a_tail_behaves_as_a_list(steps in proptest::collection::vec((0u8..20, 0usize..50), 0..200), start in 0i64..300, end in 0i64..300) {
            let (mut tail, mut list, mut next) = (Tail::default(), Vec::new(), 0i64);
            for (act, count) in steps {
                match act {
                    0 => {
                        let count = count.min(list.len());
                        tail.drop_first(count);
                        list.drain(..count);
                    }
                    1 => {
                        tail.truncate(count);
                        list.truncate(count);
                    }
                    _ if list.len() < TAIL_COUNT_MAX => {
                        next += 1 + count as i64 % 3;
                        tail.push(next, next as f64);
                        list.push(next);
                    }
                    _ => {}
                }
                prop_assert_eq!(tail.samples().timestamps, &list[..]);
                prop_assert_eq!(tail.len(), list.len());
            }
            let expected: Vec<i64> = list.into_iter().filter(|time| (start..=end).contains(time)).collect();
            let lent = tail.within(start, end);
            prop_assert_eq!(lent.timestamps, &expected[..]);
            let values: Vec<f64> = expected.iter().map(|time| *time as f64).collect();
            prop_assert_eq!(lent.values, &values[..]);
        }
    }
}

//! Sets of slots as sorted lists.
//!
//! Slots are used again, so a new series may belong in the middle of a list with a million members. Such slots
//! wait in a short list beside it, and are merged in when they have become many or when somebody reads.

use std::borrow::Cow;

/// So many slots may wait, and as many more as a sixteenth of the list.
const WAITING_MIN: usize = 64;

/// The slots of one label value.
#[derive(Clone, Debug, Default)]
pub struct Postings {
    sorted: Vec<u32>,
    /// In no order, none of them in `sorted`; absent when empty, for most lists are short and never need it.
    #[expect(
        clippy::box_collection,
        reason = "a vector here would make every short list 16 bytes larger"
    )]
    waiting: Option<Box<Vec<u32>>>,
}

impl Postings {
    /// Adds a slot that is not there.
    pub fn insert(&mut self, slot: u32) {
        if self.sorted.last().is_none_or(|last| *last < slot) {
            self.sorted.push(slot);
            return;
        }
        let waiting = self.waiting.get_or_insert_default();
        waiting.push(slot);
        if waiting.len() > WAITING_MIN + self.sorted.len() / 16 {
            self.settle();
        }
    }

    fn settle(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.sorted.extend_from_slice(&waiting);
            // The stable sort finds the long run that is sorted already.
            self.sorted.sort();
        }
    }

    /// Removes slots, given in rising order.
    pub fn remove_all(&mut self, slots: &[u32]) {
        self.settle();
        subtract(&mut self.sorted, slots);
    }

    /// Says whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty() && self.waiting.is_none()
    }

    /// Gives the slots in rising order.
    pub fn sorted(&self) -> Cow<'_, [u32]> {
        match &self.waiting {
            None => Cow::Borrowed(&self.sorted),
            Some(waiting) => {
                let mut all = self.sorted.clone();
                all.extend_from_slice(waiting);
                all.sort();
                Cow::Owned(all)
            }
        }
    }
}

/// Keeps of `set` what is also in `other`.
pub fn intersect(set: &mut Vec<u32>, other: &[u32]) {
    let mut rest = other;
    set.retain(|slot| {
        rest = &rest[gallop(rest, *slot)..];
        rest.first() == Some(slot)
    });
}

/// Removes from `set` what is in `other`.
pub fn subtract(set: &mut Vec<u32>, other: &[u32]) {
    let mut rest = other;
    set.retain(|slot| {
        rest = &rest[gallop(rest, *slot)..];
        rest.first() != Some(slot)
    });
}

/// Unites lists that may overlap.
pub fn union<'a>(lists: impl IntoIterator<Item = &'a [u32]>) -> Vec<u32> {
    let mut all: Vec<u32> = Vec::new();
    let mut is_sorted = true;
    for list in lists {
        is_sorted &= match (all.last(), list.first()) {
            (Some(last), Some(first)) => last < first,
            _ => true,
        };
        all.extend_from_slice(list);
    }
    if !is_sorted {
        all.sort_unstable();
        all.dedup();
    }
    all
}

/// Counts the leading members smaller than `slot`, by steps that double.
fn gallop(sorted: &[u32], slot: u32) -> usize {
    let mut step = 1;
    while step < sorted.len() && sorted[step - 1] < slot {
        step *= 2;
    }
    let from = step / 2;
    let to = step.min(sorted.len());
    from + sorted[from..to].partition_point(|other| *other < slot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn list(set: &BTreeSet<u32>) -> Vec<u32> {
        set.iter().copied().collect()
    }

    proptest! {
        #[test]
        fn lists_behave_as_sets(
            a in proptest::collection::btree_set(0u32..300, 0..100),
            b in proptest::collection::btree_set(0u32..300, 0..100),
        ) {
            let mut both = list(&a);
            intersect(&mut both, &list(&b));
            prop_assert_eq!(both, a.intersection(&b).copied().collect::<Vec<_>>());
            let mut left = list(&a);
            subtract(&mut left, &list(&b));
            prop_assert_eq!(left, a.difference(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(union([&list(&a)[..], &list(&b)[..]]), a.union(&b).copied().collect::<Vec<_>>());
        }

        #[test]
        fn slots_that_wait_are_members(steps in proptest::collection::vec((0u32..300, 0u8..8), 0..400)) {
            let (mut postings, mut set) = (Postings::default(), BTreeSet::new());
            for (slot, act) in steps {
                if act == 0 {
                    postings.remove_all(&[slot, slot + 7]);
                    set.remove(&slot);
                    set.remove(&(slot + 7));
                } else if set.insert(slot) {
                    postings.insert(slot);
                }
                prop_assert_eq!(postings.sorted().into_owned(), list(&set));
                prop_assert_eq!(postings.is_empty(), set.is_empty());
            }
        }
    }
}

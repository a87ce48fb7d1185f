//! Sets of slots as sorted lists.

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

/// Adds a slot, nearly always at the end.
pub fn insert(set: &mut Vec<u32>, slot: u32) {
    match set.last() {
        Some(last) if *last >= slot => {
            if let Err(at) = set.binary_search(&slot) {
                set.insert(at, slot);
            }
        }
        _ => set.push(slot),
    }
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
            slot in 0u32..300,
        ) {
            let mut both = list(&a);
            intersect(&mut both, &list(&b));
            prop_assert_eq!(both, a.intersection(&b).copied().collect::<Vec<_>>());
            let mut left = list(&a);
            subtract(&mut left, &list(&b));
            prop_assert_eq!(left, a.difference(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(union([&list(&a)[..], &list(&b)[..]]), a.union(&b).copied().collect::<Vec<_>>());
            let (mut grown, mut set) = (list(&a), a);
            insert(&mut grown, slot);
            set.insert(slot);
            prop_assert_eq!(grown, list(&set));
        }
    }
}

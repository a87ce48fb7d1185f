//! What is made from labels and can be kept as long as the same labels come back: groups, joins,
//! buckets, relabelled rows.
//!
//! Bounded by weight, the bytes held; what was not used for longest goes first.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

struct Entry<V> {
    value: V,
    weight: usize,
    used: u64,
}

struct Inner<K, V> {
    entries: HashMap<K, Entry<V>>,
    weight: usize,
    clock: u64,
}

/// A map that forgets.
pub(crate) struct Cache<K, V> {
    inner: Mutex<Inner<K, V>>,
    weight_max: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(weight_max: usize) -> Self {
        let inner = Inner {
            entries: HashMap::new(),
            weight: 0,
            clock: 0,
        };
        Cache {
            inner: Mutex::new(inner),
            weight_max,
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let inner = &mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let entry = inner.entries.get_mut(key)?;
        entry.used = inner.clock;
        Some(entry.value.clone())
    }

    /// Keeps a value; one that alone is heavier than the bound is not kept.
    pub(crate) fn put(&self, key: K, value: V, weight: usize) {
        if weight > self.weight_max {
            return;
        }
        let inner = &mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let entry = Entry {
            value,
            weight,
            used: inner.clock,
        };
        inner.weight += weight;
        if let Some(old) = inner.entries.insert(key, entry) {
            inner.weight -= old.weight;
        }
        if inner.weight > self.weight_max {
            inner.forget(self.weight_max / 4 * 3);
        }
    }
}

impl<K: Hash + Eq + Clone, V> Inner<K, V> {
    fn forget(&mut self, weight_goal: usize) {
        let mut by_age: Vec<(u64, K)> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.used, key.clone()))
            .collect();
        by_age.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in by_age {
            if self.weight <= weight_goal {
                break;
            }
            if let Some(entry) = self.entries.remove(&key) {
                self.weight -= entry.weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_is_forgotten_first() {
        let cache = Cache::new(100);
        for key in 0..10 {
            cache.put(key, key, 10);
        }
        assert_eq!(cache.get(&0), Some(0));
        cache.put(10, 10, 10);
        assert_eq!(
            (cache.get(&0), cache.get(&1), cache.get(&10)),
            (Some(0), None, Some(10))
        );
        cache.put(11, 11, 101);
        assert_eq!(cache.get(&11), None);
    }
}

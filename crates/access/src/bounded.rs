//! A map that forgets what was used longest ago, so that no flood of keys fills the memory.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Keeps at most `max` entries.
pub(crate) struct Bounded<K, V> {
    max: usize,
    tick: u64,
    entries: HashMap<K, (V, u64)>,
    /// Keys by the tick of their last use.
    order: BTreeMap<u64, K>,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Bounded {
            max: max.max(1),
            tick: 0,
            entries: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    /// Gives an entry, which counts as a use of it.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        self.tick += 1;
        let (value, used) = self.entries.get_mut(key)?;
        self.order.remove(used);
        self.order.insert(self.tick, key.clone());
        *used = self.tick;
        Some(value)
    }

    /// Puts an entry in; the one used longest ago leaves when there is no room.
    pub(crate) fn put(&mut self, key: K, value: V) {
        self.remove(&key);
        if self.entries.len() >= self.max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.tick += 1;
        self.order.insert(self.tick, key.clone());
        self.entries.insert(key, (value, self.tick));
    }

    /// Gives an entry, made when it is not there.
    pub(crate) fn get_or_put(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(&key) {
            self.put(key.clone(), make());
        }
        self.get(&key).expect("it was just put in")
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (value, used) = self.entries.remove(key)?;
        self.order.remove(&used);
        Some(value)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

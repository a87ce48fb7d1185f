//! Which series there are, and which of them matchers keep.
//!
//! For each label name and value stands the sorted list of slots that have it. A matcher that cannot match the
//! empty string is a union of such lists; one that can is a list of what it takes away. The values a regular
//! expression keeps are found by look-up when it is an alternation of plain words, else by running it once over
//! that label's values.
//! Each list, each name and the whole index remember the number of their last change, so that a kept choice can be
//! recognised as still true ([`Index::evidence`]) without making it anew.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::hash_map::EntryRef;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use marketprism_model::{Labels, Matcher, MatcherOp};

use super::postings::{self, Postings};

struct Tenant {
    labels: Labels,
    generation: u32,
    is_here: bool,
}

#[derive(Default)]
struct Value {
    slots: Postings,
    changed: u64,
}

#[derive(Default)]
struct Name {
    values: HashMap<Arc<str>, Value>,
    changed: u64,
}

fn at_mut<'m, T: Default>(map: &'m mut HashMap<Arc<str>, T>, key: &str) -> &'m mut T {
    match map.entry_ref(key) {
        EntryRef::Occupied(entry) => entry.into_mut(),
        EntryRef::Vacant(entry) => entry
            .insert_entry_with_key(Arc::from(key), T::default())
            .into_mut(),
    }
}

/// The index of the head.
#[derive(Default)]
pub struct Index {
    tenants: Vec<Tenant>,
    free: Vec<u32>,
    by_labels: HashTable<u32>,
    names: HashMap<Arc<str>, Name>,
    hasher: DefaultHashBuilder,
    changes: Changes,
}

/// The number of the last change of an index; clones share it, so that it can be read without the index's lock.
#[derive(Clone, Debug, Default)]
pub struct Changes(Arc<AtomicU64>);

impl Changes {
    /// Gives the number. What was told to anybody to be in the index is in it at this number.
    #[inline]
    pub fn last(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Counts a change, before any of it can be seen; whoever reads the new number waits for the lock to see it whole.
    fn next(&mut self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// What a choice of series rests on: while one piece stands, the same matchers give the same series.
#[derive(Debug)]
pub struct Evidence {
    /// The last change after which it was seen to stand.
    changes: AtomicU64,
    pieces: Box<[u64]>,
}

impl Evidence {
    /// Says whether nothing at all has changed since it was seen to stand.
    #[inline]
    pub fn is_fresh(&self, changes: &Changes) -> bool {
        self.changes.load(Ordering::Acquire) == changes.last()
    }
}

impl Index {
    /// Gives the number of changes, to be read without the index.
    pub fn changes(&self) -> Changes {
        self.changes.clone()
    }

    /// Counts the series.
    pub fn series_count(&self) -> usize {
        self.by_labels.len()
    }

    /// Finds the slot and generation of a series.
    pub fn find(&self, labels: &Labels) -> Option<(u32, u32)> {
        let hash = self.hasher.hash_one(labels);
        let slot = *self
            .by_labels
            .find(hash, |slot| self.tenants[*slot as usize].labels == *labels)?;
        Some((slot, self.tenants[slot as usize].generation))
    }

    /// Adds a series that is not there yet; gives its slot and generation.
    pub fn add(&mut self, labels: Labels) -> (u32, u32) {
        let slot = self.free.pop().unwrap_or(self.tenants.len() as u32);
        let change = self.changes.next();
        for (name, value) in &labels {
            let name = at_mut(&mut self.names, name);
            name.changed = change;
            let value = at_mut(&mut name.values, value);
            value.changed = change;
            value.slots.insert(slot);
        }
        let hash = self.hasher.hash_one(&labels);
        let generation = match self.tenants.get_mut(slot as usize) {
            Some(tenant) => {
                tenant.labels = labels;
                tenant.is_here = true;
                tenant.generation
            }
            None => {
                self.tenants.push(Tenant {
                    labels,
                    generation: 1,
                    is_here: true,
                });
                1
            }
        };
        let (tenants, hasher) = (&self.tenants, &self.hasher);
        self.by_labels.insert_unique(hash, slot, |slot| {
            hasher.hash_one(&tenants[*slot as usize].labels)
        });
        (slot, generation)
    }

    /// Removes series; their slots are free for others, under new generations.
    ///
    /// Many at once, because each list they stand in is walked whole.
    pub fn remove_all(&mut self, slots: &[u32]) {
        let change = self.changes.next();
        let mut gone: HashMap<Labels, u32> = HashMap::new();
        for slot in slots {
            let Some(tenant) = self.tenants.get_mut(*slot as usize).filter(|t| t.is_here) else {
                continue;
            };
            let labels = std::mem::take(&mut tenant.labels);
            tenant.is_here = false;
            tenant.generation = tenant.generation.checked_add(1).unwrap_or(1);
            let hash = self.hasher.hash_one(&labels);
            if let Ok(entry) = self.by_labels.find_entry(hash, |other| other == slot) {
                entry.remove();
            }
            self.free.push(*slot);
            gone.insert(labels, *slot);
        }
        let mut touched: HashMap<(&str, &str), Vec<u32>> = HashMap::new();
        for (labels, slot) in &gone {
            for pair in labels {
                touched.entry(pair).or_default().push(*slot);
            }
        }
        for ((name, value), mut slots) in touched {
            slots.sort_unstable();
            let Some(at_name) = self.names.get_mut(name) else {
                continue;
            };
            at_name.changed = change;
            if let Some(at_value) = at_name.values.get_mut(value) {
                at_value.changed = change;
                at_value.slots.remove_all(&slots);
                if at_value.slots.is_empty() {
                    at_name.values.remove(value);
                }
            }
            if at_name.values.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// Gives the labels and generation of the series in a slot.
    pub fn tenant(&self, slot: u32) -> Option<(&Labels, u32)> {
        self.tenants
            .get(slot as usize)
            .filter(|tenant| tenant.is_here)
            .map(|tenant| (&tenant.labels, tenant.generation))
    }

    /// Gives the slots of the series that all matchers keep, rising.
    pub fn choose(&self, matchers: &[Matcher]) -> Vec<u32> {
        let mut keeping: Vec<Vec<u32>> = Vec::new();
        for matcher in matchers.iter().filter(|m| !m.matches_empty()) {
            let lists = self.lists(matcher, true);
            if lists.is_empty() {
                return Vec::new();
            }
            keeping.push(postings::union(lists.iter().map(|list| &**list)));
        }
        keeping.sort_by_key(Vec::len);
        let mut keeping = keeping.into_iter();
        let mut chosen = keeping.next().unwrap_or_else(|| self.slots());
        for list in keeping {
            postings::intersect(&mut chosen, &list);
        }
        for matcher in matchers.iter().filter(|m| m.matches_empty()) {
            for list in self.lists(matcher, false) {
                postings::subtract(&mut chosen, &list);
            }
        }
        chosen
    }

    /// Gives the lists of the values that the matcher keeps, or those that it does not.
    fn lists(&self, matcher: &Matcher, is_kept: bool) -> Vec<Cow<'_, [u32]>> {
        let Some(name) = self.names.get(&*matcher.name) else {
            return Vec::new();
        };
        if let Some(words) = compared_words(matcher)
            && is_kept != matcher.op.is_negative()
        {
            return words
                .iter()
                .filter_map(|word| name.values.get(*word))
                .map(|value| value.slots.sorted())
                .collect();
        }
        name.values
            .iter()
            .filter(|(text, _)| matcher.matches(text) == is_kept)
            .map(|(_, value)| value.slots.sorted())
            .collect()
    }

    fn slots(&self) -> Vec<u32> {
        let is_here = |(slot, tenant): (usize, &Tenant)| tenant.is_here.then_some(slot as u32);
        self.tenants.iter().enumerate().filter_map(is_here).collect()
    }

    /// Notes what a choice rests on.
    pub fn evidence(&self, matchers: &[Matcher]) -> Evidence {
        Evidence {
            changes: AtomicU64::new(self.changes.last()),
            pieces: matchers.iter().map(|matcher| self.piece(matcher)).collect(),
        }
    }

    /// Says whether a choice is still true, and if so, notes that it was looked at now.
    pub fn upholds(&self, matchers: &[Matcher], evidence: &Evidence) -> bool {
        let stands = evidence.is_fresh(&self.changes)
            || matchers
                .iter()
                .zip(&evidence.pieces)
                .any(|(matcher, piece)| !matcher.matches_empty() && self.piece(matcher) == *piece);
        if stands {
            // Whoever holds the index holds its changes back, so this is the number that was looked at.
            evidence.changes.store(self.changes.last(), Ordering::Release);
        }
        stands
    }

    /// Gives the number of the last change that could have touched what one matcher keeps.
    fn piece(&self, matcher: &Matcher) -> u64 {
        let Some(name) = self.names.get(&*matcher.name) else {
            return 0;
        };
        match matcher.op {
            MatcherOp::Equal => name.values.get(&*matcher.value).map_or(0, |value| value.changed),
            _ => name.changed,
        }
    }

    /// Gives all label names, sorted.
    pub fn label_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.keys().map(|name| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Gives all values of a label, sorted.
    pub fn label_values(&self, name: &str) -> Vec<String> {
        let values = self
            .names
            .get(name)
            .into_iter()
            .flat_map(|name| name.values.keys());
        let mut values: Vec<String> = values.map(|value| value.to_string()).collect();
        values.sort_unstable();
        values
    }
}

/// Gives the words a matcher compares with, when it is no more than a list of words.
pub fn compared_words(matcher: &Matcher) -> Option<Vec<&str>> {
    match matcher.op {
        MatcherOp::Equal | MatcherOp::NotEqual => Some(vec![&matcher.value]),
        MatcherOp::Matches | MatcherOp::NotMatches => {
            const OPERATORS: &[char] = &[
                '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$', '\\', '&', '~', '#',
            ];
            let mut words: Vec<&str> =
                (!matcher.value.contains(OPERATORS)).then(|| matcher.value.split('|').collect())?;
            words.sort_unstable();
            words.dedup();
            Some(words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn labels() -> impl Strategy<Value = Labels> {
        proptest::collection::vec(("[abc]", "[xyz]{0,2}"), 0..4).prop_map(Labels::from_pairs)
    }

    fn matcher() -> impl Strategy<Value = Matcher> {
        let value = prop_oneof![
            "[xyz]{0,2}",
            Just("x|y".to_owned()),
            Just("x|".to_owned()),
            Just(".+".to_owned()),
            Just(".*".to_owned()),
            Just("x.*|z".to_owned()),
        ];
        let op = prop_oneof![
            Just(MatcherOp::Equal),
            Just(MatcherOp::NotEqual),
            Just(MatcherOp::Matches),
            Just(MatcherOp::NotMatches)
        ];
        ("[abcd]", op, value)
            .prop_map(|(name, op, value)| Matcher::new(&name, op, &value).expect("valid expressions"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn choices_are_those_of_a_full_walk_and_evidence_never_outlives_a_change(
            steps in proptest::collection::vec((any::<bool>(), labels()), 1..40),
            questions in proptest::collection::vec(proptest::collection::vec(matcher(), 0..4), 1..8),
        ) {
            let (mut index, mut model) = (Index::default(), BTreeMap::new());
            let mut kept: Vec<Option<(Evidence, Vec<u64>)>> = questions.iter().map(|_| None).collect();
            for (is_added, labels) in steps {
                match (is_added, index.find(&labels)) {
                    (true, None) => {
                        let (slot, generation) = index.add(labels.clone());
                        model.insert(slot, (labels, generation));
                    }
                    (false, Some((slot, _))) => {
                        index.remove_all(&[slot]);
                        model.remove(&slot);
                    }
                    _ => {}
                }
                prop_assert_eq!(index.series_count(), model.len());
                for (question, kept) in questions.iter().zip(&mut kept) {
                    let expected: Vec<u32> = model.iter()
                        .filter(|(_, (labels, _))| question.iter().all(|m| m.matches_labels(labels)))
                        .map(|(slot, _)| *slot).collect();
                    prop_assert_eq!(index.choose(question), expected.clone());
                    let ids: Vec<u64> = expected.iter()
                        .map(|slot| super::super::reference(*slot, model[slot].1).0).collect();
                    let stands = kept.as_ref().is_some_and(|(evidence, _)| index.upholds(question, evidence));
                    match kept {
                        Some((_, before)) if stands => prop_assert_eq!(&ids, before),
                        _ => *kept = Some((index.evidence(question), ids)),
                    }
                }
            }
        }
    }

    #[test]
    fn a_new_series_elsewhere_leaves_a_choice_standing() {
        let mut index = Index::default();
        index.add(Labels::from_pairs([("__name__", "up"), ("instance", "a")]));
        let question = [Matcher::equal("__name__", "up"), Matcher::equal("instance", "a")];
        let evidence = index.evidence(&question);
        index.add(Labels::from_pairs([("__name__", "up"), ("instance", "b")]));
        assert!(index.upholds(&question, &evidence));
        index.add(Labels::from_pairs([
            ("__name__", "up"),
            ("instance", "a"),
            ("job", "x"),
        ]));
        assert!(!index.upholds(&question, &evidence));
    }

    #[test]
    fn plain_alternations_are_words_and_expressions_are_not() {
        let words = |pattern: &str| {
            let matcher = Matcher::new("a", MatcherOp::Matches, pattern).expect(pattern);
            compared_words(&matcher).map(|words| words.iter().map(|w| w.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(words("b|a|b"), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(words("a.b|c"), None);
        assert_eq!(words("(a|b)"), None);
    }
}

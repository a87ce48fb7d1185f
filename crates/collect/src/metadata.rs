//! What targets and senders say about their metrics: type, help and unit.
//!
//! Thousands of targets say the same, so each distinct text is kept once and shared. A target keeps the list of what
//! it said last; what senders push is kept here under its family.
//!
//! Deliberately absent: any meaning. Queries do not ask it; it is shown to people.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::exposition::{Entry, Format, MetricKind, Parser};

/// A longer help text or unit is cut.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// More families of one target are left out.
const FAMILIES_PER_TARGET_MAX: usize = 20_000;
/// More pushed families are left out; more shared texts are swept.
const FAMILIES_MAX: usize = 100_000;

/// What is known about one metric family.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct FamilyMetadata {
    /// The family's name, as written.
    #[serde(rename = "metric")]
    pub family: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: MetricKind,
    /// What it means, possibly nothing.
    pub help: String,
    /// Its unit, possibly nothing.
    pub unit: String,
}

/// What one target said, in the order of families.
pub type TargetMetadata = Arc<[Arc<FamilyMetadata>]>;

/// Keeps each distinct text once, and what was pushed. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MetadataStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    shared: HashSet<Arc<FamilyMetadata>>,
    /// So many texts are let by before the full set is swept again, for a sweep looks at all of it.
    unswept: usize,
    pushed: BTreeMap<String, Arc<FamilyMetadata>>,
}

impl Inner {
    /// Forgets what nobody holds, at most once in as many calls as the set has places.
    fn sweep(&mut self) {
        if self.unswept > 0 {
            self.unswept -= 1;
            return;
        }
        self.shared.retain(|shared| Arc::strong_count(shared) > 1);
        self.unswept = FAMILIES_MAX;
    }
}

impl MetadataStore {
    /// Gives the shared form of a text.
    pub fn share(&self, mut family: FamilyMetadata) -> Arc<FamilyMetadata> {
        cut(&mut family.help);
        cut(&mut family.unit);
        let mut inner = self.inner.lock();
        if let Some(shared) = inner.shared.get(&family) {
            return Arc::clone(shared);
        }
        if inner.shared.len() >= FAMILIES_MAX {
            inner.sweep();
        }
        let family = Arc::new(family);
        if inner.shared.len() < FAMILIES_MAX {
            inner.shared.insert(Arc::clone(&family));
        }
        family
    }

    /// Keeps what a sender pushed; the newest word about a family wins. Left out when too many are known.
    pub fn push(&self, family: FamilyMetadata) {
        let family = self.share(family);
        let mut inner = self.inner.lock();
        if inner.pushed.len() < FAMILIES_MAX || inner.pushed.contains_key(&family.family) {
            inner.pushed.insert(family.family.clone(), family);
        }
    }

    /// Gives what was pushed, by family.
    pub fn pushed(&self) -> Vec<Arc<FamilyMetadata>> {
        self.inner.lock().pushed.values().cloned().collect()
    }

    /// Reads the comments of a body that parses.
    pub(crate) fn of_body(&self, body: &[u8], format: Format) -> TargetMetadata {
        let mut families: BTreeMap<&[u8], FamilyMetadata> = BTreeMap::new();
        let mut parser = Parser::new(body, format);
        while let Ok(Some(entry)) = parser.next_entry() {
            let family = match &entry {
                Entry::Type(family, _) | Entry::Help(family, _) | Entry::Unit(family, _) => *family,
                Entry::Sample(_) => continue,
            };
            if families.len() >= FAMILIES_PER_TARGET_MAX && !families.contains_key(family) {
                continue;
            }
            let known = families.entry(family).or_insert_with(|| FamilyMetadata {
                family: String::from_utf8_lossy(family).into_owned(),
                kind: MetricKind::Unknown,
                help: String::new(),
                unit: String::new(),
            });
            match entry {
                Entry::Type(_, kind) => known.kind = kind,
                Entry::Help(_, text) => known.help = text.into_owned(),
                Entry::Unit(_, unit) => known.unit = String::from_utf8_lossy(unit).into_owned(),
                Entry::Sample(_) => {}
            }
        }
        families.into_values().map(|family| self.share(family)).collect()
    }
}

/// Gives as much of a help text or unit as is kept. Decoders cut too: few bytes may refer to a long text often.
pub(crate) fn cut_text(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

fn cut(text: &mut String) {
    text.truncate(cut_text(text).len());
    // What was cut off would be held otherwise, as long as the rest is.
    text.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(name: &str, help: &str) -> FamilyMetadata {
        FamilyMetadata {
            family: name.to_owned(),
            kind: MetricKind::Gauge,
            help: help.to_owned(),
            unit: String::new(),
        }
    }

    /// When all places were held, each further text looked at all of them: minutes under the lock for one body.
    #[test]
    fn a_set_whose_every_text_is_held_is_swept_seldom() {
        let store = MetadataStore::default();
        let name = |number: usize| family(&number.to_string(), "");
        let held: Vec<_> = (0..FAMILIES_MAX)
            .map(|number| store.share(name(number)))
            .collect();
        store.share(name(FAMILIES_MAX));
        drop(held);
        for number in 0..FAMILIES_MAX {
            assert_eq!(
                store.inner.lock().shared.len(),
                FAMILIES_MAX,
                "swept after {number}"
            );
            store.share(name(FAMILIES_MAX + 1 + number));
        }
        store.share(name(0));
        store.share(name(3 * FAMILIES_MAX));
        assert_eq!(
            store.inner.lock().shared.len(),
            1,
            "what nobody holds is forgotten in the end"
        );
    }

    #[test]
    fn equal_texts_are_kept_once_and_long_ones_are_cut_between_characters() {
        let store = MetadataStore::default();
        assert!(Arc::ptr_eq(
            &store.share(family("a", "x")),
            &store.share(family("a", "x"))
        ));
        assert!(!Arc::ptr_eq(
            &store.share(family("a", "x")),
            &store.share(family("a", "y"))
        ));
        let long = store.share(family("a", &"é".repeat(TEXT_BYTES_MAX)));
        assert_eq!(long.help.len(), TEXT_BYTES_MAX);
        assert!(
            long.help.capacity() < 2 * TEXT_BYTES_MAX,
            "no room is held for the rest"
        );
    }

    #[test]
    fn the_newest_word_of_a_sender_wins() {
        let store = MetadataStore::default();
        store.push(family("a", "old"));
        store.push(family("a", "new"));
        let helps: Vec<_> = store.pushed().iter().map(|family| family.help.clone()).collect();
        assert_eq!(helps, ["new"]);
    }

    #[test]
    fn unused_texts_make_room_and_too_many_are_not_kept() {
        let store = MetadataStore::default();
        let held = store.share(family("held", ""));
        for number in 0..=FAMILIES_MAX {
            store.share(family(&number.to_string(), ""));
        }
        assert!(store.inner.lock().shared.len() < FAMILIES_MAX);
        assert!(Arc::ptr_eq(&held, &store.share(family("held", ""))));
        for number in 0..FAMILIES_MAX + 10 {
            store.push(family(&number.to_string(), ""));
        }
        assert_eq!(store.pushed().len(), FAMILIES_MAX);
    }

    #[test]
    fn a_body_tells_type_help_and_unit_of_each_family() {
        let body = b"# TYPE a_s counter\n# UNIT a_s s\n# HELP a_s Text.\na_s_total 1\n# TYPE b info\n# EOF\n";
        let told = MetadataStore::default().of_body(body, Format::OpenMetrics);
        let told: Vec<_> = told
            .iter()
            .map(|f| {
                (
                    f.family.as_str(),
                    f.kind.as_str(),
                    f.help.as_str(),
                    f.unit.as_str(),
                )
            })
            .collect();
        assert_eq!(told, [("a_s", "counter", "Text.", "s"), ("b", "info", "", "")]);
    }
}

//! Finds the silences that match an alert without asking each of them.
//!
//! A silence stands under one matcher: the one whose values the fewest others stand under, so that of
//! `alertname="Down", instance="web-7"` the rare half is taken. A matcher has values when it says `=`, or `=~` with
//! words between bars. Without any, a silence stands under a label that must be there; else it is asked about
//! every alert.

use std::collections::HashMap;
use std::sync::Arc;

use marketprism_model::{Id, Labels, Matcher, MatcherOp, Silence};

use super::literals::literals;

/// Silences under the labels that they need.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_name: HashMap<Arc<str>, Named>,
    /// Those that need no label to be there.
    rest: Vec<Entry>,
    places: HashMap<Id, Place>,
}

#[derive(Debug, Default)]
struct Named {
    by_value: HashMap<Arc<str>, Vec<Entry>>,
    /// Those that need the label to be there, whatever its value.
    present: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    silence: Arc<Silence>,
    /// The matcher that the place has answered already.
    answered: Option<usize>,
}

impl Entry {
    fn matches(&self, labels: &Labels) -> bool {
        let matchers = self.silence.matchers.iter().enumerate();
        matchers
            .filter(|(at, _)| Some(*at) != self.answered)
            .all(|(_, matcher)| matcher.matches_labels(labels))
    }
}

/// Where a silence stands.
#[derive(Clone, Debug)]
enum Place {
    Values(Arc<str>, Vec<Arc<str>>),
    Present(Arc<str>),
    Rest,
}

impl Index {
    /// Adds a silence; one of the same id must have been removed.
    pub(super) fn insert(&mut self, silence: &Arc<Silence>) {
        let (place, answered) = self.place(silence);
        let entry = || Entry {
            silence: Arc::clone(silence),
            answered,
        };
        match &place {
            Place::Values(name, values) => {
                let named = self.by_name.entry(Arc::clone(name)).or_default();
                for value in values {
                    named.by_value.entry(Arc::clone(value)).or_default().push(entry());
                }
            }
            Place::Present(name) => {
                let named = self.by_name.entry(Arc::clone(name)).or_default();
                named.present.push(entry());
            }
            Place::Rest => self.rest.push(entry()),
        }
        self.places.insert(silence.id, place);
    }

    /// Removes a silence, if it is there.
    pub(super) fn remove(&mut self, silence: &Silence) {
        let without = |entries: &mut Vec<Entry>| {
            if let Some(at) = entries.iter().position(|entry| entry.silence.id == silence.id) {
                entries.swap_remove(at);
            }
        };
        let name = match self.places.remove(&silence.id) {
            None => return,
            Some(Place::Rest) => return without(&mut self.rest),
            Some(Place::Present(name)) => {
                if let Some(named) = self.by_name.get_mut(&name) {
                    without(&mut named.present);
                }
                name
            }
            Some(Place::Values(name, values)) => {
                if let Some(named) = self.by_name.get_mut(&name) {
                    for value in values {
                        if let Some(entries) = named.by_value.get_mut(&value) {
                            without(entries);
                            if entries.is_empty() {
                                named.by_value.remove(&value);
                            }
                        }
                    }
                }
                name
            }
        };
        let is_empty = |named: &Named| named.by_value.is_empty() && named.present.is_empty();
        if self.by_name.get(&name).is_some_and(is_empty) {
            self.by_name.remove(&name);
        }
    }

    /// Calls `found` once for each silence whose matchers match.
    pub(super) fn matching(&self, labels: &Labels, mut found: impl FnMut(&Silence)) {
        let mut ask = |entries: &[Entry]| {
            for entry in entries {
                if entry.matches(labels) {
                    found(&entry.silence);
                }
            }
        };
        ask(&self.rest);
        if self.by_name.is_empty() {
            return;
        }
        for (name, value) in labels {
            let Some(named) = self.by_name.get(name) else {
                continue;
            };
            ask(&named.present);
            if let Some(entries) = named.by_value.get(value) {
                ask(entries);
            }
        }
    }

    /// Chooses where a silence stands, and says which matcher is answered there.
    fn place(&self, silence: &Silence) -> (Place, Option<usize>) {
        let by_values = silence
            .matchers
            .iter()
            .enumerate()
            .filter_map(|(at, matcher)| Some((at, matcher, values(matcher)?)))
            .min_by_key(|(_, matcher, values)| (self.crowd(&matcher.name, values), values.len()));
        if let Some((at, matcher, values)) = by_values {
            return (Place::Values(Arc::clone(&matcher.name), values), Some(at));
        }
        let needed = silence
            .matchers
            .iter()
            .filter(|matcher| !matcher.matches_empty())
            .min_by_key(|matcher| {
                self.by_name
                    .get(&matcher.name)
                    .map_or(0, |named| named.present.len())
            });
        match needed {
            Some(matcher) => (Place::Present(Arc::clone(&matcher.name)), None),
            None => (Place::Rest, None),
        }
    }

    /// Counts the silences that stand under the most crowded of some values.
    fn crowd(&self, name: &str, values: &[Arc<str>]) -> usize {
        let Some(named) = self.by_name.get(name) else {
            return 0;
        };
        let crowds = values
            .iter()
            .map(|value| named.by_value.get(value).map_or(0, Vec::len));
        crowds.max().unwrap_or(0)
    }
}

/// Gives the values that a matcher keeps, none of them empty; `None` when they cannot be listed.
fn values(matcher: &Matcher) -> Option<Vec<Arc<str>>> {
    let values = match matcher.op {
        MatcherOp::Equal => vec![Arc::clone(&matcher.value)],
        MatcherOp::Matches => literals(&matcher.value)?,
        MatcherOp::NotEqual | MatcherOp::NotMatches => return None,
    };
    values.iter().all(|value| !value.is_empty()).then_some(values)
}

//! Finds the silences that match an alert without asking each of them.
//!
//! A silence stands under one matcher: the one whose values the fewest others stand under, so that of
//! `alertname="Down", instance="web-7"` the rare half is taken. A matcher has values when it says `=`, or `=~` with
//! words between bars. Without any, a silence stands under a label that must be there, by what its value begins with
//! (`web-` of `web-.*`); else it is asked about every alert.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use marketprism_model::{Id, Labels, Matcher, MatcherOp, Silence};

use super::literals::{literals, stem};

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
    /// Those that need the label to be there, by what its value begins with.
    by_stem: HashMap<Arc<str>, Vec<Entry>>,
    /// How many of those texts have this many bytes.
    stem_lengths: BTreeMap<usize, usize>,
}

#[derive(Debug)]
struct Entry {
    silence: Arc<Silence>,
    checks: Arc<[Check]>,
}

/// A matcher that the place has not answered already, the cheap ones first.
#[derive(Debug)]
struct Check {
    at: usize,
    /// Of an expression: what the value begins with if it is kept.
    stem: Box<str>,
}

impl Entry {
    fn matches(&self, labels: &Labels) -> bool {
        self.checks.iter().all(|check| {
            let matcher = &self.silence.matchers[check.at];
            let value = labels.get(&matcher.name).unwrap_or("");
            value.starts_with(&*check.stem) && matcher.matches(value)
        })
    }
}

/// Orders the matchers that are left to be asked.
fn checks(silence: &Silence, answered: Option<usize>) -> Arc<[Check]> {
    let is_expression = |op| matches!(op, MatcherOp::Matches | MatcherOp::NotMatches);
    let mut checks: Vec<Check> = silence
        .matchers
        .iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) != answered)
        .map(|(at, matcher)| Check {
            at,
            stem: matcher_stem(matcher).into(),
        })
        .collect();
    checks.sort_by_key(|check| is_expression(silence.matchers[check.at].op));
    checks.into()
}

fn matcher_stem(matcher: &Matcher) -> String {
    match matcher.op {
        MatcherOp::Matches => stem(&matcher.value),
        _ => String::new(),
    }
}

/// Where a silence stands.
#[derive(Clone, Debug)]
enum Place {
    Values(Arc<str>, Vec<Arc<str>>),
    Stem(Arc<str>, Arc<str>),
    Rest,
}

impl Index {
    /// Adds a silence; one of the same id must have been removed.
    pub(super) fn insert(&mut self, silence: &Arc<Silence>) {
        let (place, answered) = self.place(silence);
        let checks = checks(silence, answered);
        let entry = || Entry {
            silence: Arc::clone(silence),
            checks: Arc::clone(&checks),
        };
        match &place {
            Place::Values(name, values) => {
                let named = self.by_name.entry(Arc::clone(name)).or_default();
                for value in values {
                    named.by_value.entry(Arc::clone(value)).or_default().push(entry());
                }
            }
            Place::Stem(name, stem) => {
                let named = self.by_name.entry(Arc::clone(name)).or_default();
                named.by_stem.entry(Arc::clone(stem)).or_default().push(entry());
                *named.stem_lengths.entry(stem.len()).or_default() += 1;
            }
            Place::Rest => self.rest.push(entry()),
        }
        self.places.insert(silence.id, place);
    }

    /// Removes a silence, if it is there.
    pub(super) fn remove(&mut self, silence: &Silence) {
        let (name, values) = match self.places.remove(&silence.id) {
            None => return,
            Some(Place::Rest) => return without(&mut self.rest, silence.id),
            Some(Place::Stem(name, stem)) => {
                if let Some(named) = self.by_name.get_mut(&name) {
                    without_under(&mut named.by_stem, &stem, silence.id);
                    named.forget_length(stem.len());
                }
                (name, Vec::new())
            }
            Some(Place::Values(name, values)) => (name, values),
        };
        let Some(named) = self.by_name.get_mut(&name) else {
            return;
        };
        for value in values {
            without_under(&mut named.by_value, &value, silence.id);
        }
        if named.by_value.is_empty() && named.by_stem.is_empty() {
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
            if let Some(entries) = named.by_value.get(value) {
                ask(entries);
            }
            for stem in named.stem_lengths.keys().map_while(|length| value.get(..*length)) {
                if let Some(entries) = named.by_stem.get(stem) {
                    ask(entries);
                }
            }
        }
    }

    /// Gives the number of silences at the most crowded place.
    #[cfg(test)]
    pub(super) fn crowd_max(&self) -> usize {
        let named = self.by_name.values();
        let crowds = named.flat_map(|named| named.by_value.values().chain(named.by_stem.values()));
        crowds.chain([&self.rest]).map(Vec::len).max().unwrap_or(0)
    }

    /// Says whether nothing stands here.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.rest.is_empty() && self.places.is_empty()
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
        // The label must be there: the longer its value is known the fewer are asked.
        let needed = silence
            .matchers
            .iter()
            .filter(|matcher| !matcher.matches_empty())
            .map(|matcher| (&matcher.name, matcher_stem(matcher)))
            .max_by_key(|(_, stem)| stem.len());
        match needed {
            Some((name, stem)) => (Place::Stem(Arc::clone(name), stem.into()), None),
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

impl Named {
    fn forget_length(&mut self, length: usize) {
        if let Some(count) = self.stem_lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.stem_lengths.remove(&length);
            }
        }
    }
}

fn without(entries: &mut Vec<Entry>, silence: Id) {
    if let Some(at) = entries.iter().position(|entry| entry.silence.id == silence) {
        entries.swap_remove(at);
    }
}

fn without_under(places: &mut HashMap<Arc<str>, Vec<Entry>>, key: &str, silence: Id) {
    if let Some(entries) = places.get_mut(key) {
        without(entries, silence);
        if entries.is_empty() {
            places.remove(key);
        }
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

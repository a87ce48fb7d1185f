//! Inhibition: while one alert fires, others that it explains are not told.
//!
//! Sources are kept by the values of their `equal` labels, so that a hundred thousand of them cost a look-up.
//! An alert that matches both sides of a rule is inhibited by none that does, too; so no two silence each
//! other. An absent label is an empty one.
//! Deliberately absent: times. Whoever holds the alerts says when one begins and ends.
//! Source: Alertmanager, `inhibit`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use marketprism_model::{Id, Labels, Matcher};

use crate::routing::config::InhibitRuleConfig;
use crate::routing::{Faults, Reader, RoutingError};

/// There are at most so many rules.
pub const INHIBIT_RULES_MAX: usize = 10_000;

/// All rules, and the alerts that fire and are a source of one.
#[derive(Clone, Debug, Default)]
pub struct Inhibitor {
    rules: Vec<Rule>,
    /// Where each source stands: rule and values.
    standing: HashMap<Id, Vec<(usize, Values)>>,
}

/// The values of the `equal` labels, each with an end mark that no text holds.
type Values = Arc<[u8]>;

#[derive(Clone, Debug)]
struct Rule {
    source: Vec<Matcher>,
    target: Vec<Matcher>,
    /// Sorted.
    equal: Vec<String>,
    sources: HashMap<Values, Sources>,
}

/// Sources with the same values, each with its fingerprint.
#[derive(Clone, Debug, Default)]
struct Sources {
    one_sided: BTreeSet<(Id, u64)>,
    two_sided: BTreeSet<(Id, u64)>,
}

impl Inhibitor {
    /// Reads `inhibit_rules`; fails with every fault.
    pub fn new(configs: &[InhibitRuleConfig]) -> Result<Self, RoutingError> {
        let mut faults = Faults::default();
        if configs.len() > INHIBIT_RULES_MAX {
            faults.add(
                "inhibit_rules",
                format!("{} are too many; at most {INHIBIT_RULES_MAX}", configs.len()),
            );
        }
        let rules = configs
            .iter()
            .take(INHIBIT_RULES_MAX)
            .enumerate()
            .map(|(number, config)| Rule::read(config, &format!("inhibit_rules[{number}]"), &mut faults))
            .collect();
        faults.or(Inhibitor {
            rules,
            standing: HashMap::new(),
        })
    }

    /// Takes in an alert that began to fire, or whose labels changed.
    pub fn started(&mut self, id: Id, fingerprint: u64, labels: &Labels) {
        self.ended(id);
        let mut standing = Vec::new();
        for (number, rule) in self.rules.iter_mut().enumerate() {
            if !all_match(&rule.source, labels) {
                continue;
            }
            let values: Values = Arc::from(rule.values(labels));
            let sources = rule.sources.entry(Arc::clone(&values)).or_default();
            if all_match(&rule.target, labels) {
                sources.two_sided.insert((id, fingerprint));
            } else {
                sources.one_sided.insert((id, fingerprint));
            }
            standing.push((number, values));
        }
        if !standing.is_empty() {
            self.standing.insert(id, standing);
        }
    }

    /// Lets go of an alert that fires no more.
    pub fn ended(&mut self, id: Id) {
        for (number, values) in self.standing.remove(&id).unwrap_or_default() {
            let rule = &mut self.rules[number];
            let Some(sources) = rule.sources.get_mut(&values) else {
                continue;
            };
            for set in [&mut sources.one_sided, &mut sources.two_sided] {
                remove(set, id);
            }
            if sources.one_sided.is_empty() && sources.two_sided.is_empty() {
                rule.sources.remove(&values);
            }
        }
    }

    /// Gives the alert that inhibits one with these labels: of the first rule that has one, the oldest.
    pub fn inhibited_by(&self, fingerprint: u64, labels: &Labels) -> Option<Id> {
        self.rules
            .iter()
            .filter(|rule| !rule.sources.is_empty() && all_match(&rule.target, labels))
            .find_map(|rule| {
                let sources = rule.sources.get(rule.values(labels).as_slice())?;
                let oldest = |set: &BTreeSet<(Id, u64)>| {
                    let mut others = set.iter().filter(|(_, other)| *other != fingerprint);
                    others.next().map(|(id, _)| *id)
                };
                let one_sided = oldest(&sources.one_sided);
                if all_match(&rule.source, labels) {
                    return one_sided;
                }
                [one_sided, oldest(&sources.two_sided)]
                    .into_iter()
                    .flatten()
                    .min()
            })
    }

    /// Says how many alerts are a source of some rule.
    pub fn sources(&self) -> usize {
        self.standing.len()
    }
}

/// Removes the entry of one alert.
fn remove(set: &mut BTreeSet<(Id, u64)>, id: Id) {
    let entry = set.range((id, 0)..=(id, u64::MAX)).next().copied();
    if let Some(entry) = entry {
        set.remove(&entry);
    }
}

impl Rule {
    fn read(config: &InhibitRuleConfig, place: &str, faults: &mut Faults) -> Self {
        let mut reader = Reader::new(faults);
        let source = reader.matchers(
            (&config.source_match, format!("{place}.source_match")),
            (&config.source_match_re, format!("{place}.source_match_re")),
            (&config.source_matchers, format!("{place}.source_matchers")),
        );
        let target = reader.matchers(
            (&config.target_match, format!("{place}.target_match")),
            (&config.target_match_re, format!("{place}.target_match_re")),
            (&config.target_matchers, format!("{place}.target_matchers")),
        );
        for (number, label) in config.equal.iter().enumerate() {
            if label.is_empty() {
                faults.add(format!("{place}.equal[{number}]"), "the label's name is empty");
            }
        }
        let mut equal = config.equal.clone();
        equal.sort_unstable();
        equal.dedup();
        Rule {
            source,
            target,
            equal,
            sources: HashMap::new(),
        }
    }

    fn values(&self, labels: &Labels) -> Vec<u8> {
        let mut values = Vec::new();
        for label in &self.equal {
            values.extend_from_slice(labels.get(label).unwrap_or_default().as_bytes());
            // No byte of UTF-8 is 0xff.
            values.push(0xff);
        }
        values
    }
}

fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches_labels(labels))
}

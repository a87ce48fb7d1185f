//! What a rule makes of data that is missing.
//!
//! In Prometheus a series that is gone is a condition that is false, and so the alert of a host that lost power
//! resolves. A rule may say otherwise with `missing`. *Missing* means that the expression would yield nothing
//! for a label set even if its comparison held: the comparison is made to answer 0 or 1 instead of filtering, and
//! whoever is not in that answer is missing. Three cases are told apart: nothing at all is there (`empty`), the target
//! of the series cannot be scraped (`scrape`), and the series alone is gone (`series`).
//! What is missing is known to the lifecycle, which keeps it over a restart; what is remembered here is only which
//! series were there a moment ago.
//! Deliberately absent: how long; the clock of the condition counts that.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use marketprism_model::labels::{ALERT_NAME, METRIC_NAME, SEVERITY};
use marketprism_model::{ActiveAlert, AlertState, Labels, Observation, Timestamp, Verdict, duration};
use marketprism_promql::{BinaryOp, Expr, ExprKind, InstantSample, Prepared, SetOp, ValueType};

use crate::raw::{RawMissing, RawMissingParts};

/// The label of an alert that says that data is missing: `series`, `scrape` or `empty`.
pub(crate) const MISSING_DATA: &str = "missing_data";
/// How long `keep` and `alert` last when nothing else is said: whatever is gone for a day is gone for good.
const AT_MOST_DEFAULT: Duration = Duration::from_secs(86_400);
/// Series of one rule that are remembered; beyond it nobody notices that one vanished.
const KNOWN_MAX: usize = 100_000;
/// How often a rule tries, after a start, to look for series that were there before.
const SEED_TRIES: u32 = 10;
/// Where a rule looks, after a start, for series that were there before.
pub(crate) const LOOK_BACK: [Duration; 3] = [
    Duration::from_secs(300),
    Duration::from_secs(1_800),
    Duration::from_secs(3_600),
];

/// What is made of a label set whose data is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Missing {
    /// The condition is false: what pends or fires ends. Prometheus' behaviour.
    #[default]
    Resolve,
    /// What pends or fires stands as it is.
    Keep,
    /// What fires stands, and for the others an alert is raised that says so.
    Alert,
}

impl Missing {
    /// Gives the word of the rule file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Missing::Resolve => "resolve",
            Missing::Keep => "keep",
            Missing::Alert => "alert",
        }
    }

    /// Reads a word; those of other systems are understood.
    fn parse(word: &str) -> Result<Self, String> {
        match word.trim().to_ascii_lowercase().as_str() {
            "resolve" | "ok" => Ok(Missing::Resolve),
            "keep" | "keep_last" | "keeplast" => Ok(Missing::Keep),
            "alert" | "alerting" | "nodata" | "no_data" => Ok(Missing::Alert),
            _ => Err(format!(
                "{word:?} is no way to treat missing data; known are resolve, keep, alert"
            )),
        }
    }
}

/// What a rule makes of missing data, case by case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissingPolicy {
    /// The series alone is gone.
    pub series: Missing,
    /// Its target cannot be scraped: `up` of its `job` and `instance` is 0.
    pub scrape: Missing,
    /// The whole selection is empty.
    pub empty: Missing,
    /// How long keeping and alerting last; `None` for ever.
    pub at_most: Option<Duration>,
    /// What yields every label set that is there, whether its comparison holds or not; `None` where the rule's own
    /// expression does, which is so with levels.
    pub(crate) presence: Option<Expr>,
}

impl MissingPolicy {
    /// Reads what was written for a rule with this expression.
    pub(crate) fn read(raw: &RawMissing, expr: &Expr, has_levels: bool) -> Result<Self, String> {
        let parts = match raw {
            RawMissing::Word(word) => RawMissingParts {
                series: Some(word.clone()),
                empty: Some(word.clone()),
                ..RawMissingParts::default()
            },
            RawMissing::Parts(parts) => parts.clone(),
        };
        let word = |text: &Option<String>| text.as_deref().map(Missing::parse).transpose();
        let series = word(&parts.series)?.unwrap_or_default();
        let at_most = match parts.at_most.as_deref() {
            None => Some(AT_MOST_DEFAULT),
            Some(text) => {
                let span = duration::parse(text.trim()).map_err(|error| format!("at_most: {error}"))?;
                (!span.is_zero()).then_some(span)
            }
        };
        let presence = match has_levels {
            true => None,
            false => Some(presence(expr).ok_or(
                "missing needs an expression that ends in a comparison, such as \"cpu > 95\": without one nobody can \
                 tell what is gone from what is well",
            )?),
        };
        Ok(MissingPolicy {
            series,
            scrape: word(&parts.scrape)?.unwrap_or(series),
            empty: word(&parts.empty)?.unwrap_or(series),
            at_most,
            presence,
        })
    }

    /// Says whether nothing differs from Prometheus.
    pub(crate) fn is_plain(&self) -> bool {
        [self.series, self.scrape, self.empty] == [Missing::Resolve; 3]
    }

    /// Says whether an alert may say that data is missing; only that needs to know what was there.
    pub(crate) fn raises(&self) -> bool {
        [self.series, self.scrape, self.empty].contains(&Missing::Alert)
    }
}

/// Gives the expression with its deciding comparisons answering 0 or 1; `None` when it has none.
fn presence(expr: &Expr) -> Option<Expr> {
    let mut present = expr.clone();
    is_shown(&mut present).then_some(present)
}

fn is_shown(expr: &mut Expr) -> bool {
    let by_left = match &mut expr.kind {
        ExprKind::Paren(inner) => return is_shown(inner),
        ExprKind::Binary(binary) => match binary.op {
            BinaryOp::Comparison(_) => {
                let sides = [binary.left.value_type(), binary.right.value_type()];
                let decides = !binary.is_bool && sides.contains(&ValueType::Vector);
                binary.is_bool |= decides;
                return decides;
            }
            BinaryOp::Set(SetOp::Or) => return is_shown(&mut binary.left) && is_shown(&mut binary.right),
            BinaryOp::Set(SetOp::And) => {
                if !is_shown(&mut binary.left) {
                    return false;
                }
                // A right side that does not compare decides by being there; so it is no sign of missing data.
                if is_shown(&mut binary.right) {
                    return true;
                }
                binary.left.clone()
            }
            BinaryOp::Set(SetOp::Unless) => {
                if !is_shown(&mut binary.left) {
                    return false;
                }
                binary.left.clone()
            }
            BinaryOp::Arithmetic(_) => return false,
        },
        _ => return false,
    };
    *expr = by_left;
    true
}

/// What a running rule remembers between ticks.
#[derive(Default)]
pub(crate) struct Memory {
    /// Series that were there, and when last.
    known: HashMap<Labels, Timestamp>,
    /// Whether the time before the start was looked at, or need not be any more.
    pub is_seeded: bool,
    /// How often that failed.
    seeds_failed: u32,
    /// Label sets that are missing at the moment and treated specially.
    pub missing: usize,
}

/// What the rule's own labels and the lifecycle add to a series' labels, and what is therefore no part of its identity.
pub(crate) struct Identity<'a> {
    own: Vec<&'a str>,
}

impl<'a> Identity<'a> {
    pub(crate) fn new(rule_labels: impl Iterator<Item = &'a str>, has_levels: bool) -> Self {
        let own = rule_labels.chain([METRIC_NAME, ALERT_NAME, MISSING_DATA]);
        let own = own.chain(has_levels.then_some(SEVERITY));
        Identity { own: own.collect() }
    }

    /// Gives the part of an alert's or a series' labels that tells which series it is about.
    pub(crate) fn of(&self, labels: &Labels) -> Labels {
        let mut builder = labels.to_builder();
        for name in &self.own {
            builder.set(name, "");
        }
        builder.build()
    }
}

/// Everything that decides about missing data at one tick.
pub(crate) struct Case<'a> {
    pub policy: &'a MissingPolicy,
    pub at: Timestamp,
    pub identity: &'a Identity<'a>,
    /// Every series that is there.
    pub present: &'a [InstantSample],
    /// Job and instance of the targets that cannot be scraped.
    pub down: &'a HashSet<(String, String)>,
    /// What the rule holds.
    pub held: Vec<ActiveAlert>,
    /// How many conditions the rule has.
    pub conditions: usize,
}

impl Case<'_> {
    /// Adds observations of what is missing to those of what was seen. `raise` gives labels and annotations of an alert
    /// that says so, for a series.
    pub(crate) fn complete(
        self,
        memory: &mut Memory,
        observations: &mut Vec<Observation>,
        mut raise: impl FnMut(&Labels, &'static str) -> (Labels, Labels),
    ) {
        let present: HashSet<Labels> = self
            .present
            .iter()
            .map(|one| self.identity.of(&one.labels))
            .collect();
        let is_empty = present.is_empty();
        let observed: HashSet<Labels> = observations.iter().map(|one| one.labels.clone()).collect();
        let unknown = vec![Verdict::Unknown; self.conditions];
        let mut missing: BTreeSet<Labels> = BTreeSet::new();
        let mut raised: HashMap<Labels, &ActiveAlert> = HashMap::new();
        let mut firing: HashSet<Labels> = HashSet::new();
        for alert in &self.held {
            let series = self.identity.of(&alert.labels);
            if alert.labels.get(MISSING_DATA).is_some() {
                raised.insert(series, alert);
                continue;
            }
            if observed.contains(&alert.labels) || present.contains(&series) {
                continue;
            }
            let (treated, _) = self.treated(&series, is_empty);
            if treated == Missing::Resolve {
                continue;
            }
            if alert.state == AlertState::Firing {
                firing.insert(series.clone());
            }
            missing.insert(series);
            observations.push(Observation {
                labels: alert.labels.clone(),
                value: alert.value,
                annotations: alert.annotations.clone(),
                verdicts: unknown.clone(),
            });
        }
        if self.policy.raises() {
            self.remember(memory, &present);
            let vanished = memory.known.keys().chain(raised.keys());
            missing.extend(vanished.filter(|series| !present.contains(*series)).cloned());
            self.raise(
                memory,
                observations,
                &missing,
                &raised,
                &firing,
                is_empty,
                &mut raise,
            );
        }
        memory.missing = missing.iter().filter(|series| !series.is_empty()).count();
    }

    fn remember(&self, memory: &mut Memory, present: &HashSet<Labels>) {
        for series in present {
            if memory.known.len() < KNOWN_MAX || memory.known.contains_key(series) {
                memory.known.insert(series.clone(), self.at);
            }
        }
        let keep = self.policy.at_most.unwrap_or(Duration::MAX);
        memory.known.retain(|_, seen| self.at.since(*seen) < keep);
    }

    /// Says what is made of a missing series, and which case it is.
    fn treated(&self, series: &Labels, is_empty: bool) -> (Missing, &'static str) {
        let pair = (
            series.get("job").unwrap_or("").to_owned(),
            series.get("instance").unwrap_or("").to_owned(),
        );
        if self.down.contains(&pair) {
            (self.policy.scrape, "scrape")
        } else if is_empty {
            (self.policy.empty, "empty")
        } else {
            (self.policy.series, "series")
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the parts of one decision")]
    fn raise(
        &self,
        memory: &Memory,
        observations: &mut Vec<Observation>,
        missing: &BTreeSet<Labels>,
        raised: &HashMap<Labels, &ActiveAlert>,
        firing: &HashSet<Labels>,
        is_empty: bool,
        raise: &mut impl FnMut(&Labels, &'static str) -> (Labels, Labels),
    ) {
        let whole = Labels::empty();
        let mut add = |series: &Labels, case: &'static str| {
            let before = raised.get(series);
            let is_over = |alert: &&ActiveAlert| {
                // An empty selection stays wrong, however long it is empty.
                let at_most = self.policy.at_most.filter(|_| !series.is_empty());
                at_most.is_some_and(|most| self.at.since(alert.active_at) >= most)
            };
            if before.is_some_and(is_over) {
                return;
            }
            // What was raised keeps its case, though the case may have become another: it is one alert.
            let case =
                before
                    .and_then(|alert| alert.labels.get(MISSING_DATA))
                    .map_or(case, |case| match case {
                        "empty" => "empty",
                        "scrape" => "scrape",
                        _ => "series",
                    });
            let (labels, annotations) = raise(series, case);
            // With levels it is the lowest that stands: nobody knows how bad it is.
            let mut verdicts = vec![Verdict::Clear; self.conditions];
            if let Some(lowest) = verdicts.last_mut() {
                *lowest = Verdict::Holds;
            }
            observations.push(Observation {
                labels,
                value: f64::NAN,
                annotations,
                verdicts,
            });
        };
        if is_empty && self.policy.empty == Missing::Alert {
            add(&whole, "empty");
        }
        for series in missing.iter().filter(|series| !series.is_empty()) {
            let (treated, case) = self.treated(series, is_empty);
            if raised.contains_key(series) {
                if treated != Missing::Resolve {
                    add(series, case);
                }
                continue;
            }
            // A selection that is empty is told once, not series by series.
            let is_told = firing.contains(series) || case == "empty";
            if treated == Missing::Alert && !is_told && memory.known.contains_key(series) {
                add(series, case);
            }
        }
    }
}

impl Memory {
    /// Notes series that were there before the start.
    pub(crate) fn seed(&mut self, identity: &Identity<'_>, at: Timestamp, samples: &[InstantSample]) {
        for sample in samples {
            if self.known.len() >= KNOWN_MAX {
                return;
            }
            self.known.entry(identity.of(&sample.labels)).or_insert(at);
        }
    }

    /// Notes that the time before the start could not be looked at; says whether that is news. After a few times it is
    /// given up: what cannot be read must not take its time at every tick.
    pub(crate) fn seed_failed(&mut self) -> bool {
        self.seeds_failed += 1;
        self.is_seeded = self.seeds_failed >= SEED_TRIES;
        self.seeds_failed == 1
    }
}

/// What the rule asks of the engine besides its expression.
pub(crate) struct Asked {
    /// Every label set that is there; `None` with levels, whose expression says so itself.
    pub presence: Option<Prepared>,
    /// Targets that cannot be scraped.
    pub down: Prepared,
}

/// Reads job and instance of the targets that are down.
pub(crate) fn pairs(samples: &[InstantSample]) -> HashSet<(String, String)> {
    let label = |sample: &InstantSample, name| sample.labels.get(name).unwrap_or("").to_owned();
    let named = samples
        .iter()
        .map(|sample| (label(sample, "job"), label(sample, "instance")));
    named.filter(|(_, instance)| !instance.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(expr: &str) -> Option<String> {
        let parsed = marketprism_promql::parse(expr).expect("it parses");
        presence(&parsed).map(|expr| expr.to_string())
    }

    #[test]
    fn a_label_set_is_there_when_its_comparison_could_be_made() {
        let check = |expr: &str, expected: &str| assert_eq!(shown(expr).as_deref(), Some(expected), "{expr}");
        check("cpu > 95", "cpu > bool 95");
        check("(95 < cpu)", "(95 < bool cpu)");
        check("a > on (x) group_left (y) b", "a > bool on (x) group_left (y) b");
        check("a > 1 and on (i) b == 0", "a > bool 1 and on (i) b == bool 0");
        check("a > 1 and on (i) up", "a > bool 1");
        check("a > 1 unless b > 2", "a > bool 1");
        check("a > 1 or b > 2", "a > bool 1 or b > bool 2");
        for expr in [
            "absent(m)",
            "m",
            "a > bool 1",
            "a + 1",
            "a and b > 1",
            "sum(a > 1)",
        ] {
            assert_eq!(shown(expr), None, "{expr}");
        }
    }

    #[test]
    fn what_was_there_before_is_remembered_up_to_a_limit_over_all_looks_back() {
        let sample = |n: usize| InstantSample {
            labels: Labels::from_pairs([("n", n.to_string())]),
            timestamp: Timestamp::from_millis(0),
            value: 1.0,
            histogram: None,
        };
        let identity = Identity::new(std::iter::empty(), false);
        let mut memory = Memory::default();
        let half = KNOWN_MAX / 2 + 1;
        for look in 0..3 {
            let samples: Vec<InstantSample> = (look * half..(look + 1) * half).map(sample).collect();
            memory.seed(&identity, Timestamp::from_millis(look as i64), &samples);
        }
        assert_eq!(memory.known.len(), KNOWN_MAX);
    }

    #[test]
    fn words_of_other_systems_are_understood() {
        for (word, expected) in [
            ("resolve", Missing::Resolve),
            ("OK", Missing::Resolve),
            ("KeepLast", Missing::Keep),
            ("Alerting", Missing::Alert),
        ] {
            assert_eq!(Missing::parse(word), Ok(expected));
        }
        assert!(
            Missing::parse("maybe")
                .expect_err("no word")
                .contains("known are resolve, keep, alert")
        );
    }
}

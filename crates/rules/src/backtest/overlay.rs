//! The past, and over it what simulated rules write.
//!
//! A series that the rules of the backtest make is taken from the store up to the beginning, and from memory from then
//! on: what the rules that ran at that time made of it does not count. All others come from the store alone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use marketprism_model::labels::{ALERT_NAME, METRIC_NAME};
use marketprism_model::series::{ReadError, SeriesVisitor};
use marketprism_model::{Labels, Matcher, Samples, Selection, SeriesSource, TimeRange, Timestamp};
use parking_lot::Mutex;

use crate::backtest::memory::Memory;
use crate::set::RuleSet;

const ALERT_SERIES: [&str; 2] = ["ALERTS", "ALERTS_FOR_STATE"];

/// The names of what a set of rules writes.
#[derive(Debug, Default)]
pub(crate) struct Produced {
    recorded: HashSet<Arc<str>>,
    alerts: HashSet<Arc<str>>,
}

impl Produced {
    pub(crate) fn of(rules: &RuleSet) -> Self {
        let mut produced = Produced::default();
        for rule in rules.groups().iter().flat_map(|group| &group.rules) {
            let names = match rule.alerting() {
                Some(_) => &mut produced.alerts,
                None => &mut produced.recorded,
            };
            names.insert(Arc::clone(&rule.name));
        }
        produced
    }

    /// Says whether matchers may choose any of them.
    fn may_be_chosen(&self, matchers: &[Matcher]) -> bool {
        let takes = |name: &str| {
            let of_name = matchers.iter().filter(|matcher| &*matcher.name == METRIC_NAME);
            of_name.into_iter().all(|matcher| matcher.matches(name))
        };
        self.recorded.iter().any(|name| takes(name))
            || !self.alerts.is_empty() && ALERT_SERIES.into_iter().any(takes)
    }

    fn holds(&self, labels: &Labels) -> bool {
        let name = labels.metric_name();
        self.recorded.contains(name)
            || ALERT_SERIES.contains(&name)
                && labels
                    .get(ALERT_NAME)
                    .is_some_and(|alert| self.alerts.contains(alert))
    }
}

/// A source of the two.
pub(crate) struct Overlay<'a> {
    base: &'a dyn SeriesSource,
    memory: &'a Memory,
    produced: &'a Produced,
    start: Timestamp,
    next_id: AtomicU64,
    known: Mutex<HashMap<(u64, Option<u64>), Arc<dyn Selection>>>,
}

/// Selections that are kept; when there are more, all are forgotten.
const KNOWN_MAX: usize = 4096;

impl<'a> Overlay<'a> {
    pub(crate) fn new(
        base: &'a dyn SeriesSource,
        memory: &'a Memory,
        produced: &'a Produced,
        start: Timestamp,
    ) -> Self {
        Overlay {
            base,
            memory,
            produced,
            start,
            next_id: AtomicU64::new(0),
            known: Mutex::default(),
        }
    }

    fn merged(&self, base: Arc<dyn Selection>, memory: Arc<dyn Selection>, id: u64) -> Merged {
        let mut merged = Merged {
            id,
            labels: Vec::new(),
            parts: Vec::new(),
            base,
            memory,
            start: self.start,
        };
        let (base, memory) = (merged.base.labels(), merged.memory.labels());
        let (mut labels, mut parts) = (Vec::new(), Vec::new());
        let (mut at, mut over) = (0, 0);
        while at < base.len() || over < memory.len() {
            let order = match (base.get(at), memory.get(over)) {
                (Some(a), Some(b)) => a.cmp(b),
                (Some(_), None) => std::cmp::Ordering::Less,
                _ => std::cmp::Ordering::Greater,
            };
            let (of_base, of_memory) = (order.is_le().then_some(at), order.is_ge().then_some(over));
            let one = if order.is_le() { &base[at] } else { &memory[over] };
            parts.push(Part {
                of_base,
                of_memory,
                is_cut: self.produced.holds(one),
            });
            labels.push(one.clone());
            at += usize::from(of_base.is_some());
            over += usize::from(of_memory.is_some());
        }
        (merged.labels, merged.parts) = (labels, parts);
        merged
    }

    fn names(&self, of_base: Vec<String>, of_memory: Vec<String>) -> Vec<String> {
        let all: BTreeSet<String> = of_base.into_iter().chain(of_memory).collect();
        all.into_iter().collect()
    }
}

impl SeriesSource for Overlay<'_> {
    fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        let base = self.base.select(matchers, range)?;
        let memory = match self.produced.may_be_chosen(matchers) {
            true => Some(self.memory.select(matchers, range)?),
            false => None,
        };
        // The numbers of the two would meet; each pair gets one of its own.
        let key = (base.id(), memory.as_ref().map(|memory| memory.id()));
        let mut known = self.known.lock();
        if let Some(selection) = known.get(&key) {
            return Ok(Arc::clone(selection));
        }
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let selection: Arc<dyn Selection> = match memory {
            None => Arc::new(Renamed { id, inner: base }),
            Some(memory) => Arc::new(self.merged(base, memory, id)),
        };
        known.insert(key, Arc::clone(&selection));
        Ok(selection)
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, ReadError> {
        let base = self.base.label_names(matchers, range)?;
        Ok(self.names(base, self.memory.label_names(matchers, range)?))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, ReadError> {
        let base = self.base.label_values(name, matchers, range)?;
        Ok(self.names(base, self.memory.label_values(name, matchers, range)?))
    }
}

/// A selection of the store under another number.
struct Renamed {
    id: u64,
    inner: Arc<dyn Selection>,
}

impl Selection for Renamed {
    fn id(&self) -> u64 {
        self.id
    }

    fn labels(&self) -> &[Labels] {
        self.inner.labels()
    }

    fn read(
        &self,
        positions: Range<usize>,
        range: TimeRange,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<(), ReadError> {
        self.inner.read(positions, range, visit)
    }
}

struct Part {
    of_base: Option<usize>,
    of_memory: Option<usize>,
    is_cut: bool,
}

struct Merged {
    id: u64,
    labels: Vec<Labels>,
    parts: Vec<Part>,
    base: Arc<dyn Selection>,
    memory: Arc<dyn Selection>,
    start: Timestamp,
}

impl Selection for Merged {
    fn id(&self) -> u64 {
        self.id
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(
        &self,
        positions: Range<usize>,
        range: TimeRange,
        visit: &mut SeriesVisitor<'_>,
    ) -> Result<(), ReadError> {
        let before = TimeRange::new(range.start, range.end.min(self.start - Duration::from_millis(1)));
        for position in positions {
            let part = &self.parts[position];
            let (mut timestamps, mut values, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
            let mut take = |_: usize, samples: Samples<'_>| {
                timestamps.extend_from_slice(samples.timestamps);
                values.extend_from_slice(samples.values);
                histograms.extend_from_slice(samples.histograms);
                Ok(())
            };
            let range_of_base = if part.is_cut { before } else { range };
            if let Some(at) = part.of_base
                && range_of_base.start <= range_of_base.end
            {
                self.base.read(at..at + 1, range_of_base, &mut take)?;
            }
            if let Some(at) = part.of_memory {
                self.memory.read(at..at + 1, range, &mut take)?;
            }
            if !timestamps.is_empty() || !histograms.is_empty() {
                let samples = Samples {
                    timestamps: &timestamps,
                    values: &values,
                    histograms: &histograms,
                };
                visit(position, samples)?;
            }
        }
        Ok(())
    }
}

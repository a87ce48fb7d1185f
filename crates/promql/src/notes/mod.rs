//! Remarks on a query that was answered all the same, with the place in the query that each is about.
//!
//! A remark belongs to a node of the plan and to a part of it, not to a position: nodes are shared between
//! queries, so positions are those of the query that asks, looked up at the very end. One text is told once;
//! where two places give it, the place that is evaluated last counts, as in Prometheus.
//!
//! This is the one place that knows the prefixes `PromQL warning: ` and `PromQL info: `.
//! Deliberately absent: any order of time. An answer lists remarks by their text.

mod format;
mod remark;

pub(crate) use format::general;
pub(crate) use remark::{HistogramOperation, Monotonicity, Remark};

use std::collections::BTreeMap;

use crate::answer::{Answer, Value};
use crate::plan::Prepared;

/// Which part of a call, an aggregation, an operator or a selector a remark is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// An argument as it is written, from 0; of an aggregation, 0 is the vector and 1 the parameter.
    Argument(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Severity {
    Warning,
    Info,
}

/// Where a remark came from, and what it counts.
#[derive(Clone, Debug)]
struct Origin {
    /// The number of the node; 0 until the node is done.
    node: u64,
    part: Part,
    monotonicity: Option<Box<Monotonicity>>,
}

/// Remarks, each once, at most [`NOTES_MAX`] of them.
#[derive(Clone, Default, Debug)]
pub(crate) struct Notes(BTreeMap<(Severity, String), Origin>);

/// More different remarks than this are not kept: nobody reads so many, and names in them come from data.
const NOTES_MAX: usize = 1000;

impl Notes {
    /// Remarks on a part of the place at hand.
    pub(crate) fn add(&mut self, part: Part, remark: Remark<'_>) {
        let severity = if remark.is_info() {
            Severity::Info
        } else {
            Severity::Warning
        };
        let origin = Origin {
            node: 0,
            part,
            monotonicity: remark.monotonicity().map(|counted| Box::new(*counted)),
        };
        self.put((severity, remark.to_string()), origin);
    }

    fn put(&mut self, key: (Severity, String), mut origin: Origin) {
        if let Some(known) = self.0.get_mut(&key) {
            if let (Some(new), Some(old)) = (&mut origin.monotonicity, &known.monotonicity) {
                new.merge(old);
            }
            *known = origin;
        } else if self.0.len() < NOTES_MAX {
            self.0.insert(key, origin);
        }
    }

    /// Says of all remarks so far that they are on this node.
    pub(crate) fn belong_to(&mut self, node: u64) {
        self.0
            .values_mut()
            .filter(|origin| origin.node == 0)
            .for_each(|origin| origin.node = node);
    }

    /// Takes in the remarks of what is evaluated after.
    pub(crate) fn merge(&mut self, later: &Notes) {
        for (key, origin) in &later.0 {
            self.put(key.clone(), origin.clone());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the answer of a query, with the positions of its own text.
    pub(crate) fn into_answer(self, value: Value, query: &Prepared) -> Answer {
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for ((severity, text), origin) in self.0 {
            let (prefix, list) = match severity {
                Severity::Warning => ("PromQL warning", &mut warnings),
                Severity::Info => ("PromQL info", &mut infos),
            };
            let counted = origin.monotonicity.map(|counted| counted.to_string());
            let position = match query.position(origin.node, origin.part) {
                Some((line, column)) => format!(" ({line}:{column})"),
                None => String::new(),
            };
            list.push(format!(
                "{prefix}: {text}{}{position}",
                counted.unwrap_or_default()
            ));
        }
        Answer {
            value,
            warnings,
            infos,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_once_and_its_last_place_counts() {
        let (mut first, mut second) = (Notes::default(), Notes::default());
        first.add(Part::Argument(0), Remark::InvalidQuantile(2.0));
        first.belong_to(7);
        second.add(Part::Argument(1), Remark::InvalidQuantile(2.0));
        second.add(Part::Whole, Remark::PossibleNonCounter("up"));
        second.belong_to(8);
        first.merge(&second);
        let kept: Vec<(&str, u64, Part)> = first
            .0
            .iter()
            .map(|((_, text), origin)| (text.as_str(), origin.node, origin.part))
            .collect();
        assert_eq!(kept.len(), 2);
        assert_eq!(
            kept[0],
            (
                "quantile value should be between 0 and 1, got 2",
                8,
                Part::Argument(1)
            )
        );
        assert_eq!(kept[1].1, 8);
    }

    #[test]
    fn remarks_are_bounded() {
        let mut notes = Notes::default();
        (0..5000).for_each(|n| notes.add(Part::Whole, Remark::InvalidQuantile(2.0 + f64::from(n))));
        assert_eq!(notes.0.len(), NOTES_MAX);
    }
}

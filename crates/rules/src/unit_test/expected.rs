//! What is expected and what was seen, in one form, so that they can be compared and shown.
//!
//! Sameness is promtool's. Deliberately absent: where either comes from.

use std::fmt;
use std::sync::Arc;

use marketprism_model::{ActiveAlert, Histogram, Labels, labels};

use crate::rule::AlertingRule;
use crate::unit_test::file::{ExpectedSample, TextMap};
use crate::unit_test::notation;

/// Pairs, sorted by name. Unlike labels they may have empty values: what a test expects to be empty is not absent.
pub type Pairs = Vec<(String, String)>;

/// An alert that fires.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SeenAlert {
    /// Its labels with its name, sorted.
    pub labels: Pairs,
    /// Its annotations, sorted.
    pub annotations: Pairs,
}

impl SeenAlert {
    /// Gives what a test expects.
    pub(crate) fn expected(alert_name: &str, of_labels: &TextMap, annotations: &TextMap) -> Self {
        let mut all = of_labels.clone();
        all.insert(labels::ALERT_NAME.to_owned(), alert_name.to_owned());
        SeenAlert {
            labels: all.into_iter().collect(),
            annotations: annotations.clone().into_iter().collect(),
        }
    }

    /// Gives what a rule has. An annotation whose text came out empty is there all the same.
    pub(crate) fn seen(alert: &ActiveAlert, rule: &AlertingRule) -> Self {
        let mut annotations: Pairs = rule
            .annotation_texts
            .iter()
            .map(|(name, _)| {
                let text = alert.annotations.get(name).unwrap_or_default();
                (name.to_string(), text.to_owned())
            })
            .collect();
        annotations.sort_unstable();
        let owned = alert
            .labels
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        SeenAlert {
            labels: owned.collect(),
            annotations,
        }
    }

    /// Gives a line for the labels and one for each annotation.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![braced(&self.labels)];
        let annotations = self.annotations.iter();
        lines.extend(annotations.map(|(name, text)| format!("  {name}: {text:?}")));
        lines
    }
}

fn braced(pairs: &Pairs) -> String {
    let inside: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!("{{{}}}", inside.join(", "))
}

/// A sample that an expression yields.
#[derive(Clone, PartialEq, Debug)]
pub struct SeenSample {
    /// Its labels.
    pub labels: Labels,
    /// Its number; 0 when it is a histogram.
    pub value: f64,
    /// Its histogram in place of a number.
    pub histogram: Option<Arc<Histogram>>,
}

impl SeenSample {
    /// Reads what a test expects.
    pub(crate) fn expected(sample: &ExpectedSample) -> Result<Self, String> {
        let told = |reason: String| format!("labels {:?}: {reason}", sample.labels.text);
        let labels = notation::labels(&sample.labels.text).map_err(told)?;
        let histogram = match &sample.histogram {
            None => None,
            Some(text) => Some(notation::histogram(&text.text).map_err(told)?),
        };
        Ok(SeenSample {
            labels,
            value: sample.value,
            histogram,
        })
    }

    /// Says whether the two are the same to promtool: NaN equals nothing, and a loose comparison lets the last bit go.
    pub(crate) fn is_same(&self, other: &SeenSample, is_fuzzy: bool) -> bool {
        let (a, b) = (self.value, other.value);
        let is_value = a == b || is_fuzzy && (a.next_down() == b || a.next_up() == b);
        self.labels == other.labels
            && is_value
            && match (&self.histogram, &other.histogram) {
                (None, None) => true,
                (Some(a), Some(b)) => is_same_histogram(a, b),
                _ => false,
            }
    }
}

/// Compares by populated buckets, so that the same distribution in other spans is the same.
fn is_same_histogram(a: &Histogram, b: &Histogram) -> bool {
    let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
    let buckets = |side: &marketprism_model::Buckets| {
        let mut found = Vec::new();
        side.each(|index, count| {
            if count != 0.0 {
                found.push((index, count));
            }
        });
        found
    };
    a.schema == b.schema
        && a.reset_hint == b.reset_hint
        && same(a.count, b.count)
        && same(a.sum, b.sum)
        && same(a.zero_count, b.zero_count)
        && same(a.zero_threshold, b.zero_threshold)
        && a.custom_bounds == b.custom_bounds
        && buckets(&a.positive) == buckets(&b.positive)
        && buckets(&a.negative) == buckets(&b.negative)
}

impl fmt::Display for SeenSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.histogram {
            None => write!(f, "{} {}", self.labels, self.value),
            Some(histogram) => write!(
                f,
                "{} {{{{schema:{} count:{} sum:{}}}}}",
                self.labels, histogram.schema, histogram.count, histogram.sum
            ),
        }
    }
}

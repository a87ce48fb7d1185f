//! The identity of a series or an alert: a sorted set of names and values.
//!
//! A set is one immutable string: each name and value is preceded by its length, written as one or two
//! characters. So a clone is a counter, equality and hashing are those of one string, and a set costs
//! one allocation. Labels with an empty value are absent, as everywhere in Prometheus.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";
/// The label that holds an alert's name.
pub const ALERT_NAME: &str = "alertname";
/// The label that holds an alert's severity.
pub const SEVERITY: &str = "severity";
/// The upper bound of a classic histogram's bucket.
pub const BUCKET_LE: &str = "le";

/// A sorted set of label names and values, cheap to clone, compare and hash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

impl Labels {
    /// The empty set.
    pub fn empty() -> Self {
        Labels(Arc::from(""))
    }

    /// Builds a set from pairs in any order; empty values are left out, the last of equal names wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Builds a set from pairs that are sorted by name already, without equal names and empty values.
    ///
    /// The caller vouches for the order; it is asserted in debug builds.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::new();
        let mut previous: Option<&str> = None;
        for (name, value) in pairs {
            debug_assert!(previous.is_none_or(|p| p < name), "label names out of order");
            debug_assert!(!value.is_empty(), "a label with an empty value is absent");
            previous = Some(name);
            push_part(&mut text, name);
            push_part(&mut text, value);
        }
        Labels(Arc::from(text))
    }

    /// Starts a builder that holds these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder {
            pairs: self.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        }
    }

    /// Gives the value of a label, `None` when it is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        for (label, value) in self.iter() {
            match label.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(value),
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// Gives the metric's name, empty when there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Walks the pairs in the order of names.
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    /// Says whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts the labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Counts the bytes that the set takes in memory, shared or not.
    pub fn bytes_held(&self) -> usize {
        // The handle, and the counters before the text.
        size_of::<Self>() + 16 + self.0.len()
    }

    /// Keeps the labels for which `keep` answers true.
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Labels::from_sorted(self.iter().filter(|(name, _)| keep(name)))
    }

    /// Gives the same set without one label.
    pub fn without(&self, name: &str) -> Self {
        if self.get(name).is_none() {
            self.clone()
        } else {
            self.filtered(|label| label != name)
        }
    }

    /// Gives the same set with one label set, or removed when `value` is empty.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut builder = self.to_builder();
        builder.set(name, value);
        builder.build()
    }

    /// Gives Alertmanager's fingerprint of the set: FNV-1a over names and values with 0xff separators.
    ///
    /// Source: `github.com/prometheus/common/model`, LabelSet.Fingerprint.
    pub fn fingerprint(&self) -> u64 {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
            }
            hash = (hash ^ 0xff).wrapping_mul(PRIME);
        };
        for (name, value) in self.iter() {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        hash
    }
}

impl Default for Labels {
    fn default() -> Self {
        Labels::empty()
    }
}

impl Ord for Labels {
    /// Orders by names and values in turn, as Prometheus does; a prefix comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        let same = common_prefix(ours, theirs);
        if same == ours.len() || same == theirs.len() {
            // Equal, or one is a prefix of the other: the texts of both sets end where a part ends.
            return ours.len().cmp(&theirs.len());
        }
        // Parts that lie within the common bytes need not be looked at; the one that differs decides.
        let mut at = 0;
        loop {
            let (start, end) = part_bounds(&self.0, at);
            if end <= same {
                at = end;
                continue;
            }
            let (other_start, other_end) = part_bounds(&other.0, at);
            return ours[start..end].cmp(&theirs[other_start..other_end]);
        }
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Walks the pairs of a set in the order of names.
#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a str);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (name, rest) = take_part(self.0);
        let (value, rest) = take_part(rest);
        self.0 = rest;
        Some((name, value))
    }
}

/// Lengths are written as base-2¹⁴ digits, each a character; bit 14 says that another digit follows.
/// All digits stay below 0x8000, so none falls among the surrogates.
const DIGIT_BITS: u32 = 14;
const DIGIT_MORE: u32 = 1 << DIGIT_BITS;

fn push_part(text: &mut String, part: &str) {
    let mut rest = part.len();
    loop {
        let low = (rest & (DIGIT_MORE as usize - 1)) as u32;
        rest >>= DIGIT_BITS;
        let digit = if rest > 0 { low | DIGIT_MORE } else { low };
        text.push(char::from_u32(digit).expect("digits below 0x8000 are characters"));
        if rest == 0 {
            break;
        }
    }
    text.push_str(part);
}

/// Gives where the text of the part that begins at `at` starts and ends.
fn part_bounds(text: &str, at: usize) -> (usize, usize) {
    match text.as_bytes()[at] {
        length if length < 0x80 => (at + 1, at + 1 + usize::from(length)),
        _ => {
            let (part, rest) = take_part(&text[at..]);
            let end = text.len() - rest.len();
            (end - part.len(), end)
        }
    }
}

/// Counts the leading bytes that both have.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let same = words.take_while(|(a, b)| a == b).count() * 8;
    let rest = a[same..].iter().zip(&b[same..]);
    same + rest.take_while(|(a, b)| a == b).count()
}

fn take_part(text: &str) -> (&str, &str) {
    let (mut length, mut shift, mut used) = (0usize, 0u32, 0usize);
    for digit in text.chars() {
        used += digit.len_utf8();
        length |= ((digit as u32 & (DIGIT_MORE - 1)) as usize) << shift;
        if digit as u32 & DIGIT_MORE == 0 {
            break;
        }
        shift += DIGIT_BITS;
    }
    text[used..].split_at(length)
}

impl fmt::Display for Labels {
    /// Writes `name{a="x", b="y"}` with Go's quoting of values, as Prometheus prints a series.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric_name();
        let mut others = self.iter().filter(|(n, _)| *n != METRIC_NAME).peekable();
        let is_plain = name.is_empty() || is_legacy_metric_name(name);
        if is_plain {
            f.write_str(name)?;
            if others.peek().is_none() && !name.is_empty() {
                return Ok(());
            }
        }
        f.write_str("{")?;
        let mut separator = "";
        if !is_plain {
            write_quoted(f, name)?;
            separator = ", ";
        }
        for (name, value) in others {
            f.write_str(separator)?;
            if is_legacy_label_name(name) {
                f.write_str(name)?
            } else {
                write_quoted(f, name)?
            }
            f.write_str("=")?;
            write_quoted(f, value)?;
            separator = ", ";
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() && (c as u32) < 0x80 => write!(f, "\\x{:02x}", c as u32)?,
            c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
            c => fmt::Write::write_char(f, c)?,
        }
    }
    f.write_str("\"")
}

/// Says whether the name needs no quotes as a metric: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_legacy_metric_name(name: &str) -> bool {
    is_legacy(name, |b| b == b':')
}

/// Says whether the name needs no quotes as a label: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_label_name(name: &str) -> bool {
    is_legacy(name, |_| false)
}

fn is_legacy(name: &str, also: impl Fn(u8) -> bool) -> bool {
    let bytes = name.as_bytes();
    bytes
        .first()
        .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_' || also(*b))
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'_' || also(*b))
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of label names to values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut builder = LabelsBuilder::default();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    builder.set(&name, &value);
                }
                Ok(builder.build())
            }
            fn visit_unit<E>(self) -> Result<Labels, E> {
                Ok(Labels::empty())
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Collects labels in any order and makes a set of them.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.iter_mut().position(|(label, _)| label == name) {
            Some(at) if value.is_empty() => {
                self.pairs.swap_remove(at);
            }
            Some(at) => value.clone_into(&mut self.pairs[at].1),
            None if value.is_empty() => {}
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Gives the value that is set, `None` when there is none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(label, _)| label == name)
            .map(|(_, value)| value.as_str())
    }

    /// Removes the labels for which `keep` answers false.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.pairs.retain(|(name, value)| keep(name, value));
        self
    }

    /// Walks what is set, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Makes the set.
    pub fn build(&mut self) -> Labels {
        self.pairs.sort_unstable();
        Labels::from_sorted(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn fingerprints_are_alertmanagers() {
        // FNV-1a's offset basis, for the empty set; the other value calculated by hand with the published
        // algorithm over "a" 0xff "b" 0xff.
        assert_eq!(Labels::empty().fingerprint(), 0xcbf2_9ce4_8422_2325);
        let mut expected: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in [b'a', 0xff, b'b', 0xff] {
            expected = (expected ^ u64::from(byte)).wrapping_mul(1_099_511_628_211);
        }
        assert_eq!(labels(&[("a", "b")]).fingerprint(), expected);
    }

    #[test]
    fn series_print_as_prometheus_prints_them() {
        let check = |pairs: &[(&str, &str)], text: &str| assert_eq!(labels(pairs).to_string(), text);
        check(&[], "{}");
        check(&[("__name__", "up")], "up");
        check(
            &[("__name__", "up"), ("job", "a\"b\\\n"), ("a", "x")],
            r#"up{a="x", job="a\"b\\\n"}"#,
        );
        check(
            &[("__name__", "http.requests"), ("k.x", "v")],
            r#"{"http.requests", "k.x"="v"}"#,
        );
    }

    #[test]
    fn an_empty_value_is_an_absent_label() {
        assert_eq!(labels(&[("a", ""), ("b", "1")]), labels(&[("b", "1")]));
        assert_eq!(
            labels(&[("a", "1"), ("b", "1")]).with("a", ""),
            labels(&[("b", "1")])
        );
    }

    #[test]
    fn long_values_keep_their_length() {
        for length in [127, 128, 0x7ff, 0x800, 0x3fff, 0x4000, 0xd800, 0x12345, 3_000_000] {
            let value = "é".repeat(length / 2) + if length % 2 == 1 { "x" } else { "" };
            let set = labels(&[("a", &value), ("b", "end")]);
            assert_eq!((set.get("a"), set.get("b")), (Some(value.as_str()), Some("end")));
        }
    }

    proptest! {
        #[test]
        fn sets_are_ordered_by_their_pairs(
            a in proptest::collection::vec(("[a-c]{1,3}", "[xé]{0,3}|[xé]{120,140}"), 0..5),
            b in proptest::collection::vec(("[a-c]{1,3}", "[xé]{0,3}|[xé]{120,140}"), 0..5),
            shared in proptest::collection::vec(("[a-b]{1,2}", "[xé]{0,3}"), 0..5),
        ) {
            let of = |pairs: Vec<(String, String)>| Labels::from_pairs(pairs.into_iter().chain(shared.clone()));
            let (a, b) = (of(a), of(b));
            prop_assert_eq!(a.cmp(&b), a.iter().cmp(b.iter()));
            prop_assert_eq!(a.cmp(&a.clone()), Ordering::Equal);
        }

        #[test]
        fn a_set_behaves_as_a_sorted_map(pairs in proptest::collection::vec(("[a-e]{1,2}", ".{0,6}"), 0..8)) {
            let map: std::collections::BTreeMap<_, _> = pairs.iter().cloned().collect();
            let kept: Vec<_> = map.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let set = Labels::from_pairs(pairs.iter().map(|(n, v)| (n, v)));
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), kept.clone());
            prop_assert_eq!(set.len(), kept.len());
            let json = serde_json::to_string(&set).expect("labels are a map of strings");
            prop_assert_eq!(serde_json::from_str::<Labels>(&json).expect("written above"), set);
        }
    }
}

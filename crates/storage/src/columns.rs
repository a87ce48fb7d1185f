//! Samples of one series, oldest first: numbers as two columns, histograms beside them.

use std::sync::Arc;

use marketprism_model::Histogram;
use marketprism_model::series::Samples;

/// Histograms with their moments, rising.
pub type Moments = Vec<(i64, Arc<Histogram>)>;

/// Times and values of the same length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// Milliseconds since the Unix epoch.
    pub timestamps: Vec<i64>,
    /// Values, bit for bit.
    pub values: Vec<f64>,
}

impl Columns {
    /// Appends a sample.
    #[inline]
    pub fn push(&mut self, time: i64, value: f64) {
        self.timestamps.push(time);
        self.values.push(value);
    }

    /// Counts the samples.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Says whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Forgets all samples and keeps the memory.
    pub fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
    }

    /// Walks the samples.
    pub fn iter(&self) -> impl Iterator<Item = (i64, f64)> + '_ {
        self.timestamps.iter().copied().zip(self.values.iter().copied())
    }

    /// Lends the columns.
    pub fn samples(&self) -> Samples<'_> {
        Samples::numbers(&self.timestamps, &self.values)
    }

    /// Appends samples.
    pub fn extend(&mut self, samples: Samples<'_>) {
        self.timestamps.extend_from_slice(samples.timestamps);
        self.values.extend_from_slice(samples.values);
    }

    /// Forgets all but the first `count` samples.
    pub fn truncate(&mut self, count: usize) {
        self.timestamps.truncate(count);
        self.values.truncate(count);
    }

    /// Keeps, of what was appended since `from`, the samples from `start` to `end`, both included.
    pub fn clip(&mut self, from: usize, start: i64, end: i64) {
        let last = from + self.timestamps[from..].partition_point(|t| *t <= end);
        self.timestamps.truncate(last);
        self.values.truncate(last);
        let first = from + self.timestamps[from..].partition_point(|t| *t < start);
        self.timestamps.drain(from..first);
        self.values.drain(from..first);
    }
}

/// Numbers and histograms of one series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mixed {
    /// The numbers.
    pub numbers: Columns,
    /// The histograms; empty for nearly every series.
    pub histograms: Moments,
}

impl Mixed {
    /// Counts the samples.
    pub fn len(&self) -> usize {
        self.numbers.len() + self.histograms.len()
    }

    /// Says whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.histograms.is_empty()
    }

    /// Forgets all samples and keeps the memory.
    pub fn clear(&mut self) {
        self.numbers.clear();
        self.histograms.clear();
    }

    /// Lends the samples.
    pub fn samples(&self) -> Samples<'_> {
        Samples {
            histograms: &self.histograms,
            ..self.numbers.samples()
        }
    }

    /// Walks the moments of all samples: of the numbers, then of the histograms.
    pub fn moments(&self) -> impl Iterator<Item = i64> + '_ {
        let histograms = self.histograms.iter().map(|(time, _)| *time);
        self.numbers.timestamps.iter().copied().chain(histograms)
    }

    /// Forgets the histograms of moments that hold a number, so that each moment holds one sample. Only damage can
    /// have brought two of them together: a block that could not be asked.
    pub fn settle(&mut self) {
        let times = &self.numbers.timestamps;
        if !times.is_empty() {
            self.histograms
                .retain(|(time, _)| times.binary_search(time).is_err());
        }
    }
}

/// Lends the part of histograms from `start` to `end`, both included.
pub fn within_moments(moments: &[(i64, Arc<Histogram>)], start: i64, end: i64) -> &[(i64, Arc<Histogram>)] {
    let last = moments.partition_point(|(time, _)| *time <= end);
    let first = moments[..last].partition_point(|(time, _)| *time < start);
    &moments[first..last]
}

/// Keeps, of the histograms that were appended since `from`, those from `start` to `end`, both included.
pub fn clip_moments(moments: &mut Moments, from: usize, start: i64, end: i64) {
    let last = from + moments[from..].partition_point(|(time, _)| *time <= end);
    moments.truncate(last);
    let first = from + moments[from..].partition_point(|(time, _)| *time < start);
    moments.drain(from..first);
}

/// Merges rising histograms into others; where both hold a moment, `newer` wins.
pub fn merge_moments(into: &mut Moments, newer: &mut Moments) {
    let is_apart = match (into.last(), newer.first()) {
        (Some((last, _)), Some((first, _))) => last < first,
        _ => true,
    };
    if is_apart {
        into.append(newer);
        return;
    }
    into.retain(|(time, _)| newer.binary_search_by_key(time, |(other, _)| *other).is_err());
    into.append(newer);
    into.sort_by_key(|(time, _)| *time);
}

/// Lends the part from `start` to `end`, both included.
pub fn within(samples: Samples<'_>, start: i64, end: i64) -> Samples<'_> {
    let last = samples.timestamps.partition_point(|t| *t <= end);
    let first = samples.timestamps[..last].partition_point(|t| *t < start);
    Samples::numbers(&samples.timestamps[first..last], &samples.values[first..last])
}

/// Merges two rising runs into `out`; where both hold a moment, the first one's value is kept.
pub fn merge_into(a: Samples<'_>, b: Samples<'_>, out: &mut Columns) {
    let is_apart = match (a.timestamps.last(), b.timestamps.first()) {
        (Some(last), Some(first)) => last < first,
        _ => true,
    };
    if is_apart {
        out.extend(a);
        out.extend(b);
        return;
    }
    let (mut i, mut j) = (0, 0);
    while i < a.timestamps.len() && j < b.timestamps.len() {
        let (left, right) = (a.timestamps[i], b.timestamps[j]);
        if left <= right {
            out.push(left, a.values[i]);
            i += 1;
            j += usize::from(left == right);
        } else {
            out.push(right, b.values[j]);
            j += 1;
        }
    }
    out.extend(Samples::numbers(&a.timestamps[i..], &a.values[i..]));
    out.extend(Samples::numbers(&b.timestamps[j..], &b.values[j..]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn columns(map: &BTreeMap<i64, f64>) -> Columns {
        Columns {
            timestamps: map.keys().copied().collect(),
            values: map.values().copied().collect(),
        }
    }

    fn moments(map: &BTreeMap<i64, f64>) -> Moments {
        let histogram = |sum: f64| Histogram {
            sum,
            ..Histogram::default()
        };
        map.iter()
            .map(|(time, sum)| (*time, Arc::new(histogram(*sum))))
            .collect()
    }

    proptest! {
        #[test]
        fn merging_histograms_is_a_union_in_which_the_newer_win(
            a in proptest::collection::btree_map(0i64..60, 0f64..1.0, 0..30),
            b in proptest::collection::btree_map(0i64..60, 1f64..2.0, 0..30),
        ) {
            let mut union = a.clone();
            union.extend(b.iter().map(|(t, v)| (*t, *v)));
            let mut merged = moments(&a);
            merge_moments(&mut merged, &mut moments(&b));
            prop_assert_eq!(&merged, &moments(&union));
            let mut mixed = Mixed { numbers: columns(&a), histograms: merged };
            mixed.settle();
            let mut rest = union.clone();
            rest.retain(|time, _| !a.contains_key(time));
            prop_assert_eq!(mixed.histograms, moments(&rest));
        }

        #[test]
        fn merging_is_a_union_in_which_the_first_wins(
            a in proptest::collection::btree_map(0i64..60, 0f64..1.0, 0..30),
            b in proptest::collection::btree_map(0i64..60, 1f64..2.0, 0..30),
        ) {
            let mut union = b.clone();
            union.extend(a.iter().map(|(t, v)| (*t, *v)));
            let mut out = Columns::default();
            merge_into(columns(&a).samples(), columns(&b).samples(), &mut out);
            prop_assert_eq!(out, columns(&union));
        }

        #[test]
        fn clipping_keeps_what_is_inside(map in proptest::collection::btree_map(0i64..60, 0f64..1.0, 0..30), start in 0i64..60, end in 0i64..60) {
            let expected: BTreeMap<i64, f64> = map.iter().filter(|(t, _)| (start..=end).contains(*t)).map(|(t, v)| (*t, *v)).collect();
            let mut clipped = columns(&map);
            clipped.clip(0, start, end);
            prop_assert_eq!(&clipped, &columns(&expected));
            let whole = columns(&map);
            prop_assert_eq!(within(whole.samples(), start, end).timestamps, &clipped.timestamps[..]);
        }
    }
}

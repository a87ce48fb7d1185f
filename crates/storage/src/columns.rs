//! Samples of one series as two columns, oldest first.

use marketprism_model::series::Samples;

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

    proptest! {
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

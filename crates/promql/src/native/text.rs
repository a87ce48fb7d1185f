//! Histograms as texts, and as lists of buckets for answers.
//!
//! Both leave empty buckets out and go from below to above. Deliberately absent: the notation of rule tests, which can be
//! read back (`notation`).

use std::fmt::Write;

use marketprism_model::Histogram;

use super::bounds::{self, Bucket};
use crate::notes::general;

/// A populated bucket of an answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HistogramBucket {
    /// Which bounds belong to the bucket: 0 the right one, 1 the left one, 2 none, 3 both.
    pub boundary_rule: u8,
    /// The lower bound.
    pub left: f64,
    /// The upper bound.
    pub right: f64,
    /// How many observations it holds.
    pub count: f64,
}

/// Writes a histogram as Prometheus does: `{count:3, sum:4.5, [-2,-1):1, (0.5,1]:2}`, empty buckets left out.
pub fn histogram_text(histogram: &Histogram) -> String {
    let number = |value| general(value, None);
    let mut text = format!(
        "{{count:{}, sum:{}",
        number(histogram.count),
        number(histogram.sum)
    );
    let mut write = |bucket: &Bucket| {
        if bucket.count == 0.0 {
            return;
        }
        let opening = if bucket.has_lower { '[' } else { '(' };
        let closing = if bucket.has_upper { ']' } else { ')' };
        let _ = write!(
            text,
            ", {opening}{},{}{closing}:{}",
            number(bucket.lower),
            number(bucket.upper),
            number(bucket.count)
        );
    };
    bounds::negative(histogram).iter().rev().for_each(&mut write);
    if !histogram.has_custom_bounds() {
        write(&bounds::zero(histogram));
    }
    bounds::positive(histogram).iter().for_each(&mut write);
    text.push('}');
    text
}

/// Gives the populated buckets from the lowest to the highest, as answers of Prometheus' API list them.
pub fn histogram_buckets(histogram: &Histogram) -> Vec<HistogramBucket> {
    let populated = bounds::ascending(histogram)
        .into_iter()
        .filter(|bucket| bucket.count != 0.0);
    populated
        .map(|bucket| HistogramBucket {
            boundary_rule: match (bucket.has_lower, bucket.has_upper) {
                (false, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (true, true) => 3,
            },
            left: bucket.lower,
            right: bucket.upper,
            count: bucket.count,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use marketprism_model::{BucketSpan, Buckets};

    fn side(offset: i32, counts: &[f64]) -> Buckets {
        Buckets {
            spans: vec![BucketSpan {
                offset,
                length: counts.len() as u32,
            }],
            counts: counts.to_vec(),
        }
    }

    #[test]
    fn a_text_lists_populated_buckets_from_below() {
        let histogram = Histogram {
            zero_threshold: 0.001,
            zero_count: 4.0,
            count: 12_345_678.0,
            sum: -0.25,
            positive: side(0, &[1.0, 0.0, 2.5]),
            negative: side(0, &[3.0, 1.0]),
            ..Histogram::default()
        };
        assert_eq!(
            histogram_text(&histogram),
            "{count:1.2345678e+07, sum:-0.25, [-2,-1):1, [-1,-0.5):3, [-0.001,0.001]:4, (0.5,1]:1, (2,4]:2.5}"
        );
        let rules: Vec<(u8, f64, f64)> = histogram_buckets(&histogram)
            .iter()
            .map(|b| (b.boundary_rule, b.left, b.right))
            .collect();
        assert_eq!(
            rules,
            [
                (1, -2.0, -1.0),
                (1, -1.0, -0.5),
                (3, -0.001, 0.001),
                (0, 0.5, 1.0),
                (0, 2.0, 4.0)
            ]
        );
    }

    #[test]
    fn custom_bounds_are_closed_above() {
        let histogram = Histogram {
            schema: -53,
            count: 6.0,
            sum: f64::INFINITY,
            positive: side(0, &[1.0, 2.0, 3.0]),
            custom_bounds: Arc::from([5.0, 10.0]),
            ..Histogram::default()
        };
        assert_eq!(
            histogram_text(&histogram),
            "{count:6, sum:+Inf, [-Inf,5]:1, (5,10]:2, (10,+Inf]:3}"
        );
    }
}

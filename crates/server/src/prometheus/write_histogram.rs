//! Native histograms in answers: counts and sums as texts, populated buckets as short arrays.
//!
//! Source: `github.com/prometheus/prometheus/util/jsonutil`, MarshalHistogram.

use marketprism_model::Histogram;
use marketprism_promql::histogram_buckets;

use super::number::{push_timestamp, push_value};

/// Appends a point: its moment and the histogram.
pub fn push_histogram_point(text: &mut String, at_ms: i64, histogram: &Histogram) {
    text.push('[');
    push_timestamp(text, at_ms);
    text.push(',');
    push_histogram(text, histogram);
    text.push(']');
}

fn push_histogram(text: &mut String, histogram: &Histogram) {
    let quoted = |text: &mut String, value: f64| {
        text.push('"');
        push_value(text, value);
        text.push('"');
    };
    text.push_str(r#"{"count":"#);
    quoted(text, histogram.count);
    text.push_str(r#","sum":"#);
    quoted(text, histogram.sum);
    let buckets = histogram_buckets(histogram);
    for (place, bucket) in buckets.iter().enumerate() {
        text.push_str(if place == 0 { r#","buckets":["# } else { "," });
        text.push('[');
        text.push(char::from(b'0' + bucket.boundary_rule));
        for value in [bucket.left, bucket.right, bucket.count] {
            text.push(',');
            quoted(text, value);
        }
        text.push(']');
    }
    if !buckets.is_empty() {
        text.push(']');
    }
    text.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use marketprism_model::{BucketSpan, Buckets};

    fn side(counts: &[f64]) -> Buckets {
        Buckets {
            spans: vec![BucketSpan {
                offset: 0,
                length: counts.len() as u32,
            }],
            counts: counts.to_vec(),
        }
    }

    /// The shape is that of the documentation of Prometheus' API, "Native histograms".
    #[test]
    fn a_histogram_is_written_as_prometheus_does() {
        let check = |histogram: &Histogram, expected: &str| {
            let mut text = String::new();
            push_histogram_point(&mut text, 1_500, histogram);
            assert_eq!(text, expected);
        };
        let histogram = Histogram {
            zero_threshold: 0.25,
            zero_count: 1.0,
            count: 7.5,
            sum: -1e-7,
            positive: side(&[2.0, 0.0, 3.5]),
            negative: side(&[1.0]),
            ..Histogram::default()
        };
        check(
            &histogram,
            concat!(
                r#"[1.500,{"count":"7.5","sum":"-1e-07","buckets":[[1,"-1","-0.5","1"],[3,"-0.25","0.25","1"],"#,
                r#"[0,"0.5","1","2"],[0,"2","4","3.5"]]}]"#
            ),
        );
        check(&Histogram::default(), r#"[1.500,{"count":"0","sum":"0"}]"#);
    }
}

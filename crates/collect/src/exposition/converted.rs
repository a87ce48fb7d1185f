//! Classic histograms as native ones with written bounds (NHCB).
//!
//! The lines of a family of type `histogram` that belong to one series are gathered, wherever they stand in the body,
//! and taken out of the text when they make a histogram; else they stay. Costs a decoding of these lines at every
//! scrape, and so is only done when it is asked for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use marketprism_model::histogram::{BUCKETS_MAX, CUSTOM_BOUNDS_SCHEMA};
use marketprism_model::labels::{BUCKET_LE, METRIC_NAME};
use marketprism_model::{BucketSpan, Buckets, Histogram, Labels, ResetHint};

use super::series::{decode_series, put_series};
use super::{Entry, Format, MetricKind, NativeSample, ParseError, Parser, Unfolded, parse_float};

/// What is known of one histogram.
#[derive(Default)]
struct Classic {
    /// Upper bound and cumulated count.
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
    lines: Vec<Range<usize>>,
    timestamp_ms: Option<i64>,
    is_gauge: bool,
}

/// Turns the classic histograms of a body into native ones; their lines go unless `keeps_classic`.
pub(crate) fn convert<'a>(
    text: Cow<'a, [u8]>,
    format: Format,
    keeps_classic: bool,
) -> Result<Unfolded<'a>, ParseError> {
    let mut gathered = gather(&text, format)?;
    let mut natives = Vec::new();
    let mut gone: Vec<Range<usize>> = Vec::new();
    let mut order: Vec<(Labels, Classic)> = gathered.drain().collect();
    order.sort_unstable_by_key(|(_, classic)| classic.lines[0].start);
    for (labels, classic) in order {
        let Some(histogram) = classic.build() else {
            continue;
        };
        let mut series = Vec::new();
        let others = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
        put_series(&mut series, labels.metric_name(), others);
        natives.push(NativeSample {
            series,
            timestamp_ms: classic.timestamp_ms,
            histogram: Some(Arc::new(histogram)),
        });
        gone.extend(classic.lines);
    }
    if keeps_classic || gone.is_empty() {
        return Ok(Unfolded { text, natives });
    }
    gone.sort_unstable_by_key(|line| line.start);
    let (mut rest, mut at) = (Vec::with_capacity(text.len()), 0);
    for line in gone {
        rest.extend_from_slice(&text[at..line.start]);
        at = line.end;
    }
    rest.extend_from_slice(&text[at..]);
    Ok(Unfolded {
        text: rest.into(),
        natives,
    })
}

fn gather(text: &[u8], format: Format) -> Result<HashMap<Labels, Classic>, ParseError> {
    let mut gathered: HashMap<Labels, Classic> = HashMap::new();
    let mut parser = Parser::new(text, format);
    let mut family: &[u8] = b"";
    loop {
        let start = parser.position();
        let sample = match parser.next_entry()? {
            Some(Entry::Type(name, _)) => {
                family = name;
                continue;
            }
            Some(Entry::Sample(sample)) => sample,
            Some(_) => continue,
            None => return Ok(gathered),
        };
        let kind = parser.kind();
        if !matches!(kind, MetricKind::Histogram | MetricKind::GaugeHistogram) {
            continue;
        }
        // What names no series is told by the road of text.
        let Ok(mut labels) = decode_series(sample.series, kind) else {
            continue;
        };
        let name = labels.get(METRIC_NAME).unwrap_or_default().to_owned();
        // A comment's family is any bytes, and may end within a character of the name.
        let (Some(part), Some(base)) = (name.as_bytes().strip_prefix(family), name.get(..family.len()))
        else {
            continue;
        };
        let bound = labels
            .get(BUCKET_LE)
            .and_then(|text| parse_float(text.as_bytes()));
        labels.set(METRIC_NAME, base);
        if part == b"_bucket" {
            labels.set(BUCKET_LE, "");
        }
        let classic = match (part, bound) {
            (b"_bucket", Some(bound)) => {
                let classic = gathered.entry(labels.build()).or_default();
                classic.buckets.push((bound, sample.value));
                classic
            }
            (b"_sum" | b"_gsum", _) => {
                let classic = gathered.entry(labels.build()).or_default();
                classic.sum = Some(sample.value);
                classic
            }
            (b"_count" | b"_gcount", _) => {
                let classic = gathered.entry(labels.build()).or_default();
                classic.count = Some(sample.value);
                classic
            }
            _ => continue,
        };
        classic.timestamp_ms = sample.timestamp_ms;
        classic.is_gauge = kind == MetricKind::GaugeHistogram;
        classic.lines.push(start..parser.position());
    }
}

impl Classic {
    /// Makes the histogram; `None` when the lines do not describe one.
    fn build(&self) -> Option<Histogram> {
        let mut buckets = self.buckets.clone();
        buckets.retain(|(bound, _)| !bound.is_nan());
        buckets.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        buckets.dedup_by(|later, earlier| later.0 == earlier.0);
        let last = buckets.last()?.1;
        let count = self.count.unwrap_or(last);
        let has_infinite = buckets.last().is_some_and(|(bound, _)| *bound == f64::INFINITY);
        if !has_infinite {
            buckets.push((f64::INFINITY, count));
        }
        if buckets.len() > BUCKETS_MAX || buckets.last().is_none_or(|(_, total)| *total != count) {
            return None;
        }
        let (mut counts, mut before) = (Vec::with_capacity(buckets.len()), 0.0);
        for (_, cumulated) in &buckets {
            counts.push(cumulated - before);
            before = *cumulated;
        }
        buckets.pop();
        let (spans, counts) = compact(&counts);
        let histogram = Histogram {
            reset_hint: if self.is_gauge {
                ResetHint::Gauge
            } else {
                ResetHint::Unknown
            },
            schema: CUSTOM_BOUNDS_SCHEMA,
            count,
            sum: self.sum.unwrap_or(0.0),
            positive: Buckets { spans, counts },
            custom_bounds: buckets.iter().map(|(bound, _)| *bound).collect(),
            ..Histogram::default()
        };
        histogram.check().is_ok().then_some(histogram)
    }
}

/// Leaves empty buckets out where that makes the histogram shorter: more than two in a row.
fn compact(counts: &[f64]) -> (Vec<BucketSpan>, Vec<f64>) {
    const GAP_MAX: usize = 2;
    let (mut spans, mut kept): (Vec<BucketSpan>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut end = 0;
    for (at, count) in counts.iter().enumerate().filter(|(_, count)| **count != 0.0) {
        match spans.last_mut() {
            Some(span) if at - end <= GAP_MAX => {
                span.length += (at - end + 1) as u32;
                kept.extend(std::iter::repeat_n(0.0, at - end));
            }
            _ => spans.push(BucketSpan {
                offset: (at - end) as i32,
                length: 1,
            }),
        }
        kept.push(*count);
        end = at + 1;
    }
    (spans, kept)
}

//! The exposition as protobuf: `io.prometheus.client.MetricFamily`, one after the other, each preceded by its length.
//!
//! What it says in numbers is unfolded into text, as Prometheus writes the same families, and takes the road of text:
//! labels, limits, relabelling and the memory of lines are one thing for both. Native histograms stand beside the text.
//! The text is only for that road: it knows a type more than Prometheus' own.
//!
//! Deliberately absent: exemplars and the moments at which counters began.
//!
//! Source: `github.com/prometheus/client_model/io/prometheus/client/metrics.proto`; for names, bounds and what counts as
//! a native histogram, `github.com/prometheus/prometheus/model/textparse`.

use std::io::Write as _;
use std::sync::Arc;

use marketprism_model::sample::is_stale;
use marketprism_model::{Histogram, ResetHint};
use thiserror::Error;

use super::series::{bound_text, metric_name_length, put_series};
use super::{NativeSample, Unfolded};
use crate::native::{Sent, hint_of};
use crate::protobuf::{Broken, Reader, Value, unfold};

/// The text, and the names of native histograms with it, is at most this many times as long as the message, and
/// [`TEXT_BYTES_LEAST`] more.
const TEXT_FACTOR: usize = 64;
const TEXT_BYTES_LEAST: usize = 64 << 10;
/// Positions in the text are kept in 32 bits.
const TEXT_BYTES_MAX: usize = 1 << 30;
/// The native histograms of a body hold no more numbers together.
const NATIVE_NUMBERS_MAX: usize = 1 << 24;

/// How classic and native parts of one histogram are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HistogramRules {
    /// Whether native histograms are taken.
    pub takes_native: bool,
    /// Whether classic buckets are taken beside them.
    pub keeps_classic: bool,
    /// Whether classic buckets become native histograms with written bounds.
    pub converts_classic: bool,
}

/// Why a body as protobuf cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ProtobufError {
    /// The message breaks off or contradicts the encoding.
    #[error("protobuf: {0}")]
    Broken(#[from] Broken),
    /// A native histogram cannot be.
    #[error("native histogram of {family}: {reason}")]
    Histogram {
        /// The family's name, cut.
        family: String,
        /// Why not.
        reason: String,
    },
    /// Few bytes describe too much.
    #[error("{what} of this message are more than {limit}")]
    TooMuch {
        /// What.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// Unfolds a body.
pub(crate) fn unfold_body(body: &[u8], rules: HistogramRules) -> Result<Unfolded<'static>, ProtobufError> {
    let limit = (body.len().saturating_mul(TEXT_FACTOR) + TEXT_BYTES_LEAST).min(TEXT_BYTES_MAX);
    let mut unfolding = Unfolding {
        rules,
        text: Vec::with_capacity(body.len().min(limit)),
        limit,
        natives: Vec::new(),
        native_bytes: 0,
        numbers: 0,
    };
    let mut reader = Reader::new(body);
    while !reader.is_empty() {
        unfolding.family(reader.prefixed()?)?;
    }
    Ok(Unfolded {
        text: unfolding.text.into(),
        natives: unfolding.natives,
    })
}

struct Unfolding {
    rules: HistogramRules,
    text: Vec<u8>,
    limit: usize,
    natives: Vec<NativeSample>,
    /// What the names of `natives` take of the limit.
    native_bytes: usize,
    numbers: usize,
}

/// What a family is, by the number in the message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Summary,
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Kind {
    fn of(number: u64) -> Self {
        match number {
            0 => Kind::Counter,
            1 => Kind::Gauge,
            2 => Kind::Summary,
            4 => Kind::Histogram,
            5 => Kind::GaugeHistogram,
            _ => Kind::Untyped,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
            Kind::Untyped => "untyped",
            Kind::Histogram => "histogram",
            Kind::GaugeHistogram => "gaugehistogram",
        }
    }
}

/// One series of a family.
struct Metric<'a> {
    family: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    timestamp_ms: Option<i64>,
}

impl Unfolding {
    fn family(&mut self, mut reader: Reader<'_>) -> Result<(), ProtobufError> {
        let mut metrics = reader;
        let (mut name, mut help, mut unit, mut kind) = ("", "", "", Kind::Counter);
        while let Some(field) = reader.next_field()? {
            match field {
                (1, Value::Bytes(text)) => name = text.text()?,
                (2, Value::Bytes(text)) => help = text.text()?,
                (3, Value::Varint(number)) => kind = Kind::of(number),
                (4, Value::Bytes(_)) => {}
                (5, Value::Bytes(text)) => unit = text.text()?,
                (1..=5, _) => return Err(reader.fault("field of a family of wrong type").into()),
                _ => {}
            }
        }
        if name.is_empty() {
            return Err(reader.fault("family without a name").into());
        }
        // A name with other characters is quoted in text; comments about it are told of nobody.
        if metric_name_length(name.as_bytes()) == name.len() {
            if !help.is_empty() {
                let help = help.replace('\\', "\\\\").replace('\n', "\\n");
                let _ = writeln!(self.text, "# HELP {name} {help}");
            }
            if name
                .strip_suffix(unit)
                .is_some_and(|stem| !unit.is_empty() && stem.ends_with('_'))
            {
                let _ = writeln!(self.text, "# UNIT {name} {unit}");
            }
            let _ = writeln!(self.text, "# TYPE {name} {}", kind.word());
        } else {
            let _ = writeln!(self.text, "# TYPE other {}", kind.word());
        }
        // Walked again, now that name and kind are known: a list of them would be longer than the message.
        while let Some(field) = metrics.next_field()? {
            if let (4, Value::Bytes(metric)) = field {
                self.metric(name, kind, metric)?;
            }
        }
        Ok(())
    }

    /// Fails when few bytes have become too many.
    fn check_limit(&self) -> Result<(), ProtobufError> {
        if self.text.len() + self.native_bytes > self.limit {
            return Err(ProtobufError::TooMuch {
                what: "the bytes",
                limit: self.limit,
            });
        }
        Ok(())
    }

    fn metric(&mut self, family: &str, kind: Kind, mut reader: Reader<'_>) -> Result<(), ProtobufError> {
        let mut metric = Metric {
            family,
            labels: Vec::new(),
            timestamp_ms: None,
        };
        let mut content = None;
        while let Some(field) = reader.next_field()? {
            match field {
                (1, Value::Bytes(mut pair)) => {
                    let (mut name, mut value) = ("", "");
                    while let Some(field) = pair.next_field()? {
                        match field {
                            (1, Value::Bytes(text)) => name = text.text()?,
                            (2, Value::Bytes(text)) => value = text.text()?,
                            _ => {}
                        }
                    }
                    metric.labels.push((name, value));
                }
                (6, Value::Varint(time)) => metric.timestamp_ms = Some(time as i64).filter(|time| *time != 0),
                (number @ (2 | 3 | 4 | 5 | 7), Value::Bytes(inner)) => content = Some((number, inner)),
                (1..=7, _) => return Err(reader.fault("field of a metric of wrong type").into()),
                _ => {}
            }
        }
        let wanted = match kind {
            Kind::Gauge => 2,
            Kind::Counter => 3,
            Kind::Summary => 4,
            Kind::Untyped => 5,
            Kind::Histogram | Kind::GaugeHistogram => 7,
        };
        // A metric that says nothing of its family's kind says that everything is zero.
        let inner = match content {
            Some((number, inner)) if number == wanted => inner,
            Some(_) => return Err(reader.fault("metric of another type than its family").into()),
            None => Reader::new(&[]),
        };
        match kind {
            Kind::Summary => self.summary(&metric, inner),
            Kind::Histogram | Kind::GaugeHistogram => self.histogram(&metric, kind, inner),
            Kind::Counter | Kind::Gauge | Kind::Untyped => self.number(&metric, inner),
        }
    }

    fn number(&mut self, metric: &Metric<'_>, mut inner: Reader<'_>) -> Result<(), ProtobufError> {
        let mut value = 0.0;
        while let Some(field) = inner.next_field()? {
            if let (1, Value::Fixed64(bits)) = field {
                value = f64::from_bits(bits);
            }
        }
        self.line(metric, "", None, value)
    }

    fn summary(&mut self, metric: &Metric<'_>, mut inner: Reader<'_>) -> Result<(), ProtobufError> {
        let (mut count, mut sum) = (0u64, 0.0);
        while let Some(field) = inner.next_field()? {
            match field {
                (1, Value::Varint(number)) => count = number,
                (2, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
                (3, Value::Bytes(mut quantile)) => {
                    let (mut place, mut value) = (0.0, 0.0);
                    while let Some(field) = quantile.next_field()? {
                        match field {
                            (1, Value::Fixed64(bits)) => place = f64::from_bits(bits),
                            (2, Value::Fixed64(bits)) => value = f64::from_bits(bits),
                            _ => {}
                        }
                    }
                    self.line(metric, "", Some(("quantile", place)), value)?;
                }
                _ => {}
            }
        }
        self.line(metric, "_sum", None, sum)?;
        self.line(metric, "_count", None, count as f64)
    }

    fn histogram(&mut self, metric: &Metric<'_>, kind: Kind, inner: Reader<'_>) -> Result<(), ProtobufError> {
        let Read {
            mut sent,
            buckets,
            is_native,
        } = read_histogram(inner)?;
        let is_native = is_native && self.rules.takes_native;
        if !is_native || self.rules.keeps_classic {
            let count = if sent.count.float > 0.0 {
                sent.count.float
            } else {
                sent.count.whole as f64
            };
            for (bound, count) in &buckets {
                self.line(metric, "_bucket", Some(("le", *bound)), *count)?;
            }
            if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
                self.line(metric, "_bucket", Some(("le", f64::INFINITY)), count)?;
            }
            self.line(metric, "_sum", None, sent.sum)?;
            self.line(metric, "_count", None, count)?;
        }
        if !is_native {
            return Ok(());
        }
        self.numbers += sent.weight();
        if self.numbers > NATIVE_NUMBERS_MAX {
            return Err(ProtobufError::TooMuch {
                what: "the numbers of native histograms",
                limit: NATIVE_NUMBERS_MAX,
            });
        }
        if kind == Kind::GaugeHistogram {
            sent.reset_hint = ResetHint::Gauge;
        }
        // As in remote write: whatever else it says, such a sum marks the end of the series.
        let histogram = if is_stale(sent.sum) {
            None
        } else {
            Some(sent.build().map_err(|reason| ProtobufError::Histogram {
                family: metric.family.chars().take(100).collect(),
                reason,
            })?)
        };
        self.native(metric, histogram)
    }

    fn native(
        &mut self,
        metric: &Metric<'_>,
        histogram: Option<Arc<Histogram>>,
    ) -> Result<(), ProtobufError> {
        let mut series = Vec::new();
        put_series(&mut series, metric.family, metric.labels.iter().copied());
        self.native_bytes += series.len();
        self.check_limit()?;
        self.natives.push(NativeSample {
            series,
            timestamp_ms: metric.timestamp_ms,
            histogram,
        });
        Ok(())
    }

    /// Writes a line, with a bound where its kind has one.
    fn line(
        &mut self,
        metric: &Metric<'_>,
        suffix: &str,
        bound: Option<(&str, f64)>,
        value: f64,
    ) -> Result<(), ProtobufError> {
        let bound = bound.map(|(name, bound)| (name, bound_text(bound)));
        let more = bound.iter().map(|(name, text)| (*name, text.as_ref()));
        let name = format!("{}{suffix}", metric.family);
        put_series(&mut self.text, &name, metric.labels.iter().copied().chain(more));
        let text = &mut self.text;
        let _ = match value {
            value if value.is_nan() => write!(text, " NaN"),
            f64::INFINITY => write!(text, " +Inf"),
            f64::NEG_INFINITY => write!(text, " -Inf"),
            // The fewest digits from which the same number is read again.
            value if value == value.trunc() && value.abs() < 1e15 => write!(text, " {value}"),
            value => write!(text, " {value:e}"),
        };
        if let Some(time) = metric.timestamp_ms {
            let _ = write!(text, " {time}");
        }
        text.push(b'\n');
        self.check_limit()
    }
}

struct Read {
    sent: Sent,
    /// Upper bound and cumulated count.
    buckets: Vec<(f64, f64)>,
    is_native: bool,
}

fn read_histogram(mut inner: Reader<'_>) -> Result<Read, ProtobufError> {
    let mut sent = Sent::default();
    let (mut buckets, mut has_spans) = (Vec::new(), false);
    while let Some(field) = inner.next_field()? {
        match field {
            (1, Value::Varint(count)) => sent.count.whole = count,
            (2, Value::Fixed64(bits)) => sent.sum = f64::from_bits(bits),
            (3, Value::Bytes(bucket)) => buckets.push(read_bucket(bucket)?),
            (4, Value::Fixed64(bits)) => sent.count.float = f64::from_bits(bits),
            (5, Value::Varint(schema)) => sent.schema = unfold(schema),
            (6, Value::Fixed64(bits)) => sent.zero_threshold = f64::from_bits(bits),
            (7, Value::Varint(count)) => sent.zero_count.whole = count,
            (8, Value::Fixed64(bits)) => sent.zero_count.float = f64::from_bits(bits),
            (9, Value::Bytes(span)) => (has_spans, _) = (true, sent.negative.span(span)?),
            (10, value) => sent.negative.deltas(value)?,
            (11, value) => sent.negative.counts(value)?,
            (12, Value::Bytes(span)) => (has_spans, _) = (true, sent.positive.span(span)?),
            (13, value) => sent.positive.deltas(value)?,
            (14, value) => sent.positive.counts(value)?,
            (1..=9 | 12, _) => return Err(inner.fault("field of a histogram of wrong type").into()),
            _ => {}
        }
    }
    // As in the message's own words: the counts of the other kind win when they are there.
    sent.is_float = sent.count.float > 0.0 || sent.zero_count.float > 0.0;
    sent.reset_hint = hint_of(0);
    let is_native = has_spans || sent.zero_threshold > 0.0 || sent.zero_count.whole > 0;
    Ok(Read {
        sent,
        buckets,
        is_native,
    })
}

fn read_bucket(mut bucket: Reader<'_>) -> Result<(f64, f64), ProtobufError> {
    let (mut bound, mut whole, mut float) = (0.0, 0u64, 0.0);
    while let Some(field) = bucket.next_field()? {
        match field {
            (1, Value::Varint(count)) => whole = count,
            (2, Value::Fixed64(bits)) => bound = f64::from_bits(bits),
            (4, Value::Fixed64(bits)) => float = f64::from_bits(bits),
            _ => {}
        }
    }
    Ok((bound, if float > 0.0 { float } else { whole as f64 }))
}

#[cfg(test)]
mod tests {
    use marketprism_model::labels::METRIC_NAME;
    use proptest::prelude::*;

    use super::super::{Entry, Format, Parser, decode_series};
    use super::*;

    fn put(out: &mut Vec<u8>, field: u8, content: &[u8]) {
        out.push(field << 3 | 2);
        put_length(out, content.len());
        out.extend_from_slice(content);
    }

    fn put_length(out: &mut Vec<u8>, mut length: usize) {
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
    }

    /// A family of one gauge.
    fn gauge(name: &str, help: &str, labels: &[(String, String)], value: f64) -> Vec<u8> {
        let (mut family, mut metric, mut body) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in labels {
            let mut pair = Vec::new();
            put(&mut pair, 1, name.as_bytes());
            put(&mut pair, 2, value.as_bytes());
            put(&mut metric, 1, &pair);
        }
        let mut number = vec![1 << 3 | 1];
        number.extend(value.to_le_bytes());
        put(&mut metric, 2, &number);
        put(&mut family, 1, name.as_bytes());
        put(&mut family, 2, help.as_bytes());
        family.extend([3 << 3, 1]);
        put(&mut family, 4, &metric);
        put_length(&mut body, family.len());
        body.extend(family);
        body
    }

    /// The labels of a metric stand in the text once a bucket or quantile: one metric can fill the memory.
    #[test]
    fn the_limit_holds_within_a_metric() {
        let (mut pair, mut content) = (Vec::new(), Vec::new());
        put(&mut pair, 1, b"l");
        put(&mut pair, 2, &[b'x'; 100]);
        (0..1_000).for_each(|_| put(&mut content, 3, b""));
        for (kind, field) in [(4, 7), (2, 4)] {
            let (mut family, mut metric) = (vec![3 << 3, kind], Vec::new());
            put(&mut metric, 1, &pair);
            put(&mut metric, field, &content);
            put(&mut family, 1, b"h");
            put(&mut family, 4, &metric);
            let mut unfolding = Unfolding {
                rules: HistogramRules::default(),
                text: Vec::new(),
                limit: 1_000,
                natives: Vec::new(),
                native_bytes: 0,
                numbers: 0,
            };
            let result = unfolding.family(Reader::new(&family));
            assert!(matches!(result, Err(ProtobufError::TooMuch { .. })), "{result:?}");
            assert!(unfolding.text.len() < 1_200, "one line more at most");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_family_is_called_its_text_says_the_same(
            name in "[a-z:_\\PC\n\"\\\\]{1,9}",
            help in "\\PC{0,9}[\n\\\\]?",
            labels in proptest::collection::btree_map("[a-z\\PC\n\"\\\\]{1,6}", "[a-z\\PC\n\"\\\\]{1,6}", 0..4),
            bits in any::<u64>(),
        ) {
            prop_assume!(!labels.contains_key(METRIC_NAME));
            let labels: Vec<(String, String)> = labels.into_iter().collect();
            let value = f64::from_bits(bits);
            let body = gauge(&name, &help, &labels, value);
            let unfolded = unfold_body(&body, HistogramRules::default()).expect("a whole message");
            let mut parser = Parser::new(&unfolded.text, Format::Protobuf);
            let mut samples = Vec::new();
            while let Some(entry) = parser.next_entry().expect("readable text") {
                if let Entry::Sample(sample) = entry {
                    let labels = decode_series(sample.series, parser.kind()).expect("a series").build();
                    samples.push((labels, sample.value));
                }
            }
            let expected = marketprism_model::Labels::from_pairs(labels).with(METRIC_NAME, &name);
            prop_assert_eq!(samples.len(), 1);
            prop_assert_eq!(&samples[0].0, &expected);
            prop_assert!(samples[0].1.to_bits() == bits || (value.is_nan() && samples[0].1.is_nan()));
        }

        #[test]
        fn any_bytes_are_unfolded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let rules = HistogramRules { takes_native: true, keeps_classic: true, converts_classic: true };
            let _ = super::super::unfold(&bytes, Format::Protobuf, rules);
            let _ = super::super::unfold(&bytes, Format::Prometheus, rules);
        }
    }
}

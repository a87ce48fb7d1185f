//! Native histograms by scrape: bodies written by hand, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use marketprism_collect::CollectMetrics;
use marketprism_collect::config::parse_yaml;
use marketprism_collect::exposition::{Format, HistogramRules};
use marketprism_collect::scrape::road::{Fetched, Report, Road, SampleRules};
use marketprism_model::histogram::CUSTOM_BOUNDS_SCHEMA;
use marketprism_model::sample::STALE_NAN_BITS;
use marketprism_model::{Histogram, Labels, ResetHint, Timestamp};
use marketprism_testkit::MemorySink;

use crate::families::{
    COUNTER, GAUGE, GAUGE_HISTOGRAM, HISTOGRAM, SUMMARY, UNTYPED, body, buckets, classic_buckets, family,
    float, float_message, metric, number, whole, whole_message,
};
use crate::message::Message;

const NATIVE: HistogramRules = HistogramRules {
    takes_native: true,
    keeps_classic: false,
    converts_classic: false,
};

fn rules(histograms: HistogramRules) -> SampleRules {
    SampleRules {
        target_labels: Labels::from_pairs([("job", "j")]),
        honors_labels: false,
        honors_timestamps: true,
        tracks_timestamps_staleness: false,
        metric_relabel: Arc::from([]),
        histograms,
        sample_limit: 0,
        label_limit: 0,
        label_name_length_limit: 0,
        label_value_length_limit: 0,
        has_extra_metrics: false,
        timeout: Duration::from_secs(10),
    }
}

/// One target and its store; each scrape is a second after the one before.
pub struct Scene {
    sink: MemorySink,
    road: Road,
    now_s: i64,
}

impl Scene {
    pub fn new(histograms: HistogramRules) -> Self {
        Scene::with(rules(histograms))
    }

    fn with(rules: SampleRules) -> Self {
        Scene {
            sink: MemorySink::new(),
            road: Road::new(rules, CollectMetrics::default()),
            now_s: 0,
        }
    }

    pub fn scrape(&mut self, bytes: &[u8], format: Format) -> Result<Report, String> {
        self.take(&Fetched::Body { bytes, format })
    }

    fn take(&mut self, fetched: &Fetched<'_>) -> Result<Report, String> {
        self.now_s += 1;
        let at = Timestamp::from_millis(self.now_s * 1000);
        let (report, result, appended) = self.road.take(fetched, at, || Duration::ZERO, &self.sink);
        appended.expect("in memory");
        result.map(|()| report).map_err(|error| error.to_string())
    }

    /// The numbers of now, without those of the scrape itself.
    pub fn numbers(&self) -> BTreeMap<String, Option<f64>> {
        let newest = self.sink.newest().into_iter();
        newest
            .filter(|(labels, ..)| {
                !labels.metric_name().starts_with("scrape_") && labels.metric_name() != "up"
            })
            .filter(|(_, at, _)| at.millis() == self.now_s * 1000)
            .map(|(labels, _, value)| (labels.to_string(), value))
            .collect()
    }

    fn histograms(&self, series: &str) -> Vec<(i64, Histogram)> {
        let found = self.sink.histograms_of(series).into_iter();
        found
            .map(|(at, histogram)| (at.millis(), Histogram::clone(&histogram)))
            .collect()
    }
}

fn some(pairs: &[(&str, f64)]) -> BTreeMap<String, Option<f64>> {
    pairs
        .iter()
        .map(|(series, value)| ((*series).to_owned(), Some(*value)))
        .collect()
}

#[test]
fn protobuf_gives_the_series_that_text_would() {
    let families = body(&[
        family(
            "hits_total",
            COUNTER,
            &[metric(&[("k", "a\"b\\c\nd"), ("z", "日本")], 3, &number(7.0))],
        ),
        family("heat", GAUGE, &[metric(&[], 2, &number(f64::NEG_INFINITY))]),
        family("tiny", UNTYPED, &[metric(&[], 5, &number(1.5e-300))]),
        family("late", GAUGE, &[metric(&[], 2, &number(0.1)).number(6, 1_000)]),
        family(
            "quick",
            SUMMARY,
            &[metric(
                &[],
                4,
                &Message::default()
                    .number(1, 3)
                    .double(2, 1.25)
                    .bytes(3, &Message::default().double(1, 0.5).double(2, 0.2).0)
                    .bytes(3, &Message::default().double(1, 1.0).double(2, 0.9).0),
            )],
        ),
        family(
            "lag",
            HISTOGRAM,
            &[metric(
                &[("l", "x")],
                7,
                &classic_buckets(
                    Message::default().number(1, 9).double(2, 4.5),
                    &[(0.25, 2), (1.0, 5), (1e6, 9)],
                ),
            )],
        ),
        family(
            "utf.8 name",
            COUNTER,
            &[metric(&[("a label", "v")], 3, &number(1.0))],
        ),
        family("absent", COUNTER, &[Message::default()]),
    ]);
    let mut scene = Scene::new(HistogramRules::default());
    let report = scene.scrape(&families, Format::Protobuf).expect("readable");
    let expected = some(&[
        ("hits_total{job=\"j\", k=\"a\\\"b\\\\c\\nd\", z=\"日本\"}", 7.0),
        ("heat{job=\"j\"}", f64::NEG_INFINITY),
        ("tiny{job=\"j\"}", 1.5e-300),
        ("late{job=\"j\"}", 0.1),
        ("quick{job=\"j\", quantile=\"0.5\"}", 0.2),
        ("quick{job=\"j\", quantile=\"1.0\"}", 0.9),
        ("quick_sum{job=\"j\"}", 1.25),
        ("quick_count{job=\"j\"}", 3.0),
        ("lag_bucket{job=\"j\", l=\"x\", le=\"0.25\"}", 2.0),
        ("lag_bucket{job=\"j\", l=\"x\", le=\"1.0\"}", 5.0),
        ("lag_bucket{job=\"j\", l=\"x\", le=\"1e+06\"}", 9.0),
        ("lag_bucket{job=\"j\", l=\"x\", le=\"+Inf\"}", 9.0),
        ("lag_sum{job=\"j\", l=\"x\"}", 4.5),
        ("lag_count{job=\"j\", l=\"x\"}", 9.0),
        ("{__name__=\"utf.8 name\", \"a label\"=\"v\", job=\"j\"}", 1.0),
        ("absent{job=\"j\"}", 0.0),
    ]);
    let found = scene.numbers();
    let values = |numbers: &BTreeMap<String, Option<f64>>| numbers.values().copied().collect::<Vec<_>>();
    // How a name that needs quotes is printed is not this room's affair.
    let plain = |numbers: &BTreeMap<String, Option<f64>>| {
        let named = numbers.keys().filter(|series| !series.contains("utf.8"));
        named.cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(plain(&found), plain(&expected));
    assert_eq!(found.len(), expected.len());
    assert_eq!(values(&found).len(), values(&expected).len());
    for (series, value) in expected.iter().filter(|(series, _)| !series.contains("utf.8")) {
        assert_eq!(found[series], *value, "{series}");
    }
    assert_eq!(report.scraped, 16);
}

#[test]
fn native_histograms_are_taken_when_they_are_wanted() {
    let both = classic_buckets(whole_message(), &[(1.0, 11), (f64::INFINITY, 16)]);
    let families = body(&[
        family("whole", HISTOGRAM, &[metric(&[("l", "x")], 7, &whole_message())]),
        family(
            "float",
            GAUGE_HISTOGRAM,
            &[metric(&[], 7, &float_message()).number(6, 500)],
        ),
        family("both", HISTOGRAM, &[metric(&[], 7, &both)]),
        // A no-op span says that a histogram without observations is native.
        family(
            "fresh",
            HISTOGRAM,
            &[metric(
                &[],
                7,
                &Message::default().zigzag(5, 2).spans(12, &[(0, 0)]),
            )],
        ),
    ]);
    let classic = some(&[
        ("both_bucket{job=\"j\", le=\"+Inf\"}", 16.0),
        ("both_bucket{job=\"j\", le=\"1.0\"}", 11.0),
        ("both_count{job=\"j\"}", 16.0),
        ("both_sum{job=\"j\"}", 18.4),
    ]);
    let mut scene = Scene::new(NATIVE);
    let report = scene.scrape(&families, Format::Protobuf).expect("readable");
    assert_eq!((report.scraped, report.kept, report.series_added), (4, 4, 4));
    assert_eq!(scene.numbers(), BTreeMap::new());
    assert_eq!(scene.histograms("whole{job=\"j\", l=\"x\"}"), [(1_000, whole())]);
    let gauge = Histogram {
        reset_hint: ResetHint::Gauge,
        ..float()
    };
    assert_eq!(scene.histograms("float{job=\"j\"}"), [(500, gauge)]);
    assert_eq!(scene.histograms("both{job=\"j\"}"), [(1_000, whole())]);
    let fresh = Histogram {
        schema: 2,
        positive: buckets(&[(0, 0)], &[]),
        ..Histogram::default()
    };
    assert_eq!(scene.histograms("fresh{job=\"j\"}"), [(1_000, fresh)]);
    // Once more: the names are known.
    let asked = scene.sink.resolved();
    scene.scrape(&families, Format::Protobuf).expect("readable");
    assert_eq!(
        (scene.sink.resolved(), scene.histograms("both{job=\"j\"}").len()),
        (asked, 2)
    );

    let mut scene = Scene::new(HistogramRules {
        keeps_classic: true,
        ..NATIVE
    });
    scene.scrape(&families, Format::Protobuf).expect("readable");
    let mut numbers = scene.numbers();
    assert_eq!(scene.histograms("both{job=\"j\"}").len(), 1);
    numbers.retain(|series, _| series.starts_with("both"));
    assert_eq!(numbers, classic);

    let mut scene = Scene::new(HistogramRules::default());
    scene.scrape(&families, Format::Protobuf).expect("readable");
    let mut numbers = scene.numbers();
    assert_eq!(scene.histograms("both{job=\"j\"}"), []);
    numbers.retain(|series, _| series.starts_with("both"));
    assert_eq!(numbers, classic);
}

#[test]
fn a_series_of_histograms_ends_with_a_mark_when_it_vanishes_and_when_the_scrape_fails() {
    let one = |name: &str| family(name, HISTOGRAM, &[metric(&[], 7, &whole_message())]);
    let (both, first) = (body(&[one("a"), one("b")]), body(&[one("a")]));
    let mut scene = Scene::new(NATIVE);
    scene.scrape(&both, Format::Protobuf).expect("readable");
    scene.scrape(&first, Format::Protobuf).expect("readable");
    let mark_at = |seconds: i64| vec![(Timestamp::from_millis(seconds * 1000), None)];
    assert_eq!(scene.sink.samples_of("b{job=\"j\"}"), mark_at(2));
    assert_eq!(scene.sink.samples_of("a{job=\"j\"}"), []);
    scene.take(&Fetched::Failed { is_too_long: false }).expect("told");
    assert_eq!(scene.sink.samples_of("a{job=\"j\"}"), mark_at(3));
    assert_eq!(scene.sink.value_of("up{job=\"j\"}"), Some(0.0));
    // A body that breaks off is a scrape that failed: nothing is marked twice, and nothing of it is taken.
    let broken = &both[..both.len() - 3];
    let error = scene.scrape(broken, Format::Protobuf).expect_err("it breaks off");
    assert!(
        error.starts_with("protobuf: length beyond the end at byte"),
        "{error}"
    );
    scene.scrape(&both, Format::Protobuf).expect("readable");
    assert_eq!(scene.sink.samples_of("a{job=\"j\"}"), mark_at(3));
    let times = |series: &str| {
        scene
            .histograms(series)
            .iter()
            .map(|(at, _)| *at)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (times("a{job=\"j\"}"), times("b{job=\"j\"}")),
        (vec![1_000, 2_000, 5_000], vec![1_000, 5_000])
    );
    scene
        .road
        .end(Timestamp::from_millis(6_000), &scene.sink)
        .expect("in memory");
    assert_eq!(scene.sink.value_of("a{job=\"j\"}"), None);
    assert_eq!(scene.sink.samples_of("a{job=\"j\"}").len(), 2);
}

#[test]
fn a_histogram_whose_sum_is_a_mark_ends_its_series() {
    let ended = Message::default()
        .double(2, f64::from_bits(STALE_NAN_BITS))
        .double(6, 1.0);
    let told = |content: &Message| body(&[family("h", HISTOGRAM, &[metric(&[], 7, content)])]);
    let mut scene = Scene::new(NATIVE);
    for content in [&ended, &whole_message(), &ended] {
        scene.scrape(&told(content), Format::Protobuf).expect("readable");
    }
    let marks: Vec<_> = scene
        .sink
        .samples_of("h{job=\"j\"}")
        .into_iter()
        .map(|(at, value)| (at.millis(), value))
        .collect();
    assert_eq!(marks, [(1_000, None), (3_000, None)]);
    assert_eq!(scene.histograms("h{job=\"j\"}").len(), 1);
}

#[test]
fn histograms_pass_relabelling_and_limits_and_are_named_anew() {
    let one = |name: &str| family(name, HISTOGRAM, &[metric(&[("l", "x")], 7, &whole_message())]);
    let families = body(&[one("a"), one("b")]);
    let relabel = "[{source_labels: [__name__], regex: b, action: drop}, {target_label: m, replacement: y}]";
    let mut relabelling = rules(NATIVE);
    relabelling.metric_relabel = parse_yaml::<Vec<_>>(relabel).expect("rules").into();
    let mut scene = Scene::with(relabelling);
    let report = scene.scrape(&families, Format::Protobuf).expect("readable");
    assert_eq!((report.scraped, report.kept), (2, 1));
    scene.sink.forget_names();
    scene.scrape(&families, Format::Protobuf).expect("readable");
    assert_eq!(scene.histograms("a{job=\"j\", l=\"x\", m=\"y\"}").len(), 2);

    let mut limiting = rules(NATIVE);
    limiting.sample_limit = 1;
    let error = Scene::with(limiting)
        .scrape(&families, Format::Protobuf)
        .expect_err("two are too many");
    assert_eq!(error, "sample_limit exceeded (samples: 2, limit: 1)");
}

#[test]
fn a_histogram_that_cannot_be_fails_the_scrape_as_in_prometheus() {
    let wrong = Message::default()
        .number(1, 7)
        .spans(12, &[(0, 1)])
        .zigzags(13, &[3]);
    let families = body(&[
        family("good", GAUGE, &[metric(&[], 2, &number(1.0))]),
        family("bad", HISTOGRAM, &[metric(&[], 7, &wrong)]),
    ]);
    let mut scene = Scene::new(NATIVE);
    let error = scene
        .scrape(&families, Format::Protobuf)
        .expect_err("3 are not 7");
    assert_eq!(
        error,
        "native histogram of bad: its buckets count 3, and it counts 7"
    );
    assert_eq!(scene.numbers(), BTreeMap::new());
}

#[test]
fn few_bytes_of_protobuf_cannot_fill_the_memory() {
    let long = "x".repeat(20_000);
    let many: Vec<Message> = vec![Message::default(); 100_000];
    let families = body(&[family(&long, COUNTER, &many)]);
    let error = Scene::new(NATIVE)
        .scrape(&families, Format::Protobuf)
        .expect_err("two gigabytes of text");
    assert!(
        error.starts_with("the bytes of this message are more than"),
        "{error}"
    );
    let bare = Message::default().bytes(7, &Message::default().double(6, 1.0).0);
    let families = body(&[family(&long, HISTOGRAM, &vec![bare; 20_000])]);
    let error = Scene::new(NATIVE)
        .scrape(&families, Format::Protobuf)
        .expect_err("four hundred megabytes of names");
    assert!(
        error.starts_with("the bytes of this message are more than"),
        "{error}"
    );
    let wide = Message::default()
        .number(1, 0)
        .zigzag(5, 8)
        .spans(12, &[(0, 9_000)])
        .zigzags(13, &[0; 9_000]);
    let families = body(&[family("h", HISTOGRAM, &vec![metric(&[], 7, &wide); 2_000])]);
    let error = Scene::new(NATIVE)
        .scrape(&families, Format::Protobuf)
        .expect_err("eighteen million buckets");
    assert!(
        error.starts_with("the numbers of native histograms of this message are more than"),
        "{error}"
    );
}

#[test]
fn classic_histograms_become_native_ones_with_their_bounds() {
    let converting = HistogramRules {
        converts_classic: true,
        ..HistogramRules::default()
    };
    let text = "# TYPE lag histogram\nlag_bucket{l=\"x\",le=\"0.25\"} 2\nlag_bucket{l=\"x\",le=\"1\"} 2\n\
        lag_bucket{l=\"x\",le=\"10\"} 2\nlag_bucket{l=\"x\",le=\"100\"} 2\nlag_bucket{l=\"x\",le=\"+Inf\"} 9\n\
        lag_sum{l=\"x\"} 4.5\nlag_count{l=\"x\"} 9\n\
        lag_bucket{l=\"y\",le=\"1\"} 0.5\nlag_sum{l=\"y\"} 3\nlag_count{l=\"y\"} 2\nlag_other 5\n\
        # TYPE wrong histogram\nwrong_bucket{le=\"1\"} 3\nwrong_bucket{le=\"+Inf\"} 2\nwrong_count 2\n\
        # TYPE n gauge\nn_count 1\n";
    // Bounds 0.25, 1, 10, 100 and infinity count 2, 0, 0, 0 and 7 for themselves.
    let x = Histogram {
        schema: CUSTOM_BOUNDS_SCHEMA,
        count: 9.0,
        sum: 4.5,
        positive: buckets(&[(0, 1), (3, 1)], &[2.0, 7.0]),
        custom_bounds: Arc::from([0.25, 1.0, 10.0, 100.0]),
        ..Histogram::default()
    };
    let y = Histogram {
        schema: CUSTOM_BOUNDS_SCHEMA,
        count: 2.0,
        sum: 3.0,
        positive: buckets(&[(0, 2)], &[0.5, 1.5]),
        custom_bounds: Arc::from([1.0]),
        ..Histogram::default()
    };
    let rest = [
        ("lag_other{job=\"j\"}", 5.0),
        ("wrong_bucket{job=\"j\", le=\"1.0\"}", 3.0),
        ("wrong_bucket{job=\"j\", le=\"+Inf\"}", 2.0),
        ("wrong_count{job=\"j\"}", 2.0),
        ("n_count{job=\"j\"}", 1.0),
    ];
    let mut scene = Scene::new(converting);
    for _ in 0..2 {
        scene
            .scrape(text.as_bytes(), Format::Prometheus)
            .expect("readable");
    }
    assert_eq!(
        scene.histograms("lag{job=\"j\", l=\"x\"}"),
        [(1_000, x.clone()), (2_000, x.clone())]
    );
    assert_eq!(
        scene.histograms("lag{job=\"j\", l=\"y\"}"),
        [(1_000, y.clone()), (2_000, y)]
    );
    assert_eq!(scene.numbers(), some(&rest));

    let mut keeping = Scene::new(HistogramRules {
        keeps_classic: true,
        ..converting
    });
    keeping
        .scrape(text.as_bytes(), Format::Prometheus)
        .expect("readable");
    assert_eq!(keeping.histograms("lag{job=\"j\", l=\"x\"}"), [(1_000, x)]);
    assert_eq!(keeping.numbers().len(), rest.len() + 10);

    // In protobuf too; but what is native already is not converted.
    let both = classic_buckets(whole_message(), &[(1.0, 11)]);
    let classic = classic_buckets(Message::default().number(1, 2).double(2, 0.5), &[(1.0, 2)]);
    let families = body(&[
        family("both", HISTOGRAM, &[metric(&[], 7, &both)]),
        family("classic", HISTOGRAM, &[metric(&[], 7, &classic)]),
    ]);
    let mut scene = Scene::new(HistogramRules {
        takes_native: true,
        ..converting
    });
    scene.scrape(&families, Format::Protobuf).expect("readable");
    assert_eq!(scene.histograms("both{job=\"j\"}"), [(1_000, whole())]);
    let made = Histogram {
        schema: CUSTOM_BOUNDS_SCHEMA,
        count: 2.0,
        sum: 0.5,
        positive: buckets(&[(0, 1)], &[2.0]),
        custom_bounds: Arc::from([1.0]),
        ..Histogram::default()
    };
    assert_eq!(scene.histograms("classic{job=\"j\"}"), [(1_000, made)]);
    assert_eq!(scene.numbers(), BTreeMap::new());
}

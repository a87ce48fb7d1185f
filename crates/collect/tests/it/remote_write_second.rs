//! Remote write 2.0, written by hand: Debian has no sender of it.

use std::sync::Arc;

use marketprism_collect::remote_write::{Limits, Outcome, Version};
use marketprism_collect::{CollectMetrics, MetadataStore, RemoteWriteReceiver};
use marketprism_model::{BucketSpan, Buckets, Histogram, Timestamp};
use marketprism_testkit::MemorySink;

use crate::message::Message;
use crate::remote_write::{compress, receiver};

/// Numbers of any size, packed.
fn packed(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    numbers
        .iter()
        .for_each(|number| Message::varint(&mut bytes, *number));
    bytes
}

fn request(symbols: &[&str], series: &[Message]) -> Vec<u8> {
    let symbols = symbols.iter().fold(Message::default(), |request, symbol| {
        request.bytes(4, symbol.as_bytes())
    });
    compress(
        &series
            .iter()
            .fold(symbols, |request, series| request.bytes(5, &series.0))
            .0,
    )
}

fn sample(at: i64, value: f64) -> Vec<u8> {
    Message::default().double(1, value).number(2, at).0
}

const SYMBOLS: [&str; 10] = [
    "",
    "__name__",
    "lag_seconds_count",
    "job",
    "j",
    "hits_total",
    "Hits.",
    "seconds",
    "lag_seconds",
    "x",
];

#[test]
fn the_second_version_gives_the_same_series_as_the_first() {
    let (sink, metadata) = (MemorySink::new(), MetadataStore::default());
    let receiver = RemoteWriteReceiver::new(Limits::default(), CollectMetrics::default(), metadata.clone());
    let told = |kind: i64, help: i64, unit: i64| {
        Message::default()
            .number(1, kind)
            .number(3, help)
            .number(4, unit)
            .0
    };
    let histogram = Message::default()
        .number(1, 3)
        .double(3, 1.5)
        .zigzag(4, 2)
        .spans(11, &[(-1, 2)])
        .zigzags(12, &[1, 1])
        .number(15, 2_000);
    let hits = Message::default()
        .bytes(1, &packed(&[1, 5, 3, 4]))
        .bytes(2, &sample(1_000, 7.0))
        .bytes(2, &sample(2_000, 8.0))
        .bytes(4, b"an exemplar")
        .bytes(5, &told(1, 6, 0))
        .number(6, 500);
    let count = Message::default()
        .bytes(1, &packed(&[1, 2]))
        .bytes(2, &sample(1_000, 3.0))
        .bytes(5, &told(3, 0, 7));
    // References one by one, as a plain encoder writes them.
    let native = [1, 8].iter().fold(Message::default(), |series, reference| {
        series.number(1, *reference)
    });
    let body = request(&SYMBOLS, &[hits, count, native.bytes(3, &histogram.0)]);
    let push = || {
        receiver
            .handle_version(Version::Second, &body, &sink)
            .expect("valid")
    };
    let expected = Outcome {
        accepted: 4,
        accepted_histograms: 1,
        ..Outcome::default()
    };
    assert_eq!(push(), expected);
    let at = Timestamp::from_millis;
    assert_eq!(
        sink.samples_of("hits_total{job=\"j\"}"),
        [(at(1_000), Some(7.0)), (at(2_000), Some(8.0))]
    );
    assert_eq!(sink.value_of("lag_seconds_count"), Some(3.0));
    let expected = Histogram {
        schema: 2,
        count: 3.0,
        sum: 1.5,
        positive: Buckets {
            spans: vec![BucketSpan {
                offset: -1,
                length: 2,
            }],
            counts: vec![1.0, 2.0],
        },
        ..Histogram::default()
    };
    assert_eq!(
        sink.histograms_of("lag_seconds"),
        [(at(2_000), Arc::new(expected))]
    );
    let known = metadata.pushed();
    let known: Vec<_> = known
        .iter()
        .map(|f| {
            (
                f.family.as_str(),
                f.kind.as_str(),
                f.help.as_str(),
                f.unit.as_str(),
            )
        })
        .collect();
    assert_eq!(
        known,
        [
            ("hits_total", "counter", "Hits.", ""),
            ("lag_seconds", "histogram", "", "seconds")
        ]
    );
    // Both versions share the memory of names.
    let asked = sink.resolved();
    assert_eq!(push().accepted, 4);
    let first = crate::remote_write::series(&[("__name__", "hits_total"), ("job", "j")], &[(3_000, 9.0)]);
    receiver
        .handle(&crate::remote_write::request(&[first]), &sink)
        .expect("valid");
    assert_eq!(sink.resolved(), asked);
}

#[test]
fn bad_requests_of_the_second_version_say_what_is_wrong() {
    let sink = MemorySink::new();
    let limits = Limits {
        body_bytes_max: 2_000,
        labels_max: 3,
        label_bytes_max: 400,
        series_max: 20,
        samples_max: 12,
    };
    let limited = RemoteWriteReceiver::new(limits, CollectMetrics::default(), MetadataStore::default());
    let check = |body: &[u8], words: &str| {
        let error = limited
            .handle_version(Version::Second, body, &sink)
            .expect_err(words);
        assert_eq!(error.status(), 400);
        assert!(error.to_string().contains(words), "{error}");
    };
    let named = |references: &[u64]| {
        Message::default()
            .bytes(1, &packed(references))
            .bytes(2, &sample(1, 1.0))
    };
    check(&request(&["x"], &[]), "the first symbol is not empty");
    check(&request(&SYMBOLS, &[named(&[1, 10])]), "reference to no symbol");
    check(
        &request(&SYMBOLS, &[named(&[1, u64::MAX])]),
        "reference to no symbol",
    );
    check(
        &request(&SYMBOLS, &[named(&[1, 5, 3])]),
        "label name without a value",
    );
    check(
        &request(&SYMBOLS, &[named(&[1, 5, 3, 4, 3, 4, 3, 4])]),
        "more than 3 labels in a series",
    );
    check(&request(&[""; 13], &[]), "more than 12 symbols");
    check(
        &request(&SYMBOLS, &vec![Message::default(); 21]),
        "more than 20 series",
    );
    check(
        &request(&SYMBOLS, &[named(&[1, 5]).number(2, 1)]),
        "field of a series of wrong type",
    );
    // Few references to long texts.
    let long = "x".repeat(300);
    check(
        &request(&["", "__name__", &long], &vec![named(&[1, 2]); 10]),
        "bytes after decompression, more than the limit of 2000",
    );
    let longer = "x".repeat(500);
    check(
        &request(&["", &longer], &[named(&[1, 1])]),
        "label name or value of 1006 bytes",
    );
    assert!(sink.newest().is_empty(), "nothing of a bad request is taken");

    // What cannot name a series is refused, and the rest taken.
    let body = request(
        &SYMBOLS,
        &[named(&[3, 4]), named(&[1, 5]), named(&[1, 5, 3, 4, 3, 4])],
    );
    let outcome = receiver()
        .handle_version(Version::Second, &body, &sink)
        .expect("readable");
    assert_eq!(
        (outcome.accepted, outcome.bad_labels, outcome.status()),
        (1, 2, 400)
    );
    // The first version's message is none of the second: it holds nothing, and the sender is told so.
    let first =
        crate::remote_write::request(&[crate::remote_write::series(&[("__name__", "a")], &[(1, 1.0)])]);
    let outcome = receiver()
        .handle_version(Version::Second, &first, &sink)
        .expect("readable");
    assert_eq!((outcome.accepted, outcome.status()), (0, 204));
}

#[test]
fn the_media_type_says_which_version_it_is() {
    let of = Version::of_content_type;
    assert_eq!(of("application/x-protobuf"), Some(Version::First));
    assert_eq!(
        of("application/x-protobuf;proto=prometheus.WriteRequest"),
        Some(Version::First)
    );
    assert_eq!(
        of("application/x-protobuf; Proto=\"io.prometheus.write.v2.Request\""),
        Some(Version::Second)
    );
    assert_eq!(
        of("application/x-protobuf;charset=x;proto=io.prometheus.write.v2.Request"),
        Some(Version::Second)
    );
    assert_eq!(of("application/x-protobuf;proto=other"), None);
}

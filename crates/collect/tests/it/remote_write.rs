//! Remote write from a real Prometheus, and from requests written by hand.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use marketprism_collect::remote_write::{Limits, Outcome, RemoteWriteError};
use marketprism_collect::{CollectMetrics, MetadataStore, RemoteWriteReceiver};
use marketprism_model::Timestamp;
use marketprism_testkit::{HttpServer, MemorySink, wait_for_async};
use parking_lot::Mutex;

use crate::message::Message;
use crate::peers::Prometheus;

const PATIENCE: Duration = Duration::from_secs(60);

pub fn receiver() -> RemoteWriteReceiver {
    RemoteWriteReceiver::new(
        Limits::default(),
        CollectMetrics::default(),
        MetadataStore::default(),
    )
}

pub fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Message {
    let mut message = Message::default();
    for (name, value) in labels {
        message = message.bytes(
            1,
            &Message::default()
                .bytes(1, name.as_bytes())
                .bytes(2, value.as_bytes())
                .0,
        );
    }
    for (at, value) in samples {
        message = message.bytes(2, &Message::default().double(1, *value).number(2, *at).0);
    }
    message
}

pub fn request(series: &[Message]) -> Vec<u8> {
    let message = series
        .iter()
        .fold(Message::default(), |request, series| request.bytes(1, &series.0));
    compress(&message.0)
}

pub fn compress(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).expect("short")
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

#[test]
fn samples_reach_the_store_synced_and_a_steady_sender_asks_for_no_name() {
    let (receiver, sink) = (receiver(), MemorySink::new());
    let push = |time: i64| {
        let body = request(&[
            series(&[("__name__", "a"), ("x", "1")], &[(time, 1.0), (time + 1, 2.0)]),
            series(
                &[("x", "2"), ("__name__", "b"), ("empty", "")],
                &[(time, f64::INFINITY)],
            ),
        ]);
        receiver.handle(&body, &sink).expect("valid")
    };
    let outcome = push(1000);
    assert_eq!(
        outcome,
        Outcome {
            accepted: 3,
            ..Outcome::default()
        }
    );
    assert_eq!((outcome.status(), outcome.message()), (204, String::new()));
    assert_eq!(
        sink.samples_of(r#"a{x="1"}"#),
        [(at(1000), Some(1.0)), (at(1001), Some(2.0))]
    );
    assert_eq!(sink.value_of(r#"b{x="2"}"#), Some(f64::INFINITY));
    assert_eq!(sink.appends(), (1, 1), "one append, on the disk");
    let asked = sink.resolved();
    push(2000);
    assert_eq!(sink.resolved(), asked);
}

#[test]
fn marks_of_ended_series_keep_their_bits() {
    let (receiver, sink) = (receiver(), MemorySink::new());
    let stale = f64::from_bits(marketprism_model::sample::STALE_NAN_BITS);
    let body = request(&[series(&[("__name__", "a")], &[(1, 5.0), (2, stale)])]);
    receiver.handle(&body, &sink).expect("valid");
    assert_eq!(sink.samples_of("a"), [(at(1), Some(5.0)), (at(2), None)]);
}

#[test]
fn what_can_be_taken_is_taken_and_the_rest_is_told() {
    let (receiver, sink) = (receiver(), MemorySink::new());
    // A histogram of nothing is one; a bucket too many is none.
    let histogram = |buckets: i64| Message::default().number(12, buckets);
    let histogram = series(&[("__name__", "h")], &[])
        .bytes(4, &histogram(2).number(15, 1).0)
        .bytes(4, &Message::default().number(15, 1).0);
    let body = request(&[
        series(&[("__name__", "a")], &[(1, 1.0)]),
        series(&[("x", "no name")], &[(1, 1.0)]),
        series(&[("__name__", "b"), ("x", "1"), ("x", "2")], &[(1, 1.0)]),
        series(&[("__name__", "c"), ("", "1")], &[(1, 1.0)]),
        histogram,
    ]);
    let outcome = receiver.handle(&body, &sink).expect("readable");
    assert_eq!(
        outcome,
        Outcome {
            accepted: 2,
            accepted_histograms: 1,
            bad_labels: 3,
            bad_histograms: 1,
            bad_histogram: Some("positive buckets: spans describe 0 buckets, there are 1".to_owned()),
            ..Outcome::default()
        }
    );
    assert_eq!(outcome.status(), 400);
    assert_eq!(
        outcome.message(),
        "2 samples taken; refused: 3 with invalid labels, 1 native histograms that cannot be \
         (the first: positive buckets: spans describe 0 buckets, there are 1)"
    );
    let again = request(&[series(&[("__name__", "a")], &[(1, 2.0)])]);
    let outcome = receiver.handle(&again, &sink).expect("readable");
    assert_eq!(
        (outcome.status(), outcome.conflicting, outcome.accepted),
        (400, 1, 0)
    );
}

#[test]
fn a_store_that_refuses_or_is_full_is_told_apart() {
    let (receiver, sink) = (receiver(), MemorySink::new());
    let one = |name: &str, time| request(&[series(&[("__name__", name)], &[(time, 1.0)])]);
    receiver.handle(&one("a", 1), &sink).expect("valid");
    sink.refuse_appends(true);
    let error = receiver
        .handle(&one("a", 2), &sink)
        .expect_err("the disk is full");
    assert_eq!(error.status(), 503);
    assert!(error.to_string().contains("no space left on device"), "{error}");
    sink.refuse_appends(false);
    sink.limit_series(Some(1));
    let both = request(&[
        series(&[("__name__", "a")], &[(3, 1.0)]),
        series(&[("__name__", "b")], &[(3, 1.0)]),
    ]);
    let outcome = receiver.handle(&both, &sink).expect("readable");
    assert_eq!(
        (outcome.status(), outcome.accepted, outcome.over_series_limit),
        (400, 1, 1)
    );
}

#[test]
fn a_store_that_forgot_names_is_told_them_anew() {
    let (receiver, sink) = (receiver(), MemorySink::new());
    let push = |time| {
        let body = request(&[series(&[("__name__", "a")], &[(time, 1.0), (time + 1, 2.0)])]);
        receiver.handle(&body, &sink).expect("valid")
    };
    push(10);
    sink.forget_names();
    assert_eq!(push(20).accepted, 2);
    let asked = sink.resolved();
    assert_eq!(push(30).accepted, 2);
    assert_eq!((sink.samples_of("a").len(), sink.resolved()), (6, asked));
}

#[test]
fn bad_requests_say_what_is_wrong() {
    let sink = MemorySink::new();
    let limits = Limits {
        body_bytes_max: 1000,
        series_max: 2,
        samples_max: 3,
        labels_max: 2,
        label_bytes_max: 20,
    };
    let receiver = RemoteWriteReceiver::new(limits, CollectMetrics::default(), MetadataStore::default());
    let check = |body: &[u8], words: &str| {
        let error = receiver.handle(body, &sink).expect_err(words);
        assert!(matches!(error, RemoteWriteError::Bad(_)) && error.status() == 400);
        assert!(error.to_string().contains(words), "{error}");
    };
    let named = |samples| series(&[("__name__", "a")], samples);
    check(b"not snappy at all", "snappy");
    check(
        &compress(&[0; 1001]),
        "1001 bytes after decompression, more than the limit of 1000",
    );
    check(&compress(&[0x0a, 0x05, 0x01]), "length beyond the end at byte 2");
    check(
        &compress(&[0x0a, 0x01, 0xff]),
        "breaks off within a number at byte 3",
    );
    check(&compress(&[0x0b]), "unknown wire type");
    check(&compress(&[0x02, 0x00]), "field number 0");
    check(
        &request(&[named(&[]), named(&[]), named(&[])]),
        "more than 2 series",
    );
    check(
        &request(&[named(&[(1, 1.0), (2, 1.0)]), named(&[(3, 1.0), (4, 1.0)])]),
        "more than 3 samples",
    );
    check(
        &request(&[series(&[("a", "1"), ("b", "1"), ("c", "1")], &[])]),
        "more than 2 labels",
    );
    check(
        &request(&[series(&[("__name__", &"x".repeat(30))], &[])]),
        "label name or value of 42 bytes",
    );
    let split = series(&[("__name__", "a")], &[(1, 1.0)])
        .bytes(1, &Message::default().bytes(1, b"x").bytes(2, b"y").0);
    check(&request(&[split]), "labels do not stand together");
    check(
        &request(&[named(&[]).bytes(2, &Message::default().number(1, 5).0)]),
        "sample field of wrong type",
    );
    assert!(sink.newest().is_empty(), "nothing of a bad request is taken");
}

#[test]
fn unknown_fields_are_passed_over_and_metadata_is_kept() {
    let (sink, metadata) = (MemorySink::new(), MetadataStore::default());
    let receiver = RemoteWriteReceiver::new(Limits::default(), CollectMetrics::default(), metadata.clone());
    let told = Message::default()
        .number(1, 3)
        .bytes(2, b"fam")
        .bytes(4, b"some help")
        .bytes(5, b"seconds")
        .number(9, 1);
    let one = series(&[("__name__", "a")], &[(1, 1.0)])
        .bytes(3, b"exemplar")
        .double(99, 1.0)
        .number(100, 7);
    let message = Message::default()
        .bytes(1, &one.0)
        .bytes(3, &told.0)
        .bytes(77, b"?");
    assert_eq!(
        receiver
            .handle(&compress(&message.0), &sink)
            .expect("valid")
            .accepted,
        1
    );
    let known = metadata.pushed();
    let family = &known[0];
    assert_eq!(known.len(), 1);
    assert_eq!(
        (family.family.as_str(), family.kind.as_str()),
        ("fam", "histogram")
    );
    assert_eq!(
        (family.help.as_str(), family.unit.as_str()),
        ("some help", "seconds")
    );
}

struct Receiving {
    receiver: RemoteWriteReceiver,
    sink: MemorySink,
    headers: Mutex<Option<HeaderMap>>,
    outcomes: Mutex<Vec<Outcome>>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_pushes_everything_it_scrapes() {
    async fn write(
        State(state): State<Arc<Receiving>>,
        headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, String) {
        *state.headers.lock() = Some(headers);
        let (status, message) = match state.receiver.handle(&body, &state.sink) {
            Ok(outcome) => {
                let answer = (outcome.status(), outcome.message());
                state.outcomes.lock().push(outcome);
                answer
            }
            Err(error) => (error.status(), error.to_string()),
        };
        (StatusCode::from_u16(status).expect("a status"), message)
    }
    let metadata = MetadataStore::default();
    let state = Arc::new(Receiving {
        receiver: RemoteWriteReceiver::new(Limits::default(), CollectMetrics::default(), metadata.clone()),
        sink: MemorySink::new(),
        headers: Mutex::new(None),
        outcomes: Mutex::new(Vec::new()),
    });
    let page = "# HELP pushed_total Pushed on.\n# TYPE pushed_total counter\npushed_total{k=\"a\\\"b\",z=\"日本\"} 7\n\
                # TYPE nan gauge\nnan NaN\ninf -Inf\n";
    let router = Router::new()
        .route("/write", post(write))
        .route("/metrics", get(move || async move { page }))
        .with_state(Arc::clone(&state));
    let server = HttpServer::start(router);
    let prometheus = Prometheus::start(&format!(
        "global: {{scrape_interval: 1s, external_labels: {{replica: r1}}}}
scrape_configs: [{{job_name: page, static_configs: [{{targets: ['{}']}}]}}]
remote_write:
  - url: '{}'
    queue_config: {{batch_send_deadline: 100ms}}
    metadata_config: {{send_interval: 1s}}
",
        server.address(),
        server.url("/write"),
    ));
    let address = server.address();
    let pushed =
        format!(r#"pushed_total{{instance="{address}", job="page", k="a\"b", replica="r1", z="日本"}}"#);
    let up = format!(r#"up{{instance="{address}", job="page", replica="r1"}}"#);
    wait_for_async(PATIENCE, || {
        state.sink.samples_of(&up).len() >= 3 && !metadata.pushed().is_empty()
    })
    .await;
    assert_eq!(state.sink.value_of(&pushed), Some(7.0));
    let plain = |name: &str| format!(r#"{name}{{instance="{address}", job="page", replica="r1"}}"#);
    assert_eq!(state.sink.value_of(&plain("inf")), Some(f64::NEG_INFINITY));
    assert!(
        state
            .sink
            .value_of(&plain("nan"))
            .expect("a value, no mark of an end")
            .is_nan()
    );
    assert!(
        state
            .outcomes
            .lock()
            .iter()
            .all(|outcome| outcome.status() == 204)
    );
    let known = metadata.pushed();
    let family = known
        .iter()
        .find(|family| family.family.starts_with("pushed"))
        .expect("told");
    assert_eq!(
        (family.kind.as_str(), family.help.as_str()),
        ("counter", "Pushed on.")
    );
    let headers = state.headers.lock().clone().expect("at least one request");
    assert_eq!(headers["content-encoding"], "snappy");
    assert_eq!(headers["x-prometheus-remote-write-version"], "0.1.0");

    // Every sample that Prometheus has, it has pushed: the newest values of both sides agree.
    let theirs = prometheus
        .query("{job=\"page\", __name__!~\"scrape_duration_seconds|scrape_series_added\"}")
        .await;
    assert!(theirs.len() >= 6, "{theirs:?}");
    for (labels, value) in theirs {
        let series = marketprism_model::Labels::from_pairs(labels)
            .with("replica", "r1")
            .to_string();
        let ours = state
            .sink
            .value_of(&series)
            .unwrap_or_else(|| panic!("{series} was not pushed"));
        let expected: f64 = value.replace("+Inf", "inf").parse().expect("a number");
        assert!(
            ours == expected || (ours.is_nan() && expected.is_nan()),
            "{series}: {ours} and {expected}"
        );
    }
}

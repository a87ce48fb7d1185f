//! Native histograms by remote write: written by hand, and passed on by a real Prometheus.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use http::Method;
use marketprism_collect::remote_write::{Limits, Outcome};
use marketprism_collect::{CollectMetrics, MetadataStore, RemoteWriteReceiver};
use marketprism_model::histogram::CUSTOM_BOUNDS_SCHEMA;
use marketprism_model::sample::{AppendError, Appended, Durability, STALE_NAN_BITS};
use marketprism_model::{
    Clock, Histogram, Labels, RefHistogram, RefSample, ResetHint, SampleSink, SeriesRef, Timestamp,
};
use marketprism_net::{Egress, HttpClient, Request, Transport};
use marketprism_testkit::{HttpServer, MachineClock, MemorySink, wait_for_async};

use crate::families::buckets;
use crate::message::Message;
use crate::peers::Prometheus;
use crate::remote_write::{receiver, request, series};

const PATIENCE: Duration = Duration::from_secs(60);

/// A histogram of whole numbers: buckets −2, −1 and 3 above zero, 5 below it, two in the zero bucket.
fn whole_message(at: i64) -> Message {
    Message::default()
        .number(1, 2 + 1 + 4 + 2 + 7)
        .double(3, 18.4)
        .zigzag(4, 1)
        .double(5, 0.001)
        .number(6, 2)
        .spans(8, &[(5, 1)])
        .zigzags(9, &[7])
        .spans(11, &[(-2, 2), (3, 1)])
        .zigzags(12, &[1, 3, -2])
        .number(15, at)
}

/// The same by hand: differences 1, +3, −2 are counts 1, 4, 2.
fn whole() -> Histogram {
    Histogram {
        schema: 1,
        zero_threshold: 0.001,
        zero_count: 2.0,
        count: 16.0,
        sum: 18.4,
        positive: buckets(&[(-2, 2), (3, 1)], &[1.0, 4.0, 2.0]),
        negative: buckets(&[(5, 1)], &[7.0]),
        ..Histogram::default()
    }
}

fn float_message(at: i64) -> Message {
    Message::default()
        .double(2, 4.75)
        .double(3, -1.5)
        .zigzag(4, -4)
        .double(7, 0.25)
        .spans(11, &[(0, 2)])
        .doubles(13, &[1.5, 3.0])
        .number(14, 3)
        .number(15, at)
}

fn float() -> Histogram {
    Histogram {
        reset_hint: ResetHint::Gauge,
        schema: -4,
        zero_count: 0.25,
        count: 4.75,
        sum: -1.5,
        positive: buckets(&[(0, 2)], &[1.5, 3.0]),
        ..Histogram::default()
    }
}

fn custom_message(at: i64) -> Message {
    Message::default()
        .number(1, 6)
        .double(3, 2.0)
        .zigzag(4, -53)
        .spans(11, &[(0, 1), (1, 1)])
        .zigzags(12, &[1, 4])
        .number(14, 2)
        .number(15, at)
        .doubles(16, &[0.5, 2.5])
}

fn custom() -> Histogram {
    Histogram {
        reset_hint: ResetHint::NotReset,
        schema: CUSTOM_BOUNDS_SCHEMA,
        count: 6.0,
        sum: 2.0,
        positive: buckets(&[(0, 1), (1, 1)], &[1.0, 5.0]),
        custom_bounds: Arc::from([0.5, 2.5]),
        ..Histogram::default()
    }
}

fn of(name: &str, histograms: &[Message]) -> Message {
    histograms
        .iter()
        .fold(series(&[("__name__", name)], &[]), |series, histogram| {
            series.bytes(4, &histogram.0)
        })
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

#[test]
fn histograms_of_every_form_reach_the_store_as_they_were_meant() {
    let (receiver, sink) = (receiver(), MemorySink::new());
    // Not packed, as older encoders write repeated numbers.
    let unpacked = Message::default()
        .number(1, 3)
        .spans(11, &[(0, 2)])
        .zigzag(12, 1)
        .zigzag(12, 1)
        .number(15, 4);
    let body = request(&[
        of(
            "h",
            &[whole_message(1), float_message(2), custom_message(3), unpacked],
        ),
        series(&[("__name__", "n")], &[(1, 1.0)]),
    ]);
    let outcome = receiver.handle(&body, &sink).expect("valid");
    let expected = Outcome {
        accepted: 5,
        accepted_histograms: 4,
        ..Outcome::default()
    };
    assert_eq!(outcome, expected);
    let found = sink.histograms_of("h");
    let unpacked = Histogram {
        count: 3.0,
        positive: buckets(&[(0, 2)], &[1.0, 2.0]),
        ..Histogram::default()
    };
    let expected = [(1, whole()), (2, float()), (3, custom()), (4, unpacked)];
    let expected = expected.map(|(time, histogram)| (at(time), Arc::new(histogram)));
    assert_eq!(found, expected);
}

#[test]
fn the_mark_of_an_ended_series_of_histograms_is_a_number() {
    let (receiver, sink) = (receiver(), MemorySink::new());
    let mark = Message::default()
        .double(3, f64::from_bits(STALE_NAN_BITS))
        .number(15, 2);
    let outcome = receiver
        .handle(&request(&[of("h", &[whole_message(1), mark])]), &sink)
        .expect("valid");
    assert_eq!(
        (outcome.accepted, outcome.accepted_histograms, outcome.status()),
        (2, 2, 204)
    );
    assert_eq!(sink.samples_of("h"), [(at(2), None)]);
    assert_eq!(sink.histograms_of("h").len(), 1);
}

/// Notes in what order samples come.
#[derive(Default)]
struct Order(Mutex<Vec<i64>>);

impl Order {
    fn take(&self, times: impl ExactSizeIterator<Item = Timestamp>) -> Result<Appended, AppendError> {
        let accepted = times.len();
        let mut known = self.0.lock().expect("no panic before");
        known.extend(times.map(Timestamp::millis));
        Ok(Appended {
            accepted,
            ..Appended::default()
        })
    }
}

impl SampleSink for Order {
    fn resolve(&self, _: &Labels) -> Result<SeriesRef, AppendError> {
        Ok(SeriesRef(1))
    }

    fn append(&self, samples: &[RefSample], _: Durability) -> Result<Appended, AppendError> {
        self.take(samples.iter().map(|sample| sample.timestamp))
    }

    fn append_histograms(&self, samples: &[RefHistogram], _: Durability) -> Result<Appended, AppendError> {
        self.take(samples.iter().map(|sample| sample.timestamp))
    }
}

/// Out of order, a store without a window for it takes neither the histograms nor the marks.
#[test]
fn histograms_and_marks_come_in_the_order_of_the_series() {
    let mark = |time| {
        Message::default()
            .double(3, f64::from_bits(STALE_NAN_BITS))
            .number(15, time)
    };
    let sent = [
        whole_message(1),
        whole_message(2),
        mark(3),
        whole_message(4),
        mark(5),
        whole_message(6),
    ];
    let order = Order::default();
    let outcome = receiver()
        .handle(&request(&[of("h", &sent)]), &order)
        .expect("valid");
    assert_eq!((outcome.accepted, outcome.accepted_histograms), (6, 6));
    let order = order.0.into_inner().expect("no panic before");
    assert_eq!(order, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_histogram_that_cannot_be_is_told_and_takes_nothing_else_with_it() {
    let receiver = receiver();
    let check = |bad: Message, words: &str| {
        let sink = MemorySink::new();
        let body = request(&[of("h", &[whole_message(1), bad.number(15, 2), float_message(3)])]);
        let outcome = receiver.handle(&body, &sink).expect("readable");
        assert_eq!(
            (outcome.accepted, outcome.bad_histograms, outcome.status()),
            (2, 1, 400),
            "{words}"
        );
        assert!(outcome.message().contains(words), "{}", outcome.message());
        assert_eq!(sink.histograms_of("h").len(), 2);
    };
    let message = Message::default;
    check(
        message().zigzag(4, 9),
        "histogram schema 9 is none of -4 to 8 and -53",
    );
    check(
        message().number(1, 1).spans(11, &[(0, 2)]).zigzags(12, &[1]),
        "spans describe 2 buckets, there are 1",
    );
    check(
        message().number(1, 1).spans(11, &[(0, 1)]).zigzags(12, &[-1]),
        "a bucket counts -1",
    );
    check(
        message().number(1, 7).spans(11, &[(0, 1)]).zigzags(12, &[3]),
        "its buckets count 3, and it counts 7",
    );
    check(
        message().double(2, -1.0),
        "the count is -1; it cannot be negative",
    );
    check(
        message().spans(11, &[(0, 2)]).zigzags(12, &[i64::MAX, i64::MAX]),
        "a bucket's count is out of range",
    );
    check(message().zigzags(12, &vec![0; 20_000]), "more than 10000 buckets");
    check(
        message().zigzag(4, -53).doubles(16, &vec![0.0; 20_000]),
        "custom bounds: more than 10000",
    );
    check(
        message().zigzag(4, -53).doubles(16, &[2.0, 1.0]),
        "custom bounds: they must rise",
    );
    check(
        message()
            .spans(11, &[(i64::from(i32::MAX) + 9, 1)])
            .zigzags(12, &[0]),
        "outside of what the schema has",
    );
}

#[test]
fn a_count_may_be_more_than_the_buckets_only_where_observations_of_nan_are_missing() {
    let (receiver, sink) = (receiver(), MemorySink::new());
    let sent = |sum: f64| {
        Message::default()
            .number(1, 7)
            .double(3, sum)
            .spans(11, &[(0, 1)])
            .zigzags(12, &[3])
    };
    let body = request(&[of("h", &[sent(f64::NAN).number(15, 1), sent(2.0).number(15, 2)])]);
    let outcome = receiver.handle(&body, &sink).expect("readable");
    assert_eq!((outcome.accepted, outcome.bad_histograms), (1, 1));
}

#[test]
fn few_bytes_of_buckets_cannot_fill_the_memory() {
    let (sink, limits) = (
        MemorySink::new(),
        Limits {
            samples_max: 5_000,
            ..Limits::default()
        },
    );
    let receiver = RemoteWriteReceiver::new(limits, CollectMetrics::default(), MetadataStore::default());
    let wide = Message::default()
        .spans(11, &[(0, 1_000)])
        .zigzags(12, &[0; 1_000]);
    let body = request(&[of("h", &vec![wide; 5])]);
    let error = receiver
        .handle(&body, &sink)
        .expect_err("five thousand buckets and more");
    assert_eq!(
        error.to_string(),
        "bad remote write request: more than 5000 numbers in histograms"
    );
    let broken = request(&[of("h", &[Message::default().number(3, 1)])]);
    let error = receiver.handle(&broken, &sink).expect_err("a sum is a double");
    assert!(
        error.to_string().contains("histogram field of wrong type"),
        "{error}"
    );
}

#[test]
fn a_store_that_forgot_the_names_of_histograms_is_told_them_anew() {
    let (receiver, sink) = (receiver(), MemorySink::new());
    let push = |time| {
        receiver
            .handle(&request(&[of("h", &[whole_message(time)])]), &sink)
            .expect("valid")
    };
    push(1);
    sink.forget_names();
    assert_eq!(push(2).accepted, 1);
    assert_eq!(sink.histograms_of("h").len(), 2);
}

struct Receiving {
    receiver: RemoteWriteReceiver,
    sink: MemorySink,
}

async fn write(State(state): State<Arc<Receiving>>, body: Bytes) -> (StatusCode, String) {
    let (status, message) = match state.receiver.handle(&body, &state.sink) {
        Ok(outcome) => (outcome.status(), outcome.message()),
        Err(error) => (error.status(), error.to_string()),
    };
    (StatusCode::from_u16(status).expect("a status"), message)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_passes_on_the_histograms_that_it_was_given() {
    let state = Arc::new(Receiving {
        receiver: receiver(),
        sink: MemorySink::new(),
    });
    let server = HttpServer::start(
        Router::new()
            .route("/write", post(write))
            .with_state(Arc::clone(&state)),
    );
    let prometheus = Prometheus::start_with(
        &format!(
            "remote_write:
  - url: '{}'
    send_native_histograms: true
    queue_config: {{batch_send_deadline: 100ms}}
",
            server.url("/write")
        ),
        &[
            "--web.enable-remote-write-receiver",
            "--enable-feature=native-histograms",
        ],
    );
    // It passes on what is newer than its start, and takes what is not ahead of its clock.
    let clock = MachineClock::default();
    let mut pushed = 0i64;
    let push = async |pushed: i64| {
        let time = clock.now().millis();
        let body = request(&[
            of("whole", &[whole_message(time)]),
            of("float", &[float_message(time)]),
            series(&[("__name__", "number")], &[(time, pushed as f64)]),
        ]);
        let mut request = Request::new(Method::POST, format!("{}/api/v1/write", prometheus.url));
        request.body = body.into();
        request.headers.insert(
            "content-type",
            "application/x-protobuf".parse().expect("a header"),
        );
        request
            .headers
            .insert("content-encoding", "snappy".parse().expect("a header"));
        let answer = HttpClient::new(Egress::default())
            .send(request)
            .await
            .expect("it answers");
        // It is not ready until its own log is read.
        let is_early = answer.status == 503 && answer.body.starts_with(b"Service Unavailable");
        assert!(answer.status == 204 || is_early, "{:?}", answer.body);
    };
    let deadline = clock.monotonic() + PATIENCE;
    while state.sink.histograms_of("float").len() < 2 {
        assert!(clock.monotonic() < deadline, "nothing was passed on of {pushed}");
        pushed += 1;
        push(pushed).await;
        clock.sleep_until(clock.now() + Duration::from_millis(300)).await;
    }
    wait_for_async(PATIENCE, || state.sink.histograms_of("whole").len() >= 2).await;
    // Prometheus says of counters whether they were reset, for it has seen the ones before.
    for (name, expected) in [("whole", whole()), ("float", float())] {
        for (_, found) in state.sink.histograms_of(name) {
            let hint = found.reset_hint;
            assert!(name != "float" || hint == ResetHint::Gauge, "{hint:?}");
            let found = Histogram {
                reset_hint: expected.reset_hint,
                ..Histogram::clone(&found)
            };
            assert_eq!(found, expected, "{name}");
        }
    }
}

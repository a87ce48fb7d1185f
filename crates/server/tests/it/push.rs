//! Remote write: what is taken, and what a sender is told so that it retries or gives up.

use http::{Request, StatusCode};
use marketprism_server::Config;

use crate::reply::{Reply, get, send};
use crate::rig::{Rig, Rooms, START};

/// Writes a `prometheus.WriteRequest` of one series with one sample, compressed.
///
/// Source: `prometheus/prometheus/prompb/{remote,types}.proto`: WriteRequest.timeseries = 1, TimeSeries.labels
/// = 1 and .samples = 2, Label.name = 1 and .value = 2, Sample.value = 1 (double) and .timestamp = 2 (int64).
fn write_request(labels: &[(&str, &str)], millis: i64, value: f64) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let mut message = vec![number << 3 | 2];
        push_varint(&mut message, bytes.len() as u64);
        message.extend_from_slice(bytes);
        message
    };
    let mut series = Vec::new();
    for (name, value) in labels {
        let label = [field(1, name.as_bytes()), field(2, value.as_bytes())].concat();
        series.extend(field(1, &label));
    }
    let mut sample = vec![1 << 3 | 1];
    sample.extend(value.to_le_bytes());
    sample.push(2 << 3);
    push_varint(&mut sample, millis as u64);
    series.extend(field(2, &sample));
    snap::raw::Encoder::new()
        .compress_vec(&field(1, &series))
        .expect("it is short")
}

fn push_varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

async fn push(rig: &Rig, path: &str, body: Vec<u8>, headers: &[(&str, &str)]) -> Reply {
    let request = headers
        .iter()
        .fold(Request::post(path), |request, (name, value)| {
            request.header(*name, *value)
        });
    send(rig.address, request, body).await
}

const SNAPPY: [(&str, &str); 2] = [
    ("content-encoding", "snappy"),
    ("content-type", "application/x-protobuf"),
];

#[tokio::test]
async fn pushed_samples_are_there_when_the_answer_is() {
    let rig = Rig::start().await;
    for (path, name) in [("/api/v1/write", "a"), ("/prometheus/api/v1/write", "b")] {
        let body = write_request(&[("__name__", name), ("job", "pushed")], START.millis(), 42.5);
        let reply = push(&rig, path, body, &SNAPPY).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{:?}", reply.body);
        let answer = get(rig.address, &format!("/prometheus/api/v1/query?query={name}"))
            .await
            .json();
        assert_eq!(answer["data"]["result"][0]["value"][1], "42.5");
        assert_eq!(answer["data"]["result"][0]["metric"]["job"], "pushed");
    }
}

/// A sender of the second version takes a request for lost whose answer does not say what was written.
///
/// Source: `prometheus/prometheus/prompb/io/prometheus/write/v2/types.proto`: Request.symbols = 4 and .timeseries = 5,
/// TimeSeries.labels_refs = 1, .samples = 2 and .histograms = 3, Histogram.count_int = 1 and .timestamp = 15.
#[tokio::test]
async fn the_second_version_is_answered_with_what_was_written() {
    let rig = Rig::start().await;
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat();
    let symbols = ["", "__name__", "pushed", "native", "job"].map(|symbol| field(4, symbol.as_bytes()));
    let mut time = Vec::new();
    push_varint(&mut time, START.millis() as u64);
    let sample = [&[1 << 3 | 1][..], &7f64.to_le_bytes(), &[2 << 3], &time].concat();
    let histogram = [&[15 << 3][..], &time].concat();
    let series = |references: &[u8], content: Vec<u8>| field(5, &[field(1, references), content].concat());
    let (numbers, natives) = (
        series(&[1, 2], field(2, &sample)),
        series(&[1, 3], field(3, &histogram)),
    );
    let nameless = series(&[4, 2], field(2, &sample));
    let push = async |parts: &[&[u8]]| {
        let message = [symbols.concat(), parts.concat()].concat();
        let body = snap::raw::Encoder::new()
            .compress_vec(&message)
            .expect("it is short");
        let media_type = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        let headers = [("content-encoding", "snappy"), ("content-type", media_type)];
        let reply = push(&rig, "/api/v1/write", body, &headers).await;
        let written = ["samples", "histograms", "exemplars"];
        let written = written.map(|what| {
            reply
                .header(&format!("x-prometheus-remote-write-{what}-written"))
                .to_owned()
        });
        (reply.status.as_u16(), written)
    };
    let told = |counts: [&str; 3]| counts.map(str::to_owned);
    assert_eq!(push(&[&numbers, &natives]).await, (204, told(["1", "1", "0"])));
    assert_eq!(push(&[&nameless, &numbers]).await, (400, told(["1", "0", "0"])));
    let answer = get(rig.address, "/prometheus/api/v1/query?query=pushed")
        .await
        .json();
    assert_eq!(answer["data"]["result"][0]["value"][1], "7");
}

#[tokio::test]
async fn senders_are_told_to_retry_what_may_pass_and_to_drop_what_may_not() {
    let config = Config {
        push_bytes_max: 1 << 10,
        ..Config::default()
    };
    let rig = Rig::start_with(config, Rooms::new(START)).await;
    let good = || write_request(&[("__name__", "a")], START.millis(), 1.0);
    let check = async |body: Vec<u8>, headers: &[(&str, &str)], status: u16| {
        let reply = push(&rig, "/api/v1/write", body, headers).await;
        assert_eq!(reply.status.as_u16(), status, "{headers:?}: {:?}", reply.body);
        if status != 204 {
            assert_eq!(reply.header("content-type"), "application/problem+json");
            assert_eq!(!reply.header("retry-after").is_empty(), status == 503);
        }
    };
    check(good(), &[], 204).await;
    check(good(), &[("content-encoding", "gzip")], 415).await;
    check(good(), &[("content-type", "application/json")], 415).await;
    let unknown = "application/x-protobuf;proto=io.prometheus.write.v3.Request";
    check(good(), &[("content-type", unknown)], 415).await;
    let version_1 = "application/x-protobuf;proto=prometheus.WriteRequest";
    check(good(), &[("content-type", version_1)], 204).await;
    check(b"nonsense".to_vec(), &SNAPPY, 400).await;
    check(
        write_request(&[("job", "no name")], START.millis(), 1.0),
        &SNAPPY,
        400,
    )
    .await;
    check(
        write_request(&[("__name__", "a")], START.millis(), 2.0),
        &SNAPPY,
        400,
    )
    .await;
    check(vec![0; 2 << 10], &SNAPPY, 413).await;
    rig.rooms.store.shutdown().expect("memory has nothing to lose");
    check(
        write_request(&[("__name__", "a")], START.millis() + 1000, 1.0),
        &SNAPPY,
        503,
    )
    .await;
}

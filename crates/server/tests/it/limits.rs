//! What no client may do: send too much, wait too slowly, ask too much at once, break a handler.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use marketprism_model::series::{ReadError, SeriesVisitor};
use marketprism_model::{Labels, Matcher, Samples, Selection, SeriesSource, TimeRange};
use marketprism_promql::{Engine, EngineConfig};
use marketprism_server::Config;
use marketprism_testkit::wait_for_async;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::reply::{encoded, get, post_form, post_json, send};
use crate::rig::{Rig, Rooms, START, labels};

/// Generous: a loaded machine is slow, and the wait ends as soon as the answer is there.
const DEADLINE: Duration = Duration::from_secs(30);

/// A store with one series whose reading ends, for all a test can wait, only when the reader is told to stop.
#[derive(Default)]
struct EndlessSource {
    labels: Vec<Labels>,
    has_begun: Arc<AtomicBool>,
    is_stopped: Arc<AtomicBool>,
}

impl SeriesSource for EndlessSource {
    fn select(&self, _: &[Matcher], _: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        Ok(Arc::new(EndlessSource {
            labels: vec![Labels::from_pairs([("__name__", "endless")])],
            has_begun: Arc::clone(&self.has_begun),
            is_stopped: Arc::clone(&self.is_stopped),
        }))
    }

    fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        Ok(Vec::new())
    }
}

impl Selection for EndlessSource {
    fn id(&self) -> u64 {
        1
    }

    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(&self, _: Range<usize>, _: TimeRange, visit: &mut SeriesVisitor<'_>) -> Result<(), ReadError> {
        let nothing = Samples::numbers(&[], &[]);
        self.has_begun.store(true, Ordering::Relaxed);
        // Not quite endless, so that a server that does not stop it fails its test instead of hanging it.
        for _ in 0..300_000_000_u64 {
            if let Err(stop) = visit(0, nothing) {
                self.is_stopped.store(true, Ordering::Relaxed);
                return Err(stop);
            }
        }
        Ok(())
    }
}

async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(request).await.expect("the server reads");
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer));
    reading
        .await
        .expect("the server closes in time")
        .expect("the answer comes whole");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_and_never_a_page() {
    let rig = Rig::start().await;
    for path in [
        "/nope",
        "/api/v1/nope",
        "/prometheus/api/v1/nope",
        "/alertmanager/alertmanager/api/v2/status",
        "/api/v1/alerts/",
    ] {
        let reply = get(rig.address, path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(reply.header("content-type"), "application/problem+json", "{path}");
        let problem = reply.json();
        assert_eq!(problem["instance"], path);
        assert_eq!(problem["type"], "urn:marketprism:problem:not-found");
        assert_eq!(
            (&problem["status"], &problem["title"]),
            (&json!(404), &json!("Not found"))
        );
    }
    let reply = send(rig.address, Request::delete("/prometheus/api/v1/query"), "").await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(reply.header("allow"), "GET, HEAD, POST");
    assert_eq!(reply.json()["instance"], "/prometheus/api/v1/query");
    let reply = get(rig.address, "/-/reload").await;
    assert_eq!(
        (reply.status, reply.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, "POST")
    );
}

#[tokio::test]
async fn every_answer_carries_its_name_and_the_headers_that_protect_browsers() {
    let rig = Rig::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = Request::get("/").header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let reply = send(rig.address, request, "").await;
    assert_eq!(reply.header("x-request-id"), trace);
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    let policy = reply.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(reply.headers.get("access-control-allow-origin").is_none());
    let other = get(rig.address, "/nope").await;
    assert_eq!(other.header("x-request-id").len(), 32);
}

#[tokio::test]
async fn a_foreign_page_cannot_make_a_browser_act() {
    let rig = Rig::start().await;
    let check = async |name: &str, value: &str, status: u16| {
        let request = Request::post("/-/reload").header(name, value);
        assert_eq!(
            send(rig.address, request, "").await.status.as_u16(),
            status,
            "{name}: {value}"
        );
    };
    check("origin", "https://evil.example", 403).await;
    check("origin", "null", 403).await;
    check("origin", "", 403).await;
    check("origin", "http:", 403).await;
    check("origin", "http://\u{e9}", 403).await;
    check("sec-fetch-site", "\u{e9}", 403).await;
    check("sec-fetch-site", "cross-site", 403).await;
    check("sec-fetch-site", "same-origin", 200).await;
    check("origin", &format!("http://{}", rig.address), 200).await;
    let path = "/api/v1/alerts/0190163d-8694-739b-aea5-966c26f8ad91/acknowledge";
    let reply = post_form(rig.address, path, "{\"by\":\"x\"}").await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_panic_in_a_handler_or_on_a_worker_is_a_problem_and_the_server_lives_on() {
    let rooms = Rooms::new(START);
    let rig = Rig::bare(Config::default(), rooms).await;
    let mut parts = rig.rooms.parts();
    parts
        .stats
        .insert("storage", Arc::new(|| panic!("as a fault would")));
    rig.server.install_metrics(marketprism_server::MetricsText {
        open: Arc::new(|| panic!("as a fault would")),
        plain: Arc::new(|| panic!("as a fault would")),
    });
    rig.server.install(parts);
    for path in ["/metrics", "/api/v1/stats/storage"] {
        let reply = get(rig.address, path).await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert_eq!(reply.json()["type"], "urn:marketprism:problem:internal");
        assert!(
            !reply.text().contains("as a fault would"),
            "the inside stays inside"
        );
    }
    assert_eq!(get(rig.address, "/api/v1/alerts").await.status, StatusCode::OK);
}

#[tokio::test]
async fn bodies_and_heads_beyond_their_limits_are_refused() {
    let rig = Rig::start_with(
        Config {
            body_bytes_max: 1 << 10,
            ..Config::default()
        },
        Rooms::new(START),
    )
    .await;
    let long = format!("query={}", "x".repeat(2 << 10));
    let reply = post_form(rig.address, "/prometheus/api/v1/query", &long).await;
    assert_eq!(
        (reply.status, &reply.json()["errorType"]),
        (StatusCode::BAD_REQUEST, &json!("bad_data"))
    );
    let path = "/api/v1/alerts/0190163d-8694-739b-aea5-966c26f8ad91/resolve";
    let reply = post_json(rig.address, path, &json!({ "by": "x".repeat(2 << 10) })).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);

    let head = format!(
        "GET /health HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n",
        "x".repeat(80 << 10)
    );
    let answer = raw(rig.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer:.60}");
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_head_is_let_go() {
    let config = Config {
        header_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let rig = Rig::start_with(config, Rooms::new(START)).await;
    let answer = raw(rig.address, b"GET /health HTTP/1.1\r\nhost: example\r\nx-never-").await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_ends() {
    let config = Config {
        connections_max: 16,
        ..Config::default()
    };
    let rig = Rig::start_with(config, Rooms::new(START)).await;
    let mut registry = Registry::default();
    rig.server.metrics().register(&mut registry);
    let open = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("memory takes text");
        let line = text
            .lines()
            .find(|line| line.starts_with("marketprism_http_connections "))
            .map(str::to_owned);
        line.and_then(|line| line.split(' ').nth(1)?.parse::<u32>().ok())
            .unwrap_or(0)
    };
    let mut idle = Vec::new();
    for _ in 0..16 {
        idle.push(TcpStream::connect(rig.address).await.expect("the server listens"));
    }
    wait_for_async(DEADLINE, || open() == 16).await;
    let mut waiting = TcpStream::connect(rig.address)
        .await
        .expect("the backlog takes it");
    waiting
        .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .expect("the system's buffer takes it");
    idle.pop();
    let mut answer = String::new();
    let reading = tokio::time::timeout(DEADLINE, waiting.read_to_string(&mut answer));
    reading
        .await
        .expect("its turn comes")
        .expect("the answer is text");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(open() <= 16);
}

#[tokio::test]
async fn a_request_whose_body_never_ends_is_given_up() {
    let config = Config {
        query_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(2),
        ..Config::default()
    };
    let rig = Rig::start_with(config, Rooms::new(START)).await;
    let head =
        "POST /api/v1/write HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100\r\n\r\nabc";
    let answer = raw(rig.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("urn:marketprism:problem:timeout"), "{answer}");
}

#[tokio::test]
async fn http_2_is_spoken_to_whoever_begins_with_it() {
    let rig = Rig::start().await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let request = Request::get(format!("http://{}/health", rig.address)).body(Empty::<Bytes>::new());
    let response = client
        .request(request.expect("a valid request"))
        .await
        .expect("the server answers");
    assert_eq!(
        (response.version(), response.status()),
        (http::Version::HTTP_2, StatusCode::OK)
    );
}

#[tokio::test]
async fn what_is_under_way_when_the_server_stops_is_still_answered() {
    let rig = Rig::bare(Config::default(), Rooms::new(START)).await;
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel::<()>();
    let hold = std::sync::Mutex::new(Some((gate, begun)));
    let mut parts = rig.rooms.parts();
    let wait = move || {
        if let Some((gate, begun)) = hold.lock().expect("no panic").take() {
            let _ = (begun.send(()), gate.recv());
        }
        json!({ "answered": true })
    };
    parts.stats.insert("storage", Arc::new(wait));
    rig.server.install(parts);
    let address = rig.address;
    let asking = tokio::spawn(async move { get(address, "/api/v1/stats/storage").await });
    has_begun.await.expect("the request is under way");
    rig.cancel.cancel();
    release.send(()).expect("the request waits for it");
    assert_eq!(asking.await.expect("no panic").json()["answered"], true);
}

/// Starts a server with one query worker over an endless store; the flags say that its reading has begun and
/// was stopped.
async fn one_worker() -> (Rig, Arc<AtomicBool>, Arc<AtomicBool>) {
    let config = Config {
        query_workers: Some(1),
        query_queue: Some(0),
        ..Config::default()
    };
    let rig = Rig::bare(config, Rooms::new(START)).await;
    let source = EndlessSource::default();
    let (has_begun, is_stopped) = (Arc::clone(&source.has_begun), Arc::clone(&source.is_stopped));
    let mut parts = rig.rooms.parts();
    parts.series = Arc::new(source);
    rig.server.install(parts);
    (rig, has_begun, is_stopped)
}

/// Waits until the only worker takes a query again.
async fn worker_is_free(rig: &Rig) {
    let free = tokio::time::timeout(DEADLINE, async {
        while get(rig.address, "/prometheus/api/v1/query?query=1").await.status != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    });
    free.await.expect("the worker was told to stop");
}

#[tokio::test]
async fn a_query_over_its_time_is_stopped_and_its_worker_is_free_again() {
    let (rig, has_begun, is_stopped) = one_worker().await;
    let form = "query=endless&timeout=500ms";
    let reply = post_form(rig.address, "/prometheus/api/v1/query", form).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{:?}", reply.body);
    assert_eq!(reply.json()["errorType"], "timeout");
    assert_eq!(reply.json()["error"], "query timed out in expression evaluation");
    worker_is_free(&rig).await;
    assert_eq!(
        is_stopped.load(Ordering::Relaxed),
        has_begun.load(Ordering::Relaxed)
    );
}

#[tokio::test]
async fn a_query_whose_client_left_is_stopped_and_one_too_many_is_told_to_come_later() {
    let (rig, has_begun, is_stopped) = one_worker().await;
    let mut leaver = TcpStream::connect(rig.address).await.expect("the server listens");
    let head = "GET /prometheus/api/v1/query?query=endless HTTP/1.1\r\nhost: x\r\n\r\n";
    leaver.write_all(head.as_bytes()).await.expect("the server reads");
    wait_for_async(DEADLINE, || has_begun.load(Ordering::Relaxed)).await;
    let refused = get(rig.address, "/prometheus/api/v1/query?query=1").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json()["errorType"], "unavailable");
    let told = refused.json()["error"].as_str().unwrap_or("").to_owned();
    assert!(
        told.ends_with("(server.query_workers, server.query_queue)"),
        "{told}"
    );
    assert_eq!(refused.header("retry-after"), "1");
    assert!(!is_stopped.load(Ordering::Relaxed), "its client still waits");
    drop(leaver);
    worker_is_free(&rig).await;
    assert!(is_stopped.load(Ordering::Relaxed));
}

/// A query of a few kilobytes can hold regular expressions that take seconds to compile. They were compiled on the
/// async threads once, and two such queries silenced everything, `/health` included.
#[tokio::test]
async fn whatever_compiles_expressions_does_so_on_the_query_workers() {
    let (rig, has_begun, _) = one_worker().await;
    let mut asker = TcpStream::connect(rig.address).await.expect("the server listens");
    let head = "GET /prometheus/api/v1/query?query=endless HTTP/1.1\r\nhost: x\r\n\r\n";
    asker.write_all(head.as_bytes()).await.expect("the server reads");
    wait_for_async(DEADLINE, || has_begun.load(Ordering::Relaxed)).await;
    for path in [
        "query?query=bad%7B",
        "query_range?start=0&end=1&step=1&query=bad%7B",
        "format_query?query=bad%7B",
        "query_exemplars?query=bad%7B",
        "series?match[]=bad%7B",
        "labels?match[]=bad%7B",
        "label/job/values?match[]=bad%7B",
        "rules?match[]=bad%7B",
        "targets/metadata?match_target=bad%7B",
    ] {
        // The only worker is busy, so an answer about the expression would have been found elsewhere.
        let refused = get(rig.address, &format!("/prometheus/api/v1/{path}")).await;
        assert_eq!(refused.json()["errorType"], "unavailable", "{path}");
    }
}

/// A store that takes until `release` for each choice, and counts them.
#[derive(Default)]
struct SlowSource {
    choices: Arc<AtomicUsize>,
    release: Arc<AtomicBool>,
}

impl SlowSource {
    fn choose(&self) {
        self.choices.fetch_add(1, Ordering::Relaxed);
        while !self.release.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }
}

impl SeriesSource for SlowSource {
    fn select(&self, _: &[Matcher], _: TimeRange) -> Result<Arc<dyn Selection>, ReadError> {
        self.choose();
        Ok(Arc::new(EndlessSource::default()))
    }

    fn label_names(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        self.choose();
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: TimeRange) -> Result<Vec<String>, ReadError> {
        self.choose();
        Ok(Vec::new())
    }
}

/// Some hundred selectors in one request kept every query worker for minutes, long after the client had gone.
#[tokio::test]
async fn many_selectors_end_with_the_time_of_their_request() {
    for path in ["series", "labels", "label/job/values"] {
        let config = Config {
            query_workers: Some(1),
            query_queue: Some(0),
            query_timeout: Duration::from_secs(1),
            ..Config::default()
        };
        let rig = Rig::bare(config, Rooms::new(START)).await;
        let source = SlowSource::default();
        let (choices, release) = (Arc::clone(&source.choices), Arc::clone(&source.release));
        let mut parts = rig.rooms.parts();
        parts.series = Arc::new(source);
        rig.server.install(parts);
        let path = format!("/prometheus/api/v1/{path}?match[]=a&match[]=b&match[]=c");
        let reply = get(rig.address, &path).await;
        release.store(true, Ordering::Relaxed);
        assert_eq!(reply.json()["errorType"], "timeout", "{path}");
        worker_is_free(&rig).await;
        assert_eq!(choices.load(Ordering::Relaxed), 1, "{path}");
    }
}

#[tokio::test]
async fn a_query_beyond_a_limit_is_told_which_key_sets_it() {
    let rig = Rig::bare(
        Config {
            answer_bytes_max: 1 << 20,
            ..Config::default()
        },
        Rooms::new(START),
    )
    .await;
    for number in 0..3000 {
        let series = labels(&[("__name__", "wide"), ("long", &format!("{number:0400}"))]);
        rig.rooms.append(&series, &[(30, 1.0), (15, 2.0)]);
    }
    let mut parts = rig.rooms.parts();
    parts.engine = Arc::new(Engine::new(EngineConfig {
        samples_max: 6_000,
        bytes_max: 700_000,
        ..EngineConfig::default()
    }));
    rig.server.install(parts);
    rig.readiness.ready();
    let check = async |query: &str, kind: &str, key: &str| {
        let form = format!("query={}&time={}", encoded(query), START.seconds_f64());
        let reply = post_form(rig.address, "/prometheus/api/v1/query", &form).await;
        let answer = reply.json();
        assert_eq!(answer["errorType"], kind, "{query}: {answer}");
        let told = answer["error"].as_str().expect("an error has words");
        assert!(told.ends_with(&format!("({key})")), "{query}: {told}");
    };
    check(
        "sum(rate(wide[1m]) + rate(wide[2m]))",
        "execution",
        "server.query_samples_max",
    )
    .await;
    check("wide", "execution", "server.answer_bytes_max").await;
    let longer = "count(label_replace(wide, \"longer\", \"$1$1\", \"long\", \"(.*)\"))";
    check(longer, "execution", "server.query_bytes_max").await;
}

//! Clients that want to keep others out: thousands of connections, bodies that drip, bombs, and floods of HTTP/2.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::{Request, StatusCode};
use marketprism_server::Config;
use marketprism_testkit::wait_for_async;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::reply::{get, send};
use crate::rig::{Rig, Rooms, START};

/// Generous: a loaded machine is slow, and the wait ends as soon as the answer is there.
const DEADLINE: Duration = Duration::from_secs(30);

async fn connect_from(client: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("the system has sockets");
    socket.bind((client, 0).into()).expect("all of 127/8 is loopback");
    socket.connect(server).await.expect("the server listens")
}

/// Gives what the server sends until it closes.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut part).await {
            answer.extend_from_slice(&part[..length]);
        }
    };
    tokio::time::timeout(DEADLINE, reading)
        .await
        .expect("the server closes");
    answer
}

#[tokio::test]
async fn thousands_of_silent_connections_of_one_client_do_not_keep_the_health_check_out() {
    let rig = Rig::start_with(Config::default(), Rooms::new(START)).await;
    let mut silent = Vec::new();
    for _ in 0..3000 {
        silent.push(connect_from(Ipv4Addr::new(127, 0, 0, 2), rig.address).await);
    }
    let figures = || rig.server.figures().connections;
    wait_for_async(DEADLINE, || figures().refused_client == 3000 - 512).await;
    assert_eq!(figures().open, 512, "its share");
    for _ in 0..20 {
        assert_eq!(get(rig.address, "/health").await.status, StatusCode::OK);
    }
    let closed = &mut silent[2999];
    assert_eq!(
        rest(closed).await,
        b"",
        "beyond its share a connection is closed at once"
    );
    drop(silent);
    wait_for_async(DEADLINE, || figures().open <= 1).await;
}

#[tokio::test]
async fn many_clients_that_take_every_place_do_not_keep_the_health_check_out() {
    let config = Config {
        connections_max: 128,
        connections_per_client_max: 8,
        ..Config::default()
    };
    let rig = Rig::start_with(config, Rooms::new(START)).await;
    // Sixteen places are kept for loopback, and all of these are; so some clients take them as well, but not all.
    let mut silent = Vec::new();
    for client in 2..=15 {
        for _ in 0..8 {
            silent.push(connect_from(Ipv4Addr::new(127, 0, 0, client), rig.address).await);
        }
    }
    wait_for_async(DEADLINE, || rig.server.figures().connections.open == 112).await;
    assert_eq!(get(rig.address, "/health").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_drips_is_given_up_with_503_for_a_push_and_408_elsewhere() {
    let rig = Rig::start_with(Config::default(), Rooms::new(START)).await;
    for (path, media_type, status) in [
        ("/api/v1/write", "application/x-protobuf", "503"),
        (
            "/prometheus/api/v1/query",
            "application/x-www-form-urlencoded",
            "400",
        ),
        (
            "/api/v1/alerts/0190163d-8694-739b-aea5-966c26f8ad91/resolve",
            "application/json",
            "408",
        ),
    ] {
        let mut stream = TcpStream::connect(rig.address).await.expect("the server listens");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {media_type}\r\ncontent-length: 100\r\n\r\nabc"
        );
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        let reading = tokio::spawn(async move { rest(&mut stream).await });
        let clock = rig.rooms.clock.clone();
        wait_for_async(DEADLINE, || {
            clock.advance(Duration::from_secs(10));
            reading.is_finished()
        })
        .await;
        let answer = String::from_utf8(reading.await.expect("no panic")).expect("text");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {answer}"
        );
        assert!(
            answer.contains("slowly") || answer.contains("less than 4096 bytes"),
            "{path}: {answer}"
        );
    }
}

/// A push of unknown length once took the most it might have out of the budget, so that eight clients which only
/// began to push kept everybody else from it.
#[tokio::test]
async fn pushes_that_only_begin_leave_the_others_their_room() {
    let config = Config {
        push_bytes_max: 8 << 10,
        ..Config::default()
    };
    let rig = Rig::start_with(config, Rooms::new(START)).await;
    let begin = async |head: &str, bytes: usize| {
        let mut stream = TcpStream::connect(rig.address).await.expect("the server listens");
        let head = format!("POST /api/v1/write HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        let body = match head.contains("chunked") {
            true => format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes)),
            false => "x".repeat(bytes),
        };
        stream.write_all(body.as_bytes()).await.expect("the server reads");
        stream
    };
    let push = async || send(rig.address, Request::post("/api/v1/write"), "nonsense").await;
    let mut begun = Vec::new();
    for number in 0..40 {
        let head = ["transfer-encoding: chunked", "content-length: 8000"][number % 2];
        begun.push(begin(head, 1000).await);
    }
    assert_eq!(
        push().await.status,
        StatusCode::BAD_REQUEST,
        "40 of 64 KiB are taken"
    );
    // More than there is room for, because the pushes in between take some of it for a moment.
    for _ in 0..40 {
        begun.push(begin("transfer-encoding: chunked", 1000).await);
    }
    let mut last = push().await;
    let trying = async {
        while last.status != StatusCode::SERVICE_UNAVAILABLE {
            last = push().await;
        }
    };
    tokio::time::timeout(DEADLINE, trying)
        .await
        .expect("all 64 KiB are taken");
    assert_eq!(last.header("retry-after"), "1");
    drop(begun);
    let trying = async {
        while push().await.status == StatusCode::SERVICE_UNAVAILABLE {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, trying)
        .await
        .expect("what was given up is given back");
}

#[tokio::test]
async fn header_bombs_and_json_bombs_are_refused() {
    let rig = Rig::start_with(Config::default(), Rooms::new(START)).await;
    let headers: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    let mut stream = TcpStream::connect(rig.address).await.expect("the server listens");
    let head = format!("GET /health HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.expect("the server reads");
    let answer = String::from_utf8(rest(&mut stream).await).expect("text");
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer:.60}");

    let path = "/api/v1/alerts/0190163d-8694-739b-aea5-966c26f8ad91/resolve";
    for bomb in [
        "[".repeat(500_000),
        format!("{{\"note\":{}", "{\"a\":".repeat(100_000)),
        json!({ "note": "x", "extra": 1 }).to_string(),
        format!("{{\"note\": {}}}", "1".repeat(100_000)),
    ] {
        let request = Request::post(path).header("content-type", "application/json");
        let reply = send(rig.address, request, bomb.clone()).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bomb:.40}");
        assert!(reply.body.len() < 1000, "{bomb:.40}");
    }
    assert_eq!(get(rig.address, "/health").await.status, StatusCode::OK);
}

/// Writes a frame of HTTP/2.
///
/// Source: RFC 9113, section 4.1: length (3 bytes), type, flags, stream.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET http /` from HPACK's static table (RFC 7541, appendix A), and `:authority: x`.
const GET_ROOT: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 0x01, b'x'];

async fn begin_http2(server: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.expect("the server listens");
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .expect("the server reads");
    stream
        .write_all(&frame(SETTINGS, 0, 0, &[]))
        .await
        .expect("the server reads");
    stream
}

/// Gives the error code of a GOAWAY among frames.
fn goaway_code(mut bytes: &[u8]) -> Option<u32> {
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let (kind, payload) = (bytes[3], bytes.get(9..9 + length)?);
        if kind == GOAWAY {
            return Some(u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?));
        }
        bytes = &bytes[9 + length..];
    }
    None
}

/// Writes a flood until the server closes; gives what it said.
async fn flood(stream: TcpStream, flood: Vec<u8>) -> Vec<u8> {
    let (mut from, mut to) = stream.into_split();
    let writing = tokio::spawn(async move { to.write_all(&flood).await });
    let mut answer = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut part).await {
            answer.extend_from_slice(&part[..length]);
        }
    };
    tokio::time::timeout(DEADLINE, reading)
        .await
        .expect("the server closes");
    let _ = writing.await;
    answer
}

/// Requests that are taken back at once cost their sender nothing (CVE-2023-44487).
#[tokio::test]
async fn a_flood_of_requests_that_are_taken_back_ends_its_connection() {
    let rig = Rig::start_with(Config::default(), Rooms::new(START)).await;
    let stream = begin_http2(rig.address).await;
    let requests = (0..20_000_u32).flat_map(|number| {
        let id = 2 * number + 1;
        let mut bytes = frame(HEADERS, END_STREAM | END_HEADERS, id, &GET_ROOT);
        bytes.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
        bytes
    });
    let answer = flood(stream, requests.collect()).await;
    // ENHANCE_YOUR_CALM, RFC 9113, section 7; a reset of the connection may swallow it.
    let code = goaway_code(&answer);
    assert!(matches!(code, Some(11) | None), "{code:?}");
    assert_eq!(get(rig.address, "/health").await.status, StatusCode::OK);
}

/// A head that never ends was kept in memory by some servers until there was none (CVE-2024-27316).
#[tokio::test]
async fn a_head_that_goes_on_and_on_ends_its_connection() {
    let rig = Rig::start_with(Config::default(), Rooms::new(START)).await;
    let stream = begin_http2(rig.address).await;
    // A literal header without indexing: name "a", value of 1000 bytes.
    let mut field = vec![0x00, 0x01, b'a', 0x7f, 0xe9, 0x06];
    field.extend([b'x'; 1000]);
    let mut bytes = frame(HEADERS, END_STREAM, 1, &GET_ROOT);
    for _ in 0..20_000 {
        bytes.extend(frame(CONTINUATION, 0, 1, &field));
    }
    let answer = flood(stream, bytes).await;
    assert!(goaway_code(&answer).is_none_or(|code| code != 0), "{answer:?}");
    assert_eq!(get(rig.address, "/health").await.status, StatusCode::OK);
}

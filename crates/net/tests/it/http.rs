//! HTTP against real servers: reuse, limits, redirects, TLS, and what is said when it fails.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get, post};
use http::{HeaderValue, Method, header};
use marketprism_net::{Egress, HttpClient, NetError, Request, Response, TlsPolicy, Transport};
use marketprism_testkit::{HttpServer, TestAuthority};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn client() -> HttpClient {
    HttpClient::new(Egress::default())
}

fn get_from(url: impl Into<String>) -> Request {
    Request::new(Method::GET, url)
}

async fn fetch(request: Request) -> Result<Response, NetError> {
    client().send(request).await
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

#[tokio::test]
async fn connections_are_kept_between_requests() {
    let server = HttpServer::start(hello());
    let client = client();
    for _ in 0..5 {
        let answer = client.send(get_from(server.url("/"))).await.expect("it answers");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced_unseen() {
    // A bare server that closes each connection after its first answer without saying so before.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move {
        for number in 1..=3 {
            let (mut stream, _) = listener.accept().await.expect("a client comes");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.expect("a request comes");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
            stream
                .write_all(answer.as_bytes())
                .await
                .expect("the client listens");
            // Wait for the next request and close instead of answering it.
            let _ = stream.read(&mut request).await;
        }
    });
    let client = client();
    for number in [b"1", b"2", b"3"] {
        let answer = client.send(get_from(format!("http://{address}/"))).await;
        assert_eq!(&answer.expect("a new connection is made").body[..], number);
    }
    serving.abort();
}

#[tokio::test]
async fn a_post_is_never_repeated_behind_the_callers_back() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client comes");
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await.expect("a request comes");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.expect("the client listens");
        let _ = stream.read(&mut request).await;
        drop(stream);
        listener.accept().await.is_ok()
    });
    let client = client();
    let send = || client.send(Request::new(Method::POST, format!("http://{address}/")));
    send().await.expect("the first is answered");
    let error = send().await.expect_err("the second breaks off");
    assert!(matches!(error, NetError::Broken { .. }), "{error}");
    assert!(!serving.is_finished(), "it came back with a second connection");
    serving.abort();
}

#[tokio::test]
async fn bodies_are_limited_after_decompression() {
    let bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b'x'; 8 << 20]).expect("memory");
        encoder.finish().expect("memory")
    };
    let plain = Router::new()
        .route(
            "/bomb",
            get(async move || ([(header::CONTENT_ENCODING, "gzip")], bomb.clone())),
        )
        .route("/plain", get(|| async { "12345" }));
    let server = HttpServer::start(plain);

    let mut request = get_from(server.url("/bomb"));
    request.body_bytes_max = 8 << 20;
    let answer = fetch(request.clone()).await.expect("exactly as long as allowed");
    assert_eq!(answer.body.len(), 8 << 20);
    assert!(answer.headers.get(header::CONTENT_ENCODING).is_none());
    request.body_bytes_max -= 1;
    assert!(matches!(fetch(request).await, Err(NetError::TooLong { .. })));

    let mut request = get_from(server.url("/plain"));
    request.body_bytes_max = 4;
    let error = fetch(request).await.expect_err("one byte too long");
    assert_eq!(
        error.to_string(),
        format!("answer of {} is longer than 4 bytes", server.address())
    );
}

#[tokio::test]
async fn one_deadline_covers_silence_and_slow_bodies() {
    let drip = async || {
        let drops = futures_util::stream::unfold((), |()| async {
            std::future::pending::<()>().await;
            Some((Ok::<_, std::io::Error>("x"), ()))
        });
        axum::body::Body::from_stream(drops).into_response()
    };
    let router = Router::new()
        .route("/silent", get(std::future::pending::<()>))
        .route("/drip", get(drip));
    let server = HttpServer::start(router);
    for path in ["/silent", "/drip"] {
        let mut request = get_from(server.url(path));
        request.timeout = Duration::from_millis(150);
        let error = fetch(request).await.expect_err("nothing more comes");
        let expected = format!("no answer from {} within 150ms", server.address());
        assert_eq!(error.to_string(), expected, "{path}");
    }
}

#[tokio::test]
async fn failures_are_named_by_their_phase() {
    let closed = marketprism_testkit::free_port();
    let error = fetch(get_from(format!("http://127.0.0.1:{closed}/x"))).await;
    let error = error.expect_err("nobody listens");
    assert_eq!(
        error.to_string(),
        format!("cannot connect to 127.0.0.1:{closed}: connection refused")
    );

    let error = fetch(get_from("http://no-such-host.invalid/")).await;
    assert!(matches!(error, Err(NetError::Resolve { .. })), "{error:?}");

    let error = fetch(get_from("http://169.254.169.254/latest/meta-data/")).await;
    assert!(matches!(error, Err(NetError::Forbidden { .. })), "{error:?}");

    let plain = HttpServer::start(hello());
    let error = fetch(get_from(plain.url("/").replace("http:", "https:"))).await;
    let error = error.expect_err("plain HTTP is no TLS");
    assert!(
        error.to_string().ends_with("the peer does not speak TLS"),
        "{error}"
    );
}

#[tokio::test]
async fn credentials_in_the_url_are_sent_and_never_shown() {
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let handler = async move |headers: HeaderMap| {
        *keep.lock().unwrap() = headers.get(header::AUTHORIZATION).cloned();
    };
    let server = HttpServer::start(Router::new().route("/", get(handler)));
    let with_password = |address: String| format!("http://scraper:hunter2@{address}/");
    fetch(get_from(with_password(server.address().to_string())))
        .await
        .expect("it answers");
    // `printf scraper:hunter2 | base64`
    let expected = HeaderValue::from_static("Basic c2NyYXBlcjpodW50ZXIy");
    assert_eq!(seen.lock().unwrap().as_ref(), Some(&expected));

    let closed = marketprism_testkit::free_port();
    let error = fetch(get_from(with_password(format!("127.0.0.1:{closed}")))).await;
    assert!(!error.expect_err("nobody listens").to_string().contains("hunter2"));
}

#[tokio::test]
async fn authorization_follows_a_redirect_only_to_the_same_origin() {
    let router = || {
        Router::new()
            .route(
                "/auth",
                get(async |headers: HeaderMap| {
                    let value = headers.get(header::AUTHORIZATION);
                    value.map_or("none".to_owned(), |v| v.to_str().unwrap().to_owned())
                }),
            )
            .route("/same", get(async || Redirect::temporary("/auth")))
    };
    let other = HttpServer::start(router());
    let target = other.url("/auth");
    let server = HttpServer::start(router().route("/other", get(async move || Redirect::temporary(&target))));
    let check = async |path: &str, expected: &str| {
        let mut request = get_from(server.url(path));
        request.redirects_max = 3;
        let token = HeaderValue::from_static("Bearer secret");
        request.headers.insert(header::AUTHORIZATION, token);
        let answer = fetch(request).await.expect("it answers");
        assert_eq!(String::from_utf8_lossy(&answer.body), expected, "{path}");
    };
    check("/same", "Bearer secret").await;
    check("/other", "none").await;
}

#[tokio::test]
async fn redirects_end_change_methods_as_go_does_and_are_optional() {
    let router = Router::new()
        .route("/loop", get(async || Redirect::temporary("/loop")))
        .route("/see", post(async || Redirect::to("/method")))
        .route("/keep", post(async || Redirect::temporary("/method")))
        .route(
            "/method",
            any(async |method: Method, body: String| format!("{method} {body}")),
        );
    let server = HttpServer::start(router);
    let mut request = get_from(server.url("/loop"));
    assert_eq!(fetch(request.clone()).await.expect("an answer").status, 307);
    request.redirects_max = 3;
    let error = fetch(request).await.expect_err("it never ends");
    assert!(error.to_string().ends_with("more than 3 redirects"), "{error}");

    let check = async |path: &str, expected: &str| {
        let mut request = Request::new(Method::POST, server.url(path));
        request.redirects_max = 1;
        request.body = "body".into();
        let answer = fetch(request).await.expect("it answers");
        assert_eq!(String::from_utf8_lossy(&answer.body), expected, "{path}");
    };
    check("/see", "GET ").await;
    check("/keep", "POST body").await;
}

#[tokio::test]
async fn a_redirect_to_a_metadata_address_is_refused() {
    let router = Router::new().route("/", get(async || Redirect::temporary("http://100.100.100.200/")));
    let server = HttpServer::start(router);
    let mut request = get_from(server.url("/"));
    request.redirects_max = 1;
    let error = fetch(request).await;
    assert!(matches!(error, Err(NetError::Forbidden { .. })), "{error:?}");
}

#[tokio::test]
async fn certificates_are_judged_by_the_policy() {
    let authority = TestAuthority::new();
    let good = HttpServer::start_tls(hello(), &authority.issue(&["localhost", "127.0.0.1"]));
    let expired = HttpServer::start_tls(hello(), &authority.issue_expired(&["127.0.0.1"]));
    let other_name = HttpServer::start_tls(hello(), &authority.issue(&["metrics.internal"]));
    let trusting = TlsPolicy {
        ca_file: Some(authority.ca_file()),
        ..TlsPolicy::default()
    };
    let check = async |server: &HttpServer, tls: TlsPolicy, expected: &str| {
        let mut request = get_from(server.url("/"));
        request.tls = tls;
        let said = match fetch(request).await {
            Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
            Err(error) => error.to_string(),
        };
        let expected = match expected {
            "hello" => "hello".to_owned(),
            reason => format!("TLS with {}: {reason}", server.address()),
        };
        assert_eq!(said, expected);
    };
    check(&good, trusting.clone(), "hello").await;
    let unknown = "the certificate is not signed by a trusted authority (set ca_file)";
    check(&good, TlsPolicy::default(), unknown).await;
    check(&expired, trusting.clone(), "the certificate has expired").await;
    check(
        &other_name,
        trusting.clone(),
        "the certificate is for another name",
    )
    .await;
    let renamed = TlsPolicy {
        server_name: Some("metrics.internal".to_owned()),
        ..trusting.clone()
    };
    check(&other_name, renamed, "hello").await;
    let careless = TlsPolicy {
        is_verification_skipped: true,
        ..TlsPolicy::default()
    };
    check(&expired, careless, "hello").await;
    let known = authority.issue(&["another.name"]);
    let pinned = TlsPolicy {
        pinned_file: Some(known.cert_file.clone()),
        ..TlsPolicy::default()
    };
    let same = HttpServer::start_tls(hello(), &known);
    check(&same, pinned.clone(), "hello").await;
    check(&good, pinned, "the certificate is not the pinned one").await;
    let missing = TlsPolicy {
        ca_file: Some(authority.folder().join("absent.pem")),
        ..TlsPolicy::default()
    };
    let file = authority.folder().join("absent.pem");
    let words = format!("{}: No such file or directory", file.display());
    check(&good, missing, &words).await;
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_configured() {
    let authority = TestAuthority::new();
    let server =
        HttpServer::start_mutual_tls(hello(), &authority.issue(&["127.0.0.1"]), &authority.ca_file());
    let ours = authority.issue(&["scraper"]);
    let mut request = get_from(server.url("/"));
    request.tls.ca_file = Some(authority.ca_file());
    let error = fetch(request.clone()).await;
    assert!(error.is_err(), "without a certificate the server hangs up");
    request.tls.cert_file = Some(ours.cert_file.clone());
    let error = fetch(request.clone()).await.expect_err("half a pair");
    assert!(error.to_string().contains("go together"), "{error}");
    request.tls.key_file = Some(ours.key_file);
    assert_eq!(&fetch(request).await.expect("shown").body[..], b"hello");
}

#[tokio::test]
async fn a_renewed_authority_is_taken_up_without_a_restart() {
    let old = TestAuthority::new();
    let new = TestAuthority::new();
    let server = HttpServer::start_tls(hello(), &new.issue(&["127.0.0.1"]));
    let file = old.folder().join("trusted.pem");
    std::fs::copy(old.ca_file(), &file).expect("temporary folder");
    let client = client();
    let mut request = get_from(server.url("/"));
    request.tls.ca_file = Some(file.clone());
    client.send(request.clone()).await.expect_err("the old one");
    let renewed = std::fs::read_to_string(new.ca_file()).expect("written by the authority");
    std::fs::write(&file, renewed + "\n").expect("temporary folder");
    client.send(request).await.expect("the new one");
}

#[tokio::test]
async fn http2_carries_requests_side_by_side_over_one_connection() {
    let authority = TestAuthority::new();
    let version = Router::new().route(
        "/",
        get(async |version: axum::http::Version| format!("{version:?}")),
    );
    let server = HttpServer::start_tls(version, &authority.issue(&["127.0.0.1"]));
    let client = client();
    let mut request = get_from(server.url("/"));
    request.tls.ca_file = Some(authority.ca_file());
    let first = client.send(request.clone()).await.expect("it answers");
    assert_eq!(&first.body[..], b"HTTP/2.0");
    let many = (0..20).map(|_| client.send(request.clone()));
    for answer in futures_util::future::join_all(many).await {
        assert_eq!(answer.expect("it answers").status, 200);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn ipv6_addresses_are_reached() {
    let listener = tokio::net::TcpListener::bind("[::1]:0")
        .await
        .expect("loopback has an IPv6 address");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(async move { axum::serve(listener, hello()).await });
    let answer = fetch(get_from(format!("http://{address}/")))
        .await
        .expect("it answers");
    assert_eq!(&answer.body[..], b"hello");
    serving.abort();
}

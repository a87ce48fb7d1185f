//! TLS on the port: what clients agree on, what they are refused, and a certificate that is renewed under them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::Clock as _;
use marketprism_server::{Config, TlsConfig};
use marketprism_testkit::{TestAuthority, TestCertificate, wait_for_async};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::rig::{Rig, Rooms, START};

/// Generous: a loaded machine is slow, and the wait ends as soon as the answer is there.
const DEADLINE: Duration = Duration::from_secs(30);

fn config_of(certificate: &TestCertificate) -> TlsConfig {
    TlsConfig {
        enabled: true,
        cert_file: certificate.cert_file.clone(),
        key_file: certificate.key_file.clone(),
    }
}

/// Starts a server that shows a certificate.
async fn secured(certificate: &TestCertificate) -> Rig {
    let rig = Rig::start_with(Config::default(), Rooms::new(START)).await;
    let now = rig.rooms.clock.now();
    let tls = config_of(certificate).prepare(now).expect("the files are good");
    rig.server.set_tls(tls);
    rig
}

async fn run(program: &'static str, args: &[&str]) -> Output {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let running = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        command
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}; install it: apt-get install {program}"))
    });
    running.await.expect("no panic")
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Asks with curl; gives what it says of the answer, `VERSION CODE`, or its error.
async fn curl(address: SocketAddr, ca_file: &Path, options: &[&str]) -> String {
    let (place, url) = (
        format!("localhost:{}:127.0.0.1", address.port()),
        format!("https://localhost:{}/health", address.port()),
    );
    let ca_file = ca_file.display().to_string();
    let mut args = vec!["-sS", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"];
    args.extend(["--noproxy", "*", "--resolve", &place, "--cacert", &ca_file]);
    args.extend(options);
    args.push(&url);
    text(&run("curl", &args).await)
}

async fn s_client(address: SocketAddr, ca_file: &Path, options: &[&str]) -> String {
    let (address, ca_file) = (address.to_string(), ca_file.display().to_string());
    let mut args = vec!["s_client", "-verify_return_error", "-servername", "localhost"];
    args.extend(["-connect", &address, "-CAfile", &ca_file]);
    args.extend(options);
    text(&run("openssl", &args).await)
}

async fn connect(address: SocketAddr, ca_file: &Path) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).expect("the authority wrote it") {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks both")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.expect("the server listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    connecting.await.expect("the certificate is good")
}

fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().expect("the server shows one");
    chain[0].to_vec()
}

/// Sends one request on an open connection and reads the answer's head and body.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.expect("the connection lives");
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut part = [0; 4096];
        let reading = tokio::time::timeout(DEADLINE, stream.read(&mut part));
        let length = reading.await.expect("it answers").expect("it lives");
        assert_ne!(length, 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..length]);
    }
    String::from_utf8(answer).expect("the answer is text")
}

#[tokio::test]
async fn common_clients_agree_on_tls_1_2_and_1_3_and_on_the_http_they_prefer() {
    let authority = TestAuthority::new();
    let rig = secured(&authority.issue(&["localhost"])).await;
    let (address, ca) = (rig.address, authority.ca_file());
    assert_eq!(rig.server.scheme(), "https");
    assert_eq!(curl(address, &ca, &[]).await, "2 200");
    assert_eq!(curl(address, &ca, &["--http1.1"]).await, "1.1 200");
    assert_eq!(curl(address, &ca, &["--tls-max", "1.2"]).await, "2 200");
    for (options, wanted) in [
        (
            ["-tls1_2", "-alpn", "http/1.1"],
            ["New, TLSv1.2,", "ALPN protocol: http/1.1"],
        ),
        (
            ["-tls1_3", "-alpn", "h2,http/1.1"],
            ["New, TLSv1.3,", "ALPN protocol: h2"],
        ),
    ] {
        let told = s_client(address, &ca, &options).await;
        assert!(told.contains("Verify return code: 0 (ok)"), "{told}");
        assert!(wanted.iter().all(|wanted| told.contains(wanted)), "{told}");
    }
    let old = s_client(address, &ca, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]).await;
    let is_refused = old.contains("Cipher is (NONE)") && old.contains("SSL alert number");
    assert!(is_refused, "{old}");
}

#[tokio::test]
async fn clients_refuse_a_stranger_and_an_expired_certificate() {
    let authority = TestAuthority::new();
    let rig = secured(&authority.issue_expired(&["localhost"])).await;
    let told = curl(rig.address, &authority.ca_file(), &[]).await;
    assert!(told.contains("certificate has expired"), "{told}");
    let rig = secured(&TestAuthority::new().issue(&["localhost"])).await;
    let told = curl(rig.address, &authority.ca_file(), &[]).await;
    assert!(told.contains("000curl: ("), "{told}");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_drops_no_old_one() {
    let authority = TestAuthority::new();
    let (current, next) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]));
    let (stranger, ca) = (authority.issue(&["localhost"]), authority.ca_file());
    let rig = secured(&current).await;
    let config = config_of(&current);
    let mut old = connect(rig.address, &ca).await;
    let first = shown(&old);
    assert!(ask(&mut old).await.contains("healthy"));
    assert_eq!(rig.server.renew_tls(&config), Ok(false), "nothing has changed");

    // The key comes first, as it may when two files are replaced one after the other.
    std::fs::copy(&next.key_file, &current.key_file).expect("the folder is writable");
    let error = rig.server.renew_tls(&config).expect_err("the pair does not fit");
    let key_file = current.key_file.display().to_string();
    assert!(
        error
            .to_string()
            .starts_with(&format!("server.ssl.key_file: {key_file}: ")),
        "{error}"
    );
    assert_eq!(
        shown(&connect(rig.address, &ca).await),
        first,
        "the old pair stays"
    );

    std::fs::copy(&next.cert_file, &current.cert_file).expect("the folder is writable");
    assert_eq!(rig.server.renew_tls(&config), Ok(true));
    let mut new = connect(rig.address, &ca).await;
    assert_ne!(shown(&new), first);
    assert!(ask(&mut new).await.contains("healthy"));
    assert!(
        ask(&mut old).await.contains("healthy"),
        "the old connection lives on"
    );

    std::fs::remove_file(&current.cert_file).expect("it is there");
    let error = rig.server.renew_tls(&config).expect_err("the file is gone");
    assert!(error.to_string().ends_with("there is no such file"), "{error}");
    drop(stranger);
    assert_ne!(
        shown(&connect(rig.address, &ca).await),
        first,
        "the last good pair stays"
    );
}

#[tokio::test]
async fn plain_http_on_this_port_is_told_what_is_spoken_here() {
    let authority = TestAuthority::new();
    let rig = secured(&authority.issue(&["localhost"])).await;
    let mut stream = TcpStream::connect(rig.address).await.expect("the server listens");
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.expect("the server reads");
    let mut answer = String::new();
    let reading = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer));
    reading.await.expect("it closes").expect("the answer is text");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("this port speaks HTTPS"), "{answer}");
}

/// Lets time pass until the server has closed the connection; fails when it never does.
async fn is_let_go(rig: &Rig, mut stream: TcpStream) {
    let reading = tokio::spawn(async move {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let clock = rig.rooms.clock.clone();
    wait_for_async(DEADLINE, || {
        clock.advance(Duration::from_secs(60));
        reading.is_finished()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_is_let_go() {
    let authority = TestAuthority::new();
    let rig = secured(&authority.issue(&["localhost"])).await;
    for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut stream = TcpStream::connect(rig.address).await.expect("the server listens");
        stream.write_all(begun).await.expect("the server reads");
        is_let_go(&rig, stream).await;
    }
}

#[tokio::test]
async fn a_client_that_begins_a_record_and_never_ends_it_is_let_go() {
    let authority = TestAuthority::new();
    let rig = secured(&authority.issue(&["localhost"])).await;
    let stream = connect(rig.address, &authority.ca_file()).await;
    let (mut raw, _) = stream.into_inner();
    let begun = b"\x17\x03\x03\x00\x64half a record of application data";
    raw.write_all(begun).await.expect("the server reads");
    is_let_go(&rig, raw).await;
}

//! Real HTTP servers on loopback, on threads of their own, so that they answer whatever the test's runtime does.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::serve::Listener;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::certificates::TestCertificate;

/// An HTTP server that ends, with all its connections, when it is dropped.
pub struct HttpServer {
    address: SocketAddr,
    scheme: &'static str,
    connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl HttpServer {
    /// Serves over plain HTTP.
    pub fn start(router: Router) -> Self {
        Self::launch(router, None)
    }

    /// Serves over TLS with a certificate, HTTP/2 to clients that speak it.
    pub fn start_tls(router: Router, certificate: &TestCertificate) -> Self {
        let config = server_config(certificate, None);
        Self::launch(router, Some(config))
    }

    /// Serves over TLS to clients that show a certificate of the authority in `client_ca_file`.
    pub fn start_mutual_tls(router: Router, certificate: &TestCertificate, client_ca_file: &Path) -> Self {
        let config = server_config(certificate, Some(client_ca_file));
        Self::launch(router, Some(config))
    }

    fn launch(router: Router, tls: Option<ServerConfig>) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback gives ports");
        listener
            .set_nonblocking(true)
            .expect("sockets can be non-blocking");
        let address = listener.local_addr().expect("bound above");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let connections = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel();
        let counter = Arc::clone(&connections);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(async move {
                let listener = CountingListener {
                    listener: TcpListener::from_std(listener).expect("non-blocking since above"),
                    acceptor: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
                    connections: counter,
                };
                tokio::select! {
                    _ = async { axum::serve(listener, router).await } => {}
                    _ = stopped => {}
                }
            });
            // A handler that hangs on purpose must not hold the test.
            runtime.shutdown_background();
        });
        HttpServer {
            address,
            scheme,
            connections,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Gives the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the URL of a path that begins with a slash, by address.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Counts the connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn server_config(certificate: &TestCertificate, client_ca_file: Option<&Path>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3");
    let builder = match client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            let authorities = CertificateDer::pem_file_iter(file).expect("file of the test's authority");
            for authority in authorities {
                roots
                    .add(authority.expect("PEM of the test's authority"))
                    .expect("an authority's certificate");
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .expect("there is an authority");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = CertificateDer::pem_file_iter(&certificate.cert_file)
        .expect("file of the test's authority")
        .collect::<Result<Vec<_>, _>>()
        .expect("PEM of the test's authority");
    let key = PrivateKeyDer::from_pem_file(&certificate.key_file).expect("PEM of the test's authority");
    let mut config = builder
        .with_single_cert(chain, key)
        .expect("key fits certificate");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct CountingListener {
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    connections: Arc<AtomicUsize>,
}

impl Listener for CountingListener {
    type Io = Box<dyn Stream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                continue;
            };
            self.connections.fetch_add(1, Ordering::Relaxed);
            match &self.acceptor {
                None => return (Box::new(stream), address),
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        return (Box::new(stream), address);
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

//! HTTP out, as a port: the binary uses the real one, simulated tests a fake one.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use marketprism_model::BoxFuture;
use thiserror::Error;

/// One HTTP request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Absolute, `http` or `https`.
    pub url: String,
    /// Headers besides `Host` and `Content-Length`.
    pub headers: HeaderMap,
    /// The body, possibly empty.
    pub body: Bytes,
    /// The whole exchange must end within this time: resolving, connecting, sending, receiving.
    pub timeout: Duration,
    /// A longer response body (after decompression) is an error.
    pub body_bytes_max: usize,
    /// How many redirects are followed; 0 hands a redirect back as the answer.
    pub redirects_max: u8,
    /// How the peer's certificate is judged, and which one we show.
    pub tls: TlsPolicy,
}

impl Request {
    /// Makes a request with no body, ten seconds, 1 MiB of answer, no redirects and ordinary TLS.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Request {
            method,
            url: url.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(10),
            body_bytes_max: 1 << 20,
            redirects_max: 0,
            tls: TlsPolicy::default(),
        }
    }
}

/// How TLS is spoken to one peer. Equal policies share connections.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TlsPolicy {
    /// PEM file of authorities to trust instead of the system's.
    pub ca_file: Option<std::path::PathBuf>,
    /// PEM file of the certificate we show.
    pub cert_file: Option<std::path::PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<std::path::PathBuf>,
    /// The name to expect in the certificate instead of the URL's host.
    pub server_name: Option<String>,
    /// PEM file whose first certificate must be the one that the peer shows, whoever signed it and whatever name it has.
    pub pinned_file: Option<std::path::PathBuf>,
    /// Whether any certificate is accepted.
    pub is_verification_skipped: bool,
}

/// One HTTP response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Bytes,
}

/// Why an exchange gave no response.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NetError {
    /// The address cannot be used.
    #[error("bad address {url:?}: {reason}")]
    Address {
        /// As given, without user and password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name has no address.
    #[error("cannot resolve {host}: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// Nobody answers there.
    #[error("cannot connect to {peer}: {reason}")]
    Connect {
        /// Host and port.
        peer: String,
        /// The system's words.
        reason: String,
    },
    /// The egress guard refuses the address.
    #[error("connection to {peer} is forbidden: {reason}")]
    Forbidden {
        /// Host and port.
        peer: String,
        /// Which address, and how to allow it.
        reason: String,
    },
    /// The TLS handshake failed, or a file of the policy cannot be used.
    #[error("TLS with {peer}: {reason}")]
    Tls {
        /// Host and port.
        peer: String,
        /// The library's words.
        reason: String,
    },
    /// The whole exchange took longer than allowed.
    #[error("no answer from {peer} within {}", marketprism_model::duration::format(*.timeout))]
    Timeout {
        /// Host and port.
        peer: String,
        /// The time allowed.
        timeout: Duration,
    },
    /// The answer is longer than allowed.
    #[error("answer of {peer} is longer than {limit} bytes")]
    TooLong {
        /// Host and port.
        peer: String,
        /// The limit.
        limit: usize,
    },
    /// The peer broke the protocol or the connection.
    #[error("exchange with {peer} broke off: {reason}")]
    Broken {
        /// Host and port.
        peer: String,
        /// What happened.
        reason: String,
    },
}

/// Sends requests. Keeps connections alive between them.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request and reads the whole response.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, NetError>>;
}

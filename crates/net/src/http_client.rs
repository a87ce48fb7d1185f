//! HTTP out, for real: connections kept and shared, one deadline over the whole exchange.
//!
//! One pool a TLS policy, because a connection opened under one policy must not serve another.
//! Deliberately absent: proxies, cookies, caches.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION,
    PROXY_AUTHORIZATION, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use marketprism_model::BoxFuture;
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::address::Address;
use crate::body::{self, BodyFault};
use crate::connector::{Connector, Uses};
use crate::{Egress, NetError, Request, Response, TlsPolicy, Transport, tls};

/// How many TLS policies keep connections at the same time; the one unused for longest makes room.
const POLICIES_MAX: usize = 64;
/// An idle connection outlives every usual scrape interval.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// Idle connections kept to one host and port.
const IDLE_CONNECTIONS_MAX: usize = 4;
const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);
const AGENT: &str = concat!("MarketPrism/", env!("CARGO_PKG_VERSION"));

type Pool = Client<Connector, Full<Bytes>>;

/// Sends HTTP requests over connections that it keeps. Cheap to share behind an [`Arc`].
pub struct HttpClient {
    egress: Arc<Egress>,
    pools: Mutex<Vec<PolicyPool>>,
}

/// The connections of one policy, and the state of its files when they were read.
struct PolicyPool {
    policy: TlsPolicy,
    stamps: FileStamps,
    pool: Pool,
}

/// When and how long each file of a policy was; a renewed certificate is taken up by this.
type FileStamps = [Option<(SystemTime, u64)>; 4];

impl HttpClient {
    /// Makes a client whose every connection passes `egress`.
    pub fn new(egress: Egress) -> Self {
        HttpClient {
            egress: Arc::new(egress),
            pools: Mutex::new(Vec::new()),
        }
    }

    /// Gives the pool of a policy, making it when it is new or one of its files has changed.
    async fn pool(&self, policy: &TlsPolicy, peer: &str) -> Result<Pool, NetError> {
        let stamps = stamps(policy);
        if let Some(pool) = self.kept_pool(policy, stamps) {
            return Ok(pool);
        }
        let wanted = policy.clone();
        let config = tokio::task::spawn_blocking(move || tls::client_config(&wanted, &[b"h2", b"http/1.1"]))
            .await
            .map_err(|error| error.to_string())
            .and_then(|config| config.map_err(|error| error.to_string()))
            .map_err(|reason| NetError::Tls {
                peer: peer.to_owned(),
                reason,
            })?;
        let pool = make_pool(Connector {
            tls: Arc::new(config),
            server_name: policy.server_name.as_deref().map(Arc::from),
            egress: Arc::clone(&self.egress),
        });
        let mut pools = self.pools.lock();
        pools.retain(|kept| kept.policy != *policy);
        if pools.len() == POLICIES_MAX {
            pools.remove(0);
        }
        pools.push(PolicyPool {
            policy: policy.clone(),
            stamps,
            pool: pool.clone(),
        });
        Ok(pool)
    }

    /// Finds a pool and moves it to the end, so that the first is the one unused for longest.
    fn kept_pool(&self, policy: &TlsPolicy, stamps: FileStamps) -> Option<Pool> {
        let mut pools = self.pools.lock();
        let at = pools.iter().position(|kept| kept.policy == *policy)?;
        if pools[at].stamps != stamps {
            return None;
        }
        let kept = pools.remove(at);
        let pool = kept.pool.clone();
        pools.push(kept);
        Some(pool)
    }

    async fn exchange(&self, mut address: Address, request: Request) -> Result<Response, NetError> {
        let pool = self.pool(&request.tls, &address.peer()).await?;
        let mut hop = Hop {
            method: request.method,
            headers: request.headers,
            body: request.body,
        };
        hop.headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(AGENT));
        hop.headers
            .entry(ACCEPT_ENCODING)
            .or_insert(HeaderValue::from_static("gzip"));
        if let Some(basic_auth) = address.basic_auth.clone() {
            hop.headers.entry(AUTHORIZATION).or_insert(basic_auth);
        }
        let mut redirects = 0;
        loop {
            let answer = send_hop(&pool, &address, &hop).await?;
            let Some(next) = redirect_target(&address, &answer, request.redirects_max)? else {
                return receive(answer, &address.peer(), request.body_bytes_max).await;
            };
            if redirects == request.redirects_max {
                return Err(NetError::Broken {
                    peer: address.peer(),
                    reason: format!("more than {redirects} redirects"),
                });
            }
            redirects += 1;
            hop.follow(answer.status().as_u16(), &address, &next);
            address = next;
        }
    }
}

impl Transport for HttpClient {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, NetError>> {
        Box::pin(async move {
            let address = Address::parse(&request.url)?;
            let (peer, limit) = (address.peer(), request.timeout);
            timeout(limit, self.exchange(address, request))
                .await
                .unwrap_or(Err(NetError::Timeout { peer, timeout: limit }))
        })
    }
}

fn make_pool(connector: Connector) -> Pool {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http2_keep_alive_interval(H2_PING_INTERVAL)
        .http2_keep_alive_timeout(H2_PING_TIMEOUT)
        .build(connector)
}

fn stamps(policy: &TlsPolicy) -> FileStamps {
    let stamp = |file: &Option<PathBuf>| {
        let metadata = std::fs::metadata(file.as_deref()?).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [
        stamp(&policy.ca_file),
        stamp(&policy.pinned_file),
        stamp(&policy.cert_file),
        stamp(&policy.key_file),
    ]
}

/// What is sent to one address on the way through redirects.
struct Hop {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Hop {
    /// Changes into what is sent to the next address, as browsers and Go do it.
    fn follow(&mut self, status: u16, from: &Address, to: &Address) {
        if !from.is_same_origin(to) {
            for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, HOST] {
                self.headers.remove(name);
            }
        }
        let keeps_method = matches!(status, 307 | 308) || self.method == Method::HEAD;
        if !keeps_method && self.method != Method::GET {
            self.method = Method::GET;
            self.body = Bytes::new();
            self.headers.remove(CONTENT_TYPE);
            self.headers.remove(CONTENT_ENCODING);
        }
        // Credentials that the new address itself carries are its own.
        if let Some(basic_auth) = to.basic_auth.clone() {
            self.headers.insert(AUTHORIZATION, basic_auth);
        }
    }
}

/// Gives where a redirect leads, `None` when the answer is none or none is wanted.
fn redirect_target(
    address: &Address,
    answer: &http::Response<Incoming>,
    redirects_max: u8,
) -> Result<Option<Address>, NetError> {
    if redirects_max == 0 || !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = answer.headers().get(LOCATION) else {
        return Ok(None);
    };
    let next = location
        .to_str()
        .map_err(|error| error.to_string())
        .and_then(|location| address.join(location));
    next.map(Some).map_err(|reason| NetError::Broken {
        peer: address.peer(),
        reason: format!("redirects to a bad address: {reason}"),
    })
}

/// Sends once, and once more when a kept connection turns out to have been closed meanwhile and
/// repeating changes nothing at the peer (RFC 9110, section 9.2.2).
async fn send_hop(pool: &Pool, address: &Address, hop: &Hop) -> Result<http::Response<Incoming>, NetError> {
    // All kept connections may have been closed; the one after them is new.
    let mut repeats_left = if hop.method.is_idempotent() {
        IDLE_CONNECTIONS_MAX
    } else {
        0
    };
    loop {
        let mut request = http::Request::new(Full::new(hop.body.clone()));
        *request.method_mut() = hop.method.clone();
        *request.uri_mut() = address.uri()?;
        *request.headers_mut() = hop.headers.clone();
        let captured = capture_connection(&mut request);
        let outcome = pool.request(request).await;
        let is_reused = captured.connection_metadata().as_ref().is_some_and(|connected| {
            let mut extras = http::Extensions::new();
            connected.get_extras(&mut extras);
            extras.get::<Uses>().is_some_and(Uses::is_reuse)
        });
        match outcome {
            Ok(answer) => return Ok(answer),
            Err(error) if repeats_left > 0 && is_reused && !error.is_connect() => repeats_left -= 1,
            Err(error) => return Err(classify(&error, &address.peer())),
        }
    }
}

/// Finds our own error inside hyper's, or names what broke.
fn classify(error: &hyper_util::client::legacy::Error, peer: &str) -> NetError {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        if let Some(ours) = source.downcast_ref::<NetError>() {
            return ours.clone();
        }
        if let Some(theirs) = source.downcast_ref::<hyper::Error>() {
            return NetError::Broken {
                peer: peer.to_owned(),
                reason: body::broken_words(theirs),
            };
        }
        inner = source;
    }
    NetError::Broken {
        peer: peer.to_owned(),
        reason: inner.to_string(),
    }
}

async fn receive(answer: http::Response<Incoming>, peer: &str, limit: usize) -> Result<Response, NetError> {
    let (parts, incoming) = answer.into_parts();
    let (status, mut headers) = (parts.status.as_u16(), parts.headers);
    let encoding = headers
        .get(CONTENT_ENCODING)
        .map_or("identity", |value| value.to_str().unwrap_or("unreadable"))
        .to_ascii_lowercase();
    let is_gzip = match encoding.as_str() {
        "identity" | "" => false,
        "gzip" | "x-gzip" => true,
        other => {
            return Err(NetError::Broken {
                peer: peer.to_owned(),
                reason: format!("content encoding {other:?} was not asked for"),
            });
        }
    };
    let read = body::read(incoming, is_gzip, limit).await;
    let body = read.map_err(|fault| match fault {
        BodyFault::TooLong => NetError::TooLong {
            peer: peer.to_owned(),
            limit,
        },
        BodyFault::Broken(reason) => NetError::Broken {
            peer: peer.to_owned(),
            reason,
        },
    })?;
    if is_gzip {
        headers.remove(CONTENT_ENCODING);
        headers.remove(CONTENT_LENGTH);
    }
    Ok(Response {
        status,
        headers,
        body,
    })
}

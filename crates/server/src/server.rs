//! The server itself: it accepts connections, and answers "not yet" until the rooms behind it stand.
//!
//! The port is bound by the binary before the log is replayed, so that an orchestrator sees a live process;
//! [`Server::install`] opens the rest once everything is there.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use jiff::tz::TimeZone;
use marketprism_access::Access;
use marketprism_model::{Chance, Clock, StoreError, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::cache::changes::Changes;
use crate::cache::{Cache, CacheConfig};
use crate::clients::Clients;
use crate::config::Config;
use crate::forward::{FORWARDS_MAX, Forward};
use crate::metrics::{Figures, Metrics, Sources};
use crate::parts::{MetricsText, Parts};
use crate::problem::Problem;
use crate::push;
use crate::readiness::{Phase, Readiness};
use crate::routes;
use crate::stream::{ClientStream, PacedBody};
use crate::tls::{self, Tls, TlsConfig, TlsError};
use crate::workers::{WorkError, Workers};

/// Requests under way may take this long to end after the cancellation.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (no file handles left, mostly) the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;
/// So many streams of a client may be reset and not yet forgotten before its connection ends.
const RESETS_MAX: usize = 20;
/// Bytes that a client may send ahead on an HTTP/2 connection.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes that a client may send ahead on one stream of it.
const STREAM_WINDOW_BYTES: u32 = 1 << 18;
/// Bytes of answers that lie ready for one stream.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Kernel answers of a peer are awaited this long on an idle HTTP/2 connection.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Backtests that run at once: a core is left to alerting on the smallest machine.
const BACKTEST_WORKERS: usize = 1;
/// Backtests that wait.
const BACKTEST_QUEUE: usize = 4;
/// Requests with a password to check that are handled at once: as many as `access` checks and lets wait on any machine, so
/// that it is asked and says itself that it is busy.
const PASSWORD_WORKERS: usize = 24;
/// Requests with a password to check that may wait.
const PASSWORD_QUEUE: usize = 64;

/// What every handler can reach.
pub struct Shared {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
    pub(crate) started_at: Timestamp,
    pub(crate) zone: TimeZone,
    pub(crate) queries: Workers,
    pub(crate) store: Workers,
    pub(crate) pushes: Workers,
    pub(crate) push_budget: Semaphore,
    /// For checking passwords, which is slow by design.
    pub(crate) passwords: Workers,
    /// For sessions, tokens and the audit log.
    pub(crate) sessions: Workers,
    pub(crate) cache: Arc<Cache>,
    /// For backtests of rules, one after the other.
    pub(crate) backtests: Workers,
    /// Requests that a standby may pass on at once.
    pub(crate) forwards: Semaphore,
    clients: Arc<Clients>,
    tls: RwLock<Option<Tls>>,
    forwarder: OnceLock<Arc<dyn Forward>>,
    metrics_text: OnceLock<MetricsText>,
    access: OnceLock<Arc<Access>>,
    parts: OnceLock<Arc<Parts>>,
}

/// The HTTP server. Clones share everything.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

impl Server {
    /// Makes a server that knows only how to say that it starts.
    pub fn new(config: Config, clock: Arc<dyn Clock>, chance: Arc<dyn Chance>, readiness: Readiness) -> Self {
        let sources = Sources {
            queries: Workers::stepping_back("query", config.query_workers(), config.query_queue()),
            pushes: Workers::new(config.store_workers(), config.store_queue()),
            look_ups: Workers::new(config.store_workers(), config.store_queue()),
            cache: Cache::new(config.cache, Arc::clone(&clock)),
            clients: Clients::new(config.connections_max, config.connections_per_client_max),
        };
        Server(Arc::new(Shared {
            queries: sources.queries.clone(),
            store: sources.look_ups.clone(),
            pushes: sources.pushes.clone(),
            cache: Arc::clone(&sources.cache),
            clients: Arc::clone(&sources.clients),
            forwards: Semaphore::new(FORWARDS_MAX),
            tls: RwLock::default(),
            forwarder: OnceLock::new(),
            metrics_text: OnceLock::new(),
            push_budget: Semaphore::new(push::budget(config.push_bytes_max)),
            started_at: clock.now(),
            zone: TimeZone::get(&config.time_zone).unwrap_or(TimeZone::UTC),
            metrics: Metrics::new(sources),
            passwords: Workers::new(PASSWORD_WORKERS, PASSWORD_QUEUE),
            backtests: Workers::stepping_back("backtest", BACKTEST_WORKERS, BACKTEST_QUEUE),
            sessions: Workers::new(config.store_workers(), config.store_queue()),
            access: OnceLock::new(),
            parts: OnceLock::new(),
            config,
            clock,
            chance,
            readiness,
        }))
    }

    /// Gives who may ask what; until then every route that needs more than nothing says "not yet". Only the first call
    /// counts.
    pub fn install_access(&self, access: Arc<Access>) {
        let _ = self.0.access.set(access);
    }

    /// Gives the rooms to serve; from now on every route answers. Only the first call counts.
    pub fn install(&self, parts: Parts) {
        let _ = self.0.parts.set(Arc::new(parts));
    }

    /// Gives the program's figures as text, for `/metrics` before the rooms stand. Only the first call counts.
    pub fn install_metrics(&self, text: MetricsText) {
        let _ = self.0.metrics_text.set(text);
    }

    /// Gives who passes requests on while this replica stands by ([`Phase::StandingBy`]). Only the first call counts.
    pub fn stand_by(&self, forwarder: Arc<dyn Forward>) {
        let _ = self.0.forwarder.set(forwarder);
    }

    /// Says where changes of the store are noticed, so that answers of queries can be kept while they are right.
    /// Without it none is. Only the first call counts.
    pub fn watch_changes(&self, changes: Changes) {
        self.0.cache.watch(changes);
    }

    /// Changes how many answers of queries are kept, and how long.
    pub fn set_cache(&self, config: CacheConfig) {
        self.0.cache.set_config(config);
    }

    /// Shows another certificate from the next connection on; `None` speaks plain HTTP.
    pub fn set_tls(&self, tls: Option<Tls>) {
        let ends_at = tls.as_ref().and_then(Tls::ends_at);
        let seconds = ends_at.map_or(0, |at| at.millis() / 1000);
        self.0.metrics.certificate_ends_at.set(seconds);
        *self.0.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// Reads certificate and key anew and shows them from the next connection on; says whether they are other ones.
    ///
    /// After an error the old ones stay. Reads files: call it off the async threads. TLS itself is turned on and off at
    /// a start only, for a port that changes its language locks out whoever was told the old one.
    pub fn renew_tls(&self, config: &TlsConfig) -> Result<bool, TlsError> {
        let Some(next) = config.prepare(self.0.clock.now())? else {
            return Ok(false);
        };
        match self.tls() {
            Some(current) if !current.is_same(&next) => {
                for warning in next.warnings() {
                    tracing::warn!(warning, "certificate");
                }
                self.set_tls(Some(next));
                tracing::info!("the server shows a new certificate");
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Gives `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        match self.tls() {
            Some(_) => "https",
            None => "http",
        }
    }

    /// Tells how busy the server is.
    pub fn figures(&self) -> Figures {
        self.0.metrics.sources.figures()
    }

    /// Gives the server's own figures, for the program's registry.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Says whether browsers reach this server by HTTPS only, so that a cookie may insist on it.
    pub(crate) fn is_secured(&self) -> bool {
        self.0.config.ssl.enabled || self.0.config.external_url.starts_with("https://")
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Gives who may ask what, or the problem to answer while that is not known.
    pub(crate) fn access(&self) -> Result<Arc<Access>, Problem> {
        self.0.access.get().cloned().ok_or_else(|| self.not_yet())
    }

    /// Gives the rooms, or the problem to answer while they are not there.
    pub(crate) fn parts(&self) -> Result<Arc<Parts>, Problem> {
        self.0.parts.get().cloned().ok_or_else(|| self.not_yet())
    }

    /// Gives what writes the program's figures.
    pub(crate) fn metrics_text(&self) -> Result<MetricsText, Problem> {
        self.0.metrics_text.get().cloned().ok_or_else(|| self.not_yet())
    }

    pub(crate) fn forwarder(&self) -> Option<Arc<dyn Forward>> {
        self.0.forwarder.get().cloned()
    }

    fn tls(&self) -> Option<Tls> {
        self.0.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn not_yet(&self) -> Problem {
        match self.0.readiness.phase() {
            Phase::Starting(reason) => Problem::not_ready(reason),
            Phase::StandingBy { .. } | Phase::Ready | Phase::Draining => {
                Problem::not_ready("the server is not complete yet")
            }
        }
    }

    /// Runs a look-up in the records off the async threads.
    pub(crate) async fn look_up<T: Send + 'static>(
        &self,
        ask: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.act(ask).await
    }

    /// Does what somebody asked for off the async threads.
    pub(crate) async fn act<T: Send + 'static, E: Into<Problem> + Send + 'static>(
        &self,
        act: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem> {
        match self.0.store.run(act).await {
            Ok(outcome) => outcome.map_err(Into::into),
            Err(error @ WorkError::Full { .. }) => Err(Problem::busy(error.to_string())),
            Err(WorkError::Panicked) => Err(Problem::internal()),
        }
    }

    /// Serves until `cancel`, then lets what is under way end, for ten seconds at most.
    pub async fn serve(self, listener: TcpListener, cancel: CancellationToken) -> io::Result<()> {
        let router = routes::router(self.clone());
        let graceful = GracefulShutdown::new();
        while let Some((stream, peer)) = self.next_connection(&listener, &cancel).await {
            let connection = Connection {
                server: self.clone(),
                router: router.clone(),
                peer,
                watcher: graceful.watcher(),
            };
            let cancel = cancel.clone();
            tokio::spawn(connection.run(stream, cancel));
        }
        drop(listener);
        if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("requests were still under way when the server stopped");
        }
        Ok(())
    }

    /// Waits for a client; `None` after the cancellation.
    async fn next_connection(
        &self,
        listener: &TcpListener,
        cancel: &CancellationToken,
    ) -> Option<(TcpStream, SocketAddr)> {
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => return None,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => return Some(accepted),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.0.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One accepted connection, from its place to its end.
struct Connection {
    server: Server,
    router: axum::Router,
    peer: SocketAddr,
    watcher: Watcher,
}

impl Connection {
    async fn run(self, stream: TcpStream, cancel: CancellationToken) {
        let shared = Arc::clone(&self.server.0);
        let beginning = async {
            let visit = match shared.clients.enter(self.peer.ip()).await {
                Ok(visit) => visit,
                Err(refused) => {
                    tracing::debug!(error = %refused, "a connection was refused");
                    return None;
                }
            };
            let _ = stream.set_nodelay(true);
            let spoken = match self.server.tls() {
                None => Spoken::Plain(stream),
                Some(tls) => self.shake_hands(stream, &tls).await?,
            };
            Some((visit, spoken))
        };
        // A wait for a place or a handshake is nothing that a stop waits for.
        let limit = shared.clock.sleep(shared.config.header_timeout);
        let begun = tokio::select! {
            biased;
            begun = beginning => begun,
            () = limit => None,
            () = cancel.cancelled() => None,
        };
        let Some((_visit, spoken)) = begun else { return };
        shared.metrics.connections.inc();
        let served = match spoken {
            Spoken::Plain(stream) => self.speak(stream).await,
            Spoken::Tls(stream) => self.speak(*stream).await,
        };
        shared.metrics.connections.dec();
        if let Err(error) = served {
            tracing::debug!(error = %error, "a connection ended early");
        }
    }

    /// Agrees on TLS. Whoever speaks plain HTTP instead is told so.
    async fn shake_hands(&self, mut stream: TcpStream, tls: &Tls) -> Option<Spoken> {
        let metrics = &self.server.0.metrics;
        let mut first = [0; 1];
        // A TLS record of a handshake begins with 22, a request of HTTP with a letter.
        if matches!(stream.peek(&mut first).await, Ok(1)) && first[0].is_ascii_alphabetic() {
            metrics.handshakes_failed.inc();
            let mut unread = [0; 4096];
            let _ = stream.read(&mut unread).await;
            let _ = stream.write_all(tls::PLAIN_ANSWER).await;
            let _ = stream.shutdown().await;
            return None;
        }
        match TlsAcceptor::from(tls.config()).accept(stream).await {
            Ok(stream) => Some(Spoken::Tls(Box::new(stream))),
            Err(error) => {
                metrics.handshakes_failed.inc();
                tracing::debug!(error = %error, "a TLS handshake failed");
                None
            }
        }
    }

    async fn speak<S>(self, stream: S) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Connection {
            server,
            router,
            peer,
            watcher,
        } = self;
        let (config, clock) = (&server.0.config, &server.0.clock);
        let stream = ClientStream::new(
            stream,
            Arc::clone(clock),
            config.header_timeout,
            config.write_timeout,
        );
        let (body_clock, body_timeout) = (Arc::clone(clock), config.body_timeout);
        let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request.map(|body| {
                let paced = PacedBody::new(body, Arc::clone(&body_clock), body_timeout);
                axum::body::Body::new(paced)
            }) as Request
        });
        let builder = protocols(config);
        let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        watcher.watch(serving).await
    }
}

/// What a client speaks below HTTP.
enum Spoken {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Gives HTTP/1.1 and HTTP/2 with their limits.
fn protocols(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(config.header_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_TIMEOUT)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

//! The server itself: it accepts connections, and answers "not yet" until the rooms behind it stand.
//!
//! The port is bound by the binary before the log is replayed, so that an orchestrator sees a live process;
//! [`Server::install`] opens the rest once everything is there.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use jiff::tz::TimeZone;
use marketprism_model::{Chance, Clock, StoreError, Timestamp};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::parts::Parts;
use crate::problem::Problem;
use crate::push;
use crate::readiness::{Phase, Readiness};
use crate::routes;
use crate::stream::ClientStream;
use crate::workers::{WorkError, Workers};

/// Requests under way may take this long to end after the cancellation.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (no file handles left, mostly) the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;
/// Kernel answers of a peer are awaited this long on an idle HTTP/2 connection.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

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
    parts: OnceLock<Arc<Parts>>,
}

/// The HTTP server. Clones share everything.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

impl Server {
    /// Makes a server that knows only how to say that it starts.
    pub fn new(config: Config, clock: Arc<dyn Clock>, chance: Arc<dyn Chance>, readiness: Readiness) -> Self {
        Server(Arc::new(Shared {
            queries: Workers::new(config.query_workers, config.query_queue),
            store: Workers::new(config.store_workers, config.store_queue),
            pushes: Workers::new(config.store_workers, config.store_queue),
            push_budget: Semaphore::new(push::budget(config.push_bytes_max)),
            started_at: clock.now(),
            zone: TimeZone::get(&config.time_zone).unwrap_or(TimeZone::UTC),
            metrics: Metrics::default(),
            parts: OnceLock::new(),
            config,
            clock,
            chance,
            readiness,
        }))
    }

    /// Gives the rooms to serve; from now on every route answers. Only the first call counts.
    pub fn install(&self, parts: Parts) {
        let _ = self.0.parts.set(Arc::new(parts));
    }

    /// Gives the server's own figures, for the program's registry.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Gives the rooms, or the problem to answer while they are not there.
    pub(crate) fn parts(&self) -> Result<Arc<Parts>, Problem> {
        self.0
            .parts
            .get()
            .cloned()
            .ok_or_else(|| match self.0.readiness.phase() {
                Phase::Starting(reason) => Problem::not_ready(reason),
                Phase::Ready | Phase::Draining => Problem::not_ready("the server is not complete yet"),
            })
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
    ///
    /// Errors: only when the listener has no address any more.
    pub async fn serve(self, listener: TcpListener, cancel: CancellationToken) -> io::Result<()> {
        tracing::info!(target = %listener.local_addr()?, "the server listens");
        let router = routes::router(self.clone());
        let places = Arc::new(Semaphore::new(self.0.config.connections_max));
        let graceful = GracefulShutdown::new();
        while let Some((stream, peer, place)) = self.next_connection(&listener, &places, &cancel).await {
            let connection = self
                .clone()
                .connection(stream, peer, router.clone(), graceful.watcher());
            tokio::spawn(async move {
                connection.await;
                drop(place);
            });
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

    /// Waits for a place and a client; `None` after the cancellation.
    async fn next_connection(
        &self,
        listener: &TcpListener,
        places: &Arc<Semaphore>,
        cancel: &CancellationToken,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let place = tokio::select! {
            () = cancel.cancelled() => return None,
            place = Arc::clone(places).acquire_owned() => place.expect("the semaphore is never closed"),
        };
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => return None,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => return Some((stream, peer, place)),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.0.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr, router: axum::Router, watcher: Watcher) {
        let config = &self.0.config;
        let _ = stream.set_nodelay(true);
        let stream = ClientStream::new(
            stream,
            Arc::clone(&self.0.clock),
            config.header_timeout,
            config.write_timeout,
        );
        let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request.map(axum::body::Body::new) as Request
        });
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
            .keep_alive_interval(PING_TIMEOUT)
            .keep_alive_timeout(PING_TIMEOUT);
        self.0.metrics.connections.inc();
        let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        if let Err(error) = watcher.watch(serving).await {
            tracing::debug!(error = %error, "a connection ended early");
        }
        self.0.metrics.connections.dec();
    }
}

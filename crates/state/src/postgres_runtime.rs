//! One thread that does the input and output of all connections to PostgreSQL.
//!
//! The callers block, on whatever thread they are: a runtime of our own that nobody else enters cannot be in their way,
//! nor they in its. Every call has a limit, after which the caller goes on with an error.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How long a statement may take, as the caller sees it; the server gives up before.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(30);

/// The thread; it ends, without being waited for, when this is dropped.
pub(crate) struct IoThread {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl IoThread {
    pub(crate) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("postgresql".to_owned())
            .spawn(move || {
                let _ = runtime.block_on(ended);
                runtime.shutdown_background();
            })?;
        Ok(IoThread { handle, _end: end })
    }

    /// Runs a future on the thread and waits for its answer, `None` when it takes longer than `limit`.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        limit: Duration,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            if let Ok(value) = tokio::time::timeout(limit, future).await {
                let _ = answer.send(value);
            }
        });
        // The sender is dropped when the limit has passed.
        answered.recv().ok()
    }

    /// Runs a future on the thread; it ends with the thread.
    pub(crate) fn beside(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(future);
    }
}

/// Waits; for futures on the thread.
#[expect(
    clippy::disallowed_methods,
    reason = "a server that is away keeps real time; nothing of the domain waits here"
)]
pub(crate) async fn sleep(pause: Duration) {
    tokio::time::sleep(pause).await;
}

/// Waits for an answer, `None` when it takes longer than `limit`; for futures on the thread.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

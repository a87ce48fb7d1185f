//! The loop that cuts blocks and cleans up, each at its own pace.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{AlertStore, Clock};
use marketprism_storage::Store;
use tokio_util::sync::CancellationToken;

/// How often the store is asked whether a block is due.
const STORE_INTERVAL: Duration = Duration::from_secs(60);

/// What the loop works on.
pub struct Maintenance {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Samples.
    pub store: Store,
    /// Records.
    pub records: Arc<dyn AlertStore>,
    /// How often old records are deleted.
    pub cleanup_interval: Duration,
    /// How long resolved alerts are kept.
    pub history_retention: Duration,
}

/// Maintains until `cancel`. A step that fails is logged and tried again when it is due next.
pub async fn run(work: Maintenance, cancel: CancellationToken) {
    let work = Arc::new(work);
    let mut cleanup_due = work.clock.monotonic();
    while !cancel.is_cancelled() {
        let step = Arc::clone(&work);
        let cleans = work.clock.monotonic() >= cleanup_due;
        if cleans {
            cleanup_due = work.clock.monotonic() + work.cleanup_interval;
        }
        if let Err(error) = tokio::task::spawn_blocking(move || step.once(cleans)).await {
            tracing::error!(error = %error, "maintenance failed");
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = work.clock.sleep(STORE_INTERVAL.min(work.cleanup_interval)) => {}
        }
    }
}

impl Maintenance {
    fn once(&self, cleans: bool) {
        let now = self.clock.now();
        match self.store.maintain(now) {
            Ok(done) if done.blocks_cut + done.blocks_deleted > 0 => {
                tracing::info!(
                    cut = done.blocks_cut,
                    deleted = done.blocks_deleted,
                    "sample blocks maintained"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::error!(error = %error, "sample blocks not maintained"),
        }
        if !cleans {
            return;
        }
        match self.records.clean(now, self.history_retention) {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "old alerts deleted"),
            Err(error) => tracing::error!(error = %error, "old alerts not deleted"),
        }
    }
}

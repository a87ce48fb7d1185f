//! The loops that clean up: blocks of samples on every replica, records on the one that leads.

use std::sync::Arc;
use std::time::Duration;

use marketprism_access::Access;
use marketprism_model::Clock;
use marketprism_server::Changes;
use marketprism_storage::Store;
use tokio_util::sync::CancellationToken;

use crate::records::Records;

/// How often the store is asked whether a block is due.
const STORE_INTERVAL: Duration = Duration::from_secs(60);
/// How often the records are copied beside themselves, for a tar of the running folder may catch them half written.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(30);

/// What the loop over records works on.
pub struct RecordMaintenance {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The records.
    pub records: Records,
    /// Users, sessions and the audit log.
    pub access: Arc<Access>,
    /// How often old records are deleted.
    pub cleanup_interval: Duration,
    /// How long resolved alerts are kept.
    pub history_retention: Duration,
}

/// Calls `step` off the async threads at each `interval`, the first time at once, until `cancel`. A slow step is called
/// less often, so that it takes a twentieth of the time at most.
async fn every(
    clock: Arc<dyn Clock>,
    interval: Duration,
    cancel: CancellationToken,
    step: impl Fn() + Send + Sync + 'static,
) {
    let step = Arc::new(step);
    while !cancel.is_cancelled() {
        let turn = Arc::clone(&step);
        let began_at = clock.monotonic();
        if let Err(error) = tokio::task::spawn_blocking(move || turn()).await {
            tracing::error!(error = %error, "maintenance failed");
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = clock.sleep(interval.max(20 * clock.monotonic().saturating_sub(began_at))) => {}
        }
    }
}

/// Cuts and deletes blocks until `cancel`, asked at least each `cleanup_interval`. What fails is tried again.
pub async fn samples(
    clock: Arc<dyn Clock>,
    store: Store,
    changes: Changes,
    cleanup_interval: Duration,
    cancel: CancellationToken,
) {
    let time = Arc::clone(&clock);
    let step = move || {
        let rewriting = changes.rewriting();
        match store.maintain(time.now()) {
            Ok(done) if done.blocks_cut + done.blocks_deleted > 0 => {
                // A cut moves samples and changes none.
                if done.blocks_deleted == 0 {
                    rewriting.changed_nothing();
                }
                tracing::info!(
                    cut = done.blocks_cut,
                    deleted = done.blocks_deleted,
                    "sample blocks maintained"
                );
            }
            Ok(_) => rewriting.changed_nothing(),
            Err(error) => tracing::error!(error = %error, "sample blocks not maintained"),
        }
    };
    every(clock, STORE_INTERVAL.min(cleanup_interval), cancel, step).await;
}

/// Deletes old records, and copies what stands, until `cancel`. What fails is tried again.
pub async fn records(work: RecordMaintenance, cancel: CancellationToken) {
    let work = Arc::new(work);
    let cleaning = {
        let work = Arc::clone(&work);
        every(
            Arc::clone(&work.clock),
            work.cleanup_interval,
            cancel.clone(),
            move || work.clean(),
        )
    };
    let copying = every(Arc::clone(&work.clock), SNAPSHOT_INTERVAL, cancel, move || {
        if let Err(error) = work.records.snapshot() {
            tracing::warn!(error = %error, "no snapshot of the records was made");
        }
    });
    tokio::join!(cleaning, copying);
}

impl RecordMaintenance {
    fn clean(&self) {
        match self
            .records
            .alerts()
            .clean(self.clock.now(), self.history_retention)
        {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "old alerts deleted"),
            Err(error) => tracing::error!(error = %error, "old alerts not deleted"),
        }
        if let Err(error) = self.access.clean() {
            tracing::error!(error = %error, "old sessions and audit entries not deleted");
        }
    }
}

//! The loop that flushes groups when they are due and notes that the lifecycle runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use marketprism_model::LifecycleError;
use tokio_util::sync::CancellationToken;

use crate::alerts::Alerts;

/// How often the store is told that the lifecycle runs, and acknowledgements are looked through.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// How long to wait when the store refused.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

impl Alerts {
    /// Flushes due groups until `cancel`; then once more, so that nothing is left in memory.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut heartbeat_due = self.clock.now();
        let mut not_before = Duration::ZERO;
        while !cancel.is_cancelled() {
            let now = self.clock.now();
            self.turned_at.store(now.millis(), Ordering::Relaxed);
            let rest = not_before.saturating_sub(self.clock.monotonic());
            // A heartbeat further away than its interval means that the clock was set back.
            heartbeat_due = heartbeat_due.min(now + HEARTBEAT_INTERVAL);
            let due = self
                .next_flush()
                .map_or(heartbeat_due, |due| due.min(heartbeat_due))
                .max(now + rest);
            if due > now {
                tokio::select! {
                    () = cancel.cancelled() => break,
                    () = self.wake.notified() => {}
                    () = self.clock.sleep_until(due) => {}
                    // The wall clock may have been set back while we sleep.
                    () = self.clock.sleep(HEARTBEAT_INTERVAL) => {}
                }
                if self.clock.now() < due {
                    continue;
                }
            }
            let now = self.clock.now();
            let beats = now >= heartbeat_due;
            if beats {
                heartbeat_due = now + HEARTBEAT_INTERVAL;
            }
            let step = move |alerts: &Alerts| {
                if beats {
                    alerts.heartbeat(now)
                } else {
                    alerts.flush(now)
                }
            };
            if !Arc::clone(&self).blocking(step).await {
                not_before = self.clock.monotonic() + RETRY_INTERVAL;
            }
        }
        let now = self.clock.now();
        self.blocking(move |alerts| alerts.heartbeat(now)).await;
    }

    /// Runs a step off the async threads; says whether it went well.
    async fn blocking(
        self: Arc<Self>,
        step: impl FnOnce(&Alerts) -> Result<usize, LifecycleError> + Send + 'static,
    ) -> bool {
        match tokio::task::spawn_blocking(move || step(&self)).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "告警记录写入失败，稍后重试");
                false
            }
            Err(error) => {
                tracing::error!(error = %error, "告警分组发送任务异常");
                false
            }
        }
    }
}

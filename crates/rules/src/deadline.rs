//! How long one rule may take, and that it ends when the program does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use marketprism_model::Clock;
use marketprism_promql::{Interrupt, Stop};
use tokio_util::sync::CancellationToken;

use crate::evaluate::RuleInterrupt;

pub(crate) struct Deadline {
    clock: Arc<dyn Clock>,
    limit: Duration,
    stop: CancellationToken,
    begun_ms: AtomicU64,
}

impl Deadline {
    pub(crate) fn new(clock: Arc<dyn Clock>, limit: Duration, stop: CancellationToken) -> Self {
        Deadline {
            clock,
            limit,
            stop,
            begun_ms: AtomicU64::new(0),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Interrupt for Deadline {
    fn stop(&self) -> Option<Stop> {
        if self.stop.is_cancelled() {
            return Some(Stop::Cancelled);
        }
        let taken_ms = self
            .now_ms()
            .saturating_sub(self.begun_ms.load(Ordering::Relaxed));
        (u128::from(taken_ms) > self.limit.as_millis()).then_some(Stop::TimedOut)
    }
}

impl RuleInterrupt for Deadline {
    fn rule_begins(&self) {
        self.begun_ms.store(self.now_ms(), Ordering::Relaxed);
    }
}

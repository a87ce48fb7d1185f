//! A clock that stands until it is moved: simulated time.
//!
//! Deliberately absent: sleeping. A simulation decides when time goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use marketprism_model::{BoxFuture, Clock, Timestamp};

/// Time that the loop of a simulation moves. Nobody sleeps by it: whoever would, waits for ever.
#[derive(Clone, Debug)]
pub struct SimulatedClock {
    now: Arc<AtomicI64>,
    begun: i64,
}

impl SimulatedClock {
    /// Makes a clock that shows a moment.
    pub fn at(moment: Timestamp) -> Self {
        SimulatedClock {
            now: Arc::new(AtomicI64::new(moment.millis())),
            begun: moment.millis(),
        }
    }

    /// Shows another moment from now on.
    pub fn move_to(&self, moment: Timestamp) {
        self.now.store(moment.millis(), Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.now().since(Timestamp::from_millis(self.begun))
    }

    fn sleep_until(&self, _due: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn sleep(&self, _span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

//! The machine's own clock, for tests in which real processes take part.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use marketprism_model::{BoxFuture, Clock, Timestamp};

/// How long a sleeper trusts the wall clock before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Time as the machine has it.
#[derive(Clone)]
pub struct MachineClock {
    start: Instant,
}

impl Default for MachineClock {
    #[expect(clippy::disallowed_methods, reason = "this is a clock's own file")]
    fn default() -> Self {
        MachineClock {
            start: Instant::now(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is a clock's own file")]
fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(0) + since_epoch
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        wall()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is a clock's own file")]
    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            loop {
                let left = due.since(wall());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            }
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this is a clock's own file")]
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

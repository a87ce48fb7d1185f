//! The harness's own clock.
//!
//! Only this file asks the machine for the time. The harness stands outside the product: it feeds real
//! processes at real moments, so there is nothing here that a test could turn.
#![allow(
    clippy::disallowed_methods,
    reason = "the one place of the harness that reads the clock"
)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Gives milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the machine's clock stands after 1970");
    since.as_millis() as i64
}

/// Waits for `span`.
pub fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// Waits until the wall clock shows `due_ms`; returns at once when it already does.
pub fn wait_until(due_ms: i64) {
    let left = due_ms - now_ms();
    if left > 0 {
        pause(Duration::from_millis(left as u64));
    }
}

/// Measures wall time from its making.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Self {
        Stopwatch(Instant::now())
    }

    /// Gives the time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Asks `done` every `step` until it says yes; an error when `limit` passes first.
pub fn poll(
    what: &str,
    limit: Duration,
    step: Duration,
    mut done: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Duration> {
    let watch = Stopwatch::start();
    loop {
        if done()? {
            return Ok(watch.elapsed());
        }
        anyhow::ensure!(watch.elapsed() < limit, "{what}: not within {limit:?}");
        pause(step);
    }
}

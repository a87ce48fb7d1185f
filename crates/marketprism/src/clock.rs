//! The machine's time and chance: the only file that may ask for either.
//!
//! Everything else takes [`Clock`] and [`Chance`], so that tests can run the whole process in
//! simulated time.
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use marketprism_model::{BoxFuture, Chance, Clock, Entropy, Timestamp};

/// The machine's wall clock and its monotonic one.
pub struct SystemClock {
    origin: Instant,
}

/// A sleeper looks at the wall clock at least this often, so that a jump of it is noticed.
const WALL_CHECK: Duration = Duration::from_secs(1);

impl Default for SystemClock {
    /// Starts the monotonic clock at zero.
    fn default() -> Self {
        SystemClock {
            origin: Instant::now(),
        }
    }
}

fn wall_now() -> Timestamp {
    let millis = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    };
    Timestamp::from_millis(millis)
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        wall_now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            loop {
                let left = due.since(wall_now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(WALL_CHECK)).await;
            }
        })
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

/// Chance from the kernel, stretched by a mixing function.
pub struct SystemChance {
    state: AtomicU64,
    key: RandomState,
}

impl Default for SystemChance {
    /// Seeds from `/dev/urandom`; without one, from the standard library's random state.
    fn default() -> Self {
        let key = RandomState::new();
        let mut seed = [0u8; 8];
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed));
        let seed = match read {
            Ok(()) => u64::from_le_bytes(seed),
            Err(_) => key.hash_one(wall_now().millis()),
        };
        SystemChance {
            state: AtomicU64::new(seed),
            key,
        }
    }
}

impl Chance for SystemChance {
    fn next_u64(&self) -> u64 {
        self.key
            .hash_one(self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }
}

/// The machine's source of secrets.
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        while filled < bytes.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += match rustix::rand::getrandom(&mut bytes[filled..], flags) {
                Err(rustix::io::Errno::INTR) => 0,
                outcome => {
                    outcome.expect("every Linux since 3.17 has getrandom, and it fails on signals only")
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_shows_a_time_after_this_line_was_written() {
        assert!(SystemClock::default().now() > Timestamp::from_millis(1_780_000_000_000));
    }

    #[test]
    fn two_sources_of_chance_differ() {
        let (a, b) = (SystemChance::default(), SystemChance::default());
        assert_ne!((a.next_u64(), a.next_u64()), (b.next_u64(), b.next_u64()));
        let unit = a.next_unit_f64();
        assert!((0.0..1.0).contains(&unit));
    }
}

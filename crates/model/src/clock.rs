//! Time and chance, as ports.
//!
//! The binary gives the machine's own; a test gives hands it can turn and a seed it can repeat.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::Timestamp;

/// A future that can be stored and sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The only source of time.
pub trait Clock: Send + Sync + 'static {
    /// Gives the wall clock's moment. It may jump, in both directions.
    fn now(&self) -> Timestamp;

    /// Gives the time since some fixed moment; never goes back. For measuring how long something took.
    fn monotonic(&self) -> Duration;

    /// Waits until the wall clock shows `due` or later; follows the wall clock when it jumps.
    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()>;

    /// Waits for `span` of monotonic time; a jump of the wall clock changes nothing. For backoff and jitter.
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()>;
}

/// The only source of randomness.
pub trait Chance: Send + Sync + 'static {
    /// Gives 64 random bits.
    fn next_u64(&self) -> u64;

    /// Gives a number from 0 (included) to 1 (excluded).
    fn next_unit_f64(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The only source of secrets: randomness that nobody can guess, unlike [`Chance`], which a seed repeats.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the bytes.
    fn fill(&self, bytes: &mut [u8]);
}

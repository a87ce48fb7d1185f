//! A clock whose hands a test turns, and chance that a seed repeats.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use marketprism_model::{BoxFuture, Chance, Clock, Timestamp};

/// A clock that stands still until it is moved. Clones share their hands.
#[derive(Clone)]
pub struct ManualClock {
    hands: Arc<Mutex<Hands>>,
}

struct Hands {
    wall: Timestamp,
    monotonic: Duration,
    sleepers: Vec<Waker>,
}

impl ManualClock {
    /// Makes a clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        ManualClock {
            hands: Arc::new(Mutex::new(Hands {
                wall: start,
                monotonic: Duration::ZERO,
                sleepers: Vec::new(),
            })),
        }
    }

    /// Lets time pass; whoever slept until then wakes.
    pub fn advance(&self, span: Duration) {
        self.turn(|hands| {
            hands.wall = hands.wall + span;
            hands.monotonic += span;
        });
    }

    /// Sets the wall clock, as an administrator or a broken time server does; no time passes.
    pub fn jump_to(&self, wall: Timestamp) {
        self.turn(|hands| hands.wall = wall);
    }

    fn turn(&self, change: impl FnOnce(&mut Hands)) {
        let sleepers = {
            let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut hands);
            std::mem::take(&mut hands.sleepers)
        };
        sleepers.into_iter().for_each(Waker::wake);
    }

    fn sleep_while(
        &self,
        is_early: impl Fn(&Hands) -> bool + Send + Unpin + 'static,
    ) -> BoxFuture<'static, ()> {
        Box::pin(Sleep {
            hands: Arc::clone(&self.hands),
            is_early,
        })
    }
}

struct Sleep<F> {
    hands: Arc<Mutex<Hands>>,
    is_early: F,
}

impl<F: Fn(&Hands) -> bool + Unpin> Future for Sleep<F> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        if !(self.is_early)(&hands) {
            return Poll::Ready(());
        }
        hands.sleepers.push(context.waker().clone());
        Poll::Pending
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner).wall
    }

    fn monotonic(&self) -> Duration {
        self.hands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .monotonic
    }

    fn sleep_until(&self, due: Timestamp) -> BoxFuture<'static, ()> {
        self.sleep_while(move |hands| hands.wall < due)
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        let due = self.monotonic().saturating_add(span);
        self.sleep_while(move |hands| hands.monotonic < due)
    }
}

/// Chance that gives the same numbers for the same seed.
///
/// Source: Steele, Lea and Flood (2014), SplitMix64.
pub struct SeededChance(Mutex<u64>);

impl SeededChance {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Self {
        SeededChance(Mutex::new(seed))
    }
}

impl Chance for SeededChance {
    fn next_u64(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

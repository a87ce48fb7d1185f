//! Notices when a loop has stood still, so that whoever asks `/health` can have the process started anew.
//!
//! A loop notes the wall time at each turn; the watchdog measures by the monotonic clock how long that note
//! has not changed, so that a jump of the wall clock is no silence.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use marketprism_model::{Clock, Timestamp, duration};

/// Gives when a loop last turned.
pub type TurnedAt = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// Watches loops by the moment of their last turn.
pub struct Watchdog {
    clock: Arc<dyn Clock>,
    loops: Mutex<Vec<Watched>>,
}

struct Watched {
    name: &'static str,
    patience: Duration,
    turned_at: TurnedAt,
    seen: Timestamp,
    changed_at: Duration,
}

impl Watchdog {
    /// Makes a watchdog that watches nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Watchdog {
            clock,
            loops: Mutex::default(),
        }
    }

    /// Watches a loop that turns at least every `patience`.
    pub fn watch(&self, name: &'static str, patience: Duration, turned_at: TurnedAt) {
        let watched = Watched {
            name,
            patience,
            seen: turned_at(),
            turned_at,
            changed_at: self.clock.monotonic(),
        };
        self.loops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(watched);
    }

    /// Says which loops stand still, and for how long. Sees only what changed between two calls.
    pub fn verdict(&self) -> Result<(), String> {
        let now = self.clock.monotonic();
        let mut late = Vec::new();
        for watched in self
            .loops
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter_mut()
        {
            let turned_at = (watched.turned_at)();
            if turned_at != watched.seen {
                (watched.seen, watched.changed_at) = (turned_at, now);
            }
            let silent = now.saturating_sub(watched.changed_at);
            if silent > watched.patience {
                late.push(format!(
                    "{} has stood still for {}",
                    watched.name,
                    duration::format(silent)
                ));
            }
        }
        if late.is_empty() {
            Ok(())
        } else {
            Err(late.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use marketprism_testkit::ManualClock;

    #[test]
    fn a_silent_loop_is_named_and_a_turn_clears_it() {
        let clock = ManualClock::new(Timestamp::from_millis(0));
        let turned_at = Arc::new(Mutex::new(clock.now()));
        let watchdog = Watchdog::new(Arc::new(clock.clone()));
        let read = Arc::clone(&turned_at);
        watchdog.watch(
            "rules",
            Duration::from_secs(60),
            Box::new(move || *read.lock().expect("no holder panics")),
        );
        clock.advance(Duration::from_secs(60));
        assert_eq!(watchdog.verdict(), Ok(()));
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            watchdog.verdict(),
            Err("rules has stood still for 1m1s".to_owned())
        );
        *turned_at.lock().expect("no holder panics") = clock.now();
        assert_eq!(watchdog.verdict(), Ok(()));
        clock.jump_to(Timestamp::from_millis(86_400_000));
        assert_eq!(
            watchdog.verdict(),
            Ok(()),
            "a jump of the wall clock is no silence"
        );
    }
}

//! Which replica evaluates and tells: one at a time, by a lease in the shared database.
//!
//! A replica that does not lead stands by: it takes samples, and forwards what it is asked to the one that leads.
//! One that leads renews its lease. While the database is away nobody can take the lease, and the leader goes on; its
//! writes wait, and so do its messages, for each is noted in the database before its first byte leaves. One whose lease
//! was taken meanwhile is refused there, notices it here, and starts anew as a standby.
//! Deliberately absent: who may lead. Whoever asks first does.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Claim, Clock, LeaseStore, Replica, StoreError};
use tokio_util::sync::CancellationToken;

/// A leader that is silent for this long is replaced.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often the lease is renewed, or asked for.
const PACE: Duration = Duration::from_secs(3);

/// The lease, from this replica's side.
#[derive(Clone)]
pub struct Leadership {
    store: Arc<dyn LeaseStore>,
    replica: Replica,
    clock: Arc<dyn Clock>,
}

impl Leadership {
    /// Takes where the lease is kept and who we are.
    pub fn new(store: Arc<dyn LeaseStore>, replica: Replica, clock: Arc<dyn Clock>) -> Self {
        Leadership {
            store,
            replica,
            clock,
        }
    }

    async fn claim(&self) -> Result<Claim, StoreError> {
        let (store, replica) = (Arc::clone(&self.store), self.replica.clone());
        let claiming = tokio::task::spawn_blocking(move || store.claim(&replica, LEASE));
        claiming.await.unwrap_or_else(|error| {
            Err(StoreError::Database {
                operation: "claim the lease",
                reason: error.to_string(),
            })
        })
    }

    /// Waits until this replica leads; gives the epoch, or `None` after the cancellation.
    ///
    /// `standing_by` hears of each other replica that leads meanwhile.
    pub async fn gain(
        &self,
        cancel: &CancellationToken,
        mut standing_by: impl FnMut(&Replica),
    ) -> Option<u64> {
        let mut seen = None;
        let mut is_away = false;
        while !cancel.is_cancelled() {
            match self.claim().await {
                Ok(Claim::Ours { epoch }) => {
                    tracing::info!(epoch, "this replica leads");
                    return Some(epoch);
                }
                Ok(Claim::Theirs { holder }) => {
                    is_away = false;
                    if seen.as_ref() != Some(&holder) {
                        tracing::info!(leader = holder.address, "another replica leads; standing by");
                        standing_by(&holder);
                        seen = Some(holder);
                    }
                }
                Err(error) => warn_once(&mut is_away, &error),
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.clock.sleep(PACE) => {}
            }
        }
        None
    }

    /// Renews the lease; returns when another replica has taken it, or after the cancellation, then giving it back.
    pub async fn keep(&self, epoch: u64, cancel: &CancellationToken) {
        let mut is_away = false;
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.clock.sleep(PACE) => {}
            }
            match self.claim().await {
                Ok(Claim::Ours { epoch: now }) if now == epoch => is_away = false,
                // A new epoch means that somebody led in between: what this process remembers is out of date. The lease
                // is given back, for whoever starts anew has another name.
                Ok(Claim::Ours { .. }) => {
                    tracing::warn!("another replica led in between; starting anew");
                    break;
                }
                Ok(Claim::Theirs { holder }) => {
                    tracing::warn!(
                        leader = holder.address,
                        "another replica has taken the lease; standing by"
                    );
                    return;
                }
                Err(error) => warn_once(&mut is_away, &error),
            }
        }
        let (store, replica) = (Arc::clone(&self.store), self.replica.clone());
        let released = tokio::task::spawn_blocking(move || store.release(&replica)).await;
        if let Ok(Err(error)) = released {
            tracing::warn!(error = %error, "lease not given back; the next leader waits until it runs out");
        }
    }
}

fn warn_once(is_away: &mut bool, error: &StoreError) {
    if !*is_away {
        tracing::warn!(error = %error, "lease not renewed; trying again every few seconds");
    }
    *is_away = true;
}

#[cfg(test)]
mod tests {
    use super::*;
    use marketprism_model::Timestamp;
    use marketprism_testkit::ManualClock;
    use std::sync::Mutex;

    /// A lease on paper, by the tests' clock.
    struct Paper {
        clock: ManualClock,
        state: Mutex<(Option<Replica>, u64, Duration, bool)>,
    }

    impl LeaseStore for Paper {
        fn claim(&self, replica: &Replica, lasting: Duration) -> Result<Claim, StoreError> {
            let mut state = self.state.lock().expect("no test panics with it");
            let (holder, epoch, until, is_away) = &mut *state;
            if *is_away {
                return Err(StoreError::Database {
                    operation: "claim",
                    reason: "away".to_owned(),
                });
            }
            let now = self.clock.monotonic();
            if let Some(holder) = holder.as_ref().filter(|holder| *holder != replica)
                && now < *until
            {
                return Ok(Claim::Theirs {
                    holder: holder.clone(),
                });
            }
            if holder.as_ref() != Some(replica) {
                *epoch += 1;
            }
            (*holder, *until) = (Some(replica.clone()), now + lasting);
            Ok(Claim::Ours { epoch: *epoch })
        }

        fn release(&self, replica: &Replica) -> Result<(), StoreError> {
            let mut state = self.state.lock().expect("no test panics with it");
            if state.0.as_ref() == Some(replica) {
                state.2 = Duration::ZERO;
            }
            Ok(())
        }
    }

    fn replica(id: &str) -> Replica {
        Replica {
            id: id.to_owned(),
            address: format!("{id}:8082"),
        }
    }

    struct Pair {
        clock: ManualClock,
        paper: Arc<Paper>,
    }

    impl Pair {
        fn new() -> Self {
            let clock = ManualClock::new(Timestamp::from_millis(0));
            let paper = Arc::new(Paper {
                clock: clock.clone(),
                state: Mutex::new((None, 0, Duration::ZERO, false)),
            });
            Pair { clock, paper }
        }

        fn leadership(&self, id: &str) -> Leadership {
            Leadership::new(
                Arc::clone(&self.paper) as _,
                replica(id),
                Arc::new(self.clock.clone()),
            )
        }

        fn set_away(&self, is_away: bool) {
            self.paper.state.lock().expect("no test panics with it").3 = is_away;
        }

        /// Turns the hands second by second until the task has ended; gives the seconds, at most 60.
        async fn turn_until<T>(&self, task: &tokio::task::JoinHandle<T>) -> u32 {
            for second in 0..=60 {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                    tokio::task::spawn_blocking(|| ())
                        .await
                        .expect("a blocking thread");
                }
                // Whatever the last second set off has been done too, for the test may change its world now.
                if task.is_finished() || second == 60 {
                    return second;
                }
                self.clock.advance(Duration::from_secs(1));
            }
            unreachable!("the last second returns")
        }
    }

    #[tokio::test]
    async fn a_silent_leader_is_replaced_within_fifteen_seconds_and_one_that_leaves_at_once() {
        let pair = Pair::new();
        let (a, b) = (pair.leadership("a"), pair.leadership("b"));
        let cancel = CancellationToken::new();
        assert_eq!(a.gain(&cancel, |_| ()).await, Some(1));
        let waiting = tokio::spawn({
            let (b, cancel) = (b.clone(), cancel.clone());
            async move {
                let mut seen = Vec::new();
                let epoch = b.gain(&cancel, |holder| seen.push(holder.address.clone())).await;
                (epoch, seen)
            }
        });
        let seconds = pair.turn_until(&waiting).await;
        assert!((8..=15).contains(&seconds), "replaced after {seconds} s");
        assert_eq!(
            waiting.await.expect("no panic"),
            (Some(2), vec!["a:8082".to_owned()])
        );

        let leaving = CancellationToken::new();
        leaving.cancel();
        b.keep(2, &leaving).await;
        assert_eq!(a.gain(&cancel, |_| ()).await, Some(3));
    }

    #[tokio::test]
    async fn a_leader_goes_on_while_the_database_is_away_and_steps_down_when_another_has_led() {
        let pair = Pair::new();
        let (a, b) = (pair.leadership("a"), pair.leadership("b"));
        let cancel = CancellationToken::new();
        let epoch = a.gain(&cancel, |_| ()).await.expect("it is free");
        let keeping = tokio::spawn({
            let (a, cancel) = (a.clone(), cancel.clone());
            async move { a.keep(epoch, &cancel).await }
        });
        pair.set_away(true);
        assert_eq!(pair.turn_until(&keeping).await, 60, "it goes on");
        pair.set_away(false);
        assert_eq!(b.gain(&cancel, |_| ()).await, Some(2), "the lease has run out");
        assert!(pair.turn_until(&keeping).await < 5, "it steps down");
    }

    #[tokio::test]
    async fn a_start_that_was_called_off_takes_no_lease() {
        let pair = Pair::new();
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert_eq!(pair.leadership("a").gain(&cancel, |_| ()).await, None);
        let wanted = CancellationToken::new();
        assert_eq!(pair.leadership("b").gain(&wanted, |_| ()).await, Some(1));
    }
}

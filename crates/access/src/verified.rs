//! Passwords that were just found right, so that a tool asking every few seconds does not run argon2 each time.
//!
//! What is kept is a keyed print of name and password, and of the stored hash that it was right against: with a
//! new password the old print is worth nothing. Equal requests at the same time wait for the first one's check.
//! Deliberately absent: passwords that were wrong; those are counted by `attempts`.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::bounded::Bounded;
use crate::keys::Print;

/// Credentials that are kept.
const KEPT_MAX: usize = 1024;
/// How long after its last use a credential is kept.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// Requests that wait for an equal one's check.
const WAITING_MAX: usize = 32;

/// Remembers right passwords.
pub(crate) struct Verified {
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    kept: Bounded<Print, Kept>,
    running: HashSet<Print>,
    waiting: usize,
}

#[derive(Clone, Copy)]
struct Kept {
    mark: Print,
    used_at: Duration,
}

/// Leave to check a credential; equal requests wait until it is dropped.
pub(crate) struct Turn<'a> {
    verified: &'a Verified,
    credential: Print,
}

impl Verified {
    pub(crate) fn new() -> Self {
        let state = State {
            kept: Bounded::new(KEPT_MAX),
            running: HashSet::new(),
            waiting: 0,
        };
        Verified {
            state: Mutex::new(state),
            ended: Condvar::new(),
        }
    }

    /// Gives the print of the hash that `credential` was right against.
    pub(crate) fn mark(&self, credential: Print, now: Duration) -> Option<Print> {
        let mut state = self.state.lock();
        let kept = state.kept.get(&credential)?;
        if now.saturating_sub(kept.used_at) > KEPT_FOR {
            state.kept.remove(&credential);
            return None;
        }
        kept.used_at = now;
        Some(kept.mark)
    }

    /// Waits for equal checks to end; `None` when too many wait already. The caller asks [`Verified::mark`] again.
    pub(crate) fn turn(&self, credential: Print) -> Option<Turn<'_>> {
        let mut state = self.state.lock();
        while state.running.contains(&credential) {
            if state.waiting >= WAITING_MAX {
                return None;
            }
            state.waiting += 1;
            self.ended.wait(&mut state);
            state.waiting -= 1;
        }
        state.running.insert(credential);
        Some(Turn {
            verified: self,
            credential,
        })
    }

    pub(crate) fn keep(&self, credential: Print, mark: Print, now: Duration) {
        let kept = Kept { mark, used_at: now };
        self.state.lock().kept.put(credential, kept);
    }

    pub(crate) fn forget(&self, credential: Print) {
        self.state.lock().kept.remove(&credential);
    }

    pub(crate) fn clear(&self) {
        self.state.lock().kept.clear();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.verified.state.lock().running.remove(&self.credential);
        self.verified.ended.notify_all();
    }
}

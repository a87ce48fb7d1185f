//! What was read from the records and is believed for five seconds.
//!
//! A change made here is seen at once; a change made by another replica within the five seconds. Deliberately
//! absent: answers to what anybody can make up; only keys that a signature or a password vouches for come here.

use std::hash::Hash;
use std::time::Duration;

use marketprism_model::StoreError;
use parking_lot::Mutex;

use crate::bounded::Bounded;

/// How long an answer is believed.
pub(crate) const BELIEVED: Duration = Duration::from_secs(5);

/// Answers by key.
pub(crate) struct Remembered<K, V>(Mutex<State<K, V>>);

struct State<K, V> {
    /// With the moment until which each is believed.
    answers: Bounded<K, (V, Duration)>,
    /// Counts what was forgotten, so that an answer read before a change is not put in after it.
    changes: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Remembered<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Remembered(Mutex::new(State {
            answers: Bounded::new(max),
            changes: 0,
        }))
    }

    /// Gives the answer, read anew when it is too old; `now` is monotonic.
    pub(crate) fn get(
        &self,
        key: &K,
        now: Duration,
        read: impl FnOnce() -> Result<V, StoreError>,
    ) -> Result<V, StoreError> {
        let changes = {
            let mut state = self.0.lock();
            if let Some((answer, believed_until)) = state.answers.get(key)
                && now < *believed_until
            {
                return Ok(answer.clone());
            }
            state.changes
        };
        let answer = read()?;
        let mut state = self.0.lock();
        if state.changes == changes {
            state.answers.put(key.clone(), (answer.clone(), now + BELIEVED));
        }
        Ok(answer)
    }

    /// Says whether there was an answer lately, however old.
    pub(crate) fn is_known(&self, key: &K) -> bool {
        self.0.lock().answers.get(key).is_some()
    }

    /// Believes the answer no longer; the key stays known.
    pub(crate) fn doubt(&self, key: &K) {
        let mut state = self.0.lock();
        state.changes += 1;
        if let Some((_, believed_until)) = state.answers.get(key) {
            *believed_until = Duration::ZERO;
        }
    }

    /// Forgets the key.
    pub(crate) fn forget(&self, key: &K) {
        let mut state = self.0.lock();
        state.changes += 1;
        state.answers.remove(key);
    }
}

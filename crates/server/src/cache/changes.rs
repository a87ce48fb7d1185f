//! What has changed in the store since a moment of its history, as far as kept answers are concerned.
//!
//! Every append tells the oldest moment that it may have touched; a kept answer stays right while nothing touched the
//! time that it was read from. That needs no promise of the store about late samples: whether one may come is its
//! business, and when one comes it is seen here. The clock counts as a touch of "now", for after a clock was set back
//! the store forgets what lies ahead of it.
//! Deliberately absent: which series were touched. Most appends touch the present, and most kept answers that are worth
//! something do not reach into it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use marketprism_model::sample::{AppendError, Appended, Durability};
use marketprism_model::{Clock, Labels, RefHistogram, RefSample, SampleSink, SeriesRef, Timestamp};

/// The history is kept in so many steps; older ones become coarser, never wrong.
const STEPS_MAX: usize = 1024;
/// Touched moments are rounded down to whole seconds, so that a busy second is one step.
const GRAIN_MS: i64 = 1000;

/// The history of the store's changes; clones share it.
#[derive(Clone, Default)]
pub struct Changes(Arc<Mutex<History>>);

/// Steps have rising generations and rising moments: a step stands for all changes after the one before it, and says
/// the oldest moment that any change touched from there to today.
#[derive(Default)]
struct History {
    generation: u64,
    steps: VecDeque<(u64, i64)>,
    rewriting: usize,
}

impl Changes {
    /// Makes a history that knows of no change.
    pub fn new() -> Self {
        Changes::default()
    }

    /// Says that the store's past is being rewritten, by retention or deletion, until the guard is dropped.
    pub fn rewriting(&self) -> Rewriting {
        self.history().rewriting += 1;
        Rewriting {
            changes: self.clone(),
            has_changed: true,
        }
    }

    /// Says that samples from `oldest_ms` on may have come or gone.
    pub fn touch(&self, oldest_ms: i64) {
        self.history().touch(oldest_ms);
    }

    /// Numbers the state of the store: read it before reading samples.
    pub(crate) fn generation(&self) -> u64 {
        self.history().generation
    }

    /// Gives the oldest moment touched since `generation`; the end of time when nothing was.
    pub(crate) fn touched_since(&self, generation: u64) -> i64 {
        let history = self.history();
        if history.rewriting > 0 {
            return i64::MIN;
        }
        let next = history.steps.partition_point(|(at, _)| *at <= generation);
        history
            .steps
            .get(next)
            .map_or(i64::MAX, |(_, oldest_ms)| *oldest_ms)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn touch(&mut self, oldest_ms: i64) {
        self.generation += 1;
        let oldest_ms = oldest_ms.saturating_sub(oldest_ms.rem_euclid(GRAIN_MS));
        while self.steps.back().is_some_and(|(_, known)| *known >= oldest_ms) {
            self.steps.pop_back();
        }
        self.steps.push_back((self.generation, oldest_ms));
        if self.steps.len() > STEPS_MAX {
            // Whoever asked between the two oldest steps is told of the older moment.
            let (_, oldest_ms) = self.steps.pop_front().unwrap_or_default();
            if let Some(front) = self.steps.front_mut() {
                front.1 = oldest_ms;
            }
        }
    }
}

/// While it lives, no kept answer is used; afterwards none from before or meanwhile is.
pub struct Rewriting {
    changes: Changes,
    has_changed: bool,
}

impl Rewriting {
    /// Ends it and says that nothing was deleted after all, so that kept answers stand.
    pub fn changed_nothing(mut self) {
        self.has_changed = false;
    }
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        let mut history = self.changes.history();
        history.rewriting -= 1;
        if self.has_changed {
            history.touch(i64::MIN);
        }
    }
}

/// A sink that tells the history of every append. All appends of the program go through it.
pub struct NoticedSink {
    sink: Arc<dyn SampleSink>,
    clock: Arc<dyn Clock>,
    changes: Changes,
}

impl NoticedSink {
    /// Wraps the store's sink.
    pub fn new(sink: Arc<dyn SampleSink>, clock: Arc<dyn Clock>, changes: Changes) -> Self {
        NoticedSink { sink, clock, changes }
    }

    fn noticed(
        &self,
        oldest: Option<Timestamp>,
        append: impl FnOnce() -> Result<Appended, AppendError>,
    ) -> Result<Appended, AppendError> {
        let Some(oldest) = oldest else {
            return append();
        };
        let before = oldest.min(self.clock.now());
        self.changes.touch(before.millis());
        let outcome = append();
        self.changes.touch(before.min(self.clock.now()).millis());
        outcome
    }
}

impl SampleSink for NoticedSink {
    fn resolve(&self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        self.sink.resolve(labels)
    }

    /// Tells before, so that no older answer is used once the samples can be read, and after, so that an answer made
    /// meanwhile is not kept.
    fn append(&self, samples: &[RefSample], durability: Durability) -> Result<Appended, AppendError> {
        let oldest = samples.iter().map(|sample| sample.timestamp).min();
        self.noticed(oldest, || self.sink.append(samples, durability))
    }

    fn append_histograms(
        &self,
        histograms: &[RefHistogram],
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        let oldest = histograms.iter().map(|sample| sample.timestamp).min();
        self.noticed(oldest, || self.sink.append_histograms(histograms, durability))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_touched_is_known_for_every_moment_of_the_history() {
        let changes = Changes::new();
        let start = changes.generation();
        assert_eq!(changes.touched_since(start), i64::MAX);
        changes.touch(5_500);
        let middle = changes.generation();
        changes.touch(9_000);
        assert_eq!(
            (changes.touched_since(start), changes.touched_since(middle)),
            (5_000, 9_000)
        );
        changes.touch(-1);
        assert_eq!(
            (changes.touched_since(start), changes.touched_since(middle)),
            (-1_000, -1_000)
        );
        assert_eq!(changes.touched_since(changes.generation()), i64::MAX);
    }

    #[test]
    fn while_the_past_is_rewritten_nothing_is_certain() {
        let changes = Changes::new();
        let before = changes.generation();
        let rewriting = changes.rewriting();
        let during = changes.generation();
        assert_eq!(changes.touched_since(during), i64::MIN);
        drop(rewriting);
        for generation in [before, during] {
            assert_eq!(changes.touched_since(generation), i64::MIN);
        }
        let after = changes.generation();
        assert_eq!(changes.touched_since(after), i64::MAX);
        let rewriting = changes.rewriting();
        assert_eq!(changes.touched_since(after), i64::MIN);
        rewriting.changed_nothing();
        assert_eq!(changes.touched_since(after), i64::MAX);
    }

    proptest! {
        /// Against the plain list of all touches: never a later moment than the true one, and the true one, to the
        /// second, while the history is short.
        #[test]
        fn a_history_of_any_length_never_forgets_a_touch(
            touches in proptest::collection::vec(-5_000_000_i64..5_000_000, 1..3000),
            rises in any::<bool>(),
        ) {
            let mut touches = touches;
            if rises {
                touches.sort_unstable();
            }
            let changes = Changes::new();
            let generations: Vec<u64> = touches
                .iter()
                .map(|at| {
                    let before = changes.generation();
                    changes.touch(*at);
                    before
                })
                .collect();
            let mut oldest = i64::MAX;
            for (number, at) in touches.iter().enumerate().rev() {
                oldest = oldest.min(*at);
                let told = changes.touched_since(generations[number]);
                prop_assert!(told <= oldest);
                if touches.len() <= STEPS_MAX {
                    prop_assert_eq!(told, oldest - oldest.rem_euclid(GRAIN_MS));
                }
            }
        }
    }
}

//! When recurring silences turn next, looked up once for each turn and not at each question.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use marketprism_model::{Id, Timestamp};

/// One of which no turn is known is asked anew after this long.
const ASKED_ANEW: Duration = Duration::from_secs(86_400);

/// Recurring silences, by the moment at which they turn or are to be asked anew.
#[derive(Debug, Default)]
pub(super) struct Turns {
    at: HashMap<Id, Timestamp>,
    ordered: BTreeSet<(Timestamp, Id)>,
    asked_at: Option<Timestamp>,
}

impl Turns {
    /// Adds a silence, or asks it anew.
    pub(super) fn insert(&mut self, id: Id) {
        self.plan(id, Timestamp::MIN);
    }

    pub(super) fn remove(&mut self, id: Id) {
        if let Some(at) = self.at.remove(&id) {
            self.ordered.remove(&(at, id));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    pub(super) fn ask_all_anew(&mut self) {
        self.ordered = self.at.keys().map(|id| (Timestamp::MIN, *id)).collect();
        self.at.values_mut().for_each(|at| *at = Timestamp::MIN);
    }

    /// Gives the next moment after now. `turn` says when one of them turns next: `None` when it never does again,
    /// now when that is not known.
    pub(super) fn next(
        &mut self,
        now: Timestamp,
        turn: impl Fn(Id) -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        // After the clock was set back what turned already turns again.
        if self.asked_at.is_some_and(|asked_at| now < asked_at) {
            self.ask_all_anew();
        }
        self.asked_at = Some(now);
        while let Some(&(_, id)) = self.ordered.first().filter(|(at, _)| *at <= now) {
            self.plan(
                id,
                match turn(id) {
                    None => Timestamp::MAX,
                    Some(next) if next > now => next,
                    Some(_) => now + ASKED_ANEW,
                },
            );
        }
        let next = self.ordered.first().map(|(at, _)| *at);
        next.filter(|at| *at < Timestamp::MAX)
    }

    fn plan(&mut self, id: Id, at: Timestamp) {
        self.remove(id);
        self.at.insert(id, at);
        self.ordered.insert((at, id));
    }
}

//! A schedule laid out over a span of time.

use std::time::Duration;

use marketprism_model::{ShiftOverride, Timestamp};
use serde::Serialize;

use super::{Cause, Layer, Schedule, Shift};
use crate::time_interval::next_change;

/// A list holds no more shifts than this.
pub const SHIFTS_MAX: usize = 5000;
/// A list spans no more than this.
pub const SPAN_MAX: Duration = Duration::from_secs(400 * 86_400);
/// Moments that are looked at for one list: some change nothing.
const LOOKS_MAX: usize = 20_000;

/// Shifts one after the other, without gaps between them: where nobody is on call a shift says so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Shifts {
    /// The shifts, the first from the beginning of the span.
    pub items: Vec<Shift>,
    /// Until when they go; earlier than was asked when that would have been too long or too many.
    pub until: Timestamp,
}

impl Schedule {
    /// Gives the shifts from one moment until another, cut at both ends.
    pub fn shifts(&self, from: Timestamp, to: Timestamp, overrides: &[ShiftOverride]) -> Shifts {
        let to = to.min(from + SPAN_MAX);
        let mut bounds = Bounds::new(self, overrides);
        let mut items: Vec<Shift> = Vec::new();
        let mut at = from;
        for _ in 0..LOOKS_MAX {
            if at >= to {
                break;
            }
            let (receivers, cause) = self.on_call(at, overrides);
            let next = bounds.next(at).map_or(to, |next| next.min(to));
            let last = items.last_mut();
            let is_same = |last: &&mut Shift| last.cause == cause && last.receivers == receivers;
            if let Some(last) = last.filter(is_same) {
                last.ends_at = next;
            } else if items.len() < SHIFTS_MAX {
                items.push(shift(at, next, receivers, cause));
            } else {
                break;
            }
            at = next;
        }
        Shifts {
            items,
            until: at.min(to),
        }
    }

    /// Gives the next moment after `now` at which somebody else may be on call; `None` when that is far.
    pub fn next_change(&self, now: Timestamp, overrides: &[ShiftOverride]) -> Option<Timestamp> {
        Bounds::new(self, overrides).next(now)
    }
}

fn shift(starts_at: Timestamp, ends_at: Timestamp, receivers: &[String], cause: Cause) -> Shift {
    Shift {
        starts_at,
        ends_at,
        receivers: receivers.to_vec(),
        cause,
    }
}

/// Moments at which somebody else may be on call, asked for in order.
struct Bounds<'a> {
    schedule: &'a Schedule,
    arranged: Vec<Timestamp>,
    /// Of each layer, the next moment at which its times of the week begin or end, once that was looked for: days of
    /// a calendar can be far apart, and one look is enough until then.
    within: Vec<Option<Option<Timestamp>>>,
}

impl<'a> Bounds<'a> {
    fn new(schedule: &'a Schedule, overrides: &[ShiftOverride]) -> Self {
        let own = schedule.own(overrides);
        let mut arranged: Vec<Timestamp> = own
            .flat_map(|arranged| [arranged.starts_at, arranged.ends_at])
            .collect();
        arranged.sort_unstable();
        let within = vec![None; schedule.layers.len()];
        Bounds {
            schedule,
            arranged,
            within,
        }
    }

    fn next(&mut self, now: Timestamp) -> Option<Timestamp> {
        let passed = self.arranged.partition_point(|bound| *bound <= now);
        let mut next = self.arranged.get(passed).copied();
        for (layer, within) in self.schedule.layers.iter().zip(&mut self.within) {
            if within.is_none_or(|known| known.is_some_and(|known| known <= now)) {
                *within = Some(layer.next_within(now));
            }
            let bounds = [layer.next_bound(now), within.flatten(), next];
            next = bounds.into_iter().flatten().min();
        }
        next
    }
}

impl Layer {
    /// Gives the next moment at which the layer begins, ends, or the turn changes.
    fn next_bound(&self, now: Timestamp) -> Option<Timestamp> {
        let bounds = [Some(self.starts), self.ends];
        let bounds = bounds.into_iter().flatten().filter(|bound| *bound > now);
        let handover = (self.turns.len() > 1).then(|| self.rotation.next(now)).flatten();
        bounds.chain(handover).min()
    }

    /// Gives the next moment at which its times of the week begin or end.
    fn next_within(&self, now: Timestamp) -> Option<Timestamp> {
        next_change(self.within.as_ref()?, now)
    }
}

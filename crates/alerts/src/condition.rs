//! The clock of one condition for one label set: how long it has held, whether it fires.
//!
//! Pure by design: the caller brings `now` and the old clock and stores the new one, so weeks of alerting
//! are tested in milliseconds. Time is counted in evaluations that happened: a wall clock that was set back
//! costs the clock nothing but the step itself, and after a gap of more than an hour nobody knows whether
//! the condition held meanwhile, so what was pending begins anew and what fired stays.
//! Invariant: nothing here reads a clock, a file or a socket.

use std::time::Duration;

use marketprism_model::{Condition, Timestamp, Verdict};

/// After a longer time without an evaluation a pending condition begins anew.
pub const GAP_MAX: Duration = Duration::from_secs(3600);
/// A condition that was set aside by hand and still holds after this long fires anew.
pub const SET_ASIDE_MAX: Duration = Duration::from_secs(3600);

/// How long one condition has held, and whether it fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConditionClock {
    /// When it began to hold.
    pub active_at: Timestamp,
    /// When it began to fire; `None` while pending.
    pub fired_at: Option<Timestamp>,
    /// When it was last evaluated.
    pub seen_at: Timestamp,
    /// Since when it no longer holds but is kept firing.
    pub missed_since: Option<Timestamp>,
    /// Since when nobody can tell whether it holds, for its data is missing.
    pub unknown_since: Option<Timestamp>,
    /// When its alert was resolved by hand while it held.
    pub set_aside_at: Option<Timestamp>,
}

impl ConditionClock {
    /// Says whether it raises its level now: it fires and was not set aside.
    pub fn is_firing(&self) -> bool {
        self.fired_at.is_some() && self.set_aside_at.is_none()
    }

    /// Says whether it has a part in an alert at all.
    pub fn is_set_aside(&self) -> bool {
        self.set_aside_at.is_some()
    }

    /// Says whether it differs in more than the time it was last seen, which alone is not worth writing.
    pub fn differs_from(&self, other: &ConditionClock) -> bool {
        ConditionClock {
            seen_at: other.seen_at,
            ..*self
        } != *other
    }

    /// Moves its moments so that `now` is not before the last evaluation, when the wall clock went back.
    fn shifted_to(mut self, now: Timestamp) -> Self {
        let back = self.seen_at.since(now);
        if !back.is_zero() {
            self.active_at = self.active_at - back;
            self.missed_since = self.missed_since.map(|at| at - back);
            self.unknown_since = self.unknown_since.map(|at| at - back);
            self.set_aside_at = self.set_aside_at.map(|at| at - back);
        }
        self.seen_at = now;
        self
    }
}

/// Advances the clock of one condition by one evaluation; `None` means that it does not run.
///
/// `interval` is the rule's: a rule that runs more rarely than every twenty minutes is given three of its
/// intervals before a gap counts.
pub fn advance(
    old: Option<ConditionClock>,
    verdict: Verdict,
    condition: &Condition,
    interval: Duration,
    now: Timestamp,
) -> Option<ConditionClock> {
    let Some(old) = old else {
        return (verdict == Verdict::Holds).then(|| begin(condition, now));
    };
    if verdict == Verdict::Unknown {
        return wait(old, condition, interval, now);
    }
    let gap = now.since(old.seen_at);
    let mut clock = old.shifted_to(now);
    clock.unknown_since = None;
    if let Some(at) = clock.set_aside_at {
        return match verdict {
            Verdict::Clear => None,
            Verdict::Lingers | Verdict::Unknown => Some(clock),
            Verdict::Holds => {
                if now.since(at) >= SET_ASIDE_MAX {
                    clock.set_aside_at = None;
                    clock.fired_at = clock.fired_at.map(|_| now);
                }
                Some(clock)
            }
        };
    }
    match (clock.fired_at, verdict) {
        (None, Verdict::Holds) => {
            if gap > GAP_MAX.max(interval * 3) {
                return Some(begin(condition, now));
            }
            if now.since(clock.active_at) >= condition.hold_for {
                clock.fired_at = Some(now);
            }
            Some(clock)
        }
        (None, Verdict::Lingers | Verdict::Clear | Verdict::Unknown) => None,
        (Some(_), Verdict::Holds | Verdict::Lingers | Verdict::Unknown) => {
            clock.missed_since = None;
            Some(clock)
        }
        (Some(_), Verdict::Clear) => {
            let missed_since = *clock.missed_since.get_or_insert(now);
            (now.since(missed_since) < condition.keep_firing_for).then_some(clock)
        }
    }
}

/// Lets a condition stand while its data is missing, for as long as it may. It counts as evaluated last when the data
/// went missing, so what pends neither fires nor, when that lasts longer than a gap may, goes on where it stood.
fn wait(
    old: ConditionClock,
    condition: &Condition,
    interval: Duration,
    now: Timestamp,
) -> Option<ConditionClock> {
    let mut clock = old.shifted_to(now);
    let since = *clock.unknown_since.get_or_insert(now);
    match condition.unknown_max {
        Some(max) if now.since(since) >= max => {
            advance(Some(clock), Verdict::Clear, condition, interval, now)
        }
        _ => {
            clock.seen_at = since.min(now);
            Some(clock)
        }
    }
}

fn begin(condition: &Condition, now: Timestamp) -> ConditionClock {
    ConditionClock {
        active_at: now,
        fired_at: condition.hold_for.is_zero().then_some(now),
        seen_at: now,
        missed_since: None,
        unknown_since: None,
        set_aside_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn condition(hold_for: u32, keep_firing_for: u32) -> Condition {
        Condition {
            level: None,
            hold_for: MINUTE * hold_for,
            keep_firing_for: MINUTE * keep_firing_for,
            unknown_max: None,
        }
    }

    fn verdict(mark: char) -> Verdict {
        match mark {
            '#' => Verdict::Holds,
            '~' => Verdict::Lingers,
            '?' => Verdict::Unknown,
            _ => Verdict::Clear,
        }
    }

    fn mark(clock: &Option<ConditionClock>) -> char {
        match clock {
            None => '.',
            Some(clock) if clock.is_set_aside() => 'a',
            Some(clock) if clock.missed_since.is_some() => 'k',
            Some(clock) if clock.fired_at.is_some() => 'F',
            Some(_) => 'p',
        }
    }

    /// One character a minute: `#` holds, `~` lingers, `?` nobody can tell, `.` is clear, a digit lets so many hours pass first;
    /// `p` pends, `F` fires, `k` is kept firing.
    fn check(condition: &Condition, seen: &str, expected: &str) {
        let mut now = Timestamp::from_millis(1_700_000_000_000);
        let mut clock = None;
        let mut states = String::new();
        for c in seen.chars() {
            if let Some(hours) = c.to_digit(10) {
                now = now + MINUTE * 60 * hours;
                continue;
            }
            clock = advance(clock, verdict(c), condition, MINUTE, now);
            states.push(mark(&clock));
            now = now + MINUTE;
        }
        assert_eq!(states, expected, "{seen}");
    }

    #[test]
    fn it_fires_only_after_the_condition_held_for_two_minutes() {
        check(&condition(2, 0), "##.###.", "pp.ppF.");
    }

    #[test]
    fn without_a_hold_time_it_fires_at_once() {
        check(&condition(0, 0), "#.##.", "F.FF.");
    }

    #[test]
    fn keep_firing_counts_from_the_first_miss_and_starts_over_when_it_holds_again() {
        check(&condition(0, 2), "#..#....", "FkkFkk..");
        check(&condition(1, 1), "##.#.", "pFkFk");
    }

    #[test]
    fn what_lingers_stays_but_begins_nothing() {
        check(&condition(0, 0), "~#~~.~", ".FFF..");
        check(&condition(2, 0), "##~###", "pp.ppF");
    }

    #[test]
    fn a_pending_condition_begins_anew_after_a_gap_of_hours() {
        // The digit's hours come on top of the minute.
        check(&condition(3, 0), "##2####", "pppppF");
        check(&condition(60, 0), "#0###", "pppp");
    }

    #[test]
    fn what_fires_stands_over_any_gap() {
        check(&condition(1, 0), "##9#9#.", "pFFF.");
    }

    #[test]
    fn an_hour_of_downtime_is_the_most_that_a_pending_condition_survives() {
        let condition = condition(90, 0);
        let start = Timestamp::from_millis(0);
        let first = advance(None, Verdict::Holds, &condition, MINUTE, start);
        let survived = advance(first, Verdict::Holds, &condition, MINUTE, start + GAP_MAX).expect("holds");
        assert_eq!(survived.active_at, start);
        let late = start + GAP_MAX + Duration::from_millis(1);
        let restarted = advance(first, Verdict::Holds, &condition, MINUTE, late).expect("holds");
        assert_eq!(restarted.active_at, late);
    }

    #[test]
    fn a_clock_set_back_costs_no_more_than_the_step_itself() {
        let condition = condition(3, 0);
        let start = Timestamp::from_millis(1_700_000_000_000);
        let mut clock = None;
        for minute in 0..3 {
            clock = advance(clock, Verdict::Holds, &condition, MINUTE, start + MINUTE * minute);
        }
        // An hour back: two minutes have been counted, and one is missing still.
        let back = start - MINUTE * 60;
        clock = advance(clock, Verdict::Holds, &condition, MINUTE, back);
        assert_eq!(mark(&clock), 'p');
        clock = advance(clock, Verdict::Holds, &condition, MINUTE, back + MINUTE);
        assert_eq!(mark(&clock), 'F');
        // Back again: what fires does not unfire.
        clock = advance(clock, Verdict::Holds, &condition, MINUTE, start - MINUTE * 600);
        assert_eq!(mark(&clock), 'F');
    }

    #[test]
    fn what_was_set_aside_holds_its_peace_until_it_cleared_or_an_hour_passed() {
        let condition = condition(0, 30);
        let start = Timestamp::from_millis(1_700_000_000_000);
        let set_aside =
            advance(None, Verdict::Holds, &condition, MINUTE, start).map(|clock| ConditionClock {
                set_aside_at: Some(start),
                ..clock
            });
        let after =
            |minutes: u32, verdict| advance(set_aside, verdict, &condition, MINUTE, start + MINUTE * minutes);
        assert_eq!(mark(&after(59, Verdict::Holds)), 'a');
        assert_eq!(mark(&after(90, Verdict::Lingers)), 'a');
        assert_eq!(
            mark(&after(1, Verdict::Clear)),
            '.',
            "clearing once is enough, whatever keep_firing_for"
        );
        let revived = after(60, Verdict::Holds).expect("runs");
        assert!(revived.is_firing());
        assert_eq!(revived.fired_at, Some(start + SET_ASIDE_MAX));
    }

    #[test]
    fn what_nobody_can_tell_lets_stand_what_stands_and_begins_nothing() {
        check(&condition(0, 0), "?#??.?#", ".FFF..F");
        // What pends goes on where it stood, but does not fire on nothing.
        check(&condition(2, 0), "##??#.", "ppppF.");
        check(&condition(0, 2), "#.??..", "Fkkk..");
    }

    #[test]
    fn what_nobody_can_tell_ends_when_it_lasts_too_long() {
        let bounded = Condition {
            unknown_max: Some(MINUTE * 2),
            ..condition(0, 0)
        };
        check(&bounded, "#???.#??#??.", "FFF..FFFFFF.");
        let pending = Condition {
            unknown_max: Some(MINUTE),
            ..condition(5, 0)
        };
        check(&pending, "##??##", "ppp.pp");
    }

    #[test]
    fn a_pending_condition_whose_data_was_missing_for_hours_begins_anew() {
        check(&condition(3, 0), "##?2?####", "pppppppF");
    }

    #[test]
    fn a_longer_hold_time_after_a_reload_does_not_unfire() {
        let start = Timestamp::from_millis(0);
        let fired = advance(None, Verdict::Holds, &condition(0, 0), MINUTE, start);
        let after = advance(fired, Verdict::Holds, &condition(30, 0), MINUTE, start + MINUTE);
        assert_eq!(mark(&after), 'F');
    }

    fn any_verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            4 => Just(Verdict::Holds),
            1 => Just(Verdict::Lingers),
            2 => Just(Verdict::Clear)
        ]
    }

    proptest! {
        #[test]
        fn it_begins_to_fire_only_when_every_verdict_of_the_hold_time_was_holds(
            steps in proptest::collection::vec((any_verdict(), 1u64..400), 1..60),
            hold_s in 0u64..1200,
            keep_s in 0u64..600,
        ) {
            let condition = Condition {
                level: None,
                hold_for: Duration::from_secs(hold_s),
                keep_firing_for: Duration::from_secs(keep_s),
                unknown_max: None,
            };
            let mut now = Timestamp::from_millis(0);
            let mut clock: Option<ConditionClock> = None;
            let mut history: Vec<(Timestamp, Verdict)> = Vec::new();
            for (verdict, step_s) in steps {
                now = now + Duration::from_secs(step_s);
                history.push((now, verdict));
                let was_firing = clock.is_some_and(|clock| clock.is_firing());
                clock = advance(clock, verdict, &condition, MINUTE, now);
                let is_firing = clock.is_some_and(|clock| clock.is_firing());
                if is_firing && !was_firing {
                    // Walking back, `Holds` reaches as far as the hold time.
                    let held_from = history.iter().rev().take_while(|(_, v)| *v == Verdict::Holds).last();
                    let held_from = held_from.map(|(at, _)| *at);
                    prop_assert!(held_from.is_some_and(|from| now.since(from) >= condition.hold_for));
                }
                if was_firing && !is_firing {
                    // It ends only by a clear verdict, and not before it was kept firing for long enough.
                    prop_assert_eq!(verdict, Verdict::Clear);
                    let clear_from =
                        history.iter().rev().take_while(|(_, v)| *v == Verdict::Clear).last().map(|(at, _)| *at);
                    prop_assert!(clear_from.is_some_and(|from| now.since(from) >= condition.keep_firing_for));
                }
            }
        }

        #[test]
        fn no_jump_of_the_wall_clock_unfires_or_panics(
            steps in proptest::collection::vec((any::<i64>(), any_verdict()), 1..40),
        ) {
            let condition = condition(1, 1);
            let mut clock: Option<ConditionClock> = None;
            for (now, verdict) in steps {
                let was_firing = clock.is_some_and(|clock| clock.is_firing());
                clock = advance(clock, verdict, &condition, MINUTE, Timestamp::from_millis(now));
                if was_firing && verdict != Verdict::Clear {
                    prop_assert!(clock.is_some_and(|clock| clock.is_firing()));
                }
            }
        }
    }
}

//! Waiting for data after a gap.
//!
//! After a start, a suspended machine or a jump of the wall clock nothing lies in the lookback until the targets have
//! been asked again. A rule that is evaluated before sees nothing, and so would resolve what still fires and clear
//! what still pends. The hold ends as soon as the data is there; and it ends after [`PATIENCE`] anyhow, for a target
//! that is never asked must not stop the rules.
//! Pure: the loop brings the time.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::Timestamp;

/// Says whether all that should have come in since the first moment has, the second being now.
pub type HasData = Arc<dyn Fn(Timestamp, Timestamp) -> bool + Send + Sync>;

/// The loop turns every few seconds; when the wall clock moved more than this between two turns, there is a gap.
const GAP: Duration = Duration::from_secs(60);
/// How long rules wait for data at most: a minute, which is the longest interval in common use, and a time-out.
const PATIENCE: Duration = Duration::from_secs(70);

/// Whether rules have to wait.
#[derive(Default)]
pub(crate) struct Hold {
    has_data: Option<HasData>,
    turned_at: Option<Timestamp>,
    /// When the gap ended, by the wall clock and by the monotonic one.
    begun: Option<(Timestamp, Duration)>,
}

impl Hold {
    pub(crate) fn new(has_data: HasData) -> Self {
        Hold {
            has_data: Some(has_data),
            ..Hold::default()
        }
    }

    /// Says, at each turn of the loop, whether rules have to wait. Never without a way to ask for data.
    pub(crate) fn is_on(&mut self, now: Timestamp, monotonic: Duration) -> bool {
        let Some(has_data) = &self.has_data else {
            return false;
        };
        let before = self.turned_at.replace(now);
        let has_gap = before.is_none_or(|before| now.since(before) > GAP || before.since(now) > GAP);
        if has_gap {
            // Whatever has come in by now, no tick before now saw it.
            self.begun = Some((now, monotonic));
            return true;
        }
        let Some((since, begun)) = self.begun else {
            return false;
        };
        let is_over = has_data(since, now) || monotonic.saturating_sub(begun) >= PATIENCE;
        if is_over {
            self.begun = None;
        }
        !is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Turns at seconds of the wall clock and of the monotonic one; data last came in at the third number.
    fn check(turns: &[(i64, u64, i64)], expected: &str) {
        let came_at = Arc::new(AtomicI64::new(i64::MIN));
        let known = Arc::clone(&came_at);
        let mut hold = Hold::new(Arc::new(move |since, now| {
            (since.millis()..=now.millis()).contains(&known.load(Ordering::Relaxed))
        }));
        let states: String = turns
            .iter()
            .map(|(wall, monotonic, came)| {
                came_at.store(came * 1000, Ordering::Relaxed);
                let now = Timestamp::from_millis(wall * 1000);
                let is_on = hold.is_on(now, Duration::from_secs(*monotonic));
                if is_on { 'h' } else { '.' }
            })
            .collect();
        assert_eq!(states, expected, "{turns:?}");
    }

    #[test]
    fn rules_wait_at_the_start_until_data_came_in_since() {
        check(
            &[(1000, 0, 0), (1005, 5, 900), (1010, 10, 1007), (1070, 70, 1007)],
            "hh..",
        );
    }

    #[test]
    fn rules_do_not_wait_for_ever() {
        check(
            &[(1000, 0, 0), (1060, 60, 0), (1070, 70, 0), (1075, 75, 0)],
            "hh..",
        );
    }

    #[test]
    fn a_jump_of_the_wall_clock_in_either_direction_makes_them_wait_again() {
        check(
            &[(1000, 0, 1000), (1001, 1, 1000), (5000, 5, 5000), (5001, 6, 5000)],
            "h.h.",
        );
        // What came in before the clock was set back does not count, though it seems to be newer.
        check(
            &[
                (5000, 0, 5000),
                (1000, 5, 5000),
                (1005, 10, 5000),
                (1006, 11, 1006),
            ],
            "hhh.",
        );
    }

    #[test]
    fn a_clock_that_is_corrected_by_seconds_stops_nothing() {
        check(&[(1000, 0, 1000), (1035, 5, 1000), (1005, 10, 1000)], "h..");
    }
}

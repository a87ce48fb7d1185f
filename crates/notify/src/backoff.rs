//! When to try again, and when to give up.

use std::time::Duration;

use marketprism_model::Timestamp;

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);

/// Gives the moment of the next attempt after `attempts` failed ones; `None` when it is to be given up.
///
/// Doubles from 5 s to 5 min; `chance` (0 to 1) shortens it by up to half, so that messages that failed
/// together do not come back together. `after` is the provider's own wish and is never undercut. An attempt
/// that would come too late is made at the deadline, unless the provider wished otherwise.
pub(crate) fn next_attempt(
    now: Timestamp,
    deadline: Timestamp,
    attempts: u32,
    after: Option<Duration>,
    chance: f64,
) -> Option<Timestamp> {
    let doubled = FIRST
        .saturating_mul(1 << attempts.saturating_sub(1).min(16))
        .min(LONGEST);
    let delay = doubled.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0);
    let wished = now + after.unwrap_or(Duration::ZERO);
    let next = (now + delay).min(deadline).max(wished);
    (next <= deadline && next > now).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn seconds(attempts: u32, after: Option<u64>, deadline: Duration, chance: f64) -> Option<f64> {
        let now = Timestamp::from_millis(0);
        let after = after.map(Duration::from_secs);
        next_attempt(now, now + deadline, attempts, after, chance).map(Timestamp::seconds_f64)
    }

    #[test]
    fn delays_double_from_five_seconds_to_five_minutes() {
        let delays: Vec<_> = (1..=9)
            .map(|n| seconds(n, None, HOUR, 0.0).expect("in time"))
            .collect();
        assert_eq!(delays, [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]);
        assert_eq!(seconds(1, None, HOUR, 0.5), Some(3.75));
    }

    #[test]
    fn the_providers_wish_is_a_lower_bound() {
        assert_eq!(seconds(1, Some(60), HOUR, 0.9), Some(60.0));
        assert_eq!(seconds(9, Some(1), HOUR, 0.0), Some(300.0));
    }

    #[test]
    fn the_last_attempt_is_at_the_deadline_and_none_follows() {
        let minute = Duration::from_secs(60);
        assert_eq!(seconds(9, None, minute, 0.0), Some(60.0));
        assert_eq!(seconds(9, None, Duration::ZERO, 0.0), None);
        assert_eq!(seconds(1, Some(61), minute, 0.0), None);
    }

    proptest! {
        #[test]
        fn an_attempt_is_never_before_now_nor_after_the_deadline(
            attempts in 0u32..1000, after in proptest::option::of(0u64..10_000), left in 0u64..10_000, chance in 0.0f64..1.0,
        ) {
            let next = seconds(attempts, after, Duration::from_secs(left), chance);
            if let Some(next) = next {
                prop_assert!(next > 0.0 && next <= left as f64);
                prop_assert!(next >= after.unwrap_or(0) as f64);
            }
        }
    }
}

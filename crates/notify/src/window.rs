//! Turns: so many messages within such a span, and no more.
//!
//! A sliding window and not a bucket that refills, because providers count what they got in the last minute.

use std::collections::VecDeque;
use std::time::Duration;

use crate::channel::Rate;

/// The turns taken with one credential. Times are monotonic.
#[derive(Debug)]
pub(crate) struct Window {
    limit: usize,
    span: Duration,
    taken: VecDeque<Duration>,
}

impl Window {
    pub(crate) fn new(rate: &Rate) -> Self {
        Window {
            limit: rate.messages.max(1),
            span: rate.span,
            taken: VecDeque::new(),
        }
    }

    /// Takes a turn, or says when the next one is free.
    pub(crate) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        while self.taken.front().is_some_and(|turn| *turn + self.span <= now) {
            self.taken.pop_front();
        }
        if self.taken.len() < self.limit {
            self.taken.push_back(now);
            return Ok(());
        }
        Err(self.taken[0] + self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(messages: usize, seconds: u64) -> Window {
        Window::new(&Rate {
            credential: String::new(),
            messages,
            span: Duration::from_secs(seconds),
        })
    }

    #[test]
    fn the_next_turn_is_free_when_the_oldest_leaves_the_window() {
        let mut window = window(2, 60);
        let at = Duration::from_secs;
        assert_eq!(window.take(at(0)), Ok(()));
        assert_eq!(window.take(at(10)), Ok(()));
        assert_eq!(window.take(at(30)), Err(at(60)));
        assert_eq!(window.take(at(60)), Ok(()));
        assert_eq!(window.take(at(61)), Err(at(70)));
    }

    proptest! {
        #[test]
        fn no_span_of_time_ever_holds_more_turns_than_allowed(steps in proptest::collection::vec(0u64..20, 1..200)) {
            let (limit, span) = (5, Duration::from_secs(60));
            let mut window = window(limit, 60);
            let mut now = Duration::ZERO;
            let mut taken = Vec::new();
            for step in steps {
                now += Duration::from_secs(step);
                if window.take(now).is_ok() {
                    taken.push(now);
                }
            }
            for start in &taken {
                let within = taken.iter().filter(|turn| **turn >= *start && **turn < *start + span).count();
                prop_assert!(within <= limit);
            }
        }
    }
}

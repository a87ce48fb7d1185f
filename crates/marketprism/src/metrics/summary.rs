//! A summary: how long something takes, as quantiles that have the bare name.
//!
//! The deployment guide names a metric without any suffix; of all types only a gauge and a summary have a series of
//! exactly that name, and a gauge would forget everything between two scrapes.
//!
//! Source: OpenMetrics 1.0, "Summary"; the default quantiles are those that Prometheus' own programs use.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Quantiles are those of the newest observations, for what was slow yesterday says nothing about now.
const NEWEST_MAX: usize = 1_000;
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// Durations, in seconds.
#[derive(Debug)]
pub struct Summary {
    name: &'static str,
    help: &'static str,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    count: u64,
    sum: f64,
    newest: VecDeque<f64>,
}

impl Summary {
    /// Makes one that has seen nothing.
    pub fn new(name: &'static str, help: &'static str) -> Self {
        Summary {
            name,
            help,
            seen: Mutex::default(),
        }
    }

    /// Adds an observation.
    pub fn observe(&self, took: Duration) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = took.as_secs_f64();
        seen.count += 1;
        seen.sum += seconds;
        if seen.newest.len() == NEWEST_MAX {
            seen.newest.pop_front();
        }
        seen.newest.push_back(seconds);
    }

    /// Writes it as OpenMetrics text.
    pub(super) fn encode(&self, text: &mut String) -> fmt::Result {
        let (mut sorted, sum, count) = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let sorted: Vec<f64> = seen.newest.iter().copied().collect();
            (sorted, seen.sum, seen.count)
        };
        sorted.sort_by(f64::total_cmp);
        let name = self.name;
        writeln!(text, "# HELP {name} {}.", self.help)?;
        writeln!(text, "# TYPE {name} summary")?;
        for quantile in QUANTILES {
            // The nearest rank: the least observation that so many are not above.
            let rank = (quantile * sorted.len() as f64).ceil() as usize;
            let value = rank.checked_sub(1).and_then(|at| sorted.get(at));
            match value {
                Some(value) => writeln!(text, "{name}{{quantile=\"{quantile}\"}} {value}")?,
                None => writeln!(text, "{name}{{quantile=\"{quantile}\"}} NaN")?,
            }
        }
        writeln!(text, "{name}_sum {sum:?}")?;
        writeln!(text, "{name}_count {count}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: impl Iterator<Item = u64>, expected: [&str; 5]) {
        let summary = Summary::new("d", "How long");
        seconds.for_each(|seconds| summary.observe(Duration::from_secs(seconds)));
        let mut text = String::new();
        summary.encode(&mut text).expect("a string takes everything");
        let [half, most, nearly_all, sum, count] = expected;
        assert_eq!(
            text,
            format!(
                "# HELP d How long.\n# TYPE d summary\nd{{quantile=\"0.5\"}} {half}\nd{{quantile=\"0.9\"}} {most}\n\
                 d{{quantile=\"0.99\"}} {nearly_all}\nd_sum {sum}\nd_count {count}\n"
            )
        );
    }

    #[test]
    fn quantiles_are_those_of_the_newest_thousand() {
        check(0..0, ["NaN", "NaN", "NaN", "0.0", "0"]);
        check(7..8, ["7", "7", "7", "7.0", "1"]);
        check(1..=100, ["50", "90", "99", "5050.0", "100"]);
        // 1000 zeros pushed out by 1 to 1000.
        check(
            (0..1000).map(|_| 0).chain(1..=1000),
            ["500", "900", "990", "500500.0", "2000"],
        );
    }
}

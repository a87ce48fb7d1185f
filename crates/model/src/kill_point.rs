//! Named places at which a crash test ends the process.
//!
//! Durability is proved by dying at every step that matters and looking at what is left. Each such step
//! passes a named point; a test starts the program with `MARKETPRISM_KILL_POINT="name:count"`, and the
//! process aborts when that point is passed for the count-th time: no destructor runs, no buffer is flushed.
//! Without the variable a point costs one load and one comparison, so the points stay in the released
//! program and what is tested is what runs.
//! Deliberately absent: a registry. A room publishes the names of its own points as `POINTS`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that names the point and the passing at which the process dies.
pub const VARIABLE: &str = "MARKETPRISM_KILL_POINT";

struct Plan {
    name: String,
    remaining: AtomicU64,
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

/// Passes a named point; aborts the process when the environment says that it dies here and now.
#[inline]
pub fn kill_point(name: &str) {
    if let Some(plan) = PLAN.get_or_init(|| plan(std::env::var(VARIABLE).ok().as_deref()))
        && plan.name == name
        && plan.remaining.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

/// Reads `name:count`; a missing or unreadable count is 1, for a typing error must not look like survival.
fn plan(text: Option<&str>) -> Option<Plan> {
    let text = text.filter(|text| !text.is_empty())?;
    let (name, count) = text.rsplit_once(':').unwrap_or((text, "1"));
    Some(Plan {
        name: name.to_owned(),
        remaining: AtomicU64::new(count.parse().unwrap_or(1).max(1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_a_point_and_a_count() {
        let check = |text: Option<&str>, expected: Option<(&str, u64)>| {
            let read = plan(text).map(|plan| (plan.name, plan.remaining.into_inner()));
            let expected = expected.map(|(name, count)| (name.to_owned(), count));
            assert_eq!(read, expected, "{text:?}");
        };
        check(None, None);
        check(Some(""), None);
        check(Some("wal.rotate:7"), Some(("wal.rotate", 7)));
        check(Some("wal.rotate"), Some(("wal.rotate", 1)));
        check(Some("wal.rotate:x"), Some(("wal.rotate", 1)));
    }
}

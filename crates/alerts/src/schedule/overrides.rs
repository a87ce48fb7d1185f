//! Overrides: what a person may arrange.

use std::time::Duration;

use marketprism_model::{ShiftOverride, Timestamp};
use thiserror::Error;

use super::{NAME_LENGTH_MAX, Schedules};

/// So many overrides that are not over may stand at once.
pub const OVERRIDES_MAX: usize = 10_000;
/// A comment is no longer than this, in bytes.
const COMMENT_BYTES_MAX: usize = 4096;
/// The longest that somebody stands in for others: a year and a day.
const LENGTH_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Why an override is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OverrideError {
    /// There is no such schedule.
    #[error("no schedule is called {0:?}")]
    UnknownSchedule(String),
    /// There is no such receiver.
    #[error("no receiver is called {0:?}")]
    UnknownReceiver(String),
    /// It ends before it begins, or has ended already.
    #[error("ends_at {ends_at} must be after starts_at {starts_at} and after now")]
    Order {
        /// When it begins.
        starts_at: Timestamp,
        /// When it ends.
        ends_at: Timestamp,
    },
    /// It lasts too long.
    #[error("an override lasts at most 366 days")]
    TooLong,
    /// Nobody says who arranged it, or with too many words.
    #[error("created_by must have 1 to {NAME_LENGTH_MAX} characters")]
    Author,
    /// The comment is too long.
    #[error("comment has {0} bytes; use at most {COMMENT_BYTES_MAX}")]
    Comment(usize),
    /// There are too many.
    #[error("{OVERRIDES_MAX} overrides stand already; take some back")]
    TooMany,
}

impl Schedules {
    /// Says whether an override may be arranged; `receivers` are the names that may be told, `standing` is how many
    /// overrides stand besides it.
    pub fn check_override(
        &self,
        arranged: &ShiftOverride,
        receivers: &[&str],
        standing: usize,
        now: Timestamp,
    ) -> Result<(), OverrideError> {
        if self.get(&arranged.schedule).is_none() {
            return Err(OverrideError::UnknownSchedule(arranged.schedule.clone()));
        }
        if !receivers.contains(&arranged.receiver.as_str()) {
            return Err(OverrideError::UnknownReceiver(arranged.receiver.clone()));
        }
        let (starts_at, ends_at) = (arranged.starts_at, arranged.ends_at);
        if ends_at <= starts_at || ends_at <= now {
            return Err(OverrideError::Order { starts_at, ends_at });
        }
        if ends_at.since(starts_at) > LENGTH_MAX {
            return Err(OverrideError::TooLong);
        }
        if !(1..=NAME_LENGTH_MAX).contains(&arranged.created_by.chars().count()) {
            return Err(OverrideError::Author);
        }
        if arranged.comment.len() > COMMENT_BYTES_MAX {
            return Err(OverrideError::Comment(arranged.comment.len()));
        }
        if standing >= OVERRIDES_MAX {
            return Err(OverrideError::TooMany);
        }
        Ok(())
    }
}

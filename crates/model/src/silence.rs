//! Silences: what people ask not to be told of, and for how long.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Id, Labels, Matcher, TimeInterval, Timestamp};

/// Where a silence stands at a moment. It follows from its times, so it is not stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SilenceState {
    /// It has not begun.
    Pending,
    /// It holds; a recurring one holds within its intervals only.
    Active,
    /// It is over.
    Expired,
}

impl SilenceState {
    /// Gives the word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            SilenceState::Pending => "pending",
            SilenceState::Active => "active",
            SilenceState::Expired => "expired",
        }
    }
}

impl fmt::Display for SilenceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One silence: alerts that match all its matchers are not told while it holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Silence {
    /// UUID version 7.
    pub id: Id,
    /// All must match; at least one does not match the empty string.
    pub matchers: Vec<Matcher>,
    /// When it begins.
    pub starts_at: Timestamp,
    /// When it ends, exclusive; of one that is ended by hand, when it was.
    pub ends_at: Timestamp,
    /// When it was made or changed last.
    pub updated_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Between begin and end it holds only within these; always when empty.
    pub recurs: Vec<TimeInterval>,
    /// Whether it ends as soon as nothing that it silenced fires any more.
    pub is_until_resolved: bool,
}

impl Silence {
    /// Says where it stands at a moment, by begin and end alone.
    pub fn state(&self, now: Timestamp) -> SilenceState {
        if now >= self.ends_at {
            SilenceState::Expired
        } else if now < self.starts_at {
            SilenceState::Pending
        } else {
            SilenceState::Active
        }
    }

    /// Says whether labels match all its matchers, whenever that is asked.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches_labels(labels))
    }
}

/// Which silences a list shows.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SilenceFilter {
    /// States, as they are at `now`; all when empty.
    pub states: Vec<SilenceState>,
    /// The moment by which states are told.
    pub now: Timestamp,
    /// At most this many, 1 to 1000.
    pub limit: usize,
    /// Where the page begins.
    pub cursor: Option<String>,
}

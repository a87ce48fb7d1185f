//! What people change of an on-call schedule by hand.

use serde::{Deserialize, Serialize};

use crate::{Id, Timestamp};

/// Somebody stands in for whoever would be on call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShiftOverride {
    /// UUID version 7.
    pub id: Id,
    /// The schedule's name.
    pub schedule: String,
    /// Who is on call instead: a receiver's name.
    pub receiver: String,
    /// From when.
    pub starts_at: Timestamp,
    /// Until when, exclusive.
    pub ends_at: Timestamp,
    /// Who arranged it.
    pub created_by: String,
    /// When it was arranged.
    pub created_at: Timestamp,
    /// Why.
    pub comment: String,
}

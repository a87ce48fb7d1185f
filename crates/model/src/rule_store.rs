//! Rules that were made by API, as records, and the port that keeps them.
//!
//! A record is one rule group: that is what runs in order, at one pace, and what somebody changes as a whole. Its
//! definition is a text that only `rules` understands; here it is carried. Each change makes a new version, and
//! whoever changes names the version that was seen, so that nobody overwrites what another has written meanwhile.
//! Deliberately absent: rules of files. The file is their record.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Id, StoreError, Timestamp};

/// A rule group that was made by API, as it stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RuleGroupRecord {
    /// UUID version 7; stays when the group is renamed.
    pub id: Id,
    /// The group's name, unique among the groups made by API.
    pub name: String,
    /// Counts the changes, from 1.
    pub version: u32,
    /// The group as `rules` reads it, JSON.
    pub definition: String,
    /// What was said of the last change; may be empty.
    pub comment: String,
    /// Who made the group: a user's name, `token:NAME`.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who changed it last.
    pub updated_by: String,
    /// When that was.
    pub updated_at: Timestamp,
}

/// One version of a group, for its history.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RuleGroupVersion {
    /// Its number.
    pub version: u32,
    /// The group's name then.
    pub name: String,
    /// The group then; empty when this version is its deletion.
    pub definition: String,
    /// What was said of the change.
    pub comment: String,
    /// Who changed it.
    pub author: String,
    /// When.
    pub at: Timestamp,
    /// Whether the group was deleted.
    pub is_deletion: bool,
}

/// Who deletes a group, when and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleGroupDeletion {
    /// The group.
    pub id: Id,
    /// The version that was seen; `None` deletes whatever stands.
    pub expected: Option<u32>,
    /// Who.
    pub author: String,
    /// When.
    pub at: Timestamp,
    /// Why; may be empty.
    pub comment: String,
}

/// Why a group was not written.
#[derive(Debug, Error)]
pub enum RuleStoreError {
    /// Another group made by API has the name.
    #[error("a rule group made by API is called {0:?} already")]
    NameTaken(String),
    /// Somebody has changed the group meanwhile.
    #[error("version {found} stands, not {expected}: somebody has changed the group meanwhile")]
    Conflict {
        /// The version that was seen.
        expected: u32,
        /// The version that stands.
        found: u32,
    },
    /// There is no such group, or it was deleted.
    #[error("no rule group made by API has the id {0}")]
    NotFound(Id),
    /// There are as many groups as there may be.
    #[error("there are {limit} rule groups made by API, which is the limit")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// The records cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps the rule groups that were made by API, and their history.
///
/// Every write is the leader's; see [`StoreError::Fenced`].
pub trait RuleStore: Send + Sync {
    /// Gives all groups, the oldest first.
    fn rule_groups(&self) -> Result<Vec<RuleGroupRecord>, StoreError>;

    /// Gives one group.
    fn rule_group(&self, id: Id) -> Result<Option<RuleGroupRecord>, StoreError>;

    /// Gives the versions of a group, the newest first; those of a deleted one too. The oldest of many are gone.
    fn rule_group_history(&self, id: Id) -> Result<Vec<RuleGroupVersion>, StoreError>;

    /// Writes a group with its version, durable on return. Version 1 is a new group; any other needs the version
    /// before it to stand.
    fn put_rule_group(&self, group: &RuleGroupRecord) -> Result<(), RuleStoreError>;

    /// Deletes a group and notes that as its last version, durable on return; gives what stood.
    fn delete_rule_group(&self, deletion: &RuleGroupDeletion) -> Result<RuleGroupRecord, RuleStoreError>;
}

//! Who may do what: users, their roles, tokens, and the record of what people did; and the port that keeps them.
//!
//! Deliberately absent: how a password is checked or a token is read; that is the room `access`. A secret stands here
//! as its digest only.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Id, Page, Secret, StoreError, Timestamp};

/// What somebody may do; each role may do what the ones before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks at everything but users, tokens and the audit log.
    Viewer,
    /// Also acts on alerts and pushes samples.
    Operator,
    /// Also changes users, tokens and the configuration.
    Admin,
}

/// No role has this name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no role; known are viewer, operator, admin")]
pub struct RoleError(String);

impl Role {
    /// All roles, the weakest first.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// Gives the role's name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let found = Role::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| RoleError(text.chars().take(40).collect()))
    }
}

/// Somebody who can log in.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct User {
    /// Names the record.
    pub id: Id,
    /// What is typed at the login; unique, lower case.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// The password's digest as a PHC string (`$argon2id$…`).
    #[serde(skip)]
    pub password: Secret,
    /// Whether the user is shut out.
    pub is_disabled: bool,
    /// When the record was made.
    pub created_at: Timestamp,
    /// Sessions that began before this moment have ended: set by a new password, role or shutting out.
    pub sessions_from: Timestamp,
}

/// A long-lived credential for programs; its value is shown once, when it is made.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ApiToken {
    /// Names the record.
    pub id: Id,
    /// What it is for; unique.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// SHA-256 of the token's value.
    #[serde(skip)]
    pub digest: [u8; 32],
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// How an action ended that somebody asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was not allowed, or the credentials were wrong.
    Refused,
    /// It was allowed and failed.
    Failed,
}

/// One line of the audit log.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AuditEntry {
    /// Names the entry; ids sort by time.
    pub id: Id,
    /// When it happened.
    pub at: Timestamp,
    /// Who asked: a user's name, `token:NAME`, or empty when nobody was recognised.
    pub actor: String,
    /// The role that asked, if somebody was recognised.
    pub role: Option<Role>,
    /// What was asked, from a fixed list: `login`, `alert.acknowledge`, `user.create`, …
    pub action: String,
    /// What it was asked of: an alert's id, a user's name; may be empty.
    pub subject: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Where the request came from; empty for the command line.
    pub client: String,
    /// The request's trace id.
    pub trace_id: String,
    /// Further words for people, bounded; never a secret.
    pub detail: String,
}

/// Which audit entries a list shows; empty texts mean "all".
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditFilter {
    /// Who asked.
    pub actor: String,
    /// What was asked.
    pub action: String,
    /// At most this many, 1 to 1000.
    pub limit: usize,
    /// Where the page begins.
    pub cursor: Option<String>,
}

/// Why a user or token was not written.
#[derive(Debug, Error)]
pub enum AccessStoreError {
    /// Another record has the name.
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    /// The records cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps users, tokens, ended sessions and the audit log.
pub trait AccessStore: Send + Sync {
    /// Gives all users, by name.
    fn users(&self) -> Result<Vec<User>, StoreError>;

    /// Gives one user.
    fn user(&self, name: &str) -> Result<Option<User>, StoreError>;

    /// Writes a user, new or changed (by id), durable on return.
    fn put_user(&self, user: &User) -> Result<(), AccessStoreError>;

    /// Deletes a user; says whether there was one.
    fn delete_user(&self, name: &str) -> Result<bool, StoreError>;

    /// Gives all API tokens, by name.
    fn tokens(&self) -> Result<Vec<ApiToken>, StoreError>;

    /// Gives the token with this digest.
    fn token(&self, digest: &[u8; 32]) -> Result<Option<ApiToken>, StoreError>;

    /// Writes a token, new or changed (by id), durable on return.
    fn put_token(&self, token: &ApiToken) -> Result<(), AccessStoreError>;

    /// Deletes a token; says whether there was one.
    fn delete_token(&self, name: &str) -> Result<bool, StoreError>;

    /// Ends the session with this id (`jti`); the note is kept until the session would have ended by itself.
    fn end_session(&self, session: Id, expires_at: Timestamp) -> Result<(), StoreError>;

    /// Says whether a session was ended.
    fn is_session_ended(&self, session: Id) -> Result<bool, StoreError>;

    /// Writes an entry of the audit log, durable on return.
    fn record(&self, entry: &AuditEntry) -> Result<(), StoreError>;

    /// Lists the audit log, newest first.
    fn audit(&self, filter: &AuditFilter) -> Result<Page<AuditEntry>, StoreError>;

    /// Deletes notes of sessions that have expired, and audit entries older than `audit_before`; gives their number.
    fn clean_access(&self, now: Timestamp, audit_before: Timestamp) -> Result<u64, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_may_do_what_the_weaker_ones_may_and_reads_back() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }
}

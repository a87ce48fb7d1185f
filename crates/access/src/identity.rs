//! Who asks: what was shown, and who was recognised by it.

use marketprism_model::{Id, Role, Secret, Timestamp};

/// What a request shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credential {
    /// `Authorization: Bearer …`: a session's token or an API token (`mp_…`).
    Bearer(Secret),
    /// `Authorization: Basic …`: a user's name and password, or any name and an API token.
    Basic {
        /// The name.
        user: String,
        /// The password or API token.
        password: Secret,
    },
    /// The browser's cookie: a session's token.
    Cookie(Secret),
}

/// The session that a token stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionRef {
    /// The token's `jti`.
    pub id: Id,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// Who was recognised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// `alice`, `token:grafana`, or empty when no credentials are asked for.
    pub actor: String,
    /// What may be done.
    pub role: Role,
    /// The session, if there is one that can be ended.
    pub session: Option<SessionRef>,
}

impl Identity {
    /// Gives who everybody is when no credentials are asked for.
    pub fn anybody() -> Self {
        Identity {
            actor: String::new(),
            role: Role::Admin,
            session: None,
        }
    }
}

/// A session that has just begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// The token to show; given once.
    pub token: Secret,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Who logged in.
    pub identity: Identity,
}

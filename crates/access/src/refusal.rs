//! Why somebody is not let in, and the words for it.
//!
//! The words for outsiders are constant: a wrong password, an unknown name and a disabled user read the same.
//! What really happened stands in the audit log and in the metrics.

use std::time::Duration;

use marketprism_model::{Role, StoreError};
use thiserror::Error;

/// Why a request is not let in. The message may be shown to anybody, but for `Store`'s source.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The address is on no list.
    #[error("this address may not connect")]
    Address,
    /// Nothing was shown.
    #[error("credentials are needed")]
    NoCredential,
    /// What was shown is worth nothing.
    #[error("the credentials are not accepted")]
    BadCredential,
    /// The session has ended.
    #[error("the session or token has ended")]
    Expired,
    /// The user is shut out. Outsiders hear the words of [`Refusal::BadCredential`].
    #[error("the credentials are not accepted")]
    Disabled,
    /// The role is too weak.
    #[error("this needs the role {needs}")]
    Forbidden {
        /// What it takes.
        needs: Role,
    },
    /// Too many failures; further ones are not even looked at.
    #[error("too many failed attempts")]
    TooManyAttempts {
        /// When to come back.
        retry_after: Duration,
    },
    /// More passwords are being checked than the machine can take; coming back in a second helps.
    #[error("too many logins at this moment")]
    Busy,
    /// The records cannot be reached.
    #[error("the records cannot be reached")]
    Store(#[from] StoreError),
}

impl Refusal {
    /// Every word that [`Refusal::reason`] gives.
    pub(crate) const REASONS: [&'static str; 9] = [
        "address",
        "no_credential",
        "bad_credential",
        "expired",
        "disabled",
        "forbidden",
        "too_many_attempts",
        "busy",
        "store",
    ];

    /// Gives the reason as a label and as a word of the audit log; from a fixed list.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::Address => "address",
            Refusal::NoCredential => "no_credential",
            Refusal::BadCredential => "bad_credential",
            Refusal::Expired => "expired",
            Refusal::Disabled => "disabled",
            Refusal::Forbidden { .. } => "forbidden",
            Refusal::TooManyAttempts { .. } => "too_many_attempts",
            Refusal::Busy => "busy",
            Refusal::Store(_) => "store",
        }
    }
}

//! What every channel is to the rest: something that takes a message and says what became of it.

use std::time::Duration;

use marketprism_model::{BoxFuture, Id, Notification, Timestamp};

use crate::compose::{Audience, Message, shorten_bytes};
use crate::redact::Redactor;
use crate::trace::Trace;

/// The longest detail that is recorded, in bytes.
const DETAIL_BYTES_MAX: usize = 1024;

/// What became of one attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// The provider took it.
    Delivered {
        /// The provider's status.
        code: i32,
        /// The provider's words.
        detail: String,
    },
    /// It failed in a way that may pass.
    Retry {
        /// The provider asked not to be bothered before this, by any message through the same channel.
        after: Option<Duration>,
        /// The provider's status, 0 when there was no answer.
        code: i32,
        /// The provider's words or ours.
        detail: String,
    },
    /// It failed for good: the same message will fail again.
    Refused {
        /// The provider's status, 0 when it was not asked.
        code: i32,
        /// The provider's words or ours.
        detail: String,
    },
}

impl Delivery {
    /// Makes the delivery fit to be recorded: no secret, at most 1 KiB.
    pub(crate) fn recorded(mut self, redactor: &Redactor) -> Self {
        let (Delivery::Delivered { detail, .. }
        | Delivery::Retry { detail, .. }
        | Delivery::Refused { detail, .. }) = &mut self;
        *detail = shorten_bytes(&redactor.redact(detail), DETAIL_BYTES_MAX);
        self
    }
}

/// The circumstances of one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// When it begins.
    pub now: Timestamp,
    /// Counted from 1.
    pub number: u32,
    /// Goes out with it; a channel that speaks HTTP marks its request with it.
    pub trace: Trace,
}

impl Attempt {
    /// Begins attempt `number` at a notification.
    pub fn at(notification: Id, number: u32, now: Timestamp) -> Self {
        Attempt {
            now,
            number,
            trace: Trace::of(notification, number),
        }
    }
}

/// How often a provider may be asked with one credential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rate {
    /// What the provider counts by; channels with the same credential share their turns.
    pub credential: String,
    /// How many messages any one span may hold.
    pub messages: usize,
    /// The span.
    pub span: Duration,
}

/// Delivers messages in one provider's way.
pub trait Channel: Send + Sync {
    /// Sends once. Never panics on what the provider answers; says nothing secret.
    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        message: &'a Message,
        attempt: Attempt,
    ) -> BoxFuture<'a, Delivery>;

    /// For whom its messages are written.
    fn audience(&self) -> &Audience;

    /// How often it may send; `None` when only the number of workers limits it.
    fn rate(&self) -> Option<Rate> {
        None
    }
}

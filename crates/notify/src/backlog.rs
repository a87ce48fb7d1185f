//! What waits in the outbox, channel by channel, for the figures.
//!
//! Counted by what comes next: of each group and channel the notification that is first. That is the oldest, and the
//! outbox has it at hand, while everything behind it may be long.

use std::collections::BTreeMap;

use marketprism_model::{Outbox, StoreError, Timestamp};

/// Groups beyond this are not looked at; the count then says as much.
const GROUPS_MAX: usize = 1_000;

/// What waits.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Notifications that are neither delivered nor given up.
    pub(crate) open: u64,
    /// By channel.
    pub(crate) queues: BTreeMap<String, Queue>,
}

/// What waits for one channel.
pub(crate) struct Queue {
    /// Groups whose next notification waits.
    pub(crate) groups: u64,
    /// When the oldest of them was decided.
    pub(crate) oldest: Timestamp,
}

impl Backlog {
    /// Looks at the outbox.
    pub(crate) fn count(outbox: &dyn Outbox) -> Result<Self, StoreError> {
        let mut backlog = Backlog {
            open: outbox.open_count()?,
            queues: BTreeMap::new(),
        };
        if backlog.open == 0 {
            return Ok(backlog);
        }
        for first in outbox.due(Timestamp::MAX, GROUPS_MAX)? {
            let queue = backlog.queues.entry(first.channel).or_insert(Queue {
                groups: 0,
                oldest: first.created_at,
            });
            queue.groups += 1;
            queue.oldest = queue.oldest.min(first.created_at);
        }
        Ok(backlog)
    }
}

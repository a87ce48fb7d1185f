//! Messages that a receiver's own integrations cannot carry, and that the fallback receiver's channels carry instead.
//!
//! Such a message was decided for its receiver and stands in the outbox as what it is; only whoever reads it must be
//! told why it comes. A message that nothing else would explain is therefore written as one that could not be delivered
//! elsewhere.

use std::borrow::Cow;
use std::collections::BTreeMap;

use marketprism_model::{Notification, Purpose};

use crate::receivers::PreparedReceiver;

/// Receivers with integrations that nobody delivers, by name.
#[derive(Default)]
pub(crate) struct Substitutes(BTreeMap<String, Undelivered>);

struct Undelivered {
    /// The receiver's own channels.
    channels: Vec<String>,
    /// What cannot be delivered, in one line.
    entries: String,
}

impl Substitutes {
    pub(crate) fn of(receivers: &[PreparedReceiver]) -> Self {
        let lacking = receivers
            .iter()
            .filter(|receiver| !receiver.undelivered.is_empty());
        Substitutes(
            lacking
                .map(|receiver| {
                    let entries: Vec<&str> = receiver.undelivered.iter().map(|(name, _)| &**name).collect();
                    let undelivered = Undelivered {
                        channels: receiver.channels.iter().map(|(name, _)| name.clone()).collect(),
                        entries: entries.join(", "),
                    };
                    (receiver.name.clone(), undelivered)
                })
                .collect(),
        )
    }

    /// Gives a message as its readers are told it.
    pub(crate) fn as_told<'a>(&self, notification: &'a Notification) -> Cow<'a, Notification> {
        let undelivered = self.0.get(&notification.receiver).filter(|undelivered| {
            notification.content.purpose == Purpose::Group
                && !undelivered.channels.contains(&notification.channel)
        });
        let Some(undelivered) = undelivered else {
            return Cow::Borrowed(notification);
        };
        let mut told = notification.clone();
        told.content.purpose = Purpose::Fallback {
            receiver: notification.receiver.clone(),
            channel: undelivered.entries.clone(),
        };
        Cow::Owned(told)
    }
}

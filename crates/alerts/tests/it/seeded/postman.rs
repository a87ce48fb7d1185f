//! Who carries messages from the outbox to the channels, as the notifier does, one walk a step.
//!
//! An attempt is durable before it is made and after it was; between the two the process can die, and the message
//! comes again, on record as uncertain. Receivers know a message by its id.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use marketprism_alerts::Alerts;
use marketprism_model::{
    AttemptOutcome, DeliveryAttempt, Id, Notification, NotificationStatus, Outbox, Timestamp,
};

use super::fragile::{Fragile, Mood};

const RETRY: Duration = Duration::from_secs(30);

#[derive(Default)]
pub struct Postman {
    down_until: BTreeMap<&'static str, Duration>,
    heard: Vec<Heard>,
    given_up: Vec<Notification>,
    arrived: HashSet<Id>,
    last_wall: Option<Timestamp>,
}

/// A message at its receiver.
pub struct Heard {
    pub message: Notification,
    /// Whether it came before.
    pub is_again: bool,
    /// Whether an earlier attempt is on record as uncertain.
    pub is_uncertain: bool,
}

impl Postman {
    pub fn take_down(&mut self, channel: &'static str, until: Duration) {
        self.down_until.insert(channel, until);
    }

    pub fn all_up(&mut self) {
        self.down_until.clear();
    }

    pub fn down(&self, now: Duration) -> Vec<&'static str> {
        let down = self.down_until.iter().filter(|(_, until)| **until > now);
        down.map(|(channel, _)| *channel).collect()
    }

    pub fn take_heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }

    pub fn take_given_up(&mut self) -> Vec<Notification> {
        std::mem::take(&mut self.given_up)
    }

    /// Makes cut attempts due again, at a start.
    pub fn recover(&mut self, store: &Fragile, wall: Timestamp) {
        store.db.bring_forward(wall).expect("bring forward");
        store.db.recover(wall).expect("recover");
    }

    /// Tries whatever is due; gives what was given up.
    pub fn walk(
        &mut self,
        store: &Fragile,
        wall: Timestamp,
        now: Duration,
        alerts: &Alerts,
    ) -> Vec<Notification> {
        if *store.mood.lock() == Mood::Refuses {
            return Vec::new();
        }
        if self.last_wall.is_some_and(|last| wall < last) {
            store.db.bring_forward(wall).expect("bring forward");
        }
        self.last_wall = Some(wall);
        loop {
            let due = store.db.due(wall, 100).expect("due");
            if due.is_empty() {
                break;
            }
            for message in due {
                self.attempt(store, &message, wall, now, alerts);
            }
        }
        self.take_given_up()
    }

    fn attempt(
        &mut self,
        store: &Fragile,
        message: &Notification,
        wall: Timestamp,
        now: Duration,
        alerts: &Alerts,
    ) {
        let mut attempt = DeliveryAttempt {
            notification: message.id,
            number: message.attempts + 1,
            started_at: wall,
            finished_at: None,
            outcome: AttemptOutcome::Started,
            provider_code: 0,
            detail: String::new(),
        };
        store.db.begin(&attempt).expect("begin");
        store.point();
        let is_down = self
            .down_until
            .get(message.channel.as_str())
            .is_some_and(|until| *until > now);
        if !is_down {
            let attempts = store.db.attempts(message.id).expect("attempts");
            self.heard.push(Heard {
                message: message.clone(),
                is_again: !self.arrived.insert(message.id),
                is_uncertain: attempts
                    .iter()
                    .any(|made| made.outcome == AttemptOutcome::Uncertain),
            });
        }
        store.point();
        attempt.finished_at = Some(wall);
        attempt.outcome = if is_down {
            AttemptOutcome::Retry
        } else {
            AttemptOutcome::Delivered
        };
        let is_late = wall + RETRY > message.deadline_at;
        let (status, retry_at) = match (is_down, is_late) {
            (false, _) => (NotificationStatus::Delivered, None),
            (true, false) => (NotificationStatus::Waiting, Some(wall + RETRY)),
            (true, true) => (NotificationStatus::Failed, None),
        };
        store.db.finish(&attempt, status, retry_at).expect("finish");
        if status == NotificationStatus::Failed {
            self.given_up.push(message.clone());
            store.point();
            alerts.undelivered(message);
        }
        store.point();
    }
}

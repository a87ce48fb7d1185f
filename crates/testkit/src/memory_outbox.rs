//! An outbox in memory that can be told to refuse writes, as a full disk does.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use marketprism_model::records::NotificationFilter;
use marketprism_model::{
    AttemptOutcome, DeliveryAttempt, Id, Notification, NotificationStatus, Outbox, Page, StoreError,
    Timestamp,
};

/// Keeps notifications and attempts in memory, with the promises of [`Outbox`].
#[derive(Default)]
pub struct MemoryOutbox {
    rows: Mutex<Rows>,
    is_full: AtomicBool,
}

#[derive(Default)]
struct Rows {
    notifications: Vec<Notification>,
    attempts: Vec<DeliveryAttempt>,
}

impl MemoryOutbox {
    /// Makes an empty one.
    pub fn new() -> Self {
        MemoryOutbox::default()
    }

    /// Puts a notification in, as the lifecycle's commit does.
    pub fn put(&self, notification: Notification) {
        self.rows().notifications.push(notification);
    }

    /// Gives a notification as it stands.
    pub fn get(&self, id: Id) -> Option<Notification> {
        let rows = self.rows();
        rows.notifications.iter().find(|n| n.id == id).cloned()
    }

    /// Makes every further write fail, or succeed again.
    pub fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writable(&self, operation: &'static str) -> Result<MutexGuard<'_, Rows>, StoreError> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(StoreError::Database {
                operation,
                reason: "database or disk is full".to_owned(),
            });
        }
        Ok(self.rows())
    }
}

impl Rows {
    fn notification(&mut self, id: Id) -> &mut Notification {
        let found = self.notifications.iter_mut().find(|n| n.id == id);
        found.expect("attempts belong to notifications that were put in")
    }

    /// Gives the waiting ones that nothing older holds back: no open one of the same group, receiver and channel, and none
    /// to the same channel about one of the same alerts.
    fn first(&self) -> Vec<&Notification> {
        let (mut ways, mut alerts) = (HashSet::new(), HashSet::new());
        let mut first = Vec::new();
        for notification in self.notifications.iter().filter(|n| is_open(n)) {
            let channel = &notification.channel;
            let mut is_first = ways.insert((&notification.group_key, &notification.receiver, channel));
            let told = || notification.content.alerts.iter().map(|told| (channel, told.id));
            is_first &= told().all(|known| !alerts.contains(&known));
            alerts.extend(told());
            if is_first && notification.status == NotificationStatus::Waiting {
                first.push(notification);
            }
        }
        first
    }

    fn store(&mut self, attempt: &DeliveryAttempt) {
        self.attempts
            .retain(|kept| (kept.notification, kept.number) != (attempt.notification, attempt.number));
        self.attempts.push(attempt.clone());
    }
}

fn is_open(notification: &Notification) -> bool {
    matches!(
        notification.status,
        NotificationStatus::Waiting | NotificationStatus::Sending
    )
}

impl Outbox for MemoryOutbox {
    fn recover(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut rows = self.writable("recover")?;
        for attempt in &mut rows.attempts {
            if attempt.outcome == AttemptOutcome::Started {
                attempt.outcome = AttemptOutcome::Uncertain;
                attempt.finished_at = Some(now);
            }
        }
        let mut count = 0;
        for notification in &mut rows.notifications {
            if notification.status == NotificationStatus::Sending {
                notification.status = NotificationStatus::Waiting;
                notification.due_at = now;
                count += 1;
            }
        }
        Ok(count)
    }

    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Notification>, StoreError> {
        let rows = self.rows();
        let first = rows.first().into_iter();
        let due = first.filter(|notification| notification.due_at <= now);
        Ok(due.take(limit).cloned().collect())
    }

    fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let rows = self.rows();
        Ok(rows.first().iter().map(|notification| notification.due_at).min())
    }

    fn bring_forward(&self, latest: Timestamp) -> Result<u64, StoreError> {
        let mut rows = self.writable("bring forward")?;
        let late = rows
            .notifications
            .iter_mut()
            .filter(|n| n.status == NotificationStatus::Waiting && n.due_at > latest);
        let late = late.map(|notification| notification.due_at = latest);
        Ok(late.count() as u64)
    }

    fn begin(&self, attempt: &DeliveryAttempt) -> Result<(), StoreError> {
        let mut rows = self.writable("begin attempt")?;
        rows.store(attempt);
        let notification = rows.notification(attempt.notification);
        notification.status = NotificationStatus::Sending;
        notification.attempts = attempt.number;
        Ok(())
    }

    fn finish(
        &self,
        attempt: &DeliveryAttempt,
        status: NotificationStatus,
        retry_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let mut rows = self.writable("finish attempt")?;
        rows.store(attempt);
        let notification = rows.notification(attempt.notification);
        notification.status = status;
        if let Some(retry_at) = retry_at {
            notification.due_at = retry_at;
        }
        Ok(())
    }

    /// There is no heartbeat here, so that all which failed may be unheard.
    fn given_up_unheard(&self, limit: usize) -> Result<Vec<Notification>, StoreError> {
        let rows = self.rows();
        let failed = rows.notifications.iter();
        let failed: Vec<_> = failed
            .filter(|n| n.status == NotificationStatus::Failed)
            .collect();
        let newest = failed.len().saturating_sub(limit);
        Ok(failed.into_iter().skip(newest).cloned().collect())
    }

    fn open_count(&self) -> Result<u64, StoreError> {
        let rows = self.rows();
        Ok(rows.notifications.iter().filter(|n| is_open(n)).count() as u64)
    }

    fn notifications(&self, filter: &NotificationFilter) -> Result<Page<Notification>, StoreError> {
        let rows = self.rows();
        let kept = rows.notifications.iter().rev().filter(|n| {
            (filter.statuses.is_empty() || filter.statuses.contains(&n.status))
                && filter
                    .alert
                    .is_none_or(|id| n.content.alerts.iter().any(|alert| alert.id == id))
        });
        Ok(Page {
            items: kept.cloned().collect(),
            next_cursor: None,
        })
    }

    fn attempts(&self, notification: Id) -> Result<Vec<DeliveryAttempt>, StoreError> {
        let rows = self.rows();
        let ours = rows.attempts.iter().filter(|a| a.notification == notification);
        Ok(ours.cloned().collect())
    }
}

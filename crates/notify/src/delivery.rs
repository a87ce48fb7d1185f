//! One attempt, from its record to its receipt.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use marketprism_model::kill_point::kill_point;
use marketprism_model::{
    AttemptOutcome, Chance, Clock, DeliveryAttempt, Id, Notification, NotificationStatus, Outbox, StoreError,
    Timestamp,
};

use parking_lot::Mutex;

use crate::backoff::next_attempt;
use crate::channel::{Attempt, Channel, Delivery};
use crate::compose::compose;
use crate::metrics::Metrics;

/// The attempt is recorded, nothing has left yet.
pub const BEFORE_SEND: &str = "notify.before_send";
/// The provider has answered, the answer is not recorded yet.
pub const AFTER_SEND: &str = "notify.after_send";
/// How long a database that will not take a receipt is left alone.
const RECEIPT_PAUSE: Duration = Duration::from_secs(2);

/// What attempts need.
pub(crate) struct Deliverer {
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) metrics: Metrics,
    /// Hears of notifications that are given up without having reached their channel.
    pub(crate) given_up: Mutex<Option<GivenUp>>,
}

/// Hears of a notification that is given up at its deadline.
pub(crate) type GivenUp = Arc<dyn Fn(&Notification) + Send + Sync>;

/// What the loop must know of an attempt that has ended.
pub(crate) struct Ending {
    pub(crate) notification: Id,
    pub(crate) channel: String,
    /// Until when, on the monotonic clock, the provider wants the whole channel to be quiet.
    pub(crate) held_until: Option<Duration>,
    /// Whether the attempt could be recorded; if not, nothing was sent.
    pub(crate) is_recorded: bool,
}

impl Deliverer {
    /// Calls the outbox off the async threads, because it waits for the disk.
    pub(crate) async fn store<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Outbox) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let outbox = Arc::clone(&self.outbox);
        let outcome = tokio::task::spawn_blocking(move || call(&*outbox)).await;
        outcome.unwrap_or_else(|error| {
            Err(StoreError::Database {
                operation: "outbox",
                reason: error.to_string(),
            })
        })
    }

    /// Makes one attempt. Without a channel of that name the notification is given up, and says so.
    pub(crate) async fn attempt(
        &self,
        notification: Notification,
        channel: Option<Arc<dyn Channel>>,
    ) -> Ending {
        let mut record = DeliveryAttempt {
            notification: notification.id,
            number: notification.attempts + 1,
            started_at: self.clock.now(),
            finished_at: None,
            outcome: AttemptOutcome::Started,
            provider_code: 0,
            detail: String::new(),
        };
        let mut ending = Ending {
            notification: notification.id,
            channel: notification.channel.clone(),
            held_until: None,
            is_recorded: true,
        };
        let beginning = record.clone();
        if let Err(error) = self.store(move |outbox| outbox.begin(&beginning)).await {
            self.metrics.store_errors.inc();
            tracing::warn!(channel = notification.channel, error = %error, "an attempt cannot be recorded and is not made");
            ending.is_recorded = false;
            return ending;
        }
        let delivery = match channel {
            Some(channel) => self.send(&notification, &*channel, &record).await,
            None => Delivery::Refused {
                code: 0,
                detail: format!("no channel {:?} is in use", notification.channel),
            },
        };
        if let Delivery::Retry { after, .. } = &delivery {
            let answered_at = self.clock.monotonic();
            ending.held_until = after.map(|after| answered_at + after);
        }
        let (status, retry_at) = self.judge(&notification, &mut record, delivery);
        let is_given_up = status == NotificationStatus::Failed && record.outcome == AttemptOutcome::Retry;
        self.conclude(record, status, retry_at).await;
        if is_given_up {
            let heard = self.given_up.lock().clone();
            heard.iter().for_each(|heard| heard(&notification));
        }
        ending
    }

    async fn send(
        &self,
        notification: &Notification,
        channel: &dyn Channel,
        record: &DeliveryAttempt,
    ) -> Delivery {
        let attempt = Attempt::at(notification.id, record.number, record.started_at);
        kill_point(BEFORE_SEND);
        let start = self.clock.monotonic();
        // A fault in the writing of a message must not hold up whatever goes the same way after it.
        let sending = AssertUnwindSafe(async {
            let message = compose(notification, channel.audience());
            channel.deliver(notification, &message, attempt).await
        });
        let delivery = sending.catch_unwind().await;
        let took = self.clock.monotonic().saturating_sub(start);
        self.metrics.attempt(&notification.channel, took);
        kill_point(AFTER_SEND);
        delivery.unwrap_or_else(|_| Delivery::Retry {
            after: None,
            code: 0,
            detail: "fault in the channel's own code; see the log".to_owned(),
        })
    }

    /// Turns an outcome into what is recorded: the attempt, where the notification stands, when it is tried again.
    fn judge(
        &self,
        notification: &Notification,
        record: &mut DeliveryAttempt,
        delivery: Delivery,
    ) -> (NotificationStatus, Option<Timestamp>) {
        let now = self.clock.now();
        let channel = notification.channel.as_str();
        record.finished_at = Some(now);
        let elapsed_ms = now.since(record.started_at).as_millis() as u64;
        match delivery {
            Delivery::Delivered { code, detail } => {
                (record.outcome, record.provider_code, record.detail) =
                    (AttemptOutcome::Delivered, code, detail);
                self.metrics.sent(channel, "delivered");
                self.metrics.delay(channel, now.since(notification.created_at));
                tracing::info!(
                    channel,
                    elapsed_ms,
                    detail = record.detail,
                    "notification delivered"
                );
                (NotificationStatus::Delivered, None)
            }
            Delivery::Refused { code, detail } => {
                (record.outcome, record.provider_code, record.detail) =
                    (AttemptOutcome::Refused, code, detail);
                self.metrics.sent(channel, "refused");
                tracing::error!(
                    channel,
                    elapsed_ms,
                    error = record.detail,
                    "notification refused; it is not sent again"
                );
                (NotificationStatus::Failed, None)
            }
            Delivery::Retry { after, code, detail } => {
                (record.outcome, record.provider_code, record.detail) = (AttemptOutcome::Retry, code, detail);
                self.metrics.sent(channel, "retry");
                let chance = self.chance.next_unit_f64();
                let retry_at = next_attempt(now, notification.deadline_at, record.number, after, chance);
                if retry_at.is_some() {
                    tracing::warn!(
                        channel,
                        elapsed_ms,
                        error = record.detail,
                        "notification not delivered yet"
                    );
                    return (NotificationStatus::Waiting, retry_at);
                }
                self.metrics.sent(channel, "gave_up");
                tracing::error!(
                    channel,
                    elapsed_ms,
                    error = record.detail,
                    "notification given up at its deadline"
                );
                (NotificationStatus::Failed, None)
            }
        }
    }

    /// Records the end, for as long as it takes: what was sent must not be sent again for want of a receipt.
    async fn conclude(
        &self,
        record: DeliveryAttempt,
        status: NotificationStatus,
        retry_at: Option<Timestamp>,
    ) {
        loop {
            let end = record.clone();
            let outcome = self
                .store(move |outbox| outbox.finish(&end, status, retry_at))
                .await;
            let Err(error) = outcome else { return };
            self.metrics.store_errors.inc();
            tracing::error!(error = %error, "a receipt cannot be recorded; trying again");
            self.clock.sleep(RECEIPT_PAUSE).await;
        }
    }
}

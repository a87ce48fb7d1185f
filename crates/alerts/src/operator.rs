//! What people do to alerts: take them in hand, give them back, declare them over.

use std::sync::Arc;

use marketprism_model::alert::Acknowledgement;
use marketprism_model::{Alert, AlertEventKind, AlertState, Id, StoreError, Timestamp};
use thiserror::Error;

use crate::alerts::Alerts;
use crate::book::{Book, Cause, Timer};

/// A note may be this long, in bytes.
pub const NOTE_BYTES_MAX: usize = 4_096;

/// Why an act was not taken.
#[derive(Debug, Error)]
pub enum ActError {
    /// There is no such alert.
    #[error("no alert {0}")]
    Unknown(Id),
    /// It is over already.
    #[error("alert {0} is resolved")]
    Resolved(Id),
    /// It does not fire yet, so nobody was told and there is nothing to take in hand.
    #[error("alert {0} is pending; it can be acted on once it fires")]
    Pending(Id),
    /// Nobody has it in hand.
    #[error("alert {0} is not acknowledged")]
    NotAcknowledged(Id),
    /// The end of the acknowledgement is not in the future.
    #[error("until {until} is not after now, {now}")]
    Past {
        /// What was given.
        until: Timestamp,
        /// The clock.
        now: Timestamp,
    },
    /// The note is too long.
    #[error("note of {bytes} bytes; at most {NOTE_BYTES_MAX} are kept")]
    NoteTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The act stands in memory, but the store refused it; it is tried again with the next tick.
    #[error("alert records: {0}")]
    Store(#[from] StoreError),
}

impl Alerts {
    /// Takes an alert in hand: repeats stop until its level rises, `until` passes or it resolves.
    ///
    /// Acknowledging again replaces who, note and until.
    pub fn acknowledge(
        &self,
        id: Id,
        by: &str,
        note: &str,
        until: Option<Timestamp>,
    ) -> Result<Arc<Alert>, ActError> {
        let now = self.clock.now();
        check_note(note)?;
        if let Some(until) = until.filter(|until| *until <= now) {
            return Err(ActError::Past { until, now });
        }
        self.act(id, |book, fingerprint, alert| {
            let acknowledged = Acknowledgement {
                by: by.to_owned(),
                at: now,
                until,
                note: note.to_owned(),
                level: alert.level,
            };
            book.change(fingerprint, |alert| {
                alert.acknowledged = Some(acknowledged);
                alert.updated_at = now;
            });
            if let Some(until) = until {
                book.timers.insert((until, Timer::Acknowledgement, fingerprint));
            }
            let note = note.to_owned();
            book.event(id, now, Some(by), AlertEventKind::Acknowledged { note });
            Ok(())
        })
    }

    /// Gives an alert back, so that it is repeated again.
    pub fn unacknowledge(&self, id: Id, by: &str) -> Result<Arc<Alert>, ActError> {
        let now = self.clock.now();
        self.act(id, |book, fingerprint, alert| {
            if alert.acknowledged.is_none() {
                return Err(ActError::NotAcknowledged(id));
            }
            book.end_acknowledgement(fingerprint, now, Some(by), "by hand");
            Ok(())
        })
    }

    /// Declares an alert over. That holds until its condition has cleared once; what is still true after an
    /// hour fires anew, with that reason.
    pub fn resolve(&self, id: Id, by: &str, note: &str) -> Result<Arc<Alert>, ActError> {
        let now = self.clock.now();
        check_note(note)?;
        let reason = if note.is_empty() {
            "by hand".to_owned()
        } else {
            format!("by hand: {note}")
        };
        let cause = Cause {
            reason: &reason,
            actor: Some(by),
        };
        self.act(id, |book, fingerprint, _| {
            book.resolve_by_hand(fingerprint, now, cause);
            Ok(())
        })
    }

    /// Runs an act on a firing alert, writes it, and gives the alert as it stands then.
    fn act(
        &self,
        id: Id,
        act: impl FnOnce(&mut Book, u64, &Arc<Alert>) -> Result<(), ActError>,
    ) -> Result<Arc<Alert>, ActError> {
        let changed = {
            let mut book = self.book.lock();
            let found = book.by_id.get(&id).and_then(|fingerprint| {
                book.active
                    .get(fingerprint)
                    .map(|alert| (*fingerprint, Arc::clone(alert)))
            });
            let Some((fingerprint, alert)) = found else {
                drop(book);
                return Err(self.why_inactive(id));
            };
            if alert.state == AlertState::Pending {
                return Err(ActError::Pending(id));
            }
            act(&mut book, fingerprint, &alert)?;
            book.changes.alert_of(id).unwrap_or(alert)
        };
        self.write_now()?;
        self.wake.notify_one();
        Ok(changed)
    }

    fn why_inactive(&self, id: Id) -> ActError {
        match self.store.alert(id) {
            Ok(Some(_)) => ActError::Resolved(id),
            Ok(None) => ActError::Unknown(id),
            Err(error) => ActError::Store(error),
        }
    }
}

fn check_note(note: &str) -> Result<(), ActError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(ActError::NoteTooLong { bytes: note.len() });
    }
    Ok(())
}

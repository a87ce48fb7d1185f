//! What people do to alerts: take them in hand, give them to somebody, write something down, silence one, declare
//! it over.
//!
//! Every act says who and, where they gave one, why; each leaves its line in the alert's story.

use std::collections::BTreeSet;
use std::sync::Arc;

use marketprism_model::alert::{Acknowledgement, Assignment};
use marketprism_model::{
    Alert, AlertEventKind, AlertState, Id, Matcher, Silence, StoreError, Timestamp, labels,
};
use thiserror::Error;

use crate::alerts::Alerts;
use crate::book::{Book, Cause, Timer};
use crate::silences::{SilenceDraft, SilenceError};

/// A note may be this long, in bytes.
pub const NOTE_BYTES_MAX: usize = 4_096;
/// The name of a person may be this long, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// One request may act on this many alerts.
pub const ACTS_MAX: usize = 10_000;
/// How long a silence "until resolved" of one alert lasts at most.
const SUPPRESSED_MAX: std::time::Duration = std::time::Duration::from_secs(365 * 86_400);

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
    /// Nobody is to see to it.
    #[error("alert {0} is assigned to nobody")]
    NotAssigned(Id),
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
    /// A note says nothing.
    #[error("a note must not be empty")]
    NoteEmpty,
    /// Nobody is named, or with too many words.
    #[error("a name of {bytes} bytes; use 1 to {NAME_BYTES_MAX}")]
    Name {
        /// Its length.
        bytes: usize,
    },
    /// The silence of the alert is not taken.
    #[error(transparent)]
    Silence(#[from] SilenceError),
    /// The act stands in memory, but the store refused it; it is tried again with the next tick.
    #[error("alert records: {0}")]
    Store(#[from] StoreError),
}

/// What a person does to an alert.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AlertAct {
    /// Takes it in hand: repeats stop until its level rises, `until` passes or it resolves. Again replaces who, note and
    /// until.
    Acknowledge {
        /// What they said, possibly nothing.
        note: String,
        /// Until when; until it rises or resolves when `None`.
        until: Option<Timestamp>,
    },
    /// Gives it back, so that it is repeated again.
    Unacknowledge,
    /// Declares it over. That holds until its condition has cleared once; what is still true after an hour fires anew,
    /// with that reason.
    Resolve {
        /// Why, possibly nothing.
        note: String,
    },
    /// Says who is to see to it; with `None` that nobody is any more.
    Assign {
        /// Who.
        to: Option<String>,
        /// Why, possibly nothing.
        note: String,
    },
    /// Writes something down; also for an alert that is over.
    Note {
        /// What.
        note: String,
    },
    /// Silences exactly its labels.
    Suppress {
        /// Why; a silence needs a reason.
        comment: String,
        /// Until when; until it resolves when `None`.
        until: Option<Timestamp>,
    },
}

impl AlertAct {
    fn check(&self, now: Timestamp) -> Result<(), ActError> {
        let (note, until, name) = match self {
            AlertAct::Acknowledge { note, until } => (note.as_str(), *until, None),
            AlertAct::Unacknowledge => ("", None, None),
            AlertAct::Resolve { note } => (note.as_str(), None, None),
            AlertAct::Assign { to, note } => (note.as_str(), None, to.as_ref()),
            AlertAct::Note { note } => {
                if note.trim().is_empty() {
                    return Err(ActError::NoteEmpty);
                }
                (note.as_str(), None, None)
            }
            AlertAct::Suppress { comment, until } => (comment.as_str(), *until, None),
        };
        if note.len() > NOTE_BYTES_MAX {
            return Err(ActError::NoteTooLong { bytes: note.len() });
        }
        if let Some(name) = name.filter(|name| !(1..=NAME_BYTES_MAX).contains(&name.len())) {
            return Err(ActError::Name { bytes: name.len() });
        }
        match until.filter(|until| *until <= now) {
            Some(until) => Err(ActError::Past { until, now }),
            None => Ok(()),
        }
    }
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
        let note = note.to_owned();
        self.act(id, &AlertAct::Acknowledge { note, until }, by)
    }

    /// Gives an alert back, so that it is repeated again.
    pub fn unacknowledge(&self, id: Id, by: &str) -> Result<Arc<Alert>, ActError> {
        self.act(id, &AlertAct::Unacknowledge, by)
    }

    /// Declares an alert over. That holds until its condition has cleared once; what is still true after an
    /// hour fires anew, with that reason.
    pub fn resolve(&self, id: Id, by: &str, note: &str) -> Result<Arc<Alert>, ActError> {
        let note = note.to_owned();
        self.act(id, &AlertAct::Resolve { note }, by)
    }

    /// Does something to an alert, writes it, and gives the alert as it stands then.
    pub fn act(&self, id: Id, act: &AlertAct, by: &str) -> Result<Arc<Alert>, ActError> {
        let mut answers = self.act_on(&[id], act, by)?;
        answers
            .pop()
            .map_or(Err(ActError::Unknown(id)), |(_, answer)| answer)
    }

    /// Does the same to many alerts, at most [`ACTS_MAX`] of them, in one transaction; gives what became of each.
    #[expect(clippy::type_complexity, reason = "an answer for each alert")]
    pub fn act_on(
        &self,
        ids: &[Id],
        act: &AlertAct,
        by: &str,
    ) -> Result<Vec<(Id, Result<Arc<Alert>, ActError>)>, ActError> {
        let now = self.clock.now();
        act.check(now)?;
        let mut answers: Vec<(Id, Result<Arc<Alert>, ActError>)> = Vec::new();
        let mut absent = Vec::new();
        {
            let mut book = self.book.lock();
            for id in ids.iter().take(ACTS_MAX) {
                match book.firing(*id) {
                    Ok(Some((fingerprint, alert))) => {
                        let done = book.act(fingerprint, &alert, act, by, now);
                        let done = done.map(|()| book.changes.alert_of(*id).unwrap_or(alert));
                        answers.push((*id, done));
                    }
                    Ok(None) => absent.push((answers.len(), *id)),
                    Err(error) => answers.push((*id, Err(error))),
                }
            }
        }
        for (shift, (place, id)) in absent.into_iter().enumerate() {
            answers.insert(place + shift, (id, self.act_on_absent(id, act, by, now)));
        }
        self.write_now()?;
        self.wake.notify_one();
        Ok(answers)
    }

    /// Does something to an alert that is not in memory, which only a note can be.
    fn act_on_absent(
        &self,
        id: Id,
        act: &AlertAct,
        by: &str,
        now: Timestamp,
    ) -> Result<Arc<Alert>, ActError> {
        let stored = self.store.alert(id)?.ok_or(ActError::Unknown(id))?;
        let AlertAct::Note { note } = act else {
            return Err(ActError::Resolved(id));
        };
        let note = note.clone();
        self.book
            .lock()
            .event(id, now, Some(by), AlertEventKind::Noted { note });
        Ok(Arc::new(stored))
    }
}

impl Book {
    /// Gives an alert that fires; `None` when it is not in memory.
    fn firing(&self, id: Id) -> Result<Option<(u64, Arc<Alert>)>, ActError> {
        let Some(fingerprint) = self.by_id.get(&id) else {
            return Ok(None);
        };
        match self.active.get(fingerprint) {
            Some(alert) if alert.state == AlertState::Pending => Err(ActError::Pending(id)),
            found => Ok(found.map(|alert| (*fingerprint, Arc::clone(alert)))),
        }
    }

    fn act(
        &mut self,
        fingerprint: u64,
        alert: &Arc<Alert>,
        act: &AlertAct,
        by: &str,
        now: Timestamp,
    ) -> Result<(), ActError> {
        let id = alert.id;
        match act {
            AlertAct::Acknowledge { note, until } => {
                self.acknowledge(fingerprint, alert, by, note, *until, now);
            }
            AlertAct::Unacknowledge if alert.acknowledged.is_none() => {
                return Err(ActError::NotAcknowledged(id));
            }
            AlertAct::Unacknowledge => self.end_acknowledgement(fingerprint, now, Some(by), "by hand"),
            AlertAct::Resolve { note } => {
                let reason = if note.is_empty() {
                    "by hand".to_owned()
                } else {
                    format!("by hand: {note}")
                };
                let cause = Cause {
                    reason: &reason,
                    actor: Some(by),
                };
                self.resolve_by_hand(fingerprint, now, cause);
            }
            AlertAct::Assign { to: None, .. } if alert.assigned.is_none() => {
                return Err(ActError::NotAssigned(id));
            }
            AlertAct::Assign { to, note } => self.assign(fingerprint, id, to.as_deref(), note, by, now),
            AlertAct::Note { note } => {
                let note = note.clone();
                self.event(id, now, Some(by), AlertEventKind::Noted { note });
            }
            AlertAct::Suppress { comment, until } => {
                let silence = self.suppress(alert, comment, *until, by, now)?;
                let note = format!("silenced by {}: {comment}", silence.id);
                self.event(id, now, Some(by), AlertEventKind::Noted { note });
            }
        }
        Ok(())
    }

    fn acknowledge(
        &mut self,
        fingerprint: u64,
        alert: &Alert,
        by: &str,
        note: &str,
        until: Option<Timestamp>,
        now: Timestamp,
    ) {
        let acknowledged = Acknowledgement {
            by: by.to_owned(),
            at: now,
            until,
            note: note.to_owned(),
            level: alert.level,
        };
        self.change(fingerprint, |alert| {
            alert.acknowledged = Some(acknowledged);
            alert.updated_at = now;
        });
        if let Some(until) = until {
            self.timers.insert((until, Timer::Acknowledgement, fingerprint));
        }
        let note = note.to_owned();
        self.event(alert.id, now, Some(by), AlertEventKind::Acknowledged { note });
    }

    fn assign(&mut self, fingerprint: u64, id: Id, to: Option<&str>, note: &str, by: &str, now: Timestamp) {
        let assigned = to.map(|to| Assignment {
            to: to.to_owned(),
            by: by.to_owned(),
            at: now,
        });
        self.change(fingerprint, |alert| {
            alert.assigned = assigned;
            alert.updated_at = now;
        });
        let to = to.map(str::to_owned);
        self.event(id, now, Some(by), AlertEventKind::Assigned { to });
        if !note.is_empty() {
            let note = note.to_owned();
            self.event(id, now, Some(by), AlertEventKind::Noted { note });
        }
    }

    /// Gives the names of labels that others have beside all labels of this alert: a silence that does not say that
    /// they are absent would hit those others.
    fn labels_beyond(&self, alert: &Alert) -> BTreeSet<String> {
        let mut beyond = BTreeSet::new();
        let is_level = |name: &str| name == labels::SEVERITY;
        for other in self.active.values() {
            let mut own = alert.labels.iter().filter(|(name, _)| !is_level(name));
            if other.id == alert.id || !own.all(|(name, value)| other.labels.get(name) == Some(value)) {
                continue;
            }
            let sent = other.sent_labels();
            let level = alert.labels.get(labels::SEVERITY);
            if !alert.has_levels && level.is_some() && sent.get(labels::SEVERITY) != level {
                continue;
            }
            let is_beyond =
                |name: &str| alert.labels.get(name).is_none() && !(alert.has_levels && is_level(name));
            let names = sent.iter().map(|(name, _)| name).filter(|name| is_beyond(name));
            beyond.extend(names.map(str::to_owned));
        }
        beyond
    }

    /// Silences exactly the labels of one alert; with levels, at whatever level.
    fn suppress(
        &mut self,
        alert: &Alert,
        comment: &str,
        until: Option<Timestamp>,
        by: &str,
        now: Timestamp,
    ) -> Result<Silence, SilenceError> {
        let labels = alert.labels.iter();
        let own = labels.filter(|(name, _)| !(alert.has_levels && *name == labels::SEVERITY));
        let own = own.map(|(name, value)| Matcher::equal(name, value));
        let absent = self.labels_beyond(alert);
        let absent = absent.iter().map(|name| Matcher::equal(name, ""));
        let draft = SilenceDraft {
            matchers: own.chain(absent).collect(),
            ends_at: until.unwrap_or(now + SUPPRESSED_MAX),
            created_by: by.to_owned(),
            comment: comment.to_owned(),
            is_until_resolved: Some(until.is_none()),
            ..SilenceDraft::default()
        };
        // One alert is meant, even when hardly another fires.
        self.set_silence(draft, true, now).map(|change| change.silence)
    }
}

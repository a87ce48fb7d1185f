//! Alerts that other programs send, as they send them to Alertmanager.
//!
//! Each is held by a rule of its own kind, so all that is known of alerts holds for them: one identity a label set,
//! resolving by hand, the limit, the restart. It ends when its sender says so, or when nobody has spoken of it for as
//! long as the sender said or, without a word, for `resolve_timeout`.
//! Two words about one alert are merged as Alertmanager does: the earliest start, and an end that was given beats a later
//! timeout. What is sent again unchanged costs no write.
//! After a restart each sender is given a whole `resolve_timeout` to speak again.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use marketprism_model::{
    Alert, Condition, ExternalSource, Labels, LifecycleError, Observation, RuleContext, RuleId, Timestamp,
    Verdict,
};
use thiserror::Error;

use crate::alerts::Alerts;
use crate::book::{Book, CLEARED, Cause, Seen, Timer};

/// Alerts of other programs that stand at once; further ones are refused.
pub const EXTERNAL_MAX: usize = 1_000_000;
/// Labels and annotations of one alert together, in bytes.
pub const RECEIVED_BYTES_MAX: usize = 64 << 10;

const REASON_SENDER: &str = "its sender says that it is over";
const REASON_SILENT: &str = "its sender no longer speaks of it";

/// An alert as another program sends it.
#[derive(Clone, PartialEq, Debug)]
pub struct ReceivedAlert {
    /// What it is about; at least one.
    pub labels: Labels,
    /// What is said of it.
    pub annotations: Labels,
    /// Since when; since its end or now when absent.
    pub starts_at: Option<Timestamp>,
    /// Until when; `resolve_timeout` from now when absent.
    pub ends_at: Option<Timestamp>,
    /// The sender's link; possibly empty.
    pub generator_url: String,
}

/// Why an alert was not taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReceiveError {
    /// It has no label.
    #[error("an alert needs at least one label with a value")]
    NoLabel,
    /// A label or an annotation has no name.
    #[error("the name of a label or an annotation is empty")]
    EmptyName,
    /// It ends before it starts.
    #[error("it ends at {ends_at}, before it starts at {starts_at}")]
    Backwards {
        /// The start.
        starts_at: Timestamp,
        /// The end.
        ends_at: Timestamp,
    },
    /// Its texts are too long.
    #[error("labels and annotations of {bytes} bytes; at most {RECEIVED_BYTES_MAX}")]
    TooLong {
        /// Their length.
        bytes: usize,
    },
    /// Too many stand already.
    #[error("{EXTERNAL_MAX} alerts of other programs stand already")]
    TooMany,
}

/// The rule that holds what other programs send.
static RULE: LazyLock<RuleContext> = LazyLock::new(|| RuleContext {
    id: RuleId::new("alerts that other programs send", &Labels::empty(), 0),
    name: Arc::from(""),
    group: Arc::from("external"),
    file: Arc::from(""),
    expr: Arc::from(""),
    conditions: vec![Condition {
        level: None,
        hold_for: Duration::ZERO,
        keep_firing_for: Duration::ZERO,
        unknown_max: None,
    }],
    interval: Duration::ZERO,
});

/// Gives the rule that holds what other programs send.
pub(crate) fn rule() -> RuleId {
    RULE.id
}

/// One word of a sender, with its times settled.
struct Word {
    labels: Labels,
    annotations: Labels,
    starts_at: Timestamp,
    source: ExternalSource,
}

fn checked(alert: ReceivedAlert, now: Timestamp, timeout: Duration) -> Result<Word, ReceiveError> {
    if alert.labels.is_empty() {
        return Err(ReceiveError::NoLabel);
    }
    let pairs = || alert.labels.iter().chain(alert.annotations.iter());
    if pairs().any(|(name, _)| name.is_empty()) {
        return Err(ReceiveError::EmptyName);
    }
    let bytes: usize = pairs().map(|(name, value)| name.len() + value.len()).sum();
    if bytes + alert.generator_url.len() > RECEIVED_BYTES_MAX {
        return Err(ReceiveError::TooLong { bytes });
    }
    let starts_at = alert.starts_at.or(alert.ends_at).unwrap_or(now);
    let ends_at = alert.ends_at.unwrap_or(now + timeout);
    if ends_at < starts_at {
        return Err(ReceiveError::Backwards { starts_at, ends_at });
    }
    Ok(Word {
        labels: alert.labels,
        annotations: alert.annotations,
        starts_at,
        source: ExternalSource {
            ends_at,
            is_timeout: alert.ends_at.is_none(),
            generator_url: alert.generator_url,
        },
    })
}

impl Alerts {
    /// Takes alerts of other programs: each that is right, whatever the others are; the answers are in the same order.
    ///
    /// When the store refuses, all are kept in memory and written with the next tick; to send them again does no harm.
    pub fn receive(
        &self,
        alerts: Vec<ReceivedAlert>,
    ) -> Result<Vec<Result<(), ReceiveError>>, LifecycleError> {
        let now = self.clock.now();
        let timeout = self.plan().config.resolve_timeout;
        let words: Vec<Result<(u64, Word), ReceiveError>> = alerts
            .into_iter()
            .map(|alert| checked(alert, now, timeout).map(|word| (word.labels.fingerprint(), word)))
            .collect();
        let mut book = self.book.lock();
        let answers = words
            .into_iter()
            .map(|word| word.and_then(|(fingerprint, word)| book.receive(fingerprint, word, now)))
            .collect();
        book.settle_limit(now);
        self.announce(book);
        self.write_now()?;
        Ok(answers)
    }
}

impl Book {
    fn receive(&mut self, fingerprint: u64, mut word: Word, now: Timestamp) -> Result<(), ReceiveError> {
        let known = self.externals.get(&fingerprint);
        if known.is_none() {
            // What is over before anybody heard of it is nothing.
            if word.source.ends_at <= now {
                return Ok(());
            }
            if self.externals.len() >= EXTERNAL_MAX {
                return Err(ReceiveError::TooMany);
            }
        }
        if word.source.ends_at <= now {
            self.keep_source(fingerprint, word.source);
            self.end_external(fingerprint, now, REASON_SENDER);
            return Ok(());
        }
        if let Some(known) = known.filter(|known| !known.is_timeout && known.ends_at > word.source.ends_at) {
            word.source.ends_at = known.ends_at;
            word.source.is_timeout = false;
        }
        let is_sooner = known.is_none_or(|known| word.source.ends_at < known.ends_at);
        if is_sooner {
            self.timers
                .insert((word.source.ends_at, Timer::External, fingerprint));
        }
        let observation = Observation {
            labels: word.labels,
            value: 1.0,
            annotations: word.annotations,
            verdicts: vec![Verdict::Holds],
        };
        self.keep_source(fingerprint, word.source);
        self.move_start(fingerprint, word.starts_at);
        let is_revived = self
            .advance(&RULE, now, fingerprint, Some(&observation))
            .unwrap_or(false);
        let seen = Seen {
            rule: &RULE,
            observation: &observation,
            is_revived,
            starts_at: Some(word.starts_at),
        };
        self.settle(fingerprint, now, Some(&seen), CLEARED);
        Ok(())
    }

    /// Remembers what the sender said last, in the alert as well.
    fn keep_source(&mut self, fingerprint: u64, source: ExternalSource) {
        if let Some(alert) = self.active.get_mut(&fingerprint)
            && alert.external.as_ref() != Some(&source)
        {
            // The link is worth a write, and so is a given end that moves further than a restart makes up for. Else
            // the end is not, for it moves each time the sender speaks.
            let grace = self.plan.config.resolve_timeout;
            let is_worth_writing = alert.external.as_ref().is_none_or(|known| {
                let (sooner, later) = (
                    known.ends_at.min(source.ends_at),
                    known.ends_at.max(source.ends_at),
                );
                let has_moved = later.since(sooner) > grace || known.is_timeout;
                known.generator_url != source.generator_url || (!source.is_timeout && has_moved)
            });
            Arc::make_mut(alert).external = Some(source.clone());
            if is_worth_writing {
                self.changes.alert(alert);
            }
            self.version += 1;
        }
        self.externals.insert(fingerprint, source);
    }

    /// Moves the beginning of an alert back when a sender knows an earlier one.
    fn move_start(&mut self, fingerprint: u64, starts_at: Timestamp) {
        let is_earlier = |alert: &Arc<Alert>| alert.fired_at.is_some_and(|fired_at| starts_at < fired_at);
        if self.active.get(&fingerprint).is_some_and(is_earlier) {
            self.change(fingerprint, |alert| {
                alert.active_at = alert.active_at.min(starts_at);
                alert.fired_at = alert.fired_at.map(|at| at.min(starts_at));
            });
        }
    }

    /// Lets words without an end run out in their time though the clock was set back.
    pub fn shorten_external(&mut self, now: Timestamp) {
        let longest = now + self.plan.config.resolve_timeout;
        let (timers, active) = (&mut self.timers, &mut self.active);
        for (fingerprint, source) in &mut self.externals {
            if !source.is_timeout || source.ends_at <= longest {
                continue;
            }
            source.ends_at = longest;
            timers.insert((longest, Timer::External, *fingerprint));
            if let Some(alert) = active.get_mut(fingerprint) {
                Arc::make_mut(alert).external = Some(source.clone());
            }
        }
    }

    /// Ends an alert whose sender's word has run out. For its timer.
    pub fn expire_external(&mut self, fingerprint: u64, now: Timestamp) {
        let Some(source) = self.externals.get(&fingerprint) else {
            return;
        };
        if source.ends_at > now {
            self.timers.insert((source.ends_at, Timer::External, fingerprint));
            return;
        }
        let reason = if source.is_timeout {
            REASON_SILENT
        } else {
            REASON_SENDER
        };
        self.end_external(fingerprint, now, reason);
    }

    fn end_external(&mut self, fingerprint: u64, now: Timestamp, reason: &str) {
        self.externals.remove(&fingerprint);
        self.advance(&RULE, now, fingerprint, None);
        self.settle(fingerprint, now, None, Cause { reason, actor: None });
        // A rule of ours holds it on.
        if self
            .active
            .get(&fingerprint)
            .is_some_and(|alert| alert.external.is_some())
        {
            self.change(fingerprint, |alert| alert.external = None);
        }
        self.settle_limit(now);
    }

    /// Takes up what other programs sent before this start.
    pub fn restore_external(&mut self, now: Timestamp) {
        let grace = now + self.plan.config.resolve_timeout;
        let held: Vec<u64> = self
            .rules
            .get(&RULE.id)
            .map(|holds| holds.keys().copied().collect())
            .unwrap_or_default();
        for fingerprint in held {
            let known = self
                .active
                .get(&fingerprint)
                .and_then(|alert| alert.external.clone());
            let mut source = known.unwrap_or_else(|| ExternalSource {
                ends_at: grace,
                is_timeout: true,
                generator_url: String::new(),
            });
            // One that lies further away was given before the clock was set back.
            if source.ends_at < grace || source.is_timeout {
                source.ends_at = grace;
                source.is_timeout = true;
            }
            self.timers.insert((source.ends_at, Timer::External, fingerprint));
            self.externals.insert(fingerprint, source.clone());
            if let Some(alert) = self.active.get_mut(&fingerprint) {
                Arc::make_mut(alert).external = Some(source);
            }
        }
    }
}

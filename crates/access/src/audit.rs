//! The audit log: who did what, and who was refused.
//!
//! Each entry is a log line too, so that it stands somewhere when the records cannot be written; then the action
//! goes on, for an alert must be acknowledged even while the disk is full. Refusals are thinned out, or a flood of
//! them would fill the records: for one client the second comes a second after the first, then the gap doubles up to
//! a minute while refusals go on; twenty a second in all. The rest are counted into the client's next entry. Deliberately absent: secrets, and names that no user has, since people type passwords there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{AccessStore, AuditEntry, AuditOutcome, Chance, Clock, Id};
use parking_lot::Mutex;

use crate::allow_list::Client;
use crate::attempts::address_key;
use crate::bounded::Bounded;
use crate::identity::Identity;
use crate::metrics::Metrics;

/// The shortest and the longest gap between two refusals of one client that are written.
const GAP_FIRST: Duration = Duration::from_secs(1);
const GAP_MAX: Duration = Duration::from_secs(60);
/// After so long without an entry a client's gap is the shortest again.
const GAP_FORGOTTEN: Duration = Duration::from_secs(600);
/// Refusals that are written within one second, all clients together.
const REFUSALS_MAX: u32 = 20;
/// Clients whose refusals are counted.
const CLIENTS_MAX: usize = 4096;
/// Most letters of a subject and of a detail.
const SUBJECT_LETTERS_MAX: usize = 200;
const DETAIL_LETTERS_MAX: usize = 500;

/// Something that somebody asked for.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Who asked, if anybody was recognised.
    pub identity: Option<&'a Identity>,
    /// What was asked, from a fixed list: `alert.acknowledge`, `user.create`, …
    pub action: &'static str,
    /// What it was asked of; may be empty.
    pub subject: &'a str,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Where it came from; `None` for the command line.
    pub client: Option<&'a Client>,
    /// The request's trace id; empty: the client's.
    pub trace_id: &'a str,
    /// Further words; never a secret.
    pub detail: &'a str,
}

/// Writes the audit log.
pub(crate) struct Auditor {
    store: Arc<dyn AccessStore>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    metrics: Metrics,
    refusals: Mutex<Refusals>,
}

/// How often refusals were written lately.
struct Refusals {
    clients: Bounded<u128, Refused>,
    second_began_at: Duration,
    written: u32,
}

/// What one client's refusals came to.
struct Refused {
    written_at: Duration,
    gap: Duration,
    left_out: u64,
}

impl Auditor {
    pub(crate) fn new(
        store: Arc<dyn AccessStore>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        metrics: Metrics,
    ) -> Self {
        let refusals = Refusals {
            clients: Bounded::new(CLIENTS_MAX),
            second_began_at: Duration::ZERO,
            written: 0,
        };
        Auditor {
            store,
            clock,
            chance,
            metrics,
            refusals: Mutex::new(refusals),
        }
    }

    /// Writes an entry, unless it is one refusal too many.
    pub(crate) fn record(&self, event: &Event<'_>) {
        let mut detail = bounded(event.detail, DETAIL_LETTERS_MAX);
        if event.outcome == AuditOutcome::Refused {
            let address = event.client.map(|client| client.address);
            match self.refusals.lock().admit(address, self.clock.monotonic()) {
                Some(0) => {}
                Some(left_out) => {
                    let gap = if detail.is_empty() { "" } else { "; " };
                    detail.push_str(&format!("{gap}{left_out} more refused before, not listed"));
                }
                None => return self.metrics.audited("left_out"),
            }
        }
        self.write(event, detail);
    }

    fn write(&self, event: &Event<'_>, detail: String) {
        let now = self.clock.now();
        let client = event.client;
        let trace_id = match (event.trace_id, client) {
            ("", Some(client)) => client.trace_id.as_str(),
            (given, _) => given,
        };
        let entry = AuditEntry {
            id: Id::new(now, &*self.chance),
            at: now,
            actor: event.identity.map_or_else(String::new, |it| it.actor.clone()),
            role: event.identity.map(|it| it.role),
            action: event.action.to_owned(),
            subject: bounded(event.subject, SUBJECT_LETTERS_MAX),
            outcome: event.outcome,
            client: client.map_or_else(String::new, |client| client.address.to_string()),
            trace_id: bounded(trace_id, 64),
            detail,
        };
        log(&entry);
        match self.store.record(&entry) {
            Ok(()) => self.metrics.audited("kept"),
            Err(error) => {
                self.metrics.audited("failed");
                tracing::error!(%error, action = entry.action, "an audit entry stands in the log only");
            }
        }
    }
}

impl Refusals {
    /// Says whether a refusal is written, and how many of the client's were left out before it.
    fn admit(&mut self, address: Option<IpAddr>, now: Duration) -> Option<u64> {
        if now.saturating_sub(self.second_began_at) >= Duration::from_secs(1) {
            (self.second_began_at, self.written) = (now, 0);
        }
        let has_room = self.written < REFUSALS_MAX;
        let key = address.map_or(0, address_key);
        let admitted = match self.clients.get(&key) {
            Some(refused) if has_room && now.saturating_sub(refused.written_at) >= refused.gap => {
                let quiet = now.saturating_sub(refused.written_at);
                let next_gap = (refused.gap * 2).min(GAP_MAX);
                refused.gap = if quiet >= GAP_FORGOTTEN {
                    GAP_FIRST
                } else {
                    next_gap
                };
                refused.written_at = now;
                Some(std::mem::take(&mut refused.left_out))
            }
            Some(refused) => {
                refused.left_out += 1;
                None
            }
            None if has_room => {
                let first = Refused {
                    written_at: now,
                    gap: GAP_FIRST,
                    left_out: 0,
                };
                self.clients.put(key, first);
                Some(0)
            }
            None => None,
        };
        self.written += u32::from(admitted.is_some());
        admitted
    }
}

fn log(entry: &AuditEntry) {
    let outcome = match entry.outcome {
        AuditOutcome::Done => "done",
        AuditOutcome::Refused => "refused",
        AuditOutcome::Failed => "failed",
    };
    tracing::info!(
        target: "marketprism::audit",
        actor = entry.actor,
        role = entry.role.map_or("", |role| role.name()),
        action = entry.action,
        subject = entry.subject,
        outcome,
        client = entry.client,
        trace_id = entry.trace_id,
        detail = entry.detail,
        "audit"
    );
}

/// Cuts a text, and takes out what would break a line.
fn bounded(text: &str, letters_max: usize) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(letters_max).collect()
}

//! Users, tokens and the audit log in memory, and secrets that a seed repeats.
//!
//! Keeps the promises of [`AccessStore`], counts what is read, and can be told to fail as a lost database does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use marketprism_model::{
    AccessStore, AccessStoreError, ApiToken, AuditEntry, AuditFilter, Chance, Entropy, Id, Page, StoreError,
    Timestamp, User,
};

use crate::SeededChance;

/// Keeps what [`AccessStore`] keeps, in memory.
#[derive(Default)]
pub struct MemoryAccess {
    rows: Mutex<Rows>,
    is_away: AtomicBool,
    reads: AtomicU64,
    writes: AtomicU64,
}

#[derive(Default)]
struct Rows {
    users: BTreeMap<Id, User>,
    tokens: BTreeMap<Id, ApiToken>,
    ended: BTreeMap<Id, Timestamp>,
    audit: Vec<AuditEntry>,
}

impl MemoryAccess {
    /// Makes an empty one.
    pub fn new() -> Self {
        MemoryAccess::default()
    }

    /// Makes every further call fail, or succeed again.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    /// Counts the calls that read so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// Counts the calls that wrote so far, those of the audit log not among them.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Gives the audit log, oldest first.
    pub fn audit_log(&self) -> Vec<AuditEntry> {
        self.rows().audit.clone()
    }

    /// Counts the notes of ended sessions.
    pub fn ended_sessions(&self) -> usize {
        self.rows().ended.len()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, operation: &'static str) -> Result<MutexGuard<'_, Rows>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.reach(operation)
    }

    fn write(&self, operation: &'static str) -> Result<MutexGuard<'_, Rows>, StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.reach(operation)
    }

    fn reach(&self, operation: &'static str) -> Result<MutexGuard<'_, Rows>, StoreError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::Database {
                operation,
                reason: "the database is away".to_owned(),
            });
        }
        Ok(self.rows())
    }
}

fn by_name<T: Clone>(rows: &BTreeMap<Id, T>, name: impl Fn(&T) -> &str) -> Vec<T> {
    let mut items: Vec<T> = rows.values().cloned().collect();
    items.sort_by(|a, b| name(a).cmp(name(b)));
    items
}

impl AccessStore for MemoryAccess {
    fn users(&self) -> Result<Vec<User>, StoreError> {
        Ok(by_name(&self.read("list users")?.users, |user| &user.name))
    }

    fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        let rows = self.read("read user")?;
        Ok(rows.users.values().find(|user| user.name == name).cloned())
    }

    fn put_user(&self, user: &User) -> Result<(), AccessStoreError> {
        let mut rows = self.write("write user")?;
        let is_taken = |other: &User| other.id != user.id && other.name == user.name;
        if rows.users.values().any(is_taken) {
            return Err(AccessStoreError::NameTaken(user.name.clone()));
        }
        rows.users.insert(user.id, user.clone());
        Ok(())
    }

    fn delete_user(&self, name: &str) -> Result<bool, StoreError> {
        let mut rows = self.write("delete user")?;
        let before = rows.users.len();
        rows.users.retain(|_, user| user.name != name);
        Ok(rows.users.len() < before)
    }

    fn tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        Ok(by_name(&self.read("list tokens")?.tokens, |token| &token.name))
    }

    fn token(&self, digest: &[u8; 32]) -> Result<Option<ApiToken>, StoreError> {
        let rows = self.read("read token")?;
        Ok(rows
            .tokens
            .values()
            .find(|token| token.digest == *digest)
            .cloned())
    }

    fn put_token(&self, token: &ApiToken) -> Result<(), AccessStoreError> {
        let mut rows = self.write("write token")?;
        // A used token is only ever changed: the note of its use must not bring back what was deleted meanwhile.
        if token.last_used_at.is_some() {
            if let Some(kept) = rows.tokens.get_mut(&token.id) {
                kept.last_used_at = token.last_used_at;
            }
            return Ok(());
        }
        let is_taken = |other: &ApiToken| other.id != token.id && other.name == token.name;
        if rows.tokens.values().any(is_taken) {
            return Err(AccessStoreError::NameTaken(token.name.clone()));
        }
        rows.tokens.insert(token.id, token.clone());
        Ok(())
    }

    fn delete_token(&self, name: &str) -> Result<bool, StoreError> {
        let mut rows = self.write("delete token")?;
        let before = rows.tokens.len();
        rows.tokens.retain(|_, token| token.name != name);
        Ok(rows.tokens.len() < before)
    }

    fn end_session(&self, session: Id, expires_at: Timestamp) -> Result<(), StoreError> {
        self.write("end session")?.ended.insert(session, expires_at);
        Ok(())
    }

    fn is_session_ended(&self, session: Id) -> Result<bool, StoreError> {
        Ok(self.read("read session")?.ended.contains_key(&session))
    }

    fn record(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.reach("write audit entry")?.audit.push(entry.clone());
        Ok(())
    }

    fn audit(&self, filter: &AuditFilter) -> Result<Page<AuditEntry>, StoreError> {
        let rows = self.read("list audit")?;
        let before = match &filter.cursor {
            Some(cursor) => Some(
                cursor
                    .parse::<Id>()
                    .map_err(|_| StoreError::Cursor(cursor.clone()))?,
            ),
            None => None,
        };
        let is_asked = |entry: &&AuditEntry| {
            (filter.actor.is_empty() || entry.actor == filter.actor)
                && (filter.action.is_empty() || entry.action == filter.action)
                && before.is_none_or(|before| entry.id < before)
        };
        let mut items: Vec<AuditEntry> = rows.audit.iter().filter(is_asked).cloned().collect();
        items.sort_by_key(|entry| std::cmp::Reverse(entry.id));
        let has_more = items.len() > filter.limit;
        items.truncate(filter.limit);
        let last = items.last().filter(|_| has_more);
        let next_cursor = last.map(|entry| entry.id.to_string());
        Ok(Page { items, next_cursor })
    }

    fn clean_access(&self, now: Timestamp, audit_before: Timestamp) -> Result<u64, StoreError> {
        let mut rows = self.write("clean access")?;
        let before = rows.ended.len() + rows.audit.len();
        rows.ended.retain(|_, expires_at| *expires_at > now);
        rows.audit.retain(|entry| entry.at >= audit_before);
        Ok((before - rows.ended.len() - rows.audit.len()) as u64)
    }
}

/// Entropy that gives the same bytes for the same seed.
pub struct SeededEntropy(SeededChance);

impl SeededEntropy {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Self {
        SeededEntropy(SeededChance::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.0.next_u64().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}

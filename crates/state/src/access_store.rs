//! The port of access: users, tokens, sessions that were ended, and the audit log.
//!
//! Names are unique, and so is a token's digest. A token that has been used is only ever changed: the note of its last
//! use, which comes late, must not bring back what somebody has deleted meanwhile.
//! Deliberately absent: passwords in the clear and the values of tokens.

use marketprism_model::{
    AccessStore, AccessStoreError, ApiToken, AuditEntry, AuditFilter, AuditOutcome, Id, Page, Secret,
    StoreError, Timestamp, User,
};

use crate::database::{Database, StepError};
use crate::row::{Columns, count, id_bytes, millis, parse_cursor};
use crate::session::{Bind, Row, Session, binds};

/// At most this many users, and as many tokens.
const RECORDS_MAX: u64 = 10_000;
/// Pages are at most this long.
const LIMIT_MAX: usize = 1000;
/// What is indexed is kept up to this length, in bytes.
const WORD_BYTES_MAX: usize = 400;
/// What is only read is kept up to this length, in bytes.
const TEXT_BYTES_MAX: usize = 4_000;
/// What PostgreSQL calls a second record of one name.
const UNIQUE_VIOLATION: &str = "(23505)";
/// Old records are deleted this many at a time.
const CLEANED_AT_ONCE: usize = 500;

const USER_COLUMNS: &str = "id, name, role, password, is_disabled, created_at, sessions_from";
const TOKEN_COLUMNS: &str = "id, name, role, digest, created_by, created_at, expires_at, last_used_at";
const AUDIT_COLUMNS: &str = "id, at, actor, role, action, subject, outcome, client, trace_id, detail";

impl AccessStore for Database {
    fn users(&self) -> Result<Vec<User>, StoreError> {
        self.read("list users", |db| {
            let sql = format!("SELECT {USER_COLUMNS} FROM users ORDER BY name");
            db.query(&sql, &[])?.iter().map(read_user).collect()
        })
    }

    fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        self.read("read a user", |db| {
            let sql = format!("SELECT {USER_COLUMNS} FROM users WHERE name = ?1");
            let row = db.query_one(&sql, &binds![name])?;
            row.as_ref().map(read_user).transpose()
        })
    }

    fn put_user(&self, user: &User) -> Result<(), AccessStoreError> {
        unique(&user.name, |is_taken| {
            self.write("write a user", |db| write_user(db, user, is_taken))
        })
    }

    fn delete_user(&self, name: &str) -> Result<bool, StoreError> {
        self.write("delete a user", |db| {
            Ok(db.execute("DELETE FROM users WHERE name = ?1", &binds![name])? > 0)
        })
    }

    fn tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        self.read("list tokens", |db| {
            let sql = format!("SELECT {TOKEN_COLUMNS} FROM api_tokens ORDER BY name");
            db.query(&sql, &[])?.iter().map(read_token).collect()
        })
    }

    fn token(&self, digest: &[u8; 32]) -> Result<Option<ApiToken>, StoreError> {
        self.read("read a token", |db| {
            let sql = format!("SELECT {TOKEN_COLUMNS} FROM api_tokens WHERE digest = ?1");
            let row = db.query_one(&sql, &binds![digest])?;
            row.as_ref().map(read_token).transpose()
        })
    }

    fn put_token(&self, token: &ApiToken) -> Result<(), AccessStoreError> {
        unique(&token.name, |is_taken| {
            self.write("write a token", |db| write_token(db, token, is_taken))
        })
    }

    fn delete_token(&self, name: &str) -> Result<bool, StoreError> {
        self.write("delete a token", |db| {
            Ok(db.execute("DELETE FROM api_tokens WHERE name = ?1", &binds![name])? > 0)
        })
    }

    fn end_session(&self, session: Id, expires_at: Timestamp) -> Result<(), StoreError> {
        self.write("end a session", |db| {
            db.execute(
                "INSERT INTO ended_sessions (id, expires_at) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING",
                &binds![id_bytes(session), expires_at.millis()],
            )?;
            Ok(())
        })
    }

    fn is_session_ended(&self, session: Id) -> Result<bool, StoreError> {
        self.read("look for an ended session", |db| {
            let sql = "SELECT 1 FROM ended_sessions WHERE id = ?1";
            Ok(db.query_one(sql, &binds![id_bytes(session)])?.is_some())
        })
    }

    fn record(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.write("write the audit log", |db| write_entry(db, entry))
    }

    fn audit(&self, filter: &AuditFilter) -> Result<Page<AuditEntry>, StoreError> {
        self.read("list the audit log", |db| search(db, filter))
    }

    fn clean_access(&self, now: Timestamp, audit_before: Timestamp) -> Result<u64, StoreError> {
        let sessions = "DELETE FROM ended_sessions WHERE id IN
             (SELECT id FROM ended_sessions WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)";
        let entries = "DELETE FROM audit_log WHERE id IN
             (SELECT id FROM audit_log WHERE at < ?1 ORDER BY at LIMIT ?2)";
        let mut deleted = 0;
        for (sql, before) in [(sessions, now), (entries, audit_before)] {
            loop {
                let values = binds![before.millis(), CLEANED_AT_ONCE];
                let batch = self.write("clean sessions and the audit log", |db| db.execute(sql, &values))?;
                deleted += batch;
                if batch == 0 {
                    break;
                }
            }
        }
        Ok(deleted)
    }
}

/// Runs a write that may find its name taken. On a server somebody may take it between the look and the write; the
/// second look finds it.
fn unique(name: &str, write: impl Fn(&mut bool) -> Result<(), StoreError>) -> Result<(), AccessStoreError> {
    let mut is_taken = false;
    let mut written = write(&mut is_taken);
    if matches!(&written, Err(StoreError::Database { reason, .. }) if reason.contains(UNIQUE_VIOLATION)) {
        written = write(&mut is_taken);
    }
    if is_taken {
        return Err(AccessStoreError::NameTaken(name.to_owned()));
    }
    Ok(written?)
}

/// Fails the transaction when another record has the name, or when there are too many.
fn ensure_room(
    db: &dyn Session,
    table: &'static str,
    (id, name): (Id, &str),
    is_taken: &mut bool,
) -> Result<(), StepError> {
    let other = format!("SELECT 1 FROM {table} WHERE name = ?1 AND id <> ?2");
    if db.query_one(&other, &binds![name, id_bytes(id)])?.is_some() {
        *is_taken = true;
        return Err(StepError::Database(format!("the name {name:?} is taken")));
    }
    let others = format!("SELECT count(*) FROM {table} WHERE id <> ?1");
    if count(db, &others, &binds![id_bytes(id)])? >= RECORDS_MAX {
        return Err(StepError::Database(format!(
            "{table} holds {RECORDS_MAX} records, which is the limit"
        )));
    }
    Ok(())
}

fn write_user(db: &dyn Session, user: &User, is_taken: &mut bool) -> Result<(), StepError> {
    ensure_room(db, "users", (user.id, &user.name), is_taken)?;
    db.execute(
        "INSERT INTO users (id, name, role, password, is_disabled, created_at, sessions_from)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, role = excluded.role,
             password = excluded.password, is_disabled = excluded.is_disabled,
             created_at = excluded.created_at, sessions_from = excluded.sessions_from",
        &binds![
            id_bytes(user.id),
            &user.name,
            user.role.name(),
            user.password.expose(),
            user.is_disabled,
            user.created_at.millis(),
            user.sessions_from.millis(),
        ],
    )?;
    Ok(())
}

fn read_user(row: &Row) -> Result<User, StepError> {
    let (columns, id) = Columns::with_id(row, "user")?;
    Ok(User {
        id,
        name: columns.text(1)?,
        role: columns.word(2)?,
        password: Secret::new(columns.text(3)?),
        is_disabled: columns.flag(4)?,
        created_at: columns.time(5)?,
        sessions_from: columns.time(6)?,
    })
}

fn write_token(db: &dyn Session, token: &ApiToken, is_taken: &mut bool) -> Result<(), StepError> {
    let values = binds![
        id_bytes(token.id),
        &token.name,
        token.role.name(),
        &token.digest,
        &token.created_by,
        token.created_at.millis(),
        millis(token.expires_at),
        millis(token.last_used_at),
    ];
    if token.last_used_at.is_some() {
        db.execute(
            "UPDATE api_tokens SET last_used_at = ?2 WHERE id = ?1",
            &[values[0].clone(), values[7].clone()],
        )?;
        return Ok(());
    }
    ensure_room(db, "api_tokens", (token.id, &token.name), is_taken)?;
    db.execute(
        "INSERT INTO api_tokens (id, name, role, digest, created_by, created_at, expires_at, last_used_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, role = excluded.role, digest = excluded.digest,
             created_by = excluded.created_by, created_at = excluded.created_at,
             expires_at = excluded.expires_at, last_used_at = excluded.last_used_at",
        &values,
    )?;
    Ok(())
}

fn read_token(row: &Row) -> Result<ApiToken, StepError> {
    let (columns, id) = Columns::with_id(row, "token")?;
    Ok(ApiToken {
        id,
        name: columns.text(1)?,
        role: columns.word(2)?,
        digest: columns.bytes(3)?,
        created_by: columns.text(4)?,
        created_at: columns.time(5)?,
        expires_at: columns.optional_time(6)?,
        last_used_at: columns.optional_time(7)?,
    })
}

fn write_entry(db: &dyn Session, entry: &AuditEntry) -> Result<(), StepError> {
    let cut = |text: &str, bytes_max| text[..text.floor_char_boundary(bytes_max)].to_owned();
    db.execute(
        "INSERT INTO audit_log (id, at, actor, role, action, subject, outcome, client, trace_id, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
        &binds![
            id_bytes(entry.id),
            entry.at.millis(),
            cut(&entry.actor, WORD_BYTES_MAX),
            entry.role.map(|role| role.name()),
            cut(&entry.action, WORD_BYTES_MAX),
            cut(&entry.subject, TEXT_BYTES_MAX),
            outcome_word(entry.outcome),
            cut(&entry.client, WORD_BYTES_MAX),
            cut(&entry.trace_id, WORD_BYTES_MAX),
            cut(&entry.detail, TEXT_BYTES_MAX),
        ],
    )?;
    Ok(())
}

fn outcome_word(outcome: AuditOutcome) -> &'static str {
    match outcome {
        AuditOutcome::Done => "done",
        AuditOutcome::Refused => "refused",
        AuditOutcome::Failed => "failed",
    }
}

fn read_entry(row: &Row) -> Result<AuditEntry, StepError> {
    let (columns, id) = Columns::with_id(row, "audit entry")?;
    Ok(AuditEntry {
        id,
        at: columns.time(1)?,
        actor: columns.text(2)?,
        role: columns.optional_word(3)?,
        action: columns.text(4)?,
        subject: columns.text(5)?,
        outcome: columns.serde_word(6)?,
        client: columns.text(7)?,
        trace_id: columns.text(8)?,
        detail: columns.text(9)?,
    })
}

/// Gives one page: a walk from the newest identifier down, along the index of the actor or the action when one is
/// wanted.
fn search(db: &dyn Session, filter: &AuditFilter) -> Result<Page<AuditEntry>, StepError> {
    let limit = filter.limit.clamp(1, LIMIT_MAX);
    let mut values: Vec<Bind<'_>> = Vec::new();
    let mut conditions = String::new();
    let mut and = |condition: &str, value: Bind<'static>| {
        values.push(value);
        conditions.push_str(&format!(" AND {condition} ?{}", values.len()));
    };
    for (column, wanted) in [("actor =", &filter.actor), ("action =", &filter.action)] {
        if !wanted.is_empty() {
            and(column, wanted.clone().into());
        }
    }
    if let Some(cursor) = filter.cursor.as_deref() {
        and("id <", id_bytes(parse_cursor(cursor)?).into());
    }
    let sql = format!(
        "SELECT {AUDIT_COLUMNS} FROM audit_log WHERE 1 = 1{conditions} ORDER BY id DESC LIMIT {}",
        limit + 1
    );
    let mut items: Vec<AuditEntry> = db
        .query(&sql, &values)?
        .iter()
        .map(read_entry)
        .collect::<Result<_, _>>()?;
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items
        .last()
        .filter(|_| has_more)
        .map(|entry| entry.id.to_string());
    Ok(Page { items, next_cursor })
}

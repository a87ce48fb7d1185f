//! The port of rules that were made by API.
//!
//! A group and its version are written in one transaction, after a look at what stands: the version that the caller
//! saw, and the name. Only the replica that leads may write, for only it runs rules; so the looks need no lock.
//! Histories are bounded: of each group the newest versions are kept, and of deleted groups the newest.
//! Deliberately absent: what a definition means.

use marketprism_model::{
    Id, RuleGroupDeletion, RuleGroupRecord, RuleGroupVersion, RuleStore, RuleStoreError, StoreError,
};

use crate::database::{Database, StepError};
use crate::row::{Columns, count, id_bytes};
use crate::session::{Row, Session, binds};

/// At most this many groups.
const GROUPS_MAX: u64 = 1_000;
/// Versions of one group that are kept.
const VERSIONS_MAX: u32 = 100;
/// Deleted groups whose history is kept.
const DELETED_MAX: u32 = 500;

const GROUP_COLUMNS: &str =
    "id, name, version, definition, comment, created_by, created_at, updated_by, updated_at";
const VERSION_COLUMNS: &str = "version, name, definition, comment, author, at, is_deletion";

/// Why a transaction was given up, set aside while the engine undoes it.
type Refusal = Option<RuleStoreError>;

impl RuleStore for Database {
    fn rule_groups(&self) -> Result<Vec<RuleGroupRecord>, StoreError> {
        self.read("list rule groups", |db| {
            let sql = format!("SELECT {GROUP_COLUMNS} FROM rule_groups ORDER BY id");
            db.query(&sql, &[])?.iter().map(read_group).collect()
        })
    }

    fn rule_group(&self, id: Id) -> Result<Option<RuleGroupRecord>, StoreError> {
        self.read("read a rule group", |db| group(db, id))
    }

    fn rule_group_history(&self, id: Id) -> Result<Vec<RuleGroupVersion>, StoreError> {
        self.read("read the history of a rule group", |db| {
            let sql = format!(
                "SELECT {VERSION_COLUMNS} FROM rule_group_versions WHERE id = ?1 ORDER BY version DESC"
            );
            let rows = db.query(&sql, &binds![id_bytes(id)])?;
            rows.iter().map(|row| read_version(row, id)).collect()
        })
    }

    fn put_rule_group(&self, group: &RuleGroupRecord) -> Result<(), RuleStoreError> {
        let mut refusal = None;
        let written = self.write_as_leader("write a rule group", |db| put(db, group, &mut refusal));
        outcome(written, refusal)
    }

    fn delete_rule_group(&self, deletion: &RuleGroupDeletion) -> Result<RuleGroupRecord, RuleStoreError> {
        let mut refusal = None;
        let written = self.write_as_leader("delete a rule group", |db| delete(db, deletion, &mut refusal));
        outcome(written, refusal)
    }
}

fn outcome<T>(written: Result<T, StoreError>, refusal: Refusal) -> Result<T, RuleStoreError> {
    match (written, refusal) {
        (Err(_), Some(refusal)) => Err(refusal),
        (written, _) => Ok(written?),
    }
}

/// Gives up the transaction for a reason that is not the database's.
fn refuse(refusal: &mut Refusal, reason: RuleStoreError) -> StepError {
    let text = reason.to_string();
    *refusal = Some(reason);
    StepError::Database(text)
}

fn group(db: &dyn Session, id: Id) -> Result<Option<RuleGroupRecord>, StepError> {
    let sql = format!("SELECT {GROUP_COLUMNS} FROM rule_groups WHERE id = ?1");
    let row = db.query_one(&sql, &binds![id_bytes(id)])?;
    row.as_ref().map(read_group).transpose()
}

fn put(db: &dyn Session, new: &RuleGroupRecord, refusal: &mut Refusal) -> Result<(), StepError> {
    match group(db, new.id)? {
        None if new.version > 1 => return Err(refuse(refusal, RuleStoreError::NotFound(new.id))),
        None if count(db, "SELECT count(*) FROM rule_groups", &[])? >= GROUPS_MAX => {
            return Err(refuse(refusal, RuleStoreError::TooMany { limit: GROUPS_MAX }));
        }
        Some(old) if new.version != old.version + 1 => {
            let reason = RuleStoreError::Conflict {
                expected: new.version.saturating_sub(1),
                found: old.version,
            };
            return Err(refuse(refusal, reason));
        }
        _ => {}
    }
    let other = "SELECT 1 FROM rule_groups WHERE name = ?1 AND id <> ?2";
    if db
        .query_one(other, &binds![&new.name, id_bytes(new.id)])?
        .is_some()
    {
        return Err(refuse(refusal, RuleStoreError::NameTaken(new.name.clone())));
    }
    db.execute(
        "INSERT INTO rule_groups (id, name, version, definition, comment, created_by, created_at, updated_by,
             updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, version = excluded.version,
             definition = excluded.definition, comment = excluded.comment, updated_by = excluded.updated_by,
             updated_at = excluded.updated_at",
        &binds![
            id_bytes(new.id),
            &new.name,
            new.version,
            &new.definition,
            &new.comment,
            &new.created_by,
            new.created_at.millis(),
            &new.updated_by,
            new.updated_at.millis(),
        ],
    )?;
    let version = RuleGroupVersion {
        version: new.version,
        name: new.name.clone(),
        definition: new.definition.clone(),
        comment: new.comment.clone(),
        author: new.updated_by.clone(),
        at: new.updated_at,
        is_deletion: false,
    };
    note(db, new.id, &version)
}

fn delete(
    db: &dyn Session,
    deletion: &RuleGroupDeletion,
    refusal: &mut Refusal,
) -> Result<RuleGroupRecord, StepError> {
    let Some(old) = group(db, deletion.id)? else {
        return Err(refuse(refusal, RuleStoreError::NotFound(deletion.id)));
    };
    if let Some(expected) = deletion.expected.filter(|expected| *expected != old.version) {
        let found = old.version;
        return Err(refuse(refusal, RuleStoreError::Conflict { expected, found }));
    }
    db.execute(
        "DELETE FROM rule_groups WHERE id = ?1",
        &binds![id_bytes(deletion.id)],
    )?;
    let version = RuleGroupVersion {
        version: old.version.saturating_add(1),
        name: old.name.clone(),
        definition: String::new(),
        comment: deletion.comment.clone(),
        author: deletion.author.clone(),
        at: deletion.at,
        is_deletion: true,
    };
    note(db, deletion.id, &version)?;
    db.execute(
        "DELETE FROM rule_group_versions WHERE id IN
             (SELECT id FROM rule_group_versions WHERE is_deletion = 1 ORDER BY at DESC, id DESC
              LIMIT 1000000 OFFSET ?1)",
        &binds![DELETED_MAX],
    )?;
    Ok(old)
}

/// Adds a version to a history and takes the oldest away where it grows too long.
fn note(db: &dyn Session, id: Id, version: &RuleGroupVersion) -> Result<(), StepError> {
    db.execute(
        "INSERT INTO rule_group_versions (id, version, name, definition, comment, author, at, is_deletion)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &binds![
            id_bytes(id),
            version.version,
            &version.name,
            &version.definition,
            &version.comment,
            &version.author,
            version.at.millis(),
            version.is_deletion,
        ],
    )?;
    let oldest = version.version.saturating_sub(VERSIONS_MAX);
    db.execute(
        "DELETE FROM rule_group_versions WHERE id = ?1 AND version <= ?2",
        &binds![id_bytes(id), oldest],
    )?;
    Ok(())
}

fn read_group(row: &Row) -> Result<RuleGroupRecord, StepError> {
    let (columns, id) = Columns::with_id(row, "rule group")?;
    Ok(RuleGroupRecord {
        id,
        name: columns.text(1)?,
        version: columns.count(2)?,
        definition: columns.text(3)?,
        comment: columns.text(4)?,
        created_by: columns.text(5)?,
        created_at: columns.time(6)?,
        updated_by: columns.text(7)?,
        updated_at: columns.time(8)?,
    })
}

fn read_version(row: &Row, id: Id) -> Result<RuleGroupVersion, StepError> {
    let columns = Columns::named(row, "rule group version", id.to_string());
    Ok(RuleGroupVersion {
        version: columns.count(0)?,
        name: columns.text(1)?,
        definition: columns.text(2)?,
        comment: columns.text(3)?,
        author: columns.text(4)?,
        at: columns.time(5)?,
        is_deletion: columns.flag(6)?,
    })
}

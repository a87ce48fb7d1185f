//! Brings a database forward to the schema that this program knows.
//!
//! Each step runs once, in its own transaction, and leaves its number and the checksum of its text, so that
//! a step which was changed after the fact is noticed instead of guessed at. Steps back are absent: an older
//! program refuses a newer file, and `restore` brings the backup.

use std::hash::Hasher;

use marketprism_model::rule::Fnv1a;
use rusqlite::{Connection, TransactionBehavior};

/// The steps, oldest first; the version of the schema is their number.
const STEPS: [&str; 2] = [
    include_str!("migrations/0001_records.sql"),
    include_str!("migrations/0002_access.sql"),
];

/// The version this program brings a database to.
pub(crate) const NEWEST: u32 = STEPS.len() as u32;

/// Why a schema could not be brought forward.
#[derive(Debug)]
pub(crate) enum MigrationError {
    Database(rusqlite::Error),
    Newer { found: u32 },
    Altered { version: u32 },
}

impl From<rusqlite::Error> for MigrationError {
    fn from(error: rusqlite::Error) -> Self {
        MigrationError::Database(error)
    }
}

/// Runs the steps that are missing.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), MigrationError> {
    migrate_with(connection, &STEPS)
}

fn migrate_with(connection: &mut Connection, steps: &[&str]) -> Result<(), MigrationError> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_steps (
             version  INTEGER NOT NULL PRIMARY KEY,
             checksum TEXT    NOT NULL
         ) STRICT;",
    )?;
    loop {
        // Immediate, so that of two programs that start on one file only one runs a step.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut applied = Vec::new();
        {
            let mut statement =
                transaction.prepare("SELECT version, checksum FROM schema_steps ORDER BY version")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                applied.push((row.get::<_, u32>(0)?, row.get::<_, String>(1)?));
            }
        }
        for (at, (version, checksum)) in applied.iter().enumerate() {
            let expected = at as u32 + 1;
            let Some(step) = steps.get(at) else {
                let found = applied.last().map_or(*version, |(newest, _)| *newest);
                return Err(MigrationError::Newer { found });
            };
            if *version != expected || *checksum != checksum_of(step) {
                return Err(MigrationError::Altered { version: *version });
            }
        }
        let Some(step) = steps.get(applied.len()) else {
            return Ok(());
        };
        transaction.execute_batch(step)?;
        transaction.execute(
            "INSERT INTO schema_steps (version, checksum) VALUES (?1, ?2)",
            (applied.len() as u32 + 1, checksum_of(step)),
        )?;
        transaction.commit()?;
    }
}

/// FNV-1a, 64 bits, of the step's text: guards against accidents, not against malice.
fn checksum_of(step: &str) -> String {
    let mut hash = Fnv1a::default();
    hash.write(step.as_bytes());
    format!("{:016x}", hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE a (x INTEGER);";
    const SECOND: &str = "CREATE TABLE b (y INTEGER); INSERT INTO a VALUES (7);";

    #[test]
    fn steps_run_once_and_in_order() {
        let mut db = Connection::open_in_memory().expect("memory");
        migrate_with(&mut db, &[FIRST]).expect("first");
        migrate_with(&mut db, &[FIRST, SECOND]).expect("second");
        migrate_with(&mut db, &[FIRST, SECOND]).expect("nothing left");
        let sevens: u32 = db
            .query_row("SELECT count(*) FROM a", [], |row| row.get(0))
            .expect("count");
        assert_eq!(sevens, 1);
    }

    #[test]
    fn a_newer_schema_and_an_altered_step_are_refused() {
        let mut db = Connection::open_in_memory().expect("memory");
        migrate_with(&mut db, &[FIRST, SECOND]).expect("both");
        assert!(matches!(
            migrate_with(&mut db, &[FIRST]),
            Err(MigrationError::Newer { found: 2 })
        ));
        assert!(matches!(
            migrate_with(&mut db, &["CREATE TABLE c (x INTEGER);", SECOND]),
            Err(MigrationError::Altered { version: 1 })
        ));
    }

    #[test]
    fn a_step_that_fails_leaves_nothing() {
        let mut db = Connection::open_in_memory().expect("memory");
        assert!(migrate_with(&mut db, &[FIRST, "CREATE TABLE b (y INTEGER); nonsense;"]).is_err());
        let tables: u32 = db
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'b'", [], |row| {
                row.get(0)
            })
            .expect("count");
        assert_eq!(tables, 0, "half a step was kept");
        migrate_with(&mut db, &[FIRST, SECOND]).expect("the corrected step runs");
    }
}

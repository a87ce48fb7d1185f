//! Brings a database forward to the schema that this program knows, and back for an older one.
//!
//! Each step runs once, in a transaction, and leaves its number and the checksum of its text, so that a step which was
//! changed after the fact is noticed instead of guessed at. An older program refuses a newer schema, for it cannot know
//! the way back: the newer one walks it, before the older one is installed. The first step has no way back.
//! Deliberately absent: what differs between the engines but the texts; each brings its own transaction.

use std::hash::Hasher;

use marketprism_model::rule::Fnv1a;

use crate::database::StepError;
use crate::row::Columns;
use crate::session::{Session, binds};

/// One step of the schema.
pub(crate) struct Step {
    /// Its text.
    pub(crate) forward: &'static str,
    /// The way back; what the older schema has no room for is gone after it.
    pub(crate) back: &'static str,
}

/// The version this program brings a database to.
pub(crate) const NEWEST: u32 = SQLITE.len() as u32;

/// The steps of the embedded database, oldest first.
pub(crate) const SQLITE: [Step; 5] = [
    Step {
        forward: include_str!("migrations/0001_records.sql"),
        back: "",
    },
    Step {
        forward: include_str!("migrations/0002_access.sql"),
        back: include_str!("migrations/back/0002_access.sql"),
    },
    Step {
        forward: include_str!("migrations/0003_replicas.sql"),
        back: include_str!("migrations/back/0003_replicas.sql"),
    },
    Step {
        forward: include_str!("migrations/0004_rules.sql"),
        back: include_str!("migrations/back/0004_rules.sql"),
    },
    Step {
        forward: include_str!("migrations/0005_management.sql"),
        back: include_str!("migrations/back/0005_management.sql"),
    },
];

/// The same for PostgreSQL; the versions mean the same.
pub(crate) const POSTGRES: [Step; SQLITE.len()] = [
    Step {
        forward: include_str!("migrations/postgres/0001_records.sql"),
        back: "",
    },
    Step {
        forward: include_str!("migrations/postgres/0002_access.sql"),
        back: include_str!("migrations/back/0002_access.sql"),
    },
    Step {
        forward: include_str!("migrations/postgres/0003_replicas.sql"),
        back: include_str!("migrations/postgres/back/0003_replicas.sql"),
    },
    Step {
        forward: include_str!("migrations/postgres/0004_rules.sql"),
        back: include_str!("migrations/back/0004_rules.sql"),
    },
    Step {
        forward: include_str!("migrations/postgres/0005_management.sql"),
        back: include_str!("migrations/back/0005_management.sql"),
    },
];

/// Why a schema could not be brought to a version.
#[derive(Debug)]
pub(crate) enum MigrationError {
    Database(StepError),
    Newer { found: u32 },
    Altered { version: u32 },
    NoWayBack { from: u32, to: u32 },
}

impl From<StepError> for MigrationError {
    fn from(error: StepError) -> Self {
        MigrationError::Database(error)
    }
}

/// Makes the table of steps where it is absent. It is a statement of its own, for it must be there to be read.
pub(crate) const STEPS_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_steps (
    version  INTEGER NOT NULL PRIMARY KEY,
    checksum TEXT    NOT NULL
)";

/// Gives the version of the schema, having compared its steps with the known ones.
pub(crate) fn version(db: &dyn Session, steps: &[Step]) -> Result<u32, MigrationError> {
    let rows = db.query("SELECT version, checksum FROM schema_steps ORDER BY version", &[])?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let columns = Columns::named(row, "schema step", String::new());
        found.push((columns.count(0)?, columns.text(1)?));
    }
    for (expected, (version, checksum)) in (1..).zip(&found) {
        let Some(step) = steps.get(expected as usize - 1) else {
            let newest = found.last().map_or(*version, |(newest, _)| *newest);
            return Err(MigrationError::Newer { found: newest });
        };
        if *version != expected || *checksum != checksum_of(step.forward) {
            return Err(MigrationError::Altered { version: *version });
        }
    }
    Ok(found.len() as u32)
}

/// Runs the next step; says whether there was one.
pub(crate) fn forward(db: &dyn Session, steps: &[Step]) -> Result<bool, MigrationError> {
    let version = version(db, steps)?;
    let Some(step) = steps.get(version as usize) else {
        return Ok(false);
    };
    db.execute_batch(step.forward)?;
    db.execute(
        "INSERT INTO schema_steps (version, checksum) VALUES (?1, ?2)",
        &binds![version + 1, checksum_of(step.forward)],
    )?;
    Ok(true)
}

/// Walks back to version `to`; all of it in the caller's transaction.
pub(crate) fn back(db: &dyn Session, steps: &[Step], to: u32) -> Result<(), MigrationError> {
    let from = version(db, steps)?;
    if to > from || to == 0 {
        return Err(MigrationError::NoWayBack { from, to });
    }
    for version in (to + 1..=from).rev() {
        let step = &steps[version as usize - 1];
        if step.back.is_empty() {
            return Err(MigrationError::NoWayBack { from, to });
        }
        db.execute_batch(step.back)?;
        db.execute("DELETE FROM schema_steps WHERE version = ?1", &binds![version])?;
    }
    Ok(())
}

/// FNV-1a, 64 bits, of the step's text: guards against accidents, not against malice.
fn checksum_of(step: &str) -> String {
    let mut hash = Fnv1a::default();
    hash.write(step.as_bytes());
    format!("{:016x}", hash.finish())
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, TransactionBehavior};

    use super::*;

    const fn step(forward: &'static str, back: &'static str) -> Step {
        Step { forward, back }
    }

    const FIRST: Step = step("CREATE TABLE a (x INTEGER);", "");
    const SECOND: Step = step(
        "CREATE TABLE b (y INTEGER); INSERT INTO a VALUES (7);",
        "DROP TABLE b; DELETE FROM a;",
    );

    fn memory() -> Connection {
        let db = Connection::open_in_memory().expect("memory");
        db.execute_batch(STEPS_TABLE).expect("the table of steps");
        db
    }

    fn migrate(db: &mut Connection, steps: &[Step]) -> Result<(), MigrationError> {
        loop {
            let transaction = db
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .expect("begin");
            let has_run = forward(&*transaction, steps)?;
            transaction.commit().expect("commit");
            if !has_run {
                return Ok(());
            }
        }
    }

    fn tables(db: &Connection, name: &str) -> u32 {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
        db.query_row(sql, [name], |row| row.get(0)).expect("count")
    }

    #[test]
    fn steps_run_once_and_in_order() {
        let mut db = memory();
        migrate(&mut db, &[FIRST]).expect("first");
        migrate(&mut db, &[FIRST, SECOND]).expect("second");
        migrate(&mut db, &[FIRST, SECOND]).expect("nothing left");
        let sevens: u32 = db
            .query_row("SELECT count(*) FROM a", [], |row| row.get(0))
            .expect("count");
        assert_eq!(sevens, 1);
    }

    #[test]
    fn a_newer_schema_and_an_altered_step_are_refused() {
        let mut db = memory();
        migrate(&mut db, &[FIRST, SECOND]).expect("both");
        assert!(matches!(
            migrate(&mut db, &[FIRST]),
            Err(MigrationError::Newer { found: 2 })
        ));
        assert!(matches!(
            migrate(&mut db, &[step("CREATE TABLE c (x INTEGER);", ""), SECOND]),
            Err(MigrationError::Altered { version: 1 })
        ));
    }

    #[test]
    fn a_step_that_fails_leaves_nothing() {
        let mut db = memory();
        assert!(
            migrate(
                &mut db,
                &[FIRST, step("CREATE TABLE b (y INTEGER); nonsense;", "")]
            )
            .is_err()
        );
        assert_eq!(tables(&db, "b"), 0, "half a step was kept");
        migrate(&mut db, &[FIRST, SECOND]).expect("the corrected step runs");
    }

    #[test]
    fn the_way_back_is_walked_as_far_as_there_is_one() {
        let mut db = memory();
        migrate(&mut db, &[FIRST, SECOND]).expect("both");
        for to in [0, 3] {
            assert!(matches!(
                back(&db, &[FIRST, SECOND], to),
                Err(MigrationError::NoWayBack { from: 2, .. })
            ));
        }
        back(&db, &[FIRST, SECOND], 1).expect("one step back");
        assert_eq!((tables(&db, "a"), tables(&db, "b")), (1, 0));
        migrate(&mut db, &[FIRST]).expect("the older program is content");
        migrate(&mut db, &[FIRST, SECOND]).expect("forward again");
        assert_eq!(tables(&db, "b"), 1);
    }
}

//! The SQLite file: one connection that writes, a few that read.
//!
//! SQLite takes one writer at a time, so ours queue at a mutex instead of at the file lock. WAL mode lets
//! readers go on while somebody writes; `synchronous = FULL` makes a returned commit survive a power cut.
//! Everything blocks: callers keep it off the async threads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use marketprism_model::StoreError;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use thiserror::Error;

use crate::migration::{self, MigrationError};
use crate::session::Session;

/// The kill points of this room, in the order of a notification's life.
pub const POINTS: &[&str] = &[
    "state.commit.before",
    "state.commit.after",
    "outbox.begin.before",
    "outbox.begin.after",
    "outbox.finish.before",
    "outbox.finish.after",
];

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections for reading that are kept open; a burst of readers beyond them opens its own.
const READERS_KEPT_MAX: usize = 4;
/// Room that is taken at the start, in the file and in its log, so that alerts are still recorded, and so told, when
/// the disk has none. The log is written from its beginning after each checkpoint, at 1,000 pages of 4 KiB, and
/// never shrinks while it is open: with twice that it need not grow.
const RESERVED_BYTES: usize = 8 << 20;
/// Prepared statements that a connection keeps.
const STATEMENTS_KEPT_MAX: usize = 64;

/// Why the database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file cannot be opened, is no database, or is held by somebody else.
    #[error("database {path}: {reason}")]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// A newer release wrote the file.
    #[error(
        "database {path} has schema version {found}, this program knows up to {known}; run the newer release or restore a backup"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// The file says that a step of the schema ran with another text.
    #[error(
        "database {path}: step {version} of the schema is not the one this program knows; restore a backup"
    )]
    Altered {
        /// The file.
        path: PathBuf,
        /// The step.
        version: u32,
    },
}

/// All records, in one SQLite file. Implements the ports [`marketprism_model::AlertStore`] and
/// [`marketprism_model::Outbox`].
pub struct Database {
    writer: Mutex<Connection>,
    /// `None` in memory, where the writer's connection is the only one that sees the data.
    readers: Option<Readers>,
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    busy_timeout: Duration,
}

impl Database {
    /// Opens the file, makes it when it is absent, and brings its schema forward. The folder must exist.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Database::open_with_busy_timeout(path, BUSY_TIMEOUT)
    }

    /// The same with another patience towards other processes that hold the file; the default is 5 s.
    pub fn open_with_busy_timeout(path: &Path, busy_timeout: Duration) -> Result<Self, OpenError> {
        let refuse = |reason: String| OpenError::Database {
            path: path.to_owned(),
            reason,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let writer = Connection::open_with_flags(path, flags).map_err(|error| refuse(error.to_string()))?;
        let prepare = || -> Result<String, rusqlite::Error> {
            prepare(&writer, busy_timeout)?;
            let mode = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            writer.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
            Ok(mode)
        };
        let mode = prepare().map_err(|error| refuse(error.to_string()))?;
        if mode != "wal" {
            return Err(refuse(format!(
                "journal mode is {mode}, not wal; the file system must support shared memory"
            )));
        }
        let readers = Readers {
            path: path.to_owned(),
            idle: Mutex::new(Vec::new()),
            busy_timeout,
        };
        let database = Database::migrated(writer, Some(readers), path)?;
        if let Err(error) = reserve(&database.writer.lock()) {
            tracing::warn!(error = %error, "no room could be reserved; alerts are not recorded once the disk is full");
        }
        Ok(database)
    }

    /// Makes an empty database that lives in memory and ends with this value.
    pub fn in_memory() -> Result<Self, OpenError> {
        let path = Path::new(":memory:");
        let open = || -> Result<Connection, rusqlite::Error> {
            let writer = Connection::open_in_memory()?;
            prepare(&writer, BUSY_TIMEOUT)?;
            writer.execute_batch("PRAGMA foreign_keys = ON;")?;
            Ok(writer)
        };
        let writer = open().map_err(|error| OpenError::Database {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Database::migrated(writer, None, path)
    }

    fn migrated(mut writer: Connection, readers: Option<Readers>, path: &Path) -> Result<Self, OpenError> {
        let path = path.to_owned();
        migration::migrate(&mut writer).map_err(|error| match error {
            MigrationError::Database(error) => OpenError::Database {
                path,
                reason: error.to_string(),
            },
            MigrationError::Newer { found } => OpenError::Newer {
                path,
                found,
                known: migration::NEWEST,
            },
            MigrationError::Altered { version } => OpenError::Altered { path, version },
        })?;
        Ok(Database {
            writer: Mutex::new(writer),
            readers,
        })
    }

    /// Runs `change` in one transaction that is durable when this returns `Ok`, and leaves nothing otherwise.
    pub(crate) fn write<T>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&dyn Session) -> Result<T, StepError>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer.lock();
        let run = |writer: &mut Connection| -> Result<T, StepError> {
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = change(&*transaction)?;
            transaction.commit()?;
            Ok(answer)
        };
        run(&mut writer).map_err(|error| error.of(operation))
    }

    /// The same for what only the replica that leads may write. The embedded database has one process, which leads.
    pub(crate) fn write_as_leader<T>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&dyn Session) -> Result<T, StepError>,
    ) -> Result<T, StoreError> {
        self.write(operation, change)
    }

    /// Runs `question` on a connection for reading; it sees one moment of the records.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        question: impl FnOnce(&dyn Session) -> Result<T, StepError>,
    ) -> Result<T, StoreError> {
        let run = |connection: &Connection| -> Result<T, StepError> {
            let transaction = connection.unchecked_transaction()?;
            let answer = question(&*transaction)?;
            transaction.commit()?;
            Ok(answer)
        };
        let mut lease = self
            .lease()
            .map_err(|error| StepError::from(error).of(operation))?;
        run(lease.connection()).map_err(|error| error.of(operation))
    }

    fn lease(&self) -> Result<Lease<'_>, rusqlite::Error> {
        let Some(readers) = &self.readers else {
            return Ok(Lease::Writer(self.writer.lock()));
        };
        let idle = readers.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&readers.path, flags)?;
                prepare(&connection, readers.busy_timeout)?;
                connection
            }
        };
        Ok(Lease::Reader(Some(connection), readers))
    }

    /// Runs statements as they are, for tests that damage or limit the database.
    #[cfg(test)]
    pub(crate) fn execute_for_test(&self, sql: &str) {
        self.writer.lock().execute_batch(sql).expect("a test's statement");
    }
}

/// Writes as much as is to be reserved and takes it out again: the pages stay in the file, free for records, and the
/// log stays as long as it had to be.
fn reserve(writer: &Connection) -> Result<(), rusqlite::Error> {
    writer.execute_batch(&format!(
        "DROP TABLE IF EXISTS reserved;
         CREATE TABLE reserved (filler BLOB NOT NULL);
         INSERT INTO reserved VALUES (zeroblob({RESERVED_BYTES}));
         DROP TABLE reserved;
         PRAGMA wal_checkpoint(PASSIVE);"
    ))
}

fn prepare(connection: &Connection, busy_timeout: Duration) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT_MAX);
    Ok(())
}

/// A connection for as long as one question takes.
enum Lease<'a> {
    Writer(MutexGuard<'a, Connection>),
    Reader(Option<Connection>, &'a Readers),
}

impl Lease<'_> {
    fn connection(&mut self) -> &Connection {
        match self {
            Lease::Writer(connection) => connection,
            Lease::Reader(connection, _) => connection.as_ref().expect("taken only when dropped"),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Lease::Reader(connection, readers) = self
            && let Some(connection) = connection.take()
        {
            let mut idle = readers.idle.lock();
            if idle.len() < READERS_KEPT_MAX {
                idle.push(connection);
            }
        }
    }
}

/// Why a step inside a transaction failed, before the operation's name is known.
#[derive(Debug)]
pub(crate) enum StepError {
    Database(String),
    Store(StoreError),
}

impl StepError {
    fn of(self, operation: &'static str) -> StoreError {
        match self {
            StepError::Database(reason) => StoreError::Database { operation, reason },
            StepError::Store(error) => error,
        }
    }
}

impl From<rusqlite::Error> for StepError {
    fn from(error: rusqlite::Error) -> Self {
        StepError::Database(error.to_string())
    }
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        StepError::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use marketprism_model::{
        Alert, AlertCommit, AlertEvent, AlertEventKind, AlertState, AlertStore, Chance, Id, Labels, Level,
        Timestamp,
    };

    use super::*;

    struct Seven;
    impl Chance for Seven {
        fn next_u64(&self) -> u64 {
            7
        }
    }

    fn alert(labels: Labels) -> Alert {
        Alert {
            id: Id::new(Timestamp::from_millis(1), &Seven),
            labels,
            annotations: Labels::empty(),
            state: AlertState::Firing,
            level: Level::High,
            has_levels: false,
            value: 1.0,
            active_at: Timestamp::from_millis(1),
            fired_at: None,
            resolved_at: None,
            updated_at: Timestamp::from_millis(1),
            rules: Vec::new(),
            group: String::new(),
            expr: String::new(),
            acknowledged: None,
            suppressed_by: Vec::new(),
        }
    }

    #[test]
    fn a_full_disk_refuses_the_whole_commit_and_says_so() {
        let db = Database::in_memory().expect("memory");
        let small = alert(Labels::from_pairs([("alertname", "A")]));
        db.commit(&AlertCommit {
            alerts: vec![small.clone()],
            ..AlertCommit::default()
        })
        .expect("fits");
        db.execute_for_test("PRAGMA max_page_count = 1");
        // The limit becomes what is in use, so the next page is refused as on a full disk.
        let mut large = small.clone();
        large.expr = "x".repeat(1 << 20);
        let commit = AlertCommit {
            alerts: vec![
                Alert {
                    state: AlertState::Resolved,
                    ..small.clone()
                },
                large,
            ],
            events: vec![AlertEvent {
                id: small.id,
                alert: small.id,
                at: Timestamp::from_millis(2),
                actor: None,
                kind: AlertEventKind::Pending,
            }],
            ..AlertCommit::default()
        };
        let error = db.commit(&commit).expect_err("full");
        assert!(
            matches!(&error, StoreError::Database { operation: "commit alerts", reason } if reason.contains("full")),
            "{error}"
        );
        assert_eq!(
            db.load().expect("load").alerts,
            std::slice::from_ref(&small),
            "half a commit was kept"
        );
        db.execute_for_test("PRAGMA max_page_count = 100000");
        db.commit(&commit).expect("the disk has room again");
        assert_eq!(db.events(small.id).expect("events").len(), 1);
    }

    /// The disk of the machine was full, and nobody was told: the alert about it could not be recorded.
    #[test]
    fn room_is_reserved_in_the_file_and_in_its_log() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("records.db");
        for start in 1..=3 {
            let db = Database::open(&path).expect("open");
            let writer = db.writer.lock();
            let number = |pragma: &str| -> u64 {
                let found = writer.query_row(pragma, [], |row| row.get::<_, i64>(0));
                found.expect("a number").unsigned_abs()
            };
            let free = number("PRAGMA freelist_count") * number("PRAGMA page_size");
            let size = |name: &str| std::fs::metadata(folder.path().join(name)).expect("file").len();
            assert!(
                free >= RESERVED_BYTES as u64,
                "start {start}: {free} bytes are free"
            );
            assert!(size("records.db-wal") >= RESERVED_BYTES as u64, "start {start}");
            assert!(
                size("records.db") < 2 * RESERVED_BYTES as u64,
                "start {start}: the reserve grows"
            );
        }
    }

    #[test]
    fn a_damaged_record_is_named_with_its_column() {
        let db = Database::in_memory().expect("memory");
        let stored = alert(Labels::from_pairs([("alertname", "A")]));
        db.commit(&AlertCommit {
            alerts: vec![stored.clone()],
            ..AlertCommit::default()
        })
        .expect("commit");
        db.execute_for_test("UPDATE alerts SET rules = '[1,'");
        let error = db.alert(stored.id).expect_err("damaged").to_string();
        assert!(
            error.contains(&stored.id.to_string()) && error.contains("rules: "),
            "{error}"
        );
    }
}

//! All records, whatever database holds them.
//!
//! The embedded one (SQLite) is for one process, a server (PostgreSQL) for several. Everything blocks: callers keep it
//! off the async threads.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use marketprism_model::StoreError;
use thiserror::Error;

use crate::migration::{self, MigrationError};
use crate::postgres::Postgres;
use crate::session::Session;
use crate::sqlite::{self, BUSY_TIMEOUT, Sqlite};
use crate::sqlite_files::{self, BackupProgress, OpenReport};

/// The kill points of this room, in the order of a notification's life.
pub const POINTS: &[&str] = &[
    "state.commit.before",
    "state.commit.after",
    "outbox.begin.before",
    "outbox.begin.after",
    "outbox.finish.before",
    "outbox.finish.after",
];

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
    /// The records are damaged, and no snapshot can stand in for them.
    #[error(
        "database {path} is damaged: {reason}; restore a backup, or move the file away to begin without records"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// An older release wrote the records, and only the service itself brings them forward.
    #[error(
        "database {path} has schema version {found}, this program works with {known}; start the service of this release first"
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: u32,
        /// The version this program knows.
        known: u32,
    },
    /// The address of the server cannot be read; it may hold a password and is not shown.
    #[error("{variable}: {reason}")]
    Address {
        /// Where it was given.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The schema cannot be brought to this version.
    #[error(
        "database {path} has schema version {found}, and there is no way back to {wanted}; restore a backup"
    )]
    NoWayBack {
        /// The file.
        path: PathBuf,
        /// The file's version.
        found: u32,
        /// The version that was asked for.
        wanted: u32,
    },
}

impl OpenError {
    pub(crate) fn of(path: &Path, reason: impl Display) -> Self {
        OpenError::Database {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn damaged(path: &Path, reason: String) -> Self {
        OpenError::Damaged {
            path: path.to_owned(),
            reason,
        }
    }
}

impl MigrationError {
    /// Names the database.
    pub(crate) fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
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
            MigrationError::NoWayBack { from, to } => OpenError::NoWayBack {
                path,
                found: from,
                wanted: to,
            },
        }
    }
}

/// All records. Implements the ports [`marketprism_model::AlertStore`], [`marketprism_model::Outbox`],
/// [`marketprism_model::AccessStore`] and [`marketprism_model::LeaseStore`].
pub struct Database {
    pub(crate) engine: Engine,
    report: OpenReport,
}

/// What stands behind.
pub(crate) enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Database {
    /// Opens the file, makes it when it is absent, and brings its schema forward. The folder must exist, and the file
    /// must be this process's own; see [`Database::open_beside`] for another's.
    ///
    /// A file that was copied while it was in use, or is damaged, gives way to its snapshot: [`Database::report`]
    /// says so. The first opening takes a snapshot.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Database::open_with_busy_timeout(path, BUSY_TIMEOUT)
    }

    /// The same with another patience towards other processes that hold the file; the default is 5 s.
    pub fn open_with_busy_timeout(path: &Path, busy_timeout: Duration) -> Result<Self, OpenError> {
        let report = sqlite_files::choose(path)?;
        let database = Database {
            engine: Engine::Sqlite(Sqlite::open(path, busy_timeout)?),
            report,
        };
        if !sqlite_files::snapshot_of(path).exists()
            && let Err(error) = sqlite_files::snapshot(path)
        {
            tracing::warn!(error = %error, "no snapshot of the records could be taken");
        }
        Ok(database)
    }

    /// Opens a file that another process may have open and serve at the same time. It must be there and have the
    /// schema that this program knows; nothing but what is asked for is changed in it.
    pub fn open_beside(path: &Path) -> Result<Self, OpenError> {
        Ok(Database {
            engine: Engine::Sqlite(Sqlite::open_beside(path)?),
            report: OpenReport::default(),
        })
    }

    /// Makes an empty database that lives in memory and ends with this value.
    pub fn in_memory() -> Result<Self, OpenError> {
        Ok(Database {
            engine: Engine::Sqlite(Sqlite::in_memory()?),
            report: OpenReport::default(),
        })
    }

    /// Reaches a PostgreSQL server, `postgres://user:password@host:port/database?sslmode=…`, and brings its schema
    /// forward; of several replicas that start together one does.
    ///
    /// `sslmode` is `disable`, `prefer` (the default), `require`, `verify-ca` or `verify-full`; `sslrootcert` names a PEM
    /// file of authorities, else the system's are asked. Tries once, for seconds: whoever wants to wait for a server
    /// that is still starting calls again. Later the connections come back by themselves.
    ///
    /// # Errors
    /// None of them shows the password.
    pub fn connect(url: &str) -> Result<Self, OpenError> {
        Ok(Database {
            engine: Engine::Postgres(Postgres::connect(url)?),
            report: OpenReport::default(),
        })
    }

    /// The same for a command beside the service: the schema must be the one this program knows, and stays.
    pub fn connect_beside(url: &str) -> Result<Self, OpenError> {
        Ok(Database {
            engine: Engine::Postgres(Postgres::connect_beside(url)?),
            report: OpenReport::default(),
        })
    }

    /// Walks the schema of a server back to version `to`; see [`Database::downgrade`].
    pub fn downgrade_server(url: &str, to: u32) -> Result<(), OpenError> {
        Postgres::downgrade(url, to)
    }

    /// Gives what was found at the opening.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Takes the snapshot anew, beside the file: what a copy of the data folder falls back to. Others go on writing.
    /// Does nothing in memory, nor for a server, whose files are its own.
    pub fn snapshot(&self) -> Result<(), OpenError> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.snapshot(),
            Engine::Postgres(_) => Ok(()),
        }
    }

    /// Copies the records, as they stand at this moment, into one file; see [`crate::backup`].
    pub fn backup(&self, to: &Path, progress: &mut dyn FnMut(BackupProgress)) -> Result<(), OpenError> {
        match &self.engine {
            Engine::Sqlite(engine) => match engine.path() {
                Some(path) => sqlite_files::backup(path, to, progress),
                None => Err(OpenError::of(
                    Path::new(":memory:"),
                    "records in memory have no file to copy",
                )),
            },
            Engine::Postgres(_) => Err(OpenError::of(
                Path::new("DATABASE_URL"),
                "the records are on a PostgreSQL server; back them up there, with pg_dump",
            )),
        }
    }

    /// Walks the schema of a file, which no other process has open, back to version `to`, for an older release that is
    /// to be installed next. What the older schema has no room for is gone; everything else stays.
    ///
    /// # Errors
    /// [`OpenError::NoWayBack`] when `to` is 0 or newer than the file.
    pub fn downgrade(path: &Path, to: u32) -> Result<(), OpenError> {
        sqlite::downgrade(path, to)
    }

    /// The schema version of this program.
    pub const SCHEMA_VERSION: u32 = migration::NEWEST;

    /// Runs `change` in one transaction that is durable when this returns `Ok`, and leaves nothing otherwise.
    pub(crate) fn write<T>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&dyn Session) -> Result<T, StepError>,
    ) -> Result<T, StoreError> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.write(operation, change),
            Engine::Postgres(engine) => engine.write(operation, change),
        }
    }

    /// The same for what only the replica that leads may write; any other is [`StoreError::Fenced`]. The embedded database
    /// has one process, which leads.
    pub(crate) fn write_as_leader<T>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&dyn Session) -> Result<T, StepError>,
    ) -> Result<T, StoreError> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.write(operation, change),
            Engine::Postgres(engine) => engine.write_as_leader(operation, change),
        }
    }

    /// Runs `question` in a transaction that sees one moment of the records.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        question: impl FnOnce(&dyn Session) -> Result<T, StepError>,
    ) -> Result<T, StoreError> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.read(operation, question),
            Engine::Postgres(engine) => engine.read(operation, question),
        }
    }

    /// Gives the connection that writes, for tests that damage or limit the database.
    #[cfg(test)]
    fn writer_for_test(&self) -> parking_lot::MutexGuard<'_, rusqlite::Connection> {
        match &self.engine {
            Engine::Sqlite(engine) => engine.writer_for_test(),
            Engine::Postgres(_) => panic!("the tests here are of the embedded database"),
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
    pub(crate) fn of(self, operation: &'static str) -> StoreError {
        match self {
            StepError::Database(reason) => StoreError::Database { operation, reason },
            StepError::Store(error) => error,
        }
    }
}

impl Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StepError::Database(reason) => f.write_str(reason),
            StepError::Store(error) => error.fmt(f),
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
    use crate::sqlite::RESERVED_BYTES;

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
            assigned: None,
            external: None,
            incident: None,
            flaps: 0,
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
        db.writer_for_test()
            .execute_batch("PRAGMA max_page_count = 1")
            .expect("a statement");
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
        db.writer_for_test()
            .execute_batch("PRAGMA max_page_count = 100000")
            .expect("a statement");
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
            let writer = db.writer_for_test();
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
        db.writer_for_test()
            .execute_batch("UPDATE alerts SET rules = '[1,'")
            .expect("a statement");
        let error = db.alert(stored.id).expect_err("damaged").to_string();
        assert!(
            error.contains(&stored.id.to_string()) && error.contains("rules: "),
            "{error}"
        );
    }
}

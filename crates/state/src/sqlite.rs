//! The SQLite file: one connection that writes, a few that read.
//!
//! SQLite takes one writer at a time, so ours queue at a mutex instead of at the file lock. WAL mode lets
//! readers go on while somebody writes; `synchronous = FULL` makes a returned commit survive a power cut.
//! Deliberately absent: what stands in the tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use marketprism_model::StoreError;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::database::{OpenError, StepError};
use crate::migration::{self, MigrationError};
use crate::session::Session;
use crate::sqlite_files;

/// How long a statement waits for another process that holds the file.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections for reading that are kept open; a burst of readers beyond them opens its own.
const READERS_KEPT_MAX: usize = 4;
/// Room that is taken at the start, in the file and in its log, so that alerts are still recorded, and so told, when
/// the disk has none. The log is written from its beginning after each checkpoint, at 1,000 pages of 4 KiB, and
/// never shrinks while it is open: with twice that it need not grow.
pub(crate) const RESERVED_BYTES: usize = 8 << 20;
/// Prepared statements that a connection keeps.
const STATEMENTS_KEPT_MAX: usize = 64;

/// An open file, or a database in memory.
pub(crate) struct Sqlite {
    writer: Mutex<Connection>,
    /// `None` in memory, where the writer's connection is the only one that sees the data.
    readers: Option<Readers>,
    /// Whether the file is this process's own, which notes in it that it is open.
    is_owner: bool,
    /// One snapshot is written at a time.
    snapshot: Mutex<()>,
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    busy_timeout: Duration,
}

impl Sqlite {
    /// Opens the file as its owner, makes it when it is absent, and brings its schema forward.
    pub(crate) fn open(path: &Path, busy_timeout: Duration) -> Result<Self, OpenError> {
        sqlite_files::keep_private(path);
        let mut engine = Sqlite::connect(path, busy_timeout, OpenFlags::SQLITE_OPEN_CREATE)?;
        {
            let mut writer = engine.writer.lock();
            migrate(&mut writer).map_err(|error| error.at(path))?;
            sqlite_files::write_mark(&writer, path, true).map_err(|error| OpenError::of(path, error))?;
            if let Err(error) = reserve(&writer) {
                tracing::warn!(error = %error, "no room could be reserved; alerts are not recorded once the disk is full");
            }
        }
        engine.is_owner = true;
        Ok(engine)
    }

    /// Opens a file that may be another process's own: the schema must be the one this program knows.
    pub(crate) fn open_beside(path: &Path) -> Result<Self, OpenError> {
        let engine = Sqlite::connect(path, BUSY_TIMEOUT, OpenFlags::empty())?;
        let version =
            migration::version(&*engine.writer.lock(), &migration::SQLITE).map_err(|error| error.at(path))?;
        if version < migration::NEWEST {
            return Err(OpenError::Older {
                path: path.to_owned(),
                found: version,
                known: migration::NEWEST,
            });
        }
        Ok(engine)
    }

    /// Makes an empty database that lives in memory and ends with this value.
    pub(crate) fn in_memory() -> Result<Self, OpenError> {
        let path = Path::new(":memory:");
        let open = || -> Result<Connection, rusqlite::Error> {
            let writer = Connection::open_in_memory()?;
            prepare(&writer, BUSY_TIMEOUT)?;
            writer.execute_batch("PRAGMA foreign_keys = ON;")?;
            Ok(writer)
        };
        let mut writer = open().map_err(|error| OpenError::of(path, error))?;
        migrate(&mut writer).map_err(|error| error.at(path))?;
        Ok(Sqlite {
            writer: Mutex::new(writer),
            readers: None,
            is_owner: false,
            snapshot: Mutex::new(()),
        })
    }

    fn connect(path: &Path, busy_timeout: Duration, more: OpenFlags) -> Result<Self, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
        let open = || -> Result<(Connection, String), rusqlite::Error> {
            let writer = Connection::open_with_flags(path, flags)?;
            prepare(&writer, busy_timeout)?;
            let mode = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            writer.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
            Ok((writer, mode))
        };
        let (writer, mode) = open().map_err(|error| OpenError::of(path, error))?;
        if mode != "wal" {
            let reason =
                format!("journal mode is {mode}, not wal; the file system must support shared memory");
            return Err(OpenError::of(path, reason));
        }
        Ok(Sqlite {
            writer: Mutex::new(writer),
            readers: Some(Readers {
                path: path.to_owned(),
                idle: Mutex::new(Vec::new()),
                busy_timeout,
            }),
            is_owner: false,
            snapshot: Mutex::new(()),
        })
    }

    /// Takes the snapshot anew; does nothing in memory.
    pub(crate) fn snapshot(&self) -> Result<(), OpenError> {
        let _one = self.snapshot.lock();
        self.path().map_or(Ok(()), sqlite_files::snapshot)
    }

    /// Gives the file, `None` in memory.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.readers.as_ref().map(|readers| readers.path.as_path())
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

    /// Gives the connection that writes, for tests that damage or limit the database.
    #[cfg(test)]
    pub(crate) fn writer_for_test(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock()
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        if let (true, Some(readers)) = (self.is_owner, &self.readers) {
            // A note that is missing costs a check at the next start.
            let _ = sqlite_files::write_mark(self.writer.get_mut(), &readers.path, false);
        }
    }
}

/// Walks the schema of a file back to version `to`, in one transaction.
pub(crate) fn downgrade(path: &Path, to: u32) -> Result<(), OpenError> {
    let engine = Sqlite::connect(path, BUSY_TIMEOUT, OpenFlags::empty())?;
    let mut writer = engine.writer.lock();
    let run = |writer: &mut Connection| -> Result<(), MigrationError> {
        let transaction = writer
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StepError::from)?;
        migration::back(&*transaction, &migration::SQLITE, to)?;
        Ok(transaction.commit().map_err(StepError::from)?)
    };
    run(&mut writer).map_err(|error| error.at(path))?;
    // Its schema is the newer one; the next start takes another.
    let _ = std::fs::remove_file(sqlite_files::snapshot_of(path));
    Ok(())
}

fn migrate(writer: &mut Connection) -> Result<(), MigrationError> {
    writer
        .execute_batch(&format!("{} STRICT", migration::STEPS_TABLE))
        .map_err(StepError::from)?;
    loop {
        // Immediate, so that of two programs that start on one file only one runs a step.
        let transaction = writer
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StepError::from)?;
        let has_run = migration::forward(&*transaction, &migration::SQLITE)?;
        transaction.commit().map_err(StepError::from)?;
        if !has_run {
            return Ok(());
        }
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

//! The PostgreSQL server: a few connections, each used by one transaction at a time.
//!
//! A write is one transaction at READ COMMITTED: only the leader writes alerts and messages, and the lease is looked at
//! in the same transaction, so no two writers of the same row meet. A read sees one moment (REPEATABLE READ). A
//! connection that failed in a way that leaves doubt is thrown away. Once the server could not be reached, calls fail at
//! once until it can be: attempts are made beside them, growing rarer up to every five seconds, for whoever writes
//! while rules are evaluated must not wait for a server that does not answer.
//! Invariant: nothing that is shown or logged holds the password or the data of a row.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::StoreError;
use parking_lot::{Condvar, Mutex};
use tokio_postgres::Client;

use crate::database::{OpenError, StepError};
use crate::migration::{self, MigrationError};
use crate::postgres_runtime::{CALL_MAX, IoThread, sleep, within};
use crate::postgres_session::{PgSession, Statements, reason};
use crate::postgres_url::{self, Server};
use crate::session::{Session, binds};

/// Connections at a time; who comes when all are in use waits.
const CONNECTIONS_MAX: usize = 8;
/// How long somebody waits for a connection.
const TURN_MAX: Duration = Duration::from_secs(10);
/// How long all addresses of a server together may take to answer.
const REACH_MAX: Duration = Duration::from_secs(12);
/// How long one statement of a change of the schema may take, waiting for another replica's included: it may write every row
/// anew, and one that is cut off would be cut off again at the next start.
const SCHEMA_MAX: Duration = Duration::from_secs(3_600);
/// How long a transaction may take to begin; so long is a connection held for sound that the network has lost.
const BEGIN_MAX: Duration = Duration::from_secs(5);
/// Pauses between attempts to reach a server that is away.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What each connection is told: limits for statements, locks and transactions that somebody left open; and that a
/// commit is on disk when it returns, whatever the server's default. Compiling a statement to machine code takes longer
/// than any of ours runs.
const SETTINGS: &str = "SET statement_timeout = '25s'; SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = '30s'; SET client_min_messages = 'warning'; SET jit = off;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';";
/// The advisory lock that guards the schema; an arbitrary number that stays.
const SCHEMA_LOCK: i64 = 0x6d70_5f73_6368_656d;

/// A server whose schema is the one this program knows.
pub(crate) struct Postgres {
    server: Arc<Server>,
    io: IoThread,
    pool: Mutex<Pool>,
    turn: Condvar,
    rest: Arc<Mutex<Rest>>,
    /// Who leads by this process's knowledge: its name in the lease and the epoch; `None` when it does not.
    pub(crate) lead: Mutex<Option<(String, i64)>>,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    in_use: usize,
}

/// What is known of a server that is away.
#[derive(Default)]
struct Rest {
    /// Why it could not be reached, until it could.
    reason: Option<String>,
    /// Whether somebody is trying.
    is_tried: bool,
}

/// One connection and the statements it has prepared.
pub(crate) struct Connection {
    pub(crate) client: Arc<Client>,
    pub(crate) statements: Statements,
}

/// How a transaction is begun.
#[derive(Clone, Copy)]
enum Mode {
    Write,
    Read,
}

impl Postgres {
    /// Reaches the server and brings its schema forward; of several processes that start together one does.
    pub(crate) fn connect(url: &str) -> Result<Self, OpenError> {
        let postgres = Postgres::reach(url)?;
        let name = Path::new(&postgres.server.name).to_owned();
        postgres
            .schema(|db| while_true(|| migration::forward(db, &migration::POSTGRES)))
            .map_err(|error| error.at(&name))?;
        Ok(postgres)
    }

    /// Reaches a server whose schema must be the one this program knows.
    pub(crate) fn connect_beside(url: &str) -> Result<Self, OpenError> {
        let postgres = Postgres::reach(url)?;
        let name = Path::new(&postgres.server.name).to_owned();
        let found = postgres
            .transact(Mode::Read, |db| migration::version(db, &migration::POSTGRES))
            .map_err(|error| error.at(&name))?;
        if found < migration::NEWEST {
            let known = migration::NEWEST;
            return Err(OpenError::Older {
                path: name,
                found,
                known,
            });
        }
        Ok(postgres)
    }

    /// Walks the schema back to version `to`, in one transaction.
    pub(crate) fn downgrade(url: &str, to: u32) -> Result<(), OpenError> {
        let postgres = Postgres::reach(url)?;
        let name = Path::new(&postgres.server.name).to_owned();
        postgres
            .schema(|db| migration::back(db, &migration::POSTGRES, to))
            .map_err(|error| error.at(&name))
    }

    fn reach(url: &str) -> Result<Self, OpenError> {
        let refuse = |reason: String| OpenError::of(Path::new("DATABASE_URL"), reason);
        let server = postgres_url::parse(url).map_err(|reason| OpenError::Address {
            variable: "DATABASE_URL",
            reason,
        })?;
        let io = IoThread::start().map_err(|error| refuse(format!("no thread could be started: {error}")))?;
        Ok(Postgres {
            server: Arc::new(server),
            io,
            pool: Mutex::default(),
            turn: Condvar::new(),
            rest: Arc::default(),
            lead: Mutex::new(None),
        })
    }

    /// Runs a change of the schema, one process at a time.
    fn schema<T>(
        &self,
        change: impl FnOnce(&dyn Session) -> Result<T, MigrationError>,
    ) -> Result<T, MigrationError> {
        self.transact_within(SCHEMA_MAX, Mode::Write, |db| {
            db.execute_batch(&format!(
                "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0;
                 SELECT pg_advisory_xact_lock({SCHEMA_LOCK}); {}",
                migration::STEPS_TABLE
            ))?;
            change(db)
        })
    }

    pub(crate) fn write<T>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&dyn Session) -> Result<T, StepError>,
    ) -> Result<T, StoreError> {
        self.transact(Mode::Write, change)
            .map_err(|error| error.of(operation))
    }

    /// Writes if this process leads, which the lease must say in the same transaction.
    pub(crate) fn write_as_leader<T>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&dyn Session) -> Result<T, StepError>,
    ) -> Result<T, StoreError> {
        let Some((holder, epoch)) = self.lead.lock().clone() else {
            return Err(StoreError::Fenced { operation });
        };
        self.write(operation, |db| {
            // Whoever takes the lease over waits until this transaction has ended; renewing it does not wait.
            let held = db.query_one(
                "SELECT 1 FROM replica_lease WHERE id = 1 AND holder = ?1 AND epoch = ?2 FOR KEY SHARE",
                &binds![&holder, epoch],
            )?;
            if held.is_none() {
                return Err(StepError::Store(StoreError::Fenced { operation }));
            }
            change(db)
        })
    }

    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        question: impl FnOnce(&dyn Session) -> Result<T, StepError>,
    ) -> Result<T, StoreError> {
        self.transact(Mode::Read, question)
            .map_err(|error| error.of(operation))
    }

    fn transact<T, E: From<StepError>>(
        &self,
        mode: Mode,
        act: impl FnOnce(&dyn Session) -> Result<T, E>,
    ) -> Result<T, E> {
        self.transact_within(CALL_MAX, mode, act)
    }

    fn transact_within<T, E: From<StepError>>(
        &self,
        limit: Duration,
        mode: Mode,
        act: impl FnOnce(&dyn Session) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut turn = self.begin(mode)?;
        let connection = turn.connection.as_ref().expect("taken only when the turn ends");
        let session = PgSession::new(&self.io, connection, &self.server.name, limit);
        let answer = act(&session).and_then(|answer| {
            session.finish()?;
            Ok(answer)
        });
        let is_sound = match &answer {
            Ok(_) => true,
            Err(_) => session.roll_back(),
        };
        drop(session);
        turn.is_sound = is_sound;
        answer
    }

    /// Begins a transaction on a connection that is there; one that the server has closed meanwhile is replaced.
    fn begin(&self, mode: Mode) -> Result<Turn<'_>, StepError> {
        let begin = match mode {
            Mode::Write => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Mode::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        loop {
            let (turn, is_new) = self.turn()?;
            let connection = turn.connection.as_ref().expect("taken only when the turn ends");
            match PgSession::new(&self.io, connection, &self.server.name, BEGIN_MAX).execute_batch(begin) {
                Ok(()) => return Ok(turn),
                Err(error) if is_new => return Err(error),
                // What took this connection has taken the others that were idle.
                Err(_) => self.pool.lock().idle.clear(),
            }
        }
    }

    /// Waits for a connection; says whether it is a new one.
    fn turn(&self) -> Result<(Turn<'_>, bool), StepError> {
        let mut pool = self.pool.lock();
        while pool.in_use >= CONNECTIONS_MAX {
            if self.turn.wait_for(&mut pool, TURN_MAX).timed_out() && pool.in_use >= CONNECTIONS_MAX {
                return Err(StepError::Database(format!(
                    "{}: all {CONNECTIONS_MAX} connections were in use for {} s",
                    self.server.name,
                    TURN_MAX.as_secs()
                )));
            }
        }
        pool.in_use += 1;
        let mut idle = None;
        while let Some(connection) = pool.idle.pop() {
            if !connection.client.is_closed() {
                idle = Some(connection);
                break;
            }
        }
        drop(pool);
        let is_new = idle.is_none();
        let mut turn = Turn {
            postgres: self,
            connection: idle,
            is_sound: false,
        };
        if is_new {
            turn.connection = Some(self.open()?);
        }
        Ok((turn, is_new))
    }

    fn open(&self) -> Result<Connection, StepError> {
        if let Some(reason) = &self.rest.lock().reason {
            return Err(StepError::Database(reason.clone()));
        }
        let opened = self.io.wait(REACH_MAX, client_of(Arc::clone(&self.server)));
        match judged(opened, &self.server) {
            Ok(client) => Ok(Connection {
                client: Arc::new(client),
                statements: Statements::default(),
            }),
            Err(failure) => {
                self.try_beside(failure.clone());
                Err(StepError::Database(failure))
            }
        }
    }

    /// Lets calls fail, and tries to reach the server beside them until it answers.
    fn try_beside(&self, failure: String) {
        let mut rest = self.rest.lock();
        rest.reason = Some(failure);
        if !std::mem::replace(&mut rest.is_tried, true) {
            let (server, rest) = (Arc::clone(&self.server), Arc::clone(&self.rest));
            self.io.beside(async move {
                let mut pause = PAUSE_MIN;
                loop {
                    sleep(pause).await;
                    let opened = within(REACH_MAX, client_of(Arc::clone(&server))).await;
                    let outcome = judged(opened, &server);
                    let mut rest = rest.lock();
                    rest.reason = outcome.err();
                    if rest.reason.is_none() {
                        rest.is_tried = false;
                        return;
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            });
        }
    }
}

/// Opens a connection.
async fn client_of(server: Arc<Server>) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = server.config.connect(server.tls.clone()).await?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "a connection to PostgreSQL ended");
        }
    });
    match client.batch_execute(SETTINGS).await {
        Ok(()) => Ok(client),
        Err(error) => {
            task.abort();
            Err(error)
        }
    }
}

/// Says why there is no connection; `None` stands for one that took too long.
fn judged(opened: Option<Result<Client, tokio_postgres::Error>>, server: &Server) -> Result<Client, String> {
    let failure = match opened {
        Some(Ok(client)) => return Ok(client),
        Some(Err(error)) => reason(&error),
        None => format!("no answer within {} s", REACH_MAX.as_secs()),
    };
    let name = &server.name;
    Err(format!(
        "{name}: {failure}; check that the server runs, and DATABASE_URL"
    ))
}

fn while_true<E>(mut step: impl FnMut() -> Result<bool, E>) -> Result<(), E> {
    while step()? {}
    Ok(())
}

/// A connection for as long as one transaction takes.
struct Turn<'a> {
    postgres: &'a Postgres,
    connection: Option<Connection>,
    is_sound: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut pool = self.postgres.pool.lock();
        pool.in_use -= 1;
        if let (true, Some(connection)) = (self.is_sound, self.connection.take()) {
            pool.idle.push(connection);
        }
        drop(pool);
        self.postgres.turn.notify_one();
    }
}

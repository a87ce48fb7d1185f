//! A transaction of PostgreSQL: what a connection does with statements, values and rows.
//!
//! Statements whose answer nobody needs are collected and sent together, so that a tick of many alerts does not wait for
//! the network once for each row; what failed then is told by the next statement, or by the commit.
//! A text of PostgreSQL holds no NUL; ours may, so it is written as U+10FFFE 0, and U+10FFFE, which no text should hold,
//! as U+10FFFE 1.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Client, Statement};

use crate::database::StepError;
use crate::postgres::Connection;
use crate::postgres_runtime::IoThread;
use crate::session::{self, Bind, Row, Session};

/// Statements that a connection keeps; beyond them it forgets all, for the program has fewer.
const STATEMENTS_KEPT_MAX: usize = 256;
/// Statements that are sent together. They are sent in their order only up to this many: `try_join_all` asks as many
/// futures one by one.
const TOGETHER: usize = 30;
/// Statements that may wait to be sent.
const WAITING_MAX: usize = 300;
/// What stands for a character that PostgreSQL cannot hold.
const ESCAPE: char = '\u{10fffe}';

/// Prepared statements by their text.
#[derive(Clone, Default)]
pub(crate) struct Statements(Arc<Mutex<HashMap<String, Statement>>>);

/// One transaction; [`PgSession::finish`] commits it.
pub(crate) struct PgSession<'a> {
    io: &'a IoThread,
    connection: &'a Connection,
    name: &'a str,
    /// How long one call may take.
    limit: Duration,
    waiting: RefCell<Vec<(String, Vec<Value>)>>,
    /// Whether a call took too long, so that nobody knows what the connection is doing.
    is_lost: Cell<bool>,
}

impl<'a> PgSession<'a> {
    pub(crate) fn new(io: &'a IoThread, connection: &'a Connection, name: &'a str, limit: Duration) -> Self {
        PgSession {
            io,
            connection,
            name,
            limit,
            waiting: RefCell::default(),
            is_lost: Cell::new(false),
        }
    }

    /// Sends what waits and commits.
    pub(crate) fn finish(&self) -> Result<(), StepError> {
        self.flush()?;
        self.execute_batch("COMMIT")
    }

    /// Undoes everything; says whether the connection can still be used.
    pub(crate) fn roll_back(&self) -> bool {
        self.waiting.borrow_mut().clear();
        !self.is_lost.get() && self.execute_batch("ROLLBACK").is_ok()
    }

    fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, tokio_postgres::Error>> + Send + 'static,
    ) -> Result<T, StepError> {
        let failure = match self.io.wait(self.limit, future) {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => reason(&error),
            None => {
                self.is_lost.set(true);
                format!("no answer within {} s", self.limit.as_secs())
            }
        };
        Err(StepError::Database(format!("{}: {failure}", self.name)))
    }

    fn flush(&self) -> Result<(), StepError> {
        let waiting = self.waiting.take();
        if waiting.is_empty() {
            return Ok(());
        }
        let (client, statements) = (
            Arc::clone(&self.connection.client),
            self.connection.statements.clone(),
        );
        self.wait(async move {
            let mut ready = Vec::with_capacity(waiting.len());
            for (sql, values) in waiting {
                ready.push((statements.get(&client, &sql).await?, values));
            }
            for together in ready.chunks(TOGETHER) {
                try_join_all(
                    together
                        .iter()
                        .map(|(statement, values)| client.execute_raw(statement, values)),
                )
                .await?;
            }
            Ok(())
        })
    }
}

impl Session for PgSession<'_> {
    fn is_planned_by_counts(&self) -> bool {
        true
    }

    fn execute(&self, sql: &str, values: &[Bind<'_>]) -> Result<u64, StepError> {
        self.flush()?;
        let (client, statements) = (
            Arc::clone(&self.connection.client),
            self.connection.statements.clone(),
        );
        let (sql, values) = (sql.to_owned(), owned(values));
        self.wait(async move {
            let statement = statements.get(&client, &sql).await?;
            client.execute_raw(&statement, &values).await
        })
    }

    fn execute_many(&self, sql: &str, sets: &[Vec<Bind<'_>>]) -> Result<(), StepError> {
        for values in sets {
            self.waiting.borrow_mut().push((sql.to_owned(), owned(values)));
            if self.waiting.borrow().len() >= WAITING_MAX {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn execute_batch(&self, sql: &str) -> Result<(), StepError> {
        self.flush()?;
        let (client, sql) = (Arc::clone(&self.connection.client), sql.to_owned());
        self.wait(async move { client.batch_execute(&sql).await })
    }

    fn query(&self, sql: &str, values: &[Bind<'_>]) -> Result<Vec<Row>, StepError> {
        self.flush()?;
        let (client, statements) = (
            Arc::clone(&self.connection.client),
            self.connection.statements.clone(),
        );
        let (sql, values) = (sql.to_owned(), owned(values));
        self.wait(async move {
            let statement = statements.get(&client, &sql).await?;
            let names: Arc<[String]> = statement
                .columns()
                .iter()
                .map(|column| column.name().to_owned())
                .collect();
            let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
            let rows = client.query(&statement, &parameters).await?;
            let row = |row: &tokio_postgres::Row| -> Result<Row, tokio_postgres::Error> {
                let cells = (0..row.len())
                    .map(|column| row.try_get::<_, session::Cell>(column))
                    .collect::<Result<_, _>>()?;
                Ok(Row {
                    names: Arc::clone(&names),
                    cells,
                })
            };
            rows.iter().map(row).collect()
        })
    }
}

impl Statements {
    async fn get(&self, client: &Client, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.0.lock().get(sql) {
            return Ok(statement.clone());
        }
        // Our marks are SQLite's; no text of ours has a question mark for anything else.
        let statement = client.prepare(&sql.replace('?', "$")).await?;
        let mut kept = self.0.lock();
        if kept.len() >= STATEMENTS_KEPT_MAX {
            kept.clear();
        }
        kept.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Gives what went wrong, for people: the server's message and code but none of the data it names.
pub(crate) fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} ({})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// A value that has left the caller's thread.
#[derive(Clone, Debug)]
enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

fn owned(values: &[Bind<'_>]) -> Vec<Value> {
    let owned = |value: &Bind<'_>| match value {
        Bind::Null => Value::Null,
        Bind::Integer(value) => Value::Integer(*value),
        Bind::Real(value) => Value::Real(*value),
        Bind::Text(text) => Value::Text(escaped(text).into_owned()),
        Bind::OwnedText(text) => Value::Text(escaped(text).into_owned()),
        Bind::Blob(bytes) => Value::Blob(bytes.to_vec()),
        Bind::Id(bytes) => Value::Blob(bytes.to_vec()),
    };
    values.iter().map(owned).collect()
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => escaped.extend([ESCAPE, '0']),
            ESCAPE => escaped.extend([ESCAPE, '1']),
            other => escaped.push(other),
        }
    }
    escaped.into()
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split(ESCAPE);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut rest = part.chars();
        plain.push(if rest.next() == Some('0') { '\0' } else { ESCAPE });
        plain.push_str(rest.as_str());
    }
    plain
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Null => return Ok(IsNull::Yes),
            Value::Integer(value) => match *ty {
                Type::INT4 => out.put_i32(i32::try_from(*value)?),
                Type::INT2 => out.put_i16(i16::try_from(*value)?),
                Type::FLOAT8 => out.put_f64(*value as f64),
                _ => out.put_i64(*value),
            },
            Value::Real(value) => out.put_f64(*value),
            Value::Text(text) => out.put_slice(text.as_bytes()),
            Value::Blob(bytes) => out.put_slice(bytes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

impl<'r> FromSql<'r> for session::Cell {
    fn from_sql(ty: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *ty {
            Type::INT8 => session::Cell::Integer(i64::from_sql(ty, raw)?),
            Type::INT4 => session::Cell::Integer(i32::from_sql(ty, raw)?.into()),
            Type::FLOAT8 => session::Cell::Real(f64::from_sql(ty, raw)?),
            Type::BYTEA => session::Cell::Blob(raw.to_vec()),
            _ => session::Cell::Text(unescaped(std::str::from_utf8(raw)?)),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(session::Cell::Null)
    }

    fn accepts(ty: &Type) -> bool {
        let known = [
            Type::INT8,
            Type::INT4,
            Type::FLOAT8,
            Type::BYTEA,
            Type::TEXT,
            Type::VARCHAR,
        ];
        known.contains(ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_postgresql_cannot_hold_comes_back_as_it_was() {
        for text in [
            "",
            "plain",
            "\0",
            "a\0b\0",
            "\u{10fffe}",
            "\u{10fffe}0\u{10fffe}1",
            "警\0报\u{10fffe}",
        ] {
            let held = escaped(text);
            assert!(!held.contains('\0'));
            assert_eq!(unescaped(&held), text);
        }
    }
}

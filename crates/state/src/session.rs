//! One transaction of whatever database stands behind: statements go in, rows come out.
//!
//! The rooms' records are written by the same SQL on each engine, with the parameters `?1`, `?2`, …; what differs
//! (types, locks, how a connection is had) stands with the engine. Rows are read whole, because lists are bounded and
//! a row that crosses a network is a value anyway.

use std::sync::Arc;

use crate::database::StepError;

/// A value that is given to a statement.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Bind<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a str),
    OwnedText(String),
    Blob(&'a [u8]),
    /// An identifier, which is so common that it needs no allocation.
    Id([u8; 16]),
}

/// A value that a row holds.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// One row of an answer.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) names: Arc<[String]>,
    pub(crate) cells: Vec<Cell>,
}

/// What a transaction can do.
pub(crate) trait Session {
    /// Says whether a server plans the questions, from what it has counted; SQLite plans by the indexes alone.
    fn is_planned_by_counts(&self) -> bool;

    /// Runs a statement and gives the number of rows that it changed.
    fn execute(&self, sql: &str, values: &[Bind<'_>]) -> Result<u64, StepError>;

    /// Runs one statement for each set of values. They run in the order of the calls and before any other statement, but
    /// that one failed may be told only by the next call, or by the commit.
    fn execute_many(&self, sql: &str, sets: &[Vec<Bind<'_>>]) -> Result<(), StepError>;

    /// The same for one set of values.
    fn execute_later(&self, sql: &str, values: &[Bind<'_>]) -> Result<(), StepError> {
        self.execute_many(sql, &[values.to_vec()])
    }

    /// Runs statements without values, apart by semicolons.
    fn execute_batch(&self, sql: &str) -> Result<(), StepError>;

    /// Runs a question, or a statement with `RETURNING`, and gives its rows.
    fn query(&self, sql: &str, values: &[Bind<'_>]) -> Result<Vec<Row>, StepError>;

    /// Runs a question that has at most one row of interest.
    fn query_one(&self, sql: &str, values: &[Bind<'_>]) -> Result<Option<Row>, StepError> {
        Ok(self.query(sql, values)?.into_iter().next())
    }
}

impl From<i64> for Bind<'_> {
    fn from(value: i64) -> Self {
        Bind::Integer(value)
    }
}

impl From<i32> for Bind<'_> {
    fn from(value: i32) -> Self {
        Bind::Integer(value.into())
    }
}

impl From<u32> for Bind<'_> {
    fn from(value: u32) -> Self {
        Bind::Integer(value.into())
    }
}

impl From<usize> for Bind<'_> {
    fn from(value: usize) -> Self {
        Bind::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Bind<'_> {
    fn from(value: bool) -> Self {
        Bind::Integer(value.into())
    }
}

impl From<f64> for Bind<'_> {
    fn from(value: f64) -> Self {
        Bind::Real(value)
    }
}

impl<'a> From<&'a str> for Bind<'a> {
    fn from(value: &'a str) -> Self {
        Bind::Text(value)
    }
}

impl<'a> From<&'a String> for Bind<'a> {
    fn from(value: &'a String) -> Self {
        Bind::Text(value)
    }
}

impl From<String> for Bind<'_> {
    fn from(value: String) -> Self {
        Bind::OwnedText(value)
    }
}

impl From<[u8; 16]> for Bind<'_> {
    fn from(value: [u8; 16]) -> Self {
        Bind::Id(value)
    }
}

impl<'a> From<&'a [u8; 32]> for Bind<'a> {
    fn from(value: &'a [u8; 32]) -> Self {
        Bind::Blob(value)
    }
}

impl<'a, T: Into<Bind<'a>>> From<Option<T>> for Bind<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Bind::Null, Into::into)
    }
}

/// Makes the list of a statement's values.
macro_rules! binds {
    ($($value:expr),* $(,)?) => {
        [$($crate::session::Bind::from($value)),*]
    };
}
pub(crate) use binds;

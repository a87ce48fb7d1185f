//! How the nouns' parts stand in columns.
//!
//! Identifiers are 16 bytes, hashes keep their bits in a signed integer, structures are JSON text. NaN, which
//! SQLite cannot hold, is NULL; the infinities are themselves, and a negative zero may lose its sign.

use std::fmt::Display;
use std::str::FromStr;

use marketprism_model::{Id, StoreError, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::database::StepError;
use crate::session::{Bind, Cell, Row, Session};

/// Gives an identifier as it is stored.
pub(crate) fn id_bytes(id: Id) -> [u8; 16] {
    id.as_u128().to_be_bytes()
}

/// Gives a hash as it is stored: the same bits, signed.
pub(crate) const fn hash_bits(hash: u64) -> i64 {
    hash as i64
}

/// Gives a value as it is stored.
pub(crate) fn float(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

/// Gives a moment that may be absent as it is stored.
pub(crate) fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::millis)
}

/// Writes a structure as JSON text.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, StepError> {
    serde_json::to_string(value).map_err(|error| StepError::Database(format!("json: {error}")))
}

/// Reads the cursor of a list that is ordered by identifiers.
pub(crate) fn parse_cursor<T: FromStr>(cursor: &str) -> Result<T, StoreError> {
    cursor
        .parse()
        .map_err(|_| StoreError::Cursor(cursor.chars().take(64).collect()))
}

/// Runs a question whose answer is a number.
pub(crate) fn count(db: &dyn Session, sql: &str, values: &[Bind<'_>]) -> Result<u64, StepError> {
    let row = db.query_one(sql, values)?;
    let row = row.ok_or_else(|| StepError::Database("a count gave no row".to_owned()))?;
    Columns::named(&row, "count", String::new()).hash(0)
}

/// Reads the columns of one row, and names the record when one does not fit.
pub(crate) struct Columns<'a> {
    row: &'a Row,
    what: &'static str,
    id: String,
}

impl<'a> Columns<'a> {
    /// Begins with a row whose column 0 is its identifier.
    pub(crate) fn with_id(row: &'a Row, what: &'static str) -> Result<(Self, Id), StepError> {
        let mut columns = Columns::named(row, what, String::new());
        let id = columns.id(0)?;
        columns.id = id.to_string();
        Ok((columns, id))
    }

    /// Begins with a row that is known by another name.
    pub(crate) fn named(row: &'a Row, what: &'static str, name: String) -> Self {
        Columns { row, what, id: name }
    }

    fn damaged(&self, column: usize, reason: impl Display) -> StepError {
        let column = self.row.names.get(column).map_or("?", String::as_str);
        StepError::Store(StoreError::Damaged {
            what: self.what,
            id: self.id.clone(),
            reason: format!("{column}: {reason}"),
        })
    }

    fn cell(&self, column: usize) -> &Cell {
        self.row.cells.get(column).unwrap_or(&Cell::Null)
    }

    fn unfit(&self, column: usize, wanted: &str) -> StepError {
        let found = match self.cell(column) {
            Cell::Null => "nothing",
            Cell::Integer(_) => "an integer",
            Cell::Real(_) => "a floating-point number",
            Cell::Text(_) => "a text",
            Cell::Blob(_) => "bytes",
        };
        self.damaged(column, format_args!("{found} where {wanted} should be"))
    }

    pub(crate) fn id(&self, column: usize) -> Result<Id, StepError> {
        let bytes = self.bytes::<16>(column)?;
        Ok(Id::from_u128(u128::from_be_bytes(bytes)))
    }

    pub(crate) fn bytes<const N: usize>(&self, column: usize) -> Result<[u8; N], StepError> {
        match self.cell(column) {
            Cell::Blob(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        }
        .ok_or_else(|| self.unfit(column, &format!("{N} bytes")))
    }

    pub(crate) fn integer(&self, column: usize) -> Result<i64, StepError> {
        match self.cell(column) {
            Cell::Integer(value) => Ok(*value),
            _ => Err(self.unfit(column, "an integer")),
        }
    }

    pub(crate) fn str(&self, column: usize) -> Result<&'a str, StepError> {
        match self.row.cells.get(column) {
            Some(Cell::Text(text)) => Ok(text),
            _ => Err(self.unfit(column, "a text")),
        }
    }

    pub(crate) fn text(&self, column: usize) -> Result<String, StepError> {
        self.str(column).map(str::to_owned)
    }

    pub(crate) fn flag(&self, column: usize) -> Result<bool, StepError> {
        Ok(self.integer(column)? != 0)
    }

    pub(crate) fn hash(&self, column: usize) -> Result<u64, StepError> {
        self.integer(column).map(|bits| bits as u64)
    }

    pub(crate) fn count(&self, column: usize) -> Result<u32, StepError> {
        self.number(column)
    }

    pub(crate) fn code(&self, column: usize) -> Result<i32, StepError> {
        self.number(column)
    }

    fn number<T: TryFrom<i64>>(&self, column: usize) -> Result<T, StepError> {
        let value = self.integer(column)?;
        T::try_from(value).map_err(|_| self.damaged(column, format_args!("{value} is out of range")))
    }

    pub(crate) fn float(&self, column: usize) -> Result<f64, StepError> {
        match self.cell(column) {
            Cell::Null => Ok(f64::NAN),
            Cell::Real(value) => Ok(*value),
            Cell::Integer(value) => Ok(*value as f64),
            _ => Err(self.unfit(column, "a number")),
        }
    }

    pub(crate) fn time(&self, column: usize) -> Result<Timestamp, StepError> {
        self.integer(column).map(Timestamp::from_millis)
    }

    pub(crate) fn is_null(&self, column: usize) -> bool {
        *self.cell(column) == Cell::Null
    }

    fn optional<T>(
        &self,
        column: usize,
        read: impl FnOnce(&Self, usize) -> Result<T, StepError>,
    ) -> Result<Option<T>, StepError> {
        if self.is_null(column) {
            return Ok(None);
        }
        read(self, column).map(Some)
    }

    pub(crate) fn optional_id(&self, column: usize) -> Result<Option<Id>, StepError> {
        self.optional(column, Self::id)
    }

    pub(crate) fn optional_time(&self, column: usize) -> Result<Option<Timestamp>, StepError> {
        self.optional(column, Self::time)
    }

    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<String>, StepError> {
        self.optional(column, Self::text)
    }

    /// Reads a word that a noun parses.
    pub(crate) fn word<T: FromStr>(&self, column: usize) -> Result<T, StepError>
    where
        T::Err: Display,
    {
        let text = self.str(column)?;
        text.parse().map_err(|error| self.damaged(column, error))
    }

    pub(crate) fn optional_word<T: FromStr>(&self, column: usize) -> Result<Option<T>, StepError>
    where
        T::Err: Display,
    {
        self.optional(column, Self::word)
    }

    /// Reads a word that serde knows, such as `waiting`.
    pub(crate) fn serde_word<T: DeserializeOwned>(&self, column: usize) -> Result<T, StepError> {
        let text = self.text(column)?;
        serde_json::from_value(serde_json::Value::String(text)).map_err(|error| self.damaged(column, error))
    }

    /// Reads a structure.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: usize) -> Result<T, StepError> {
        serde_json::from_str(self.str(column)?).map_err(|error| self.damaged(column, error))
    }

    /// Reads a structure that may be absent.
    pub(crate) fn optional_json<T: DeserializeOwned>(&self, column: usize) -> Result<Option<T>, StepError> {
        self.optional(column, Self::json)
    }
}

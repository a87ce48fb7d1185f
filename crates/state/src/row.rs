//! How the nouns' parts stand in columns.
//!
//! Identifiers are 16 bytes, hashes keep their bits in a signed integer, structures are JSON text. NaN, which
//! SQLite cannot hold, is NULL; the infinities are themselves, and a negative zero loses its sign.

use std::str::FromStr;

use marketprism_model::{Id, StoreError, Timestamp};
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::database::StepError;

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

/// Writes a structure as JSON text.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, StepError> {
    serde_json::to_string(value).map_err(|error| StepError::Database(format!("json: {error}")))
}

/// Reads the columns of one row, and names the record when one does not fit.
pub(crate) struct Columns<'a> {
    row: &'a Row<'a>,
    what: &'static str,
    id: String,
}

impl<'a> Columns<'a> {
    /// Begins with a row whose column 0 is its identifier.
    pub(crate) fn with_id(row: &'a Row<'a>, what: &'static str) -> Result<(Self, Id), StepError> {
        let bytes: [u8; 16] = row.get(0)?;
        let id = Id::from_u128(u128::from_be_bytes(bytes));
        Ok((
            Columns {
                row,
                what,
                id: id.to_string(),
            },
            id,
        ))
    }

    /// Begins with a row that is known by another name.
    pub(crate) fn named(row: &'a Row<'a>, what: &'static str, name: String) -> Self {
        Columns { row, what, id: name }
    }

    fn damaged(&self, column: usize, reason: String) -> StepError {
        let column = self.row.as_ref().column_name(column).unwrap_or("?").to_owned();
        StepError::Store(StoreError::Damaged {
            what: self.what,
            id: self.id.clone(),
            reason: format!("{column}: {reason}"),
        })
    }

    fn get<T: rusqlite::types::FromSql>(&self, column: usize) -> Result<T, StepError> {
        self.row
            .get(column)
            .map_err(|error| self.damaged(column, error.to_string()))
    }

    pub(crate) fn text(&self, column: usize) -> Result<String, StepError> {
        self.get(column)
    }

    pub(crate) fn flag(&self, column: usize) -> Result<bool, StepError> {
        self.get(column)
    }

    pub(crate) fn hash(&self, column: usize) -> Result<u64, StepError> {
        self.get::<i64>(column).map(|bits| bits as u64)
    }

    pub(crate) fn count(&self, column: usize) -> Result<u32, StepError> {
        self.get(column)
    }

    pub(crate) fn code(&self, column: usize) -> Result<i32, StepError> {
        self.get(column)
    }

    pub(crate) fn float(&self, column: usize) -> Result<f64, StepError> {
        Ok(self.get::<Option<f64>>(column)?.unwrap_or(f64::NAN))
    }

    pub(crate) fn time(&self, column: usize) -> Result<Timestamp, StepError> {
        self.get(column).map(Timestamp::from_millis)
    }

    pub(crate) fn optional_time(&self, column: usize) -> Result<Option<Timestamp>, StepError> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_millis))
    }

    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<String>, StepError> {
        self.get(column)
    }

    /// Reads a word that a noun parses.
    pub(crate) fn word<T: FromStr>(&self, column: usize) -> Result<T, StepError>
    where
        T::Err: std::fmt::Display,
    {
        let text: String = self.get(column)?;
        text.parse()
            .map_err(|error: T::Err| self.damaged(column, error.to_string()))
    }

    /// Reads a word that serde knows, such as `waiting`.
    pub(crate) fn serde_word<T: DeserializeOwned>(&self, column: usize) -> Result<T, StepError> {
        let text: String = self.get(column)?;
        serde_json::from_value(serde_json::Value::String(text))
            .map_err(|error| self.damaged(column, error.to_string()))
    }

    /// Reads a structure.
    pub(crate) fn json<T: DeserializeOwned>(&self, column: usize) -> Result<T, StepError> {
        let text: String = self.get(column)?;
        serde_json::from_str(&text).map_err(|error| self.damaged(column, error.to_string()))
    }

    /// Reads a structure that may be absent.
    pub(crate) fn optional_json<T: DeserializeOwned>(&self, column: usize) -> Result<Option<T>, StepError> {
        match self.get::<Option<String>>(column)? {
            None => Ok(None),
            Some(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| self.damaged(column, error.to_string())),
        }
    }
}

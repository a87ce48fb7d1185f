//! A transaction of SQLite: what a connection does with statements, values and rows.

use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use crate::database::StepError;
use crate::session::{Bind, Cell, Row, Session};

impl Session for Connection {
    fn is_planned_by_counts(&self) -> bool {
        false
    }

    fn execute(&self, sql: &str, values: &[Bind<'_>]) -> Result<u64, StepError> {
        let changed = self.prepare_cached(sql)?.execute(params_from_iter(values))?;
        Ok(changed as u64)
    }

    fn execute_many(&self, sql: &str, sets: &[Vec<Bind<'_>>]) -> Result<(), StepError> {
        let mut statement = self.prepare_cached(sql)?;
        for values in sets {
            statement.execute(params_from_iter(values))?;
        }
        Ok(())
    }

    fn execute_later(&self, sql: &str, values: &[Bind<'_>]) -> Result<(), StepError> {
        Session::execute(self, sql, values).map(drop)
    }

    fn execute_batch(&self, sql: &str) -> Result<(), StepError> {
        Ok(Connection::execute_batch(self, sql)?)
    }

    fn query(&self, sql: &str, values: &[Bind<'_>]) -> Result<Vec<Row>, StepError> {
        let mut statement = self.prepare_cached(sql)?;
        let names: Arc<[String]> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query(params_from_iter(values))?;
        let mut answer = Vec::new();
        while let Some(row) = rows.next()? {
            let cells = (0..names.len())
                .map(|column| row.get_ref(column).map(cell))
                .collect::<Result<_, _>>()?;
            answer.push(Row {
                names: Arc::clone(&names),
                cells,
            });
        }
        Ok(answer)
    }
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Integer(value),
        ValueRef::Real(value) => Cell::Real(value),
        // A text that is no UTF-8 stays bytes, so that whoever reads it finds the column damaged.
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => Cell::Blob(bytes.to_vec()),
        },
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
    }
}

impl ToSql for Bind<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Bind::Null => ToSqlOutput::Owned(Value::Null),
            Bind::Integer(value) => ToSqlOutput::Owned(Value::Integer(*value)),
            Bind::Real(value) => ToSqlOutput::Owned(Value::Real(*value)),
            Bind::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Bind::OwnedText(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Bind::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Bind::Id(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

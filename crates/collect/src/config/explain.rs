//! Errors of configuration files: where, what, and which key was probably meant.

use marketprism_model::nearest;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Why a configuration cannot be used.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// The text is no YAML, or not of the expected shape.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// Counted from 1; 0 when unknown.
        line: u64,
        /// Counted from 1; 0 when unknown.
        column: u64,
        /// What is wrong, with the nearest known key where one is unknown.
        reason: String,
    },
    /// A value contradicts another or lies outside its limits.
    #[error("{field}: {reason}")]
    Value {
        /// The path of the key.
        field: String,
        /// What is wrong, with value and limit.
        reason: String,
    },
}

impl ConfigError {
    pub(super) fn value(field: impl Into<String>, reason: impl Into<String>) -> Self {
        ConfigError::Value {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// Parses YAML, and says in plain words what is wrong with it.
pub fn parse_yaml<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let plain = error.without_snippet();
        let (line, column) = plain.location().map_or((0, 0), |at| (at.line(), at.column()));
        ConfigError::Syntax {
            line,
            column,
            reason: reason_of(plain),
        }
    })
}

fn reason_of(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            let hint = match nearest(field, expected.iter().copied()) {
                Some(near) => format!("; did you mean {near:?}?"),
                None => String::new(),
            };
            format!("unknown key {field:?}{hint}")
        }
        other => {
            // The place stands before the reason already.
            let text = other.to_string();
            text.rsplit_once(" at line ")
                .map_or(text.clone(), |(reason, _)| reason.to_owned())
        }
    }
}

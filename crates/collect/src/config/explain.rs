//! Errors of configuration files: where, what, and which key was probably meant.

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
            let hint = match nearest_key(field, expected) {
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

/// Gives the known key that is fewest edits away, unless more than a third of the letters would change.
pub fn nearest_key<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, near) = known.iter().map(|key| (edits(word, key), *key)).min()?;
    (distance * 3 <= word.len().max(3)).then_some(near)
}

/// Counts insertions, deletions and replacements between two words.
///
/// Source: R. A. Wagner and M. J. Fischer (1974), "The String-to-String Correction Problem".
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_offered_only_when_it_is_near() {
        let known = ["scrape_interval", "scrape_timeout", "job_name"];
        assert_eq!(nearest_key("scrape_intervall", &known), Some("scrape_interval"));
        assert_eq!(nearest_key("jobname", &known), Some("job_name"));
        assert_eq!(nearest_key("something_else", &known), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}

//! YAML in, with errors that say where and what was meant.

use marketprism_model::nearest;
use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Options};

use crate::error::RuleFileError;

/// Reads one document; an empty one is `None`.
pub(crate) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<Option<T>, RuleFileError> {
    let is_empty = text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---");
    if is_empty {
        return Ok(None);
    }
    let options = serde_saphyr::options! {
        with_snippet: false,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough
    };
    serde_saphyr::from_str_with_options::<Option<T>>(text, with_room(options)).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location();
        RuleFileError {
            file: file.to_owned(),
            line: place.map_or(0, |place| place.line() as usize),
            column: place.map_or(0, |place| place.column() as usize),
            group: None,
            rule: None,
            reason: reason(error),
        }
    })
}

/// Public rule files hold tens of thousands of nodes; the library's own budget is made for less.
fn with_room(mut options: Options) -> Options {
    if let Some(budget) = &mut options.budget {
        budget.max_events = 4_000_000;
        budget.max_nodes = 2_000_000;
        budget.max_total_scalar_bytes = 64 << 20;
    }
    options
}

fn reason(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown_field(field, expected),
        Error::SerdeMissingField { field, .. } => format!("field '{field}' is missing"),
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("key {key:?} stands there twice"),
        error => {
            let text = error.to_string();
            // The place is told apart.
            text.split(" at line ").next().unwrap_or(&text).to_owned()
        }
    }
}

fn unknown_field(field: &str, known: &[&'static str]) -> String {
    match nearest(field, known.iter().copied()) {
        Some(near) => format!("unknown field {field:?}; did you mean {near:?}?"),
        None => format!("unknown field {field:?}; known are {}", known.join(", ")),
    }
}

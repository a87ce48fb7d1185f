//! YAML in, with errors that say where and what was meant.

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
    let options = serde_saphyr::options! { with_snippet: false };
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
    match nearest(field, known) {
        Some(near) => format!("unknown field {field:?}; did you mean {near:?}?"),
        None => format!("unknown field {field:?}; known are {}", known.join(", ")),
    }
}

/// Gives the known word that is nearest, if it is near at all: a third of its letters may differ.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Counts insertions, deletions and changes from one word to another.
///
/// Source: Wagner & Fischer (1974), "The String-to-String Correction Problem".
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_word_is_offered_when_it_is_near() {
        assert_eq!(nearest("exp", &["expr", "for"]), Some("expr"));
        assert_eq!(nearest("lables", &["labels", "levels"]), Some("labels"));
        assert_eq!(nearest("severity", &["expr", "for"]), None);
        assert_eq!((distance("kitten", "sitting"), distance("", "ab")), (3, 2));
    }
}

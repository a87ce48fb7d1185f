//! A metric: its name and its labels, in the old spelling and in the one with quoted names.

use marketprism_model::Labels;

use super::NotationError;
use super::cursor::{Cursor, is_word};

const CONTEXT: &str = "label set";
const NAME: &str = "__name__";

/// Reads `name{label="value", "any label"="value"}` or `{"any name", label="value"}`; nothing at all is a metric
/// without labels. `may_space`: whether blanks may stand before the brace.
pub(super) fn read(cursor: &mut Cursor<'_>, may_space: bool) -> Result<Labels, NotationError> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let name = name(cursor);
    if !name.is_empty() {
        cursor.advance(name.len());
        pairs.push((NAME.to_owned(), name.to_owned()));
    }
    if may_space {
        cursor.skip_blanks();
    }
    if cursor.take("{") {
        read_labels(cursor, &mut pairs)?;
    }
    Ok(Labels::from_pairs(pairs))
}

/// The name that stands here: letters, digits, `_` and `:`.
fn name<'a>(cursor: &Cursor<'a>) -> &'a str {
    let rest = cursor.rest();
    if cursor.peek(0).is_ascii_digit() {
        return "";
    }
    let end = rest
        .bytes()
        .position(|byte| !is_word(byte) && byte != b':')
        .unwrap_or(rest.len());
    &rest[..end]
}

fn read_labels(cursor: &mut Cursor<'_>, pairs: &mut Vec<(String, String)>) -> Result<(), NotationError> {
    let has_name = !pairs.is_empty();
    loop {
        cursor.skip_blanks();
        if cursor.take("}") {
            return Ok(());
        }
        let word = cursor.word();
        let is_quoted = word.is_empty();
        let label = if is_quoted {
            if !cursor.starts_with("\"") && !cursor.starts_with("'") && !cursor.starts_with("`") {
                return Err(cursor.unexpected(CONTEXT, "identifier or \"}\""));
            }
            cursor.quoted(CONTEXT)?
        } else {
            cursor.advance(word.len());
            word.to_owned()
        };
        cursor.skip_blanks();
        let (label, value) = if cursor.take("=") {
            cursor.skip_blanks();
            (label, cursor.quoted(CONTEXT)?)
        } else if is_quoted {
            (NAME.to_owned(), label)
        } else {
            return Err(cursor.unexpected(CONTEXT, "\"=\""));
        };
        let is_known = pairs.iter().any(|(known, _)| *known == label);
        match (is_known, label == NAME && has_name) {
            // The name before the braces counts.
            (_, true) => {}
            (true, false) => return Err(cursor.error(format!("label {label:?} is given twice"))),
            (false, false) => pairs.push((label, value)),
        }
        cursor.skip_blanks();
        if !cursor.take(",") && !cursor.starts_with("}") {
            return Err(cursor.unexpected(CONTEXT, "\",\" or \"}\""));
        }
    }
}

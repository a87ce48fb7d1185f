//! The plain words of messages about values and keys.

use marketprism_model::nearest;
use serde::de::Unexpected;

use super::fill::SECRETS;

/// Says what a type of serde's messages means to whoever writes a file.
pub fn expected(kind: &str) -> String {
    match kind {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "a whole number".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "a string or path" | "path string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "keys and values".to_owned(),
        kind if kind.starts_with("struct ") || kind.starts_with("internally tagged enum") => {
            "keys and values".to_owned()
        }
        other => other.to_owned(),
    }
}

/// Says what was found, without the value of a text.
pub fn found(value: Unexpected<'_>) -> String {
    match value {
        Unexpected::Bool(is_true) => is_true.to_string(),
        Unexpected::Unsigned(n) => n.to_string(),
        Unexpected::Signed(n) => n.to_string(),
        Unexpected::Float(n) => n.to_string(),
        Unexpected::Str(_) | Unexpected::Char(_) => "a text".to_owned(),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "keys and values".to_owned(),
        other => other.to_string(),
    }
}

/// Proposes the nearest known word.
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(word, known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => String::new(),
    }
}

/// Proposes the nearest known key, `*_file` of secrets included; names the known ones when there are few.
pub fn hint_of_key(key: &str, known: &[&str]) -> String {
    let files = known.iter().filter(|key| SECRETS.contains(*key));
    let files: Vec<String> = files.map(|key| format!("{key}_file")).collect();
    let hint = hint(key, known.iter().copied().chain(files.iter().map(String::as_str)));
    match (hint.is_empty(), known.len()) {
        (true, 1..=8) => format!("; known are {}", known.join(", ")),
        _ => hint,
    }
}

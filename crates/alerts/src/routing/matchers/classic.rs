//! The classic grammar: names of letters, digits, `_` and `:`, values in double quotes or bare.
//!
//! It is lenient: bare values may hold anything but quotes, and a lone backslash stands for itself.
//! Source: Alertmanager, `pkg/labels`, ParseMatchers and ParseMatcher.

use marketprism_model::MatcherOp;

use super::Raw;

/// Reads matchers separated by commas outside of quotes; braces are optional, each for itself.
pub(super) fn parse(text: &str) -> Result<Vec<Raw>, String> {
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    let (mut is_quoted, mut is_escaped, mut begin) = (false, false, 0);
    let mut parts = Vec::new();
    for (at, character) in text.char_indices() {
        match character {
            ',' if !is_quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            // A comma leaves the escape as it is, there as here.
            ',' => {}
            '"' if is_escaped => is_escaped = false,
            '"' => is_quoted = !is_quoted,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    let last = text[begin..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts.into_iter().map(parse_one).collect()
}

/// What an expression calls a space.
const SPACES: [char; 5] = ['\t', '\n', '\u{c}', '\r', ' '];

/// Reads one matcher; whatever follows the operator is its value.
pub(super) fn parse_one(text: &str) -> Result<Raw, String> {
    let fault = || "it is not label, operator and value".to_owned();
    let text = text.trim_matches(SPACES);
    let is_first = |character: char| character.is_ascii_alphabetic() || character == '_' || character == ':';
    if !text.starts_with(is_first) {
        return Err(fault());
    }
    let name_end = text
        .find(|character| !is_first(character) && !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    let rest = rest.trim_start_matches(SPACES);
    let (op, rest) = [
        MatcherOp::Matches,
        MatcherOp::Equal,
        MatcherOp::NotEqual,
        MatcherOp::NotMatches,
    ]
    .into_iter()
    .find_map(|op| Some((op, rest.strip_prefix(op.as_str())?)))
    .ok_or_else(fault)?;
    Ok(Raw {
        name: name.to_owned(),
        op,
        value: unescape(rest.trim_start_matches(SPACES))?,
    })
}

fn unescape(raw: &str) -> Result<String, String> {
    let fault = || "an unescaped double quote stands within the value, or one is missing".to_owned();
    let (raw, mut is_awaiting_quote) = match raw.strip_prefix('"') {
        Some(inner) => (inner, true),
        None => (raw, false),
    };
    let mut value = String::with_capacity(raw.len());
    let mut is_escaped = false;
    for (at, character) in raw.char_indices() {
        let is_last = at + 1 >= raw.len();
        match character {
            'n' if is_escaped => value.push('\n'),
            '"' | '\\' if is_escaped => value.push(character),
            other if is_escaped => {
                value.push('\\');
                value.push(other);
            }
            '\\' if !is_last => {
                is_escaped = true;
                continue;
            }
            '"' if is_awaiting_quote && is_last => is_awaiting_quote = false,
            '"' => return Err(fault()),
            other => value.push(other),
        }
        is_escaped = false;
    }
    if is_awaiting_quote {
        return Err(fault());
    }
    Ok(value)
}

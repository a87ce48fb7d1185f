//! What can be said of an expression without running it: its words, when it is nothing but words between bars as
//! user interfaces write them, and what its values begin with.

use std::sync::Arc;

/// More words than this are not listed.
const WORDS_MAX: usize = 1_024;

/// Characters that mean something in an expression.
const META: &str = r"\.+*?()|[]{}^$";

/// Gives the words of `a|b`, `(a|b)`, `^(?:a|b)$`, each once; `None` when the expression says anything else.
pub(super) fn literals(pattern: &str) -> Option<Vec<Arc<str>>> {
    let mut words = Vec::new();
    for part in bare(pattern).split('|') {
        if words.len() == WORDS_MAX {
            return None;
        }
        words.push(Arc::from(word(part)?));
    }
    words.sort_unstable();
    words.dedup();
    Some(words)
}

/// Takes off anchors, which matchers have anyway, and one pair of brackets around the whole.
fn bare(pattern: &str) -> &str {
    let inner = |text: &'_ str| -> Option<(usize, usize)> {
        let open = if text.starts_with("(?:") {
            3
        } else {
            usize::from(text.starts_with('('))
        };
        (open > 0 && text.ends_with(')') && !text.ends_with("\\)")).then(|| (open, text.len() - 1))
    };
    let anchored = pattern
        .strip_prefix('^')
        .and_then(|rest| rest.strip_suffix('$'))
        .filter(|rest| inner(rest).is_some() || !rest.contains('|'));
    let text = anchored.unwrap_or(pattern);
    inner(text).map_or(text, |(from, to)| &text[from..to])
}

/// Reads one word, in which marks may be escaped.
fn word(part: &str) -> Option<String> {
    let mut word = String::with_capacity(part.len());
    let mut characters = part.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.push(characters.next().filter(char::is_ascii_punctuation)?),
            mark if META.contains(mark) => return None,
            other => word.push(other),
        }
    }
    Some(word)
}

/// Gives what every value that an expression keeps begins with, possibly nothing: `web-` of `web-.*`.
pub(super) fn stem(pattern: &str) -> String {
    let mut stem = String::new();
    // A bar may offer something else anywhere.
    if pattern.contains('|') {
        return stem;
    }
    let mut characters = pattern.strip_prefix('^').unwrap_or(pattern).chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next().filter(char::is_ascii_punctuation) {
                Some(mark) => stem.push(mark),
                None => break,
            },
            '*' | '+' | '?' | '{' => {
                stem.pop();
                break;
            }
            mark if META.contains(mark) => break,
            other => stem.push(other),
        }
    }
    stem
}

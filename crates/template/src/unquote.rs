//! Reads Go's string and character literals.
//!
//! Source: the Go specification, "String literals" and "Rune literals". Bytes that make no UTF-8 become
//! the replacement character, for our strings are text.

/// Reads `"…"` with its escapes, or a raw text between backquotes; `None` when it is malformed.
pub(crate) fn unquote(literal: &str) -> Option<String> {
    if let Some(raw) = literal.strip_prefix('`') {
        return Some(raw.strip_suffix('`')?.replace('\r', ""));
    }
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return (!inner.contains('"')).then(|| inner.to_owned());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while !rest.is_empty() {
        let (part, tail) = take_part(rest, '"')?;
        match part {
            Part::Character(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Part::Byte(byte) => bytes.push(byte),
        }
        rest = tail;
    }
    Some(
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

/// Reads `'…'`; `None` when it is malformed.
pub(crate) fn unquote_character(literal: &str) -> Option<char> {
    let inner = literal.strip_prefix('\'')?.strip_suffix('\'')?;
    match take_part(inner, '\'')? {
        (Part::Character(c), "") => Some(c),
        (Part::Byte(byte), "") => Some(char::from(byte)),
        _ => None,
    }
}

enum Part {
    Character(char),
    Byte(u8),
}

fn take_part(text: &str, quote: char) -> Option<(Part, &str)> {
    let c = text.chars().next()?;
    let rest = &text[c.len_utf8()..];
    if c == quote || c == '\n' {
        return None;
    }
    if c != '\\' {
        return Some((Part::Character(c), rest));
    }
    let escape = rest.chars().next()?;
    let after = &rest[escape.len_utf8()..];
    let simple = match escape {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' => '\\',
        '\'' | '"' if escape == quote => escape,
        'x' => {
            let (value, after) = take_digits(after, 2, 16)?;
            return Some((Part::Byte(u8::try_from(value).ok()?), after));
        }
        'u' | 'U' => {
            let (value, after) = take_digits(after, if escape == 'u' { 4 } else { 8 }, 16)?;
            return Some((Part::Character(char::from_u32(value)?), after));
        }
        '0'..='7' => {
            let (value, after) = take_digits(rest, 3, 8)?;
            return Some((Part::Byte(u8::try_from(value).ok()?), after));
        }
        _ => return None,
    };
    Some((Part::Character(simple), after))
}

fn take_digits(text: &str, count: usize, radix: u32) -> Option<(u32, &str)> {
    let digits = text.get(..count)?;
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some((u32::from_str_radix(digits, radix).ok()?, &text[count..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_read_as_the_go_specification_shows() {
        let check = |literal: &str, text: Option<&str>| {
            assert_eq!(unquote(literal).as_deref(), text, "{literal}");
        };
        check(r#""\n\t\"\\""#, Some("\n\t\"\\"));
        check(r#""\u65e5本\U00008a9e""#, Some("日本語"));
        check(r#""\xe6\x97\xa5""#, Some("日"));
        check(r#""\xff""#, Some("\u{fffd}"));
        check(r#""\101""#, Some("A"));
        check("`\\n\"`", Some("\\n\""));
        check(r#""\'""#, None);
        check(r#""\ud800""#, None);
        check(r#""\q""#, None);
        check("\"", None);
        assert_eq!(unquote_character(r"'\''"), Some('\''));
        assert_eq!(unquote_character("'本'"), Some('本'));
        assert_eq!((unquote_character("''"), unquote_character("'aa'")), (None, None));
    }
}

//! Texts in quotes, as Go writes them: what is printed and what messages show.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter, Write};

/// Bytes that are no text are held as private characters from here on, so that they are told apart, match no
/// label and print as they were written. None leaves this room.
const STAND_INS_FROM: u32 = 0x10_fe00;

/// Gives the character that stands for a byte that is no text.
fn stand_in(byte: u8) -> char {
    char::from_u32(STAND_INS_FROM + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn byte_of(c: char) -> Option<u8> {
    u32::from(c)
        .checked_sub(STAND_INS_FROM)
        .and_then(|byte| u8::try_from(byte).ok())
}

/// Makes a text of bytes; what is no UTF-8 is held by stand-ins.
pub(crate) fn text_of(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let mut text = String::new();
            for chunk in error.as_bytes().utf8_chunks() {
                text.push_str(chunk.valid());
                text.extend(chunk.invalid().iter().map(|byte| stand_in(*byte)));
            }
            text
        }
    }
}

/// Says whether all of a text was UTF-8.
pub(crate) fn is_text(text: &str) -> bool {
    !text.chars().any(|c| byte_of(c).is_some())
}

/// Gives a text as it may leave this room: with U+FFFD for bytes that are no text.
pub(crate) fn lenient(text: &str) -> Cow<'_, str> {
    match is_text(text) {
        true => Cow::Borrowed(text),
        false => {
            let shown = |c: char| byte_of(c).map_or(c, |_| char::REPLACEMENT_CHARACTER);
            Cow::Owned(text.chars().map(shown).collect())
        }
    }
}

/// A text in double quotes, with escapes for what cannot be seen.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

/// A character in single quotes.
pub(crate) struct QuotedChar(pub(crate) char);

/// Says whether a character can be seen, or is a plain space.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // Marks that join the letter before them are escaped only where they come first.
    let mut after_letter = String::from("a");
    after_letter.push(c);
    after_letter.escape_debug().nth(1) == Some(c)
}

fn write_char(f: &mut Formatter<'_>, c: char, quote: char) -> fmt::Result {
    if let Some(byte) = byte_of(c) {
        return write!(f, "\\x{byte:02x}");
    }
    match c {
        '\\' => f.write_str("\\\\"),
        c if c == quote => write!(f, "\\{c}"),
        '\x07' => f.write_str("\\a"),
        '\x08' => f.write_str("\\b"),
        '\x0c' => f.write_str("\\f"),
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\x0b' => f.write_str("\\v"),
        c if is_printable(c) => f.write_char(c),
        c if c.is_ascii() => write!(f, "\\x{:02x}", u32::from(c)),
        c if u32::from(c) < 0x10000 => write!(f, "\\u{:04x}", u32::from(c)),
        c => write!(f, "\\U{:08x}", u32::from(c)),
    }
}

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            write_char(f, c, '"')?;
        }
        f.write_char('"')
    }
}

impl Display for QuotedChar {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('\'')?;
        write_char(f, self.0, '\'')?;
        f.write_char('\'')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_those_of_go() {
        let check = |text: &str, expected: &str| assert_eq!(Quoted(text).to_string(), expected);
        check("a\"b\\c'd", r#""a\"b\\c'd""#);
        check("\x07\x08\x0c\n\r\t\x0b\x01\x7f", r#""\a\b\f\n\r\t\v\x01\x7f""#);
        check("中文 é e\u{301}", "\"中文 é e\u{301}\"");
        check(
            "\u{a0}\u{200b}\u{e000}\u{10ffff}",
            r#""\u00a0\u200b\ue000\U0010ffff""#,
        );
        let bytes = text_of(b"a\xc5z\xff".to_vec());
        check(&bytes, r#""a\xc5z\xff""#);
        assert_eq!(
            (is_text(&bytes), lenient(&bytes).as_ref()),
            (false, "a\u{fffd}z\u{fffd}")
        );
        assert_eq!(QuotedChar('\'').to_string(), r"'\''");
        assert_eq!(QuotedChar('"').to_string(), "'\"'");
    }
}

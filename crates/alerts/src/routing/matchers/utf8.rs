//! The grammar of UTF-8 names: names and values are bare words or texts in Go's double quotes.
//!
//! Source: Alertmanager, `matcher/parse`; Go's strconv.Unquote for texts in quotes.

use marketprism_model::MatcherOp;

use super::Raw;

/// Says whether a character needs quotes.
pub(super) fn is_reserved(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '{' | '}' | '!' | '=' | '~' | ',' | '\\' | '"' | '\'' | '`'
        )
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    OpenBrace,
    CloseBrace,
    Comma,
    Op(MatcherOp),
    Word(String),
}

/// Reads matchers separated by commas; a brace at the begin wants one at the end.
pub(super) fn parse(text: &str) -> Result<Vec<Raw>, String> {
    let tokens = tokens(text)?;
    let mut rest = tokens.as_slice();
    let mut matchers = Vec::new();
    let has_brace = rest.first() == Some(&Token::OpenBrace);
    if has_brace {
        rest = &rest[1..];
    }
    loop {
        match rest {
            [] if has_brace => return Err("the closing brace is missing".to_owned()),
            [] => return Ok(matchers),
            [Token::CloseBrace, after @ ..] if has_brace => {
                return if after.is_empty() {
                    Ok(matchers)
                } else {
                    Err("something follows the closing brace".to_owned())
                };
            }
            [Token::CloseBrace, ..] => return Err("the opening brace is missing".to_owned()),
            [Token::Word(name), Token::Op(op), Token::Word(value), after @ ..] => {
                matchers.push(Raw {
                    name: name.clone(),
                    op: *op,
                    value: value.clone(),
                });
                rest = match after {
                    [Token::Comma, after @ ..] => after,
                    [] | [Token::CloseBrace, ..] => after,
                    _ => return Err("a comma is missing between two matchers".to_owned()),
                };
            }
            [Token::Word(_), Token::Op(_), ..] => return Err("the value is missing".to_owned()),
            [Token::Word(_), ..] => return Err("the operator is missing".to_owned()),
            _ => return Err("the label's name is missing".to_owned()),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '{' => (Token::OpenBrace, 1),
            '}' => (Token::CloseBrace, 1),
            ',' => (Token::Comma, 1),
            '=' if rest.starts_with("=~") => (Token::Op(MatcherOp::Matches), 2),
            '=' => (Token::Op(MatcherOp::Equal), 1),
            '!' if rest.starts_with("!=") => (Token::Op(MatcherOp::NotEqual), 2),
            '!' if rest.starts_with("!~") => (Token::Op(MatcherOp::NotMatches), 2),
            '"' => {
                let length = quoted_length(rest).ok_or("a closing double quote is missing")?;
                (Token::Word(unquote(&rest[1..length - 1])?), length)
            }
            space if space.is_whitespace() => {
                rest = &rest[space.len_utf8()..];
                continue;
            }
            reserved if is_reserved(reserved) => {
                return Err(format!("{reserved:?} must stand within double quotes"));
            }
            _ => {
                let length = rest.find(is_reserved).unwrap_or(rest.len());
                (Token::Word(rest[..length].to_owned()), length)
            }
        };
        tokens.push(token);
        rest = &rest[length..];
    }
    Ok(tokens)
}

/// Gives the length of a text in quotes at the begin, quotes included.
fn quoted_length(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Undoes Go's escapes; what comes out must be UTF-8.
fn unquote(text: &str) -> Result<String, String> {
    if text.contains('\n') {
        return Err("a line break stands within double quotes; write \\n".to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = unescape(&rest[at + 1..], &mut bytes)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).map_err(|_| "the escapes give no UTF-8".to_owned())
}

/// Undoes one escape behind its backslash, and gives what follows it.
fn unescape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str, String> {
    let kind = text.chars().next().ok_or("a backslash stands at the end")?;
    let fault = || format!("unknown escape \\{kind}");
    let simple = match kind {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' | '"' => Some(kind as u8),
        _ => None,
    };
    if let Some(byte) = simple {
        bytes.push(byte);
        return Ok(&text[1..]);
    }
    let (digits, radix) = match kind {
        'x' => (text.get(1..3), 16),
        'u' => (text.get(1..5), 16),
        'U' => (text.get(1..9), 16),
        '0'..='7' => (text.get(..3), 8),
        _ => return Err(fault()),
    };
    let digits = digits
        .filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)))
        .ok_or_else(fault)?;
    let code = u32::from_str_radix(digits, radix).map_err(|_| fault())?;
    if matches!(kind, 'u' | 'U') {
        let character = char::from_u32(code).ok_or_else(fault)?;
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        return Ok(&text[1 + digits.len()..]);
    }
    bytes.push(u8::try_from(code).map_err(|_| fault())?);
    Ok(&text[usize::from(kind == 'x') + digits.len()..])
}

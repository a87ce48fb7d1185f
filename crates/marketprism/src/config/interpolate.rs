//! `${VAR}` and `${VAR:-default}` in the configuration file.
//!
//! Works on the text, before YAML is read, so that every error keeps its line. A value is written
//! according to the quotes it stands in, so that no value can change the structure of the file. Only names
//! in capitals are variables: `${1}` and `${name}` belong to relabelling and stay as they are.

use std::fmt::Write as _;

use thiserror::Error;

/// What cannot be filled in. `line` counts from 1.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InterpolationError {
    /// The variable has no value and no default.
    #[error("line {line}: environment variable {name} is not set; set it, or write ${{{name}:-default}}")]
    Missing {
        /// Where.
        line: usize,
        /// Which.
        name: String,
    },
    /// The value cannot stand where the variable does.
    #[error(
        "line {line}: the value of {name} does not fit into an unquoted text; write \"${{{name}}}\" in double quotes"
    )]
    Unquotable {
        /// Where.
        line: usize,
        /// Which.
        name: String,
    },
}

/// The quotes around a place in a line of YAML.
#[derive(Clone, Copy, PartialEq)]
enum Quotes {
    None,
    Single,
    Double,
}

/// Fills in all variables; `lookup` gives their values. All missing ones are reported at once.
///
/// A variable that is listed in `optional` and has no value becomes the empty text.
pub fn interpolate(
    text: &str,
    optional: &[&str],
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Vec<InterpolationError>> {
    let mut output = String::with_capacity(text.len());
    let mut errors = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        fill_line(line, index + 1, optional, lookup, &mut output, &mut errors);
    }
    if errors.is_empty() {
        Ok(output)
    } else {
        Err(errors)
    }
}

fn fill_line(
    line: &str,
    number: usize,
    optional: &[&str],
    lookup: &dyn Fn(&str) -> Option<String>,
    output: &mut String,
    errors: &mut Vec<InterpolationError>,
) {
    let mut quotes = Quotes::None;
    let mut rest = line;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        match (quotes, c) {
            (Quotes::None, '#') if before.is_whitespace() => {
                output.push_str(rest);
                return;
            }
            (Quotes::None, '"') => quotes = Quotes::Double,
            (Quotes::None, '\'') if !before.is_alphanumeric() => quotes = Quotes::Single,
            (Quotes::Double, '"') | (Quotes::Single, '\'') => quotes = Quotes::None,
            (Quotes::Double, '\\') => {
                let escaped = rest.chars().nth(1).map_or(1, |next| 1 + next.len_utf8());
                output.push_str(&rest[..escaped]);
                rest = &rest[escaped..];
                before = '\\';
                continue;
            }
            (_, '$') => {
                if let Some((name, default, length)) = variable(rest) {
                    let value = lookup(name).or_else(|| default.map(str::to_owned));
                    let value = value.or_else(|| optional.contains(&name).then(String::new));
                    match value {
                        None => errors.push(InterpolationError::Missing {
                            line: number,
                            name: name.to_owned(),
                        }),
                        Some(value) if !write_value(&value, quotes, output) => {
                            errors.push(InterpolationError::Unquotable {
                                line: number,
                                name: name.to_owned(),
                            });
                        }
                        Some(_) => {}
                    }
                    rest = &rest[length..];
                    before = '}';
                    continue;
                }
            }
            _ => {}
        }
        output.push(c);
        before = c;
        rest = &rest[c.len_utf8()..];
    }
}

/// Splits `${NAME}` or `${NAME:-default}` off the front: name, default, length in bytes.
fn variable(text: &str) -> Option<(&str, Option<&str>, usize)> {
    let inner = text.strip_prefix("${")?;
    let end = inner.find(['}', '\n'])?;
    if inner.as_bytes()[end] != b'}' {
        return None;
    }
    let (name, default) = match inner[..end].split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (&inner[..end], None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    is_name.then_some((name, default, end + 3))
}

/// Writes a value for the quotes it stands in; answers false when it cannot stand there.
fn write_value(value: &str, quotes: Quotes, output: &mut String) -> bool {
    match quotes {
        Quotes::Double => {
            for c in value.chars() {
                match c {
                    '"' | '\\' => {
                        output.push('\\');
                        output.push(c);
                    }
                    c if c.is_control() => {
                        let _ = write!(output, "\\u{:04x}", c as u32);
                    }
                    c => output.push(c),
                }
            }
            true
        }
        Quotes::Single if value.contains(['\n', '\r']) => false,
        Quotes::Single => {
            output.push_str(&value.replace('\'', "''"));
            true
        }
        Quotes::None => {
            let is_plain = value
                .chars()
                .all(|c| c.is_alphanumeric() || "._/:@+-?=,~%".contains(c))
                && !value.ends_with(':')
                && !value.contains(": ");
            output.push_str(value);
            is_plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, Vec<InterpolationError>> {
        interpolate(text, &["OPTIONAL"], &|name| match name {
            "USER" => Some("ops@example.com".to_owned()),
            "SECRET" => Some("a\"b\\c'd: #e".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn values_are_written_for_the_quotes_they_stand_in() {
        let check = |text: &str, expected: &str| assert_eq!(fill(text).as_deref(), Ok(expected));
        check("a: ${USER}\n", "a: ops@example.com\n");
        check("a: \"${SECRET}\"", r#"a: "a\"b\\c'd: #e""#);
        check("a: '${SECRET}'", r#"a: 'a"b\c''d: #e'"#);
        check("a: \"${NONE:-x y}\"", "a: \"x y\"");
        check("a: \"${OPTIONAL}\"", "a: \"\"");
        check("a: \"${EMPTY}\"", "a: \"\"");
    }

    #[test]
    fn relabelling_references_comments_and_lone_dollars_stay() {
        for text in [
            "replacement: ${1}:9100",
            "replacement: $1",
            "r: ${name}",
            "a: 1 # ${UNSET}",
            "a: $",
            "a: ${",
        ] {
            assert_eq!(fill(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn all_missing_variables_are_reported_with_their_lines() {
        assert_eq!(
            fill("a: ${ONE}\nb: it's\nc: \"${TWO}\""),
            Err(vec![
                InterpolationError::Missing {
                    line: 1,
                    name: "ONE".into()
                },
                InterpolationError::Missing {
                    line: 3,
                    name: "TWO".into()
                }
            ])
        );
    }

    #[test]
    fn a_value_that_would_change_the_structure_is_refused_outside_of_quotes() {
        assert_eq!(
            fill("a: ${SECRET}"),
            Err(vec![InterpolationError::Unquotable {
                line: 1,
                name: "SECRET".into()
            }])
        );
    }
}

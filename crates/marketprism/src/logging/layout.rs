//! How a line looks. Nothing that stands in it can end it, or steer the terminal that shows it.

use std::fmt::Write as _;

use tracing::Level;

use super::StandingField;
use super::lines::{Line, Value};

/// How lines look in one place.
pub(super) enum Layout {
    /// One JSON object.
    Json {
        /// The standing fields, in their order.
        fields: Vec<StandingField>,
    },
    /// Time, level, logger, message, `name=value`.
    Text {
        /// Whether the level has its colour.
        is_coloured: bool,
    },
}

impl Layout {
    /// Writes a line with its end.
    pub fn line(&self, line: &Line<'_>) -> String {
        match self {
            Layout::Json { fields } => json(line, fields),
            Layout::Text { is_coloured } => text(line, *is_coloured),
        }
    }
}

fn json(line: &Line<'_>, fields: &[StandingField]) -> String {
    let mut out = String::with_capacity(256);
    let mut separator = "{";
    let mut put = |name: &str, value: &Value| {
        out.push_str(separator);
        separator = ",";
        quote(&mut out, name);
        out.push(':');
        match value {
            Value::Text(text) => quote(&mut out, text),
            Value::Bare(text) => out.push_str(text),
        }
    };
    // Standing fields first and in their order, so that a line can be read as it stands.
    for field in fields {
        let (name, value) = match field {
            StandingField::Timestamp => ("timestamp", line.timestamp.as_str()),
            StandingField::Level => ("level", line.level.as_str()),
            StandingField::Logger => ("logger", line.logger),
            StandingField::Message => ("message", line.message),
            StandingField::TraceId => ("trace_id", line.trace_id),
        };
        put(name, &Value::Text(value.to_owned()));
    }
    for (name, value) in line.facts {
        match *name {
            // An object has each name once, and these are taken.
            "timestamp" | "level" => put(&format!("fact_{name}"), value),
            name => put(name, value),
        }
    }
    if separator == "{" {
        out.push('{');
    }
    out.push_str("}\n");
    out
}

fn text(line: &Line<'_>, is_coloured: bool) -> String {
    let mut out = String::with_capacity(256);
    let level = line.level.as_str();
    let colour = match *line.level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        _ => "34",
    };
    let _ = match is_coloured {
        true => write!(out, "{} \x1b[{colour}m{level:>5}\x1b[0m ", line.timestamp),
        false => write!(out, "{} {level:>5} ", line.timestamp),
    };
    escape(&mut out, line.logger, false);
    out.push_str(": ");
    escape(&mut out, line.message, false);
    for (name, value) in line.facts {
        let _ = write!(out, " {name}=");
        plain(&mut out, value.as_str());
    }
    if !line.trace_id.is_empty() {
        out.push_str(" trace_id=");
        plain(&mut out, line.trace_id);
    }
    out.push('\n');
    out
}

/// Writes a value as it is when nothing in it could be taken for something else, else in quotes.
fn plain(out: &mut String, text: &str) {
    let is_plain = |c: char| !c.is_whitespace() && !is_unsafe(c) && !matches!(c, '"' | '\\' | '=');
    if !text.is_empty() && text.chars().all(is_plain) {
        out.push_str(text);
    } else {
        quote(out, text);
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    escape(out, text, true);
    out.push('"');
}

/// Escapes as JSON does (RFC 8259, section 7), and besides what JSON would let pass to a terminal.
fn escape(out: &mut String, text: &str, is_quoted: bool) {
    for c in text.chars() {
        match c {
            '"' | '\\' if is_quoted => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
}

/// Says whether a character may break a line, steer a terminal or turn the direction of what follows.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::super::ALL_FIELDS;
    use super::*;

    /// What a hostile sender may put into a label: an end of line with a forged one, colours, a one-byte CSI, a
    /// turned direction.
    const HOSTILE: &str = "a\r\n2026-01-01 ERROR forged\x1b[31m\u{9b}2J\u{202e}\"\\\u{2028}\0é警";

    fn line(facts: &[(&'static str, Value)], layout: &Layout) -> String {
        layout.line(&Line {
            timestamp: "2026-11-24T00:00:00.000Z".to_owned(),
            level: &Level::WARN,
            logger: "rules",
            message: "rule failed",
            trace_id: "0af7651916cd43dd8448eb211c80319c",
            facts,
        })
    }

    fn check_bytes(line: &str) {
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(line.ends_with('\n'));
        assert!(!line.trim_end_matches('\n').chars().any(is_unsafe), "{line:?}");
    }

    #[test]
    fn a_json_line_has_its_standing_fields_in_order_and_keeps_every_text() {
        let fields = ALL_FIELDS.to_vec();
        let facts = [
            ("rule", Value::Text(HOSTILE.to_owned())),
            ("missed", Value::Bare("3".to_owned())),
            ("level", Value::Text("critical".to_owned())),
        ];
        let line = line(&facts, &Layout::Json { fields });
        check_bytes(&line);
        let head = "{\"timestamp\":\"2026-11-24T00:00:00.000Z\",\"level\":\"WARN\",\"logger\":\"rules\",\
                    \"message\":\"rule failed\",\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\",\"rule\":";
        assert!(line.starts_with(head), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["rule"], HOSTILE);
        assert_eq!((&read["missed"], &read["level"]), (&3.into(), &"WARN".into()));
        assert_eq!(read["fact_level"], "critical");
    }

    #[test]
    fn a_text_line_stays_one_line_whatever_stands_in_it() {
        let facts = [
            ("rule", Value::Text(HOSTILE.to_owned())),
            ("group", Value::Text("a=b c".to_owned())),
            ("target", Value::Text("http://h:1/x".to_owned())),
        ];
        let line = line(&facts, &Layout::Text { is_coloured: false });
        check_bytes(&line);
        assert!(
            line.starts_with("2026-11-24T00:00:00.000Z  WARN rules: rule failed rule=\"a\\r\\n"),
            "{line}"
        );
        assert!(
            line.contains(" group=\"a=b c\" target=http://h:1/x trace_id=0af7"),
            "{line}"
        );
    }

    #[test]
    fn without_any_field_a_line_is_an_empty_object() {
        assert_eq!(line(&[], &Layout::Json { fields: Vec::new() }), "{}\n");
    }
}

//! From an event to its line: gathers facts, finds the trace, writes.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use marketprism_model::Clock;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::file::RotatingFile;
use super::layout::Layout;

/// The longest text of a field, in bytes.
const FIELD_BYTES_MAX: usize = 16 << 10;

/// Writes every event to all outputs.
pub(super) struct Lines {
    pub clock: Arc<dyn Clock>,
    pub outputs: Vec<Output>,
}

/// A place for lines and how they look there.
pub(super) struct Output {
    pub layout: Layout,
    pub place: Place,
}

/// Where lines go.
pub(super) enum Place {
    StandardError,
    File(Mutex<RotatingFile>),
}

/// One line's content.
pub(super) struct Line<'a> {
    pub timestamp: String,
    pub level: &'a Level,
    pub logger: &'a str,
    pub message: &'a str,
    pub trace_id: &'a str,
    pub facts: &'a [(&'static str, Value)],
}

/// The value of a fact.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    /// A number or a truth, as JSON writes it.
    Bare(String),
}

impl Value {
    pub fn as_str(&self) -> &str {
        let (Value::Text(text) | Value::Bare(text)) = self;
        text
    }
}

impl Lines {
    fn write(&self, line: &Line<'_>) {
        for output in &self.outputs {
            let text = output.layout.line(line);
            match &output.place {
                // Nobody is left to be told when this fails.
                Place::StandardError => drop(std::io::stderr().lock().write_all(text.as_bytes())),
                Place::File(file) => {
                    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                    let failed = file.write(text.as_bytes());
                    drop(file);
                    if let Some(error) = failed {
                        self.complain(&error);
                    }
                }
            }
        }
    }

    /// Says on standard error that the file takes nothing; the file itself says it once for each trouble.
    fn complain(&self, error: &str) {
        let facts = [("error", Value::Text(error.to_owned()))];
        let line = Line {
            timestamp: self.clock.now().to_string(),
            level: &Level::ERROR,
            logger: module_path!(),
            message: "the log file cannot be written; lines go to standard error only",
            trace_id: "",
            facts: &facts,
        };
        for output in &self.outputs {
            if matches!(output.place, Place::StandardError) {
                drop(
                    std::io::stderr()
                        .lock()
                        .write_all(output.layout.line(&line).as_bytes()),
                );
            }
        }
    }
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut facts = Facts::default();
            attributes.record(&mut facts);
            span.extensions_mut().insert(facts);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(facts) = span.extensions_mut().get_mut::<Facts>()
        {
            values.record(facts);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut facts = Facts::default();
        event.record(&mut facts);
        // What the inner one says stands over what the outer one says.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(around) = span.extensions().get::<Facts>() {
                facts.add(around);
            }
        }
        let foreign = facts.take("log.target");
        let logger = facts.take("logger").or(foreign);
        let (message, trace_id) = (facts.take("message"), facts.take("trace_id"));
        facts.0.retain(|(name, _)| !name.starts_with("log."));
        let text = |value: &Option<Value>| value.as_ref().map_or("", Value::as_str).to_owned();
        let logger = logger.as_ref().map_or(event.metadata().target(), Value::as_str);
        self.write(&Line {
            timestamp: self.clock.now().to_string(),
            level: event.metadata().level(),
            logger,
            message: &text(&message),
            trace_id: &text(&trace_id),
            facts: &facts.0,
        });
    }
}

/// Facts in the order in which they were told, each name once.
#[derive(Default)]
struct Facts(Vec<(&'static str, Value)>);

impl Facts {
    fn put(&mut self, field: &Field, value: Value) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, known)) => *known = value,
            None => self.0.push((field.name(), value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(at).1)
    }

    fn add(&mut self, around: &Facts) {
        for (name, value) in &around.0 {
            if !self.0.iter().any(|(known, _)| known == name) {
                self.0.push((name, value.clone()));
            }
        }
    }
}

impl Visit for Facts {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(
            field,
            match value.is_finite() {
                true => Value::Bare(value.to_string()),
                false => Value::Text(value.to_string()),
            },
        );
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Bare(value.to_string()));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Bare(value.to_string()));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bare(value.to_string()));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::Text(bounded(format_args!("{value}"))));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::Text(bounded(format_args!("{value:?}"))));
    }
}

/// Writes a text of any length, keeping the beginning; the rest is counted and never held.
fn bounded(text: fmt::Arguments<'_>) -> String {
    let mut kept = Bounded::default();
    // Our own writer takes everything; what a value's own code fails at shows as far as it came.
    let _ = kept.write_fmt(text);
    if kept.dropped > 0 {
        kept.text.push_str(&format!("… [{} bytes cut]", kept.dropped));
    }
    kept.text
}

#[derive(Default)]
struct Bounded {
    text: String,
    dropped: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = match self.dropped {
            0 => FIELD_BYTES_MAX - self.text.len(),
            _ => 0,
        };
        let kept = part.floor_char_boundary(room);
        self.text.push_str(&part[..kept]);
        self.dropped += part.len() - kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_keep_their_beginning_and_say_how_much_is_missing() {
        let check = |text: &str, kept: &str, cut: usize| {
            let found = bounded(format_args!("{text}"));
            let note = format!("… [{cut} bytes cut]");
            let expected = if cut == 0 {
                kept.to_owned()
            } else {
                kept.to_owned() + &note
            };
            assert!(found == expected, "{} bytes", found.len());
        };
        let most = "x".repeat(FIELD_BYTES_MAX);
        check("short", "short", 0);
        check(&most, &most, 0);
        check(&(most.clone() + "yz"), &most, 2);
        // A character of three bytes does not fit into the last two.
        let almost = "x".repeat(FIELD_BYTES_MAX - 2);
        check(&(almost.clone() + "警a"), &almost, 4);
    }
}

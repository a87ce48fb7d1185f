//! Logs: one JSON object a line for machines, readable text on a terminal.
//!
//! A JSON line has `timestamp`, `level`, `logger`, `message`, `trace_id`, then the event's facts. Levels
//! are upper case, so `grep ERROR` works. The message is constant; whatever varies is a field.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::{Context, bail};
use marketprism_model::Clock;
use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The `logging` section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `ERROR`, `WARN`, `INFO` (default), `DEBUG`, `TRACE`, in any case. `LOG_LEVEL` in the environment wins.
    pub level: Option<String>,
    /// `json` or `text`; by default text on a terminal, JSON elsewhere.
    pub format: Option<Format>,
    /// Which of the standing fields a JSON line has; by default all.
    pub structured_fields: Option<Vec<StandingField>>,
}

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// A field that every JSON line has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandingField {
    /// RFC 3339, UTC.
    Timestamp,
    /// Upper case.
    Level,
    /// The module that speaks.
    Logger,
    /// Constant text.
    Message,
    /// The request's trace, empty outside of one.
    TraceId,
}

const ALL_FIELDS: [StandingField; 5] = [
    StandingField::Timestamp,
    StandingField::Level,
    StandingField::Logger,
    StandingField::Message,
    StandingField::TraceId,
];

/// Starts logging to standard error for the rest of the process's life.
pub fn start(config: &Config, level_override: Option<&str>, clock: Arc<dyn Clock>) -> anyhow::Result<()> {
    let level = level_override
        .or(config.level.as_deref())
        .unwrap_or("info")
        .to_ascii_lowercase();
    if !["error", "warn", "warning", "info", "debug", "trace"].contains(&level.as_str()) {
        bail!("unknown log level {level:?}; known are ERROR, WARN, INFO, DEBUG, TRACE");
    }
    let level = if level == "warning" { "warn" } else { &level };
    let filter = EnvFilter::try_new(format!("{level},hyper=warn,h2=warn,rustls=warn,lettre=warn"))
        .context("log filter")?;
    let is_terminal = std::io::stderr().is_terminal();
    let format = config
        .format
        .unwrap_or(if is_terminal { Format::Text } else { Format::Json });
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        Format::Json => base
            .event_format(JsonLine {
                clock,
                fields: config
                    .structured_fields
                    .clone()
                    .unwrap_or_else(|| ALL_FIELDS.to_vec()),
            })
            .try_init(),
        Format::Text => base
            .with_ansi(is_terminal)
            .with_timer(ClockTimer(clock))
            .try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging: {error}"))
}

struct ClockTimer(Arc<dyn Clock>);

impl FormatTime for ClockTimer {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", self.0.now())
    }
}

struct JsonLine {
    clock: Arc<dyn Clock>,
    fields: Vec<StandingField>,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut facts = Facts::default();
        event.record(&mut facts);
        let trace_id = facts.map.remove("trace_id").or_else(|| span_trace_id(context));
        let logger = facts
            .map
            .remove("logger")
            .unwrap_or_else(|| Value::from(event.metadata().target()));
        let message = facts.map.remove("message").unwrap_or_else(|| Value::from(""));
        // Standing fields first and in their order, so that a line can be read as it stands.
        let mut separator = "{";
        let mut put = |name: &str, value: &Value| {
            let written = write!(writer, "{separator}{}:{value}", Value::from(name));
            separator = ",";
            written
        };
        for field in &self.fields {
            let (name, value) = match field {
                StandingField::Timestamp => ("timestamp", Value::from(self.clock.now().to_string())),
                StandingField::Level => ("level", Value::from(event.metadata().level().as_str())),
                StandingField::Logger => ("logger", logger.clone()),
                StandingField::Message => ("message", message.clone()),
                StandingField::TraceId => ("trace_id", trace_id.clone().unwrap_or_else(|| Value::from(""))),
            };
            put(name, &value)?;
        }
        for (name, value) in &facts.map {
            put(name, value)?;
        }
        writeln!(writer, "}}")
    }
}

/// Finds `trace_id` among the recorded fields of the enclosing spans, the innermost first.
fn span_trace_id<S, N>(context: &FmtContext<'_, S, N>) -> Option<Value>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    for span in context.event_scope()? {
        let extensions = span.extensions();
        let Some(fields) = extensions.get::<FormattedFields<N>>() else {
            continue;
        };
        let found = fields
            .split_whitespace()
            .find_map(|field| field.strip_prefix("trace_id="));
        if let Some(id) = found {
            return Some(Value::from(id.trim_matches('"')));
        }
    }
    None
}

#[derive(Default)]
struct Facts {
    map: Map<String, Value>,
}

impl Facts {
    fn put(&mut self, field: &Field, value: Value) {
        self.map.insert(field.name().to_owned(), value);
    }
}

impl Visit for Facts {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(
            field,
            serde_json::Number::from_f64(value).map_or_else(|| Value::from(value.to_string()), Value::Number),
        );
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }
}

//! Logs: one JSON object a line for machines, readable text on a terminal, and a bounded file for whoever wants one.
//!
//! A JSON line has `timestamp`, `level`, `logger`, `message`, `trace_id`, then the event's facts and those of the
//! spans around it. Levels are upper case, so `grep ERROR` works. The message is constant; whatever varies is a field.
//! Lines go to standard error: containers, systemd and terminals show it, and a command's answer stays alone on
//! standard output.
//!
//! What comes from outside may stand in a field, so no field can end a line, steer a terminal or be endless: control
//! characters are escaped in both layouts, and 16 KiB is the longest text. Other people's crates speak from `WARN` on
//! only, for below that some of them show headers and queries.
//! Deliberately absent: shipping logs elsewhere, and any decision what is worth a line.

mod file;
mod layout;
mod lines;
mod threshold;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use marketprism_model::Clock;
use serde::Deserialize;
use thiserror::Error;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use file::RotatingFile;
use layout::Layout;
use lines::{Lines, Output, Place};
use threshold::Threshold;

/// The `logging` section.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The least that is said; `INFO` by default. `LOG_LEVEL` in the environment wins. A reload may change it.
    pub level: Option<Level>,
    /// `json` or `text`; by default text on a terminal, JSON elsewhere.
    pub format: Option<Format>,
    /// Which of the standing fields a JSON line has, in this order; by default all.
    pub structured_fields: Option<Vec<StandingField>>,
    /// Writes the same lines to a file besides; by default there is none.
    pub file: Option<FileConfig>,
}

/// A log file and the room that it may take: at most `max_bytes` · (`keep` + 1).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Where; missing folders are made. Processes must not share it.
    pub path: PathBuf,
    /// A file that would grow beyond this is set aside; 64 KiB to 1 GiB, 16 MiB by default.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: u64,
    /// How many files set aside are kept, as `path.1` (the newest), `path.2`, …; 0 to 100, 5 by default.
    #[serde(default = "default_keep")]
    pub keep: usize,
}

const MAX_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;
const KEEP_MAX: usize = 100;

fn default_max_bytes() -> u64 {
    16 << 20
}

fn default_keep() -> usize {
    5
}

/// What is wrong with the section, or with `LOG_LEVEL`.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// No such level.
    #[error("unknown log level {0:?}; known are ERROR, WARN, INFO, DEBUG, TRACE")]
    Level(String),
    /// A setting of the file is out of its limits.
    #[error("logging.file.{0}")]
    File(String),
}

impl Config {
    /// Judges what the types cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Some(file) = &self.file else { return Ok(()) };
        let refuse = |text: String| Err(ConfigError::File(text));
        if file.path.file_name().is_none() {
            return refuse(format!("path: {:?} names no file", file.path));
        }
        if !MAX_BYTES.contains(&file.max_bytes) {
            let (least, most) = (MAX_BYTES.start(), MAX_BYTES.end());
            return refuse(format!("max_bytes: {} is not {least} to {most}", file.max_bytes));
        }
        if file.keep > KEEP_MAX {
            return refuse(format!("keep: {} is more than {KEEP_MAX}", file.keep));
        }
        Ok(())
    }
}

/// How urgent something is. Written in any case; `WARNING` means `WARN`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum Level {
    /// A person must act.
    Error,
    /// Degraded, retrying.
    Warn,
    /// Lifecycle.
    #[default]
    Info,
    /// For whoever looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

impl FromStr for Level {
    type Err = ConfigError;
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "error" => Ok(Level::Error),
            "warn" | "warning" => Ok(Level::Warn),
            "info" => Ok(Level::Info),
            "debug" => Ok(Level::Debug),
            "trace" => Ok(Level::Trace),
            _ => Err(ConfigError::Level(text.chars().take(64).collect())),
        }
    }
}

impl TryFrom<String> for Level {
    type Error = ConfigError;
    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
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
    /// The part of the program that speaks.
    Logger,
    /// Constant text.
    Message,
    /// What the line belongs to: a request, an alert, a notification; empty outside of all.
    TraceId,
}

/// All of them, in their order.
pub const ALL_FIELDS: [StandingField; 5] = [
    StandingField::Timestamp,
    StandingField::Level,
    StandingField::Logger,
    StandingField::Message,
    StandingField::TraceId,
];

/// Changes a running log. Clones share it; the default one changes nothing, for programs that start no log.
#[derive(Clone, Debug, Default)]
pub struct Handle(Option<Running>);

#[derive(Clone, Debug)]
struct Running {
    threshold: reload::Handle<Threshold, Registry>,
    /// Whether the environment has said the level.
    is_fixed: bool,
}

impl Handle {
    /// Puts the level of a new configuration in force, unless `LOG_LEVEL` said it; the rest is read at the start only.
    pub fn set(&self, config: &Config) {
        let Some(running) = self.0.as_ref().filter(|running| !running.is_fixed) else {
            return;
        };
        let threshold = Threshold::new(config.level.unwrap_or_default());
        // It fails only when the process has another log by now, which has a level of its own.
        let _ = running.threshold.reload(threshold);
    }
}

/// Starts logging to standard error, and to the configured file, for the rest of the process's life.
///
/// `level_override` is what `LOG_LEVEL` says; it beats the configuration, also at reloads.
pub fn start(config: &Config, level_override: Option<&str>, clock: Arc<dyn Clock>) -> anyhow::Result<Handle> {
    config.validate()?;
    let fixed: Option<Level> = level_override.map(str::parse).transpose().context("LOG_LEVEL")?;
    let level = fixed.or(config.level).unwrap_or_default();
    let is_terminal = std::io::stderr().is_terminal();
    let layout = |is_terminal: bool| match config.format {
        Some(Format::Text) => Layout::Text {
            is_coloured: is_terminal,
        },
        None if is_terminal => Layout::Text { is_coloured: true },
        Some(Format::Json) | None => Layout::Json {
            fields: config
                .structured_fields
                .clone()
                .unwrap_or_else(|| ALL_FIELDS.to_vec()),
        },
    };
    let mut outputs = vec![Output {
        layout: layout(is_terminal),
        place: Place::StandardError,
    }];
    if let Some(file) = &config.file {
        let opened = RotatingFile::open(file.clone());
        let opened = opened.with_context(|| format!("logging.file: cannot write {}", file.path.display()))?;
        outputs.push(Output {
            layout: layout(false),
            place: Place::File(opened.into()),
        });
    }
    let (threshold, handle) = reload::Layer::new(Threshold::new(level));
    tracing_subscriber::registry()
        .with(threshold)
        .with(Lines { clock, outputs })
        .try_init()
        .context("logging")?;
    Ok(Handle(Some(Running {
        threshold: handle,
        is_fixed: fixed.is_some(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Config, String> {
        let config: Config = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn the_guides_section_and_every_spelling_of_a_level_are_read() {
        let guide = "level: \"INFO\"\nformat: \"json\"\nstructured_fields:\n  - \"timestamp\"\n  - \"level\"\n  \
                     - \"logger\"\n  - \"message\"\n  - \"trace_id\"\n";
        let config = read(guide).expect("the guide's own");
        assert_eq!(
            (config.level, config.format),
            (Some(Level::Info), Some(Format::Json))
        );
        assert_eq!(config.structured_fields.as_deref(), Some(&ALL_FIELDS[..]));
        for (text, level) in [
            ("WARNING", Level::Warn),
            ("warn", Level::Warn),
            ("Debug", Level::Debug),
        ] {
            assert_eq!(
                read(&format!("level: {text}")).map(|config| config.level),
                Ok(Some(level))
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_could() {
        let check = |yaml: &str, words: &[&str]| {
            let error = read(yaml).expect_err(yaml);
            for word in words {
                assert!(error.contains(word), "{yaml}: {error}");
            }
        };
        check("level: LOUD", &["LOUD", "ERROR, WARN, INFO"]);
        check("format: xml", &["xml", "json"]);
        check("structured_fields: [time]", &["time", "timestamp"]);
        check("file: {path: log, size: 1}", &["size"]);
        check("file: {max_bytes: 100000}", &["path"]);
        check("file: {path: ''}", &["names no file"]);
        check(
            "file: {path: log, max_bytes: 100}",
            &["max_bytes", "65536 to 1073741824"],
        );
        check("file: {path: log, keep: 101}", &["keep", "100"]);
    }
}

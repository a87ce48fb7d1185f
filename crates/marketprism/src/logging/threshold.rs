//! What is said at all.
//!
//! Spans are made whatever the level, or an `ERROR` line would lack the trace of the `INFO` span around it.

use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Context;

use super::Level;

/// The least that our own code says; others say warnings and errors.
#[derive(Debug)]
pub(super) struct Threshold(LevelFilter);

impl Threshold {
    pub fn new(level: Level) -> Self {
        Threshold(match level {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        })
    }

    fn admits(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().starts_with("marketprism");
        let limit = match (is_ours, metadata.is_span()) {
            (true, true) => self.0.max(LevelFilter::INFO),
            (true, false) => self.0,
            (false, _) => self.0.min(LevelFilter::WARN),
        };
        *metadata.level() <= limit
    }
}

impl<S: Subscriber> Layer<S> for Threshold {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.admits(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.max(LevelFilter::INFO))
    }
}

//! The rooms that the server shows, as the binary hands them over once they stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use marketprism_model::{AlertStore, BoxFuture, Outbox, SampleSink, SeriesSource};
use serde_json::Value;

/// Gives a value when asked; called from any thread.
pub type Ask<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// Who built the program, and from what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuildInfo {
    /// The version, `1.2.3`.
    pub version: String,
    /// The commit, or `unknown`.
    pub revision: String,
    /// The compiler, for example `rustc 1.95.0`.
    pub compiler: String,
    /// When it was built, RFC 3339, or empty.
    pub built_at: String,
}

/// Everything the server shows and the few things it may ask for.
pub struct Parts {
    /// Reads series.
    pub series: Arc<dyn SeriesSource>,
    /// Takes pushed samples.
    pub samples: Arc<dyn SampleSink>,
    /// Keeps alerts.
    pub alert_store: Arc<dyn AlertStore>,
    /// Keeps notifications.
    pub outbox: Arc<dyn Outbox>,
    /// Writes the program's figures as OpenMetrics text.
    pub metrics: Ask<String>,
    /// Says whether the rule loop and the outbox go on; the error says what stands still.
    pub watchdog: Ask<Result<(), String>>,
    /// Figures by section: `performance`, `storage`, `alerts`, … Each is asked off the async threads.
    pub stats: BTreeMap<&'static str, Ask<Value>>,
    /// Reads the configuration anew; the error is shown to whoever asked.
    pub reload: Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
    /// Gives the configuration that runs, as YAML, secrets hidden.
    pub config_yaml: Ask<String>,
    /// Who built the program.
    pub build: BuildInfo,
}

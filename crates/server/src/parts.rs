//! The rooms that the server shows, as the binary hands them over once they stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use marketprism_alerts::Alerts;
use marketprism_collect::metadata::MetadataStore;
use marketprism_collect::remote_write::RemoteWriteReceiver;
use marketprism_collect::scrape::TargetsSnapshot;
use marketprism_model::{AlertStore, BoxFuture, Outbox, SampleSink, SeriesSource, Timestamp};
use marketprism_promql::Engine;
use marketprism_rules::{Rulebook, RulesSnapshot};
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

/// How the process runs, for `status/runtimeinfo`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuntimeInfo {
    /// Where it was started.
    pub working_directory: String,
    /// Whether the last reload succeeded.
    pub is_config_current: bool,
    /// When the configuration that runs was read.
    pub config_read_at: Timestamp,
    /// Damaged segments and blocks found since the start.
    pub corruption_count: u64,
    /// How long samples are kept, as configured.
    pub storage_retention: String,
}

/// What the store holds in memory, for `status/tsdb`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeadFigures {
    /// Chunks in memory.
    pub chunk_count: u64,
    /// The oldest sample in memory.
    pub min_time: Timestamp,
    /// The newest sample in memory.
    pub max_time: Timestamp,
}

/// The program's own figures, in the two forms that scrapers ask for.
#[derive(Clone)]
pub struct MetricsText {
    /// OpenMetrics 1.0.
    pub open: Ask<String>,
    /// Prometheus' text format 0.0.4.
    pub plain: Ask<String>,
}

/// Everything the server shows and the few things it may ask for.
pub struct Parts {
    /// Reads series.
    pub series: Arc<dyn SeriesSource>,
    /// Evaluates expressions over `series`.
    pub engine: Arc<Engine>,
    /// Reads what is pushed by remote write.
    pub remote_write: Arc<RemoteWriteReceiver>,
    /// Takes pushed samples.
    pub samples: Arc<dyn SampleSink>,
    /// The rules and how their evaluations go.
    pub rules: Ask<Arc<RulesSnapshot>>,
    /// The rules that are made by API, and the way to change them.
    pub rulebook: Arc<Rulebook>,
    /// The targets and how their scrapes went.
    pub targets: Ask<Arc<TargetsSnapshot>>,
    /// What was pushed about metrics: type, help, unit.
    pub metadata: MetadataStore,
    /// The life of alerts: what is active, and what people do to it.
    pub alerts: Arc<Alerts>,
    /// Keeps alerts.
    pub alert_store: Arc<dyn AlertStore>,
    /// Keeps notifications.
    pub outbox: Arc<dyn Outbox>,
    /// Says whether the rule loop and the outbox go on; the error says what stands still.
    pub watchdog: Ask<Result<(), String>>,
    /// Figures by section: `performance`, `storage`, `alerts`, … Each is asked off the async threads.
    pub stats: BTreeMap<&'static str, Ask<Value>>,
    /// Reads the configuration anew; the error is shown to whoever asked.
    pub reload: Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
    /// Gives the configuration that runs, as YAML, secrets hidden.
    pub config_yaml: Ask<String>,
    /// How the process runs.
    pub runtime: Ask<RuntimeInfo>,
    /// What the store holds in memory.
    pub head: Ask<HeadFigures>,
    /// Settings as command-line flags, secrets hidden.
    pub flags: BTreeMap<String, String>,
    /// The machine's name, for links to targets on it.
    pub host_name: String,
    /// Who built the program.
    pub build: BuildInfo,
}

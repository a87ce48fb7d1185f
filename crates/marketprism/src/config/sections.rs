//! The sections of the file, side by side.
//!
//! Every room owns the meaning of its section; here is only which sections there are.

use std::time::Duration;

use marketprism_access::{AccessControl, ApiAuth};
use marketprism_collect::config::{GlobalConfig, Ignored, ScrapeConfig, Size};
use marketprism_collect::host::HostConfig;
use marketprism_model::duration;
use marketprism_net::{Egress, Network};
use marketprism_notify::config::Channels;
use marketprism_storage::SyncMode;
use serde::Deserialize;

use super::{AnomalyDetection, Performance, Seconds};
use crate::logging;

/// Everything the file says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The form of the file; the present one when absent.
    pub version: Option<u64>,
    /// How this file itself is treated.
    pub config: Watching,
    /// Evaluation and history.
    pub alert_manager: AlertManager,
    /// Routing and channels.
    pub notification_manager: NotificationManager,
    /// The sample store.
    pub storage: Storage,
    /// The machine itself.
    pub host: HostConfig,
    /// The HTTP server.
    pub server: marketprism_server::Config,
    /// Logs.
    pub logging: logging::Config,
    /// Prometheus: what holds for all jobs.
    pub global: GlobalConfig,
    /// Prometheus: targets.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Prometheus: rule files, globs allowed, relative to this file.
    pub rule_files: Vec<String>,
    /// How much is written, remembered and done at once.
    pub performance: Performance,
    /// Anomalies.
    pub anomaly_detection: AnomalyDetection,
    /// Who may ask, and who may be connected to.
    pub security: Security,
    alerting: Ignored,
    remote_write: Ignored,
    remote_read: Ignored,
    scrape_config_files: Ignored,
    tracing: Ignored,
    otlp: Ignored,
    runtime: Ignored,
}

/// The `config` section.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watching {
    /// How often the files are looked at for changes, 1 s to 1 d; 0 leaves it to SIGHUP and `POST /-/reload`.
    pub watch_interval: Seconds,
}

impl Default for Watching {
    fn default() -> Self {
        Watching {
            watch_interval: Seconds::whole(5),
        }
    }
}

/// The `alert_manager` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertManager {
    /// Whether rules are evaluated at all; while they are not, what fires stands, and nobody is told.
    pub enabled: bool,
    /// Seconds between evaluations of groups that do not say otherwise; `global.evaluation_interval` wins.
    pub evaluation_interval: Seconds,
    /// Seconds between clean-ups of records and blocks.
    pub cleanup_interval: Seconds,
    /// Firing alerts that are told at once.
    pub max_active_alerts: usize,
    /// How long resolved alerts are kept.
    pub history_retention: Seconds,
    /// Whether the rules inside the program run besides those of `rule_files`.
    pub default_rules: bool,
}

impl Default for AlertManager {
    fn default() -> Self {
        AlertManager {
            enabled: true,
            evaluation_interval: Seconds::whole(30),
            cleanup_interval: Seconds::whole(3600),
            max_active_alerts: 1000,
            history_retention: Seconds::whole(90 * 86_400),
            default_rules: true,
        }
    }
}

/// The `notification_manager` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotificationManager {
    /// Whether anything is sent; when it is again, what is new and what ended meanwhile is told.
    pub enabled: bool,
    /// How alerts are grouped and paced.
    pub route: marketprism_alerts::Route,
    /// The channels by name; all are told.
    pub channels: Channels,
}

impl Default for NotificationManager {
    fn default() -> Self {
        let room = marketprism_notify::Config::default();
        NotificationManager {
            enabled: room.enabled,
            route: marketprism_alerts::Route::default(),
            channels: room.channels,
        }
    }
}

/// The `storage` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// How long samples are kept.
    pub retention: Seconds,
    /// How many bytes samples may take.
    pub retention_bytes: Option<Size>,
    /// How late a sample may come.
    #[serde(with = "duration")]
    pub out_of_order_window: Duration,
    /// `durable`, `interval=100ms` or `os`.
    pub sync: String,
    /// How many series may be alive.
    pub series_limit: usize,
    tsdb: Ignored,
    exemplars: Ignored,
}

impl Default for Storage {
    fn default() -> Self {
        let room = marketprism_storage::Config::new("");
        Storage {
            retention: Seconds(room.retention),
            retention_bytes: None,
            out_of_order_window: room.out_of_order_window,
            sync: SyncMode::default().to_string(),
            series_limit: room.series_limit,
            tsdb: Ignored::default(),
            exemplars: Ignored::default(),
        }
    }
}

/// The `security` section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// Where this program may connect to.
    pub egress: EgressSection,
    /// Who must show what.
    pub api_auth: ApiAuth,
    /// From where.
    pub access_control: AccessControl,
}

impl Security {
    /// Gives what the room `access` is set by.
    pub fn access(&self) -> marketprism_access::Config {
        marketprism_access::Config {
            api_auth: self.api_auth.clone(),
            access_control: self.access_control.clone(),
        }
    }
}

/// The `security.egress` section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EgressSection {
    /// Addresses or blocks that may be connected to though they are clouds' metadata addresses.
    pub allow: Vec<String>,
}

impl EgressSection {
    pub(super) fn guard(&self) -> Result<Egress, String> {
        let networks = self.allow.iter().map(|text| text.parse());
        let networks: Result<Vec<Network>, _> = networks.collect();
        networks.map(Egress::new).map_err(|error| error.to_string())
    }
}

/// Keys that are taken and have no effect in this version; named wherever they stand.
const WITHOUT_EFFECT: [&str; 10] = [
    "anomaly_detection",
    "alerting",
    "remote_write",
    "remote_read",
    "scrape_config_files",
    "tracing",
    "otlp",
    "runtime",
    "storage.tsdb",
    "storage.exemplars",
];

impl Config {
    /// How often a group is evaluated that does not say otherwise.
    pub fn evaluation_interval(&self) -> Duration {
        self.global
            .evaluation_interval
            .unwrap_or(self.alert_manager.evaluation_interval.0)
    }

    /// Names the key that [`Config::evaluation_interval`] comes from.
    pub(super) fn interval_key(&self) -> &'static str {
        match self.global.evaluation_interval {
            Some(_) => "global.evaluation_interval",
            None => "alert_manager.evaluation_interval",
        }
    }

    /// Gives the settings that are read at the start only, by name, as texts that differ when they do.
    pub fn fixed(&self) -> Vec<(&'static str, String)> {
        let manager = &self.alert_manager;
        let cleaning = (manager.cleanup_interval, manager.history_retention);
        // The cache of answers, other certificates and another log level are taken while the program runs.
        let server = marketprism_server::Config {
            cache: marketprism_server::CacheConfig::default(),
            ssl: marketprism_server::TlsConfig {
                enabled: self.server.ssl.enabled,
                ..Default::default()
            },
            ..self.server.clone()
        };
        let logging = logging::Config {
            level: None,
            ..self.logging.clone()
        };
        let performance = (&self.performance.batch_processing, self.performance.concurrency);
        vec![
            ("server", format!("{server:?}")),
            ("storage", format!("{:?}", self.storage)),
            ("host", format!("{:?}", self.host)),
            ("logging", format!("{logging:?}")),
            (
                "performance.batch_processing or concurrency",
                format!("{performance:?}"),
            ),
            ("security.egress", format!("{:?}", self.security.egress)),
            (
                "alert_manager.cleanup_interval or history_retention",
                format!("{cleaning:?}"),
            ),
        ]
    }

    /// Lists every key that may stand in the file and has no effect.
    pub(super) fn ignored(&self) -> Vec<String> {
        let mut names: Vec<String> = WITHOUT_EFFECT.iter().map(|key| (*key).to_owned()).collect();
        names.extend(self.global.ignored());
        names.extend(self.scrape_configs.iter().flat_map(ScrapeConfig::ignored));
        names
    }
}

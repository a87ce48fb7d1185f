//! The sections of the file, side by side.
//!
//! Every room owns the meaning of its section; here is only which sections there are.

use std::path::PathBuf;
use std::time::Duration;

use marketprism_access::{AccessControl, ApiAuth};
use marketprism_alerts::calendar::CalendarConfig;
use marketprism_alerts::escalation::PolicyConfig;
use marketprism_alerts::flapping::FlappingConfig;
use marketprism_alerts::incidents::IncidentsConfig;
use marketprism_alerts::routing::{InhibitRuleConfig, NamedTimeInterval, RouteConfig};
use marketprism_alerts::schedule::ScheduleConfig;
use marketprism_alerts::storm::StormConfig;
use marketprism_collect::config::{GlobalConfig, Ignored, ScrapeConfig, Size};
use marketprism_collect::host::HostConfig;
use marketprism_model::{duration, labels};
use marketprism_net::{Egress, Network};
use marketprism_notify::config::Channels;
use marketprism_notify::{Global, ReceiverConfig};
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

/// The `notification_manager` section: Alertmanager's sections as they are, and ours beside them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotificationManager {
    /// Whether anything is sent; when it is again, what is new and what ended meanwhile is told.
    pub enabled: bool,
    /// The channels by name; without `receivers` all are told.
    pub channels: Channels,
    /// An `alertmanager.yml` that gives the sections below; relative to this file.
    pub alertmanager_config: Option<PathBuf>,
    /// Alertmanager: which alerts go where, grouped and paced how.
    pub route: RouteConfig,
    /// Alertmanager: who can hear of alerts.
    pub receivers: Vec<ReceiverConfig>,
    /// Alertmanager: which alerts say so much that others are not told.
    pub inhibit_rules: Vec<InhibitRuleConfig>,
    /// Alertmanager: times that routes name.
    pub time_intervals: Vec<NamedTimeInterval>,
    /// Alertmanager: the older name of the same.
    pub mute_time_intervals: Vec<NamedTimeInterval>,
    /// Alertmanager: what receivers have that name nothing of their own.
    pub global: Global,
    templates: Ignored,
    tracing: Ignored,
    event_recorder: Ignored,
    /// Who hears of what could not be delivered.
    pub fallback_receiver: Option<String>,
    /// Who is told further when nobody takes an alert in hand; routes name them.
    pub escalation_policies: Vec<PolicyConfig>,
    /// Who is on call when.
    pub schedules: Vec<ScheduleConfig>,
    /// Days that intervals name.
    pub calendars: Vec<CalendarConfig>,
    /// When one digest speaks for many alerts.
    pub storm: Storm,
    /// When ends are held back.
    pub flapping: Flapping,
    /// Which alerts are one story.
    pub incidents: IncidentsConfig,
    /// How many silences there may be, and how wide.
    pub silences: marketprism_alerts::silences::Config,
}

impl Default for NotificationManager {
    fn default() -> Self {
        NotificationManager {
            enabled: true,
            channels: Channels::default(),
            alertmanager_config: None,
            route: RouteConfig {
                group_wait: Some(Duration::from_secs(30)),
                group_interval: Some(Duration::from_secs(300)),
                repeat_interval: Some(Duration::from_secs(4 * 3600)),
                ..RouteConfig::root(DEFAULT_RECEIVER, &[labels::ALERT_NAME])
            },
            receivers: Vec::new(),
            inhibit_rules: Vec::new(),
            time_intervals: Vec::new(),
            mute_time_intervals: Vec::new(),
            global: Global::default(),
            templates: Ignored::default(),
            tracing: Ignored::default(),
            event_recorder: Ignored::default(),
            fallback_receiver: None,
            escalation_policies: Vec::new(),
            schedules: Vec::new(),
            calendars: Vec::new(),
            incidents: IncidentsConfig::default(),
            storm: Storm::default(),
            flapping: Flapping::default(),
            silences: marketprism_alerts::silences::Config::default(),
        }
    }
}

/// The receiver of all channels, where the file names none.
pub(super) const DEFAULT_RECEIVER: &str = "default";

/// The `notification_manager.storm` section.
///
/// On by default, for a person who gets more than fifty new messages within a minute reads none of them; what joins a
/// group that is there already makes no message of its own and counts for nothing, so a large outage of one kind does
/// not come near it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storm {
    /// More alerts than this begin for one receiver within the window; 0 for never.
    pub threshold: usize,
    /// The window.
    #[serde(with = "duration")]
    pub window: Duration,
}

impl Default for Storm {
    fn default() -> Self {
        Storm {
            threshold: 50,
            window: Duration::from_secs(60),
        }
    }
}

impl Storm {
    pub(super) fn config(&self) -> StormConfig {
        StormConfig {
            threshold: self.threshold,
            window: self.window,
        }
    }
}

/// The `notification_manager.flapping` section.
///
/// Five beginnings within half an hour are one every six minutes: about as often as a group may speak at all
/// (`group_interval`), so nobody who is told less misses anything. The end is told when ten minutes were quiet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flapping {
    /// It began at least this often within the window; 0 for never.
    pub threshold: usize,
    /// The window.
    #[serde(with = "duration")]
    pub window: Duration,
    /// How long after its last end that end is told.
    #[serde(with = "duration")]
    pub hold: Duration,
}

impl Default for Flapping {
    fn default() -> Self {
        Flapping {
            threshold: 5,
            window: Duration::from_secs(30 * 60),
            hold: Duration::from_secs(10 * 60),
        }
    }
}

impl Flapping {
    pub(super) fn config(&self) -> FlappingConfig {
        FlappingConfig {
            threshold: self.threshold,
            window: self.window,
            hold: self.hold,
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
const WITHOUT_EFFECT: [&str; 13] = [
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
    "notification_manager.templates",
    "notification_manager.tracing",
    "notification_manager.event_recorder",
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

//! The configuration file: which sections there are, and who owns each.
//!
//! Every room owns the meaning of its section and judges it; this file only puts the sections side by side,
//! so that a pasted `prometheus.yml` and the guide's keys can stand in one file. Bare numbers are seconds,
//! Prometheus' keys keep Prometheus' durations.
//! Deliberately absent: the meaning of any key, and rule files, which have their own life and reload.

mod interpolate;
mod seconds;
mod shown;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use marketprism_collect::config::{self as scraping, GlobalConfig, Ignored, PoolConfig, ScrapeConfig};
use marketprism_collect::host::HostConfig;
use marketprism_model::duration;
use marketprism_net::{Egress, Network};
use marketprism_notify::config::Channels;
use marketprism_storage::SyncMode;
use serde::Deserialize;
use thiserror::Error;

use crate::logging;
pub use seconds::Seconds;
pub use shown::shown;

/// A configuration file may have this many bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

const DAY: Duration = Duration::from_secs(86_400);

/// Variables that may be absent; the channel that needs one is then off, with a warning.
const OPTIONAL_VARIABLES: [&str; 2] = ["SLACK_WEBHOOK_URL", "DINGTALK_WEBHOOK_URL"];

/// Everything the file says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
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
    anomaly_detection: Ignored,
    performance: Ignored,
    /// Who may be connected to.
    pub security: Security,
    alerting: Ignored,
    remote_write: Ignored,
    remote_read: Ignored,
    scrape_config_files: Ignored,
    tracing: Ignored,
    otlp: Ignored,
    runtime: Ignored,
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
    /// Deliveries under way at the same time.
    pub max_workers: usize,
}

impl Default for NotificationManager {
    fn default() -> Self {
        let room = marketprism_notify::Config::default();
        NotificationManager {
            enabled: room.enabled,
            route: marketprism_alerts::Route::default(),
            channels: room.channels,
            max_workers: room.max_workers,
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
    pub retention_bytes: Option<scraping::Size>,
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
#[serde(default)]
pub struct Security {
    /// Where this program may connect to.
    pub egress: EgressSection,
    /// Taken for later versions and named as without effect.
    #[serde(flatten)]
    others: BTreeMap<String, serde::de::IgnoredAny>,
}

/// The `security.egress` section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EgressSection {
    /// Addresses or blocks that may be connected to though they are clouds' metadata addresses.
    pub allow: Vec<String>,
}

impl EgressSection {
    fn guard(&self) -> Result<Egress, String> {
        let networks = self.allow.iter().map(|text| text.parse());
        let networks: Result<Vec<Network>, _> = networks.collect();
        networks
            .map(Egress::new)
            .map_err(|error| format!("security.egress.allow: {error}"))
    }
}

/// Everything that is wrong with a file, one fault a line, each with the file's name.
#[derive(Debug, Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// A configuration that has been read and judged.
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The jobs, complete.
    pub pools: Vec<PoolConfig>,
    /// The store's settings.
    pub storage: marketprism_storage::Config,
    /// The lifecycle's settings.
    pub alerts: marketprism_alerts::Config,
    /// The channels in use.
    pub channels: marketprism_notify::Prepared,
    /// Where the program may connect to.
    pub egress: Egress,
    /// The folder that relative paths start from.
    pub folder: PathBuf,
    /// The text as it was read, variables not filled in.
    pub text: String,
    /// Things to say once at the start: keys without effect, channels that are off.
    pub remarks: Vec<String>,
}

impl Config {
    /// How often a group is evaluated that does not say otherwise.
    pub fn evaluation_interval(&self) -> Duration {
        self.global
            .evaluation_interval
            .unwrap_or(self.alert_manager.evaluation_interval.0)
    }

    /// Gives the settings that are read at the start only, by name, as texts that differ when they do.
    pub fn fixed(&self) -> [(&'static str, String); 6] {
        let manager = &self.alert_manager;
        let cleaning = (manager.cleanup_interval, manager.history_retention);
        [
            ("server", format!("{:?}", self.server)),
            ("storage", format!("{:?}", self.storage)),
            ("host", format!("{:?}", self.host)),
            ("logging", format!("{:?}", self.logging)),
            ("security.egress", format!("{:?}", self.security.egress)),
            (
                "alert_manager.cleanup_interval or history_retention",
                format!("{cleaning:?}"),
            ),
        ]
    }

    fn ignored(&self) -> Vec<String> {
        let own = [
            ("anomaly_detection", self.anomaly_detection),
            ("performance", self.performance),
            ("alerting", self.alerting),
            ("remote_write", self.remote_write),
            ("remote_read", self.remote_read),
            ("scrape_config_files", self.scrape_config_files),
            ("tracing", self.tracing),
            ("otlp", self.otlp),
            ("runtime", self.runtime),
            ("storage.tsdb", self.storage.tsdb),
            ("storage.exemplars", self.storage.exemplars),
        ];
        let mut names: Vec<String> = own
            .into_iter()
            .filter(|(_, key)| key.is_present)
            .map(|(name, _)| name.to_owned())
            .collect();
        names.extend(self.security.others.keys().map(|key| format!("security.{key}")));
        names.extend(self.server.ssl.map(|_| "server.ssl".to_owned()));
        names.extend(self.global.ignored());
        names.extend(self.scrape_configs.iter().flat_map(ScrapeConfig::ignored));
        names
    }
}

/// Reads and judges a file; without one, the defaults.
///
/// `variable` gives values of the environment. `data_dir` is where the store keeps its files.
pub fn load(
    path: Option<&Path>,
    data_dir: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigError> {
    let (text, folder) = match path {
        Some(path) => (read(path)?, folder_of(path).to_owned()),
        None => (String::new(), PathBuf::from(".")),
    };
    let name = path.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
    let folder =
        std::path::absolute(&folder).map_err(|error| ConfigError(vec![format!("{name}: {error}")]))?;
    parse(&text, &name, &folder, data_dir, variable)
}

/// Gives the folder of a file; a bare name stands in the working folder.
fn folder_of(file: &Path) -> &Path {
    file.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Reads a file within its limit, for what a device or a pipe will give is not known beforehand.
fn read(path: &Path) -> Result<String, ConfigError> {
    let fault = |reason: &dyn std::fmt::Display| ConfigError(vec![format!("{}: {reason}", path.display())]);
    let file = std::fs::File::open(path).map_err(|error| fault(&error))?;
    let mut bytes = Vec::new();
    let outcome = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    outcome.map_err(|error| fault(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fault(&format_args!(
            "longer than the {FILE_BYTES_MAX} bytes allowed"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        fault(&format_args!("line {line} is no UTF-8"))
    })
}

fn parse(
    text: &str,
    name: &str,
    folder: &Path,
    data_dir: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigError> {
    let filled = interpolate::interpolate(text, &OPTIONAL_VARIABLES, variable)
        .map_err(|errors| ConfigError(errors.iter().map(|error| format!("{name}: {error}")).collect()))?;
    let is_empty = filled
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let config = if is_empty {
        Config::default()
    } else {
        scraping::parse_yaml::<Config>(&filled)
            .map_err(|error| ConfigError(vec![located(name, &filled, &error)]))?
    };
    let mut faults = Vec::new();
    let mut remarks: Vec<String> = config
        .ignored()
        .iter()
        .map(|key| format!("{name}: {key} has no effect in this version"))
        .collect();
    let mut note =
        |result: Result<(), String>| faults.extend(result.err().map(|reason| format!("{name}: {reason}")));

    let pools = scraping::validate_all(&config.global, &config.scrape_configs);
    note(pools.as_ref().map(|_| ()).map_err(ToString::to_string));
    note(config.server.validate().map_err(|error| error.to_string()));
    let storage = storage_config(&config.storage, data_dir);
    note(storage.as_ref().map(|_| ()).map_err(Clone::clone));
    note(judge_intervals(&config));
    let egress = config.security.egress.guard();
    note(egress.as_ref().map(|_| ()).map_err(Clone::clone));
    let alerts;
    let channels = match notify_config(&config).prepare(variable) {
        Ok(prepared) => {
            alerts = alerts_config(&config, &prepared);
            note(
                alerts
                    .validate()
                    .map_err(|error| format!("notification_manager.{error}")),
            );
            remarks.extend(
                prepared
                    .warnings
                    .iter()
                    .map(|warning| format!("{name}: {warning}")),
            );
            prepared
        }
        Err(errors) => {
            faults.extend(errors.iter().map(|error| format!("{name}: {error}")));
            return Err(ConfigError(faults));
        }
    };
    match (pools, storage, egress) {
        (Ok(pools), Ok(storage), Ok(egress)) if faults.is_empty() => Ok(Loaded {
            config,
            pools,
            storage,
            alerts,
            channels,
            egress,
            folder: folder.to_owned(),
            text: text.to_owned(),
            remarks,
        }),
        _ => Err(ConfigError(faults)),
    }
}

/// Writes `file:line:column: key: reason` where the place is known. Of the line only its key is shown, for its
/// value may be a secret.
fn located(name: &str, text: &str, error: &scraping::ConfigError) -> String {
    match error {
        scraping::ConfigError::Syntax { line, column, reason } if *line > 0 => {
            let index = usize::try_from(*line - 1).unwrap_or(usize::MAX);
            let content = text
                .lines()
                .nth(index)
                .unwrap_or("")
                .trim_start()
                .trim_start_matches("- ");
            let key = content.split_once(':').map_or("", |(key, _)| key.trim());
            let is_key = !key.is_empty()
                && key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-\"'".contains(&b));
            let separator = if is_key { ": " } else { "" };
            format!(
                "{name}:{line}:{column}: {}{separator}{reason}",
                if is_key { key } else { "" }
            )
        }
        other => format!("{name}: {other}"),
    }
}

fn judge_intervals(config: &Config) -> Result<(), String> {
    let mut reasons = String::new();
    let mut judge = |field: &str, given: Duration, least: Duration, most: Duration| {
        if given < least || given > most {
            let [given, least, most] = [given, least, most].map(duration::format);
            let _ = write!(
                reasons,
                "{}{field} is {given}; it must be from {least} to {most}",
                if reasons.is_empty() { "" } else { "; " }
            );
        }
    };
    let tick = Duration::from_millis(100);
    let manager = &config.alert_manager;
    judge(
        "alert_manager.evaluation_interval",
        config.evaluation_interval(),
        tick,
        DAY,
    );
    judge(
        "alert_manager.cleanup_interval",
        manager.cleanup_interval.0,
        Duration::from_secs(1),
        30 * DAY,
    );
    judge(
        "alert_manager.history_retention",
        manager.history_retention.0,
        Duration::from_secs(3600),
        36_500 * DAY,
    );
    judge("host.interval", config.host.interval, tick, DAY);
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn storage_config(section: &Storage, data_dir: &Path) -> Result<marketprism_storage::Config, String> {
    let mut config = marketprism_storage::Config::new(data_dir.join("samples"));
    config.retention = section.retention.0;
    config.retention_bytes = section.retention_bytes.map(|size| size.0);
    config.out_of_order_window = section.out_of_order_window;
    config.series_limit = section.series_limit;
    config.sync = section
        .sync
        .parse()
        .map_err(|error: marketprism_storage::ConfigError| error.to_string())?;
    config.validate().map_err(|error| error.to_string())?;
    Ok(config)
}

fn notify_config(config: &Config) -> marketprism_notify::Config {
    let section = &config.notification_manager;
    marketprism_notify::Config {
        enabled: section.enabled,
        channels: section.channels.clone(),
        max_workers: section.max_workers,
    }
}

/// Without Alertmanager's routing every channel in use belongs to the one receiver.
fn alerts_config(config: &Config, channels: &marketprism_notify::Prepared) -> marketprism_alerts::Config {
    let route = config.notification_manager.route.clone();
    let channels = channels
        .receivers()
        .map(|(name, send_resolved)| marketprism_alerts::ChannelRoute {
            name: name.to_owned(),
            send_resolved,
        });
    marketprism_alerts::Config {
        // Of what no rule judges nobody must hear; and what is told to nobody must not count as told.
        is_telling: config.alert_manager.enabled && config.notification_manager.enabled,
        max_active_alerts: config.alert_manager.max_active_alerts,
        receivers: vec![marketprism_alerts::Receiver {
            name: route.receiver.clone(),
            channels: channels.collect(),
        }],
        route,
        settle: config.evaluation_interval(),
        ..marketprism_alerts::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Loaded, ConfigError> {
        parse(
            text,
            "config.yaml",
            Path::new("/etc/marketprism"),
            Path::new("data"),
            &|_| None,
        )
    }

    #[test]
    fn an_empty_file_and_a_comment_are_the_defaults() {
        for text in ["", "# nothing\n\n"] {
            let loaded = load_text(text).expect("defaults work");
            assert_eq!(loaded.config.evaluation_interval(), Duration::from_secs(30));
            assert!(loaded.pools.is_empty() && loaded.remarks.is_empty());
        }
    }

    /// `--config config.yaml` was refused once, for a bare name has an empty folder.
    #[test]
    fn a_bare_name_stands_in_the_working_folder() {
        assert_eq!(folder_of(Path::new("config.yaml")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/config.yaml")), Path::new("a"));
        assert_eq!(folder_of(Path::new("/config.yaml")), Path::new("/"));
    }

    #[test]
    fn a_file_is_read_within_its_limit_and_a_bad_one_is_named_with_the_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.yaml");
        let check = |path: &Path, words: &str| {
            let said = read(path).expect_err(words).to_string();
            assert!(
                said.contains(words) && said.contains(&path.display().to_string()),
                "{said}"
            );
        };
        check(Path::new("/dev/zero"), "longer than the 16777216 bytes");
        check(folder.path(), "directory");
        std::fs::write(&file, b"a: 1\nb: \"\xff\"\n").expect("write the file");
        check(&file, "line 2 is no UTF-8");
        std::fs::write(&file, "a: 1\n").expect("write the file");
        assert_eq!(read(&file).expect("it is good"), "a: 1\n");
    }

    #[test]
    fn a_pasted_prometheus_file_is_taken_and_names_what_has_no_effect() {
        let text = "global: {scrape_interval: 10s, evaluation_interval: 20s, query_log_file: x}\nrule_files: ['rules/*.yml']\n\
                    alerting: {alertmanagers: [{static_configs: [{targets: ['a:9093']}]}]}\nremote_write: [{url: 'http://x'}]\n\
                    scrape_configs: [{job_name: a, static_configs: [{targets: ['a:1']}]}]\n";
        let loaded = load_text(text).expect("a Prometheus file is taken");
        assert_eq!(loaded.config.evaluation_interval(), Duration::from_secs(20));
        assert_eq!(loaded.config.rule_files, ["rules/*.yml"]);
        for key in ["alerting", "remote_write", "global.query_log_file"] {
            assert!(
                loaded.remarks.iter().any(|remark| remark.contains(key)),
                "{:?}",
                loaded.remarks
            );
        }
    }

    #[test]
    fn nobody_is_told_while_rules_or_notifications_are_switched_off() {
        let check = |text: &str, is_telling| {
            assert_eq!(
                load_text(text).expect(text).alerts.is_telling,
                is_telling,
                "{text}"
            );
        };
        check("", true);
        check("alert_manager: {enabled: false}\n", false);
        check("notification_manager: {enabled: false}\n", false);
    }

    /// The refusal of a metadata address told to allow it under a key that had no effect.
    #[test]
    fn metadata_addresses_pass_when_the_file_allows_them_and_only_then() {
        let address = "169.254.169.254".parse().expect("an address");
        let check = |text: &str, may_pass: bool| {
            let loaded = load_text(text).expect(text);
            assert_eq!(loaded.egress.check(address).is_ok(), may_pass, "{text}");
            loaded.remarks
        };
        check("", false);
        let text = "security: {egress: {allow: [169.254.0.0/16]}, jwt: {enabled: true}}\n";
        assert_eq!(
            check(text, true),
            ["config.yaml: security.jwt has no effect in this version"]
        );
    }

    #[test]
    fn faults_name_file_line_and_the_nearest_key() {
        let check = |text: &str, words: &[&str]| {
            let said = load_text(text).err().expect(text).to_string();
            for word in words {
                assert!(said.contains(word), "{word:?} is missing in {said:?}");
            }
        };
        check(
            "\nalert_manager:\n  evaluation_intervall: 3\n",
            &["config.yaml:3:", "evaluation_intervall", "evaluation_interval"],
        );
        check(
            "storage: {retention: 1h}\n",
            &["config.yaml: storage.retention", "3h"],
        );
        check(
            "alert_manager: {cleanup_interval: 0}\n",
            &["cleanup_interval", "from 1s to 30d"],
        );
        // Such a span overflowed the clock's arithmetic, or was blamed on a key that no file has.
        check(
            "alert_manager: {cleanup_interval: 18446744073709551615}\n",
            &["alert_manager.cleanup_interval", "to 30d"],
        );
        check(
            "alert_manager: {evaluation_interval: 100000}\n",
            &["alert_manager.evaluation_interval", "to 1d"],
        );
        check("logging: {level: \"${NOT_SET}\"}\n", &["line 1", "NOT_SET"]);
        check(
            "security: {egress: {allow: [10.0.0.0/40]}}\n",
            &["security.egress.allow", "10.0.0.0/40"],
        );
    }
}

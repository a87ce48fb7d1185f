//! Judges what the sections mean, room by room, and gathers every fault of it.
//!
//! Each room names the first fault of its section or all of them, as it likes; whoever calls takes the faulty
//! entries out and judges again, so that in the end all are told.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use marketprism_access::judge_secret;
use marketprism_alerts::routing::RouteConfig;
use marketprism_alerts::{ChannelRoute, ConfigError, Receiver};
use marketprism_collect::config::{self as scraping, PoolConfig};
use marketprism_model::Secret;
use marketprism_net::Egress;
use marketprism_notify::PreparedReceiver;

use super::performance::out_of_range;
use super::sections::DEFAULT_RECEIVER;
use super::{Config, NotificationManager};

const DAY: Duration = Duration::from_secs(86_400);

/// What the rooms made of a configuration.
pub struct Judged {
    pub pools: Vec<PoolConfig>,
    pub storage: marketprism_storage::Config,
    pub alerts: marketprism_alerts::Config,
    pub channels: marketprism_notify::Prepared,
    pub egress: Egress,
    /// The key that signs sessions, where the file or the environment gives one.
    pub jwt_secret: Option<Secret>,
    /// What is taken and could be better, by the path of its key.
    pub remarks: Vec<(String, String)>,
}

/// Faults by the path of their key.
#[derive(Default)]
pub struct Reasons(pub Vec<(String, String)>);

impl Reasons {
    /// Notes a fault.
    pub fn note(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.0.push((path.into(), reason.into()));
    }

    /// Checks that a span is within its limits.
    pub fn judge_span(&mut self, path: &str, given: Duration, limits: RangeInclusive<Duration>) {
        if !limits.contains(&given) {
            self.note(path, out_of_range(given, *limits.start(), *limits.end()));
        }
    }
}

/// Judges a configuration; `data_dir` is where the store keeps its files.
pub fn judge(
    config: &Config,
    data_dir: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Judged, Reasons> {
    let mut reasons = Reasons::default();
    let pools = scraping::judge_all(&config.global, &config.scrape_configs);
    let pools = pools.unwrap_or_else(|errors| {
        for error in errors {
            match error {
                scraping::ConfigError::Value { field, reason } => reasons.note(field, reason),
                syntax @ scraping::ConfigError::Syntax { .. } => {
                    reasons.note("scrape_configs", syntax.to_string());
                }
            }
        }
        Vec::new()
    });
    if let Err(error) = config.server.validate() {
        let reason = format!("is {}; it must be {}", error.value, error.allowed);
        reasons.note(format!("server.{}", error.field), reason);
    }
    let storage = storage_config(config, data_dir, &mut reasons);
    judge_spans(config, &mut reasons);
    config.performance.judge(&mut reasons);
    config.anomaly_detection.judge(&mut reasons);
    if let Err(error) = config.logging.validate() {
        let said = error.to_string();
        let (path, reason) = said.split_once(": ").unwrap_or(("logging", &said));
        reasons.note(path, reason);
    }
    let egress = config.security.egress.guard().unwrap_or_else(|reason| {
        reasons.note("security.egress.allow", reason);
        Egress::default()
    });
    let mut remarks = Vec::new();
    let jwt_secret = judge_access(config, variable, &mut reasons, &mut remarks);
    let prepared = notify_config(config).prepare(variable);
    let channels = prepared.map_err(|errors| {
        for error in errors {
            match error.field.as_str() {
                // It is judged where it stands.
                "max_workers" => {}
                field => reasons.note(format!("notification_manager.{field}"), error.reason),
            }
        }
    });
    let Ok(channels) = channels else {
        return Err(reasons);
    };
    let in_section = |field: &str| format!("notification_manager.{field}");
    let told = channels.remarks.iter();
    remarks.extend(told.map(|(field, remark)| (in_section(field), remark.clone())));
    remark_on_labels(&config.notification_manager.route, "route", &mut remarks);
    let alerts = alerts_config(config, &channels, &mut remarks);
    if let Err(error) = alerts.validate() {
        note_alerts(config, error, &mut reasons);
    }
    super::unreached::remark(&alerts, &mut remarks);
    if !reasons.0.is_empty() {
        return Err(reasons);
    }
    Ok(Judged {
        pools,
        storage,
        alerts,
        channels,
        egress,
        jwt_secret,
        remarks,
    })
}

/// Gives the key that signs sessions: the file's, or `JWT_SECRET`; `None` leaves it to the first start.
fn judge_access(
    config: &Config,
    variable: &dyn Fn(&str) -> Option<String>,
    reasons: &mut Reasons,
    remarks: &mut Vec<(String, String)>,
) -> Option<Secret> {
    const KEY: &str = "security.api_auth.jwt_secret";
    for fault in config.security.access().faults() {
        let said = fault.to_string();
        let (path, reason) = said.split_once(' ').unwrap_or(("security", &said));
        reasons.note(path.trim_end_matches(':'), reason);
    }
    let auth = &config.security.api_auth;
    if !auth.enabled {
        return None;
    }
    let from_environment = || {
        let found = variable("JWT_SECRET").filter(|text| !text.is_empty())?;
        if let Err(fault) = judge_secret(&found) {
            reasons.note(KEY, format!("comes from JWT_SECRET, which {fault}"));
        }
        Some(Secret::new(found))
    };
    let secret = auth.jwt_secret.clone().or_else(from_environment)?;
    if let Ok(Some(remark)) = judge_secret(secret.expose()) {
        remarks.push((KEY.to_owned(), remark));
    }
    Some(secret)
}

fn judge_spans(config: &Config, reasons: &mut Reasons) {
    let tick = Duration::from_millis(100);
    let manager = &config.alert_manager;
    let second = Duration::from_secs(1);
    reasons.judge_span(config.interval_key(), config.evaluation_interval(), tick..=DAY);
    // It is in force only without the other, and must make sense all the same.
    if config.interval_key() != "alert_manager.evaluation_interval" {
        let interval = manager.evaluation_interval.0;
        reasons.judge_span("alert_manager.evaluation_interval", interval, tick..=DAY);
    }
    reasons.judge_span(
        "alert_manager.cleanup_interval",
        manager.cleanup_interval.0,
        second..=30 * DAY,
    );
    reasons.judge_span(
        "alert_manager.history_retention",
        manager.history_retention.0,
        Duration::from_secs(3600)..=36_500 * DAY,
    );
    reasons.judge_span("host.interval", config.host.interval, tick..=DAY);
    let watching = config.config.watch_interval.0;
    if !watching.is_zero() {
        reasons.judge_span("config.watch_interval", watching, second..=DAY);
    }
}

fn storage_config(config: &Config, data_dir: &Path, reasons: &mut Reasons) -> marketprism_storage::Config {
    let (section, batch) = (&config.storage, &config.performance.batch_processing);
    let mut config = marketprism_storage::Config::new(data_dir.join("samples"));
    config.retention = section.retention.0;
    config.retention_bytes = section.retention_bytes.map(|size| size.0);
    config.out_of_order_window = section.out_of_order_window;
    config.series_limit = section.series_limit;
    config.batch = marketprism_storage::Batching {
        enabled: batch.enabled,
        batch_size: batch.batch_size as u64,
        flush_interval: batch.flush_interval_seconds.0,
    };
    match section.sync.parse() {
        Ok(sync) => config.sync = sync,
        Err(error) => {
            let error: marketprism_storage::ConfigError = error;
            reasons.note(
                "storage.sync",
                format!("is {}; it must be {}", error.value, error.limit),
            );
        }
    }
    if let Err(error) = config.validate() {
        let field = match error.field.rsplit('.').next().unwrap_or(error.field) {
            "sync interval" => "sync",
            field => field,
        };
        reasons.note(
            format!("storage.{field}"),
            format!("is {}; it must be {}", error.value, error.limit),
        );
    }
    config
}

/// Names labels of routes, which only templates could use.
fn remark_on_labels(route: &RouteConfig, path: &str, remarks: &mut Vec<(String, String)>) {
    if !route.labels.is_empty() {
        let key = format!("notification_manager.{path}.labels");
        remarks.push((key, "has no effect in this version".to_owned()));
    }
    for (index, child) in route.routes.iter().enumerate() {
        remark_on_labels(child, &format!("{path}.routes[{index}]"), remarks);
    }
}

/// Notes what the room `alerts` finds wrong, at the keys that it comes from.
fn note_alerts(config: &Config, error: ConfigError, reasons: &mut Reasons) {
    let ConfigError::Routing(error) = error else {
        let said = error.to_string();
        let (path, reason) = match said.split_once(": ") {
            Some((field, reason)) => (alerts_key(config, field), reason),
            None => ("notification_manager".to_owned(), said.as_str()),
        };
        reasons.note(path, reason);
        return;
    };
    for fault in error.faults {
        reasons.note(alerts_key(config, &fault.place), fault.problem);
    }
}

/// Says where a field of the room `alerts` stands in the file.
fn alerts_key(config: &Config, field: &str) -> String {
    match field {
        "max_active_alerts" => "alert_manager.max_active_alerts".to_owned(),
        "settle" => config.interval_key().to_owned(),
        "resolve_timeout" => "notification_manager.global.resolve_timeout".to_owned(),
        field => {
            // Both lists of intervals are one there, the older behind the newer.
            let known = config.notification_manager.time_intervals.len();
            let older = field.strip_prefix("time_intervals[").and_then(|rest| {
                let (index, rest) = rest.split_once(']')?;
                let index = index.parse::<usize>().ok()?.checked_sub(known)?;
                Some(format!("notification_manager.mute_time_intervals[{index}]{rest}"))
            });
            older.unwrap_or_else(|| format!("notification_manager.{field}"))
        }
    }
}

fn notify_config(config: &Config) -> marketprism_notify::Config {
    let section = &config.notification_manager;
    marketprism_notify::Config {
        enabled: section.enabled,
        channels: section.channels.clone(),
        max_workers: config
            .performance
            .concurrency
            .max_workers
            .unwrap_or(marketprism_notify::Config::default().max_workers),
        receivers: section.receivers.clone(),
        global: section.global.clone(),
    }
}

/// Puts together what the room `alerts` is set by.
fn alerts_config(
    config: &Config,
    channels: &marketprism_notify::Prepared,
    remarks: &mut Vec<(String, String)>,
) -> marketprism_alerts::Config {
    let section = &config.notification_manager;
    let route = route(section);
    let receivers = receivers(section, &route, channels, remarks);
    let intervals = section.time_intervals.iter();
    let intervals = intervals.chain(&section.mute_time_intervals);
    marketprism_alerts::Config {
        // Of what no rule judges nobody must hear; and what is told to nobody must not count as told.
        is_telling: config.alert_manager.enabled && section.enabled,
        max_active_alerts: config.alert_manager.max_active_alerts,
        route,
        receivers,
        inhibit_rules: section.inhibit_rules.clone(),
        time_intervals: intervals.cloned().collect(),
        calendars: section.calendars.clone(),
        fallback_receiver: section.fallback_receiver.clone(),
        settle: config.evaluation_interval(),
        resolve_timeout: section.global.resolve_timeout,
        storm: section.storm.config(),
        flapping: section.flapping.config(),
        escalation_policies: section.escalation_policies.clone(),
        schedules: section.schedules.clone(),
        incidents: section.incidents.clone(),
        silences: section.silences.clone(),
        ..marketprism_alerts::Config::default()
    }
}

/// Gives the tree. Where the file names no receivers, what the root leaves out is as it ever was: one receiver, and
/// groups by `alertname`; with receivers it is as Alertmanager has it, one group of everything.
fn route(section: &NotificationManager) -> RouteConfig {
    let mut route = section.route.clone();
    if section.receivers.is_empty() {
        let usual = NotificationManager::default().route;
        route.receiver = route.receiver.or(usual.receiver);
        route.group_by = route.group_by.or(usual.group_by);
    }
    route
}

/// Gives the receivers. Without any in the file every channel in use belongs to one, the root's.
fn receivers(
    section: &NotificationManager,
    route: &RouteConfig,
    channels: &marketprism_notify::Prepared,
    remarks: &mut Vec<(String, String)>,
) -> Vec<Receiver> {
    if section.receivers.is_empty() {
        let all = channels.channel_names();
        return vec![Receiver {
            name: route
                .receiver
                .clone()
                .unwrap_or_else(|| DEFAULT_RECEIVER.to_owned()),
            channels: all
                .map(|(name, resolved)| ChannelRoute::new(name, resolved))
                .collect(),
        }];
    }
    let own = |receiver: &PreparedReceiver| -> Vec<ChannelRoute> {
        let channels = receiver.channels.iter();
        channels
            .map(|(name, resolved)| ChannelRoute::new(name, *resolved))
            .collect()
    };
    let fallback = section.fallback_receiver.as_ref();
    let fallback = fallback.and_then(|name| channels.receivers.iter().find(|known| known.name == *name));
    let substitute: Vec<ChannelRoute> = fallback.map(own).unwrap_or_default();
    let all = channels.receivers.iter().map(|receiver| {
        let mut channels = own(receiver);
        if !receiver.undelivered.is_empty() {
            let remark = remark_on_lost(receiver, fallback, !substitute.is_empty());
            remarks.extend(remark.map(|remark| {
                let key = format!("notification_manager.receivers.{}", receiver.name);
                (key, remark)
            }));
            let lacking: Vec<&str> = receiver.undelivered.iter().map(|(entry, _)| &**entry).collect();
            for channel in &substitute {
                if channels.iter().all(|own| own.name != channel.name) {
                    channels.push(ChannelRoute {
                        stands_in_for: Some(lacking.join(", ")),
                        ..channel.clone()
                    });
                }
            }
        }
        Receiver {
            name: receiver.name.clone(),
            channels,
        }
    });
    all.collect()
}

/// Says what becomes of what a receiver's integrations cannot deliver.
fn remark_on_lost(
    receiver: &PreparedReceiver,
    fallback: Option<&PreparedReceiver>,
    is_substituted: bool,
) -> Option<String> {
    let entries: Vec<&str> = receiver
        .undelivered
        .iter()
        .map(|(entry, _)| entry.as_str())
        .collect();
    let entries = entries.join(", ");
    match fallback {
        Some(fallback) if fallback.name == receiver.name => Some(format!(
            "is the fallback receiver, and {entries} cannot be delivered; give it a way that can"
        )),
        Some(fallback) if is_substituted => Some(format!(
            "has {entries}, which cannot be delivered; fallback_receiver {:?} gets its messages, too",
            fallback.name
        )),
        Some(fallback) => Some(format!(
            "LOSES WHAT IS SENT TO IT: {entries} cannot be delivered, and fallback_receiver {:?} has no channel in use",
            fallback.name
        )),
        None => Some(format!(
            "LOSES WHAT IS SENT TO IT: {entries} cannot be delivered, and there is no fallback_receiver"
        )),
    }
}

//! One job with every default filled in: what the scrape loop works with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::duration;

use super::http::HttpClientConfig;
use super::scrape::{FileDiscovery, GlobalConfig, ScrapeConfig, ScrapeFile, StaticGroup};
use super::{ConfigError, ScrapeProtocol};
use crate::exposition::HistogramRules;
use crate::relabel::RelabelRule;
use crate::target::check_address;

/// The longest answer that is read when nobody set a limit.
const BODY_BYTES_DEFAULT: usize = 256 << 20;
/// No limit may be higher: positions in an answer are kept in 32 bits.
const BODY_BYTES_MAX: u64 = 2 << 30;
/// As many dropped targets a job are shown when nobody set a limit.
const DROPPED_MAX: usize = 1_000;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter intervals would only heat the machine.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// A job, complete. Two equal ones scrape alike, so their targets can live on through a reload.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolConfig {
    /// The job's name.
    pub job_name: String,
    /// How often.
    pub interval: Duration,
    /// How long a scrape may take; at most the interval.
    pub timeout: Duration,
    /// The path.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    /// The query.
    pub params: BTreeMap<String, Vec<String>>,
    /// Whether labels of the target win.
    pub honor_labels: bool,
    /// Whether times of the target are taken.
    pub honor_timestamps: bool,
    /// Whether series with times of their own end with a mark.
    pub track_timestamps_staleness: bool,
    /// What is asked for.
    pub protocols: Vec<ScrapeProtocol>,
    /// How histograms are taken.
    pub histograms: HistogramRules,
    /// What is assumed without a usable `Content-Type`.
    pub fallback: Option<ScrapeProtocol>,
    /// Whether compression is asked for.
    pub has_compression: bool,
    /// The longest answer; never 0.
    pub body_bytes_max: usize,
    /// 0: none. So for all limits below.
    pub sample_limit: usize,
    /// Targets in the job.
    pub target_limit: usize,
    /// Labels at a sample.
    pub label_limit: usize,
    /// Bytes of a label's name.
    pub label_name_length_limit: usize,
    /// Bytes of a label's value.
    pub label_value_length_limit: usize,
    /// As many dropped targets are shown.
    pub dropped_max: usize,
    /// Whether the three further meta series are written.
    pub has_extra_metrics: bool,
    /// How the target is spoken to.
    pub http: HttpClientConfig,
    /// Targets written down.
    pub static_groups: Vec<StaticGroup>,
    /// Targets in files.
    pub file_discovery: Vec<FileDiscovery>,
    /// For targets.
    pub relabel: Vec<RelabelRule>,
    /// For samples.
    pub metric_relabel: Arc<[RelabelRule]>,
}

impl ScrapeConfig {
    /// Checks the entry and fills in what `global` says.
    pub fn validate(&self, global: &GlobalConfig) -> Result<PoolConfig, ConfigError> {
        let at = format!("scrape_configs.{}", self.job_name);
        let field = |key: &str| format!("{at}.{key}");
        if self.job_name.is_empty() {
            return Err(ConfigError::value("scrape_configs", "job_name must not be empty"));
        }
        let interval = self.scrape_interval.unwrap_or(global.scrape_interval);
        check_interval(&field("scrape_interval"), interval)?;
        let timeout = self.timeout(global, interval)?;
        let scheme = self.scheme.clone().unwrap_or_else(|| "http".to_owned());
        if scheme != "http" && scheme != "https" {
            return Err(ConfigError::value(
                field("scheme"),
                format!("{scheme:?} is neither http nor https"),
            ));
        }
        let protocols = self
            .scrape_protocols
            .as_ref()
            .or(global.scrape_protocols.as_ref());
        let histograms = self.histograms(global);
        let default: &[ScrapeProtocol] = if histograms.takes_native {
            &ScrapeProtocol::DEFAULT_WITH_NATIVE
        } else {
            &ScrapeProtocol::DEFAULT
        };
        let protocols = protocols.cloned().unwrap_or_else(|| default.to_vec());
        check_protocols(&field("scrape_protocols"), &protocols)?;
        for discovery in &self.file_sd_configs {
            check_files(&field("file_sd_configs"), discovery)?;
        }
        // Relabelling may yet make an address of anything, as the usual jobs for probes do.
        if self.relabel_configs.is_empty() {
            for address in self.static_configs.iter().flat_map(|group| &group.targets) {
                check_address(address)
                    .map_err(|error| ConfigError::value(field("static_configs"), error.to_string()))?;
            }
        }
        let http = self.http_client();
        http.validate(&at)?;
        let body = self.body_size_limit.unwrap_or(global.body_size_limit).0;
        Ok(PoolConfig {
            job_name: self.job_name.clone(),
            interval,
            timeout,
            metrics_path: self.metrics_path.clone().unwrap_or_else(|| "/metrics".to_owned()),
            scheme,
            params: self.params.clone(),
            honor_labels: self.honor_labels,
            honor_timestamps: self.honor_timestamps,
            track_timestamps_staleness: self.track_timestamps_staleness,
            protocols,
            histograms,
            fallback: self.fallback_scrape_protocol,
            has_compression: self.enable_compression,
            body_bytes_max: if body == 0 {
                BODY_BYTES_DEFAULT
            } else {
                body.min(BODY_BYTES_MAX) as usize
            },
            sample_limit: self.sample_limit.unwrap_or(global.sample_limit),
            target_limit: self.target_limit.unwrap_or(global.target_limit),
            label_limit: self.label_limit.unwrap_or(global.label_limit),
            label_name_length_limit: self
                .label_name_length_limit
                .unwrap_or(global.label_name_length_limit),
            label_value_length_limit: self
                .label_value_length_limit
                .unwrap_or(global.label_value_length_limit),
            dropped_max: match self.keep_dropped_targets.unwrap_or(global.keep_dropped_targets) {
                0 => DROPPED_MAX,
                limit => limit,
            },
            has_extra_metrics: self.extra_scrape_metrics.unwrap_or(global.extra_scrape_metrics),
            http,
            static_groups: self.static_configs.clone(),
            file_discovery: self.file_sd_configs.clone(),
            relabel: self.relabel_configs.clone(),
            metric_relabel: self.metric_relabel_configs.clone().into(),
        })
    }

    fn histograms(&self, global: &GlobalConfig) -> HistogramRules {
        HistogramRules {
            takes_native: self
                .scrape_native_histograms
                .unwrap_or(global.scrape_native_histograms),
            keeps_classic: self
                .always_scrape_classic_histograms
                .unwrap_or(global.always_scrape_classic_histograms),
            converts_classic: self
                .convert_classic_histograms_to_nhcb
                .unwrap_or(global.convert_classic_histograms_to_nhcb),
        }
    }

    fn timeout(&self, global: &GlobalConfig, interval: Duration) -> Result<Duration, ConfigError> {
        let field = format!("scrape_configs.{}.scrape_timeout", self.job_name);
        match self.scrape_timeout {
            Some(timeout) if timeout > interval => Err(ConfigError::value(
                field,
                format!(
                    "{} is longer than the scrape interval of {}",
                    duration::format(timeout),
                    duration::format(interval)
                ),
            )),
            Some(Duration::ZERO) => Err(ConfigError::value(field, "must be above 0")),
            Some(timeout) => Ok(timeout),
            None => Ok(global.scrape_timeout.unwrap_or(DEFAULT_TIMEOUT).min(interval)),
        }
    }
}

impl GlobalConfig {
    /// Checks what contradicts itself.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_interval("global.scrape_interval", self.scrape_interval)?;
        if let Some(interval) = self.evaluation_interval {
            check_interval("global.evaluation_interval", interval)?;
        }
        if self
            .scrape_timeout
            .is_some_and(|timeout| timeout > self.scrape_interval || timeout.is_zero())
        {
            return Err(ConfigError::value(
                "global.scrape_timeout",
                "must be above 0 and not longer than global.scrape_interval",
            ));
        }
        check_protocols(
            "global.scrape_protocols",
            self.scrape_protocols
                .as_deref()
                .unwrap_or(&ScrapeProtocol::DEFAULT),
        )
    }
}

impl ScrapeFile {
    /// Checks everything and gives the jobs, complete.
    pub fn validate(&self) -> Result<Vec<PoolConfig>, ConfigError> {
        validate_all(&self.global, &self.scrape_configs)
    }
}

/// Checks `global` and all jobs, and gives the jobs, complete.
pub fn validate_all(global: &GlobalConfig, jobs: &[ScrapeConfig]) -> Result<Vec<PoolConfig>, ConfigError> {
    judge_all(global, jobs).map_err(|mut errors| errors.swap_remove(0))
}

/// Does the same and gives the first fault of `global` and of every job.
pub fn judge_all(global: &GlobalConfig, jobs: &[ScrapeConfig]) -> Result<Vec<PoolConfig>, Vec<ConfigError>> {
    let mut errors: Vec<ConfigError> = global.validate().err().into_iter().collect();
    let mut names = BTreeSet::new();
    let mut pools = Vec::with_capacity(jobs.len());
    for (index, job) in jobs.iter().enumerate() {
        if !names.insert(&job.job_name) {
            let reason = format!("job_name {:?} stands there twice", job.job_name);
            errors.push(ConfigError::value(
                format!("scrape_configs[{index}].job_name"),
                reason,
            ));
            continue;
        }
        match job.validate(global) {
            Ok(pool) => pools.push(pool),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(pools) } else { Err(errors) }
}

fn check_interval(field: &str, interval: Duration) -> Result<(), ConfigError> {
    if interval < INTERVAL_MIN {
        let reason = format!(
            "{} is shorter than the least interval of {}",
            duration::format(interval),
            duration::format(INTERVAL_MIN)
        );
        return Err(ConfigError::value(field, reason));
    }
    Ok(())
}

fn check_protocols(field: &str, protocols: &[ScrapeProtocol]) -> Result<(), ConfigError> {
    if protocols.is_empty() {
        return Err(ConfigError::value(field, "names no protocol"));
    }
    let distinct = protocols
        .iter()
        .enumerate()
        .all(|(at, protocol)| !protocols[..at].contains(protocol));
    if !distinct {
        return Err(ConfigError::value(field, "names a protocol twice"));
    }
    Ok(())
}

fn check_files(field: &str, discovery: &FileDiscovery) -> Result<(), ConfigError> {
    if discovery.files.is_empty() {
        return Err(ConfigError::value(field, "names no file"));
    }
    if discovery.refresh_interval.is_zero() {
        return Err(ConfigError::value(field, "refresh_interval must be above 0"));
    }
    for file in &discovery.files {
        if !crate::discovery::is_file_pattern(file) {
            let reason =
                format!("{file:?} does not end in .json, .yml or .yaml, or has * before the last part");
            return Err(ConfigError::value(field, reason));
        }
    }
    Ok(())
}

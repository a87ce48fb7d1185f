//! `global` and one entry of `scrape_configs`, as they are written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use marketprism_model::Labels;
use marketprism_model::duration;
use serde::Deserialize;

use super::http::{Authorization, BasicAuth, HttpClientConfig, HttpHeader, TlsConfig};
use super::ignored::present_keys;
use super::{Ignored, ScrapeProtocol, Secret, Size};
use crate::relabel::RelabelRule;

/// What holds for all jobs that do not say otherwise.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GlobalConfig {
    /// How often targets are scraped; 1 minute.
    #[serde(with = "duration")]
    pub scrape_interval: Duration,
    /// How long a scrape may take; 10 seconds, or the interval when that is shorter.
    #[serde(with = "duration::optional")]
    pub scrape_timeout: Option<Duration>,
    /// What targets are asked for; text formats by default.
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    /// How often rule groups are evaluated that do not say otherwise; what the program says when `None`.
    #[serde(with = "duration::optional")]
    pub evaluation_interval: Option<Duration>,
    /// By how much rules look into the past; none.
    #[serde(with = "duration::optional")]
    pub rule_query_offset: Option<Duration>,
    /// Labels of this installation, for what leaves it.
    pub external_labels: Labels,
    /// See [`ScrapeConfig::body_size_limit`].
    pub body_size_limit: Size,
    /// See [`ScrapeConfig::sample_limit`].
    pub sample_limit: usize,
    /// See [`ScrapeConfig::target_limit`].
    pub target_limit: usize,
    /// See [`ScrapeConfig::label_limit`].
    pub label_limit: usize,
    /// See [`ScrapeConfig::label_name_length_limit`].
    pub label_name_length_limit: usize,
    /// See [`ScrapeConfig::label_value_length_limit`].
    pub label_value_length_limit: usize,
    /// See [`ScrapeConfig::keep_dropped_targets`].
    pub keep_dropped_targets: usize,
    /// See [`ScrapeConfig::extra_scrape_metrics`].
    pub extra_scrape_metrics: bool,
    /// See [`ScrapeConfig::scrape_native_histograms`].
    pub scrape_native_histograms: bool,
    /// See [`ScrapeConfig::always_scrape_classic_histograms`].
    pub always_scrape_classic_histograms: bool,
    /// See [`ScrapeConfig::convert_classic_histograms_to_nhcb`].
    pub convert_classic_histograms_to_nhcb: bool,
    query_log_file: Ignored,
    scrape_failure_log_file: Ignored,
    metric_name_validation_scheme: Ignored,
    metric_name_escaping_scheme: Ignored,
}

impl Default for GlobalConfig {
    fn default() -> Self {
        GlobalConfig {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: None,
            scrape_protocols: None,
            evaluation_interval: None,
            rule_query_offset: None,
            external_labels: Labels::empty(),
            body_size_limit: Size(0),
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            keep_dropped_targets: 0,
            extra_scrape_metrics: false,
            scrape_native_histograms: false,
            always_scrape_classic_histograms: false,
            convert_classic_histograms_to_nhcb: false,
            query_log_file: Ignored::default(),
            scrape_failure_log_file: Ignored::default(),
            metric_name_validation_scheme: Ignored::default(),
            metric_name_escaping_scheme: Ignored::default(),
        }
    }
}

impl GlobalConfig {
    /// Lists the keys that stand in the file and have no effect, as `global.<key>`.
    pub fn ignored(&self) -> Vec<String> {
        present_keys!(
            self,
            query_log_file,
            scrape_failure_log_file,
            metric_name_validation_scheme,
            metric_name_escaping_scheme,
        )
        .map(|key| format!("global.{key}"))
        .collect()
    }
}

/// Targets written down, with labels they share.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StaticGroup {
    /// `host:port` each.
    pub targets: Vec<String>,
    /// Labels of all of them.
    pub labels: BTreeMap<String, String>,
}

/// Files that list targets.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDiscovery {
    /// Paths ending in `.json`, `.yml` or `.yaml`; the last part may hold `*`.
    pub files: Vec<String>,
    /// How often they are read anew; 5 minutes.
    #[serde(default = "default_refresh", with = "duration")]
    pub refresh_interval: Duration,
}

fn default_refresh() -> Duration {
    Duration::from_secs(300)
}

fn default_true() -> bool {
    true
}

/// One entry of `scrape_configs`. A limit of 0 is none.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrapeConfig {
    /// Becomes the label `job`; unique.
    pub job_name: String,
    /// How often; `global.scrape_interval` by default.
    #[serde(default, with = "duration::optional")]
    pub scrape_interval: Option<Duration>,
    /// How long a scrape may take; `global.scrape_timeout` by default, never more than the interval.
    #[serde(default, with = "duration::optional")]
    pub scrape_timeout: Option<Duration>,
    /// The path; `/metrics`.
    #[serde(default)]
    pub metrics_path: Option<String>,
    /// `http` or `https`.
    #[serde(default)]
    pub scheme: Option<String>,
    /// The query.
    #[serde(default)]
    pub params: BTreeMap<String, Vec<String>>,
    /// Whether labels of the target win over ours, instead of becoming `exported_…`.
    #[serde(default)]
    pub honor_labels: bool,
    /// Whether times that the target gives are taken.
    #[serde(default = "default_true")]
    pub honor_timestamps: bool,
    /// Whether series with times of their own end with a mark, too.
    #[serde(default)]
    pub track_timestamps_staleness: bool,
    /// What targets are asked for.
    #[serde(default)]
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    /// What is assumed when the answer does not say what it is.
    #[serde(default)]
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Whether compressed answers are asked for.
    #[serde(default = "default_true")]
    pub enable_compression: bool,
    /// Longer answers, after decompression, fail the scrape.
    #[serde(default)]
    pub body_size_limit: Option<Size>,
    /// More samples after relabelling fail the scrape.
    #[serde(default)]
    pub sample_limit: Option<usize>,
    /// More targets in the job fail all its scrapes.
    #[serde(default)]
    pub target_limit: Option<usize>,
    /// More labels at a sample fail the scrape.
    #[serde(default)]
    pub label_limit: Option<usize>,
    /// A longer label name, in bytes, fails the scrape.
    #[serde(default)]
    pub label_name_length_limit: Option<usize>,
    /// A longer label value, in bytes, fails the scrape.
    #[serde(default)]
    pub label_value_length_limit: Option<usize>,
    /// How many dropped targets of the job are shown; the room's own limit when 0.
    #[serde(default)]
    pub keep_dropped_targets: Option<usize>,
    /// Whether `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` are written, too.
    #[serde(default)]
    pub extra_scrape_metrics: Option<bool>,
    /// Whether native histograms are asked for and taken; targets that have some say them in protobuf alone.
    #[serde(default)]
    pub scrape_native_histograms: Option<bool>,
    /// Whether the classic buckets of a histogram that is also native, or becomes so, are taken, too.
    #[serde(default)]
    pub always_scrape_classic_histograms: Option<bool>,
    /// Whether classic histograms become native ones with the same bounds.
    #[serde(default)]
    pub convert_classic_histograms_to_nhcb: Option<bool>,
    /// Targets written down.
    #[serde(default)]
    pub static_configs: Vec<StaticGroup>,
    /// Targets in files.
    #[serde(default)]
    pub file_sd_configs: Vec<FileDiscovery>,
    /// Rewrites the labels of targets.
    #[serde(default)]
    pub relabel_configs: Vec<RelabelRule>,
    /// Rewrites the labels of samples.
    #[serde(default)]
    pub metric_relabel_configs: Vec<RelabelRule>,
    /// User and password.
    #[serde(default)]
    pub basic_auth: Option<BasicAuth>,
    /// Another authorization.
    #[serde(default)]
    pub authorization: Option<Authorization>,
    /// The old form of `authorization.credentials`.
    #[serde(default)]
    pub bearer_token: Option<Secret>,
    /// The old form of `authorization.credentials_file`.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    /// TLS.
    #[serde(default)]
    pub tls_config: TlsConfig,
    /// Whether redirects are followed.
    #[serde(default = "default_true")]
    pub follow_redirects: bool,
    /// Further headers.
    #[serde(default)]
    pub http_headers: BTreeMap<String, HttpHeader>,
    #[serde(default)]
    aws_sd_configs: Ignored,
    #[serde(default)]
    azure_sd_configs: Ignored,
    #[serde(default)]
    consul_sd_configs: Ignored,
    #[serde(default)]
    digitalocean_sd_configs: Ignored,
    #[serde(default)]
    dns_sd_configs: Ignored,
    #[serde(default)]
    docker_sd_configs: Ignored,
    #[serde(default)]
    dockerswarm_sd_configs: Ignored,
    #[serde(default)]
    ec2_sd_configs: Ignored,
    #[serde(default)]
    ecs_sd_configs: Ignored,
    #[serde(default)]
    elasticache_sd_configs: Ignored,
    #[serde(default)]
    eureka_sd_configs: Ignored,
    #[serde(default)]
    gce_sd_configs: Ignored,
    #[serde(default)]
    hetzner_sd_configs: Ignored,
    #[serde(default)]
    http_sd_configs: Ignored,
    #[serde(default)]
    ionos_sd_configs: Ignored,
    #[serde(default)]
    kubernetes_sd_configs: Ignored,
    #[serde(default)]
    kuma_sd_configs: Ignored,
    #[serde(default)]
    lightsail_sd_configs: Ignored,
    #[serde(default)]
    linode_sd_configs: Ignored,
    #[serde(default)]
    marathon_sd_configs: Ignored,
    #[serde(default)]
    msk_sd_configs: Ignored,
    #[serde(default)]
    nerve_sd_configs: Ignored,
    #[serde(default)]
    nomad_sd_configs: Ignored,
    #[serde(default)]
    oci_sd_configs: Ignored,
    #[serde(default)]
    openstack_sd_configs: Ignored,
    #[serde(default)]
    ovhcloud_sd_configs: Ignored,
    #[serde(default)]
    puppetdb_sd_configs: Ignored,
    #[serde(default)]
    rds_sd_configs: Ignored,
    #[serde(default)]
    scaleway_sd_configs: Ignored,
    #[serde(default)]
    serverset_sd_configs: Ignored,
    #[serde(default)]
    stackit_sd_configs: Ignored,
    #[serde(default)]
    triton_sd_configs: Ignored,
    #[serde(default)]
    uyuni_sd_configs: Ignored,
    #[serde(default)]
    vultr_sd_configs: Ignored,
    #[serde(default)]
    xds_sd_configs: Ignored,
    #[serde(default)]
    oauth2: Ignored,
    #[serde(default)]
    proxy_url: Ignored,
    #[serde(default)]
    no_proxy: Ignored,
    #[serde(default)]
    proxy_from_environment: Ignored,
    #[serde(default)]
    proxy_connect_header: Ignored,
    #[serde(default)]
    enable_http2: Ignored,
    #[serde(default)]
    native_histogram_bucket_limit: Ignored,
    #[serde(default)]
    native_histogram_min_bucket_factor: Ignored,
    #[serde(default)]
    metric_name_validation_scheme: Ignored,
    #[serde(default)]
    metric_name_escaping_scheme: Ignored,
    #[serde(default)]
    scrape_classic_histograms: Ignored,
    #[serde(default)]
    scrape_failure_log_file: Ignored,
}

impl ScrapeConfig {
    /// Makes an entry with a name and Prometheus' defaults.
    pub fn new(job_name: &str) -> Self {
        ScrapeConfig {
            job_name: job_name.to_owned(),
            scrape_interval: None,
            scrape_timeout: None,
            metrics_path: None,
            scheme: None,
            params: BTreeMap::new(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            scrape_protocols: None,
            fallback_scrape_protocol: None,
            enable_compression: true,
            body_size_limit: None,
            sample_limit: None,
            target_limit: None,
            label_limit: None,
            label_name_length_limit: None,
            label_value_length_limit: None,
            keep_dropped_targets: None,
            extra_scrape_metrics: None,
            scrape_native_histograms: None,
            always_scrape_classic_histograms: None,
            convert_classic_histograms_to_nhcb: None,
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            basic_auth: None,
            authorization: None,
            bearer_token: None,
            bearer_token_file: None,
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            http_headers: BTreeMap::new(),
            aws_sd_configs: Ignored::default(),
            azure_sd_configs: Ignored::default(),
            consul_sd_configs: Ignored::default(),
            digitalocean_sd_configs: Ignored::default(),
            dns_sd_configs: Ignored::default(),
            docker_sd_configs: Ignored::default(),
            dockerswarm_sd_configs: Ignored::default(),
            ec2_sd_configs: Ignored::default(),
            ecs_sd_configs: Ignored::default(),
            elasticache_sd_configs: Ignored::default(),
            eureka_sd_configs: Ignored::default(),
            gce_sd_configs: Ignored::default(),
            hetzner_sd_configs: Ignored::default(),
            http_sd_configs: Ignored::default(),
            ionos_sd_configs: Ignored::default(),
            kubernetes_sd_configs: Ignored::default(),
            kuma_sd_configs: Ignored::default(),
            lightsail_sd_configs: Ignored::default(),
            linode_sd_configs: Ignored::default(),
            marathon_sd_configs: Ignored::default(),
            msk_sd_configs: Ignored::default(),
            nerve_sd_configs: Ignored::default(),
            nomad_sd_configs: Ignored::default(),
            oci_sd_configs: Ignored::default(),
            openstack_sd_configs: Ignored::default(),
            ovhcloud_sd_configs: Ignored::default(),
            puppetdb_sd_configs: Ignored::default(),
            rds_sd_configs: Ignored::default(),
            scaleway_sd_configs: Ignored::default(),
            serverset_sd_configs: Ignored::default(),
            stackit_sd_configs: Ignored::default(),
            triton_sd_configs: Ignored::default(),
            uyuni_sd_configs: Ignored::default(),
            vultr_sd_configs: Ignored::default(),
            xds_sd_configs: Ignored::default(),
            oauth2: Ignored::default(),
            proxy_url: Ignored::default(),
            no_proxy: Ignored::default(),
            proxy_from_environment: Ignored::default(),
            proxy_connect_header: Ignored::default(),
            enable_http2: Ignored::default(),
            native_histogram_bucket_limit: Ignored::default(),
            native_histogram_min_bucket_factor: Ignored::default(),
            metric_name_validation_scheme: Ignored::default(),
            metric_name_escaping_scheme: Ignored::default(),
            scrape_classic_histograms: Ignored::default(),
            scrape_failure_log_file: Ignored::default(),
        }
    }

    /// Lists the keys that stand in the file and have no effect, as `scrape_configs.<job>.<key>`.
    pub fn ignored(&self) -> Vec<String> {
        let own = present_keys!(
            self,
            aws_sd_configs,
            azure_sd_configs,
            consul_sd_configs,
            digitalocean_sd_configs,
            dns_sd_configs,
            docker_sd_configs,
            dockerswarm_sd_configs,
            ec2_sd_configs,
            ecs_sd_configs,
            elasticache_sd_configs,
            eureka_sd_configs,
            gce_sd_configs,
            hetzner_sd_configs,
            http_sd_configs,
            ionos_sd_configs,
            kubernetes_sd_configs,
            kuma_sd_configs,
            lightsail_sd_configs,
            linode_sd_configs,
            marathon_sd_configs,
            msk_sd_configs,
            nerve_sd_configs,
            nomad_sd_configs,
            oci_sd_configs,
            openstack_sd_configs,
            ovhcloud_sd_configs,
            puppetdb_sd_configs,
            rds_sd_configs,
            scaleway_sd_configs,
            serverset_sd_configs,
            stackit_sd_configs,
            triton_sd_configs,
            uyuni_sd_configs,
            vultr_sd_configs,
            xds_sd_configs,
            oauth2,
            proxy_url,
            no_proxy,
            proxy_from_environment,
            proxy_connect_header,
            enable_http2,
            native_histogram_bucket_limit,
            native_histogram_min_bucket_factor,
            metric_name_validation_scheme,
            metric_name_escaping_scheme,
            scrape_classic_histograms,
            scrape_failure_log_file,
        );
        let client = self.http_client().ignored();
        own.map(str::to_owned)
            .chain(client)
            .map(|key| format!("scrape_configs.{}.{key}", self.job_name))
            .collect()
    }

    /// Gathers the keys of the HTTP client, the old `bearer_token` included.
    pub fn http_client(&self) -> HttpClientConfig {
        let mut authorization = self.authorization.clone();
        if authorization.is_none() && (self.bearer_token.is_some() || self.bearer_token_file.is_some()) {
            let bearer = Authorization::bearer(self.bearer_token.clone(), self.bearer_token_file.clone());
            authorization = Some(bearer);
        }
        HttpClientConfig {
            basic_auth: self.basic_auth.clone(),
            authorization,
            tls: self.tls_config.clone(),
            follow_redirects: self.follow_redirects,
            headers: self.http_headers.clone(),
        }
    }
}

/// The part of a `prometheus.yml` that this room reads; for files that hold nothing else, and for tests.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScrapeFile {
    /// What holds for all jobs.
    pub global: GlobalConfig,
    /// The jobs.
    pub scrape_configs: Vec<ScrapeConfig>,
}

impl ScrapeFile {
    /// Lists every key that stands in the file and has no effect.
    pub fn ignored(&self) -> Vec<String> {
        let jobs = self.scrape_configs.iter().flat_map(ScrapeConfig::ignored);
        self.global.ignored().into_iter().chain(jobs).collect()
    }
}

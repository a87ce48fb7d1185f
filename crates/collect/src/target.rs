//! One thing to scrape: from a discovered address to labels, URL and place in the interval.
//!
//! Pure: the same configuration and discovery give the same target everywhere.
//!
//! Source: `github.com/prometheus/prometheus/scrape`, PopulateLabels and Target.URL of version 3.

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_model::{Labels, LabelsBuilder, Timestamp, duration};
use marketprism_net::without_credentials;
use thiserror::Error;

use crate::config::PoolConfig;
use crate::discovery::TargetGroup;
use crate::relabel::relabel;

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const PARAM_PREFIX: &str = "__param_";
/// Names of parameters that hold one of these may carry a secret. Rather hide too much than too little.
const SECRET_WORDS: [&str; 9] = [
    "token",
    "secret",
    "pass",
    "pwd",
    "key",
    "auth",
    "credential",
    "sig",
    "session",
];

/// Why a discovered address makes no target.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TargetError {
    /// Relabelling left none.
    #[error("no address")]
    NoAddress,
    /// It holds a path or nothing usable.
    #[error("{0:?} is not a valid address; write host:port, the path belongs into metrics_path")]
    Address(String),
    /// It holds a user and a password, which would stand in the labels of every sample.
    #[error("{0:?} was written with a user before its @, which everybody would see; use basic_auth")]
    Credentials(String),
    /// The interval or time-out given by a label is no duration.
    #[error("{label}: {reason}")]
    Duration {
        /// The label.
        label: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A scrape may not outlast its interval.
    #[error("scrape timeout {timeout} is longer than scrape interval {interval}")]
    TimeoutTooLong {
        /// As given.
        timeout: String,
        /// As given.
        interval: String,
    },
}

/// A target that is scraped.
#[derive(Clone, PartialEq, Debug)]
pub struct Target {
    /// Labels before relabelling, for whoever looks: secrets in parameters are `***`.
    pub discovered: Labels,
    /// Labels that its samples get.
    pub labels: Labels,
    /// Where it is. Only the request may carry it; whoever looks gets [`Target::shown_url`].
    pub url: String,
    /// How often it is scraped.
    pub interval: Duration,
    /// How long a scrape may take.
    pub timeout: Duration,
}

/// What becomes of a discovered address.
#[derive(Clone, PartialEq, Debug)]
pub enum Populated {
    /// It is scraped.
    Active(Target),
    /// Relabelling dropped it; these are its labels before, as [`Target::discovered`].
    Dropped(Labels),
}

/// Makes a target of an address: adds the job's labels, relabels, checks.
pub fn populate(pool: &PoolConfig, address: &str, group: &TargetGroup) -> Result<Populated, TargetError> {
    let mut labels = discovered_labels(pool, address, group);
    let discovered = shown(&labels);
    if !relabel(&pool.relabel, &mut labels) {
        return Ok(Populated::Dropped(discovered));
    }
    let address = labels.get(ADDRESS).ok_or(TargetError::NoAddress)?.to_owned();
    check_address(&address)?;
    let interval = span(&labels, INTERVAL)?;
    let timeout = span(&labels, TIMEOUT)?;
    if timeout > interval {
        return Err(TargetError::TimeoutTooLong {
            timeout: duration::format(timeout),
            interval: duration::format(interval),
        });
    }
    let url = url_of(pool, &labels, &address);
    if labels.get("instance").is_none() {
        labels.set("instance", &address);
    }
    labels.retain(|name, _| !name.starts_with("__"));
    if labels.iter().next().is_none() {
        return Ok(Populated::Dropped(discovered));
    }
    Ok(Populated::Active(Target {
        discovered,
        labels: labels.build(),
        url,
        interval,
        timeout,
    }))
}

/// Checks an address as it is dialled, after relabelling. The error never shows a password.
pub fn check_address(address: &str) -> Result<(), TargetError> {
    let shown = || without_credentials(address);
    if address.contains('/') || address.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(TargetError::Address(shown()));
    }
    if address.contains('@') {
        return Err(TargetError::Credentials(shown()));
    }
    Ok(())
}

fn discovered_labels(pool: &PoolConfig, address: &str, group: &TargetGroup) -> LabelsBuilder {
    let mut labels = LabelsBuilder::default();
    for (name, value) in &group.labels {
        labels.set(name, value);
    }
    labels.set(ADDRESS, address);
    let mut default = |name: &str, value: &str| {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    };
    default("job", &pool.job_name);
    default(INTERVAL, &duration::format(pool.interval));
    default(TIMEOUT, &duration::format(pool.timeout));
    default(METRICS_PATH, &pool.metrics_path);
    default(SCHEME, &pool.scheme);
    for (name, values) in &pool.params {
        if let Some(first) = values.first() {
            default(&format!("{PARAM_PREFIX}{name}"), first);
        }
    }
    labels
}

fn span(labels: &LabelsBuilder, label: &'static str) -> Result<Duration, TargetError> {
    let text = labels.get(label).unwrap_or("");
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err(TargetError::Duration {
            label,
            reason: "must be above 0".to_owned(),
        }),
        Ok(span) => Ok(span),
        Err(error) => Err(TargetError::Duration {
            label,
            reason: error.to_string(),
        }),
    }
}

fn url_of(pool: &PoolConfig, labels: &LabelsBuilder, address: &str) -> String {
    let mut params: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, values) in &pool.params {
        params.insert(name, values.iter().map(String::as_str).collect());
    }
    for (name, value) in labels.iter() {
        let Some(name) = name.strip_prefix(PARAM_PREFIX) else {
            continue;
        };
        let values = params.entry(name).or_default();
        match values.first_mut() {
            Some(first) => *first = value,
            None => values.push(value),
        }
    }
    let path = labels.get(METRICS_PATH).unwrap_or("");
    let slash = if path.is_empty() || path.starts_with('/') {
        ""
    } else {
        "/"
    };
    let mut url = format!("{}://{address}{slash}", labels.get(SCHEME).unwrap_or("http"));
    escape(&mut url, path, b"/$&+,:;=@-_.~", false);
    let mut separator = '?';
    for (name, values) in params {
        for value in values {
            url.push(separator);
            escape(&mut url, name, b"-_.~", true);
            url.push('=');
            escape(&mut url, value, b"-_.~", true);
            separator = '&';
        }
    }
    url
}

/// Says whether the value of a parameter may be a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Gives a URL in which parameters that may carry secrets are `***`.
pub(crate) fn without_secrets(url: &str) -> String {
    let Some((place, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    format!("{place}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// Gives labels without the secrets of parameters.
fn shown(labels: &LabelsBuilder) -> Labels {
    let mut shown = labels.clone();
    for (name, _) in labels.iter() {
        if name.strip_prefix(PARAM_PREFIX).is_some_and(is_secret) {
            shown.set(name, "***");
        }
    }
    shown.build()
}

/// Writes letters, digits and `kept` as they are, the rest as `%XX`; in a query a space becomes `+`.
fn escape(url: &mut String, text: &str, kept: &[u8], is_query: bool) {
    for byte in text.bytes() {
        match byte {
            b' ' if is_query => url.push('+'),
            b if b.is_ascii_alphanumeric() || kept.contains(&b) => url.push(b as char),
            b => url.push_str(&format!("%{b:02X}")),
        }
    }
}

impl Target {
    /// Gives the URL for logs and pages: parameters that may carry secrets are `***`.
    pub fn shown_url(&self) -> String {
        without_secrets(&self.url)
    }

    /// Gives its place within the interval, the same for as long as labels, URL and `seed` are.
    pub fn offset(&self, seed: u64) -> Duration {
        let mut hash = self.labels.fingerprint() ^ seed;
        for byte in self.url.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // FNV's low bits are weak; the high half is mixed in before the remainder is taken.
        hash ^= hash >> 32;
        Duration::from_millis(
            hash % u64::try_from(self.interval.as_millis())
                .unwrap_or(u64::MAX)
                .max(1),
        )
    }
}

/// Gives the first moment after `now` that lies `offset` into an interval counted from the epoch.
pub fn next_due(now: Timestamp, interval: Duration, offset: Duration) -> Timestamp {
    let due = (now - offset).align_down(interval) + offset;
    if due > now { due } else { due + interval }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ScrapeFile, parse_yaml};

    fn pool(yaml: &str) -> PoolConfig {
        let file: ScrapeFile =
            parse_yaml(&format!("scrape_configs:\n  - {}", yaml.replace('\n', "\n    "))).expect(yaml);
        file.validate().expect(yaml).remove(0)
    }

    fn active(yaml: &str, address: &str, labels: &[(&str, &str)]) -> Result<Target, String> {
        let labels = labels
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let group = TargetGroup {
            targets: Vec::new(),
            labels,
        };
        match populate(&pool(yaml), address, &group) {
            Ok(Populated::Active(target)) => Ok(target),
            Ok(Populated::Dropped(labels)) => Err(format!("dropped {labels}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_target_gets_job_and_instance_and_its_url() {
        let target = active("job_name: node", "h:9100", &[("dc", "x"), ("__meta_y", "z")]).expect("valid");
        assert_eq!(
            target.labels.to_string(),
            r#"{dc="x", instance="h:9100", job="node"}"#
        );
        assert_eq!(target.url, "http://h:9100/metrics");
        assert_eq!(
            target.discovered.to_string(),
            r#"{__address__="h:9100", __meta_y="z", __metrics_path__="/metrics", __scheme__="http", __scrape_interval__="1m", __scrape_timeout__="10s", dc="x", job="node"}"#
        );
        assert_eq!((target.interval.as_secs(), target.timeout.as_secs()), (60, 10));
    }

    #[test]
    fn labels_move_address_path_scheme_query_and_pace() {
        let yaml = "job_name: probe
metrics_path: /p q
params: {module: [http_2xx, more], debug: ['true']}
relabel_configs:
  - {source_labels: [__address__], target_label: __param_target}
  - {source_labels: [__param_target], target_label: instance}
  - {target_label: __address__, replacement: 'exporter:9115'}
  - {target_label: __scheme__, replacement: https}
  - {target_label: __scrape_interval__, replacement: 30s}
  - {target_label: __tmp, replacement: gone}";
        let target = active(yaml, "https://site/?a=b c", &[]).expect("valid");
        assert_eq!(
            target.labels.to_string(),
            r#"{instance="https://site/?a=b c", job="probe"}"#
        );
        assert_eq!(
            target.url,
            "https://exporter:9115/p%20q?debug=true&module=http_2xx&module=more&target=https%3A%2F%2Fsite%2F%3Fa%3Db+c"
        );
        assert_eq!(target.interval.as_secs(), 30);
    }

    /// Tokens in `params` stood in the log and in the list of targets, which every viewer may read.
    #[test]
    fn secrets_in_parameters_are_asked_with_and_never_shown() {
        let yaml = "job_name: a
params: {module: [x], API_Key: [hunter1, hunter2]}
relabel_configs:
  - {target_label: __param_sig, replacement: hunter3}";
        let target = active(yaml, "h:1", &[("__param_token", "hunter4")]).expect("valid");
        assert_eq!(
            target.url,
            "http://h:1/metrics?API_Key=hunter1&API_Key=hunter2&module=x&sig=hunter3&token=hunter4"
        );
        assert_eq!(
            target.shown_url(),
            "http://h:1/metrics?API_Key=***&API_Key=***&module=x&sig=***&token=***"
        );
        let discovered = target.discovered.to_string();
        assert!(!discovered.contains("hunter"), "{discovered}");
        assert!(discovered.contains(r#"__param_module="x""#), "{discovered}");
    }

    #[test]
    fn targets_that_cannot_be_are_refused_with_the_reason() {
        let check = |yaml: &str, address: &str, words: &str| {
            let error = active(yaml, address, &[]).expect_err(words);
            assert!(error.contains(words), "{error}");
        };
        check("job_name: a", "h/path", "\"h/path\" is not a valid address");
        check(
            "job_name: a",
            "http://u:p@h/",
            "\"http://h/\" is not a valid address",
        );
        check("job_name: a", "u:p@h:1", "\"h:1\" was written with a user");
        let cut = "job_name: a\nrelabel_configs: [{regex: __address__, action: labeldrop}]";
        check(cut, "h:1", "no address");
        let slow = "job_name: a\nrelabel_configs: [{target_label: __scrape_timeout__, replacement: 2m}]";
        check(slow, "h:1", "scrape timeout 2m is longer than scrape interval 1m");
        let odd = "job_name: a\nrelabel_configs: [{target_label: __scrape_interval__, replacement: soon}]";
        check(odd, "h:1", "__scrape_interval__: not a duration");
        let drop = "job_name: a\nrelabel_configs: [{source_labels: [job], regex: a, action: drop}]";
        check(drop, "h:1", "dropped {__address__=\"h:1\"");
    }

    #[test]
    fn offsets_spread_a_fleet_over_the_interval_and_stay_the_same() {
        let mut tenths = [0; 10];
        for host in 0..1000 {
            let target = active("job_name: node", &format!("host-{host}:9100"), &[]).expect("valid");
            let offset = target.offset(7);
            assert_eq!(offset, target.offset(7));
            assert!(offset < target.interval);
            tenths[offset.as_millis() as usize / 6000] += 1;
        }
        assert!(
            tenths.iter().all(|count| (60..=140).contains(count)),
            "{tenths:?}"
        );
    }

    #[test]
    fn due_times_lie_on_the_plan_and_after_now() {
        let check = |now: i64, offset: u64, expected: i64| {
            let due = next_due(
                Timestamp::from_millis(now),
                Duration::from_secs(10),
                Duration::from_millis(offset),
            );
            assert_eq!(due.millis(), expected);
        };
        check(0, 0, 10_000);
        check(1, 0, 10_000);
        check(0, 3_000, 3_000);
        check(3_000, 3_000, 13_000);
        check(12_999, 3_000, 13_000);
        check(-1, 3_000, 3_000);
    }
}

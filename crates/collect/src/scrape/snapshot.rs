//! What readers see of the targets: a list that does not change, with the newest word about each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use marketprism_model::{Labels, Timestamp};

use crate::metadata::TargetMetadata;
use crate::target::Target;

/// How a target's last scrape ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TargetHealth {
    /// It has not been scraped yet.
    #[default]
    Unknown,
    /// It gave samples.
    Up,
    /// It did not.
    Down,
}

impl TargetHealth {
    /// Gives the word that Prometheus' API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            TargetHealth::Unknown => "unknown",
            TargetHealth::Up => "up",
            TargetHealth::Down => "down",
        }
    }
}

/// The newest word about a target.
#[derive(Clone, Debug, Default)]
pub struct TargetStatus {
    /// How the last scrape ended.
    pub health: TargetHealth,
    /// Why it failed, empty when it did not.
    pub last_error: String,
    /// When it began; `None` before the first.
    pub last_scrape: Option<Timestamp>,
    /// How long it took.
    pub last_scrape_duration: Duration,
    /// What the target says about its metrics.
    pub metadata: TargetMetadata,
}

/// A target that is scraped.
#[derive(Debug)]
pub struct ActiveTarget {
    /// The job it belongs to.
    pub pool: String,
    /// Labels, URL and pace.
    pub target: Target,
    pub(super) status: ArcSwap<TargetStatus>,
}

impl ActiveTarget {
    pub(super) fn new(pool: &str, target: Target) -> Self {
        ActiveTarget {
            pool: pool.to_owned(),
            target,
            status: ArcSwap::default(),
        }
    }

    /// Gives the newest word.
    pub fn status(&self) -> Arc<TargetStatus> {
        self.status.load_full()
    }

    /// Gives the URL as others reach it: a loopback host becomes `host`, as in Prometheus' `globalUrl`. Shown as
    /// [`Target::shown_url`] does.
    pub fn global_url(&self, host: &str) -> String {
        let url = self.target.shown_url();
        for local in ["localhost", "127.0.0.1", "[::1]"] {
            let Some((scheme, rest)) = url.split_once("://") else {
                continue;
            };
            let Some(rest) = rest.strip_prefix(local) else {
                continue;
            };
            if rest.is_empty() || rest.starts_with([':', '/', '?']) {
                return format!("{scheme}://{host}{rest}");
            }
        }
        url
    }
}

/// A target that relabelling dropped.
#[derive(Clone, PartialEq, Debug)]
pub struct DroppedTarget {
    /// The job it would belong to.
    pub pool: String,
    /// Its labels before relabelling.
    pub discovered: Labels,
}

/// All targets at one moment. The list stands still; each active target's status is the newest.
#[derive(Debug, Default)]
pub struct TargetsSnapshot {
    /// By job in the order of the configuration, then by labels.
    pub active: Vec<Arc<ActiveTarget>>,
    /// As many as each job shows.
    pub dropped: Vec<DroppedTarget>,
    /// As many as each job dropped.
    pub dropped_counts: BTreeMap<String, usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_host_is_replaced_and_any_other_stays() {
        let check = |url: &str, expected: &str| {
            let target = Target {
                discovered: Labels::empty(),
                labels: Labels::empty(),
                url: url.to_owned(),
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
            };
            assert_eq!(ActiveTarget::new("j", target).global_url("here"), expected);
        };
        check("http://localhost:9100/metrics", "http://here:9100/metrics");
        check("https://127.0.0.1/metrics?a=b", "https://here/metrics?a=b");
        check("http://[::1]:9100/metrics", "http://here:9100/metrics");
        check(
            "http://localhost.example.com/metrics",
            "http://localhost.example.com/metrics",
        );
        check("http://127.0.0.11:1/metrics", "http://127.0.0.11:1/metrics");
        check("http://h:1/?q=://localhost:1", "http://h:1/?q=://localhost:1");
    }
}

//! How the scrape pools stand, asked at each scrape.

use std::collections::BTreeMap;
use std::fmt;

use marketprism_collect::Scraper;
use marketprism_collect::scrape::TargetHealth;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Counts targets by job and health. Jobs come from the configuration.
pub struct PoolFigures(pub Scraper);

impl fmt::Debug for PoolFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolFigures")
    }
}

impl Collector for PoolFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let targets = self.0.targets();
        let mut pools: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
        for target in &targets.active {
            let [unknown, up, down] = pools.entry(target.pool.as_str()).or_default();
            *match target.status().health {
                TargetHealth::Unknown => unknown,
                TargetHealth::Up => up,
                TargetHealth::Down => down,
            } += 1;
        }
        let help = "Targets of each scrape job, by how their last scrape went";
        let mut encoder =
            encoder.encode_descriptor("marketprism_scrape_pool_targets", help, None, MetricType::Gauge)?;
        for (pool, counts) in pools {
            let healths = [TargetHealth::Unknown, TargetHealth::Up, TargetHealth::Down];
            for (health, count) in healths.into_iter().zip(counts) {
                let labels = [("scrape_job", pool), ("health", health.as_str())];
                ConstGauge::new(count).encode(encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

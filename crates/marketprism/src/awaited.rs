//! Which targets rules wait for after a start or a gap in time, and how long nothing is told meanwhile.
//!
//! Before a target was asked again, its silence says nothing. Targets that are asked rarely are not waited for: one
//! such must not keep all rules blind.

use std::sync::Arc;
use std::time::Duration;

use marketprism_collect::Scraper;
use marketprism_rules::HasData;

use crate::config::Loaded;

/// Targets that are asked at least this often are waited for.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Says whether every target that is waited for has been asked since a moment.
pub fn has_data(scraper: &Scraper) -> HasData {
    let scraper = scraper.clone();
    Arc::new(move |since, now| {
        let targets = scraper.targets();
        let mut awaited = targets
            .active
            .iter()
            .filter(|active| active.target.interval <= INTERVAL_MAX);
        awaited.all(|active| {
            let asked_at = active.status().last_scrape;
            asked_at.is_some_and(|at| since <= at && at <= now)
        })
    })
}

/// Gives how long after a start every rule has had its say: the longest wait for a target, then an evaluation.
pub fn settle(loaded: &Loaded) -> Duration {
    let local = loaded.config.host.interval;
    let pools = loaded.pools.iter().map(|pool| (pool.interval, pool.timeout));
    let longest = pools
        .chain([(local, local.min(LOCAL_TIMEOUT))])
        .filter(|(interval, _)| *interval <= INTERVAL_MAX)
        .map(|(interval, timeout)| interval + timeout)
        .max();
    longest.unwrap_or_default() + TURN + loaded.alerts.settle
}

/// Parts of the program are given this long at most.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the loop of the rules takes to notice that the data is there.
const TURN: Duration = Duration::from_millis(100);

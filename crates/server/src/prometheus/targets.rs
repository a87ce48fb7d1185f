//! `targets`, `targets/metadata`, `metadata`: what is watched, and what it says about its metrics.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use marketprism_collect::metadata::FamilyMetadata;
use marketprism_collect::scrape::{ActiveTarget, DroppedTarget};
use marketprism_model::{Labels, duration};
use serde_json::{Value, json};

use super::answer::{Failure, success, time};
use super::params::parse_whole;
use super::query::on_worker;
use crate::Server;
use crate::parts::Parts;
use crate::request::Form;

/// `GET targets`: `state` is active, dropped or any; `scrapePool` narrows to one job.
pub async fn targets(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let parts = server.parts()?;
    let state = form.params.get("state").to_ascii_lowercase();
    let pool = form.params.get("scrapePool");
    let shows = |wanted: &str| matches!(state.as_str(), "" | "any") || state == wanted;
    let is_wanted = |of: &str| pool.is_empty() || pool == of;
    let snapshot = (parts.targets)();
    let mut data = json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} });
    if shows("active") {
        let wanted = snapshot.active.iter().filter(|active| is_wanted(&active.pool));
        data["activeTargets"] = wanted.map(|active| active_target(&parts, active)).collect();
    }
    if shows("dropped") {
        let wanted = snapshot.dropped.iter().filter(|dropped| is_wanted(&dropped.pool));
        data["droppedTargets"] = wanted.map(dropped_target).collect();
        let counts = snapshot.dropped_counts.iter().filter(|(of, _)| is_wanted(of));
        data["droppedTargetCounts"] = counts.map(|(of, count)| (of.clone(), json!(count))).collect();
    }
    Ok(success(&data, &[], form.gzip))
}

/// `GET scrape_pools`: the jobs that found anything to scrape, wanted or not.
pub async fn scrape_pools(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let snapshot = (server.parts()?.targets)();
    let active = snapshot.active.iter().map(|active| &*active.pool);
    let dropped = snapshot.dropped_counts.keys().map(String::as_str);
    let pools: BTreeSet<&str> = active.chain(dropped).collect();
    Ok(success(&json!({ "scrapePools": pools }), &[], form.gzip))
}

fn active_target(parts: &Parts, active: &ActiveTarget) -> Value {
    let status = active.status();
    json!({
        "discoveredLabels": active.target.discovered,
        "labels": active.target.labels,
        "scrapePool": active.pool,
        "scrapeUrl": active.target.shown_url(),
        "globalUrl": active.global_url(&parts.host_name),
        "lastError": status.last_error,
        "lastScrape": time(status.last_scrape),
        "lastScrapeDuration": status.last_scrape_duration.as_secs_f64(),
        "health": status.health.as_str(),
        "scrapeInterval": duration::format(active.target.interval),
        "scrapeTimeout": duration::format(active.target.timeout),
    })
}

fn dropped_target(dropped: &DroppedTarget) -> Value {
    json!({ "discoveredLabels": dropped.discovered, "scrapePool": dropped.pool })
}

/// `GET metadata`: `metric` narrows to one family, `limit` and `limit_per_metric` cut.
pub async fn metadata(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let parts = server.parts()?;
    let limit = count(&form, "limit")?;
    // Of one of the two Prometheus takes zero for "all", of the other for "none".
    let per_metric = match count(&form, "limit_per_metric")? {
        0 => usize::MAX,
        some => some,
    };
    let metric = form.params.get("metric");
    let mut families: BTreeMap<String, Vec<Arc<FamilyMetadata>>> = BTreeMap::new();
    let mut add = |family: &Arc<FamilyMetadata>| {
        if !metric.is_empty() && family.family != metric {
            return;
        }
        if families.len() >= limit && !families.contains_key(&family.family) {
            return;
        }
        let known = families.entry(family.family.clone()).or_default();
        if known.len() < per_metric && !known.contains(family) {
            known.push(Arc::clone(family));
        }
    };
    // Targets share what they say, so most of thousands of lists hold the very same entries.
    let mut seen = HashSet::new();
    for active in &(parts.targets)().active {
        for family in active.status().metadata.iter() {
            if seen.insert(Arc::as_ptr(family) as usize) {
                add(family);
            }
        }
    }
    parts.metadata.pushed().iter().for_each(&mut add);
    let told = |family: &Arc<FamilyMetadata>| json!({ "type": family.kind, "help": family.help, "unit": family.unit });
    let data: serde_json::Map<String, Value> = families
        .into_iter()
        .map(|(name, entries)| (name, entries.iter().map(told).collect()))
        .collect();
    Ok(success(&data, &[], form.gzip))
}

/// `GET targets/metadata`: the same by target; `match_target` chooses targets, `metric` one family.
pub async fn targets_metadata(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let parts = server.parts()?;
    on_worker(&server, server.shared().config.query_timeout, move |_| {
        by_target(&parts, &form)
    })
    .await
}

fn by_target(parts: &Parts, form: &Form) -> Result<Response, Failure> {
    let limit = count(form, "limit")?;
    let metric = form.params.get("metric");
    let matchers = match form.params.get("match_target") {
        "" => Vec::new(),
        text => match marketprism_promql::parse_selector(text) {
            Ok(selector) => selector.matchers.to_vec(),
            Err(error) => return Err(Failure::parameter("match_target", error)),
        },
    };
    let is_chosen = |labels: &Labels| matchers.iter().all(|matcher| matcher.matches_labels(labels));
    let mut data = Vec::new();
    for active in &(parts.targets)().active {
        if !is_chosen(&active.target.labels) {
            continue;
        }
        for family in active.status().metadata.iter() {
            if data.len() >= limit {
                break;
            }
            if metric.is_empty() {
                data.push(json!({
                    "target": active.target.labels, "metric": family.family,
                    "type": family.kind, "help": family.help, "unit": family.unit,
                }));
            } else if family.family == metric {
                data.push(json!({
                    "target": active.target.labels,
                    "type": family.kind, "help": family.help, "unit": family.unit,
                }));
            }
        }
    }
    Ok(success(&data, &[], form.gzip))
}

/// Reads how many are wanted; all when absent or negative.
fn count(form: &Form, name: &str) -> Result<usize, Failure> {
    match form.params.get(name) {
        "" => Ok(usize::MAX),
        text => match parse_whole(text) {
            Ok(count) => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
            Err(_) => Err(Failure::bad_data(format!("{name} must be a number"))),
        },
    }
}

//! What the server may ask of the program: each an answer that is worked out when it is asked for.
//!
//! Only views of what the rooms hold; nothing here changes anything but the reload that somebody asks for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use marketprism_alerts::Alerts;
use marketprism_collect::Scraper;
use marketprism_collect::scrape::{ActiveTarget, TargetHealth};
use marketprism_model::{AlertState, BoxFuture};
use marketprism_notify::Notifier;
use marketprism_rules::RulesHandle;
use marketprism_server::{Ask, BuildInfo, HeadFigures, MetricsText, RuntimeInfo};
use marketprism_storage::Store;
use serde_json::{Value, json};

use crate::config::Loaded;
use crate::environment::Options;
use crate::metrics::{SharedRegistry, encode, plain};
use crate::reload::{Reloader, Trigger};

/// Writes the program's figures, in the form that is asked for.
pub fn metrics_text(registry: &SharedRegistry) -> MetricsText {
    let registry = Arc::clone(registry);
    let open: Ask<String> =
        Arc::new(move || encode(&registry).unwrap_or_else(|error| format!("# {error}\n")));
    let text = Arc::clone(&open);
    MetricsText {
        open,
        plain: Arc::new(move || plain(&text())),
    }
}

/// Figures by section.
pub type Stats = BTreeMap<&'static str, Ask<Value>>;

/// Adds what another room tells to a section: objects join key by key, at any depth.
pub fn join(stats: &mut Stats, section: &'static str, more: Ask<Value>) {
    let joined: Ask<Value> = match stats.remove(section) {
        None => more,
        Some(known) => Arc::new(move || {
            let mut all = known();
            merge(&mut all, more());
            all
        }),
    };
    stats.insert(section, joined);
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Says how busy the delivery is, to join `performance`.
pub fn deliveries(notifier: &Arc<Notifier>) -> Ask<Value> {
    let notifier = Arc::clone(notifier);
    Arc::new(move || {
        let load = notifier.load();
        json!({"queues": {"deliveries": {
            "running": load.running,
            "waiting": load.waiting,
            "running_max": load.running_max,
        }}})
    })
}

/// Says how busy the server is, to join `performance`; it holds the server no more than [`reload`] does.
pub fn serving(reloader: &Arc<Reloader>) -> Ask<Value> {
    let reloader = Arc::downgrade(reloader);
    Arc::new(move || {
        let Some(reloader) = reloader.upgrade() else {
            return Value::Null;
        };
        let figures = reloader.server().figures();
        json!({
            "queues": {
                "queries": figures.queries,
                "pushes": figures.pushes,
                "look_ups": figures.look_ups,
            },
            "cache": figures.query_cache,
            "connections": figures.connections,
        })
    })
}

/// Gives the figures of `/api/v1/stats/…`, section by section.
pub fn stats(store: &Store, alerts: &Arc<Alerts>, rules: &RulesHandle, scraper: &Scraper) -> Stats {
    let (store, alerts, rules, scraper) = (store.clone(), Arc::clone(alerts), rules.clone(), scraper.clone());
    let counted = store.clone();
    let storage: Ask<Value> = Arc::new(move || {
        let stats = store.stats();
        let mut shown = json!(stats);
        shown["oldest"] = json!(stats.oldest.map(|at| at.to_string()));
        shown["newest"] = json!(stats.newest.map(|at| at.to_string()));
        shown
    });
    let active: Ask<Value> = Arc::new(move || {
        let active = alerts.active();
        let count = |state| active.iter().filter(|alert| alert.state == state).count();
        json!({
            "firing": count(AlertState::Firing),
            "pending": count(AlertState::Pending),
            "acknowledged": active.iter().filter(|alert| alert.acknowledged.is_some()).count(),
            "suppressed": active.iter().filter(|alert| !alert.suppressed_by.is_empty()).count(),
        })
    });
    let performance: Ask<Value> = Arc::new(move || performance(&counted, &rules, &scraper));
    BTreeMap::from([
        ("storage", storage),
        ("alerts", active),
        ("performance", performance),
    ])
}

/// What an operator asks first when something is slow.
fn performance(store: &Store, rules: &RulesHandle, scraper: &Scraper) -> Value {
    let load = rules.load();
    let (rules, targets, stats) = (rules.snapshot(), scraper.targets(), store.stats());
    let slowest = rules.groups.iter().max_by_key(|group| group.evaluation_time);
    let is_up = |target: &&ActiveTarget| target.status().health == TargetHealth::Up;
    json!({
        "process": crate::metrics::process(),
        "queues": {
            "evaluations": {
                "running": load.running,
                "waiting": load.waiting,
                "running_max": load.running_max,
            },
        },
        "batch": {
            "unsynced_appends": stats.wal_unsynced_appends,
            "unsynced_age_seconds": stats.wal_unsynced_age_seconds,
            "syncs": stats.wal_syncs,
            "last_sync_seconds": stats.wal_last_sync_seconds,
        },
        "rules": {
            "groups": rules.groups.len(),
            "rules": rules.groups.iter().map(|group| group.rules.len()).sum::<usize>(),
            "evaluation_seconds": rules.groups.iter().map(|group| group.evaluation_time.as_secs_f64()).sum::<f64>(),
            "slowest_group": slowest.map(|group| group.spec.name.to_string()),
            "slowest_group_seconds": slowest.map(|group| group.evaluation_time.as_secs_f64()),
            "missed_ticks": rules.groups.iter().map(|group| group.missed).sum::<u64>(),
        },
        "scraping": {
            "targets": targets.active.len(),
            "up": targets.active.iter().map(|target| &**target).filter(is_up).count(),
        },
        "storage": {
            "series": stats.series,
            "samples_appended": stats.appended,
            "wal_errors": stats.wal_errors,
        },
    })
}

/// Reads the configuration anew.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Lets the server ask for a reload. The reloader holds the server, which must not hold it in turn: what a replica that
/// starts anew leaves behind would stay for good.
pub fn reload(reloader: &Arc<Reloader>) -> Reload {
    let reloader = Arc::downgrade(reloader);
    Arc::new(move || {
        let reloader = reloader.upgrade();
        Box::pin(async move {
            let reloader = reloader.ok_or("the program stops")?;
            reloader.reload_for(Trigger::Http).await
        })
    })
}

/// Shows the configuration that runs, secrets hidden.
pub fn config_text(reloader: &Arc<Reloader>) -> Ask<String> {
    let state = reloader.state();
    Arc::new(move || crate::config::shown(&state().text))
}

/// Says how the process runs.
pub fn runtime(reloader: &Arc<Reloader>, store: &Store, loaded: &Loaded) -> Ask<RuntimeInfo> {
    let (state, store) = (reloader.state(), store.clone());
    let retention = marketprism_model::duration::format(loaded.storage.retention);
    Arc::new(move || {
        let (state, stats) = (state(), store.stats());
        RuntimeInfo {
            working_directory: std::env::current_dir()
                .map_or_else(|_| String::new(), |path| path.display().to_string()),
            is_config_current: state.is_current,
            config_read_at: state.read_at,
            corruption_count: (stats.replay.lost.len() + stats.damaged_blocks.len()) as u64,
            storage_retention: retention.clone(),
        }
    })
}

/// Says what the store holds in memory.
pub fn head(store: &Store) -> Ask<HeadFigures> {
    let store = store.clone();
    Arc::new(move || {
        let stats = store.stats();
        HeadFigures {
            chunk_count: stats.head_chunks,
            min_time: stats.oldest.unwrap_or_default(),
            max_time: stats.newest.unwrap_or_default(),
        }
    })
}

/// Shows the command line.
pub fn flags(options: &Options, address: SocketAddr) -> BTreeMap<String, String> {
    let config = options
        .config
        .as_ref()
        .map_or_else(String::new, |path| path.display().to_string());
    BTreeMap::from([
        ("config".to_owned(), config),
        ("data-dir".to_owned(), options.data_dir.display().to_string()),
        ("listen".to_owned(), address.to_string()),
    ])
}

/// Says who built the program.
pub fn build_info() -> BuildInfo {
    BuildInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: crate::build_info::REVISION.to_owned(),
        compiler: format!("rustc {}", env!("CARGO_PKG_RUST_VERSION")),
        built_at: crate::build_info::BUILT_AT.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_join_key_by_key() {
        let mut stats: Stats = BTreeMap::from([(
            "performance",
            Arc::new(|| json!({"queues": {"evaluations": {"running": 1}}, "batch": 2})) as Ask<Value>,
        )]);
        join(
            &mut stats,
            "performance",
            Arc::new(|| json!({"queues": {"deliveries": {"running": 3}}, "cache": {"hits": 4}})),
        );
        join(&mut stats, "other", Arc::new(|| json!({"x": 5})));
        assert_eq!(
            stats["performance"](),
            json!({
                "queues": {"evaluations": {"running": 1}, "deliveries": {"running": 3}},
                "batch": 2,
                "cache": {"hits": 4},
            })
        );
        assert_eq!(stats["other"](), json!({"x": 5}));
    }
}

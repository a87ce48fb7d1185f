//! The entrance: builds every room from the ground up, and takes them down in reverse.
//!
//! One straight function; each line needs only the lines above it. What belongs to the domain is decided
//! in the rooms: here is only which room gets what.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context;
use marketprism_access::Access;
use marketprism_alerts::Alerts;
use marketprism_collect::metadata::MetadataStore;
use marketprism_collect::remote_write::{Limits, RemoteWriteReceiver};
use marketprism_collect::scrape::LocalSource;
use marketprism_collect::{CollectMetrics, ScrapePlan, Scraper, ScraperParts};
use marketprism_model::{AlertStore, Clock, Outbox, SampleSink, SeriesSource};
use marketprism_net::smtp::SmtpClient;
use marketprism_net::{HttpClient, Transport};
use marketprism_notify::Notifier;
use marketprism_promql::{Engine, EngineConfig};
use marketprism_rules::{Rulebook, RulesHandle, RunnerParts};
use marketprism_server::{Changes, NoticedSink, Parts, Readiness, Server};
use marketprism_storage::Store;
use tokio_util::sync::CancellationToken;

use crate::awaited;
use crate::config::Loaded;
use crate::config_watch;
pub use crate::environment::{Environment, Options};
use crate::first_start;
use crate::leader_forward::LeaderForward;
use crate::leadership::Leadership;
use crate::local_sources::local_sources;
use crate::maintenance::{self, RecordMaintenance};
use crate::metrics::{PoolFigures, ProcessFigures, SharedRegistry, StoreFigures, registry};
use crate::opening;
use crate::records::{Records, require_shared_key};
use crate::reload::{Figures, Reloader, Rooms, file_rules, installation, load_rules};
use crate::shown;
use crate::supervisor::Undo;
use crate::watchdog::{TurnedAt, Watchdog};

/// Scrapes at the same time.
const SCRAPES_MAX: usize = 64;
/// Messages given up whose consequences are taken up again at the start.
const UNHEARD_MAX: usize = 1_000;
/// A loop that has not turned for this long is stuck; each turns every few seconds.
const LOOP_PATIENCE: Duration = Duration::from_secs(120);

/// The running program.
pub struct App {
    address: SocketAddr,
    readiness: Readiness,
    reloader: Arc<Reloader>,
    lost: CancellationToken,
    undo: Undo,
}

/// Starts everything; returns when the program is ready, or with the reason why it cannot be.
pub async fn start(loaded: Loaded, options: Options, environment: Environment) -> anyhow::Result<App> {
    let started = start_until(loaded, options, environment, &CancellationToken::new()).await?;
    started.context("the start was called off")
}

/// Starts everything; a replica that has to stand by waits here. `None` when `cancel` comes first.
pub async fn start_until(
    loaded: Loaded,
    options: Options,
    environment: Environment,
    cancel: &CancellationToken,
) -> anyhow::Result<Option<App>> {
    let mut undo = Undo::default();
    match build(loaded, options, environment, cancel, &mut undo).await {
        Ok(Some(app)) if !cancel.is_cancelled() => Ok(Some(App { undo, ..app })),
        outcome => {
            undo.run().await;
            if cancel.is_cancelled() { Ok(None) } else { outcome }
        }
    }
}

impl App {
    /// Gives the address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads configuration and rules anew: all or nothing.
    pub async fn reload(&self) -> Result<(), String> {
        self.reloader.reload().await
    }

    /// Does the same beside whatever the caller goes on with; the outcome is in the log and in a metric.
    pub fn reload_aside(&self) {
        let reloader = Arc::clone(&self.reloader);
        tokio::spawn(async move { reloader.reload().await });
    }

    /// Waits until another replica leads; this one must stop then, and may start anew.
    pub async fn superseded(&self) {
        self.lost.cancelled().await;
    }

    /// Stops everything in reverse.
    pub async fn stop(self) {
        self.readiness.draining();
        self.undo.run().await;
        tracing::info!("stopped");
    }
}

/// What stands before anybody leads: the door, the stores, and samples that come in.
struct Ground {
    server: Server,
    address: SocketAddr,
    readiness: Readiness,
    registry: SharedRegistry,
    records: Records,
    store: Store,
    /// Takes samples into the store, and says so to whoever keeps answers.
    sink: Arc<dyn SampleSink>,
    access: Arc<Access>,
    transport: Arc<dyn Transport>,
    collect_metrics: CollectMetrics,
    metadata: MetadataStore,
    scraper: Scraper,
    local: Vec<LocalSource>,
    external_url: String,
}

async fn build(
    loaded: Loaded,
    options: Options,
    environment: Environment,
    cancel: &CancellationToken,
    undo: &mut Undo,
) -> anyhow::Result<Option<App>> {
    if let Some(remark) = loaded.dotenv.remark() {
        tracing::info!(remark, "configuration");
    }
    for remark in &loaded.remarks {
        tracing::warn!(remark, "configuration");
    }
    let ground = ground(&loaded, &options, &environment, cancel, undo).await?;
    let Some(lost) = lead(&ground, &loaded, &options, &environment, cancel, undo).await else {
        return Ok(None);
    };
    let app = alerting(ground, loaded, options, environment, lost, undo).await?;
    Ok(Some(app))
}

/// Opens the door and the stores, and lets samples in.
async fn ground(
    loaded: &Loaded,
    options: &Options,
    environment: &Environment,
    cancel: &CancellationToken,
    undo: &mut Undo,
) -> anyhow::Result<Ground> {
    let Environment { clock, chance, .. } = environment;
    require_shared_key(loaded, Arc::clone(&environment.variable)).map_err(anyhow::Error::msg)?;
    let lock = opening::lock_data(&options.data_dir)?;
    undo.push("data folder", async move { drop(lock) });
    opening::refuse_unfinished_restore(&options.data_dir)?;

    // The port is taken first, so that probes are answered while the log is replayed.
    let (listener, address) = opening::bind(loaded, options).await?;
    let readiness = Readiness::default();
    let server = Server::new(
        loaded.config.server.clone(),
        Arc::clone(clock),
        Arc::clone(chance),
        readiness.clone(),
    );
    let tls = loaded.config.server.ssl.prepare(clock.now())?;
    for warning in tls.iter().flat_map(|tls| tls.warnings()) {
        tracing::warn!(warning, "certificate");
    }
    server.set_tls(tls);
    tracing::info!(address = %address, scheme = server.scheme(), "listening");
    let serving = CancellationToken::new();
    let task = tokio::spawn(server.clone().serve(listener, serving.clone()));
    undo.push_task("server", serving, task);

    let registry = registry();
    {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        server.metrics().register(&mut registry);
        registry.register_collector(Box::new(ProcessFigures::new(Arc::clone(clock))));
    }
    server.install_metrics(shown::metrics_text(&registry));
    let records = opening::records(loaded, options, environment, &readiness, cancel).await?;
    // The log of samples may take a while to replay; whoever asks meanwhile is recognised, and told how far it is.
    let secret = first_start::signing_key(loaded, &options.data_dir, &*environment.entropy)?;
    let access = opening::access(loaded, secret, options, environment, &records, &registry).await?;
    server.install_access(Arc::clone(&access));
    let store = opening::store(loaded, environment, &readiness).await?;
    let closing = store.clone();
    undo.push("samples", async move {
        let closed = tokio::task::spawn_blocking(move || closing.shutdown()).await;
        if let Ok(Err(error)) = closed {
            tracing::error!(error = %error, "the log was not closed");
        }
    });
    let egress = loaded.egress.clone();
    let transport: Arc<dyn Transport> = match &environment.transport {
        Some(transport) => Arc::clone(transport),
        None => Arc::new(HttpClient::new(egress)),
    };
    let metadata = MetadataStore::default();
    let collect_metrics = {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(StoreFigures(store.clone())));
        CollectMetrics::register(&mut registry)
    };
    let changes = Changes::new();
    server.watch_changes(changes.clone());
    let sink: Arc<dyn SampleSink> = Arc::new(NoticedSink::new(
        Arc::new(store.clone()),
        Arc::clone(clock),
        changes.clone(),
    ));

    let cancel = CancellationToken::new();
    let (scraper, task) = Scraper::start(
        ScraperParts {
            clock: Arc::clone(clock),
            transport: Arc::clone(&transport),
            sink: Arc::clone(&sink),
            metrics: collect_metrics.clone(),
            metadata: metadata.clone(),
            concurrency: SCRAPES_MAX,
            offset_seed: chance.next_u64(),
        },
        cancel.clone(),
    );
    undo.push_task("scraping", cancel, task);
    registry
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .register_collector(Box::new(PoolFigures(scraper.clone())));
    let local = local_sources(&loaded.config, &host_name(), &registry, clock);
    scraper
        .apply(ScrapePlan {
            pools: loaded.pools.clone(),
            local: local.clone(),
        })
        .await?;
    let cancel = CancellationToken::new();
    let maintained = maintenance::samples(
        Arc::clone(clock),
        store.clone(),
        changes,
        loaded.config.alert_manager.cleanup_interval.0,
        cancel.clone(),
    );
    undo.push_task("sample maintenance", cancel, tokio::spawn(maintained));
    Ok(Ground {
        external_url: external_url(loaded, address),
        server,
        address,
        readiness,
        registry,
        records,
        store,
        sink,
        access,
        transport,
        collect_metrics,
        metadata,
        scraper,
        local,
    })
}

/// Waits until this replica leads; gives a token that is cancelled when it no longer does, or `None` when the start is
/// called off meanwhile.
async fn lead(
    ground: &Ground,
    loaded: &Loaded,
    options: &Options,
    environment: &Environment,
    cancel: &CancellationToken,
    undo: &mut Undo,
) -> Option<CancellationToken> {
    let replica = ground
        .records
        .replica(options.advertise.as_deref(), ground.address, &*environment.chance);
    let leadership = Leadership::new(ground.records.lease(), replica, Arc::clone(&environment.clock));
    let forward = LeaderForward::new(Arc::clone(&ground.transport), &loaded.config.server.ssl);
    let epoch = leadership
        .gain(cancel, |leader| {
            forward.lead_to(&leader.address);
            ground.server.stand_by(Arc::new(forward.clone()));
            ground.readiness.standing_by(leader.address.clone());
        })
        .await?;
    ground.readiness.starting("taking the lead");
    let lost = CancellationToken::new();
    let (keeping, lease_lost) = (CancellationToken::new(), lost.clone());
    let kept = keeping.clone();
    let task = tokio::spawn(async move {
        leadership.keep(epoch, &kept).await;
        lease_lost.cancel();
    });
    undo.push_task("lease", keeping, task);
    Some(lost)
}

/// Builds everything that judges and tells, and shows it.
async fn alerting(
    ground: Ground,
    loaded: Loaded,
    options: Options,
    environment: Environment,
    lost: CancellationToken,
    undo: &mut Undo,
) -> anyhow::Result<App> {
    let Environment { clock, chance, .. } = environment.clone();
    let Ground {
        server,
        address,
        readiness,
        registry,
        records,
        store,
        sink,
        access,
        transport,
        collect_metrics,
        metadata,
        scraper,
        local,
        external_url,
    } = ground;
    let alert_store: Arc<dyn AlertStore> = records.alerts();
    let outbox: Arc<dyn Outbox> = records.outbox();
    let source: Arc<dyn SeriesSource> = Arc::new(store.clone());
    // Two engines, so that nothing that dashboards ask pushes the rules' tables out.
    let engine = Arc::new(Engine::new(EngineConfig {
        timeout: loaded.config.server.query_timeout,
        ..Default::default()
    }));
    let query_engine = Arc::new(Engine::new(EngineConfig {
        timeout: loaded.config.server.query_timeout,
        samples_max: loaded.config.server.query_samples_max,
        bytes_max: loaded.config.server.query_bytes_max,
        // As the API counts: 11,000 steps and the moment that they begin at.
        steps_max: 11_001,
        ..Default::default()
    }));
    let (alerts, notifier);
    {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        alerts = Alerts::load(
            marketprism_alerts::Config {
                settle: awaited::settle(&loaded),
                ..loaded.alerts.clone()
            },
            Arc::clone(&alert_store),
            Arc::clone(&clock),
            Arc::clone(&chance),
            &mut registry,
        )?;
        notifier = Arc::new(Notifier::new(
            &loaded.channels,
            marketprism_notify::Links::new(&external_url),
            Arc::clone(&outbox),
            transport,
            Arc::new(SmtpClient::new(loaded.egress.clone())),
            Arc::clone(&clock),
            Arc::clone(&chance),
            registry.sub_registry_with_prefix("marketprism"),
        ));
    }
    // Before anything is delivered and before the first heartbeat: a process that died heard of them, and wrote nothing.
    for message in outbox.given_up_unheard(UNHEARD_MAX)? {
        alerts.undelivered(&message);
    }
    let cancel = CancellationToken::new();
    let task = tokio::spawn({
        let (notifier, cancel) = (Arc::clone(&notifier), cancel.clone());
        async move { notifier.run(cancel).await }
    });
    undo.push_task("notifications", cancel, task);
    let bell = notifier.bell();
    alerts.when_outbox_filled(move || bell.ring());
    let bell = notifier.bell();
    records.when_spooled(move || bell.ring());
    let deciding = Arc::clone(&alerts);
    notifier.when_given_up(move |message| deciding.undelivered(message));
    let cancel = CancellationToken::new();
    undo.push_task(
        "alerts",
        cancel.clone(),
        tokio::spawn(Arc::clone(&alerts).run(cancel)),
    );

    // A faulty rule file is named and left out at the start: half of the rules guard better than none.
    let rules = load_rules(&loaded);
    for error in &rules.errors {
        tracing::error!(error = %error, "rule file left out");
    }
    for warning in &rules.warnings {
        tracing::warn!(warning = %warning, "rule file");
    }
    let parts = RunnerParts {
        engine,
        source: Arc::clone(&source),
        sink: Arc::clone(&sink),
        lifecycle: Arc::clone(&alerts) as _,
        clock: Arc::clone(&clock),
        installation: installation(&loaded, &external_url),
        workers: loaded.config.performance.concurrency.evaluation_workers(),
    };
    let files = file_rules(&loaded, rules.set, &external_url);
    let (rule_store, book_clock, book_chance) = (records.rules(), Arc::clone(&clock), Arc::clone(&chance));
    let opened =
        tokio::task::spawn_blocking(move || Rulebook::open(rule_store, book_clock, book_chance, files))
            .await?;
    let (rulebook, set) = opened.context("rules made by API")?;
    let (rules, runner, reload_figures) = {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        let (rules, runner) = marketprism_rules::runner(set, parts, &mut registry);
        (rules, runner, Figures::register(&mut registry))
    };
    rulebook.attach(rules.clone());
    let cancel = CancellationToken::new();
    let runner = runner.waiting_for(awaited::has_data(&scraper));
    undo.push_task("rules", cancel.clone(), tokio::spawn(runner.run(cancel)));
    let work = RecordMaintenance {
        clock: Arc::clone(&clock),
        records: records.clone(),
        access: Arc::clone(&access),
        cleanup_interval: loaded.config.alert_manager.cleanup_interval.0,
        history_retention: loaded.config.alert_manager.history_retention.0,
    };
    let cancel = CancellationToken::new();
    undo.push_task(
        "record maintenance",
        cancel.clone(),
        tokio::spawn(maintenance::records(work, cancel)),
    );
    let watchdog = watchdog(&clock, &rules, &alerts, &notifier);
    let deliveries = shown::deliveries(&notifier);
    let rooms = Rooms {
        scraper: scraper.clone(),
        rulebook: Arc::clone(&rulebook),
        alerts: Arc::clone(&alerts),
        notifier,
        access,
        server: server.clone(),
        local,
        external_url,
    };
    let reloader = Arc::new(Reloader::new(
        options.clone(),
        environment,
        rooms,
        &loaded,
        reload_figures,
    ));
    let cancel = CancellationToken::new();
    let watching = config_watch::run(Arc::clone(&reloader), cancel.clone());
    undo.push_task("configuration files", cancel, tokio::spawn(watching));
    let remote_write = RemoteWriteReceiver::new(Limits::default(), collect_metrics, metadata.clone());
    let mut stats = shown::stats(&store, &alerts, &rules, &scraper);
    shown::join(&mut stats, "performance", deliveries);
    shown::join(&mut stats, "performance", shown::serving(&reloader));
    server.install(Parts {
        series: source,
        engine: query_engine,
        remote_write: Arc::new(remote_write),
        samples: sink,
        rules: Arc::new(move || rules.snapshot()),
        rulebook,
        targets: Arc::new(move || scraper.targets()),
        metadata,
        alerts: Arc::clone(&alerts),
        alert_store,
        outbox,
        watchdog: Arc::new(move || watchdog.verdict()),
        stats,
        reload: shown::reload(&reloader),
        config_yaml: shown::config_text(&reloader),
        runtime: shown::runtime(&reloader, &store, &loaded),
        head: shown::head(&store),
        flags: shown::flags(&options, address),
        host_name: host_name(),
        build: shown::build_info(),
    });
    readiness.ready();
    tracing::info!(address = %address, "ready");
    Ok(App {
        address,
        readiness,
        reloader,
        lost,
        undo: Undo::default(),
    })
}

/// Watches the loops whose standing still makes `/health` fail.
fn watchdog(
    clock: &Arc<dyn Clock>,
    rules: &RulesHandle,
    alerts: &Arc<Alerts>,
    notifier: &Arc<Notifier>,
) -> Watchdog {
    let watchdog = Watchdog::new(Arc::clone(clock));
    let (rules, alerts, notifier) = (rules.clone(), Arc::clone(alerts), Arc::clone(notifier));
    let loops: [(&'static str, TurnedAt); 3] = [
        ("the rule loop", Box::new(move || rules.turned_at())),
        ("the alert loop", Box::new(move || alerts.turned_at())),
        ("the delivery loop", Box::new(move || notifier.turned_at())),
    ];
    for (name, turned_at) in loops {
        watchdog.watch(name, LOOP_PATIENCE, turned_at);
    }
    watchdog
}

/// Gives the address that links lead to: as configured, or this machine's.
fn external_url(loaded: &Loaded, address: SocketAddr) -> String {
    let scheme = if loaded.config.server.ssl.enabled {
        "https"
    } else {
        "http"
    };
    match loaded.config.server.link_base() {
        "" if address.ip().is_unspecified() => format!("{scheme}://{}:{}", host_name(), address.port()),
        "" => format!("{scheme}://{address}"),
        configured => configured.to_owned(),
    }
}

/// Gives this machine's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SystemChance, SystemClock, SystemEntropy};
    use crate::config;

    /// Whoever was told to stop while the log was replayed became ready all the same, and ran on.
    #[tokio::test]
    async fn a_start_that_is_called_off_while_it_builds_ends_and_gives_everything_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let loaded = config::load(None, folder.path(), &|_| None).expect("the defaults are good");
        let options = Options {
            config: None,
            data_dir: folder.path().to_owned(),
            listen: Some("127.0.0.1:0".to_owned()),
            advertise: None,
        };
        let environment = Environment {
            clock: Arc::new(SystemClock::default()),
            chance: Arc::new(SystemChance::default()),
            entropy: Arc::new(SystemEntropy),
            transport: None,
            variable: Arc::new(|_| None),
            logging: crate::logging::Handle::default(),
        };
        let cancel = CancellationToken::new();
        cancel.cancel();
        let started = start_until(loaded, options, environment, &cancel).await;
        assert!(started.expect("no fault").is_none(), "it was called off");
        opening::lock_data(folder.path()).expect("the folder is free again");
    }
}

//! The entrance: builds every room from the ground up, and takes them down in reverse.
//!
//! One straight function; each line needs only the lines above it. What belongs to the domain is decided
//! in the rooms: here is only which room gets what.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use marketprism_alerts::Alerts;
use marketprism_collect::metadata::MetadataStore;
use marketprism_collect::remote_write::{Limits, RemoteWriteReceiver};
use marketprism_collect::{CollectMetrics, ScrapePlan, Scraper, ScraperParts};
use marketprism_model::{AlertStore, Clock, Outbox, SampleSink, SeriesSource};
use marketprism_net::smtp::SmtpClient;
use marketprism_net::{HttpClient, Transport};
use marketprism_notify::Notifier;
use marketprism_promql::{Engine, EngineConfig};
use marketprism_rules::RunnerParts;
use marketprism_server::{Parts, Readiness, Server};
use marketprism_state::Database;
use marketprism_storage::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::awaited;
use crate::config::Loaded;
pub use crate::environment::{Environment, Options};
use crate::local_sources::local_sources;
use crate::maintenance::{self, Maintenance};
use crate::metrics::{ProcessFigures, StoreFigures, registry};
use crate::reload::{Figures, Reloader, Rooms, installation, load_rules};
use crate::shown;
use crate::supervisor::Undo;
use crate::watchdog::Watchdog;

/// Scrapes at the same time.
const SCRAPES_MAX: usize = 64;
/// A loop that has not turned for this long is stuck; each turns every few seconds.
const LOOP_PATIENCE: Duration = Duration::from_secs(120);

/// The running program.
pub struct App {
    address: SocketAddr,
    readiness: Readiness,
    reloader: Arc<Reloader>,
    undo: Undo,
}

/// Starts everything; returns when the program is ready, or with the reason why it cannot be.
pub async fn start(loaded: Loaded, options: Options, environment: Environment) -> anyhow::Result<App> {
    let mut undo = Undo::default();
    match build(loaded, options, environment, &mut undo).await {
        Ok((address, readiness, reloader)) => Ok(App {
            address,
            readiness,
            reloader,
            undo,
        }),
        Err(error) => {
            undo.run().await;
            Err(error)
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

    /// Stops everything in reverse.
    pub async fn stop(self) {
        self.readiness.draining();
        self.undo.run().await;
        tracing::info!("stopped");
    }
}

/// Takes the data folder for this process alone; the lock ends with the process.
fn lock_data(folder: &Path) -> anyhow::Result<std::fs::File> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    let path = folder.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "{} is in use by another process; stop it, or give --data-dir another folder",
            folder.display()
        );
    }
    Ok(file)
}

async fn bind(loaded: &Loaded, options: &Options) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listen = options.listen.as_deref().unwrap_or(&loaded.config.server.listen);
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; choose another address with --listen"))?;
    let address = listener.local_addr().context("the listener has no address")?;
    Ok((listener, address))
}

/// Opens the records and the samples off the async threads; the log may take a while to replay.
async fn open_stores(
    loaded: &Loaded,
    options: &Options,
    clock: &Arc<dyn Clock>,
    readiness: &Readiness,
) -> anyhow::Result<(Arc<Database>, Store)> {
    let records_path = options.data_dir.join("records.db");
    let storage = loaded.storage.clone();
    let (clock, readiness) = (Arc::clone(clock), readiness.clone());
    let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let records = Database::open(&records_path)?;
        let store = Store::open(storage, clock, &|progress| {
            let percent = 100 * progress.segments / progress.segments_total.max(1);
            readiness.starting(format!("replaying the log, {percent} %"));
        })?;
        Ok((Arc::new(records), store))
    });
    let (records, store) = opened.await.context("opening the stores")??;
    report_replay(&store);
    Ok((records, store))
}

fn report_replay(store: &Store) {
    let stats = store.stats();
    for lost in &stats.replay.lost {
        tracing::error!(
            segment = lost.segment,
            offset = lost.offset,
            bytes = lost.bytes,
            error = lost.reason,
            "a part of the log is damaged; its samples are lost, the file is kept as *.quarantined"
        );
    }
    for block in &stats.damaged_blocks {
        tracing::error!(
            block = block.name,
            error = block.reason,
            "a block is damaged and left out"
        );
    }
    tracing::info!(
        series = stats.series,
        samples = stats.replay.samples,
        "log replayed"
    );
}

async fn build(
    loaded: Loaded,
    options: Options,
    environment: Environment,
    undo: &mut Undo,
) -> anyhow::Result<(SocketAddr, Readiness, Arc<Reloader>)> {
    let Environment { clock, chance, .. } = environment.clone();
    for remark in &loaded.remarks {
        tracing::warn!(remark, "configuration");
    }
    let lock = lock_data(&options.data_dir)?;
    undo.push("data folder", async move { drop(lock) });

    // The port is taken first, so that probes are answered while the log is replayed.
    let (listener, address) = bind(&loaded, &options).await?;
    let readiness = Readiness::default();
    let server = Server::new(
        loaded.config.server.clone(),
        Arc::clone(&clock),
        Arc::clone(&chance),
        readiness.clone(),
    );
    let serving = CancellationToken::new();
    let task = tokio::spawn(server.clone().serve(listener, serving.clone()));
    undo.push_task("server", serving, task);
    tracing::info!(address = %address, "listening");

    let registry = registry();
    let (records, store) = open_stores(&loaded, &options, &clock, &readiness).await?;
    let closing = store.clone();
    undo.push("samples", async move {
        let closed = tokio::task::spawn_blocking(move || closing.shutdown()).await;
        if let Ok(Err(error)) = closed {
            tracing::error!(error = %error, "the log was not closed");
        }
    });
    let alert_store: Arc<dyn AlertStore> = Arc::clone(&records) as _;
    let outbox: Arc<dyn Outbox> = Arc::clone(&records) as _;
    let sink: Arc<dyn SampleSink> = Arc::new(store.clone());
    let source: Arc<dyn SeriesSource> = Arc::new(store.clone());

    let egress = loaded.egress.clone();
    let transport: Arc<dyn Transport> = match &environment.transport {
        Some(transport) => Arc::clone(transport),
        None => Arc::new(HttpClient::new(egress.clone())),
    };
    let engine = Arc::new(Engine::new(EngineConfig {
        timeout: loaded.config.server.query_timeout,
        ..Default::default()
    }));
    let external_url = external_url(&loaded, address);
    let metadata = MetadataStore::default();
    let (alerts, notifier, collect_metrics);
    {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        server.metrics().register(&mut registry);
        registry.register_collector(Box::new(StoreFigures(store.clone())));
        registry.register_collector(Box::new(ProcessFigures::new(Arc::clone(&clock))));
        collect_metrics = CollectMetrics::register(&mut registry);
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
            Arc::clone(&transport),
            Arc::new(SmtpClient::new(egress)),
            Arc::clone(&clock),
            Arc::clone(&chance),
            registry.sub_registry_with_prefix("marketprism"),
        ));
    }
    let cancel = CancellationToken::new();
    let task = tokio::spawn({
        let (notifier, cancel) = (Arc::clone(&notifier), cancel.clone());
        async move { notifier.run(cancel).await }
    });
    undo.push_task("notifications", cancel, task);
    let bell = notifier.bell();
    alerts.when_outbox_filled(move || bell.ring());
    let deciding = Arc::clone(&alerts);
    notifier.when_given_up(move |message| deciding.undelivered(message));
    let cancel = CancellationToken::new();
    undo.push_task(
        "alerts",
        cancel.clone(),
        tokio::spawn(Arc::clone(&alerts).run(cancel)),
    );

    let cancel = CancellationToken::new();
    let (scraper, task) = Scraper::start(
        ScraperParts {
            clock: Arc::clone(&clock),
            transport,
            sink: Arc::clone(&sink),
            metrics: collect_metrics.clone(),
            metadata: metadata.clone(),
            concurrency: SCRAPES_MAX,
            offset_seed: chance.next_u64(),
        },
        cancel.clone(),
    );
    undo.push_task("scraping", cancel, task);
    let local = local_sources(&loaded.config, &host_name(), &registry, &clock);
    scraper
        .apply(ScrapePlan {
            pools: loaded.pools.clone(),
            local: local.clone(),
        })
        .await?;

    // A faulty rule file is named and left out at the start: half of the rules guard better than none.
    let rules = load_rules(&loaded);
    for error in &rules.errors {
        tracing::error!(error = %error, "rule file left out");
    }
    for warning in &rules.warnings {
        tracing::warn!(warning = %warning, "rule file");
    }
    let parts = RunnerParts {
        engine: Arc::clone(&engine),
        source: Arc::clone(&source),
        sink: Arc::clone(&sink),
        lifecycle: Arc::clone(&alerts) as _,
        clock: Arc::clone(&clock),
        installation: installation(&loaded, &external_url),
        workers: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let (rules, runner, reload_figures) = {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        let (rules, runner) = marketprism_rules::runner(rules.set, parts, &mut registry);
        (rules, runner, Figures::register(&mut registry))
    };
    let cancel = CancellationToken::new();
    let runner = runner.waiting_for(awaited::has_data(&scraper));
    undo.push_task("rules", cancel.clone(), tokio::spawn(runner.run(cancel)));
    let work = Maintenance {
        clock: Arc::clone(&clock),
        store: store.clone(),
        records: Arc::clone(&alert_store),
        cleanup_interval: loaded.config.alert_manager.cleanup_interval.0,
        history_retention: loaded.config.alert_manager.history_retention.0,
    };
    let cancel = CancellationToken::new();
    undo.push_task(
        "maintenance",
        cancel.clone(),
        tokio::spawn(maintenance::run(work, cancel)),
    );

    let watchdog = Watchdog::new(Arc::clone(&clock));
    let handle = rules.clone();
    watchdog.watch(
        "the rule loop",
        LOOP_PATIENCE,
        Box::new(move || handle.turned_at()),
    );
    let handle = Arc::clone(&alerts);
    watchdog.watch(
        "the alert loop",
        LOOP_PATIENCE,
        Box::new(move || handle.turned_at()),
    );
    let handle = Arc::clone(&notifier);
    watchdog.watch(
        "the delivery loop",
        LOOP_PATIENCE,
        Box::new(move || handle.turned_at()),
    );
    let rooms = Rooms {
        scraper: scraper.clone(),
        rules: rules.clone(),
        alerts: Arc::clone(&alerts),
        notifier,
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
    let remote_write = RemoteWriteReceiver::new(Limits::default(), collect_metrics, metadata.clone());
    let stats = shown::stats(&store, &alerts, &rules, &scraper);
    server.install(Parts {
        series: source,
        engine,
        remote_write: Arc::new(remote_write),
        samples: sink,
        rules: Arc::new(move || rules.snapshot()),
        targets: Arc::new(move || scraper.targets()),
        metadata,
        alerts: Arc::clone(&alerts),
        alert_store,
        outbox,
        metrics: shown::metrics_text(&registry),
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
    Ok((address, readiness, reloader))
}

/// Gives the address that links lead to: as configured, or this machine's.
fn external_url(loaded: &Loaded, address: SocketAddr) -> String {
    match loaded.config.server.link_base() {
        "" if address.ip().is_unspecified() => format!("http://{}:{}", host_name(), address.port()),
        "" => format!("http://{address}"),
        configured => configured.to_owned(),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

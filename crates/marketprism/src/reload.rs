//! Reading everything anew while running: all or nothing.
//!
//! Whatever can be judged is judged before anything is applied. With any fault the running configuration
//! stays as it is, and both the log and a metric say so. What is applied then cannot fail but for a room that has
//! ended, which happens while the program stops.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use marketprism_access::Access;
use marketprism_alerts::{Alerts, StartError};
use marketprism_collect::scrape::LocalSource;
use marketprism_collect::{ScrapePlan, Scraper};
use marketprism_model::{Clock, Timestamp};
use marketprism_notify::Notifier;
use marketprism_rules::{
    FileRules, GroupDefaults, Installation, Loaded as LoadedRules, RuleFileError, RuleSet, Rulebook,
};
use marketprism_server::Server;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::config::{self, Loaded, Snapshot, Watched};
use crate::environment::{Environment, Options};
use crate::first_start;
use crate::records::require_shared_key;

/// The rooms that take a new configuration.
pub struct Rooms {
    /// Targets.
    pub scraper: Scraper,
    /// Rules.
    pub rulebook: Arc<Rulebook>,
    /// Grouping and pace.
    pub alerts: Arc<Alerts>,
    /// Channels.
    pub notifier: Arc<Notifier>,
    /// Who gets in.
    pub access: Arc<Access>,
    /// Certificates, and answers that are kept.
    pub server: Server,
    /// What the program scrapes of itself; fixed at the start.
    pub local: Vec<LocalSource>,
    /// The address that links lead to.
    pub external_url: String,
}

/// Reads anew, and remembers how that went.
pub struct Reloader {
    options: Options,
    environment: Environment,
    rooms: Rooms,
    state: Arc<Mutex<State>>,
    watching: Mutex<Watching>,
    turn: Arc<tokio::sync::Mutex<()>>,
    figures: Figures,
    /// What was read at the start only.
    fixed: Vec<(&'static str, String)>,
}

/// The configuration that runs, and how the last reading went.
#[derive(Clone)]
pub struct State {
    /// The text of the file that runs.
    pub text: Arc<str>,
    /// When it was read.
    pub read_at: Timestamp,
    /// Whether the last reading succeeded.
    pub is_current: bool,
}

/// Where changes are looked for, and what stood there at the last reading, whether it succeeded or not.
#[derive(Clone, Default)]
pub struct Watching {
    /// The files.
    pub watched: Watched,
    /// Their contents.
    pub snapshot: Snapshot,
    /// How often they are looked at; zero for never.
    pub interval: Duration,
}

/// Why a reading takes place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Trigger {
    /// SIGHUP.
    Signal,
    /// `POST /-/reload`.
    Http,
    /// A file has changed.
    File,
}

/// The labels of a reading.
type Reading = [(&'static str, &'static str); 2];

fn reading(trigger: Trigger, is_success: bool) -> Reading {
    let trigger = match trigger {
        Trigger::Signal => "signal",
        Trigger::Http => "http",
        Trigger::File => "file",
    };
    let outcome = if is_success { "success" } else { "failure" };
    [("trigger", trigger), ("outcome", outcome)]
}

/// What is counted about readings.
#[derive(Clone, Default)]
pub struct Figures {
    is_current: Gauge,
    read_at: Gauge,
    readings: Family<Reading, Counter>,
}

impl Figures {
    /// Makes the figures known.
    pub fn register(registry: &mut Registry) -> Self {
        let figures = Figures::default();
        registry.register(
            "marketprism_config_last_reload_successful",
            "Whether the last reading of the configuration succeeded",
            figures.is_current.clone(),
        );
        registry.register(
            "marketprism_config_last_reload_success_timestamp_seconds",
            "When the configuration that runs was read",
            figures.read_at.clone(),
        );
        registry.register(
            "marketprism_config_reloads",
            "Readings of the configuration after the start, by what asked for them and how they ended",
            figures.readings.clone(),
        );
        for trigger in [Trigger::Signal, Trigger::Http, Trigger::File] {
            for is_success in [true, false] {
                drop(figures.readings.get_or_create(&reading(trigger, is_success)));
            }
        }
        figures
    }
}

impl Reloader {
    /// Takes what the start has built; the configuration that runs is `started_with`.
    pub fn new(
        options: Options,
        environment: Environment,
        rooms: Rooms,
        started_with: &Loaded,
        figures: Figures,
    ) -> Self {
        let read_at = environment.clock.now();
        figures.is_current.set(1);
        figures.read_at.set(read_at.millis() / 1000);
        let state = Arc::new(Mutex::new(State {
            text: Arc::from(started_with.text.as_str()),
            read_at,
            is_current: true,
        }));
        Reloader {
            options,
            environment,
            rooms,
            state,
            watching: Mutex::new(watching_of(started_with)),
            turn: Arc::default(),
            figures,
            fixed: started_with.config.fixed(),
        }
    }

    /// Gives whom to ask what runs; it holds none of the rooms, some of which hold it.
    pub fn state(&self) -> impl Fn() -> State + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move || state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says where changes are to be looked for.
    pub fn watching(&self) -> Watching {
        self.watching
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Gives the clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.environment.clock)
    }

    /// Gives the server, whose figures are shown.
    pub fn server(&self) -> &Server {
        &self.rooms.server
    }

    fn watch(&self, watching: Watching) {
        *self.watching.lock().unwrap_or_else(PoisonError::into_inner) = watching;
    }

    /// Reads anew because a signal came, see [`Reloader::reload_for`].
    pub async fn reload(self: &Arc<Self>) -> Result<(), String> {
        self.reload_for(Trigger::Signal).await
    }

    /// Reads configuration and rules and puts them in force; the error says why nothing changed.
    ///
    /// Readings take turns. One that has begun goes to its end though whoever asked for it leaves, so that never half
    /// of a configuration is in force.
    pub async fn reload_for(self: &Arc<Self>, trigger: Trigger) -> Result<(), String> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let this = Arc::clone(self);
        let reading = tokio::spawn(async move {
            let _turn = turn;
            this.read_anew(trigger).await
        });
        reading.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn read_anew(&self, trigger: Trigger) -> Result<(), String> {
        let outcome = self.attempt().await;
        let counted = reading(trigger, outcome.is_ok());
        self.figures.readings.get_or_create(&counted).inc();
        let now = self.environment.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(text) => {
                *state = State {
                    text: Arc::from(text),
                    read_at: now,
                    is_current: true,
                };
                self.figures.is_current.set(1);
                self.figures.read_at.set(now.millis() / 1000);
                tracing::info!("configuration reloaded");
                Ok(())
            }
            Err(reason) => {
                state.is_current = false;
                self.figures.is_current.set(0);
                tracing::error!(
                    error = reason,
                    "configuration not reloaded; the running one stays"
                );
                Err(reason)
            }
        }
    }

    async fn attempt(&self) -> Result<String, String> {
        let (options, variable) = (self.options.clone(), Arc::clone(&self.environment.variable));
        let before = self.watching();
        let read = move || -> Result<(Loaded, LoadedRules), Box<(String, Watching)>> {
            let Watching {
                mut watched,
                snapshot,
                interval,
            } = before;
            // What changes while it is read shall be read again.
            let snapshot = snapshot.again(&watched);
            match config::load(options.config.as_deref(), &options.data_dir, &*variable) {
                Ok(loaded) => {
                    let rules = load_rules(&loaded);
                    Ok((loaded, rules))
                }
                Err(error) => {
                    watched.extend(&error.watched);
                    let watching = Watching {
                        snapshot: snapshot.with_new(&watched),
                        watched,
                        interval,
                    };
                    Err(Box::new((error.to_string(), watching)))
                }
            }
        };
        let read = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| error.to_string())?;
        let (loaded, rules) = read.map_err(|refused| {
            let (reason, watching) = *refused;
            self.watch(watching);
            reason
        })?;
        self.watch(watching_of(&loaded));
        require_shared_key(&loaded, Arc::clone(&self.environment.variable))?;
        if !rules.errors.is_empty() {
            return Err(words(&rules.errors));
        }
        for remark in &loaded.remarks {
            tracing::warn!(remark, "configuration");
        }
        for (before, now) in self.fixed.iter().zip(loaded.config.fixed()) {
            if *before != now {
                let remark = format!(
                    "{} differs from what was read at the start; restart to put it in force",
                    now.0
                );
                tracing::warn!(remark, "configuration");
            }
        }
        self.apply(loaded, rules).await
    }

    async fn apply(&self, loaded: Loaded, rules: LoadedRules) -> Result<String, String> {
        let rooms = &self.rooms;
        loaded
            .alerts
            .validate()
            .map_err(|error| format!("notification_manager.{error}"))?;
        let signing_key =
            first_start::signing_key(&loaded, &self.options.data_dir, &*self.environment.entropy)
                .map_err(|error| format!("{error:#}"))?;
        let (server, ssl) = (rooms.server.clone(), loaded.config.server.ssl.clone());
        let renewed = tokio::task::spawn_blocking(move || server.renew_tls(&ssl)).await;
        renewed
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        self.environment.logging.set(&loaded.config.logging);
        rooms.server.set_cache(loaded.config.server.cache);
        rooms
            .access
            .set_config(&loaded.config.security.access(), signing_key);
        let files = file_rules(&loaded, rules.set, &rooms.external_url);
        rooms.notifier.set_channels(&loaded.channels);
        let (alerts, settings) = (Arc::clone(&rooms.alerts), loaded.alerts.clone());
        let set = tokio::task::spawn_blocking(move || alerts.set_config(settings)).await;
        match set.map_err(|error| error.to_string())? {
            // The settings stand and the records follow; a full disk must not leave a reload half done.
            Err(StartError::Store(error)) => {
                tracing::warn!(error = %error, "records of the new settings are written with the next tick");
            }
            set => set.map_err(|error| error.to_string())?,
        }
        let plan = ScrapePlan {
            pools: loaded.pools,
            local: rooms.local.clone(),
        };
        rooms
            .scraper
            .apply(plan)
            .await
            .map_err(|error| error.to_string())?;
        let replaced = rooms.rulebook.set_files(files).await;
        replaced.map_err(|error| error.to_string())?;
        Ok(loaded.text)
    }
}

fn watching_of(loaded: &Loaded) -> Watching {
    Watching {
        watched: loaded.watched.clone(),
        snapshot: loaded.snapshot.clone(),
        interval: loaded.config.config.watch_interval.0,
    }
}

/// Reads the rule files and the rules inside, as the configuration says.
pub fn load_rules(loaded: &Loaded) -> LoadedRules {
    let manager = &loaded.config.alert_manager;
    if !manager.enabled {
        return LoadedRules::default();
    }
    let embedded = if manager.default_rules {
        marketprism_rules::defaults()
    } else {
        &[]
    };
    let defaults = group_defaults(loaded);
    marketprism_rules::load(&loaded.config.rule_files, &loaded.folder, embedded, &defaults)
}

/// Gives what a group has that names nothing else.
fn group_defaults(loaded: &Loaded) -> GroupDefaults {
    GroupDefaults {
        interval: loaded.config.evaluation_interval(),
        query_offset: loaded.config.global.rule_query_offset.unwrap_or_default(),
    }
}

/// Gives the rules of files as the rules made by API join them.
pub fn file_rules(loaded: &Loaded, set: RuleSet, external_url: &str) -> FileRules {
    FileRules {
        set,
        defaults: group_defaults(loaded),
        installation: installation(loaded, external_url),
        is_on: loaded.config.alert_manager.enabled,
    }
}

/// Gives what templates may say about this installation.
pub fn installation(loaded: &Loaded, external_url: &str) -> Installation {
    Installation {
        external_labels: loaded.config.global.external_labels.clone(),
        external_url: external_url.to_owned(),
    }
}

/// Writes faults of rule files, one a line.
pub fn words(errors: &[RuleFileError]) -> String {
    let lines: Vec<String> = errors.iter().map(RuleFileError::to_string).collect();
    lines.join("\n")
}

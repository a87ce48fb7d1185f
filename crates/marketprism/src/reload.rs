//! Reading everything anew while running: all or nothing.
//!
//! Whatever can be judged is judged before anything is applied. With any fault the running configuration
//! stays as it is, and both the log and a metric say so.

use std::sync::{Arc, Mutex, PoisonError};

use marketprism_alerts::{Alerts, StartError};
use marketprism_collect::scrape::LocalSource;
use marketprism_collect::{ScrapePlan, Scraper};
use marketprism_model::Timestamp;
use marketprism_notify::Notifier;
use marketprism_rules::{
    GroupDefaults, Installation, Loaded as LoadedRules, ReplaceError, RuleFileError, RulesHandle,
};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::config::{self, Loaded};
use crate::environment::{Environment, Options};

/// The rooms that take a new configuration.
pub struct Rooms {
    /// Targets.
    pub scraper: Scraper,
    /// Rules.
    pub rules: RulesHandle,
    /// Grouping and pace.
    pub alerts: Arc<Alerts>,
    /// Channels.
    pub notifier: Arc<Notifier>,
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
    state: Mutex<State>,
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

/// What is counted about readings.
#[derive(Clone, Default)]
pub struct Figures {
    is_current: Gauge,
    read_at: Gauge,
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
        let state = Mutex::new(State {
            text: Arc::from(started_with.text.as_str()),
            read_at,
            is_current: true,
        });
        Reloader {
            options,
            environment,
            rooms,
            state,
            turn: Arc::default(),
            figures,
            fixed: started_with.config.fixed().into(),
        }
    }

    /// Says what runs.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads configuration and rules and puts them in force; the error says why nothing changed.
    ///
    /// Readings take turns. One that has begun goes to its end though whoever asked for it leaves, so that never half
    /// of a configuration is in force.
    pub async fn reload(self: &Arc<Self>) -> Result<(), String> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let this = Arc::clone(self);
        let reading = tokio::spawn(async move {
            let _turn = turn;
            this.read_anew().await
        });
        reading.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn read_anew(&self) -> Result<(), String> {
        let outcome = self.attempt().await;
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
        let read = move || -> Result<(Loaded, LoadedRules), String> {
            let loaded = config::load(options.config.as_deref(), &options.data_dir, &*variable)
                .map_err(|error| error.to_string())?;
            let rules = load_rules(&loaded);
            Ok((loaded, rules))
        };
        let read = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| error.to_string())?;
        let (loaded, rules) = read?;
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
        let installation = installation(&loaded, &rooms.external_url);
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
        match rooms.rules.replace(rules.set, installation).await {
            Err(ReplaceError::Lifecycle(error)) => {
                tracing::warn!(error = %error, "the new rules run; alerts of removed ones end with the next tick");
            }
            replaced => replaced.map_err(|error| error.to_string())?,
        }
        Ok(loaded.text)
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
    let defaults = GroupDefaults {
        interval: loaded.config.evaluation_interval(),
        query_offset: loaded.config.global.rule_query_offset.unwrap_or_default(),
    };
    marketprism_rules::load(&loaded.config.rule_files, &loaded.folder, embedded, &defaults)
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

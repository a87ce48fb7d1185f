//! A whole server in this process: records and samples in memory, a port given by the system.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use marketprism_access::{Access, ApiAuth};
use marketprism_alerts::{Alerts, ChannelRoute, Receiver};
use marketprism_collect::CollectMetrics;
use marketprism_collect::metadata::MetadataStore;
use marketprism_collect::remote_write::{Limits, RemoteWriteReceiver};
use marketprism_collect::scrape::TargetsSnapshot;
use marketprism_model::sample::Durability;
use marketprism_model::{
    Alert, AlertStore as _, Chance, Clock, Condition, Entropy, Id, Labels, Level, Lifecycle as _,
    Observation, Outbox, RefSample, RuleContext, RuleId, SampleSink as _, Secret, Timestamp, Verdict,
};
use marketprism_promql::{Engine, EngineConfig};
use marketprism_rules::{
    FileRules, GroupDefaults, GroupSnapshot, Health, RuleSnapshot, Rulebook, RulesSnapshot, parse_file,
};
use marketprism_server::{BuildInfo, Config, HeadFigures, Parts, Readiness, RuntimeInfo, Server};
use marketprism_state::Database;
use marketprism_storage::Store;
use marketprism_testkit::{ManualClock, SeededChance};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// 2026-08-01T09:30:00Z.
pub const START: Timestamp = Timestamp::from_millis(1_785_576_600_000);

/// Signs the sessions of every rig.
pub const JWT_SECRET: &str = "a secret of the tests, long enough for HS256";

/// Secrets that a seed repeats; only for tests.
struct SeededEntropy(SeededChance);

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.0.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Settings under which nobody is asked who they are.
pub fn open_house() -> marketprism_access::Config {
    marketprism_access::Config {
        api_auth: ApiAuth {
            enabled: false,
            ..ApiAuth::default()
        },
        ..marketprism_access::Config::default()
    }
}

/// The rooms behind a server.
#[derive(Clone)]
pub struct Rooms {
    pub clock: ManualClock,
    pub store: Arc<Store>,
    pub records: Arc<Database>,
    pub alerts: Arc<Alerts>,
    pub rules: Arc<RulesSnapshot>,
    pub rulebook: Arc<Rulebook>,
    pub targets: Arc<TargetsSnapshot>,
    pub metadata: MetadataStore,
    pub is_stalled: Arc<AtomicBool>,
    pub may_reload: Arc<AtomicBool>,
}

impl Rooms {
    /// Makes empty rooms that begin at `start`.
    pub fn new(start: Timestamp) -> Self {
        let clock = ManualClock::new(start);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let records = Arc::new(Database::in_memory().expect("memory is there"));
        let mut config = marketprism_alerts::Config {
            settle: Duration::ZERO,
            receivers: vec![Receiver {
                name: "default".to_owned(),
                channels: vec![ChannelRoute::new("mail", true)],
            }],
            ..marketprism_alerts::Config::default()
        };
        config.route.group_wait = Some(Duration::ZERO);
        let alerts = Alerts::load(
            config,
            records.clone(),
            Arc::clone(&shared),
            Arc::new(SeededChance::new(1)),
            &mut Registry::default(),
        )
        .expect("the records are empty and the settings valid");
        let files = FileRules {
            is_on: true,
            ..FileRules::default()
        };
        let chance = Arc::new(SeededChance::new(5));
        let opened = Rulebook::open(records.clone(), Arc::clone(&shared), chance, files);
        let (rulebook, _) = opened.expect("the records are empty");
        Rooms {
            rulebook,
            store: Arc::new(Store::in_memory(shared)),
            records,
            alerts,
            clock,
            rules: Arc::default(),
            targets: Arc::default(),
            metadata: MetadataStore::default(),
            is_stalled: Arc::default(),
            may_reload: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Opens the records of who may ask what.
    pub fn access(&self, config: &marketprism_access::Config) -> Arc<Access> {
        let parts = marketprism_access::Parts {
            store: self.records.clone(),
            clock: Arc::new(self.clock.clone()),
            chance: Arc::new(SeededChance::new(11)),
            entropy: Arc::new(SeededEntropy(SeededChance::new(13))),
        };
        let secret = Secret::new(JWT_SECRET);
        Arc::new(Access::open(config, secret, parts, &mut Registry::default()))
    }

    /// Gives what the binary would hand over.
    pub fn parts(&self) -> Parts {
        let rooms = self.clone();
        let rules = Arc::clone(&self.rules);
        let collect = CollectMetrics::default();
        let ask_reload = Arc::clone(&self.may_reload);
        let stalled = Arc::clone(&self.is_stalled);
        Parts {
            series: self.store.clone(),
            engine: Arc::new(Engine::new(EngineConfig {
                steps_max: 11_001,
                ..EngineConfig::default()
            })),
            remote_write: Arc::new(RemoteWriteReceiver::new(
                Limits::default(),
                collect,
                self.metadata.clone(),
            )),
            samples: self.store.clone(),
            rules: Arc::new(move || Arc::clone(&rules)),
            rulebook: Arc::clone(&self.rulebook),
            targets: Arc::new(move || Arc::clone(&rooms.targets)),
            metadata: self.metadata.clone(),
            alerts: Arc::clone(&self.alerts),
            alert_store: self.records.clone(),
            outbox: self.records.clone(),
            watchdog: Arc::new(move || match stalled.load(Ordering::Relaxed) {
                true => Err("the rule loop stands still since 90 s".to_owned()),
                false => Ok(()),
            }),
            stats: BTreeMap::from([
                (
                    "storage",
                    Arc::new(
                        || json!({ "series": 12, "wal_bytes": 4096, "oldest": START.millis(), "wal_last_error": null }),
                    ) as _,
                ),
                ("alerts", Arc::new(|| json!({ "firing": 1 })) as _),
                (
                    "performance",
                    Arc::new(|| json!({ "cpu_seconds_total": 0.5, "uptime_seconds": 7500 })) as _,
                ),
            ]),
            reload: Arc::new(move || {
                let may = ask_reload.load(Ordering::Relaxed);
                Box::pin(async move {
                    match may {
                        true => Ok(()),
                        false => Err("config.yaml line 3: unknown key \"rulez\"".to_owned()),
                    }
                })
            }),
            config_yaml: Arc::new(|| "global: {}\n".to_owned()),
            runtime: Arc::new(|| RuntimeInfo {
                working_directory: "/app".to_owned(),
                is_config_current: true,
                config_read_at: START,
                corruption_count: 0,
                storage_retention: "30d".to_owned(),
            }),
            head: Arc::new(HeadFigures::default),
            flags: BTreeMap::from([("web.listen-address".to_owned(), "0.0.0.0:8082".to_owned())]),
            host_name: "testhost".to_owned(),
            build: BuildInfo {
                version: "0.1.0".to_owned(),
                revision: "unknown".to_owned(),
                compiler: "rustc".to_owned(),
                built_at: String::new(),
            },
        }
    }

    /// Stores samples of one series, `(seconds before now, value)`, oldest first.
    pub fn append(&self, labels: &Labels, samples: &[(u64, f64)]) {
        let now = self.clock.now();
        let at = |age_s| now - Duration::from_secs(age_s);
        let samples: Vec<_> = samples
            .iter()
            .map(|(age_s, value)| (at(*age_s).millis(), *value))
            .collect();
        self.append_at(labels, &samples);
    }

    /// Stores samples of one series, `(milliseconds since the epoch, value)`, oldest first.
    pub fn append_at(&self, labels: &Labels, samples: &[(i64, f64)]) {
        let series = self.store.resolve(labels).expect("the labels are good");
        let samples: Vec<_> = samples
            .iter()
            .map(|(millis, value)| RefSample {
                series,
                timestamp: Timestamp::from_millis(*millis),
                value: *value,
            })
            .collect();
        let appended = self
            .store
            .append(&samples, Durability::Interval)
            .expect("memory takes them");
        assert_eq!(appended.accepted, samples.len(), "{appended:?}");
    }

    /// Lets one rule see something wrong now, through the real lifecycle; gives the alert's id.
    pub fn raise(
        &self,
        name: &str,
        level: Level,
        hold_for: Duration,
        pairs: &[(&str, &str)],
        value: f64,
    ) -> Id {
        let mut labels = Labels::from_pairs(pairs.iter().copied()).to_builder();
        labels.set("alertname", name);
        if labels.get("severity").is_none() {
            labels.set("severity", level.as_str());
        }
        let labels = labels.build();
        let rule = RuleContext {
            id: RuleId::new(name, &labels, 0),
            name: Arc::from(name),
            group: Arc::from("host"),
            file: Arc::from("rules/host.yml"),
            expr: Arc::from("up == 0"),
            conditions: vec![Condition {
                level: None,
                hold_for,
                keep_firing_for: Duration::ZERO,
                unknown_max: None,
            }],
            interval: Duration::from_secs(30),
        };
        let observation = Observation {
            labels: labels.clone(),
            value,
            annotations: Labels::from_pairs([
                (
                    "summary",
                    format!("{name} on {}", labels.get("instance").unwrap_or("?")),
                ),
                ("runbook_url", "https://runbooks.example/x".to_owned()),
            ]),
            verdicts: vec![Verdict::Holds],
        };
        let now = self.clock.now();
        self.alerts
            .observe(&rule, now, vec![observation])
            .expect("one observation");
        self.alerts.commit(now).expect("memory takes it");
        let active = self.alerts.active();
        let found = active.iter().find(|alert| alert.labels == labels);
        found.expect("it was observed just now").id
    }

    /// Reads one alert from the records.
    pub fn alert(&self, id: Id) -> Alert {
        self.records
            .alert(id)
            .expect("memory answers")
            .expect("the alert was raised")
    }

    /// Decides who hears of what fires now.
    pub fn flush(&self) {
        self.alerts.flush(self.clock.now()).expect("memory takes it");
    }

    /// Gives the moment that the clock shows.
    pub fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Gives the outbox.
    pub fn outbox(&self) -> &dyn Outbox {
        &*self.records
    }
}

/// A server that runs until the rig is dropped.
pub struct Rig {
    pub server: Server,
    pub address: SocketAddr,
    pub rooms: Rooms,
    pub readiness: Readiness,
    pub cancel: CancellationToken,
    pub serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Rig {
    /// Starts a ready server over empty rooms that asks nobody who they are.
    pub async fn start() -> Self {
        Rig::start_with(Config::default(), Rooms::new(START)).await
    }

    /// Starts a ready server that asks nobody who they are.
    pub async fn start_with(config: Config, rooms: Rooms) -> Self {
        let rig = Rig::bare(config, rooms).await;
        rig.server.install_metrics(figures(""));
        rig.server.install(rig.rooms.parts());
        rig.readiness.ready();
        rig
    }

    /// Starts a ready server that asks everybody who they are; gives what decides it.
    pub async fn guarded(config: Config, access: &marketprism_access::Config) -> (Self, Arc<Access>) {
        let rig = Rig::unborn(config, Rooms::new(START)).await;
        let access = rig.rooms.access(access);
        rig.server.install_access(Arc::clone(&access));
        rig.server.install_metrics(figures(""));
        rig.server.install(rig.rooms.parts());
        rig.readiness.ready();
        (rig, access)
    }

    /// Starts a server that has no rooms yet and asks nobody who they are.
    pub async fn bare(config: Config, rooms: Rooms) -> Self {
        let rig = Rig::unborn(config, rooms).await;
        rig.server.install_access(rig.rooms.access(&open_house()));
        rig
    }

    /// Starts a server that knows nothing yet.
    pub async fn unborn(config: Config, rooms: Rooms) -> Self {
        config.validate().expect("the test's settings are valid");
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback gives ports");
        let address = listener.local_addr().expect("it is bound");
        let readiness = Readiness::default();
        let clock: Arc<dyn Clock> = Arc::new(rooms.clock.clone());
        let server = Server::new(config, clock, Arc::new(SeededChance::new(7)), readiness.clone());
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(server.clone().serve(listener, cancel.clone()));
        Rig {
            server,
            address,
            rooms,
            readiness,
            cancel,
            serving,
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Makes labels.
pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// Makes groups of one rule with levels each; the last one's rule fails with `error`.
pub fn groups(count: usize, error: &str) -> RulesSnapshot {
    let group = |number: usize| {
        let text = format!(
            "groups: [{{name: group {number}, interval: 30s, rules: [{{alert: Busy, expr: cpu, \
             levels: [{{level: critical, when: \"> 95\", for: 2m, recover: \"< 90\"}}]}}]}}]"
        );
        let file = parse_file("rules/busy.yml", text.as_bytes(), &GroupDefaults::default());
        let spec = file.expect("the rules are valid").groups.remove(0);
        let has_failed = number + 1 == count;
        let rules = spec.rules.iter().map(|rule| RuleSnapshot {
            rule: Arc::clone(rule),
            health: if has_failed { Health::Err } else { Health::Ok },
            last_error: has_failed.then(|| Arc::from(error)),
            last_evaluation: None,
            evaluation_time: Duration::ZERO,
            series: 0,
            missing: 0,
            alerts: Vec::new().into(),
        });
        Arc::new(GroupSnapshot {
            last_evaluation: None,
            evaluation_time: Duration::ZERO,
            iterations: 0,
            missed: 0,
            rules: rules.collect(),
            spec: Arc::new(spec),
        })
    };
    RulesSnapshot {
        groups: (0..count).map(group).collect(),
    }
}

/// Gives figures that say this.
pub fn figures(text: &'static str) -> marketprism_server::MetricsText {
    marketprism_server::MetricsText {
        open: Arc::new(move || format!("{text}# EOF\n")),
        plain: Arc::new(move || text.to_owned()),
    }
}

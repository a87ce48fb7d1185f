//! The peers behind one trait: how each is started, and where it differs for one who asks over HTTP.
//!
//! Everything else, from writing samples to reading `/proc`, is the same for all and stands in
//! [`Running`](crate::running::Running). Absent by design: any tuning of one side. Each runs with its
//! defaults, but for caches of whole results, which are off everywhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::clock;
use crate::process::{Process, folder_bytes};
use crate::running::Running;

/// A start may take this long, replay of the log included.
pub const START_MAX: Duration = Duration::from_secs(120);

/// What one start is given.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The peer's own folder: configuration, log and, under `data`, its store.
    pub folder: PathBuf,
    /// A rule file, when rules are to run.
    pub rules: Option<PathBuf>,
}

impl Launch {
    /// Where the store lies.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where the outputs of the processes go.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// Disk of samples in their resting form.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Bytes, index included, log excluded.
    pub bytes: u64,
    /// Samples in them.
    pub samples: u64,
}

/// One monitoring system.
pub trait Peer {
    /// Its name in the tables.
    fn name(&self) -> &'static str;

    /// Says whether its language promises Prometheus' values to the last digits.
    fn is_exact(&self) -> bool {
        true
    }

    /// Starts it; the first process is the store that answers queries, the last runs the rules.
    fn spawn(&self, launch: &Launch) -> Result<Vec<Process>>;

    /// What stands before `/api/v1/query`.
    fn query_prefix(&self) -> &'static str {
        ""
    }

    /// What stands before `/api/v1/rules` and `/api/v1/alerts`.
    fn rules_prefix(&self) -> &'static str {
        self.query_prefix()
    }

    /// Answers 200 once queries are answered.
    fn ready_path(&self) -> &'static str;

    /// The counter of finished evaluations of rule groups.
    fn iterations_metric(&self) -> &'static str;

    /// The counter of ticks of rule groups that were skipped.
    fn missed_metric(&self) -> &'static str;

    /// Brings samples to rest and measures them. `written`: how many samples were sent.
    fn rest(&self, running: &Running, written: u64) -> Result<Disk>;
}

/// Debian's Prometheus.
#[derive(Debug)]
pub struct Prometheus;

impl Peer for Prometheus {
    fn name(&self) -> &'static str {
        "Prometheus"
    }

    fn spawn(&self, launch: &Launch) -> Result<Vec<Process>> {
        let config = launch.folder.join("prometheus.yml");
        fs::write(&config, prometheus_config(launch))?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", launch.data().display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.level=warn"])
            .args(["--web.enable-remote-write-receiver", "--web.enable-admin-api"]);
        Ok(vec![Process::spawn(command, &launch.log())?])
    }

    fn ready_path(&self) -> &'static str {
        "/-/ready"
    }

    fn iterations_metric(&self) -> &'static str {
        "prometheus_rule_group_iterations_total"
    }

    fn missed_metric(&self) -> &'static str {
        "prometheus_rule_group_iterations_missed_total"
    }

    /// A snapshot writes everything, the head included, as blocks.
    fn rest(&self, running: &Running, _written: u64) -> Result<Disk> {
        let body = running.post("/api/v1/admin/tsdb/snapshot")?;
        let answer: Value = serde_json::from_slice(&body)?;
        let name = answer["data"]["name"].as_str().context("snapshot has no name")?;
        blocks(&running.launch().data().join("snapshots").join(name))
    }
}

/// Ours.
#[derive(Debug)]
pub struct MarketPrism {
    /// The binary.
    pub program: PathBuf,
}

impl Peer for MarketPrism {
    fn name(&self) -> &'static str {
        "MarketPrism"
    }

    fn spawn(&self, launch: &Launch) -> Result<Vec<Process>> {
        let config = launch.folder.join("config.yaml");
        // The peers watch neither their machine nor themselves, and bring no rules of their own. Our own figures
        // would also be samples of now, and so make all of the history too old to be taken.
        let own = "host: {enabled: false, interval: 1d}\nalert_manager: {default_rules: false, max_active_alerts: 1000000}\n\
                   security: {api_auth: {enabled: false}}\n";
        fs::write(&config, prometheus_config(launch) + own)?;
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(launch.data())
            .args(["--listen", "127.0.0.1:0"])
            .env("LOG_LEVEL", "warn");
        Ok(vec![Process::spawn(command, &launch.log())?])
    }

    fn query_prefix(&self) -> &'static str {
        "/prometheus"
    }

    fn ready_path(&self) -> &'static str {
        "/ready"
    }

    fn iterations_metric(&self) -> &'static str {
        "marketprism_rule_group_iterations_total"
    }

    fn missed_metric(&self) -> &'static str {
        "marketprism_rule_group_iterations_missed_total"
    }

    /// Only blocks that were cut count; the newest two hours or so stay in the log, and out of the figure.
    fn rest(&self, running: &Running, _written: u64) -> Result<Disk> {
        let folder = running.launch().data();
        let mut before = 0;
        clock::poll(
            "a cut block",
            Duration::from_secs(180),
            Duration::from_secs(2),
            || {
                let now = blocks(&folder)?.bytes;
                let is_settled = now > 0 && now == before;
                before = now;
                Ok(is_settled)
            },
        )?;
        blocks(&folder)
    }
}

/// Debian's VictoriaMetrics, with vmalert when there are rules.
#[derive(Debug)]
pub struct VictoriaMetrics;

impl Peer for VictoriaMetrics {
    fn name(&self) -> &'static str {
        "VictoriaMetrics"
    }

    fn is_exact(&self) -> bool {
        false
    }

    fn spawn(&self, launch: &Launch) -> Result<Vec<Process>> {
        let mut command = Command::new("victoria-metrics");
        command
            .arg(format!("-storageDataPath={}", launch.data().display()))
            .args([
                "-httpListenAddr=127.0.0.1:0",
                "-loggerLevel=ERROR",
                "-search.disableCache",
            ])
            .arg("-search.latencyOffset=0s");
        let mut processes = vec![Process::spawn(command, &launch.log())?];
        if let Some(rules) = &launch.rules {
            let store = format!("http://127.0.0.1:{}", processes[0].listening_port(START_MAX)?);
            let mut command = Command::new("vmalert");
            command
                .arg(format!("-rule={}", rules.display()))
                .args(["datasource", "remoteWrite", "remoteRead"].map(|role| format!("-{role}.url={store}")))
                // Nobody listens for alerts on either side: the store answers these posts with an error.
                .arg(format!("-notifier.url={store}/nobody"))
                .args([
                    "-httpListenAddr=127.0.0.1:0",
                    "-loggerLevel=FATAL",
                    "-disableAlertgroupLabel",
                ]);
            processes.push(Process::spawn(command, &launch.log())?);
        }
        Ok(processes)
    }

    fn ready_path(&self) -> &'static str {
        "/health"
    }

    fn iterations_metric(&self) -> &'static str {
        "vmalert_iteration_total"
    }

    fn missed_metric(&self) -> &'static str {
        "vmalert_iteration_missed_total"
    }

    /// It has no resting form of its own: everything that lies on disk after a forced merge counts.
    fn rest(&self, running: &Running, written: u64) -> Result<Disk> {
        running.get("/internal/force_flush", &[])?;
        running.get("/internal/force_merge", &[])?;
        running.wait_until_idle(Duration::from_secs(60))?;
        Ok(Disk {
            bytes: folder_bytes(&running.launch().data())?,
            samples: written,
        })
    }
}

fn prometheus_config(launch: &Launch) -> String {
    let mut text = String::from("scrape_configs: []\n");
    if let Some(rules) = &launch.rules {
        text += &format!("rule_files: [{:?}]\n", rules.display().to_string());
    }
    text
}

/// Adds up all blocks below `folder`: each is a folder with a `meta.json` that tells its samples.
fn blocks(folder: &Path) -> Result<Disk> {
    let mut sum = Disk { bytes: 0, samples: 0 };
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(sum);
    };
    for entry in entries {
        let path = entry?.path();
        // A block under way has another ending and is renamed when it is whole.
        if !path.is_dir() || path.extension().is_some() {
            continue;
        }
        let below = match fs::read(path.join("meta.json")) {
            Ok(meta) => {
                let meta: Value = serde_json::from_slice(&meta)?;
                let counts = [&meta["stats"]["numSamples"], &meta["meta"]["samples"]];
                let samples = counts.iter().find_map(|count| count.as_u64());
                let samples = samples.with_context(|| format!("{}: no count of samples", path.display()))?;
                Disk {
                    bytes: folder_bytes(&path)?,
                    samples,
                }
            }
            Err(_) => blocks(&path)?,
        };
        sum = Disk {
            bytes: sum.bytes + below.bytes,
            samples: sum.samples + below.samples,
        };
    }
    Ok(sum)
}

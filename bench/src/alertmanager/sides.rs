//! The two that are compared: how each is started on one `alertmanager.yml`, and how both are posted to and asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::webhook::Webhook;
use super::wording::{Pace, configuration};
use crate::clock::{self, Stopwatch};
use crate::peer::START_MAX;
use crate::process::{Memory, Process};

/// Requests under way at once when many are sent.
const CONNECTIONS: usize = 4;
/// No answer of the runs comes near this.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// Which of the two.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Debian's Alertmanager.
    Alertmanager,
    /// Ours: the binary.
    MarketPrism(PathBuf),
}

impl Kind {
    /// Gives its name in the tables.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Alertmanager => "Alertmanager",
            Kind::MarketPrism(_) => "MarketPrism",
        }
    }
}

/// One that runs, with a webhook of its own; ends when it is dropped.
pub struct Side {
    name: &'static str,
    process: Process,
    base: String,
    api: String,
    agent: ureq::Agent,
    /// Who is told.
    pub webhook: Webhook,
}

impl Side {
    /// Starts it in `folder` and waits until it is ready. `rules`: for ours alone, rules to evaluate each second.
    pub fn start(kind: &Kind, folder: &Path, pace: Pace, rules: Option<&str>) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let webhook = Webhook::start()?;
        let routes = folder.join("alertmanager.yml");
        fs::write(&routes, configuration(&webhook, pace))?;
        let (command, ready, prefix) = match kind {
            Kind::Alertmanager => (theirs(folder, &routes), "/-/ready", "/api/v2"),
            Kind::MarketPrism(program) => (ours(program, folder, rules)?, "/ready", "/alertmanager/api/v2"),
        };
        let mut process = Process::spawn(command, &folder.join("log"))?;
        let base = format!("http://127.0.0.1:{}", process.listening_port(START_MAX)?);
        let agent = ureq::Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .max_idle_connections_per_host(CONNECTIONS)
            .build()
            .new_agent();
        clock::poll("ready", START_MAX, Duration::from_millis(20), || {
            let answer = agent.get(base.clone() + ready).call();
            Ok(answer.is_ok_and(|answer| answer.status() == 200))
        })
        .with_context(|| format!("start {}", kind.name()))?;
        Ok(Side {
            name: kind.name(),
            process,
            api: base.clone() + prefix,
            base,
            agent,
            webhook,
        })
    }

    /// Its name in the tables.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Posts alerts once.
    pub fn post_alerts(&self, body: &[u8]) -> Result<()> {
        self.post(
            "alerts",
            self.api.clone() + "/alerts",
            &[("content-type", "application/json")],
            body,
        )
    }

    /// Posts all bodies over a few connections, each of which waits for its answers; gives the wall time.
    pub fn flood(&self, bodies: &[Vec<u8>]) -> Result<Duration> {
        let watch = Stopwatch::start();
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..CONNECTIONS)
                .map(|first| {
                    let mut own = bodies.iter().skip(first).step_by(CONNECTIONS);
                    scope.spawn(move || own.try_for_each(|body| self.post_alerts(body)))
                })
                .collect();
            senders
                .into_iter()
                .try_for_each(|sender| sender.join().expect("a sender does not panic"))
        })?;
        Ok(watch.elapsed())
    }

    /// Sends one remote-write request.
    pub fn write(&self, body: &[u8]) -> Result<()> {
        let headers = [
            ("content-encoding", "snappy"),
            ("content-type", "application/x-protobuf"),
            ("x-prometheus-remote-write-version", "0.1.0"),
        ];
        self.post("samples", self.base.clone() + "/api/v1/write", &headers, body)
    }

    fn post(&self, what: &str, url: String, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        let mut request = self.agent.post(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request
            .send(body)
            .with_context(|| format!("{}: {what}", self.name))?;
        let text = answer.body_mut().read_to_string()?;
        ensure!(
            answer.status().is_success(),
            "{}: {what}: {}: {text}",
            self.name,
            answer.status()
        );
        Ok(())
    }

    /// Asks Alertmanager's API.
    pub fn ask(&self, path: &str) -> Result<Vec<u8>> {
        self.get(self.api.clone() + path)
    }

    /// Asks for a path of ours.
    pub fn ask_own(&self, path: &str) -> Result<Vec<u8>> {
        self.get(self.base.clone() + path)
    }

    fn get(&self, url: String) -> Result<Vec<u8>> {
        let mut answer = self.agent.get(&url).call().with_context(|| url.clone())?;
        let body = answer
            .body_mut()
            .with_config()
            .limit(BODY_BYTES_MAX)
            .read_to_vec()?;
        let (status, start) = (
            answer.status(),
            String::from_utf8_lossy(&body[..body.len().min(300)]),
        );
        ensure!(status.is_success(), "{url}: {status}: {start}");
        Ok(body)
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Result<Duration> {
        self.process.cpu()
    }

    /// Memory now.
    pub fn memory(&self) -> Result<Memory> {
        self.process.memory()
    }

    /// Waits until `done` holds for what the webhook has.
    pub fn await_told(
        &self,
        limit: Duration,
        done: impl Fn(&super::webhook::Received) -> bool,
    ) -> Result<()> {
        clock::poll("messages", limit, Duration::from_millis(20), || {
            Ok(self.webhook.look(&done))
        })
        .with_context(|| {
            format!(
                "{}: {:?}",
                self.name,
                self.webhook.look(|received| received.told())
            )
        })?;
        Ok(())
    }
}

fn theirs(folder: &Path, routes: &Path) -> Command {
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", routes.display()))
        .arg(format!("--storage.path={}", folder.join("data").display()))
        .args([
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]);
    command
}

/// What Alertmanager does not have is off where it would change the messages: the digest of a storm, and the limit.
fn ours(program: &Path, folder: &Path, rules: Option<&str>) -> Result<Command> {
    let mut text = String::from(
        "scrape_configs: []\nhost: {enabled: false, interval: 1d}\nsecurity: {api_auth: {enabled: false}}\n\
         alert_manager: {default_rules: false, max_active_alerts: 1000000, evaluation_interval: 1}\n\
         notification_manager: {alertmanager_config: alertmanager.yml, storm: {threshold: 0}}\n",
    );
    if let Some(rules) = rules {
        fs::write(folder.join("rules.yml"), rules)?;
        text += "rule_files: [rules.yml]\n";
    }
    let config = folder.join("config.yaml");
    fs::write(&config, text)?;
    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--listen", "127.0.0.1:0"])
        .env("LOG_LEVEL", "warn");
    Ok(command)
}

//! The two that are compared, each with a webhook's receiver of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use marketprism_testkit::{ChildGuard, FakeWebhook, ReceivedRequest, free_port, is_true_within};
use serde_json::Value;

use super::cases::{self, Case};
use crate::program::{PATIENCE, Program};

const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];

/// What a test does to either of them, in the words of Alertmanager's API.
pub trait Side {
    fn send(&self, method: &str, path: &str, body: &[u8]) -> (u16, String);
    fn silences(&mut self) -> &mut BTreeMap<String, String>;
    /// Gives the messages that have come, oldest first.
    fn received(&self) -> Vec<ReceivedRequest>;

    fn alerts(&mut self, body: &[u8]) {
        let (status, answer) = self.send("POST", "/api/v2/alerts", body);
        assert_eq!(status, 200, "alerts: {answer}");
    }

    fn silence(&mut self, name: &str, silence: &Value) {
        let body = serde_json::to_vec(silence).expect("plain data");
        let (status, answer) = self.send("POST", "/api/v2/silences", &body);
        assert_eq!(status, 200, "silence {silence}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let id = answer["silenceID"].as_str().expect("an id").to_owned();
        self.silences().insert(name.to_owned(), id);
    }

    fn unsilence(&mut self, name: &str) {
        let id = self.silences().remove(name).expect("it was made");
        let (status, answer) = self.send("DELETE", &format!("/api/v2/silence/{id}"), b"");
        assert_eq!(status, 200, "end of silence {id}: {answer}");
    }
}

/// Debian's Alertmanager.
pub struct Theirs {
    url: String,
    agent: ureq::Agent,
    webhook: FakeWebhook,
    silences: BTreeMap<String, String>,
    _process: ChildGuard,
    _home: tempfile::TempDir,
}

impl Theirs {
    pub fn start(cases: &[Case]) -> Self {
        let path = Path::new("/usr/bin/prometheus-alertmanager");
        assert!(
            path.exists(),
            "prometheus-alertmanager is missing; run: apt-get install prometheus-alertmanager"
        );
        let webhook = FakeWebhook::start();
        let home = tempfile::tempdir().expect("a temporary folder");
        let file = home.path().join("alertmanager.yml");
        fs::write(&file, cases::configuration(cases, &webhook.url())).expect("write its configuration");
        let port = free_port();
        let mut process = ChildGuard::spawn(
            Command::new(path)
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.path={}", home.path().join("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--cluster.listen-address="),
        )
        .expect("start Alertmanager");
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .into();
        let url = format!("http://127.0.0.1:{port}");
        let is_ready = is_true_within(PATIENCE, || {
            let answer = agent.get(format!("{url}/-/ready")).call();
            answer.is_ok_and(|answer| answer.status() == 200) || !process.is_running()
        });
        assert!(
            is_ready && process.is_running(),
            "Alertmanager: {}",
            process.output()
        );
        Theirs {
            url,
            agent,
            webhook,
            silences: BTreeMap::new(),
            _process: process,
            _home: home,
        }
    }
}

impl Side for Theirs {
    fn send(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(JSON[0].0, JSON[0].1)
            .body(body)
            .expect("a good request");
        let mut answer = self.agent.run(request).expect("it answers");
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        (answer.status().as_u16(), text)
    }

    fn silences(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.silences
    }

    fn received(&self) -> Vec<ReceivedRequest> {
        self.webhook.received()
    }
}

/// The whole program.
pub struct Ours {
    program: Program,
    webhook: FakeWebhook,
    silences: BTreeMap<String, String>,
    _data: Option<tempfile::TempDir>,
}

/// Where data is kept in memory, if the machine has that.
const MEMORY: &str = "/dev/shm";

impl Ours {
    pub fn start(cases: &[Case]) -> Self {
        let webhook = FakeWebhook::start();
        let mut program = Program::prepare(
            "host: {enabled: false}\n\
             alert_manager: {default_rules: false, evaluation_interval: 0.5, max_active_alerts: 10000}\n\
             notification_manager: {alertmanager_config: alertmanager.yml}\n",
        );
        let file = program.home().join("alertmanager.yml");
        fs::write(file, cases::configuration(cases, &webhook.url())).expect("write the routes");
        // What is compared are decisions to the second; the disk of a busy machine is left out of it.
        let data = Path::new(MEMORY).is_dir().then(|| {
            let data = tempfile::tempdir_in(MEMORY).expect("a folder in memory");
            std::os::unix::fs::symlink(data.path(), program.home().join("data")).expect("a link to it");
            data
        });
        program.launch(&[]);
        program.wait_until_ready();
        Ours {
            _data: data,
            program,
            webhook,
            silences: BTreeMap::new(),
        }
    }
}

impl Side for Ours {
    fn send(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        self.program
            .send(method, &format!("/alertmanager{path}"), &JSON, body)
    }

    fn silences(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.silences
    }

    fn received(&self) -> Vec<ReceivedRequest> {
        self.webhook.received()
    }
}

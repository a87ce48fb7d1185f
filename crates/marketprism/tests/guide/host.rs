//! A machine as the guide's reader has it: a folder with `config/`, a shell, and the service, one at a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use marketprism_testkit::is_true_within;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::guide::{Block, tree};
use crate::program::PATIENCE;
use crate::settings::Settings;
use crate::web;

const PRELUDE: &str = include_str!("prelude.sh");

/// The machine; its service ends with it.
pub struct Host {
    home: tempfile::TempDir,
    variables: Vec<(String, String)>,
    /// Names that the compose file hands on to the service.
    pub handed_on: Vec<String>,
}

/// What a block of shell lines has said.
#[derive(Debug)]
pub struct Said {
    /// How bash ended.
    pub status: i32,
    /// Its output.
    pub output: String,
    /// Its complaints.
    pub complaint: String,
}

impl Host {
    /// Lays the folders and the configuration.
    pub fn new(settings: &Settings) -> Self {
        let host = Host {
            home: tempfile::tempdir().expect("a temporary folder"),
            variables: Vec::new(),
            handed_on: Vec::new(),
        };
        for folder in [
            "state",
            "root/tmp",
            "root/app/config",
            "root/app/data",
            "root/app/logs",
        ] {
            fs::create_dir_all(host.home.path().join(folder)).expect("make a folder");
        }
        fs::write(host.home.path().join("state/prelude.sh"), PRELUDE).expect("write the functions");
        host.configure(settings);
        host
    }

    /// Writes the configuration.
    pub fn configure(&self, settings: &Settings) {
        self.lay("config/config.yaml", &settings.0);
    }

    /// Writes a file of the reader's folder.
    pub fn lay(&self, path: &str, text: &str) {
        fs::write(self.app().join(path), text).expect("write a file");
    }

    /// Sets variables of the reader's shell; the service is given them by `docker-compose` alone.
    pub fn set(&mut self, variables: &[(&str, &str)]) {
        for (name, value) in variables {
            self.variables.push(((*name).to_owned(), (*value).to_owned()));
            self.handed_on.push((*name).to_owned());
        }
    }

    /// Gives what stands for the container's `/`.
    pub fn root(&self) -> PathBuf {
        self.home.path().join("root")
    }

    /// Gives the reader's folder, which is also the container's `/app`.
    pub fn app(&self) -> PathBuf {
        self.root().join("app")
    }

    /// Runs shell lines as they stand.
    pub fn run(&self, block: &Block) -> Said {
        assert_eq!(block.language, "bash", "{block:?}");
        self.run_lines(&block.text)
    }

    /// Runs shell lines that must succeed; gives what they said.
    #[track_caller]
    pub fn run_well(&self, block: &Block) -> String {
        let said = self.run(block);
        assert_eq!(said.status, 0, "{}\n{said:?}\nlog:\n{}", block.text, self.log());
        said.output
    }

    fn run_lines(&self, lines: &str) -> Said {
        let state = self.home.path().join("state");
        fs::write(state.join("block.sh"), lines).expect("write the lines");
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", ". \"$1\"; . \"$2\"", "guide"])
            .args([state.join("prelude.sh"), state.join("block.sh")])
            .current_dir(self.app())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("a search path"))
            .env("HOME", self.home.path())
            .env("LC_ALL", "C.UTF-8")
            .env("MARKETPRISM", env!("CARGO_BIN_EXE_marketprism"))
            .env("TREE", tree())
            .env("ROOT", self.root())
            .env("STATE", &state)
            .env("COMPOSE_VARIABLES", self.handed_on.join(" "))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .expect("bash is there");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Said {
            status: output.status.code().unwrap_or(-1),
            output: text(output.stdout),
            complaint: text(output.stderr),
        }
    }

    /// Starts the service as `docker-compose up -d` does and waits until it is ready.
    pub fn up(&self) {
        let said = self.run_lines("docker-compose up -d\n");
        assert_eq!(said.status, 0, "{said:?}");
        self.wait_until_ready();
    }

    /// Stops the service.
    pub fn down(&self) {
        let said = self.run_lines("stop_service\n");
        assert_eq!(said.status, 0, "{said:?}");
    }

    /// Gives what the service has logged since the machine was made.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("state/log")).unwrap_or_default()
    }

    /// Gives the files that `kubectl` was told to apply.
    pub fn applied(&self) -> Vec<String> {
        let text = fs::read_to_string(self.home.path().join("state/applied")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Gives the address of a path of the service.
    pub fn url(&self, path: &str) -> String {
        let port = fs::read_to_string(self.home.path().join("state/port")).unwrap_or_default();
        format!("http://127.0.0.1:{}{path}", port.trim())
    }

    /// Asks without a credential.
    pub fn get(&self, path: &str) -> (u16, String) {
        web::get(&self.url(path), &[])
    }

    /// Asks as the administrator that the first start made.
    #[track_caller]
    pub fn get_json(&self, path: &str) -> Value {
        let authorization = self.authorization();
        web::json(web::get(&self.url(path), &[("Authorization", &authorization)]))
    }

    /// Gives the header of the administrator that the first start made.
    pub fn authorization(&self) -> String {
        let password = admin_password(&self.app().join("data"));
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("admin:{password}"));
        format!("Basic {pair}")
    }

    /// Waits until `/ready` answers 200.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        let is_ready = is_true_within(PATIENCE, || self.get("/ready").0 == 200);
        assert!(is_ready, "not ready; log:\n{}", self.log());
    }

    /// Waits for an alert that fires; gives it with its story.
    #[track_caller]
    pub fn wait_for_alert(&self, name: &str) -> Value {
        let list = || self.get_json(&format!("/api/v1/alerts?state=firing&label=alertname:{name}"));
        let mut id = None;
        let is_there = is_true_within(PATIENCE, || {
            id = list()["items"][0]["id"].as_str().map(str::to_owned);
            id.is_some()
        });
        assert!(is_there, "no alert {name}; log:\n{}", self.log());
        self.get_json(&format!("/api/v1/alerts/{}", id.expect("waited for")))
    }
}

/// Reads the password that the first start left in the data folder.
pub fn admin_password(data_dir: &Path) -> String {
    let text = fs::read_to_string(data_dir.join("admin_password"));
    let text = text.expect("the first start has made an administrator");
    text.trim_end().to_owned()
}

impl Drop for Host {
    fn drop(&mut self) {
        let id = fs::read_to_string(self.home.path().join("state/pid")).unwrap_or_default();
        // A number may have gone to another process since; ours alone works in this folder.
        let folder = fs::read_link(format!("/proc/{}/cwd", id.trim())).ok();
        let is_ours = folder.is_some() && folder == self.app().canonicalize().ok();
        if let Some(id) = id.trim().parse().ok().and_then(Pid::from_raw).filter(|_| is_ours) {
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

//! The program as a child process, and how tests talk to it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine as _;
use marketprism_testkit::is_true_within;
use serde_json::Value;

/// Long enough for a loaded machine, short enough to notice a hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration of one target, one rule file and one webhook, all of it quick.
pub fn one_of_each(target: &str, webhook: &str) -> String {
    format!(
        r#"
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
rule_files: [rules.yaml]
alert_manager: {{default_rules: false, evaluation_interval: 0.5}}
host: {{enabled: false, interval: 1h}}
scrape_configs:
  - job_name: app
    static_configs: [{{targets: ["{target}"]}}]
notification_manager:
  route: {{group_by: ["..."], group_wait: 100ms, group_interval: 1s, repeat_interval: 4h}}
  channels:
    webhook: {{enabled: true, url: "{webhook}"}}
"#
    )
}

/// A folder with a configuration, and the program that runs on it.
pub struct Program {
    home: tempfile::TempDir,
    child: Option<Child>,
    address: String,
    environment: Vec<(String, String)>,
    agent: ureq::Agent,
}

impl Program {
    /// Writes `config` and starts the program; waits until it is ready.
    pub fn start(config: &str) -> Self {
        let mut program = Program::prepare(config);
        program.launch(&[]);
        program.wait_until_ready();
        program
    }

    /// Writes `config`, starts nothing yet.
    pub fn prepare(config: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        fs::write(home.path().join("config.yaml"), config).expect("write the configuration");
        // A status that means failure is an answer here, not an error.
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .into();
        Program {
            home,
            child: None,
            address: String::new(),
            environment: Vec::new(),
            agent,
        }
    }

    /// Sets a variable for every later start.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the process with these variables besides and waits until it has bound its port.
    pub fn launch(&mut self, variables: &[(&str, &str)]) {
        let log = fs::File::create(self.log_path()).expect("create the log file");
        let child = Command::new(env!("CARGO_BIN_EXE_marketprism"))
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(self.home.path().join("config.yaml"))
            .arg("--data-dir")
            .arg(self.home.path().join("data"))
            .env_remove("LOG_LEVEL")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start the program");
        self.child = Some(child);
        self.address.clear();
        let mut address = None;
        is_true_within(PATIENCE, || {
            address = self
                .logged("listening")
                .and_then(|line| line["address"].as_str().map(str::to_owned));
            address.is_some() || self.has_exited()
        });
        self.address = address.unwrap_or_default();
    }

    /// Waits until `/ready` answers 200.
    pub fn wait_until_ready(&mut self) {
        let is_ready = is_true_within(PATIENCE, || self.has_exited() || self.get("/ready").0 == 200);
        assert!(is_ready && !self.has_exited(), "not ready; log:\n{}", self.log());
    }

    /// Kills the process as a power cut would, as far as a process can tell.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_exit(&mut self, patience: Duration) -> Option<ExitStatus> {
        let mut status = None;
        let child = self.child.as_mut()?;
        is_true_within(patience, || {
            status = child.try_wait().expect("ask for the child's state");
            status.is_some()
        });
        if status.is_some() {
            self.child = None;
        }
        status
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("the program runs");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).expect("send a signal to the child");
    }

    /// Gives the number of the process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("the program runs").id()
    }

    /// Asks it to stop and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait_for_exit(PATIENCE)
            .unwrap_or_else(|| panic!("did not stop; log:\n{}", self.log()))
    }

    fn has_exited(&mut self) -> bool {
        match self.child.as_mut() {
            Some(child) => child.try_wait().expect("ask for the child's state").is_some(),
            None => true,
        }
    }

    /// Gives the folder that holds configuration and data.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// Gives what the process has logged since its last start.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(self.log_path()) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// Finds the first log line with this message.
    pub fn logged(&self, message: &str) -> Option<Value> {
        self.log()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["message"] == message)
    }

    /// Gives `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Gives `http://admin:password@127.0.0.1:port`, as tools take it that know basic authentication.
    pub fn url_with_password(&self) -> String {
        let password = fs::read_to_string(self.home.path().join("data/admin_password"));
        let password = password.expect("the first start has made an administrator");
        format!("http://admin:{}@{}", password.trim_end(), self.address)
    }

    /// Gives the header of the user that the first start made, as soon as it has.
    pub fn authorization(&self) -> Option<String> {
        let password = fs::read_to_string(self.home.path().join("data/admin_password")).ok()?;
        let pair = format!("admin:{}", password.trim_end());
        Some(format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        ))
    }

    /// Sends a GET as the administrator; gives the status (0 when nobody answers) and the body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut request = self.agent.get(self.url() + path);
        if let Some(authorization) = self.authorization() {
            request = request.header("Authorization", authorization);
        }
        exchange(request.call())
    }

    /// Sends a GET that must succeed with JSON.
    pub fn get_json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "GET {path}: {body}\nlog:\n{}", self.log());
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("GET {path}: {error}: {body}"))
    }

    /// Sends a POST as the administrator, with bytes and headers.
    pub fn post_bytes(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let mut request = self.agent.post(self.url() + path);
        if let Some(authorization) = self.authorization() {
            request = request.header("Authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        exchange(request.send(body))
    }

    /// Sends any request as the administrator, with bytes and headers.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(self.url() + path);
        if let Some(authorization) = self.authorization() {
            request = request.header("Authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        exchange(self.agent.run(request.body(body).expect("a good request")))
    }

    /// Asks an instant query and gives the result's values by their labels.
    pub fn query(&self, expr: &str) -> Vec<(Value, f64)> {
        let encoded: String = expr.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.get_json(&format!("/prometheus/api/v1/query?query={encoded}"));
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |item: &Value| item["value"][1].as_str().and_then(|text| text.parse().ok());
        result
            .iter()
            .filter_map(|item| Some((item["metric"].clone(), value(item)?)))
            .collect()
    }
}

fn exchange(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, String) {
    match answer {
        Ok(mut response) => (
            response.status().as_u16(),
            response.body_mut().read_to_string().unwrap_or_default(),
        ),
        Err(error) => (0, error.to_string()),
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

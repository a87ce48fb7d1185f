//! A peer that runs: the one way in which all of them are written to, asked and measured.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::answer::Answer;
use crate::clock;
use crate::peer::{Launch, Peer, START_MAX};
use crate::process::{Memory, Process};

/// No answer of the runs comes near this.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// A started peer. Its processes end when it is dropped.
pub struct Running<'a> {
    peer: &'a dyn Peer,
    launch: Launch,
    processes: Vec<Process>,
    store: String,
    rules: String,
    agent: ureq::Agent,
}

impl<'a> Running<'a> {
    /// Starts the peer and waits until it answers.
    pub fn start(peer: &'a dyn Peer, launch: Launch) -> Result<Self> {
        fs::create_dir_all(launch.data())?;
        let agent = ureq::Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .build()
            .new_agent();
        let mut running = Running {
            processes: peer
                .spawn(&launch)
                .with_context(|| format!("start {}", peer.name()))?,
            peer,
            launch,
            store: String::new(),
            rules: String::new(),
            agent,
        };
        running
            .await_ready()
            .with_context(|| format!("start {}", peer.name()))?;
        Ok(running)
    }

    fn await_ready(&mut self) -> Result<()> {
        let mut bases = Vec::new();
        for process in &mut self.processes {
            bases.push(format!("http://127.0.0.1:{}", process.listening_port(START_MAX)?));
        }
        self.store = bases.first().context("no process")?.clone();
        self.rules = bases.pop().context("no process")?;
        clock::poll("ready", START_MAX, Duration::from_millis(5), || {
            let url = self.store.clone() + self.peer.ready_path();
            Ok(self
                .agent
                .get(&url)
                .call()
                .is_ok_and(|answer| answer.status() == 200))
        })?;
        Ok(())
    }

    /// Kills it without warning and starts it again on the same data; gives the processor time and the wall
    /// time until `is_back` says that everything is there.
    pub fn kill_and_reopen(
        &mut self,
        is_back: impl Fn(&Self) -> Result<bool>,
    ) -> Result<(Duration, Duration)> {
        for process in &mut self.processes {
            process.kill()?;
        }
        let watch = clock::Stopwatch::start();
        self.processes = self.peer.spawn(&self.launch)?;
        self.await_ready()?;
        clock::poll(
            "all data after the kill",
            START_MAX,
            Duration::from_millis(5),
            || is_back(self),
        )?;
        Ok((self.cpu()?, watch.elapsed()))
    }

    /// The peer.
    pub fn peer(&self) -> &'a dyn Peer {
        self.peer
    }

    /// What it was started with.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Processor time of all its processes.
    pub fn cpu(&self) -> Result<Duration> {
        self.processes.iter().map(Process::cpu).sum()
    }

    /// Memory of all its processes together.
    pub fn memory(&self) -> Result<Memory> {
        let mut sum = Memory {
            peak_bytes: 0,
            resident_bytes: 0,
        };
        for process in &self.processes {
            let one = process.memory()?;
            sum.peak_bytes += one.peak_bytes;
            sum.resident_bytes += one.resident_bytes;
        }
        Ok(sum)
    }

    /// Waits until it spent less than a tenth of a core over two seconds: compactions are over.
    pub fn wait_until_idle(&self, limit: Duration) -> Result<()> {
        let mut before = self.cpu()?;
        clock::pause(Duration::from_secs(2));
        clock::poll("quiet", limit, Duration::from_secs(2), || {
            let now = self.cpu()?;
            let spent = now - std::mem::replace(&mut before, now);
            Ok(spent < Duration::from_millis(200))
        })?;
        Ok(())
    }

    /// Sends one remote-write request.
    pub fn write(&self, body: &[u8]) -> Result<()> {
        let answer = self
            .agent
            .post(self.store.clone() + "/api/v1/write")
            .header("content-encoding", "snappy")
            .header("content-type", "application/x-protobuf")
            .header("x-prometheus-remote-write-version", "0.1.0")
            .send(body);
        self.body(answer).context("remote write")?;
        Ok(())
    }

    /// Asks for a value at one moment.
    pub fn query(&self, expr: &str, at_ms: i64) -> Result<Answer> {
        let path = self.peer.query_prefix().to_owned() + "/api/v1/query";
        let body = self.get(&path, &[("query", expr), ("time", &seconds(at_ms))])?;
        Answer::read(&body).with_context(|| format!("{}: {expr}", self.peer.name()))
    }

    /// Asks for values from `from_ms` to `to_ms`.
    pub fn query_range(&self, expr: &str, from_ms: i64, to_ms: i64, step: &str) -> Result<Answer> {
        let path = self.peer.query_prefix().to_owned() + "/api/v1/query_range";
        let (start, end) = (seconds(from_ms), seconds(to_ms));
        let body = self.get(
            &path,
            &[("query", expr), ("start", &start), ("end", &end), ("step", step)],
        )?;
        Answer::read(&body).with_context(|| format!("{}: {expr}", self.peer.name()))
    }

    /// Gives the active alerts as `name instance state`.
    pub fn alerts(&self) -> Result<BTreeSet<String>> {
        let url = self.rules.clone() + self.peer.rules_prefix() + "/api/v1/alerts";
        let answer: Value = serde_json::from_slice(&self.body(self.agent.get(&url).call())?)?;
        let list = answer["data"]["alerts"]
            .as_array()
            .context("no alerts in the answer")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line = |alert: &Value| {
            // vmalert tells the name beside the labels, and only sometimes among them.
            let names = [&alert["labels"]["alertname"], &alert["name"]].map(text);
            let name = names
                .iter()
                .find(|name| !name.is_empty())
                .cloned()
                .unwrap_or_default();
            format!(
                "{name} {} {}",
                text(&alert["labels"]["instance"]),
                text(&alert["state"])
            )
        };
        Ok(list.iter().map(line).collect())
    }

    /// Gives the moment of the newest evaluation of its first rule group, 0 before there was one.
    pub fn last_evaluation_ms(&self) -> Result<i64> {
        let url = self.rules.clone() + self.peer.rules_prefix() + "/api/v1/rules";
        let answer: Value = serde_json::from_slice(&self.body(self.agent.get(&url).call())?)?;
        let text = answer["data"]["groups"][0]["lastEvaluation"]
            .as_str()
            .context("no rule group")?;
        let moment: jiff::Timestamp = text.parse().with_context(|| format!("no moment: {text:?}"))?;
        Ok(moment.as_millisecond().max(0))
    }

    /// Counts the evaluations of rule groups so far.
    pub fn iterations(&self) -> Result<f64> {
        self.sum_of(self.peer.iterations_metric())
    }

    /// Adds up all series of one of its own metrics.
    pub fn sum_of(&self, name: &str) -> Result<f64> {
        let body = self.body(self.agent.get(self.rules.clone() + "/metrics").call())?;
        let text = String::from_utf8(body)?;
        let of_name = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let values = of_name.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
        let values: Vec<f64> = values
            .collect::<Result<_, _>>()
            .with_context(|| format!("{name} is no number"))?;
        ensure!(!values.is_empty(), "{} does not tell {name}", self.peer.name());
        Ok(values.iter().sum())
    }

    /// Gets a path of the store.
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<u8>> {
        let request = self
            .agent
            .get(self.store.clone() + path)
            .query_pairs(query.iter().copied());
        self.body(request.call()).with_context(|| path.to_owned())
    }

    /// Posts nothing to a path of the store.
    pub fn post(&self, path: &str) -> Result<Vec<u8>> {
        let answer = self.agent.post(self.store.clone() + path).send_empty();
        self.body(answer).with_context(|| path.to_owned())
    }

    fn body(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Vec<u8>> {
        let mut answer = answer.with_context(|| self.peer.name())?;
        let body = answer
            .body_mut()
            .with_config()
            .limit(BODY_BYTES_MAX)
            .read_to_vec()?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "{}: {status}: {}",
            self.peer.name(),
            String::from_utf8_lossy(&body[..body.len().min(300)])
        );
        Ok(body)
    }
}

fn seconds(at_ms: i64) -> String {
    format!("{}.{:03}", at_ms.div_euclid(1_000), at_ms.rem_euclid(1_000))
}

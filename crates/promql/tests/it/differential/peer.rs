//! A Prometheus of its own, filled through remote write.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use marketprism_model::{Labels, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_testkit::process::{ChildGuard, free_port};
use serde_json::Value;
use tempfile::TempDir;

use super::remote_write;

const INSTALL: &str = "install the peer: apt-get install -y prometheus";
/// Samples are sent in pieces of this length, oldest first, for only the newest hour takes samples.
const PIECE_MS: i64 = 600_000;

/// Points by labels; the moments are milliseconds. A scalar has no labels.
pub type Found = BTreeMap<Labels, Vec<(i64, f64)>>;

/// What a query gave.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    Series(Found),
    Text(String),
}

/// A server as a child process, and one connection to it.
pub struct Prometheus {
    port: u16,
    connection: BufReader<TcpStream>,
    _process: ChildGuard,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts a server without samples.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, "scrape_configs: []\n").expect("a file");
        let port = free_port();
        let mut process = Self::serve(&config, &folder.path().join("data"), port);
        process.wait_for_line(Duration::from_secs(60), "Server is ready to receive web requests");
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
        Prometheus {
            port,
            connection: BufReader::new(connection),
            _process: process,
            _folder: folder,
        }
    }

    fn serve(config: &Path, data: &Path, port: u16) -> ChildGuard {
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg("--web.enable-remote-write-receiver")
            .arg("--web.enable-admin-api")
            .arg("--enable-feature=native-histograms")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        ChildGuard::spawn(&mut command).unwrap_or_else(|error| panic!("prometheus: {error}; {INSTALL}"))
    }

    /// Writes all samples of a source.
    pub fn fill(&mut self, memory: &Memory) {
        for body in remote_write::requests(memory, PIECE_MS) {
            let (status, answer) = self.post("write", "application/x-protobuf", &body);
            assert_eq!(status, 204, "remote write: {answer}");
        }
    }

    /// Writes all numbers of a source; its histograms are left out.
    pub fn fill_numbers(&mut self, memory: &Memory) {
        let numbers = Memory::new();
        memory.each(|labels, samples| {
            for (at, value) in samples.timestamps.iter().zip(samples.values) {
                numbers.append(labels, Timestamp::from_millis(*at), *value);
            }
        });
        self.fill(&numbers);
    }

    /// Asks at an instant (`start` is `end`) or over a range; seconds. `Err` holds the server's reason to refuse.
    pub fn ask(&mut self, query: &str, start: f64, end: f64, step: f64) -> Result<Answer, String> {
        let data = if start == end {
            self.ask_json(query, start)
        } else {
            self.ask_range_json(query, start, end, step)
        };
        data.map(|data| found(&data))
    }

    /// Asks at an instant, and gives the answer's `data`.
    pub fn ask_json(&mut self, query: &str, at: f64) -> Result<Value, String> {
        self.ask_form("query", &format!("query={}&time={at}", escaped(query)))
    }

    /// Asks over a range, and gives the answer's `data`.
    pub fn ask_range_json(&mut self, query: &str, start: f64, end: f64, step: f64) -> Result<Value, String> {
        let query = escaped(query);
        self.ask_form(
            "query_range",
            &format!("query={query}&start={start}&end={end}&step={step}"),
        )
    }

    fn ask_form(&mut self, path: &str, form: &str) -> Result<Value, String> {
        let (_, body) = self.post(path, "application/x-www-form-urlencoded", form.as_bytes());
        let mut answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{body}: {error}"));
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        Ok(answer["data"].take())
    }

    fn post(&mut self, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let request = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: {kind}\r\n\
             Content-Encoding: {}\r\nContent-Length: {}\r\n\r\n",
            self.port,
            if path == "write" { "snappy" } else { "identity" },
            body.len()
        );
        let connection = &mut self.connection;
        let mut message = request.into_bytes();
        message.extend_from_slice(body);
        connection
            .get_mut()
            .write_all(&message)
            .expect("the server reads");
        let (mut line, mut length, mut is_chunked) = (String::new(), 0, false);
        connection.read_line(&mut line).expect("the server answers");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.expect("an answer has a status");
        loop {
            line.clear();
            connection.read_line(&mut line).expect("the server answers");
            let lower = line.trim().to_ascii_lowercase();
            if lower.is_empty() {
                break;
            }
            if let Some(value) = lower.strip_prefix("content-length: ") {
                length = value.parse().expect("a length");
            }
            is_chunked |= lower == "transfer-encoding: chunked";
        }
        (status, read_body(connection, length, is_chunked))
    }
}

fn read_body(connection: &mut BufReader<TcpStream>, length: usize, is_chunked: bool) -> String {
    let (mut body, mut line) = (Vec::new(), String::new());
    if !is_chunked {
        body.resize(length, 0);
        connection.read_exact(&mut body).expect("the whole body");
        return String::from_utf8(body).expect("JSON is UTF-8");
    }
    loop {
        line.clear();
        connection.read_line(&mut line).expect("a chunk");
        let size = usize::from_str_radix(line.trim(), 16).expect("a chunk's size");
        let mut chunk = vec![0; size + 2];
        connection.read_exact(&mut chunk).expect("the whole chunk");
        if size == 0 {
            return String::from_utf8(body).expect("JSON is UTF-8");
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn found(data: &Value) -> Answer {
    let point = |pair: &Value| {
        let at = (pair[0].as_f64().expect("a moment") * 1000.0).round() as i64;
        let value = pair[1].as_str().expect("a value").parse().expect("a number");
        (at, value)
    };
    let result = &data["result"];
    match data["resultType"].as_str() {
        Some("string") => return Answer::Text(result[1].as_str().expect("a text").to_owned()),
        Some("scalar") => return Answer::Series(BTreeMap::from([(Labels::empty(), vec![point(result)])])),
        _ => {}
    }
    let series = result.as_array().expect("a list of series").iter().map(|series| {
        let labels = series["metric"].as_object().expect("labels");
        let pairs = labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().expect("a text")));
        let points = match &series["values"] {
            Value::Array(values) => values.iter().map(point).collect(),
            _ => vec![point(&series["value"])],
        };
        (Labels::from_pairs(pairs), points)
    });
    Answer::Series(series.collect())
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

//! A Prometheus of its own, over blocks made of generated text.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use marketprism_model::Labels;
use marketprism_testkit::process::{ChildGuard, free_port};
use serde_json::Value;
use tempfile::TempDir;

use super::Question;

const INSTALL: &str = "install the peer: apt-get install -y prometheus";

/// Points by labels; the moments are milliseconds.
pub type Found = BTreeMap<Labels, Vec<(i64, f64)>>;

pub struct Prometheus {
    port: u16,
    connection: Mutex<BufReader<TcpStream>>,
    _process: ChildGuard,
    _folder: TempDir,
}

impl Prometheus {
    /// Makes blocks of the text and starts a server over them.
    pub fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (input, data) = (folder.path().join("samples.txt"), folder.path().join("data"));
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&input, text).expect("a file");
        std::fs::write(&config, "scrape_configs: []\n").expect("a file");
        let made = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&input, &data])
            .output()
            .unwrap_or_else(|error| panic!("promtool: {error}; {INSTALL}"));
        assert!(
            made.status.success(),
            "promtool: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = free_port();
        let mut process = Self::serve(&config, &data, port);
        process.wait_for_line(Duration::from_secs(60), "Server is ready to receive web requests");
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
        let connection = Mutex::new(BufReader::new(connection));
        Prometheus {
            port,
            connection,
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
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        ChildGuard::spawn(&mut command).unwrap_or_else(|error| panic!("prometheus: {error}; {INSTALL}"))
    }

    /// Asks a question; `Err` holds the server's reason to refuse it.
    pub fn ask(&self, question: &Question) -> Result<Found, String> {
        let Question {
            query,
            start,
            end,
            step,
        } = question;
        let form = if start == end {
            format!("query={}&time={start}", escaped(query))
        } else {
            format!("query={}&start={start}&end={end}&step={step}", escaped(query))
        };
        let path = if start == end { "query" } else { "query_range" };
        let answer: Value = serde_json::from_str(&self.post(path, &form)).expect("the server answers JSON");
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        Ok(found(&answer["data"]))
    }

    fn post(&self, path: &str, form: &str) -> String {
        let connection = &mut *self.connection.lock().expect("no test panics while it asks");
        let (port, length) = (self.port, form.len());
        let request = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
        );
        connection
            .get_mut()
            .write_all(request.as_bytes())
            .expect("the server reads");
        let (mut line, mut length, mut is_chunked) = (String::new(), 0, false);
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
        let mut body = Vec::new();
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
}

fn found(data: &Value) -> Found {
    let point = |pair: &Value| {
        let at = (pair[0].as_f64().expect("a moment") * 1000.0).round() as i64;
        let value = pair[1].as_str().expect("a value").parse().expect("a number");
        (at, value)
    };
    let result = &data["result"];
    if data["resultType"] == "scalar" {
        return BTreeMap::from([(Labels::empty(), vec![point(result)])]);
    }
    let series = result.as_array().expect("a list of series");
    series
        .iter()
        .map(|series| {
            let labels = series["metric"].as_object().expect("labels");
            let pairs = labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().expect("a text")));
            let points = match &series["values"] {
                Value::Array(values) => values.iter().map(point).collect(),
                _ => vec![point(&series["value"])],
            };
            (Labels::from_pairs(pairs), points)
        })
        .collect()
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

//! Real peers on loopback: Prometheus and node_exporter as Debian packages them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use http::Method;
use marketprism_net::{Egress, HttpClient, Request, Transport};
use marketprism_testkit::{ChildGuard, free_port, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

/// Fetches a page; fails the test when there is none.
pub async fn get(url: &str) -> String {
    let mut request = Request::new(Method::GET, url);
    request.body_bytes_max = 64 << 20;
    request.timeout = PATIENCE;
    let answer = HttpClient::new(Egress::default()).send(request).await.expect(url);
    let body = String::from_utf8(answer.body.to_vec()).expect("text");
    assert_eq!(answer.status, 200, "{url}: {body}");
    body
}

fn start(package: &str, command: &mut Command, port: u16) -> ChildGuard {
    let mut child = ChildGuard::spawn(command)
        .unwrap_or_else(|error| panic!("{package} is needed (apt-get install {package}): {error}"));
    wait_for(PATIENCE, || {
        assert!(child.is_running(), "{package} ended:\n{}", child.output());
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    child
}

/// A Prometheus with a configuration of the test.
pub struct Prometheus {
    _child: ChildGuard,
    _folder: tempfile::TempDir,
    pub url: String,
}

impl Prometheus {
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    /// Starts it with more arguments.
    pub fn start_with(config: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("written");
        let port = free_port();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(arguments);
        let child = start("prometheus", &mut command, port);
        Prometheus {
            _child: child,
            _folder: folder,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Evaluates a selector now: labels and the value as Prometheus writes it.
    pub async fn query(&self, selector: &str) -> Vec<(BTreeMap<String, String>, String)> {
        let series = self.vector(selector).await;
        let one = |series: &serde_json::Value| {
            let labels = serde_json::from_value(series["metric"].clone()).expect("labels");
            (labels, series["value"][1].as_str().expect("a value").to_owned())
        };
        series.iter().map(one).collect()
    }

    /// Evaluates a selector now: what Prometheus' API says of each series, histograms included.
    pub async fn vector(&self, selector: &str) -> Vec<serde_json::Value> {
        let escaped: String = selector.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let text = get(&format!("{}/api/v1/query?query={escaped}", self.url)).await;
        let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        answer["data"]["result"].as_array().expect("a vector").clone()
    }
}

/// A node_exporter with the collectors of the test.
pub struct NodeExporter {
    _child: ChildGuard,
    pub url: String,
}

impl NodeExporter {
    pub fn start(arguments: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new("prometheus-node-exporter");
        command
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(arguments);
        let child = start("prometheus-node-exporter", &mut command, port);
        NodeExporter {
            _child: child,
            url: format!("http://127.0.0.1:{port}/metrics"),
        }
    }
}

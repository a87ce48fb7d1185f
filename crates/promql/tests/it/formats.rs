//! How expressions print and how faults are told, beside a live Prometheus: `format_query` of both.
//!
//! The server of the distribution is older than the language here. What it refuses because it does not know
//! it yet is counted, and must be the smaller part.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use marketprism_promql::parse;
use marketprism_testkit::process::{ChildGuard, free_port};
use serde_json::Value;
use tempfile::TempDir;

const INSTALL: &str = "install the peer: apt-get install -y prometheus";

struct Peer {
    port: u16,
    _process: ChildGuard,
    _folder: TempDir,
}

impl Peer {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, "scrape_configs: []\n").expect("a file");
        let port = free_port();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut process =
            ChildGuard::spawn(&mut command).unwrap_or_else(|error| panic!("prometheus: {error}; {INSTALL}"));
        process.wait_for_line(Duration::from_secs(60), "Server is ready to receive web requests");
        Peer {
            port,
            _process: process,
            _folder: folder,
        }
    }

    /// Gives the formatted text, or the reason to refuse it.
    fn format(&self, text: &str) -> Result<String, String> {
        let form: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut connection =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the server listens");
        write!(
            connection,
            "POST /api/v1/format_query HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\nquery={form}",
            form.len() + 6
        )
        .expect("the server reads");
        let mut answer = String::new();
        connection
            .read_to_string(&mut answer)
            .expect("the server answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{body}: {error}"));
        match (body["data"].as_str(), body["error"].as_str()) {
            (Some(formatted), _) => Ok(formatted.to_owned()),
            (None, Some(reason)) => Err(reason.replace("invalid parameter \"query\": ", "")),
            (None, None) => panic!("{body}"),
        }
    }
}

#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "1.50 + -2e3 * (0x1F - 017) ^ -.5 % Inf / NaN",
    "up{job = 'a', instance != \"b\\n\\u00e9\", x =~ `c|d`, y !~ \"e.*\"} offset 1h30m",
    "sum by (job, le) (rate(requests_total{code=~\"5..\"}[5m] offset -1m)) / ignoring (code) group_left sum (up) by (job)",
    "a > bool on (x) group_right (y, z) b or c and d unless e",
    "max_over_time((rate(a[1m]) > 0)[1h:1m] @ end() offset 1w) - min_over_time(b[2d:] @ 1.5)",
    "topk(3, -a) == count_values without (x) (\"v\", +b)",
    "label_replace(a, \"x\", \"$1\", \"y\", \"(.*)\") atan2 vector(time())",
    "histogram_quantile(0.9, sum without (instance) (rate(request_duration_seconds_bucket{job=\"api\"}[10m])))",
    "quantile(0.5, a @ start()) * on () b # a note\n + stddev(c) by ()",
    "{__name__=~\"a:.*\", job=\"b\"}[5m]",
    "sum(sum(a) + offset{by=\"x\"}) <= 3 != 4",
    "\"a text\"",
    "absent(up{job=\"x\"}) >= 1 < 2",
];

/// What the older server says when it meets what it does not know.
#[rustfmt::skip]
const NEWER: &[&str] = &[
    "missing unit character in duration", "bad duration syntax", "unexpected duration", "expected duration",
    "bad number or duration syntax", "error parsing number", "expected identifier or", "expected label\"",
    "in grouping opts, expected label", "unexpected character in duration", "error parsing regexp", "unexpected <op:/>",
    "trailing commas", "unexpected colon '", "<Item ", "duration must be greater than 0", "not a valid duration", "unknown unit",
];

/// Texts that may be typed on the way to a text, or by mistake.
fn variants(text: &str) -> Vec<String> {
    let mut variants = vec![text.to_owned()];
    for (at, c) in text.char_indices() {
        let after = at + c.len_utf8();
        variants.push(text[..at].to_owned());
        variants.push([&text[..at], &text[after..]].concat());
        variants.push([&text[..after], " ", &text[after..]].concat());
        variants.push([&text[..at], ")", &text[at..]].concat());
    }
    // Nothing at all is told otherwise by the newer one.
    variants.retain(|text| !text.trim().is_empty());
    variants
}

#[test]
fn expressions_and_faults_read_as_a_live_prometheus_writes_them() {
    let peer = Peer::start();
    let (mut formatted, mut refused, mut newer) = (0, 0, 0);
    let mut differences = Vec::new();
    for text in TEXTS.iter().flat_map(|text| variants(text)) {
        let ours = parse(&text)
            .map(|expr| expr.pretty())
            .map_err(|error| error.to_string());
        match (peer.format(&text), ours) {
            // The older one leaves the list out of an empty `ignoring ()` before `group_left`.
            (Ok(theirs), Ok(ours)) if ours.replace(" ignoring () group_left ()", "") == theirs => {
                formatted += 1
            }
            (Err(theirs), _) if NEWER.iter().any(|words| theirs.contains(words)) => newer += 1,
            (Err(theirs), Err(ours)) if prometheus_words(&ours) == theirs => refused += 1,
            (theirs, ours) => differences.push(format!("{text:?}:\n  there {theirs:?}\n  here  {ours:?}")),
        }
    }
    differences.truncate(30);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(
        formatted > 800 && refused > 1_000,
        "{formatted} formatted, {refused} refused"
    );
    assert!(
        newer < refused / 2,
        "{newer} are unknown to the peer, {refused} refused"
    );
}

/// Gives a refusal without what only we tell: what was expected, and what may have been meant.
fn prometheus_words(told: &str) -> &str {
    let ends = ["; expected ", "; did you mean"]
        .iter()
        .filter_map(|own| told.find(own));
    &told[..ends.min().unwrap_or(told.len())]
}

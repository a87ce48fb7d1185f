//! Next to Debian's Prometheus with the same samples: same answers, same shapes, and its tools work with us.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get as route_get;
use http::StatusCode;
use marketprism_collect::CollectMetrics;
use marketprism_collect::config::ScrapeFile;
use marketprism_collect::scrape::{ScrapePlan, Scraper, ScraperParts, TargetHealth, TargetsSnapshot};
use marketprism_model::{ActiveAlert, AlertState, Clock as _, Labels, Level, Timestamp};
use marketprism_net::{Egress, HttpClient};
use marketprism_rules::{GroupDefaults, GroupSnapshot, Health, RuleSnapshot, RulesSnapshot, parse_file};
use marketprism_server::Config;
use marketprism_testkit::{ChildGuard, HttpServer, MachineClock, free_port, wait_for_async};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::reply::{Reply, encoded, get, post_form};
use crate::rig::{Rig, Rooms, labels};
use crate::shape::{differences, shape};

/// A real process may be slow to start on a loaded machine; the wait ends as soon as it is there.
const DEADLINE: Duration = Duration::from_secs(60);
const STEP_MS: i64 = 15_000;
const STEPS: i64 = 120;

const EXPOSITION: &str =
    "# HELP fake_requests_total Requests.\n# TYPE fake_requests_total counter\nfake_requests_total 5\n";
const RULES: &str = "groups:
- name: example
  interval: 1s
  rules:
  - alert: Always
    expr: vector(1.5) > 1
    labels: {severity: critical}
    annotations: {summary: it always fires}
  - alert: Waits
    expr: vector(1) > 0
    for: 5m
    keep_firing_for: 1m
  - record: job:temperature:sum
    expr: sum(temperature)
    labels: {team: a}
  - record: broken
    expr: temperature * on() requests_total
";

/// Series with values that are awkward to write: fractions, exponents, special values, odd label values.
fn samples(end_ms: i64) -> Vec<(Labels, Vec<(i64, f64)>)> {
    let mut all = Vec::new();
    let mut add = |pairs: &[(&str, &str)], value: &dyn Fn(i64) -> f64| {
        let points = (0..STEPS).map(|step| (end_ms - (STEPS - 1 - step) * STEP_MS, value(step)));
        all.push((labels(pairs), points.collect()));
    };
    for (instance, pace) in [("a:1", 1.0), ("b:1", 2.5), ("c:1", 0.125)] {
        for code in ["200", "500"] {
            let pairs = [
                ("__name__", "requests_total"),
                ("instance", instance),
                ("job", "web"),
                ("code", code),
            ];
            add(&pairs, &move |step| {
                pace * (step % 50) as f64 * if code == "200" { 10.0 } else { 1.0 }
            });
        }
    }
    for (room, base) in [
        ("quote\"d", 20.25),
        ("back\\slash", -3.0),
        ("温室", 1e-9),
        ("far", 3.5e22),
    ] {
        add(&[("__name__", "temperature"), ("room", room)], &move |step| {
            base * (1.0 + step as f64 / 7.0)
        });
    }
    for (le, share) in [("0.1", 1.0), ("1", 3.0), ("+Inf", 4.0)] {
        add(
            &[("__name__", "latency_seconds_bucket"), ("le", le)],
            &move |step| share * step as f64,
        );
    }
    add(&[("__name__", "special"), ("kind", "inf")], &|_| f64::INFINITY);
    add(&[("__name__", "special"), ("kind", "nan")], &|_| f64::NAN);
    all
}

/// Writes samples as OpenMetrics text, for `promtool tsdb create-blocks-from openmetrics`.
fn open_metrics(all: &[(Labels, Vec<(i64, f64)>)]) -> String {
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by_key(|(labels, _)| labels.metric_name().to_owned());
    let mut text = String::new();
    for (labels, points) in sorted {
        for (millis, value) in points {
            let value = match value {
                value if value.is_nan() => "NaN".to_owned(),
                value if value.is_infinite() => "+Inf".to_owned(),
                value => value.to_string(),
            };
            let name = labels.metric_name();
            let inner: Vec<String> = labels
                .iter()
                .filter(|(name, _)| *name != "__name__")
                .map(|(name, value)| {
                    format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
                })
                .collect();
            let seconds = millis / 1000;
            let _ = writeln!(text, "{name}{{{}}} {value} {seconds}", inner.join(","));
        }
    }
    text.push_str("# EOF\n");
    text
}

pub struct Pair {
    pub ours: Rig,
    pub theirs: SocketAddr,
    pub end: Timestamp,
    scraper: Scraper,
    _exporter: HttpServer,
    _process: ChildGuard,
    _folder: TempDir,
    _cancel: tokio_util::sync::DropGuard,
}

fn scrape_config(exporter: SocketAddr) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
scrape_configs:
- job_name: good
  static_configs: [{{targets: ['{exporter}'], labels: {{zone: z1}}}}]
- job_name: down
  static_configs: [{{targets: ['127.0.0.1:1']}}]
- job_name: dropped
  static_configs: [{{targets: ['127.0.0.1:2']}}]
  relabel_configs: [{{action: drop, source_labels: [job], regex: dropped}}]
"
    )
}

impl Pair {
    /// Starts both with the same samples, targets and rules.
    pub async fn start() -> Pair {
        let now = MachineClock::default().now();
        let end = Timestamp::from_millis(now.millis() / STEP_MS * STEP_MS - 60_000);
        let all = samples(end.millis());
        let exporter = HttpServer::start(Router::new().route("/metrics", route_get(async || EXPOSITION)));
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let (process, theirs) = start_prometheus(&folder, &all, exporter.address());

        let mut rooms = Rooms::new(now);
        for (labels, points) in &all {
            rooms.append_at(labels, points);
        }
        let cancel = CancellationToken::new();
        let parts = ScraperParts {
            clock: Arc::new(rooms.clock.clone()),
            transport: Arc::new(HttpClient::new(Egress::default())),
            sink: rooms.store.clone(),
            metrics: CollectMetrics::default(),
            metadata: rooms.metadata.clone(),
            concurrency: 4,
            offset_seed: 0,
        };
        let (scraper, _) = Scraper::start(parts, cancel.clone());
        let file: ScrapeFile =
            serde_saphyr::from_str(&scrape_config(exporter.address())).expect("the settings are YAML");
        let pools = file.validate().expect("the settings are valid");
        let plan = ScrapePlan {
            pools,
            local: Vec::new(),
        };
        scraper.apply(plan).await.expect("the task runs");
        rooms.rules = Arc::new(rules(now));
        rooms.raise("Always", Level::Critical, Duration::ZERO, &[("zone", "z1")], 1.5);
        let mut pair = Pair {
            ours: Rig::bare(Config::default(), rooms).await,
            theirs,
            end,
            scraper,
            _exporter: exporter,
            _process: process,
            _folder: folder,
            _cancel: cancel.drop_guard(),
        };
        pair.scrape().await;
        pair
    }

    /// Lets time pass until every target of ours was scraped, then opens the server over what was seen.
    async fn scrape(&mut self) {
        let is_known = |targets: &TargetsSnapshot| {
            let unknown = |target: &&Arc<_>| target_health(target) == TargetHealth::Unknown;
            targets.active.len() == 2 && !targets.active.iter().any(|target| unknown(&target))
        };
        let clock = self.ours.rooms.clock.clone();
        let scraper = self.scraper.clone();
        wait_for_async(DEADLINE, || {
            clock.advance(Duration::from_millis(100));
            is_known(&scraper.targets())
        })
        .await;
        self.ours.rooms.targets = self.scraper.targets();
        self.ours.server.install(self.ours.rooms.parts());
        self.ours.readiness.ready();
    }

    async fn ask(&self, path: &str) -> (Reply, Reply) {
        let ours = get(self.ours.address, &format!("/prometheus/api/v1/{path}")).await;
        (ours, get(self.theirs, &format!("/api/v1/{path}")).await)
    }
}

fn target_health(target: &Arc<marketprism_collect::scrape::ActiveTarget>) -> TargetHealth {
    target.status().health
}

fn start_prometheus(
    folder: &TempDir,
    all: &[(Labels, Vec<(i64, f64)>)],
    exporter: SocketAddr,
) -> (ChildGuard, SocketAddr) {
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("samples.om"), open_metrics(all)).expect("the folder is writable");
    std::fs::write(path("rules.yml"), RULES).expect("the folder is writable");
    let config = format!("rule_files: [rules.yml]\n{}", scrape_config(exporter));
    std::fs::write(path("prometheus.yml"), config).expect("the folder is writable");
    let blocks = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([path("samples.om"), path("data")])
        .output()
        .expect("promtool is installed: apt-get install prometheus");
    assert!(
        blocks.status.success(),
        "{}",
        String::from_utf8_lossy(&blocks.stderr)
    );
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut process = ChildGuard::spawn(
        Command::new("prometheus")
            .current_dir(folder.path())
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}")),
    )
    .expect("prometheus is installed: apt-get install prometheus");
    process.wait_for_line(DEADLINE, "Server is ready to receive web requests");
    (process, address)
}

/// The same rules as the peer's, as they stand after an evaluation.
fn rules(now: Timestamp) -> RulesSnapshot {
    let file =
        parse_file("rules.yml", RULES.as_bytes(), &GroupDefaults::default()).expect("the rules are valid");
    let groups = file.groups.into_iter().map(|spec| {
        let rules = spec.rules.iter().map(|rule| {
            let is_broken = &*rule.name == "broken";
            let alert = |state| ActiveAlert {
                labels: labels(&[("alertname", &rule.name)]),
                state,
                level: Level::Medium,
                active_at: now,
                value: 1.5,
                annotations: labels(&[("summary", "it always fires")]),
            };
            RuleSnapshot {
                rule: Arc::clone(rule),
                health: if is_broken { Health::Err } else { Health::Ok },
                last_error: is_broken.then(|| Arc::from("many-to-many")),
                last_evaluation: Some(now),
                evaluation_time: Duration::from_micros(120),
                series: 1,
                missing: 0,
                alerts: match &*rule.name {
                    "Always" => vec![alert(AlertState::Firing)].into(),
                    "Waits" => vec![alert(AlertState::Pending)].into(),
                    _ => Vec::new().into(),
                },
            }
        });
        Arc::new(GroupSnapshot {
            last_evaluation: Some(now),
            evaluation_time: Duration::from_micros(450),
            iterations: 1,
            missed: 0,
            rules: rules.collect(),
            spec: Arc::new(spec),
        })
    });
    RulesSnapshot {
        groups: groups.collect(),
    }
}

/// Where our shape differs from Prometheus 2.42's, on purpose: endpoint, difference, why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("targets", "data.droppedTargetCounts is added", "Prometheus 3"),
    (
        "targets",
        "data.droppedTargetCounts.dropped is added",
        "Prometheus 3",
    ),
    (
        "targets",
        "data.droppedTargets[].scrapePool is added",
        "Prometheus 3",
    ),
    ("status/runtimeinfo", "data.GOMEMLIMIT is added", "Prometheus 3"),
    ("status/runtimeinfo", "data.hostname is added", "Prometheus 3"),
    ("status/runtimeinfo", "data.serverTime is added", "Prometheus 3"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_shapes_and_tools_agree_with_debians_prometheus() {
    let pair = Pair::start().await;
    wait_for_evaluations(&pair).await;
    same_answers(&pair).await;
    same_shapes(&pair).await;
    grafanas_questions(&pair).await;
    promtool_answers(&pair).await;
}

/// Waits until the peer has evaluated its rules and scraped its targets.
pub async fn wait_for_evaluations(pair: &Pair) {
    let deadline = tokio::time::timeout(DEADLINE, async {
        loop {
            let targets = get(pair.theirs, "/api/v1/targets").await;
            let is_scraped = ["up", "down"]
                .iter()
                .all(|word| targets.text().contains(&format!("\"health\":\"{word}\"")));
            let rules = get(pair.theirs, "/api/v1/rules").await;
            let is_evaluated = !rules.text().contains("\"health\":\"unknown\"");
            let alerts = get(pair.theirs, "/api/v1/alerts").await;
            if is_scraped && is_evaluated && alerts.text().contains("firing") {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    deadline
        .await
        .expect("the peer scrapes and evaluates every second");
}

/// Sorts the series of a result, whose order Prometheus leaves open.
fn sorted(mut answer: Value) -> Value {
    if let Some(result) = answer["data"]["result"].as_array_mut()
        && result.first().is_some_and(Value::is_object)
    {
        result.sort_by_key(|series| series["metric"].to_string());
    }
    answer
}

/// Compares two answers: everything must be equal, texts of numbers too, but that the last digit of a sum may
/// differ, for Prometheus 3 adds with compensation and the peer does not yet.
#[track_caller]
fn assert_agree(ours: &Value, theirs: &Value, question: &str) {
    match (ours, theirs) {
        (Value::Array(own), Value::Array(other)) if own.len() == other.len() => {
            own.iter()
                .zip(other)
                .for_each(|(own, other)| assert_agree(own, other, question));
        }
        (Value::Object(own), Value::Object(other)) if own.keys().eq(other.keys()) => {
            own.iter()
                .zip(other)
                .for_each(|((_, own), (_, other))| assert_agree(own, other, question));
        }
        (Value::String(own), Value::String(other)) if own != other => {
            let (own_value, other_value) = (own.parse::<f64>(), other.parse::<f64>());
            let is_close = own_value.is_ok_and(|own| {
                other_value.is_ok_and(|other| own != other && (own - other).abs() <= other.abs() * 1e-14)
            });
            assert!(is_close, "{question}: {own:?} is not {other:?}");
        }
        _ => assert_eq!(ours, theirs, "{question}"),
    }
}

/// Compares whole answers. Times lie between samples, so that the change of window edges
/// from Prometheus 2 to 3 shows nowhere.
async fn same_answers(pair: &Pair) {
    const EXPRESSIONS: [&str; 22] = [
        "temperature",
        "temperature * 1e-9",
        "temperature{room=~\"q.*|温.\"} / 3",
        "requests_total",
        "sum by (job, code) (rate(requests_total[5m]))",
        "max_over_time(temperature[4m]) - min_over_time(temperature[4m])",
        "topk(2, requests_total)",
        "histogram_quantile(0.9, rate(latency_seconds_bucket[5m]))",
        "requests_total{code=\"500\"} / on(instance) group_left() requests_total{code=\"200\"}",
        "special",
        "-special",
        "absent(nothing)",
        "absent(nothing{a=\"b\"})",
        "count_values(\"v\", requests_total > 10)",
        "label_replace(temperature, \"place\", \"in $1\", \"room\", \"(.*)\")",
        "quantile(0.3, temperature)",
        "vector(1) == bool 2",
        "1 / 3",
        "2 ^ 100",
        "\"a text\"",
        "requests_total[1m]",
        "avg_over_time(temperature[10m:1m])",
    ];
    let at = pair.end.seconds_f64() - 307.25;
    let mut filled = 0;
    for expression in EXPRESSIONS {
        let (ours, theirs) = pair
            .ask(&format!("query?time={at}&query={}", encoded(expression)))
            .await;
        assert_eq!(ours.status, StatusCode::OK, "{expression}: {:?}", ours.body);
        assert_agree(&sorted(ours.json()), &sorted(theirs.json()), expression);
        filled += usize::from(
            theirs.json()["data"]["result"]
                .as_array()
                .is_some_and(|result| !result.is_empty()),
        );
        if expression.contains("[1m]") || expression.starts_with('"') {
            continue;
        }
        let (start, end) = (at - 600.0, at);
        let query = format!(
            "query_range?start={start}&end={end}&step=37s&query={}",
            encoded(expression)
        );
        let (ours, theirs) = pair.ask(&query).await;
        assert_eq!(ours.status, StatusCode::OK, "{expression}: {:?}", ours.body);
        assert_agree(&sorted(ours.json()), &sorted(theirs.json()), expression);
    }
    assert!(
        filled * 10 >= EXPRESSIONS.len() * 8,
        "only {filled} answers had anything in them"
    );
    for path in [
        "series?match[]=temperature&match[]=requests_total{code=\"500\"}",
        "label/room/values",
        "label/code/values?match[]=requests_total",
        "labels?match[]=latency_seconds_bucket",
        "label/__name__/values?match[]={job=\"web\"}",
        "metadata?metric=fake_requests_total",
        "format_query?query=sum(up)",
    ] {
        let (ours, theirs) = pair.ask(path).await;
        let (mut ours, mut theirs) = (ours.json(), theirs.json());
        for answer in [&mut ours, &mut theirs] {
            if let Some(items) = answer["data"].as_array_mut() {
                items.sort_by_key(Value::to_string);
            }
        }
        assert_eq!(ours, theirs, "{path}");
    }
}

/// Compares keys and types of every endpoint; what differs must be listed.
async fn same_shapes(pair: &Pair) {
    let at = pair.end.seconds_f64() - 307.0;
    let query = format!("query?time={at}&query=");
    let endpoints = [
        format!("{query}temperature"),
        format!("{query}1"),
        format!("{query}\"a\""),
        format!("{query}requests_total[1m]"),
        format!("{query}nothing"),
        format!(
            "query_range?query=temperature&start={}&end={at}&step=60",
            at - 300.0
        ),
        format!("query_exemplars?query=temperature&start={at}&end={at}"),
        "format_query?query=up".to_owned(),
        "series?match[]=temperature".to_owned(),
        "labels".to_owned(),
        "label/room/values".to_owned(),
        "metadata".to_owned(),
        "targets".to_owned(),
        "targets?state=active".to_owned(),
        "targets/metadata".to_owned(),
        "targets/metadata?metric=fake_requests_total".to_owned(),
        "rules".to_owned(),
        "rules?type=alert".to_owned(),
        "rules?type=record".to_owned(),
        "alerts".to_owned(),
        "alertmanagers".to_owned(),
        "status/buildinfo".to_owned(),
        "status/config".to_owned(),
        "status/flags".to_owned(),
        "status/runtimeinfo".to_owned(),
        "status/tsdb".to_owned(),
        "query?query=sum(".to_owned(),
        "query?query=temperature*on()requests_total".to_owned(),
        "query_range?query=up".to_owned(),
        "series".to_owned(),
        "rules?type=nonsense".to_owned(),
    ];
    let mut seen = Vec::new();
    for endpoint in &endpoints {
        let (ours, theirs) = pair.ask(endpoint).await;
        assert_eq!(ours.status, theirs.status, "{endpoint}: {:?}", ours.body);
        assert_eq!(
            ours.header("content-type"),
            theirs.header("content-type"),
            "{endpoint}"
        );
        let name = endpoint.split('?').next().unwrap_or(endpoint);
        let has_map = matches!(name, "metadata" | "status/flags");
        let (ours, theirs) = (shape(&ours.json(), has_map), shape(&theirs.json(), has_map));
        for difference in differences(&ours, &theirs) {
            let is_listed = DIFFERENCES
                .iter()
                .any(|(of, text, _)| *of == name && *text == difference);
            assert!(is_listed, "{endpoint}: {difference}");
            seen.push((name, difference));
        }
    }
    for (name, text, _) in DIFFERENCES {
        assert!(
            seen.iter().any(|(of, seen)| of == name && seen == text),
            "{name}: {text} was never seen"
        );
    }
}

/// What Grafana's Prometheus data source asks: its health check, its editor, a panel, its alert list.
async fn grafanas_questions(pair: &Pair) {
    let address = pair.ours.address;
    let at = pair.end.seconds_f64() as i64;
    let health = post_form(
        address,
        "/prometheus/api/v1/query",
        &format!("query=1%2B1&time={at}"),
    )
    .await;
    assert_eq!(health.json()["data"]["result"][1], "2");
    let names = get(
        address,
        &format!(
            "/prometheus/api/v1/label/__name__/values?start={}&end={at}&match[]=%7Bjob%3D%22web%22%7D",
            at - 3600
        ),
    )
    .await;
    assert_eq!(names.json()["data"], serde_json::json!(["requests_total"]));
    let form = format!(
        "end={at}&query={}&start={}&step=15",
        encoded("sum(rate(requests_total{job=\"web\"}[1m0s])) by (code)"),
        at - 900
    );
    let panel = post_form(address, "/prometheus/api/v1/query_range", &form)
        .await
        .json();
    assert_eq!(
        panel["data"]["result"].as_array().map(Vec::len),
        Some(2),
        "{panel}"
    );
    let labels = post_form(address, "/prometheus/api/v1/labels", "match%5B%5D=temperature")
        .await
        .json();
    assert_eq!(labels["data"], serde_json::json!(["__name__", "room"]));
    let build = get(address, "/prometheus/api/v1/status/buildinfo").await.json();
    assert!(
        build["data"]["version"]
            .as_str()
            .is_some_and(|version| version.starts_with("3."))
    );
    assert!(
        build["data"].get("features").is_none(),
        "it would make Grafana offer to edit rules"
    );
    let rules = get(
        address,
        "/prometheus/api/v1/rules?limit_alerts=16&exclude_alerts=true",
    )
    .await
    .json();
    assert_eq!(
        rules["data"]["groups"][0]["rules"][0]["alerts"],
        serde_json::json!([])
    );
    let chosen = get(
        address,
        "/prometheus/api/v1/rules?rule_name[]=Waits&file[]=rules.yml&rule_group[]=example",
    )
    .await;
    assert_eq!(
        chosen.json()["data"]["groups"][0]["rules"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let chosen = get(
        address,
        "/prometheus/api/v1/rules?match[]={severity=\"critical\"}",
    )
    .await
    .json();
    assert_eq!(chosen["data"]["groups"][0]["rules"][0]["name"], "Always");
    let first = get(address, "/prometheus/api/v1/rules?group_limit=1")
        .await
        .json();
    assert_eq!(first["data"]["groups"].as_array().map(Vec::len), Some(1));
}

/// promtool asks us what it asks the peer, and prints the same.
async fn promtool_answers(pair: &Pair) {
    let end = pair.end.millis() / 1000;
    let questions: [Vec<String>; 4] = [
        vec![
            "instant".into(),
            format!("--time={}", end - 301),
            "{}".into(),
            "sum by (code) (requests_total)".into(),
        ],
        vec![
            "range".into(),
            format!("--start={}", end - 601),
            format!("--end={}", end - 301),
            "--step=60s".into(),
            "{}".into(),
            "sum(requests_total)".into(),
        ],
        vec!["series".into(), "--match=temperature".into(), "{}".into()],
        vec!["labels".into(), "{}".into(), "code".into()],
    ];
    let ask = async |question: &[String], url: String| {
        let question: Vec<String> = question
            .iter()
            .map(|word| if word == "{}" { url.clone() } else { word.clone() })
            .collect();
        let asked = tokio::task::spawn_blocking(move || {
            Command::new("promtool").arg("query").args(question).output()
        });
        let output = asked.await.expect("no panic").expect("promtool is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for question in &questions {
        let ours = ask(question, format!("http://{}/prometheus", pair.ours.address)).await;
        let theirs = ask(question, format!("http://{}", pair.theirs)).await;
        assert_eq!(ours, theirs, "promtool query {question:?}");
        assert!(!ours.is_empty(), "promtool query {question:?} printed nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debians_prometheus_pushes_by_remote_write() {
    let now = MachineClock::default().now();
    let rig = Rig::start_with(Config::default(), Rooms::new(now)).await;
    let exporter = HttpServer::start(Router::new().route("/metrics", route_get(async || EXPOSITION)));
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let config = format!(
        "remote_write: [{{url: 'http://{}/api/v1/write', queue_config: {{batch_send_deadline: 1s}}}}]\n{}",
        rig.address,
        scrape_config(exporter.address())
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).expect("the folder is writable");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut process = ChildGuard::spawn(
        Command::new("prometheus")
            .current_dir(folder.path())
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}")),
    )
    .expect("prometheus is installed: apt-get install prometheus");
    process.wait_for_line(DEADLINE, "Server is ready to receive web requests");
    let arrived = tokio::time::timeout(DEADLINE, async {
        loop {
            rig.rooms.clock.jump_to(MachineClock::default().now());
            let answer = get(rig.address, "/prometheus/api/v1/query?query=fake_requests_total")
                .await
                .json();
            let up = get(rig.address, "/prometheus/api/v1/query?query=up").await.json();
            let targets = up["data"]["result"].as_array().map_or(0, Vec::len);
            // The target that is down may be scraped later than the other.
            if answer["data"]["result"][0]["value"][1] == "5" && targets == 2 {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    });
    let answer = arrived
        .await
        .expect("samples of both targets are pushed every second");
    assert_eq!(answer["data"]["result"][0]["metric"]["zone"], "z1");
}

//! The same configuration and the same targets for Prometheus and for us: the same samples in the end.
//!
//! The bodies are valid ones and hundreds of near misses made from them, so that the two must agree on what is an
//! error, too. Where the version that Debian packages (2.42) knows less than version 3, whose ways we follow, the
//! differences are named: quoted names, `le="1"` becoming `le="1.0"`, a comma after the last label in OpenMetrics,
//! exemplars at any metric, and blanks before a name, which Prometheus takes into the name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use marketprism_collect::config::{ScrapeFile, parse_yaml};
use marketprism_collect::exposition::{Entry, Format, Parser};
use marketprism_collect::{CollectMetrics, MetadataStore, ScrapePlan, Scraper, ScraperParts};
use marketprism_model::{Chance, Labels};
use marketprism_net::{Egress, HttpClient};
use marketprism_testkit::{HttpServer, MachineClock, MemorySink, SeededChance, wait_for_async};
use tokio_util::sync::CancellationToken;

use crate::peers::Prometheus;

const PATIENCE: Duration = Duration::from_secs(60);
const NEAR_MISSES: usize = 300;

const TEXT_BODIES: [&str; 9] = [
    "honor{job=\"\",instance=\"\",x=\"\"} 1\nhonor{job=\"own\",instance=\"\"} 2\nhonor{exported_job=\"e\"} 3\n",
    "# HELP a Some help\\nwith \\\\ escapes.\n# TYPE a counter\na{x=\"1\",y=\"two\"} 1\na{x=\"2\"} 2.5e3\n\n# done\n",
    "b 1\nb2{} -4.25\nb3{ k = \"v\" , } +Inf\nb4{k=\"v\"w=\"x\"} NaN\nb5{k=\"v\",} 0x\n",
    "c{v=\"q\\\"uote \\\\ back \\n line\",w=\"日本\"} 7\nc{v=\"\"} 3\n",
    "d_bucket{le=\"0.5\"} 1\nd_bucket{le=\"+Inf\"} 2\nd_sum 3\nd_count 2\n",
    "e:f:g{a=\"1\"} 1e-300\ne:f:g{a=\"2\"} 123456789012345678\n#e 1\n# TYPE e gauge\n",
    "job_clash{job=\"mine\",instance=\"me\",exported_job=\"other\"} 1\n",
    "keep_me{n=\"1\",drop=\"x\"} 1\nlower{n=\"ABC\"} 2\ndrop_me 3\nhash{n=\"abc\"} 4\nmap{meta_zone=\"z\"} 5\n",
    "dup 1\ndup 2\nlast{x=\"y\"} 3",
];

const OPEN_BODIES: [&str; 4] = [
    "# HELP a Help.\n# TYPE a counter\na_total{x=\"1\"} 1 # {t=\"y\"} 0.5 1.5\na_total{x=\"2\"} 2\n# EOF\n",
    "# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds{k=\"v\"} 1.5\nb_seconds 2 123.456\n# EOF",
    "# TYPE c info\nc_info{v=\"1.2\"} 1\n# TYPE s stateset\ns{s=\"on\"} 1\ns{s=\"off\"} 0\n# EOF\n",
    "d NaN\nd{q=\"\\\"\\\\\\n\"} -Inf\n# EOF\n",
];

#[derive(Clone)]
struct Case {
    body: String,
    format: Format,
}

/// Changes one place of a body, seldom two.
fn near_miss(body: &str, chance: &SeededChance) -> String {
    const PIECES: [&str; 18] = [
        " ", "{", "}", "\"", ",", "=", "\\", "\n", "#", "0", "a", ".", "-", "# EOF\n", "# TYPE ", "e", "\t",
        "_",
    ];
    let mut chars: Vec<String> = body.chars().map(String::from).collect();
    let pick = |count: usize| (chance.next_u64() % count as u64) as usize;
    for _ in 0..1 + pick(4) / 3 {
        let at = pick(chars.len());
        match pick(3) {
            0 => chars[at].clear(),
            1 => chars[at] = PIECES[pick(PIECES.len())].to_owned(),
            _ => chars.insert(at, PIECES[pick(PIECES.len())].to_owned()),
        }
    }
    chars.concat()
}

fn cases() -> Vec<Case> {
    let text = TEXT_BODIES.iter().map(|body| (*body, Format::Prometheus));
    let open = OPEN_BODIES.iter().map(|body| (*body, Format::OpenMetrics));
    let valid: Vec<Case> = text
        .chain(open)
        .map(|(body, format)| Case {
            body: body.to_owned(),
            format,
        })
        .collect();
    let chance = SeededChance::new(20_260_801);
    let missed = (0..NEAR_MISSES).map(|at| {
        let case = &valid[at % valid.len()];
        Case {
            body: near_miss(&case.body, &chance),
            format: case.format,
        }
    });
    let missed: Vec<Case> = missed.collect();
    valid.into_iter().chain(missed).collect()
}

/// Says whether Prometheus 2.42 is known to judge the body otherwise.
fn is_known_difference(case: &Case) -> bool {
    let has_leading_blank = case.body.lines().any(|line| {
        let name = line.trim_start_matches([' ', '\t']);
        name.len() < line.len() && !name.is_empty() && !name.starts_with('#')
    });
    let mut parser = Parser::new(case.body.as_bytes(), case.format);
    let mut has_quoted_name = false;
    while let Ok(Some(entry)) = parser.next_entry() {
        let series = match entry {
            Entry::Sample(sample) => sample.series,
            Entry::Type(family, _) | Entry::Help(family, _) | Entry::Unit(family, _) => family,
        };
        let text = String::from_utf8_lossy(series);
        let opens = text
            .match_indices('{')
            .next()
            .map(|(at, _)| text[at + 1..].trim_start().starts_with('"'));
        has_quoted_name |= opens == Some(true)
            || text.contains(",\"")
            || text.contains("\"\"")
            || text.contains('.') && !text.contains('{');
    }
    // 2.42 wants exemplars at counters and buckets only.
    let has_free_exemplar = case
        .body
        .lines()
        .filter(|line| line.contains(" # {"))
        .any(|line| {
            let name = line.split(['{', ' ']).next().unwrap_or("");
            !name.ends_with("_total") && !name.ends_with("_bucket")
        });
    let has_late_comma = case.format == Format::OpenMetrics && case.body.contains(",}");
    has_leading_blank
        || has_free_exemplar
        || has_late_comma
        || has_quoted_name
        || case.body.contains("# TYPE \"")
        || case.body.contains("# HELP \"")
}

fn configuration(server: &HttpServer, count: usize) -> String {
    let mut yaml = String::from(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: cases
    honor_timestamps: false
    relabel_configs:
      - {source_labels: [case], regex: 'c(.*)', target_label: __metrics_path__, replacement: '/case/$1'}
      - {source_labels: [case, __scheme__], separator: '-', target_label: made, replacement: 'x${1}y$$'}
    metric_relabel_configs:
      - {source_labels: [__name__], regex: 'drop_.*', action: drop}
      - {regex: drop, action: labeldrop}
      - {source_labels: [n], target_label: lower, action: lowercase}
      - {source_labels: [n, __name__], target_label: hash, modulus: 97, action: hashmod}
      - {regex: 'meta_(.+)', action: labelmap, replacement: 'mapped_$1'}
      - {source_labels: [x], regex: '(\\d)', target_label: x, replacement: 'n${1}_$1_'}
    static_configs:
",
    );
    let address = server.address();
    for at in 0..count {
        yaml.push_str(&format!(
            "      - {{targets: ['{address}'], labels: {{case: 'c{at}'}}}}\n"
        ));
    }
    yaml.push_str("  - job_name: honored\n    honor_labels: true\n    static_configs:\n");
    for at in 0..TEXT_BODIES.len() {
        yaml.push_str(&format!(
            "      - {{targets: ['{address}'], labels: {{case: 'h{at}', __metrics_path__: '/case/{at}'}}}}\n"
        ));
    }
    yaml
}

fn serve(cases: Vec<Case>) -> HttpServer {
    async fn answer(State(cases): State<Arc<Vec<Case>>>, Path(at): Path<usize>) -> impl IntoResponse {
        let case = &cases[at];
        let content_type = match case.format {
            Format::Prometheus => "text/plain; version=0.0.4",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Protobuf => unreachable!("these bodies are text"),
        };
        ([(CONTENT_TYPE, content_type)], case.body.clone())
    }
    HttpServer::start(
        Router::new()
            .route("/case/{at}", get(answer))
            .with_state(Arc::new(cases)),
    )
}

type Outcome = BTreeMap<String, BTreeSet<(String, String)>>;

/// Files a sample under its case; bounds are written alike, and what depends on the moment is left out.
fn file(outcome: &mut Outcome, labels: BTreeMap<String, String>, value: f64) {
    let name = labels.get("__name__").map_or("", String::as_str);
    if ["scrape_duration_seconds", "scrape_series_added"].contains(&name) {
        return;
    }
    let case = labels
        .get("case")
        .unwrap_or_else(|| panic!("a series outside the cases: {labels:?}"))
        .clone();
    let pairs = labels.into_iter().map(|(name, value)| {
        let is_bound = name == "le" || name == "quantile";
        let bound = value.parse::<f64>().ok().filter(|_| is_bound);
        (name, bound.map_or(value, |bound| bound.to_string()))
    });
    let series = Labels::from_pairs(pairs).to_string();
    outcome
        .entry(case)
        .or_default()
        .insert((series, value.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_and_we_take_the_same_from_the_same_targets() {
    let cases = cases();
    let server = serve(cases.clone());
    let yaml = configuration(&server, cases.len());
    let prometheus = Prometheus::start(&yaml);

    let sink = Arc::new(MemorySink::new());
    let parts = ScraperParts {
        clock: Arc::new(MachineClock::default()),
        transport: Arc::new(HttpClient::new(Egress::default())),
        sink: Arc::clone(&sink) as _,
        metrics: CollectMetrics::default(),
        metadata: MetadataStore::default(),
        concurrency: 8,
        offset_seed: 0,
    };
    let (scraper, _) = Scraper::start(parts, CancellationToken::new());
    let configured: ScrapeFile = parse_yaml(&yaml).expect("the same configuration");
    let pools = configured.validate().expect("valid");
    let applied = scraper
        .apply(ScrapePlan {
            pools,
            local: Vec::new(),
        })
        .await
        .expect("runs");
    let targets = cases.len() + TEXT_BODIES.len();
    assert_eq!(applied.started, targets);

    let ups = || {
        sink.newest()
            .iter()
            .filter(|(labels, ..)| labels.metric_name() == "up")
            .count()
    };
    wait_for_async(PATIENCE, || ups() == targets).await;
    let all_scraped = async { while prometheus.query("up{case!=\"\"}").await.len() < targets {} };
    tokio::time::timeout(PATIENCE, all_scraped)
        .await
        .expect("Prometheus scrapes every second");
    let mut theirs = Outcome::new();
    for (labels, value) in prometheus.query("{case!=\"\"}").await {
        file(
            &mut theirs,
            labels,
            value.replace("+Inf", "inf").parse().expect("a number"),
        );
    }
    let mut ours = Outcome::new();
    for (labels, _, value) in sink.newest() {
        if let Some(value) = value {
            file(
                &mut ours,
                labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
                value,
            );
        }
    }

    let (mut compared, mut refused, mut samples) = (0, 0, 0);
    let mut differing = Vec::new();
    let plain = cases
        .iter()
        .enumerate()
        .map(|(at, case)| (format!("c{at}"), case));
    let honored = cases[..TEXT_BODIES.len()]
        .iter()
        .enumerate()
        .map(|(at, case)| (format!("h{at}"), case));
    for (key, case) in plain.chain(honored) {
        if is_known_difference(case) {
            continue;
        }
        let (our, their) = (&ours[&key], &theirs[&key]);
        if our != their {
            let only_we: Vec<_> = our.difference(their).collect();
            let only_they: Vec<_> = their.difference(our).collect();
            differing.push(format!(
                "{:?} {:?}\n  only here {only_we:?}\n  only there {only_they:?}",
                case.format, case.body
            ));
        }
        compared += 1;
        samples += our.len();
        refused += usize::from(
            our.iter()
                .any(|(series, value)| series.starts_with("up{") && value == "0"),
        );
    }
    assert!(
        differing.is_empty(),
        "{} bodies differ:\n{}",
        differing.len(),
        differing.join("\n")
    );
    eprintln!(
        "{compared} of {} bodies compared, {refused} refused by both, {samples} samples",
        cases.len()
    );
    assert!(
        compared * 10 >= cases.len() * 8,
        "only {compared} of {} bodies were compared",
        cases.len()
    );
    assert!(
        refused * 5 >= compared && refused * 5 <= compared * 4,
        "{refused} of {compared} refused: no fair mix"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_node_exporter_is_scraped_whole() {
    let exporter = crate::peers::NodeExporter::start(&[]);
    let address = exporter
        .url
        .trim_start_matches("http://")
        .trim_end_matches("/metrics")
        .to_owned();
    let sink = Arc::new(MemorySink::new());
    let parts = ScraperParts {
        clock: Arc::new(MachineClock::default()),
        transport: Arc::new(HttpClient::new(Egress::default())),
        sink: Arc::clone(&sink) as _,
        metrics: CollectMetrics::default(),
        metadata: MetadataStore::default(),
        concurrency: 2,
        offset_seed: 0,
    };
    let cancel = CancellationToken::new();
    let (scraper, task) = Scraper::start(parts, cancel.clone());
    let yaml = format!(
        "scrape_configs: [{{job_name: node, scrape_interval: 1s, static_configs: [{{targets: ['{address}']}}]}}]"
    );
    let configured: ScrapeFile = parse_yaml(&yaml).expect("valid");
    let plan = ScrapePlan {
        pools: configured.validate().expect("valid"),
        local: Vec::new(),
    };
    scraper.apply(plan).await.expect("runs");
    let of_target = |name: &str| format!(r#"{name}{{instance="{address}", job="node"}}"#);
    wait_for_async(PATIENCE, || sink.samples_of(&of_target("up")).len() >= 2).await;
    cancel.cancel();
    task.await.expect("ends well");

    let status = scraper.targets().active[0].status();
    assert_eq!((status.last_error.as_str(), status.health.as_str()), ("", "up"));
    assert!(status.last_scrape_duration > Duration::ZERO);
    let scraped = sink
        .value_of(&of_target("scrape_samples_scraped"))
        .expect("written");
    assert!(scraped > 300.0, "{scraped} samples");
    let boot = sink
        .value_of(&of_target("node_boot_time_seconds"))
        .expect("every host has booted");
    let text = std::fs::read_to_string("/proc/stat").expect("this is Linux");
    let btime = text
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .expect("a line of its own");
    assert_eq!(boot, btime.parse::<f64>().expect("a number"));
    let told = status
        .metadata
        .iter()
        .find(|family| family.family == "node_boot_time_seconds")
        .expect("told");
    assert_eq!(told.kind.as_str(), "gauge");
    assert!(!told.help.is_empty());
}

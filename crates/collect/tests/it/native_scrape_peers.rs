//! Native histograms by scrape, next to a real Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use http::Method;
use marketprism_collect::config::{ScrapeFile, parse_yaml};
use marketprism_collect::exposition::{Format, HistogramRules};
use marketprism_collect::{CollectMetrics, MetadataStore, ScrapePlan, Scraper, ScraperParts};
use marketprism_model::{Histogram, Labels};
use marketprism_net::{Egress, HttpClient, Request, Transport};
use marketprism_testkit::{HttpServer, MachineClock, MemorySink, wait_for_async};
use tokio_util::sync::CancellationToken;

use crate::families::{
    COUNTER, GAUGE, GAUGE_HISTOGRAM, HISTOGRAM, PROTOBUF, SUMMARY, UNTYPED, body, classic_buckets, family,
    float_message, metric, number, whole_message,
};
use crate::message::Message;
use crate::native_scrape::Scene;
use crate::peers::Prometheus;

const PATIENCE: Duration = Duration::from_secs(60);

async fn scrape_all(yaml: &str, is_done: impl Fn(&MemorySink) -> bool) -> Arc<MemorySink> {
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
    let cancel = CancellationToken::new();
    let (scraper, task) = Scraper::start(parts, cancel.clone());
    let configured: ScrapeFile = parse_yaml(yaml).expect("a configuration");
    assert_eq!(configured.ignored(), Vec::<String>::new());
    let plan = ScrapePlan {
        pools: configured.validate().expect("valid"),
        local: Vec::new(),
    };
    scraper.apply(plan).await.expect("runs");
    wait_for_async(PATIENCE, || is_done(&sink)).await;
    cancel.cancel();
    task.await.expect("ends well");
    sink
}

/// Lower and upper bound and count of each bucket, as Prometheus' API tells them.
fn told_buckets(histogram: &Histogram) -> Vec<(f64, f64, f64)> {
    let base = 2f64.powf(2f64.powi(-histogram.schema));
    let bound = |index: i32| base.powi(index);
    let mut told = Vec::new();
    histogram
        .negative
        .each(|index, count| told.push((-bound(index), -bound(index - 1), count)));
    told.reverse();
    if histogram.zero_count > 0.0 {
        let width = histogram.zero_threshold;
        told.push((-width, width, histogram.zero_count));
    }
    histogram
        .positive
        .each(|index, count| told.push((bound(index - 1), bound(index), count)));
    told.retain(|(_, _, count)| *count > 0.0);
    told
}

/// One family of each kind, with names and values that are written in more than one way.
fn families_of_every_kind() -> Vec<u8> {
    let both = classic_buckets(whole_message(), &[(1.0, 11), (f64::INFINITY, 16)]);
    body(&[
        family(
            "whole",
            HISTOGRAM,
            &[metric(&[("l", "a\"b")], 7, &whole_message())],
        ),
        family("float", GAUGE_HISTOGRAM, &[metric(&[], 7, &float_message())]),
        family("both", HISTOGRAM, &[metric(&[], 7, &both)]),
        family(
            "classic",
            HISTOGRAM,
            &[metric(
                &[],
                7,
                &classic_buckets(
                    Message::default().number(1, 9).double(2, 4.5),
                    &[
                        (-1.0, 0),
                        (0.0, 1),
                        (5e-5, 2),
                        (0.1, 2),
                        (2.5, 3),
                        (100.0, 4),
                        (123_456.0, 5),
                        (1e6, 6),
                        (1e21, 7),
                    ],
                ),
            )],
        ),
        family(
            "quick",
            SUMMARY,
            &[metric(
                &[("l", "日本\n")],
                4,
                &Message::default()
                    .number(1, 3)
                    .double(2, 1.25)
                    .bytes(3, &Message::default().double(1, 1.0).double(2, f64::NAN).0)
                    .bytes(3, &Message::default().double(1, 0.99).double(2, 0.2).0),
            )],
        ),
        family(
            "hits_total",
            COUNTER,
            &[metric(&[("instance", "own")], 3, &number(1e15 + 0.5))],
        ),
        family("heat", GAUGE, &[metric(&[], 2, &number(f64::INFINITY))]),
        family("plain", UNTYPED, &[metric(&[], 5, &number(-0.1))]),
        family("zero", COUNTER, &[Message::default()]),
    ])
}

fn parse(value: &serde_json::Value) -> f64 {
    let text = value.as_str().expect("a number in quotes");
    text.replace("+Inf", "inf").parse().expect("a number")
}

/// Holds a histogram against what Prometheus' API tells of it.
fn check_same(labels: &Labels, ours: &Histogram, told: &serde_json::Value) {
    assert_eq!(
        (parse(&told["count"]), parse(&told["sum"])),
        (ours.count, ours.sum),
        "{labels}"
    );
    let buckets = told["buckets"].as_array().expect("buckets");
    let expected: Vec<_> = buckets
        .iter()
        .map(|b| (parse(&b[1]), parse(&b[2]), parse(&b[3])))
        .collect();
    let found = told_buckets(ours);
    assert_eq!(
        found.len(),
        expected.len(),
        "{labels}: {found:?} and {expected:?}"
    );
    for (found, expected) in found.iter().zip(&expected) {
        let is_near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs();
        assert!(
            is_near(found.0, expected.0) && is_near(found.1, expected.1),
            "{labels}: {found:?} {expected:?}"
        );
        assert_eq!(found.2, expected.2, "{labels}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_and_we_take_the_same_from_protobuf() {
    let families = families_of_every_kind();
    let answer = get(move || {
        let families = families.clone();
        async move { ([(CONTENT_TYPE, PROTOBUF)], families) }
    });
    let server = HttpServer::start(Router::new().route("/metrics", answer));
    let address = server.address();
    let yaml = |more: &str| {
        format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: p, static_configs: [{{targets: ['{address}']}}]{more}}}]"
        )
    };
    let prometheus = Prometheus::start_with(&yaml(""), &["--enable-feature=native-histograms"]);
    let is_scraped = |sink: &MemorySink| {
        sink.newest()
            .iter()
            .any(|(labels, ..)| labels.metric_name() == "up")
    };
    let sink = scrape_all(&yaml(", scrape_native_histograms: true"), is_scraped).await;
    let theirs = async {
        loop {
            let all = prometheus.vector("{job=\"p\"}").await;
            if !all.is_empty() {
                return all;
            }
        }
    };
    let theirs = tokio::time::timeout(PATIENCE, theirs)
        .await
        .expect("Prometheus scrapes every second");
    let (mut numbers, mut histograms) = (BTreeMap::new(), 0);
    for series in &theirs {
        let labels: BTreeMap<String, String> =
            serde_json::from_value(series["metric"].clone()).expect("labels");
        let labels = Labels::from_pairs(labels);
        if labels.metric_name().starts_with("scrape_") {
            continue;
        }
        let told = &series["histogram"][1];
        if told.is_null() {
            numbers.insert(labels.to_string(), parse(&series["value"][1]));
            continue;
        }
        histograms += 1;
        let ours = sink.histograms_of(&labels.to_string());
        let ours = &ours.first().unwrap_or_else(|| panic!("{labels} was not taken")).1;
        check_same(&labels, ours, told);
    }
    assert_eq!(histograms, 3);
    let ours: BTreeMap<String, f64> = sink
        .newest()
        .into_iter()
        .filter(|(labels, _, value)| !labels.metric_name().starts_with("scrape_") && value.is_some())
        .map(|(labels, _, value)| (labels.to_string(), value.unwrap_or_default()))
        .collect();
    let text = |numbers: &BTreeMap<String, f64>| format!("{numbers:#?}");
    assert_eq!(text(&ours), text(&numbers));
    assert!(numbers.len() > 15, "{}", numbers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_says_the_same_in_protobuf_as_in_text() {
    let prometheus = Prometheus::start("scrape_configs: []");
    let url = format!("{}/metrics", prometheus.url);
    let series_by = async |accept: &str, format: Format| {
        let mut request = Request::new(Method::GET, url.clone());
        request
            .headers
            .insert("accept", accept.parse().expect("a header"));
        let answer = HttpClient::new(Egress::default())
            .send(request)
            .await
            .expect("it answers");
        let content_type = answer.headers["content-type"].to_str().expect("text").to_owned();
        let mut scene = Scene::new(HistogramRules::default());
        scene
            .scrape(&answer.body, format)
            .unwrap_or_else(|error| panic!("{content_type}: {error}"));
        scene.numbers()
    };
    let accept = format!("{PROTOBUF};q=0.9");
    // The first asking makes series of its own.
    series_by(&accept, Format::Protobuf).await;
    let by_protobuf = series_by(&accept, Format::Protobuf).await;
    let by_text = series_by("text/plain;version=0.0.4", Format::Prometheus).await;
    let keys = |numbers: &BTreeMap<String, Option<f64>>| numbers.keys().cloned().collect::<BTreeSet<_>>();
    let (protobuf, text) = (keys(&by_protobuf), keys(&by_text));
    assert_eq!(
        protobuf.symmetric_difference(&text).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    assert!(text.len() > 200, "{}", text.len());
    let steady = [
        "prometheus_build_info",
        "prometheus_config_last_reload_successful",
        "prometheus_tsdb_head_series",
    ];
    for name in steady {
        let of = |numbers: &BTreeMap<String, Option<f64>>| {
            let named = numbers.iter().filter(|(series, _)| series.starts_with(name));
            named
                .map(|(series, value)| (series.clone(), *value))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&by_protobuf), of(&by_text), "{name}");
    }
}

//! `status/…` and `alertmanagers`: what clients ask to know whom they speak with.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::Response;
use marketprism_model::series::ReadError;
use marketprism_model::{SeriesSource, TimeRange, Timestamp};
use serde_json::{Value, json};

use super::answer::{Failure, nothing, success, time};
use super::query::on_worker;
use super::series::read_failure;
use crate::Server;
use crate::parts::HeadFigures;
use crate::request::Form;

/// The version of Prometheus whose language and API are spoken here. Clients choose features by it.
const SPOKEN_VERSION: &str = "3.14.0";
/// A list of `status/tsdb` is this long unless `limit` says otherwise.
const TOP_DEFAULT: usize = 10;
/// The longest such list.
const TOP_MAX: usize = 10_000;
/// Series count in `status/tsdb` when they had samples within this span.
const TSDB_SPAN: std::time::Duration = std::time::Duration::from_secs(3600);

/// `GET alertmanagers`: alerts are sent by this program itself.
pub async fn alertmanagers(form: Form) -> Response {
    let data = json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] });
    success(&data, &[], form.gzip)
}

/// `GET status/buildinfo`: no `features`, which keeps Grafana from offering to edit rules here.
pub async fn buildinfo(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let build = &server.parts()?.build;
    let data = json!({
        "version": SPOKEN_VERSION,
        "revision": build.revision,
        "branch": format!("marketprism-{}", build.version),
        "buildUser": "",
        "buildDate": build.built_at,
        "goVersion": build.compiler,
    });
    Ok(success(&data, &[], form.gzip))
}

/// `GET status/flags`
pub async fn flags(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    Ok(success(&server.parts()?.flags, &[], form.gzip))
}

/// `GET status/config`
pub async fn config(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let data = json!({ "yaml": (server.parts()?.config_yaml)() });
    Ok(success(&data, &[], form.gzip))
}

/// `GET status/runtimeinfo`: what Prometheus says of Go's runtime is said of ours, or left empty.
pub async fn runtimeinfo(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let parts = server.parts()?;
    let shared = server.shared();
    let info = (parts.runtime)();
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let data = json!({
        "startTime": time(Some(shared.started_at)),
        "CWD": info.working_directory,
        "hostname": parts.host_name,
        "serverTime": time(Some(shared.clock.now())),
        "reloadConfigSuccess": info.is_config_current,
        "lastConfigTime": time(Some(info.config_read_at)),
        "corruptionCount": info.corruption_count,
        "goroutineCount": tasks,
        "GOMAXPROCS": std::thread::available_parallelism().map_or(1, usize::from),
        "GOMEMLIMIT": i64::MAX,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": info.storage_retention,
    });
    Ok(success(&data, &[], form.gzip))
}

/// `GET status/walreplay`: the log's segments are replayed before this answers, so there is none left to go.
pub async fn walreplay(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    server.parts()?;
    Ok(success(
        &json!({ "min": 0, "max": 0, "current": 0 }),
        &[],
        form.gzip,
    ))
}

/// `GET notifications`: what Prometheus' page would say about the server itself.
pub async fn notifications(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let parts = server.parts()?;
    let info = (parts.runtime)();
    let mut shown = Vec::new();
    if !info.is_config_current {
        shown.push(json!({
            "text": "Configuration reload has failed.",
            "date": time(Some(info.config_read_at)),
            "active": true,
        }));
    }
    Ok(success(&shown, &[], form.gzip))
}

/// `GET notifications/live`: nothing is pushed; Prometheus' page then asks from time to time.
pub async fn notifications_live() -> Response {
    nothing()
}

/// `GET status/tsdb`: which names and labels make the most series.
pub async fn tsdb(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    let top = match form.params.get("limit") {
        "" => TOP_DEFAULT,
        text => match text.parse() {
            Ok(top) if (1..=TOP_MAX).contains(&top) => top,
            Ok(0) => return Err(Failure::bad_data("limit must be a positive number")),
            Ok(_) => return Err(Failure::bad_data(format!("limit must not exceed {TOP_MAX}"))),
            Err(_) => return Err(Failure::bad_data("limit must be a positive number")),
        },
    };
    let parts = server.parts()?;
    let now = server.shared().clock.now();
    let data = on_worker(&server, server.shared().config.query_timeout, move |_| {
        let head = (parts.head)();
        let tally = tally(&*parts.series, now).map_err(read_failure)?;
        Ok(tally.document(&head, top))
    });
    let data = data.await?;
    Ok(success(&data, &[], form.gzip))
}

#[derive(Default)]
struct Tally {
    series: usize,
    by_metric: HashMap<String, usize>,
    by_pair: HashMap<String, usize>,
    values_by_label: HashMap<String, (usize, usize)>,
}

fn tally(source: &dyn SeriesSource, now: Timestamp) -> Result<Tally, ReadError> {
    let selection = source.select(&[], TimeRange::new(now - TSDB_SPAN, now + TSDB_SPAN))?;
    let mut tally = Tally::default();
    for labels in selection.labels() {
        tally.series += 1;
        *tally
            .by_metric
            .entry(labels.metric_name().to_owned())
            .or_default() += 1;
        for (name, value) in labels {
            *tally.by_pair.entry(format!("{name}={value}")).or_default() += 1;
        }
    }
    for pair in tally.by_pair.keys() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (values, bytes) = tally.values_by_label.entry(name.to_owned()).or_default();
        *values += 1;
        *bytes += value.len();
    }
    Ok(tally)
}

impl Tally {
    fn document(&self, head: &HeadFigures, top: usize) -> Value {
        let values = |of: fn(&(usize, usize)) -> usize| {
            let counts = self
                .values_by_label
                .iter()
                .map(|(name, counts)| (name, of(counts)));
            largest(counts, top)
        };
        json!({
            "headStats": {
                "numSeries": self.series,
                "numLabelPairs": self.by_pair.len(),
                "chunkCount": head.chunk_count,
                "minTime": head.min_time.millis(),
                "maxTime": head.max_time.millis(),
            },
            "seriesCountByMetricName": largest(self.by_metric.iter().map(|(n, c)| (n, *c)), top),
            "labelValueCountByLabelName": values(|(values, _)| *values),
            "memoryInBytesByLabelName": values(|(_, bytes)| *bytes),
            "seriesCountByLabelValuePair": largest(self.by_pair.iter().map(|(n, c)| (n, *c)), top),
        })
    }
}

fn largest<'a>(counts: impl Iterator<Item = (&'a String, usize)>, top: usize) -> Value {
    let mut counts: Vec<_> = counts.collect();
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    counts
        .into_iter()
        .take(top)
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect()
}

//! `marketprism backtest`: what rules would have done in the past.
//!
//! Over the data of a stopped program, read here, or by asking a running one. Either way the answer is the same
//! document, and what is printed is made from it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method as HttpMethod;
use marketprism_alerts::rehearsal::Rehearsal;
use marketprism_model::{Clock as _, Timestamp, duration};
use marketprism_net::{Egress, HttpClient, Request, Transport as _};
use marketprism_promql::Uninterrupted;
use marketprism_rules::backtest::{EVALUATIONS_MAX, Method, svg};
use marketprism_rules::{GroupDefaults, Language, RuleSet};
use marketprism_server::api::backtest::{Wanted, document, rehearse};
use marketprism_storage::Store;
use serde_json::{Value, json};

use crate::cli::{Backtest, BacktestMethod};
use crate::clock::SystemClock;
use crate::commands::backtest_text::text;
use crate::commands::{language, load, refused};
use crate::reload::{file_rules, words};
use crate::{opening, progress};

/// A running program is given this long; it limits itself to less.
const TIMEOUT: Duration = Duration::from_secs(300);
/// What a backtest looks at when nothing is said.
const USUAL_LENGTH: Duration = Duration::from_secs(24 * 3600);

/// Runs the backtest; gives what is to be said.
pub fn backtest(options: &Backtest) -> anyhow::Result<String> {
    let (start, end) = range(options)?;
    let (found, picture) = match &options.url {
        Some(url) => ask(options, url, start, end)?,
        None => here(options, start, end)?,
    };
    if let (Some(file), Some(picture)) = (&options.svg, picture) {
        std::fs::write(file, picture).with_context(|| format!("write {}", file.display()))?;
    }
    if options.json {
        return Ok(format!("{found:#}\n"));
    }
    Ok(text(&found, language(options.language)))
}

fn range(options: &Backtest) -> anyhow::Result<(Timestamp, Timestamp)> {
    let end = match &options.end {
        Some(text) => moment(text).with_context(|| format!("--end {text:?}"))?,
        None => SystemClock::default().now(),
    };
    let start = match (&options.start, &options.last) {
        (Some(text), _) => moment(text).with_context(|| format!("--start {text:?}"))?,
        (None, Some(text)) => end - duration::parse(text).with_context(|| format!("--last {text:?}"))?,
        (None, None) => end - USUAL_LENGTH,
    };
    if start >= end {
        bail!("the range is empty: {start} is not before {end}");
    }
    Ok((start, end))
}

fn moment(text: &str) -> anyhow::Result<Timestamp> {
    marketprism_server::prometheus::params::parse_time(text).map_err(|reason| anyhow::anyhow!("{reason}"))
}

/// Reads the rules, all of them or those of one name.
fn rules(
    options: &Backtest,
    files: &[std::path::PathBuf],
    defaults: &GroupDefaults,
) -> anyhow::Result<RuleSet> {
    let patterns: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let loaded = marketprism_rules::load(&patterns, &std::env::current_dir()?, &[], defaults);
    if !loaded.errors.is_empty() {
        bail!("{}", words(&loaded.errors));
    }
    let Some(name) = &options.rule else {
        return Ok(loaded.set);
    };
    let groups = loaded.set.groups().iter();
    let rules = groups.flat_map(|group| group.rules.iter().map(|rule| rule.name.to_string()));
    let names: Vec<String> = rules.collect();
    loaded.set.only(name).with_context(|| {
        let near = marketprism_model::nearest(name, names.iter().map(String::as_str));
        let hint = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        format!(
            "--rule: no rule in {} is called {name:?}{hint}",
            patterns.join(", ")
        )
    })
}

/// Reads the data of a stopped program.
fn here(options: &Backtest, start: Timestamp, end: Timestamp) -> anyhow::Result<(Value, Option<String>)> {
    let place = options.place.clone();
    if !place.data_dir.is_dir() {
        bail!(
            "{} is no folder; name the data of a stopped program with --data-dir, or a running one with --url",
            place.data_dir.display()
        );
    }
    let loaded = load(&place)?;
    let _lock = opening::lock_data(&place.data_dir)
        .context("the data can be read here only while no program has it; ask the running one with --url")?;
    let clock = Arc::new(SystemClock::default());
    let store = Store::open(loaded.storage.clone(), clock, &|_| {})?;
    let step = step(options)?;
    let external_url = loaded.config.server.external_url.trim_end_matches('/');
    let settings = file_rules(&loaded, RuleSet::default(), external_url);
    let wanted = |rules: RuleSet| Wanted {
        rules,
        start,
        end,
        now: SystemClock::default().now(),
        step,
        method: method(options),
        evaluations_max: EVALUATIONS_MAX,
        installation: settings.installation.clone(),
    };
    let run = |rules: RuleSet| -> anyhow::Result<_> {
        let wanted = wanted(rules);
        let bar = progress::steps("backtest");
        let rehearsal = Rehearsal::new(loaded.alerts.clone(), start)?;
        bar.set_length(evaluations(&wanted));
        let outcome = rehearse(&wanted, &rehearsal, &store, &Uninterrupted, &|done| {
            bar.set_position(done)
        });
        bar.finish_and_clear();
        Ok(outcome?)
    };
    let found = run(rules(options, &options.files, &settings.defaults)?)?;
    let present = match options.compare.as_slice() {
        [] => None,
        files => Some(run(rules(options, files, &settings.defaults)?)?),
    };
    let picture = options
        .svg
        .is_some()
        .then(|| svg(&found.0, language(options.language)));
    let answer = document(&found.0, &found.1, present.as_ref());
    store.shutdown().context("close the samples")?;
    Ok((answer, picture))
}

/// Counts the evaluations that a backtest will be, for the bar.
fn evaluations(wanted: &Wanted) -> u64 {
    let length = wanted.end.since(wanted.start).as_millis();
    let of_group = |group: &Arc<marketprism_rules::GroupSpec>| {
        let interval = wanted.step.unwrap_or(group.interval).as_millis().max(1);
        u64::try_from(length / interval)
            .unwrap_or(u64::MAX)
            .saturating_mul(group.rules.len() as u64)
    };
    wanted
        .rules
        .groups()
        .iter()
        .map(of_group)
        .fold(0, u64::saturating_add)
}

fn step(options: &Backtest) -> anyhow::Result<Option<Duration>> {
    let parsed = options
        .step
        .as_ref()
        .map(|text| duration::parse(text).with_context(|| format!("--step {text:?}")));
    parsed.transpose()
}

fn method(options: &Backtest) -> Option<Method> {
    match options.method {
        BacktestMethod::Auto => None,
        BacktestMethod::Columns => Some(Method::Columns),
        BacktestMethod::Ticks => Some(Method::Ticks),
    }
}

/// Asks a running program.
fn ask(
    options: &Backtest,
    url: &str,
    start: Timestamp,
    end: Timestamp,
) -> anyhow::Result<(Value, Option<String>)> {
    // The faults are told here, with the names of the files.
    rules(options, &options.files, &GroupDefaults::default())?;
    if !options.compare.is_empty() {
        bail!(
            "--compare reads files beside --data-dir; with --url the program compares with its own rules (--compare-running)"
        );
    }
    let text = groups_of(&options.files, options.rule.as_deref())?;
    let mut body = json!({
        "rules": text,
        "start": start.to_string(),
        "end": end.to_string(),
        "compare": options.compare_running,
        "method": match options.method {
            BacktestMethod::Auto => "auto",
            BacktestMethod::Columns => "columns",
            BacktestMethod::Ticks => "ticks",
        },
        "language": match language(options.language) {
            Language::Chinese => "zh",
            Language::English => "en",
        },
    });
    if let Some(step) = &options.step {
        body["step"] = step.as_str().into();
    }
    let bar = progress::waiting("backtest");
    let answer = post(url, options.token.as_deref(), &body)?;
    let found = serde_json::from_slice(&answer).context("the answer is no JSON")?;
    let picture = match options.svg {
        None => None,
        Some(_) => {
            body["format"] = "svg".into();
            Some(
                String::from_utf8(post(url, options.token.as_deref(), &body)?)
                    .context("the picture is no UTF-8")?,
            )
        }
    };
    bar.finish_and_clear();
    Ok((found, picture))
}

/// Puts the groups of all files into one; names that stand in several are told apart by their file.
fn groups_of(files: &[std::path::PathBuf], rule: Option<&str>) -> anyhow::Result<Value> {
    let mut groups: Vec<Value> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let read: Value = serde_saphyr::from_str(&text).with_context(|| file.display().to_string())?;
        for group in read["groups"].as_array().into_iter().flatten() {
            let mut group = group.clone();
            if let (Some(name), Some(rules)) = (rule, group["rules"].as_array_mut()) {
                rules.retain(|rule| rule["alert"] == name || rule["record"] == name);
                if rules.is_empty() {
                    continue;
                }
            }
            if groups.iter().any(|known| known["name"] == group["name"]) {
                let name = format!(
                    "{} ({})",
                    group["name"].as_str().unwrap_or_default(),
                    file.display()
                );
                group["name"] = name.into();
            }
            groups.push(group);
        }
    }
    Ok(json!({ "groups": groups }))
}

fn post(url: &str, token: Option<&Path>, body: &Value) -> anyhow::Result<Vec<u8>> {
    let address = format!("{}/api/v1/rules/backtest", url.trim_end_matches('/'));
    let mut request = Request::new(HttpMethod::POST, &address);
    request.timeout = TIMEOUT;
    request.headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    if let Some(file) = token {
        let token = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let value = http::HeaderValue::from_str(&format!("Bearer {}", token.trim())).context("the token")?;
        request.headers.insert(http::header::AUTHORIZATION, value);
    }
    request.body = body.to_string().into_bytes().into();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let answer = runtime.block_on(HttpClient::new(Egress::default()).send(request));
    let answer = answer.with_context(|| format!("{url} does not answer"))?;
    if answer.status != 200 {
        let told: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let detail = told
            .as_ref()
            .and_then(|told| told["detail"].as_str())
            .unwrap_or_default();
        bail!("{}", refused(url, answer.status, detail));
    }
    Ok(answer.body.to_vec())
}

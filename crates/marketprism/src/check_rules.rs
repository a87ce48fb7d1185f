//! `check rules`: faults end with 1; what is likely wrong is told with its place and what to do, and ends with 1 only
//! when that is asked for.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use marketprism_model::{Clock as _, SeriesSource as _, TimeRange, duration};
use marketprism_net::{Egress, HttpClient, Request, Transport as _};
use marketprism_promql::Selector;
use marketprism_rules::lint::{CATALOGUE, Finding, Options, Read, Weight, lint};
use marketprism_rules::{GroupDefaults, Language, RuleFile, parse_file};
use marketprism_storage::Store;
use serde_json::{Value, json};

use crate::cli::CheckRules;
use crate::clock::SystemClock;
use crate::commands::{language, load, refused, several};
use crate::opening;
use crate::reload::words;

/// A running program may take this long to say whether a series is there.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Judges rule files; gives what is to be said, and whether that is good.
pub fn rules(options: &CheckRules) -> anyhow::Result<(String, bool)> {
    for name in &options.allow {
        if !CATALOGUE.iter().any(|lint| lint.name == name) {
            let names: Vec<&str> = CATALOGUE.iter().map(|lint| lint.name).collect();
            let near = marketprism_model::nearest(name, names.iter().copied());
            let hint = near.map_or_else(
                || format!("known are {}", names.join(", ")),
                |near| format!("did you mean {near}?"),
            );
            bail!("--allow {name}: no lint has this name; {hint}");
        }
    }
    let (texts, mut faults) = (read(&options.files), Vec::new());
    let mut files: Vec<(&str, RuleFile)> = Vec::new();
    for (name, text) in &texts {
        match text {
            Ok(text) => match parse_file(name, text.as_bytes(), &GroupDefaults::default()) {
                Ok(file) => files.push((text, file)),
                Err(mut errors) => faults.append(&mut errors),
            },
            Err(error) => bail!("{name}: {error}"),
        }
    }
    if !faults.is_empty() {
        if options.json {
            let errors = faults.iter().map(|fault| {
                json!({ "file": fault.file, "line": fault.line, "column": fault.column, "group": fault.group, "rule": fault.rule,
                        "reason": fault.reason })
            });
            let document = json!({ "errors": errors.collect::<Vec<_>>(), "findings": [] });
            return Ok((format!("{document:#}\n"), false));
        }
        bail!("{}", words(&faults));
    }
    let data = Data::open(options)?;
    let asks = |selector: &Selector| data.has_series(selector);
    let interval = duration::parse(&options.scrape_interval).context("--scrape-interval")?;
    let lint_options = Options {
        allowed: options.allow.iter().cloned().collect::<BTreeSet<String>>(),
        scrape_interval: interval,
        has_series: (!matches!(data, Data::None)).then_some(&asks as _),
    };
    let reads: Vec<Read<'_>> = files.iter().map(|(text, file)| Read { text, file }).collect();
    let found = lint(&reads, &lint_options).map_err(|error| anyhow::anyhow!("reading series: {error}"))?;
    drop(data);
    let warnings = found.iter().filter(|one| one.weight == Weight::Warning).count();
    let is_good = warnings == 0 || !options.strict;
    let groups: usize = files.iter().map(|(_, file)| file.groups.len()).sum();
    let rules: usize = files
        .iter()
        .flat_map(|(_, file)| &file.groups)
        .map(|group| group.rules.len())
        .sum();
    if options.json {
        let document = json!({ "errors": [], "findings": found, "rules": rules, "groups": groups });
        return Ok((format!("{document:#}\n"), is_good));
    }
    let counts = Counts {
        rules,
        groups,
        warnings,
        remarks: found.len() - warnings,
    };
    let text = told(&found, &counts, options.info, language(options.language));
    Ok((text, is_good))
}

/// How much was looked at, and found.
struct Counts {
    rules: usize,
    groups: usize,
    warnings: usize,
    remarks: usize,
}

fn told(found: &[Finding], counts: &Counts, shows_remarks: bool, language: Language) -> String {
    let mut text = String::new();
    for one in found {
        if one.weight == Weight::Warning || shows_remarks {
            tell(&mut text, one, language);
        }
    }
    let (rules, groups) = (counts.rules, counts.groups);
    text += &language.of(
        format!("{groups} 个组，{rules} 条规则"),
        format!("{} in {}", several(&rules, "rule"), several(&groups, "group")),
    );
    if counts.warnings > 0 {
        text += &language.of(
            format!("，{} 个警告", counts.warnings),
            format!(", {}", several(&counts.warnings, "warning")),
        );
    }
    if counts.remarks > 0 {
        text += &language.of(
            format!("，{} 个提示", counts.remarks),
            format!(", {}", several(&counts.remarks, "remark")),
        );
        if !shows_remarks {
            text += language.of("（加 --info 显示）", " (--info shows them)");
        }
    }
    text.push('\n');
    text
}

fn tell(text: &mut String, one: &Finding, language: Language) {
    let column = match one.column {
        0 => String::new(),
        column => format!(":{column}"),
    };
    let place = format!("{}:{}{column}", one.file, one.line);
    let weight = match one.weight {
        Weight::Warning => language.of("警告", "warning"),
        Weight::Info => language.of("提示", "remark"),
    };
    let words = one.fact.words(language);
    let what = CATALOGUE.iter().find(|lint| lint.name == one.lint);
    let what = what.map_or("", |lint| lint.what.of(language));
    let (rule, name, advice) = (&one.rule, one.lint, one.advice.of(language));
    let _ = match language {
        Language::Chinese => writeln!(
            text,
            "{place}: {weight}：规则 {rule:?}：{words} [{name}]\n    {what}；{advice}"
        ),
        Language::English => writeln!(
            text,
            "{place}: {weight}: rule {rule:?}: {words} [{name}]\n    {what}; {advice}"
        ),
    };
}

fn read(files: &[PathBuf]) -> Vec<(String, std::io::Result<String>)> {
    let read = |file: &PathBuf| (file.display().to_string(), std::fs::read_to_string(file));
    files.iter().map(read).collect()
}

/// Where series are looked for.
enum Data {
    None,
    Here {
        store: Store,
        _lock: std::fs::File,
    },
    There {
        url: String,
        token: Option<String>,
        runtime: tokio::runtime::Runtime,
    },
}

impl Data {
    fn open(options: &CheckRules) -> anyhow::Result<Self> {
        if let Some(url) = &options.url {
            let token = match &options.token {
                Some(file) => {
                    Some(std::fs::read_to_string(file).with_context(|| file.display().to_string())?)
                }
                None => None,
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("start the runtime")?;
            return Ok(Data::There {
                url: url.trim_end_matches('/').to_owned(),
                token,
                runtime,
            });
        }
        let Some(folder) = &options.data_dir else {
            return Ok(Data::None);
        };
        if !folder.is_dir() {
            bail!("{} is no folder", folder.display());
        }
        let place = crate::cli::Place {
            config: options.config.clone(),
            data_dir: folder.clone(),
        };
        let loaded = load(&place)?;
        let lock = opening::lock_data(folder).context("a running program is asked with --url")?;
        let store = Store::open(loaded.storage, Arc::new(SystemClock::default()), &|_| {})?;
        Ok(Data::Here { store, _lock: lock })
    }

    /// Says whether any stored series is chosen.
    fn has_series(&self, selector: &Selector) -> Result<bool, String> {
        match self {
            Data::None => Ok(true),
            Data::Here { store, .. } => {
                let chosen = store
                    .select(&selector.matchers, TimeRange::ALL)
                    .map_err(|error| error.to_string())?;
                Ok(!chosen.labels().is_empty())
            }
            Data::There { url, token, runtime } => {
                let matchers = selector.matchers.iter().map(|matcher| {
                    let value = matcher
                        .value
                        .replace('\\', "\\\\")
                        .replace('"', "\\\"")
                        .replace('\n', "\\n");
                    format!("\"{}\"{}\"{value}\"", matcher.name, matcher.op.as_str())
                });
                let chosen = format!("{{{}}}", matchers.collect::<Vec<_>>().join(","));
                let form = url_form(&[
                    ("match[]", &chosen),
                    ("limit", "1"),
                    ("start", "0"),
                    ("end", &now()),
                ]);
                let mut request = Request::new(http::Method::POST, format!("{url}/prometheus/api/v1/series"));
                request.timeout = TIMEOUT;
                let form_type = http::HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers.insert(http::header::CONTENT_TYPE, form_type);
                if let Some(token) = token {
                    let bearer = http::HeaderValue::from_str(&format!("Bearer {}", token.trim()));
                    request.headers.insert(
                        http::header::AUTHORIZATION,
                        bearer.map_err(|error| error.to_string())?,
                    );
                }
                request.body = form.into_bytes().into();
                let answer = runtime.block_on(HttpClient::new(Egress::default()).send(request));
                let answer = answer.map_err(|error| format!("{url}: {error}"))?;
                let told: Value =
                    serde_json::from_slice(&answer.body).map_err(|error| format!("{url}: {error}"))?;
                match (answer.status, told["data"].as_array()) {
                    (200, Some(series)) => Ok(!series.is_empty()),
                    _ => Err(refused(
                        url,
                        answer.status,
                        told["error"]
                            .as_str()
                            .or(told["detail"].as_str())
                            .unwrap_or_default(),
                    )),
                }
            }
        }
    }
}

fn now() -> String {
    SystemClock::default().now().seconds_f64().to_string()
}

fn url_form(pairs: &[(&str, &str)]) -> String {
    let escaped = |text: &str| -> String {
        let bytes = text.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        });
        bytes.collect()
    };
    let pairs = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

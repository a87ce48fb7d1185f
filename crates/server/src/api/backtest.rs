//! `POST /api/v1/rules/backtest`: what rules would have done in the past.
//!
//! Backtests have one worker of their own that steps back for everything else, a limit of evaluations and one of time:
//! alerting and dashboards go on as if nobody had asked. Nothing is stored, sent or logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header;
use marketprism_alerts::rehearsal::{Rehearsal, Told};
use marketprism_model::{Clock, SeriesSource, Timestamp, duration};
use marketprism_promql::{Engine, EngineConfig, Interrupt, Stop};
use marketprism_rules::backtest::{BacktestError, Given, Method, Report, backtest, svg};
use marketprism_rules::{Installation, Language, RuleFileError, RuleSet, parse_file};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Server;
use crate::answer;
use crate::problem::Problem;
use crate::prometheus::params::parse_time;
use crate::request::{Query, read_json};
use crate::workers::{InterruptGuard, WorkError};

/// The body may have this many bytes.
const BODY_BYTES_MAX: usize = 2 << 20;
/// A backtest by API comes to at most this many evaluations.
const EVALUATIONS_MAX: u64 = 5_000_000;
/// And takes at most this long.
const TIME_MAX: Duration = Duration::from_secs(120);
/// A query of a backtest reads and holds at most this many samples.
const SAMPLES_MAX: u64 = 20_000_000;
/// How a file of rules is called that came with the request.
const FILE: &str = "request";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// A rule file: its text as YAML, or the same as JSON.
    rules: Value,
    start: Moment,
    end: Moment,
    step: Option<String>,
    format: Option<String>,
    language: Option<String>,
    method: Option<String>,
    #[serde(default)]
    compare: bool,
}

/// What a body asks for, in the program's own terms.
struct Wishes {
    /// A rule file, as YAML.
    text: String,
    start: Timestamp,
    end: Timestamp,
    step: Option<Duration>,
    method: Option<Method>,
    /// The language of the picture that is asked for in place of a document.
    picture_in: Option<Language>,
    /// Whether the rules that run under the same names are tried beside these.
    compares: bool,
}

impl Body {
    fn read(self) -> Result<Wishes, Problem> {
        let formats = [("json", false), ("svg", true)];
        let is_picture = word("format", self.format.as_deref(), &formats, false)?;
        let languages = [("zh", Language::Chinese), ("en", Language::English)];
        let language = word(
            "language",
            self.language.as_deref(),
            &languages,
            Language::Chinese,
        )?;
        let methods = [
            ("auto", None),
            ("columns", Some(Method::Columns)),
            ("ticks", Some(Method::Ticks)),
        ];
        let method = word("method", self.method.as_deref(), &methods, None)?;
        let (start, end) = (self.start.read("start")?, self.end.read("end")?);
        let step = match &self.step {
            None => None,
            Some(text) => Some(duration::parse(text).map_err(|error| Problem::bad_parameter("step", error))?),
        };
        Ok(Wishes {
            text: match self.rules {
                Value::String(text) => text,
                // JSON is YAML, and so has the same faults.
                other => other.to_string(),
            },
            start,
            end,
            step,
            method,
            picture_in: is_picture.then_some(language),
            compares: self.compare,
        })
    }
}

/// A time as text, or seconds since 1970.
#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Text(String),
    Seconds(f64),
}

impl Moment {
    fn read(&self, name: &str) -> Result<Timestamp, Problem> {
        let text = match self {
            Moment::Text(text) => text.clone(),
            Moment::Seconds(seconds) => seconds.to_string(),
        };
        parse_time(&text).map_err(|reason| Problem::bad_parameter(name, reason))
    }
}

/// A backtest as it is asked for.
pub struct Wanted {
    /// The rules.
    pub rules: RuleSet,
    /// From when.
    pub start: Timestamp,
    /// Until when.
    pub end: Timestamp,
    /// The present.
    pub now: Timestamp,
    /// The distance of evaluations, in place of each group's interval.
    pub step: Option<Duration>,
    /// How; chosen by the rules when absent.
    pub method: Option<Method>,
    /// How many evaluations are allowed.
    pub evaluations_max: u64,
    /// What templates may say about us.
    pub installation: Installation,
}

/// Runs a backtest in simulated time; whatever its rooms would log is about no real alert, and left out.
pub fn rehearse(
    wanted: &Wanted,
    rehearsal: &Rehearsal,
    source: &dyn SeriesSource,
    interrupt: &dyn Interrupt,
    progress: &dyn Fn(u64),
) -> Result<(Report, Told), BacktestError> {
    let engine = Engine::new(EngineConfig {
        samples_max: SAMPLES_MAX,
        timeout: TIME_MAX,
        ..EngineConfig::default()
    });
    let request = marketprism_rules::backtest::Request {
        rules: &wanted.rules,
        start: wanted.start,
        end: wanted.end,
        now: wanted.now,
        step: wanted.step,
        method: wanted.method,
        evaluations_max: wanted.evaluations_max,
    };
    let given = Given {
        engine: &engine,
        source,
        lifecycle: rehearsal.lifecycle(),
        move_to: &|at| rehearsal.move_to(at, &|| interrupt.stop().is_some()),
        installation: &wanted.installation,
        interrupt,
        progress,
    };
    let silence = tracing::subscriber::NoSubscriber::default();
    let report = tracing::subscriber::with_default(silence, || backtest(&request, &given))?;
    Ok((report, rehearsal.told()))
}

/// Gives the answer's document.
pub fn document(report: &Report, told: &Told, present: Option<&(Report, Told)>) -> Value {
    let mut one = half(report, told);
    one["present"] = present.map_or(Value::Null, |(report, told)| half(report, told));
    one
}

fn half(report: &Report, told: &Told) -> Value {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    let messages = told.messages.iter().map(|message| {
        json!({
            "at": message.at.to_string(),
            "channel": message.channel,
            "firing": message.firing,
            "resolved": message.resolved,
        })
    });
    value["notifications"] = json!({
        "total": told.total,
        "by_channel": told.by_channel,
        "is_supposed": told.is_supposed,
        "messages": messages.collect::<Vec<_>>(),
    });
    value
}

/// `POST /api/v1/rules/backtest`
pub async fn run(State(server): State<Server>, query: Query, request: Request) -> Result<Response, Problem> {
    super::list::known_only(&query.params, &[])?;
    let body: Body = read_json(request, BODY_BYTES_MAX).await?;
    let parts = server.parts()?;
    let shared = server.shared();
    let wishes = body.read()?;
    let (defaults, installation) = parts.rulebook.settings().await;
    let present = (parts.rules)();
    let (guard, is_abandoned) = InterruptGuard::new();
    let clock = Arc::clone(&shared.clock);
    let (now, deadline) = (clock.now(), clock.monotonic() + TIME_MAX);
    let work = move || -> Result<Done, Problem> {
        let stop = Deadline {
            clock,
            deadline,
            is_abandoned,
        };
        let file =
            parse_file(FILE, wishes.text.as_bytes(), &defaults).map_err(|faults| bad_rules(&faults))?;
        let start = wishes.start;
        let wanted = Wanted {
            rules: RuleSet::new(file.groups, true),
            start,
            end: wishes.end,
            now,
            step: wishes.step,
            method: wishes.method,
            evaluations_max: EVALUATIONS_MAX,
            installation,
        };
        let rehearsed = |wanted: &Wanted| {
            let rehearsal = parts.alerts.rehearsal(start).map_err(|_| Problem::internal())?;
            rehearse(wanted, &rehearsal, &*parts.series, &stop, &|_| {}).map_err(refused)
        };
        let (report, told) = rehearsed(&wanted)?;
        if let Some(language) = wishes.picture_in {
            return Ok(Done::Picture(svg(&report, language)));
        }
        let namesakes = wanted
            .rules
            .namesakes(present.groups.iter().map(|group| &group.spec));
        let before = match namesakes {
            Some(rules) if wishes.compares => Some(rehearsed(&Wanted { rules, ..wanted })?),
            _ => None,
        };
        Ok(Done::Document(document(&report, &told, before.as_ref())))
    };
    let done = shared.backtests.run(work).await;
    drop(guard);
    match done.map_err(busy)?? {
        Done::Document(value) => Ok(answer::json(&value, query.gzip)),
        Done::Picture(picture) => {
            let headers = [
                (header::CONTENT_TYPE, "image/svg+xml; charset=utf-8"),
                (
                    header::CONTENT_SECURITY_POLICY,
                    "default-src 'none'; style-src 'unsafe-inline'",
                ),
            ];
            Ok((headers, picture).into_response())
        }
    }
}

/// What a worker made.
enum Done {
    Document(Value),
    Picture(String),
}

/// Ends a backtest when its time is over, or nobody waits any more.
struct Deadline {
    clock: Arc<dyn Clock>,
    deadline: Duration,
    is_abandoned: Arc<AtomicBool>,
}

impl Interrupt for Deadline {
    fn stop(&self) -> Option<Stop> {
        if self.is_abandoned.load(Ordering::Relaxed) {
            Some(Stop::Cancelled)
        } else if self.clock.monotonic() >= self.deadline {
            Some(Stop::TimedOut)
        } else {
            None
        }
    }
}

fn word<T: Copy>(name: &str, given: Option<&str>, known: &[(&str, T)], usual: T) -> Result<T, Problem> {
    let Some(given) = given else { return Ok(usual) };
    let found = known.iter().find(|(word, _)| *word == given);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        Problem::bad_parameter(
            name,
            format_args!("{given:?} is not known; known are {}", words.join(", ")),
        )
    })
}

fn bad_rules(faults: &[RuleFileError]) -> Problem {
    let told: Vec<Value> = faults
        .iter()
        .map(|fault| {
            json!({
                "line": fault.line,
                "column": fault.column,
                "group": fault.group,
                "rule": fault.rule,
                "reason": fault.reason,
            })
        })
        .collect();
    let first = faults.first().map(ToString::to_string).unwrap_or_default();
    Problem::bad_rules(first).with("errors", Value::Array(told))
}

fn refused(error: BacktestError) -> Problem {
    match error {
        BacktestError::Stopped(Stop::TimedOut) => Problem::timeout(TIME_MAX),
        BacktestError::Stopped(Stop::Cancelled) | BacktestError::Lifecycle(_) => Problem::internal(),
        BacktestError::Query(error) => Problem::unavailable(error.to_string()),
        error @ BacktestError::Columns { .. } => Problem::bad_parameter("method", error),
        error => Problem::bad_parameter("range", error),
    }
}

fn busy(error: WorkError) -> Problem {
    match error {
        WorkError::Full { .. } => Problem::busy(error.to_string()),
        WorkError::Panicked => Problem::internal(),
    }
}

//! `/api/v1/silences`: what people ask not to be told of.
//!
//! As Alertmanager's silences, and beyond them: silences that recur, silences that end when what they silenced has
//! resolved, a preview of what one would hit, and the confirmation that a very wide one needs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use marketprism_alerts::routing::matchers;
use marketprism_alerts::silences::{SilenceChange, SilenceDraft, SilenceError};
use marketprism_alerts::{Alerts, ArrangeError};
use marketprism_model::{
    Id, Matcher, MatcherOp, Silence, SilenceFilter, SilenceState, TimeInterval, Timestamp, duration,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::acts::actor;
use super::document::{self, time};
use super::list::{cursor, known_only, limit, words};
use crate::Server;
use crate::access::{Caller, Subject};
use crate::answer::{self, Gzip};
use crate::problem::Problem;
use crate::prometheus::params::parse_time;
use crate::request::{Query, Segment, read_json};

const STATES: [SilenceState; 3] = [SilenceState::Pending, SilenceState::Active, SilenceState::Expired];

/// The body of a silence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    matchers: Vec<Asked>,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default)]
    ends_at: Option<String>,
    #[serde(default)]
    duration: Option<String>,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    recurs: Option<Vec<TimeInterval>>,
    #[serde(default)]
    until_resolved: Option<bool>,
    #[serde(default)]
    confirm: bool,
}

/// The body of a preview.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviewBody {
    matchers: Vec<Asked>,
}

/// A matcher, as a text such as `job=~"db.*"`, several in braces, or in its parts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Asked {
    Text(String),
    Parts { name: String, op: String, value: String },
}

/// `GET /api/v1/silences`: newest first; `state`, `limit`, `cursor`.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    let params = &query.params;
    known_only(params, &["state", "limit", "cursor"])?;
    let now = server.shared().clock.now();
    let filter = SilenceFilter {
        states: states(&words::<String>(params, "state")?)?,
        now,
        limit: limit(params)?,
        cursor: cursor(params),
    };
    let parts = server.parts()?;
    let page = server
        .look_up({
            let parts = Arc::clone(&parts);
            move || parts.alert_store.silences(&filter)
        })
        .await?;
    let told = document::page(&page, |one| silence(&parts.alerts, one, now));
    Ok(answer::json(&told, query.gzip))
}

/// `GET /api/v1/silences/{id}`
pub async fn one(
    State(server): State<Server>,
    Segment(id): Segment,
    query: Query,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let store = Arc::clone(&parts.alert_store);
    let found = server.look_up(move || store.silence(id)).await?;
    let found = found.ok_or_else(|| Problem::from(SilenceError::Unknown(id)))?;
    let now = server.shared().clock.now();
    Ok(answer::json(&silence(&parts.alerts, &found, now), query.gzip))
}

/// `POST /api/v1/silences`: makes one; 201 with the silence.
pub async fn create(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let kept = put(&server, None, &caller, request).await?;
    let location = HeaderValue::from_str(&format!("/api/v1/silences/{}", kept.silence.id));
    let mut response = told(&server, &kept.silence, StatusCode::CREATED)?;
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// `PUT /api/v1/silences/{id}`: changes one; the answer may have another id, and then the old one has ended.
pub async fn change(
    State(server): State<Server>,
    Segment(id): Segment,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let id = parse_id(&id)?;
    let kept = put(&server, Some(id), &caller, request).await?;
    told(&server, &kept.silence, StatusCode::OK)
}

/// `DELETE /api/v1/silences/{id}`: ends it; the answer is the silence as it stands then.
pub async fn expire(State(server): State<Server>, Segment(id): Segment) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let ended = server.act(move || parts.alerts.expire_silence(id)).await?;
    told(&server, &ended, StatusCode::OK)
}

/// `POST /api/v1/silences/preview`: what matchers hit now, and hit within the last day.
pub async fn preview(State(server): State<Server>, request: Request) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let body: PreviewBody = read_json(request, server.shared().config.body_bytes_max).await?;
    let matchers = read_matchers(body.matchers)?;
    let now = server.shared().clock.now();
    let found = server.act(move || {
        let preview = parts.alerts.preview_silence(&matchers, now);
        let active = parts.alerts.active();
        let named = preview.alerts.iter().filter_map(|id| {
            let at = active.binary_search_by_key(id, |alert| alert.id).ok()?;
            Some(document::alert(&active[at]))
        });
        Ok::<_, Problem>(json!({
            "firing": preview.firing,
            "hits": preview.hits,
            "alerts": named.collect::<Vec<_>>(),
            "ended": preview.ended,
            "ended_hits": preview.ended_hits,
            "ended_since": time(preview.ended_since),
        }))
    });
    Ok(answer::json(&found.await?, Gzip(false)))
}

async fn put(
    server: &Server,
    id: Option<Id>,
    caller: &Caller,
    request: Request,
) -> Result<SilenceChange, Problem> {
    let parts = server.parts()?;
    let body: Body = read_json(request, server.shared().config.body_bytes_max).await?;
    let by = actor(&caller.identity()?.actor, body.by.as_deref())?;
    let is_confirmed = body.confirm;
    let draft = draft(body, id, by, server.shared().clock.now())?;
    let kept = server.act(move || parts.alerts.put_silence(draft, is_confirmed));
    kept.await
}

fn draft(body: Body, id: Option<Id>, by: String, now: Timestamp) -> Result<SilenceDraft, Problem> {
    let moment = |name: &str, text: Option<String>| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => parse_time(text)
            .map(Some)
            .map_err(|reason| Problem::bad_parameter(name, reason)),
    };
    let starts_at = moment("starts_at", body.starts_at)?;
    let ends_at = match (moment("ends_at", body.ends_at)?, body.duration) {
        (Some(_), Some(_)) => {
            let reason = "it and duration are both given; give one of them";
            return Err(Problem::bad_parameter("ends_at", reason));
        }
        (Some(ends_at), None) => ends_at,
        (None, Some(text)) => {
            let lasts: Duration =
                duration::parse(&text).map_err(|error| Problem::bad_parameter("duration", error))?;
            starts_at.unwrap_or(now) + lasts
        }
        (None, None) => {
            return Err(Problem::bad_parameter(
                "ends_at",
                "either it or duration must be given",
            ));
        }
    };
    Ok(SilenceDraft {
        id,
        matchers: read_matchers(body.matchers)?,
        starts_at,
        ends_at,
        created_by: by,
        comment: body.comment,
        recurs: body.recurs,
        is_until_resolved: body.until_resolved,
    })
}

fn read_matchers(asked: Vec<Asked>) -> Result<Vec<Matcher>, Problem> {
    let mut read = Vec::new();
    for (at, one) in asked.into_iter().enumerate() {
        let name = format!("matchers[{at}]");
        match one {
            Asked::Text(text) => {
                let found = matchers::parse(&text).map_err(|error| Problem::bad_parameter(&name, error))?;
                read.extend(found);
            }
            Asked::Parts {
                name: label,
                op,
                value,
            } => {
                let op = MatcherOp::ALL.into_iter().find(|known| known.as_str() == op);
                let op = op.ok_or_else(|| {
                    Problem::bad_parameter(&format!("{name}.op"), "must be one of =, !=, =~, !~")
                })?;
                let found = Matcher::new(&label, op, &value);
                read.push(found.map_err(|error| Problem::bad_parameter(&name, error))?);
            }
        }
    }
    Ok(read)
}

/// Writes a silence.
pub fn silence(alerts: &Alerts, silence: &Silence, now: Timestamp) -> Value {
    let (holds_now, next_change_at) = alerts.silence_holds(silence, now);
    let written = silence
        .matchers
        .iter()
        .map(|matcher| json!({ "name": matcher.name, "op": matcher.op.as_str(), "value": matcher.value }));
    json!({
        "id": silence.id,
        "state": silence.state(now),
        "holds_now": holds_now,
        "next_change_at": time(next_change_at),
        "matchers": written.collect::<Vec<_>>(),
        "text": matchers::write(&silence.matchers),
        "starts_at": time(silence.starts_at),
        "ends_at": time(silence.ends_at),
        "updated_at": time(silence.updated_at),
        "created_by": silence.created_by,
        "comment": silence.comment,
        "recurs": silence.recurs,
        "until_resolved": silence.is_until_resolved,
    })
}

fn told(server: &Server, kept: &Silence, status: StatusCode) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let now = server.shared().clock.now();
    let mut response = answer::json(&silence(&parts.alerts, kept, now), Gzip(false));
    *response.status_mut() = status;
    response.extensions_mut().insert(Subject(kept.id.to_string()));
    Ok(response)
}

fn states(words: &[String]) -> Result<Vec<SilenceState>, Problem> {
    let find = |word: &String| {
        STATES
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| {
                let reason = format_args!("unknown {word:?}; known are pending, active, expired");
                Problem::bad_parameter("state", reason)
            })
    };
    words.iter().map(find).collect()
}

fn parse_id(text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|error| Problem::bad_parameter("id", error))
}

impl From<ArrangeError> for Problem {
    fn from(error: ArrangeError) -> Self {
        match error {
            ArrangeError::Silence(error) => error.into(),
            ArrangeError::Recurrence(_) => Problem::bad_body(error.to_string()),
            ArrangeError::Over(_) => Problem::conflict(error.to_string()),
            ArrangeError::Override(error) => error.into(),
            ArrangeError::UnknownOverride(_) => Problem::not_found(error.to_string()),
            ArrangeError::Incident(error) => error.into(),
            ArrangeError::Store(error) => error.into(),
        }
    }
}

impl From<SilenceError> for Problem {
    fn from(error: SilenceError) -> Self {
        match error {
            SilenceError::Unknown(id) => Problem::not_found(format!("no silence has the id {id}")),
            SilenceError::TooWide(_) => Problem::confirmation_required(error.to_string()),
            error => Problem::bad_body(error.to_string()),
        }
    }
}

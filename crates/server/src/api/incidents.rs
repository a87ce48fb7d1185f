//! `/api/v1/incidents`: related alerts as one story, with an owner, notes and a timeline.

use axum::extract::{Request, State};
use axum::response::Response;
use marketprism_alerts::incidents::{Act, IncidentError};
use marketprism_model::{Id, Incident, IncidentEvent, IncidentFilter};
use serde::Deserialize;
use serde_json::{Value, json};

use super::acts::actor;
use super::document::{self, labels, number, time};
use super::list::{cursor, known_only, limit, moment, one_word, word, words};
use crate::Server;
use crate::access::Caller;
use crate::answer::{self, Gzip};
use crate::problem::Problem;
use crate::request::{Query, Segment, read_json};

/// One incident is shown with at most this many of its alerts, those that joined last.
const ALERTS_MAX: usize = 200;

/// `GET /api/v1/incidents`: newest first; `state`, `level`, `owner`, `alerts_min`, `since`, `until`, `limit`, `cursor`.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    let params = &query.params;
    let known = [
        "state",
        "level",
        "owner",
        "alerts_min",
        "since",
        "until",
        "limit",
        "cursor",
    ];
    known_only(params, &known)?;
    let filter = IncidentFilter {
        states: words(params, "state")?,
        levels: words(params, "level")?,
        owner: word(params, "owner"),
        alerts_min: one_word(params, "alerts_min")?.unwrap_or(0),
        since: moment(params, "since")?,
        until: moment(params, "until")?,
        limit: limit(params)?,
        cursor: cursor(params),
    };
    let parts = server.parts()?;
    let page = server
        .look_up(move || parts.alert_store.incidents(&filter))
        .await?;
    Ok(answer::json(&document::page(&page, incident), query.gzip))
}

/// `GET /api/v1/incidents/{id}`: with its timeline, oldest first, and its alerts.
pub async fn one(
    State(server): State<Server>,
    Segment(id): Segment,
    query: Query,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let told = server
        .look_up(move || {
            let Some(found) = parts.alert_store.incident(id)? else {
                return Ok(None);
            };
            let mut told = incident(&found);
            let events = parts.alert_store.incident_events(id)?;
            told["events"] = events.iter().map(event).collect();
            let shown = &found.alerts[found.alerts.len().saturating_sub(ALERTS_MAX)..];
            let mut alerts = Vec::with_capacity(shown.len());
            for alert in shown {
                // One that was cleaned up is gone.
                alerts.extend(parts.alert_store.alert(*alert)?.as_ref().map(document::alert));
            }
            told["alerts"] = alerts.into();
            Ok(Some(told))
        })
        .await?;
    let told = told.ok_or_else(|| Problem::from(IncidentError::Unknown(id)))?;
    Ok(answer::json(&told, query.gzip))
}

/// The body of an act.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    note: Option<String>,
}

/// `POST /api/v1/incidents/{id}/own`: `{owner, by}`; whoever asks when `owner` is absent, nobody when it is empty.
pub async fn own(
    State(server): State<Server>,
    Segment(id): Segment,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    act(server, &id, &caller, request, &["owner"], |body, by| {
        let owner = body.owner.unwrap_or_else(|| by.to_owned());
        let owner = owner.trim();
        Act::Own((!owner.is_empty()).then(|| owner.to_owned()))
    })
    .await
}

/// `POST /api/v1/incidents/{id}/rename`: `{title, by}`
pub async fn rename(
    State(server): State<Server>,
    Segment(id): Segment,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    act(server, &id, &caller, request, &["title"], |body, _| {
        Act::Rename(body.title.unwrap_or_default())
    })
    .await
}

/// `POST /api/v1/incidents/{id}/note`: `{note, by}`
pub async fn note(
    State(server): State<Server>,
    Segment(id): Segment,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    act(server, &id, &caller, request, &["note"], |body, _| {
        Act::Note(body.note.unwrap_or_default())
    })
    .await
}

/// `POST /api/v1/incidents/{id}/resolve`: `{note, by}`; its alerts go on by themselves.
pub async fn resolve(
    State(server): State<Server>,
    Segment(id): Segment,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    act(server, &id, &caller, request, &["note"], |body, _| {
        let note = body.note.filter(|note| !note.trim().is_empty());
        Act::Resolve(note.unwrap_or_else(|| "by hand".to_owned()))
    })
    .await
}

/// `POST /api/v1/incidents/{id}/reopen`: `{by}`
pub async fn reopen(
    State(server): State<Server>,
    Segment(id): Segment,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    // Which of its alerts fire is known where it is reopened.
    act(server, &id, &caller, request, &[], |_, _| Act::Reopen {
        firing: Vec::new(),
    })
    .await
}

/// Reads the body, of which the act takes the fields `takes` besides `by`, and does it; the answer is the incident as it
/// stands then.
async fn act(
    server: Server,
    id: &str,
    caller: &Caller,
    request: Request,
    takes: &[&str],
    make: impl FnOnce(Body, &str) -> Act,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let id = parse_id(id)?;
    let body: Body = read_json(request, server.shared().config.body_bytes_max).await?;
    let given = [
        ("owner", body.owner.is_some()),
        ("title", body.title.is_some()),
        ("note", body.note.is_some()),
    ];
    if let Some((field, _)) = given
        .iter()
        .find(|(field, is_given)| *is_given && !takes.contains(field))
    {
        return Err(Problem::bad_parameter(field, "nothing that this act takes"));
    }
    let by = actor(&caller.identity()?.actor, body.by.as_deref())?;
    let act = make(body, &by);
    let kept = server
        .act(move || parts.alerts.act_on_incident(id, act, &by))
        .await?;
    Ok(answer::json(&incident(&kept), Gzip(false)))
}

fn parse_id(text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|error| Problem::bad_parameter("id", error))
}

/// Writes an incident without its timeline.
pub fn incident(incident: &Incident) -> Value {
    let hints = incident.hints.iter().map(|hint| {
        json!({
            "score": number(hint.score),
            "text": hint.text,
            "alert": hint.alert,
            "expr": hint.expr,
        })
    });
    json!({
        "id": incident.id,
        "title": incident.title,
        "state": incident.state,
        "level": incident.level,
        "priority": document::priority(incident.level),
        "opened_at": time(incident.opened_at),
        "resolved_at": time(incident.resolved_at),
        "updated_at": time(incident.updated_at),
        "owner": incident.owner,
        "labels": labels(&incident.labels),
        "alert_count": incident.alerts.len(),
        "hints": hints.collect::<Vec<_>>(),
    })
}

/// Writes one line of a timeline: who and when, and the kind with what belongs to it.
fn event(event: &IncidentEvent) -> Value {
    let mut document = json!(event.kind);
    document["id"] = json!(event.id);
    document["at"] = time(event.at);
    document["actor"] = json!(event.actor);
    document
}

impl From<IncidentError> for Problem {
    fn from(error: IncidentError) -> Self {
        match error {
            IncidentError::Unknown(id) => Problem::not_found(format!("no incident has the id {id}")),
            IncidentError::Text { .. } => Problem::bad_body(error.to_string()),
            IncidentError::Resolved(_) | IncidentError::Open(_) | IncidentError::TooMany => {
                Problem::conflict(error.to_string())
            }
        }
    }
}

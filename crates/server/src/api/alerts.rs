//! `/api/v1/alerts`: what is wrong and what was, one alert with its story, and taking it in hand.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use marketprism_alerts::ActError;
use marketprism_model::records::NotificationFilter;
use marketprism_model::{AlertFilter, Id};

use serde::Deserialize;

use super::document;
use crate::Server;
use crate::answer::{self, Gzip};
use crate::parts::Parts;
use crate::problem::Problem;
use crate::prometheus::params::{Params, parse_time};
use crate::request::{Query, Segment, read_json};

/// The page of a list when the client names no limit.
pub const LIMIT_DEFAULT: usize = 100;
/// The longest page of a list.
pub const LIMIT_MAX: usize = 1000;
/// The name of whoever acts is at most this long.
const ACTOR_BYTES_MAX: usize = 256;
/// One alert's page shows at most this many notifications, the newest ones.
pub const NOTIFICATIONS_MAX: usize = 100;

/// `GET /api/v1/alerts`
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let filter = filter(&query.params)?;
    let page = server.look_up(move || parts.alert_store.alerts(&filter)).await?;
    Ok(answer::json(&document::page(&page, document::alert), query.gzip))
}

/// `GET /api/v1/alerts/{id}`
pub async fn one(
    State(server): State<Server>,
    Segment(id): Segment,
    query: Query,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let story = server.look_up(move || Story::read(&parts, id)).await?;
    let story = story.ok_or_else(|| no_such_alert(id))?;
    let notifications = story.notifications.iter().map(|(notification, attempts)| {
        let mut told = document::notification(notification);
        told["attempts"] = attempts.iter().map(document::attempt).collect();
        told
    });
    let mut told = document::alert(&story.alert);
    told["notifications"] = notifications.collect();
    told["events"] = story.events.iter().map(document::event).collect();
    Ok(answer::json(&told, query.gzip))
}

/// The body of `acknowledge`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledge {
    by: String,
    #[serde(default)]
    note: String,
    #[serde(default)]
    until: Option<String>,
}

/// The body of `resolve`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolve {
    by: String,
    #[serde(default)]
    note: String,
}

/// `POST /api/v1/alerts/{id}/acknowledge`: `{by, note, until}`, the answer is the alert as it stands then.
pub async fn acknowledge(
    State(server): State<Server>,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let act: Acknowledge = read_json(request, server.shared().config.body_bytes_max).await?;
    let by = actor(act.by)?;
    let until = match act.until.as_deref() {
        None | Some("") => None,
        Some(text) => Some(parse_time(text).map_err(|reason| Problem::bad_parameter("until", reason))?),
    };
    let alert = server
        .act(move || parts.alerts.acknowledge(id, &by, &act.note, until))
        .await?;
    Ok(answer::json(&document::alert(&alert), Gzip(false)))
}

/// `POST /api/v1/alerts/{id}/resolve`: `{by, note}`, the answer is the alert as it stands then.
pub async fn resolve(
    State(server): State<Server>,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let act: Resolve = read_json(request, server.shared().config.body_bytes_max).await?;
    let by = actor(act.by)?;
    let alert = server
        .act(move || parts.alerts.resolve(id, &by, &act.note))
        .await?;
    Ok(answer::json(&document::alert(&alert), Gzip(false)))
}

/// Checks who acts.
fn actor(by: String) -> Result<String, Problem> {
    match by.trim() {
        "" => Err(Problem::bad_parameter("by", "must say who acts")),
        name if name.len() > ACTOR_BYTES_MAX => {
            let reason = format_args!("longer than {ACTOR_BYTES_MAX} bytes");
            Err(Problem::bad_parameter("by", reason))
        }
        name => Ok(name.to_owned()),
    }
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Self {
        match error {
            ActError::Unknown(id) => no_such_alert(id),
            ActError::Resolved(_) | ActError::Pending(_) | ActError::NotAcknowledged(_) => {
                Problem::conflict(error.to_string())
            }
            ActError::Past { .. } => Problem::bad_parameter("until", error),
            ActError::NoteTooLong { .. } => Problem::bad_parameter("note", error),
            ActError::Store(error) => error.into(),
        }
    }
}

/// Everything that is known of one alert.
pub struct Story {
    /// The alert.
    pub alert: marketprism_model::Alert,
    /// What happened, oldest first.
    pub events: Vec<marketprism_model::AlertEvent>,
    /// Who was told, newest first, with each attempt.
    pub notifications: Vec<(
        marketprism_model::Notification,
        Vec<marketprism_model::DeliveryAttempt>,
    )>,
}

impl Story {
    /// Reads the story; `None` when there is no such alert.
    pub fn read(parts: &Arc<Parts>, id: Id) -> Result<Option<Story>, marketprism_model::StoreError> {
        let Some(alert) = parts.alert_store.alert(id)? else {
            return Ok(None);
        };
        let filter = NotificationFilter {
            alert: Some(id),
            limit: NOTIFICATIONS_MAX,
            ..NotificationFilter::default()
        };
        let mut notifications = Vec::new();
        for notification in parts.outbox.notifications(&filter)?.items {
            let attempts = parts.outbox.attempts(notification.id)?;
            notifications.push((notification, attempts));
        }
        Ok(Some(Story {
            events: parts.alert_store.events(id)?,
            alert,
            notifications,
        }))
    }
}

/// Reads the filter of a list; unknown parameters are refused, so that a misspelt one is not "all".
fn filter(params: &Params) -> Result<AlertFilter, Problem> {
    known_only(
        params,
        &["state", "level", "label", "acknowledged", "limit", "cursor"],
    )?;
    let mut labels = Vec::new();
    for text in params.all("label") {
        let (name, value) = text
            .split_once(':')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Problem::bad_parameter("label", format_args!("{text:?} is not name:value")))?;
        labels.push((name.to_owned(), value.to_owned()));
    }
    let is_acknowledged = match params.get("acknowledged") {
        "" => None,
        "true" => Some(true),
        "false" => Some(false),
        text => {
            let reason = format_args!("{text:?} is neither true nor false");
            return Err(Problem::bad_parameter("acknowledged", reason));
        }
    };
    Ok(AlertFilter {
        states: words(params, "state")?,
        levels: words(params, "level")?,
        labels,
        is_acknowledged,
        limit: limit(params)?,
        cursor: cursor(params),
    })
}

/// Refuses parameters that are not among `known`.
pub(super) fn known_only(params: &Params, known: &[&str]) -> Result<(), Problem> {
    match params.names().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let reason = match known {
                [] => "unknown; no parameter is known here".to_owned(),
                _ => format!("unknown; known are {}", known.join(", ")),
            };
            Err(Problem::bad_parameter(&format!("{name:.64}"), reason))
        }
    }
}

/// Reads a parameter that may be repeated or hold several words with commas between.
pub(super) fn words<T: FromStr>(params: &Params, name: &str) -> Result<Vec<T>, Problem>
where
    T::Err: std::fmt::Display,
{
    params
        .all(name)
        .flat_map(|value| value.split(','))
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|error| Problem::bad_parameter(name, error)))
        .collect()
}

/// Reads the length of a page.
pub(super) fn limit(params: &Params) -> Result<usize, Problem> {
    match params.get("limit") {
        "" => Ok(LIMIT_DEFAULT),
        text => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| {
                Problem::bad_parameter(
                    "limit",
                    format_args!("{text:?} is not a number from 1 to {LIMIT_MAX}"),
                )
            }),
    }
}

/// Reads where the page begins.
pub(super) fn cursor(params: &Params) -> Option<String> {
    Some(params.get("cursor"))
        .filter(|cursor| !cursor.is_empty())
        .map(str::to_owned)
}

/// Reads the id of an alert from a path.
pub fn parse_id(text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|error| Problem::bad_parameter("id", error))
}

/// Says that no alert has this id.
pub fn no_such_alert(id: Id) -> Problem {
    Problem::not_found(format!("no alert has the id {id}"))
}

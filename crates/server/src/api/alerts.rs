//! `/api/v1/alerts`: what is wrong and what was, one alert with its story, and taking it in hand.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use marketprism_alerts::ActError;
use marketprism_model::records::NotificationFilter;
use marketprism_model::{AlertFilter, Id};

use serde::Deserialize;

use super::document;
use super::list::{cursor, known_only, limit, moment, one_word, word, words};
use crate::Server;
use crate::access::Caller;
use crate::answer::{self, Gzip};
use crate::parts::Parts;
use crate::problem::Problem;
use crate::prometheus::params::{Params, parse_time};
use crate::request::{Query, Segment, read_json};

/// The name of whoever acts is at most this long.
const ACTOR_BYTES_MAX: usize = 256;
/// So begins the name under which an API token acts.
const TOKEN_PREFIX: &str = "token:";
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
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    note: String,
    #[serde(default)]
    until: Option<String>,
}

/// The body of `resolve`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolve {
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    note: String,
}

/// `POST /api/v1/alerts/{id}/acknowledge`: `{note, until, by}`, the answer is the alert as it stands then.
pub async fn acknowledge(
    State(server): State<Server>,
    Segment(id): Segment,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let act: Acknowledge = read_json(request, server.shared().config.body_bytes_max).await?;
    let by = actor(&caller.identity()?.actor, act.by.as_deref())?;
    let until = match act.until.as_deref() {
        None | Some("") => None,
        Some(text) => Some(parse_time(text).map_err(|reason| Problem::bad_parameter("until", reason))?),
    };
    let alert = server
        .act(move || parts.alerts.acknowledge(id, &by, &act.note, until))
        .await?;
    Ok(answer::json(&document::alert(&alert), Gzip(false)))
}

/// `POST /api/v1/alerts/{id}/resolve`: `{note, by}`, the answer is the alert as it stands then.
pub async fn resolve(
    State(server): State<Server>,
    Segment(id): Segment,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let act: Resolve = read_json(request, server.shared().config.body_bytes_max).await?;
    let by = actor(&caller.identity()?.actor, act.by.as_deref())?;
    let alert = server
        .act(move || parts.alerts.resolve(id, &by, &act.note))
        .await?;
    Ok(answer::json(&document::alert(&alert), Gzip(false)))
}

/// Says under which name an act is kept.
///
/// Whoever has logged in acts under the own name and no other. A token may say for whom it acts, and stands beside that
/// name, so that it is never taken for the person. Where nobody is asked who they are, the body must say it.
fn actor(recognised: &str, by: Option<&str>) -> Result<String, Problem> {
    let by = by.map(str::trim).filter(|by| !by.is_empty());
    if by.is_some_and(|by| by.len() > ACTOR_BYTES_MAX) {
        let reason = format_args!("longer than {ACTOR_BYTES_MAX} bytes");
        return Err(Problem::bad_parameter("by", reason));
    }
    match (recognised, by) {
        ("", None) => Err(Problem::bad_parameter("by", "must say who acts")),
        ("", Some(by)) => Ok(by.to_owned()),
        (recognised, None) => Ok(recognised.to_owned()),
        (recognised, Some(by)) if by == recognised => Ok(by.to_owned()),
        (token, Some(by)) if token.starts_with(TOKEN_PREFIX) => Ok(format!("{by} ({token})")),
        (recognised, Some(_)) => {
            let reason = format_args!("must be left out or {recognised:?}, who asks");
            Err(Problem::bad_parameter("by", reason))
        }
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
        &[
            "state",
            "level",
            "label",
            "acknowledged",
            "category",
            "assigned_to",
            "incident",
            "since",
            "until",
            "limit",
            "cursor",
        ],
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
        categories: words(params, "category")?,
        assigned_to: word(params, "assigned_to"),
        incident: one_word(params, "incident")?,
        since: moment(params, "since")?,
        until: moment(params, "until")?,
        limit: limit(params)?,
        cursor: cursor(params),
    })
}

/// Reads the id of an alert from a path.
pub fn parse_id(text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|error| Problem::bad_parameter("id", error))
}

/// Says that no alert has this id.
pub fn no_such_alert(id: Id) -> Problem {
    Problem::not_found(format!("no alert has the id {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_acts_under_the_name_of_another() {
        let check = |recognised: &str, by: Option<&str>, expected: Result<&str, &str>| {
            let found = actor(recognised, by).map_err(|problem| problem.detail.into_owned());
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found, expected, "{recognised:?} {by:?}");
        };
        check("", Some(" chen "), Ok("chen"));
        check("", Some(" "), Err("by: must say who acts"));
        check("", None, Err("by: must say who acts"));
        check("chen", None, Ok("chen"));
        check("chen", Some(""), Ok("chen"));
        check("chen", Some("chen"), Ok("chen"));
        check(
            "chen",
            Some("bob"),
            Err("by: must be left out or \"chen\", who asks"),
        );
        check(
            "chen",
            Some("token:grafana"),
            Err("by: must be left out or \"chen\", who asks"),
        );
        check("token:grafana", None, Ok("token:grafana"));
        check("token:grafana", Some("chen"), Ok("chen (token:grafana)"));
        check(
            "token:grafana",
            Some(&"x".repeat(257)),
            Err("by: longer than 256 bytes"),
        );
    }
}

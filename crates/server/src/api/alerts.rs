//! `/api/v1/alerts`: what is wrong and what was, and one alert with its story.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use marketprism_alerts::Explanation;
use marketprism_model::records::NotificationFilter;
use marketprism_model::{Alert, AlertFilter, AlertState, Id, Timestamp};

use super::document;
use super::list::{cursor, known_only, limit, moment, one_word, word, words};
use crate::Server;
use crate::answer;
use crate::parts::Parts;
use crate::problem::Problem;
use crate::prometheus::params::Params;
use crate::request::{Query, Segment};

/// One alert's page shows at most this many notifications, the newest ones.
pub const NOTIFICATIONS_MAX: usize = 100;

/// `GET /api/v1/alerts`
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let filter = filter(&query.params)?;
    let now = server.shared().clock.now();
    let page = server.look_up(move || {
        let mut page = parts.alert_store.alerts(&filter)?;
        page.items
            .iter_mut()
            .for_each(|alert| look_anew(&parts, alert, now));
        Ok(page)
    });
    let page = page.await?;
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
    let now = server.shared().clock.now();
    let story = server.look_up(move || Story::read(&parts, id, now)).await?;
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

/// Brings up to date why an alert that fires is not told: silences and times change without its record.
fn look_anew(parts: &Parts, alert: &mut Alert, now: Timestamp) {
    if alert.state == AlertState::Firing {
        alert.suppressed_by = parts.alerts.suppressions(alert, now);
    }
}

/// Everything that is known of one alert.
pub struct Story {
    /// The alert.
    pub alert: Alert,
    /// What happened, oldest first.
    pub events: Vec<marketprism_model::AlertEvent>,
    /// What decides who hears of it now.
    pub why: Option<Explanation>,
    /// Who was told, newest first, with each attempt.
    pub notifications: Vec<(
        marketprism_model::Notification,
        Vec<marketprism_model::DeliveryAttempt>,
    )>,
}

impl Story {
    /// Reads the story; `None` when there is no such alert.
    pub fn read(
        parts: &Arc<Parts>,
        id: Id,
        now: Timestamp,
    ) -> Result<Option<Story>, marketprism_model::StoreError> {
        let Some(mut alert) = parts.alert_store.alert(id)? else {
            return Ok(None);
        };
        look_anew(parts, &mut alert, now);
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
            why: parts.alerts.explain(id, now)?,
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

//! `/api/v1/alerts`: what is wrong and what was, and one alert with its story.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use marketprism_alerts::Explanation;
use marketprism_model::notification::Purpose;
use marketprism_model::records::NotificationFilter;
use marketprism_model::{
    Alert, AlertFilter, AlertState, AttemptOutcome, DeliveryAttempt, Id, Notification, NotificationStatus,
    Timestamp,
};

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
pub fn look_anew(parts: &Parts, alert: &mut Alert, now: Timestamp) {
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
    pub notifications: Vec<(Notification, Vec<DeliveryAttempt>)>,
}

/// The newest message to a channel that says that an alert fires.
pub struct Message<'a> {
    /// The message.
    pub notification: &'a Notification,
    /// What was attempted.
    pub attempts: &'a [DeliveryAttempt],
}

impl Message<'_> {
    /// Gives when it arrived; `None` while it has not.
    pub fn told_at(&self) -> Option<Timestamp> {
        let receipt = self
            .attempts
            .iter()
            .find(|attempt| attempt.outcome == AttemptOutcome::Delivered);
        receipt.map(|attempt| attempt.finished_at.unwrap_or(attempt.started_at))
    }

    /// Says how far it has come: `queued`, `retrying`, `sending`, `delivered` or `failed`.
    pub const fn progress(&self) -> &'static str {
        match self.notification.status {
            NotificationStatus::Waiting if self.notification.attempts > 0 => "retrying",
            NotificationStatus::Waiting => "queued",
            NotificationStatus::Sending => "sending",
            NotificationStatus::Delivered => "delivered",
            NotificationStatus::Failed => "failed",
        }
    }
}

impl Story {
    /// Gives the newest message of a group to a channel that says that the alert fires, if it is among those that were
    /// read.
    pub fn message(&self, group: &str, channel: &str) -> Option<Message<'_>> {
        let id = self.alert.id;
        let says_so = |one: &Notification| {
            let mut alerts = one.content.alerts.iter();
            one.group_key == group
                && one.channel == channel
                && alerts.any(|alert| alert.id == id && alert.state == AlertState::Firing)
        };
        let found = self
            .notifications
            .iter()
            .find(|(notification, _)| says_so(notification));
        found.map(|(notification, attempts)| Message {
            notification,
            attempts,
        })
    }

    /// Gives when the newest digest of a storm that speaks of the alert arrived.
    pub fn digest_told_at(&self) -> Option<Timestamp> {
        let mut digests = self
            .notifications
            .iter()
            .filter(|(notification, _)| notification.content.purpose == Purpose::Storm);
        digests.find_map(|(notification, attempts)| {
            Message {
                notification,
                attempts,
            }
            .told_at()
        })
    }

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

//! `/api/v1/notifications`: what was said to whom, and what still waits.

use axum::extract::State;
use axum::response::Response;
use marketprism_model::NotificationStatus;
use marketprism_model::records::NotificationFilter;

use super::{document, list};
use crate::Server;
use crate::answer;
use crate::problem::Problem;
use crate::request::Query;

const STATUSES: [NotificationStatus; 4] = [
    NotificationStatus::Waiting,
    NotificationStatus::Sending,
    NotificationStatus::Delivered,
    NotificationStatus::Failed,
];

/// `GET /api/v1/notifications`: each with its attempts.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let params = &query.params;
    list::known_only(params, &["status", "alert", "limit", "cursor"])?;
    let alert = match params.get("alert") {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|error| Problem::bad_parameter("alert", error))?,
        ),
    };
    let filter = NotificationFilter {
        statuses: statuses(&list::words::<String>(params, "status")?)?,
        alert,
        limit: list::limit(params)?,
        cursor: list::cursor(params),
    };
    let (page, attempts) = server
        .look_up(move || {
            let page = parts.outbox.notifications(&filter)?;
            let attempts: Result<Vec<_>, _> = page
                .items
                .iter()
                .map(|item| parts.outbox.attempts(item.id))
                .collect();
            Ok((page, attempts?))
        })
        .await?;
    let mut told = document::page(&page, document::notification);
    for (at, attempts) in attempts.iter().enumerate() {
        told["items"][at]["attempts"] = attempts.iter().map(document::attempt).collect();
    }
    Ok(answer::json(&told, query.gzip))
}

fn statuses(words: &[String]) -> Result<Vec<NotificationStatus>, Problem> {
    let find = |word: &String| {
        STATUSES
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| {
                let reason = format_args!("unknown {word:?}; known are waiting, sending, delivered, failed");
                Problem::bad_parameter("status", reason)
            })
    };
    words.iter().map(find).collect()
}

//! `/api/v1/alerts/{id}/why`: why somebody is, or is not, told of an alert.

use axum::extract::State;
use axum::response::Response;
use marketprism_alerts::{Alerts, ChannelExplanation, Explanation, GroupExplanation};
use marketprism_model::Timestamp;
use serde_json::{Value, json};

use super::alerts::{Message, Story, no_such_alert, parse_id};
use super::document::{self, time};
use super::list::known_only;
use super::{routes, silences};
use crate::Server;
use crate::answer;
use crate::problem::Problem;
use crate::request::{Query, Segment};

/// `GET /api/v1/alerts/{id}/why`
pub async fn why(
    State(server): State<Server>,
    Segment(id): Segment,
    query: Query,
) -> Result<Response, Problem> {
    known_only(&query.params, &[])?;
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let now = server.shared().clock.now();
    let told = server.look_up(move || {
        let story = Story::read(&parts, id, now)?;
        let found = match story.as_ref().and_then(|story| story.why.clone()) {
            Some(found) => Some(found),
            None => parts.alerts.explain(id, now)?,
        };
        Ok(found.map(|found| explanation(&parts.alerts, &found, story.as_ref(), now)))
    });
    let told = told.await?.ok_or_else(|| no_such_alert(id))?;
    Ok(answer::json(&told, query.gzip))
}

/// Writes all that decides.
fn explanation(alerts: &Alerts, found: &Explanation, story: Option<&Story>, now: Timestamp) -> Value {
    let (alert, routing) = (&found.alert, alerts.routing());
    let inhibitor = found.inhibited_by.as_ref();
    json!({
        "id": alert.id,
        "name": alert.name(),
        "state": alert.state,
        "is_telling": found.is_telling,
        "settles_at": time(found.settles_at),
        "limit": found.limit,
        "acknowledged": document::alert(alert)["acknowledged"],
        "suppressed_by": document::suppressions(&found.suppressions),
        "silences": found.silences.iter().map(|one| silences::silence(alerts, one, now)).collect::<Vec<_>>(),
        "inhibited_by": inhibitor.map(|source| json!({ "id": source.id, "name": source.name() })),
        "held_until": time(found.held_until),
        "walk": routes::walk(routing.tree(), &found.walk),
        "groups": found.groups.iter().map(|one| group(one, story)).collect::<Vec<_>>(),
    })
}

fn group(group: &GroupExplanation, story: Option<&Story>) -> Value {
    let escalation = group.escalation.as_ref().map(|record| {
        json!({
            "since": time(record.since),
            "steps_taken": record.steps_taken,
            "rounds": record.rounds,
            "stepped_at": time(record.stepped_at),
        })
    });
    let channels = group.channels.iter().map(|one| {
        let message = story.and_then(|story| story.message(&group.key, &one.channel));
        channel(one, message.as_ref().filter(|_| one.told.is_some()))
    });
    json!({
        "key": group.key,
        "place": group.place,
        "receiver": group.receiver,
        "due_at": time(group.due_at),
        "is_waiting": group.is_waiting,
        "muted_by": group.muted_by,
        "muted_until": time(group.muted_until),
        "channels": channels.collect::<Vec<_>>(),
        "policy": group.policy,
        "escalation": escalation,
        "step_due_at": time(group.step_due_at),
    })
}

fn channel(channel: &ChannelExplanation, message: Option<&Message<'_>>) -> Value {
    let told = message.map(|message| {
        json!({
            "id": message.notification.id,
            "created_at": time(message.notification.created_at),
            "progress": message.progress(),
            "attempts": message.notification.attempts,
        })
    });
    json!({
        "channel": channel.channel,
        "sends_resolved": channel.sends_resolved,
        "is_own": channel.is_own,
        "told_level": channel.told,
        "told_at": time(message.and_then(Message::told_at)),
        "message": told,
        "group_last_told_at": time(channel.told_at),
    })
}

//! `/api/v1/alerts/{id}/why`: why somebody is, or is not, told of an alert.

use axum::extract::State;
use axum::response::Response;
use marketprism_alerts::{ChannelExplanation, Explanation, GroupExplanation, Routing};
use marketprism_model::Timestamp;
use serde_json::{Value, json};

use super::alerts::{no_such_alert, parse_id};
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
        let routing = parts.alerts.routing();
        let found = parts.alerts.explain(id, now)?;
        Ok(found.map(|found| explanation(&routing, &found, now)))
    });
    let told = told.await?.ok_or_else(|| no_such_alert(id))?;
    Ok(answer::json(&told, query.gzip))
}

/// Writes all that decides.
fn explanation(routing: &Routing, found: &Explanation, now: Timestamp) -> Value {
    let alert = &found.alert;
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
        "silences": found.silences.iter().map(|one| silences::silence(one, now)).collect::<Vec<_>>(),
        "inhibited_by": inhibitor.map(|source| json!({ "id": source.id, "name": source.name() })),
        "held_until": time(found.held_until),
        "walk": routes::walk(routing.tree(), &found.walk),
        "groups": found.groups.iter().map(group).collect::<Vec<_>>(),
    })
}

fn group(group: &GroupExplanation) -> Value {
    let escalation = group.escalation.as_ref().map(|record| {
        json!({
            "since": time(record.since),
            "steps_taken": record.steps_taken,
            "rounds": record.rounds,
            "stepped_at": time(record.stepped_at),
        })
    });
    json!({
        "key": group.key,
        "place": group.place,
        "receiver": group.receiver,
        "due_at": time(group.due_at),
        "is_waiting": group.is_waiting,
        "muted_by": group.muted_by,
        "muted_until": time(group.muted_until),
        "channels": group.channels.iter().map(channel).collect::<Vec<_>>(),
        "policy": group.policy,
        "escalation": escalation,
        "step_due_at": time(group.step_due_at),
    })
}

fn channel(channel: &ChannelExplanation) -> Value {
    json!({
        "channel": channel.channel,
        "sends_resolved": channel.sends_resolved,
        "is_own": channel.is_own,
        "told_level": channel.told,
        "told_at": time(channel.told_at),
    })
}
